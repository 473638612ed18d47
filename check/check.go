// Package check answers one question: is the primary up? And of its services: do
// they work?
//
// It sends rounds of pings, or makes one attempt at a service, and returns a
// verdict with three values. The important one is Unknown: what could not be
// asked properly proves nothing about the host, and must never look like a host
// that is down, or a service that is bad.
//
// Some things pings cannot see, and the caller must check:
//   - The kernel replies for this machine's own addresses at once, so pinging
//     one is Up and proves nothing.
//   - When the carrier is lost in the middle of a round, the kernel goes on
//     accepting pings and the round is Down: read the carrier again afterwards.
//   - The kernel does not report pings that a full queue of the interface drops,
//     or, on unprivileged IPv6 sockets, that this machine's own firewall drops.
//     They count as accepted, and only a witness tells the difference.
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
	// Unknown means that the host could not be pinged, or that the silence has
	// another cause: see Round.Err. It is the zero value.
	Unknown Verdict = iota
	// Down means that the kernel accepted every ping and there was no reply.
	Down
	// Up means that there was a reply.
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
	Address  netip.Addr                       // the host; a link-local address needs its zone
	Source   netip.Addr                       // source address; zero: the kernel chooses
	Count    int                              // pings in the round, 1 to 100
	Interval time.Duration                    // from one ping to the next, above 0
	Timeout  time.Duration                    // wait for the reply to the last one, above 0
	OnReply  func(seq int, rtt time.Duration) // there was a reply; may be nil
	OnSend   func(seq int)                    // the kernel accepted a ping, the first is 1; may be nil
}

// Round is the result of a round of pings.
type Round struct {
	Verdict  Verdict
	Sent     int           // pings that the kernel accepted
	Received int           // replies: one ends the round
	RTT      time.Duration // round trip time of the reply by the monotonic clock; 0 when there was none
	Err      error         // why the verdict is Unknown, nil otherwise; wraps ErrStalled, a *RefusedError, or the context's error when that ended the round
}

// ErrStalled says that a silent round proves nothing, because this process was
// not run in time (an overloaded, stopped or suspended machine): replies may
// have been lost meanwhile. Repeat the round.
var ErrStalled = errors.New("this machine stalled")

const (
	maxCount = 100

	// sendTimeout is how much later than planned a ping may be sent, on a busy
	// machine, before the round is abandoned.
	sendTimeout = 5 * time.Second

	// A reply that arrived in time may not have been read in time, so at the end
	// the library gets three more turns. A machine that lets it wait makes these
	// longer too.
	readTurns = 3
	readWait  = 5 * time.Millisecond
)

// Ping sends one round of pings. The first reply ends it; a silent round takes
// (Count-1)*Interval + Timeout and a few milliseconds, where Timeout counts from
// the moment at which the last ping was really sent. Ping returns at once when
// ctx ends, and never hangs.
//
// An ICMP message that quotes one of the pings and says that the network, or a
// firewall, refuses them makes a silent round Unknown: the error is a
// *RefusedError. So does a timer that fires more than half of Timeout late:
// ErrStalled.
//
// Pinging an unspecified, multicast or broadcast address is refused: no single
// host replies for it. See the package comment for what Ping cannot see.
func Ping(ctx context.Context, p Pings) Round {
	return new(Process).send(ctx, p)
}

func pingBy(ctx context.Context, p Pings, run library) Round {
	p.Address, p.Source = p.Address.Unmap(), p.Source.Unmap()
	t := tracker{Pings: p}
	err := p.valid()
	if err == nil {
		err = t.track(ctx, run)
	}
	if err != nil {
		t.round.Err = fmt.Errorf("ping %s: %w", p.Address, err) // callers test for the context's error
	}
	return t.round
}

// library sends p's pings, emits each event as it happens, and returns when
// ctx has ended or when it cannot go on. It may be late in returning.
type library func(ctx context.Context, p Pings, emit func(event)) error

