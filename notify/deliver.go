package notify

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"pingover/state"
)

// defaultTimeout is for all mail of one run.
const defaultTimeout = 15 * time.Second

// Via is the way mail leaves this machine.
type Via struct {
	Scheme string // sendmail, smtp, smtp+starttls, smtps
	Path   string // of sendmail; "": found on PATH
	Host   string
	Port   int
}

func (v Via) String() string {
	switch {
	case v.Scheme != "sendmail":
		return v.Scheme + "://" + net.JoinHostPort(v.Host, strconv.Itoa(v.Port))
	case v.Path != "":
		return "sendmail://" + v.Path
	}
	return v.Scheme
}

// hint names the scheme of the well-known port where it is another (RFC 8314).
func (v Via) hint() string {
	right := ""
	switch {
	case v.Port == 465 && v.Scheme != "smtps":
		right = "smtps"
	case v.Port == 587 && v.Scheme == "smtps":
		right = "smtp+starttls"
	case v.Port == 25 && v.Scheme == "smtps":
		right = "smtp"
	default:
		return ""
	}
	return fmt.Sprintf(" (port %d is that of %s://%s)", v.Port, right, v.Host)
}

// Server is how mail leaves this machine, and its sender.
type Server struct {
	Via      Via
	From     string // "": the MTA's default for sendmail; User or pingover@FQDN for SMTP
	User     string // "": no login
	Password string
	Roots    *x509.CertPool // nil: the system's
	Timeout  time.Duration  // for all mail of one Deliver; 0: 15 s
	Hostname string         // of this machine
	HELO     string         // "": the FQDN, else the socket's address literal
	lookup   lookupName     // of the FQDN; nil: the system's resolver
}

// What a failure means for the messages that are left; any other error is
// about the one message only.
type (
	unreachable struct{ error } // no MTA or server: all wait
	refused     struct{ error } // this recipient is rejected: theirs wait
)

func (r refused) Unwrap() error { return r.error }

// Deliver hands over the messages of the outbox, the newest (last) first, one
// message to each recipient, and returns those that are left, for a later run
// to try again under the same Message-ID. The error says why something is left.
// It never takes longer than Timeout.
//
// A message to a recipient who was rejected for good (5xx) stays too: the
// rejection may be the server's mistake, and a message about a failover is
// worth another try. It does not affect the others, for a rejected recipient is
// tried once in a run, and the outbox is bounded.
func (s Server) Deliver(ctx context.Context, outbox []state.Message) (left []state.Message, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	send, end := s.transport()
	defer end()

	var problems []string
	allWait := false
	waits := map[string]bool{}
	for _, m := range slices.Backward(outbox) {
		var pending []string
		for _, to := range m.To {
			if allWait || waits[to] {
				pending = append(pending, to)
				continue
			}
			_, err := send(ctx, m, to)
			if err == nil {
				continue
			}
			pending = append(pending, to)
			if ctx.Err() != nil {
				err = unreachable{whyEnded(ctx)}
			}
			allWait = errors.As(err, new(unreachable))
			waits[to] = errors.As(err, new(refused))
			problems = append(problems, s.problem(to, err))
		}
		if len(pending) > 0 {
			m.To = pending
			left = append(left, m)
		}
	}
	slices.Reverse(left)

	if len(problems) > 0 {
		err = errors.New(strings.Join(distinct(problems), "; "))
	}
	return left, err
}

// SendTest hands over one message to one recipient now, and returns the reply
// of the MTA or server. It never takes longer than Timeout.
func (s Server) SendTest(ctx context.Context, m state.Message, to string) (reply string, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	send, end := s.transport()
	defer end()
	reply, err = send(ctx, m, to)
	if err != nil && ctx.Err() != nil {
		err = unreachable{whyEnded(ctx)}
	}
	if err != nil {
		return "", errors.New(s.problem(to, err))
	}
	return oneLine(reply, maxError), nil
}

// limit is ctx for all mail of one run.
func (s Server) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout(), fmt.Errorf("not done within %s", s.timeout()))
}

func (s Server) timeout() time.Duration { return cmp.Or(s.Timeout, defaultTimeout) }

// transport sends one message after the other; end must be called after the
// last.
func (s Server) transport() (send func(context.Context, state.Message, string) (reply string, err error), end func()) {
	if s.Via.Scheme == "sendmail" {
		return s.sendmail, func() {}
	}
	session := &smtpSession{Server: s}
	return session.send, session.quit
}

func (s Server) problem(to string, err error) string {
	text := oneLine(err.Error(), maxError)
	if errors.As(err, new(unreachable)) {
		text += s.Via.hint()
	}
	return fmt.Sprintf("mail to %s via %s: %s", to, s.Via, text)
}

// whyEnded says why there is no more time for mail.
func whyEnded(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errors.New("interrupted")
}

// message is the mail to one recipient, but for its two addresses.
func message(m state.Message) *mail.Msg {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.Subject(m.Subject)
	msg.SetDateWithValue(m.Time)
	msg.SetGenHeader(mail.HeaderMessageID, m.MessageID)
	if m.InReplyTo != "" {
		msg.SetGenHeader(mail.HeaderInReplyTo, m.InReplyTo)
		msg.SetGenHeader(mail.HeaderReferences, m.InReplyTo)
	}
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notice in reply
	if m.Cluster != "" {
		msg.SetGenHeader("X-Pingover-Cluster", m.Cluster)
	}
	if m.Outcome != "" {
		msg.SetGenHeader("X-Pingover-Outcome", m.Outcome)
	}
	msg.SetBodyString(mail.TypeTextPlain, m.Body)
	return msg
}
