package failover

import (
	"context"
	"net/netip"
	"sync"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Machine is what the checks of one process share, so that a thousand at once
// cost a thousand times one and not a million: what they hear on a link, looks
// at the kernel, the pings of a witness that they have in common, and the lock
// under which they raise. Nothing that is shared is older than the moment in
// which it is asked for. The zero Machine is ready.
type Machine struct {
	vips    vip.Process
	pings   check.Process
	locks   state.Locks
	rate    sync.Once
	mail    mailroom
	courier notify.Courier

	memory state.Memory
}

// Check makes one check of the cluster in the real world. The error is nil,
// an *Error, or the context's when a signal ended the check before it acted.
func (m *Machine) Check(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(CheckIn, ctx, c, o)
}

// TakeOver takes the virtual IPs now, manually, also from a primary that is
// alive: it is not pinged. This machine's network, a witness, and that nobody
// answers for what is to be raised must agree; force leaves only the first. A
// machine that has the address all the same gets it back at the next check.
// Outcomes: took-over; holding when all is here already; blocked;
// takeover-failed; state-failed.
func (m *Machine) TakeOver(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(TakeOverIn, ctx, c, o)
}

// Release gives up now, manually, what is held here, and hands it over: what
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
	m.rate.Do(func() { m.vips.ARPRate = c.ARPRate }) // which is that of all clusters
	defer world.Arbiter.Close()
	world = m.share(world)
	combined, leave := m.mail.join(c, world.Deliver)
	defer leave()
	world.Deliver = world.dispatch(combined)
	if send := world.Deliver; o.Finish { // a watch: it must go on checking
		world.Deliver = func(ctx context.Context, outbox []state.Message) ([]state.Message, error) {
			return m.courier.Deliver(ctx, c.StateDir+" "+c.Name, outbox, send)
		}
	}
	return act(ctx, world, c, o)
}

// Shared is what the checks of pools have in common with these.
func (m *Machine) Shared() (*check.Process, *state.Locks, *state.Memory) {
	return &m.pings, &m.locks, &m.memory
}

// share is the world with what is shared in it.
func (m *Machine) share(world Env) Env {
	world.Ping, world.Snapshot, world.Locks, world.Memory = m.pings.Ping, m.vips.TakeSnapshot, &m.locks, &m.memory
	world.Route, world.Gateway, world.Neighbour = m.vips.RouteTo, m.vips.Gateway, m.vips.Neighbour
	world.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
		return m.vips.LockSwitch(ctx, string(d), alone, d.LockSwitch)
	}
	world.Listen = func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
		return observe.Listening(m.vips.Open(l, own, addrs...))
	}
	if tool, ok := world.Tool.(vip.Tool); ok {
		tool.Process = &m.vips
		world.Tool = tool
	}
	return world
}

// Deliver hands messages that are of no cluster to the mail server of one, and
// returns those that were not sent.
func Deliver(ctx context.Context, c config.Cluster, m []state.Message) (left []state.Message, err error) {
	env, err := Real(c)
	if env.Deliver == nil {
		return m, err
	}
	return env.dispatch(env.Deliver)(ctx, m)
}

// dispatch sends mail this way, and events to the notify command.
func (e Env) dispatch(mail deliver) deliver {
	return func(ctx context.Context, m []state.Message) ([]state.Message, error) {
		return notify.Dispatch(ctx, m, mail, e.Notify)
	}
}
