package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// Another machine has an address that is held here: which one yields, and when.

// released4 is the subject about a release by the host.
func released4(host string) string { return "[pingover] web: " + host + " released 172.16.0.1" }

func TestConflictWhileHolding(t *testing.T) {
	alsoAt := func(mac string) string {
		return "172.16.0.1 is also assigned at " + mac + ", another machine: it is released here"
	}
	type conflict struct {
		name   string
		peer   func(*scene) *lab.Host
		leaves bool // before the standby's patience ends
		want   state.Outcome
		reason string
		waits  bool
	}
	share(t, []conflict{
		{
			name: "lower MAC", peer: func(s *scene) *lab.Host { return s.Client },
			want: state.Released, reason: alsoAt("02:00:00:00:00:01"),
		},
		{
			name: "higher MAC that stays", peer: func(s *scene) *lab.Host { return s.Second },
			want: state.Released, reason: alsoAt("02:00:00:00:00:04"), waits: true,
		},
		{
			name: "higher MAC that goes away", peer: func(s *scene) *lab.Host { return s.Second }, leaves: true,
			want: state.Holding, reason: "holding 172.16.0.1; 172.16.0.2 does not reply", waits: true,
		},
	}, func(c conflict) string { return c.name }, func(t *testing.T, c conflict) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, withVIP...).want(t, state.TookOver)
		peer := c.peer(s)
		s.run(peer, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		heard := s.sniff(s.Gateway)

		run := s.follow(s.Standby, withVIP...)
		if c.leaves {
			run.until("waiting 10s: 02:00:00:00:00:04 has 172.16.0.1 as well, and should yield: its MAC is the higher one")
			time.Sleep(2 * time.Second)
			s.run(peer, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		}
		e := run.wait().want(t, c.want).because(t, c.reason)
		if waited := strings.Contains(e.stderr, "waiting 10s"); waited != c.waits {
			t.Errorf("waited: %v, want %v\n%s", waited, c.waits, e.stderr)
		}
		if c.waits && e.took < 10*time.Second {
			t.Errorf("it took %s: it did not wait 10s", e.took)
		}
		for _, a := range heard.announcements(vip4) {
			if a.mac == s.Standby.MAC().String() && a.at.Before(run.began.Add(10*time.Second)) {
				t.Errorf("announced after %s, during the conflict", a.at.Sub(run.began))
			}
		}

		if c.want == state.Holding {
			s.wantOn(vip4, s.Standby)
			if len(heard.announcements(vip4)) == 0 {
				t.Error("not announced when the conflict was over")
			}
			s.mail.want(t, tookOver4("standby"))
			return
		}
		s.wantOn(vip4, peer)
		s.wantCommands(e, "ip addr del 172.16.0.1/32 dev eth0")
		s.check(s.Standby, withVIP...).want(t, state.Elsewhere)
		s.wantOn(vip4, peer)
		s.mail.want(t, tookOver4("standby"), released4("standby"), elsewhere(peer.MAC().String()))
		s.wantReply(released4("standby"), tookOver4("standby"))
		if rec := s.record(s.Standby); rec.Role != state.Standby || len(rec.Recent) != 2 {
			t.Errorf("record: role %q, changes %+v; want a standby that took over and released", rec.Role, rec.Recent)
		}
	})
}

