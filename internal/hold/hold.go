// Package hold limits how long an address stays on this machine: by its lease, or by
// the arbiter's key. It extends lifetimes, and removes what may not stay; it adds
// nothing.
package hold

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// Shares of the ttl after which the arbiter's key is renewed: a quarter at the start
// of a run, a third within it.
const (
	Quarter = 4
	Third   = 3
)

// Keeper keeps what one cluster holds.
type Keeper struct {
	*observe.Job
	Arbiter *arbiter.Session // nil: none is set
	Tool    interface {
		Renew(context.Context, vip.Alias) (ran []proc.Result, err error)
		Lower(ctx context.Context, a netip.Addr, added ...string) (ran []proc.Result, err error)
	}
	// Lock takes the switch lock.
	Lock func(ctx context.Context, exclusive bool) (unlock func(), err error)
}

// Renewed is what became of what is held when its lifetimes were renewed.
type Renewed struct {
	Aliases []state.Alias // of the record, with the new ends
	Ran     []proc.Result
	Lost    []netip.Addr // the arbiter's key is another machine's: removed, where that was possible
}

// Begin renews by the arbiter what is held, before anything is asked of others, and
// removes at once what another machine holds. Leases are renewed later. A dry run
// only reads the key.
func (k *Keeper) Begin(ctx context.Context, l observe.Local, known []state.Alias) Renewed {
	held := l.Held()
	if k.Arbiter == nil || len(held) == 0 {
		return Renewed{Aliases: known}
	}
	k.Doing("renewing the arbiter's key")
	if !k.DryRun {
		return k.Renew(ctx, l, known, held, Quarter)
	}
	r := Renewed{Aliases: known}
	if k.Arbiter.Read(ctx); k.Arbiter.Lost() {
		r.Lost = held
	}
	return r
}

// Renew gives addresses that are here their lifetime anew. That is the lease, of what
// pingover assigned and of what has one; or with an arbiter what its key allows, where
// a share of the ttl has passed.
func (k *Keeper) Renew(ctx context.Context, l observe.Local, known []state.Alias, addrs []netip.Addr, share time.Duration) (r Renewed) {
	ctx = context.WithoutCancel(ctx)
	r.Aliases = slices.Clone(known)
	due := k.Due(l, known, addrs)
	if k.Arbiter != nil {
		tooLong := func(a vip.Alias) bool { return a.Lease == 0 || a.Lease > k.Set.Lifetime() }
		if len(due) == 0 || !k.Arbiter.Due(share) && !slices.ContainsFunc(due, tooLong) {
			return r
		}
		if k.Arbiter.Renew(ctx) == state.ArbiterOther {
			r.Lost = addrs
		}
	}
	for _, alias := range due {
		ran, stays, err := k.renew(ctx, l, alias, k.Lock)
		r.Ran = append(r.Ran, ran...)
		if err != nil {
			k.Warnf("the lease of %s could not be renewed: %v", alias.Address(), err)
			continue
		}
		for i, a := range r.Aliases {
			if a.Address() != alias.Address() {
				continue
			}
			r.Aliases[i].Until = k.End()
			if !stays { // that it is gone is no drift, but its end
				r.Aliases[i].Until = time.Now().UTC().Truncate(time.Second)
			}
		}
	}
	return r
}

// renew renews one lifetime; the alias has the one that it has now. What the arbiter
// does not allow to stay is removed, with the switch lock.
func (k *Keeper) renew(ctx context.Context, l observe.Local, alias vip.Alias, lock func(context.Context, bool) (func(), error)) (ran []proc.Result, stays bool, err error) {
	if k.Arbiter == nil {
		alias.Lease = k.Set.Lease
		ran, err = k.Tool.Renew(ctx, alias)
		return ran, true, err
	}
	shown := alias.Lease
	for range config.Rechecks {
		lifetime, keep := k.Arbiter.Allow(shown)
		if keep {
			return ran, true, nil
		}
		if lifetime == 0 {
			break
		}
		alias.Lease = lifetime
		did, err := k.Tool.Renew(ctx, alias)
		ran = append(ran, did...)
		if err == nil && !k.Arbiter.Outlives(lifetime) || err != nil && 0 < shown && shown <= lifetime { // one that could not be renewed ends in time
			return ran, true, err
		}
		if err == nil {
			shown = 0 // what was set late ends late
		}
	}
	unlock, err := lock(ctx, true)
	if err != nil {
		return ran, true, err
	}
	defer unlock()
	did, err := k.Tool.Lower(ctx, alias.Address(), l.AddedOn(alias.Address())...)
	return append(ran, did...), err != nil, err
}

