package hold

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// machine keeps 172.16.0.1 and .5 on eth0, in the time of testing/synctest, which begins
// with the test. The first is in the record as assigned by pingover.
type machine struct {
	*Keeper
	*kernel
	*key
	ctx   context.Context
	known []state.Alias
	notes []string
}

var (
	vip1 = netip.MustParseAddr("172.16.0.1")
	vip5 = netip.MustParseAddr("172.16.0.5")
	both = []netip.Addr{vip1, vip5}
)

// ttl is the arbiter's, and limit how long an address may stay after a renewal.
const (
	ttl   = 3 * time.Minute
	limit = 174 * time.Second
)

// play runs a test on a machine with an arbiter, or without one.
func play(t *testing.T, arbitrated bool, test func(m *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{began: time.Now(), ends: map[netip.Addr]time.Time{}}
		m := &machine{kernel: k, key: new(key), ctx: t.Context(), known: []state.Alias{{Prefix: host(vip1), Interface: "eth0", Raised: true}}}
		m.Keeper = &Keeper{Tool: tool{k}, Lock: k.lock, Job: &observe.Job{
			Run: &run.Run{Name: "web", OnEvent: func(e any) { m.notes = append(m.notes, e.(run.Note).Text) }},
			Env: observe.Env{
				Snapshot: k.snapshot,
				Route:    func(_, _ netip.Addr) (vip.Route, error) { return vip.Route{Interface: "eth0", OnLink: true}, nil },
				Resolve: func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr("172.16.0.2")}, nil
				},
				BootID: func() (string, error) { return "boot", nil },
			},
			Set: config.Cluster{Host: "172.16.0.2", Interface: "eth0", VIPs: []config.VIP{{Prefix: host(vip1)}, {Prefix: host(vip5)}}},
		}}
		if arbitrated {
			m.Set.Arbiter = arbiter.Settings{Members: []string{"http://10.0.0.11:2379"}, TTL: ttl}
			clock := func() time.Duration { return time.Hour + time.Since(k.began) }
			m.Arbiter = arbiter.NewSession(arbiter.Env{Store: store{m.key}, Boot: clock, Monotonic: clock, Stack: func() (string, error) { return "one", nil }}, "web", "one", ttl)
			m.Arbiter.Begin(nil, false)
			m.put("", "")
		}
		test(m)
	})
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// local is the machine's state as a survey finds it.
func (m *machine) local() observe.Local {
	l, errs := observe.Survey(m.ctx, m.Job, state.Record{Role: state.Active, VIPs: m.known})
	if len(errs) > 0 {
		panic(errs)
	}
	return l
}

// want compares what was done with the addresses, and when, and clears it.
func (m *machine) want(t *testing.T, name string, did ...string) {
	t.Helper()
	if diff := cmp.Diff(did, m.did); diff != "" {
		t.Errorf("%s: done (-want +got):\n%s", name, diff)
	}
	m.did = nil
}

// until is when lifetimes end, since the test began; 0 for no end.
func (m *machine) until(aliases []state.Alias) (ends []time.Duration) {
	for _, a := range aliases {
		end := time.Duration(0)
		if !a.Until.IsZero() {
			end = a.Until.Sub(m.began)
		}
		ends = append(ends, end)
	}
	return ends
}

// kernel has addresses on eth0.
type kernel struct {
	began  time.Time
	ends   map[netip.Addr]time.Time // of what is assigned; zero: no end
	slow   time.Duration            // a renewal takes so long
	fails  error                    // of what is changed
	unset  error                    // of renewals
	from   time.Duration            // since when, from the start of the test
	locked error                    // the switch lock cannot be taken
	hidden error                    // the kernel does not say what it has
	did    []string
}

func (k *kernel) assign(lifetime time.Duration, addrs ...netip.Addr) {
	for _, a := range addrs {
		k.ends[a] = time.Time{}
		if lifetime > 0 {
			k.ends[a] = time.Now().Add(lifetime)
		}
	}
}

