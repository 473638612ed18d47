package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pingover/state"
)

// What packaging/ has, as an operator installs it.

// setUp installs the program and writes its configuration file.
func (s *scene) setUp() {
	s.t.Helper()
	s.install(s.Standby)
	s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1}\n")
}

// execStart is the command of the unit, as systemd starts it: by its name, in
// the directories that man 5 systemd.service names, and with hardly any
// environment.
func execStart(t *testing.T, unit string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ExecStart=(.+)$`).FindAllStringSubmatch(unit, -1)
	if len(m) != 1 {
		t.Fatalf("%d ExecStart, want 1", len(m))
	}
	return append([]string{"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}, strings.Fields(m[0][1])...)
}

func TestServiceUnit(t *testing.T) {
	s := newScene(t)
	s.setUp()
	s.must(s.Primary.PowerOff())
	argv := append(execStart(t, readFile(t, "packaging/pingover.service")), "--for=1s")
	if out := s.run(s.Standby, argv...); out != tookOverLine {
		t.Errorf("it said %q", out)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

// The lines that are commented out hold where they say they do.
func TestServiceUnitWithoutPrivileges(t *testing.T) {
	if _, err := exec.LookPath("setpriv"); err != nil {
		skip(t, err)
	}
	unit := readFile(t, "packaging/pingover.service")
	if want := "#CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n#NoNewPrivileges=yes\n"; !strings.Contains(unit, want) {
		t.Fatalf("the unit does not say %q", want)
	}
	s := newScene(t)
	s.setUp()
	s.must(s.Primary.PowerOff())
	argv := append([]string{"setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--no-new-privs"}, execStart(t, unit)...)
	if out := s.run(s.Standby, append(argv, "--for=1s")...); out != tookOverLine {
		t.Errorf("it said %q", out)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

func TestServiceUnitIsValid(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		skip(t, "systemd-analyze is missing: install the Debian package systemd")
	}
	unit := readFile(t, "packaging/pingover.service")
	s := newScene(t)
	s.install(s.Standby)
	for name, text := range map[string]string{
		"as it is":             unit,
		"with all uncommented": regexp.MustCompile(`(?m)^#([A-Z][A-Za-z]+=)`).ReplaceAllString(unit, "$1"),
	} {
		path := filepath.Join(t.TempDir(), "pingover.service")
		s.writeFile(path, text)
		// It warns of the units of this machine, too.
		out, err := s.Standby.Run("systemd-analyze", "verify", "--man=no", path)
		for line := range strings.Lines(out) {
			if strings.Contains(line, "pingover") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *scene) writeFile(path, text string) {
	s.t.Helper()
	s.run(s.Standby, "sh", "-c", `printf %s "$2" >"$1"`, "sh", path, text)
}

// A file in /etc/cron.d has a user column, and a final newline.
func TestCronFile(t *testing.T) {
	text := readFile(t, "packaging/pingover.cron")
	if !strings.HasSuffix(text, "\n") || strings.Contains(text, "\r") {
		t.Error("the last line has no newline, or there is a carriage return")
	}
	variable := regexp.MustCompile(`^[A-Z]+=[^$"' ]+$`)
	job := regexp.MustCompile(`^(# )?(?:[0-9*][0-9*/,-]* ){5}root (pingover .*)$`)
	path := ""
	var commands []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		m := job.FindStringSubmatch(line)
		switch {
		case m != nil:
			commands = append(commands, m[2])
		case strings.HasPrefix(line, "PATH="):
			path = line
		case line == "", strings.HasPrefix(line, "#"), variable.MatchString(line):
		default:
			t.Errorf("neither a comment, nor a plain variable, nor a job: %q", line)
		}
		if strings.Contains(line, "%") {
			t.Errorf("%% means a new line to cron: %q", line)
		}
	}
	if len(commands) != 2 || path == "" {
		t.Fatalf("commands %q, %s", commands, path)
	}
	s := newScene(t)
	s.setUp()
	cron := []string{"env", "-i", "HOME=/root", "LOGNAME=root", "SHELL=/bin/sh", path, "sh", "-c"}
	if out := s.run(s.Standby, append(cron, commands[0])...); out != "" {
		t.Errorf("%s: it said %q", commands[0], out)
	}
	if got := s.record(s.Standby).Last.Outcome; got != state.OK {
		t.Errorf("outcome %q", got)
	}
	command := strings.Replace(commands[1], "--every 10s --for 58s", "--every 1s --for 1s", 1)
	if command == commands[1] {
		t.Errorf("another command than was thought: %s", command)
	}
	s.must(s.Primary.PowerOff())
	if out := s.run(s.Standby, append(cron, command)...); out != tookOverLine {
		t.Errorf("%s: it said %q", command, out)
	}
}

// The cron of Debian takes the file as it is.
func TestCronTakesTheCronFile(t *testing.T) {
	if testing.Short() && os.Getenv("PINGOVER_TEST_NO_SKIP") == "" {
		t.Skip("it needs a minute of a real cron")
	}
	needGroups(t)
	if _, err := exec.LookPath("/usr/sbin/cron"); err != nil {
		skip(t, "/usr/sbin/cron is missing: install the Debian package cron")
	}
	s := newScene(t)
	s.setUp()
	s.run(s.Standby, "sh", "-ec", `
		mount -t tmpfs lab /var/spool/cron
		mkdir -m 1730 /var/spool/cron/crontabs
		rm -rf /etc/crontab /etc/cron.d
		printf '%s required pam_permit.so\n' auth account session >/etc/pam.d/cron
		mkdir /etc/cron.d
		install -m 0644 "$1" /etc/cron.d/pingover
	`, "sh", "packaging/pingover.cron")
	cron := s.Standby.Command(t.Context(), "cron", "-f")
	s.must(cron.Start())
	s.within(90*time.Second, "a run has found the primary alive", func() bool {
		_, err := s.Standby.Run("grep", "-q", `"outcome":"ok"`, "/var/lib/pingover/web.json")
		return err == nil
	})
	s.must(cron.Process.Kill())
	_ = cron.Wait()
}
