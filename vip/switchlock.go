package vip

import (
	"context"
	"errors"
	"sync"
)

// switchLocks are the machine-wide locks under which aliases change, each
// acquired once for all the clusters of this process that add at the same
// time: one after the other, each with four snapshots and a run of ip, 1,000
// took 22 s, and 347 of them timed out. A removal is exclusive, and does not
// wait for additions that are requested after it.
type switchLocks struct {
	mu       sync.Mutex
	held     map[string]*switchLock // by path
	removals map[string]int         // exclusive callers that wait, by path
	changed  chan struct{}          // closed when held or removals change
}

// switchLock is one lock while this process has it or acquires it.
type switchLock struct {
	exclusive bool
	users     int
	ready     chan struct{} // closed when acquire has returned
	unlock    func()
	err       error
}

// LockSwitch acquires the machine-wide switch lock that path names, by
// acquire, until unlock is called. Callers that are not exclusive share it.
// The error is acquire's, or says that another cluster of this process still
// switches when ctx ends.
func (p *Process) LockSwitch(ctx context.Context, path string, exclusive bool, acquire func(context.Context) (unlock func(), err error)) (unlock func(), err error) {
	return p.switches.lock(ctx, path, exclusive, acquire)
}

func (s *switchLocks) lock(ctx context.Context, path string, exclusive bool, acquire func(context.Context) (func(), error)) (unlock func(), err error) {
	s.mu.Lock()
	if s.held == nil {
		s.held, s.removals, s.changed = map[string]*switchLock{}, map[string]int{}, make(chan struct{})
	}
	if exclusive {
		s.removals[path]++
	}
	l, first, err := s.enter(ctx, path, exclusive)
	if exclusive {
		s.removals[path]--
		s.broadcast()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if first {
		l.unlock, l.err = acquire(ctx)
		close(l.ready)
	}
	if <-l.ready; l.err != nil {
		s.leave(path, l)
		return nil, l.err
	}
	return func() { s.leave(path, l) }, nil
}

// enter waits until the caller may use the lock, with mu held except while it
// waits; first: the caller has to acquire it.
func (s *switchLocks) enter(ctx context.Context, path string, exclusive bool) (l *switchLock, first bool, err error) {
	for {
		l, held := s.held[path]
		next := exclusive || s.removals[path] == 0
		switch {
		case !held && next:
			l = &switchLock{exclusive: exclusive, users: 1, ready: make(chan struct{})}
			s.held[path] = l
			return l, true, nil
		case held && next && !exclusive && !l.exclusive:
			l.users++
			return l, false, nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
			s.mu.Lock()
		case <-ctx.Done():
			s.mu.Lock()
			return nil, false, errors.New("another cluster of this run is still switching")
		}
	}
}

// leave unlocks after the last user.
func (s *switchLocks) leave(path string, l *switchLock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	delete(s.held, path)
	if l.err == nil {
		l.unlock()
	}
	s.broadcast()
}

// broadcast wakes all callers that wait.
func (s *switchLocks) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}
