package e2e

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// An alias with a lease: the kernel removes it when it is not renewed.

// The shortest lease that the hasty settings allow is twice 12.7 s: one of
// their rounds, and the wait for a conflicting host.
var leased = append(slices.Clone(withVIP), "--lease", "26s")

const leaseOf = 26 * time.Second

func TestLeaseRunsOutWhenTheRunsStop(t *testing.T) {
	type end struct {
		name string
		then state.Outcome
	}
	share(t, []end{
		{"it is unassigned meanwhile", state.TookOver},
		{"another standby takes it", state.Elsewhere},
		{"the primary comes back with it", state.OK},
	}, func(e end) string { return e.name }, func(t *testing.T, end end) {
		s := side(t)
		args := append(slices.Clone(leased), "--vip", "2001:db8::1")
		took := func(host string) string {
			return "[pingover] web: 172.16.0.2 is down! " + host + " took over 172.16.0.1 and 2001:db8::1"
		}
		const lost = "[pingover] web: PROBLEM: 172.16.0.1 and 2001:db8::1 were removed from standby, not by pingover"
		s.must(s.Primary.PowerOff())
		tenure4, tenure6 := s.tenure(vip4, s.Standby), s.tenure(vip6, s.Standby)
		e := s.check(s.Standby, args...).want(t, state.TookOver)
		s.wantCommands(e, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 26 preferred_lft 26",
			"ip -6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft 26 preferred_lft 0")
		s.wantLabel(s.Standby, vip4, "eth0:1")
		for range 600 {
			if time.Sleep(100 * time.Millisecond); s.held(s.Standby, vip4)+s.held(s.Standby, vip6) == 0 {
				break
			}
		}
		s.wantOn(vip4)
		s.wantOn(vip6)
		s.wantOn(s.Standby.Addr4(), s.Standby)
		s.wantOn(s.Standby.Addr6(), s.Standby)
		for _, n := range []*tenure{tenure4, tenure6} {
			d := n.lasted(s.Standby)
			t.Logf("it was assigned for %s", d.Round(time.Millisecond))
			if d < leaseOf-time.Second || d > leaseOf+10*time.Second {
				t.Errorf("it was assigned for %s, want %s", d, leaseOf)
			}
		}
		s.mail.want(t, took("standby"))

		switch end.then {
		case state.Elsewhere:
			s.check(s.Second, args...).want(t, state.TookOver)
		case state.OK:
			s.must(s.Primary.PowerOn())
		}
		e = s.check(s.Standby, args...).want(t, end.then)
		want := []string{took("standby"), lost}
		switch end.then {
		case state.TookOver:
			e.because(t, "172.16.0.2 does not reply, and 172.16.0.1, 2001:db8::1 are not in use")
			if len(e.Rounds) != 2 || len(e.Witnesses) != 1 || !e.Witnesses[0].Answers {
				t.Errorf("it was not looked at in full: %s", e.stdout)
			}
			s.wantOn(vip4, s.Standby)
			want = append(want, took("standby"))
		case state.Elsewhere:
			s.wantOn(vip4, s.Second)
			want = append(want, took("second"), strings.Replace(elsewhere(s.Second.MAC().String()), "172.16.0.1", "172.16.0.1 and 2001:db8::1", 1))
		case state.OK:
			s.wantOn(vip4, s.Primary)
		}
		s.mail.want(t, want...)
		for _, l := range s.mail.all() {
			if l.subject == lost {
				l.says(t, "the lease of 172.16.0.1, 2001:db8::1 ran out at "+time.Now().UTC().Format("2006-01-02T"))
			}
		}
	})
}

// Each run renews it: during a pause, without a cable, and while the primary
// replies.
func TestLeaseIsRenewedByTheRuns(t *testing.T) {
	s := newScene(t)
	args := append(slices.Clone(leased), "--vip", "2001:db8::1")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	tenure, tenure6 := s.tenure(vip4, s.Standby), s.tenure(vip6, s.Standby)
	view := s.watchFrom(vip4)
	var cut time.Duration
	least, began, runs := leaseOf, time.Now(), 0
	for ; runs < 16 || time.Since(began) < leaseOf+6*time.Second; runs++ {
		switch runs {
		case 4:
			s.pause(s.Standby)
		case 8:
			s.run(s.Standby, "rm", "/var/lib/pingover/web.pause")
			s.must(s.Standby.Unplug(false))
			cut -= time.Since(began)
		case 12:
			s.must(s.Standby.Plug())
			cut += time.Since(began)
			s.backWithout(vip4, vip6)
		}
		for _, a := range []netip.Addr{vip4, vip6} {
			least = min(least, s.lease(s.Standby, a))
		}
		s.check(s.Standby, args...).want(t, state.Holding)
		for _, a := range []netip.Addr{vip4, vip6} {
			if left := s.lease(s.Standby, a); left < leaseOf-10*time.Second || left > leaseOf {
				t.Errorf("run %d: %s is assigned for another %s", runs, a, left)
			}
		}
		time.Sleep(time.Second)
	}
	view.Stop()
	t.Logf("%d runs in %s, the least that was left was %s; the longest gap of the client is %s, the cable was out for %s",
		runs, time.Since(began).Round(time.Second), least, view.Gap().Round(time.Millisecond), cut.Round(time.Millisecond))
	if gone := max(tenure.vacant(), tenure6.vacant()); gone > 0 {
		t.Errorf("it was gone for %s", gone)
	}
	if gap := view.Gap(); gap > cut+5*time.Second {
		t.Errorf("the client could not reach it for %s", gap)
	}
	s.wantLabel(s.Standby, vip4, "eth0:1")
	s.wantOn(vip6, s.Standby)
}

