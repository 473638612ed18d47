package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
)

var now = time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)

const otherMAC = "02:00:00:00:00:77"

// situation is one combination of everything that Decide looks at.
type situation struct {
	known Known
	seen  Observation
	set   Settings
}

func (s situation) decide() Decision { return Decide(s.known, s.seen, s.set, now) }

func (s situation) paused() bool { return now.Before(s.known.PausedUntil) }

func (s situation) String() string { return fmt.Sprintf("known %+v\nseen %+v", s.known, s.seen) }

// situations yields every combination of Decide's inputs: numbers at and
// beside their bounds, and none, one and two virtual IPs in each state. With
// -short it is every 13th, a number that divides none of the loops' lengths.
func situations(yield func(situation) bool) {
	both := []bool{false, true}
	sights := []VIPStatus{
		{Held: true, Asked: true},
		{},
		{Asked: true},
		{InUse: true},
		{Asked: true, InUse: true, MAC: otherMAC},
		{Asked: true, InUse: true, MAC: otherMAC, AtPrimary: true},
	}
	at := func(s VIPStatus, addr string) VIPStatus { s.Address = netip.MustParseAddr(addr); return s }
	vips := [][]VIPStatus{nil}
	for _, one := range sights {
		vips = append(vips, []VIPStatus{at(one, "172.16.0.1")})
		for _, two := range sights {
			vips = append(vips, []VIPStatus{at(one, "172.16.0.1"), at(two, "172.16.0.5")})
		}
	}
	set := Settings{Rise: 3, BootWait: 3 * time.Minute, Fall: 3}
	n := 0
	for _, role := range []Role{Standby, Taking, Active, Releasing} {
		for _, pause := range []time.Duration{-time.Second, 0, time.Second} {
			for _, byHand := range both {
				for _, unserved := range []int{0, 1, 2} {
					known := Known{Role: role, PausedUntil: now.Add(pause), ManualRelease: byHand, Unserved: unserved}
					for _, primary := range []check.Verdict{check.Unknown, check.Down, check.Up} {
						for _, link := range []struct{ on, answers bool }{{false, false}, {true, false}, {true, true}} {
							for _, v := range vips {
								for _, conflict := range both {
									for _, prober := range []string{"", otherMAC} {
										for _, witness := range []WitnessState{WitnessSilent, WitnessNone, WitnessGood, WitnessOff} {
											for _, uptime := range []time.Duration{set.BootWait - 1, set.BootWait} {
												if n++; testing.Short() && n%13 != 0 {
													continue
												}
												seen := Observation{
													Host: "172.16.0.2", Primary: primary, OnLink: link.on, AnswersARP: link.answers,
													VIPs: v, CompetingProber: prober, Witness: witness, Uptime: uptime,
												}
												if primary == check.Unknown {
													seen.Fault = "no route to 172.16.0.2"
												}
												if conflict {
													if len(seen.held()) == 0 {
														continue // a conflicting host is one only to a holder
													}
													seen.Conflicts = []Conflict{{Holder: Holder{Address: seen.held()[0].String(), MAC: otherMAC}}}
												}
												for _, s := range while(situation{known, seen, set}) {
													if !yield(s) {
														return
													}
												}
											}
										}
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

// while are the situation and, where something is held or handed over, what
// more matters then: at and beside their bounds, one at a time and all.
func while(s situation) []situation {
	all := []situation{s}
	add := func(change func(*situation)) {
		more := s
		change(&more)
		all = append(all, more)
	}
	if s.known.Role == Releasing {
		add(func(s *situation) { s.known.HandingOver = true })
	}
	if s.known.Unserved > 0 { // it matters neither to services nor while holding
		return all
	}
	if len(s.seen.held()) == 0 {
		return append(all, s.withServices()...)
	}
	add(func(s *situation) {
		s.known.Services = []Service{{Bad: 9, Proven: true}}
		s.seen.Services = []ServiceStatus{{Name: "tcp:80", Serving: Answer{Health: check.Bad}, AtHost: Answer{Health: check.Bad}}}
		s.known.Up, s.set.Failback, s.set.FailoverOnService = 2, true, true
	})
	for _, h := range []check.Health{check.HealthUnknown, check.Bad, check.Good} {
		add(func(s *situation) {
			s.known.Services, s.known.Up, s.set.Failback = []Service{{}, {}}, 2, true
			s.seen.Services = []ServiceStatus{{AtHost: Answer{Health: check.Good}}, {AtHost: Answer{Health: h}}}
		})
	}
	for _, back := range []Known{{Up: 1}, {Up: 2}, {Up: 2, ManualTakeover: true}, {Up: 2, NobodyTook: true}} {
		for _, failback := range []bool{false, true} {
			add(func(s *situation) {
				s.known.Up, s.known.ManualTakeover, s.known.NobodyTook, s.set.Failback = back.Up, back.ManualTakeover, back.NobodyTook, failback
			})
		}
	}
	for silent := range 3 {
		add(func(s *situation) { s.known.Silent, s.set.Isolated = silent, true })
	}
	add(func(s *situation) {
		s.known.Up, s.known.Silent, s.set.Failback, s.set.Isolated, s.seen.WaitedForPeer = 2, 2, true, true, true
	})
	add(func(s *situation) { s.known.Silent, s.seen.WaitedForPeer = 2, true })
	if s.seen.Primary == check.Unknown {
		add(func(s *situation) { s.seen.HostIsVIP = true })
	}
	return all
}

// withServices are the situation, in which this machine stands by, with a service:
// its streak at and beside its bound, each answer, and a run that has fenced.
func (s situation) withServices() (all []situation) {
	if s.seen.Primary != check.Up {
		s.known.Fenced = "tcp:80"
		s.set.FailoverOnService = true
		return []situation{s}
	}
	vips := slices.Clone(s.seen.VIPs)
	for i := range vips {
		vips[i].PrimaryAlone = vips[i].AtPrimary
	}
	for _, on := range []bool{false, true} {
		for _, fenced := range []string{"", "tcp:80"} {
			for _, known := range []Service{{Bad: 1, Proven: true}, {Bad: 2}, {Bad: 2, Proven: true}} {
				for _, h := range []check.Health{check.HealthUnknown, check.Bad, check.Good} {
					for _, v := range [][]VIPStatus{vips, s.seen.VIPs} {
						more := s
						more.set.FailoverOnService, more.known.Fenced, more.seen.VIPs = on, fenced, v
						more.known.Services = []Service{{Proven: true}, known}
						more.seen.Services = []ServiceStatus{{Serving: Answer{Health: check.Good}}, {Name: "tcp:80", Serving: Answer{Health: h}}}
						all = append(all, more)
					}
				}
			}
		}
	}
	return all
}

// down tells whether a service of the situation counts as down, and whether it is
// a reason to fence.
func (s situation) down() (down, fence bool) {
	for i, status := range s.seen.Services {
		known, bad := s.known.Services[i], status.Serving.Health == check.Bad
		down = down || bad && known.Bad >= 2
		fence = fence || bad && known.Bad >= 2 && known.Proven
	}
	return down, fence && s.seen.Primary == check.Up
}

// TestEverySituation holds each decision that can be against what must be
// true of all of them.
func TestEverySituation(t *testing.T) {
	t.Parallel()
	invariants := []struct {
		name string
		ok   func(s situation, d Decision) bool
	}{
		{"every decision names its rule, an outcome and a reason on one line", func(_ situation, d Decision) bool {
			return d.Rule > 0 && d.Outcome != "" && d.Outcome.Code() != 70 && d.Reason != "" && !strings.Contains(d.Reason, "\n")
		}},
		{"unknown never raises", func(s situation, d Decision) bool {
			return s.seen.Primary != check.Unknown || s.seen.HostIsVIP && d.Rule == 6 || len(d.Raise) == 0
		}},
		{"nothing is raised while the primary answers, by ping, ARP or ND", func(s situation, d Decision) bool {
			return s.seen.Primary != check.Up && !s.seen.AnswersARP || len(d.Raise) == 0 || d.Rule == 15
		}},
		{"nothing is raised while anybody answers for a virtual IP, or is about to take it", func(s situation, d Decision) bool {
			return len(s.seen.inUse()) == 0 && s.seen.CompetingProber == "" || len(d.Raise) == 0 || d.Rule == 15
		}},
		{"a primary that replies is fenced for a service that worked before, by the setting, where it alone has every virtual IP", func(s situation, d Decision) bool {
			_, fence := s.down()
			alone := s.seen.pick(func(v VIPStatus) bool { return v.PrimaryAlone && v.InUse && v.AtPrimary })
			return d.Rule != 15 || len(d.Raise) == 0 || fence && s.set.FailoverOnService && len(alone) == len(s.seen.VIPs) &&
				len(d.Raise) == len(s.seen.VIPs) && s.seen.CompetingProber == "" && !s.paused()
		}},
		{"it is fenced when all of that is so", func(s situation, d Decision) bool {
			_, fence := s.down()
			alone := s.seen.pick(func(v VIPStatus) bool { return v.PrimaryAlone })
			due := fence && s.set.FailoverOnService && len(alone) > 0 && len(alone) == len(s.seen.VIPs) && s.seen.CompetingProber == "" &&
				!s.paused() && s.known.Fenced == "" && !s.known.ManualRelease && s.seen.Uptime >= s.set.BootWait &&
				(s.seen.Witness == WitnessGood || s.seen.Witness == WitnessOff) && !s.known.HandingOver
			return !due || d.Rule == 15 && d.Outcome == TookOver && len(d.Raise) == len(s.seen.VIPs)
		}},
		{"what was fenced is taken over only when it is silent, and never fenced again by this run", func(s situation, d Decision) bool {
			if s.known.Fenced == "" || len(s.seen.held()) > 0 || s.known.HandingOver {
				return true
			}
			return s.seen.Primary == check.Down && d.Rule != 15 || d.Rule == 15 && d.Outcome == Blocked
		}},
		{"a service that is down is reported", func(s situation, d Decision) bool {
			down, _ := s.down()
			return !down || len(s.seen.held()) > 0 || s.known.HandingOver || s.seen.Primary != check.Up || d.Outcome == Unserved || d.Rule == 15
		}},
		{"a service that works is no reason for anything", func(s situation, d Decision) bool {
			return worst(s.seen.Services, serving) != check.Good || d.Rule != 15 || d.Outcome == Blocked
		}},
		{"nothing is handed over to a primary whose services are not good", func(s situation, d Decision) bool {
			return d.Rule != 5 || worst(s.seen.Services, atHost) == check.Good
		}},
		{"nothing is raised without a good witness, unless witnesses are off", func(s situation, d Decision) bool {
			return s.seen.Witness == WitnessGood || s.seen.Witness == WitnessOff || len(d.Raise) == 0
		}},
		{"nothing is raised or released while paused, but an interrupted release is finished", func(s situation, d Decision) bool {
			return !s.paused() || len(d.Raise) == 0 && (!d.Release || d.Rule == 1)
		}},
		{"nothing is taken over within boot-wait, or after a manual release", func(s situation, d Decision) bool {
			return s.seen.Uptime >= s.set.BootWait && !s.known.ManualRelease || d.Rule != 14 && (d.Rule != 15 || len(d.Raise) == 0)
		}},
		{"only what is not here is raised, and only what is here released", func(s situation, d Decision) bool {
			for _, a := range d.Raise {
				if slices.Contains(s.seen.held(), a) || !slices.Contains(s.seen.addresses(), a) {
					return false
				}
			}
			return !d.Release || len(s.seen.held()) > 0 || s.known.HandingOver
		}},
		{"nothing is raised and released at once", func(_ situation, d Decision) bool {
			return !d.Release || len(d.Raise) == 0
		}},
		{"nothing is announced that is not here, nor while a conflicting host has it too", func(s situation, d Decision) bool {
			return !d.Announce || len(s.seen.held())+len(d.Raise) > 0 && len(s.seen.Conflicts) == 0
		}},
		{"a conflicting host ends the holding, unless paused", func(s situation, d Decision) bool {
			return len(s.seen.Conflicts) == 0 || s.paused() || d.Release
		}},
		{"what is here is released for nothing but a conflicting host, an open intent, isolation or failback", func(s situation, d Decision) bool {
			return !d.Release || len(s.seen.Conflicts) > 0 || s.known.Role == Releasing || d.Rule == 4 || d.Rule == 5
		}},
		{"isolated is two silent checks of every witness, and a primary that is not up", func(s situation, d Decision) bool {
			return d.Rule != 4 || s.set.Isolated && s.seen.Witness == WitnessSilent && s.known.Silent > 0 && s.seen.Primary != check.Up && !d.HandOver
		}},
		{"failback hands over, to a primary that is up, what was not taken manually", func(s situation, d Decision) bool {
			return d.Rule != 5 || d.HandOver && s.set.Failback && s.seen.Primary == check.Up && s.known.Up+1 >= s.set.Rise &&
				!s.known.ManualTakeover && !s.known.NobodyTook
		}},
		{"what is handed over is released", func(_ situation, d Decision) bool { return !d.HandOver || d.Release }},
		{"an outcome that says switched switches, or finishes what was begun", func(s situation, d Decision) bool {
			switch d.Outcome {
			case TookOver:
				return len(d.Raise) > 0 || s.known.Role == Taking && len(s.seen.held()) > 0
			case Released:
				return d.Release
			}
			return (!d.Release || d.Outcome == Holding && len(d.Only) > 0) && (len(d.Raise) == 0 || d.Rule == 6)
		}},
		{"a dead primary is taken over when nothing at all speaks against it", func(s situation, d Decision) bool {
			free := s.seen.Primary == check.Down && !s.seen.AnswersARP && len(s.seen.inUse()) == 0 && s.seen.CompetingProber == "" &&
				len(s.seen.held()) == 0 && !s.known.HandingOver && len(s.seen.VIPs) > 0 && !s.paused() && !s.known.ManualRelease &&
				s.seen.Uptime >= s.set.BootWait && (s.seen.Witness == WitnessGood || s.seen.Witness == WitnessOff)
			return !free || len(d.Raise) == len(s.seen.VIPs) && d.Outcome == TookOver
		}},
		{"holding and not holding are told apart by the kernel alone", func(s situation, d Decision) bool {
			return (d.Rule <= 6) == (len(s.seen.held()) > 0 || s.known.HandingOver)
		}},
		{"deciding again after the change was applied changes nothing", func(s situation, d Decision) bool {
			again := s.apply(d).decide()
			kept := len(d.Only) > 0 && (again.Rule == 4 || again.Rule == 5) // on the grounds of the rest
			return len(d.Raise) == 0 && !d.Release || kept || len(again.Raise) == 0 && !again.Release && again.Outcome != TookOver
		}},
	}
	reached := map[int]int{}
	n := 0
	for s := range situations {
		n++
		d := s.decide()
		reached[d.Rule]++
		for _, invariant := range invariants {
			if !invariant.ok(s, d) {
				t.Fatalf("%s\n%v\ndecision %+v", invariant.name, s, d)
			}
		}
	}
	for _, rule := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} {
		if reached[rule] == 0 {
			t.Errorf("rule %d is never reached", rule)
		}
	}
	t.Logf("%d situations; by rule: %v", n, reached)
}

// apply is the situation after what was decided has been done, and nothing
// else has changed: who made us let go still holds.
func (s situation) apply(d Decision) situation {
	vips := slices.Clone(s.seen.VIPs)
	for i := range vips {
		if slices.Contains(d.Raise, vips[i].Address) {
			vips[i] = VIPStatus{Address: vips[i].Address, Held: true, Asked: true}
			s.known.Role = Active
		}
		if d.Release && (vips[i].Held || s.known.HandingOver) && (len(d.Only) == 0 || slices.Contains(d.Only, vips[i].Address)) {
			vips[i] = VIPStatus{Address: vips[i].Address, Asked: true, InUse: true, MAC: otherMAC}
			switch {
			case len(d.Only) == 0:
				s.known.Role = Standby
			case s.known.Role == Taking: // what stays is held
				s.known.Role = Active
			}
		}
	}
	s.seen.VIPs = vips
	if d.Release {
		s.seen.Conflicts = nil
		s.known.HandingOver = false
	}
	return s
}

func TestZeroDecisionDoesNothing(t *testing.T) {
	t.Parallel()
	if d := (Decision{}); d.Release || d.Announce || len(d.Raise) > 0 || d.Outcome != "" {
		t.Errorf("the zero decision does something: %+v", d)
	}
	want := Decision{Rule: 8, Outcome: Unknown}
	if diff := cmp.Diff(want, Decide(Known{}, Observation{}, Settings{}, time.Time{})); diff != "" {
		t.Errorf("nothing known and nothing seen (-want +got):\n%s", diff)
	}
}

// TestReasons is what people read: one of each.
func TestReasons(t *testing.T) {
	t.Parallel()
	web, db := netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("172.16.0.5")
	dead := func(change func(*situation)) situation {
		s := situation{
			known: Known{Role: Standby},
			seen: Observation{
				Host: "172.16.0.2", Primary: check.Down, OnLink: true, Witness: WitnessGood, Uptime: time.Hour,
				VIPs: []VIPStatus{{Address: web, Asked: true}, {Address: db, Asked: true}},
			},
			set: Settings{Rise: 3, BootWait: 3 * time.Minute},
		}
		change(&s)
		return s
	}
	hold := func(change func(*situation)) situation {
		return dead(func(s *situation) {
			s.known.Role = Active
			s.seen.VIPs[0].Held, s.seen.VIPs[1].Held = true, true
			change(s)
		})
	}
	// served: the primary has both, and a service at them is bad.
	served := func(change func(*situation)) situation {
		return dead(func(s *situation) {
			s.seen.Primary, s.set.Fall = check.Up, 3
			for i := range s.seen.VIPs {
				s.seen.VIPs[i].InUse, s.seen.VIPs[i].AtPrimary, s.seen.VIPs[i].PrimaryAlone = true, true, true
			}
			s.known.Services = []Service{{}}
			s.seen.Services = []ServiceStatus{{Name: "tcp:80", Serving: Answer{check.Bad, "connection refused"}}}
			change(s)
		})
	}
	conflict := []Conflict{{Holder: Holder{Address: "172.16.0.1", MAC: otherMAC}}}
	both := []netip.Addr{web, db}
	tests := []struct {
		name string
		in   situation
		want Decision
	}{
		{
			"interrupted release", hold(func(s *situation) { s.known.Role = Releasing }),
			Decision{Rule: 1, Outcome: Released, Release: true, Reason: "an interrupted release is finished"},
		},
		{
			"interrupted release of one, and the other is in conflict", hold(func(s *situation) {
				s.known.Role, s.known.Releasing, s.seen.Conflicts = Releasing, []netip.Addr{db}, conflict
			}),
			Decision{Rule: 1, Outcome: Released, Release: true, Only: []netip.Addr{db, web}, Reason: "an interrupted release is finished"},
		},
		{
			"interrupted release of one, and the other is in conflict, paused", hold(func(s *situation) {
				s.known.Role, s.known.Releasing, s.seen.Conflicts = Releasing, []netip.Addr{db}, conflict
				s.known.PausedUntil = now.Add(time.Hour)
			}),
			Decision{Rule: 1, Outcome: Released, Release: true, Only: []netip.Addr{db}, Reason: "an interrupted release is finished"},
		},
		{
			"interrupted release of an address that left the settings", hold(func(s *situation) {
				s.known.Role, s.known.Releasing = Releasing, []netip.Addr{netip.MustParseAddr("172.16.0.9")}
			}),
			Decision{Rule: 1, Outcome: Released, Release: true, Only: []netip.Addr{netip.MustParseAddr("172.16.0.9")}, Reason: "an interrupted release is finished"},
		},
		{
			"paused", hold(func(s *situation) { s.known.PausedUntil = now.Add(time.Hour) }),
			Decision{Rule: 2, Outcome: Holding, Announce: true, Reason: "paused, holding 172.16.0.1, 172.16.0.5"},
		},
		{
			"paused with a conflicting host", hold(func(s *situation) { s.known.PausedUntil, s.seen.Conflicts = now.Add(time.Hour), conflict }),
			Decision{Rule: 2, Outcome: Blocked, Cause: CausePaused, Reason: "paused, holding 172.16.0.1 although 02:00:00:00:00:77 has it as well"},
		},
		{
			"conflict", hold(func(s *situation) { s.seen.Conflicts = conflict }),
			Decision{Rule: 3, Outcome: Holding, Release: true, Only: both[:1], HandOver: true, Reason: "172.16.0.1 is also assigned at 02:00:00:00:00:77, another machine: it is released here; holding 172.16.0.5"},
		},
		{
			"conflict that was waited for", hold(func(s *situation) { s.seen.Conflicts, s.seen.WaitedForPeer = conflict, true }),
			Decision{Rule: 3, Outcome: Holding, Release: true, Only: both[:1], HandOver: true, Reason: "172.16.0.1 is also assigned at 02:00:00:00:00:77, another machine: it is released here; holding 172.16.0.5"},
		},
		{
			"the primary has one of two again", hold(func(s *situation) {
				s.seen.Conflicts = []Conflict{{conflict[0].Holder, true}}
			}),
			Decision{Rule: 3, Outcome: Released, Release: true, HandOver: true, Reason: "the primary has 172.16.0.1 again (02:00:00:00:00:77): it is released here, and 172.16.0.5 is handed over"},
		},
		{
			"nobody could be asked whether another machine has it", hold(func(s *situation) { s.seen.CannotAsk = true }),
			Decision{Rule: 6, Outcome: Holding, Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 does not reply"},
		},
		{
			"interrupted hand-over, nothing is here", dead(func(s *situation) { s.known.Role, s.known.HandingOver = Releasing, true }),
			Decision{Rule: 1, Outcome: Released, Release: true, HandOver: true, Reason: "an interrupted release is finished"},
		},
		{
			"isolated", hold(func(s *situation) { s.set.Isolated, s.seen.Witness, s.known.Silent = true, WitnessSilent, 1 }),
			Decision{
				Rule: 4, Outcome: Released, Release: true,
				Cause: CauseIsolated, Reason: "no witness has replied in two checks in a row, and 172.16.0.2 does not reply: this machine is isolated, and releases 172.16.0.1, 172.16.0.5",
			},
		},
		{
			"failback", hold(func(s *situation) { s.set.Failback, s.seen.Primary, s.known.Up = true, check.Up, 2 }),
			Decision{
				Rule: 5, Outcome: Released, Release: true, HandOver: true,
				Reason: "172.16.0.2 has replied in 3 checks in a row: 172.16.0.1, 172.16.0.5 are handed over",
			},
		},
		{
			"the host is a virtual IP that is here, and another is missing", hold(func(s *situation) {
				s.seen.Primary, s.seen.HostIsVIP, s.seen.Fault, s.seen.VIPs[1].Held = check.Unknown, true, "172.16.0.1 is on this machine now", false
			}),
			Decision{
				Rule: 6, Outcome: Holding, Announce: true, Raise: []netip.Addr{db},
				Reason: "holding 172.16.0.1; 172.16.0.2 could not be asked: 172.16.0.1 is on this machine now; assigning 172.16.0.5 as well",
			},
		},
		{
			"holding", hold(func(*situation) {}),
			Decision{Rule: 6, Outcome: Holding, Announce: true, Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 does not reply"},
		},
		{
			"holding, primary is back", hold(func(s *situation) { s.seen.Primary = check.Up }),
			Decision{Rule: 6, Outcome: Holding, Announce: true, Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 replies again"},
		},
		{
			"holding, no cable", hold(func(s *situation) {
				s.seen.Primary, s.seen.Fault = check.Unknown, `interface "eth0" has no carrier: is the cable in?`
			}),
			Decision{Rule: 6, Outcome: Holding, Announce: true, Reason: `holding 172.16.0.1, 172.16.0.5; 172.16.0.2 could not be asked: interface "eth0" has no carrier: is the cable in?`},
		},
		{
			"strayed here while the primary serves", hold(func(s *situation) {
				s.known.Role, s.seen.Primary, s.seen.VIPs[1].Held = Standby, check.Up, false
			}),
			Decision{Rule: 6, Outcome: Holding, Announce: true, Reason: "holding 172.16.0.1, which pingover did not assign; 172.16.0.2 replies"},
		},
		{
			"interrupted takeover, all raised", hold(func(s *situation) { s.known.Role = Taking }),
			Decision{Rule: 6, Outcome: TookOver, Announce: true, Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 does not reply; an interrupted takeover is finished"},
		},
		{
			"interrupted takeover, all raised, and the primary is back", hold(func(s *situation) { s.known.Role, s.seen.Primary = Taking, check.Up }),
			Decision{Rule: 6, Outcome: TookOver, Announce: true, Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 replies again; an interrupted takeover is finished"},
		},
		{
			"an interrupted takeover of a part, and the primary is back", hold(func(s *situation) {
				s.known.Role, s.seen.Primary, s.seen.VIPs[1] = Taking, check.Up, VIPStatus{Address: db, Asked: true}
			}),
			Decision{Rule: 6, Outcome: TookOver, Announce: true, Reason: "holding 172.16.0.1; 172.16.0.2 replies again; an interrupted takeover is finished, without 172.16.0.5"},
		},
		{
			"one alias is missing", hold(func(s *situation) { s.seen.VIPs[1].Held = false }),
			Decision{Rule: 6, Outcome: Holding, Announce: true, Raise: []netip.Addr{db}, Reason: "holding 172.16.0.1; 172.16.0.2 does not reply; assigning 172.16.0.5 as well"},
		},
		{
			"one alias is missing, and another has it", hold(func(s *situation) { s.seen.VIPs[1].Held, s.seen.VIPs[1].InUse = false, true }),
			Decision{Rule: 6, Outcome: TakeoverFailed, Announce: true, Reason: "holding 172.16.0.1; 172.16.0.2 does not reply; 172.16.0.5 is missing, and another machine replies"},
		},
		{
			"one alias is missing, no witness", hold(func(s *situation) { s.seen.VIPs[1].Held, s.seen.Witness = false, WitnessSilent }),
			Decision{Rule: 6, Outcome: TakeoverFailed, Announce: true, Reason: "holding 172.16.0.1; 172.16.0.2 does not reply; 172.16.0.5 is missing, and no witness replies"},
		},
		{
			"up", dead(func(s *situation) { s.seen.Primary = check.Up }),
			Decision{Rule: 7, Outcome: OK, Reason: "172.16.0.2 replies"},
		},
		{
			"unserved for the third time", dead(func(s *situation) {
				s.seen.Primary, s.known.Unserved, s.seen.VIPs[0].InUse = check.Up, 2, true
			}),
			Decision{Rule: 7, Outcome: Unserved, Reason: "172.16.0.2 replies, but no machine has 172.16.0.5"},
		},
		{
			"a service is bad for the third time", served(func(s *situation) { s.known.Services[0].Bad = 2 }),
			Decision{Rule: 7, Outcome: Unserved, Reason: "172.16.0.2 replies, but service tcp:80 does not work: connection refused"},
		},
		{
			"a service is bad for the second time", served(func(s *situation) { s.known.Services[0].Bad = 1 }),
			Decision{Rule: 7, Outcome: OK, Reason: "172.16.0.2 replies"},
		},
		{
			"a service was bad three times, and is unknown now", served(func(s *situation) {
				s.known.Services[0].Bad, s.seen.Services[0].Serving = 3, Answer{}
			}),
			Decision{Rule: 7, Outcome: Unserved, Reason: "172.16.0.2 replies, but service tcp:80 does not work"},
		},
		{
			"a service that worked is bad for the third time, and there is fencing", served(func(s *situation) {
				s.known.Services[0] = Service{Bad: 2, Proven: true}
				s.set.FailoverOnService = true
			}),
			Decision{
				Rule: 15, Outcome: TookOver, Cause: CauseService, Announce: true, Raise: both, Fences: "tcp:80",
				Reason: "172.16.0.2 replies, but service tcp:80 does not work: connection refused (3 checks in a row); it is fenced, and 172.16.0.1, 172.16.0.5 taken over",
			},
		},
		{
			"fenced, and it still replies", served(func(s *situation) { s.known.Fenced, s.set.FailoverOnService = "tcp:80", true }),
			Decision{Rule: 15, Outcome: Blocked, Cause: CauseService, Reason: "172.16.0.2 was fenced for tcp:80, but it still replies"},
		},
		{
			"fenced, and it cannot be asked", served(func(s *situation) {
				s.known.Fenced, s.seen.Primary, s.seen.Fault = "tcp:80", check.Unknown, `interface "eth1" has no carrier: is the cable in?`
			}),
			Decision{Rule: 15, Outcome: Blocked, Cause: CauseService, Reason: `172.16.0.2 was fenced for tcp:80, but it cannot be verified that it is silent: interface "eth1" has no carrier: is the cable in?`},
		},
		{
			"fenced, silent, and still in use", served(func(s *situation) { s.known.Fenced, s.seen.Primary = "tcp:80", check.Down }),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseInUse, Reason: "172.16.0.2 does not reply, but 172.16.0.1, 172.16.0.5 are in use"},
		},
		{
			"holding, the primary is back without its service", hold(func(s *situation) {
				s.set.Failback, s.known.Up, s.known.Services, s.seen.Primary = true, 9, []Service{{}}, check.Up
				s.seen.Services = []ServiceStatus{{Name: "tcp:80", Serving: Answer{Health: check.Good}, AtHost: Answer{check.Bad, "connection refused"}}}
			}),
			Decision{
				Rule: 6, Outcome: Holding, Announce: true,
				Reason: "holding 172.16.0.1, 172.16.0.5; 172.16.0.2 replies again, but there service tcp:80 does not work: connection refused",
			},
		},
		{
			"holding, the primary is back with its service", hold(func(s *situation) {
				s.set.Failback, s.known.Up, s.known.Services, s.seen.Primary = true, 2, []Service{{}}, check.Up
				s.seen.Services = []ServiceStatus{{Name: "tcp:80", AtHost: Answer{Health: check.Good}}}
			}),
			Decision{
				Rule: 5, Outcome: Released, Release: true, HandOver: true,
				Reason: "172.16.0.2 has replied with its services good in 3 checks in a row: 172.16.0.1, 172.16.0.5 are handed over",
			},
		},
		{
			"unknown", dead(func(s *situation) {
				s.seen.Primary, s.seen.Fault, s.seen.FaultCause = check.Unknown, "no route to 172.16.0.2", CauseRefused
			}),
			Decision{Rule: 8, Outcome: Unknown, Cause: CauseRefused, Reason: "no route to 172.16.0.2"},
		},
		{
			"no virtual IP", dead(func(s *situation) { s.seen.VIPs = nil }),
			Decision{Rule: 9, Outcome: Down, Reason: "172.16.0.2 does not reply, and there is no virtual IP to take over"},
		},
		{
			"no virtual IP, no witness replies", dead(func(s *situation) { s.seen.VIPs, s.seen.Witness = nil, WitnessSilent }),
			Decision{Rule: 9, Outcome: Unknown, Cause: CauseWitnessSilent, Reason: "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network"},
		},
		{
			"paused standby", dead(func(s *situation) { s.known.PausedUntil = now.Add(time.Hour) }),
			Decision{Rule: 10, Outcome: Blocked, Cause: CausePaused, Reason: "172.16.0.2 does not reply, but this cluster is paused"},
		},
		{
			"just booted", dead(func(s *situation) { s.seen.Uptime = time.Minute }),
			Decision{Rule: 10, Outcome: Blocked, Cause: CauseBootWait, Reason: "172.16.0.2 does not reply, but this machine has been up for less than 3m (boot-wait)"},
		},
		{
			"released manually", dead(func(s *situation) { s.known.ManualRelease = true }),
			Decision{Rule: 10, Outcome: Blocked, Cause: CauseManualRelease, Reason: "172.16.0.2 does not reply, but the virtual IPs were released manually and it has not been up since"},
		},
		{
			"no witness was ever found", dead(func(s *situation) { s.seen.Witness = WitnessNone }),
			Decision{Rule: 11, Outcome: Blocked, Cause: CauseNoWitness, Reason: "172.16.0.2 does not reply, but there is no witness (no default gateway, or it is the primary itself): it may be this machine's network"},
		},
		{
			"witness silent", dead(func(s *situation) { s.seen.Witness = WitnessSilent }),
			Decision{Rule: 11, Outcome: Blocked, Cause: CauseWitnessSilent, Reason: "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network"},
		},
		{
			"another standby serves", dead(func(s *situation) { s.seen.VIPs[0].InUse, s.seen.VIPs[1].InUse = true, true }),
			Decision{Rule: 12, Outcome: Elsewhere, Reason: "172.16.0.2 does not reply, and another standby serves 172.16.0.1, 172.16.0.5"},
		},
		{
			"another standby serves one of two", dead(func(s *situation) { s.seen.VIPs[0].InUse = true }),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseInUse, Reason: "172.16.0.2 does not reply, but 172.16.0.1 is in use"},
		},
		{
			"the dead host's own machine still serves", dead(func(s *situation) {
				s.seen.VIPs[0].InUse, s.seen.VIPs[1].InUse, s.seen.VIPs[1].AtPrimary = true, true, true
			}),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseInUse, Reason: "172.16.0.2 does not reply, but 172.16.0.1, 172.16.0.5 are in use"},
		},
		{
			"pings filtered", dead(func(s *situation) { s.seen.AnswersARP = true }),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseAlive, Reason: "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive"},
		},
		{
			"pings filtered, IPv6", dead(func(s *situation) { s.seen.AnswersARP, s.seen.Host = true, "2001:db8::2" }),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseAlive, Reason: "2001:db8::2 does not reply to pings, but it replies to neighbour solicitations: it is alive"},
		},
		{
			"a lower MAC probes", dead(func(s *situation) { s.seen.CompetingProber = otherMAC }),
			Decision{Rule: 13, Outcome: Blocked, Cause: CauseCompeting, Reason: "172.16.0.2 does not reply, but 02:00:00:00:00:77 is about to take the virtual IPs over"},
		},
		{
			"takeover", dead(func(*situation) {}),
			Decision{Rule: 14, Outcome: TookOver, Announce: true, Raise: both, Reason: "172.16.0.2 does not reply, and 172.16.0.1, 172.16.0.5 are not in use"},
		},
		{
			"takeover from a primary that was never up", dead(func(s *situation) { s.seen.NeverUp = true }),
			Decision{
				Rule: 14, Outcome: TookOver, Announce: true, Raise: both,
				Reason: "172.16.0.2 does not reply, and 172.16.0.1, 172.16.0.5 are not in use; 172.16.0.2 was never seen up from here",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.in.decide(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReleaseThatNobodyCouldTakeIsRefused(t *testing.T) {
	t.Parallel()
	o := Observation{Host: "172.16.0.2", NoTaker: true, VIPs: []VIPStatus{{Address: one, Held: true}}}
	for _, c := range []struct {
		name        string
		open, force bool
		want        Decision
	}{
		{"refused", false, false, Decision{
			Outcome: Blocked, Reason: "not released: 172.16.0.2 does not reply, and no other machine has 172.16.0.1: nobody could take it",
		}},
		{"by force", false, true, Decision{Outcome: Released, Release: true, Reason: "172.16.0.1 is released manually, with --force"}},
		{"a hand-over that was begun", true, false, Decision{Outcome: Released, Release: true, HandOver: true, Reason: "172.16.0.1 is released manually"}},
	} {
		if diff := cmp.Diff(c.want, DecideRelease(o, "", c.open, c.force)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
