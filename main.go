//go:build linux

// Pingover is a two-node failover tool: it pings a primary and takes over its
// virtual IPs when the primary is confirmed down.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/balance"
	"pingover/internal/cli"
	"pingover/internal/config"
	"pingover/internal/demo"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/term"
)

// version is set for a release: go build -ldflags "-X main.version=v1.2.3".
var version string

// startAlone is how long the program keeps to one processor. A healthy check of one
// cluster is over by then, and needs less time on one than on several that wake and
// wait for each other; what takes longer gets all.
const startAlone = 50 * time.Millisecond

func main() {
	all := runtime.GOMAXPROCS(1)
	alone := func(yes bool) {
		n := all
		if yes {
			n = 1
		}
		if runtime.GOMAXPROCS(0) != n { // to set it stops the program for a moment
			runtime.GOMAXPROCS(n)
		}
	}
	time.AfterFunc(startAlone, func() { alone(false) })
	machine := new(failover.Machine)
	execute(machine, machine.Check, alone)
}

// execute runs the command line of the process, and exits with its outcome.
func execute(machine *failover.Machine, check cli.Act, alone func(bool)) {
	raiseLimits()
	// A write to a closed pipe must fail and not kill a takeover. An ignored
	// signal would be inherited by the commands that are run, a caught one is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, hangup := untilSignal()
	hostname, _ := os.Hostname() // without one, mail is from localhost
	live := term.Redraws(os.Stderr, os.Getenv)
	pools := balance.NewMachine(machine.Shared())
	program := cli.Program{
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		ASCII:     !term.UTF8(os.Getenv),
		Terminal:  term.IsTerminal(os.Stderr),
		Live:      live,
		Color:     live && colors(),
		Out:       output(),
		Stamp:     stampFor(os.Stderr),
		LogSocket: logSocket(os.Stderr),
		Hangup:    hangup,
		Version:   cmp.Or(version, builtVersion(), "(unknown)"),
		Env:       config.Env{Hostname: hostname, Root: os.Geteuid() == 0, Getenv: os.Getenv},
		Check:     check,
		TakeOver:  machine.TakeOver,
		Release:   machine.Release,
		Keep:      machine.Keep,
		Alone:     alone,
		Pools:     cli.Pools{Check: pools.Check, Drain: pools.Drain, Undrain: pools.Undrain, Examine: doctor.RunPool},
		Deliver:   failover.Deliver,
		Examine:   doctor.Run,
		Demo:      showDemo,
		File:      "/etc/pingover.yaml",
	}
	code := program.Run(ctx, os.Args[1:])
	if code == exit.Interrupted {
		code = dieOf(context.Cause(ctx))
	}
	os.Exit(code)
}

// raiseLimits undoes limits that cron or a shell passed on, where it may: with few open
// files or none of any size a healthy check succeeds and a takeover fails. The kernel's
// own limit of open files is 4096 (INR_OPEN_MAX). An error shows where the limit does.
func raiseLimits() {
	for resource, least := range map[int]uint64{syscall.RLIMIT_NOFILE: 4096, syscall.RLIMIT_FSIZE: math.MaxUint64} {
		var limit syscall.Rlimit
		if syscall.Getrlimit(resource, &limit) != nil || limit.Cur >= least {
			continue
		}
		if syscall.Setrlimit(resource, &syscall.Rlimit{Cur: least, Max: max(least, limit.Max)}) != nil {
			_ = syscall.Setrlimit(resource, &syscall.Rlimit{Cur: min(least, limit.Max), Max: limit.Max})
		}
	}
}

// caught is the cause of a context that a signal ended.
type caught struct{ syscall.Signal }

func (c caught) Error() string { return unix.SignalName(c.Signal) }

// untilSignal is a context that the first signal ends. A second one more than a
// second later ends the process at once, as a kill does; a hangup may come twice
// by itself. A signal that was ignored at the start, as nohup does, stays ignored.
// Once hangup is called, SIGHUP ends nothing and arrives there.
func untilSignal() (_ context.Context, hangup func() <-chan os.Signal) {
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	var reloads atomic.Bool
	hangups := make(chan os.Signal, 1)
	next := func() syscall.Signal {
		for s := range signals {
			if s != syscall.SIGHUP || !reloads.Load() {
				return s.(syscall.Signal)
			}
			select {
			case hangups <- s:
			default: // one reload is for all
			}
		}
		return 0
	}
	go func() {
		end(caught{next()})
		began := time.Now()
		for s := range signals {
			if s != syscall.SIGHUP && time.Since(began) > time.Second {
				dieOf(caught{s.(syscall.Signal)})
			}
		}
	}()
	return ctx, func() <-chan os.Signal {
		reloads.Store(true)
		return hangups
	}
}

// stampFor is what the lines of a watch begin with: their priority where the
// journal reads stderr (systemd.exec(5), JOURNAL_STREAM), nothing where another
// program does, else the time.
func stampFor(stderr *os.File) cli.Stamp {
	info, err := stderr.Stat()
	if err != nil {
		return cli.NoStamp
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino) {
		return cli.PriorityStamp
	}
	if info.Mode().IsRegular() || term.IsTerminal(stderr) {
		return cli.TimeStamp
	}
	return cli.NoStamp
}

// logSocket is that of syslog, where nobody else reads stderr: neither an operator
// nor the journal.
func logSocket(stderr *os.File) string {
	if term.IsTerminal(stderr) || stampFor(stderr) == cli.PriorityStamp {
		return ""
	}
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			return path
		}
	}
	return ""
}

// dieOf ends the process by the signal that was caught. Process 1 of a container
// survives that; it exits with the code that a shell would show.
func dieOf(cause error) int {
	c, ok := errors.AsType[caught](cause)
	if !ok {
		panic(cause)
	}
	signal.Reset(c.Signal)
	if err := syscall.Kill(syscall.Getpid(), c.Signal); err == nil {
		time.Sleep(time.Second)
	}
	return 128 + int(c.Signal)
}

// output is the terminal that stdout is.
func output() cli.Output {
	live := term.Redraws(os.Stdout, os.Getenv)
	columns, rows := term.Size(os.Stdout)
	return cli.Output{Columns: columns, Rows: rows, Live: live, Colors: term.Colors(live && colors())}
}

// colors reports whether colours are wanted (no-color.org).
func colors() bool { return os.Getenv("NO_COLOR") == "" }

// builtVersion is what the go command knows about this build.
func builtVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

// showDemo runs the demo with this program.
func showDemo(ctx context.Context, o demo.Options) (err error) {
	live := term.Redraws(os.Stdout, os.Getenv)
	o.In, o.Out, o.Terminal, o.Color = os.Stdin, os.Stdout, live, live && colors()
	if o.Program, err = os.Executable(); err != nil {
		return err
	}
	return demo.Run(ctx, o)
}
