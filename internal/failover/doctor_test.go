package failover

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// healthy is what an examination finds in the usual scene, half a minute after
// a check.
var healthy = []string{
	"ok: this process may ping",
	"ok: this process may change addresses, and so may its tool",
	"ok: state directory DIR",
	"ok: the last check was 30s ago",
	"ok: tool: ip of iproute2 (/sbin/ip)",
	"ok: host 172.16.0.2: on the link of eth0",
	`ok: interface "eth0" is up and has a carrier`,
	"ok: pings come from 172.16.0.3",
	"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
	"ok: primary 172.16.0.2 replies to pings (0.4 ms)",
	"ok: primary 172.16.0.2 is at 02:00:00:00:00:02 (ARP)",
	"ok: witness 172.16.0.254 replies (ping)",
	"ok: vip 172.16.0.1 is in use by the primary (02:00:00:00:00:02)",
	"ok: this machine has been up for longer than 3m",
	"ok: mail to root@standby via sendmail: /usr/sbin/sendmail",
}

// Doctor is doctor.RunIn, which this package's own tests cannot import: the tests
// below are its methods, and TestDoctor runs them.
type Doctor func(ctx context.Context, env Env, c config.Cluster, sendTest bool) []DoctorFinding

// DoctorFinding is a doctor.Finding.
type DoctorFinding struct{ Grade, Text, Fix string }

// doctorScene is the usual scene, half a minute after a check.
type doctorScene struct {
	*scene
	doctor Doctor
	env    Env
	send   bool
}

// findings are what is found, a line each.
func (a *doctorScene) findings(t *testing.T) (lines []string) {
	t.Helper()
	set := a.settings
	set.StateDir = a.standby.dir
	for _, f := range a.doctor(t.Context(), a.env, set, a.send) {
		line := f.Grade + ": " + f.Text
		if f.Fix != "" {
			line += " → " + f.Fix
		}
		if (f.Grade == "ok") != (f.Fix == "") {
			t.Errorf("graded %s, and the fix is %q", f.Grade, f.Fix)
		}
		lines = append(lines, strings.ReplaceAll(plain(line), a.standby.dir, "DIR"))
	}
	a.quiet()
	return lines
}

func (a *doctorScene) path(name string) string { return filepath.Join(a.standby.dir, name) }

func (a *doctorScene) change(t *testing.T, do func(*state.Record)) {
	t.Helper()
	rec := a.standby.record(t, "web")
	do(rec)
	must(t, state.Dir(a.standby.dir).Save(rec, false))
}

// checkedAfter puts the last check so far into the future.
func (a *doctorScene) checkedAfter(t *testing.T, ahead time.Duration) {
	a.change(t, func(rec *state.Record) { rec.Last.Time = time.Now().Add(ahead) })
}

const keptAside = " → nothing, unless a newer pingover wrote it and should run: " +
	"the next check keeps it as DIR/web.json.bad and writes a new one, without its history and the pending mail"

// examine is what is found in the usual scene with something wrong.
func (d Doctor) examine(t *testing.T, wrong func(t *testing.T, a *doctorScene)) (lines []string) {
	t.Helper()
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		time.Sleep(30 * time.Second)
		s.quiet()
		s.settings.Mail.Via = config.Via{Scheme: "sendmail"}
		a := &doctorScene{scene: s, doctor: d, env: s.standby.env()}
		if wrong != nil {
			wrong(t, a)
		}
		lines = a.findings(t)
	})
	return lines
}

