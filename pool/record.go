package pool

import (
	"net/netip"
	"time"

	"pingover/check"
)

// Record is what is kept of a pool's members between runs. Its zero value is
// that of a pool that was never checked. It is embedded beside state.Head, so
// its keys are those of the file. Its methods change a copy.
type Record struct {
	Members []Member   `json:"members"`
	Read    time.Time  `json:"read,omitzero"`    // when the set was last read; zero: never, a new state
	Counted time.Time  `json:"counted,omitzero"` // when the streaks last advanced
	Update  *Intention `json:"update,omitempty"` // the update that is open while a run makes it; nil when none is
}

// Member is one address of the pool. One that is no longer in `members` is kept
// while it is published (Left).
type Member struct {
	Address   netip.Addr `json:"address"`
	Published bool       `json:"published"`         // when the set was last read
	Since     time.Time  `json:"since"`             // since when it is published, or out
	By        By         `json:"by"`                // who published it, or took it out
	Verdict   string     `json:"verdict"`           // of the last check: up, down, unknown; "" before the first
	Up        int        `json:"up"`                // checks in a row in which it was up, since it is published or out, and not drained
	Drained   *Drain     `json:"drained,omitempty"` // nil: not drained
	Left      bool       `json:"left,omitempty"`    // no longer in `members`, and still published
}

// By is who published a member or took it out, as far as the record knows.
type By string

// Who changed the record set.
const (
	Found   By = ""         // it was so when the member was first seen, or it was just added to `members`
	Us      By = "pingover" // this pingover
	Another By = "another"  // somebody else: another checker, or an administrator
)

// Drain is the mark that keeps a member out.
type Drain struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until undrain
}

// Intention is an update that is about to be made.
type Intention struct {
	Time   time.Time    `json:"time"`
	Reason string       `json:"reason"`
	Leave  []netip.Addr `json:"leave"`
	Return []netip.Addr `json:"return"`
}

// Finished is the part of an interrupted run's update that was made after all.
type Finished struct {
	Leave, Return []netip.Addr
}

// Effect is what came of a decision.
type Effect uint8

// The effects. The zero value changes no member.
const (
	Untouched Effect = iota // no update was made: none was due, or it failed for certain
	Published               // the set was read back and shows the update
	Open                    // it is not known: the intention stays open, and the next Settle tells
)

// EffectOf is the effect of what Publish returned.
func EffectOf(err error) Effect {
	switch {
	case err == nil:
		return Published
	case Unsettled(err):
		return Open
	}
	return Untouched
}

// Settle brings the record in line with the set: what changed in DNS since the
// last check, by whom, which members are new and which have left. It closes an
// open intention; what of it is in the set is returned, for a run that was
// killed has mailed nothing of it. A drain whose time is over ends.
func (r Record) Settle(s Set, set Settings, now time.Time) (Record, Finished) {
	return r, Finished{}
}

// Intend is the record that is written before the update of d.
func (r Record) Intend(d Decision, now time.Time) Record { return r }

// Apply is the record after a check: streaks, verdicts, and the update where it
// was made.
func (r Record) Apply(d Decision, o Observation, e Effect, now time.Time) Record { return r }

// Drain marks members until a time; zero: until undrain. Marks that are there
// get the new time.
func (r Record) Drain(members []netip.Addr, until, now time.Time) Record { return r }

// Undrain lifts the marks of members; done are those that had one. The next
// checks put them back after `rise`.
func (r Record) Undrain(members []netip.Addr, now time.Time) (next Record, done []netip.Addr) {
	return r, nil
}

// MemberStatus is what this check observed of one member.
type MemberStatus struct {
	Address netip.Addr
	Verdict check.Verdict // Down only when two rounds were silent, or bad
	Fault   string        // why the verdict is Unknown
	// Replied says that it was heard from in the last round, however its services
	// are: the proof for the others that this machine's network works. A member
	// that replied in round one counts only when it was asked again in round two.
	Replied bool
	Own     bool // the address is this machine's own, and proves nothing
}
