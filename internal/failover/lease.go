package failover

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// renew gives what pingover assigned, or what has a lease, the lease of the
// settings.
func (a *actor) renew(ctx context.Context, addrs []netip.Addr) {
	for _, alias := range leases(a.j, a.done.Obs.Local, a.done.Aliases, addrs) {
		ran, err := a.j.env.Tool.Renew(ctx, alias)
		a.ran(ran)
		if err != nil {
			a.j.Warnf("the lease of %s could not be renewed: %v", alias.Address(), err)
			continue
		}
		a.record(alias.Address(), func(k *state.Alias) { k.Until = leaseEnd(a.j) })
	}
}

// leaseEnd is when a lease that is given now ends, zero without one.
func leaseEnd(j *job) time.Time {
	if j.Set.Lease == 0 {
		return time.Time{}
	}
	return time.Now().Add(j.Set.Lease).UTC().Truncate(time.Second)
}

// keepingLeases renews the leases of what is held for as long as work takes: a
// hook or a mail server may take longer than the lease. It returns the aliases
// with the new ends.
func keepingLeases(j *job, l observe.Local, aliases []state.Alias, work func()) []state.Alias {
	held := l.Held()
	renewed := leases(j, l, aliases, held)
	if len(renewed) == 0 || j.Set.Lease == 0 {
		work()
		return aliases
	}
	ctx, end := context.WithCancel(context.Background())
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for proc.Sleep(ctx, j.Set.Lease/3) {
			for _, alias := range renewed {
				_, _ = j.env.Tool.Renew(ctx, alias) // what fails here, the next run reports
			}
		}
	})
	began := time.Now()
	work()
	end()
	renewals.Wait()
	if time.Since(began) <= j.Set.Lease/3 {
		return aliases
	}
	aliases = slices.Clone(aliases)
	for i := range aliases {
		if slices.Contains(held, aliases[i].Address()) {
			aliases[i].Until = leaseEnd(j)
		}
	}
	return aliases
}

// leases are the aliases among addrs whose lease is ours to renew: what pingover
// assigned, and what has one already.
func leases(j *job, l observe.Local, known []state.Alias, addrs []netip.Addr) (aliases []vip.Alias) {
	for _, a := range addrs {
		assigned := l.Assigned(a)[0]
		if assigned.Address.Lease > 0 || j.Set.Lease > 0 && observe.Recorded(known, a).Raised {
			aliases = append(aliases, vip.Alias{Prefix: assigned.Address.Prefix, Interface: assigned.Interface, Label: assigned.Address.Label, Lease: j.Set.Lease})
		}
	}
	return aliases
}
