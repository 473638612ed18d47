package check

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Process shares equal rounds of pings between the clusters of one process. A
// raw socket receives the replies to all others: 300 clusters that each pinged
// the same witness while they waited for 600 silent addresses read half a
// million replies, and 13 found the witness silent. The zero Process is ready.
type Process struct {
	// Keep keeps the sockets open between rounds, for a process that makes many. It
	// is set before the first.
	Keep bool

	mu     sync.Mutex
	rounds map[roundKey]*sharedRound
	recent []*sharedRound // of these, in the order in which they begin

	errors icmpErrors
	echoes echoes

	permitted atomic.Bool
	sender    func(context.Context, Pings) Round // instead of the network; set by tests
}

// shareWindow is the minimum time between two shared rounds that are equal.
const shareWindow = 50 * time.Millisecond

// roundKey is what makes two rounds equal.
type roundKey struct {
	address, source   netip.Addr
	count             int
	interval, timeout time.Duration
}

// sharedRound is one round for all callers that asked for it before it began.
type sharedRound struct {
	key    roundKey
	begins time.Time
	users  int
	cancel context.CancelFunc
	done   chan struct{}
	round  Round
}

// Ping is the function Ping. Equal rounds that are asked for at the same time
// are sent once: such a round begins after the call, at most 50 ms later. A
// round with OnReply or OnSend is never shared.
func (p *Process) Ping(ctx context.Context, pings Pings) Round {
	if pings.OnReply != nil || pings.OnSend != nil {
		return p.send(ctx, pings)
	}
	shared := p.join(pings)
	select {
	case <-shared.done:
		return shared.round
	case <-ctx.Done():
		p.leave(shared)
		return p.send(ctx, pings) // sends nothing, returns the context's error
	}
}

func (p *Process) send(ctx context.Context, pings Pings) Round {
	if p.sender != nil {
		return p.sender(ctx, pings)
	}
	lib := goPing(&p.errors)
	if p.Keep {
		p.errors.keepOpen()
		lib = p.echoes.library(&p.errors, lib)
	}
	return pingBy(ctx, pings, lib)
}

func (p *Process) join(pings Pings) *sharedRound {
	p.mu.Lock()
	defer p.mu.Unlock()
	key, now := roundKey{pings.Address, pings.Source, pings.Count, pings.Interval, pings.Timeout}, time.Now()
	last, known := p.rounds[key]
	if known && last.users > 0 && last.begins.After(now) {
		last.users++
		return last
	}
	ctx, cancel := context.WithCancel(context.Background())
	next := &sharedRound{key: key, begins: now, users: 1, cancel: cancel, done: make(chan struct{})}
	if known && now.Sub(last.begins) < shareWindow {
		next.begins = last.begins.Add(shareWindow)
	}
	if p.rounds == nil {
		p.rounds = map[roundKey]*sharedRound{}
	}
	p.forget(now)
	p.rounds[key], p.recent = next, append(p.recent, next)
	go func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next.begins)):
		}
		next.round = p.send(ctx, pings)
		close(next.done)
	}()
	return next
}

// forget forgets the rounds that nobody joins any more, and that are no longer to be
// kept apart from the next.
func (p *Process) forget(now time.Time) {
	for len(p.recent) > 0 && now.Sub(p.recent[0].begins) >= shareWindow {
		if old := p.recent[0]; p.rounds[old.key] == old {
			delete(p.rounds, old.key)
		}
		p.recent = p.recent[1:]
	}
}

// leave removes a caller from a round; without callers the round ends.
func (p *Process) leave(shared *sharedRound) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared.users--; shared.users == 0 {
		shared.cancel()
	}
}
