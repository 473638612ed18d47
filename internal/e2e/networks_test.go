package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"pingover/internal/lab"
	"pingover/state"
)

// Interfaces of other kinds than a network card: a live primary is never taken over
// from there, and a dead one is, or the reason says why not.

// macvlan moves a host's own addresses to an interface above eth0, which is left
// without any.
func (s *scene) macvlan(h *lab.Host, mode, mac string) {
	s.t.Helper()
	s.run(h, "sh", "-ec", fmt.Sprintf(`own=$(ip -o -4 addr show eth0 | awk '$4 !~ /\/32$/ {print $4}')
ip link add mv0 link eth0 address %s type macvlan mode %s
ip addr flush dev eth0
ip link set mv0 up
ip addr add $own dev mv0
ip route add default via 172.16.0.254`, mac, mode))
}

func TestVirtualIPOnAMacvlan(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"bridge", "private", "vepa", "passthru"} {
		t.Run(mode, func(t *testing.T) {
			mac := "02:00:00:00:01:03"
			s := newScene(t)
			if mode == "passthru" {
				mac = s.Standby.MAC().String()
			}
			s.macvlan(s.Standby, mode, mac)
			s.check(s.Standby, withVIP...).want(t, state.OK)
			s.must(s.Primary.FilterICMP(true))
			s.check(s.Standby, withVIP...).want(t, state.Blocked).
				because(t, "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive")
			s.must(s.Primary.PowerOff())
			s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
			s.check(s.Standby, withVIP...).want(t, state.Elsewhere)
			s.run(s.Second, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
			s.wantCommands(s.check(s.Standby, withVIP...).want(t, state.TookOver), "ip addr add 172.16.0.1/32 dev mv0 label mv0:1")
			s.must(s.Client.Ping(vip4, 5*time.Second))
			s.must(s.Primary.PowerOn())
			s.check(s.Standby, withVIP...).want(t, state.Released)
			s.wantOn(vip4, s.Primary)
		})
	}
}

// tunnel connects the primary and the standby by wg0, which does no ARP.
func (s *scene) tunnel() {
	s.t.Helper()
	s.connect("wg0")
	// Without ARP the kernel sends to its own MAC, so that both ends have the same.
	const up = "ip link set wg0 address 02:00:00:00:02:00 arp off up; ip addr add %s dev wg0"
	s.run(s.Primary, "sh", "-ec", fmt.Sprintf(up, "10.9.9.2/24"))
	s.run(s.Standby, "sh", "-ec", fmt.Sprintf(up, "10.9.9.3/24"))
}

// A switch that suppresses ARP passes no probes on, but ordinary requests: a live
// holder whose firewall drops pings was taken over from, for a second.
func TestSwitchThatSuppressesARP(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.SuppressARP())
	s.must(s.Second.SuppressARP())
	pair := set(withVIP, "--host", "172.16.0.1")
	s.check(s.Standby, pair...).want(t, state.OK)
	s.must(s.Primary.FilterICMP(true))
	s.check(s.Standby, pair...).want(t, state.Elsewhere)
	s.must(s.Primary.PowerOff())
	s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	s.must(s.Second.FilterICMP(true))
	s.check(s.Standby, pair...).want(t, state.Elsewhere)
	s.must(s.Second.PowerOff())
	s.check(s.Standby, pair...).want(t, state.TookOver)
}

// dropPings is a firewall on the host itself, for all its interfaces.
func dropPings(h *lab.Host) error {
	return h.Firewall(nftables.ChainHookInput, append(lab.EchoRequest4(), &expr.Verdict{Kind: expr.VerdictDrop}))
}

const noARP = "wg0 does not do ARP, as tunnels do not: no other machine can be asked whether it has the address (duplicate-check)"

