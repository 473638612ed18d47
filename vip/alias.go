package vip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/proc"
)

// The kernel's duplicate address detection takes 1 to 2 s with its default of one probe.
const (
	dadTimeout = 3 * time.Second
	dadPoll    = 50 * time.Millisecond
)

// Alias is one virtual IP as it is to be assigned.
type Alias struct {
	Prefix    netip.Prefix  // not masked: its Addr is the virtual IP
	Interface string        // its name, not an alternative one
	Label     string        // IPv4 only; "": the first free one
	Lease     time.Duration // the kernel removes it then unless it is renewed, rounded up to whole seconds; 0: no expiry
	Strict    bool          // it must not be assigned without the lease
	Reserved  []string      // labels that are not free: others are configured with them
}

// Address is the virtual IP, with the interface as zone where it is link-local.
func (a Alias) Address() netip.Addr {
	return zoned(a.Prefix.Addr(), a.Interface)
}

// RaisePlan is the command that Raise would run, with the tool's bare name; nil where the address is
// held already.
func (t Tool) RaisePlan(k *Snapshot, a Alias) ([]string, error) {
	if len(k.Held(a.Address(), a.Interface)) > 0 {
		return nil, nil
	}
	label, err := t.label(k, a, nil)
	if err != nil {
		return nil, fmt.Errorf("add %s to %s: %w", a.Prefix, a.Interface, err)
	}
	return t.addCommands(a, label)[0], nil
}

// Raise adds the alias. Nothing is run where the address is held on this machine already, on whatever
// interface. A nil error means that the kernel has the address in use; label is the one it has. An
// address that duplicate address detection found on another machine is removed again.
//
// A missing lease is no failure, for the address serves: the tool may be unable to set one, and where
// nothing is run none is set. A snapshot shows that, and Renew fixes it or reports why it cannot.
//
// Choosing a label and using it are two steps: the caller holds the machine-wide lock.
func (t Tool) Raise(ctx context.Context, a Alias) (label string, ran []proc.Result, err error) {
	label, ran, err = t.raise(ctx, a)
	if err != nil {
		return "", ran, fmt.Errorf("add %s to %s: %w", a.Prefix, a.Interface, err)
	}
	return label, ran, nil
}

func (t Tool) raise(ctx context.Context, a Alias) (label string, ran []proc.Result, err error) {
	began := time.Now()
	k, err := t.snapshot()
	if err != nil {
		return "", nil, err
	}
	if len(k.Held(a.Address(), a.Interface)) == 0 {
		label, done, err := t.choose(began, k, a)
		if err != nil {
			return "", nil, err
		}
		defer done()
		if ran, err = t.add(ctx, k, a, label); err != nil {
			return "", ran, err
		}
	}
	p, err := t.waitInUse(ctx, a)
	if errors.Is(err, errDuplicate) {
		removed, leftover := t.removeDADFailed(ctx, a.Address())
		return "", append(ran, removed...), errors.Join(err, leftover)
	}
	return p.Address.Label, ran, err
}

// add runs commands until the kernel shows the address, in use or not yet.
func (t Tool) add(ctx context.Context, before *Snapshot, a Alias, label string) (ran []proc.Result, err error) {
	if ran, err = t.removeDADFailed(ctx, a.Address()); err != nil {
		return ran, err
	}
	for _, argv := range t.addCommands(a, label) {
		r := t.run(ctx, argv)
		ran = append(ran, r)
		now, err := t.snapshot()
		if err != nil {
			return ran, err
		}
		if len(now.allHeld(a.Address(), a.Interface)) > 0 {
			return ran, checkOthers(before, now, a.Interface, a.Address())
		}
		if !usageRefused(r) {
			break
		}
	}
	return ran, ineffective(ran[len(ran)-1], "does not show the address")
}

