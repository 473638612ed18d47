package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"pingover/internal/lab"
	"pingover/state"
)

// What the scenes with an arbiter have in common: members of etcd, checks that go
// on as under cron, and a watcher that two machines never have one address.

const (
	arbiterTTL  = 10 * time.Second
	arbiterKey  = "pingover/web"
	arbiterFree = `{"version":1,"holder":"","stack":"","ttl_s":0}`
)

// arbitration is a scene whose standby and second are a symmetric pair that asks
// etcd.
type arbitration struct {
	*scene
	etcd *lab.Etcd
	args []string // of a check
	view *holders
}

// clusters of three are limited, for each of their members takes 128 MiB of memory.
var clusters = make(chan struct{}, 5)

// newArbitration starts so many members of etcd. The key is there, and free: an
// absent one keeps everybody out for the ttl.
func newArbitration(t testing.TB, members int, o lab.EtcdOptions) *arbitration {
	t.Helper()
	lab.Need(t, "etcd", "etcd-server")
	s := newScene(t)
	if members > 1 {
		clusters <- struct{}{}
		t.Cleanup(func() { <-clusters })
	}
	a := &arbitration{scene: s, args: watchVIP}
	a.etcd = s.etcd(o, s.members(members)...)
	a.args = append(slices.Clone(a.args), "--arbiter-ttl", fmt.Sprint(arbiterTTL))
	for _, url := range a.etcd.URLs() {
		a.args = append(a.args, "--arbiter", url)
	}
	if !o.NoGateway {
		s.must(a.etcd.Put(arbiterKey, arbiterFree))
	}
	a.view = s.watchHolders(vip4)
	s.must(s.Primary.PowerOff()) // a symmetric pair needs none
	return a
}

// members are hosts etcd1, etcd2, … on the switch.
func (s *scene) members(n int) (hosts []*lab.Host) {
	s.t.Helper()
	for i := range n {
		h, err := s.Add(fmt.Sprintf("etcd%d", i+1), fmt.Sprintf("172.16.0.%d/16", 11+i))
		s.must(err)
		hosts = append(hosts, h)
	}
	return hosts
}

func (s *scene) etcd(o lab.EtcdOptions, hosts ...*lab.Host) *lab.Etcd {
	s.t.Helper()
	e, err := s.Etcd(o, hosts...)
	s.must(err)
	return e
}

// hold starts the checks of both machines, and waits until the standby holds.
func (a *arbitration) hold() (first, second *runs) {
	a.t.Helper()
	first = a.cron(a.Standby)
	first.until(state.TookOver)
	second = a.cron(a.Second)
	second.until(state.OK)
	return first, second
}

// key is what etcd says.
func (a *arbitration) key() (holder string, revision int64) {
	a.t.Helper()
	value, revision, err := a.etcd.Get(arbiterKey)
	a.must(err)
	var v struct{ Holder string }
	if value != "" {
		a.must(json.Unmarshal([]byte(value), &v))
	}
	return v.Holder, revision
}

// freeze stops so many members, the leader first.
func (a *arbitration) freeze(n int) (frozen []*lab.EtcdMember) {
	a.t.Helper()
	leader, err := a.etcd.Leader()
	a.must(err)
	frozen = []*lab.EtcdMember{leader}
	for _, m := range a.etcd.Members {
		if m != leader && len(frozen) < n {
			frozen = append(frozen, m)
		}
	}
	for _, m := range frozen {
		a.must(m.Freeze())
	}
	return frozen
}

func (a *arbitration) thaw(members []*lab.EtcdMember) {
	a.t.Helper()
	for _, m := range members {
		a.must(m.Thaw())
	}
}

// runs are the checks of a machine, one a second, as cron starts them. A machine
// that is off makes none.
type runs struct {
	s    *scene
	h    *lab.Host
	args []string
	end  func()
	// disturb is told of each check that has begun; nil: of none.
	disturb func(*os.Process)

	mu     sync.Mutex
	ends   []ended
	still  time.Time // until then none begins
	waited bool      // for one of them
}

// cron starts the checks of a machine. They end with the test.
func (a *arbitration) cron(h *lab.Host) *runs { return a.repeat(h, a.args...) }

func (s *scene) repeat(h *lab.Host, args ...string) *runs {
	s.t.Helper()
	return (&runs{s: s, h: h, args: args}).begin()
}

func (r *runs) begin() *runs {
	s := r.s
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			next := time.After(time.Second)
			r.once()
			select {
			case <-done:
				return
			case <-next:
			}
		}
	})
	r.end = sync.OnceFunc(func() {
		close(done)
		running.Wait()
	})
	s.t.Cleanup(r.end) // before the lab is closed
	s.t.Cleanup(func() {
		if s.t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range r.ends {
				s.t.Logf("%s %s: %d %s: %s %s", e.Time.Local().Format("04:05.000"), r.h.Name(), e.code, e.Outcome, e.Reason, e.stderr)
			}
		}
	})
	return r
}

func (r *runs) once() {
	r.mu.Lock()
	still := time.Now().Before(r.still)
	r.mu.Unlock()
	if still {
		return
	}
	cmd := r.s.command(r.h, append([]string{"check", "--json"}, r.args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if cmd.Start() != nil {
		return
	}
	if r.disturb != nil {
		r.disturb(cmd.Process)
	}
	_ = cmd.Wait() // its error is the code
	e := ended{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), code: cmd.ProcessState.ExitCode()}
	_ = json.Unmarshal(stdout.Bytes(), &e.Report) // nothing where it was killed with its machine, or refused
	e.Time = began                                // more exact
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, e)
}

