package failover

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
)

// typed does manually what is typed on the standby.
func (s *scene) typed(command func(context.Context, Env, config.Cluster, Options) (Report, error), o Options) (Report, error) {
	s.t.Helper()
	var told []any
	o.OnEvent = func(e any) { told = append(told, e) }
	report, err := command(s.t.Context(), s.standby.env(), s.settings, o)
	s.quiet()
	s.events = told
	return report, err
}

func (s *scene) takeover(o Options) Report {
	s.t.Helper()
	report, err := s.typed(TakeOverIn, o)
	must(s.t, err)
	return report
}

func (s *scene) release(o Options) Report {
	s.t.Helper()
	report, err := s.typed(ReleaseIn, o)
	must(s.t, err)
	return report
}

func TestTakeOverByHand(t *testing.T) {
	for name, test := range map[string]struct {
		before  func(s *scene)
		force   bool
		outcome state.Outcome
		reason  string
	}{
		"from a primary that is alive": {
			func(s *scene) { s.primary.unset(vipAddr) }, false, state.TookOver, "172.16.0.1 is taken over manually",
		},
		"the primary still has it": {
			func(*scene) {}, false, state.Blocked, "not taken over: 172.16.0.1 is in use",
		},
		"the primary still has it, and the cable comes in while it is asked": {
			func(s *scene) {
				s.standby.nic("eth0").Carrier = false
				s.at(500*time.Millisecond, func() { s.standby.nic("eth0").Carrier = true })
			}, false, state.Blocked, "not taken over: 172.16.0.1 cannot be assigned: interface \"eth0\" has no carrier: is the cable in?",
		},
		"the primary still has it, by force": {
			func(*scene) {}, true, state.TookOver, "172.16.0.1 is taken over manually, with --force",
		},
		"no witness replies": {
			func(s *scene) { s.primary.powerOff(); s.gateway.powerOff() }, false, state.Blocked,
			"not taken over: no witness replies: it may be this machine's network",
		},
		"no witness replies, by force": {
			func(s *scene) { s.primary.powerOff(); s.gateway.powerOff() }, true, state.TookOver, "172.16.0.1 is taken over manually, with --force",
		},
		"no cable, by force": {
			func(s *scene) { s.standby.down("eth0") }, true, state.Blocked, `not taken over: 172.16.0.1 cannot be assigned: interface "eth0" is down`,
		},
		"in a tunnel, where nobody can be asked": {
			func(s *scene) { s.primary.powerOff(); s.standby.nic("eth0").ARP = false }, false, state.Blocked,
			"not taken over: 172.16.0.1 cannot be assigned: eth0 does not do ARP, as tunnels do not: no other machine can be asked whether it has the address (duplicate-check)",
		},
		"in a tunnel, by force": {
			func(s *scene) { s.primary.powerOff(); s.standby.nic("eth0").ARP = false }, true, state.TookOver, "172.16.0.1 is taken over manually, with --force",
		},
		"within boot-wait, paused, and after a manual release": {
			func(s *scene) {
				s.primary.powerOff()
				s.standby.booted = time.Now()
				must(s.t, state.Dir(s.standby.dir).Pause("web", time.Now().Add(time.Hour)))
				must(s.t, state.Dir(s.standby.dir).Save(&state.Record{
					Head: state.Head{Version: 1, Name: "web"}, Host: "172.16.0.2", Role: state.Standby, ManualRelease: true, BootID: "standby-boot-1",
				}, false))
			}, false, state.TookOver, "172.16.0.1 is taken over manually",
		},
		"it is held here already": {
			func(s *scene) { s.primary.powerOff(); s.standby.set("eth0", "172.16.0.1/32") }, false, state.Holding, "172.16.0.1 is held here already",
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.before(s)
				report := s.takeover(Options{Force: test.force})
				if report.Outcome != test.outcome || report.Reason != test.reason || report.Changed != (test.outcome == state.TookOver) {
					t.Errorf("%s, %q, changed %t; want %s, %q", report.Outcome, report.Reason, report.Changed, test.outcome, test.reason)
				}
				if slices.Contains(s.calls("ping"), "ping 172.16.0.2") {
					t.Error("the primary was pinged")
				}
				if held, want := s.standby.holds(vipAddr), test.outcome != state.Blocked; held != want {
					t.Errorf("held: %t, want %t", held, want)
				}
				rec := s.standby.record(t, "web")
				if taken := test.outcome != state.Blocked; rec.ManualTakeover != taken || taken && rec.ManualRelease || rec.Pending != nil {
					t.Errorf("the record: taken manually %t, released manually %t, pending %v", rec.ManualTakeover, rec.ManualRelease, rec.Pending)
				}
				var want []string
				if test.outcome == state.TookOver {
					want = []string{"[pingover] web: HOSTNAME took over 172.16.0.1"}
				}
				if diff := cmp.Diff(want, s.subjects()); diff != "" {
					t.Errorf("mail (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTakenByHandRestsFailback(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.primary.unset(vipAddr)
		s.check()
		s.takeover(Options{})
		s.takesIt()
		for range 5 {
			s.want(s.minute(), state.Holding, "172.16.0.2 replies again")
		}
		s.do(s.primary.powerOff)
		s.minute()
		s.do(s.primary.boot)
		s.do(func() { s.primary.unset(vipAddr) })
		s.minute()
		s.minute()
		s.want(s.minute(), state.Released, "handed over")
	})
}

func TestReleaseByHand(t *testing.T) {
	const nobody = "172.16.0.1 is released manually; nobody took 172.16.0.1 within 10s: assigned here again"
	for name, test := range map[string]struct {
		before  func(s *scene)
		force   bool
		outcome state.Outcome
		reason  string
		held    bool
		subject string
	}{
		"handed over to a primary that takes it": {
			func(s *scene) { s.lost(); s.takesIt() }, false, state.Released, "172.16.0.1 is released manually", false,
			"[pingover] web: HOSTNAME released 172.16.0.1",
		},
		"nobody takes it": {
			(*scene).lost, false, state.Blocked, nobody, true, "[pingover] web: PROBLEM: no machine took 172.16.0.1, HOSTNAME holds it again",
		},
		"nobody takes it, by force": {
			(*scene).lost, true, state.Released, "172.16.0.1 is released manually, with --force", false, "[pingover] web: HOSTNAME released 172.16.0.1",
		},
		"the primary is down, and nobody else has it": {
			func(s *scene) { s.lost(); s.do(s.primary.powerOff) }, false, state.Blocked,
			"not released: 172.16.0.2 does not reply, and no other machine has 172.16.0.1: nobody could take it", true, "",
		},
		"no cable: nobody can be asked": {
			func(s *scene) { s.lost(); s.do(func() { s.standby.down("eth0") }) }, false, state.Blocked,
			`not released: it cannot be verified whether another machine takes 172.16.0.1: interface "eth0" is down, or has no carrier`, true, "",
		},
		"nothing is held": {
			func(s *scene) { s.check() }, false, state.OK, "nothing is held here", false, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.before(s)
				s.standby.mailbox = nil
				report := s.release(Options{Force: test.force})
				if report.Outcome != test.outcome || report.Reason != test.reason {
					t.Errorf("%s, %q; want %s, %q", report.Outcome, report.Reason, test.outcome, test.reason)
				}
				wantHint := ""
				if strings.HasSuffix(test.reason, "nobody could take it") {
					wantHint = "release it when 172.16.0.2 is up again; pingover release --force web leaves it unassigned"
				}
				if report.Hint != wantHint {
					t.Errorf("hint %q, want %q", report.Hint, wantHint)
				}
				if held := s.standby.holds(vipAddr); held != test.held {
					t.Errorf("held: %t, want %t", held, test.held)
				}
				if rec := s.standby.record(t, "web"); rec.ManualRelease != (test.outcome == state.Released) || rec.Pending != nil {
					t.Errorf("the record: released manually %t, pending %v", rec.ManualRelease, rec.Pending)
				}
				if got := strings.Join(s.subjects(), "\n"); got != test.subject {
					t.Errorf("mail %q, want %q", got, test.subject)
				}
			})
		})
	}
}

