package failover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/proc"
	"pingover/vip"
)

// The arbiter of the model: one linearizable register, whose answers may be lost, and
// whose writes may come late; and a clock for each machine, at a rate of its own, which
// its kernel's lifetimes follow.

// A0: machines of a symmetric pair that has an arbiter never hold an address both,
// whatever happens, unless a machine is stopped as a whole. What a process adds that
// was stopped right before may stay until it looks at the clock again, at once.
const arbiterGrace = 100 * time.Millisecond

// register is etcd as its clients see it.
type register struct {
	n        *model
	value    arbiter.Value
	absent   bool
	revision int64 // of the last change
	counter  int64
	noQuorum bool
	cut      [6]bool // machines that do not reach it
	flaky    uint64  // percent of the requests that do not go well
	requests uint64
	ending   bool // see endOfHold
	ctx      context.Context
	split    []time.Duration // when two machines have held an address for too long
}

var errSilent = errors.New("no member answers")

// member is the register as one run reaches it.
type member struct {
	*register
	r *modelRun
}

// chance is a number below 100 that follows from the seed, the moment and the request.
func (g *register) chance(u *unit, more uint64) uint64 {
	g.requests++
	return mix(g.n.seed, uint64(time.Since(g.n.t0)), uint64(u.i), more) % 100
}

// request plays the way of a request: apply is called when it takes effect, if it does,
// perhaps after the client has given up. answered is false where no answer came;
// refused means that another member was asked after the first had done it.
func (m member) request(ctx context.Context, write bool, apply func()) (answered, again bool) {
	m.r.enter(false, false)
	g, u := m.register, m.r.u
	reached := !g.noQuorum && !g.cut[u.i] && u.runs()
	how, late := g.chance(u, 1), time.Duration(g.chance(u, 2))*300*time.Millisecond
	m.r.leave(false, false)
	wait := func(d time.Duration) bool { return proc.Sleep(ctx, d) }
	locked := func(do func()) {
		m.r.enter(false, false)
		do()
		m.r.leave(false, false)
	}
	afterwards := func() {
		time.AfterFunc(late, func() {
			g.n.mu.Lock()
			defer g.n.mu.Unlock()
			if !g.n.over {
				apply()
			}
		})
	}
	const all = 3 * arbiter.RequestTimeout
	switch {
	case !reached:
		if write && how < 40 { // it is in a queue, and comes late
			afterwards()
		}
		wait(all)
		return false, false
	case how >= g.flaky:
		wait(time.Millisecond)
		locked(apply)
		return wait(time.Millisecond), false
	case how%6 == 0: // applied, and the answer is lost
		wait(time.Millisecond)
		locked(apply)
		wait(all)
		return false, false
	case how%6 == 5: // applied, and the answer comes late
		wait(time.Millisecond)
		locked(apply)
		return wait(arbiter.RequestTimeout - 10*time.Millisecond), false
	case how%6 == 1: // not applied in time
		if write {
			afterwards()
		}
		wait(all)
		return false, false
	case how%6 == 2: // the first member hangs, the next one answers
		wait(time.Millisecond)
		locked(apply)
		return wait(arbiter.RequestTimeout), true
	case how%6 == 3: // the first one hangs, and does it late; the next one does it, too
		if write {
			afterwards()
		}
		wait(arbiter.RequestTimeout)
		locked(apply)
		return wait(time.Millisecond), false
	}
	wait(arbiter.RequestTimeout - 10*time.Millisecond) // a leader is elected
	locked(apply)
	return wait(time.Millisecond), false
}

func (m member) Read(ctx context.Context, _ string) (e arbiter.Entry, err error) {
	answered, _ := m.request(ctx, false, func() {
		e = arbiter.Entry{Value: m.value, Absent: m.absent, Revision: m.revision, ClusterID: "1", Member: "model"}
		if m.absent {
			e.Value, e.Revision = arbiter.Value{}, 0
		}
	})
	if !answered {
		return arbiter.Entry{}, errSilent
	}
	return e, nil
}

