package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
)

// firing are the kinds of the alerts in the record.
func (s *scene) firing() (kinds []string) {
	for _, a := range s.standby.record(s.t, "web").Alerts {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

// wantSubjects compares the mailbox, and empties it.
func (s *scene) wantSubjects(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.subjects()); diff != "" {
		s.t.Errorf("mail (-want +got):\n%s", diff)
	}
	s.standby.mailbox = nil
}

func TestElsewhereIsMailedWhenItBegins(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		s.add("laptop", 13, "172.16.0.9/16", "172.16.0.1/32")
		s.minute()
		s.do(s.primary.powerOff)
		for range 3 {
			s.want(s.minute(), state.Elsewhere, "")
		}
		s.wantSubjects("[pingover] web: 172.16.0.2 is down! another standby (02:00:00:00:00:0d) serves 172.16.0.1")
		s.do(s.primary.boot)
		for range 3 {
			s.minute()
		}
		s.wantSubjects("[pingover] web: RESOLVED: 172.16.0.2 is up again")
	})
}

func TestNotReadyToTakeOver(t *testing.T) {
	t.Parallel()
	gone := errors.New("no such thing")
	for name, c := range map[string]struct {
		breaks, fixes func(s *scene)
		reason        string
	}{
		"the witness is dead": {
			func(s *scene) { s.gateway.powerOff() }, func(s *scene) { s.gateway.boot() },
			"witness 172.16.0.254 does not reply",
		},
		"packet sockets are forbidden": {
			func(s *scene) { s.standby.fails = failing(gone, "listen on ") }, func(s *scene) { s.standby.fails = nil },
			"no such thing",
		},
		"the uptime is hidden": {
			func(s *scene) { s.standby.fails = failing(gone, "uptime") }, func(s *scene) { s.standby.fails = nil },
			"the uptime cannot be read, which boot-wait needs: no such thing",
		},
		"the kernel would not reply to ARP for it": {
			func(s *scene) { s.standby.nic("eth0").ARPIgnore = 8 }, func(s *scene) { s.standby.nic("eth0").ARPIgnore = 0 },
			"clients would not find 172.16.0.1 here: eth0 does not reply to ARP for it (net.ipv4.conf.eth0.arp_ignore=8)",
		},
		"nor outside the networks of its interface": {
			func(s *scene) {
				s.vips("192.0.2.1/32")
				s.settings.VIPs[0].Interface = "eth0"
				s.primary.set("eth0", "192.0.2.1/32")
				s.standby.nic("eth0").ARPIgnore = 2
			}, func(s *scene) { s.standby.nic("eth0").ARPIgnore = 1 },
			"clients would not find 192.0.2.1 here: eth0 does not reply to ARP for it (net.ipv4.conf.eth0.arp_ignore=2)",
		},
		"nothing is heard by ARP": {
			func(s *scene) { s.primary.noARP, s.gateway.noARP = true, true }, func(s *scene) { s.primary.noARP, s.gateway.noARP = false, false },
			"172.16.0.2 replies to pings on eth0, but its replies to ARP are not heard: a machine with the virtual IP would not be heard either",
		},
		"a hook cannot be run": {
			func(s *scene) { s.standby.fails = failing(gone, "may run /fence now") }, func(s *scene) { s.standby.fails = nil },
			"pre-takeover cannot be run: no such thing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(t *testing.T, s *scene) {
				s.settings.Hooks = config.Hooks{PreTakeover: []string{"/fence", "now"}, Timeout: time.Second}
				s.do(func() { c.breaks(s) })
				for n := range 3 {
					if got := s.firing(); got != nil {
						t.Errorf("after %d checks these alerts fire: %v", n, got)
					}
					s.want(s.minute(), state.OK, "172.16.0.2 replies")
				}
				s.minute()
				if alert := s.standby.record(t, "web").Firing("not-ready"); alert == nil || !strings.Contains(alert.Reason, c.reason) {
					t.Fatalf("the alert is %+v, want the reason %q", alert, c.reason)
				}
				s.wantSubjects("[pingover] web: PROBLEM: HOSTNAME is not ready to take over")
				s.do(func() { c.fixes(s) })
				for range 3 {
					s.minute()
				}
				s.wantSubjects("[pingover] web: RESOLVED: HOSTNAME is ready to take over again")
			})
		})
	}
}

// TestReadyWhereTheGatewayRepliesForAll: in a private VLAN nothing else is heard.
func TestReadyWhereTheGatewayRepliesForAll(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.gateway.proxyARP, s.primary.noARP = true, true
		for range 4 {
			s.ends(state.OK, "172.16.0.2 replies")
		}
		if ready := s.standby.record(t, "web").Streaks.NotReady; ready != 0 {
			t.Errorf("%d rehearsals failed", ready)
		}
	})
}

func TestARehearsalIsMadeAtTheFirstCheckAndOnceInAnHour(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		var at []int
		for minute := range 200 {
			s.forget()
			s.minute()
			if len(s.calls("ping 172.16.0.254")) > 0 {
				at = append(at, minute)
			}
			if probes := s.calls("probe"); len(probes) > 0 {
				t.Fatalf("a rehearsal probes: %v", probes)
			}
		}
		if len(at) != 5 && len(at) != 4 || at[0] != 0 || at[2]-at[1] != 60 || at[3]-at[2] != 60 {
			t.Errorf("the witness was asked in the minutes %v", at)
		}
	})
}

