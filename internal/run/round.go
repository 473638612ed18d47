package run

import (
	"context"
	"time"

	"pingover/check"
	"pingover/state"
)

// Ping is check.Ping, or shares its rounds.
type Ping func(context.Context, check.Pings) check.Round

// Round makes round n of pings to the host, and reports it.
func (r *Run) Round(ctx context.Context, n int, host string, pings check.Pings, ping Ping) (check.Round, state.Round) {
	pings.OnReply = func(seq int, rtt time.Duration) { r.Event(Replied{N: n, Seq: seq, RTT: rtt}) }
	r.Event(RoundBegan{N: n, Host: host, Address: pings.Address, Count: pings.Count, Interval: pings.Interval, Timeout: pings.Timeout})
	round := ping(ctx, pings)
	shown := evidence(round)
	if ctx.Err() == nil {
		r.Event(RoundEnded{N: n, Round: shown})
	}
	return round, shown
}

// evidence is a round as the record keeps it.
func evidence(round check.Round) state.Round {
	shown := state.Round{Verdict: round.Verdict.String(), Sent: round.Sent, Received: round.Received}
	if round.Received > 0 {
		ms := float64(round.RTT.Microseconds()) / 1000
		shown.RTT = &ms
	}
	if round.Err != nil {
		text := round.Err.Error()
		shown.Error = &text
	}
	return shown
}

// PingsWithin are a few pings, spread over so long.
func PingsWithin(d time.Duration) check.Pings {
	const pings = 5
	each := max(d/(pings+1), 10*time.Millisecond)
	return check.Pings{Count: pings, Interval: each, Timeout: each}
}
