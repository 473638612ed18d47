package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
)

const programName = "pingover"

// command is one command of the program.
type command struct {
	name    string
	operand string // what stands behind its flags, in help
	summary string // one line
	about   string // what help says before its flags
	codes   string // what help says of its exit codes
	flags   []flagRow
	acts    bool // its exit code says how that ended, whether that could be printed or not
	run     func(*cli.Context) (code int, err error)
}

// commands are all commands, in the order of help.
func (p Program) commands() []command {
	nameHostAndDir := []string{"name", "host", "state-dir"} // what there is to know for a pause
	commands := []command{
		{
			name:    "check",
			operand: "[CLUSTER...]",
			summary: "one check of a cluster: the crontab line, and the main job",
			about:   aboutCheck,
			codes:   codesHelp(ExitCodes()),
			flags:   slices.Concat([]flagRow{fileFlag(), dryRunFlag()}, reportFlags(quietCheck()), helpFlags(), settingFlags()),
			acts:    true,
			run:     p.check,
		},
		{
			name:    "watch",
			operand: "[CLUSTER...]",
			summary: "the same check again and again: for a service",
			about:   aboutWatch,
			codes:   codesHelp(watchCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(),
				durationFlag("every", "from the beginning of a check to that of the next", config.DurationText(usualBeat), shortestBeat, longestBeat),
				durationFlag("for", "begin no check after so long", "until a signal", shortestWatch, longestWatch),
			}, reportFlags(quietCheck()), helpFlags(), settingFlags()),
			acts: true,
			run:  p.watch,
		},
		{
			name:    "takeover",
			operand: "[CLUSTER...]",
			summary: "take the virtual IPs now, by hand, also from a living primary",
			about:   aboutTakeOver,
			codes:   codesHelp(takeOverCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(), allFlag(),
				bare("force", "", "also when no witness replies, or somebody does for the virtual IPs"),
				dryRunFlag(),
			}, reportFlags(quietByHand()), helpFlags(), settingFlags()),
			acts: true,
			run:  p.byHand(p.TakeOver),
		},
		{
			name:    "release",
			operand: "[CLUSTER...]",
			summary: "give the virtual IPs up now, by hand, and hand them over",
			about:   aboutRelease,
			codes:   codesHelp(releaseCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(), allFlag(),
				bare("force", "", "do not raise again what nobody takes"),
				dryRunFlag(),
			}, reportFlags(quietByHand()), helpFlags(), settingFlags()),
			acts: true,
			run:  p.byHand(p.Release),
		},
		{
			name:    "pause",
			operand: "[CLUSTER...]",
			summary: "maintenance: checks go on, and nothing is switched",
			about:   aboutPause,
			codes:   codesHelp(pauseCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(), allFlag(),
				durationFlag("for", "how long", config.DurationText(usualPause), shortestPause, longestPause),
				quietByHand(),
			}, helpFlags(), settingFlags(nameHostAndDir...)),
			run: p.pause,
		},
		{
			name:    "resume",
			operand: "[CLUSTER...]",
			summary: "end a pause, or the rest after a release by hand",
			about:   aboutResume,
			codes:   codesHelp(resumeCodes()),
			flags:   slices.Concat([]flagRow{fileFlag(), allFlag(), quietByHand()}, helpFlags(), settingFlags(nameHostAndDir...)),
			run:     p.resume,
		},
		{
			name:    "status",
			operand: "[CLUSTER...]",
			summary: "what is held here, the last check, what waits",
			about:   aboutStatus,
			codes:   codesHelp(statusCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(),
				bare("json", "", "one JSON object for each cluster, a line each"),
				bare("monitoring", "", "one line and an exit code for Nagios and its kin"),
			}, helpFlags(), settingFlags("state-dir")),
			run: p.status,
		},
		{
			name:    "history",
			operand: "[CLUSTER...]",
			summary: "what changed when and why, newest last",
			about:   aboutHistory,
			codes:   codesHelp(historyCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(),
				bare("json", "", "one JSON object for each change, a line each"),
			}, helpFlags(), settingFlags("state-dir")),
			run: p.history,
		},
		{
			name:    "doctor",
			operand: "[CLUSTER...]",
			summary: "try all that a takeover will need, and say how to mend it",
			about:   aboutDoctor,
			codes:   codesHelp(doctorCodes()),
			flags: slices.Concat([]flagRow{
				fileFlag(),
				bare("send-mail", "", "send a letter to each recipient, to see that it arrives"),
			}, helpFlags(), settingFlags()),
			run: p.doctor,
		},
		{
			name:    "demo",
			summary: "a failover in a network of its own, on this machine",
			about:   aboutDemo,
			codes:   codesHelp([]ExitCode{{0, "", "it all happened as told"}, {69, "", "cannot run on this machine"}, {70, "", "something did not go as told"}}),
			flags:   helpFlags(),
			run:     p.demo,
		},
		{
			name:    "completion",
			operand: strings.Join(shells(), "|"),
			summary: "the script by which a shell completes what is typed",
			about:   aboutCompletion,
			flags:   slices.Concat([]flagRow{fileFlag()}, helpFlags(), settingFlags("state-dir")),
			run:     p.completion,
		},
	}
	help := command{
		name:    "help",
		operand: "[COMMAND]",
		summary: "this text, or that of a command",
		flags:   helpFlags(),
	}
	help.run = func(c *cli.Context) (int, error) { return 0, p.help(append(commands, help), c.Args().Slice()) }
	return append(commands, help)
}

