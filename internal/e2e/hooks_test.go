package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// Hooks as real processes: what they get, and what happens to those that
// misbehave.

// log is a file to which hooks write what they saw.
type log struct {
	s    *scene
	path string
}

func (s *scene) log() log { return log{s, filepath.Join(s.t.TempDir(), "log")} }

// hook is the path of a hook with that script, in which $log is the file.
func (l log) hook(name, script string) string {
	l.s.t.Helper()
	path := filepath.Join(l.s.t.TempDir(), name)
	l.s.script(path, "log="+l.path+"\n"+script+"\n")
	return path
}

// lines is what the hooks have written so far.
func (l log) lines() []string {
	l.s.t.Helper()
	text, err := os.ReadFile(l.path)
	if err != nil && !os.IsNotExist(err) {
		l.s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func (l log) want(t *testing.T, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(lines, l.lines()); diff != "" {
		t.Errorf("what the hooks saw (-want +got):\n%s", diff)
	}
}

// pid waits until the hooks have written a single number, that of a process.
func (l log) pid() (pid int) {
	l.s.t.Helper()
	l.s.waitFor("the hook", func() bool {
		n, err := strconv.Atoi(l.lines()[0])
		pid = n
		return err == nil
	})
	return pid
}

// wantGone fails the test unless a process ends soon.
func (s *scene) wantGone(pid int) {
	s.t.Helper()
	s.waitFor(fmt.Sprintf("the end of process %d", pid), func() bool { return syscall.Kill(pid, 0) != nil })
}

// wantNothingDone fails the test unless the standby's record says that it
// is a standby that never did anything else, without leftovers.
func (s *scene) wantNothingDone() {
	s.t.Helper()
	if rec := s.record(s.Standby); rec.Role != state.Standby || rec.Pending != nil || rec.PendingHook != nil || len(rec.Outbox)+len(rec.Recent) > 0 {
		s.t.Errorf("role %q, intent %v, hook %v, emails %v, history %v", rec.Role, rec.Pending, rec.PendingHook, rec.Outbox, rec.Recent)
	}
	s.wantNothingLeft(s.Standby, "web.json", "web.lock")
}

func TestHooksAroundATakeoverAndARelease(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := swift
	for _, name := range []string{"pre-takeover", "post-takeover", "pre-release", "post-release"} {
		script := fmt.Sprintf(`echo "%s $* held=$(ip -o addr show to 172.16.0.1 | wc -l)" >>$log; env | grep -i -e pingover -e secret | sort >>$log; echo %s done`, name, name)
		args = set(args, "--"+name, l.hook(name, script)+` "and more"`)
	}
	s.through("env", "PINGOVER_MAIL_PASSWORD=secret", "PINGOVER_CONFIG=/etc/secret.yaml")
	told := func(event, reason string) []string {
		return []string{
			"PINGOVER_CLUSTER=web", "PINGOVER_EVENT=" + event, "PINGOVER_HOST=172.16.0.2", "PINGOVER_INTERFACE=eth0",
			"PINGOVER_REASON=" + reason, "PINGOVER_VIPS=172.16.0.1/32",
		}
	}
	s.check(s.Standby, args...).want(t, state.OK)
	l.want(t, "")

	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	taking := told("takeover", "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
	want := slices.Concat([]string{"pre-takeover and more held=0"}, taking, []string{"post-takeover and more held=1"}, taking)
	l.want(t, want...)
	s.check(s.Standby, args...).want(t, state.Holding)
	l.want(t, want...)

	s.must(s.Primary.PowerOn())
	s.announce(s.Primary, vip4)
	e := s.check(s.Standby, args...).want(t, state.Released)
	giving := told("release", e.Reason)
	want = slices.Concat(want, []string{"pre-release and more held=1"}, giving, []string{"post-release and more held=0"}, giving)
	l.want(t, want...)
	s.check(s.Standby, args...).want(t, state.OK)
	l.want(t, want...)

	emails := s.mail.want(t, tookOver, released)
	for i, names := range [][]string{{"pre-takeover", "post-takeover"}, {"pre-release", "post-release"}} {
		for _, name := range names {
			emails[i].says(t, name+" done")
		}
	}
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

// A hook that cannot be run is found before anything is asked, at any check.
func TestHookThatCannotRunIsRefusedBeforeAnyPing(t *testing.T) {
	s := newScene(t)
	l := s.log()
	s.must(s.Primary.PowerOff())
	untouched := s.untouched(s.Standby)
	unexecutable := l.hook("unexecutable", "")
	s.must(os.Chmod(unexecutable, 0o644))
	heard := s.sniff(s.Gateway)
	echoes := func() string {
		return s.run(s.Standby, "sh", "-c", `awk '/^Icmp: [0-9]/ { print $22 }' /proc/net/snmp`)
	}
	before := echoes()
	for _, c := range []struct {
		name, hook, command string
		code                int
		says                string
	}{
		{"it does not exist", "pre-takeover", "/usr/local/sbin/fence now", 78, `--pre-takeover "/usr/local/sbin/fence now": "/usr/local/sbin/fence": no such file or directory`},
		{"no folder has it", "post-takeover", "start-everything", 78, `--post-takeover "start-everything": "start-everything" not found in `},
		{"it is not executable", "pre-release", unexecutable, 78, `not executable: permission denied`},
		{"it is a folder", "post-release", "/etc", 78, `--post-release "/etc": "/etc": not a regular file`},
		{"it is relative", "post-release", "./stop", 64, `must be an absolute path`},
		{"a pipe", "post-takeover", "echo up | wall", 64, `"|" needs a shell, such as sh -c '...'`},
		{"a variable", "post-takeover", "echo $PINGOVER_VIPS", 64, `"$" needs a shell, such as sh -c '...'`},
		{"two commands", "pre-takeover", "fence; sleep 1", 64, `";" needs a shell, such as sh -c '...'`},
		{"a backtick", "pre-takeover", "fence `hostname`", 64, "\"`\" needs a shell, such as sh -c '...'"},
		{"a quote is open", "pre-takeover", "sh -c 'true", 64, "the quote ' is not closed"},
		{"nothing", "pre-takeover", " ", 64, "a command is missing"},
		{"too short a time", "hook-timeout", "10ms", 64, `--hook-timeout "10ms": out of range (1s to 10m)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := s.say(s.Standby, append(slices.Clone(patient), "--"+c.hook, c.command)...).atOnce(t)
			if e.code != c.code || e.stdout != "" || !strings.Contains(e.stderr, c.says) {
				t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant %d and %s", e.code, e.stdout, e.stderr, c.code, c.says)
			}
		})
	}
	if after := echoes(); after != before {
		t.Errorf("echo requests sent: %s before, %s after", before, after)
	}
	for _, f := range heard.all() {
		if f.source == s.Standby.MAC().String() && f.what == "request" {
			t.Errorf("it has asked: %s", f)
		}
	}
	untouched()
	s.mail.want(t)
}

// The other side of what is refused above.
func TestHookThatIsAShellsCommand(t *testing.T) {
	s := newScene(t)
	l := s.log()
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, set(swift, "--post-takeover", `sh -c 'echo "$PINGOVER_VIPS" | tr / _ >`+l.path+`'`)...).want(t, state.TookOver)
	l.want(t, "172.16.0.1_32")
}

func TestHookThatPrints10MB(t *testing.T) {
	s := shortScene(t)
	l := s.log()
	memory := `grep VmHWM /proc/$PPID/status | tr -dc 0-9 >>$log; echo >>$log`
	loud := l.hook("post-takeover", memory+"\n"+`echo the beginning of it; head -c 10485760 /dev/zero | tr '\0' x; echo; echo the end of it`+"\n"+memory)
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, set(swift, "--post-takeover", loud)...).want(t, state.TookOver)
	l1 := s.mail.want(t, tookOver)[0]
	l1.says(t, "the end of it")
	if text := l1.text(t); strings.Contains(text, "the beginning of it") || len(text) > 16<<10 {
		t.Errorf("the email has %d bytes", len(text))
	}
	if len(e.stdout) > 16<<10 || len(e.stderr) > 16<<10 {
		t.Errorf("%d bytes on stdout, %d on stderr", len(e.stdout), len(e.stderr))
	}
	var kB []int
	for _, line := range l.lines() {
		n, err := strconv.Atoi(line)
		s.must(err)
		kB = append(kB, n)
	}
	t.Logf("the most memory in use, before and after: %d kB", kB)
	if grown := kB[1] - kB[0]; grown > 4096 {
		t.Errorf("it took %d kB to listen to 10 MB", grown)
	}
	if size := len(s.run(s.Standby, "cat", "/var/lib/pingover/web.json")); size > 64<<10 {
		t.Errorf("the record has %d bytes", size)
	}
}

// A service that a hook starts may keep its output, and goes on.
func TestHookThatDaemonizes(t *testing.T) {
	s := newScene(t)
	l := s.log()
	starts := l.hook("post-takeover", "setsid sleep 1000 &\necho $! >$log; echo it is started")
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, set(swift, "--post-takeover", starts)...).want(t, state.TookOver)
	if e.took > 20*time.Second {
		t.Errorf("it took %s", e.took)
	}
	s.mail.want(t, tookOver)[0].says(t, "it is started")
	s.check(s.Standby, swift...).want(t, state.Holding) // the lock is free
	s.must(syscall.Kill(l.pid(), 0))
	s.must(syscall.Kill(l.pid(), syscall.SIGKILL))
	s.wantGone(l.pid())
	s.wantTakenOver(swift, 1)
}

// A hook that does not end is ended, with what it has started.
func TestHookThatOutlivesItsTime(t *testing.T) {
	t.Parallel()
	const script = "trap '' TERM INT HUP\nsleep 1000 &\necho $! >$log; echo it hangs; wait; sleep 1000"
	t.Run("pre-takeover", func(t *testing.T) {
		s := newScene(t)
		l := s.log()
		s.must(s.Primary.PowerOff())
		hook := l.hook("pre-takeover", script)
		e := s.check(s.Standby, set(swift, "--pre-takeover", hook, "--hook-timeout", "1s")...).want(t, state.Blocked).
			because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use; pre-takeover blocked it: "+hook+": killed: took longer than 1s")
		if e.took > 20*time.Second {
			t.Errorf("it took %s", e.took)
		}
		s.wantGone(l.pid())
		s.wantOn(vip4)
		s.mail.want(t, looksDown+"pre-takeover failed")[0].says(t, "it hangs")
		s.wantNothingDone()
	})
	t.Run("post-takeover", func(t *testing.T) {
		s := newScene(t)
		l := s.log()
		s.must(s.Primary.PowerOff())
		hook := l.hook("post-takeover", script)
		e := s.check(s.Standby, set(swift, "--post-takeover", hook, "--hook-timeout", "1s")...).want(t, state.TookOver)
		if e.took > 20*time.Second || !strings.Contains(e.stderr, "post-takeover failed: "+hook+": killed: took longer than 1s") {
			t.Errorf("it took %s, stderr: %s", e.took, e.stderr)
		}
		s.wantGone(l.pid())
		s.mail.want(t, tookOver)[0].says(t, "killed: took longer than 1s")
		s.check(s.Standby, swift...).want(t, state.Holding)
		s.wantTakenOver(swift, 1)
	})
}

const looksDown = "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: "

func TestPreTakeoverRefuses(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := set(swift, "--pre-takeover", l.hook("pre-takeover", "echo asked >>$log; echo no power switch >&2; test -e /run/switch || exit 3"))
	s.must(s.Primary.PowerOff())
	for range 2 {
		e := s.check(s.Standby, args...).want(t, state.Blocked)
		if want := "exit code 3: no power switch"; !strings.HasSuffix(e.Reason, want) {
			t.Errorf("reason %q, want %q", e.Reason, want)
		}
	}
	l.want(t, "asked", "asked")
	s.wantOn(vip4)
	s.mail.want(t, looksDown+"pre-takeover failed")[0].says(t, "no power switch")
	s.wantNothingDone()

	s.run(s.Standby, "touch", "/run/switch")
	s.check(s.Standby, args...).want(t, state.TookOver)
	l.want(t, "asked", "asked", "asked")
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, looksDown+"pre-takeover failed", tookOver)
	s.wantWrittenDown(state.Active, state.TookOver)
}

// While pre-takeover takes its time the primary comes back: everything
// is asked once more.
func TestPrimaryComesBackWhilePreTakeoverRuns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		filtered bool // it answers ARP only
		want     state.Outcome
		mail     []string
	}{
		"it answers":          {false, state.OK, nil},
		"it only answers ARP": {true, state.Blocked, []string{looksDown + "172.16.0.2 replies to ARP, but not to ping"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			l := s.log()
			hook := l.hook("pre-takeover", "echo asked >>$log; sleep 1.1; until test -e /run/go; do sleep 0.1; done")
			s.check(s.Standby, swift...).want(t, state.OK)
			untouched := s.untouched(s.Standby)
			s.must(s.Primary.PowerOff())
			check := s.follow(s.Standby, set(swift, "--pre-takeover", hook)...)
			s.waitFor("the hook", func() bool { return l.lines()[0] == "asked" })
			s.must(s.Primary.PowerOn())
			s.must(s.Primary.FilterICMP(c.filtered))
			s.run(s.Standby, "touch", "/run/go")
			check.wait().want(t, c.want)
			untouched()
			s.wantOn(vip4, s.Primary)
			s.mail.want(t, c.mail...)
			s.wantNothingDone()
		})
	}
}

// A signal does not end pre-takeover, which may have cut the primary's power
// already: the takeover is finished, and its mail left to the next run.
func TestSignalWhilePreTakeoverRuns(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := set(swift, "--pre-takeover", l.hook("pre-takeover", "echo $$ >>$log; sleep 3; echo it ran on >>$log"))
	s.must(s.Primary.PowerOff())
	check := s.follow(s.Standby, args...)
	pid := l.pid()
	s.must(check.cmd.Process.Signal(syscall.SIGTERM))
	check.wait().want(t, state.TookOver)
	s.wantGone(pid)
	l.want(t, strconv.Itoa(pid), "it ran on")
	s.wantOn(vip4, s.Standby)
	s.mail.want(t)
	s.check(s.Standby, args...).want(t, state.Holding)
	s.wantTakenOver(args, 1)
}

// A terminal that goes away hangs up twice at once. A second signal of the operator, a
// while later, means it.
func TestASecondSignal(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second syscall.Signal
		after  time.Duration
		died   bool
	}{
		"a hangup, at once":       {syscall.SIGHUP, 0, false},
		"a hangup, later":         {syscall.SIGHUP, 1500 * time.Millisecond, false},
		"a signal, at once":       {syscall.SIGTERM, 0, false},
		"a signal, a while later": {syscall.SIGTERM, 1500 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			l := s.log()
			args := set(swift, "--pre-takeover", l.hook("pre-takeover", "echo $$ >>$log; sleep 4"))
			s.must(s.Primary.PowerOff())
			check := s.follow(s.Standby, args...)
			pid := l.pid()
			s.must(check.cmd.Process.Signal(syscall.SIGHUP))
			time.Sleep(c.after)
			s.must(check.cmd.Process.Signal(c.second))
			e := check.wait()
			if c.died {
				if status := check.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != c.second {
					t.Errorf("it ended with %s\n%s", check.cmd.ProcessState, e.stderr)
				}
				s.wantOn(vip4)
				s.check(s.Standby, args...).want(t, state.TookOver)
			} else {
				e.want(t, state.TookOver)
			}
			s.wantGone(pid)
			s.wantOn(vip4, s.Standby)
		})
	}
}

// A run that is killed between its result and its hook leaves it to the next.
func TestPendingHookIsRunByTheNextCheck(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"killed before the hook": `if mkdir $log.once 2>/dev/null; then kill -9 $PPID; exec sleep 1000; fi; echo "$PINGOVER_EVENT $PINGOVER_REASON" >>$log`,
		"killed at its end":      `echo "$PINGOVER_EVENT $PINGOVER_REASON" >>$log; mkdir $log.once 2>/dev/null && kill -9 $PPID; exit 0`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			l := s.log()
			args := set(swift, "--post-takeover", l.hook("post-takeover", script))
			s.must(s.Primary.PowerOff())
			check := s.follow(s.Standby, args...)
			check.wait()
			if status := check.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %s", check.said())
			}
			s.wantOn(vip4, s.Standby)
			if rec := s.record(s.Standby); rec.Role != state.Active || rec.PendingHook == nil || rec.PendingHook.Hook != state.PostTakeover || len(rec.Outbox) != 1 {
				t.Errorf("role %s, pending %+v, %d emails", rec.Role, rec.PendingHook, len(rec.Outbox))
			}
			for range 2 {
				s.check(s.Standby, args...).want(t, state.Holding)
			}
			const ran = "takeover 172.16.0.2 does not reply, and 172.16.0.1 is not in use" + neverUp
			want := []string{ran}
			if name == "killed at its end" { // at least once
				want = append(want, ran)
			}
			l.want(t, want...)
			if pending := s.record(s.Standby).PendingHook; pending != nil {
				t.Errorf("still pending: %+v", pending)
			}
			s.wantTakenOver(args, 1)
		})
	}
	t.Run("the primary was faster", func(t *testing.T) {
		s := newScene(t)
		l := s.log()
		args := set(swift, "--post-takeover", l.hook("post-takeover", `kill -9 $PPID; exec sleep 1000`),
			"--post-release", l.hook("post-release", `echo "$PINGOVER_EVENT" >>$log`))
		s.must(s.Primary.PowerOff())
		s.follow(s.Standby, args...).wait()
		s.wantOn(vip4, s.Standby)
		s.must(s.Primary.PowerOn())
		s.check(s.Standby, args...).want(t, state.Released)
		s.check(s.Standby, args...).want(t, state.OK)
		l.want(t, "release")
		s.wantOn(vip4, s.Primary)
		s.mail.want(t, tookOver, released)
	})
}

func TestHookThatFailsIsReportedByEmail(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := set(swift, "--post-takeover", l.hook("post-takeover", "echo the database is broken; exit 4"),
		"--pre-release", l.hook("pre-release", "echo it does not stop; exit 5"))
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, args...).want(t, state.TookOver)
	if !strings.Contains(e.stderr, "pingover: web: post-takeover failed: ") || !strings.Contains(e.stderr, "exit code 4: the database is broken") {
		t.Errorf("stderr: %s", e.stderr)
	}
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, args...).want(t, state.Released)
	s.check(s.Standby, args...).want(t, state.OK)
	emails := s.mail.want(t, tookOver, released)
	emails[0].says(t, "exit code 4")
	emails[0].says(t, "the database is broken")
	emails[1].says(t, "exit code 5")
	emails[1].says(t, "it does not stop")
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

// A signal does not wait for a hook that may take long: it stays pending.
func TestSignalWhilePostTakeoverRuns(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := set(swift, "--post-takeover", l.hook("post-takeover", "trap '' TERM; echo $$ >>$log; test -e /run/second || exec sleep 1000; echo done >>$log"))
	s.must(s.Primary.PowerOff())
	check := s.follow(s.Standby, args...)
	pid := l.pid()
	began := time.Now()
	s.must(check.cmd.Process.Signal(syscall.SIGTERM))
	check.wait().want(t, state.TookOver)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it ended %s after the signal", took)
	}
	s.wantGone(pid)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t)
	if pending := s.record(s.Standby).PendingHook; pending == nil || pending.Hook != state.PostTakeover {
		t.Errorf("pending: %+v", pending)
	}
	s.run(s.Standby, "touch", "/run/second")
	s.check(s.Standby, args...).want(t, state.Holding)
	if lines := l.lines(); len(lines) != 3 || lines[2] != "done" {
		t.Errorf("the hook wrote %q", lines)
	}
	s.wantTakenOver(args, 1)
}
