package cli

import (
	"context"
	"fmt"
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
		v.byHand = true
		return p.perform(c, v, act, clusters...), nil
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
	v.byHand = true
	until := time.Now().Add(length)
	return each(c.Context, clusters, func(cluster config.Cluster) int {
		v.cluster = cluster.Name
		if err := failover.Pause(cluster, until); err != nil {
			return v.unmade(err)
		}
		v.result(fmt.Sprintf("paused until %s (%s); checks go on and switch nothing",
			until.UTC().Format("2006-01-02 15:04:05 UTC"), config.DurationText(length)))
		return 0
	}), nil
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
	v.byHand = true
	return each(c.Context, clusters, func(cluster config.Cluster) int {
		v.cluster = cluster.Name
		done, err := failover.Resume(c.Context, cluster, failover.Options{Tell: v.tell})
		if done.Paused {
			v.result("the pause is over: checks switch again")
		}
		switch {
		case err != nil && c.Context.Err() != nil:
			v.say("ended by %s", context.Cause(c.Context))
			return Interrupted
		case err != nil:
			return v.unmade(err)
		case done.Released:
			v.result("the release by hand is over: checks take over again")
		case !done.Paused:
			v.result("nothing to resume: neither paused nor released by hand")
		}
		return 0
	}), nil
}
