package failover

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Env is all that a check sees and touches outside its own record: the
// kernel, the link, the tools, the mail server. It is the one place where
// tests put something else; the clock is Go's own, which testing/synctest
// fakes.
type Env struct {
	Snapshot  func() (*vip.Snapshot, error)
	Route     func(netip.Addr) (vip.Route, error)
	Gateway   func(link string, v6 bool) (netip.Addr, bool, error)
	Resolve   func(ctx context.Context, host string) (netip.Addr, error)
	Ping      func(context.Context, check.Pings) check.Round
	Listen    func(l vip.Link, own func(net.HardwareAddr) bool, addrs ...netip.Addr) (Listener, error)
	Neighbour func(link string, a netip.Addr) (net.HardwareAddr, error)
	Tool      Tool
	Hook      func(context.Context, proc.Command) proc.Result
	MayPing   func() error
	MayRaise  func() error
	BootID    func() (string, error)
	Uptime    func() (time.Duration, error)
	Locks     *state.Locks // of the process
	// LockActs is for who raises, or, alone, for who lowers.
	LockSwitch func(ctx context.Context, d state.Dir, alone bool) (unlock func(), err error)
	Deliver    func(context.Context, []state.Message) (left []state.Message, err error)
	// What only an examination needs: all addresses of a name; how far the
	// way of mail goes, without a letter; and what whoever takes one says.
	Lookup   func(ctx context.Context, name string) ([]netip.Addr, error)
	TestMail func(context.Context) (how string, err error)
	SendTest func(ctx context.Context, l state.Message, to string) (said string, err error)
}

// Listener asks, listens and announces on one interface; vip.Listener is the real one.
type Listener interface {
	Ask(target, from netip.Addr) error
	Announce(addr netip.Addr, mac net.HardwareAddr) error
	Replies(since time.Time) []vip.Reply
	Changed() <-chan struct{}
	Err() error
	Close() error
}

// Tool raises and lowers addresses; vip.Tool is the real one.
type Tool interface {
	RaisePlan(*vip.Snapshot, vip.Alias) ([]string, error)
	LowerPlan(*vip.Snapshot, netip.Addr) ([][]string, error)
	Raise(context.Context, vip.Alias) (label string, ran []proc.Result, err error)
	Lower(context.Context, netip.Addr) (ran []proc.Result, err error)
	RenewPlan(*vip.Snapshot, vip.Alias) ([][]string, error)
	Renew(context.Context, vip.Alias) (ran []proc.Result, err error)
	CanLease() error
	Exclusive() bool // raises well only while nobody else does
	String() string  // and whose it is
}

// resolveTimeout is for finding the primary's address by its name.
const resolveTimeout = 5 * time.Second

// Real is the world as it is, for one cluster. The error is an *Error: a
// setting that does not fit this machine; what it returns with one lacks the
// tool, or the ways of mail.
func Real(c config.Cluster) (Env, error) {
	w := Env{
		Snapshot:  vip.TakeSnapshot,
		Route:     vip.RouteTo,
		Gateway:   vip.Gateway,
		Neighbour: vip.Neighbour,
		Ping:      check.Ping,
		Resolve: func(ctx context.Context, host string) (netip.Addr, error) {
			return check.Resolve(ctx, host, resolveTimeout)
		},
		Lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return check.Lookup(ctx, name, resolveTimeout)
		},
		Listen: func(l vip.Link, own func(net.HardwareAddr) bool, addrs ...netip.Addr) (Listener, error) {
			return listening(vip.Open(l, own, addrs...))
		},
		Hook:       proc.Run,
		MayPing:    check.Permission,
		MayRaise:   vip.Permission,
		Locks:      new(state.Locks),
		LockSwitch: lockActs,
		BootID:     bootID,
		Uptime:     uptime,
	}
	var err error
	if len(c.VIPs) > 0 {
		if tool, missing := vip.FindTool(c.Tool); missing == nil {
			w.Tool = tool
		} else {
			err = &Error{Code: codeSettings, Text: missing.Error(), Hint: "install it, or give the tool that is there with --tool"}
		}
	}
	server := notify.Server{
		Via:  notify.Via(c.Mail.Via),
		From: c.Mail.From, User: c.Mail.User, Password: c.Mail.Password,
		Timeout: c.Mail.Timeout, Hostname: hostname(),
	}
	if c.Mail.CAFile != "" {
		pem, unread := os.ReadFile(c.Mail.CAFile)
		server.Roots = x509.NewCertPool()
		if unread != nil || !server.Roots.AppendCertsFromPEM(pem) {
			return w, &Error{Code: codeSettings, Text: fmt.Sprintf("mail-ca %q holds no certificate that can be read", c.Mail.CAFile)}
		}
	}
	w.Deliver, w.TestMail, w.SendTest = server.Deliver, server.TestConnection, server.SendTest
	return w, err
}

func listening(wire *vip.Listener, err error) (Listener, error) {
	if err != nil {
		return nil, err // not a nil *vip.Wire in an interface
	}
	return wire, nil
}

// lockActs is the machine's lock, for one at a time whatever he does.
func lockActs(ctx context.Context, d state.Dir, _ bool) (unlock func(), err error) {
	return d.LockSwitch(ctx)
}

// bootID names the boot this machine is in (random(4)).
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// uptime is how long this machine has been up (proc_uptime(5): seconds, with
// hundredths).
func uptime() (time.Duration, error) {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/uptime: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
