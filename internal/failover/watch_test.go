package failover

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// A process that checks ten times a second, as a watch does.

// watches makes checks of the standby, ten a second, for so long, and hands each
// report to see.
func (s *scene) watches(d time.Duration, see func(Report)) {
	s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(100 * time.Millisecond)
		s.events = nil // check would wait for the next second
		see(s.check())
		time.Sleep(time.Until(next))
	}
}

// fast are settings of the fast line.
func (s *scene) fast() {
	s.settings.Count, s.settings.Interval, s.settings.Timeout, s.settings.RetryWait = 3, 20*time.Millisecond, 40*time.Millisecond, 0
}

// TestRecordOfAWatchIsAMinuteOldAtTheMost: while all is well it is written once a
// minute, and never synced; what changes is written at once.
func TestRecordOfAWatchIsAMinuteOldAtTheMost(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.memory = &state.Memory{Every: time.Minute}
		path, files := filepath.Join(s.standby.dir, "web.json"), map[string]bool{}
		s.watches(3*time.Minute, func(r Report) {
			rec := s.standby.record(t, "web")
			if age := time.Since(rec.Last.Time); age > time.Minute {
				t.Errorf("the record is %s old", age)
			}
			info, err := os.Stat(path)
			must(t, err)
			stat := info.Sys().(*syscall.Stat_t)
			files[fmt.Sprint(stat.Ino, stat.Ctim)] = true
			if r.Outcome != state.OK {
				t.Errorf("outcome %s", r.Outcome)
			}
		})
		if n := len(files); n < 3 || n > 5 {
			t.Errorf("the record was written %d times in 3 minutes", n)
		}
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		if rec := s.standby.record(t, "web"); rec.Role != state.Active || rec.LastChange().Outcome != state.TookOver {
			t.Errorf("record after the takeover: role %s, %+v", rec.Role, rec.LastChange())
		}
	})
}

// TestStreaksOfAWatchAreOfSeconds: "three in a row" takes as long with ten checks a
// second as with one.
func TestStreaksOfAWatchAreOfSeconds(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.memory = &state.Memory{Every: time.Minute}
		s.fast()
		s.ends(state.OK, "")
		s.primary.unset(vipAddr)
		began, unserved := time.Now(), time.Duration(0)
		s.watches(10*time.Second, func(r Report) {
			if r.Outcome == state.Unserved && unserved == 0 {
				unserved = time.Since(began)
			}
		})
		if unserved < 2*time.Second || unserved > 4*time.Second {
			t.Errorf("unserved after %s, want 2 to 4 s for three checks in a row", unserved)
		}
	})
}

// TestWatchThatIsKilledKnowsTheMinuteBefore: the next process goes on from the
// record on disk, and what the killed one had changed is there.
func TestWatchThatIsKilledKnowsTheMinuteBefore(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.standby.memory = &state.Memory{Every: time.Minute}
		s.fast()
		s.watches(90*time.Second, func(Report) {})
		s.standby.memory = &state.Memory{Every: time.Minute}
		s.primary.powerOff()
		s.ends(state.TookOver, "")
		s.standby.memory = &state.Memory{Every: time.Minute}
		s.ends(state.Holding, "")
		if n := len(s.subjects()); n != 1 {
			t.Errorf("%d emails, want the one about the takeover: %q", n, s.subjects())
		}
		if up := s.standby.record(t, "web").Days[0].Up; up < 250 {
			t.Errorf("%d checks are counted, of 900 with the last minute lost", up)
		}
	})
}

// TestRoundsOfTheFastLine: the guards begin when the first ping has no reply, ask by
// ordinary requests until the second round begins, by probes from then on, and by both
// at the end; and they cost no time.
func TestRoundsOfTheFastLine(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fast()
		s.settings.Announce = 0
		s.ends(state.OK, "")
		type question struct {
			at    time.Duration
			probe bool
		}
		var began time.Time
		var asked []question
		s.gateway.tap = func(_ *machine, target, from netip.Addr) {
			if target == vipAddr {
				asked = append(asked, question{time.Since(began).Round(time.Millisecond), !from.IsValid() || from.IsUnspecified()})
			}
		}
		s.primary.powerOff()
		time.Sleep(time.Second)
		began = time.Now()
		s.ends(state.TookOver, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
		const ms = time.Millisecond
		want := []question{{20 * ms, false}, {44 * ms, false}, {67 * ms, false}, {90 * ms, true}, {114 * ms, true}, {137 * ms, true}, {137 * ms, false}}
		asked = slices.DeleteFunc(asked, func(q question) bool { return q.at >= 160*ms }) // it announces, and asks who else does
		if n := len(asked); n > 1 && !asked[n-2].probe {                                  // of the same moment
			asked[n-2], asked[n-1] = asked[n-1], asked[n-2]
		}
		if diff := cmp.Diff(want, asked, cmp.AllowUnexported(question{})); diff != "" {
			t.Errorf("questions for the virtual IP (-want +got):\n%s", diff)
		}
		if took := s.when("raise 172.16.0.1/32 on eth0") - began.Sub(s.began); took > 165*ms {
			t.Errorf("the address is assigned after %s, two rounds take 160 ms", took)
		}
	})
}

// TestFirstPingOfTheFastLineIsLost: nothing is asked that could keep another machine
// from assigning an address, where the primary replies to the second ping.
func TestFirstPingOfTheFastLineIsLost(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.fast()
		s.ends(state.OK, "")
		probes := 0
		s.gateway.tap = func(_ *machine, _, from netip.Addr) {
			if !from.IsValid() || from.IsUnspecified() {
				probes++
			}
		}
		s.primary.noPing = true
		s.at(50*time.Millisecond, func() { s.primary.noPing = false })
		s.ends(state.OK, "")
		if probes > 0 {
			t.Errorf("%d probes, while the primary replies", probes)
		}
	})
}
