package failover

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/run"
	"pingover/state"
)

// A run that is stopped keeps its lock, and its own deadline cannot end it. The
// checks that find the lock held say so once an hour, and mail it themselves.
func TestLockThatIsHeldForTooLong(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		s.ends(state.OK, "")
		unlock, err := state.Dir(s.standby.dir).Lock("web")
		must(t, err)
		lock := filepath.Join(s.standby.dir, "web.lock")
		now := time.Now()
		must(t, os.Chtimes(lock, now, now)) // in the time of the test
		s.primary.powerOff()
		busy := func() (warnings []string) {
			t.Helper()
			time.Sleep(time.Minute)
			if _, err := s.try(); err == nil || err.Error() != "another run is checking this cluster" {
				t.Fatalf("error %v", err)
			}
			for _, note := range s.notes() {
				if text, ok := strings.CutPrefix(note, "! "); ok {
					warnings = append(warnings, text)
				}
			}
			return warnings
		}
		limit := s.settings.Deadline() + run.LockPatience
		want := fmt.Sprintf("run %d has held the lock since %s, longer than a run can take (", os.Getpid(), now.Local().Format("2006-01-02 15:04:05 -0700"))
		var said []time.Duration
		for time.Since(now) < limit+90*time.Minute {
			for _, text := range busy() {
				said = append(said, time.Since(now))
				if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, fmt.Sprintf("to end it: kill -9 %d", os.Getpid())) {
					t.Errorf("warning %q, want one that begins %q", text, want)
				}
			}
		}
		if len(said) != 2 || said[0] < limit || said[0] > limit+2*time.Minute || said[1]-said[0] < time.Hour || said[1]-said[0] > 62*time.Minute {
			t.Errorf("said after %s, want it after %s and once an hour", said, limit)
		}
		const subject = "[pingover] web: PROBLEM: not checked: a run on HOSTNAME keeps the lock"
		if got := s.subjects(); !slices.Equal(got, []string{subject, subject}) {
			t.Errorf("mail %q, want twice %q", got, subject)
		}
		unlock()
		s.ends(state.TookOver, "")
	})
}

// What a run that has ended left in the lock file says nothing of the one that
// holds the lock, as where the disk has become read-only.
func TestLockWhoseHolderIsNotKnown(t *testing.T) {
	play(t, func(t *testing.T, s *scene) {
		unlock, err := state.Dir(s.standby.dir).Lock("web")
		must(t, err)
		defer unlock()
		lock := filepath.Join(s.standby.dir, "web.lock")
		must(t, os.WriteFile(lock, []byte("4194305\n"), 0o600)) // above the largest pid (proc(5))
		old := time.Now().Add(-24 * time.Hour)
		must(t, os.Chtimes(lock, old, old))
		_, err = s.try()
		if err == nil || len(s.notes()) != 0 || len(s.standby.mailbox) != 0 {
			t.Errorf("error %v, notes %q, mail %q", err, s.notes(), s.subjects())
		}
	})
}
