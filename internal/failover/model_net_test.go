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
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// The network of the model: one segment, to which each machine has an interface,
// and in some schedules a second one between the primary and the standbys. It
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
	leases  map[netip.Addr]time.Time // of addrs that have one: its end
	on      bool
	carrier [2]bool      // of its interfaces
	second  netip.Prefix // its address on the second segment; zero: it has no interface there
	noPing  bool         // its firewall drops echo requests
	noRaise bool         // its tool fails
	noLower bool
	refuses bool    // its pre-takeover
	broken  bool    // its hooks cannot be run
	noCron  bool    // no check is begun
	pace    float64 // rate of its clock; 0: 1

	stalled time.Time                // until then its run stalls
	frozen  time.Time                // until then all of it does
	dad     bool                     // it assigns a virtual IP at boot only when nobody is heard to have it
	trying  map[netip.Addr]time.Time // what it is assigning so, since when

	hookTime time.Duration // of each
	booted   time.Time
	bootID   string
	kern     *vip.Snapshot // of addrs; nil: to be made anew
	neigh    map[netip.Addr]net.HardwareAddr

	set        *config.Cluster // nil: no pingover runs here
	memory     *state.Memory   // of its watch; nil: it runs by cron
	dir        string
	deaths     int
	quiet      int           // checks completed that began when all was well
	checked    time.Time     // when the last one that came to its end began
	outcome    state.Outcome // and how that ended
	rehearsals int
	run        *modelRun
	next       *kill // for the next run that begins
	paused     time.Time
	released   bool // manually, and no check has seen the primary up since
	mailbox    []state.Message
	watch      watched
	reckoned   map[netip.Addr]reckoning
	conflict   bool   // another machine's claim to what it holds was heard since it raised that
	notReady   int    // checks in a row whose rehearsal failed; -1: not known
	ready      int    // and those, while all is well, whose rehearsal did not
	gave       bool   // by a run since the last check that came to its end
	open       bool   // a release was open when the last check came to its end
	unmailed   string // the switch that no message has told of yet
	blocked    bool   // the last message about a switch said that it was refused
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
		n: n, i: len(n.units), name: name, mac: mac(number), on: true, carrier: [2]bool{true, true},
		booted: n.t0.Add(-time.Hour), bootID: name + "-1", neigh: map[netip.Addr]net.HardwareAddr{},
		leases: map[netip.Addr]time.Time{}, trying: map[netip.Addr]time.Time{}, reckoned: map[netip.Addr]reckoning{},
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
	if u.kern != nil {
		return u.kern
	}
	k := &vip.Snapshot{Links: []vip.Link{loopback, {
		Index: 2, Name: "eth0", MAC: u.mac, Up: true, Carrier: u.carrier[0], ARP: true, Addresses: slices.Clone(u.addrs),
	}}}
	for i, a := range k.Links[1].Addresses {
		if until, ok := u.leases[a.Prefix.Addr()]; ok {
			left := time.Duration(float64(time.Until(until)) * u.rate())
			k.Links[1].Addresses[i].Lease = max(time.Second, (left + time.Second - 1).Truncate(time.Second))
		}
	}
	if u.second.IsValid() {
		k.Links = append(k.Links, vip.Link{
			Index: 3, Name: "eth1", MAC: u.secondMAC(), Up: true, Carrier: u.linked(1), ARP: true,
			Addresses: []vip.Address{{Prefix: u.second, Label: "eth1"}},
		})
	}
	if len(u.leases) == 0 { // else the lifetimes in it get shorter
		u.kern = k
	}
	return k
}

func (u *unit) secondMAC() net.HardwareAddr { return mac(u.mac[5] | 0x40) }

// linked says whether an interface has carrier. A direct cable loses it with the
// primary's power.
func (u *unit) linked(link int) bool {
	p := u.n.primary
	return u.carrier[link] && (link == 0 || !u.n.direct || u == p || p.on && p.carrier[1])
}

// linkOf is the interface by which an address is reached.
func linkOf(a netip.Addr) int {
	if secondNetwork.Contains(a) {
		return 1
	}
	return 0
}

