package pool

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/check"
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
	RuleChange  = 5 // a member leaves or returns
	RuleUnknown = 6 // a member is unknown
	RuleReduced = 7 // a member is out or drained
	RuleOK      = 8
)

// Tries is how often a run reads, decides and updates while other writers are faster.
const Tries = 3

// Decision is what Decide answers. Its zero value does nothing.
type Decision struct {
	Rule    int           // number of the first matching rule; 0 of a drain
	Outcome state.Outcome // if the update succeeds
	Reason  string        // in words; it does not change while nothing changes
	// Leave and Return are one update.
	Leave, Return []netip.Addr
	// Kept would leave, but rule 3 or 4 keeps them: an alert, also where the
	// outcome is that of a change to others.
	Kept []netip.Addr
	// Left are published and no longer in `members`: an alert.
	Left []netip.Addr
	// Foreign are published and were never in `members`: shown, and left alone.
	Foreign []netip.Addr
}

// Decide is the policy of a pool: which members leave the record set and which
// return, and why. It is pure; the first matching rule decides. The record is
// the one that Settle returned.
func Decide(r Record, o Observation, set Settings, now time.Time) Decision {
	if o.Fault != "" {
		return Decision{Rule: RuleUnread, Outcome: state.Unknown, Reason: o.Fault}
	}
	v := view(r, o, set, now)
	leave, kept := v.aboveMinimum(set.MinMembers)
	d := Decision{Left: v.left, Foreign: v.foreign}
	switch {
	case v.ourself():
		d.Rule, d.Outcome, d.Kept = RuleOurself, state.Blocked, v.down
		d.Reason = fmt.Sprintf("%s down, but neither a witness nor another member replies: it may be this machine's network", being(v.down))

	case now.Before(o.PausedUntil) && len(leave)+len(v.up) > 0:
		d.Rule, d.Outcome, d.Kept = RulePaused, state.Blocked, kept
		d.Reason = fmt.Sprintf("paused, although %s", v.because(leave, v.up))

	case len(kept) > 0:
		d.Rule, d.Outcome, d.Kept = RuleFewest, state.Blocked, kept
		d.Reason = fmt.Sprintf("%s, but %s in %s: min-members is %d for each family", v.because(kept, nil), verb(kept, "stays", "stay"), v.name, max(1, set.MinMembers))
		if len(leave)+len(v.up) > 0 {
			d.Leave, d.Return, d.Outcome = leave, v.up, changed(leave)
			d.Reason = fmt.Sprintf("%s: %s; %s", v.because(leave, v.up), moves(v.name, leave, v.up), d.Reason)
		}

	case len(leave)+len(v.up) > 0:
		d.Rule, d.Leave, d.Return, d.Outcome = RuleChange, leave, v.up, changed(leave)
		d.Reason = fmt.Sprintf("%s: %s", v.because(leave, v.up), moves(v.name, leave, v.up))
		if len(o.Finished.Leave) > 0 {
			d.Outcome = state.Removed
		}

	case len(o.Finished.Leave)+len(o.Finished.Return) > 0:
		d.Rule, d.Outcome = RuleChange, changed(o.Finished.Leave)
		d.Reason = "an interrupted update is finished: " + moves(v.name, o.Finished.Leave, o.Finished.Return)

	case len(v.unknown) > 0:
		first := v.unknown[0]
		d.Rule, d.Outcome = RuleUnknown, state.Unknown
		d.Reason = fmt.Sprintf("%s could not be asked", first.Address)
		if first.Fault != "" {
			d.Reason += ": " + first.Fault
		}

	case len(v.out) > 0:
		d.Rule, d.Outcome = RuleReduced, state.Reduced
		d.Reason = fmt.Sprintf("%s out of %s", being(v.out), v.name)

	default:
		d.Rule, d.Outcome = RuleOK, state.OK
		d.Reason = fmt.Sprintf("all members of %s are up", v.name)
	}
	return d
}

// DecideDrain is the policy of a manual drain: all the members named, or none.
// Unless it is blocked, they are marked with Record.Drain. With force a family
// may fall below min-members, but its last record is never deleted.
func DecideDrain(s Set, set Settings, members []netip.Addr, force bool) Decision {
	name := shown(s.Name)
	leave := only(members, s.Has)
	if strangers := without(members, set.Members); len(strangers) > 0 {
		return Decision{Outcome: state.Blocked, Reason: fmt.Sprintf("not drained: %s no member of this pool", being(strangers))}
	}
	if len(leave) == 0 {
		return Decision{Outcome: state.Reduced, Reason: fmt.Sprintf("%s already out of %s", being(members), name)}
	}
	for _, family := range families {
		of := only(leave, family)
		if len(of) == 0 {
			continue
		}
		published := only(s.Addrs(), family)
		rest := without(published, of)
		switch {
		case len(rest) == 0:
			return Decision{Outcome: state.Blocked, Reason: fmt.Sprintf("not drained: %s %s family in %s", list(of), verb(of, "is the last of its", "are the last of their"), name)}
		case !force && len(only(rest, set.member)) < max(1, set.MinMembers):
			return Decision{Outcome: state.Blocked, Reason: fmt.Sprintf("not drained: without %s fewer than %d of %s family would be left in %s (min-members)", list(of), max(1, set.MinMembers), verb(of, "its", "their"), name)}
		}
	}
	return Decision{Outcome: state.Removed, Leave: leave, Reason: fmt.Sprintf("drained manually: %s", moves(name, leave, nil))}
}

