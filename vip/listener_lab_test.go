package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"pingover/internal/lab"
)

// patience is how long a test waits for what must come, and quiet how long it
// listens for what must not.
const (
	patience = 10 * time.Second
	quiet    = 300 * time.Millisecond
)

// usual is a lab with client, primary (which has the virtual IPs), standby,
// second and gateway.
func usual(t testing.TB) *lab.Lab {
	t.Helper()
	l := lab.ForTest(t)
	must(t, l.Usual())
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command line without quotes on the host.
func run(t testing.TB, h *lab.Host, line string) string {
	t.Helper()
	out, err := h.Run(strings.Fields(line)...)
	must(t, err)
	return out
}

// wireOn opens a Wire on an interface of the host, until the test ends.
func wireOn(t testing.TB, h *lab.Host, link string, addrs ...netip.Addr) *Listener {
	t.Helper()
	w, err := openOn(h, link, addrs...)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func openOn(h *lab.Host, link string, addrs ...netip.Addr) (*Listener, error) {
	return openKnowing(nil, h, link, addrs...)
}

// openKnowing opens a Wire that takes for ours what own says; nil: what the
// host's kernel says.
func openKnowing(own func(net.HardwareAddr) bool, h *lab.Host, link string, addrs ...netip.Addr) (w *Listener, err error) {
	err = h.Do(func() error {
		k, err := TakeSnapshot()
		if err != nil {
			return err
		}
		l, ok := k.Link(link)
		if !ok {
			return fmt.Errorf("no interface %s", link)
		}
		if own == nil {
			own = k.OwnMAC
		}
		w, err = Open(l, own, addrs...)
		return err
	})
	return w, err
}

// await waits until as many things as wanted were heard.
func await(t testing.TB, w *Listener, n int) []Reply {
	t.Helper()
	deadline := time.After(patience)
	for {
		news := w.Changed()
		if heard := w.Replies(time.Time{}); len(heard) >= n {
			return heard
		}
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("heard only %v, want %d", w.Replies(time.Time{}), n)
		}
	}
}

// nothing fails the test if anything is heard, or cannot be.
func nothing(t testing.TB, w *Listener) {
	t.Helper()
	time.Sleep(quiet)
	if heard := w.Replies(time.Time{}); len(heard) > 0 {
		t.Errorf("heard %v", heard)
	}
	if err := w.Err(); err != nil {
		t.Error(err)
	}
}

// said takes the times off what was heard.
func said(heard []Reply) []Reply {
	heard = slices.Clone(heard)
	for i := range heard {
		heard[i].At = time.Time{}
	}
	return heard
}

func TestHolderAnswers(t *testing.T) {
	t.Parallel()
	l := usual(t)
	far4, far6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:f::1")
	linkLocal := netip.MustParseAddr("fe80::ff:fe00:2%eth0")
	run(t, l.Primary, "ip addr add 192.0.2.1/32 dev eth0")
	up(t, l.Primary, "ip -6 addr add 2001:db8:f::1/128 dev eth0 nodad preferred_lft 0", far6)

	for _, tt := range []struct {
		name         string
		target, from netip.Addr
	}{
		{"the primary's own address", l.Primary.Addr4(), l.Standby.Addr4()},
		{"ordinary request", vip4, l.Standby.Addr4()},
		{"probe", vip4, netip.Addr{}},
		{"ordinary request, outside the subnet", far4, l.Standby.Addr4()},
		{"probe, outside the subnet", far4, netip.Addr{}},
		{"the primary's own IPv6 address", l.Primary.Addr6(), l.Standby.Addr6()},
		{"ordinary solicitation", vip6, l.Standby.Addr6()},
		{"solicitation from link-local", vip6, netip.MustParseAddr("fe80::ff:fe00:3%eth0")},
		{"solicitation of link-local", linkLocal, netip.MustParseAddr("fe80::ff:fe00:3%eth0")},
		{"IPv6 probe", vip6, netip.Addr{}},
		{"ordinary solicitation, outside the subnet", far6, l.Standby.Addr6()},
		{"IPv6 probe, outside the subnet", far6, netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := wireOn(t, l.Standby, "eth0", tt.target)
			asked := time.Now()
			must(t, w.Ask(tt.target, tt.from))
			heard := await(t, w, 1)
			t.Logf("answered after %s", heard[0].At.Sub(asked))
			// An IPv6 probe is answered to everybody.
			want := []Reply{{Address: tt.target, MAC: l.Primary.MAC(), Direct: tt.target.Is4() || tt.from.IsValid()}}
			if diff := cmp.Diff(want, said(heard), compareAddrs); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	l := usual(t)
	free4, free6 := netip.MustParseAddr("172.16.0.77"), netip.MustParseAddr("2001:db8::77")
	w := wireOn(t, l.Standby, "eth0", free4, free6)
	for _, ask := range [][2]netip.Addr{{free4, l.Standby.Addr4()}, {free4, {}}, {free6, l.Standby.Addr6()}, {free6, {}}} {
		must(t, w.Ask(ask[0], ask[1]))
	}
	// Others are asked for, answer and announce meanwhile.
	must(t, l.Client.Ping(vip4, patience))
	must(t, l.Client.Ping(vip6, patience))
	nothing(t, w)
}

func TestTwoHoldersAreBothHeard(t *testing.T) {
	t.Parallel()
	l := usual(t)
	run(t, l.Second, "ip addr add 172.16.0.1/32 dev eth0")
	up(t, l.Second, "ip -6 addr add 2001:db8::1/128 dev eth0 nodad", vip6)

	for name, addr := range map[string]netip.Addr{"IPv4": vip4, "IPv6": vip6} {
		t.Run(name, func(t *testing.T) {
			w := wireOn(t, l.Standby, "eth0", addr)
			must(t, w.Ask(addr, netip.Addr{}))
			heard := said(await(t, w, 2))
			slices.SortFunc(heard, func(a, b Reply) int { return bytes.Compare(a.MAC, b.MAC) })
			want := []Reply{{Address: addr, MAC: l.Primary.MAC(), Direct: addr.Is4()}, {Address: addr, MAC: l.Second.MAC(), Direct: addr.Is4()}}
			if diff := cmp.Diff(want, heard, compareAddrs); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
		})
	}
}

// A second interface of the same machine on the same switch answers for the
// addresses of the first one.
func TestOwnSecondInterfaceIsNotHeard(t *testing.T) {
	t.Parallel()
	l := usual(t)
	_, err := l.Standby.NIC()
	must(t, err)
	ours4 := l.Standby.Addr4()

	w := wireOn(t, l.Standby, "eth0", ours4)
	must(t, w.Ask(ours4, netip.Addr{}))
	nothing(t, w)

	// It did answer: without knowing that the MAC is ours, it is heard.
	w, err = openKnowing(nobody, l.Standby, "eth0", ours4)
	must(t, err)
	defer w.Close()
	must(t, w.Ask(ours4, netip.Addr{}))
	await(t, w, 1)
}

func TestAnotherStandbysProbeIsHeard(t *testing.T) {
	t.Parallel()
	l := usual(t)
	for name, addr := range map[string]netip.Addr{"IPv4": netip.MustParseAddr("172.16.0.77"), "IPv6": netip.MustParseAddr("2001:db8::77")} {
		t.Run(name, func(t *testing.T) {
			w, other := wireOn(t, l.Standby, "eth0", addr), wireOn(t, l.Second, "eth0", addr)
			must(t, other.Ask(addr, netip.Addr{}))
			want := []Reply{{Address: addr, MAC: l.Second.MAC(), Probe: true}}
			if diff := cmp.Diff(want, said(await(t, w, 1)), compareAddrs); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
			nothing(t, other)

			// A question from an address claims nothing for its target.
			from := l.Second.Addr4()
			if addr.Is6() {
				from = l.Second.Addr6()
			}
			w = wireOn(t, l.Standby, "eth0", addr)
			must(t, other.Ask(addr, from))
			nothing(t, w)
		})
	}
}

// The kernel of a machine that raises an IPv6 address probes for it, too.
func TestKernelsOwnProbeIsHeard(t *testing.T) {
	t.Parallel()
	l := usual(t)
	free := netip.MustParseAddr("2001:db8::77")
	w := wireOn(t, l.Standby, "eth0", free)
	must(t, l.Second.Sysctl("ipv6/conf/eth0/accept_dad", "1"))
	must(t, l.Second.Sysctl("ipv6/conf/all/accept_dad", "1"))
	run(t, l.Second, "ip -6 addr add 2001:db8::77/64 dev eth0")
	want := Reply{Address: free, MAC: l.Second.MAC(), Probe: true}
	if diff := cmp.Diff(want, said(await(t, w, 1))[0], compareAddrs); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
}

// Why IPv6 is better asked by ordinary solicitations: a probe makes a machine
// that is just checking the address for itself give it up.
func TestProbeTakesAnAddressFromWhoIsCheckingIt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from netip.Addr
		want bool
	}{
		"probe":                 {netip.Addr{}, false},
		"ordinary solicitation": {ours6, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := usual(t)
			addr := netip.MustParseAddr("2001:db8::77")
			w := wireOn(t, l.Standby, "eth0", addr)
			must(t, l.Second.Sysctl("ipv6/conf/eth0/accept_dad", "1"))
			must(t, l.Second.Sysctl("ipv6/conf/all/accept_dad", "1"))
			must(t, l.Second.Sysctl("ipv6/neigh/eth0/retrans_time_ms", "3000"))
			run(t, l.Second, "ip -6 addr add 2001:db8::77/128 dev eth0")
			await(t, w, 1) // its probe; for the 3s of retrans_time it waits for an objection
			must(t, w.Ask(addr, tt.from))
			for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
				shown := run(t, l.Second, "ip -6 addr show dev eth0 to 2001:db8::77")
				failed, checking := strings.Contains(shown, "dadfailed"), strings.Contains(shown, "tentative")
				if failed == !tt.want && (failed || !checking) {
					return
				}
				if failed || !checking || time.Now().After(deadline) {
					t.Fatalf("keeps the address: want %v\n%s", tt.want, shown)
				}
			}
		})
	}
}

