package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
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
	// freshFor is how old what was seen may be when an address is raised; after
	// that, as when another cluster was long at it, the disk was slow or this
	// machine slept, it is looked at once more, so many times.
	freshFor   = 3 * time.Second
	looksAgain = 3
)

// outcome is what came of a decision.
type result struct {
	state.Outcome
	reason string
	change *state.Change // nil when nothing was switched
	rule   int           // by which nothing was switched, where that is another than was decided at first
}

// act does what was decided. A signal no longer stops it: what is begun is
// finished, for half a switch is the worst of all states; only announcements
// that the next run makes as well are left to that.
func (r *run) act(ctx context.Context, d state.Decision) result {
	if r.opt.Finish {
		ctx = context.WithoutCancel(ctx)
	}
	switch {
	case d.Release:
		return r.release(ctx, d)
	case len(d.Raise) > 0:
		return r.takeOver(ctx, d)
	default:
		return r.stay(ctx, d)
	}
}

// stay changes nothing. What is held is announced once more, for switch tables
// and ARP caches age, and its lease is renewed.
func (r *run) stay(ctx context.Context, d state.Decision) result {
	held := r.held()
	r.renew(context.WithoutCancel(ctx), held)
	if d.Outcome != state.TookOver {
		if d.Announce && r.set.Announce > 0 {
			r.announce(held)
		}
		// A pause leaves an open intent to who finishes it, and tells of it, and
		// what is done by hand leaves it to the next check.
		if d.Rule != rulePaused && d.Rule != ruleUnfinished && d.Rule != 0 {
			r.rec.KeepRole(len(held) > 0, r.seen.Primary, time.Now())
		}
		return result{Outcome: d.Outcome, reason: d.Reason, rule: d.Rule}
	}
	// A takeover is finished that a killed run had begun: perhaps it had
	// told nobody yet.
	r.announce(held)
	return r.settle(ctx, d, held, nil)
}

// takeOver raises what the decision names: intent, the last word of
// pre-takeover, raise, verify, announce. The result is written down by the
// caller, in one write with its mail.
func (r *run) takeOver(ctx context.Context, d state.Decision) result {
	before := *r.rec
	opened := r.rec.Role != state.Taking
	r.rec.Intend(state.Taking, r.changeOf(d))
	r.save(true)
	r.acting.Store(true)
	withdraw := func() {
		switch {
		case opened && len(before.Offered) > 0: // by hand, over a hand-over that was interrupted: that is still open
			r.rec.Reopen(before)
		case opened:
			r.rec.Withdraw(time.Now())
		}
	}
	act := context.WithoutCancel(ctx)
	again := r.agree(act, d)
	if len(again.Raise) == 0 {
		withdraw()
		return r.stay(ctx, again)
	}

	r.announce(r.held())
	r.renew(act, r.held())
	raised, failed := r.raise(act, func() []netip.Addr {
		again = r.judge()
		return again.Raise
	})
	switch {
	case len(raised) > 0:
		return r.settle(ctx, d, raised, failed)
	case len(again.Raise) == 0: // it was seen otherwise, when it was this run's turn
		withdraw()
		return r.stay(ctx, again)
	}
	change := r.changeOf(d)
	change.Outcome = state.TakeoverFailed
	change.Reason += "; but " + strings.Join(failed, "; ")
	if opened && len(before.Offered) > 0 {
		withdraw()
		return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.AddChange(change)}
	}
	role := state.Standby
	if r.holding() {
		role = state.Active
	}
	return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(role, change)}
}

// agree is the last word before anything is raised: that of pre-takeover,
// which is the place for fencing; where that took long, that of the primary and
// the virtual IPs, once more; and that of the operator, who may have paused the
// cluster meanwhile. It returns the decision as it stands then. A signal does not
// end the hook: it may have cut the primary's power already.
func (r *run) agree(ctx context.Context, d state.Decision) state.Decision {
	took, err := r.hook(ctx, preTakeover, d.Reason)
	if err == nil && took > slowHook {
		r.askAgain(ctx, r.mayTake())
	}
	if err != nil {
		refused := state.Decision{Rule: d.Rule, Outcome: state.Blocked, Announce: d.Announce, Reason: fmt.Sprintf("%s; but pre-takeover refuses: %v", d.Reason, err)}
		if r.holding() {
			refused.Outcome = state.TakeoverFailed
		}
		return refused
	}
	return r.judge()
}