// Both took it over, since neither received the other's frames: a switch port was out. When
// it is in again each of them sees a conflicting host.
func TestTwoHoldersNeverBothRelease(t *testing.T) {
	type order struct {
		name   string
		skew   time.Duration // of Second's check, after that of Standby
		serial bool          // one has ended when the other begins
		first  state.Outcome // Standby's
		second state.Outcome
	}
	orders := []order{
		{"the lower MAC checks first", 0, true, state.Released, state.Holding},
		{"the higher MAC checks first", -1, true, state.Holding, state.Released},
		{"both check in the same moment", 0, false, state.Holding, state.Released},
		{"the higher MAC checks 5s later", 5 * time.Second, false, state.Holding, state.Released},
		{"the lower MAC checks 500ms later", -500 * time.Millisecond, false, state.Holding, state.Released},
	}
	// The higher one comes when the other's patience is at its end: either may
	// release, but only one, or both in the same moment: then the one that has
	// waited takes it again.
	for _, skew := range []time.Duration{9500, 9800, 9900, 9950, 10000, 10050, 10200, 10500, 10900, 11300, 11700} {
		orders = append(orders, order{fmt.Sprintf("the higher MAC checks %s later", skew*time.Millisecond), skew * time.Millisecond, false, "", ""})
	}
	share(t, some(orders, 6), func(o order) string { return o.name }, func(t *testing.T, o order) {
		s := side(t)
		s.bothHold()
		tenure := s.tenure(vip4, s.Standby, s.Second)
		var first, second ended
		switch {
		case o.serial && o.skew < 0:
			second = s.check(s.Second, withVIP...)
			first = s.check(s.Standby, withVIP...)
		case o.serial:
			first = s.check(s.Standby, withVIP...)
			second = s.check(s.Second, withVIP...)
		default:
			first, second = s.both(o.skew, withVIP, withVIP)
		}
		holder := s.Standby
		if first.Outcome == state.Released {
			holder = s.Second
		}
		t.Logf("%s after %s, %s after %s; it was unassigned for %s", first.Outcome, first.took.Round(time.Millisecond), second.Outcome, second.took.Round(time.Millisecond), tenure.vacant().Round(time.Millisecond))
		if tenure.vacant() > 3*time.Second {
			t.Errorf("it was unassigned for %s\n%s%s\n%s%s", tenure.vacant(), first.stdout, first.stderr, second.stdout, second.stderr)
		}
		s.wantOn(vip4, holder)
		if o.first != "" {
			first.want(t, o.first)
			second.want(t, o.second)
		}
		since := time.Now()
		view := viewOf(s, s.watch(vip4), vip4)
		s.wantAtRest(vip4, withVIP...)
		view.follows(holder, since)
		s.wantOn(vip4, holder)
		want := []string{tookOver4("standby"), tookOver4("second")}
		for host, e := range map[string]ended{"standby": first, "second": second} {
			switch {
			case e.Outcome == state.Released:
				want = append(want, released4(host), elsewhere(holder.MAC().String()))
			case len(e.Commands) > 0:
				want = append(want, "[pingover] web: PROBLEM: no machine took 172.16.0.1, "+host+" holds it again")
			}
		}
		s.mail.want(t, want...)
	})
}

// Each has decided to yield while the other still has it; then removing it takes
// a while.
func TestBothHoldersReleaseInTheSameMoment(t *testing.T) {
	const takes = 300 * time.Millisecond
	var skews []time.Duration
	for _, skew := range []time.Duration{9750, 9900, 10000, 10050, 10100, 10150, 10200, 10250} {
		skews = append(skews, skew*time.Millisecond)
	}
	share(t, some(skews, 2), func(skew time.Duration) string { return fmt.Sprintf("the higher MAC checks %s later", skew) }, func(t *testing.T, skew time.Duration) {
		s := side(t)
		s.bothHold()
		dir := s.t.TempDir()
		real := strings.TrimSpace(s.run(s.Standby, "sh", "-c", "command -v ip"))
		s.script(filepath.Join(dir, "ip"), fmt.Sprintf("case \"$*\" in *' del '*) sleep %.1f;; esac\nexec %s \"$@\"\n", takes.Seconds(), real))
		s.through("env", "PATH="+dir+":"+os.Getenv("PATH"))

		tenure := s.tenure(vip4, s.Standby, s.Second)
		first, second := s.both(skew, withVIP, withVIP)
		t.Logf("%s: %s; %s; it was unassigned for %s", first.Outcome, first.Reason, second.Outcome, tenure.vacant().Round(time.Millisecond))
		if tenure.vacant() > 3*time.Second {
			t.Errorf("it was unassigned for %s\n%s%s\n%s%s", tenure.vacant(), first.stdout, first.stderr, second.stdout, second.stderr)
		}
		holder := s.Standby
		if first.Outcome == state.Released {
			holder = s.Second
		}
		s.wantOn(vip4, holder)
		s.wantAtRest(vip4, withVIP...)
	})
}

