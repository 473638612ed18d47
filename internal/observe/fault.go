package observe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/check"
	"pingover/state"
)

// FaultKind is what made it impossible to ask.
type FaultKind uint8

const (
	FaultHost      FaultKind = iota // it is a broadcast address
	FaultName                       // its name does not resolve
	FaultRoute                      // no route to it
	FaultOwn                        // its address is this machine's own
	FaultSelf                       // its address is on this machine, but is no virtual IP
	FaultVIP                        // its address is a virtual IP that is on this machine
	FaultInterface                  // missing, down, without carrier, or none to be found
	FaultKernel                     // the snapshot could not be taken
	FaultAsk                        // a question could not be sent, or an answer not heard
	FaultPing                       // the primary could not be pinged
	FaultRefused                    // an ICMP message refuses the pings
)

// Fault is something of this machine that makes the verdict unknown.
type Fault struct {
	Kind FaultKind
	Text string
	Link string // the interface where it was found; "": it concerns all
}

// isOurs tells whether a path is left out for it: a fault of this machine, which
// says nothing of the primary.
func (f Fault) isOurs() bool {
	return f.Kind == FaultRoute || f.Kind == FaultOwn || f.Kind == FaultInterface
}

// Faults are those of one run, in the order in which they were found: the last
// cause is often the plainest ("interface is down" after "no route").
type Faults []Fault

func faultf(kind FaultKind, format string, args ...any) Fault {
	return Fault{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// And is f with one more, unless it is known.
func (f Faults) And(more ...Fault) Faults {
	f = slices.Clone(f)
	for _, m := range more {
		if !strings.Contains(f.String(), m.Text) {
			f = append(f, m)
		}
	}
	return f
}

func (f Faults) String() string {
	texts := make([]string, len(f))
	for i, one := range f {
		texts[i] = one.Text
	}
	return strings.Join(texts, "; ")
}

// onlyVIP tells whether nothing is wrong but that the host is a virtual IP that
// is held here: it is not pinged, and the guards alone decide.
func (f Faults) onlyVIP() bool {
	return len(f) > 0 && !slices.ContainsFunc(f, func(one Fault) bool { return one.Kind != FaultVIP })
}

func hereNow(a netip.Addr) string {
	return fmt.Sprintf("%s is on this machine now, so a ping would answer itself", a)
}

// has tells whether one of them is of that kind.
func (f Faults) has(kind FaultKind) bool {
	return slices.ContainsFunc(f, func(one Fault) bool { return one.Kind == kind })
}

// pingFault is why the pings of a round prove nothing.
func pingFault(err error) Fault {
	if _, refused := errors.AsType[*check.RefusedError](err); refused {
		return faultf(FaultRefused, "%v", err)
	}
	return faultf(FaultPing, "%v", err)
}

// cause is that of the first fault which there is advice about.
func (f Faults) cause() state.Cause {
	for _, one := range f {
		switch one.Kind {
		case FaultName:
			return state.CauseName
		case FaultRefused:
			return state.CauseRefused
		}
	}
	return ""
}
