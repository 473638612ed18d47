package failover

import (
	"cmp"
	"context"
	"time"

	"pingover/check"
	"pingover/internal/observe"
	"pingover/state"
)

// decider decides from what was known before the check and from an observation.
// It is a value: nothing that it decides changes it.
type decider struct {
	j     *job
	n     *observe.Network
	known state.Known
	open  bool // takeover: a release of what is here was interrupted; release: a hand-over was
}

// newDecider takes what was known from the record. What an operator does
// manually changes the record at once, blocked or not: it says what is wanted.
func newDecider(j *job, n *observe.Network, rec state.Record, l observe.Local) (state.Record, decider) {
	before := rec.StreaksBefore(j.Began)
	if len(rec.Services) > 0 {
		before.Up = before.Fit
	}
	d := decider{j: j, n: n, known: state.Known{
		Role: rec.Role, HandingOver: len(rec.Offered) > 0, ManualRelease: rec.ManualRelease,
		ManualTakeover: rec.ManualTakeover, NobodyTook: rec.NobodyTook, Releasing: rec.Releasing,
		Up: before.Up, Unserved: before.Unserved, Silent: before.Silent, Services: rec.ServicesBefore(j.Began),
	}}
	switch j.mode {
	case modeTakeOver:
		rec.ManualRelease = false
		d.open = l.Holding() && rec.Role == state.Releasing
		if d.open && !j.DryRun {
			rec.Withdraw(time.Now())
		}
		rec.ManualTakeover = rec.ManualTakeover || l.Holding()
	case modeRelease:
		d.open = len(rec.Offered) > 0
	}
	return rec, d
}

// during is the decider while a decision is carried out: a hand-over, or a takeover,
// that this run began is open, a primary that it fences for a service has to be
// silent.
func (d decider) during(being state.Decision) decider {
	d.open = d.open || d.j.mode == modeRelease && being.HandOver
	d.known.Fenced = being.Fences
	if len(being.Raise) > 0 {
		d.known.Role = state.Taking
	}
	return d
}

// now reads what has been heard until now, and decides.
func (d decider) now(o observe.Observation) (observe.Observation, state.Decision) {
	o = d.n.Read(o)
	lost := o.Arbiter.Lost
	o.Arbiter = d.j.arb.Status()
	o.Arbiter.Lost = lost
	switch d.j.mode {
	case modeTakeOver:
		why := o.Faults.String()
		if d.j.arb != nil && why == "" {
			why = o.Arbiter.Refusal()
		}
		return o, state.DecideTakeOver(o.Observation, why, d.open, d.j.opt.Force)
	case modeRelease:
		return o, state.DecideRelease(o.Observation, cmp.Or(d.n.CannotListen(o.Local), o.NoReply), d.open, d.j.opt.Force)
	}
	known, set := d.known, d.j.Set
	known.PausedUntil = d.j.PausedUntil()
	settings := state.Settings{Rise: set.Rise, BootWait: set.BootWait, Failback: set.Failback, Isolated: set.Isolated, Fall: set.Fall, FailoverOnService: set.FailoverOnService, Arbiter: d.j.arb != nil}
	if d.j.opt.Unconfigured {
		return o, state.DecideUnconfigured(known, o.Observation, settings, time.Now())
	}
	return o, state.Decide(known, o.Observation, settings, time.Now())
}

// again is the recheck: with ask it probes again, briefly, before it decides.
func (d decider) again(ctx context.Context, o observe.Observation, ask bool) (observe.Observation, state.Decision) {
	switch {
	case ask && d.known.Fenced != "":
		o = d.n.ProbeFenced(ctx, o)
	case ask: // a probe could keep a primary that is up from assigning the address right now
		o, _ = d.n.ProbeAgain(ctx, o, o.Primary != check.Up && d.j.MayTake(d.known, o))
	}
	return d.now(o)
}

// yield waits for a competing prober with precedence, where this run would take
// over.
func (d decider) yield(ctx context.Context, o observe.Observation) observe.Observation {
	if _, decision := d.now(o); len(decision.Raise) == 0 {
		return o
	}
	return d.n.Yield(ctx, o)
}

// probeForTakeOver asks who has the virtual IPs, and whether a witness replies.
func probeForTakeOver(ctx context.Context, j *job, n *observe.Network, d decider, o observe.Observation) observe.Observation {
	j.arb.Read(ctx)
	if len(o.Held()) == len(j.Set.VIPs) || len(o.Faults) > 0 || len(o.Arbiter.Lost) > 0 {
		return o
	}
	return d.yield(ctx, n.ProbeOthers(ctx, d.known, o))
}

// probeForRelease finds out whether anybody can be asked from here who takes what
// is released.
func probeForRelease(ctx context.Context, j *job, n *observe.Network, o observe.Observation) observe.Observation {
	n.Open(o.Snapshot)
	if !o.Holding() || j.opt.Force || len(o.Arbiter.Lost) > 0 {
		return o
	}
	o, primary := n.ProbeAgain(ctx, o, false)
	switch {
	case primary == check.Up:
	case o.Witness == state.WitnessSilent:
		o.NoReply = "no witness replies"
	case o.Witness == state.WitnessNotAsked:
		o.NoReply = "no witness could be asked"
	default:
		o.NoTaker = !o.AnswersARP && len(o.Evidence.Holders) == 0
	}
	return o
}
