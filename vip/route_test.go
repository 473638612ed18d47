package vip

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestRouteTo(t *testing.T) {
	build := standby(
		"route add default via 172.16.0.254",
		"-6 route add default via fe80::254 dev eth0",
		"route add unreachable 198.51.100.1",
		"route add prohibit 198.51.100.2",
		"route add blackhole 198.51.100.3",
		"-6 route add unreachable 2001:db8:1::1",
		"-6 route add prohibit 2001:db8:1::2",
		"-6 route add blackhole 2001:db8:1::3",
		"route add 203.0.113.0/24 via inet6 fe80::253 dev eth0",
		"addr add 10.9.0.1 peer 10.9.0.2/32 dev eth0",
		"-6 addr add fe80::3/64 dev eth0",
	)
	onHost(t, build, func(t *testing.T) {
		host, host6 := netip.MustParseAddr("172.16.0.3"), netip.MustParseAddr("2001:db8::3")
		for target, want := range map[string]Route{
			"172.16.0.2":         {Interface: "eth0", Source: host, OnLink: true},
			"::ffff:172.16.0.2":  {Interface: "eth0", Source: host, OnLink: true},
			"192.0.2.1":          {Interface: "eth0", Source: host, Gateway: netip.MustParseAddr("172.16.0.254")},
			"203.0.113.1":        {Interface: "eth0", Source: host, Gateway: netip.MustParseAddr("fe80::253%eth0")},
			"10.9.0.2":           {Interface: "eth0", Source: netip.MustParseAddr("10.9.0.1"), OnLink: true},
			"172.16.0.3":         {Interface: "lo", Source: host, Local: true},
			"127.0.0.9":          {Interface: "lo", Source: netip.MustParseAddr("127.0.0.1"), Local: true},
			"172.16.0.255":       {Interface: "eth0", Source: host, Broadcast: true},
			"2001:db8::2":        {Interface: "eth0", Source: host6, OnLink: true},
			"2001:db8:9::1":      {Interface: "eth0", Source: host6, Gateway: netip.MustParseAddr("fe80::254%eth0")},
			"2001:db8::3":        {Interface: "lo", Source: host6, Local: true},
			"fe80::2%eth0":       {Interface: "eth0", Source: netip.MustParseAddr("fe80::3%eth0"), OnLink: true},
			"::ffff:127.0.0.200": {Interface: "lo", Source: netip.MustParseAddr("127.0.0.1"), Local: true},
		} {
			got, err := RouteTo(netip.MustParseAddr(target), netip.Addr{})
			if err != nil {
				t.Error(err)
			}
			if d := diff(want, got); d != "" {
				t.Errorf("to %s (-want +got):\n%s", target, d)
			}
		}
		for target, want := range map[string]string{
			"198.51.100.1":  "route to 198.51.100.1: no route to host",
			"198.51.100.2":  "route to 198.51.100.2: permission denied (a prohibit route)",
			"198.51.100.3":  "route to 198.51.100.3: invalid argument (a blackhole route)",
			"2001:db8:1::1": "route to 2001:db8:1::1: no route to host",
			"2001:db8:1::2": "route to 2001:db8:1::2: permission denied (a prohibit route)",
			"2001:db8:1::3": "route to 2001:db8:1::3: invalid argument (a blackhole route)",
			"fe80::2%1":     "route to fe80::2%1: network is unreachable", // lo
			"fe80::2%eth9":  `route to fe80::2%eth9: there is no interface "eth9"`,
		} {
			if _, err := RouteTo(netip.MustParseAddr(target), netip.Addr{}); fmt.Sprint(err) != want {
				t.Errorf("got error %q, want %q", err, want)
			}
		}
	})
}

func TestRouteToWithoutAnyRoute(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		for _, target := range []string{"192.0.2.1", "2001:db8:9::1"} {
			want := "route to " + target + ": network is unreachable"
			if _, err := RouteTo(netip.MustParseAddr(target), netip.Addr{}); fmt.Sprint(err) != want {
				t.Errorf("got error %q, want %q", err, want)
			}
		}
	})
}

