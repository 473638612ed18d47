package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// crontab.example, unchanged, with what it needs: the installed
// program, sendmail, and Debian's cron.

// job is a line of a user's crontab that runs something: five fields for the
// time, and what is left of the line is for the shell.
var job = regexp.MustCompile(`(?m)^[ \t]*((?:[0-9*][0-9*/,-]*[ \t]+){5})(\S.*)$`)

// cronPath finds the program of a package and one built from source.
const cronPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// The crontab line is run by the real cron, with the default settings, for
// real minutes. The only manual steps of a newcomer are install and crontab.
func TestPowerCutUnderCron(t *testing.T) {
	lab.Long(t)
	for _, tool := range []string{"/usr/sbin/cron", "/usr/bin/crontab"} {
		lab.Need(t, tool, "cron")
	}
	needGroups(t)
	s := newScene(t)
	s.install(s.Standby)
	cron := s.cron(s.Standby, "crontab.example")

	s.within(70*time.Second, "a run has found the primary up", func() bool { return s.lastUnderCron() == state.OK })
	s.within(10*time.Second, "cron is done with it", cron.idle)
	if l := s.emails(s.Standby); len(l) != 0 {
		t.Fatalf("a healthy run was mailed: %q", l)
	}
	view, err := s.Client.Watch(vip4, 50*time.Millisecond)
	s.must(err)
	s.within(5*time.Second, "the client reaches the virtual IP", func() bool {
		_, ok := view.FirstReplyAfter(time.Time{})
		return ok
	})

	s.must(s.Primary.PowerOff())
	since := time.Now()
	s.within(70*time.Second, "cron has started the next run", func() bool {
		env, err := s.environment()
		if err == nil && !strings.Contains(env, "\x00PATH="+cronPath+"\x00") {
			t.Fatalf("this is not the environment of a job of cron: %q", env)
		}
		return err == nil
	})
	s.within(90*time.Second, "the standby has taken over", func() bool { return s.lastUnderCron() == state.TookOver })
	s.wantOn(vip4, s.Standby)
	first, ok := view.FirstReplyAfter(since)
	if !ok {
		t.Fatal("the client never had a reply from the standby")
	}
	t.Logf("the client was without %s for %s", vip4, first.At.Sub(since).Round(time.Second/10))
	s.wantEmailsOfCron()

	s.within(70*time.Second, "the next run holds", func() bool { return s.lastUnderCron() == state.Holding })
	s.within(10*time.Second, "cron is done with it", cron.idle)
	s.wantEmailsOfCron()
	s.wantOn(vip4, s.Standby)
	s.wantLabel(s.Standby, vip4, "eth0:1")
	if said := cron.stop(); said != "" {
		t.Errorf("cron printed: %s", said)
	}
	if out := s.run(s.Standby, "ls", "-A", "/var/lib/pingover"); out != "act.lock\nweb.history\nweb.json\nweb.lock\nweb.settings\n" {
		t.Errorf("files:\n%s", out)
	}
}

// What goes wrong with crontabs, and the command itself.
func TestCrontabIsValid(t *testing.T) {
	text := readFile(t, "crontab.example")
	if !strings.HasSuffix(text, "\n") {
		t.Error("the last line has no newline: cron ignores it")
	}
	if strings.Contains(text, "\r") {
		t.Error("there is a carriage return")
	}
	variable := regexp.MustCompile(`^[A-Z]+=[^$"' ]+$`)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "", strings.HasPrefix(line, "#"), variable.MatchString(line):
		case !job.MatchString(line):
			t.Errorf("neither a comment, nor a plain variable, nor a job: %q", line)
		case strings.Contains(strings.ReplaceAll(line, `\%`, ""), "%"):
			t.Errorf("%% means a new line to cron: %q", line)
		}
	}
	jobs := job.FindAllStringSubmatch(text, -1)
	if len(jobs) != 1 {
		t.Fatalf("%d jobs, want 1", len(jobs))
	}

	s := shortScene(t)
	s.install(s.Standby)
	command := jobs[0][2]
	if !strings.Contains(text, "\nPATH="+cronPath+"\n") {
		t.Errorf("cron's own PATH has no sbin, and the file no other one:\n%s", text)
	}
	out := s.run(s.Standby, "env", "-i", "HOME=/root", "LOGNAME=root", "SHELL=/bin/sh", "PATH="+cronPath, "sh", "-c", command+" --dry-run")
	if out != "" {
		t.Errorf("%s --dry-run: with a primary that is up, it printed: %s", command, out)
	}
}

// needGroups skips the test where processes cannot change their groups, as
// cron's jobs and exim do.
func needGroups(t *testing.T) {
	t.Helper()
	if groups, _ := os.ReadFile("/proc/self/setgroups"); string(groups) == "deny\n" {
		lab.Skip(t, "neither cron nor exim runs in a user namespace, where groups cannot be changed: this needs root")
	}
}