// bothHold makes Standby and Second take the address over, one of them at
// a switch port that is out.
func (s *scene) bothHold() {
	s.t.Helper()
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(s.t, state.TookOver)
	s.must(s.Standby.Unplug(true))
	s.check(s.Second, withVIP...).want(s.t, state.TookOver)
	s.must(s.Standby.Plug())
	s.wantOn(vip4, s.Standby, s.Second)
}

// The primary comes back and brings its address up, as it does at each boot.
func TestPrimaryReturnsWithItsAddress(t *testing.T) {
	type comeback struct {
		name    string
		args    []string
		vip     netip.Addr
		standby func(*scene) *lab.Host
		client  func(*scene) *lab.Host
		within  time.Duration // the client's longest outage, about
	}
	share(t, []comeback{
		{
			"lower MAC", withVIP, vip4,
			func(s *scene) *lab.Host { return s.Standby }, func(s *scene) *lab.Host { return s.Client }, 5 * time.Second,
		},
		{
			"higher MAC", withVIP, vip4,
			func(s *scene) *lab.Host { return s.Client }, func(s *scene) *lab.Host { return s.Second }, 5 * time.Second,
		},
		{
			"IPv6", set(hasty, "--host", "2001:db8::2", "--vip", "2001:db8::1", "--witness", "2001:db8::254"), vip6,
			func(s *scene) *lab.Host { return s.Standby }, func(s *scene) *lab.Host { return s.Client }, 5 * time.Second,
		},
	}, func(c comeback) string { return c.name }, func(t *testing.T, c comeback) {
		s := side(t)
		standby, client := c.standby(s), c.client(s)
		s.must(s.Primary.PowerOff())
		s.check(standby, c.args...).want(t, state.TookOver)
		trace, err := client.Watch(c.vip, 10*time.Millisecond)
		s.must(err)
		viewOf(s, trace, c.vip).firstAfter(time.Time{})

		s.must(s.Primary.PowerOn())
		e := s.check(standby, c.args...).want(t, state.Released).
			because(t, "the primary has "+c.vip.String()+" again (02:00:00:00:00:02): it is released here")
		done := time.Now()
		s.wantOn(c.vip, s.Primary)
		viewOf(s, trace, c.vip).firstAfter(done)
		time.Sleep(300 * time.Millisecond)
		trace.Stop()
		t.Logf("the client's longest gap: %s; the check took %s", trace.Gap(), e.took)
		if gap := trace.Gap(); gap > c.within {
			t.Errorf("the client could not reach %s for %s", c.vip, gap)
		}
		if out := s.run(client, "ip", "neigh", "show", c.vip.String()); !strings.Contains(out, s.Primary.MAC().String()) {
			t.Errorf("the client takes %s for %s", c.vip, out)
		}
		s.check(standby, c.args...).want(t, state.OK)
		s.wantOn(c.vip, s.Primary)
		host := c.args[slices.Index(c.args, "--host")+1]
		took := fmt.Sprintf("[pingover] web: %s is down! %s took over %s", host, standby.Name(), c.vip)
		gave := fmt.Sprintf("[pingover] web: %s released %s", standby.Name(), c.vip)
		s.mail.want(t, took, gave)
		s.wantReply(gave, took)
	})
}

