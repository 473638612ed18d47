package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/state"
)

// screen is where several write, one at a time, each whole lines. On a terminal
// that can redraw there is one more line, below all others, which shows what is
// being done right now; elsewhere nothing is ever drawn.
type screen struct {
	draws, color bool

	mu     sync.Mutex
	out    io.Writer
	frame  frame       // nil: no line is drawn
	drawn  string      // that line, as it stands there
	timer  *time.Timer // draws it anew
	rounds rounds      // of the check that is followed
}

// frame is what the drawn line shows at a moment, and after how long that is
// another: 0 for never.
type frame func(now time.Time) (text string, stays time.Duration)

// Write prints lines that stay.
func (s *screen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drawn == "" {
		return s.out.Write(lines)
	}
	_, err := io.WriteString(s.out, erased+string(lines)+s.drawn)
	return len(lines), err
}

// Control sequences (ECMA-48, and DECAWM of the VT100): erased clears the line
// that is drawn; a line that is too long is cut at the margin, for only one
// that takes up one row can be erased.
const (
	erased  = "\r\033[K"
	cut     = "\033[?7l"
	wrapped = "\033[?7h"
)

// show draws a line in place of the one before it.
func (s *screen) show(f frame) {
	if !s.draws {
		return
	}
	s.mu.Lock()
	s.frame = f
	s.mu.Unlock()
	s.redraw()
}

// redraw brings the line up to date, now and when it will have changed.
func (s *screen) redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frame == nil {
		return
	}
	text, stays := s.frame(time.Now())
	if line := cut + text + wrapped; line != s.drawn {
		before := ""
		if s.drawn != "" {
			before = erased
		}
		s.drawn = line
		_, _ = io.WriteString(s.out, before+line) // whoever closed the terminal sees nothing
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if stays > 0 {
		s.timer = time.AfterFunc(stays, s.redraw)
	}
}

// clear takes the line away.
func (s *screen) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frame = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.drawn != "" {
		s.drawn = ""
		_, _ = io.WriteString(s.out, erased)
	}
}

// follow draws what the check of a cluster tells. Only one cluster is followed.
func (s *screen) follow(cluster string, event any) {
	if s == nil || !s.draws {
		return
	}
	cluster, now := short(cluster), time.Now()
	switch e := event.(type) {
	case run.RoundBegan:
		s.rounds = rounds{cluster: cluster, RoundBegan: e, began: now}
		s.show(s.rounds.frame)
	case run.Replied:
		s.rounds.replied, s.rounds.ended = e.Seq, now
		s.show(s.rounds.frame)
	case run.RoundEnded:
		dots, _ := s.rounds.frame(now)
		s.show(still(dots + " " + oneLine(e.Round.Verdict)))
	case run.Waiting:
		s.show(countdown(now.Add(e.For), func(left string) string {
			return fmt.Sprintf("%s: waiting %s: %s", cluster, left, oneLine(e.Why))
		}))
	case failover.Decided:
		s.show(still(cluster + ": decision: " + colored(s.color, e.Decision.Outcome)))
	}
}

// between draws how a check ended, until the next begins.
func (s *screen) between(r failover.Report, next time.Time) {
	s.show(countdown(next, func(left string) string {
		found := behind(r.Outcome, oneLine(briefly(r)))
		return fmt.Sprintf("%s: %s%s; next check in %s", short(r.Cluster), colored(s.color, r.Outcome), found, left)
	}))
}

// behind is what stands behind an outcome: why, where there is more to say than
// "holding 172.16.0.1", which is both.
func behind(o state.Outcome, why string) string {
	if rest, both := strings.CutPrefix(why, string(o)); both || why == "" {
		return rest
	}
	return ", " + why
}

// short is a cluster's name that leaves room, on a terminal of 40 columns, for
// the pings or the outcome behind it.
func short(cluster string) string {
	const longest = 12
	if len(cluster) <= longest { // of ASCII only
		return cluster
	}
	return cluster[:longest-1] + "…"
}

// briefly is what was found, in a few words.
func briefly(r failover.Report) string {
	switch {
	case r.Outcome == state.OK && len(r.Rounds) > 0 && r.Rounds[len(r.Rounds)-1].RTT != nil:
		rtt := *r.Rounds[len(r.Rounds)-1].RTT * float64(time.Millisecond)
		return fmt.Sprintf("%s answers in %s", r.Host, milliseconds(time.Duration(rtt)))
	case r.Error != nil && r.Reason == "":
		return *r.Error
	}
	return r.Reason
}

// still is a line that stays as it is.
func still(text string) frame { return func(time.Time) (string, time.Duration) { return text, 0 } }

// countdown is a line with the time that is left in it, in whole seconds; it ends
// with the last of them.
func countdown(ends time.Time, text func(left string) string) frame {
	return func(now time.Time) (string, time.Duration) {
		left := max(ends.Sub(now), 1)
		whole := (left + time.Second - 1).Truncate(time.Second)
		if whole == time.Second {
			return text("1s"), 0
		}
		return text(config.DurationText(whole)), left - whole + time.Second
	}
}

// rounds is a round of pings as it is drawn. The first reply ends it.
type rounds struct {
	cluster string
	run.RoundBegan
	began   time.Time
	replied int       // number of the ping that was answered; 0 for none
	ended   time.Time // by that reply
}

// frame shows a circle for each ping that has left, filled where it was
// answered, and a dot for each that has not.
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

// colored is an outcome in its colour, where there are colours (ECMA-48: SGR):
// green, yellow for what is another than usual and no fault, red.
func colored(color bool, o state.Outcome) string {
	with := "31"
	switch o {
	case state.OK:
		with = "32"
	case state.Holding, state.TookOver, state.Released, state.Elsewhere, busy:
		with = "33"
	}
	if !color {
		return string(o)
	}
	return "\033[" + with + "m" + string(o) + "\033[0m"
}
