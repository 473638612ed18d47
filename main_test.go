package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/internal/run"
)

func TestMain(m *testing.M) {
	os.Setenv("GORACE", quickExit)
	syscall.Umask(0o022) // root refuses what others could have written
	testscript.Main(tests{m}, map[string]func(){
		"pingover":        main,
		"pingover-asleep": func() { execute(new(failover.Machine), sleep, nil) },
		"pingover-acting": func() { execute(new(failover.Machine), act, nil) },
		"pingover-fluent": func() { execute(new(failover.Machine), talk, nil) },
	})
}

// quickExit is the value of GORACE without which each of our processes sleeps
// a second at its end under -race.
const quickExit = "atexit_sleep_ms=0"

// tests run as root on a host of a lab, where they may ping and where
// /etc/pingover.yaml and /var/lib/pingover are not those of this machine. Where
// there can be no lab, the scripts are skipped.
type tests struct{ *testing.M }

func (t tests) Run() int {
	if inside, code, err := lab.EnterHost(); err == nil && !inside {
		return code
	}
	// Under nohup our children would ignore the hangup that a test sends them; a
	// signal that is caught here is not ignored there.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	return t.M.Run()
}

// TestScripts runs the program itself. UPDATE=1 writes what it prints into the
// scripts.
func TestScripts(t *testing.T) {
	lab.Needed(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", quickExit)
			return nil
		},
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"code": code},
		Condition: condition,
	})
}

// condition is what a script can ask: [ping], whether this process may ping;
// [root], whether it is root.
func condition(name string) (bool, error) {
	switch name {
	case "ping":
		return os.Getenv("PINGOVER_TEST_NO_SKIP") != "" || check.Permission() == nil, nil
	case "root":
		return os.Geteuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// code runs a command that must end with that exit code: code 64 pingover check.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args...]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// sleep is a check that waits for a signal.
func sleep(ctx context.Context, _ config.Cluster, o failover.Options) (failover.Report, error) {
	o.OnEvent(run.Note{Text: "asleep"})
	<-ctx.Done()
	return failover.Report{}, context.Cause(ctx)
}

// act is a check that a signal meets while it acts.
func act(ctx context.Context, _ config.Cluster, o failover.Options) (failover.Report, error) {
	o.OnEvent(run.Note{Text: "asleep"})
	<-ctx.Done()
	return failover.Report{Outcome: "took-over", Code: 11, Reason: "it had begun"}, nil
}

// talk is a check that has much to say, and takes over.
func talk(_ context.Context, _ config.Cluster, o failover.Options) (failover.Report, error) {
	for range 10 {
		o.OnEvent(run.Note{Text: "still here"})
	}
	return failover.Report{Outcome: "took-over", Code: 11}, nil
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(s.String()+" before acting", func(t *testing.T) {
			t.Parallel()
			status, stderr := signalled(t, []syscall.Signal{s}, "pingover-asleep")
			if !status.Signaled() || status.Signal() != s {
				t.Errorf("it did not die of the signal, but: exited %v, code %d", status.Exited(), status.ExitStatus())
			}
			if !strings.HasPrefix(stderr, "pingover: web: ended by SIG") || !strings.HasSuffix(stderr, " before it had changed anything\n") {
				t.Errorf("stderr: %q", stderr)
			}
		})
		t.Run(s.String()+" while acting", func(t *testing.T) {
			t.Parallel()
			status, stderr := signalled(t, []syscall.Signal{s}, "pingover-acting")
			if status.ExitStatus() != 11 {
				t.Errorf("code %d, want 11", status.ExitStatus())
			}
			if diff := cmp.Diff("pingover: web: took-over: it had begun\n", stderr); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	t.Run("a hangup that nohup ignores stays ignored", func(t *testing.T) {
		t.Parallel()
		status, stderr := signalled(t, []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM}, "nohup", "pingover-asleep")
		if !status.Signaled() || status.Signal() != syscall.SIGTERM {
			t.Errorf("it did not die of SIGTERM; code %d, stderr %q", status.ExitStatus(), stderr)
		}
	})
}

// signalled runs a check of a cluster called web that says "asleep" on stderr,
// sends it the signals then, and returns how it ended and what it said after.
func signalled(t *testing.T, signals []syscall.Signal, argv ...string) (syscall.WaitStatus, string) {
	t.Helper()
	c := exec.Command(argv[0], append(argv[1:], "check", "--name", "web", "--host", "172.16.0.2", "--verbose")...)
	pipe, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stderr := bufio.NewReader(pipe)
	if line, err := stderr.ReadString('\n'); line != "pingover: web: asleep\n" {
		t.Errorf("said %q, %v", line, err)
	}
	for _, s := range signals {
		if err := c.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Error(err)
	}
	c.Wait() // its error is the status
	return c.ProcessState.Sys().(syscall.WaitStatus), string(rest)
}

func TestAReaderThatGoesAwayDoesNotKillTheCheck(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	c := exec.Command("pingover-fluent", "check", "--host", "172.16.0.2", "--verbose")
	c.Stderr = w
	c.Run() // its error is the code
	if code := c.ProcessState.ExitCode(); code != 11 {
		t.Errorf("%s, want exit code 11", c.ProcessState)
	}
}
