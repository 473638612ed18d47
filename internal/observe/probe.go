package observe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
)

// Probe asks the network: one round of pings, or two with the wait between them,
// and the guards beside the last one; then the services, and the guards where one
// of these is a reason to take over from a primary that replies.
func (n *Network) Probe(ctx context.Context, known state.Known, o Observation) Observation {
	n.j.Doing("probing")
	switch {
	case o.Holding():
		o = n.probeWhileHolding(ctx, known, o)
	case len(o.Faults) > 0:
		o.Primary = check.Unknown
	default:
		o = n.probeWhileStandingBy(ctx, known, o)
	}
	o = n.probeServices(ctx, n.Read(o))
	if set := n.j.Set; set.FailoverOnService && len(o.WorthFencing(known, set.Fall)) > 0 {
		o = n.guard(ctx, o, guardPlan{length: set.Round()}).finish(o)
	}
	return n.Read(o)
}

// probeWhileStandingBy makes one round, and when that was silent waits and makes
// another, with the guards beside it so that they cost no extra time.
func (n *Network) probeWhileStandingBy(ctx context.Context, known state.Known, o Observation) Observation {
	serving := n.askWhoServes(ctx, o)
	early := n.guardEarly(ctx, known, o)
	defer func() { early.drop() }()
	o, up := n.round(ctx, o, 1)
	if up {
		early.drop() // the listeners are opened by one at a time
		o = serving.wait(o)
	}
	serving.end()
	if up {
		return o
	}
	o.Local = o.Again(n.j)
	if o = o.judged(); o.Primary != check.Down || len(o.Faults) > 0 {
		return o
	}
	n.j.Event(run.Waiting{For: n.j.Set.RetryWait, Why: "before the second round"})
	if !proc.Sleep(ctx, n.j.Set.RetryWait) {
		return o
	}
	if o.Local = o.Again(n.j); len(o.Faults) > 0 {
		o.Primary = check.Unknown
		return o
	}
	g := early.take()
	if g == nil {
		g = n.guard(ctx, o, guardPlan{length: n.j.Set.Round(), take: n.j.MayTake(known, o), last: true})
	}
	o, up = n.round(ctx, o, 2)
	if up {
		g.drop()
		return n.whoServes(ctx, o)
	}
	return g.finish(o).judged()
}

// fastProbe is below what two rounds and the wait between them are fast: there the
// guards begin with the first missing reply, or they would last longer than round two.
const fastProbe = time.Second

// fast tells whether a check decides within fastProbe.
func (n *Network) fast() bool { return 2*n.j.Set.Round()+n.j.Set.RetryWait < fastProbe }

// earlyGuards are guards that begin when the first ping of round one has no reply,
// and last until the end of round two. The zero earlyGuards never begin.
type earlyGuards struct {
	timer *time.Timer
	late  time.Time // round two has to begin before, or they would end too soon
	start func() *guards

	mu    sync.Mutex
	begun *guards
}

// begin begins them, once.
func (e *earlyGuards) begin() *guards {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun == nil {
		e.begun = e.start()
	}
	return e.begun
}

func (n *Network) guardEarly(ctx context.Context, known state.Known, o Observation) *earlyGuards {
	set := n.j.Set
	if !n.fast() || set.Count < 2 {
		return new(earlyGuards)
	}
	missing := min(set.Interval, set.Round()/2)
	plan := guardPlan{length: 2*set.Round() + set.RetryWait - missing, last: true, early: true}
	e := &earlyGuards{
		start: func() *guards {
			plan.take = n.j.MayTake(known, o)
			return n.guard(ctx, o, plan)
		},
		late: time.Now().Add(set.Round() + set.RetryWait + set.Round()/2),
	}
	e.timer = time.AfterFunc(missing, func() { e.begin() })
	return e
}

// take hands over the guards for round two, nil where there are none, or where the
// round before took so long that they would not last.
func (e *earlyGuards) take() *guards {
	if e.timer == nil || time.Now().After(e.late) {
		e.drop()
		return nil
	}
	g := e.begin()
	e.timer = nil
	g.roundTwo()
	return g
}

// drop ends them, unless they were handed over.
func (e *earlyGuards) drop() {
	if e.timer != nil && !e.timer.Stop() {
		e.begin().drop()
	}
	e.timer = nil
}

// probeWhileHolding makes one round and resolves a conflict. Where a virtual IP is
// missing, it is added on the grounds on which all would be taken: two silent
// rounds, the guards beside the second.
func (n *Network) probeWhileHolding(ctx context.Context, known state.Known, o Observation) Observation {
	o = n.probeOnce(ctx, o)
	missing := len(o.Held()) < len(n.j.Set.VIPs) && (known.Role == state.Active || known.Role == state.Taking)
	if missing && o.Holding() && o.Primary == check.Down && len(o.Faults) == 0 {
		n.j.Event(run.Waiting{For: n.j.Set.RetryWait, Why: "before the second round"})
		if !proc.Sleep(ctx, n.j.Set.RetryWait) {
			return o
		}
		o.Local = o.Again(n.j)
		g := n.guard(ctx, o, guardPlan{length: n.j.Set.Round(), take: n.j.MayTake(known, o), last: true})
		up := false
		if len(o.Faults) == 0 {
			o, up = n.round(ctx, o, 2)
		}
		if up {
			g.drop()
		} else {
			o = g.finish(o).judged()
		}
	}
	if !o.Holding() {
		// One round is too little to take it over again at once.
		o.Faults = o.Faults.And(faultf(FaultPing, "what was held here has left in the middle of the check"))
		return o
	}
	return n.resolveConflict(ctx, o)
}

