package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/state"
)

// A configuration file that has a mistake, or loses a cluster, while that holds
// something.

const (
	webInFile = "  web: {host: 172.16.0.2, vip: 172.16.0.1}\n"
	dbInFile  = "  db: {host: 172.16.0.9}\n"
	mistake   = "  mistake: {hots: h}\n"

	unusable = "[pingover] web: PROBLEM: /etc/pingover.yaml cannot be used: 2 errors"
	usable   = "[pingover] web: RESOLVED: /etc/pingover.yaml can be used again"
	left     = "[pingover] web: PROBLEM: no longer configured, still holding 172.16.0.1"
)

// shown runs a command on the standby that wants to show this.
func (s *scene) shown(code int, shows string, argv ...string) {
	s.t.Helper()
	cmd := s.command(s.Standby, argv...)
	out, _ := cmd.Output() // its error is the code
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), shows) {
		s.t.Errorf("pingover %s: exit code %d, %s\nwant %d and %s", strings.Join(argv, " "), got, out, code, shows)
	}
}

func TestAMistakeInTheFileDoesNotEndProtection(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile)
	s.all(0)
	s.configure(webInFile + mistake)
	_, said := s.all(78)
	for _, want := range []string{`/etc/pingover.yaml:14: cluster mistake: key "hots": unknown; did you mean host?`, "/etc/pingover.yaml cannot be used; going on with the last valid file, of "} {
		if !strings.Contains(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	}
	if _, said := s.all(78); said != "" {
		t.Errorf("said again: %s", said)
	}
	s.mail.want(t, unusable)

	// It still takes over and holds, with the codes of that.
	s.must(s.Primary.PowerOff())
	s.all(11)
	s.wantOn(vip4, s.Standby)
	s.all(10)
	s.mail.want(t, unusable, tookOver)
	s.shown(3, "cannot be used since", "status", "--monitoring")
	s.shown(0, "web  took-over", "history")

	// Manual commands need no file.
	s.plain(12, "released", "release", "web", "--force")
	s.plain(11, "took-over", "takeover", "web")
	s.wantOn(vip4, s.Standby)

	// Nor does a missing file end it.
	s.run(s.Standby, "rm", "/etc/pingover.yaml")
	_, said = s.all(10)
	if !strings.Contains(said, "/etc/pingover.yaml: cannot be read: no such file or directory") {
		t.Errorf("said %q", said)
	}
	s.configure(webInFile)
	_, said = s.all(10)
	if said != "pingover: /etc/pingover.yaml can be used again\n" {
		t.Errorf("said %q", said)
	}
	resolved := 0
	for _, m := range s.mail.all() {
		if m.subject == usable {
			resolved++
		}
	}
	if resolved != 1 {
		t.Errorf("%d messages that it can be used again", resolved)
	}
	s.shown(1, "web: holding", "status", "--monitoring")
}

func TestABrokenFileWithoutACopy(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile + dbInFile)
	s.all(0)
	s.must(s.Primary.PowerOff())
	s.all(11)
	s.run(s.Standby, "rm", stateDir+"/config.valid")
	s.configure(webInFile + dbInFile + mistake)
	reports, said := s.all(10)
	wantOutcomes(t, reports, "web holding") // and nothing of db
	if !strings.Contains(said, "no valid copy of it is known; only clusters that hold an address are checked") {
		t.Errorf("said %q", said)
	}
	// It never comes to two machines with one address.
	s.must(s.Primary.PowerOn())
	reports, _ = s.all(12)
	wantOutcomes(t, reports, "web released")
	s.wantOn(vip4, s.Primary)
	if reports, _ := s.all(78); len(reports) != 0 {
		t.Errorf("checked: %+v", reports)
	}
}

func TestAClusterThatLeavesTheFileWhileItHolds(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile + dbInFile)
	s.all(0)
	s.must(s.Primary.PowerOff())
	s.all(11)
	s.configure(dbInFile)
	for range 3 {
		reports, _ := s.all(10)
		wantOutcomes(t, reports, "db ok", "web holding")
	}
	s.mail.want(t, tookOver, left)
	s.shown(1, "no longer configured in the file; to release it: pingover release web", "status", "--monitoring")
	s.plain(21, "not deleted: it holds 172.16.0.1/32\nhint: pingover release web first\n", "forget", "web")

	s.must(s.Primary.PowerOn()) // with its address
	reports, _ := s.all(12)
	wantOutcomes(t, reports, "db ok", "web released")
	s.wantOn(vip4, s.Primary)
	reports, _ = s.all(0)
	wantOutcomes(t, reports, "db ok")
	s.must(s.Primary.PowerOff())
	s.all(0) // nothing is taken over
	s.wantOn(vip4)
	s.plain(0, "web: deleted", "forget", "web")
	s.wantNothingLeft(s.Standby, "act.lock", "config.valid", "db.json", "db.lock", "web.lock")
}

