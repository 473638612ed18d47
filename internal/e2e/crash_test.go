package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// A check that is killed, at whatever step, is finished by the next: the
// virtual IP is assigned once, the email comes once.

const (
	tookOver = "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"
	released = "[pingover] web: standby released 172.16.0.1"
	isolated = "[pingover] web: PROBLEM: standby holds 172.16.0.1, but is isolated"
)

// swift are the settings of a takeover that announces only once.
var swift = set(withVIP, "--announce", "1")

// crash is a way for a check to be killed.
type crash struct {
	// Shell scripts that the tool, or sendmail, is at its first call. What
	// does not exit goes on as the tool itself ($real), or delivers.
	tool, sendmail string
	// step is that of its talk with the mail server at which it is killed.
	step string
	// when is looked at again and again: kill it now? Else the above does.
	when func(*scene) bool
}

// aroundTheTool are the crashes of a switch before it is written down. done
// says whether the switch was made.
var aroundTheTool = map[string]struct {
	crash
	done bool
}{
	"before the tool runs":     {crash: crash{tool: "kill -9 $PPID; sleep 0.5"}},
	"in place of the tool":     {crash: crash{tool: "kill -9 $PPID; exit"}},
	"while the tool hesitates": {crash: crash{tool: "sleep 1", when: intends}},
	"after the tool has run":   {crash: crash{tool: `$real "$@"; kill -9 $PPID; exit`}, done: true},
}

// aroundTheEmail are the crashes when the switch is written down, and how
// often the email then comes.
var aroundTheEmail = map[string]struct {
	crash
	emails int
}{
	"connecting to the mail server": {crash{step: "connect"}, 1},
	"at MAIL":                       {crash{step: "MAIL"}, 1},
	"at DATA":                       {crash{step: "DATA"}, 1},
	"the email is there, and not acknowledged":     {crash{step: "text"}, 2},
	"the email is acknowledged, not crossed off":   {crash{step: "QUIT"}, 2},
	"before sendmail reads":                        {crash{sendmail: "kill -9 $PPID; sleep 0.5"}, 1},
	"after sendmail has read":                      {crash{sendmail: "cat >/dev/null; kill -9 $PPID; sleep 0.5"}, 1},
	"sendmail has delivered, and not yet returned": {crash{sendmail: "deliver; kill -9 $PPID; exit"}, 2},
}

// intends says whether the record has an open intent.
func intends(s *scene) bool {
	data, _ := s.Standby.Run("cat", "/var/lib/pingover/web.json")
	rec, err := state.Parse([]byte(data))
	return err == nil && (rec.Role == state.Taking || rec.Role == state.Releasing)
}

func TestKilledDuringATakeover(t *testing.T) {
	t.Parallel()
	for name, c := range aroundTheTool {
		for _, tool := range []string{"ip", "ifconfig"} {
			t.Run(name+", "+tool, func(t *testing.T) {
				needTool(t, tool)
				s := newScene(t)
				args := set(swift, "--tool", tool)
				s.check(s.Standby, args...).want(t, state.OK)
				s.must(s.Primary.PowerOff())
				args = s.crash(c.crash, args...)
				s.wantHeld(s.Standby, vip4, count(c.done))
				s.mail.want(t)

				e := s.check(s.Standby, args...).want(t, state.TookOver)
				if len(e.Commands) != count(!c.done) {
					t.Errorf("commands: %s", e.stdout)
				}
				s.check(s.Standby, args...).want(t, state.Holding)
				s.wantTakenOver(args, 1)
			})
		}
	}
}

func TestKilledWhileATakeoverIsMailed(t *testing.T) {
	t.Parallel()
	for name, c := range aroundTheEmail {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, swift...).want(t, state.OK)
			s.must(s.Primary.PowerOff())
			args := s.crash(c.crash, swift...)
			s.wantOn(vip4, s.Standby)
			if rec := s.record(s.Standby); rec.Role != state.Active || rec.Pending != nil || len(rec.Outbox) != 1 {
				t.Errorf("role %q, intent %+v, outbox %+v; want it written down before it is mailed", rec.Role, rec.Pending, rec.Outbox)
			}

			s.check(s.Standby, args...).want(t, state.Holding)
			s.check(s.Standby, args...).want(t, state.Holding)
			s.wantTakenOver(args, c.emails)
		})
	}
}