// families are the two kinds of addresses, which are judged apart.
var families = [...]func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6}

func (s Settings) member(a netip.Addr) bool { return slices.Contains(s.Members, a) }

// situation is the pool as this check observed it: every member in one list of
// each kind that applies. Addresses are in the order of `members`.
type situation struct {
	name     string
	set      Set
	members  []netip.Addr
	heard    []netip.Addr // replied in the last round, and are not this machine
	witness  bool
	down     []netip.Addr // published and down: they would leave
	drained  []netip.Addr // published and drained: they would leave
	up       []netip.Addr // out, and up in enough checks in a row: they return
	out      []netip.Addr // out, or drained
	unknown  []MemberStatus
	left     []netip.Addr
	foreign  []netip.Addr
	required map[netip.Addr]int // of up: the checks in a row
}

// view sorts the members.
func view(r Record, o Observation, set Settings, now time.Time) situation {
	v := situation{name: shown(o.Set.Name), set: o.Set, members: set.Members, witness: o.Witness, required: map[netip.Addr]int{}}
	status := map[netip.Addr]MemberStatus{}
	for _, s := range o.Members {
		status[s.Address] = s
	}
	known := map[netip.Addr]Member{}
	for _, m := range r.Members {
		known[m.Address] = m
	}
	published := map[netip.Addr]bool{}
	for _, a := range o.Set.Addrs() {
		published[a] = true
	}
	for _, a := range set.Members {
		m, s := known[a], status[a]
		s.Address = a
		if s.Replied && !s.Own {
			v.heard = append(v.heard, a)
		}
		if s.Verdict == check.Unknown {
			v.unknown = append(v.unknown, s)
		}
		drained := m.DrainedAt(now)
		if drained || !published[a] {
			v.out = append(v.out, a)
		}
		switch {
		case published[a] && drained:
			v.drained = append(v.drained, a)
		case published[a] && s.Verdict == check.Down:
			v.down = append(v.down, a)
		case !published[a] && r.streak(m, s.Verdict, now) >= m.Required(set.Rise):
			v.up = append(v.up, a)
			v.required[a] = m.Required(set.Rise)
		}
		delete(published, a)
	}
	for _, a := range o.Set.Addrs() {
		switch {
		case !published[a]:
		case known[a].Address.IsValid():
			v.left = append(v.left, a)
		default:
			v.foreign = append(v.foreign, a)
		}
	}
	return v
}

// ourself is rule 3: a member would leave for being down, and nothing proves
// that this machine's own network works.
func (v situation) ourself() bool {
	return !v.witness && slices.ContainsFunc(v.down, func(a netip.Addr) bool {
		return len(without(v.heard, []netip.Addr{a})) == 0
	})
}

// aboveMinimum is rule 4: who leaves, and who is kept because a family would
// fall below the minimum. What returns in the same update counts.
func (v situation) aboveMinimum(minimum int) (leave, kept []netip.Addr) {
	for _, family := range families {
		would := only(slices.Concat(v.down, v.drained), family)
		ours := only(v.members, func(a netip.Addr) bool { return family(a) && v.set.Has(a) })
		if len(ours)-len(would)+len(only(v.up, family)) < max(1, minimum) {
			kept = append(kept, would...)
		} else {
			leave = append(leave, would...)
		}
	}
	return leave, kept
}

// because says why members should leave, and others return.
func (v situation) because(leave, up []netip.Addr) string {
	var why []string
	for _, cause := range []struct {
		of   []netip.Addr
		word string
	}{{v.down, "down"}, {v.drained, "drained"}} {
		if of := only(cause.of, func(a netip.Addr) bool { return slices.Contains(leave, a) }); len(of) > 0 {
			why = append(why, being(of)+" "+cause.word)
		}
	}
	byRequired := map[int][]netip.Addr{}
	for _, a := range up {
		byRequired[v.required[a]] = append(byRequired[v.required[a]], a)
	}
	for _, n := range slices.Sorted(maps.Keys(byRequired)) {
		of := byRequired[n]
		why = append(why, fmt.Sprintf("%s %s up in %d checks in a row", list(of), verb(of, "was", "were"), n))
	}
	return strings.Join(why, ", ")
}

// changed is the outcome of an update.
func changed(leave []netip.Addr) state.Outcome {
	if len(leave) > 0 {
		return state.Removed
	}
	return state.Restored
}
