package notify

import (
	"fmt"
	"slices"
	"time"

	"pingover/state"
)

// PlanFile decides whether it is due to report that a configuration file cannot
// be used, for these errors: when that begins, when the errors change, and after
// remind; without errors, that it can be used again. It puts a message to each of
// the recipients into the outbox. It is pure.
func PlanFile(v state.ValidConfig, errors []string, recipients []Cluster, remind time.Duration, now time.Time) (after state.ValidConfig, due bool) {
	n := Notification{Kind: FileUnusable, Time: now, File: v.Path, Errors: errors, Valid: v.Valid}
	switch {
	case len(errors) == 0 && v.Unusable.IsZero():
		return v, false
	case len(errors) == 0:
		n.Kind, n.Alert = Recovered, state.Alert{Kind: string(FileUnusable), Since: v.Unusable}
		v.Unusable, v.Told, v.Errors = time.Time{}, time.Time{}, nil
	default:
		if v.Unusable.IsZero() {
			v.Unusable, v.Thread = now, ""
		}
		told := state.Alert{Mailed: v.Told}
		_, again := remindOf(&told, now, remind)
		if v.Told = told.Mailed; slices.Equal(v.Errors, errors) && !again {
			return v, false
		}
		v.Errors, v.Told = errors, now
		n.Alert = state.Alert{Kind: string(FileUnusable), Since: v.Unusable}
	}
	newest := state.NewEvent(now)
	v.Outbox = slices.Clone(v.Outbox)
	for i, c := range recipients {
		id := fmt.Sprintf("%s.%s.%d", newest, FileUnusable, i)
		if c.Command {
			v.Outbox = Enqueue(c, v.Outbox, event(c, n, id+".event"))
		}
		if len(c.To) == 0 {
			continue
		}
		m := Compose(c, []Notification{n}, id, v.Thread)
		v.Outbox = Enqueue(c, v.Outbox, m)
		if v.Thread == "" {
			v.Thread = m.MessageID
		}
	}
	return v, true
}

// fileWords is the text about a configuration file that cannot be used.
func fileWords(c Cluster, n Notification) words {
	w := words{
		subject:  fmt.Sprintf("%s cannot be used: %d %s", n.File, len(n.Errors), pick(len(n.Errors), "error", "errors")),
		happened: fmt.Sprintf("%s on %s cannot be used.", n.File, c.Hostname),
		todo:     "Fix the errors. \"pingover config\" shows whether the file can be used; the next check uses it.",
	}
	if n.Valid.IsZero() {
		w.happened += " It was never valid before: clusters that hold an address are checked with the settings of their last check, and nothing is taken over."
	} else {
		w.happened += fmt.Sprintf(" Checks go on with the last valid file, of %s; no change since then is in effect.", utc(n.Valid))
	}
	return w
}