// probeOnce makes one round with the guards beside it; they go on for a while
// when the primary replies at once, to hear a conflicting host.
func (n *Network) probeOnce(ctx context.Context, o Observation) Observation {
	length := holdGuard
	if len(o.Faults) == 0 {
		length = max(n.j.Set.Round(), holdGuard)
	}
	g := n.guard(ctx, o, guardPlan{length: length})
	if len(o.Faults) == 0 {
		var up bool
		if o, up = n.round(ctx, o, 1); up {
			g.shorten(holdGuard)
		}
		return g.finish(o).judged()
	}
	return g.finish(o)
}

// round makes one round of pings to the primary, and tells whether it replied.
func (n *Network) round(ctx context.Context, o Observation, number int) (Observation, bool) {
	shown := make([]state.Round, len(o.Paths))
	o, up := n.pingPaths(ctx, o, func(ctx context.Context, i int, p Path) check.Round {
		pings := check.Pings{Address: p.Address, Source: p.Source, Count: n.j.Set.Count, Interval: n.j.Set.Interval, Timeout: n.j.Set.Timeout}
		made, s := n.j.Round(ctx, number, p.Host, len(o.Paths) > 1, pings, func(ctx context.Context, pings check.Pings) check.Round { return n.pingOther(ctx, p, pings) })
		shown[i] = s
		return made
	})
	o.Evidence.Rounds = slices.Clone(o.Evidence.Rounds)
	for i, p := range o.Paths {
		if p.Asked() && (!up || n.j.EveryPath || p.round.Verdict == check.Up) { // the others were cut short
			o.Evidence.Rounds = append(o.Evidence.Rounds, shown[i])
		}
	}
	if up {
		o.Evidence.Address = o.Shown().String()
	}
	return o, up
}

// pingPaths pings the primary by all paths, side by side. The first reply ends it.
func (n *Network) pingPaths(ctx context.Context, o Observation, ping func(ctx context.Context, i int, p Path) check.Round) (_ Observation, up bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.Paths = slices.Clone(o.Paths)
	var rounds sync.WaitGroup
	for i, p := range o.Paths {
		if !p.Asked() {
			continue
		}
		rounds.Go(func() {
			if o.Paths[i].round = ping(ctx, i, p); o.Paths[i].round.Verdict == check.Up && !n.j.EveryPath {
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

// pingOther pings the primary, with a verdict only if it was another machine
// that replied: since the survey the address may have come here, as another
// cluster's virtual IP.
func (n *Network) pingOther(ctx context.Context, path Path, pings check.Pings) check.Round {
	made := n.j.Ping(ctx, pings)
	if made.Verdict != check.Up || path.Route.Local {
		return made
	}
	snapshot, err := n.j.known()
	if err == nil && snapshot.Holds(path.Address) {
		err = errors.New(hereNow(path.Address))
	}
	if err != nil {
		made.Verdict, made.Err = check.Unknown, err
	}
	return made
}

// ProbeAgain asks once more, for a moment, whether the primary or another machine
// that has a virtual IP replies: what was observed before is too old. Primary is
// what its pings say for themselves.
func (n *Network) ProbeAgain(ctx context.Context, o Observation, mayTake bool) (_ Observation, primary check.Verdict) {
	g := n.guard(ctx, o, guardPlan{length: LastGuard, take: mayTake, once: true})
	if n.j.NoPings || len(o.Faults) > 0 {
		return g.finish(o), primary
	}
	o, _ = n.pingPaths(ctx, o, func(ctx context.Context, _ int, p Path) check.Round {
		pings := check.PingsWithin(LastGuard)
		pings.Address, pings.Source = p.Address, p.Source
		return n.pingOther(ctx, p, pings)
	})
	o = g.finish(o)
	primary, why := o.verdict()
	if !n.j.Manual && ctx.Err() == nil {
		o.Faults = o.Faults.And(why...)
	}
	return o, primary
}

// manualGuard is how long a manual takeover asks who has the addresses.
const manualGuard = 3 * time.Second

// ProbeOthers asks who has the virtual IPs, and whether a witness replies; the
// primary is not pinged.
func (n *Network) ProbeOthers(ctx context.Context, known state.Known, o Observation) Observation {
	n.j.Doing("probing")
	return n.guard(ctx, o, guardPlan{length: manualGuard, take: n.j.MayTake(known, o)}).finish(o)
}

// Examine makes one round and asks who serves the virtual IPs, with ordinary
// requests only. Beside what that showed it returns what kept some from being
// asked.
func Examine(ctx context.Context, j *Job, rec state.Record, l Local) (_ Observation, notAsked []Fault) {
	n := NewNetwork(j, l, rec.Neighbour)
	defer n.Close()
	o := n.probeOnce(ctx, Start(j, rec, l))
	if o.Primary == check.Up {
		o = n.whoServes(ctx, o)
	}
	o = n.probeServices(ctx, n.Read(o))
	return n.Read(o), o.Faults[len(l.Faults):]
}
