package failover

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"pingover/check"
	"pingover/state"
	"pingover/vip"
)

const (
	// askEvery is the time between two questions for the same address. In a
	// round of the default 13 s that makes 27 questions. A holder stays
	// unheard, measured in 20,000 tries each (arithmetic in brackets):
	//
	//	questions                 3            6            9            27
	//	half lost one way   12.4 (12.5)  1.55 (1.56)  0.23 (0.20)   0 (1e-8)    %
	//	half lost each way  42.9 (42.2)  17.8 (17.8)  7.36 (7.51)  0.01 (0.04)  %
	askEvery = 500 * time.Millisecond
	// leastAsks is the least number of questions before silence counts, in
	// short rounds and where a rival is asked once more.
	leastAsks = 6
	// lastWord is how long before the end of the round the last question is
	// asked: time for an answer, and for whoever has just taken over to say so.
	lastWord = 100 * time.Millisecond
	// leastGuard is how long the guards ask at the least beside a round
	// that is shorter.
	leastGuard = 500 * time.Millisecond
	// lastGuard is how long is asked again after a hook that took long.
	lastGuard = time.Second
	// holdGuard is how long a rival is listened for while holding, when the
	// primary answers at once and the round is over.
	holdGuard = 900 * time.Millisecond
	// serveGuard is how long somebody is asked who serves the virtual IPs
	// while the primary answers. Served, it takes one round trip.
	serveGuard = 900 * time.Millisecond
	serveAsks  = 9
	// edge is the longest a witness is given to answer at the start, and
	// at the end, of the round.
	edge = 2 * time.Second
	// yieldFor is how long a lower MAC that probes is waited for.
	yieldFor = 3 * time.Second
	// rivalPatience is how long who has the lower MAC stays silent before it
	// believes that a rival stays.
	rivalPatience = 10 * time.Second
)

// ear is an open socket on an interface.
type ear struct {
	Listener
	link vip.Link
}

// listen opens an ear on each interface where somebody has to be asked, or
// told. Without virtual IPs there is nothing to guard.
func (r *run) listen() {
	if r.ears != nil {
		return
	}
	r.ears = map[string]ear{}
	addrs := map[string][]netip.Addr{}
	add := func(link string, a netip.Addr) {
		if link != "" && !slices.Contains(addrs[link], a) {
			addrs[link] = append(addrs[link], a)
		}
	}
	for _, a := range r.ground.aliases {
		add(a.Interface, a.Prefix.Addr())
	}
	if len(addrs) == 0 {
		return
	}
	if r.neighbour() {
		add(r.ground.route.Interface, r.ground.address)
	}
	for _, w := range r.ground.witness {
		add(w.link, w.address)
	}
	for name, list := range addrs {
		link, ok := r.ground.kernel.Link(name)
		if !ok || !link.Up || !link.Carrier || !link.ARP {
			continue
		}
		wire, err := r.Listen(link, r.ground.kernel.OwnMAC, list...)
		if err != nil {
			r.deaf = err
			continue
		}
		r.ears[name] = ear{wire, link}
	}
}

func (r *run) deafen() {
	for _, e := range r.ears {
		e.Close()
	}
}

// neighbour says whether the primary is on the link, where ARP or ND reaches
// it even when its pings are filtered.
func (r *run) neighbour() bool {
	return r.ground.address.IsValid() && r.ground.route.OnLink && !r.ground.route.Local
}

// ask asks once for an address by ARP or ND, if it can be asked for: by a
// probe of RFC 5227, or by an ordinary request, which holds no other standby
// back.
func (r *run) ask(link string, target netip.Addr, probe bool) error {
	e, ok := r.ears[link]
	if !ok {
		return nil
	}
	from := netip.Addr{}
	if !probe {
		if from = r.sender(link, target); !from.IsValid() {
			return fmt.Errorf("%s could not be asked for on %s: this machine has no address to ask from", target, link)
		}
	}
	if err := e.Ask(target, from); err != nil {
		return fmt.Errorf("%s could not be asked for on %s: %w", target, link, err)
	}
	return nil
}

// sender is the address that an ordinary request comes from: one of the
// interface, else any that this machine has. Without one it would be a probe.
func (r *run) sender(link string, target netip.Addr) netip.Addr {
	k := r.ground.kernel
	from := k.Source(link, target, r.vips())
	for i := 0; !from.IsValid() && i < len(k.Links); i++ {
		if !k.Links[i].Loopback {
			from = k.Source(k.Links[i].Name, target, r.vips())
		}
	}
	return from
}