func TestKilledBetweenTwoVirtualIPs(t *testing.T) {
	s := newScene(t)
	args := append(slices.Clone(swift), "--vip", "2001:db8::1")
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	args = s.crash(crash{tool: `case $* in *db8*) kill -9 $PPID; sleep 0.5;; *) rmdir $once;; esac`}, args...)
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip6)

	e := s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantCommands(e, "ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0")
	s.check(s.Standby, args...).want(t, state.Holding)
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip6, s.Standby)
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1 and 2001:db8::1")
	s.wantWrittenDown(state.Active, state.TookOver)
}

func TestKilledDuringARelease(t *testing.T) {
	t.Parallel()
	for name, c := range aroundTheTool {
		t.Run(name, func(t *testing.T) {
			s, args := newRelease(t, swift)
			args = s.crash(c.crash, args...)
			s.wantHeld(s.Standby, vip4, count(!c.done))
			s.mail.want(t, tookOver)

			s.check(s.Standby, args...).want(t, state.Released) // once removed, it is asked who has it
			s.check(s.Standby, args...).want(t, state.Elsewhere)
			s.wantReleased(args, 1)
		})
	}
}

func TestKilledWhileAReleaseIsMailed(t *testing.T) {
	t.Parallel()
	for name, c := range aroundTheEmail {
		if c.step == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s, args := newRelease(t, swift)
			args = s.crash(c.crash, args...)
			s.wantOn(vip4, s.Client)
			s.check(s.Standby, args...).want(t, state.Elsewhere)
			s.check(s.Standby, args...).want(t, state.Elsewhere)
			s.wantReleased(args, c.emails)
		})
	}
}

// elsewhere is the subject about the machine that serves instead.
func elsewhere(mac string) string {
	return "[pingover] web: 172.16.0.2 is down! another standby (" + mac + ") serves 172.16.0.1"
}

// newRelease is a standby that has taken over when a machine with a lower MAC
// takes the virtual IP as well: the next check releases it.
func newRelease(t *testing.T, args []string) (*scene, []string) {
	t.Helper()
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.run(s.Client, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	return s, args
}

func TestKilledAndThenThePrimaryIsBack(t *testing.T) {
	t.Parallel()
	for name, c := range aroundTheTool {
		if c.done {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			untouched := s.untouched(s.Standby)
			s.must(s.Primary.PowerOff())
			args := s.crash(c.crash, swift...)
			if !intends(s) {
				t.Fatal("no intent was written")
			}
			s.must(s.Primary.PowerOn())

			e := s.check(s.Standby, args...).want(t, state.OK).because(t, "172.16.0.2 replies")
			s.wantCommands(e)
			s.check(s.Standby, args...).want(t, state.OK)
			untouched()
			s.wantOn(vip4, s.Primary)
			s.mail.want(t)
			s.wantWrittenDown(state.Standby)
		})
	}
	t.Run("after the tool has run, the primary has the virtual IP", func(t *testing.T) {
		s := newScene(t)
		untouched := s.untouched(s.Standby)
		s.must(s.Primary.PowerOff())
		args := s.crash(aroundTheTool["after the tool has run"].crash, swift...)
		s.must(s.Primary.PowerOn())
		s.check(s.Standby, args...).want(t, state.Released)
		s.check(s.Standby, args...).want(t, state.OK)
		untouched()
		s.wantOn(vip4, s.Primary)
		s.mail.want(t, released)
		s.wantWrittenDown(state.Standby, state.Released)
	})
	t.Run("after the tool has run, the primary has lost the virtual IP", func(t *testing.T) {
		s := newScene(t)
		s.must(s.Primary.PowerOff())
		args := s.crash(aroundTheTool["after the tool has run"].crash, swift...)
		s.must(s.Primary.PowerOn())
		s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		s.check(s.Standby, args...).want(t, state.TookOver)
		s.check(s.Standby, args...).want(t, state.Holding)
		s.wantOn(vip4, s.Standby)
		if l := s.mail.all(); len(l) != 1 || !strings.HasSuffix(l[0].subject, "standby took over 172.16.0.1") {
			t.Errorf("mail: %+v, want one that tells of the takeover", l)
		}
		s.wantWrittenDown(state.Active, state.TookOver)
	})
}