func TestADryRunAndAHolderDoNotRehearse(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		s.dry = true
		s.check()
		s.dry = false
		s.do(func() { s.primary.unset(vipAddr); s.standby.set("eth0", "172.16.0.1/32") })
		s.want(s.check(), state.Holding, "")
		if at := s.standby.record(t, "web").Rehearsed; !at.IsZero() {
			t.Errorf("rehearsed at %s", at)
		}
	})
}

func TestHoldingButIsolated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		breaks, fixes func(s *scene)
		reason        string
	}{
		"the cable is out": {
			func(s *scene) { s.standby.nic("eth0").Carrier = false },
			func(s *scene) { s.standby.nic("eth0").Carrier = true },
			`interface "eth0" is down, or has no carrier`,
		},
		"all witnesses are silent": {
			func(s *scene) { s.gateway.powerOff() },
			func(s *scene) { s.gateway.boot() },
			"no witness replies",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(t *testing.T, s *scene) {
				s.minute()
				s.do(s.primary.powerOff)
				s.want(s.minute(), state.TookOver, "")
				s.minute()
				s.standby.mailbox = nil
				s.do(func() { c.breaks(s) })
				for n := range 3 {
					if got := s.firing(); got != nil {
						t.Errorf("after %d checks these alerts fire: %v", n, got)
					}
					s.want(s.minute(), state.Holding, "")
				}
				s.minute()
				if alert := s.standby.record(t, "web").Firing("isolated"); alert == nil || !strings.Contains(alert.Reason, c.reason) {
					t.Fatalf("the alert is %+v, want the reason %q", alert, c.reason)
				}
				s.wantSubjects("[pingover] web: PROBLEM: HOSTNAME holds 172.16.0.1, but is isolated")
				s.do(func() { c.fixes(s) })
				for range 3 {
					s.minute()
				}
				s.wantSubjects("[pingover] web: RESOLVED: HOSTNAME is no longer isolated")
			})
		})
	}
}

func TestAFailedPostTakeoverIsAnAlertUntilItSucceeds(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		broken := true
		s.settings.Hooks = config.Hooks{PostTakeover: []string{"/start"}, Timeout: time.Second}
		s.standby.hook = func(context.Context, proc.Command) (string, error) {
			if broken {
				return "", errors.New("exit code 5")
			}
			return "", nil
		}
		s.minute()
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		s.minute()
		if got := s.firing(); !slices.Equal(got, []string{"hook-failed"}) {
			t.Fatalf("these alerts fire: %v", got)
		}
		s.standby.mailbox = nil
		broken = false
		report := s.takeOver()
		s.want(report, state.Holding, "172.16.0.1 is held here already")
		if got := s.firing(); got != nil {
			t.Errorf("these alerts fire: %v", got)
		}
		s.wantSubjects("[pingover] web: RESOLVED: post-takeover has succeeded on HOSTNAME")

		var history []string
		for _, e := range s.standby.recordWithHistory(t, "web").Recent {
			switch e.Kind {
			case state.HookEntry:
				history = append(history, e.What+" "+string(rune('0'+*e.Code)))
			case state.AlertEntry:
				history = append(history, "alert "+e.What+map[bool]string{true: " resolved"}[e.Resolved])
			default:
				history = append(history, string(e.Outcome))
			}
		}
		want := []string{"took-over", "post-takeover 1", "alert hook-failed", "post-takeover 0", "alert hook-failed resolved"}
		if diff := cmp.Diff(want, history); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
}

func TestAFailedPostTakeoverIsNoAlertAfterTheRelease(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		s.settings.Hooks = config.Hooks{PostTakeover: []string{"/start"}, Timeout: time.Second}
		s.standby.hook = func(context.Context, proc.Command) (string, error) { return "", errors.New("exit code 5") }
		s.minute()
		s.do(s.primary.powerOff)
		s.minute()
		s.standby.mailbox = nil
		s.do(s.primary.boot)
		s.want(s.minute(), state.Released, "")
		s.minute()
		if got := s.firing(); got != nil {
			t.Errorf("these alerts fire: %v", got)
		}
		s.wantSubjects("[pingover] web: HOSTNAME released 172.16.0.1")
	})
}

// takeOver is a manual takeover.
func (s *scene) takeOver() Report {
	s.t.Helper()
	set := s.settings
	set.StateDir = s.standby.dir
	report, err := TakeOverIn(s.t.Context(), s.standby.env(), set, Options{})
	must(s.t, err)
	s.quiet()
	return report
}

func TestATakeoverFromAPrimaryThatWasNeverUpSaysSo(t *testing.T) {
	t.Parallel()
	play(t, func(t *testing.T, s *scene) {
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		body := s.standby.mailbox[0].Body
		if !strings.Contains(strings.Join(strings.Fields(body), " "), "Check at once that 172.16.0.2 is not up all the same") {
			t.Errorf("the mail does not say what to check:\n%s", body)
		}
	})
	play(t, func(t *testing.T, s *scene) {
		s.minute()
		s.do(s.primary.powerOff)
		s.want(s.minute(), state.TookOver, "")
		if body := s.standby.mailbox[0].Body; strings.Contains(body, "never") {
			t.Errorf("the mail says that it was never up:\n%s", body)
		}
	})
}
