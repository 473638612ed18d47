package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/state"
)

// TestAPrimaryThatTogglesForAnHour is at most three messages in any hour, and every change of the history is told: by its own
// message, or by the one that tells of many.
func TestAPrimaryThatTogglesForAnHour(t *testing.T) {
	t.Parallel()
	ways := map[string]struct {
		up, down func(s *scene)
	}{
		"it dies, and boots with the virtual IP": {
			func(s *scene) { s.primary.boot() },
			func(s *scene) { s.primary.powerOff() },
		},
		"it dies, and boots without the virtual IP": {
			func(s *scene) { s.primary.boot(); s.primary.unset(vipAddr) },
			func(s *scene) { s.primary.powerOff() },
		},
		"it never has the virtual IP, and dies": {
			func(s *scene) { s.primary.base = copyNICs(s.primary.nics); s.primary.boot(); s.primary.unset(vipAddr) },
			func(s *scene) { s.primary.unset(vipAddr); s.primary.powerOff() },
		},
		"it stops answering pings": {
			func(s *scene) { s.primary.noPing = false },
			func(s *scene) { s.primary.noPing = true },
		},
		"it has the virtual IP, and has not": {
			func(s *scene) { s.primary.unset(vipAddr); s.primary.set("eth0", "172.16.0.1/32") },
			func(s *scene) { s.primary.unset(vipAddr) },
		},
		"the witness dies with it": {
			func(s *scene) { s.primary.boot(); s.gateway.boot() },
			func(s *scene) { s.primary.powerOff(); s.gateway.powerOff() },
		},
		"the standby's cable is out meanwhile": {
			func(s *scene) { s.primary.boot(); s.standby.nic("eth0").Carrier = true },
			func(s *scene) { s.primary.powerOff(); s.standby.nic("eth0").Carrier = false },
		},
	}
	paces := []struct{ every, rise int }{{1, 1}, {1, 3}, {4, 3}} // checks
	kinds := []string{"failback", "failback, and it takes it", "no virtual IP", ""}
	if testing.Short() {
		paces, kinds = paces[:1], kinds[:1]
	}
	for name, way := range ways {
		for _, pace := range paces {
			for _, more := range kinds {
				if strings.HasPrefix(name, "it never") && more == "failback, and it takes it" {
					continue
				}
				t.Run(fmt.Sprintf("%s, every %d, rise %d, %s", name, pace.every, pace.rise, more), func(t *testing.T) {
					t.Parallel()
					play(t, func(t *testing.T, s *scene) {
						s.settings.Rise = pace.rise
						switch more {
						case "failback":
							s.settings.Failback = true
						case "failback, and it takes it":
							s.settings.Failback = true
							s.takesIt()
						case "no virtual IP":
							s.settings.VIPs = nil
						}
						s.storm(pace.every, way.up, way.down)
					})
				})
			}
		}
	}
}

// storm is an hour in which the primary toggles every so many checks, and a
// quiet one.
func (s *scene) storm(every int, up, down func(*scene)) {
	s.t.Helper()
	var changes []state.Change
	var at []time.Time // messages
	minute := func() {
		s.minute()
		for len(at) < len(s.standby.mailbox) {
			at = append(at, time.Now())
		}
		for _, c := range s.standby.record(s.t, "web").Recent {
			if !slices.ContainsFunc(changes, func(k state.Change) bool { return k.Event == c.Event }) {
				changes = append(changes, c.Change)
			}
		}
	}
	minute()
	for n := range 60 {
		time.Sleep(time.Until(s.began.Add(time.Since(s.began).Truncate(time.Minute) + 57*time.Second)))
		switch {
		case n%(2*every) == 0:
			s.do(func() { down(s) })
		case n%every == 0:
			s.do(func() { up(s) })
		}
		minute()
	}
	s.do(func() { up(s) })
	for range 65 {
		minute()
	}

	for _, since := range at {
		n := 0
		for _, then := range at {
			if d := then.Sub(since); d >= 0 && d < time.Hour {
				n++
			}
		}
		if n > 16 { // ten changes of role, two of each other kind, and what was suppressed
			s.t.Errorf("%d messages in the hour from minute %.0f on", n, since.Sub(s.began).Minutes())
			break
		}
	}
	var text strings.Builder
	for i, l := range s.standby.mailbox {
		text.WriteString(l.Body)
		if s.t.Failed() {
			s.t.Logf("minute %.0f: %s", at[i].Sub(s.began).Minutes(), l.Subject)
		}
	}
	for _, c := range changes {
		if !strings.Contains(text.String(), c.Event) {
			s.t.Errorf("nobody was told of %s (%s): %s", c.Event, c.Outcome, c.Reason)
		}
	}
	rec := s.standby.record(s.t, "web")
	if len(rec.Outbox) > 0 || len(rec.Damping.Suppressed) > 0 {
		s.t.Errorf("not told: %d messages, %d gathered", len(rec.Outbox), len(rec.Damping.Suppressed))
	}
}
