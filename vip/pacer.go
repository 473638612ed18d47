package vip

import (
	"net"
	"slices"
	"sync"
	"time"
)

// priority is the order in which frames are sent where a rate is set.
type priority uint8

const (
	urgent   priority = iota // first announcements: clients wait for them
	question                 // requests, solicitations and probes
	repeated                 // later announcements
	priorities
)

// repeatInterval spreads later announcements.
const repeatInterval = 100 * time.Millisecond

// pacer limits the frames that are sent on one link. Switches with dynamic ARP
// inspection count them in each second, and shut the port down for one too many.
type pacer struct {
	rate int // frames in any second; 0: no limit

	mu     sync.Mutex
	sent   []time.Time // of the last second
	again  time.Time   // of the last repeated announcement
	queues [priorities][]*turn
	armed  bool // pump will be called
}

// turn is the permission to send some frames.
type turn struct {
	frames int
	ready  chan struct{} // closed when they may be sent
}

// wait returns when n frames may be sent, or with net.ErrClosed when done is
// closed before.
func (p *pacer) wait(done <-chan struct{}, of priority, n int) error {
	if p.rate == 0 && of != repeated {
		return nil
	}
	t := &turn{frames: n, ready: make(chan struct{})}
	p.mu.Lock()
	p.queues[of] = append(p.queues[of], t)
	p.pump()
	p.mu.Unlock()
	select {
	case <-t.ready:
		return nil
	case <-done:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queues[of] = slices.DeleteFunc(p.queues[of], func(other *turn) bool { return other == t })
		return net.ErrClosed
	}
}

// pump lets all frames go that may go now, and comes back for the others. It
// is called with mu held.
func (p *pacer) pump() {
	for of := urgent; of < priorities; {
		if len(p.queues[of]) == 0 {
			of++
			continue
		}
		t, now := p.queues[of][0], time.Now()
		delay := p.delay(now, t.frames)
		if of == repeated {
			delay = max(delay, p.again.Add(repeatInterval).Sub(now))
		}
		if delay > 0 {
			p.arm(delay)
			return
		}
		if of == repeated {
			p.again = now
		}
		if p.rate > 0 {
			for range t.frames {
				p.sent = append(p.sent, now)
			}
		}
		p.queues[of] = p.queues[of][1:]
		close(t.ready)
	}
}

// delay is how long n frames have to wait until not more than rate of them
// have been sent within a second.
func (p *pacer) delay(now time.Time, n int) time.Duration {
	p.sent = slices.DeleteFunc(p.sent, func(at time.Time) bool { return now.Sub(at) >= time.Second })
	if excess := len(p.sent) + n - p.rate; p.rate > 0 && excess > 0 && len(p.sent) > 0 {
		return p.sent[min(excess, len(p.sent))-1].Add(time.Second).Sub(now)
	}
	return 0
}

func (p *pacer) arm(delay time.Duration) {
	if p.armed {
		return
	}
	p.armed = true
	time.AfterFunc(delay, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.armed = false
		p.pump()
	})
}
