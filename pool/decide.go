package pool

import (
	"net/netip"
	"time"

	"pingover/state"
)

// Observation is what this check observed, all of it before anything was
// decided. The zero value of each field is the one that blocks a change.
type Observation struct {
	Set         Set            // as read
	Fault       string         // why it could not be read; "" when it was
	Members     []MemberStatus // a member that is missing is unknown
	Witness     bool           // a witness replied in the last round, or witnesses are switched off
	PausedUntil time.Time      // zero: not paused
	Finished    Finished       // what Settle returned
}

// Settings are the pool's settings that the decision rests on.
type Settings struct {
	Members    []netip.Addr
	Rise       int           // checks in a row
	MinMembers int           // per family
	TTL        time.Duration // of a set to which a record is added
}

// Rules of Decide, as the table in the documentation numbers them.
const (
	RuleUnread  = 1 // the set cannot be read
	RulePaused  = 2 // and something would change
	RuleOurself = 3 // it may be this machine's network
	RuleFewest  = 4 // a family would fall below min-members
	RuleChange  = 5 // somebody leaves or returns
	RuleUnknown = 6 // a member is unknown
	RuleReduced = 7 // a member is out or drained
	RuleOK      = 8
)

// Decision is what Decide answers. Its zero value does nothing.
type Decision struct {
	Rule    int           // number of the first matching rule
	Outcome state.Outcome // if the update succeeds
	Reason  string        // in words; it does not change while nothing changes
	// Leave and Return are one update.
	Leave, Return []netip.Addr
	// Kept would leave, but are kept by RuleOurself or RuleFewest: an alert, also when the outcome
	// is that of another change.
	Kept []netip.Addr
	// Left are published, and are no longer in `members`: an alert.
	Left []netip.Addr
	// Foreign are published, and were never in `members`: shown, and left alone.
	Foreign []netip.Addr
}

// Decide is the policy of a pool: which members leave the record set and which
// return, and why. It is pure; the first matching rule decides. The record is
// the one that Settle returned.
func Decide(r Record, o Observation, set Settings, now time.Time) Decision { return Decision{} }

// DecideDrain is the policy of a manual drain: all the members named, or none.
// The marks are set with Record.Drain unless it is blocked. With force a family
// may fall below min-members, but its last record is never deleted.
func DecideDrain(r Record, s Set, set Settings, members []netip.Addr, force bool, now time.Time) Decision {
	return Decision{}
}