func (k *kernel) snapshot() (*vip.Snapshot, error) {
	eth0 := vip.Link{Name: "eth0", Up: true, Carrier: true, ARP: true}
	for _, a := range both {
		if end, ok := k.ends[a]; ok && end.IsZero() {
			eth0.Addresses = append(eth0.Addresses, vip.Address{Prefix: host(a), Label: "eth0:1"})
		} else if left := time.Until(end); ok && left > 0 {
			eth0.Addresses = append(eth0.Addresses, vip.Address{Prefix: host(a), Label: "eth0:1", Lease: left})
		}
	}
	return &vip.Snapshot{Links: []vip.Link{eth0}}, k.hidden
}

func (k *kernel) do(format string, args ...any) ([]proc.Result, error) {
	did := fmt.Sprintf(format, args...)
	k.did = append(k.did, fmt.Sprintf("%v: %s", time.Since(k.began), did))
	return []proc.Result{{Argv: strings.Fields(did), Err: k.fails}}, k.fails
}

// tool changes the addresses of a kernel.
type tool struct{ k *kernel }

func (t tool) Renew(_ context.Context, a vip.Alias) ([]proc.Result, error) {
	ran, err := t.k.do("renew %s for %s", a.Address(), a.Lease)
	if time.Since(t.k.began) >= t.k.from && t.k.unset != nil {
		err = t.k.unset
	}
	time.Sleep(t.k.slow)
	if err == nil {
		t.k.assign(a.Lease, a.Address())
	}
	return ran, err
}

func (t tool) Lower(_ context.Context, a netip.Addr, added ...string) ([]proc.Result, error) {
	ran, err := t.k.do("lower %s on %v", a, added)
	if err == nil {
		delete(t.k.ends, a)
	}
	return ran, err
}

func (k *kernel) lock(_ context.Context, exclusive bool) (unlock func(), err error) {
	k.did = append(k.did, fmt.Sprintf("%v: lock, exclusive %t", time.Since(k.began), exclusive))
	return func() { k.did = append(k.did, "unlock") }, k.locked
}

// key is an arbiter with one key.
type key struct {
	mu sync.Mutex // while a probe or a hook goes on, others ask
	arbiter.Entry
	silent bool
	asked  int
}

func (k *key) put(holder, stack string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.Value, k.Revision = arbiter.Value{Holder: holder, Stack: stack, TTL: ttl}, k.Revision+1
}

// store is the arbiter of a key.
type store struct{ k *key }

func (s store) Read(ctx context.Context, _ string) (arbiter.Entry, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.asked++
	if s.k.silent {
		return arbiter.Entry{}, errors.New("no answer within 1.5s")
	}
	return s.k.Entry, ctx.Err()
}

func (s store) Swap(ctx context.Context, _ string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	s.k.mu.Lock()
	now := s.k.Revision
	s.k.mu.Unlock()
	if s.k.silent || at != now {
		return false, arbiter.Entry{}, ctx.Err()
	}
	s.k.put(v.Holder, v.Stack)
	return true, s.k.Entry, ctx.Err()
}

func (s store) Renew(ctx context.Context, cluster string, at int64, v arbiter.Value) (bool, arbiter.Entry, error) {
	return s.Swap(ctx, cluster, at, v)
}

func (store) Agree(context.Context, string) error { return nil }

func TestWhichLifetimesAreOurs(t *testing.T) {
	t.Parallel()
	alias := func(a netip.Addr, lease time.Duration, strict bool) vip.Alias {
		return vip.Alias{Prefix: host(a), Interface: "eth0", Label: "eth0:1", Lease: lease, Strict: strict}
	}
	for _, test := range []struct {
		name       string
		arbitrated bool
		lease      time.Duration // the setting
		shown      time.Duration // by the kernel
		want       []vip.Alias
	}{
		{"no lease, and none is shown", false, 0, 0, nil},
		{"a lease is set: what pingover assigned", false, time.Minute, 0, []vip.Alias{alias(vip1, 0, false)}},
		{"what has a lifetime", false, 0, time.Hour, []vip.Alias{alias(vip1, time.Hour, false), alias(vip5, time.Hour, false)}},
		{"an arbiter: everything", true, 0, 0, []vip.Alias{alias(vip1, 0, true), alias(vip5, 0, true)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, test.arbitrated, func(m *machine) {
				m.Set.Lease = test.lease
				m.assign(test.shown, both...)
				if diff := cmp.Diff(test.want, m.Due(m.local(), m.known, both), cmp.Comparer(samePrefix)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				delete(m.ends, vip1)
				delete(m.ends, vip5)
				if got := m.Due(m.local(), m.known, both); got != nil {
					t.Errorf("what is not here: %v", got)
				}
			})
		})
	}
}

