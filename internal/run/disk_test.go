package run

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

func TestDiskThatHangsIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const text = "the state cannot be written: the disk does not answer within 10s"
		r := &Run{Name: "web", Dir: state.Dir(t.TempDir())}
		r.paused, r.reading = time.Now().Add(time.Hour), true
		answers := make(chan struct{})
		defer close(answers)
		began := time.Now()
		if _, err := timely(&r.writing, func(ctx context.Context) (int, error) { <-answers; return 1, nil }); err != errHangs {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != config.DiskPatience {
			t.Errorf("it took %s, want 10s", took)
		}
		rec := &state.Record{Head: state.Head{Version: state.Version, Name: "web"}, Host: "172.16.0.2", Role: state.Standby}
		if err := r.Save(rec, true); err == nil || err.Error() != text {
			t.Errorf("saving: %v, want %s", err, text)
		}
		if got := r.PausedUntil(); !got.Equal(began.Add(time.Hour)) {
			t.Errorf("paused until %s, want what was read before", got)
		}
		if took := time.Since(began); took != config.DiskPatience {
			t.Errorf("the disk was asked again: %s", took)
		}
	})
}

func TestPauseOfAStateDirectoryThatIsUnreadable(t *testing.T) {
	whole, loop := t.TempDir(), filepath.Join(t.TempDir(), "loop")
	for _, err := range []error{
		os.Mkdir(filepath.Join(whole, "web.pause"), 0o755), // it alone cannot be read
		os.Symlink(loop, loop),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, dir, want string
		paused          bool
	}{
		{"only its file", whole, "web.pause: is a directory; treated as a pause", true},
		{"all of it", loop, "web.pause: too many levels of symbolic links; a pause is ignored, for nothing of the state directory can be read", false},
		{"there is none", filepath.Join(whole, "missing"), "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var notes []string
			r := &Run{Name: "web", Dir: state.Dir(test.dir), OnEvent: func(e any) { notes = append(notes, e.(Note).Text) }}
			if got := time.Now().Before(r.PausedUntil()); got != test.paused {
				t.Errorf("paused: %t", got)
			}
			if got := strings.Join(notes, "\n"); !strings.HasSuffix(got, test.want) || test.want == "" && got != "" {
				t.Errorf("notes: %q, want %q", got, test.want)
			}
		})
	}
}
