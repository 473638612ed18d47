package observe

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// placeAliases finds the interface of each virtual IP. The errors are choices that
// only the operator can make.
func placeAliases(j *Job, rec *state.Record, l *Local) (errs []error) {
	for i, v := range j.Set.VIPs {
		alias := vip.Alias{Prefix: v.Prefix, Label: j.Set.Label, Lease: j.Set.Lifetime(), Strict: j.Set.Arbiter.Set(), Reserved: j.Set.Reserved}
		if assigned := l.Assigned(l.vips[i]); len(assigned) > 0 {
			alias.Interface = assigned[0].Interface
			if label := assigned[0].Address.Label; label != alias.Interface { // that is none of its own
				alias.Label = label
			}
			l.vips[i], l.Aliases = alias.Address(), append(l.Aliases, alias)
			continue
		}
		name, err := chooseInterface(j, rec, l, v.Prefix, cmp.Or(v.Interface, j.Set.Interface))
		alias.Interface = l.received(name, v.Prefix.Addr(), j.VIPs())
		if err == nil {
			err = l.isNetwork(rec, alias)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.vips[i], l.Aliases = alias.Address(), append(l.Aliases, alias)
		l.noteAlias(alias)
	}
	return errs
}

// chooseInterface is the interface that a virtual IP belongs to: as configured,
// else the one of the last check while it still fits, else the one of the kernel's
// route to it where that is on the link, else the one of the route to the primary.
func chooseInterface(j *Job, rec *state.Record, l *Local, v netip.Prefix, configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	addr := v.Addr()
	networks := l.Snapshot.Networks(addr, j.VIPs()...)
	leads := l.pathInterface()
	if known := Recorded(rec.VIPs, addr).Interface; l.fits(known, networks, leads) {
		return known, nil
	}
	longest := longestNetworks(l.Snapshot, addr, networks)
	if len(longest) > 1 {
		return "", &run.Error{
			Code: run.CodeSettings, Text: fmt.Sprintf("vip %q: the networks of %s all hold it", v, strings.Join(longest, " and ")),
			Hint: fmt.Sprintf("set interface, or write %s@%s", addr, longest[0]),
		}
	}
	if route, err := j.Route(addr, netip.Addr{}); err == nil && route.OnLink {
		return route.Interface, nil
	}
	if len(longest) == 1 { // the address is on lo, so that the kernel's route leads there
		return longest[0], nil
	}
	return leads, nil
}

// fits tells whether a virtual IP still belongs to the interface of the last
// check: its network holds it, or no network does and the route to the primary
// leaves there. What an interface without carrier held may have gone with it.
func (l Local) fits(name string, networks []string, leads string) bool {
	link, ok := l.Snapshot.Link(name)
	return ok && (slices.Contains(networks, link.Name) || !link.Up || !link.Carrier || len(networks) == 0 && link.Name == leads)
}

// longestNetworks are those of the interfaces whose network of the longest prefix
// holds the address: as for the kernel, the others do not count, and
// neither do those that are down while one is up.
func longestNetworks(s *vip.Snapshot, a netip.Addr, names []string) (longest []string) {
	up := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		link, _ := s.Link(name)
		return !link.Up
	})
	if len(up) > 0 {
		names = up
	}
	bits := 0
	for _, name := range names {
		link, _ := s.Link(name)
		n := NetworkOf(link, a, nil).Bits()
		if n < bits {
			continue
		}
		if n > bits {
			longest, bits = nil, n
		}
		longest = append(longest, name)
	}
	return longest
}

// NetworkOf is the longest network of an interface that holds an address, zero for
// none. Networks of the addresses in not, as virtual IPs are, do not count.
func NetworkOf(link vip.Link, a netip.Addr, not []netip.Addr) (network netip.Prefix) {
	for _, has := range link.Addresses {
		p := has.Prefix.Masked()
		if has.Peer.IsValid() {
			p = has.Peer.Masked()
		}
		if !p.IsSingleIP() && p.Contains(a.WithZone("")) && !slices.Contains(not, has.Prefix.Addr()) && (!network.IsValid() || p.Bits() > network.Bits()) {
			network = p
		}
	}
	return network
}

