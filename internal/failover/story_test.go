package failover

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pingover/internal/config"
	"pingover/state"
)

// line is a record in short.
func line(report Report, rec *state.Record) string {
	var vips, kinds []string
	for _, a := range rec.VIPs {
		raised := ""
		if a.Raised {
			raised = " raised as " + a.Label
		}
		vips = append(vips, fmt.Sprintf("%s@%s%s", a.Prefix, a.Interface, raised))
	}
	for _, t := range rec.Alerts {
		kinds = append(kinds, t.Kind)
	}
	s := rec.Streaks
	return fmt.Sprintf("%s changed=%t: %s, %s, neighbour %s, good %d up %d unserved %d, %d changes, back told %t, troubles %v",
		report.Outcome, report.Changed, rec.Role, strings.Join(vips, " "), rec.Neighbour, s.Good, s.Up, s.Unserved, len(rec.Recent), rec.BackReported, kinds)
}

// TestStory is the life of a cluster, minute by minute, as its record has it.
func TestStory(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		var got []string
		minute := func(times int) {
			for range times {
				got = append(got, line(s.minute(), s.standby.record(t, "web")))
			}
		}
		say := func(what string, change func()) {
			got = append(got, what)
			s.do(change)
		}
		minute(3)
		say("the primary dies", s.primary.powerOff)
		minute(4)
		say("the primary is back, without the virtual IP", func() { s.primary.boot(); s.primary.unset(vipAddr) })
		minute(4)
		say("the primary raises it", func() { s.primary.set("eth0", "172.16.0.1/32") })
		minute(2)
		say("the primary loses it", func() { s.primary.unset(vipAddr) })
		minute(4)
		say("the primary raises it", func() { s.primary.set("eth0", "172.16.0.1/32") })
		minute(3)

		const mac = "neighbour 02:00:00:00:00:02"
		const away, here = "172.16.0.1/32@eth0", "172.16.0.1/32@eth0 raised as eth0:1"
		want := []string{
			"ok changed=false: standby, " + away + ", " + mac + ", good 1 up 1 unserved 0, 0 changes, back told false, troubles []",
			"ok changed=false: standby, " + away + ", " + mac + ", good 2 up 2 unserved 0, 0 changes, back told false, troubles []",
			"ok changed=false: standby, " + away + ", " + mac + ", good 3 up 3 unserved 0, 0 changes, back told false, troubles []",
			"the primary dies",
			"took-over changed=true: active, " + here + ", " + mac + ", good 0 up 0 unserved 0, 1 changes, back told false, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 1 up 0 unserved 0, 1 changes, back told false, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 2 up 0 unserved 0, 1 changes, back told false, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 3 up 0 unserved 0, 1 changes, back told false, troubles []",
			"the primary is back, without the virtual IP",
			"holding changed=false: active, " + here + ", " + mac + ", good 4 up 1 unserved 0, 1 changes, back told false, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 5 up 2 unserved 0, 1 changes, back told false, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 6 up 3 unserved 0, 1 changes, back told true, troubles []",
			"holding changed=false: active, " + here + ", " + mac + ", good 7 up 4 unserved 0, 1 changes, back told true, troubles []",
			"the primary raises it",
			"released changed=true: standby, " + away + ", " + mac + ", good 0 up 5 unserved 0, 2 changes, back told true, troubles []",
			"ok changed=false: standby, " + away + ", " + mac + ", good 1 up 6 unserved 0, 2 changes, back told true, troubles []",
			"the primary loses it",
			"ok changed=false: standby, " + away + ", " + mac + ", good 2 up 7 unserved 1, 2 changes, back told true, troubles []",
			"ok changed=false: standby, " + away + ", " + mac + ", good 3 up 8 unserved 2, 2 changes, back told true, troubles []",
			"unserved changed=true: standby, " + away + ", " + mac + ", good 0 up 9 unserved 3, 2 changes, back told true, troubles [unserved]",
			"unserved changed=false: standby, " + away + ", " + mac + ", good 0 up 10 unserved 4, 2 changes, back told true, troubles [unserved]",
			"the primary raises it",
			"ok changed=true: standby, " + away + ", " + mac + ", good 1 up 11 unserved 0, 2 changes, back told true, troubles [unserved]",
			"ok changed=false: standby, " + away + ", " + mac + ", good 2 up 12 unserved 0, 2 changes, back told true, troubles [unserved]",
			"ok changed=false: standby, " + away + ", " + mac + ", good 3 up 13 unserved 0, 2 changes, back told true, troubles []",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the story (-want +got):\n%s", diff)
		}
		s.wantMessages(
			message{"A", "", "[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1"},
			message{"B", "A", "[pingover] web: 172.16.0.2 is up again, HOSTNAME still holds 172.16.0.1"},
			message{"C", "A", "[pingover] web: HOSTNAME released 172.16.0.1"},
			message{"D", "", "[pingover] web: PROBLEM: 172.16.0.1 unassigned, while 172.16.0.2 is up"},
			message{"E", "D", "[pingover] web: RESOLVED: 172.16.0.1 is served again"},
		)

		// The whole of it at the end.
		minute60 := func(n int) time.Time { return s.began.Add(time.Duration(n) * time.Minute).UTC() }
		rec := s.standby.record(t, "web")
		rec.Recent, rec.Days, rec.Thread, rec.Event, rec.Damping = nil, nil, "", "", state.Damping{}
		wantRecord := &state.Record{
			Head: state.Head{
				Version: 1, Name: "web",
				Last:   &state.Check{Time: minute60(20), Outcome: state.OK, Rule: 7, Reason: "172.16.0.2 replies", Primary: "up", Sent: 1, Received: 1, RTT: new(0.4)},
				Counts: map[state.Outcome]int{state.Released: 1, state.TookOver: 1},
				Gap:    60000, Streaks: state.Streaks{Good: 3, Up: 13, Ready: 1}, Rehearsed: minute60(1),
				Gateways: []state.Gateway{{Interface: "eth0", Address: gatewayAddr}},
			},
			Origin: "flags", Host: "172.16.0.2", Address: primaryAddr, Paths: []state.Path{{Host: "172.16.0.2", Address: primaryAddr, Interface: "eth0", Replied: true}}, Neighbour: "02:00:00:00:00:02",
			Interface: "eth0", VIPs: []state.Alias{{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Interface: "eth0"}},
			Role: state.Standby, Since: minute60(12), BootID: "standby-boot-1", BackReported: true, SeenUp: minute60(20),
		}
		if diff := cmp.Diff(wantRecord, rec, cmpopts.EquateEmpty(), byValue); diff != "" {
			t.Errorf("the record (-want +got):\n%s", diff)
		}
	})
}

