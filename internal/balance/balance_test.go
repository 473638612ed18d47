package balance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/pool"
	"pingover/state"
	"pingover/vip"
)

// A pool in memory, in the time of testing/synctest: members that reply or not, a
// gateway, and a name server. State directories are real files.

var (
	a10     = netip.MustParseAddr("10.2.2.10")
	a11     = netip.MustParseAddr("10.2.2.11")
	a12     = netip.MustParseAddr("10.2.2.12")
	stray   = netip.MustParseAddr("10.2.2.99")
	gateway = netip.MustParseAddr("10.2.2.1")
	here    = netip.MustParseAddr("10.2.2.5")
)

type scene struct {
	t       *testing.T
	dns     *dns
	silent  map[netip.Addr]bool
	carrier atomic.Bool
	links   []vip.Address
	mailbox []state.Message
	notes   []string
	memory  *state.Memory
	set     config.Pool
	force   bool
}

func newScene(t *testing.T) *scene {
	s := &scene{
		t: t, silent: map[netip.Addr]bool{}, dns: &dns{published: []netip.Addr{a10, a11, a12}},
		links: []vip.Address{{Prefix: netip.PrefixFrom(here, 24)}},
		set: config.Pool{
			Name: "www", Record: "host1.zone.com.", Server: "192.0.2.53:53", Members: []netip.Addr{a10, a11, a12}, TTL: time.Minute, MinMembers: 1,
			Count: 2, Interval: time.Second, Timeout: time.Second, RetryWait: 5 * time.Second, Rise: 3, Witness: config.Witness{Auto: true},
			Mail: config.Mail{To: []string{"root"}, Via: config.Via{Scheme: "sendmail"}, Remind: 24 * time.Hour}, StateDir: t.TempDir(),
		},
	}
	s.carrier.Store(true)
	return s
}

// dns is a name server with one zone.
type dns struct {
	published []netip.Addr
	fails     error  // of everything
	refuses   error  // of updates
	before    func() // runs before an update is looked at
	lost      error  // the update is made, and this is returned
	updates   []string
}

func (d *dns) set(name string) pool.Set {
	return pool.Set{Name: name}.With(nil, d.published, time.Minute)
}

func (d *dns) Read(_ context.Context, name string) (pool.Set, error) { return d.set(name), d.fails }

func (d *dns) FindZone(context.Context, string) (pool.Zone, error) {
	return pool.Zone{Name: "zone.com."}, d.fails
}

func (d *dns) TestUpdate(context.Context, string, pool.Set, ...netip.Addr) error {
	return cmpOr(d.fails, d.refuses)
}

func (d *dns) Publish(_ context.Context, c pool.Change) (pool.Set, error) {
	if d.before != nil {
		d.before()
	}
	if err := cmpOr(d.fails, d.refuses); err != nil {
		return pool.Set{}, err
	}
	if !slices.Equal(d.set(c.Before.Name).Addrs(), c.Before.Addrs()) {
		return pool.Set{}, &pool.Error{Problem: pool.Changed, Text: "another writer was faster"}
	}
	d.published = c.After.Addrs()
	d.updates = append(d.updates, fmt.Sprint(d.published))
	return d.set(c.Before.Name), d.lost
}

func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (s *scene) env() Env {
	return Env{
		Snapshot: func() (*vip.Snapshot, error) {
			return &vip.Snapshot{Links: []vip.Link{{Index: 2, Name: "eth0", Up: true, Carrier: s.carrier.Load(), ARP: true, Addresses: s.links}}}, nil
		},
		Route: func(netip.Addr, netip.Addr) (vip.Route, error) {
			return vip.Route{Interface: "eth0", OnLink: true}, nil
		},
		Gateway: func(string, bool, netip.Addr) (netip.Addr, bool, error) { return gateway, true, nil },
		Ping: func(ctx context.Context, p check.Pings) check.Round {
			if s.silent[p.Address] || !s.carrier.Load() {
				select {
				case <-time.After(time.Duration(p.Count-1)*p.Interval + p.Timeout):
				case <-ctx.Done():
					return check.Round{Err: ctx.Err()}
				}
				return check.Round{Verdict: check.Down, Sent: p.Count}
			}
			return check.Round{Verdict: check.Up, Sent: 1, Received: 1, RTT: time.Millisecond}
		},
		MayPing:    func() error { return nil },
		NameServer: func(config.Pool) (NameServer, error) { return s.dns, nil },
		Trusted:    func([]string) error { return nil },
		Locks:      new(state.Locks),
		Memory:     s.memory,
		Deliver: func(_ context.Context, m []state.Message) ([]state.Message, error) {
			s.mailbox = append(s.mailbox, m...)
			return nil, nil
		},
	}
}

