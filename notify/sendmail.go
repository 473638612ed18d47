package notify

import (
	"bytes"
	"cmp"
	"context"
	"time"

	"pingover/internal/proc"
	"pingover/state"
)

// sendmail hands one message to the local sendmail, whichever mailer provides
// it. What it prints is no failure, only its exit code is.
func (s Server) sendmail(ctx context.Context, l state.Message, to string) (said string, err error) {
	path, err := proc.Find(cmp.Or(s.Via.Path, "sendmail"))
	if err != nil {
		return "", unreachable{err}
	}
	m, err := s.message(l, to)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		return "", err
	}
	deadline, _ := ctx.Deadline()
	r := proc.Run(ctx, proc.Command{
		// -i: a line with only a dot is text. --: whatever follows is no flag.
		Argv: []string{path, "-i", "-f", m.GetFrom()[0].Address, "--", m.GetTo()[0].Address},
		// A local program expects local line ends.
		Stdin:   bytes.ReplaceAll(text.Bytes(), []byte("\r\n"), []byte("\n")),
		Timeout: max(time.Until(deadline), time.Millisecond),
	})
	if r.Err != nil && r.Code < 0 {
		return "", unreachable{r.Err}
	}
	return r.Output, r.Err
}