// choose chooses the label, by a snapshot that was begun at that time, and reserves it in the process
// until done is called.
func (t Tool) choose(began time.Time, k *Snapshot, a Alias) (label string, done func(), err error) {
	if t.Process == nil {
		label, err := t.label(k, a, nil)
		return label, func() {}, err
	}
	return t.Process.labels.choose(began, func(taken []string) (string, error) { return t.label(k, a, taken) })
}

// label chooses the alias's label, none of those taken; "": it has none.
func (t Tool) label(k *Snapshot, a Alias, taken []string) (string, error) {
	l, ok := k.Link(a.Interface)
	switch {
	case !ok:
		return "", fmt.Errorf("there is no interface %q", a.Interface)
	case a.Prefix.Addr().Is6() && l.NoIPv6:
		return "", fmt.Errorf("IPv6 is disabled on %s (net.ipv6.conf.%[1]s.disable_ipv6)", l.Name)
	case a.Prefix.Addr().Is6():
		return "", nil
	}
	if a.Label == "" {
		label, ok := FreeLabel(k, a.Interface, slices.Concat(taken, a.Reserved)...)
		if !ok && t.Name == "ifconfig" {
			return "", fmt.Errorf("ifconfig needs a label such as %q, and that is longer than %d characters: use ip (Debian package iproute2)", a.Interface+":1", labelMax)
		}
		return label, nil
	}
	if len(a.Label) > labelMax {
		return "", fmt.Errorf("label %q: %d characters, at most %d", a.Label, len(a.Label), labelMax)
	}
	if under := k.withLabel(a.Label); len(under) > 0 {
		return "", fmt.Errorf("label %q is in use by %s", a.Label, under[0])
	}
	if alias := a.Interface + ":"; t.Name == "ifconfig" && (!strings.HasPrefix(a.Label, alias) || a.Label == alias) {
		return "", fmt.Errorf("label %q: ifconfig needs one like %q", a.Label, alias+"1")
	}
	return a.Label, nil
}

var errDuplicate = errors.New("the address is in use by another machine (duplicate address detection)")

// waitInUse waits until the kernel has the address in use: no wait for IPv4.
func (t Tool) waitInUse(ctx context.Context, a Alias) (Assignment, error) {
	for deadline := time.Now().Add(dadTimeout); ; {
		k, err := t.snapshot()
		if err != nil {
			return Assignment{}, err
		}
		assigned := k.Held(a.Address(), a.Interface)
		inUse := slices.IndexFunc(assigned, func(p Assignment) bool { return !p.Address.Tentative })
		switch {
		case inUse >= 0:
			return assigned[inUse], nil
		case len(assigned) == 0 && len(k.allHeld(a.Address(), a.Interface)) > 0:
			return Assignment{}, errDuplicate
		case len(assigned) == 0:
			return Assignment{}, errors.New("the address was added, and removed again by another program")
		case time.Now().After(deadline):
			return Assignment{}, fmt.Errorf("duplicate address detection has not ended after %v: the address is not in use yet", dadTimeout)
		}
		select {
		case <-ctx.Done():
			return Assignment{}, context.Cause(ctx)
		case <-time.After(dadPoll):
		}
	}
}

// LowerPlan is what Lower would run, with the tools' bare names; nothing where the address is not held.
func (t Tool) LowerPlan(k *Snapshot, addr netip.Addr, added ...string) ([][]string, error) {
	var plan [][]string
	for _, p := range k.allHeld(addr, added...) {
		r, err := t.removal(k, p)
		if err != nil {
			return nil, removeError(p, err)
		}
		if r.protect {
			plan = append(plan, promoteCommand(p.Interface, "1"), r.argv, promoteCommand(p.Interface, "0"))
		} else {
			plan = append(plan, r.argv)
		}
	}
	return plan, nil
}

