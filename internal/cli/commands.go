package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
)

const programName = "pingover"

// command is one command of the program.
type command struct {
	name    string
	group   string // heading in help
	operand string // what comes after the flags, in help
	summary string // one line
	about   string // what help says before the flags
	codes   func() []exit.Code
	ofPools []exit.Code      // those that mean something else for pools
	flags   func() []flagRow // made when they are needed: a check needs those of one command
	acts    bool             // its exit code says how that ended, even if the output could not be written
	hidden  bool             // not in help
	run     func(*cli.Context) (code int, err error)
}

// The headings of the commands.
const (
	groupRun     = "Run"
	groupShow    = "Show"
	groupOperate = "Operate"
	groupSetUp   = "Set up"
)

const helpOperand = "[COMMAND|settings]"

const clusterOperand = "[NAME...]"

// memberOperand is a pool and its members.
const memberOperand = "POOL MEMBER..."

// commands are all commands, in the order of help.
func (p Program) commands() []command {
	const jsonHelp = "one JSON object per cluster and line"
	all := bare("all", "", "all clusters that are known")
	forcedTakeOver := bare("force", "", "even if no witness replies or a virtual IP is in use")
	forcedRelease := bare("force", "", "release even if no machine takes the virtual IPs")
	quietCheck := bare("quiet", "q", "print only changes, as without a terminal")
	quietManual := bare("quiet", "q", "print only errors")
	dryRun := bare("dry-run", "n", "change, send and write nothing; print the commands that a real run would run")
	report := func(quiet flagRow) []flagRow {
		return []flagRow{
			bare("json", "", jsonHelp+" on stdout; implies --quiet"),
			bare("verbose", "v", "print each step as it is taken, as on a terminal"),
			quiet,
		}
	}
	var settings []string // all of them
	forPause, stateDir := []string{"name", "host", "state-dir"}, []string{"state-dir"}
	flags := func(settings []string, groups ...[]flagRow) func() []flagRow {
		return func() []flagRow {
			return slices.Concat([]flagRow{fileFlag()}, slices.Concat(groups...), helpFlags(), settingFlags(settings...))
		}
	}
	errorCodes := []int{exit.Usage, exit.Internal, exit.Permission, exit.Config}
	with := func(codes ...int) []int { return append(codes, errorCodes...) }
	var checkCodes []int
	for _, c := range exit.Codes() {
		if c.Code != exit.Unavailable && c.Code != exit.Output {
			checkCodes = append(checkCodes, c.Code)
		}
	}
	commands := []command{
		{
			name: "check", group: groupRun, operand: clusterOperand, acts: true, run: p.check, about: aboutCheck,
			summary: "run one check (this is what cron calls)",
			codes:   codesOf(nil, checkCodes...), ofPools: exit.PoolCodes(),
			flags: flags(settings, []flagRow{dryRun}, report(quietCheck)),
		},
		{
			name: "watch", group: groupRun, operand: clusterOperand, acts: true, run: p.watch, about: aboutWatch,
			summary: "run the check in a loop, as a service",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "ended by a signal, or by --for"},
				{Code: exit.Internal, Meaning: "internal error, or a check that hung"},
			}, exit.Usage, exit.Permission, exit.Config),
			flags: flags(settings, []flagRow{
				durationFlag("every", "from the start of a check to that of the next", config.DurationText(usualTick), shortestTick, longestTick),
				durationFlag("for", "start no check later than this", "until a signal", shortestWatch, longestWatch),
			}, report(quietCheck)),
		},
		{
			name: "status", group: groupShow, operand: clusterOperand, run: p.status, about: aboutStatus,
			summary: "show who serves what, and the last check",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "shown"},
				{Code: 20, Meaning: "shown, but not everything is known"},
			}, with(exit.Output)...),
			flags: flags(stateDir, []flagRow{
				bare("json", "", jsonHelp),
				bare("monitoring", "", "one line and the exit code of a Nagios plugin"),
				bare("watch", "", "show it again every 2s, until a signal"),
			}),
		},
		{
			name: "history", group: groupShow, operand: clusterOperand, run: p.history, about: aboutHistory,
			summary: "list past failovers and their causes",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "shown"},
				{Code: 20, Meaning: "shown, but a record cannot be read"},
			}, with(exit.Output)...),
			flags: flags(stateDir, []flagRow{
				bare("details", "", "with the evidence and the commands of each"),
				{name: "last", argument: "N", help: "only the last N"},
				{name: "since", argument: "DURATION", help: "only those of this time, such as 7d"},
				bare("summary", "", "availability: each outage, and who served when"),
				bare("html", "", "the same as one page"),
				bare("json", "", "one JSON object per change and line; with --summary per cluster"),
			}),
		},
		{
			name: "takeover", group: groupOperate, operand: clusterOperand, acts: true, run: p.manual(func(t Task) act { return t.TakeOver }), about: aboutTakeOver,
			summary: "take the virtual IPs now, even from a primary that is up",
			codes: codesOf([]exit.Code{
				{Code: 10, Outcome: "holding", Meaning: "this machine held them already"},
				{Code: 11, Outcome: "took-over", Meaning: "taken over"},
				{Code: 20, Outcome: "unknown", Meaning: "the state of this machine is unknown; nothing changed"},
				{Code: 21, Outcome: "blocked", Meaning: "refused; nothing changed"},
			}, with(30, 32, exit.Busy)...),
			flags: flags(settings, []flagRow{all, forcedTakeOver, dryRun}, report(quietManual)),
		},
		{
			name: "release", group: groupOperate, operand: clusterOperand, acts: true, run: p.manual(func(t Task) act { return t.Release }), about: aboutRelease,
			summary: "release the virtual IPs now, and hand them over",
			codes: codesOf([]exit.Code{
				{Code: 0, Outcome: "ok", Meaning: "this machine holds nothing"},
				{Code: 12, Outcome: "released", Meaning: "released"},
				{Code: 20, Outcome: "unknown", Meaning: "the state of this machine is unknown; nothing changed"},
				{Code: 21, Outcome: "blocked", Meaning: "refused, or no machine took them: this machine holds them"},
			}, with(31, 32, exit.Busy)...),
			flags: flags(settings, []flagRow{all, forcedRelease, dryRun}, report(quietManual)),
		},
		{
			name: "pause", group: groupOperate, operand: clusterOperand, run: p.pause, about: aboutPause,
			summary: "maintenance: checks go on and report, and switch nothing",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "paused"},
				{Code: 32, Meaning: "the state could not be written"},
			}, errorCodes...),
			flags: flags(forPause, []flagRow{
				all,
				durationFlag("for", "length of the pause", config.DurationText(usualPause), shortestPause, longestPause),
				quietManual,
			}),
		},
		{
			name: "resume", group: groupOperate, operand: clusterOperand, run: p.resume, about: aboutResume,
			summary: "end a pause; after a manual release, allow takeovers again",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "resumed, or there was nothing to resume"},
				{Code: 32, Meaning: "the state could not be written"},
			}, with(exit.Busy)...),
			flags: flags(forPause, []flagRow{all, quietManual}),
		},
		{
			name: drainCommand, group: groupOperate, operand: memberOperand, acts: true, run: p.drain, about: aboutDrain,
			summary: "take members of a pool out of DNS, until undrain",
			codes: codesOf([]exit.Code{
				{Code: 10, Outcome: "reduced", Meaning: "all of them were out already, and stay out"},
				{Code: 11, Outcome: "removed", Meaning: "taken out of DNS"},
				{Code: 21, Outcome: "blocked", Meaning: "refused; nothing changed"},
				{Code: 30, Outcome: "update-failed", Meaning: "the name server did not make the change"},
			}, with(32, exit.Busy)...),
			flags: flags(stateDir, []flagRow{
				durationFlag("for", "how long they stay out", "until undrain", shortestPause, longestPause),
				bare("force", "", "even below min-members, never the last record"), dryRun,
			}, report(quietManual)),
		},
		{
			name: undrainCommand, group: groupOperate, operand: memberOperand, acts: true, run: p.undrain, about: aboutUndrain,
			summary: "end a drain; the next checks put the members back",
			codes: codesOf([]exit.Code{
				{Code: 0, Outcome: "ok", Meaning: "no longer drained"},
			}, with(32, exit.Busy)...),
			flags: flags(stateDir, []flagRow{dryRun}, report(quietManual)),
		},
		{
			name: "config", group: groupSetUp, operand: clusterOperand, run: p.config, about: aboutConfig,
			summary: "validate the file, and print the effective settings",
			codes:   codesOf([]exit.Code{{Code: 0, Meaning: "valid"}}, exit.Usage, exit.Internal, exit.Output, exit.Config),
			flags: flags(settings, []flagRow{
				bare("quiet", "q", "print only errors"),
				bare("json", "", jsonHelp),
			}),
		},
		{
			name: "doctor", group: groupSetUp, operand: clusterOperand, run: p.doctor, about: aboutDoctor,
			summary: "test what a takeover needs, and show how to fix it",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "nothing must be fixed; there may be warnings"},
				{Code: exit.Config, Meaning: "something must be fixed"},
			}, exit.Usage, exit.Internal, exit.Output, exit.Permission),
			flags: flags(settings, []flagRow{
				bare("send-test", "", "send a test email to each recipient"),
				bare("send-mail", "", "the old name of --send-test"),
				bare("verbose", "v", "show what is fine, too"),
				bare("json", "", jsonHelp),
			}),
		},
		{
			name: "forget", group: groupSetUp, operand: "NAME...", run: p.forget, about: aboutForget,
			summary: "delete the state of a cluster that is not configured",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "deleted"},
				{Code: 21, Outcome: "blocked", Meaning: "refused: it still holds something"},
				{Code: 32, Meaning: "the state could not be deleted"},
			}, with(exit.Busy)...),
			flags: flags(stateDir, []flagRow{quietManual}),
		},
		{
			name: "demo", group: groupSetUp, operand: "[" + demoPools + "]", run: p.demo, about: aboutDemo,
			summary: "a real failover in a throwaway network on this machine",
			codes: codesOf([]exit.Code{
				{Code: 0, Meaning: "every step was verified"},
				{Code: exit.Internal, Meaning: "a step went wrong"},
			}, exit.Usage, exit.Unavailable),
			flags: func() []flagRow {
				return append([]flagRow{bare("step", "", "wait for Enter before each act, on a terminal")}, helpFlags()...)
			},
		},
		{
			name: "completion", group: groupSetUp, operand: strings.Join(shells(), "|"), run: p.completion, about: aboutCompletion,
			summary: "print the completion script of a shell",
			flags:   helpFlags,
		},
		{
			name: "help", group: groupSetUp, operand: helpOperand, flags: helpFlags,
			summary: "show this text, the help of a command, or all settings",
		},
	}
	commands[len(commands)-1].run = func(c *cli.Context) (int, error) { return 0, p.help(commands, c.Args().Slice()) }
	return append(commands, command{
		name: completeCommand, hidden: true, flags: func() []flagRow { return nil },
		run: func(c *cli.Context) (int, error) { return p.complete(c, commands) },
	})
}

