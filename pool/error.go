package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Problem is the kind of an Error.
type Problem uint8

// The problems.
const (
	Unreachable      Problem = iota + 1 // there is no connection, so nothing was asked
	Silent                              // no complete answer arrived in time
	Interrupted                         // the context ended; errors.Is finds its error
	Malformed                           // the answer is none to the question
	Unsigned                            // the question was signed, the answer is not
	Forged                              // the answer's signature is wrong, or its clock is
	BadKey                              // the server does not accept the key, or not with this algorithm
	BadSecret                           // the server has another secret for the key
	BadTime                             // the clocks are more than 300 s apart
	Refused                             // no right, or a zone that is static or frozen
	NotAuthoritative                    // the server is not one of the zone's
	NotInZone                           // the name is outside the zone
	Alias                               // the name is a CNAME
	ServerFailure                       // SERVFAIL: the journal, or more records than the server holds
	OtherCode                           // any other response code
	Changed                             // the set is not as it was read: another writer was faster
	Ineffective                         // accepted, but not published
	KeyFile                             // the key file cannot be used
)

// Error is why a name server did not do what it was asked.
type Error struct {
	Problem Problem
	Text    string    // a sentence without its end, of printable characters
	Hint    string    // what to do, as an instruction; "" where nothing helps but the next run
	Time    time.Time // of BadTime: the server's clock
	Cause   error     // of Interrupted: the context's error
	// unsettled says that it was an update, and may have been made.
	unsettled bool
}

func (e *Error) Error() string { return e.Text }

// Unwrap is the context's error where that ended the exchange.
func (e *Error) Unwrap() error { return e.Cause }

// ProblemOf is the problem of an error of this package, 0 for nil and for any other.
func ProblemOf(err error) Problem {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Problem
	}
	return 0
}

// Unsettled says whether the update that ended in err may have been made all
// the same: its answer was lost, or is not to be trusted. Only reading tells.
func Unsettled(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.unsettled
}

// notShown is the error of an update that was sent and is not published, or
// cannot be seen to be.
func (s Server) notShown(ctx context.Context, c Change, why error) error {
	e := &Error{Problem: Ineffective, unsettled: true}
	if ctx.Err() != nil {
		e.Problem, e.Cause = Interrupted, context.Cause(ctx)
	}
	e.Text = fmt.Sprintf("name server %s accepted the update, but does not publish it within %s", s.Address, shownWithin)
	e.Hint = "set server to the zone's primary: a secondary may forward updates and show the old records"
	if why != nil {
		e.Text = fmt.Sprintf("it is not known whether %s was updated: %s", shown(c.Before.Name), why)
		e.Hint = ""
		if first, ok := errors.AsType[*Error](why); ok {
			e.Problem, e.Hint = first.Problem, first.Hint
		}
	}
	return e
}

func (s Server) notAuthoritative(name string) *Error {
	return s.fail(NotAuthoritative, "set server to the zone's primary: not a resolver, nor the parent zone's server",
		"name server %s is not authoritative for %s", s.Address, shown(name))
}

func (s Server) interrupted(ctx context.Context) *Error {
	e := s.fail(Interrupted, "", "name server %s: stopped waiting: %v", s.Address, context.Cause(ctx))
	e.Cause = context.Cause(ctx)
	return e
}

// noConnection is the error of dialling: nothing was sent.
func (s Server) noConnection(ctx context.Context, err error, timeout time.Duration) *Error {
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return s.interrupted(ctx)
	case errors.As(err, &network) && network.Timeout():
		return s.fail(Unreachable, "see whether the name server is up, and open TCP port 53 to it",
			"name server %s does not accept a connection within %s", s.Address, timeout)
	}
	return s.fail(Unreachable, "see whether the name server is up, and open TCP port 53 to it",
		"name server %s cannot be reached: %v", s.Address, cause(err))
}

func (s Server) fail(p Problem, hint, format string, args ...any) *Error {
	return &Error{Problem: p, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// cause is a network error without the addresses, which its sentence has.
func cause(err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
