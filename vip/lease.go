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

// CanLease returns nil when the tool can set an address's lifetime: the ip of iproute2. Otherwise the
// error says what to install. A hard link to busybox is not recognized.
func (t Tool) CanLease() error {
	switch {
	case t.Name == "ifconfig":
		return errors.New("ifconfig cannot set an address's lifetime: use ip (Debian package iproute2)")
	case t.busybox():
		return fmt.Errorf("%s is part of busybox, and a lease needs the ip of iproute2 (Debian package iproute2)", t.Path)
	}
	return nil
}

// RenewPlan is what Renew would run, with the tool's bare name. The error names the assignments for
// which there is nothing, or for which Renew would return an error.
func (t Tool) RenewPlan(k *Snapshot, a Alias) ([][]string, error) {
	var plan [][]string
	var errs []error
	for _, p := range k.Assignments(a.Address()) {
		lease, unsafe := k.safeLease(p, a.Lease)
		if unsafe != nil && a.Strict {
			plan = append(plan, promoteCommand(p.Interface, "1"))
			lease, unsafe = a.Lease, nil
		}
		commands, err := t.renewCommands(p, lease)
		if len(commands) > 0 {
			plan = append(plan, commands[0])
		}
		errs = append(errs, renewError(p, cmp.Or(err, unsafe)))
	}
	return plan, errors.Join(errs...)
}

// Renew gives the address a lifetime of a.Lease from now on, or no expiry, in all its assignments on
// this machine. Nothing else of it changes, except that an IPv6 one becomes as Raise makes it. Nothing
// is run where it is not assigned, or has no expiry as wanted. A nil error means that the kernel shows
// the lifetime; a failure of one assignment does not keep the others from being renewed.
//
// Where the kernel would remove other addresses of the network with it at the end of a lease, the
// address gets no expiry instead, and that is an error. A strict one needs its end: promote_secondaries
// is switched on for good, so that the others stay.
func (t Tool) Renew(ctx context.Context, a Alias) (ran []proc.Result, err error) {
	k, err := t.snapshot()
	if err != nil {
		return nil, fmt.Errorf("renew %s: %w", a.Address(), err)
	}
	var errs []error
	for _, p := range k.Assignments(a.Address()) {
		lease, unsafe := k.safeLease(p, a.Lease)
		if unsafe != nil && a.Strict {
			on := promote(p.Interface, "1")
			ran = append(ran, on)
			if on.Err != nil {
				errs = append(errs, renewError(p, unsafe))
				continue
			}
			lease, unsafe = a.Lease, nil
		}
		did, err := t.renew(ctx, k, p, lease)
		ran = append(ran, did...)
		errs = append(errs, renewError(p, cmp.Or(err, unsafe)))
	}
	return ran, errors.Join(errs...)
}

func renewError(p Assignment, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("renew %s on %s: %w", p.Address.Prefix, p.Interface, err)
}

// safeLease is the lease that p may have: none where its end would remove other addresses.
func (k *Snapshot) safeLease(p Assignment, lease time.Duration) (time.Duration, error) {
	with := k.dependents(p)
	if lease == 0 || len(with) == 0 || promotes(p.Interface) {
		return lease, nil
	}
	return 0, fmt.Errorf("no lease: the kernel would remove %s at its end; to prevent that: %s", with[0], proc.Line(promoteCommand(p.Interface, "1")))
}

// renew renews one assignment.
func (t Tool) renew(ctx context.Context, before *Snapshot, p Assignment, lease time.Duration) (ran []proc.Result, err error) {
	commands, err := t.renewCommands(p, lease)
	for _, argv := range commands {
		began := time.Now()
		r := t.run(ctx, argv)
		ran = append(ran, r)
		after, snapshotErr := t.snapshot()
		if snapshotErr != nil {
			return ran, snapshotErr
		}
		now, found := after.find(p)
		switch {
		case !found:
			return ran, ineffective(r, "no longer shows the address")
		case hasLease(now.Address.Lease, lease, time.Since(began)):
			return ran, checkOthers(before, after, p.Interface, p.Address.Prefix.Addr())
		}
		err = ineffective(r, "shows it with "+remainingWords(now.Address.Lease))
		if !usageRefused(r) {
			break
		}
	}
	return ran, err
}

// renewCommands are the commands that would renew it, the best one first; none where it has no expiry as
// wanted. All have the label, because replace adds an address that was removed just now.
func (t Tool) renewCommands(p Assignment, lease time.Duration) ([][]string, error) {
	switch {
	case lease == 0 && p.Address.Lease == 0:
		return nil, nil
	case t.Name == "ifconfig":
		return nil, t.CanLease()
	}
	v6 := p.Address.Prefix.Addr().Is6()
	return t.withLifetime(p.commandWithLabel("replace"), v6, lifetime(lease, v6)), nil
}

// lifetime is a lease as arguments of ip. An IPv6 address is never preferred, so that it is never chosen as
// source; for IPv4 that makes no difference, but the kernel refuses one longer than valid.
func lifetime(lease time.Duration, v6 bool) []string {
	valid := "forever"
	if lease > 0 {
		valid = strconv.Itoa(int(wholeSeconds(lease) / time.Second))
	}
	preferred := valid
	if v6 {
		preferred = "0"
	}
	return []string{"valid_lft", valid, "preferred_lft", preferred}
}

// wholeSeconds rounds up to the kernel's unit.
func wholeSeconds(lease time.Duration) time.Duration {
	return (lease + time.Second - 1).Truncate(time.Second)
}

// hasLease reports whether the kernel shows the lifetime that was set at most that long ago.
func hasLease(shown, lease, ago time.Duration) bool {
	if shown == 0 || lease == 0 {
		return shown == lease
	}
	return shown <= wholeSeconds(lease) && shown >= wholeSeconds(lease)-wholeSeconds(ago)
}

func remainingWords(lease time.Duration) string {
	if lease == 0 {
		return "no expiry"
	}
	return fmt.Sprintf("%v left", lease)
}
