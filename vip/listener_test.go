package vip

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// never is for listeners that ignore no frame as our own.
func never(Reply) bool { return false }

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		link Link
		want string
	}{
		{"loopback", Link{Name: "lo", Loopback: true}, "lo: a loopback interface has no neighbours to ask"},
		{"NOARP", Link{Name: "tun0"}, "tun0: does not do ARP (NOARP), so no neighbour can be asked there"},
		{"InfiniBand", Link{Name: "ib0", ARP: true, MAC: make(net.HardwareAddr, 20)}, `ib0: MAC "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00" has 20 bytes: only Ethernet (6) is supported`},
		{"port of a bridge", Link{Name: "eth0", ARP: true, MAC: us, Master: "br0"}, "eth0: is a port of br0, which receives its ARP frames: use br0"},
		{"no MAC", Link{Name: "wwan0", ARP: true}, `wwan0: MAC "" has 0 bytes: only Ethernet (6) is supported`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := Open(tt.link, never, vip4)
			if err == nil {
				_ = w.Close()
				t.Fatal("opened")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenWithoutPrivilege(t *testing.T) {
	for _, tt := range []struct {
		name string
		addr netip.Addr
		want string
	}{
		{"IPv4", vip4, "eth0: listening for ARP needs CAP_NET_RAW: operation not permitted"},
		{"IPv6", vip6, "eth0: listening for neighbour discovery needs CAP_NET_RAW: operation not permitted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := make(chan error, 1)
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
				header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				var none [2]unix.CapUserData
				if err := unix.Capset(&header, &none[0]); err != nil {
					done <- err
					return
				}
				w, err := Open(Link{Index: 1, Name: "eth0", ARP: true, MAC: us}, never, tt.addr)
				if err == nil {
					_ = w.Close()
				}
				done <- err
			}()
			err := <-done
			if err == nil {
				t.Fatal("opened")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%v is no fs.ErrPermission", err)
			}
		})
	}
}

// withoutSockets is a Listener as Open makes it for no addresses, with addrs
// all the same.
func withoutSockets(t *testing.T, addrs ...netip.Addr) *Listener {
	t.Helper()
	w, err := Open(Link{Name: "eth0", ARP: true, MAC: us}, never)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		w.addresses[bare(a)] = a
	}
	return w
}

// keepNow keeps a frame that is received now.
func keepNow(w *Listener, r Reply) {
	r.At = time.Now()
	w.keep(r)
}

func TestAskRefuses(t *testing.T) {
	for _, tt := range []struct {
		name         string
		target, from netip.Addr
		want         string
	}{
		{"an address that is not listened for", vip4, ours4, "eth0: asking for 172.16.0.1: not among the addresses listened for"},
		{"IPv4 from IPv6", vip4, ours6, "eth0: asking for 172.16.0.1: sender 2001:db8::3 is of the other family"},
		{"IPv6 from IPv4", vip6, ours4, "eth0: asking for 2001:db8::1: sender 172.16.0.3 is of the other family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := withoutSockets(t).Ask(tt.target, tt.from)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error:  %v\nwant error: %s", err, tt.want)
			}
		})
	}
}

func TestAnnounceRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		addr netip.Addr
		mac  net.HardwareAddr
		want string
	}{
		{"an address that is not listened for", vip4, nil, "eth0: announcing 172.16.0.1: not among the addresses listened for"},
		{"a MAC of 8 bytes", vip4, make(net.HardwareAddr, 8), `eth0: announcing 172.16.0.1: MAC "00:00:00:00:00:00:00:00" has 8 bytes, not 6`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := withoutSockets(t).Announce(tt.addr, tt.mac)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error:  %v\nwant error: %s", err, tt.want)
			}
		})
	}
}

