package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
)

// byHand is the command takeover or release.
func (p Program) byHand(act Act) func(*cli.Context) (int, error) {
	return func(c *cli.Context) (int, error) {
		v, err := p.voice(c)
		if err != nil {
			return 0, err
		}
		clusters, err := p.chosen(c, c.Bool("all"), p.recalled)
		if err != nil {
			return 0, err
		}
		if c.Bool("all") {
			clusters = slices.DeleteFunc(clusters, func(cluster config.Cluster) bool { return len(cluster.VIPs) == 0 })
			if len(clusters) == 0 {
				return 0, &failover.Error{Code: codeSettings, Text: "no cluster has a virtual IP"}
			}
		}
		v.byHand = true
		p.Stderr = v.onScreen()
		_, code := p.perform(c, clusters, func(cluster config.Cluster) (failover.Report, int) {
			return p.one(c, v.of(cluster), act, cluster)
		})
		return code, nil
	}
}

// The lengths of a pause.
const (
	usualPause    = time.Hour
	shortestPause = time.Second
	longestPause  = 365 * 24 * time.Hour
)

// pause is the command.
func (p Program) pause(c *cli.Context) (int, error) {
	v, err := p.voice(c)
	if err != nil {
		return 0, err
	}
	length, err := duration(c, "for", usualPause, shortestPause, longestPause)
	if err != nil {
		return 0, err
	}
	clusters, err := p.chosen(c, c.Bool("all"), named)
	if err != nil {
		return 0, err
	}
	until := time.Now().Add(length)
	paused := fmt.Sprintf("paused until %s (%s); checks go on and switch nothing",
		clock(until), config.DurationText(length))
	return v.each(c.Context, clusters, func(_ voice, cluster config.Cluster) ([]string, error) {
		if err := failover.Pause(cluster, until); err != nil {
			return nil, err
		}
		return []string{paused}, nil
	}), nil
}

// each does the same to the clusters, side by side, tells in their order what
// came of it, and returns the exit code for all.
func (v voice) each(ctx context.Context, clusters []config.Cluster, do func(voice, config.Cluster) (results []string, err error)) (code int) {
	v.byHand = true
	v.onScreen()
	type ending struct {
		results []string
		err     error
	}
	for cluster, e := range sideBySide(ctx, clusters, len(clusters), apart, func(cluster config.Cluster) ending {
		if ctx.Err() != nil {
			return ending{err: ctx.Err()}
		}
		results, err := do(v.of(cluster), cluster)
		return ending{results, err}
	}) {
		v := v.of(cluster)
		for _, text := range e.results {
			v.result(text)
		}
		switch {
		case e.err != nil && ctx.Err() != nil:
			v.say("ended by %s", context.Cause(ctx))
			code = Interrupted
		case e.err != nil:
			code = worse(code, v.unmade(e.err))
		}
	}
	return code
}

// duration is what a flag that is no setting says.
func duration(c *cli.Context, flag string, usual, shortest, longest time.Duration) (time.Duration, error) {
	switch given := c.StringSlice(flag); len(given) {
	case 0:
		return usual, nil
	case 1:
		d, err := config.DurationWithin(given[0], shortest, longest)
		if err != nil {
			return 0, usageError{fmt.Sprintf("--%s %q: %v", flag, given[0], err), ""}
		}
		return d, nil
	default:
		return 0, usageError{fmt.Sprintf("--%s %q: given %d times, and takes one value", flag, given[len(given)-1], len(given)), ""}
	}
}

// resume is the command. Whoever names no cluster means all.
func (p Program) resume(c *cli.Context) (int, error) {
	v, err := p.voice(c)
	if err != nil {
		return 0, err
	}
	clusters, err := p.chosen(c, true, named)
	if err != nil {
		return 0, err
	}
	return v.each(c.Context, clusters, func(v voice, cluster config.Cluster) (results []string, err error) {
		done, err := failover.Resume(c.Context, cluster, failover.Options{OnEvent: v.tell})
		if done.Paused {
			results = append(results, "the pause is over: checks switch again")
		}
		switch {
		case done.Released:
			results = append(results, "the release by hand is over: checks take over again")
		case err == nil && !done.Paused:
			results = append(results, "nothing to resume: neither paused nor released by hand")
		}
		return results, err
	}), nil
}