func (d Doctor) TestFindsNothingWrong(t *testing.T) {
	if diff := cmp.Diff(healthy, d.examine(t, nil)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func (d Doctor) TestFindsWhatIsWrong(t *testing.T) {
	unreadable := errors.New("permission denied")
	tests := []struct {
		name  string
		wrong func(t *testing.T, a *doctorScene)
		want  []string // what is found besides, or instead
		gone  int      // of the healthy findings
	}{
		{
			name: "no right to ping",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.env.MayPing = func() error { return errors.New("no permission to ping") }
			},
			want: []string{"fail: no permission to ping → run pingover as root, or with the capability CAP_NET_RAW"},
			gone: 5,
		},
		{
			name: "a tool that will not have the right",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.env.MayRaise = func() error { return errors.New("no permission to change addresses: CAP_NET_ADMIN is not ambient") }
			},
			want: []string{"fail: no permission to change addresses: CAP_NET_ADMIN is not ambient → run pingover as root, or with the ambient capabilities CAP_NET_ADMIN and CAP_NET_RAW"},
			gone: 1,
		},
		{
			name: "a symbolic link in place of the record",
			wrong: func(t *testing.T, a *doctorScene) {
				must(t, os.Remove(a.path("web.json")))
				must(t, os.Symlink("/etc/passwd", a.path("web.json")))
			},
			want: []string{
				"fail: DIR/web.json is a symbolic link, and pingover's own files never are → remove it, or choose another --state-dir",
			},
			gone: 1,
		},
		{
			name:  "a state directory that anybody may write to",
			wrong: func(t *testing.T, a *doctorScene) { must(t, os.Chmod(a.standby.dir, 0o777)) },
			want:  []string{"warn: DIR can be written to by others; it names commands to run → chmod go-w DIR"},
			gone:  1,
		},
		{
			name:  "a record that anybody may write to",
			wrong: func(t *testing.T, a *doctorScene) { must(t, os.Chmod(a.path("web.json"), 0o666)) },
			want:  []string{"warn: DIR/web.json can be written to by others; it names commands to run → chmod go-w DIR/web.json"},
			gone:  1,
		},
		{
			name: "a state directory that is a file",
			wrong: func(t *testing.T, a *doctorScene) {
				a.standby.dir = a.path("web.lock")
			},
			want: []string{
				"fail: state directory DIR: not a directory → fix that, or choose another state-dir",
				"warn: no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
			gone: 2,
		},
		{
			name:  "no state directory, before the first check",
			wrong: func(_ *testing.T, a *doctorScene) { a.standby.dir = a.path("none/yet") },
			want: []string{
				"ok: state directory DIR: will be made by the first check",
				"warn: no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
			gone: 2,
		},
		{
			name:  "a cron that is down",
			wrong: func(_ *testing.T, a *doctorScene) { time.Sleep(12 * time.Minute); a.quiet() },
			want:  []string{"fail: the last check was 12m30s ago, and without checks there is no takeover → check that cron is running, and that pingover check is in the crontab"},
			gone:  1,
		},
		{
			name: "checks that are rare on purpose",
			wrong: func(t *testing.T, a *doctorScene) {
				a.change(t, func(rec *state.Record) { rec.Gap = state.Milliseconds((10 * time.Minute).Milliseconds()) })
				time.Sleep(12 * time.Minute)
				a.quiet()
			},
			want: []string{"ok: the last check was 12m30s ago"},
			gone: 1,
		},
		{
			name:  "a broken record",
			wrong: func(t *testing.T, a *doctorScene) { must(t, writeFile(a.path("web.json"), []byte("{"))) },
			want: []string{
				"warn: DIR/web.json is corrupt (unexpected end of JSON input), ignored; checks go on with what the kernel shows" + keptAside,
			},
			gone: 1,
		},
		{
			name: "a record of a newer pingover, with a vip here",
			wrong: func(t *testing.T, a *doctorScene) {
				a.change(t, func(rec *state.Record) { rec.Version = 2 })
				a.do(func() { a.primary.unset(vipAddr); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: DIR/web.json is corrupt (its version is 2, this program knows 1), ignored; checks go on with what the kernel shows" + keptAside,
				"warn: vip 172.16.0.1 is on this machine, on eth0, and it is unknown whether pingover has assigned it → fix the record: it would tell",
				"ok: vip 172.16.0.1 is in use by this machine",
			},
			gone: 3,
		},
		{
			name: "a directory in place of the record, with a vip here",
			wrong: func(t *testing.T, a *doctorScene) {
				must(t, os.Remove(a.path("web.json")))
				must(t, os.Mkdir(a.path("web.json"), 0o755))
				a.do(func() { a.primary.unset(vipAddr); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"fail: DIR/web.json: a directory, so nothing can be written there → remove it, or choose another state-dir",
				"warn: read DIR/web.json: is a directory; checks go on with what the kernel shows" +
					" → find out why, and fix it: checks go on without its history and the pending mail, and write a new one over it where they can",
				"warn: vip 172.16.0.1 is on this machine, on eth0, and it is unknown whether pingover has assigned it → fix the record: it would tell",
				"ok: vip 172.16.0.1 is in use by this machine",
			},
			gone: 4,
		},
		{
			name:  "a clock that was set back",
			wrong: func(t *testing.T, a *doctorScene) { a.checkedAfter(t, 2*time.Hour) },
			want: []string{
				"fail: the last check is 2h in the future: the clock was set back → check the clock, and that cron is running: the next check writes the time anew",
			},
			gone: 1,
		},
		{
			name:  "a clock that was set back by less than checks are apart",
			wrong: func(t *testing.T, a *doctorScene) { a.checkedAfter(t, 20*time.Second) },
			want: []string{
				"warn: the last check is 20s in the future: the clock was set back → check the clock, and that cron is running: the next check writes the time anew",
			},
			gone: 1,
		},
		{
			name: "a name that two definitions share",
			wrong: func(t *testing.T, a *doctorScene) {
				rec := a.standby.record(t, "web")
				_, err := rec.SetHost("172.16.0.7", time.Now())
				must(t, err)
				must(t, state.Dir(a.standby.dir).Save(rec, true))
				a.settings.From = map[string]string{"host": "/etc/pingover.yaml:4"}
			},
			want: []string{
				`fail: two definitions share the name web: its host was changed from "172.16.0.2" to "172.16.0.7" at 2000-01-01T00:00:30Z, and is "172.16.0.2" again → ` +
					"rename this cluster (/etc/pingover.yaml:4), or the other one; a host that stays is accepted after an hour",
			},
			gone: 1,
		},
		{
			name:  "a primary with another address",
			wrong: func(t *testing.T, a *doctorScene) { a.settings.Host = "172.16.0.7" },
			want: []string{
				"warn: 172.16.0.7 has never replied to this machine → check the address, the netmask, and that the primary is no guest of this machine that its own host cannot hear (macvlan, macvtap)",
				"ok: host 172.16.0.7: on the link of eth0",
				"fail: primary 172.16.0.7 did not reply to 5 pings → check whether it is down, and whether host is right",
				"ok: vip 172.16.0.1 is in use by 02:00:00:00:00:02",
				`warn: the primary is now "172.16.0.7", and was "172.16.0.2": what was counted in a row begins anew → find out why; checks go on meanwhile`,
			},
			gone: 4,
		},
		{
			name: "a pause",
			wrong: func(t *testing.T, a *doctorScene) {
				must(t, state.Dir(a.standby.dir).Pause("web", time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)))
			},
			want: []string{"warn: paused until 2000-01-01 02:00:00 +0000: no takeover and no release → to end this: pingover resume web"},
		},
		{
			name: "a manual release, a pending hook, pending mail",
			wrong: func(t *testing.T, a *doctorScene) {
				a.change(t, func(rec *state.Record) {
					rec.ManualRelease = true
					rec.PendingHook = &state.PendingHook{Hook: "post-release"}
					rec.Outbox = []state.Message{{MessageID: "<1@standby>", To: []string{"root@standby"}}}
					rec.MailError = new("connection refused")
				})
			},
			want: []string{
				"warn: released manually: no takeover until the primary has replied once → to end this: pingover resume web",
				"warn: the hook post-release is pending → wait: the next check runs it",
				"warn: messages pending: 1: connection refused → wait: the next check tries again; if it stays pending, --send-test shows why",
			},
		},
		{
			name: "flapping, and post-takeover has failed",
			wrong: func(t *testing.T, a *doctorScene) {
				a.change(t, func(rec *state.Record) {
					rec.Damping.Suppressed = make([]state.Suppressed, 2)
					rec.Damping.Next = a.began.Add(time.Hour)
					rec.Alerts = []state.Alert{{Kind: "hook-failed", Reason: "exit code 5"}}
				})
			},
			want: []string{
				"warn: flapping: 2 notifications are suppressed, and mailed together at " + time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC).Local().Format("2006-01-02 15:04:05 -0700") +
					" at the latest → pingover history has them",
				"fail: post-takeover failed: exit code 5 → fix it; then: pingover takeover web",
			},
		},
		{
			name: "a primary that was never up",
			wrong: func(t *testing.T, a *doctorScene) {
				a.primary.powerOff()
				a.change(t, func(rec *state.Record) {
					rec.SeenUp, rec.Neighbour, rec.Days, rec.Last.Primary = time.Time{}, "", nil, "down"
				})
			},
			want: []string{
				"warn: 172.16.0.2 has never replied to this machine → check the address, the netmask, and that the primary is no guest of this machine that its own host cannot hear (macvlan, macvtap)",
				"fail: primary 172.16.0.2 did not reply to 5 pings → check whether it is down, and whether host is right",
				"warn: vip 172.16.0.1 is unassigned: there is no reply from it → assign it on the primary; a takeover follows only when that is down",
			},
			gone: 3,
		},
		{
			name:  "no vip",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.VIPs = nil },
			want:  []string{"warn: no vip: checks only report, and never take over → set vip for takeovers"},
			gone:  6,
		},
		{
			name:  "no tool",
			wrong: func(_ *testing.T, a *doctorScene) { a.env.Tool = nil },
			gone:  2, // the error is that of Real
		},
		{
			name: "a lease that the tool cannot set",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.settings.Lease = 10 * time.Minute
				a.standby.fails = func(call string) error {
					if call == "can lease" {
						return errors.New("ifconfig gives no address a lifetime")
					}
					return nil
				}
			},
			want: []string{
				`fail: lease "10m": ifconfig gives no address a lifetime → change the setting, or this machine`,
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600",
			},
			gone: 1,
		},
		{
			name: "a lease that is too short for the crontab",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Lease = 2 * time.Minute
				a.change(t, func(rec *state.Record) { rec.Gap = state.Milliseconds((5 * time.Minute).Milliseconds()) })
			},
			want: []string{
				"warn: the lease of 2m is shorter than twice the time between the last two checks, 5m: a late check loses the alias → make the lease longer, or check more often",
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 120 preferred_lft 120",
			},
			gone: 1,
		},
		{
			name:  "a lease",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Lease = 10 * time.Minute },
			want: []string{
				"ok: lease 10m: can be set",
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600",
			},
			gone: 1,
		},
		{
			name: "a kernel that cannot be asked",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.env.Snapshot = func() (*vip.Snapshot, error) { return nil, unreadable }
			},
			want: []string{"fail: the kernel cannot be asked for its addresses: permission denied → change the setting, or this machine"},
			gone: 8,
		},
		{
			name: "a host by name",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host, a.standby.names["primary"] = "primary", []netip.Addr{primaryAddr}
				a.change(t, func(rec *state.Record) { rec.Host = "primary" })
			},
			want: []string{"warn: host primary is a name, now of 172.16.0.2, on the link of eth0 → set host to its address: a name server may be down when the primary is"},
			gone: 1,
		},
		{
			name: "a name that no longer resolves",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "primary"
				a.change(t, func(rec *state.Record) { rec.Host = "primary" })
			},
			want: []string{
				"warn: host primary is a name, now of 172.16.0.2, on the link of eth0 → set host to its address: a name server may be down when the primary is",
				`warn: resolve "primary": no such host; going on with what last replied, 172.16.0.2 → find out why; checks go on meanwhile`,
			},
			gone: 1,
		},
		{
			name: "a name that never resolved",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "primary"
				a.change(t, func(rec *state.Record) { rec.Host, rec.Address, rec.Neighbour = "primary", netip.Addr{}, "" })
			},
			want: []string{
				`fail: host primary: resolve "primary": no such host → check that the name resolves, or set host to the address`,
				"ok: vip 172.16.0.1 is in use by 02:00:00:00:00:02",
			},
			gone: 5,
		},
		{
			name: "no route to the host",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "10.9.9.9"
				a.change(t, func(rec *state.Record) { rec.Host = "10.9.9.9" })
				delete(a.standby.gateway, false)
			},
			want: []string{
				"fail: host 10.9.9.9: no route to 10.9.9.9: network is unreachable → check the routes of this machine: ip route get 10.9.9.9",
			},
			gone: 4,
		},
		{
			name: "this machine as host",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "172.16.0.3"
				a.change(t, func(rec *state.Record) { rec.Host = "172.16.0.3" })
			},
			want: []string{"fail: this machine is the primary: 172.16.0.3 is its own address → pingover runs on the standby; set host to the other machine"},
			gone: 6,
		},
		{
			name: "this machine as host, by its loopback address and without a vip, which a check allows",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host, a.settings.VIPs = "127.0.0.1", nil
				a.change(t, func(rec *state.Record) { rec.Host = "127.0.0.1" })
				a.ends(state.OK, "")
				time.Sleep(30 * time.Second)
			},
			want: []string{
				"warn: no vip: checks only report, and never take over → set vip for takeovers",
				"ok: host 127.0.0.1: this machine",
				"ok: primary 127.0.0.1 replies to pings (0.4 ms)",
			},
			gone: 11, // the automatic witness too: no interface leads to it
		},
		{
			name: "this machine as host, by its loopback address, with a vip",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "127.0.0.1"
				a.change(t, func(rec *state.Record) { rec.Host = "127.0.0.1" })
				a.ends(state.Unknown, "this machine is the primary: 127.0.0.1 is its own address")
				a.change(t, func(rec *state.Record) { rec.Last.Time = time.Now().Add(-30 * time.Second) })
			},
			want: []string{"fail: this machine is the primary: 127.0.0.1 is its own address → pingover runs on the standby; set host to the other machine"},
			gone: 6,
		},
		{
			name: "a vip as host, held here",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "172.16.0.1"
				a.change(t, func(rec *state.Record) {
					rec.Host = "172.16.0.1"
					rec.VIPs[0].Raised = true
				})
				a.do(func() { a.primary.powerOff(); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: host 172.16.0.1: 172.16.0.1 is on this machine now, so a ping would answer itself → nothing, while it is assigned here",
				"ok: vip 172.16.0.1 is on this machine, assigned by pingover on eth0",
				"ok: vip 172.16.0.1 is in use by this machine",
			},
			gone: 6,
		},
		{
			name: "a primary beyond the gateway",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Host = "10.0.0.2"
				a.change(t, func(rec *state.Record) { rec.Host = "10.0.0.2" })
				a.do(func() { a.primary.nics[1].Addresses[0].Prefix = netip.MustParsePrefix("10.0.0.2/24") })
			},
			want: []string{
				"ok: host 10.0.0.2: by way of 172.16.0.254, through eth0",
				"ok: primary 10.0.0.2 replies to pings (0.4 ms)",
				"ok: primary 10.0.0.2 is not on the link: only pings tell whether it is up",
			},
			gone: 3,
		},
		{
			name:  "no such interface",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Interface = "eth7" },
			want:  []string{`fail: there is no interface "eth7" → compare interface and vip with the interfaces there are: ip link`, "ok: vip 172.16.0.1 is in use: it replies to a ping"},
			gone:  2,
		},
		{
			name:  "an interface that is down",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.standby.nic("eth0").Up = false }) },
			want: []string{
				"fail: host 172.16.0.2: no route to 172.16.0.2: network is unreachable → check the routes of this machine: ip route get 172.16.0.2",
				`fail: interface "eth0" is down → ip link set eth0 up`,
			},
			gone: 8,
		},
		{
			name:  "a cable that is out",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.standby.nic("eth0").Carrier = false }) },
			want:  []string{`fail: interface "eth0" has no carrier: is the cable in? → connect the cable, or check what it leads to`},
			gone:  8,
		},
		{
			name: "an interface without ARP",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.do(func() { a.standby.nic("eth0").ARP = false })
			},
			want: []string{
				`warn: interface "eth0" resolves no neighbours → choose another interface: there is no ARP there, to ask others or to announce a takeover`,
				"fail: vip 172.16.0.1 cannot be taken over: eth0 does not do ARP, as tunnels do not: no other machine can be asked whether it has the address (duplicate-check) → fix that, or remove the vip: the others are taken over without it",
				"ok: vip 172.16.0.1 is in use: it replies to a ping",
			},
			gone: 4,
		},
		{
			name: "two interfaces whose networks hold the vip",
			wrong: func(t *testing.T, a *doctorScene) {
				a.do(func() { a.standby.plug("eth1", "lan", 33, "172.16.0.33/16") })
				a.change(t, func(rec *state.Record) { rec.VIPs = nil })
			},
			want: []string{
				`fail: vip "172.16.0.1/32": the networks of eth0 and eth1 all hold it → set interface, or write 172.16.0.1@eth0`,
				"warn: vip 172.16.0.1: it could not be asked whether it is in use → fix what was found about the interface and duplicate-check",
			},
			gone: 3,
		},
		{
			name:  "a source that is not here",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Source = netip.MustParseAddr("172.16.0.33") },
			want:  []string{"fail: source 172.16.0.33 is no address of this machine → set source to an address that ip addr shows, or leave it out"},
			gone:  1,
		},
		{
			name:  "a label in use",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Label = "eth0" },
			want:  []string{`fail: add 172.16.0.1/32 to eth0: label "eth0" is in use by 172.16.0.3/16 → change label, interface or tool`},
			gone:  1,
		},
		{
			name: "an interface whose name leaves no room for a label",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.do(func() { a.standby.nic("eth0").Name = "enx525400aabbcc" })
			},
			want: []string{
				"ok: host 172.16.0.2: on the link of enx525400aabbcc",
				`ok: interface "enx525400aabbcc" is up and has a carrier`,
				`ok: vip 172.16.0.1: assigned without a label, for the name of interface "enx525400aabbcc" leaves no room for one`,
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev enx525400aabbcc",
			},
			gone: 3,
		},
		{
			name:  "a length that is not the network's",
			wrong: func(_ *testing.T, a *doctorScene) { a.vips("172.16.0.1/24") },
			want: []string{
				`warn: vip 172.16.0.1/24: the network of interface "eth0" is a /16 → write it without a length: 172.16.0.1`,
				"ok: a takeover runs: ip addr add 172.16.0.1/24 dev eth0 label eth0:1",
			},
			gone: 1,
		},
		{
			name:  "two vips, of which one is in no network and unassigned",
			wrong: func(_ *testing.T, a *doctorScene) { a.vips("172.16.0.1/32", "10.1.1.1/32") },
			want: []string{
				`warn: vip 10.1.1.1 is in no network of interface "eth0" → check vip and interface`,
				"ok: a takeover runs: ip addr add 10.1.1.1/32 dev eth0 label eth0:2",
				"warn: vip 10.1.1.1 is unassigned: there is no reply from it → assign it on the primary; a takeover follows only when that is down",
			},
		},
		{
			name: "this machine's own address as vip",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.vips("172.16.0.3/32")
				a.do(func() { a.standby.set("eth0", "172.16.0.13/16"); a.standby.nic("eth0").Addresses[1].Secondary = true })
			},
			want: []string{
				"fail: vip 172.16.0.3 is this machine's own address, on eth0 → set vip to an address that only follows the primary",
				"ok: pings come from 172.16.0.13",
				"ok: vip 172.16.0.3 is in use by this machine",
			},
			gone: 3,
		},
		{
			name: "a vip that was assigned here manually, and is at the primary too",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.do(func() { a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: vip 172.16.0.1 is on this machine, on eth0, and pingover has not assigned it → if it is this machine's own address, it cannot be a vip; if you assigned it manually, nothing",
				"fail: address conflict: vip 172.16.0.1 is on this machine, and in use by 02:00:00:00:00:02 → remove it from one of the two; else the next check yields, if the other one does not",
			},
			gone: 2,
		},
		{
			name: "a vip that was assigned here manually with the length of the network",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.do(func() {
					a.primary.unset(vipAddr)
					a.standby.set("eth0", "172.16.0.1/16")
					a.standby.nic("eth0").Addresses[1].Secondary = true
				})
			},
			want: []string{
				"warn: vip 172.16.0.1 is on this machine, on eth0, and pingover has not assigned it → if it is this machine's own address, it cannot be a vip; if you assigned it manually, nothing",
				"ok: vip 172.16.0.1 is in use by this machine",
			},
			gone: 2,
		},
		{
			name: "a failover in effect",
			wrong: func(t *testing.T, a *doctorScene) {
				a.do(a.primary.powerOff)
				a.ends(state.TookOver, "")
				time.Sleep(30 * time.Second)
				a.quiet()
			},
			want: []string{
				"ok: the last check was 1m19s ago",
				"ok: vip 172.16.0.1 is on this machine, assigned by pingover on eth0",
				"warn: primary 172.16.0.2 did not reply to 5 pings → fix the primary: its virtual IP is here meanwhile",
				"ok: vip 172.16.0.1 is in use by this machine",
			},
			gone: 5,
		},
		{
			name: "an address that is no longer a vip",
			wrong: func(t *testing.T, a *doctorScene) {
				a.do(func() { a.standby.set("eth0", "172.16.0.5/32") })
				a.change(t, func(rec *state.Record) {
					rec.VIPs = append(rec.VIPs, state.Alias{Prefix: netip.MustParsePrefix("172.16.0.5/32"), Interface: "eth0", Raised: true})
				})
			},
			want: []string{"warn: 172.16.0.5 is still on this machine, assigned by pingover, but no longer a setting of this cluster → ip addr del 172.16.0.5/32 dev eth0"},
		},
		{
			name: "a name of the vip that leads to the primary itself",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = []netip.Addr{primaryAddr}
			},
			want: []string{"fail: vip-name web.example.com leads to 172.16.0.2, which is no vip → let the name lead to the vip alone: other addresses do not follow the primary"},
		},
		{
			name:  "a name of the vip that does not resolve",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.VIPName = "web.example.com" },
			want:  []string{`fail: vip-name web.example.com: resolve "web.example.com": no such host → fix the DNS, or this machine's way to it`},
		},
		{
			name: "a name that leads to one of two vips",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.vips("172.16.0.1/32", "172.16.0.5/32")
				a.do(func() { a.primary.set("eth0", "172.16.0.5/32") })
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = []netip.Addr{vipAddr}
			},
			want: []string{
				"ok: a takeover runs: ip addr add 172.16.0.5/32 dev eth0 label eth0:2",
				"warn: vip-name web.example.com does not lead to 172.16.0.5 → add that to the DNS, or remove the vip",
				"ok: vip 172.16.0.5 is in use by the primary (02:00:00:00:00:02)",
			},
		},
		{
			name: "a name that leads to the vip",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = []netip.Addr{vipAddr}
			},
			want: []string{"ok: vip-name web.example.com leads to 172.16.0.1"},
		},
		{
			name:  "duplicate-check off",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.DuplicateCheck = false },
			want: []string{
				"warn: duplicate-check is off: a takeover does not ask on the link whether the addresses are in use → leave duplicate-check on",
				"ok: vip 172.16.0.1 is in use: it replies to a ping",
			},
			gone: 2,
		},
		{
			name:  "a primary that is down",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(a.primary.powerOff) },
			want: []string{
				"fail: primary 172.16.0.2 did not reply to 5 pings → check whether it is down, and whether host is right",
				"warn: vip 172.16.0.1 is unassigned: there is no reply from it → assign it on the primary; a takeover follows only when that is down",
			},
			gone: 3,
		},
		{
			name:  "a primary that filters pings",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.primary.noPing = true }) },
			want: []string{
				"fail: primary 172.16.0.2 does not reply to pings, but is at 02:00:00:00:00:02 (ARP) → let its firewall answer pings: without a reply it counts as down, and is never taken over from",
			},
			gone: 2,
		},
		{
			name:  "a primary that answers no ARP",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.primary.noARP = true }) },
			want: []string{
				"warn: primary 172.16.0.2 replies to pings, but not to ARP → find out what replies for it: a router in between may do so",
				"ok: vip 172.16.0.1 is in use: it replies to a ping",
			},
			gone: 2,
		},
		{
			name: "pings that cannot be sent",
			wrong: func(_ *testing.T, a *doctorScene) {
				ping := a.env.Ping
				a.env.Ping = func(ctx context.Context, p check.Pings) check.Round {
					if p.Address == primaryAddr {
						return check.Round{Err: errors.New("sendto: operation not permitted")}
					}
					return ping(ctx, p)
				}
			},
			want: []string{"fail: not all could be asked: sendto: operation not permitted → fix that first"},
			gone: 2,
		},
		{
			name: "a listener that cannot be opened",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.env.Listen = func(vip.Link, func(vip.Reply) bool, ...netip.Addr) (vip.Conn, error) { return nil, unreadable }
			},
			want: []string{
				"fail: not all could be asked: permission denied → fix that first",
				"ok: vip 172.16.0.1 is in use: it replies to a ping",
			},
			gone: 2,
		},
		{
			name: "another machine with the vip",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.add("other", 9, "172.16.0.9/16", "172.16.0.1/32")
				a.do(func() { a.primary.unset(vipAddr) })
			},
			want: []string{"ok: vip 172.16.0.1 is in use by 02:00:00:00:00:09, which is another interface of the primary, or another machine"},
			gone: 1,
		},
		{
			name:  "a vip that is unassigned",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.primary.unset(vipAddr) }) },
			want:  []string{"warn: vip 172.16.0.1 is unassigned: there is no reply from it → assign it on the primary; a takeover follows only when that is down"},
			gone:  1,
		},
		{
			name:  "a witness that is down",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(a.gateway.powerOff) },
			want:  []string{"fail: witness 172.16.0.254 does not reply → find out why, or set one that replies: without one takeovers are blocked"},
			gone:  1,
		},
		{
			name: "one of two witnesses that is down",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{gatewayAddr, netip.MustParseAddr("172.16.0.77")}}
			},
			want: []string{"warn: witness 172.16.0.77 does not reply → find out why; one witness that replies is enough"},
		},
		{
			name: "a witness that is the primary",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.do(func() { a.primary.set("eth0", "172.16.0.22/16") })
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr("172.16.0.22")}}
			},
			want: []string{"fail: witness 172.16.0.22 is the primary: both are at 02:00:00:00:00:02 → set witness to a third machine that always replies"},
			gone: 1,
		},
		{
			name: "a witness that is this machine",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr("172.16.0.3")}}
			},
			want: []string{"fail: witness 172.16.0.3 is this machine → set witness to a third machine that always replies"},
			gone: 1,
		},
		{
			name: "no witness to be found",
			wrong: func(t *testing.T, a *doctorScene) {
				delete(a.standby.gateway, false)
				a.change(t, func(rec *state.Record) { rec.Gateways = nil })
			},
			want: []string{"fail: no witness: this machine has no default gateway, or it is the primary itself, so takeovers are blocked → set witness to a third machine that always replies, or to none"},
			gone: 1,
		},
		{
			name:  "witness none",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Witness = config.Witness{} },
			want:  []string{"warn: witness none: when this machine itself is isolated, the primary counts as down → set witness to a third machine that always replies"},
			gone:  1,
		},
		{
			name:  "checks that take long",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.RetryWait = time.Minute },
			want:  []string{"ok: with these settings a check can take 1m36s, mail aside; while it runs, further ones exit at once with code 75"},
		},
		{
			name:  "a machine that has just booted",
			wrong: func(_ *testing.T, a *doctorScene) { a.do(func() { a.standby.booted = time.Now().Add(-time.Minute) }) },
			want:  []string{"warn: this machine has been up for 1m1s: no takeover for another 1m59s → wait, or make boot-wait shorter"},
			gone:  1,
		},
		{
			name: "an uptime that cannot be read",
			wrong: func(_ *testing.T, a *doctorScene) {
				a.env.Uptime = func() (time.Duration, error) { return 0, unreadable }
			},
			want: []string{"fail: the uptime of this machine is unknown, so there will be no takeover: permission denied → find out why /proc/uptime cannot be read"},
			gone: 1,
		},
		{
			name:  "no recipient for a test message",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Mail.To, a.send = nil, true },
			want:  []string{"fail: no recipient configured: changes are not mailed (mail-to) → set mail-to"},
			gone:  1,
		},
		{
			name: "a mail server that does not answer, with mail pending",
			wrong: func(t *testing.T, a *doctorScene) {
				a.change(t, func(rec *state.Record) {
					rec.Outbox = []state.Message{{MessageID: "<1@standby>", To: []string{"root@standby"}}}
				})
				a.standby.fails = func(call string) error {
					if call == "greet" {
						return errors.New("connection refused")
					}
					return nil
				}
			},
			want: []string{
				"fail: mail via sendmail: connection refused → check that the mailer runs, and that mail-via is right",
				"warn: messages pending: 1 → fix the mailer: each check tries again",
			},
			gone: 1,
		},
		{
			name:  "a metrics file",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.MetricsFile = a.path("pingover.prom") },
			want:  []string{"ok: metrics-file DIR/pingover.prom"},
		},
		{
			name:  "a metrics file in a directory that is not there",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.MetricsFile = a.path("none/pingover.prom") },
			want:  []string{"fail: metrics-file DIR/none/pingover.prom: there is no directory DIR/none → mkdir -p DIR/none, or change metrics-file"},
		},
		{
			name:  "a metrics file in what is no directory",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.MetricsFile = a.path("web.lock/pingover.prom") },
			want:  []string{"fail: metrics-file DIR/web.lock/pingover.prom: DIR/web.lock: not a directory → let pingover write there, or change metrics-file"},
		},
		{
			name: "a metrics file that is a directory",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.MetricsFile = a.path("pingover.prom")
				must(t, os.Mkdir(a.settings.MetricsFile, 0o755))
			},
			want: []string{"fail: metrics-file DIR/pingover.prom: a directory → change metrics-file"},
		},
		{
			name:  "a metrics file that nobody reads",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.MetricsFile = a.path("pingover.txt") },
			want:  []string{"warn: metrics-file DIR/pingover.txt: node_exporter reads only files whose names end in .prom → let its name end in .prom"},
		},
		{
			name:  "no mail",
			wrong: func(_ *testing.T, a *doctorScene) { a.settings.Mail.To = nil },
			want:  []string{"warn: no recipient configured: changes are not mailed (mail-to) → set mail-to"},
			gone:  1,
		},
		{
			name: "a mail server that does not answer, and a password for all to read",
			wrong: func(t *testing.T, a *doctorScene) {
				a.settings.Mail.Via = config.Via{Scheme: "smtp", Host: "172.16.0.254", Port: 25}
				a.settings.Mail.PasswordFile = a.path("password")
				must(t, os.WriteFile(a.path("password"), []byte("secret"), 0o600))
				must(t, os.Chmod(a.path("password"), 0o644))
				a.standby.fails = func(call string) error {
					if call == "greet" {
						return errors.New("connection refused")
					}
					return nil
				}
			},
			want: []string{
				"warn: mail-password-file DIR/password can be read by others → chmod 600 DIR/password",
				"fail: mail via smtp://172.16.0.254:25: connection refused → check that the mailer runs, and that mail-via is right",
			},
			gone: 1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var found []string
			got := d.examine(t, test.wrong)
			for _, line := range got {
				if !slices.Contains(healthy, line) {
					found = append(found, line)
				}
			}
			if diff := cmp.Diff(test.want, found); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			gone := 0
			for _, line := range healthy {
				if !slices.Contains(got, line) {
					gone++
				}
			}
			if gone != test.gone {
				t.Errorf("%d of the healthy findings are gone, want %d; found:\n%s", gone, test.gone, strings.Join(got, "\n"))
			}
		})
	}
}

