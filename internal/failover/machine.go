package failover

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// Machine is what the checks of one process share, so that a thousand at once
// cost a thousand times one and not a million: what they hear on a link, looks
// at the kernel, the pings of a witness that they have in common, and the lock
// under which they raise. Nothing that is shared is older than the moment in
// which it is asked for. The zero Machine is ready.
type Machine struct {
	vips  vip.Process
	pings pings
	acts  acts
	locks state.Locks
}

// Check makes one check of the cluster in the real world. The error is nil,
// an *Error, or the context's when a signal ended the check before it acted.
func (m *Machine) Check(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(CheckIn, ctx, c, o)
}

// TakeOver takes the virtual IPs now, by hand, also from a primary that is
// alive: it is not pinged. This machine's network, a witness, and that nobody
// answers for what is to be raised must agree; force leaves only the first. A
// machine that has the address all the same gets it back at the next check.
// Outcomes: took-over; holding when all is here already; blocked;
// takeover-failed; state-failed.
func (m *Machine) TakeOver(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(TakeOverIn, ctx, c, o)
}

// Release gives up now, by hand, what is held here, and hands it over: what
// nobody answers for within 10 s is raised here again. Force leaves it on
// nobody. Until the primary was up once no check takes over. Outcomes:
// released; ok when nothing is held; blocked when nobody took it;
// release-failed; state-failed.
func (m *Machine) Release(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(ReleaseIn, ctx, c, o)
}

func (m *Machine) do(act func(context.Context, Env, config.Cluster, Options) (Report, error), ctx context.Context, c config.Cluster, o Options) (Report, error) {
	world, err := Real(c)
	if err != nil {
		return Report{}, err
	}
	return act(ctx, m.share(world), c, o)
}

// share is the world with what is shared in it.
func (m *Machine) share(world Env) Env {
	ping := world.Ping
	world.Ping = func(ctx context.Context, p check.Pings) check.Round { return m.pings.ping(ctx, p, ping) }
	world.Snapshot, world.LockSwitch, world.Locks = m.vips.TakeSnapshot, m.acts.lock, &m.locks
	world.Listen = func(l vip.Link, own func(net.HardwareAddr) bool, addrs ...netip.Addr) (Listener, error) {
		return listening(m.vips.Open(l, own, addrs...))
	}
	if tool, ok := world.Tool.(vip.Tool); ok {
		tool.Process = &m.vips
		world.Tool = tool
	}
	return world
}

// together is how long pings that are the same wait for each other.
const together = 50 * time.Millisecond

// pings are rounds that several checks want of one address. A raw socket sees
// the replies to all others: 300 clusters that each pinged the same witness
// while they waited for 600 silent addresses read half a million replies, and
// 13 found the witness silent.
type pings struct {
	mu   sync.Mutex
	asks map[ask]*shared
}

// ask is what makes two rounds the same.
type ask struct {
	address, source   netip.Addr
	count             int
	interval, timeout time.Duration
}

// shared is one round for all who asked for it before it began.
type shared struct {
	begins  time.Time
	waiting int
	cancel  context.CancelFunc
	done    chan struct{}
	round   check.Round
}

// sender is check.Ping.
type sender func(context.Context, check.Pings) check.Round

// ping sends one round of pings, or shares that of others, which begins after
// ping was called, at most a moment later. A round whose replies are shown is
// nobody else's.
func (p *pings) ping(ctx context.Context, want check.Pings, send sender) check.Round {
	if want.OnReply != nil || want.OnSend != nil {
		return send(ctx, want)
	}
	mine := p.join(want, send)
	select {
	case <-mine.done:
		return mine.round
	case <-ctx.Done():
		p.leave(mine)
		return send(ctx, want) // nothing, and says why
	}
}

func (p *pings) join(want check.Pings, send sender) *shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	key, now := ask{want.Address, want.Source, want.Count, want.Interval, want.Timeout}, time.Now()
	last, known := p.asks[key]
	if known && last.waiting > 0 && last.begins.After(now) {
		last.waiting++
		return last
	}
	ctx, cancel := context.WithCancel(context.Background())
	mine := &shared{begins: now, waiting: 1, cancel: cancel, done: make(chan struct{})}
	if known && now.Sub(last.begins) < together {
		mine.begins = last.begins.Add(together)
	}
	if p.asks == nil {
		p.asks = map[ask]*shared{}
	}
	p.asks[key] = mine
	go func() {
		defer cancel()
		sleep(ctx, time.Until(mine.begins))
		mine.round = send(ctx, want)
		close(mine.done)
		time.Sleep(time.Until(mine.begins.Add(together)))
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.asks[key] == mine {
			delete(p.asks, key)
		}
	}()
	return mine
}

// leave is said by who no longer waits. When nobody does, the round ends.
func (p *pings) leave(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		s.cancel()
	}
}

// acts is the lock under which aliases are raised, for all who raise in this
// process at once: one after the other, each with four looks at the kernel and
// a run of ip, 1,000 took 22 s, and 347 of them gave up waiting. Who lowers is
// alone, and does not wait behind those who come to raise after him.
type acts struct {
	mu      sync.Mutex
	turns   map[state.Dir]*turn
	waits   map[state.Dir]int // who want to be alone
	changed chan struct{}     // closed when a turn is over, or a wait
}

// turn is the lock while this process has it.
type turn struct {
	alone  bool
	users  int
	ready  chan struct{} // closed when it is known whether the lock was got
	unlock func()
	err    error
}

func (a *acts) lock(ctx context.Context, dir state.Dir, alone bool) (unlock func(), err error) {
	a.mu.Lock()
	if a.turns == nil {
		a.turns, a.waits, a.changed = map[state.Dir]*turn{}, map[state.Dir]int{}, make(chan struct{})
	}
	if alone {
		a.waits[dir]++
	}
	t, mine, err := a.enter(ctx, dir, alone)
	if alone {
		a.waits[dir]--
		a.change()
	}
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if mine {
		t.unlock, t.err = dir.LockSwitch(ctx)
		close(t.ready)
	}
	if <-t.ready; t.err != nil {
		a.leave(dir, t)
		return nil, t.err
	}
	return func() { a.leave(dir, t) }, nil
}

// enter waits for a turn, with mu held but while it waits; mine says that it is a
// new one.
func (a *acts) enter(ctx context.Context, dir state.Dir, alone bool) (t *turn, mine bool, err error) {
	for {
		t, taken := a.turns[dir]
		first := alone || a.waits[dir] == 0
		switch {
		case !taken && first:
			t = &turn{alone: alone, users: 1, ready: make(chan struct{})}
			a.turns[dir] = t
			return t, true, nil
		case taken && first && !alone && !t.alone:
			t.users++
			return t, false, nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
			a.mu.Lock()
		case <-ctx.Done():
			a.mu.Lock()
			return nil, false, errors.New("another cluster of this run is still switching")
		}
	}
}

// leave ends a turn when nobody uses it any more.
func (a *acts) leave(dir state.Dir, t *turn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	delete(a.turns, dir)
	if t.err == nil {
		t.unlock()
	}
	a.change()
}

// change wakes all who wait.
func (a *acts) change() {
	close(a.changed)
	a.changed = make(chan struct{})
}