var linkNames = []string{"eth0", "eth1"}

// secondNetwork is that of the second segment.
var secondNetwork = netip.MustParsePrefix("10.9.9.0/24")

func (u *unit) holds(a netip.Addr) bool {
	return a == u.second.Addr() && a.IsValid() || slices.ContainsFunc(u.addrs, func(h vip.Address) bool { return h.Prefix.Addr() == a })
}

// runs says whether the machine is on and not suspended.
func (u *unit) runs() bool { return u.on && !time.Now().Before(u.frozen) }

func (u *unit) serves(a netip.Addr) bool { return u.runs() && u.carrier[0] && u.holds(a) }

// native says whether a virtual IP is the machine's own from its boot on.
func (u *unit) native(a netip.Addr) bool {
	return slices.ContainsFunc(u.base, func(h vip.Address) bool { return h.Prefix.Addr() == a })
}

func (u *unit) give(a vip.Address) {
	u.addrs = append(u.addrs, a)
	u.kern = nil
}

func (u *unit) unset(a netip.Addr) {
	u.addrs = slices.DeleteFunc(u.addrs, func(h vip.Address) bool { return h.Prefix.Addr() == a })
	delete(u.leases, a)
	u.kern = nil
}

// lend gives an address a lifetime, after which the kernel removes it.
func (u *unit) lend(a netip.Addr, lease time.Duration) {
	delete(u.leases, a)
	u.kern = nil
	if lease == 0 {
		return
	}
	lease = time.Duration(float64(lease) / u.rate())
	until := time.Now().Add(lease)
	u.leases[a] = until
	if u.n.register != nil { // as late as the kernel may be
		lease += 20*time.Millisecond + time.Duration(mix(u.n.seed, uint64(time.Since(u.n.t0)), uint64(u.i))%1400)*time.Millisecond
	}
	time.AfterFunc(lease, func() {
		u.n.mu.Lock()
		defer u.n.mu.Unlock()
		if u.leases[a] == until && u.on && !u.n.over {
			u.n.trace("%s: the lease of %s ends", u.name, a)
			u.n.expires(u, a)
			u.unset(a)
			u.n.changed()
		}
	})
}

// crash is a power cut; the machine's run dies with it.
func (u *unit) crash() {
	if u.run != nil {
		u.run.kill()
	}
	if u.memory != nil {
		u.notReady = -1 // its watch had not written it
	}
	u.on, u.memory = false, nil
	clear(u.trying)
	u.n.relink()
}

func (u *unit) boot() {
	u.on, u.addrs, u.kern, u.booted = true, slices.Clone(u.base), nil, time.Now()
	u.bootID += "+"
	u.frozen, u.stalled = time.Time{}, time.Time{}
	clear(u.neigh)
	clear(u.leases)
	clear(u.trying)
	u.unmailed = ""
	u.lost()
	u.n.relink()
	if u.dad {
		u.detect()
	}
}

// lost says that what the machine held has gone, through no run of pingover.
func (u *unit) lost() {
	for a, r := range u.reckoned {
		r.lost = true
		u.reckoned[a] = r
	}
}

// How long a machine that checks for duplicates probes before it assigns an
// address: IPv4 as RFC 5227 says, IPv6 as RFC 4862 does.
const (
	detects4 = 4 * time.Second
	detects6 = time.Second
)

// detect is how such a machine boots: it probes for its virtual IPs, and assigns
// those for which it hears no other machine. What it gives up stays so.
func (u *unit) detect() {
	for _, a := range u.base {
		addr, boot := a.Prefix.Addr(), u.booted
		if !slices.Contains(u.n.vips, addr) {
			continue
		}
		u.unset(addr)
		u.trying[addr] = boot
		length := detects4
		if addr.Is6() {
			length = detects6
		}
		probe := func() {
			if since, ok := u.trying[addr]; ok && since.Equal(boot) {
				u.n.ask(u, 0, addr, netip.Addr{})
			}
		}
		probe()
		after := func(d time.Duration, do func()) {
			time.AfterFunc(d, func() {
				u.n.mu.Lock()
				defer u.n.mu.Unlock()
				if since, ok := u.trying[addr]; ok && since.Equal(boot) && u.on && !u.n.over {
					do()
				}
			})
		}
		if addr.Is4() {
			after(time.Second, probe)
			after(2*time.Second, probe)
		}
		after(length, func() {
			delete(u.trying, addr)
			u.n.trace("%s: assigns %s, which nobody has", u.name, addr)
			u.give(a)
			u.n.tell(u, 0, addr, u.mac)
			u.n.changed()
		})
	}
}

