package failover

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
)

// TestSettingsThatDoNotFitThisMachine are errors before anything is asked.
func TestSettingsThatDoNotFitThisMachine(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scene)
		want   *run.Error
	}{
		{
			"two interfaces have the network of the vip",
			func(s *scene) { s.standby.plug("eth1", "other", 30, "172.16.9.3/16") },
			&run.Error{Code: 78, Text: `vip "172.16.0.1/32": the networks of eth0 and eth1 all hold it`, Hint: "set interface, or write 172.16.0.1@eth0"},
		},
		{
			"host is this machine",
			func(s *scene) { s.settings.Host = "172.16.0.3" },
			&run.Error{Code: 78, Text: "this machine is the primary: 172.16.0.3 is its own address", Hint: "pingover runs on the standby; set host to the other machine"},
		},
		{
			"host is the loopback address, and there is a vip",
			func(s *scene) { s.settings.Host = "127.0.0.1" },
			&run.Error{Code: 78, Text: "this machine is the primary: 127.0.0.1 is its own address", Hint: "pingover runs on the standby; set host to the other machine"},
		},
		{
			"the label is in use",
			func(s *scene) {
				s.settings.Label = "eth0:1"
				l := s.standby.nic("eth0")
				l.Addresses[0].Label = "eth0:1"
			},
			&run.Error{Code: 78, Text: `add 172.16.0.1/32 to eth0: label "eth0:1" is in use by 172.16.0.3/16`, Hint: "change label, interface or tool"},
		},
		{
			"two crontab lines have one name",
			func(s *scene) {
				s.ends(state.OK, "")
				s.settings.Host = "172.16.0.254"
				s.ends(state.OK, "")
				s.settings.Host = "172.16.0.2"
				time.Sleep(59 * time.Minute)
			},
			&run.Error{Code: 78, Text: `two definitions share the name web: its host was changed from "172.16.0.2" to "172.16.0.254" at 2000-01-01T00:00:01Z, and is "172.16.0.2" again`, Hint: "give each cluster a name of its own with --name"},
		},
		{
			"the record is a symbolic link",
			func(s *scene) { must(s.t, os.Symlink("/etc/passwd", filepath.Join(s.standby.dir, "web.json"))) },
			&run.Error{Code: 78, Text: "DIR/web.json is a symbolic link, and pingover's own files never are", Hint: "remove it, or choose another --state-dir"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				test.change(s)
				s.forget()
				_, err := s.try()
				if e, ok := err.(*run.Error); ok {
					e.Text = strings.ReplaceAll(e.Text, s.standby.dir, "DIR")
				}
				if diff := cmp.Diff(test.want, err); diff != "" {
					t.Errorf("error (-want +got):\n%s", diff)
				}
				if got := s.calls("ping 1", "ask", "raise 1"); got != nil {
					t.Errorf("asked all the same: %v", got)
				}
			})
		})
	}
}

// TestNoPermission is said at once; a dry run needs the right to ping only.
func TestNoPermission(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.fails = func(call string) error {
			if call == "may raise" || call == "may raise #2" {
				return os.ErrPermission
			}
			return nil
		}
		_, err := s.try()
		want := &run.Error{
			Code: 77, Text: "permission denied",
			Hint: "run it as root, or with the capabilities CAP_NET_ADMIN and CAP_NET_RAW; --dry-run needs CAP_NET_RAW at the most",
		}
		if diff := cmp.Diff(want, err); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		if files, _ := os.ReadDir(s.standby.dir); len(files) > 0 {
			t.Errorf("files: %v", files)
		}
		s.dry = true
		s.ends(state.OK, "")
		s.dry, s.settings.VIPs = false, nil
		s.ends(state.OK, "")
	})
}

// TestFaultsOfTheGround make the verdict unknown, with no wait.
func TestFaultsOfTheGround(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scene)
		reason string
	}{
		{"interface down", func(s *scene) { s.settings.Interface = "eth0"; s.standby.down("eth0") }, `no route to 172.16.0.2: network is unreachable; interface "eth0" is down`},
		{"no carrier", func(s *scene) { s.standby.nic("eth0").Carrier = false }, `interface "eth0" has no carrier: is the cable in?`},
		{
			"no route, and no network that holds the vip",
			func(s *scene) {
				s.settings.Host = "192.0.2.9"
				s.vips("198.51.100.1/32")
				clear(s.standby.gateway)
			},
			"no route to 192.0.2.9: network is unreachable",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.primary.powerOff()
				test.change(s)
				if report := s.ends(state.Unknown, ""); report.Reason != test.reason {
					t.Errorf("reason %q\n  want %q", report.Reason, test.reason)
				}
				if s.took > 0 {
					t.Errorf("it took %v", s.took)
				}
				if got := s.calls("ping 1", "listen"); got != nil {
					t.Errorf("asked all the same: %v", got)
				}
			})
		})
	}
}

