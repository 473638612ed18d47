package e2e

import (
	"fmt"
	"strings"
	"testing"

	"pingover/state"
)

// What the operator is told besides a switch.

// monitoring wants the exit code of status --monitoring, and words in its text.
func (s *scene) monitoring(code int, words string) {
	s.t.Helper()
	e := s.plainly("status", "--monitoring", "web")
	if e.code != code || !strings.Contains(e.stdout, words) {
		s.t.Errorf("status --monitoring: exit code %d, want %d and %q\n%s%s", e.code, code, words, e.stdout, e.stderr)
	}
}

// plainly runs a command on the standby.
func (s *scene) plainly(args ...string) (e ended) {
	s.t.Helper()
	cmd := s.command(s.Standby, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its error is the code
	e.code, e.stdout, e.stderr = cmd.ProcessState.ExitCode(), out.String(), errs.String()
	return e
}

func TestAStandbyThatCouldNotTakeOverSaysSoWhileAllIsWell(t *testing.T) {
	s := newScene(t)
	args := set(withVIP, "--witness", "172.16.0.99")
	for range 2 {
		s.check(s.Standby, args...).want(t, state.OK)
	}
	s.monitoring(0, "web: ok")
	e := s.check(s.Standby, args...).want(t, state.OK)
	if e.Ready == nil || *e.Ready || len(e.Alerts) != 1 || e.Alerts[0].Reason != "witness 172.16.0.99 does not reply" {
		t.Errorf("report: %s", e.stdout)
	}
	s.monitoring(2, "not ready to take over")
	notReady := "[pingover] web: PROBLEM: standby is not ready to take over"
	s.mail.want(t, notReady)[0].says(t, "Reason: witness 172.16.0.99 does not reply")
	for range 3 {
		s.check(s.Standby, withVIP...).want(t, state.OK)
	}
	s.mail.want(t, notReady, "[pingover] web: RESOLVED: standby is ready to take over again")
	s.monitoring(0, "web: ok")
}

func TestAHookThatCannotBeRunIsToldBeforeItIsNeeded(t *testing.T) {
	s := newScene(t)
	l := s.log()
	hook := l.hook("fence", "exit 0")
	s.run(s.Standby, "sh", "-c", fmt.Sprintf("printf '#!/bin/sh\\r\\nexit 0\\r\\n' >%s", hook))
	args := set(withVIP, "--pre-takeover", hook)
	for range 3 {
		s.check(s.Standby, args...).want(t, state.OK)
	}
	s.mail.want(t, "[pingover] web: PROBLEM: standby is not ready to take over")[0].says(t, "pre-takeover cannot be run")
	if e := s.plainly(append([]string{"check", "--verbose"}, args...)...); !strings.Contains(e.stderr, "pre-takeover cannot be run") {
		t.Errorf("a check does not say that the hook cannot be run:\n%s", e.stderr)
	}
}

func TestHoldingWithTheCableOutIsToldAsIsolated(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	s.must(s.Standby.Unplug(false))
	for range 2 {
		s.check(s.Standby, withVIP...).want(t, state.Holding)
	}
	s.monitoring(1, "holding")
	s.check(s.Standby, withVIP...).want(t, state.Holding)
	s.monitoring(2, "holding, but isolated")
	s.must(s.Standby.Plug())
	s.check(s.Standby, withVIP...)
	s.mail.want(t, tookOver, isolated)
	for range 2 {
		s.check(s.Standby, withVIP...).want(t, state.Holding)
	}
	s.mail.want(t, tookOver, isolated, "[pingover] web: RESOLVED: standby is no longer isolated")
	s.monitoring(1, "holding")
}

func TestAnotherMachineThatServesIsToldWithItsMAC(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.run(s.Client, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	for range 3 {
		s.check(s.Standby, withVIP...).want(t, state.Elsewhere)
	}
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! another standby (02:00:00:00:00:01) serves 172.16.0.1")
	s.monitoring(1, "elsewhere")
}

func TestAFailedPostTakeoverIsCriticalUntilItHasSucceeded(t *testing.T) {
	s := newScene(t)
	l := s.log()
	flag := l.path + ".ok"
	args := set(withVIP, "--post-takeover", l.hook("start", "test -e "+flag))
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.monitoring(2, "post-takeover failed")
	e := s.check(s.Standby, args...).want(t, state.Holding)
	if len(e.Alerts) != 1 || e.Alerts[0].Kind != "hook-failed" {
		t.Errorf("report: %s", e.stdout)
	}
	s.run(s.Standby, "touch", flag)
	if e := s.plainly("takeover", "web"); e.code != 10 {
		t.Errorf("takeover: exit code %d\n%s", e.code, e.stderr)
	}
	s.monitoring(1, "holding")
	s.mail.want(t, tookOver, "[pingover] web: RESOLVED: post-takeover has succeeded on standby")
	history := s.plainly("history", "web").stdout
	for _, want := range []string{"web  hook post-takeover: exit code 1 after", "web  alert hook-failed firing", "web  hook post-takeover: exit code 0 after", "web  alert hook-failed resolved"} {
		if !strings.Contains(history, want) {
			t.Errorf("the history does not have %q:\n%s", want, history)
		}
	}
}

func TestManyClustersOfOnePrimaryAreOneMail(t *testing.T) {
	s := newScene(t)
	clusters := ""
	for i := range 5 {
		clusters += fmt.Sprintf("  web%d:\n    host: 172.16.0.2\n    vip: 172.16.1.%d/16\n", i, i)
	}
	s.configure(clusters)
	s.all(0)
	s.must(s.Primary.PowerOff())
	s.all(11)
	email := s.mail.want(t, "[pingover] 172.16.0.2 is down! 5 clusters: 5 took-over")[0]
	email.says(t, "took-over: web0, web1, web2, web3, web4")
	email.says(t, "To undo the takeover pingover release web3")
	for i := range 5 {
		if rec := s.run(s.Standby, "cat", fmt.Sprintf("/var/lib/pingover/web%d.json", i)); !strings.Contains(rec, `"outbox":null`) && !strings.Contains(rec, `"outbox":[]`) {
			t.Errorf("web%d has pending mail: %s", i, rec)
		}
	}
	s.all(10)
	s.mail.want(t, "[pingover] 172.16.0.2 is down! 5 clusters: 5 took-over")
}

func TestAReleaseThatNobodyCouldTakeIsRefused(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
	e := s.plainly("release", "web")
	want := "pingover: web: blocked: not released: 172.16.0.2 does not reply, and no other machine has 172.16.0.1: nobody could take it\n" +
		"hint: release it when 172.16.0.2 is up again; pingover release --force web leaves it unassigned\n"
	if e.code != 21 || e.stderr != want {
		t.Errorf("exit code %d, stderr:\n%swant 21 and\n%s", e.code, e.stderr, want)
	}
	s.wantHeld(s.Standby, vip4, 1)
}
