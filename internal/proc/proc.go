// Package proc runs other programs: each child has a deadline, its own process group and a chosen environment, is
// killed when this process dies, and returns the end of its output.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is one child to run.
type Command struct {
	Argv    []string      // Argv[0] is a path, or a name for Find
	Env     []string      // the whole environment; nil means Environment()
	Stdin   []byte        // none: the child reads /dev/null
	Timeout time.Duration // greater than 0
}

// Result is how a child ended.
type Result struct {
	Argv     []string
	Code     int           // exit code; -1 when it did not exit by itself, and Err says why
	Output   string        // the end of stdout and stderr together: at most 4 KiB of valid UTF-8, "…" in front when cut
	Duration time.Duration // 0 when it could not even be tried
	// Err is nil only for exit code 0. Otherwise it is the command line and what happened: not started, exit code and
	// first line of the output, signal, deadline.
	Err error
}

// grace is how long a killed child may take to be gone. Only one that hangs in the kernel takes longer, as on a file
// server that is dead.
const grace = 2 * time.Second

// Run runs a child, if it is Trusted, in a process group of its own and returns when it has exited: what it left running goes on, and may
// keep the output open. At the deadline, or when ctx ends, the whole group is killed. When this process dies, so does
// the child, but not what that has started.
func Run(ctx context.Context, c Command) Result {
	if len(c.Argv) == 0 {
		return Result{Code: -1, Err: errors.New("no command given")}
	}
	r := run(ctx, c)
	r.Argv = c.Argv
	if r.Err != nil {
		r.Err = fmt.Errorf("%s: %v", Line(c.Argv), r.Err)
	}
	return r
}

func run(ctx context.Context, c Command) Result {
	failed := func(err error) Result { return Result{Code: -1, Err: err} }
	if c.Timeout <= 0 {
		return failed(fmt.Errorf("timeout %s: must be greater than 0", c.Timeout))
	}
	if ctx.Err() != nil {
		return failed(fmt.Errorf("not started: %v", context.Cause(ctx)))
	}
	path, err := Find(c.Argv[0])
	if err != nil {
		return failed(err)
	}
	if err := Trusted(c.Argv); err != nil {
		return failed(fmt.Errorf("not started: %w", err))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("took longer than %s", c.Timeout))
	defer cancel()

	cmd := exec.CommandContext(ctx, path)
	cmd.Args = c.Argv
	cmd.Env = c.Env
	if cmd.Env == nil {
		cmd.Env = Environment()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return cmd.Process.Kill() // it may have changed its group
	}
	// Only with files does Wait wait for the child and nothing else.
	if len(c.Stdin) > 0 {
		stdin, err := memory(c.Stdin)
		if err != nil {
			return failed(err)
		}
		defer stdin.Close()
		cmd.Stdin = stdin
	}
	out, err := capture()
	if err != nil {
		return failed(err)
	}
	defer out.close()
	cmd.Stdout, cmd.Stderr = out.w, out.w

	begin := time.Now()
	ended := make(chan ending, 1)
	go func() { ended <- live(cmd) }()
	end := wait(ctx, ended)
	r := Result{Code: -1, Err: end.err, Duration: time.Since(begin), Output: out.end()}
	if end.err == nil {
		r.Code, r.Err = judge(end.state, context.Cause(ctx), r.Output)
	}
	return r
}

// ending is the state in which a child ended, or else why there is none.
type ending struct {
	state *os.ProcessState
	err   error
}

// wait waits for the end of a child that is killed when ctx ends. A child that stays even then is left behind.
func wait(ctx context.Context, ended <-chan ending) ending {
	select {
	case end := <-ended:
		return end
	case <-ctx.Done():
	}
	select {
	case end := <-ended:
		return end
	case <-time.After(grace):
		return ending{err: fmt.Errorf("killed: %v, and still not gone %s later", context.Cause(ctx), grace)}
	}
}

// live is the whole life of a child. The thread stays its own, because Pdeathsig comes when the thread ends that
// started it.
func live(cmd *exec.Cmd) ending {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err // without "fork/exec"
		}
		return ending{err: fmt.Errorf("not started: %v", err)}
	}
	// What Wait says about ctx may come too late: the state alone tells how the child ended.
	if err := cmd.Wait(); cmd.ProcessState == nil {
		return ending{err: err}
	}
	return ending{state: cmd.ProcessState}
}

// judge finds the exit code and what is wrong with it.
func judge(state *os.ProcessState, cause error, output string) (code int, err error) {
	status := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && cause != nil:
		return -1, fmt.Errorf("killed: %v", cause)
	case status.Signaled():
		return -1, fmt.Errorf("ended by signal: %v", status.Signal())
	case status.ExitStatus() == 0:
		return 0, nil
	}
	err = fmt.Errorf("exit code %d", status.ExitStatus())
	if line := firstLine(output); line != "" {
		err = fmt.Errorf("%v: %s", err, line)
	}
	return status.ExitStatus(), err
}

// firstLine is the first line that says something, or the beginning of a long one.
func firstLine(output string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	line = strings.TrimSpace(line)
	if runes := []rune(line); len(runes) > 200 {
		return string(runes[:200]) + "…"
	}
	return line
}

// memory is a file that says this and is nowhere on disk.
func memory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("no standard input: %v", err)
	}
	f := os.NewFile(uintptr(fd), "stdin")
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("no standard input: %v", err)
	}
	return f, nil
}
