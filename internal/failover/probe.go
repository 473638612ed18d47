package failover

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// Observation is what the network showed, with the local state as it was then.
// The embedded state.Observation is what the decision needs of it.
type Observation struct {
	state.Observation
	Local
	Evidence  state.Evidence // rounds, witnesses, holders
	Neighbour string         // the primary's MAC, "" while it is not known
	NoReply   string         // release: why the silence of others would be no answer

	replies claims
	asked   time.Time // the last question
}

// claims are what the decision rests on of what other machines say. They are
// read from the listeners again and again, for replies arrive at any time.
type claims struct {
	since  time.Time                // what was heard before does not count
	began  time.Time                // but for competing probers
	ignore map[netip.Addr]time.Time // a claim until then was one frame, and was not repeated
	asked  map[netip.Addr]bool      // the virtual IPs that others could be asked for
	pinged map[netip.Addr]bool      // those that replied to a ping
}

// of is since when claims of an address count.
func (c claims) of(a netip.Addr) time.Time {
	if until := c.ignore[a]; until.After(c.since) {
		return until
	}
	return c.since
}

// start is the observation before anything was asked.
func start(j *job, rec state.Record, l Local) Observation {
	o := Observation{Local: l, Neighbour: rec.Neighbour, Observation: state.Observation{Host: j.set.Host, NeverUp: rec.NeverUp()}}
	o.replies = claims{since: time.Now(), began: time.Now(), asked: map[netip.Addr]bool{}, pinged: map[netip.Addr]bool{}}
	if a := l.shown(); a.IsValid() {
		o.Evidence.Address = a.String()
	}
	if uptime, err := j.Uptime(); err == nil {
		o.Uptime = uptime // else zero, which blocks a takeover
	}
	return o
}

// probe asks the network: one round of pings, or two with the wait between them,
// and the guards beside the last one.
func probe(ctx context.Context, j *job, asker *vip.Asker, known state.Known, o Observation) Observation {
	j.Doing("probing")
	switch {
	case o.holding(j):
		o = probeWhileHolding(ctx, j, asker, known, o)
	case len(o.faults) > 0:
		o.Primary = check.Unknown
	default:
		o = probeWhileStandingBy(ctx, j, asker, known, o)
	}
	return o.read(j, asker)
}

// probeWhileStandingBy makes one round, and when that was silent waits and makes
// another, with the guards beside it so that they cost no extra time.
func probeWhileStandingBy(ctx context.Context, j *job, asker *vip.Asker, known state.Known, o Observation) Observation {
	serving := askWhoServes(ctx, j, asker, o)
	o, up := round(ctx, j, o, 1)
	if up {
		o = serving.wait(o)
	}
	serving.end()
	if up {
		return o
	}
	o.Local = o.again(j)
	if o = o.judged(); o.Primary != check.Down || len(o.faults) > 0 {
		return o
	}
	j.Event(run.Waiting{For: j.set.RetryWait, Why: "before the second round"})
	if !proc.Sleep(ctx, j.set.RetryWait) {
		return o
	}
	if o.Local = o.again(j); len(o.faults) > 0 {
		o.Primary = check.Unknown
		return o
	}
	g := startGuards(ctx, j, asker, o, guardPlan{length: j.set.Round(), take: j.mayTake(known, o), last: true})
	o, up = round(ctx, j, o, 2)
	if up {
		g.cancel()
		g.wait()
		serving := askWhoServes(ctx, j, asker, o)
		o = serving.wait(o)
		serving.end()
		return o
	}
	return g.finish(o).judged()
}

