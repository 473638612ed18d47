package failover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
)

type procCommand = proc.Command

// hooked gives the standby four hooks; ran is what they were told, in order.
func (s *scene) hooked(does func(ctx context.Context, name string) (string, error)) (ran *[]string) {
	s.settings.Hooks = config.Hooks{
		PreTakeover: []string{"/pre-takeover", "now"}, PostTakeover: []string{"/post-takeover"},
		PreRelease: []string{"/pre-release"}, PostRelease: []string{"/post-release"}, Timeout: 30 * time.Second,
	}
	ran = new([]string)
	s.standby.hook = func(ctx context.Context, c proc.Command) (string, error) {
		var told []string
		for _, e := range c.Env {
			if strings.HasPrefix(e, "PINGOVER_") {
				told = append(told, strings.TrimPrefix(e, "PINGOVER_"))
			}
		}
		*ran = append(*ran, c.Argv[0]+": "+strings.Join(told, ", "))
		if c.Timeout != 30*time.Second {
			s.t.Errorf("%q has %s", c.Argv, c.Timeout)
		}
		if does == nil {
			return "", nil
		}
		return does(ctx, c.Argv[0])
	}
	return ran
}

func TestHooksOfATakeoverAndARelease(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		ran := s.hooked(func(_ context.Context, name string) (string, error) { return name + " says hello", nil })
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		const down = "CLUSTER=web, EVENT=takeover, HOST=172.16.0.2, VIPS=172.16.0.1/32, INTERFACE=eth0, REASON=172.16.0.2 does not reply, and 172.16.0.1 is not in use; 172.16.0.2 was never seen up from here"
		if diff := cmp.Diff([]string{"/pre-takeover: " + down, "/post-takeover: " + down}, *ran); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
		s.wantCalls(
			"hook /pre-takeover now", "raise 172.16.0.1/32 on eth0",
			"announce 172.16.0.1 on eth0", "announce 172.16.0.1 on eth0 #2", "announce 172.16.0.1 on eth0 #3", "hook /post-takeover",
		)
		if len(s.standby.mailbox) != 1 {
			t.Fatalf("messages %q", s.subjects())
		}
		for _, said := range []string{"/pre-takeover says hello", "/post-takeover says hello"} {
			if !strings.Contains(s.standby.mailbox[0].Body, said) {
				t.Errorf("the message does not say %q:\n%s", said, s.standby.mailbox[0].Body)
			}
		}

		*ran = nil
		s.forget()
		s.do(s.primary.boot)
		s.want(s.minute(), state.Released, "")
		s.wantCalls(
			"hook /pre-release", "lower 172.16.0.1",
			"announce 172.16.0.1 on eth0", "announce 172.16.0.1 on eth0 #2", "announce 172.16.0.1 on eth0 #3", "hook /post-release",
		)
		for _, line := range *ran {
			if !strings.Contains(line, "EVENT=release") {
				t.Errorf("%q is told another event", line)
			}
		}
		for _, said := range []string{"/pre-release says hello", "ip addr del 172.16.0.1/32 dev eth0", "/post-release says hello"} {
			if body := s.standby.mailbox[len(s.standby.mailbox)-1].Body; !strings.Contains(body, said) {
				t.Errorf("the message does not say %q:\n%s", said, body)
			}
		}
		*ran = nil
		s.minute()
		if len(*ran) > 0 {
			t.Errorf("run again: %q", *ran)
		}
	})
}

func TestPreTakeoverThatRefuses(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(func(context.Context, string) (string, error) {
			return "no power switch", errors.New("/pre-takeover now: exit code 3: no power switch")
		})
		s.do(s.primary.powerOff)
		const reason = "172.16.0.2 does not reply, and 172.16.0.1 is not in use; 172.16.0.2 was never seen up from here; pre-takeover blocked it: /pre-takeover now: exit code 3: no power switch"
		for range 2 {
			s.want(s.minute(), state.Blocked, reason)
		}
		s.wantCalls("hook /pre-takeover now", "hook /pre-takeover now #2")
		rec := s.standby.record(t, "web")
		if rec.Role != state.Standby || rec.Pending != nil || len(rec.Recent) > 0 || rec.PendingHook != nil {
			t.Errorf("the record: %+v", rec)
		}
		if len(s.standby.mailbox) != 1 || !strings.Contains(s.standby.mailbox[0].Body, "no power switch") ||
			strings.Contains(s.standby.mailbox[0].Body, "gave up again") {
			t.Errorf("messages %q", s.subjects())
		}
	})
}