// heard is told of a frame that says that another machine has an address, or
// probes for it.
func (u *unit) heard(addr netip.Addr) {
	if _, ok := u.trying[addr]; ok {
		u.n.trace("%s: gives %s up, for another machine was heard", u.name, addr)
		delete(u.trying, addr)
	}
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

// pass says whether a frame gets from a to b on a link, and how long it takes.
func (n *model) pass(link int, a, b *unit, kind uint64, about netip.Addr, now time.Time) (time.Duration, bool) {
	p := n.paths[a.i][b.i]
	if link == 1 {
		p = path{cut: !a.second.IsValid() || !b.second.IsValid() || n.secondCut}
	}
	if a == b || p.cut || !a.on || !b.on || !a.carrier[link] || !b.carrier[link] || now.Before(a.frozen) || now.Before(b.frozen) {
		return 0, false
	}
	bytes := about.As16()
	h := mix(n.seed, uint64(now.Sub(n.t0)), uint64(a.i)<<24|uint64(b.i)<<16|kind<<8|uint64(bytes[15]^bytes[0]))
	if h%100 < uint64(p.loss) {
		return 0, false
	}
	d := latency + time.Duration(h>>8%100_000)
	if p.slow > 0 {
		d += time.Duration(h >> 20 % uint64(p.slow))
	}
	return d, true
}

// ask is a question that a machine puts on a link: a probe where from is zero.
func (n *model) ask(m *unit, link int, target, from netip.Addr) {
	now := time.Now()
	mac := m.mac
	if link == 1 {
		mac = m.secondMAC()
	}
	for _, o := range n.units {
		there, ok := n.pass(link, m, o, frameAsk, target, now)
		if !ok {
			continue
		}
		if from.IsValid() {
			n.note(o, link, vip.Reply{Address: from, MAC: mac, At: now.Add(there)})
			o.heard(from)
		} else {
			n.note(o, link, vip.Reply{Address: target, MAC: mac, Probe: true, At: now.Add(there)})
			o.heard(target)
		}
		if !o.holds(target) || linkOf(target) != link {
			continue
		}
		if back, ok := n.pass(link, o, m, frameAnswer, target, now); ok {
			to, hw := from, o.mac
			if !from.IsValid() {
				to = netip.IPv4Unspecified()
			}
			if link == 1 {
				hw = o.secondMAC()
			}
			n.note(m, link, vip.Reply{Address: target, MAC: hw, Direct: true, To: to, At: now.Add(there + back)})
			m.heard(target)
		}
	}
}

// tell is an announcement.
func (n *model) tell(m *unit, link int, a netip.Addr, hw net.HardwareAddr) {
	now := time.Now()
	n.trace("%s: announces %s at %s", m.name, a, hw)
	for _, o := range n.units {
		if d, ok := n.pass(link, m, o, frameTell, a, now); ok {
			n.note(o, link, vip.Reply{Address: a, MAC: hw, At: now.Add(d)})
			o.heard(a)
		}
	}
}

// relink makes the snapshots anew: a direct cable has or has no carrier now.
func (n *model) relink() {
	for _, u := range n.units {
		u.kern = nil
	}
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

	round   time.Time                // when the last round of pings of the primary began
	verdict check.Verdict            // and what it found
	unknown map[netip.Addr]bool      // the paths by which it found nothing out
	asked   map[netip.Addr]time.Time // when each virtual IP was asked for last
	broken  bool                     // a hook could not be run
}

// kill says at which call a run dies; 0 at none. Or it stalls there for so
// long, after the call's effect.
type kill struct {
	call, act int
	after     bool // its effect
	stall     time.Duration
}

// enter begins a call, when the run does not stand still; the model is locked
// then, until leave. Calls that are made beside others are not numbered: their
// order is anybody's.
func (r *modelRun) enter(numbered, act bool) {
	r.u.n.mu.Lock()
	for !r.killed && time.Now().Before(r.u.stalled) {
		d := time.Until(r.u.stalled)
		r.u.n.mu.Unlock()
		time.Sleep(d)
		r.u.n.mu.Lock()
	}
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
	var until time.Time
	if numbered && !r.killed && r.killAt.after && r.due(act) {
		switch {
		case r.killAt.stall == 0:
			r.kill()
		case !r.u.n.quiet: // else it would stand still beyond the end of the schedule
			r.u.stall(r.killAt.stall, false)
			until = r.u.stalled
		}
	}
	dead := r.killed
	r.u.n.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
	time.Sleep(time.Until(until))
}

func (r *modelRun) due(act bool) bool {
	return r.calls == r.killAt.call || act && r.acts == r.killAt.act
}

// stall lets the machine's run stand still for so long, or all of the machine. A
// bubble of testing/synctest has one clock for all and both kinds: that only the
// wall clock goes on while a machine sleeps cannot be played here.
func (u *unit) stall(d time.Duration, machine bool) {
	machine = machine && (!u.n.noFreeze || u.set == nil)
	u.n.trace("%s: stalls for %v, all of it: %t", u.name, d, machine)
	until := time.Now().Add(d)
	if until.After(u.n.end) && !u.n.quiet {
		until = u.n.end
	}
	u.stalled = until
	if machine {
		u.frozen = until
		time.AfterFunc(time.Until(until), func() {
			u.n.mu.Lock()
			defer u.n.mu.Unlock()
			u.n.changed()
		})
	}
	if !u.watch.since.IsZero() {
		u.watch = watched{since: until}
	}
	u.n.changed()
}

// kill ends the run now. Its files go on under another name, as they were,
// so that nothing it may still do reaches them, and free of its locks.
func (r *modelRun) kill() {
	u := r.u
	u.memory = nil
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
	u.notReady = -1 // its record may have been written
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
				switch {
				case r.u.holds(a):
					return vip.Route{Interface: "lo", Local: true}, nil
				case linkOf(a) == 1:
					return vip.Route{Interface: "eth1", Source: r.u.second.Addr(), OnLink: true}, nil
				}
				return vip.Route{Interface: "eth0", Source: r.u.own.Prefix.Addr(), OnLink: true}, nil
			},
			Gateway: func(_ string, v6 bool, _ netip.Addr) (netip.Addr, bool, error) {
				return gatewayAddr, !v6, nil
			},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				a, err := netip.ParseAddr(host)
				return []netip.Addr{a}, err
			},
			Ping: r.ping,
			Listen: func(l vip.Link, own func(vip.Reply) bool, addrs ...netip.Addr) (vip.Conn, error) {
				r.enter(!r.u.second.IsValid(), false) // else the order of the links is anybody's
				defer r.leave(!r.u.second.IsValid(), false)
				e := &modelListener{r: r, link: slices.Index(linkNames, l.Name), own: own, addrs: addrs}
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
			Arbiter: r.arbiter(),
		},
		Tool:  modelTool{vip.Tool{Name: "ip", Path: "/sbin/ip"}, r},
		Locks: new(state.Locks), Memory: r.u.memory,
		LockSwitch: func(ctx context.Context, d state.Dir, exclusive bool) (func(), error) {
			r.enter(true, false)
			defer r.leave(true, false)
			return lockSwitch(ctx, d, exclusive)
		},
		Hook:    r.hook,
		Trusted: func([]string) error { return nil },
		Runnable: func([]string) error {
			r.enter(true, false)
			defer r.leave(true, false)
			if r.u.broken {
				r.broken = true
				return errTool
			}
			return nil
		},
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
// what comes in; with two paths to it, two rounds are made side by side.
func (r *modelRun) ping(ctx context.Context, p check.Pings) check.Round {
	main, alone := p.OnReply != nil, len(r.u.set.OtherHosts) == 0
	r.enter(main && alone, false)
	if now := time.Now(); main && !now.Equal(r.round) {
		r.round, r.verdict, r.unknown = now, check.Unknown, map[netip.Addr]bool{}
	}
	r.leave(main && alone, false)
	round := r.pinged(ctx, p)
	if main {
		r.u.n.mu.Lock()
		if r.verdict != check.Up && round.Verdict != check.Unknown {
			r.verdict = round.Verdict
		}
		if delete(r.unknown, p.Address); round.Err != nil { // one in which it stood still is made again
			r.unknown[p.Address] = true
		}
		r.u.n.trace("%s: %s is %s", r.u.name, p.Address, round.Verdict)
		r.u.n.mu.Unlock()
	}
	return round
}

