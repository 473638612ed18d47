package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"pingover/internal/lab"
	"pingover/state"
)

// What the other machines on the link see: clients and listeners.

// The client's outage ends with the takeover, not when its neighbour entry
// expires, half a minute later.
func TestClientFollowsATakeover(t *testing.T) {
	only6 := set(hasty, "--host", "2001:db8::2", "--vip", "2001:db8::1", "--witness", "2001:db8::254")
	standby := func(s *scene) *lab.Host { return s.Standby }
	type clientCase struct {
		name    string
		args    []string
		vips    []netip.Addr
		standby func(*scene) *lab.Host
	}
	share(t, []clientCase{
		{"IPv4", withVIP, []netip.Addr{vip4}, standby},
		{"IPv6", only6, []netip.Addr{vip6}, standby},
		{"both", append(slices.Clone(withVIP), "--vip", "2001:db8::1"), []netip.Addr{vip4, vip6}, standby},
		{"within the network", set(withVIP, "--vip", "172.16.0.1/16"), []netip.Addr{vip4}, standby},
		{"announced once", set(withVIP, "--announce", "1"), []netip.Addr{vip4}, standby},
		{"a higher MAC", withVIP, []netip.Addr{vip4}, func(s *scene) *lab.Host { return s.Second }},
	}, func(c clientCase) string { return c.name }, func(t *testing.T, c clientCase) {
		s := side(t)
		h := c.standby(s)
		s.check(h, c.args...).want(t, state.OK)
		added := s.additions(h)
		var views []view
		for _, a := range c.vips {
			views = append(views, s.watchFrom(a))
		}
		s.must(s.Primary.PowerOff())
		s.check(h, c.args...).want(t, state.TookOver)
		for _, v := range views {
			at := added(v.addr)
			first := v.follows(h, at)
			t.Logf("%s: first reply %s after it was added; the whole gap was %s", v.addr, first.Sub(at).Round(time.Millisecond), v.Gap().Round(time.Millisecond))
			if late := first.Sub(at); late > time.Second {
				t.Errorf("%s: the client had its first reply %s after it was added", v.addr, late)
			}
			// And it stays so.
			lost := 0
			for _, b := range v.Samples() {
				if b.At.After(first) && !b.OK {
					lost++
				}
			}
			if lost > 5 {
				t.Errorf("%s: %d pings were lost after the first answer", v.addr, lost)
			}
		}
	})
}

// An open connection ends with the machine that had it: the new one knows
// nothing of it and resets it, and a client that connects anew is served.
func TestClientWithAnOpenConnectionIsToldAtOnce(t *testing.T) {
	s := newScene(t)
	for _, h := range []*lab.Host{s.Primary, s.Standby} {
		var l net.Listener
		s.must(h.Do(func() (err error) {
			l, err = net.Listen("tcp", ":8000")
			return err
		}))
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(c, c)
			}
		}()
	}
	connect := func() (c net.Conn) {
		t.Helper()
		s.must(s.Client.Do(func() (err error) {
			c, err = net.DialTimeout("tcp", "172.16.0.1:8000", 10*time.Second)
			return err
		}))
		t.Cleanup(func() { c.Close() })
		return c
	}
	ended := make(chan time.Time, 1)
	busy := connect()
	go func() {
		b := make([]byte, 10)
		for {
			if _, err := busy.Write([]byte("still there")); err != nil {
				break
			}
			if _, err := busy.Read(b); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		ended <- time.Now()
	}()
	time.Sleep(200 * time.Millisecond)
	s.must(s.Primary.PowerOff())
	added := s.additions(s.Standby)
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	connect()
	select {
	case at := <-ended:
		t.Logf("the old connection ended %s after the address was added", at.Sub(added(vip4)).Round(time.Millisecond))
	case <-time.After(20 * time.Second):
		t.Error("20s after the takeover the old connection hangs")
	}
}

