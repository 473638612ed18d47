package state

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// threeKinds is a history with one entry of each kind.
func threeKinds() Head {
	h := Head{Version: 1, Name: "web"}
	at := time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)
	killed := -1
	h.Add(Entry{Change: Change{Event: "E", Time: at, Outcome: TookOver, Reason: "172.16.0.2 is down"}})
	h.Add(Entry{Kind: HookEntry, Change: Change{Event: "E", Time: at, Reason: "took longer than 30s"}, What: PostTakeover, Code: &killed, Duration: 30000})
	h.Add(Entry{Kind: AlertEntry, Change: Change{Time: at, Outcome: Blocked, Reason: "no witness replies"}, What: "blocked"})
	h.Add(Entry{Kind: AlertEntry, Change: Change{Time: at, Outcome: OK}, What: "blocked", Resolved: true})
	return h
}

const threeKindsLines = `{"id":"20260301T030405Z.took-over.E","kind":"change","event":"E","time":"2026-03-01T03:04:05Z","outcome":"took-over","by_hand":false,"reason":"172.16.0.2 is down","evidence":{"address":"","rounds":[],"witnesses":[],"holders":[],"commands":[]}}
{"id":"20260301T030405Z.post-takeover.E","kind":"hook","event":"E","time":"2026-03-01T03:04:05Z","outcome":"","by_hand":false,"reason":"took longer than 30s","evidence":{"address":"","rounds":[],"witnesses":[],"holders":[],"commands":[]},"what":"post-takeover","code":-1,"duration_ms":30000}
{"id":"20260301T030405Z.blocked.","kind":"alert","event":"","time":"2026-03-01T03:04:05Z","outcome":"blocked","by_hand":false,"reason":"no witness replies","evidence":{"address":"","rounds":[],"witnesses":[],"holders":[],"commands":[]},"what":"blocked"}
{"id":"20260301T030405Z.blocked..resolved","kind":"alert","event":"","time":"2026-03-01T03:04:05Z","outcome":"ok","by_hand":false,"reason":"","evidence":{"address":"","rounds":[],"witnesses":[],"holders":[],"commands":[]},"what":"blocked","resolved":true}
`

// TestHistoryIsMovedOnce: a run that is killed between the two writes is
// followed by one that finds the entries in both places.
func TestHistoryIsMovedOnce(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := d.path("web", ".history")
	for range 2 {
		h := threeKinds()
		before, err := d.History("web", h.Recent)
		ok(t, err)
		for range 2 {
			ok(t, d.MoveHistory(&h))
			wantText(t, path, threeKindsLines)
			if len(h.Recent) != 1 || !h.Recent[0].Moved || h.LastChange().Outcome != TookOver {
				t.Errorf("the record keeps %+v, want the takeover, as moved", h.Recent)
			}
			after, err := d.History("web", h.Recent)
			ok(t, err)
			if len(after) != 4 {
				t.Errorf("%d entries, want 4", len(after))
			}
			if diff := same(before, after); diff != "" {
				t.Errorf("the history before and after it was moved (-want +got):\n%s", diff)
			}
		}
	}
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("mode %s, want 0644", info.Mode())
	}
}

// TestHistoryOfTheFirstEditionIsCarriedOver: there all changes were in the
// record, and had no id.
func TestHistoryOfTheFirstEditionIsCarriedOver(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	first, err := os.ReadFile("testdata/first-edition.json")
	ok(t, err)
	one := string(first[strings.Index(string(first), `"changes": [`)+len(`"changes": [`) : strings.Index(string(first), `"counts"`)])
	one = strings.TrimSpace(one[:strings.LastIndex(one, "]")])
	two := strings.ReplaceAll(one, `"20260301T030405Z-ABCDEFGH"`, `""`)
	two = strings.Replace(two, "2026-03-01T03:04:05Z", "2026-03-01T05:04:05+02:00", 1)
	write(t, d.path("web", ".json"), strings.Replace(string(first), one, one+","+two, 1))
	for range 2 { // the first run was killed before it saved the record
		rec, err := d.Load("web", true)
		ok(t, err)
		ok(t, d.MoveHistory(&rec.Head))
		if len(rec.Recent) != 1 {
			t.Errorf("the record keeps %d entries, want 1", len(rec.Recent))
		}
		got, err := d.History("web", rec.Recent)
		ok(t, err)
		var ids []string
		for _, e := range got {
			ids = append(ids, fmt.Sprintf("%s %s %s, %d commands", e.Kind, e.ID, e.Outcome, len(e.Evidence.Commands)))
		}
		want := []string{
			"change 20260301T030405Z.takeover-failed.20260301T030405Z-ABCDEFGH takeover-failed, 1 commands",
			"change 20260301T030405Z.takeover-failed. takeover-failed, 1 commands",
		}
		if diff := same(want, ids); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	}
}

func TestOldHistoryGoes(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	h := &Head{Name: "web"}
	for i := range 1001 {
		h.Add(Entry{Change: Change{Event: fmt.Sprint(i), Outcome: TookOver}})
		if i%10 == 0 {
			ok(t, d.MoveHistory(h))
		}
	}
	got, err := d.History("web", h.Recent)
	ok(t, err)
	if len(got) != 501 || got[0].Event != "500" || got[500].Event != "1000" {
		t.Errorf("%d entries from %s to %s, want 501 from 500 to 1000", len(got), got[0].Event, got[len(got)-1].Event)
	}
}

func TestHistoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := d.path("web", ".history")
	text := threeKindsLines + `{"id":"1","time":"2026-03-01T03:04:05Z","outcome":"mastered"}` + "\n{\n" + `{"id":"2","kind":"change","time":"9999-12-31T23:59:59-01:00"}` + "\n"
	write(t, path, text)
	h := threeKinds()
	got, err := d.History("web", h.Recent)
	const why = `line 5: outcome "mastered"; ignored` + "\nline 6: unexpected end of JSON input; ignored\n" +
		"line 7: time 9999-12-31 23:59:59 -0100 -0100 is out of range; ignored"
	wantError(t, err, path+": "+why)
	if len(got) != 4 {
		t.Errorf("%d entries, want 4", len(got))
	}
	wantCorrupt(t, d.MoveHistory(&h), path, path+".bad", why)
	wantText(t, path+".bad", text)
	wantText(t, path, threeKindsLines)
	if len(h.Recent) != 1 {
		t.Errorf("the record keeps %d entries, want 1", len(h.Recent))
	}
}

// TestHistoryThatCannotBeWrittenStaysInTheRecord, as on a full disk.
func TestHistoryThatCannotBeWrittenStaysInTheRecord(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	ok(t, os.Mkdir(d.path("web", ".history.tmp"), 0o755))
	h := threeKinds()
	wantError(t, d.MoveHistory(&h), "open "+d.path("web", ".history.tmp")+": file exists")
	if len(h.Recent) != 4 {
		t.Errorf("the record keeps %d entries, want all 4", len(h.Recent))
	}
}

// FuzzHistory: what is read of NAME.history is written and read again as it
// was.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(threeKindsLines))
	f.Add([]byte(threeKindsLines[:700] + "\n\n[]\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, _ := ParseHistory(data)
		text, err := inLines(want)
		ok(t, err)
		got, err := ParseHistory(text)
		ok(t, err)
		if diff := same(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
