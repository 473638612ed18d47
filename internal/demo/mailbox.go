package demo

import (
	"bytes"
	"io"
	"log"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"pingover/internal/lab"
)

// mailbox is a mail server that keeps what it gets.
type mailbox struct {
	mu       sync.Mutex
	messages [][]byte
}

// serveMail listens on a host, until close is called.
func serveMail(h *lab.Host) (m *mailbox, close func() error, err error) {
	m = new(mailbox)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return session{m}, nil }))
	server.Domain = h.Name()
	server.ErrorLog = log.New(io.Discard, "", 0) // a client that is killed is no news
	var l net.Listener
	if err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", ":25")
		return err
	}); err != nil {
		return nil, nil, err
	}
	go server.Serve(l)
	return m, server.Close, nil
}

// all are the messages so far, as they came.
func (m *mailbox) all() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.messages)
}

// subjects are those of the messages so far.
func (m *mailbox) subjects() []string {
	var subjects []string
	for _, message := range m.all() {
		subject := "(no mail)"
		if parsed, err := mail.ReadMessage(bytes.NewReader(message)); err == nil {
			subject = parsed.Header.Get("Subject")
		}
		subjects = append(subjects, subject)
	}
	return subjects
}

// session takes every message.
type session struct{ box *mailbox }

func (session) Reset()                               {}
func (session) Logout() error                        { return nil }
func (session) Mail(string, *smtp.MailOptions) error { return nil }
func (session) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (s session) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.messages = append(s.box.messages, message)
	return nil
}

// excerpt is a message as a mail reader shows it, without two of its paragraphs:
// it has to fit on a screen.
func excerpt(message []byte) (lines []string, err error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		return nil, err
	}
	lines = []string{"To: " + m.Header.Get("To"), "Subject: " + m.Header.Get("Subject")}
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n\n") {
		if !strings.HasPrefix(paragraph, "When\n") && !strings.HasPrefix(paragraph, "Commands\n") {
			lines = append(append(lines, ""), strings.Split(strings.TrimSuffix(paragraph, "\n"), "\n")...)
		}
	}
	return lines, nil
}
