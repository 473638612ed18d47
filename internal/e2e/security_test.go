package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pingover/state"
)

// What other users of the standby, and servers, may do to a run of root's.

const nobody = 65534

// printable fails the test for a character that does something to a terminal.
func printable(t testing.TB, what, text string) {
	t.Helper()
	if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 {
		t.Errorf("%s has %q in it", what, text[max(0, at-20):min(len(text), at+20)])
	}
}

// prints is all that a command on the standby prints.
func (s *scene) prints(argv ...string) string {
	s.t.Helper()
	out, err := s.command(s.Standby, argv...).CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		s.t.Fatal(err)
	}
	return string(out)
}

// rewritable is a script of root's that another user may change.
func (s *scene) rewritable(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	s.script(path, text)
	s.must(os.Chown(path, nobody, nobody))
	s.must(os.Chmod(path, 0o777))
	return path
}

// What others can rewrite is an error of a new cluster; one that was checked before
// goes on without it.
func TestProgramsThatOthersCanRewriteAreNotRun(t *testing.T) {
	t.Parallel()
	const text = " belongs to user 65534, so root does not run it"
	for setting, c := range map[string]struct {
		outcome state.Outcome
		held    int
	}{
		"pre-takeover":  {state.Blocked, 0},
		"post-takeover": {state.TookOver, 1},
		"mail-via":      {state.TookOver, 1},
		"tool":          {state.TakeoverFailed, 0},
	} {
		t.Run(setting, func(t *testing.T) {
			s := newScene(t)
			evidence := filepath.Join(t.TempDir(), "ran")
			name := map[string]string{"tool": "ip"}[setting]
			if name == "" {
				name = setting
			}
			path := s.rewritable(name, "id >>"+evidence+"\nexec /sbin/ip \"$@\"\n")
			args := slices.Clone(swift)
			s.check(s.Standby, append(slices.Clone(swift), "--state-dir", "/run/known")...).want(t, state.OK)
			switch setting {
			case "tool":
				s.through("env", "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
			case "mail-via":
				args = set(args, "--mail-via", "sendmail://"+path)
			default:
				args = append(args, "--"+setting, path)
			}
			e := s.say(s.Standby, args...)
			if want := "pingover: web: " + setting + ": " + path + text + "\nhint: after reviewing it: chown root " + path + "\n"; e.code != 78 || e.stderr != want {
				t.Errorf("a new cluster: exit code %d\nstderr: %swant 78 and\n%s", e.code, e.stderr, want)
			}
			s.must(s.Primary.PowerOff())
			e = s.check(s.Standby, append(args, "--state-dir", "/run/known")...).want(t, c.outcome)
			if !strings.Contains(e.stdout+e.stderr, path+text) {
				t.Errorf("it does not say why: %s%s", e.stdout, e.stderr)
			}
			s.wantHeld(s.Standby, vip4, c.held)
			if setting == "mail-via" && e.MailWaiting != 1 {
				t.Errorf("%d emails pending, want 1", e.MailWaiting)
			}
			if out, code := s.doctor(append(args, "--state-dir", "/run/known")...); code != 78 || !strings.Contains(out, setting+": "+path+text) {
				t.Errorf("doctor: code %d\n%s", code, out)
			}
			if ran, err := os.ReadFile(evidence); err == nil {
				t.Errorf("it was run: %s", ran)
			}
		})
	}
}

// Mail's credentials never decide over an address: neither in a check nor manually.
func TestCredentialsThatAreGone(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "echo secret >/etc/password; chmod 600 /etc/password")
	args := append(slices.Clone(swift), "--mail-user", "ops", "--mail-password-file", "/etc/password")
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	const text = `mail-password-file "/etc/password": `
	for what, replace := range map[string]string{
		"cannot be read: no such file or directory": "true",
		"not a regular file":                        "mkfifo /etc/password",
		"larger than 4 KiB":                         "head -c 1000000 /dev/zero >/etc/password",
	} {
		s.run(s.Standby, "sh", "-c", "rm -f /etc/password; "+replace)
		s.plain(78, "pingover: --"+text+what, append([]string{"check"}, set(args, "--name", "new")...)...).atOnce(t)
		e := s.hand("takeover", "web")
		if e.code != 11 || !strings.Contains(e.stderr, text+what+"; mail stays pending") || e.MailWaiting == 0 {
			t.Errorf("%s: exit code %d, %d emails pending, stderr: %s", what, e.code, e.MailWaiting, e.stderr)
		}
		s.check(s.Standby, args...).want(t, state.Holding)
		if e := s.enter(s.Standby, "release", "web", "--force").wait(); e.code != 12 {
			t.Errorf("%s: release: exit code %d, stderr: %s", what, e.code, e.stderr)
		}
	}
	s.run(s.Standby, "sh", "-c", "rm -f /etc/password; mkfifo /etc/password")
	s.inStateDir("sed -i 's/\"released_by_hand\":true/\"released_by_hand\":false/' web.json")
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
}