func TestTakeoverIsAnnounced(t *testing.T) {
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	const n = 3
	s := newScene(t)
	args := set(both, "--announce", fmt.Sprint(n))
	heard := s.sniff(s.Client)
	for range 2 {
		s.check(s.Standby, args...).want(t, state.OK)
	}
	us := s.Standby.MAC().String()
	of := func(what string, a netip.Addr, least int) (found []frame) {
		s.within(10*time.Second, fmt.Sprintf("%d announcements of %s by %s are read", least, a, what), func() bool {
			found = slices.DeleteFunc(heard.announcements(a), func(f frame) bool { return f.what != what })
			return len(found) >= least
		})
		return found
	}
	for _, f := range heard.all() {
		if (f.address == vip4 || f.address == vip6) && f.mac == us {
			t.Errorf("sent while standing by: %v", f)
		}
	}

	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	for _, want := range []struct {
		what   string
		a      netip.Addr
		to     string
		target netip.Addr
	}{
		{"request", vip4, "ff:ff:ff:ff:ff:ff", vip4},
		{"reply", vip4, "ff:ff:ff:ff:ff:ff", vip4},
		{"advertisement", vip6, "33:33:00:00:00:01", netip.MustParseAddr("ff02::1")},
	} {
		frames := of(want.what, want.a, n)
		if len(frames) != n {
			t.Errorf("%d announcements of %s by %s, want %d: %v", len(frames), want.a, want.what, n, frames)
		}
		for i, f := range frames {
			at := f.at
			f.at = time.Time{}
			if diff := cmp.Diff(frame{what: want.what, source: us, to: want.to, address: want.a, mac: us, target: want.target}, f,
				cmp.AllowUnexported(frame{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if i == 0 {
				continue
			}
			// Old versions of Linux take no second update within a second.
			if apart := at.Sub(frames[i-1].at); apart < 1050*time.Millisecond || apart > 5*time.Second {
				t.Errorf("announcements of %s %s apart, want 1.1s", want.a, apart)
			}
		}
	}

	for i := range 3 {
		s.check(s.Standby, args...).want(t, state.Holding)
		for what, a := range map[string]netip.Addr{"request": vip4, "reply": vip4, "advertisement": vip6} {
			if got := len(of(what, a, n+i+1)); got != n+i+1 {
				t.Errorf("after run %d that holds: %d announcements of %s by %s, want %d", i+1, got, a, what, n+i+1)
			}
		}
	}

	// Standing by again it announces nothing.
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, args...).want(t, state.Released)
	before := len(heard.all())
	s.check(s.Standby, args...).want(t, state.OK)
	for _, f := range heard.all()[before:] {
		if (f.address == vip4 || f.address == vip6) && f.mac == us {
			t.Errorf("sent while standing by again: %v", f)
		}
	}
	// No frame ever had another machine's MAC as its source: the switch would
	// look for that machine at our port.
	for _, f := range heard.all() {
		if f.mac != f.source && f.source != us {
			t.Errorf("a frame whose source is not its sender: %v", f)
		}
	}
}

func TestNothingIsAnnouncedWithAnnounce0(t *testing.T) {
	s := newScene(t)
	args := append(set(withVIP, "--announce", "0"), "--vip", "2001:db8::1")
	heard := s.sniff(s.Client)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.check(s.Standby, args...).want(t, state.Holding)
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, args...).want(t, state.Released)
	if a := append(heard.announcements(vip4), heard.announcements(vip6)...); len(a) > 0 {
		t.Errorf("announced: %v", a)
	}
}

// What arrives at the primary is lost half the time, and half the time what
// arrives here.
func TestHalfOfTheFramesAreLost(t *testing.T) {
	type loss struct {
		name string
		host func(*scene) *lab.Host
		args []string
		want []state.Outcome
	}
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	primary := func(s *scene) *lab.Host { return s.Primary }
	filters := func(s *scene) *lab.Host {
		s.must(s.Primary.FilterICMP(true))
		return s.Primary
	}
	share(t, []loss{
		{"those to the primary", primary, both, []state.Outcome{state.OK, state.Blocked}},
		{"those to the primary, which filters pings", filters, both, []state.Outcome{state.Blocked}},
		{"those to the standby", func(s *scene) *lab.Host { return s.Standby }, both, []state.Outcome{state.OK, state.Blocked, state.Unknown}},
	}, func(l loss) string { return l.name }, func(t *testing.T, l loss) {
		s := side(t)
		s.check(s.Standby, l.args...).want(t, state.OK)
		untouched := s.untouched(s.Standby)
		lossy := l.host(s)
		s.must(lossy.Lose(50))
		ends := map[state.Outcome]int{}
		for range 10 {
			e := s.check(s.Standby, set(l.args, "--mail-timeout", "1s")...)
			ends[e.Outcome]++
			if !slices.Contains(l.want, e.Outcome) {
				t.Fatalf("outcome %q, want one of %q: %s", e.Outcome, l.want, e.stdout)
			}
		}
		t.Logf("%v", ends)
		s.must(lossy.Lose(0))
		untouched()
		s.wantOn(vip4, s.Primary)
		s.wantOn(vip6, s.Primary)
	})
}

// What the scenes with a sniffer have in common.

// frame is an ARP packet, or a neighbour advertisement, as a host received it.
type frame struct {
	at      time.Time
	what    string     // request, reply, advertisement
	source  string     // MAC that sent the frame
	to      string     // MAC that it was sent to
	address netip.Addr // of the sender, or advertised
	mac     string     // that has it, by the frame
	target  netip.Addr // asked for, or addressed
}

func (f frame) String() string {
	return fmt.Sprintf("%s %s from %s to %s: %s is at %s, target %s", f.at.Format("05.000"), f.what, f.source, f.to, f.address, f.mac, f.target)
}

// gratuitous tells whether it is an announcement: of the sender's own address, to
// all.
func (f frame) gratuitous() bool {
	return f.address == f.target && f.what != "advertisement" || f.what == "advertisement" && f.to == "33:33:00:00:00:01"
}

// sniffer keeps the frames that a host's eth0 receives.
type sniffer struct {
	mu     sync.Mutex
	frames []frame
}

// sniff listens on a host until the test ends.
func (s *scene) sniff(h *lab.Host) *sniffer {
	s.t.Helper()
	n := new(sniffer)
	for _, protocol := range []ethernet.EtherType{ethernet.EtherTypeARP, ethernet.EtherTypeIPv6} {
		var conn *packet.Conn
		s.must(h.Do(func() error {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			conn, err = packet.Listen(link, packet.Raw, int(protocol), nil)
			return err
		}))
		var reading sync.WaitGroup
		reading.Go(func() {
			b := make([]byte, 2048)
			for {
				size, _, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				if f, ok := dissect(b[:size]); ok {
					n.mu.Lock()
					n.frames = append(n.frames, f)
					n.mu.Unlock()
				}
			}
		})
		s.t.Cleanup(func() {
			conn.Close()
			reading.Wait()
		})
	}
	return n
}

func dissect(b []byte) (frame, bool) {
	var e ethernet.Frame
	if e.UnmarshalBinary(b) != nil {
		return frame{}, false
	}
	f := frame{at: time.Now(), source: e.Source.String(), to: e.Destination.String()}
	if e.EtherType == ethernet.EtherTypeARP {
		var p arp.Packet
		if p.UnmarshalBinary(e.Payload) != nil {
			return frame{}, false
		}
		f.what = map[arp.Operation]string{arp.OperationRequest: "request", arp.OperationReply: "reply"}[p.Operation]
		f.address, f.mac, f.target = p.SenderIP, p.SenderHardwareAddr.String(), p.TargetIP
		return f, true
	}
	const ipv6Header, icmpv6 = 40, 58
	if len(e.Payload) < ipv6Header || e.Payload[6] != icmpv6 {
		return frame{}, false
	}
	message, err := ndp.ParseMessage(e.Payload[ipv6Header:])
	if err != nil {
		return frame{}, false
	}
	na, ok := message.(*ndp.NeighborAdvertisement)
	if !ok || !na.Override {
		return frame{}, false
	}
	f.what, f.address, f.target = "advertisement", na.TargetAddress, netip.AddrFrom16([16]byte(e.Payload[24:]))
	for _, o := range na.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			f.mac = l.Addr.String()
		}
	}
	return f, true
}

