package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/exit"
	"pingover/internal/lab"
	"pingover/internal/term"
)

// These tests run the test binary as the program that shows the demo. All that
// it starts is found again by a mark in its environment.

const (
	shows   = "PINGOVER_DEMO_TEST_SHOWS"  // the program that is shown
	screens = "PINGOVER_DEMO_TEST_SCREEN" // how: words among terminal, step, pools
)

func TestMain(m *testing.M) {
	if program := os.Getenv(shows); program != "" {
		os.Exit(play(program, os.Getenv(screens)))
	}
	flag.Set("test.parallel", "8") // demos mostly wait; a flag of the command line overrides it
	code := m.Run()
	os.RemoveAll(binaryDir())
	os.Exit(code)
}

// notShort skips a test that shows a whole demo, as one that remains does too.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a whole demo takes 10 seconds: it does not run with -short")
	}
}

// play is the command demo; it ends with 130 where a signal ended it.
func play(program, screen string) int {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // as the program does
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	drawn := strings.Contains(screen, "terminal")
	err := Run(ctx, Options{
		Pools: strings.Contains(screen, "pools"), Step: strings.Contains(screen, "step"),
		In: os.Stdin, Out: os.Stdout, Terminal: drawn, Color: drawn, Program: program,
	})
	failed, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return 130
	case !ok:
		fmt.Fprintf(os.Stderr, "no *Error: %v\n", err)
		return 1
	}
	if failed.Text != "" {
		fmt.Fprintln(os.Stderr, strings.TrimSuffix(failed.Text+"\n"+failed.Hint, "\n"))
	}
	return failed.Code
}

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir(), "pingover")
	build := exec.Command("go", "build", "-o", path, "pingover")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func binaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("pingover-demo-test-%d", os.Getpid()))
}

// showing is a demo that runs as a process of its own.
type showing struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	mark           string // in the environment of all but the program's processes
	bin            string // where that is, for this test alone
	dir            string // where files might be left
}

// prepare makes a demo of the program, or of a shell script in its place, in
// which "$REAL" is the program. Argv runs the demo, "$0" by default.
func prepare(t *testing.T, script string, argv ...string) *showing {
	t.Helper()
	t.Parallel()
	lab.Needed(t)
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	shown := filepath.Join(bin, "pingover")
	if err := os.Link(program, shown); err != nil {
		t.Fatal(err)
	}
	if script != "" {
		text := fmt.Sprintf("#!/bin/sh\nREAL=%s\n%s\n", shown, script)
		shown = filepath.Join(bin, "script")
		if err := os.WriteFile(shown, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &showing{t: t, bin: bin, dir: t.TempDir(), mark: fmt.Sprintf("PINGOVER_DEMO_TEST_MARK=%s/%d", t.Name(), time.Now().UnixNano())}
	s.cmd = exec.Command("/proc/self/exe")
	if len(argv) > 0 {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		s.cmd = exec.Command(argv[0], append(argv[1:], self)...)
	}
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), s.mark, shows+"="+shown, "TMPDIR="+s.dir, "HOME="+s.dir, "GORACE=atexit_sleep_ms=0")
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.cmd.WaitDelay = 5 * time.Second
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s
}

// ends runs the demo to its end, and fails the test unless it ends so.
func (s *showing) ends(code int, stderr string) {
	s.t.Helper()
	err := s.cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%s, want exit code %d\n%s", s.cmd.ProcessState, code, &s.stdout)
	}
	if diff := cmp.Diff(stderr, s.stderr.String()); diff != "" {
		s.t.Errorf("stderr (-want +got):\n%s", diff)
	}
	s.leftNothing()
}

// leftNothing fails the test if a process or a file of this demo is left. Its
// namespaces live by their processes: it mounts none.
func (s *showing) leftNothing() {
	s.t.Helper()
	var left []string
	for range 500 {
		if left = s.running(); len(left) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) > 0 {
		s.t.Errorf("still running after 5s: %s", left)
	}
	if files, err := os.ReadDir(s.dir); err != nil || len(files) > 0 {
		s.t.Errorf("files are left: %v, %v", files, err)
	}
}

// running are the processes of the demo.
func (s *showing) running() (pids []string) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		env, _ := os.ReadFile(name + "/environ")
		exe, _ := os.Readlink(name + "/exe")
		if bytes.Contains(env, []byte(s.mark)) || strings.HasPrefix(exe, s.bin+"/") {
			pids = append(pids, filepath.Base(name))
		}
	}
	return pids
}

