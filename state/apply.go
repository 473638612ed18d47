package state

import (
	"net/netip"
	"time"

	"pingover/check"
)

// Ending is what became of the open intent.
type Ending uint8

// The endings of a run. The zero value leaves the role and an open intent alone.
const (
	Untouched Ending = iota // nothing was switched; an open intent is left to a later run
	Confirmed               // nothing was switched; the role follows the kernel
	Closed                  // switched, or tried: no intent is open, and Role is the role
	Open                    // tried: the intent stays open, and the next run goes on
)

// Effect is what came of acting, as the record keeps it.
type Effect struct {
	Ending    Ending
	Withdrawn bool         // the intent of this run came to nothing: the one before it is restored
	Role      Role         // of Closed
	Change    *Change      // for the history; nil when nothing was switched
	Aliases   []Alias      // of the virtual IPs, as they are now
	Resume    *Change      // post-takeover becomes pending for it: pre-release may have stopped what goes on
	HookDone  bool         // the hook that follows the change was run already
	Suspend   bool         // automatic failback: nobody took what was handed over
	Unreached []netip.Addr // held, and no witness has replied to it
	Partial   bool         // a part was released: no hook follows
}

// Facts are what the run observed of the rest, as the record keeps it.
type Facts struct {
	Holding   bool // a virtual IP is on this machine
	Primary   check.Verdict
	Neighbour string // the primary's MAC, "" while it is not known
	Limited   bool   // the kernel ends what is assigned after a while, by a lease or the arbiter's key
}

// Apply is the record after a run: before is the one before its intent. The
// change is the one that the history has of it, interrupted the takeover that an
// earlier run began, and was killed in; nil for none.
func (r Record) Apply(before Record, e Effect, f Facts, now time.Time) (after Record, change, interrupted *Change) {
	r.VIPs, r.Neighbour = e.Aliases, f.Neighbour
	if f.Primary == check.Down {
		r.BackReported = false // should it come back once more, that is reported again
	}
	if e.Withdrawn {
		r.reopen(before)
	}
	if e.Resume != nil {
		r.SetPendingHook(PostTakeover, *e.Resume)
	}
	switch e.Ending {
	case Confirmed:
		if r.Role == Taking && r.Pending != nil && f.Limited && !f.Holding { // it may have served the clients for a while
			interrupted = r.Switched(Standby, r.pending(now, TakeoverFailed, "the check that began the takeover was killed, and nothing is assigned"))
		}
		r.KeepRole(f.Holding, f.Primary, now)
		r.Unreached = e.Unreached
	case Closed:
		hook := r.PendingHook
		change = r.Switched(e.Role, *e.Change)
		if e.Partial {
			r.PendingHook = hook
		}
		r.Unreached = e.Unreached
		if e.HookDone {
			r.PendingHook = nil
		}
		r.NobodyTook = r.NobodyTook || e.Suspend
	case Open:
		change = r.AddChange(*e.Change)
	}
	if !f.Holding {
		r.Unreached = nil
	}
	return r, change, interrupted
}