// TestPreTakeoverThatTakesLong: what was seen before is asked once more.
func TestPreTakeoverThatTakesLong(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		then  func(s *scene)
		want  state.Outcome
		held  bool
	}{
		"and nothing has changed":          {5 * time.Second, func(*scene) {}, state.TookOver, true},
		"and the primary answers again":    {5 * time.Second, func(s *scene) { s.primary.boot(); s.primary.unset(vipAddr) }, state.OK, false},
		"and another has the address":      {5 * time.Second, func(s *scene) { s.gateway.set("eth0", "172.16.0.1/32") }, state.Elsewhere, false},
		"and the primary only answers ARP": {5 * time.Second, func(s *scene) { s.primary.boot(); s.primary.noPing = true; s.primary.unset(vipAddr) }, state.Blocked, false},
		"and the witness has gone":         {5 * time.Second, func(s *scene) { s.gateway.powerOff() }, state.Blocked, false},
		"and a ping cannot be sent any more": {5 * time.Second, func(s *scene) {
			s.standby.fails = failing(errors.New("no buffer space"), "ping 172.16.0.2 ")
		}, state.Unknown, false},
		"and the cable is out":              {5 * time.Second, func(s *scene) { s.standby.down("eth0") }, state.Unknown, false},
		"it was fast: what was seen counts": {500 * time.Millisecond, func(s *scene) { s.primary.boot(); s.primary.unset(vipAddr) }, state.TookOver, true},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.hooked(func(_ context.Context, name string) (string, error) {
					if name == "/pre-takeover" {
						time.Sleep(test.takes)
						s.do(func() { test.then(s) })
					}
					return "", nil
				})
				s.do(s.primary.powerOff)
				s.ends(test.want, "")
				rec := s.standby.record(t, "web")
				if held := s.standby.holds(vipAddr); held != test.held || (rec.Role == state.Active) != test.held || rec.Pending != nil {
					t.Errorf("held %t, want %t; role %s, pending %v", held, test.held, rec.Role, rec.Pending)
				}
			})
		})
	}
}

// TestASignalWhilePreTakeoverRuns does not end it: the primary's power may be
// off already. The takeover is finished; its hook and its mail are left to the
// next run, or where there may be none are done as well.
func TestASignalWhilePreTakeoverRuns(t *testing.T) {
	for name, test := range map[string]struct {
		finish    bool
		ran       []string
		announced int
		messages  int
	}{
		"another run comes": {false, []string{"/pre-takeover"}, 1, 0},
		"none may come":     {true, []string{"/pre-takeover", "/post-takeover"}, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				ctx, signal := context.WithCancelCause(t.Context())
				var ran []string
				s.hooked(func(ctx context.Context, name string) (string, error) {
					ran = append(ran, name)
					signal(errors.New("SIGTERM"))
					return "", context.Cause(ctx)
				})
				s.do(s.primary.powerOff)
				report, err := CheckIn(ctx, s.standby.env(), s.settings, Options{Finish: test.finish})
				must(t, err)
				s.want(report, state.TookOver, "")
				rec := s.standby.record(t, "web")
				if !s.standby.holds(vipAddr) || rec.Role != state.Active || rec.Pending != nil {
					t.Errorf("held %t, role %s, pending %v", s.standby.holds(vipAddr), rec.Role, rec.Pending)
				}
				if !slices.Equal(ran, test.ran) || len(s.standby.mailbox) != test.messages {
					t.Errorf("hooks %q, %d messages", ran, len(s.standby.mailbox))
				}
				if n := len(s.calls("announce ")); n != test.announced {
					t.Errorf("announced %d times", n)
				}
			})
		})
	}
}

func TestHooksThatFailAreMailedAndStopNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/pre-takeover" {
				return "", nil
			}
			return "", errors.New(name + ": exit code 1")
		})
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		s.do(s.primary.boot)
		s.want(s.minute(), state.Released, "")
		s.want(s.minute(), state.OK, "")
		want := []string{
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1",
			"[pingover] web: HOSTNAME released 172.16.0.1",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
		for i, said := range []string{"/post-takeover: exit code 1", "/post-release: exit code 1", "/pre-release: exit code 1"} {
			if body := s.standby.mailbox[min(i, 1)].Body; !strings.Contains(body, said) {
				t.Errorf("message %d does not say %q:\n%s", min(i, 1), said, body)
			}
		}
	})
}

