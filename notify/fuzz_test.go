package notify

import (
	"bytes"
	"io"
	"net"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"pingover/state"
)

// Whatever a server replies: delivery ends, says what it could not deliver in
// one printable line, and loses no message.
func FuzzSMTPReplies(f *testing.F) {
	for _, replies := range []string{
		"",
		"220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n354 go on\r\n250 queued\r\n250 ok\r\n221 bye\r\n",
		"220-mx\r\n220 ESMTP\r\n250-mx\r\n250-SMTPUTF8\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n235 ok\r\n250 ok\r\n550 5.1.1 \"no\" such user\r\n250 ok\r\n",
		"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go on\r\nno TLS",
		"220 mx\r\n502 what\r\n250 mx\r\n451 later\r\n503 what\r\n",
		"220 mx\r\n250-mx\r\n250 AUTH SCRAM-SHA-256 CRAM-MD5\r\n334 ====\r\n334 cj1\r\n",
		"421 \x1b[31mtoo\x00 busy\xff\r\n",
		"354 x\n999999999999 y\n-1 z\n",
	} {
		f.Add([]byte(replies), false)
		f.Add([]byte(replies), true)
	}
	f.Fuzz(func(t *testing.T, replies []byte, login bool) {
		ln := rude(t, func(w *wire) {
			w.SetDeadline(time.Now().Add(time.Second))
			w.Write(replies)
			w.Conn.(*net.TCPConn).CloseWrite()
			w.fall()
		})
		s := Server{
			Via:     Via{Scheme: "smtp", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port},
			Timeout: 3 * time.Second, Hostname: "standby1.example.net",
		}
		if login {
			s.User, s.Password = "ops", "s3cret"
		}
		outbox := []state.Message{numbered(1, "a@example.org", "jürgen@example.org"), numbered(2, "root")}
		start := time.Now()
		left, err := s.Deliver(t.Context(), outbox)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if (len(left) > 0) != (err != nil) {
			t.Errorf("left %v, error %v", left, err)
		}
		if err != nil && (!utf8.ValidString(err.Error()) || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) ||
			strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("error %q", err)
		}
	})
}

// Whatever an outbox holds: it adds no header, and a recipient is one argument.
func FuzzMessage(f *testing.F) {
	f.Add("root", "subject", "<1@standby>", "web")
	f.Add(`"Ops, Team" <ops@example.org>`, "Grüße", "<1@standby>", "")
	f.Add("ops@example.org\r\nBcc: evil@example.org", "x\r\nBcc: evil@example.org\r\n\r\nbody", "x\nBcc: y", "a\rb")
	f.Add("-oQ/tmp/x", "", "", "")
	f.Add("a@b, c@d", "=?utf-8?q?x?=", "", "")
	f.Add("undisclosed: a@b;", strings.Repeat("x ", 600), "", "")
	f.Fuzz(func(t *testing.T, to, subject, id, cluster string) {
		msg := message(state.Message{MessageID: id, InReplyTo: id, Time: night, Subject: subject, Cluster: cluster, Outcome: cluster, Body: "text\n"})
		msg.SetGenHeader("From", defaultSender(cluster))
		address, err := setAddress(msg, gomail.HeaderTo, to)
		if err != nil {
			return
		}
		if address == "" || strings.ContainsAny(address, "\r\n\x00") {
			t.Fatalf("address %q", address)
		}
		var b bytes.Buffer
		if _, err := msg.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(&b)
		if err != nil {
			t.Fatal(err)
		}
		for key := range m.Header {
			switch key {
			case "Auto-Submitted", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "In-Reply-To", "Message-Id", "Mime-Version",
				"References", "Subject", "To", "X-Pingover-Cluster", "X-Pingover-Outcome":
			default:
				t.Errorf("header %s: %q", key, m.Header[key])
			}
		}
		if body, _ := io.ReadAll(m.Body); strings.TrimSpace(string(body)) != "text" {
			t.Errorf("body %q", body)
		}
	})
}
