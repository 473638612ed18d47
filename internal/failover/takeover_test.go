package failover

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// TestOrderOfATakeover: the intent is on the disk before the tool runs, and
// the result with its message before the message leaves.
func TestOrderOfATakeover(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		var log []string
		say := func(format string, args ...any) {
			log = append(log, fmt.Sprintf("%-7v ", time.Since(s.began))+fmt.Sprintf(format, args...))
		}
		disk := func() string {
			rec := s.standby.record(t, "web")
			pending := ""
			if rec.Pending != nil {
				pending = ", meaning " + string(rec.Pending.Outcome)
			}
			return fmt.Sprintf("the record says %s%s, %d changes, %d messages", rec.Role, pending, len(rec.Recent), len(rec.Outbox))
		}
		s.standby.raising = func(context.Context, vip.Alias) error {
			say("raise: %s", disk())
			return nil
		}
		env := s.standby.env()
		deliver := env.Deliver
		env.Deliver = func(ctx context.Context, l []state.Message) ([]state.Message, error) {
			say("deliver: %s", disk())
			return deliver(ctx, l)
		}
		s.settings.StateDir = s.standby.dir
		report, err := CheckIn(t.Context(), env, s.settings, Options{OnEvent: func(e any) {
			switch e := e.(type) {
			case run.RoundBegan:
				say("round %d begins", e.N)
			case run.RoundEnded:
				say("round %d: %s", e.N, e.Round.Verdict)
			case run.Waiting:
				say("wait %v %s", e.For, e.Why)
			case observe.Guarded:
				say("guards: %d witnesses, %d holders", len(e.Witnesses), len(e.Holders))
			case Decided:
				say("rule %d: %s", e.Decision.Rule, e.Decision.Outcome)
			case run.Ran:
				say("ran %s", strings.Join(e.Command.Argv, " "))
			case Announced:
				say("announced %s at %s", e.Address, e.MAC)
			case run.Delivered:
				say("delivered %d, %d wait", e.Sent, e.Waiting)
			case run.Note:
				say("noted %s", e.Text)
			}
		}})
		must(t, err)
		say("end: %s, %s", report.Outcome, disk())

		want := []string{
			"0s      round 1 begins",
			"13s     round 1: down",
			"13s     wait 20s before the second round",
			"33s     round 2 begins",
			"46s     round 2: down",
			"46s     guards: 1 witnesses, 0 holders",
			"46s     rule 14: took-over",
			"46s     raise: the record says taking, meaning took-over, 0 changes, 0 messages",
			"46s     ran ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
			"46s     announced 172.16.0.1 at 02:00:00:00:00:03",
			"47.1s   announced 172.16.0.1 at 02:00:00:00:00:03",
			"48.2s   announced 172.16.0.1 at 02:00:00:00:00:03",
			"49.3s   deliver: the record says active, 1 changes, 1 messages",
			"49.3s   delivered 1, 0 wait",
			"49.3s   end: took-over, the record says active, 1 changes, 0 messages",
		}
		if diff := cmp.Diff(want, log); diff != "" {
			t.Errorf("course of the takeover (-want +got):\n%s", diff)
		}
		if !s.standby.holds(vipAddr) {
			t.Error("172.16.0.1 is not on the standby")
		}
	})
}

// TestProbesOnlyWhereATakeoverMayFollow: an ordinary request never holds
// another standby back, a probe does.
func TestProbesOnlyWhereATakeoverMayFollow(t *testing.T) {
	held := func(s *scene) { s.standby.set("eth0", "172.16.0.1/32") }
	for _, test := range []struct {
		name   string
		change func(s *scene)
		probes bool
	}{
		{"may take over", func(*scene) {}, true},
		{"no witness wanted", func(s *scene) { s.settings.Witness = config.Witness{}; s.gateway.powerOff() }, true},
		{"dry run", func(s *scene) { s.dry = true }, false},
		{"paused", func(s *scene) { s.pause(time.Hour) }, false},
		{"within boot-wait", func(s *scene) { s.standby.booted = s.began }, false},
		{"released manually", func(s *scene) {
			must(s.t, state.Dir(s.standby.dir).Save(&state.Record{
				Head: state.Head{Version: 1, Name: "web"}, Host: "172.16.0.2", Role: state.Standby, ManualRelease: true,
			}, false))
		}, false},
		{"witness silent", func(s *scene) { s.gateway.powerOff() }, false},
		{"no witness was ever found", func(s *scene) { clear(s.standby.gateway) }, false},
		{"holding", held, false},
		{"holding one of two", func(s *scene) { held(s); s.vips("172.16.0.1/32", "172.16.0.5/32") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				test.change(s)
				s.check()
				for _, c := range s.standby.calls {
					if c.At >= 46*time.Second {
						break // after the decision there is nothing to look for
					}
					if strings.HasPrefix(c.What, "ask for 172.16.0.1 on eth0, probe") && !test.probes {
						t.Fatalf("a probe was sent: %v", c)
					}
				}
				if got := len(s.calls("ask for 172.16.0.1 on eth0, probe")) > 0; got != test.probes {
					t.Errorf("probes were sent: %t, want %t", got, test.probes)
				}
				if len(s.calls("ask for 172.16.0.1 on eth0, from 172.16.0.3")) == 0 && !test.probes {
					t.Error("nobody was asked for 172.16.0.1")
				}
			})
		})
	}
}

