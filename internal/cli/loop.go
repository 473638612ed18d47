package cli

import (
	"context"
	"slices"
	"time"

	"pingover/internal/exit"
	"pingover/state"
)

// loop is the checks of one cluster by one plan.
type loop struct {
	*watcher
	plan     plan
	task     Task
	replaced <-chan struct{}
	out      printer
	turn     chan struct{} // full while a check of the cluster is made
	single   bool          // the only cluster
}

// run checks the cluster at each tick, until the watch ends or the plan is
// replaced.
func (l loop) run(first time.Time) {
	ctx := l.c.Context
	wait := func(t time.Time) bool { return sleepUntil(ctx, l.replaced, t) }
	if !wait(first) {
		return
	}
	for at := time.Duration(0); first.Add(at).Before(l.start.Add(l.until)) || l.until == endless; at = l.nextTick(at, time.Since(first)) {
		if !wait(first.Add(at)) || !l.check(ctx, first, at) {
			return
		}
	}
}

// check makes one check, and reports whether others may follow.
func (l loop) check(ctx context.Context, first time.Time, at time.Duration) bool {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	defer l.hurry()()
	o := l.plan.options(l.task)
	o.Finish = true // no check may follow
	e := l.one(l.c, l.out, l.task.Check, o)
	if e.Code == exit.Interrupted {
		return false
	}
	if e.Code == exit.Internal || e.Hung {
		l.mu.Lock()
		l.code = exit.Internal
		l.mu.Unlock()
	}
	l.out.memory.turn(e.Outcome)
	l.note(e, first.Add(l.nextTick(at, time.Since(first))), l.single)
	if e.Hung {
		l.end(errHung)
	}
	return true
}

// unhurried is when a healthy check is over.
const unhurried = 50 * time.Millisecond

// hurry gives all processors to a check that is not over soon. Otherwise a watch of one
// cluster keeps to one: several wake and wait for each other at each step of a check,
// which takes longer than the step.
func (l loop) hurry() (end func()) {
	if !l.single || l.Alone == nil {
		return func() {}
	}
	slow := time.AfterFunc(unhurried, func() { l.Alone(false) })
	return func() {
		slow.Stop()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.Alone(len(l.now.checks) == 1)
	}
}

// nextTick is the first tick after the last one that is not in the past.
func (w *watcher) nextTick(last, now time.Duration) time.Duration {
	ticks := (now + w.every - 1) / w.every
	return max(last+w.every, ticks*w.every)
}

// sleepUntil waits for t, and returns false if ctx ends before, or the plan is
// replaced.
func sleepUntil(ctx context.Context, replaced <-chan struct{}, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-replaced:
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-replaced:
		return false
	default:
		return ctx.Err() == nil
	}
}

// memory is what was printed about a cluster, so that nothing of the check before
// is repeated.
type memory struct {
	before, now []string
	failed      bool // the check before was not made
}

// knows reports whether a line was printed in the check before, and notes it.
func (m *memory) knows(line string) bool {
	if m == nil {
		return false
	}
	m.now = append(m.now, line)
	return slices.Contains(m.before, line)
}

// turn ends a check. One that found the lock taken printed nothing.
func (m *memory) turn(o state.Outcome) {
	if o != exit.BusyOutcome {
		m.before, m.failed = m.now, o == exit.ErrorOutcome
	}
	m.now = nil
}

// recovers reports whether the check before was not made.
func (m *memory) recovers() bool { return m != nil && m.failed }
