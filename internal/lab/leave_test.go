package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests run the test binary as the program that owns a lab. All that it starts inherits its environment, and
// by that its processes are found again.

// play is what the owner does.
func play(part string) int {
	if err := owner(part); err != nil {
		fmt.Println(err)
		return 1
	}
	return 7
}

func owner(part string) error {
	l, err := New()
	if err != nil {
		return err
	}
	if err := l.Usual(); err != nil {
		return err
	}
	for _, h := range l.hosts {
		if _, err := h.Run("sh", "-c", daemon); err != nil {
			return err
		}
	}
	if _, err := l.Client.Watch(l.Primary.Addr4(), time.Millisecond); err != nil {
		return err
	}
	switch part {
	case "power off":
		return onMainThread(func() error {
			return l.Primary.Do(l.Primary.PowerOff)
		})
	case "close":
		if err := l.Close(); err != nil {
			return err
		}
		if links := namespaces(); len(links) > 0 {
			return fmt.Errorf("open: %s", links)
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// onMainThread calls f on the thread by which /proc knows this process. Each goroutine that is on another one keeps
// it, until there is no other left to run the next.
func onMainThread(f func() error) error {
	result, done := make(chan error, 1), make(chan struct{})
	var try func(left int)
	try = func(left int) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		switch {
		case unix.Gettid() == os.Getpid():
			result <- f()
		case left == 0:
			result <- errors.New("never on the main thread")
		default:
			go try(left - 1)
			<-done
		}
	}
	go try(100)
	defer close(done)
	return <-result
}

// namespaces are the networks that this process keeps alive, besides the one it started in, and the sockets.
func namespaces() (links []string) {
	home, _ := os.Readlink("/proc/self/ns/net")
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/net")
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, name := range append(tasks, fds...) {
		link, _ := os.Readlink(name)
		if strings.Contains(link, "net:[") && link != home || strings.HasPrefix(link, "socket:") {
			links = append(links, name+" "+link)
		}
	}
	return links
}

// alive tells whether there is such a process, and it is no zombie.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// marked are the processes that have the mark in their environment.
func marked(mark string) (pids []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		if env, err := os.ReadFile(name); err == nil && bytes.Contains(env, []byte(mark)) {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// start starts this program as the owner of a lab and waits until it is ready.
func start(t *testing.T, part string, attr *syscall.SysProcAttr, program string) (cmd *exec.Cmd, mark string, end func()) {
	t.Helper()
	mark = fmt.Sprintf("PINGOVER_LAB_TEST_MARK=%s/%d", t.Name(), time.Now().UnixNano())
	cmd = exec.Command(program)
	cmd.Env = append(os.Environ(), "PINGOVER_LAB_TEST_PART="+part, mark)
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	ok(t, err)
	out, in, err := os.Pipe() // not a StdoutPipe: Wait must not wait for those who inherit it
	ok(t, err)
	cmd.Stdout, cmd.Stderr = in, in
	ok(t, cmd.Start())
	in.Close()
	t.Cleanup(func() { stdin.Close(); cmd.Process.Kill(); cmd.Wait(); out.Close() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	return cmd, mark, func() { stdin.Close() }
}

func wantGone(t *testing.T, mark string, but ...string) {
	t.Helper()
	var left []string
	for range 500 {
		if left = marked(mark); slices.Equal(left, but) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("still running after 5s: %s, want %s", left, but)
}

func TestCloseLeavesNothing(t *testing.T) {
	needLab(t)
	cmd, mark, _ := start(t, "close", nil, "/proc/self/exe")
	wantGone(t, mark, strconv.Itoa(cmd.Process.Pid))
	for line := range strings.Lines(read(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, "nsfs") && !strings.Contains(line, "/run/netns/") { // where ip netns of this machine's user has them
			t.Errorf("a namespace is mounted: %s", line)
		}
	}
}

func TestPowerCutSparesOurThreadInTheHost(t *testing.T) {
	needLab(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PINGOVER_LAB_TEST_PART=power off")
	out, err := cmd.CombinedOutput()
	if err == nil || err.Error() != "exit status 7" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestKillLeavesNothing(t *testing.T) {
	needLab(t)
	cmd, mark, _ := start(t, "leave open", nil, "/proc/self/exe")
	if got := len(marked(mark)); got < 17 { // the owner, the switch, and five hosts with a daemon of two
		t.Errorf("%d processes before the kill", got)
	}
	ok(t, cmd.Process.Kill())
	cmd.Wait()
	wantGone(t, mark)
}

func TestInterruptFromTheTerminalIsForTheOwner(t *testing.T) {
	needLab(t)
	cmd, mark, _ := start(t, "leave open", &syscall.SysProcAttr{Setpgid: true}, "/proc/self/exe")
	ok(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT))
	cmd.Wait()
	wantGone(t, mark)
}

// nobody makes a copy of this program that the user nobody can run, and the attributes to run it so.
func nobody(t *testing.T) (program string, attr *syscall.SysProcAttr) {
	t.Helper()
	t.Parallel()
	if strings.Fields(read(t, "/proc/self/uid_map"))[2] != "4294967295" {
		t.Skip("there is one user only here, and this test itself runs through Enter")
	}
	dir := t.TempDir()
	ok(t, os.Chmod(filepath.Dir(dir), 0o755))
	program = filepath.Join(dir, "program")
	self, err := os.Executable()
	ok(t, err)
	// Not written by us: a child forked meanwhile would hold it open for writing, and it could not be run.
	ok(t, exec.Command("cp", self, program).Run())
	attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

	trial := exec.Command("unshare", "-Urn", "true")
	trial.SysProcAttr = attr
	if out, err := trial.CombinedOutput(); err != nil {
		Skip(t, fmt.Sprintf("users cannot make namespaces here: %v: %s", err, out))
	}
	return program, attr
}

func TestEnterMakesALabWithoutRoot(t *testing.T) {
	program, attr := nobody(t)
	cmd, mark, end := start(t, "close", attr, program)
	end()
	if err := cmd.Wait(); err == nil || err.Error() != "exit status 7" {
		t.Errorf("the program's exit code came out as %v", err)
	}
	wantGone(t, mark)
}

func TestKillWithoutRootLeavesNothing(t *testing.T) {
	program, attr := nobody(t)
	cmd, mark, _ := start(t, "leave open", attr, program)
	ok(t, cmd.Process.Kill())
	cmd.Process.Wait() // and its input stays open
	wantGone(t, mark)
}
