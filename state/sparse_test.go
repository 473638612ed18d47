package state

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTheRecordIsWrittenAndReadAsJSON: of any record, full or empty, marshal makes
// what encoding/json makes, and unmarshal reads the same.
func TestTheRecordIsWrittenAndReadAsJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		rec := new(Record)
		if i > 0 { // the first is the zero record
			populate(random, reflect.ValueOf(rec).Elem(), i%5)
		}
		want, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		got, err := marshal(rec)
		if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
			t.Fatalf("written: %v (-encoding/json +marshal):\n%s", err, diff)
		}
		var byJSON, byField Record
		if err := json.Unmarshal(want, &byJSON); err != nil {
			t.Fatal(err)
		}
		err = unmarshal(want, &byField)
		if diff := cmp.Diff(byJSON, byField, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
			t.Fatalf("read: %v (-encoding/json +unmarshal):\n%s", err, diff)
		}
	}
}

// populate gives about 4 of 5 values something, at seldom 0 all of them.
func populate(random *rand.Rand, v reflect.Value, seldom int) {
	if seldom > 0 && random.IntN(5) < seldom {
		return
	}
	switch to := v.Addr().Interface().(type) {
	case *time.Time:
		*to = time.Unix(random.Int64N(1<<31), 0).UTC()
		return
	case *netip.Addr:
		*to = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))})
		return
	case *netip.Prefix:
		*to = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))}), random.IntN(33))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			populate(random, v.Field(i), seldom)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		populate(random, v.Elem(), seldom)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(3), 3)) // of no length, too
		for i := range v.Len() {
			populate(random, v.Index(i), seldom)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range random.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			populate(random, key, 0)
			populate(random, value, seldom)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(strings.Repeat("<ü\"", 1+random.IntN(3)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(random.Float64())
	default:
		v.SetInt(1 + random.Int64N(100))
	}
}