// TestReboot: nothing is raised from memory.
func TestReboot(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.do(s.standby.boot)
		s.primary.boot()
		report := s.minute()
		s.want(report, state.OK, "172.16.0.2 replies")
		rec := s.standby.record(t, "web")
		if rec.Role != state.Standby || rec.BootID != "standby-boot-1+" || len(rec.Recent) != 2 || len(s.standby.mailbox) != 2 {
			t.Errorf("the record says %s, boot %q, %d changes; messages %q", rec.Role, rec.BootID, len(rec.Recent), s.subjects())
		}
		s.primary.powerOff()
		s.do(s.standby.boot)
		s.want(s.minute(), state.Blocked, "this machine has been up for less than 3m (boot-wait)")
	})
}

// TestTheAliasIsGone, and not by us: it is told once, and taken back by the
// rules of a takeover.
func TestTheAliasIsGone(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.do(func() { s.standby.unset(vipAddr) })
		s.want(s.minute(), state.TookOver, "172.16.0.1 is not in use")
		s.want(s.minute(), state.Holding, "")
		subjects := strings.Join(s.subjects(), "\n")
		if len(s.standby.mailbox) != 3 || !strings.Contains(oneLine(s.standby.mailbox[1].Body), "172.16.0.1 is no longer on this machine, and pingover did not remove it") {
			t.Errorf("messages:\n%s", subjects)
		}
	})
}

// TestTheRecordIsLostWhileHolding: what the kernel shows counts.
func TestTheRecordIsLostWhileHolding(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(path string) error
		note  string
	}{
		{"removed", os.Remove, ""},
		{"cut in half", func(path string) error { return os.Truncate(path, 100) }, "! PATH is corrupt (unexpected end of JSON input), ignored; kept as PATH.bad; going on with what the kernel shows"},
		{"empty", func(path string) error { return os.Truncate(path, 0) }, "! PATH is corrupt (it is empty), ignored; kept as PATH.bad; going on with what the kernel shows"},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				s.ends(state.TookOver, "")
				path := filepath.Join(s.standby.dir, "web.json")
				must(t, test.spoil(path))
				s.want(s.minute(), state.Holding, "holding 172.16.0.1; 172.16.0.2 does not reply")
				if got := strings.ReplaceAll(strings.Join(s.notes(), "\n"), path, "PATH"); got != test.note {
					t.Errorf("notes %q, want %q", got, test.note)
				}
				if rec := s.standby.record(t, "web"); rec.Role != state.Active {
					t.Errorf("the record says %s", rec.Role)
				}
				s.minute()
				if len(s.notes()) > 0 {
					t.Errorf("said again: %q", s.notes())
				}
				s.add("peer", 1, "172.16.0.9/16", "172.16.0.1/32")
				s.want(s.minute(), state.Released, "172.16.0.1 is also assigned at 02:00:00:00:00:01")
			})
		})
	}
}

