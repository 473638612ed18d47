package vip

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTakeSnapshot(t *testing.T) {
	build := standby(
		"addr add 172.16.0.1/24 dev eth0 label eth0:1", // after the host's own: secondary
		"addr add 172.16.0.1/32 dev eth0 label eth0:web",
		"addr add 10.9.0.1 peer 10.9.0.2/30 dev eth0",
		"-6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0",
		"link add eth0.100 address 02:00:00:00:00:98 type veth peer name far address 02:00:00:00:00:97",
		"link set eth0.100 addrgenmode none arp off up",
		"link set far addrgenmode none up",
		"addr add 192.0.2.1/24 dev eth0.100",
		"link add lonely address 02:00:00:00:00:96 type veth peer name unplugged address 02:00:00:00:00:95",
		"link set lonely up",
	)
	onHost(t, build, func(t *testing.T) {
		got, err := TakeSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Links {
			got.Links[i].Index = 0
		}
		mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
		want := &Snapshot{Links: []Link{
			{Name: "lo", Up: true, Carrier: true, Loopback: true, Addresses: []Address{
				{Prefix: netip.MustParsePrefix("127.0.0.1/8"), Label: "lo"},
				{Prefix: netip.MustParsePrefix("::1/128")},
			}},
			{Name: "eth0", MAC: mac, Up: true, Carrier: true, ARP: true, Addresses: []Address{
				{Prefix: netip.MustParsePrefix("172.16.0.3/24"), Label: "eth0"},
				{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Label: "eth0:web"},
				{Prefix: netip.MustParsePrefix("10.9.0.1/32"), Peer: netip.MustParsePrefix("10.9.0.2/30"), Label: "eth0"},
				{Prefix: netip.MustParsePrefix("172.16.0.1/24"), Label: "eth0:1", Secondary: true},
				{Prefix: netip.MustParsePrefix("2001:db8::1/128"), Deprecated: true},
				{Prefix: netip.MustParsePrefix("2001:db8::3/64")},
				{Prefix: netip.MustParsePrefix("fe80::ff:fe00:1/64")},
			}},
			{Name: "far", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x97}, Up: true, Carrier: true, ARP: true},
			{Name: "eth0.100", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x98}, Up: true, Carrier: true, Addresses: []Address{
				{Prefix: netip.MustParsePrefix("192.0.2.1/24"), Label: "eth0.100"},
			}},
			{Name: "unplugged", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x95}, ARP: true},
			{Name: "lonely", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 0x96}, Up: true, ARP: true},
		}}
		if d := diff(want, got); d != "" {
			t.Errorf("the kernel's view (-want +got):\n%s", d)
		}
	})
}

// TestLinkProperties: an alternative name finds the interface, a port names
// the bridge that receives its frames, and disabled IPv6 is reported before an
// address is added.
func TestLinkProperties(t *testing.T) {
	build := standby(
		"link property add dev eth0 altname enp3s0-uplink-to-the-core",
		"link add br0 type bridge",
		"link add port type veth peer name far",
		"link set port master br0",
	)
	onHost(t, build, func(t *testing.T) {
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/br0/disable_ipv6", []byte("1\n"), 0))
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/far/proxy_arp", []byte("1\n"), 0))
		must(t, os.WriteFile("/proc/sys/net/ipv4/conf/far/arp_ignore", []byte("2\n"), 0))
		k, err := TakeSnapshot()
		must(t, err)
		got := map[string]string{}
		for _, name := range []string{"eth0", "enp3s0-uplink-to-the-core", "br0", "port", "far", "eth9"} {
			l, ok := k.Link(name)
			got[name] = fmt.Sprintf("%t %s master %q, IPv6 disabled %t, proxy ARP %t, ARP ignore %d", ok, l.Name, l.Master, l.NoIPv6, l.ProxyARP, l.ARPIgnore)
		}
		want := map[string]string{
			"eth0":                      `true eth0 master "", IPv6 disabled false, proxy ARP false, ARP ignore 0`,
			"enp3s0-uplink-to-the-core": `true eth0 master "", IPv6 disabled false, proxy ARP false, ARP ignore 0`,
			"br0":                       `true br0 master "", IPv6 disabled true, proxy ARP false, ARP ignore 0`,
			"port":                      `true port master "br0", IPv6 disabled false, proxy ARP false, ARP ignore 0`,
			"far":                       `true far master "", IPv6 disabled false, proxy ARP true, ARP ignore 2`,
			"eth9":                      `false  master "", IPv6 disabled false, proxy ARP false, ARP ignore 0`,
		}
		if d := diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		alias := Alias{Prefix: netip.MustParsePrefix("2001:db8::1/128"), Interface: "br0"}
		_, err = Tool{Name: "ip"}.RaisePlan(k, alias)
		if want := "add 2001:db8::1/128 to br0: IPv6 is disabled on br0 (net.ipv6.conf.br0.disable_ipv6)"; errorText(err) != want {
			t.Errorf("got error %v, want %q", err, want)
		}
	})
}