// TestRouteWithPolicyRouting: the source address chooses the routing table, so
// a lookup without it finds no route or another interface.
func TestRouteWithPolicyRouting(t *testing.T) {
	build := standby(
		"link add eth1 type veth peer name far",
		"link set eth1 up", "link set far up",
		"addr add 192.0.2.3/24 dev eth1",
		"-6 addr add 2001:db8:1::3/64 dev eth1 nodad",
		"rule add from 192.0.2.3 table 100",
		"route add default via 192.0.2.254 dev eth1 table 100",
		"-6 rule add from 2001:db8:1::3 table 100",
		"-6 route add default via 2001:db8:1::254 dev eth1 table 100",
		"route add default via 172.16.0.254 table 200",
		"rule add fwmark 7 table 200",
		"route add 198.51.100.0/24 via 172.16.0.253 src 172.16.0.3",
	)
	onHost(t, build, func(t *testing.T) {
		a := func(s string) (addr netip.Addr) {
			if s != "" {
				addr = netip.MustParseAddr(s)
			}
			return addr
		}
		for _, c := range []struct {
			to, from string
			want     Route
			err      string
		}{
			{to: "203.0.113.1", err: "route to 203.0.113.1: network is unreachable"},
			{to: "203.0.113.1", from: "192.0.2.3", want: Route{Interface: "eth1", Source: a("192.0.2.3"), Gateway: a("192.0.2.254")}},
			{to: "2001:db8:9::1", from: "2001:db8:1::3", want: Route{Interface: "eth1", Source: a("2001:db8:1::3"), Gateway: a("2001:db8:1::254")}},
			{to: "198.51.100.1", want: Route{Interface: "eth0", Source: a("172.16.0.3"), Gateway: a("172.16.0.253")}},
			{to: "198.51.100.1", from: "10.1.1.1", err: "route to 198.51.100.1 from 10.1.1.1: network is unreachable (or 10.1.1.1 is not an address of this machine)"},
			{to: "203.0.113.1", from: "::1", err: "route to 203.0.113.1 from ::1: the source is of the other address family"},
		} {
			got, err := RouteTo(a(c.to), a(c.from))
			if d := diff(c.want, got); d != "" || errorText(err) != c.err {
				t.Errorf("to %s from %q: error %v, want %q (-want +got):\n%s", c.to, c.from, err, c.err, d)
			}
		}
		for _, c := range []struct {
			link, from, want string
		}{
			{"eth1", "", ""},
			{"eth1", "192.0.2.3", "192.0.2.254"},
			{"eth0", "192.0.2.3", ""},
			{"eth0", "", ""}, // a rule for marked packets
			{"eth1", "2001:db8:1::3", "2001:db8:1::254"},
		} {
			got, ok, err := Gateway(c.link, a(c.from).Is6(), a(c.from))
			if got != a(c.want) || ok != (c.want != "") || err != nil {
				t.Errorf("gateway of %s from %q: %v, %v, %v, want %q", c.link, c.from, got, ok, err, c.want)
			}
		}
	})
}

func TestGateway(t *testing.T) {
	t.Parallel()
	const link2 = "link add eth1 type veth peer name far"
	up2, up3, address2 := "link set eth1 up", "link set far up", "addr add 192.0.2.3/24 dev eth1"
	for name, c := range map[string]struct {
		setup     []string
		link      string
		v6        bool
		want, err string
	}{
		"none": {link: "eth0"},
		"one":  {setup: []string{"route add default via 172.16.0.254"}, link: "eth0", want: "172.16.0.254"},
		"of another interface": {
			setup: []string{link2, up2, up3, address2, "route add default via 192.0.2.254"},
			link:  "eth0",
		},
		"the lowest metric": {
			setup: []string{"route add default via 172.16.0.251 metric 300", "route add default via 172.16.0.252 metric 100", "route add default via 172.16.0.253 metric 200"},
			link:  "eth0", want: "172.16.0.252",
		},
		"without a metric, which is 0": {
			setup: []string{"route add default via 172.16.0.251 metric 1", "route add default via 172.16.0.252"},
			link:  "eth0", want: "172.16.0.252",
		},
		"a default route without a gateway": {setup: []string{"route add default dev eth0"}, link: "eth0"},
		"a default route that refuses":      {setup: []string{"route add unreachable default"}, link: "eth0"},
		"half of the internet":              {setup: []string{"route add 0.0.0.0/1 via 172.16.0.254"}, link: "eth0"},
		"of another table":                  {setup: []string{"route add default via 172.16.0.254 table 100"}, link: "eth0"},
		"of a table for what this machine itself sends": {
			setup: []string{"route add default via 172.16.0.254 table 100", "rule add iif lo table 100"}, link: "eth0", want: "172.16.0.254",
		},
		"of a table for what comes in by eth0": {setup: []string{"route add default via 172.16.0.254 table 100", "rule add iif eth0 table 100"}, link: "eth0"},
		"by an IPv6 neighbour":                 {setup: []string{"-4 route add default via inet6 fe80::254 dev eth0"}, link: "eth0"},
		"the second of two ways": {
			setup: []string{link2, up2, up3, address2, "route add default nexthop via 172.16.0.254 nexthop via 192.0.2.254"},
			link:  "eth1", want: "192.0.2.254",
		},
		"a nexthop object": {
			setup: []string{"nexthop add id 7 via 172.16.0.254 dev eth0", "route add default nhid 7"},
			link:  "eth0", want: "172.16.0.254",
		},
		"IPv6, not IPv4": {setup: []string{"-6 route add default via 2001:db8::254"}, link: "eth0"},
		"IPv6":           {setup: []string{"-6 route add default via 2001:db8::254"}, link: "eth0", v6: true, want: "2001:db8::254"},
		"IPv6, none":     {setup: []string{"route add default via 172.16.0.254"}, link: "eth0", v6: true},
		"IPv6, as from a router advertisement": {
			setup: []string{"-6 route add default via fe80::254 dev eth0 proto ra metric 1024 expires 1800"},
			link:  "eth0", v6: true, want: "fe80::254%eth0",
		},
		"IPv6, the second of two ways": {
			setup: []string{link2, up2, up3, "-6 addr add 2001:db8:1::3/64 dev eth1 nodad", "-6 route add default nexthop via 2001:db8::254 nexthop via 2001:db8:1::254"},
			link:  "eth1", v6: true, want: "2001:db8:1::254",
		},
		"no such interface": {link: "eth9", err: `gateway of eth9: there is no interface "eth9"`},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(c.setup...), func(t *testing.T) {
				got, ok, err := Gateway(c.link, c.v6, netip.Addr{})
				text := ""
				if ok {
					text = got.String()
				}
				if text != c.want || got.IsValid() != ok || errorText(err) != c.err {
					t.Errorf("got %v, %v, %v, want %q, error %q", got, ok, err, c.want, c.err)
				}
			})
		})
	}
}

