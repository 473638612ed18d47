package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
)

// Record is what is kept of a pool's members between runs. Its zero value is
// that of a pool that was never checked. It is embedded beside state.Head, and
// its keys are those of the file. Its methods return a changed copy.
type Record struct {
	Members []Member  `json:"members"`
	Read    time.Time `json:"read,omitzero"`    // when the set was last read; zero: never, this is a new record
	Counted time.Time `json:"counted,omitzero"` // when the streaks last advanced
	Update  *Update   `json:"update,omitempty"` // open while a run makes it
}

// Member is one address of the pool. One that is no longer in `members` is kept
// while it is published (Left).
type Member struct {
	Address   netip.Addr `json:"address"`
	Published bool       `json:"published"`         // when the set was last read
	Since     time.Time  `json:"since"`             // since when it is published, or out
	By        By         `json:"by"`                // who published it, or took it out
	Verdict   string     `json:"verdict"`           // of the last check: up, down, unknown; "" before the first
	Up        int        `json:"up"`                // checks in a row in which it was up, while published or out; 0 while drained
	Drained   *Drain     `json:"drained,omitempty"` // nil: not drained
	Left      bool       `json:"left,omitempty"`    // no longer in `members`, and still published
}

// By is who published a member or took it out, as far as the record knows.
type By string

// Who changed the record set.
const (
	Unknown By = ""         // it was so when this record began
	Added   By = "added"    // it is out because it was just added to `members`
	Us      By = "pingover" // this pingover
	Another By = "another"  // another checker, or an administrator
)

// Drain is the mark that keeps a member out.
type Drain struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // zero: until undrain
}

// Update is one that is about to be made, as the record keeps it.
type Update struct {
	Time   time.Time    `json:"time"`
	Reason string       `json:"reason"`
	Leave  []netip.Addr `json:"leave"`
	Return []netip.Addr `json:"return"`
}

// Finished is what a run has done that was interrupted before it could write and
// mail it. It is a change to report, whatever else this check decides.
type Finished struct {
	Reason        string // of that run's decision
	Leave, Return []netip.Addr
}

// Effect is what came of a decision.
type Effect uint8

// The effects. The zero value changes no member.
const (
	Untouched Effect = iota // no update was made: none was due, or it failed for certain
	Published               // the set was read back and shows the update
	Open                    // it is not known: the update stays open, and the next Settle tells
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

// slowly is how much longer than others a member must be up that somebody else
// has taken out: two checkers that observe differently must not take turns.
const slowly = 10

// DrainedAt says whether it is drained at a time.
func (m Member) DrainedAt(t time.Time) bool {
	return m.Drained != nil && (m.Drained.Until.IsZero() || t.Before(m.Drained.Until))
}

// Required is in how many checks in a row the member must be up to return.
func (m Member) Required(rise int) int {
	if m.By == Us || m.By == Added {
		return max(1, rise)
	}
	return slowly * max(1, rise)
}

// streak is Member.Up after a check.
func (r Record) streak(m Member, v check.Verdict, now time.Time) int {
	switch {
	case v != check.Up || m.DrainedAt(now):
		return 0
	case r.Counted.Unix() == now.Unix(): // at most once a second
		return max(1, m.Up)
	}
	return m.Up + 1
}

// Settle brings the record in line with the set: what changed in DNS since the
// last check, by whom, which members are new, which have left. An open update is
// closed, and what the set shows of it is returned. A drain whose time is over
// ends.
func (r Record) Settle(s Set, set Settings, now time.Time) (Record, Finished) {
	before := map[netip.Addr]Member{}
	ours := map[bool]bool{} // by Is4: a member of the family is published
	for _, m := range r.Members {
		before[m.Address] = m
	}
	for _, a := range set.Members {
		ours[a.Is4()] = ours[a.Is4()] || s.Has(a)
	}
	var finished Finished
	var members []Member
	for _, a := range set.Members {
		m, known := before[a]
		delete(before, a)
		published := s.Has(a)
		switch {
		case !known || m.Left && !published:
			m = Member{Address: a, Published: published, Since: now}
			if !published && (!r.Read.IsZero() || !ours[a.Is4()]) {
				m.By = Added
			}
		case m.Published != published:
			m.Published, m.Since, m.By, m.Up = published, now, Another, 0
			if u := r.Update; u != nil && slices.Contains(u.Leave, a) && !published {
				m.By, finished.Leave = Us, append(finished.Leave, a)
			} else if u != nil && slices.Contains(u.Return, a) && published {
				m.By, finished.Return = Us, append(finished.Return, a)
			}
		}
		m.Left = false
		if m.Drained != nil && !m.DrainedAt(now) {
			m.Drained = nil
		}
		members = append(members, m)
	}
	for _, m := range r.Members {
		if _, left := before[m.Address]; left && s.Has(m.Address) {
			m.Left, m.Drained = true, nil
			members = append(members, m)
		}
	}
	if r.Update != nil && len(finished.Leave)+len(finished.Return) > 0 {
		finished.Reason = r.Update.Reason
	}
	r.Members, r.Read, r.Update = members, now, nil
	return r, finished
}

// Intend is the record that is written before the update of d.
func (r Record) Intend(d Decision, now time.Time) Record {
	r.Update = &Update{Time: now, Reason: d.Reason, Leave: d.Leave, Return: d.Return}
	return r
}

// Withdraw closes an open update that was refused for certain, as when another
// writer was faster: before Settle, or what that one did would count as ours.
func (r Record) Withdraw() Record {
	r.Update = nil
	return r
}

// Apply is the record after a check: streaks, verdicts, and the update where it
// was made.
func (r Record) Apply(d Decision, o Observation, e Effect, now time.Time) Record {
	status := map[netip.Addr]check.Verdict{}
	for _, s := range o.Members {
		status[s.Address] = s.Verdict
	}
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		m := &r.Members[i]
		m.Up = r.streak(*m, status[m.Address], now)
		m.Verdict = status[m.Address].String()
	}
	r.Counted = now
	return r.Moved(d, e, now)
}

