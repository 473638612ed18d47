package failover

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// lost is a primary that died, and came back without its virtual IP: the
// standby holds it.
func (s *scene) lost() {
	s.t.Helper()
	s.primary.base[1].Addresses = s.primary.base[1].Addresses[:1]
	s.do(s.primary.powerOff)
	s.ends(state.TookOver, "")
	s.do(s.primary.boot)
	s.forget()
}

// takesIt makes the primary raise the virtual IP as soon as it is free, as a
// cluster script over there would.
func (s *scene) takesIt() {
	s.standby.tap = nil
	s.primary.tap = func(m *machine, target, _ netip.Addr) {
		if m == s.standby && target == vipAddr && !s.standby.holds(vipAddr) && !s.primary.holds(vipAddr) {
			s.primary.set("eth0", "172.16.0.1/32")
		}
	}
}

// killedInAHandOver is what a run leaves that was killed when it had written down
// that it hands the virtual IP over; whether it had lowered it is the test's
// affair.
func (s *scene) killedInAHandOver() {
	s.t.Helper()
	rec := s.standby.record(s.t, "web")
	rec.Intend(state.Releasing, state.Change{Event: "E", Outcome: state.Released, Reason: "handed over"})
	rec.Offered = []netip.Addr{vipAddr}
	must(s.t, state.Dir(s.standby.dir).Save(rec, false))
}

func (s *scene) wantCalls(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.calls("raise 1", "lower ", "announce ", "hook ")); diff != "" {
		s.t.Errorf("what was done (-want +got):\n%s", diff)
	}
}

func TestFailback(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.takesIt()
		s.minute()
		s.minute()
		s.forget()
		s.want(s.minute(), state.Released, "172.16.0.2 has replied in 3 checks in a row: 172.16.0.1 is handed over")
		s.wantCalls("lower 172.16.0.1", "announce 172.16.0.1 on eth0", "announce 172.16.0.1 on eth0 #2", "announce 172.16.0.1 on eth0 #3")
		if s.standby.holds(vipAddr) || !s.primary.holds(vipAddr) {
			t.Error("it was not handed over")
		}
		var told []string
		for _, e := range s.events {
			if a, ok := e.(Announced); ok {
				told = append(told, a.MAC)
			}
		}
		if mac := "02:00:00:00:00:02"; !slices.Equal(told, []string{mac, mac, mac}) {
			t.Errorf("announced at %q, not at the primary's MAC", told)
		}
		s.want(s.minute(), state.OK, "172.16.0.2 replies")
		want := []string{
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1",
			"[pingover] web: HOSTNAME released 172.16.0.1",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
	})
}

// Of a hand-over of two, the address that nobody took once waited for all the
// announcements of the other: 32 s with announce 20.
func TestTheRestOfAHandOverDoesNotWaitForAnnouncements(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback, s.settings.Announce = true, 20
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.lost()
		s.takesIt() // 172.16.0.1 alone
		s.minute()
		s.minute()
		s.forget()
		s.want(s.minute(), state.Holding, "172.16.0.1, 172.16.0.5 are handed over; nobody took 172.16.0.5 within 10s: assigned here again")
		at := map[string]time.Duration{}
		for _, c := range s.standby.calls {
			at[c.What] = c.At
		}
		lowered, raised, last := at["lower 172.16.0.5"], at["raise 172.16.0.5/32 on eth0"], at["announce 172.16.0.1 on eth0 #20"]
		if unassigned := raised - lowered; lowered == 0 || raised == 0 || unassigned > 11*time.Second {
			t.Errorf("172.16.0.5 was unassigned for %s", unassigned)
		}
		if last < raised {
			t.Errorf("172.16.0.1 was announced at last %s after the start, and 172.16.0.5 assigned again at %s", last, raised)
		}
	})
}