func (r *modelRun) pinged(ctx context.Context, p check.Pings) check.Round {
	var first time.Time // arrival of a reply
	link := linkOf(p.Address)
	for i := range p.Count {
		r.enter(false, false)
		now := time.Now()
		if r.u.holds(p.Address) {
			r.leave(false, false)
			return check.Round{Verdict: check.Up, Sent: 1, Received: 1}
		}
		for _, o := range r.u.n.units {
			if !o.holds(p.Address) || o.noPing {
				continue
			}
			there, ok := r.u.n.pass(link, r.u, o, frameEcho, p.Address, now)
			back, okBack := r.u.n.pass(link, o, r.u, frameReply, p.Address, now)
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
		due := now.Add(wait)
		replied := !first.IsZero() && !first.After(due)
		if replied {
			wait = first.Sub(now)
		}
		if !proc.Sleep(ctx, wait) {
			return check.Round{Sent: i + 1, Err: context.Cause(ctx)}
		}
		if replied {
			return check.Round{Verdict: check.Up, Sent: i + 1, Received: 1, RTT: wait}
		}
		if i < p.Count-1 {
			continue
		}
		r.enter(false, false) // it may stand still
		r.leave(false, false)
		switch late := time.Since(due); { // what has arrived meanwhile is read
		case !first.IsZero() && !first.After(time.Now()):
			return check.Round{Verdict: check.Up, Sent: i + 1, Received: 1, RTT: first.Sub(now)}
		case late > p.Timeout/2:
			return check.Round{Sent: p.Count, Err: fmt.Errorf("%w: the round ended %s late", check.ErrStalled, late)}
		}
	}
	return check.Round{Verdict: check.Down, Sent: p.Count}
}

// modelListener is a Wire.
type modelListener struct {
	r     *modelRun
	link  int
	own   func(vip.Reply) bool
	addrs []netip.Addr
	heard []vip.Reply // At may be yet to come
	news  chan struct{}
}

// note is told of a frame that arrives at a machine.
func (n *model) note(o *unit, link int, h vip.Reply) {
	if o.run == nil {
		return
	}
	for _, e := range o.run.listeners {
		if e.link != link || e.own(h) || !slices.Contains(e.addrs, h.Address) {
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
	e.r.u.n.asks(e.r, target, from)
	e.r.u.n.ask(e.r.u, e.link, target, from)
	return nil
}

func (e *modelListener) Lost() uint64 { return 0 }

func (e *modelListener) Announce(a netip.Addr, hw net.HardwareAddr) error {
	e.r.enter(true, true)
	defer e.r.leave(true, true)
	e.r.u.n.tell(e.r.u, e.link, a, hw)
	return nil
}

func (e *modelListener) Replies(since time.Time) []vip.Reply {
	e.r.enter(false, false)
	defer e.r.leave(false, false)
	now := time.Now()
	var heard []vip.Reply
	for _, h := range e.heard {
		if h.At.Before(since) || h.At.After(now) {
			continue
		}
		// The newest of each kind is kept, as a vip.Listener does.
		same := slices.IndexFunc(heard, func(o vip.Reply) bool {
			return o.Address == h.Address && kindOfFrame(o) == kindOfFrame(h) && string(o.MAC) == string(h.MAC)
		})
		switch {
		case same < 0:
			heard = append(heard, h)
		case !h.At.Before(heard[same].At):
			if h.Earlier = heard[same].Earlier; h.At.Sub(heard[same].At) >= 500*time.Millisecond {
				h.Earlier = heard[same].At
			}
			heard[same] = h
		}
	}
	slices.SortStableFunc(heard, func(a, b vip.Reply) int { return a.At.Compare(b.At) })
	return heard
}

// kindOfFrame tells a probe, a reply to a probe, a reply to a request, and a claim
// that replies to nobody.
func kindOfFrame(h vip.Reply) int {
	switch {
	case h.Probe:
		return frameAsk
	case h.Direct && h.To.IsUnspecified():
		return frameReply
	case h.Direct:
		return frameAnswer
	}
	return frameTell
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
	e.r.u.n.conflicts(e.r)
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
	if addr.Is4() {
		label, _ = vip.FreeLabel(u.snapshot(), "eth0")
	}
	u.give(vip.Address{Prefix: a.Prefix, Label: label, Deprecated: addr.Is6()})
	u.lend(addr, a.Lease)
	u.n.changed()
	return label, []proc.Result{{Argv: argv}}, nil
}

func (t modelTool) Renew(_ context.Context, a vip.Alias) (ran []proc.Result, err error) {
	t.r.enter(true, false)
	defer t.r.leave(true, false)
	if addr := a.Prefix.Addr(); t.r.u.holds(addr) {
		t.r.u.lend(addr, a.Lease)
	}
	return nil, nil
}

func (t modelTool) CanLease() error { return nil }
func (t modelTool) Exclusive() bool { return false }

// hook is a command of the operator's: it takes its time, and may refuse.
func (r *modelRun) hook(ctx context.Context, c proc.Command) proc.Result {
	u := r.u
	r.enter(true, true)
	refused := (u.refuses || u.broken) && c.Argv[0] == "pre-takeover"
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
	if !u.runs() || u.run != nil || u.noCron && c.word == "check" {
		return
	}
	ctx, cancel := context.WithCancel(parent)
	r := &modelRun{u: u, began: time.Now(), cancel: cancel, quiet: n.quiet, command: c, asked: map[netip.Addr]time.Time{}}
	if u.next != nil {
		r.killAt, u.next = *u.next, nil
	}
	u.run = r
	if n.fast && u.memory == nil {
		u.memory = &state.Memory{Every: recordAge}
	}
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
		if e, ok := errors.AsType[*run.Error](err); ok && e.Hung { // the process ends
			r.kill()
			return
		}
		u.run = nil
		n.ended(r, report, err)
	})
}

// reachable says whether frames get both ways between them for sure.
func (n *model) reachable(a, b *unit) bool {
	return a.runs() && b.runs() && a.carrier[0] && b.carrier[0] && n.paths[a.i][b.i].perfect() && n.paths[b.i][a.i].perfect()
}

type model struct {
	seed  uint64
	t0    time.Time
	mu    sync.Mutex
	units []*unit
	paths [6][6]path
	runs  sync.WaitGroup

	end       time.Time // of the part in which anything may happen
	over      bool      // the schedule
	fast      bool      // pingover runs as a watch with the fast line
	direct    bool      // the second segment is a cable from the primary
	secondCut bool      // it passes nothing, with carrier
	quiet     bool      // all is well
	mailDown  bool
	raising   func(r *modelRun) // before an address is raised: fencing
	log       func(line string)
	broken    []string // properties, with the moment

	vips    []netip.Addr
	primary *unit // nil: the host is a virtual IP
	witness *unit
	laptop  *unit // that may claim a virtual IP; nil: there is none
	pairs   [6][6]map[netip.Addr]pair
	took    int // how often an address was raised
	split   int // and how often while the primary served it

	register *register // nil: there is no arbiter
	noFreeze bool      // no machine that runs pingover is stopped as a whole
	patience int       // checks that the key may keep a standby waiting
	lax      bool      // addresses may end between two checks
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
