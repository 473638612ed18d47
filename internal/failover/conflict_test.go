package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// TestARivalThatCannotBeGivenWayTo: what was just raised cannot be lowered;
// the next run goes on with that.
func TestARivalThatCannotBeGivenWayTo(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		peer := s.add("peer", 1, "172.16.0.9/16")
		s.standby.raising = func(context.Context, vip.Alias) error {
			s.do(func() { peer.set("eth0", "172.16.0.1/32") })
			return nil
		}
		s.standby.fails = failing(errors.New("exit code 2"), "lower")
		s.ends(state.ReleaseFailed, "172.16.0.1 was taken, but 02:00:00:00:00:01 has it as well: it is released here; exit code 2")
		s.standby.fails = nil
		s.want(s.minute(), state.Released, "an interrupted release is finished")
		if s.standby.holds(vipAddr) || s.standby.record(t, "web").Role != state.Standby {
			t.Errorf("here: %t, the record says %s", s.standby.holds(vipAddr), s.standby.record(t, "web").Role)
		}
	})
}

// TestASignalWhileARivalIsWaitedFor changes nothing before the decision, and
// does not cut short what follows a takeover.
func TestASignalWhileARivalIsWaitedFor(t *testing.T) {
	signal := errors.New("terminated")
	play(t, func(t *testing.T, s *scene) { // holding
		s.primary.powerOff()
		s.standby.set("eth0", "172.16.0.1/32")
		s.add("peer", 9, "172.16.0.1/16")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(15*time.Second, func() { cancel(signal) })
		_, _, err := s.standby.run(ctx, s.settings, false)
		if err != signal || !s.standby.holds(vipAddr) || time.Since(s.began) != 15*time.Second {
			t.Errorf("error %v after %v, here %t", err, time.Since(s.began), s.standby.holds(vipAddr))
		}
		s.quiet()
	})
	play(t, func(t *testing.T, s *scene) { // after a takeover
		s.primary.powerOff()
		peer := s.add("peer", 9, "172.16.0.9/16")
		s.standby.raising = func(context.Context, vip.Alias) error {
			s.do(func() { peer.set("eth0", "172.16.0.1/32") })
			return nil
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Second, func() { cancel(signal) })
		report, _, err := s.standby.run(ctx, s.settings, false)
		must(t, err)
		s.want(report, state.Blocked, "172.16.0.1 was taken, but 02:00:00:00:00:09 has it as well")
		s.quiet()
		if s.standby.holds(vipAddr) || len(s.standby.mailbox) > 0 || len(s.standby.record(t, "web").Outbox) != 1 {
			t.Errorf("here: %t, messages %q", s.standby.holds(vipAddr), s.subjects())
		}
	})
}

// TestWhoGoesFirst: who probes with a lower MAC, and the primary whatever its
// MAC is.
func TestWhoGoesFirst(t *testing.T) {
	// probe lets a machine probe as pingover does, at a moment.
	probe := func(s *scene, o *machine, at time.Duration) {
		time.AfterFunc(at, func() { must(s.t, (&listener{m: o, link: "eth0"}).Ask(vipAddr, emptyAddr)) })
	}
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").MAC = mac(1)
		s.ends(state.OK, "") // the primary's MAC is known from now on
		s.primary.unset(vipAddr)
		s.primary.noPing, s.primary.noARP = true, true
		probe(s, s.primary, 40*time.Second)
		s.ends(state.TookOver, "")
		if s.took != 46*time.Second+config.YieldPatience+3*config.AnnounceEvery {
			t.Errorf("it took %v: the primary was not waited for", s.took)
		}
	})
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.nic("eth0").MAC = mac(5)
		probe(s, s.add("second", 4, "172.16.0.4/16"), 40*time.Second)
		probe(s, s.add("third", 3, "172.16.0.33/16"), 48*time.Second)
		s.ends(state.Blocked, "172.16.0.2 does not reply, but 02:00:00:00:00:03 is about to take the virtual IPs over")
	})
}

// TestHolderThatNoProbeReaches: switches that suppress ARP, as in an EVPN fabric, pass
// ordinary requests on, and no probes.
func TestHolderThatNoProbeReaches(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "172.16.0.1" // a symmetrical pair
		s.primary.noPing, s.primary.noProbes = true, true
		s.ends(state.Elsewhere, "172.16.0.1 does not reply, and another standby serves 172.16.0.1")
		if got := s.calls("raise 1"); got != nil {
			t.Errorf("it was assigned: %v", got)
		}
	})
}

// TestManyVirtualIPsWithARPRate: the last questions are not so many that the first of
// them is too old to act upon when the last has been sent.
func TestManyVirtualIPsWithARPRate(t *testing.T) {
	for _, n := range []int{1, 5, 6, 11} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.ARPRate, s.standby.pace = 5, time.Second/5
				var vips []string
				for i := range n {
					vips = append(vips, fmt.Sprintf("172.16.1.%d/32", i+1))
				}
				s.vips(vips...)
				s.primary.powerOff()
				s.ends(state.TookOver, "")
			})
		})
	}
}