// TestTwoInterfaces: each virtual IP is asked for and raised where its own
// network is.
func TestTwoInterfaces(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.plug("eth1", "other", 30, "10.0.0.3/8")
		s.vips("172.16.0.1/16", "10.0.0.1/8")
		s.primary.powerOff()
		report := s.ends(state.TookOver, "172.16.0.1, 10.0.0.1 are not in use")
		want := []string{
			"ip addr add 172.16.0.1/16 dev eth0 label eth0:1",
			"ip addr add 10.0.0.1/8 dev eth1 label eth1:1",
		}
		if diff := cmp.Diff(want, commands(report)); diff != "" {
			t.Errorf("commands (-want +got):\n%s", diff)
		}
		var where []string
		for _, e := range s.events {
			if a, ok := e.(Announced); ok {
				where = append(where, a.Address.String()+" on "+a.Interface+" at "+a.MAC)
			}
		}
		one := []string{"172.16.0.1 on eth0 at 02:00:00:00:00:03", "10.0.0.1 on eth1 at 02:00:00:00:00:1e"}
		if diff := cmp.Diff(append(append(append([]string{}, one...), one...), one...), where); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
	})
	// The same on a machine where somebody on the second link has one.
	play(t, func(t *testing.T, s *scene) {
		s.standby.plug("eth1", "other", 30, "10.0.0.3/8")
		s.add("else", 40).plug("eth1", "other", 41, "10.0.0.1/8")
		s.vips("172.16.0.1/16", "10.0.0.1/8")
		s.primary.powerOff()
		report := s.ends(state.Blocked, "10.0.0.1 is in use")
		if diff := cmp.Diff([]state.Holder{{Address: "10.0.0.1", MAC: "02:00:00:00:00:29"}}, report.Holders); diff != "" {
			t.Errorf("holders (-want +got):\n%s", diff)
		}
	})
}

// TestTheHostIsAVirtualIP: while it is here it is not pinged, and ARP alone
// speaks.
func TestTheHostIsAVirtualIP(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "172.16.0.1"
		s.want(s.minute(), state.OK, "172.16.0.1 replies")
		s.primary.powerOff()
		s.want(s.minute(), state.TookOver, "172.16.0.1 does not reply, and 172.16.0.1 is not in use")
		s.forget()
		s.want(s.minute(), state.Holding, "172.16.0.1 is on this machine now, so a ping would answer itself")
		if s.took != holdGuard {
			t.Errorf("holding took %v", s.took)
		}
		if got := s.calls("ping 172.16.0.1"); got != nil {
			t.Errorf("pinged: %v", got)
		}
		s.do(s.primary.boot)
		s.want(s.minute(), state.Released, "172.16.0.1 is also assigned at 02:00:00:00:00:02")
		s.want(s.minute(), state.OK, "172.16.0.1 replies")
	})
}

// TestTheHostComesHereInTheWait: it answers itself from then on, which says
// nothing about the primary.
func TestTheHostComesHereInTheWait(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host = "172.16.0.1"
		s.primary.powerOff()
		s.at(20*time.Second, func() { s.standby.set("eth0", "172.16.0.1/32") })
		s.ends(state.Holding, "172.16.0.1 could not be asked: 172.16.0.1 is on this machine now")
		if up := s.standby.record(t, "web").Streaks.Up; up != 0 {
			t.Errorf("the primary was counted as up %d times", up)
		}
	})
}

// TestLoopbackHostWithoutVIP is a try at home, and well.
func TestLoopbackHostWithoutVIP(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Host, s.settings.VIPs = "127.0.0.1", nil
		s.ends(state.OK, "127.0.0.1 replies")
	})
}

// TestTheSourceOfThePings is an address of the interface that is no vip.
func TestTheSourceOfThePings(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").Addresses = nil
		s.standby.set("eth0", "172.16.0.5/16") // a vip that stands first
		s.standby.nic("eth0").Addresses[0].Label = "eth0:1"
		s.standby.set("eth0", "172.16.0.3/16")
		s.vips("172.16.0.1/32", "172.16.0.5/16")
		s.primary.powerOff()
		s.ends(state.Holding, "")
		for _, call := range s.calls("from 172.16.0.5") {
			if !strings.HasPrefix(call, "ask for 172.16.0.254") { // the announcement to the gateway
				t.Errorf("asked from a virtual IP: %v", call)
			}
		}
		if len(s.calls("from 172.16.0.3")) == 0 {
			t.Error("nobody was asked")
		}
	})
}