func TestAReleaseOnASymmetricPairNamesTheWay(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "172.16.0.1"
		s.minute()
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		report := s.release(Options{})
		s.want(report, state.Blocked, "not released: 172.16.0.1 does not reply, and no other machine has 172.16.0.1: nobody could take it")
		if want := "to move it to the peer: pingover release --force web here, then pingover takeover web there"; report.Hint != want {
			t.Errorf("hint %q, want %q", report.Hint, want)
		}
	})
}

func TestAfterAReleaseByHandNoCheckTakesOver(t *testing.T) {
	for name, test := range map[string]struct {
		then func(s *scene)
		want state.Outcome
	}{
		"the primary stays down": {func(*scene) {}, state.Blocked},
		"a takeover is typed, and refused": {func(s *scene) {
			s.do(func() { s.gateway.off = true })
			if got := s.takeover(Options{}); got.Outcome != state.Blocked {
				s.t.Errorf("it was not refused: %s", got.Reason)
			}
			s.do(func() { s.gateway.off = false })
		}, state.TookOver},
		"the primary was up once": {func(s *scene) { s.do(s.primary.boot); s.minute(); s.do(s.primary.powerOff) }, state.TookOver},
		"resumed": {func(s *scene) {
			got, err := Resume(s.t.Context(), s.settings, Options{})
			must(s.t, err)
			if want := (Resumed{Released: true}); got != want {
				s.t.Errorf("resumed %+v, want %+v", got, want)
			}
		}, state.TookOver},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.do(s.primary.powerOff)
				s.ends(state.TookOver, "")
				s.release(Options{Force: true})
				s.want(s.minute(), state.Blocked, "172.16.0.2 does not reply, but the virtual IPs were released manually and it has not been up since")
				test.then(s)
				s.want(s.minute(), test.want, "")
			})
		})
	}
}