// raise raises addresses, and announces each at once. It returns those that
// stand, and why others do not. Which, is asked last, when nothing is waited for
// any more: what was seen is fresh then, and a pause is respected.
func (r *run) raise(ctx context.Context, which func() []netip.Addr) (raised []netip.Addr, failed []string) {
	r.doing("waiting for its turn to raise")
	addrs, unlock, err := r.turn(ctx, which)
	if err != nil {
		return nil, []string{err.Error()}
	}
	defer r.again()
	defer unlock()
	r.doing("raising " + addressList(addrs))
	for _, a := range r.ground.aliases {
		addr := a.Prefix.Addr()
		if !slices.Contains(addrs, addr) {
			continue
		}
		label, ran, err := r.Tool.Raise(ctx, a)
		r.ran(ran)
		r.moved = r.moved || len(ran) > 0
		if err != nil {
			failed = append(failed, err.Error())
			if kernel, e := r.Snapshot(); e != nil || !kernel.Holds(addr) {
				continue
			}
			label = "" // it stands all the same: another address has gone by it, or meanwhile
		}
		r.raised(addr, a.Interface, label)
		r.leased(addr)
		r.announce([]netip.Addr{addr})
		raised = append(raised, addr)
	}
	return raised, failed
}

// turn waits until this run may raise, and has seen what it goes by a moment
// ago.
func (r *run) turn(ctx context.Context, which func() []netip.Addr) (addrs []netip.Addr, unlock func(), err error) {
	for range looksAgain {
		if unlock, err = r.lockActs(ctx, r.Tool.Exclusive()); err != nil {
			return nil, nil, err
		}
		if !r.stale() {
			addrs = which()
		}
		switch { // it may have hung at either
		case r.abandoned.Load():
			unlock()
			return nil, nil, errors.New("this run was given up meanwhile")
		case !r.stale():
			return addrs, unlock, nil
		}
		unlock()
		r.askAgain(ctx, r.mayTake())
	}
	return nil, nil, fmt.Errorf("other clusters on this machine are switching: what was seen was older than %s each time it was this one's turn", freshFor)
}

// stale says whether what was seen is too old to act upon, also by the clock
// on the wall: the other one stands still while the machine sleeps.
func (r *run) stale() bool {
	return max(time.Since(r.looked), time.Now().Round(0).Sub(r.looked.Round(0))) > freshFor
}

// settle announces what was raised until the clients must have heard it, and
// listens meanwhile for a rival: another standby that raised it in the same
// moment gives way, or we do.
func (r *run) settle(ctx context.Context, d state.Decision, raised []netip.Addr, failed []string) result {
	change := r.changeOf(d)
	if pending := r.rec.Pending; pending != nil {
		change.Event, change.Manual = pending.Event, change.Manual || pending.Manual
		if len(d.Raise) == 0 { // all of it was raised by a run that was killed
			change.Reason = pending.Reason + "; a takeover that was interrupted is finished"
			change.Evidence = pending.Evidence
		}
	}
	if rival, outwaited := r.announceOn(ctx, raised); rival != (state.Holder{}) {
		change.Outcome = state.Blocked
		change.Reason = fmt.Sprintf("%s was taken, but %s has it as well: it is given up here", rival.Address, rival.MAC)
		r.rec.Intend(state.Releasing, change)
		if outwaited {
			r.rec.Offered = raised
		}
		r.save(true)
		if err := r.lower(context.WithoutCancel(ctx), raised); err != nil {
			change.Outcome = state.ReleaseFailed
			change.Reason += "; " + err.Error()
			return result{Outcome: change.Outcome, reason: change.Reason, change: r.failRelease(change)}
		}
		if outwaited {
			// It may have given way in the same moment as we did.
			act := context.WithoutCancel(ctx)
			left, err := r.giveWay(act, raised, rivalGone)
			switch {
			case err != nil:
				change.Reason += "; but whether somebody has it now cannot be asked: " + err.Error()
			case len(left) == len(raised):
				again, failed := r.raise(act, func() []netip.Addr { return r.unclaimed(left) })
				if len(again) > 0 {
					return r.keep(d, change, failed)
				}
				if len(failed) > 0 {
					change.Reason += "; but nobody has it now, and it could not be raised here again: " + strings.Join(failed, "; ")
				}
			}
		}
		r.announceOthers(raised)
		role := state.Standby
		if r.holding() {
			role = state.Active
		}
		return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(role, change)}
	}
	return r.keep(d, change, failed)
}

