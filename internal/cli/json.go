package cli

import (
	"encoding/json"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
)

// What stands for the outcome where no check was made.
const (
	busy   state.Outcome = "busy" // another run holds the lock
	failed state.Outcome = "error"
)

// unmade is the report of what was not done: the exit code that says why not,
// and what is known all the same.
func unmade(r failover.Report, err error, code int, c config.Cluster, dryRun bool) failover.Report {
	text := err.Error()
	r.Version, r.Cluster, r.Host, r.DryRun, r.Error, r.Code = 1, c.Name, c.Host, dryRun, &text, code
	r.Outcome = failed
	if code == codeBusy {
		r.Outcome = busy
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	return r
}

// printJSON writes a report as one line.
func (p Program) printJSON(r failover.Report) {
	r.Time = r.Time.UTC().Truncate(time.Second)
	r.Held = list(r.Held)
	r.Rounds = list(r.Rounds)
	r.Witnesses = list(r.Witnesses)
	r.Holders = list(r.Holders)
	p.print(jsonLine(struct {
		failover.Report
		Commands []shownCommand `json:"commands"`
	}{r, shown(r.Commands)}))
}

// shownCommand is a command as it is printed: with all its keys, also those that
// the record leaves out.
type shownCommand struct {
	Argv   []string `json:"argv"`
	Hook   string   `json:"hook"`
	Code   *int     `json:"code"`
	Output string   `json:"output"`
}

func shown(commands []state.Command) []shownCommand {
	all := []shownCommand{}
	for _, c := range commands {
		all = append(all, shownCommand(c))
	}
	return all
}

// jsonLine is v as one line of JSON.
func jsonLine(v any) string {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // what is printed is made of what JSON can say
	}
	return line.String()
}

// list is l as JSON shall show it: [] and never null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