func TestAClusterThatIsRenamedWhileItHolds(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile)
	s.all(0)
	s.must(s.Primary.PowerOff())
	s.all(11)
	s.configure(strings.Replace(webInFile, "web", "www", 1))
	reports, said := s.all(10)
	wantOutcomes(t, reports, "www holding")
	if want := "pingover: www: web was renamed to www: its history, pending mail and what it holds are taken over\n"; !strings.HasPrefix(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	s.shown(0, "www  took-over", "history")
	s.mail.want(t, tookOver)
	s.plain(12, "released", "release", "www", "--force")
	s.wantOn(vip4)
}

func TestAPrimaryThatGetsAnotherAddressWhileItsVirtualIPIsHeld(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile)
	s.all(0)
	s.must(s.Primary.PowerOff())
	s.all(11)
	s.configure(strings.Replace(webInFile, "172.16.0.2", "172.16.0.9", 1)) // the client
	reports, said := s.all(10)
	wantOutcomes(t, reports, "web holding")
	if want := `the primary is now "172.16.0.9", and was "172.16.0.2"`; !strings.Contains(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	s.shown(0, "took-over", "history")
	s.configure(webInFile)
	if _, said := s.all(78); !strings.Contains(said, "two definitions share the name web") || !strings.Contains(said, "rename this cluster (/etc/pingover.yaml:13)") {
		t.Errorf("said %q", said)
	}
	s.wantOn(vip4, s.Standby)
}

func TestAManualReleaseUsesTheRecordedVirtualIPs(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--name web", "--host 172.16.0.2", "--host 172.16.0.2 --name web"} {
		t.Run(args, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, swift...).want(t, state.TookOver)
			s.plain(12, "web: released: 172.16.0.1 is released manually", append([]string{"release", "--force"}, strings.Fields(args)...)...)
			s.wantOn(vip4)
		})
	}
}

func TestAWatchReadsItsFileAgain(t *testing.T) {
	s := newScene(t)
	s.configure(webInFile)
	w := s.keepWatch(s.Standby)
	w.until("every 1s: web never checked\n")
	s.checks(1, state.OK)
	hangup := func(want string) {
		t.Helper()
		s.must(w.cmd.Process.Signal(syscall.SIGHUP))
		w.until(want)
	}
	s.configure(webInFile + dbInFile)
	hangup("pingover: reloaded: web standby, db ") // never checked, or checked already
	s.configure(webInFile + mistake)
	hangup("/etc/pingover.yaml cannot be used; going on with the last valid file")
	s.must(s.Primary.PowerOff())
	w.until("web: took-over")
	s.configure(dbInFile)
	hangup("web no longer configured, holding 172.16.0.1/32\n")
	s.within(20*1e9, "mail about that", func() bool {
		for _, m := range s.mail.all() {
			if m.subject == left {
				return true
			}
		}
		return false
	})
	s.must(w.cmd.Process.Signal(syscall.SIGTERM))
	_ = w.cmd.Wait()
	if end := "pingover: watch ended: SIGTERM; 172.16.0.1/32 stays on this machine, unwatched; to release it: pingover release web\n"; w.cmd.ProcessState.ExitCode() != 0 || !strings.HasSuffix(w.said(), end) {
		t.Errorf("%s, said %s", w.cmd.ProcessState, w.said())
	}
	s.wantOn(vip4, s.Standby)
}

// config validates a file as Ansible's "validate: pingover config -q -f %s" does: at
// once, with no network and no privilege, and nothing is written.
func TestConfigNeedsNothing(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("defaults: {mail-to: root, witness: 10.0.0.254}\nclusters:\n")
	for n := range 100 {
		fmt.Fprintf(&text, "  c%d: {host: 10.1.0.%d, vip: 10.2.0.%d}\n", n, n+1, n+1)
	}
	file := filepath.Join(t.TempDir(), "pingover.yaml")
	validate := func(text string, through ...string) (said string, code int, took time.Duration) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		argv := append(through, path, "config", "-q", "-f", file)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(filepath.Dir(file), "state"))
		out, _ := cmd.CombinedOutput() // its error is the code
		return string(out), cmd.ProcessState.ExitCode(), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	bare := []string{"unshare", "--net", "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}
	if said, code, _ := validate(text.String(), bare...); code != 0 || said != "" {
		t.Errorf("exit code %d: %s", code, said)
	}
	said, code, _ := validate(strings.Replace(text.String(), "host: 10.1.0.7,", "hots: 10.1.0.7,", 1), bare...)
	if want := "pingover: " + file + `:9: cluster c6: key "hots": unknown; did you mean host?` + "\n"; code != 78 || !strings.HasPrefix(said, want) {
		t.Errorf("exit code %d: %s", code, said)
	}
	if said, code, took := validate(text.String()); code != 0 || said != "" || took > 100*time.Millisecond { // of processor time, however busy the machine is
		t.Errorf("exit code %d after %s: %s", code, took, said)
	}
	if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
		t.Errorf("written: %v %v", files, err)
	}
}