func samePrefix(a, b netip.Prefix) bool { return a == b }

func TestALeaseIsRenewed(t *testing.T) {
	t.Parallel()
	play(t, false, func(m *machine) {
		m.Set.Lease = time.Minute
		m.assign(20*time.Second, vip1)
		m.assign(0, vip5)
		m.known = append(m.known, state.Alias{Prefix: host(vip5), Interface: "eth0"})
		time.Sleep(1500 * time.Millisecond)
		r := m.Renew(m.ctx, m.local(), m.known, both, Third)
		m.want(t, "it runs on", "1.5s: renew 172.16.0.1 for 1m0s")
		if diff := cmp.Diff([]time.Duration{61 * time.Second, 0}, m.until(r.Aliases)); diff != "" || len(r.Ran) != 1 || len(r.Lost) != 0 {
			t.Errorf("%+v; ends (-want +got):\n%s", r, diff)
		}
		if diff := cmp.Diff([]time.Duration{0, 0}, m.until(m.known)); diff != "" {
			t.Errorf("the aliases that were passed have changed: %s", diff)
		}

		m.fails = errors.New("ip: exit code 2")
		r = m.Renew(m.ctx, m.local(), r.Aliases, both, Third)
		m.want(t, "ip fails", "1.5s: renew 172.16.0.1 for 1m0s")
		if diff := cmp.Diff([]time.Duration{61 * time.Second, 0}, m.until(r.Aliases)); diff != "" || len(r.Ran) != 1 {
			t.Errorf("%+v; ends (-want +got):\n%s", r, diff)
		}
		if want := []string{"the lease of 172.16.0.1 could not be renewed: ip: exit code 2"}; !slices.Equal(m.notes, want) {
			t.Errorf("notes %q, want %q", m.notes, want)
		}
	})
}

