package failover

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// announce tells the clients for the first time that the addresses are here, and
// then the witnesses on the link by an ordinary request from them: routers that
// ignore gratuitous ARP learn from that.
func (a *actor) announce(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.announceAt(addr, nil, false)
	}
	for _, addr := range addrs {
		a.askFrom(addr)
	}
}

// announceAgain does so once more. Nobody waits for that, so it is spread: some
// switches shut a port down for too many ARP frames in a second.
func (a *actor) announceAgain(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.announceAt(addr, nil, true)
		a.askFrom(addr)
	}
}

func (a *actor) askFrom(addr netip.Addr) {
	for _, w := range a.witnessesFor(addr) {
		if err := a.n.AskFrom(w, addr); err != nil {
			a.j.Infof("%s could not be asked for from %s: %v", w.Address, addr, err)
		}
	}
}

// witnessesFor are the witnesses on the link of an address.
func (a *actor) witnessesFor(addr netip.Addr) (targets []vip.Target) {
	for _, w := range a.n.Gateways {
		if w.Interface == a.done.Obs.Target(addr).Interface && w.Address.Is4() == addr.Is4() && a.j.Set.Announce > 0 {
			targets = append(targets, w)
		}
	}
	return targets
}

// unreached are those of the addresses from which no witness of their family could
// be asked, by ARP or ND or by ping, although one replies to this machine: their
// clients may not reach them either.
func (a *actor) unreached(ctx context.Context, addrs []netip.Addr, since time.Time) (unreached []netip.Addr) {
	if a.done.Obs.Witness != state.WitnessGood {
		return nil
	}
	for _, addr := range addrs {
		asked, replied := false, slices.ContainsFunc(a.witnessesFor(addr), func(w vip.Target) bool {
			return slices.ContainsFunc(a.n.Claims(w, since), func(r vip.Reply) bool { return state.SameAddress(r.To, addr) })
		})
		for _, w := range a.done.Obs.Witnesses {
			if replied || w.Address.Is4() != addr.Is4() || w.Link != "" && w.Link != a.done.Obs.Target(addr).Interface {
				continue // by another link its reply may come back where strict rp_filter drops it
			}
			asked = true
			pings := run.PingsWithin(observe.LastGuard)
			pings.Address, pings.Source = w.Address, addr
			replied = a.j.Ping(ctx, pings).Verdict == check.Up
		}
		if asked && !replied {
			unreached = append(unreached, addr)
		}
	}
	return unreached
}

// announceOthers tells the clients by proxy which machines have what was released
// here, where any was heard: a machine that boots does not announce itself, and
// half a minute would pass before the clients ask again. The first announcement is
// that of offer, which hears of them.
func (a *actor) announceOthers(addrs []netip.Addr) {
	for n := 1; n < a.j.Set.Announce && a.anyClaimed(addrs); n++ {
		time.Sleep(config.AnnounceEvery)
		a.announceClaims(addrs, true)
	}
}

func (a *actor) anyClaimed(addrs []netip.Addr) bool {
	return len(a.n.Unclaimed(a.done.Obs, addrs)) < len(addrs)
}

// announceClaims tells the clients once which machines have claimed the addresses.
func (a *actor) announceClaims(addrs []netip.Addr, again bool) {
	for _, addr := range addrs {
		if claim, ok := a.n.Claim(a.done.Obs, addr); ok {
			a.announceAt(claim.Address, claim.MAC, again)
		}
	}
}

// announceAt tells the clients once that the address is at that MAC; nil is this
// machine's.
func (a *actor) announceAt(addr netip.Addr, mac net.HardwareAddr, again bool) {
	t := a.done.Obs.Target(addr)
	if a.j.Set.Announce == 0 {
		return
	}
	at, sent, err := a.n.Announce(t, mac, again)
	switch {
	case err != nil:
		a.j.Infof("%s could not be announced on %s: %v; clients may take a minute to find it", addr, t.Interface, err)
	case sent:
		a.j.Event(Announced{Address: addr, Interface: t.Interface, MAC: at.String()})
	}
}

// announceOn repeats the first announcement until there were as many as the
// setting says, asking each time for a conflict; others are announced beside it,
// where other machines have them. It returns the conflicts in which this machine
// must yield, and whether the others were waited for to yield themselves. A signal
// ends it early. What was taken manually and by force is not released at once: the
// next check observes whether the conflict has gone.
func (a *actor) announceOn(ctx context.Context, addrs []netip.Addr, others ...netip.Addr) (conflicts []state.Conflict, waited bool) {
	for left := a.j.Set.Announce - 1; ; left-- {
		a.announceClaims(others, true)
		since := time.Now()
		a.n.AskHeld(a.done.Obs.Local, left <= 0)
		a.n.Wait(ctx, config.AnnounceEvery, func() bool {
			conflicts, _ := a.n.Conflicts(a.done.Obs, since)
			return len(conflicts) > 0
		})
		if conflicts, _ := a.n.Conflicts(a.done.Obs, since); len(conflicts) > 0 && len(conflicts) < len(a.held()) {
			time.Sleep(inFlight) // it may have the others too
		}
		conflicts, lower := a.n.Conflicts(a.done.Obs, since)
		if a.j.opt.Force {
			conflicts = nil
		}
		waited := len(conflicts) > 0 && !lower
		if waited && a.n.WaitForPeer(context.WithoutCancel(ctx), conflicts[0]) {
			conflicts = a.n.StillThere(context.WithoutCancel(ctx), a.done.Obs, conflicts)
		}
		over := left <= 0 || ctx.Err() != nil
		if len(conflicts) > 0 || over && !waited {
			return conflicts, waited
		}
		a.announceAgain(addrs) // the other may have told the clients otherwise
		if over {
			return nil, false
		}
	}
}
