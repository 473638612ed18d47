package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pingover/state"
)

func TestMessagesOfSeveralClustersAreOne(t *testing.T) {
	about := func(name string, vip string, n Notification) state.Message {
		c := web()
		c.Name, c.VIPs = name, prefixes(vip)
		n.Time, n.Held, n.Undo = night, c.VIPs, []string{"ip addr del " + vip + " dev eth0"}
		return Compose(c, []Notification{n}, name+".1", "")
	}
	taken := Notification{Kind: TookOver, Outcome: state.TookOver, Evidence: silent()}
	got := Combine("172.16.0.2", []state.Message{
		about("web", "172.16.0.1/32", taken), about("db", "172.16.0.5/32", taken),
		about("mail", "172.16.0.6/32", Notification{Kind: Blocked, Outcome: state.Blocked, Evidence: silent(), Reason: "paused"}),
	})
	golden(t, "combined", fmt.Sprintf("Message-ID: %s\nTo: %s\nTime: %s\nSubject: %s\nCluster: %s\nOutcome: %s\n\n%s",
		got.MessageID, got.To, got.Time.Format(time.RFC3339), got.Subject, got.Cluster, got.Outcome, got.Body))

	var many []state.Message
	for i := range 500 {
		many = append(many, about(fmt.Sprintf("c%03d", i), "172.16.0.1/32", taken))
	}
	got = Combine("172.16.0.2", many)
	if got.Subject != "[pingover] 172.16.0.2 is down! 500 clusters: 500 took-over" {
		t.Errorf("subject %q", got.Subject)
	}
	if n := len(got.Body); n > 100_000 {
		t.Errorf("the message about 500 clusters has %d bytes", n)
	}
	for _, name := range []string{"c000", "c019", "c020", "c499"} {
		if !strings.Contains(got.Body, "[pingover] "+name+": 172.16.0.2 is down! standby1 took over 172.16.0.1") {
			t.Errorf("nothing about %s", name)
		}
	}
}

func TestCombinedResolutionsAreResolutions(t *testing.T) {
	a := state.Message{Cluster: "a", Outcome: "ok", Kind: "recovered", Subject: "[pingover] a: RESOLVED: x"}
	b := state.Message{Cluster: "b", Outcome: "ok", Kind: "recovered", Subject: "[pingover] b: RESOLVED: x"}
	if got := Combine("h", []state.Message{b, a}).Subject; got != "[pingover] RESOLVED: 2 clusters of h: 2 recovered" {
		t.Errorf("subject %q", got)
	}
	b.Subject = "[pingover] b: PROBLEM: x"
	if got := Combine("h", []state.Message{b, a}).Subject; got != "[pingover] PROBLEM: 2 clusters of h: 2 recovered" {
		t.Errorf("subject %q", got)
	}
}
