package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pingover/internal/lab"
	"pingover/state"
)

// TestStartPreparesNothing: what a package prepares before main is prepared in each
// healthy check, though it needs none of it: a regular expression takes 50 µs. Tables
// and expressions are made by functions; a constant error is made by the compiler.
func TestStartPreparesNothing(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1") // runtime: a line for each package that prepares something
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "init net/http @") {
		t.Fatalf("%v\n%s", err, out)
	}
	few := []string{"pingover/internal/config", "pingover/internal/lab"} // a sync.OnceValue or three
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "init" && strings.HasPrefix(f[1], "pingover/") && !slices.Contains(few, f[1]) {
			t.Errorf("prepared at each start: %s", line)
		}
	}
}

// TestTakesOverUnderALowFileSizeLimit: cron and shells pass limits on. With no bytes in
// a file neither the record nor the standard input of sendmail can be written.
func TestTakesOverUnderALowFileSizeLimit(t *testing.T) {
	s := shortScene(t)
	lab.Need(t, "/usr/bin/prlimit", "util-linux")
	s.through("prlimit", "--fsize=0:unlimited", "--")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	s.check(s.Standby, withVIP...).want(t, state.Holding)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")
}

// TestFewOpenFilesAreReportedBeforeATakeover: with 16 a healthy check succeeds, and ip
// cannot be started.
func TestFewOpenFilesAreReportedBeforeATakeover(t *testing.T) {
	s := shortScene(t)
	lab.Need(t, "/usr/bin/prlimit", "util-linux")
	lab.Need(t, "/usr/bin/setpriv", "util-linux")
	s.through("setpriv", "--bounding-set=-sys_resource", "prlimit", "--nofile=16:16", "--") // not to be raised
	for range 3 {
		s.check(s.Standby, withVIP...).want(t, state.OK)
	}
	l := s.mail.want(t, "[pingover] web: PROBLEM: standby is not ready to take over")[0]
	l.says(t, "only 16 files may be open (ulimit -n), and a takeover needs up to 64")
}
