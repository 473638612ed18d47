package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of NAME.days.
const (
	maxDays     = 400
	maxDaysFile = 1 << 20
)

// Day counts the checks of one day in UTC. It is kept in the record until it
// is over, and then one line of NAME.days.
type Day struct {
	Date    string    `json:"day"`            // such as 2026-03-01
	First   time.Time `json:"first,omitzero"` // check; zero in lines of earlier versions
	Checks  int       `json:"checks"`
	Up      int       `json:"up"`      // the primary replied
	Unknown int       `json:"unknown"` // it could not be asked
	Down    int       `json:"down"`
	Gaps    int       `json:"gaps"` // checks that came overdue: what was before is not known
	RTT     RTT       `json:"rtt_ms"`
}

// RTT is the round trip times of a day, in milliseconds, all 0 without a reply.
type RTT struct {
	Replies int     `json:"replies"`
	Min     float64 `json:"min"`
	Mean    float64 `json:"mean"`
	Max     float64 `json:"max"`
}

// soonestOverdue is how old the last check may be, however often there was one
// before.
const soonestOverdue = 3 * time.Minute

// Overdue says of the age of the last check, and of the gap between it and the
// one before, whether checks have stopped. A check in the future does not show
// that they go on: the clock was set back since.
func Overdue(age, gap time.Duration) bool {
	return age > max(soonestOverdue, 3*gap) || age < -time.Minute
}

// countDay adds a check to its day. It is called before Last and Gap are of
// that check.
func (h *Head) countDay(c Check) {
	date := c.Time.UTC().Format(time.DateOnly)
	i := slices.IndexFunc(h.Days, func(d Day) bool { return d.Date == date })
	if i < 0 {
		h.Days = append(h.Days, Day{Date: date, First: c.Time.UTC()})
		h.Days = h.Days[max(0, len(h.Days)-maxDays):]
		i = len(h.Days) - 1
	}
	day := &h.Days[i]
	day.Checks++
	switch c.Primary {
	case "up":
		day.Up++
	case "down":
		day.Down++
	default:
		day.Unknown++
	}
	if h.Last != nil && Overdue(c.Time.Sub(h.Last.Time), h.Gap.Duration()) {
		day.Gaps++
	}
	if c.RTT != nil {
		day.RTT.add(*c.RTT)
	}
}

func (r *RTT) add(ms float64) {
	if r.Replies == 0 {
		r.Min, r.Max = ms, ms
	}
	r.Replies++
	r.Min, r.Max = min(r.Min, ms), max(r.Max, ms)
	r.Mean += (ms - r.Mean) / float64(r.Replies)
}

// check says what makes no sense of a day.
func (d *Day) check() error {
	switch _, err := time.Parse(time.DateOnly, d.Date); {
	case err != nil:
		return fmt.Errorf("day %q, must be like 2026-03-01", d.Date)
	case sensible(d.First) != nil:
		return sensible(d.First)
	case min(d.Checks, d.Up, d.Unknown, d.Down, d.Gaps, d.RTT.Replies) < 0 || min(d.RTT.Min, d.RTT.Mean, d.RTT.Max) < 0:
		return errors.New("a count is below zero")
	}
	return nil
}

// ParseDays reads the lines of NAME.days. Lines that cannot be read are left
// out, and named by the error.
func ParseDays(data []byte) ([]Day, error) { return parseLines(data, (*Day).check) }

// MergeDays are the days of both, in order, the newest 400 of them. Of a day
// that is in both the one with more checks counts: that is the later one.
func MergeDays(file, recent []Day) []Day {
	byDate := map[string]Day{}
	for _, day := range slices.Concat(file, recent) {
		if day.Checks >= byDate[day.Date].Checks {
			byDate[day.Date] = day
		}
	}
	var all []Day
	for _, day := range byDate {
		all = append(all, day)
	}
	slices.SortFunc(all, func(a, b Day) int { return strings.Compare(a.Date, b.Date) })
	return all[max(0, len(all)-maxDays):]
}

// Days reads the days of a cluster, the oldest first: NAME.days and those of
// its record. The error says what could not be read of the file; what could is
// returned all the same.
func (d Dir) Days(name string, recent []Day) ([]Day, error) {
	path := d.path(name, ".days")
	data, err := read(path, maxDaysFile)
	if err != nil {
		return recent, err
	}
	file, err := ParseDays(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return MergeDays(file, recent), err
}

// MoveDays moves the days of a record that are over to NAME.days. It is called
// as MoveHistory is.
func (d Dir) MoveDays(h *Head) error {
	if len(h.Days) < 2 {
		return nil
	}
	over := h.Days[:len(h.Days)-1]
	moved, err := rewrite(d.path(h.Name, ".days"), maxDaysFile, ParseDays, func(file []Day) []Day { return MergeDays(file, over) })
	if moved {
		h.Days = slices.Clone(h.Days[len(over):])
	}
	return err
}
