package failover

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"pingover/internal/observe"
	"pingover/vip"

	"github.com/google/go-cmp/cmp"
)

// byValue and addresses compare by value.
var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func writeFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

// emptyAddr is nobody: who asks from it probes.
var emptyAddr netip.Addr

// oneLine is a text without its line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// What the tests know of the times of package observe.
const (
	askEvery   = observe.AskEvery
	leastGuard = 120 * time.Millisecond
	holdGuard  = 900 * time.Millisecond
	serveGuard = 900 * time.Millisecond
	serveAsks  = 9
)

// longestNetworks are the interfaces that are up whose network of the longest prefix holds the
// address.
func longestNetworks(s *vip.Snapshot, a netip.Addr) (longest []string) {
	bits := 0
	for _, name := range s.Networks(a) {
		link, _ := s.Link(name)
		n := observe.NetworkOf(link, a, nil).Bits()
		if n > bits && link.Up {
			longest, bits = nil, n
		}
		if n == bits && link.Up {
			longest = append(longest, name)
		}
	}
	return longest
}

// The pace of later announcements is that of package vip.
func (l *listener) AnnounceAgain(a netip.Addr, hw net.HardwareAddr) error { return l.Announce(a, hw) }

func (e *modelListener) AnnounceAgain(a netip.Addr, hw net.HardwareAddr) error {
	return e.Announce(a, hw)
}
