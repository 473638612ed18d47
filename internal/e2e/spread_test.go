package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pingover/state"
)

// Switches with dynamic ARP inspection shut a port down for 15 ARP packets in a
// second. Clients wait for the first announcement of an address only.
func TestLaterAnnouncementsAreSpread(t *testing.T) {
	s := newScene(t)
	args := slices.Clone(withVIP)
	vips := []netip.Addr{vip4}
	for i := range 11 {
		vips = append(vips, netip.MustParseAddr(fmt.Sprintf("172.16.0.%d", 101+i)))
		args = append(args, "--vip", vips[i+1].String())
	}
	heard := s.sniff(s.Client)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	first := map[netip.Addr]bool{}
	spread := func(since time.Time, want int) {
		t.Helper()
		var began, last time.Time
		n := 0
		for _, f := range heard.all() {
			if f.at.Before(since) || f.what != "request" || !f.gratuitous() || !slices.Contains(vips, f.address) {
				continue
			}
			if !first[f.address] {
				first[f.address] = true
				continue
			}
			if n == 0 {
				began = f.at
			}
			last = f.at
			n++
		}
		// The last less the first: a frame may be read late, and the next one not.
		if took := last.Sub(began); took < time.Duration(n-1)*90*time.Millisecond {
			t.Errorf("%d later announcements within %v, want them 100ms apart", n, took)
		}
		if n != want {
			t.Errorf("%d later announcements, want %d", n, want)
		}
	}
	time.Sleep(300 * time.Millisecond)
	spread(time.Time{}, len(vips)) // --announce 2
	since := time.Now()
	s.check(s.Standby, args...).want(t, state.Holding)
	time.Sleep(300 * time.Millisecond)
	spread(since, len(vips))
}
