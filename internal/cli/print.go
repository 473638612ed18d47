// What is printed, and where.
//
// stdout carries what was asked for: help, the version, --json, and the reports
// of status, history, doctor and demo. All else goes to stderr. If stdout cannot
// be written, a command that only prints ends with 74, and status --monitoring
// with 3; a check or a switch ends with its own code.
//
// A check is verbose if stderr is a terminal or --verbose is given: it prints
// each step as it takes it. A check that is not
// verbose prints nothing when nothing changed and one line per change, so that
// cron's own mail is a second channel to the operator; besides that only
// warnings, which come once, and the commands of a dry run. A check that finds
// the lock taken (75) prints nothing.
//
// --quiet is the same as no terminal, without the commands of a dry run. --json
// implies --quiet unless --verbose is given too.
//
// watch is verbose only with --verbose, and otherwise does not repeat what it
// printed in the check before: an error is printed when it begins, when it
// changes, and by the outcome that ends it.
//
// On a terminal, check and watch draw one line below all others with what is
// being done now, and the outcome has a colour. There are no control characters
// anywhere else, and only ASCII where the locale is not UTF-8.
//
// A manual operation always prints its result and whom it waits for; with
// --quiet only its errors. Its dry run also shows what it would run where it
// would be blocked now, and says so.
//
// status and history report what they can of every cluster; an error takes the
// place of the rest. Times are local with their offset, and UTC in JSON. Lines
// are broken at 80 columns, or at those of a narrower terminal, and what is not for a
// terminal is not cut: there doctor has one line for each finding, however long, and
// one for how to fix it.
//
// Every line is `pingover: CLUSTER: text`; errors are in lower case, with the
// input quoted; a hint has its own line. Text from outside is printed as one line without
// control characters.

package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/internal/term"
	"pingover/notify"
	"pingover/state"
)

// print writes text for people to stdout.
func (p Program) print(text string) {
	if p.ASCII {
		text = term.ASCII(text)
	}
	p.printRaw(text)
}

// printRaw writes to stdout. An error is reported once; a reader that closed
// the pipe is none.
func (p Program) printRaw(text string) {
	_, err := io.WriteString(p.Stdout, text)
	if err == nil || errors.Is(err, syscall.EPIPE) || *p.unprinted {
		return
	}
	*p.unprinted = true
	errorf(p.Stderr, "stdout: %v", err)
}

// errorf prints an error.
func errorf(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "%s: %s\n", programName, term.Printable(fmt.Sprintf(format, args...)))
}

// hintf prints what to do about an error, if there is a hint.
func hintf(w io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", term.Printable(hint))
	}
}

// printer prints what one command does to one cluster.
type printer struct {
	out     io.Writer
	cluster string
	kind    state.Kind
	verbose bool
	quiet   bool
	dryRun  bool
	manual  bool    // a manual operation, not a check
	rights  string  // hint about a missing permission
	watched bool    // a watch on a terminal: notes are printed, too
	live    bool    // the terminal can draw a line again
	colors  bool    // and has colours
	screen  *screen // where this check is drawn; nil: it is not
	log     *systemLog
	memory  *memory // of the check before this one, in the same watch
}

// onScreen makes a printer for several clusters write there from now on.
func (p *printer) onScreen() *screen {
	s := &screen{Line: term.Line{Out: p.out, Draws: p.live}, colors: term.Colors(p.colors)}
	p.out = s
	return s
}

// block keeps what a verbose check among several prints until it ends: one block
// for each, never interleaved.
func (p printer) block(several bool) (_ printer, end func()) {
	if !several || !p.verbose {
		return p, func() {}
	}
	var text strings.Builder
	lines, out := &term.Line{Out: &text}, p.out // what a signal says comes from another goroutine
	p.out = lines
	if s, stamped := out.(stamper); stamped {
		out, s.out = s.out, lines
		p.out = s
	}
	return p, func() { io.WriteString(out, text.String()) }
}

