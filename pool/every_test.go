package pool

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pingover/check"
	"pingover/state"
)

// way is one way that a member can be.
type way struct {
	published, drained, ready, replied bool
	verdict                            check.Verdict
}

// ways are all that make a difference to Decide: `ready` is out and up in
// enough checks in a row.
func ways() (all []way) {
	for _, verdict := range []check.Verdict{check.Up, check.Down, check.Unknown} {
		for _, drained := range []bool{false, true} {
			all = append(all, way{published: true, drained: drained, verdict: verdict, replied: verdict == check.Up})
			if verdict != check.Unknown && !drained { // a good reply in round one only; a bad service
				all = append(all, way{published: true, drained: drained, verdict: verdict, replied: verdict == check.Down})
			}
		}
		all = append(all, way{verdict: verdict, replied: verdict == check.Up})
	}
	return append(all, way{verdict: check.Up, ready: true, replied: true}, way{verdict: check.Up, ready: true, drained: true, replied: true})
}

// combinations are all choices of up to four members in two families, with -short
// every 7th of them. Members of a family are exchangeable, so their order is left out.
func combinations(of int) iter.Seq2[[]int, int] {
	return func(yield func(chosen []int, v4 int) bool) {
		n := 0
		var choose func(chosen []int, v4 int) bool
		choose = func(chosen []int, v4 int) bool {
			n++
			if len(chosen) > 0 && (n%7 == 0 || !testing.Short()) && !yield(chosen, v4) {
				return false
			}
			if len(chosen) == 4 {
				return true
			}
			for next := range 2 * of {
				k, six := next%of, next >= of
				switch n := len(chosen); {
				case six && n > v4 && k < chosen[n-1], !six && (n > v4 || n > 0 && k < chosen[n-1]):
				case six && !choose(append(chosen, k), v4), !six && !choose(append(chosen, k), v4+1):
					return false
				}
			}
			return true
		}
		choose(make([]int, 0, 4), 0)
	}
}

// addresses are those of n members, of which the first v4 are IPv4.
func addresses(n, v4 int) []netip.Addr {
	return slices.Concat(ips("10.2.2.10", "10.2.2.11", "10.2.2.12", "10.2.2.13")[:v4], ips("2001:db8::10", "2001:db8::11", "2001:db8::12", "2001:db8::13")[:n-v4])
}

var strangers = ips("10.2.2.99", "2001:db8::99")

// TestEveryDecision tries Decide in every situation of up to four members.
func TestEveryDecision(t *testing.T) {
	t.Parallel()
	all := ways()
	n := 0
	for chosen, v4 := range combinations(len(all)) {
		for global := range 8 {
			witness, paused, foreign, minimum := global&1 > 0, global&2 > 0, n%3 > 0, 1+global>>2
			addrs := addresses(len(chosen), v4)
			s := situated{settings: Settings{Members: addrs, Rise: 3, MinMembers: minimum, TTL: time.Minute}}
			s.observed = Observation{Set: Set{Name: www}, Witness: witness}
			if paused {
				s.observed.PausedUntil = noon.Add(time.Hour)
			}
			s.record.Read = noon.Add(-time.Minute)
			var published []netip.Addr
			if foreign {
				published = slices.Clone(strangers)
			}
			for i, k := range chosen {
				k := all[k]
				m := Member{Address: addrs[i], Published: k.published, By: Us}
				if k.ready {
					m.Up = 2
				}
				if k.drained {
					m.Drained = &Drain{}
				}
				if k.published {
					published = append(published, addrs[i])
				}
				s.record.Members = append(s.record.Members, m)
				s.observed.Members = append(s.observed.Members, MemberStatus{Address: addrs[i], Verdict: k.verdict, Replied: k.replied})
			}
			s.observed.Set = s.observed.Set.With(nil, published, time.Hour)
			d := Decide(s.record, s.observed, s.settings, noon)
			if err := sound(s, d); err != nil {
				t.Fatalf("%v\n%+v\n%+v\n%+v", err, s.record.Members, s.observed, d)
			}
			n++
		}
	}
	t.Logf("%d situations", n)
}

