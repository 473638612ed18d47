package failover

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// What was seen must be true of the moment in which an address is raised.

// inEnv makes a check of the standby in an environment that differs a little.
func (s *scene) inEnv(change func(*Env), tell func(any)) (Report, error) {
	s.t.Helper()
	w := s.standby.env()
	change(&w)
	report, err := CheckIn(s.t.Context(), w, s.settings, Options{OnEvent: tell})
	s.quiet()
	return report, err
}

// TestTooOldToActUpon: between the last question and the moment of raising lies
// another cluster that switches, a terminal that is stopped, a machine that
// sleeps. What has changed meanwhile counts.
func TestTooOldToActUpon(t *testing.T) {
	back := func(s *scene) { s.do(s.primary.boot) }
	paused := func(s *scene) { must(s.t, state.Dir(s.standby.dir).Pause("web", time.Now().Add(time.Hour))) }
	nothing := func(*scene) {}
	for name, test := range map[string]struct {
		happens func(s *scene)
		outcome state.Outcome
		reason  string
	}{
		"the primary is back":     {back, state.OK, "172.16.0.2 replies"},
		"the operator has paused": {paused, state.Blocked, "172.16.0.2 does not reply, but this cluster is paused"},
		"the witness has gone":    {func(s *scene) { s.do(s.gateway.powerOff) }, state.Blocked, "no witness replies either"},
		"all is as it was":        {nothing, state.TookOver, ""},
	} {
		want := func(t *testing.T, s *scene, report Report, err error) {
			t.Helper()
			must(t, err)
			s.want(report, test.outcome, test.reason)
			if held := s.standby.holds(vipAddr); held != (test.outcome == state.TookOver) {
				t.Errorf("held: %t", held)
			}
			if rec := s.standby.record(t, "web"); rec.Pending != nil {
				t.Errorf("an intent is left: %+v", rec.Pending)
			}
		}
		t.Run(name+" when it is this cluster's turn", func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.do(s.primary.powerOff)
				waited := false
				report, err := s.inEnv(func(w *Env) {
					lock := w.LockSwitch
					w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
						if !waited {
							waited = true
							time.Sleep(5 * time.Second)
							test.happens(s)
							time.Sleep(5 * time.Second)
						}
						return lock(ctx, d, alone)
					}
				}, nil)
				want(t, s, report, err)
			})
		})
		t.Run(name+" when the terminal goes on", func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.do(s.primary.powerOff)
				report, err := s.inEnv(func(*Env) {}, func(e any) {
					if _, ok := e.(Decided); ok {
						time.Sleep(10 * time.Second)
						test.happens(s)
						time.Sleep(50 * time.Second)
					}
				})
				want(t, s, report, err)
			})
		})
	}
}

// TestTheOthersAreAskedForAgain where assigning the first took long.
func TestTheOthersAreAskedForAgain(t *testing.T) {
	for name, test := range map[string]struct {
		claimed bool
		outcome state.Outcome
		reason  string
	}{
		"and assigned":            {false, state.TookOver, "172.16.0.1, 172.16.0.5 are not in use"},
		"and left to the new one": {true, state.TakeoverFailed, "172.16.0.5 was not assigned: something else was observed while the others were"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.vips("172.16.0.1/32", "172.16.0.5/32")
				s.do(s.primary.powerOff)
				laptop := s.add("laptop", 1, "172.16.0.9/16")
				s.standby.fails = func(call string) error {
					if strings.HasPrefix(call, "raise 172.16.0.1/") {
						time.Sleep(4 * time.Second)
						if test.claimed {
							s.do(func() { laptop.set("eth0", "172.16.0.5/32") })
						}
					}
					return nil
				}
				s.ends(test.outcome, test.reason)
				if !s.standby.holds(vipAddr) || s.standby.holds(netip.MustParseAddr("172.16.0.5")) == test.claimed {
					t.Errorf("it holds %t and %t", s.standby.holds(vipAddr), s.standby.holds(netip.MustParseAddr("172.16.0.5")))
				}
			})
		})
	}
}

// TestNeverItsTurn: others switch all the time. What is not fresh is not acted
// upon, and that is said.
func TestNeverItsTurn(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		report, err := s.inEnv(func(w *Env) {
			lock := w.LockSwitch
			w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
				time.Sleep(4 * time.Second)
				return lock(ctx, d, alone)
			}
		}, nil)
		must(t, err)
		s.want(report, state.TakeoverFailed, "other clusters on this machine are switching: what was observed was older than 3s each time it was this one's turn")
		if s.standby.holds(vipAddr) {
			t.Error("it was raised")
		}
	})
}

