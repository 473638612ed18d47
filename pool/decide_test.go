package pool

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pingover/check"
	"pingover/state"
)

var (
	noon  = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	equal = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}
)

// situated is one check of the pool host1.zone.com, with the members .10, .11,
// .12 and ::10, ::11, all published and up unless said otherwise.
type situated struct {
	settings Settings
	record   Record
	observed Observation
}

var five = ips("10.2.2.10", "10.2.2.11", "10.2.2.12", "2001:db8::10", "2001:db8::11")

// usual is the pool after some good checks.
func usual() *situated {
	s := &situated{settings: Settings{Members: five, Rise: 3, MinMembers: 1, TTL: time.Minute}}
	s.observed.Set = Set{Name: www, A: records(time.Minute, "10.2.2.10", "10.2.2.11", "10.2.2.12"), AAAA: records(time.Minute, "2001:db8::10", "2001:db8::11")}
	s.observed.Witness = true
	for _, a := range five {
		s.observed.Members = append(s.observed.Members, MemberStatus{Address: a, Verdict: check.Up, Replied: true})
	}
	s.record, _ = s.record.Settle(s.observed.Set, s.settings, noon.Add(-time.Hour))
	return s
}

func (s *situated) status(addr string) *MemberStatus {
	for i := range s.observed.Members {
		if s.observed.Members[i].Address == netip.MustParseAddr(addr) {
			return &s.observed.Members[i]
		}
	}
	panic(addr)
}

func (s *situated) member(addr string) *Member {
	for i := range s.record.Members {
		if s.record.Members[i].Address == netip.MustParseAddr(addr) {
			return &s.record.Members[i]
		}
	}
	panic(addr)
}

// down is silent in both rounds.
func (s *situated) down(addrs ...string) *situated {
	for _, a := range addrs {
		s.status(a).Verdict, s.status(a).Replied = check.Down, false
	}
	return s
}

func (s *situated) unknown(addr, fault string) *situated {
	*s.status(addr) = MemberStatus{Address: netip.MustParseAddr(addr), Fault: fault}
	return s
}

// out is not published since an hour, and was up in so many checks.
func (s *situated) out(addr string, by By, up int) *situated {
	a := netip.MustParseAddr(addr)
	s.observed.Set = s.observed.Set.With([]netip.Addr{a}, nil, 0)
	m := s.member(addr)
	m.Published, m.By, m.Up = false, by, up
	return s
}

func (s *situated) drain(addrs ...string) *situated {
	s.record = s.record.Drain(ips(addrs...), time.Time{}, noon.Add(-time.Minute))
	return s
}

func (s *situated) with(f func(s *situated)) *situated { f(s); return s }

