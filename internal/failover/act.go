package failover

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

const (
	// announceEvery is the time between two announcements of an address.
	// Linux before about 4.11 ignores a second update within one second.
	announceEvery = 1100 * time.Millisecond
	// actPatience is how long another cluster on this machine may take to
	// switch before this one gives up waiting for it.
	actPatience = 15 * time.Second
)

// outcome is what came of a decision.
type result struct {
	state.Outcome
	reason string
	change *state.Change // nil when nothing was switched
}

// act does what was decided. A signal no longer stops it: what is begun is
// finished, within seconds, for half a switch is the worst of all states.
func (r *run) act(ctx context.Context, d state.Decision) result {
	switch {
	case d.Release:
		return r.release(context.WithoutCancel(ctx), d)
	case len(d.Raise) > 0:
		return r.takeOver(ctx, d)
	default:
		return r.stay(ctx, d)
	}
}

// stay changes nothing. What is held is announced once more: switch tables
// and ARP caches age.
func (r *run) stay(ctx context.Context, d state.Decision) result {
	held := r.held()
	if d.Outcome != state.TookOver {
		if d.Announce && r.set.Announce > 0 {
			r.announce(held)
		}
		// A pause leaves an open intent to who finishes it, and tells of it.
		if d.Rule != rulePaused {
			r.rec.Stay(len(held) > 0, r.seen.Primary, time.Now())
		}
		return result{Outcome: d.Outcome, reason: d.Reason}
	}
	// A takeover is finished that a killed run had begun: perhaps it had
	// told nobody yet.
	r.announce(held)
	return r.settle(ctx, d, held, nil)
}

// takeOver raises what the decision names: intent, raise, verify, announce.
// The result is written down by the caller, in one write with its mail.
func (r *run) takeOver(ctx context.Context, d state.Decision) result {
	r.rec.Intend(state.Taking, r.changeOf(d))
	r.save(true)

	r.announce(r.held())
	act := context.WithoutCancel(ctx)
	var raised []netip.Addr
	var failed []string
	raise := func() {
		unlock, err := r.lockActs(act)
		if err != nil {
			failed = append(failed, err.Error())
			return
		}
		defer unlock()
		for _, a := range r.ground.aliases {
			addr := a.Prefix.Addr()
			if !slices.Contains(d.Raise, addr) {
				continue
			}
			label, ran, err := r.Tool.Raise(act, a)
			r.ran(ran)
			if err != nil {
				failed = append(failed, err.Error())
				continue
			}
			r.raised(addr, a.Interface, label)
			r.announce([]netip.Addr{addr})
			raised = append(raised, addr)
		}
	}
	raise()
	r.again()
	if len(raised) > 0 {
		return r.settle(ctx, d, raised, failed)
	}
	change := r.changeOf(d)
	change.Outcome = state.TakeoverFailed
	change.Reason += "; but " + strings.Join(failed, "; ")
	role := state.Standby
	if r.holding() {
		role = state.Active
	}
	return result{state.TakeoverFailed, change.Reason, r.rec.Switched(role, change)}
}

// settle announces what was raised until the clients must have heard it, and
// listens meanwhile for a rival: another standby that raised it in the same
// moment gives way, or we do.
func (r *run) settle(ctx context.Context, d state.Decision, raised []netip.Addr, failed []string) result {
	change := r.changeOf(d)
	if pending := r.rec.Pending; pending != nil {
		change.Event = pending.Event
		if len(d.Raise) == 0 { // all of it was raised by a run that was killed
			change.Reason = pending.Reason + "; a takeover that was interrupted is finished"
			change.Evidence = pending.Evidence
		}
	}
	if rival := r.announceOn(ctx, raised); rival != (state.Holder{}) {
		change.Outcome = state.Blocked
		change.Reason = fmt.Sprintf("%s was taken, but %s has it as well: it is given up here", rival.Address, rival.MAC)
		if err := r.lower(context.WithoutCancel(ctx), raised); err != nil {
			change.Outcome = state.ReleaseFailed
			change.Reason += "; " + err.Error()
			return result{change.Outcome, change.Reason, r.failRelease(change)}
		}
		r.announceOthers(raised)
		role := state.Standby
		if r.holding() {
			role = state.Active
		}
		return result{change.Outcome, change.Reason, r.rec.Switched(role, change)}
	}
	change.Outcome = d.Outcome
	if len(failed) > 0 {
		change.Outcome = state.TakeoverFailed
		change.Reason += "; but " + strings.Join(failed, "; ")
	}
	r.markRaised()
	return result{change.Outcome, change.Reason, r.rec.Switched(state.Active, change)}
}

// release gives up all that is here.
func (r *run) release(ctx context.Context, d state.Decision) result {
	change := r.changeOf(d)
	r.rec.Intend(state.Releasing, change)
	change.Event = r.rec.Pending.Event
	r.save(true)
	held := r.held()
	if err := r.lower(ctx, held); err != nil {
		change.Outcome = state.ReleaseFailed
		change.Reason += "; but " + err.Error()
		return result{change.Outcome, change.Reason, r.failRelease(change)}
	}
	r.announceOthers(held)
	return result{change.Outcome, change.Reason, r.rec.Switched(state.Standby, change)}
}

// failRelease leaves the intent to release open: the next run goes on.
func (r *run) failRelease(change state.Change) *state.Change {
	r.rec.Intend(state.Releasing, change)
	return r.rec.Remember(change)
}

