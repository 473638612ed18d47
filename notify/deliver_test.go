package notify

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// mailbox is an SMTP server that keeps the messages.
type mailbox struct {
	// Refuse rejects a recipient.
	Refuse map[string]error
	// Ways are the SASL mechanisms that it knows; the password is "s3cret".
	Ways []string
	// AnyUser may log in.
	AnyUser bool

	mu       sync.Mutex
	sessions int
	asked    []string // recipients, in the order in which they were named
	got      []delivery
}

// delivery is one message as it was handed over.
type delivery struct {
	From, To, Text string
	Hello          string
	TLS, UTF8      bool
	Way            string // of login, "" without
}

func (b *mailbox) deliveries() []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

// summary is recipient and Message-ID, in the order of delivery.
func (b *mailbox) summary() (list []string) {
	for _, d := range b.deliveries() {
		m, err := mail.ReadMessage(strings.NewReader(d.Text))
		if err != nil {
			return []string{err.Error()}
		}
		list = append(list, d.To+" "+m.Header.Get("Message-ID"))
	}
	return list
}

func (b *mailbox) NewSession(c *smtp.Conn) (smtp.Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions++
	return &session{box: b, conn: c}, nil
}

type session struct {
	box  *mailbox
	conn *smtp.Conn
	d    delivery
	way  string
}

func (s *session) Reset()        { s.d = delivery{} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	_, secure := s.conn.TLSConnectionState()
	s.d = delivery{From: from, Hello: s.conn.Hostname(), TLS: secure, UTF8: o.UTF8, Way: s.way}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.d.To = to
	s.box.asked = append(s.box.asked, to)
	return s.box.Refuse[to]
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.d.Text = string(text)
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.got = append(s.box.got, s.d)
	return err
}

func (s *session) AuthMechanisms() []string { return s.box.Ways }

