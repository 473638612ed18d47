package failover

import (
	"fmt"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

const (
	// lockPatience is how long what is done by hand waits for a check.
	lockPatience = 90 * time.Second
	// toolPatience is for raising or lowering one address: a few calls of the
	// tool, and the kernel's duplicate address detection.
	toolPatience = 20 * time.Second
	// diskPatience is for all reading and writing of a run.
	diskPatience = 30 * time.Second
	// killPatience is how long a killed child may take to be gone.
	killPatience = 2 * time.Second
)

// longestUsual is the longest that a check takes while nothing hangs: rounds, waits,
// guards and announcements, and hooks as long as they may take. Mail is not
// in it.
func longestUsual(c config.Cluster) time.Duration {
	d := c.LongestLook() + time.Duration(c.Announce)*announceEvery
	if c.Failback {
		d += handOverPatience
	}
	return d + max(hooks(c, c.Hooks.PreTakeover, c.Hooks.PostTakeover), hooks(c, c.Hooks.PreRelease, c.Hooks.PostRelease))
}

func hooks(c config.Cluster, each ...[]string) (d time.Duration) {
	for _, argv := range each {
		if argv != nil {
			d += c.Hooks.Timeout + killPatience
		}
	}
	return d
}

// Longest is the time after which a check of the cluster is given up whatever
// hangs: name server, tool, hook, mail server or disk. Each of these has a
// deadline of its own; this is what they come to.
func Longest(c config.Cluster) time.Duration {
	d := longestUsual(c) + resolveTimeout + diskPatience
	if n := len(c.VIPs); n > 0 {
		// Raise and lower, each behind the other clusters of this machine; a
		// rival that is waited for while announcing, and announced in its turn.
		d += 4*actPatience + looksAgain*(actPatience+lastGuard) + 2*time.Duration(n)*toolPatience + rivalPatience + 2*rivalGone + time.Duration(c.Announce)*announceEvery + handOverPatience
		// A hand-over that fails has hooks of both kinds.
		d += hooks(c, c.Hooks.PreTakeover, c.Hooks.PostTakeover, c.Hooks.PreRelease, c.Hooks.PostRelease)
	}
	if len(c.Mail.To) > 0 {
		d += c.Mail.Timeout + killPatience
	}
	return d.Round(time.Second)
}

// sayHowLong tells an operator who watches what he may have to wait for.
func (r *run) sayHowLong() {
	if text := r.howLong(); text != "" {
		r.note("%s", text)
	}
	if r.opt.DryRun {
		r.note("a check with these settings ends after %s at the latest, whatever hangs", config.DurationText(Longest(r.set)))
	}
}

// howLong says what follows from a check that may not be over when the next
// is due; "" when it will be.
func (r *run) howLong() string {
	d := longestUsual(r.set)
	if d <= time.Minute {
		return ""
	}
	return fmt.Sprintf("with these settings a check can take %s, mail aside; while it runs, further ones end at once with exit code %d",
		config.DurationText(d.Round(time.Second)), codeBusy)
}

// within lets a run take so long. One that hangs where nothing can end it, as
// on a disk that does not answer, is left behind: the process is about to end,
// and frees its lock.
func within[T any](limit time.Duration, r *run, work func(*run) (T, error)) (T, error) {
	type ending struct {
		report T
		err    error
		bug    *InternalError
	}
	ended := make(chan ending, 1)
	go func() {
		var e ending
		defer func() {
			e.bug = RecoveredError(recover())
			ended <- e
		}()
		e.report, e.err = work(r)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case e := <-ended:
		if e.bug != nil {
			panic(e.bug)
		}
		return e.report, e.err
	case <-timer.C:
	}
	r.abandoned.Store(true) // before acting is read: what comes to raise later, sees it
	e := &Error{
		Hung: true, Code: state.Unknown.Code(), Text: fmt.Sprintf("given up after %s, the most that its settings allow: hung while %v; nothing was changed", config.DurationText(limit), r.stage.Load()),
	}
	if r.acting.Load() {
		e.Code = state.StateFailed.Code()
		e.Text = fmt.Sprintf("given up after %s, the most that its settings allow: hung while %v; the next run finishes what was begun", config.DurationText(limit), r.stage.Load())
	}
	var nothing T
	return nothing, e
}
