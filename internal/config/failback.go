package config

import (
	"fmt"
	"slices"
	"strings"
)

// completeLease sees that a lease can be set, and outlasts a check that comes
// late: nobody shall lose an address because the primary's silence took long
// to make sure of.
func (d *draft) completeLease() {
	if !d.is("lease") || d.Lease == 0 {
		return
	}
	if d.Tool == "ifconfig" {
		d.wrong("lease", 0, "needs ip of iproute2, but the tool is ifconfig")
	}
	looked := []string{"count", "interval", "timeout", "retry-wait"}
	if slices.ContainsFunc(looked, func(name string) bool { return d.bad[name] }) {
		return
	}
	if least := 2 * d.LongestProbe(); d.Lease < least {
		d.wrong("lease", 0, "shorter than twice the longest check, %s%s; increase it, or decrease count, interval, timeout or retry-wait",
			DurationText(least), d.because(looked))
	}
}

// because says which values given for these settings something comes from, and
// where they stand: " (count 50 of --count)". Where flags alone make the
// cluster they all stand in one line.
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

// completeFailback sees that a hand-over can be watched: who gives an address
// away without asking who took it may leave it to nobody.
func (d *draft) completeFailback() {
	if d.Failback && !d.DuplicateCheck && !d.bad["duplicate-check"] {
		d.wrong("failback", 0, "needs duplicate-check, to see that the address is taken after a hand-over")
	}
}

// completeIsolated sees that there is somebody by whom this machine can tell
// that it is cut off.
func (d *draft) completeIsolated() {
	if d.Isolated && !d.bad["witness"] && !d.Witness.Auto && len(d.Witness.Addresses) == 0 {
		d.wrong("isolated", 0, "needs a witness, but witness is none: nothing else tells that this machine is isolated")
	}
}
