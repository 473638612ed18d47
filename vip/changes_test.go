package vip

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/lab"
)

// TestKnownAnswersFollowTheKernel: what a process knows is never older than the
// last change on this machine, and nothing is asked again while there was none.
func TestKnownAnswersFollowTheKernel(t *testing.T) {
	onHost(t, func(t *testing.T, l *lab.Lab) *lab.Host {
		return standby("link add other type veth peer name other2", "link set other up", "link set other2 up", "addr add 10.9.9.3/24 dev other")(t, l)
	}, func(t *testing.T) {
		var p Process
		p.Keep()
		to := netip.MustParseAddr("192.0.2.9")
		neighbour := netip.MustParseAddr("172.16.0.2")
		// What one check asks, in words that can be compared.
		ask := func() (k *Snapshot, words string) {
			k, err := p.KnownSnapshot()
			if err != nil {
				t.Fatal(err)
			}
			route, _ := p.RouteTo(to, netip.Addr{})
			gateway, _, _ := p.Gateway("eth0", false, netip.Addr{})
			mac, _ := p.Neighbour("eth0", neighbour)
			return k, diff("", k) + route.Gateway.String() + gateway.String() + mac.String()
		}
		fresh := func() string {
			k, err := TakeSnapshot()
			if err != nil {
				t.Fatal(err)
			}
			route, _ := RouteTo(to, netip.Addr{})
			gateway, _, _ := Gateway("eth0", false, netip.Addr{})
			mac, _ := Neighbour("eth0", neighbour)
			return diff("", k) + route.Gateway.String() + gateway.String() + mac.String()
		}
		for _, change := range []string{
			"ip addr add 172.16.0.1/32 dev eth0",
			"ip addr del 172.16.0.1/32 dev eth0",
			"ip -6 addr add 2001:db8::1/128 dev eth0 nodad",
			"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0", // fails
			"ip -6 addr change 2001:db8::1/128 dev eth0 preferred_lft 0",
			"ip route add default via 172.16.0.254",
			"ip route replace default via 172.16.0.253",
			"ip route add default via 10.9.9.254 table 7",
			"ip rule add to 192.0.2.0/24 lookup 7",
			"ip rule del to 192.0.2.0/24 lookup 7",
			"ip neigh replace 172.16.0.2 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
			"ip neigh replace 172.16.0.2 lladdr 02:00:00:00:00:78 dev eth0 nud permanent",
			"ip neigh del 172.16.0.2 dev eth0",
			"ip link set other down",
			"ip link set other name renamed",
			"ip link set renamed up",
			"ip link property add dev renamed altname lan0",
			"ip link set renamed arp off",
			"ip link add br0 type bridge",
			"ip link set renamed master br0",
			"ip link del renamed",
			"sysctl -qw net.ipv4.conf.all.proxy_arp=1",
			"sysctl -qw net.ipv6.conf.eth0.forwarding=1",
			"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
			"ip link set eth0 down",
		} {
			k, before := ask()
			if again, words := ask(); again != k || words != before {
				t.Errorf("before %q: a snapshot was taken anew, and nothing had changed", change)
			}
			if argv := strings.Fields(change); argv[0] == "sysctl" {
				name, value, _ := strings.Cut(argv[2], "=")
				if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
					t.Fatal(err)
				}
			} else {
				_ = exec.Command(argv[0], argv[1:]...).Run()
			}
			if _, known := ask(); known != fresh() {
				t.Errorf("after %q: known %s\nwant %s", change, known, fresh())
			}
		}
	})
}

// TestNotificationsThatDoNotFit: what was lost counts as a change.
func TestNotificationsThatDoNotFit(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		var p Process
		p.Keep()
		before, err := p.KnownSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(p.answers.socket, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			_ = exec.Command("ip", "neigh", "replace", "172.16.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0", "nud", "permanent").Run()
			_ = exec.Command("ip", "neigh", "del", "172.16.0.9", "dev", "eth0").Run()
		}
		if after, err := p.KnownSnapshot(); err != nil || after == before {
			t.Errorf("the same snapshot, after notifications were lost; %v", err)
		}
	})
}

// TestKeptSockets: the packet socket of a link stays open between checks; one whose
// interface was down, or is gone, is replaced and closed, and one that is not used
// any more is closed after a while.
func TestKeptSockets(t *testing.T) {
	onHost(t, standby("link add other type veth peer name other2", "link set other up", "link set other2 up"), func(t *testing.T) {
		var p Process
		p.Keep()
		a := netip.MustParseAddr("172.16.0.1")
		use := func(name string) {
			t.Helper()
			k, err := TakeSnapshot()
			if err != nil {
				t.Fatal(err)
			}
			link, ok := k.Link(name)
			if !ok {
				t.Fatalf("no %s", name)
			}
			w, err := p.Open(link, k.OwnReply, a)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Ask(a, netip.Addr{}); err != nil {
				t.Error(err)
			}
			if err := w.Err(); err != nil {
				t.Error(err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
		wantOpen := func(when string, n int) {
			t.Helper()
			for range 100 { // it is closed beside other things
				if openSockets(t) == n {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%s: %d packet sockets, want %d", when, openSockets(t), n)
		}
		for range 20 {
			use("eth0")
		}
		wantOpen("after 20 checks", 1)
		for range 3 {
			_ = exec.Command("ip", "link", "set", "eth0", "down").Run()
			p.sockets.mu.Lock()
			for _, s := range p.sockets.open {
				<-s.ended // else the next question is told of it
			}
			p.sockets.mu.Unlock()
			_ = exec.Command("ip", "link", "set", "eth0", "up").Run()
			use("eth0")
		}
		wantOpen("after the interface was down", 1)
		use("other")
		wantOpen("with a second interface", 2)
		_ = exec.Command("ip", "link", "del", "other").Run()
		use("eth0")
		wantOpen("after one is gone", 1)
		_ = exec.Command("ip", "link", "add", "other", "type", "veth", "peer", "name", "other2").Run()
		_ = exec.Command("ip", "link", "set", "other", "up").Run()
		_ = exec.Command("ip", "link", "set", "other2", "up").Run()
		use("other")
		p.sockets.mu.Lock()
		for _, s := range p.sockets.open {
			s.idle = s.idle.Add(-idleFor)
		}
		p.sockets.mu.Unlock()
		use("eth0")
		wantOpen("after one was not used for a minute", 1)
	})
}
