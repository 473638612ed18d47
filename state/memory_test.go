package state

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestMemoryOfAProcessThatGoesOn: a record in which nothing changed waits, and the
// next run of the process has it all the same; one in which something was open does
// not wait; what another process writes counts; and the end writes what waits.
func TestMemoryOfAProcessThatGoesOn(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	m := &Memory{Every: time.Minute}
	load := func() *Record {
		t.Helper()
		rec, err := LoadKnown[Record](m, d, "web", true)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	onDisk := func() string {
		t.Helper()
		rec, err := d.Load("web", false)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Neighbour
	}
	save := func(rec *Record, neighbour string, durable bool) {
		t.Helper()
		rec.Neighbour = neighbour
		if err := m.Save(context.Background(), d, rec, durable); err != nil {
			t.Fatal(err)
		}
		if got := load().Neighbour; got != neighbour {
			t.Errorf("the next run has %q, want %q", got, neighbour)
		}
	}
	want := func(what, neighbour string) {
		t.Helper()
		if got := onDisk(); got != neighbour {
			t.Errorf("%s: %q is on disk, want %q", what, got, neighbour)
		}
	}
	rec := load()
	rec.Host, rec.Role = "172.16.0.2", Standby
	save(rec, "first", false)
	want("the first is written", "first")
	edition := m.OnDisk(d, load())
	save(load(), "second", false)
	want("the second waits", "first")
	if m.OnDisk(d, load()) != edition {
		t.Error("the record on disk is another one, and nothing was written")
	}
	save(load(), "third", true)
	want("what is durable is written", "third")

	open := load()
	open.Role = Taking
	save(open, "open", true)
	closed := load()
	closed.Role = Standby
	save(closed, "closed", false)
	want("what was open is crossed off", "closed")

	save(load(), "waits", false)
	m.Write(new(Locks).Lock)
	want("the end writes what waits", "waits")

	save(load(), "lost", false)
	other, err := d.Load("web", false)
	if err != nil {
		t.Fatal(err)
	}
	other.Neighbour = "other"
	if err := d.Save(other, false); err != nil {
		t.Fatal(err)
	}
	if got := load().Neighbour; got != "other" {
		t.Errorf("another process wrote %q, and the next run has %q", "other", got)
	}
	m.Write(new(Locks).Lock)
	want("what another process wrote stays", "other")

	save(load(), "back", false)
	want("after that it is written again", "back")
	if err := os.Remove(d.path("web", ".json")); err != nil {
		t.Fatal(err)
	}
	if got := load().Neighbour; got != "" {
		t.Errorf("the record was deleted, and the next run has %q", got)
	}
}
