package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// The network of the model: one segment, machines with one interface each. It
// is made to be cheap, for a schedule has to be played in about a millisecond:
// a frame is noted at once with the time of its arrival, and costs a timer
// only where somebody waits for it. Nothing in it depends on the order in
// which goroutines happen to run, so that a schedule can be played again: what
// is lost follows from the seed, the way and the moment.

// unit is a machine of the model.
type unit struct {
	n       *model
	i       int
	name    string
	mac     net.HardwareAddr
	own     vip.Address
	base    []vip.Address // as at a boot
	addrs   []vip.Address
	on      bool
	carrier bool
	noPing  bool // its firewall drops echo requests
	noRaise bool // its tool fails
	noLower bool
	refuses bool // its pre-takeover

	hookTime time.Duration // of each
	booted   time.Time
	bootID   string
	kern     *vip.Snapshot // of addrs; nil: to be made anew
	neigh    map[netip.Addr]net.HardwareAddr

	set      *config.Cluster // nil: no pingover runs here
	dir      string
	deaths   int
	quiet    int // checks completed that began when all was well
	run      *modelRun
	next     *kill // for the next run that begins
	paused   time.Time
	released bool // manually, and no check has seen the primary up since
	mailbox  []state.Message
	watch    watched
	reckoned reckoning
	gave     bool   // by a run since the last check that came to its end
	open     bool   // a release was open when the last check came to its end
	unmailed string // the switch that no message has told of yet
	blocked  bool   // the last message about a switch said that it was refused
}

// path is the way from one machine to another.
type path struct {
	cut  bool
	loss uint8         // percent
	slow time.Duration // at most that late
}

func (p path) perfect() bool { return p == path{} }

func (n *model) add(name string, number byte, addrs ...string) *unit {
	u := &unit{
		n: n, i: len(n.units), name: name, mac: mac(number), on: true, carrier: true,
		booted: n.t0.Add(-time.Hour), bootID: name + "-1", neigh: map[netip.Addr]net.HardwareAddr{},
	}
	for _, a := range addrs {
		u.base = append(u.base, vip.Address{Prefix: netip.MustParsePrefix(a), Label: "eth0"})
	}
	u.own = u.base[0]
	u.addrs = slices.Clone(u.base)
	n.units = append(n.units, u)
	return u
}

var loopback = vip.Link{
	Index: 1, Name: "lo", Up: true, Carrier: true, Loopback: true,
	Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("127.0.0.1/8"), Label: "lo"}},
}

func (u *unit) snapshot() *vip.Snapshot {
	if u.kern == nil {
		u.kern = &vip.Snapshot{Links: []vip.Link{loopback, {
			Index: 2, Name: "eth0", MAC: u.mac, Up: true, Carrier: u.carrier, ARP: true, Addresses: slices.Clone(u.addrs),
		}}}
	}
	return u.kern
}

func (u *unit) holds(a netip.Addr) bool {
	return slices.ContainsFunc(u.addrs, func(h vip.Address) bool { return h.Prefix.Addr() == a })
}

func (u *unit) serves(a netip.Addr) bool { return u.on && u.carrier && u.holds(a) }

func (u *unit) give(a vip.Address) {
	u.addrs = append(u.addrs, a)
	u.kern = nil
}

func (u *unit) unset(a netip.Addr) {
	u.addrs = slices.DeleteFunc(u.addrs, func(h vip.Address) bool { return h.Prefix.Addr() == a })
	u.kern = nil
}

// crash is a power cut; the machine's run dies with it.
func (u *unit) crash() {
	if u.run != nil {
		u.run.kill()
	}
	u.on = false
}

func (u *unit) boot() {
	u.on, u.addrs, u.kern, u.booted = true, slices.Clone(u.base), nil, time.Now()
	u.bootID += "+"
	clear(u.neigh)
	u.unmailed = ""
	u.reckoned.lost = true
}