// TestPendingHook: a run that was killed before its hook leaves it to the next.
func TestPendingHook(t *testing.T) {
	for name, test := range map[string]struct {
		pending string
		holding bool
		fails   bool
		want    []string
		mail    int
	}{
		"post-takeover, and held":             {state.PostTakeover, true, false, []string{"/post-takeover"}, 0},
		"post-takeover, and it fails":         {state.PostTakeover, true, true, []string{"/post-takeover"}, 1},
		"post-takeover, and held no more":     {state.PostTakeover, false, false, nil, 0},
		"post-release, and nothing held":      {state.PostRelease, false, false, []string{"/post-release"}, 0},
		"post-release, and it is held again ": {state.PostRelease, true, false, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.do(s.primary.powerOff)
				s.ends(state.TookOver, "")
				if !test.holding {
					s.do(s.primary.boot)
					s.want(s.minute(), state.Released, "")
				}
				s.standby.mailbox = nil
				rec := s.standby.record(t, "web")
				rec.PendingHook = &state.PendingHook{Hook: test.pending, Event: "E", Time: time.Now(), Reason: "as it was"}
				must(t, state.Dir(s.standby.dir).Save(rec, false))
				ran := s.hooked(func(context.Context, string) (string, error) {
					if test.fails {
						return "", errors.New("exit code 1")
					}
					return "", nil
				})
				for range 2 {
					s.minute()
				}
				var names []string
				for _, line := range *ran {
					name, told, _ := strings.Cut(line, ":")
					names = append(names, name)
					if !strings.Contains(told, "REASON=as it was") {
						t.Errorf("%s is told %s", name, told)
					}
				}
				if !slices.Equal(names, test.want) {
					t.Errorf("ran %q, want %q", names, test.want)
				}
				if got := len(s.standby.mailbox); got != test.mail {
					t.Errorf("%d messages, want %d: %q", got, test.mail, s.subjects())
				}
				if after := s.standby.record(t, "web"); after.PendingHook != nil {
					t.Errorf("still pending: %+v", after.PendingHook)
				}
			})
		})
	}
}

// TestHookWhileTheStateCannotBeWritten: it runs with the change, and not again
// in each run that cannot cross it off.
func TestHookWhileTheStateCannotBeWritten(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		ran := s.hooked(nil)
		must(t, os.Mkdir(filepath.Join(s.standby.dir, "web.json.tmp"), 0o755)) // blocks every write
		s.do(s.primary.powerOff)
		s.want(s.check(), state.StateFailed, "")
		s.settings.Lease = 3 * time.Minute // its renewals are no switches
		for range 3 {
			s.want(s.minute(), state.Holding, "")
		}
		if len(*ran) != 2 || len(s.standby.mailbox) != 1 {
			t.Errorf("ran %q, messages %q", *ran, s.subjects())
		}
	})
}

func TestAHookThatIsNoLongerSetIsNotOwed(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		if rec := s.standby.record(t, "web"); rec.PendingHook != nil {
			t.Errorf("pending: %+v", rec.PendingHook)
		}
	})
}

// TestHandOverRunsPostReleaseBeforeItAsks: it may bring the address up over
// there.
func TestHandOverRunsPostReleaseBeforeItAsks(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.lost()
		s.check()
		ran := s.hooked(func(_ context.Context, name string) (string, error) {
			if name == "/post-release" {
				s.do(func() { s.primary.set("eth0", "172.16.0.1/32") })
			}
			return "", nil
		})
		if report := s.release(Options{}); report.Outcome != state.Released {
			t.Errorf("%s: %s", report.Outcome, report.Reason)
		}
		if len(*ran) != 2 || !strings.HasPrefix((*ran)[0], "/pre-release") || !strings.HasPrefix((*ran)[1], "/post-release") {
			t.Errorf("ran %q", *ran)
		}
	})
}

// TestASlowPreReleaseLetsTheConflictingHostGo: the one that yields asks again when his hook has
// taken long, or nobody would have the address.
func TestASlowPreReleaseLetsTheConflictingHostGo(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		peer := s.add("peer", 1) // the lower MAC: we yield
		s.do(s.primary.powerOff)
		s.ends(state.TookOver, "")
		s.hooked(func(_ context.Context, name string) (string, error) {
			time.Sleep(15 * time.Second)
			s.do(func() { peer.unset(vipAddr) })
			return "", nil
		})
		s.do(func() { peer.set("eth0", "172.16.0.1/32") })
		s.forget()
		s.want(s.minute(), state.Holding, "holding 172.16.0.1")
		if !s.standby.holds(vipAddr) {
			t.Error("nobody has it")
		}
		s.wantCalls("hook /pre-release", "announce 172.16.0.1 on eth0", "hook /post-takeover") // what it stopped goes on
	})
}
