package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
	"pingover/vip"
)

// Two standbys of one primary: Standby, whose MAC is the lower one, and
// Second. Clocks that agree and cron make them check in the same second,
// every minute.

// tookOver4 is the subject about a takeover by the host.
func tookOver4(host string) string {
	return "[pingover] web: 172.16.0.2 is down! " + host + " took over 172.16.0.1"
}

func TestTwoStandbysFindThePrimaryDownInTheSameMoment(t *testing.T) {
	labs, rounds := 2, 2
	if lab.LongRun() {
		labs, rounds = 10, 5
	}
	ends := map[string]int{}
	var longest time.Duration
	var mu sync.Mutex
	together(t, labs, func(t *testing.T) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		for n := range rounds {
			first, second := s.both(time.Duration(-n%2), withVIP, withVIP) // either is started first
			winner := s.wantOneTakeover(first, second)
			s.wantOn(vip4, winner)
			s.wantTakeoverMails(n + 1)
			mu.Lock()
			ends[fmt.Sprintf("%s %s, %s %s", s.Standby.Name(), first.Outcome, s.Second.Name(), second.Outcome)]++
			longest = max(longest, first.took, second.took)
			mu.Unlock()
			if n < rounds-1 {
				s.forget()
			}
		}
		s.wantAtRest(vip4, withVIP...)
	})
	t.Logf("outcomes %v, the longest run took %s", ends, longest)
	// The probes decide it before anything is added; that both add it and
	// one releases it again is for the rare moment that they do not cover.
	both := 0
	for end, n := range ends {
		if strings.Contains(end, string(state.Blocked)) {
			both += n
		}
	}
	if both > labs*rounds/10 {
		t.Errorf("%d times of %d both had added it", both, labs*rounds)
	}
}

func TestTwoStandbysOneAfterTheOther(t *testing.T) {
	// Rounds so long that the one that waits for the other's probes does so while the
	// other is still in its second round. (At -4 s both would add it in one moment.)
	slow := set(withVIP, "--count", "5", "--interval", "900ms", "--announce", "1")
	var cases []pairCase
	with := func(args []string, skews ...time.Duration) {
		for _, skew := range skews {
			cases = append(cases, pairCase{name: fmt.Sprintf("%s, rounds of %s pings", skew, args[slices.Index(args, "--count")+1]), args: args, vips: []netip.Addr{vip4}, skew: skew})
		}
	}
	const ms = time.Millisecond
	with(withVIP, 50*ms, 150*ms, 300*ms, 500*ms, 700*ms, 1100*ms, -50*ms, -150*ms, -300*ms, -500*ms, -700*ms, -1100*ms)
	with(slow, 1000*ms, 3000*ms, 5000*ms, -1000*ms, -2000*ms, -2900*ms, -3000*ms, -3100*ms, -4500*ms, -7000*ms)
	checkPairs(t, cases)
}

func TestTwoStandbysInTheSameMoment(t *testing.T) {
	only6 := set(hasty, "--host", "2001:db8::2", "--vip", "2001:db8::1", "--witness", "2001:db8::254")
	two := append(slices.Clone(withVIP), "--vip", "172.16.0.5")
	mixed := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	vip5 := netip.MustParseAddr("172.16.0.5")
	var cases []pairCase
	for _, skew := range []time.Duration{0, 100 * time.Millisecond, -100 * time.Millisecond, 400 * time.Millisecond, -400 * time.Millisecond} {
		with := func(what string, args []string, vips ...netip.Addr) {
			cases = append(cases, pairCase{name: fmt.Sprintf("%s, %s", what, skew), args: args, vips: vips, skew: skew})
		}
		with("IPv6", only6, vip6)
		with("two virtual IPs", two, vip4, vip5)
		with("IPv4 and IPv6", mixed, vip4, vip6)
		with("no announcements", set(withVIP, "--announce", "0"), vip4)
	}
	checkPairs(t, cases)
}

// pairCase is one takeover by two standbys, of which Second begins so much
// later; negative: earlier.
type pairCase struct {
	name string
	args []string
	vips []netip.Addr // all on one machine at the end
	skew time.Duration
}

func checkPairs(t *testing.T, cases []pairCase) {
	t.Helper()
	share(t, some(cases, 5), func(c pairCase) string { return c.name }, func(t *testing.T, c pairCase) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		first, second := s.both(c.skew, c.args, c.args)
		winner := s.wantOneTakeover(first, second)
		s.wantTakeoverMails(1)
		for _, a := range c.vips {
			s.wantOn(a, winner)
		}
		s.wantAtRest(c.vips[0], set(c.args, "--count", "3", "--interval", "150ms")...)
		for _, a := range c.vips {
			s.wantOn(a, winner)
		}
	})
}

