package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"pingover/internal/lab"
	"pingover/state"
)

// Paths to the primary, and the interfaces of the virtual IPs.

// connect connects the primary and the standby directly, by an interface of this name.
func (s *scene) connect(name string) {
	s.t.Helper()
	var standby *os.File
	s.must(s.Standby.Do(func() (err error) {
		standby, err = os.Open("/proc/thread-self/ns/net")
		return err
	}))
	defer standby.Close()
	s.must(s.Primary.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(int(standby.Fd())),
		})
	}))
}

// cable connects them by eth1.
func (s *scene) cable() {
	s.t.Helper()
	s.connect("eth1")
	s.run(s.Primary, "sh", "-ec", "ip addr add 10.9.9.2/30 dev eth1; ip link set eth1 up")
	s.run(s.Standby, "sh", "-ec", "ip addr add 10.9.9.1/30 dev eth1; ip link set eth1 up")
}

func TestDirectCableLosesItsCarrierWithThePrimary(t *testing.T) {
	s := newScene(t)
	s.cable()
	two := set(withVIP, "--host", "10.9.9.2")
	two = append([]string{"--host", "172.16.0.2"}, two...)
	e := s.check(s.Standby, two...).want(t, state.OK)
	if !slices.Equal(e.Paths, []string{"172.16.0.2", "10.9.9.2"}) || e.Host != "172.16.0.2" {
		t.Errorf("host %s, paths %v", e.Host, e.Paths)
	}
	s.run(s.Primary, "ip", "link", "set", "eth1", "down")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, two...).want(t, state.TookOver).because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
	s.wantOn(vip4, s.Standby)
}

func TestDirectCableKeepsAPrimaryUpWhoseSwitchIsDown(t *testing.T) {
	s := newScene(t)
	s.cable()
	two := append([]string{"--host", "172.16.0.2"}, set(withVIP, "--host", "10.9.9.2")...)
	s.must(s.Primary.Unplug(true))
	e := s.check(s.Standby, two...).want(t, state.OK)
	if len(e.Rounds) != 1 || e.Rounds[0].Address != "10.9.9.2" || e.Address != "10.9.9.2" {
		t.Errorf("rounds %+v, address %s; want that of the cable", e.Rounds, e.Address)
	}
}

func TestHostsFileOfAClone(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "echo 127.0.1.1 primary >>/etc/hosts")
	named := set(withVIP, "--host", "primary")
	e := s.say(s.Standby, named...)
	want := "pingover: web: this machine is the primary: primary (127.0.1.1) is its own address\nhint: set host to the primary's address; the name may be in a copy of the primary's /etc/hosts\n"
	if e.code != 78 || e.stderr != want {
		t.Errorf("exit code %d, %s\nwant 78, %s", e.code, e.stderr, want)
	}
}

func TestNameWithAnAddressThatDoesNotReply(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "printf '172.16.0.77 primary\n2001:db8::2 primary\n' >>/etc/hosts")
	named := set(withVIP, "--host", "primary")
	e := s.check(s.Standby, named...).want(t, state.OK)
	if e.Address != "2001:db8::2" {
		t.Errorf("address %s", e.Address)
	}
	if note := "host primary has 2 addresses, and each is a path to the primary: 172.16.0.77, 2001:db8::2"; !strings.Contains(e.stderr, note) {
		t.Errorf("stderr %s, want %s", e.stderr, note)
	}
	if e = s.say(s.Standby, named...); e.code != 0 || e.stderr != "" {
		t.Errorf("next run: %d, %s", e.code, e.stderr)
	}
}

func TestVirtualIPOnLoopbackIsNotHeld(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "ip", "addr", "add", "172.16.0.1/32", "dev", "lo")
	s.must(s.Standby.Sysctl("ipv4/conf/all/arp_ignore", "1"))
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	s.check(s.Standby, withVIP...).want(t, state.Holding)
	s.exits(12, "release", "--force", "web")
	if out := s.run(s.Standby, "ip", "-o", "addr", "show", "to", "172.16.0.1/32"); strings.Count(out, "\n") != 1 || !strings.Contains(out, " lo ") {
		t.Errorf("after the release:\n%s", out)
	}
}

