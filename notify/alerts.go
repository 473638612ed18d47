package notify

import (
	"fmt"
	"slices"
	"time"

	"pingover/state"
)

// unknownInARow unknown checks fire an alert: a single one is no reason to wake
// somebody.
const unknownInARow = 3

// Check is how a check ended, as far as TrackAlerts needs it.
type Check struct {
	Outcome state.Outcome
	Rule    int           // of the decision
	Streaks state.Streaks // including this check
	Now     time.Time
}

// Policy says when an alert resolves and when it is mailed again.
type Policy struct {
	Rise   int           // good checks in a row that resolve an alert
	Remind time.Duration // between two messages about a firing alert; 0: one message
}

// TrackAlerts decides whether the end of a check is mailed, and returns why or
// why not. One message is sent per alert, not per run: an alert is an outcome
// by a rule, fires until Rise checks in a row were good, and is mailed once,
// then after Remind. Changes (took-over, released) are no alerts: each is
// mailed.
//
// After replaces alerts. Due is the alert of after to mail now, or nil; the
// caller sets its MessageID if that is still empty. Resolved are the alerts
// that this check ends: the message about that is a reply to their MessageID.
func TrackAlerts(alerts []state.Alert, c Check, p Policy) (after []state.Alert, due *state.Alert, resolved []state.Alert, why string) {
	after = slices.Clone(alerts)
	switch {
	case c.Outcome.Good() && len(after) == 0:
		return nil, nil, nil, "no alert"
	case c.Outcome.Good() && c.Streaks.Good >= p.Rise:
		return nil, nil, after, fmt.Sprintf("resolved: good check %d of %d", c.Streaks.Good, p.Rise)
	case c.Outcome.Good():
		return after, nil, nil, fmt.Sprintf("still firing: good check %d of %d", c.Streaks.Good, p.Rise)
	case !canFire(c.Outcome):
		return after, nil, nil, fmt.Sprintf("%q is no alert", c.Outcome)
	case c.Outcome == state.Unknown && c.Streaks.Unknown < unknownInARow:
		return after, nil, nil, fmt.Sprintf("unknown check %d of %d", c.Streaks.Unknown, unknownInARow)
	}

	i := slices.IndexFunc(after, func(t state.Alert) bool {
		return t.Kind == string(c.Outcome) && t.Rule == c.Rule
	})
	if i < 0 {
		after = append(after, state.Alert{Kind: string(c.Outcome), Rule: c.Rule, Since: c.Now, Mailed: c.Now})
		return after, &after[len(after)-1], nil, "new alert"
	}

	if ago, due := remindOf(&after[i], c.Now, p.Remind); due {
		return after, &after[i], nil, fmt.Sprintf("reminder: mailed %s ago", ago.Round(time.Second))
	} else if p.Remind > 0 {
		return after, nil, nil, fmt.Sprintf("mailed %s ago, again after %s", ago.Round(time.Second), p.Remind)
	}
	return after, nil, nil, "mailed before"
}

// remindOf says whether a firing alert is mailed again, and how long ago it was.
func remindOf(a *state.Alert, now time.Time, remind time.Duration) (ago time.Duration, due bool) {
	// The clock was set back, so the age of the last message is unknown. Taken
	// as just sent it costs the delay of one reminder; otherwise there would be
	// a message in each run, or none until the clock has caught up.
	if now.Before(a.Mailed) {
		a.Mailed = now
	}
	ago = now.Sub(a.Mailed)
	if due = remind > 0 && ago >= remind; due {
		a.Mailed = now
	}
	return ago, due
}

// TrackCondition is TrackAlerts for what is no outcome of a check: alerts are
// those of the kind, at most one, and it is over as soon as it no longer holds.
func TrackCondition(alerts []state.Alert, kind Kind, firing bool, now time.Time, p Policy) (after []state.Alert, due, over *state.Alert) {
	switch {
	case !firing && len(alerts) > 0:
		return nil, nil, &alerts[0]
	case !firing:
		return nil, nil, nil
	case len(alerts) == 0:
		after = []state.Alert{{Kind: string(kind), Since: now, Mailed: now}}
		return after, &after[0], nil
	}
	after = slices.Clone(alerts)
	if _, again := remindOf(&after[0], now, p.Remind); again {
		due = &after[0]
	}
	return after, due, nil
}

// partAlerts parts the alerts of one kind from the others.
func partAlerts(alerts []state.Alert, kind Kind) (others, those []state.Alert) {
	for _, a := range alerts {
		if a.Kind == string(kind) {
			those = append(those, a)
		} else {
			others = append(others, a)
		}
	}
	return others, those
}

// canFire says whether the outcome is a bad state that may last.
func canFire(o state.Outcome) bool {
	switch o {
	case state.Blocked, state.Down, state.Unserved, state.Unknown,
		state.TakeoverFailed, state.ReleaseFailed, state.StateFailed:
		return true
	}
	return false
}
