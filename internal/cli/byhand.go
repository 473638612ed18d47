package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
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
	length, err := pauseLength(c.StringSlice("for"))
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

// pauseLength is what --for says.
func pauseLength(given []string) (time.Duration, error) {
	switch len(given) {
	case 0:
		return usualPause, nil
	case 1:
		length, err := config.DurationWithin(given[0], shortestPause, longestPause)
		if err != nil {
			return 0, usageError{fmt.Sprintf("--for %q: %v", given[0], err), ""}
		}
		return length, nil
	}
	return 0, usageError{fmt.Sprintf("--for %q: given %d times, and takes one value", given[len(given)-1], len(given)), ""}
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

// recall makes a cluster of what is known of it in the state directory, and of
// the flags.
type recall func(dir, name string, flags map[string][]string) (config.Cluster, error)

// named is a cluster of which nothing has to be known but its name: a broken
// record stands in nobody's way.
func named(dir, name string, _ map[string][]string) (config.Cluster, error) {
	return config.Cluster{Name: name, StateDir: dir}, nil
}

// chosen are the clusters that a command done by hand is for: the one that the
// flags define, or else those that are named, or all.
func (p Program) chosen(c *cli.Context, all bool, recall recall) ([]config.Cluster, error) {
	switch {
	case c.Bool("all") && (c.IsSet("host") || c.Args().Present()):
		return nil, usageError{"--all stands for the names of the clusters, and beside none", ""}
	case c.IsSet("host"):
		cluster, err := p.cluster(c)
		return []config.Cluster{cluster}, err
	case c.IsSet("name"):
		return nil, usageError{
			"--name: belongs to --host",
			fmt.Sprintf("a known cluster needs no flag: pingover %s %s", c.Command.Name, c.StringSlice("name")[0]),
		}
	}
	flags := settings(c)
	dir, err := config.StateDir(flags, p.Env)
	if err != nil {
		return nil, err
	}
	names, err := choose(dir, c.Args().Slice(), all)
	if err != nil {
		return nil, err
	}
	clusters := make([]config.Cluster, len(names))
	for i, name := range names {
		if clusters[i], err = recall(dir, name, flags); err != nil {
			return nil, err
		}
	}
	return clusters, nil
}

// choose finds the clusters of these names among those that have a record in
// dir; without names the only one, or all.
func choose(dir string, names []string, all bool) ([]string, error) {
	known, err := state.Dir(dir).Clusters()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &failover.Error{Code: codePermission, Text: err.Error()}
	case err != nil:
		return nil, &failover.Error{Code: codeSettings, Text: err.Error()}
	case len(known) == 0:
		return nil, usageError{
			"no cluster is known in " + dir,
			"a cluster is known after its first check; before that, give --host and the other flags of its check",
		}
	case len(names) > 0:
		return names, areKnown(names, known...)
	case all || len(known) == 1:
		return known, nil
	}
	return nil, usageError{"a name or --all is missing; " + listed(known), ""}
}

// listed are the names of the clusters that are known, of which there is one.
func listed(known []string) string {
	if len(known) == 1 {
		return "known is " + known[0]
	}
	return "known are " + strings.Join(known, ", ")
}
