package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pingover/internal/config"
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
func ExamineIn(ctx context.Context, w Env, c config.Cluster, sendMail bool) []Finding {
	e := &examination{}
	e.run = newRun(w, c, Options{DryRun: true, OnEvent: e.hear})
	defer e.deafen()
	e.examineRights()
	e.examineStateDir()
	e.examineRecord()
	e.examineGround(ctx)
	e.examineTime()
	e.examineHooks()
	e.examineMetrics()
	e.examineMail(ctx, sendMail)
	return e.found
}

// examination is a run that only looks, and what it found.
type examination struct {
	*run
	found   []Finding
	noted   []string // by the functions of a check, and not passed on yet
	unknown bool     // what the record says
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
	if note, ok := event.(Note); ok {
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
