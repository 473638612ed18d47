package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/state"
)

// The scenes of the lab run the built program on real hosts. What they have
// in common is here: the hosts, the program, its mailbox.

// binary builds the program once, as it is released: static. removeBinary,
// for TestMain, removes it.
var binary = sync.OnceValues(func() (string, error) {
	dir := binaryDir()
	path := filepath.Join(dir, "pingover")
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func binaryDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("pingover-test-%d", os.Getpid()))
}

func removeBinary() { os.RemoveAll(binaryDir()) }

// scene is one test's lab: the usual hosts, and a mail server at the gateway
// that keeps its emails.
type scene struct {
	*lab.Lab
	t    testing.TB
	path string // of the program
	mail *mailbox

	checked atomic.Int64 // second in which the last check began
}

var (
	vip4 = netip.MustParseAddr("172.16.0.1")
	vip6 = netip.MustParseAddr("2001:db8::1")
)

// scenes limits how many run at the same time: with more of them than two
// processors can serve, time limits are exceeded. No test has two.
var scenes = make(chan struct{}, 16)

func newScene(t testing.TB) *scene {
	t.Helper()
	if testing.Short() {
		t.Skip("a scene that takes seconds: it does not run with -short")
	}
	return shortScene(t)
}

// shortScene is a scene that runs with -short too.
func shortScene(t testing.TB) *scene {
	t.Helper()
	s := emptyScene(t)
	s.must(s.Usual())
	s.mail = s.serveMail(s.Gateway)
	return s
}