// TestWithoutDuplicateCheck nobody is asked by ARP while holding.
func TestWithoutDuplicateCheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.settings.DuplicateCheck = false
		s.standby.set("eth0", "172.16.0.1/32")
		s.add("peer", 1, "172.16.0.1/16")
		s.ends(state.Holding, "")
		if got := s.calls("ask for 172.16.0.1 "); got != nil {
			t.Errorf("asked: %v", got)
		}
	})
}

// TestARivalWhilePaused: it is told, and nothing is announced.
func TestARivalWhilePaused(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.set("eth0", "172.16.0.1/32")
		s.pause(time.Hour)
		s.ends(state.Holding, "paused, holding 172.16.0.1")
		s.add("peer", 1, "172.16.0.1/16")
		s.forget()
		s.want(s.minute(), state.Blocked, "paused, holding 172.16.0.1 although 02:00:00:00:00:01 has it as well")
		if got := s.calls("announce", "lower"); got != nil {
			t.Errorf("it did %v", got)
		}
	})
}

// TestTwoStandbysThatCannotSeeEachOther both take it, and when they can, one
// of them yields and stays away.
func TestTwoStandbysThatCannotSeeEachOther(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		second := s.add("second", 4, "172.16.0.4/16")
		second.gateway[false] = gatewayAddr
		second.dir = t.TempDir()
		s.primary.powerOff()
		s.cut = func(a, b *machine) bool { return a != s.gateway && b != s.gateway }
		both := func() (one, two state.Outcome) {
			time.Sleep(time.Minute - time.Since(s.began)%time.Minute)
			done := make(chan state.Outcome)
			go func() {
				report, _, err := second.run(t.Context(), usual(), false)
				if err != nil {
					t.Error(err)
				}
				done <- report.Outcome
			}()
			report, err := s.try()
			must(t, err)
			two = <-done
			s.quiet()
			return report.Outcome, two
		}
		for _, want := range [][2]state.Outcome{
			{state.TookOver, state.TookOver},
			{state.Holding, state.Holding},
		} {
			if one, two := both(); one != want[0] || two != want[1] {
				t.Errorf("isolated from each other: %s and %s, want %v", one, two, want)
			}
		}
		s.do(func() { s.cut = nil })
		one, two := both()
		if one != state.Holding || two != state.Released {
			t.Errorf("seeing each other again: %s and %s", one, two)
		}
		one, two = both()
		if one != state.Holding || two != state.Elsewhere {
			t.Errorf("a minute later: %s and %s", one, two)
		}
		if !s.standby.holds(vipAddr) || second.holds(vipAddr) {
			t.Errorf("held by the lower MAC: %t, by the higher: %t", s.standby.holds(vipAddr), second.holds(vipAddr))
		}
	})
}

// TestTheWorldAsItIs: what can be said of it on any machine.
func TestTheWorldAsItIs(t *testing.T) {
	set := usual()
	set.VIPs = nil
	set.Mail.Via = config.Via{Scheme: "sendmail"}
	w, err := Real(set)
	must(t, err)
	if id, err := w.BootID(); err != nil || len(id) != 36 {
		t.Errorf("boot id %q: %v", id, err)
	}
	if up, err := w.Uptime(); err != nil || up <= 0 {
		t.Errorf("uptime %v: %v", up, err)
	}
	set.Mail.CAFile = "/none/ca.pem"
	w, err = Real(set)
	must(t, err)
	const text = `mail-ca "/none/ca.pem": cannot be read: no such file or directory`
	if left, err := w.Deliver(t.Context(), []state.Message{{}}); len(left) != 1 || err == nil || err.Error() != text {
		t.Errorf("mail-ca that is not there: %d messages left, %v", len(left), err)
	}
	set = usual()
	set.Tool = "netsh"
	if _, err := Real(set); err == nil || err.Error() != `tool "netsh": must be auto, ip or ifconfig` {
		t.Errorf("tool that does not exist: %v", err)
	}
}

// TestARunThatFinishesAReleaseOfAPart says what has gone, and yields what is in
// conflict meanwhile.
func TestARunThatFinishesAReleaseOfAPart(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32", "172.16.0.7/32")
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		rec := s.standby.record(t, "web") // a run was killed when it had removed one
		rec.Intend(state.Releasing, state.Change{Event: "20260301T030405Z-AAAAAAAA", Outcome: state.Released, Reason: "172.16.0.5 is in conflict"})
		rec.Releasing = []netip.Addr{netip.MustParseAddr("172.16.0.5")}
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.do(func() { s.standby.unset(netip.MustParseAddr("172.16.0.5")) })
		s.add("peer", 1, "172.16.0.9/16", "172.16.0.1/32")
		s.standby.mailbox = nil
		report := s.minute()
		if len(report.Held) != 1 || report.Held[0].String() != "172.16.0.7/32" {
			t.Errorf("%s (%s), holding %v", report.Outcome, report.Reason, report.Held)
		}
		s.wantSubjects("[pingover] web: HOSTNAME released 172.16.0.1 and 172.16.0.5")
	})
}
