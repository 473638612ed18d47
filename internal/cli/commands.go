package cli

import (
	"fmt"
	"slices"

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
			flags:   slices.Concat(reportFlags(quietCheck()), helpFlags(), settingFlags()),
			run:     p.check,
		},
		{
			name:    "takeover",
			operand: "[CLUSTER...]",
			summary: "take the virtual IPs now, by hand, also from a living primary",
			about:   aboutTakeOver,
			codes:   codesHelp(takeOverCodes()),
			flags: slices.Concat([]flagRow{
				allFlag(),
				bare("force", "", "also when no witness answers, or somebody does for the virtual IPs"),
			}, reportFlags(quietByHand()), helpFlags(), settingFlags()),
			run: p.byHand(p.TakeOver),
		},
		{
			name:    "release",
			operand: "[CLUSTER...]",
			summary: "give the virtual IPs up now, by hand, and hand them over",
			about:   aboutRelease,
			codes:   codesHelp(releaseCodes()),
			flags: slices.Concat([]flagRow{
				allFlag(),
				bare("force", "", "do not raise again what nobody takes"),
			}, reportFlags(quietByHand()), helpFlags(), settingFlags()),
			run: p.byHand(p.Release),
		},
		{
			name:    "pause",
			operand: "[CLUSTER...]",
			summary: "maintenance: checks go on, and nothing is switched",
			about:   aboutPause,
			codes:   codesHelp(pauseCodes()),
			flags:   slices.Concat([]flagRow{allFlag(), forFlag(), quietByHand()}, helpFlags(), settingFlags(nameHostAndDir...)),
			run:     p.pause,
		},
		{
			name:    "resume",
			operand: "[CLUSTER...]",
			summary: "end a pause, or the rest after a release by hand",
			about:   aboutResume,
			codes:   codesHelp(resumeCodes()),
			flags:   slices.Concat([]flagRow{allFlag(), quietByHand()}, helpFlags(), settingFlags(nameHostAndDir...)),
			run:     p.resume,
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
	bare        bool   // stands without a value, which is true or false
	setting     bool
	help        string
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
		bare("dry-run", "n", "change, send and write nothing; show the commands that would run"),
		bare("json", "", "one JSON object for each cluster on stdout, and --quiet"),
		bare("verbose", "v", "say what is done as it is done, as on a terminal"),
		quiet,
	}
}

func quietCheck() flagRow  { return bare("quiet", "q", "say only what changed, as without a terminal") }
func quietByHand() flagRow { return bare("quiet", "q", "say only what went wrong") }

func allFlag() flagRow { return bare("all", "", "all clusters that are known") }

func forFlag() flagRow {
	return flagRow{name: "for", argument: "DURATION", help: fmt.Sprintf("how long (%s to %s; default %s)",
		config.DurationText(shortestPause), config.DurationText(longestPause), config.DurationText(usualPause))}
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
			bare:     s.Kind == config.Bool,
			setting:  true,
			help:     s.Help + limits(s),
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
