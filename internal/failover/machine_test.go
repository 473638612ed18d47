package failover

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pingover/check"
	"pingover/state"
)

// TestPingsOfOneWitnessAreShared: none that is shared began before it was
// asked for, or much later.
func TestPingsOfOneWitnessAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pings
		var mu sync.Mutex
		var begun []time.Time
		send := func(_ context.Context, want check.Pings) check.Round {
			mu.Lock()
			begun = append(begun, time.Now())
			n := len(begun)
			mu.Unlock()
			time.Sleep(want.Timeout)
			return check.Round{Verdict: check.Up, Sent: n}
		}
		want := check.Pings{Address: netip.MustParseAddr("172.16.0.254"), Count: 1, Timeout: time.Millisecond}
		var asking sync.WaitGroup
		for i := range 1000 {
			asking.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				asked := time.Now()
				round := p.ping(t.Context(), want, send)
				mu.Lock()
				late := begun[round.Sent-1].Sub(asked)
				mu.Unlock()
				if late < 0 || late > together {
					t.Errorf("asked %v, and pinged %v later", asked, late)
				}
			})
		}
		asking.Wait()
		if len(begun) > 25 {
			t.Errorf("%d rounds for 1,000 who asked within a second", len(begun))
		}
		time.Sleep(together)
		synctest.Wait()
		if len(p.asks) != 0 {
			t.Errorf("%d rounds are remembered", len(p.asks))
		}
	})
}

// TestASharedPingGoesOn: who no longer waits ends it for nobody else; when
// nobody waits, it ends.
func TestASharedPingGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pings
		var ended atomic.Int32
		send := func(ctx context.Context, _ check.Pings) check.Round {
			if !sleep(ctx, time.Minute) {
				ended.Add(1)
				return check.Round{Err: ctx.Err()}
			}
			return check.Round{Verdict: check.Down}
		}
		want := check.Pings{Address: netip.MustParseAddr("172.16.0.254")}
		go p.ping(t.Context(), want, send) // those after it begin later, together
		time.Sleep(time.Millisecond)
		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		var both sync.WaitGroup
		both.Go(func() {
			if round := p.ping(short, want, send); round.Err == nil {
				t.Errorf("%+v for who has gone", round)
			}
		})
		both.Go(func() {
			if round := p.ping(t.Context(), want, send); round.Verdict != check.Down {
				t.Errorf("%+v for who stayed", round)
			}
		})
		both.Wait()
		ended.Store(0)
		if round := p.ping(short, want, send); round.Err == nil {
			t.Errorf("%+v for who had gone before", round)
		}
		synctest.Wait()
		if got := ended.Load(); got != 2 { // the one that nobody waits for, and his own
			t.Errorf("%d rounds ended, want 2", got)
		}
		time.Sleep(time.Minute)
	})
}

// TestWhoRaisesIsNotAlone: many raise at once under the machine's lock, who
// lowers is alone, and the lock is free in the end.
func TestWhoRaisesIsNotAlone(t *testing.T) {
	dir := state.Dir(t.TempDir())
	var a acts
	var raising, most, lowering atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		alone := i%10 == 9
		all.Go(func() {
			unlock, err := a.lock(t.Context(), dir, alone)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if alone {
				if lowering.Add(1) > 1 || raising.Load() > 0 {
					t.Error("who lowers is not alone")
				}
				time.Sleep(time.Millisecond)
				lowering.Add(-1)
				return
			}
			most.Store(max(most.Load(), raising.Add(1)))
			if lowering.Load() > 0 {
				t.Error("who lowers is not alone")
			}
			time.Sleep(20 * time.Millisecond)
			raising.Add(-1)
		})
	}
	all.Wait()
	if most.Load() < 2 {
		t.Error("one raised after the other")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	unlock, err := dir.LockSwitch(ended)
	if err != nil {
		t.Fatalf("the lock is still held: %v", err)
	}
	var other acts // of another process
	if _, err := other.lock(ended, dir, false); err == nil {
		t.Error("two processes raise at once")
	}
	unlock()
}
