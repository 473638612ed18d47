package cli

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/report"
	"pingover/state"
)

// summarize is history --summary and --html: availability, from the history and the
// counts of each day.
func (p Program) summarize(c *cli.Context, tasks []Task) (code int, err error) {
	for _, other := range []string{"details", "last", "since"} {
		if c.IsSet(other) {
			return 0, usageError{"--" + other + " is for the list of changes, not for --summary or --html", ""}
		}
	}
	if c.Bool("html") && c.Bool("json") {
		return 0, usageError{"--html and --json exclude each other", ""}
	}
	now := time.Now()
	all := []report.Summary{}
	for _, t := range tasks {
		source, err := t.source()
		if err != nil {
			errorf(p.Stderr, "%s: %v", t.Name, err)
			code = state.Unknown.Code()
			source.Damaged = true
		}
		all = append(all, report.Summarize(source, now))
	}
	if c.Bool("html") {
		p.printRaw(report.Page(p.Env.Hostname, all, now, time.Local))
		return code, nil
	}
	for i, s := range all {
		switch {
		case c.Bool("json"):
			p.printRaw(jsonLine(s))
		case i > 0:
			p.print("\n" + s.Text(p.Out.page(), time.Local, p.ASCII))
		default:
			p.print(s.Text(p.Out.page(), time.Local, p.ASCII))
		}
	}
	return code, nil
}

// source is all that a summary of the task rests on, as far as it can be read.
func (t Task) source() (report.Source, error) {
	s := report.Source{Name: t.Name, Pool: t.Kind == state.OfPool}
	rec, err := t.kept()
	if err != nil {
		return s, err
	}
	now := statusOf(t, rec, time.Now())
	if s.Primary, _ = now.recordName(); !s.Pool {
		s.Primary = orZero(now.Host)
	}
	var ofDays error
	s.History, err = t.StateDir.History(t.Name, rec.Common().Recent)
	s.Days, ofDays = t.StateDir.Days(t.Name, rec.Common().Days)
	return s, errors.Join(err, ofDays)
}