func TestSecondNetworkThatHoldsTheVirtualIP(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.run(s.Standby, "sh", "-ec", "ip link add dock0 type veth peer name dock1; ip link set dock0 up; ip link set dock1 up; ip addr add 172.0.0.1/8 dev dock0")
	s.must(s.Primary.PowerOff())
	s.wantCommands(s.check(s.Standby, withVIP...).want(t, state.TookOver), "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
}

func TestAlternativeNameOfTheInterface(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "ip", "link", "property", "add", "dev", "eth0", "altname", "enp3s0")
	named := set(withVIP, "--interface", "enp3s0")
	s.must(s.Primary.PowerOff())
	s.wantCommands(s.check(s.Standby, named...).want(t, state.TookOver), "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
}

func TestIPv6IsDisabledAndIPv4IsTakenOver(t *testing.T) {
	s := newScene(t)
	s.must(s.Standby.Sysctl("ipv6/conf/eth0/disable_ipv6", "1"))
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	e := s.say(s.Standby, both...)
	if want := "vip 2001:db8::1 cannot be taken over: IPv6 is disabled on eth0 (net.ipv6.conf.eth0.disable_ipv6)"; e.code != 0 || !strings.Contains(e.stderr, want) {
		t.Errorf("%d, %s; want 0, %s", e.code, e.stderr, want)
	}
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, both...).want(t, state.TakeoverFailed).
		because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use; 2001:db8::1 cannot be assigned: IPv6 is disabled on eth0 (net.ipv6.conf.eth0.disable_ipv6)")
	s.wantOn(vip4, s.Standby)
}

// far is a primary behind the gateway.
func (s *scene) far() (far *lab.Host) {
	s.t.Helper()
	far, err := s.Add("far", "198.51.100.2/24")
	s.must(err)
	s.run(far, "ip", "route", "add", "default", "via", "198.51.100.254")
	s.run(s.Gateway, "ip", "addr", "add", "198.51.100.254/24", "dev", "eth0")
	s.must(s.Gateway.Sysctl("ipv4/ip_forward", "1"))
	return far
}

func TestPolicyRoutingByTheSource(t *testing.T) {
	s := newScene(t)
	s.far()
	s.run(s.Standby, "sh", "-ec", "ip route del default; ip route add default via 172.16.0.254 table 100; ip rule add from 172.16.0.3 lookup 100")
	args := set(hasty, "--host", "198.51.100.2", "--source", "172.16.0.3", "--witness", "auto")
	s.check(s.Standby, args...).want(t, state.OK)
	rec := s.record(s.Standby)
	if len(rec.Gateways) != 1 || rec.Gateways[0].Address.String() != "172.16.0.254" {
		t.Errorf("automatic witnesses %v", rec.Gateways)
	}
}

func TestRefusalOnTheWayNamesItsSender(t *testing.T) {
	s := newScene(t)
	s.far()
	s.run(s.Gateway, "ip", "route", "add", "prohibit", "198.51.100.2/32")
	s.run(s.Gateway, "ip", "rule", "add", "pref", "10", "to", "198.51.100.2/32", "prohibit")
	s.check(s.Standby, set(withVIP, "--host", "198.51.100.2")...).want(t, state.Unknown).
		because(t, "ping 198.51.100.2: refused by 172.16.0.254: communication administratively prohibited (ICMP type 3 code 13)")
}

// A primary behind a router, of which nothing else is heard, was taken over from
// when its firewall, or that of the router, began to reject pings as most do.
func TestAFirewallThatRejectsPingsIsNoSilence(t *testing.T) {
	const why = "ping 198.51.100.2: refused by 198.51.100.2: "
	s := newScene(t)
	far := s.far()
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0") // else ARP shows that it is alive
	args := set(withVIP, "--host", "198.51.100.2")
	s.check(s.Standby, args...).want(t, state.OK)
	for code, words := range map[uint8]string{3: "port unreachable", 1: "host unreachable"} {
		s.must(far.Firewall(nftables.ChainHookInput, append(lab.EchoRequest4(), &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code})))
		s.check(s.Standby, args...).want(t, state.Unknown).because(t, fmt.Sprintf("%s%s (ICMP type 3 code %d)", why, words, code))
	}
	s.must(far.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
}

func TestWitnessOfARoutedPrimaryMustReplyToPings(t *testing.T) {
	s := newScene(t)
	s.far()
	s.must(s.Gateway.FilterICMP(true))
	s.check(s.Standby, set(withVIP, "--host", "198.51.100.77")...).want(t, state.Blocked).because(t, "198.51.100.77 does not reply, but no witness replies either: it may be this machine's network")
}

// exits runs another command of the program on the standby.
func (s *scene) exits(code int, args ...string) {
	s.t.Helper()
	cmd := s.command(s.Standby, args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("%v: exit code %d, want %d\n%s", args, got, code, out)
	}
}