// Moved is the record after an update that was made outside of a check: a drain.
func (r Record) Moved(d Decision, e Effect, now time.Time) Record {
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		if e == Published {
			r.Members[i].move(d, now)
		}
	}
	if e != Open {
		r.Update = nil
	}
	return r
}

// move is a member after an update that was made by us.
func (m *Member) move(d Decision, now time.Time) {
	leaves, returns := slices.Contains(d.Leave, m.Address), slices.Contains(d.Return, m.Address)
	if leaves || returns {
		m.Published, m.By, m.Since, m.Up = returns, Us, now, 0
	}
}

// Drain marks members until a time; zero: until undrain. A mark that is there
// gets the new time.
func (r Record) Drain(members []netip.Addr, until, now time.Time) Record {
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		m := &r.Members[i]
		if !slices.Contains(members, m.Address) {
			continue
		}
		since := now
		if m.DrainedAt(now) {
			since = m.Drained.Since
		}
		m.Drained, m.Up = &Drain{Since: since, Until: until}, 0
	}
	return r
}

// Undrain lifts the marks of members; lifted are those that had one. The next
// checks put them back after `rise`.
func (r Record) Undrain(members []netip.Addr, now time.Time) (next Record, lifted []netip.Addr) {
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		m := &r.Members[i]
		if slices.Contains(members, m.Address) && m.Drained != nil {
			if m.DrainedAt(now) {
				lifted = append(lifted, m.Address)
			}
			m.Drained, m.Up = nil, 0
		}
	}
	return r, lifted
}

// Check says what makes no sense of a record that was read from disk.
func (r Record) Check() error {
	for _, m := range r.Members {
		switch {
		case !m.Address.IsValid():
			return errors.New("a member has no address")
		case m.Up < 0:
			return fmt.Errorf("member %s: a count is below zero", m.Address)
		case !slices.Contains([]By{Unknown, Added, Us, Another}, m.By):
			return fmt.Errorf("member %s: published or taken out by %q", m.Address, m.By)
		case !slices.Contains([]string{"", check.Up.String(), check.Down.String(), check.Unknown.String()}, m.Verdict):
			return fmt.Errorf("member %s: the verdict is %q", m.Address, m.Verdict)
		}
	}
	return nil
}
