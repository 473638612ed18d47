package check

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"pingover/internal/proc"
)

// witnessEdge is the longest a witness has to reply at the start, and at the
// end, of a round.
const witnessEdge = 2 * time.Second

// Witness is a third address that replies when this machine's own network works.
type Witness struct {
	Address netip.Addr
	Link    string // where it is a neighbour; "" where it is not
	// PingOnly: a reply on the link proves too little, because the primary is
	// behind a router.
	PingOnly bool
}

// WitnessReplies is what came of asking a witness.
type WitnessReplies struct {
	Witness
	Start, End string // by what it replied then: ping, arp, nd; "" for silence
	NotAsked   bool   // it could not be asked, at the start or at the end
}

// Good tells whether the witness replied when it counts, and by what: at the
// start and at the end, or where the round was cut short at the start.
func (w WitnessReplies) Good(short bool) (by string, good bool) {
	return cmp.Or(w.End, w.Start), w.Start != "" && (w.End != "" || short)
}

// WitnessAsker asks witnesses beside a round.
type WitnessAsker struct {
	Ping func(context.Context, Pings) Round // is Ping, or shares its rounds
	// Neighbour says by what protocol (arp, nd) the witness has replied to this
	// machine since then, "" where it has not; cannot, that it could not be heard.
	Neighbour func(w Witness, since time.Time) (protocol string, cannot bool)
	Began     time.Time // of the round
	Length    time.Duration
	Once      bool // not at the start and at the end, but at any time
}

// Ask asks one witness. OnStart is called as soon as it has replied.
func (a WitnessAsker) Ask(ctx context.Context, w Witness, onStart func()) WitnessReplies {
	replies := WitnessReplies{Witness: w}
	window := min(witnessEdge, a.Length/3)
	if a.Once {
		window = a.Length
	}
	replies.Start = a.within(ctx, &replies, window)
	if replies.Start != "" {
		onStart()
	}
	if a.Once {
		replies.End = replies.Start
	} else if proc.Sleep(ctx, time.Until(a.Began.Add(a.Length-window))) {
		replies.End = a.within(ctx, &replies, window)
	}
	return replies
}

// within is by what a witness replied within the window. It must have replied to
// this machine: what it sends to others proves nothing where this machine's
// transmitter is broken.
func (a WitnessAsker) within(ctx context.Context, w *WitnessReplies, window time.Duration) string {
	began := time.Now()
	pings := PingsWithin(window)
	pings.Address = w.Address
	round := a.Ping(ctx, pings)
	if round.Verdict == Up {
		return "ping"
	}
	proc.Sleep(ctx, time.Until(began.Add(window)))
	if w.PingOnly {
		w.NotAsked = w.NotAsked || round.Verdict == Unknown && ctx.Err() == nil
		return ""
	}
	protocol, cannot := a.Neighbour(w.Witness, began)
	if protocol == "" && round.Verdict == Unknown && ctx.Err() == nil && cannot {
		w.NotAsked = true
	}
	return protocol
}

// PingsWithin are a few pings, spread over so long.
func PingsWithin(d time.Duration) Pings {
	const pings = 5
	each := max(d/(pings+1), 10*time.Millisecond)
	return Pings{Count: pings, Interval: each, Timeout: each}
}
