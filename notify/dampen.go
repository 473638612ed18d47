package notify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"pingover/state"
)

const (
	// dampFor is the time within which news of the same kind is a repetition,
	// and for which repetitions are gathered.
	dampFor = time.Hour
	// calmFor without a repetition is the end of it: what has become of it all
	// is told without waiting for the hour.
	calmFor = 15 * time.Minute
	// maxGathered pieces of news make a letter before that time is over: the
	// record stays small, and nothing is left out of the letter.
	maxGathered = 120
	// maxNoted is the length of a gathered reason, in characters.
	maxNoted = 160
)

// Dampen says which of the news are mailed now, in one letter, and what is
// remembered of them. After takes the place of d; both go into the record in
// the same write as the letter. It is asked in every run, also without news,
// for what was gathered falls due by time alone.
//
// News of a kind that was not mailed within the hour goes at once. So does the
// first repetition within the hour, marked Again. From then on what repeats is
// gathered for an hour, or until it has been calm for a quarter of one, and then
// told in one letter, as Flapping, until an hour brings nothing to gather. A
// letter that goes anyway takes along the other news of its run and what was
// gathered. So in an hour in which it is never calm there are at most as many
// letters as there were kinds of news, and one; two kinds that alternate make
// three. Each calm quarter makes one more.
//
// Reminders are as frequent as the operator asked for: they are not damped.
func Dampen(d state.Damping, news []Notification, now time.Time) (after state.Damping, tell []Notification) {
	d = recent(d, now)
	over := now.Sub(d.Since) >= dampFor || len(d.Suppressed) > 0 && now.Sub(d.Suppressed[len(d.Suppressed)-1].Time) >= calmFor
	if over && len(d.Suppressed) == 0 {
		d.Since = time.Time{}
	}

	repeats := func(n Notification) bool { return !reminder(n) && mailed(d, keyOf(n)) }
	fresh := slices.ContainsFunc(news, func(n Notification) bool { return !repeats(n) })
	begins := d.Since.IsZero() && slices.ContainsFunc(news, repeats)
	due := len(d.Suppressed) > 0 && (over || len(d.Suppressed)+len(news) > maxGathered)
	if !fresh && !begins && !due {
		for _, n := range news {
			d.Suppressed = append(d.Suppressed, note(n))
		}
		return d, nil
	}

	tell = slices.Clone(news)
	for i, n := range news {
		tell[i].Repeated = begins && repeats(n)
	}
	for _, n := range news {
		if !reminder(n) {
			d.Mailed = told(d.Mailed, keyOf(n), now)
		}
	}
	if len(d.Suppressed) > 0 {
		tell = append(tell, Notification{Kind: Flapping, Time: now, Suppressed: d.Suppressed})
		for _, n := range d.Suppressed {
			d.Mailed = told(d.Mailed, n.Kind, n.Time)
		}
		d.Suppressed, d.Since = nil, now
	}
	if begins {
		d.Since = now
	}
	return d, tell
}

// recent is a copy of d without what was told an hour ago or earlier. What
// lies in the future was written before the clock was set back: as in Follow
// it is taken for new, which costs an hour's delay, neither a letter in each
// run nor silence until the clock is where it was.
func recent(d state.Damping, now time.Time) state.Damping {
	d.Mailed, d.Suppressed = slices.Clone(d.Mailed), slices.Clone(d.Suppressed)
	for i := range d.Mailed {
		d.Mailed[i].Time = earlier(d.Mailed[i].Time, now)
	}
	d.Mailed = slices.DeleteFunc(d.Mailed, func(t state.MailedKind) bool { return now.Sub(t.Time) >= dampFor })
	d.Since = earlier(d.Since, now)
	return d
}

// reminder says whether the news is a trouble of which a letter went before.
func reminder(n Notification) bool {
	return n.Alert.Kind == string(n.Kind) && !n.Alert.Mailed.Equal(n.Alert.Since)
}

// mailed says whether news of the kind went within the hour.
func mailed(d state.Damping, key string) bool {
	return slices.ContainsFunc(d.Mailed, func(t state.MailedKind) bool { return t.Kind == key })
}

// keyOf is what counts as the same news: the kind; that switching was refused is
// another thing for each rule that refuses.
func keyOf(n Notification) string {
	if n.Kind == Blocked && n.Alert.Rule > 0 {
		return fmt.Sprintf("%s by rule %d", n.Kind, n.Alert.Rule)
	}
	return string(n.Kind)
}

// told is list with the time of the newest news of the kind that was mailed.
// For what was gathered that is when it came, not when its letter went: after
// an hour of silence the next one is no repetition.
func told(list []state.MailedKind, kind string, at time.Time) []state.MailedKind {
	i := slices.IndexFunc(list, func(t state.MailedKind) bool { return t.Kind == kind })
	if i < 0 {
		return append(list, state.MailedKind{Kind: kind, Time: at})
	}
	if at.After(list[i].Time) {
		list[i].Time = at
	}
	return list
}

// note is what is kept of news that is gathered.
func note(n Notification) state.Suppressed {
	reason := n.Reason
	switch n.Kind {
	case Recovered:
		reason = n.Alert.Kind + " is over: " + reason
	case HookFailed:
		reason = cmp.Or(n.Hook, "hook") + ": " + reason
	}
	return state.Suppressed{Time: n.Time, Kind: string(n.Kind), Event: n.Event, Reason: oneLine(reason, maxNoted)}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
