package cli

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
)

// check is the command: one check of the cluster that the flags define.
func (p Program) check(c *cli.Context) (code int, err error) {
	if c.Bool("quiet") && c.Bool("verbose") {
		return 0, usageError{"--quiet and --verbose exclude each other", ""}
	}
	cluster, err := p.cluster(c)
	if err != nil {
		return 0, err
	}
	quiet := c.Bool("quiet") || c.Bool("json") && !c.Bool("verbose")
	v := voice{
		out:       p.Stderr,
		cluster:   cluster.Name,
		talkative: c.Bool("verbose") || p.Terminal && !quiet,
		quiet:     quiet,
		dryRun:    c.Bool("dry-run"),
	}
	report, err := p.Check(c.Context, cluster, failover.Options{DryRun: v.dryRun, Tell: v.tell})
	switch {
	case err == nil:
		v.verdict(report)
	case c.Context.Err() != nil:
		v.interrupted(context.Cause(c.Context))
		return Interrupted, nil
	default:
		report = unmade(report, err, cluster, v.dryRun)
		v.unmade(err, report.Code)
	}
	if c.Bool("json") {
		p.printJSON(report)
	}
	return report.Code, nil
}

// cluster is the cluster that the flags define; names can only be its own.
func (p Program) cluster(c *cli.Context) (config.Cluster, error) {
	values := map[string][]string{}
	for _, s := range config.Settings() {
		if c.IsSet(s.Name) {
			values[s.Name] = c.StringSlice(s.Name)
		}
	}
	cluster, err := config.FromFlags(values, p.Env)
	switch {
	case err != nil && !c.IsSet("host"):
		return cluster, hinted{err, "such as pingover check --host 172.16.0.2 --vip 172.16.0.1"}
	case err != nil:
		return cluster, err
	}
	for _, name := range c.Args().Slice() {
		if name != cluster.Name {
			return cluster, usageError{fmt.Sprintf("%q: no such cluster; known is %s", name, cluster.Name), ""}
		}
	}
	return cluster, nil
}
