package notify

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFQDN(t *testing.T) {
	hosts := func(_ context.Context, host string) (string, error) {
		switch host {
		case "standby":
			return "standby.example.net.", nil
		case "alone":
			return "alone.", nil
		}
		return "", errors.New("no such host")
	}
	for hostname, want := range map[string]string{
		"standby":               "standby.example.net",
		"standby.example.com":   "standby.example.com",
		"web.example.net.":      "web.example.net",
		"müller.example":        "xn--mller-kva.example",
		"alone":                 "",
		"unknown":               "",
		"WEB_01":                "",
		"WEB_01.example.net":    "",
		"(none)":                "",
		"":                      "",
		".":                     "",
		"192.0.2.1":             "",
		"a b.example":           "",
		"x\r\nQUIT.example.net": "",
	} {
		if got := fqdn(t.Context(), hostname, hosts); got != want {
			t.Errorf("%q: %q, want %q", hostname, got, want)
		}
	}
}

func TestAddressLiteral(t *testing.T) {
	for local, want := range map[string]string{
		"192.0.2.1:4711":          "[192.0.2.1]",
		"[2001:db8::1]:4711":      "[IPv6:2001:db8::1]",
		"[fe80::1%eth0]:4711":     "[IPv6:fe80::1]",
		"[::ffff:192.0.2.1]:4711": "[192.0.2.1]",
	} {
		if got := addressLiteral(peer(local)); got != want {
			t.Errorf("%s: %s, want %s", local, got, want)
		}
	}
}

// The names by which this machine presents itself to a mail server.
func TestHELOSenderAndBareRecipient(t *testing.T) {
	t.Parallel()
	noName := func(context.Context, string) (string, error) { return "", errors.New("no such host") }
	type names struct{ HELO, From, To string }
	for name, test := range map[string]struct {
		change func(*Server)
		to     string
		want   names
	}{
		"all by default": {
			change: func(*Server) {}, to: "root",
			want: names{"standby1.example.net", "pingover@standby1.example.net", "root@standby1.example.net"},
		},
		"no FQDN": {
			change: func(s *Server) { s.lookup = noName }, to: "root",
			want: names{"[127.0.0.1]", "pingover@standby1", "root@standby1"},
		},
		"no usable host name": {
			change: func(s *Server) { s.Hostname, s.lookup = "(none)", noName }, to: "root",
			want: names{"[127.0.0.1]", "pingover@localhost", "root@localhost"},
		},
		"the login is an address": {
			change: func(s *Server) { s.User, s.Password = "ops@example.org", "s3cret" }, to: "a@example.org",
			want: names{"standby1.example.net", "ops@example.org", "a@example.org"},
		},
		"the login is a name": {
			change: func(s *Server) { s.User, s.Password = "ops", "s3cret" }, to: "a@example.org",
			want: names{"standby1.example.net", "pingover@standby1.example.net", "a@example.org"},
		},
		"mail-from and mail-helo are set": {
			change: func(s *Server) { s.From, s.HELO = "Alarm <alarm@example.org>", "mx.example.org" }, to: "a@example.org",
			want: names{"mx.example.org", "alarm@example.org", "a@example.org"},
		},
		"mail-from is a bare name": {
			change: func(s *Server) { s.From = "alarm" }, to: "a@example.org",
			want: names{"standby1.example.net", "alarm@standby1.example.net", "a@example.org"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box, ln := &mailbox{Ways: []string{"PLAIN"}, AnyUser: true}, listen(t)
			box.serve(t, ln, nil, false)
			s := server(ln, "smtp")
			s.From = ""
			test.change(&s)
			if left, problem := deliver(t, s, numbered(1, test.to)); left != nil || problem != "" {
				t.Fatalf("left %v, problem %q", left, problem)
			}
			d := box.deliveries()[0]
			if diff := cmp.Diff(test.want, names{d.Hello, d.From, d.To}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAServerThatRejectsTheHELOName(t *testing.T) {
	t.Parallel()
	ln := rude(t, func(w *wire) {
		w.say("220 mx")
		for range 2 {
			w.hear()
			w.say("504 5.5.2 need a fully-qualified hostname")
		}
		w.fall()
	})
	_, problem := deliver(t, server(ln, "smtp"), numbered(1, "a@example.org"))
	want := "mail to a@example.org via smtp://127.0.0.1:PORT: HELO rejected: 504 5.5.2 need a fully-qualified hostname (set mail-helo)"
	if problem != want {
		t.Errorf("problem %q, want %q", problem, want)
	}
}

// Mail is sent also while the name server is down.
func TestANameServerThatIsSilentDelaysMailBriefly(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	s := server(ln, "smtp")
	s.Timeout = 2 * time.Second
	lookups := 0
	s.lookup = func(ctx context.Context, _ string) (string, error) {
		lookups++
		<-ctx.Done()
		return "", ctx.Err()
	}
	if left, problem := deliver(t, s, numbered(1, "a@example.org"), numbered(2, "root")); left != nil || problem != "" || lookups != 1 {
		t.Errorf("left %v, problem %q, %d lookups", left, problem, lookups)
	}
}

// A server that does not speak first, as it waits for TLS, or the other way
// round: the error names the scheme of the port.
func TestSchemeOfTheOtherPort(t *testing.T) {
	for _, test := range []struct {
		scheme string
		port   int
		want   string
	}{
		{"smtps", 587, " (port 587 is that of smtp+starttls://mx)"},
		{"smtps", 25, " (port 25 is that of smtp://mx)"},
		{"smtp+starttls", 465, " (port 465 is that of smtps://mx)"},
		{"smtp", 465, " (port 465 is that of smtps://mx)"},
		{"smtp", 25, ""},
		{"smtp", 587, ""},
		{"smtp+starttls", 25, ""},
		{"smtp+starttls", 2525, ""},
		{"smtps", 465, ""},
		{"sendmail", 0, ""},
	} {
		if got := (Via{Scheme: test.scheme, Host: "mx", Port: test.port}).hint(); got != test.want {
			t.Errorf("%s at %d: %q, want %q", test.scheme, test.port, got, test.want)
		}
	}
	s := server(nil, "smtps")
	s.Via.Host, s.Via.Port = "mx..invalid", 587
	if _, problem := deliver(t, s, numbered(1, "a@example.org")); !strings.HasSuffix(problem, "no such host (port 587 is that of smtp+starttls://mx..invalid)") {
		t.Errorf("problem %q", problem)
	}
	if _, err := s.TestConnection(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "(port 587 is that of smtp+starttls://mx..invalid)") {
		t.Errorf("error %v", err)
	}
}
