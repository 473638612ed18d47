package notify

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/proc"
	"pingover/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	time.Local = time.FixedZone("CET", 60*60)
	os.Exit(m.Run())
}

// night is when everything happens.
var night = time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)

func web() Cluster {
	return Cluster{
		Name:      "web",
		Host:      "172.16.0.2",
		VIPs:      prefixes("172.16.0.1/32"),
		Interface: "eth0",
		Hostname:  "standby1",
		To:        []string{"ops@example.org"},
	}
}

func prefixes(list ...string) (vips []netip.Prefix) {
	for _, s := range list {
		vips = append(vips, netip.MustParsePrefix(s))
	}
	return vips
}

// silent is the evidence when the primary has lost its power.
func silent() state.Evidence {
	return state.Evidence{
		Address: "172.16.0.2",
		Rounds: []state.Round{
			{Verdict: "down", Sent: 5},
			{Verdict: "down", Sent: 5},
		},
		Witnesses: []state.Witness{{Address: "172.16.0.254", Answers: true, By: new("ping")}},
	}
}

// served is the evidence of a primary that is up, and of a service there.
func served(health, reason string) state.Evidence {
	e := up()
	e.Answers = []state.ServiceAnswer{{Service: "https://www.example.com", Address: "172.16.0.1", Health: health, Reason: reason}}
	return e
}

func up() state.Evidence {
	return state.Evidence{
		Address: "172.16.0.2",
		Rounds:  []state.Round{{Verdict: "up", Sent: 1, Received: 1, RTT: new(0.42)}},
	}
}

func with(e state.Evidence, change func(*state.Evidence)) state.Evidence {
	change(&e)
	return e
}

