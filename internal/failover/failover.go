// Package failover is one check of a cluster, as a chain of values: survey,
// probe, decide, write down, act, write down, notify.
package failover

import (
	"context"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/hold"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
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
	*observe.Job // settings, reports, and what the survey and the probe use
	env          Env
	arb          *arbiter.Session // nil: none is set
	hold         *hold.Keeper
	opt          Options
	mode         mode
}

func newJob(env Env, c config.Cluster, o Options, m mode) *job {
	r := &run.Run{Name: c.Name, Dir: state.Dir(c.StateDir), Began: time.Now(), DryRun: o.DryRun, Manual: m != modeCheck, OnEvent: o.OnEvent, Memory: env.Memory}
	j := &job{
		Job: &observe.Job{Run: r, Env: env.Env, Set: c, NoPings: m == modeTakeOver, Forced: m == modeTakeOver && o.Force, Tool: env.Tool}, env: env, opt: o, mode: m,
		arb: arbiter.NewSession(env.Arbiter, c.Name, proc.Hostname(), c.Arbiter.TTL),
	}
	j.hold = &hold.Keeper{Job: j.Job, Arbiter: j.arb, Tool: env.Tool, Lock: j.lockSwitch}
	return j
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
	local, errs := observe.Survey(ctx, j.Job, rec)
	if len(errs) > 0 {
		return Report{}, errs[0]
	}
	if err := j.ReportUntrusted(j.runs(), j.env.Trusted, j.Set.Mail, rec.Head, local.Holding()); err != nil {
		return Report{}, err
	}
	rec, drafted := settle(j, rec, local)
	rec.SetServices(j.Set.Services)
	j.arb.Begin(rec.Arbiter, j.DryRun)
	held := j.hold.Begin(ctx, local, rec.VIPs)
	commands := j.ran(held.Ran)
	if rec.VIPs = held.Aliases; len(commands) > 0 {
		local = local.Again(j.Job)
	}
	network := observe.NewNetwork(j.Job, local, rec.Neighbour)
	network.Owns = j.arb.Owns
	defer network.Close()
	rec, decide := newDecider(j, network, rec, local)

	start := observe.Start(j.Job, rec, local)
	start.Arbiter.Lost = held.Lost
	obs, err := probe(ctx, j, network, decide, start)
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
	result := act(ctx, j, network, intent, obs, decision, decide.during(decision).again)
	if y := result.Yield; y != nil { // the intent is another one from here on
		rec = intendToYield(j, rec, y)
		result = yieldAssigned(ctx, j, network, result, decide.again)
	}
	j.hold.Free(ctx, result.Obs.Local)
	result.Removed = append(without(obs.Arbiter.Lost, result.Obs.Held()), result.Removed...)
	result.Commands = append(commands, result.Commands...)
	result.Isolation = network.Isolation(result.Obs)
	result.Rehearsed, result.NotReady = rehearse(ctx, j, network, rec, result.Obs)
	return finish(ctx, j, network, before, rec, decision, result, drafted), nil
}

// probe asks the network what this run has to know.
func probe(ctx context.Context, j *job, n *observe.Network, d decider, o observe.Observation) (observe.Observation, error) {
	reportLength(j)
	switch j.mode {
	case modeTakeOver:
		o = probeForTakeOver(ctx, j, n, d, o)
	case modeRelease:
		return probeForRelease(ctx, j, n, o), nil
	default:
		if len(o.Arbiter.Lost) > 0 {
			break
		}
		if lost := j.hold.Probing(ctx, o.Local, func() { o = n.Probe(ctx, d.known, o) }); len(lost) > 0 {
			o.Local, o.Arbiter.Lost = o.Again(j.Job), lost
		}
		if !o.Holding() && len(o.Arbiter.Lost) == 0 {
			o = d.yield(ctx, o)
		}
	}
	return o, context.Cause(ctx)
}