func TestConflictDuringTheAnnouncements(t *testing.T) {
	given := func(mac string) string {
		return "172.16.0.1 was taken, but " + mac + " has it as well: it is released here"
	}
	type conflict struct {
		name   string
		peer   func(*scene) *lab.Host
		leaves bool
		want   state.Outcome
		reason string
		waits  bool

		announce string
	}
	cases := []conflict{
		{
			name: "lower MAC", peer: func(s *scene) *lab.Host { return s.Client },
			want: state.Blocked, reason: given("02:00:00:00:00:01"),
		},
		{
			name: "higher MAC that stays", peer: func(s *scene) *lab.Host { return s.Second },
			want: state.Blocked, reason: given("02:00:00:00:00:04"), waits: true,
		},
		{
			name: "higher MAC that goes away", peer: func(s *scene) *lab.Host { return s.Second }, leaves: true,
			want: state.TookOver, reason: "172.16.0.2 does not reply, and 172.16.0.1 is not in use", waits: true,
		},
	}
	for i := range cases {
		again := cases[i]
		cases[i].announce, again.announce = "1", "4"
		cases = append(cases, again)
	}
	share(t, cases, func(c conflict) string { return c.name + ", announced " + c.announce }, func(t *testing.T, c conflict) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		peer := c.peer(s)
		heard := s.sniff(s.Gateway)
		run := s.follow(s.Standby, set(withVIP, "--announce", c.announce)...)
		run.until("announced on eth0: 172.16.0.1 is at 02:00:00:00:00:03")
		s.run(peer, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		s.announce(peer, vip4)
		if c.leaves {
			run.until("waiting 10s: 02:00:00:00:00:04")
			time.Sleep(time.Second)
			s.run(peer, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		}
		e := run.wait().want(t, c.want).because(t, c.reason)
		if waited := strings.Contains(e.stderr, "waiting 10s"); waited != c.waits {
			t.Errorf("waited: %v, want %v\n%s", waited, c.waits, e.stderr)
		}
		rec := s.record(s.Standby)
		if c.want == state.TookOver {
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver4("standby"))
			if a := heard.announcements(vip4); len(a) == 0 || a[len(a)-1].mac != s.Standby.MAC().String() {
				t.Errorf("the last word is not the standby's: %v", a)
			}
			if rec.Role != state.Active {
				t.Errorf("role %q, want active", rec.Role)
			}
			return
		}
		s.wantOn(vip4, peer)
		s.wantCommands(e, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1", "ip addr del 172.16.0.1/32 dev eth0")
		l := s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! standby took over and released 172.16.0.1 again: address conflict")[0]
		l.says(t, "standby took over 172.16.0.1, found that another machine has it too, and released it again.")
		l.says(t, c.reason)
		if rec.Role != state.Standby {
			t.Errorf("role %q, want standby", rec.Role)
		}
		if a := heard.announcements(vip4); len(a) == 0 || a[len(a)-1].mac != peer.MAC().String() {
			t.Errorf("the last announcement is not for the peer: %v", a)
		}
		s.check(s.Standby, withVIP...).want(t, state.Elsewhere)
		s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
	})
}

func TestConflictWhilePausedChangesNothing(t *testing.T) {
	share(t, []string{"lower MAC", "higher MAC"}, func(name string) string { return name }, func(t *testing.T, name string) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, withVIP...).want(t, state.TookOver)
		s.pause(s.Standby)
		s.check(s.Standby, withVIP...).want(t, state.Holding).because(t, "paused, holding 172.16.0.1")

		peer := map[string]*lab.Host{"lower MAC": s.Client, "higher MAC": s.Second}[name]
		s.run(peer, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		untouched := s.untouched(s.Standby)
		heard := s.sniff(s.Gateway)
		for range 2 {
			e := s.check(s.Standby, withVIP...).want(t, state.Blocked).
				because(t, fmt.Sprintf("paused, holding 172.16.0.1 although %s has it as well", peer.MAC()))
			if !e.Paused {
				t.Errorf("paused: false\n%s", e.stdout)
			}
		}
		if a := heard.announcements(vip4); len(a) > 0 {
			t.Errorf("announced: %v", a)
		}
		untouched()
		s.wantOn(vip4, s.Standby, peer)
		s.mail.want(t, tookOver4("standby"), "[pingover] web: PROBLEM: 172.16.0.2 looks down! address conflict: standby and another machine have 172.16.0.1")

		s.run(s.Standby, "rm", "/var/lib/pingover/web.pause")
		s.check(s.Standby, withVIP...).want(t, state.Released)
		s.wantOn(vip4, peer)
	})
}

