package observe

import (
	"context"
	"sync"
	"time"

	"pingover/check"
)

const (
	// serveGuard is how long the link is asked who serves the virtual IPs while
	// the primary replies. Where they are served, it takes one round trip.
	serveGuard = 900 * time.Millisecond
	serveAsks  = 9
)

// serving is who serves the virtual IPs while the primary replies.
type serving struct {
	n       *Network
	local   Local
	ctx     context.Context
	cancel  context.CancelFunc
	pings   sync.WaitGroup
	replied []bool
}

// askWhoServes pings the virtual IPs beside the primary. A packet socket costs
// the kernel some 10 ms to close, so none is opened where pings suffice. End has
// to be called in any case.
func (n *Network) askWhoServes(ctx context.Context, o Observation) *serving {
	s := &serving{n: n, local: o.Local, replied: make([]bool, len(o.Aliases))}
	s.ctx, s.cancel = context.WithCancel(ctx)
	if !n.j.Set.DuplicateCheck {
		return s
	}
	for i, a := range o.Aliases {
		source := o.Snapshot.Source(a.Interface, a.Address(), n.j.VIPs())
		s.pings.Go(func() {
			round := n.j.Ping(s.ctx, check.Pings{Address: a.Address(), Source: source, Count: 1, Interval: serveGuard, Timeout: serveGuard / 3})
			s.replied[i] = round.Verdict == check.Up && !n.local(a.Address())
		})
	}
	return s
}

// whoServes is the observation with who serves the virtual IPs, where the pings of
// the primary are over.
func (n *Network) whoServes(ctx context.Context, o Observation) Observation {
	s := n.askWhoServes(ctx, o)
	defer s.end()
	return s.wait(o)
}

// wait is the observation with the replies, for which it asks on the link where
// a ping got none.
func (s *serving) wait(o Observation) Observation {
	if !s.n.j.Set.DuplicateCheck || len(s.local.Aliases) == 0 {
		return o
	}
	s.pings.Wait()
	o = o.withClaims()
	for i, a := range s.local.Aliases {
		addr := a.Address()
		o.replies.asked[addr], o.replies.pinged[addr] = s.replied[i], s.replied[i]
	}
	inUse := func() bool { return s.n.allInUse(o) }
	if inUse() {
		return o
	}
	s.n.Open(s.local.Snapshot)
	for i := range serveAsks {
		for _, t := range s.local.targets() {
			if s.n.Listening(t.Interface) && s.n.Ask(s.local.Snapshot, t, false) == nil {
				o.replies.asked[t.Address] = true
			}
			if i == serveAsks-1 && s.n.NeedsProbe(s.local.Snapshot, t) {
				_ = s.n.Ask(s.local.Snapshot, t, true)
			}
		}
		if s.n.Wait(s.ctx, serveGuard/serveAsks, inUse) {
			return o
		}
	}
	for i, t := range s.local.targets() {
		if s.n.Err(t.Interface) != nil && !s.replied[i] {
			o.replies.asked[t.Address] = false // a reply would not have been heard
		}
	}
	return o
}

func (s *serving) end() {
	s.cancel()
	s.pings.Wait()
}