// emptyScene is one without hosts.
func emptyScene(t testing.TB) *scene {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	scenes <- struct{}{}
	t.Cleanup(func() { <-scenes })
	l := lab.ForTest(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return &scene{Lab: l, t: t, path: path}
}

// hasty are settings under which a takeover takes about a second. The
// defaults are for people, and tested once, under cron.
var hasty = []string{
	"--host", "172.16.0.2", "--name", "web",
	"--count", "3", "--interval", "150ms", "--timeout", "400ms", "--retry-wait", "200ms",
	"--witness", "172.16.0.254", "--boot-wait", "0", "--announce", "2",
	"--mail-to", "ops@example.org", "--mail-via", "smtp://172.16.0.254", "--mail-timeout", "2s",
}

// withVIP are the hasty settings with the usual virtual IP.
var withVIP = append(slices.Clone(hasty), "--vip", "172.16.0.1")

// ended is how a run of the program ended.
type ended struct {
	failover.Report
	code   int // exit code
	stdout string
	stderr string
	took   time.Duration
}

// command is the program on a host, not yet started.
func (s *scene) command(h *lab.Host, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	s.t.Cleanup(cancel)
	return h.Command(ctx, append([]string{s.path}, args...)...)
}

// check runs one check on a host, with --json, to its end. It begins in a later
// second than the one before, or streaks would not advance.
func (s *scene) check(h *lab.Host, args ...string) ended {
	s.t.Helper()
	if now := time.Now(); now.Unix() == s.checked.Load() { // the clock of the program, which starts later than it is asked to
		time.Sleep(time.Unix(now.Unix()+1, 0).Sub(now))
	}
	e := s.start(h, args...)()
	s.checked.Store(e.Time.Unix())
	return e
}

// start begins one check; wait waits for its end.
func (s *scene) start(h *lab.Host, args ...string) (wait func() ended) {
	s.t.Helper()
	cmd := s.command(h, append([]string{"check", "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return func() ended {
		s.t.Helper()
		err := cmd.Wait()
		e := ended{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), code: cmd.ProcessState.ExitCode()}
		if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
			s.t.Fatal(err)
		}
		if e.stdout != "" {
			if err := json.Unmarshal([]byte(e.stdout), &e.Report); err != nil {
				s.t.Fatalf("stdout is no JSON: %v\n%s", err, e.stdout)
			}
		}
		return e
	}
}

// want fails the test unless the run ended with the outcome, and its code.
func (e ended) want(t testing.TB, outcome state.Outcome) ended {
	t.Helper()
	if e.Outcome != outcome || e.code != outcome.Code() {
		t.Fatalf("outcome %q, exit code %d; want %q, %d\nstdout: %s\nstderr: %s", e.Outcome, e.code, outcome, outcome.Code(), e.stdout, e.stderr)
	}
	return e
}

// neverUp is in the reason of a takeover where no check came before it.
const neverUp = "; 172.16.0.2 was never seen up from here"

// because fails the test unless the reason is this, but for neverUp.
func (e ended) because(t testing.TB, reason string) ended {
	t.Helper()
	if strings.ReplaceAll(e.Reason, neverUp, "") != reason {
		t.Fatalf("reason %q\nwant   %q", e.Reason, reason)
	}
	return e
}

// held counts how often the kernel of a host has an address.
func (s *scene) held(h *lab.Host, a netip.Addr) int {
	s.t.Helper()
	out, err := h.Run("ip", "-o", "addr", "show", "to", a.String())
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(out, "\n")
}

// wantHeld fails the test unless the host has the address exactly so often.
func (s *scene) wantHeld(h *lab.Host, a netip.Addr, n int) {
	s.t.Helper()
	if got := s.held(h, a); got != n {
		s.t.Fatalf("%s is assigned %d times on %s, want %d", a, got, h.Name(), n)
	}
}

// run runs a command on a host that must succeed.
func (s *scene) run(h *lab.Host, argv ...string) string {
	s.t.Helper()
	out, err := h.Run(argv...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// must fails the test for an error.
func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// record reads a host's record of the cluster "web", with all its changes.
func (s *scene) record(h *lab.Host) *state.Record {
	s.t.Helper()
	rec, err := state.Parse([]byte(s.run(h, "cat", "/var/lib/pingover/web.json")))
	s.must(err)
	moved, err := state.ParseHistory([]byte(s.run(h, "sh", "-c", "cat /var/lib/pingover/web.history 2>/dev/null || :")))
	s.must(err)
	rec.Recent = slices.DeleteFunc(state.MergeHistory(moved, rec.Recent), func(e state.Entry) bool { return e.Kind != state.ChangeEntry })
	return rec
}

// watch is a client's view of an address, every 10 ms.
func (s *scene) watch(a netip.Addr) *lab.Trace {
	s.t.Helper()
	trace, err := s.Client.Watch(a, 10*time.Millisecond)
	s.must(err)
	return trace
}

// mailbox is a mail server that keeps its emails.
type mailbox struct {
	mu     sync.Mutex
	emails []email
}

// email is one message, to one recipient.
type email struct {
	to, subject, id, body string
	header                mail.Header
}

func (s *scene) serveMail(h *lab.Host) *mailbox {
	s.t.Helper()
	m := new(mailbox)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: m}, nil }))
	server.Domain = "gateway"
	var l net.Listener
	s.must(h.Do(func() (err error) {
		l, err = net.Listen("tcp", ":25")
		return err
	}))
	go server.Serve(l)
	s.t.Cleanup(func() { server.Close() })
	return m
}

// all are the emails so far.
func (m *mailbox) all() []email {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.emails)
}

// want fails the test unless exactly these subjects have come, in any order.
func (m *mailbox) want(t testing.TB, subjects ...string) []email {
	t.Helper()
	all := m.all()
	var got []string
	for _, l := range all {
		got = append(got, l.subject)
	}
	slices.Sort(got)
	slices.Sort(subjects)
	if !slices.Equal(got, subjects) {
		t.Fatalf("mail:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(subjects, "\n  "))
	}
	return all
}

type session struct {
	box *mailbox
	to  []string
}

func (s *session) Reset()                                    { s.to = nil }
func (s *session) Logout() error                             { return nil }
func (s *session) Mail(string, *smtp.MailOptions) error      { return nil }
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = append(s.to, to); return nil }

func (s *session) Data(r io.Reader) error {
	msg, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(msg.Body); err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	for _, to := range s.to {
		s.box.emails = append(s.box.emails, email{
			to: to, subject: msg.Header.Get("Subject"), id: msg.Header.Get("Message-ID"), body: body.String(), header: msg.Header,
		})
	}
	return nil
}