func TestOneOfSeveralVirtualIPsCannotBeRaised(t *testing.T) {
	s := newScene(t)
	vip5, vip7 := netip.MustParseAddr("172.16.0.5"), netip.MustParseAddr("172.16.0.7")
	three := append(slices.Clone(withVIP), "--vip", "172.16.0.5", "--vip", "172.16.0.7")
	fixed := s.breakIP("172.16.0.5")
	s.check(s.Standby, three...).want(t, state.OK)
	s.must(s.Primary.PowerOff())

	e := s.check(s.Standby, three...).want(t, state.TakeoverFailed)
	if !strings.HasPrefix(e.Reason, "172.16.0.2 does not reply, and 172.16.0.1, 172.16.0.5, 172.16.0.7 are not in use; failed: add 172.16.0.5/32 to eth0: ") {
		t.Errorf("reason %q", e.Reason)
	}
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip5)
	s.wantOn(vip7, s.Standby)
	failed := "[pingover] web: PROBLEM: 172.16.0.2 is down! takeover failed: 172.16.0.5 not assigned on standby"
	s.mail.want(t, failed)

	heard := s.sniff(s.Client)
	s.check(s.Standby, three...).want(t, state.TakeoverFailed)
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip5)
	s.wantOn(vip7, s.Standby)
	s.mail.want(t, failed)
	for _, a := range []netip.Addr{vip4, vip7} {
		if len(heard.announcements(a)) == 0 {
			t.Errorf("%s, which is here, was not announced in the run that tried again", a)
		}
	}

	// Nothing is added beside it while no witness replies, or during a pause.
	s.check(s.Standby, set(three, "--witness", "172.16.0.77")...).want(t, state.TakeoverFailed).
		because(t, "holding 172.16.0.1, 172.16.0.7; 172.16.0.2 does not reply; 172.16.0.5 is missing, and no witness replies")
	s.pause(s.Standby)
	s.check(s.Standby, three...).want(t, state.Holding)
	s.run(s.Standby, "rm", "/var/lib/pingover/web.pause")

	// Another host has it meanwhile.
	s.must(fixed())
	s.run(s.Second, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
	s.check(s.Standby, three...).want(t, state.TakeoverFailed).
		because(t, "holding 172.16.0.1, 172.16.0.7; 172.16.0.2 does not reply; 172.16.0.5 is missing, and another machine replies")
	s.wantOn(vip5, s.Second)
	s.run(s.Second, "ip", "addr", "del", "172.16.0.5/32", "dev", "eth0")

	view := viewOf(s, s.watch(vip5), vip5)
	since := time.Now()
	s.check(s.Standby, three...).want(t, state.Holding).
		because(t, "holding 172.16.0.1, 172.16.0.7; 172.16.0.2 does not reply; assigning 172.16.0.5 as well")
	view.follows(s.Standby, since)
	for _, a := range []netip.Addr{vip4, vip5, vip7} {
		s.wantOn(a, s.Standby)
	}
	for range 3 {
		s.check(s.Standby, three...).want(t, state.Holding).
			because(t, "holding 172.16.0.1, 172.16.0.5, 172.16.0.7; 172.16.0.2 does not reply")
	}
	s.mail.want(t, failed, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1, 172.16.0.5 and 172.16.0.7", "[pingover] web: RESOLVED: takeovers no longer fail on standby")
	s.wantReply("[pingover] web: RESOLVED: takeovers no longer fail on standby", failed)
}

func TestNoneOfTheVirtualIPsCanBeRaised(t *testing.T) {
	s := newScene(t)
	fixed := s.breakIP("172.16.0.1")
	s.must(s.Primary.PowerOff())
	for range 2 {
		s.check(s.Standby, withVIP...).want(t, state.TakeoverFailed)
		s.wantOn(vip4)
	}
	if rec := s.record(s.Standby); rec.Role != state.Standby || len(rec.Recent) != 1 {
		t.Errorf("record: role %q, %d changes; want a standby, and the failure once", rec.Role, len(rec.Recent))
	}
	failed := "[pingover] web: PROBLEM: 172.16.0.2 is down! takeover failed: 172.16.0.1 not assigned on standby"
	s.mail.want(t, failed)
	s.must(fixed())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, failed, tookOver4("standby"))
}

