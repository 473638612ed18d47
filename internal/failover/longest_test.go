package failover

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
)

func TestLongest(t *testing.T) {
	t.Parallel()
	hook := []string{"/bin/true"}
	for _, test := range []struct {
		name   string
		change func(c *config.Cluster)
		usual  time.Duration
		most   time.Duration
	}{
		{"the defaults", func(*config.Cluster) {}, 56200 * time.Millisecond, 6*time.Minute + 17*time.Second},
		{"no virtual IP, nobody to mail", func(c *config.Cluster) { c.VIPs, c.Mail.To = nil, nil }, 56200 * time.Millisecond, 2*time.Minute + 49*time.Second},
		{"hooks", func(c *config.Cluster) {
			c.Hooks = config.Hooks{PreTakeover: hook, PostTakeover: hook, PreRelease: hook, Timeout: 30 * time.Second}
		}, 125100 * time.Millisecond, 9*time.Minute + 2*time.Second},
	} {
		c := usual()
		test.change(&c)
		if got := c.LongestCheck(); got != test.usual {
			t.Errorf("%s: usually %s at the most, want %s", test.name, got, test.usual)
		}
		if got := c.Deadline(); got != test.most {
			t.Errorf("%s: %s at the most, want %s", test.name, got, test.most)
		}
	}
}

func TestHowLongItMayTakeIsSaid(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.dry = true
		s.check()
		wantNotes(t, s, "a check with these settings ends after 6m17s at the latest, whatever hangs")
		s.settings.RetryWait = time.Minute
		s.dry = false
		s.check()
		wantNotes(t, s, "with these settings a check can take 1m36s, mail aside; while it runs, further ones exit at once with code 75")
	})
}

func wantNotes(t *testing.T, s *scene, want string) {
	t.Helper()
	if notes := s.notes(); len(notes) != 1 || notes[0] != want {
		t.Errorf("notes %q, want %q", notes, want)
	}
}

// TestARunThatHangsIsGivenUp: whatever it is that hangs where nothing can end it.
func TestARunThatHangsIsGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		hang func(m *machine, until <-chan struct{}, w *Env)
		code int
		text string
	}{
		"before anything was done": {
			func(_ *machine, until <-chan struct{}, w *Env) {
				look := w.Resolve
				w.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) { <-until; return look(ctx, host) }
			},
			20, "abandoned after 6m17s, the longest that these settings allow: hung while finding the primary; nothing was changed",
		},
		"while mail is sent": {
			func(_ *machine, until <-chan struct{}, w *Env) {
				w.Deliver = func(_ context.Context, l []state.Message) ([]state.Message, error) {
					<-until
					return l, errors.New("too late")
				}
			},
			32, "abandoned after 6m17s, the longest that these settings allow: hung while sending mail; the next run finishes what was begun",
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.do(s.primary.powerOff)
				until := make(chan struct{})
				w := s.standby.env()
				test.hang(s.standby, until, &w)
				s.settings.StateDir = s.standby.dir
				_, err := CheckIn(t.Context(), w, s.settings, Options{})
				e, ok := errors.AsType[*run.Error](err)
				if !ok || e.Code != test.code || e.Text != test.text {
					t.Errorf("it ended with %#v", err)
				}
				if took := time.Since(s.began); took != 6*time.Minute+17*time.Second {
					t.Errorf("after %s", took)
				}
				close(until)
				time.Sleep(time.Minute)
				synctest.Wait()
			})
		})
	}
}
