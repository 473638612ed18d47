package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// fake puts a shell script named sendmail first on the PATH and returns the
// folder that it works in.
func fake(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\ncd %s || exit 1\n%s\n", dir, script)
	if err := os.WriteFile(filepath.Join(dir, "sendmail"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSendmailGetsOneMessageForEachRecipient(t *testing.T) {
	dir := fake(t, `
		echo "$@" >> arguments
		cat > message
		echo "warning: queued, the network is down" >&2`)
	l := numbered(1, "a@example.org", "Ops <-b@example.org>")
	l.Body = "one\n.\nGrüße\n"
	left, problem := deliver(t, server(nil, "sendmail"), l)
	if left != nil || problem != "" {
		t.Errorf("left %v, problem %q", left, problem)
	}
	want := "-i -f pingover@standby1 -- a@example.org\n-i -f pingover@standby1 -- -b@example.org\n"
	if diff := cmp.Diff(want, read(t, dir, "arguments")); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	golden(t, "message for sendmail", read(t, dir, "message"))
}

// As cron calls it: the MTA's aliases, domain and default sender apply.
func TestSendmailGetsABareRecipientAndNoSender(t *testing.T) {
	for hostname, from := range map[string]string{
		"standby":             "pingover on standby <pingover>",
		"standby.example.net": `"pingover on standby.example.net" <pingover>`,
		"(none)\r\nBcc: x@y":  "pingover on -none---Bcc--x-y <pingover>",
	} {
		dir := fake(t, `
			echo "$@" > arguments
			cat > message`)
		s := server(nil, "sendmail")
		s.From, s.Hostname = "", hostname
		if left, problem := deliver(t, s, numbered(1, "root")); left != nil || problem != "" {
			t.Errorf("left %v, problem %q", left, problem)
		}
		if got := read(t, dir, "arguments"); got != "-i -- root\n" {
			t.Errorf("arguments %q", got)
		}
		if got := read(t, dir, "message"); !strings.Contains(got, "\nFrom: "+from+"\n") || !strings.Contains(got, "\nTo: root\n") {
			t.Errorf("%s: message\n%s", hostname, got)
		}
	}
}

func TestSendmailThatFails(t *testing.T) {
	fake(t, `
		[ "$5" = a@example.org ] || exit 0
		echo "queue is full" >&2
		echo "try again" >&2
		exit 75`)
	left, problem := deliver(t, server(nil, "sendmail"), numbered(1, "a@example.org", "b@example.org"))
	if diff := cmp.Diff([]state.Message{numbered(1, "a@example.org")}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(problem, "mail to a@example.org via sendmail: ") ||
		!strings.HasSuffix(problem, "sendmail -i -f pingover@standby1 -- a@example.org: exit code 75: queue is full") {
		t.Errorf("problem %q", problem)
	}
}

func TestSendmailThatHangs(t *testing.T) {
	dir := fake(t, `
		echo one >> calls
		sleep 100 &
		wait`)
	s := server(nil, "sendmail")
	s.Timeout = time.Second
	outbox := []state.Message{numbered(1, "a@example.org"), numbered(2, "b@example.org")}
	start := time.Now()
	left, problem := deliver(t, s, outbox...)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if diff := cmp.Diff(outbox, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if want := "mail to b@example.org via sendmail: not done within 1s"; problem != want {
		t.Errorf("problem %q, want %q", problem, want)
	}
	if got := read(t, dir, "calls"); got != "one\n" {
		t.Errorf("calls: %q", got)
	}
}

func TestNoSendmail(t *testing.T) {
	s := server(nil, "sendmail")
	s.Via.Path = filepath.Join(t.TempDir(), "sendmail")
	outbox := []state.Message{numbered(1, "a@example.org"), numbered(2, "b@example.org")}
	left, problem := deliver(t, s, outbox...)
	if diff := cmp.Diff(outbox, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(problem, "mail to b@example.org via sendmail://"+s.Via.Path+": ") ||
		!strings.Contains(problem, "no such file") || strings.Contains(problem, "a@example.org") {
		t.Errorf("problem %q", problem)
	}
}

func TestSendmailIsRunByItsPath(t *testing.T) {
	dir := fake(t, `echo "$0" > called`)
	t.Setenv("PATH", "/usr/bin:/bin")
	s := server(nil, "sendmail")
	s.Via.Path = filepath.Join(dir, "sendmail")
	left, problem := deliver(t, s, numbered(1, "a@example.org"))
	if left != nil || problem != "" {
		t.Errorf("left %v, problem %q", left, problem)
	}
	if got := read(t, dir, "called"); got != s.Via.Path+"\n" {
		t.Errorf("called as %q", got)
	}
}