// What becomes of an address that is held when a check begins.
func TestBegin(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	const second = time.Second
	renewed := func(ago time.Duration) func(*machine) {
		return func(m *machine) {
			m.Arbiter.Renew(m.ctx)
			time.Sleep(ago)
		}
	}
	for _, test := range []struct {
		name    string
		arrange func(*machine)
		shown   time.Duration // by the kernel
		did     []string
		lost    bool
		until   time.Duration // since the test began; 0: unknown
		notes   string
	}{
		{"less than a quarter of the ttl has passed", renewed(44 * second), 130 * second, nil, false, 0, ""},
		{"a quarter has, and the run is interrupted", func(m *machine) {
			renewed(45 * second)(m)
			m.ctx = canceled
		}, 129 * second, []string{"45s: renew 172.16.0.1 for 2m54s"}, false, 45*second + arbiter.Limit(ttl), ""},
		{"a quarter has", renewed(45 * second), 129 * second, []string{"45s: renew 172.16.0.1 for 2m54s"}, false, 45*second + arbiter.Limit(ttl), ""},
		{"just renewed, but without a lifetime", renewed(9 * second), 0, []string{"9s: renew 172.16.0.1 for 2m54s"}, false, 9*second + arbiter.Limit(ttl), ""},
		{"just renewed, but for a day", renewed(9 * second), 24 * time.Hour, []string{"9s: renew 172.16.0.1 for 2m54s"}, false, 9*second + arbiter.Limit(ttl), ""},
		{
			"another machine has the key",
			func(m *machine) { m.put("two", "two"); time.Sleep(7300 * time.Millisecond) }, 99 * second,
			[]string{"7.3s: lock, exclusive true", "7.3s: lower 172.16.0.1 on [eth0]", "unlock"},
			true, 7 * second, "",
		},
		{
			"another machine has the key, and ip fails",
			func(m *machine) { m.put("two", "two"); m.fails = errors.New("ip: exit code 2") }, 99 * second,
			[]string{"0s: lock, exclusive true", "0s: lower 172.16.0.1 on [eth0]", "unlock"},
			true, 0,
			"the lease of 172.16.0.1 could not be renewed: ip: exit code 2",
		},
		{
			"another machine has the key, and the switch lock is taken",
			func(m *machine) { m.put("two", "two"); m.locked = errors.New("act.lock is locked") }, 99 * second,
			[]string{"0s: lock, exclusive true"},
			true, 0, "the lease of 172.16.0.1 could not be renewed: act.lock is locked",
		},
		{"no answer: it lives on", func(m *machine) { m.silent = true }, 99 * second, nil, false, 0, ""},
		{"no answer, and no lifetime", func(m *machine) { m.silent = true }, 0, []string{"0s: renew 172.16.0.1 for 2m54s"}, false, 0, ""},
		{"a dry run", func(m *machine) { m.DryRun = true }, 0, nil, false, 0, ""},
		{"a dry run, and another machine has the key", func(m *machine) { m.DryRun = true; m.put("two", "two") }, 0, nil, true, 0, ""},
		{
			"ip takes a second: what it set ends too late, until it was removed",
			func(m *machine) { m.slow = second }, 50 * second,
			[]string{
				"0s: renew 172.16.0.1 for 2m54s", "1s: renew 172.16.0.1 for 2m53s", "2s: renew 172.16.0.1 for 2m52s",
				"3s: lock, exclusive true", "3s: lower 172.16.0.1 on [eth0]", "unlock",
			},
			false, 3 * second, "",
		},
		{
			"ip fails, and the address has an end",
			func(m *machine) { m.fails = errors.New("ip: exit code 2") }, 50 * second,
			[]string{"0s: renew 172.16.0.1 for 2m54s"},
			false, 0, "the lease of 172.16.0.1 could not be renewed: ip: exit code 2",
		},
		{
			"ip fails, and the address has none",
			func(m *machine) { m.fails = errors.New("ip: exit code 2") }, 0,
			[]string{
				"0s: renew 172.16.0.1 for 2m54s", "0s: renew 172.16.0.1 for 2m54s", "0s: renew 172.16.0.1 for 2m54s",
				"0s: lock, exclusive true", "0s: lower 172.16.0.1 on [eth0]", "unlock",
			},
			false, 0, "the lease of 172.16.0.1 could not be renewed: ip: exit code 2",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, true, func(m *machine) {
				test.arrange(m)
				m.assign(test.shown, vip1)
				revision := m.Revision
				r := m.Begin(m.ctx, m.local(), m.known)
				m.want(t, "Begin", test.did...)
				if got := m.until(r.Aliases)[0]; got != test.until {
					t.Errorf("until %s, want %s", got, test.until)
				}
				if got := slices.Equal(r.Lost, []netip.Addr{vip1}); got != test.lost || !got && len(r.Lost) > 0 {
					t.Errorf("lost %v", r.Lost)
				}
				if got := strings.Join(m.notes, "\n"); got != test.notes {
					t.Errorf("notes %q, want %q", got, test.notes)
				}
				if m.DryRun && m.Revision != revision {
					t.Error("a dry run has changed the key")
				}
			})
		})
	}
}