func TestHolderWithICMPFilteredAnswers(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Primary.FilterICMP(true))
	if l.Standby.Ping(vip4, 200*time.Millisecond) == nil {
		t.Fatal("pings are not filtered")
	}
	w := wireOn(t, l.Standby, "eth0", vip4, vip6)
	must(t, w.Ask(vip4, netip.Addr{}))
	must(t, w.Ask(vip6, netip.Addr{}))
	for _, h := range await(t, w, 2) {
		if !slices.Equal(h.MAC, l.Primary.MAC()) {
			t.Errorf("heard %v, want the primary %s", h, l.Primary.MAC())
		}
	}
}

func TestHolderIsHeardThroughLossesWhenAskedAgain(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Primary.Lose(50))
	must(t, l.Standby.Lose(50))
	for name, addr := range map[string]netip.Addr{"IPv4": vip4, "IPv6": vip6} {
		t.Run(name, func(t *testing.T) {
			w := wireOn(t, l.Standby, "eth0", addr)
			deadline := time.Now().Add(patience)
			for len(w.Replies(time.Time{})) == 0 {
				if time.Now().After(deadline) {
					t.Fatal("not heard")
				}
				must(t, w.Ask(addr, netip.Addr{}))
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

func TestInterfaceDownEndsListening(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]netip.Addr{"IPv4": vip4, "IPv6": vip6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := usual(t)
			w := wireOn(t, l.Standby, "eth0", addr)
			news := w.Changed()
			run(t, l.Standby, "ip link set eth0 down")
			select {
			case <-news:
			case <-time.After(patience):
				t.Fatal("nobody was told")
			}
			const want = "eth0: listening ended: network is down"
			if err := w.Err(); err == nil || err.Error() != want {
				t.Errorf("Err: %v, want %s", err, want)
			}
			if err := w.Ask(addr, netip.Addr{}); err == nil || !strings.HasSuffix(err.Error(), ": network is down") {
				t.Errorf("Ask: %v", err)
			}
			if err := w.Announce(addr, nil); err == nil || !strings.HasSuffix(err.Error(), ": network is down") {
				t.Errorf("Announce: %v", err)
			}

			// Back up again: what came in between is lost all the same.
			run(t, l.Standby, "ip link set eth0 up")
			if err := w.Err(); err == nil || err.Error() != want {
				t.Errorf("Err when it is up again: %v, want %s", err, want)
			}

			run(t, l.Standby, "ip link set eth0 down")
			again := wireOn(t, l.Standby, "eth0", addr)
			deadline := time.Now().Add(patience)
			for again.Err() == nil && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
			if err := again.Err(); err == nil || err.Error() != want {
				t.Errorf("Err when opened while down: %v, want %s", err, want)
			}
		})
	}
}

func TestInterfaceGoneEndsListening(t *testing.T) {
	t.Parallel()
	l := usual(t)
	w := wireOn(t, l.Standby, "eth0", vip4, vip6)
	news := w.Changed()
	run(t, l.Standby, "ip link del eth0")
	<-news
	const want = "eth0: listening ended: network is down"
	if err := w.Err(); err == nil || err.Error() != want {
		t.Errorf("Err: %v, want %s", err, want)
	}
}

// sniffer keeps frames that arrive at a host.
type sniffer struct {
	mu     sync.Mutex
	frames [][]byte
}

// sniff keeps the ARP or neighbour discovery frames from one MAC.
func sniff(t testing.TB, h *lab.Host, protocol ethernet.EtherType, from net.HardwareAddr) *sniffer {
	return sniffing(t, h, protocol, func(b []byte) bool {
		return bytes.Equal(b[6:12], from) &&
			(protocol == ethernet.EtherTypeARP || len(b) > 54 && b[20] == icmpv6 && b[54] >= ndSolicitation && b[54] <= ndAdvertisement)
	})
}

// sniffUnicast keeps the frames of whatever protocol to one MAC.
func sniffUnicast(t testing.TB, h *lab.Host, to net.HardwareAddr) *sniffer {
	return sniffing(t, h, unix.ETH_P_ALL, func(b []byte) bool { return bytes.Equal(b[:6], to) && !bytes.Equal(b[6:12], h.MAC()) })
}

func sniffing(t testing.TB, h *lab.Host, protocol ethernet.EtherType, keep func([]byte) bool) *sniffer {
	t.Helper()
	var conn *packet.Conn
	must(t, h.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, int(protocol), nil)
		return err
	}))
	s := new(sniffer)
	var reading sync.WaitGroup
	t.Cleanup(func() {
		must(t, conn.Close())
		reading.Wait()
	})
	reading.Go(func() {
		b := make([]byte, maxFrame)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if keep(b[:n]) {
				s.mu.Lock()
				s.frames = append(s.frames, slices.Clone(b[:n]))
				s.mu.Unlock()
			}
		}
	})
	return s
}

