package failover

import (
	"context"
	"net/netip"

	"pingover/check"
	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Env is all that a check sees and touches outside its own record: the kernel,
// the links, the tools, the mail server. It is the one place where tests put
// something else; the clock is Go's own, which testing/synctest fakes.
type Env struct {
	observe.Env
	Tool     Tool
	Hook     func(context.Context, proc.Command) proc.Result
	Trusted  func(argv []string) error // why root must not run it
	Runnable func(argv []string) error // why a hook cannot be run
	MayPing  func() error
	MayRaise func() error
	Locks    *state.Locks  // of the process
	Memory   *state.Memory // of the process; nil: it ends with this run
	// LockSwitch takes the switch lock, shared where this process may assign
	// addresses side by side.
	LockSwitch func(ctx context.Context, d state.Dir, exclusive bool) (unlock func(), err error)
	Deliver    func(context.Context, []state.Message) (left []state.Message, err error)
	Notify     notify.Command
	// What only doctor needs: a connection to the mail server, without a message; a
	// test message, and the server's reply.
	TestMail func(context.Context) (how string, err error)
	SendTest func(ctx context.Context, m state.Message, to string) (reply string, err error)
}

// Tool assigns and removes addresses; vip.Tool is the real one.
type Tool interface {
	RaisePlan(*vip.Snapshot, vip.Alias) ([]string, error)
	LowerPlan(s *vip.Snapshot, a netip.Addr, added ...string) ([][]string, error)
	Raise(context.Context, vip.Alias) (label string, ran []proc.Result, err error)
	Lower(ctx context.Context, a netip.Addr, added ...string) (ran []proc.Result, err error)
	RenewPlan(*vip.Snapshot, vip.Alias) ([][]string, error)
	Renew(context.Context, vip.Alias) (ran []proc.Result, err error)
	CanLease() error
	Exclusive() bool // assigns correctly only while nobody else does
	String() string  // the tool and its package
}

// Real is the environment as it is, for one cluster. The error is a *run.Error:
// a setting that does not fit this machine; what it returns with one lacks the
// tool, or the mail functions.
func Real(c config.Cluster) (Env, error) { return realBy(vip.FindTool, c) }

func realBy(find func(setting string) (vip.Tool, error), c config.Cluster) (Env, error) {
	env := Env{
		Env:        observe.Real(),
		Hook:       proc.Run,
		Trusted:    proc.Trusted,
		Runnable:   runnable,
		MayPing:    check.Permission,
		MayRaise:   vip.Permission,
		Locks:      new(state.Locks),
		LockSwitch: lockSwitch,
	}
	var err error
	if len(c.VIPs) > 0 {
		if tool, missing := find(c.Tool); missing == nil {
			env.Tool = tool
		} else {
			err = &run.Error{Code: run.CodeSettings, Text: missing.Error(), Hint: "install it, or set tool to the one that is there"}
		}
	}
	if c.Arbiter.Set() {
		env.Arbiter = arbiter.Real(arbiter.NewClient(c.Arbiter, config.ArbiterFiles))
	}
	server := func() (notify.Server, error) { return run.MailServer(c.Mail) }
	env.Deliver = func(ctx context.Context, messages []state.Message) ([]state.Message, error) {
		s, err := server()
		if err != nil {
			return messages, err
		}
		return s.Deliver(ctx, messages)
	}
	env.Notify = notify.Command{Argv: c.Mail.Notify, Timeout: c.Hooks.Timeout}
	env.TestMail = func(ctx context.Context) (string, error) {
		s, err := server()
		if err != nil {
			return "", err
		}
		return s.TestConnection(ctx)
	}
	env.SendTest = func(ctx context.Context, m state.Message, to string) (string, error) {
		s, err := server()
		if err != nil {
			return "", err
		}
		return s.SendTest(ctx, m, to)
	}
	return env, err
}

// lockSwitch is the machine's lock, for one at a time whatever it does.
func lockSwitch(ctx context.Context, d state.Dir, _ bool) (unlock func(), err error) {
	return d.LockSwitch(ctx)
}