func TestMessages(t *testing.T) {
	raised := state.Command{
		Argv: strings.Fields("ip addr add 172.16.0.1/32 dev eth0 label eth0:1"),
		Code: new(0),
	}
	lowered := state.Command{Argv: strings.Fields("ip addr del 172.16.0.1/32 dev eth0"), Code: new(0)}
	tookOver := Notification{
		Kind:     TookOver,
		Event:    "20260301T030405Z-ABCDEFGH",
		Time:     night,
		Reason:   "172.16.0.2 does not reply, and 172.16.0.1 is not in use",
		Evidence: with(silent(), func(e *state.Evidence) { e.Commands = []state.Command{raised} }),
		Held:     prefixes("172.16.0.1/32"),
		Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
	}

	hooked := tookOver
	hooked.Evidence = with(silent(), func(e *state.Evidence) {
		e.Commands = []state.Command{raised, {
			Argv:   strings.Fields("systemctl start postgresql"),
			Code:   new(5),
			Output: "Failed to start postgresql.service: Unit not found.\n",
		}}
	})
	again := tookOver
	again.Repeated = true
	neverUp := tookOver
	neverUp.NeverUp = true
	neverUp.Reason += "; 172.16.0.2 was never seen up from here"

	unreached := tookOver
	unreached.Unreached = unreached.Held
	unreached.Reason += "; no witness replies to 172.16.0.1: clients may not reach it (ARP inspection at the switch, or a static entry?)"

	tests := []struct {
		name      string
		change    func(*Cluster)
		events    []Notification
		inReplyTo string
	}{
		{name: "took-over", events: []Notification{tookOver}},
		{name: "took-over from a primary that was never up", events: []Notification{neverUp}},
		{name: "took-over and no witness replies", events: []Notification{unreached}},
		{
			name: "elsewhere",
			events: []Notification{{
				Kind: Elsewhere, Time: night, Reason: "172.16.0.2 does not reply, and another standby serves 172.16.0.1",
				Evidence: with(silent(), func(e *state.Evidence) {
					e.Holders = []state.Holder{{Address: "172.16.0.1", MAC: "02:00:00:00:00:0d"}}
				}),
				Alert: state.Alert{Kind: "elsewhere", Rule: 12, Since: night, Mailed: night},
			}},
		},
		{
			name: "not-ready",
			events: []Notification{{
				Kind: NotReady, Time: night, Reason: "witness 172.16.0.254 does not reply; pre-takeover cannot be run: /etc/fence: not executable",
				Evidence: up(), Alert: state.Alert{Kind: "not-ready", Since: night, Mailed: night},
			}},
		},
		{
			name: "no-arbiter",
			events: []Notification{{
				Kind: NoArbiter, Time: night, Reason: "holding 172.16.0.1; 172.16.0.2 does not reply; the arbiter does not answer: 172.16.0.1 ends at 04:08:11 unless it does",
				Evidence: silent(), Held: prefixes("172.16.0.1/32"), Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
				Alert: state.Alert{Kind: "no-arbiter", Since: night, Mailed: night},
			}},
		},
		{
			name: "blocked by the arbiter",
			events: []Notification{{
				Kind: Blocked, Cause: state.CauseArbiter, Time: night, Reason: "172.16.0.2 does not reply, but standby2 holds the arbiter's key, unchanged for 40s; free in 2m20s",
				Evidence: silent(), Alert: state.Alert{Kind: "blocked", Rule: 17, Since: night, Mailed: night},
			}},
		},
		{
			name: "released for the holder of the arbiter's key",
			events: []Notification{{
				Kind: Released, Cause: state.CauseArbiter, Event: "20260301T030405Z-ABCDEFGH", Time: night, Reason: "standby2 holds the arbiter's key: 172.16.0.1 is removed here",
				Evidence: state.Evidence{Commands: []state.Command{lowered}}, Missing: prefixes("172.16.0.1/32"),
			}},
		},
		{
			name: "isolated",
			events: []Notification{{
				Kind: Isolated, Time: night, Reason: `interface "eth0" is down, or has no carrier; no witness replies`,
				Evidence: silent(), Held: prefixes("172.16.0.1/32"), Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
				Alert: state.Alert{Kind: "isolated", Since: night, Mailed: night},
			}},
		},
		{
			name: "not-used",
			events: []Notification{{
				Kind: NotUsed, Time: night, Reason: "mail-via: /opt/sendmail belongs to user 1000, so root does not run it",
				Evidence: up(), Alert: state.Alert{Kind: "not-used", Since: night, Mailed: night},
			}},
		},
		{
			name: "unconfigured",
			events: []Notification{{
				Kind: Unconfigured, Time: night, Reason: "no longer configured in /etc/pingover.yaml",
				Held: prefixes("172.16.0.1/32"), Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
				Alert: state.Alert{Kind: "unconfigured", Since: night, Mailed: night},
			}},
		},
		{
			name: "recovered post-takeover",
			events: []Notification{{
				Kind: Recovered, Time: night, Held: prefixes("172.16.0.1/32"),
				Alert: state.Alert{Kind: "hook-failed", Since: night.Add(-time.Hour), Mailed: night.Add(-time.Hour)},
			}},
			inReplyTo: "<first@standby1>",
		},
		{
			name: "took-over manually says nothing of a primary that was not pinged",
			events: []Notification{{
				Kind:     TookOver,
				Time:     night,
				Reason:   "172.16.0.1 is taken over manually",
				Evidence: state.Evidence{Commands: []state.Command{raised}},
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name:   "took-over four of four, named by host name, and a hook printed",
			change: func(c *Cluster) { c.Host, c.Name, c.VIPs, c.Interface = "db1.example.org", "db", four(), "" },
			events: []Notification{{
				Kind: TookOver,
				Time: night,
				Evidence: with(silent(), func(e *state.Evidence) {
					e.Commands = []state.Command{raised, {
						Argv:   []string{"sh", "-c", "echo 'serving now' >&2; exit 3"},
						Code:   new(3),
						Output: "serving now\n.\n\tindented \x1b[31mred\x1b[0m\n",
					}}
				}),
				Held: four(),
				Undo: []string{"ip addr del 172.16.0.1/16 dev eth0", "ip addr del 2001:db8::1/128 dev eth0"},
			}},
		},
		{
			name:   "takeover-failed",
			change: func(c *Cluster) { c.VIPs = prefixes("172.16.0.1/32", "172.16.0.5/32") },
			events: []Notification{{
				Kind:   TakeoverFailed,
				Time:   night,
				Reason: "172.16.0.2 is down, and 172.16.0.5 could not be added",
				Evidence: with(silent(), func(e *state.Evidence) {
					e.Commands = []state.Command{raised, {
						Argv:   strings.Fields("ip addr add 172.16.0.5/32 dev eth0 label eth0:2"),
						Code:   new(2),
						Output: "RTNETLINK answers: Permission denied\n",
					}}
				}),
				Held:    prefixes("172.16.0.1/32"),
				Missing: prefixes("172.16.0.5/32"),
				Undo:    []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name: "released",
			events: []Notification{{
				Kind:   Released,
				Time:   night,
				Reason: "address conflict: 172.16.0.1 is also at 52:54:00:aa:bb:cc",
				Evidence: with(up(), func(e *state.Evidence) {
					e.Holders = []state.Holder{
						{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"},
						{Address: "172.16.0.1"},
					}
					e.Commands = []state.Command{{Argv: strings.Fields("ip addr del 172.16.0.1/32 dev eth0"), Code: new(0)}}
				}),
			}},
		},
		{
			name: "released manually by force",
			events: []Notification{{
				Kind:     Released,
				Event:    "20260301T030405Z-ABCDEFGH",
				Time:     night,
				Reason:   "172.16.0.1 is released manually, by force",
				Evidence: state.Evidence{Commands: []state.Command{lowered}},
				Missing:  prefixes("172.16.0.1/32"),
			}},
		},
		{
			name: "released by failback",
			events: []Notification{{
				Kind:   Released,
				Event:  "20260301T030405Z-ABCDEFGH",
				Time:   night,
				Reason: "172.16.0.2 was up in 3 checks in a row: handed over",
				Evidence: with(up(), func(e *state.Evidence) {
					e.Holders = []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}}
					e.Commands = []state.Command{lowered}
				}),
				Missing: prefixes("172.16.0.1/32"),
			}},
			inReplyTo: "<took.over@standby1>",
		},
		{
			name: "nobody-took",
			events: []Notification{{
				Kind:     NobodyTook,
				Time:     night,
				Reason:   "172.16.0.2 was up in 3 checks in a row, but no machine took 172.16.0.1",
				Evidence: with(up(), func(e *state.Evidence) { e.Commands = []state.Command{lowered, raised} }),
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
			inReplyTo: "<took.over@standby1>",
		},
		{
			name: "hook-failed",
			events: []Notification{{
				Kind:   HookFailed,
				Hook:   "post-takeover",
				Time:   night,
				Reason: "systemctl start postgresql: exit code 5: Failed to start postgresql.service: Unit not found.",
				Evidence: state.Evidence{Commands: []state.Command{{
					Argv:   strings.Fields("systemctl start postgresql"),
					Code:   new(5),
					Output: "Failed to start postgresql.service: Unit not found.\n",
				}}},
				Held: prefixes("172.16.0.1/32"),
				Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name: "hook-failed in the message about the takeover",
			events: []Notification{
				hooked,
				{
					Kind: HookFailed, Hook: "post-takeover", Time: night, Reason: "systemctl start postgresql: exit code 5",
					Evidence: hooked.Evidence, Held: hooked.Held, Undo: hooked.Undo,
				},
			},
		},
		{
			name:   "took-over the second time within an hour",
			events: []Notification{again},
		},
		{
			name: "flapping",
			events: []Notification{{
				Kind: Flapping,
				Time: night.Add(time.Hour),
				Held: prefixes("172.16.0.1/32"),
				Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
				Suppressed: []state.Suppressed{
					{Time: night, Kind: "released", Event: "20260301T030405Z-AAAAAAAA", Reason: "address conflict: 172.16.0.1 is also at 52:54:00:aa:bb:cc"},
					{Time: night.Add(time.Minute), Kind: "took-over", Event: "20260301T030505Z-BBBBBBBB", Reason: "172.16.0.2 does not reply"},
					{Time: night.Add(2 * time.Minute), Kind: "released", Event: "20260301T030605Z-CCCCCCCC"},
					{Time: night.Add(3 * time.Minute), Kind: "blocked", Reason: "172.16.0.2 does not reply, but 172.16.0.1 is in use by 52:54:00:aa:bb:cc"},
				},
			}},
		},
		{
			name: "flapping included in another message",
			events: []Notification{
				{Kind: AliasGone, Time: night, Reason: "172.16.0.1 is not there", Missing: prefixes("172.16.0.1/32")},
				{Kind: Flapping, Time: night, Suppressed: []state.Suppressed{
					{Time: night.Add(-time.Minute), Kind: "took-over", Event: "20260301T030305Z-AAAAAAAA", Reason: "172.16.0.2 does not reply"},
				}},
			},
		},
		{
			name: "release-failed",
			events: []Notification{{
				Kind:   ReleaseFailed,
				Time:   night,
				Reason: "address conflict: 172.16.0.1 is also at 52:54:00:aa:bb:cc",
				Evidence: with(up(), func(e *state.Evidence) {
					e.Holders = []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}}
					e.Commands = []state.Command{{
						Argv:   strings.Fields("ip addr del 172.16.0.1/32 dev eth0"),
						Code:   new(-1),
						Output: "",
					}}
				}),
				Held: prefixes("172.16.0.1/32"),
				Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name: "blocked by no witness",
			events: []Notification{{
				Kind:   Blocked,
				Time:   night,
				Reason: "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network",
				Evidence: with(silent(), func(e *state.Evidence) {
					e.Witnesses = []state.Witness{{Address: "172.16.0.254"}, {Address: "172.16.0.253"}}
				}),
				Cause: state.CauseWitnessSilent, Alert: state.Alert{Kind: "blocked", Rule: 11, Since: night, Mailed: night},
			}},
		},
		{
			name: "blocked by a pause during a conflict",
			events: []Notification{{
				Kind:   Blocked,
				Time:   night,
				Reason: "paused, holding 172.16.0.1 although 52:54:00:aa:bb:cc has it as well",
				Evidence: with(up(), func(e *state.Evidence) {
					e.Holders = []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}}
				}),
				Held: prefixes("172.16.0.1/32"), Cause: state.CausePaused,
			}},
		},
		{
			name:   "primary-back with a state directory of its own",
			change: func(c *Cluster) { c.StateDir = "/srv/state of web" },
			events: []Notification{{
				Kind: PrimaryBack, Time: night, Reason: "holding 172.16.0.1; 172.16.0.2 replies again", Evidence: up(),
				Held: prefixes("172.16.0.1/32"), Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name: "takeover interrupted",
			events: []Notification{{
				Kind:        TakeoverFailed,
				Event:       "20260301T030405Z-AAAAAAAA",
				Time:        night,
				Reason:      "172.16.0.2 does not reply; the check that began the takeover was killed, and nothing is assigned",
				Evidence:    silent(),
				Missing:     prefixes("172.16.0.1/32"),
				Interrupted: true,
			}},
		},
		{
			name: "blocked by a hand-over that is not verified",
			events: []Notification{{
				Kind:       Blocked,
				Time:       night,
				Reason:     "172.16.0.2 was up in 3 checks in a row: handed over; it cannot be asked who has it: eth0: network is down",
				Evidence:   up(),
				Missing:    prefixes("172.16.0.1/32"),
				Unverified: true,
			}},
		},
		{
			name:   "down",
			change: func(c *Cluster) { c.VIPs, c.Name = nil, "172.16.0.2" },
			events: []Notification{{Kind: Down, Time: night, Reason: "172.16.0.2 does not reply", Evidence: silent()}},
		},
		{
			name: "unserved, a reminder",
			events: []Notification{{
				Kind:     Unserved,
				Time:     night,
				Reason:   "172.16.0.2 replies, and 172.16.0.1 was not in use in 3 checks in a row",
				Evidence: up(),
				Missing:  prefixes("172.16.0.1/32"),
				Alert:    state.Alert{Kind: "unserved", Rule: 7, Since: night.Add(-24 * time.Hour)},
			}},
			inReplyTo: "<first@standby1>",
		},
		{
			name:   "unserved, one of several",
			change: func(c *Cluster) { c.VIPs = prefixes("172.16.0.1/32", "172.16.0.5/32", "2001:db8::5/128") },
			events: []Notification{{
				Kind: Unserved, Time: night, Evidence: up(),
				Missing: prefixes("172.16.0.5/32", "2001:db8::5/128"),
			}},
		},
		{
			name: "unserved, a service",
			events: []Notification{{
				Kind: Unserved, Time: night, Evidence: served("bad", "connection refused"),
				Reason: "172.16.0.2 replies, but service https://www.example.com does not work: connection refused",
			}},
		},
		{
			name: "took over for a service",
			events: []Notification{{
				Kind: TookOver, Cause: state.CauseService, Event: "20260301T030405Z-ABCDEFGH", Time: night, Evidence: served("bad", "connection refused"), Held: prefixes("172.16.0.1/32"),
				Reason: "172.16.0.2 replies, but service https://www.example.com does not work: connection refused (3 checks in a row); it is fenced, and 172.16.0.1 taken over",
			}},
		},
		{
			name: "fenced for a service, and it still replies",
			events: []Notification{{
				Kind: Blocked, Cause: state.CauseService, Time: night, Evidence: served("bad", "connection refused"),
				Reason: "172.16.0.2 was fenced for https://www.example.com, but it still replies",
			}},
		},
		{
			name: "holding, but a service does not work",
			events: []Notification{{
				Kind: ServiceDown, Time: night, Evidence: served("bad", "answers 503 Service Unavailable"), Held: prefixes("172.16.0.1/32"),
				Reason: "holding, but service https://www.example.com does not work: answers 503 Service Unavailable",
			}},
		},
		{
			name: "certificate",
			events: []Notification{{
				Kind: Certificate, Time: night, Evidence: served("unknown", "its certificate does not verify: x509: certificate has expired"),
				Reason: "https://www.example.com at 172.16.0.1: its certificate does not verify: x509: certificate has expired",
			}},
		},
		{
			name: "unknown",
			events: []Notification{{
				Kind:   Unknown,
				Time:   night,
				Reason: "eth0 has no carrier",
				Evidence: state.Evidence{
					Address: "172.16.0.2",
					Rounds:  []state.Round{{Verdict: "unknown", Sent: 2, Error: new("eth0 has no carrier")}},
				},
			}},
		},
		{
			name: "state-failed",
			events: []Notification{{
				Kind:     StateFailed,
				Time:     night,
				Reason:   "/var/lib/pingover/web.json: no space left on device",
				Evidence: silent(),
				Held:     prefixes("172.16.0.1/32"),
			}},
		},
		{
			name: "alias-gone",
			events: []Notification{{
				Kind:    AliasGone,
				Time:    night,
				Reason:  "172.16.0.1 was added on eth0 and is gone",
				Missing: prefixes("172.16.0.1/32"),
				Undo:    []string{"ip addr add 172.16.0.1/32 dev eth0 label eth0:1"},
			}},
		},
		{
			name: "primary-back",
			events: []Notification{{
				Kind:     PrimaryBack,
				Time:     night,
				Reason:   "172.16.0.2 replies; failback is manual",
				Evidence: up(),
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
			inReplyTo: "<took.over@standby1>",
		},
		{
			name: "recovered",
			events: []Notification{{
				Kind:     Recovered,
				Time:     night,
				Reason:   "172.16.0.2 replies",
				Evidence: up(),
				Alert:    state.Alert{Kind: "unserved", Rule: 7, Since: night.Add(-47*time.Minute - 12*time.Second)},
			}},
			inReplyTo: "<first@standby1>",
		},
		{
			name: "file-unusable",
			events: []Notification{{
				Kind: FileUnusable, Time: night, File: "/etc/pingover.yaml", Valid: night.Add(-48 * time.Hour),
				Errors: []string{
					`/etc/pingover.yaml:6: cluster web: key "intervall": unknown; did you mean interval?`,
					`/etc/pingover.yaml:7: cluster db: host: missing; every cluster needs one`,
				},
				Alert: state.Alert{Kind: "file-unusable", Since: night},
			}},
		},
		{
			name:   "mail-dropped",
			events: []Notification{{Kind: MailDropped, Time: night, Reason: "17 messages were dropped, of 2026-02-28 10:00:00 UTC to 2026-02-28 12:00:00 UTC"}},
		},
		{
			name: "several",
			events: []Notification{
				tookOver,
				{
					Kind:     StateFailed,
					Time:     night.Add(-time.Second),
					Reason:   "/var/lib/pingover/web.json: read-only file system",
					Evidence: tookOver.Evidence,
					Undo:     tookOver.Undo,
				},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := web()
			if tt.change != nil {
				tt.change(&c)
			}
			l := Compose(c, tt.events, "f00d.1", tt.inReplyTo)
			golden(t, tt.name, fmt.Sprintf("Message-ID: %s\nIn-Reply-To: %s\nTo: %s\nTime: %s\nSubject: %s\n\n%s",
				l.MessageID, l.InReplyTo, l.To, l.Time.Format(time.RFC3339), l.Subject, l.Body))
			for line := range strings.Lines(l.Body) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > maxLine {
					t.Errorf("line of %d characters: %q", n, line)
				}
			}
		})
	}
}

// A hook runs after its message is in the outbox: the message is written again,
// and replaces the first.
func TestMessageWrittenAgainAfterItsHook(t *testing.T) {
	n := Notification{
		Kind: TookOver, Time: night, Held: prefixes("172.16.0.1/32"),
		Evidence: with(silent(), func(e *state.Evidence) {
			e.Commands = []state.Command{{Argv: strings.Fields("ip addr add 172.16.0.1/32 dev eth0"), Code: new(0)}}
		}),
	}
	before := Compose(web(), []Notification{n}, "f00d.took-over", "")
	n.Evidence.Commands = append(n.Evidence.Commands, state.Command{
		Argv: strings.Fields("systemctl start nginx"), Code: new(0), Output: "nginx started\nwith 4 workers\n",
	})
	after := Compose(web(), []Notification{n}, "f00d.took-over", "")

	want := before
	want.Body = strings.Replace(before.Body, "\nWhat to do now\n", `  systemctl start nginx
    exit code 0
    | nginx started
    | with 4 workers

What to do now
`, 1)
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("the message written again (-want +got):\n%s", diff)
	}
}

func four() []netip.Prefix {
	return prefixes("172.16.0.1/16", "172.16.0.5/16", "172.16.0.6/16", "2001:db8::1/128")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", strings.NewReplacer(" ", "-", ",", "").Replace(name)+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test ./notify -update writes it anew:\n%s", file, diff)
	}
}

func TestEveryKindHasItsOwnWords(t *testing.T) {
	kinds := []Kind{
		TookOver, TakeoverFailed, Released, ReleaseFailed, Blocked, Down, Unserved, Unknown,
		StateFailed, AliasGone, PrimaryBack, NobodyTook, HookFailed, Recovered, Flapping, MailDropped,
		Elsewhere, NotReady, Isolated, NoArbiter, ServiceDown, Certificate, Unconfigured, FileUnusable, LockHeld, NotUsed,
	}
	whole := Notification{
		Time: night, Evidence: silent(), Held: prefixes("172.16.0.1/32"), Missing: prefixes("172.16.0.1/32"),
		Reason: "17 messages were dropped, of 2026-02-28 10:00:00 UTC to 2026-02-28 12:00:00 UTC", Alert: state.Alert{Kind: "blocked", Since: night},
	}
	seen := map[string]Kind{}
	for _, kind := range kinds {
		n := whole
		n.Kind = kind
		s := subject(web(), n)
		if other, ok := seen[s]; ok {
			t.Errorf("%s and %s have the same subject %q", kind, other, s)
		}
		seen[s] = kind
		claims := strings.Contains(s, "is down!")
		want := kind == TookOver || kind == TakeoverFailed || kind == Down || kind == StateFailed || kind == Elsewhere
		if claims != want {
			t.Errorf("%s: subject %q; claims that the primary is down: %v, want %v", kind, s, claims, want)
		}

		n.Evidence = up()
		if s := subject(web(), n); strings.Contains(s, "down!") {
			t.Errorf("%s: subject %q with a primary that replied", kind, s)
		}

		// A caller that knows less gets a message without gaps.
		l := Compose(web(), []Notification{{Kind: kind, Time: night, Reason: "a reason"}}, "id", "")
		if strings.Contains(l.Subject+l.Body, "  on") || strings.Contains(l.Subject, "  ") || strings.Contains(l.Subject, "%!") || strings.Contains(l.Body, "%!") {
			t.Errorf("%s: something is missing in\n%s\n\n%s", kind, l.Subject, l.Body)
		}
	}
}

func TestEveryAlertResolves(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range []Kind{TakeoverFailed, ReleaseFailed, Blocked, Down, Unserved, Unknown, StateFailed, NotReady, Isolated, NoArbiter, ServiceDown, Certificate, HookFailed, NotUsed} {
		s := subject(web(), Notification{Kind: Recovered, Time: night, Alert: state.Alert{Kind: string(kind)}})
		if seen[s] || strings.Contains(s, " is over on ") {
			t.Errorf("%s ends with the subject %q, which is not its own", kind, s)
		}
		seen[s] = true
	}
	got := subject(web(), Notification{Kind: Recovered, Time: night, Alert: state.Alert{Kind: "flood"}})
	if want := "[pingover] web: RESOLVED: flood is over on standby1"; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}

func TestSubjectIsOneBoundedLine(t *testing.T) {
	c := web()
	c.Name, c.Hostname = "web\r\nBcc: evil@example.org", "st\x00andby\u2028\xff"+strings.Repeat("ö", 500)
	got := Compose(c, []Notification{{Kind: Unknown, Time: night}}, "id", "").Subject
	want := "[pingover] web Bcc: evil@example.org: PROBLEM: st andby ?" + strings.Repeat("ö", 140) + "..."
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if n := utf8.RuneCountInString(got); n != maxSubject {
		t.Errorf("%d characters, want %d", n, maxSubject)
	}
}

func TestManyAddressesAreCounted(t *testing.T) {
	c := web()
	for i := range 40 {
		c.VIPs = append(c.VIPs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32))
	}
	got := Compose(c, []Notification{{Kind: TookOver, Time: night, Held: c.VIPs}}, "id", "").Subject
	want := "[pingover] web: standby1 took over 172.16.0.1, 10.0.0.0, 10.0.0.1 and 38 more"
	if got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}

func TestMessageID(t *testing.T) {
	tests := []struct{ name, id, host, want string }{
		{"as it comes", "20260301T030405Z.1", "standby1.example.org", "<20260301T030405Z.1@standby1.example.org>"},
		{"nothing given", "", "", "<message@localhost>"},
		{"no header can be smuggled in", "a>\r\nBcc: x@y", "h\no<st>", "<a---Bcc--x-y@h-o-st>"},
		{"no quoting needed", ".a b.", "höst.", "<a-b@h-st>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := messageID(tt.id, tt.host); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestEachRecipientOnce(t *testing.T) {
	c := web()
	c.To = []string{"a@example.org", "b@example.org", "a@example.org"}
	got := Compose(c, []Notification{{Kind: Unknown, Time: night}}, "id", "").To
	if diff := cmp.Diff([]string{"a@example.org", "b@example.org"}, got); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}

func TestUTCOnceWhereItIsLocal(t *testing.T) {
	defer func(zone *time.Location) { time.Local = zone }(time.Local)
	time.Local = time.UTC
	if diff := cmp.Diff([]string{"2026-03-01 03:04:05 UTC"}, clocks(night)); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

func TestCommandsCanBePastedIntoAShell(t *testing.T) {
	got := proc.Line([]string{"sh", "-c", "echo 'a b' > /tmp/x", "", "eth0:1", "172.16.0.1/32", "a\tb"})
	want := `sh -c 'echo '\''a b'\'' > /tmp/x' '' eth0:1 172.16.0.1/32 'a` + "\t" + `b'`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1400 * time.Millisecond: "1s",
		59 * time.Second:        "59s",
		90 * time.Minute:        "1h30m",
		24 * time.Hour:          "24h",
		10 * time.Minute:        "10m",
		47*time.Minute + 12*1e9: "47m",
		100*time.Hour + 31*1e9:  "100h1m",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
