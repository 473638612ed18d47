package failover

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/state"
)

// twoLinks is a scene with one link-local virtual IP on each of two links: they are
// two addresses.
func twoLinks(s *scene) {
	s.settings.VIPs = nil
	for _, link := range []string{"eth0", "eth1"} {
		s.settings.VIPs = append(s.settings.VIPs, config.VIP{Prefix: netip.MustParsePrefix("fe80::1/128"), Interface: link})
	}
	s.primary.nics, s.standby.nics = s.primary.nics[:2], s.standby.nics[:2]
	s.primary.plug("eth1", "lan2", 12)
	s.standby.plug("eth1", "lan2", 13)
	for _, link := range []string{"eth0", "eth1"} {
		s.primary.set(link, "fe80::2/64")
		s.primary.set(link, "fe80::1/128")
		s.standby.set(link, "fe80::3/64")
	}
	s.primary.unset(vipAddr)
}

// on are the interfaces of a machine that have an address.
func on(m *machine, address string) (links []string) {
	for _, p := range m.snapshot().Assignments(netip.MustParseAddr(address)) {
		links = append(links, p.Interface)
	}
	return links
}

func TestLinkLocalVirtualIPsOnTwoLinksAreTwoAddresses(t *testing.T) {
	peer := func(s *scene, number byte) *machine {
		m := s.add("peer", number)
		m.nics = m.nics[:1]
		m.plug("eth0", "lan", number+100)
		m.plug("eth1", "lan2", number, "fe80::9/64", "fe80::1/128")
		return m
	}
	for name, test := range map[string]struct {
		play    func(s *scene) Report
		outcome state.Outcome
		reason  string
		held    []string
	}{
		"both are taken over": {
			func(s *scene) Report { s.primary.powerOff(); return s.check() },
			state.TookOver, "172.16.0.2 does not reply, and fe80::1%eth0, fe80::1%eth1 are not in use; 172.16.0.2 was never seen up from here",
			[]string{"eth0", "eth1"},
		},
		"neither while one of them is in use": {
			func(s *scene) Report { s.primary.powerOff(); peer(s, 9); return s.check() },
			state.Blocked, "172.16.0.2 does not reply, but fe80::1%eth1 is in use", nil,
		},
		"one that is not served is named": {
			func(s *scene) Report {
				s.primary.nic("eth1").Addresses = nil
				s.settings.Rise = 1
				return s.check()
			},
			state.Unserved, "172.16.0.2 replies, but no machine has fe80::1%eth1", nil,
		},
		"the one that is missing is added": {
			func(s *scene) Report {
				s.primary.powerOff()
				s.want(s.check(), state.TookOver, "")
				s.do(func() {
					l := s.standby.nic("eth1")
					l.Addresses = l.Addresses[:1]
				})
				return s.check()
			},
			state.Holding, "holding fe80::1%eth0; 172.16.0.2 does not reply; assigning fe80::1%eth1 as well",
			[]string{"eth0", "eth1"},
		},
		"only the one in conflict is released": {
			func(s *scene) Report {
				s.primary.powerOff()
				s.want(s.check(), state.TookOver, "")
				peer(s, 1)
				return s.check()
			},
			state.Holding, "fe80::1%eth1 is also assigned at 02:00:00:00:00:01, another machine: it is released here; holding fe80::1%eth0",
			[]string{"eth0"},
		},
		"both are released manually": {
			func(s *scene) Report {
				s.primary.powerOff()
				s.want(s.check(), state.TookOver, "")
				report, err := ReleaseIn(s.t.Context(), s.standby.env(), s.settings, Options{Force: true})
				must(s.t, err)
				return report
			},
			state.Released, "fe80::1%eth0, fe80::1%eth1 are released manually, with --force", nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				twoLinks(s)
				report := test.play(s)
				s.want(report, test.outcome, test.reason)
				held := on(s.standby, "fe80::1")
				if diff := cmp.Diff(test.held, held); diff != "" {
					t.Errorf("held on (-want +got)\n%s", diff)
				}
				var recorded []string
				for _, a := range s.standby.record(t, "web").VIPs {
					if a.Raised {
						recorded = append(recorded, a.Interface)
					}
				}
				if !slices.Equal(recorded, test.held) {
					t.Errorf("recorded on %v, want %v", recorded, test.held)
				}
			})
		})
	}
}