// unprinted is its exit code where what it had to say could not be printed.
func (c command) unprinted(line *cli.Context, code int) int {
	switch {
	case c.acts:
		return code
	case line.Bool("monitoring"):
		return monitorUnknown
	}
	return codeOutput
}

// find is the command of that name.
func find(name string, commands []command) (command, error) {
	var known []string
	for _, command := range commands {
		if command.name == name {
			return command, nil
		}
		known = append(known, command.name)
	}
	hint := "see pingover help"
	if meant := config.Nearest(name, known); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	return command{}, usageError{fmt.Sprintf("unknown command %q", name), hint}
}

// flagRow is a flag, as it is typed and as help shows it.
type flagRow struct {
	name, short string
	group       string // heading in help
	argument    string // what stands for its value in help
	values      []string
	bare        bool // stands without a value, which is true or false
	list        bool // may be given several times
	setting     bool
	help        string
	limits      string // a setting's range and default, behind help
}

func rootFlags() []flagRow {
	return append(helpFlags(), bare("version", "", "the version of this program"))
}

func helpFlags() []flagRow { return []flagRow{bare("help", "h", "this text")} }

// bare is a flag without a value.
func bare(name, short, help string) flagRow {
	return flagRow{name: name, short: short, bare: true, help: help}
}

// reportFlags are those of the commands that end in a report.
func reportFlags(quiet flagRow) []flagRow {
	return []flagRow{
		bare("json", "", "one JSON object for each cluster on stdout, and --quiet"),
		bare("verbose", "v", "say what is done as it is done, as checks do on a terminal"),
		quiet,
	}
}

func dryRunFlag() flagRow {
	return bare("dry-run", "n", "change, send and write nothing; show the commands that would run")
}

func quietCheck() flagRow  { return bare("quiet", "q", "say only what changed, as without a terminal") }
func quietByHand() flagRow { return bare("quiet", "q", "say only what went wrong") }

func fileFlag() flagRow {
	return flagRow{name: "file", short: "f", argument: "FILE", help: "the configuration file (default: what PINGOVER_CONFIG says, else /etc/pingover.yaml if it is there)"}
}

func allFlag() flagRow { return bare("all", "", "all clusters that are known") }

func durationFlag(name, help, usual string, shortest, longest time.Duration) flagRow {
	return flagRow{
		name: name, argument: "DURATION", help: help,
		limits: fmt.Sprintf(" (%s to %s; default %s)", config.DurationText(shortest), config.DurationText(longest), usual),
	}
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
			list:     s.Kind == config.List,
			setting:  true,
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

// libraryFlags are the flags as urfave/cli wants them. Short names are not
// among them: arrange has written them out. Values stay text, which package
// config parses; KeepSpace keeps the library from trimming it.
func libraryFlags(rows []flagRow) []cli.Flag {
	var flags []cli.Flag
	for _, row := range rows {
		if row.setting || !row.bare {
			flags = append(flags, &cli.StringSliceFlag{Name: row.name, KeepSpace: true})
		} else {
			flags = append(flags, &cli.BoolFlag{Name: row.name})
		}
	}
	return flags
}
