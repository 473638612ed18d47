package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/internal/term"
	"pingover/state"
)

// apart is the time between the first pings of two clusters: a thousand at once
// would lose replies, because each has a socket that receives all of them.
const apart = time.Millisecond

// check is the command: one check of each cluster, in parallel.
func (p Program) check(c *cli.Context) (int, error) {
	out, err := p.printer(c)
	if err != nil {
		return 0, err
	}
	made, err := p.planned(c)
	if err != nil {
		return 0, err
	}
	clusters := made.checks
	s := out.onScreen()
	defer s.Clear()
	p.Stderr = s
	if len(clusters) == 1 {
		out.screen = s
	}
	p.reportUnusable(made.source, clusters, out.verbose || out.dryRun)
	var done atomic.Int64
	var hung atomic.Bool
	reports, code := p.perform(c, clusters, func(cluster config.Cluster) (failover.Report, int) {
		out := out.of(cluster)
		if out.dryRun {
			for _, o := range cluster.Origins() {
				out.infof("%s", o)
			}
		}
		act := func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			return p.Check(ctx, c, made.options(c, o))
		}
		report, code := p.one(c, out, noteHung(act, &hung), cluster)
		if n := done.Add(1); len(clusters) > 1 {
			s.Draw(term.Still(fmt.Sprintf("%d of %d checked", n, len(clusters))))
		}
		return report, code
	})
	if !out.dryRun && !hung.Load() { // the metrics could hang on the same thing
		p.keepFile(c.Context, out, made.source, clusters)
		p.writeMetrics(out, made, reports)
	}
	return made.codeOf(code), nil
}

// noteHung is the act, and notes if it was abandoned because it hung.
func noteHung(act Act, hung *atomic.Bool) Act {
	return func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
		report, err := act(ctx, c, o)
		if e, ok := errors.AsType[*run.Error](err); ok && e.Hung {
			hung.Store(true)
		}
		return report, err
	}
}

// printer is how the command prints, for any cluster.
func (p Program) printer(c *cli.Context) (printer, error) {
	if c.Bool("quiet") && c.Bool("verbose") {
		return printer{}, usageError{"--quiet and --verbose exclude each other", ""}
	}
	quiet := c.Bool("quiet") || c.Bool("json") && !c.Bool("verbose")
	plain := quiet || c.Bool("json")
	return printer{
		out:     p.Stderr,
		verbose: c.Bool("verbose") || p.Terminal && !quiet,
		quiet:   quiet,
		dryRun:  c.Bool("dry-run"),
		live:    p.Live && !plain,
		colors:  p.Color && !plain,
	}, nil
}

// settings are those that are given as flags.
func settings(c *cli.Context) map[string][]string {
	values := map[string][]string{}
	for _, s := range config.Settings() {
		if given := c.StringSlice(s.Name); len(given) > 0 {
			values[s.Name] = given
		}
	}
	return values
}

// perform does the same to all clusters, in parallel, and prints the reports as
// JSON where that was asked for. It returns the reports, without those that a
// signal prevented, and the exit code for all.
func (p Program) perform(c *cli.Context, clusters []config.Cluster, one func(config.Cluster) (failover.Report, int)) (reports []failover.Report, code int) {
	type ending struct {
		failover.Report
		code int
	}
	for _, e := range parallel(c.Context, clusters, len(clusters), apart, func(cluster config.Cluster) ending {
		if c.Context.Err() != nil {
			return ending{code: exit.Interrupted}
		}
		report, code := one(cluster)
		return ending{report, code}
	}) {
		code = exit.Worse(code, e.code)
		if e.code == exit.Interrupted {
			continue
		}
		if c.Bool("json") {
			p.printJSON(e.Report)
		}
		reports = append(reports, e.Report)
	}
	return reports, code
}

// one does it to one cluster. A panic ends it for this cluster only.
func (p Program) one(c *cli.Context, out printer, act Act, cluster config.Cluster) (report failover.Report, code int) {
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(c.Context, func() {
		select {
		case <-over:
		case <-time.After(time.Second):
			out.infof("%s: finishing what has begun", context.Cause(c.Context))
		}
	})()
	report, err := func() (report failover.Report, err error) {
		defer func() {
			if panicked := proc.RecoveredError(recover()); panicked != nil {
				err = panicked
			}
		}()
		return act(c.Context, cluster, failover.Options{DryRun: out.dryRun, Force: c.Bool("force"), OnEvent: out.event})
	}()
	switch {
	case err == nil:
		out.ended(report)
	case interrupted(c.Context, err):
		out.infof("ended by %s before it had changed anything", context.Cause(c.Context))
		return report, exit.Interrupted
	default:
		report = unmade(report, err, out.failed(err), cluster, out.dryRun)
	}
	return report, report.Code
}

// interrupted reports whether an error is just the end of ctx. A panic and a
// hung run are errors of their own, even if a signal arrived: something may have
// been changed.
func interrupted(ctx context.Context, err error) bool {
	if _, panicked := errors.AsType[*proc.InternalError](err); panicked {
		return false
	}
	e, failed := errors.AsType[*run.Error](err)
	return ctx.Err() != nil && !(failed && (e.Hung || e.Code == state.StateFailed.Code()))
}
