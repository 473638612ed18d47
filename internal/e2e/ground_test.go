package e2e

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// What a check depends on: this machine's own cable, routes, names and rights,
// and the command line. A local fault never counts as a primary that is down.

// patient would wait long for a second round: a check that ends soon has not
// begun one.
var patient = set(withVIP, "--retry-wait", "1m")

// atOnce fails the test unless the run ended before any wait.
func (e ended) atOnce(t testing.TB) ended {
	t.Helper()
	if e.took > 20*time.Second {
		t.Errorf("it took %s", e.took)
	}
	return e
}

func TestStandbyUnplugged(t *testing.T) {
	t.Parallel()
	t.Run("carrier lost", func(t *testing.T) {
		s := newScene(t)
		s.check(s.Standby, patient...).want(t, state.OK)
		untouched := s.untouched(s.Standby)
		s.must(s.Standby.Unplug(false))
		for n := range 3 {
			e := s.check(s.Standby, patient...).want(t, state.Unknown).atOnce(t).
				because(t, `interface "eth0" has no carrier: is the cable in?`)
			if len(e.Rounds) != 0 {
				t.Errorf("it was pinged: %s", e.stdout)
			}
			if want := n / 2; e.MailWaiting != want { // once or twice is no alert
				t.Errorf("after unknown check %d %d emails pending, want %d", n+1, e.MailWaiting, want)
			}
		}
		s.wantOn(vip4, s.Primary)
		s.must(s.Standby.Plug())
		for range 2 { // the kernel may not have found the mail server again
			s.check(s.Standby, patient...).want(t, state.OK)
		}
		untouched()
		s.mail.want(t, "[pingover] web: PROBLEM: standby cannot check 172.16.0.2")
	})
	t.Run("carrier stays", func(t *testing.T) {
		s := newScene(t)
		s.check(s.Standby, withVIP...).want(t, state.OK)
		untouched := s.untouched(s.Standby)
		s.must(s.Standby.Unplug(true))
		for range 2 {
			e := s.check(s.Standby, withVIP...).want(t, state.Blocked).
				because(t, "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network")
			if e.MailWaiting != 1 {
				t.Errorf("%d emails pending, want 1", e.MailWaiting)
			}
		}
		s.wantOn(vip4, s.Primary)
		s.must(s.Standby.Plug())
		for range 3 {
			s.check(s.Standby, withVIP...).want(t, state.OK)
		}
		untouched()
		s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: no witness replies", "[pingover] web: RESOLVED: 172.16.0.2 replies again")
	})
}

// The primary is down, and in the middle of finding that out the standby's own
// cable goes: nothing is certain any more.
func TestStandbyUnpluggedDuringARound(t *testing.T) {
	t.Parallel()
	const round = 12 // pings, 400 ms apart: long enough for a slow machine
	for name, c := range map[string]struct {
		during  string
		carrier bool
		want    state.Outcome
		reason  string
		rounds  int
	}{
		"first, carrier lost": {
			during: "round 1: pinging", want: state.Unknown, rounds: 1,
			reason: `interface "eth0" has no carrier: is the cable in?`,
		},
		"first, carrier stays": {
			during: "round 1: pinging", carrier: true, want: state.Blocked, rounds: 2,
			reason: "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network",
		},
		"second, carrier lost": {
			during: "round 2: pinging", want: state.Unknown, rounds: 2,
			reason: `interface "eth0" has no carrier: is the cable in?`,
		},
		"second, carrier stays": {
			during: "round 2: pinging", carrier: true, want: state.Blocked, rounds: 2,
			reason: "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, withVIP...).want(t, state.OK)
			untouched := s.untouched(s.Standby)
			s.must(s.Primary.PowerOff())
			run := s.follow(s.Standby, set(withVIP, "--count", strconv.Itoa(round), "--interval", "400ms")...)
			run.until(c.during)
			time.Sleep(800 * time.Millisecond) // the witness has replied, at the start
			s.must(s.Standby.Unplug(c.carrier))
			e := run.wait().want(t, c.want).because(t, c.reason)
			if len(e.Rounds) != c.rounds {
				t.Errorf("%d rounds, want %d: %s", len(e.Rounds), c.rounds, e.stdout)
			}
			s.must(s.Standby.Plug())
			untouched()
			s.wantOn(vip4)
		})
	}
}

