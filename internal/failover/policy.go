package failover

import (
	"cmp"
	"context"
	"time"

	"pingover/check"
	"pingover/state"
	"pingover/vip"
)

// decider decides from what was known before the check and from an observation.
// It is a value: nothing that it decides changes it.
type decider struct {
	j     *job
	asker *vip.Asker
	known state.Known
	open  bool // takeover: a release of what is here was interrupted; release: a hand-over was
}

// newDecider takes what was known from the record. What an operator does
// manually changes the record at once, blocked or not: it says what is wanted.
func newDecider(j *job, asker *vip.Asker, rec state.Record, l Local) (state.Record, decider) {
	before := rec.StreaksBefore(j.Began)
	d := decider{j: j, asker: asker, known: state.Known{
		Role: rec.Role, HandingOver: len(rec.Offered) > 0, ManualRelease: rec.ManualRelease,
		ManualTakeover: rec.ManualTakeover, NobodyTook: rec.NobodyTook, Releasing: rec.Releasing,
		Up: before.Up, Unserved: before.Unserved, Silent: before.Silent,
	}}
	switch j.mode {
	case modeTakeOver:
		rec.ManualRelease = false
		d.open = l.holding(j) && rec.Role == state.Releasing
		if d.open && !j.DryRun {
			rec.Withdraw(time.Now())
		}
		rec.ManualTakeover = rec.ManualTakeover || l.holding(j)
	case modeRelease:
		d.open = len(rec.Offered) > 0
	}
	return rec, d
}

// during is the decider while a decision is carried out: a hand-over, or a takeover,
// that this run began is open.
func (d decider) during(being state.Decision) decider {
	d.open = d.open || d.j.mode == modeRelease && being.HandOver
	if len(being.Raise) > 0 {
		d.known.Role = state.Taking
	}
	return d
}

// now reads what has been heard until now, and decides.
func (d decider) now(o Observation) (Observation, state.Decision) {
	o = o.read(d.j, d.asker)
	switch d.j.mode {
	case modeTakeOver:
		return o, state.DecideTakeOver(o.Observation, o.faults.String(), d.open, d.j.opt.Force)
	case modeRelease:
		return o, state.DecideRelease(o.Observation, cmp.Or(o.cannotListen(d.j, d.asker), o.NoReply), d.open, d.j.opt.Force)
	}
	known, set := d.known, d.j.set
	known.PausedUntil = d.j.PausedUntil()
	settings := state.Settings{Rise: set.Rise, BootWait: set.BootWait, Failback: set.Failback, Isolated: set.Isolated}
	if d.j.opt.Unconfigured {
		return o, state.DecideUnconfigured(known, o.Observation, settings, time.Now())
	}
	return o, state.Decide(known, o.Observation, settings, time.Now())
}

// again is the recheck: with ask it probes again, briefly, before it decides.
func (d decider) again(ctx context.Context, o Observation, ask bool) (Observation, state.Decision) {
	if ask {
		o, _ = probeAgain(ctx, d.j, d.asker, o, d.j.mayTake(d.known, o))
	}
	return d.now(o)
}

// yield waits for a competing prober with precedence, where this run would take
// over.
func (d decider) yield(ctx context.Context, o Observation) Observation {
	if _, decision := d.now(o); len(decision.Raise) == 0 {
		return o
	}
	return yield(ctx, d.j, d.asker, o)
}

// probeForTakeOver asks who has the virtual IPs, and whether a witness replies.
func probeForTakeOver(ctx context.Context, j *job, asker *vip.Asker, d decider, o Observation) Observation {
	j.Doing("probing")
	if len(o.held(j)) == len(j.set.VIPs) || len(o.faults) > 0 {
		return o
	}
	o = startGuards(ctx, j, asker, o, guardPlan{length: manualGuard, take: j.mayTake(d.known, o)}).finish(o)
	return d.yield(ctx, o)
}

// probeForRelease finds out whether anybody can be asked from here who takes what
// is released.
func probeForRelease(ctx context.Context, j *job, asker *vip.Asker, o Observation) Observation {
	asker.Open(o.Snapshot)
	if !o.holding(j) || j.opt.Force {
		return o
	}
	o, primary := probeAgain(ctx, j, asker, o, false)
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