func (d Doctor) TestExaminesHooks(t *testing.T) {
	var dir string
	got := d.examine(t, func(t *testing.T, a *doctorScene) {
		dir = t.TempDir()
		hook := func(name string, mode os.FileMode) []string {
			path := filepath.Join(dir, name)
			must(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600))
			must(t, os.Chmod(path, mode))
			return []string{path, "now"}
		}
		a.settings.Hooks = config.Hooks{
			PreTakeover:  hook("good", 0o755),
			PostTakeover: hook("open", 0o777),
			PreRelease:   hook("data", 0o644),
			PostRelease:  []string{filepath.Join(dir, "none")},
			Timeout:      time.Second,
		}
	})
	var found []string
	for _, line := range got {
		if strings.Contains(line, dir) {
			found = append(found, strings.ReplaceAll(line, dir, "HOOKS"))
		}
	}
	if diff := cmp.Diff([]string{
		"ok: pre-takeover: HOOKS/good now",
		"warn: post-takeover: HOOKS/open can be written to by others, and it runs with the rights of this process → chmod go-w HOOKS/open",
		"fail: pre-release: HOOKS/data: not executable: permission denied → fix that, or set another command",
		"fail: post-release: HOOKS/none: no such file or directory → fix that, or set another command",
	}, found); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func (d Doctor) TestAsksAsOftenAsACheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(func() { s.primary.unset(vipAddr) })
		a := &doctorScene{scene: s, doctor: d, env: s.standby.env()}
		a.findings(t)
		// On a lossy link silence counts only then.
		if asked := len(s.calls("ask for 172.16.0.1 ")); asked < serveAsks {
			t.Errorf("asked %d times before nobody serves, want %d", asked, serveAsks)
		}
	})
}

