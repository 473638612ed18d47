package failover

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/state"
	"pingover/vip"
)

// extend renews what is held before anything is asked of others, and removes at once
// what another machine holds by the arbiter. The leases are renewed later.
func extend(ctx context.Context, j *job, rec state.Record, l observe.Local) (observe.Local, renewed) {
	held := l.Held()
	j.arb.Begin(rec.Arbiter)
	if j.arb == nil || len(held) == 0 {
		return l, renewed{aliases: rec.VIPs}
	}
	j.Doing("renewing the arbiter's key")
	if j.DryRun {
		r := renewed{aliases: rec.VIPs}
		if j.arb.Read(ctx); j.arb.Lost() {
			r.lost = held
		}
		return l, r
	}
	r := renew(ctx, j, l, rec.VIPs, held, 4)
	if len(r.ran) > 0 {
		l = l.Again(j.Job)
	}
	return l, r
}

// withArbiter probes: beside that it reads the arbiter's key, or renews it where
// something is held.
func withArbiter(ctx context.Context, j *job, l observe.Local, probe func()) {
	switch {
	case j.arb == nil || l.Holding() && j.DryRun:
		probe()
	case l.Holding():
		keepingLeases(j, l, nil, probe)
	default:
		done := make(chan struct{})
		go func() { j.arb.Read(ctx); close(done) }()
		probe()
		<-done
	}
}

// limit sees that an address that was just assigned has a lifetime that ends in time,
// or removes it.
func (a *actor) limit(ctx context.Context, alias vip.Alias) error {
	if a.j.arb == nil {
		return nil
	}
	if s, err := a.j.Snapshot(); err == nil {
		assigned := s.Held(alias.Address(), alias.Interface)
		if len(assigned) > 0 && assigned[0].Address.Lease > 0 && assigned[0].Address.Lease <= alias.Lease && !a.j.arb.Outlives(alias.Lease) {
			return nil
		}
	}
	alias.Lease = 0
	ran, stays, err := renewOne(ctx, a.j, a.done.Obs.Local, alias)
	a.ran(ran)
	if err == nil && !stays {
		err = fmt.Errorf("%s was removed again: it has no lifetime that ends in time", alias.Address())
	}
	return err
}

// free frees the arbiter's key, if it is ours and the kernel shows none of the virtual
// IPs here.
func free(ctx context.Context, j *job, l observe.Local) {
	if !j.arb.Holds() || j.DryRun {
		return
	}
	s, err := j.Snapshot()
	if err != nil || slices.ContainsFunc(l.Addresses(), func(addr netip.Addr) bool { return len(s.Held(addr, l.AddedOn(addr)...)) > 0 }) {
		return
	}
	if err := j.arb.Free(context.WithoutCancel(ctx)); err != nil {
		j.Infof("the arbiter's key is not freed, and keeps other machines out for %s: %v", config.DurationText(j.Set.Arbiter.TTL), err)
	}
}
