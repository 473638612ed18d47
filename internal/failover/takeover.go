package failover

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/observe"
	"pingover/state"
)

// takeOver assigns what the decision names: pre-takeover, a last look, assign,
// verify, announce.
func (a *actor) takeOver(ctx context.Context, d state.Decision) {
	act := context.WithoutCancel(ctx)
	a.done.Cause = d.Cause
	again := a.confirm(act, d)
	if len(again.Raise) == 0 {
		a.done.Withdrawn = a.opened
		a.keep(ctx, again)
		return
	}
	a.announceAgain(a.held())
	a.renew(ctx, a.held())
	assigned, failed := a.assign(act, func() []netip.Addr {
		again = a.decide(act)
		return again.Raise
	})
	switch {
	case len(assigned) > 0:
		a.settle(ctx, d, assigned, failed)
		return
	case len(again.Raise) == 0: // it was observed otherwise, when it was this run's turn
		a.done.Withdrawn = a.opened
		a.keep(ctx, again)
		return
	}
	change := changeOf(a.j, a.done.Obs, d)
	change.Outcome = state.TakeoverFailed
	change.Reason += "; failed: " + strings.Join(failed, "; ")
	if a.opened && a.resumes { // the hand-over that was open before goes on
		a.done.Withdrawn = true
		a.ended(state.Open, "", change)
		return
	}
	a.ended(state.Closed, a.roleByHolding(), change)
}

// confirm is the last guard before anything is assigned: pre-takeover, which is
// the place for fencing; where that took long, the primary and the virtual IPs
// once more; the operator, who may have paused the cluster meanwhile; and the
// arbiter. It returns the decision as it is then. A signal does not end the hook: it may have
// cut the primary's power already.
func (a *actor) confirm(ctx context.Context, d state.Decision) (again state.Decision) {
	took, err := a.hook(ctx, preTakeover, d.Reason)
	switch {
	case err != nil:
		return a.refused(d, d.Rule, cmp.Or(d.Cause, state.CausePreTakeover), fmt.Sprintf("pre-takeover blocked it: %v", err))
	case took > slowHook || d.Fences != "":
		again = a.probe(ctx)
	default:
		again = a.decide(ctx)
	}
	if len(again.Raise) == 0 {
		return again
	}
	if refusal := a.j.arb.Acquire(ctx); refusal != "" {
		return a.refused(d, state.RuleKey, state.CauseArbiter, refusal)
	}
	return again
}

// refused is the decision of a takeover to which a last guard objects.
func (a *actor) refused(d state.Decision, rule int, cause state.Cause, why string) state.Decision {
	r := state.Decision{Rule: rule, Outcome: state.Blocked, Announce: d.Announce, Cause: cause, Reason: d.Reason + "; " + why}
	if len(a.held()) > 0 {
		r.Outcome = state.TakeoverFailed
	}
	return r
}

// settle announces what was assigned until the clients must have heard it, and
// listens meanwhile for a conflict: another standby that assigned it in the same
// moment yields, or this one does.
func (a *actor) settle(ctx context.Context, d state.Decision, assigned []netip.Addr, failed []string) {
	change := changeOf(a.j, a.done.Obs, d)
	if a.intent != nil {
		change.Event, change.Manual = a.intent.Event, change.Manual || a.intent.Manual
		if len(d.Raise) == 0 { // all of it was assigned by a run that was killed
			change.Reason = a.intent.Reason + "; an interrupted takeover is finished"
			change.Evidence = a.intent.Evidence
		}
	}
	began := time.Now()
	conflicts, waited := a.announceOn(ctx, assigned)
	if len(conflicts) == 0 {
		unreached := a.unreached(ctx, assigned, began)
		if len(unreached) > 0 {
			change.Reason += fmt.Sprintf("; no witness replies to %s: clients may not reach it (ARP inspection at the switch, or a static entry?)", observe.AddressList(unreached))
		}
		a.done.Unreached = append(without(a.done.Unreached, assigned), unreached...)
		a.tookOver(d, change, failed)
		return
	}
	c := conflicts[0]
	change.Outcome = state.Blocked
	change.Reason = fmt.Sprintf("%s was taken, but %s has it as well: it is released here", c.Address, c.MAC)
	a.done.Yield = &yielding{decision: d, change: change, addrs: yielded(conflicts, assigned), waited: waited}
}

// yielded are the addresses to release in a conflict: those that are in conflict,
// or all where the primary is back.
func yielded(conflicts []state.Conflict, assigned []netip.Addr) (addrs []netip.Addr) {
	for _, addr := range assigned {
		if slices.ContainsFunc(conflicts, func(c state.Conflict) bool { return c.Primary || c.Address == addr.String() }) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// tookOver ends a takeover that stays.
func (a *actor) tookOver(d state.Decision, change state.Change, failed []string) {
	change.Outcome = d.Outcome
	if len(failed) > 0 {
		change.Outcome = state.TakeoverFailed
		change.Reason += "; failed: " + strings.Join(failed, "; ")
	}
	a.recordHeld()
	a.ended(state.Closed, state.Active, change)
}

// yieldAssigned releases what was assigned a moment ago to the machine that has
// it too. The intent to release is written. Where this machine had precedence,
// the other may have yielded in the same moment: what nobody has then is
// assigned again.
func yieldAssigned(ctx context.Context, j *job, n *observe.Network, taken Result, again recheck) Result {
	y := taken.Yield
	taken.Yield = nil
	a := &actor{j: j, n: n, recheck: again, done: taken}
	change, act := y.change, context.WithoutCancel(ctx)
	if err := a.remove(act, y.addrs); err != nil {
		a.releaseFailed(change, err)
		return a.done
	}
	left, err := a.offerToPeer(act, y.addrs, y.waited)
	switch {
	case err != nil:
		change.Reason += "; it cannot be verified whether another machine has it now: " + err.Error()
	case len(left) > 0:
		assigned, failed := a.assign(act, func() []netip.Addr { return n.Unclaimed(a.done.Obs, left) })
		if len(assigned) > 0 {
			a.announceOthers(without(y.addrs, assigned))
			a.tookOver(y.decision, change, failed)
			return a.done
		}
		if len(failed) > 0 {
			change.Reason += "; nobody has it now, and it could not be assigned here again: " + strings.Join(failed, "; ")
		}
	}
	a.announceOthers(y.addrs)
	a.ended(state.Closed, a.roleByHolding(), change)
	return a.done
}
