package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))
	vipOf = netip.MustParsePrefix("172.16.0.1/32")
)

// ago is a time before noon, as a record has it.
func ago(d time.Duration) time.Time { return noon.Add(-d).UTC() }

// standing is the record of a cluster that was checked 34 s ago, and all was
// well.
func standing(name string) *state.Record {
	return &state.Record{
		Head: state.Head{Version: state.Version, Name: name, Gap: 60000, Last: &state.Check{
			Time: ago(34 * time.Second), Outcome: state.OK, Reason: "172.16.0.2 replies",
			Primary: "up", Sent: 1, Received: 1, RTT: new(0.412), Duration: 15,
		}}, Host: "172.16.0.2", Interface: "eth0", Role: state.Standby,
		Since: ago(72 * time.Hour), VIPs: []state.Alias{{Prefix: vipOf, Interface: "eth0"}},
	}
}

// active is the record of one that took over.
func active(name string) *state.Record {
	r := standing(name)
	r.Role, r.Since, r.VIPs[0].Raised = state.Active, ago(3*time.Hour), true
	r.Last = &state.Check{
		Time: ago(34 * time.Second), Outcome: state.Holding, Code: 10, Reason: "holding 172.16.0.1; 172.16.0.2 does not reply",
		Primary: "down", Sent: 5, Duration: 13004,
	}
	return r
}

// here is a kernel that has these addresses on eth0.
func here(prefixes ...string) *vip.Snapshot {
	link := vip.Link{Name: "eth0"}
	for _, p := range prefixes {
		link.Addresses = append(link.Addresses, vip.Address{Prefix: netip.MustParsePrefix(p)})
	}
	return &vip.Snapshot{Links: []vip.Link{link}}
}

// known: the status of a cluster of which there is this record, with changes.
func known(rec *state.Record, kernel *vip.Snapshot, changes ...func(*state.Record)) status {
	for _, change := range changes {
		change(rec)
	}
	s := statusOf(Program{}.task(config.Cluster{Name: rec.Name}), rec, noon)
	s.hold(kernel, nil)
	return s
}

// unreadable is one whose record cannot be read.
func unreadable(name string) status {
	s := statusOf(Program{}.task(config.Cluster{Name: name}), nil, noon)
	s.fault(&state.CorruptError{Path: "/var/lib/pingover/" + name + ".json", Err: fmt.Errorf("it is empty")})
	s.hold(here(), nil)
	return s
}

func paused(s status) status {
	s.pause(noon.Add(30*time.Minute), nil)
	return s
}

func awake(s status) status {
	s.pause(time.Time{}, nil)
	return s
}

// inTrouble has something wrong with all of it.
func inTrouble(name string) status {
	return paused(known(active(name), here("172.16.0.1/32"), func(r *state.Record) {
		r.VIPs = append(r.VIPs, state.Alias{Prefix: netip.MustParsePrefix("2001:db8::5/128")})
		r.Last.Time, r.Last.Outcome, r.Last.Code = ago(12*time.Minute), state.TakeoverFailed, 30
		r.Last.Reason = "2001:db8::5 could not be raised: ip -6 addr add 2001:db8::5/128 dev eth0: exit code 2: RTNETLINK answers: Permission denied"
		r.Outbox, r.MailError = make([]state.Message, 2), new("dial tcp 172.16.0.25:25: connect: connection refused\x1b[2J")
		r.PendingHook = &state.PendingHook{Hook: state.PostTakeover}
	}))
}

// left is one that was here with another virtual IP, too, before that was changed.
func left(name string) status {
	return known(standing(name), here("172.16.0.9/16"), func(r *state.Record) {
		r.VIPs = append(r.VIPs, state.Alias{Prefix: netip.MustParsePrefix("172.16.0.9/16"), Interface: "eth0", Raised: true, LeftOver: true})
		r.Settings = map[string][]string{"host": {"172.16.0.2"}, "vip": {"172.16.0.1@eth0"}}
	})
}

func neverChecked(name string) status {
	s := statusOf(Program{}.task(config.Cluster{Name: name, Host: "172.16.0.3", VIPs: []config.VIP{{Prefix: vipOf}}}), &state.Record{Role: state.Standby}, noon)
	s.hold(here(), nil)
	return s
}

