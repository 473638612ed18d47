package run

import (
	"fmt"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
)

// Within lets a run take so long. One that hangs where nothing can end it, as
// on a disk that does not answer, is abandoned: the process is about to end, and
// frees its lock.
func Within[T any](limit time.Duration, r *Run, work func() (T, error)) (T, error) {
	report, err, ended := proc.Within(limit, work)
	if ended {
		return report, err
	}
	r.abandoned.Store(true) // before switching is read: a switch that begins later sees it
	e := &Error{
		Hung: true, Code: state.Unknown.Code(),
		Text: fmt.Sprintf("abandoned after %s, the longest that these settings allow: hung while %v; nothing was changed", config.DurationText(limit), r.stage.Load()),
	}
	if r.switching.Load() {
		e.Code = state.StateFailed.Code()
		e.Text = fmt.Sprintf("abandoned after %s, the longest that these settings allow: hung while %v; the next run finishes what was begun", config.DurationText(limit), r.stage.Load())
	}
	var none T
	return none, e
}