type event struct {
	kind kind
	seq  int // of sent and replied: which of the pings that the kernel accepted, from 0
	at   time.Time
	err  error // of rejected: why; of ended: why, or nil

	refusal func() error // of opened: reads what has arrived, and returns a *RefusedError, or nil
}

type kind uint8

const (
	sent     kind = iota
	rejected      // by the kernel: not sent
	replied
	ended
	opened // before the first ping, at most once
)

// tracker follows one round.
type tracker struct {
	Pings
	round    Round
	sends    []send // the pings that the kernel accepted
	rejected int    // pings that it did not
	sendErr  error  // the last reason for that
	refusal  func() error
	late     time.Duration // by how much the last timer fired too late
}

type send struct {
	number int // in the round, the first is 1
	at     time.Time
}

// track starts the library and follows its events, not its return: it returns
// up to 100 ms late, or never. What it emits after track has returned goes into
// a buffer that is never read.
func (t *tracker) track(ctx context.Context, run library) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan event, 2*t.Count+2)
	go func() {
		err := run(ctx, t.Pings, func(e event) {
			e.at = time.Now()
			events <- e
		})
		events <- event{kind: ended, err: err}
	}()

	due := time.Now().Add(sendTimeout)
	timer := time.NewTimer(sendTimeout)
	defer timer.Stop()
	for turns := readTurns; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()

		case e := <-events:
			switch {
			case e.kind == replied:
				t.replied(e)
				return nil
			case e.kind == ended && ctx.Err() == nil:
				return t.ended(e.err)
			case e.kind == ended:
				return ctx.Err()
			case e.kind == opened:
				t.refusal = e.refusal
				continue
			case t.allTried():
				continue // not of this round
			case e.kind == sent:
				t.sent(e)
			case e.kind == rejected:
				t.rejected++
				t.sendErr = e.err
			}
			turns, due = readTurns, t.next(e.at)
			timer.Reset(time.Until(due))

		case <-timer.C:
			if turns == readTurns {
				t.late = time.Since(due)
			}
			if turns == 0 {
				return t.silent()
			}
			turns--
			timer.Reset(readWait)
		}
	}
}

func (t *tracker) allTried() bool { return t.round.Sent+t.rejected >= t.Count }

// next is when the next event is due after the ping that was tried at.
func (t *tracker) next(at time.Time) time.Time {
	if t.allTried() {
		return at.Add(t.Timeout)
	}
	return at.Add(t.Interval + sendTimeout)
}

func (t *tracker) sent(e event) {
	t.round.Sent++
	s := send{number: t.round.Sent + t.rejected, at: e.at}
	t.sends = append(t.sends, s)
	if t.OnSend != nil {
		t.OnSend(s.number)
	}
}

func (t *tracker) replied(e event) {
	s := t.sends[e.seq]
	t.round.Verdict = Up
	t.round.Received++
	t.round.RTT = e.at.Sub(s.at)
	if t.OnReply != nil {
		t.OnReply(s.number, t.round.RTT)
	}
}

// silent decides about a round without a reply when its time is over.
func (t *tracker) silent() error {
	switch {
	case !t.allTried():
		return fmt.Errorf("only %d of %d pings could be sent in time", t.round.Sent, t.Count)
	case t.rejected > 0:
		return fmt.Errorf("%d of %d pings could not be sent: %w", t.rejected, t.Count, t.sendErr)
	case t.late > t.Timeout/2:
		return fmt.Errorf("%w: the round ended %s late", ErrStalled, t.late.Round(time.Millisecond))
	}
	if t.refusal != nil {
		if err := t.refusal(); err != nil {
			return err
		}
	}
	t.round.Verdict = Down
	return nil
}

// ended is for a library that returned before the round was over.
func (t *tracker) ended(err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("the ping library stopped after %d of %d pings", t.round.Sent, t.Count)
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
