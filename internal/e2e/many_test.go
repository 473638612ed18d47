package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/state"
)

// Several clusters of one file, in one run.

// hastyFile are the hasty settings as a file has them.
const hastyFile = `defaults:
  count: 3
  interval: 150ms
  timeout: 200ms
  retry-wait: 200ms
  witness: 172.16.0.254
  boot-wait: 0
  announce: 2
  mail-to: ops@example.org
  mail-via: smtp://172.16.0.254
  mail-timeout: 2s
clusters:
`

// configure writes the standby's configuration file.
func (s *scene) configure(clusters string) {
	s.t.Helper()
	s.run(s.Standby, "sh", "-c", "cat >/etc/pingover.yaml <<'END'\n"+hastyFile+clusters+"END\nchmod 644 /etc/pingover.yaml")
}

// all runs one check of all clusters on the standby, or of those named, and
// wants that exit code.
func (s *scene) all(code int, args ...string) (reports []failover.Report, stderr string) {
	s.t.Helper()
	cmd := s.command(s.Standby, append([]string{"check", "--json"}, args...)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its error is the code
	if got := cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, code, out.String(), errs.String())
	}
	for line := range strings.Lines(out.String()) {
		var r failover.Report
		s.must(json.Unmarshal([]byte(line), &r))
		reports = append(reports, r)
	}
	return reports, errs.String()
}

// wantOutcomes fails the test unless the reports are of these clusters, with
// these outcomes, in this order.
func wantOutcomes(t *testing.T, reports []failover.Report, want ...string) {
	t.Helper()
	var got []string
	for _, r := range reports {
		got = append(got, r.Cluster+" "+string(r.Outcome))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("-want +got\n%s\n%v", diff, reports)
	}
}

// more puts a further host on the switch.
func (s *scene) more(name string, addrs ...string) *lab.Host {
	s.t.Helper()
	h, err := s.Add(name, addrs...)
	s.must(err)
	return h
}

const five = `  mail:
    host: 172.16.0.20
    vip: 172.16.0.21
  web:
    host: 172.16.0.2
    vip: 172.16.0.1
  client:
    host: 172.16.0.9
  db:
    host: 172.16.0.30
    vip: 172.16.0.31
  second:
    host: 172.16.0.4
`

func TestTwoOfFivePrimariesAreDown(t *testing.T) {
	s := newScene(t)
	vip21, vip31 := netip.MustParseAddr("172.16.0.21"), netip.MustParseAddr("172.16.0.31")
	mail := s.more("mail", "172.16.0.20/16", "172.16.0.21/32")
	db := s.more("db", "172.16.0.30/16", "172.16.0.31/32")
	s.configure(five)
	reports, printed := s.all(0)
	wantOutcomes(t, reports, "mail ok", "web ok", "client ok", "db ok", "second ok")
	if printed != "" {
		t.Errorf("nothing has changed, and it prints %q", printed)
	}

	s.must(mail.PowerOff())
	s.must(db.PowerOff())
	reports, _ = s.all(11)
	wantOutcomes(t, reports, "mail took-over", "web ok", "client ok", "db took-over", "second ok")
	s.wantOn(vip21, s.Standby)
	s.wantOn(vip31, s.Standby)
	s.wantOn(vip4, s.Primary)
	labels := []string{s.label(s.Standby, vip21), s.label(s.Standby, vip31)}
	slices.Sort(labels)
	if diff := cmp.Diff([]string{"eth0:1", "eth0:2"}, labels); diff != "" {
		t.Errorf("labels: -want +got\n%s", diff)
	}
	s.mail.want(t,
		"[pingover] mail: 172.16.0.20 is down! standby took over 172.16.0.21",
		"[pingover] db: 172.16.0.30 is down! standby took over 172.16.0.31")
	for _, r := range reports {
		if limit := time.Second; r.Outcome == state.OK && r.Duration.Duration() > limit {
			t.Errorf("%s is well, and took %s", r.Cluster, r.Duration.Duration())
		}
	}

	reports, printed = s.all(10)
	wantOutcomes(t, reports, "mail holding", "web ok", "client ok", "db holding", "second ok")
	if printed != "" {
		t.Errorf("nothing has changed, and it prints %q", printed)
	}
	reports, _ = s.all(10, "web", "db")
	wantOutcomes(t, reports, "web ok", "db holding")

	// One is released manually, and the other stays.
	s.plain(64, "a name or --all is missing; known: mail, web, client, db, second", "release")
	s.plain(12, "pingover: mail: released: 172.16.0.21 is released manually", "release", "mail", "--force")
	s.wantOn(vip21)
	s.wantOn(vip31, s.Standby)
	reports, _ = s.all(21)
	wantOutcomes(t, reports, "mail blocked", "web ok", "client ok", "db holding", "second ok")
}