// probeWhileHolding makes one round and resolves a conflict. Where a virtual IP is
// missing, it is added on the grounds on which all would be taken: two silent
// rounds, the guards beside the second.
func probeWhileHolding(ctx context.Context, j *job, asker *vip.Asker, known state.Known, o Observation) Observation {
	o = probeOnce(ctx, j, asker, o)
	missing := len(o.held(j)) < len(j.set.VIPs) && (known.Role == state.Active || known.Role == state.Taking)
	if missing && o.holding(j) && o.Primary == check.Down && len(o.faults) == 0 {
		j.Event(run.Waiting{For: j.set.RetryWait, Why: "before the second round"})
		if !proc.Sleep(ctx, j.set.RetryWait) {
			return o
		}
		o.Local = o.again(j)
		g := startGuards(ctx, j, asker, o, guardPlan{length: j.set.Round(), take: j.mayTake(known, o), last: true})
		up := false
		if len(o.faults) == 0 {
			o, up = round(ctx, j, o, 2)
		}
		if up {
			g.cancel()
			g.wait()
		} else {
			o = g.finish(o).judged()
		}
	}
	if !o.holding(j) {
		// One round is too little to take it over again at once.
		o.faults = o.faults.and(faultOf(FaultPing, "what was held here has left in the middle of the check"))
		return o
	}
	return resolveConflict(ctx, j, asker, o)
}

// probeOnce makes one round with the guards beside it; they go on for a while
// when the primary replies at once, to hear a conflicting host.
func probeOnce(ctx context.Context, j *job, asker *vip.Asker, o Observation) Observation {
	length := holdGuard
	if len(o.faults) == 0 {
		length = max(j.set.Round(), holdGuard)
	}
	g := startGuards(ctx, j, asker, o, guardPlan{length: length})
	if len(o.faults) == 0 {
		var up bool
		if o, up = round(ctx, j, o, 1); up {
			g.shorten(holdGuard)
		}
		return g.finish(o).judged()
	}
	return g.finish(o)
}

// round makes one round of pings to the primary, and tells whether it replied.
func round(ctx context.Context, j *job, o Observation, n int) (Observation, bool) {
	shown := make([]state.Round, len(o.Paths))
	o, up := pingPaths(ctx, j, o, func(ctx context.Context, i int, p Path) check.Round {
		pings := check.Pings{Address: p.Address, Source: p.Source, Count: j.set.Count, Interval: j.set.Interval, Timeout: j.set.Timeout}
		made, s := j.Round(ctx, n, p.Host, len(o.Paths) > 1, pings, func(ctx context.Context, pings check.Pings) check.Round { return j.pingOther(ctx, p, pings) })
		shown[i] = s
		return made
	})
	o.Evidence.Rounds = slices.Clone(o.Evidence.Rounds)
	for i, p := range o.Paths {
		if p.Asked() && (!up || j.everyPath || p.round.Verdict == check.Up) { // the others were cut short
			o.Evidence.Rounds = append(o.Evidence.Rounds, shown[i])
		}
	}
	if up {
		o.Evidence.Address = o.shown().String()
	}
	return o, up
}

// pingPaths pings the primary by all paths, side by side. The first reply ends it.
func pingPaths(ctx context.Context, j *job, o Observation, ping func(ctx context.Context, i int, p Path) check.Round) (_ Observation, up bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.Paths = slices.Clone(o.Paths)
	var rounds sync.WaitGroup
	for i, p := range o.Paths {
		if !p.Asked() {
			continue
		}
		rounds.Go(func() {
			if o.Paths[i].round = ping(ctx, i, p); o.Paths[i].round.Verdict == check.Up && !j.everyPath {
				cancel()
			}
		})
	}
	rounds.Wait()
	if verdict, _ := o.verdict(); verdict == check.Up {
		o.Primary, up = check.Up, true
	}
	return o, up
}

// judged is the observation with what the last round says of the primary, by the
// local state after it: a cable may have lost its carrier in the middle.
func (o Observation) judged() Observation {
	verdict, why := o.verdict()
	o.Primary, o.faults = verdict, o.faults.and(why...)
	return o
}

// pingOther pings the primary, with a verdict only if it was another machine
// that replied: since the survey the address may have come here, as another
// cluster's virtual IP.
func (j *job) pingOther(ctx context.Context, path Path, pings check.Pings) check.Round {
	made := j.Ping(ctx, pings)
	if made.Verdict != check.Up || path.Route.Local {
		return made
	}
	snapshot, err := j.Snapshot()
	if err == nil && snapshot.Holds(path.Address) {
		err = errors.New(hereNow(path.Address))
	}
	if err != nil {
		made.Verdict, made.Err = check.Unknown, err
	}
	return made
}

