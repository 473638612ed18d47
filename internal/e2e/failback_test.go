package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"pingover/internal/lab"
	"pingover/state"
)

// What a standby that holds the address does when the primary is back, or
// when it is isolated itself.

// failback are settings under which two good checks of the primary are enough
// to hand over.
var failback = append(slices.Clone(withVIP), "--failback", "auto", "--rise", "2")

const (
	handedOver  = "172.16.0.2 has replied in 2 checks in a row: 172.16.0.1 is handed over"
	answers     = "holding 172.16.0.1; 172.16.0.2 replies again"
	tookNothing = "[pingover] web: PROBLEM: no machine took 172.16.0.1, standby holds it again"
)

func TestFailback(t *testing.T) {
	s := newScene(t)
	s.returned(failback...)
	s.takesWhenFree(s.Primary, vip4)
	heard := s.sniff(s.Client)
	own := s.watchFrom(s.Primary.Addr4())
	view := s.watchFrom(vip4)
	tenure := s.tenure(vip4, s.Standby, s.Primary)
	stays := s.staysAtItsPort(s.Primary)

	s.check(s.Standby, failback...).want(t, state.Holding).because(t, answers)
	e := s.check(s.Standby, failback...).want(t, state.Released).because(t, handedOver)
	s.wantCommands(e, "ip addr del 172.16.0.1/32 dev eth0")
	s.wantOn(vip4, s.Primary)
	served := tenure.got(s.Primary)
	first := view.follows(s.Primary, served)
	time.Sleep(200 * time.Millisecond)
	own.Stop()
	stays()
	t.Logf("it was unassigned for %s; the client was without it for %s, and without the primary's own address for %s; first answer %s after the primary had it",
		tenure.vacant(), view.Gap(), own.Gap(), first.Sub(served))
	if first.Sub(served) > 3*time.Second || view.Gap() > 8*time.Second {
		t.Errorf("the client could not reach it for %s, and for %s after the primary had it", view.Gap(), first.Sub(served))
	}
	if own.Gap() > time.Second {
		t.Errorf("the client could not reach the primary by its own address for %s", own.Gap())
	}
	s.wantOnBehalf(heard, s.Standby, s.Primary, served)

	s.check(s.Standby, failback...).want(t, state.OK).because(t, "172.16.0.2 replies")
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, tookOver, released)
	s.wantReply(released, tookOver)
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

func TestFailbackThatNobodyTakes(t *testing.T) {
	s := newScene(t)
	s.returned(failback...)
	view := s.watchFrom(vip4)
	s.check(s.Standby, failback...).want(t, state.Holding).because(t, answers)
	e := s.check(s.Standby, failback...).want(t, state.Holding).
		because(t, handedOver+"; nobody took 172.16.0.1 within 10s: assigned here again")
	s.wantCommands(e, "ip addr del 172.16.0.1/32 dev eth0", "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
	s.wantOn(vip4, s.Standby)
	view.follows(s.Standby, time.Now().Add(-10*time.Millisecond))
	t.Logf("the client was without it for %s", view.Gap())
	if gap := view.Gap(); gap < 9*time.Second || gap > 20*time.Second {
		t.Errorf("the client could not reach it for %s, want about 10s", gap)
	}
	s.mail.want(t, tookOver, tookNothing)[1].says(t, "So standby has assigned it again.")
	s.wantReply(tookNothing, tookOver)

	for range 3 {
		e := s.check(s.Standby, failback...).want(t, state.Holding).because(t, answers)
		if len(e.Commands) > 0 || e.Changed {
			t.Errorf("it was tried again: %s", e.stdout)
		}
	}
	s.mail.want(t, tookOver, tookNothing)
	s.wantWrittenDown(state.Active, state.TookOver, state.Holding)

	// Down once, and up again: it is tried again.
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, failback...).want(t, state.Holding)
	s.backWithout(vip4, vip6)
	s.takesWhenFree(s.Primary, vip4)
	s.check(s.Standby, failback...).want(t, state.Holding)
	s.check(s.Standby, failback...).want(t, state.Released).because(t, handedOver)
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, tookOver, tookNothing, released)
	s.wantWrittenDown(state.Standby, state.TookOver, state.Holding, state.Released)
}