// received is the interface of an address, by its own name. Frames of a port are
// received by its bridge, bond or team, or by an interface of a VLAN on that, where
// that has the network.
func (l *Local) received(name string, a netip.Addr, vips []netip.Addr) string {
	link, _ := l.Snapshot.Link(name)
	own := l.ownName(name)
	if link.Master == "" {
		return own
	}
	networks := l.Snapshot.Networks(a, vips...)
	i := slices.IndexFunc(networks, func(name string) bool {
		vlan, _ := l.Snapshot.Link(name)
		return vlan.Below == own
	})
	if i >= 0 && !slices.Contains(networks, own) {
		own = networks[i]
	}
	l.note("port "+link.Name, "interface %q is a port of %s: the virtual IPs are on %s", link.Name, link.Master, own)
	return own
}

// ownName is received without the note.
func (l Local) ownName(name string) string {
	link, ok := l.Snapshot.Link(name)
	if !ok {
		return name
	}
	return cmp.Or(link.Master, link.Name)
}

// isNetwork is the error that a virtual IP is the address of a network itself, or
// its broadcast address: nobody can have it. A /31 has neither (RFC 3021).
func (l Local) isNetwork(rec *state.Record, a vip.Alias) error {
	text := l.networkAddress(a)
	if text == "" || rec.Last != nil {
		return nil
	}
	return &run.Error{Code: run.CodeSettings, Text: text, Hint: "set vip to an address of a machine"}
}

func (l Local) networkAddress(a vip.Alias) string {
	link, _ := l.Snapshot.Link(a.Interface)
	addr := a.Prefix.Addr()
	network := NetworkOf(link, addr, []netip.Addr{addr})
	switch {
	case !addr.Is4() || !network.IsValid() || network.Bits() > 30:
		return ""
	case addr == network.Addr():
		return fmt.Sprintf("vip %s is the address of the network %s itself", addr, network)
	case !network.Contains(addr.Next()):
		return fmt.Sprintf("vip %s is the broadcast address of the network %s", addr, network)
	}
	return ""
}

// noteAlias notes what is wrong with the place of a virtual IP that is not held.
func (l *Local) noteAlias(a vip.Alias) {
	addr := a.Address()
	if on := l.Snapshot.WithoutARP(addr, l.added[addr]...); len(on) > 0 {
		l.note("without ARP "+addr.String(), "vip %s is on %s as well, which does not do ARP: it does not count as held, and is left alone", addr, on[0].Interface)
	}
	link, _ := l.Snapshot.Link(a.Interface)
	if link.ProxyARP && addr.Is4() {
		l.note("proxy ARP "+link.Name, "interface %q does proxy ARP: what this machine itself replies for %s is ignored; to end it: sysctl net.ipv4.conf.%s.proxy_arp=0", link.Name, addr, link.Name)
	}
	if why := l.noARPReply(addr); why != "" {
		l.note("arp_ignore "+addr.String(), "clients would not find %s here: %s", addr, why)
	}
	if why := l.CannotAssign(a); why != "" {
		l.judged("cannot assign "+addr.String(), "vip %s cannot be taken over: %s", addr, why)
	} else if !NetworkOf(link, addr, []netip.Addr{a.Prefix.Addr()}).IsValid() && len(l.Snapshot.Networks(a.Prefix.Addr(), addr)) == 0 {
		l.judged("outside "+addr.String(), "vip %s is outside all networks of this machine", addr)
	}
}

// noARPReply is why clients would not find a virtual IP that is assigned here: the
// kernel would reply to no ARP request for it. "" where it would.
func (l Local) noARPReply(addr netip.Addr) string {
	link, _ := l.Snapshot.Link(l.Target(addr).Interface)
	if addr.Is4() && (link.ARPIgnore == 8 || link.ARPIgnore == 2 && !NetworkOf(link, addr, []netip.Addr{addr}).IsValid()) {
		return fmt.Sprintf("%s does not reply to ARP for it (net.ipv4.conf.%[1]s.arp_ignore=%d)", link.Name, link.ARPIgnore)
	}
	return ""
}