// pause writes the file that pingover pause writes.
func (s *scene) pause(d time.Duration) {
	s.t.Helper()
	text, err := time.Now().Add(d).UTC().MarshalText()
	must(s.t, err)
	must(s.t, writeFile(s.standby.dir+"/web.pause", text))
}

// TestWhatIsHereIsNotPinged: the kernel would answer itself.
func TestWhatIsHereIsNotPinged(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.standby.set("eth0", "172.16.0.1/32")
		s.ends(state.Holding, "holding 172.16.0.1; 172.16.0.2 does not reply")
		want := []string{"ping 172.16.0.2", "ping 172.16.0.254", "ping 172.16.0.254 #2", "ping 172.16.0.5"}
		got := s.calls("ping")
		got = slices.DeleteFunc(got, func(c string) bool { return c == "may ping" })
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pings (-want +got):\n%s", diff)
		}
	})
}

// TestProbesForIPv6: a probe makes a machine that just brings the address up
// give it up for good. So few are sent, late, and none where an IPv4 probe
// tells other standbys the same.
func TestProbesForIPv6(t *testing.T) {
	for _, test := range []struct {
		name     string
		own      string // address that requests are sent from
		vips     []string
		want     []time.Duration // when probes were sent for 2001:db8::1, since round two began
		commands []string
	}{
		{
			"IPv6 alone", "2001:db8::3",
			[]string{"2001:db8::1/128"},
			[]time.Duration{12900 * time.Millisecond},
			[]string{"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0"},
		},
		{
			"with IPv4 beside it", "2001:db8::3",
			[]string{"172.16.0.1/32", "2001:db8::1/128"},
			nil,
			[]string{
				"ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
				"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0",
			},
		},
		{
			"no IPv6 address to ask from", "",
			[]string{"172.16.0.1/32", "2001:db8::1/128"},
			[]time.Duration{12900 * time.Millisecond, 15200 * time.Millisecond}, // the second for a conflict after the takeover
			[]string{
				"ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
				"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				if test.own != "" {
					s.standby.set("eth0", test.own+"/64")
				}
				s.vips(test.vips...)
				report := s.ends(state.TookOver, "not in use")
				var probes []time.Duration
				for _, c := range s.standby.calls {
					if strings.HasPrefix(c.What, "ask for 2001:db8::1 on eth0, probe") {
						probes = append(probes, c.At-33*time.Second)
					}
				}
				if diff := cmp.Diff(test.want, probes); diff != "" {
					t.Errorf("probes (-want +got):\n%s", diff)
				}
				if asked := s.calls("ask for 2001:db8::1 on eth0, from 2001:db8::3"); test.own != "" && len(asked) < 20 {
					t.Errorf("asked %d times by ordinary neighbour solicitations", len(asked))
				}
				if diff := cmp.Diff(test.commands, commands(report)); diff != "" {
					t.Errorf("commands (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func commands(r Report) (lines []string) {
	for _, c := range r.Commands {
		lines = append(lines, strings.Join(c.Argv, " "))
	}
	return lines
}

// TestNobodyTakesWhatSomebodyHolds plays through who may answer.
func TestNobodyTakesWhatSomebodyHolds(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(s *scene)
		outcome state.Outcome
		reason  string
		holders []state.Holder
	}{
		{
			"the primary drops pings only",
			func(s *scene) { s.primary.noPing = true }, state.Blocked,
			"172.16.0.2 does not reply to pings, but it replies to ARP: it is alive",
			[]state.Holder{{Address: "172.16.0.2", MAC: "02:00:00:00:00:02"}, {Address: "172.16.0.1", MAC: "02:00:00:00:00:02"}},
		},
		{
			"another standby serves",
			func(s *scene) { s.primary.powerOff(); s.add("second", 4, "172.16.0.4/16", "172.16.0.1/32") }, state.Elsewhere,
			"172.16.0.2 does not reply, and another standby serves 172.16.0.1",
			[]state.Holder{{Address: "172.16.0.1", MAC: "02:00:00:00:00:04"}},
		},
		{
			"somebody answers one of two virtual IPs, by ping only",
			func(s *scene) {
				s.primary.powerOff()
				s.add("second", 4, "172.16.0.4/16", "172.16.0.5/32").noARP = true
				s.vips("172.16.0.1/32", "172.16.0.5/32")
			}, state.Blocked,
			"172.16.0.2 does not reply, but 172.16.0.5 is in use",
			[]state.Holder{{Address: "172.16.0.5"}},
		},
		{
			"without duplicate-check a ping is asked all the same",
			func(s *scene) {
				s.primary.powerOff()
				s.add("second", 4, "172.16.0.4/16", "172.16.0.1/32")
				s.settings.DuplicateCheck = false
			}, state.Blocked,
			"172.16.0.2 does not reply, but 172.16.0.1 is in use",
			[]state.Holder{{Address: "172.16.0.1"}},
		},
		{
			"a primary that is not on the link, while its virtual IP is",
			func(s *scene) {
				s.settings.Host = "192.0.2.9"
				s.primary.unset(primaryAddr)
			}, state.Blocked,
			"192.0.2.9 does not reply, but 172.16.0.1 is in use",
			[]state.Holder{{Address: "172.16.0.1", MAC: "02:00:00:00:00:02"}},
		},
		{
			"the primary comes back with the virtual IP in the last second",
			func(s *scene) {
				s.primary.powerOff()
				s.primary.noPing = true
				s.at(45*time.Second, s.primary.boot)
			}, state.Blocked,
			"it replies to ARP: it is alive",
			[]state.Holder{{Address: "172.16.0.2", MAC: "02:00:00:00:00:02"}, {Address: "172.16.0.1", MAC: "02:00:00:00:00:02"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.change(s)
				report := s.ends(test.outcome, test.reason)
				if diff := cmp.Diff(test.holders, report.Holders); diff != "" {
					t.Errorf("holders (-want +got):\n%s", diff)
				}
				if got := s.calls("raise 1"); got != nil {
					t.Errorf("the tool was run: %v", got)
				}
			})
		})
	}
}

// TestPauseInTheMiddleOfRoundTwo is respected.
func TestPauseInTheMiddleOfRoundTwo(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		time.AfterFunc(40*time.Second, func() { s.pause(time.Hour) })
		report := s.ends(state.Blocked, "172.16.0.2 does not reply, but this cluster is paused")
		if !report.Paused || len(s.calls("raise 1")) > 0 {
			t.Errorf("paused %t, raised: %v", report.Paused, s.calls("raise 1"))
		}
	})
}

