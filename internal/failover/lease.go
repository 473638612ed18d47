package failover

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// renewed is what became of what is held when its lifetimes were renewed.
type renewed struct {
	aliases []state.Alias // of the record, with the new ends
	ran     []proc.Result
	lost    []netip.Addr // the arbiter's key is another machine's: removed, where that was possible
}

// renew gives addresses that are here their lifetime anew. That is the lease, of what
// pingover assigned and of what has one; or with an arbiter what its key allows, once
// a share (4: a quarter) of the ttl has passed. It extends or removes, and adds nothing.
func renew(ctx context.Context, j *job, l observe.Local, known []state.Alias, addrs []netip.Addr, share time.Duration) (r renewed) {
	ctx = context.WithoutCancel(ctx)
	r.aliases = slices.Clone(known)
	due := leases(j, l, known, addrs)
	endless := func(a vip.Alias) bool { return a.Lease == 0 || a.Lease > j.Set.Lifetime() }
	if j.arb != nil && (len(due) == 0 || !j.arb.Due(share) && !slices.ContainsFunc(due, endless)) {
		return r
	}
	if j.arb != nil && j.arb.Renew(ctx) == state.ArbiterOther {
		r.lost = addrs
	}
	for _, alias := range due {
		ran, stays, err := renewOne(ctx, j, l, alias)
		r.ran = append(r.ran, ran...)
		if err != nil {
			j.Warnf("the lifetime of %s could not be renewed: %v", alias.Address(), err)
			continue
		}
		i := slices.IndexFunc(r.aliases, func(k state.Alias) bool { return k.Address() == alias.Address() })
		if i < 0 {
			continue
		}
		if r.aliases[i].Until = leaseEnd(j); !stays { // that it has gone is no drift, but its end
			r.aliases[i].Until = now()
		}
	}
	return r
}

// renewOne renews one lifetime. What the arbiter does not allow to stay is removed.
func renewOne(ctx context.Context, j *job, l observe.Local, alias vip.Alias) (ran []proc.Result, stays bool, err error) {
	shown := alias.Lease
	if j.arb == nil {
		alias.Lease = j.Set.Lease
		ran, err = j.env.Tool.Renew(ctx, alias)
		return ran, true, err
	}
	for range config.Rechecks {
		lifetime, keep := j.arb.Allow(shown)
		if keep {
			return ran, true, nil
		}
		if lifetime == 0 {
			break
		}
		alias.Lease = lifetime
		did, failed := j.env.Tool.Renew(ctx, alias)
		ran, err = append(ran, did...), failed
		if err != nil && shown > 0 || err == nil && !j.arb.Outlives(lifetime) { // a lifetime that could not be renewed ends
			return ran, true, err
		}
	}
	unlock, failed := j.lockSwitch(ctx, true)
	if failed != nil {
		return ran, true, failed
	}
	defer unlock()
	did, failed := j.env.Tool.Lower(ctx, alias.Address(), l.AddedOn(alias.Address())...)
	if failed != nil {
		return append(ran, did...), true, failed
	}
	return append(ran, did...), false, nil
}

// renew renews the lifetimes of addresses.
func (a *actor) renew(ctx context.Context, addrs []netip.Addr) {
	r := renew(ctx, a.j, a.done.Obs.Local, a.done.Aliases, addrs, 3)
	a.ran(r.ran)
	a.done.Aliases = r.aliases
}

// leaseEnd is when a lifetime that is given now ends, zero without one.
func leaseEnd(j *job) time.Time {
	if j.arb != nil {
		return j.arb.Status().Until
	}
	if j.Set.Lease == 0 {
		return time.Time{}
	}
	return time.Now().Add(j.Set.Lease).UTC().Truncate(time.Second)
}

// keepingLeases renews the lifetimes of what is held for as long as work takes: a
// hook or a mail server may take longer. It returns the aliases with the new ends.
func keepingLeases(j *job, l observe.Local, aliases []state.Alias, work func()) []state.Alias {
	held, every := l.Held(), j.Set.Lifetime()/3
	if every == 0 || len(leases(j, l, aliases, held)) == 0 {
		work()
		return aliases
	}
	if j.arb != nil {
		aliases, every = renew(context.Background(), j, l, aliases, held, 3).aliases, every/2
	}
	ctx, end := context.WithCancel(context.Background())
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for proc.Sleep(ctx, every) {
			aliases = renew(ctx, j, l, aliases, held, 3).aliases
		}
	})
	work()
	end()
	renewals.Wait()
	return aliases
}

// leases are the aliases among addrs whose lifetime is ours to renew, each with what it
// has: what pingover assigned, and what has one already; with an arbiter all.
func leases(j *job, l observe.Local, known []state.Alias, addrs []netip.Addr) (aliases []vip.Alias) {
	for _, a := range addrs {
		assigned := l.Assigned(a)
		if len(assigned) == 0 {
			continue
		}
		has := assigned[0].Address
		if j.arb != nil || has.Lease > 0 || j.Set.Lease > 0 && observe.Recorded(known, a).Raised {
			aliases = append(aliases, vip.Alias{Prefix: has.Prefix, Interface: assigned[0].Interface, Label: has.Label, Lease: has.Lease, Strict: j.arb != nil})
		}
	}
	return aliases
}
