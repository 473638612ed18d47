package cli

import (
	"fmt"
	"slices"
	"strings"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/term"
)

const aboutCheck = `Pings the primary. If two rounds get no reply and every safety check passes,
adds its virtual IPs on this machine and notifies the operator. Of a pool it
asks every member, takes those that are down out of DNS, and puts them back when
they are up again.

  pingover check --host 172.16.0.2 --vip 172.16.0.1 --mail-to root

Flags go before or after the names; after -- all are names. Durations carry a
unit: 1500ms, 20s, 2h, 1d.
`

const aboutWatch = `Runs the check in a loop until SIGTERM: as a service in place of the crontab
line, or for the rest of a minute. Clusters are checked independently of each
other. A check that takes longer than --every skips ticks. Below a second each
cluster needs a count of 3 or more.

  pingover watch
  pingover watch --every 10s --for 58s --quiet

Prints a line at its start and its end (not with --quiet), and a repeated
message once. SIGHUP reads the configuration file again; if it cannot be used,
the last valid one stays in effect. SIGTERM and SIGINT end the watch at once; a
switch in progress is finished first. Under systemd it reports to NOTIFY_SOCKET
when it is ready, reloads, stops and lives.
`

const aboutTakeOver = `Takes the virtual IPs now, without a ping: the primary may be up. A witness must
reply, and the virtual IPs must not be in use. If another machine assigns them
later, the next check releases them. Automatic failback is suspended until the
primary has failed once.

  pingover takeover web --dry-run
  pingover takeover web

` + aboutKnown

const aboutRelease = `Releases the virtual IPs that this machine holds, and waits up to 10s for
another machine to take them; those that no machine takes are added on this
machine again. Refused while neither a witness nor the primary replies. Checks
take over again when the primary has been up once, or after takeover or resume.

  pingover release web

` + aboutKnown

const aboutKnown = `A cluster that was checked before is known by its name, with the settings of
that check; flags override them. Define any other by --host and the other flags
of its check. Without a name: the only one.
`

const aboutPause = `Takes effect at once, even in the middle of a check. This machine keeps the
virtual IPs that it holds.

  pingover pause web --for 2h

Without a name: the only known cluster.
`

const aboutResume = `Ends a pause early; after a manual release, lets checks take over again.

  pingover resume web

Without a name: all known clusters.
`

const aboutDrain = `Takes members of a pool out of DNS now, and keeps them out until undrain, or for
a time. Refused where fewer than min-members would be left. A drain belongs to
one checker: where several machines check the pool, run it on each.

  pingover drain www 10.2.2.11 --for 2h
`

const aboutUndrain = `Ends a drain. The next checks put the members back, after rise good ones.

  pingover undrain www 10.2.2.11
`

const aboutForget = `Deletes all files of a cluster in the state directory: record, settings,
history and pending mail. Refused while this machine holds a virtual IP of it,
and for a cluster that is configured.

  pingover forget web
`

const aboutStatus = `Takes no lock, changes nothing and needs no root. Which virtual IPs this machine
holds is read from the kernel, the rest from the record of the last check. What needs
attention comes first. A terminal that is too narrow leaves columns out, and says
which; --watch shows as many lines as fit.

  pingover status
  pingover status web --monitoring

With --monitoring: 0 ok; 1 holding, took-over, released, elsewhere, reduced,
removed, restored, a member out of DNS, paused, mail pending, or metrics-file cannot
be written; 2 down, unserved, blocked, or something failed; 3 unknown, never
checked, or the last check is overdue (3m, or 3 times the time between the last two,
whichever is longer). Worst of several: 2, 3, 1, 0.

` + aboutAll

const aboutHistory = `Lists past changes, hooks and alerts, one line each, the newest last.

  pingover history --since 7d
  pingover history web --last 1 --details
  pingover history --summary
  pingover history --html > availability.html

` + aboutAll

const aboutAll = `Without a name: all known clusters. A user without records sees those of root.
`

const aboutConfig = `Validates the whole file, and prints the effective settings of each cluster with
their origin. Needs no network and no root, and writes nothing.

  pingover config
  pingover config --quiet --file /etc/pingover.yaml.new

Ansible: validate: pingover config -q -f %s
`

const aboutDoctor = `Tests everything that a takeover needs: settings, permissions, state directory,
tool, interface, addresses, primary, witness, hooks, mail; of a pool the name
server, the right to update, each member. Shows first what fails and how to fix
it, and ends with a verdict. Changes nothing; asks the network as a dry run does.
With --send-test it sends a test email to each mail-to.

  pingover doctor
  pingover doctor --host 172.16.0.2 --vip 172.16.0.1 --send-test

Without a name: all known clusters. One that was checked before is known by its
name, with the settings of that check.
`

const aboutDemo = `Four machines on a virtual switch, made of network namespaces: a takeover, its
email and the failback, each step verified. It takes about 10 seconds, touches
nothing on this machine, and leaves nothing behind.

  pingover demo --step      # one act at a time
  pingover demo pools       # a host that is down leaves the records of a DNS name

It needs root, or a kernel that lets users create namespaces, and the tools ip
(Debian package iproute2), nsenter (util-linux), mount and hostname; for pools
also named (bind9).
`

