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

// patience is how long a test waits for what must arrive, and quiet how long
// it listens for what must not.
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

// listenOn opens a Listener on an interface of the host, until the test ends.
func listenOn(t testing.TB, h *lab.Host, link string, addrs ...netip.Addr) *Listener {
	t.Helper()
	w, err := openOn(h, link, addrs...)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func openOn(h *lab.Host, link string, addrs ...netip.Addr) (*Listener, error) {
	return openWith(nil, h, link, addrs...)
}

// openWith opens a Listener that ignores frames by own; nil: by the host's
// snapshot.
func openWith(own func(Reply) bool, h *lab.Host, link string, addrs ...netip.Addr) (w *Listener, err error) {
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
			own = k.OwnReply
		}
		w, err = Open(l, own, addrs...)
		return err
	})
	return w, err
}

// await waits until there are as many replies as wanted.
func await(t testing.TB, w *Listener, n int) []Reply {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := w.Changed()
		if replies := w.Replies(time.Time{}); len(replies) >= n {
			return replies
		}
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("only %v, want %d replies", w.Replies(time.Time{}), n)
		}
	}
}

// nothing fails the test if there is any reply, or cannot be.
func nothing(t testing.TB, w *Listener) {
	t.Helper()
	time.Sleep(quiet)
	if replies := w.Replies(time.Time{}); len(replies) > 0 {
		t.Errorf("replies %v", replies)
	}
	if err := w.Err(); err != nil {
		t.Error(err)
	}
}

// plain clears the time, source and destination of replies.
func plain(replies []Reply) []Reply {
	replies = slices.Clone(replies)
	for i := range replies {
		replies[i].At, replies[i].Source, replies[i].To = time.Time{}, nil, netip.Addr{}
	}
	return replies
}