// askWhoServes pings the virtual IPs while the primary is pinged: whoever
// replies serves them. Wait gives them the time for it, and asks on the link
// for those who did not; end has to be called in any case. A packet socket
// costs the kernel some 10 ms to close, so none is opened where pings do.
func (r *run) askWhoServes(ctx context.Context) (wait, end func()) {
	if !r.set.DuplicateCheck || len(r.ground.aliases) == 0 {
		return func() {}, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	replied := make([]bool, len(r.ground.aliases))
	var pings sync.WaitGroup
	for i, a := range r.ground.aliases {
		addr := a.Prefix.Addr()
		source := r.ground.kernel.Source(a.Interface, addr, r.vips())
		pings.Go(func() {
			round := r.Ping(ctx, check.Pings{Address: a.Address(), Source: source, Count: 1, Interval: serveGuard, Timeout: serveGuard / 3})
			replied[i] = round.Verdict == check.Up
		})
	}
	wait = func() {
		pings.Wait()
		for i, a := range r.ground.aliases {
			addr := a.Prefix.Addr()
			r.asked[addr], r.pinged[addr] = replied[i], replied[i]
		}
		if r.allClaimed() {
			return
		}
		r.listen()
		for range serveAsks {
			for _, a := range r.ground.aliases {
				if _, ok := r.ears[a.Interface]; ok && r.ask(a.Interface, a.Prefix.Addr(), false) == nil {
					r.asked[a.Prefix.Addr()] = true
				}
			}
			if r.await(ctx, serveGuard/serveAsks, r.allClaimed) {
				return
			}
		}
		for i, a := range r.ground.aliases {
			if e, ok := r.ears[a.Interface]; ok && e.Err() != nil && !replied[i] {
				r.asked[a.Prefix.Addr()] = false // an answer would not have been heard
			}
		}
	}
	return wait, func() {
		cancel()
		pings.Wait()
	}
}

// guards are the questions beside a round.
type guards struct {
	r      *run
	ctx    context.Context
	cancel context.CancelFunc
	began  time.Time
	length time.Duration
	short  bool // cut off before the end of the round
	once   bool // a witness is asked once, not at the start and at the end
	tasks  sync.WaitGroup

	mu     sync.Mutex
	take   bool // may become a takeover: ask by probes
	errors []error
}

// guard starts the guards for so long. With mayTake the virtual IPs are asked
// for by probes as soon as a witness has answered; else by requests.
func (r *run) guard(ctx context.Context, length time.Duration, mayTake bool) *guards {
	r.since = time.Now()
	return r.guards(ctx, length, mayTake, false)
}

// guardOnce is guard for the moment in which all is asked once more. What was
// heard before still counts, as the witness does that has answered then; now it
// may whenever it will: there is no time for a slow one to do so twice.
func (r *run) guardOnce(ctx context.Context, mayTake bool) *guards {
	return r.guards(ctx, lastGuard, mayTake, true)
}

func (r *run) guards(ctx context.Context, length time.Duration, mayTake, once bool) *guards {
	r.listen()
	ctx, cancel := context.WithCancel(ctx)
	g := &guards{r: r, ctx: ctx, cancel: cancel, began: time.Now(), length: max(length, leastGuard), once: once}
	clear(r.pinged)
	g.take = mayTake && (once || !r.set.Witness.Auto && len(r.ground.witness) == 0)
	switch {
	case r.deaf == nil:
	case r.set.DuplicateCheck:
		g.fail(r.deaf)
	default:
		r.note("%v; nothing can be announced there", r.deaf)
	}
	for i := range r.ground.witness {
		g.tasks.Go(func() { g.watch(&r.ground.witness[i], mayTake) })
	}
	for _, a := range r.ground.aliases {
		if addr := a.Prefix.Addr(); !r.ground.kernel.Holds(addr) && addr != r.ground.address {
			g.tasks.Go(func() { g.ping(a) })
		}
	}
	g.tasks.Go(g.ask)
	return g
}

// wait waits until the guards have ended.
func (g *guards) wait() {
	g.tasks.Wait()
	g.cancel()
}

// shorten ends the guards when they have asked for d.
func (g *guards) shorten(d time.Duration) {
	g.short = true
	time.AfterFunc(max(0, d-time.Since(g.began)), g.cancel)
}

// ask asks for the primary, the virtual IPs and the witnesses on the link,
// again and again.
func (g *guards) ask() {
	r := g.r
	every := min(askEvery, g.length/leastAsks)
	end := g.began.Add(g.length)
	for n := time.Duration(1); ; n++ {
		g.askAll(false)
		if left := time.Until(end.Add(-lastWord)); left <= every {
			if sleep(g.ctx, left) {
				g.askAll(true)
				sleep(g.ctx, time.Until(end))
			}
			break
		}
		if !sleep(g.ctx, time.Until(g.began.Add(n*every))) { // no drift: it would cost a question
			break
		}
	}
	for name, e := range r.ears {
		if err := e.Err(); err != nil {
			g.fail(fmt.Errorf("could not go on listening on %s: %w", name, err))
		}
	}
}

// askAll asks once; last says that it is for the last time in this round.
func (g *guards) askAll(last bool) {
	r := g.r
	g.mu.Lock()
	probe := g.take
	g.mu.Unlock()
	if r.set.DuplicateCheck {
		for _, a := range r.ground.aliases {
			addr := a.Prefix.Addr()
			if err := r.ask(a.Interface, addr, probe && g.mayProbe(addr, last)); err != nil {
				g.fail(err)
			} else {
				_, r.asked[addr] = r.ears[a.Interface]
			}
		}
		if r.neighbour() && !r.isVIP(r.ground.address) {
			if err := r.ask(r.ground.route.Interface, r.ground.address, false); err != nil {
				g.fail(err)
			}
		}
	}
	for i := range r.ground.witness { // no copies: watch writes what it heard
		// What fails here is a witness that does not answer.
		w := &r.ground.witness[i]
		_ = r.ask(w.link, w.address, false)
	}
}

// mayProbe says whether an address may be asked for by a probe now. An IPv6
// probe does harm to a machine that just brings the address up, as the primary
// does when it boots: it gives it up for good. So it is sent only where no IPv4
// probe tells the other standbys the same, once, last, and not when the primary
// or somebody who goes first was heard.
func (g *guards) mayProbe(addr netip.Addr, last bool) bool {
	r := g.r
	switch {
	case r.ground.kernel.Holds(addr):
		return false
	case addr.Is4():
		return true
	case !last || slices.ContainsFunc(r.vips(), netip.Addr.Is4):
		return false
	}
	_, answers := r.claimant(r.ground.address)
	return !answers && len(r.contenders()) == 0
}

// ping asks for a virtual IP by ping. Where ARP or ND asks for it too, a ping
// that cannot be sent says nothing (its network may not be ours); where
// nothing else asks, it means that the question stays open.
func (g *guards) ping(a vip.Alias) {
	r, addr := g.r, a.Prefix.Addr()
	pings := check.Pings{Count: r.set.Count, Interval: r.set.Interval, Timeout: r.set.Timeout}
	if g.length < r.set.Round() {
		pings = pingsWithin(g.length)
	}
	pings.Address, pings.Source = a.Address(), r.ground.kernel.Source(a.Interface, addr, r.vips())
	round := r.Ping(g.ctx, pings)
	g.mu.Lock()
	defer g.mu.Unlock()
	_, heard := r.ears[a.Interface]
	switch {
	case round.Verdict == check.Up:
		r.pinged[addr] = true
	case round.Verdict == check.Unknown && !(r.set.DuplicateCheck && heard) && g.ctx.Err() == nil:
		g.errors = append(g.errors, fmt.Errorf("nobody could be asked for %s: %w", addr, round.Err))
	}
}

// watch asks a witness at the start and at the end of the round.
func (g *guards) watch(w *witness, mayTake bool) {
	w.start, w.end, w.unasked = "", "", false
	window := min(edge, g.length/3)
	if g.once {
		window = g.length
	}
	w.start = g.witnessAnswers(w, window)
	if w.start != "" && mayTake {
		g.mu.Lock()
		g.take = true
		g.mu.Unlock()
	}
	if g.once {
		w.end = w.start
	} else if sleep(g.ctx, time.Until(g.began.Add(g.length-window))) {
		w.end = g.witnessAnswers(w, window)
	}
}

// witnessAnswers says by what a witness answered within the window: "ping",
// "arp", "nd"; "" when it did not. That it is heard is not enough: it must have
// heard us, for our own transmitter may be what is broken.
func (g *guards) witnessAnswers(w *witness, window time.Duration) string {
	began := time.Now()
	pings := pingsWithin(window)
	pings.Address = w.address
	round := g.r.Ping(g.ctx, pings)
	if round.Verdict == check.Up {
		return "ping"
	}
	sleep(g.ctx, time.Until(began.Add(window)))
	e, ok := g.r.ears[w.link]
	if ok && slices.ContainsFunc(claims(e, w.address, began), func(h vip.Reply) bool { return h.Direct }) {
		return protocol(w.address)
	}
	if round.Verdict == check.Unknown && g.ctx.Err() == nil && (!ok || e.Err() != nil) {
		w.unasked = true
	}
	return ""
}

// leads says whether the network of this machine leads to an address, as far as
// the kernel knows. Who cannot be asked all the same is not cut off: the fault is
// in this machine.
func (r *run) leads(a netip.Addr) bool {
	route, err := r.Route(a)
	return err == nil && r.linkFault(route.Interface) == ""
}

// pingsWithin are a few pings, evenly over so long.
func pingsWithin(d time.Duration) check.Pings {
	const pings = 5
	each := max(d/(pings+1), 10*time.Millisecond)
	return check.Pings{Count: pings, Interval: each, Timeout: each}
}

func (g *guards) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.errors = append(g.errors, err)
}

