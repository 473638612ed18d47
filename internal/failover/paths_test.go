package failover

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// cable adds a direct cable between the primary and the standby, as a second
// path.
func (s *scene) cable() {
	s.primary.plug("eth1", "cable", 22, "10.9.9.2/30")
	s.standby.plug("eth1", "cable", 23, "10.9.9.1/30")
	s.settings.OtherHosts = []string{"10.9.9.2"}
}

// TestDirectCableLosesItsCarrierWithThePrimary: that a path is left out for a
// fault of this machine turns no power cut into "unknown".
func TestDirectCableLosesItsCarrierWithThePrimary(t *testing.T) {
	noCarrier := func(s *scene) { s.standby.nic("eth1").Carrier = false }
	for name, lose := range map[string]func(s *scene){
		"before the check":        noCarrier,
		"in the first round":      func(s *scene) { s.at(5*time.Second, func() { noCarrier(s) }) },
		"during the wait":         func(s *scene) { s.at(20*time.Second, func() { noCarrier(s) }) },
		"in the second round":     func(s *scene) { s.at(40*time.Second, func() { noCarrier(s) }) },
		"with its address":        func(s *scene) { noCarrier(s); s.standby.unset(netip.MustParseAddr("10.9.9.1")) },
		"and the interface is up": func(*scene) {},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.cable()
				s.ends(state.OK, "")
				s.primary.powerOff()
				if name == "with its address" { // the gateway refuses what leads there now
					s.standby.fails = failing(&check.RefusedError{Sender: gatewayAddr, Type: 3, Code: 0}, "ping 10.9.9.2")
				}
				lose(s)
				s.ends(state.TookOver, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
			})
		})
	}
}

// TestOnePathThatRepliesIsEnough, and is the one that reports name.
func TestOnePathThatRepliesIsEnough(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.cable()
		s.primary.nic("eth0").segment = ""
		report := s.ends(state.OK, "172.16.0.2 replies")
		want := []state.Round{{Number: 1, Address: "10.9.9.2", Verdict: "up", Sent: 1, Received: 1, RTT: new(0.4)}}
		if diff := cmp.Diff(want, report.Rounds); diff != "" {
			t.Errorf("rounds (-want +got):\n%s", diff)
		}
		if report.Host != "172.16.0.2" || !slices.Equal(report.Paths, []string{"172.16.0.2", "10.9.9.2"}) || report.Address != "10.9.9.2" {
			t.Errorf("host %s, paths %v, address %s", report.Host, report.Paths, report.Address)
		}
	})
}

// TestPathThatCannotBeAskedIsNoSilence, unless another one replies.
func TestPathThatCannotBeAskedIsNoSilence(t *testing.T) {
	refused := &check.RefusedError{Sender: gatewayAddr, Type: 3, Code: 13}
	for _, test := range []struct {
		name   string
		change func(s *scene)
		reason string
	}{
		{"a name that does not resolve", func(s *scene) { s.settings.OtherHosts = []string{"backup"} }, `resolve "backup": no such host`},
		{"a refusal on the way", func(s *scene) {
			s.standby.fails = failing(refused, "ping 10.9.9.2")
		}, refused.Error()},
		{"an alias of another cluster", func(s *scene) {
			s.standby.set("eth0", "172.16.0.5/32")
			l := s.standby.nic("eth0")
			l.Addresses[len(l.Addresses)-1].Label = "eth0:7"
			s.settings.OtherHosts = []string{"172.16.0.5"}
		}, "172.16.0.5 is on this machine now, so a ping would answer itself"},
		{"no path at all", func(s *scene) {
			s.standby.nic("eth0").Carrier, s.standby.nic("eth1").Carrier = false, false
		}, `interface "eth0" has no carrier: is the cable in?; interface "eth1" has no carrier: is the cable in?`},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.cable()
				test.change(s)
				if test.name != "no path at all" {
					s.ends(state.OK, "172.16.0.2 replies")
				}
				s.primary.powerOff()
				if report := s.ends(state.Unknown, ""); report.Reason != test.reason {
					t.Errorf("reason %q, want %q", report.Reason, test.reason)
				}
			})
		})
	}
}

// TestPathsThatAreAskedInOneRoundOnlyProveNothing: each of the two silent rounds
// was of another path.
func TestPathsThatAreAskedInOneRoundOnlyProveNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.cable()
		s.primary.powerOff()
		s.standby.nic("eth1").Carrier = false
		s.at(20*time.Second, func() { s.standby.nic("eth0").Carrier, s.standby.nic("eth1").Carrier = false, true })
		s.ends(state.Unknown, "10.9.9.2 was asked in one round only")
	})
}