// wantStory is what a demo shows, in this order; what stands between is free.
var wantStory = []string{
	`^--- A failover, in a network of its own -{40}$`,
	`^--- 1\. All is well -{61}$`,
	`^    primary# ip addr add 172\.16\.0\.1/32 dev eth0$`,
	`^    standby# cat /etc/pingover\.yaml$`,
	`^        host: 172\.16\.0\.2$`,
	`^    standby# pingover check web --verbose$`,
	`^    pingover: web: ok: 172\.16\.0\.2 replies$`,
	`^Exit code 0: ok\.$`,
	`^--- 2\. The primary loses its power -+$`,
	`^    standby# pingover check web --verbose$`,
	`^    pingover: web: round 2: down: no reply to 3 pings$`,
	`^    pingover: web: ran: ip addr add 172\.16\.0\.1/32 dev eth0 label eth0:1$`,
	`^Exit code 11: took-over\.$`,
	`^    client: \.{2,} {10,}\.{2,}$`,
	`^    client: no reply for \d{3,5} ms$`,
	`^--- 3\. The operator has mail -+$`,
	`^    To: <ops@example\.org>$`,
	`^    Subject: \[pingover\] web: 172\.16\.0\.2 is down! standby took over 172\.16\.0\.1$`,
	`^$`,
	`^    172\.16\.0\.2 is down\. standby has taken over 172\.16\.0\.1`,
	`^    Evidence$`,
	`^    What to do now$`,
	`^      ip addr del 172\.16\.0\.1/32 dev eth0$`,
	`^--- 4\. The primary is back -+$`,
	`^    standby# pingover check web --verbose$`,
	`^Exit code 10: holding\.$`,
	`^--- 5\. The standby hands over -+$`,
	`^    standby# pingover release web --verbose$`,
	`^    pingover: web: ran: ip addr del 172\.16\.0\.1/32 dev eth0$`,
	`^    primary# ip addr add 172\.16\.0\.1/32 dev eth0$`,
	`^    pingover: web: announced on eth0: 172\.16\.0\.1 is at 02:00:00:00:00:02$`,
	`^Exit code 12: released\.$`,
	`^    client: \.{2,} +\.{2,}$`,
	`^    client: no reply for \d{2,5} ms$`,
	`^    standby# pingover check web$`,
	`^Exit code 0: ok\.$`,
	`^--- 6\. The history -+$`,
	`^    standby# pingover history web$`,
	`  web  took-over: 172\.16\.0\.2 does not reply, and`,
	`  web  released, manually: 172\.16\.0\.1 is released`,
	`^Every step was verified, in \d+ s, and the machines are gone\.$`,
	`^"pingover demo pools" (shows how a host that is down leaves DNS|cannot run: .* is missing: install the package .*)\.$`,
}

// tells fails the test unless the text tells the story.
func tells(t *testing.T, text string, story ...string) {
	t.Helper()
	fits(t, text)
	lines := strings.Split(text, "\n")
	for _, want := range story {
		pattern := regexp.MustCompile(want)
		for len(lines) > 0 && !pattern.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			t.Fatalf("it does not tell %s, or not then:\n%s", want, text)
		}
		lines = lines[1:]
	}
}

// fits fails the test unless each act is shown on a screen of 80 columns and 40
// lines, with the prompt of the next one.
func fits(t *testing.T, text string) {
	t.Helper()
	for _, act := range strings.Split(text, "\n--- ")[1:] {
		lines := strings.Split(act, "\n")
		if len(lines) > 39 {
			t.Errorf("an act of %d lines:\n%s", len(lines), act)
		}
		for _, line := range lines {
			if len(line) > 80 {
				t.Errorf("a line of %d columns: %s", len(line), line)
			}
		}
	}
}

func TestDemoThroughAPipe(t *testing.T) {
	s := prepare(t, "")
	began := time.Now()
	s.ends(0, "")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	tells(t, s.stdout.String(), wantStory...)
	if i := bytes.IndexFunc(s.stdout.Bytes(), func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }); i >= 0 {
		t.Errorf("control character %q", s.stdout.Bytes()[i])
	}
}