func TestHolderReplies(t *testing.T) {
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
			w := listenOn(t, l.Standby, "eth0", tt.target)
			asked := time.Now()
			must(t, w.Ask(tt.target, tt.from))
			replies := await(t, w, 1)
			t.Logf("reply after %s", replies[0].At.Sub(asked))
			// The reply to an IPv6 probe goes to all nodes.
			want := []Reply{{Address: tt.target, MAC: l.Primary.MAC(), Direct: tt.target.Is4() || tt.from.IsValid()}}
			if diff := cmp.Diff(want, plain(replies), compareAddrs); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNobodyReplies(t *testing.T) {
	t.Parallel()
	l := usual(t)
	free4, free6 := netip.MustParseAddr("172.16.0.77"), netip.MustParseAddr("2001:db8::77")
	w := listenOn(t, l.Standby, "eth0", free4, free6)
	for _, ask := range [][2]netip.Addr{{free4, l.Standby.Addr4()}, {free4, {}}, {free6, l.Standby.Addr6()}, {free6, {}}} {
		must(t, w.Ask(ask[0], ask[1]))
	}
	// Others are asked for, answer and announce meanwhile.
	must(t, l.Client.Ping(vip4, patience))
	must(t, l.Client.Ping(vip6, patience))
	nothing(t, w)
}

func TestTwoHoldersBothReply(t *testing.T) {
	t.Parallel()
	l := usual(t)
	run(t, l.Second, "ip addr add 172.16.0.1/32 dev eth0")
	up(t, l.Second, "ip -6 addr add 2001:db8::1/128 dev eth0 nodad", vip6)

	for name, addr := range map[string]netip.Addr{"IPv4": vip4, "IPv6": vip6} {
		t.Run(name, func(t *testing.T) {
			w := listenOn(t, l.Standby, "eth0", addr)
			must(t, w.Ask(addr, netip.Addr{}))
			replies := plain(await(t, w, 2))
			slices.SortFunc(replies, func(a, b Reply) int { return bytes.Compare(a.MAC, b.MAC) })
			want := []Reply{{Address: addr, MAC: l.Primary.MAC(), Direct: addr.Is4()}, {Address: addr, MAC: l.Second.MAC(), Direct: addr.Is4()}}
			if diff := cmp.Diff(want, replies, compareAddrs); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
		})
	}
}

// A second interface of the same machine on the same switch replies for the
// addresses of the first one.
func TestOwnSecondInterfaceIsIgnored(t *testing.T) {
	t.Parallel()
	l := usual(t)
	_, err := l.Standby.NIC()
	must(t, err)
	ours4 := l.Standby.Addr4()

	w := listenOn(t, l.Standby, "eth0", ours4)
	must(t, w.Ask(ours4, netip.Addr{}))
	nothing(t, w)

	// It did reply: without knowing that the MAC is ours, it counts.
	w, err = openWith(never, l.Standby, "eth0", ours4)
	must(t, err)
	defer w.Close()
	must(t, w.Ask(ours4, netip.Addr{}))
	await(t, w, 1)
}

func TestAnotherStandbysProbeIsReceived(t *testing.T) {
	t.Parallel()
	l := usual(t)
	for name, addr := range map[string]netip.Addr{"IPv4": netip.MustParseAddr("172.16.0.77"), "IPv6": netip.MustParseAddr("2001:db8::77")} {
		t.Run(name, func(t *testing.T) {
			w, other := listenOn(t, l.Standby, "eth0", addr), listenOn(t, l.Second, "eth0", addr)
			must(t, other.Ask(addr, netip.Addr{}))
			want := []Reply{{Address: addr, MAC: l.Second.MAC(), Probe: true}}
			if diff := cmp.Diff(want, plain(await(t, w, 1)), compareAddrs); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			nothing(t, other)

			// A question from an address claims nothing for its target.
			from := l.Second.Addr4()
			if addr.Is6() {
				from = l.Second.Addr6()
			}
			w = listenOn(t, l.Standby, "eth0", addr)
			must(t, other.Ask(addr, from))
			nothing(t, w)
		})
	}
}

// The kernel of a machine that adds an IPv6 address probes for it, too.
func TestKernelsOwnProbeIsReceived(t *testing.T) {
	t.Parallel()
	l := usual(t)
	free := netip.MustParseAddr("2001:db8::77")
	w := listenOn(t, l.Standby, "eth0", free)
	must(t, l.Second.Sysctl("ipv6/conf/eth0/accept_dad", "1"))
	must(t, l.Second.Sysctl("ipv6/conf/all/accept_dad", "1"))
	run(t, l.Second, "ip -6 addr add 2001:db8::77/64 dev eth0")
	want := Reply{Address: free, MAC: l.Second.MAC(), Probe: true}
	if diff := cmp.Diff(want, plain(await(t, w, 1))[0], compareAddrs); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
}

// Why IPv6 is better asked by ordinary solicitations: a probe makes a machine
// that is just checking the address for itself give it up.
func TestProbeTakesAnAddressThatIsBeingChecked(t *testing.T) {
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
			w := listenOn(t, l.Standby, "eth0", addr)
			must(t, l.Second.Sysctl("ipv6/conf/eth0/accept_dad", "1"))
			must(t, l.Second.Sysctl("ipv6/conf/all/accept_dad", "1"))
			must(t, l.Second.Sysctl("ipv6/neigh/eth0/retrans_time_ms", "3000"))
			run(t, l.Second, "ip -6 addr add 2001:db8::77/128 dev eth0")
			await(t, w, 1) // its probe; for the 3s of retrans_time it waits for a reply
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

func TestHolderWithICMPFilteredReplies(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Primary.FilterICMP(true))
	if l.Standby.Ping(vip4, 200*time.Millisecond) == nil {
		t.Fatal("pings are not filtered")
	}
	w := listenOn(t, l.Standby, "eth0", vip4, vip6)
	must(t, w.Ask(vip4, netip.Addr{}))
	must(t, w.Ask(vip6, netip.Addr{}))
	for _, h := range await(t, w, 2) {
		if !slices.Equal(h.MAC, l.Primary.MAC()) {
			t.Errorf("reply %v, want the primary %s", h, l.Primary.MAC())
		}
	}
}

func TestHolderRepliesThroughLossesWhenAskedAgain(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Primary.Lose(50))
	must(t, l.Standby.Lose(50))
	for name, addr := range map[string]netip.Addr{"IPv4": vip4, "IPv6": vip6} {
		t.Run(name, func(t *testing.T) {
			w := listenOn(t, l.Standby, "eth0", addr)
			deadline := time.Now().Add(patience)
			for len(w.Replies(time.Time{})) == 0 {
				if time.Now().After(deadline) {
					t.Fatal("no reply")
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
			w := listenOn(t, l.Standby, "eth0", addr)
			changed := w.Changed()
			run(t, l.Standby, "ip link set eth0 down")
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatal("not notified")
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
			again := listenOn(t, l.Standby, "eth0", addr)
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
	w := listenOn(t, l.Standby, "eth0", vip4, vip6)
	changed := w.Changed()
	run(t, l.Standby, "ip link del eth0")
	<-changed
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

// The frames that are sent are the golden frames. The MACs in them are
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
		{"ARP request", ethernet.EtherTypeARP, func(w *Listener) error { return w.Ask(vip4, ours4) }, golden(goldenARPRequest)},
		{"ARP probe", ethernet.EtherTypeARP, func(w *Listener) error { return w.Ask(vip4, netip.Addr{}) }, golden(goldenARPProbe)},
		{"ARP announcement", ethernet.EtherTypeARP, func(w *Listener) error { return w.Announce(vip4, nil) }, golden(goldenARPAnnouncement, goldenARPAnnouncementReply)},
		{"ARP proxy announcement", ethernet.EtherTypeARP, func(w *Listener) error { return w.Announce(vip4, l.Primary.MAC()) }, golden(goldenARPProxy, goldenARPProxyReply)},
		{"ND solicitation", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Ask(vip6, ours6) }, golden(goldenNDSolicitation)},
		{"ND probe", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Ask(vip6, netip.Addr{}) }, golden(goldenNDProbe)},
		{"ND announcement", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Announce(vip6, nil) }, golden(goldenNDAnnouncement)},
		{"ND proxy announcement", ethernet.EtherTypeIPv6, func(w *Listener) error { return w.Announce(vip6, l.Primary.MAC()) }, golden(strings.Replace(goldenNDProxy, "2950 20000000", "2950 a0000000", 1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sniff(t, l.Second, tt.protocol, l.Standby.MAC())
			w := listenOn(t, l.Standby, "eth0", vip4, vip6)
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
			w := listenOn(t, l.Standby, "eth0", tt.addr)
			must(t, w.Announce(tt.addr, nil))
			follows(t, l.Client, tt.addr, l.Standby.MAC())
		})
	}
}

// The standby gives the address back to the primary and announces it for the primary:
// clients follow, and the switch goes on forwarding the primary's frames to the
// primary.
func TestProxyAnnouncement(t *testing.T) {
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
			w := listenOn(t, l.Standby, "eth0", tt.addr)
			must(t, w.Announce(tt.addr, l.Primary.MAC()))
			follows(t, l.Client, tt.addr, l.Primary.MAC())
			must(t, l.Client.Ping(l.Primary.Addr4(), patience))
			if frames := strays.await(t, 0); len(frames) > 0 {
				t.Errorf("the switch sent the primary's frames to the standby: % x", frames)
			}
		})
	}
}

