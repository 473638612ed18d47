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
	Path   string // of sendmail; "": found
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

// Server is how mail leaves this machine, and as whose.
type Server struct {
	Via      Via
	From     string
	User     string // "": no login
	Password string
	Roots    *x509.CertPool // that certificates lead to; nil: the system's
	Timeout  time.Duration  // for all mail of one Deliver; 0: 15 s
	Hostname string         // of this machine, for the greeting
}

// What a failure means for the letters that still wait; any other error is
// about the one message only.
type (
	unreachable struct{ error } // there is nobody to hand them to: all wait
	refused     struct{ error } // this recipient is not taken now: theirs wait
)

func (r refused) Unwrap() error { return r.error }

// Deliver hands over the letters of the outbox, the newest (last) first, one
// message to each recipient, and returns those that are left, to be tried
// again by a later run under the same Message-ID. The error says why something
// is left. It never lasts longer than Timeout.
//
// A recipient who is refused for good (5xx) is owed the letter like any other:
// the refusal may be the server's mistake, and a letter about a failover is
// worth another try. It costs the others nothing, for in one run a refused
// recipient is asked for only once, and the outbox is bounded.
func (s Server) Deliver(ctx context.Context, outbox []state.Message) (left []state.Message, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	send, end := s.way()
	defer end()

	var problems []string
	allWait := false
	waits := map[string]bool{}
	for _, l := range slices.Backward(outbox) {
		var owed []string
		for _, to := range l.To {
			if allWait || waits[to] {
				owed = append(owed, to)
				continue
			}
			_, err := send(ctx, l, to)
			if err == nil {
				continue
			}
			owed = append(owed, to)
			if ctx.Err() != nil {
				err = unreachable{whyOver(ctx)}
			}
			allWait = errors.As(err, new(unreachable))
			waits[to] = errors.As(err, new(refused))
			problems = append(problems, s.problem(to, err))
		}
		if len(owed) > 0 {
			l.To = owed
			left = append(left, l)
		}
	}
	slices.Reverse(left)

	if len(problems) > 0 {
		err = errors.New(strings.Join(distinct(problems), "; "))
	}
	return left, err
}

// SendTest hands over one letter to one recipient now, and returns what whoever
// took it said to that. It never lasts longer than Timeout.
func (s Server) SendTest(ctx context.Context, l state.Message, to string) (said string, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	send, end := s.way()
	defer end()
	said, err = send(ctx, l, to)
	if err != nil && ctx.Err() != nil {
		err = whyOver(ctx)
	}
	if err != nil {
		return "", errors.New(s.problem(to, err))
	}
	return oneLine(said, maxError), nil
}

// limit is ctx for all mail of one run.
func (s Server) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := cmp.Or(s.Timeout, defaultTimeout)
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done within %s", timeout))
}

// way is how one message after the other is handed over; end has to be called
// after the last.
func (s Server) way() (send func(context.Context, state.Message, string) (said string, err error), end func()) {
	if s.Via.Scheme == "sendmail" {
		return s.sendmail, func() {}
	}
	talk := &conversation{Server: s}
	return talk.send, talk.quit
}

func (s Server) problem(to string, err error) string {
	return fmt.Sprintf("mail to %s via %s: %s", to, s.Via, oneLine(err.Error(), maxError))
}

// whyOver says why the time for mail is over.
func whyOver(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return errors.New("interrupted")
}

// message is the letter as one recipient gets it.
func (s Server) message(l state.Message, to string) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(s.From); err != nil {
		return nil, fmt.Errorf("from %q: %s", s.From, err)
	}
	if err := m.To(to); err != nil {
		return nil, refused{fmt.Errorf("%q is no mail address", to)}
	}
	m.Subject(l.Subject)
	m.SetDateWithValue(l.Time)
	m.SetGenHeader(mail.HeaderMessageID, l.MessageID)
	if l.InReplyTo != "" {
		m.SetGenHeader(mail.HeaderInReplyTo, l.InReplyTo)
		m.SetGenHeader(mail.HeaderReferences, l.InReplyTo)
	}
	// RFC 3834: no vacation notice is to answer this.
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(mail.TypeTextPlain, l.Body)
	return m, nil
}
