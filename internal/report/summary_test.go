package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pingover/state"
)

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t
}

// days are days with a check a minute, all of them up.
func days(first string, n int) (all []state.Day) {
	for i := range n {
		date := at(first+" 00:00:00").AddDate(0, 0, i).Format(time.DateOnly)
		all = append(all, state.Day{Date: date, Checks: 1440, Up: 1440, RTT: state.RTT{Replies: 1440, Min: 0.2, Mean: 0.4, Max: 2}})
	}
	return all
}

func change(o state.Outcome, time, began, reason string) state.Entry {
	e := state.Entry{Kind: state.ChangeEntry, Change: state.Change{Time: at(time), Outcome: o, Reason: reason}}
	if began != "" {
		e.Began = at(began)
	}
	return e
}

func alert(kind state.Outcome, rule int, time, reason string, resolved bool) state.Entry {
	return state.Entry{Kind: state.AlertEntry, What: string(kind), Rule: rule, Resolved: resolved, Change: state.Change{Time: at(time), Reason: reason}}
}

// story is 40 days with a failover, an outage without one, and what is no outage.
func story() Source {
	s := Source{Name: "web", Primary: "192.0.2.11", Days: days("2026-10-20", 40)}
	s.Days[38].Up, s.Days[38].Down, s.Days[38].Unknown, s.Days[38].Gaps = 1430, 6, 4, 1
	s.History = []state.Entry{
		alert(state.Unserved, 7, "2026-10-25 06:00:00", "no machine has 192.0.2.10", false),
		alert(state.Unserved, 7, "2026-10-25 06:30:00", "no machine has 192.0.2.10", true),
		alert(state.Blocked, 11, "2026-11-01 00:00:00", "no witness replies", false), // it may be this machine
		alert(state.Blocked, 11, "2026-11-01 02:00:00", "no witness replies", true),
		alert(state.Blocked, 10, "2026-11-27 09:59:30", "paused", false),
		change(state.TookOver, "2026-11-27 10:00:46", "2026-11-27 10:00:00", "192.0.2.11 does not reply"),
		alert(state.Blocked, 10, "2026-11-27 10:00:46", "paused", true),
		change(state.Released, "2026-11-27 11:00:00", "2026-11-27 10:59:58", "192.0.2.11 has it again"),
		alert(state.Elsewhere, 12, "2026-11-27 12:00:00", "another standby serves", false),
		alert(state.Elsewhere, 12, "2026-11-27 13:00:00", "another standby serves", true),
	}
	return s
}

func share(part, whole time.Duration) *float64 {
	r := float64(part) / float64(whole)
	return &r
}