// TestAddressWithoutARPIsNotHeld: direct server return puts the virtual IP on
// lo, which attracts no clients.
func TestAddressWithoutARPIsNotHeld(t *testing.T) {
	k := kernel(t, "lo 127.0.0.1/8", "lo 172.16.0.1/32", "eth0 172.16.0.3/24", "eth0 172.16.0.5/32", "lo 172.16.0.5/32", "wg0 172.16.0.7/32", "eth1 172.16.0.9/32 dadfailed")
	k.Links[2].ARP = false // wg0
	for _, c := range []struct{ a, added, held, without string }{
		{a: "172.16.0.1", without: "lo"},
		{a: "172.16.0.3", held: "eth0"},
		{a: "172.16.0.5", held: "eth0", without: "lo"},
		{a: "172.16.0.7", without: "wg0"},
		{a: "172.16.0.7", added: "wg0", held: "wg0"},
		{a: "172.16.0.9"},
		{a: "172.16.0.2"},
	} {
		names := func(all []Assignment) string {
			var names []string
			for _, p := range all {
				names = append(names, p.Interface)
			}
			return strings.Join(names, " ")
		}
		a := netip.MustParseAddr(c.a)
		if held, without := names(k.Held(a, c.added)), names(k.WithoutARP(a, c.added)); held != c.held || without != c.without {
			t.Errorf("%s, added on %q: held on %q, without ARP on %q, want %q and %q", c.a, c.added, held, without, c.held, c.without)
		}
	}
}