func (d Doctor) TestSendsMailOnlyOnRequest(t *testing.T) {
	var sent []state.Message
	got := d.examine(t, func(t *testing.T, a *doctorScene) {
		a.findings(t)
		if len(a.standby.mailbox) > 0 {
			t.Errorf("mail: %v", a.subjects())
		}
		a.settings.Mail.To = []string{"root@standby", "ops@example.com", "gone@example.com"}
		a.send = true
		a.standby.fails = func(call string) error {
			if call == "post to gone@example.com" {
				return errors.New("mail to gone@example.com via sendmail: 550 no such user")
			}
			return nil
		}
		t.Cleanup(func() { sent = a.standby.mailbox })
	})
	if diff := cmp.Diff([]string{
		"ok: mail to root@standby, ops@example.com, gone@example.com via sendmail: /usr/sbin/sendmail",
		"ok: mail to root@standby: accepted: 250 queued",
		"ok: mail to ops@example.com: accepted: 250 queued",
		"fail: mail to gone@example.com via sendmail: 550 no such user → fix the mail system of this machine, which reports this, or set mail-via to an SMTP server",
	}, got[len(got)-4:]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(sent) != 3 || !slices.Equal(sent[0].To, []string{"root@standby"}) || !strings.Contains(sent[0].Body, "This is a test") ||
		plain(sent[0].Subject) != "[pingover] web: test message from HOSTNAME" {
		t.Errorf("sent %+v", sent)
	}
}

func (d Doctor) TestChangesNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		s.do(s.primary.powerOff)
		before, err := os.ReadFile(filepath.Join(s.standby.dir, "web.json"))
		must(t, err)
		files := listed(t, s.standby.dir)
		s.forget()
		a := &doctorScene{scene: s, doctor: d, env: s.standby.env()}
		a.findings(t)
		after, err := os.ReadFile(filepath.Join(s.standby.dir, "web.json"))
		must(t, err)
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Errorf("the record, -want +got\n%s", diff)
		}
		if diff := cmp.Diff(files, listed(t, s.standby.dir)); diff != "" {
			t.Errorf("the files, -want +got\n%s", diff)
		}
		if calls := s.calls("probe", "announce", "raise", "lower", "renew", "hook", "deliver", "post"); len(calls) > 1 || calls[0] != "may raise" {
			t.Errorf("it did more than look: %q", calls)
		}
	})
}

func listed(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}
