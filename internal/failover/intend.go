package failover

import (
	"net/netip"

	"pingover/internal/observe"
	"pingover/state"
)

// intent is what is open while this run acts.
type intent struct {
	change  *state.Change // that it is for; nil for none
	opened  bool          // by this run
	resumes bool          // a hand-over was open before it
	given   []netip.Addr  // release: what it is about
	aliases []state.Alias // of the record
	// unreached are held, and no witness has replied to them.
	unreached []netip.Addr
}

// intend writes down what is about to be done. A release that nobody would
// remember, and every further run would repeat, becomes a decision to hold, and so
// fencing for a service becomes one to do nothing; with an arbiter so does a takeover,
// for a machine that cannot remember what it saw may not take the key of another.
func intend(j *job, rec state.Record, o observe.Observation, d *state.Decision) (state.Record, intent) {
	before, i := rec, intent{aliases: rec.VIPs, unreached: rec.Unreached}
	switch {
	case d.Release:
		i.given = o.Held()
		if len(d.Only) > 0 {
			i.given = d.Only
		}
		if offered := rec.Offered; len(offered) > 0 { // by a run that was killed, perhaps after it had removed it
			i.given = without(o.Addresses(), without(without(o.Addresses(), offered), i.given))
		}
		i.opened = rec.Role != state.Releasing
		rec.Intend(state.Releasing, changeOf(j, o, *d))
		rec.Offered, rec.Releasing = nil, i.given
		if d.HandOver {
			rec.Offered = i.given
		}
	case len(d.Raise) > 0:
		i.opened, i.resumes = rec.Role != state.Taking, len(rec.Offered) > 0
		rec.Intend(state.Taking, changeOf(j, o, *d))
		if d.Fences != "" {
			rec.Fenced()
		}
	default:
		i.change = rec.Pending
		return rec, i
	}
	pending := *rec.Pending
	pending.Manual = pending.Manual || j.mode != modeCheck && d.Release
	rec.Pending, i.change = &pending, &pending
	rec.Arbiter = j.arb.Key()
	err := j.Save(&rec, true)
	if err != nil && i.opened && d.Release && (d.Rule == state.RuleIsolated || d.Rule == state.RuleFailback) {
		*d = state.Decision{Rule: d.Rule, Outcome: state.Holding, Announce: d.Announce, Reason: d.Reason + "; not done: " + err.Error()}
		return before, intent{change: before.Pending, aliases: before.VIPs, unreached: before.Unreached}
	}
	if err != nil && d.Fences != "" { // the next check would fence it again
		*d = state.Decision{Rule: d.Rule, Outcome: state.Blocked, Reason: d.Reason + "; not fenced: " + err.Error()}
		return before, intent{change: before.Pending, aliases: before.VIPs, unreached: before.Unreached}
	}
	if err != nil && j.arb != nil && len(d.Raise) > 0 && !o.Holding() {
		*d = state.Decision{Rule: state.RuleKey, Outcome: state.Blocked, Cause: state.CauseArbiter, Reason: d.Reason + "; but " + err.Error() + ": with an arbiter nothing is taken over without it"}
		return before, intent{change: before.Pending, aliases: before.VIPs}
	}
	j.Switching()
	return rec, i
}

// intendToYield writes down that what was just assigned is released again.
func intendToYield(j *job, rec state.Record, y *yielding) state.Record {
	rec.Intend(state.Releasing, y.change)
	rec.Offered, rec.Releasing = y.addrs, y.addrs
	_ = j.Save(&rec, true) // the result is written again
	return rec
}