func TestStatusForPeople(t *testing.T) {
	got := Program{Env: config.Env{Hostname: "standby"}}.statusText([]status{
		known(standing("db"), here()),
		known(active("web"), here("172.16.0.1/16")),
		inTrouble("mail"),
		neverChecked("new"),
		unreadable("old"),
		left("moved"),
		known(standing("ahead"), here(), func(r *state.Record) { r.Last.Time = ago(-time.Hour) }),
		known(standing("report"), here(), func(r *state.Record) { r.VIPs = nil; r.Host = "2001:db8::1234" }),
		known(standing("mute"), here(), func(r *state.Record) { r.NotAsked = []netip.Addr{vipOf.Addr()} }),
	})
	want := `6 of 9 clusters need attention: web, mail, new, old, moved, 1 more

CLUSTER  PRIMARY         VIP          SERVED BY  SINCE             LAST CHECK
web      172.16.0.2      172.16.0.1   standby    2026-03-01 09:00  34s ago: holding
    holding 172.16.0.1; 172.16.0.2 does not reply
    held on this machine: 172.16.0.1/16
mail     172.16.0.2      172.16.0.1   standby    2026-03-01 09:00  12m ago: takeover-failed
                         2001:db8::5  unknown
    2001:db8::5 could not be raised: ip -6 addr add 2001:db8::5/128 dev eth0:
    exit code 2: RTNETLINK answers: Permission denied
    the last check was 12m ago: is cron running?
    held on this machine: 172.16.0.1/32
    missing on this machine: 2001:db8::5/128
    paused until 2026-03-01 12:30:00 +0100
    2 emails pending: dial tcp 172.16.0.25:25: connect: connection refused [2J
    post-takeover is pending
new      172.16.0.3      172.16.0.1   unknown    -                 never
    never checked: is cron running?
old      -               -            -          -                 ?
    /var/lib/pingover/old.json is corrupt (it is empty), ignored
moved    172.16.0.2      172.16.0.1   primary    2026-02-26 12:00  34s ago: ok
    172.16.0.9 is still on this machine, assigned by pingover, but no longer a
    setting of this cluster; to remove it: ip addr del 172.16.0.9/16 dev eth0
ahead    172.16.0.2      172.16.0.1   unknown    2026-02-26 12:00  0s ago: ok
    the last check was at 2026-03-01 13:00:00 +0100, in the future: the clock
    was set back; is cron running?
db       172.16.0.2      172.16.0.1   primary    2026-02-26 12:00  34s ago: ok
report   2001:db8::1234  -            -          2026-02-26 12:00  34s ago: ok
mute     172.16.0.2      172.16.0.1   unknown    2026-02-26 12:00  34s ago: ok
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Until when a holder may hold, and for how long nobody has renewed that.
func TestStatusOfAHolderByTheArbiter(t *testing.T) {
	holder := func(changes ...func(*state.Record)) status {
		return known(active("web"), here("172.16.0.1/32"), append([]func(*state.Record){func(r *state.Record) {
			r.Arbiter = &state.Key{
				State: state.ArbiterOurs, Holder: "standby", TTL: 180, Revision: 7, ClusterID: "1", Stack: "b/1",
				Renewed: time.Hour, End: time.Hour + 174*time.Second, RenewedAt: ago(34 * time.Second), Until: ago(-140 * time.Second),
			}
		}}, changes...)...)
	}
	silent := holder(func(r *state.Record) {
		r.Last.Reason = "holding 172.16.0.1; 172.16.0.2 does not reply; the arbiter does not answer: 172.16.0.1 ends at 12:02:20 unless it does"
		r.Arbiter.State, r.Arbiter.Fault = state.ArbiterSilent, "https://172.16.0.11:2379: no answer within 1.5s; none of 3 members answers"
		r.Alerts = []state.Alert{{Kind: "no-arbiter", Since: ago(time.Minute), Reason: r.Last.Reason}}
	})
	const table = `1 of 1 cluster needs attention: web

CLUSTER  PRIMARY     VIP         SERVED BY  SINCE             LAST CHECK
web      172.16.0.2  172.16.0.1  standby    2026-03-01 09:00  34s ago: holding
    holding 172.16.0.1; 172.16.0.2 does not reply`
	const held = "    held on this machine: 172.16.0.1/32 until 12:02:20 (etcd, renewed 11:59:26)\n"
	for name, test := range map[string]struct {
		s    status
		want string
	}{
		"renewed": {holder(), table + "\n" + held},
		"no answer": {silent, table + `; the arbiter does not answer:
    172.16.0.1 ends at 12:02:20 unless it does
    holding, and the arbiter does not answer since 2026-03-01 11:59:00 +0100:
    https://172.16.0.11:2379: no answer within 1.5s; none of 3 members answers
` + held},
	} {
		for _, ascii := range []bool{false, true} {
			out := new(strings.Builder)
			p := Program{Env: config.Env{Hostname: "standby"}, Stdout: out, ASCII: ascii, Out: Output{Columns: 80}}
			p.print(p.statusText([]status{test.s}))
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("%s, ASCII %t: -want +got\n%s", name, ascii, diff)
			}
			for line := range strings.Lines(out.String()) {
				if len(strings.TrimSuffix(line, "\n")) > 80 {
					t.Errorf("%s: longer than 80 columns: %s", name, line)
				}
			}
		}
	}
	line := jsonLine(holder())
	if want := `"arbiter":{"state":"ours","holder":"standby","renewed":"2026-03-01T10:59:26Z","until":"2026-03-01T11:02:20Z","error":null}`; !strings.Contains(line, want) {
		t.Errorf("JSON %s, want in it %s", line, want)
	}
}

func TestStatusForPrograms(t *testing.T) {
	for _, test := range []struct {
		name string
		s    status
		want string
	}{
		{
			"all well", awake(known(standing("db"), here())),
			`{"version":1,"cluster":"db","host":"172.16.0.2","vips":["172.16.0.1/32"],"interface":"eth0","role":"standby","held":[],"left_behind":[],` +
				`"since":"2026-02-26T11:00:00Z","paused":false,"paused_until":null,"last":{"time":"2026-03-01T10:59:26Z","outcome":"ok","code":0,` +
				`"reason":"172.16.0.2 replies","age_s":34},"overdue":false,"hook_owed":null,"mail_waiting":0,"mail_error":null,"arbiter":null,"error":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null,"metrics_error":null}`,
		},
		{
			"everything wrong", inTrouble("web"),
			`{"version":1,"cluster":"web","host":"172.16.0.2","vips":["172.16.0.1/32","2001:db8::5/128"],"interface":"eth0","role":"active","held":["172.16.0.1/32"],"left_behind":[],` +
				`"since":"2026-03-01T08:00:00Z","paused":true,"paused_until":"2026-03-01T11:30:00Z","last":{"time":"2026-03-01T10:48:00Z","outcome":"takeover-failed","code":30,` +
				`"reason":"2001:db8::5 could not be raised: ip -6 addr add 2001:db8::5/128 dev eth0: exit code 2: RTNETLINK answers: Permission denied","age_s":720},` +
				`"overdue":true,"hook_owed":"post-takeover","mail_waiting":2,"mail_error":"dial tcp 172.16.0.25:25: connect: connection refused [2J","arbiter":null,"error":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null,"metrics_error":null}`,
		},
		{
			"never checked", awake(neverChecked("new")),
			`{"version":1,"cluster":"new","host":"172.16.0.3","vips":["172.16.0.1/32"],"interface":"","role":"standby","held":[],"left_behind":[],"since":null,` +
				`"paused":false,"paused_until":null,"last":null,"overdue":false,"hook_owed":null,"mail_waiting":0,"mail_error":null,"arbiter":null,"error":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null,"metrics_error":null}`,
		},
		{
			"an address was left", awake(left("web")),
			`{"version":1,"cluster":"web","host":"172.16.0.2","vips":["172.16.0.1/32"],"interface":"eth0","role":"standby","held":[],"left_behind":["172.16.0.9/16"],` +
				`"since":"2026-02-26T11:00:00Z","paused":false,"paused_until":null,"last":{"time":"2026-03-01T10:59:26Z","outcome":"ok","code":0,` +
				`"reason":"172.16.0.2 replies","age_s":34},"overdue":false,"hook_owed":null,"mail_waiting":0,"mail_error":null,"arbiter":null,"error":null,"services":[],"suppressed":{"count":0,"next":null},"alerts":[],"ready":null,"config_error":null,"metrics_error":null}`,
		},
		{
			"a broken record: what is not known: null", unreadable("old"),
			`{"version":1,"cluster":"old","host":null,"vips":null,"interface":null,"role":null,"held":null,"left_behind":null,"since":null,"paused":null,"paused_until":null,` +
				`"last":null,"overdue":null,"hook_owed":null,"mail_waiting":null,"mail_error":null,"arbiter":null,"error":"/var/lib/pingover/old.json is corrupt (it is empty), ignored",` +
				`"services":null,"suppressed":null,"alerts":null,"ready":null,"config_error":null,"metrics_error":null}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want+"\n", jsonLine(test.s)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// What is set counts, not what was; what the record says is here and the
// kernel does not, is not.
func TestStatusOfAClusterThatIsSet(t *testing.T) {
	set := config.Cluster{Name: "web", Host: "172.16.0.2", VIPs: []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.7/32")}}}
	s := statusOf(Program{}.task(set), active("web"), noon)
	s.hold(here("172.16.0.1/32"), nil)
	if diff := cmp.Diff("[172.16.0.7/32] [] [172.16.0.1/32]", fmt.Sprint(s.VIPs, s.Held, s.LeftBehind)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	s = statusOf(Program{}.task(set), active("web"), noon)
	s.hold(here(), nil)
	if len(s.Held) != 0 || s.Held == nil {
		t.Errorf("held: %v, by the record", s.Held)
	}
	s = statusOf(Program{}.task(set), active("web"), noon)
	s.hold(nil, fmt.Errorf("list the addresses: no buffer space available"))
	if s.Held != nil || *s.Error != "list the addresses: no buffer space available" {
		t.Errorf("held: %v, error %v", s.Held, s.Error)
	}
	set.Host, set.StateDir = "172.16.0.3", checked(t, "web") // the next check accepts it
	if s = survey([]Task{Program{}.task(set)}, noon, nil)[0]; s.record == nil || *s.Host != "172.16.0.3" {
		t.Errorf("host %s, record %v", *s.Host, s.record)
	}
}

func TestOverdue(t *testing.T) {
	for _, test := range []struct {
		name     string
		gap, age time.Duration
		want     bool
	}{
		{"each minute, and the last is 3 minutes old", time.Minute, 3 * time.Minute, false},
		{"each minute, and the last is older", time.Minute, 3*time.Minute + time.Second, true},
		{"the first check", 0, 3 * time.Minute, false},
		{"one check, and no more", 0, 4 * time.Minute, true},
		{"every 10 s", 10 * time.Second, 3 * time.Minute, false},
		{"each hour", time.Hour, 3 * time.Hour, false},
		{"each hour, and three are missing", time.Hour, 3*time.Hour + time.Second, true},
		{"the clock was set back", time.Minute, -time.Minute - time.Second, true},
		{"the clock was set back a little", time.Minute, -time.Minute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := known(standing("web"), here(), func(r *state.Record) {
				r.Gap, r.Last.Time = state.Milliseconds(test.gap.Milliseconds()), ago(test.age)
			})
			if *s.Overdue != test.want || s.Last.Age < 0 {
				t.Errorf("overdue %t, age %d s", *s.Overdue, s.Last.Age)
			}
		})
	}
}

func TestMonitoring(t *testing.T) {
	ended := func(name string, o state.Outcome, reason string) status {
		return known(standing(name), here(), func(r *state.Record) {
			r.Last.Outcome, r.Last.Reason, r.Last.Received, r.Last.Sent, r.Last.RTT = o, reason, 0, 5, nil
		})
	}
	late := func(r *state.Record) { r.Last.Time = ago(12 * time.Minute) }
	well := known(standing("web"), here())
	const data = " | rtt=0.412ms loss=0% held=0 age=34s mail=0\n"
	for _, test := range []struct {
		name string
		all  []status
		code int
		want string
	}{
		{"all well", []status{well}, 0, "PINGOVER OK - web: ok" + data},
		{
			"holding",
			[]status{known(active("web"), here("172.16.0.1/32"))},
			1,
			"PINGOVER WARNING - web: holding 172.16.0.1; 172.16.0.2 does not reply, held on this machine: 172.16.0.1/32 | rtt=U loss=100% held=1 age=34s mail=0\n",
		},
		{"paused", []status{paused(well)}, 1, "PINGOVER WARNING - web: ok, paused until 2026-03-01 12:30:00 +0100" + data},
		{
			"mail waits",
			[]status{known(standing("web"), here(), func(r *state.Record) { r.Outbox = make([]state.Message, 1) })},
			1,
			"PINGOVER WARNING - web: ok, 1 email pending | rtt=0.412ms loss=0% held=0 age=34s mail=1\n",
		},
		{
			"down, and a reason with a bar in it",
			[]status{ended("web", state.Down, "a | b\nc")},
			2,
			"PINGOVER CRITICAL - web: down, a / b c | rtt=U loss=100% held=0 age=34s mail=0\n",
		},
		{"unknown", []status{ended("web", state.Unknown, "no route")}, 3, "PINGOVER UNKNOWN - web: unknown, no route | rtt=U loss=100% held=0 age=34s mail=0\n"},
		{
			"overdue",
			[]status{known(standing("web"), here(), late)},
			3,
			"PINGOVER UNKNOWN - web: ok, the last check was 12m ago: is cron running? | rtt=0.412ms loss=0% held=0 age=720s mail=0\n",
		},
		{
			"down, and overdue",
			[]status{known(ended("web", state.Down, "r").record, here(), late)},
			2,
			"PINGOVER CRITICAL - web: down, r, the last check was 12m ago: is cron running? | rtt=U loss=100% held=0 age=720s mail=0\n",
		},
		{
			"the clock was set back",
			[]status{known(standing("web"), here(), func(r *state.Record) { r.Last.Time = ago(-time.Hour) })},
			3,
			"PINGOVER UNKNOWN - web: ok, the last check was at 2026-03-01 13:00:00 +0100, in the future: the clock was set back; is cron running? | rtt=0.412ms loss=0% held=0 age=0s mail=0\n",
		},
		{
			"an address was left",
			[]status{left("web")},
			1,
			"PINGOVER WARNING - web: ok, 172.16.0.9 is still on this machine, assigned by pingover, but no longer a setting of this cluster; " +
				"to remove it: ip addr del 172.16.0.9/16 dev eth0 | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{"never checked", []status{neverChecked("web")}, 3, "PINGOVER UNKNOWN - web: never checked: is cron running? | rtt=U loss=U held=0 age=U mail=0\n"},
		{
			"a broken record",
			[]status{unreadable("web")},
			3,
			"PINGOVER UNKNOWN - web: /var/lib/pingover/web.json is corrupt (it is empty), ignored | rtt=U loss=U held=U age=U mail=U\n",
		},
		{"two, all well", []status{known(standing("db"), here()), well}, 0, "PINGOVER OK - 2 clusters ok" +
			" | db_rtt=0.412ms db_loss=0% db_held=0 db_age=34s db_mail=0 web_rtt=0.412ms web_loss=0% web_held=0 web_age=34s web_mail=0\n"},
		{
			"four, of which one is down",
			[]status{ended("a", state.Released, "ra"), well, ended("c", state.Unknown, "rc"), ended("d", state.Blocked, "rd")},
			2,
			"PINGOVER CRITICAL - 3 of 4 clusters not ok, the worst: d: blocked, rd" +
				" | a_rtt=U a_loss=100% a_held=0 a_age=34s a_mail=0 web_rtt=0.412ms web_loss=0% web_held=0 web_age=34s web_mail=0" +
				" c_rtt=U c_loss=100% c_held=0 c_age=34s c_mail=0 d_rtt=U d_loss=100% d_held=0 d_age=34s d_mail=0\n" +
				"d: blocked, rd\nc: unknown, rc\na: released, ra\n",
		},
		{
			"not ready to take over",
			[]status{alerting("not-ready", "witness 172.16.0.254 does not reply")},
			2,
			"PINGOVER CRITICAL - web: ok, not ready to take over since 2026-03-01 11:00:00 +0100: witness 172.16.0.254 does not reply" +
				" | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{
			"a program that root does not run",
			[]status{alerting("not-used", "mail-via: /opt/sendmail belongs to user 1000")},
			1,
			"PINGOVER WARNING - web: ok, not used since 2026-03-01 11:00:00 +0100: mail-via: /opt/sendmail belongs to user 1000" +
				" | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{
			"holding, but isolated",
			[]status{alerting("isolated", "no witness replies")},
			2,
			"PINGOVER CRITICAL - web: ok, holding, but isolated since 2026-03-01 11:00:00 +0100: no witness replies" +
				" | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{
			"post-takeover failed",
			[]status{alerting("hook-failed", "exit code 5")},
			2,
			"PINGOVER CRITICAL - web: ok, post-takeover failed at 2026-03-01 11:00:00 +0100: exit code 5; to run it again: pingover takeover web" +
				" | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{
			"an alert of an outcome that is good again waits for its further good checks, and is nothing to act upon",
			[]status{alerting("blocked", "no witness replies")},
			0,
			"PINGOVER OK - web: ok | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
		{
			"notifications that are suppressed",
			[]status{known(standing("web"), here(), func(r *state.Record) {
				r.Damping = state.Damping{Suppressed: make([]state.Suppressed, 2), Next: ago(-time.Hour)}
			})},
			0,
			"PINGOVER OK - web: ok, flapping: 2 notifications suppressed, mailed at 2026-03-01 13:00:00 +0100 at the latest" +
				" | rtt=0.412ms loss=0% held=0 age=34s mail=0\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, code := monitoring(test.all)
			if diff := cmp.Diff(test.want, got); diff != "" || code != test.code {
				t.Errorf("code %d, want %d; -want +got\n%s", code, test.code, diff)
			}
		})
	}
}

func TestStatusNamesAlertsAndWhatIsSuppressed(t *testing.T) {
	s := known(active("web"), here("172.16.0.1/16"), func(r *state.Record) {
		r.Alerts = []state.Alert{{Kind: "isolated", Since: ago(time.Hour), Reason: "no witness replies"}}
		r.Damping = state.Damping{Suppressed: make([]state.Suppressed, 2), Next: ago(-time.Hour)}
		r.Rehearsed = ago(time.Hour)
	})
	line := jsonLine(s)
	const keys = `"services":[],"suppressed":{"count":2,"next":"2026-03-01T12:00:00Z"},` +
		`"alerts":[{"kind":"isolated","rule":0,"since":"2026-03-01T10:00:00Z","reason":"no witness replies"}],"ready":true,"config_error":null,"metrics_error":null}`
	if !strings.HasSuffix(line, keys+"\n") {
		t.Errorf("JSON %s, want at its end %s", line, keys)
	}
	if s := alerting("not-ready", "no"); !strings.Contains(jsonLine(s), `"ready":null`) {
		t.Errorf("not rehearsed: %s", jsonLine(s))
	}
	table := strings.Join(strings.Fields(Program{Env: config.Env{Hostname: "standby"}}.statusText([]status{s})), " ")
	for _, want := range []string{
		"holding, but isolated since 2026-03-01 11:00:00 +0100: no witness replies",
		"flapping: 2 notifications suppressed, mailed at 2026-03-01 13:00:00 +0100 at the latest",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("status does not say %q:\n%s", want, table)
		}
	}
}

// alerting is a standby with an alert that has been firing for an hour.
func alerting(kind, reason string) status {
	return known(standing("web"), here(), func(r *state.Record) {
		r.Alerts = []state.Alert{{Kind: kind, Since: ago(time.Hour), Reason: reason}}
	})
}

func TestMonitoringOfEachOutcome(t *testing.T) {
	want := map[state.Outcome]int{
		state.OK: 0, state.Holding: 1, state.TookOver: 1, state.Released: 1, state.Elsewhere: 1,
		state.Down: 2, state.Unserved: 2, state.Blocked: 2, state.TakeoverFailed: 2, state.ReleaseFailed: 2, state.StateFailed: 2, state.Unknown: 3,
	}
	got := map[state.Outcome]int{}
	for _, o := range outcomes(state.OfCluster) {
		got[o] = known(standing("web"), here(), func(r *state.Record) { r.Last.Outcome = o }).monitorCode()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	order := []int{2, 3, 1, 0}
	for i, a := range order {
		for j, b := range order {
			if got := worseToMonitor(a, b); got != order[min(i, j)] {
				t.Errorf("of %d and %d the worse is %d", a, b, got)
			}
		}
	}
}

func TestStatusReadsAndWritesNothing(t *testing.T) {
	dir := checked(t, "db", "web")
	must(t, os.WriteFile(filepath.Join(dir, "db.json"), []byte("{"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "web.json.bad"), nil, 0o644))
	got := faked(nil).run("status", "--state-dir", dir)
	got.Stdout = strings.ReplaceAll(got.Stdout, "\n    ", " ") // the directory's name is of any length
	want(t, got, printed{Code: 20, Stdout: `2 of 2 clusters need attention: db, web

CLUSTER  PRIMARY     VIP  SERVED BY  SINCE  LAST CHECK
db       -           -    -          -      ? ` + dir + `/db.json is corrupt (unexpected end of JSON input), ignored
web      172.16.0.2  -    -          -      never never checked: is cron running?
`})
	if got := faked(nil).run("status", "--json", "db", "--state-dir", dir); got.Code != 20 || !strings.Contains(got.Stdout, `"held":null,`) || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
	if got := faked(nil).run("status", "--monitoring", "--state-dir", dir); got.Code != 3 || !strings.HasPrefix(got.Stdout, "PINGOVER UNKNOWN - 2 of 2 clusters not ok, the worst: db: ") || got.Stderr != "" {
		t.Errorf("%+v", got)
	}
	files, err := os.ReadDir(dir)
	must(t, err)
	if len(files) != 5 {
		t.Errorf("it left %v", files)
	}
}

func TestStatusOfNothing(t *testing.T) {
	none := t.TempDir()
	firstCheck := "pingover: no cluster is known in " + none + "\nhint: run a check first, or give --host and the other flags of the check\n"
	want(t, faked(nil).run("status", "--state-dir", none), printed{Code: 64, Stderr: firstCheck})
	want(t, faked(nil).run("history", "--json", "--state-dir", none), printed{Code: 64, Stderr: firstCheck})
	want(t, faked(nil).run("status", "--monitoring", "web", "--state-dir", none), printed{Code: 3, Stdout: "PINGOVER UNKNOWN - no cluster is known in " + none + "\n"})
	long := "/" + strings.Repeat("x", 300)
	want(t, faked(nil).run("status", "--monitoring", "--state-dir", long), printed{Code: 3, Stdout: "PINGOVER UNKNOWN - open " + long + ": file name too long\n"})
	dir := checked(t, "web")
	want(t, faked(nil).run("status", "--monitoring", "wbe", "--state-dir", dir), printed{Code: 3, Stdout: "PINGOVER UNKNOWN - \"wbe\": no such cluster; known: web\n"})
	want(t, faked(nil).run("status", "--monitoring", "--json", "--state-dir", dir), printed{Code: 64, Stderr: "pingover: --json and --monitoring exclude each other\n"})
}

// Who is not root sees his own clusters, or else those of root's checks.
func TestWhoseStatusIsShown(t *testing.T) {
	home := t.TempDir()
	p := faked(nil)
	p.Env = config.Env{Getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": home}[name] }}
	const roots = "pingover: no cluster is known in /var/lib/pingover\n"
	if os.Geteuid() != 0 {
		lab.Skip(t, "it reads /var/lib/pingover: only root's tests have one of their own")
	}
	if got := p.run("status"); !strings.HasPrefix(got.Stderr, roots) {
		t.Errorf("%+v", got)
	}
	homeless := p
	homeless.Env.Getenv = func(string) string { return "" }
	if got := homeless.run("history"); !strings.HasPrefix(got.Stderr, roots) {
		t.Errorf("%+v", got)
	}
	must(t, os.Mkdir(filepath.Join(home, "pingover"), 0o755))
	remember(t, filepath.Join(home, "pingover"), &state.Record{Head: state.Head{Name: "mine"}})
	if got := p.run("status"); !strings.Contains(got.Stdout, "\nmine ") {
		t.Errorf("%+v", got)
	}
	// Under su the home of root is still in the environment, and may not be read.
	must(t, os.Chmod(home, 0o700))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	must(t, unix.Setfsuid(65534)) // which takes this thread's CAP_DAC_OVERRIDE away (setfsuid(2))
	got := p.run("status")
	must(t, unix.Setfsuid(0))
	if !strings.HasPrefix(got.Stderr, roots) {
		t.Errorf("%+v", got)
	}
}

// The file of root's pause is for root to read, but shows all when it ends.
func TestAPauseThatMayNotBeRead(t *testing.T) {
	s := known(standing("web"), here())
	s.pause(noon.Add(time.Hour), os.ErrPermission)
	if !*s.Paused || s.Error != nil {
		t.Errorf("paused %t, error %v", *s.Paused, s.Error)
	}
	s = known(standing("web"), here())
	s.pause(time.Time{}, fmt.Errorf("web.pause is a symbolic link"))
	if s.Paused != nil || *s.Error != "web.pause is a symbolic link" || s.monitorCode() != monitorUnknown {
		t.Errorf("paused %v, error %v", s.Paused, s.Error)
	}
}

// Who has the address of another cluster that is no longer configured has it from
// that: a cluster that is called otherwise now.
func TestWhatIsForgotten(t *testing.T) {
	unset := func(s status) status {
		s.unset = true
		return s
	}
	holder, bystander := known(active("web"), here("172.16.0.1/32")), known(standing("db"), here("172.16.0.1/32"), func(r *state.Record) { r.VIPs = nil })
	old := unset(known(active("old"), here("172.16.0.1/32")))
	for _, test := range []struct {
		name string
		all  []status
		want int
	}{
		{"what it had is here", []status{bystander, old}, 2},
		{"another has it now", []status{holder, old}, 1},
		{"what it had is gone", []status{bystander, unset(known(active("old"), here()))}, 1},
		{"what it had is here, not by pingover", []status{bystander, unset(known(standing("old"), here("172.16.0.1/32")))}, 1},
		{"its record cannot be read", []status{bystander, unset(unreadable("old"))}, 1},
	} {
		if got := unforgotten(test.all); len(got) != test.want {
			t.Errorf("%s: %d are shown", test.name, len(got))
		}
	}
}

// Status and checks report addresses that were left in the same words.
func TestWhatIsLeftBehindInTheWordsOfACheck(t *testing.T) {
	kernel := here("172.16.0.3/16", "172.16.0.9/16")
	kernel.Links[0].Up, kernel.Links[0].Carrier = true, true
	s := left("web")
	dir := t.TempDir()
	must(t, state.Dir(dir).Save(s.record, false))
	var noted []string
	_, err := failover.CheckIn(t.Context(), failover.Env{
		MayPing:    func() error { return nil },
		LockSwitch: func(context.Context, state.Dir, bool) (func(), error) { return func() {}, nil },
		Env: observe.Env{
			Snapshot: func() (*vip.Snapshot, error) { return kernel, nil },
			Route:    func(_, _ netip.Addr) (vip.Route, error) { return vip.Route{Interface: "eth0", OnLink: true}, nil },
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("172.16.0.2")}, nil
			},
			BootID: func() (string, error) { return "", nil },
			Uptime: func() (time.Duration, error) { return time.Hour, nil },
			Ping:   func(context.Context, check.Pings) check.Round { return check.Round{} },
		},
	}, config.Cluster{Name: "web", Host: "172.16.0.2", Count: 1, StateDir: dir}, failover.Options{
		DryRun: true,
		OnEvent: func(event any) {
			if e, ok := event.(run.Note); ok {
				noted = append(noted, e.Text)
			}
		},
	})
	if remarks := s.remarks(); len(remarks) != 1 || !slices.Contains(noted, remarks[0]) {
		t.Errorf("status says %q, the check %q, %v", remarks, noted, err)
	}
}

// That clients may not reach a virtual IP is said until a witness has replied to it.
func TestStatusNamesAVirtualIPThatNoWitnessRepliesTo(t *testing.T) {
	const remark = "no witness replies to 172.16.0.1: clients may not reach it"
	unreached := func(r *state.Record) { r.Unreached = []netip.Addr{netip.MustParseAddr("172.16.0.1")} }
	for name, c := range map[string]struct {
		kernel  *vip.Snapshot
		changes []func(*state.Record)
		want    bool
	}{
		"a check that only holds":               {here("172.16.0.1/32"), []func(*state.Record){unreached}, true},
		"the takeover, whose reason says so":    {here("172.16.0.1/32"), []func(*state.Record){unreached, func(r *state.Record) { r.Last.Outcome = state.TookOver }}, false},
		"it is no longer on this machine":       {here(), []func(*state.Record){unreached}, false},
		"a witness has replied to it meanwhile": {here("172.16.0.1/32"), nil, false},
	} {
		c.kernel.Links[0].ARP = true
		if got := known(active("web"), c.kernel, c.changes...).remarks(); slices.Contains(got, remark) != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A link-local virtual IP on each of two links is two of them.
func TestLinkLocalVirtualIPOnTwoLinksIsHeldOncePerLink(t *testing.T) {
	linkLocal := netip.MustParsePrefix("fe80::1/128")
	for links, want := range map[int]int{0: 0, 1: 1, 2: 2} {
		kernel := new(vip.Snapshot)
		for i := range 2 {
			l := vip.Link{Name: fmt.Sprintf("eth%d", i), ARP: true}
			if i < links {
				l.Addresses = []vip.Address{{Prefix: linkLocal}}
			}
			kernel.Links = append(kernel.Links, l)
		}
		s := known(active("web"), kernel, func(r *state.Record) {
			r.VIPs = []state.Alias{{Prefix: linkLocal, Interface: "eth0", Raised: true}, {Prefix: linkLocal, Interface: "eth1", Raised: true}}
		})
		if len(s.Held) != want || len(s.VIPs) != 2 {
			t.Errorf("on %d links: held %v of %v, want %d", links, s.Held, s.VIPs, want)
		}
	}
}

// What needs attention comes first, and a terminal that is too low shows that.
func TestAWatchedStatusFitsTheScreen(t *testing.T) {
	p := Program{Env: config.Env{Hostname: "standby"}, Out: Output{Columns: 80, Rows: 8}}
	got := p.Out.screenful("12:00\n" + p.statusText([]status{
		known(standing("db"), here()), known(standing("dns"), here()), known(active("web"), here("172.16.0.1/16")),
	}))
	want := `12:00
1 of 3 clusters needs attention: web

CLUSTER  PRIMARY     VIP         SERVED BY  SINCE             LAST CHECK
web      172.16.0.2  172.16.0.1  standby    2026-03-01 09:00  34s ago: holding
    holding 172.16.0.1; 172.16.0.2 does not reply
… 3 more lines
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for rows, want := range map[int]int{1: 2, 2: 2, 3: 2, 9: 8, 10: 9, 11: 9, 0: 9} {
		p.Out.Rows = rows
		if n := strings.Count(p.Out.screenful("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), "\n"); n != want {
			t.Errorf("9 lines on %d rows: %d, want %d", rows, n, want)
		}
	}
}

// status --watch shows the status again until a signal, on a terminal in place.
func TestStatusIsWatched(t *testing.T) {
	dir := t.TempDir()
	remember(t, dir, standing("web"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		p, out := faked(nil), new(strings.Builder)
		p.Stdout, p.Stderr, p.Out.Live = out, out, true
		if code := p.Run(ctx, []string{"status", "--watch", "--state-dir", dir}); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if n := strings.Count(out.String(), "\x1b[H"); n != 3 || strings.Count(out.String(), "CLUSTER  PRIMARY") != 3 || !strings.HasSuffix(out.String(), "\x1b[J") {
			t.Errorf("%d times\n%q", n, out)
		}
	})
	want(t, faked(nil).run("status", "--watch", "--json"), printed{Code: 64, Stderr: "pingover: --watch excludes --json and --monitoring\n"})
}