func TestKilledAndThenPaused(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	args := s.crash(aroundTheTool["after the tool has run"].crash, swift...)
	s.run(s.Standby, "sh", "-c", "date -u -d '+1 hour' +%Y-%m-%dT%H:%M:%SZ >/var/lib/pingover/web.pause")
	for range 2 {
		s.check(s.Standby, args...).want(t, state.Holding).because(t, "paused, holding 172.16.0.1")
	}
	s.mail.want(t)
	s.run(s.Standby, "rm", "/var/lib/pingover/web.pause")
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.check(s.Standby, args...).want(t, state.Holding)
	s.wantTakenOver(args, 1)
}

// The alias ends with the boot; the record of it stays.
func TestKilledByAPowerCut(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	args := s.crash(aroundTheTool["after the tool has run"].crash, swift...)
	s.must(s.Standby.PowerOff())
	s.must(s.Standby.PowerOn())
	s.wantOn(vip4)
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.check(s.Standby, args...).want(t, state.Holding)
	s.wantTakenOver(args, 1)
}

// Whatever the moment: the steps above are those that we thought of.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	for at := 500 * time.Millisecond; at < 2500*time.Millisecond; at += 600 * time.Millisecond {
		t.Run("after "+at.String(), func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			check := s.follow(s.Standby, swift...)
			time.Sleep(at)
			s.must(check.cmd.Process.Kill())
			check.wait()
			first := s.check(s.Standby, swift...)
			if first.Outcome != state.TookOver && first.Outcome != state.Holding {
				t.Fatalf("outcome %q: %s", first.Outcome, first.stdout)
			}
			s.check(s.Standby, swift...).want(t, state.Holding)
			s.wantTakenOver(swift, min(max(1, len(s.mail.all())), 2))
		})
	}
}

func TestSecondRunAtOnceIsBusy(t *testing.T) {
	s := shortScene(t)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	first := s.follow(s.Standby, set(swift, "--retry-wait", "1m")...)
	first.until("waiting 1m")

	shortest := time.Hour
	for range 5 {
		e := s.say(s.Standby, swift...)
		if e.code != 75 || e.stdout != "" || e.stderr != "" {
			t.Fatalf("exit code %d\nstdout: %s\nstderr: %s\nwant 75 and no output", e.code, e.stdout, e.stderr)
		}
		shortest = min(shortest, e.took)
	}
	t.Logf("the second run took %s, with what it costs to enter the host", shortest)
	if shortest > time.Second {
		t.Errorf("the second run took %s", shortest)
	}
	e := s.check(s.Standby, swift...)
	if e.code != 75 || e.Outcome != "busy" || len(e.Rounds) != 0 || e.stderr != "" {
		t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant 75, busy, no pings", e.code, e.stdout, e.stderr)
	}
	// Another cluster is not held up.
	s.check(s.Standby, set(swift, "--name", "other", "--host", "172.16.0.9")...).want(t, state.OK)
	untouched()

	s.must(first.cmd.Process.Kill())
	first.wait()
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

func TestWhatAToolLeavesRunningKeepsNoLock(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]string{
		"the check ends":      "",
		"the check is killed": "kill -9 $PPID; exit",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			pid := filepath.Join(t.TempDir(), "pid")
			s.fake("ip", "sleep 1000 & echo $! >"+pid+"; "+then)
			run := s.follow(s.Standby, swift...)
			e := run.wait()
			if then == "" {
				e.want(t, state.TookOver)
			}
			text, err := os.ReadFile(pid)
			s.must(err)
			left, err := strconv.Atoi(strings.TrimSpace(string(text)))
			s.must(err)
			s.must(syscall.Kill(left, 0)) // it is there

			for _, lock := range []string{"web.lock", "act.lock"} {
				s.run(s.Standby, "flock", "--nonblock", "/var/lib/pingover/"+lock, "true")
			}
			s.check(s.Standby, swift...)
			s.check(s.Standby, swift...).want(t, state.Holding)
			s.must(syscall.Kill(left, syscall.SIGKILL))
			s.waitFor("its end", func() bool { return syscall.Kill(left, 0) != nil })
			s.wantTakenOver(swift, 1)
		})
	}
}

