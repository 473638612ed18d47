package failover

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// What asks once more asks as well as what asked first, and in doubt leaves
// nothing unassigned.

var farWitness = netip.MustParseAddr("9.9.9.9")

// slow makes a witness that is far away answer after so long.
func slow(w *Env, rtt time.Duration) {
	ping := w.Ping
	w.Ping = func(ctx context.Context, p check.Pings) check.Round {
		if p.Address != farWitness {
			return ping(ctx, p)
		}
		whole := time.Duration(p.Count-1)*p.Interval + p.Timeout
		if rtt > whole {
			proc.Sleep(ctx, whole)
			return check.Round{Verdict: check.Down, Sent: p.Count}
		}
		if !proc.Sleep(ctx, rtt) {
			return check.Round{Sent: 1, Err: context.Cause(ctx)}
		}
		return check.Round{Verdict: check.Up, Sent: 1, Received: 1, RTT: rtt}
	}
}

// TestASlowWitness answers in a short question as it does in a round.
func TestASlowWitness(t *testing.T) {
	for _, rtt := range []time.Duration{300 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(rtt.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Witness = config.Witness{Addresses: []netip.Addr{farWitness}}
				s.hooked(func(_ context.Context, name string) (string, error) {
					if name == "/pre-takeover" {
						time.Sleep(2 * time.Second)
					}
					return "", nil
				})
				s.do(s.primary.powerOff)
				report, err := s.inEnv(func(w *Env) { slow(w, rtt) }, nil)
				must(t, err)
				s.want(report, state.TookOver, "")
				s.primary.base[1].Addresses = s.primary.base[1].Addresses[:1]
				w := s.standby.env()
				slow(&w, rtt)
				report, err = ReleaseIn(t.Context(), w, s.settings, Options{})
				must(t, err)
				s.quiet()
				s.want(report, state.Blocked, "not released: 172.16.0.2 does not reply, and no other machine has 172.16.0.1: nobody could take it")
			})
		})
	}
}

// TestAWitnessThatWasDeadBefore is no sign that this machine has been isolated
// since.
func TestAWitnessThatWasDeadBefore(t *testing.T) {
	t.Run("handed over", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.settings.Failback = true
			s.lost()
			s.do(s.gateway.powerOff)
			s.minute()
			s.minute()
			s.hooked(func(_ context.Context, name string) (string, error) {
				if name == "/post-release" {
					s.do(s.primary.powerOff)
				}
				return "", nil
			})
			s.want(s.minute(), state.Holding, "; nobody took 172.16.0.1 within 10s: assigned here again")
		})
	})
	t.Run("released manually", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.do(s.primary.powerOff)
			s.ends(state.TookOver, "")
			s.do(s.gateway.powerOff)
			s.want(s.release(Options{}), state.Blocked, "not released: it cannot be verified whether another machine takes 172.16.0.1: no witness replies")
			if !s.standby.holds(vipAddr) {
				t.Error("it is unassigned")
			}
			s.want(s.release(Options{Force: true}), state.Released, "")
		})
	})
	t.Run("released manually, and the primary answers", func(t *testing.T) {
		play(t, func(t *testing.T, s *scene) {
			s.lost()
			s.takesIt()
			s.do(s.gateway.powerOff)
			s.want(s.release(Options{}), state.Released, "")
		})
	})
}

// TestOpenAndTaken: a hand-over that was interrupted is over when somebody has
// what was given up, whatever the witness does.
func TestOpenAndTaken(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.killedInAHandOver()
		s.do(func() {
			s.standby.unset(vipAddr)
			s.primary.set("eth0", "172.16.0.1/32")
			s.primary.noPing = true
			s.gateway.powerOff()
		})
		s.want(s.minute(), state.Released, "an interrupted release is finished")
	})
}

