package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	s := out.onScreen()
	defer s.Clear()
	p.Stderr = s
	if len(made.checks) == 1 {
		out.screen = s
	}
	switch {
	case p.Stamp == PriorityStamp:
		out.out = stamper{out: s, stamp: PriorityStamp}
		p.Stderr = out.out
	case p.Stamp == TimeStamp && out.verbose:
		out.out = stamper{out: s, stamp: ClockStamp}
	}
	out.log = p.openLog(made.checks)
	defer out.log.close(out)
	p.reportUnusable(made.source, made.checks, out.verbose || out.dryRun)
	var done atomic.Int64
	endings, code := p.perform(c, made.checks, func(t Task) ending {
		out, end := out.of(t).block(len(made.checks) > 1)
		e := p.one(c, out, t.Check, made.options(t))
		end()
		if n := done.Add(1); len(made.checks) > 1 {
			s.Draw(term.Still(fmt.Sprintf("%d of %d checked", n, len(made.checks))))
		}
		return e
	})
	hung := slices.ContainsFunc(endings, func(e ending) bool { return e.Hung })
	if !out.dryRun && !hung { // the metrics could hang on the same thing
		p.keepFile(c.Context, out, made.source, made.checks)
		p.writeMetrics(out, made, endings)
	}
	return made.codeOf(code), nil
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
		rights:  p.rights,
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

// perform does the same to all tasks, in parallel, and prints the endings as JSON
// where that was asked for. It returns the endings, without those that a signal
// prevented, and the exit code for all.
func (p Program) perform(c *cli.Context, tasks []Task, one func(Task) ending) (endings []ending, code int) {
	for _, e := range parallel(c.Context, tasks, len(tasks), apart, func(t Task) ending {
		if c.Context.Err() != nil {
			return ending{Code: exit.Interrupted}
		}
		return one(t)
	}) {
		code = exit.Worse(code, e.Code)
		if e.Code == exit.Interrupted {
			continue
		}
		if c.Bool("json") {
			p.printRaw(jsonLine(e.object(e)))
		}
		endings = append(endings, e)
	}
	return endings, code
}

// one does it to one task. A panic ends it for this task only.
func (p Program) one(c *cli.Context, out printer, act act, o failover.Options) (e ending) {
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(c.Context, func() {
		select {
		case <-over:
		case <-time.After(time.Second):
			out.infof("%s: finishing what has begun", context.Cause(c.Context))
		}
	})()
	o.DryRun, o.Force, o.OnEvent = out.dryRun, c.Bool("force"), out.event
	e, err := act(c.Context, o)
	switch {
	case err == nil:
		out.ended(e)
	case interrupted(c.Context, err):
		out.infof("ended by %s before it had changed anything", context.Cause(c.Context))
		e.Code = exit.Interrupted
	default:
		e = e.unmade(err, out.failed(err), out.dryRun)
	}
	return e
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