func (s *session) Auth(way string) (sasl.Server, error) {
	try := func(_, user, password string) error {
		if user != "ops" && !s.box.AnyUser || password != "s3cret" {
			return errors.New("wrong user or password")
		}
		s.way = way
		return nil
	}
	switch way {
	case "PLAIN":
		return sasl.NewPlainServer(try), nil
	case "LOGIN":
		return &steps{func(said []string) (string, bool, error) {
			if len(said) == 1 {
				return "Username:", false, nil // asked without an initial response
			}
			if len(said) == 2 {
				return "Password:", false, nil
			}
			return "", true, try("", said[1], said[2])
		}, nil}, nil
	case "CRAM-MD5":
		const challenge = "<1896.697170952@mx>"
		return &steps{func(said []string) (string, bool, error) {
			if len(said) == 1 {
				return challenge, false, nil
			}
			mac := hmac.New(md5.New, []byte("s3cret"))
			mac.Write([]byte(challenge))
			if said[1] != fmt.Sprintf("ops %x", mac.Sum(nil)) {
				return "", true, errors.New("wrong answer")
			}
			return "", true, try("", "ops", "s3cret")
		}, nil}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// steps is a login: the next challenge for all responses so far.
type steps struct {
	next func(said []string) (string, bool, error)
	said []string
}

func (s *steps) Next(response []byte) ([]byte, bool, error) {
	s.said = append(s.said, string(response))
	challenge, done, err := s.next(s.said)
	return []byte(challenge), done, err
}

// serve runs the mailbox on a port of its own; secure is nil, or how it does
// STARTTLS, or with implicit TLS.
func (b *mailbox) serve(t *testing.T, ln net.Listener, secure *tls.Config, implicit bool) {
	t.Helper()
	server := smtp.NewServer(b)
	server.Domain = "mx.example.org"
	server.TLSConfig = secure
	server.AllowInsecureAuth = true
	server.EnableSMTPUTF8 = true
	server.ErrorLog = quiet{}
	if implicit {
		ln = tls.NewListener(ln, secure)
	}
	done := make(chan error)
	go func() { done <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Close()
		ln.Close() // it may not have begun to serve
		<-done
	})
}

// quiet drops the log about clients that close a connection, as intended here.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// rude runs a server that is not the library's: talk is called for each
// connection, which is closed after it.
func rude(t *testing.T, talk func(c *wire)) net.Listener {
	t.Helper()
	ln := listen(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				talk(&wire{conn, bufio.NewReader(conn)})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return ln
}

// wire is a rude server's end of a connection.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func (w *wire) say(line string) { fmt.Fprintf(w, "%s\r\n", line) }

// hear reads one line; ok is false when the client has gone.
func (w *wire) hear() (line string, ok bool) {
	line, err := w.r.ReadString('\n')
	return strings.TrimSpace(line), err == nil
}

// until replies 250 (DATA: 354) to everything, until a line that begins with
// verb, to which it does not reply.
func (w *wire) until(verb string) bool {
	for {
		line, ok := w.hear()
		if !ok {
			return false
		}
		if strings.HasPrefix(line, verb) {
			return true
		}
		if line == "DATA" {
			w.say("354 go on")
			for line != "." && ok {
				line, ok = w.hear()
			}
			if verb == "." {
				return ok
			}
		}
		w.say("250 ok")
	}
}

// fall reads without a reply until the client has closed.
func (w *wire) fall() { io.Copy(io.Discard, w.r) }

func server(ln net.Listener, scheme string) Server {
	s := Server{
		Via:      Via{Scheme: scheme, Host: "127.0.0.1"},
		From:     "pingover@standby1",
		Timeout:  10 * time.Second,
		Hostname: "standby1",
		lookup:   func(_ context.Context, host string) (string, error) { return host + ".example.net.", nil },
	}
	if ln != nil {
		s.Via.Port = ln.Addr().(*net.TCPAddr).Port
	}
	return s
}

// deliver is Deliver, with the port in the error as PORT.
func deliver(t *testing.T, s Server, outbox ...state.Message) (left []state.Message, text string) {
	t.Helper()
	before := fmt.Sprint(outbox)
	left, err := s.Deliver(t.Context(), outbox)
	if now := fmt.Sprint(outbox); now != before {
		t.Errorf("the outbox handed in was changed from\n%s to\n%s", before, now)
	}
	if err != nil {
		text = strings.ReplaceAll(err.Error(), fmt.Sprintf(":%d", s.Via.Port), ":PORT")
	}
	return left, text
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key}
	a.cert = a.sign(t, a.cert, key)
	return a
}

func (a authority) sign(t *testing.T, c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (a authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server is the TLS of a server with a certificate for that address.
func (a authority) server(t *testing.T, ip string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mx"}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, key)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}}
}

func TestNothingPendingIsNothingToDo(t *testing.T) {
	s := server(nil, "smtp") // there is no such server
	for name, outbox := range map[string][]state.Message{
		"empty outbox":                    nil,
		"messages without recipients":     {numbered(1), numbered(2)},
		"an empty list, as in the record": {},
	} {
		left, problem := deliver(t, s, outbox...)
		if left != nil || problem != "" {
			t.Errorf("%s: left %v, problem %q", name, left, problem)
		}
	}
}

func TestNewestFirstOneMessageForEachRecipientOverOneConnection(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	left, problem := deliver(t, server(ln, "smtp"),
		numbered(1, "a@example.org", "b@example.org"),
		numbered(2, "a@example.org"))
	if left != nil || problem != "" {
		t.Errorf("left %v, problem %q", left, problem)
	}
	want := []string{
		"a@example.org <event.2@standby1>",
		"a@example.org <event.1@standby1>",
		"b@example.org <event.1@standby1>",
	}
	if diff := cmp.Diff(want, box.summary()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if box.sessions != 1 {
		t.Errorf("%d connections, want 1", box.sessions)
	}
	d := box.deliveries()[0]
	if d.Hello != "standby1.example.net" || d.From != "pingover@standby1" || d.UTF8 {
		t.Errorf("hello %q, from %q, SMTPUTF8 %v", d.Hello, d.From, d.UTF8)
	}
}

func TestWithoutTimeoutAndHostName(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	s := server(ln, "smtp")
	s.Timeout, s.Hostname = 0, ""
	left, problem := deliver(t, s, numbered(1, "a@example.org"))
	if left != nil || problem != "" {
		t.Fatalf("left %v, problem %q", left, problem)
	}
	if d := box.deliveries()[0]; d.Hello != "[127.0.0.1]" {
		t.Errorf("hello %q", d.Hello)
	}
}

func TestAResendIsTheSameMessage(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	for range 2 {
		deliver(t, server(ln, "smtp"), numbered(1, "a@example.org"))
	}
	got := box.deliveries()
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("first and second time differ:\n%s", diff)
	}
}

// The text has what mail servers stumble over.
func TestWhatTheRecipientGets(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	l := state.Message{
		MessageID: "<event.1@standby1>",
		InReplyTo: "<event.0@standby1>",
		Time:      night.In(time.FixedZone("CET", 3600)),
		Cluster:   "web", Outcome: "took-over",
		To:      []string{`"Ops, Team" <ops@example.org>`},
		Subject: "[pingover] web: 172.16.0.2 is down! standby1 took over 172.16.0.1",
		Body: "Grüße — 世界\n.\n..\nFrom here on\n" + strings.Repeat("x", 2000) +
			"\n  indented, with a blank at the end \na=b\n",
	}
	_, problem := deliver(t, server(ln, "smtp"), l)
	if problem != "" {
		t.Fatal(problem)
	}
	d := box.deliveries()[0]
	golden(t, "message", strings.ReplaceAll(d.Text, "\r\n", "\n"))
	if strings.Contains(strings.ReplaceAll(d.Text, "\r\n", ""), "\n") {
		t.Error("a line end is not CRLF")
	}
	if d.To != "ops@example.org" {
		t.Errorf("recipient %q", d.To)
	}

	m, err := mail.ReadMessage(strings.NewReader(d.Text))
	if err != nil {
		t.Fatal(err)
	}
	want := mail.Header{
		"Auto-Submitted":            {"auto-generated"},
		"Content-Transfer-Encoding": {"quoted-printable"},
		"Content-Type":              {"text/plain; charset=UTF-8"},
		"Date":                      {"Sun, 01 Mar 2026 04:04:05 +0100"},
		"From":                      {"<pingover@standby1>"},
		"In-Reply-To":               {"<event.0@standby1>"},
		"Message-Id":                {"<event.1@standby1>"},
		"Mime-Version":              {"1.0"},
		"References":                {"<event.0@standby1>"},
		"Subject":                   {l.Subject},
		"To":                        {`"Ops, Team" <ops@example.org>`},
		"X-Pingover-Cluster":        {"web"},
		"X-Pingover-Outcome":        {"took-over"},
	}
	if diff := cmp.Diff(want, m.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.Body, strings.ReplaceAll(string(body), "\r\n", "\n")); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestNoHeaderCanBeSmuggledIn(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	l := numbered(1, "ops@example.org")
	const evil = "x\r\nBcc: evil@example.org\r\n\r\nbody"
	l.Subject, l.MessageID, l.InReplyTo, l.Cluster, l.Outcome = evil, evil, evil, evil, evil
	if _, problem := deliver(t, server(ln, "smtp"), l); problem != "" {
		t.Fatal(problem)
	}
	d := box.deliveries()[0]
	m, err := mail.ReadMessage(strings.NewReader(d.Text))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Header.Get("Bcc"); got != "" {
		t.Errorf("Bcc: %s", got)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || subject != evil {
		t.Errorf("subject %q, error %v", subject, err)
	}

	for _, to := range []string{"ops@example.org\r\nRCPT TO:<evil@example.org>", "ops@example.org>\r\nDATA", "ops@", "-v root"} {
		left, problem := deliver(t, server(ln, "smtp"), numbered(2, to))
		if want := fmt.Sprintf("%q is no mail address", to); !strings.HasSuffix(problem, want) || len(left) != 1 {
			t.Errorf("problem %q, want %s; left %v", problem, want, left)
		}
	}
	if n := len(box.deliveries()); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestAFromThatIsNoAddress(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	s := server(ln, "smtp")
	s.From = "pingover@"
	left, problem := deliver(t, s, numbered(1, "a@example.org"))
	if want := `mail to a@example.org via smtp://127.0.0.1:PORT: mail-from: "pingover@" is no mail address`; problem != want || len(left) != 1 {
		t.Errorf("problem %q, want %s…; left %v", problem, want, left)
	}
}

func TestAnAddressThatIsNotASCII(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{}, listen(t)
	box.serve(t, ln, nil, false)
	if _, problem := deliver(t, server(ln, "smtp"), numbered(1, "jürgen@example.org")); problem != "" {
		t.Fatal(problem)
	}
	if d := box.deliveries()[0]; d.To != "jürgen@example.org" || !d.UTF8 {
		t.Errorf("recipient %q, SMTPUTF8 %v", d.To, d.UTF8)
	}
}

func TestARejectedRecipientDoesNotAffectTheOthers(t *testing.T) {
	t.Parallel()
	box, ln := &mailbox{Refuse: map[string]error{
		"gone@example.org": &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no such user"},
		"busy@example.org": &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "try again\nlater"},
	}}, listen(t)
	box.serve(t, ln, nil, false)
	all := []string{"gone@example.org", "busy@example.org", "ops@example.org"}
	left, problem := deliver(t, server(ln, "smtp"), numbered(1, all...), numbered(2, all...))

	want := []state.Message{
		numbered(1, "gone@example.org", "busy@example.org"),
		numbered(2, "gone@example.org", "busy@example.org"),
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	wantProblem := "mail to gone@example.org via smtp://127.0.0.1:PORT: 550 no such user; " +
		"mail to busy@example.org via smtp://127.0.0.1:PORT: 450 try again 4.2.1 later"
	if diff := cmp.Diff(wantProblem, problem); diff != "" {
		t.Errorf("problem (-want +got):\n%s", diff)
	}
	wantGot := []string{"ops@example.org <event.2@standby1>", "ops@example.org <event.1@standby1>"}
	if diff := cmp.Diff(wantGot, box.summary()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	wantAsked := []string{"gone@example.org", "busy@example.org", "ops@example.org", "ops@example.org"}
	if diff := cmp.Diff(wantAsked, box.asked); diff != "" {
		t.Errorf("a rejected recipient is tried once in a run (-want +got):\n%s", diff)
	}
	if box.sessions != 1 {
		t.Errorf("%d connections, want 1", box.sessions)
	}
}

func TestARejectedMessageDoesNotAffectTheOthers(t *testing.T) {
	t.Parallel()
	ln := rude(t, func(c *wire) {
		c.say("220 mx")
		for i := 0; c.until("."); i++ {
			if i < 2 {
				c.say("554 5.7.1 looks like spam")
			} else {
				c.say("250 ok")
			}
		}
	})
	left, problem := deliver(t, server(ln, "smtp"),
		numbered(1, "a@example.org"), numbered(2, "a@example.org"), numbered(3, "a@example.org"))
	if diff := cmp.Diff([]state.Message{numbered(2, "a@example.org"), numbered(3, "a@example.org")}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if want := "mail to a@example.org via smtp://127.0.0.1:PORT: 554 5.7.1 looks like spam"; problem != want {
		t.Errorf("problem %q, want %q", problem, want)
	}
}

func TestAServerThatClosesAfterEachMessageGetsThemAll(t *testing.T) {
	t.Parallel()
	accepted := make(chan string, 10)
	ln := rude(t, func(c *wire) {
		c.say("220 mx")
		if c.until(".") {
			c.say("250 ok")
			accepted <- "one"
		}
	})
	left, problem := deliver(t, server(ln, "smtp"), numbered(1, "a@example.org"), numbered(2, "a@example.org", "b@example.org"))
	if left != nil || problem != "" || len(accepted) != 3 {
		t.Errorf("left %v, problem %q, %d accepted", left, problem, len(accepted))
	}
}

// A server without RSET is dialled again for each message.
func TestAServerWithoutRSET(t *testing.T) {
	t.Parallel()
	ln := rude(t, func(c *wire) {
		c.say("220 mx")
		if c.until("RSET") {
			c.say("502 what?")
			c.fall()
		}
	})
	left, problem := deliver(t, server(ln, "smtp"), numbered(1, "a@example.org"), numbered(2, "a@example.org"))
	if left != nil || problem != "" {
		t.Errorf("left %v, problem %q", left, problem)
	}
}

func TestAfterTheFirstFailureToConnectTheRestWaits(t *testing.T) {
	t.Parallel()
	closed := listen(t)
	closed.Close()
	refusing := rude(t, func(c *wire) { c.say("554 5.3.2 not today") })
	busy := rude(t, func(c *wire) { c.say("421 too busy") })
	mute := rude(t, func(*wire) {})
	greets := rude(t, func(c *wire) {
		c.say("220 mx")
		c.fall()
	})
	unresolved := server(closed, "smtp")
	unresolved.Via.Host = "mx..invalid" // which no name server need be asked for

	tests := []struct {
		name   string
		server Server
		want   string
	}{
		{"a closed port", server(closed, "smtp"), "dial tcp 127.0.0.1:PORT: connect: connection refused"},
		{"the server refuses", server(refusing, "smtp"), "554 5.3.2 not today"},
		{"the server is busy", server(busy, "smtp"), "421 too busy"},
		{"the server closes the connection", server(mute, "smtp"), "the server closed the connection"},
		{"no TLS where it has to be", server(greets, "smtps"), "tls: first record does not look like a TLS handshake"},
		{"no such name", unresolved, "dial tcp: lookup mx..invalid: no such host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outbox := []state.Message{numbered(1, "a@example.org"), numbered(2, "b@example.org", "c@example.org")}
			left, problem := deliver(t, tt.server, outbox...)
			if diff := cmp.Diff(outbox, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			want := strings.Replace(fmt.Sprintf("mail to b@example.org via %s: %s", tt.server.Via, tt.want),
				fmt.Sprintf(":%d", tt.server.Via.Port), ":PORT", 1)
			if problem != want {
				t.Errorf("problem %q, want %q", problem, want)
			}
		})
	}
}

func TestNoServerCanDelayARun(t *testing.T) {
	t.Parallel()
	silent := func(verb string) func(*wire) {
		return func(c *wire) {
			c.say("220 mx")
			if c.until(verb) {
				c.fall()
			}
		}
	}
	dribbles := func(c *wire) {
		for {
			if _, err := io.WriteString(c, "220-wait\r\n"[:1]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	repliesSlowly := func(c *wire) {
		c.say("220 mx")
		for {
			if _, ok := c.hear(); !ok {
				return
			}
			time.Sleep(120 * time.Millisecond)
			c.say("250 ok")
		}
	}
	tests := []struct {
		name   string
		scheme string
		talk   func(*wire)
	}{
		{"accepts and says nothing", "smtp", (*wire).fall},
		{"says nothing in TLS", "smtps", (*wire).fall},
		{"dribbles a greeting without end", "smtp", dribbles},
		{"replies slowly", "smtp", repliesSlowly},
		{"silent after EHLO", "smtp", silent("EHLO")},
		{"silent after STARTTLS", "smtp+starttls", func(c *wire) {
			c.say("220 mx")
			c.hear()
			c.say("250-mx")
			c.say("250 STARTTLS")
			c.hear()
			c.say("220 go on")
			c.fall()
		}},
		{"silent after MAIL", "smtp", silent("MAIL")},
		{"silent after RCPT", "smtp", silent("RCPT")},
		{"silent after DATA", "smtp", silent("DATA")},
		{"silent after the text", "smtp", silent(".")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := server(rude(t, tt.talk), tt.scheme)
			s.Timeout = 300 * time.Millisecond
			outbox := []state.Message{numbered(1, "a@example.org"), numbered(2, "b@example.org", "c@example.org")}
			start := time.Now()
			left, problem := deliver(t, s, outbox...)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if diff := cmp.Diff(outbox, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			want := fmt.Sprintf("mail to b@example.org via %s://127.0.0.1:PORT: not done within 300ms", tt.scheme)
			if problem != want {
				t.Errorf("problem %q, want %q", problem, want)
			}
		})
	}
}

// The library reads each reply to its end, whatever its length.
func TestAnEndlessReplyEndsTheSessionAfter256KiB(t *testing.T) {
	t.Parallel()
	endless := func(text string) func(*wire) {
		return func(c *wire) {
			sent := 0
			for {
				n, err := io.WriteString(c, text)
				if sent += n; err != nil {
					return
				}
				if sent > 64<<20 {
					t.Errorf("%d bytes were accepted", sent)
					return
				}
			}
		}
	}
	after := func(greeting string, talk func(*wire)) func(*wire) {
		return func(c *wire) {
			c.say(greeting)
			c.hear()
			talk(c)
		}
	}
	for name, talk := range map[string]func(*wire){
		"a greeting without a line end": endless("220 aaaaaaaaaaaaaaaa"),
		"a greeting of many lines":      endless("220-mx\r\n"),
		"a reply of many extensions":    after("220 mx", endless("250-AUTH PLAIN\r\n")),
		"a reply without a line end":    after("220 mx", endless("250 X X X X X X")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outbox := []state.Message{numbered(1, "a@example.org"), numbered(2, "b@example.org")}
			left, problem := deliver(t, server(rude(t, talk), "smtp"), outbox...)
			if diff := cmp.Diff(outbox, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if want := "the server sent more than 256 KiB of replies"; !strings.HasSuffix(problem, want) || strings.Count(problem, want) != 1 || strings.Contains(problem, "a@example.org") {
				t.Errorf("problem %q, want %q", problem, want)
			}
		})
	}
}

func TestAServerThatDoesNotReplyToQUITHasItAll(t *testing.T) {
	t.Parallel()
	s := server(rude(t, func(c *wire) {
		c.say("220 mx")
		c.until("QUIT")
		c.fall()
	}), "smtp")
	s.Timeout = time.Minute
	start := time.Now()
	left, problem := deliver(t, s, numbered(1, "a@example.org"))
	if left != nil || problem != "" {
		t.Errorf("left %v, problem %q", left, problem)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestASignalEndsDelivery(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := server(rude(t, func(c *wire) {
		cancel()
		c.fall()
	}), "smtp")
	s.Timeout = time.Minute
	start := time.Now()
	left, err := s.Deliver(ctx, []state.Message{numbered(1, "a@example.org")})
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if want := fmt.Sprintf("mail to a@example.org via %s: interrupted", s.Via); err == nil || err.Error() != want || len(left) != 1 {
		t.Errorf("error %v, want %s; left %v", err, want, left)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, strange := newAuthority(t, "ours"), newAuthority(t, "strange")
	good, foreign, misnamed := ours.server(t, "127.0.0.1"), strange.server(t, "127.0.0.1"), ours.server(t, "192.0.2.1")
	old := ours.server(t, "127.0.0.1")
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10

	const noSTARTTLS = "the server offers no STARTTLS, without which neither mail nor password is sent"
	const strangeCA = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
	const wrongName = "tls: failed to verify certificate: x509: certificate is valid for 192.0.2.1, not 127.0.0.1"
	tests := []struct {
		name     string
		scheme   string
		secure   *tls.Config
		implicit bool
		want     string // "TLS", "plain", or the problem
	}{
		{"smtp, none offered", "smtp", nil, false, "plain"},
		{"smtp, a good certificate", "smtp", good, false, "TLS"},
		{"smtp, a certificate of an unknown authority: as if none had been offered", "smtp", foreign, false, "plain"},
		{"smtp, another's certificate", "smtp", misnamed, false, "plain"},
		{"smtp, TLS 1.1", "smtp", old, false, "plain"},
		{"smtp+starttls, none offered", "smtp+starttls", nil, false, noSTARTTLS},
		{"smtp+starttls, a good certificate", "smtp+starttls", good, false, "TLS"},
		{"smtp+starttls, a certificate of an unknown authority", "smtp+starttls", foreign, false, strangeCA},
		{"smtp+starttls, another's certificate", "smtp+starttls", misnamed, false, wrongName},
		{"smtps, a good certificate", "smtps", good, true, "TLS"},
		{"smtps, a certificate of an unknown authority", "smtps", foreign, true, strangeCA},
		{"smtps, another's certificate", "smtps", misnamed, true, wrongName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			box, ln := &mailbox{}, listen(t)
			box.serve(t, ln, tt.secure, tt.implicit)
			s := server(ln, tt.scheme)
			s.Roots = ours.roots()
			left, problem := deliver(t, s, numbered(1, "a@example.org"), numbered(2, "a@example.org"))
			for i, d := range box.deliveries() {
				if d.TLS != (tt.want == "TLS") {
					t.Errorf("message %d: TLS %v, want %s", i+1, d.TLS, tt.want)
				}
			}
			if tt.want == "TLS" || tt.want == "plain" {
				if left != nil || problem != "" || len(box.deliveries()) != 2 {
					t.Errorf("left %v, problem %q", left, problem)
				}
				return
			}
			if want := fmt.Sprintf("mail to a@example.org via %s://127.0.0.1:PORT: %s", tt.scheme, tt.want); problem != want {
				t.Errorf("problem %q, want %q", problem, want)
			}
			if len(left) != 2 || len(box.deliveries()) != 0 {
				t.Errorf("left %v, delivered %v", left, box.summary())
			}
		})
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	good := ours.server(t, "127.0.0.1")
	tests := []struct {
		name     string
		scheme   string
		secure   *tls.Config
		implicit bool
		ways     []string
		password string
		want     string // the way, or the problem
	}{
		{"over implicit TLS", "smtps", good, true, []string{"PLAIN"}, "s3cret", "PLAIN"},
		{"over STARTTLS", "smtp+starttls", good, false, []string{"PLAIN"}, "s3cret", "PLAIN"},
		{"over STARTTLS where it need not be", "smtp", good, false, []string{"LOGIN"}, "s3cret", "LOGIN"},
		{"in plain to this machine", "smtp", nil, false, []string{"PLAIN"}, "s3cret", "PLAIN"},
		{"in plain to this machine, by LOGIN", "smtp", nil, false, []string{"LOGIN"}, "s3cret", "LOGIN"},
		{"by the best mechanism that is offered", "smtp", nil, false, []string{"PLAIN", "LOGIN", "CRAM-MD5"}, "s3cret", "CRAM-MD5"},
		{
			"a wrong password", "smtps", good, true,
			[]string{"PLAIN"},
			"wrong",
			`SMTP AUTH failed: 454 4.7.0 wrong user or password`,
		},
		{
			"no mechanism that the library knows", "smtps", good, true,
			[]string{"GSSAPI"},
			"s3cret",
			"SMTP Auth autodiscover was not able to detect a supported authentication mechanism",
		},
		{
			"no mechanism at all", "smtps", good, true, nil, "s3cret",
			"server does not support SMTP AUTH",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			box, ln := &mailbox{Ways: tt.ways}, listen(t)
			box.serve(t, ln, tt.secure, tt.implicit)
			s := server(ln, tt.scheme)
			s.Roots, s.User, s.Password = ours.roots(), "ops", tt.password
			left, problem := deliver(t, s, numbered(1, "a@example.org"))
			if got := box.deliveries(); len(got) == 1 {
				if got[0].Way != tt.want || left != nil || problem != "" {
					t.Errorf("login by %q, want %q; left %v, problem %q", got[0].Way, tt.want, left, problem)
				}
				return
			}
			if want := fmt.Sprintf("mail to a@example.org via %s://127.0.0.1:PORT: %s", tt.scheme, tt.want); problem != want || len(left) != 1 {
				t.Errorf("problem %q, want %q; left %v", problem, want, left)
			}
		})
	}
}

func TestWhenTLSIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		scheme, user, peer string
		want               bool // TLS is needed
	}{
		{"smtp", "", "127.0.0.1:25", false},
		{"smtp", "", "192.0.2.1:25", false},
		{"smtp", "ops", "127.0.0.1:25", false},
		{"smtp", "ops", "127.0.1.1:25", false},
		{"smtp", "ops", "[::1]:25", false},
		{"smtp", "ops", "[::ffff:127.0.0.1]:25", false},
		{"smtp", "ops", "192.0.2.1:25", true},
		{"smtp", "ops", "[2001:db8::1]:25", true},
		{"smtp", "ops", "[fe80::1%eth0]:25", true},
		{"smtp", "ops", "somewhere", true},
		{"smtp+starttls", "", "127.0.0.1:25", true},
		{"smtps", "", "[::1]:25", true},
	} {
		s := Server{Via: Via{Scheme: tt.scheme}, User: tt.user}
		if got := s.needsTLS(peer(tt.peer)); got != tt.want {
			t.Errorf("%s, user %q, to %s: TLS needed %v, want %v", tt.scheme, tt.user, tt.peer, got, tt.want)
		}
	}
}

type peer string

func (peer) Network() string  { return "tcp" }
func (p peer) String() string { return string(p) }

// Between hosts a password goes through TLS with a valid certificate, or not
// at all. A message without a password is sent in any case.
func TestAPasswordNeverGoesOverTheNetworkInPlain(t *testing.T) {
	t.Parallel()
	host, err := lab.ForTest(t).Add("standby", "192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	ours, strange := newAuthority(t, "ours"), newAuthority(t, "strange")
	tests := []struct {
		name   string
		secure *tls.Config
		user   string
		want   string // "TLS", "plain", or the problem
	}{
		{"password, no TLS", nil, "ops", "the server offers no STARTTLS, without which neither mail nor password is sent"},
		{
			"password, a certificate of an unknown authority", strange.server(t, "192.0.2.1"), "ops",
			"tls: failed to verify certificate: x509: certificate signed by unknown authority",
		},
		{"password, a good certificate", ours.server(t, "192.0.2.1"), "ops", "TLS"},
		{"no password, no TLS", nil, "", "plain"},
		{"no password, a certificate of an unknown authority", strange.server(t, "192.0.2.1"), "", "plain"},
		{"no password, a good certificate", ours.server(t, "192.0.2.1"), "", "TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ln net.Listener
			if err := host.Do(func() (err error) {
				ln, err = net.Listen("tcp", "192.0.2.1:0")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			box := &mailbox{Ways: []string{"PLAIN", "CRAM-MD5"}}
			box.serve(t, ln, tt.secure, false)
			s := server(ln, "smtp")
			s.Via.Host, s.Roots, s.User, s.Password = "192.0.2.1", ours.roots(), tt.user, "s3cret"

			var problem string
			host.Do(func() error {
				_, problem = deliver(t, s, numbered(1, "a@example.org"))
				return nil
			})
			got := box.deliveries()
			if tt.want == "TLS" || tt.want == "plain" {
				if len(got) != 1 || got[0].TLS != (tt.want == "TLS") || (got[0].Way != "") != (tt.user != "") {
					t.Errorf("delivered %+v, problem %q; want %s", got, problem, tt.want)
				}
				return
			}
			if len(got) != 0 {
				t.Errorf("delivered %+v", got)
			}
			if want := "mail to a@example.org via smtp://192.0.2.1:PORT: " + tt.want; problem != want {
				t.Errorf("problem %q, want %q", problem, want)
			}
		})
	}
}

func TestVia(t *testing.T) {
	for want, via := range map[string]Via{
		"sendmail":                     {Scheme: "sendmail"},
		"sendmail:///usr/lib/sendmail": {Scheme: "sendmail", Path: "/usr/lib/sendmail"},
		"smtp://mx:25":                 {Scheme: "smtp", Host: "mx", Port: 25},
		"smtp+starttls://mx:587":       {Scheme: "smtp+starttls", Host: "mx", Port: 587},
		"smtps://[2001:db8::25]:465":   {Scheme: "smtps", Host: "2001:db8::25", Port: 465},
	} {
		if got := via.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
