package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// A little network in memory, in the time of testing/synctest: machines with
// interfaces on segments, kernels that answer pings, ARP and ND for what they
// hold, and on each machine an environment in which pingover can run. State
// directories are real files.

// latency is how long a frame takes; a ping's reply comes after two.
const latency = 200 * time.Microsecond

// network is all the machines, and who cannot reach whom.
type network struct {
	began    time.Time
	mu       sync.Mutex // guards everything of every machine
	machines []*machine
	cut      func(a, b *machine) bool // frames between them are lost; nil: none are
}

// machine is a computer. Its fields may be set before time begins to pass,
// later only under do.
type machine struct {
	net    *network
	name   string
	off    bool         // power cut
	noPing bool         // its firewall drops echo requests
	noARP  bool         // it does not answer for what it holds
	anyIP  netip.Prefix // a local route leads to it
	// rpFilter: no reply to an ordinary request from an address of a network that
	// it does not have on that interface; proxyARP: a reply to every ordinary one.
	rpFilter, proxyARP bool
	noProbes           bool                                         // behind a switch port that suppresses ARP: no probe arrives
	pace               time.Duration                                // each of its questions takes so long, as with arp-rate
	deafTo             netip.Addr                                   // what comes from this address never arrives
	nics               []nic                                        // as they are now
	base               []nic                                        // as they come up at a boot
	gateway            map[bool]netip.Addr                          // by family (true: IPv6)
	neighbours         map[netip.Addr]net.HardwareAddr              // the kernel's neighbour table
	names              map[string][]netip.Addr                      // what names resolve to
	tap                func(m *machine, target, from netip.Addr)    // is shown the questions that it receives
	fails              func(call string) error                      // makes a call of its Env fail
	raising            func(ctx context.Context, a vip.Alias) error // runs inside Tool.Raise
	hook               func(context.Context, proc.Command) (output string, err error)
	exclusive          bool                                 // its tool raises well only while nobody else does
	trusted            func(argv []string) error            // why root must not run it; nil: it may
	service            func(netip.Addr) check.ServiceResult // what each service at an address says
	memory             *state.Memory                        // of its one process; nil: each run has its own

	bootID    string
	booted    time.Time
	dir       string          // state directory
	mailbox   []state.Message // what Deliver handed over
	calls     []call          // of its Env, in order
	alike     map[string]int  // how many calls were alike
	listeners []*listener
}

// nic is an interface on a segment.
type nic struct {
	vip.Link
	segment string
}

// call is one call of the Env: what, and when since the network began.
type call struct {
	At   time.Duration
	What string
}

func (c call) String() string { return fmt.Sprintf("%v %s", c.At, c.What) }

func newNetwork() *network { return &network{began: time.Now()} }

// add puts a machine on the segment "lan". Its MAC ends in n, its addresses
// are those of eth0.
func (n *network) add(name string, number byte, addrs ...string) *machine {
	m := &machine{
		net: n, name: name, gateway: map[bool]netip.Addr{}, neighbours: map[netip.Addr]net.HardwareAddr{},
		names: map[string][]netip.Addr{}, alike: map[string]int{}, bootID: name + "-boot-1", booted: n.began.Add(-time.Hour),
	}
	m.nics = []nic{{Link: vip.Link{
		Index: 1, Name: "lo", Up: true, Carrier: true, Loopback: true,
		Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("127.0.0.1/8"), Label: "lo"}},
	}}}
	m.plug("eth0", "lan", number, addrs...)
	n.do(func() { n.machines = append(n.machines, m) })
	return m
}

// plug gives the machine a further interface.
func (m *machine) plug(name, segment string, number byte, addrs ...string) {
	l := vip.Link{Index: len(m.nics) + 1, Name: name, MAC: mac(number), Up: true, Carrier: true, ARP: true}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, vip.Address{Prefix: netip.MustParsePrefix(a), Label: name})
	}
	m.nics = append(m.nics, nic{l, segment})
	m.base = copyNICs(m.nics)
}

// has tells whether an address is of one of the interface's networks.
func (n *nic) has(a netip.Addr) bool {
	return slices.ContainsFunc(n.Addresses, func(h vip.Address) bool { return h.Prefix.Masked().Contains(a) })
}

func mac(number byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, number} }

func copyNICs(nics []nic) []nic {
	nics = slices.Clone(nics)
	for i := range nics {
		nics[i].Addresses = slices.Clone(nics[i].Addresses)
	}
	return nics
}

