package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

const (
	// AskEvery is the time between two questions for the same address. In a
	// round of the default 13 s that makes 27 questions. A holder stays
	// unheard, measured in 20,000 tries each (arithmetic in brackets):
	//
	//	questions                 3            6            9            27
	//	half lost one way   12.4 (12.5)  1.55 (1.56)  0.23 (0.20)   0 (1e-8)    %
	//	half lost each way  42.9 (42.2)  17.8 (17.8)  7.36 (7.51)  0.01 (0.04)  %
	AskEvery = 500 * time.Millisecond
	// LeastAsks is the least number of questions before silence counts, in
	// short rounds and where a conflicting host is asked once more, leastApart
	// the least time between two of them: what disturbs a link for a moment must
	// not take all.
	LeastAsks  = 6
	leastApart = 20 * time.Millisecond
	// lastQuestion is how long before the end of the round the last question is
	// asked: time for a reply, and for the announcement of a new holder. In short
	// rounds it is the time between two questions.
	lastQuestion = 100 * time.Millisecond
	// leastGuard is how long the guards ask at least beside a shorter round.
	leastGuard = LeastAsks * leastApart
	// LastGuard is how long is asked again after a slow hook.
	LastGuard = time.Second
	// holdGuard is how long a conflicting host is listened for while holding,
	// when the primary replies at once and the round is over.
	holdGuard = 900 * time.Millisecond
)

// guardPlan is how long guards ask, and what for.
type guardPlan struct {
	length time.Duration
	take   bool // could become a takeover: probes as soon as a witness has replied; else ordinary requests
	// once: all is asked once more, for a moment. What was heard before still
	// counts, and a witness may reply at any time: there is no time for a slow
	// one to do so twice.
	once bool
	// last: the second round, whose replies are acted upon.
	last bool
	// brief: they end as soon as each witness has replied.
	brief bool
	// early: they begin in round one, and ask by ordinary requests until the second
	// begins: nothing speaks for a takeover before that.
	early bool
}

// reply is how long the last question has for its reply.
func (p guardPlan) reply() time.Duration { return min(lastQuestion, p.length/LeastAsks) }

// guards are the questions beside a round.
type guards struct {
	plan   guardPlan
	n      *Network
	local  Local
	known  string // the primary's MAC
	ctx    context.Context
	cancel context.CancelFunc
	soon   context.Context // ends when the last question is due
	last   context.CancelFunc
	began  time.Time
	short  bool // cut off before the end of the round
	lost   uint64
	tasks  sync.WaitGroup

	mu        sync.Mutex
	take      bool
	second    bool // round two has begun
	replied   int  // witnesses
	replies   claims
	witnesses []check.WitnessReplies
	faults    Faults
	asked     time.Time // the last question
	claimed   map[netip.Addr]claimed
}

func (n *Network) guard(ctx context.Context, o Observation, plan guardPlan) *guards {
	n.Open(o.Snapshot)
	o = o.WithoutPings()
	if !plan.once {
		o.replies.since = time.Now()
		o.replies.began = o.replies.since
	}
	o.replies.unfit = o.cannotTake()
	ctx, cancel := context.WithCancel(ctx)
	plan.length = max(plan.length, leastGuard)
	g := &guards{
		plan: plan, n: n, local: o.Local, known: o.Neighbour, ctx: ctx, cancel: cancel, began: time.Now(),
		lost: n.Lost(), replies: o.replies, claimed: map[netip.Addr]claimed{}, witnesses: make([]check.WitnessReplies, len(o.Witnesses)),
		take: plan.take && (plan.once || !n.j.Set.Witness.Auto && len(o.Witnesses) == 0),
	}
	g.soon, g.last = context.WithCancel(ctx)
	switch err := n.OpenErr(); {
	case err == nil:
	case n.j.Set.DuplicateCheck:
		g.fault(err)
	default:
		n.j.Infof("%v; nothing can be announced there", err)
	}
	witness := check.WitnessAsker{Ping: n.j.Ping, Neighbour: g.heardWitness, Began: g.began, Length: plan.length, Once: plan.once}
	for i, w := range o.Witnesses {
		g.tasks.Go(func() { g.witnesses[i] = witness.Ask(ctx, w, g.witnessed) })
	}
	for _, a := range o.Aliases {
		if addr := a.Address(); !o.Snapshot.Holds(addr) && !o.isHost(addr) && o.CannotAssign(a) == "" {
			g.tasks.Go(func() { g.ping(a) })
		}
	}
	g.tasks.Go(g.ask)
	if plan.brief && len(o.Witnesses) == 0 {
		cancel()
	}
	return g
}

