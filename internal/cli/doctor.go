package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
)

const aboutDoctor = `Tries all that a takeover will need: settings, rights, state directory, tool,
interface, addresses, primary, witness, hooks, mail. It says what is wrong and
how to mend it. It changes nothing and sends what a dry run sends; with
--send-mail a letter to each mail-to as well.

  pingover doctor
  pingover doctor --host 172.16.0.2 --vip 172.16.0.1 --send-mail

Without a name: all clusters that are known. One that has been checked is known
by its name, with the settings of that check.
`

func doctorCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "nothing has to be mended; there may be warnings"},
		{codeSettings, "", "something has to be mended"},
	}, 64, 70, 77)
}

// examinedAtOnce is how many clusters are examined side by side: each has
// sockets of its own, and hears what the others' pings bring.
const examinedAtOnce = 32

// doctor is the command.
func (p Program) doctor(c *cli.Context) (int, error) {
	clusters, err := p.chosen(c, true, p.recalled)
	if refused := refusals(err); len(refused) > 0 {
		p.print(findingsText("", refused))
		return codeSettings, nil
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
	for cluster, examined := range sideBySide(c.Context, clusters, examinedAtOnce, 0, func(cluster config.Cluster) []failover.Finding {
		return p.Examine(c.Context, cluster, c.Bool("send-mail"))
	}) {
		if c.Context.Err() != nil {
			return Interrupted, nil
		}
		who := ""
		if width > 0 {
			who = fmt.Sprintf("%-*s  ", width, cluster.Name)
		}
		p.print(findingsText(who, examined))
		for _, f := range examined {
			if f.Grade == failover.Fail {
				code = codeSettings
			}
		}
	}
	return code, nil
}

// sideBySide does the same to all clusters, to so many at a time, and begins one
// so long after the other; when ctx ends, that is no longer waited for. It yields
// the results in the order of the clusters.
func sideBySide[T any](ctx context.Context, clusters []config.Cluster, atOnce int, apart time.Duration, do func(config.Cluster) T) func(yield func(config.Cluster, T) bool) {
	type ending struct {
		result T
		bug    *failover.InternalError
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
				e.bug = failover.RecoveredError(recover())
				<-slots
				ends[i] <- e
			}()
			e.result = do(cluster)
		}()
	}
	return func(yield func(config.Cluster, T) bool) {
		for i, cluster := range clusters {
			e := <-ends[i]
			if e.bug != nil {
				panic(e.bug)
			}
			if !yield(cluster, e.result) {
				return
			}
		}
	}
}

// refusals are what keeps settings from being used, where they do not stand on
// the command line.
func refusals(err error) (found []failover.Finding) {
	mend := "change that setting, or what it names"
	if problems, ok := errors.AsType[config.Problems](err); ok && problems.Code() == codeSettings {
		if h, ok := errors.AsType[hinted](err); ok {
			mend = h.hint
		}
		for _, problem := range problems {
			found = append(found, failover.Finding{Grade: failover.Fail, Text: problem.Error(), Mend: mend})
		}
	}
	if refused, ok := errors.AsType[*failover.Error](err); ok && refused.Code == codeSettings {
		if refused.Hint != "" {
			mend = refused.Hint
		}
		found = append(found, failover.Finding{Grade: failover.Fail, Text: refused.Text, Mend: mend})
	}
	return found
}

// findingsText shows findings, a line each, and under what is not good another
// that says what to do. Who is the cluster, where there are several.
func findingsText(who string, found []failover.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-4s  %s%s\n", f.Grade, who, oneLine(f.Text))
		if f.Mend != "" {
			fmt.Fprintf(&b, "      %s→ %s\n", strings.Repeat(" ", len(who)), oneLine(f.Mend))
		}
	}
	return b.String()
}
