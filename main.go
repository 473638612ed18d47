//go:build linux

// Pingover is a two-node failover tool: it pings a primary and takes over its
// virtual IPs when the primary is confirmed down.
package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/cli"
	"pingover/internal/config"
	"pingover/internal/demo"
	"pingover/internal/failover"
)

// version is set for a release: go build -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	machine := new(failover.Machine)
	run(machine, machine.Check)
}

// run obeys the command line of the process, whose exit code is the outcome.
func run(machine *failover.Machine, check cli.Act) {
	// A reader that goes away ends a takeover no more than it begins one: a
	// write to it fails, and does not kill. An ignored signal would be passed
	// on to the commands that are run, a caught one is not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx := untilSignal()
	hostname, _ := os.Hostname() // without one, mail is from localhost
	live := redraws(os.Stderr)
	program := cli.Program{
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Terminal: isTerminal(os.Stderr),
		Live:     live,
		Color:    live && colors(),
		Version:  cmp.Or(version, builtVersion(), "(unknown)"),
		Env:      config.Env{Hostname: hostname, Root: os.Geteuid() == 0, Getenv: os.Getenv},
		Check:    check,
		TakeOver: machine.TakeOver,
		Release:  machine.Release,
		Examine:  failover.Examine,
		Demo:     showDemo,
		File:     "/etc/pingover.yaml",
	}
	code := program.Run(ctx, os.Args[1:])
	if code == cli.Interrupted {
		code = dieOf(context.Cause(ctx))
	}
	os.Exit(code)
}

// caught is the cause of a context that a signal ended.
type caught struct{ syscall.Signal }

func (c caught) Error() string { return unix.SignalName(c.Signal) }

// untilSignal is a context that the first signal ends. A second one by hand, a
// while later, ends the process at once, as a kill does; a hangup may come twice
// by itself. A signal that whoever started us had set to be ignored, as nohup
// does, stays ignored.
func untilSignal() context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		first := (<-signals).(syscall.Signal)
		end(caught{first})
		began := time.Now()
		for s := range signals {
			if s != syscall.SIGHUP && time.Since(began) > time.Second {
				dieOf(caught{s.(syscall.Signal)})
			}
		}
	}()
	return ctx
}

// dieOf ends the process by the signal that was caught. Process 1 of a
// container survives that; it gets the exit code that a shell makes of it.
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

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// redraws says whether a line on it can be drawn anew.
func redraws(f *os.File) bool {
	term := os.Getenv("TERM")
	return isTerminal(f) && term != "" && term != "dumb"
}

// colors says whether colours are wanted (no-color.org).
func colors() bool { return os.Getenv("NO_COLOR") == "" }

// builtVersion is what the go command knows about this build.
func builtVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Version
}

// showDemo shows this program on stdout.
func showDemo(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	live := redraws(os.Stdout)
	return demo.Run(ctx, demo.Options{Out: os.Stdout, Terminal: live, Color: live && colors(), Program: self})
}