func TestFailbackThatNobodyTakesIsTriedOnce(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.minute()
		s.forget()
		const reason = "172.16.0.2 has replied in 3 checks in a row: 172.16.0.1 is handed over; nobody took 172.16.0.1 within 10s: assigned here again"
		report := s.minute()
		s.want(report, state.Holding, reason)
		s.wantCalls(
			"lower 172.16.0.1", "raise 172.16.0.1/32 on eth0",
			"announce 172.16.0.1 on eth0", "announce 172.16.0.1 on eth0 #2", "announce 172.16.0.1 on eth0 #3",
		)
		s.forget()
		for range 5 {
			s.want(s.minute(), state.Holding, "holding 172.16.0.1; 172.16.0.2 replies again")
		}
		if lowered := s.calls("lower "); len(lowered) > 0 {
			t.Errorf("it was tried again: %q", lowered)
		}
		want := []string{
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1",
			"[pingover] web: PROBLEM: no machine took 172.16.0.1, HOSTNAME holds it again",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
		rec := s.standby.record(t, "web")
		if last := rec.Recent[len(rec.Recent)-1]; last.Outcome != state.Holding || last.Reason != reason || rec.Role != state.Active || !rec.NobodyTook {
			t.Errorf("the record: role %s, nobody took %t, last change %+v", rec.Role, rec.NobodyTook, last)
		}

		// Down once, and up again: it is tried again.
		s.do(s.primary.powerOff)
		s.minute()
		s.do(s.primary.boot)
		s.takesIt()
		s.minute()
		s.minute()
		s.want(s.minute(), state.Released, "handed over")
	})
}

// TestKilledInAHandOver: the next run finds the intent and asks again.
func TestKilledInAHandOver(t *testing.T) {
	for name, test := range map[string]struct {
		taken bool
		want  state.Outcome
	}{
		"and somebody has taken it":       {true, state.Released},
		"and nobody has it: raised again": {false, state.Holding},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Failback = true
				s.lost()
				s.minute()
				s.minute()
				s.killedInAHandOver()
				s.do(func() {
					s.standby.unset(vipAddr)
					if test.taken {
						s.primary.set("eth0", "172.16.0.1/32")
					}
				})
				s.want(s.minute(), test.want, "an interrupted release is finished")
				if held := s.standby.holds(vipAddr); held == test.taken {
					t.Errorf("held here: %t", held)
				}
				after := s.standby.record(t, "web")
				if len(after.Offered) > 0 || after.Pending != nil || len(after.Recent) != 2 {
					t.Errorf("the record: offered %v, pending %v, %d changes", after.Offered, after.Pending, len(after.Recent))
				}
				s.want(s.minute(), map[bool]state.Outcome{true: state.OK, false: state.Holding}[test.taken], "")
			})
		})
	}
}

func TestHandOverThatCannotBeUndone(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.minute()
		s.standby.fails = failing(errors.New("no buffer space"), "raise")
		s.want(s.minute(), state.TakeoverFailed, "; nobody took it, and it could not be assigned here again: no buffer space")
		s.standby.fails = nil
		s.want(s.minute(), state.Holding, "assigned here again")
		if !s.standby.holds(vipAddr) {
			t.Error("nobody has it")
		}
	})
}

// TestCableOutInAHandOver: what was given up and cannot be asked for is said to
// be perhaps unassigned, once, and raised again as soon as nobody is seen to
// have it.
func TestCableOutInAHandOver(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.minute()
		s.standby.mailbox = nil
		out := false
		s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/post-release" && !out {
				s.do(func() { s.standby.down("eth0") })
				out = true
			}
			return "", nil
		})
		s.want(s.minute(), state.Blocked, "it cannot be verified whether another machine has taken it")
		s.want(s.minute(), state.Blocked, "")
		if got, want := strings.Join(s.subjects(), "\n"), "[pingover] web: PROBLEM: HOSTNAME released 172.16.0.1, hand-over not verified"; got != want {
			t.Errorf("mail %q, want %q", got, want)
		}
		s.do(func() { eth0 := s.standby.nic("eth0"); eth0.Up, eth0.Carrier = true, true })
		s.want(s.minute(), state.Holding, "; nobody took 172.16.0.1")
		if !s.standby.holds(vipAddr) {
			t.Error("it is unassigned")
		}
	})
}

