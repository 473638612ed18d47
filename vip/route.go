package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is what the kernel would do with a packet.
type Route struct {
	Interface string
	Source    netip.Addr // zero where the kernel names none
	Gateway   netip.Addr // zero where there is none
	OnLink    bool       // the target is asked for on the link itself, without a gateway
	Local     bool       // the target is this machine
	Broadcast bool
}

// RouteTo asks the kernel for its route to a. A zone in a restricts it to that interface.
func RouteTo(a netip.Addr) (Route, error) {
	var only netlink.RouteGetOptions
	if a.Zone() != "" {
		index, err := linkIndex(a.Zone())
		if err != nil {
			return Route{}, fmt.Errorf("route to %s: %w", a, err)
		}
		only.OifIndex = index
	}
	routes, err := netlink.RouteGetWithOptions(bare(a).AsSlice(), &only)
	if err != nil {
		return Route{}, fmt.Errorf("route to %s: %w", a, refusal(err))
	}
	if len(routes) == 0 {
		return Route{}, fmt.Errorf("route to %s: the kernel gave no answer", a)
	}
	r := routes[0]
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return Route{}, fmt.Errorf("route to %s: interface number %d: %w", a, r.LinkIndex, err)
	}
	name := l.Attrs().Name
	gateway := gatewayOf(r.Gw, r.Via)
	return Route{
		Interface: name,
		Source:    zoned(addrOf(r.Src), name),
		Gateway:   zoned(gateway, name),
		OnLink:    r.Type == unix.RTN_UNICAST && !gateway.IsValid(),
		Local:     r.Type == unix.RTN_LOCAL || r.Type == unix.RTN_ANYCAST,
		Broadcast: r.Type == unix.RTN_BROADCAST,
	}, nil
}

// refusal explains what the kernel answers with for a route that somebody set up to refuse.
func refusal(err error) error {
	switch {
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w (a prohibit route)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (a blackhole route)", err)
	}
	return err
}

// Gateway is the default gateway through the interface: of the main table, with the lowest metric.
// False: there is none. Link-local ones come with their zone.
func Gateway(link string, v6 bool) (netip.Addr, bool, error) {
	index, err := linkIndex(link)
	if err != nil {
		return netip.Addr{}, false, fmt.Errorf("gateway of %s: %w", link, err)
	}
	routes, err := complete(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family(v6), &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
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
	return best, best.IsValid(), nil
}

// through is the gateway of a route, or of one of its several ways, out of one interface.
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

// gatewayOf understands an IPv4 route by an IPv6 neighbour too (RFC 5549), which has no gateway but a via.
func gatewayOf(gateway net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && gateway == nil {
		return addrOf(v.Addr)
	}
	return addrOf(gateway)
}

// Neighbour is the MAC in the kernel's neighbour table for a on the interface; nil: the table has none.
// With an error it is unknown.
func Neighbour(link string, a netip.Addr) (net.HardwareAddr, error) {
	index, err := linkIndex(link)
	if err != nil {
		return nil, fmt.Errorf("neighbour %s on %s: %w", a, link, err)
	}
	neighbours, err := complete(func() ([]netlink.Neigh, error) {
		return netlink.NeighList(index, family(bare(a).Is6()))
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

// linkIndex is the number of an interface, given by its name or, as a zone may be, by its number.
func linkIndex(name string) (int, error) {
	l, err := netlink.LinkByName(name)
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