const takeoverFailed = "[pingover] web: PROBLEM: 172.16.0.2 is down! takeover failed: 172.16.0.1 not assigned on standby"

func TestToolThatDoesNotRaise(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, because string
		tries           int // of this tool, before it is fixed
	}{
		"it hangs":              {"sleep 1000", "killed: took longer than 5s", 1},
		"it lies":               {"exit 0", "exit code 0, but the kernel does not show the address", 2},
		"it fails":              {"echo RTNETLINK answers: Operation not permitted; exit 2", "exit code 2: RTNETLINK answers: Operation not permitted", 2},
		"it is ended by others": {"kill -9 $$", "ended by signal: killed", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake("ip", "rmdir $once\n"+c.script) // always
			s.check(s.Standby, swift...).want(t, state.OK)
			untouched := s.untouched(s.Standby)
			s.must(s.Primary.PowerOff())

			failed := s.check(s.Standby, swift...).want(t, state.TakeoverFailed).
				because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use; failed: add 172.16.0.1/32 to eth0: ip addr add 172.16.0.1/32 dev eth0 label eth0:1: "+c.because)
			t.Logf("it took %s", failed.took)
			if failed.took > 30*time.Second {
				t.Errorf("it took %s", failed.took)
			}
			for range c.tries - 1 {
				e := s.check(s.Standby, swift...).want(t, state.TakeoverFailed)
				if len(e.Commands) == 0 || e.Changed || e.stderr != "" {
					t.Errorf("it was not tried again, or was news again: %s\nstderr: %s", e.stdout, e.stderr)
				}
			}
			untouched()
			s.wantOn(vip4)
			s.mail.want(t, takeoverFailed)[0].says(t, c.because)
			s.wantWrittenDown(state.Standby, state.TakeoverFailed)

			s.path, _ = binary() // the tool is fixed
			s.check(s.Standby, swift...).want(t, state.TookOver)
			s.check(s.Standby, swift...).want(t, state.Holding)
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, takeoverFailed, tookOver)
			s.wantWrittenDown(state.Active, state.TakeoverFailed, state.TookOver)
		})
	}
}