// TestNameWithSeveralAddresses: each is a path. They are printed to cron once,
// and those that replied are used when the name no longer resolves.
func TestNameWithSeveralAddresses(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "primary"
		s.standby.names["primary"] = []netip.Addr{netip.MustParseAddr("172.16.0.77"), primaryAddr}
		const note = "host primary has 2 addresses, and each is a path to the primary: 172.16.0.77, 172.16.0.2"
		for n, want := range []string{"! " + note, note} {
			s.want(s.minute(), state.OK, "primary replies")
			if notes := s.notes(); !slices.Contains(notes, want) {
				t.Errorf("check %d: notes %q, want %q", n+1, notes, want)
			}
		}
		clear(s.standby.names)
		s.forget()
		s.want(s.minute(), state.OK, "primary replies")
		if got := s.calls("ping 172.16.0.77", "ping 172.16.0.2"); !slices.Equal(got, []string{"ping 172.16.0.2"}) {
			t.Errorf("pinged %v", got)
		}
	})
}

// TestHostsFileOfThePrimary: its name for itself is 127.0.1.1, and this machine
// was cloned from it.
func TestHostsFileOfThePrimary(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "primary"
		own := []netip.Addr{netip.MustParseAddr("127.0.1.1")}
		s.standby.names["primary"] = own
		_, err := s.try()
		want := &run.Error{
			Code: 78, Text: "this machine is the primary: primary (127.0.1.1) is its own address",
			Hint: "set host to the primary's address; the name may be in a copy of the primary's /etc/hosts",
		}
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}

		s.standby.names["primary"] = []netip.Addr{primaryAddr}
		s.ends(state.OK, "primary replies")
		s.standby.names["primary"] = own
		s.want(s.minute(), state.Unknown, want.Text)
		if notes := s.notes(); !slices.Contains(notes, "! host primary is left out: "+want.Text) {
			t.Errorf("notes %q", notes)
		}
		s.settings.OtherHosts = []string{"172.16.0.2"}
		s.want(s.minute(), state.OK, "primary replies")
	})
}

// TestVirtualIPWithoutARP, as direct server return has it on lo, is not held: a
// takeover comes, and a release leaves it alone.
func TestVirtualIPWithoutARP(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.set("lo", "172.16.0.1/32")
		s.standby.noARP = true // arp_ignore
		s.ends(state.OK, "172.16.0.2 replies")
		if notes := s.notes(); !slices.Contains(notes, "! vip 172.16.0.1 is on lo as well, which does not do ARP: it does not count as held, and is left alone") {
			t.Errorf("notes %q", notes)
		}
		s.primary.powerOff()
		s.want(s.minute(), state.TookOver, "172.16.0.1 is not in use")
		s.want(s.minute(), state.Holding, "")
		s.want(s.release(Options{Force: true}), state.Released, "")
		var left []string
		for _, p := range s.standby.snapshot().Assignments(vipAddr) {
			left = append(left, p.Interface)
		}
		if !slices.Equal(left, []string{"lo"}) {
			t.Errorf("left on %v", left)
		}
	})
	play(t, func(t *testing.T, s *scene) {
		s.standby.set("lo", "172.16.0.1/32")
		s.settings.Host = "172.16.0.1"
		_, err := s.try()
		if err == nil || err.Error() != "172.16.0.1 is on lo, which does not do ARP: a ping would answer itself" {
			t.Errorf("error %v", err)
		}
	})
}

// TestPingsOfAVirtualIPThatThisMachineItselfAnswers prove nothing: that one is on
// lo, or that a local route leads to it, as AnyIP and IPVS have. ARP alone tells.
func TestPingsOfAVirtualIPThatThisMachineItselfAnswers(t *testing.T) {
	for name, answers := range map[string]func(m *machine){
		"it is on lo":                     func(m *machine) { m.set("lo", "172.16.0.1/32") },
		"a local route, as AnyIP has one": func(m *machine) { m.anyIP = netip.MustParsePrefix("172.16.0.1/32") },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				answers(s.standby)
				s.standby.noARP = true // arp_ignore
				s.ends(state.OK, "172.16.0.2 replies")
				s.primary.powerOff()
				s.ends(state.TookOver, "172.16.0.1 is not in use")
			})
			play(t, func(t *testing.T, s *scene) {
				answers(s.standby)
				s.standby.noARP = true
				s.do(func() { s.primary.unset(vipAddr) })
				for range s.settings.Rise - 1 {
					s.ends(state.OK, "")
				}
				s.ends(state.Unserved, "")
			})
		})
	}
}