// stop lets no check begin for a while, as if cron were dead.
func (r *runs) stop(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.still = time.Now().Add(d)
}

// until waits until a check ends so from now on; the first time, any check.
func (r *runs) until(outcome state.Outcome) ended {
	r.s.t.Helper()
	return r.untilSaid(outcome, "")
}

// untilSaid is until, for a reason with these words.
func (r *runs) untilSaid(outcome state.Outcome, words string) (found ended) {
	r.s.t.Helper()
	since := time.Now()
	if !r.waited {
		since, r.waited = time.Time{}, true
	}
	r.s.within(60*time.Second, fmt.Sprintf("%s: %s: %s", r.h.Name(), outcome, words), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		i := slices.IndexFunc(r.ends, func(e ended) bool {
			return e.Time.Add(e.took).After(since) && e.Outcome == outcome && strings.Contains(e.Reason, words)
		})
		if i >= 0 {
			found = r.ends[i]
		}
		return i >= 0
	})
	return found
}

// only fails the test if a check since then ended in another way than these.
func (r *runs) only(since time.Time, outcomes ...state.Outcome) {
	r.s.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.ends {
		if e.Time.After(since) && !slices.Contains(outcomes, e.Outcome) {
			r.s.t.Errorf("%s at %s: %q: %s %s; want %q", r.h.Name(), e.Time.Format("04:05.000"), e.Outcome, e.Reason, e.stderr, outcomes)
		}
	}
}

// matches fails the test unless the reason matches a pattern.
func (e ended) matches(t testing.TB, pattern string) ended {
	t.Helper()
	if !regexp.MustCompile("^" + pattern + "$").MatchString(e.Reason) {
		t.Errorf("reason %q\nwant   %q", e.Reason, pattern)
	}
	return e
}

// holders is which machines have an address, by their kernels, and by what the
// client hears on the switch every 10 ms.
type holders struct {
	s    *scene
	addr netip.Addr

	mu       sync.Mutex
	now      map[*lab.Host]bool
	last     *lab.Host // the last one that had it alone
	left     time.Time // when it was removed there
	smallest time.Duration
	changes  int // of the holder
}

// watchHolders fails the test when two machines of the pair have the address at one
// time, until the test ends.
func (s *scene) watchHolders(addr netip.Addr) *holders {
	s.t.Helper()
	v := &holders{s: s, addr: addr, now: map[*lab.Host]bool{}, smallest: time.Hour}
	hosts := []*lab.Host{s.Standby, s.Second}
	for _, h := range hosts {
		updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
		s.must(h.Do(func() error { return netlink.AddrSubscribe(updates, done) }))
		s.t.Cleanup(func() { close(done) })
		go func() {
			for u := range updates {
				if got, _ := netip.AddrFromSlice(u.LinkAddress.IP); got.Unmap() == addr {
					v.note(h, u.NewAddr)
				}
			}
		}()
	}
	v.listen(hosts)
	s.t.Cleanup(func() {
		if testing.Verbose() || s.t.Failed() {
			s.t.Log(v)
		}
	})
	return v
}

func (v *holders) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprintf("%s went from one machine to the other %d times, the smallest gap %s", v.addr, v.changes, v.smallest.Round(time.Millisecond))
}

// note keeps what a kernel reports. Reports of two kernels may come in the wrong
// order, so the other is asked before it counts.
func (v *holders) note(h *lab.Host, has bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !has {
		delete(v.now, h)
		v.last, v.left = h, time.Now()
		return
	}
	if v.now[h] {
		return // renewed
	}
	for other := range v.now {
		out, err := other.Run("ip", "-o", "addr", "show", "to", v.addr.String())
		if err == nil && out != "" {
			v.s.t.Errorf("%s: %s is added on %s, and %s has it: %s", time.Now().Format("04:05.000"), v.addr, h.Name(), other.Name(), out)
		}
	}
	v.now[h] = true
	if v.last != nil && v.last != h {
		v.changes++
		v.smallest = min(v.smallest, time.Since(v.left))
	}
}

// listen asks on the switch who has the address, every 10 ms. Two that answer twice
// in a row have it at one time; once may be a late answer of the one before.
func (v *holders) listen(hosts []*lab.Host) {
	s := v.s
	w := s.wire(s.Client, v.addr)
	from := s.Client.Addr4()
	if v.addr.Is6() {
		from = s.Client.Addr6()
	}
	name := map[string]string{}
	for _, h := range hosts {
		name[h.MAC().String()] = h.Name()
	}
	end := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		twice := 0
		for {
			asked := time.Now()
			_ = w.Ask(v.addr, from) // where it cannot, nobody answers
			select {
			case <-end:
				return
			case <-time.After(10 * time.Millisecond):
			}
			macs := map[string]bool{}
			for _, reply := range w.Replies(asked) {
				if name[reply.MAC.String()] != "" && reply.Address == v.addr && !reply.Probe {
					macs[name[reply.MAC.String()]] = true
				}
			}
			if len(macs) < 2 {
				twice = 0
			} else if twice++; twice == 2 {
				s.t.Errorf("%s: %s is answered for by %v", asked.Format("04:05.000"), v.addr, slices.Sorted(maps.Keys(macs)))
			}
		}
	})
	s.t.Cleanup(func() {
		close(end)
		asking.Wait()
	})
}
