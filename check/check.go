// Package check finds out whether the primary is up.
//
// It sends rounds of pings and returns a verdict with three values. The
// important one is Unknown: a round in which not every ping could be sent says
// nothing about the host, and must never look like Down.
//
// Three things it cannot observe, so the caller checks them:
//   - The kernel itself replies for this machine's own addresses: Up for one of
//     them means nothing.
//   - When carrier is lost during a round, the kernel still accepts pings and
//     the round is Down: read the carrier again afterwards.
//   - The kernel does not report pings dropped by a full queue of the interface
//     or, on unprivileged IPv6 sockets, by this machine's own firewall. They
//     count as accepted, and only a witness tells the difference.
package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Verdict is what a round of pings says about a host.
type Verdict uint8

const (
	// Unknown means that the host could not be asked. It is the zero value.
	Unknown Verdict = iota
	// Down means that the kernel accepted every ping and none was answered.
	Down
	// Up means that a ping was answered.
	Up
)

// String returns "unknown", "down" or "up".
func (v Verdict) String() string {
	switch v {
	case Down:
		return "down"
	case Up:
		return "up"
	default:
		return "unknown"
	}
}

// MarshalText returns the same word as String.
func (v Verdict) MarshalText() ([]byte, error) {
	return []byte(v.String()), nil
}

// Pings is one round of pings to one host. OnSend and OnReply are called while
// Ping runs, never after it returned, and never two at a time.
type Pings struct {
	Address  netip.Addr                       // whom to ping; a link-local one needs its zone
	Source   netip.Addr                       // the address to send from; zero: the kernel chooses
	Count    int                              // pings in the round, 1 to 100
	Interval time.Duration                    // from one ping to the next, above 0
	Timeout  time.Duration                    // how long to wait after the last one, above 0
	OnReply  func(seq int, rtt time.Duration) // a ping was answered; may be nil
	OnSend   func(seq int)                    // the kernel accepted a ping, the first is 1; may be nil
}

// Round is how a round of pings ended.
type Round struct {
	Verdict  Verdict
	Sent     int           // pings that the kernel accepted
	Received int           // replies: one ends the round
	RTT      time.Duration // round trip time of the reply by the monotonic clock; 0 when there was none
	Err      error         // why the verdict is Unknown, nil otherwise; wraps the context's error when that ended the round
}

const (
	maxCount = 100

	// stall is how much later than planned a ping may be sent, on a machine
	// that has much else to do, before the round is given up.
	stall = 5 * time.Second

	// What happened in time may not have been told in time, so when it is over
	// the library gets three more turns. A machine that lets it wait makes these
	// longer too.
	graces = 3
	grace  = 5 * time.Millisecond
)

// Ping sends one round of pings. The first reply ends it; a silent round takes
// (Count-1)*Interval + Timeout and a few milliseconds, where Timeout counts from
// the moment at which the last ping was really sent. Ping returns at once when
// ctx ends, and never hangs.
//
// Pinging an unspecified, multicast or broadcast address is refused: no single
// host answers for it. See the package comment for what Ping cannot see.
func Ping(ctx context.Context, p Pings) Round {
	return pingBy(ctx, p, goPing)
}

func pingBy(ctx context.Context, p Pings, run library) Round {
	p.Address, p.Source = p.Address.Unmap(), p.Source.Unmap()
	w := watcher{Pings: p}
	err := p.valid()
	if err == nil {
		err = w.watch(ctx, run)
	}
	if err != nil {
		w.round.Err = fmt.Errorf("ping %s: %w", p.Address, err) // callers look for the context's error in it
	}
	return w.round
}

// library sends p's pings, tells each event as it happens, and returns when
// ctx has ended or when it cannot go on. It may be late in returning.
type library func(ctx context.Context, p Pings, tell func(event)) error

type event struct {
	kind kind
	seq  int // of sent and answered: which of the pings that the kernel accepted, from 0
	at   time.Time
	err  error // of refused: why; of ended: why, or nil
}

type kind uint8

const (
	sent kind = iota
	refused
	answered
	ended
)

// watcher follows one round.
type watcher struct {
	Pings
	round   Round
	sends   []send // the pings that the kernel accepted
	refused int    // pings that it did not
	refusal error  // the last reason for that
}

type send struct {
	number int // in the round, the first is 1
	at     time.Time
}

// watch starts the library and goes by what it tells, not by when it returns:
// it comes back up to 100 ms late, or never. What it tells after we have left
// goes into a buffer that nobody reads.
func (w *watcher) watch(ctx context.Context, run library) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan event, 2*w.Count+1)
	go func() {
		err := run(ctx, w.Pings, func(e event) {
			e.at = time.Now()
			events <- e
		})
		events <- event{kind: ended, err: err}
	}()

	timer := time.NewTimer(stall)
	defer timer.Stop()
	for turns := graces; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()

		case e := <-events:
			switch {
			case e.kind == answered:
				w.answered(e)
				return nil
			case e.kind == ended && ctx.Err() == nil:
				return w.ended(e.err)
			case e.kind == ended:
				return ctx.Err()
			case w.allTried():
				continue // not of this round
			case e.kind == sent:
				w.sent(e)
			case e.kind == refused:
				w.refused++
				w.refusal = e.err
			}
			turns = graces
			timer.Reset(time.Until(w.next(e.at)))

		case <-timer.C:
			if turns == 0 {
				return w.silent()
			}
			turns--
			timer.Reset(grace)
		}
	}
}

func (w *watcher) allTried() bool { return w.round.Sent+w.refused >= w.Count }

// next is when something must have happened after the ping that was tried at.
func (w *watcher) next(at time.Time) time.Time {
	if w.allTried() {
		return at.Add(w.Timeout)
	}
	return at.Add(w.Interval + stall)
}

func (w *watcher) sent(e event) {
	w.round.Sent++
	s := send{number: w.round.Sent + w.refused, at: e.at}
	w.sends = append(w.sends, s)
	if w.OnSend != nil {
		w.OnSend(s.number)
	}
}

func (w *watcher) answered(e event) {
	s := w.sends[e.seq]
	w.round.Verdict = Up
	w.round.Received++
	w.round.RTT = e.at.Sub(s.at)
	if w.OnReply != nil {
		w.OnReply(s.number, w.round.RTT)
	}
}

// silent is the verdict when the time is over and nobody answered.
func (w *watcher) silent() error {
	switch {
	case !w.allTried():
		return fmt.Errorf("only %d of %d pings could be sent in time", w.round.Sent, w.Count)
	case w.refused > 0:
		return fmt.Errorf("%d of %d pings could not be sent: %w", w.refused, w.Count, w.refusal)
	}
	w.round.Verdict = Down
	return nil
}

// ended is a library that came back before the round was over.
func (w *watcher) ended(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("the ping library gave up after %d of %d pings", w.round.Sent, w.Count)
}

// valid reports what is wrong with a round before anything is sent.
func (p Pings) valid() error {
	switch {
	case !p.Address.IsValid():
		return errors.New("no address")
	case p.Count < 1 || p.Count > maxCount:
		return fmt.Errorf("count %d: must be from 1 to %d", p.Count, maxCount)
	case p.Interval <= 0:
		return fmt.Errorf("interval %s: must be above 0", p.Interval)
	case p.Timeout <= 0:
		return fmt.Errorf("timeout %s: must be above 0", p.Timeout)
	case p.Source.IsValid() && p.Source.Is4() != p.Address.Is4():
		return fmt.Errorf("source %s: is of the other address family", p.Source)
	}
	return oneHost(p.Address)
}