// A name server that does not reply, or an operator's slow command, does not keep
// the other clusters waiting.
func TestASlowClusterDelaysNoOther(t *testing.T) {
	s := newScene(t)
	vip21, vip31 := netip.MustParseAddr("172.16.0.21"), netip.MustParseAddr("172.16.0.31")
	s.configure(`  nameless:
    host: primary.example
  fenced:
    host: 172.16.0.20
    vip: 172.16.0.21
    pre-takeover: sleep 5
  web:
    host: 172.16.0.2
    vip: 172.16.0.1
  db:
    host: 172.16.0.30
    vip: 172.16.0.31
`)
	s.run(s.Standby, "sh", "-c", "echo nameserver 172.16.0.77 >/etc/resolv.conf")
	added := s.additions(s.Standby)
	reports, _ := s.all(20)
	wantOutcomes(t, reports, "nameless unknown", "fenced took-over", "web ok", "db took-over")
	took := map[string]time.Duration{}
	for _, r := range reports {
		took[r.Cluster] = r.Duration.Duration()
		if begun := r.Time.Sub(reports[0].Time); begun > 2*time.Second {
			t.Errorf("%s was begun %s after the first", r.Cluster, begun)
		}
	}
	t.Logf("%v", took)
	if took["nameless"] < 4*time.Second || took["fenced"] < 5*time.Second || took["web"] > time.Second || took["db"] > 6*time.Second {
		t.Errorf("they took %v", took)
	}
	if ahead := added(vip21).Sub(added(vip31)); ahead < 2*time.Second {
		t.Errorf("db is taken over %s before the one with the slow command", ahead)
	}
}

func TestAFileThatIsWrongTouchesNothing(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	for name, file := range map[string]string{
		`/etc/pingover.yaml:18: cluster db: vip "172.16.0.1/16": cluster web already has it`: "  web:\n    host: 172.16.0.2\n    vip: 172.16.0.1\n  db:\n    host: 172.16.0.30\n    vip: 172.16.0.1/16\n",
		`/etc/pingover.yaml:16: cluster db: host: missing; every cluster needs one`:          "  web:\n    host: 172.16.0.2\n    vip: 172.16.0.1\n  db:\n    vip: 172.16.0.31\n",
	} {
		s.configure(file)
		untouched := s.untouched(s.Standby)
		for _, command := range []string{"check", "check web", "takeover web --force", "takeover --all --force", "release web --force"} {
			e := s.plain(78, "pingover: "+name+"\n", strings.Fields(command)...)
			if strings.Count(e.stderr, "\n") != 1 {
				t.Errorf("%s says %s", command, e.stderr)
			}
		}
		untouched()
	}
	s.wantNothingLeft(s.Standby)
	s.mail.want(t)
}

