package state

import (
	"fmt"
	"reflect"
	"time"
)

// encode is the record as it is written: all times in UTC and whole seconds, no
// list of the evidence nil, and never larger than can be read back. It changes
// the record to what is written.
func encode(rec Kept) ([]byte, error) {
	r := rec.Common()
	eachTime(reflect.ValueOf(rec).Elem(), func(t *time.Time) {
		if !t.IsZero() {
			*t = t.UTC().Truncate(time.Second)
		}
	})
	for i := range r.Recent {
		r.Recent[i].Evidence = r.Recent[i].Evidence.whole()
	}
	if r.Pending != nil {
		r.Pending.Evidence = r.Pending.Evidence.whole()
	}
	data, err := marshal(rec)
	// Evidence is cut first, the oldest before the newest: what the next check
	// needs is small.
	for i := 0; err == nil && len(data) >= maxRecord && i < len(r.Recent); i++ {
		r.Recent[i].Evidence = Evidence{}.whole()
		data, err = marshal(rec)
	}
	if err == nil && len(data) >= maxRecord && r.Pending != nil {
		r.Pending.Evidence = Evidence{}.whole()
		data, err = marshal(rec)
	}
	if err == nil && len(data) >= maxRecord {
		err = fmt.Errorf("the record has %d MiB, more than could be read back", len(data)>>20)
	}
	return append(data, '\n'), err
}

// eachTime visits every time in v.
func eachTime(v reflect.Value, visit func(*time.Time)) {
	if v.CanAddr() {
		if t, ok := v.Addr().Interface().(*time.Time); ok {
			visit(t)
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			eachTime(v.Elem(), visit)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				eachTime(v.Index(i), visit)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				eachTime(v.Field(i), visit)
			}
		}
	}
}
