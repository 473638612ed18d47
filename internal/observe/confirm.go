package observe

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"pingover/internal/config"
)

// claimed is how often an address was claimed, between questions, and when last.
type claimed struct {
	at    time.Time
	times int
}

// confirm asks once more where a claim was one frame that was not repeated, which
// may be forged or that of a machine that has gone, and where frames were lost. A
// new holder that hears no question of ours, as across a one-way cut, still
// announces itself again: so it is listened for until that must have been heard.
// What is silent then is not in use. A new holder of whose announcements only the
// last was heard, as with announce 1 or where frames are lost, is not noticed.
func (g *guards) confirm() {
	ctx := context.WithoutCancel(g.ctx)
	lost := false
	for range config.Rechecks {
		single, before := g.single(), g.n.Lost()
		if lost = before != g.lost; !lost && len(single) == 0 {
			return
		}
		g.lost, g.asked = before, time.Now()
		end := g.asked.Add(holdGuard)
		for _, a := range single {
			if again := g.claimed[a].at.Add(config.RepeatPatience); again.After(end) {
				end = again
			}
		}
		for left := time.Until(end); left > 0; left = time.Until(end) {
			g.askAll(left <= holdGuard/LeastAsks)
			if g.n.Wait(ctx, min(left, holdGuard/LeastAsks), func() bool { return len(single) > 0 && len(g.single()) == 0 }) {
				break
			}
		}
		if lost = g.n.Lost() != before; lost {
			continue
		}
		young := false // claimed meanwhile
		g.replies.ignore = map[netip.Addr]time.Time{}
		for _, a := range g.single() {
			if time.Since(g.claimed[a].at) < config.RepeatPatience {
				young = true
			} else {
				g.replies.ignore[a] = g.asked
			}
		}
		if !young {
			return
		}
	}
	if lost {
		g.fault(errors.New("replies were lost: more ARP or ND frames came than could be read"))
	}
}

// count notes how often an address was claimed since the last question. A reply to
// it and an announcement are two claims; both frames of an announcement are one;
// several announcements are several, even if this run stood still meanwhile and
// asked nothing between them.
func (g *guards) count() {
	for _, a := range append(g.local.Addresses(), g.local.hosts()...) {
		for _, claim := range g.n.ClaimsOf(a, g.replies.since) {
			for _, at := range []time.Time{claim.Earlier, claim.At} {
				if at.After(g.claimed[a].at) && !at.Before(g.replies.since) {
					g.claimed[a] = claimed{at, g.claimed[a].times + 1}
				}
			}
		}
	}
}

// single are the addresses that were claimed once, before the last question.
func (g *guards) single() (addrs []netip.Addr) {
	g.count()
	for a, c := range g.claimed {
		if c.times == 1 && c.at.Before(g.asked) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
