package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/vip"
)

// A schedule of the model: which machines, what settings, and what happens
// when. All of it follows from the seed.

// Of the time of a schedule. It costs nothing to wait in it.
const (
	modelEvery  = 30 * time.Second // between two checks of a machine
	modelChecks = 4                // of each machine at most, in which anything may happen
	modelQuiet  = 6                // and at most so many after them, while all is well but perhaps the primary

	// A watch with the fast line makes so many checks in place of each.
	modelFastEvery  = 100 * time.Millisecond
	modelFastChecks = 30
)

// step is something that happens at a moment of the schedule.
type step struct {
	at   time.Duration
	what string // "" for a check
	do   func()
}

// plan is a schedule in the making.
type plan struct {
	*rand.Rand
	ctx    context.Context
	n      *model
	dir    string
	checks int // of each machine, in which anything may happen
	steps  []step
}

func (p *plan) percent(n int) bool { return p.IntN(100) < n }

func (p *plan) at(t time.Duration, what string, do func()) {
	p.steps = append(p.steps, step{t, what, do})
}

// moment is a time at which something may happen: most often while checks are
// made.
func (p *plan) moment() time.Duration {
	t := time.Duration(p.IntN(p.checks)) * modelEvery
	if p.percent(60) {
		return t + time.Duration(p.Int64N(int64(5*time.Second)))
	}
	return t + time.Duration(p.Int64N(int64(modelEvery)))
}

func (p *plan) pick(units []*unit) *unit { return units[p.IntN(len(units))] }

func one[T any](p *plan, values ...T) T { return values[p.IntN(len(values))] }

// The virtual IPs of the model: the host of a pair is the first.
var modelVIPs = []netip.Addr{vipAddr, netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("2001:db8::1")}