func (s *scene) options() Options {
	return Options{Origin: "/etc/pingover.yaml", Force: s.force, OnEvent: func(e any) {
		if n, ok := e.(run.Note); ok && n.Warning {
			s.notes = append(s.notes, n.Text)
		}
	}}
}

// check makes a check in a minute of its own.
func (s *scene) check() Report {
	s.t.Helper()
	time.Sleep(time.Minute)
	r, err := CheckIn(s.t.Context(), s.env(), s.set, s.options())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// want compares the end of a check, and what is published.
func (s *scene) want(r Report, outcome state.Outcome, reason string, published ...netip.Addr) {
	s.t.Helper()
	if r.Outcome != outcome || r.Reason != reason || r.Code != outcome.Code() {
		s.t.Errorf("%s (%d): %s\nwant %s: %s", r.Outcome, r.Code, r.Reason, outcome, reason)
	}
	if diff := cmp.Diff(fmt.Sprint(published), fmt.Sprint(s.dns.published)); diff != "" {
		s.t.Errorf("published (-want +got):\n%s", diff)
	}
}

// mailed takes the subjects of what was mailed since.
func (s *scene) mailed(want ...string) {
	s.t.Helper()
	var got []string
	for _, m := range s.mailbox {
		got = append(got, strings.TrimPrefix(m.Subject, "[pingover] "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("mail (-want +got):\n%s", diff)
	}
	s.mailbox = nil
}

func TestMemberThatIsDownLeavesAndReturnsAfterRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.want(s.check(), state.OK, "all members of host1.zone.com are up", a10, a11, a12)
		s.silent[a11] = true
		r := s.check()
		s.want(r, state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a12)
		s.mailed("www: 10.2.2.11 is down! removed from host1.zone.com")
		if r.Update == nil || !strings.Contains(r.Update.Script, "update delete host1.zone.com. A 10.2.2.11") ||
			!strings.Contains(r.Update.Inverse, "update add host1.zone.com. 60 A 10.2.2.11") || !r.Changed {
			t.Errorf("the report: %+v", r)
		}
		began := time.Now()
		s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		if took := time.Since(began) - time.Minute; took > 3*time.Second {
			t.Errorf("a check with a member that is out took %s: one round is enough", took)
		}
		s.mailed()
		s.silent[a11] = false
		s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		s.want(s.check(), state.Restored, "10.2.2.11 was up in 3 checks in a row: 10.2.2.11 returns to host1.zone.com", a10, a11, a12)
		s.mailed("www: 10.2.2.11 is back in host1.zone.com")
		s.want(s.check(), state.OK, "all members of host1.zone.com are up", a10, a11, a12)
		s.mailed()
		entries, err := state.Dir(s.set.StateDir).History("www", nil)
		var got []string
		for _, e := range entries {
			got = append(got, string(e.Outcome)+" "+e.Evidence.Update.Script[:6])
		}
		if diff := cmp.Diff([]string{"removed server", "restored server"}, got); diff != "" || err != nil {
			t.Errorf("history: %v (-want +got)\n%s", err, diff)
		}
	})
}

func TestAllMembersDownLeavesTheSetAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		for _, a := range s.set.Members {
			s.silent[a] = true
		}
		r := s.check()
		s.want(r, state.Blocked, "10.2.2.10, 10.2.2.11, 10.2.2.12 are down, but stay in host1.zone.com: min-members is 1 for each family", a10, a11, a12)
		s.check()
		s.mailed("www: PROBLEM: host1.zone.com not changed: too few members would be left")
		for _, a := range s.set.Members {
			s.silent[a] = false
		}
		for range 3 {
			s.check()
		}
		s.mailed("www: RESOLVED: changes of host1.zone.com are no longer blocked")
	})
}

func TestNothingLeavesWhenThisMachineIsIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		for _, a := range append([]netip.Addr{gateway}, s.set.Members...) {
			s.silent[a] = true
		}
		r := s.check()
		s.want(r, state.Blocked, "10.2.2.10, 10.2.2.11, 10.2.2.12 are down, but neither a witness nor another member replies: it may be this machine's network", a10, a11, a12)
		if len(r.Witnesses) != 1 || r.Witnesses[0].Answers {
			t.Errorf("witnesses: %+v", r.Witnesses)
		}
		s.mailed("www: PROBLEM: host1.zone.com not changed: no witness and no other member replies")
	})
}

func TestMemberThatIsThisMachineProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.links = append(s.links, vip.Address{Prefix: netip.PrefixFrom(a10, 24)})
		s.check()
		s.silent[a11], s.silent[a12], s.silent[gateway] = true, true, true
		r := s.check()
		s.want(r, state.Blocked, "10.2.2.11, 10.2.2.12 are down, but neither a witness nor another member replies: it may be this machine's network", a10, a11, a12)
		if diff := cmp.Diff([]string{"member 10.2.2.10 is an address of this machine: its replies prove nothing of the network"}, s.notes); diff != "" {
			t.Errorf("printed to cron (-want +got):\n%s", diff)
		}
	})
}

func TestLostCarrierIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		time.AfterFunc(time.Minute+time.Second, func() { s.carrier.Store(false) }) // in the middle of round one
		s.silent[a11] = true
		s.want(s.check(), state.Unknown, `10.2.2.11 could not be asked: interface "eth0" has no carrier: is the cable in?`, a10, a11, a12)
		s.want(s.check(), state.Unknown, `10.2.2.10 could not be asked: interface "eth0" has no carrier: is the cable in?`, a10, a11, a12)
		s.want(s.check(), state.Unknown, `10.2.2.10 could not be asked: interface "eth0" has no carrier: is the cable in?`, a10, a11, a12)
		s.mailed("www: PROBLEM: " + proc.Hostname() + " cannot check host1.zone.com")
	})
}

func TestSetThatCannotBeReadIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11], s.dns.fails = true, &pool.Error{Problem: pool.Silent, Text: "name server 192.0.2.53:53: no answer", Hint: "look at named"}
		r := s.check()
		s.want(r, state.Unknown, "name server 192.0.2.53:53: no answer", a10, a11, a12)
		if r.Hint != "look at named" || r.Members[1].Verdict != "down" || len(r.Published) != 3 {
			t.Errorf("%+v", r)
		}
	})
}

func TestRefusedUpdateIsMailedOnceAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11], s.dns.refuses = true, &pool.Error{Problem: pool.Refused, Text: "name server refuses the update", Hint: "grant the right"}
		for range 3 {
			s.want(s.check(), state.UpdateFailed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com; failed: name server refuses the update", a10, a11, a12)
		}
		s.mailed("www: PROBLEM: DNS update failed: host1.zone.com is as it was")
		s.dns.refuses = nil
		s.want(s.check(), state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a12)
		s.mailed("www: 10.2.2.11 is down! removed from host1.zone.com")
	})
}

// Another checker takes out a10 right before this one takes out a11: it reads and
// decides again.
func TestWriterThatWasFasterIsSeenInTheSameRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11] = true
		s.dns.before = func() {
			if len(s.dns.published) == 3 {
				s.dns.published = []netip.Addr{a11, a12, stray}
			}
		}
		r := s.check()
		s.want(r, state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a12, stray)
		if diff := cmp.Diff("[10.2.2.99]", fmt.Sprint(r.Foreign)); diff != "" {
			t.Errorf("foreign (-want +got):\n%s", diff)
		}
		by := []pool.By{}
		for _, m := range r.Members {
			by = append(by, m.By)
		}
		if diff := cmp.Diff([]pool.By{pool.Another, pool.Us, pool.Unknown}, by); diff != "" {
			t.Errorf("who changed it (-want +got):\n%s", diff)
		}
	})
}

func TestWriterThatIsAlwaysFasterIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11] = true
		tries := 0
		s.dns.before = func() {
			tries++
			s.dns.published = []netip.Addr{a10, a11, a12, netip.AddrFrom4([4]byte{10, 2, 3, byte(tries)})}
		}
		r := s.check()
		if r.Outcome != state.UpdateFailed || tries != pool.Tries || !strings.HasSuffix(r.Reason, "; failed: another writer was faster") {
			t.Errorf("after %d tries %s: %s", tries, r.Outcome, r.Reason)
		}
	})
}