func TestRepliesSince(t *testing.T) {
	w := withoutSockets(t, vip4, vip6)
	if got := w.Replies(time.Time{}); len(got) != 0 {
		t.Errorf("replies before any frame: %v", got)
	}
	keepNow(w, Reply{Address: vip4, MAC: them})
	time.Sleep(time.Millisecond)
	between := time.Now()
	keepNow(w, Reply{Address: ours4, MAC: them}) // not listened for
	keepNow(w, Reply{Address: vip6, MAC: someone, Probe: true})

	all := w.Replies(time.Time{})
	want := []Reply{{Address: vip4, MAC: them}, {Address: vip6, MAC: someone, Probe: true}}
	withoutTime := slices.Clone(all)
	for i := range withoutTime {
		withoutTime[i].At = time.Time{}
	}
	if diff := cmp.Diff(want, withoutTime, compareAddrs); diff != "" {
		t.Errorf("all replies (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all[1:], w.Replies(between), compareAddrs); diff != "" {
		t.Errorf("replies since then (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all[1:], w.Replies(all[1].At), compareAddrs); diff != "" {
		t.Errorf("replies since that very moment (-want +got):\n%s", diff)
	}
	if got := w.Replies(time.Now()); len(got) != 0 {
		t.Errorf("replies since now: %v", got)
	}
}

func TestReplyHasTheAddressAsGivenToOpen(t *testing.T) {
	zoned, mapped := netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:172.16.0.1")
	w := withoutSockets(t, zoned, mapped)
	keepNow(w, Reply{Address: netip.MustParseAddr("fe80::1"), MAC: them})
	keepNow(w, Reply{Address: vip4, MAC: them})
	got := w.Replies(time.Time{})
	if len(got) != 2 || got[0].Address != zoned || got[1].Address != mapped {
		t.Errorf("replies %v, want %s and %s", got, zoned, mapped)
	}
}

// TestOnlyTheNewestFrameIsKept of each kind, address and MAC.
func TestOnlyTheNewestFrameIsKept(t *testing.T) {
	w := withoutSockets(t, vip4)
	probe, request := netip.IPv4Unspecified(), ours4
	for range 3 {
		for _, r := range []Reply{{}, {Direct: true, To: request}, {Direct: true, To: probe}, {Probe: true}} {
			r.Address, r.MAC = vip4, them
			keepNow(w, r)
			time.Sleep(time.Millisecond)
		}
	}
	between := w.Replies(time.Time{})[3].At
	keepNow(w, Reply{Address: vip4, MAC: them})
	all := w.Replies(time.Time{})
	if len(all) != 4 || !all[3].At.After(between) || all[3].Direct || all[3].Probe {
		t.Errorf("replies %+v, want one of each kind, the announcement last", all)
	}
}

// TestRepeatedClaimIsToldFromFramesOfOneMoment: what came half a second before, or
// earlier, is told by the newest frame of the kind.
func TestRepeatedClaimIsToldFromFramesOfOneMoment(t *testing.T) {
	began := time.Now()
	for _, tt := range []struct {
		name   string
		frames []time.Duration
		want   time.Duration // of Earlier; -1: none
	}{
		{"one frame", []time.Duration{0}, -1},
		{"both frames of an announcement", []time.Duration{0, time.Millisecond}, -1},
		{"an announcement and the next", []time.Duration{0, 0, 1100 * time.Millisecond, 1101 * time.Millisecond}, 0},
		{"three of them", []time.Duration{0, 1100 * time.Millisecond, 2200 * time.Millisecond}, 1100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := withoutSockets(t, vip4)
			for _, d := range tt.frames {
				w.keep(Reply{Address: vip4, MAC: them, At: began.Add(d)})
			}
			all := w.Replies(time.Time{})
			want := time.Time{}
			if tt.want >= 0 {
				want = began.Add(tt.want)
			}
			if len(all) != 1 || !all[0].Earlier.Equal(want) {
				t.Errorf("replies %+v, want one with the earlier frame at %s", all, want)
			}
		})
	}
}

// TestArrivalIsWhenTheKernelReceivedTheFrame, within what is possible: the wall
// clock may have been set meanwhile.
func TestArrivalIsWhenTheKernelReceivedTheFrame(t *testing.T) {
	now := time.Now()
	empty := now.Add(-5 * time.Second)
	for name, tt := range map[string]struct{ stamped, want time.Duration }{
		"read at once":                   {0, 0},
		"read two seconds late":          {-2 * time.Second, -2 * time.Second},
		"the clock was set back":         {time.Hour, 0},
		"the clock was set forward":      {-time.Hour, -5 * time.Second},
		"the socket was empty just then": {-5 * time.Second, -5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			stamp := unix.NsecToTimespec(now.Add(tt.stamped).UnixNano())
			control := make([]byte, unix.CmsgSpace(16))
			h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
			h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS
			h.SetLen(unix.CmsgLen(16))
			binary.NativeEndian.PutUint64(control[unix.CmsgLen(0):], uint64(stamp.Sec))
			binary.NativeEndian.PutUint64(control[unix.CmsgLen(8):], uint64(stamp.Nsec))
			if at := arrival(now, empty, control); !at.Equal(now.Add(tt.want)) {
				t.Errorf("arrival %s from now, want %s", at.Sub(now), tt.want)
			}
		})
	}
	if at := arrival(now, empty, nil); !at.Equal(now) {
		t.Errorf("without a stamp: %s from now, want now", at.Sub(now))
	}
}

