package failover

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
)

// managed is a pair whose own addresses are on a management network, while the
// clients' network has only the virtual IP; strict rp_filter everywhere.
func managed(s *scene) {
	for i, m := range []*machine{s.primary, s.standby, s.gateway} {
		m.nic("eth0").Addresses, m.rpFilter = nil, true
		m.plug("eth1", "management", byte(0x20+i), []string{"10.5.0.2/24", "10.5.0.3/24", "10.5.0.1/24"}[i])
	}
	s.primary.set("eth0", "172.16.0.1/24")
	s.settings.Host = "10.5.0.2"
	s.settings.VIPs = []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/24"), Interface: "eth0"}}
	s.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr("10.5.0.1")}}
}

// TestAHolderThatRepliesToProbesOnly: with strict rp_filter a host does not reply
// to a request from an address of another network.
func TestAHolderThatRepliesToProbesOnly(t *testing.T) {
	t.Run("the primary serves", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			managed(s)
			s.primary.noPing = false
			for range 4 {
				s.want(s.minute(), state.OK, "10.5.0.2 replies")
			}
		})
	})
	t.Run("the primary is back while holding", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			managed(s)
			s.primary.base = copyNICs(s.primary.nics)
			s.primary.powerOff()
			s.ends(state.TookOver, "")
			s.do(s.primary.boot)
			s.want(s.minute(), state.Released, "172.16.0.1")
			if s.standby.holds(vipAddr) {
				t.Error("two machines have it")
			}
		})
	})
}

// TestAHolderWithoutAnAddressOfItsOwn hears the primary come back: its question is
// a probe then.
func TestAHolderWithoutAnAddressOfItsOwn(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.do(func() { s.standby.unset(netip.MustParseAddr("172.16.0.3")) }) // its DHCP lease has run out
		s.do(s.primary.boot)
		s.want(s.minute(), state.Released, "172.16.0.1")
	})
}

// TestAHolderWithoutAnIPv6Address hears another machine all the same, and hands over
// to it.
func TestAHolderWithoutAnIPv6Address(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("2001:db8::1/128")
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.want(s.minute(), state.Holding, "holding 2001:db8::1; 172.16.0.2 does not reply")
		if a := s.standby.record(t, "web").Firing("isolated"); a != nil {
			t.Errorf("alert %+v", a)
		}
		client := s.add("client", 0x01, "172.16.0.13/16") // the lower MAC
		s.do(func() { client.set("eth0", "2001:db8::1/128") })
		s.want(s.minute(), state.Released, "2001:db8::1 is also assigned at 02:00:00:00:00:01, another machine: it is released here")
	})
}

// TestWhatCannotBeAskedForIsNotAnnounced: another machine may have it.
func TestWhatCannotBeAskedForIsNotAnnounced(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.standby.fails = failing(errors.New("it broke"), "listen on eth0")
		s.forget()
		s.want(s.minute(), state.Holding, "172.16.0.2 could not be asked")
		if got := s.calls("announce"); len(got) > 0 {
			t.Errorf("announced: %q", got)
		}
	})
}

// TestProxyARP: the gateway replies for every address, which proves nothing.
func TestProxyARP(t *testing.T) {
	t.Run("the primary is down", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.gateway.proxyARP = true
			s.ends(state.OK, "")
			s.do(s.primary.powerOff)
			s.want(s.minute(), state.TookOver, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
			for _, a := range []string{"172.16.0.1", "172.16.0.2"} {
				if want := "the gateway (" + mac(0xfe).String() + ") replies to ARP for " + a + " as well: proxy ARP, ignored"; !slices.Contains(s.notes(), want) {
					t.Errorf("notes %q, want %q", s.notes(), want)
				}
			}
			s.want(s.minute(), state.Holding, "holding 172.16.0.1")
		})
	})
	t.Run("the primary has its pings filtered", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.gateway.proxyARP, s.primary.noPing = true, true
			s.ends(state.Blocked, "it replies to ARP: it is alive")
		})
	})
	t.Run("switched on while holding", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.primary.powerOff()
			s.ends(state.TookOver, "")
			s.do(func() { s.gateway.proxyARP = true })
			s.want(s.minute(), state.Holding, "holding 172.16.0.1")
		})
	})
}

// TestAForgedClaim blocks nothing, and does not make the gateway the primary.
func TestAForgedClaim(t *testing.T) {
	for name, forged := range map[string]netip.Addr{"of the primary": primaryAddr, "of the virtual IP": vipAddr} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.ends(state.OK, "")
				s.do(s.primary.powerOff)
				client := s.add("client", 0x0d, "172.16.0.13/16")
				time.Sleep(time.Minute)
				for d := time.Duration(0); d < 40*time.Second; d += 5 * time.Second {
					s.at(d, func() { client.announce("eth0", forged, mac(0xfe)) })
				}
				s.want(s.check(), state.TookOver, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
			})
		})
	}
}