func TestSnapshot(t *testing.T) {
	link := func(index int, name string, flags uint32) netlink.Link {
		return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, RawFlags: flags}}
	}
	address := func(index int, ip net.IP, bits int) netlink.Addr {
		return netlink.Addr{LinkIndex: index, IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, 8*len(ip))}, ValidLft: -1}
	}
	const up = unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_RUNNING
	dormant := link(2, "eth0", unix.IFF_UP|unix.IFF_LOWER_UP)
	dormant.Attrs().OperState = netlink.OperDormant
	coming := link(2, "eth0", unix.IFF_UP|unix.IFF_LOWER_UP)
	coming.Attrs().OperState = netlink.OperDown
	temporary := address(2, net.ParseIP("2001:db8::77"), 64)
	temporary.Flags = unix.IFA_F_TEMPORARY

	for name, c := range map[string]struct {
		links     []netlink.Link
		addresses []netlink.Addr
		want      *Snapshot
		err       string
	}{
		"the cable is in, 802.1X has not let us in": {
			links: []netlink.Link{dormant},
			want:  &Snapshot{Links: []Link{{Index: 2, Name: "eth0", Up: true, ARP: true}}},
		},
		"the cable came in a moment ago": {
			links: []netlink.Link{coming},
			want:  &Snapshot{Links: []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true, ARP: true}}},
		},
		"a temporary IPv6 address is not secondary": {
			links:     []netlink.Link{link(2, "eth0", up)},
			addresses: []netlink.Addr{temporary},
			want: &Snapshot{Links: []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true, ARP: true, Addresses: []Address{
				{Prefix: netip.MustParsePrefix("2001:db8::77/64")},
			}}}},
		},
		"an address of another family": {
			links:     []netlink.Link{link(2, "mctp0", up)},
			addresses: []netlink.Addr{address(2, net.IP{8}, 8), {LinkIndex: 2}},
			want:      &Snapshot{Links: []Link{{Index: 2, Name: "mctp0", Up: true, Carrier: true, ARP: true}}},
		},
		"a VLAN of a bridge, and an ipvlan": {
			links: []netlink.Link{
				&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Index: 3, Name: "br0.10", ParentIndex: 2, RawFlags: up}},
				&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 2, Name: "br0", RawFlags: up}},
				&netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{Index: 4, Name: "ipvl0", ParentIndex: 2, RawFlags: up}},
			},
			want: &Snapshot{Links: []Link{
				{Index: 3, Name: "br0.10", Below: "br0", Up: true, Carrier: true, ARP: true},
				{Index: 2, Name: "br0", Up: true, Carrier: true, ARP: true},
				{Index: 4, Name: "ipvl0", Up: true, Carrier: true, ARP: true, IPVLAN: true},
			}},
		},
		"an interface came between the two listings": {
			links:     []netlink.Link{link(2, "eth0", up)},
			addresses: []netlink.Addr{address(3, net.IP{10, 0, 0, 1}, 8)},
			err:       "an address of interface number 3, which came after the list of interfaces: results may be incomplete or inconsistent",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := snapshot(c.links, c.addresses)
			if fmt.Sprint(err) != cmp.Or(c.err, "<nil>") || c.err != "" && !errors.Is(err, netlink.ErrDumpInterrupted) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if d := diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// While addresses come and go, the kernel's listing skips others that have been there all the time,
// and says so.
func TestTakeSnapshotWhileAddressesChange(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		address := func(net byte, n int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(n >> 8), byte(n)}) }
		change := func(what func(netlink.Link, *netlink.Addr) error, a netip.Addr) {
			if err := what(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
				t.Error(err)
			}
		}
		const come, stay = 200, 400
		for n := range come {
			change(netlink.AddrAdd, address(1, n))
		}
		for n := range stay {
			change(netlink.AddrAdd, address(2, n))
		}
		var churn sync.WaitGroup
		defer churn.Wait()
		done := make(chan struct{})
		defer close(done)
		churn.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				change(netlink.AddrDel, address(1, n%come))
				change(netlink.AddrAdd, address(1, n%come))
			}
		})
		for range 100 {
			k, err := TakeSnapshot()
			if errors.Is(err, netlink.ErrDumpInterrupted) {
				continue // unknown
			}
			fine(t, err)
			l, _ := k.Link("eth0")
			stayed := slices.DeleteFunc(l.Addresses, func(a Address) bool { return !netip.MustParsePrefix("10.2.0.0/16").Contains(a.Prefix.Addr()) })
			if len(stayed) != stay {
				t.Fatalf("a snapshot has %d of %d addresses", len(stayed), stay)
			}
		}
	})
}

func TestInterruptedDumpIsNeverUsed(t *testing.T) {
	interrupted := fmt.Errorf("list the addresses: %w", netlink.ErrDumpInterrupted)
	broken := errors.New("no buffer space available")
	for name, c := range map[string]struct {
		errs  []error // the last one goes on
		want  string
		err   error
		calls int
	}{
		"at once":                  {[]error{nil}, "listing 1", nil, 1},
		"twice interrupted":        {[]error{interrupted, interrupted, nil}, "listing 3", nil, 3},
		"interrupted all the time": {[]error{interrupted}, "", interrupted, dumpTries},
		"another fault":            {[]error{broken}, "", broken, 1},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := complete(func() (string, error) {
				calls++
				return fmt.Sprint("listing ", calls), c.errs[min(calls, len(c.errs))-1]
			})
			if err != nil {
				got = ""
			}
			if got != c.want || err != c.err || calls != c.calls {
				t.Errorf("got %q, %v after %d calls, want %q, %v after %d", got, err, calls, c.want, c.err, c.calls)
			}
		})
	}
}