func (m member) Swap(ctx context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	return m.change(ctx, at, v, func() bool { return true })
}

func (m member) Renew(ctx context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	return m.change(ctx, at, v, func() bool { return m.value == v })
}

func (m member) change(ctx context.Context, at int64, v arbiter.Value, fits func() bool) (bool, arbiter.Entry, error) {
	g, name := m.register, m.r.u.name
	var ok, done bool // under the model's lock: it may be applied when this has returned
	var revision int64
	answered, again := m.request(ctx, true, func() {
		now := g.revision
		if g.absent {
			now = 0
		}
		if at != now || !fits() {
			return
		}
		g.counter++
		g.revision, g.value, g.absent = g.counter, v, false
		g.n.trace("%s: the key is %q's since revision %d", name, v.Stack, g.revision)
		g.lurk(m.r.u)
		if !done {
			ok, revision, done = true, g.revision, true
		}
	})
	g.n.mu.Lock()
	defer g.n.mu.Unlock()
	done = true
	switch {
	case !answered:
		return false, arbiter.Entry{}, errSilent
	case again:
		return false, arbiter.Entry{}, nil
	}
	return ok, arbiter.Entry{Value: v, Revision: revision, ClusterID: "1"}, nil
}

// lurk lets the others see a change at once, and check in the moment in which the key
// of a dead holder is free by their clocks: a second more or less decides whether two
// machines have the address.
func (g *register) lurk(holder *unit) {
	now, revision, ttl := time.Now(), g.revision, g.value.TTL
	for _, u := range g.n.units {
		if u == holder || u.set == nil || g.value.Holder == "" || !g.ending && g.chance(u, 3) < 50 {
			continue
		}
		time.AfterFunc(time.Millisecond, func() { u.start(g.ctx, command{word: "check"}) }) // it sees the change at once
		free := now.Add(time.Duration(float64(ttl) / u.rate()))
		for early := 3 * time.Second; early > -500*time.Millisecond; early -= 100 * time.Millisecond {
			time.AfterFunc(time.Until(free.Add(-early)), func() {
				g.n.mu.Lock()
				lurks := g.revision == revision && !g.absent && !g.n.over
				g.n.mu.Unlock()
				if lurks {
					u.start(g.ctx, command{word: "check"})
				}
			})
		}
	}
}

func (m member) Agree(context.Context, string) error { return nil }

// clock is a clock of the machine: its rate is its own.
func (u *unit) clock() time.Duration {
	return time.Hour + time.Duration(float64(time.Since(u.n.t0))*u.rate())
}

func (u *unit) rate() float64 {
	if u.pace == 0 {
		return 1
	}
	return u.pace
}

func (r *modelRun) arbiter() arbiter.Env {
	g := r.u.n.register
	if g == nil {
		return arbiter.Env{}
	}
	clock := func() time.Duration {
		r.enter(false, false)
		defer r.leave(false, false)
		return r.u.clock()
	}
	return arbiter.Env{
		Store: member{g, r}, Boot: clock, Monotonic: clock,
		Stack: func() (string, error) { return fmt.Sprintf("%s/%d", r.u.bootID, r.u.i), nil },
	}
}

// held looks anew at who holds what.
func (g *register) held() {
	for _, v := range g.n.vips {
		if g.holders(v) < 2 {
			continue
		}
		at := time.Since(g.n.t0)
		time.AfterFunc(arbiterGrace, func() {
			g.n.mu.Lock()
			defer g.n.mu.Unlock()
			if g.holders(v) > 1 && len(g.split) == 0 && !g.n.over {
				g.split = append(g.split, at)
				g.n.fail("A0: two machines hold %s since %v", v, at)
			}
		})
	}
}

func (g *register) holders(v netip.Addr) (count int) {
	for _, u := range g.n.units {
		if u.set != nil && u.on && u.holds(v) {
			count++
		}
	}
	return count
}

