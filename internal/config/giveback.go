package config

import "slices"

// completeLease sees that a lease can be set, and outlasts a check that comes
// late: nobody shall lose an address because the primary's silence took long
// to make sure of.
func (d *draft) completeLease() {
	if !d.is("lease") || d.Lease == 0 {
		return
	}
	if d.Tool == "ifconfig" {
		d.wrong("lease", 0, "needs ip of iproute2, and the tool is ifconfig")
	}
	if slices.ContainsFunc([]string{"count", "interval", "timeout", "retry-wait"}, func(name string) bool { return d.bad[name] }) {
		return
	}
	if least := 2 * d.LongestLook(); d.Lease < least {
		d.wrong("lease", 0, "shorter than twice the longest look, %s; make it longer, or count, interval, timeout or retry-wait smaller", DurationText(least))
	}
}

// completeFailback sees that a hand-over can be watched: who gives an address
// away without asking who took it may leave it to nobody.
func (d *draft) completeFailback() {
	if d.Failback && !d.DuplicateCheck && !d.bad["duplicate-check"] {
		d.wrong("failback", 0, "needs duplicate-check, to see that somebody takes what is handed over")
	}
}

// completeIsolated sees that there is somebody by whom this machine can tell
// that it is cut off.
func (d *draft) completeIsolated() {
	if d.Isolated && !d.bad["witness"] && !d.Witness.Auto && len(d.Witness.Addresses) == 0 {
		d.wrong("isolated", 0, "needs a witness, and witness is none: nothing else tells that this machine is cut off")
	}
}
