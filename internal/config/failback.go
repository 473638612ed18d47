package config

import (
	"fmt"
	"slices"
	"strings"

	"pingover/check"
)

// completeLease checks that a lease can be set and that it outlasts a late check:
// the address must not be lost because it took long to confirm that the primary
// is down.
func (d *draft) completeLease() {
	if !d.is("lease") || d.Lease == 0 {
		return
	}
	if d.Tool == "ifconfig" {
		d.wrong("lease", 0, "needs ip of iproute2, but the tool is ifconfig")
	}
	lengths := []string{"count", "interval", "timeout", "retry-wait"}
	if slices.ContainsFunc(d.Services, func(s check.Service) bool { return s.Argv != nil }) {
		lengths = append(lengths, "hook-timeout")
	}
	if slices.ContainsFunc(lengths, func(name string) bool { return d.bad[name] }) {
		return
	}
	if least := 2 * d.LongestProbe(); d.Lease < least {
		d.wrong("lease", 0, "shorter than twice the longest check, %s%s; increase it, or decrease %s",
			DurationText(least), d.because(lengths), oneOf(lengths))
	}
}

// because are the values of these settings and their origins, if the cluster is
// from a file: " (count 50 of --count)".
func (d *draft) because(names []string) string {
	var values []string
	for _, name := range names {
		for _, v := range d.given[name] {
			values = append(values, fmt.Sprintf("%s %s of %s", name, v.text, d.from(name, v)))
		}
	}
	if d.file == "" || len(values) == 0 {
		return ""
	}
	return " (" + strings.Join(values, ", ") + ")"
}

// completeFailback checks that a hand-over can be verified: else the address might
// stay unassigned.
func (d *draft) completeFailback() {
	if d.Failback && !d.DuplicateCheck && !d.bad["duplicate-check"] {
		d.wrong("failback", 0, "needs duplicate-check, to see that the address is taken after a hand-over")
	}
}

// completeIsolated checks that there is a witness: else this machine cannot tell
// that it is isolated.
func (d *draft) completeIsolated() {
	if d.Isolated && !d.bad["witness"] && !d.Witness.Auto && len(d.Witness.Addresses) == 0 {
		d.wrong("isolated", 0, "needs a witness, but witness is none: nothing else tells that this machine is isolated")
	}
}
