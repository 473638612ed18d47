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
	"pingover/state"
)

const (
	// handOverPatience is how long somebody else may take to bring up what was
	// given up here.
	handOverPatience = 10 * time.Second
	// rivalGone is how long is listened for a rival after giving way to it: it
	// may have given way in the same moment.
	rivalGone = 2 * time.Second
	// rivalLowers is how long a rival that answers may still have to give way,
	// when it has made up its mind: a pre-release that takes longer than slowHook
	// makes it ask again, and lowering takes a moment.
	rivalLowers = slowHook + 200*time.Millisecond
	// inFlight is how long answers to earlier questions may still arrive.
	inFlight = 20 * time.Millisecond
)

// handOver asks whether somebody has taken what was given up here. Then the
// clients are told; what nobody has is raised here again.
func (r *run) handOver(ctx context.Context, d state.Decision, change state.Change, given []netip.Addr) result {
	var left []netip.Addr
	var err error
	patience, witnessed := handOverPatience, r.seen.Witness == state.WitnessGood
	if d.Rule == ruleRival { // whom this machine has just heard
		patience = rivalGone
		left, err = r.giveWay(ctx, given, patience)
	} else {
		_, _ = r.hook(ctx, state.PostRelease, change.Reason) // it may bring the address up over there
		left, err = r.offer(ctx, given, patience-lastGuard)
		if err == nil && len(left) > 0 {
			left, err = r.askWitness(ctx, left, witnessed) // the last second of it
		}
	}
	if err != nil {
		return r.adrift(change, err)
	}
	r.announceOthers(given)
	if len(left) > 0 {
		return r.takeBack(ctx, d, change, left, patience)
	}
	return r.handedOver(d, change)
}

// handedOver ends a hand-over that somebody took.
func (r *run) handedOver(d state.Decision, change state.Change) result {
	done := result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(state.Standby, change)}
	if d.Rule != ruleRival {
		r.rec.PendingHook = nil // it was run before the question
	}
	return done
}

// adrift is how a hand-over ends when nobody can be asked how it ended. The
// intent stays open: the next run asks again.
func (r *run) adrift(change state.Change, err error) result {
	return result{Outcome: state.Blocked, reason: change.Reason + "; but whether somebody has taken it cannot be asked: " + err.Error()}
}

// askWitness asks, when nobody has taken what was given up, whether this machine
// could have heard it: it may have been cut off meanwhile, where a witness had
// answered before. It returns those that nobody has answered for by its end.
func (r *run) askWitness(ctx context.Context, left []netip.Addr, witnessed bool) ([]netip.Addr, error) {
	primary := r.askAgain(ctx, false)
	switch {
	case primary == check.Up || !witnessed:
	case r.seen.Witness == state.WitnessNotAsked:
		return nil, errors.New("no witness could be asked")
	case r.seen.Witness == state.WitnessSilent:
		return nil, errors.New("no witness answers")
	}
	left = r.unclaimed(left)
	return left, r.unheard(left)
}

// unclaimed are those that nobody has answered for.
func (r *run) unclaimed(addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { _, ok := r.claimant(a); return ok })
}

// offer asks for so long who takes the addresses, and returns those that
// nobody answers for. An error means that it could not be asked.
func (r *run) offer(ctx context.Context, addrs []netip.Addr, patience time.Duration) (left []netip.Addr, err error) {
	r.listen()
	time.Sleep(inFlight)
	r.since = time.Now()
	clear(r.pinged)
	r.tell(Waiting{For: patience, Why: fmt.Sprintf("for somebody to answer for %s", addressList(addrs))})
	taken := func() bool {
		left = r.unclaimed(addrs)
		return len(left) == 0
	}
	every := min(askEvery, patience/leastAsks)
	for end := r.since.Add(patience); ; {
		for _, a := range addrs {
			link := r.linkOf(a)
			if _, ok := r.ears[link]; !ok {
				return nil, fmt.Errorf("%s cannot be asked for on %s", a, link)
			}
			if err := r.ask(link, a, false); err != nil {
				return nil, err
			}
		}
		wait := min(every, time.Until(end))
		if wait <= 0 || r.await(ctx, wait, taken) {
			taken()
			r.looked = time.Now()
			return left, r.unheard(left)
		}
	}
}

// unheard is why the silence of an address is no answer: the cable went out
// meanwhile, or listening ended. It is nil where an answer would have been
// heard.
func (r *run) unheard(silent []netip.Addr) error {
	if len(silent) == 0 {
		return nil
	}
	r.again()
	for _, a := range silent {
		link := r.linkOf(a)
		if e, ok := r.ears[link]; ok && e.Err() != nil {
			return e.Err()
		}
		if fault := r.linkFault(link); fault != "" {
			return errors.New(fault)
		}
	}
	return nil
}

// giveWay is offer to a rival. One that answers may be about to let go itself:
// the clients are told, and it is asked again when it must have done so.
func (r *run) giveWay(ctx context.Context, addrs []netip.Addr, patience time.Duration) (left []netip.Addr, err error) {
	lowered := time.Now().Add(rivalLowers)
	left, err = r.offer(ctx, addrs, patience)
	if err != nil || len(left) == len(addrs) || time.Now().After(lowered) {
		return left, err
	}
	r.announceClaimants(addrs)
	time.Sleep(time.Until(lowered))
	return r.offer(ctx, addrs, patience-rivalLowers)
}

// takeBack raises again what nobody has taken.
func (r *run) takeBack(ctx context.Context, d state.Decision, change state.Change, left []netip.Addr, patience time.Duration) result {
	raised, failed := r.raise(ctx, func() []netip.Addr { return r.unclaimed(left) })
	if len(raised) == 0 && len(failed) == 0 { // somebody took it at the last moment
		r.announceOthers(left)
		return r.handedOver(d, change)
	}
	if len(failed) > 0 {
		// The intent stays open, so that the next run tries again.
		change.Outcome = state.TakeoverFailed
		change.Reason += "; but nobody took it, and it could not be raised here again: " + strings.Join(failed, "; ")
		return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.AddChange(change)}
	}
	if rival, _ := r.announceOn(ctx, raised); rival != (state.Holder{}) {
		change.Reason += fmt.Sprintf("; %s has it now", rival.MAC)
		if err := r.lower(ctx, raised); err != nil {
			change.Outcome = state.ReleaseFailed
			change.Reason += "; " + err.Error()
			return result{Outcome: change.Outcome, reason: change.Reason, change: r.failRelease(change)}
		}
		r.announceOthers(raised)
		return result{Outcome: change.Outcome, reason: change.Reason, change: r.rec.Switched(state.Standby, change)}
	}
	change.Outcome = state.Holding
	change.Reason += fmt.Sprintf("; but nobody took %s within %s: raised here again", addressList(left), patience)
	r.markRaised()
	done := result{Outcome: state.Holding, reason: change.Reason, change: r.rec.Switched(state.Active, change)}
	if d.Rule != ruleRival {
		r.rec.NobodyTook = true
	}
	r.nobodyTook = true
	return done
}

func addressList(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}