func (n *sniffer) all() []frame {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.frames)
}

// announcements are those of an address.
func (n *sniffer) announcements(a netip.Addr) []frame {
	var found []frame
	for _, f := range n.all() {
		if f.address == a && f.gratuitous() {
			found = append(found, f)
		}
	}
	return found
}

// announce has a host announce an address as its own, as good machines do
// that bring one up.
func (s *scene) announce(h *lab.Host, a netip.Addr) {
	s.t.Helper()
	s.must(s.wire(h, a).Announce(a, nil))
}

// additions follows the addresses of a host's kernel; added is when one came.
func (s *scene) additions(h *lab.Host) (added func(netip.Addr) time.Time) {
	s.t.Helper()
	updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
	s.must(h.Do(func() error { return netlink.AddrSubscribe(updates, done) }))
	s.t.Cleanup(func() { close(done) })
	var mu sync.Mutex
	at := map[netip.Addr]time.Time{}
	go func() {
		for u := range updates {
			a, _ := netip.AddrFromSlice(u.LinkAddress.IP)
			mu.Lock()
			if a = a.Unmap(); u.NewAddr && at[a].IsZero() {
				at[a] = time.Now()
			}
			mu.Unlock()
		}
	}()
	return func(a netip.Addr) time.Time {
		s.t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if at[a].IsZero() {
			s.t.Fatalf("%s was never added on %s", a, h.Name())
		}
		return at[a]
	}
}