// sound holds the invariants of a decision.
func sound(s situated, d Decision) error {
	o, set := s.observed, s.settings
	after := o.Set.With(d.Leave, d.Return, set.TTL)
	changes := len(d.Leave)+len(d.Return) > 0
	heard := 0
	for _, m := range o.Members {
		if m.Replied {
			heard++
		}
	}
	whole := true
	for i, m := range s.record.Members {
		status := o.Members[i]
		leaves, returns := slices.Contains(d.Leave, m.Address), slices.Contains(d.Return, m.Address)
		whole = whole && m.Published && m.Drained == nil && status.Verdict == check.Up
		others := heard
		if status.Replied {
			others--
		}
		switch {
		case leaves && !(m.Published && (m.Drained != nil || status.Verdict == check.Down)):
			return fmt.Errorf("%s leaves without a cause", m.Address)
		case leaves && m.Drained == nil && !o.Witness && others == 0:
			return fmt.Errorf("%s leaves, and it may be our own fault", m.Address)
		case returns && (m.Published || m.Drained != nil || status.Verdict != check.Up || m.Up < 2):
			return fmt.Errorf("%s returns without a cause", m.Address)
		}
	}
	for _, family := range families {
		members := func(s Set) int {
			return len(only(set.Members, func(a netip.Addr) bool { return family(a) && s.Has(a) }))
		}
		if len(only(d.Leave, family)) > 0 && members(after) < set.MinMembers {
			return fmt.Errorf("%d members of a family are left", members(after))
		}
		if len(only(o.Set.Addrs(), family)) > 0 && len(only(after.Addrs(), family)) == 0 {
			return fmt.Errorf("a record set is emptied")
		}
	}
	for _, a := range strangers {
		if o.Set.Has(a) != after.Has(a) || o.Set.Has(a) != slices.Contains(d.Foreign, a) {
			return fmt.Errorf("the record of somebody else, %s, is touched, or not shown", a)
		}
	}
	switch want := changed(d.Leave); {
	case changes && o.PausedUntil.After(noon):
		return fmt.Errorf("a change during a pause")
	case changes && d.Outcome != want, !changes && (d.Outcome == state.Removed || d.Outcome == state.Restored):
		return fmt.Errorf("outcome %s", d.Outcome)
	case (d.Outcome == state.OK) != (whole && !changes && len(d.Kept) == 0):
		return fmt.Errorf("outcome %s, whole is %v", d.Outcome, whole)
	case len(d.Kept) > 0 && !changes && d.Outcome != state.Blocked:
		return fmt.Errorf("%v are kept, outcome %s", d.Kept, d.Outcome)
	case d.Reason == "" || d.Rule < 1 || d.Rule > 8:
		return fmt.Errorf("rule %d, reason %q", d.Rule, d.Reason)
	}

	// On our own fault, or without the set, nothing changes at all.
	blind := o
	blind.Fault = "hangs"
	if d := Decide(s.record, blind, set, noon); len(d.Leave)+len(d.Return) > 0 || d.Outcome != state.Unknown {
		return fmt.Errorf("decided without the set: %+v", d)
	}
	// Deciding again on the result changes nothing.
	record := s.record.Apply(d, o, Published, noon)
	o.Set = after
	record, _ = record.Settle(after, set, noon.Add(time.Minute))
	if again := Decide(record, o, set, noon.Add(time.Minute)); len(again.Leave)+len(again.Return) > 0 {
		return fmt.Errorf("decided again: %+v", again)
	}
	return nil
}

// zone is a name server in memory.
type zone struct {
	set     Set
	changes map[netip.Addr][]int // runs in which a record was deleted or added
}

func (z *zone) publish(c Change, run int) error {
	if !slices.Equal(c.Before.A.Addrs, z.set.A.Addrs) || !slices.Equal(c.Before.AAAA.Addrs, z.set.AAAA.Addrs) {
		return &Error{Problem: Changed}
	}
	for _, s := range c.steps() {
		z.changes[s.addr] = append(z.changes[s.addr], run)
	}
	z.set = c.After
	return nil
}

// writer is one pingover that checks the pool.
type writer struct {
	settings Settings
	record   Record
	observed []MemberStatus
}

// run is a check; meanwhile is what happens between its reading and its update.
func (w *writer) run(z *zone, run int, meanwhile func()) error {
	now := noon.Add(time.Duration(run) * time.Minute)
	for range Tries {
		var finished Finished
		o := Observation{Set: z.set, Members: w.observed, Witness: true}
		w.record, finished = w.record.Settle(o.Set, w.settings, now)
		if len(finished.Leave)+len(finished.Return) > 0 {
			return fmt.Errorf("run %d: finished %v", run, finished)
		}
		d := Decide(w.record, o, w.settings, now)
		meanwhile()
		meanwhile = func() {}
		var err error
		if len(d.Leave)+len(d.Return) > 0 {
			w.record = w.record.Intend(d, now)
			if err = z.publish(Change{"zone.com.", o.Set, o.Set.With(d.Leave, d.Return, w.settings.TTL)}, run); err != nil {
				w.record = w.record.Withdraw()
				continue
			}
		}
		w.record = w.record.Apply(d, o, EffectOf(err), now)
		return nil
	}
	return fmt.Errorf("run %d: another writer was faster three times", run)
}

