package vip

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pingover/internal/lab"
)

const onHostVariable = "PINGOVER_TEST_ON_HOST"

// onHost runs a test on the standby of a lab of its own. What asks the kernel and starts children
// does so on whatever thread it happens to run: only a whole process can be in the host's namespaces.
// So the test binary is started there once more, for this one test alone, and then runs the body.
// The wrapper is a command that starts it.
func onHost(t *testing.T, build func(t *testing.T, l *lab.Lab) *lab.Host, body func(t *testing.T), wrapper ...string) {
	t.Helper()
	if os.Getenv(onHostVariable) != "" {
		body(t)
		return
	}
	t.Parallel()
	h := build(t, lab.ForTest(t))
	cmd := h.Command(t.Context(), slices.Concat(wrapper, []string{os.Args[0]}, lab.Again(t))...)
	cmd.Env = append(cmd.Env, onHostVariable+"=1", "GORACE=atexit_sleep_ms=0")
	if err := lab.RunAgain(t, cmd); err != nil {
		t.Fatal(err)
	}
}

// standby is a host at 172.16.0.3/24 and 2001:db8::3/64, on which the lines for ip(8) were run.
func standby(lines ...string) func(t *testing.T, l *lab.Lab) *lab.Host {
	return func(t *testing.T, l *lab.Lab) *lab.Host {
		t.Helper()
		h, err := l.Add("standby", "172.16.0.3/24", "2001:db8::3/64")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if _, err := h.Run(append([]string{"ip"}, strings.Fields(line)...)...); err != nil {
				t.Fatal(err)
			}
		}
		// Even without duplicate address detection they are tentative until the kernel has noticed the carrier.
		onTheHost(t, h, "while ip -6 addr show dev eth0 tentative | grep -q inet6; do sleep 0.02; done")
		return h
	}
}

// diff compares whole values.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty())
}
