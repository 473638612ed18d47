package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// healthy is what an examination finds in the usual scene, half a minute after
// a check.
var healthy = []string{
	"ok: this process may ping",
	"ok: this process may change addresses, by its tool as well",
	"ok: state directory DIR",
	"ok: the last check was 30s ago",
	"ok: tool: ip of iproute2 (/sbin/ip)",
	"ok: host 172.16.0.2: on the link of eth0",
	`ok: interface "eth0" is up and has a carrier`,
	"ok: pings come from 172.16.0.3",
	"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
	"ok: primary 172.16.0.2 answers a ping (0.4 ms)",
	"ok: primary 172.16.0.2 answers by ARP: 02:00:00:00:00:02",
	"ok: witness 172.16.0.254 answers (ping)",
	"ok: vip 172.16.0.1 is served by the primary (02:00:00:00:00:02)",
	"ok: this machine has been up for longer than 3m",
	"ok: mail to root@standby via sendmail: /usr/sbin/sendmail",
}

// ailing is the usual scene, half a minute after a check, before something
// becomes wrong with it.
type ailing struct {
	*scene
	world Env
	send  bool
}

// examined are the findings, a line each.
func (a *ailing) examined(t *testing.T) (lines []string) {
	t.Helper()
	set := a.settings
	set.StateDir = a.standby.dir
	for _, f := range ExamineIn(t.Context(), a.world, set, a.send) {
		line := string(f.Grade) + ": " + f.Text
		if f.Mend != "" {
			line += " → " + f.Mend
		}
		if (f.Grade == Good) != (f.Mend == "") {
			t.Errorf("graded %s, and what to do is %q", f.Grade, f.Mend)
		}
		lines = append(lines, strings.ReplaceAll(plain(line), a.standby.dir, "DIR"))
	}
	a.quiet()
	return lines
}

func (a *ailing) path(name string) string { return filepath.Join(a.standby.dir, name) }

func (a *ailing) change(t *testing.T, do func(*state.Record)) {
	t.Helper()
	rec := a.standby.record(t, "web")
	do(rec)
	must(t, state.Dir(a.standby.dir).Save(rec, false))
}

// checkedAfter puts the last check so far into the future.
func (a *ailing) checkedAfter(t *testing.T, ahead time.Duration) {
	a.change(t, func(rec *state.Record) { rec.Last.Time = time.Now().Add(ahead) })
}

const keptAside = " → nothing, unless a newer pingover wrote it and should run: " +
	"the next check keeps it as DIR/web.json.bad and writes a new one, without its history and the mail that waits"

// examine plays the usual scene with something wrong.
func examine(t *testing.T, wrong func(t *testing.T, a *ailing)) (lines []string) {
	t.Helper()
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		time.Sleep(30 * time.Second)
		s.quiet()
		s.settings.Mail.Via = config.Via{Scheme: "sendmail"}
		a := &ailing{scene: s, world: s.standby.world()}
		if wrong != nil {
			wrong(t, a)
		}
		lines = a.examined(t)
	})
	return lines
}

