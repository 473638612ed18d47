package failover

import (
	"context"
	"os"
	"strings"
	"time"

	"pingover/notify"
	"pingover/state"
)

// examineMail goes the way of a letter, with a letter only when that is wanted.
func (e *examination) examineMail(ctx context.Context, send bool) {
	if len(e.set.Mail.To) == 0 {
		grade := e.warn
		if send {
			grade = e.fail
		}
		grade("set mail-to", "%s", nobodyIsTold)
		return
	}
	if file := e.set.Mail.PasswordFile; file != "" {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
			e.warn("chmod 600 "+file, "mail-password-file %s can be read by others", file)
		}
	}
	able := e.TestMail != nil && ctx.Err() == nil
	waiting := "nothing: the next check tries again; if they stay, --send-mail shows why"
	if able && !e.examineMailer(ctx) {
		waiting = "mend what is said of mail here: each check tries again"
	}
	if n := len(e.rec.Outbox); n > 0 {
		e.warn(waiting, "letters are waiting: %d%s", n, e.whyMailWaits())
	}
	if able && send {
		e.sendTrial(ctx)
	}
}

// examineMailer says whether somebody is there to take letters.
func (e *examination) examineMailer(ctx context.Context) bool {
	via := notify.Via(e.set.Mail.Via)
	how, err := e.TestMail(ctx)
	if err != nil {
		e.fail("see that the mailer runs, and that mail-via is right", "mail via %s: %v", via, err)
		return false
	}
	e.good("mail to %s via %s: %s", strings.Join(e.set.Mail.To, ", "), via, how)
	return true
}

func (e *examination) whyMailWaits() string {
	if e.rec.MailError == nil {
		return ""
	}
	return ", for " + *e.rec.MailError
}

// sendTrial sends each recipient a letter.
func (e *examination) sendTrial(ctx context.Context) {
	letter := notify.TestMessage(e.about(), state.NewEvent(e.began), time.Now().UTC().Truncate(time.Second))
	for _, recipient := range letter.To {
		switch said, err := e.SendTest(ctx, letter, recipient); {
		case err != nil:
			e.fail("ask the mail server's people, or give another mail-to, mail-from or mail-via", "%v", err)
		case said == "":
			e.good("mail to %s: handed over", recipient)
		default:
			e.good("mail to %s: handed over: %s", recipient, said)
		}
	}
}
