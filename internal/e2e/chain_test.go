package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// Pairs that watch each other by the virtual IP itself, and more than one
// standby for a primary.

// watchVIP are settings whose host is the virtual IP: the holder is the
// primary.
var watchVIP = set(withVIP, "--host", "172.16.0.1")

const ownAnswer = "holding 172.16.0.1; 172.16.0.1 could not be asked: 172.16.0.1 is on this machine now, so a ping would answer itself"

// tookPair is the subject about a takeover by the host.
func tookPair(host string) string {
	return "[pingover] web: 172.16.0.1 is down! " + host + " took over 172.16.0.1"
}

func TestSymmetricalPair(t *testing.T) {
	type pair struct {
		name  string
		first func(*scene) *lab.Host // has it from the beginning; nil: the one that takes it over
	}
	share(t, []pair{
		{"the lower MAC has it of its own", func(s *scene) *lab.Host { return s.Standby }},
		{"the higher MAC has it of its own", func(s *scene) *lab.Host { return s.Second }},
		{"neither has it at first", nil},
	}, func(p pair) string { return p.name }, func(t *testing.T, p pair) {
		s := side(t)
		s.must(s.Primary.PowerOff())
		takeovers := map[*lab.Host]int{}
		race := func() (winner, other *lab.Host) {
			t.Helper()
			winner = s.race(checks{s.Standby: watchVIP, s.Second: watchVIP})
			takeovers[winner]++
			return winner, s.otherThan(winner)
		}
		quiet := func(holder, other *lab.Host) {
			t.Helper()
			held := s.start(holder, watchVIP...)
			s.check(other, watchVIP...).want(t, state.OK).because(t, "172.16.0.1 replies")
			if e := held().want(t, state.Holding).because(t, ownAnswer); len(e.Commands) > 0 {
				t.Errorf("commands: %s", e.stdout)
			}
			s.wantOn(vip4, holder)
		}

		var holder, other *lab.Host
		if p.first == nil {
			holder, other = race()
		} else {
			holder = p.first(s)
			other = s.otherThan(holder)
			s.run(holder, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		}
		for range 2 {
			quiet(holder, other)
		}

		// The power of either fails in turn. It returns without the address, and
		// nothing happens.
		for range 2 {
			view := s.watchFrom(vip4)
			cut := time.Now()
			s.must(holder.PowerOff())
			s.check(other, watchVIP...).want(t, state.TookOver).because(t, "172.16.0.1 does not reply, and 172.16.0.1 is not in use")
			takeovers[other]++
			view.follows(other, cut)
			t.Logf("the client was without it for %s", view.Gap().Round(time.Millisecond))
			s.must(holder.PowerOn())
			holder, other = other, holder
			for range 2 {
				quiet(holder, other)
			}
		}

		// The power of both.
		for _, h := range []*lab.Host{holder, other} {
			s.must(h.PowerOff())
		}
		for _, h := range []*lab.Host{other, holder} {
			s.must(h.PowerOn())
		}
		s.wantOn(vip4)
		holder, other = race()
		quiet(holder, other)

		told := map[string]int{}
		for _, l := range s.mail.all() {
			told[l.subject]++
		}
		for h, n := range takeovers {
			if got := told[tookPair(h.Name())]; got != n {
				t.Errorf("%d emails report %d takeovers of %s", got, n, h.Name())
			}
		}
	})
}

// One of the two has the address in its own configuration: it is there again
// after each boot.
func TestSymmetricalPairInWhichOneBootsWithTheAddress(t *testing.T) {
	t.Parallel()
	for name, boots := range map[string]func(*scene) *lab.Host{
		"the lower MAC":  func(s *scene) *lab.Host { return s.Standby },
		"the higher MAC": func(s *scene) *lab.Host { return s.Second },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			booted := boots(s)
			other := s.otherThan(booted)
			s.must(booted.PowerOff())
			s.check(other, watchVIP...).want(t, state.TookOver)
			s.must(booted.PowerOn())
			s.run(booted, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
			s.wantOn(vip4, booted, other)
			tenure := s.tenure(vip4, booted, other)
			first, second := s.both(0, watchVIP, watchVIP)
			first.want(t, state.Holding)
			second.want(t, state.Released)
			s.wantOn(vip4, s.Standby)
			s.check(s.Standby, watchVIP...).want(t, state.Holding)
			s.check(s.Second, watchVIP...).want(t, state.OK)
			s.wantOn(vip4, s.Standby)
			if tenure.vacant() > 0 {
				t.Errorf("it was unassigned for %s", tenure.vacant())
			}
		})
	}
}