// probeAgain asks once more, for a moment, whether the primary or another machine
// that has a virtual IP replies: what was observed before is too old. Primary is
// what its pings say for themselves.
func probeAgain(ctx context.Context, j *job, asker *vip.Asker, o Observation, mayTake bool) (_ Observation, primary check.Verdict) {
	g := startGuards(ctx, j, asker, o, guardPlan{length: lastGuard, take: mayTake, once: true})
	if j.mode == modeTakeOver || len(o.faults) > 0 {
		return g.finish(o), primary
	}
	o, _ = pingPaths(ctx, j, o, func(ctx context.Context, _ int, p Path) check.Round {
		pings := run.PingsWithin(lastGuard)
		pings.Address, pings.Source = p.Address, p.Source
		return j.pingOther(ctx, p, pings)
	})
	o = g.finish(o)
	primary, why := o.verdict()
	if j.mode == modeCheck && ctx.Err() == nil {
		o.faults = o.faults.and(why...)
	}
	return o, primary
}

// read is the observation with what has been heard until now.
func (o Observation) read(j *job, asker *vip.Asker) Observation {
	if o.Primary != check.Up && len(o.faults) > 0 {
		// Something could not be asked, in the middle of a round or beside it.
		// That is no answer.
		o.Primary, o.Fault = check.Unknown, o.faults.String()
	}
	o.HostIsVIP = o.faults.onlyVIP()
	o.CannotAsk = j.set.DuplicateCheck && (o.cannotListen(j, asker) != "" || o.faults.has(FaultAsk))
	o.VIPs, o.AnswersARP, o.Evidence.Holders = nil, false, nil
	known := o.Neighbour
	for i, t := range o.neighbours() {
		holder, ok := o.holder(asker, t.Address)
		if !ok || !o.OnLink || j.isVIP(t.Address) {
			continue
		}
		o.AnswersARP = true
		if i == 0 && o.Primary == check.Up { // it is learned only then, and by another cable it has another one
			o.Neighbour = holder.MAC
		}
		if i == 0 {
			known = cmp.Or(o.Neighbour, holder.MAC)
		}
		o.Evidence.Holders = append(o.Evidence.Holders, holder)
	}
	for _, a := range j.vips() {
		status := state.VIPStatus{Address: a, Held: o.holds(a), Asked: o.replies.asked[a], CannotAssign: o.cannotTake(a)}
		holder, ok := o.holder(asker, a)
		if ok && !status.Held {
			status.InUse, status.MAC = true, holder.MAC
			status.AtPrimary = holder.MAC != "" && holder.MAC == known
		}
		if ok {
			o.Evidence.Holders = append(o.Evidence.Holders, holder)
		}
		o.VIPs = append(o.VIPs, status)
	}
	return o
}

// holder is another machine that has an address, if one was heard.
func (o Observation) holder(asker *vip.Asker, a netip.Addr) (state.Holder, bool) {
	if claim, ok := asker.Holder(a, o.replies.of(a)); ok {
		return state.Holder{Address: a.String(), MAC: claim.MAC.String()}, true
	}
	return state.Holder{Address: a.String()}, o.replies.pinged[a]
}

// allInUse tells whether every virtual IP that is not here is in use elsewhere.
func (o Observation) allInUse(j *job, asker *vip.Asker) bool {
	for _, a := range j.vips() {
		if _, ok := o.holder(asker, a); !ok && !o.holds(a) {
			return false
		}
	}
	return true
}

// unclaimed are those that nobody has claimed.
func (o Observation) unclaimed(asker *vip.Asker, addrs []netip.Addr) (free []netip.Addr) {
	for _, a := range addrs {
		if _, ok := asker.Holder(a, o.replies.of(a)); !ok {
			free = append(free, a)
		}
	}
	return free
}

// withClaims is the observation with maps of its own.
func (o Observation) withClaims() Observation {
	o.replies.asked, o.replies.pinged = maps.Clone(o.replies.asked), maps.Clone(o.replies.pinged)
	return o
}

// stale tells whether what was observed is too old to act upon, also by the wall
// clock: the monotonic one stops while the machine sleeps.
func (o Observation) stale() bool {
	return max(time.Since(o.asked), time.Now().Round(0).Sub(o.asked.Round(0))) > freshFor
}
