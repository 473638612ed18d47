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
	tasks, _, src, err := p.observed(c)
	if err != nil {
		return 0, err
	}
	if !src.usable() {
		errorf(p.Stderr, "%s", src.brief())
	}
	changes, faults := remembered(tasks)
	for _, text := range faults {
		errorf(p.Stderr, "%s", text)
		code = state.Unknown.Code()
	}
	for _, change := range changes {
		if c.Bool("json") {
			p.printRaw(jsonLine(change))
		} else {
			p.print(change.text(time.Local))
		}
	}
	if len(changes) == 0 && len(faults) == 0 && !c.Bool("json") {
		p.print("nothing has changed yet\n")
	}
	return code, nil
}

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

	after time.Time // the latest time of this change and those before it in its record
}

// remembered are the changes of the tasks, newest last, and the errors of the
// records that cannot be read. Those of one record stay in its order, even if the
// clock was set back between them.
func remembered(tasks []Task) (changes []pastChange, faults []string) {
	for _, t := range tasks {
		rec, err := t.record()
		if err != nil {
			faults = append(faults, t.Name+": "+err.Error())
			continue
		}
		entries, err := t.StateDir.History(t.Name, rec.Recent)
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
				c.Evidence, shown(c.Evidence.Commands), c.Kind, c.What, c.Resolved, c.Duration, after,
			})
		}
	}
	slices.SortStableFunc(changes, func(a, b pastChange) int { return a.after.Compare(b.after) })
	return changes, faults
}

// text shows the change, and below it the reason, the evidence and the commands.
func (c pastChange) text(zone *time.Location) string {
	var b strings.Builder
	what := string(c.Outcome)
	switch c.Kind {
	case state.HookEntry:
		what = fmt.Sprintf("hook %s: exit code %d after %s", c.What, c.Code, config.DurationText(c.Duration.Duration()))
	case state.AlertEntry:
		what = fmt.Sprintf("alert %s firing", c.What)
		if c.Resolved {
			what = fmt.Sprintf("alert %s resolved", c.What)
		}
	}
	fmt.Fprintf(&b, "%s  %s  %s", clock(c.Time.In(zone)), term.Printable(c.Cluster), term.Printable(what))
	if c.ByHand {
		b.WriteString(", manually")
	}
	b.WriteString("\n")
	add := func(format string, args ...any) {
		term.Columns(&b, remarkIndent, "", term.Printable(fmt.Sprintf(format, args...)))
	}
	if c.Reason != "" {
		add("%s", c.Reason)
	}
	for i, r := range c.Rounds {
		add("round %d: %s", cmp.Or(r.Number, i+1), roundOf(r, c.Evidence.Several()))
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
