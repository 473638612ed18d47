package failover

import (
	"net/netip"
	"slices"

	"pingover/state"
	"pingover/vip"
)

// rehearse shows the exact commands that the decision would run, hooks
// included. What is done by hand is shown although it would be refused now, or
// although there is nothing to release: a dry run is for the time when all is
// well.
func (r *run) rehearse(d state.Decision) {
	missing := d.Raise
	if r.typed == typedTakeover {
		missing = slices.DeleteFunc(r.vips(), r.ground.kernel.Holds)
	}
	switch {
	case len(missing) > 0:
		r.wouldRunHook(preTakeover)
		plans, _ := r.raisePlans(func(a netip.Addr) bool { return slices.Contains(missing, a) })
		r.wouldRun(plans...)
		r.wouldRunHook(state.PostTakeover)
	case d.Release:
		r.wouldRelease(r.ground.kernel)
	case r.typed == typedRelease:
		_, as := r.raisePlans(func(netip.Addr) bool { return true })
		r.wouldRelease(as)
	case r.holding():
		r.wouldRun(r.renewPlans()...)
	}
}

func (r *run) wouldRelease(k *vip.Snapshot) {
	r.wouldRunHook(preRelease)
	r.wouldRun(r.lowerPlans(k)...)
	r.wouldRunHook(state.PostRelease)
}

func (r *run) wouldRun(plans ...[]string) {
	for _, argv := range plans {
		r.show(state.Command{Argv: argv})
	}
}

func (r *run) wouldRunHook(name string) {
	if argv := r.hookOf(name); argv != nil {
		r.show(state.Command{Argv: argv, Hook: name})
	}
}

func (r *run) show(c state.Command) {
	r.evidence.Commands = append(r.evidence.Commands, c)
	r.tell(Ran{Command: c, DryRun: true})
}

// raisePlans are the commands that would raise the virtual IPs that are
// wanted and not here, and the kernel as it would be then. Each is planned as
// if those before it stood already.
func (r *run) raisePlans(wanted func(netip.Addr) bool) (plans [][]string, then *vip.Snapshot) {
	k := &vip.Snapshot{Links: slices.Clone(r.ground.kernel.Links)}
	for _, a := range r.ground.aliases {
		if !wanted(a.Prefix.Addr()) {
			continue
		}
		argv, err := r.Tool.RaisePlan(k, a)
		if err != nil {
			r.note("%v", err)
			continue
		}
		if len(argv) == 0 {
			continue
		}
		plans = append(plans, argv)
		i := slices.IndexFunc(k.Links, func(l vip.Link) bool { return l.Name == a.Interface })
		label := a.Label
		if label == "" {
			label, _ = vip.FreeLabel(k, a.Interface)
		}
		k.Links[i].Addresses = append(slices.Clone(k.Links[i].Addresses), vip.Address{Prefix: a.Prefix, Label: label, Lease: a.Lease})
	}
	return plans, k
}

// lowerPlans are the commands that would remove the virtual IPs that are
// there.
func (r *run) lowerPlans(k *vip.Snapshot) (plans [][]string) {
	for _, a := range r.ground.aliases {
		argvs, err := r.Tool.LowerPlan(k, a.Prefix.Addr())
		if err != nil {
			r.note("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}

// renewPlans are the commands that would renew the lease of what is here.
func (r *run) renewPlans() (plans [][]string) {
	for _, a := range r.leases(r.held()) {
		argvs, err := r.Tool.RenewPlan(r.ground.kernel, a)
		if err != nil {
			r.note("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}
