package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
)

const (
	// peerRemoves is how long a conflicting host that replies may still have to
	// yield, when it has decided to: a pre-release that takes longer than slowHook
	// makes it ask again, and removing takes a moment.
	peerRemoves = slowHook + 200*time.Millisecond
	// inFlight is how long replies to earlier questions may still arrive.
	inFlight = 20 * time.Millisecond
)

// release removes what the decision names. Where it is handed over, what nobody
// takes is assigned again. Given are the addresses that this is about, those of an
// interrupted release included. The hooks are for the last address that goes.
func (a *actor) release(ctx context.Context, d state.Decision, given []netip.Addr) {
	change := changeOf(a.j, a.done.Obs, d)
	change.Event, change.Manual = a.intent.Event, change.Manual || a.intent.Manual
	took, act := time.Duration(0), context.WithoutCancel(ctx)
	kept := without(a.held(), given)
	a.done.Partial, a.done.Cause = len(kept) > 0, d.Cause
	a.renew(ctx, kept)
	if !a.done.Partial && d.Rule != state.RuleArbiter {
		took, _ = a.hook(ctx, preRelease, d.Reason)
	}
	if a.opened && took > slowHook && d.Rule == state.RuleConflict {
		// It may have yielded itself meanwhile: then nobody would have it.
		a.done.Obs = a.done.Obs.Anew()
		a.done.Obs.Conflicts = a.n.StillThere(act, a.done.Obs, a.done.Obs.Conflicts)
	}
	if again := a.decide(act); a.opened && !again.Release {
		a.done.Withdrawn, a.done.Partial = true, false
		if a.j.hookOf(preRelease) != nil { // it may have stopped what has to go on
			a.done.Resume = &change
		}
		a.keep(ctx, again)
		return
	}
	going := slices.DeleteFunc(a.held(), func(addr netip.Addr) bool { return !slices.Contains(given, addr) })
	if err := a.remove(act, going); err != nil {
		change.Reason += "; failed: " + err.Error()
		a.done.Outcome = state.ReleaseFailed
		a.releaseOpen(change)
		return
	}
	a.done.Removed = without(given, a.held()) // by this run, or by the one that it finishes
	if d.HandOver {
		a.handOver(act, d, change, given)
		return
	}
	a.announceClaims(given, false)
	a.announceOthers(given)
	a.released(change)
}

// released ends a release that stays.
func (a *actor) released(change state.Change) { a.ended(state.Closed, a.roleByHolding(), change) }

// releaseFailed leaves the intent to release open: the next run goes on.
func (a *actor) releaseFailed(change state.Change, err error) {
	change.Reason += "; " + err.Error()
	a.releaseOpen(change)
}

func (a *actor) releaseOpen(change state.Change) {
	change.Outcome = state.ReleaseFailed
	a.ended(state.Open, "", change)
}

// handOver asks whether another machine has taken what was released here. Then
// the clients are told; what nobody has is assigned here again.
func (a *actor) handOver(ctx context.Context, d state.Decision, change state.Change, given []netip.Addr) {
	var left []netip.Addr
	var err error
	patience, witnessed := config.HandOverPatience, a.done.Obs.Witness == state.WitnessGood
	toPeer := d.Rule == state.RuleConflict && len(notInConflict(a.done.Obs, given)) == 0
	if toPeer { // to the machines that were just heard
		patience = config.PeerReleased
		left, err = a.offerToPeer(ctx, given, a.done.Obs.WaitedForPeer)
	} else {
		if !a.done.Partial {
			_, _ = a.hook(ctx, state.PostRelease, change.Reason) // it may assign the address over there
			a.done.HookDone = true
		}
		left, err = a.offer(ctx, given, patience-observe.LastGuard)
		if err == nil && len(left) > 0 {
			left, err = a.askWitness(ctx, left, witnessed) // the last second of it
		}
	}
	switch {
	case err != nil:
		// The hand-over could not be verified. The intent stays open: the next run
		// asks again.
		a.done.Outcome, a.done.Reason = state.Blocked, change.Reason+"; it cannot be verified whether another machine has taken it: "+err.Error()
	case len(left) == 0:
		a.announceOthers(given)
		a.released(change)
	default:
		a.takeBack(ctx, change, given, left, patience, !toPeer)
	}
}

// notInConflict are the addresses that are in no conflict.
func notInConflict(o observe.Observation, given []netip.Addr) (rest []netip.Addr) {
	for _, addr := range given {
		if !slices.ContainsFunc(o.Conflicts, func(c state.Conflict) bool { return c.Address == addr.String() }) {
			rest = append(rest, addr)
		}
	}
	return rest
}

// without are the addresses of all that are not among some.
func without(all, some []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(all), func(addr netip.Addr) bool { return slices.Contains(some, addr) })
}

