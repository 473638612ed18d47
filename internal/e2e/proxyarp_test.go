package e2e

import (
	"strings"
	"testing"

	"pingover/state"
)

// A gateway that replies to ARP for everybody proves nothing, and doctor names it
// while all is well. So it does where this machine itself does proxy ARP.
func TestProxyARPIsNamed(t *testing.T) {
	s := newScene(t)
	proxy := "the gateway (" + s.Gateway.MAC().String() + ") replies to ARP for 172.16.0.1 as well: proxy ARP, ignored"
	s.check(s.Standby, withVIP...).want(t, state.OK)
	if out, _ := s.doctor(withVIP...); strings.Contains(out, "proxy ARP") {
		t.Errorf("without proxy ARP doctor says\n%s", out)
	}
	for path, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv4/conf/eth0/proxy_arp": "1", "ipv4/conf/eth0/proxy_arp_pvlan": "1", "ipv4/neigh/eth0/proxy_delay": "0",
	} {
		s.must(s.Gateway.Sysctl(path, value))
	}
	if out, _ := s.doctor(withVIP...); !strings.Contains(out, proxy) {
		t.Errorf("doctor says\n%s\nwant %s", out, proxy)
	}
	s.must(s.Primary.PowerOff())
	primary := strings.Replace(proxy, "172.16.0.1", "172.16.0.2", 1) // the virtual IP is asked for by probes
	if e := s.say(s.Standby, append([]string{"--verbose"}, withVIP...)...); e.code != 11 || !strings.Contains(e.stderr, primary) {
		t.Errorf("the takeover: exit code %d\n%s\nwant 11 and %s", e.code, e.stderr, primary)
	}
	if e := s.say(s.Standby, append([]string{"--verbose"}, withVIP...)...); e.code != 10 || !strings.Contains(e.stderr, proxy) {
		t.Errorf("holding: exit code %d\n%s\nwant 10 and %s", e.code, e.stderr, proxy)
	}
}

func TestProxyARPOfThisMachineIsNamed(t *testing.T) {
	s := newScene(t)
	s.must(s.Standby.Sysctl("ipv4/conf/eth0/proxy_arp", "1"))
	const text = `interface "eth0" does proxy ARP: what this machine itself replies for 172.16.0.1 is ignored; to end it: sysctl net.ipv4.conf.eth0.proxy_arp=0`
	if e := s.say(s.Standby, withVIP...); e.code != 0 || e.stderr != "pingover: web: "+text+"\n" {
		t.Errorf("the first check: exit code %d, stderr: %s", e.code, e.stderr)
	}
	if e := s.say(s.Standby, withVIP...); e.stderr != "" {
		t.Errorf("the second check says it again: %s", e.stderr)
	}
	if out, _ := s.doctor(withVIP...); !strings.Contains(out, text) {
		t.Errorf("doctor says\n%s\nwant %s", out, text)
	}
}
