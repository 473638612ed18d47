// Package demo shows a failover on one machine: real hosts in network
// namespaces, the program itself as an operator would call it, and the effects
// that a client and the operator's mailbox observe. It verifies each step that
// it shows, and stops at the first that fails.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"pingover/internal/exit"
	"pingover/internal/lab"
)

// Options are where the demo is shown, and of what.
type Options struct {
	Out      io.Writer
	Terminal bool   // Out is a terminal, on which a line can be drawn anew
	Color    bool   // it may be coloured
	Program  string // path of the program that is shown: this one
}

// Error is why a demo did not come to its end.
type Error struct {
	Code int
	Text string // "" where it has been told by the process that ran in our stead
}

func (e *Error) Error() string { return e.Text }

// limit is for all of it, which takes about 15 s.
const limit = time.Minute

// Run shows the demo. Without root it runs this very program once more, as
// root of namespaces of its own, with the same arguments. The error is an
// *Error, or else the cause of the end of ctx.
func Run(ctx context.Context, o Options) error {
	if err := lab.Available(); err != nil {
		return cannot(err)
	}
	switch inside, err := enter(ctx); {
	case err != nil:
		return err
	case !inside:
		return nil // shown, by the other process
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, &Error{Code: exit.Internal, Text: fmt.Sprintf("not at its end after %s", limit)})
	defer cancel()
	switch err := show(limited, o); {
	case err == nil:
		return nil
	case limited.Err() != nil:
		return context.Cause(limited)
	case errors.Is(err, syscall.EPIPE): // the reader has closed the pipe: it has seen enough
		return nil
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
