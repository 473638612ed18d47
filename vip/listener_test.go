package vip

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func nobody(net.HardwareAddr) bool { return false }

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		link Link
		want string
	}{
		{"loopback", Link{Name: "lo", Loopback: true}, "lo: a loopback interface has no neighbours to ask"},
		{"NOARP", Link{Name: "tun0"}, "tun0: does not resolve neighbours (NOARP), so nobody can be asked there"},
		{"InfiniBand", Link{Name: "ib0", ARP: true, MAC: make(net.HardwareAddr, 20)}, `ib0: MAC "00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00" has 20 bytes: only Ethernet (6) is understood`},
		{"no MAC", Link{Name: "wwan0", ARP: true}, `wwan0: MAC "" has 0 bytes: only Ethernet (6) is understood`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := Open(tt.link, nobody, vip4)
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
				w, err := Open(Link{Index: 1, Name: "eth0", ARP: true, MAC: us}, nobody, tt.addr)
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

// deaf is a Wire without sockets, as Open makes it for no addresses, that
// knows addrs all the same.
func deaf(t *testing.T, addrs ...netip.Addr) *Listener {
	t.Helper()
	w, err := Open(Link{Name: "eth0", ARP: true, MAC: us}, nobody)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		w.named[bare(a)] = a
	}
	return w
}

func TestAskRefuses(t *testing.T) {
	for _, tt := range []struct {
		name         string
		target, from netip.Addr
		want         string
	}{
		{"an address that nobody listens for", vip4, ours4, "eth0: asking for 172.16.0.1: not among the addresses listened for"},
		{"IPv4 from IPv6", vip4, ours6, "eth0: asking for 172.16.0.1: sender 2001:db8::3 is of the other family"},
		{"IPv6 from IPv4", vip6, ours4, "eth0: asking for 2001:db8::1: sender 172.16.0.3 is of the other family"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := deaf(t).Ask(tt.target, tt.from)
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
		{"an address that nobody listens for", vip4, nil, "eth0: announcing 172.16.0.1: not among the addresses listened for"},
		{"a MAC of 8 bytes", vip4, make(net.HardwareAddr, 8), `eth0: announcing 172.16.0.1: MAC "00:00:00:00:00:00:00:00" has 8 bytes, not 6`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := deaf(t).Announce(tt.addr, tt.mac)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error:  %v\nwant error: %s", err, tt.want)
			}
		})
	}
}

func TestHeardSince(t *testing.T) {
	w := deaf(t, vip4, vip6)
	if got := w.Replies(time.Time{}); len(got) != 0 {
		t.Errorf("heard before anything was said: %v", got)
	}
	w.note(Reply{Address: vip4, MAC: them})
	time.Sleep(time.Millisecond)
	between := time.Now()
	w.note(Reply{Address: ours4, MAC: them}) // nobody asked about it
	w.note(Reply{Address: vip6, MAC: someone, Probe: true})

	all := w.Replies(time.Time{})
	want := []Reply{{Address: vip4, MAC: them}, {Address: vip6, MAC: someone, Probe: true}}
	withoutTime := slices.Clone(all)
	for i := range withoutTime {
		withoutTime[i].At = time.Time{}
	}
	if diff := cmp.Diff(want, withoutTime, compareAddrs); diff != "" {
		t.Errorf("all that was heard (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all[1:], w.Replies(between), compareAddrs); diff != "" {
		t.Errorf("heard since then (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all[1:], w.Replies(all[1].At), compareAddrs); diff != "" {
		t.Errorf("heard since that very moment (-want +got):\n%s", diff)
	}
	if got := w.Replies(time.Now()); len(got) != 0 {
		t.Errorf("heard since now: %v", got)
	}
}

func TestHeardSpeaksOfAddressesAsOpenWasGivenThem(t *testing.T) {
	zoned, mapped := netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:172.16.0.1")
	w := deaf(t, zoned, mapped)
	w.note(Reply{Address: netip.MustParseAddr("fe80::1"), MAC: them})
	w.note(Reply{Address: vip4, MAC: them})
	got := w.Replies(time.Time{})
	if len(got) != 2 || got[0].Address != zoned || got[1].Address != mapped {
		t.Errorf("heard %v, want %s and %s", got, zoned, mapped)
	}
}

func TestFloodOfAnswersIsForgottenFromTheOldestOn(t *testing.T) {
	w := deaf(t, vip4)
	for range 10 * maxHeard {
		w.note(Reply{Address: vip4, MAC: someone})
	}
	w.note(Reply{Address: vip4, MAC: them})
	got := w.Replies(time.Time{})
	if len(got) > maxHeard {
		t.Errorf("%d answers remembered, want at most %d", len(got), maxHeard)
	}
	if last := got[len(got)-1]; !slices.Equal(last.MAC, them) {
		t.Errorf("the last one is forgotten, not the first: %v", last)
	}
}

// closed tells whether a News channel is.
func closed(news <-chan struct{}) bool {
	select {
	case <-news:
		return true
	default:
		return false
	}
}

func TestNewsComesOncePerThingHeard(t *testing.T) {
	w := deaf(t, vip4)
	first := w.Changed()
	w.note(Reply{Address: ours4, MAC: them})
	if closed(first) {
		t.Error("news of an address that nobody listens for")
	}
	w.note(Reply{Address: vip4, MAC: them})
	if !closed(first) {
		t.Error("no news when something was heard")
	}
	second := w.Changed()
	if closed(second) {
		t.Error("the old news again")
	}
	w.end("listening ended", unix.ENETDOWN)
	if !closed(second) {
		t.Error("no news when listening ended")
	}
	if closed(w.Changed()) {
		t.Error("news after the end: a waiting loop would spin")
	}
}

func TestErrKeepsTheFirstFaultAndNotClose(t *testing.T) {
	w := deaf(t)
	if err := w.Err(); err != nil {
		t.Errorf("Err before anything went wrong: %v", err)
	}
	w.end("listening ended", os.NewSyscallError("recvfrom", unix.ENETDOWN))
	w.end("listening ended", errors.New("another"))
	if err := w.Err(); !errors.Is(err, unix.ENETDOWN) || err.Error() != "eth0: listening ended: network is down" {
		t.Errorf("Err: %v", err)
	}

	w = deaf(t)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	w.end("listening ended", os.ErrClosed)
	if err := w.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
}