func TestNeighbour(t *testing.T) {
	build := standby(
		"neigh add 172.16.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud stale",
		"neigh add 172.16.0.4 dev eth0 nud failed",
		"-6 neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent",
		"link add eth1 type veth peer name far",
	)
	onHost(t, build, func(t *testing.T) {
		for _, c := range []struct{ link, a, want, err string }{
			{link: "eth0", a: "172.16.0.2", want: "02:00:00:00:00:02"},
			{link: "eth0", a: "::ffff:172.16.0.2", want: "02:00:00:00:00:02"},
			{link: "eth0", a: "2001:db8::2", want: "02:00:00:00:00:02"},
			{link: "eth0", a: "172.16.0.4"},
			{link: "eth0", a: "172.16.0.5"},
			{link: "eth1", a: "172.16.0.2"},
			{link: "eth9", a: "172.16.0.2", err: `neighbour 172.16.0.2 on eth9: there is no interface "eth9"`},
		} {
			got, err := Neighbour(c.link, netip.MustParseAddr(c.a))
			if got.String() != c.want || errorText(err) != c.err {
				t.Errorf("%s on %s: got %q, %v, want %q, error %q", c.a, c.link, got, err, c.want, c.err)
			}
		}
	})
}

// TestNeighbourTableCannotBeRead: netlink fails, here for lack of a file
// descriptor, and that is no empty table.
func TestNeighbourTableCannotBeRead(t *testing.T) {
	onHost(t, standby("neigh add 172.16.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent"), func(t *testing.T) {
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{}))
		got, err := Neighbour("eth0", netip.MustParseAddr("172.16.0.2"))
		want := `neighbour 172.16.0.2 on eth0: interface "eth0": too many open files`
		if got != nil || errorText(err) != want {
			t.Errorf("got %v, %v, want error %q", got, err, want)
		}
	})
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestAnInterfaceByNameAndNumber: whether netlink is asked for it or not.
func TestAnInterfaceByNameAndNumber(t *testing.T) {
	const long = "enp3s0-uplink-to-the-core"
	build := standby("link property add dev eth0 altname uplink", "link property add dev eth0 altname "+long)
	onHost(t, build, func(t *testing.T) {
		want, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		index := want.Attrs().Index
		for _, name := range []string{"eth0", "uplink", long, strconv.Itoa(index)} {
			if got, err := anew().linkIndex(name); got != index || err != nil {
				t.Errorf("%q is number %d, want %d; %v", name, got, index, err)
			}
		}
		for _, name := range []string{"eth0", "uplink"} {
			if got := boundIndex(name); got != index {
				t.Errorf("a socket bound to %q is bound to number %d, want %d", name, got, index)
			}
		}
		for _, name := range []string{"", "eth9", "eth0:1", long + "s"} {
			if got, err := anew().linkIndex(name); err == nil {
				t.Errorf("%q is number %d", name, got)
			}
		}
		if name, err := anew().linkName(index); name != "eth0" || err != nil {
			t.Errorf("number %d is %q; %v", index, name, err)
		}
		if name, err := anew().linkName(999); err == nil {
			t.Errorf("number 999 is %q", name)
		}
	})
}
