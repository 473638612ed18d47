// Package vip answers who holds a virtual IP. It reads this machine's addresses from the kernel, adds
// and removes the alias through ip or ifconfig, and asks, listens and announces by ARP and neighbour
// discovery.
package vip

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pingover/internal/proc"
)

// dumpTries is how often an interrupted netlink dump is repeated.
const dumpTries = 10

// Address is one address of an interface, as the kernel has it.
type Address struct {
	Prefix     netip.Prefix // the address itself, with the length of its network; a host prefix where there is a peer
	Peer       netip.Prefix // the far end of a point-to-point address, with the length of the network; else zero
	Label      string       // IPv4 only: "eth0:1", or the interface's name where none was chosen
	Secondary  bool         // IPv4 only: not the first of its network, and gone with the first unless promote_secondaries is on
	Tentative  bool         // IPv6 only: duplicate address detection (RFC 4862) has not ended
	DADFailed  bool         // IPv6 only: duplicate address detection found another holder, the kernel does not use the address
	Deprecated bool         // never chosen as source by itself

	Lease time.Duration // remaining lifetime, in whole seconds, rounded up; 0: no expiry
}

// network is what the kernel routes to the link because of this address.
func (a Address) network() netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// Link is one interface with its addresses, in the kernel's order.
type Link struct {
	Index     int
	Name      string
	AltNames  []string // alternative names, set with "ip link property add"
	Master    string   // the bridge, bond or team that it is a port of: frames are received there; "": none
	Below     string   // the interface whose VLAN this one is; "": it is no VLAN interface
	MAC       net.HardwareAddr
	Up        bool // administratively
	Carrier   bool // the cable is in, and the link is not dormant, as it is before 802.1X authentication
	Loopback  bool
	ARP       bool // neighbours are resolved here, by ARP and by neighbour discovery: neither loopback nor NOARP
	IPVLAN    bool // gets only the frames for its own IP addresses (ipvlan), and so no reply to an ARP probe
	NoIPv6    bool // IPv6 is disabled here (disable_ipv6); read for links that do ARP
	Router    bool // forwards IPv6 (forwarding); read for links that do ARP
	ProxyARP  bool // replies to ARP for addresses that it routes elsewhere (proxy_arp); read for links that do ARP
	ARPIgnore int  // for which of its addresses it does not reply to ARP (arp_ignore in ip-sysctl); read for links that do ARP
	Addresses []Address
}

// Snapshot is this machine's interfaces and addresses at one moment.
type Snapshot struct {
	Links []Link
}

// TakeSnapshot takes a snapshot, in the network namespace of the calling thread.
func TakeSnapshot() (*Snapshot, error) { return anew().snapshot() }

func (h handle) snapshot() (*Snapshot, error) {
	return complete(func() (*Snapshot, error) {
		links, err := h.LinkList()
		if err != nil {
			return nil, fmt.Errorf("list the interfaces: %w", err)
		}
		addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list the addresses: %w", err)
		}
		k, err := snapshot(links, addresses)
		if err == nil {
			k.readSysctls()
		}
		return k, err
	})
}

// readSysctls reads what netlink does not tell of the links that do ARP. A file that is missing
// because the interface has gone leaves the default; without IPv6 in the kernel it is disabled.
func (k *Snapshot) readSysctls() {
	_, err := os.Stat("/proc/sys/net/ipv6")
	noIPv6 := err != nil
	proxyARP, arpIgnore := sysctlOn("ipv4", "all", "proxy_arp"), sysctl("ipv4", "all", "arp_ignore")
	for i := range k.Links {
		if l := &k.Links[i]; l.ARP {
			l.NoIPv6 = noIPv6 || sysctlOn("ipv6", l.Name, "disable_ipv6")
			l.Router = sysctlOn("ipv6", l.Name, "forwarding")
			l.ProxyARP = proxyARP || sysctlOn("ipv4", l.Name, "proxy_arp")
			l.ARPIgnore = max(arpIgnore, sysctl("ipv4", l.Name, "arp_ignore"))
		}
	}
}

// sysctlOn reads a switch of an interface: true where the file is there and is not 0.
func sysctlOn(family, link, name string) bool { return sysctl(family, link, name) != 0 }

// sysctl reads a number of an interface, in the network namespace of the calling thread; 0 where there
// is none.
func sysctl(family, link, name string) int {
	value, err := proc.ReadSmall(filepath.Join("/proc/sys/net", family, "conf", link, name))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(value)
	return n
}

// complete repeats a dump that a change has interrupted, and returns the error in the end: the result
// may lack anything, so it is never used.
func complete[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		got, err := list()
		if try == dumpTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
}

