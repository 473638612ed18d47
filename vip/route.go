package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is the kernel's route to an address.
type Route struct {
	Interface string
	Source    netip.Addr // source address; zero where the kernel names none. It may be a virtual IP: see Snapshot.PingSource
	Gateway   netip.Addr // zero where there is none
	OnLink    bool       // the destination is a neighbour on the interface, without a gateway
	Local     bool       // the destination is this machine
	Broadcast bool
}

// RouteTo looks up the kernel's route to a for packets from the source address from (policy
// routing); zero: the kernel chooses the source. A zone in a restricts it to that interface.
func RouteTo(a, from netip.Addr) (Route, error) { return anew().routeTo(a, from) }

func (h handle) routeTo(a, from netip.Addr) (Route, error) {
	var only netlink.RouteGetOptions
	if a.Zone() != "" {
		index, err := h.linkIndex(a.Zone())
		if err != nil {
			return Route{}, fmt.Errorf("route to %s: %w", a, err)
		}
		only.OifIndex = index
	}
	place := "route to " + a.String()
	if from.IsValid() {
		place += " from " + from.String()
		if bare(from).Is4() != bare(a).Is4() {
			return Route{}, fmt.Errorf("%s: the source is of the other address family", place)
		}
		only.SrcAddr = bare(from).AsSlice()
	}
	routes, err := h.RouteGetWithOptions(bare(a).AsSlice(), &only)
	if err != nil {
		return Route{}, fmt.Errorf("%s: %w", place, explained(err, from))
	}
	if len(routes) == 0 {
		return Route{}, fmt.Errorf("%s: the kernel returned none", place)
	}
	r := routes[0]
	name, err := h.linkName(r.LinkIndex)
	if err != nil {
		return Route{}, fmt.Errorf("%s: interface number %d: %w", place, r.LinkIndex, err)
	}
	gateway := gatewayOf(r.Gw, r.Via)
	source := addrOf(r.Src)
	if from.IsValid() {
		source = bare(from) // the kernel leaves it out for IPv4, and names its own choice for IPv6
	}
	return Route{
		Interface: name,
		Source:    zoned(source, name),
		Gateway:   zoned(gateway, name),
		OnLink:    r.Type == unix.RTN_UNICAST && !gateway.IsValid(),
		Local:     r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_ANYCAST,
		Broadcast: r.Type == unix.RTN_BROADCAST,
	}, nil
}

// explained adds the cause to errors of a route lookup whose names do not tell it.
func explained(err error, from netip.Addr) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (a prohibit route)", err)
	case errors.Is(err, unix.ENETUNREACH) && from.IsValid():
		return fmt.Errorf("%w (or %s is not an address of this machine)", err, from)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (a blackhole route)", err)
	}
	return err
}

// Gateway is the default gateway through the interface for packets from the source address from
// (zero: any): of the first routing table with one that the policy rules lead to, and there the one
// with the lowest metric. False: there is none. Link-local ones come with their zone.
func Gateway(link string, v6 bool, from netip.Addr) (netip.Addr, bool, error) {
	return anew().gateway(link, v6, from)
}

func (h handle) gateway(link string, v6 bool, from netip.Addr) (netip.Addr, bool, error) {
	index, err := h.linkIndex(link)
	if err != nil {
		return netip.Addr{}, false, fmt.Errorf("gateway of %s: %w", link, err)
	}
	tables, err := h.defaultTables(v6, bare(from))
	if err != nil {
		return netip.Addr{}, false, fmt.Errorf("gateway of %s: list the routing rules: %w", link, err)
	}
	for _, table := range tables {
		routes, err := complete(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family(v6), &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		})
		if err != nil {
			return netip.Addr{}, false, fmt.Errorf("gateway of %s: list the routes: %w", link, err)
		}
		var best netip.Addr
		var metric int
		for _, r := range routes {
			gateway := through(r, index)
			if gateway.IsValid() && gateway.Is6() == v6 && (!best.IsValid() || r.Priority < metric) {
				best, metric = zoned(gateway, link), r.Priority
			}
		}
		if best.IsValid() {
			return best, true, nil
		}
	}
	return netip.Addr{}, false, nil
}