// roundTwo tells guards that began in round one that the second begins.
func (g *guards) roundTwo() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.second = true
}

// drop ends guards whose replies are not needed.
func (g *guards) drop() {
	g.cancel()
	g.wait()
}

// wait waits until the guards have ended.
func (g *guards) wait() {
	g.tasks.Wait()
	g.cancel()
}

// shorten ends the guards when they have asked for d, with a last question all the
// same: this run may have stood still until now.
func (g *guards) shorten(d time.Duration) {
	g.short = true
	left := max(d-time.Since(g.began), g.plan.reply())
	time.AfterFunc(left-g.plan.reply(), g.last)
	time.AfterFunc(left, g.cancel)
}

// finish waits for the guards, and is the observation with what they found.
func (g *guards) finish(o Observation) Observation {
	g.wait()
	if g.plan.last || g.plan.once {
		g.confirm()
	}
	o.Local = o.Again(g.n.j)
	o.replies = g.replies
	for _, f := range g.faults {
		if o.LinkFault(f.Link) == "" { // else it concerns what is on that link alone
			o.Faults = o.Faults.And(f)
		}
	}
	o.OnLink = g.n.j.Set.DuplicateCheck && slices.ContainsFunc(o.Neighbours(), func(t vip.Target) bool { return g.n.Listening(t.Interface) })
	o.Witness, o.Evidence.Witnesses = g.witnessState(o.Local)
	o.Asked = g.asked // the round may have gone on since
	o = g.n.Read(o)
	for _, t := range slices.Concat(o.targets(), o.Neighbours()) {
		if mac, ok := g.n.ProxyFor(t, g.replies.since); ok {
			g.n.j.Infof("the gateway (%s) replies to ARP for %s as well: proxy ARP, ignored", mac, t.Address)
		}
	}
	g.n.j.Event(Guarded{Witnesses: o.Evidence.Witnesses, Holders: o.Evidence.Holders, Primary: state.Holder{Address: o.Evidence.Address, MAC: o.Neighbour}, Fault: o.Faults.String()})
	return o
}

// ask asks for the primary, the virtual IPs and the witnesses on the link, again
// and again. A run that stood still goes on until it has asked often enough.
func (g *guards) ask() {
	every := min(AskEvery, g.plan.length/LeastAsks)
	end := g.began.Add(g.plan.length - g.plan.reply())
	next := g.began
	for asked := 1; ; asked++ {
		g.askAll(false)
		if time.Until(end) <= every+every/4 && asked >= LeastAsks-1 {
			g.sleep(end, every)
			break
		}
		if next = next.Add(every); !g.sleep(next, every) { // no drift: it would cost a question
			break
		}
	}
	if g.ctx.Err() == nil {
		g.askAll(true)
		proc.Sleep(g.ctx, g.plan.reply())
	}
	for link, err := range g.n.Errs() {
		g.faultOn(link, err)
	}
}

// sleep waits until then, unless the last question is due before. A run that stood
// still waits for a moment more: what came meanwhile, such as a reply of the primary,
// may end the questions.
func (g *guards) sleep(until time.Time, moment time.Duration) bool {
	return proc.Sleep(g.soon, time.Until(until)) && (time.Since(until) <= moment || proc.Sleep(g.soon, moment))
}

