package state

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
)

// NewEvent is an id for a change: when, and a word so that two machines that
// switch in the same moment do not share it.
func NewEvent(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + rand.Text()[:8]
}

// Drift is something that the record did not expect of the kernel.
type Drift uint8

// What a run can find when it compares its record with the kernel.
const (
	NoDrift         Drift = iota
	AliasGone             // assigned by pingover, and not here any more
	ReleaseFinished       // the release of a killed run was carried out, but not recorded
)

// Settle brings the record in line with what the kernel shows, before
// anything is probed or decided: held are the virtual IPs that are here,
// bootID is of this boot. It returns the change that it wrote into the
// history for it, if there was one.
func (r *Record) Settle(held []netip.Addr, bootID string, now time.Time) (Drift, *Change) {
	rebooted := r.BootID != "" && r.BootID != bootID
	r.BootID = bootID
	here := map[netip.Addr]bool{}
	for _, a := range held {
		here[a] = true
	}
	var gone []netip.Addr
	var ended time.Time // the last lease of what has gone
	for i, a := range r.VIPs {
		if a.Raised && !here[a.Address()] {
			if a.Until.After(ended) {
				ended = a.Until
			}
			r.VIPs[i].Raised, r.VIPs[i].Label, r.VIPs[i].Until = false, "", time.Time{}
			gone = append(gone, a.Address())
		}
	}

	switch {
	case r.Role == Releasing && len(held) == 0 && (rebooted || len(r.Offered) == 0):
		change := r.pending(now, Released, "an interrupted release is finished")
		return ReleaseFinished, r.Switched(Standby, change)

	// Nothing is assigned from memory: an address does not survive a boot, and
	// the guards find its present holder.
	case rebooted && len(held) > 0:
		return NoDrift, nil

	case rebooted && r.Role != Active && (r.Role == Standby || len(gone) == 0):
		r.become(Standby, "", now)
		return NoDrift, nil

	case rebooted:
		change := Change{
			Event: NewEvent(now), Time: now, Outcome: Released,
			Reason: "this machine has rebooted: what was taken over is gone",
		}
		r.become(Standby, change.Event, now)
		return AliasGone, r.AddChange(change)

	case r.Role == Active && (len(gone) > 0 || len(held) == 0):
		what := "what was taken over"
		if len(gone) > 0 {
			what = list(gone)
		}
		change := Change{
			Event: NewEvent(now), Time: now, Outcome: Released,
			Reason: what + " is no longer on this machine, and pingover did not remove it",
		}
		expired := !ended.IsZero() && !now.Before(ended)
		if expired {
			change.Reason = fmt.Sprintf("the lease of %s ran out at %s, because no check had renewed it", what, ended.UTC().Format(time.RFC3339))
		}
		if expired && r.Arbiter != nil {
			change.Reason = fmt.Sprintf("the time of %s by the arbiter ended at %s: its key was not renewed", what, ended.UTC().Format(time.RFC3339))
			if r.Arbiter.Fault != "" {
				change.Reason += ", for the arbiter did not answer: " + r.Arbiter.Fault
			}
		}
		if len(held) == 0 {
			if expired { // by our own setting, as a release is
				r.SetPendingHook(PostRelease, change)
			}
			r.become(Standby, change.Event, now)
		}
		return AliasGone, r.AddChange(change)
	}
	return NoDrift, nil
}

// Intend writes an open intent into the record: the switch that is about to
// be made. It has to be saved before anything is done. An intent that is
// open already keeps its change, for it is that change which is finished.
func (r *Record) Intend(role Role, change Change) {
	if r.Role == role && r.Pending != nil {
		return
	}
	if r.Role == Standby || r.Role == Active {
		r.Before = r.Role
	}
	r.Role, r.Event, r.Pending, r.Offered, r.Releasing = role, change.Event, &change, nil, nil
}

// Switched closes the intent: role is what this machine is now, change what
// came of it. The hook that follows such a change is pending from now on.
func (r *Record) Switched(role Role, change Change) *Change {
	switch {
	case change.Outcome == Released:
		r.ManualRelease, r.ManualTakeover, r.NobodyTook = change.Manual, false, false
		r.SetPendingHook(PostRelease, change)
	case role == Active && change.Outcome != Blocked:
		r.ManualRelease = false
		r.ManualTakeover = change.Manual || r.ManualTakeover && r.Before == Active
		if change.Outcome != TakeoverFailed || r.Before != Active { // a failure that is repeated has assigned nothing
			r.SetPendingHook(PostTakeover, change)
		}
	}
	r.become(role, change.Event, change.Time)
	return r.AddChange(change)
}

// SetPendingHook makes the hook of a change pending.
func (r *Record) SetPendingHook(hook string, c Change) {
	r.PendingHook = &PendingHook{Hook: hook, Event: c.Event, Time: c.Time, Reason: c.Reason}
}

