// Package cli is the command line: the commands, and every text that is
// printed.
package cli

import (
	"context"
	"errors"
	"io"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
)

// Exit codes that are no outcome of a check, after sysexits.h.
const (
	codeUsage      = 64 // EX_USAGE: the command line
	codeBug        = 70 // EX_SOFTWARE
	codeOutput     = 74 // EX_IOERR: what was asked for could not be printed
	codeBusy       = 75 // EX_TEMPFAIL: another run holds the lock
	codePermission = 77 // EX_NOPERM
	codeSettings   = 78 // EX_CONFIG: the settings, or where they stand
)

// Interrupted is what Run returns instead of an exit code when the end of its
// context kept it from doing what it was asked for, or for some cluster: the
// process must die of the signal that it was, and whoever sent it sees that it
// was obeyed.
const Interrupted = -1

// Program is the program but for its process: the streams and what else comes
// from outside.
type Program struct {
	Stdout, Stderr io.Writer
	Terminal       bool // Stderr is a terminal
	Live, Color    bool // which can redraw a line, and has colours
	Version        string
	Env            config.Env
	File           string // the configuration file where none is named; "" for none
	// What is done to a cluster: the functions of package failover by these
	// names, but for tests.
	Check, TakeOver, Release Act
	Demo                     func(context.Context) error // shows demo.Run
	Examine                  func(ctx context.Context, c config.Cluster, sendMail bool) []failover.Finding

	unprinted *bool // something could not be printed; set by Run
}

// Act is a check of a cluster, or what is done to it by hand.
type Act func(context.Context, config.Cluster, failover.Options) (failover.Report, error)

// Run obeys a command line, which begins behind the program's own name, and
// returns the exit code.
func (p Program) Run(ctx context.Context, args []string) (code int) {
	defer func() {
		if bug := failover.RecoveredError(recover()); bug != nil {
			complain(p.Stderr, bug.Error())
			code = codeBug
		}
	}()
	p.unprinted = new(bool)
	commands := p.commands()
	line, err := arrange(args, commands)
	if err == nil {
		err = p.app(commands, &code).RunContext(ctx, line)
	}
	if err != nil {
		return p.explain(err)
	}
	return code
}

// app hands the command line to urfave/cli. All that the library would print
// or decide by itself is switched off: it prints usage errors to stdout, calls
// os.Exit, takes "help" for a command where a cluster is called that, and -v
// for --version. A command leaves its exit code in code.
func (p Program) app(commands []command, code *int) *cli.App {
	app := &cli.App{
		Name:                      programName,
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Writer:                    p.Stdout,
		ErrWriter:                 p.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageErrorAsItIs,
		Flags:                     libraryFlags(rootFlags()),
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				p.print(programName + " " + p.Version + "\n")
				if *p.unprinted {
					*code = codeOutput
				}
				return nil
			}
			return usageError{"a command is missing", "see pingover help"}
		},
	}
	for _, command := range commands {
		app.Commands = append(app.Commands, &cli.Command{
			Name:         command.name,
			HideHelp:     true,
			OnUsageError: usageErrorAsItIs, // not inherited from the app
			Flags:        libraryFlags(command.flags),
			Action: func(c *cli.Context) (err error) {
				*code, err = command.run(c)
				if *p.unprinted {
					*code = command.unprinted(c, *code)
				}
				return err
			},
		})
	}
	return app
}

func usageErrorAsItIs(_ *cli.Context, err error, _ bool) error {
	return usageError{err.Error(), "see pingover help"}
}

// usageError is something wrong with the command line itself.
type usageError struct{ text, hint string }

func (e usageError) Error() string { return e.text }

// hinted is an error and what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// explain says what went wrong, and returns its exit code.
func (p Program) explain(err error) int {
	if usage, ok := errors.AsType[usageError](err); ok {
		complain(p.Stderr, usage.text)
		advise(p.Stderr, usage.hint)
		return codeUsage
	}
	if problems, ok := errors.AsType[config.Problems](err); ok {
		for _, problem := range problems {
			complain(p.Stderr, problem.Error())
		}
		if h, ok := errors.AsType[hinted](err); ok {
			advise(p.Stderr, h.hint)
		}
		return problems.Code()
	}
	if refused, ok := errors.AsType[*failover.Error](err); ok {
		complain(p.Stderr, refused.Text)
		advise(p.Stderr, refused.Hint)
		return refused.Code
	}
	complain(p.Stderr, "a bug: "+err.Error())
	return codeBug
}