// arbitrated is a symmetric pair, or three machines, with an arbiter.
func (p *plan) arbitrated() {
	p.build(true)
	n := p.n
	g := &register{n: n, ctx: p.ctx, absent: p.percent(50), flaky: one(p, uint64(0), 0, 30, 100)}
	if !g.absent {
		g.counter, g.revision = 7, 7
	}
	n.register, n.noFreeze = g, true
	ttl := one(p, 20*time.Second, 45*time.Second, 100*time.Second, 3*time.Minute)
	rates := [][2]float64{{1, 1}, {0.98, 1}, {1, 1.02}, {0.99, 1.01}, {1.01, 0.99}, {1, 0.98}}
	if ttl < 31*time.Second { // the margin has room for more
		rates = append(rates, [2]float64{0.98, 1.02}, [2]float64{1.02, 0.98})
	}
	pace := one(p, rates...)
	n.patience = int(math.Ceil(float64(ttl)*1.05/float64(modelEvery))) + 3
	n.lax = ttl < 100*time.Second || g.flaky > 0
	for i, u := range p.standbys() {
		u.pace = pace[i%2]
		u.base = slices.DeleteFunc(u.base, func(a vip.Address) bool { return slices.Contains(n.vips, a.Prefix.Addr()) })
		u.addrs = slices.Clone(u.base)
		u.set.Lease, u.set.Arbiter = 0, arbiter.Settings{Members: []string{"model"}, TTL: ttl}
	}
	if p.percent(40) && ttl < time.Minute {
		p.endOfHold(g)
		return
	}
	p.happen()
	for range p.IntN(4) {
		from := p.moment()
		until := from + time.Duration(p.Int64N(int64(3*modelEvery)))
		switch p.IntN(7) {
		case 0:
			p.at(from, "etcd has no quorum", func() { g.noQuorum = true })
			p.at(until, "etcd has a quorum", func() { g.noQuorum = false })
		case 1, 2:
			u := p.pick(p.standbys())
			p.at(from, u.name+" does not reach etcd", func() { g.cut[u.i] = true })
			p.at(until, u.name+" reaches etcd", func() { g.cut[u.i] = false })
		case 3:
			p.at(from, "the key is deleted", func() { g.absent = true })
		default:
			u := p.pick(p.standbys())
			cut := p.percent(70)
			p.at(from, fmt.Sprintf("%s is alone, without etcd: %t", u.name, cut), func() {
				g.cut[u.i] = cut
				for _, o := range n.units {
					n.paths[u.i][o.i], n.paths[o.i][u.i] = path{cut: true}, path{cut: true}
				}
			})
		}
	}
}

// endOfHold is the narrowest moment: a holder hears nobody any more, and goes on
// holding until its time is over, and the others have seen its last renewal at once.
func (p *plan) endOfHold(g *register) {
	n := p.n
	p.checks, g.ending = modelChecks, true
	n.end = n.t0.Add(modelChecks * modelEvery)
	g.absent, g.counter, g.revision = false, 7, 7
	dead := p.percent(30)
	p.at(time.Duration(p.Int64N(int64(2*modelEvery))), "the holder hears nobody any more", func() {
		for _, u := range n.units {
			if u.set == nil || !u.holds(n.vips[0]) {
				continue
			}
			g.cut[u.i], u.noCron = true, dead
			for _, o := range n.units {
				n.paths[u.i][o.i], n.paths[o.i][u.i] = path{cut: true}, path{cut: true}
			}
		}
	})
}

// TestModelArbiter: in all that may happen to a symmetric pair and to its arbiter, no
// two machines hold an address.
//
//	go test ./internal/failover -run 'TestModelArbiter$' -timeout 0 -v -model.count=300000
//	go test ./internal/failover -run 'TestModelArbiter$' -model.seed=N   # plays one again
func TestModelArbiter(t *testing.T) {
	t.Parallel()
	playArranged(t, (*plan).arbitrated, nil)
}