// No interface of this machine takes its own proxy announcement for another
// machine's, though it has a MAC that is not ours.
func TestOwnProxyAnnouncementIsIgnored(t *testing.T) {
	t.Parallel()
	l := usual(t)
	eth1, err := l.Standby.NIC()
	must(t, err)
	free4, free6 := netip.MustParseAddr("172.16.0.77"), netip.MustParseAddr("2001:db8::77")
	w0, w1 := listenOn(t, l.Standby, "eth0", free4, free6), listenOn(t, l.Standby, eth1, free4, free6)
	other := listenOn(t, l.Second, "eth0", free4, free6)
	must(t, w0.Announce(free4, someone))
	must(t, w0.Announce(free6, someone))

	want := []Reply{{Address: free4, MAC: someone}, {Address: free6, MAC: someone, Router: true}}
	replies := plain(await(t, other, 2))
	slices.SortFunc(replies, func(a, b Reply) int { return a.Address.Compare(b.Address) })
	if diff := cmp.Diff(want, replies, compareAddrs); diff != "" {
		t.Errorf("replies at another host (-want +got):\n%s", diff)
	}
	nothing(t, w0)
	nothing(t, w1)
}

// sendFrame sends a frame from the host unchanged.
func sendFrame(t testing.TB, h *lab.Host, frame []byte) {
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
	announcement6, err := ndAnnouncement(l.Second.MAC(), l.Second.MAC(), vip6, vip6, false)
	must(t, err)
	tagged := func(tag string, b []byte) []byte { return slices.Concat(b[:12], frame(t, tag), b[12:]) }
	w := listenOn(t, l.Standby, "eth0", vip4, vip6)

	sendFrame(t, l.Second, tagged("8100 0005", announcements[0])) // VLAN 5
	sendFrame(t, l.Second, tagged("8100 0005", announcement6))
	sendFrame(t, l.Second, tagged("88a8 0005", announcements[0]))
	nothing(t, w)

	sendFrame(t, l.Second, tagged("8100 e000", announcements[0])) // VLAN 0, priority 7
	sendFrame(t, l.Second, tagged("8100 e000", announcement6))
	want := []Reply{{Address: vip4, MAC: l.Second.MAC()}, {Address: vip6, MAC: l.Second.MAC()}}
	replies := plain(await(t, w, 2))
	slices.SortFunc(replies, func(a, b Reply) int { return a.Address.Compare(b.Address) })
	if diff := cmp.Diff(want, replies, compareAddrs); diff != "" {
		t.Errorf("replies in priority-tagged frames (-want +got):\n%s", diff)
	}
}

