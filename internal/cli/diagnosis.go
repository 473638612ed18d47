package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/term"
)

// diagnosis is what doctor found of one task; of none where the settings cannot be
// used.
type diagnosis struct {
	task  Task
	found []doctor.Finding
}

// of are the findings of a grade.
func (d diagnosis) of(g doctor.Grade) (some []doctor.Finding) {
	for _, f := range d.found {
		if f.Grade == g {
			some = append(some, f)
		}
	}
	return some
}

// diagnosisObject is a line of doctor --json. All keys are always there.
type diagnosisObject struct {
	Version  int             `json:"version"` // of this object: 1
	Cluster  string          `json:"cluster"` // or the pool; "" where the settings cannot be used
	Fail     int             `json:"fail"`    // findings that must be fixed
	Warn     int             `json:"warn"`
	OK       int             `json:"ok"`
	Findings []findingObject `json:"findings"` // the worst first
}

type findingObject struct {
	Grade doctor.Grade `json:"grade"` // fail, warn, ok
	Text  string       `json:"text"`
	Fix   string       `json:"fix"` // "" for what is good
}

// judged prints what was found, the problems first, and returns the exit code.
func (p Program) judged(c *cli.Context, all []diagnosis) (code int) {
	for _, d := range all {
		if len(d.of(doctor.Fail)) > 0 {
			code = exit.Config
		}
	}
	if c.Bool("json") {
		for _, d := range all {
			o := diagnosisObject{1, d.task.Name, len(d.of(doctor.Fail)), len(d.of(doctor.Warn)), len(d.of(doctor.Good)), []findingObject{}}
			for _, g := range grades() {
				for _, f := range d.of(g) {
					o.Findings = append(o.Findings, findingObject(f))
				}
			}
			p.printRaw(jsonLine(o))
		}
		return code
	}
	p.print(p.diagnosesText(all, c.Bool("verbose")))
	return code
}

// grades are in the order in which they are shown.
func grades() []doctor.Grade { return []doctor.Grade{doctor.Fail, doctor.Warn, doctor.Good} }

// longestName is the longest name that moves the column of the findings.
const longestName = 16

// diagnosesText shows the problems of all, then what is fine, folded unless
// verbose, and the verdict.
func (p Program) diagnosesText(all []diagnosis, verbose bool) string {
	width := 0
	for _, d := range all {
		if len(all) > 1 {
			width = max(width, min(len(d.task.Name), longestName)+2)
		}
	}
	paint := map[doctor.Grade]func(string) string{doctor.Fail: p.Out.Colors.Red, doctor.Warn: p.Out.Colors.Yellow, doctor.Good: p.Out.Colors.Green}
	var b strings.Builder
	columns := math.MaxInt // not for a terminal: one line for each
	if p.Out.Columns > 0 {
		columns = p.Out.page()
	}
	line := func(g doctor.Grade, who, text string) {
		var found strings.Builder
		term.Columns(&found, columns, 6+width, strings.TrimSpace(fmt.Sprintf("%-4s  %s", string(g), who))+" ", term.Printable(text))
		b.WriteString(strings.Replace(found.String(), string(g), paint[g](string(g)), 1))
	}
	counts := map[doctor.Grade]int{}
	for _, g := range grades() {
		for _, d := range all {
			found := d.of(g)
			counts[g] += len(found)
			who := d.task.Name
			if width == 0 {
				who = ""
			}
			if g == doctor.Good && !verbose {
				if len(found) > 0 {
					line(g, who, count(len(found), "check")+" passed (--verbose shows them)")
				}
				continue
			}
			for _, f := range found {
				line(g, who, f.Text)
				if f.Fix != "" {
					term.Columns(&b, columns, 6+width, "", "→ "+term.Printable(f.Fix))
				}
			}
		}
	}
	worst := doctor.Good
	for _, g := range slices.Backward(grades()) {
		if counts[g] > 0 {
			worst = g
		}
	}
	b.WriteString(paint[worst](verdictOf(counts[doctor.Fail], counts[doctor.Warn])) + "\n")
	return b.String()
}

// verdictOf is what doctor ends with.
func verdictOf(fails, warnings int) string {
	switch {
	case fails > 0 && warnings > 0:
		return fmt.Sprintf("not ready: %s must be fixed; %s", count(fails, "problem"), count(warnings, "warning"))
	case fails > 0:
		return fmt.Sprintf("not ready: %s must be fixed", count(fails, "problem"))
	case warnings > 0:
		return fmt.Sprintf("ready: nothing must be fixed; %s", count(warnings, "warning"))
	}
	return "ready: nothing must be fixed"
}