// TestForcePingsNobody, also when it asks once more.
func TestForcePingsNobody(t *testing.T) {
	for name, prepare := range map[string]func(s *scene, w *Env){
		"after a slow pre-takeover": func(s *scene, _ *Env) {
			s.hooked(func(_ context.Context, name string) (string, error) {
				if name == "/pre-takeover" {
					time.Sleep(2 * time.Second)
				}
				return "", nil
			})
		},
		"after a wait for its turn": func(_ *scene, w *Env) {
			lock, waited := w.LockSwitch, false
			w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
				if !waited {
					waited = true
					time.Sleep(4 * time.Second)
				}
				return lock(ctx, d, alone)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Host, s.settings.Interface = "10.9.9.9", "eth0"
				clear(s.standby.gateway)
				s.do(s.primary.powerOff)
				w := s.standby.env()
				prepare(s, &w)
				report, err := TakeOverIn(t.Context(), w, s.settings, Options{Force: true})
				must(t, err)
				s.want(report, state.TookOver, "with --force")
				if slices.Contains(s.calls("ping"), "ping 10.9.9.9") {
					t.Error("it was pinged")
				}
			})
		})
	}
}

// TestTakeOverThatFailsOverAHandOver leaves that open: the next check goes on
// with it.
func TestTakeOverThatFailsOverAHandOver(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback = true
		s.lost()
		s.minute()
		s.killedInAHandOver()
		s.do(func() { s.standby.unset(vipAddr) })
		s.standby.fails = failing(errors.New("it broke"), "raise ")
		s.want(s.takeover(Options{}), state.TakeoverFailed, "it broke")
		s.standby.fails = nil
		s.want(s.minute(), state.Holding, "nobody took 172.16.0.1")
	})
}

// TestOnePauseOneLetter, and nothing raised, although it came when all was decided
// and the wait for its turn was short.
func TestOnePauseOneLetter(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.minute()
		s.do(s.primary.powerOff)
		time.Sleep(time.Minute)
		report, err := s.inEnv(func(w *Env) {
			lock := w.LockSwitch
			w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
				must(t, state.Dir(s.standby.dir).Pause("web", time.Now().Add(time.Hour)))
				return lock(ctx, d, alone)
			}
		}, nil)
		must(t, err)
		s.want(report, state.Blocked, "paused")
		if s.standby.holds(vipAddr) {
			t.Error("it was raised in a pause")
		}
		s.want(s.minute(), state.Blocked, "paused")
		if got := s.subjects(); len(got) != 1 {
			t.Errorf("messages %q", got)
		}
	})
}

// hanging is a wire whose ear hangs once.
type hanging struct {
	vip.Conn
	hang func()
}

func (h hanging) Replies(t time.Time) []vip.Reply { h.hang(); return h.Conn.Replies(t) }

// TestHungAtTheLastLook: it goes on when it has been given up long ago.
func TestHungAtTheLastLook(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		locked, until := false, make(chan struct{})
		_, err := s.inEnv(func(w *Env) {
			lock, listen := w.LockSwitch, w.Listen
			w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
				unlock, err := lock(ctx, d, alone)
				locked = true
				return unlock, err
			}
			w.Listen = func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
				wire, err := listen(l, own, addrs...)
				return hanging{wire, func() {
					if locked {
						locked = false
						<-until
					}
				}}, err
			}
		}, nil)
		if e, ok := errors.AsType[*run.Error](err); !ok || !e.Hung {
			t.Fatalf("it ended with %v", err)
		}
		s.do(s.primary.boot)
		close(until)
		time.Sleep(time.Minute)
		if s.standby.holds(vipAddr) {
			t.Error("it was raised")
		}
	})
}

// TestOthersAreToldByProbes of a takeover, also in rounds of less than a second,
// and when all is asked once more: of two standbys one has precedence.
func TestOthersAreToldByProbes(t *testing.T) {
	for name, prepare := range map[string]func(s *scene){
		"in a short round": func(s *scene) {
			s.settings.Count, s.settings.Interval, s.settings.Timeout = 3, 100*time.Millisecond, 300*time.Millisecond
		},
		"once more, by a witness that only answers ARP": func(s *scene) {
			s.gateway.noPing = true
			s.hooked(func(_ context.Context, name string) (string, error) {
				if name == "/pre-takeover" {
					time.Sleep(2 * time.Second)
					s.forget()
				}
				return "", nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				prepare(s)
				s.do(s.primary.powerOff)
				s.ends(state.TookOver, "")
				if probes := s.calls("ask for 172.16.0.1 on eth0, probe"); len(probes) < 2 {
					t.Errorf("%d probes", len(probes))
				}
			})
		})
	}
}