// TestOneVirtualIPThatCannotBeTaken does not block the others.
func TestOneVirtualIPThatCannotBeTaken(t *testing.T) {
	noIPv6 := func(s *scene) {
		s.vips("172.16.0.1/32", "2001:db8::1/128")
		s.standby.nic("eth0").NoIPv6 = true
	}
	for _, test := range []struct {
		name, vip, why string
		change         func(s *scene)
	}{
		{"IPv6 is disabled", "2001:db8::1", "IPv6 is disabled on eth0 (net.ipv6.conf.eth0.disable_ipv6)", noIPv6},
		{"no carrier", "10.0.0.1", `interface "eth1" has no carrier: is the cable in?`, func(s *scene) {
			s.standby.plug("eth1", "other", 33, "10.0.0.3/24")
			s.vips("172.16.0.1/32", "10.0.0.1/32")
			s.standby.nic("eth1").Carrier = false
		}},
		{"no interface", "10.0.0.1", `there is no interface "eth7"`, func(s *scene) {
			s.vips("172.16.0.1/32", "10.0.0.1/32")
			s.settings.VIPs[1].Interface = "eth7"
		}},
		{"a tunnel", "10.0.0.1", "wg0 does not do ARP, as tunnels do not: no other machine can be asked whether it has the address (duplicate-check)", func(s *scene) {
			s.standby.plug("wg0", "other", 33, "10.0.0.3/24")
			s.vips("172.16.0.1/32", "10.0.0.1/32")
			s.standby.nic("wg0").ARP = false
		}},
		{"an ipvlan", "10.0.0.1", "ipvl0 is an ipvlan: replies to ARP probes do not arrive there, so it is unknown whether another machine has the address (duplicate-check)", func(s *scene) {
			s.standby.plug("ipvl0", "other", 33, "10.0.0.3/24")
			s.vips("172.16.0.1/32", "10.0.0.1/32")
			s.standby.nic("ipvl0").IPVLAN = true
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.change(s)
				s.ends(state.OK, "")
				note := fmt.Sprintf("vip %s cannot be taken over: %s", test.vip, test.why)
				if notes := s.notes(); !slices.Contains(notes, "! "+note) {
					t.Errorf("notes %q", notes)
				}
				s.primary.powerOff()
				cannot := fmt.Sprintf("%s cannot be assigned: %s", test.vip, test.why)
				s.want(s.minute(), state.TakeoverFailed, "172.16.0.2 does not reply, and 172.16.0.1 is not in use; "+cannot)
				if !s.standby.holds(vipAddr) {
					t.Error("172.16.0.1 is not here")
				}
				s.want(s.minute(), state.TakeoverFailed, "holding 172.16.0.1; 172.16.0.2 does not reply; "+cannot)
				if rec := s.standby.record(t, "web"); rec.Role != state.Active {
					t.Errorf("role %s", rec.Role)
				}
			})
		})
	}
	t.Run("lost in the second round", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.standby.plug("eth1", "other", 33, "10.0.0.3/24")
			s.vips("172.16.0.1/32", "10.0.0.1/32")
			s.primary.powerOff()
			s.at(40*time.Second, func() { s.standby.down("eth1") })
			s.ends(state.TakeoverFailed, `10.0.0.1 cannot be assigned: interface "eth1" is down`)
		})
	})
	t.Run("none can be taken", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			noIPv6(s)
			s.vips("2001:db8::1/128")
			s.settings.Hooks.PreTakeover = []string{"fence"}
			s.primary.powerOff()
			s.ends(state.Blocked, "172.16.0.2 does not reply, but 2001:db8::1 cannot be assigned: IPv6 is disabled on eth0")
			if got := s.calls("hook"); got != nil {
				t.Errorf("hooks: %v", got)
			}
		})
	})
}

// TestInterfaceOfAVirtualIP: where it is assigned at a takeover.
func TestInterfaceOfAVirtualIP(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(s *scene) // before the first check
		after  func(s *scene)
		want   string // interface
		note   string
	}{
		{"a container network that holds it appears", nil, func(s *scene) { s.standby.plug("dock0", "dock", 99, "172.0.0.1/8") }, "eth0", ""},
		{"a second interface in the same network appears", nil, func(s *scene) { s.standby.plug("eth1", "lan", 33, "172.16.0.33/16") }, "eth0", ""},
		{"a longer network than that of eth0", func(s *scene) { s.standby.plug("eth1", "lan", 33, "172.16.0.33/24") }, nil, "eth1", ""},
		{"an alternative name", func(s *scene) {
			s.settings.Interface = "enp3s0"
			s.standby.nic("eth0").AltNames = []string{"enp3s0"}
		}, nil, "eth0", ""},
		{"a port of a bridge", func(s *scene) {
			s.standby.plug("port0", "", 34)
			s.standby.nic("port0").Master = "eth0"
			s.settings.Interface = "port0"
		}, nil, "eth0", `! interface "port0" is a port of eth0: the virtual IPs are on eth0`},
		{"a port of a bridge that tags the VLAN of eth0", func(s *scene) {
			s.standby.plug("br0", "", 35)
			s.standby.plug("port0", "", 34)
			s.standby.nic("port0").Master, s.standby.nic("eth0").Below = "br0", "br0"
			s.settings.Interface = "port0"
		}, nil, "eth0", `! interface "port0" is a port of br0: the virtual IPs are on eth0`},
		{"a tunnel, where nobody is asked", func(s *scene) {
			s.standby.plug("wg0", "other", 33, "10.0.0.3/24")
			s.standby.nic("wg0").ARP = false
			s.vips("10.0.0.1/32")
			s.settings.DuplicateCheck = false
		}, nil, "wg0", ""},
		{"outside all networks", func(s *scene) { s.vips("192.0.2.1/32") }, nil, "eth0", "! vip 192.0.2.1 is outside all networks of this machine"},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				if test.before != nil {
					test.before(s)
				}
				s.check()
				if notes := s.notes(); test.note != "" && !slices.Contains(notes, test.note) {
					t.Errorf("notes %q, want %q", notes, test.note)
				}
				if test.after != nil {
					test.after(s)
				}
				s.primary.powerOff()
				s.want(s.minute(), state.TookOver, "")
				if got := s.calls("raise 1"); len(got) != 1 || !strings.HasSuffix(got[0], " on "+test.want) {
					t.Errorf("%v, want on %s", got, test.want)
				}
			})
		})
	}
}

