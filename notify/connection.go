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

// TestConnection goes the way of a letter as far as that goes without one: it finds
// sendmail, or talks to the server until that would take a letter. It returns
// what it found, in words, and never lasts longer than Timeout.
func (s Server) TestConnection(ctx context.Context) (how string, err error) {
	if s.Via.Scheme == "sendmail" {
		return s.findSendmail()
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	talk := &conversation{Server: s}
	defer talk.quit()
	if err := talk.connect(ctx); err != nil {
		if ctx.Err() != nil {
			err = whyOver(ctx)
		}
		return "", errors.New(oneLine(err.Error(), maxError))
	}
	return talk.terms(), nil
}

// findSendmail is the program that letters would be handed to.
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

// terms are on what terms the server would take a letter.
func (c *conversation) terms() string {
	terms := []string{"the server answers"}
	if secrecy, ok := c.client.TLSConnectionState(); ok {
		terms = append(terms, tls.VersionName(secrecy.Version))
	} else {
		terms = append(terms, "no TLS")
	}
	if c.User != "" {
		terms = append(terms, fmt.Sprintf("logged in as %q", c.User))
	}
	return strings.Join(terms, ", ")
}

// TestMessage is a letter that only says that letters arrive, with the Message-ID
// <id@Hostname>.
func TestMessage(c Cluster, id string, at time.Time) state.Message {
	var p page
	p.paragraph(fmt.Sprintf("This is a test: pingover doctor --send-mail was typed on %s. Letters about the cluster %s reach you.",
		c.Hostname, c.Name))
	p.paragraph("Nothing has happened, and nothing is to be done.")
	return state.Message{
		MessageID: messageID(id, c.Hostname), Time: at, To: c.To,
		Subject: fmt.Sprintf("%s: a test from pingover on %s", c.Name, c.Hostname),
		Body:    p.String(),
	}
}