// find is the command of that name.
func find(name string, commands []command) (command, error) {
	var known []string
	for _, command := range commands {
		if command.name == name {
			return command, nil
		}
		if !command.hidden {
			known = append(known, command.name)
		}
	}
	return command{}, usageError{fmt.Sprintf("unknown command %q", name), meant("", name, append(known, "--version"), "see pingover help")}
}

// meant is the hint for an unknown word: the nearest known one, after prefix, or
// else what to do.
func meant(prefix, word string, known []string, otherwise string) string {
	if nearest := config.Nearest(word, known); nearest != "" {
		return "did you mean " + prefix + nearest + "?"
	}
	return otherwise
}

// flagRow is a flag, as it is given and as help shows it.
type flagRow struct {
	name, short string
	group       string // heading in help
	argument    string // placeholder for its value in help
	values      []string
	bare        bool // needs no value, which is true or false
	setting     bool
	key         bool // in the file only
	rare        bool // a setting that only help settings shows
	help        string
	limits      string // a setting's range and default, after help
}

func rootFlags() []flagRow {
	return append(helpFlags(), bare("version", "", "print the version"))
}

func helpFlags() []flagRow { return []flagRow{bare("help", "h", "print this text")} }

// bare is a flag without a value.
func bare(name, short, help string) flagRow {
	return flagRow{name: name, short: short, bare: true, help: help}
}

