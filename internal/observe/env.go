package observe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/arbiter"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/vip"
)

// Env is what an observation reads of the kernel, the links and the name server.
// Tests put something else here; the clock is Go's own, which testing/synctest
// fakes.
type Env struct {
	Snapshot func() (*vip.Snapshot, error)
	// Known is Snapshot, or an earlier one that is as new: the kernel has notified of
	// no change since. It is for what is observed; what is decided on is read anew.
	// Nil: Snapshot.
	Known     func() (*vip.Snapshot, error)
	Route     func(to, from netip.Addr) (vip.Route, error)
	Gateway   func(link string, v6 bool, from netip.Addr) (netip.Addr, bool, error)
	Resolve   func(ctx context.Context, host string) ([]netip.Addr, error)
	Ping      run.Ping
	Service   func(context.Context, check.Service, check.Attempt) check.ServiceResult
	Listen    func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error)
	Neighbour func(link string, a netip.Addr) (net.HardwareAddr, error)
	BootID    func() (string, error)
	Uptime    func() (time.Duration, error)
	Arbiter   arbiter.Env
}

// resolveTimeout is for the lookup of the primary's name.
const resolveTimeout = 5 * time.Second

// Real is the environment as it is.
func Real() Env {
	return Env{
		Snapshot:  vip.TakeSnapshot,
		Route:     vip.RouteTo,
		Gateway:   vip.Gateway,
		Neighbour: vip.Neighbour,
		Ping:      check.Ping,
		Service: func(ctx context.Context, s check.Service, a check.Attempt) check.ServiceResult {
			return s.Check(ctx, a)
		},
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return check.Resolve(ctx, host, resolveTimeout)
		},
		Listen: func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
			return Listening(vip.Open(l, own, addrs...))
		},
		BootID: bootID,
		Uptime: uptime,
	}
}

// known is Known.
func (e Env) known() (*vip.Snapshot, error) {
	if e.Known == nil {
		return e.Snapshot()
	}
	return e.Known()
}

// Listening is a listener, or why there is none.
func Listening(l *vip.Listener, err error) (vip.Conn, error) {
	if err != nil {
		return nil, err // not a nil *vip.Listener in an interface
	}
	return l, nil
}

// bootID names this boot of the machine (random(4)).
func bootID() (string, error) { return proc.ReadSmall("/proc/sys/kernel/random/boot_id") }

// uptime is how long this machine has been up (proc_uptime(5): seconds, with
// hundredths).
func uptime() (time.Duration, error) {
	text, err := proc.ReadSmall("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(text, " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/uptime: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