func TestDryRunByHandShowsWhatWouldRun(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Hooks = config.Hooks{
			PreTakeover: []string{"/fence", "the primary"}, PostTakeover: []string{"/start"},
			PreRelease: []string{"/stop"}, PostRelease: []string{"/handed"}, Timeout: time.Second,
		}
		taking := s.takeover(Options{DryRun: true})
		s.want(taking, state.Blocked, "172.16.0.1 is in use")
		if want := "remove it from the machine that has it, then run this again; pingover takeover --force web does not ask"; taking.Hint != want {
			t.Errorf("hint %q, want %q", taking.Hint, want)
		}
		if diff := cmp.Diff([]string{"/fence the primary", "ip addr add 172.16.0.1/32 dev eth0 label eth0:1", "/start"}, commands(taking)); diff != "" {
			t.Errorf("takeover (-want +got):\n%s", diff)
		}
		giving := s.release(Options{DryRun: true})
		s.want(giving, state.OK, "nothing is held here")
		if would := commands(giving); len(would) > 0 {
			t.Errorf("a release of nothing would run %q", would)
		}
		if did := s.calls("raise ", "lower ", "hook ", "announce ", "deliver "); len(did) > 0 {
			t.Errorf("it was done: %q", did)
		}
		if rec := s.standby.record(t, "web"); rec.Host != "" {
			t.Errorf("a record was written: %+v", rec)
		}
	})
}

