package observe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
)

// probers are the machines that probe for a virtual IP and have precedence: a
// lower MAC, and the primary, which probes for its own address when it boots.
// Where the host is a virtual IP itself, it is no machine's own.
func (n *Network) probers(l Local, primary string, since time.Time) (macs []string) {
	if l.PrimaryIsVIP() {
		primary = ""
	}
	for _, t := range l.targets() {
		for _, mac := range n.Probers(t, since, primary) {
			if !slices.Contains(macs, mac) {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// Yield waits for a competing prober that has precedence. When it takes the
// address it is heard as its holder; when it does not, this machine goes on: the
// other may have been blocked. IPv6 is not asked for by probes: the prober would
// give the address up.
func (n *Network) Yield(ctx context.Context, o Observation) Observation {
	first := n.probers(o.Local, o.Neighbour, o.replies.began)
	if len(first) == 0 {
		return o
	}
	n.j.Event(run.Waiting{For: config.YieldPatience, Why: fmt.Sprintf("%s is about to take over as well, and has precedence", first[0])})
	// What is heard now is too old when the wait ends: it is observed once more, for
	// the other may take it just then.
	o.Asked = time.Now()
	for end := time.Now().Add(config.YieldPatience); ; {
		for _, t := range o.targets() {
			if err := n.Ask(o.Snapshot, t, t.Address.Is4()); err != nil {
				o.Faults = o.Faults.And(faultf(FaultAsk, "%v", err))
			}
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil || n.Wait(ctx, min(AskEvery, left), func() bool { return n.allInUse(o) }) {
			break
		}
	}
	o.Local = o.Again(n.j)
	if err := n.CannotHear(o.Local, o.vips); err != nil {
		o.Faults = o.Faults.And(faultf(FaultAsk, "%v", err))
	}
	for _, mac := range n.probers(o.Local, o.Neighbour, o.replies.began) {
		if !slices.Contains(first, mac) {
			o.CompetingProber = mac
		}
	}
	return n.Read(o)
}

// resolveConflict decides who yields when another machine has what is held here.
// It is the primary, or its MAC is lower: this one. This MAC is lower: stay silent
// for a while and ask again; a machine that still replies then runs no pingover
// that yields, and this one does. So two pingovers never both release, and a
// static holder wins. Where several have it, those to yield to at once come first,
// and the rest is left to the next check.
func (n *Network) resolveConflict(ctx context.Context, o Observation) Observation {
	conflicts, lower := n.Conflicts(o, o.replies.since)
	if len(conflicts) == 0 {
		return o
	}
	if time.Now().After(n.j.PausedUntil()) {
		if !lower {
			n.WaitForPeer(ctx, conflicts[0])
		}
		conflicts = n.StillThere(ctx, o, conflicts)
		o.Local = o.Again(n.j)
	}
	o.Conflicts, o.WaitedForPeer = conflicts, !lower
	return o
}

// WaitForPeer stays silent, so that the other machine may yield.
func (n *Network) WaitForPeer(ctx context.Context, c state.Conflict) bool {
	why := "its MAC is the higher one"
	if n.Owns() {
		why = "this machine holds the arbiter's key"
	}
	n.j.Event(run.Waiting{For: config.PeerPatience, Why: fmt.Sprintf("%s has %s as well, and should yield: %s", c.MAC, c.Address, why)})
	return proc.Sleep(ctx, config.PeerPatience)
}

// StillThere asks once more for what is held, and returns the conflicts that
// remain; it does not wait for others than were there before, but for all of them:
// the first to be heard is not all. What was heard when a long round began is no
// ground for a release: the other machine may have released it by now.
func (n *Network) StillThere(ctx context.Context, o Observation, before []state.Conflict) (conflicts []state.Conflict) {
	since := time.Now()
	for i := range LeastAsks {
		n.AskHeld(o.Local, i == LeastAsks-1)
		if n.Wait(ctx, holdGuard/LeastAsks, func() bool {
			conflicts, _ = n.Conflicts(o, since)
			return !slices.ContainsFunc(before, func(c state.Conflict) bool { return !slices.Contains(conflicts, c) })
		}) {
			break
		}
	}
	return conflicts
}

// AskHeld asks once for the virtual IPs; last also by a probe, where an ordinary
// request may stay without a reply.
func (n *Network) AskHeld(l Local, last bool) {
	if !n.j.Set.DuplicateCheck {
		return
	}
	for _, t := range l.targets() {
		if err := n.AskAgain(l.Snapshot, t, last); err != nil {
			n.j.Infof("%v", err)
		}
	}
}

// Conflicts are the other machines that have a virtual IP which is here, and
// whether there is one to yield to at once: the primary, or one with a lower MAC.
// Then those with a higher one are left out.
func (n *Network) Conflicts(o Observation, since time.Time) (conflicts []state.Conflict, lower bool) {
	if !n.j.Set.DuplicateCheck {
		return nil, false
	}
	var higher []state.Conflict
	for _, t := range o.targets() {
		if !o.Holds(t.Address) {
			continue
		}
		claim, low, ok := n.Conflict(t, since)
		if !ok {
			continue
		}
		for _, r := range n.Claims(t, since) { // a third machine does not hide the primary
			if r.MAC.String() == o.Neighbour {
				claim = r
			}
		}
		c := state.Conflict{
			Holder:  state.Holder{Address: t.Address.String(), MAC: claim.MAC.String()},
			Primary: claim.MAC.String() == o.Neighbour && !o.PrimaryIsVIP(),
		}
		if low && !n.Owns() || c.Primary {
			conflicts = append(conflicts, c)
		} else {
			higher = append(higher, c)
		}
	}
	if len(conflicts) > 0 {
		return conflicts, true
	}
	return higher, false
}

// CannotListen is why nobody can be asked whether another machine has taken what
// is held here, "" when all can.
func (n *Network) CannotListen(l Local) string {
	for _, a := range l.Held() {
		t := l.Target(a)
		switch {
		case n.Listening(t.Interface):
		case n.OpenErr() != nil:
			return n.OpenErr().Error()
		default:
			return fmt.Sprintf("interface %q is down, or has no carrier", t.Interface)
		}
	}
	return ""
}

// CannotHear is why the silence of addresses is no answer: the cable went out
// meanwhile, or listening ended. Nil: an answer would have been heard.
func (n *Network) CannotHear(l Local, silent []netip.Addr) error {
	for _, a := range silent {
		if l.CannotTake(a) != "" {
			continue
		}
		t := l.Target(a)
		if err := n.Err(t.Interface); err != nil {
			return err
		}
		if fault := l.LinkFault(t.Interface); fault != "" {
			return errors.New(fault)
		}
	}
	return nil
}
