package vip

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRateIsNeverExceeded: not in any second, whatever the moment at which
// frames are handed in.
func TestRateIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 15
		p := &pacer{rate: rate}
		var mu sync.Mutex
		var sent []time.Time
		var sending sync.WaitGroup
		began := time.Now()
		for i := range 60 {
			sending.Go(func() {
				time.Sleep(time.Duration(i*i) * time.Millisecond / 2)
				if err := p.wait(nil, question, 1+i%2); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, slices.Repeat([]time.Time{time.Now()}, 1+i%2)...)
			})
		}
		sending.Wait()
		for i := rate; i < len(sent); i++ {
			if took := sent[i].Sub(sent[i-rate]); took < time.Second {
				t.Errorf("%d frames within %v", rate+1, took)
			}
		}
		if took := time.Since(began); len(sent) != 90 || took > 7*time.Second {
			t.Errorf("%d frames took %v, want 90 in less than 7s", len(sent), took)
		}
	})
}

// TestFirstAnnouncementsGoFirst, then questions; later announcements are
// spread, also without a limit.
func TestFirstAnnouncementsGoFirst(t *testing.T) {
	for _, tt := range []struct {
		rate int
		want string
	}{
		{5, "0s q, 0s q, 0s q, 0s q, 0s q, 1s a, 1s a, 1s q, 2.1s r, 2s q, 2s r, 3s r"},
		{0, "0.1s r, 0.2s r, 0s a, 0s a, 0s q, 0s q, 0s q, 0s q, 0s q, 0s q, 0s q, 0s r"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pacer{rate: tt.rate}
			var mu sync.Mutex
			var order []string
			began := time.Now()
			for _, of := range []priority{question, question, question, question, question, repeated, repeated, repeated, question, question, urgent, urgent} {
				frames := 1
				if of != question {
					frames = 2
				}
				go func() {
					if err := p.wait(nil, of, frames); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					order = append(order, fmt.Sprintf("%vs %c", time.Since(began).Seconds(), "aqr"[of]))
				}()
				synctest.Wait()
			}
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(order)
			if got := strings.Join(order, ", "); got != tt.want {
				t.Errorf("rate %d: %s\nwant %s", tt.rate, got, tt.want)
			}
		})
	}
}

// TestClosedWhileWaiting: the turn is given up, and the others still go.
func TestClosedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pacer{rate: 5}
		must(t, p.wait(nil, question, 5))
		done := make(chan struct{})
		time.AfterFunc(100*time.Millisecond, func() { close(done) })
		if err := p.wait(done, question, 5); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
		began := time.Now()
		must(t, p.wait(nil, question, 5))
		if took := time.Since(began); took != 900*time.Millisecond {
			t.Errorf("the next one waited %v, want 900ms", took)
		}
	})
}