// Of two, one is what is pinged. Once it is here it cannot be: that must not
// keep the other from being assigned.
func TestSecondOfTwoVirtualIPsIsRaisedLaterWhileTheFirstIsTheHost(t *testing.T) {
	s := newScene(t)
	vip5 := netip.MustParseAddr("172.16.0.5")
	two := append(slices.Clone(watchVIP), "--vip", "172.16.0.5")
	fixed := s.breakIP("172.16.0.5")
	s.check(s.Standby, two...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, two...).want(t, state.TakeoverFailed)
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip5)
	s.check(s.Standby, two...).want(t, state.TakeoverFailed)
	s.must(fixed())
	s.check(s.Standby, two...).want(t, state.Holding).because(t, ownAnswer+"; assigning 172.16.0.5 as well")
	s.wantOn(vip4, s.Standby)
	s.wantOn(vip5, s.Standby)
	for range 2 {
		s.wantCommands(s.check(s.Standby, two...).want(t, state.Holding))
	}
	s.check(s.Second, two...).want(t, state.OK)
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.1 is down! takeover failed: 172.16.0.5 not assigned on standby", "[pingover] web: standby took over 172.16.0.1 and 172.16.0.5", "[pingover] web: RESOLVED: takeovers no longer fail on standby")
}

func TestThreeStandbysInTheSameMoment(t *testing.T) {
	labs, rounds := 1, 2
	if lab.LongRun() {
		labs = 5
	}
	together(t, labs, func(t *testing.T) {
		s := side(t)
		third := s.third()
		s.must(s.Primary.PowerOff())
		for n := range rounds {
			winner := s.race(checks{s.Standby: withVIP, s.Second: withVIP, third: withVIP})
			s.wantTakeoverMails(n + 1)
			for _, h := range []*lab.Host{s.Standby, s.Second, third} {
				if h == winner {
					s.check(h, withVIP...).want(t, state.Holding)
				} else {
					s.check(h, withVIP...).want(t, state.Elsewhere)
				}
			}
			s.wantOnly(winner, third)
			s.forget()
			s.run(third, "sh", "-c", "rm -f /var/lib/pingover/web.json; ip addr del 172.16.0.1/32 dev eth0 2>/dev/null; :")
		}
	})
}

func TestThreeStandbys(t *testing.T) {
	s := newScene(t)
	args := append(slices.Clone(withVIP), "--rise", "2")
	third := s.third()
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	for range 2 {
		for _, h := range []*lab.Host{s.Second, third} {
			s.check(h, args...).want(t, state.Elsewhere).because(t, "172.16.0.2 does not reply, and another standby serves 172.16.0.1")
		}
	}
	s.wantOnly(s.Standby, third)

	// The primary is back, without the address: the standby serves.
	s.backWithout(vip4, vip6)
	for range 3 {
		s.check(s.Standby, args...).want(t, state.Holding).because(t, answers)
		for _, h := range []*lab.Host{s.Second, third} {
			s.check(h, args...).want(t, state.OK).because(t, "172.16.0.2 replies")
		}
	}
	const back = "[pingover] web: 172.16.0.2 is up again, standby still holds 172.16.0.1"
	other, over := elsewhere(s.Standby.MAC().String()), "[pingover] web: RESOLVED: 172.16.0.2 is up again"
	s.mail.want(t, tookOver, other, other, back, over, over)

	// The holder goes down: no host serves, and none takes anything from a primary
	// that replies.
	s.must(s.Standby.PowerOff())
	for _, h := range []*lab.Host{s.Second, third} {
		s.check(h, args...).want(t, state.OK)
		for range 2 {
			s.check(h, args...).want(t, state.Unserved).because(t, "172.16.0.2 replies, but no machine has 172.16.0.1")
		}
	}
	const unserved = "[pingover] web: PROBLEM: 172.16.0.1 unassigned, while 172.16.0.2 is up"
	s.mail.want(t, tookOver, other, other, back, over, over, unserved, unserved)
	s.wantOnly(nil, third)

	// The primary dies: one of them takes over. That one dies: so does the last.
	s.must(s.Primary.PowerOff())
	holder := s.race(checks{s.Second: args, third: args})
	s.wantOnly(holder, third)
	s.must(holder.PowerOff())
	last := third
	if holder == third {
		last = s.Second
	}
	s.check(last, args...).want(t, state.TookOver)
	s.wantOnly(last, third)

	// Those that died come back, and find it served.
	s.must(s.Standby.PowerOn())
	s.must(holder.PowerOn())
	for _, h := range []*lab.Host{s.Standby, holder} {
		s.check(h, args...).want(t, state.Elsewhere)
	}
	s.check(last, args...).want(t, state.Holding)
	s.wantOnly(last, third)
}