// CannotAssign is why a virtual IP cannot be assigned here now, "" where it can.
// That concerns no other one.
func (l Local) CannotAssign(a vip.Alias) string {
	if a.Interface == "" {
		return fmt.Sprintf("no interface for %s: no network of this machine holds it, and no route leads to the primary", a.Prefix.Addr())
	}
	if text := l.LinkFault(a.Interface); text != "" {
		return text
	}
	switch link, _ := l.Snapshot.Link(a.Interface); {
	case link.NoIPv6 && a.Prefix.Addr().Is6():
		return fmt.Sprintf("IPv6 is disabled on %s (net.ipv6.conf.%[1]s.disable_ipv6)", link.Name)
	case l.asks && !link.ARP:
		return fmt.Sprintf("%s does not do ARP, as tunnels do not: no other machine can be asked whether it has the address (duplicate-check)", link.Name)
	case l.asks && link.IPVLAN && a.Prefix.Addr().Is4():
		return fmt.Sprintf("%s is an ipvlan: replies to ARP probes do not arrive there, so it is unknown whether another machine has the address (duplicate-check)", link.Name)
	}
	return l.networkAddress(a)
}

// cannotTake are the virtual IPs that are not here and cannot be assigned, and why.
func (l Local) cannotTake() map[netip.Addr]string {
	why := map[netip.Addr]string{}
	for _, a := range l.vips {
		if text := l.CannotTake(a); text != "" {
			why[a] = text
		}
	}
	return why
}

// CannotTake is why a virtual IP that is not here cannot be assigned, "" where it
// can, or is.
func (l Local) CannotTake(addr netip.Addr) string {
	for _, a := range l.Aliases {
		if a.Address() == addr && !l.Holds(addr) {
			return l.CannotAssign(a)
		}
	}
	return ""
}

// hasOwnVIP is the error that a virtual IP is this machine's own address: that
// would count as held, and be released sooner or later.
func (l Local) hasOwnVIP(rec *state.Record) error {
	own := l.OwnVIPs(rec)
	if len(own) == 0 {
		return nil
	}
	return &run.Error{
		Code: run.CodeSettings, Text: fmt.Sprintf("vip %s is this machine's own address, on %s", own[0].Address.Prefix.Addr(), own[0].Interface),
		Hint: "set vip to an address that only follows the primary",
	}
}

// OwnVIPs are virtual IPs that are this machine's own addresses.
func (l Local) OwnVIPs(rec *state.Record) (own []vip.Assignment) {
	for _, a := range l.vips {
		for _, p := range l.Assigned(a) {
			if l.isOwn(rec, p) {
				own = append(own, p)
			}
		}
	}
	return own
}

// isOwn tells whether an assignment is an address by which this machine is on
// its network: neither pingover nor anybody else has assigned it as an alias,
// and it is the first IPv4 address of its interface, or the only one in its
// network there. One without a network, as clouds give, is its own when there is
// no other. An address that is native to one machine of a pair comes in addition
// to that machine's own.
func (l Local) isOwn(rec *state.Record, p vip.Assignment) bool {
	has, addr := p.Address, p.Address.Prefix.Addr()
	if has.Secondary || isAlias(p) || l.BootID == rec.BootID && rec.Ours(Recorded(rec.VIPs, addressOn(p))) {
		return false
	}
	link, _ := l.Snapshot.Link(p.Interface)
	if has.Prefix.IsSingleIP() {
		return !slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			other := a.Prefix.Addr()
			return other != addr && other.Is4() == addr.Is4() && !other.IsLinkLocalUnicast() && !l.IsVIP(other)
		})
	}
	first := slices.IndexFunc(link.Addresses, func(a vip.Address) bool { return a.Prefix.Addr().Is4() })
	return addr.Is4() && link.Addresses[first].Prefix == has.Prefix ||
		!slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			return a.Prefix.Masked().Contains(addr) && !a.Deprecated && !l.IsVIP(a.Prefix.Addr())
		})
}

// isAlias tells whether an address is assigned as aliases are: under a label of
// its own, or never chosen as a source.
func isAlias(p vip.Assignment) bool {
	return p.Address.Deprecated || p.Address.Prefix.Addr().Is4() && p.Address.Label != p.Interface
}

// Recorded is the alias of an address, zero for none.
func Recorded(aliases []state.Alias, a netip.Addr) state.Alias {
	for _, known := range aliases {
		if state.SameAddress(known.Address(), a) {
			return known
		}
	}
	return state.Alias{}
}

// addressOn is an assigned address, with the interface as zone where it is
// link-local.
func addressOn(p vip.Assignment) netip.Addr {
	return vip.Alias{Prefix: p.Address.Prefix, Interface: p.Interface}.Address()
}