func packetSockets(t testing.TB, h *lab.Host) int {
	t.Helper()
	return strings.Count(run(t, h, "cat /proc/net/packet"), "\n") - 1 // without the heading
}

// One socket for each family that is asked for, the groups of the IPv6
// addresses, and nothing left behind.
func TestOpenAndCloseOfSockets(t *testing.T) {
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
	w := listenOn(t, l.Standby, "eth0", vip4, vip6)
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
	asking.Wait()
	await(t, w, 2)
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
			w, err := Open(eth0, k.OwnReply, vip4, vip6)
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

func BenchmarkAskReply(b *testing.B) {
	l := usual(b)
	for name, addr := range map[string]netip.Addr{"ARP": vip4, "ND": vip6} {
		b.Run(name, func(b *testing.B) {
			w := listenOn(b, l.Standby, "eth0", addr)
			for b.Loop() {
				changed := w.Changed()
				must(b, w.Ask(addr, netip.Addr{}))
				<-changed
			}
		})
	}
}

// A machine with one of our MACs, here of an interface that is down, has the
// address: a clone, for example.
func TestOwnMACCountsForAnAddressThatIsNotHere(t *testing.T) {
	t.Parallel()
	l := usual(t)
	run(t, l.Standby, "ip link add spare address 02:00:00:00:00:77 type veth peer name end")
	run(t, l.Primary, "ip link set eth0 address 02:00:00:00:00:77")
	w := listenOn(t, l.Standby, "eth0", vip4)
	must(t, w.Ask(vip4, netip.Addr{}))
	if got := await(t, w, 1)[0].MAC.String(); got != "02:00:00:00:00:77" {
		t.Errorf("reply from %s", got)
	}
}

func TestOwnReply(t *testing.T) {
	k := kernel(t, "eth0 172.16.0.3/24", "eth1 192.0.2.3/24", "eth2")
	k.Links[0].MAC, k.Links[1].MAC, k.Links[2].MAC = us, them, net.HardwareAddr{2, 0, 0, 0, 0, 0x0d}
	k.Links[2].ProxyARP = true
	for name, tt := range map[string]struct {
		r    Reply
		want bool
	}{
		"another machine":                          {Reply{Address: vip4, MAC: someone, Source: someone}, false},
		"another machine, for our address":         {Reply{Address: ours4, MAC: someone, Source: someone}, false},
		"our second interface, for our address":    {Reply{Address: ours4, MAC: them, Source: them}, true},
		"our MAC, for an address that is not here": {Reply{Address: vip4, MAC: them, Source: them}, false},
		"our own probe, reflected":                 {Reply{Address: vip4, MAC: us, Source: us, Probe: true}, true},
		"our own proxy announcement":               {Reply{Address: vip4, MAC: someone, Source: us}, true},
		"our interface that does proxy ARP":        {Reply{Address: vip4, MAC: k.Links[2].MAC, Source: k.Links[2].MAC}, true},
		"no MAC":                                   {Reply{Address: vip4}, false},
	} {
		if got := k.OwnReply(tt.r); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

// A missing Router flag deletes clients' default routes through the address.
func TestAnnouncementByARouterHasTheRouterFlag(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		forwarding string
		of         func(l *lab.Lab) *lab.Host
		want       bool
	}{
		"this machine, no router":    {"0", func(*lab.Lab) *lab.Host { return nil }, false},
		"this machine, a router":     {"1", func(*lab.Lab) *lab.Host { return nil }, true},
		"another machine, no router": {"1", func(l *lab.Lab) *lab.Host { return l.Primary }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := usual(t)
			must(t, l.Standby.Sysctl("ipv6/conf/eth0/forwarding", tt.forwarding))
			w := listenOn(t, l.Standby, "eth0", vip6)
			var mac net.HardwareAddr
			if h := tt.of(l); h != nil {
				mac = h.MAC()
				must(t, w.Ask(vip6, l.Standby.Addr6()))
				await(t, w, 1) // which says that it is none
			}
			s := sniff(t, l.Second, ethernet.EtherTypeIPv6, l.Standby.MAC())
			must(t, w.Announce(vip6, mac))
			for _, b := range s.await(t, 1) {
				if b[54] == ndAdvertisement && (b[54+ndFlags]&ndRouter != 0) != tt.want {
					t.Errorf("flags %#x, Router %t wanted", b[54+ndFlags], tt.want)
				}
			}
		})
	}
}

// Some routers ignore gratuitous ARP, for up to 15 minutes; all learn from an
// ordinary request that comes from the virtual IP.
func TestRequestFromTheVIPTeachesRouters(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Gateway.Sysctl("ipv4/conf/eth0/drop_gratuitous_arp", "1"))
	must(t, l.Gateway.Ping(vip4, patience))
	time.Sleep(1100 * time.Millisecond) // net.ipv4.neigh.*.locktime
	run(t, l.Primary, "ip addr del 172.16.0.1/32 dev eth0")
	run(t, l.Standby, "ip addr add 172.16.0.1/32 dev eth0")

	gateway := l.Gateway.Addr4()
	w := listenOn(t, l.Standby, "eth0", vip4, gateway)
	must(t, w.Announce(vip4, nil))
	time.Sleep(quiet)
	if got := neighbour(t, l.Gateway, vip4); got != l.Primary.MAC().String() {
		t.Fatalf("after gratuitous ARP the gateway has %q", got)
	}
	must(t, w.Ask(gateway, vip4))
	r := await(t, w, 1)[0]
	if r.Address != gateway || r.To != vip4 {
		t.Errorf("reply %+v", r)
	}
	if got := neighbour(t, l.Gateway, vip4); got != l.Standby.MAC().String() {
		t.Errorf("after a request from the virtual IP the gateway has %q", got)
	}
}