// TestWhoWasGivenUpSwitchesNothing, when at last it goes on.
func TestWhoWasGivenUpSwitchesNothing(t *testing.T) {
	for name, test := range map[string]struct {
		before func(s *scene)
		held   bool
	}{
		"raises nothing": {func(s *scene) { s.do(s.primary.powerOff) }, false},
		"lowers nothing": {func(s *scene) { s.do(s.primary.powerOff); s.check(); s.do(s.primary.boot) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.before(s)
				until := make(chan struct{})
				_, err := s.inEnv(func(*Env) {}, func(e any) {
					if _, ok := e.(Decided); ok {
						<-until
					}
				})
				if failed, ok := errors.AsType[*run.Error](err); !ok || !failed.Hung {
					t.Errorf("the check ended with %v", err)
				}
				close(until)
				time.Sleep(time.Minute)
				synctest.Wait()
				if held := s.standby.holds(vipAddr); held != test.held {
					t.Errorf("held: %t", held)
				}
			})
		})
	}
}

// TestAskedOnceMoreForAMoment: after a pre-takeover that took long it takes a
// second, whatever a round takes, and the last question is as old as that.
func TestAskedOnceMoreForAMoment(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		var hooked, raised time.Time
		s.standby.raising = func(context.Context, vip.Alias) error { raised = time.Now(); return nil }
		s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/pre-takeover" {
				time.Sleep(5 * time.Second)
				hooked = time.Now()
			}
			return "", nil
		})
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if took := raised.Sub(hooked); took > 1200*time.Millisecond {
			t.Errorf("raised %s after the hook", took)
		}
		var last time.Duration
		for _, c := range s.standby.calls {
			if strings.HasPrefix(c.What, "ask for 172.16.0.1 ") && c.At < raised.Sub(s.began) {
				last = c.At
			}
		}
		if age := raised.Sub(s.began) - last; age > 200*time.Millisecond {
			t.Errorf("the last question was %s old", age)
		}
	})
}

// TestOwnTransmitterIsDead: the gateway is heard, and does not hear us. It is no
// witness.
func TestOwnTransmitterIsDead(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.minute()
		s.do(func() { s.cut = func(a, _ *machine) bool { return a == s.standby } })
		stop := make(chan struct{})
		var chatter sync.WaitGroup
		chatter.Go(func() { // it asks for its other clients all the time
			for {
				select {
				case <-time.After(300 * time.Millisecond):
					s.do(func() { s.gateway.announce("eth0", gatewayAddr, nil) })
				case <-stop:
					return
				}
			}
		})
		s.want(s.minute(), state.Blocked, "no witness replies either")
		if s.standby.holds(vipAddr) || !s.primary.holds(vipAddr) {
			t.Error("it was taken from a primary that is alive")
		}
		close(stop)
		chatter.Wait()
	})
}

// TestWitnessThatIsHere: an address of this machine always answers.
func TestWitnessThatIsHere(t *testing.T) {
	for name, witness := range map[string]func(s *scene) string{
		"its own address":              func(*scene) string { return "172.16.0.3" },
		"another cluster's virtual IP": func(s *scene) string { s.standby.set("eth0", "172.16.0.5/32"); return "172.16.0.5" },
		"of a local route, as AnyIP has one": func(s *scene) string {
			s.standby.anyIP = netip.MustParsePrefix("172.16.0.64/26")
			return "172.16.0.65"
		},
		"which comes here in the meantime": func(s *scene) string {
			s.at(25*time.Second, func() { s.standby.set("eth0", "172.16.0.5/32") })
			return "172.16.0.5"
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr(witness(s))}}
				s.do(func() { s.cut = func(a, b *machine) bool { return a == s.standby || b == s.standby } })
				s.want(s.check(), state.Blocked, "no witness replies either")
			})
		})
	}
}

// TestIsolatedByAFaultOfItsOwn: what could not be asked has not been silent.
func TestIsolatedByAFaultOfItsOwn(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Isolated = true
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		s.minute()
		s.standby.fails = failing(errors.New("too many open files"), "ping", "listen")
		for range 3 {
			s.want(s.minute(), state.Holding, "too many open files")
		}
		if !s.standby.holds(vipAddr) {
			t.Error("it was given up, and nobody has it")
		}
	})
}

// TestWitnessThatCannotBeAsked holds a takeover back as a silent one does.
func TestWitnessThatCannotBeAsked(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.DuplicateCheck = false
		s.do(s.primary.powerOff)
		s.standby.fails = func(call string) error {
			if call == "ping 172.16.0.254" || strings.HasPrefix(call, "listen") {
				return errors.New("too many open files")
			}
			return nil
		}
		s.want(s.check(), state.Blocked, "172.16.0.2 does not reply, but no witness could be asked: it may be this machine's network")
	})
}

