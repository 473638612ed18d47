package failover

import (
	"context"
	"net"
	"net/netip"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

// announce tells the clients once that the addresses are here.
func (a *actor) announce(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.announceAt(addr, nil)
	}
}

// announceOthers tells the clients by proxy which machines have what was released
// here, where any was heard: a machine that boots does not announce itself, and
// half a minute would pass before the clients ask again.
func (a *actor) announceOthers(addrs []netip.Addr) {
	for n := range a.j.set.Announce {
		if n > 0 {
			time.Sleep(config.AnnounceEvery)
		}
		if !a.announceClaims(addrs) {
			return
		}
	}
}

// announceClaims tells the clients once; false: nobody was heard.
func (a *actor) announceClaims(addrs []netip.Addr) (any bool) {
	for _, addr := range addrs {
		if claim, ok := a.asker.Holder(addr, a.done.Obs.replies.since); ok {
			a.announceAt(claim.Address, claim.MAC)
			any = true
		}
	}
	return any
}

// announceAt tells the clients once that the address is at that MAC; nil is this
// machine's.
func (a *actor) announceAt(addr netip.Addr, mac net.HardwareAddr) {
	t := a.done.Obs.target(addr)
	if a.j.set.Announce == 0 {
		return
	}
	at, sent, err := a.asker.Announce(t, mac)
	switch {
	case err != nil:
		a.j.Infof("%s could not be announced on %s: %v; clients may take a minute to find it", addr, t.Interface, err)
	case sent:
		a.j.Event(Announced{Address: addr, Interface: t.Interface, MAC: at.String()})
	}
}

// announceOn repeats the first announcement until there were as many as the
// setting says, asking each time for a conflict; others are announced beside it,
// where other machines have them. It returns the conflicting host to which this
// machine must yield, if there is one, and whether that was waited for to yield
// itself. A signal ends it early. What was taken manually and by force is not
// released at once: the next check observes whether the conflict has gone.
func (a *actor) announceOn(ctx context.Context, addrs []netip.Addr, others ...netip.Addr) (conflict state.Holder, waited bool) {
	for left := a.j.set.Announce - 1; ; left-- {
		a.announceClaims(others)
		since := time.Now()
		askHeld(a.j, a.asker, a.done.Obs.Local)
		a.asker.Wait(ctx, config.AnnounceEvery, func() bool {
			conflict, _ := conflictSince(a.j, a.asker, a.done.Obs.Local, since)
			return conflict.MAC != ""
		})
		conflict, lower := conflictSince(a.j, a.asker, a.done.Obs.Local, since)
		if a.j.opt.Force {
			conflict = state.Holder{}
		}
		waited := conflict.MAC != "" && !lower
		if waited {
			conflict = waitForPeer(context.WithoutCancel(ctx), a.j, a.asker, a.done.Obs.Local, conflict)
		}
		over := left <= 0 || ctx.Err() != nil
		if conflict.MAC != "" || over && !waited {
			return conflict, waited
		}
		a.announce(addrs) // the other may have told the clients otherwise
		if over {
			return state.Holder{}, false
		}
	}
}