// Withdraw closes an intent that came to nothing: the role before it is restored.
func (r *Record) Withdraw(now time.Time) {
	if r.Before != "" {
		r.become(r.Before, r.Event, now)
	}
}

// reopen restores the intent, and the role, that was before this run's.
func (r *Record) reopen(before Record) {
	r.Role, r.Before, r.Event, r.Pending = before.Role, before.Before, before.Event, before.Pending
	r.Offered, r.Releasing = before.Offered, before.Releasing
}

// KeepRole closes an intent that came to nothing, and takes over from the kernel
// what the record did not know: a machine that holds a virtual IP while the primary
// does not reply is the active one, whatever was lost.
func (r *Record) KeepRole(holding bool, primary check.Verdict, now time.Time) {
	role := r.Role
	switch {
	case holding && (primary == check.Down || role == Taking || role == Releasing):
		role = Active
	case !holding:
		role = Standby
	}
	if role != r.Role || r.Pending != nil {
		r.become(role, r.Event, now)
	}
}

// Signs is what the streaks count of one check.
type Signs struct {
	Primary  check.Verdict
	Unserved bool // the primary replied, and no machine has a virtual IP
	Silent   bool // no witness replied, while something was held here
	Holding  bool // something is held here
	Isolated bool // and no witness replied, or it could not be asked whether another machine has it
	Services []ServiceStatus
	// Rehearsed: what a takeover needs was tried; NotReady: and something failed.
	Rehearsed, NotReady bool
}

// StreaksBefore are the streaks that a check which began then goes on from.
func (r *Record) StreaksBefore(began time.Time) Streaks {
	s := r.Streaks
	if r.sameSecond(began) {
		s.Up, s.Unserved, s.Silent, s.Fit = max(0, s.Up-1), max(0, s.Unserved-1), max(0, s.Silent-1), max(0, s.Fit-1)
	}
	return s
}

// NeverUp tells whether the primary has never replied to a ping of this machine.
// Records of the first edition do not know when it did: the last check and the days
// tell, but for those of an earlier primary.
func (r *Record) NeverUp() bool {
	var since time.Time
	if n := len(r.Earlier); n > 0 {
		since = r.Earlier[n-1].Left
	}
	return r.SeenUp.IsZero() && r.Neighbour == "" &&
		(r.Last == nil || r.Last.Primary != check.Up.String() || r.Last.Time.Before(since)) &&
		!slices.ContainsFunc(r.Days, func(d Day) bool { return d.Up > 0 && d.Date > since.UTC().Format(time.DateOnly) })
}

// Count adds a check to the streaks, and makes it the last one. It says
// whether the check ended otherwise than the one before; each switch does, a
// failure that is only repeated does not.
func (r *Record) Count(c Check, s Signs) (changed bool) {
	counts := !r.sameSecond(c.Time)
	streak := func(n *int, goesOn bool) { advance(n, goesOn, counts) }
	changed = r.Head.Count(c)
	streak(&r.Streaks.Up, s.Primary == check.Up)
	streak(&r.Streaks.Unserved, s.Unserved)
	streak(&r.Streaks.Silent, s.Silent)
	streak(&r.Streaks.Isolated, s.Holding && s.Isolated)
	streak(&r.Streaks.Connected, s.Holding && !s.Isolated)
	r.countServices(s, counts)
	if s.Rehearsed {
		streak(&r.Streaks.NotReady, s.NotReady)
		streak(&r.Streaks.Ready, !s.NotReady)
		r.Rehearsed = c.Time
	}
	switch s.Primary {
	case check.Up:
		r.ManualRelease, r.SeenUp = false, c.Time
	case check.Down:
		r.ManualTakeover, r.NobodyTook = false, false
	}
	return changed
}

// Quiet tells whether losing the newest record to a power cut would lose
// nothing that another check does not find again: no syncs are spent on it.
func (r *Record) Quiet() bool {
	return r.Role == Standby && len(r.Outbox) == 0 && !r.ManualRelease && r.PendingHook == nil && len(r.Damping.Suppressed) == 0
}

func (r *Record) become(role Role, event string, now time.Time) {
	before := r.Role
	if r.Before != "" {
		before = r.Before // an intent that leads back to it changes nothing
	}
	if role != before || r.Since.IsZero() {
		r.Since = now
	}
	if role != before {
		r.switchedServices()
	}
	r.Role, r.Before, r.Event, r.Pending, r.Offered, r.Releasing = role, "", event, nil, nil, nil
}

// pending is the change that the open intent stands for, as it ended.
func (r *Record) pending(now time.Time, outcome Outcome, why string) Change {
	change := Change{Event: r.Event, Time: now, Outcome: outcome, Reason: why}
	if r.Pending != nil {
		change = *r.Pending
		change.Time, change.Outcome = now, outcome
		change.Reason += "; " + why
	}
	return change
}
