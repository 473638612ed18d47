package proc

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
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

// Within lets work take so long, and tells whether it ended. A panic of it is one
// of the caller.
func Within[T any](limit time.Duration, work func() (T, error)) (result T, err error, done bool) {
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
		grow()
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

// grow makes the stack of a new goroutine larger at once, while there is nothing on it
// to copy: step by step that takes a tenth of a healthy check.
//
//go:noinline
func grow() byte {
	var frame [6 << 10]byte
	return frame[len(os.Args)%len(frame)] // so that the compiler keeps it
}

// Timely is Within for work that is not tried again once it has hung: each further
// time could take as long. Then, and where it hangs, the error is late. Work gets a
// context that has ended by then, and must not touch what the caller goes on with.
func Timely[T any](hung *bool, limit time.Duration, late error, work func(context.Context) (T, error)) (T, error) {
	var none T
	if *hung {
		return none, late
	}
	ctx, end := context.WithCancelCause(context.Background())
	defer end(late)
	result, err, ended := Within(limit, func() (T, error) { return work(ctx) })
	if *hung = !ended; *hung {
		return none, late
	}
	return result, err
}