func TestADoctorFindsNothingWrong(t *testing.T) {
	if diff := cmp.Diff(healthy, examine(t, nil)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestADoctorFinds(t *testing.T) {
	unreadable := errors.New("permission denied")
	tests := []struct {
		name  string
		wrong func(t *testing.T, a *ailing)
		want  []string // what is found besides, or instead
		gone  int      // of the healthy findings
	}{
		{
			name: "no right to ping",
			wrong: func(_ *testing.T, a *ailing) {
				a.world.MayPing = func() error { return errors.New("no permission to ping") }
			},
			want: []string{"fail: no permission to ping → run pingover as root, or with the capability CAP_NET_RAW"},
			gone: 5,
		},
		{
			name: "a tool that will not have the right",
			wrong: func(_ *testing.T, a *ailing) {
				a.world.MayRaise = func() error { return errors.New("no permission to change addresses: CAP_NET_ADMIN is not ambient") }
			},
			want: []string{"fail: no permission to change addresses: CAP_NET_ADMIN is not ambient → run pingover as root, or with the ambient capabilities CAP_NET_ADMIN and CAP_NET_RAW"},
			gone: 1,
		},
		{
			name: "a symbolic link in place of the record",
			wrong: func(t *testing.T, a *ailing) {
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
			wrong: func(t *testing.T, a *ailing) { must(t, os.Chmod(a.standby.dir, 0o777)) },
			want:  []string{"warn: DIR can be written to by others; it names commands to run → chmod go-w DIR"},
			gone:  1,
		},
		{
			name:  "a record that anybody may write to",
			wrong: func(t *testing.T, a *ailing) { must(t, os.Chmod(a.path("web.json"), 0o666)) },
			want:  []string{"warn: DIR/web.json can be written to by others; it names commands to run → chmod go-w DIR/web.json"},
			gone:  1,
		},
		{
			name: "a state directory that is a file",
			wrong: func(t *testing.T, a *ailing) {
				a.standby.dir = a.path("web.lock")
			},
			want: []string{
				"fail: state directory DIR: not a directory → mend that, or choose another state-dir",
				"warn: no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
			gone: 2,
		},
		{
			name:  "no state directory, before the first check",
			wrong: func(_ *testing.T, a *ailing) { a.standby.dir = a.path("none/yet") },
			want: []string{
				"ok: state directory DIR: will be made by the first check",
				"warn: no check of this cluster has been made yet → put a line with pingover check into the crontab, one a minute",
			},
			gone: 2,
		},
		{
			name:  "a dead cron",
			wrong: func(_ *testing.T, a *ailing) { time.Sleep(12 * time.Minute); a.quiet() },
			want:  []string{"fail: the last check was 12m30s ago, and without checks nothing is taken over → is cron running, and is pingover check in the crontab?"},
			gone:  1,
		},
		{
			name: "checks that are rare on purpose",
			wrong: func(t *testing.T, a *ailing) {
				a.change(t, func(rec *state.Record) { rec.Gap = state.Milliseconds((10 * time.Minute).Milliseconds()) })
				time.Sleep(12 * time.Minute)
				a.quiet()
			},
			want: []string{"ok: the last check was 12m30s ago"},
			gone: 1,
		},
		{
			name:  "a broken record",
			wrong: func(t *testing.T, a *ailing) { must(t, writeFile(a.path("web.json"), []byte("{"))) },
			want: []string{
				"warn: DIR/web.json is broken (unexpected end of JSON input) and is not believed; going on with what the kernel shows" + keptAside,
			},
			gone: 1,
		},
		{
			name: "a record of a newer pingover, with a vip here",
			wrong: func(t *testing.T, a *ailing) {
				a.change(t, func(rec *state.Record) { rec.Version = 2 })
				a.do(func() { a.primary.unset(vipAddr); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: DIR/web.json is broken (its version is 2, this program knows 1) and is not believed; going on with what the kernel shows" + keptAside,
				"warn: vip 172.16.0.1 is on this machine, on eth0, and it is not known whether pingover has raised it → see what is said of the record: it would tell",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 3,
		},
		{
			name: "a directory in place of the record, with a vip here",
			wrong: func(t *testing.T, a *ailing) {
				must(t, os.Remove(a.path("web.json")))
				must(t, os.Mkdir(a.path("web.json"), 0o755))
				a.do(func() { a.primary.unset(vipAddr); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"fail: DIR/web.json: a directory, so nothing can be written there → remove it, or choose another state-dir",
				"warn: read DIR/web.json: is a directory; going on with what the kernel shows" +
					" → see why, and mend it: checks go on without its history and the mail that waits, and write a new one over it where they can",
				"warn: vip 172.16.0.1 is on this machine, on eth0, and it is not known whether pingover has raised it → see what is said of the record: it would tell",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 4,
		},
		{
			name:  "a clock that was set back",
			wrong: func(t *testing.T, a *ailing) { a.checkedAfter(t, 2*time.Hour) },
			want: []string{
				"fail: the last check lies 2h in the future: the clock was set back → see that the clock is right, and that cron is running: the next check writes the time anew",
			},
			gone: 1,
		},
		{
			name:  "a clock that was set back by less than checks are apart",
			wrong: func(t *testing.T, a *ailing) { a.checkedAfter(t, 20*time.Second) },
			want: []string{
				"warn: the last check lies 20s in the future: the clock was set back → see that the clock is right, and that cron is running: the next check writes the time anew",
			},
			gone: 1,
		},
		{
			name: "the record of another host than the file's",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.Host = "172.16.0.7"
				a.settings.From = map[string]string{"host": "/etc/pingover.yaml:4"}
				a.do(func() { a.primary.unset(vipAddr); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				`fail: the record of cluster "web" is of host "172.16.0.2", not of "172.16.0.7" → rename this cluster (/etc/pingover.yaml:4); ` +
					"or, when only its primary has a new address, remove DIR/web.json: lost with it are its history, the mail that waits, and what was raised here or done by hand",
				"ok: host 172.16.0.7: on the link of eth0",
				"warn: vip 172.16.0.1 is on this machine, on eth0, and it is not known whether pingover has raised it → see what is said of the record: it would tell",
				"warn: primary 172.16.0.7 did not answer 5 pings → mend the primary: its virtual IP is here meanwhile",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 6,
		},
		{
			name:  "the record of another host",
			wrong: func(t *testing.T, a *ailing) { a.settings.Host = "172.16.0.7" },
			want: []string{
				`fail: the record of cluster "web" is of host "172.16.0.2", not of "172.16.0.7" → give this cluster a name of its own with --name`,
				"ok: host 172.16.0.7: on the link of eth0",
				"fail: primary 172.16.0.7 did not answer 5 pings → see whether it is down, and whether host is right",
				"ok: vip 172.16.0.1 is served by 02:00:00:00:00:02",
			},
			gone: 5,
		},
		{
			name: "a pause",
			wrong: func(t *testing.T, a *ailing) {
				must(t, state.Dir(a.standby.dir).Pause("web", time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)))
			},
			want: []string{"warn: paused until 2000-01-01 02:00:00 +0000: nothing is switched → to end that: pingover resume web"},
		},
		{
			name: "released by hand, a hook owed, mail waiting",
			wrong: func(t *testing.T, a *ailing) {
				a.change(t, func(rec *state.Record) {
					rec.ManualRelease = true
					rec.PendingHook = &state.PendingHook{Hook: "post-release"}
					rec.Outbox = []state.Message{{MessageID: "<1@standby>", To: []string{"root@standby"}}}
					rec.MailError = new("connection refused")
				})
			},
			want: []string{
				"warn: released by hand: no check takes over before the primary was up once → to end that: pingover resume web",
				"warn: the hook post-release has not run yet → nothing: the next check runs it",
				"warn: letters are waiting: 1, for connection refused → nothing: the next check tries again; if they stay, --send-mail shows why",
			},
		},
		{
			name:  "no vip",
			wrong: func(_ *testing.T, a *ailing) { a.settings.VIPs = nil },
			want:  []string{"warn: no vip: checks only report, and never take over → set vip, where it is to take over"},
			gone:  6,
		},
		{
			name:  "no tool",
			wrong: func(_ *testing.T, a *ailing) { a.world.Tool = nil },
			gone:  2, // what is wrong is what Real says
		},
		{
			name: "a lease that the tool cannot set",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.Lease = 10 * time.Minute
				a.standby.fails = func(call string) error {
					if call == "can lease" {
						return errors.New("ifconfig gives no address a lifetime")
					}
					return nil
				}
			},
			want: []string{
				`fail: lease "10m": ifconfig gives no address a lifetime → change the settings, or this machine, so that this is so no longer`,
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600",
			},
			gone: 1,
		},
		{
			name: "a lease that is too short for the crontab",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Lease = 2 * time.Minute
				a.change(t, func(rec *state.Record) { rec.Gap = state.Milliseconds((5 * time.Minute).Milliseconds()) })
			},
			want: []string{
				"warn: the lease of 2m is shorter than twice the time between the last two checks, 5m: one that comes late loses the alias → make the lease longer, or check more often",
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 120 preferred_lft 120",
			},
			gone: 1,
		},
		{
			name:  "a lease",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Lease = 10 * time.Minute },
			want: []string{
				"ok: lease 10m: can be set",
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600",
			},
			gone: 1,
		},
		{
			name: "a kernel that does not answer",
			wrong: func(_ *testing.T, a *ailing) {
				a.world.Snapshot = func() (*vip.Snapshot, error) { return nil, unreadable }
			},
			want: []string{"fail: the kernel cannot be asked for its addresses: permission denied → change the settings, or this machine, so that this is so no longer"},
			gone: 8,
		},
		{
			name: "a host by name",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host, a.standby.names["primary"] = "primary", primaryAddr
				a.change(t, func(rec *state.Record) { rec.Host = "primary" })
			},
			want: []string{"warn: host primary is a name, now of 172.16.0.2, on the link of eth0 → give its address: then no name server has to be alive when the primary is not"},
			gone: 1,
		},
		{
			name: "a name that no longer resolves",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "primary"
				a.change(t, func(rec *state.Record) { rec.Host = "primary" })
			},
			want: []string{
				`warn: host "primary": no such host; going on with its last good address, 172.16.0.2 → give its address: then no name server has to be alive when the primary is not`,
				"warn: host primary is a name, now of 172.16.0.2, on the link of eth0 → give its address: then no name server has to be alive when the primary is not",
			},
			gone: 1,
		},
		{
			name: "a name that never resolved",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "primary"
				a.change(t, func(rec *state.Record) { rec.Host, rec.Address, rec.Neighbour = "primary", netip.Addr{}, "" })
			},
			want: []string{
				`fail: host primary: host "primary": no such host → see that the name resolves, or give the address`,
				"ok: vip 172.16.0.1 is served by 02:00:00:00:00:02",
			},
			gone: 5,
		},
		{
			name: "no route to the host",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "10.9.9.9"
				a.change(t, func(rec *state.Record) { rec.Host = "10.9.9.9" })
				delete(a.standby.gateway, false)
			},
			want: []string{
				"fail: host 10.9.9.9: no route to 10.9.9.9: network is unreachable → see the routes of this machine: ip route get 10.9.9.9",
			},
			gone: 4,
		},
		{
			name: "this machine as host",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "172.16.0.3"
				a.change(t, func(rec *state.Record) { rec.Host = "172.16.0.3" })
			},
			want: []string{"fail: this machine is the primary: 172.16.0.3 is its own address → pingover runs on the standby; --host is the other machine"},
			gone: 8,
		},
		{
			name: "a vip as host, held here",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "172.16.0.1"
				a.change(t, func(rec *state.Record) {
					rec.Host = "172.16.0.1"
					rec.VIPs[0].Raised = true
				})
				a.do(func() { a.primary.die(); a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: host 172.16.0.1: 172.16.0.1 is on this machine now, so a ping would answer itself → nothing, while it is held here",
				"ok: vip 172.16.0.1 is on this machine, raised by pingover on eth0",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 6,
		},
		{
			name: "a primary behind the gateway",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.Host = "10.0.0.2"
				a.change(t, func(rec *state.Record) { rec.Host = "10.0.0.2" })
				a.do(func() { a.primary.nics[1].Addresses[0].Prefix = netip.MustParsePrefix("10.0.0.2/24") })
			},
			want: []string{
				"ok: host 10.0.0.2: by way of 172.16.0.254, through eth0",
				"ok: primary 10.0.0.2 answers a ping (0.4 ms)",
				"ok: primary 10.0.0.2 is not on the link: only pings tell whether it is alive",
			},
			gone: 3,
		},
		{
			name:  "no such interface",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Interface = "eth7" },
			want:  []string{`fail: there is no interface "eth7" → see what there is, and what interface and vip name: ip link`},
			gone:  5,
		},
		{
			name:  "an interface that is down",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.standby.nic("eth0").Up = false }) },
			want: []string{
				"fail: host 172.16.0.2: no route to 172.16.0.2: network is unreachable → see the routes of this machine: ip route get 172.16.0.2",
				`fail: interface "eth0" is down → ip link set eth0 up`,
			},
			gone: 8,
		},
		{
			name:  "a cable that is out",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.standby.nic("eth0").Carrier = false }) },
			want:  []string{`fail: interface "eth0" has no carrier: is the cable in? → put the cable in, or see what it leads to`},
			gone:  6,
		},
		{
			name: "an interface without ARP",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() { a.standby.nic("eth0").ARP = false })
			},
			want: []string{
				`warn: interface "eth0" resolves no neighbours → choose another interface: nobody can be asked, or told of a takeover, by ARP there`,
				"ok: vip 172.16.0.1 is served: it answers a ping",
			},
			gone: 3,
		},
		{
			name: "two interfaces whose networks hold the vip",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() { a.standby.plug("eth1", "lan", 33, "172.16.0.33/16") })
			},
			want: []string{
				`fail: vip "172.16.0.1/32": the networks of eth0 and eth1 all hold it → say which with --interface, or write 172.16.0.1@eth0`,
				"warn: vip 172.16.0.1: nobody could be asked who serves it → see what is said of the interface and of duplicate-check",
			},
			gone: 3,
		},
		{
			name:  "a source that is not here",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Source = netip.MustParseAddr("172.16.0.33") },
			want:  []string{"fail: source 172.16.0.33 is no address of this machine → give one that ip addr shows, or leave it out"},
			gone:  1,
		},
		{
			name:  "a label in use",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Label = "eth0" },
			want:  []string{`fail: raise 172.16.0.1/32 on eth0: label "eth0" is in use by 172.16.0.3/16 → change label, interface or tool`},
			gone:  1,
		},
		{
			name: "an interface whose name leaves no room for a label",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() { a.standby.nic("eth0").Name = "enx525400aabbcc" })
			},
			want: []string{
				"ok: host 172.16.0.2: on the link of enx525400aabbcc",
				`ok: interface "enx525400aabbcc" is up and has a carrier`,
				`ok: vip 172.16.0.1: raised without a label, for the name of interface "enx525400aabbcc" leaves no room for one`,
				"ok: a takeover runs: ip addr add 172.16.0.1/32 dev enx525400aabbcc",
			},
			gone: 3,
		},
		{
			name:  "a length that is not the network's",
			wrong: func(_ *testing.T, a *ailing) { a.vips("172.16.0.1/24") },
			want: []string{
				`warn: vip 172.16.0.1/24: the network of interface "eth0" is a /16 → give it without a length: 172.16.0.1`,
				"ok: a takeover runs: ip addr add 172.16.0.1/24 dev eth0 label eth0:1",
			},
			gone: 1,
		},
		{
			name:  "two vips, of which one is in no network and nobody's",
			wrong: func(_ *testing.T, a *ailing) { a.vips("172.16.0.1/32", "10.1.1.1/32") },
			want: []string{
				`warn: vip 10.1.1.1 is in no network of interface "eth0" → see that vip and interface are right`,
				"ok: a takeover runs: ip addr add 10.1.1.1/32 dev eth0 label eth0:2",
				"warn: vip 10.1.1.1 is served by nobody → raise it on the primary; a takeover follows only when that is down",
			},
		},
		{
			name: "this machine's own address as vip",
			wrong: func(_ *testing.T, a *ailing) {
				a.vips("172.16.0.3/32")
				a.do(func() { a.standby.set("eth0", "172.16.0.13/16"); a.standby.nic("eth0").Addresses[1].Secondary = true })
			},
			want: []string{
				"ok: pings come from 172.16.0.13",
				"fail: vip 172.16.0.3 is this machine's own address, on eth0 → give another vip: one that only follows the primary",
				"ok: vip 172.16.0.3 is served by this machine",
			},
			gone: 3,
		},
		{
			name: "a vip that was raised here by hand, and is at the primary too",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() { a.standby.set("eth0", "172.16.0.1/32") })
			},
			want: []string{
				"warn: vip 172.16.0.1 is on this machine, on eth0, and pingover has not raised it → if it is this machine's own address, it cannot be a vip; if you raised it by hand, nothing",
				"fail: vip 172.16.0.1 is here, and at 02:00:00:00:00:02 too → take it off one of the two; the next check gives way, if nobody does",
			},
			gone: 2,
		},
		{
			name: "a vip that was raised here by hand with the length of the network",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() {
					a.primary.unset(vipAddr)
					a.standby.set("eth0", "172.16.0.1/16")
					a.standby.nic("eth0").Addresses[1].Secondary = true
				})
			},
			want: []string{
				"warn: vip 172.16.0.1 is on this machine, on eth0, and pingover has not raised it → if it is this machine's own address, it cannot be a vip; if you raised it by hand, nothing",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 2,
		},
		{
			name: "a failover in effect",
			wrong: func(t *testing.T, a *ailing) {
				a.do(a.primary.die)
				a.ends(state.TookOver, "")
				time.Sleep(30 * time.Second)
				a.quiet()
			},
			want: []string{
				"ok: the last check was 1m19s ago",
				"ok: vip 172.16.0.1 is on this machine, raised by pingover on eth0",
				"warn: primary 172.16.0.2 did not answer 5 pings → mend the primary: its virtual IP is here meanwhile",
				"ok: vip 172.16.0.1 is served by this machine",
			},
			gone: 5,
		},
		{
			name: "an address that is no longer a vip",
			wrong: func(t *testing.T, a *ailing) {
				a.do(func() { a.standby.set("eth0", "172.16.0.5/32") })
				a.change(t, func(rec *state.Record) {
					rec.VIPs = append(rec.VIPs, state.Alias{Prefix: netip.MustParsePrefix("172.16.0.5/32"), Interface: "eth0", Raised: true})
				})
			},
			want: []string{"warn: 172.16.0.5 is still on this machine, raised by pingover, but no longer a setting of this cluster → ip addr del 172.16.0.5/32 dev eth0"},
		},
		{
			name: "a name of the vip that leads to the primary itself",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = primaryAddr
			},
			want: []string{"fail: vip-name web.example.com leads to 172.16.0.2, which is no vip → let the name lead to the vip alone: other addresses do not follow the primary"},
		},
		{
			name:  "a name of the vip that does not resolve",
			wrong: func(_ *testing.T, a *ailing) { a.settings.VIPName = "web.example.com" },
			want:  []string{`fail: vip-name web.example.com: resolve "web.example.com": no such host → mend the DNS, or this machine's way to it`},
		},
		{
			name: "a name that leads to one of two vips",
			wrong: func(_ *testing.T, a *ailing) {
				a.vips("172.16.0.1/32", "172.16.0.5/32")
				a.do(func() { a.primary.set("eth0", "172.16.0.5/32") })
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = vipAddr
			},
			want: []string{
				"ok: a takeover runs: ip addr add 172.16.0.5/32 dev eth0 label eth0:2",
				"warn: vip-name web.example.com does not lead to 172.16.0.5 → add that to the DNS, or take the vip out",
				"ok: vip 172.16.0.5 is served by the primary (02:00:00:00:00:02)",
			},
		},
		{
			name: "a name that leads to the vip",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.VIPName = "web.example.com"
				a.standby.names["web.example.com"] = vipAddr
			},
			want: []string{"ok: vip-name web.example.com leads to 172.16.0.1"},
		},
		{
			name:  "duplicate-check off",
			wrong: func(_ *testing.T, a *ailing) { a.settings.DuplicateCheck = false },
			want: []string{
				"warn: duplicate-check is off: a takeover does not ask on the link whether somebody has the addresses → leave duplicate-check on",
				"ok: vip 172.16.0.1 is served: it answers a ping",
			},
			gone: 2,
		},
		{
			name:  "a primary that is down",
			wrong: func(_ *testing.T, a *ailing) { a.do(a.primary.die) },
			want: []string{
				"fail: primary 172.16.0.2 did not answer 5 pings → see whether it is down, and whether host is right",
				"warn: vip 172.16.0.1 is served by nobody → raise it on the primary; a takeover follows only when that is down",
			},
			gone: 3,
		},
		{
			name:  "a primary that filters pings",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.primary.noPing = true }) },
			want: []string{
				"fail: primary 172.16.0.2 answers no ping, but does by ARP: 02:00:00:00:00:02 → let its firewall answer pings: it will count as down, and never be taken over from",
			},
			gone: 2,
		},
		{
			name:  "a primary that answers no ARP",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.primary.noARP = true }) },
			want: []string{
				"warn: primary 172.16.0.2 answers pings, but nobody by ARP → see what answers for it: a router in between may do so",
				"ok: vip 172.16.0.1 is served: it answers a ping",
			},
			gone: 2,
		},
		{
			name: "pings that cannot be sent",
			wrong: func(_ *testing.T, a *ailing) {
				ping := a.world.Ping
				a.world.Ping = func(ctx context.Context, p check.Pings) check.Round {
					if p.Address == primaryAddr {
						return check.Round{Err: errors.New("sendto: operation not permitted")}
					}
					return ping(ctx, p)
				}
			},
			want: []string{"fail: not everybody could be asked: sendto: operation not permitted → mend that first"},
			gone: 2,
		},
		{
			name: "an ear that cannot be opened",
			wrong: func(_ *testing.T, a *ailing) {
				a.world.Listen = func(vip.Link, func(net.HardwareAddr) bool, ...netip.Addr) (Listener, error) { return nil, unreadable }
			},
			want: []string{
				"fail: not everybody could be asked: permission denied → mend that first",
				"ok: vip 172.16.0.1 is served: it answers a ping",
			},
			gone: 2,
		},
		{
			name: "another machine with the vip",
			wrong: func(_ *testing.T, a *ailing) {
				a.add("other", 9, "172.16.0.9/16", "172.16.0.1/32")
				a.do(func() { a.primary.unset(vipAddr) })
			},
			want: []string{"ok: vip 172.16.0.1 is served by 02:00:00:00:00:09, which is another interface of the primary, or another machine"},
			gone: 1,
		},
		{
			name:  "nobody with the vip",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.primary.unset(vipAddr) }) },
			want:  []string{"warn: vip 172.16.0.1 is served by nobody → raise it on the primary; a takeover follows only when that is down"},
			gone:  1,
		},
		{
			name:  "a witness that is down",
			wrong: func(_ *testing.T, a *ailing) { a.do(a.gateway.die) },
			want:  []string{"fail: witness 172.16.0.254 does not answer → see why, or give one that answers: without one a takeover is refused"},
			gone:  1,
		},
		{
			name: "one of two witnesses that is down",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{gatewayAddr, netip.MustParseAddr("172.16.0.77")}}
			},
			want: []string{"warn: witness 172.16.0.77 does not answer → see why; while another one answers, that is enough"},
		},
		{
			name: "a witness that is the primary",
			wrong: func(_ *testing.T, a *ailing) {
				a.do(func() { a.primary.set("eth0", "172.16.0.22/16") })
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr("172.16.0.22")}}
			},
			want: []string{"fail: witness 172.16.0.22 is the primary: both are 02:00:00:00:00:02 → give a third machine"},
			gone: 1,
		},
		{
			name: "a witness that is this machine",
			wrong: func(_ *testing.T, a *ailing) {
				a.settings.Witness = config.Witness{Addresses: []netip.Addr{netip.MustParseAddr("172.16.0.3")}}
			},
			want: []string{"fail: witness 172.16.0.3 is this machine → give a third machine"},
			gone: 1,
		},
		{
			name: "no witness to be found",
			wrong: func(t *testing.T, a *ailing) {
				delete(a.standby.gateway, false)
				a.change(t, func(rec *state.Record) { rec.Gateways = nil })
			},
			want: []string{"fail: no witness: this machine has no default gateway, or it is the primary itself, so a takeover will be refused → set witness to a third machine that always answers, or to none"},
			gone: 1,
		},
		{
			name:  "witness none",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Witness = config.Witness{} },
			want:  []string{"warn: witness none: with its own cable out, this machine believes that the primary is down → set witness to a third machine that always answers"},
			gone:  1,
		},
		{
			name:  "checks that take long",
			wrong: func(_ *testing.T, a *ailing) { a.settings.RetryWait = time.Minute },
			want:  []string{"ok: with these settings a check can take 1m33s, mail aside; while it runs, further ones end at once with exit code 75"},
		},
		{
			name:  "a machine that has just booted",
			wrong: func(_ *testing.T, a *ailing) { a.do(func() { a.standby.booted = time.Now().Add(-time.Minute) }) },
			want:  []string{"warn: this machine has been up for 1m1s: no takeover for another 1m59s → wait, or make boot-wait shorter"},
			gone:  1,
		},
		{
			name:  "an uptime that cannot be read",
			wrong: func(_ *testing.T, a *ailing) { a.world.Uptime = func() (time.Duration, error) { return 0, unreadable } },
			want:  []string{"fail: this machine does not tell how long it has been up, so there will be no takeover: permission denied → see why /proc/uptime cannot be read"},
			gone:  1,
		},
		{
			name:  "nobody to send a test letter to",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Mail.To, a.send = nil, true },
			want:  []string{"fail: nobody is told of a change by mail: no mail-to is set → set mail-to"},
			gone:  1,
		},
		{
			name: "a mail server that does not answer, with mail waiting",
			wrong: func(t *testing.T, a *ailing) {
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
				"fail: mail via sendmail: connection refused → see that the mailer runs, and that mail-via is right",
				"warn: letters are waiting: 1 → mend what is said of mail here: each check tries again",
			},
			gone: 1,
		},
		{
			name:  "a metrics file",
			wrong: func(_ *testing.T, a *ailing) { a.settings.MetricsFile = a.path("pingover.prom") },
			want:  []string{"ok: metrics-file DIR/pingover.prom"},
		},
		{
			name:  "a metrics file in a directory that is not there",
			wrong: func(_ *testing.T, a *ailing) { a.settings.MetricsFile = a.path("none/pingover.prom") },
			want:  []string{"fail: metrics-file DIR/none/pingover.prom: there is no directory DIR/none → mkdir -p DIR/none, or change metrics-file"},
		},
		{
			name:  "a metrics file in what is no directory",
			wrong: func(_ *testing.T, a *ailing) { a.settings.MetricsFile = a.path("web.lock/pingover.prom") },
			want:  []string{"fail: metrics-file DIR/web.lock/pingover.prom: DIR/web.lock: not a directory → let pingover write there, or change metrics-file"},
		},
		{
			name: "a metrics file that is a directory",
			wrong: func(t *testing.T, a *ailing) {
				a.settings.MetricsFile = a.path("pingover.prom")
				must(t, os.Mkdir(a.settings.MetricsFile, 0o755))
			},
			want: []string{"fail: metrics-file DIR/pingover.prom: a directory → change metrics-file"},
		},
		{
			name:  "a metrics file that nobody reads",
			wrong: func(_ *testing.T, a *ailing) { a.settings.MetricsFile = a.path("pingover.txt") },
			want:  []string{"warn: metrics-file DIR/pingover.txt: node_exporter reads only files whose names end in .prom → let its name end in .prom"},
		},
		{
			name:  "no mail",
			wrong: func(_ *testing.T, a *ailing) { a.settings.Mail.To = nil },
			want:  []string{"warn: nobody is told of a change by mail: no mail-to is set → set mail-to"},
			gone:  1,
		},
		{
			name: "a mail server that does not answer, and a password for all to read",
			wrong: func(t *testing.T, a *ailing) {
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
				"fail: mail via smtp://172.16.0.254:25: connection refused → see that the mailer runs, and that mail-via is right",
			},
			gone: 1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var found []string
			got := examine(t, test.wrong)
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

func TestADoctorLooksAtHooks(t *testing.T) {
	var dir string
	got := examine(t, func(t *testing.T, a *ailing) {
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
		"warn: post-takeover: HOOKS/open can be written to by others, and what is in it is run with this process's rights → chmod go-w HOOKS/open",
		"fail: pre-release: HOOKS/data: not executable: permission denied → mend that, or give another command",
		"fail: post-release: HOOKS/none: no such file or directory → mend that, or give another command",
	}, found); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWhatTheKernelWouldNotRun(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	const neither = "neither a program nor a script with #! in its first line"
	for _, test := range []struct{ name, text, want string }{
		{"a program", string(program[:64]), ""},
		{"a script", "#!/bin/sh -e\nexit\n", ""},
		{"a script, with a blank", "#! /bin/sh\n", ""},
		{"a script for what is found in PATH", "#!/usr/bin/env sh\n", ""},
		{"an interpreter that is missing", "#!/nonexistent/sh\n", `its interpreter "/nonexistent/sh": no such file or directory`},
		{"lines that end as in DOS", "#!/bin/sh\r\n", `its interpreter "/bin/sh\r": no such file or directory`},
		{"an interpreter that is a directory", "#!/bin\n", `its interpreter "/bin": not a regular file`},
		{"an interpreter that is not in PATH", "#!/usr/bin/env nosuchshell\n", `its interpreter "nosuchshell" not found in PATH`},
		{"no interpreter", "#!\n/bin/sh\n", "its first line names no interpreter"},
		{"a script without its first line", "echo hello\n", neither},
		{"garbage", "\x00\x01\x02", neither},
		{"nothing", "", neither},
	} {
		path := filepath.Join(t.TempDir(), "hook")
		must(t, os.WriteFile(path, []byte(test.text), 0o700))
		got := ""
		if err := executable(path); err != nil {
			got = strings.TrimPrefix(err.Error(), path+": ")
			got, _, _ = strings.Cut(got, " in /")
		}
		want := strings.TrimSuffix(test.want, " in PATH")
		if got != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}
}

func TestOverdue(t *testing.T) {
	for _, test := range []struct {
		age, gap time.Duration
		want     bool
	}{
		{3 * time.Minute, time.Minute, false},
		{3*time.Minute + time.Second, time.Minute, true},
		{30 * time.Minute, 10 * time.Minute, false},
		{30*time.Minute + time.Second, 10 * time.Minute, true},
		{-time.Minute, time.Minute, false},
		{-time.Minute - time.Second, 10 * time.Minute, true},
	} {
		if got := Overdue(test.age, test.gap); got != test.want {
			t.Errorf("%s old, %s apart: %t, want %t", test.age, test.gap, got, test.want)
		}
	}
}

func TestADirectoryThatOthersMayWriteToExposesTheHook(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hook")
	must(t, os.WriteFile(path, nil, 0o700))
	for _, test := range []struct {
		mode os.FileMode
		want exposure
	}{
		{0o755, exposure{}},
		{0o777 | os.ModeSticky, exposure{}},
		{0o777, exposure{dir + " can be written to by others", "chmod go-w " + dir}},
	} {
		must(t, os.Chmod(dir, test.mode))
		if got := openToOthers(path); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.mode, got, test.want)
		}
	}
}