// A router with proxy ARP replies to ordinary requests for others, and to no
// probe; a holder replies to both, and To tells them apart.
func TestProxyARPIsTold(t *testing.T) {
	t.Parallel()
	l := usual(t)
	run(t, l.Gateway, "ip link add other type veth peer name end")
	run(t, l.Gateway, "ip link set other up")
	run(t, l.Gateway, "ip link set end up")
	run(t, l.Gateway, "ip route add 10.9.9.0/24 dev other")
	must(t, errors.Join(
		l.Gateway.Sysctl("ipv4/ip_forward", "1"),
		l.Gateway.Sysctl("ipv4/conf/eth0/proxy_arp", "1"),
		l.Gateway.Sysctl("ipv4/neigh/eth0/proxy_delay", "0"),
	))
	far := netip.MustParseAddr("10.9.9.9")
	w := listenOn(t, l.Standby, "eth0", far, vip4)
	for _, a := range []netip.Addr{far, vip4} {
		must(t, w.Ask(a, netip.Addr{}))
		must(t, w.Ask(a, l.Standby.Addr4()))
	}
	await(t, w, 3)
	time.Sleep(quiet)
	got := map[string]bool{}
	for _, r := range w.Replies(time.Time{}) {
		got[fmt.Sprintf("%s at %s to %s, direct %t", r.Address, r.MAC, r.To, r.Direct)] = true
	}
	want := map[string]bool{
		fmt.Sprintf("10.9.9.9 at %s to 172.16.0.3, direct true", l.Gateway.MAC()):   true,
		fmt.Sprintf("172.16.0.1 at %s to 172.16.0.3, direct true", l.Primary.MAC()): true,
		fmt.Sprintf("172.16.0.1 at %s to 0.0.0.0, direct true", l.Primary.MAC()):    true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The kernel's filter passes only frames about the addresses, as many as there
// are, and what it drops because it is not read is counted.
func TestSocketFilterAndDrops(t *testing.T) {
	t.Parallel()
	l := usual(t)
	var process Process
	open := func(addrs ...netip.Addr) (w *Listener) {
		t.Helper()
		must(t, l.Standby.Do(func() error {
			k, err := TakeSnapshot()
			if err != nil {
				return err
			}
			eth0, _ := k.Link("eth0")
			w, err = process.Open(eth0, k.OwnReply, addrs...)
			return err
		}))
		t.Cleanup(func() { must(t, w.Close()) })
		return w
	}
	other4, other6 := netip.MustParseAddr("172.16.0.77"), netip.MustParseAddr("2001:db8::77")
	var many []netip.Addr // more than the filter distinguishes, with vip4 and vip6
	for i := range byte(maxFiltered) {
		many = append(many, netip.AddrFrom4([4]byte{172, 16, 1, i}))
	}
	last := many[len(many)-1]
	speaker := listenOn(t, l.Second, "eth0", vip4, vip6, other4, other6, last)
	w := open(vip4, vip6)
	passed := func() (n uint32) {
		for _, s := range []*socket{w.arp, w.nd} {
			stats, err := s.conn.Stats()
			must(t, err)
			n += stats.Packets
		}
		return n
	}
	passed()
	for range 20 {
		must(t, errors.Join(speaker.Announce(other4, nil), speaker.Announce(other6, nil), speaker.Ask(other4, netip.Addr{}), speaker.Ask(other6, netip.Addr{})))
	}
	time.Sleep(quiet)
	if n := passed(); n > 0 {
		t.Errorf("%d frames about other addresses pass the filter", n)
	}
	must(t, errors.Join(speaker.Announce(vip4, nil), speaker.Announce(vip6, nil)))
	await(t, w, 2)

	for _, n := range []int{maxFiltered - 1, maxFiltered} {
		w := open(many[maxFiltered-n:]...)
		must(t, speaker.Announce(last, nil))
		await(t, w, 1)
	}

	before := w.Lost()
	w.arp.mu.Lock() // not read
	for range 3000 {
		must(t, speaker.Announce(vip4, nil))
	}
	time.Sleep(quiet)
	w.arp.mu.Unlock()
	if before != 0 || w.Lost() == 0 {
		t.Errorf("%d frames were lost before, and %d after 6,000 that were not read", before, w.Lost())
	}
	if got := open(vip4).Lost(); got != 0 {
		t.Errorf("a later listener has lost %d frames", got)
	}
}

// The rate holds on the link for ARP and neighbour discovery together.
func TestARPRate(t *testing.T) {
	t.Parallel()
	l := usual(t)
	process := Process{ARPRate: 10}
	var w *Listener
	must(t, l.Standby.Do(func() error {
		k, err := TakeSnapshot()
		if err != nil {
			return err
		}
		eth0, _ := k.Link("eth0")
		w, err = process.Open(eth0, k.OwnReply, vip4, vip6)
		return err
	}))
	defer w.Close()
	began := time.Now()
	for range 3 {
		must(t, errors.Join(w.Ask(vip4, ours4), w.Ask(vip6, ours6), w.Announce(vip4, nil)))
	}
	if took := time.Since(began); took < time.Second || took > 3*time.Second {
		t.Errorf("12 frames took %v", took)
	}
}