func (s *sniffer) await(t testing.TB, n int) [][]byte {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		frames := s.frames
		s.mu.Unlock()
		if len(frames) >= n {
			return frames
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d frames, want %d", len(frames), n)
		}
	}
}

// What is on the wire is what the golden frames say. The MACs in them are
// changed to those of the lab, and so are the checksums.
func TestFramesOnTheWire(t *testing.T) {
	t.Parallel()
	l := usual(t)
	golden := func(texts ...string) (frames [][]byte) {
		for _, text := range texts {
			b := frame(t, strings.NewReplacer("02000000000a", "020000000003", "02000000000b", "020000000002", "fffe00000a", "fffe000003").Replace(text))
			if binary.BigEndian.Uint16(b[12:]) == uint16(ethernet.EtherTypeIPv6) {
				b[56], b[57] = 0, 0
				binary.BigEndian.PutUint16(b[56:], checksum(netip.AddrFrom16([16]byte(b[22:])), netip.AddrFrom16([16]byte(b[38:])), b[54:]))
			}
			frames = append(frames, b)
		}
		return frames
	}
	for _, tt := range []struct {
		name     string
		protocol ethernet.EtherType
		act      func(w *Listener) error
		want     [][]byte
	}{
		{"ARP question", ethernet.EtherTypeARP, func(w *Listener) error { return w.Ask(vip4, ours4) }, golden(goldenARPQuestion)},
		{"ARP probe", ethernet.EtherTypeARP, func(w *Listener) error { return w.Ask(vip4, netip.Addr{}) }, golden(goldenARPProbe)},
		{"ARP announcement", ethernet.EtherTypeARP, func(w *Listener) error { return w.Announce(vip4, nil) }, golden(goldenARPAnnouncement, goldenARPAnnouncementReply)},
		{"ARP on behalf", ethernet.EtherTypeARP, func(w *Listener) error { return w.Announce(vip4, l.Primary.MAC()) }, golden(goldenARPOnBehalf, goldenARPOnBehalfReply)},
		{"ND question", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Ask(vip6, ours6) }, golden(goldenNDQuestion)},
		{"ND probe", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Ask(vip6, netip.Addr{}) }, golden(goldenNDProbe)},
		{"ND announcement", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Announce(vip6, nil) }, golden(goldenNDAnnouncement)},
		{"ND on behalf", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Announce(vip6, l.Primary.MAC()) }, golden(goldenNDOnBehalf)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sniff(t, l.Second, tt.protocol, l.Standby.MAC())
			w := wireOn(t, l.Standby, "eth0", vip4, vip6)
			must(t, tt.act(w))
			if diff := cmp.Diff(tt.want, s.await(t, len(tt.want))); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
		})
	}
}

