package observe

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pingover/check"
	"pingover/state"
)

// The advice in a message rests on the kind of a fault, not on its words.
func TestFaultsHaveACause(t *testing.T) {
	refused := &check.RefusedError{Sender: netip.MustParseAddr("172.16.0.254"), Type: 3, Code: 13}
	for _, test := range []struct {
		fault Fault
		want  state.Cause
	}{
		{pingFault(fmt.Errorf("ping 172.16.0.2: %w", refused)), state.CauseRefused},
		{pingFault(errors.New("ping 172.16.0.2: refused by nobody")), ""},
		{faultf(FaultName, "no such host"), state.CauseName},
		{faultf(FaultHost, "resolve: a broadcast address"), ""},
	} {
		if got := (Faults{faultf(FaultInterface, "eth0 is down"), test.fault}).cause(); got != test.want {
			t.Errorf("%s: cause %q, want %q", test.fault.Text, got, test.want)
		}
	}
}