// Lower removes addr from every interface that holds it (see Snapshot.Held), and nothing else: where
// the kernel would remove other addresses of its network with it, that is prevented, or nothing is
// removed. A nil error means that the kernel shows it held nowhere and the others still. It stops at the
// first failure.
//
// Preventing that is a setting of the interface for the moment: the caller holds the machine-wide lock.
func (t Tool) Lower(ctx context.Context, addr netip.Addr, added ...string) (ran []proc.Result, err error) {
	k, err := t.snapshot()
	if err != nil {
		return nil, fmt.Errorf("remove %s: %w", addr, err)
	}
	return t.removeAll(ctx, k.allHeld(addr, added...))
}

// removeDADFailed removes assignments of addr that failed duplicate address detection.
func (t Tool) removeDADFailed(ctx context.Context, addr netip.Addr) (ran []proc.Result, err error) {
	k, err := t.snapshot()
	if err != nil {
		return nil, err
	}
	return t.removeAll(ctx, slices.DeleteFunc(k.allAssignments(addr), func(p Assignment) bool { return !p.Address.DADFailed }))
}

func (t Tool) removeAll(ctx context.Context, all []Assignment) (ran []proc.Result, err error) {
	for _, p := range all {
		did, err := t.remove(ctx, p)
		ran = append(ran, did...)
		if err != nil {
			return ran, removeError(p, err)
		}
	}
	return ran, nil
}

func removeError(p Assignment, err error) error {
	return fmt.Errorf("remove %s from %s: %w", p.Address.Prefix, p.Interface, err)
}

// remove removes one assignment.
func (t Tool) remove(ctx context.Context, p Assignment) (ran []proc.Result, err error) {
	before, err := t.snapshot()
	if err != nil {
		return nil, err
	}
	p, found := before.find(p)
	if !found {
		return nil, nil
	}
	r, err := t.removal(before, p)
	if err != nil {
		return nil, err
	}
	if r.protect {
		on := promote(p.Interface, "1")
		ran = append(ran, on)
		if on.Err != nil {
			return ran, fmt.Errorf("the kernel would remove %s with it, and that cannot be prevented: %w", before.dependents(p)[0], on.Err)
		}
	}
	result := r.tool.run(ctx, r.argv)
	ran = append(ran, result)
	if r.protect {
		ran = append(ran, promote(p.Interface, "0"))
	}
	after, err := t.snapshot()
	if err != nil {
		return ran, err
	}
	if _, found := after.find(p); found {
		return ran, ineffective(result, "still shows the address")
	}
	return ran, checkOthers(before, after, p.Interface, p.Address.Prefix.Addr())
}

// find finds an assignment of an earlier snapshot in this one, where it may have become primary.
func (k *Snapshot) find(p Assignment) (Assignment, bool) {
	l, _ := k.Link(p.Interface)
	for _, a := range l.Addresses {
		if a.Prefix == p.Address.Prefix && a.Peer == p.Address.Peer {
			return Assignment{Interface: p.Interface, Address: a}, true
		}
	}
	return Assignment{}, false
}

// ineffective is the error of a command without effect, whatever its exit code.
func ineffective(r proc.Result, kernel string) error {
	if r.Err != nil {
		return r.Err
	}
	return fmt.Errorf("%s: exit code 0, but the kernel %s", proc.Line(r.Argv), kernel)
}

// checkOthers is an error where other addresses than ours were removed from the interface.
func checkOthers(before, after *Snapshot, link string, ours netip.Addr) error {
	l, _ := before.Link(link)
	now, _ := after.Link(link)
	type key struct{ prefix, peer netip.Prefix }
	assigned := make(map[key]bool, len(now.Addresses)) // there may be a thousand
	for _, a := range now.Addresses {
		assigned[key{a.Prefix, a.Peer}] = true
	}
	for _, a := range l.Addresses {
		if !assigned[key{a.Prefix, a.Peer}] && !a.DADFailed && a.Prefix.Addr() != bare(ours) {
			return fmt.Errorf("the address %s was removed from %s with it", a.Prefix, link)
		}
	}
	return nil
}