// The standby's own address is refused as a vip by each command, and never removed;
// the other clusters are served.
func TestAVirtualIPThatIsTheStandbysOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, own, vip, prepare, failback string }{
		{"the only one", "172.16.0.3", "172.16.0.3", "", "manual"},
		{"with its network, which is to be given back", "172.16.0.3", "172.16.0.3/16", "", "auto"},
		{"with another behind it", "172.16.0.3", "172.16.0.3", "ip addr add 172.16.0.13/16 dev eth0", "auto"},
		{"by IPv6", "2001:db8::3", `"2001:db8::3"`, "", "auto"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			if c.prepare != "" {
				s.run(s.Standby, "sh", "-c", c.prepare)
			}
			s.configure(fmt.Sprintf("  own:\n    host: 172.16.0.4\n    vip: %s\n    rise: 1\n    failback: %s\n  web:\n    host: 172.16.0.2\n    vip: 172.16.0.1\n", c.vip, c.failback))
			own := netip.MustParseAddr(c.own)
			refused := "pingover: own: vip " + c.own + " is this machine's own address, on eth0\nhint: set vip to an address that only follows the primary\n"
			untouched := s.untouched(s.Standby)
			// Another machine has it too, with a lower MAC: a conflicting host to yield to.
			s.run(s.Client, "ip", "addr", "add", netip.PrefixFrom(own, own.BitLen()).String(), "dev", "eth0", "nodad")
			for range 2 {
				reports, printed := s.all(78)
				wantOutcomes(t, reports, "own error", "web ok")
				if diff := cmp.Diff(refused, printed); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			}
			s.plain(78, refused, "release", "own")
			s.plain(78, refused, "release", "own", "--force")
			s.plain(78, refused, "takeover", "own", "--force")
			s.must(s.Second.PowerOff())
			s.all(78, "own")
			untouched()

			s.must(s.Primary.PowerOff())
			reports, _ := s.all(78)
			wantOutcomes(t, reports, "own error", "web took-over")
			s.wantHeld(s.Standby, own, 1)
			s.wantHeld(s.Standby, vip4, 1)
			s.plain(78, refused, "release", "--all", "--force")
			s.wantHeld(s.Standby, own, 1)
			s.wantHeld(s.Standby, vip4, 0)
			untouched()
		})
	}
}

// The file that the packages install is valid as it is.
func TestTheReferenceFileIsRead(t *testing.T) {
	text, err := os.ReadFile("pingover.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pingover.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "check", "wbe", "--dry-run", "--file", path)
	out, _ := c.CombinedOutput() // its error is the code
	if diff := cmp.Diff("pingover: \"wbe\": no such cluster; known: web\nhint: did you mean web?\n", string(out)); diff != "" || c.ProcessState.ExitCode() != 64 {
		t.Errorf("%s, -want +got\n%s", c.ProcessState, diff)
	}
}

// ifconfig gives an address the network of its class before it gives it the
// right one: only one at a time may use it.
func TestManyTakeoversByIfconfig(t *testing.T) {
	needTool(t, "ifconfig")
	s := newScene(t)
	var file strings.Builder
	file.WriteString("  web: {host: 172.16.0.2, vip: 172.16.0.1, tool: ifconfig}\n")
	want := []string{"web ok"}
	for i := range 6 {
		fmt.Fprintf(&file, "  c%d: {host: 172.16.0.4%d, vip: 192.168.77.5%d, interface: eth0, tool: ifconfig}\n", i, i, i)
		want = append(want, fmt.Sprintf("c%d took-over", i))
	}
	s.configure(file.String())
	reports, _ := s.all(11)
	wantOutcomes(t, reports, want...)
	held := s.run(s.Standby, "ip", "-o", "addr", "show", "dev", "eth0")
	for i := range 6 {
		if vip := fmt.Sprintf(" 192.168.77.5%d/32 ", i); !strings.Contains(held, vip) {
			t.Errorf("%s is not among %s", vip, held)
		}
	}
}

// Where no state can be kept, and no file can be a lock, each cluster is checked
// all the same, and another process is kept out.
func TestManyClustersWithoutAStateDirectory(t *testing.T) {
	s := shortScene(t)
	s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1}\n  client: {host: 172.16.0.9}\n  second: {host: 172.16.0.4}\n")
	s.run(s.Standby, "sh", "-c", "rm -rf /var/lib/pingover && mount -t tmpfs -o ro lab /var/lib")
	reports, _ := s.all(0)
	wantOutcomes(t, reports, "web ok", "client ok", "second ok")
}
