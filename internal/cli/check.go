package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
)

// check is the command: one check of the cluster that the flags define.
func (p Program) check(c *cli.Context) (code int, err error) {
	v, err := p.voice(c)
	if err != nil {
		return 0, err
	}
	cluster, err := p.cluster(c)
	if err != nil {
		return 0, err
	}
	return p.perform(c, v, p.Check, cluster), nil
}

// voice is how the command is to be told, to whichever cluster it is done.
func (p Program) voice(c *cli.Context) (voice, error) {
	if c.Bool("quiet") && c.Bool("verbose") {
		return voice{}, usageError{"--quiet and --verbose exclude each other", ""}
	}
	quiet := c.Bool("quiet") || c.Bool("json") && !c.Bool("verbose")
	return voice{
		out:       p.Stderr,
		talkative: c.Bool("verbose") || p.Terminal && !quiet,
		quiet:     quiet,
		dryRun:    c.Bool("dry-run"),
	}, nil
}

// cluster is the cluster that the flags define; names can only be its own.
func (p Program) cluster(c *cli.Context) (config.Cluster, error) {
	cluster, err := config.FromFlags(settings(c), p.Env)
	switch {
	case err != nil && !c.IsSet("host"):
		return cluster, hinted{err, "such as pingover check --host 172.16.0.2 --vip 172.16.0.1"}
	case err != nil:
		return cluster, err
	}
	return cluster, areKnown(c.Args().Slice(), cluster.Name)
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

// areKnown sees that all names are among the known ones.
func areKnown(names []string, known ...string) error {
	for _, name := range names {
		if !slices.Contains(known, name) {
			return usageError{fmt.Sprintf("%q: no such cluster; %s", name, listed(known)), ""}
		}
	}
	return nil
}

// perform does the same to one cluster after the other, and returns the exit
// code for all of them.
func (p Program) perform(c *cli.Context, v voice, act Act, clusters ...config.Cluster) int {
	return each(c.Context, clusters, func(cluster config.Cluster) int {
		v.cluster = cluster.Name
		report, err := act(c.Context, cluster, failover.Options{DryRun: v.dryRun, Force: c.Bool("force"), Tell: v.tell})
		switch {
		case err == nil:
			v.verdict(report)
		case c.Context.Err() != nil:
			v.interrupted(context.Cause(c.Context))
			return Interrupted
		default:
			report = unmade(report, err, v.unmade(err), cluster, v.dryRun)
		}
		if c.Bool("json") {
			p.printJSON(report)
		}
		return report.Code
	})
}

// each is the worst of the exit codes for the clusters. A signal ends it
// before the next one.
func each(ctx context.Context, clusters []config.Cluster, do func(config.Cluster) int) int {
	code := 0
	for _, cluster := range clusters {
		if ctx.Err() != nil {
			return Interrupted
		}
		one := do(cluster)
		if one == Interrupted {
			return Interrupted
		}
		code = worse(code, one)
	}
	return code
}

// worse is the one of two exit codes that an operator has to look at first; one
// that is not foreseen is the worst.
func worse(a, b int) int {
	order := []int{codeBug, codeSettings, codePermission, 31, 30, 32, 21, 20, 14, 15, 13, 12, 11, 10, codeBusy, 0}
	if slices.Index(order, a) < slices.Index(order, b) {
		return a
	}
	return b
}
