package doctor

import (
	"errors"

	"pingover/internal/proc"
)

// hooks are the operator's commands, those of services too: can they be run, and
// who can change them?
func (x *examination) hooks() {
	type command struct {
		name string
		argv []string
	}
	commands := []command{
		{"pre-takeover", x.set.Hooks.PreTakeover},
		{"post-takeover", x.set.Hooks.PostTakeover},
		{"pre-release", x.set.Hooks.PreRelease},
		{"post-release", x.set.Hooks.PostRelease},
	}
	for _, s := range x.set.Services {
		commands = append(commands, command{"service", s.Argv})
	}
	for _, hook := range commands {
		if hook.argv == nil {
			continue
		}
		path, err := proc.Runnable(hook.argv)
		if err != nil {
			x.fail("fix that, or set another command", "%s: %v", hook.name, err)
			continue
		}
		exposed, err := proc.WritableByOthers(path, nil)
		switch {
		case !x.trusted(hook.name, hook.argv):
		case err != nil:
			x.warn("fix that, or set another command", "%s: its owner is unknown: %v", hook.name, err)
		case len(exposed) > 0:
			x.warn(exposed[0].Fix, "%s: %s, and it runs with the rights of this process", hook.name, exposed[0])
		default:
			x.good("%s: %s", hook.name, proc.Line(hook.argv))
		}
	}
}

// trusted tells whether root runs the program of a setting.
func (x *subject) trusted(setting string, argv []string) bool {
	untrusted, refused := errors.AsType[*proc.UntrustedError](x.mayRun(argv))
	if refused {
		x.fail("after reviewing it: "+untrusted.Fix, "%s: %v", setting, untrusted)
	}
	return !refused
}
