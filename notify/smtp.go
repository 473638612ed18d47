package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"pingover/state"
)

// quitTimeout is how long the server's goodbye is waited for: everything has
// been delivered by then.
const quitTimeout = time.Second

// conversation is the talk with the server during one Deliver. It connects
// when there is something to say, and ends with the context at the latest. The
// library's smtp package is used beneath its mail client, whose errors neither
// keep the server's answer apart nor tell a letter that was accepted from one
// that was not.
type conversation struct {
	Server
	plain   bool // STARTTLS was tried and failed
	conn    net.Conn
	client  *smtp.Client // nil: not connected
	unwatch func() bool
}

// send hands over one message.
func (c *conversation) send(ctx context.Context, l state.Message, to string) (said string, err error) {
	m, err := c.message(l, to)
	if err != nil {
		return "", err
	}
	// The server may have hung up after the last message; that one counts.
	if c.client != nil && c.client.Reset() != nil {
		c.hangUp()
	}
	if c.client == nil {
		if err := c.connect(ctx); err != nil {
			return "", unreachable{err}
		}
	}
	said, err = c.transmit(m)
	if err != nil && !goesOn(err) {
		c.hangUp()
	}
	return said, err
}

// connect dials, and goes on until the server is ready for a message.
func (c *conversation) connect(ctx context.Context) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(c.Via.Host, strconv.Itoa(c.Via.Port)))
	if err != nil {
		return err
	}
	// A context ends the dial only: a server that falls silent, or says a
	// letter a second, is left by closing the connection beneath the talk.
	c.conn, c.unwatch = raw, context.AfterFunc(ctx, func() { raw.Close() })

	conn, secrecy := raw, &tls.Config{ServerName: c.Via.Host, RootCAs: c.Roots}
	if c.Via.Scheme == "smtps" {
		secure := tls.Client(raw, secrecy)
		if err := secure.HandshakeContext(ctx); err != nil {
			return said(err)
		}
		conn = secure
	}
	if c.client, err = smtp.NewClient(conn, c.Via.Host); err != nil {
		return said(err)
	}
	if err := c.client.Hello(cmp.Or(c.Hostname, "localhost")); err != nil {
		return said(err)
	}
	if c.Via.Scheme != "smtps" {
		must := c.needsTLS(raw.RemoteAddr())
		offered, _ := c.client.Extension("STARTTLS")
		if must && !offered {
			return errors.New("the server offers no STARTTLS, without which neither mail nor password is sent")
		}
		if offered && (must || !c.plain) {
			switch err := c.client.StartTLS(secrecy); {
			case err != nil && must:
				return fmt.Errorf("STARTTLS: %s", said(err))
			case err != nil:
				c.plain = true
				c.hangUp()
				return c.connect(ctx)
			}
		}
	}
	if c.User == "" {
		return nil
	}
	return c.login()
}

// needsTLS says whether nothing may be said to the server at that address
// without TLS and a valid certificate. By smtp:// mail goes in plain where the
// server has no STARTTLS, so one whose STARTTLS fails, such as the mailer on
// this machine with a certificate that nobody signed, is no worse. A password
// goes in plain to nobody but this machine.
func (s Server) needsTLS(peer net.Addr) bool {
	if s.Via.Scheme != "smtp" {
		return true
	}
	at, err := netip.ParseAddrPort(peer.String())
	here := err == nil && at.Addr().IsLoopback()
	return s.User != "" && !here
}

// login proves to the server who we are, by the best way that it offers.
// Whether the connection is fit for it has been seen to before.
func (c *conversation) login() error {
	_, offer := c.client.Extension("AUTH")
	offered := strings.Fields(offer)
	ways := []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(c.User, c.Password)},
		{"SCRAM-SHA-1", smtp.ScramSHA1Auth(c.User, c.Password)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(c.User, c.Password)},
		{"PLAIN", smtp.PlainAuth("", c.User, c.Password, c.Via.Host, true)},
		{"LOGIN", smtp.LoginAuth(c.User, c.Password, c.Via.Host, true)},
	}
	for _, way := range ways {
		if !slices.Contains(offered, way.name) {
			continue
		}
		if err := c.client.Auth(way.auth); err != nil {
			return fmt.Errorf("login as %q by %s: %s", c.User, way.name, said(err))
		}
		return nil
	}
	return fmt.Errorf("login as %q: the server offers no way that we know (AUTH %q)", c.User, offer)
}

// transmit is one mail transaction. It succeeded when the server has accepted
// the text, whatever happens to the connection then.
func (c *conversation) transmit(m *mail.Msg) (answer string, err error) {
	from, err := m.GetSender(false)
	if err != nil {
		return "", err
	}
	to, err := m.GetRecipients()
	if err != nil {
		return "", err
	}
	// Some mailers pass a message on only to such as support SMTPUTF8 when it
	// came with it, even if it is all ASCII like ours.
	c.client.SkipSMTPUTF8(ascii(from + to[0]))
	if err := c.client.Mail(from); err != nil {
		return "", said(err)
	}
	if err := c.client.Rcpt(to[0]); err != nil {
		if err = said(err); goesOn(err) {
			return "", refused{err}
		}
		return "", err
	}
	text, err := c.client.Data()
	if err != nil {
		return "", said(err)
	}
	if _, err := m.WriteTo(text); err != nil {
		return "", said(err)
	}
	if err := text.Close(); err != nil {
		return "", said(err)
	}
	if closed, ok := text.(*smtp.DataCloser); ok {
		answer = closed.ServerResponse()
	}
	return answer, nil
}

// quit ends the conversation politely.
func (c *conversation) quit() {
	if c.client == nil {
		return
	}
	c.conn.SetDeadline(time.Now().Add(quitTimeout))
	c.client.Quit()
	c.hangUp()
}

func (c *conversation) hangUp() {
	c.unwatch()
	c.conn.Close()
	c.client = nil
}

// reply is the server's answer as it gave it; the library quotes its text.
type reply struct {
	code int
	text string
}

func (r reply) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// said is what the library's error says about the server: its answer, or that
// it went away.
func said(err error) error {
	if r, ok := errors.AsType[*textproto.Error](err); ok {
		return reply{r.Code, r.Msg}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the server hung up")
	}
	return err
}

// goesOn says whether the talk can go on after the error, for it was no more
// than an answer.
func goesOn(err error) bool {
	_, ok := errors.AsType[reply](err)
	return ok
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
