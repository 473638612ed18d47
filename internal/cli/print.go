// What is printed, and where.
//
// stdout carries what was asked for: help, the version, --json. All else goes
// to stderr. Where it cannot be written, a command that is there to print ends
// with 74, and status --monitoring with 3; what acts ends as it did.
//
// A check is talkative where stderr is a terminal or --verbose is given. It
// then says what it does as it does it, each line with the cluster in front:
// rounds, waits, what the guards saw, commands as one would type them, the
// verdict and why. A check that is not talkative says nothing where nothing
// changed and one line for a change, so that cron's own mail is a second
// channel to the operator; besides that only loud notes, which come once, and
// the commands of a dry run, which were asked for. A check that found the
// lock taken (75) is no news and says nothing.
//
// --quiet is the same as no terminal, and no commands in a dry run. --json
// implies --quiet, but where --verbose is given too.
//
// A watch is talkative only with --verbose, and otherwise says nothing that it
// said in the check before: what makes checks impossible is told when that
// begins, when it changes, and by the verdict that ends it.
//
// On a terminal that can redraw, check and watch draw one more line below all
// others, with what is being done right now, and the outcome has a colour. There
// are no control characters anywhere else.
//
// What is done by hand is news to whoever typed it: its one line is printed, as
// is for whom it waits, but with --quiet only where it went wrong. Its dry run
// shows what it would run also where it would be refused now, and says so.
//
// status and history tell of every cluster what they can; what they cannot find
// out stands in its place. Times are this machine's local ones, with the offset
// where they name an event, and UTC in JSON. What is too long for 80 columns is
// broken between words. doctor shows a line for each finding, however long, and
// one more that says what to do about it.
//
// Errors are `pingover: CLUSTER: what is wrong`, in lower case, with the thing
// at fault quoted; a hint has its own line. Whatever came from outside is
// printed in one line and without control characters.

package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unicode"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/state"
)

// print writes what was asked for. That it cannot be written is said once.
// Whoever closed the pipe knows that nothing arrives.
func (p Program) print(text string) {
	_, err := io.WriteString(p.Stdout, text)
	if err == nil || errors.Is(err, syscall.EPIPE) || *p.unprinted {
		return
	}
	*p.unprinted = true
	complain(p.Stderr, "stdout: "+err.Error())
}

// complain says what is wrong.
func complain(w io.Writer, text string) { fmt.Fprintf(w, "%s: %s\n", programName, oneLine(text)) }

// advise says what to do about it, where there is something to say.
func advise(w io.Writer, hint string) {
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(hint))
	}
}

// voice tells what one command does to one cluster.
type voice struct {
	out       io.Writer
	cluster   string
	talkative bool
	quiet     bool
	dryRun    bool
	byHand    bool // not a check: an operator typed it
	notes     bool // are news, though not loud: somebody watches
	live      bool // on a terminal that shows what is being done
	color     bool
	screen    *screen // where that is drawn; nil where it is not
	memory    *memory // of the check before this one, in the same watch
}

// onScreen is where a voice of several clusters writes from now on.
func (v *voice) onScreen() *screen {
	s := &screen{out: v.out, draws: v.live, color: v.color}
	v.out = s
	return s
}

// of is v for that cluster.
func (v voice) of(c config.Cluster) voice {
	v.cluster = c.Name
	return v
}

// say prints a line of a talkative check.
func (v voice) say(format string, args ...any) {
	if v.talkative {
		fmt.Fprintf(v.out, "%s: %s\n", v.cluster, oneLine(fmt.Sprintf(format, args...)))
	}
}

// report prints a line that is not only for a talkative check.
func (v voice) report(text string) { v.advised(text, "") }

// advised is report, with a line that says what to do about it.
func (v voice) advised(text, hint string) {
	if v.fresh(text) {
		var lines strings.Builder // in one piece, whatever other clusters say meanwhile
		complain(&lines, v.cluster+": "+text)
		advise(&lines, hint)
		io.WriteString(v.out, lines.String())
	}
}

// fresh says whether a line is to be printed: a watch that is not talkative
// does not repeat itself.
func (v voice) fresh(line string) bool { return !v.memory.knows(line) || v.talkative }

// result prints the line that something done by hand ends with.
func (v voice) result(text string) {
	if !v.quiet {
		v.report(text)
	}
}

// tell puts an event into words.
func (v voice) tell(event any) {
	v.screen.follow(v.cluster, event)
	switch e := event.(type) {
	case failover.RoundBegan:
		v.say("round %d: pinging %s, at most %s, %s apart", e.N, hostAndAddress(e.Host, e.Address),
			count(e.Count, "ping"), config.DurationText(e.Interval))
	case failover.Replied:
		v.say("round %d: reply to ping %d after %s", e.N, e.Seq, milliseconds(e.RTT))
	case failover.RoundEnded:
		v.say("round %d: %s", e.N, roundText(e.Round))
	case failover.Waiting:
		v.say("waiting %s: %s", config.DurationText(e.For), e.Why)
	case failover.Guarded:
		v.guarded(e)
	case failover.Decided:
		v.decided(e.Decision)
	case failover.Ran:
		if !e.DryRun { // else it is told at the end
			v.say("ran: %s", commandText(e.Command))
		}
	case failover.LockWaited:
		v.lockWaited(e)
	case failover.HookRan:
		v.hookRan(e)
	case failover.Announced:
		v.say("announced on %s: %s is at %s", e.Interface, e.Address, e.MAC)
	case failover.Delivered:
		v.delivered(e)
	case failover.Note:
		if e.Warning || v.notes && !v.talkative {
			v.report(e.Text)
		} else {
			v.say("%s", e.Text)
		}
	}
}