func TestCheckThatCannotBeMade(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	for _, c := range []struct {
		name         string
		before, then string // shell commands on the standby
		args         []string
		reason       string
	}{
		{
			name:   "interface down",
			before: "ip link set eth0 down",
			then:   "ip link set eth0 up; ip route add default via 172.16.0.254; until ip -6 addr show dev eth0 scope link | grep -q fe80; do sleep 0.1; done",
			reason: `no route to 172.16.0.2: network is unreachable; interface "eth0" is down`,
		},
		{
			name:   "no route to a foreign network",
			before: "ip route del default",
			then:   "ip route add default via 172.16.0.254",
			args:   []string{"--host", "192.0.2.7"},
			reason: "no route to 192.0.2.7: network is unreachable",
		},
		{
			name:   "an unknown name",
			args:   []string{"--host", "nowhere.example"},
			reason: `resolve "nowhere.example": connection refused (name server `,
		},
	} {
		s.run(s.Standby, "sh", "-c", c.before)
		untouched := s.untouched(s.Standby)
		e := s.check(s.Standby, set(patient, append(c.args, "--name", strings.ReplaceAll(c.name, " ", "-"))...)...)
		t.Run(c.name, func(t *testing.T) {
			e.want(t, state.Unknown).atOnce(t)
			if !strings.HasPrefix(e.Reason, c.reason) {
				t.Errorf("reason %q, want %q", e.Reason, c.reason)
			}
			if len(e.Rounds) != 0 || len(e.Held) != 0 {
				t.Errorf("it was pinged, or added: %s", e.stdout)
			}
		})
		untouched()
		s.run(s.Standby, "sh", "-c", c.then)
	}
	s.wantOn(vip4)
	s.mail.want(t)
}

// The interface of a virtual IP is no matter of the path to the primary.
func TestVirtualIPOnAnInterfaceThatIsNotThere(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, set(withVIP, "--interface", "eth9")...).want(t, state.Blocked).
		because(t, `172.16.0.2 does not reply, but 172.16.0.1 cannot be assigned: there is no interface "eth9"`)
	s.wantOn(vip4)
}

func TestHostByName(t *testing.T) {
	s := newScene(t)
	args := set(withVIP, "--host", "primary.example")
	s.run(s.Standby, "sh", "-c", "echo 172.16.0.2 primary.example >>/etc/hosts")
	e := s.check(s.Standby, args...).want(t, state.OK).because(t, "primary.example replies")
	if e.Host != "primary.example" || e.Address != "172.16.0.2" {
		t.Errorf("host %q at %q", e.Host, e.Address)
	}

	// The name is gone, and the name server does not reply.
	s.run(s.Standby, "sh", "-c", "sed -i /primary.example/d /etc/hosts; echo nameserver 172.16.0.77 >/etc/resolv.conf")
	const warning = `resolve "primary.example": no answer from the name servers within 5s; going on with what last replied, 172.16.0.2`
	e = s.follow(s.Standby, args...).wait().want(t, state.OK).atOnce(t)
	if e.Address != "172.16.0.2" || !strings.Contains(e.stderr, warning) {
		t.Errorf("address %q, stderr: %s\nwant %s", e.Address, e.stderr, warning)
	}
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver).because(t, "primary.example does not reply, and 172.16.0.1 is not in use")
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, "[pingover] web: primary.example is down! standby took over 172.16.0.1")[0].says(t, "ping primary.example (172.16.0.2), round 2: down")
}

