package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/state"
)

// The same check again and again, in one process.

// keepWatch begins a watch, with a check each second, as a service has it: it
// says only what changes.
func (s *scene) keepWatch(h *lab.Host, args ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: s.command(h, append([]string{"watch", "--every", "1s"}, args...)...), began: time.Now()}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	s.must(r.cmd.Start())
	return r
}

// betweenStartAndEnd is the output of a watch without the lines at its start and
// its end.
func betweenStartAndEnd(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "pingover: watching with version ") && !strings.HasPrefix(line, "pingover: watch ended: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// stop ends a watch by a signal, and fails the test unless it said this besides
// its start and its end, and ended with exit code 0.
func (r *running) stop(signal syscall.Signal, said string) {
	r.s.t.Helper()
	r.s.must(r.cmd.Process.Signal(signal))
	_ = r.cmd.Wait() // its error is the code
	if code := r.cmd.ProcessState.ExitCode(); code != 0 || betweenStartAndEnd(r.said()) != said {
		r.s.t.Errorf("%s, stderr: %s\nwant exit code 0 and: %s", r.cmd.ProcessState, r.said(), said)
	}
}

// checks waits until the record knows of a check that ended so, and then for so many
// further ones, of which it need not tell: it is written where something changes,
// and once a minute.
func (s *scene) checks(n int, last state.Outcome) {
	s.t.Helper()
	ended := func() bool {
		data, err := s.Standby.Run("cat", "/var/lib/pingover/web.json")
		if err != nil {
			return false
		}
		rec, err := state.Parse([]byte(data))
		s.must(err)
		return rec.Last != nil && rec.Last.Outcome == last
	}
	what := fmt.Sprintf("%d checks, the last one %s", n, last)
	s.within(75*time.Second, what, ended)
	time.Sleep(time.Duration(n) * time.Second) // in each of them there is one
	s.within(10*time.Second, what, ended)
}

// uses counts the open files and the threads of a process.
func uses(t testing.TB, pid int) (files, threads int) {
	t.Helper()
	for dir, n := range map[string]*int{"fd": &files, "task": &threads} {
		all, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(pid), dir))
		if err != nil {
			t.Fatal(err)
		}
		*n = len(all)
	}
	return files, threads
}

const (
	tookOverLine   = "pingover: web: took-over: 172.16.0.2 does not reply, and 172.16.0.1 is not in use\n"
	tookOverAtOnce = "pingover: web: took-over: 172.16.0.2 does not reply, and 172.16.0.1 is not in use" + neverUp + "\n"
)

func TestWatchTakesOverOnce(t *testing.T) {
	s := shortScene(t)
	w := s.keepWatch(s.Standby, withVIP...)
	s.checks(2, state.OK)
	view := s.watchFrom(vip4)
	files, threads := uses(t, w.cmd.Process.Pid)
	s.must(s.Primary.PowerOff())
	since := time.Now()
	w.until("took-over")
	view.follows(s.Standby, since)
	s.checks(4, state.Holding)
	s.mail.want(t, tookOver)
	s.wantOn(vip4, s.Standby)
	if f, th := uses(t, w.cmd.Process.Pid); f > files+10 || th > threads+10 {
		t.Errorf("%d open files and %d threads, after %d and %d at the beginning", f, th, files, threads)
	}
	w.stop(syscall.SIGTERM, tookOverLine)
	if rec := s.record(s.Standby); rec.Role != state.Active || len(rec.Recent) != 1 {
		t.Errorf("record: role %q, changes %+v; want one takeover", rec.Role, rec.Recent)
	}
	s.wantOn(vip4, s.Standby)
	s.wantLabel(s.Standby, vip4, "eth0:1")
	s.mail.want(t, tookOver)
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
}

func TestWatchThatIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"before the tool ran": "kill -9 $PPID; exit",
		"after the tool ran":  `$real "$@"; kill -9 $PPID; exit`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, withVIP...).want(t, state.OK)
			s.fake("ip", script)
			w := s.keepWatch(s.Standby, withVIP...)
			s.checks(1, state.OK)
			s.must(s.Primary.PowerOff())
			_ = w.cmd.Wait()
			if status := w.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL || betweenStartAndEnd(w.said()) != "" {
				t.Fatalf("%s, stderr: %s", w.cmd.ProcessState, w.said())
			}
			w = s.keepWatch(s.Standby, withVIP...)
			w.until("took-over")
			s.checks(2, state.Holding)
			if said := betweenStartAndEnd(w.said()); strings.Count(said, "\n") != 1 {
				t.Errorf("it said: %s", said)
			}
			w.stop(syscall.SIGINT, betweenStartAndEnd(w.said()))
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver)
			if rec := s.record(s.Standby); rec.Role != state.Active || rec.Pending != nil || len(rec.Recent) != 1 || len(rec.Outbox) != 0 {
				t.Errorf("record: %+v", rec)
			}
			s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
		})
	}
}

// Neither gets in the other's way, and neither says so.
func TestWatchBesideCron(t *testing.T) {
	s := newScene(t)
	slow := set(withVIP, "--retry-wait", "2s") // so that they meet
	w := s.keepWatch(s.Standby, slow...)
	s.checks(1, state.OK)
	s.must(s.Primary.PowerOff())
	met, lines := 0, ""
	s.within(60*time.Second, "both have met", func() bool {
		e := s.say(s.Standby, slow...)
		switch e.code {
		case 75:
			met++
		case 11:
			lines = e.stderr
		case 10:
		default:
			t.Errorf("exit code %d", e.code)
		}
		if e.stderr != "" && e.stderr != tookOverLine {
			t.Errorf("exit code %d, stderr: %s", e.code, e.stderr)
		}
		return met > 0 && s.record(s.Standby).Role == state.Active
	})
	s.checks(2, state.Holding)
	w.stop(syscall.SIGTERM, strings.TrimPrefix(tookOverLine, lines))
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
}

func TestWatchStopsBeforeItActs(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	untouched := s.untouched(s.Standby)
	w := s.keepWatch(s.Standby, set(withVIP, "--retry-wait", "1m", "--verbose", "true")...)
	w.until("before the second round")
	s.must(w.cmd.Process.Signal(syscall.SIGTERM))
	_ = w.cmd.Wait()
	if code := w.cmd.ProcessState.ExitCode(); code != 0 || !strings.HasSuffix(betweenStartAndEnd(w.said()), "web: ended by SIGTERM before it had changed anything\n") {
		t.Errorf("%s\n%s", w.cmd.ProcessState, w.said())
	}
	if took := time.Since(w.began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	untouched()
	s.mail.want(t)
}

func TestWatchPrintsAnObjectForEachCheck(t *testing.T) {
	s := newScene(t)
	w := s.keepWatch(s.Standby, set(withVIP, "--json", "true", "--for", "2500ms")...)
	s.must(w.cmd.Wait())
	n := 0
	for line := range strings.Lines(w.stdout.String()) {
		var r failover.Report
		s.must(json.Unmarshal([]byte(line), &r))
		if r.Outcome != state.OK || r.Cluster != "web" {
			t.Errorf("%s", line)
		}
		n++
	}
	if n == 0 || n > 3 || w.said() != "" {
		t.Errorf("%d objects, want 3 and not more; stderr: %s", n, w.said())
	}
}
