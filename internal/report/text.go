package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"pingover/internal/term"
)

const (
	textDays   = 60 // bars, where there is room
	tableWidth = 69 // of the periods
	textEvents = 10 // outages, and changes of who served
)

// damaged is why a summary is incomplete.
const damaged = "a part of what was recorded cannot be read"

// Text is the summary in so many columns, in a time zone. ASCII: without other
// characters.
func (s Summary) Text(columns int, zone *time.Location, ascii bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name := term.Printable(s.Cluster)
	if s.Incomplete {
		line("%s: incomplete, for %s", name, damaged)
	}
	if s.Since.IsZero() && s.Incomplete {
		return b.String()
	}
	if s.Since.IsZero() {
		line("%s: no check was made yet", name)
		return b.String()
	}
	line("%s: served by %s; observed since %s", name, s.Now().By, s.Since.Format(time.DateOnly))
	up := "primary up"
	if s.Pool {
		up = "members up"
	}
	row := func(period, available, outages, inAll, up, unknown string) {
		text := fmt.Sprintf("  %-7s %13s %9s %12s", period, available, outages, inAll)
		if columns >= tableWidth {
			text += fmt.Sprintf(" %12s %9s", up, unknown)
		}
		line("%s", text)
	}
	row("", "availability", "outages", "in all", up, "unknown")
	for _, p := range s.Periods {
		row(p.Name, percent(p.Availability), strconv.Itoa(p.Outages), length(p.Outage), percent(p.PrimaryUp), strconv.Itoa(p.Unknown))
	}
	days := tail(s.Days, max(1, min(textDays, columns-2)))
	line("  %d days to %s (UTC):\n  %s", len(days), days[len(days)-1].Date, bars(days, ascii))
	if len(s.Outages) > 0 {
		line("  outages:")
	}
	for _, o := range tail(s.Outages, textEvents) {
		how := o.End
		if o.Ongoing {
			how = "not over"
		}
		term.Columns(&b, columns, 34, fmt.Sprintf("    %s  %s", moment(o.From, zone), length(o.Length)), term.Printable(o.Cause)+" ("+how+")")
	}
	line("  served by:")
	for _, w := range tail(s.Served, textEvents) {
		line("    %s  %-15s for %s", moment(w.From, zone), w.By, length(seconds(w.To.Sub(w.From))))
	}
	return b.String()
}

// Now is who serves at the end of the summary; the zero value where that is not
// known.
func (s Summary) Now() Service {
	if len(s.Served) == 0 {
		return Service{}
	}
	return s.Served[len(s.Served)-1]
}

func tail[T any](all []T, n int) []T { return all[max(0, len(all)-n):] }

func moment(t time.Time, zone *time.Location) string { return t.In(zone).Format("2006-01-02 15:04:05") }

// bars are days as one character each, higher where more was available.
func bars(days []Day, ascii bool) string {
	levels, none := []rune("▁▂▃▄▅▆▇█"), '·'
	if ascii {
		levels, none = []rune("!!xx--+#"), '.'
	}
	var b strings.Builder
	for _, d := range days {
		switch {
		case d.Availability == nil:
			b.WriteRune(none)
		case *d.Availability == 1:
			b.WriteRune(levels[len(levels)-1])
		default: // any outage is seen
			b.WriteRune(levels[int(*d.Availability*float64(len(levels)-1))])
		}
	}
	return b.String()
}

// percent never shows 100 % where there was an outage.
func percent(r *float64) string {
	switch {
	case r == nil:
		return "-"
	case *r == 1:
		return "100 %"
	case *r > 0.999:
		return fmt.Sprintf("%.3f %%", min(*r*100, 99.999))
	}
	return fmt.Sprintf("%.2f %%", *r*100)
}

// length is a length of time in its two largest units.
func length(s Seconds) string {
	d := s.Duration().Round(time.Second)
	units := []struct {
		name string
		of   time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.of || u.of == time.Second {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.of, u.name)
		if next := units[i+1]; d%u.of >= next.of {
			text += fmt.Sprintf(" %d%s", d%u.of/next.of, next.name)
		}
		return text
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
