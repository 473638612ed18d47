package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

// HeldTooLong reports, once an hour, a lock that another run has held for longer
// than a run can take. Its own deadline did not end it: it is stopped, frozen, or
// hangs in the kernel, and until it is gone nothing is checked under this name. Busy
// is what Lock returned, gap is read only when it is needed. The record is the other
// run's, so the notification goes out by MailNow.
func (r *Run) HeldTooLong(ctx context.Context, busy error, deadline time.Duration, gap func() time.Duration) (n notify.Notification, due bool) {
	if e, ok := errors.AsType[*Error](busy); !ok || e.Code != CodeBusy || r.Manual {
		return n, false
	}
	limit := deadline + LockPatience // of a manual command
	pid, since, due := r.Dir.HeldTooLong(ctx, r.Name, r.Began, limit, gap)
	if !due {
		return n, false
	}
	n = notify.Notification{Kind: notify.LockHeld, Time: time.Now().UTC().Truncate(time.Second), Undo: []string{fmt.Sprintf("kill -9 %d", pid)}}
	n.Reason = fmt.Sprintf("run %d has held the lock since %s, longer than a run can take (%s): it is stopped, frozen or hangs",
		pid, since.Local().Format("2006-01-02 15:04:05 -0700"), config.DurationText(limit))
	r.Warnf("%s, and this %s is not checked; to end it: %s", n.Reason, r.Kind, n.Undo[0])
	return n, true
}

// MailNow sends a notification that is not in the outbox of any record.
func (r *Run) MailNow(ctx context.Context, about notify.Cluster, n notify.Notification, send Send) {
	r.sendNow(ctx, []state.Message{notify.Compose(about, []notify.Notification{n}, state.NewEvent(n.Time)+"."+string(n.Kind), "")}, send)
}

// ReportUntrusted reports what root does not run because others can write to it or
// replace it, and what is wrong with mail's credentials: once an hour. With a new
// record it is an error, unless something is held. A check that was made before goes
// on: pre-takeover then blocks, other hooks count as failed, mail stays pending.
func (r *Run) ReportUntrusted(runs []proc.Program, trusted func(argv []string) error, mail config.Mail, before state.Head, holding bool) error {
	last, gap := before.LastCheck()
	warning := r.Manual || state.HourBegins(r.Began, gap)
	for _, p := range proc.Refused(runs, trusted) {
		if last.IsZero() && !holding {
			return &Error{Code: CodeSettings, Text: p.Text, Hint: p.Fix}
		}
		r.Event(Note{Text: p.Text + "; " + p.Fix, Warning: warning})
	}
	for _, err := range mail.Unusable {
		r.Event(Note{Text: err.Error() + "; mail stays pending", Warning: warning})
	}
	return nil
}
