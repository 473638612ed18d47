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

// Damp says which of the news are mailed now, in one letter, and what is
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
func Damp(d state.Damping, news []News, now time.Time) (after state.Damping, tell []News) {
	d = recent(d, now)
	over := now.Sub(d.Since) >= dampFor || len(d.Gathered) > 0 && now.Sub(d.Gathered[len(d.Gathered)-1].Time) >= calmFor
	if over && len(d.Gathered) == 0 {
		d.Since = time.Time{}
	}

	repeats := func(n News) bool { return !reminder(n) && mailed(d, keyOf(n)) }
	fresh := slices.ContainsFunc(news, func(n News) bool { return !repeats(n) })
	begins := d.Since.IsZero() && slices.ContainsFunc(news, repeats)
	due := len(d.Gathered) > 0 && (over || len(d.Gathered)+len(news) > maxGathered)
	if !fresh && !begins && !due {
		for _, n := range news {
			d.Gathered = append(d.Gathered, note(n))
		}
		return d, nil
	}

	tell = slices.Clone(news)
	for i, n := range news {
		tell[i].Again = begins && repeats(n)
	}
	for _, n := range news {
		if !reminder(n) {
			d.Told = told(d.Told, keyOf(n), now)
		}
	}
	if len(d.Gathered) > 0 {
		tell = append(tell, News{Kind: Flapping, Time: now, Gathered: d.Gathered})
		for _, n := range d.Gathered {
			d.Told = told(d.Told, n.Kind, n.Time)
		}
		d.Gathered, d.Since = nil, now
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
	d.Told, d.Gathered = slices.Clone(d.Told), slices.Clone(d.Gathered)
	for i := range d.Told {
		d.Told[i].Time = earlier(d.Told[i].Time, now)
	}
	d.Told = slices.DeleteFunc(d.Told, func(t state.Told) bool { return now.Sub(t.Time) >= dampFor })
	d.Since = earlier(d.Since, now)
	return d
}

// reminder says whether the news is a trouble of which a letter went before.
func reminder(n News) bool {
	return n.Trouble.Kind == string(n.Kind) && !n.Trouble.Mailed.Equal(n.Trouble.Since)
}

// mailed says whether news of the kind went within the hour.
func mailed(d state.Damping, key string) bool {
	return slices.ContainsFunc(d.Told, func(t state.Told) bool { return t.Kind == key })
}

// keyOf is what counts as the same news: the kind; that switching was refused is
// another thing for each rule that refuses.
func keyOf(n News) string {
	if n.Kind == Blocked && n.Trouble.Rule > 0 {
		return fmt.Sprintf("%s by rule %d", n.Kind, n.Trouble.Rule)
	}
	return string(n.Kind)
}

// told is list with the time of the newest news of the kind that was mailed.
// For what was gathered that is when it came, not when its letter went: after
// an hour of silence the next one is no repetition.
func told(list []state.Told, kind string, at time.Time) []state.Told {
	i := slices.IndexFunc(list, func(t state.Told) bool { return t.Kind == kind })
	if i < 0 {
		return append(list, state.Told{Kind: kind, Time: at})
	}
	if at.After(list[i].Time) {
		list[i].Time = at
	}
	return list
}

// note is what is kept of news that is gathered.
func note(n News) state.Note {
	reason := n.Reason
	switch n.Kind {
	case Recovered:
		reason = n.Trouble.Kind + " is over: " + reason
	case HookFailed:
		reason = cmp.Or(n.Hook, "hook") + ": " + reason
	}
	return state.Note{Time: n.Time, Kind: string(n.Kind), Event: n.Event, Reason: oneLine(reason, maxNoted)}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
