// Package balance is one check of a pool as a chain of values: read the record
// set, ask all members, decide, write down, update, write down, notify.
package balance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/pool"
	"pingover/state"
)

// Options are what the command line adds to a pool's settings.
type Options struct {
	DryRun bool
	Force  bool // of Drain: a family may fall below min-members, never to nothing
	// Origin is the path of the file that defines the pool.
	Origin string
	// Unconfigured says that the file no longer has the pool: it has no members,
	// and what it has left in DNS is an alert.
	Unconfigured bool
	// OnEvent is handed what the check does as it does it (run.RoundBegan, …,
	// Decided, Updated); nil for nobody. It is called by one goroutine at a time.
	OnEvent func(event any)
}

// job is what one run works with. No step of it changes any of this.
type job struct {
	*run.Run
	Env
	set    config.Pool
	opt    Options
	manual bool // a drain, or its end
}

func newJob(env Env, p config.Pool, o Options, manual bool) *job {
	if o.Unconfigured {
		p.Members = nil
	}
	return &job{
		Run: &run.Run{Name: p.Name, Kind: state.OfPool, Dir: state.Dir(p.StateDir), Began: time.Now(), DryRun: o.DryRun, Manual: manual, OnEvent: o.OnEvent, Memory: env.Memory},
		Env: env, set: p, opt: o, manual: manual,
	}
}

// settings are those that the decision rests on.
func (j *job) settings() pool.Settings {
	return pool.Settings{Members: j.set.Members, Rise: j.set.Rise, MinMembers: j.set.MinMembers, TTL: j.set.TTL}
}

// CheckIn is Machine.Check in an environment of the caller's making.
func CheckIn(ctx context.Context, env Env, p config.Pool, o Options) (Report, error) {
	j := newJob(env, p, o, false)
	return run.Within(p.Deadline(), j.Run, func() (Report, error) { return j.check(ctx) })
}

// check is the whole run. The record is changed here and nowhere else.
func (j *job) check(ctx context.Context) (Report, error) {
	rec, unlock, err := open(ctx, j)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	dns, err := connect(j, rec)
	if err != nil {
		return Report{}, err
	}
	local := survey(j, rec)
	rec = noted(j, rec, local)

	read := dns.read(ctx, j, rec)
	seen := probe(ctx, j, local, read.set)
	if err := context.Cause(ctx); err != nil {
		return Report{}, err
	}
	decide := func(rec Record, r reading) pool.Decision {
		return pool.Decide(rec.Record, seen.observation(j, r), j.settings(), now())
	}
	rec, read = rec.settle(j, read)
	d := decide(rec, read)
	j.Event(Decided{Decision: d})
	if j.DryRun {
		return planned(j, rec, read, seen, d), nil
	}

	before := rec
	rec, result := publish(ctx, j, dns, rec, read, d, decide)
	rec.Record = rec.Record.Apply(result.Decision, seen.observation(j, result.reading), result.Effect, now())
	return finish(ctx, j, before, rec, seen, result), nil
}

// open is what comes before any observation: permission, lock, record.
func open(ctx context.Context, j *job) (rec Record, unlock func(), err error) {
	if err := j.permitted(); err != nil {
		return rec, nil, err
	}
	if unlock, err = j.Lock(ctx, j.Locks); err != nil {
		reportHeldLock(ctx, j, err)
		return rec, nil, err
	}
	loaded, err := run.Load[Record](j.Run)
	if err != nil {
		unlock()
		return rec, nil, err
	}
	rec = loaded.adopt(j)
	if err := j.ReportUntrusted(j.runs(), j.Trusted, j.set.Mail, rec.Head, false); err != nil {
		unlock()
		return rec, nil, err
	}
	return rec, unlock, nil
}

// permitted finds out at once whether members can be pinged, where they are.
func (j *job) permitted() error {
	if j.manual || len(j.set.Services) > 0 {
		return nil
	}
	if err := j.MayPing(); err != nil {
		return &run.Error{Code: run.CodePermission, Text: err.Error()}
	}
	return nil
}

// nameServer is the pool's, or why it cannot be asked.
type nameServer struct {
	NameServer
	unusable error
}

// connect prepares the questions to the name server: the key is read at every run.
// One that cannot be used is an error for a pool that was never checked.
func connect(j *job, rec Record) (nameServer, error) {
	server, err := j.NameServer(j.set)
	if last, _ := rec.LastCheck(); err != nil && last.IsZero() {
		return nameServer{}, &run.Error{Code: run.CodeSettings, Text: "key-file: " + err.Error(), Hint: hintOf(err)}
	}
	return nameServer{server, err}, nil
}

