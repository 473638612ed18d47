package failover

import (
	"net/netip"
	"slices"

	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// dryRun is the exact commands that the decision would run, hooks included. Those
// of a manual command are shown although it would be blocked now, or although
// there is nothing to release: a dry run is for the time when all is well.
func dryRun(j *job, l Local, aliases []state.Alias, d state.Decision) (commands []state.Command) {
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
	release := func(s *vip.Snapshot) {
		hook(preRelease)
		run(lowerPlans(j, l, s))
		hook(state.PostRelease)
	}
	missing := d.Raise
	if j.mode == modeTakeOver {
		missing = slices.DeleteFunc(j.vips(), func(a netip.Addr) bool { return l.holds(a) || l.cannotTake(a) != "" })
	}
	switch {
	case len(missing) > 0:
		hook(preTakeover)
		plans, _ := raisePlans(j, l, func(a netip.Addr) bool { return slices.Contains(missing, a) })
		run(plans)
		hook(state.PostTakeover)
	case d.Release:
		release(l.Snapshot)
	case j.mode == modeRelease:
		_, as := raisePlans(j, l, func(netip.Addr) bool { return true })
		release(as)
	case l.holding(j):
		run(renewPlans(j, l, aliases))
	}
	return commands
}

// raisePlans are the commands that would assign the virtual IPs that are wanted
// and not here, and the snapshot as it would be then. Each is planned as if those
// before it were assigned already.
func raisePlans(j *job, l Local, wanted func(netip.Addr) bool) (plans [][]string, then *vip.Snapshot) {
	s := &vip.Snapshot{Links: slices.Clone(l.Snapshot.Links)}
	for _, a := range l.Aliases {
		if !wanted(a.Prefix.Addr()) || l.cannotTake(a.Prefix.Addr()) != "" {
			continue
		}
		argv, err := j.Tool.RaisePlan(s, a)
		if err != nil {
			j.Infof("%v", err)
			continue
		}
		if len(argv) == 0 {
			continue
		}
		plans = append(plans, argv)
		i := slices.IndexFunc(s.Links, func(l vip.Link) bool { return l.Name == a.Interface })
		label := a.Label
		if label == "" {
			label, _ = vip.FreeLabel(s, a.Interface)
		}
		s.Links[i].Addresses = append(slices.Clone(s.Links[i].Addresses), vip.Address{Prefix: a.Prefix, Label: label, Lease: a.Lease})
	}
	return plans, s
}

// lowerPlans are the commands that would remove the virtual IPs that are in the
// snapshot.
func lowerPlans(j *job, l Local, s *vip.Snapshot) (plans [][]string) {
	for _, a := range l.Aliases {
		argvs, err := j.Tool.LowerPlan(s, a.Prefix.Addr(), l.added[a.Prefix.Addr()]...)
		if err != nil {
			j.Infof("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}

// renewPlans are the commands that would renew the lease of what is here.
func renewPlans(j *job, l Local, aliases []state.Alias) (plans [][]string) {
	for _, a := range leases(j, l, aliases, l.held(j)) {
		argvs, err := j.Tool.RenewPlan(l.Snapshot, a)
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
