package notify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"pingover/internal/proc"
	"pingover/state"
)

// sendmail hands one message to the local MTA. Its exit code alone tells
// success; output is no failure. As from cron, a bare local name and a missing
// sender are left to the MTA, which knows its aliases and its domain.
func (s Server) sendmail(ctx context.Context, m state.Message, to string) (reply string, err error) {
	path, err := proc.Find(cmp.Or(s.Via.Path, "sendmail"))
	if err != nil {
		return "", unreachable{err}
	}
	argv := []string{path, "-i"} // -i: a line with only a dot is text
	msg := message(m)
	if s.From != "" {
		from, err := setAddress(msg, mail.HeaderFrom, s.From)
		if err != nil {
			return "", fmt.Errorf("mail-from: %w", err)
		}
		argv = append(argv, "-f", from)
	} else {
		msg.SetGenHeader("From", defaultSender(s.Hostname))
	}
	recipient, err := setAddress(msg, mail.HeaderTo, to)
	if err != nil {
		return "", refused{err}
	}
	var text bytes.Buffer
	if _, err := msg.WriteTo(&text); err != nil {
		return "", err
	}
	deadline, _ := ctx.Deadline()
	r := proc.Run(ctx, proc.Command{
		Argv: append(argv, "--", recipient), // --: an address is no flag
		// A local program expects local line ends.
		Stdin:   bytes.ReplaceAll(text.Bytes(), []byte("\r\n"), []byte("\n")),
		Timeout: max(time.Until(deadline), time.Millisecond),
	})
	if r.Err != nil && r.Code < 0 {
		return "", unreachable{r.Err}
	}
	return r.Output, r.Err
}

// defaultSender is the From header for sendmail: the MTA adds its domain. A
// display name with a dot needs quotes (RFC 5322).
func defaultSender(hostname string) string {
	name := "pingover on " + strings.Map(func(r rune) rune {
		if plainWord(r) {
			return r
		}
		return '-'
	}, hostname)
	if strings.Contains(name, ".") {
		name = `"` + name + `"`
	}
	return name + " <pingover>"
}
