package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"pingover/state"
)

const (
	// quitTimeout is the wait for the reply to QUIT: every message has been
	// accepted by then.
	quitTimeout = time.Second
	// maxReplies bounds what a server can say in one session, in bytes: the
	// library reads replies of any length.
	maxReplies = 256 << 10
)

// smtpSession is the SMTP session of one Deliver. It connects with the first
// message, again after an error that may have ended the session, and is closed
// when the context ends: the library's own context covers the dial only.
type smtpSession struct {
	Server
	withoutTLS bool    // STARTTLS has failed, and is not required
	name       *string // this machine's FQDN, once looked up
	conn       *boundedConn
	mailer     *mail.Client
	client     *smtp.Client // nil: not connected
	unwatch    func() bool
}

// send sends one message to one recipient.
func (s *smtpSession) send(ctx context.Context, m state.Message, to string) (reply string, err error) {
	msg := message(m)
	from, err := setAddress(msg, mail.HeaderFrom, s.qualified(ctx, s.sender()))
	if err != nil {
		return "", fmt.Errorf("mail-from: %w", err)
	}
	recipient, err := setAddress(msg, mail.HeaderTo, s.qualified(ctx, to))
	if err != nil {
		return "", refused{err}
	}
	if s.client == nil {
		if err := s.connect(ctx); err != nil {
			return "", unreachable{err}
		}
	}
	// Some MTAs pass on a message that came with SMTPUTF8 only to servers that
	// support it, even when it is all ASCII.
	s.client.SkipSMTPUTF8(ascii(from + recipient))
	err = s.mailer.SendWithSMTPClient(s.client, msg)
	if msg.IsDelivered() {
		if err != nil { // only the RSET that follows the message has failed
			s.hangUp()
		}
		return msg.ServerResponse(), nil
	}
	failure, ok := errors.AsType[*mail.SendError](err)
	rejected := ok && failure.ErrorCode() > 0
	if !rejected || s.client.Reset() != nil {
		s.hangUp()
	}
	if s.conn.left <= 0 { // it would be no better with the next recipient
		return "", unreachable{errTooLong}
	}
	if rejected && failure.Reason == mail.ErrSMTPRcptTo {
		return "", refused{inWords(err)}
	}
	return "", inWords(err)
}

// connect opens the session: greeting, EHLO, TLS, login.
func (s *smtpSession) connect(ctx context.Context) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(s.Via.Host, strconv.Itoa(s.Via.Port)))
	if err != nil {
		return err
	}
	helo := s.HELO
	if helo == "" {
		helo = cmp.Or(s.fqdn(ctx), addressLiteral(raw.LocalAddr()))
	}
	s.conn = &boundedConn{Conn: raw, left: maxReplies}
	s.unwatch = context.AfterFunc(ctx, func() { raw.Close() })

	var stream net.Conn = s.conn
	secure := &tls.Config{ServerName: s.Via.Host, RootCAs: s.Roots}
	policy := mail.TLSOpportunistic
	switch {
	case s.Via.Scheme == "smtps":
		stream, policy = tls.Client(s.conn, secure), mail.NoTLS
	case s.needsTLS(raw.RemoteAddr()):
		policy = mail.TLSMandatory
	case s.withoutTLS:
		policy = mail.NoTLS
	}
	options := []mail.Option{ // the context ends before the library's timeout
		mail.WithPort(s.Via.Port), mail.WithTimeout(s.timeout() + quitTimeout), mail.WithHELO(helo),
		mail.WithTLSPolicy(policy), mail.WithTLSConfig(secure), mail.WithoutNoop(),
		mail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return stream, nil }),
	}
	if s.User != "" {
		// needsTLS has seen to it that the connection is fit for a password.
		options = append(options, mail.WithUsername(s.User), mail.WithPassword(s.Password), mail.WithOpportunisticSMTPAuth(
			mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthCramMD5, mail.SMTPAuthPlainNoEnc, mail.SMTPAuthLoginNoEnc))
	}
	if s.mailer, err = mail.NewClient(s.Via.Host, options...); err == nil {
		s.client, err = s.mailer.DialToSMTPClientWithContext(ctx)
	}
	if err == nil {
		return nil
	}
	s.hangUp()
	if policy == mail.TLSOpportunistic && s.conn.startTLS && ctx.Err() == nil {
		s.withoutTLS = true
		return s.connect(ctx)
	}
	return inWords(err)
}

// needsTLS says whether nothing may be sent to the server at that address
// without TLS and a valid certificate. By smtp:// a message is sent in plain
// where the server has no STARTTLS, so one whose STARTTLS fails, such as the
// MTA on this machine with a self-signed certificate, is no worse. A
// password is sent in plain only to this machine.
func (s Server) needsTLS(peer net.Addr) bool {
	if s.Via.Scheme != "smtp" {
		return true
	}
	at, err := netip.ParseAddrPort(peer.String())
	here := err == nil && at.Addr().IsLoopback()
	return s.User != "" && !here
}

// quit ends the session.
func (s *smtpSession) quit() {
	if s.client == nil {
		return
	}
	s.conn.SetDeadline(time.Now().Add(quitTimeout))
	s.client.Quit()
	s.hangUp()
}

func (s *smtpSession) hangUp() {
	s.unwatch()
	s.conn.Close()
	s.client = nil
}

var errTooLong error = tooLong{}

type tooLong struct{}

func (tooLong) Error() string {
	return fmt.Sprintf("the server sent more than %d KiB of replies", maxReplies>>10)
}

// boundedConn reads at most so many bytes, and notes that STARTTLS was tried.
type boundedConn struct {
	net.Conn
	left     int
	startTLS bool
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *boundedConn) Write(p []byte) (int, error) {
	c.startTLS = c.startTLS || bytes.HasPrefix(p, []byte("STARTTLS"))
	return c.Conn.Write(p)
}

// inWords is the library's error as an operator reads it: the server's reply
// without quotes, or that it closed the connection.
func inWords(err error) error {
	text := err.Error()
	failure, ok := errors.AsType[*mail.SendError](err)
	if ok { // it unwraps to nothing, and repeats what the caller says
		text, _, _ = strings.Cut(strings.TrimPrefix(text, failure.Reason.String()+": "), ", affected ")
	}
	switch reply, isReply := errors.AsType[*textproto.Error](err); {
	case strings.Contains(text, errTooLong.Error()): // of EHLO, and of the HELO after it
		return errTooLong
	case isReply && strings.Contains(text, "EHLO/HELO exchange failed"):
		text = fmt.Sprintf("HELO rejected: %d %s (set mail-helo)", reply.Code, reply.Msg)
	case isReply:
		text = strings.ReplaceAll(text, reply.Error(), fmt.Sprintf("%d %s", reply.Code, reply.Msg))
	case ok && failure.ErrorCode() > 0:
		before, _, _ := strings.Cut(text, `"`)
		if quoted, err := strconv.QuotedPrefix(text[len(before):]); err == nil {
			unquoted, _ := strconv.Unquote(quoted)
			text = before + unquoted
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.HasPrefix(text, "EOF"), strings.HasPrefix(text, "unexpected EOF"):
		text = "the server closed the connection"
	case strings.HasSuffix(text, "does not support STARTTLS"):
		text = "the server offers no STARTTLS, without which neither mail nor password is sent"
	}
	return errors.New(text)
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