func TestOneOfSeveralVirtualIPsIsHeldByAThirdMachine(t *testing.T) {
	s := newScene(t)
	two := append(slices.Clone(withVIP), "--vip", "172.16.0.5")
	untouched := s.untouched(s.Standby)
	s.run(s.Second, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
	s.must(s.Primary.PowerOff())
	for range 2 {
		e := s.check(s.Standby, two...).want(t, state.Blocked).because(t, "172.16.0.2 does not reply, but 172.16.0.5 is in use")
		if diff := cmp.Diff([]state.Holder{{Address: "172.16.0.5", MAC: s.Second.MAC().String()}}, e.Holders); diff != "" {
			t.Errorf("holders (-want +got):\n%s", diff)
		}
	}
	untouched()
	s.wantOn(vip4)
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.5 is in use (by "+s.Second.MAC().String()+")")
}

// One of two that are held here appears elsewhere as well: it is released, the other stays.
func TestConflictForOneOfSeveralVirtualIPs(t *testing.T) {
	s := newScene(t)
	two := append(slices.Clone(withVIP), "--vip", "172.16.0.5")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, two...).want(t, state.TookOver)
	s.run(s.Client, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
	s.check(s.Standby, two...).want(t, state.Holding).
		because(t, "172.16.0.5 is also assigned at 02:00:00:00:00:01, another machine: it is released here; holding 172.16.0.1")
	s.wantOn(vip4, s.Standby)
	s.wantOn(netip.MustParseAddr("172.16.0.5"), s.Client)
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1 and 172.16.0.5", "[pingover] web: standby released 172.16.0.5")
}

// A second interface on the same switch that does answer for the first one's
// addresses, and one that listens there, are this machine.
func TestSecondInterfaceThatAnswersIsNoConflict(t *testing.T) {
	s := newScene(t)
	_, err := s.Standby.NIC()
	s.must(err)
	s.run(s.Standby, "sh", "-c", "for c in all eth0 eth1; do echo 1 >/proc/sys/net/ipv4/conf/$c/accept_local; done")
	two := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	s.check(s.Standby, two...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	heard := s.sniff(s.Standby)
	e := s.check(s.Standby, two...).want(t, state.TookOver)
	if len(e.Holders) != 0 {
		t.Errorf("standing by, another machine was seen: %+v", e.Holders)
	}
	for range 2 {
		e := s.check(s.Standby, two...).want(t, state.Holding)
		if len(e.Holders) != 0 {
			t.Errorf("holding, another machine was seen: %+v", e.Holders)
		}
	}
	if !slices.ContainsFunc(heard.all(), func(f frame) bool { return f.address == vip4 && f.mac == "02:00:00:00:01:03" }) {
		t.Errorf("the second interface did not answer, so nothing was tested: %v", heard.all())
	}
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip6, s.Standby)
}

// The alias is in the own address's network, with the same length: the one
// that was there first takes the other along when it is removed, unless that
// is prevented.
func TestOwnAddressSurvivesTheReleaseOfAnAliasOfItsNetwork(t *testing.T) {
	const ownFirst, aliasFirst = "own address first", "alias first"
	type release struct{ tool, order string }
	share(t, []release{{"ip", ownFirst}, {"ip", aliasFirst}, {"ifconfig", ownFirst}, {"ifconfig", aliasFirst}}, func(r release) string { return r.tool + ", " + r.order }, func(t *testing.T, r release) {
		needTool(t, r.tool)
		s := side(t)
		args := set(withVIP, "--vip", "172.16.0.1/24", "--tool", r.tool)
		s.must(s.Primary.PowerOff())
		s.run(s.Standby, "ip", "addr", "flush", "dev", "eth0", "to", "172.16.0.3")
		own := []string{"ip", "addr", "add", "172.16.0.3/24", "dev", "eth0"}
		s.run(s.Standby, own...)
		s.check(s.Standby, args...).want(t, state.TookOver)
		if r.order == aliasFirst {
			s.must(s.Standby.Sysctl("ipv4/conf/eth0/promote_secondaries", "1"))
			s.run(s.Standby, "ip", "addr", "del", "172.16.0.3/24", "dev", "eth0")
			s.run(s.Standby, own...)
			s.must(s.Standby.Sysctl("ipv4/conf/eth0/promote_secondaries", "0"))
		}
		second := map[string]string{ownFirst: "172.16.0.1", aliasFirst: "172.16.0.3"}[r.order]
		if out := s.run(s.Standby, "ip", "-o", "addr", "show", "secondary"); !strings.Contains(out, second+"/24") {
			t.Fatalf("%s is not the secondary one:\n%s", second, out)
		}
		s.run(s.Client, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		s.check(s.Standby, args...).want(t, state.Released)
		s.wantOn(vip4, s.Client)
		s.wantOn(s.Standby.Addr4(), s.Standby)
		if got := strings.TrimSpace(s.run(s.Standby, "cat", "/proc/sys/net/ipv4/conf/eth0/promote_secondaries")); got != "0" {
			t.Errorf("promote_secondaries was left at %s", got)
		}
		s.check(s.Standby, args...).want(t, state.Elsewhere)
	})
}

// What the scenes of a conflicting host have in common.

// viewOf is a trace as a view.
func viewOf(s *scene, trace *lab.Trace, a netip.Addr) view { return view{trace, s, a} }

// pause pauses the cluster on a host for an hour.
func (s *scene) pause(h *lab.Host) {
	s.t.Helper()
	s.run(h, "sh", "-c", "umask 077; echo "+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+" >/var/lib/pingover/web.pause")
}

// wantReply fails the test unless one email is a reply to the other.
func (s *scene) wantReply(reply, to string) {
	s.t.Helper()
	var got, want string
	for _, l := range s.mail.all() {
		switch l.subject {
		case reply:
			got = l.header.Get("In-Reply-To")
		case to:
			want = l.id
		}
	}
	if want == "" || got != want {
		s.t.Errorf("%q replies to %q, want %q", reply, got, want)
	}
}

// breakIP makes ip(8) fail whenever it is to raise an address, until fixed.
func (s *scene) breakIP(address string) (fixed func() error) {
	s.t.Helper()
	real := strings.TrimSpace(s.run(s.Standby, "sh", "-c", "command -v ip"))
	dir := s.t.TempDir()
	broken := filepath.Join(dir, "broken")
	s.must(os.WriteFile(broken, nil, 0o600))
	script := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in\n*'addr add %s/'*) [ -e %s ] && { echo 'RTNETLINK answers: Cannot allocate memory' >&2; exit 2; };;\nesac\nexec %s \"$@\"\n", address, broken, real)
	s.must(os.WriteFile(filepath.Join(dir, "ip"), []byte(script), 0o755))
	s.through("env", "PATH="+dir+":"+os.Getenv("PATH"))
	return func() error { return os.Remove(broken) }
}
