package balance

import (
	"context"
	"net/netip"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/pool"
	"pingover/state"
	"pingover/vip"
)

// Env is all that a check sees and touches outside its own record: the kernel,
// the members, the name server, the mail server. It is the one place where tests
// put something else; the clock is Go's own, which testing/synctest fakes.
type Env struct {
	Snapshot   func() (*vip.Snapshot, error)
	Route      func(to, from netip.Addr) (vip.Route, error)
	Gateway    func(link string, v6 bool, from netip.Addr) (netip.Addr, bool, error)
	Ping       run.Ping
	Service    func(context.Context, check.Service, check.Attempt) check.ServiceResult
	MayPing    func() error
	NameServer func(config.Pool) (NameServer, error) // with its key, which is read each time
	Trusted    func(argv []string) error             // why root must not run it
	Locks      *state.Locks                          // of the process
	Memory     *state.Memory                         // of the process; nil: it ends with this run
	Deliver    func(context.Context, []state.Message) (left []state.Message, err error)
	// Resolve is what only doctor needs: the addresses of the zone's name servers.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// resolveTimeout is for the lookup of a name server.
const resolveTimeout = 2 * time.Second

// NameServer answers what is published, and takes the updates; pool.Server is the
// real one.
type NameServer interface {
	Read(ctx context.Context, name string) (pool.Set, error)
	FindZone(ctx context.Context, name string) (pool.Zone, error)
	Publish(context.Context, pool.Change) (pool.Set, error)
	TestUpdate(ctx context.Context, zone string, set pool.Set, families ...netip.Addr) error
}

// Real is the environment as it is, for one pool.
func Real(p config.Pool) Env {
	return Env{
		Snapshot: vip.TakeSnapshot,
		Route:    vip.RouteTo,
		Gateway:  vip.Gateway,
		Ping:     check.Ping,
		MayPing:  check.Permission,
		Service: func(ctx context.Context, s check.Service, a check.Attempt) check.ServiceResult {
			return s.Check(ctx, a)
		},
		Trusted: proc.Trusted,
		Locks:   new(state.Locks),
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return check.Resolve(ctx, host, resolveTimeout)
		},
		NameServer: func(p config.Pool) (NameServer, error) {
			server := pool.Server{Address: p.Server}
			if p.KeyFile == "" {
				return server, nil
			}
			var err error
			server.Key, err = pool.ReadKey(p.KeyFile)
			return server, err
		},
		Deliver: func(ctx context.Context, messages []state.Message) ([]state.Message, error) {
			mail := func(ctx context.Context, messages []state.Message) ([]state.Message, error) {
				s, err := run.MailServer(p.Mail)
				if err != nil {
					return messages, err
				}
				return s.Deliver(ctx, messages)
			}
			return notify.Dispatch(ctx, messages, mail, notify.Command{Argv: p.Mail.Notify, Timeout: p.CommandTimeout})
		},
	}
}

// Machine is what the checks of one process share: the pings that they have in
// common, the locks, and what could not be written.
type Machine struct {
	pings  *check.Process
	locks  *state.Locks
	memory *state.Memory
}

// NewMachine shares with the checks of clusters: failover.Machine.Shared.
func NewMachine(pings *check.Process, locks *state.Locks, memory *state.Memory) *Machine {
	return &Machine{pings, locks, memory}
}

// Check makes one check of the pool on this machine. The error is nil, a
// *run.Error, or the context's when a signal ended the check before it acted.
func (m *Machine) Check(ctx context.Context, p config.Pool, o Options) (Report, error) {
	return CheckIn(ctx, m.share(p), p, o)
}

// Drain takes members out of DNS now, and keeps them out until then, zero for
// until Undrain. Outcomes: removed; reduced when all are out already; blocked;
// update-failed; state-failed.
func (m *Machine) Drain(ctx context.Context, p config.Pool, members []netip.Addr, until time.Time, o Options) (Report, error) {
	return DrainIn(ctx, m.share(p), p, members, until, o)
}

// Undrain lifts the mark of members. The next checks put them back. Outcomes: ok;
// reduced when none was drained; state-failed.
func (m *Machine) Undrain(ctx context.Context, p config.Pool, members []netip.Addr, o Options) (Report, error) {
	return UndrainIn(ctx, m.share(p), p, members, o)
}

func (m *Machine) share(p config.Pool) Env {
	env := Real(p)
	env.Ping, env.Locks, env.Memory = m.pings.Ping, m.locks, m.memory
	return env
}
