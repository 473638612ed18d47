package pool

import (
	"errors"
	"time"
)

// Problem is the kind of an Error.
type Problem uint8

// The problems. An update whose problem is Silent or Ineffective may have been
// made, see Unsettled.
const (
	Unreachable      Problem = iota + 1 // there is no connection, so nothing was asked
	Silent                              // no complete answer arrived in time
	Interrupted                         // the context ended; errors.Is finds its error
	Malformed                           // the answer is none to the question
	Unsigned                            // the question was signed, the answer is not
	Forged                              // the answer's signature is wrong, or its clock is
	BadKey                              // the server does not know the key, or not with this algorithm
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
)

// Error is why a name server did not do what it was asked.
type Error struct {
	Problem Problem
	Text    string    // a sentence without its end, of printable characters
	Hint    string    // what to do, as an instruction; "" where nothing helps but the next run
	Time    time.Time // of BadTime: the server's clock
	Cause   error     // of Interrupted: the context's error
	update  bool      // it was an update, and it was sent
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
	if !ok || !e.update {
		return false
	}
	switch e.Problem {
	case Silent, Interrupted, Malformed, Unsigned, Forged, Ineffective:
		return true
	}
	return false
}
