package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// datagrams is a unix datagram socket, and what it has received until now.
func datagrams(t *testing.T, path string) (received func(wait time.Duration) []string, end func() error) {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func(wait time.Duration) (all []string) {
		buffer := make([]byte, 4096)
		for {
			_ = l.SetReadDeadline(time.Now().Add(wait))
			n, err := l.Read(buffer)
			if err != nil {
				return all
			}
			all = append(all, string(buffer[:n]))
			wait = 100 * time.Millisecond // the rest is there
		}
	}, l.Close
}

// logged are lines of syslog without time and process: the priority, and the text.
func logged(lines []string) (all []string) {
	for _, line := range lines {
		all = append(all, regexp.MustCompile(`^(<[0-9]+>)[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} pingover\[[0-9]+\]: `).ReplaceAllString(strings.TrimSpace(line), "$1"))
	}
	return all
}

// story is a check with a change and alerts.
func story(_ config.Cluster, o failover.Options) (failover.Report, error) {
	o.OnEvent(run.Note{Text: "nothing of this"})
	o.OnEvent(run.Note{Text: "the name no longer resolves", Warning: true})
	o.OnEvent(notify.AlertChange{Alert: state.Alert{Kind: "not-ready", Reason: "witness 172.16.0.254 does not reply"}})
	o.OnEvent(notify.AlertChange{Alert: state.Alert{Kind: "isolated", Reason: "no witness replies"}, Resolved: true})
	o.OnEvent(notify.AlertChange{Alert: state.Alert{Kind: "blocked", Reason: "in the line of the outcome"}})
	return failover.Report{Outcome: state.Blocked, Code: 21, Changed: true, Reason: "172.16.0.2 does not reply\x1b", DryRun: o.DryRun}, nil
}

func TestChangesAndAlertsGoToSyslog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	received, _ := datagrams(t, socket)
	p := faked(story)
	p.LogSocket = socket
	args := []string{"check", "--host", "172.16.0.2", "--name", "web", "--state-dir", t.TempDir()}
	if got := p.run(args...); got.Code != 21 {
		t.Errorf("%+v", got)
	}
	want := []string{ // facility daemon is 3 (RFC 5424, 6.2.1), priority 8 × 3 + severity
		"<28>web: the name no longer resolves", // daemon.warning
		"<28>web: alert not-ready: witness 172.16.0.254 does not reply",
		"<29>web: alert isolated resolved: no witness replies", // daemon.notice
		"<27>web: blocked: 172.16.0.2 does not reply",          // daemon.err
	}
	if diff := cmp.Diff(want, logged(received(2*time.Second))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, quiet := range [][]string{{"--syslog", "off"}, {"--dry-run"}} {
		p.run(append(slices.Clone(args), quiet...)...)
		if lines := received(200 * time.Millisecond); len(lines) > 0 {
			t.Errorf("with %s: %q", quiet, lines)
		}
	}
}

func TestASyslogThatIsGoneIsReported(t *testing.T) {
	p := faked(story)
	p.LogSocket = filepath.Join(t.TempDir(), "none")
	got := p.run("check", "--host", "172.16.0.2", "--name", "web", "--state-dir", t.TempDir())
	if got.Code != 21 || !strings.Contains(got.Stderr, "pingover: syslog: dial unixgram "+p.LogSocket+": connect: no such file or directory\n") {
		t.Errorf("%+v", got)
	}
}

// A log daemon that does not read keeps no check from ending.
func TestASyslogThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	datagrams(t, socket) // nobody reads
	p := faked(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
		for range 5000 {
			o.OnEvent(run.Note{Text: strings.Repeat("x", 1000), Warning: true})
		}
		return failover.Report{Outcome: state.OK, Reason: "fine"}, nil
	})
	p.LogSocket = socket
	began := time.Now()
	got := p.run("check", "--quiet", "--host", "172.16.0.2", "--name", "web", "--state-dir", t.TempDir())
	if took := time.Since(began); got.Code != 0 || took > 5*time.Second || !strings.Contains(got.Stderr, "pingover: syslog: "+socket+" does not take what it is sent\n") {
		t.Errorf("code %d after %s", got.Code, took)
	}
}

// A new daemon is found at the same path.
func TestASyslogThatIsRestarted(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	first, end := datagrams(t, socket)
	l := Program{LogSocket: socket}.openLog([]Task{{Syslog: true}})
	l.log(noticeLevel, "one")
	if lines := logged(first(2 * time.Second)); !slices.Equal(lines, []string{"<29>one"}) {
		t.Errorf("the first: %q", lines)
	}
	if err := errors.Join(end(), os.RemoveAll(socket)); err != nil {
		t.Fatal(err)
	}
	second, _ := datagrams(t, socket)
	l.log(infoLevel, "two")
	var stderr strings.Builder
	l.close(printer{out: &stderr})
	l.log(infoLevel, "by a check that was abandoned") // panics nowhere
	if lines := logged(second(2 * time.Second)); !slices.Equal(lines, []string{"<30>two"}) || stderr.Len() > 0 {
		t.Errorf("the second: %q, %s", lines, &stderr)
	}
}