// neighbour is the client's entry for an address: its MAC, "" if none.
func neighbour(t testing.TB, h *lab.Host, addr netip.Addr) string {
	t.Helper()
	_, rest, _ := strings.Cut(run(t, h, "ip neigh show "+addr.String()), "lladdr ")
	mac, _, _ := strings.Cut(rest, " ")
	return mac
}

// up gives a host an address, and waits until its kernel uses it: also without
// duplicate address detection IPv6 gets it by a worker, which waits for a lock
// that all namespaces share.
func up(t testing.TB, h *lab.Host, line string, addr netip.Addr) {
	t.Helper()
	run(t, h, line)
	for deadline := time.Now().Add(patience); run(t, h, "ip -o addr show tentative to "+addr.String()) != ""; {
		if time.Now().After(deadline) {
			t.Fatalf("%s stays tentative", addr)
		}
	}
}

// follows fails the test unless the client comes to find the address at that
// MAC, without a packet of its own that could make it look, and then reaches it.
func follows(t testing.TB, client *lab.Host, addr netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	for deadline := time.Now().Add(patience); neighbour(t, client, addr) != mac.String(); {
		if time.Now().After(deadline) {
			t.Fatalf("the client finds %s at %q, want %s", addr, neighbour(t, client, addr), mac)
		}
	}
	must(t, client.Ping(addr, patience))
}

func TestAnnouncementMovesAClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		addr     netip.Addr
		take, up string
	}{
		{"IPv4", vip4, "ip addr del 172.16.0.1/32 dev eth0", "ip addr add 172.16.0.1/32 dev eth0"},
		{"IPv6", vip6, "ip -6 addr del 2001:db8::1/128 dev eth0", "ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := usual(t)
			must(t, l.Client.Ping(tt.addr, patience))
			if got := neighbour(t, l.Client, tt.addr); got != l.Primary.MAC().String() {
				t.Fatalf("the client finds it at %q", got)
			}
			time.Sleep(1100 * time.Millisecond) // Linux ignores for a second what would change a fresh entry (net.ipv4.neigh.*.locktime)

			run(t, l.Primary, tt.take)
			up(t, l.Standby, tt.up, tt.addr)
			if got := neighbour(t, l.Client, tt.addr); got != l.Primary.MAC().String() {
				t.Fatalf("without an announcement the client finds it at %q", got)
			}
			w := wireOn(t, l.Standby, "eth0", tt.addr)
			must(t, w.Announce(tt.addr, nil))
			follows(t, l.Client, tt.addr, l.Standby.MAC())
		})
	}
}

// The standby gives the address back to the primary and says so on its behalf:
// clients follow, and the switch goes on forwarding the primary's frames to the
// primary.
func TestAnnouncementOnBehalfOfAnother(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		addr netip.Addr
		up   string
		down string
	}{
		{"IPv4", vip4, "ip addr add 172.16.0.1/32 dev eth0", "ip addr del 172.16.0.1/32 dev eth0"},
		{"IPv6", vip6, "ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0", "ip -6 addr del 2001:db8::1/128 dev eth0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := usual(t)
			run(t, l.Primary, tt.down)
			up(t, l.Standby, tt.up, tt.addr)
			must(t, l.Client.Ping(tt.addr, patience))
			if got := neighbour(t, l.Client, tt.addr); got != l.Standby.MAC().String() {
				t.Fatalf("the client finds it at %q", got)
			}
			time.Sleep(1100 * time.Millisecond) // locktime, as above

			run(t, l.Standby, tt.down)
			up(t, l.Primary, tt.up, tt.addr)
			strays := sniffUnicast(t, l.Standby, l.Primary.MAC())
			w := wireOn(t, l.Standby, "eth0", tt.addr)
			must(t, w.Announce(tt.addr, l.Primary.MAC()))
			follows(t, l.Client, tt.addr, l.Primary.MAC())
			must(t, l.Client.Ping(l.Primary.Addr4(), patience))
			if frames := strays.await(t, 0); len(frames) > 0 {
				t.Errorf("the switch sent the primary's frames to the standby: % x", frames)
			}
		})
	}
}

