package run

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

// InternalError is a panic, with the place of the code that panicked, which is
// lost when it is handed from one goroutine to another.
type InternalError struct {
	Value any
	Place string // function and line
}

func (b *InternalError) Error() string {
	return fmt.Sprintf("internal error: %v (%s)", b.Value, b.Place)
}

// RecoveredError is the error for what recover returned, nil for nil. The
// deferred function that recovers calls it.
func RecoveredError(recovered any) *InternalError {
	switch v := recovered.(type) {
	case nil:
		return nil
	case *InternalError:
		return v
	}
	return &InternalError{Value: recovered, Place: panicPlace()}
}

func panicPlace() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(0, pcs)])
	panicking := false
	for {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(frame.Function, "runtime."), !more:
			return fmt.Sprintf("%s, line %d", frame.Function, frame.Line)
		}
	}
}

// Within lets a run take so long. One that hangs where nothing can end it, as
// on a disk that does not answer, is abandoned: the process is about to end, and
// frees its lock.
func Within[T any](limit time.Duration, r *Run, work func() (T, error)) (T, error) {
	report, err, ended := within(limit, work)
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

// within lets work take so long, and tells whether it ended. A panic of it is one
// of the caller.
func within[T any](limit time.Duration, work func() (T, error)) (result T, err error, done bool) {
	type ending struct {
		result   T
		err      error
		internal *InternalError
	}
	ended := make(chan ending, 1)
	go func() {
		var e ending
		defer func() {
			e.internal = RecoveredError(recover())
			ended <- e
		}()
		e.result, e.err = work()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case e := <-ended:
		if e.internal != nil {
			panic(e.internal)
		}
		return e.result, e.err, true
	case <-timer.C:
		return result, nil, false
	}
}