func fileFlag() flagRow {
	return flagRow{name: "file", short: "f", argument: "FILE", help: "configuration file (default: the one that PINGOVER_CONFIG names, else /etc/pingover.yaml if it exists)"}
}

func durationFlag(name, help, usual string, shortest, longest time.Duration) flagRow {
	return flagRow{
		name: name, argument: "DURATION", help: help,
		limits: fmt.Sprintf(" (%s to %s; default %s)", config.DurationText(shortest), config.DurationText(longest), usual),
	}
}

// oftenSet are the settings that the help of a command shows.
func oftenSet() []string {
	return []string{"name", "host", "vip", "interface", "retry-wait", "witness", "failback", "pre-takeover", "post-takeover", "mail-to"}
}

// settingFlags are the flags of the table of settings, or of some.
func settingFlags(some ...string) []flagRow {
	var rows []flagRow
	for _, s := range config.Settings() {
		if len(some) > 0 && !slices.Contains(some, s.Name) {
			continue
		}
		rows = append(rows, flagRow{
			name:     s.Name,
			short:    s.Short,
			group:    s.Group,
			argument: s.Argument,
			values:   s.Values,
			bare:     s.Kind == config.Bool,
			setting:  true,
			rare:     len(some) == 0 && !slices.Contains(oftenSet(), s.Name),
			help:     s.Help,
			limits:   limits(s),
		})
	}
	return rows
}

// limits are a setting's range and default, in words.
func limits(s config.Setting) string {
	switch {
	case s.Default != "":
		return " (" + s.Range + "; default " + s.Default + ")"
	case s.Derived != "":
		return " (" + s.Range + "; default: " + s.Derived + ")"
	}
	return " (" + s.Range + ")"
}

// libraryFlags are the flags that occur in line, as urfave/cli wants them; with all
// of them it takes longer than a check. Short names are not among them: arrange
// has written them out. Values stay text, which package config parses; with
// KeepSpace the library does not trim them.
func libraryFlags(rows []flagRow, line []string) []cli.Flag {
	var flags []cli.Flag
	for _, row := range rows {
		occurs := func(word string) bool { return strings.HasPrefix(word, "--"+row.name+"=") }
		switch {
		case !slices.ContainsFunc(line, occurs):
		case row.setting || !row.bare:
			flags = append(flags, &cli.StringSliceFlag{Name: row.name, KeepSpace: true})
		default:
			flags = append(flags, &cli.BoolFlag{Name: row.name})
		}
	}
	return flags
}
