package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const aboutCheck = `Pings the primary. When nobody answers in two rounds, and the guards agree,
raises its virtual IPs on this machine and tells the operator.

  pingover check --host 172.16.0.2 --vip 172.16.0.1 --mail-to root

Flags may stand before or behind the names; behind -- all are names. Durations
carry a unit: 1500ms, 20s, 2h, 1d. A password for the mail server may also stand
in the variable PINGOVER_MAIL_PASSWORD.
`

const aboutTakeOver = `Takes the virtual IPs now, without a ping: the primary may be alive. A witness
must answer, and nobody else for the virtual IPs. A machine that brings them up
all the same gets them back at the next check; automatic failback rests until
the primary was down once.

  pingover takeover web --dry-run
  pingover takeover web

` + aboutKnown

const aboutRelease = `Gives up what is held here, and waits up to 10s for another machine to take it;
what nobody takes is raised here again. Where neither a witness nor the primary
answers nobody could be heard, and it is refused. Until the primary was up once,
or takeover or resume is typed, no check takes over.

  pingover release web

` + aboutKnown

const aboutKnown = `A cluster that has been checked is known by its name, with the settings of that
check; flags given here win over them. One that has not been is defined by
--host and the other flags of its check. Without a name: the only one.
`

const aboutPause = `Takes effect at once, also in the middle of a check. What is held here stays.

  pingover pause web --for 2h

Without a name: the only cluster that is known.
`

const aboutResume = `Ends a pause before its time; after a release by hand, lets checks take over
again.

  pingover resume web

Without a name: all clusters that are known.
`

const aboutStatus = `Locks nothing, changes nothing, and needs no root. What is held is read from the
kernel, all else from the record of the last check.

  pingover status
  pingover status web --monitoring

With --monitoring: 0 ok; 1 holding, took-over, released, elsewhere, paused, or
mail waits; 2 down, unserved, blocked, or something failed; 3 unknown, never
checked, or the last check is too old (3m, or 3 times the time between the last
two, whichever is longer). Of several clusters the worst: 2, 3, 1, 0.

` + aboutAll

const aboutHistory = `Shows up to 100 changes of each cluster, with what was seen and done.

  pingover history web

` + aboutAll

const aboutAll = `Without a name: all clusters that are known. Who has no records of his own sees
those of root.
`

// ExitCode is a row of the table of exit codes that help and README.md show.
type ExitCode struct {
	Code    int
	Outcome string // "" where the code stands for no outcome
	Meaning string
}

// ExitCodes are the exit codes of check, in rising order.
func ExitCodes() []ExitCode {
	return []ExitCode{
		{0, "ok", "the primary answers; this machine stands by"},
		{10, "holding", "a failover is in effect here"},
		{11, "took-over", "taken over in this run"},
		{12, "released", "given back in this run"},
		{13, "elsewhere", "the primary is down and another standby serves"},
		{14, "down", "the primary is down and there is no virtual IP to take over"},
		{15, "unserved", "the primary answers, but nobody for a virtual IP"},
		{20, "unknown", "the check could not be made; nothing changed"},
		{21, "blocked", "the primary looks down, but switching was refused"},
		{30, "takeover-failed", "not raised, or not all of it"},
		{31, "release-failed", "not lowered: it may still be here"},
		{32, "state-failed", "switched, but it could not be written down"},
		{64, "", "something is wrong on the command line"},
		{70, "", "a bug"},
		{75, "busy", "another run holds the lock"},
		{77, "", "no permission"},
		{78, "", "the settings do not fit this machine, or name a wrong file"},
	}
}

func takeOverCodes() []ExitCode {
	return withCommon([]ExitCode{
		{10, "holding", "all of it is here already"},
		{11, "took-over", "taken over"},
		{20, "unknown", "this machine could not be asked; nothing changed"},
		{21, "blocked", "refused; nothing changed"},
	}, 30, 32, 64, 70, 75, 77, 78)
}

func releaseCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "ok", "nothing is held here"},
		{12, "released", "given up"},
		{20, "unknown", "this machine could not be asked; nothing changed"},
		{21, "blocked", "nobody took it, or could be asked: it is here"},
	}, 31, 32, 64, 70, 75, 77, 78)
}

func pauseCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "paused"},
		{32, "", "it could not be written down"},
	}, 64, 70, 77, 78)
}

func resumeCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "resumed, or there was nothing to resume"},
		{32, "", "it could not be written down"},
	}, 64, 70, 75, 77, 78)
}

func statusCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "shown"},
		{20, "", "shown, but not all could be found out"},
	}, 64, 70, 77, 78)
}

func historyCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "shown"},
		{20, "", "shown, but a record cannot be read"},
	}, 64, 70, 77, 78)
}

// withCommon are the exit codes of a command, followed by some that mean the
// same as for check.
func withCommon(own []ExitCode, common ...int) []ExitCode {
	for _, c := range ExitCodes() {
		if slices.Contains(common, c.Code) {
			own = append(own, c)
		}
	}
	return own
}

// codesHelp is what help says of them.
func codesHelp(codes []ExitCode) string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "  %2d  %-15s  %s\n", c.Code, c.Outcome, c.Meaning)
	}
	return b.String()
}

// Where explanations begin.
const (
	rootIndent    = 20
	commandIndent = 32
)

// help is the command: help for the program, or for one command.
func (p Program) help(commands []command, names []string) error {
	switch len(names) {
	case 0:
		p.print(rootHelp(commands))
		return nil
	case 1:
		command, err := find(names[0], commands)
		if err != nil {
			return err
		}
		p.print(commandHelp(command))
		return nil
	}
	return usageError{fmt.Sprintf("%q: help is for one command at a time", names[1]), ""}
}

func rootHelp(commands []command) string {
	var b strings.Builder
	b.WriteString("pingover - a poor man's cluster: this machine takes over the virtual IPs of a\nprimary that died\n\n")
	b.WriteString("usage: pingover COMMAND [flags] [CLUSTER...]\n\nCommands:\n")
	for _, command := range commands {
		twoColumns(&b, rootIndent, command.name, command.summary)
	}
	b.WriteString("\nFlags:\n")
	writeFlags(&b, rootIndent, rootFlags())
	b.WriteString("\nThe flags of a command: pingover help COMMAND\n")
	return b.String()
}

func commandHelp(c command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pingover %s - %s\n\n", c.name, c.summary)
	b.WriteString(strings.TrimSpace(fmt.Sprintf("usage: pingover %s [flags] %s", c.name, c.operand)) + "\n\n")
	if c.about != "" {
		b.WriteString(c.about + "\n")
	}
	b.WriteString("Flags:\n")
	writeFlags(&b, commandIndent, c.flags)
	if c.codes != "" {
		b.WriteString("\n" + c.codes)
	}
	return b.String()
}

// writeFlags writes the flags, each group under its heading.
func writeFlags(b *strings.Builder, indent int, rows []flagRow) {
	group := ""
	for _, row := range rows {
		if row.group != group {
			group = row.group
			fmt.Fprintf(b, "\n%s:\n", group)
		}
		name := "    --" + row.name
		if row.short != "" {
			name = "-" + row.short + ", --" + row.name
		}
		if row.argument != "" {
			name += " " + row.argument
		}
		twoColumns(b, indent, name, row.help+row.limits)
	}
}

// twoColumns writes what is explained and, from indent on, its explanation,
// broken at 80 columns.
func twoColumns(b *strings.Builder, indent int, left, right string) {
	const width = 80
	line := "  " + left
	for _, word := range strings.Fields(right) {
		switch n := utf8.RuneCountInString(line); {
		case n < indent:
			line += strings.Repeat(" ", indent-n) + word
		case n+1+len(word) > width:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", indent) + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}