// owned is a file's information with another owner.
type owned struct {
	os.FileInfo
	uid, gid uint32
}

func (o owned) Sys() any { return &syscall.Stat_t{Uid: o.uid, Gid: o.gid} }

func TestWhoMayWriteToAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook")
	me, somebody := uint32(os.Geteuid()), uint32(os.Geteuid()+7)
	for _, test := range []struct {
		mode     os.FileMode
		uid, gid uint32
		want     string
	}{
		{0o755, me, 0, ""},
		{0o755, 0, 7, ""},
		{0o755, somebody, 7, fmt.Sprintf("%s belongs to user %d", path, somebody)},
		{0o775, me, 7, path + " can be written to by others"},
		{0o775, me, 0, ""}, // the group of root
		{0o757, me, 0, path + " can be written to by others"},
	} {
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chmod(path, test.mode))
		info, err := os.Stat(path)
		must(t, err)
		if got := openTo(path, owned{info, test.uid, test.gid}); got.what != test.want {
			t.Errorf("%s of %d:%d: %q, want %q", test.mode, test.uid, test.gid, got.what, test.want)
		}
	}
}

func TestADoctorAsksAsOftenAsACheck(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.do(func() { s.primary.unset(vipAddr) })
		a := &ailing{scene: s, world: s.standby.world()}
		a.examined(t)
		// On a lossy link silence counts only then.
		if asked := len(s.calls("ask for 172.16.0.1 ")); asked < serveAsks {
			t.Errorf("asked %d times before nobody serves, want %d", asked, serveAsks)
		}
	})
}

