package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
)

// untrusted makes others able to write to a program from now on. As the real one,
// the environment does not run it then.
func (s *scene) untrusted(program string) {
	err := &proc.UntrustedError{Exposure: proc.Exposure{Path: program, Why: "belongs to user 1000", Fix: "chown root " + program}}
	s.standby.trusted = func(argv []string) error {
		if argv[0] == program {
			return err
		}
		return nil
	}
	s.standby.hook = func(_ context.Context, c proc.Command) (string, error) { return "", s.standby.trusted(c.Argv) }
}

const rewritten = "/post-takeover belongs to user 1000, so root does not run it"

func TestHookThatOthersCanRewriteIsAnErrorOfANewCluster(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(nil)
		s.untrusted("/post-takeover")
		_, err := s.try()
		want := &run.Error{Code: 78, Text: "post-takeover: " + rewritten, Hint: "after reviewing it: chown root /post-takeover"}
		if got, ok := errors.AsType[*run.Error](err); !ok || *got != *want {
			t.Errorf("error %v, want %+v", err, want)
		}
	})
}

func TestSendmailThatOthersCanRewriteIsAnErrorOfANewCluster(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Mail.Via = config.Via{Scheme: "sendmail", Path: "/opt/sendmail"}
		s.untrusted("/opt/sendmail")
		if _, err := s.try(); err == nil || err.Error() != "mail-via: /opt/sendmail belongs to user 1000, so root does not run it" {
			t.Errorf("error %v", err)
		}
	})
}

// Mail never decides over an address: what it lacks is an alert, which is mailed
// when it can be.
func TestSendmailThatOthersCanRewriteIsAnAlert(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Mail.Via = config.Via{Scheme: "sendmail", Path: "/opt/sendmail"}
		s.ends(state.OK, "")
		s.untrusted("/opt/sendmail")
		s.standby.fails = failing(s.standby.trusted([]string{"/opt/sendmail"}), "deliver")
		for range 5 {
			s.want(s.minute(), state.OK, "")
			alert := s.standby.record(t, "web").Firing("not-used")
			if want := "mail-via: /opt/sendmail belongs to user 1000, so root does not run it"; alert == nil || alert.Reason != want {
				t.Errorf("alert %+v, want %q", alert, want)
			}
		}
		if n := len(s.standby.record(t, "web").Outbox); n != 1 {
			t.Errorf("%d messages pending, want 1", n)
		}
		s.standby.trusted, s.standby.fails = nil, nil
		s.want(s.minute(), state.OK, "")
		s.wantMessages(
			message{"A", "", "[pingover] web: PROBLEM: HOSTNAME does not use all that the settings name"},
			message{"B", "A", "[pingover] web: RESOLVED: HOSTNAME uses all that the settings name again"},
		)
	})
}

func TestPostTakeoverThatOthersCanRewriteFails(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(nil)
		s.ends(state.OK, "")
		s.untrusted("/post-takeover")
		s.primary.powerOff()
		s.want(s.minute(), state.TookOver, "")
		if note := "post-takeover: " + rewritten + "; after reviewing it: chown root /post-takeover"; !slices.Contains(s.notes(), note) {
			t.Errorf("notes %q, want %q", s.notes(), note)
		}
		if body := strings.Join(strings.Fields(s.standby.mailbox[0].Body), " "); !strings.Contains(body, rewritten) {
			t.Errorf("the message does not say it: %s", body)
		}
	})
}

// What root would not run is an alert before it is needed.
func TestHookThatOthersCanRewriteIsNotReady(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(nil)
		s.ends(state.OK, "")
		s.untrusted("/post-takeover")
		for range 3 {
			s.want(s.minute(), state.OK, "")
		}
		if got, want := s.subjects(), "[pingover] web: PROBLEM: HOSTNAME is not ready to take over"; len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("mail %q, want %q", got, want)
		}
	})
}

func TestPreTakeoverThatOthersCanRewriteBlocks(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.hooked(nil)
		s.ends(state.OK, "")
		s.untrusted("/pre-takeover")
		s.primary.powerOff()
		s.want(s.minute(), state.Blocked, "/pre-takeover belongs to user 1000, so root does not run it")
		if s.standby.holds(vipAddr) {
			t.Error("172.16.0.1 is here")
		}
	})
}

// What is wrong with mail's credentials changes no decision.
func TestCredentialsThatAreMissingStopOnlyTheMail(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		const text = `--mail-ca "/none": cannot be read: no such file or directory`
		s.settings.Mail.Unusable = config.Problems{{Place: `--mail-ca "/none"`, Text: "cannot be read: no such file or directory"}}
		said := 0
		for range 120 {
			s.want(s.minute(), state.OK, "")
			said += count(s.notes(), "! "+text+"; mail stays pending")
		}
		if a := s.standby.record(t, "web").Firing("not-used"); a == nil || a.Reason != text {
			t.Errorf("alert %+v, want %q", a, text)
		}
		if said != 2 {
			t.Errorf("said %d times in two hours", said)
		}
		s.standby.fails = failing(errors.New(text), "deliver")
		s.primary.powerOff()
		s.want(s.minute(), state.TookOver, "")
		if rec := s.standby.record(t, "web"); len(rec.Outbox) == 0 || rec.MailError == nil || *rec.MailError != text {
			t.Errorf("outbox: %s", cmp.Diff(rec.Outbox, nil))
		}
	})
}