// install puts the program where README.md puts it, and a sendmail that keeps
// each email in a file of its own, with its arguments as a header. The host
// has folders of its own for both from then on.
func (s *scene) install(h *lab.Host) {
	s.t.Helper()
	s.run(h, "sh", "-ec", `
		mkdir /var/lib/mail /var/lib/lab/sbin /var/lib/lab/sbin-work
		mount -t overlay -o lowerdir=/usr/sbin,upperdir=/var/lib/lab/sbin,workdir=/var/lib/lab/sbin-work lab /usr/sbin
		mount -t tmpfs -o mode=0755 lab /usr/local/sbin
		install -m 0755 "$1" /usr/local/sbin/pingover
		rm -f /usr/sbin/sendmail
		cat >/usr/sbin/sendmail <<-"END"
			#!/bin/sh
			email=/var/lib/mail/$$
			{ echo "X-Arguments: $*"; cat; } >$email.part && mv $email.part $email
		END
		chmod 0755 /usr/sbin/sendmail
	`, "install", s.path)
}

// emails are what sendmail has been given on a host.
func (s *scene) emails(h *lab.Host) []email {
	s.t.Helper()
	var emails []email
	for _, name := range strings.Fields(s.run(h, "ls", "/var/lib/mail")) {
		if strings.HasSuffix(name, ".part") {
			continue
		}
		emails = append(emails, s.readEmail(s.run(h, "cat", "/var/lib/mail/"+name)))
	}
	return emails
}

// wantEmailsOfCron waits for the two emails of a takeover under cron, one by
// pingover and one by cron, and fails the test unless they are the only ones.
func (s *scene) wantEmailsOfCron() {
	s.t.Helper()
	const (
		subject = "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"
		line    = "pingover: web: took-over: 172.16.0.2 does not reply, and 172.16.0.1 is not in use\n"
	)
	s.within(20*time.Second, "two emails have come", func() bool { return len(s.emails(s.Standby)) >= 2 })
	var ours, crons int
	for _, l := range s.emails(s.Standby) {
		args := l.header.Get("X-Arguments")
		switch {
		case args == "-i -- root" && l.subject == subject:
			ours++
			l.says(s.t, "standby has taken over 172.16.0.1")
			l.says(s.t, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 exit code 0")
		case strings.HasSuffix(args, " root") && strings.HasPrefix(l.subject, "Cron <root@standby> pingover check ") && l.body == line:
			crons++
		default:
			s.t.Errorf("an unexpected email:\n%q\n%s\n%s", args, l.subject, l.body)
		}
	}
	if ours != 1 || crons != 1 {
		s.t.Errorf("%d emails by pingover and %d by cron, want one of each", ours, crons)
	}
}

// crond is a cron that runs on a host.
type crond struct {
	s    *scene
	cmd  *exec.Cmd
	said bytes.Buffer
}

// cron installs the crontab for root, and runs cron. The machine's own jobs
// and its rules for logging in stay out of it.
func (s *scene) cron(h *lab.Host, crontab string) *crond {
	s.t.Helper()
	s.run(h, "sh", "-ec", `
		mount -t tmpfs lab /var/spool/cron
		mkdir -m 1730 /var/spool/cron/crontabs
		chgrp crontab /var/spool/cron/crontabs
		rm -rf /etc/crontab /etc/cron.d /etc/cron.allow /etc/cron.deny
		printf '%s required pam_permit.so\n' auth account session >/etc/pam.d/cron
		crontab "$1"
	`, "cron", crontab)
	c := &crond{s: s, cmd: h.Command(s.t.Context(), "cron", "-f")}
	c.cmd.Stdout, c.cmd.Stderr = &c.said, &c.said
	c.cmd.WaitDelay = time.Second // a job that still runs may have its output
	s.must(c.cmd.Start())
	s.t.Cleanup(func() { c.stop() })
	return c
}

// stop ends cron, and returns what it said. Doing so twice does no harm.
func (c *crond) stop() (said string) {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	return c.said.String()
}

// idle tells whether no job runs and no output is being mailed.
func (c *crond) idle() bool {
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.cmd.Process.Pid))
	c.s.must(err)
	for _, name := range children {
		pids, err := os.ReadFile(name)
		c.s.must(err)
		if len(pids) > 0 {
			return false
		}
	}
	return len(children) > 0
}

// lastUnderCron is how the last check ended that crontab.example has the
// standby make; "" before the first. The code is the outcome's.
func (s *scene) lastUnderCron() state.Outcome {
	data, err := s.Standby.Run("cat", "/var/lib/pingover/web.json")
	if err != nil {
		return ""
	}
	rec, err := state.Parse([]byte(data))
	s.must(err)
	if rec.Last == nil {
		return ""
	}
	if rec.Last.Code != rec.Last.Outcome.Code() {
		s.t.Errorf("%s with code %d", rec.Last.Outcome, rec.Last.Code)
	}
	return rec.Last.Outcome
}

// environment is that of the check that is running, which its lock tells.
func (s *scene) environment() (string, error) {
	pid, err := s.Standby.Run("cat", "/var/lib/pingover/web.lock")
	if err != nil {
		return "", err
	}
	env, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/environ")
	return "\x00" + string(env), err
}

// within waits until it is so.
func (s *scene) within(limit time.Duration, what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(limit); !so(); time.Sleep(250 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
