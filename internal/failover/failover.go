// Package failover is one check of a cluster, as a chain of values: survey,
// probe, decide, write down, act, write down, notify.
package failover

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Options are what the command line adds to a cluster's settings.
type Options struct {
	DryRun bool
	Force  bool // of a manual command: see TakeOver and Release
	// Finish says that no other run may come soon, as when a service is stopped:
	// after a signal a switch that was begun is finished with its hook and its mail.
	Finish bool
	// Origin is the path of the file that defines the cluster; "" for flags.
	Origin string
	// Unconfigured says that the file no longer has the cluster: what it holds is
	// guarded, but nothing is added, and nothing is failed back.
	Unconfigured bool
	// Inherits is the cluster that had all virtual IPs of this one, and has left
	// the file: what is kept of it is taken over. "" for none.
	Inherits string
	// OnEvent is handed what the check does as it does it (run.RoundBegan, …,
	// Decided); nil for nobody. It is called by one goroutine at a time.
	OnEvent func(event any)
}

// mode is what a run is for.
type mode uint8

const (
	modeCheck mode = iota
	modeTakeOver
	modeRelease
)

// job is what one run works with. No step of it changes any of this.
type job struct {
	*run.Run
	Env
	set  config.Cluster
	opt  Options
	mode mode
	// everyPath: a reply by one path does not end the round of the others.
	everyPath bool
}

func newJob(env Env, c config.Cluster, o Options, m mode) *job {
	return &job{
		Run: &run.Run{Name: c.Name, Dir: state.Dir(c.StateDir), Began: time.Now(), DryRun: o.DryRun, Manual: m != modeCheck, OnEvent: o.OnEvent, Memory: env.Memory},
		Env: env, set: c, opt: o, mode: m,
	}
}

// CheckIn is Machine.Check in an environment of the caller's making.
func CheckIn(ctx context.Context, env Env, c config.Cluster, o Options) (Report, error) {
	return newJob(env, c, o, modeCheck).do(ctx, c.Deadline())
}

func (j *job) do(ctx context.Context, limit time.Duration) (Report, error) {
	return run.Within(limit, j.Run, func() (Report, error) { return j.check(ctx) })
}

// check is the whole run, a manual one too. The record is changed here and
// nowhere else.
func (j *job) check(ctx context.Context) (Report, error) {
	rec, unlock, err := open(ctx, j)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	local, errs := survey(ctx, j, &rec)
	if len(errs) > 0 {
		return Report{}, errs[0]
	}
	asker := newAsker(j, local, rec.Neighbour)
	defer asker.Close()
	if err := reportUntrusted(j, rec, local); err != nil {
		return Report{}, err
	}
	rec, drafted := settle(j, rec, local)
	rec, decide := newDecider(j, asker, rec, local)

	obs, err := observe(ctx, j, asker, decide, start(j, rec, local))
	if err != nil {
		return Report{}, err
	}
	obs, decision := decide.now(obs)
	j.Event(Decided{Decision: decision})
	if j.DryRun {
		return planned(j, rec, obs, decision), nil
	}

	before := rec
	rec, intent := intend(j, rec, obs, &decision)
	result := act(ctx, j, asker, intent, obs, decision, decide.during(decision).again)
	if y := result.Yield; y != nil { // the intent is another one from here on
		rec = intendToYield(j, rec, y)
		result = yieldAssigned(ctx, j, asker, result, decide.again)
	}
	result.Isolation = result.Obs.isolation(j, asker)
	result.Rehearsed, result.NotReady = rehearse(ctx, j, asker, rec, result.Obs)
	return finish(ctx, j, before, rec, decision, result, drafted), nil
}

// observe asks the network what this run has to know.
func observe(ctx context.Context, j *job, asker *vip.Asker, d decider, o Observation) (Observation, error) {
	reportLength(j)
	switch j.mode {
	case modeTakeOver:
		o = probeForTakeOver(ctx, j, asker, d, o)
	case modeRelease:
		return probeForRelease(ctx, j, asker, o), nil
	default:
		o = probe(ctx, j, asker, d.known, o)
		if !o.holding(j) {
			o = d.yield(ctx, o)
		}
	}
	return o, context.Cause(ctx)
}

// intent is what is open while this run acts.
type intent struct {
	change  *state.Change // that it is for; nil for none
	opened  bool          // by this run
	resumes bool          // a hand-over was open before it
	given   []netip.Addr  // release: what it is about
	aliases []state.Alias // of the record
}

