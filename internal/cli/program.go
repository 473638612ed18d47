// Package cli is the command line: the commands, and every text that is
// printed.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/demo"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/internal/term"
	"pingover/state"
)

// Program is the program without its process: the streams and everything else
// that comes from outside.
type Program struct {
	Stdout, Stderr io.Writer
	ASCII          bool // the locale is not UTF-8
	Terminal       bool // Stderr is a terminal
	Live, Color    bool // and can draw a line again, and has colours
	Out            Output
	Stamp          Stamp  // of the lines of a watch, and of a verbose check
	LogSocket      string // of syslog; "" where there is none, or stderr is read by an operator or the journal
	Version        string
	Env            config.Env
	File           string // the configuration file if none is named; "" for none
	// What can be done to a cluster: the functions of package failover by these
	// names, except in tests.
	Check, TakeOver, Release Act
	Pools                    Pools
	// Keep says that checks will be made again and again; end, after the last one,
	// writes what waits for that. Nil: failover.Machine.Keep is not there.
	Keep func() (end func())
	// Alone keeps the process to one processor, or gives it all; nil: it has all.
	Alone func(bool)
	// Deliver sends messages by the mail settings of a cluster, and returns those
	// that were not sent; nil sends none.
	Deliver func(context.Context, config.Cluster, []state.Message) (left []state.Message, err error)
	Demo    func(context.Context, demo.Options) error // demo.Run; the options say what to show
	Examine func(ctx context.Context, c config.Cluster, sendMail bool) []doctor.Finding

	// Hangup makes SIGHUP end nothing, and returns where it arrives instead; nil
	// where it never does.
	Hangup func() <-chan os.Signal

	unprinted *bool  // something could not be printed; set by Run
	rights    string // hint about a missing permission; set by Run
}

// Output is the terminal that Stdout is, zero for none.
type Output struct {
	Columns int
	Rows    int
	Live    bool // it can draw a line again
	Colors  term.Colors
}

// page is the number of columns that its text is broken at.
func (o Output) page() int {
	if o.Columns == 0 {
		return term.Page
	}
	return min(o.Columns, term.Page)
}

// screenful is as much of text as the terminal shows without scrolling.
func (o Output) screenful(text string) string {
	lines := strings.SplitAfter(text, "\n")
	n := len(lines) - 1 // the last is empty: the line of the cursor
	if most := max(1, o.Rows-2); o.Rows > 0 && n > most+1 {
		return strings.Join(lines[:most], "") + fmt.Sprintf("… %d more lines\n", n-most)
	}
	return text
}

// Act is a check of a cluster, or a manual operation.
type Act func(context.Context, config.Cluster, failover.Options) (failover.Report, error)

// Run runs a command line, without the program's own name, and returns the exit
// code, or exit.Interrupted.
func (p Program) Run(ctx context.Context, args []string) (code int) {
	if p.ASCII {
		p.Stderr = term.ASCIIWriter(p.Stderr)
	}
	defer func() {
		if err := proc.RecoveredError(recover()); err != nil {
			errorf(p.Stderr, "%v", err)
			code = exit.Internal
		}
	}()
	p.unprinted = new(bool)
	if !p.Env.Root {
		p.rights = "run it as root: sudo " + proc.Line(append([]string{programName}, args...))
	}
	if p.Env.Checked == nil {
		p.Env.Checked = func(dir, name string) bool { return state.Dir(dir).Checked(name) }
	}
	commands := p.commands()
	line, err := arrange(args, commands)
	if err == nil {
		err = p.runLine(ctx, line, commands, &code)
	}
	if err != nil {
		return p.explain(err)
	}
	return code
}

// runLine hands a command line to urfave/cli. All that the library would print
// or decide by itself is switched off: it prints usage errors to stdout, calls
// os.Exit, takes "help" for a command where it is the name of a cluster, and -v
// for --version. A command leaves its exit code in code.
func (p Program) runLine(ctx context.Context, line []string, commands []command, code *int) error {
	asItIs := func(_ *cli.Context, err error, _ bool) error { return usageError{err.Error(), "see pingover help"} }
	app := &cli.App{
		Name:                      programName,
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Writer:                    p.Stdout,
		ErrWriter:                 p.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              asItIs,
		Flags:                     libraryFlags(rootFlags(), line),
		Action: func(c *cli.Context) error {
			if !c.Bool("version") {
				*code = exit.Usage
				io.WriteString(p.Stderr, rootHelp(commands))
				return nil
			}
			p.print(programName + " " + p.Version + "\n")
			if *p.unprinted {
				*code = exit.Output
			}
			return nil
		},
	}
	for _, command := range commands {
		if len(line) < 2 || command.name != line[1] {
			continue
		}
		app.Commands = append(app.Commands, &cli.Command{
			Name:         command.name,
			HideHelp:     true,
			OnUsageError: asItIs, // not inherited from the app
			Flags:        libraryFlags(command.flags(), line),
			Action: func(c *cli.Context) (err error) {
				*code, err = command.run(c)
				switch {
				case !*p.unprinted || command.acts:
				case c.Bool("monitoring"):
					*code = monitorUnknown
				default:
					*code = exit.Output
				}
				return err
			},
		})
	}
	return app.RunContext(ctx, line)
}

// usageError is an error of the command line itself.
type usageError struct{ text, hint string }

func (e usageError) Error() string { return e.text }

// hinted is an error and what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// explain prints an error, and returns its exit code.
func (p Program) explain(err error) int {
	texts, hint, code := []string{err.Error()}, "", exit.Internal
	switch e := err.(type) {
	case usageError:
		hint, code = e.hint, exit.Usage
	case hinted:
		hint = e.hint
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		texts, code = nil, problems.Code()
		for _, problem := range problems {
			texts = append(texts, problem.Error())
		}
	} else if failed, ok := errors.AsType[*run.Error](err); ok {
		texts[0], hint, code = failed.Text, failed.Hint, failed.Code
		if code == exit.Permission {
			hint = cmp.Or(hint, p.rights)
		}
	} else if code == exit.Internal {
		texts[0] = "internal error: " + texts[0]
	}
	for _, text := range texts {
		errorf(p.Stderr, "%s", text)
	}
	hintf(p.Stderr, hint)
	return code
}