// No interface of ours takes our own words for another's, though they name a
// MAC that is not ours.
func TestAnnouncementOnBehalfIsNotHeardBack(t *testing.T) {
	t.Parallel()
	l := usual(t)
	eth1, err := l.Standby.NIC()
	must(t, err)
	free4, free6 := netip.MustParseAddr("172.16.0.77"), netip.MustParseAddr("2001:db8::77")
	w0, w1 := wireOn(t, l.Standby, "eth0", free4, free6), wireOn(t, l.Standby, eth1, free4, free6)
	other := wireOn(t, l.Second, "eth0", free4, free6)
	must(t, w0.Announce(free4, someone))
	must(t, w0.Announce(free6, someone))

	want := []Reply{{Address: free4, MAC: someone}, {Address: free4, MAC: someone}, {Address: free6, MAC: someone}}
	heard := said(await(t, other, 3))
	slices.SortFunc(heard, func(a, b Reply) int { return a.Address.Compare(b.Address) })
	if diff := cmp.Diff(want, heard, compareAddrs); diff != "" {
		t.Errorf("another host heard (-want +got):\n%s", diff)
	}
	nothing(t, w0)
	nothing(t, w1)
}

// spoken sends a frame from the host as it stands.
func spoken(t testing.TB, h *lab.Host, frame []byte) {
	t.Helper()
	must(t, h.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		return err
	}))
}

// The kernel takes VLAN tags off before we see the frame, so only its own mark
// can tell that it is of another network.
func TestTaggedFrames(t *testing.T) {
	t.Parallel()
	l := usual(t)
	announcements, err := arpAnnouncement(l.Second.MAC(), l.Second.MAC(), vip4)
	must(t, err)
	announcement6, err := ndAnnouncement(l.Second.MAC(), l.Second.MAC(), vip6, vip6)
	must(t, err)
	tagged := func(tag string, b []byte) []byte { return slices.Concat(b[:12], frame(t, tag), b[12:]) }
	w := wireOn(t, l.Standby, "eth0", vip4, vip6)

	spoken(t, l.Second, tagged("8100 0005", announcements[0])) // VLAN 5
	spoken(t, l.Second, tagged("8100 0005", announcement6))
	spoken(t, l.Second, tagged("88a8 0005", announcements[0]))
	nothing(t, w)

	spoken(t, l.Second, tagged("8100 e000", announcements[0])) // VLAN 0, priority 7
	spoken(t, l.Second, tagged("8100 e000", announcement6))
	want := []Reply{{Address: vip4, MAC: l.Second.MAC()}, {Address: vip6, MAC: l.Second.MAC()}}
	heard := said(await(t, w, 2))
	slices.SortFunc(heard, func(a, b Reply) int { return a.Address.Compare(b.Address) })
	if diff := cmp.Diff(want, heard, compareAddrs); diff != "" {
		t.Errorf("heard of priority-tagged frames (-want +got):\n%s", diff)
	}
}

