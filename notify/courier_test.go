package notify

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// hanging takes so long for each delivery, and then fails with err.
type hanging struct {
	takes time.Duration
	mu    sync.Mutex
	err   error
	got   [][]string
}

func (h *hanging) send(_ context.Context, outbox []state.Message) ([]state.Message, error) {
	h.mu.Lock()
	h.got = append(h.got, idsOf(outbox))
	err := h.err
	h.mu.Unlock()
	time.Sleep(h.takes)
	if err != nil {
		return outbox, err
	}
	return nil, nil
}

func idsOf(outbox []state.Message) (ids []string) {
	for _, m := range outbox {
		ids = append(ids, m.MessageID)
	}
	return ids
}

func messages(ids ...string) (outbox []state.Message) {
	for _, id := range ids {
		outbox = append(outbox, state.Message{MessageID: id, To: []string{"root"}})
	}
	return outbox
}

// A command that hangs holds up a check by a second at most; what it took in the end
// is crossed off by a later check, and is not sent twice.
func TestADeliveryThatHangsHoldsUpNoCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := new(Courier), &hanging{takes: 25 * time.Second}
		outbox := messages("1")
		for n := range 4 { // checks, 10 s apart
			if n == 1 {
				outbox = append(outbox, messages("2")...)
			}
			began := time.Now()
			left, err := c.Deliver(t.Context(), "web", outbox, h.send)
			if took := time.Since(began); took > time.Second || err != nil {
				t.Errorf("check %d: %s, %v", n, took, err)
			}
			outbox = left
			time.Sleep(10*time.Second - time.Since(began))
		}
		h.mu.Lock()
		got := slices.Clone(h.got)
		h.mu.Unlock()
		if diff := cmp.Diff([][]string{{"1"}, {"2"}}, got); diff != "" || !slices.Equal(idsOf(outbox), []string{"2"}) {
			t.Errorf("left %v; sent (-want +got)\n%s", idsOf(outbox), diff)
		}
		time.Sleep(time.Minute)
		if left, err := c.Deliver(t.Context(), "web", outbox, h.send); len(left) > 0 || err != nil {
			t.Errorf("left %v, %v", left, err)
		}
	})
}

func TestADeliveryThatFailsLateIsReportedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h, refused := new(Courier), &hanging{takes: 5 * time.Second}, errors.New("connection refused")
		h.err = refused
		if left, err := c.Deliver(t.Context(), "web", messages("1"), h.send); len(left) != 1 || err != nil {
			t.Errorf("under way: %v, %v", left, err)
		}
		time.Sleep(10 * time.Second)
		if left, err := c.Deliver(t.Context(), "web", messages("1", "2"), h.send); len(left) != 2 || err != refused {
			t.Errorf("failed: %v, %v", left, err)
		}
		h.mu.Lock()
		h.err = nil
		h.mu.Unlock()
		if left, err := c.Deliver(t.Context(), "web", messages("1", "2"), h.send); len(left) != 2 || err != refused {
			t.Errorf("under way again: %v, %v", left, err)
		}
		time.Sleep(10 * time.Second)
		if left, err := c.Deliver(t.Context(), "web", messages("1", "2"), h.send); len(left) != 0 || err != nil {
			t.Errorf("delivered: %v, %v", left, err)
		}
	})
}

// Others are not held up, a panic loses nothing, a run that may be the last one waits,
// and one that is interrupted does not.
func TestCouriersOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := new(Courier), &hanging{takes: 30 * time.Second}
		_, _ = c.Deliver(t.Context(), "web", messages("1"), h.send)
		began := time.Now()
		if left, err := c.Deliver(t.Context(), "db", messages("2"), new(hanging).send); len(left) > 0 || err != nil || time.Since(began) > 0 {
			t.Errorf("another cluster: %v, %v", left, err)
		}
		broken := func(context.Context, []state.Message) ([]state.Message, error) { panic("broken") }
		if left, err := c.Deliver(t.Context(), "mail", messages("3"), broken); len(left) != 1 || err == nil {
			t.Errorf("a panic: %v, %v", left, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if left, _ := c.Deliver(ctx, "web", messages("1"), h.send); len(left) != 1 || time.Since(began) > 0 {
			t.Errorf("interrupted: %v after %s", left, time.Since(began))
		}
		if left, _ := c.Deliver(context.WithoutCancel(t.Context()), "web", messages("1"), h.send); len(left) > 0 {
			t.Errorf("a last run: %v", left)
		}
	})
}
