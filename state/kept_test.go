package state

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// poolRecord is a record of the other kind, as package balance has one.
type poolRecord struct {
	Head
	Host string `json:"host"` // a key that clusters have too
}

func (p *poolRecord) Begin(name string) {
	*p = poolRecord{Head: Head{Version: Version, Kind: OfPool, Name: name}}
}
func (p *poolRecord) Sound() error { return nil }
func (p *poolRecord) Edition() any { return p.Event }
func (p *poolRecord) Quiet() bool  { return true }
func (p *poolRecord) Copy() Kept {
	c := *p
	return &c
}
func (p *poolRecord) Become(k Kept) { *p = *k.(*poolRecord) }

func TestRecordOfTheOtherKindIsLeftAlone(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	pool := new(poolRecord)
	pool.Begin("www")
	pool.Host = "10.2.2.10"
	cluster := new(Record)
	cluster.Begin("web")
	cluster.Host = "172.16.0.2"
	for _, rec := range []Kept{pool, cluster} {
		if err := d.Save(rec, true); err != nil {
			t.Fatal(err)
		}
	}
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(string(d), name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := text("www") + text("web")
	_, err := d.Load("www", true)
	want := filepath.Join(string(d), "www.json") + " is the record of a pool, not of a cluster: clusters and pools share one name space"
	if err == nil || err.Error() != want || !errors.As(err, new(*KindError)) {
		t.Errorf("a pool's record, read as a cluster's: %v\nwant %s", err, want)
	}
	_, err = LoadKept[poolRecord](d, "web", true)
	want = filepath.Join(string(d), "web.json") + " is the record of a cluster, not of a pool: clusters and pools share one name space"
	if err == nil || err.Error() != want {
		t.Errorf("a cluster's record, read as a pool's: %v\nwant %s", err, want)
	}
	if got := text("www") + text("web"); got != before {
		t.Errorf("a record was changed:\n%s\nwant\n%s", got, before)
	}
	all, err := d.Recorded()
	if want := []Recorded{{"web", OfCluster}, {"www", OfPool}}; err != nil || !slices.Equal(all, want) {
		t.Errorf("recorded: %v, %v; want %v", all, err, want)
	}
	if got, err := d.Clusters(); err != nil || !slices.Equal(got, []string{"web"}) {
		t.Errorf("clusters: %q, %v", got, err)
	}
	if got, err := LoadKept[poolRecord](d, "www", true); err != nil || got.Host != "10.2.2.10" || got.Kind != OfPool {
		t.Errorf("the pool's record: %+v, %v", got, err)
	}
}

func TestCorruptRecordOfAPoolIsKeptAside(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := filepath.Join(string(d), "www.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"kind":"pool","cluster":"www","gap_ms":-1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := LoadKept[poolRecord](d, "www", true)
	want := path + " is corrupt (a count is below zero), ignored; kept as " + path + ".bad"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	if got == nil || got.Kind != OfPool || got.Name != "www" {
		t.Errorf("the new record is %+v", got)
	}
}