func (r *run) lower(ctx context.Context, addrs []netip.Addr) error {
	unlock, err := r.lockActs(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var failed []string
	for _, a := range addrs {
		ran, err := r.Tool.Lower(ctx, a)
		r.ran(ran)
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		r.lowered = append(r.lowered, a)
		for i := range r.rec.VIPs {
			if r.rec.VIPs[i].Prefix.Addr() == a {
				r.rec.VIPs[i].Raised, r.rec.VIPs[i].Label = false, ""
			}
		}
	}
	r.again()
	if len(failed) > 0 {
		return fmt.Errorf("%s", strings.Join(failed, "; "))
	}
	return nil
}

func (r *run) lockActs(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, actPatience)
	defer cancel()
	return r.dir.LockActs(ctx)
}

// announce tells the clients once that the addresses are here.
func (r *run) announce(addrs []netip.Addr) {
	for _, a := range addrs {
		r.announceAt(a, nil)
	}
}

// announceOthers tells the clients who has what was given up here, on behalf
// of those who were heard to have it: a machine that boots does not say so
// itself, and half a minute would pass before the clients ask again.
func (r *run) announceOthers(addrs []netip.Addr) {
	var others []vip.Heard
	for _, a := range addrs {
		if heard, ok := r.claimant(a); ok {
			others = append(others, heard)
		}
	}
	if len(others) == 0 {
		return
	}
	for n := range r.set.Announce {
		if n > 0 {
			time.Sleep(announceEvery)
		}
		for _, o := range others {
			r.announceAt(o.Address, o.MAC)
		}
	}
}

// announceAt tells the clients once that the address is at that MAC; nil is
// ours.
func (r *run) announceAt(a netip.Addr, mac net.HardwareAddr) {
	e, ok := r.ears[r.linkOf(a)]
	if !ok || r.set.Announce == 0 {
		return
	}
	if mac == nil {
		mac = e.link.MAC
	}
	if err := e.Announce(a, mac); err != nil {
		r.note("%s could not be announced on %s: %v; clients may take a minute to find it", a, e.link.Name, err)
		return
	}
	r.tell(Announced{Address: a, Interface: e.link.Name, MAC: mac.String()})
}

// announceOn repeats the first announcement until there were as many as the
// setting says, asking each time who else is there. It returns the rival to
// whom this machine must give way, if there is one. A signal ends it early.
func (r *run) announceOn(ctx context.Context, addrs []netip.Addr) (rival state.Holder) {
	for left := r.set.Announce - 1; ; left-- {
		since := time.Now()
		r.askHeld()
		r.await(ctx, announceEvery, func() bool { rival, _ := r.rival(since); return rival.MAC != "" })
		rival, lower := r.rival(since)
		outwaited := rival.MAC != "" && !lower
		if outwaited {
			rival = r.outwait(context.WithoutCancel(ctx), rival)
		}
		over := left <= 0 || ctx.Err() != nil
		if rival.MAC != "" || over && !outwaited {
			return rival
		}
		r.announce(addrs) // who has gone may have told the clients otherwise
		if over {
			return state.Holder{}
		}
	}
}

// linkOf is the interface where an address is, or is to be.
func (r *run) linkOf(a netip.Addr) string {
	if places := r.ground.kernel.Places(a); len(places) > 0 {
		return places[0].Interface
	}
	for _, alias := range r.ground.aliases {
		if alias.Prefix.Addr() == a {
			return alias.Interface
		}
	}
	return ""
}

func (r *run) changeOf(d state.Decision) state.Change {
	return state.Change{
		Event: state.NewEvent(r.began), Time: time.Now().UTC().Truncate(time.Second), Outcome: d.Outcome,
		Reason: d.Reason, Evidence: r.evidence,
	}
}

// raised and markRaised write down what is here because of us.
func (r *run) raised(a netip.Addr, link, label string) {
	for i := range r.rec.VIPs {
		if r.rec.VIPs[i].Prefix.Addr() == a {
			r.rec.VIPs[i] = state.Alias{Prefix: r.rec.VIPs[i].Prefix, Interface: link, Label: label, Raised: true}
		}
	}
}

func (r *run) markRaised() {
	for _, a := range r.held() {
		place := r.ground.kernel.Places(a)[0]
		r.raised(a, place.Interface, place.Address.Label)
	}
}

// ran puts commands into the evidence, and shows them.
func (r *run) ran(results []proc.Result) {
	for _, p := range results {
		c := state.Command{Argv: p.Argv, Code: &p.Code}
		if p.Err != nil {
			c.Output = p.Output
		}
		r.evidence.Commands = append(r.evidence.Commands, c)
		r.tell(Ran{Command: c})
	}
}

// rehearse shows the exact commands that the decision would run.
func (r *run) rehearse(d state.Decision) {
	plans := r.raisePlans(func(a netip.Addr) bool { return slices.Contains(d.Raise, a) })
	if d.Release {
		plans = append(plans, r.lowerPlans()...)
	}
	for _, argv := range plans {
		c := state.Command{Argv: argv}
		r.evidence.Commands = append(r.evidence.Commands, c)
		r.tell(Ran{Command: c, DryRun: true})
	}
}

// raisePlans are the commands that would raise the virtual IPs that are
// wanted and not here. Each is planned as if those before it stood already.
func (r *run) raisePlans(wanted func(netip.Addr) bool) (plans [][]string) {
	k := &vip.Kernel{Links: slices.Clone(r.ground.kernel.Links)}
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
		k.Links[i].Addresses = append(slices.Clone(k.Links[i].Addresses), vip.Address{Prefix: a.Prefix, Label: label})
	}
	return plans
}

// lowerPlans are the commands that would remove the virtual IPs that are here.
func (r *run) lowerPlans() (plans [][]string) {
	for _, a := range r.ground.aliases {
		argvs, err := r.Tool.LowerPlan(r.ground.kernel, a.Prefix.Addr())
		if err != nil {
			r.note("%v", err)
		}
		plans = append(plans, argvs...)
	}
	return plans
}
