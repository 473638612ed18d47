package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/term"
	"pingover/state"
)

// history is the command. It takes no lock and writes nothing.
func (p Program) history(c *cli.Context) (code int, err error) {
	since, err := duration(c, "since", 0, shortestSince, longestSince)
	if err != nil {
		return 0, err
	}
	last, err := number(c, "last", 0, 1, mostLast)
	if err != nil {
		return 0, err
	}
	tasks, _, src, err := p.observed(c)
	if err != nil {
		return 0, err
	}
	if !src.usable() {
		errorf(p.Stderr, "%s", src.brief())
	}
	if c.Bool("summary") || c.Bool("html") {
		return p.summarize(c, tasks)
	}
	changes, faults := remembered(tasks)
	for _, text := range faults {
		errorf(p.Stderr, "%s", text)
		code = state.Unknown.Code()
	}
	some := changes
	if since > 0 {
		began := time.Now().Add(-since)
		some = slices.DeleteFunc(slices.Clone(some), func(c pastChange) bool { return c.Time.Before(began) })
	}
	if last > 0 {
		some = some[max(0, len(some)-last):]
	}
	switch {
	case c.Bool("json"):
		for _, change := range some {
			p.printRaw(jsonLine(change))
		}
	case c.Bool("details"):
		for _, change := range some {
			p.print(change.details(time.Local, p.Out))
		}
	case len(some) > 0:
		p.print(historyTable(some, time.Local, p.Out))
	case len(changes) > 0:
		p.print("nothing has changed in that time\n")
	case len(faults) == 0:
		p.print("nothing has changed yet\n")
	}
	return code, nil
}

// Limits of --since and --last.
const (
	shortestSince = time.Second
	longestSince  = 10 * 365 * 24 * time.Hour
	mostLast      = 1_000_000
)

// pastChange is a line of history --json: a change of a cluster, with the
// evidence and the commands, a hook or an alert. All keys are always there.
type pastChange struct {
	Version int           `json:"version"` // of this object: 1
	Cluster string        `json:"cluster"`
	Time    time.Time     `json:"time"`
	Event   string        `json:"event"`
	Outcome state.Outcome `json:"outcome"`
	Code    int           `json:"code"` // exit code of the outcome, or of a hook
	ByHand  bool          `json:"by_hand"`
	Reason  string        `json:"reason"`
	state.Evidence
	Commands []shownCommand     `json:"commands"`
	Kind     state.EntryKind    `json:"kind"` // change, hook, alert
	What     string             `json:"what"` // the hook, or the kind of alert
	Resolved bool               `json:"resolved"`
	Duration state.Milliseconds `json:"duration_ms"` // of a hook

	pool  bool
	after time.Time // the latest time of this change and those before it in its record
}

// remembered are the changes of the tasks, newest last, and the errors of the
// records that cannot be read. Those of one record stay in its order, even if the
// clock was set back between them.
func remembered(tasks []Task) (changes []pastChange, faults []string) {
	for _, t := range tasks {
		rec, err := t.kept()
		if err != nil {
			faults = append(faults, t.Name+": "+err.Error())
			continue
		}
		entries, err := t.StateDir.History(t.Name, rec.Common().Recent)
		if err != nil {
			faults = append(faults, t.Name+": "+err.Error())
		}
		var after time.Time
		for _, c := range entries {
			if c.Time.After(after) {
				after = c.Time
			}
			c.Evidence.Rounds, c.Evidence.Witnesses, c.Evidence.Holders = list(c.Evidence.Rounds), list(c.Evidence.Witnesses), list(c.Evidence.Holders)
			code := orZero(c.Code)
			if c.Kind == state.ChangeEntry {
				code = c.Outcome.Code()
			}
			changes = append(changes, pastChange{
				1, t.Name, c.Time.UTC().Truncate(time.Second), c.Event, c.Outcome, code, c.Manual, c.Reason,
				c.Evidence, shown(c.Evidence.Commands), c.Kind, c.What, c.Resolved, c.Duration, t.Kind == state.OfPool, after,
			})
		}
	}
	slices.SortStableFunc(changes, func(a, b pastChange) int { return a.after.Compare(b.after) })
	return changes, faults
}

// what is what happened, in a few words.
func (c pastChange) what() string {
	what := string(c.Outcome)
	switch {
	case c.Kind == state.HookEntry:
		what = fmt.Sprintf("hook %s: exit code %d after %s", c.What, c.Code, config.DurationText(c.Duration.Duration()))
	case c.Kind == state.AlertEntry && c.Resolved:
		what = fmt.Sprintf("alert %s resolved", c.What)
	case c.Kind == state.AlertEntry:
		what = fmt.Sprintf("alert %s firing", c.What)
	}
	if c.ByHand {
		what += ", manually"
	}
	return term.Printable(what)
}

// historyTable has one line for each change.
func historyTable(changes []pastChange, zone *time.Location, out Output) string {
	var rows [][]string
	for _, c := range changes {
		text := c.what()
		if c.Reason != "" {
			text += ": " + term.Printable(c.Reason)
		}
		rows = append(rows, []string{c.Time.In(zone).Format(time.DateTime), term.Printable(c.Cluster), text})
	}
	lines := term.Table(rows, out.Columns, func(row, column int, cell string) string {
		o := changes[row].Outcome
		if rest, ok := strings.CutPrefix(cell, string(o)); column == 2 && ok && o != "" {
			return colored(out.Colors, o) + rest
		}
		return cell
	})
	return strings.Join(lines, "\n") + "\n"
}

// details shows the change, and below it the reason, the evidence and the
// commands.
func (c pastChange) details(zone *time.Location, out Output) string {
	var b strings.Builder
	term.Columns(&b, out.page(), remarkIndent, clock(c.Time.In(zone))+"  "+term.Printable(c.Cluster)+" ", c.what())
	add := func(format string, args ...any) {
		term.Columns(&b, out.page(), remarkIndent, "", term.Printable(fmt.Sprintf(format, args...)))
	}
	if c.Reason != "" {
		add("%s", c.Reason)
	}
	for i, r := range c.Rounds {
		add("round %d: %s", cmp.Or(r.Number, i+1), roundOf(r, c.pool || c.Evidence.Several()))
	}
	for _, w := range c.Witnesses {
		add("%s", witnessText(w))
	}
	primary := state.Holder{Address: c.Address}
	for _, h := range c.Holders {
		if h.Address == c.Address {
			primary = h
		}
	}
	for _, h := range c.Holders {
		add("%s", holderText(h, primary))
	}
	for _, command := range c.Commands {
		command.Output = lastLine(command.Output)
		add("%s: %s", cmp.Or(command.Hook, "ran"), commandText(state.Command(command)))
	}
	if u := c.Update; u != nil {
		for _, script := range []struct{ name, text string }{{"the update", u.Script}, {"to undo it", u.Inverse}} {
			if script.text != "" {
				add("%s, as input of nsupdate:", script.name)
			}
			for line := range strings.Lines(script.text) {
				fmt.Fprintf(&b, "      %s\n", term.Printable(strings.TrimSpace(line)))
			}
		}
	}
	if c.Event != "" {
		add("event %s", c.Event)
	}
	return b.String()
}

// lastLine is where a failing program mostly says why.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