// kernel makes a snapshot from lines such as "eth0 172.16.0.3/24 secondary label=eth0:1", in that
// order. Interfaces do ARP, except lo.
func kernel(t testing.TB, lines ...string) *Snapshot {
	t.Helper()
	k := new(Snapshot)
	for _, line := range lines {
		f := strings.Fields(line)
		if _, ok := k.Link(f[0]); !ok {
			k.Links = append(k.Links, Link{Index: len(k.Links) + 1, Name: f[0], Up: true, Carrier: true, Loopback: f[0] == "lo", ARP: f[0] != "lo"})
		}
		l := &k.Links[slices.IndexFunc(k.Links, func(l Link) bool { return l.Name == f[0] })]
		if len(f) == 1 {
			continue
		}
		a := Address{Prefix: netip.MustParsePrefix(f[1])}
		if a.Prefix.Addr().Is4() {
			a.Label = f[0]
		}
		for _, word := range f[2:] {
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "label":
				a.Label = value
			case "peer":
				a.Peer = netip.MustParsePrefix(value)
			case "secondary":
				a.Secondary = true
			case "tentative":
				a.Tentative = true
			case "dadfailed":
				a.DADFailed = true
			case "deprecated":
				a.Deprecated = true
			default:
				t.Fatalf("line %q: unknown word %q", line, word)
			}
		}
		l.Addresses = append(l.Addresses, a)
	}
	return k
}

func TestAssignments(t *testing.T) {
	k := kernel(t,
		"lo 127.0.0.1/8",
		"eth0 110.0.0.1/24",
		"eth0 172.16.0.1/32 label=eth0:1",
		"eth0 172.16.0.1/24 secondary",
		"eth0 10.9.0.1/32 peer=10.9.0.2/30",
		"eth0 2001:db8::1/64 tentative",
		"eth0 2001:db8::2/128 dadfailed",
		"eth0 fe80::5/64",
		"eth1 172.16.0.1/16",
		"eth1 fe80::5/64",
		"eth1 2001:db8::2/64 deprecated",
	)
	for a, want := range map[string][]string{
		"172.16.0.1":        {"eth0 172.16.0.1/32", "eth0 172.16.0.1/24", "eth1 172.16.0.1/16"},
		"::ffff:172.16.0.1": {"eth0 172.16.0.1/32", "eth0 172.16.0.1/24", "eth1 172.16.0.1/16"},
		"10.0.0.1":          nil, // though 110.0.0.1/24 contains the text
		"172.16.0.2":        nil,
		"10.9.0.1":          {"eth0 10.9.0.1/32"},
		"10.9.0.2":          nil, // the far end
		"2001:db8::1":       {"eth0 2001:db8::1/64 tentative"},
		"2001:0db8:0::1":    {"eth0 2001:db8::1/64 tentative"},
		"2001:db8::2":       {"eth1 2001:db8::2/64"}, // the other copy failed
		"fe80::5":           {"eth0 fe80::5/64", "eth1 fe80::5/64"},
		"fe80::5%eth1":      {"eth1 fe80::5/64"},
		"fe80::5%3":         {"eth1 fe80::5/64"},
		"fe80::5%eth2":      nil,
		"127.0.0.1":         {"lo 127.0.0.1/8"},
	} {
		t.Run(a, func(t *testing.T) {
			var got []string
			for _, p := range k.Assignments(netip.MustParseAddr(a)) {
				text := p.Interface + " " + p.Address.Prefix.String()
				if p.Address.Tentative {
					text += " tentative"
				}
				got = append(got, text)
			}
			if d := diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if holds := k.Holds(netip.MustParseAddr(a)); holds != (want != nil) {
				t.Errorf("holds: %v", holds)
			}
		})
	}
}

