package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	switch os.Getenv("PINGOVER_PROC_TEST") {
	case "parent":
		Run(context.Background(), Command{Argv: []string{"sh", "-c", os.Getenv("SCRIPT")}, Timeout: time.Minute})
		os.Exit(1)
	case "leave the group":
		group, err := syscall.Getpgid(os.Getppid())
		if err == nil {
			err = syscall.Setpgid(0, group)
		}
		fmt.Println("left", os.Getpid())
		if err == nil {
			time.Sleep(time.Minute)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// shell runs a script with a deadline that is not meant to be met.
func shell(t *testing.T, script string) Result {
	t.Helper()
	return Run(t.Context(), Command{Argv: []string{"sh", "-c", script}, Timeout: time.Minute})
}

func wantError(t *testing.T, r Result, want string) {
	t.Helper()
	got := ""
	if r.Err != nil {
		got = r.Err.Error()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// alive tells whether there is such a process, and it is no zombie.
func alive(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func wantDead(t *testing.T, pid string) {
	t.Helper()
	for range 500 {
		if !alive(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %q runs on", pid)
}

// end ends a process that a test left running on purpose.
func end(t *testing.T, pid string) {
	t.Helper()
	if n, err := strconv.Atoi(pid); err != nil || n < 2 || syscall.Kill(n, syscall.SIGKILL) != nil {
		t.Errorf("process %q is not there to be ended", pid)
	}
}

func TestRunSaysHowTheChildEnded(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"binary": "\x00\x01", "script": "#!/no/such/shell\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		argv   []string
		code   int
		output string
		err    string
	}{
		{"success", []string{"sh", "-c", "echo fine; echo and more >&2"}, 0, "fine\nand more\n", ""},
		{"exit code without a word", []string{"sh", "-c", "exit 3"}, 3, "", "sh -c 'exit 3': exit code 3"},
		{
			"exit code with words",
			[]string{"sh", "-c", "echo; echo ' RTNETLINK answers: File exists ' >&2; echo more; exit 2"},
			2, "\n RTNETLINK answers: File exists \nmore\n",
			"sh -c 'echo; echo '\\'' RTNETLINK answers: File exists '\\'' >&2; echo more; exit 2': exit code 2: RTNETLINK answers: File exists",
		},
		{
			"exit code with a very long word",
			[]string{"sh", "-c", "printf %0300d 0; exit 2"},
			2, strings.Repeat("0", 300),
			"sh -c 'printf %0300d 0; exit 2': exit code 2: " + strings.Repeat("0", 200) + "…",
		},
		{"signal", []string{"sh", "-c", "echo bye; kill -TERM $$"}, -1, "bye\n", "sh -c 'echo bye; kill -TERM $$': ended by signal: terminated"},
		{"no permission", []string{"/etc/passwd", "a"}, -1, "", "/etc/passwd a: not started: permission denied"},
		{"no such file", []string{"/no/such/file"}, -1, "", "/no/such/file: not started: no such file or directory"},
		{"no program", []string{dir + "/binary"}, -1, "", dir + "/binary: not started: exec format error"},
		{"no interpreter", []string{dir + "/script"}, -1, "", dir + "/script: not started: no such file or directory"},
		{"no command", nil, -1, "", "no command given"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Run(t.Context(), Command{Argv: tt.argv, Timeout: time.Minute})
			wantError(t, r, tt.err)
			if r.Duration < 0 || r.Duration > time.Minute {
				t.Errorf("duration %s", r.Duration)
			}
			r.Err, r.Duration = nil, 0
			if diff := cmp.Diff(Result{Argv: tt.argv, Code: tt.code, Output: tt.output}, r); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProgramThatIsNowhere(t *testing.T) {
	t.Setenv("PATH", "/nowhere:relative::/usr/bin")
	r := Run(t.Context(), Command{Argv: []string{"pingover-no-such-tool", "eth0 up"}, Timeout: time.Minute})
	wantError(t, r, `pingover-no-such-tool 'eth0 up': "pingover-no-such-tool" not found in /nowhere:/usr/bin:/usr/sbin:/sbin:/bin`)
}

func TestNoTimeoutIsRefused(t *testing.T) {
	r := Run(t.Context(), Command{Argv: []string{"true"}})
	wantError(t, r, "true: timeout 0s: must be greater than 0")
}

func TestDeadlineKillsTheWholeGroup(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"grandchild":      "sleep 1000 & echo $! $$; sleep 1000",
		"ignores signals": "trap '' HUP INT TERM; sleep 1000 & echo $! $$; while :; do sleep 1000; done",
		"is stopped":      "sleep 1000 & echo $! $$; kill -STOP $! $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Run(t.Context(), Command{Argv: []string{"sh", "-c", script}, Timeout: 300 * time.Millisecond})
			wantError(t, r, Line(r.Argv)+": killed: took longer than 300ms")
			pids := strings.Fields(r.Output)
			if r.Code != -1 || len(pids) != 2 || r.Duration < 200*time.Millisecond || r.Duration > 30*time.Second {
				t.Fatalf("result %+v", r)
			}
			for _, pid := range pids {
				wantDead(t, pid)
			}
		})
	}
}

func TestDeadlineKillsAChildThatLeftItsGroup(t *testing.T) {
	t.Parallel()
	r := Run(t.Context(), Command{
		Argv:    []string{"/proc/self/exe"},
		Env:     Environment("PINGOVER_PROC_TEST=leave the group"),
		Timeout: time.Second,
	})
	wantError(t, r, "/proc/self/exe: killed: took longer than 1s")
	if !strings.HasPrefix(r.Output, "left ") {
		t.Fatalf("output %q", r.Output)
	}
	wantDead(t, strings.TrimSpace(strings.TrimPrefix(r.Output, "left ")))
}

func TestEndOfContextKillsTheGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(errors.New("terminated")) })
	r := Run(ctx, Command{Argv: []string{"sh", "-c", "sleep 1000 & echo $!; wait"}, Timeout: time.Minute})
	wantError(t, r, "sh -c 'sleep 1000 & echo $!; wait': killed: terminated")
	wantDead(t, strings.TrimSpace(r.Output))

	r = Run(ctx, Command{Argv: []string{"sh", "-c", "echo ran"}, Timeout: time.Minute})
	wantError(t, r, "sh -c 'echo ran': not started: terminated")
	if r.Output != "" || r.Code != -1 {
		t.Errorf("result %+v", r)
	}
}

// A hook that starts a daemon has succeeded, though the daemon holds on to the pipe.
func TestDaemonThatKeepsTheOutputOpen(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ script, want string }{
		"silent":           {"sleep 1000 & echo $!", ""},
		"in a new session": {"setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.3", ""},
		"after a failure":  {"sleep 1000 & echo $!; exit 4", "exit code 4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := shell(t, tt.script)
			pid := strings.TrimSpace(r.Output)
			if (r.Err == nil) != (tt.want == "") || r.Err != nil && !strings.Contains(r.Err.Error(), tt.want) {
				t.Errorf("error %v", r.Err)
			}
			if r.Duration > 30*time.Second {
				t.Errorf("it took %s", r.Duration)
			}
			end(t, pid)
		})
	}
}

// The child's last words may still be in the pipe when its end is known.
func TestLastWordsAreRead(t *testing.T) {
	out, err := capture()
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	out.r.SetReadDeadline(time.Now())
	<-out.done
	last := strings.Repeat("word ", 10000)
	if _, err := out.w.WriteString(last); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("…"+last[len(last)-limit+3:], out.end()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestDaemonThatGoesOnPrinting(t *testing.T) {
	t.Parallel()
	r := shell(t, "yes & sleep 0.1")
	if r.Err != nil || !strings.HasPrefix(r.Output, "…") || !strings.HasSuffix(r.Output, "y\ny\n") && !strings.HasSuffix(r.Output, "\ny") {
		t.Errorf("error %v, output %q", r.Err, r.Output)
	}
}

// Who leaves the group escapes the kill, but Run does not wait for it.
func TestDeadlineThoughADaemonEscaped(t *testing.T) {
	t.Parallel()
	r := Run(t.Context(), Command{
		Argv:    []string{"sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000"},
		Timeout: time.Second,
	})
	wantError(t, r, Line(r.Argv)+": killed: took longer than 1s")
	end(t, strings.TrimSpace(r.Output))
}

// One that hangs in the kernel, as on a dead file server, does not even die of SIGKILL.
func TestRunGivesUpAChildThatCannotDie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("took longer than 30s"))
		defer cancel()
		begin := time.Now()
		end := wait(ctx, make(chan ending))
		if want := "killed: took longer than 30s, and still not gone 2s later"; end.err == nil || end.err.Error() != want {
			t.Errorf("error %v, want %s", end.err, want)
		}
		if took := time.Since(begin); took != 32*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestOnlyTheEndOfTheOutputIsKept(t *testing.T) {
	t.Parallel()
	r := shell(t, "head -c 10485760 /dev/zero | tr '\\0' x; echo end")
	want := "…" + strings.Repeat("x", limit-len("…")-len("end\n")) + "end\n"
	if r.Err != nil || r.Output != want {
		t.Errorf("error %v, %d bytes: %.20q", r.Err, len(r.Output), r.Output)
	}
	r = shell(t, "head -c 4096 /dev/zero | tr '\\0' x")
	if r.Err != nil || r.Output != strings.Repeat("x", limit) {
		t.Errorf("error %v, %d bytes: %.20q", r.Err, len(r.Output), r.Output)
	}
}

func TestTailIsValidUTF8OfAtMost4KiB(t *testing.T) {
	for _, tt := range []struct {
		name string
		kept string
		cut  bool
		want string
	}{
		{"nothing", "", false, ""},
		{"text", "Straße\n", false, "Straße\n"},
		{"not UTF-8", "a\xff\xfeb", false, "a\uFFFDb"},
		{"cut", strings.Repeat("x", limit), true, "…" + strings.Repeat("x", limit-3)},
		{"cut in a character", "\x9f" + strings.Repeat("ß", limit/2-1) + "x", true, "…" + strings.Repeat("ß", limit/2-2) + "x"},
		{"grows", strings.Repeat("\xffa", limit/2), false, "…a" + strings.Repeat("\uFFFDa", limit/4-1)},
	} {
		if diff := cmp.Diff(tt.want, tail([]byte(tt.kept), tt.cut)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		stdin        []byte
		script, want string
	}{
		"none":         {nil, "cat; echo end", "end\n"},
		"text":         {[]byte("a\nb\n"), "cat", "a\nb\n"},
		"much":         {bytes.Repeat([]byte("x"), 10<<20), "wc -c", "10485760\n"},
		"not read":     {bytes.Repeat([]byte("x"), 10<<20), "echo end", "end\n"},
		"daemon holds": {bytes.Repeat([]byte("x"), 10<<20), "sleep 0.5 & echo end", "end\n"},
	} {
		r := Run(t.Context(), Command{Argv: []string{"sh", "-c", tt.script}, Stdin: tt.stdin, Timeout: time.Minute})
		if r.Err != nil || r.Output != tt.want {
			t.Errorf("%s: error %v, output %q", name, r.Err, r.Output)
		}
	}
}

// After a kill -9 of its parent a running ip would raise the address when the lock is long gone.
func TestChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command("/proc/self/exe")
	parent.Env = append(os.Environ(), "PINGOVER_PROC_TEST=parent", "SCRIPT=echo $$ >"+file+".new; mv "+file+".new "+file+"; exec sleep 1000")
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid []byte
	for range 1000 {
		if pid, _ = os.ReadFile(file); len(pid) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	child := strings.TrimSpace(string(pid))
	if child == "" || !alive(child) {
		t.Errorf("the child %q does not run", child)
	}
	parent.Process.Kill()
	parent.Wait()
	wantDead(t, child)
}

func TestChildHasItsOwnGroupAndNoFileOfOurs(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	r := shell(t, `read -r pid _ _ _ group _ </proc/$$/stat; [ $pid = $group ] && echo leader; readlink /proc/$$/fd/*; true`)
	if r.Err != nil || !strings.HasPrefix(r.Output, "leader\n/dev/null\n") || strings.Contains(r.Output, f.Name()) {
		t.Errorf("error %v, output %q", r.Err, r.Output)
	}
}
