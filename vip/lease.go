package vip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"pingover/internal/proc"
)

// CanLease returns nil when the tool gives an address a lifetime: the ip of iproute2. Otherwise it says
// what is in the way, and what to install. A hard link to busybox does not show.
func (t Tool) CanLease() error {
	switch {
	case t.Name == "ifconfig":
		return errors.New("ifconfig gives no address a lifetime: use ip (Debian package iproute2)")
	case t.busybox():
		return fmt.Errorf("%s is part of busybox, and a lease needs the ip of iproute2 (Debian package iproute2)", t.Path)
	}
	return nil
}

// RenewPlan is what Renew would run, with the tool's bare name. The error says for which places there is
// nothing, or only what Renew calls an error.
func (t Tool) RenewPlan(k *Snapshot, a Alias) ([][]string, error) {
	var plan [][]string
	var errs []error
	for _, p := range k.Assignments(a.Address()) {
		lease, harm := k.harmless(p, a.Lease)
		ways, err := t.renewals(p, lease)
		if len(ways) > 0 {
			plan = append(plan, ways[0])
		}
		errs = append(errs, renewing(p, cmp.Or(err, harm)))
	}
	return plan, errors.Join(errs...)
}

// Renew lets the address last for a.Lease from now on, or for ever, in every place where it stands on
// this machine. Nothing else of it changes, but that an IPv6 one becomes as Raise makes it. Nothing is
// run where it does not stand, or stands for ever as it shall. A nil error means that the kernel shows
// the lifetime; one place's failure does not keep the others from being renewed.
//
// Where the kernel would take other addresses of the network along at the end of a lease, the address
// is made to last for ever instead, and that is an error.
func (t Tool) Renew(ctx context.Context, a Alias) (ran []proc.Result, err error) {
	k, err := t.look()
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", a.Address(), err)
	}
	var errs []error
	for _, p := range k.Assignments(a.Address()) {
		lease, harm := k.harmless(p, a.Lease)
		did, err := t.renew(ctx, k, p, lease)
		ran = append(ran, did...)
		errs = append(errs, renewing(p, cmp.Or(err, harm)))
	}
	return ran, errors.Join(errs...)
}

func renewing(p Assignment, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("renew %s on %s: %w", p.Address.Prefix, p.Interface, err)
}

// harmless is the lease that p may have: none where its end would harm other addresses.
func (k *Snapshot) harmless(p Assignment, lease time.Duration) (time.Duration, error) {
	with := k.dependents(p)
	if lease == 0 || len(with) == 0 || promotes(p.Interface) {
		return lease, nil
	}
	return 0, fmt.Errorf("no lease, for its end would take %s along; this prevents that: %s", with[0], proc.Line(promoteCommand(p.Interface, "1")))
}

// renew renews an address in one place.
func (t Tool) renew(ctx context.Context, before *Snapshot, p Assignment, lease time.Duration) (ran []proc.Result, err error) {
	ways, err := t.renewals(p, lease)
	for _, way := range ways {
		began := time.Now()
		r := t.run(ctx, way)
		ran = append(ran, r)
		after, lookErr := t.look()
		if lookErr != nil {
			return ran, lookErr
		}
		now, stands := after.again(p)
		switch {
		case !stands:
			return ran, futile(r, "does not show the address any more")
		case granted(now.Address.Lease, lease, time.Since(began)):
			return ran, missing(before, after, p.Interface, p.Address.Prefix.Addr())
		}
		err = futile(r, "keeps the address "+remaining(now.Address.Lease))
		if !misunderstood(r) {
			break
		}
	}
	return ran, err
}

// renewals are the commands that would renew it, the best first; none where it stands for ever as it shall.
// All have the label, because replace adds what has gone in this very moment.
func (t Tool) renewals(p Assignment, lease time.Duration) ([][]string, error) {
	switch {
	case lease == 0 && p.Address.Lease == 0:
		return nil, nil
	case t.Name == "ifconfig":
		return nil, t.CanLease()
	}
	v6 := p.Address.Prefix.Addr().Is6()
	return t.lasting(p.labelledCommand("replace"), v6, lifetime(lease, v6)), nil
}

// lifetime is a lease in ip's words. An IPv6 address is never preferred, so that it is never chosen as
// source; for IPv4 that makes no difference, but the kernel wants it to be no longer than valid.
func lifetime(lease time.Duration, v6 bool) []string {
	valid := "forever"
	if lease > 0 {
		valid = strconv.Itoa(int(whole(lease) / time.Second))
	}
	preferred := valid
	if v6 {
		preferred = "0"
	}
	return []string{"valid_lft", valid, "preferred_lft", preferred}
}

// whole rounds up to the seconds in which the kernel counts.
func whole(lease time.Duration) time.Duration {
	return (lease + time.Second - 1).Truncate(time.Second)
}

// granted tells whether the lifetime that the kernel shows is the one that was asked for, some time ago at most.
func granted(shown, lease, ago time.Duration) bool {
	if shown == 0 || lease == 0 {
		return shown == lease
	}
	return shown <= whole(lease) && shown >= whole(lease)-whole(ago)
}

func remaining(lease time.Duration) string {
	if lease == 0 {
		return "for ever"
	}
	return fmt.Sprintf("for another %v", lease)
}