// do changes something about the network while pingovers may be running.
func (n *network) do(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// at makes a change when so much time has passed.
func (n *network) at(d time.Duration, change func()) {
	time.AfterFunc(d, func() { n.do(change) })
}

// powerOff is a power cut, boot what follows it: what was not configured for the
// boot is gone. Both are called under do.
func (m *machine) powerOff() { m.off = true }

func (m *machine) boot() {
	m.off, m.nics, m.booted = false, copyNICs(m.base), time.Now()
	m.bootID += "+"
	clear(m.neighbours)
}

func (m *machine) nic(name string) *nic {
	for i := range m.nics {
		if m.nics[i].Name == name {
			return &m.nics[i]
		}
	}
	return nil
}

// set gives the machine an address as an operator would, unset takes it away.
func (m *machine) set(link, prefix string) {
	l := m.nic(link)
	l.Addresses = append(l.Addresses, vip.Address{Prefix: netip.MustParsePrefix(prefix), Label: link})
}

func (m *machine) unset(a netip.Addr) {
	for i := range m.nics {
		m.nics[i].Addresses = slices.DeleteFunc(m.nics[i].Addresses, func(h vip.Address) bool { return h.Prefix.Addr() == a })
	}
}

// down takes an interface down: its listeners have an error for good.
func (m *machine) down(link string) {
	m.nic(link).Up, m.nic(link).Carrier = false, false
	for _, e := range m.listeners {
		if e.link == link {
			e.err = errors.New("network is down")
			e.wake()
		}
	}
}

func (m *machine) snapshot() *vip.Snapshot {
	k := new(vip.Snapshot)
	for _, n := range copyNICs(m.nics) {
		k.Links = append(k.Links, n.Link)
	}
	return k
}

func (m *machine) holds(a netip.Addr) bool { return m.snapshot().Holds(a) }

// joined says whether a frame gets from m's interface to an interface of o,
// and to which.
func (m *machine) joined(link string, o *machine) (*nic, bool) {
	from := m.nic(link)
	if o == m || m.off || o.off || from == nil || !from.Up || !from.Carrier || from.segment == "" ||
		m.net.cut != nil && m.net.cut(m, o) {
		return nil, false
	}
	for i := range o.nics {
		if to := &o.nics[i]; to.segment == from.segment && to.Up && to.Carrier {
			return to, true
		}
	}
	return nil, false
}

// route is what the kernel would do with a packet.
func (m *machine) route(a netip.Addr) (vip.Route, error) {
	k := m.snapshot()
	if k.Holds(a) || m.anyIP.Contains(a) {
		return vip.Route{Interface: "lo", Local: true}, nil
	}
	for _, name := range longestNetworks(k, a) {
		if m.nic(name).Up {
			return vip.Route{Interface: name, Source: k.Source(name, a, nil), OnLink: true}, nil
		}
	}
	if g := m.gateway[a.Is6()]; g.IsValid() && g != a {
		if r, err := m.route(g); err == nil {
			r.OnLink, r.Gateway = false, g
			return r, nil
		}
	}
	return vip.Route{}, fmt.Errorf("route to %s: network is unreachable", a)
}

// reaches says whether a ping is answered now; an error, that it cannot even
// be sent.
func (m *machine) reaches(a netip.Addr) (bool, error) {
	r, err := m.route(a)
	if err != nil || r.Local {
		return r.Local, err
	}
	if r.OnLink {
		for _, o := range m.net.machines {
			if n, ok := m.joined(r.Interface, o); ok && o.holds(a) {
				if !o.noARP {
					m.neighbours[a] = n.MAC
				}
				if !o.noPing {
					return true, nil
				}
			}
		}
		return false, nil
	}
	for _, g := range m.net.machines {
		if _, ok := m.joined(r.Interface, g); !ok || !g.holds(r.Gateway) {
			continue
		}
		for _, o := range m.net.machines {
			if o.holds(a) && !o.off && !o.noPing && (m.net.cut == nil || !m.net.cut(g, o)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// env is the machine as pingover sees it.
func (m *machine) env() Env {
	none := netip.Addr{}
	return Env{
		Env: observe.Env{
			Snapshot: func() (*vip.Snapshot, error) {
				if err := m.called("look"); err != nil {
					return nil, err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				return m.snapshot(), nil
			},
			Route: func(a, _ netip.Addr) (vip.Route, error) {
				if err := m.called("route to %s", a); err != nil {
					return vip.Route{}, err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				return m.route(a)
			},
			Gateway: func(link string, v6 bool, _ netip.Addr) (netip.Addr, bool, error) {
				if err := m.called("gateway of %s, v6 %t", link, v6); err != nil {
					return none, false, err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				g := m.gateway[v6]
				return g, g.IsValid(), nil
			},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				if err := m.called("resolve %s", host); err != nil {
					return nil, err
				}
				if a, err := netip.ParseAddr(host); err == nil {
					return []netip.Addr{a}, nil
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				if a, ok := m.names[host]; ok {
					return a, nil
				}
				return nil, fmt.Errorf("resolve %q: no such host", host)
			},
			Ping: m.ping,
			Service: func(_ context.Context, s check.Service, a check.Attempt) check.ServiceResult {
				_ = m.called("service %s at %s", s.Name(), a.Address)
				return m.service(a.Address)
			},
			Listen: func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
				if err := m.called("listen on %s for %v", l.Name, addrs); err != nil {
					return nil, err
				}
				e := &listener{m: m, link: l.Name, own: own, addrs: addrs, changed: make(chan struct{})}
				m.net.do(func() { m.listeners = append(m.listeners, e) })
				return e, nil
			},
			Neighbour: func(link string, a netip.Addr) (net.HardwareAddr, error) {
				if err := m.called("neighbour %s on %s", a, link); err != nil {
					return nil, err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				return m.neighbours[a], nil
			},
			BootID: func() (string, error) {
				if err := m.called("boot id"); err != nil {
					return "", err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				return m.bootID, nil
			},
			Uptime: func() (time.Duration, error) {
				if err := m.called("uptime"); err != nil {
					return 0, err
				}
				m.net.mu.Lock()
				defer m.net.mu.Unlock()
				return time.Since(m.booted), nil
			},
		},
		Tool:  tool{m, vip.Tool{Name: "ip", Path: "/sbin/ip"}},
		Locks: new(state.Locks), LockSwitch: lockSwitch, Memory: m.memory,
		Hook: func(ctx context.Context, c proc.Command) proc.Result {
			began := time.Now()
			result := proc.Result{Argv: c.Argv}
			if result.Err = m.called("hook %s", proc.Line(c.Argv)); result.Err == nil && m.hook != nil {
				result.Output, result.Err = m.hook(ctx, c)
			}
			if result.Duration = time.Since(began); result.Err != nil {
				result.Code = 1
			}
			return result
		},
		Trusted: func(argv []string) error {
			if m.trusted == nil {
				return nil
			}
			return m.trusted(argv)
		},
		Runnable: func(argv []string) error { return m.called("may run %s", proc.Line(argv)) },
		MayPing:  func() error { return m.called("may ping") },
		MayRaise: func() error { return m.called("may raise") },
		Deliver: func(ctx context.Context, messages []state.Message) ([]state.Message, error) {
			if err := m.called("deliver %d", len(messages)); err != nil {
				return messages, err
			}
			if err := context.Cause(ctx); err != nil {
				return messages, err
			}
			m.net.do(func() { m.mailbox = append(m.mailbox, messages...) })
			return nil, nil
		},
		TestMail: func(context.Context) (string, error) { return "/usr/sbin/sendmail", m.called("greet") },
		SendTest: func(_ context.Context, l state.Message, to string) (string, error) {
			l.To = []string{to}
			m.net.do(func() { m.mailbox = append(m.mailbox, l) })
			return "250 queued", m.called("post to %s", to)
		},
	}
}

// called writes down a call, and says how it is to fail. Calls that are
// alike are numbered from the second one on.
func (m *machine) called(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	m.net.mu.Lock()
	m.alike[what]++
	if n := m.alike[what]; n > 1 {
		what = fmt.Sprintf("%s #%d", what, n)
	}
	m.calls = append(m.calls, call{time.Since(m.net.began), what})
	fails := m.fails
	m.net.mu.Unlock()
	if fails == nil {
		return nil
	}
	return fails(what)
}

// failing is machine.fails: calls that begin with one of these fail.
func failing(err error, calls ...string) func(string) error {
	return func(what string) error {
		if slices.ContainsFunc(calls, func(c string) bool { return strings.HasPrefix(what, c) }) {
			return err
		}
		return nil
	}
}

// ping is check.Ping: one reply ends it, silence takes the whole round.
func (m *machine) ping(ctx context.Context, p check.Pings) check.Round {
	if err := m.called("ping %s", p.Address); err != nil {
		return check.Round{Err: err}
	}
	for i := range p.Count {
		m.net.mu.Lock()
		replied, err := m.reaches(p.Address)
		replied = replied && !slices.ContainsFunc(m.net.machines, func(o *machine) bool { return p.Source.IsValid() && o.deafTo == p.Source && o.holds(p.Address) })
		m.net.mu.Unlock()
		wait := p.Interval
		switch {
		case err != nil:
			return check.Round{Sent: i, Err: err}
		case replied:
			wait = 2 * latency
		case i == p.Count-1:
			wait = p.Timeout
		}
		if !proc.Sleep(ctx, wait) {
			return check.Round{Sent: i + 1, Err: context.Cause(ctx)}
		}
		if replied {
			if p.OnReply != nil {
				p.OnReply(i+1, wait)
			}
			return check.Round{Verdict: check.Up, Sent: i + 1, Received: 1, RTT: wait}
		}
	}
	return check.Round{Verdict: check.Down, Sent: p.Count}
}

// listener is a vip.Conn.
type listener struct {
	m       *machine
	link    string
	own     func(vip.Reply) bool
	addrs   []netip.Addr
	replies []vip.Reply
	changed chan struct{}
	err     error
}

func (l *listener) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// receive is called under do.
func (l *listener) receive(h vip.Reply) {
	if l.err != nil || l.own(h) || !slices.Contains(l.addrs, h.Address) {
		return
	}
	h.At = time.Now()
	l.replies = append(l.replies, h)
	l.wake()
}

// receive hands a reply to the listeners on an interface; called under do.
func (m *machine) receive(n *nic, h vip.Reply) {
	for _, e := range m.listeners {
		if e.link == n.Name {
			e.receive(h)
		}
	}
}

func (l *listener) Ask(target, from netip.Addr) error {
	how := "probe"
	if from.IsValid() {
		how = "from " + from.String()
	}
	if err := l.m.called("ask for %s on %s, %s", target, l.link, how); err != nil {
		return err
	}
	m := l.m
	if m.pace > 0 {
		time.Sleep(m.pace)
	}
	m.net.at(latency, func() {
		for _, o := range m.net.machines {
			at, ok := m.joined(l.link, o)
			if !ok {
				continue
			}
			if o.tap != nil {
				o.tap(m, target, from)
			}
			mine := m.nic(l.link)
			if from.IsValid() {
				o.receive(at, vip.Reply{Address: from, MAC: mine.MAC})
			} else {
				o.receive(at, vip.Reply{Address: target, MAC: mine.MAC, Probe: true})
			}
			holds := o.holds(target) && !o.noARP && (!from.IsValid() || o.deafTo != from) && (!o.rpFilter || !from.IsValid() || at.has(from)) && (from.IsValid() || !o.noProbes)
			if holds || o.proxyARP && from.IsValid() && !m.holds(target) {
				to := from
				if !from.IsValid() {
					to = netip.IPv4Unspecified()
				}
				answer := vip.Reply{Address: target, MAC: at.MAC, Direct: true, To: to}
				m.net.at(latency, func() { m.receive(m.nic(l.link), answer) })
			}
		}
	})
	return nil
}

func (l *listener) Announce(a netip.Addr, hw net.HardwareAddr) error {
	if err := l.m.called("announce %s on %s", a, l.link); err != nil {
		return err
	}
	m := l.m
	m.net.at(latency, func() { m.announce(l.link, a, hw) })
	return nil
}

// announce announces an address to everybody on the segment; nil is our own MAC.
// It is called under do.
func (m *machine) announce(link string, a netip.Addr, hw net.HardwareAddr) {
	if hw == nil {
		hw = m.nic(link).MAC
	}
	for _, o := range m.net.machines {
		if at, ok := m.joined(link, o); ok {
			o.receive(at, vip.Reply{Address: a, MAC: hw})
		}
	}
}

func (l *listener) Replies(since time.Time) []vip.Reply {
	l.m.net.mu.Lock()
	defer l.m.net.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.replies), func(h vip.Reply) bool { return h.At.Before(since) })
}

func (l *listener) Lost() uint64 { return 0 }

func (l *listener) Changed() <-chan struct{} {
	l.m.net.mu.Lock()
	defer l.m.net.mu.Unlock()
	return l.changed
}

func (l *listener) Err() error {
	if err := l.m.called("go on listening on %s", l.link); err != nil {
		return err
	}
	l.m.net.mu.Lock()
	defer l.m.net.mu.Unlock()
	return l.err
}

func (l *listener) Close() error {
	l.m.net.do(func() {
		l.m.listeners = slices.DeleteFunc(l.m.listeners, func(o *listener) bool { return o == l })
	})
	return nil
}

// tool changes the addresses of the machine's kernel, by the plans of the
// real one.
type tool struct {
	m *machine
	vip.Tool
}

func (t tool) Raise(ctx context.Context, a vip.Alias) (label string, ran []proc.Result, err error) {
	if t.m.raising != nil {
		if err := t.m.raising(ctx, a); err != nil {
			return "", nil, err
		}
	}
	failed := t.m.called("raise %s on %s", a.Prefix, a.Interface)
	t.m.net.mu.Lock()
	defer t.m.net.mu.Unlock()
	argv, err := t.RaisePlan(t.m.snapshot(), a)
	if err != nil || argv == nil {
		return "", nil, err
	}
	if failed != nil {
		return "", []proc.Result{{Argv: argv, Code: 2, Output: failed.Error(), Err: failed}}, failed
	}
	if label = a.Label; label == "" && a.Prefix.Addr().Is4() {
		label, _ = vip.FreeLabel(t.m.snapshot(), a.Interface)
	}
	l := t.m.nic(a.Interface)
	l.Addresses = append(l.Addresses, vip.Address{Prefix: a.Prefix, Label: label, Lease: a.Lease})
	return label, []proc.Result{{Argv: argv}}, nil
}

func (t tool) Lower(_ context.Context, a netip.Addr, added ...string) (ran []proc.Result, err error) {
	failed := t.m.called("lower %s", a)
	t.m.net.mu.Lock()
	defer t.m.net.mu.Unlock()
	plan, err := t.LowerPlan(t.m.snapshot(), a, added...)
	if err != nil {
		return nil, err
	}
	for _, argv := range plan {
		if failed != nil {
			return []proc.Result{{Argv: argv, Code: 2, Output: failed.Error(), Err: failed}}, failed
		}
		ran = append(ran, proc.Result{Argv: argv})
	}
	for _, p := range t.m.snapshot().Held(a, added...) {
		l := t.m.nic(p.Interface)
		l.Addresses = slices.DeleteFunc(l.Addresses, func(h vip.Address) bool { return h.Prefix.Addr() == a.WithZone("") })
	}
	return ran, nil
}

func (t tool) Renew(_ context.Context, a vip.Alias) (ran []proc.Result, err error) {
	failed := t.m.called("renew %s for %s", a.Prefix, a.Lease)
	t.m.net.mu.Lock()
	defer t.m.net.mu.Unlock()
	l := t.m.nic(a.Interface)
	for i, h := range l.Addresses {
		if h.Prefix == a.Prefix && failed == nil {
			l.Addresses[i].Lease = a.Lease
		}
	}
	return nil, failed
}

func (t tool) CanLease() error { return t.m.called("can lease") }
func (t tool) Exclusive() bool { return t.m.exclusive }

// record is what the machine's state directory says of a cluster, with all its
// changes.
func (m *machine) record(t *testing.T, cluster string) *state.Record {
	t.Helper()
	rec := m.recordWithHistory(t, cluster)
	rec.Recent = slices.DeleteFunc(rec.Recent, func(e state.Entry) bool { return e.Kind != state.ChangeEntry })
	return rec
}

// recordWithHistory has the hooks and alerts, too.
func (m *machine) recordWithHistory(t *testing.T, cluster string) *state.Record {
	t.Helper()
	rec, err := state.Dir(m.dir).Load(cluster, false)
	if err == nil {
		rec.Recent, err = state.Dir(m.dir).History(cluster, rec.Recent)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// run makes one check on the machine, and returns its events as well.
func (m *machine) run(ctx context.Context, set config.Cluster, dry bool) (Report, []any, error) {
	set.StateDir = m.dir
	var events []any
	report, err := CheckIn(ctx, m.env(), set, Options{DryRun: dry, OnEvent: func(e any) { events = append(events, e) }})
	return report, events, err
}

// scene is the usual network: a primary that has the virtual IP, a standby
// with pingover, and a gateway.
type scene struct {
	*network
	t                         *testing.T
	primary, standby, gateway *machine
	settings                  config.Cluster
	dry                       bool
	events                    []any         // by the last check
	checked                   time.Time     // when the last check began
	took                      time.Duration // and how long it took
}

var (
	vipAddr     = netip.MustParseAddr("172.16.0.1")
	primaryAddr = netip.MustParseAddr("172.16.0.2")
	gatewayAddr = netip.MustParseAddr("172.16.0.254")
)

// play makes the usual scene and plays it, in its own time.
func play(t *testing.T, act func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{network: newNetwork(), t: t, settings: usual()}
		s.primary = s.add("primary", 2, "172.16.0.2/16", "172.16.0.1/32")
		s.standby = s.add("standby", 3, "172.16.0.3/16")
		s.gateway = s.add("gateway", 254, "172.16.0.254/16")
		s.standby.gateway[false] = gatewayAddr
		s.standby.dir = memoryDir(t)
		s.settings.StateDir = s.standby.dir
		act(t, s)
	})
}

// usual are the settings with their defaults.
func usual() config.Cluster {
	return config.Cluster{
		Name: "web", Host: "172.16.0.2", VIPs: []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/32")}},
		Count: 5, Interval: 3 * time.Second, Timeout: time.Second, RetryWait: 20 * time.Second,
		Witness: config.Witness{Auto: true}, DuplicateCheck: true, Tool: "auto", Announce: 3, Rise: 3, BootWait: 3 * time.Minute,
		Mail: config.Mail{To: []string{"root@standby"}, Timeout: 15 * time.Second, Remind: 24 * time.Hour},
	}
}

// vips sets the virtual IPs.
func (s *scene) vips(byValue ...string) {
	s.settings.VIPs = nil
	for _, p := range byValue {
		s.settings.VIPs = append(s.settings.VIPs, config.VIP{Prefix: netip.MustParsePrefix(p)})
	}
}

// try makes one check on the standby. What is on the wire at its end arrives
// before anything else happens.
func (s *scene) try() (Report, error) {
	s.t.Helper()
	if len(s.events) > 0 && time.Since(s.checked) < time.Second { // or streaks would not advance
		time.Sleep(time.Second - time.Since(s.checked))
	}
	began := time.Now()
	s.checked = began
	report, events, err := s.standby.run(s.t.Context(), s.settings, s.dry)
	s.events, s.took = events, time.Since(began)
	s.quiet()
	return report, err
}

// quiet waits until nothing is on the wire any more: then a test may change
// machines without do.
func (s *scene) quiet() {
	time.Sleep(3 * latency)
	synctest.Wait()
}

// check is a check that is made.
func (s *scene) check() Report {
	s.t.Helper()
	report, err := s.try()
	if err != nil {
		s.t.Fatalf("the check was not made: %v", err)
	}
	return report
}

// minute makes a check as cron does: the time until the next full minute
// passes first.
func (s *scene) minute() Report {
	s.t.Helper()
	time.Sleep(time.Minute - time.Since(s.began)%time.Minute)
	return s.check()
}

// ends makes a check and says how it ought to end, with the reason.
func (s *scene) ends(outcome state.Outcome, reason string) Report {
	s.t.Helper()
	report := s.check()
	s.want(report, outcome, reason)
	return report
}

func (s *scene) want(report Report, outcome state.Outcome, reason string) {
	s.t.Helper()
	if report.Outcome != outcome || report.Code != outcome.Code() || !strings.Contains(report.Reason, reason) {
		s.t.Errorf("the check ended %s (%d), %q; want %s, %q", report.Outcome, report.Code, report.Reason, outcome, reason)
	}
}

// calls are the calls of the standby that contain one of the words.
func (s *scene) calls(words ...string) (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.standby.calls {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c.What, w) }) {
			found = append(found, c.What)
		}
	}
	return found
}

// when is the time of the standby's first such call, 0 for none.
func (s *scene) when(what string) time.Duration {
	for _, c := range s.standby.calls {
		if c.What == what {
			return c.At
		}
	}
	return 0
}

func (s *scene) forget() {
	s.do(func() {
		s.standby.calls = nil
		clear(s.standby.alike)
	})
}

// notes are what the last check noted, warnings with a !.
func (s *scene) notes() (notes []string) {
	for _, e := range s.events {
		if n, ok := e.(run.Note); ok && n.Warning {
			notes = append(notes, "! "+n.Text)
		} else if ok {
			notes = append(notes, n.Text)
		}
	}
	return notes
}

// subjects are those of the messages in the mailbox, without the name of the
// machine on which the test runs.
func (s *scene) subjects() (subjects []string) {
	for _, l := range s.standby.mailbox {
		subjects = append(subjects, plain(l.Subject))
	}
	return subjects
}

func plain(text string) string { return strings.ReplaceAll(text, proc.Hostname(), "HOSTNAME") }

// must fails the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