// build makes the machines: a primary, two standbys and a witness, or
// machines that all run pingover and whose host is the virtual IP.
func (p *plan) build(pair bool) {
	n := p.n
	host := primaryAddr.String()
	order := p.Perm(3)
	number := func(i int) byte { return byte(2 + order[i]) } // of the MACs any order
	n.vips = modelVIPs[:1]
	if p.percent(40) {
		n.vips = one(p, modelVIPs[:2], modelVIPs, []netip.Addr{modelVIPs[0], modelVIPs[2]})
		if !pair && p.percent(20) {
			n.vips = modelVIPs[2:]
		}
	}
	add := func(name string, i int, addr string) *unit {
		u := n.add(name, number(i), addr)
		if n.vips[len(n.vips)-1].Is6() {
			u.base = append(u.base, vip.Address{Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8::%x/64", 0x10+i))})
		}
		return u
	}
	native := func(u *unit) {
		u.base = append(u.base, vip.Address{Prefix: host32(one(p, n.vips...)), Label: "eth0"})
	}
	var standbys []*unit
	if !pair {
		n.primary = add("primary", 0, "172.16.0.2/16")
		some := p.percent(15) // of its virtual IPs do not come back with it
		for _, a := range n.vips {
			if !some || p.percent(50) {
				n.primary.base = append(n.primary.base, vip.Address{Prefix: host32(a), Label: "eth0"})
			}
		}
		if p.percent(30) { // nor does any
			n.primary.base = slices.DeleteFunc(n.primary.base, func(a vip.Address) bool { return slices.Contains(n.vips, a.Prefix.Addr()) })
		}
		n.primary.dad = p.percent(30)
		standbys = []*unit{add("one", 1, "172.16.0.3/16"), add("two", 2, "172.16.0.4/16")}
		if p.percent(25) {
			n.direct = p.percent(50)
			for i, u := range []*unit{n.primary, standbys[0], standbys[1]} {
				u.second = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 9, byte(2 + i)}), 24)
			}
		}
	} else {
		host = vipAddr.String()
		standbys = []*unit{add("one", 1, "172.16.0.3/16"), add("two", 2, "172.16.0.4/16")}
		if p.percent(50) { // one of the pair has it from boot on
			native(standbys[0])
		}
		if p.percent(20) {
			standbys = append(standbys, add("three", 0, "172.16.0.6/16"))
		}
	}
	n.witness = n.add("gateway", 254, "172.16.0.254/16")
	if p.percent(15) {
		n.laptop = n.add("laptop", one(p, byte(1), 99), "172.16.0.9/16")
	}
	for _, u := range n.units {
		if u.addrs = slices.Clone(u.base); u == n.primary && p.percent(80) {
			for _, a := range n.vips {
				if !u.holds(a) {
					u.addrs = append(u.addrs, vip.Address{Prefix: host32(a), Label: "eth0"})
				}
			}
		}
	}

	set := config.Cluster{
		Name: "web", Host: host,
		Count: 1 + p.IntN(2), Interval: 50 * time.Millisecond, Timeout: 20 * time.Millisecond,
		RetryWait: one(p, 0, 100*time.Millisecond, 2*time.Second),
		Witness:   config.Witness{Addresses: []netip.Addr{gatewayAddr}}, DuplicateCheck: true, Tool: "auto",
		Announce: 1 + p.IntN(3), Rise: 1 + p.IntN(2), BootWait: one(p, 0, 45*time.Second),
		Lease: one(p, 0, 0, 0, 0, 70*time.Second, 2*time.Minute),
		Mail:  config.Mail{To: []string{"root@standby"}, Timeout: 15 * time.Second, Remind: 24 * time.Hour},
		Given: map[string][]string{"host": {host}}, // written once, and read
	}
	if n.fast = p.percent(*modelFasts); n.fast {
		set.Count, set.Interval, set.Timeout, set.RetryWait = 3, 20*time.Millisecond, 40*time.Millisecond, one(p, 0, 0, 20*time.Millisecond)
	}
	for _, a := range n.vips {
		set.VIPs = append(set.VIPs, config.VIP{Prefix: host32(a)})
	}
	if standbys[0].second.IsValid() {
		set.OtherHosts = []string{"10.9.9.2"}
	}
	if p.percent(30) {
		set.Witness = config.Witness{Auto: true}
	}
	set.Failback, set.Isolated = p.percent(40), p.percent(30)
	if p.percent(25) {
		set.Hooks = config.Hooks{
			PreTakeover: []string{"pre-takeover"}, PostTakeover: []string{"post-takeover"},
			PreRelease: []string{"pre-release"}, PostRelease: []string{"post-release"}, Timeout: 30 * time.Second,
		}
	}
	for _, s := range standbys {
		s.set = &set
		s.hookTime = one(p, 0, 100*time.Millisecond, 3*time.Second)
		s.dir = filepath.Join(p.dir, s.name)
	}
}