// TestThePrimarysAddressComesHere in the middle of a check, as the virtual IP of
// another cluster: what answers then is this machine.
func TestThePrimarysAddressComesHere(t *testing.T) {
	here := "172.16.0.2 is on this machine now, so a ping would answer itself"
	t.Run("while standing by", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.minute()
			rec := s.standby.record(t, "web")
			rec.ManualRelease = true
			must(t, state.Dir(s.standby.dir).Save(rec, false))
			s.do(s.primary.powerOff)
			s.at(34*time.Second, func() { s.standby.set("eth0", "172.16.0.2/32") })
			s.want(s.check(), state.Unknown, here)
			if !s.standby.record(t, "web").ManualRelease {
				t.Error("it counted as the primary's answer")
			}
			s.want(s.minute(), state.Unknown, here) // no error: it is not this machine's own
		})
	})
	t.Run("while holding", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.settings.Failback, s.settings.Rise = true, 1
			s.do(s.primary.powerOff)
			s.ends(state.TookOver, "")
			time.Sleep(time.Minute)
			s.at(2*time.Second, func() { s.standby.set("eth0", "172.16.0.2/32") })
			s.want(s.check(), state.Holding, here)
			s.want(s.minute(), state.Holding, here)
		})
	})
}

// TestUnservedNeedsAnEar: silence is none when listening had ended.
func TestUnservedNeedsAnEar(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Rise = 1
		s.standby.fails = func(call string) error {
			switch {
			case call == "ping 172.16.0.1":
				return errors.New("no buffer space available")
			case strings.HasPrefix(call, "ask for"):
				for _, e := range s.standby.listeners {
					e.err = errors.New("network is down")
				}
			}
			return nil
		}
		s.want(s.check(), state.OK, "")
	})
}

// TestAnIntentOfOtherVirtualIPs: a run was killed when it had raised, and then
// the setting was changed. What it raised is not forgotten.
func TestAnIntentOfOtherVirtualIPs(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.minute()
		rec := s.standby.record(t, "web")
		rec.Intend(state.Taking, state.Change{Event: "E", Outcome: state.TookOver, Reason: "down"})
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.do(func() {
			s.standby.set("eth0", "172.16.0.1/32")
			s.primary.set("eth0", "172.16.0.77/32")
			s.vips("172.16.0.77/32")
		})
		const left = "172.16.0.1 is still on this machine, assigned by pingover, but no longer a setting of this cluster; to remove it: ip addr del 172.16.0.1/32 dev eth0"
		for range 2 {
			s.minute()
			if notes := strings.Join(s.notes(), "\n"); !strings.Contains(notes, left) {
				t.Errorf("notes %q, want %q", notes, left)
			}
		}
	})
}

// TestAnOpenHandOver is finished on the grounds on which it would have been
// begun.
func TestAnOpenHandOver(t *testing.T) {
	cutOff := func(s *scene) {
		s.primary.set("eth0", "172.16.0.1/32")
		s.cut = func(a, b *machine) bool { return a == s.standby || b == s.standby }
	}
	for name, test := range map[string]struct {
		happens func(s *scene)
		outcome state.Outcome
		reason  string
		then    func(s *scene)
		after   state.Outcome
	}{
		"cut off": {
			cutOff, state.Blocked, "an interrupted release is not finished, because it cannot be verified whether another machine has taken over: no witness replies",
			func(s *scene) { s.cut = nil }, state.Released,
		},
		"paused": {
			func(s *scene) { must(s.t, state.Dir(s.standby.dir).Pause("web", time.Now().Add(3*time.Minute))) },
			state.Blocked, "paused, while an interrupted release has to be finished",
			func(*scene) {}, state.Blocked,
		},
		"another virtual IP is set": {
			func(s *scene) { s.primary.set("eth0", "172.16.0.1/32"); s.vips("172.16.0.77/32") },
			state.Released, "an interrupted release is finished",
			func(*scene) {}, state.OK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Failback = true
				s.lost()
				s.minute()
				s.minute()
				s.killedInAHandOver()
				s.do(func() { s.standby.unset(vipAddr); test.happens(s) })
				s.want(s.minute(), test.outcome, test.reason)
				if held := s.standby.snapshot(); held.Holds(vipAddr) || held.Holds(netip.MustParseAddr("172.16.0.77")) {
					t.Error("it was raised")
				}
				s.do(func() { test.then(s) })
				s.want(s.minute(), test.after, "")
			})
		})
	}
}

// TestCutOffWhileHandingOver: nobody answers, and nobody could have been heard.
func TestCutOffWhileHandingOver(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.minute()
		s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/post-release" {
				s.do(func() {
					s.primary.set("eth0", "172.16.0.1/32")
					s.cut = func(a, b *machine) bool { return a == s.standby || b == s.standby }
				})
			}
			return "", nil
		})
		s.want(s.minute(), state.Blocked, "it cannot be verified whether another machine has taken it: no witness replies")
		s.do(func() { s.cut = nil })
		s.settings.Hooks = config.Hooks{}
		s.want(s.minute(), state.Released, "an interrupted release is finished")
		if s.standby.holds(vipAddr) {
			t.Error("two have it")
		}
	})
}
