package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/state"
)

// Pools are what can be done to a pool: the functions of package balance by these
// names, and doctor's, except in tests.
type Pools struct {
	Check   PoolAct
	Drain   func(ctx context.Context, p config.Pool, members []netip.Addr, until time.Time, o balance.Options) (balance.Report, error)
	Undrain func(ctx context.Context, p config.Pool, members []netip.Addr, o balance.Options) (balance.Report, error)
	Examine func(ctx context.Context, p config.Pool, sendTest bool) []doctor.Finding
}

// PoolAct is a check of a pool.
type PoolAct func(context.Context, config.Pool, balance.Options) (balance.Report, error)

// poolTask is a pool as a task.
func (p Program) poolTask(pool config.Pool) Task {
	t := Task{
		Name: pool.Name, Kind: state.OfPool, StateDir: state.Dir(pool.StateDir), MetricsFile: pool.MetricsFile, Mail: pool.Mail, Syslog: pool.Syslog, Given: true, pool: pool,
		cluster: config.Cluster{Name: pool.Name, StateDir: pool.StateDir},
		About:   balance.About(pool, balance.Record{}), Origins: pool.Origins,
		Check: poolRun(pool, p.Pools.Check),
		Drain: func(members []netip.Addr, until time.Time) act {
			return poolRun(pool, func(ctx context.Context, pool config.Pool, o balance.Options) (balance.Report, error) {
				return p.Pools.Drain(ctx, pool, members, until, o)
			})
		},
		Undrain: func(members []netip.Addr) act {
			return poolRun(pool, func(ctx context.Context, pool config.Pool, o balance.Options) (balance.Report, error) {
				return p.Pools.Undrain(ctx, pool, members, o)
			})
		},
		Doctor: func(ctx context.Context, sendTest bool) []doctor.Finding { return p.Pools.Examine(ctx, pool, sendTest) },
	}
	if p.Deliver != nil {
		way := config.Cluster{Name: pool.Name, Mail: pool.Mail, Hooks: config.Hooks{Timeout: pool.CommandTimeout}}
		t.Deliver = func(ctx context.Context, m []state.Message) ([]state.Message, error) { return p.Deliver(ctx, way, m) }
	}
	return t
}

// poolRun is what do does to a pool.
func poolRun(pool config.Pool, do PoolAct) act {
	return func(ctx context.Context, o failover.Options) (e ending, err error) {
		var r balance.Report
		defer func() {
			if panicked := proc.RecoveredError(recover()); panicked != nil {
				err = panicked
			}
			e = poolEnding(pool, r)
		}()
		r, err = do(ctx, pool, balance.Options{DryRun: o.DryRun, Force: o.Force, Origin: o.Origin, Unconfigured: o.Unconfigured, OnEvent: o.OnEvent})
		return e, err
	}
}

func poolEnding(pool config.Pool, r balance.Report) ending {
	e := ending{
		Task: pool.Name, Outcome: r.Outcome, Code: r.Code, Changed: r.Changed, DryRun: r.DryRun,
		Reason: r.Reason, Hint: r.Hint, Error: r.Error, Check: r.Check, Brief: r.Reason, Update: r.Update,
	}
	e.object = func(e ending) any {
		if e.Outcome != r.Outcome { // no check was made: what is known all the same
			r.Version, r.Kind, r.Cluster, r.Record, r.Server = 1, state.OfPool, pool.Name, strings.TrimSuffix(pool.Record, "."), pool.Server
			r.DryRun, r.Error, r.Code, r.Outcome = e.DryRun, e.Error, e.Code, e.Outcome
			if r.Time.IsZero() {
				r.Time = time.Now()
			}
		}
		r.Time = r.Time.UTC().Truncate(time.Second)
		r.Published, r.Members, r.Foreign = list(r.Published), list(r.Members), list(r.Foreign)
		r.Rounds, r.Witnesses, r.Services, r.Alerts = list(r.Rounds), list(r.Witnesses), list(r.Services), list(r.Alerts)
		return r
	}
	return e
}

// The commands that take members after the name of a pool.
const (
	drainCommand   = "drain"
	undrainCommand = "undrain"
)

// drain is the command.
func (p Program) drain(c *cli.Context) (int, error) {
	length, err := duration(c, "for", 0, shortestPause, longestPause)
	if err != nil {
		return 0, err
	}
	var until time.Time // until undrain
	if length > 0 {
		until = time.Now().Add(length)
	}
	return p.move(c, func(t Task, members []netip.Addr) (act, error) {
		var known []string
		for _, m := range t.pool.Members {
			known = append(known, m.String())
		}
		for _, m := range members {
			if !slices.Contains(t.pool.Members, m) {
				return nil, usageError{fmt.Sprintf("%q: no member of %s; %s", m, t.Name, listed(known)), meant("", m.String(), known, "")}
			}
		}
		drain := t.Drain(members, until)
		return func(ctx context.Context, o failover.Options) (ending, error) {
			e, err := drain(ctx, o)
			switch e.Outcome {
			case state.StateFailed:
				e.Hint = "the drain is not written down: later checks put the member back while it replies; fix what keeps the state from being written, then drain again"
			case state.Removed, state.Reduced:
				e.Hint = fmt.Sprintf("a drain belongs to one checker: where others check %s, run it on each of them too", t.Name)
			}
			return e, err
		}, nil
	})
}

// undrain is the command.
func (p Program) undrain(c *cli.Context) (int, error) {
	return p.move(c, func(t Task, members []netip.Addr) (act, error) {
		undrain := t.Undrain(members)
		return func(ctx context.Context, o failover.Options) (ending, error) {
			e, err := undrain(ctx, o)
			if e.Outcome == state.StateFailed {
				e.Hint = "the drain goes on: fix what keeps the state from being written, then undrain again"
			}
			return e, err
		}, nil
	})
}

// move does what of returns to members of a pool.
func (p Program) move(c *cli.Context, of func(Task, []netip.Addr) (act, error)) (int, error) {
	out, err := p.printer(c)
	if err != nil {
		return 0, err
	}
	args := c.Args().Slice()
	if len(args) < 2 {
		return 0, usageError{"a pool and at least one member are missing", fmt.Sprintf("such as pingover %s www 10.2.2.11", c.Command.Name)}
	}
	tasks, err := p.chosen(c, false, p.recalled)
	if err != nil {
		return 0, err
	}
	t := tasks[0]
	if t.Kind != state.OfPool {
		return 0, usageError{fmt.Sprintf("%q: a cluster; %s is for pools", t.Name, c.Command.Name), "see pingover help release to hand over its virtual IPs"}
	}
	var members []netip.Addr
	for _, text := range args[1:] {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return 0, usageError{fmt.Sprintf("%q: not an address; members are given by their addresses", text), ""}
		}
		if !slices.Contains(members, a) {
			members = append(members, a)
		}
	}
	do, err := of(t, members)
	if err != nil {
		return 0, err
	}
	out.manual = true
	p.Stderr = out.onScreen()
	out.log = p.openLog(tasks)
	defer out.log.close(out)
	_, code := p.perform(c, tasks, func(t Task) ending { return p.one(c, out.of(t), do, failover.Options{}) })
	return code, nil
}

// recordsOf are the published addresses that the record of a pool knows as its
// members.
func recordsOf(rec *balance.Record) (addrs []netip.Addr) {
	for _, m := range rec.Members {
		if m.Published {
			addrs = append(addrs, m.Address)
		}
	}
	return addrs
}

func addresses(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}