// both runs two writers at the same moment: the second one reads and updates
// between the first one's reading and update.
func both(z *zone, run int, w [2]*writer) error {
	first, second := w[run%2], w[1-run%2]
	var err error
	if e := first.run(z, run, func() { err = second.run(z, run, func() {}) }); e != nil {
		return e
	}
	return err
}

// pair is a pool that two writers check, with these verdicts. Of each member,
// published is the last bit.
func pair(chosen []int, v4, minimum, rise int, verdict func(k, writer int) check.Verdict) (*zone, [2]*writer) {
	addrs := addresses(len(chosen), v4)
	published := slices.Clone(strangers)
	var w [2]*writer
	for i := range w {
		w[i] = &writer{settings: Settings{Members: addrs, Rise: rise, MinMembers: minimum, TTL: time.Minute}}
		for j, k := range chosen {
			v := verdict(k/2, i)
			w[i].observed = append(w[i].observed, MemberStatus{Address: addrs[j], Verdict: v, Replied: v == check.Up})
		}
	}
	for j, k := range chosen {
		if k%2 > 0 {
			published = append(published, addrs[j])
		}
	}
	return &zone{Set{Name: www}.With(nil, published, time.Hour), map[netip.Addr][]int{}}, w
}

// fewest is how many members are published at least, by family.
func (z *zone) members(w *writer, family func(netip.Addr) bool) int {
	return len(only(w.settings.Members, func(a netip.Addr) bool { return family(a) && z.set.Has(a) }))
}

// Two writers that observe the same have done all that is to do after two runs,
// but for what somebody else had taken out, which waits for 10 times rise.
func TestTwoWritersThatObserveTheSameConverge(t *testing.T) {
	t.Parallel()
	n := 0
	for chosen, v4 := range combinations(6) {
		for minimum := 1; minimum <= 2; minimum++ {
			z, w := pair(chosen, v4, minimum, 1, func(k, _ int) check.Verdict { return check.Verdict(k) })
			before := *z
			var converged Set
			for run := range 8 {
				if err := both(z, run, w); err != nil {
					t.Fatalf("%v: %v", chosen, err)
				}
				if run == 1 {
					converged = z.set
				}
			}
			if !slices.Equal(converged.Addrs(), z.set.Addrs()) {
				t.Fatalf("%v: %v after two runs, then %v", chosen, converged, z.set)
			}
			untouched(t, &before, z, w[0])
			n++
		}
	}
	t.Logf("%d pools", n)
}

// Two writers that observe the contrary do not take turns: what one has taken out
// the other one puts back after 10 times rise at the earliest.
func TestTwoWritersThatObserveTheContraryDoNotFlap(t *testing.T) {
	t.Parallel()
	n := 0
	for chosen, v4 := range combinations(8) {
		contrary := slices.IndexFunc(chosen, func(k int) bool { return k/2 == 1 || k/2 == 2 })
		if contrary < 0 || chosen[contrary]/2 == 2 { // the same, with the writers exchanged
			continue
		}
		for minimum := 1; minimum == 1 || minimum == 2 && len(chosen) < 4; minimum++ {
			z, w := pair(chosen, v4, minimum, 3, func(k, writer int) check.Verdict { return []check.Verdict{check.Down, check.Up}[k>>writer&1] })
			before := *z
			for run := range 100 {
				was := z.set
				if err := both(z, run, w); err != nil {
					t.Fatalf("%v: %v", chosen, err)
				}
				untouched(t, &zone{set: was}, z, w[0])
			}
			for a, runs := range z.changes {
				out := !before.set.Has(a)
				for i, run := range runs {
					if back := out == (i%2 == 0); back && i > 0 && run-runs[i-1] < 29 {
						t.Fatalf("%v: %s is changed in the runs %v", chosen, a, runs)
					}
				}
				if len(runs) > 8 { // out and back in 30 runs
					t.Fatalf("%v: %s is changed in the runs %v", chosen, a, runs)
				}
			}
			n++
		}
	}
	t.Logf("%d pools", n)
}

// untouched holds what no writer may do, alone or with another.
func untouched(t *testing.T, before, after *zone, w *writer) {
	t.Helper()
	for _, a := range strangers {
		if !after.set.Has(a) {
			t.Fatalf("the record of somebody else is gone: %v", after.set)
		}
	}
	for _, family := range families {
		had, has := before.members(w, family), after.members(w, family)
		if has < min(had, w.settings.MinMembers) {
			t.Fatalf("%v: %d members of a family, were %d", after.set, has, had)
		}
	}
}
