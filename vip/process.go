package vip

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Process is what the clusters of one process share, so that a thousand cost a
// thousand times one and not a million: the sockets, snapshots, chosen
// labels, and the places for children. The zero Process is ready.
type Process struct {
	// ARPRate is the most ARP and neighbour discovery frames that are sent on
	// each interface in any second; 0: no limit. It is read when the first
	// Listener is opened there. What the kernel sends itself is not counted.
	ARPRate int

	keeps     bool
	kernel    kernelSocket
	answers   answers
	tools     foundTools
	sockets   sockets
	snapshots snapshots
	labels    labels
	children  children
	switches  switchLocks
}

// Keep says that this process asks again and again: its packet sockets stay open, and
// answers of the kernel are known until it notifies of a change. It is called before
// anything is asked.
func (p *Process) Keep() { p.keeps, p.sockets.keep = true, true }

// TakeSnapshot is the function TakeSnapshot; all that ask before it begins share it, so it shows
// nothing older than the call.
func (p *Process) TakeSnapshot() (*Snapshot, error) {
	return p.snapshots.take(func() (*Snapshot, error) { return askKernel(&p.kernel, handle.snapshot) })
}

// KnownSnapshot is a snapshot that shows all that the kernel has notified of until now: the last one
// while that is nothing. For what is observed; before anything is changed TakeSnapshot shows more.
func (p *Process) KnownSnapshot() (*Snapshot, error) {
	return answerTo(p, snapshotKey{}, netip.Addr{}, p.TakeSnapshot)
}

// snapshots are taken one at a time. With a thousand addresses each takes 2 ms, and each of a thousand
// takeovers needs ten.
type snapshots struct {
	taking sync.Mutex
	mu     sync.Mutex
	next   *sharedSnapshot // has not begun; nil while no caller waits for one
}

type sharedSnapshot struct {
	once     sync.Once
	snapshot *Snapshot
	err      error
}

func (s *snapshots) take(take func() (*Snapshot, error)) (*Snapshot, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = new(sharedSnapshot)
	}
	shared := s.next
	s.mu.Unlock()
	shared.once.Do(func() {
		s.taking.Lock()
		defer s.taking.Unlock()
		s.mu.Lock()
		s.next = nil // later callers take another
		s.mu.Unlock()
		shared.snapshot, shared.err = take()
	})
	return shared.snapshot, shared.err
}

// labels are those that were chosen and that a snapshot need not show yet, with the time from which
// every snapshot does; zero while that is unknown.
type labels struct {
	mu     sync.Mutex
	chosen map[string]time.Time
}

// choose picks a label by a snapshot that was begun at that time, and reserves it until done is called
// and the others have a later snapshot.
func (l *labels) choose(snapshot time.Time, pick func(taken []string) (string, error)) (label string, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []string
	for label, shown := range l.chosen {
		if shown.IsZero() || !shown.Before(snapshot) {
			taken = append(taken, label)
		}
	}
	label, err = pick(taken)
	if err != nil || label == "" {
		return label, func() {}, err
	}
	if l.chosen == nil {
		l.chosen = map[string]time.Time{}
	}
	l.chosen[label] = time.Time{}
	return label, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.chosen[label] = time.Now()
	}, nil
}

// maxChildren is how many children run side by side: of a thousand, hundreds would be ready to run at a
// time, and this process, which pings meanwhile, one of them.
const maxChildren = 8

// children are the places for them.
type children struct {
	once   sync.Once
	places chan struct{}
}

// enter waits for a place, until ctx ends.
func (c *children) enter(ctx context.Context) (leave func()) {
	c.once.Do(func() { c.places = make(chan struct{}, maxChildren) })
	select {
	case c.places <- struct{}{}:
		return func() { <-c.places }
	case <-ctx.Done():
		return func() {}
	}
}
