package failover

import (
	"fmt"
	"runtime"
	"strings"
)

// InternalError is a panic and the place of the code that panicked, which nobody could
// find out any more once it is handed from one goroutine to another.
type InternalError struct {
	Value any
	Place string // function and line
}

func (b *InternalError) Error() string { return fmt.Sprintf("a bug: %v (%s)", b.Value, b.Place) }

// RecoveredError is the bug for what recover returned, nil for nil. It is to be
// called by the deferred function that recovers.
func RecoveredError(recovered any) *InternalError {
	switch v := recovered.(type) {
	case nil:
		return nil
	case *InternalError:
		return v
	}
	return &InternalError{Value: recovered, Place: panickedAt()}
}

// panickedAt is the place of the code that panicked.
func panickedAt() string {
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
