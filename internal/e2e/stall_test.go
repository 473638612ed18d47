package e2e

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// A run that does not end, and a disk that does not answer.

// tracing runs the program under strace, which makes system calls fail or hang.
func (s *scene) tracing(words ...string) {
	s.t.Helper()
	s.through(append([]string{lab.Need(s.t, "strace", "strace"), "-f", "-qq", "-o", "/dev/null"}, words...)...)
}

// A process that is stopped keeps its lock, and its own deadline cannot end it. The
// checks that find it say so once an hour.
func TestStoppedRunKeepsTheLock(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	stopped := s.follow(s.Standby, set(swift, "--retry-wait", "30s")...)
	stopped.until("waiting 30s")
	process := s.locker()
	pid := strconv.Itoa(process)
	s.must(syscall.Kill(process, syscall.SIGSTOP))

	if e := s.say(s.Standby, swift...); e.code != 75 || e.stderr != "" {
		t.Errorf("a moment later: exit code %d, stderr: %s", e.code, e.stderr)
	}
	s.inStateDir("touch -d '2 hours ago' web.lock")
	e := s.say(s.Standby, swift...)
	want := "pingover: web: run " + pid + " has held the lock since "
	if e.code != 75 || !strings.HasPrefix(e.stderr, want) || !strings.HasSuffix(e.stderr, "it is stopped, frozen or hangs, and this cluster is not checked; to end it: kill -9 "+pid+"\n") {
		t.Errorf("exit code %d, stderr: %swant 75 and %s…", e.code, e.stderr, want)
	}
	for range 2 {
		if e := s.say(s.Standby, swift...); e.code != 75 || e.stderr != "" {
			t.Errorf("within the hour: exit code %d, stderr: %s", e.code, e.stderr)
		}
	}
	m := s.mail.want(t, "[pingover] web: PROBLEM: not checked: a run on standby keeps the lock")[0]
	m.says(t, "To end that run kill -9 "+pid)
	s.inStateDir("touch -d '61 minutes ago' web.busy")
	if e := s.say(s.Standby, swift...); !strings.HasPrefix(e.stderr, want) {
		t.Errorf("an hour later: %s", e.stderr)
	}

	s.must(syscall.Kill(process, syscall.SIGKILL))
	stopped.wait()
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
}

// A disk that never answers costs ten seconds, once, and no takeover.
func TestDiskThatHangs(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"fsync", "renameat"} {
		t.Run(call, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, swift...).want(t, state.OK)
			s.must(s.Primary.PowerOff())
			s.tracing("-e", "trace=fsync,renameat,renameat2", "-e", "inject="+call+":delay_enter=15s")
			e := s.check(s.Standby, swift...) // strace may fail when its delayed child has exited: the exit code is not the program's
			if e.Outcome != state.StateFailed || e.Report.Code != 32 || e.Error == nil || *e.Error != "the state cannot be written: the disk does not answer within 10s" {
				t.Errorf("report: %s", e.stdout)
			}
			if d := e.Duration.Duration(); d < 10*time.Second || d > 30*time.Second {
				t.Errorf("it took %s", d)
			}
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver)[0].says(t, "the disk does not answer within 10s")
		})
	}
}

// Where nothing of the state directory can be read, nobody knows of a pause, and a
// takeover does not wait for that disk; a pause alone that cannot be read counts.
func TestStateDirectoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  state.Outcome
		says  string
	}{
		"all of it":      {[]string{"", "/web.json", "/web.json.tmp", "/web.pause", "/web.lock", "/act.lock", "/web.settings", "/web.days", "/web.history"}, state.StateFailed, "a pause is ignored, for nothing of the state directory can be read"},
		"only the pause": {[]string{"/web.pause"}, state.Blocked, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, swift...).want(t, state.OK)
			s.must(s.Primary.PowerOff())
			words := []string{"-e", "trace=openat,newfstatat", "-e", "inject=openat,newfstatat:error=EIO"}
			for _, file := range c.files {
				words = append(words, "-P", stateDir+file)
			}
			s.tracing(words...)
			e := s.check(s.Standby, swift...).want(t, c.want)
			if !strings.Contains(e.stderr, c.says) {
				t.Errorf("stderr: %s", e.stderr)
			}
			s.wantHeld(s.Standby, vip4, count(c.want == state.StateFailed))
			if c.want == state.StateFailed {
				s.mail.want(t, tookOver)
			}
		})
	}
}

// A watch on a full disk mails each change once.
func TestWatchOnAFullDisk(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.inStateDir("mkdir web.json.tmp")
	s.must(s.Primary.FilterICMP(true))
	args := append([]string{"watch", "--every", "1s", "--for", "15s"}, swift...)
	cmd := s.command(s.Standby, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("watch: %v: %s", err, out)
	}
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping")
	if n := strings.Count(string(out), "the state cannot be written"); n > 2 { // 15 checks: once, and once more where an hour begins
		t.Errorf("said %d times: %s", n, out)
	}
}

// locker is the run that holds the standby's lock.
func (s *scene) locker() (pid int) {
	s.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(s.run(s.Standby, "cat", stateDir+"/web.lock")))
	s.must(err)
	return pid
}

// A run that stalls in its second round, while another standby that does not
// hear its questions takes over: the announcements that came meanwhile are read
// late, and yet are several.
func TestStoppedRunHearsWhatWasAnnouncedMeanwhile(t *testing.T) {
	s := newScene(t)
	other := s.third()
	args := set(withVIP, "--witness", "none", "--count", "8", "--interval", "500ms")
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	stopped := s.follow(s.Standby, args...)
	stopped.until("round 2: pinging")
	time.Sleep(time.Second)
	process := s.locker()
	s.must(syscall.Kill(process, syscall.SIGSTOP))
	announce := s.wire(other, vip4)
	for range 3 {
		time.Sleep(1100 * time.Millisecond)
		s.must(announce.Announce(vip4, nil))
	}
	time.Sleep(1100 * time.Millisecond)
	s.must(syscall.Kill(process, syscall.SIGCONT))
	if e := stopped.wait(); e.code != 13 {
		t.Errorf("exit code %d, want 13, elsewhere: %s", e.code, e.stderr)
	}
	s.wantHeld(s.Standby, vip4, 0)
}
