package cli

import (
	"fmt"
	"strings"
	"time"

	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/internal/term"
	"pingover/state"
)

// screen is where the commands write, and the line below that shows the check
// that is followed.
type screen struct {
	term.Line
	colors term.Colors
	rounds rounds
}

// follow draws the check of a cluster. Only one cluster is followed.
func (s *screen) follow(cluster string, event any) {
	if s == nil || !s.Draws {
		return
	}
	cluster, now := short(cluster), time.Now()
	switch e := event.(type) {
	case run.RoundBegan:
		s.rounds = rounds{cluster: cluster, RoundBegan: e, began: now}
		s.Draw(s.rounds.frame)
	case run.Replied:
		s.rounds.replied, s.rounds.ended = e.Seq, now
		s.Draw(s.rounds.frame)
	case run.RoundEnded:
		dots, _ := s.rounds.frame(now)
		s.Draw(term.Still(dots + " " + term.Printable(e.Round.Verdict)))
	case run.Waiting:
		s.Draw(countdown(now.Add(e.For), func(left string) string {
			return fmt.Sprintf("%s: waiting %s: %s", cluster, left, term.Printable(e.Why))
		}))
	case failover.Decided:
		s.Draw(term.Still(cluster + ": decision: " + colored(s.colors, e.Decision.Outcome)))
	case run.Stage:
		s.Draw(term.Still(cluster + ": " + term.Printable(string(e))))
	case balance.Decided:
		s.Draw(term.Still(cluster + ": decision: " + colored(s.colors, e.Decision.Outcome)))
	}
}

// between draws how a check ended, until the next begins.
func (s *screen) between(r ending, next time.Time) {
	s.Draw(countdown(next, func(left string) string {
		found := after(r.Outcome, term.Printable(r.brief()))
		return fmt.Sprintf("%s: %s%s; next check in %s", short(r.Task), colored(s.colors, r.Outcome), found, left)
	}))
}

// after is what comes after an outcome: the reason, unless it begins with the
// outcome as in "holding 172.16.0.1".
func after(o state.Outcome, why string) string {
	if rest, both := strings.CutPrefix(why, string(o)); both || why == "" {
		return rest
	}
	return ", " + why
}

// short is a cluster's name that leaves room for the pings or the outcome on a
// terminal of 40 columns.
func short(cluster string) string {
	const longest = 12
	if len(cluster) <= longest { // of ASCII only
		return cluster
	}
	return cluster[:longest-1] + "…"
}

// countdown is a line with the remaining time in whole seconds, at least one.
func countdown(ends time.Time, text func(left string) string) term.Frame {
	return func(now time.Time) (string, time.Duration) {
		left := max(ends.Sub(now), 1)
		whole := (left + time.Second - 1).Truncate(time.Second)
		if whole == time.Second {
			return text("1s"), 0
		}
		return text(config.DurationText(whole)), left - whole + time.Second
	}
}

// rounds is the state of a drawn round of pings. The first reply ends it.
type rounds struct {
	cluster string
	run.RoundBegan
	began   time.Time
	replied int       // number of the ping that got a reply; 0 for none
	ended   time.Time // at that reply
}

// frame shows a circle for each ping that was sent, filled if it got a reply, and
// a dot for each that was not.
func (r rounds) frame(now time.Time) (string, time.Duration) {
	if r.replied > 0 {
		now = r.ended
	}
	interval := max(r.Interval, 1)
	left := min(r.Count, 1+int(now.Sub(r.began)/interval))
	stays := r.began.Add(time.Duration(left) * interval).Sub(now)
	if left == r.Count || r.replied > 0 {
		stays = 0
	}
	var dots strings.Builder
	for n := 1; n <= r.Count; n++ {
		switch {
		case n == r.replied:
			dots.WriteString("●")
		case n <= left:
			dots.WriteString("○")
		default:
			dots.WriteString("·")
		}
	}
	return fmt.Sprintf("%s: round %d: %s %s", r.cluster, r.N, r.Address, dots.String()), stays
}

// colored is an outcome in its colour: green, yellow for what is unusual and
// no fault, red.
func colored(c term.Colors, o state.Outcome) string {
	switch o {
	case state.OK:
		return c.Green(string(o))
	case state.Holding, state.TookOver, state.Released, state.Elsewhere, state.Reduced, state.Removed, state.Restored, exit.BusyOutcome:
		return c.Yellow(string(o))
	}
	return c.Red(string(o))
}