const aboutCompletion = `  source <(pingover completion bash)     # in ~/.bashrc
  source <(pingover completion zsh)      # in ~/.zshrc, after compinit
  pingover completion fish | source      # in config.fish

Or each into the file that its shell reads completions from.
`

const aboutSettings = `Each setting is a flag (--retry-wait 5s) and a key in the configuration file
(retry-wait: 5s). Flags win over the file, the file over the defaults. Durations
carry a unit: 1500ms, 20s, 2h, 1d. In the file, defaults holds the settings of
all clusters:

  defaults:
    witness: 172.16.0.254
    mail-to: root
  clusters:
    web:
      host: 172.16.0.2
      vip: 172.16.0.1
  pools:
    www:
      record: host1.zone.com
      server: 192.0.2.53
      members: [10.2.2.10, 10.2.2.11]

The password for the mail server can also be given in the variable
PINGOVER_MAIL_PASSWORD.
`

// codesOf are the exit codes of a command: its own meanings, and those that are the
// same for all commands.
func codesOf(own []exit.Code, common ...int) func() []exit.Code {
	return func() []exit.Code {
		codes := slices.Clone(own)
		for _, c := range exit.Codes() {
			if slices.Contains(common, c.Code) {
				codes = append(codes, c)
			}
		}
		slices.SortStableFunc(codes, func(a, b exit.Code) int { return a.Code - b.Code })
		return codes
	}
}

// Columns at which explanations begin.
const (
	rootIndent    = 20
	commandIndent = 32
	codesIndent   = 23
)

// help is the command: help for the program, for one command, or for the settings.
func (p Program) help(commands []command, names []string) error {
	switch {
	case len(names) == 0:
		p.print(rootHelp(commands))
		return nil
	case len(names) > 1:
		return usageError{fmt.Sprintf("%q: help is for one command at a time", names[1]), ""}
	case names[0] == settingsTopic:
		p.print(settingsHelp())
		return nil
	}
	command, err := find(names[0], commands)
	if err == nil {
		p.print(commandHelp(command))
	}
	return err
}

// settingsTopic is what help also takes in place of a command.
const settingsTopic = "settings"

func rootHelp(commands []command) string {
	var b strings.Builder
	b.WriteString("pingover - two-node failover: this machine takes over the virtual IPs of a\nprimary that is down; and pools: it takes hosts that are down out of DNS\n\n")
	b.WriteString("usage: pingover COMMAND [flags] [NAME...]\n")
	group := ""
	for _, command := range commands {
		if command.hidden {
			continue
		}
		if command.group != group {
			group = command.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		term.Columns(&b, term.Page, rootIndent, "  "+command.name, command.summary)
	}
	b.WriteString("\nFlags:\n")
	writeFlags(&b, rootIndent, rootFlags())
	b.WriteString("\nThe flags of a command: pingover help COMMAND\nAll settings:           pingover help settings\n")
	return b.String()
}

func settingsHelp() string {
	var b strings.Builder
	b.WriteString(aboutSettings)
	writeFlags(&b, commandIndent, settingFlags())
	b.WriteString("\nPools, in the file only; of the others they have name, ping, services, witness,\nrise, mail and files:\n")
	var rows []flagRow
	for _, s := range config.AllSettings() {
		if s.Only == config.Pools {
			rows = append(rows, flagRow{name: s.Name, key: true, argument: s.Argument, help: s.Help, limits: limits(s)})
		}
	}
	writeFlags(&b, commandIndent, rows)
	return b.String()
}

func commandHelp(c command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pingover %s - %s\n\n", c.name, c.summary)
	b.WriteString(strings.TrimSpace(fmt.Sprintf("usage: pingover %s [flags] %s", c.name, c.operand)) + "\n\n")
	if c.about != "" {
		b.WriteString(c.about + "\n")
	}
	var settings, others []flagRow
	rest := false
	for _, row := range c.flags() {
		switch row.group = ""; {
		case row.rare:
			rest = true
		case row.setting:
			settings = append(settings, row)
		default:
			others = append(others, row)
		}
	}
	b.WriteString("Flags:\n")
	writeFlags(&b, commandIndent, others)
	if len(settings) > 0 {
		b.WriteString("\nSettings:\n")
		writeFlags(&b, commandIndent, settings)
	}
	if rest {
		b.WriteString("\nAll settings: pingover help settings\n")
	}
	if c.codes != nil {
		b.WriteString("\nExit codes:\n")
		writeCodes(&b, c.codes())
	}
	if len(c.ofPools) > 0 {
		b.WriteString("\nExit codes of pools, where they differ:\n")
		writeCodes(&b, c.ofPools)
	}
	return b.String()
}

func writeCodes(b *strings.Builder, codes []exit.Code) {
	for _, c := range codes {
		term.Columns(b, term.Page, codesIndent, fmt.Sprintf("  %2d  %s", c.Code, c.Outcome), c.Meaning)
	}
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
		if row.key {
			name = "      " + row.name
		}
		if row.short != "" {
			name = "  -" + row.short + ", --" + row.name
		}
		if row.argument != "" {
			name += " " + row.argument
		}
		term.Columns(b, term.Page, indent, name, row.help+row.limits)
	}
}