func TestDryRunOfARefusedReleaseShowsWhatWouldRun(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Hooks = config.Hooks{PreRelease: []string{"/stop"}, PostRelease: []string{"/handed"}, Timeout: time.Second}
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		giving := s.release(Options{DryRun: true})
		s.want(giving, state.Blocked, "172.16.0.2 does not reply")
		if diff := cmp.Diff([]string{"/stop", "ip addr del 172.16.0.1/32 dev eth0", "/handed"}, commands(giving)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestByHandWaitsForACheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.primary.unset(vipAddr)
		go func() {
			time.Sleep(20 * time.Second)
			s.takeover(Options{})
		}()
		report, _, err := s.standby.run(t.Context(), s.settings, false) // takes over after 46 s
		must(t, err)
		s.want(report, state.TookOver, "does not reply")
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.events) == 0 {
			t.Fatal("nothing was told")
		}
		if w, ok := s.events[0].(run.LockWaited); !ok || w.PID == 0 || w.For != 90*time.Second {
			t.Errorf("told first: %#v", s.events[0])
		}
		if rec := s.standby.record(t, "web"); len(rec.Recent) != 1 {
			t.Errorf("%d changes", len(rec.Recent))
		}
	})
}

func TestByHandGivesUpWaiting(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		unlock, err := state.Dir(s.standby.dir).Lock("web")
		must(t, err)
		defer unlock()
		_, err = s.typed(ReleaseIn, Options{})
		e, ok := errors.AsType[*run.Error](err)
		if !ok || e.Code != 75 || e.Text != "another run of this cluster still holds the lock after 1m30s; nothing was changed" {
			t.Errorf("error %v", err)
		}
		if took := time.Since(s.began); took < 90*time.Second || took > 91*time.Second {
			t.Errorf("it waited %s", took)
		}
	})
}

// TestPausedInTheMiddle: the pause is read again right before anything is
// raised, or lowered.
func TestPausedInTheMiddle(t *testing.T) {
	pause := func(s *scene) {
		must(s.t, Pause(s.settings, time.Now().Add(time.Hour)))
	}
	t.Run("while pre-takeover runs", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.settings.StateDir = s.standby.dir
			s.settings.Hooks = config.Hooks{PreTakeover: []string{"/fence"}, Timeout: time.Second}
			s.standby.hook = func(context.Context, procCommand) (string, error) { pause(s); return "", nil }
			s.do(s.primary.powerOff)
			s.ends(state.Blocked, "172.16.0.2 does not reply, but this cluster is paused")
			if rec := s.standby.record(t, "web"); s.standby.holds(vipAddr) || rec.Role != state.Standby || rec.Pending != nil {
				t.Errorf("held %t, role %s, pending %v", s.standby.holds(vipAddr), rec.Role, rec.Pending)
			}
		})
	})
	t.Run("while pre-release runs", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.settings.StateDir = s.standby.dir
			s.settings.Failback = true
			s.lost()
			s.minute()
			s.minute()
			s.settings.Hooks = config.Hooks{PreRelease: []string{"/stop"}, Timeout: time.Second}
			s.standby.hook = func(context.Context, procCommand) (string, error) { pause(s); return "", nil }
			s.want(s.minute(), state.Holding, "paused, holding 172.16.0.1")
			if rec := s.standby.record(t, "web"); !s.standby.holds(vipAddr) || rec.Role != state.Active || rec.Pending != nil || len(rec.Offered) > 0 {
				t.Errorf("held %t, role %s, pending %v", s.standby.holds(vipAddr), rec.Role, rec.Pending)
			}
		})
	})
}

func TestResumeEndsAPause(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.StateDir = s.standby.dir
		must(t, Pause(s.settings, time.Now().Add(time.Hour)))
		s.do(s.primary.powerOff)
		s.ends(state.Blocked, "paused")
		for _, want := range []Resumed{{Paused: true}, {}} {
			got, err := Resume(t.Context(), s.settings, Options{})
			if err != nil || got != want {
				t.Errorf("resumed %+v, %v; want %+v", got, err, want)
			}
		}
		s.want(s.minute(), state.TookOver, "")
	})
}

func TestATakeoverByHandEndsAReleaseThatWasInterrupted(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.lost()
		rec := s.standby.record(t, "web")
		rec.Intend(state.Releasing, state.Change{Event: "E", Manual: true, Outcome: state.Released, Reason: "172.16.0.1 is released manually"})
		rec.Offered = []netip.Addr{vipAddr}
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.want(s.takeover(Options{}), state.TookOver, "172.16.0.1 is kept manually: an interrupted release is undone")
		s.want(s.minute(), state.Holding, "holding 172.16.0.1")
		if after := s.standby.record(t, "web"); after.Role != state.Active || after.Pending != nil || !after.ManualTakeover {
			t.Errorf("the record: role %s, pending %v, taken manually %t", after.Role, after.Pending, after.ManualTakeover)
		}
	})
}

