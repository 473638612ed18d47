package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/balance"
	"pingover/internal/lab"
	"pingover/state"
)

// Pools: the program, real hosts and BIND. Other tests show with the same BIND, one
// layer below, what is not repeated here:
//
//	all members die, the set is left            internal/balance TestLabAllMembersDie
//	a record of somebody else's stays           internal/balance TestLabOneOfThreeMembersDiesAndComesBack
//	kill -9 between update and record           internal/balance TestLabKilledBetweenUpdateAndRecord
//	another writer was faster                   pool TestAnotherWriterWasFaster
//	wrong key, algorithm or secret              pool TestWrongKeys
//	wrong clock                                 pool TestWrongClock
//	no right, not dynamic, frozen, other zone   pool TestNoRightToUpdate
//	secondary instead of primary, forwarding    pool TestSecondaryInsteadOfPrimary
//	CNAME                                       pool TestAnAliasIsNoPool
//	a view selected by the key                  pool TestViewByKey
//	server gone, silent, unreachable            pool TestServerGoneOrSilent
//	an answer without a signature               pool TestAnAnswerMustBeSigned (BIND always signs)
//	the 101st record                            pool TestTooManyRecords
//	the same updates by Knot                    pool TestKnot
//
// What the program makes of such faults is in TestPoolFaultsOfTheNameServerLoseNothing.

// poolScene is a pool of three members on a switch, the name server, a standby that
// checks them, and clients in another network.
type poolScene struct {
	*scene
	members []*lab.Host
	ns      *lab.Host
	named   *lab.NameServer
	dir     string // of the name server, with the key www.key
}

// poolSettings are hasty ones: a check that finds a member silent takes 1.6 s.
const poolSettings = `pools:
  www:
    record: host1.zone.com
    server: 192.0.2.53
    members: [10.2.2.10, 10.2.2.11, 10.2.2.12]
    key-file: /etc/pingover/www.key
    witness: 10.2.0.254
    rise: 2
    count: 3
    interval: 150ms
    timeout: 400ms
    retry-wait: 200ms
    mail-to: ops@example.org
    mail-via: smtp://10.2.0.254
    mail-timeout: 2s
`

// newPool has the records of the three members, and these: "host1 60 A 10.2.9.9".
func newPool(t testing.TB, more ...string) *poolScene {
	t.Helper()
	if testing.Short() {
		t.Skip("a scene that takes seconds: it does not run with -short")
	}
	lab.Need(t, "named", "bind9")
	lab.Need(t, "dig", "bind9-dnsutils")
	s := &poolScene{scene: emptyScene(t), dir: t.TempDir()}
	add := func(name string, addrs ...string) *lab.Host {
		h, err := s.Add(name, addrs...)
		s.must(err)
		return h
	}
	s.Gateway = add("gateway", "10.2.0.254/16", "192.0.2.254/24", "2001:db8:2::254/64")
	s.Standby = add("standby", "10.2.0.3/16", "192.0.2.3/24", "2001:db8:2::3/64")
	s.Second = add("second", "10.2.0.4/16", "192.0.2.4/24", "2001:db8:2::4/64")
	s.Client = add("client", "192.0.2.9/24")
	s.run(s.Client, "ip", "route", "add", "default", "via", "192.0.2.254")
	s.run(s.Client, "sh", "-c", "echo nameserver 192.0.2.53 >/etc/resolv.conf")
	s.ns = add("ns", "192.0.2.53/24", "10.2.0.53/16", "2001:db8:2::53/64")
	records := more
	for i := range 3 {
		s.members = append(s.members, add(fmt.Sprintf("host%d", i+1), fmt.Sprintf("10.2.2.%d/16", 10+i), fmt.Sprintf("2001:db8:2::%d/64", 10+i)))
		records = append(records, fmt.Sprintf("host1 60 A 10.2.2.%d", 10+i))
	}
	key, statement, err := lab.TSIGKey(s.dir, "www")
	s.must(err)
	zone, err := lab.DynamicZone(s.dir, "zone.com", "www", records...)
	s.must(err)
	if len(more) > 100 { // which is what BIND holds
		zone = strings.Replace(zone, "update-policy", "max-records-per-type 0; update-policy", 1)
	}
	s.named, err = s.ns.NameServer(s.dir, statement, zone)
	s.must(err)
	for _, h := range []*lab.Host{s.Standby, s.Second} {
		s.run(h, "sh", "-c", `mkdir -p /etc/pingover && install -m 0600 "$1" /etc/pingover/www.key`, "sh", key)
	}
	s.mail = s.serveMail(s.Gateway)
	s.configurePool(poolSettings)
	return s
}