// TestANewHolderThatHearsNoQuestion, across a one-way cut, is heard when it announces
// itself a second time.
func TestANewHolderThatHearsNoQuestion(t *testing.T) {
	for name, test := range map[string]struct {
		at    time.Duration // of the first announcement, in the check
		times int
		want  state.Outcome
		took  time.Duration
	}{
		"in the middle of round two":            {40 * time.Second, 2, state.Elsewhere, 46 * time.Second},
		"in its last second":                    {45300 * time.Millisecond, 2, state.Elsewhere, 46400 * time.Millisecond},
		"once, long ago":                        {40 * time.Second, 1, state.TookOver, 46900*time.Millisecond + 3300*time.Millisecond},
		"once, in the last second: it has gone": {45300 * time.Millisecond, 1, state.TookOver, 46900*time.Millisecond + 3300*time.Millisecond},
		"while another frame is listened for":   {46300 * time.Millisecond, 2, state.Elsewhere, 47800 * time.Millisecond},
		"once, while another is listened for":   {46300 * time.Millisecond, 1, state.TookOver, 47800*time.Millisecond + 3300*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.ends(state.OK, "")
				s.do(s.primary.powerOff)
				peer := s.add("peer", 0x0d, "172.16.0.4/16")
				time.Sleep(time.Minute)
				for n := range test.times {
					s.at(test.at+time.Duration(n)*config.AnnounceEvery, func() { peer.announce("eth0", vipAddr, nil) })
				}
				if test.at > 46*time.Second {
					s.at(45*time.Second, func() { peer.announce("eth0", primaryAddr, nil) })
				}
				s.want(s.check(), test.want, "")
				if s.took != test.took {
					t.Errorf("the check took %s, want %s", s.took, test.took)
				}
			})
		})
	}
}

// TestAConflictForOneOfTwo costs only that one.
func TestAConflictForOneOfTwo(t *testing.T) {
	dbAddr := netip.MustParseAddr("172.16.0.5")
	for name, number := range map[string]byte{"with a lower MAC": 1, "with a higher MAC": 0x99} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.vips("172.16.0.1/32", "172.16.0.5/32")
				s.primary.powerOff()
				s.ends(state.TookOver, "")
				laptop := s.add("laptop", number, "172.16.0.9/16")
				s.do(func() { laptop.set("eth0", "172.16.0.5/32") })
				report := s.minute()
				s.want(report, state.Holding, "172.16.0.5 is also assigned at")
				if !s.standby.holds(vipAddr) || s.standby.holds(dbAddr) || !report.Changed {
					t.Errorf("held %v, changed %t", report.Held, report.Changed)
				}
				s.want(s.minute(), state.TakeoverFailed, "172.16.0.5 is missing")
			})
		})
	}
	t.Run("that is the primary: the rest is handed over", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.vips("172.16.0.1/32", "172.16.0.5/32")
			s.ends(state.OK, "")
			s.do(s.primary.powerOff)
			s.want(s.minute(), state.TookOver, "")
			s.do(func() { s.primary.boot(); s.primary.unset(dbAddr) })
			report := s.minute()
			s.want(report, state.Holding, "the primary has 172.16.0.1 again (02:00:00:00:00:02): it is released here, and 172.16.0.5 is handed over; nobody took 172.16.0.5 within 10s: assigned here again")
			if s.standby.holds(vipAddr) || !s.standby.holds(dbAddr) {
				t.Errorf("held %v", report.Held)
			}
		})
	})
}

// TestAMissingVirtualIPWaits while round two is no silence, and nobody is probed when
// it has a reply.
func TestAMissingVirtualIPWaits(t *testing.T) {
	for name, test := range map[string]struct {
		second func(s *scene) error // round two
		reason string
	}{
		"for a round in which this machine stalled": {func(*scene) error { return check.ErrStalled }, "could not be asked"},
		"for a primary that is back": {func(s *scene) error {
			s.do(func() { s.primary.boot(); s.primary.unset(vipAddr) })
			return nil
		}, "replies again"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.vips("172.16.0.1/32", "172.16.0.5/32")
				s.primary.powerOff()
				s.ends(state.TookOver, "")
				s.do(func() { s.standby.unset(netip.MustParseAddr("172.16.0.5")) })
				s.forget()
				s.standby.fails = func(call string) error {
					name, again, _ := strings.Cut(call, " #")
					if n, _ := strconv.Atoi(again); name == "ping 172.16.0.2" && n > 1 {
						return test.second(s)
					}
					return nil
				}
				report := s.minute()
				s.want(report, state.Holding, test.reason)
				probes := len(s.calls("ask for 172.16.0.5 on eth0, probe"))
				if len(s.calls("raise 1")) > 0 || test.reason == "replies again" && probes > 1 {
					t.Errorf("%s, with %d probes", report.Reason, probes)
				}
			})
		})
	}
}

// TestAConflictForBothOfTwo: both are released, whichever is heard first.
func TestAConflictForBothOfTwo(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		peer := s.add("peer", 1, "172.16.0.9/16")
		s.do(func() {
			peer.set("eth0", "172.16.0.1/32")
			peer.set("eth0", "172.16.0.5/32")
		})
		s.standby.fails = func(call string) error {
			if strings.HasPrefix(call, "ask for 172.16.0.5") {
				time.Sleep(5 * time.Millisecond)
			}
			return nil
		}
		if report := s.minute(); report.Outcome != state.Released || len(report.Held) > 0 {
			t.Errorf("%s, held %v", report.Outcome, report.Held)
		}
	})
}