func host32(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// standbys are the machines on which pingover runs.
func (p *plan) standbys() (s []*unit) {
	for _, u := range p.n.units {
		if u.set != nil {
			s = append(s, u)
		}
	}
	return s
}

// happening is a kind of event, with how often it comes.
type happening struct {
	weight int
	put    func(p *plan, t time.Duration)
}

// happenings are all that may befall the machines. Each is undone by an event
// that comes later, or by the quiet end.
var happenings = []happening{
	{14, func(p *plan, t time.Duration) { // power cut
		u := p.pick(p.n.units)
		p.at(t, u.name+" loses power", func() { u.crash() })
		if p.percent(70) {
			p.at(t+time.Duration(p.Int64N(int64(2*modelEvery))), u.name+" boots", func() { u.boot() })
		}
	}},
	{10, func(p *plan, t time.Duration) { // the primary, once more
		u := p.n.primary
		if u == nil {
			u = p.pick(p.n.units)
		}
		p.at(t, u.name+" boots, or boots again", func() { u.crash(); u.boot() })
		if p.percent(50) {
			p.at(t+time.Duration(p.Int64N(int64(2*modelEvery))), u.name+" loses power", u.crash)
		}
	}},
	{16, func(p *plan, t time.Duration) { // a run is killed
		u := p.pick(p.standbys())
		k := kill{after: p.percent(50)}
		if p.percent(65) {
			k.act = 1 + p.IntN(6)
		} else {
			k.call = 1 + p.IntN(20)
		}
		p.at(t, fmt.Sprintf("the next run of %s is to be killed: %+v", u.name, k), func() { u.next = &k })
	}},
	{6, func(p *plan, t time.Duration) { // at a moment, not at a call
		u := p.pick(p.standbys())
		p.at(t, u.name+"'s run is killed, if there is one", func() {
			if u.run != nil {
				u.run.kill()
			}
		})
	}},
	{22, func(p *plan, t time.Duration) { // a way, or both ways, get worse
		a, b := p.pick(p.n.units), p.pick(p.n.units)
		how := one(p, path{cut: true}, path{cut: true}, path{loss: 50}, path{loss: 90}, path{slow: 300 * time.Millisecond}, path{slow: 3 * time.Second})
		both := p.percent(50)
		p.at(t, fmt.Sprintf("%s to %s: %+v, both ways: %t", a.name, b.name, how, both), func() {
			p.n.paths[a.i][b.i] = how
			if both {
				p.n.paths[b.i][a.i] = how
			}
		})
		if p.percent(60) {
			p.at(t+time.Duration(p.Int64N(int64(modelEvery))), fmt.Sprintf("%s and %s: fixed", a.name, b.name), func() {
				p.n.paths[a.i][b.i], p.n.paths[b.i][a.i] = path{}, path{}
			})
		}
	}},
	{6, func(p *plan, _ time.Duration) { // a standby hears another one, which does not hear it
		a, b := p.pick(p.standbys()), p.pick(p.standbys())
		p.at(0, fmt.Sprintf("%s to %s: cut", a.name, b.name), func() { p.n.paths[a.i][b.i] = path{cut: true} })
	}},
	{8, func(p *plan, t time.Duration) { // the network falls apart, at times one way only
		side, both := p.IntN(32), p.percent(70)
		p.at(t, fmt.Sprintf("partition %05b, both ways: %t", side, both), func() {
			for i := range p.n.units {
				for j := range p.n.units {
					if side>>i&1 == 1 && side>>j&1 == 0 {
						p.n.paths[i][j].cut = true
						p.n.paths[j][i].cut = both || p.n.paths[j][i].cut
					}
				}
			}
		})
	}},
	{8, func(p *plan, t time.Duration) {
		p.at(t, "the network is well", func() { p.n.paths, p.n.secondCut = [6][6]path{}, false })
	}},
	{6, func(p *plan, t time.Duration) { // a cable
		u := p.pick(p.n.units)
		link := 0
		if u.second.IsValid() {
			link = p.IntN(2)
		}
		plug := func(in bool) func() {
			return func() { u.carrier[link] = in; p.n.relink() }
		}
		p.at(t, fmt.Sprintf("%s's cable %d is out", u.name, link), plug(false))
		if p.percent(70) {
			p.at(t+time.Duration(p.Int64N(int64(modelEvery))), u.name+"'s cable is in", plug(true))
		}
	}},
	{4, func(p *plan, t time.Duration) {
		u := p.pick(p.n.units)
		drop := p.percent(60)
		p.at(t, fmt.Sprintf("%s drops pings: %t", u.name, drop), func() { u.noPing = drop })
	}},
	{8, func(p *plan, t time.Duration) {
		down := p.percent(60)
		p.at(t, fmt.Sprintf("the mail server is away: %t", down), func() { p.n.mailDown = down })
	}},
	{4, func(p *plan, t time.Duration) { // an operator removes the address
		u := p.pick(p.standbys())
		a := one(p, p.n.vips...)
		p.at(t, fmt.Sprintf("manually: %s has no %s", u.name, a), func() {
			if u.on {
				u.unset(a)
				u.lost()
				u.unmailed = ""
				u.gave = u.gave || u.open // what the open release would have removed
			}
		})
	}},
	{4, func(p *plan, t time.Duration) { // an operator pauses, or resumes
		u := p.pick(p.standbys())
		d := time.Duration(p.IntN(3)) * modelEvery
		p.at(t, fmt.Sprintf("%s is paused for %v", u.name, d), func() { p.pause(u, d) })
		p.at(t+d, u.name+"'s pause is over", func() {})
	}},
	{10, func(p *plan, t time.Duration) { // an operator takes over, or releases
		u := p.pick(p.standbys())
		c := command{one(p, "takeover", "release", "release"), p.percent(25)}
		p.steps = append(p.steps, step{t, "", func() { u.start(p.ctx, c) }})
	}},
	{3, func(p *plan, t time.Duration) { // a hook refuses
		u := p.pick(p.standbys())
		p.at(t, u.name+"'s pre-takeover refuses", func() { u.refuses = u.set.Hooks.PreTakeover != nil })
		p.at(t+time.Duration(p.Int64N(int64(2*modelEvery))), u.name+"'s pre-takeover agrees", func() { u.refuses = false })
	}},
	{12, func(p *plan, t time.Duration) { // a run, or a machine, stalls
		u := p.pick(p.n.units)
		d := one(p, time.Second, 4*time.Second, 4*time.Second, 20*time.Second, 70*time.Second, 5*time.Minute)
		switch machine := p.percent(30) || u.set == nil; {
		case machine || p.percent(30):
			p.at(t, fmt.Sprintf("%s is stopped", u.name), func() { u.stall(d, machine) })
		default:
			k := kill{after: true, stall: d}
			if p.percent(50) {
				k.act = 1 + p.IntN(6)
			} else {
				k.call = 1 + p.IntN(20)
			}
			p.at(t, fmt.Sprintf("the next run of %s is to be stopped: %+v", u.name, k), func() { u.next = &k })
		}
	}},
	{4, func(p *plan, t time.Duration) { // cron stops
		u := p.pick(p.standbys())
		p.at(t, u.name+" makes no more checks", func() { u.noCron = true })
		if p.percent(60) {
			p.at(t+time.Duration(p.Int64N(int64(3*modelEvery))), u.name+" makes checks again", func() { u.noCron = false })
		}
	}},
	{4, func(p *plan, t time.Duration) { // hooks cannot be run
		u := p.pick(p.standbys())
		from := one(p, 0, t)
		p.at(from, u.name+"'s hooks cannot be run", func() { u.broken = u.set.Hooks.PreTakeover != nil })
		if p.percent(60) {
			p.at(from+time.Duration(p.Int64N(int64(4*modelEvery))), u.name+"'s hooks can be run", func() { u.broken = false })
		}
	}},
	{4, func(p *plan, t time.Duration) { // the second segment passes nothing
		cut := p.percent(70)
		p.at(t, fmt.Sprintf("the second segment is cut: %t", cut), func() { p.n.secondCut = cut })
	}},
	{6, func(p *plan, t time.Duration) { // somebody claims one virtual IP
		u, a := p.n.laptop, one(p, p.n.vips...)
		if u == nil {
			return
		}
		p.at(t, fmt.Sprintf("the laptop has %s", a), func() {
			if !u.holds(a) {
				u.give(vip.Address{Prefix: host32(a), Label: "eth0"})
			}
		})
		p.at(t+time.Duration(p.Int64N(int64(3*modelEvery))), "the laptop has none", func() { u.addrs, u.kern = slices.Clone(u.base), nil })
	}},
	{3, func(p *plan, t time.Duration) { // a tool fails
		u := p.pick(p.standbys())
		raise := p.percent(50)
		p.at(t, fmt.Sprintf("%s's tool fails, to raise: %t", u.name, raise), func() { u.noRaise, u.noLower = raise, !raise })
		p.at(t+time.Duration(p.Int64N(int64(2*modelEvery))), u.name+"'s tool is well", func() { u.noRaise, u.noLower = false, false })
	}},
}

func (p *plan) pause(u *unit, d time.Duration) {
	u.paused = time.Now().Add(d)
	_ = os.MkdirAll(u.dir, 0o755)
	text, _ := u.paused.MarshalText()
	if err := os.WriteFile(filepath.Join(u.dir, "web.pause"), text, 0o600); err != nil {
		p.n.fail("the model itself: %v", err)
	}
}

// anything builds machines and lets anything happen to them.
func (p *plan) anything() {
	p.build(p.percent(50))
	p.happen()
}

// happen puts some events into the schedule.
func (p *plan) happen() {
	if p.n.primary != nil && p.percent(85) {
		t := time.Duration(p.Int64N(int64(2 * modelEvery)))
		p.at(t, "the primary loses power", p.n.primary.crash)
		if p.percent(30) {
			p.at(t+time.Duration(p.Int64N(int64(3*modelEvery))), "the primary boots", p.n.primary.boot)
		}
	}
	total := 0
	for _, h := range happenings {
		total += h.weight
	}
	for range p.IntN(7) {
		w := p.IntN(total)
		for _, h := range happenings {
			if w -= h.weight; w < 0 {
				h.put(p, p.moment())
				break
			}
		}
	}
}

// run puts the runs of pingover into the schedule: the clocks are out of
// phase, by little or by much, and cron is not on time to the millisecond.
func (p *plan) run(ctx context.Context) {
	for _, u := range p.standbys() {
		phase := time.Duration(p.Int64N(int64(one(p, 100*time.Millisecond, time.Second, 4*time.Second, modelEvery))))
		for i := range p.checks + modelQuiet + p.n.patience {
			jitter := time.Duration(p.Int64N(int64(20 * time.Millisecond)))
			checks := 1
			if p.n.fast {
				checks = modelFastChecks
			}
			for k := range checks {
				p.at(time.Duration(i)*modelEvery+phase+jitter+time.Duration(k)*modelFastEvery, "", func() { u.start(ctx, command{word: "check"}) })
			}
		}
	}
}

// quiet ends what happens: all is well again, and only the primary may stay
// dead.
func (p *plan) quiet() {
	n := p.n
	end := time.Duration(p.checks) * modelEvery
	p.steps = slices.DeleteFunc(p.steps, func(s step) bool { return s.what != "" && s.at >= end })
	p.at(end, "all is well, but perhaps the primary", func() {
		n.quiet, n.paths, n.mailDown, n.secondCut = true, [6][6]path{}, false, false
		if g := n.register; g != nil {
			g.noQuorum, g.cut = false, [6]bool{}
		}
		for _, u := range n.units {
			u.noPing, u.noRaise, u.noLower, u.refuses, u.next = false, false, false, false, nil
			u.broken, u.noCron, u.frozen, u.stalled = false, false, time.Time{}, time.Now()
			if u == n.laptop {
				u.addrs, u.kern = slices.Clone(u.base), nil
			}
			if u.set != nil && u.isPaused() {
				u.paused = time.Time{}
				_ = os.Remove(filepath.Join(u.dir, "web.pause"))
			}
			if u != n.primary {
				u.carrier = [2]bool{true, true}
				n.relink()
				if !u.on {
					u.boot()
				}
			}
		}
	})
}

// settled says whether nothing more is to be expected: two checks of each
// machine have been made since all is well, and nothing is pending.
func (n *model) settled() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.quiet {
		return false
	}
	for i, u := range n.units {
		if u.set != nil && (u.quiet < 2 || u.run != nil || !u.watch.since.IsZero()) {
			return false
		}
		for _, byAddr := range n.pairs[i] {
			for _, p := range byAddr {
				if !p.since.IsZero() {
					return false
				}
			}
		}
	}
	return true
}

// playModel plays the schedule of a seed, in a bubble of testing/synctest.
func playModel(ctx context.Context, n *model, dir string, arrange func(p *plan)) {
	n.t0 = time.Now()
	p := &plan{Rand: rand.New(rand.NewPCG(n.seed, 0)), ctx: ctx, n: n, dir: dir}
	p.checks = 1 + p.IntN(modelChecks)
	n.end = n.t0.Add(time.Duration(p.checks) * modelEvery)
	arrange(p)
	p.run(ctx)
	p.quiet()
	slices.SortStableFunc(p.steps, func(a, b step) int { return int(a.at - b.at) })
	for _, u := range n.units {
		n.trace("%s: MAC %s, %v", u.name, u.mac, u.addrs)
	}
	n.changed()
	for _, s := range p.steps {
		if d := s.at - time.Since(n.t0); d > 0 {
			time.Sleep(d)
		}
		if s.what == "" {
			if n.settled() {
				break
			}
			s.do()
			continue
		}
		n.mu.Lock()
		n.trace("%s", s.what)
		s.do()
		n.changed()
		n.mu.Unlock()
	}
	n.runs.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	n.audit()
}
