package run

import (
	"context"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

// NoRecipient is what a verbose check and doctor say where nobody is mailed.
const NoRecipient = "no recipient configured: changes are not mailed (mail-to)"

// Send hands messages over, and returns those that are left and why.
type Send func(context.Context, []state.Message) (left []state.Message, err error)

// MailServer is the server that mail goes to. The files are read when it is
// needed: they may be replaced while a watch goes on, and what is wrong with them
// concerns the mail alone.
func MailServer(m config.Mail) (notify.Server, error) {
	password, roots, err := m.Credentials()
	return notify.Server{
		Via: notify.Via(m.Via), From: m.From, User: m.User, Password: password, Roots: roots, Timeout: m.Timeout, Hostname: proc.Hostname(), HELO: m.HELO,
	}, err
}

// DeliverOutbox hands the outbox to send, and returns what is left of it and why; nil
// once all is delivered. Failing is the reason of the last run: that mail is
// pending is reported when that begins, and when it ends.
func (r *Run) DeliverOutbox(outbox []state.Message, failing *string, send func([]state.Message) ([]state.Message, error)) (left []state.Message, reason *string) {
	r.Doing("sending mail")
	r.Event(Stage("sending mail"))
	left, err := send(outbox)
	r.Event(Delivered{Sent: len(outbox) - len(left), Waiting: len(left), Error: err})
	switch {
	case err != nil && failing == nil:
		r.Warnf("mail is pending: %v", err)
	case err == nil && failing != nil:
		r.Warnf("mail is delivered again")
	}
	if err != nil {
		reason = new(err.Error())
	}
	return left, reason
}

// SendUnwritten sends the mail of a run whose record could not be written: at once,
// for no later run of another process will know of it. Mail that was pending before is
// left alone, or it would be sent in every run. What lasts, such as an alert or the
// intent of an earlier run, is sent only in the first such run, the one that comes when
// the last record is about one gap old; where there never was a record, a line an hour
// says so. A process that goes on remembers (state.Memory), and its later runs send the
// outbox. Reported says whether this run has. Shown: the line about the outcome has the
// error in it; switched: this run has changed what clients reach; compose adds what the
// run has to tell, nil where there is no recipient.
func (r *Run) SendUnwritten(ctx context.Context, before, h state.Head, saveErr error, shown, switched bool, compose func(state.Head) state.Head, send Send) (_ state.Head, reported bool) {
	last, gap := before.LastCheck()
	first := !r.recalled && !last.IsZero() && r.Began.Sub(last) < max(gap, time.Minute)*3/2
	if !first && !switched {
		r.Event(Note{Text: saveErr.Error(), Warning: state.HourBegins(r.Began, gap)})
		if !r.recalled || len(h.Outbox) == 0 {
			return h, r.recalled
		}
	} else {
		r.Event(Note{Text: saveErr.Error(), Warning: !shown})
	}
	if compose == nil {
		return h, true
	}
	var pending []state.Message
	if !r.recalled {
		pending, h = r.pending, compose(h)
	}
	h.Outbox = slices.Concat(pending, r.sendNow(context.WithoutCancel(ctx), h.Outbox, send)) // or a signal would lose it
	return h, true
}

// sendNow sends messages that no later run will send.
func (r *Run) sendNow(ctx context.Context, messages []state.Message, send Send) (left []state.Message) {
	left, err := send(ctx, messages)
	r.Event(Delivered{Sent: len(messages) - len(left), Waiting: len(left), Error: err})
	if err != nil {
		r.Warnf("mail is lost: %v", err)
	}
	return left
}