// Whatever the moment at which it is killed: two checks later one machine has
// the address, and the mail about the result has come.
func TestKilledInAHandOver(t *testing.T) {
	type kill struct {
		taken bool
		after time.Duration
	}
	var kills []kill
	for _, after := range []time.Duration{700, 1100, 1500, 1900, 2700} {
		kills = append(kills, kill{true, after * time.Millisecond})
	}
	for _, after := range []time.Duration{1000, 1600, 6000, 10700, 11500} {
		kills = append(kills, kill{false, after * time.Millisecond})
	}
	share(t, some(kills, 3), func(k kill) string {
		if k.taken {
			return fmt.Sprintf("about %s after its begin, and the primary takes it", k.after)
		}
		return fmt.Sprintf("about %s after its begin, and no host takes it", k.after)
	}, func(t *testing.T, k kill) {
		s := side(t)
		s.returned(failback...)
		s.check(s.Standby, failback...).want(t, state.Holding)
		holder, last, email := s.Standby, state.Holding, tookNothing
		if k.taken {
			s.takesWhenFree(s.Primary, vip4)
			holder, last, email = s.Primary, state.OK, released
		}
		check := s.follow(s.Standby, failback...)
		after := k.after + rand.N(400*time.Millisecond)
		time.Sleep(after)
		_ = check.cmd.Process.Kill() // it may have ended
		check.wait()
		found := s.record(s.Standby).Role
		first := s.check(s.Standby, failback...)
		second := s.check(s.Standby, failback...).want(t, last)
		t.Logf("killed after %s, role %q; then %s: %s; then %s", after, found, first.Outcome, first.Reason, second.Outcome)
		switch first.Outcome {
		case state.Released, state.OK:
			if !k.taken {
				t.Errorf("outcome %q: %s", first.Outcome, first.Reason)
			}
		case state.Holding:
			if k.taken {
				t.Errorf("outcome %q: %s", first.Outcome, first.Reason)
			}
		default:
			t.Errorf("outcome %q: %s", first.Outcome, first.Reason)
		}
		s.wantOn(vip4, holder)
		for _, subject := range []string{tookOver, email} {
			ids, copies := map[string]bool{}, 0
			for _, l := range s.mail.all() {
				if l.subject == subject {
					ids[l.id] = true
					copies++
				}
			}
			if len(ids) != 1 || copies > 2 {
				t.Errorf("the email %q has come %d times, with %d ids", subject, copies, len(ids))
			}
		}
		rec := s.record(s.Standby)
		if rec.Pending != nil || len(rec.Outbox) > 0 || len(rec.Recent) != 2 {
			t.Errorf("intent %v, emails %v, history %+v", rec.Pending, rec.Outbox, rec.Recent)
		}
		s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
	})
}

