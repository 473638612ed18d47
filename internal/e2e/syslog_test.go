package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// syslogd runs busybox's on a host, and returns what it has written. Its /dev is one
// of its own: the machine's log is left alone.
func (s *scene) syslogd(h *lab.Host) (lines func() string) {
	s.t.Helper()
	lab.Need(s.t, "busybox", "busybox")
	s.run(h, "sh", "-c", "mkdir /run/dev && ln -s dev/log /run/log")
	daemon := h.Command(s.t.Context(), "unshare", "--mount", "sh", "-c", "mount --bind /run/dev /dev && exec busybox syslogd -n -O /run/messages")
	s.must(daemon.Start())
	s.t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	s.run(h, "sh", "-c", "until [ -S /run/log ]; do sleep 0.05; done")
	return func() string { return s.run(h, "sh", "-c", "cat /run/messages 2>/dev/null || true") }
}

// A takeover and an alert are in a real syslog, with their priorities; a check that
// found nothing new is not, and neither is a dry run.
func TestChangesAndAlertsAreInTheSystemLog(t *testing.T) {
	s := newScene(t)
	lines := s.syslogd(s.Standby)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.check(s.Standby, append(withVIP, "--dry-run")...).want(t, state.OK)
	s.must(s.Gateway.PowerOff())
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.Blocked)
	s.must(s.Gateway.PowerOn())
	s.check(s.Standby, append(withVIP, "--syslog", "off", "--dry-run")...).want(t, state.TookOver)
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	want := regexp.MustCompile(`^\S+ +\d+ \S+ standby daemon\.err pingover\[\d+\]: web: blocked: 172\.16\.0\.2 does not reply, but no witness .*
\S+ +\d+ \S+ standby daemon\.warn pingover\[\d+\]: web: took-over: 172\.16\.0\.2 does not reply, and 172\.16\.0\.1 is not in use\n`)
	var got string
	for range 50 {
		for line := range strings.Lines(lines()) {
			if strings.Contains(line, "pingover[") && !strings.Contains(line, ": mail is ") {
				got += line
			}
		}
		if want.MatchString(got) {
			return
		}
		got = ""
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("want %s in\n%s", want, lines())
}
