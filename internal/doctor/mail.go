package doctor

import (
	"context"
	"os"
	"strings"
	"time"

	"pingover/internal/failover"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

// mail takes the way of a message, with a message only when that is wanted.
func (x *examination) mail(ctx context.Context, send bool) {
	if x.set.Mail.Silent() {
		grade := x.warn
		if send {
			grade = x.fail
		}
		grade("set mail-to", "%s", failover.NoRecipient)
		return
	}
	if send && x.set.Mail.Notify != nil {
		x.notifyTest(ctx)
	}
	if len(x.set.Mail.To) == 0 {
		x.good("notifications go to %s", proc.Line(x.set.Mail.Notify))
		return
	}
	if file := x.set.Mail.PasswordFile; file != "" {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			x.warn("chmod 600 "+file, "mail-password-file %s can be read by others", file)
		}
	}
	for _, p := range x.set.Mail.Unusable {
		x.fail("change that setting, or the file it names: until then mail waits", "%v", p)
	}
	able := len(x.set.Mail.Unusable) == 0 && x.env.TestMail != nil && ctx.Err() == nil
	fix := "wait: the next check tries again; if it stays pending, --send-test shows why"
	if able && !x.mailer(ctx) {
		fix = "fix the mailer: each check tries again"
	}
	if n := len(x.Record.Outbox); n > 0 {
		why := ""
		if x.Record.MailError != nil {
			why = ": " + *x.Record.MailError
		}
		if len(x.set.Mail.Unusable) > 0 {
			fix = "fix the credentials: each check tries again"
		}
		x.warn(fix, "messages pending: %d%s", n, why)
	}
	if able && send {
		x.sendTest(ctx)
	}
}

// mailer tells whether the mail server, or sendmail, would accept messages.
func (x *examination) mailer(ctx context.Context) bool {
	via := notify.Via(x.set.Mail.Via)
	how, err := x.env.TestMail(ctx)
	if err != nil {
		x.fail("check that the mailer runs, and that mail-via is right", "mail via %s: %v", via, err)
		return false
	}
	x.good("mail to %s via %s: %s", strings.Join(x.set.Mail.To, ", "), via, how)
	return true
}

// notifyTest hands the notify command a test message.
func (x *examination) notifyTest(ctx context.Context) {
	event := notify.TestEvent(x.about(), state.NewEvent(x.began), time.Now().UTC().Truncate(time.Second))
	if _, err := x.env.Notify.Deliver(ctx, []state.Message{event}); err != nil {
		x.fail("run the command with a line of JSON as its input, and see why it fails", "%v", err)
		return
	}
	x.good("notify: %s has accepted the test message", proc.Line(x.set.Mail.Notify))
}

// sendTest sends each recipient a message.
func (x *examination) sendTest(ctx context.Context) {
	message := notify.TestMessage(x.about(), state.NewEvent(x.began), time.Now().UTC().Truncate(time.Second))
	for _, recipient := range message.To {
		switch reply, err := x.env.SendTest(ctx, message, recipient); {
		case err != nil:
			x.fail("ask the operator of the mail server, or set another mail-to, mail-from or mail-via", "%v", err)
		case reply == "":
			x.good("mail to %s: accepted", recipient)
		default:
			x.good("mail to %s: accepted: %s", recipient, reply)
		}
	}
}

// about is what test messages say of the cluster.
func (x *examination) about() notify.Cluster {
	return failover.About(x.set, x.Local, x.Record.Neighbour)
}
