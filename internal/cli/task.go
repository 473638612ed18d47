package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// Task is what the commands work on: its name, where its state is, and what can
// be done to it. A function is nil where its kind cannot do that, and where only
// the name is known.
type Task struct {
	Name        string
	Kind        state.Kind
	StateDir    state.Dir
	MetricsFile string         // "": none
	Mail        config.Mail    // its recipients, and the way to them
	Syslog      bool           // changes and alerts go there
	About       notify.Cluster // what a message about it names
	Given       bool           // its settings are known, and not only its name

	Check, TakeOver, Release act
	Drain                    func(members []netip.Addr, until time.Time) act
	Undrain                  func(members []netip.Addr) act
	Origins                  func() []config.Origin
	Doctor                   func(ctx context.Context, sendTest bool) []doctor.Finding
	Deliver                  func(context.Context, []state.Message) (left []state.Message, err error)

	cluster config.Cluster
	pool    config.Pool
}

// act is one run of a task. A panic in it is an error.
type act func(context.Context, failover.Options) (ending, error)

// task is a cluster as a task.
func (p Program) task(c config.Cluster) Task {
	t := Task{
		Name: c.Name, StateDir: state.Dir(c.StateDir), MetricsFile: c.MetricsFile, Mail: c.Mail, Syslog: c.Syslog, Given: true, cluster: c,
		About: notify.Cluster{Host: c.Host, VIPs: prefixesOf(c)}, Origins: c.Origins,
		Check: clusterRun(c, p.Check), TakeOver: clusterRun(c, p.TakeOver), Release: clusterRun(c, p.Release),
		Doctor: func(ctx context.Context, sendTest bool) []doctor.Finding { return p.Examine(ctx, c, sendTest) },
	}
	if p.Deliver != nil {
		t.Deliver = func(ctx context.Context, m []state.Message) ([]state.Message, error) { return p.Deliver(ctx, c, m) }
	}
	return t
}

// tasks are the clusters and pools of a file.
func (p Program) tasks(f config.File) (all []Task) {
	for _, c := range f.Clusters {
		all = append(all, p.task(c))
	}
	for _, pool := range f.Pools {
		all = append(all, p.poolTask(pool))
	}
	return all
}

// recordedTask is a task of which only the name and the kind are known.
func recordedTask(dir, name string, kind state.Kind) Task {
	return Task{
		Name: name, Kind: kind, StateDir: state.Dir(dir),
		cluster: config.Cluster{Name: name, StateDir: dir}, pool: config.Pool{Name: name, StateDir: dir},
	}
}

// record is what the last check of a cluster left.
func (t Task) record() (*state.Record, error) { return loaded(t.StateDir.Load(t.Name, false)) }

// poolRecord is what the last check of a pool left.
func (t Task) poolRecord() (*balance.Record, error) {
	return loaded(state.LoadKept[balance.Record](t.StateDir, t.Name, false))
}

// kept is the record of either kind, nil with an error.
func (t Task) kept() (state.Kept, error) {
	var rec state.Kept
	var err error
	if t.Kind == state.OfPool {
		rec, err = t.poolRecord()
	} else {
		rec, err = t.record()
	}
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// loaded is a record that could be read as it is.
func loaded[T any](rec *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// ending is how a run of a task ended, as far as all kinds have that in common.
type ending struct {
	Task            string
	Outcome         state.Outcome
	Code            int
	Changed, DryRun bool
	Hung            bool // it was abandoned, and might go on later
	Reason, Hint    string
	Error           *string
	Brief           string          // the result in a few words
	Commands        []state.Command // that were run, or would be
	Update          *state.Update   // of a pool, likewise
	Check           state.Check     // what the record keeps of it; zero where none was made

	object func(ending) any // what --json prints of it
}

// unmade is the ending of a check that was not made.
func (e ending) unmade(err error, code int, dryRun bool) ending {
	text := err.Error()
	e.DryRun, e.Error, e.Code, e.Outcome = dryRun, &text, code, exit.ErrorOutcome
	if code == exit.Busy {
		e.Outcome = exit.BusyOutcome
	}
	if failed, ok := errors.AsType[*run.Error](err); ok {
		e.Hung = failed.Hung
	}
	return e
}

// brief is the result in a few words.
func (e ending) brief() string {
	if e.Error != nil && e.Brief == "" {
		return *e.Error
	}
	return e.Brief
}

// clusterRun is what act does to a cluster, nil for nothing.
func clusterRun(c config.Cluster, do Act) act {
	if do == nil {
		return nil
	}
	return func(ctx context.Context, o failover.Options) (e ending, err error) {
		var r failover.Report
		defer func() {
			if panicked := proc.RecoveredError(recover()); panicked != nil {
				err = panicked
			}
			e = clusterEnding(c, r)
		}()
		r, err = do(ctx, c, o)
		return e, err
	}
}

func clusterEnding(c config.Cluster, r failover.Report) ending {
	e := ending{
		Task: c.Name, Outcome: r.Outcome, Code: r.Code, Changed: r.Changed, DryRun: r.DryRun,
		Reason: r.Reason, Hint: r.Hint, Error: r.Error, Commands: r.Commands, Check: r.Check, Brief: r.Reason,
	}
	if n := len(r.Rounds); r.Outcome == state.OK && n > 0 && r.Rounds[n-1].RTT != nil {
		e.Brief = fmt.Sprintf("%s replies in %s", r.Host, milliseconds(time.Duration(*r.Rounds[n-1].RTT*float64(time.Millisecond))))
	}
	e.object = func(e ending) any {
		if e.Outcome != r.Outcome { // no check was made: what is known all the same
			r.Version, r.Cluster, r.Host, r.DryRun, r.Error, r.Code, r.Outcome = 1, c.Name, c.Host, e.DryRun, e.Error, e.Code, e.Outcome
			if r.Time.IsZero() {
				r.Time = time.Now()
			}
			if c.Host != "" {
				r.Paths = c.Hosts()
			}
		}
		r.Time = r.Time.UTC().Truncate(time.Second)
		r.Held, r.Paths, r.Rounds, r.Witnesses = list(r.Held), list(r.Paths), list(r.Rounds), list(r.Witnesses)
		r.Holders, r.Services, r.Alerts = list(r.Holders), list(r.Services), list(r.Alerts)
		return struct {
			failover.Report
			Commands []shownCommand `json:"commands"`
		}{r, shown(r.Commands)}
	}
	return e
}
