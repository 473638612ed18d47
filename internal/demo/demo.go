// Package demo shows a failover on one machine: real hosts in network
// namespaces, the program itself as an operator would call it, and the effects
// that a client and the operator's mailbox observe. It verifies each step that
// it shows, and stops at the first that fails.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"pingover/internal/exit"
	"pingover/internal/lab"
	"pingover/internal/term"
)

// Options are what the demo shows, and where.
type Options struct {
	Pools bool // the hosts of a DNS name, instead of the failover
	Step  bool // wait for Enter before each act; needs a terminal

	In, Out  *os.File
	Terminal bool   // Out is a terminal, on which a line can be drawn anew
	Color    bool   // it may be coloured
	Program  string // path of the program that is shown: this one
}

// Error is why a demo did not come to its end.
type Error struct {
	Code int
	Text string // "" where it has been told by the process that ran in our stead
	Hint string // "" for none
}

func (e *Error) Error() string { return e.Text }

// errEnough ends a demo early and well: the reader has gone away.
var errEnough = errors.New("the reader has gone away")

// Run shows the demo. Without root it runs this very program once more, as
// root of namespaces of its own, with the same arguments. The error is an
// *Error, or else the cause of the end of ctx.
func Run(ctx context.Context, o Options) error {
	if o.Step && !(term.IsTerminal(o.In) && term.IsTerminal(o.Out)) {
		return &Error{Code: exit.Usage, Text: "--step: input and output must be a terminal", Hint: "omit --step to show all acts at once"}
	}
	if err := lab.Available(); err != nil {
		return cannot(err)
	}
	noNames := lab.NameServerAvailable()
	if o.Pools && noNames != nil {
		return cannot(noNames)
	}
	switch inside, err := enter(ctx); {
	case err != nil:
		return err
	case !inside:
		return nil // shown, by the other process
	}
	demo, more := pools, ""
	if !o.Pools {
		demo, more = failover, `"pingover demo pools" shows how a host that is down leaves DNS.`
		if noNames != nil {
			more = fmt.Sprintf("\"pingover demo pools\" cannot run: %v.", noNames)
		}
	}
	err := show(ctx, o, demo, more)
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	switch {
	case err == nil, errors.Is(err, errEnough), errors.Is(err, syscall.EPIPE):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return &Error{Code: exit.Internal, Text: err.Error()}
	}
}

func cannot(reason error) error {
	return &Error{Code: exit.Unavailable, Text: fmt.Sprintf("cannot run here: %v", reason)}
}

// grace is how long the process that runs in our stead may take to tidy up
// after an interrupt that it got too. Then it is killed, which leaves nothing
// behind either.
const grace = time.Second

// enter sees that we may make hosts. Where another process had to do so, the
// error tells how that ended; nil means that it showed all.
func enter(ctx context.Context) (inside bool, err error) {
	type entered struct {
		inside bool
		code   int
		err    error
	}
	done := make(chan entered, 1)
	go func() {
		inside, code, err := lab.Enter()
		done <- entered{inside, code, err}
	}()
	var e entered
	select {
	case e = <-done:
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case e.err != nil:
		return false, cannot(e.err)
	case e.code != 0:
		return false, &Error{Code: e.code}
	}
	return e.inside, nil
}

// show makes a switch, plays the demo on it, and takes all away. At the end it
// points to more.
func show(ctx context.Context, o Options, demo func(context.Context, *stage, *lab.Lab, string) error, more string) error {
	began := time.Now()
	s := &stage{screen: newScreen(o.Out, o.Terminal, o.Color)}
	if o.Step {
		s.in = o.In
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	if err := errors.Join(demo(ctx, s, l, o.Program), l.Close()); err != nil {
		return err
	}
	took := ""
	if !o.Step {
		took = fmt.Sprintf(" in %.0f s,", time.Since(began).Seconds())
	}
	s.print("Every step was verified," + took + " and the machines are gone.\n")
	if more != "" {
		s.print(more + "\n")
	}
	return s.failed()
}
