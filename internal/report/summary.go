// Package report is availability: the summary of a cluster's or pool's history, as
// text and as one self-contained page.
package report

import (
	"cmp"
	"slices"
	"time"

	"pingover/state"
)

// Source is what is known of one cluster or pool.
type Source struct {
	Name    string
	Primary string // the machine that is pinged; the record of a pool
	Pool    bool
	History []state.Entry
	Days    []state.Day
	// Damaged says that a part of it could not be read.
	Damaged bool
}

// Summary is what follows from it. All times are in UTC.
type Summary struct {
	Version int       `json:"version"` // of this object: 1
	Cluster string    `json:"cluster"` // or pool
	Pool    bool      `json:"pool"`
	Primary string    `json:"primary"`
	Since   time.Time `json:"since"` // the first day with a check; zero: none was made
	Until   time.Time `json:"until"`
	Periods []Period  `json:"periods"`
	Outages []Outage  `json:"outages"` // the newest last
	Served  []Service `json:"served"`  // without gaps, the newest last
	Days    []Day     `json:"days"`    // the last 90, those without a check too
	// Incomplete says that a part of what was recorded could not be read.
	Incomplete bool `json:"incomplete"`
}

// Period is availability over the last day, week, month (30 days) or year (365).
type Period struct {
	Name         string   `json:"name"`
	Observed     Seconds  `json:"observed_s"` // of it, on days with a check
	Outages      int      `json:"outages"`
	Outage       Seconds  `json:"outage_s"`
	Availability *float64 `json:"availability"` // 0 to 1; nil: no check was made
	PrimaryUp    *float64 `json:"primary_up"`   // 0 to 1, of the checks that could be made; nil: none could. A pool: a published member
	Checks       int      `json:"checks"`
	Unknown      int      `json:"unknown"` // checks that could not be made
	Gaps         int      `json:"gaps"`    // times without checks
}

// Outage is a time in which this machine saw nobody serve.
type Outage struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"` // Until while it lasts
	Length  Seconds   `json:"length_s"`
	Ongoing bool      `json:"ongoing"`
	Cause   string    `json:"cause"`
	End     string    `json:"end"` // what ended it; "" while it lasts

	alert string // the kind of alert that it is; "": none
}

// Service is who served from when to when.
type Service struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	By   string    `json:"by"` // primary, members (of a pool), standby, another standby, nobody
}

// Day is one day in UTC.
type Day struct {
	state.Day
	Outage       Seconds  `json:"outage_s"`
	Availability *float64 `json:"availability"` // nil: no check was made
}

// Seconds is a length of time as JSON has it.
type Seconds float64

// Duration is s as a length of time.
func (s Seconds) Duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

func seconds(d time.Duration) Seconds { return Seconds(d.Round(time.Second).Seconds()) }

const (
	day       = 24 * time.Hour
	shownDays = 90
	soon      = 10 * time.Minute // after midnight: checks went on
)

// Who can serve.
const (
	byPrimary = "primary"
	byMembers = "members" // of a pool, at least one
	byStandby = "standby"
	byOther   = "another standby"
	byNobody  = "nobody"
)

// Summarize summarizes what is known at a moment.
func Summarize(s Source, now time.Time) Summary {
	now = now.UTC().Truncate(time.Second)
	sum := Summary{Version: 1, Cluster: s.Name, Pool: s.Pool, Primary: s.Primary, Until: now, Incomplete: s.Damaged, Outages: []Outage{}, Served: []Service{}, Days: []Day{}}
	observed := observedSpans(s.Days, now)
	if len(observed) > 0 {
		sum.Since = observed[0].from
	}
	entries := slices.DeleteFunc(slices.Clone(s.History), func(e state.Entry) bool { return e.Time.After(now) })
	slices.SortStableFunc(entries, func(a, b state.Entry) int { return a.Time.Compare(b.Time) })
	sum.Outages = append(sum.Outages, outages(entries, s.Pool, now)...)
	sum.Served = append(sum.Served, served(entries, sum.Outages, sum.Since, now)...)
	for i := range sum.Served {
		if s.Pool && sum.Served[i].By == byPrimary {
			sum.Served[i].By = byMembers
		}
	}
	for _, p := range []struct {
		name string
		days int
	}{{"day", 1}, {"week", 7}, {"month", 30}, {"year", 365}} {
		sum.Periods = append(sum.Periods, period(p.name, span{now.Add(-time.Duration(p.days) * day), now}, observed, sum.Outages, s.Days))
	}
	today := now.Truncate(day)
	for i := shownDays - 1; i >= 0; i-- {
		begin := today.Add(-time.Duration(i) * day)
		shown := Day{Day: state.Day{Date: begin.Format(time.DateOnly)}}
		if k := slices.IndexFunc(s.Days, func(d state.Day) bool { return d.Date == shown.Date }); k >= 0 {
			shown.Day = s.Days[k]
			this := span{begin, earlier(begin.Add(day), now)}
			for _, o := range observed {
				if both := o.and(this); both.length() > 0 {
					this = both
				}
			}
			out, _ := within(sum.Outages, this)
			shown.Outage, shown.Availability = seconds(out), ratio(this.length()-out, this.length())
		}
		sum.Days = append(sum.Days, shown)
	}
	return sum
}

