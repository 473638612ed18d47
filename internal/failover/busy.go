package failover

import (
	"context"
	"time"

	"pingover/internal/observe"
	"pingover/state"
)

// reportHeldLock reports a lock that another run has held for too long.
func reportHeldLock(ctx context.Context, j *job, busy error) {
	rec := new(state.Record)
	n, due := j.HeldTooLong(ctx, busy, j.Set.Deadline(), func() time.Duration {
		if known, err := j.Dir.Load(j.Name, false); err == nil {
			rec = known
		}
		_, gap := rec.LastCheck()
		return gap
	})
	if !due || j.Set.Mail.Silent() {
		return
	}
	about := About(j.Set, observe.Local{}, rec.Neighbour)
	snapshot, err := j.Snapshot()
	for _, v := range j.Set.VIPs {
		about.VIPs = append(about.VIPs, v.Prefix)
		if err == nil && snapshot.Holds(v.Address()) {
			n.Held = append(n.Held, v.Prefix)
		} else {
			n.Missing = append(n.Missing, v.Prefix)
		}
	}
	j.MailNow(ctx, about, n, j.env.Deliver)
}
