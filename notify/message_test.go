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

// silent is what a standby sees when the primary has lost its power.
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

func TestLetters(t *testing.T) {
	raised := state.Command{
		Argv: strings.Fields("ip addr add 172.16.0.1/32 dev eth0 label eth0:1"),
		Code: new(0),
	}
	lowered := state.Command{Argv: strings.Fields("ip addr del 172.16.0.1/32 dev eth0"), Code: new(0)}
	tookOver := Notification{
		Kind:     TookOver,
		Event:    "20260301T030405Z-ABCDEFGH",
		Time:     night,
		Reason:   "172.16.0.2 answered none of 10 pings in 2 rounds, the witness 172.16.0.254 answers, and nobody answers for 172.16.0.1",
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

	tests := []struct {
		name      string
		change    func(*Cluster)
		news      []Notification
		inReplyTo string
	}{
		{name: "took-over", news: []Notification{tookOver}},
		{
			name: "took-over by hand says nothing of a primary that was not asked",
			news: []Notification{{
				Kind:     TookOver,
				Time:     night,
				Reason:   "by hand",
				Evidence: state.Evidence{Commands: []state.Command{raised}},
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name:   "took-over four of four, named by host name, and a hook printed",
			change: func(c *Cluster) { c.Host, c.Name, c.VIPs, c.Interface = "db1.example.org", "db", four(), "" },
			news: []Notification{{
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
			news: []Notification{{
				Kind:   TakeoverFailed,
				Time:   night,
				Reason: "172.16.0.2 is down, and 172.16.0.5 could not be raised",
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
			news: []Notification{{
				Kind:   Released,
				Time:   night,
				Reason: "52:54:00:aa:bb:cc answers for 172.16.0.1 as well, and its MAC is lower than ours",
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
			name: "released by hand, and nobody was asked",
			news: []Notification{{
				Kind:     Released,
				Event:    "20260301T030405Z-ABCDEFGH",
				Time:     night,
				Reason:   "by hand, and by force: nobody was asked to take it; no check takes over until 172.16.0.2 was up once, or takeover or resume is typed",
				Evidence: state.Evidence{Commands: []state.Command{lowered}},
				Missing:  prefixes("172.16.0.1/32"),
			}},
		},
		{
			name: "released by failback",
			news: []Notification{{
				Kind:   Released,
				Event:  "20260301T030405Z-ABCDEFGH",
				Time:   night,
				Reason: "172.16.0.2 was up in 3 checks in a row; 52:54:00:aa:bb:cc has taken 172.16.0.1",
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
			news: []Notification{{
				Kind:     NobodyTook,
				Time:     night,
				Reason:   "172.16.0.2 was up in 3 checks in a row, but nobody took 172.16.0.1",
				Evidence: with(up(), func(e *state.Evidence) { e.Commands = []state.Command{lowered, raised} }),
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
			inReplyTo: "<took.over@standby1>",
		},
		{
			name: "hook-failed",
			news: []Notification{{
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
			name: "hook-failed, told in the letter about the takeover",
			news: []Notification{
				hooked,
				{
					Kind: HookFailed, Hook: "post-takeover", Time: night, Reason: "systemctl start postgresql: exit code 5",
					Evidence: hooked.Evidence, Held: hooked.Held, Undo: hooked.Undo,
				},
			},
		},
		{
			name: "took-over the second time within an hour",
			news: []Notification{again},
		},
		{
			name: "flapping",
			news: []Notification{{
				Kind: Flapping,
				Time: night.Add(time.Hour),
				Held: prefixes("172.16.0.1/32"),
				Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
				Suppressed: []state.Suppressed{
					{Time: night, Kind: "released", Event: "20260301T030405Z-AAAAAAAA", Reason: "172.16.0.1 is also at 52:54:00:aa:bb:cc, another machine, and is given up here"},
					{Time: night.Add(time.Minute), Kind: "took-over", Event: "20260301T030505Z-BBBBBBBB", Reason: "172.16.0.2 does not answer"},
					{Time: night.Add(2 * time.Minute), Kind: "released", Event: "20260301T030605Z-CCCCCCCC"},
					{Time: night.Add(3 * time.Minute), Kind: "blocked", Reason: "172.16.0.2 does not answer, but 172.16.0.1 is at 52:54:00:aa:bb:cc"},
				},
			}},
		},
		{
			name: "flapping, taken along by news that is new",
			news: []Notification{
				{Kind: AliasGone, Time: night, Reason: "172.16.0.1 is not there", Missing: prefixes("172.16.0.1/32")},
				{Kind: Flapping, Time: night, Suppressed: []state.Suppressed{
					{Time: night.Add(-time.Minute), Kind: "took-over", Event: "20260301T030305Z-AAAAAAAA", Reason: "172.16.0.2 does not answer"},
				}},
			},
		},
		{
			name: "release-failed",
			news: []Notification{{
				Kind:   ReleaseFailed,
				Time:   night,
				Reason: "52:54:00:aa:bb:cc answers for 172.16.0.1 as well",
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
			name: "blocked because no witness answers",
			news: []Notification{{
				Kind:   Blocked,
				Time:   night,
				Reason: "no witness answers: it may be this machine that is cut off",
				Evidence: with(silent(), func(e *state.Evidence) {
					e.Witnesses = []state.Witness{{Address: "172.16.0.254"}, {Address: "172.16.0.253"}}
				}),
				Alert: state.Alert{Kind: "blocked", Rule: 11, Since: night, Mailed: night},
			}},
		},
		{
			name: "blocked while a rival holds the same address",
			news: []Notification{{
				Kind:   Blocked,
				Time:   night,
				Reason: "paused, and 52:54:00:aa:bb:cc answers for 172.16.0.1",
				Evidence: with(up(), func(e *state.Evidence) {
					e.Holders = []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}}
				}),
				Held: prefixes("172.16.0.1/32"),
			}},
		},
		{
			name:   "primary back, with a state directory of its own",
			change: func(c *Cluster) { c.StateDir = "/srv/state of web" },
			news: []Notification{{
				Kind: PrimaryBack, Time: night, Reason: "holding 172.16.0.1; 172.16.0.2 answers again", Evidence: up(),
				Held: prefixes("172.16.0.1/32"), Undo: []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
		},
		{
			name: "blocked because nobody can be asked who has what was handed over",
			news: []Notification{{
				Kind:       Blocked,
				Time:       night,
				Reason:     "172.16.0.2 has answered in 3 checks in a row: handed over; but whether somebody has taken it cannot be asked: eth0: listening ended: network is down",
				Evidence:   up(),
				Missing:    prefixes("172.16.0.1/32"),
				Unverified: true,
			}},
		},
		{
			name:   "down",
			change: func(c *Cluster) { c.VIPs, c.Name = nil, "172.16.0.2" },
			news:   []Notification{{Kind: Down, Time: night, Reason: "172.16.0.2 answered none of 10 pings", Evidence: silent()}},
		},
		{
			name: "unserved, a reminder",
			news: []Notification{{
				Kind:     Unserved,
				Time:     night,
				Reason:   "172.16.0.2 answers, and nobody has answered for 172.16.0.1 in 3 checks in a row",
				Evidence: up(),
				Missing:  prefixes("172.16.0.1/32"),
				Alert:    state.Alert{Kind: "unserved", Rule: 7, Since: night.Add(-24 * time.Hour)},
			}},
			inReplyTo: "<first@standby1>",
		},
		{
			name:   "unserved, one of several",
			change: func(c *Cluster) { c.VIPs = prefixes("172.16.0.1/32", "172.16.0.5/32", "2001:db8::5/128") },
			news: []Notification{{
				Kind: Unserved, Time: night, Evidence: up(),
				Missing: prefixes("172.16.0.5/32", "2001:db8::5/128"),
			}},
		},
		{
			name: "unknown",
			news: []Notification{{
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
			news: []Notification{{
				Kind:     StateFailed,
				Time:     night,
				Reason:   "/var/lib/pingover/web.json: no space left on device",
				Evidence: silent(),
				Held:     prefixes("172.16.0.1/32"),
			}},
		},
		{
			name: "alias-gone",
			news: []Notification{{
				Kind:    AliasGone,
				Time:    night,
				Reason:  "172.16.0.1 was raised on eth0 at 2026-02-28 01:00:00 UTC and is not there",
				Missing: prefixes("172.16.0.1/32"),
				Undo:    []string{"ip addr add 172.16.0.1/32 dev eth0 label eth0:1"},
			}},
		},
		{
			name: "primary-back",
			news: []Notification{{
				Kind:     PrimaryBack,
				Time:     night,
				Reason:   "172.16.0.2 answers; failback is manual",
				Evidence: up(),
				Held:     prefixes("172.16.0.1/32"),
				Undo:     []string{"ip addr del 172.16.0.1/32 dev eth0"},
			}},
			inReplyTo: "<took.over@standby1>",
		},
		{
			name: "recovered",
			news: []Notification{{
				Kind:     Recovered,
				Time:     night,
				Reason:   "172.16.0.2 answers",
				Evidence: up(),
				Alert:    state.Alert{Kind: "unserved", Rule: 7, Since: night.Add(-47*time.Minute - 12*time.Second)},
			}},
			inReplyTo: "<first@standby1>",
		},
		{
			name: "mail-dropped",
			news: []Notification{{Kind: MailDropped, Time: night, Reason: "17 mails from standby1 were dropped"}},
		},
		{
			name: "several",
			news: []Notification{
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
			l := Compose(c, tt.news, "f00d.1", tt.inReplyTo)
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

// A hook runs after its letter is in the outbox: the letter is written again,
// and takes the place of the first.
func TestALetterWrittenAgainAfterItsHook(t *testing.T) {
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
		t.Errorf("the letter written again (-want +got):\n%s", diff)
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
	}
	whole := Notification{
		Time: night, Evidence: silent(), Held: prefixes("172.16.0.1/32"), Missing: prefixes("172.16.0.1/32"),
		Reason: "17 mails from standby1 were dropped", Alert: state.Alert{Kind: "blocked", Since: night},
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
		want := kind == TookOver || kind == TakeoverFailed || kind == Down || kind == StateFailed
		if claims != want {
			t.Errorf("%s: subject %q; claims that the primary is down: %v, want %v", kind, s, claims, want)
		}

		n.Evidence = up()
		if s := subject(web(), n); strings.Contains(s, "down!") {
			t.Errorf("%s: subject %q with a primary that answered", kind, s)
		}

		// A caller that knows less gets a letter without holes.
		l := Compose(web(), []Notification{{Kind: kind, Time: night, Reason: "a reason"}}, "id", "")
		if strings.Contains(l.Subject+l.Body, "  on") || strings.Contains(l.Subject, "  ") || strings.Contains(l.Subject, "%!") || strings.Contains(l.Body, "%!") {
			t.Errorf("%s: something is missing in\n%s\n\n%s", kind, l.Subject, l.Body)
		}
	}
}

func TestEveryTroubleHasAnEnd(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range []Kind{TakeoverFailed, ReleaseFailed, Blocked, Down, Unserved, Unknown, StateFailed} {
		s := subject(web(), Notification{Kind: Recovered, Time: night, Alert: state.Alert{Kind: string(kind)}})
		if seen[s] || strings.Contains(s, " is over on ") {
			t.Errorf("%s ends with the subject %q, which is not its own", kind, s)
		}
		seen[s] = true
	}
	got := subject(web(), Notification{Kind: Recovered, Time: night, Alert: state.Alert{Kind: "flood"}})
	if want := "web: flood is over on standby1"; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}

func TestSubjectIsOneBoundedLine(t *testing.T) {
	c := web()
	c.Name, c.Hostname = "web\r\nBcc: evil@example.org", "st\x00andby\u2028\xff"+strings.Repeat("ö", 500)
	got := Compose(c, []Notification{{Kind: Unknown, Time: night}}, "id", "").Subject
	want := "web Bcc: evil@example.org: st andby ?" + strings.Repeat("ö", 160) + "..."
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
	want := "web: took over 172.16.0.1, 10.0.0.0, 10.0.0.1 and 38 more on standby1"
	if got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}

func TestMessageID(t *testing.T) {
	tests := []struct{ name, id, host, want string }{
		{"as it comes", "20260301T030405Z.1", "standby1.example.org", "<20260301T030405Z.1@standby1.example.org>"},
		{"nothing given", "", "", "<letter@localhost>"},
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

func TestNobodyIsToldTwice(t *testing.T) {
	c := web()
	c.To = []string{"a@example.org", "b@example.org", "a@example.org"}
	got := Compose(c, []Notification{{Kind: Unknown, Time: night}}, "id", "").To
	if diff := cmp.Diff([]string{"a@example.org", "b@example.org"}, got); diff != "" {
		t.Errorf("recipients (-want +got):\n%s", diff)
	}
}

func TestUTCIsSaidOnceWhereItIsLocal(t *testing.T) {
	defer func(zone *time.Location) { time.Local = zone }(time.Local)
	time.Local = time.UTC
	if diff := cmp.Diff([]string{"2026-03-01 03:04:05 UTC"}, clocks(night)); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

func TestCommandsCanBeCopiedIntoAShell(t *testing.T) {
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
			t.Errorf("%v is said as %q, want %q", d, got, want)
		}
	}
}