// defaultTables are the routing tables whose default routes apply to packets from that source to
// anywhere, in the order of the policy rules. Rules for marks, ports, users, what comes in by an
// interface or other destinations are not ours.
func (h handle) defaultTables(v6 bool, from netip.Addr) ([]int, error) {
	rules, err := complete(func() ([]netlink.Rule, error) { return h.RuleList(family(v6)) })
	if errors.Is(err, unix.EOPNOTSUPP) { // a kernel without policy routing
		return []int{unix.RT_TABLE_MAIN}, nil
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rules, func(a, b netlink.Rule) int { return max(a.Priority, 0) - max(b.Priority, 0) })
	var tables []int
	for _, r := range rules {
		source := prefixOf(r.Src)
		switch {
		case r.Table == 0 || r.Invert || r.Mark != 0 || r.Tos != 0 || r.OifName != "",
			r.IifName != "" && r.IifName != "lo", // lo: packets that this machine itself sends (ip-rule(8))
			r.IPProto != 0 || r.Sport != nil || r.Dport != nil || r.UIDRange != nil || r.TunID != 0,
			prefixOf(r.Dst).Bits() > 0,
			r.SuppressPrefixlen >= 0, // no default routes from there
			source.Bits() > 0 && !source.Contains(from),
			slices.Contains(tables, r.Table):
		default:
			tables = append(tables, r.Table)
		}
	}
	return tables, nil
}

// through is the gateway of a route, or of one of its next hops, out of one interface.
func through(r netlink.Route, index int) netip.Addr {
	if r.LinkIndex == index {
		return gatewayOf(r.Gw, r.Via)
	}
	for _, hop := range r.MultiPath {
		if gateway := gatewayOf(hop.Gw, hop.Via); hop.LinkIndex == index && gateway.IsValid() {
			return gateway
		}
	}
	return netip.Addr{}
}

// gatewayOf handles IPv4 routes by an IPv6 neighbour too (RFC 5549), which have no gateway but a via.
func gatewayOf(gateway net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && gateway == nil {
		return addrOf(v.Addr)
	}
	return addrOf(gateway)
}

// Neighbour is the MAC in the kernel's neighbour table for a on the interface; nil: the table has none.
// With an error it is unknown.
func Neighbour(link string, a netip.Addr) (net.HardwareAddr, error) { return anew().neighbour(link, a) }

func (h handle) neighbour(link string, a netip.Addr) (net.HardwareAddr, error) {
	index, err := h.linkIndex(link)
	if err != nil {
		return nil, fmt.Errorf("neighbour %s on %s: %w", a, link, err)
	}
	neighbours, err := complete(func() ([]netlink.Neigh, error) {
		return h.NeighList(index, family(bare(a).Is6()))
	})
	if err != nil {
		return nil, fmt.Errorf("neighbour %s on %s: list the neighbours: %w", a, link, err)
	}
	for _, n := range neighbours {
		if addrOf(n.IP) == bare(a) {
			return n.HardwareAddr, nil // none for an entry that is incomplete or failed
		}
	}
	return nil, nil
}

// linkIndex is the number of an interface, given by its name, an alternative name or, as a zone may
// be, by its number.
func (h handle) linkIndex(name string) (int, error) {
	if index := boundIndex(name); index > 0 {
		return index, nil
	}
	l, err := h.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		if index, err := strconv.Atoi(name); err == nil {
			return index, nil
		}
		return 0, fmt.Errorf("there is no interface %q", name)
	}
	if err != nil {
		return 0, fmt.Errorf("interface %q: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// linkName is the name of an interface.
func (h handle) linkName(index int) (name string, err error) {
	byIoctl := func(fd int) error { // netdevice(7)
		ifr, err := unix.NewIfreq("")
		if err == nil {
			ifr.SetUint32(uint32(index))
			err = unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr)
			name = ifr.Name()
		}
		return err
	}
	if withSocket(byIoctl) == nil {
		return name, nil
	}
	l, err := h.LinkByIndex(index)
	if err != nil {
		return "", err
	}
	return l.Attrs().Name, nil
}

// boundIndex is the number of an interface, from a socket that is bound to it (socket(7)). 0: it is not
// known in this way.
func boundIndex(name string) (index int) {
	if name == "" || len(name) >= unix.IFNAMSIZ { // the kernel would unbind, or cut the name
		return 0
	}
	_ = withSocket(func(fd int) (err error) {
		if err = unix.BindToDevice(fd, name); err == nil {
			index, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
		}
		return err
	})
	return index
}

// withSocket asks about an interface without netlink, which tells much more, and takes ten times as
// long. Where that fails, netlink is asked.
func withSocket(ask func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ask(fd)
}

func family(v6 bool) int {
	if v6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