func TestVirtualIPInATunnel(t *testing.T) {
	s := newScene(t)
	s.tunnel()
	args := set(withVIP, "--host", "10.9.9.2", "--vip", "10.9.9.1")
	s.run(s.Primary, "ip", "addr", "add", "10.9.9.1/32", "dev", "wg0")
	if e := s.say(s.Standby, args...); e.code != 0 || !strings.Contains(e.stderr, "vip 10.9.9.1 cannot be taken over: "+noARP) {
		t.Errorf("%d, %s", e.code, e.stderr)
	}
	if out, code := s.doctor("web"); code != 78 || !strings.Contains(out, "fail  vip 10.9.9.1 cannot be taken over: "+noARP) {
		t.Errorf("%d, %s", code, out)
	}
	s.must(dropPings(s.Primary)) // nothing but pings tells that it is alive
	s.check(s.Standby, args...).want(t, state.Blocked).because(t, "10.9.9.2 does not reply, but 10.9.9.1 cannot be assigned: "+noARP)
	s.run(s.Primary, "ip", "addr", "flush", "dev", "wg0")
	s.check(s.Standby, append(args, "--duplicate-check=false")...).want(t, state.TookOver)
}

// The gateway replies to ARP alone: that says nothing of a primary at the other end
// of a tunnel.
func TestPrimaryAtTheOtherEndOfATunnel(t *testing.T) {
	s := newScene(t)
	s.tunnel()
	args := set(withVIP, "--host", "10.9.9.2")
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0") // else that would be heard
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(dropPings(s.Primary))
	s.must(s.Gateway.FilterICMP(true))
	s.check(s.Standby, args...).want(t, state.Blocked).because(t, "10.9.9.2 does not reply, but no witness replies either: it may be this machine's network")
	s.run(s.Primary, "ip", "addr", "flush", "dev", "wg0")
	s.must(s.Gateway.FilterICMP(false))
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
}

// A machine without IPv6: switched off by the sysctl, or at boot (ipv6.disable=1),
// where no socket of that family can be opened and /proc/sys/net/ipv6 is missing.
func TestMachineWithoutIPv6(t *testing.T) {
	t.Parallel()
	for name, without := range map[string]func(s *scene){
		"sysctl": func(*scene) {},
		"boot option": func(s *scene) {
			self, err := os.Executable()
			s.must(err)
			s.run(s.Standby, "sh", "-ec", `mkdir -p /run/net/ipv4
mount --bind /proc/sys/net/ipv4 /run/net/ipv4
mount --rbind /run/net /proc/sys/net`)
			s.run(s.Standby, "cp", self, "/run/"+restrictedAs)
			s.through("env", withoutIPv6+"=1", "/run/"+restrictedAs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Standby.Sysctl("ipv6/conf/all/disable_ipv6", "1"))
			without(s)
			const why = "IPv6 is disabled on eth0 (net.ipv6.conf.eth0.disable_ipv6)"
			auto := set(withVIP, "--witness", "auto")
			both := append(slices.Clone(auto), "--vip", "2001:db8::1")
			if e := s.say(s.Standby, auto...); e.code != 0 || e.stderr != "" {
				t.Errorf("%d, %s", e.code, e.stderr)
			}
			if out, code := s.doctor("web"); code != 0 || len(ill(out)) > 0 {
				t.Errorf("%d, %s", code, out)
			}
			if e := s.say(s.Standby, both...); e.code != 0 || !strings.Contains(e.stderr, "vip 2001:db8::1 cannot be taken over: "+why) {
				t.Errorf("%d, %s", e.code, e.stderr)
			}
			s.must(s.Primary.FilterICMP(true))
			s.check(s.Standby, both...).want(t, state.Blocked).because(t, "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive")
			s.must(s.Primary.FilterICMP(false))
			if e := s.say(s.Standby, set(both, "--host", "2001:db8::2", "--name", "six")...); e.code != 20 {
				t.Errorf("%d, %s", e.code, e.stderr)
			}
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, set(auto, "--name", "six", "--vip", "2001:db8::1")...).want(t, state.Blocked).
				because(t, "172.16.0.2 does not reply, but 2001:db8::1 cannot be assigned: "+why)
			s.check(s.Standby, both...).want(t, state.TakeoverFailed).
				because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use; 2001:db8::1 cannot be assigned: "+why)
			s.wantOn(vip4, s.Standby)
		})
	}
}