// origins tells each setting, and where it comes from.
func (v voice) origins(c config.Cluster) {
	for _, o := range c.Origins() {
		v.say("%s", o)
	}
}

func hostAndAddress(host string, address netip.Addr) string {
	if host == address.String() {
		return host
	}
	return fmt.Sprintf("%s (%s)", host, address)
}

func roundText(r state.Round) string {
	switch {
	case r.Error != nil:
		return r.Verdict + ": " + *r.Error
	case r.Received == 0:
		return fmt.Sprintf("%s: none of %s was answered", r.Verdict, count(r.Sent, "ping"))
	}
	return r.Verdict
}

func (v voice) guarded(e failover.Guarded) {
	for _, w := range e.Witnesses {
		v.say("%s", witnessText(w))
	}
	for _, h := range e.Holders {
		v.say("%s", holderText(h))
	}
	switch {
	case e.Fault != "":
		v.say("not everything could be asked: %s", e.Fault)
	case len(e.Holders) == 0:
		v.say("nobody else answers for the host or a virtual IP")
	}
}

func witnessText(w state.Witness) string {
	switch {
	case !w.Answers:
		return fmt.Sprintf("witness %s does not answer", w.Address)
	case w.By != nil:
		return fmt.Sprintf("witness %s answers (%s)", w.Address, *w.By)
	}
	return fmt.Sprintf("witness %s answers", w.Address)
}

func holderText(h state.Holder) string {
	if h.MAC == "" {
		return "another machine answers for " + h.Address
	}
	return fmt.Sprintf("another machine answers for %s: %s", h.Address, h.MAC)
}

// decided tells a decision. What is done by hand goes by no rule.
func (v voice) decided(d state.Decision) {
	if d.Rule == 0 {
		v.say("decision: %s", d.Outcome)
	} else {
		v.say("decision: %s, by rule %d", d.Outcome, d.Rule)
	}
}

// lockWaited tells whoever typed a command why nothing happens.
func (v voice) lockWaited(e failover.LockWaited) {
	run := "another run"
	if e.PID != 0 {
		run = fmt.Sprintf("run %d", e.PID)
	}
	text := fmt.Sprintf("waiting for %s of this cluster to end, at most %s", run, config.DurationText(e.For))
	if v.talkative {
		v.say("%s", text)
	} else {
		v.result(text)
	}
}

// hookRan shows a hook and what it printed. One that fails after a change is
// never passed over; one that refuses a takeover is in the reason for that,
// which is told once, and not at each check.
func (v voice) hookRan(e failover.HookRan) {
	switch {
	case e.Error == nil:
		v.say("%s: ran %s", e.Hook, proc.Line(e.Command.Argv))
	case v.talkative:
		v.say("%s failed: %v", e.Hook, e.Error)
	case e.Hook != "pre-takeover":
		v.report(fmt.Sprintf("%s failed: %v", e.Hook, e.Error))
	}
	for line := range strings.Lines(e.Command.Output) {
		if v.talkative {
			fmt.Fprintf(v.out, "%s:   %s\n", v.cluster, oneLine(line))
		}
	}
}

// commandText is a command that was run, and how it failed where it did.
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

func (v voice) delivered(e failover.Delivered) {
	if e.Sent > 0 {
		v.say("mail: %s sent", count(e.Sent, "letter"))
	}
	if e.Error != nil {
		v.say("mail: %s waiting: %s", count(e.Waiting, "letter"), e.Error)
	}
}

// ended tells how it ended. The commands of a dry run are what it was asked for.
// Those of one by hand are also shown where they would not be run now.
func (v voice) ended(r failover.Report) {
	idle := v.byHand && (r.Outcome == state.OK || r.Outcome == state.Blocked || r.Outcome == state.Unknown)
	if !idle {
		v.rehearsed(r, "would run: ")
	}
	v.verdict(r)
	if idle {
		v.rehearsed(r, "would run, were it not for that: ")
	}
}

// rehearsed shows the commands of a dry run.
func (v voice) rehearsed(r failover.Report, would string) {
	if !r.DryRun || v.quiet {
		return
	}
	for _, c := range r.Commands {
		v.report(would + proc.Line(c.Argv))
	}
}

// verdict tells how it ended: always where that is talkative or done by hand,
// else where a check ended otherwise than the last.
func (v voice) verdict(r failover.Report) {
	text := string(r.Outcome)
	if r.DryRun {
		text += " (dry run)"
	}
	text += ": " + r.Reason
	if r.Error != nil && !strings.Contains(r.Reason, *r.Error) {
		text += ": " + *r.Error
	}
	wanted := r.Changed || v.memory.recovers()
	if v.byHand {
		wanted = !v.quiet || r.Code >= state.Unknown.Code()
	}
	if (wanted || v.talkative) && v.fresh(text) {
		rest := strings.TrimPrefix(oneLine(text), string(r.Outcome))
		fmt.Fprintf(v.out, "%s: %s: %s%s\n", programName, v.cluster, colored(v.color, r.Outcome), rest)
	}
}

// unmade tells why nothing was done, and returns the exit code for that.
func (v voice) unmade(err error) int {
	code, hint := codeBug, ""
	if e, ok := errors.AsType[*failover.Error](err); ok {
		code, hint = e.Code, e.Hint
	}
	if code != codeBusy || v.talkative || v.byHand {
		v.advised(err.Error(), hint)
	}
	return code
}

// interrupted tells why it ended early.
func (v voice) interrupted(cause error) {
	v.say("ended by %s before it had changed anything", cause)
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

// oneLine is text as it may be shown on a terminal and in a log.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}
