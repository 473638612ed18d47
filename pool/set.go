package pool

import (
	"net/netip"
	"slices"
	"time"
)

// Set is what a name server publishes for one name: the A and the AAAA record
// set, which are judged apart and changed in one update.
type Set struct {
	Name    string // fully qualified, lower case, with the final dot
	A, AAAA Records
}

// Records is a record set of one type.
type Records struct {
	Addrs []netip.Addr  // in ascending order; a caller must not change it
	TTL   time.Duration // of all its records; 0 where there are none
}

// Addrs are all published addresses, IPv4 first.
func (s Set) Addrs() []netip.Addr { return slices.Concat(s.A.Addrs, s.AAAA.Addrs) }

// Has says whether an address is published.
func (s Set) Has(a netip.Addr) bool { return slices.Contains(s.family(a).Addrs, a) }

// family is the record set that an address belongs to.
func (s Set) family(a netip.Addr) Records {
	if a.Is4() {
		return s.A
	}
	return s.AAAA
}

// With is the set after a change. The TTL is that of each record set to which
// an address is added; the other one keeps its own.
func (s Set) With(remove, add []netip.Addr, ttl time.Duration) Set {
	s.A = s.A.with(only(remove, netip.Addr.Is4), only(add, netip.Addr.Is4), ttl)
	s.AAAA = s.AAAA.with(only(remove, netip.Addr.Is6), only(add, netip.Addr.Is6), ttl)
	return s
}

func (r Records) with(remove, add []netip.Addr, ttl time.Duration) Records {
	next := Records{Addrs: without(r.Addrs, remove), TTL: r.TTL}
	if add = without(add, next.Addrs); len(add) > 0 {
		next.Addrs, next.TTL = slices.Concat(next.Addrs, add), ttl
		slices.SortFunc(next.Addrs, netip.Addr.Compare)
	}
	if len(next.Addrs) == 0 {
		next = Records{}
	}
	return next
}

// Change is one update of a set: only from Before as it is, to After.
type Change struct {
	Zone          string // as FindZone names it
	Before, After Set
}

// Empty says whether nothing would be changed.
func (c Change) Empty() bool { return len(c.steps()) == 0 }

// shownBy says whether a set shows the change; others may have made their own since.
func (c Change) shownBy(s Set) bool {
	for _, a := range slices.Concat(c.Before.Addrs(), c.After.Addrs()) {
		if c.Before.Has(a) != c.After.Has(a) && s.Has(a) != c.After.Has(a) {
			return false
		}
	}
	return true
}

// Inverse is the change that undoes c.
func (c Change) Inverse() Change { return Change{c.Zone, c.After, c.Before} }

// step adds a record, or deletes it.
type step struct {
	add  bool
	addr netip.Addr
	ttl  time.Duration // of add
}

// steps are what the update does, deletions first. A record that is added gives
// its TTL to the whole set (RFC 2181 5.2). Where only the TTL is another one, a
// record is deleted and added: Knot ignores the addition of one that is there.
func (c Change) steps() (steps []step) {
	families := [...]struct{ before, after Records }{{c.Before.A, c.After.A}, {c.Before.AAAA, c.After.AAAA}}
	var add []step
	for _, r := range families {
		out, in := without(r.before.Addrs, r.after.Addrs), without(r.after.Addrs, r.before.Addrs)
		if len(in) == 0 && len(r.after.Addrs) > 0 && r.after.TTL != r.before.TTL {
			in = r.after.Addrs[:1]
			out = append(out, in...)
		}
		for _, a := range out {
			steps = append(steps, step{addr: a})
		}
		for _, a := range in {
			add = append(add, step{true, a, r.after.TTL})
		}
	}
	return append(steps, add...)
}

func only(addrs []netip.Addr, which func(netip.Addr) bool) (some []netip.Addr) {
	for _, a := range addrs {
		if which(a) {
			some = append(some, a)
		}
	}
	return some
}

func without(addrs, out []netip.Addr) []netip.Addr {
	return only(addrs, func(a netip.Addr) bool { return !slices.Contains(out, a) })
}