// TestSeveralVirtualIPs: what could be raised stays up, the rest is tried
// again.
func TestSeveralVirtualIPs(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.standby.fails = failing(fmt.Errorf("ip addr add 172.16.0.1/32: exit code 2: no buffer space"), "raise 172.16.0.1/")
		report := s.ends(state.TakeoverFailed, "172.16.0.1, 172.16.0.5 are not in use; 172.16.0.2 was never seen up from here; failed: ip addr add 172.16.0.1/32: exit code 2: no buffer space")
		if diff := cmp.Diff([]netip.Prefix{netip.MustParsePrefix("172.16.0.5/32")}, report.Held, byValue); diff != "" {
			t.Errorf("held (-want +got):\n%s", diff)
		}
		s.want(s.minute(), state.TakeoverFailed, "assigning 172.16.0.1 as well; failed: ip addr add")
		s.standby.fails = nil
		s.want(s.minute(), state.Holding, "holding 172.16.0.5; 172.16.0.2 does not reply; assigning 172.16.0.1 as well")
		s.want(s.minute(), state.Holding, "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 does not reply")
		want := []string{
			"[pingover] web: PROBLEM: 172.16.0.2 is down! takeover failed: 172.16.0.1 not assigned on HOSTNAME",
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1 and 172.16.0.5",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

// TestARivalAfterATakeover: two standbys raised it in the same moment.
func TestARivalAfterATakeover(t *testing.T) {
	for _, test := range []struct {
		name    string
		mac     byte
		stays   bool
		outcome state.Outcome
		lowered time.Duration // when it was given up
	}{
		{"with the lower MAC: we yield at once", 1, true, state.Blocked, 46*time.Second + 2*latency},
		{"with the higher MAC: it is waited for, and goes", 9, false, state.TookOver, 0},
		{"with the higher MAC: it is waited for, and stays", 9, true, state.Blocked, 56*time.Second + 4*latency},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				peer := s.add("peer", test.mac, "172.16.0.9/16")
				s.standby.raising = func(context.Context, vip.Alias) error {
					s.do(func() { peer.set("eth0", "172.16.0.1/32") })
					return nil
				}
				if !test.stays {
					s.at(50*time.Second, func() { peer.unset(vipAddr) })
				}
				report := s.check()
				reason := "172.16.0.1 is not in use"
				if test.outcome == state.Blocked {
					reason = fmt.Sprintf("172.16.0.1 was taken, but 02:00:00:00:00:%02x has it as well: it is released here", test.mac)
				}
				s.want(report, test.outcome, reason)
				if here := s.standby.holds(vipAddr); here != (test.outcome == state.TookOver) {
					t.Errorf("172.16.0.1 is here: %t", here)
				}
				if lowered := s.when("lower 172.16.0.1"); lowered != test.lowered {
					t.Errorf("given up after %v, want %v", lowered, test.lowered)
				}
				rec := s.standby.record(t, "web")
				if want := map[bool]state.Role{true: state.Standby, false: state.Active}[test.outcome == state.Blocked]; rec.Role != want || rec.Pending != nil {
					t.Errorf("the record says %s, pending %v; want %s", rec.Role, rec.Pending, want)
				}
			})
		})
	}
}

