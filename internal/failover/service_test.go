package failover

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/state"
)

var (
	good    = check.ServiceResult{Health: check.Good}
	refused = check.ServiceResult{Health: check.Bad, Reason: "connection refused"}
)

// serves gives the primary a service with fencing, whose answer is result.
func (s *scene) serves(result *check.ServiceResult) {
	s.settings.Services, s.settings.Fall, s.settings.FailoverOnService = []check.Service{{Port: 80}}, 2, true
	s.standby.service = func(netip.Addr) check.ServiceResult { return *result }
}

// Killed at any moment after that, no run fences a second time.
func TestFencingForAServiceIsWrittenDownBeforeItIsDone(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		result := good
		s.serves(&result)
		ran := s.hooked(func(context.Context, string) (string, error) {
			if rec := s.standby.record(t, "web"); rec.Role != state.Taking || rec.Services[0].Proven || rec.Services[0].Bad != 1 {
				t.Errorf("when the hook runs, the record says %s, %+v", rec.Role, rec.Services)
			}
			return "", errors.New("exit code 1: no answer from the board")
		})
		s.ends(state.OK, "172.16.0.2 replies")
		result = refused
		s.ends(state.OK, "172.16.0.2 replies")
		s.ends(state.Blocked, "; pre-takeover blocked it: exit code 1: no answer from the board")
		if rec := s.standby.record(t, "web"); rec.Role != state.Standby || rec.Services[0].Bad != 2 {
			t.Errorf("afterwards: %s, %+v", rec.Role, rec.Services)
		}
		for range 5 {
			s.ends(state.Unserved, "172.16.0.2 replies, but service tcp:80 does not work: connection refused")
		}
		if len(*ran) != 1 || len(s.calls("raise 172")) != 0 {
			t.Errorf("hooks %q, %q", *ran, s.calls("raise 172"))
		}
	})
}

// What cannot be remembered would be done again by the next check.
func TestNothingIsFencedThatCannotBeWrittenDown(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		result := good
		s.serves(&result)
		ran := s.hooked(nil)
		s.ends(state.OK, "")
		result = refused
		s.ends(state.OK, "")
		s.spoil()
		s.ends(state.Blocked, "; not fenced: ")
		if len(*ran) != 0 || len(s.calls("raise 172")) != 0 {
			t.Errorf("hooks %q, %q", *ran, s.calls("raise 172"))
		}
	})
}

func TestFencedPrimaryMustBeSilent(t *testing.T) {
	for name, c := range map[string]struct {
		fence   func(*scene) // what the hook does
		outcome state.Outcome
		reason  string
	}{
		"all is silent":            {func(s *scene) { s.primary.powerOff() }, state.TookOver, "172.16.0.2 replies, but service tcp:80 does not work: connection refused (2 checks in a row); it is fenced, and 172.16.0.1 taken over"},
		"it still replies":         {func(*scene) {}, state.Blocked, "172.16.0.2 was fenced for tcp:80, but it still replies"},
		"it replies to ARP":        {func(s *scene) { s.primary.noPing = true }, state.Blocked, "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive"},
		"another has the address":  {func(s *scene) { s.primary.powerOff(); s.gateway.set("eth0", "172.16.0.1/32") }, state.Elsewhere, "another standby serves 172.16.0.1"},
		"our own cable is cut":     {func(s *scene) { s.standby.nic("eth0").Carrier = false }, state.Blocked, "172.16.0.2 was fenced for tcp:80, but it cannot be verified that it is silent"},
		"the gateway went with it": {func(s *scene) { s.primary.powerOff(); s.gateway.powerOff() }, state.Blocked, "no witness replies either"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *scene) {
				result := good
				s.serves(&result)
				s.hooked(func(_ context.Context, hook string) (string, error) {
					if hook == "/pre-takeover" {
						s.do(func() { c.fence(s) })
					}
					return "", nil
				})
				s.ends(state.OK, "")
				result = refused
				s.ends(state.OK, "")
				s.ends(c.outcome, c.reason)
				if raised := len(s.calls("raise 172")) > 0; raised != (c.outcome == state.TookOver) {
					t.Errorf("calls: %q", s.calls("raise 172", "hook"))
				}
			})
		})
	}
}

// While it is held here, two places are asked: this machine for its clients, and
// the primary for the failback.
func TestServicesWhileHolding(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.settings.Services, s.settings.Fall = []check.Service{{Port: 80}}, 2
		answers := map[string]check.ServiceResult{"172.16.0.1": good, "172.16.0.2": good}
		s.standby.service = func(a netip.Addr) check.ServiceResult { return answers[a.String()] }
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		if asked := s.calls("service"); len(asked) != 0 {
			t.Errorf("a primary that is down was asked: %q", asked)
		}
		s.ends(state.Holding, "")
		if diff := cmp.Diff([]string{"service tcp:80 at 172.16.0.1"}, s.calls("service")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		answers["172.16.0.1"] = refused
		for range 3 {
			s.ends(state.Holding, "")
		}
		answers["172.16.0.1"] = good
		for range 3 {
			s.ends(state.Holding, "")
		}
		want := []string{
			"[pingover] web: 172.16.0.2 is down! HOSTNAME took over 172.16.0.1",
			"[pingover] web: PROBLEM: HOSTNAME holds 172.16.0.1, but service tcp:80 does not work",
			"[pingover] web: RESOLVED: the services work on HOSTNAME",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
	})
}

// A certificate is a fault that somebody has to fix, and no reason to switch.
func TestACertificateThatDoesNotVerifyIsAnAlert(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		result := good
		s.serves(&result)
		ran := s.hooked(nil)
		s.ends(state.OK, "")
		result = check.ServiceResult{Certificate: true, Reason: "its certificate does not verify: x509: certificate has expired"}
		for range 5 {
			s.ends(state.OK, "172.16.0.2 replies")
		}
		result = good
		s.ends(state.OK, "")
		want := []string{
			"[pingover] web: PROBLEM: the certificate of service tcp:80 does not verify",
			"[pingover] web: RESOLVED: the certificates of the services verify again",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("mail (-want +got):\n%s", diff)
		}
		if len(*ran) != 0 {
			t.Errorf("hooks %q", *ran)
		}
	})
}

// A check that was healthy takes no longer than its slowest service.
func TestServicesAreAskedSideBySide(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.primary.set("eth0", "172.16.0.5/32")
		s.settings.Services, s.settings.Fall = []check.Service{{Port: 80}, {Port: 81}}, 2
		s.standby.service = func(a netip.Addr) check.ServiceResult {
			time.Sleep(2 * time.Second)
			if strings.HasSuffix(a.String(), ".5") {
				return refused
			}
			return good
		}
		s.ends(state.OK, "")
		if s.took > 4*time.Second {
			t.Errorf("it took %s", s.took)
		}
		s.ends(state.Unserved, "service tcp:80 does not work: connection refused at 172.16.0.5; service tcp:81 does not work: connection refused at 172.16.0.5")
	})
}