func TestWrongSettingsChangeNothing(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff()) // a check would wait, and then take over
	untouched := s.untouched(s.Standby)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"label of 16 characters", set(patient, "--label", "eth0:12345678901"), 64, `--label "eth0:12345678901": too long (1 to 15 characters)`},
		{"label in two parts", set(patient, "--label", "eth1:1", "--interface", "eth0"), 64, "must begin with eth0:"},
		{"prefix too long", set(patient, "--vip", "172.16.0.1/33"), 64, `--vip "172.16.0.1/33": prefix length "33" is out of range (1 to 32)`},
		{"prefix of the network", set(patient, "--vip", "172.16.0.0/16"), 64, "this is the address of the network 172.16.0.0/16 itself"},
		{"no ping at all", set(patient, "--count", "0"), 64, `--count "0": out of range (1 to 100)`},
		{"no unit", set(patient, "--interval", "3"), 64, `--interval "3": a duration needs a unit, such as 3s (10ms to 1m)`},
		{"stray flag", set(patient, "--failover", "now"), 64, `unknown flag "--failover"`},
		{"stray name", append(slices.Clone(patient), "db"), 64, `"db": no such cluster`},
		{"line break in an address", set(patient, "--mail-to", "ops@example.org\r\nBcc: all@example.org"), 64, "a mail address must not contain a line break"},
		{"password file that is not there", set(patient, "--mail-user", "ops", "--mail-password-file", "/etc/pingover/password"), 78, `--mail-password-file "/etc/pingover/password": cannot be read: no such file or directory`},
		{"password file that is a folder", set(patient, "--mail-user", "ops", "--mail-password-file", "/etc"), 78, `--mail-password-file "/etc": not a regular file`},
		{"this machine is the primary", set(patient, "--host", "172.16.0.3"), 78, "this machine is the primary: 172.16.0.3 is its own address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := s.say(s.Standby, c.args...)
			if e.code != c.code || e.stdout != "" || !strings.Contains(e.stderr, c.says) {
				t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant %d and %s", e.code, e.stdout, e.stderr, c.code, c.says)
			}
			if lines := strings.Count(e.stderr, "\n"); lines < 1 || lines > 2 {
				t.Errorf("%d lines on stderr, want one or two:\n%s", lines, e.stderr)
			}
			e.atOnce(t)
		})
	}
	untouched()
	s.wantOn(vip4)
	s.mail.want(t)
	// A lock may have been taken. There is no record, for nothing was checked.
	s.run(s.Standby, "rm", "-f", "/var/lib/pingover/web.lock")
	s.wantNothingLeft(s.Standby)
}

