package failover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// faultKind is what made it impossible to ask.
type faultKind uint8

const (
	faultHost      faultKind = iota // its name does not resolve, or it is a broadcast address
	faultRoute                      // no route to it
	faultSelf                       // its address is on this machine, but is no virtual IP
	faultVIP                        // its address is a virtual IP that is on this machine
	faultInterface                  // missing, down, without carrier, or none to be found
	faultKernel                     // the snapshot could not be taken
	faultAsk                        // a question could not be sent, or an answer not heard
)

// fault is something of this machine that makes the verdict unknown.
type fault struct {
	kind faultKind
	text string
}

// faults are those of one run, in the order in which they were found: the last
// cause is often the plainest ("interface is down" after "no route").
type faults []fault

func faultOf(kind faultKind, format string, args ...any) fault {
	return fault{kind, fmt.Sprintf(format, args...)}
}

// and is f with one more, unless it is known.
func (f faults) and(more ...fault) faults {
	f = slices.Clone(f)
	for _, m := range more {
		if !strings.Contains(f.String(), m.text) {
			f = append(f, m)
		}
	}
	return f
}

func (f faults) String() string {
	texts := make([]string, len(f))
	for i, one := range f {
		texts[i] = one.text
	}
	return strings.Join(texts, "; ")
}

// onlyVIP tells whether nothing is wrong but that the host is a virtual IP that
// is held here: it is not pinged, and the guards alone decide.
func (f faults) onlyVIP() bool {
	return len(f) > 0 && !slices.ContainsFunc(f, func(one fault) bool { return one.kind != faultVIP })
}

func hereNow(a netip.Addr) string {
	return fmt.Sprintf("%s is on this machine now, so a ping would answer itself", a)
}