// An address whose lifetime cannot be set stays only where the one that it has ends in
// time: after the ttl was decreased it may not.
func TestALifetimeThatCannotBeSet(t *testing.T) {
	t.Parallel()
	for shown, stays := range map[time.Duration]bool{time.Second: true, limit: true, limit + time.Second: false, time.Hour: false, 0: false} {
		play(t, true, func(m *machine) {
			m.assign(shown, vip1)
			m.unset = errors.New("ip: exit code 2")
			r := m.Begin(m.ctx, m.local(), m.known)
			if _, here := m.ends[vip1]; here != stays || (len(m.notes) > 0) != stays || len(r.Lost) > 0 {
				t.Errorf("it has %s: stays %t, want %t; notes %q, lost %v", shown, here, stays, m.notes, r.Lost)
			}
		})
	}
}

// What ip has set late ends late: where it then fails, the lifetime of before is over.
func TestALifetimeThatWasSetLateAndCannotBeSetAgain(t *testing.T) {
	t.Parallel()
	play(t, true, func(m *machine) {
		m.assign(50*time.Second, vip1)
		m.slow, m.unset, m.from = 8*time.Second, errors.New("ip: exit code 2"), time.Second
		m.Begin(m.ctx, m.local(), m.known)
		if end, here := m.ends[vip1]; here {
			t.Errorf("it ends %s after the renewal, where the key ends after %s", end.Sub(m.began), limit)
		}
	})
}

func TestBeginAsksNothingForNothing(t *testing.T) {
	t.Parallel()
	play(t, false, func(m *machine) { // leases are renewed later
		m.Set.Lease = time.Minute
		m.assign(20*time.Second, vip1)
		if r := m.Begin(m.ctx, m.local(), m.known); len(r.Aliases) != 1 || len(r.Lost) != 0 {
			t.Errorf("%+v", r)
		}
		m.want(t, "without an arbiter")
	})
	for _, dry := range []bool{false, true} {
		play(t, true, func(m *machine) {
			m.DryRun = dry
			if r := m.Begin(m.ctx, m.local(), m.known); len(r.Aliases) != 1 || len(r.Lost) != 0 || m.asked != 0 {
				t.Errorf("dry run %t: %+v, asked %d times", dry, r, m.asked)
			}
			m.want(t, "nothing is held")
		})
	}
}

func TestWhatWasJustAssignedEndsInTime(t *testing.T) {
	t.Parallel()
	const again = "172.16.0.1 was removed again: it has no lifetime that ends in time"
	for _, test := range []struct {
		name    string
		arrange func(*machine)
		did     []string
		want    string
	}{
		{"it does", func(m *machine) { m.assign(limit, vip1) }, nil, ""},
		{"it has no lifetime", func(m *machine) { m.assign(0, vip1) }, []string{"0s: renew 172.16.0.1 for 2m54s"}, ""},
		{"it has a longer one", func(m *machine) { m.assign(limit+time.Second, vip1) }, []string{"0s: renew 172.16.0.1 for 2m54s"}, ""},
		{"it has none, and the arbiter does not answer any more", func(m *machine) { m.assign(0, vip1); m.silent = true; m.Arbiter.Renew(m.ctx) }, []string{"0s: renew 172.16.0.1 for 2m54s"}, ""},
		{"the run was stopped since", func(m *machine) { time.Sleep(2 * time.Second); m.assign(limit, vip1) }, []string{"2s: renew 172.16.0.1 for 2m52s"}, ""},
		{"the kernel cannot be asked", func(m *machine) { m.assign(limit, vip1); m.hidden = errors.New("no buffer space") }, []string{"0s: renew 172.16.0.1 for 2m54s"}, ""},
		{"the key is another machine's", func(m *machine) { m.assign(0, vip1); m.put("two", "two"); m.Arbiter.Renew(m.ctx) }, []string{"0s: lower 172.16.0.1 on [eth0]"}, again},
		{"the time of the key is over", func(m *machine) { m.assign(0, vip1); time.Sleep(limit) }, []string{"2m54s: lower 172.16.0.1 on [eth0]"}, again},
		{"and ip fails", func(m *machine) { m.assign(0, vip1); time.Sleep(limit); m.fails = errors.New("ip: exit code 2") }, []string{"2m54s: lower 172.16.0.1 on [eth0]"}, "ip: exit code 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, true, func(m *machine) { // the caller has the switch lock
				l := m.local()
				m.Arbiter.Renew(m.ctx)
				test.arrange(m)
				text := ""
				ran, err := m.Limit(m.ctx, l, vip.Alias{Prefix: host(vip1), Interface: "eth0", Lease: limit})
				if err != nil {
					text = err.Error()
				}
				if text != test.want || len(ran) != len(test.did) {
					t.Errorf("error %q, want %q; %d commands", text, test.want, len(ran))
				}
				m.want(t, "Limit", test.did...)
			})
		})
	}
	play(t, false, func(m *machine) {
		m.assign(0, vip1)
		if ran, err := m.Limit(m.ctx, m.local(), vip.Alias{Prefix: host(vip1), Interface: "eth0"}); ran != nil || err != nil {
			t.Errorf("without an arbiter: %v, %v", ran, err)
		}
		m.want(t, "without an arbiter")
	})
}

