package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// as makes a check with options of the command line.
func (s *scene) as(o Options) Report {
	s.t.Helper()
	o.OnEvent = func(e any) { s.events = append(s.events, e) }
	s.events = nil
	report, err := CheckIn(s.t.Context(), s.standby.env(), s.settings, o)
	must(s.t, err)
	s.quiet()
	return report
}

// taken is a scene in which the standby holds the virtual IP.
func taken(s *scene) {
	s.ends(state.OK, "")
	s.do(func() { s.primary.powerOff() })
	s.ends(state.TookOver, "")
	s.standby.mailbox = nil
}

const file = "/etc/pingover.yaml"

func TestAnUnconfiguredClusterIsGuardedAndAddsNothing(t *testing.T) {
	left := Options{Origin: file, Unconfigured: true}
	play(t, func(t *testing.T, s *scene) {
		s.vips("172.16.0.1/32", "172.16.0.5/32")
		s.primary.set("eth0", "172.16.0.5/32")
		taken(s)
		s.do(func() { s.standby.unset(s.settings.VIPs[1].Prefix.Addr()) })
		s.want(s.as(left), state.Holding, "holding 172.16.0.1; 172.16.0.2 does not reply")
		if s.standby.holds(s.settings.VIPs[1].Prefix.Addr()) {
			t.Error("an address was added")
		}
		want := []string{
			"[pingover] web: PROBLEM: 172.16.0.5 was removed from HOSTNAME, not by pingover",
			"[pingover] web: PROBLEM: no longer configured, still holding 172.16.0.1",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
	play(t, func(t *testing.T, s *scene) {
		s.settings.Failback, s.settings.Rise = true, 1
		taken(s)
		for range 3 {
			s.want(s.as(left), state.Holding, "holding 172.16.0.1")
			time.Sleep(time.Minute)
		}
		s.do(func() { s.primary.boot(); s.primary.unset(vipAddr) })
		for range 3 {
			s.want(s.as(left), state.Holding, "172.16.0.2 replies again")
			time.Sleep(time.Minute)
		}
		time.Sleep(24 * time.Hour)
		s.as(left)
		if rec := s.standby.record(t, "web"); rec.Origin != file || rec.Role != state.Active {
			t.Errorf("origin %q, role %s", rec.Origin, rec.Role)
		}
		// A conflict ends it.
		s.do(func() { s.primary.set("eth0", "172.16.0.1/32") })
		s.want(s.as(left), state.Released, "172.16.0.1")
		s.want(s.as(left), state.OK, "nothing is held here any more, and the cluster is no longer configured")
		const problem = "[pingover] web: PROBLEM: no longer configured, still holding 172.16.0.1"
		var got []string
		for _, subject := range s.subjects() {
			if strings.Contains(subject, "configured") {
				got = append(got, subject)
			}
		}
		if diff := cmp.Diff([]string{problem, problem}, got); diff != "" {
			t.Errorf("subjects -want +got\n%s", diff)
		}
		// It takes nothing over again.
		s.do(func() { s.primary.powerOff() })
		s.want(s.as(left), state.OK, "nothing is held here any more")
	})
}

func TestAClusterThatIsConfiguredAgain(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		taken(s)
		s.as(Options{Origin: file, Unconfigured: true})
		s.as(Options{Origin: file})
		want := []string{
			"[pingover] web: PROBLEM: no longer configured, still holding 172.16.0.1",
			"[pingover] web: RESOLVED: web is configured again",
		}
		if diff := cmp.Diff(want, s.subjects()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestAPrimaryThatGetsAnotherAddressIsAccepted(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		s.do(func() { s.primary.set("eth0", "172.16.0.7/16") })
		s.settings.Host = "172.16.0.7"
		s.ends(state.OK, "172.16.0.7 replies")
		want := []string{`! the primary is now "172.16.0.7", and was "172.16.0.2": what was counted in a row begins anew`}
		if diff := cmp.Diff(want, s.notes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		s.ends(state.OK, "172.16.0.7 replies")
		if rec := s.standby.record(t, "web"); rec.Host != "172.16.0.7" || rec.Streaks.Up != 2 || len(s.notes()) != 0 {
			t.Errorf("host %s, streaks %+v, notes %q", rec.Host, rec.Streaks, s.notes())
		}
	})
}

func TestARenamedClusterGoesOnHolding(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		taken(s)
		s.settings.Name = "www"
		s.want(s.as(Options{Origin: file, Inherits: "web"}), state.Holding, "holding 172.16.0.1")
		if diff := cmp.Diff([]string{"! web was renamed to www: its history, pending mail and what it holds are taken over"}, s.notes()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		rec := s.standby.record(t, "www")
		if rec.Role != state.Active || len(rec.Recent) != 1 || rec.Neighbour == "" || !rec.VIPs[0].Raised {
			t.Errorf("%+v", rec)
		}
		if names, _ := state.Dir(s.standby.dir).Clusters(); len(names) != 1 {
			t.Errorf("clusters %v", names)
		}
		if len(s.subjects()) != 0 {
			t.Errorf("mail %v", s.subjects())
		}
	})
}

// A primary that was replaced by another machine: what the old one has shown says
// nothing of the new one.
func TestTakeoverFromANewPrimarySaysThatItWasNeverSeenUp(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		if !s.standby.record(t, "web").Rehearsed.Equal(s.checked.Truncate(time.Second)) {
			t.Error("the first check rehearses no takeover")
		}
		s.settings.Host = "172.16.0.7" // and nobody is there
		s.do(func() { s.primary.unset(vipAddr) })
		time.Sleep(time.Minute)
		s.ends(state.TookOver, "172.16.0.7 was never seen up from here")
	})
	play(t, func(t *testing.T, s *scene) {
		s.add("new", 7, "172.16.0.7/16", "172.16.0.1/32")
		s.ends(state.OK, "")
		s.settings.Host = "172.16.0.7"
		s.do(func() { s.primary.powerOff() })
		time.Sleep(time.Minute)
		s.ends(state.OK, "")
		if rec := s.standby.record(t, "web"); !rec.Rehearsed.Equal(s.checked.Truncate(time.Second)) || rec.Streaks.Ready != 1 {
			t.Errorf("rehearsed %s, %d in a row; want the first of the new primary at %s", rec.Rehearsed, rec.Streaks.Ready, s.checked)
		}
	})
}
