package notify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"pingover/state"
)

const (
	// dampFor is the time within which a notification of the same kind is a
	// repetition, and for which repetitions are suppressed.
	dampFor = time.Hour
	// calmFor without a repetition ends flap damping early.
	calmFor = 15 * time.Minute
	// maxChanges of role are mailed at once within dampFor.
	maxChanges = 10
	// maxSuppressed notifications make a message before that time: the record
	// stays small, and the message is complete.
	maxSuppressed = 120
	// maxReason is the length of a suppressed reason, in characters.
	maxReason = 160
)

// Dampen is flap damping: it returns which notifications are mailed now, in one
// message, and what is kept of the others. After replaces d, and goes into the
// record in the same write as the message. Call it in every run, even without
// a notification: suppressed ones become due by time alone.
//
// Changes of role are mailed at once, up to maxChanges an hour. A notification of
// another kind is mailed at once when none of its kind was within the hour, and
// so is its first repetition. The last that is mailed at once is marked Repeated:
// later ones are suppressed for an hour, or until there was none for 15 minutes,
// and then mailed together as Flapping. A message that is sent anyway includes
// the other notifications of its run and the suppressed ones.
//
// Reminders are as frequent as configured, and not damped.
func Dampen(d state.Damping, all []Notification, now time.Time) (after state.Damping, due []Notification) {
	d = recent(d, now)
	if len(d.Suppressed) == 0 && now.Sub(d.Since) >= dampFor {
		d.Since = time.Time{}
	}
	flush := len(d.Suppressed) > 0 && (!now.Before(next(d)) || len(d.Suppressed)+len(all) > maxSuppressed)
	if !flush && !slices.ContainsFunc(all, func(n Notification) bool { return left(d, n) > 0 }) {
		for _, n := range all {
			d.Suppressed = append(d.Suppressed, suppressed(n))
			if d.Since.IsZero() {
				d.Since = now
			}
		}
		d.Next = next(d)
		return d, nil
	}

	due = slices.Clone(all)
	for i, n := range all {
		if reminder(n) {
			continue
		}
		if due[i].Repeated = left(d, n) == 1; due[i].Repeated && d.Since.IsZero() {
			d.Since = now
		}
		if ofRole(n.Kind) {
			d.Changes = append(d.Changes, now)
		} else {
			d.Mailed = withMailed(d.Mailed, keyOf(n), now)
		}
	}
	if len(d.Suppressed) > 0 {
		due = append(due, Notification{Kind: Flapping, Time: now, Suppressed: d.Suppressed})
		for _, n := range d.Suppressed {
			if !ofRole(Kind(n.Kind)) {
				d.Mailed = withMailed(d.Mailed, n.Kind, n.Time)
			}
		}
		d.Suppressed, d.Since, d.Next = nil, now, time.Time{}
	}
	return d, due
}

// ofRole says whether the notification is a change of role, or a failed one.
func ofRole(k Kind) bool {
	switch k {
	case TookOver, TakeoverFailed, Released, ReleaseFailed, Removed, Restored, UpdateFailed:
		return true
	}
	return false
}

// left is how many notifications such as n may still be mailed at once within the
// hour, n included.
func left(d state.Damping, n Notification) int {
	switch {
	case reminder(n):
		return 1
	case ofRole(n.Kind):
		return max(0, maxChanges-len(d.Changes))
	}
	i := slices.IndexFunc(d.Mailed, func(t state.MailedKind) bool { return t.Kind == keyOf(n) })
	switch {
	case i < 0:
		return 2
	case d.Mailed[i].Again:
		return 0
	}
	return 1
}

// next is when the suppressed notifications are mailed; zero where there are none.
func next(d state.Damping) time.Time {
	if len(d.Suppressed) == 0 {
		return time.Time{}
	}
	return earlier(d.Since.Add(dampFor), d.Suppressed[len(d.Suppressed)-1].Time.Add(calmFor))
}

// recent is a copy of d without what was mailed an hour ago or earlier. Times in
// the future were written before the clock was set back, and count as now, as
// in TrackAlerts.
func recent(d state.Damping, now time.Time) state.Damping {
	d.Mailed, d.Suppressed, d.Changes = slices.Clone(d.Mailed), slices.Clone(d.Suppressed), slices.Clone(d.Changes)
	for i := range d.Mailed {
		d.Mailed[i].Time = earlier(d.Mailed[i].Time, now)
	}
	for i := range d.Changes {
		d.Changes[i] = earlier(d.Changes[i], now)
	}
	d.Mailed = slices.DeleteFunc(d.Mailed, func(t state.MailedKind) bool { return now.Sub(t.Time) >= dampFor })
	d.Changes = slices.DeleteFunc(d.Changes, func(t time.Time) bool { return now.Sub(t) >= dampFor })
	d.Since = earlier(d.Since, now)
	return d
}

// reminder says whether the notification is an alert that was mailed before.
func reminder(n Notification) bool {
	return n.Alert.Kind == string(n.Kind) && !n.Alert.Mailed.Equal(n.Alert.Since)
}

// keyOf is what a repetition has in common: the kind, and of blocked the rule.
func keyOf(n Notification) string {
	if n.Kind == Blocked && n.Alert.Rule > 0 {
		return fmt.Sprintf("%s by rule %d", n.Kind, n.Alert.Rule)
	}
	return string(n.Kind)
}

// withMailed is list with the time of the newest notification of the kind that
// was mailed. For a suppressed one that is its own time, not that of the
// message: after a quiet hour the next is no repetition.
func withMailed(list []state.MailedKind, kind string, at time.Time) []state.MailedKind {
	i := slices.IndexFunc(list, func(t state.MailedKind) bool { return t.Kind == kind })
	if i < 0 {
		return append(list, state.MailedKind{Kind: kind, Time: at})
	}
	list[i].Again = true
	if at.After(list[i].Time) {
		list[i].Time = at
	}
	return list
}

// suppressed is what the record keeps of a suppressed notification.
func suppressed(n Notification) state.Suppressed {
	reason := n.Reason
	switch n.Kind {
	case Recovered:
		reason = n.Alert.Kind + " resolved: " + reason
	case HookFailed:
		reason = cmp.Or(n.Hook, "hook") + ": " + reason
	}
	return state.Suppressed{Time: n.Time, Kind: string(n.Kind), Event: n.Event, Reason: oneLine(reason, maxReason)}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