func packetSockets(t testing.TB, h *lab.Host) int {
	t.Helper()
	return strings.Count(run(t, h, "cat /proc/net/packet"), "\n") - 1 // without the heading
}

// One socket for each family that is asked for, the groups of the IPv6
// addresses, and nothing left behind.
func TestOpenTakesAndCloseGivesBack(t *testing.T) {
	t.Parallel()
	l := usual(t)
	sockets := func() int { return packetSockets(t, l.Standby) }
	joined := func() bool {
		return strings.Contains(run(t, l.Standby, "cat /proc/net/igmp6"), "ff0200000000000000000001ff000001")
	}
	sameGroup := netip.MustParseAddr("2001:db8:f::1")

	for _, tt := range []struct {
		name    string
		addrs   []netip.Addr
		sockets int
		joined  bool
	}{
		{"nothing", nil, 0, false},
		{"IPv4", []netip.Addr{vip4, ours4}, 1, false},
		{"IPv6", []netip.Addr{vip6}, 1, true},
		{"IPv6, two of one group", []netip.Addr{vip6, sameGroup}, 1, true},
		{"both", []netip.Addr{vip4, vip6}, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := openOn(l.Standby, "eth0", tt.addrs...)
			must(t, err)
			if got := sockets(); got != tt.sockets {
				t.Errorf("%d packet sockets, want %d", got, tt.sockets)
			}
			if got := joined(); got != tt.joined {
				t.Errorf("joined the group: %v, want %v", got, tt.joined)
			}
			must(t, w.Close())
			// A child that another test is just forking may hold copies until its exec.
			for deadline := time.Now().Add(patience); sockets() > 0 || joined(); {
				if time.Now().After(deadline) {
					t.Fatalf("left behind: %d packet sockets, in the group: %v", sockets(), joined())
				}
			}
			if err := w.Err(); err != nil {
				t.Errorf("Err after Close: %v", err)
			}
		})
	}
}

func TestOpenWhereTheInterfaceHasNoIPv6(t *testing.T) {
	t.Parallel()
	l := usual(t)
	run(t, l.Standby, "ip link set eth0 mtu 1279") // RFC 8200 §5 asks for 1280
	_, err := openOn(l.Standby, "eth0", vip4, vip6)
	const want = "eth0: joining the solicited-node group of 2001:db8::1 (is IPv6 on there?): invalid argument"
	if err == nil || err.Error() != want {
		t.Errorf("got error:  %v\nwant error: %s", err, want)
	}
	for deadline := time.Now().Add(patience); packetSockets(t, l.Standby) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("packet sockets left behind")
		}
	}
}

func TestManyAskAndListenAtOnce(t *testing.T) {
	t.Parallel()
	l := usual(t)
	w := wireOn(t, l.Standby, "eth0", vip4, vip6)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 25 {
				if err := errors.Join(w.Ask(vip4, netip.Addr{}), w.Ask(vip6, netip.Addr{})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	await(t, w, 200)
	asking.Wait()
}

func BenchmarkOpenClose(b *testing.B) {
	l := usual(b)
	var opening time.Duration
	must(b, l.Standby.Do(func() error {
		k, err := TakeSnapshot()
		if err != nil {
			return err
		}
		eth0, _ := k.Link("eth0")
		for b.Loop() {
			start := time.Now()
			w, err := Open(eth0, k.OwnMAC, vip4, vip6)
			opening += time.Since(start)
			if err != nil {
				return err
			}
			if err := w.Close(); err != nil {
				return err
			}
		}
		return nil
	}))
	b.ReportMetric(float64(opening.Nanoseconds())/float64(b.N), "ns/open")
}

func BenchmarkAskHeard(b *testing.B) {
	l := usual(b)
	for name, addr := range map[string]netip.Addr{"ARP": vip4, "ND": vip6} {
		b.Run(name, func(b *testing.B) {
			w := wireOn(b, l.Standby, "eth0", addr)
			for b.Loop() {
				news := w.Changed()
				must(b, w.Ask(addr, netip.Addr{}))
				<-news
			}
		})
	}
}