// weigh puts what the guards found into what was seen.
func (r *run) weigh(g *guards) {
	for _, err := range g.errors {
		r.ground.blame("%v", err)
	}
	_, heard := r.ears[r.ground.route.Interface]
	r.seen.OnLink = r.set.DuplicateCheck && r.neighbour() && heard
	r.seen.Witness = state.WitnessSilent
	switch {
	case len(r.ground.witness) > 0:
	case r.ground.never:
		r.seen.Witness = state.WitnessNone
	default:
		r.seen.Witness = state.WitnessOff
	}
	r.evidence.Witnesses = nil
	unasked := len(r.ground.witness) > 0
	for _, w := range r.ground.witness {
		// One that is here, as another cluster's virtual IP may be, answers
		// itself.
		good := w.start != "" && (w.end != "" || g.short) && !r.ground.kernel.Holds(w.address)
		shown := state.Witness{Address: w.address.String(), Answers: good}
		if good {
			by := cmp.Or(w.end, w.start)
			shown.By, r.seen.Witness = &by, state.WitnessGood
		}
		unasked = unasked && w.unasked && r.leads(w.address)
		r.evidence.Witnesses = append(r.evidence.Witnesses, shown)
	}
	if unasked {
		r.seen.Witness = state.WitnessNotAsked
	}
	r.looked = time.Now()
	r.see()
	r.tell(Guarded{Witnesses: r.evidence.Witnesses, Holders: r.evidence.Holders, Fault: r.ground.fault})
}