// configurePool writes the file of both checkers, with other values: key, value.
func (s *poolScene) configurePool(text string, pairs ...string) {
	s.t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		line := regexp.MustCompile(`(?m)^    ` + pair[0] + `: .*\n`)
		if !line.MatchString(text) {
			text += "    " + pair[0] + ": " + pair[1] + "\n"
			continue
		}
		text = line.ReplaceAllString(text, "    "+pair[0]+": "+pair[1]+"\n")
	}
	for _, h := range []*lab.Host{s.Standby, s.Second} {
		s.run(h, "sh", "-c", `umask 022; printf %s "$1" >/etc/pingover.yaml`, "sh", text)
	}
}

// poolEnded is how a run of the program ended.
type poolEnded struct {
	balance.Report
	code           int
	stdout, stderr string
}

// pingover runs a command of the program on a host.
func (s *poolScene) pingover(h *lab.Host, args ...string) (e poolEnded) {
	s.t.Helper()
	cmd := s.command(h, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return poolEnded{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// nextSecond waits for it: streaks advance once a second.
func nextSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

// checkAt makes a check on a host and compares how it ends.
func (s *poolScene) checkAt(h *lab.Host, outcome state.Outcome) poolEnded {
	s.t.Helper()
	nextSecond()
	e := s.pingover(h, "check", "--json")
	if err := json.Unmarshal([]byte(e.stdout), &e.Report); err != nil {
		s.t.Fatalf("%v\n%s%s", err, e.stdout, e.stderr)
	}
	if e.Outcome != outcome || e.code != outcome.Code() {
		s.t.Fatalf("outcome %q, exit code %d; want %q, %d\nstdout: %s\nstderr: %s", e.Outcome, e.code, outcome, outcome.Code(), e.stdout, e.stderr)
	}
	return e
}

// check makes one on the standby, and compares what is published after it with the
// last numbers of the addresses.
func (s *poolScene) check(outcome state.Outcome, last ...string) poolEnded {
	s.t.Helper()
	e := s.checkAt(s.Standby, outcome)
	s.wantPublished(last...)
	return e
}

// plain runs a manual command and compares its exit code and all that it prints.
func (s *poolScene) plain(code int, want string, args ...string) {
	s.t.Helper()
	e := s.pingover(s.Standby, args...)
	if diff := cmp.Diff(want, e.stdout+e.stderr); diff != "" || e.code != code {
		s.t.Errorf("pingover %s: exit code %d, want %d (-want +got):\n%s", strings.Join(args, " "), e.code, code, diff)
	}
}

// published are the addresses of a type that a client is told, in ascending order.
func (s *poolScene) published(kind string) []string {
	s.t.Helper()
	got := strings.Fields(s.run(s.Client, "dig", "+short", "+tcp", "@192.0.2.53", "host1.zone.com", kind))
	slices.SortFunc(got, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
	return got
}

// wantPublished compares the A records: "10" is 10.2.2.10.
func (s *poolScene) wantPublished(last ...string) {
	s.t.Helper()
	var got []string
	for _, a := range s.published("A") {
		got = append(got, strings.TrimPrefix(a, "10.2.2."))
	}
	if diff := cmp.Diff(last, got); diff != "" {
		s.t.Errorf("in DNS (-want +got):\n%s", diff)
	}
}

// nsupdate changes the zone as an administrator does.
func (s *poolScene) nsupdate(lines ...string) {
	s.t.Helper()
	script := filepath.Join(s.dir, "script")
	s.must(os.WriteFile(script, []byte("server 192.0.2.53\nzone zone.com\n"+strings.Join(lines, "\n")+"\nsend\n"), 0o600))
	s.run(s.Client, "nsupdate", "-v", "-k", filepath.Join(s.dir, "www.key"), script)
}

// firstAnswers are the addresses that a client's resolver puts first, in many
// lookups.
func (s *poolScene) firstAnswers() []string {
	s.t.Helper()
	out := s.run(s.Client, "sh", "-c", "for i in $(seq 60); do getent ahostsv4 host1.zone.com | head -n 1; done")
	var first []string
	for line := range strings.Lines(out) {
		if a := strings.Fields(line)[0]; !slices.Contains(first, a) {
			first = append(first, a)
		}
	}
	slices.Sort(first)
	return first
}

const (
	removed11  = "[pingover] www: 10.2.2.11 is down! removed from host1.zone.com"
	restored11 = "[pingover] www: 10.2.2.11 is back in host1.zone.com"
)

// As the operator, the scripts and the clients see it.
func TestPoolOneOfThreeMembersDiesAndComesBack(t *testing.T) {
	s := newPool(t)
	three := []string{"10.2.2.10", "10.2.2.11", "10.2.2.12"}
	want := func(first ...string) {
		t.Helper()
		if diff := cmp.Diff(first, s.firstAnswers()); diff != "" {
			t.Errorf("clients are sent to (-want +got):\n%s", diff)
		}
	}
	s.check(state.OK, "10", "11", "12")
	want(three...)
	s.must(s.members[1].PowerOff())

	const reason = "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com"
	dry := s.pingover(s.Standby, "check", "--dry-run")
	for _, line := range []string{
		"pingover: www: would send, as input of nsupdate:\n", "pingover: www:   prereq yxrrset host1.zone.com. A 10.2.2.12\n",
		"pingover: www:   update delete host1.zone.com. A 10.2.2.11\n", "pingover: www: removed (dry run): " + reason + "\n",
	} {
		if !strings.Contains(dry.stderr, line) || dry.code != 11 {
			t.Errorf("the dry run, exit code %d, does not print %q:\n%s", dry.code, line, dry.stderr)
		}
	}
	s.wantPublished("10", "11", "12")

	e := s.check(state.Removed, "10", "12")
	if e.Reason != reason || e.stderr != "pingover: www: removed: "+reason+"\n" || !strings.Contains(e.Update.Inverse, "update add host1.zone.com. 60 A 10.2.2.11\n") {
		t.Errorf("%s\n%s", e.stdout, e.stderr)
	}
	want("10.2.2.10", "10.2.2.12")
	s.check(state.Reduced, "10", "12")
	s.mail.want(t, removed11)[0].says(t, "update delete host1.zone.com. A 10.2.2.11")
	status := s.pingover(s.Standby, "status")
	for _, cells := range []string{
		`www +host1.zone.com +10.2.2.10 +published, up +\S+ \S+ +\S+ ago: reduced`, `10.2.2.11 +out, down`, `10.2.2.11: taken out by pingover`,
	} {
		if !regexp.MustCompile(cells).MatchString(status.stdout) {
			t.Errorf("status does not show %q:\n%s", cells, status.stdout)
		}
	}

	s.must(s.members[1].PowerOn())
	s.check(state.Reduced, "10", "12")
	s.check(state.Restored, "10", "11", "12")
	s.check(state.OK, "10", "11", "12")
	want(three...)
	s.mail.want(t, removed11, restored11)
	history := s.pingover(s.Standby, "history")
	if lines := strings.Split(strings.TrimSpace(history.stdout), "\n"); len(lines) < 2 || !strings.Contains(history.stdout, "removed") || !strings.Contains(history.stdout, "restored") {
		t.Errorf("history:\n%s%s", history.stdout, history.stderr)
	}
	if doctor := s.pingover(s.Standby, "doctor"); doctor.code != 0 {
		t.Errorf("doctor, exit code %d:\n%s", doctor.code, doctor.stdout)
	}
}

// Without witness and without any member the fault may be this machine's.
func TestPoolNobodyRepliesAndNothingIsChanged(t *testing.T) {
	s := newPool(t)
	s.configurePool(poolSettings, "mail-via", "smtp://192.0.2.9")
	s.mail = s.serveMail(s.Client) // the gateway goes down
	s.check(state.OK, "10", "11", "12")
	s.must(s.Gateway.PowerOff())
	s.must(s.members[1].PowerOff())
	// Another member that replies is proof enough.
	s.check(state.Removed, "10", "12")
	for _, m := range s.members {
		s.must(m.PowerOff())
	}
	const reason = "10.2.2.10, 10.2.2.12 are down, but neither a witness nor another member replies: it may be this machine's network"
	for range 2 {
		if e := s.check(state.Blocked, "10", "12"); e.Reason != reason {
			t.Errorf("reason %q", e.Reason)
		}
	}
	s.mail.want(t, removed11, "[pingover] www: PROBLEM: host1.zone.com not changed: no witness and no other member replies")
}

// Two checkers that start in the same moment: nothing is done twice, and nothing is
// lost.
func TestPoolTwoCheckersAtTheSameMoment(t *testing.T) {
	s := newPool(t)
	checkers := []*lab.Host{s.Standby, s.Second}
	both := func() (outcomes []string) {
		nextSecond()
		ended := make([]func() string, len(checkers))
		for i, h := range checkers {
			cmd := s.command(h, "check", "--json")
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			s.must(cmd.Start())
			ended[i] = func() string {
				err := cmd.Wait()
				var r balance.Report
				if e := json.Unmarshal(out.Bytes(), &r); e != nil {
					t.Fatalf("%v, %v: %s%s", err, e, &out, &stderr)
				}
				return string(r.Outcome)
			}
		}
		for _, wait := range ended {
			outcomes = append(outcomes, wait())
		}
		slices.Sort(outcomes)
		return outcomes
	}
	one := func(outcomes []string, made state.Outcome, then state.Outcome) {
		t.Helper()
		// The later one reads what the other has changed, or is refused and reads again.
		if want := []string{string(then), string(made)}; !slices.Equal(outcomes, slices.Sorted(slices.Values(want))) {
			t.Errorf("outcomes %q, want %q", outcomes, want)
		}
	}
	for range 3 {
		both()
		s.wantPublished("10", "11", "12")
		s.must(s.members[1].PowerOff())
		one(both(), state.Removed, state.Reduced)
		s.wantPublished("10", "12")
		s.must(s.members[1].PowerOn())
		for n := 0; n < 4 && len(s.published("A")) < 3; n++ {
			both()
		}
		s.wantPublished("10", "11", "12")
	}
}

// Each of two checkers sees another member silent. What one has taken out the other
// puts back after 10 × rise checks, not at once, and neither goes below min-members.
func TestPoolTwoCheckersWithContrarySight(t *testing.T) {
	s := newPool(t)
	s.configurePool(poolSettings, "rise", "1", "min-members", "2", "retry-wait", "0", "count", "2")
	runs := 35
	if lab.LongRun() {
		runs = 100
	}
	s.must(s.Part(s.Standby, s.members[0]))
	s.must(s.Part(s.Second, s.members[1]))
	serial := func() (n int) {
		fmt.Sscanf(s.run(s.Client, "dig", "+short", "@192.0.2.53", "zone.com", "SOA"), "ns.zone.com. hostmaster.zone.com. %d", &n)
		return n
	}
	before := serial()
	var watches []*exec.Cmd
	var logs [2]bytes.Buffer
	for i, h := range []*lab.Host{s.Standby, s.Second} {
		cmd := s.command(h, "watch", "--every", "1s", "--for", fmt.Sprintf("%ds", runs))
		cmd.Stderr = &logs[i]
		s.must(cmd.Start())
		watches = append(watches, cmd)
	}
	fewest := 3
	for end := time.Now().Add(time.Duration(runs) * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		fewest = min(fewest, len(s.published("A")))
	}
	for i, cmd := range watches {
		if err := cmd.Wait(); err != nil {
			t.Errorf("watch: %v\n%s", err, &logs[i])
		}
	}
	if fewest != 2 {
		t.Errorf("%d members were published at the least, want 2", fewest)
	}
	// Out and back, each at most once in ten checks, by either.
	if updates, most := serial()-before, 2+2*runs/10; updates < 1 || updates > most {
		t.Errorf("%d updates in %d s, want 1 to %d\n%s\n%s", updates, runs, most, &logs[0], &logs[1])
	}
}

// A host that an administrator takes out has a reason to be out.
func TestPoolMemberTakenOutManuallyReturnsSlowly(t *testing.T) {
	s := newPool(t)
	s.configurePool(poolSettings, "rise", "1")
	s.check(state.OK, "10", "11", "12")
	s.nsupdate("update delete host1.zone.com A 10.2.2.11")
	for range 9 {
		s.check(state.Reduced, "10", "12")
	}
	if status := s.pingover(s.Standby, "status"); !strings.Contains(status.stdout, "10.2.2.11: taken out by another checker or an administrator") {
		t.Errorf("status:\n%s", status.stdout)
	}
	e := s.check(state.Restored, "10", "11", "12")
	if want := "10.2.2.11 was up in 10 checks in a row: 10.2.2.11 returns to host1.zone.com"; e.Reason != want {
		t.Errorf("reason %q, want %q", e.Reason, want)
	}
	s.mail.want(t, restored11)
}

// While a member is dead, the name server has one fault after the other. Each is one
// clear line, the set stays as it is, and the run after the last removes the member.
func TestPoolFaultsOfTheNameServerLoseNothing(t *testing.T) {
	s := newPool(t)
	s.check(state.OK, "10", "11", "12")
	key := func(name, algorithm, secret string) {
		s.writeFile("/etc/pingover/www.key", fmt.Sprintf("key %q { algorithm %s; secret %q; };\n", name, algorithm, secret))
	}
	right := s.run(s.Standby, "cat", "/etc/pingover/www.key")
	s.must(s.members[1].PowerOff())
	fault := func(what string, outcome state.Outcome, line, hint string) {
		t.Helper()
		nextSecond()
		e := s.pingover(s.Standby, "check", "--verbose")
		_, got, _ := strings.Cut(e.stderr, fmt.Sprintf("pingover: www: %s: ", outcome))
		if diff := cmp.Diff(line+"\nhint: "+hint+"\n", got); diff != "" || e.code != outcome.Code() {
			t.Errorf("%s: exit code %d (-want +got):\n%s\n%s", what, e.code, diff, e.stderr)
		}
		if what != "silent" {
			s.wantPublished("10", "11", "12")
		}
	}
	key("www", "hmac-sha256", "d3JvbmcgaW4gZXZlcnkgYml0")
	fault("another secret", state.Unknown, "name server 192.0.2.53:53 has another secret for the key www (BADSIG)", "copy the key from the name server to key-file again")
	key("stranger", "hmac-sha256", "d3JvbmcgaW4gZXZlcnkgYml0")
	fault("unknown key", state.Unknown, "name server 192.0.2.53:53 does not accept the key stranger (hmac-sha256) (BADKEY)",
		"give the name server the key of key-file, with the same name, algorithm and secret, and the right to update")
	s.run(s.Standby, "chmod", "0644", "/etc/pingover/www.key")
	fault("readable key", state.Unknown, "/etc/pingover/www.key: can be read by others, so root does not use this key", "chmod go-rwx /etc/pingover/www.key")
	s.run(s.Standby, "chmod", "0600", "/etc/pingover/www.key")
	s.writeFile("/etc/pingover/www.key", right)

	_, err := s.named.Control("freeze", "zone.com")
	s.must(err)
	const down = "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com; failed: "
	fault("frozen zone", state.UpdateFailed, down+"name server 192.0.2.53:53 refuses the update (REFUSED): key www has no right to change host1.zone.com, or zone zone.com is not dynamic, or frozen",
		"check update-policy, or allow-update, of the zone; end a freeze with rndc thaw zone.com")
	_, err = s.named.Control("thaw", "zone.com")
	s.must(err)

	s.must(s.named.Freeze())
	fault("silent", state.Unknown, "name server 192.0.2.53:53 accepts the connection and does not reply within 5s", "see whether the name server hangs, and whether it answers by TCP")
	s.must(s.named.Thaw())
	s.run(s.ns, "ip", "link", "set", "eth0", "down")
	e := s.pingover(s.Standby, "check", "--json")
	if e.code != 20 || !strings.Contains(e.stdout, "name server 192.0.2.53:53 ") {
		t.Errorf("gone: exit code %d: %s%s", e.code, e.stdout, e.stderr)
	}
	s.run(s.ns, "ip", "link", "set", "eth0", "up")

	s.check(state.Removed, "10", "12")
	s.check(state.Reduced, "10", "12")
	var changes []string
	for _, m := range s.mail.all() {
		if !strings.Contains(m.subject, "PROBLEM: ") && !strings.Contains(m.subject, "RESOLVED: ") {
			changes = append(changes, m.subject)
		}
	}
	if !slices.Equal(changes, []string{removed11}) {
		t.Errorf("changes that were mailed: %q", changes)
	}
}

// IPv4 and IPv6 are two sets of one name, judged apart and changed in one update.
func TestPoolOfBothFamilies(t *testing.T) {
	s := newPool(t, "host1 60 AAAA 2001:db8:2::10", "host1 60 AAAA 2001:db8:2::11")
	six := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, s.published("AAAA")); diff != "" {
			t.Errorf("AAAA (-want +got):\n%s", diff)
		}
	}
	const one, other = "2001:db8:2::10", "2001:db8:2::11"
	s.configurePool(poolSettings, "server", `"2001:db8:2::53"`, "members", `[10.2.2.10, 10.2.2.11, 10.2.2.12, "`+one+`", "`+other+`"]`, "witness", `"2001:db8:2::254"`)
	s.check(state.OK, "10", "11", "12")
	s.must(s.members[1].PowerOff())
	s.check(state.Removed, "10", "12")
	six(one)
	s.mail.want(t, "[pingover] www: 10.2.2.11, 2001:db8:2::11 are down! removed from host1.zone.com")
	// The last of its family stays, whatever the other family has.
	s.must(s.members[0].PowerOff())
	e := s.check(state.Removed, "12")
	six(one)
	if want := "2001:db8:2::10 is down, but stays in host1.zone.com: min-members is 1 for each family"; !strings.Contains(e.Reason, want) {
		t.Errorf("reason %q", e.Reason)
	}
	s.must(s.members[0].PowerOn())
	s.must(s.members[1].PowerOn())
	s.check(state.Reduced, "12")
	s.check(state.Restored, "10", "11", "12")
	six(one, other)

	// A pool of IPv6 alone.
	s.configurePool(poolSettings, "server", `"[2001:db8:2::53]:53"`, "members", `["`+one+`", "`+other+`"]`, "witness", "auto")
	s.run(s.Standby, "ip", "-6", "route", "add", "default", "via", "2001:db8:2::254")
	s.must(s.members[1].PowerOff())
	s.check(state.Removed, "10", "11", "12")
	six(one)
}

func TestPoolServiceThatDiesOnAHostThatPings(t *testing.T) {
	s := newPool(t)
	s.configurePool(poolSettings, "service", health, "count", "1") // an attempt at a host without power takes 3 s
	var web []*webServer
	for _, m := range s.members {
		web = append(web, s.serve(m))
	}
	s.check(state.OK, "10", "11", "12")
	web[1].stop()
	e := s.check(state.Removed, "10", "12")
	if e.Reason != "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com" {
		t.Errorf("reason %q", e.Reason)
	}
	s.mail.want(t, removed11)[0].says(t, "connection refused")
	// Of a host without power nothing is known but its silence; the services of all
	// others are down, and the replies of one prove that the network works.
	s.must(s.members[0].PowerOff())
	s.check(state.Removed, "12")
	web[1].start()
	s.must(s.members[0].PowerOn())
	s.check(state.Reduced, "12")
	s.check(state.Restored, "10", "11", "12")
}

// Out manually: within min-members, for a time, and across a reboot.
func TestPoolDrain(t *testing.T) {
	s := newPool(t)
	s.configurePool(poolSettings, "min-members", "2", "rise", "1")
	s.check(state.OK, "10", "11", "12")
	const hint = "hint: a drain belongs to one checker: where others check www, run it on each of them too\n"
	s.plain(11, "pingover: www: removed: drained manually: 10.2.2.11 leaves host1.zone.com\n"+hint, "drain", "www", "10.2.2.11")
	s.wantPublished("10", "12")
	s.plain(10, "pingover: www: reduced: 10.2.2.11 is already out of host1.zone.com\n"+hint, "drain", "www", "10.2.2.11")
	s.plain(21, "pingover: www: blocked: not drained: without 10.2.2.12 fewer than 2 of its family would be left in host1.zone.com (min-members)\n", "drain", "www", "10.2.2.12")
	s.wantPublished("10", "12")
	s.plain(64, "pingover: \"10.2.2.99\": no member of www; known: 10.2.2.10, 10.2.2.11, 10.2.2.12\nhint: did you mean 10.2.2.10?\n", "drain", "www", "10.2.2.99")

	// It replies, and stays out, also after this machine was booted.
	s.check(state.Reduced, "10", "12")
	s.must(s.Standby.SetBootID("another-boot"))
	for range 3 {
		s.check(state.Reduced, "10", "12")
	}
	status := s.pingover(s.Standby, "status").stdout
	if !strings.Contains(strings.Join(strings.Fields(status), " "), "drained; to end this: pingover undrain www 10.2.2.11") {
		t.Errorf("status:\n%s", status)
	}
	s.plain(0, "pingover: www: ok: no longer drained: 10.2.2.11; back after rise = 1 good checks in a row\n", "undrain", "www", "10.2.2.11")
	s.check(state.Restored, "10", "11", "12")

	// For a time, which the clock of a run a minute later ends.
	s.pingover(s.Standby, "drain", "www", "10.2.2.10", "--for", "1m")
	s.check(state.Reduced, "11", "12")
	s.shiftDrains(-2 * time.Minute)
	s.check(state.Restored, "10", "11", "12")

	// --force goes below min-members, never to nothing.
	s.pingover(s.Standby, "drain", "www", "10.2.2.10")
	if e := s.pingover(s.Standby, "drain", "www", "10.2.2.11", "--force"); e.code != 11 {
		t.Errorf("--force: exit code %d: %s", e.code, e.stderr)
	}
	s.wantPublished("12")
	s.plain(21, "pingover: www: blocked: not drained: 10.2.2.12 is the last of its family in host1.zone.com\n", "drain", "www", "10.2.2.12", "--force")
	s.wantPublished("12")
}

// shiftDrains moves the times of the record at which drains end.
func (s *poolScene) shiftDrains(by time.Duration) {
	s.t.Helper()
	text := s.run(s.Standby, "cat", "/var/lib/pingover/www.json")
	until := regexp.MustCompile(`"until": ?"([^"]+)"`)
	if !until.MatchString(text) {
		s.t.Fatalf("no drain with a time in the record:\n%s", text)
	}
	s.writeFile("/var/lib/pingover/www.json", until.ReplaceAllStringFunc(text, func(m string) string {
		at, err := time.Parse(time.RFC3339, until.FindStringSubmatch(m)[1])
		s.must(err)
		return fmt.Sprintf(`"until": %q`, at.Add(by).Format(time.RFC3339))
	}))
}

// A pause goes on reporting, and nothing is changed until it ends.
func TestPoolPause(t *testing.T) {
	s := newPool(t)
	s.check(state.OK, "10", "11", "12")
	if e := s.pingover(s.Standby, "pause", "www", "--for", "1h"); e.code != 0 || !strings.Contains(e.stderr, "checks go on, DNS is not changed") {
		t.Errorf("pause: exit code %d: %s%s", e.code, e.stdout, e.stderr)
	}
	s.must(s.members[1].PowerOff())
	if e := s.check(state.Blocked, "10", "11", "12"); e.Reason != "paused, although 10.2.2.11 is down" || !e.Paused {
		t.Errorf("%s", e.stdout)
	}
	s.pingover(s.Standby, "resume", "www")
	s.check(state.Removed, "10", "12")
}

// One process in place of cron: a member leaves and returns without another one.
func TestPoolWatch(t *testing.T) {
	s := newPool(t)
	cmd := s.command(s.Standby, "watch", "--every", "1s")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	s.must(cmd.Start())
	within := func(n int) {
		t.Helper()
		s.within(20*time.Second, fmt.Sprintf("%d members are published", n), func() bool { return len(s.published("A")) == n })
	}
	s.within(20*time.Second, "the first check is made", func() bool { return strings.Contains(s.pingover(s.Standby, "status").stdout, "ago: ok") })
	s.must(s.members[1].PowerOff())
	within(2)
	s.must(s.members[1].PowerOn())
	within(3)
	s.must(cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &stderr)
	}
	for _, line := range []string{"www: removed: 10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com", "www: restored: 10.2.2.11 was up in 2 checks in a row: 10.2.2.11 returns to host1.zone.com"} {
		if strings.Count(stderr.String(), line) != 1 {
			t.Errorf("watch does not print %q once:\n%s", line, &stderr)
		}
	}
}

// Each mistake is named, and nothing is asked or changed.
func TestPoolBadInput(t *testing.T) {
	s := newPool(t)
	before := s.published("A")
	for what, c := range map[string]struct {
		change []string
		args   []string
		code   int
		want   string
	}{
		"no server":               {[]string{"server", ""}, nil, 78, `/etc/pingover.yaml:4: pool www: server: a value is missing; every pool needs one`},
		"outside the zone":        {[]string{"zone", "zone.org"}, nil, 78, `/etc/pingover.yaml:3: pool www: record "host1.zone.com": is outside the zone zone.org`},
		"a member twice":          {[]string{"members", "[10.2.2.10, 10.2.2.10]"}, nil, 78, `/etc/pingover.yaml:5: pool www: members "10.2.2.10": 10.2.2.10 is given twice`},
		"a host name":             {[]string{"members", "[web1.zone.com]"}, nil, 78, `/etc/pingover.yaml:5: pool www: members "web1.zone.com": not an address; give each member by its address, for a name may be that of several hosts`},
		"ttl without a unit":      {[]string{"ttl", "60"}, nil, 78, `pool www: ttl "60": a duration needs a unit, such as 60s (1s to 1d)`},
		"min-members":             {[]string{"min-members", "4"}, nil, 78, `pool www: min-members "4": more than the pool has IPv4 members, 3`},
		"a key others can read":   {nil, nil, 78, `key-file: /etc/pingover/www.key: can be read by others, so root does not use this key`},
		"takeover of a pool":      {nil, []string{"takeover", "www"}, 64, `"www": a pool; takeover is for clusters`},
		"release of a pool":       {nil, []string{"release", "www"}, 64, `"www": a pool; release is for clusters`},
		"drain of an unknown one": {nil, []string{"drain", "www", "10.2.2.13"}, 64, `"10.2.2.13": no member of www; known: 10.2.2.10, 10.2.2.11, 10.2.2.12`},
		"drain of a name":         {nil, []string{"drain", "www", "web1"}, 64, `"web1": not an address; members are given by their addresses`},
		"drain without a member":  {nil, []string{"drain", "www"}, 64, `a pool and at least one member are missing`},
	} {
		s.configurePool(poolSettings, c.change...)
		args := c.args
		if args == nil {
			args = []string{"check"}
		}
		mode := "0600"
		if what == "a key others can read" {
			mode = "0644"
		}
		s.run(s.Standby, "sh", "-c", "rm -f /var/lib/pingover/*; chmod "+mode+" /etc/pingover/www.key")
		e := s.pingover(s.Standby, args...)
		if e.code != c.code || !strings.Contains(e.stderr, c.want) || e.stdout != "" {
			t.Errorf("%s: exit code %d, want %d: %s\nstderr: %s%s", what, e.code, c.code, c.want, e.stderr, e.stdout)
		}
		if _, err := s.Standby.Run("test", "!", "-e", "/var/lib/pingover/www.json"); err != nil {
			t.Errorf("%s: a record was written: %v", what, err)
		}
	}
	if diff := cmp.Diff(before, s.published("A")); diff != "" {
		t.Errorf("in DNS (-before +after):\n%s", diff)
	}
}