// hintOf is what to do about an error of the name server, "" where that is not
// known.
func hintOf(err error) string {
	if e, ok := errors.AsType[*pool.Error](err); ok {
		return e.Hint
	}
	return ""
}

// reading is the record set as it was read, or why it could not be.
type reading struct {
	zone     string
	set      pool.Set
	err      error
	finished pool.Finished
}

// known tells whether the set was read.
func (r reading) known() bool { return r.err == nil && r.set.Name != "" }

func (r reading) fault() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}

// read asks for the zone, unless that is known, and for the set.
func (s nameServer) read(ctx context.Context, j *job, rec Record) reading {
	j.Doing("asking the name server")
	r := reading{zone: rec.Zone, set: pool.Set{Name: j.set.Record}, err: s.unusable}
	if r.err == nil && r.zone == "" {
		var zone pool.Zone
		zone, r.err = s.FindZone(ctx, j.set.Record)
		r.zone = zone.Name
	}
	if r.err == nil {
		var set pool.Set
		if set, r.err = s.Read(ctx, j.set.Record); r.err == nil {
			r.set = set
		}
	}
	return r
}

// Result is what came of a decision.
type Result struct {
	pool.Decision
	reading // the newest
	Effect  pool.Effect
	Outcome state.Outcome
	Reason  string
	Hint    string
	Change  *state.Change // for the history; nil when no update was tried
}

// publish writes down what is about to be changed, changes it, and reads it back.
// Where another writer was faster it reads and decides again.
func publish(ctx context.Context, j *job, dns nameServer, rec Record, read reading, d pool.Decision, decide func(Record, reading) pool.Decision) (Record, Result) {
	finished := read.finished // by a run that was killed
	for try := 1; ; try++ {
		r := Result{Decision: d, reading: read, Outcome: d.Outcome, Reason: d.Reason, Hint: hintOf(read.err)}
		r.finished = finished
		if len(d.Leave)+len(d.Return) == 0 {
			if rec.Update != nil { // of a run that was killed: only the set tells what came of it
				r.Effect = pool.Open
			}
			return rec, r
		}
		rec.Event = state.NewEvent(now())
		rec.Record = rec.Record.Intend(d, now())
		_ = j.Save(&rec, true) // the result is written again; a full disk does not keep clients with a host that is down
		j.Switching()
		if j.Abandoned() {
			r.Outcome = state.Unknown
			return rec, r
		}
		j.Doing("updating " + j.set.Record)
		j.Event(run.Stage("updating " + j.set.Record))
		change := pool.Change{Zone: read.zone, Before: read.set, After: read.set.With(d.Leave, d.Return, j.set.TTL)}
		set, err := dns.Publish(context.WithoutCancel(ctx), change)
		if pool.ProblemOf(err) == pool.Changed && try < pool.Tries {
			j.Infof("%v: it is read again", err)
			rec.Record = rec.Record.Withdraw()
			rec, read = rec.settle(j, dns.read(context.WithoutCancel(ctx), j, rec))
			d = decide(rec, read)
			j.Event(Decided{Decision: d})
			continue
		}
		r.Effect = pool.EffectOf(err)
		r.Change = &state.Change{
			Event: rec.Event, Time: now(), Outcome: d.Outcome, Manual: j.manual, Reason: d.Reason,
			Evidence: state.Evidence{Update: updateOf(change, d.Leave, d.Return, j.set.Server)},
		}
		if err != nil {
			r.Outcome, r.Reason, r.Hint = state.UpdateFailed, fmt.Sprintf("%s; failed: %v", d.Reason, err), hintOf(err)
			r.Change.Outcome, r.Change.Reason = r.Outcome, r.Reason
			rec.Zone = j.set.Zone // else it is found anew
		} else {
			r.set = set
		}
		j.Event(Updated{Update: *r.Change.Evidence.Update, Error: err})
		return rec, r
	}
}

// updateOf is a change as the record and the history keep it.
func updateOf(c pool.Change, leave, back []netip.Addr, server string) *state.Update {
	return &state.Update{Leave: orEmpty(leave), Return: orEmpty(back), Script: c.Script(server), Inverse: c.Inverse().Script(server)}
}

// now is the time in the record: UTC, whole seconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