// The third watches only the holder, after two of which one watches the
// other.
func TestChainOfStandbys(t *testing.T) {
	s := newScene(t)
	third := s.third()
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.check(s.Second, withVIP...).want(t, state.OK)
	s.check(third, watchVIP...).want(t, state.OK)

	// Those that watch the primary are in time: the third notices nothing.
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	s.check(third, watchVIP...).want(t, state.OK).because(t, "172.16.0.1 replies")
	s.check(s.Second, withVIP...).want(t, state.Elsewhere)
	s.wantOnly(s.Standby, third)

	// All of them find it down in the same moment.
	s.must(s.Standby.PowerOff())
	holder := s.race(checks{s.Second: withVIP, third: watchVIP})
	s.wantOnly(holder, third)

	// The third is the last.
	if holder != third {
		s.must(holder.PowerOff())
		s.check(third, watchVIP...).want(t, state.TookOver)
		s.must(holder.PowerOn())
	}
	s.must(s.Standby.PowerOn())
	for range 2 {
		s.check(third, watchVIP...).want(t, state.Holding).because(t, ownAnswer)
		s.check(s.Standby, withVIP...).want(t, state.Elsewhere)
		s.check(s.Second, withVIP...).want(t, state.Elsewhere)
	}
	s.wantOnly(third, third)

	// The primary is back, with its addresses.
	view := s.watchFrom(vip4)
	s.must(s.Primary.PowerOn())
	back := time.Now()
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.check(third, watchVIP...).want(t, state.Released).because(t, "172.16.0.1 is also assigned at 02:00:00:00:00:02, another machine: it is released here")
	view.follows(s.Primary, back)
	s.check(third, watchVIP...).want(t, state.OK)
	s.wantOnly(s.Primary, third)
}

// What the scenes of pairs and chains have in common.

// third is one more standby, whose MAC is the highest.
func (s *scene) third() *lab.Host {
	s.t.Helper()
	h, err := s.Add("third", "172.16.0.6/16", "2001:db8::6/64")
	s.must(err)
	return h
}

// checks are the settings with which each host checks.
type checks map[*lab.Host][]string

// race has all check in the same moment, and returns the one that took over.
// The others found that out in time, or yielded.
func (s *scene) race(all checks) (winner *lab.Host) {
	s.t.Helper()
	runs := map[*lab.Host]*running{}
	for h, args := range all { // in no order
		runs[h] = s.follow(h, args...)
	}
	var ends []string
	for h, run := range runs {
		e := run.wait()
		ends = append(ends, fmt.Sprintf("%s after %s: %s: %s", h.Name(), e.took.Round(time.Millisecond), e.Outcome, e.Reason))
		if _, first, ok := strings.Cut(e.stderr, "waiting 3s: "); ok && first > h.MAC().String() {
			defer s.t.Errorf("%s let a higher MAC go first:\n%s", h.Name(), e.stderr)
		}
		switch e.Outcome {
		case state.TookOver:
			if winner != nil {
				defer s.t.Errorf("%s took over as well", h.Name())
			}
			winner = h
		case state.Elsewhere, state.Blocked, state.OK:
		default:
			defer s.t.Errorf("outcome %q", e.Outcome)
		}
	}
	s.t.Logf("in the same moment:\n%s", strings.Join(ends, "\n"))
	if winner == nil {
		s.t.Fatal("no host took over")
	}
	for h := range all {
		s.wantHeld(h, vip4, count(h == winner))
	}
	return winner
}

// wantOnly fails the test unless one host has the virtual IP, or none, the
// third standby included.
func (s *scene) wantOnly(holder, third *lab.Host) {
	s.t.Helper()
	s.wantOn(vip4, holder)
	if _, err := third.Run("true"); err == nil { // its power is on
		s.wantHeld(third, vip4, count(holder == third))
	}
}

// otherThan is the other of the two standbys.
func (s *scene) otherThan(h *lab.Host) *lab.Host {
	if h == s.Standby {
		return s.Second
	}
	return s.Standby
}