// askWitness asks, when nobody has taken what was released here, whether this
// machine could have heard it: it may be isolated since, where a witness had
// replied before. It returns those that nobody has claimed by its end.
func (a *actor) askWitness(ctx context.Context, left []netip.Addr, witnessed bool) ([]netip.Addr, error) {
	var primary check.Verdict
	a.done.Obs, primary = a.n.ProbeAgain(ctx, a.done.Obs, false)
	switch {
	case primary == check.Up || !witnessed:
	case a.done.Obs.Witness == state.WitnessNotAsked:
		return nil, errors.New("no witness could be asked")
	case a.done.Obs.Witness == state.WitnessSilent:
		return nil, errors.New("no witness replies")
	}
	left = a.n.Unclaimed(a.done.Obs, left)
	return left, a.unheard(left)
}

// unheard is why the silence of these is no answer.
func (a *actor) unheard(silent []netip.Addr) error {
	if len(silent) == 0 {
		return nil
	}
	a.observe()
	return a.n.CannotHear(a.done.Obs.Local, silent)
}

// offer asks for so long who takes the addresses, and returns those that nobody
// claims. The clients are told of each holder at once. An error means that it
// could not be asked.
func (a *actor) offer(ctx context.Context, addrs []netip.Addr, patience time.Duration) (left []netip.Addr, err error) {
	a.n.Open(a.done.Obs.Snapshot)
	time.Sleep(inFlight)
	a.done.Obs = a.done.Obs.WithoutPings().Anew()
	a.j.Event(run.Waiting{For: patience, Why: fmt.Sprintf("for another machine to take %s", observe.AddressList(addrs))})
	left = addrs
	taken := func() bool { return len(a.n.Unclaimed(a.done.Obs, left)) < len(left) }
	every := min(observe.AskEvery, patience/observe.LeastAsks)
	for end := time.Now().Add(patience); ; {
		wait := min(every, time.Until(end))
		if err := a.askFor(left, wait <= every/2); err != nil {
			return nil, err
		}
		if wait > 0 && a.n.Wait(ctx, wait, taken) {
			free := a.n.Unclaimed(a.done.Obs, left)
			a.announceClaims(without(left, free), false)
			left = free
		}
		if len(left) == 0 || wait <= 0 {
			left = a.n.Unclaimed(a.done.Obs, left)
			a.done.Obs.Asked = time.Now()
			return left, a.unheard(left)
		}
	}
}

// askFor asks once for released addresses; last also by probes, where an ordinary
// request may stay without a reply.
func (a *actor) askFor(addrs []netip.Addr, last bool) error {
	for _, addr := range addrs {
		t := a.done.Obs.Target(addr)
		if !a.n.Listening(t.Interface) {
			return fmt.Errorf("%s cannot be asked for on %s", addr, t.Interface)
		}
		if err := a.n.AskAgain(a.done.Obs.Snapshot, t, last); err != nil {
			return err
		}
	}
	return nil
}

// offerToPeer is offer to conflicting hosts. One that replies may be about to
// yield itself: the clients are told, and it is asked again when it must have done
// so. One with a lower MAC, that was not waited for, has precedence in assigning
// the address again.
func (a *actor) offerToPeer(ctx context.Context, addrs []netip.Addr, waited bool) (left []netip.Addr, err error) {
	patience := config.PeerReleased
	if !waited {
		return a.offer(ctx, addrs, patience+config.YieldPatience)
	}
	removed := time.Now().Add(peerRemoves)
	left, err = a.offer(ctx, addrs, patience)
	if err != nil || len(left) == len(addrs) || time.Now().After(removed) {
		return left, err
	}
	a.announceClaims(addrs, false)
	time.Sleep(time.Until(removed))
	return a.offer(ctx, addrs, patience-peerRemoves)
}

// takeBack assigns again what nobody has taken, and only then goes on announcing
// what others have. Suspend: automatic failback does not try again.
func (a *actor) takeBack(ctx context.Context, change state.Change, given, left []netip.Addr, patience time.Duration, suspend bool) {
	assigned, failed := a.assign(ctx, func() []netip.Addr { return a.n.Unclaimed(a.done.Obs, left) })
	if len(assigned) == 0 && (len(failed) == 0 || a.j.arb.Lost()) { // another machine took it at the last moment
		a.announceOthers(given)
		a.released(change)
		return
	}
	a.done.Partial, a.done.HookDone = false, false // post-takeover is due again
	if len(failed) > 0 {
		// The intent stays open, so that the next run tries again.
		a.announceOthers(without(given, left))
		change.Outcome = state.TakeoverFailed
		change.Reason += "; nobody took it, and it could not be assigned here again: " + strings.Join(failed, "; ")
		a.ended(state.Open, "", change)
		return
	}
	if conflicts, _ := a.announceOn(ctx, assigned, without(given, left)...); len(conflicts) > 0 {
		change.Reason += fmt.Sprintf("; %s has it now", conflicts[0].MAC)
		if err := a.remove(ctx, assigned); err != nil {
			a.releaseFailed(change, err)
			return
		}
		a.announceClaims(assigned, false)
		a.announceOthers(assigned)
		a.released(change)
		return
	}
	change.Outcome = state.Holding
	change.Reason += fmt.Sprintf("; nobody took %s within %s: assigned here again", observe.AddressList(left), patience)
	a.recordHeld()
	a.done.NobodyTook, a.done.Suspend = true, suspend
	a.ended(state.Closed, state.Active, change)
}
