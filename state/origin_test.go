package state

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestAPrimaryThatGetsAnotherAddress(t *testing.T) {
	first, second := netip.MustParseAddr("172.16.0.2"), netip.MustParseAddr("172.16.0.7")
	r := Record{Head: Head{Name: "web", Streaks: Streaks{Up: 5}}, Role: Active, BackReported: true}
	set := func(host string, at time.Time) (before string) {
		t.Helper()
		before, err := r.SetHost(host, at)
		if err != nil {
			t.Fatal(err)
		}
		return before
	}
	if before := set("172.16.0.2", noon); before != "" || r.Streaks.Up != 5 {
		t.Errorf("the first host is a change from %q, streaks %+v", before, r.Streaks)
	}
	r.Address, r.Neighbour = first, "02:00:00:00:00:02"
	if before := set("172.16.0.7", noon); before != "172.16.0.2" || r.Streaks != (Streaks{}) || r.Address.IsValid() || r.Neighbour != "" || r.BackReported || r.Role != Active {
		t.Errorf("after a change from %q: %+v", before, r)
	}
	r.Address, r.Neighbour = second, "02:00:00:00:00:07"

	_, err := r.SetHost("172.16.0.2", noon.Add(59*time.Minute))
	if twice, ok := errors.AsType[*TwoDefinitionsError](err); !ok || r.Host != "172.16.0.7" ||
		twice.Error() != `two definitions share the name web: its host was changed from "172.16.0.2" to "172.16.0.7" at 2026-03-01T12:00:00Z, and is "172.16.0.2" again` {
		t.Errorf("changed back within an hour: %v, host %s", err, r.Host)
	}
	if set("172.16.0.2", noon.Add(time.Hour)); r.Address != first || r.Neighbour != "02:00:00:00:00:02" {
		t.Errorf("what was learned is forgotten: %+v", r)
	}
	for i, host := range []string{"a", "b", "c", "d", "e", "f"} {
		set(host, noon.Add(time.Duration(i+2)*time.Hour))
	}
	if len(r.Earlier) != mostPrimaries || r.Earlier[3].Host != "e" {
		t.Errorf("earlier: %+v", r.Earlier)
	}
}

// What the old primary has shown says nothing of the new one: a takeover from it
// says that it was never seen up, and what a takeover needs is tried again.
func TestANewPrimaryWasNeverSeenUp(t *testing.T) {
	hour := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	r := Record{Head: Head{Name: "web"}, Role: Standby}
	seen := func(host string, at time.Time, primary check.Verdict) {
		t.Helper()
		if _, err := r.SetHost(host, at); err != nil {
			t.Fatal(err)
		}
		r.Count(Check{Time: at, Outcome: OK, Primary: primary.String()}, Signs{Primary: primary, Rehearsed: primary == check.Up})
	}
	seen("172.16.0.2", noon, check.Up)
	if _, err := r.SetHost("172.16.0.7", hour(1)); err != nil || !r.NeverUp() || !r.Rehearsed.IsZero() {
		t.Errorf("a new host: %v, never up %t, rehearsed %s", err, r.NeverUp(), r.Rehearsed)
	}
	seen("172.16.0.7", hour(1), check.Down)
	if !r.NeverUp() {
		t.Error("a new host that is down was seen up")
	}
	if _, err := r.SetHost("172.16.0.2", hour(2)); err != nil || r.NeverUp() || !r.SeenUp.Equal(noon) {
		t.Errorf("what was learned of the old host is forgotten: %v, never up %t, seen up %s", err, r.NeverUp(), r.SeenUp)
	}
	seen("172.16.0.7", hour(3), check.Up)
	if r.NeverUp() {
		t.Error("a new host that replies was never seen up")
	}
	if r.SeenUp = (time.Time{}); r.NeverUp() { // as in a record of the first edition
		t.Error("the last check does not count")
	}
}

func TestAClusterWithAnotherNameTakesOverWhatIsKept(t *testing.T) {
	vip := netip.MustParsePrefix("172.16.0.1/32")
	took := Entry{Kind: ChangeEntry, Change: Change{Event: "e1", Time: noon, Outcome: TookOver, Reason: "down"}}
	took.identify()
	mail := Message{MessageID: "<1@standby>", To: []string{"root"}, Time: noon}
	old := Record{
		Head: Head{
			Version: Version, Name: "web", Event: "e1", Last: &Check{Time: noon, Outcome: TookOver}, Outbox: []Message{mail},
			Recent: []Entry{took}, Counts: map[Outcome]int{TookOver: 1}, Thread: "<1@standby>",
		},
		Origin: "/etc/pingover.yaml", Host: "172.16.0.2", Neighbour: "02:00:00:00:00:02", Role: Active, Since: noon,
		VIPs: []Alias{{Prefix: vip, Interface: "eth0", Label: "eth0:1", Raised: true}},
	}
	for _, test := range []struct {
		name  string
		fresh Record
	}{
		{"that was never checked", Record{Head: Head{Version: Version, Name: "www"}, Role: Standby}},
		{"that has a record", Record{
			Head: Head{Version: Version, Name: "www", Last: &Check{Time: noon, Outcome: OK}},
			Host: "172.16.0.2", Role: Standby, VIPs: []Alias{{Prefix: vip}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := Dir(filepath.Join(t.TempDir(), "state"))
			if err := errors.Join(d.Save(&old, true), d.SaveSettings("web", map[string][]string{"host": {"h"}}), d.Pause("web", noon.Add(time.Hour))); err != nil {
				t.Fatal(err)
			}
			for range 2 { // as after a run that was killed before it removed the old one
				r := test.fresh
				if err := d.Inherit(&r, "web"); err != nil {
					t.Fatal(err)
				}
				if err := d.Save(&old, true); err != nil {
					t.Fatal(err)
				}
				if r.Name != "www" || r.Role != Active || r.Neighbour != old.Neighbour || r.VIPs[0] != old.VIPs[0] || r.Counts[TookOver] != 1 || !r.Since.Equal(noon) {
					t.Errorf("%+v", r)
				}
				if diff := cmp.Diff([]Message{mail}, r.Outbox); diff != "" {
					t.Errorf("outbox (-want +got)\n%s", diff)
				}
				history, err := d.History("www", r.Recent)
				if err != nil || len(history) != 1 || history[0].Event != "e1" {
					t.Errorf("history %+v, %v", history, err)
				}
				if last := r.LastChange(); last == nil || last.Event != "e1" {
					t.Errorf("last change %+v", last)
				}
			}
			if until, err := d.PausedUntil("www"); !until.Equal(noon.Add(time.Hour)) || err != nil {
				t.Errorf("paused until %s, %v", until, err)
			}
			if err := d.Forget("web"); err != nil {
				t.Fatal(err)
			}
			if names, _ := d.Clusters(); len(names) != 1 || names[0] != "www" {
				t.Errorf("clusters %v", names)
			}
			if _, err := d.Settings("web"); !errors.Is(err, ErrNoSettings) {
				t.Errorf("settings of the old name: %v", err)
			}
		})
	}
}