// span is a time from a moment to a later one.
type span struct{ from, to time.Time }

func (s span) length() time.Duration { return max(0, s.to.Sub(s.from)) }

// and is what two spans have in common.
func (s span) and(o span) span {
	if o.from.After(s.from) {
		s.from = o.from
	}
	return span{s.from, earlier(s.to, o.to)}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// observedSpans are the days with a check that could be made, from the first on where that was not soon
// after midnight: how long the checks rested within a day is not kept.
func observedSpans(days []state.Day, now time.Time) (spans []span) {
	for _, d := range days {
		begin, err := time.Parse(time.DateOnly, d.Date)
		if err != nil || d.Up+d.Down == 0 || !begin.Before(now) {
			continue
		}
		end := earlier(begin.Add(day), now)
		if d.First.After(begin.Add(soon)) && !d.First.After(end) {
			begin = d.First
		}
		spans = append(spans, span{begin, end})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	return spans
}

// isOutage tells whether an alert means that nobody serves. Where a takeover is
// blocked because a witness is silent or an address is in use, that is not known.
func isOutage(e state.Entry, pool bool) bool {
	switch state.Outcome(e.What) {
	case state.Down, state.Unserved, state.TakeoverFailed:
		return true
	case state.Blocked:
		if pool {
			return e.Rule == belowLeast
		}
		return slices.Contains([]int{notPermitted, fenceRefused, serviceFence}, e.Rule)
	}
	return false
}

// Rules of the decision (README.md) by which a takeover is blocked although
// nobody serves: paused, just booted or released manually; refused by
// pre-takeover, with a primary that is down or has a service that is. And the
// rule of a pool with fewer members up than min-members.
const (
	notPermitted = 10
	fenceRefused = 14
	serviceFence = 15
	belowLeast   = 4
)

const takenOver = "taken over by the standby"

// outages are the times in which nobody served: while such an alert fires, and
// before an automatic takeover since the run began that found the primary down.
// Overlapping ones are one.
func outages(entries []state.Entry, pool bool, now time.Time) (all []Outage) {
	var open []Outage
	end := func(at time.Time, how string, of func(Outage) bool) {
		open = slices.DeleteFunc(open, func(o Outage) bool {
			if !of(o) {
				return false
			}
			o.To, o.End = at, how
			all = append(all, o)
			return true
		})
	}
	for _, e := range entries {
		switch {
		case e.Kind == state.AlertEntry && e.Resolved:
			end(e.Time, "resolved", func(o Outage) bool { return o.alert == e.What })
		case e.Kind == state.AlertEntry && isOutage(e, pool):
			open = append(open, Outage{From: e.Time, Cause: cmp.Or(e.Reason, e.What), alert: e.What})
		case e.Kind == state.ChangeEntry && e.Outcome == state.TookOver:
			if !e.Manual && !e.Began.IsZero() {
				open = append(open, Outage{From: e.Began, Cause: e.Reason})
			}
			end(e.Time, takenOver, func(Outage) bool { return true })
		}
	}
	for _, o := range open {
		o.To, o.Ongoing = now, true
		all = append(all, o)
	}
	return merged(all)
}

// merged are outages in order; those that overlap are one, with the cause of the
// first and the end of the last.
func merged(all []Outage) (some []Outage) {
	slices.SortStableFunc(all, func(a, b Outage) int { return a.From.Compare(b.From) })
	for _, o := range all {
		o.From, o.To = o.From.UTC(), o.To.UTC()
		if n := len(some); n > 0 && !o.From.After(some[n-1].To) {
			last := &some[n-1]
			if o.To.After(last.To) || o.Ongoing {
				last.To, last.End, last.Ongoing = o.To, o.End, o.Ongoing
			}
			continue
		}
		some = append(some, o)
	}
	for i := range some {
		some[i].Length = seconds(some[i].To.Sub(some[i].From))
	}
	return some
}

// served is who served, from the first observation on. What took place before it
// counts only for who served then.
func served(entries []state.Entry, out []Outage, since, now time.Time) (all []Service) {
	if since.IsZero() {
		return nil
	}
	add := func(at time.Time, by string) {
		if at.Before(since) {
			at = since
		}
		if n := len(all); n > 0 {
			all[n-1].To = at
			if all[n-1].By == by || !all[n-1].From.Before(at) {
				all[n-1].By = by
				return
			}
		}
		all = append(all, Service{From: at, By: by})
	}
	add(since, byPrimary)
	for _, e := range entries {
		switch {
		case e.Kind == state.ChangeEntry && e.Outcome == state.TookOver:
			add(e.Time, byStandby)
		case e.Kind == state.ChangeEntry && e.Outcome == state.Released:
			add(e.Time, byPrimary)
		case e.Kind == state.AlertEntry && e.What == string(state.Elsewhere) && !e.Resolved:
			add(e.Time, byOther)
		case e.Kind == state.AlertEntry && e.What == string(state.Elsewhere) && all[len(all)-1].By == byOther:
			add(e.Time, byPrimary)
		}
	}
	all[len(all)-1].To = now
	return without(all, out)
}

// without is who served, with nobody in the outages.
func without(all []Service, out []Outage) (some []Service) {
	for _, s := range all {
		for _, o := range out {
			gap := span{o.From, o.To}.and(span{s.From, s.To})
			if gap.length() == 0 {
				continue
			}
			if gap.from.After(s.From) {
				some = append(some, Service{s.From, gap.from, s.By})
			}
			if n := len(some); n > 0 && some[n-1].By == byNobody && some[n-1].To.Equal(gap.from) {
				some[n-1].To = gap.to
			} else {
				some = append(some, Service{gap.from, gap.to, byNobody})
			}
			s.From = gap.to
		}
		if s.To.After(s.From) || len(some) == 0 { // the first check may have been made just now
			some = append(some, s)
		}
	}
	return some
}

// within is how long outages lasted in a span, and how many there were.
func within(out []Outage, s span) (length time.Duration, n int) {
	for _, o := range out {
		if d := (span{o.From, o.To}).and(s).length(); d > 0 {
			length += d
			n++
		}
	}
	return length, n
}

func period(name string, in span, observed []span, out []Outage, days []state.Day) Period {
	p := Period{Name: name}
	var seen, bad time.Duration
	for _, o := range observed {
		o = o.and(in)
		seen += o.length()
		lost, _ := within(out, o)
		bad += lost
	}
	_, p.Outages = within(out, in)
	p.Observed, p.Outage, p.Availability = seconds(seen), seconds(bad), ratio(seen-bad, seen)
	up, down := 0, 0
	for _, d := range days { // whole days: a check is counted by its day
		if begin, err := time.Parse(time.DateOnly, d.Date); err != nil || begin.Before(in.from.Truncate(day)) || begin.After(in.to) {
			continue
		}
		up, down = up+d.Up, down+d.Down
		p.Checks, p.Unknown, p.Gaps = p.Checks+d.Checks, p.Unknown+d.Unknown, p.Gaps+d.Gaps
	}
	p.PrimaryUp = ratio(time.Duration(up), time.Duration(up+down))
	return p
}

// ratio is part of whole, nil where there is no whole.
func ratio(part, whole time.Duration) *float64 {
	if whole <= 0 {
		return nil
	}
	r := float64(part) / float64(whole)
	return &r
}