// A device, a pipe or a directory in place of a file that is read ends at once.
func TestSomethingElseInPlaceOfAFileThatIsRead(t *testing.T) {
	s := newScene(t)
	for kind, make := range map[string]string{
		"pipe": "mkfifo /etc/x", "endless device": "ln -s /dev/zero /etc/x", "directory": "mkdir /etc/x", "terminal": "ln -s /dev/tty /etc/x",
	} {
		s.run(s.Standby, "sh", "-c", "rm -rf /etc/x; "+make)
		for setting, args := range map[string][]string{
			"file":               {"check", "--file", "/etc/x"},
			"mail-password-file": append([]string{"check", "--mail-user", "ops", "--mail-password-file", "/etc/x"}, patient...),
			"mail-ca":            append([]string{"check", "--mail-ca", "/etc/x"}, patient...),
			"pre-takeover":       append([]string{"check", "--pre-takeover", "/etc/x"}, patient...),
		} {
			if e := s.plain(78, "not a regular file", args...); e.took > 5*time.Second {
				t.Errorf("%s is a %s: it took %s", setting, kind, e.took)
			}
		}
	}
	s.run(s.Standby, "sh", "-c", "rm -rf /etc/x; mkfifo /etc/x; printf '#!/etc/x\\n' >/etc/hook; chmod 755 /etc/hook")
	if out := s.prints(append([]string{"doctor", "--pre-takeover", "/etc/hook"}, patient...)...); !strings.Contains(out, `/etc/hook: its interpreter "/etc/x": not a regular file`) {
		t.Errorf("doctor: %s", out)
	}
}

// A record that another user wrote never becomes root's own: root runs no hook of
// it, whatever was typed before.
func TestRecordOfAnotherUserStaysUntrusted(t *testing.T) {
	s := newScene(t)
	evidence := filepath.Join(t.TempDir(), "ran")
	hook := filepath.Join(t.TempDir(), "hook")
	s.script(hook, "id >"+evidence+"\n")
	s.must(s.Primary.PowerOff())
	record := fmt.Sprintf(`{"version":1,"cluster":"web","host":"172.16.0.2","role":"standby","released_by_hand":true,"settings":{"host":["172.16.0.2"],`+
		`"vip":["172.16.0.1"],"witness":["none"],"boot-wait":["0"],"pre-takeover":["%s"]}}`, hook)
	s.run(s.Standby, "sh", "-c", "mkdir -p /run/svc; printf %s \"$1\" >/run/svc/web.json; chown -R 65534 /run/svc", "sh", record)
	for _, argv := range [][]string{{"takeover", "web"}, {"resume", "web"}, {"takeover", "web"}, {"release", "web"}} {
		s.enter(s.Standby, append(argv, "--state-dir", "/run/svc")...).wait()
		if ran, err := os.ReadFile(evidence); err == nil {
			t.Fatalf("after %q the hook was run: %s", argv, ran)
		}
	}
	s.wantOn(vip4)
}

// What a hook prints reaches terminal, JSON, history and mail as text.
func TestControlCharactersOfAHook(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	hook := s.log().hook("post-takeover", `printf 'a\033]0;title\007b\302\233c\342\200\256d\342\200\250e\377f\r\n'; exit 1`)
	e := s.follow(s.Standby, append(slices.Clone(swift), "--post-takeover", hook)...).wait()
	e.want(t, state.TookOver)
	printable(t, "stdout", e.stdout)
	printable(t, "stderr", e.stderr)
	for _, argv := range [][]string{{"history"}, {"history", "--json"}, {"status"}, {"status", "--json"}, {"status", "--monitoring"}} {
		printable(t, strings.Join(argv, " "), s.prints(argv...))
	}
	for _, m := range s.mail.all() {
		printable(t, "the email", m.header.Get("Subject")+strings.ReplaceAll(m.body, "\r\n", "\n"))
	}
}

// A server that never stops talking costs neither memory nor the takeover.
// peak runs a command, and returns the most memory that it had at a time, in MiB. Its
// rusage has that of this process too, from before the exec.
func peak(t *testing.T, cmd *exec.Cmd) (mib int) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	for {
		select {
		case <-ended:
			if mib == 0 {
				t.Error("its memory was not seen")
			}
			return mib
		case <-time.After(20 * time.Millisecond):
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if _, after, ok := strings.Cut(string(status), "\nVmHWM:"); ok { // proc_pid_status(5)
			var kib int
			_, _ = fmt.Sscan(after, &kib)
			mib = kib >> 10
		}
	}
}

func TestMailServerThatNeverStops(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]string{
		"one line": strings.Repeat("a", 1<<16), "many lines": strings.Repeat("220-aaaaaaaa\r\n", 1<<12),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			port := s.listen(s.Gateway, func(conn net.Conn) {
				_, err := conn.Write([]byte("220 "))
				for err == nil {
					_, err = conn.Write([]byte(chunk))
				}
			})
			cmd := s.command(s.Standby, append([]string{"check"}, set(swift, "--mail-via", fmt.Sprintf("smtp://172.16.0.254:%d", port), "--mail-timeout", "10s")...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			mib := peak(t, cmd)
			if code := cmd.ProcessState.ExitCode(); code != 11 {
				t.Errorf("exit code %d, stderr: %s", code, &stderr)
			}
			if mib > 128 { // with the race detector; the server sends gigabytes
				t.Errorf("it took %d MiB", mib)
			}
			s.wantOn(vip4, s.Standby)
		})
	}
}
