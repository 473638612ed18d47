package balance

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/pool"
	"pingover/state"
)

// DrainIn is Machine.Drain in an environment of the caller's making.
func DrainIn(ctx context.Context, env Env, p config.Pool, members []netip.Addr, until time.Time, o Options) (Report, error) {
	j := newJob(env, p, o, true)
	return run.Within(p.Deadline()+run.LockPatience, j.Run, func() (Report, error) { return j.drain(ctx, members, until) })
}

// UndrainIn is Machine.Undrain in an environment of the caller's making.
func UndrainIn(ctx context.Context, env Env, p config.Pool, members []netip.Addr, o Options) (Report, error) {
	j := newJob(env, p, o, true)
	return run.Within(p.Deadline()+run.LockPatience, j.Run, func() (Report, error) { return j.undrain(ctx, members) })
}

// drain is a check without members: the chain is the same, the decision another.
func (j *job) drain(ctx context.Context, members []netip.Addr, until time.Time) (Report, error) {
	rec, unlock, err := open(ctx, j)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	dns, err := connect(j, rec)
	if err != nil {
		return Report{}, err
	}
	read := dns.read(ctx, j, rec)
	if err := context.Cause(ctx); err != nil {
		return Report{}, err
	}
	decide := func(_ Record, r reading) pool.Decision {
		if !r.known() {
			return pool.Decision{Outcome: state.UpdateFailed, Reason: "not drained: " + r.fault()}
		}
		return pool.DecideDrain(r.set, j.settings(), members, j.opt.Force)
	}
	rec, read = rec.settle(j, read)
	d := decide(rec, read)
	j.Event(Decided{Decision: d})
	if j.DryRun {
		return planned(j, rec, read, seen{}, d), nil
	}
	before := rec
	switch d.Outcome {
	case state.Removed, state.Reduced:
		rec.Record = rec.Record.Drain(members, until, now())
	}
	rec, result := publish(ctx, j, dns, rec, read, d, decide)
	rec.Record = rec.Record.Moved(result.Decision, result.Effect, now())
	return finish(ctx, j, before, rec, seen{}, result), nil
}

// undrain lifts marks. It asks nobody: the next checks put the members back.
func (j *job) undrain(ctx context.Context, members []netip.Addr) (Report, error) {
	rec, unlock, err := open(ctx, j)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	before := rec
	var lifted []netip.Addr
	rec.Record, lifted = rec.Record.Undrain(members, now())
	result := Result{Outcome: state.OK, Reason: fmt.Sprintf("no longer drained: %s; back after rise = %d good checks in a row", list(lifted), j.set.Rise)}
	if len(lifted) == 0 {
		result.Reason = fmt.Sprintf("not drained: %s", list(members))
		return report(j, rec, seen{}, result, false, nil), nil
	}
	if j.DryRun {
		return report(j, rec, seen{}, result, true, nil), nil
	}
	return finish(ctx, j, before, rec, seen{}, result), nil
}
