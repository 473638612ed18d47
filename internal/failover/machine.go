package failover

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

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
	keeps  *kept // nil until Keep
}

// kept is what need not be found anew in each check.
type kept struct {
	bootID            func() (string, error)
	trusted, runnable *judged
}

// recordAge is how old a record on disk may become in a process that goes on, while
// nothing changes but counts and times.
const recordAge = time.Minute

// Keep says that this process checks again and again: its sockets stay open, the
// survey follows the kernel's notifications, and a record in which nothing changed
// is written once a minute. It is called before the first check; end, after the last
// one, writes what waits.
func (m *Machine) Keep() (end func()) {
	m.vips.Keep()
	m.pings.Keep, m.memory.Every = true, recordAge
	m.keeps = &kept{bootID: sync.OnceValues(observe.Real().BootID), trusted: new(judged), runnable: new(judged)}
	return func() { m.memory.Write(m.locks.Lock) }
}

// Check makes one check of the cluster on this machine. The error is nil,
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
// nobody answers for within 10 s is assigned here again. Force leaves it
// unassigned. Until the primary was up once no check takes over. Outcomes:
// released; ok when nothing is held; blocked when nobody took it;
// release-failed; state-failed.
func (m *Machine) Release(ctx context.Context, c config.Cluster, o Options) (Report, error) {
	return m.do(ReleaseIn, ctx, c, o)
}

func (m *Machine) do(act func(context.Context, Env, config.Cluster, Options) (Report, error), ctx context.Context, c config.Cluster, o Options) (Report, error) {
	env, err := realBy(m.vips.FindTool, c)
	if err != nil {
		return Report{}, err
	}
	m.rate.Do(func() { m.vips.ARPRate = c.ARPRate }) // which is that of all clusters
	defer env.Arbiter.Close()
	env = m.share(env)
	combined, leave := m.mail.join(c, env.Deliver)
	defer leave()
	env.Deliver = env.dispatch(combined)
	if send := env.Deliver; o.Finish { // a watch: it must go on checking
		env.Deliver = func(ctx context.Context, outbox []state.Message) ([]state.Message, error) {
			return m.courier.Deliver(ctx, c.StateDir+" "+c.Name, outbox, send)
		}
	}
	return act(ctx, env, c, o)
}

// Shared is what the checks of pools have in common with these.
func (m *Machine) Shared() (*check.Process, *state.Locks, *state.Memory) {
	return &m.pings, &m.locks, &m.memory
}

// share is the environment with what is shared in it.
func (m *Machine) share(env Env) Env {
	env.Ping, env.Snapshot, env.Locks, env.Memory = m.pings.Ping, m.vips.TakeSnapshot, &m.locks, &m.memory
	if k := m.keeps; k != nil {
		env.BootID, env.Trusted, env.Runnable = k.bootID, k.trusted.remember(env.Trusted), k.runnable.remember(env.Runnable)
	}
	env.Known, env.MayPing = m.vips.KnownSnapshot, m.pings.Permission
	env.Route, env.Gateway, env.Neighbour = m.vips.RouteTo, m.vips.Gateway, m.vips.Neighbour
	env.LockSwitch = func(ctx context.Context, d state.Dir, alone bool) (func(), error) {
		return m.vips.LockSwitch(ctx, string(d), alone, d.LockSwitch)
	}
	env.Listen = func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
		return observe.Listening(m.vips.Open(l, own, addrs...))
	}
	if tool, ok := env.Tool.(vip.Tool); ok {
		tool.Process = &m.vips
		env.Tool = tool
	}
	return env
}

// judged is what was found of commands a moment ago: a check judges each three times,
// by its file and by all folders that lead to it.
type judged struct {
	mu    sync.Mutex
	since time.Time
	errs  map[string]error
}

// judgedFor is how long that counts.
const judgedFor = time.Second

func (k *judged) remember(judge func(argv []string) error) func(argv []string) error {
	return func(argv []string) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if time.Since(k.since) >= judgedFor {
			k.since, k.errs = time.Now(), map[string]error{}
		}
		key := strings.Join(argv, "\x00")
		err, known := k.errs[key]
		if !known {
			err = judge(argv)
			k.errs[key] = err
		}
		return err
	}
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