func TestDemoOnATerminal(t *testing.T) {
	notShort(t)
	s := prepare(t, "")
	s.cmd.Env = append(s.cmd.Env, screens+"=terminal")
	s.ends(0, "")
	raw := s.stdout.String()
	grown := 0 // drawings of the client's line
	for _, drawn := range strings.Split(raw, "\r\033[K")[1:] {
		if strings.HasPrefix(drawn, "\x1b[?7l    client: \033[32m.") && strings.HasSuffix(drawn, "\x1b[?7h\r") && !strings.Contains(drawn, "\n") {
			grown++
		}
	}
	if grown < 40 {
		t.Errorf("the client's line was drawn %d times, want it to grow", grown)
	}
	seen := regexp.MustCompile(`(?m)^.*\r\x1b\[K`).ReplaceAllString(raw, "")
	seen = regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(seen, "")
	tells(t, seen, wantStory...)
	if strings.ContainsAny(seen, "\r\033") {
		t.Errorf("what stays on the screen: %q", seen)
	}
}

func TestDemoWithoutRoot(t *testing.T) {
	notShort(t)
	s := prepare(t, "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(s.bin, "demo.test")
	if out, err := exec.Command("cp", self, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	trial := exec.Command("unshare", "-Urn", "true")
	trial.SysProcAttr = nobody
	if out, err := trial.CombinedOutput(); err != nil {
		lab.Skip(t, fmt.Sprintf("users cannot make namespaces here, or we are no root: %v: %s", err, out))
	}
	if err := errors.Join(os.Chmod(filepath.Dir(s.dir), 0o755), os.Chmod(s.dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	s.cmd.Path, s.cmd.SysProcAttr = program, nobody
	s.ends(0, "")
	tells(t, s.stdout.String(), wantStory...)
}

// What is not as told ends the demo, with what was expected and what was seen.
func TestNotAsTold(t *testing.T) {
	notShort(t)
	tests := map[string]struct{ program, want string }{
		"the program always fails": {
			"exit 1",
			"1. All is well: pingover check ended with exit code 1, and should have with 0 (ok)",
		},
		"the program is killed": {
			"kill -9 $$",
			"1. All is well: pingover check: signal: killed",
		},
		"the check of the healthy primary takes over": {
			"ip addr add 172.16.0.1/32 dev eth0",
			"1. All is well: 172.16.0.1 is on standby, and should be on primary",
		},
		"the takeover is refused": {
			`[ $1 = check ] && $REAL pause web >/dev/null 2>&1
			exec $REAL "$@"`,
			"2. The primary loses its power: pingover check ended with exit code 21, and should have with 11 (took-over)",
		},
		"the takeover raises nothing": {
			`exec $REAL "$@" --dry-run`,
			"2. The primary loses its power: 172.16.0.1 is not on standby, and should be",
		},
		"the client gets no answer": {
			`echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all; exec $REAL "$@"`,
			"2. The primary loses its power: the client has had no reply from 172.16.0.1 since the power cut, and should have from the standby",
		},
		"the mail goes elsewhere": {
			`sed -i 's|smtp://172.16.0.254$|&:26|' /etc/pingover.yaml; exec $REAL "$@"`,
			`3. The operator has mail: the mail that came is [], and should be ["[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"]`,
		},
		"the standby loses the address": {
			`$REAL "$@"; code=$?
			[ $code = 10 ] && ip addr del 172.16.0.1/32 dev eth0
			exit $code`,
			"4. The primary is back: 172.16.0.1 is not on standby, and should be",
		},
		"the release lowers nothing": {
			`[ $1 = release ] && exit 12; exec $REAL "$@"`,
			"5. The standby hands over: 172.16.0.1 is not on primary, and should be",
		},
		"the release takes it again": {
			`$REAL "$@"; code=$?
			[ $code = 12 ] && ip addr add 172.16.0.1/32 dev eth0
			exit $code`,
			"5. The standby hands over: 172.16.0.1 is on standby, and should be on primary",
		},
		"the release is not mailed": {
			`[ $1 = release ] && touch /run/released && set -- "$@" --mail-via smtp://172.16.0.254:26
			[ $1 = check ] && [ -e /run/released ] && exit 0
			exec $REAL "$@"`,
			`6. The history: the mail that came is ["[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"], ` +
				`and should be ["[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1" "[pingover] web: standby released 172.16.0.1"]`,
		},
		"the history is lost": {
			`[ $1 = check ] && [ -e /run/released ] && rm -f /var/lib/pingover/web.json && : >/var/lib/pingover/web.history
			[ $1 = release ] && touch /run/released
			exec $REAL "$@"`,
			`6. The history: the changes in the history are [], and should be ["took-over" "released"]`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := prepare(t, test.program)
			s.ends(exit.Internal, test.want+"\n")
			if strings.Contains(s.stdout.String(), "step was verified") {
				t.Errorf("it goes on:\n%s", &s.stdout)
			}
		})
	}
}

// without prepares a demo where a shell script has taken something away.
func without(t *testing.T, script string) *showing {
	t.Helper()
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").CombinedOutput(); err != nil {
		lab.Skip(t, fmt.Sprintf("no user namespace to take something away in: %v: %s", err, out))
	}
	return prepare(t, "", "unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script+`; exec "$@"`, "sh")
}

// forbidden makes it so that there are no user namespaces, and no word of it in
// /proc/sys.
const forbidden = `echo 0 >/proc/sys/user/max_user_namespaces; mount -t tmpfs none /proc/sys
set -- setpriv --bounding-set -sys_admin "$@"
`

func TestCannotRun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ before, want string }{
		"ip is missing": {
			`mount --bind /dev/null "$(command -v ip)"`,
			"cannot run here: ip is missing: install the package iproute2\n",
		},
		"neither root nor user namespaces": {
			`echo 0 >/proc/sys/user/max_user_namespaces; set -- setpriv --bounding-set -sys_admin "$@"`,
			"cannot run here: no namespaces can be made: user.max_user_namespaces is 0: " +
				"run it as root, or allow it: sysctl -w user.max_user_namespaces=1000\n",
		},
		"user namespaces forbidden by Debian's kernel": {
			forbidden + `mkdir /proc/sys/kernel; echo 0 >/proc/sys/kernel/unprivileged_userns_clone`,
			"cannot run here: no namespaces can be made: kernel.unprivileged_userns_clone is 0: " +
				"run it as root, or allow it: sysctl -w kernel.unprivileged_userns_clone=1\n",
		},
		"user namespaces forbidden by Ubuntu's kernel": {
			forbidden + `mkdir /proc/sys/kernel; echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns`,
			"cannot run here: no namespaces can be made: kernel.apparmor_restrict_unprivileged_userns is 1: " +
				"run it as root, or allow it: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n",
		},
		"no right at all": {
			`set -- setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"`,
			"cannot run here: no namespaces can be made: operation not permitted: " +
				"run it as root with all its capabilities, or where users may make user namespaces\n",
		},
		"root without the rights of its network": {
			`set -- setpriv --bounding-set=-all,+sys_admin "$@"`,
			"cannot run here: no namespaces can be made: switch: keeper: exit status 2: RTNETLINK answers: Operation not permitted: " +
				"run it as root with all its capabilities, or where users may make user namespaces\n",
		},
		"no network namespaces": {
			`echo 0 >/proc/sys/user/max_net_namespaces`,
			"cannot run here: no namespaces can be made: user.max_net_namespaces is 0: raise it: sysctl -w user.max_net_namespaces=1000\n",
		},
		"too few network namespaces": {
			`echo 1 >/proc/sys/user/max_net_namespaces`,
			"cannot run here: no namespaces can be made: a limit is reached, here or around this container: " +
				"raise user.max_net_namespaces and those beside it: sysctl user\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := without(t, test.before)
			s.ends(exit.Unavailable, test.want)
			if s.stdout.Len() > 0 {
				t.Errorf("stdout: %s", &s.stdout)
			}
		})
	}
}