func TestADiskThatIsFull(t *testing.T) {
	plenty := unix.Statfs_t{Bsize: 4096, Bfree: 1000, Bavail: 1000, Files: 10, Ffree: 1}
	little, noInode, countless := plenty, plenty, plenty
	little.Bfree, little.Bavail = 16, 16
	noInode.Ffree = 0
	countless.Files, countless.Ffree = 0, 0 // as btrfs says
	for _, test := range []struct {
		disk unix.Statfs_t
		want string
	}{
		{plenty, ""},
		{countless, ""},
		{little, "only 64 KiB are free"},
		{noInode, "no file can be made: all inodes are in use"},
	} {
		if got := shortOf(test.disk); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestADoctorSendsMailOnlyWhenTold(t *testing.T) {
	var sent []state.Message
	got := examine(t, func(t *testing.T, a *ailing) {
		a.examined(t)
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
		"ok: mail to root@standby: handed over: 250 queued",
		"ok: mail to ops@example.com: handed over: 250 queued",
		"fail: mail to gone@example.com via sendmail: 550 no such user → ask the mail server's people, or give another mail-to, mail-from or mail-via",
	}, got[len(got)-4:]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(sent) != 3 || !slices.Equal(sent[0].To, []string{"root@standby"}) || !strings.Contains(sent[0].Body, "This is a test") ||
		plain(sent[0].Subject) != "web: a test from pingover on HOSTNAME" {
		t.Errorf("sent %+v", sent)
	}
}

func TestADoctorChangesNothing(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		s.do(s.primary.die)
		before, err := os.ReadFile(filepath.Join(s.standby.dir, "web.json"))
		must(t, err)
		files := listed(t, s.standby.dir)
		s.forget()
		a := &ailing{scene: s, world: s.standby.world()}
		a.examined(t)
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

func TestADoctorGoesOnWithoutATool(t *testing.T) {
	set := usual()
	set.Tool, set.StateDir, set.Host = "hammer", t.TempDir(), "127.0.0.1"
	found := Examine(t.Context(), set, false)
	want := Finding{Fail, `tool "hammer": neither auto, ip nor ifconfig`, "install it, or give the tool that is there with --tool"}
	if found[0] != want {
		t.Errorf("found first %+v, want %+v", found[0], want)
	}
	if last := found[len(found)-1]; !strings.HasPrefix(last.Text, "mail ") {
		t.Errorf("found last %+v", last)
	}
}