// A run that is killed after its update, before the result is written: the next
// one finds in the set that it was made, reports it, and does not count it as
// somebody else's.
func TestKilledAfterTheUpdateIsReportedByTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11] = true
		var atUpdate []byte
		path := filepath.Join(s.set.StateDir, "www.json")
		s.dns.before = func() { // what is on disk at the moment of the kill
			var err error
			if atUpdate, err = os.ReadFile(path); err != nil {
				t.Error(err)
			}
		}
		s.check()
		s.mailbox, s.dns.before = nil, nil
		if err := os.WriteFile(path, atUpdate, 0o644); err != nil {
			t.Fatal(err)
		}
		r := s.check()
		s.want(r, state.Removed, "an interrupted update is finished: 10.2.2.11 leaves host1.zone.com", a10, a12)
		s.mailed("www: 10.2.2.11 removed from host1.zone.com")
		if r.Members[1].By != pool.Us {
			t.Errorf("out by %q", r.Members[1].By)
		}
		s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		s.mailed()
	})
}

// The set cannot be read in the run after the kill: the open update is not
// forgotten.
func TestKilledAfterTheUpdateAndThenBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11] = true
		s.dns.lost = &pool.Error{Problem: pool.Ineffective, Text: "not published"}
		s.dns.fails = nil
		var atUpdate []byte
		path := filepath.Join(s.set.StateDir, "www.json")
		s.dns.before = func() { atUpdate, _ = os.ReadFile(path) }
		s.check()
		s.mailbox, s.dns.before, s.dns.lost = nil, nil, nil
		if err := os.WriteFile(path, atUpdate, 0o644); err != nil {
			t.Fatal(err)
		}
		s.dns.fails = errors.New("no answer")
		s.want(s.check(), state.Unknown, "no answer", a10, a12)
		s.dns.fails = nil
		s.want(s.check(), state.Removed, "an interrupted update is finished: 10.2.2.11 leaves host1.zone.com", a10, a12)
	})
}

func TestPauseInTheMiddleOfACheckBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.silent[a11] = true
		time.AfterFunc(time.Minute+6*time.Second, func() {
			if err := state.Dir(s.set.StateDir).Pause("www", time.Now().Add(90*time.Second)); err != nil {
				t.Error(err)
			}
		})
		r := s.check()
		s.want(r, state.Blocked, "paused, although 10.2.2.11 is down", a10, a11, a12)
		if !r.Paused {
			t.Error("the report does not say that it is paused")
		}
		s.want(s.check(), state.Blocked, "paused, although 10.2.2.11 is down", a10, a11, a12)
		s.want(s.check(), state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a12)
	})
}

func TestDryRunWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.silent[a11] = true
		var updates []Updated
		o := Options{DryRun: true, OnEvent: func(e any) {
			if u, ok := e.(Updated); ok {
				updates = append(updates, u)
			}
		}}
		r, err := CheckIn(t.Context(), s.env(), s.set, o)
		if err != nil {
			t.Fatal(err)
		}
		s.want(r, state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a11, a12)
		want := `server 192.0.2.53 53
zone zone.com.
prereq yxrrset host1.zone.com. A 10.2.2.10
prereq yxrrset host1.zone.com. A 10.2.2.11
prereq yxrrset host1.zone.com. A 10.2.2.12
prereq nxrrset host1.zone.com. AAAA
update delete host1.zone.com. A 10.2.2.11
send
`
		if len(updates) != 1 || !updates[0].DryRun || updates[0].Update.Script != want || r.Update.Script != want {
			t.Errorf("%+v\nwant %s", updates, want)
		}
		if files, _ := os.ReadDir(s.set.StateDir); len(files) > 0 || len(s.mailbox) > 0 {
			t.Errorf("it wrote %v, mailed %v", files, s.mailbox)
		}
	})
}

func TestRecordThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.memory = new(state.Memory)
		s.check()
		s.silent[a11] = true
		temp := filepath.Join(s.set.StateDir, "www.json.tmp") // in place of the file that is renamed
		if err := os.MkdirAll(filepath.Join(temp, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		r := s.check()
		s.want(r, state.StateFailed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a12)
		s.mailed("www: 10.2.2.11 is down! removed from host1.zone.com")
		s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		s.mailed()
	})
}

func TestDrainAndUndrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		drain := func(until time.Time, members ...netip.Addr) Report {
			t.Helper()
			time.Sleep(time.Second)
			r, err := DrainIn(t.Context(), s.env(), s.set, members, until, s.options())
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		s.want(drain(time.Time{}, a10, a11, a12), state.Blocked, "not drained: 10.2.2.10, 10.2.2.11, 10.2.2.12 are the last of their family in host1.zone.com", a10, a11, a12)
		s.want(drain(time.Time{}, stray), state.Blocked, "not drained: 10.2.2.99 is no member of this pool", a10, a11, a12)
		r := drain(time.Now().Add(10*time.Minute), a11)
		s.want(r, state.Removed, "drained manually: 10.2.2.11 leaves host1.zone.com", a10, a12)
		if m := r.Members[1]; !m.Drained || m.DrainedUntil == nil || m.Published {
			t.Errorf("%+v", m)
		}
		s.mailed("www: 10.2.2.11 removed from host1.zone.com")
		s.want(drain(time.Time{}, a11), state.Reduced, "10.2.2.11 is already out of host1.zone.com", a10, a12)
		for range 12 { // until undrain now: the time of the first drain is over
			s.want(s.check(), state.Reduced, "10.2.2.11 is out of host1.zone.com", a10, a12)
		}
		r, err := UndrainIn(t.Context(), s.env(), s.set, []netip.Addr{a11}, s.options())
		if err != nil {
			t.Fatal(err)
		}
		s.want(r, state.OK, "no longer drained: 10.2.2.11; back after rise = 3 good checks in a row", a10, a12)
		s.check()
		s.check()
		s.want(s.check(), state.Restored, "10.2.2.11 was up in 3 checks in a row: 10.2.2.11 returns to host1.zone.com", a10, a11, a12)
	})
}

func TestNameServerDownWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.dns.fails = errors.New("no answer")
		r, err := DrainIn(t.Context(), s.env(), s.set, []netip.Addr{a11}, time.Time{}, s.options())
		if err != nil {
			t.Fatal(err)
		}
		s.want(r, state.UpdateFailed, "not drained: no answer", a10, a11, a12)
		if r.Members[1].Drained {
			t.Error("it is drained all the same")
		}
	})
}

func TestAddressThatIsNoMemberAnyMoreIsAnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		s.set.Members = []netip.Addr{a10, a11}
		s.want(s.check(), state.OK, "all members of host1.zone.com are up", a10, a11, a12)
		s.check()
		s.mailed("www: PROBLEM: records without a member in host1.zone.com")
		s.dns.published = []netip.Addr{a10, a11}
		s.check()
		s.mailed("www: RESOLVED: host1.zone.com has only records of members, or of others")
	})
}

func TestKeyThatCannotBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		env := s.env()
		env.NameServer = func(config.Pool) (NameServer, error) {
			return pool.Server{}, &pool.Error{Problem: pool.KeyFile, Text: "/etc/www.key: others can read it", Hint: "chmod 600 /etc/www.key"}
		}
		_, err := CheckIn(t.Context(), env, s.set, s.options())
		refused, ok := errors.AsType[*run.Error](err)
		if !ok || refused.Code != 78 || refused.Text != "key-file: /etc/www.key: others can read it" || refused.Hint != "chmod 600 /etc/www.key" {
			t.Errorf("of a new pool: %v", err)
		}
		s.check()
		time.Sleep(time.Minute)
		r, err := CheckIn(t.Context(), env, s.set, s.options())
		if err != nil {
			t.Fatal(err)
		}
		s.want(r, state.Unknown, "/etc/www.key: others can read it", a10, a11, a12)
	})
}

func TestNameOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		cluster := &state.Record{Head: state.Head{Version: state.Version, Name: "www"}, Host: "172.16.0.2", Role: state.Standby}
		if err := state.Dir(s.set.StateDir).Save(cluster, true); err != nil {
			t.Fatal(err)
		}
		_, err := CheckIn(t.Context(), s.env(), s.set, s.options())
		want := filepath.Join(s.set.StateDir, "www.json") + " is the record of a cluster, not of a pool: clusters and pools share one name space"
		refused, ok := errors.AsType[*run.Error](err)
		if !ok || refused.Code != 78 || refused.Text != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	})
}