// TestVirtualIPThatNobodyCanHave: it is the network's own address.
func TestVirtualIPThatNobodyCanHave(t *testing.T) {
	for vip, want := range map[string]string{
		"172.16.255.255/32": "vip 172.16.255.255 is the broadcast address of the network 172.16.0.0/16",
		"172.16.0.0/32":     "vip 172.16.0.0 is the address of the network 172.16.0.0/16 itself",
	} {
		play(t, func(t *testing.T, s *scene) {
			s.vips(vip)
			_, err := s.try()
			if e, ok := errors.AsType[*run.Error](err); !ok || e.Code != 78 || e.Text != want {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

// TestWitnessOfARoutedPrimaryMustReplyToPings: that it replies to ARP proves
// nothing of the way, by a router or through a tunnel.
func TestWitnessOfARoutedPrimaryMustReplyToPings(t *testing.T) {
	for host, want := range map[string]state.Outcome{"172.16.0.2": state.TookOver, "192.0.2.2": state.Blocked, "10.9.9.2": state.Blocked} {
		t.Run(host, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.standby.plug("wg0", "tunnel", 23, "10.9.9.1/30")
				s.standby.nic("wg0").ARP = false
				s.gateway.noPing, s.settings.Host = true, host
				s.primary.powerOff()
				s.ends(want, "")
			})
		})
	}
}

// TestForgedFrameDoesNotSwitchTheWitnessOff: a gateway that once served stays a
// witness, whatever MAC a forged frame gives the primary.
func TestForgedFrameDoesNotSwitchTheWitnessOff(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		s.minute()
		rec := s.standby.record(t, "web")
		rec.Neighbour = mac(254).String()
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.do(func() { s.standby.neighbours = map[netip.Addr]net.HardwareAddr{gatewayAddr: mac(254)} })
		s.primary.powerOff()
		s.want(s.minute(), state.TookOver, "")
	})
}

// TestRoundInWhichThisMachineStalls proves nothing, and is repeated.
func TestRoundInWhichThisMachineStalls(t *testing.T) {
	for stalls, want := range map[int]state.Outcome{1: state.OK, 3: state.OK, 4: state.Unknown} {
		play(t, func(t *testing.T, s *scene) {
			n := 0
			s.standby.fails = func(call string) error {
				if name, _, _ := strings.Cut(call, " #"); name != "ping 172.16.0.2" || n == stalls {
					return nil
				}
				n++
				return fmt.Errorf("ping 172.16.0.2: %w: the round ended 700ms late", check.ErrStalled)
			}
			s.ends(want, "")
		})
	}
}

// TestRoutesAreLookedUpWithTheSource of the settings, where the family fits.
func TestRoutesAreLookedUpWithTheSource(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Source = netip.MustParseAddr("172.16.0.3")
		s.settings.OtherHosts = []string{"2001:db8::2"}
		s.check()
		env := s.standby.env()
		var from []string
		route := env.Route
		env.Route = func(to, source netip.Addr) (vip.Route, error) {
			from = append(from, fmt.Sprintf("%s from %s", to, source))
			return route(to, source)
		}
		_, err := CheckIn(t.Context(), env, withState(s.settings, s.standby.dir), Options{})
		must(t, err)
		want := []string{"172.16.0.2 from 172.16.0.3", "2001:db8::2 from invalid IP"}
		if !slices.Equal(from[:2], want) {
			t.Errorf("routes %q, want %q first", from, want)
		}
	})
}

func withState(c config.Cluster, dir string) config.Cluster {
	c.StateDir = dir
	return c
}
