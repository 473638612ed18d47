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

// The kernel's duplicate address detection takes 1 to 2 s with its default of one question.
const (
	dadTimeout = 3 * time.Second
	dadPoll    = 50 * time.Millisecond
)

// Alias is one virtual IP as it shall stand.
type Alias struct {
	Prefix    netip.Prefix // not masked: its Addr is the virtual IP
	Interface string
	Label     string        // IPv4 only; "": the first free one
	Lease     time.Duration // until the kernel removes it unless it is renewed, rounded up to whole seconds; 0: never
	Reserved  []string      // labels that are not free, for others are to have them
}

// Address is the virtual IP; a link-local one means that of its interface.
func (a Alias) Address() netip.Addr {
	return zoned(a.Prefix.Addr(), a.Interface)
}

// RaisePlan is the command that Raise would run, with the tool's bare name; nil where the address
// stands already.
func (t Tool) RaisePlan(k *Snapshot, a Alias) ([]string, error) {
	if k.Holds(a.Address()) {
		return nil, nil
	}
	label, err := t.label(k, a, nil)
	if err != nil {
		return nil, fmt.Errorf("raise %s on %s: %w", a.Prefix, a.Interface, err)
	}
	return t.additions(a, label)[0], nil
}

// Raise makes the alias stand: nothing is run where the address is on this machine already, on
// whatever interface. A nil error means that the kernel has the address in use; label is the one it
// stands under. An address that duplicate address detection found on another machine is removed.
//
// A missing lease is no failure, for the address serves: the tool may be unable to set one, and where
// nothing is run none is set. The kernel's view shows that, and Renew mends it or says why it cannot.
//
// Choosing a label and using it are two steps: the caller holds the machine-wide lock.
func (t Tool) Raise(ctx context.Context, a Alias) (label string, ran []proc.Result, err error) {
	label, ran, err = t.raise(ctx, a)
	if err != nil {
		return "", ran, fmt.Errorf("raise %s on %s: %w", a.Prefix, a.Interface, err)
	}
	return label, ran, nil
}

func (t Tool) raise(ctx context.Context, a Alias) (label string, ran []proc.Result, err error) {
	began := time.Now()
	k, err := t.look()
	if err != nil {
		return "", nil, err
	}
	if !k.Holds(a.Address()) {
		label, done, err := t.choose(began, k, a)
		if err != nil {
			return "", nil, err
		}
		defer done()
		if ran, err = t.add(ctx, k, a, label); err != nil {
			return "", ran, err
		}
	}
	p, err := t.settled(ctx, a.Address())
	if errors.Is(err, errDuplicate) {
		removed, leftover := t.removeFailed(ctx, a.Address())
		return "", append(ran, removed...), errors.Join(err, leftover)
	}
	return p.Address.Label, ran, err
}

// add runs what is needed for the kernel to show the address, in use or not yet.
func (t Tool) add(ctx context.Context, before *Snapshot, a Alias, label string) (ran []proc.Result, err error) {
	if ran, err = t.removeFailed(ctx, a.Address()); err != nil {
		return ran, err
	}
	for _, way := range t.additions(a, label) {
		r := t.run(ctx, way)
		ran = append(ran, r)
		now, err := t.look()
		if err != nil {
			return ran, err
		}
		if len(now.copies(a.Address())) > 0 {
			return ran, missing(before, now, a.Interface, a.Address())
		}
		if !misunderstood(r) {
			break
		}
	}
	return ran, futile(ran[len(ran)-1], "does not show the address")
}

// choose chooses the label, by a look that began at that time, so that nobody
// else in the process takes it before done is called.
func (t Tool) choose(looked time.Time, k *Snapshot, a Alias) (label string, done func(), err error) {
	if t.Process == nil {
		label, err := t.label(k, a, nil)
		return label, func() {}, err
	}
	return t.Process.labels.choose(looked, func(taken []string) (string, error) { return t.label(k, a, taken) })
}

// label chooses the alias's label, none of those taken: "" is none.
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
	if under := k.labelled(a.Label); len(under) > 0 {
		return "", fmt.Errorf("label %q is in use by %s", a.Label, under[0])
	}
	if alias := a.Interface + ":"; t.Name == "ifconfig" && (!strings.HasPrefix(a.Label, alias) || a.Label == alias) {
		return "", fmt.Errorf("label %q: ifconfig needs one like %q", a.Label, alias+"1")
	}
	return a.Label, nil
}

var errDuplicate = errors.New("another machine has the address, the kernel's duplicate address detection says")

