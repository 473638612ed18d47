package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/proc"
	"pingover/state"
)

// TestConnection does all that a delivery does but the message: it finds
// sendmail, or opens an SMTP session. It returns what it found, in words, and
// never takes longer than Timeout.
func (s Server) TestConnection(ctx context.Context) (how string, err error) {
	if s.Via.Scheme == "sendmail" {
		return s.findSendmail()
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	session := &smtpSession{Server: s}
	defer session.quit()
	if err := session.connect(ctx); err != nil {
		if ctx.Err() != nil {
			err = whyEnded(ctx)
		}
		return "", errors.New(oneLine(err.Error(), maxError) + s.Via.hint())
	}
	return session.terms(), nil
}

// findSendmail is the program that would get the message.
func (s Server) findSendmail() (string, error) {
	path, err := proc.Find(cmp.Or(s.Via.Path, "sendmail"))
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return "", fmt.Errorf("%s: not executable: %v", path, err)
	}
	return path, nil
}

// terms describes the open session.
func (s *smtpSession) terms() string {
	terms := []string{"the server replies"}
	if state, ok := s.client.TLSConnectionState(); ok {
		terms = append(terms, tls.VersionName(state.Version))
	} else {
		terms = append(terms, "no TLS")
	}
	if s.User != "" {
		terms = append(terms, fmt.Sprintf("logged in as %q", s.User))
	}
	return strings.Join(terms, ", ")
}

// TestMessage is a message that only says that messages arrive, with the
// Message-ID <id@Hostname>.
func TestMessage(c Cluster, id string, at time.Time) state.Message {
	var p page
	p.paragraph(fmt.Sprintf("This is a test, sent by pingover doctor on %s. Messages about the cluster %s reach you.", c.Hostname, c.Name))
	p.paragraph("Nothing has happened, and there is nothing to do.")
	return state.Message{
		MessageID: messageID(id, c.Hostname), Time: at, To: c.To,
		Subject: tagged(c, "test message from "+c.Hostname),
		Body:    p.String(), Cluster: c.Name,
	}
}
