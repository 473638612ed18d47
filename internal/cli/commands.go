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
	run     func(*cli.Context) error
}

// commands are all commands, in the order of help. Each leaves its exit code
// in code.
func (p Program) commands(code *int) []command {
	commands := []command{{
		name:    "check",
		operand: "[CLUSTER...]",
		summary: "one check of a cluster: the crontab line, and the main job",
		about:   aboutCheck,
		codes:   codesHelp(),
		flags:   slices.Concat(checkFlags(), helpFlags(), settingFlags()),
		run: func(c *cli.Context) (err error) {
			*code, err = p.check(c)
			return err
		},
	}}
	help := command{
		name:    "help",
		operand: "[COMMAND]",
		summary: "this text, or that of a command",
		flags:   helpFlags(),
	}
	help.run = func(c *cli.Context) error { return p.help(append(commands, help), c.Args().Slice()) }
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
	return append(helpFlags(), flagRow{name: "version", bare: true, help: "the version of this program"})
}

func helpFlags() []flagRow {
	return []flagRow{{name: "help", short: "h", bare: true, help: "this text"}}
}

func checkFlags() []flagRow {
	return []flagRow{
		{name: "dry-run", short: "n", bare: true, help: "change, send and write nothing; show the commands that would run"},
		{name: "json", bare: true, help: "one JSON object for each cluster on stdout, and --quiet"},
		{name: "verbose", short: "v", bare: true, help: "say what is done as it is done, as on a terminal"},
		{name: "quiet", short: "q", bare: true, help: "say only what changed, as without a terminal"},
	}
}

// settingFlags are the flags of the table of settings.
func settingFlags() []flagRow {
	var rows []flagRow
	for _, s := range config.Settings() {
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
// among them: arrange has written them out. Settings stay text, which package
// config parses; KeepSpace keeps the library from trimming it.
func libraryFlags(rows []flagRow) []cli.Flag {
	var flags []cli.Flag
	for _, row := range rows {
		if row.setting {
			flags = append(flags, &cli.StringSliceFlag{Name: row.name, KeepSpace: true})
		} else {
			flags = append(flags, &cli.BoolFlag{Name: row.name})
		}
	}
	return flags
}