// keep ends a takeover that stands.
func (r *run) keep(d state.Decision, change state.Change, failed []string) result {
	change.Outcome = d.Outcome
	if len(failed) > 0 {
		change.Outcome = state.TakeoverFailed
		change.Reason += "; but " + strings.Join(failed, "; ")
	}
	r.markRaised()
	return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(state.Active, change)}
}

// release gives up all that is here. Where it is handed over, what nobody
// takes is raised again.
func (r *run) release(ctx context.Context, d state.Decision) result {
	change := r.changeOf(d)
	given := r.held()
	if offered := r.rec.Offered; len(offered) > 0 { // by a run that was killed, perhaps when it had lowered it
		given = slices.DeleteFunc(r.vips(), func(a netip.Addr) bool { return !slices.Contains(offered, a) && !slices.Contains(given, a) })
	}
	opened := r.rec.Role != state.Releasing
	r.rec.Intend(state.Releasing, change)
	r.rec.Offered = nil
	if d.HandOver {
		r.rec.Offered = given
	}
	change.Event, change.Manual = r.rec.Pending.Event, change.Manual || r.rec.Pending.Manual
	r.rec.Pending.Manual = change.Manual
	r.save(true)
	if opened && r.unsaid != nil && (d.Rule == ruleIsolated || d.Rule == ruleFailback) {
		// It would be done again by each run, for none could remember it.
		r.rec.Withdraw(time.Now())
		d.Outcome, d.Reason = state.Holding, d.Reason+"; but "+r.unsaid.Error()+": kept"
		return r.stay(ctx, d)
	}
	r.acting.Store(true)
	took, _ := r.hook(ctx, preRelease, d.Reason)
	act := context.WithoutCancel(ctx)
	if opened && took > slowHook && d.Rule == ruleRival {
		// It may have let go itself meanwhile: then nobody would have it.
		r.since = time.Now()
		r.seen.Conflict = r.stillThere(act)
	}
	if again := r.judge(); opened && !again.Release {
		r.rec.Withdraw(time.Now())
		if r.hookOf(preRelease) != nil { // it may have stopped what has to go on
			r.rec.SetPendingHook(state.PostTakeover, change)
		}
		return r.stay(ctx, again)
	}
	if err := r.lower(act, r.held()); err != nil {
		change.Outcome = state.ReleaseFailed
		change.Reason += "; but " + err.Error()
		return result{Outcome: change.Outcome, reason: change.Reason, change: r.failRelease(change)}
	}
	if d.HandOver {
		return r.handOver(act, d, change, given)
	}
	r.announceOthers(given)
	return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(state.Standby, change)}
}

// failRelease leaves the intent to release open: the next run goes on.
func (r *run) failRelease(change state.Change) *state.Change {
	offered := r.rec.Offered
	r.rec.Intend(state.Releasing, change)
	r.rec.Offered = offered
	return r.rec.AddChange(change)
}

// renew gives what is here because of us, or what has a lease, the lease that
// the settings say.
func (r *run) renew(ctx context.Context, addrs []netip.Addr) {
	for _, a := range r.leases(addrs) {
		ran, err := r.Tool.Renew(ctx, a)
		r.ran(ran)
		if err != nil {
			r.shout("the lease of %s could not be renewed: %v", a.Prefix.Addr(), err)
			continue
		}
		r.leased(a.Prefix.Addr())
	}
}

// keeping renews the lease of what is held for as long as work takes: a hook or
// a mail server may take longer than the lease.
func (r *run) keeping(work func()) {
	held := r.held()
	aliases := r.leases(held)
	if len(aliases) == 0 || r.set.Lease == 0 {
		work()
		return
	}
	ctx, end := context.WithCancel(context.Background())
	var renewals sync.WaitGroup
	renewals.Go(func() {
		for sleep(ctx, r.set.Lease/3) {
			for _, a := range aliases {
				_, _ = r.Tool.Renew(ctx, a) // what fails here, the next run says
			}
		}
	})
	began := time.Now()
	work()
	end()
	renewals.Wait()
	if time.Since(began) > r.set.Lease/3 {
		for _, a := range held {
			r.leased(a)
		}
	}
}

