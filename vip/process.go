package vip

import (
	"context"
	"sync"
	"time"
)

// Process is what all that goes on side by side in one process shares, so that
// a thousand clusters cost a thousand times one and not a million: the packet
// sockets, looks at the kernel, and the labels that are about to be used. The
// zero Process is ready.
type Process struct {
	taps     sockets
	looks    looks
	labels   labels
	children children
	switches switchLocks
}

// TakeSnapshot is the function TakeSnapshot; whoever asks before it begins shares it, so that
// it shows nothing older than the call.
func (p *Process) TakeSnapshot() (*Snapshot, error) { return p.looks.take(TakeSnapshot) }

// looks are looks at the kernel, one at a time. With a thousand addresses each
// takes 2 ms, and each of a thousand takeovers needs ten.
type looks struct {
	looking sync.Mutex
	mu      sync.Mutex
	next    *look // has not begun; nil while nobody waits for one
}

type look struct {
	once   sync.Once
	kernel *Snapshot
	err    error
}

func (l *looks) take(take func() (*Snapshot, error)) (*Snapshot, error) {
	l.mu.Lock()
	if l.next == nil {
		l.next = new(look)
	}
	mine := l.next
	l.mu.Unlock()
	mine.once.Do(func() {
		l.looking.Lock()
		defer l.looking.Unlock()
		l.mu.Lock()
		l.next = nil // who comes from now on takes another
		l.mu.Unlock()
		mine.kernel, mine.err = take()
	})
	return mine.kernel, mine.err
}

// labels are those that were chosen and which a look at the kernel need not
// show yet, with the time since when every look does; zero while nobody knows.
type labels struct {
	mu     sync.Mutex
	chosen map[string]time.Time
}

// choose picks a label by a look that began at that time, and keeps it from
// others until done is called and they have looked again.
func (l *labels) choose(looked time.Time, pick func(taken []string) (string, error)) (label string, done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken []string
	for label, shown := range l.chosen {
		if shown.IsZero() || !shown.Before(looked) {
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

// atOnce is how many children run side by side: of a thousand, hundreds would
// be ready to run at a time, and this process, which pings meanwhile, one of
// them.
const atOnce = 8

// children are the places for them.
type children struct {
	once   sync.Once
	places chan struct{}
}

// enter waits for a place, until ctx ends.
func (c *children) enter(ctx context.Context) (leave func()) {
	c.once.Do(func() { c.places = make(chan struct{}, atOnce) })
	select {
	case c.places <- struct{}{}:
		return func() { <-c.places }
	case <-ctx.Done():
		return func() {}
	}
}