func TestPrimaryIsBackIsMailedOnce(t *testing.T) {
	const back = "[pingover] web: 172.16.0.2 is up again, standby still holds 172.16.0.1"
	s := newScene(t)
	args := append(slices.Clone(withVIP), "--rise", "2")
	s.returned(args...)
	s.check(s.Standby, args...).want(t, state.Holding).because(t, answers)
	s.mail.want(t, tookOver)
	for range 4 {
		e := s.check(s.Standby, args...).want(t, state.Holding).because(t, answers)
		if len(e.Commands) > 0 {
			t.Errorf("commands: %s", e.stdout)
		}
		s.mail.want(t, tookOver, back)
	}
	s.wantOn(vip4, s.Standby)
	s.wantReply(back, tookOver)

	// It brings the address up itself, without an announcement.
	heard := s.sniff(s.Client)
	own := s.watchFrom(s.Primary.Addr4())
	view := s.watchFrom(vip4)
	s.run(s.Primary, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	stays := s.staysAtItsPort(s.Primary)
	s.check(s.Standby, args...).want(t, state.Released).
		because(t, "the primary has 172.16.0.1 again (02:00:00:00:00:02): it is released here")
	view.follows(s.Primary, time.Now())
	own.Stop()
	stays()
	t.Logf("the client was without it for %s, and without the primary's own address for %s", view.Gap(), own.Gap())
	if view.Gap() > 5*time.Second || own.Gap() > time.Second {
		t.Errorf("the client could not reach it for %s, and the primary's own address for %s", view.Gap(), own.Gap())
	}
	s.wantOnBehalf(heard, s.Standby, s.Primary, time.Time{})
	s.wantOn(vip4, s.Primary)
	s.check(s.Standby, args...).want(t, state.OK)
	s.mail.want(t, tookOver, back, released)
}

// The standby that holds the address is isolated, and nothing is left to tell
// it that another has taken over.
func TestIsolatedStandby(t *testing.T) {
	const gaveUp = "no witness has replied in two checks in a row, and 172.16.0.2 does not reply: this machine is isolated, and releases 172.16.0.1"
	type cut struct {
		name     string
		isolated string
		carrier  bool
		other    bool // takes over meanwhile
	}
	share(t, []cut{
		{"release, the carrier stays", "release", true, false},
		{"release, the carrier stays, another standby takes over", "release", true, true},
		{"release, the carrier goes", "release", false, false},
		{"release, the carrier goes, another standby takes over", "release", false, true},
		{"hold, the carrier stays", "hold", true, false},
		{"hold, the carrier goes", "hold", false, false},
	}, func(c cut) string { return c.name }, func(t *testing.T, c cut) {
		s := side(t)
		args := append(slices.Clone(withVIP), "--isolated", c.isolated)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, args...).want(t, state.TookOver)
		s.must(s.Standby.Unplug(c.carrier))
		reason := "holding 172.16.0.1; 172.16.0.2 does not reply"
		if !c.carrier {
			reason = `holding 172.16.0.1; 172.16.0.2 could not be asked: interface "eth0" has no carrier: is the cable in?`
		}
		s.check(s.Standby, args...).want(t, state.Holding).because(t, reason)
		if c.other {
			s.check(s.Second, args...).want(t, state.TookOver)
			s.wantOn(vip4, s.Standby, s.Second)
		}
		if c.isolated == "hold" {
			for range 3 {
				s.check(s.Standby, args...).want(t, state.Holding).because(t, reason)
			}
			s.must(s.Standby.Plug())
			s.check(s.Standby, args...).want(t, state.Holding).because(t, "holding 172.16.0.1; 172.16.0.2 does not reply")
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver, isolated)
			return
		}

		e := s.check(s.Standby, args...).want(t, state.Released).because(t, gaveUp)
		s.wantCommands(e, "ip addr del 172.16.0.1/32 dev eth0")
		if e.MailWaiting != 1 {
			t.Errorf("%d emails pending, want 1", e.MailWaiting)
		}
		s.wantHeld(s.Standby, vip4, 0)
		s.must(s.Standby.Plug())
		if c.other {
			s.check(s.Standby, args...).want(t, state.Elsewhere)
			s.wantOn(vip4, s.Second)
			s.mail.want(t, tookOver, tookOver4("second"), released, elsewhere(s.Second.MAC().String()))
			return
		}
		s.check(s.Standby, args...).want(t, state.TookOver).because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
		s.wantOn(vip4, s.Standby)
		s.mail.want(t, tookOver, released, tookOver)
		s.wantWrittenDown(state.Active, state.TookOver, state.Released, state.TookOver)
	})
}

// What the scenes of failback have in common.

// returned makes Standby take over from a primary that then comes back without
// its virtual IPs.
func (s *scene) returned(args ...string) {
	s.t.Helper()
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(s.t, state.TookOver)
	s.backWithout(vip4, vip6)
}