// of is p for that task.
func (p printer) of(t Task) printer {
	p.cluster, p.kind = t.Name, t.Kind
	return p
}

// infof prints a line of a verbose run.
func (p printer) infof(format string, args ...any) {
	if p.verbose {
		errorf(p.out, "%s: %s", p.cluster, fmt.Sprintf(format, args...))
	}
}

// warn prints a line in every run, and a hint under it.
func (p printer) warn(text, hint string) {
	if p.fresh(text) {
		var lines strings.Builder // in one piece: other clusters print meanwhile
		errorf(&lines, "%s: %s", p.cluster, text)
		hintf(&lines, hint)
		io.WriteString(p.at(warningLevel), lines.String())
	}
}

// logf hands a line to syslog. A dry run changes nothing, and logs nothing.
func (p printer) logf(level int, format string, args ...any) {
	if !p.dryRun {
		p.log.log(level, p.cluster+": "+term.Printable(fmt.Sprintf(format, args...)))
	}
}

// fresh reports whether a line is to be printed: a watch that is not verbose
// does not repeat itself.
func (p printer) fresh(line string) bool { return !p.memory.knows(line) || p.verbose }

// result prints the line that a manual operation ends with.
func (p printer) result(text string) {
	if !p.quiet {
		p.warn(text, "")
	}
}

// event prints what a check does.
func (p printer) event(event any) {
	p.screen.follow(p.cluster, event)
	switch e := event.(type) {
	case run.RoundBegan:
		host := e.Host
		if host != e.Address.String() {
			host = fmt.Sprintf("%s (%s)", host, e.Address)
		}
		p.infof("round %d: pinging %s, at most %s, %s apart", e.N, host, count(e.Count, "ping"), config.DurationText(e.Interval))
	case run.Replied:
		from := ""
		if p.kind == state.OfPool {
			from = e.Address.String() + " "
		}
		p.infof("round %d: %sreply to ping %d after %s", e.N, from, e.Seq, milliseconds(e.RTT))
	case run.RoundEnded:
		p.infof("round %d: %s", e.N, roundOf(e.Round, e.Several))
	case run.Waiting:
		p.infof("waiting %s: %s", config.DurationText(e.For), e.Why)
	case observe.Guarded:
		p.guarded(e)
	case observe.ServicesAsked:
		for _, a := range e.Answers {
			p.infof("%s", answerText(a))
		}
	case balance.ServicesAsked:
		for _, a := range e.Answers {
			p.infof("round %d: %s", e.N, answerText(a))
		}
	case failover.Decided:
		p.decided(e.Decision.Outcome, e.Decision.Rule)
	case balance.Decided:
		p.decided(e.Decision.Outcome, e.Decision.Rule)
	case balance.Witnessed:
		for _, w := range e.Witnesses {
			p.infof("%s", witnessText(w))
		}
	case balance.Updated:
		p.updated(e)
	case run.Ran:
		if !e.DryRun { // else printed at the end
			p.infof("ran: %s", commandText(e.Command))
		}
	case run.LockWaited:
		run := "another run"
		if e.PID != 0 {
			run = fmt.Sprintf("run %d", e.PID)
		}
		text := fmt.Sprintf("waiting for %s of this %s to end, at most %s", run, p.kind, config.DurationText(e.For))
		if p.verbose {
			p.infof("%s", text)
		} else {
			p.result(text)
		}
	case failover.HookRan:
		p.hookRan(e)
	case failover.Announced:
		p.infof("announced on %s: %s is at %s", e.Interface, e.Address, e.MAC)
	case run.Delivered:
		if e.Sent > 0 {
			p.infof("mail: %s sent", count(e.Sent, "email"))
		}
		if e.Error != nil {
			p.infof("mail: %s pending: %s", count(e.Waiting, "email"), e.Error)
		}
	case notify.AlertChange:
		p.alert(e)
	case run.Note:
		if e.Warning {
			p.logf(warningLevel, "%s", e.Text)
		}
		if e.Warning || p.watched && !p.verbose {
			p.warn(e.Text, "")
		} else {
			p.infof("%s", e.Text)
		}
	}
}

