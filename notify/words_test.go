package notify

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pingover/check"
	"pingover/state"
)

// The advice is for the cause at hand and for no other: what state.Decide
// blocks is what the message is about.
func TestBlockedAdvisesOnItsCauseAlone(t *testing.T) {
	vip := state.VIPStatus{Address: netip.MustParseAddr("172.16.0.1"), Asked: true}
	inUse := vip
	inUse.InUse, inUse.MAC = true, "52:54:00:aa:bb:cc"
	down := state.Observation{
		Host: "172.16.0.2", Primary: check.Down, OnLink: true, VIPs: []state.VIPStatus{vip}, Witness: state.WitnessGood, Uptime: time.Hour,
	}
	with := func(change func(*state.Observation)) state.Observation {
		o := down
		change(&o)
		return o
	}
	holder := []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}}
	silentWitness := []state.Witness{{Address: "172.16.0.254"}}
	advice := map[string]string{
		"pause":          `"pingover resume web" ends the pause`,
		"boot":           "first check after boot-wait",
		"manual release": `"pingover resume web" allows takeovers again`,
		"no witness":     "Set witness to a third host",
		"isolated":       "Check the network of standby1 first",
		"not asked":      "Check standby1 first: its cable",
		"ARP":            "its firewall drops ping",
		"in use":         "Find the machine with that MAC address",
		"in use by ping": "Find the machine that replies at 172.16.0.1",
		"prober":         "Nothing, if the other standby has 172.16.0.1",
		"fence":          "Fix what pre-takeover reports",
	}
	tests := []struct {
		cause   string
		known   state.Known
		seen    state.Observation
		proof   state.Evidence
		failed  bool // pre-takeover, after Decide
		subject string
	}{
		{cause: "pause", known: state.Known{PausedUntil: night.Add(time.Hour)}, seen: down, subject: "the cluster is paused"},
		{cause: "boot", seen: with(func(o *state.Observation) { o.Uptime = time.Minute }), subject: "standby1 has just booted"},
		{cause: "manual release", known: state.Known{ManualRelease: true}, seen: down, subject: "it was released manually"},
		{cause: "no witness", seen: with(func(o *state.Observation) { o.Witness = state.WitnessNone }), subject: "no witness is known"},
		{
			cause: "isolated", seen: with(func(o *state.Observation) { o.Witness = state.WitnessSilent }),
			proof: state.Evidence{Witnesses: silentWitness}, subject: "no witness replies",
		},
		{cause: "not asked", seen: with(func(o *state.Observation) { o.Witness = state.WitnessNotAsked }), subject: "no witness could be asked"},
		{cause: "ARP", seen: with(func(o *state.Observation) { o.AnswersARP = true }), subject: "172.16.0.2 replies to ARP, but not to ping"},
		{
			cause: "in use", seen: with(func(o *state.Observation) { o.OnLink, o.VIPs = false, []state.VIPStatus{inUse} }),
			proof: state.Evidence{Holders: holder}, subject: "172.16.0.1 is in use (by 52:54:00:aa:bb:cc)",
		},
		{
			cause: "in use by ping", seen: with(func(o *state.Observation) { o.OnLink, o.VIPs = false, []state.VIPStatus{inUse} }),
			proof: state.Evidence{Holders: []state.Holder{{Address: "172.16.0.1"}}}, subject: "172.16.0.1 is in use",
		},
		{cause: "prober", seen: with(func(o *state.Observation) { o.CompetingProber = "52:54:00:00:00:01" }), subject: "another standby is taking over"},
		{cause: "fence", seen: down, failed: true, subject: "pre-takeover failed"},
	}
	for _, test := range tests {
		t.Run(test.cause, func(t *testing.T) {
			d := state.Decide(test.known, test.seen, state.Settings{Rise: 3, BootWait: 3 * time.Minute}, night)
			if test.failed {
				d.Outcome, d.Cause = state.Blocked, state.CausePreTakeover
			}
			d.Reason = "paused pre-takeover ARP boot-wait about to" // words decide nothing
			if d.Outcome != state.Blocked {
				t.Fatalf("%s by rule %d: %s", d.Outcome, d.Rule, d.Reason)
			}
			test.proof.Rounds = silent().Rounds
			m := Compose(web(), []Notification{{Kind: Blocked, Cause: d.Cause, Time: night, Reason: d.Reason, Evidence: test.proof}}, "id", "")
			if want := "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: " + test.subject; m.Subject != want {
				t.Errorf("subject %q, want %q (%s)", m.Subject, want, d.Reason)
			}
			body := strings.Join(strings.Fields(m.Body), " ")
			for cause, text := range advice {
				if strings.Contains(body, text) != (cause == test.cause) {
					t.Errorf("advice for %s: %v\n%s", cause, cause != test.cause, m.Body)
				}
			}
		})
	}
}