// TestAThirdMachineDoesNotHideThePrimary: it is yielded to at once, although another
// machine with a higher MAC claims the address first.
func TestAThirdMachineDoesNotHideThePrimary(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").MAC = mac(1)
		s.standby.base = copyNICs(s.standby.nics)
		s.ends(state.OK, "")
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		laptop := s.add("laptop", 9, "172.16.0.9/16")
		s.do(func() { laptop.set("eth0", "172.16.0.1/32"); s.primary.boot() })
		s.standby.fails = func(call string) error {
			if strings.HasPrefix(call, "ask for 172.16.0.1") { // and it announces itself before each reply
				s.do(func() { laptop.announce("eth0", vipAddr, nil) })
			}
			return nil
		}
		report := s.minute()
		s.want(report, state.Released, "the primary has 172.16.0.1 again (02:00:00:00:00:02): it is released here")
		if took := report.Duration.Duration(); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestWhatStaysKeepsItsLease, in a check that releases the other one.
func TestWhatStaysKeepsItsLease(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.settings.Lease = 3 * time.Minute
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		laptop := s.add("laptop", 1, "172.16.0.9/16")
		s.do(func() { laptop.set("eth0", "172.16.0.5/32") })
		s.forget()
		s.want(s.minute(), state.Holding, "172.16.0.5 is also assigned at")
		if got := s.calls("renew"); !slices.Equal(got, []string{"renew 172.16.0.1/32 for 3m0s"}) {
			t.Errorf("renewed: %q", got)
		}
	})
}

// TestThePrimaryIsYieldedToAtOnce, whose MAC is known: it runs nothing that yields.
func TestThePrimaryIsYieldedToAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").MAC = mac(1) // lower than the primary's
		s.standby.base = copyNICs(s.standby.nics)
		s.ends(state.OK, "")
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		s.do(s.primary.boot)
		report := s.minute()
		s.want(report, state.Released, "the primary has 172.16.0.1 again (02:00:00:00:00:02): it is released here")
		if took := report.Duration.Duration(); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestBothReleaseForALowerMAC: who released at once asks on, and assigns again what
// the other released too.
func TestBothReleaseForALowerMAC(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		peer := s.add("peer", 1, "172.16.0.9/16")
		s.do(func() { peer.set("eth0", "172.16.0.1/32") })
		s.standby.raising = nil
		s.at(0, func() {})
		time.AfterFunc(14*time.Second, func() { s.do(func() { peer.unset(vipAddr) }) }) // in the moment in which it is released here
		report := s.minute()
		if !s.standby.holds(vipAddr) {
			t.Errorf("it is unassigned: %s, %s", report.Outcome, report.Reason)
		}
	})
}

// TestAskedFromTheVirtualIP: routers that ignore gratuitous ARP learn from an
// ordinary request where it is, and the witness shows whether it can be reached.
func TestAskedFromTheVirtualIP(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		report := s.ends(state.TookOver, "")
		if got := s.calls("ask for 172.16.0.254 on eth0, from 172.16.0.1"); len(got) != 3 {
			t.Errorf("with three announcements the gateway is asked %d times", len(got))
		}
		if strings.Contains(report.Reason, "no witness replies") || len(s.standby.record(t, "web").Unreached) > 0 {
			t.Error(report.Reason)
		}
	})
	play(t, func(t *testing.T, s *scene) { // a switch with ARP inspection
		s.primary.powerOff()
		s.gateway.deafTo = vipAddr
		s.ends(state.TookOver, "no witness replies to 172.16.0.1: clients may not reach it (ARP inspection at the switch, or a static entry?)")
		if got := s.standby.record(t, "web").Unreached; len(got) != 1 || got[0] != vipAddr {
			t.Errorf("the record says %v", got)
		}
		if body := oneLine(s.standby.mailbox[0].Body); !strings.Contains(body, "has taken over 172.16.0.1, but clients may not reach ") {
			t.Errorf("the mail does not say so:\n%s", body)
		}
		s.ends(state.Holding, "")
		if got := s.standby.record(t, "web").Unreached; len(got) != 1 {
			t.Errorf("after the next check, which showed nothing else, the record says %v", got)
		}
		s.gateway.deafTo = netip.Addr{}
		s.ends(state.Holding, "")
		if got := s.standby.record(t, "web").Unreached; len(got) != 0 {
			t.Errorf("a witness replies to it, and the record says %v", got)
		}
	})
}

// TestAMissingVirtualIP is added after two silent rounds, as all would be taken.
func TestAMissingVirtualIP(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.do(func() { s.standby.unset(netip.MustParseAddr("172.16.0.5")) })
		report := s.minute()
		s.want(report, state.Holding, "assigning 172.16.0.5 as well")
		if len(report.Rounds) != 2 || s.took < s.settings.RetryWait+2*s.settings.Round() {
			t.Errorf("%d rounds in %s", len(report.Rounds), s.took)
		}
	})
}