// With services a member is up when all of them are good, whatever its pings say.
func TestServiceThatDiesOnAHostThatPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.set.Services = []check.Service{{Port: 80}, {Port: 443}}
		health := map[netip.Addr]check.ServiceResult{}
		attempts := 0
		env := s.env()
		env.MayPing = func() error { return errors.New("no right to ping, and none is needed") }
		env.Service = func(_ context.Context, service check.Service, a check.Attempt) check.ServiceResult {
			if r, ok := health[a.Address]; ok && service.Port == 443 {
				attempts++
				return r
			}
			return check.ServiceResult{Health: check.Good}
		}
		run := func() Report {
			t.Helper()
			time.Sleep(time.Minute)
			r, err := CheckIn(t.Context(), env, s.set, s.options())
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		s.want(run(), state.OK, "all members of host1.zone.com are up", a10, a11, a12)
		health[a11] = check.ServiceResult{Health: check.HealthUnknown, Reason: "a certificate", Certificate: true}
		s.want(run(), state.Unknown, "10.2.2.11 could not be asked: tcp:443: a certificate", a10, a11, a12)
		s.mailed("www: PROBLEM: the certificate of service tcp:443 does not verify")
		health[a11], attempts = check.ServiceResult{Health: check.Bad, Reason: "refused"}, 0
		r := run()
		s.want(r, state.Removed, "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", a10, a12)
		if attempts != 4 || r.Members[1].Reason != "tcp:443: refused" {
			t.Errorf("%d attempts in two rounds, want 4; %+v", attempts, r.Members[1])
		}
		s.mailed("www: 10.2.2.11 is down! removed from host1.zone.com")
		delete(health, a11)
		run()
		run()
		s.want(run(), state.Restored, "10.2.2.11 was up in 3 checks in a row: 10.2.2.11 returns to host1.zone.com", a10, a11, a12)
	})
}

func TestServiceOfThisMachineAsAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.set.Services = []check.Service{{Port: 80}}
		s.links = append(s.links, vip.Address{Prefix: netip.PrefixFrom(a10, 24)})
		env := s.env()
		health := check.Good
		env.Service = func(_ context.Context, _ check.Service, a check.Attempt) check.ServiceResult {
			if a.Address == a10 {
				return check.ServiceResult{Health: health, Reason: "refused"}
			}
			return check.ServiceResult{Health: check.Good}
		}
		for _, want := range []state.Outcome{state.OK, state.Removed} {
			time.Sleep(time.Minute)
			r, err := CheckIn(t.Context(), env, s.set, s.options())
			if err != nil {
				t.Fatal(err)
			}
			if r.Outcome != want {
				t.Errorf("%s: %s; want %s", r.Outcome, r.Reason, want)
			}
			health = check.Bad
		}
	})
}

// A pool that the file no longer has: its records in DNS are an alert, and nothing
// is changed.
func TestPoolThatHasLeftTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.check()
		time.Sleep(time.Minute)
		for _, a := range s.set.Members {
			s.silent[a] = true
		}
		o := s.options()
		o.Unconfigured = true
		r, err := CheckIn(t.Context(), s.env(), s.set, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Outcome != state.OK || len(s.dns.published) != 3 || len(r.Alerts) != 1 {
			t.Errorf("%s: %s, alerts %+v", r.Outcome, r.Reason, r.Alerts)
		}
		s.mailed("www: PROBLEM: records without a member in host1.zone.com")
	})
}

// Two checkers: one never reaches a11, the other always does. The member that one
// has taken out comes back by the other after 10 x rise, not at once, and nothing
// else changes.
func TestTwoCheckersThatSeeDifferentlyDoNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, other := newScene(t), newScene(t)
		other.dns = one.dns
		one.silent[a11] = true
		for range 100 {
			one.check()
			other.check()
			if n := len(one.dns.published); n < 2 {
				t.Fatalf("%d members are published", n)
			}
		}
		// It leaves once, and then at each return, every 30 checks of the other.
		if n := len(one.dns.updates); n > 8 {
			t.Errorf("%d updates in 100 checks of each:\n%s", n, strings.Join(one.dns.updates, "\n"))
		}
	})
}

func TestMixedPoolIsJudgedByFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		six := netip.MustParseAddr("2001:db8::10")
		s := newScene(t)
		s.set.Members, s.dns.published = []netip.Addr{a10, a11, six}, []netip.Addr{a10, a11, six}
		s.check()
		s.silent[a11], s.silent[six] = true, true
		r := s.check()
		if r.Outcome != state.Removed || fmt.Sprint(s.dns.published) != "[10.2.2.10 2001:db8::10]" {
			t.Errorf("%s: %s; published %v", r.Outcome, r.Reason, s.dns.published)
		}
		s.mailed("www: 10.2.2.11 is down! removed from host1.zone.com")
		if !strings.Contains(r.Alerts[0].Reason, "2001:db8::10 is down, but stays in host1.zone.com") {
			t.Errorf("alerts: %+v", r.Alerts)
		}
		s.check()
		s.mailed() // the alert of the last check
	})
}
