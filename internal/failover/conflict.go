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
	if j.isVIP(l.Address) {
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
	first := probers(j, asker, o.Local, o.Neighbour, o.replies.since)
	if len(first) == 0 {
		return o
	}
	j.Event(run.Waiting{For: config.YieldPatience, Why: fmt.Sprintf("%s is about to take over as well, and has precedence", first[0])})
	for end := time.Now().Add(config.YieldPatience); ; {
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
	for _, mac := range probers(j, asker, o.Local, o.Neighbour, o.replies.since) {
		if !slices.Contains(first, mac) {
			o.CompetingProber = mac
		}
	}
	return o.read(j, asker)
}

// resolveConflict decides who yields when another machine has what is held here.
// Its MAC is lower: this one. This MAC is lower: stay silent for a while and ask
// again; a machine that still replies then runs no pingover that yields, and this
// one does. So two pingovers never both release, and a static holder wins.
func resolveConflict(ctx context.Context, j *job, asker *vip.Asker, o Observation) Observation {
	conflict, lower := conflictSince(j, asker, o.Local, o.replies.since)
	if conflict == (state.Holder{}) {
		return o
	}
	if time.Now().After(j.PausedUntil()) {
		if lower {
			conflict = stillThere(ctx, j, asker, o.Local)
		} else {
			conflict = waitForPeer(ctx, j, asker, o.Local, conflict)
		}
		o.Local = o.again(j)
	}
	o.Conflict, o.WaitedForPeer = conflict, !lower
	return o
}

// waitForPeer stays silent, asks again, and returns the holder that still
// replies.
func waitForPeer(ctx context.Context, j *job, asker *vip.Asker, l Local, conflict state.Holder) state.Holder {
	j.Event(run.Waiting{For: config.PeerPatience, Why: fmt.Sprintf("%s has %s as well, and should yield: its MAC is the higher one", conflict.MAC, conflict.Address)})
	if !proc.Sleep(ctx, config.PeerPatience) {
		return conflict
	}
	return stillThere(ctx, j, asker, l)
}

// stillThere asks once more for what is held, and returns the first holder that
// replies. What was heard when a long round began is no ground for a release: the
// other machine may have released it by now.
func stillThere(ctx context.Context, j *job, asker *vip.Asker, l Local) (conflict state.Holder) {
	since := time.Now()
	for range leastAsks {
		askHeld(j, asker, l)
		if asker.Wait(ctx, holdGuard/leastAsks, func() bool { conflict, _ = conflictSince(j, asker, l, since); return conflict.MAC != "" }) {
			break
		}
	}
	return conflict
}

func askHeld(j *job, asker *vip.Asker, l Local) {
	if !j.set.DuplicateCheck {
		return
	}
	for _, t := range l.targets() {
		if err := asker.Ask(l.Snapshot, t, false); err != nil {
			j.Infof("%v", err)
		}
	}
}

// conflictSince is another machine that has a virtual IP which is here, and
// whether its MAC is lower than this one's; of several the lowest.
func conflictSince(j *job, asker *vip.Asker, l Local, since time.Time) (conflict state.Holder, lower bool) {
	if !j.set.DuplicateCheck {
		return conflict, false
	}
	for _, t := range l.targets() {
		if !l.Snapshot.Holds(t.Address) {
			continue
		}
		if c, low, ok := asker.Conflict(t, since); ok && (conflict.MAC == "" || low && !lower) {
			conflict, lower = state.Holder{Address: t.Address.String(), MAC: c.MAC.String()}, low
		}
	}
	return conflict, lower
}

// cannotListen is why nobody can be asked whether another machine has taken what
// is held here, "" when all can.
func (o Observation) cannotListen(j *job, asker *vip.Asker) string {
	for _, a := range o.held(j) {
		t := o.target(a)
		switch {
		case !asker.Sender(o.Snapshot, t).IsValid():
			return fmt.Sprintf("this machine has no address to ask from on %s", t.Interface)
		case asker.Listening(t.Interface):
		case asker.OpenErr() != nil:
			return asker.OpenErr().Error()
		default:
			return fmt.Sprintf("interface %q is down, or has no carrier", t.Interface)
		}
	}
	return ""
}