// TestAVirtualIPThatIsNoLongerASetting is reported with the command that
// removes it, and neither removed nor taken for one that vanished.
func TestAVirtualIPThatIsNoLongerASetting(t *testing.T) {
	const note = "172.16.0.1 is still on this machine, assigned by pingover, but no longer a setting of this cluster; to remove it: ip addr del 172.16.0.1/32 dev eth0"
	for _, test := range []struct {
		name    string
		before  []string
		after   []string
		outcome state.Outcome // of the first run with the new settings
		told    int           // messages, the takeover among them
	}{
		{"one of two", []string{"172.16.0.1/32", "172.16.0.5/32"}, []string{"172.16.0.5/32"}, state.Holding, 1},
		{"the only one", []string{"172.16.0.1/32"}, []string{"172.16.0.5/32"}, state.TookOver, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				s.vips(test.before...)
				s.ends(state.TookOver, "")
				s.vips(test.after...)
				for i := range 3 {
					want := test.outcome
					if i > 0 {
						want = state.Holding
					}
					s.want(s.minute(), want, "")
					if diff := cmp.Diff([]string{note}, s.notes()); diff != "" {
						t.Errorf("run %d: notes (-want +got):\n%s", i, diff)
					}
				}
				if len(s.standby.mailbox) != test.told || !s.standby.holds(vipAddr) {
					t.Errorf("messages %q, 172.16.0.1 here: %t", s.subjects(), s.standby.holds(vipAddr))
				}
				for _, l := range s.standby.mailbox {
					if strings.Contains(oneLine(l.Body), "no longer on this machine") {
						t.Errorf("a message says that it is gone:\n%s", l.Body)
					}
				}
				s.do(func() { s.standby.unset(vipAddr) })
				s.minute()
				if len(s.notes()) > 0 {
					t.Errorf("said when it is gone: %q", s.notes())
				}
			})
		})
	}
}

// TestItStrayedHere: what pingover did not raise is kept while the primary is
// up, and not multiplied.
func TestItStrayedHere(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.primary.unset(vipAddr)
		s.standby.set("eth0", "172.16.0.1/24")
		report := s.ends(state.Holding, "holding 172.16.0.1, which pingover did not assign; 172.16.0.2 replies")
		if diff := cmp.Diff([]netip.Prefix{netip.MustParsePrefix("172.16.0.1/24")}, report.Held, byValue); diff != "" {
			t.Errorf("held (-want +got):\n%s", diff)
		}
		if len(s.calls("raise 1")) > 0 || len(s.calls("announce")) != 1 {
			t.Errorf("calls: %v", s.calls("raise 1", "announce"))
		}
	})
}

// TestTwoStandbys that run in the same minute never both hold it at the end,
// and one does.
func TestTwoStandbys(t *testing.T) {
	for _, offset := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second} {
		t.Run(offset.String(), func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				second := s.add("second", 4, "172.16.0.4/16")
				second.gateway[false] = gatewayAddr
				second.dir = t.TempDir()
				s.primary.powerOff()
				set := func() config.Cluster { c := usual(); return c }
				done := make(chan state.Outcome)
				go func() {
					time.Sleep(offset)
					report, _, err := second.run(t.Context(), set(), false)
					if err != nil {
						t.Error(err)
					}
					done <- report.Outcome
				}()
				one := s.check().Outcome
				two := <-done
				s.quiet()
				if s.standby.holds(vipAddr) == second.holds(vipAddr) {
					t.Errorf("after %s and %s: both hold it, or none: %t", one, two, second.holds(vipAddr))
				}
			})
		})
	}
}

// TestTheNameNoLongerResolves: the last good address is used, and that is
// printed to cron once.
func TestTheNameNoLongerResolves(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "primary.example"
		s.ends(state.Unknown, `resolve "primary.example": no such host`)
		s.standby.names["primary.example"] = []netip.Addr{primaryAddr}
		report := s.minute()
		s.want(report, state.OK, "primary.example replies")
		if report.Host != "primary.example" || report.Address != "172.16.0.2" {
			t.Errorf("host %s, address %s", report.Host, report.Address)
		}
		clear(s.standby.names)
		s.want(s.minute(), state.OK, "primary.example replies")
		const note = `resolve "primary.example": no such host; going on with what last replied, 172.16.0.2`
		if diff := cmp.Diff([]string{"! " + note}, s.notes()); diff != "" {
			t.Errorf("notes (-want +got):\n%s", diff)
		}
		s.want(s.minute(), state.OK, "primary.example replies")
		if diff := cmp.Diff([]string{note}, s.notes()); diff != "" {
			t.Errorf("notes of the next check (-want +got):\n%s", diff)
		}
	})
}