// begun starts the demo and waits until it shows this.
func (s *showing) begun(marker string) {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stdout = w
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	w.Close()
	said := bufio.NewScanner(r)
	for said.Scan() {
		if strings.Contains(said.Text(), marker) {
			go func() { io.Copy(io.Discard, r); r.Close() }()
			return
		}
	}
	s.t.Fatalf("it ended early: %v", s.cmd.Wait())
}

// atWork starts a demo and waits until a host of it is down and a check runs.
func atWork(t *testing.T, pools bool) *showing {
	t.Helper()
	if !pools {
		s := prepare(t, "")
		s.begun("waiting 1s")
		return s
	}
	s := preparePools(t, "")
	s.begun("One connection in three fails")
	time.Sleep(time.Second)
	return s
}

func TestAnEndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pools     bool
		processes int // at work, at least: the demo, the switch, the hosts, the check; named
	}{
		"failover": {false, 7},
		"pools":    {true, 10},
	} {
		t.Run(name+", interrupted", func(t *testing.T) {
			s := atWork(t, test.pools)
			// As the terminal does it: to all that runs there.
			if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			s.endedBySignal()
		})
		t.Run(name+", terminated", func(t *testing.T) {
			s := atWork(t, test.pools)
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.endedBySignal()
		})
		t.Run(name+", killed", func(t *testing.T) {
			s := atWork(t, test.pools)
			if got := len(s.running()); got < test.processes {
				t.Errorf("%d processes before the kill", got)
			}
			if err := s.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			s.cmd.Wait() // its error is the kill
			s.leftNothing()
		})
	}
}

