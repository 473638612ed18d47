package failover

import (
	"context"
	"errors"
	"time"

	"pingover/check"
	"pingover/state"
)

// look is all the looking: one round of pings, or two with the wait between
// them, and the guards beside the last one. What was seen is left in r.seen
// and r.evidence. The error is ctx's, when a signal ended the check.
func (r *run) look(ctx context.Context) error {
	r.doing("looking")
	if uptime, err := r.Uptime(); err == nil {
		r.seen.Uptime = uptime // else zero, which holds a takeover back
	}
	r.since = time.Now()
	switch {
	case r.holding():
		r.lookWhileHolding(ctx)
	case r.ground.fault != "":
		r.seen.Primary = check.Unknown
	default:
		r.lookWhileStandingBy(ctx)
	}
	r.see()
	return context.Cause(ctx)
}

// lookWhileStandingBy makes one round, and when that was silent waits and
// makes another, with the guards beside it so that they cost no extra time.
func (r *run) lookWhileStandingBy(ctx context.Context) {
	served, end := r.askWhoServes(ctx)
	round := r.round(ctx, 1)
	if round.Verdict == check.Up {
		served()
	}
	end()
	if round.Verdict == check.Up {
		return
	}
	r.again()
	if round.Verdict != check.Down || r.ground.fault != "" {
		return
	}
	r.tell(Waiting{For: r.set.RetryWait, Why: "before the second round"})
	if !sleep(ctx, r.set.RetryWait) {
		return
	}
	r.again()
	if r.ground.fault != "" {
		r.seen.Primary = check.Unknown
		return
	}
	guards := r.guard(ctx, r.set.Round(), r.mayTake())
	round = r.round(ctx, 2)
	if round.Verdict == check.Up {
		guards.cancel()
		guards.wait()
		served, end := r.askWhoServes(ctx)
		served()
		end()
		return
	}
	guards.wait()
	r.again()
	r.weigh(guards)
	r.yield(ctx)
}

// lookWhileHolding looks once, and faces who else has what is held here.
func (r *run) lookWhileHolding(ctx context.Context) {
	r.lookOnce(ctx)
	if !r.holding() {
		// One round is too little to take it over again at once.
		r.ground.blame("what was held here has left in the middle of the check")
		return
	}
	r.faceRival(ctx)
}

// lookOnce makes one round with the guards beside it; they go on for a while
// when the primary answers at once, for a rival has to be heard.
func (r *run) lookOnce(ctx context.Context) {
	length := holdGuard
	if r.ground.fault == "" {
		length = max(r.set.Round(), holdGuard)
	}
	guards := r.guard(ctx, length, false)
	if r.ground.fault == "" {
		if r.round(ctx, 1).Verdict == check.Up {
			guards.shorten(holdGuard)
		}
	}
	guards.wait()
	r.again()
	r.weigh(guards)
}

// round makes one round of pings and leaves the verdict in r.seen.
func (r *run) round(ctx context.Context, n int) check.Round {
	pings := check.Pings{
		Address: r.ground.address, Source: r.ground.source,
		Count: r.set.Count, Interval: r.set.Interval, Timeout: r.set.Timeout,
		OnReply: func(seq int, rtt time.Duration) { r.tell(Replied{N: n, Seq: seq, RTT: rtt}) },
	}
	r.tell(RoundBegan{N: n, Host: r.set.Host, Address: pings.Address, Count: pings.Count, Interval: pings.Interval, Timeout: pings.Timeout})
	round := r.notItself(r.Ping(ctx, pings))
	if round.Err != nil && ctx.Err() == nil {
		r.ground.blame("%v", round.Err)
	}
	r.seen.Primary = round.Verdict
	shown := evidenceOf(round)
	r.evidence.Rounds = append(r.evidence.Rounds, shown)
	if ctx.Err() == nil {
		r.tell(RoundEnded{N: n, Round: shown})
	}
	return round
}

// notItself is the round, with a verdict only if it was another machine that
// answered: the address may have come here since the ground was looked at, as
// another cluster's virtual IP.
func (r *run) notItself(round check.Round) check.Round {
	if round.Verdict != check.Up || r.ground.route.Local {
		return round
	}
	kernel, err := r.Snapshot()
	if err == nil && kernel.Holds(r.ground.address) {
		err = errors.New(hereNow(r.ground.address))
	}
	if err != nil {
		round.Verdict, round.Err = check.Unknown, err
	}
	return round
}

// askAgain asks once more, for a moment, whether the primary or somebody for a
// virtual IP answers: what was seen before is too old. Primary is what its pings
// say for themselves.
func (r *run) askAgain(ctx context.Context, mayTake bool) (primary check.Verdict) {
	guards := r.guardOnce(ctx, mayTake)
	if r.typed != typedTakeover && r.ground.fault == "" && r.ground.address.IsValid() && !r.ground.route.Local {
		pings := pingsWithin(lastGuard)
		pings.Address, pings.Source = r.ground.address, r.ground.source
		round := r.notItself(r.Ping(ctx, pings))
		primary = round.Verdict
		switch {
		case round.Verdict == check.Up:
			r.seen.Primary = check.Up
		case round.Err != nil && ctx.Err() == nil && r.typed == "":
			r.ground.blame("%v", round.Err)
		}
	}
	guards.wait()
	r.again()
	r.weigh(guards)
	return primary
}

// see puts together what the decision needs to know of each virtual IP.
func (r *run) see() {
	if r.seen.Primary != check.Up && r.ground.fault != "" {
		// Something could not be asked, be it in the middle of a round or
		// beside it. That is not an answer.
		r.seen.Primary, r.seen.Fault = check.Unknown, r.ground.fault
	}
	r.seen.VIPs, r.seen.AnswersARP = nil, false
	r.seen.HostIsVIP = r.ground.self != "" && r.ground.fault == r.ground.self
	r.seen.CannotListen = r.deafness() != ""
	r.evidence.Holders = nil
	if holder, ok := r.holder(r.ground.address); ok && r.seen.OnLink && !r.isVIP(r.ground.address) {
		r.seen.AnswersARP, r.rec.Neighbour = true, holder.MAC
		r.evidence.Holders = append(r.evidence.Holders, holder)
	}
	for _, a := range r.vips() {
		sight := state.VIPStatus{Address: a, Held: r.ground.kernel.Holds(a), Asked: r.asked[a]}
		holder, ok := r.holder(a)
		if ok && !sight.Held {
			sight.InUse, sight.MAC = true, holder.MAC
			sight.AtPrimary = holder.MAC != "" && holder.MAC == r.rec.Neighbour
		}
		if ok {
			r.evidence.Holders = append(r.evidence.Holders, holder)
		}
		r.seen.VIPs = append(r.seen.VIPs, sight)
	}
}

func evidenceOf(round check.Round) state.Round {
	shown := state.Round{Verdict: round.Verdict.String(), Sent: round.Sent, Received: round.Received}
	if round.Received > 0 {
		ms := float64(round.RTT.Microseconds()) / 1000
		shown.RTT = &ms
	}
	if round.Err != nil {
		text := round.Err.Error()
		shown.Error = &text
	}
	return shown
}

// sleep waits for d, or less when ctx ends; then it returns false.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell hands an event to whoever prints, one at a time.
func (r *run) tell(event any) {
	if r.opt.OnEvent == nil {
		return
	}
	r.telling.Lock()
	defer r.telling.Unlock()
	r.opt.OnEvent(event)
}
