package notify

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

var (
	poolNoon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	www      = Cluster{
		Name: "www", Host: "host1.zone.com", Server: "192.0.2.53:53", Hostname: "standby", To: []string{"root"}, Now: []string{"10.2.2.10", "10.2.2.12"},
	}
)

func removed() *state.Change {
	return &state.Change{
		Event: "20260301T120000Z-ABCDEFGH", Time: poolNoon, Outcome: state.Removed, Reason: "10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com",
		Evidence: state.Evidence{
			Rounds: []state.Round{
				{Number: 1, Address: "10.2.2.11", Verdict: "down", Sent: 5},
				{Number: 2, Address: "10.2.2.11", Verdict: "down", Sent: 5},
			},
			Witnesses: []state.Witness{{Address: "10.2.2.1", Answers: true}},
			Update: &state.Update{
				Leave:   []netip.Addr{netip.MustParseAddr("10.2.2.11")},
				Script:  "server 192.0.2.53 53\nzone zone.com.\nupdate delete host1.zone.com. A 10.2.2.11\nsend\n",
				Inverse: "server 192.0.2.53 53\nzone zone.com.\nupdate add host1.zone.com. 60 A 10.2.2.11\nsend\n",
			},
		},
	}
}

func TestMailOfAMemberThatLeft(t *testing.T) {
	t.Parallel()
	h, _ := Plan(state.Head{Name: "www"}, www, Facts{
		Time: poolNoon, Outcome: state.Removed, Reason: removed().Reason, Change: removed(),
		Check: &Check{Outcome: state.Removed, Rule: 5, Now: poolNoon},
	}, Policy{Rise: 3})
	if len(h.Outbox) != 1 {
		t.Fatalf("%d messages", len(h.Outbox))
	}
	m := h.Outbox[0]
	m.Body = strings.ReplaceAll(m.Body, "\r\n", "\n")
	want := `standby has taken 10.2.2.11 out of host1.zone.com: new clients no longer
reach it. host1.zone.com has 10.2.2.10, 10.2.2.12 now.

Reason: 10.2.2.11 is down: 10.2.2.11 leaves host1.zone.com

When
  2026-03-01 13:00:00 +0100 CET
  2026-03-01 12:00:00 UTC
  ID in the history: 20260301T120000Z-ABCDEFGH

Evidence
  ping 10.2.2.11, round 1: down, 5 sent, 0 received
  ping 10.2.2.11, round 2: down, 5 sent, 0 received
  witness 10.2.2.1: replies

The update, as input of nsupdate
  server 192.0.2.53 53
  zone zone.com.
  update delete host1.zone.com. A 10.2.2.11
  send

To undo it, as input of nsupdate (pause the pool first)
  server 192.0.2.53 53
  zone zone.com.
  update add host1.zone.com. 60 A 10.2.2.11
  send

What to do now
  Find out what happened to 10.2.2.11; clients that have resolved
  host1.zone.com before go on for the time to live of the records. It
  returns by itself, when it was up in enough checks in a row (rise).

pingover on standby, pool www: host1.zone.com at 192.0.2.53:53
`
	if diff := cmp.Diff("[pingover] www: 10.2.2.11 is down! removed from host1.zone.com", m.Subject); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, m.Body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

// One member leaves, and others that are down have to stay: both are mailed, and
// the alert goes on firing while the later checks are blocked.
func TestMembersThatHaveToStayAreAnAlertBesideTheChange(t *testing.T) {
	t.Parallel()
	h := state.Head{Name: "www"}
	reason := "10.2.2.11 is down; 2001:db8::10 is down, but stays"
	facts := Facts{
		Time: poolNoon, Outcome: state.Removed, Reason: reason, Change: removed(),
		Check: &Check{Outcome: state.Blocked, Rule: 4, Reason: reason, Now: poolNoon},
	}
	h, draft := Plan(h, www, facts, Policy{Rise: 3})
	var kinds []Kind
	for _, n := range draft.All {
		kinds = append(kinds, n.Kind)
	}
	if diff := cmp.Diff([]Kind{Removed, Blocked}, kinds); diff != "" {
		t.Errorf("the first check (-want +got):\n%s", diff)
	}
	facts = Facts{
		Time: poolNoon.Add(time.Minute), Outcome: state.Blocked, Reason: reason,
		Check: &Check{Outcome: state.Blocked, Rule: 4, Reason: reason, Now: poolNoon.Add(time.Minute)},
	}
	if h, draft = Plan(h, www, facts, Policy{Rise: 3}); len(draft.All) > 0 || len(h.Outbox) != 1 || len(h.Alerts) != 1 {
		t.Errorf("the next check: %+v", draft.All)
	}
}

func TestSubjectsOfPools(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		n    Notification
		want string
	}{
		{Notification{Kind: Removed, Rule: 0, Evidence: removed().Evidence}, "10.2.2.11 removed from host1.zone.com"},
		{
			Notification{Kind: Restored, Rule: 5, Evidence: state.Evidence{Update: &state.Update{Return: []netip.Addr{netip.MustParseAddr("10.2.2.11"), netip.MustParseAddr("2001:db8::10")}}}},
			"10.2.2.11, 2001:db8::10 are back in host1.zone.com",
		},
		{Notification{Kind: UpdateFailed}, "PROBLEM: DNS update failed: host1.zone.com is as it was"},
		{Notification{Kind: Blocked, Rule: 2}, "PROBLEM: host1.zone.com not changed: the pool is paused"},
		{Notification{Kind: Blocked, Rule: 3}, "PROBLEM: host1.zone.com not changed: no witness and no other member replies"},
		{Notification{Kind: Blocked, Rule: 4}, "PROBLEM: host1.zone.com not changed: too few members would be left"},
		{Notification{Kind: Unknown}, "PROBLEM: standby cannot check host1.zone.com"},
		{Notification{Kind: LeftRecords}, "PROBLEM: records without a member in host1.zone.com"},
		{Notification{Kind: StateFailed}, "PROBLEM: standby cannot write its state"},
		{Notification{Kind: LockHeld}, "PROBLEM: not checked: a run on standby keeps the lock"},
		{Notification{Kind: Recovered, Alert: state.Alert{Kind: "blocked"}}, "RESOLVED: changes of host1.zone.com are no longer blocked"},
		{Notification{Kind: Recovered, Alert: state.Alert{Kind: "update-failed"}}, "RESOLVED: host1.zone.com can be updated again"},
		{Notification{Kind: Recovered, Alert: state.Alert{Kind: "unknown"}}, "RESOLVED: standby can check host1.zone.com again"},
		{Notification{Kind: Recovered, Alert: state.Alert{Kind: "left-records"}}, "RESOLVED: host1.zone.com has only records of members, or of others"},
		{Notification{Kind: Recovered, Alert: state.Alert{Kind: "state-failed"}}, "RESOLVED: standby can write its state again"},
	} {
		test.n.Time = poolNoon
		m := Compose(www, []Notification{test.n}, "id", "")
		if diff := cmp.Diff("[pingover] www: "+test.want, m.Subject); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.n.Kind, diff)
		}
		for _, word := range []string{"takeover", "primary", "virtual IP", " holds "} {
			if test.n.Kind != LockHeld && strings.Contains(m.Body, word) {
				t.Errorf("%s speaks of a %s:\n%s", test.n.Kind, word, m.Body)
			}
		}
	}
}
