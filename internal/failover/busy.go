package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// reportHeldLock reports, once an hour, a lock that another run has held for longer
// than a run can take. Its own deadline did not end it: it is stopped, frozen, or
// hangs in the kernel, and until it is gone nobody checks this cluster. The record
// is the other run's, so this goes by mail directly.
func reportHeldLock(ctx context.Context, j *job, busy error) {
	if e, ok := errors.AsType[*run.Error](busy); !ok || e.Code != run.CodeBusy || j.mode != modeCheck {
		return
	}
	limit := j.Set.Deadline() + run.LockPatience // of a manual command
	rec := new(state.Record)
	pid, since, due := j.Dir.HeldTooLong(ctx, j.Name, j.Began, limit, func() time.Duration {
		if known, err := j.Dir.Load(j.Name, false); err == nil {
			rec = known
		}
		_, gap := rec.LastCheck()
		return gap
	})
	if !due {
		return
	}
	reason := fmt.Sprintf("run %d has held the lock since %s, longer than a run can take (%s): it is stopped, frozen or hangs",
		pid, since.Local().Format("2006-01-02 15:04:05 -0700"), config.DurationText(limit))
	j.Warnf("%s, and this cluster is not checked; to end it: kill -9 %d", reason, pid)
	if j.Set.Mail.Silent() {
		return
	}
	about := About(j.Set, observe.Local{}, rec.Neighbour)
	var held, missing []netip.Prefix
	snapshot, err := j.Snapshot()
	for _, v := range j.Set.VIPs {
		about.VIPs = append(about.VIPs, v.Prefix)
		if err == nil && snapshot.Holds(v.Address()) {
			held = append(held, v.Prefix)
		} else {
			missing = append(missing, v.Prefix)
		}
	}
	message := notify.Compose(about, []notify.Notification{{
		Kind: notify.LockHeld, Time: now(), Reason: reason, Held: held, Missing: missing, Undo: []string{fmt.Sprintf("kill -9 %d", pid)},
	}}, state.NewEvent(now())+"."+string(notify.LockHeld), "")
	left, err := j.env.Deliver(ctx, []state.Message{message})
	j.Event(run.Delivered{Sent: 1 - len(left), Waiting: len(left), Error: err})
	if err != nil {
		j.Warnf("mail is lost: %v", err)
	}
}