// hookRan shows a hook and its output. One that fails after a change is always
// reported; one that blocks a takeover is in the reason for that, which is
// printed once and not at each check.
func (p printer) hookRan(e failover.HookRan) {
	switch {
	case e.Error == nil:
		p.infof("%s: ran %s", e.Hook, proc.Line(e.Command.Argv))
	case p.verbose:
		p.infof("%s failed: %v", e.Hook, e.Error)
	case e.Hook != "pre-takeover":
		p.warn(fmt.Sprintf("%s failed: %v", e.Hook, e.Error), "")
	}
	for line := range strings.Lines(e.Command.Output) {
		if p.verbose {
			errorf(p.out, "%s:   %s", p.cluster, strings.TrimSpace(line))
		}
	}
}

// commandText is a command that was run, and how it failed.
func commandText(c state.Command) string {
	text := proc.Line(c.Argv)
	if c.Code == nil || *c.Code == 0 {
		return text
	}
	text += fmt.Sprintf(": exit code %d", *c.Code)
	if c.Output != "" {
		text += ": " + c.Output
	}
	return text
}

// ended prints how it ended, and the commands of a dry run: for a manual
// operation also those that are blocked now.
func (p printer) ended(r ending) {
	blocked := p.manual && (r.Outcome == state.OK || r.Outcome == state.Blocked || r.Outcome == state.Unknown)
	if !blocked {
		p.planned(r, "would run: ")
	}
	p.outcome(r)
	if blocked {
		p.planned(r, "would otherwise run: ")
	}
}

// planned shows the commands of a dry run, and the update as input of nsupdate.
func (p printer) planned(r ending, would string) {
	if !r.DryRun || p.quiet {
		return
	}
	for _, c := range r.Commands {
		p.warn(would+proc.Line(c.Argv), "")
	}
	if r.Update != nil {
		p.warn(strings.TrimSuffix(would, "run: ")+"send, as input of nsupdate:", "")
		for line := range strings.Lines(r.Update.Script) {
			p.warn("  "+strings.TrimSpace(line), "")
		}
	}
}

// outcome prints how it ended: always if verbose or manual, else when the
// outcome of the check changed.
func (p printer) outcome(r ending) {
	text := string(r.Outcome)
	if r.DryRun {
		text += " (dry run)"
	}
	text += ": " + r.Reason
	if r.Error != nil && !strings.Contains(r.Reason, *r.Error) {
		text += ": " + *r.Error
	}
	if r.Changed {
		p.logf(levelOf(r.Outcome), "%s", text)
	}
	wanted := r.Changed || p.memory.recovers()
	if p.manual {
		wanted = !p.quiet || r.Code >= state.Unknown.Code()
	}
	if (wanted || p.verbose) && p.fresh(text) {
		rest := strings.TrimPrefix(term.Printable(text), string(r.Outcome))
		fmt.Fprintf(p.at(levelOf(r.Outcome)), "%s: %s: %s%s\n", programName, p.cluster, colored(term.Colors(p.colors), r.Outcome), rest)
		hintf(p.out, r.Hint)
	}
}

// levelOf is the priority of the line that a check ends with.
func levelOf(o state.Outcome) int {
	switch {
	case o.Good():
		return noticeLevel
	case o.Switched() && o != state.StateFailed, o == state.Elsewhere, o == exit.BusyOutcome:
		return warningLevel
	}
	return errorLevel
}

// failed prints why nothing was done, and returns the exit code for that.
func (p printer) failed(err error) int {
	code, hint := exit.Internal, ""
	if e, ok := errors.AsType[*run.Error](err); ok {
		code, hint = e.Code, e.Hint
	}
	if code == exit.Permission {
		hint = cmp.Or(hint, p.rights)
	}
	if code != exit.Busy || p.verbose || p.manual {
		p.warn(err.Error(), hint)
	}
	return code
}

// count is "1 ping", "5 pings".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
