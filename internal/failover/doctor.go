package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
)

// Grade says how much a finding matters.
type Grade string

// The grades. With a Fail, checks or takeovers would not do what they are
// there for.
const (
	Good Grade = "ok"
	Warn Grade = "warn"
	Fail Grade = "fail"
)

// Finding is one thing that an examination looked at.
type Finding struct {
	Grade Grade
	Text  string
	Mend  string // what to do about it; "" for what is good
}

// Examine tries all that a takeover of the cluster would need, by the same
// functions as a check, and returns what it found. It changes nothing, takes no
// lock, and sends only what a dry run does, and with sendMail a letter to each
// recipient. When ctx ends, what it returns lacks the rest.
func Examine(ctx context.Context, c config.Cluster, sendMail bool) []Finding {
	world, err := Real(c)
	found := ExamineIn(ctx, world, c, sendMail)
	if err != nil {
		found = append([]Finding{finding(err)}, found...)
	}
	return found
}

// ExamineIn is Examine in a world of the caller's making. What lacks a tool, or
// ways of mail, is not asked for them.
func ExamineIn(ctx context.Context, w World, c config.Cluster, sendMail bool) []Finding {
	e := &examination{}
	e.run = newRun(w, c, Options{DryRun: true, Tell: e.hear})
	defer e.deafen()
	e.examineRights()
	e.examineStateDir()
	e.examineRecord()
	e.examineGround(ctx)
	e.examineTime()
	e.examineHooks()
	e.examineMail(ctx, sendMail)
	return e.found
}

// examination is a run that only looks, and what it found.
type examination struct {
	*run
	found []Finding
	noted []string // by the functions of a check, and not passed on yet
}

func (e *examination) good(format string, args ...any) {
	e.found = append(e.found, Finding{Grade: Good, Text: fmt.Sprintf(format, args...)})
}

func (e *examination) warn(mend, format string, args ...any) {
	e.found = append(e.found, Finding{Warn, fmt.Sprintf(format, args...), mend})
}

func (e *examination) fail(mend, format string, args ...any) {
	e.found = append(e.found, Finding{Fail, fmt.Sprintf(format, args...), mend})
}

// refuse takes what a check would refuse to begin with.
func (e *examination) refuse(err error) {
	if f := finding(err); !slices.Contains(e.found, f) {
		e.found = append(e.found, f)
	}
}

// finding is what a check would end with. What has no hint says itself what
// is to be done.
func finding(err error) Finding {
	f := Finding{Fail, err.Error(), "change the settings, or this machine, so that this is so no longer"}
	if refused, ok := errors.AsType[*Error](err); ok && refused.Hint != "" {
		f.Mend = refused.Hint
	}
	return f
}

// hear keeps what a check would note.
func (e *examination) hear(event any) {
	if note, ok := event.(Noted); ok {
		e.noted = append(e.noted, note.Text)
	}
}

// passOn warns of what was noted.
func (e *examination) passOn(mend string) {
	for _, text := range e.noted {
		e.warn(mend, "%s", text)
	}
	e.noted = nil
}

// blamed is what step adds to what makes it impossible to ask.
func (e *examination) blamed(step func()) string {
	before := e.ground.fault
	step()
	return strings.TrimPrefix(strings.TrimPrefix(e.ground.fault, before), "; ")
}

func (e *examination) examineRights() {
	if err := e.MayPing(); err != nil {
		e.fail("run pingover as root, or with the capability CAP_NET_RAW", "%v", err)
	} else {
		e.good("this process may ping")
	}
	if len(e.set.VIPs) == 0 {
		return
	}
	if err := e.MayRaise(); err != nil {
		e.fail("run pingover as root, or with the ambient capabilities CAP_NET_ADMIN and CAP_NET_RAW", "%v", err)
	} else {
		e.good("this process may change addresses, by its tool as well")
	}
}

// lateAfter is the age from which the last check is late, unless checks are
// further apart than a minute.
const lateAfter = 3 * time.Minute

// examineRecord says what is known of the last checks.
func (e *examination) examineRecord() {
	if err := e.recall(); err != nil {
		e.refuse(err)
		e.rec = &state.Record{Version: state.Version, Cluster: e.set.Name, Host: e.set.Host, Role: state.Standby}
		return
	}
	e.passOn("nothing: the next check keeps it aside and writes a new one")
	crontab := "put a line with pingover check into the crontab, one a minute"
	switch age := max(time.Second, time.Since(e.last).Round(time.Second)); {
	case e.last.IsZero():
		e.warn(crontab, "no check of this cluster has been made yet")
	case age > max(lateAfter, 3*e.gap):
		e.warn("is cron running, and is pingover check in the crontab?", "the last check was %s ago", config.DurationText(age))
	default:
		e.good("the last check was %s ago", config.DurationText(age))
	}
	if until := e.pausedUntil(); time.Now().Before(until) {
		e.warn("to end that: pingover resume "+e.set.Name, "paused until %s: nothing is switched", until.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	e.passOn("remove that file")
	if e.rec.ReleasedByHand {
		e.warn("to end that: pingover resume "+e.set.Name, "released by hand: no check takes over before the primary was up once")
	}
	if e.rec.Owed != nil {
		e.warn("nothing: the next check runs it", "the hook %s has not run yet", e.rec.Owed.Hook)
	}
}

// examineTime looks at what the settings make of the time.
func (e *examination) examineTime() {
	if text := e.howLong(); text != "" {
		e.good("%s", text)
	}
	if len(e.set.VIPs) == 0 {
		return
	}
	uptime, err := e.Uptime()
	switch wait := e.set.BootWait - uptime; {
	case err != nil:
		e.fail("see why /proc/uptime cannot be read", "this machine does not tell how long it has been up, so there will be no takeover: %v", err)
	case wait > 0:
		e.warn("wait, or make boot-wait shorter", "this machine has been up for %s: no takeover for another %s",
			config.DurationText(uptime.Round(time.Second)), config.DurationText(wait.Round(time.Second)))
	case e.set.BootWait > 0:
		e.good("this machine has been up for longer than %s", config.DurationText(e.set.BootWait))
	}
}

// examineHooks looks for the operator's commands. That they are there was seen
// when the settings were read.
func (e *examination) examineHooks() {
	for _, name := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		argv := e.hookOf(name)
		if argv == nil {
			continue
		}
		path, err := proc.Find(argv[0])
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			e.fail("put it there, or give another command", "%s: %v", name, err)
			continue
		}
		if open := openToOthers(path); open != (exposure{}) {
			e.warn(open.mend, "%s: %s, and what is in it is run with this process's rights", name, open.what)
			continue
		}
		e.good("%s: %s", name, proc.Line(argv))
	}
}
