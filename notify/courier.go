package notify

import (
	"context"
	"slices"
	"sync"
	"time"

	"pingover/internal/proc"
	"pingover/state"
)

// courierPatience is how long a check waits for the delivery of its messages.
const courierPatience = time.Second

// Courier delivers the messages of a process that goes on checking: a server or a
// command that hangs must not hold up the next check. What takes longer than a second
// stays in the outbox, and a later check learns how it ended. The zero Courier is
// ready.
type Courier struct {
	mu       sync.Mutex
	underWay map[string]*handOff // under way, by whose outbox
	failed   map[string]error    // why the last one that ended has left something
}

// handOff is a delivery that was begun.
type handOff struct {
	carried, left []state.Message
	err           error
	over          chan struct{}
}

// Deliver hands the outbox to send, and returns what is left of it. The error is that
// of the last delivery that has ended. One at a time is under way. A context that
// cannot end is that of a run after which there may be no other: it waits.
func (c *Courier) Deliver(ctx context.Context, whose string, outbox []state.Message, send func(context.Context, []state.Message) ([]state.Message, error)) ([]state.Message, error) {
	for {
		t, patience := c.begin(ctx, whose, outbox, send)
		if !t.endsWithin(ctx, patience) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return outbox, c.failed[whose]
		}
		c.mu.Lock()
		delete(c.underWay, whose)
		c.failed[whose] = t.err
		c.mu.Unlock()
		var fresh bool
		if outbox, fresh = t.rest(outbox); !fresh || t.err != nil {
			return outbox, t.err
		}
	}
}

// begin is the delivery that is under way, or else a new one, and how long to wait
// for its end.
func (c *Courier) begin(ctx context.Context, whose string, outbox []state.Message, send func(context.Context, []state.Message) ([]state.Message, error)) (_ *handOff, patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay == nil {
		c.underWay, c.failed = map[string]*handOff{}, map[string]error{}
	}
	if t := c.underWay[whose]; t != nil {
		return t, 0
	}
	t := &handOff{carried: slices.Clone(outbox), over: make(chan struct{})}
	c.underWay[whose] = t
	go func() {
		defer close(t.over)
		defer func() {
			if err := proc.RecoveredError(recover()); err != nil {
				t.left, t.err = t.carried, err
			}
		}()
		t.left, t.err = send(context.WithoutCancel(ctx), t.carried) // the check may have ended
	}()
	return t, courierPatience
}

// endsWithin waits so long for the end of the delivery, and reports whether it has come.
func (t *handOff) endsWithin(ctx context.Context, patience time.Duration) bool {
	if ctx.Done() == nil {
		<-t.over
	}
	select {
	case <-t.over:
		return true
	default:
	}
	select {
	case <-t.over:
		return true
	case <-time.After(patience):
	case <-ctx.Done():
	}
	return false
}

// rest is what is left of an outbox after the delivery; fresh says that a part of it
// was not carried.
func (t *handOff) rest(outbox []state.Message) (left []state.Message, fresh bool) {
	in := func(all []state.Message, m state.Message) int {
		return slices.IndexFunc(all, func(o state.Message) bool { return o.MessageID == m.MessageID && (o.Event == "") == (m.Event == "") })
	}
	for _, m := range outbox {
		switch at := in(t.left, m); {
		case at >= 0:
			left = append(left, t.left[at])
		case in(t.carried, m) < 0:
			left, fresh = append(left, m), true
		}
	}
	return left, fresh
}