func TestOwnMAC(t *testing.T) {
	k := &Snapshot{Links: []Link{{Name: "lo"}, {Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, {Name: "eth1", MAC: net.HardwareAddr{2, 0, 0, 0, 1, 1}}}}
	for mac, want := range map[string]bool{"02:00:00:00:00:01": true, "02:00:00:00:01:01": true, "02:00:00:00:00:02": false, "00:00:00:00:00:00": false} {
		m, _ := net.ParseMAC(mac)
		if got := k.OwnMAC(m); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
	if k.OwnMAC(nil) {
		t.Error("an empty MAC is ours, because lo has none")
	}
}

func TestNetworks(t *testing.T) {
	k := kernel(t,
		"lo 127.0.0.1/8",
		"eth0 172.16.0.3/24",
		"eth0 172.16.0.4/24 secondary",
		"eth0 192.0.2.1/32",
		"eth0 fe80::3/64",
		"eth1 172.16.0.1/16",
		"eth1 2001:db8::3/64",
		"eth1 2001:db8:9::3/64 dadfailed",
		"eth1 fe80::4/64",
		"ppp0 10.9.0.1/32 peer=10.9.0.2/32",
		"tap0 10.9.1.1/32 peer=10.9.1.2/30",
	)
	for name, c := range map[string]struct {
		a    string
		not  string
		want []string
	}{
		"two networks hold it":                 {a: "172.16.0.9", want: []string{"eth0", "eth1"}},
		"one of them by the vip itself":        {a: "172.16.0.1", not: "172.16.0.1", want: []string{"eth0"}},
		"only the wider one":                   {a: "172.16.9.9", want: []string{"eth1"}},
		"only by the vip":                      {a: "172.16.9.9", not: "172.16.0.1", want: nil},
		"mapped forms":                         {a: "::ffff:172.16.9.9", not: "::ffff:172.16.0.1", want: nil},
		"a host prefix is no network":          {a: "192.0.2.1", want: nil},
		"loopback is not":                      {a: "127.0.0.5", want: nil},
		"IPv6":                                 {a: "2001:db8::9", want: []string{"eth1"}},
		"an address that another machine has":  {a: "2001:db8:9::9", want: nil},
		"link-local":                           {a: "fe80::9", want: []string{"eth0", "eth1"}},
		"link-local with a zone":               {a: "fe80::9%eth1", want: []string{"eth1"}},
		"the far end of a point-to-point link": {a: "10.9.0.2", want: nil},
		"the network at the far end of a point-to-point link": {a: "10.9.1.3", want: []string{"tap0"}},
	} {
		t.Run(name, func(t *testing.T) {
			var not []netip.Addr
			if c.not != "" {
				not = append(not, netip.MustParseAddr(c.not))
			}
			if d := diff(c.want, k.Networks(netip.MustParseAddr(c.a), not...)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestSource(t *testing.T) {
	k := kernel(t,
		"eth0 172.16.0.1/24",
		"eth0 192.0.2.3/24",
		"eth0 172.16.0.3/24 secondary",
		"eth0 fe80::3/64",
		"eth0 2001:db8:1::1/64 tentative",
		"eth0 2001:db8:1::2/64 dadfailed",
		"eth0 2001:db8:1::3/64 deprecated",
		"eth0 2001:db8:2::3/64",
		"eth0 2001:db8::1/64",
		"eth0 2001:db8::3/64",
		"eth1 fe80::4/64 tentative",
		"eth1 fe80::3/64",
		"eth1 10.9.0.1/32 peer=10.9.0.2/30",
	)
	vips := []netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	for name, c := range map[string]struct{ link, target, want string }{
		"in the target's network":            {"eth0", "172.16.0.2", "172.16.0.3"},
		"mapped target":                      {"eth0", "::ffff:172.16.0.2", "172.16.0.3"},
		"beyond the gateway":                 {"eth0", "198.51.100.1", "192.0.2.3"},
		"IPv6 in the target's network":       {"eth0", "2001:db8::2", "2001:db8::3"},
		"IPv6 network with none that is fit": {"eth0", "2001:db8:1::9", "2001:db8:2::3"},
		"link-local":                         {"eth0", "fe80::2%eth0", "fe80::3%eth0"},
		"not tentative, zone of the link":    {"eth1", "fe80::2%eth1", "fe80::3%eth1"},
		"no link-local to the wide world":    {"eth1", "2001:db8::2", ""},
		"point to point":                     {"eth1", "10.9.0.2", "10.9.0.1"},
		"no such interface":                  {"eth2", "172.16.0.2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var want netip.Addr
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := k.Source(c.link, netip.MustParseAddr(c.target), vips); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestFreeLabel(t *testing.T) {
	for name, c := range map[string]struct {
		link, used, want string
		ok               bool
	}{
		"the first":                         {"eth0", "", "eth0:1", true},
		"a gap":                             {"eth0", "eth0:1 eth0:3", "eth0:2", true},
		"names are whole":                   {"eth0", "eth0:11 eth0:1x", "eth0:1", true},
		"13 characters, the last one":       {"enp0s31f6.100", "enp0s31f6.100:1 enp0s31f6.100:2 enp0s31f6.100:3 enp0s31f6.100:4 enp0s31f6.100:5 enp0s31f6.100:6 enp0s31f6.100:7 enp0s31f6.100:8", "enp0s31f6.100:9", true},
		"13 characters, ten would be 16":    {"enp0s31f6.100", "enp0s31f6.100:1 enp0s31f6.100:2 enp0s31f6.100:3 enp0s31f6.100:4 enp0s31f6.100:5 enp0s31f6.100:6 enp0s31f6.100:7 enp0s31f6.100:8 enp0s31f6.100:9", "", false},
		"a name of 14 characters, no room":  {"enp0s31f6.1000", "", "", false},
		"a name of 15 characters, the same": {"enx525400123456", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			lines := []string{c.link}
			for i, label := range strings.Fields(c.used) {
				lines = append(lines, fmt.Sprintf("%s 10.0.0.%d/32 label=%s", c.link, i, label))
			}
			got, ok := FreeLabel(kernel(t, lines...), c.link)
			if got != c.want || ok != c.ok {
				t.Errorf("got %q, %v, want %q, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func BenchmarkLook(b *testing.B) {
	for b.Loop() {
		if _, err := TakeSnapshot(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPingSource: the kernel's choice, but never a virtual IP, to which the
// replies may go elsewhere.
func TestPingSource(t *testing.T) {
	k := kernel(t, "eth0 172.16.0.1/16", "eth0 172.16.0.3/24", "eth0 fd00::3/64", "eth0 2001:db8::3/64")
	vips := []netip.Addr{netip.MustParseAddr("172.16.0.1")}
	for _, c := range []struct{ chosen, target, want string }{
		{"172.16.0.3", "198.51.100.1", "172.16.0.3"},
		{"172.16.0.1", "172.16.0.2", "172.16.0.3"},
		{"2001:db8::3", "2001:db8:9::1", "2001:db8::3"}, // not the first, a ULA
	} {
		route := Route{Interface: "eth0", Source: netip.MustParseAddr(c.chosen)}
		if got := k.PingSource(route, netip.MustParseAddr(c.target), vips); got != netip.MustParseAddr(c.want) {
			t.Errorf("to %s, the kernel names %s: got %v, want %s", c.target, c.chosen, got, c.want)
		}
	}
}

// TestRequestSource: outside says that a host with strict rp_filter does not
// reply to the request.
func TestRequestSource(t *testing.T) {
	k := kernel(t, "eth0 192.0.2.3/24", "eth0 172.16.0.3/24", "eth0 fd00::3/64", "eth0 fe80::3/64", "eth1 fe80::4/64", "eth2 172.16.0.1/32")
	vips := []netip.Addr{netip.MustParseAddr("172.16.0.1")}
	for _, c := range []struct {
		link, target, want string
		outside            bool
	}{
		{"eth0", "172.16.0.9", "172.16.0.3", false},
		{"eth0", "10.0.0.1", "192.0.2.3", true},
		{"eth0", "fd00::9", "fd00::3", false},
		{"eth0", "2001:db8::9", "fe80::3%eth0", false},
		{"eth1", "2001:db8::9", "fe80::4%eth1", false},
		{"eth2", "172.16.0.9", "", false},
	} {
		var want netip.Addr
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		if got, outside := k.RequestSource(c.link, netip.MustParseAddr(c.target), vips); got != want || outside != c.outside {
			t.Errorf("%s on %s: got %v, outside %t, want %q, %t", c.target, c.link, got, outside, c.want, c.outside)
		}
	}
}
