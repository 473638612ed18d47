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
	Outcome    state.Outcome
	Rule       int // of the decision
	Reason     string
	Streaks    state.Streaks // including this check
	Now        time.Time
	Conditions []Condition // bad states besides the outcome; one that is not named is not known
}

// Condition is a bad state besides the outcome.
type Condition struct {
	Kind   Kind
	Firing bool   // else it is not there
	Good   int    // checks in a row in which it was not there: Rise of them resolve it
	Over   bool   // it resolves at once, for it no longer matters
	Reason string // while it fires
}

// Policy says when an alert resolves and when it is mailed again.
type Policy struct {
	Rise   int           // good checks in a row that resolve an alert
	Remind time.Duration // between two messages about a firing alert; 0: one message
}

// TrackAlerts decides whether the end of a check is mailed, and returns why or
// why not. One message is sent per alert, not per run: an alert is an outcome
// by a rule, or a condition besides it. It fires until Rise checks in a row were
// good, and is mailed once, then after Remind. Changes (took-over, released) are
// no alerts: each is mailed.
//
// After replaces alerts. Due are the alerts of after to mail now, that of the
// outcome first; the caller sets a MessageID that is still empty. Resolved are
// the alerts that this check ends: the message about that is a reply to their
// MessageID.
func TrackAlerts(alerts []state.Alert, c Check, p Policy) (after, due, resolved []state.Alert, why string) {
	after, due, resolved, why = trackOutcome(slices.Clone(alerts), c, p)
	for _, k := range c.Conditions {
		i := slices.IndexFunc(after, func(a state.Alert) bool { return a.Kind == string(k.Kind) })
		switch {
		case k.Firing:
			var mail *state.Alert
			if after, mail, _ = fire(after, state.Alert{Kind: string(k.Kind), Reason: k.Reason}, c.Now, p); mail != nil {
				due = append(due, *mail)
			}
		case i >= 0 && (k.Over || k.Good >= p.Rise):
			resolved = append(resolved, after[i])
			after = slices.Delete(after, i, i+1)
		}
	}
	if len(after) == 0 {
		after = nil
	}
	return after, due, resolved, why
}

// trackOutcome tracks the alerts that are outcomes.
func trackOutcome(alerts []state.Alert, c Check, p Policy) (after, due, resolved []state.Alert, why string) {
	ofOutcome := func(a state.Alert) bool { return canFire(state.Outcome(a.Kind)) }
	switch {
	case c.Outcome.Good() && !slices.ContainsFunc(alerts, ofOutcome):
		return alerts, nil, nil, "no alert"
	case c.Outcome.Good() && c.Streaks.Good >= p.Rise:
		for _, a := range alerts {
			if ofOutcome(a) {
				resolved = append(resolved, a)
			}
		}
		return slices.DeleteFunc(alerts, ofOutcome), nil, resolved, fmt.Sprintf("resolved: good check %d of %d", c.Streaks.Good, p.Rise)
	case c.Outcome.Good():
		return alerts, nil, nil, fmt.Sprintf("still firing: good check %d of %d", c.Streaks.Good, p.Rise)
	case !canFire(c.Outcome):
		return alerts, nil, nil, fmt.Sprintf("%q is no alert", c.Outcome)
	case c.Outcome == state.Unknown && c.Streaks.Unknown < unknownInARow:
		return alerts, nil, nil, fmt.Sprintf("unknown check %d of %d", c.Streaks.Unknown, unknownInARow)
	}
	after, mail, why := fire(alerts, state.Alert{Kind: string(c.Outcome), Rule: c.Rule, Reason: c.Reason}, c.Now, p)
	if mail != nil {
		due = []state.Alert{*mail}
	}
	return after, due, nil, why
}

// fire adds an alert, or keeps the one of that kind and rule; due is it where it
// is mailed now.
func fire(alerts []state.Alert, a state.Alert, now time.Time, p Policy) (after []state.Alert, due *state.Alert, why string) {
	i := slices.IndexFunc(alerts, func(t state.Alert) bool { return t.Kind == a.Kind && t.Rule == a.Rule })
	if i < 0 {
		a.Since, a.Mailed = now, now
		return append(alerts, a), &a, "new alert"
	}
	alerts[i].Reason = a.Reason
	if ago, due := remindOf(&alerts[i], now, p.Remind); due {
		return alerts, &alerts[i], fmt.Sprintf("reminder: mailed %s ago", ago.Round(time.Second))
	} else if p.Remind > 0 {
		return alerts, nil, fmt.Sprintf("mailed %s ago, again after %s", ago.Round(time.Second), p.Remind)
	}
	return alerts, nil, "mailed before"
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

// AlertChange is an alert that has begun to fire, or has resolved.
type AlertChange struct {
	state.Alert
	Resolved bool
}

// AlertChanges are those from before to after.
func AlertChanges(before, after []state.Alert) (all []AlertChange) {
	add := func(some, others []state.Alert, resolved bool) {
		for _, a := range some {
			if !slices.ContainsFunc(others, func(o state.Alert) bool { return o.Kind == a.Kind && o.Rule == a.Rule }) {
				all = append(all, AlertChange{a, resolved})
			}
		}
	}
	add(before, after, true)
	add(after, before, false)
	return all
}

// inHistory adds to the history which alerts have begun to fire or have resolved
// since before.
func inHistory(h state.Head, before []state.Alert, now time.Time) state.Head {
	for _, a := range AlertChanges(before, h.Alerts) {
		e := state.Entry{Kind: state.AlertEntry, What: a.Kind, Rule: a.Rule, Resolved: a.Resolved, Change: state.Change{Time: now, Reason: a.Reason}}
		e.ID = fmt.Sprintf("%s.%s.%d.resolved-%t", now.UTC().Format("20060102T150405Z"), a.Kind, a.Rule, a.Resolved)
		h.Add(e)
	}
	return h
}

// AlertKinds are the kinds that an alert of a cluster may have.
func AlertKinds() []Kind {
	return []Kind{
		Blocked, Elsewhere, Down, Unserved, Unknown, TakeoverFailed, ReleaseFailed, StateFailed, HookFailed, NotReady, Isolated, NoArbiter, ServiceDown, Certificate, Unconfigured, NotUsed,
	}
}

// canFire says whether the outcome is a bad state that may last.
func canFire(o state.Outcome) bool {
	switch o {
	case state.Blocked, state.Elsewhere, state.Down, state.Unserved, state.Unknown,
		state.TakeoverFailed, state.ReleaseFailed, state.StateFailed, state.UpdateFailed:
		return true
	}
	return false
}