func (s *showing) endedBySignal() {
	s.t.Helper()
	s.cmd.Wait() // its error is the code
	if code := s.cmd.ProcessState.ExitCode(); code != 130 {
		s.t.Errorf("%s, want exit code 130", s.cmd.ProcessState)
	}
	s.leftNothing()
}

func TestOutputThatCannotBeShownEndsTheDemo(t *testing.T) {
	s := prepare(t, "")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	s.cmd.Stdout = full
	s.ends(exit.Internal, "1. All is well: cannot be shown: write /dev/stdout: no space left on device\n")
}

// As demo | head does it. What others print ends with 0 then, too.
func TestAReaderThatGoesAwayEndsTheDemoQuietly(t *testing.T) {
	s := prepare(t, "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go func() {
		io.ReadFull(r, make([]byte, 100))
		r.Close()
	}()
	s.cmd.Stdout = w
	began := time.Now()
	s.ends(0, "")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it went on for %s", took)
	}
}

func TestStrip(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replies string // one character for each ping
		want    []string
	}{
		{"no pings", "", nil},
		{"not a dot yet", "yyyyyyyyy", nil},
		{"all replied", strings.Repeat("y", 25), []string{".."}},
		{"one lost", strings.Repeat("y", 15) + "n" + strings.Repeat("y", 14), []string{". ."}},
		{"a full row", strings.Repeat("y", 10*rowLength), []string{strings.Repeat(".", rowLength)}},
		{"more than a row", strings.Repeat("n", 10*rowLength) + strings.Repeat("y", 10), []string{strings.Repeat(" ", rowLength), "."}},
	} {
		var samples []lab.Sample
		for _, reply := range tt.replies {
			samples = append(samples, lab.Sample{OK: reply == 'y'})
		}
		if diff := cmp.Diff(tt.want, rows(dots(samples))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestLongLinesAreFolded(t *testing.T) {
	for name, tt := range map[string]struct{ line, want string }{
		"at 80 columns": {strings.Repeat("a", 76), indent + strings.Repeat("a", 76) + "\n"},
		"longer":        {strings.Repeat("a", 70) + " bbbbbb c", indent + strings.Repeat("a", 70) + "\n      bbbbbb c\n"},
		"indented":      {"    " + strings.Repeat("a", 70) + " b c", indent + "    " + strings.Repeat("a", 70) + " b\n        c\n"},
		"one word":      {strings.Repeat("a", 100), indent + strings.Repeat("a", 100) + "\n"},
	} {
		var got bytes.Buffer
		newScreen(&got, false, false).shown(tt.line)
		if diff := cmp.Diff(tt.want, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestScreen(t *testing.T) {
	tell := func(s *screen) {
		s.heading("Title")
		s.Draw(term.Still(".."))
		o := &output{screen: s}
		fmt.Fprint(o, "one\r\ntwo \x1b[2Jthree\n\nfo")
		fmt.Fprint(o, "ur")
		o.end()
		o.end()
		s.Clear()
		s.say("%d", 5)
	}
	head := "--- Title " + strings.Repeat("-", 70)
	for _, tt := range []struct {
		name            string
		terminal, color bool
		want            string
	}{
		{"through a pipe", false, false, head + "\n\n    one\n    two  [2Jthree\n\n    four\n5\n\n"},
		{
			"on a terminal",
			true, false,
			strings.ReplaceAll(head+"\n\nDRAWN    one\nDRAWN    two  [2Jthree\nDRAWN\nDRAWN    four\nDRAWN5\n\n",
				"DRAWN", "\x1b[?7l..\x1b[?7h\r\r\x1b[K"),
		},
		{"in colour", false, true, "\x1b[1m" + head + "\x1b[0m\n\n    one\n    two  [2Jthree\n\n    four\n5\n\n"},
	} {
		var got bytes.Buffer
		tell(newScreen(&got, tt.terminal, tt.color))
		if diff := cmp.Diff(tt.want, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
