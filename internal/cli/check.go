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
	"pingover/internal/failover"
)

// apart is the time between the first pings of two clusters: a thousand at once
// would lose replies, for each has a socket that hears all of them.
const apart = time.Millisecond

// check is the command: one check of each cluster, side by side.
func (p Program) check(c *cli.Context) (int, error) {
	v, err := p.voice(c)
	if err != nil {
		return 0, err
	}
	clusters, all, err := p.checked(c)
	if err != nil {
		return 0, err
	}
	s := v.onScreen()
	defer s.clear()
	p.Stderr = s
	if len(clusters) == 1 {
		v.screen = s
	}
	var done atomic.Int64
	var hung atomic.Bool
	reports, code := p.perform(c, clusters, func(cluster config.Cluster) (failover.Report, int) {
		v := v.of(cluster)
		if v.dryRun {
			v.origins(cluster)
		}
		report, code := p.one(c, v, givenUp(p.Check, &hung), cluster)
		if n := done.Add(1); len(clusters) > 1 {
			s.show(still(fmt.Sprintf("%d of %d checked", n, len(clusters))))
		}
		return report, code
	})
	if !v.dryRun && !hung.Load() { // what that one hangs on, this might as well
		p.writeMetrics(v, all, reports)
	}
	return code, nil
}

// givenUp is the act, and notes whether it was given up because it hung.
func givenUp(act Act, hung *atomic.Bool) Act {
	return func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
		report, err := act(ctx, c, o)
		if e, ok := errors.AsType[*failover.Error](err); ok && e.Hung {
			hung.Store(true)
		}
		return report, err
	}
}

// voice is how the command is to be told, to whichever cluster it is done.
func (p Program) voice(c *cli.Context) (voice, error) {
	if c.Bool("quiet") && c.Bool("verbose") {
		return voice{}, usageError{"--quiet and --verbose exclude each other", ""}
	}
	quiet := c.Bool("quiet") || c.Bool("json") && !c.Bool("verbose")
	bare := quiet || c.Bool("json")
	return voice{
		out:       p.Stderr,
		talkative: c.Bool("verbose") || p.Terminal && !quiet,
		quiet:     quiet,
		dryRun:    c.Bool("dry-run"),
		live:      p.Live && !bare,
		color:     p.Color && !bare,
	}, nil
}

// settings are those that are given as flags.
func settings(c *cli.Context) map[string][]string {
	values := map[string][]string{}
	for _, s := range config.Settings() {
		if c.IsSet(s.Name) {
			values[s.Name] = c.StringSlice(s.Name)
		}
	}
	return values
}

// perform does the same to the clusters, side by side, and prints how it ended
// where that is wanted. It returns that, but for those that a signal kept it from,
// and the exit code for all.
func (p Program) perform(c *cli.Context, clusters []config.Cluster, one func(config.Cluster) (failover.Report, int)) (reports []failover.Report, code int) {
	type ending struct {
		failover.Report
		code int
	}
	for _, e := range sideBySide(c.Context, clusters, len(clusters), apart, func(cluster config.Cluster) ending {
		if c.Context.Err() != nil {
			return ending{code: Interrupted}
		}
		report, code := one(cluster)
		return ending{report, code}
	}) {
		code = worse(code, e.code)
		if e.code == Interrupted {
			continue
		}
		if c.Bool("json") {
			p.printJSON(e.Report)
		}
		reports = append(reports, e.Report)
	}
	return reports, code
}

// one does it to one cluster. A bug ends it for this cluster only.
func (p Program) one(c *cli.Context, v voice, act Act, cluster config.Cluster) (report failover.Report, code int) {
	over := make(chan struct{})
	defer close(over)
	defer context.AfterFunc(c.Context, func() {
		select {
		case <-over:
		case <-time.After(time.Second):
			v.say("%s: what has begun is finished first", context.Cause(c.Context))
		}
	})()
	report, err := func() (report failover.Report, err error) {
		defer func() {
			if bug := failover.RecoveredError(recover()); bug != nil {
				err = bug
			}
		}()
		return act(c.Context, cluster, failover.Options{DryRun: v.dryRun, Force: c.Bool("force"), OnEvent: v.tell})
	}()
	switch {
	case err == nil:
		v.ended(report)
	case c.Context.Err() != nil:
		v.interrupted(context.Cause(c.Context))
		return report, Interrupted
	default:
		report = unmade(report, err, v.unmade(err), cluster, v.dryRun)
	}
	return report, report.Code
}

// worse is the one of two exit codes that an operator has to look at first; one
// that is not foreseen is the worst, and Interrupted is none of those foreseen.
func worse(a, b int) int {
	return earlier(a, b, codeBug, codeSettings, codePermission, 31, 30, 32, 21, 20, 14, 15, 13, 12, 11, 10, codeBusy, 0)
}

// earlier is the one of a and b that stands first in order, or not at all.
func earlier(a, b int, order ...int) int {
	if slices.Index(order, a) < slices.Index(order, b) {
		return a
	}
	return b
}