// intend writes down what is about to be done. A release that nobody would
// remember, and every further run would repeat, becomes a decision to hold.
func intend(j *job, rec state.Record, o Observation, d *state.Decision) (state.Record, intent) {
	before, i := rec, intent{aliases: rec.VIPs}
	switch {
	case d.Release:
		i.given = o.held(j)
		if len(d.Only) > 0 {
			i.given = d.Only
		}
		if offered := rec.Offered; len(offered) > 0 { // by a run that was killed, perhaps after it had removed it
			i.given = without(j.vips(), without(without(j.vips(), offered), i.given))
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
	default:
		i.change = rec.Pending
		return rec, i
	}
	pending := *rec.Pending
	pending.Manual = pending.Manual || j.mode != modeCheck && d.Release
	rec.Pending, i.change = &pending, &pending
	err := j.Save(&rec, true)
	if err != nil && i.opened && d.Release && (d.Rule == state.RuleIsolated || d.Rule == state.RuleFailback) {
		*d = state.Decision{Rule: d.Rule, Outcome: state.Holding, Announce: d.Announce, Reason: d.Reason + "; but " + err.Error() + ": kept"}
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

// finish writes down what came of the run, with the mail that is due, in one
// write; then it runs the hook that is pending and delivers the mail.
func finish(ctx context.Context, j *job, before, rec state.Record, d state.Decision, r Result, drafted notify.Draft) Report {
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
	rec, r.Change = rec.Apply(before, r.Effect, state.Facts{Holding: obs.holding(j), Primary: obs.Primary, Neighbour: primaryMAC(j, obs)}, now())
	rec = keepGateways(j, rec, obs)
	rec.Paths = obs.forRecord(rec.Paths)
	if a := obs.shown(); a.IsValid() {
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
	var draft notify.Draft
	rec.Head, draft = notify.Plan(rec.Head, aboutCluster(j, obs.Local, rec.Neighbour), told, notify.Policy{Rise: j.set.Rise, Remind: j.set.Mail.Remind})
	rec.BackReported = draft.BackReported
	draft.All = append(draft.All, drafted.All...)
	saveErr := j.Save(&rec, !rec.Quiet() || changed)
	if saveErr == nil {
		keepSettings(j)
	}

	if saveErr == nil || r.Moved { // what cannot be crossed off is not run again and again
		rec, draft, r, saveErr = runPendingHook(ctx, j, rec, draft, r, told, saveErr)
	}
	switch {
	case saveErr != nil:
		var reported bool
		rec, reported = sendUnwritten(ctx, j, before, rec, draft, r, told, saveErr)
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
		j.Remember(rec)
	}
	return report(j, rec, r, changed, saveErr)
}

// keepSettings keeps the settings of a check. Those of a manual command are for
// once.
func keepSettings(j *job) {
	if j.mode != modeCheck {
		if _, unknown := j.Dir.Settings(j.set.Name); unknown == nil {
			return
		}
	}
	j.KeepSettings(j.set.Given)
}

// counted adds the check to the streaks. Changed says whether it ended otherwise
// than the one before.
func counted(j *job, rec state.Record, d state.Decision, r Result) (_ state.Record, changed bool) {
	if j.mode != modeCheck {
		return rec, r.Change != nil
	}
	rule := cmp.Or(r.Rule, d.Rule)
	if r.Outcome == state.TakeoverFailed && r.Obs.holding(j) {
		rule = state.RuleHold // by which the next run goes on with it: one alert
	}
	changed = rec.Count(checkOf(j, r, rule), state.Signs{
		Primary: r.Obs.Primary, Unserved: len(r.Obs.unserved()) > 0,
		Silent:  r.Obs.holding(j) && r.Obs.Witness == state.WitnessSilent,
		Holding: r.Obs.holding(j), Isolated: r.Isolation != "", Rehearsed: r.Rehearsed, NotReady: len(r.NotReady) > 0,
	})
	return rec, changed || r.Partial && r.Change != nil
}

// checkOf is this check as the record keeps it.
func checkOf(j *job, r Result, rule int) state.Check {
	c := state.Check{
		Time: j.Began.UTC().Truncate(time.Second), Outcome: r.Outcome, Code: r.Outcome.Code(), Rule: rule, Reason: r.Reason,
		Primary: r.Obs.Primary.String(), Duration: state.Milliseconds(time.Since(j.Began).Milliseconds()),
	}
	if n := len(r.Obs.Evidence.Rounds); n > 0 {
		last := r.Obs.Evidence.Rounds[n-1]
		c.Sent, c.Received, c.RTT = last.Sent, last.Received, last.RTT
	}
	return c
}

func (j *job) vips() []netip.Addr {
	addrs := make([]netip.Addr, len(j.set.VIPs))
	for i, v := range j.set.VIPs {
		addrs[i] = v.Prefix.Addr()
	}
	return addrs
}

func (j *job) isVIP(a netip.Addr) bool { return slices.Contains(j.vips(), a) }