// Limit sees that an address which was just assigned has a lifetime that ends in time,
// or removes it again. The caller has the switch lock.
func (k *Keeper) Limit(ctx context.Context, l observe.Local, alias vip.Alias) (ran []proc.Result, err error) {
	if k.Arbiter == nil {
		return nil, nil
	}
	if s, err := k.Snapshot(); err == nil {
		assigned := s.Held(alias.Address(), alias.Interface)
		if len(assigned) > 0 && assigned[0].Address.Lease > 0 && assigned[0].Address.Lease <= alias.Lease && !k.Arbiter.Outlives(alias.Lease) {
			return nil, nil
		}
	}
	alias.Lease = 0
	locked := func(context.Context, bool) (func(), error) { return func() {}, nil }
	ran, stays, err := k.renew(ctx, l, alias, locked)
	if err == nil && !stays {
		err = fmt.Errorf("%s was removed again: it has no lifetime that ends in time", alias.Address())
	}
	return ran, err
}

// End is when a lifetime that is given now ends, zero without one.
func (k *Keeper) End() time.Time {
	switch {
	case k.Arbiter != nil:
		return k.Arbiter.Status().Until
	case k.Set.Lease == 0:
		return time.Time{}
	}
	return time.Now().Add(k.Set.Lease).UTC().Truncate(time.Second)
}

// While renews the lifetimes of what is held for as long as work takes: a hook or a
// mail server may take longer. It returns the aliases with the new ends, and what was
// lost.
func (k *Keeper) While(l observe.Local, aliases []state.Alias, work func()) (r Renewed) {
	held, every := l.Held(), k.Set.Lifetime()/3
	r.Aliases = aliases
	if every == 0 || k.DryRun || len(k.Due(l, aliases, held)) == 0 {
		work()
		return r
	}
	if k.Arbiter != nil {
		r, every = k.Renew(context.Background(), l, aliases, held, Third), every/2
	}
	ctx, end := context.WithCancel(context.Background())
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for proc.Sleep(ctx, every) {
			lost := r.Lost
			if r = k.Renew(ctx, l, r.Aliases, held, Third); len(r.Lost) == 0 {
				r.Lost = lost
			}
		}
	})
	work()
	end()
	renewals.Wait()
	return r
}

// Probing asks the arbiter beside a probe: for what is held the key is renewed, else
// it is read. It returns what was lost meanwhile.
func (k *Keeper) Probing(ctx context.Context, l observe.Local, probe func()) (lost []netip.Addr) {
	switch {
	case k.Arbiter == nil:
		probe()
	case l.Holding():
		lost = k.While(l, nil, probe).Lost
	default:
		var asked sync.WaitGroup
		asked.Go(func() { k.Arbiter.Read(ctx) })
		probe()
		asked.Wait()
	}
	return lost
}

// Due are the aliases among addrs whose lifetime is ours to renew, each with the one
// that it has: what pingover assigned, and what has one already; with an arbiter all.
func (k *Keeper) Due(l observe.Local, known []state.Alias, addrs []netip.Addr) (aliases []vip.Alias) {
	for _, a := range addrs {
		assigned := l.Assigned(a)
		if len(assigned) == 0 {
			continue
		}
		has := assigned[0].Address
		if k.Arbiter != nil || has.Lease > 0 || k.Set.Lease > 0 && observe.Recorded(known, a).Raised {
			aliases = append(aliases, vip.Alias{Prefix: has.Prefix, Interface: assigned[0].Interface, Label: has.Label, Lease: has.Lease, Strict: k.Arbiter != nil})
		}
	}
	return aliases
}

// Free frees the arbiter's key, if it is ours and nothing is held here: the kernel is
// asked once more.
func (k *Keeper) Free(ctx context.Context, l observe.Local) {
	if !k.Arbiter.Holds() || k.DryRun || l.Holding() {
		return
	}
	s, err := k.Snapshot()
	if err != nil || slices.ContainsFunc(l.Addresses(), func(a netip.Addr) bool { return len(s.Held(a, l.AddedOn(a)...)) > 0 }) {
		return
	}
	if err := k.Arbiter.Free(context.WithoutCancel(ctx)); err != nil {
		k.Infof("the arbiter's key was not freed, and keeps other machines out for %s: %v", config.DurationText(k.Set.Arbiter.TTL), err)
	}
}
