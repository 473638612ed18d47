package state

import (
	"net/netip"
	"testing"
	"time"

	"pingover/check"
)

// With an arbiter nothing is taken over unless it agrees, whatever else is observed;
// what another machine holds by it is released, whatever else is.
func TestTheArbiterInEverySituation(t *testing.T) {
	t.Parallel()
	lost := []netip.Addr{netip.MustParseAddr("172.16.0.1")}
	reached, n := map[int]int{}, 0
	for s := range situations {
		if n++; n%31 != 0 {
			continue
		}
		s.set.Arbiter = true
		for _, a := range []Arbiter{
			{},
			{State: ArbiterSilent, Fault: "no answer within 1.5s"},
			{State: ArbiterFree},
			{State: ArbiterOurs},
			{State: ArbiterAbsent, FreeIn: time.Second},
			{State: ArbiterAbsent},
			{State: ArbiterOther, Holder: "standby2", FreeIn: time.Second},
			{State: ArbiterOther, Holder: "standby2"},
			{State: ArbiterOther, Holder: "standby2", Lost: lost},
		} {
			s.seen.Arbiter = a
			d := s.decide()
			reached[d.Rule]++
			may := a.State == ArbiterFree || a.State == ArbiterOurs || (a.State == ArbiterOther || a.State == ArbiterAbsent) && a.FreeIn == 0
			switch {
			case len(a.Lost) > 0 && (d.Rule != RuleArbiter || !d.Release || d.HandOver || len(d.Only) != 1 || d.Outcome != Released):
				t.Fatalf("not released: %v\ndecision %+v", s, d)
			case len(d.Raise) > 0 && len(s.seen.held()) == 0 && d.Rule != RuleService && !may:
				t.Fatalf("taken over: %v\ndecision %+v", s, d)
			case d.Rule == RuleKey && (d.Outcome != Blocked || d.Cause != CauseArbiter || may):
				t.Fatalf("%v\ndecision %+v", s, d)
			}
			if d.Rule == RuleKey { // the arbiter is the only reason
				s.seen.Arbiter = Arbiter{State: ArbiterFree}
				if free := s.decide(); free.Rule != 14 {
					t.Fatalf("blocked for the arbiter, but without it: %v\ndecision %+v", s, free)
				}
			}
		}
	}
	if reached[RuleArbiter] == 0 || reached[RuleKey] == 0 || reached[14] == 0 {
		t.Errorf("reached: %v", reached)
	}
}

func TestReasonsOfTheArbiter(t *testing.T) {
	t.Parallel()
	vip := netip.MustParseAddr("172.16.0.1")
	down := Observation{Host: "172.16.0.2", Primary: check.Down, VIPs: []VIPStatus{{Address: vip, Asked: true}}, Witness: WitnessGood, Uptime: time.Hour}
	holding := down
	holding.VIPs = []VIPStatus{{Address: vip, Held: true}}
	for _, test := range []struct {
		seen    Observation
		arbiter Arbiter
		rule    int
		want    string
	}{
		{
			down,
			Arbiter{State: ArbiterOther, Holder: "standby2", Changed: 40500 * time.Millisecond, FreeIn: 139500 * time.Millisecond},
			17,
			"172.16.0.2 does not reply, but standby2 holds the arbiter's key, unchanged for 40s; free in 2m20s",
		},
		{down, Arbiter{State: ArbiterAbsent, FreeIn: 3 * time.Minute}, 17, "172.16.0.2 does not reply, but the arbiter has no key yet, or it was deleted: free in 3m"},
		{down, Arbiter{State: ArbiterSilent, Fault: "no answer within 1.5s"}, 17, "172.16.0.2 does not reply, but the arbiter does not answer: no answer within 1.5s"},
		{down, Arbiter{}, 17, "172.16.0.2 does not reply, but the arbiter was not asked"},
		{down, Arbiter{State: ArbiterOther, Holder: "standby2", Lost: []netip.Addr{vip}}, 16, "standby2 holds the arbiter's key: 172.16.0.1 is removed here"},
		{
			holding,
			Arbiter{State: ArbiterSilent, Until: time.Date(2026, 3, 1, 13, 8, 11, 0, time.Local)},
			6,
			"holding 172.16.0.1; 172.16.0.2 does not reply; the arbiter does not answer: 172.16.0.1 ends at 13:08:11 unless it does",
		},
		{holding, Arbiter{State: ArbiterOurs}, 6, "holding 172.16.0.1; 172.16.0.2 does not reply"},
	} {
		test.seen.Arbiter = test.arbiter
		d := Decide(Known{Role: Standby}, test.seen, Settings{Rise: 3, Arbiter: true}, now)
		if d.Rule != test.rule || d.Reason != test.want {
			t.Errorf("rule %d, %q, want %d, %q", d.Rule, d.Reason, test.rule, test.want)
		}
	}
	// A pause keeps nothing that another machine holds by the arbiter, and a manual
	// command does not either.
	down.Arbiter = Arbiter{State: ArbiterOther, Holder: "standby2", Lost: []netip.Addr{vip}}
	for _, d := range []Decision{
		Decide(Known{Role: Active, PausedUntil: now.Add(time.Hour)}, down, Settings{Arbiter: true}, now),
		DecideUnconfigured(Known{Role: Active}, down, Settings{Arbiter: true}, now),
		DecideTakeOver(down, "", false, true), DecideRelease(down, "", false, true),
	} {
		if d.Rule != RuleArbiter || !d.Release {
			t.Errorf("%+v", d)
		}
	}
}

func TestAKeyWithoutSenseMakesTheRecordCorrupt(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]Key{
		"revision": {Revision: -1}, "ttl": {TTL: -1}, "seen": {Seen: -1}, "asked": {Asked: -1}, "renewed": {Renewed: -1}, "end": {End: -1},
	} {
		rec := fullRecord()
		rec.Arbiter = &k
		if err := rec.Sound(); err == nil || err.Error() != "a number of the arbiter's key is below zero" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
