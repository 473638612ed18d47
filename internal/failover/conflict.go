package failover

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// probers are the machines that probe for a virtual IP and have precedence: a
// lower MAC, and the primary, which probes for its own address when it boots.
// Where the host is a virtual IP itself, it is no machine's own.
func probers(j *job, asker *vip.Asker, l Local, primary string, since time.Time) (macs []string) {
	if l.hostIsVIP(j) {
		primary = ""
	}
	for _, t := range l.targets() {
		for _, mac := range asker.Probers(t, since, primary) {
			if !slices.Contains(macs, mac) {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// yield waits for a competing prober that has precedence. When it takes the
// address it is heard as its holder; when it does not, this machine goes on: the
// other may have been blocked. IPv6 is not asked for by probes: the prober would
// give the address up.
func yield(ctx context.Context, j *job, asker *vip.Asker, o Observation) Observation {
	first := probers(j, asker, o.Local, o.Neighbour, o.replies.began)
	if len(first) == 0 {
		return o
	}
	j.Event(run.Waiting{For: config.YieldPatience, Why: fmt.Sprintf("%s is about to take over as well, and has precedence", first[0])})
	for end := time.Now().Add(config.YieldPatience); ; {
		o.asked = time.Now()
		for _, t := range o.targets() {
			if err := asker.Ask(o.Snapshot, t, t.Address.Is4()); err != nil {
				o.faults = o.faults.and(faultOf(FaultAsk, "%v", err))
			}
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil || asker.Wait(ctx, min(askEvery, left), func() bool { return o.allInUse(j, asker) }) {
			break
		}
	}
	o.Local = o.again(j)
	if err := o.unheard(asker, j.vips()); err != nil {
		o.faults = o.faults.and(faultOf(FaultAsk, "%v", err))
	}
	for _, mac := range probers(j, asker, o.Local, o.Neighbour, o.replies.began) {
		if !slices.Contains(first, mac) {
			o.CompetingProber = mac
		}
	}
	return o.read(j, asker)
}

// resolveConflict decides who yields when another machine has what is held here.
// It is the primary, or its MAC is lower: this one. This MAC is lower: stay silent
// for a while and ask again; a machine that still replies then runs no pingover
// that yields, and this one does. So two pingovers never both release, and a
// static holder wins. Where several have it, those to yield to at once come first,
// and the rest is left to the next check.
func resolveConflict(ctx context.Context, j *job, asker *vip.Asker, o Observation) Observation {
	conflicts, lower := conflictsSince(j, asker, o, o.replies.since)
	if len(conflicts) == 0 {
		return o
	}
	if time.Now().After(j.PausedUntil()) {
		if !lower {
			waitForPeer(ctx, j, conflicts[0])
		}
		conflicts = stillThere(ctx, j, asker, o, len(conflicts))
		o.Local = o.again(j)
	}
	o.Conflicts, o.WaitedForPeer = conflicts, !lower
	return o
}

// waitForPeer stays silent, so that the other machine may yield.
func waitForPeer(ctx context.Context, j *job, c state.Conflict) bool {
	j.Event(run.Waiting{For: config.PeerPatience, Why: fmt.Sprintf("%s has %s as well, and should yield: its MAC is the higher one", c.MAC, c.Address)})
	return proc.Sleep(ctx, config.PeerPatience)
}

// stillThere asks once more for what is held, and returns the conflicts that
// remain, of so many: the first to be heard is not all. What was heard when a long
// round began is no ground for a release: the other machine may have released it by
// now.
func stillThere(ctx context.Context, j *job, asker *vip.Asker, o Observation, of int) (conflicts []state.Conflict) {
	since := time.Now()
	for n := range leastAsks {
		askHeld(j, asker, o.Local, n == leastAsks-1)
		if asker.Wait(ctx, holdGuard/leastAsks, func() bool { conflicts, _ = conflictsSince(j, asker, o, since); return len(conflicts) >= of }) {
			break
		}
	}
	return conflicts
}

// askHeld asks once for the virtual IPs; last also by a probe, where an ordinary
// request may stay without a reply.
func askHeld(j *job, asker *vip.Asker, l Local, last bool) {
	if !j.set.DuplicateCheck {
		return
	}
	for _, t := range l.targets() {
		err := asker.Ask(l.Snapshot, t, false)
		if err == nil && last && asker.NeedsProbe(l.Snapshot, t) {
			err = asker.Ask(l.Snapshot, t, true)
		}
		if err != nil {
			j.Infof("%v", err)
		}
	}
}

// conflictsSince are the other machines that have a virtual IP which is here, and
// whether there is one to yield to at once: the primary, or one with a lower MAC.
// Then those with a higher one are left out.
func conflictsSince(j *job, asker *vip.Asker, o Observation, since time.Time) (conflicts []state.Conflict, lower bool) {
	if !j.set.DuplicateCheck {
		return nil, false
	}
	var higher []state.Conflict
	for _, t := range o.targets() {
		if !o.holds(t.Address) {
			continue
		}
		claim, low, ok := asker.Conflict(t, since)
		if !ok {
			continue
		}
		c := state.Conflict{
			Holder:  state.Holder{Address: t.Address.String(), MAC: claim.MAC.String()},
			Primary: claim.MAC.String() == o.Neighbour && !o.hostIsVIP(j),
		}
		if low || c.Primary {
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

// cannotListen is why nobody can be asked whether another machine has taken what
// is held here, "" when all can.
func (o Observation) cannotListen(j *job, asker *vip.Asker) string {
	for _, a := range o.held(j) {
		t := o.target(a)
		switch {
		case t.Address.Is6() && !asker.CanRequest(o.Snapshot, t):
			return fmt.Sprintf("this machine has no address on %s to send neighbour solicitations from", t.Interface)
		case asker.Listening(t.Interface):
		case asker.OpenErr() != nil:
			return asker.OpenErr().Error()
		default:
			return fmt.Sprintf("interface %q is down, or has no carrier", t.Interface)
		}
	}
	return ""
}