// askAll asks once; last: for the last time in this round. Then a probe follows a
// request that its holder may not reply to, or that only proxy ARP replied to.
func (g *guards) askAll(last bool) {
	g.mu.Lock()
	tooEarly := g.plan.early && !g.second
	probe := g.take && !tooEarly
	g.mu.Unlock()
	ask := func(t vip.Target, probe bool) error {
		err := g.n.Ask(g.local.Snapshot, t, probe)
		if err != nil && g.local.CannotTake(t.Address) == "" {
			g.faultOn(t.Interface, err)
		}
		return err
	}
	g.count()
	if last {
		g.asked = time.Now()
	}
	if g.n.j.Set.DuplicateCheck {
		for _, t := range g.local.targets() {
			held, mute := g.local.Holds(t.Address), g.n.Mute(g.local.Snapshot, t)
			if mute && (!last && (held || g.plan.take) || tooEarly) { // the last question is a probe
				continue
			}
			probe := probe && g.mayProbe(t.Address, last, mute) || mute && held && len(g.probers()) == 0
			err := ask(t, probe)
			switch {
			case err != nil:
			case probe && last && t.Address.Is4() && !held && g.hasTime(): // a switch that suppresses ARP (EVPN) forwards no probes
				err = ask(t, false)
			case !probe && last && !tooEarly && g.doubtful(t) && len(g.probers()) == 0:
				err = ask(t, true)
			}
			if err == nil {
				g.mu.Lock()
				g.replies.asked[t.Address] = g.n.Listening(t.Interface)
				g.mu.Unlock()
			}
		}
		for _, host := range g.local.Neighbours() {
			if g.local.IsVIP(host.Address) {
				continue
			}
			_ = ask(host, false)
			if _, heard := g.n.Holder(host.Address, g.replies.since); last && g.plan.last && g.plan.take && !tooEarly && !heard && host.Address.Is4() {
				_ = ask(host, true)
			}
		}
	}
	for _, w := range g.local.Witnesses {
		// What fails here is a witness that does not reply.
		_ = g.n.Ask(g.local.Snapshot, vip.Target{Interface: w.Link, Address: w.Address}, false)
	}
}

// hasTime tells whether each virtual IP may be asked for twice in the last question:
// by arp-rate that must not take so long that the first reply is too old to act upon.
func (g *guards) hasTime() bool {
	rate := g.n.j.Set.ARPRate
	return rate == 0 || len(g.local.vips) <= rate
}

// doubtful tells whether an ordinary request is not enough.
func (g *guards) doubtful(t vip.Target) bool {
	_, proxied := g.n.Proxied(t, g.replies.since)
	return proxied || g.n.NeedsProbe(g.local.Snapshot, t)
}

func (g *guards) probers() []string {
	return g.n.probers(g.local, g.known, g.replies.began)
}

// mayProbe tells whether an address may be asked for by a probe now. An IPv6
// probe harms a machine that is just assigning the address, as the primary does
// when it boots: it gives the address up for good (RFC 4862 5.4.3). So it is sent
// only where no IPv4 probe tells the other standbys the same, or where this machine
// is mute: it has no address to send a request from; once, last, and not when the
// primary or a prober that has precedence was heard.
func (g *guards) mayProbe(addr netip.Addr, last, mute bool) bool {
	switch {
	case g.local.Holds(addr):
		return false
	case addr.Is4():
		return true
	case !last || !mute && slices.ContainsFunc(g.local.vips, netip.Addr.Is4):
		return false
	}
	up := slices.ContainsFunc(g.local.hosts(), func(a netip.Addr) bool {
		_, up := g.n.Holder(a, g.replies.since)
		return up
	})
	return !up && len(g.probers()) == 0
}

// ping asks for a virtual IP by ping. Where ARP or ND asks for it too, a ping
// that cannot be sent means nothing (its network may not be ours); where nothing
// else asks, the question stays open.
func (g *guards) ping(a vip.Alias) {
	addr := a.Address()
	pings := check.Pings{Count: g.n.j.Set.Count, Interval: g.n.j.Set.Interval, Timeout: g.n.j.Set.Timeout}
	if g.plan.length < g.n.j.Set.Round() {
		pings = check.PingsWithin(g.plan.length)
	}
	pings.Address, pings.Source = a.Address(), g.local.Snapshot.Source(a.Interface, addr, g.n.j.VIPs())
	round := g.n.j.Ping(g.ctx, pings)
	switch {
	case round.Verdict == check.Up && !g.n.local(addr):
		g.mu.Lock()
		defer g.mu.Unlock()
		g.replies.pinged[addr] = true
	case round.Verdict == check.Unknown && !(g.n.j.Set.DuplicateCheck && g.n.Listening(a.Interface)) && g.ctx.Err() == nil:
		g.fault(fmt.Errorf("%s could not be asked for: %w", addr, round.Err))
	}
}

func (g *guards) fault(err error) { g.faultOn("", err) }

// faultOn is a fault of what is asked for on one interface.
func (g *guards) faultOn(link string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = g.faults.And(Fault{Kind: FaultAsk, Text: err.Error(), Link: link})
}