// TestAToolThatMustBeAlone raises while nobody else of the process does.
func TestAToolThatMustBeAlone(t *testing.T) {
	for _, must := range []bool{false, true} {
		play(t, func(t *testing.T, s *scene) {
			s.standby.exclusive = must
			s.do(s.primary.powerOff)
			var asked []bool
			_, err := s.inEnv(func(w *Env) {
				lock := w.LockSwitch
				w.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
					asked = append(asked, alone)
					return lock(ctx, d, alone)
				}
			}, nil)
			if err != nil || !slices.Equal(asked, []bool{must}) {
				t.Errorf("must be alone %t: asked for it %v, %v", must, asked, err)
			}
		})
	}
}

// TestSleptBeforeItsTurn: the monotonic clock stalls while a machine
// sleeps, the one on the wall does not.
func TestSleptBeforeItsTurn(t *testing.T) {
	a := &actor{done: Result{Obs: observe.Observation{Asked: time.Now()}}}
	if a.stale() {
		t.Error("now is not fresh")
	}
	a.done.Obs.Asked = time.Now().Add(-time.Minute).Round(0) // as after a sleep: only the wall clock went on
	if !a.stale() {
		t.Error("a minute ago is fresh")
	}
}

// TestOneOfTwoWitnessesCannotBeAsked: the silence of the other counts.
func TestOneOfTwoWitnessesCannotBeAsked(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Isolated = true
		s.settings.Witness = config.Witness{Addresses: []netip.Addr{gatewayAddr, farWitness}}
		s.standby.fails = func(call string) error {
			if call == "ping "+farWitness.String() {
				return errors.New("cannot assign requested address")
			}
			return nil
		}
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		s.do(func() { s.cut = func(a, b *machine) bool { return a == s.standby || b == s.standby } })
		s.minute()
		s.want(s.minute(), state.Released, "no witness has replied in two checks in a row")
	})
}

// TestTheFileOfTheStandbyOnThePrimary does no harm, by whatever address the
// primary is known.
func TestTheFileOfTheStandbyOnThePrimary(t *testing.T) {
	for name, test := range map[string]struct{ host, own string }{
		"its first":                   {"172.16.0.3", ""},
		"of a second network":         {"192.168.7.2", "192.168.7.2/24"},
		"second in the first network": {"172.16.0.33", "172.16.0.33/16"},
		"by IPv6":                     {"2001:db8::2", "2001:db8::2/64"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.settings.Host, s.settings.Isolated = test.host, true
				s.primary.unset(vipAddr)
				if test.own != "" {
					s.standby.set("eth0", test.own)
				}
				if name == "second in the first network" {
					has := s.standby.nic("eth0").Addresses
					has[len(has)-1].Secondary = true
				}
				s.standby.set("eth0", "172.16.0.1/32")
				_, err := s.try()
				if e, ok := errors.AsType[*run.Error](err); !ok || e.Code != 78 || e.Text != "this machine is the primary: "+test.host+" is its own address" {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

// TestBothLetGoAndItCannotBeRaisedAgain: that nobody has it is said, and the next
// check takes it over.
func TestBothLetGoAndItCannotBeRaisedAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		peer := s.add("peer", 9, "172.16.0.9/16") // its MAC is the higher one
		s.do(s.primary.powerOff)
		raises := 0
		s.standby.fails = func(call string) error {
			switch {
			case strings.HasPrefix(call, "raise "):
				if raises++; raises == 2 {
					return errors.New("it broke")
				}
				time.AfterFunc(time.Millisecond, func() { s.do(func() { peer.set("eth0", "172.16.0.1/32") }) })
			case strings.HasPrefix(call, "lower "):
				time.AfterFunc(time.Millisecond, func() { s.do(func() { peer.unset(vipAddr) }) })
			}
			return nil
		}
		s.ends(state.Blocked, "172.16.0.1 was taken, but 02:00:00:00:00:09 has it as well: it is released here; "+
			"nobody has it now, and it could not be assigned here again: it broke")
		s.standby.fails = nil
		s.want(s.minute(), state.TookOver, "")
	})
}