// TestReleaseThatFails is finished by a later run.
func TestReleaseThatFails(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.set("eth0", "172.16.0.1/32")
		s.primary.powerOff()
		s.ends(state.Holding, "")
		s.add("peer", 1, "172.16.0.9/16", "172.16.0.1/32")
		s.standby.fails = failing(fmt.Errorf("ip addr del: exit code 2: not permitted"), "lower")
		s.want(s.minute(), state.ReleaseFailed, "172.16.0.1 is also assigned at 02:00:00:00:00:01, another machine: it is released here; failed: ip addr del: exit code 2: not permitted")
		if rec := s.standby.record(t, "web"); rec.Role != state.Releasing {
			t.Errorf("the record says %s", rec.Role)
		}
		s.want(s.minute(), state.ReleaseFailed, "an interrupted release is finished; failed")
		s.standby.fails = nil
		s.want(s.minute(), state.Released, "an interrupted release is finished")
		if s.standby.holds(vipAddr) {
			t.Error("172.16.0.1 is still here")
		}
		want := []state.Outcome{state.ReleaseFailed, state.ReleaseFailed, state.Released}
		var got []state.Outcome
		for _, c := range s.standby.record(t, "web").Recent {
			got = append(got, c.Outcome)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

// TestATakeoverThatWasInterruptedIsReported: nobody else knows that the clients may
// have been here until a lease ended.
func TestATakeoverThatWasInterruptedIsReported(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Lease = 10 * time.Minute
		s.check()
		rec := s.standby.record(t, "web")
		rec.Intend(state.Taking, state.Change{Event: "20260301T030405Z-AAAAAAAA", Outcome: state.TookOver, Reason: "172.16.0.2 does not reply"})
		must(t, state.Dir(s.standby.dir).Save(rec, false))
		s.standby.mailbox = nil
		s.want(s.minute(), state.OK, "172.16.0.2 replies")
		s.wantSubjects("[pingover] web: PROBLEM: takeover interrupted: 172.16.0.1 not assigned on HOSTNAME")
		rec = s.standby.record(t, "web")
		if c := rec.Recent[len(rec.Recent)-1]; rec.Role != state.Standby || rec.Pending != nil || c.Outcome != state.TakeoverFailed || c.Event != "20260301T030405Z-AAAAAAAA" ||
			c.Reason != "172.16.0.2 does not reply; the check that began the takeover was killed, and nothing is assigned" {
			t.Errorf("%s, %+v", rec.Role, c)
		}
		s.standby.mailbox = nil
		s.want(s.minute(), state.OK, "172.16.0.2 replies")
		s.wantSubjects()
	})
}
