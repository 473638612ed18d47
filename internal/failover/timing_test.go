package failover

import (
	"testing"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

// TestHowLongACheckTakes: as long as the settings say, and not a moment more.
func TestHowLongACheckTakes(t *testing.T) {
	const (
		rtt   = 2 * latency
		round = 13 * time.Second
		wait  = 20 * time.Second
		tells = 3 * config.AnnounceEvery
	)
	held := func(s *scene) { s.standby.set("eth0", "172.16.0.1/32") }
	takenBy := func(s *scene, number byte, until time.Duration) {
		held(s)
		s.primary.powerOff()
		peer := s.add("peer", number, "172.16.0.9/16", "172.16.0.1/32")
		if until > 0 {
			s.at(until, func() { peer.unset(vipAddr) })
		}
	}
	// probes lets a machine probe for the virtual IP at a moment.
	probes := func(s *scene, number byte, at time.Duration) *machine {
		o := s.add("other", number, "172.16.0.4/16")
		e := &listener{m: o, link: "eth0"}
		time.AfterFunc(at, func() { must(s.t, e.Ask(vipAddr, emptyAddr)) })
		return o
	}
	for _, test := range []struct {
		name    string
		change  func(s *scene)
		outcome state.Outcome
		want    time.Duration
	}{
		{"healthy", func(*scene) {}, state.OK, rtt},
		{"healthy, and the virtual IP is not served", func(s *scene) { s.primary.unset(vipAddr) }, state.OK, 300*time.Millisecond + serveGuard},
		{"healthy, and the virtual IP answers ARP only", func(s *scene) {
			s.primary.unset(vipAddr)
			s.add("second", 4, "172.16.0.4/16", "172.16.0.1/32").noPing = true
		}, state.OK, 300*time.Millisecond + rtt},
		{"healthy in the second round", func(s *scene) {
			s.primary.powerOff()
			s.at(20*time.Second, s.primary.boot)
		}, state.OK, round + wait + 2*rtt},
		{"healthy in the middle of the second round", func(s *scene) {
			s.primary.powerOff()
			s.at(40*time.Second, s.primary.boot)
		}, state.OK, round + wait + 9*time.Second + 2*rtt},
		{"no carrier", func(s *scene) { s.standby.nic("eth0").Carrier = false }, state.Unknown, 0},
		{"no route", func(s *scene) {
			s.settings.Host = "192.0.2.9"
			clear(s.standby.gateway)
		}, state.Unknown, 0},
		{"carrier lost in the first round", func(s *scene) {
			s.at(5*time.Second, func() { s.standby.nic("eth0").Carrier = false })
		}, state.OK, rtt},
		{"carrier lost in the first round, from a silent primary", func(s *scene) {
			s.primary.powerOff()
			s.at(5*time.Second, func() { s.standby.nic("eth0").Carrier = false })
		}, state.Unknown, round},
		{"carrier lost in the wait", func(s *scene) {
			s.primary.powerOff()
			s.at(20*time.Second, func() { s.standby.nic("eth0").Carrier = false })
		}, state.Unknown, round + wait},
		{"interface down and up again in the second round", func(s *scene) {
			s.primary.powerOff()
			s.at(40*time.Second, func() { s.standby.down("eth0") })
			s.at(41*time.Second, func() { s.standby.nic("eth0").Up, s.standby.nic("eth0").Carrier = true, true })
		}, state.Unknown, round + wait + round},
		{"blocked", func(s *scene) { s.primary.noPing = true }, state.Blocked, round + wait + round},
		{"blocked by a silent witness", func(s *scene) { s.primary.powerOff(); s.gateway.powerOff() }, state.Blocked, round + wait + round},
		{"takeover", func(s *scene) { s.primary.powerOff() }, state.TookOver, round + wait + round + tells},
		{"takeover, one announcement", func(s *scene) {
			s.primary.powerOff()
			s.settings.Announce = 1
		}, state.TookOver, round + wait + round + config.AnnounceEvery},
		{"takeover, no wait and one ping of 10ms: the guards ask six times, 20ms apart", func(s *scene) {
			s.primary.powerOff()
			s.settings.Count, s.settings.Timeout, s.settings.RetryWait = 1, 10*time.Millisecond, 0
		}, state.TookOver, 10*time.Millisecond + leastGuard + tells},
		{"takeover after a lower MAC that probed, and took nothing", func(s *scene) {
			s.primary.powerOff()
			probes(s, 1, 40*time.Second)
		}, state.TookOver, round + wait + round + config.YieldPatience + tells},
		{"blocked after a lower MAC that probed, and took it a second later", func(s *scene) {
			s.primary.powerOff()
			o := probes(s, 1, 40*time.Second)
			s.at(47*time.Second, func() {
				o.set("eth0", "172.16.0.1/32")
				o.announce("eth0", vipAddr, nil)
			})
		}, state.Elsewhere, round + wait + round + time.Second},
		{"a higher MAC that probes makes nobody wait", func(s *scene) {
			s.primary.powerOff()
			probes(s, 9, 40*time.Second)
		}, state.TookOver, round + wait + round + tells},
		{"nor does one that had the virtual IP, where that is the host", func(s *scene) {
			s.settings.Host = "172.16.0.1"
			s.primary.powerOff()
			o := probes(s, 9, 40*time.Second)
			o.set("eth0", "172.16.0.1/32")
			s.ends(state.OK, "")
			s.do(func() { o.unset(vipAddr) })
		}, state.TookOver, round + wait + round + tells},
		{"down, and nothing to raise", func(s *scene) { s.primary.powerOff(); s.settings.VIPs = nil }, state.Down, round + wait + round},
		{"holding, primary up", func(s *scene) { held(s); s.primary.unset(vipAddr) }, state.Holding, holdGuard},
		{"holding, primary down", func(s *scene) { held(s); s.primary.powerOff() }, state.Holding, round},
		{"holding, no carrier", func(s *scene) { held(s); s.standby.nic("eth0").Carrier = false }, state.Holding, holdGuard},
		{"holding, a lower MAC has it too", func(s *scene) { takenBy(s, 1, 0) }, state.Released, round + rtt + inFlight + rtt + 2*config.AnnounceEvery},
		{"holding, a lower MAC had it a moment ago", func(s *scene) { takenBy(s, 1, 5*time.Second) }, state.Holding, round + 900*time.Millisecond},
		{"holding, a higher MAC yields", func(s *scene) { takenBy(s, 9, 20*time.Second) }, state.Holding, round + config.PeerPatience + 900*time.Millisecond},
		{"holding, a higher MAC stays", func(s *scene) { takenBy(s, 9, 0) }, state.Released, round + config.PeerPatience + peerRemoves + 2*rtt + inFlight + 2*config.AnnounceEvery},
		{"paused and holding, a higher MAC has it too", func(s *scene) { takenBy(s, 9, 0); s.pause(time.Hour) }, state.Blocked, round},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.change(s)
				report := s.ends(test.outcome, "")
				want := test.want
				if s.standby.record(t, "web").Rehearsed.Equal(report.Time) {
					want += rtt // the first check asks the witness, too
				}
				if s.took != want {
					t.Errorf("the check took %v, want %v", s.took, want)
				}
				if report.Duration != state.Milliseconds(want.Milliseconds()) {
					t.Errorf("the report says %d ms, want %v", report.Duration, want)
				}
			})
		})
	}
}
