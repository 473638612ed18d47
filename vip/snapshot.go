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
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// lookTries is how often an interrupted listing is begun anew.
const lookTries = 10

// Address is one address of an interface, as the kernel has it.
type Address struct {
	Prefix     netip.Prefix // the address itself, with the length of its network; a host prefix where there is a peer
	Peer       netip.Prefix // the far end of a point-to-point address, with the length of the network; else zero
	Label      string       // IPv4 only: "eth0:1", or the interface's name where nobody chose one
	Secondary  bool         // IPv4 only: not the first of its network, and gone with the first unless promote_secondaries is on
	Tentative  bool         // IPv6 only: duplicate address detection (RFC 4862) has not ended
	DADFailed  bool         // IPv6 only: duplicate address detection found another holder, the kernel does not use the address
	Deprecated bool         // never chosen as source by itself

	Lease time.Duration // how much longer the kernel keeps it, in whole seconds, rounded up; 0: for ever
}

// network is what the kernel takes to be on the link because of this address.
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
	MAC       net.HardwareAddr
	Up        bool // administratively
	Carrier   bool // the cable is in, and the link is not dormant, as it is before 802.1X lets us in
	Loopback  bool
	ARP       bool // neighbours are resolved here, by ARP and by neighbour discovery: neither loopback nor NOARP
	Addresses []Address
}

// Snapshot is a snapshot of this machine's interfaces and addresses.
type Snapshot struct {
	Links []Link
}

// TakeSnapshot takes a snapshot, in the network namespace of the calling thread.
func TakeSnapshot() (*Snapshot, error) {
	return complete(func() (*Snapshot, error) {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("list the interfaces: %w", err)
		}
		addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list the addresses: %w", err)
		}
		return snapshot(links, addresses)
	})
}

// complete repeats a listing that changes under our hands have interrupted, and gives up with the
// error: what it gave may lack anything, so it is never taken as an answer.
func complete[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		got, err := list()
		if try == lookTries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return got, err
		}
	}
}

// snapshot puts the kernel's two listings together.
func snapshot(links []netlink.Link, addresses []netlink.Addr) (*Snapshot, error) {
	k := new(Snapshot)
	place := make(map[int]int) // index of the interface → position in k.Links
	for _, l := range links {
		a := l.Attrs()
		has := func(flag uint32) bool { return a.RawFlags&flag != 0 }
		place[a.Index] = len(k.Links)
		k.Links = append(k.Links, Link{
			Index:    a.Index,
			Name:     a.Name,
			MAC:      a.HardwareAddr,
			Up:       has(unix.IFF_UP),
			Carrier:  has(unix.IFF_LOWER_UP) && a.OperState != netlink.OperDormant, // IFF_RUNNING lags behind by up to a second
			Loopback: has(unix.IFF_LOOPBACK),
			ARP:      !has(unix.IFF_LOOPBACK) && !has(unix.IFF_NOARP),
		})
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

// leaseOf reads the kernel's unsigned number, where all bits set means for ever, and 0 that the address
// is due to go any moment.
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

// Link finds an interface by its name.
func (k *Snapshot) Link(name string) (Link, bool) {
	i := slices.IndexFunc(k.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return k.Links[i], true
}

// Assignment is where an address stands.
type Assignment struct {
	Interface string
	Address   Address
}

// Assignments tells where a stands on this machine, whatever the interface, prefix or label. Tentative
// ones are among them, those that failed duplicate address detection are not. A zone in a restricts
// the answer to that interface.
func (k *Snapshot) Assignments(a netip.Addr) []Assignment {
	return slices.DeleteFunc(k.copies(a), func(p Assignment) bool { return p.Address.DADFailed })
}

// copies are the places of a with those that the kernel does not use because another machine has it.
func (k *Snapshot) copies(a netip.Addr) []Assignment {
	var places []Assignment
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			if l.zone(a) && has.Prefix.Addr() == bare(a) {
				places = append(places, Assignment{Interface: l.Name, Address: has})
			}
		}
	}
	return places
}

// Holds tells whether a stands on this machine.
func (k *Snapshot) Holds(a netip.Addr) bool {
	return len(k.Assignments(a)) > 0
}

// zone tells whether a may be an address of this link.
func (l Link) zone(a netip.Addr) bool {
	z := a.Zone()
	return z == "" || z == l.Name || z == strconv.Itoa(l.Index)
}

// OwnMAC tells whether m belongs to an interface of this machine.
func (k *Snapshot) OwnMAC(m net.HardwareAddr) bool {
	return slices.ContainsFunc(k.Links, func(l Link) bool { return len(m) > 0 && bytes.Equal(l.MAC, m) })
}

// Networks names the interfaces that have a in one of their networks: by an address that is none of
// not, neither loopback nor alone in its network.
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
// none of the virtual IPs, in target's network where there is one. Link-local IPv6 comes with its
// zone, as sockets need it. Zero: there is none.
func (k *Snapshot) Source(link string, target netip.Addr, vips []netip.Addr) netip.Addr {
	l, _ := k.Link(link)
	var best netip.Addr
	for _, has := range l.Addresses {
		a := has.Prefix.Addr()
		if a.Is4() != bare(target).Is4() || a.Is6() && a.IsLinkLocalUnicast() != target.IsLinkLocalUnicast() ||
			has.Tentative || has.DADFailed || has.Deprecated || among(vips, has) {
			continue
		}
		if has.network().Contains(bare(target)) {
			return zoned(a, link)
		}
		if !best.IsValid() {
			best = zoned(a, link)
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

// labelMax is the longest label the kernel keeps: IFNAMSIZ with its closing zero byte.
const labelMax = unix.IFNAMSIZ - 1

// FreeLabel gives the first alias label of the interface that no address has, and that is not taken:
// "eth0:1", "eth0:2" and so on. False: 15 characters do not suffice for one.
func FreeLabel(k *Snapshot, link string, taken ...string) (string, bool) {
	used := make(map[string]bool) // the next that is free may be the thousandth
	for _, label := range taken {
		used[label] = true
	}
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			used[has.Label] = true
		}
	}
	for n := 1; ; n++ {
		label := link + ":" + strconv.Itoa(n)
		if len(label) > labelMax {
			return "", false
		}
		if !used[label] {
			return label, true
		}
	}
}

// labelled are the addresses under a label.
func (k *Snapshot) labelled(label string) []netip.Prefix {
	var under []netip.Prefix
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			if has.Label == label {
				under = append(under, has.Prefix)
			}
		}
	}
	return under
}