// settled waits until the kernel has a in use: at once for IPv4.
func (t Tool) settled(ctx context.Context, a netip.Addr) (Assignment, error) {
	for deadline := time.Now().Add(dadTimeout); ; {
		k, err := t.look()
		if err != nil {
			return Assignment{}, err
		}
		places := k.Assignments(a)
		inUse := slices.IndexFunc(places, func(p Assignment) bool { return !p.Address.Tentative })
		switch {
		case inUse >= 0:
			return places[inUse], nil
		case len(places) == 0 && len(k.copies(a)) > 0:
			return Assignment{}, errDuplicate
		case len(places) == 0:
			return Assignment{}, errors.New("the kernel had the address, and has lost it again")
		case time.Now().After(deadline):
			return Assignment{}, fmt.Errorf("the kernel's duplicate address detection has not ended after %v: the address is not in use yet", dadTimeout)
		}
		select {
		case <-ctx.Done():
			return Assignment{}, context.Cause(ctx)
		case <-time.After(dadPoll):
		}
	}
}

// LowerPlan is what Lower would run, with the tools' bare names; nothing where the address does not stand.
func (t Tool) LowerPlan(k *Snapshot, addr netip.Addr) ([][]string, error) {
	var plan [][]string
	for _, p := range k.copies(addr) {
		r, err := t.removal(k, p)
		if err != nil {
			return nil, lowering(p, err)
		}
		if r.protect {
			plan = append(plan, promoteCommand(p.Interface, "1"), r.argv, promoteCommand(p.Interface, "0"))
		} else {
			plan = append(plan, r.argv)
		}
	}
	return plan, nil
}

// Lower removes addr from every place on this machine, and nothing else: where the kernel would take
// other addresses of its network along, that is prevented, or nothing is removed. A nil error means
// that the kernel shows the address nowhere and the others still. It stops at the first failure.
//
// Preventing that is a setting of the interface for the moment: the caller holds the machine-wide lock.
func (t Tool) Lower(ctx context.Context, addr netip.Addr) (ran []proc.Result, err error) {
	k, err := t.look()
	if err != nil {
		return nil, fmt.Errorf("lower %s: %w", addr, err)
	}
	return t.removeAll(ctx, k.copies(addr))
}

// removeFailed removes what duplicate address detection has left of addr.
func (t Tool) removeFailed(ctx context.Context, addr netip.Addr) (ran []proc.Result, err error) {
	k, err := t.look()
	if err != nil {
		return nil, err
	}
	return t.removeAll(ctx, slices.DeleteFunc(k.copies(addr), func(p Assignment) bool { return !p.Address.DADFailed }))
}

func (t Tool) removeAll(ctx context.Context, places []Assignment) (ran []proc.Result, err error) {
	for _, p := range places {
		did, err := t.remove(ctx, p)
		ran = append(ran, did...)
		if err != nil {
			return ran, lowering(p, err)
		}
	}
	return ran, nil
}

func lowering(p Assignment, err error) error {
	return fmt.Errorf("lower %s on %s: %w", p.Address.Prefix, p.Interface, err)
}

// remove removes an address from one place.
func (t Tool) remove(ctx context.Context, p Assignment) (ran []proc.Result, err error) {
	before, err := t.look()
	if err != nil {
		return nil, err
	}
	p, stands := before.again(p)
	if !stands {
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
			return ran, fmt.Errorf("it would take %s along, and that cannot be prevented: %w", before.dependents(p)[0], on.Err)
		}
	}
	result := r.tool.run(ctx, r.argv)
	ran = append(ran, result)
	if r.protect {
		ran = append(ran, promote(p.Interface, "0"))
	}
	after, err := t.look()
	if err != nil {
		return ran, err
	}
	if _, stands := after.again(p); stands {
		return ran, futile(result, "still shows the address")
	}
	return ran, missing(before, after, p.Interface, p.Address.Prefix.Addr())
}

// again finds a place of an earlier snapshot in this one: other addresses may have made it primary.
func (k *Snapshot) again(p Assignment) (Assignment, bool) {
	l, _ := k.Link(p.Interface)
	for _, a := range l.Addresses {
		if a.Prefix == p.Address.Prefix && a.Peer == p.Address.Peer {
			return Assignment{Interface: p.Interface, Address: a}, true
		}
	}
	return Assignment{}, false
}

// futile explains a command that has not done its work, whatever it says itself.
func futile(r proc.Result, kernel string) error {
	if r.Err != nil {
		return r.Err
	}
	return fmt.Errorf("%s: exit code 0, but the kernel %s", proc.Line(r.Argv), kernel)
}

// missing is an error where other addresses than ours have gone from the interface.
func missing(before, after *Snapshot, link string, ours netip.Addr) error {
	l, _ := before.Link(link)
	now, _ := after.Link(link)
	type standing struct{ prefix, peer netip.Prefix }
	stands := make(map[standing]bool, len(now.Addresses)) // of a thousand addresses each is looked for
	for _, a := range now.Addresses {
		stands[standing{a.Prefix, a.Peer}] = true
	}
	for _, a := range l.Addresses {
		if !stands[standing{a.Prefix, a.Peer}] && !a.DADFailed && a.Prefix.Addr() != bare(ours) {
			return fmt.Errorf("the address %s has gone from %s with it", a.Prefix, link)
		}
	}
	return nil
}