// Two standbys that do not ask whether the address is in use both take it in the
// same moment, and keep it. Only one that comes later finds that out, by ping.
func TestWithoutDuplicateCheckTwoStandbysBothTakeOver(t *testing.T) {
	s := newScene(t)
	// One ping, and nothing announced: no skew lets one hear of the other.
	blind := append(set(withVIP, "--count", "1", "--timeout", "1500ms", "--announce", "0"), "--duplicate-check=false")
	s.must(s.Primary.PowerOff())
	first, second := s.both(0, blind, blind)
	first.want(t, state.TookOver)
	second.want(t, state.TookOver)
	s.wantOn(vip4, s.Standby, s.Second)
	s.check(s.Standby, blind...).want(t, state.Holding)
	s.check(s.Second, blind...).want(t, state.Holding)

	s.forget()
	s.check(s.Second, blind...).want(t, state.TookOver)
	s.check(s.Standby, blind...).want(t, state.Blocked).because(t, "172.16.0.2 does not reply, but 172.16.0.1 is in use")
	s.wantOn(vip4, s.Second)
}

// A standby that only observes has precedence by its MAC, but will never take the
// address: it must not be waited for.
func TestStandbyThatTakesNothingDelaysNoOther(t *testing.T) {
	type observer struct {
		name    string
		args    []string
		prepare func(*scene)
		want    state.Outcome
	}
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	observers := []observer{
		{name: "dry run", args: append(slices.Clone(both), "--dry-run"), want: state.TookOver},
		{name: "no witness replies", args: set(both, "--witness", "172.16.0.77"), want: state.Blocked},
		{
			name: "just booted", args: set(both, "--boot-wait", "3m"), want: state.Blocked,
			prepare: func(s *scene) { s.must(s.Standby.SetUptime(time.Minute)) },
		},
		{
			name: "paused", args: both, want: state.Blocked,
			prepare: func(s *scene) { s.pause(s.Standby) },
		},
	}
	share(t, observers, func(l observer) string { return l.name }, func(t *testing.T, l observer) {
		s := side(t)
		if l.prepare != nil {
			l.prepare(s)
		}
		s.must(s.Primary.PowerOff())
		heard := s.sniff(s.Gateway)
		for range 2 {
			looks := s.start(s.Standby, l.args...)
			run := s.follow(s.Second, both...)
			e := run.wait().want(t, state.TookOver)
			if looked := looks(); looked.Outcome != state.Elsewhere && looked.Outcome != state.Blocked { // it may have asked too late
				looked.want(t, l.want)
			}
			if strings.Contains(e.stderr, "has precedence") {
				t.Errorf("the other waited:\n%s", e.stderr)
			}
			s.wantOn(vip4, s.Second)
			s.wantOn(vip6, s.Second)
			s.forget(vip6)
		}
		for _, f := range heard.all() {
			if f.what == "request" && f.address.IsUnspecified() && f.target == vip4 && f.mac == s.Standby.MAC().String() {
				t.Errorf("it probed, as a machine that takes the address does: %v", f)
			}
		}
	})
}

// A lower MAC asks for the address, and does not take it: it may have been
// blocked, or have died. It is waited for, but not forever.
func TestLowerMACThatProbesAndTakesNothing(t *testing.T) {
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	type prober struct {
		name  string
		host  func(*scene) *lab.Host
		waits bool
	}
	share(t, []prober{
		{"lower MAC", func(s *scene) *lab.Host { return s.Client }, true},
		{"higher MAC", func(s *scene) *lab.Host { return s.Gateway }, false},
	}, func(c prober) string { return c.name }, func(t *testing.T, c prober) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		stop := s.probe(c.host(s), 50*time.Millisecond, vip4, vip6)
		run := s.follow(s.Standby, both...)
		e := run.wait().want(t, state.TookOver)
		stop()
		if waited := strings.Contains(e.stderr, "waiting 3s: 02:00:00:00:00:01 is about to take over as well, and has precedence"); waited != c.waits {
			t.Errorf("waited: %v, want %v\n%s", waited, c.waits, e.stderr)
		}
		if c.waits && e.took < 3*time.Second {
			t.Errorf("it took %s: it did not wait 3s", e.took)
		}
		s.wantOn(vip4, s.Standby)
		s.wantOn(vip6, s.Standby)
		s.wantTakeoverMails(1)
	})
}