// TestBothLetGoInTheSameMoment: who has waited for the other takes it again,
// even when the other still answers for a moment, with its mind made up.
func TestBothLetGoInTheSameMoment(t *testing.T) {
	for _, later := range []time.Duration{0, 100 * time.Millisecond, slowHook} {
		t.Run(later.String()+" later", func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				peer := s.add("peer", 9) // its MAC is the higher one
				s.do(s.primary.powerOff)
				s.ends(state.TookOver, "")
				s.do(func() { peer.set("eth0", "172.16.0.1/32") })
				s.standby.fails = func(call string) error {
					if strings.HasPrefix(call, "lower") {
						time.AfterFunc(later, func() { s.do(func() { peer.unset(vipAddr) }) })
					}
					return nil
				}
				s.want(s.minute(), state.Holding, "172.16.0.1 is also assigned at 02:00:00:00:00:09, another machine: it is released here; nobody took 172.16.0.1 within 2s: assigned here again")
				if !s.standby.holds(vipAddr) {
					t.Error("both let go")
				}
			})
		})
	}
}

func TestIsolated(t *testing.T) {
	for name, test := range map[string]struct {
		isolated bool
		happens  func(s *scene)
		third    state.Outcome
	}{
		"no witness, no primary: given up at the second check": {true, func(s *scene) { s.gateway.off = true }, state.Released},
		"no cable":                  {true, func(s *scene) { s.standby.down("eth0") }, state.Released},
		"the primary answers: kept": {true, func(s *scene) { s.gateway.off = true; s.primary.off = false }, state.Holding},
		"hold: kept":                {false, func(s *scene) { s.gateway.off = true }, state.Holding},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Isolated = test.isolated
				s.primary.unset(vipAddr)
				s.do(s.primary.powerOff)
				s.ends(state.TookOver, "")
				s.minute()
				s.do(func() { test.happens(s) })
				s.want(s.minute(), state.Holding, "holding 172.16.0.1")
				report := s.minute()
				s.want(report, test.third, "")
				if held := s.standby.holds(vipAddr); held != (test.third == state.Holding) {
					t.Errorf("held: %t after %q", held, report.Reason)
				}
			})
		})
	}
}

func TestOneSilentCheckIsNoIsolation(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Isolated = true
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		for range 4 {
			s.do(func() { s.gateway.off = !s.gateway.off })
			s.want(s.minute(), state.Holding, "")
		}
	})
}

func TestLease(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Lease = 3 * time.Minute
		lease := func() time.Duration {
			k := s.standby.snapshot()
			return k.Assignments(vipAddr)[0].Address.Lease
		}
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if got := lease(); got != 3*time.Minute {
			t.Errorf("raised with a lease of %s", got)
		}
		until := s.standby.record(t, "web").VIPs[0].Until
		s.forget()
		s.want(s.minute(), state.Holding, "")
		if got := s.calls("renew"); !slices.Equal(got, []string{"renew 172.16.0.1/32 for 3m0s"}) {
			t.Errorf("renewed: %q", got)
		}
		if after := s.standby.record(t, "web").VIPs[0].Until; !after.After(until) {
			t.Errorf("it ends at %s, and before at %s", after, until)
		}

		// Paused, without a cable, and with a conflicting host: it is renewed.
		must(t, state.Dir(s.standby.dir).Pause("web", time.Now().Add(time.Hour)))
		s.do(func() { s.standby.down("eth0") })
		s.forget()
		s.want(s.minute(), state.Holding, "paused")
		if got := s.calls("renew"); len(got) != 1 {
			t.Errorf("renewed while paused and without a cable: %q", got)
		}

		// It is no longer wanted.
		s.settings.Lease = 0
		s.minute()
		if got := lease(); got != 0 {
			t.Errorf("the lease is still %s", got)
		}
		s.forget()
		s.minute()
		if got := s.calls("renew"); len(got) != 0 {
			t.Errorf("renewed although there is none: %q", got)
		}
	})
}

func TestLeaseThatRanOut(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Lease = 3 * time.Minute
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		time.Sleep(10 * time.Minute)
		s.do(func() { s.standby.unset(vipAddr) }) // as the kernel does
		s.ends(state.TookOver, "172.16.0.2 does not reply")
		messages := s.standby.mailbox
		if len(messages) != 3 || !strings.Contains(messages[1].Body, "the lease of 172.16.0.1 ran out at ") {
			t.Errorf("messages: %q", s.subjects())
		}
	})
}

