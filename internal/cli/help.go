package cli

import (
	"fmt"
	"slices"
	"strings"

	"pingover/internal/exit"
	"pingover/internal/term"
)

const aboutCheck = `Pings the primary. If two rounds get no reply and every safety check passes,
adds its virtual IPs on this machine and notifies the operator.

  pingover check --host 172.16.0.2 --vip 172.16.0.1 --mail-to root

Flags go before or after the names; after -- all are names. Durations carry a
unit: 1500ms, 20s, 2h, 1d. The password for the mail server can also be given in
the variable PINGOVER_MAIL_PASSWORD.
`

const aboutWatch = `Runs the check in a loop until SIGTERM: as a service in place of the crontab
line, or for the rest of a minute. Clusters are checked independently of each
other. A check that takes longer than --every skips ticks.

  pingover watch
  pingover watch --every 10s --for 58s --quiet

Repeated messages are printed once, and a line at its start and at its end, which
--quiet leaves out for cron. SIGHUP reads the configuration file again; if
it cannot be used, the last valid one stays in effect. Any other signal ends the
watch at once; a switch in progress is finished first.
`

const aboutTakeOver = `Takes the virtual IPs now, without a ping: the primary may be up. A witness must
reply, and the virtual IPs must not be in use. A machine that assigns them all
the same gets them back at the next check; automatic failback is suspended until
the primary has failed once.

  pingover takeover web --dry-run
  pingover takeover web

` + aboutKnown

const aboutRelease = `Releases what is held here, and waits up to 10s for another machine to take it;
an address that nobody takes is added here again. Refused while neither a
witness nor the primary replies. Until the primary was up once, or takeover or
resume is run, no check takes over.

  pingover release web

` + aboutKnown

const aboutKnown = `A cluster that has been checked is known by its name, with the settings of that
check; flags override them. One that has not been is defined by --host and the
other flags of its check. Without a name: the only one.
`

const aboutPause = `Takes effect at once, even in the middle of a check. What is held here stays.

  pingover pause web --for 2h

Without a name: the only cluster that is known.
`

const aboutResume = `Ends a pause early; after a manual release, lets checks take over again.

  pingover resume web

Without a name: all clusters that are known.
`

const aboutForget = `Deletes what is kept of a cluster: its record, settings, history and pending
mail. Refused while it holds a virtual IP, and for a cluster that is configured.

  pingover forget web
`

const aboutStatus = `Takes no lock, changes nothing and needs no root. What is held is read from the
kernel, all else from the record of the last check.

  pingover status
  pingover status web --monitoring

With --monitoring: 0 ok; 1 holding, took-over, released, elsewhere, paused, or
mail pending; 2 down, unserved, blocked, or something failed; 3 unknown, never
checked, or the last check is overdue (3m, or 3 times the time between the last
two, whichever is longer). Worst of several clusters: 2, 3, 1, 0.

` + aboutAll

const aboutHistory = `Lists past changes of each cluster, with the evidence and the commands.

  pingover history web

` + aboutAll

const aboutAll = `Without a name: all clusters that are known. A user without records sees those
of root.
`

const aboutDoctor = `Tests everything that a takeover will need: settings, permissions, state
directory, tool, interface, addresses, primary, witness, hooks, mail. Says what
fails and how to fix it. It changes nothing and sends what a dry run sends; with
--send-test also a test email to each mail-to.

  pingover doctor
  pingover doctor --host 172.16.0.2 --vip 172.16.0.1 --send-test

Without a name: all clusters that are known. One that has been checked is known
by its name, with the settings of that check.
`

const aboutDemo = `Four machines on a virtual switch, made of network namespaces: a takeover, its
email and the failback, each step verified. It takes about 15 seconds, touches
nothing on this machine, and leaves nothing behind.

It needs root, or a kernel that lets users create namespaces, and the tools ip
(Debian package iproute2), nsenter (util-linux), mount and hostname.
`

const aboutCompletion = `  source <(pingover completion bash)     # in ~/.bashrc
  source <(pingover completion zsh)      # in ~/.zshrc, after compinit
  pingover completion fish | source      # in config.fish

Or each into the file that its shell reads completions from.
`

// codesOf are the exit codes of a command: its own meanings, and those that are the
// same for all commands.
func codesOf(own []exit.Code, common ...int) []exit.Code {
	for _, c := range exit.Codes() {
		if slices.Contains(common, c.Code) {
			own = append(own, c)
		}
	}
	slices.SortStableFunc(own, func(a, b exit.Code) int { return a.Code - b.Code })
	return own
}

// Columns at which explanations begin.
const (
	rootIndent    = 20
	commandIndent = 32
	codesIndent   = 23
)

// help is the command: help for the program, or for one command.
func (p Program) help(commands []command, names []string) error {
	switch len(names) {
	case 0:
		p.print(rootHelp(commands))
		return nil
	case 1:
		command, err := find(names[0], commands)
		if err == nil {
			p.print(commandHelp(command))
		}
		return err
	}
	return usageError{fmt.Sprintf("%q: help is for one command at a time", names[1]), ""}
}

func rootHelp(commands []command) string {
	var b strings.Builder
	b.WriteString("pingover - two-node failover: this machine takes over the virtual IPs of a\nprimary that is down\n\n")
	b.WriteString("usage: pingover COMMAND [flags] [CLUSTER...]\n\nCommands:\n")
	for _, command := range commands {
		term.Columns(&b, rootIndent, "  "+command.name, command.summary)
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
	writeFlags(&b, commandIndent, c.flags())
	if len(c.codes) > 0 {
		b.WriteString("\nExit codes:\n")
	}
	for _, c := range c.codes {
		term.Columns(&b, codesIndent, fmt.Sprintf("  %2d  %s", c.Code, c.Outcome), c.Meaning)
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
		name := "      --" + row.name
		if row.short != "" {
			name = "  -" + row.short + ", --" + row.name
		}
		if row.argument != "" {
			name += " " + row.argument
		}
		term.Columns(b, indent, name, row.help+row.limits)
	}
}