func TestEndOfALifetime(t *testing.T) {
	t.Parallel()
	play(t, false, func(m *machine) {
		time.Sleep(1500 * time.Millisecond)
		if got := m.End(); !got.IsZero() {
			t.Errorf("without a lease: %s", got)
		}
		m.Set.Lease = time.Minute
		if got := m.End(); got.Sub(m.began) != 61*time.Second || got.Location() != time.UTC {
			t.Errorf("with a lease: %s", got)
		}
	})
	play(t, true, func(m *machine) {
		if got := m.End(); !got.IsZero() {
			t.Errorf("the key is not ours: %s", got)
		}
		m.Arbiter.Renew(m.ctx)
		time.Sleep(time.Minute)
		if got := m.End().Sub(m.began); got != arbiter.Limit(ttl) {
			t.Errorf("with an arbiter: after %s", got)
		}
	})
}

// What another machine takes meanwhile is removed at once, and told.
func TestWhatIsLostWhileSomethingTakesLong(t *testing.T) {
	t.Parallel()
	for name, while := range map[string]func(m *machine, work func()) (lost []netip.Addr){
		"a hook":  func(m *machine, work func()) []netip.Addr { return m.While(m.local(), m.known, work).Lost },
		"a probe": func(m *machine, work func()) []netip.Addr { return m.Probing(m.ctx, m.local(), work) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, true, func(m *machine) {
				m.assign(time.Minute, vip1)
				m.Arbiter.Renew(m.ctx)
				lost := while(m, func() {
					time.Sleep(10 * time.Second)
					m.put("two", "two")
					time.Sleep(5 * time.Minute)
				})
				if !slices.Equal(lost, []netip.Addr{vip1}) {
					t.Errorf("lost: %v", lost)
				}
				if want := "1m27s: lower 172.16.0.1 on [eth0]"; !slices.Contains(m.did, want) {
					t.Errorf("done: %q, want %s", m.did, want)
				}
			})
		})
	}
}

// A hook, a probe or a mail server may take longer than a lifetime.
func TestLifetimesAreRenewedWhileSomethingTakesLong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		arbitrated bool
		arrange    func(*machine)
		did        []string
		until      time.Duration
	}{
		{"a lease", false, func(*machine) {}, []string{
			"20s: renew 172.16.0.1 for 1m0s", "40s: renew 172.16.0.1 for 1m0s", "1m0s: renew 172.16.0.1 for 1m0s", "1m20s: renew 172.16.0.1 for 1m0s",
		}, 140 * time.Second},
		{"a dry run", false, func(m *machine) { m.DryRun = true }, nil, 0},
		{"none is set, but the address has one", false, func(m *machine) { m.Set.Lease = 0 }, nil, 0},
		{"it is not ours", false, func(m *machine) { m.known[0].Raised = false; m.assign(0, vip1) }, nil, 0},
		// A third of the ttl, at the next sixth of a lifetime.
		{"by the arbiter", true, func(m *machine) { m.Arbiter.Renew(m.ctx) }, []string{"1m27s: renew 172.16.0.1 for 2m54s"}, 87*time.Second + arbiter.Limit(ttl)},
		{"by the arbiter, which was not asked yet", true, func(*machine) {}, []string{"0s: renew 172.16.0.1 for 2m54s", "1m27s: renew 172.16.0.1 for 2m54s"}, 87*time.Second + arbiter.Limit(ttl)},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, test.arbitrated, func(m *machine) {
				m.Set.Lease = time.Minute
				m.assign(time.Minute, vip1)
				test.arrange(m)
				worked := false
				r := m.While(m.local(), m.known, func() {
					time.Sleep(90 * time.Second)
					worked = true
				})
				m.want(t, "While", test.did...)
				if got := m.until(r.Aliases)[0]; got != test.until || !worked || len(r.Lost) > 0 {
					t.Errorf("worked %t, until %s, want %s", worked, got, test.until)
				}
				time.Sleep(time.Hour)
				m.want(t, "afterwards")
			})
		})
	}
}

