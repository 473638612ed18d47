package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/internal/term"
)

// examinedAtOnce is how many clusters are examined in parallel: each has sockets
// of its own, which receive the replies to the pings of all.
const examinedAtOnce = 32

// doctor is the command.
func (p Program) doctor(c *cli.Context) (int, error) {
	_, _, err := p.configured(c, p.Env)
	var clusters []config.Cluster
	if err == nil {
		clusters, err = p.chosen(c, true, p.recalledAnew)
	}
	if refused := refusals(err); len(refused) > 0 {
		p.print(findingsText("", refused))
		return exit.Config, nil
	}
	if err != nil {
		return 0, err
	}
	width := 0
	if len(clusters) > 1 {
		for _, cluster := range clusters {
			width = max(width, len(cluster.Name))
		}
	}
	code := 0
	for cluster, examined := range parallel(c.Context, clusters, examinedAtOnce, 0, func(cluster config.Cluster) []doctor.Finding {
		return p.Examine(c.Context, cluster, c.Bool("send-test") || c.Bool("send-mail"))
	}) {
		if c.Context.Err() != nil {
			return exit.Interrupted, nil
		}
		who := ""
		if width > 0 {
			who = fmt.Sprintf("%-*s  ", width, cluster.Name)
		}
		p.print(findingsText(who, examined))
		for _, f := range examined {
			if f.Grade == doctor.Fail {
				code = exit.Config
			}
		}
	}
	return code, nil
}

// parallel does the same to all clusters, atOnce of them at a time, with starts
// apart until ctx ends. It yields the results in the order of the clusters.
func parallel[T any](ctx context.Context, clusters []config.Cluster, atOnce int, apart time.Duration, do func(config.Cluster) T) func(yield func(config.Cluster, T) bool) {
	type ending struct {
		result T
		panic  *proc.InternalError
	}
	slots := make(chan struct{}, atOnce)
	ends := make([]chan ending, len(clusters))
	for i, cluster := range clusters {
		ends[i] = make(chan ending, 1)
		go func() {
			select {
			case <-time.After(time.Duration(i) * apart):
			case <-ctx.Done():
			}
			slots <- struct{}{}
			var e ending
			defer func() {
				e.panic = proc.RecoveredError(recover())
				<-slots
				ends[i] <- e
			}()
			e.result = do(cluster)
		}()
	}
	return func(yield func(config.Cluster, T) bool) {
		for i, cluster := range clusters {
			e := <-ends[i]
			if e.panic != nil {
				panic(e.panic)
			}
			if !yield(cluster, e.result) {
				return
			}
		}
	}
}

// refusals are the errors of settings that are not on the command line.
func refusals(err error) (found []doctor.Finding) {
	fix := "change that setting, or the file it names"
	if problems, ok := errors.AsType[config.Problems](err); ok && problems.Code() == exit.Config {
		if h, ok := errors.AsType[hinted](err); ok {
			fix = h.hint
		}
		for _, problem := range problems {
			found = append(found, doctor.Finding{Grade: doctor.Fail, Text: problem.Error(), Fix: fix})
		}
	}
	if refused, ok := errors.AsType[*run.Error](err); ok && refused.Code == exit.Config {
		if refused.Hint != "" {
			fix = refused.Hint
		}
		found = append(found, doctor.Finding{Grade: doctor.Fail, Text: refused.Text, Fix: fix})
	}
	return found
}

// findingsText shows findings, one line each, and under each that is not good how
// to fix it. Who is the cluster, if there are several.
func findingsText(who string, found []doctor.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-4s  %s%s\n", f.Grade, who, term.Printable(f.Text))
		if f.Fix != "" {
			fmt.Fprintf(&b, "      %s→ %s\n", strings.Repeat(" ", len(who)), term.Printable(f.Fix))
		}
	}
	return b.String()
}
