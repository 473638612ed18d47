package failover

import (
	"pingover/internal/proc"
	"pingover/state"
)

// examineHooks looks whether the operator's commands can be run, and who may
// change them.
func (e *examination) examineHooks() {
	for _, name := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		argv := e.hookOf(name)
		if argv == nil {
			continue
		}
		path, err := proc.Runnable(argv)
		if err != nil {
			e.fail("mend that, or give another command", "%s: %v", name, err)
			continue
		}
		if open, _ := proc.WritableByOthers(path, nil); len(open) > 0 {
			e.warn(open[0].Fix, "%s: %s, and what is in it is run with this process's rights", name, open[0])
			continue
		}
		e.good("%s: %s", name, proc.Line(argv))
	}
}
