package run

import (
	"context"
	"errors"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
)

// Ping is check.Ping, or shares its rounds.
type Ping func(context.Context, check.Pings) check.Round

// Round makes round n of pings to one address of the host, and reports it;
// several: the host has others.
func (r *Run) Round(ctx context.Context, n int, host string, several bool, pings check.Pings, ping Ping) (check.Round, state.Round) {
	pings.OnReply = func(seq int, rtt time.Duration) {
		r.Event(Replied{N: n, Seq: seq, Address: pings.Address, RTT: rtt})
	}
	r.Event(RoundBegan{N: n, Host: host, Address: pings.Address, Count: pings.Count, Interval: pings.Interval, Timeout: pings.Timeout})
	round := ping(ctx, pings)
	for range config.MaxStalls {
		if !errors.Is(round.Err, check.ErrStalled) || ctx.Err() != nil {
			break
		}
		r.Infof("round %d: %v: it is repeated", n, round.Err)
		round = ping(ctx, pings)
	}
	shown := state.RoundOf(n, pings.Address, round)
	if ctx.Err() == nil {
		r.Event(RoundEnded{N: n, Several: several, Round: shown})
	}
	return round, shown
}