// The primary probes for its own address when it boots. It has precedence even
// when its MAC is the higher one: here the standby is Client, the lowest.
func TestPrimaryThatProbesHasPrecedence(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (*scene, *running) {
		s := newScene(t)
		s.check(s.Client, withVIP...).want(t, state.OK)
		// It boots: its network is up, its addresses are not there yet.
		s.run(s.Primary, "ip", "-4", "addr", "flush", "dev", "eth0")
		s.t.Cleanup(s.probe(s.Primary, 50*time.Millisecond, vip4))
		run := s.follow(s.Client, withVIP...)
		run.until("waiting 3s: 02:00:00:00:00:02 is about to take over as well, and has precedence")
		return s, run
	}
	t.Run("and takes its address", func(t *testing.T) {
		s, run := begin(t)
		s.run(s.Primary, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		run.wait().want(t, state.Blocked).because(t, "172.16.0.2 does not reply, but 172.16.0.1 is in use")
		s.wantOn(vip4, s.Primary)
		s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.1 is in use (by "+s.Primary.MAC().String()+", the primary)")
	})
	t.Run("and gets no further", func(t *testing.T) {
		s, run := begin(t)
		run.wait().want(t, state.TookOver)
		s.wantOn(vip4, s.Client)
		s.mail.want(t, tookOver4("client"))
	})
}

// A booting machine checks for a second or two whether its IPv6 addresses are
// free, and abandons those for which it receives a probe or a reply.
func TestPrimaryThatBootsDuringTheCheckAndIPv6(t *testing.T) {
	only6 := set(hasty, "--host", "2001:db8::2", "--vip", "2001:db8::1", "--witness", "2001:db8::254", "--count", "5", "--interval", "700ms")
	type boot struct {
		after time.Duration // the begin of the second round, which takes 3 s
		args  []string
		what  string
	}
	var boots []boot
	for _, after := range []time.Duration{0, 500, 1000, 1500, 2000, 2500, 2800, 2950} {
		boots = append(boots, boot{after * time.Millisecond, only6, "alone"}, boot{after * time.Millisecond, append(slices.Clone(only6), "--vip", "172.16.0.1"), "with IPv4"})
	}
	share(t, some(boots, 4), func(b boot) string { return fmt.Sprintf("%s, after %s", b.what, b.after) }, func(t *testing.T, b boot) {
		s := side(t)
		s.run(s.Primary, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/accept_dad")
		s.check(s.Standby, b.args...).want(t, state.OK)
		s.must(s.Primary.PowerOff())
		run := s.follow(s.Standby, b.args...)
		run.until("round 2: pinging")
		time.Sleep(b.after)
		s.must(s.Primary.PowerOn())
		e := run.wait()
		t.Logf("%s: %s", e.Outcome, e.Reason)
		if strings.Contains(e.stderr, "has precedence") && e.Outcome == state.TookOver {
			t.Errorf("the primary was heard, and did not get its address:\n%s", e.stderr)
		}
		if len(e.Commands) > 0 {
			return // it had sent nothing by then, and found its address in use
		}
		s.wantHeld(s.Standby, vip6, 0)
		if out := s.run(s.Primary, "ip", "-o", "-6", "addr", "show", "dev", "eth0", "to", "2001:db8::1", "-dadfailed", "-tentative"); out == "" {
			t.Errorf("%s is unassigned: the primary abandoned it\n%s", vip6, e.stderr)
		}
	})
}

// What two standbys have in common beside the lab itself.

// side is a scene that runs beside others of the same test, in a goroutine of
// its own: scenes mostly wait, and go test would run but one for each core.
func side(t *testing.T) *scene {
	t.Helper()
	return newScene(struct{ testing.TB }{t}) // which hides that it could be t.Parallel
}

// share runs a scene for each case, side by side.
func share[T any](t *testing.T, cases []T, name func(T) string, run func(*testing.T, T)) {
	t.Helper()
	t.Parallel()
	var all sync.WaitGroup
	for _, c := range cases {
		all.Go(func() { t.Run(name(c), func(t *testing.T) { run(t, c) }) })
	}
	all.Wait()
}

// some are all cases in a long run, else so many, evenly spread from the first
// to the last.
func some[T any](cases []T, n int) (chosen []T) {
	if lab.LongRun() || n >= len(cases) {
		return cases
	}
	for i := range n {
		chosen = append(chosen, cases[i*(len(cases)-1)/(n-1)])
	}
	return chosen
}

// together runs a scene n times at once.
func together(t *testing.T, n int, run func(*testing.T)) {
	t.Helper()
	share(t, slices.Collect(func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}), func(i int) string { return fmt.Sprint(i) }, func(t *testing.T, _ int) { run(t) })
}

// both runs a check on Standby and one on Second, which begins so much later;
// with a negative skew, earlier.
func (s *scene) both(skew time.Duration, args, secondArgs []string) (first, second ended) {
	s.t.Helper()
	var waitFirst, waitSecond func() ended
	if skew >= 0 {
		waitFirst = s.start(s.Standby, args...)
		time.Sleep(skew)
		waitSecond = s.start(s.Second, secondArgs...)
	} else {
		waitSecond = s.start(s.Second, secondArgs...)
		time.Sleep(-skew)
		waitFirst = s.start(s.Standby, args...)
	}
	return waitFirst(), waitSecond()
}

// wantOneTakeover fails the test unless one of the two took over, and the
// other found that out in time or yielded.
func (s *scene) wantOneTakeover(first, second ended) (winner *lab.Host) {
	s.t.Helper()
	winner, loser := s.Standby, second
	if first.Outcome != state.TookOver {
		winner, loser = s.Second, first
		second.want(s.t, state.TookOver)
	}
	if loser.Outcome != state.Elsewhere && loser.Outcome != state.Blocked || loser.code != loser.Outcome.Code() {
		s.t.Fatalf("%s took over; outcome of the other: %q, exit code %d\n%s%s\nfirst: %s%s\nsecond: %s%s", winner.Name(), loser.Outcome, loser.code, loser.stdout, loser.stderr,
			first.stdout, first.stderr, second.stdout, second.stderr)
	}
	return winner
}

// wantTakeoverMails fails the test unless so many emails report a takeover.
func (s *scene) wantTakeoverMails(n int) {
	s.t.Helper()
	got := 0
	for _, l := range s.mail.all() {
		if strings.Contains(l.subject, " took over ") {
			got++
		}
	}
	if got != n {
		s.t.Errorf("%d emails report a takeover, want %d: %+v", got, n, s.mail.all())
	}
}

// wantAtRest fails the test unless one more check of each finds nothing to do.
func (s *scene) wantAtRest(a netip.Addr, args ...string) {
	s.t.Helper()
	holder, other := s.Standby, s.Second
	if s.held(holder, a) == 0 {
		holder, other = other, holder
	}
	s.check(holder, args...).want(s.t, state.Holding)
	s.check(other, args...).want(s.t, state.Elsewhere)
	s.wantNothingLeft(holder, "act.lock", "web.json", "web.lock")
}

// forget makes Standby and Second forget all, and lowers what they hold.
func (s *scene) forget(more ...netip.Addr) {
	s.t.Helper()
	for _, h := range []*lab.Host{s.Standby, s.Second} {
		for _, a := range append(more, vip4) {
			s.run(h, "sh", "-c", fmt.Sprintf("ip addr del %s dev eth0 2>/dev/null; :", netip.PrefixFrom(a, a.BitLen())))
		}
		s.run(h, "sh", "-c", "rm -f /var/lib/pingover/web.json")
	}
}

// wire listens on a host's eth0, until the test ends.
func (s *scene) wire(h *lab.Host, addrs ...netip.Addr) *vip.Listener {
	s.t.Helper()
	var w *vip.Listener
	s.must(h.Do(func() error {
		k, err := vip.TakeSnapshot()
		if err != nil {
			return err
		}
		l, ok := k.Link("eth0")
		if !ok {
			return fmt.Errorf("%s has no eth0", h.Name())
		}
		w, err = vip.Open(l, func(vip.Reply) bool { return false }, addrs...)
		return err
	}))
	s.t.Cleanup(func() { w.Close() })
	return w
}

// probe makes a host probe for addresses, again and again, until it is
// stopped: it seems to be about to take them.
func (s *scene) probe(h *lab.Host, every time.Duration, addrs ...netip.Addr) (stop func()) {
	s.t.Helper()
	w := s.wire(h, addrs...)
	end := make(chan struct{})
	var probing sync.WaitGroup
	probing.Go(func() {
		for {
			for _, a := range addrs {
				if err := w.Ask(a, netip.Addr{}); err != nil {
					s.t.Error(err)
					return
				}
			}
			select {
			case <-end:
				return
			case <-time.After(every):
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		probing.Wait()
	})
	s.t.Cleanup(stop) // before the lab is closed
	return stop
}