// leases are the aliases among addrs whose lease is ours to renew: what we have
// raised, and what has one already.
func (r *run) leases(addrs []netip.Addr) (aliases []vip.Alias) {
	for _, a := range addrs {
		place := r.ground.kernel.Assignments(a)[0]
		if place.Address.Lease > 0 || r.set.Lease > 0 && r.isRaised(a) {
			aliases = append(aliases, vip.Alias{Prefix: place.Address.Prefix, Interface: place.Interface, Label: place.Address.Label, Lease: r.set.Lease})
		}
	}
	return aliases
}

func (r *run) isRaised(a netip.Addr) bool {
	return slices.ContainsFunc(r.rec.VIPs, func(k state.Alias) bool { return k.Prefix.Addr() == a && k.Raised })
}

// leased writes down when the lease that was just given to an address ends.
func (r *run) leased(a netip.Addr) {
	for i := range r.rec.VIPs {
		if r.rec.VIPs[i].Prefix.Addr() != a {
			continue
		}
		r.rec.VIPs[i].Until = time.Time{}
		if r.set.Lease > 0 {
			r.rec.VIPs[i].Until = time.Now().Add(r.set.Lease).UTC().Truncate(time.Second)
		}
	}
}

func (r *run) lower(ctx context.Context, addrs []netip.Addr) error {
	r.doing("lowering " + addressList(addrs))
	unlock, err := r.lockActs(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	if r.abandoned.Load() {
		return errors.New("this run was given up meanwhile")
	}
	var failed []string
	for _, a := range addrs {
		ran, err := r.Tool.Lower(ctx, a)
		r.ran(ran)
		r.moved = r.moved || len(ran) > 0
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		r.lowered = append(r.lowered, a)
		for i := range r.rec.VIPs {
			if r.rec.VIPs[i].Prefix.Addr() == a {
				r.rec.VIPs[i].Raised, r.rec.VIPs[i].Label, r.rec.VIPs[i].Until = false, "", time.Time{}
			}
		}
	}
	r.again()
	if len(failed) > 0 {
		return fmt.Errorf("%s", strings.Join(failed, "; "))
	}
	return nil
}

func (r *run) lockActs(ctx context.Context, alone bool) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, actPatience)
	defer cancel()
	return r.LockSwitch(ctx, r.dir, alone)
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
	for n := range r.set.Announce {
		if n > 0 {
			time.Sleep(announceEvery)
		}
		if !r.announceClaimants(addrs) {
			return
		}
	}
}

// announceClaimants tells the clients once; false means that nobody was heard.
func (r *run) announceClaimants(addrs []netip.Addr) (any bool) {
	for _, a := range addrs {
		if heard, ok := r.claimant(a); ok {
			r.announceAt(heard.Address, heard.MAC)
			any = true
		}
	}
	return any
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
// Whether it was waited for to give way itself is returned as well. What was
// taken by hand and by force is not given up at once: the next check sees
// whether the rival has gone.
func (r *run) announceOn(ctx context.Context, addrs []netip.Addr) (rival state.Holder, outwaited bool) {
	for left := r.set.Announce - 1; ; left-- {
		since := time.Now()
		r.askHeld()
		r.await(ctx, announceEvery, func() bool { rival, _ := r.rival(since); return rival.MAC != "" })
		rival, lower := r.rival(since)
		if r.opt.Force {
			rival = state.Holder{}
		}
		outwaited := rival.MAC != "" && !lower
		if outwaited {
			rival = r.outwait(context.WithoutCancel(ctx), rival)
		}
		over := left <= 0 || ctx.Err() != nil
		if rival.MAC != "" || over && !outwaited {
			return rival, outwaited
		}
		r.announce(addrs) // who has gone may have told the clients otherwise
		if over {
			return state.Holder{}, false
		}
	}
}

// linkOf is the interface where an address is, or is to be.
func (r *run) linkOf(a netip.Addr) string {
	if places := r.ground.kernel.Assignments(a); len(places) > 0 {
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
		Manual: r.typed != "", Reason: d.Reason, Evidence: r.evidence,
	}
}

// raised and markRaised write down what is here because of us.
func (r *run) raised(a netip.Addr, link, label string) {
	for i := range r.rec.VIPs {
		if r.rec.VIPs[i].Prefix.Addr() == a {
			r.rec.VIPs[i] = state.Alias{Prefix: r.rec.VIPs[i].Prefix, Interface: link, Label: label, Raised: true, Until: r.rec.VIPs[i].Until}
		}
	}
}

func (r *run) markRaised() {
	for _, a := range r.held() {
		place := r.ground.kernel.Assignments(a)[0]
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