// TestNothingIsHandedOverUnasked: who cannot ask keeps what he has.
func TestNothingIsHandedOverUnasked(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.standby.fails = failing(errors.New("operation not permitted"), "listen")
		for range 5 {
			s.want(s.minute(), state.Holding, "holding 172.16.0.1")
		}
		if lowered := s.calls("lower "); len(lowered) > 0 || !s.standby.holds(vipAddr) {
			t.Errorf("it was given up: %q", lowered)
		}
	})
}

// TestFailbackWhileTheStateCannotBeWritten: it would be tried in each run.
func TestFailbackWhileTheStateCannotBeWritten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.lost()
		s.minute()
		s.minute()
		must(t, os.Mkdir(filepath.Join(s.standby.dir, "web.json.tmp"), 0o755))
		s.settings.Failback = true
		for range 3 {
			s.want(s.minute(), state.Holding, "is handed over; not done: the state cannot be written: ")
		}
		if lowered := s.calls("lower "); len(lowered) > 0 {
			t.Errorf("it was given up: %q", lowered)
		}
	})
}

// TestRaisedAgainUnderALabelOfItsOwn: the address was raised without one.
func TestRaisedAgainUnderALabelOfItsOwn(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.do(func() {
			s.standby.unset(vipAddr)
			s.standby.set("eth0", "172.16.0.1/32") // labelled eth0, as its own address is
		})
		s.minute()
		s.minute()
		s.want(s.minute(), state.Holding, "assigned here again")
	})
}

// TestItLeavesInTheMiddleOfACheck: one round is no ground to take it again.
func TestItLeavesInTheMiddleOfACheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		s.forget()
		s.at(time.Until(s.began.Add(time.Minute+5*time.Second)), func() { s.standby.unset(vipAddr) })
		s.want(s.minute(), state.Unknown, "what was held here has left in the middle of the check")
		if raised := s.calls("raise 1"); len(raised) > 0 {
			t.Errorf("raised: %q", raised)
		}
		s.want(s.minute(), state.TookOver, "172.16.0.2 does not reply")
	})
}

// TestTheHostIsHereAndAnotherInterfaceIsOut: what could not be asked for is not
// raised, although the guards alone speak.
func TestTheHostIsHereAndAnotherInterfaceIsOut(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.standby.plug("eth1", "other", 13, "10.0.0.3/8")
		s.settings.Host = "172.16.0.1"
		s.vips("172.16.0.1/32", "10.0.0.9/32")
		s.ends(state.TookOver, "")
		s.do(func() {
			s.standby.unset(netip.MustParseAddr("10.0.0.9"))
			s.standby.down("eth1")
		})
		s.forget()
		s.minute()
		if raised := s.calls("raise 1"); len(raised) > 0 {
			t.Errorf("raised: %q", raised)
		}
	})
}

// TestALeaseIsKeptWhileAHookRuns that takes longer than the lease.
func TestALeaseIsKeptWhileAHookRuns(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Lease = 3 * time.Minute
		s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/post-takeover" {
				time.Sleep(5 * time.Minute)
			}
			return "", nil
		})
		s.settings.Hooks.Timeout, s.standby.hook = 10*time.Minute, func(context.Context, procCommand) (string, error) {
			time.Sleep(5 * time.Minute)
			return "", nil
		}
		s.settings.Hooks.PreTakeover = nil
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if renewed := s.calls("renew"); len(renewed) < 4 {
			t.Errorf("renewed: %q", renewed)
		}
		if until := s.standby.record(t, "web").VIPs[0].Until; time.Until(until) < 119*time.Second {
			t.Errorf("the record says that it ends in %s", time.Until(until))
		}
	})
}

func TestChecksInARowAreNotThoseBeforeTheRunsStopped(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback, s.settings.Isolated = true, true
		s.lost()
		s.minute()
		s.minute()
		time.Sleep(24 * time.Hour)
		s.want(s.minute(), state.Holding, "172.16.0.2 replies again")
	})
}
