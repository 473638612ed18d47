package balance

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/pool"
	"pingover/state"
)

// proofs is how many members that replied in round one are asked again beside
// round two: one that replies proves that this machine's network works.
const proofs = 3

// seen is what the network showed.
type seen struct {
	members   []answer // in the order of the settings
	witnesses []state.Witness
	witness   bool            // one replied, or witnesses are switched off
	gateways  []state.Gateway // found as automatic witnesses
}

// answer is what was found out about one member.
type answer struct {
	member
	verdict check.Verdict
	fault   string // why it is unknown
	replied bool   // in the last round
	rounds  []state.Round
	answers []state.ServiceAnswer // of its services, in the last attempt
	// certificates are the services whose certificate does not verify.
	certificates []string
}

// observation is what the decision needs of it.
func (s seen) observation(j *job, r reading) pool.Observation {
	o := pool.Observation{Set: r.set, Fault: r.fault(), Witness: s.witness, PausedUntil: j.PausedUntil(), Finished: r.finished}
	for _, a := range s.members {
		o.Members = append(o.Members, pool.MemberStatus{Address: a.address, Verdict: a.verdict, Fault: a.fault, Replied: a.replied, Own: a.own})
	}
	return o
}

// probe asks all members at once. Published ones that are silent are asked again
// after retry-wait, with the witnesses beside it. What is out of DNS already is
// down after one round: it would not leave.
func probe(ctx context.Context, j *job, l local, published pool.Set) seen {
	j.Doing("asking the members")
	s := seen{gateways: l.gateways, witness: !j.set.Witness.Auto && len(j.set.Witness.Addresses) == 0}
	for _, m := range l.members {
		s.members = append(s.members, answer{member: m})
	}
	s = s.round(ctx, j, 1, func(answer) bool { return true })
	silent := func(a answer) bool { return a.verdict == check.Down && published.Has(a.address) }
	if !slices.ContainsFunc(s.members, silent) || ctx.Err() != nil {
		return s.judged(j)
	}
	j.Event(run.Waiting{For: j.set.RetryWait, Why: "before the second round"})
	if !proc.Sleep(ctx, j.set.RetryWait) {
		return s
	}
	s = s.judged(j)
	asked := 0
	again := map[netip.Addr]bool{}
	for i := range s.members {
		a := &s.members[i]
		proof := a.verdict == check.Up && !a.own && asked < proofs
		if proof {
			asked++
		}
		again[a.address] = proof || silent(*a)
		a.replied = false
	}
	replies := make(chan []state.Witness, 1)
	go func() { replies <- askWitnesses(ctx, j, l) }()
	s = s.round(ctx, j, 2, func(a answer) bool { return again[a.address] })
	s.witnesses = <-replies
	s.witness = s.witness || slices.ContainsFunc(s.witnesses, func(w state.Witness) bool { return w.Answers })
	j.Event(Witnessed{Witnesses: s.witnesses})
	return s.judged(j)
}

// askWitnesses asks all witnesses for the length of a round: each must reply at its
// start and at its end.
func askWitnesses(ctx context.Context, j *job, l local) []state.Witness {
	asker := check.WitnessAsker{
		Ping: j.Ping, Began: time.Now(), Length: j.set.Round(),
		Neighbour: func(check.Witness, time.Time) (string, bool) { return "", true },
	}
	shown := make([]state.Witness, len(l.witnesses))
	var witnesses sync.WaitGroup
	for i, w := range l.witnesses {
		witnesses.Go(func() {
			replies := asker.Ask(ctx, w, func() {})
			by, good := replies.Good(false)
			shown[i] = state.WitnessOf(replies.Address, by, good)
		})
	}
	witnesses.Wait()
	return shown
}

// round makes round n to those members, side by side. A member that was up stays
// up.
func (s seen) round(ctx context.Context, j *job, n int, which func(answer) bool) seen {
	s.members = slices.Clone(s.members)
	roots := config.ServiceRoots(j.set.ServiceCA)
	var rounds sync.WaitGroup
	for i := range s.members {
		a := &s.members[i]
		if !which(*a) {
			continue
		}
		if a.member.fault != "" {
			if a.verdict != check.Up {
				a.verdict, a.fault = check.Unknown, a.member.fault
			}
			continue
		}
		rounds.Go(func() {
			if len(j.set.Services) > 0 {
				*a = a.attempts(ctx, j, n, roots)
				return
			}
			pings := check.Pings{Address: a.address, Source: a.source, Count: j.set.Count, Interval: j.set.Interval, Timeout: j.set.Timeout}
			made, shown := j.Round(ctx, n, a.address.String(), len(s.members) > 1, pings, j.Ping)
			a.rounds, a.replied = append(slices.Clone(a.rounds), shown), made.Verdict == check.Up
			if a.verdict == check.Up { // it was asked for a proof
				return
			}
			a.verdict, a.fault = made.Verdict, ""
			if made.Err != nil {
				a.fault = made.Err.Error()
			}
		})
	}
	rounds.Wait()
	return s
}

// judged is what was seen, by the local state after it: where an interface has lost
// its carrier in the middle of a round, pings vanish without any error, and silence
// is no answer.
func (s seen) judged(j *job) seen {
	silent := func(a answer) bool { return a.verdict == check.Down }
	if !slices.ContainsFunc(s.members, silent) {
		return s
	}
	s.members = slices.Clone(s.members)
	snapshot, err := j.Snapshot()
	for i := range s.members {
		a := &s.members[i]
		if !silent(*a) {
			continue
		}
		own := a.own
		if a.member = j.wayTo(snapshot, err, a.address); a.own && !own {
			a.member.fault = a.address.String() + " is on this machine now, so a ping would answer itself"
		}
		if a.member.fault != "" {
			a.verdict, a.fault = check.Unknown, a.member.fault
		}
	}
	return s
}

// evidence is what was seen of these members.
func (s seen) evidence(which func(answer) bool) state.Evidence {
	e := state.Evidence{Witnesses: s.witnesses}
	for _, a := range s.members {
		if which(a) {
			e.Rounds, e.Answers = append(e.Rounds, a.rounds...), append(e.Answers, a.answers...)
		}
	}
	return e
}