// mix makes a number that looks random from others that do not (splitmix64).
func mix(seed uint64, more ...uint64) uint64 {
	for _, m := range more {
		seed = (seed ^ m) + 0x9e3779b97f4a7c15
		seed = (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
		seed = (seed ^ seed>>27) * 0x94d049bb133111eb
		seed ^= seed >> 31
	}
	return seed
}

// Kinds of frames.
const (
	frameEcho = iota
	frameReply
	frameAsk
	frameAnswer
	frameTell
)

// pass says whether a frame gets from a to b, and how long it takes.
func (n *model) pass(a, b *unit, kind uint64, about netip.Addr, now time.Time) (time.Duration, bool) {
	p := n.paths[a.i][b.i]
	if a == b || !a.on || !b.on || !a.carrier || !b.carrier || p.cut {
		return 0, false
	}
	low := about.As4()[3]
	h := mix(n.seed, uint64(now.Sub(n.t0)), uint64(a.i)<<24|uint64(b.i)<<16|kind<<8|uint64(low))
	if h%100 < uint64(p.loss) {
		return 0, false
	}
	d := latency + time.Duration(h>>8%100_000)
	if p.slow > 0 {
		d += time.Duration(h >> 20 % uint64(p.slow))
	}
	return d, true
}

// modelRun is one run of pingover on a unit: a process that can be killed.
// From its death on none of its calls has an effect; they do not even return,
// so the goroutines of a dead run end where they are.
type modelRun struct {
	u *unit
	command
	began     time.Time
	cancel    context.CancelFunc
	killed    bool
	quiet     bool // it began when all was well
	gave      bool // lowered an address
	listeners []*modelListener
	calls     int // of the run's main goroutine
	acts      int // those among them that change or tell something
	killAt    kill

	round   time.Time     // when the last round of pings of the primary began
	verdict check.Verdict // and what it found
}

// kill says at which call a run dies; 0 at none.
type kill struct {
	call, act int
	after     bool // its effect
}

// enter begins a call; the model is locked then, until leave. Calls that are
// made beside others are not numbered: their order is anybody's.
func (r *modelRun) enter(numbered, act bool) {
	r.u.n.mu.Lock()
	if !r.killed && numbered {
		r.calls++
		if act {
			r.acts++
		}
		if !r.killAt.after && r.due(act) {
			r.kill()
		}
	}
	if r.killed {
		r.u.n.mu.Unlock()
		runtime.Goexit()
	}
}

func (r *modelRun) leave(numbered, act bool) {
	if numbered && r.killAt.after && r.due(act) {
		r.kill()
	}
	dead := r.killed
	r.u.n.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

func (r *modelRun) due(act bool) bool {
	return r.calls == r.killAt.call || act && r.acts == r.killAt.act
}

// kill ends the run now. Its files go on under another name, as they were,
// so that nothing it may still do reaches them, and free of its locks.
func (r *modelRun) kill() {
	u := r.u
	u.n.trace("%s: killed at call %d", u.name, r.calls)
	r.killed, u.run = true, nil
	r.cancel()
	u.deaths++
	was := u.dir
	u.dir = fmt.Sprintf("%s+%d", strings.SplitN(was, "+", 2)[0], u.deaths)
	if err := os.Rename(was, u.dir); err != nil && !os.IsNotExist(err) {
		u.n.fail("the model itself: %v", err)
	}
	_ = os.Remove(filepath.Join(u.dir, "web.lock"))
	_ = os.Remove(filepath.Join(u.dir, "act.lock"))
	u.n.died(r)
}

func (r *modelRun) env() Env {
	return Env{
		Env: observe.Env{
			Snapshot: func() (*vip.Snapshot, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				return r.u.snapshot(), nil
			},
			Route: func(a, _ netip.Addr) (vip.Route, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				if r.u.holds(a) {
					return vip.Route{Interface: "lo", Local: true}, nil
				}
				return vip.Route{Interface: "eth0", Source: r.u.own.Prefix.Addr(), OnLink: true}, nil
			},
			Gateway: func(string, bool, netip.Addr) (netip.Addr, bool, error) {
				return gatewayAddr, true, nil
			},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				a, err := netip.ParseAddr(host)
				return []netip.Addr{a}, err
			},
			Ping: r.ping,
			Listen: func(_ vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				e := &modelListener{r: r, own: own, addrs: addrs}
				r.listeners = append(r.listeners, e)
				return e, nil
			},
			Neighbour: func(_ string, a netip.Addr) (net.HardwareAddr, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				return r.u.neigh[a], nil
			},
			BootID: func() (string, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				return r.u.bootID, nil
			},
			Uptime: func() (time.Duration, error) {
				r.enter(true, false)
				defer r.leave(true, false)
				return time.Since(r.u.booted), nil
			},
		},
		Tool:  modelTool{vip.Tool{Name: "ip", Path: "/sbin/ip"}, r},
		Locks: new(state.Locks), LockSwitch: lockSwitch,
		Hook:     r.hook,
		Trusted:  func([]string) error { return nil },
		Runnable: func([]string) error { return nil },
		MayPing:  func() error { return nil },
		MayRaise: func() error { return nil },
		Deliver: func(ctx context.Context, messages []state.Message) ([]state.Message, error) {
			r.enter(true, true)
			defer r.leave(true, true)
			if r.u.n.mailDown {
				return messages, errNoMail
			}
			for _, l := range messages {
				r.u.n.trace("%s: mails %s %q", r.u.name, l.MessageID, l.Subject)
				r.u.mailed(l)
			}
			return nil, nil
		},
	}
}

var (
	errNoMail = errors.New("no mail server")
	errTool   = errors.New("exit code 2")
)

// ping asks in rounds as check.Ping does. That of the primary alone is told
// what comes in.
func (r *modelRun) ping(ctx context.Context, p check.Pings) check.Round {
	main := p.OnReply != nil
	r.enter(main, false)
	if main {
		r.round, r.verdict = time.Now(), check.Unknown
	}
	r.leave(main, false)
	round := r.pinged(ctx, p)
	if main {
		r.u.n.mu.Lock()
		r.verdict = round.Verdict
		r.u.n.trace("%s: %s is %s", r.u.name, p.Address, round.Verdict)
		r.u.n.mu.Unlock()
	}
	return round
}

func (r *modelRun) pinged(ctx context.Context, p check.Pings) check.Round {
	var first time.Time // arrival of a reply
	for i := range p.Count {
		now := time.Now()
		r.enter(false, false)
		if r.u.holds(p.Address) {
			r.leave(false, false)
			return check.Round{Verdict: check.Up, Sent: 1, Received: 1}
		}
		for _, o := range r.u.n.units {
			if !o.holds(p.Address) || o.noPing {
				continue
			}
			there, ok := r.u.n.pass(r.u, o, frameEcho, p.Address, now)
			back, okBack := r.u.n.pass(o, r.u, frameReply, p.Address, now)
			if at := now.Add(there + back); ok && okBack && (first.IsZero() || at.Before(first)) {
				first = at
				r.u.neigh[p.Address] = o.mac
			}
		}
		r.leave(false, false)
		wait := p.Interval
		if i == p.Count-1 {
			wait = p.Timeout
		}
		replied := !first.IsZero() && !first.After(now.Add(wait))
		if replied {
			wait = first.Sub(now)
		}
		if !proc.Sleep(ctx, wait) {
			return check.Round{Sent: i + 1, Err: context.Cause(ctx)}
		}
		if replied {
			return check.Round{Verdict: check.Up, Sent: i + 1, Received: 1, RTT: wait}
		}
	}
	return check.Round{Verdict: check.Down, Sent: p.Count}
}

// modelListener is a Wire.
type modelListener struct {
	r     *modelRun
	own   func(vip.Reply) bool
	addrs []netip.Addr
	heard []vip.Reply // At may be yet to come
	news  chan struct{}
}

func (n *model) note(o *unit, h vip.Reply) {
	if o.run == nil {
		return
	}
	for _, e := range o.run.listeners {
		if e.own(h) || !slices.Contains(e.addrs, h.Address) {
			continue
		}
		e.heard = append(e.heard, h)
		if e.news != nil {
			e.wakeAt(h.At)
		}
	}
}

func (e *modelListener) wakeAt(t time.Time) {
	time.AfterFunc(time.Until(t), func() {
		e.r.u.n.mu.Lock()
		defer e.r.u.n.mu.Unlock()
		close(e.news)
		e.news = make(chan struct{})
	})
}

func (e *modelListener) Ask(target, from netip.Addr) error {
	e.r.enter(false, false)
	defer e.r.leave(false, false)
	m, n, now := e.r.u, e.r.u.n, time.Now()
	for _, o := range n.units {
		there, ok := n.pass(m, o, frameAsk, target, now)
		if !ok {
			continue
		}
		if from.IsValid() {
			n.note(o, vip.Reply{Address: from, MAC: m.mac, At: now.Add(there)})
		} else {
			n.note(o, vip.Reply{Address: target, MAC: m.mac, Probe: true, At: now.Add(there)})
		}
		if !o.holds(target) {
			continue
		}
		if back, ok := n.pass(o, m, frameAnswer, target, now); ok {
			to := from
			if !from.IsValid() {
				to = netip.IPv4Unspecified()
			}
			n.note(m, vip.Reply{Address: target, MAC: o.mac, Direct: true, To: to, At: now.Add(there + back)})
		}
	}
	return nil
}

func (e *modelListener) Lost() uint64 { return 0 }

func (e *modelListener) Announce(a netip.Addr, hw net.HardwareAddr) error {
	e.r.enter(true, true)
	defer e.r.leave(true, true)
	m, n, now := e.r.u, e.r.u.n, time.Now()
	n.trace("%s: announces %s at %s", m.name, a, hw)
	for _, o := range n.units {
		if d, ok := n.pass(m, o, frameTell, a, now); ok {
			n.note(o, vip.Reply{Address: a, MAC: hw, At: now.Add(d)})
		}
	}
	return nil
}

func (e *modelListener) Replies(since time.Time) []vip.Reply {
	e.r.enter(false, false)
	defer e.r.leave(false, false)
	now := time.Now()
	var heard []vip.Reply
	for _, h := range e.heard {
		if !h.At.Before(since) && !h.At.After(now) {
			heard = append(heard, h)
		}
	}
	slices.SortStableFunc(heard, func(a, b vip.Reply) int { return a.At.Compare(b.At) })
	return heard
}

// Changed is asked for by goroutines that outlive a run for a moment.
func (e *modelListener) Changed() <-chan struct{} {
	e.r.u.n.mu.Lock()
	defer e.r.u.n.mu.Unlock()
	if e.news == nil {
		e.news = make(chan struct{})
		for _, h := range e.heard {
			if h.At.After(time.Now()) {
				e.wakeAt(h.At)
			}
		}
	}
	return e.news
}

func (e *modelListener) Err() error { return nil }

func (e *modelListener) Close() error {
	e.r.u.n.mu.Lock()
	defer e.r.u.n.mu.Unlock()
	e.r.u.n.rivals(e.r)
	e.r.listeners = slices.DeleteFunc(e.r.listeners, func(o *modelListener) bool { return o == e })
	return nil
}

// modelTool changes the addresses of the unit; the plans are the real ones.
type modelTool struct {
	vip.Tool
	r *modelRun
}

func (t modelTool) Raise(_ context.Context, a vip.Alias) (label string, ran []proc.Result, err error) {
	t.r.enter(true, true)
	defer t.r.leave(true, true)
	u, addr := t.r.u, a.Prefix.Addr()
	argv := []string{"ip", "addr", "add", a.Prefix.String()}
	if u.holds(addr) {
		return "", nil, nil
	}
	if u.noRaise {
		return "", []proc.Result{{Argv: argv, Code: 2, Err: errTool}}, errTool
	}
	u.n.raises(t.r, addr)
	u.n.trace("%s: raises %s", u.name, addr)
	u.switched("raised")
	label, _ = vip.FreeLabel(u.snapshot(), "eth0")
	u.give(vip.Address{Prefix: a.Prefix, Label: label})
	u.n.changed()
	return label, []proc.Result{{Argv: argv}}, nil
}

func (t modelTool) Renew(context.Context, vip.Alias) (ran []proc.Result, err error) {
	t.r.enter(true, false)
	defer t.r.leave(true, false)
	return nil, nil
}

func (t modelTool) CanLease() error { return nil }
func (t modelTool) Exclusive() bool { return false }

// hook is a command of the operator's: it takes its time, and may refuse.
func (r *modelRun) hook(ctx context.Context, c proc.Command) proc.Result {
	u := r.u
	r.enter(true, true)
	refused := u.refuses && c.Argv[0] == "pre-takeover"
	took := u.hookTime
	u.n.trace("%s: runs %s, refused: %t", u.name, c.Argv[0], refused)
	r.leave(true, true)
	if !proc.Sleep(ctx, took) {
		return proc.Result{Argv: c.Argv, Code: -1, Duration: took, Err: context.Cause(ctx)}
	}
	r.enter(true, true)
	if took > slowHook { // after which the question is put again
		r.round = time.Now()
	}
	r.leave(true, true)
	if refused {
		return proc.Result{Argv: c.Argv, Code: 1, Duration: took, Err: errTool}
	}
	return proc.Result{Argv: c.Argv, Duration: took}
}

func (t modelTool) Lower(_ context.Context, a netip.Addr, _ ...string) (ran []proc.Result, err error) {
	t.r.enter(true, true)
	defer t.r.leave(true, true)
	u := t.r.u
	argv := []string{"ip", "addr", "del", a.String()}
	if u.noLower {
		return []proc.Result{{Argv: argv, Code: 2, Err: errTool}}, errTool
	}
	u.n.lowers(t.r, a)
	u.n.trace("%s: lowers %s", u.name, a)
	u.switched("lowered")
	u.unset(a)
	u.n.changed()
	return []proc.Result{{Argv: argv}}, nil
}

// command is a run of pingover.
type command struct {
	word  string
	force bool
}

func (c command) run(ctx context.Context, w Env, set config.Cluster, o Options) (Report, error) {
	o.Force = c.force
	switch c.word {
	case "takeover":
		return TakeOverIn(ctx, w, set, o)
	case "release":
		return ReleaseIn(ctx, w, set, o)
	}
	return CheckIn(ctx, w, set, o)
}

// start lets a run of pingover begin on the unit, unless one is under way or
// the machine is off.
func (u *unit) start(parent context.Context, c command) {
	n := u.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if !u.on || u.run != nil {
		return
	}
	ctx, cancel := context.WithCancel(parent)
	r := &modelRun{u: u, began: time.Now(), cancel: cancel, quiet: n.quiet, command: c}
	if u.next != nil {
		r.killAt, u.next = *u.next, nil
	}
	u.run = r
	set := *u.set
	set.StateDir = u.dir
	var options Options
	if n.log != nil {
		options.OnEvent = func(e any) {
			if d, ok := e.(Decided); ok {
				n.mu.Lock()
				n.trace("%s: rule %d, %s: %s", u.name, d.Decision.Rule, d.Decision.Outcome, d.Decision.Reason)
				n.mu.Unlock()
			}
		}
	}
	n.trace("%s: a %s begins, force: %t", u.name, c.word, c.force)
	u.released = u.released && c.word != "takeover" || c.word == "release"
	n.runs.Go(func() {
		defer cancel()
		report, err := c.run(ctx, r.env(), set, options)
		n.mu.Lock()
		defer n.mu.Unlock()
		if r.killed {
			return
		}
		u.run = nil
		n.ended(r, report, err)
	})
}

// reachable says whether frames get both ways between them for sure.
func (n *model) reachable(a, b *unit) bool {
	return a.on && b.on && a.carrier && b.carrier && n.paths[a.i][b.i].perfect() && n.paths[b.i][a.i].perfect()
}

type model struct {
	seed  uint64
	t0    time.Time
	mu    sync.Mutex
	units []*unit
	paths [6][6]path
	runs  sync.WaitGroup

	quiet    bool // all is well
	mailDown bool
	raising  func(r *modelRun) // before an address is raised: fencing
	log      func(line string)
	broken   []string // properties, with the moment

	vips    []netip.Addr
	primary *unit // nil: the host is a virtual IP
	witness *unit
	pairs   [6][6]pair
	took    int // how often an address was raised
	split   int // and how often while the primary served it
}

func (n *model) trace(format string, args ...any) {
	if n.log != nil {
		n.log(fmt.Sprintf("%12v  ", time.Since(n.t0).Round(time.Microsecond)) + fmt.Sprintf(format, args...))
	}
}

func (n *model) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.broken = append(n.broken, text)
	n.trace("BROKEN: %s", text)
}
