package failover

import (
	"net/netip"
	"slices"

	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// dryRun is the exact commands that the decision would run, hooks included. Those
// of a manual command are shown although it would be blocked now: a dry run is for
// the time when all is well.
func dryRun(j *job, l observe.Local, aliases []state.Alias, d state.Decision) (commands []state.Command) {
	hook := func(name string) {
		if argv := j.hookOf(name); argv != nil {
			commands = append(commands, state.Command{Argv: argv, Hook: name})
		}
	}
	run := func(plans [][]string) {
		for _, argv := range plans {
			commands = append(commands, state.Command{Argv: argv})
		}
	}
	missing := d.Raise
	if j.mode == modeTakeOver {
		missing = slices.DeleteFunc(l.Addresses(), func(a netip.Addr) bool { return l.Holds(a) || l.CannotTake(a) != "" })
	}
	switch {
	case len(missing) > 0:
		hook(preTakeover)
		plans := l.RaisePlans(j.Job, func(a netip.Addr) bool { return slices.Contains(missing, a) })
		run(plans)
		hook(state.PostTakeover)
	case d.Release, j.mode == modeRelease && l.Holding():
		hook(preRelease)
		run(lowerPlans(j, l, l.Snapshot))
		hook(state.PostRelease)
	case l.Holding():
		run(renewPlans(j, l, aliases))
	}
	return commands
}

// lowerPlans are the commands that would remove the virtual IPs that are in the
// snapshot.
func lowerPlans(j *job, l observe.Local, s *vip.Snapshot) (plans [][]string) {
	for _, a := range l.Aliases {
		argvs, err := j.env.Tool.LowerPlan(s, a.Address(), l.AddedOn(a.Address())...)
		if err != nil {
			j.Infof("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}

// renewPlans are the commands that would renew the lease of what is here.
func renewPlans(j *job, l observe.Local, aliases []state.Alias) (plans [][]string) {
	for _, a := range j.hold.Due(l, aliases, l.Held()) {
		a.Lease = j.Set.Lifetime()
		argvs, err := j.env.Tool.RenewPlan(l.Snapshot, a)
		if err != nil {
			j.Infof("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}

// lines are commands as one would type them.
func lines(plans [][]string) (lines []string) {
	for _, argv := range plans {
		lines = append(lines, proc.Line(argv))
	}
	return lines
}
