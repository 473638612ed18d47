package notify

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

func TestTestConnectionSendsNoMessage(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ours")
	tests := []struct {
		name     string
		scheme   string
		secure   bool
		implicit bool
		ways     []string
		password string
		want     string
		problem  string
	}{
		{name: "in plain", scheme: "smtp", want: "the server replies, no TLS"},
		{name: "STARTTLS where it is offered", scheme: "smtp", secure: true, want: "the server replies, TLS 1.3"},
		{name: "TLS from the start", scheme: "smtps", secure: true, implicit: true, want: "the server replies, TLS 1.3"},
		{name: "with a login", scheme: "smtp+starttls", secure: true, ways: []string{"PLAIN"}, password: "s3cret", want: `the server replies, TLS 1.3, logged in as "ops"`},
		{name: "with a wrong password", scheme: "smtp+starttls", secure: true, ways: []string{"PLAIN"}, password: "wrong", problem: `SMTP AUTH failed: 454`},
		{name: "no STARTTLS", scheme: "smtp+starttls", problem: "the server offers no STARTTLS, without which neither mail nor password is sent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			box, ln := &mailbox{Ways: test.ways}, listen(t)
			s := server(ln, test.scheme)
			s.Roots = ca.roots()
			if test.password != "" {
				s.User, s.Password = "ops", test.password
			}
			if test.secure {
				box.serve(t, ln, ca.server(t, "127.0.0.1"), test.implicit)
			} else {
				box.serve(t, ln, nil, false)
			}
			how, err := s.TestConnection(t.Context())
			if how != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.HasPrefix(err.Error(), test.problem) {
				t.Errorf("%q, %v; want %q, %q", how, err, test.want, test.problem)
			}
			if got := box.deliveries(); len(got) > 0 {
				t.Errorf("delivered %v", got)
			}
		})
	}
}

func TestTestConnectionToAClosedPort(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	ln.Close()
	how, err := server(ln, "smtp").TestConnection(t.Context())
	if err == nil || how != "" || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("%q, %v", how, err)
	}
}

func TestTestConnectionToASilentServerEnds(t *testing.T) {
	t.Parallel()
	ln := rude(t, func(w *wire) { w.fall() })
	s := server(ln, "smtp")
	s.Timeout = 100 * time.Millisecond
	_, err := s.TestConnection(t.Context())
	if err == nil || err.Error() != "not done within 100ms" {
		t.Errorf("%v", err)
	}
}

func TestTestConnectionFindsSendmail(t *testing.T) {
	dir := fake(t, "touch ran")
	s := server(nil, "sendmail")
	if how, err := s.TestConnection(t.Context()); err != nil || how != filepath.Join(dir, "sendmail") {
		t.Errorf("%q, %v", how, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("it was run")
	}
	for path, want := range map[string]string{
		dir + "/none": "stat " + dir + "/none: no such file or directory",
		dir:           dir + ": not a regular file",
		dir + "/data": dir + "/data: not executable: permission denied",
	} {
		if err := os.WriteFile(dir+"/data", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.Via.Path = path
		if _, err := s.TestConnection(t.Context()); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestSendTestReturnsTheReplyOfTheServer(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{Refuse: map[string]error{"gone@example.org": &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}}}, listen(t)
	box.serve(t, ln, nil, false)
	s := server(ln, "smtp")
	l := TestMessage(Cluster{Name: "web", Hostname: "standby1", To: []string{"a@example.org"}}, "event", time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC))
	said, err := s.SendTest(t.Context(), l, "a@example.org")
	if err != nil || said != "2.0.0 OK: queued" {
		t.Errorf("%q, %v", said, err)
	}
	if diff := cmp.Diff([]string{"a@example.org <event@standby1>"}, box.summary()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	_, err = s.SendTest(t.Context(), l, "gone@example.org")
	if want := "mail to gone@example.org via " + s.Via.String() + ": 550 5.1.1 no such user"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestSendTestReturnsTheOutputOfSendmail(t *testing.T) {
	fake(t, "cat >/dev/null; echo queued as 7")
	said, err := server(nil, "sendmail").SendTest(t.Context(), numbered(1, "a@example.org"), "a@example.org")
	if err != nil || said != "queued as 7" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestSendTestToASilentServerEnds(t *testing.T) {
	t.Parallel()
	ln := rude(t, func(w *wire) { w.fall() })
	s := server(ln, "smtp")
	s.Timeout = 100 * time.Millisecond
	_, err := s.SendTest(t.Context(), numbered(1, "a@example.org"), "a@example.org")
	if want := "mail to a@example.org via smtp://" + ln.Addr().(*net.TCPAddr).String() + ": not done within 100ms"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestTestMessage(t *testing.T) {
	at := time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)
	got := TestMessage(Cluster{Name: "web", Hostname: "standby1", To: []string{"a@example.org"}}, "event", at)
	want := state.Message{
		MessageID: "<event@standby1>", Time: at, To: []string{"a@example.org"}, Subject: "[pingover] web: test message from standby1", Cluster: "web",
		Body: `This is a test, sent by pingover doctor on standby1. Messages about the
cluster web reach you.

Nothing has happened, and there is nothing to do.
`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