func TestSummaryOfAFailoverAndAnOutage(t *testing.T) {
	now := at("2026-11-28 12:00:00")
	got := Summarize(story(), now)
	want := Summary{
		Version: 1, Cluster: "web", Primary: "192.0.2.11", Since: at("2026-10-20 00:00:00"), Until: now,
		Periods: []Period{
			{Name: "day", Observed: 86400, Availability: share(1, 1), PrimaryUp: share(2870, 2876), Checks: 2880, Unknown: 4, Gaps: 1},
			{Name: "week", Observed: 7 * 86400, Outages: 1, Outage: 76, Availability: share(7*day-76*time.Second, 7*day), PrimaryUp: share(8*1440-10, 8*1440-4), Checks: 8 * 1440, Unknown: 4, Gaps: 1},
			{Name: "month", Observed: 30 * 86400, Outages: 1, Outage: 76, Availability: share(30*day-76*time.Second, 30*day), PrimaryUp: share(31*1440-10, 31*1440-4), Checks: 31 * 1440, Unknown: 4, Gaps: 1},
			{Name: "year", Observed: 39.5 * 86400, Outages: 2, Outage: 1876, Availability: share(948*time.Hour-1876*time.Second, 948*time.Hour), PrimaryUp: share(40*1440-10, 40*1440-4), Checks: 40 * 1440, Unknown: 4, Gaps: 1},
		},
		Outages: []Outage{
			{From: at("2026-10-25 06:00:00"), To: at("2026-10-25 06:30:00"), Length: 1800, Cause: "no machine has 192.0.2.10", End: "resolved"},
			{From: at("2026-11-27 09:59:30"), To: at("2026-11-27 10:00:46"), Length: 76, Cause: "paused", End: "taken over by the standby"},
		},
		Served: []Service{
			{at("2026-10-20 00:00:00"), at("2026-10-25 06:00:00"), "primary"},
			{at("2026-10-25 06:00:00"), at("2026-10-25 06:30:00"), "nobody"},
			{at("2026-10-25 06:30:00"), at("2026-11-27 09:59:30"), "primary"},
			{at("2026-11-27 09:59:30"), at("2026-11-27 10:00:46"), "nobody"},
			{at("2026-11-27 10:00:46"), at("2026-11-27 11:00:00"), "standby"},
			{at("2026-11-27 11:00:00"), at("2026-11-27 12:00:00"), "primary"},
			{at("2026-11-27 12:00:00"), at("2026-11-27 13:00:00"), "another standby"},
			{at("2026-11-27 13:00:00"), now, "primary"},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Summary{}, "Days"), cmpopts.IgnoreUnexported(Outage{}), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := len(got.Days); n != 90 || got.Days[0].Date != "2026-08-31" || got.Days[89].Date != "2026-11-28" {
		t.Fatalf("%d days, from %s to %s", n, got.Days[0].Date, got.Days[n-1].Date)
	}
	for i, want := range map[int]string{0: "-", 49: "-", 50: "100 %", 55: "97.92 %", 88: "99.912 %", 89: "100 %"} {
		if shown := percent(got.Days[i].Availability); shown != want {
			t.Errorf("%s: %s, want %s", got.Days[i].Date, shown, want)
		}
	}
}

func TestOutagesOf(t *testing.T) {
	now := at("2026-11-28 12:00:00")
	for _, test := range []struct {
		name    string
		pool    bool
		entries []state.Entry
		want    string
	}{
		{"a failover", false, []state.Entry{change(state.TookOver, "2026-11-28 10:00:46", "2026-11-28 10:00:00", "no reply")}, "10:00:00 46s no reply: taken over by the standby"},
		{"a record of an earlier version", false, []state.Entry{change(state.TookOver, "2026-11-28 10:00:46", "", "no reply")}, ""},
		{"a takeover from a primary that is up", false, []state.Entry{{Kind: state.ChangeEntry, Change: state.Change{Time: at("2026-11-28 10:00:46"), Began: at("2026-11-28 10:00:00"), Outcome: state.TookOver, Manual: true}}}, ""},
		{"one that lasts", false, []state.Entry{alert(state.Down, 9, "2026-11-28 11:00:00", "no reply", false)}, "11:00:00 1h no reply: not over"},
		{"two at once", false, []state.Entry{
			alert(state.Unserved, 7, "2026-11-28 10:00:00", "nobody", false), alert(state.Down, 9, "2026-11-28 10:10:00", "no reply", false),
			alert(state.Unserved, 7, "2026-11-28 10:20:00", "nobody", true), alert(state.Down, 9, "2026-11-28 10:30:00", "no reply", true),
		}, "10:00:00 30m nobody: resolved"},
		{"a silent witness", false, []state.Entry{alert(state.Blocked, 11, "2026-11-28 11:00:00", "no witness", false)}, ""},
		{"an address in use", false, []state.Entry{alert(state.Blocked, 13, "2026-11-28 11:00:00", "in use", false)}, ""},
		{"fencing that fails", false, []state.Entry{alert(state.Blocked, 14, "2026-11-28 11:00:00", "exit code 1", false)}, "11:00:00 1h exit code 1: not over"},
		{"a pool below min-members", true, []state.Entry{alert(state.Blocked, 4, "2026-11-28 11:00:00", "all are down", false)}, "11:00:00 1h all are down: not over"},
		{"a cluster by rule 4", false, []state.Entry{alert(state.Blocked, 4, "2026-11-28 11:00:00", "isolated", false)}, ""},
		{"an end without a beginning", false, []state.Entry{alert(state.Down, 9, "2026-11-28 11:00:00", "no reply", true)}, ""},
		{"the future", false, []state.Entry{alert(state.Down, 9, "2027-11-28 11:00:00", "no reply", false)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, o := range Summarize(Source{Pool: test.pool, History: test.entries, Days: days("2026-11-28", 1)}, now).Outages {
				end := o.End
				if o.Ongoing {
					end = "not over"
				}
				got = append(got, fmt.Sprintf("%s %s %s: %s", o.From.Format(time.TimeOnly), length(o.Length), o.Cause, end))
			}
			if got := strings.Join(got, "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSummaryAsText(t *testing.T) {
	now := at("2026-11-28 12:00:00")
	const want = `web: served by primary; observed since 2026-10-20
           availability   outages       in all   primary up   unknown
  day             100 %         0           0s      99.79 %         4
  week         99.987 %         1       1m 16s     99.948 %         4
  month        99.997 %         1       1m 16s     99.987 %         4
  year         99.945 %         2      31m 16s     99.990 %         4
  60 days to 2026-11-28 (UTC):
  ....................#####+################################+#
  outages:
    2026-10-25 06:00:00  30m      no machine has 192.0.2.10 (resolved)
    2026-11-27 09:59:30  1m 16s   paused (taken over by the standby)
  served by:
    2026-10-20 00:00:00  primary         for 5d 6h
    2026-10-25 06:00:00  nobody          for 30m
    2026-10-25 06:30:00  primary         for 33d 3h
    2026-11-27 09:59:30  nobody          for 1m 16s
    2026-11-27 10:00:46  standby         for 59m 14s
    2026-11-27 11:00:00  primary         for 1h
    2026-11-27 12:00:00  another standby for 1h
    2026-11-27 13:00:00  primary         for 23h
`
	if diff := cmp.Diff(want, Summarize(story(), now).Text(80, time.UTC, true)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for line := range strings.Lines(want) {
		if n := len(line) - 1; n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if got := Summarize(story(), now).Text(80, time.UTC, false); !strings.Contains(got, "····█████▇███") {
		t.Errorf("no bars in\n%s", got)
	}
	if got, want := Summarize(Source{Name: "new\x1b[2J"}, now).Text(80, time.UTC, false), "new [2J: no check was made yet\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDaysThatCountForAvailability(t *testing.T) {
	now := at("2026-11-28 12:00:00")
	part := days("2026-11-28", 1)
	part[0].First = at("2026-11-28 11:00:00")
	unknown := days("2026-11-28", 1)
	unknown[0].Up, unknown[0].Unknown = 0, 1440
	for _, test := range []struct {
		name         string
		days         []state.Day
		observed     Seconds
		availability string
	}{
		{"checks since eleven, and an outage of half an hour", part, 3600, "50.00 %"},
		{"checks since midnight", days("2026-11-28", 1), 12 * 3600, "95.83 %"},
		{"no check could be made", unknown, 0, "-"},
		{"no check was made", nil, 0, "-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := Summarize(Source{Name: "web", Days: test.days, History: []state.Entry{alert(state.Down, 9, "2026-11-28 11:30:00", "no reply", false)}}, now)
			if day := s.Periods[0]; day.Observed != test.observed || percent(day.Availability) != test.availability {
				t.Errorf("%s of %v s, want %s of %v s", percent(day.Availability), day.Observed, test.availability, test.observed)
			}
		})
	}
}

func TestFirstCheckWasMadeJustNow(t *testing.T) {
	now := at("2026-11-28 12:00:00")
	first := days("2026-11-28", 1)
	first[0].First = now
	s := Summarize(Source{Name: "web", Days: first}, now)
	if got := s.Now(); got.By != byPrimary || percent(s.Periods[0].Availability) != "-" {
		t.Errorf("served by %+v, availability %s", got, percent(s.Periods[0].Availability))
	}
	if got := Page("standby", []Summary{s}, now, time.UTC); !strings.Contains(got, "<b>Primary serves</b>") {
		t.Errorf("got\n%s", got)
	}
}

func TestPoolIsServedByItsMembers(t *testing.T) {
	s := Summarize(Source{Name: "www", Primary: "host1.zone.com", Pool: true, Days: days("2026-11-27", 2)}, at("2026-11-28 12:00:00"))
	if got := s.Text(80, time.UTC, true); !strings.HasPrefix(got, "www: served by members; observed since 2026-11-27\n") || !strings.Contains(got, "members up") {
		t.Errorf("got\n%s", got)
	}
}
