package check

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestEqualRoundsAreShared: no shared round begins before it is asked for, or
// much later.
func TestEqualRoundsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var begins []time.Time
		p := Process{sender: func(_ context.Context, pings Pings) Round {
			mu.Lock()
			begins = append(begins, time.Now())
			n := len(begins)
			mu.Unlock()
			time.Sleep(pings.Timeout)
			return Round{Verdict: Up, Sent: n}
		}}
		pings := Pings{Address: netip.MustParseAddr("172.16.0.254"), Count: 1, Timeout: time.Millisecond}
		var callers sync.WaitGroup
		for i := range 1000 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				called := time.Now()
				round := p.Ping(t.Context(), pings)
				mu.Lock()
				late := begins[round.Sent-1].Sub(called)
				mu.Unlock()
				if late < 0 || late > shareWindow {
					t.Errorf("called at %v, the round began %v later", called, late)
				}
			})
		}
		callers.Wait()
		if len(begins) > 25 {
			t.Errorf("%d rounds for 1,000 calls within a second", len(begins))
		}
		time.Sleep(shareWindow)
		synctest.Wait()
		p.Ping(t.Context(), pings)
		if len(p.rounds) != 1 || len(p.recent) != 1 {
			t.Errorf("%d rounds are kept, besides the newest", len(p.rounds)-1)
		}
	})
}

// TestSharedRoundOutlivesOneCaller: a caller that leaves ends the round for
// nobody else; without callers it ends.
func TestSharedRoundOutlivesOneCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		p := Process{sender: func(ctx context.Context, _ Pings) Round {
			select {
			case <-ctx.Done():
				ended.Add(1)
				return Round{Err: ctx.Err()}
			case <-time.After(time.Minute):
				return Round{Verdict: Down}
			}
		}}
		pings := Pings{Address: netip.MustParseAddr("172.16.0.254")}
		go p.Ping(t.Context(), pings) // the next callers share a later round
		time.Sleep(time.Millisecond)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var both sync.WaitGroup
		both.Go(func() {
			if round := p.Ping(short, pings); round.Err == nil {
				t.Errorf("%+v for the caller that left", round)
			}
		})
		both.Go(func() {
			if round := p.Ping(t.Context(), pings); round.Verdict != Down {
				t.Errorf("%+v for the caller that waited", round)
			}
		})
		both.Wait()
		ended.Store(0)
		if round := p.Ping(short, pings); round.Err == nil {
			t.Errorf("%+v for a context that had ended before", round)
		}
		synctest.Wait()
		if got := ended.Load(); got != 2 { // the shared one without callers, and the caller's own
			t.Errorf("%d rounds ended, want 2", got)
		}
		time.Sleep(time.Minute)
	})
}
