package doctor

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// mail takes the way of a message, with a message only when that is wanted.
func (x *subject) mail(ctx context.Context, send bool) {
	if x.way.Silent() {
		grade := x.warn
		if send {
			grade = x.fail
		}
		grade("set mail-to", "%s", run.NoRecipient)
		return
	}
	if send && x.way.Notify != nil {
		x.notifyTest(ctx)
	}
	if len(x.way.To) == 0 {
		x.good("notifications go to %s", proc.Line(x.way.Notify))
		return
	}
	if file := x.way.PasswordFile; file != "" {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			x.warn("chmod 600 "+file, "mail-password-file %s can be read by others", file)
		}
	}
	for _, p := range x.way.Unusable {
		x.fail("change that setting, or the file it names: until then mail waits", "%v", p)
	}
	able := len(x.way.Unusable) == 0 && x.testMail != nil && ctx.Err() == nil
	if via := x.way.Via; able && via.Scheme == "sendmail" {
		able = x.trusted("mail-via", []string{cmp.Or(via.Path, "sendmail")})
	}
	fix := "wait: the next check tries again; if it stays pending, --send-test shows why"
	if able && !x.mailer(ctx) {
		fix = "fix the mailer: each check tries again"
	}
	if n := len(x.head.Outbox); n > 0 {
		why := ""
		if x.head.MailError != nil {
			why = ": " + *x.head.MailError
		}
		if len(x.way.Unusable) > 0 {
			fix = "fix the credentials: each check tries again"
		}
		x.warn(fix, "messages pending: %d%s", n, why)
	}
	if able && send {
		x.sendTest(ctx)
	}
}

// mailer tells whether the mail server, or sendmail, would accept messages.
func (x *subject) mailer(ctx context.Context) bool {
	via := notify.Via(x.way.Via)
	how, err := x.testMail(ctx)
	if err != nil {
		x.fail("check that the mailer runs, and that mail-via is right", "mail via %s: %v", via, err)
		return false
	}
	x.good("mail to %s via %s: %s", strings.Join(x.way.To, ", "), via, how)
	return true
}

// notifyTest hands the notify command a test message.
func (x *subject) notifyTest(ctx context.Context) {
	event := notify.TestEvent(x.about, state.NewEvent(x.began), time.Now().UTC().Truncate(time.Second))
	if _, err := x.command.Deliver(ctx, []state.Message{event}); err != nil {
		x.fail("run the command with a line of JSON as its input, and see why it fails", "%v", err)
		return
	}
	x.good("notify: %s has accepted the test message", proc.Line(x.way.Notify))
}

// sendTest sends each recipient a message.
func (x *subject) sendTest(ctx context.Context) {
	message := notify.TestMessage(x.about, state.NewEvent(x.began), time.Now().UTC().Truncate(time.Second))
	fix := "ask the operator of the mail server, or set another mail-to, mail-from or mail-via"
	if x.way.Via.Scheme == "sendmail" {
		fix = "fix the mail system of this machine, which reports this, or set mail-via to an SMTP server"
	}
	for _, recipient := range message.To {
		switch reply, err := x.sendMail(ctx, message, recipient); {
		case err != nil:
			x.fail(fix, "%v", err)
		case reply == "":
			x.good("mail to %s: accepted", recipient)
		default:
			x.good("mail to %s: accepted: %s", recipient, reply)
		}
	}
}