func TestNoPermission(t *testing.T) {
	s := shortScene(t)
	program := s.path
	as := func(capabilities ...string) {
		s.path = program
		// Root has what its bounding set leaves it.
		s.through("setpriv", "--inh-caps=-all", "--bounding-set=-all"+strings.Join(append([]string{""}, capabilities...), ",+"))
	}
	refused := func(says ...string) {
		t.Helper()
		e := s.say(s.Standby, patient...).atOnce(t)
		if e.code != 77 || e.stdout != "" {
			t.Errorf("exit code %d, want 77\nstdout: %s\nstderr: %s", e.code, e.stdout, e.stderr)
		}
		for _, words := range says {
			if !strings.Contains(e.stderr, words) {
				t.Errorf("stderr: %s\nwant: %s", e.stderr, words)
			}
		}
	}
	dry := append(slices.Clone(withVIP), "--dry-run")
	untouched := s.untouched(s.Standby)

	as("net_admin")
	refused("no permission to ping: be root, or have the capability cap_net_raw, or a group within net.ipv4.ping_group_range")
	as("net_raw")
	refused("no permission to change addresses: this process has no CAP_NET_ADMIN")
	s.check(s.Standby, hasty...).want(t, state.OK) // only reports: the right to ping is enough
	s.check(s.Standby, dry...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	refused("no permission to change addresses: this process has no CAP_NET_ADMIN")
	e := s.check(s.Standby, dry...).want(t, state.TookOver)
	if len(e.Commands) != 1 || e.Commands[0].Code != nil {
		t.Errorf("commands: %s", e.stdout)
	}
	s.must(s.Standby.AllowPing())
	as() // it may ping, and cannot ask by ARP
	s.check(s.Standby, dry...).want(t, state.Unknown).because(t, "eth0: listening for ARP needs CAP_NET_RAW: operation not permitted")
	untouched()
	s.wantOn(vip4)
	s.mail.want(t)
}

func TestDryRun(t *testing.T) {
	s := shortScene(t)
	dry := append(slices.Clone(withVIP), "--dry-run")
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	const would = "pingover: web: would run: ip addr add 172.16.0.1/32 dev eth0 label eth0:1\n"
	tookOver := "pingover: web: took-over (dry run): 172.16.0.2 does not reply, and 172.16.0.1 is not in use" + neverUp + "\n"
	rehearse := func(want string) {
		t.Helper()
		e := s.say(s.Standby, dry...)
		if e.code != 11 || e.stdout != "" || e.stderr != want {
			t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant 11 and\n%s", e.code, e.stdout, e.stderr, want)
		}
		untouched()
		s.wantOn(vip4)
		s.mail.want(t)
	}

	// On a machine that has never made a check.
	rehearse(would + tookOver)
	s.wantNothingLeft(s.Standby)
	e := s.check(s.Standby, dry...).want(t, state.TookOver)
	if !e.DryRun || e.Role != state.Standby || len(e.Held) != 0 || e.MailWaiting != 0 {
		t.Errorf("report: %s", e.stdout)
	}
	want := []state.Command{{Argv: []string{"ip", "addr", "add", "172.16.0.1/32", "dev", "eth0", "label", "eth0:1"}}}
	if diff := cmp.Diff(want, e.Commands); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}

	// On one that has, while another run holds the lock.
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, withVIP...).want(t, state.OK)
	record := s.run(s.Standby, "cat", "/var/lib/pingover/web.json")
	s.must(s.Primary.PowerOff())
	lock := s.lock(s.Standby, "web.lock")
	if e := s.say(s.Standby, withVIP...).atOnce(t); e.code != 75 || e.stderr != "" {
		t.Fatalf("a check beside another: exit code %d, stderr %q; want 75 and no output", e.code, e.stderr)
	}
	rehearse(would + strings.Replace(tookOver, neverUp, "", 1))
	lock()
	if diff := cmp.Diff(record, s.run(s.Standby, "cat", "/var/lib/pingover/web.json")); diff != "" {
		t.Errorf("record (-before +after):\n%s", diff)
	}

	// What it has shown is what a real run does.
	s.wantCommands(s.check(s.Standby, withVIP...).want(t, state.TookOver), "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
}

// lock holds a lock in the state directory until unlock is called.
func (s *scene) lock(h *lab.Host, name string) (unlock func()) {
	s.t.Helper()
	cmd := h.Command(s.t.Context(), "flock", filepath.Join("/var/lib/pingover", name), "sh", "-c", "echo locked; exec cat")
	in, err := cmd.StdinPipe()
	s.must(err)
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	if _, err := out.Read(make([]byte, len("locked\n"))); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		s.must(in.Close())
		s.must(cmd.Wait())
	}
}

// The standby receives all frames, and none of its own arrives. What it receives proves nothing
// then: a gateway asks for its other clients all the time.
func TestStandbyThatCannotSend(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, patient...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	for i := range 8 {
		_, err := s.Gateway.Watch(netip.AddrFrom4([4]byte{172, 16, 77, byte(i + 1)}), 500*time.Millisecond)
		s.must(err)
	}
	s.must(s.Standby.Mute(true))
	args := set(withVIP, "--count", "6", "--interval", "500ms")
	s.check(s.Standby, args...).want(t, state.Blocked).
		because(t, "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network")
	s.wantOn(vip4, s.Primary)
	s.must(s.Standby.Mute(false))
	untouched()
}
