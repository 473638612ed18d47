package e2e

import "testing"

// Each user completes the clusters that root checks, and no others.
func TestCompletionKnowsTheClustersOfTheMachine(t *testing.T) {
	s := shortScene(t)
	s.check(s.Standby, withVIP...)
	complete := func(args ...string) string {
		t.Helper()
		out, err := s.command(s.Standby, append([]string{"__complete", "--", "status"}, append(args, "")...)...).CombinedOutput()
		s.must(err)
		return string(out)
	}
	if got := complete(); got != "web\n" {
		t.Errorf("root completes %q", got)
	}
	if got := complete("--state-dir", "/none"); got != "" {
		t.Errorf("in /none there is %q", got)
	}
	s.asUser()
	if got := complete(); got != "web\n" {
		t.Errorf("the user nobody completes %q", got)
	}
}