func TestLeaseThatIsSetAndRemovedWhileHolding(t *testing.T) {
	s := newScene(t)
	unleased := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	args := append(slices.Clone(leased), "--vip", "2001:db8::1")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, unleased...).want(t, state.TookOver)
	tenure, tenure6 := s.tenure(vip4, s.Standby), s.tenure(vip6, s.Standby)
	assigned := func(least, most time.Duration) {
		t.Helper()
		for _, a := range []netip.Addr{vip4, vip6} {
			if left := s.lease(s.Standby, a); left < least || left > most {
				t.Errorf("%s is assigned for another %s, want %s to %s", a, left, least, most)
			}
			s.wantOn(a, s.Standby)
		}
		s.wantLabel(s.Standby, vip4, "eth0:1")
	}
	const forever = time.Duration(math.MaxInt64)
	assigned(forever, forever)
	for range 2 {
		e := s.check(s.Standby, args...).want(t, state.Holding)
		s.wantCommands(e, "ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 26 preferred_lft 26",
			"ip -6 addr replace 2001:db8::1/128 dev eth0 nodad valid_lft 26 preferred_lft 0")
		assigned(leaseOf-10*time.Second, leaseOf)
	}
	e := s.check(s.Standby, unleased...).want(t, state.Holding)
	s.wantCommands(e, "ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft forever preferred_lft forever",
		"ip -6 addr replace 2001:db8::1/128 dev eth0 nodad valid_lft forever preferred_lft 0")
	assigned(forever, forever)
	s.wantCommands(s.check(s.Standby, unleased...).want(t, state.Holding))
	if gone := max(tenure.vacant(), tenure6.vacant()); gone > 0 {
		t.Errorf("it was gone for %s", gone)
	}
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1 and 2001:db8::1")
}

// An address that was added manually never gets an end.
func TestLeaseOfAManuallyAddedAddress(t *testing.T) {
	s := newScene(t)
	s.returned(leased...)
	s.run(s.Standby, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
	s.check(s.Standby, leased...).want(t, state.OK)
	s.run(s.Standby, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	for range 2 {
		e := s.check(s.Standby, leased...).want(t, state.Holding)
		s.wantCommands(e)
	}
	if left := s.lease(s.Standby, vip4); left != math.MaxInt64 {
		t.Errorf("it is assigned for another %s", left)
	}
}

func TestLeaseThatCannotBe(t *testing.T) {
	type refusal struct {
		name    string
		args    []string
		busybox bool
		code    int
		says    string
	}
	share(t, []refusal{
		{
			"busybox ip", leased, true, 78,
			`pingover: web: lease "26s": BUSYBOX/ip is part of busybox, and a lease needs the ip of iproute2 (Debian package iproute2)`,
		},
		{
			"ifconfig", set(leased, "--tool", "ifconfig"), false, 64,
			`pingover: --lease "26s": needs ip of iproute2, but the tool is ifconfig`,
		},
		{
			"shorter than two looks", set(leased, "--lease", "25s"), false, 64,
			`pingover: --lease "25s": shorter than twice the longest check, 25.4s; increase it, or decrease count, interval, timeout or retry-wait`,
		},
		{
			"longer than a day", set(leased, "--lease", "25h"), false, 64, `pingover: --lease "25h": out of range (0, or 1s to 1d)`,
		},
	}, func(r refusal) string { return r.name }, func(t *testing.T, r refusal) {
		s := side(t)
		if r.busybox {
			r.says = strings.Replace(r.says, "BUSYBOX", s.busybox("ip"), 1)
		}
		untouched := s.untouched(s.Standby)
		heard := s.sniff(s.Primary)
		e := s.say(s.Standby, r.args...)
		if e.code != r.code || e.stdout != "" || strings.TrimSpace(e.stderr) != r.says {
			t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant   %d and %s", e.code, e.stdout, e.stderr, r.code, r.says)
		}
		if e.took > 5*time.Second {
			t.Errorf("it took %s", e.took)
		}
		for _, f := range heard.all() {
			if f.source == s.Standby.MAC().String() {
				t.Errorf("it asked before it was refused: %v", f)
			}
		}
		untouched()
		s.mail.want(t)
	})
}

// lease is the remaining lifetime of an address in a host's kernel.
func (s *scene) lease(h *lab.Host, a netip.Addr) time.Duration {
	s.t.Helper()
	var links []struct {
		Addresses []struct {
			Local string
			Valid int64 `json:"valid_life_time"`
		} `json:"addr_info"`
	}
	s.must(json.Unmarshal([]byte(s.run(h, "ip", "-json", "addr", "show", "to", a.String())), &links))
	for _, link := range links {
		for _, address := range link.Addresses {
			switch {
			case address.Local == "": // ip shows the others as empty
				continue
			case address.Valid == math.MaxUint32:
				return math.MaxInt64
			}
			return time.Duration(address.Valid) * time.Second
		}
	}
	s.t.Fatalf("%s does not stand on %s", a, h.Name())
	return 0
}