// backWithout switches the primary on. Its virtual IPs are gone before any host
// has asked for them.
func (s *scene) backWithout(addrs ...netip.Addr) {
	s.t.Helper()
	s.must(s.Primary.PowerOn())
	for _, a := range addrs {
		s.run(s.Primary, "ip", "addr", "del", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0")
	}
}

// takesWhenFree makes a host add an address once it has not been in use
// for a while, as a script over there would.
func (s *scene) takesWhenFree(h *lab.Host, a netip.Addr) {
	s.t.Helper()
	const every, questions = 50 * time.Millisecond, 6
	w := s.wire(h, a)
	end := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for silent := 0; silent < questions; silent++ {
			asked := time.Now()
			if err := w.Ask(a, h.Addr4()); err != nil {
				s.t.Error(err)
				return
			}
			select {
			case <-end:
				return
			case <-time.After(every):
			}
			for _, heard := range w.Replies(asked) {
				if heard.Address == a && !heard.Probe {
					silent = -1
				}
			}
		}
		if _, err := h.Run("ip", "addr", "add", netip.PrefixFrom(a, a.BitLen()).String(), "dev", "eth0"); err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(func() {
		close(end)
		asking.Wait()
	})
}

// tenure is the history of an address, by the kernels of some hosts.
type tenure struct {
	s      *scene
	mu     sync.Mutex
	had    map[*lab.Host]bool
	since  time.Time // it has been unassigned; zero: it is assigned
	longer time.Duration
	added  map[*lab.Host]time.Time
	gone   map[*lab.Host]time.Time
}

// tenure follows the address until the test ends.
func (s *scene) tenure(a netip.Addr, hosts ...*lab.Host) *tenure {
	s.t.Helper()
	n := &tenure{s: s, had: map[*lab.Host]bool{}, added: map[*lab.Host]time.Time{}, gone: map[*lab.Host]time.Time{}}
	n.mu.Lock() // until its first state is known
	defer n.mu.Unlock()
	for _, h := range hosts {
		updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
		s.must(h.Do(func() error { return netlink.AddrSubscribe(updates, done) }))
		s.t.Cleanup(func() { close(done) })
		n.had[h] = s.held(h, a) > 0
		go func() {
			for u := range updates {
				if got, _ := netip.AddrFromSlice(u.LinkAddress.IP); got.Unmap() == a {
					n.note(h, u.NewAddr)
				}
			}
		}()
	}
	return n
}

func (n *tenure) note(h *lab.Host, has bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch {
	case has && !n.had[h]:
		n.added[h] = now
	case !has && n.had[h]:
		n.gone[h] = now
	}
	n.had[h] = has
	vacant := true
	for _, has := range n.had {
		vacant = vacant && !has
	}
	switch {
	case vacant && n.since.IsZero():
		n.since = now
	case !vacant && !n.since.IsZero():
		n.longer, n.since = max(n.longer, now.Sub(n.since)), time.Time{}
	}
}

// vacant is the longest time so far that it was unassigned.
func (n *tenure) vacant() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.since.IsZero() {
		return max(n.longer, time.Since(n.since))
	}
	return n.longer
}

// got is when a host added it the last time, and lasted for how long it had
// it then.
func (n *tenure) got(h *lab.Host) time.Time { return n.when(n.added, h, "got") }

func (n *tenure) lasted(h *lab.Host) time.Duration {
	n.s.t.Helper()
	return n.when(n.gone, h, "lost").Sub(n.got(h))
}

func (n *tenure) when(times map[*lab.Host]time.Time, h *lab.Host, did string) time.Time {
	n.s.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if times[h].IsZero() {
		n.s.t.Fatalf("%s never %s it", h.Name(), did)
	}
	return times[h]
}

// staysAtItsPort asks again and again where the switch sends frames for
// a host; what it returns fails the test when that was ever anywhere else.
func (s *scene) staysAtItsPort(h *lab.Host) (compare func()) {
	s.t.Helper()
	end := make(chan struct{})
	elsewhere, tries := map[string]int{}, 0
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			there, err := s.PortOf(h.MAC())
			switch {
			case err != nil:
				s.t.Error(err)
				return
			case there == nil:
				elsewhere["every port"]++
			case there != h:
				elsewhere[there.Name()]++
			}
			tries++
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	stop := sync.OnceFunc(func() {
		close(end)
		looking.Wait()
	})
	s.t.Cleanup(stop) // before the lab is closed
	return sync.OnceFunc(func() {
		s.t.Helper()
		stop()
		if len(elsewhere) > 0 {
			s.t.Errorf("in %d tries the switch sent frames for %s to %v", tries, h.Name(), elsewhere)
		}
	})
}

// wantOnBehalf fails the test unless one host has announced, often enough,
// that the virtual IP is at another, in frames of its own, and
// nothing else about it since then.
func (s *scene) wantOnBehalf(heard *sniffer, by, of *lab.Host, since time.Time) {
	s.t.Helper()
	n := 0
	for _, f := range heard.announcements(vip4) {
		switch {
		case f.source == of.MAC().String():
			s.t.Errorf("what %s says itself, or seems to: %v", of.Name(), f)
		case f.source == by.MAC().String() && f.mac == of.MAC().String():
			n++
		case f.source == by.MAC().String() && f.at.After(since) && !since.IsZero():
			s.t.Errorf("announced: %v", f)
		}
	}
	if n != 4 { // a request and a reply, twice
		s.t.Errorf("%d frames say that %s has it, want 4: %v", n, of.Name(), heard.announcements(vip4))
	}
}