// snapshot puts the kernel's two listings together.
func snapshot(links []netlink.Link, addresses []netlink.Addr) (*Snapshot, error) {
	k := new(Snapshot)
	place := make(map[int]int)       // index of the interface → position in k.Links
	masters := map[int]string{0: ""} // bridges, bonds and teams
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
		switch l.Type() {
		case "bridge", "bond", "team":
			masters[l.Attrs().Index] = l.Attrs().Name
		}
	}
	for _, l := range links {
		a := l.Attrs()
		has := func(flag uint32) bool { return a.RawFlags&flag != 0 }
		place[a.Index] = len(k.Links)
		k.Links = append(k.Links, Link{
			Index:    a.Index,
			Name:     a.Name,
			AltNames: a.AltNames,
			Master:   masters[a.MasterIndex],
			MAC:      a.HardwareAddr,
			Up:       has(unix.IFF_UP),
			Carrier:  has(unix.IFF_LOWER_UP) && a.OperState != netlink.OperDormant, // IFF_RUNNING lags behind by up to a second
			Loopback: has(unix.IFF_LOOPBACK),
			ARP:      !has(unix.IFF_LOOPBACK) && !has(unix.IFF_NOARP),
			IPVLAN:   l.Type() == "ipvlan" || l.Type() == "ipvtap",
		})
		if l.Type() == "vlan" {
			k.Links[len(k.Links)-1].Below = names[a.ParentIndex]
		}
	}
	for _, a := range addresses {
		i, ok := place[a.LinkIndex]
		if !ok {
			return nil, fmt.Errorf("an address of interface number %d, which came after the list of interfaces: %w", a.LinkIndex, netlink.ErrDumpInterrupted)
		}
		if prefix := prefixOf(a.IPNet); prefix.IsValid() {
			k.Links[i].Addresses = append(k.Links[i].Addresses, addressOf(a, prefix))
		}
	}
	return k, nil
}

func addressOf(a netlink.Addr, prefix netip.Prefix) Address {
	has := func(flag int) bool { return a.Flags&flag != 0 }
	v4 := prefix.Addr().Is4()
	return Address{
		Prefix:     prefix,
		Peer:       prefixOf(a.Peer),
		Label:      a.Label,
		Secondary:  v4 && has(unix.IFA_F_SECONDARY), // the same bit marks a temporary IPv6 address
		Tentative:  has(unix.IFA_F_TENTATIVE),
		DADFailed:  has(unix.IFA_F_DADFAILED),
		Deprecated: has(unix.IFA_F_DEPRECATED),
		Lease:      leaseOf(a),
	}
}

// leaseOf reads the kernel's unsigned number: all bits set is no expiry, 0 is due now.
func leaseOf(a netlink.Addr) time.Duration {
	valid := uint32(a.ValidLft)
	if valid == math.MaxUint32 {
		return 0
	}
	return max(1, time.Duration(valid)) * time.Second
}

// prefixOf gives the zero Prefix for what is neither IPv4 nor IPv6.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits)
}

// Link finds an interface by its name or by an alternative name.
func (k *Snapshot) Link(name string) (Link, bool) {
	i := slices.IndexFunc(k.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		i = slices.IndexFunc(k.Links, func(l Link) bool { return slices.Contains(l.AltNames, name) })
	}
	if i < 0 {
		return Link{}, false
	}
	return k.Links[i], true
}

// receiving is the interface that takes the frames of this one: the master of a
// port, where that is there.
func (k *Snapshot) receiving(name string) (Link, bool) {
	link, ok := k.Link(name)
	if master, there := k.Link(link.Master); there {
		return master, true
	}
	return link, ok
}

// Assignment is an address on an interface.
type Assignment struct {
	Interface string
	Address   Address
}

// LinkFault is what is wrong with an interface, "" for nothing.
func (k *Snapshot) LinkFault(name string) string {
	link, ok := k.Link(name)
	switch {
	case name == "":
		return ""
	case !ok:
		return fmt.Sprintf("there is no interface %q", name)
	case !link.Up:
		return fmt.Sprintf("interface %q is down", name)
	case !link.Carrier:
		return fmt.Sprintf("interface %q has no carrier: is the cable in?", name)
	}
	return ""
}

// Assignments are all interfaces' assignments of a, whatever the prefix or label. Tentative ones are
// included, those that failed duplicate address detection are not. A zone in a restricts them to that
// interface. What pingover holds is Held.
func (k *Snapshot) Assignments(a netip.Addr) []Assignment {
	return slices.DeleteFunc(k.allAssignments(a), func(p Assignment) bool { return p.Address.DADFailed })
}

// Held are the Assignments of a on interfaces that do ARP, and on those where pingover added it. The
// others (lo, NOARP) do not attract clients: direct server return puts a virtual IP there. See WithoutARP.
func (k *Snapshot) Held(a netip.Addr, added ...string) []Assignment {
	return slices.DeleteFunc(k.Assignments(a), func(p Assignment) bool { return !k.attracts(p, added) })
}

// WithoutARP are the Assignments of a that are not Held.
func (k *Snapshot) WithoutARP(a netip.Addr, added ...string) []Assignment {
	return slices.DeleteFunc(k.Assignments(a), func(p Assignment) bool { return k.attracts(p, added) })
}

