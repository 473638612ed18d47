package doctor

import (
	"errors"
	"fmt"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// record is what is known of the last checks.
func (x *examination) record() {
	switch err := x.RecordErr; {
	case errors.As(err, new(*run.Error)):
		x.add(refusal(err))
		return
	case err != nil:
		x.warn(withoutRecord(err), "%v; checks go on with what the kernel shows", err)
	default:
		x.lastCheck()
	}
	x.paused("no takeover and no release")
	if x.Record.ManualRelease {
		x.warn(x.resume(), "released manually: no takeover until the primary has replied once")
	}
	x.suppressed()
	for _, a := range x.Record.Alerts {
		if notify.Kind(a.Kind) == notify.HookFailed {
			x.fail("fix it; then: pingover takeover "+x.set.Name, "post-takeover failed: %s", a.Reason)
		}
	}
	if x.Record.Last != nil && x.Record.NeverUp() && x.Observation.Primary != check.Up {
		x.warn("check the address, the netmask, and that the primary is no guest of this machine that its own host cannot hear (macvlan, macvtap)",
			"%s has never replied to this machine", x.set.Host)
	}
	if x.Record.PendingHook != nil {
		x.warn("wait: the next check runs it", "the hook %s is pending", x.Record.PendingHook.Hook)
	}
}

// paused reports a pause, in which there is no such change.
func (x *subject) paused(none string) {
	switch until, err := x.dir.PausedUntil(x.name); {
	case err != nil:
		x.warn("remove that file", "%v; treated as a pause", err)
	case time.Now().Before(until):
		x.warn(x.resume(), "paused until %s: %s", until.Format("2006-01-02 15:04:05 -0700"), none)
	}
}

func (x *subject) resume() string { return "to end this: pingover resume " + x.name }

// suppressed reports what flap damping holds back.
func (x *subject) suppressed() {
	if n := len(x.head.Damping.Suppressed); n > 0 {
		x.warn("pingover history has them", "flapping: %d notifications are suppressed, and mailed together at %s at the latest",
			n, x.head.Damping.Next.Local().Format("2006-01-02 15:04:05 -0700"))
	}
}

// withoutRecord is what follows from a record that cannot be used.
func withoutRecord(err error) string {
	if corrupt, ok := errors.AsType[*state.CorruptError](err); ok {
		return fmt.Sprintf("nothing, unless a newer pingover wrote it and should run: "+
			"the next check keeps it as %s.bad and writes a new one, without its history and the pending mail", corrupt.Path)
	}
	return "find out why, and fix it: checks go on without its history and the pending mail, and write a new one over it where they can"
}

func (x *subject) lastCheck() {
	if x.head.Last == nil {
		x.warn("put a line with pingover check into the crontab, one a minute", "no check of this %s has been made yet", x.kind)
		return
	}
	age := x.began.Sub(x.head.Last.Time).Round(time.Second)
	overdue := state.Overdue(age, x.head.Gap.Duration())
	grade := x.warn
	if overdue {
		grade = x.fail
	}
	switch {
	case age < 0:
		grade("check the clock, and that cron is running: the next check writes the time anew",
			"the last check is %s in the future: the clock was set back", config.DurationText(-age))
	case overdue:
		x.fail("check that cron is running, and that pingover check is in the crontab",
			"the last check was %s ago, and without checks there is no %s", config.DurationText(age), map[state.Kind]string{state.OfCluster: "takeover", state.OfPool: "change of the records"}[x.kind])
	default:
		x.good("the last check was %s ago", config.DurationText(max(time.Second, age)))
	}
}