// TestFloodOfProbesEvictsNoReply: probes are evicted from the oldest on, and
// are counted as lost.
func TestFloodOfProbesEvictsNoReply(t *testing.T) {
	w := withoutSockets(t, vip4)
	keepNow(w, Reply{Address: vip4, MAC: them, Direct: true})
	for i := range 10 * maxReplies {
		keepNow(w, Reply{Address: vip4, MAC: net.HardwareAddr{6, 0, 0, 0, byte(i >> 8), byte(i)}, Probe: true})
	}
	all := w.Replies(time.Time{})
	if len(all) != 1+maxReplies || !slices.Equal(all[0].MAC, them) {
		t.Errorf("%d replies are kept, the oldest %+v; want %d and the one before the flood", len(all), all[0], 1+maxReplies)
	}
	if newest, want := all[len(all)-1].MAC.String(), "06:00:00:00:13:ff"; newest != want {
		t.Errorf("the newest probe is %s, want %s", newest, want)
	}
	if lost := w.Lost(); lost != 9*maxReplies {
		t.Errorf("%d frames are lost, want %d", lost, 9*maxReplies)
	}
}

// closed reports whether a Changed channel is.
func closed(changed <-chan struct{}) bool {
	select {
	case <-changed:
		return true
	default:
		return false
	}
}

func TestChangedOncePerFrame(t *testing.T) {
	w := withoutSockets(t, vip4)
	first := w.Changed()
	keepNow(w, Reply{Address: ours4, MAC: them})
	if closed(first) {
		t.Error("changed by a frame about another address")
	}
	keepNow(w, Reply{Address: vip4, MAC: them})
	if !closed(first) {
		t.Error("not changed by a reply")
	}
	second := w.Changed()
	if closed(second) {
		t.Error("changed by the same reply again")
	}
	w.fail("listening ended", unix.ENETDOWN)
	if !closed(second) {
		t.Error("not changed when listening ended")
	}
	if closed(w.Changed()) {
		t.Error("changed after the end: a waiting loop would spin")
	}
}

func TestErrKeepsTheFirstFaultAndNotClose(t *testing.T) {
	w := withoutSockets(t)
	if err := w.Err(); err != nil {
		t.Errorf("Err before anything went wrong: %v", err)
	}
	w.fail("listening ended", os.NewSyscallError("recvfrom", unix.ENETDOWN))
	w.fail("listening ended", errors.New("another"))
	if err := w.Err(); !errors.Is(err, unix.ENETDOWN) || err.Error() != "eth0: listening ended: network is down" {
		t.Errorf("Err: %v", err)
	}

	w = withoutSockets(t)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.fail("listening ended", os.ErrClosed)
	if err := w.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
}