// TestPauseThatCannotBeRead is taken for a pause.
func TestPauseThatCannotBeRead(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.primary.powerOff()
		path := filepath.Join(s.standby.dir, "web.pause")
		time.AfterFunc(10*time.Second, func() { must(t, os.Symlink("/etc/passwd", path)) })
		s.ends(state.Blocked, "this cluster is paused")
		want := path + " is a symbolic link, and pingover's own files never are; treated as a pause"
		if notes := s.notes(); len(notes) == 0 || notes[0] != want {
			t.Errorf("notes %q, want %q", notes, want)
		}
	})
}

// TestDryRun shows the exact commands, and changes, sends and writes nothing.
func TestDryRun(t *testing.T) {
	held := func(s *scene) {
		s.standby.set("eth0", "172.16.0.1/32")
		s.standby.nic("eth0").Addresses[1].Label = "eth0:1"
	}
	for _, test := range []struct {
		name    string
		change  func(s *scene)
		outcome state.Outcome
		changed bool
		want    []string
	}{
		{"all is well", func(s *scene) { s.primary.boot() }, state.OK, false, nil},
		{"takeover of two", func(s *scene) { s.vips("172.16.0.1/32", "172.16.0.5/32") }, state.TookOver, true, []string{
			"ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
			"ip addr add 172.16.0.5/32 dev eth0 label eth0:2",
		}},
		{"release", func(s *scene) { held(s); s.add("peer", 1, "172.16.0.1/16") }, state.Released, true, []string{"ip addr del 172.16.0.1/32 dev eth0"}},
		{"holding", held, state.Holding, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				s.dry = true
				s.primary.powerOff()
				test.change(s)
				report := s.ends(test.outcome, "")
				if diff := cmp.Diff(test.want, commands(report)); diff != "" {
					t.Errorf("commands (-want +got):\n%s", diff)
				}
				for _, c := range report.Commands {
					if c.Code != nil {
						t.Errorf("%v has an exit code: %d", c.Argv, *c.Code)
					}
				}
				if !report.DryRun || report.Changed != test.changed {
					t.Errorf("dry_run %t, changed %t", report.DryRun, report.Changed)
				}
				if got := s.calls("raise ", "lower", "announce", "deliver", "probe"); got != nil {
					t.Errorf("it did %v", got)
				}
				if files, _ := os.ReadDir(s.standby.dir); len(files) > 0 {
					t.Errorf("files: %v", files)
				}
			})
		})
	}
}

// A dry run once reported a change whenever there was a record, or none.
func TestDryRunReportsAChangeSinceTheLastCheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		for _, step := range []struct {
			name    string
			before  func()
			outcome state.Outcome
			changed bool
		}{
			{"all is well", func() { s.dry = true }, state.OK, false},
			{"the primary is down, and no witness replies", func() { s.do(s.primary.powerOff); s.do(s.gateway.powerOff) }, state.Blocked, true},
			{"the witness replies", func() { s.do(s.gateway.boot) }, state.TookOver, true},
			{"and still, for nothing was done", func() {}, state.TookOver, true},
			{"taken over, and as before", func() { s.dry = false; s.ends(state.TookOver, ""); s.minute(); s.dry = true }, state.Holding, false},
		} {
			step.before()
			if r := s.minute(); r.Outcome != step.outcome || r.Changed != step.changed || !r.DryRun {
				t.Errorf("%s: %s, changed %t, dry run %t", step.name, r.Outcome, r.Changed, r.DryRun)
			}
		}
	})
}

// TestWhereNoAliasLabelFits: the interface's name is too long for one.
func TestWhereNoAliasLabelFits(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.nic("eth0").Name = "enp0s31f6u1u2x"
		s.primary.powerOff()
		report := s.ends(state.TookOver, "")
		if diff := cmp.Diff([]string{"ip addr add 172.16.0.1/32 dev enp0s31f6u1u2x"}, commands(report)); diff != "" {
			t.Errorf("commands (-want +got):\n%s", diff)
		}
		want := []state.Alias{{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Interface: "enp0s31f6u1u2x", Raised: true}}
		if diff := cmp.Diff(want, s.standby.record(t, "web").VIPs, byValue); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	})
}

// TestNoAnnouncements are sent where none are wanted.
func TestNoAnnouncements(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Announce = 0
		s.settings.VIPs = []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Interface: "eth0"}}
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.want(s.minute(), state.Holding, "")
		if got := s.calls("announce"); got != nil {
			t.Errorf("announced: %v", got)
		}
	})
}
