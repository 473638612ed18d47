package vip

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAdditionsShareTheSwitchLock: many clusters add at once under the
// machine's lock, a removal is exclusive, and the lock is free at the end.
func TestAdditionsShareTheSwitchLock(t *testing.T) {
	var file sync.Mutex
	acquire := func(context.Context) (func(), error) {
		if !file.TryLock() {
			return nil, errors.New("busy")
		}
		return file.Unlock, nil
	}
	var s switchLocks
	var adding, most, removing atomic.Int32
	var all sync.WaitGroup
	for i := range 100 {
		exclusive := i%10 == 9
		all.Go(func() {
			unlock, err := s.lock(t.Context(), "act.lock", exclusive, acquire)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if exclusive {
				if removing.Add(1) > 1 || adding.Load() > 0 {
					t.Error("a removal is not exclusive")
				}
				time.Sleep(time.Millisecond)
				removing.Add(-1)
				return
			}
			most.Store(max(most.Load(), adding.Add(1)))
			if removing.Load() > 0 {
				t.Error("a removal is not exclusive")
			}
			time.Sleep(20 * time.Millisecond)
			adding.Add(-1)
		})
	}
	all.Wait()
	if most.Load() < 2 {
		t.Error("one was added after the other")
	}
	if !file.TryLock() {
		t.Fatal("the lock is still held")
	}
	var other switchLocks // of another process
	if _, err := other.lock(t.Context(), "act.lock", false, acquire); err == nil || err.Error() != "busy" {
		t.Errorf("two processes switch at once: %v", err)
	}
	file.Unlock()
}

// TestRemovalDoesNotWaitForLaterAdditions: a removal gets the lock while 40
// clusters add, one every half second, for a second each.
func TestRemovalDoesNotWaitForLaterAdditions(t *testing.T) {
	acquire := func(context.Context) (func(), error) { return func() {}, nil }
	synctest.Test(t, func(t *testing.T) {
		var s switchLocks
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 500 * time.Millisecond)
				unlock, err := s.lock(t.Context(), "act.lock", false, acquire)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				unlock()
			})
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		unlock, err := s.lock(t.Context(), "act.lock", true, acquire)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("waited %s", waited)
		}
		unlock()
		all.Wait()
	})
}