func TestDecide(t *testing.T) {
	for name, tt := range map[string]struct {
		of   *situated
		want Decision
	}{
		"all are up": {usual(), Decision{
			Rule: 8, Outcome: state.OK, Reason: "all members of host1.zone.com are up",
		}},
		"the set cannot be read": {usual().down("10.2.2.10").with(func(s *situated) { s.observed.Set, s.observed.Fault = Set{}, "it hangs" }), Decision{
			Rule: 1, Outcome: state.Unknown, Reason: "it hangs",
		}},
		"one is down": {usual().down("10.2.2.11"), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com",
		}},
		"one of each family is down": {usual().down("10.2.2.11", "2001:db8::11"), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11", "2001:db8::11"),
			Reason: "10.2.2.11, 2001:db8::11 are down: 10.2.2.11, 2001:db8::11 leave host1.zone.com",
		}},
		"paused": {usual().down("10.2.2.11").with(func(s *situated) { s.observed.PausedUntil = noon.Add(time.Second) }), Decision{
			Rule: 2, Outcome: state.Blocked, Reason: "paused, although 10.2.2.11 is down",
		}},
		"paused, and one would return": {usual().out("10.2.2.11", Us, 2).with(func(s *situated) { s.observed.PausedUntil = noon.Add(time.Second) }), Decision{
			Rule: 2, Outcome: state.Blocked, Reason: "paused, although 10.2.2.11 was up in 3 checks in a row",
		}},
		"paused, and nothing would change": {usual().with(func(s *situated) { s.observed.PausedUntil = noon.Add(time.Second) }), Decision{
			Rule: 8, Outcome: state.OK, Reason: "all members of host1.zone.com are up",
		}},
		"the pause is over": {usual().down("10.2.2.11").with(func(s *situated) { s.observed.PausedUntil = noon }), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com",
		}},
		"no witness, and another member replied": {usual().down("10.2.2.11").with(func(s *situated) { s.observed.Witness = false }), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com",
		}},
		"no witness, and nobody replied in the last round": {usual().down("10.2.2.11").out("10.2.2.12", Us, 9).with(func(s *situated) {
			s.observed.Witness = false
			for i := range s.observed.Members {
				s.observed.Members[i].Replied = false
			}
		}), Decision{
			Rule: 3, Outcome: state.Blocked, Kept: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down, but neither a witness nor another member replies: it may be this machine's network",
		}},
		"no witness, and only this machine's own address replied": {usual().down("10.2.2.11").with(func(s *situated) {
			s.observed.Witness = false
			for i := range s.observed.Members {
				s.observed.Members[i].Replied = s.observed.Members[i].Address == five[0]
				s.observed.Members[i].Own = s.observed.Members[i].Replied
			}
		}), Decision{
			Rule: 3, Outcome: state.Blocked, Kept: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down, but neither a witness nor another member replies: it may be this machine's network",
		}},
		"no witness, and only the one itself replied, whose service is bad": {usual().down("10.2.2.11").with(func(s *situated) {
			s.observed.Witness = false
			for i := range s.observed.Members {
				s.observed.Members[i].Replied = s.observed.Members[i].Address == five[1]
			}
		}), Decision{
			Rule: 3, Outcome: state.Blocked, Kept: ips("10.2.2.11"),
			Reason: "10.2.2.11 is down, but neither a witness nor another member replies: it may be this machine's network",
		}},
		"all of a family are down": {usual().down("2001:db8::10", "2001:db8::11"), Decision{
			Rule: 4, Outcome: state.Blocked, Kept: ips("2001:db8::10", "2001:db8::11"),
			Reason: "2001:db8::10, 2001:db8::11 are down, but stay in host1.zone.com: min-members is 1 for each family",
		}},
		"all of a family are down, and one of the other": {usual().down("2001:db8::10", "2001:db8::11", "10.2.2.10"), Decision{
			Rule: 4, Outcome: state.Removed, Leave: ips("10.2.2.10"), Kept: ips("2001:db8::10", "2001:db8::11"),
			Reason: "10.2.2.10 is down: 10.2.2.10 leaves host1.zone.com; 2001:db8::10, 2001:db8::11 are down, but stay in host1.zone.com: min-members is 1 for each family",
		}},
		"all of a family are down, and one of the other returns": {usual().down("2001:db8::10", "2001:db8::11").out("10.2.2.10", Us, 2), Decision{
			Rule: 4, Outcome: state.Restored, Return: ips("10.2.2.10"), Kept: ips("2001:db8::10", "2001:db8::11"),
			Reason: "10.2.2.10 was up in 3 checks in a row: 10.2.2.10 returns to host1.zone.com; 2001:db8::10, 2001:db8::11 are down, but stay in host1.zone.com: min-members is 1 for each family",
		}},
		"two of three are down, and two must stay": {usual().down("10.2.2.10", "10.2.2.11").with(func(s *situated) { s.settings.MinMembers = 2 }), Decision{
			Rule: 4, Outcome: state.Blocked, Kept: ips("10.2.2.10", "10.2.2.11"),
			Reason: "10.2.2.10, 10.2.2.11 are down, but stay in host1.zone.com: min-members is 2 for each family",
		}},
		"one is down and another returns in its place": {usual().down("2001:db8::10").out("2001:db8::11", Us, 2), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("2001:db8::10"), Return: ips("2001:db8::11"),
			Reason: "2001:db8::10 is down, 2001:db8::11 was up in 3 checks in a row: 2001:db8::10 leaves host1.zone.com, 2001:db8::11 returns to it",
		}},
		"a record of somebody else does not count": {usual().down("2001:db8::10", "2001:db8::11").with(func(s *situated) {
			s.observed.Set = s.observed.Set.With(nil, ips("2001:db8::99"), time.Minute)
		}), Decision{
			Rule: 4, Outcome: state.Blocked, Kept: ips("2001:db8::10", "2001:db8::11"), Foreign: ips("2001:db8::99"),
			Reason: "2001:db8::10, 2001:db8::11 are down, but stay in host1.zone.com: min-members is 1 for each family",
		}},
		"drained": {usual().drain("10.2.2.11", "10.2.2.12"), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11", "10.2.2.12"),
			Reason: "10.2.2.11, 10.2.2.12 are drained: 10.2.2.11, 10.2.2.12 leave host1.zone.com",
		}},
		"drained, without any witness": {usual().drain("10.2.2.11").with(func(s *situated) {
			s.observed.Witness = false
			for i := range s.observed.Members {
				s.observed.Members[i].Replied = false
			}
		}), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.11"),
			Reason: "10.2.2.11 is drained: 10.2.2.11 leaves host1.zone.com",
		}},
		"one drained, the other down": {usual().drain("2001:db8::11").down("2001:db8::10"), Decision{
			Rule: 4, Outcome: state.Blocked, Kept: ips("2001:db8::10", "2001:db8::11"),
			Reason: "2001:db8::10 is down, 2001:db8::11 is drained, but stay in host1.zone.com: min-members is 1 for each family",
		}},
		"out and drained": {usual().out("10.2.2.11", Us, 99).drain("10.2.2.11"), Decision{
			Rule: 7, Outcome: state.Reduced, Reason: "10.2.2.11 is out of host1.zone.com",
		}},
		"back for two checks": {usual().out("10.2.2.11", Us, 1), Decision{
			Rule: 7, Outcome: state.Reduced, Reason: "10.2.2.11 is out of host1.zone.com",
		}},
		"back for three checks": {usual().out("10.2.2.11", Us, 2), Decision{
			Rule: 5, Outcome: state.Restored, Return: ips("10.2.2.11"),
			Reason: "10.2.2.11 was up in 3 checks in a row: 10.2.2.11 returns to host1.zone.com",
		}},
		"taken out by somebody else, up in 29 checks": {usual().out("10.2.2.11", Another, 28), Decision{
			Rule: 7, Outcome: state.Reduced, Reason: "10.2.2.11 is out of host1.zone.com",
		}},
		"taken out by somebody else, up in 30 checks": {usual().out("10.2.2.11", Another, 29), Decision{
			Rule: 5, Outcome: state.Restored, Return: ips("10.2.2.11"),
			Reason: "10.2.2.11 was up in 30 checks in a row: 10.2.2.11 returns to host1.zone.com",
		}},
		"checked twice in a second": {usual().out("10.2.2.11", Us, 2).with(func(s *situated) { s.record.Counted = noon }), Decision{
			Rule: 7, Outcome: state.Reduced, Reason: "10.2.2.11 is out of host1.zone.com",
		}},
		"one is unknown": {usual().unknown("10.2.2.11", "no route to it").out("10.2.2.12", Us, 0), Decision{
			Rule: 6, Outcome: state.Unknown, Reason: "10.2.2.11 could not be asked: no route to it",
		}},
		"one is unknown, another down": {usual().unknown("10.2.2.11", "no route to it").down("10.2.2.12"), Decision{
			Rule: 5, Outcome: state.Removed, Leave: ips("10.2.2.12"),
			Reason: "10.2.2.12 is down: 10.2.2.12 leaves host1.zone.com",
		}},
		"out and down": {usual().out("10.2.2.11", Us, 5).down("10.2.2.11"), Decision{
			Rule: 7, Outcome: state.Reduced, Reason: "10.2.2.11 is out of host1.zone.com",
		}},
		"an update was interrupted, which was made": {usual().out("10.2.2.11", Us, 0).with(func(s *situated) {
			s.observed.Finished = Finished{Reason: "10.2.2.11 is down", Leave: ips("10.2.2.11")}
		}), Decision{
			Rule: 5, Outcome: state.Removed,
			Reason: "an interrupted update is finished: 10.2.2.11 leaves host1.zone.com",
		}},
		"an address that is no member any more": {usual().with(func(s *situated) {
			s.settings.Members = five[1:]
			s.record, _ = s.record.Settle(s.observed.Set, s.settings, noon)
		}), Decision{
			Rule: 8, Outcome: state.OK, Left: five[:1], Reason: "all members of host1.zone.com are up",
		}},
		"the pool has left the file": {usual().down("10.2.2.10").with(func(s *situated) {
			s.settings.Members = nil
			s.record, _ = s.record.Settle(s.observed.Set, s.settings, noon)
		}), Decision{
			Rule: 8, Outcome: state.OK, Left: five, Reason: "all members of host1.zone.com are up",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Decide(tt.of.record, tt.of.observed, tt.of.settings, noon)
			if diff := cmp.Diff(tt.want, got, equal...); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideDrain(t *testing.T) {
	for name, tt := range map[string]struct {
		of      *situated
		members []string
		force   bool
		want    Decision
	}{
		"two": {usual(), []string{"10.2.2.10", "2001:db8::10"}, false, Decision{
			Outcome: state.Removed, Leave: ips("10.2.2.10", "2001:db8::10"),
			Reason: "drained manually: 10.2.2.10, 2001:db8::10 leave host1.zone.com",
		}},
		"one that is out": {usual().out("10.2.2.10", Us, 0), []string{"10.2.2.10"}, false, Decision{
			Outcome: state.Reduced, Reason: "10.2.2.10 is already out of host1.zone.com",
		}},
		"one that is out and one that is not": {usual().out("10.2.2.10", Us, 0), []string{"10.2.2.10", "10.2.2.11"}, false, Decision{
			Outcome: state.Removed, Leave: ips("10.2.2.11"),
			Reason: "drained manually: 10.2.2.11 leaves host1.zone.com",
		}},
		"too many": {usual().with(func(s *situated) { s.settings.MinMembers = 2 }), []string{"10.2.2.10", "10.2.2.11"}, false, Decision{
			Outcome: state.Blocked,
			Reason:  "not drained: without 10.2.2.10, 10.2.2.11 fewer than 2 of their family would be left in host1.zone.com (min-members)",
		}},
		"too many, with force": {usual().with(func(s *situated) { s.settings.MinMembers = 2 }), []string{"10.2.2.10", "10.2.2.11"}, true, Decision{
			Outcome: state.Removed, Leave: ips("10.2.2.10", "10.2.2.11"),
			Reason: "drained manually: 10.2.2.10, 10.2.2.11 leave host1.zone.com",
		}},
		"the last of a family": {usual(), []string{"10.2.2.10", "2001:db8::10", "2001:db8::11"}, true, Decision{
			Outcome: state.Blocked, Reason: "not drained: 2001:db8::10, 2001:db8::11 are the last of their family in host1.zone.com",
		}},
		"no member": {usual(), []string{"10.2.2.10", "10.2.2.99"}, true, Decision{
			Outcome: state.Blocked, Reason: "not drained: 10.2.2.99 is no member of this pool",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := DecideDrain(tt.of.observed.Set, tt.of.settings, ips(tt.members...), tt.force)
			if diff := cmp.Diff(tt.want, got, equal...); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
