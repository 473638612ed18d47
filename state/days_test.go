package state

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestOverdue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		age, gap time.Duration
		want     bool
	}{
		{3 * time.Minute, time.Minute, false},
		{3*time.Minute + time.Second, time.Minute, true},
		{30 * time.Minute, 10 * time.Minute, false},
		{30*time.Minute + time.Second, 10 * time.Minute, true},
		{-time.Minute, time.Minute, false},
		{-time.Minute - time.Second, 10 * time.Minute, true},
	} {
		if got := Overdue(test.age, test.gap); got != test.want {
			t.Errorf("%s old, %s apart: %t, want %t", test.age, test.gap, got, test.want)
		}
	}
}

// TestDaysCountChecks: midnight is in UTC, and an overdue check is a gap of its
// own day.
func TestDaysCountChecks(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("standby's", 2*60*60)
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, zone) }
	h := &Head{Version: 1, Name: "web"}
	for _, check := range []struct {
		at      time.Time
		primary string
		rtt     float64
	}{
		{at(1, 12, 0), "up", 0.5},
		{at(1, 12, 1), "up", 0.25},
		{at(1, 12, 2), "up", 1.5},
		{at(1, 12, 3), "down", 0},
		{at(1, 12, 4), "unknown", 0},
		{at(2, 1, 59), "up", 0.25}, // still the first day in UTC, after a gap
		{at(2, 2, 0), "down", 0},
	} {
		c := Check{Time: check.at, Primary: check.primary}
		if check.rtt > 0 {
			c.RTT = &check.rtt
		}
		h.countDay(c)
		if h.Last != nil {
			h.Gap = Milliseconds(c.Time.Sub(h.Last.Time).Milliseconds())
		}
		h.Last = &c
	}
	want := []Day{
		{Date: "2026-03-01", First: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), Checks: 6, Up: 4, Unknown: 1, Down: 1, Gaps: 1, RTT: RTT{Replies: 4, Min: 0.25, Mean: 0.625, Max: 1.5}},
		{Date: "2026-03-02", First: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Checks: 1, Down: 1},
	}
	if diff := same(want, h.Days); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}

	// What is over moves to the file, once, and today stays in the record.
	d := Dir(t.TempDir())
	path := d.path("web", ".days")
	const line = `{"day":"2026-03-01","first":"2026-03-01T10:00:00Z","checks":6,"up":4,"unknown":1,"down":1,"gaps":1,"rtt_ms":{"replies":4,"min":0.25,"mean":0.625,"max":1.5}}` + "\n"
	for range 2 {
		h := &Head{Version: 1, Name: "web", Days: want} // as a killed run left it
		ok(t, d.MoveDays(h))
		wantText(t, path, line)
		if diff := same(want[1:], h.Days); diff != "" {
			t.Errorf("days in the record (-want +got):\n%s", diff)
		}
		ok(t, d.MoveDays(h))
		wantText(t, path, line)
	}
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("mode %s, want 0644", info.Mode())
	}
	got, err := d.Days("web", want[1:])
	ok(t, err)
	if diff := same(want, got); diff != "" {
		t.Errorf("days as read (-want +got):\n%s", diff)
	}
}

// TestOldDaysGo: 400 days are kept, in order; of a day that was counted twice,
// for the clock was set back, the longer count stays.
func TestOldDaysGo(t *testing.T) {
	t.Parallel()
	date := func(i int) string { return time.Date(2025, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) }
	var file []Day
	for i := range 400 {
		file = append(file, Day{Date: date(i), Checks: 10})
	}
	got := MergeDays(file, []Day{{Date: date(399), Checks: 9}, {Date: date(398), Checks: 11}, {Date: date(400), Checks: 1}})
	if len(got) != 400 || got[0].Date != date(1) {
		t.Fatalf("%d days from %s, want 400 from %s", len(got), got[0].Date, date(1))
	}
	want := []Day{{Date: date(398), Checks: 11}, {Date: date(399), Checks: 10}, {Date: date(400), Checks: 1}}
	if diff := same(want, got[397:]); diff != "" {
		t.Errorf("the last days (-want +got):\n%s", diff)
	}
}

func TestDaysThatCannotBeRead(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := d.path("web", ".days")
	text := `{"day":"2026-03-01","checks":6}` + "\nnonsense\n" + `{"day":"yesterday"}` + "\n" + `{"day":"2026-03-02","checks":-1}` + "\n" + `{"day":"2026-03-03","checks":2}`
	write(t, path, text)
	want := []Day{{Date: "2026-03-01", Checks: 6}, {Date: "2026-03-03", Checks: 2}}
	got, err := d.Days("web", nil)
	const why = "line 2: invalid character 'o' in literal null (expecting 'u'); ignored\n" +
		`line 3: day "yesterday", must be like 2026-03-01; ignored` + "\nline 4: a count is below zero; ignored"
	wantError(t, err, path+": "+why)
	if diff := same(want, got); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}

	h := &Head{Name: "web", Days: []Day{{Date: "2026-03-04", Checks: 1}, {Date: "2026-03-05"}}}
	wantCorrupt(t, d.MoveDays(h), path, path+".bad", why)
	wantText(t, path+".bad", text)
	got, err = d.Days("web", h.Days)
	ok(t, err)
	if diff := same(append(want, Day{Date: "2026-03-04", Checks: 1}, Day{Date: "2026-03-05"}), got); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}

	write(t, path, strings.Repeat(" ", maxDaysFile+1))
	if _, err := d.Days("web", nil); err == nil || err.Error() != path+": it is too large" {
		t.Errorf("a file that is too large: error %v", err)
	}
}

// FuzzDays: what is read of NAME.days is written and read again as it was.
func FuzzDays(f *testing.F) {
	f.Add([]byte(`{"day":"2026-03-01","checks":6,"rtt_ms":{"replies":1,"min":0.1,"mean":0.1,"max":0.1}}` + "\n{}\n[]\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		want, _ := ParseDays(data)
		text, err := inLines(want)
		ok(t, err)
		got, err := ParseDays(text)
		ok(t, err)
		if diff := same(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
