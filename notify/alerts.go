package notify

import (
	"fmt"
	"slices"
	"time"

	"pingover/state"
)

// mailedUnknown is the number of unknown checks in a row from which on they
// are a trouble: one is soon over, and nobody should be woken for it.
const mailedUnknown = 3

// Check is what Follow needs to know of how a check ended.
type Check struct {
	Outcome state.Outcome
	Rule    int           // of the decision
	Streaks state.Streaks // this check is counted already
	Now     time.Time
}

// Policy says when a trouble is over and when it is mailed again.
type Policy struct {
	Rise   int           // good checks in a row that end a trouble
	Remind time.Duration // between two letters about one trouble; 0: one letter
}

// TrackAlerts says whether a check that ended like this is to be mailed, and why,
// or why not. One letter goes out for each trouble, not for each run: a
// trouble is an outcome by a rule, it lasts until the check has been good Rise
// times in a row, and what comes and goes within is mailed once, then after
// Remind. Changes (took-over, released) are no troubles: each is mailed.
//
// After takes the place of troubles. Due is the one of after to mail about
// now, or nil; whoever does so sets its MessageID if that is still empty.
// Ended are those that are over: a letter about that is a reply to their
// MessageID.
func TrackAlerts(troubles []state.Alert, c Check, p Policy) (after []state.Alert, due *state.Alert, ended []state.Alert, why string) {
	after = slices.Clone(troubles)
	switch {
	case c.Outcome.Good() && len(after) == 0:
		return nil, nil, nil, "no trouble"
	case c.Outcome.Good() && c.Streaks.Good >= p.Rise:
		return nil, nil, after, fmt.Sprintf("over: good check %d of %d", c.Streaks.Good, p.Rise)
	case c.Outcome.Good():
		return after, nil, nil, fmt.Sprintf("not over yet: good check %d of %d", c.Streaks.Good, p.Rise)
	case !trouble(c.Outcome):
		return after, nil, nil, fmt.Sprintf("%q is no trouble", c.Outcome)
	case c.Outcome == state.Unknown && c.Streaks.Unknown < mailedUnknown:
		return after, nil, nil, fmt.Sprintf("unknown check %d of %d before it is mailed", c.Streaks.Unknown, mailedUnknown)
	}

	i := slices.IndexFunc(after, func(t state.Alert) bool {
		return t.Kind == string(c.Outcome) && t.Rule == c.Rule
	})
	if i < 0 {
		after = append(after, state.Alert{Kind: string(c.Outcome), Rule: c.Rule, Since: c.Now, Mailed: c.Now})
		return after, &after[len(after)-1], nil, "new trouble"
	}

	t := &after[i]
	// The clock was set back: how long ago the letter went is not known. To
	// take it as just sent costs one reminder's delay, neither a letter in
	// each run nor silence until the clock is where it was.
	if c.Now.Before(t.Mailed) {
		t.Mailed = c.Now
	}
	ago := c.Now.Sub(t.Mailed)
	switch {
	case p.Remind <= 0:
		return after, nil, nil, "mailed before"
	case ago < p.Remind:
		return after, nil, nil, fmt.Sprintf("mailed %s ago, again after %s", ago.Round(time.Second), p.Remind)
	}
	t.Mailed = c.Now
	return after, t, nil, fmt.Sprintf("reminder: mailed %s ago", ago.Round(time.Second))
}

// trouble says whether the outcome is a bad state that may last.
func trouble(o state.Outcome) bool {
	switch o {
	case state.Blocked, state.Down, state.Unserved, state.Unknown,
		state.TakeoverFailed, state.ReleaseFailed, state.StateFailed:
		return true
	}
	return false
}
