package notify

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

func TestAFileThatCannotBeUsedIsMailedOncePerCause(t *testing.T) {
	const day = 24 * time.Hour
	one, two := []string{"pingover.yaml:1: one"}, []string{"pingover.yaml:2: two"}
	to := []Cluster{web(), {Name: "db, mail", Hostname: "standby1", To: []string{"dba@example.org"}}, {Name: "silent", Hostname: "standby1"}}
	v := state.ValidConfig{Path: "/etc/pingover.yaml", Text: "text", Valid: night.Add(-day)}
	for i, step := range []struct {
		after    time.Duration
		errors   []string
		due      bool
		unusable time.Duration // since then; -1: it can be used
		subject  string
	}{
		{0, nil, false, -1, ""},
		{time.Minute, one, true, time.Minute, "PROBLEM: /etc/pingover.yaml cannot be used: 1 error"},
		{2 * time.Minute, one, false, time.Minute, ""},
		{3 * time.Minute, two, true, time.Minute, "PROBLEM: /etc/pingover.yaml cannot be used: 1 error"},
		{3*time.Minute + day - 1, two, false, time.Minute, ""},
		{3*time.Minute + day, two, true, time.Minute, "PROBLEM: /etc/pingover.yaml cannot be used: 1 error"},
		{2 * day, nil, true, -1, "RESOLVED: /etc/pingover.yaml can be used again"},
		{2 * day, nil, false, -1, ""},
		{3 * day, two, true, 3 * day, "PROBLEM: /etc/pingover.yaml cannot be used: 1 error"},
	} {
		now := night.Add(step.after)
		v.Outbox = nil
		var due bool
		v, due = PlanFile(v, step.errors, to, day, now)
		if since := v.Unusable.Sub(night); due != step.due || since != step.unusable && step.unusable >= 0 || v.Unusable.IsZero() != (step.unusable < 0) {
			t.Errorf("step %d: due %t, unusable since %s", i, due, since)
		}
		var got, want []string
		for _, m := range v.Outbox {
			got = append(got, m.To[0]+" "+m.Subject)
		}
		if step.subject != "" {
			want = []string{"ops@example.org [pingover] web: " + step.subject, "dba@example.org [pingover] db, mail: " + step.subject}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d (-want +got)\n%s", i, diff)
		}
	}
}