func TestToolThatRaisesAndSaysOtherwise(t *testing.T) {
	s := newScene(t)
	s.fake("ip", `$real "$@"; echo no; exit 2`)
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, swift...).want(t, state.TookOver)
	s.wantCommands(e, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 (failed)")
	s.check(s.Standby, swift...).want(t, state.Holding)
	s.wantTakenOver(swift, 1)
	s.mail.all()[0].says(t, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 exit code 2 | no")
}

func TestToolThatDoesNotLower(t *testing.T) {
	t.Parallel()
	const failed = "[pingover] web: PROBLEM: release failed: 172.16.0.1 may still be on standby"
	for name, script := range map[string]string{
		"it hangs": "sleep 1000",
		"it lies":  "exit 0",
		"it fails": "exit 2",
	} {
		t.Run(name, func(t *testing.T) {
			s, args := newRelease(t, swift)
			s.fake("ip", script)
			s.check(s.Standby, args...).want(t, state.ReleaseFailed)
			s.wantOn(vip4, s.Standby, s.Client)
			s.mail.want(t, tookOver, failed)
			if !intends(s) {
				t.Error("the intent to release is gone")
			}
			s.check(s.Standby, args...).want(t, state.Released)
			s.check(s.Standby, args...).want(t, state.Elsewhere)
			s.wantOn(vip4, s.Client)
			s.mail.want(t, tookOver, failed, released, elsewhere(s.Client.MAC().String()))
			s.wantWrittenDown(state.Standby, state.TookOver, state.ReleaseFailed, state.Released)
		})
	}
}

func TestMailServerThatFallsSilent(t *testing.T) {
	t.Parallel()
	for step, copies := range map[string]int{"EHLO": 1, "MAIL": 1, "DATA": 1, "text": 2, "QUIT": 1} {
		t.Run("at "+step, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			over := make(chan struct{})
			t.Cleanup(func() { close(over) })
			var once atomic.Bool
			args := set(swift, "--mail-timeout", "2s", "--mail-via", s.serveUnruly(func(now string) {
				if now == step && !once.Swap(true) {
					<-over
				}
			}))
			e := s.check(s.Standby, args...).want(t, state.TookOver)
			t.Logf("the run took %s, with a mail timeout of 2s", e.took)
			if e.took > 20*time.Second {
				t.Errorf("it took %s", e.took)
			}
			waits := count(step != "QUIT") // the email was accepted before
			if shown := strings.Contains(e.stderr, "mail is pending: mail to ops@example.org via smtp://172.16.0.254"); shown != (waits == 1) || e.MailWaiting != waits {
				t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			s.check(s.Standby, args...).want(t, state.Holding)
			s.check(s.Standby, args...).want(t, state.Holding)
			s.wantTakenOver(args, copies)
		})
	}
}

func TestSendmailThatFails(t *testing.T) {
	t.Parallel()
	always := func(script string) string { return "rmdir $once\n" + script }
	for name, c := range map[string]struct{ script, waits string }{
		"it hangs":               {always("sleep 1000"), "not done within 2s"},
		"it is busy":             {always("cat >/dev/null; echo queue full >&2; exit 75"), "exit code 75: queue full"},
		"it crashes":             {always("kill -9 $$"), "ended by signal: killed"},
		"it warns, and delivers": {"echo warning: no aliases >&2; deliver; exit", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			args := set(swift, "--mail-via", "sendmail://"+s.fakeSendmail(c.script))
			e := s.check(s.Standby, args...).want(t, state.TookOver)
			t.Logf("the run took %s, with a mail timeout of 2s", e.took)
			if c.waits == "" {
				if e.MailWaiting != 0 || strings.Contains(e.stderr, "mail") {
					t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
				}
				s.wantTakenOver(args, 1)
				return
			}
			if e.MailWaiting != 1 || strings.Count(e.stderr, "mail is pending: mail to ops@example.org via sendmail://") != 1 || !strings.Contains(e.stderr, c.waits) {
				t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			if e = s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 1 || e.stderr != "" {
				t.Errorf("next run: %d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			path := strings.TrimPrefix(value(args, "--mail-via", ""), "sendmail://")
			s.script(path, "exec cat >"+filepath.Dir(path)+"/box/$$\n") // it is fixed
			if e = s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 0 || e.stderr != "pingover: web: mail is delivered again\n" {
				t.Errorf("sendmail is fixed: %d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			if e = s.check(s.Standby, args...).want(t, state.Holding); e.stderr != "" {
				t.Errorf("stderr: %s", e.stderr)
			}
			s.wantTakenOver(args, 1)
		})
	}
}

func TestSendmailIsMissing(t *testing.T) {
	s := newScene(t)
	dir := t.TempDir()
	s.must(os.Mkdir(filepath.Join(dir, "box"), 0o700))
	path := filepath.Join(dir, "sendmail")
	args := set(swift, "--mail-via", "sendmail://"+path)
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, args...).want(t, state.TookOver)
	if e.MailWaiting != 1 || !strings.Contains(e.stderr, "mail is pending: ") || !strings.Contains(e.stderr, path) {
		t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
	}
	for range 2 {
		if e = s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 1 || e.stderr != "" {
			t.Errorf("next run: %d emails pending, stderr: %s", e.MailWaiting, e.stderr)
		}
	}
	s.script(path, "exec cat >"+dir+"/box/$$\n")
	for _, want := range []string{"pingover: web: mail is delivered again\n", ""} {
		if e = s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 0 || e.stderr != want {
			t.Errorf("sendmail is there: %d emails pending, stderr %q, want %q", e.MailWaiting, e.stderr, want)
		}
	}
	s.wantTakenOver(args, 1)
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// crash runs a check on the standby that is killed, and returns the settings
// for those that follow; they meet nothing that kills.
func (s *scene) crash(c crash, args ...string) []string {
	s.t.Helper()
	var check *running
	begun, ended := make(chan struct{}), make(chan struct{})
	switch {
	case c.tool != "":
		s.fake(value(args, "--tool", "ip"), c.tool)
	case c.sendmail != "":
		args = set(args, "--mail-via", "sendmail://"+s.fakeSendmail(c.sendmail))
	case c.step != "":
		var once atomic.Bool
		args = set(args, "--mail-via", s.serveUnruly(func(step string) {
			if step == c.step && !once.Swap(true) {
				<-begun
				_ = check.cmd.Process.Kill() // it fails where the check has ended by itself
				<-ended
			}
		}))
	}
	check = s.follow(s.Standby, args...)
	close(begun)
	if c.when != nil {
		s.waitFor("the moment to kill it", func() bool { return c.when(s) })
		s.must(check.cmd.Process.Kill())
	}
	check.wait()
	close(ended)
	if status := check.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		s.t.Fatalf("the check was not killed: %s\n%s", check.cmd.ProcessState, check.said())
	}
	if c.tool != "" {
		time.Sleep(1500 * time.Millisecond) // one that ran on would have done its work
	}
	return args
}

// fake makes the program run a shell script instead of a tool. At the first
// call it is the one given ($real is the tool), later the tool itself.
func (s *scene) fake(tool, script string) {
	s.t.Helper()
	dir := s.t.TempDir()
	real := lab.Need(s.t, tool, "net-tools")
	s.script(filepath.Join(dir, tool), fmt.Sprintf("real=%s once=%s/once\nif mkdir $once 2>/dev/null; then\n%s\nfi\nexec $real \"$@\"\n", real, dir, script))
	s.through("env", "PATH="+dir+":"+os.Getenv("PATH"))
}

// fakeSendmail is the path of a sendmail that delivers into a folder. At the
// first call it is the shell script given.
func (s *scene) fakeSendmail(script string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	s.must(os.Mkdir(filepath.Join(dir, "box"), 0o700))
	path := filepath.Join(dir, "sendmail")
	s.script(path, fmt.Sprintf("once=%[1]s/once\ndeliver() { cat >%[1]s/box/$$; }\nif mkdir $once 2>/dev/null; then\n%[2]s\nfi\ndeliver\n", dir, script))
	return path
}

// script writes a shell script. Nothing is forked meanwhile: a child that had
// it open for writing would make it busy (ETXTBSY).
func (s *scene) script(path, text string) {
	s.t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	s.must(os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
}

// collect reads what a fake sendmail of the settings has delivered.
func (s *scene) collect(args []string) {
	s.t.Helper()
	path, ok := strings.CutPrefix(value(args, "--mail-via", ""), "sendmail://")
	if !ok {
		return
	}
	emails, err := filepath.Glob(filepath.Join(filepath.Dir(path), "box", "*"))
	s.must(err)
	s.mail = new(mailbox)
	for _, name := range emails {
		text, err := os.ReadFile(name)
		s.must(err)
		s.must((&session{box: s.mail, to: []string{filepath.Base(name)}}).Data(bytes.NewReader(text)))
	}
}

// serveUnruly is a mail server at the gateway that calls step at each step of
// a talk: connect, EHLO, MAIL, RCPT, DATA, text (it is there, and not yet
// acknowledged), QUIT. What it gets comes into the scene's mailbox.
func (s *scene) serveUnruly(step func(string)) (via string) {
	s.t.Helper()
	port := s.listen(s.Gateway, func(conn net.Conn) {
		c := textproto.NewConn(conn)
		step("connect")
		for answer := "220 gateway"; c.PrintfLine("%s", answer) == nil; {
			line, err := c.ReadLine()
			if err != nil {
				return
			}
			verb, _, _ := strings.Cut(line, " ")
			step(verb)
			switch answer = "250 gateway"; verb {
			case "QUIT":
				answer = "221 gateway"
			case "DATA":
				_ = c.PrintfLine("354 gateway")
				text, err := c.ReadDotBytes()
				if err != nil || (&session{box: s.mail, to: []string{"ops@example.org"}}).Data(bytes.NewReader(text)) != nil {
					return
				}
				step("text")
			}
		}
	})
	return fmt.Sprintf("smtp://172.16.0.254:%d", port)
}

// waitFor waits until it is so.
func (s *scene) waitFor(what string, so func() bool) {
	s.t.Helper()
	for range 1000 {
		if so() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("waited in vain for %s", what)
}

// value is what the settings say.
func value(args []string, flag, otherwise string) string {
	if i := slices.Index(args, flag); i >= 0 {
		return args[i+1]
	}
	return otherwise
}

// wantTakenOver fails the test unless the standby holds the virtual IP as if
// nothing had happened, and so many copies of one email report it.
func (s *scene) wantTakenOver(args []string, emails int) {
	s.t.Helper()
	s.wantOn(vip4, s.Standby)
	if out := s.run(s.Standby, "ip", "-o", "addr", "show", "to", vip4.String()); !strings.Contains(out, ` 172.16.0.1/32 `) || !strings.Contains(out, ` eth0:1\`) {
		s.t.Errorf("it is assigned as %s", out)
	}
	s.wantCopies(args, tookOver, emails)
	s.wantWrittenDown(state.Active, state.TookOver)
}

// wantReleased fails the test unless the client has the virtual IP to itself,
// and so many copies of one email report it.
func (s *scene) wantReleased(args []string, emails int) {
	s.t.Helper()
	s.wantOn(vip4, s.Client)
	s.wantOn(s.Standby.Addr4(), s.Standby)
	s.wantCopies(args, released, emails)
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

// wantCopies fails the test unless one email has come so often.
func (s *scene) wantCopies(args []string, subject string, copies int) {
	s.t.Helper()
	s.collect(args)
	ids := map[string]int{}
	for _, l := range s.mail.all() {
		if l.subject == subject {
			ids[l.id]++
		}
	}
	if counts := slices.Collect(maps.Values(ids)); !slices.Equal(counts, []int{copies}) {
		s.t.Errorf("the email %q has come so often: %v; want one email, %d times", subject, ids, copies)
	}
}

// wantWrittenDown fails the test unless the standby has that role and that
// history, with nothing pending and no leftovers.
func (s *scene) wantWrittenDown(role state.Role, changes ...state.Outcome) {
	s.t.Helper()
	rec := s.record(s.Standby)
	var got []state.Outcome
	for _, c := range rec.Recent {
		got = append(got, c.Outcome)
	}
	if rec.Role != role || rec.Pending != nil || len(rec.Outbox) != 0 || !slices.Equal(got, changes) {
		s.t.Errorf("role %q, intent %v, emails %v, history %q; want %q, none, none, %q", rec.Role, rec.Pending, rec.Outbox, got, role, changes)
	}
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
}