func TestTheArbiterIsAskedBesideAProbe(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		arbitrated, held bool
		asked            int
		changed          bool // the key
		did              []string
	}{
		{"without an arbiter", false, true, 0, false, nil},
		{"of a standby it is read", true, false, 1, false, nil},
		{"of a holder it is renewed", true, true, 1, true, []string{"0s: renew 172.16.0.1 for 2m54s"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, test.arbitrated, func(m *machine) {
				m.Set.Lease = 30 * time.Second
				if test.held {
					m.assign(time.Minute, vip1)
				}
				l, revision := m.local(), m.Revision
				lost := m.Probing(m.ctx, l, func() {
					synctest.Wait()
					m.mu.Lock()
					asked := m.asked
					m.mu.Unlock()
					if asked != test.asked {
						t.Errorf("asked %d times during the probe, want %d", asked, test.asked)
					}
					time.Sleep(20 * time.Second)
				})
				if len(lost) > 0 {
					t.Errorf("lost: %v", lost)
				}
				if changed := m.Revision != revision; changed != test.changed {
					t.Errorf("the key has changed: %t", changed)
				}
				m.want(t, "Probing", test.did...)
			})
		})
	}
}

func TestTheKeyIsFreedWhereNothingIsHeld(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name    string
		arrange func(*machine)
		free    bool
		notes   string
	}{
		{"nothing is here, and the run was interrupted", func(m *machine) { m.ctx = canceled }, true, ""},
		{"something has come here since", func(m *machine) { m.assign(0, vip5) }, false, ""},
		{"the kernel cannot be asked", func(m *machine) { m.hidden = errors.New("no buffer space") }, false, ""},
		{"a dry run", func(m *machine) { m.DryRun = true }, false, ""},
		{"the arbiter does not answer", func(m *machine) { m.silent = true }, false, "the arbiter's key was not freed, and keeps other machines out for 3m: no answer within 1.5s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, true, func(m *machine) {
				l := m.local()
				m.Arbiter.Renew(m.ctx)
				test.arrange(m)
				m.Free(m.ctx, l)
				if free := m.Holder == ""; free != test.free {
					t.Errorf("free: %t", free)
				}
				if got := strings.Join(m.notes, "\n"); got != test.notes {
					t.Errorf("notes %q, want %q", got, test.notes)
				}
			})
		})
	}
	play(t, true, func(m *machine) {
		m.assign(time.Minute, vip1)
		l := m.local()
		m.Arbiter.Renew(m.ctx)
		delete(m.ends, vip1)
		if m.Free(m.ctx, l); m.Holder != "one" {
			t.Errorf("what is held is freed: %q", m.Holder)
		}
	})
	play(t, true, func(m *machine) {
		m.put("two", "two")
		m.Free(m.ctx, m.local())
		if m.Holder != "two" || m.asked != 0 {
			t.Errorf("the key of %q was changed, or asked for %d times", m.Holder, m.asked)
		}
	})
	play(t, false, func(m *machine) { m.Free(m.ctx, m.local()) })
}
