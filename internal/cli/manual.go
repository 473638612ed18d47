package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/state"
)

// manual is the command takeover or release, by what it does to a task.
func (p Program) manual(of func(Task) act) func(*cli.Context) (int, error) {
	return func(c *cli.Context) (int, error) {
		out, err := p.printer(c)
		if err != nil {
			return 0, err
		}
		tasks, err := p.chosen(c, c.Bool("all"), p.recalled)
		if err != nil {
			return 0, err
		}
		if c.Bool("all") {
			tasks = slices.DeleteFunc(tasks, func(t Task) bool { return of(t) == nil || len(t.About.VIPs) == 0 })
			if len(tasks) == 0 {
				return 0, &run.Error{Code: exit.Config, Text: "no cluster has a virtual IP"}
			}
		}
		for _, t := range tasks {
			if of(t) == nil {
				return 0, usageError{fmt.Sprintf("%q: a pool; %s is for clusters", t.Name, c.Command.Name), fmt.Sprintf("pingover drain %s MEMBER takes members out of DNS, pingover undrain puts them back", t.Name)}
			}
		}
		out.manual = true
		p.Stderr = out.onScreen()
		out.log = p.openLog(tasks)
		defer out.log.close(out)
		_, code := p.perform(c, tasks, func(t Task) ending { return p.one(c, out.of(t), of(t), failover.Options{}) })
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
	length, err := duration(c, "for", usualPause, shortestPause, longestPause)
	if err != nil {
		return 0, err
	}
	until := time.Now().Add(length)
	paused := fmt.Sprintf("paused until %s (%s); checks go on, nothing is switched", clock(until), config.DurationText(length))
	ofPool := fmt.Sprintf("paused until %s (%s); checks go on, DNS is not changed", clock(until), config.DurationText(length))
	return p.each(c, c.Bool("all"), func(_ printer, t Task) ([]string, error) {
		if err := failover.Pause(t.cluster, until); err != nil {
			return nil, err
		}
		if t.Kind == state.OfPool {
			return []string{ofPool}, nil
		}
		return []string{paused}, nil
	})
}

// resume is the command. Without a name it is for all clusters.
func (p Program) resume(c *cli.Context) (int, error) {
	resumed := map[state.Kind]string{state.OfCluster: "resumed: checks switch again", state.OfPool: "resumed: checks change DNS again"}
	nothing := map[state.Kind]string{state.OfCluster: "nothing to resume: neither paused nor released manually", state.OfPool: "nothing to resume: not paused"}
	return p.each(c, true, func(out printer, t Task) (results []string, err error) {
		done, err := failover.Resume(c.Context, t.cluster, failover.Options{OnEvent: out.event})
		if done.Paused {
			results = append(results, resumed[t.Kind])
		}
		switch {
		case done.Released:
			results = append(results, "the manual release is lifted: checks take over again")
		case err == nil && !done.Paused:
			results = append(results, nothing[t.Kind])
		}
		return results, err
	})
}

// each does the same to the tasks of the command line, in parallel, prints
// the results in their order, and returns the exit code for all.
func (p Program) each(c *cli.Context, all bool, do func(printer, Task) (results []string, err error)) (code int, err error) {
	out, err := p.printer(c)
	if err != nil {
		return 0, err
	}
	tasks, err := p.chosen(c, all, named)
	if err != nil {
		return 0, err
	}
	out.manual = true
	out.onScreen()
	type done struct {
		results []string
		err     error
	}
	ctx := c.Context
	for t, e := range parallel(ctx, tasks, len(tasks), apart, func(t Task) done {
		if ctx.Err() != nil {
			return done{err: ctx.Err()}
		}
		results, err := do(out.of(t), t)
		return done{results, err}
	}) {
		out := out.of(t)
		for _, text := range e.results {
			out.result(text)
		}
		switch {
		case e.err == nil:
		case interrupted(ctx, e.err):
			out.infof("ended by %s", context.Cause(ctx))
			code = exit.Worse(code, exit.Interrupted)
		default:
			code = exit.Worse(code, out.failed(e.err))
		}
	}
	return code, nil
}

// duration is the value of a flag that is not a setting.
func duration(c *cli.Context, flag string, usual, shortest, longest time.Duration) (time.Duration, error) {
	given := c.StringSlice(flag)
	switch len(given) {
	case 0:
		return usual, nil
	case 1:
		d, err := config.DurationWithin(given[0], shortest, longest)
		if err != nil {
			err = usageError{fmt.Sprintf("--%s %q: %v", flag, given[0], err), ""}
		}
		return d, err
	}
	return 0, givenTwice(flag, given)
}

// number is the value of a flag that is a whole number.
func number(c *cli.Context, flag string, usual, least, most int) (int, error) {
	given := c.StringSlice(flag)
	switch len(given) {
	case 0:
		return usual, nil
	case 1:
		n, err := strconv.Atoi(given[0])
		if err != nil || n < least || n > most {
			return 0, usageError{fmt.Sprintf("--%s %q: must be a whole number, %d to %d", flag, given[0], least, most), ""}
		}
		return n, nil
	}
	return 0, givenTwice(flag, given)
}

// givenTwice is the error of a flag that takes one value.
func givenTwice(flag string, given []string) error {
	return usageError{fmt.Sprintf("--%s %q: given %d times, and takes one value", flag, given[len(given)-1], len(given)), ""}
}
