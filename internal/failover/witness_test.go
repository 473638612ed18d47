package failover

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/state"
)

// TestWitness: one of them has to answer at the start and at the end of the
// second round, from 33s to 46s.
func TestWitness(t *testing.T) {
	const (
		silent = "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network"
		never  = "172.16.0.2 does not reply, but there is no witness (no default gateway, or it is the primary itself)"
		taken  = "172.16.0.2 does not reply, and 172.16.0.1 is not in use"
	)
	by := func(address, how string) state.Witness {
		return state.Witness{Address: address, Answers: true, By: &how}
	}
	no := func(address string) state.Witness { return state.Witness{Address: address} }
	asked := func(s *scene, addrs ...string) {
		s.settings.Witness = config.Witness{}
		for _, a := range addrs {
			s.settings.Witness.Addresses = append(s.settings.Witness.Addresses, netip.MustParseAddr(a))
		}
	}
	healthy := func(s *scene) {
		s.ends(state.OK, "")
		time.Sleep(time.Minute - time.Since(s.began))
	}
	for _, test := range []struct {
		name    string
		change  func(s *scene)
		outcome state.Outcome
		reason  string
		want    []state.Witness
	}{
		{"answers", func(*scene) {}, state.TookOver, taken, []state.Witness{by("172.16.0.254", "ping")}},
		{
			"answers at the start only",
			func(s *scene) { s.at(40*time.Second, s.gateway.powerOff) },
			state.Blocked, silent,
			[]state.Witness{no("172.16.0.254")},
		},
		{
			"answers at the end only",
			func(s *scene) {
				s.gateway.powerOff()
				s.at(40*time.Second, s.gateway.boot)
			},
			state.Blocked, silent,
			[]state.Witness{no("172.16.0.254")},
		},
		{
			"is silent in between",
			func(s *scene) {
				s.at(37*time.Second, s.gateway.powerOff)
				s.at(43*time.Second, s.gateway.boot)
			},
			state.TookOver, taken,
			[]state.Witness{by("172.16.0.254", "ping")},
		},
		{
			"answers ARP, and no pings",
			func(s *scene) { s.gateway.noPing = true },
			state.TookOver, taken,
			[]state.Witness{by("172.16.0.254", "arp")},
		},
		{
			"answers ARP at the start only",
			func(s *scene) {
				s.gateway.noPing = true
				s.at(40*time.Second, s.gateway.powerOff)
			},
			state.Blocked, silent,
			[]state.Witness{no("172.16.0.254")},
		},
		{
			"is behind the gateway",
			func(s *scene) {
				s.add("far", 20).plug("eth1", "far", 21, "192.0.2.1/24")
				asked(s, "192.0.2.1")
			},
			state.TookOver, taken,
			[]state.Witness{by("192.0.2.1", "ping")},
		},
		{
			"is behind a gateway that drops pings: no ARP speaks for it",
			func(s *scene) {
				far := s.add("far", 20)
				far.plug("eth1", "far", 21, "192.0.2.1/24")
				far.noPing = true
				asked(s, "192.0.2.1")
			},
			state.Blocked, silent,
			[]state.Witness{no("192.0.2.1")},
		},
		{
			"one of two is enough",
			func(s *scene) { asked(s, "172.16.0.77", "172.16.0.254") },
			state.TookOver, taken,
			[]state.Witness{no("172.16.0.77"), by("172.16.0.254", "ping")},
		},
		{
			"one at the start and another at the end are not enough",
			func(s *scene) {
				asked(s, "172.16.0.77", "172.16.0.254")
				other := s.add("other", 77, "172.16.0.77/16")
				other.powerOff()
				s.at(40*time.Second, func() { other.boot(); s.gateway.powerOff() })
			},
			state.Blocked, silent,
			[]state.Witness{no("172.16.0.77"), no("172.16.0.254")},
		},
		{"none is wanted", func(s *scene) { asked(s); s.gateway.powerOff() }, state.TookOver, taken, []state.Witness{}},
		{"auto, and there is no gateway", func(s *scene) { clear(s.standby.gateway) }, state.Blocked, never, []state.Witness{}},
		{
			"auto, and the gateway is the primary",
			func(s *scene) { s.standby.gateway[false] = primaryAddr },
			state.Blocked, never,
			[]state.Witness{},
		},
		{
			"auto, and the gateway is the virtual IP",
			func(s *scene) { s.standby.gateway[false] = vipAddr },
			state.Blocked, never,
			[]state.Witness{},
		},
		{
			"auto, and the gateway is another address of the primary",
			func(s *scene) {
				s.primary.off = false
				healthy(s)
				s.standby.gateway[false] = netip.MustParseAddr("172.16.0.222")
				s.standby.neighbours[s.standby.gateway[false]] = s.primary.nic("eth0").MAC
				must(s.t, state.Dir(s.standby.dir).Save(forgetGateways(s.standby.record(s.t, "web")), false))
				s.primary.powerOff()
			},
			state.Blocked, never,
			[]state.Witness{},
		},
		{
			"auto, and the route has gone since: the last gateway counts",
			func(s *scene) {
				s.primary.off = false
				healthy(s)
				clear(s.standby.gateway)
				s.primary.powerOff()
			},
			state.TookOver, taken,
			[]state.Witness{by("172.16.0.254", "ping")},
		},
		{
			"auto, and the gateway has changed since",
			func(s *scene) {
				s.primary.off = false
				healthy(s)
				s.add("new", 253, "172.16.0.253/16")
				s.standby.gateway[false] = netip.MustParseAddr("172.16.0.253")
				s.gateway.powerOff()
				s.primary.powerOff()
			},
			state.TookOver, taken,
			[]state.Witness{by("172.16.0.253", "ping")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				test.change(s)
				report := s.ends(test.outcome, test.reason)
				if diff := cmp.Diff(test.want, report.Witnesses); diff != "" {
					t.Errorf("witnesses (-want +got):\n%s", diff)
				}
				if len(s.calls("raise 1")) > 0 != (test.outcome == state.TookOver) {
					t.Errorf("raised: %v", s.calls("raise 1"))
				}
			})
		})
	}
}

func forgetGateways(rec *state.Record) *state.Record {
	rec.Gateways = nil
	return rec
}

// TestNoWitnessIsToldLoudlyOnce: it is in cron's mail, and not in every
// minute.
func TestNoWitnessIsToldLoudlyOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		clear(s.standby.gateway)
		const text = "no witness: this machine has no default gateway, or it is the primary itself, so takeovers are blocked; set witness"
		for _, want := range []string{"! " + text, text, text} {
			s.want(s.minute(), state.OK, "")
			if diff := cmp.Diff([]string{want}, s.notes()); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		}
	})
}

// TestNothingToRaise: without a virtual IP a silent witness means that
// nothing is known.
func TestNothingToRaise(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(s *scene)
		outcome state.Outcome
		reason  string
	}{
		{"witness answers", func(*scene) {}, state.Down, "172.16.0.2 does not reply, and there is no virtual IP to take over"},
		{"witness silent", func(s *scene) { s.gateway.powerOff() }, state.Unknown, "no witness replies either"},
		{"no witness known", func(s *scene) { clear(s.standby.gateway) }, state.Down, "there is no virtual IP to take over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				s.settings.VIPs = nil
				test.change(s)
				s.ends(test.outcome, test.reason)
				if got := s.calls("listen", "ask", "may raise", "raise"); got != nil {
					t.Errorf("guards of nothing: %v", got)
				}
			})
		})
	}
}
