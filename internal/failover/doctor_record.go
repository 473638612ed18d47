package failover

import (
	"errors"
	"fmt"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

// soonestOverdue is how old the last check may be, however often there was one
// before.
const soonestOverdue = 3 * time.Minute

// Overdue says of the age of the last check, and of the gap between it and the
// one before, whether checks have stopped. One that lies in the future does not
// show that they go on: the clock was set back since.
func Overdue(age, gap time.Duration) bool {
	return age > max(soonestOverdue, 3*gap) || age < -time.Minute
}

// examineRecord says what is known of the last checks.
func (e *examination) examineRecord() {
	_, unread := e.dir.Load(e.set.Name, false)
	err := e.recall()
	e.unknown = unread != nil || err != nil
	if err != nil {
		e.refuse(err)
		e.rec = &state.Record{Head: state.Head{Version: state.Version, Name: e.set.Name}, Host: e.set.Host, Role: state.Standby}
		return
	}
	e.passOn(withoutRecord(unread))
	e.examineLast()
	if until := e.pausedUntil(); time.Now().Before(until) {
		e.warn("to end that: pingover resume "+e.set.Name, "paused until %s: nothing is switched", until.Format("2006-01-02 15:04:05 -0700"))
	}
	e.passOn("remove that file")
	if e.rec.ManualRelease {
		e.warn("to end that: pingover resume "+e.set.Name, "released by hand: no check takes over before the primary was up once")
	}
	if e.rec.PendingHook != nil {
		e.warn("nothing: the next check runs it", "the hook %s has not run yet", e.rec.PendingHook.Hook)
	}
}

// withoutRecord says what comes of a record that Load could not give.
func withoutRecord(err error) string {
	if broken, ok := errors.AsType[*state.CorruptError](err); ok {
		return fmt.Sprintf("nothing, unless a newer pingover wrote it and should run: "+
			"the next check keeps it as %s.bad and writes a new one, without its history and the mail that waits", broken.Path)
	}
	return "see why, and mend it: checks go on without its history and the mail that waits, and write a new one over it where they can"
}

// examineLast says how long ago the last check was.
func (e *examination) examineLast() {
	age := time.Since(e.last).Round(time.Second)
	overdue := Overdue(age, e.gap)
	grade := e.warn
	if overdue {
		grade = e.fail
	}
	switch {
	case e.unknown:
	case e.last.IsZero():
		e.warn("put a line with pingover check into the crontab, one a minute", "no check of this cluster has been made yet")
	case age < 0:
		grade("see that the clock is right, and that cron is running: the next check writes the time anew",
			"the last check lies %s in the future: the clock was set back", config.DurationText(-age))
	case overdue:
		e.fail("is cron running, and is pingover check in the crontab?",
			"the last check was %s ago, and without checks nothing is taken over", config.DurationText(age))
	default:
		e.good("the last check was %s ago", config.DurationText(max(time.Second, age)))
	}
}
