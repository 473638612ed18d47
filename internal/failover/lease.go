package failover

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// renew gives what pingover assigned, or what has a lease, the lease of the
// settings.
func (a *actor) renew(ctx context.Context, addrs []netip.Addr) {
	for _, alias := range leases(a.j, a.done.Obs.Local, a.done.Aliases, addrs) {
		ran, err := a.j.Tool.Renew(ctx, alias)
		a.ran(ran)
		if err != nil {
			a.j.Warnf("the lease of %s could not be renewed: %v", alias.Prefix.Addr(), err)
			continue
		}
		a.record(alias.Prefix.Addr(), func(k *state.Alias) { k.Until = a.leaseEnd() })
	}
}

// leaseEnd is when a lease that is given now ends, zero without one.
func (a *actor) leaseEnd() time.Time { return leaseEnd(a.j) }

func leaseEnd(j *job) time.Time {
	if j.set.Lease == 0 {
		return time.Time{}
	}
	return time.Now().Add(j.set.Lease).UTC().Truncate(time.Second)
}

// keepingLeases renews the leases of what is held for as long as work takes: a
// hook or a mail server may take longer than the lease. It returns the aliases
// with the new ends.
func keepingLeases(j *job, l Local, aliases []state.Alias, work func()) []state.Alias {
	held := l.held(j)
	renewed := leases(j, l, aliases, held)
	if len(renewed) == 0 || j.set.Lease == 0 {
		work()
		return aliases
	}
	ctx, end := context.WithCancel(context.Background())
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for proc.Sleep(ctx, j.set.Lease/3) {
			for _, alias := range renewed {
				_, _ = j.Tool.Renew(ctx, alias) // what fails here, the next run reports
			}
		}
	})
	began := time.Now()
	work()
	end()
	renewals.Wait()
	if time.Since(began) <= j.set.Lease/3 {
		return aliases
	}
	aliases = slices.Clone(aliases)
	for i := range aliases {
		if slices.Contains(held, aliases[i].Prefix.Addr()) {
			aliases[i].Until = leaseEnd(j)
		}
	}
	return aliases
}

// leases are the aliases among addrs whose lease is ours to renew: what pingover
// assigned, and what has one already.
func leases(j *job, l Local, known []state.Alias, addrs []netip.Addr) (aliases []vip.Alias) {
	for _, a := range addrs {
		assigned := l.assigned(a)[0]
		if assigned.Address.Lease > 0 || j.set.Lease > 0 && recorded(known, a).Raised {
			aliases = append(aliases, vip.Alias{Prefix: assigned.Address.Prefix, Interface: assigned.Interface, Label: assigned.Address.Label, Lease: j.set.Lease})
		}
	}
	return aliases
}
