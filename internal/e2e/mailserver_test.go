package e2e

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"pingover/state"
)

// A mail server that hangs up: an email that it has acknowledged is not sent
// again, one that it has not is, as the same email.
func TestMailServerThatHangsUp(t *testing.T) {
	t.Parallel()
	for step, c := range map[string]struct{ waits, copies int }{
		"connect": {1, 1}, "MAIL": {1, 1}, "RCPT": {1, 1}, "DATA": {1, 1},
		"text": {1, 2}, // it is there, and nobody has said so
		"QUIT": {0, 1},
	} {
		t.Run("at "+step, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			var once atomic.Bool
			args := set(swift, "--mail-via", s.serveUnruly(func(now string) {
				if now == step && !once.Swap(true) {
					runtime.Goexit() // which closes the connection
				}
			}))
			e := s.check(s.Standby, args...).want(t, state.TookOver)
			if said := strings.Contains(e.stderr, "mail is pending: mail to ops@example.org via smtp://172.16.0.254"); said != (c.waits > 0) || e.MailWaiting != c.waits {
				t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			for range 2 {
				if e := s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 0 {
					t.Errorf("%d emails pending", e.MailWaiting)
				}
			}
			s.wantTakenOver(args, c.copies)
		})
	}
}
