package state

// Outcome is the word for how one check ended. Scripts know it by its exit
// code, people and JSON by the word itself.
type Outcome string

// The outcomes of a check that could be made, in the order of their codes.
const (
	OK             Outcome = "ok"              // the primary replies; this machine stands by
	Holding        Outcome = "holding"         // a failover is in effect here
	TookOver       Outcome = "took-over"       // taken over in this run
	Released       Outcome = "released"        // released in this run
	Elsewhere      Outcome = "elsewhere"       // the primary is down and another standby serves
	Down           Outcome = "down"            // the primary is down and there is no virtual IP to take over
	Unserved       Outcome = "unserved"        // the primary replies, but no machine has a virtual IP, or a service is bad
	Unknown        Outcome = "unknown"         // the check could not be made; nothing changed
	Blocked        Outcome = "blocked"         // the primary looks down, but switching was refused
	TakeoverFailed Outcome = "takeover-failed" // not added, or not all of it
	ReleaseFailed  Outcome = "release-failed"  // not removed: it may still be here
	StateFailed    Outcome = "state-failed"    // switched, but it could not be written down

	// Of pools, beside OK, Unknown, Blocked and StateFailed.
	Reduced      Outcome = "reduced"       // some member is out of DNS
	Removed      Outcome = "removed"       // taken out of DNS in this run
	Restored     Outcome = "restored"      // put back into DNS in this run
	UpdateFailed Outcome = "update-failed" // the DNS update was not made
)

// Code is the exit code of the outcome. A word that is no outcome is a bug,
// and has the code of one (EX_SOFTWARE of sysexits.h).
func (o Outcome) Code() int {
	switch o {
	case OK:
		return 0
	case Holding, Reduced:
		return 10
	case TookOver, Removed:
		return 11
	case Released, Restored:
		return 12
	case Elsewhere:
		return 13
	case Down:
		return 14
	case Unserved:
		return 15
	case Unknown:
		return 20
	case Blocked:
		return 21
	case TakeoverFailed, UpdateFailed:
		return 30
	case ReleaseFailed:
		return 31
	case StateFailed:
		return 32
	}
	return 70
}

// known says whether it is one of the outcomes.
func (o Outcome) known() bool { return o.Code() != 70 }

// Switched says whether the outcome is a change of who holds the virtual IPs, or
// of what is in DNS.
func (o Outcome) Switched() bool {
	switch o {
	case TookOver, Released, Removed, Restored, StateFailed:
		return true
	}
	return false
}

// Good says whether nothing is wrong that was not reported as a change: such
// checks in a row resolve an alert.
func (o Outcome) Good() bool { return o == OK || o == Holding || o == Reduced }
