package state

import (
	"maps"
	"time"
)

// sameSecond tells whether a check that began then counts as the last one: streaks
// advance at most once a second, however often is checked.
func (h *Head) sameSecond(began time.Time) bool {
	return h.Last != nil && h.Last.Time.Unix() == began.Unix()
}

// advance counts a check in a streak; counts: it is not of the second of the one
// before.
func advance(n *int, goesOn, counts bool) {
	switch {
	case !goesOn:
		*n = 0
	case counts:
		*n++
	}
}

// Count adds a check to the streaks of both kinds, and makes it the last one. It
// says whether the check ended otherwise than the one before; each switch does, a
// failure that is only repeated does not.
func (h *Head) Count(c Check) (changed bool) {
	h.countDay(c)
	counts := !h.sameSecond(c.Time)
	if last := h.Last; last != nil {
		h.Gap = max(0, Milliseconds(c.Time.Sub(last.Time).Milliseconds()))
		changed = !goesOn(h.afterManual(*last), c)
	} else {
		changed = c.Outcome != OK
	}
	advance(&h.Streaks.Good, c.Outcome.Good(), counts)
	advance(&h.Streaks.Unknown, c.Outcome == Unknown, counts)
	h.Last = &c
	return changed || c.Outcome.Switched()
}

// afterManual is the last check as it would have ended, had it done what was done manually
// since.
func (h *Head) afterManual(last Check) Check {
	if c := h.LastChange(); c != nil && c.Manual && !c.Time.Before(last.Time) {
		last.Outcome = c.Outcome
	}
	return last
}

// goesOn tells whether a check ended as expected after the last one.
func goesOn(last, c Check) bool {
	switch {
	case last.Outcome == TookOver && c.Outcome == Holding, last.Outcome == Released && c.Outcome == OK:
		return true
	case last.Outcome == Removed && c.Outcome == Reduced, last.Outcome == Restored && (c.Outcome == OK || c.Outcome == Reduced):
		return true
	case c.Outcome.Good():
		return last.Outcome == c.Outcome
	}
	return last.Outcome == c.Outcome && last.Rule == c.Rule
}

// AddChange adds a change to the history. The same failure again is not one.
func (h *Head) AddChange(c Change) *Change {
	if last := h.LastChange(); last != nil && last.Outcome == c.Outcome && last.Reason == c.Reason {
		switch c.Outcome {
		case TakeoverFailed, ReleaseFailed, UpdateFailed:
			return last
		}
	}
	h.Counts = maps.Clone(h.Counts)
	if h.Counts == nil {
		h.Counts = map[Outcome]int{}
	}
	h.Counts[c.Outcome]++
	return &h.Add(Entry{Change: c}).Change
}