// The advice about a check that could not be made is by its cause too.
func TestUnknownAdvisesOnItsCauseAlone(t *testing.T) {
	advice := map[state.Cause]string{
		state.CauseName:    "Check the name servers of standby1",
		state.CauseRefused: "allow ICMP echo from standby1 to 172.16.0.2",
		"":                 "Check standby1 first, not 172.16.0.2",
	}
	for cause := range advice {
		m := Compose(web(), []Notification{{Kind: Unknown, Cause: cause, Time: night, Reason: "resolve: refused by"}}, "id", "")
		body := strings.Join(strings.Fields(m.Body), " ")
		for other, text := range advice {
			if strings.Contains(body, text) != (other == cause) {
				t.Errorf("cause %q, advice for %q: %v\n%s", cause, other, cause != other, m.Body)
			}
		}
	}
}

// The address of the primary that it answers for itself is never called
// another machine.
func TestThePrimaryIsNotAnotherMachine(t *testing.T) {
	const mac = "52:54:00:aa:bb:cc"
	c := web()
	c.PrimaryMAC = mac
	e := state.Evidence{Holders: []state.Holder{{Address: "172.16.0.1", MAC: mac}}}
	vips := prefixes("172.16.0.1/32")
	heard := e
	heard.Holders = append([]state.Holder{{Address: "172.16.0.2", MAC: mac}}, e.Holders...)
	for name, n := range map[string]Notification{
		"released":             {Kind: Released, Missing: vips, Evidence: e},
		"conflict":             {Kind: Blocked, Cause: state.CausePaused, Held: vips, Evidence: e},
		"took over and yields": {Kind: Blocked, Evidence: state.Evidence{Holders: e.Holders, Commands: []state.Command{{Argv: []string{"ip"}}}}},
	} {
		for _, known := range []bool{true, false} { // by the record, or by this run's evidence
			about, n := c, n
			if !known {
				about.PrimaryMAC, n.Evidence.Holders = "", heard.Holders
			}
			m := Compose(about, []Notification{n}, "id", "")
			if text := strings.Join(strings.Fields(m.Subject+" "+m.Body), " "); strings.Contains(text, "another machine") || !strings.Contains(text, "the primary 172.16.0.2") {
				t.Errorf("%s: %s\n%s", name, m.Subject, m.Body)
			}
			if !strings.Contains(m.Body, "172.16.0.1 is at "+mac+", the primary\n") {
				t.Errorf("%s: the evidence does not name the primary\n%s", name, m.Body)
			}
		}
	}
}

// With IPv6 the primary cannot assign an address that is still held here.
func TestAdviceToTakeBackIPv6ReleasesFirst(t *testing.T) {
	c := web()
	c.VIPs = prefixes("2001:db8::1/128")
	for _, kind := range []Kind{TookOver, PrimaryBack, NobodyTook} {
		m := Compose(c, []Notification{{Kind: kind, Time: night, Held: c.VIPs}}, "id", "")
		body := strings.Join(strings.Fields(m.Body), " ")
		if !strings.Contains(body, `run "pingover release web" on standby1, and assign 2001:db8::1 on 172.16.0.2 at once`) || strings.Contains(body, "at its next check") {
			t.Errorf("%s:\n%s", kind, m.Body)
		}
	}
}
