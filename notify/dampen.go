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
// A kind that was not mailed within the hour is mailed at once. So is its first
// repetition within the hour, with Repeated set. From then on repetitions are
// suppressed for an hour, or until there was none for 15 minutes, and then
// mailed together as Flapping, until an hour brings no repetition. A message
// that is sent anyway includes the other notifications of its run and the
// suppressed ones. So an hour of flapping makes at most one message per kind,
// and one more; two kinds that alternate make three. Each calm quarter of an
// hour makes one more.
//
// Reminders are as frequent as configured, and not damped.
func Dampen(d state.Damping, all []Notification, now time.Time) (after state.Damping, due []Notification) {
	d = recent(d, now)
	ends := now.Sub(d.Since) >= dampFor || len(d.Suppressed) > 0 && now.Sub(d.Suppressed[len(d.Suppressed)-1].Time) >= calmFor
	if ends && len(d.Suppressed) == 0 {
		d.Since = time.Time{}
	}

	repeats := func(n Notification) bool { return !reminder(n) && mailed(d, keyOf(n)) }
	fresh := slices.ContainsFunc(all, func(n Notification) bool { return !repeats(n) })
	begins := d.Since.IsZero() && slices.ContainsFunc(all, repeats)
	flush := len(d.Suppressed) > 0 && (ends || len(d.Suppressed)+len(all) > maxSuppressed)
	if !fresh && !begins && !flush {
		for _, n := range all {
			d.Suppressed = append(d.Suppressed, suppressed(n))
		}
		return d, nil
	}

	due = slices.Clone(all)
	for i, n := range all {
		due[i].Repeated = begins && repeats(n)
	}
	for _, n := range all {
		if !reminder(n) {
			d.Mailed = withMailed(d.Mailed, keyOf(n), now)
		}
	}
	if len(d.Suppressed) > 0 {
		due = append(due, Notification{Kind: Flapping, Time: now, Suppressed: d.Suppressed})
		for _, n := range d.Suppressed {
			d.Mailed = withMailed(d.Mailed, n.Kind, n.Time)
		}
		d.Suppressed, d.Since = nil, now
	}
	if begins {
		d.Since = now
	}
	return d, due
}

// recent is a copy of d without what was mailed an hour ago or earlier. Times in
// the future were written before the clock was set back, and count as now, as
// in TrackAlerts.
func recent(d state.Damping, now time.Time) state.Damping {
	d.Mailed, d.Suppressed = slices.Clone(d.Mailed), slices.Clone(d.Suppressed)
	for i := range d.Mailed {
		d.Mailed[i].Time = earlier(d.Mailed[i].Time, now)
	}
	d.Mailed = slices.DeleteFunc(d.Mailed, func(t state.MailedKind) bool { return now.Sub(t.Time) >= dampFor })
	d.Since = earlier(d.Since, now)
	return d
}

// reminder says whether the notification is an alert that was mailed before.
func reminder(n Notification) bool {
	return n.Alert.Kind == string(n.Kind) && !n.Alert.Mailed.Equal(n.Alert.Since)
}

// mailed says whether the kind was mailed within the hour.
func mailed(d state.Damping, key string) bool {
	return slices.ContainsFunc(d.Mailed, func(t state.MailedKind) bool { return t.Kind == key })
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
