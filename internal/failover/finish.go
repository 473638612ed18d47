package failover

import (
	"cmp"
	"context"
	"time"

	"pingover/internal/observe"
	"pingover/notify"
	"pingover/state"
)

// finish writes down what came of the run, with the mail that is due, in one
// write; then it runs the hook that is pending and delivers the mail.
func finish(ctx context.Context, j *job, n *observe.Network, before, rec state.Record, d state.Decision, r Result, drafted notify.Draft) Report {
	if j.opt.Finish && r.Outcome.Switched() {
		ctx = context.WithoutCancel(ctx)
	}
	if j.mode == modeRelease && r.NobodyTook {
		r.Outcome = state.Blocked
	}
	j.Doing("writing the record")
	if r.Change != nil {
		r.Change.Evidence.Commands = r.Commands
	}
	obs := r.Obs
	rec, change, interrupted := rec.Apply(before, r.Effect, state.Facts{Holding: obs.Holding(), Primary: obs.Primary, Neighbour: n.PrimaryMAC(obs), Limited: j.Set.Lifetime() > 0}, now())
	r.Change = change
	rec = keepGateways(j, rec, obs)
	rec.Arbiter = j.arb.Key()
	rec.Paths = obs.ForRecord(rec.Paths)
	if a := obs.Shown(); a.IsValid() {
		rec.Address = a
	}
	if j.mode == modeTakeOver && r.Outcome == state.Holding { // all is here already: the services too, after this
		rec.SetPendingHook(state.PostTakeover, state.Change{Event: rec.Event, Time: now(), Reason: r.Reason})
	}
	rec, changed := counted(j, rec, d, r)
	for _, e := range r.Hooks {
		rec.Add(e)
	}
	if p := rec.PendingHook; p != nil && j.hookOf(p.Hook) == nil {
		rec.PendingHook = nil
	}
	told := factsOf(j, rec, r)
	told.Finished = interrupted
	var draft notify.Draft
	rec.Head, draft = notify.Plan(rec.Head, About(j.Set, obs.Local, rec.Neighbour), told, notify.Policy{Rise: j.Set.Rise, Remind: j.Set.Mail.Remind})
	rec.BackReported = draft.BackReported
	draft.All = append(draft.All, drafted.All...)
	saveErr := j.Save(&rec, !rec.Quiet() || changed)
	if saveErr == nil && !j.Memory.HasSettings(j.Dir, j.Name, j.Set.Given) {
		keepSettings(j)
	}

	if saveErr == nil || r.Moved { // what cannot be crossed off is not run again and again
		rec, draft, r, saveErr = runPendingHook(ctx, j, rec, draft, r, told, saveErr)
	}
	switch {
	case saveErr != nil:
		var reported bool
		rec, reported = sendUnwritten(ctx, j, before, rec, draft, r, told, changed, saveErr)
		changed = changed && reported
		switch {
		case r.Outcome.Switched() && reported:
			r.Outcome = state.StateFailed
		case r.Outcome == state.TookOver: // an earlier run did it, and reported it
			r.Outcome = state.Holding
		}
	case ctx.Err() == nil: // after a signal the next run sends it
		rec, saveErr = sendMail(ctx, j, rec, obs.Local)
	}
	if saveErr != nil {
		j.Remember(&rec)
	}
	for _, a := range notify.AlertChanges(before.Alerts, rec.Alerts) {
		j.Event(a)
	}
	return report(j, rec, r, changed, saveErr)
}

// keepSettings keeps the settings of a check. Those of a manual command are for
// once.
func keepSettings(j *job) {
	if j.mode != modeCheck {
		if _, unknown := j.Dir.Settings(j.Set.Name); unknown == nil {
			return
		}
	}
	j.KeepSettings(j.Set.Given)
}

// counted adds the check to the streaks. Changed says whether it ended otherwise
// than the one before.
func counted(j *job, rec state.Record, d state.Decision, r Result) (_ state.Record, changed bool) {
	if j.mode != modeCheck {
		return rec, r.Change != nil
	}
	rule := cmp.Or(r.Rule, d.Rule)
	rec.Answers, rec.NotAsked = r.Obs.Evidence.Answers, r.Obs.NotAsked()
	if r.Moved { // they were asked of the one that served before
		r.Obs.Services = nil
	}
	if r.Outcome == state.TakeoverFailed && r.Obs.Holding() {
		rule = state.RuleHold // by which the next run goes on with it: one alert
	}
	changed = rec.Count(checkOf(j, r, rule), state.Signs{
		Primary: r.Obs.Primary, Unserved: len(r.Obs.Unserved()) > 0,
		Silent:   r.Obs.Holding() && r.Obs.Witness == state.WitnessSilent,
		Services: r.Obs.Services, Holding: r.Obs.Holding(), Isolated: r.Isolation != "", Rehearsed: r.Rehearsed, NotReady: len(r.NotReady) > 0,
	})
	return rec, changed || r.Partial && r.Change != nil
}

// checkOf is this check as the record keeps it.
func checkOf(j *job, r Result, rule int) state.Check {
	c := state.Check{
		Time: j.Began.UTC().Truncate(time.Second), Outcome: r.Outcome, Code: r.Outcome.Code(), Rule: rule, Reason: r.Reason,
		Primary: r.Obs.Primary.String(), Witness: r.Obs.Evidence.Witnessed(), Duration: state.Milliseconds(time.Since(j.Began).Milliseconds()),
	}
	if n := len(r.Obs.Evidence.Rounds); n > 0 {
		last := r.Obs.Evidence.Rounds[n-1]
		c.Sent, c.Received, c.RTT = last.Sent, last.Received, last.RTT
	}
	return c
}

// keepGateways records the automatic witnesses, as soon as it is known that they
// are not the primary by another address.
func keepGateways(j *job, rec state.Record, o observe.Observation) state.Record {
	for _, g := range o.Gateways {
		if rec.Gateway(g.Interface, g.Address.Is6()) == g.Address || len(o.Neighbours()) > 0 && rec.Neighbour == "" {
			continue
		}
		if mac, err := j.Neighbour(g.Interface, g.Address); err == nil && (mac == nil || mac.String() != rec.Neighbour) {
			rec.SetGateway(g.Interface, g.Address)
		}
	}
	return rec
}
