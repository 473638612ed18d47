package failover

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/state"
)

// office is a mailroom, and what leaves it.
type office struct {
	room mailroom
	mu   sync.Mutex
	sent []string // "after 3s: subject"
	left int      // messages that the clusters keep
	fail error
}

// cluster is a run that brings a message after so long; "" none. It is over when
// that was delivered.
func (o *office) cluster(began time.Time, name, host, to string, after time.Duration, subject string) {
	c := config.Cluster{Name: name, Host: host, Mail: config.Mail{To: []string{to}}}
	deliver, leave := o.room.join(c, func(_ context.Context, m []state.Message) ([]state.Message, error) {
		if o.fail != nil {
			return m, o.fail
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, m := range m {
			o.sent = append(o.sent, time.Since(began).String()+": "+m.Subject)
		}
		return nil, nil
	})
	go func() {
		defer leave()
		time.Sleep(after)
		if subject == "" {
			return
		}
		left, err := deliver(context.Background(), []state.Message{{
			MessageID: "<" + name + ">", Time: time.Now().UTC().Truncate(time.Second), To: []string{to}, Cluster: name, Outcome: "took-over", Subject: subject,
		}})
		if !errors.Is(err, o.fail) {
			panic(err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.left += len(left)
		for _, m := range left {
			if m.MessageID != "<"+name+">" || !slices.Equal(m.To, []string{to}) {
				panic("a message that is left has changed")
			}
		}
	}()
}

func TestMessagesOfOneRunAboutOnePrimaryAreOneMail(t *testing.T) {
	const two, three, ops = "172.16.0.2", "172.16.0.3", "ops@example.org"
	for name, c := range map[string]struct {
		runs func(o *office, began time.Time)
		fail error
		sent []string
		left int
	}{
		"two of one primary": {
			runs: func(o *office, began time.Time) {
				o.cluster(began, "b", two, ops, time.Second, "B")
				o.cluster(began, "a", two, ops, 2*time.Second, "A")
			},
			sent: []string{"2s: [pingover] 2 clusters of 172.16.0.2: 2 took-over"},
		},
		"nobody waits for a cluster that has nothing to tell": {
			runs: func(o *office, began time.Time) {
				o.cluster(began, "a", two, ops, time.Second, "A")
				o.cluster(began, "b", two, ops, 1500*time.Millisecond, "")
			},
			sent: []string{"1.5s: A"},
		},
		"and not without end": {
			runs: func(o *office, began time.Time) {
				o.cluster(began, "a", two, ops, time.Second, "A")
				o.cluster(began, "b", two, ops, time.Minute, "B")
			},
			sent: []string{"4s: A", "1m0s: B"},
		},
		"another primary and another recipient are other mails": {
			runs: func(o *office, began time.Time) {
				o.cluster(began, "a", two, ops, time.Second, "A")
				o.cluster(began, "b", three, ops, 2*time.Second, "B")
				o.cluster(began, "c", two, "root", 3*time.Second, "C")
			},
			sent: []string{"1s: A", "2s: B", "3s: C"},
		},
		"what cannot be delivered stays with each cluster": {
			runs: func(o *office, began time.Time) {
				o.cluster(began, "a", two, ops, time.Second, "A")
				o.cluster(began, "b", two, ops, time.Second, "B")
			},
			fail: errors.New("connection refused"), left: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &office{fail: c.fail}
				began := time.Now()
				c.runs(o, began)
				time.Sleep(2 * time.Minute)
				o.mu.Lock()
				defer o.mu.Unlock()
				if diff := cmp.Diff(c.sent, o.sent); diff != "" || o.left != c.left {
					t.Errorf("%d messages are left, want %d; sent (-want +got):\n%s", o.left, c.left, diff)
				}
			})
		})
	}
}