// yield waits for who probes for the same virtual IP and goes first. When
// it takes the address it is heard as its holder; when it does not, this
// machine goes on: it may have been refused what it wanted. IPv6 is not asked
// for by probes: that would be the end of the address on who goes first.
func (r *run) yield(ctx context.Context) {
	first := r.contenders()
	if len(first) == 0 || len(r.judge().Raise) == 0 {
		return
	}
	r.tell(Waiting{For: yieldFor, Why: fmt.Sprintf("%s is about to take over as well, and goes first", first[0])})
	for end := time.Now().Add(yieldFor); ; {
		for _, a := range r.ground.aliases {
			addr := a.Prefix.Addr()
			if err := r.ask(a.Interface, addr, addr.Is4()); err != nil {
				r.ground.blame("%v", err)
			}
		}
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil || r.await(ctx, min(askEvery, left), r.allClaimed) {
			break
		}
	}
	if err := r.unheard(r.vips()); err != nil {
		r.ground.blame("%v", err)
	}
	for _, mac := range r.contenders() {
		if !slices.Contains(first, mac) {
			r.seen.CompetingProber = mac
		}
	}
}

// contenders are the lower MACs that probed for a virtual IP, and the
// primary's: a primary that boots probes for what is its own. Where the host is
// a virtual IP itself, it is nobody's own.
func (r *run) contenders() []string {
	owner := r.rec.Neighbour
	if r.isVIP(r.ground.address) {
		owner = ""
	}
	var macs []string
	for _, a := range r.ground.aliases {
		e := r.ears[a.Interface]
		if e.Listener == nil {
			continue
		}
		for _, h := range e.Replies(r.since) {
			if mac := h.MAC.String(); h.Probe && h.Address == a.Prefix.Addr() &&
				(bytes.Compare(h.MAC, e.link.MAC) < 0 || mac == owner) && !slices.Contains(macs, mac) {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// faceRival settles who gives way when another machine answers for what is
// held here. Its MAC is lower: we do. Ours is lower: we stay silent for a
// while and ask again; who still answers then is no pingover that gives way,
// and we do. So two pingovers do not both let go, and a static holder wins.
func (r *run) faceRival(ctx context.Context) {
	rival, lower := r.rival(r.since)
	if rival == (state.Holder{}) {
		return
	}
	if time.Now().After(r.pausedUntil()) {
		if lower {
			rival = r.stillThere(ctx)
		} else {
			rival = r.outwait(ctx, rival)
		}
		r.again()
	}
	r.seen.Conflict, r.seen.WaitedForPeer = rival, !lower
}

// outwait stays silent, asks again, and returns who still answers.
func (r *run) outwait(ctx context.Context, rival state.Holder) state.Holder {
	r.tell(Waiting{For: rivalPatience, Why: fmt.Sprintf("%s has %s as well, and ought to give way: its MAC is the higher one", rival.MAC, rival.Address)})
	if !sleep(ctx, rivalPatience) {
		return rival
	}
	return r.stillThere(ctx)
}

// stillThere asks once more for what is held, and returns the first that
// answers. What was heard when a long round began is no ground for letting
// go: the rival may have let go itself by now.
func (r *run) stillThere(ctx context.Context) (rival state.Holder) {
	since := time.Now()
	for range leastAsks {
		r.askHeld()
		if r.await(ctx, holdGuard/leastAsks, func() bool { rival, _ = r.rival(since); return rival.MAC != "" }) {
			break
		}
	}
	return rival
}

func (r *run) askHeld() {
	if !r.set.DuplicateCheck {
		return
	}
	for _, a := range r.ground.aliases {
		if err := r.ask(a.Interface, a.Prefix.Addr(), false); err != nil {
			r.note("%v", err)
		}
	}
}

// rival is who else answers for a virtual IP that is here, and whether its
// MAC is lower than ours; of several the lowest.
func (r *run) rival(since time.Time) (rival state.Holder, lower bool) {
	if !r.set.DuplicateCheck {
		return rival, false
	}
	for _, a := range r.ground.aliases {
		addr := a.Prefix.Addr()
		e := r.ears[a.Interface]
		if e.Listener == nil || !r.ground.kernel.Holds(addr) {
			continue
		}
		for _, h := range claims(e, addr, since) {
			if l := bytes.Compare(h.MAC, e.link.MAC) < 0; rival.MAC == "" || l && !lower {
				rival, lower = state.Holder{Address: addr.String(), MAC: h.MAC.String()}, l
			}
		}
	}
	return rival, lower
}

// holder is another machine that answered for an address, if one did.
func (r *run) holder(a netip.Addr) (state.Holder, bool) {
	if heard, ok := r.claimant(a); ok {
		return state.Holder{Address: a.String(), MAC: heard.MAC.String()}, true
	}
	return state.Holder{Address: a.String()}, r.pinged[a]
}

// claimant is the last that was heard to have an address.
func (r *run) claimant(a netip.Addr) (vip.Reply, bool) {
	for _, e := range r.ears {
		if heard := claims(e, a, r.since); len(heard) > 0 {
			return heard[len(heard)-1], true
		}
	}
	return vip.Reply{}, false
}

func (r *run) allClaimed() bool {
	for _, a := range r.vips() {
		if _, ok := r.holder(a); !ok && !r.ground.kernel.Holds(a) {
			return false
		}
	}
	return true
}

// await waits until enough is true, or d is over; it looks whenever something
// is heard.
func (r *run) await(ctx context.Context, d time.Duration, enough func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	news := make(chan struct{}, 1)
	for _, e := range r.ears {
		next := e.Changed() // before the first look, so that nothing is missed
		go func() {
			for {
				select {
				case <-next:
				case <-ctx.Done():
					return
				}
				next = e.Changed()
				select {
				case news <- struct{}{}:
				default:
				}
			}
		}()
	}
	for {
		if enough() {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return enough()
		}
	}
}

// claims are what was heard of machines that have an address.
func claims(w Listener, a netip.Addr, since time.Time) []vip.Reply {
	return slices.DeleteFunc(w.Replies(since), func(h vip.Reply) bool { return h.Probe || h.Address != a })
}

func protocol(a netip.Addr) string {
	if a.Is4() {
		return "arp"
	}
	return "nd"
}