func (k *Snapshot) attracts(p Assignment, added []string) bool {
	l, _ := k.Link(p.Interface)
	return l.ARP || slices.Contains(added, l.Name)
}

// allAssignments are the assignments of a with those that the kernel does not use because another machine has it.
func (k *Snapshot) allAssignments(a netip.Addr) []Assignment {
	var all []Assignment
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			if l.zone(a) && has.Prefix.Addr() == bare(a) {
				all = append(all, Assignment{Interface: l.Name, Address: has})
			}
		}
	}
	return all
}

// allHeld are the Held assignments of a with those that failed duplicate address detection.
func (k *Snapshot) allHeld(a netip.Addr, added ...string) []Assignment {
	return slices.DeleteFunc(k.allAssignments(a), func(p Assignment) bool { return !k.attracts(p, added) })
}

// Holds reports whether a is an address of this machine, on whatever interface.
func (k *Snapshot) Holds(a netip.Addr) bool {
	return len(k.Assignments(a)) > 0
}

// zone reports whether a may be an address of this link.
func (l Link) zone(a netip.Addr) bool {
	z := a.Zone()
	return z == "" || z == l.Name || z == strconv.Itoa(l.Index) || slices.Contains(l.AltNames, z)
}

// OwnMAC reports whether m belongs to an interface of this machine.
func (k *Snapshot) OwnMAC(m net.HardwareAddr) bool {
	return slices.ContainsFunc(k.Links, func(l Link) bool { return len(m) > 0 && bytes.Equal(l.MAC, m) })
}

// Networks names the interfaces with a in one of their networks, by an address that is not among not;
// loopback interfaces and single-address networks do not count.
func (k *Snapshot) Networks(a netip.Addr, not ...netip.Addr) []string {
	var names []string
	for _, l := range k.Links {
		if !l.Loopback && l.zone(a) && slices.ContainsFunc(l.Addresses, func(has Address) bool {
			return !has.DADFailed && !has.network().IsSingleIP() && has.network().Contains(bare(a)) && !among(not, has)
		}) {
			names = append(names, l.Name)
		}
	}
	return names
}

// Source chooses the address of the link to ask target from: of target's family and scope, in use,
// not one of vips, in target's network where there is one. Link-local IPv6 comes with its zone, as
// sockets need it. Zero: there is none.
func (k *Snapshot) Source(link string, target netip.Addr, vips []netip.Addr) netip.Addr {
	return k.source(link, target, vips, func(a netip.Addr) bool {
		return a.Is4() || a.IsLinkLocalUnicast() == target.IsLinkLocalUnicast()
	})
}

// PingSource is the source of pings to target: the one that the kernel's route names, unless it is
// one of vips; then another address of the route's interface. Zero: there is none.
func (k *Snapshot) PingSource(r Route, target netip.Addr, vips []netip.Addr) netip.Addr {
	if r.Source.IsValid() && !slices.ContainsFunc(vips, func(a netip.Addr) bool { return bare(a) == bare(r.Source) }) {
		return r.Source
	}
	return k.Source(r.Interface, target, vips)
}

// RequestSource chooses the sender address of ARP requests and neighbour solicitations for target:
// like Source, but a link-local address does for every IPv6 target. Zero: there is none, so only a
// probe can be sent. It is outside when it belongs to another network than target: hosts with strict
// rp_filter do not reply to such a request, but do to a probe.
func (k *Snapshot) RequestSource(link string, target netip.Addr, vips []netip.Addr) (from netip.Addr, outside bool) {
	from = k.source(link, target, vips, func(netip.Addr) bool { return true })
	l, _ := k.Link(link)
	inside := slices.ContainsFunc(l.Addresses, func(has Address) bool {
		return has.Prefix.Addr() == bare(from) && has.network().Contains(bare(target))
	})
	return from, from.IsValid() && !inside && !from.IsLinkLocalUnicast()
}

// source is the first address in use of target's family that fits and is not one of vips, one in
// target's network first.
func (k *Snapshot) source(link string, target netip.Addr, vips []netip.Addr, fits func(netip.Addr) bool) netip.Addr {
	l, _ := k.Link(link)
	var best netip.Addr
	for _, has := range l.Addresses {
		a := has.Prefix.Addr()
		if a.Is4() != bare(target).Is4() || !fits(a) || has.Tentative || has.DADFailed || has.Deprecated || among(vips, has) {
			continue
		}
		if has.network().Contains(bare(target)) {
			return zoned(a, l.Name)
		}
		if !best.IsValid() || a.Is6() && a.IsLinkLocalUnicast() && !best.IsLinkLocalUnicast() {
			best = zoned(a, l.Name)
		}
	}
	return best
}

func among(addrs []netip.Addr, has Address) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return bare(a) == has.Prefix.Addr() })
}

// zoned adds the zone that a link-local IPv6 address needs outside of its link.
func zoned(a netip.Addr, link string) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(link)
	}
	return a
}