func TestByHandThatIsKilledIsFinished(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.lost()
		rec := s.standby.record(t, "web")
		rec.Intend(state.Releasing, state.Change{Event: "E", Manual: true, Outcome: state.Released, Reason: "172.16.0.1 is released manually, with --force"})
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.do(func() { s.standby.unset(vipAddr) })
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.Blocked, "released manually")
		if after := s.standby.record(t, "web"); !after.ManualRelease || !slices.ContainsFunc(after.Recent, func(c state.Entry) bool { return c.Event == "E" && c.Manual }) {
			t.Errorf("released manually %t, changes %+v", after.ManualRelease, after.Recent)
		}
	})
}

// TestByHandOverAHandOverThatWasKilled, when what it gave up is here no more.
func TestByHandOverAHandOverThatWasKilled(t *testing.T) {
	for name, test := range map[string]struct {
		typed   func(s *scene) Report
		outcome state.Outcome
		next    state.Outcome
		held    bool // after the next check
	}{
		"release --force leaves it unassigned": {
			func(s *scene) Report { return s.release(Options{Force: true}) }, state.Released, state.OK, false,
		},
		"release goes on with it": {
			func(s *scene) Report { return s.release(Options{}) }, state.Blocked, state.Holding, true,
		},
		"takeover takes it": {
			func(s *scene) Report { return s.takeover(Options{}) }, state.TookOver, state.Holding, true,
		},
		"takeover that pre-takeover refuses leaves it to the next check": {
			func(s *scene) Report {
				s.hooked(func(_ context.Context, name string) (string, error) {
					if name == "/pre-takeover" {
						return "", errors.New("no power switch")
					}
					return "", nil
				})
				return s.takeover(Options{})
			}, state.Blocked, state.Holding, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.lost()
				s.minute()
				s.killedInAHandOver()
				s.do(func() { s.standby.unset(vipAddr) })
				s.standby.mailbox = nil
				if got := test.typed(s); got.Outcome != test.outcome {
					t.Errorf("%s: %s; want %s", got.Outcome, got.Reason, test.outcome)
				}
				s.want(s.minute(), test.next, "")
				if s.standby.holds(vipAddr) != test.held {
					t.Errorf("held: %t", !test.held)
				}
				for _, subject := range s.subjects() {
					if strings.Contains(subject, "has lost") {
						t.Errorf("a message says %q", subject)
					}
				}
			})
		})
	}
}

// TestWhatAKilledCommandWasIsRemembered: manually stays manually.
func TestWhatAKilledCommandWasIsRemembered(t *testing.T) {
	t.Run("takeover", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.settings.Failback = true
			s.primary.unset(vipAddr)
			s.check()
			rec := s.standby.record(t, "web")
			rec.Intend(state.Taking, state.Change{Event: "E", Manual: true, Outcome: state.TookOver, Reason: "172.16.0.1 is taken over manually"})
			must(t, state.Dir(s.standby.dir).Save(rec, false))
			s.do(func() { s.standby.set("eth0", "172.16.0.1/32") })
			s.want(s.minute(), state.TookOver, "an interrupted takeover is finished")
			if !s.standby.record(t, "web").ManualTakeover {
				t.Error("it is no longer manually")
			}
		})
	})
	t.Run("release", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.do(s.primary.powerOff)
			s.ends(state.TookOver, "")
			rec := s.standby.record(t, "web")
			rec.Intend(state.Releasing, state.Change{Event: "E", Outcome: state.Released, Reason: "a conflicting host"})
			must(t, state.Dir(s.standby.dir).Save(rec, false))
			s.release(Options{Force: true})
			s.want(s.minute(), state.Blocked, "released manually")
		})
	})
}
