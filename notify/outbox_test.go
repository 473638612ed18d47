package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pingover/state"
)

func numbered(n int, to ...string) state.Message {
	return state.Message{
		MessageID: fmt.Sprintf("<event.%d@standby1>", n),
		Time:      night.Add(time.Duration(n) * time.Minute),
		To:        to,
		Subject:   fmt.Sprintf("message %d", n),
	}
}

func TestEnqueueAppends(t *testing.T) {
	one, two := numbered(1, "ops@example.org"), numbered(2, "ops@example.org")
	got := Enqueue(web(), []state.Message{one}, two)
	if diff := cmp.Diff([]state.Message{one, two}, got); diff != "" {
		t.Errorf("outbox (-want +got):\n%s", diff)
	}
}

func TestAFullOutboxDropsTheOldestAndSaysSo(t *testing.T) {
	var outbox []state.Message
	for i := range state.MaxOutbox {
		outbox = Enqueue(web(), outbox, numbered(i, "a@example.org", "b@example.org"))
	}
	before := fmt.Sprint(outbox)

	// One more: two are dropped, for the notice needs room too.
	full := Enqueue(web(), outbox, numbered(100, "a@example.org"))
	if fmt.Sprint(outbox) != before {
		t.Error("the outbox handed in was changed")
	}
	if len(full) != state.MaxOutbox {
		t.Fatalf("%d messages, want %d", len(full), state.MaxOutbox)
	}
	if got, want := full[0].MessageID, "<event.2@standby1>"; got != want {
		t.Errorf("the oldest is %s, want %s", got, want)
	}
	if got, want := full[99].MessageID, "<event.100@standby1>"; got != want {
		t.Errorf("the newest is %s, want %s", got, want)
	}
	notice := full[98]
	notice.Body = ""
	want := state.Message{
		MessageID: "<mail-dropped.2.event.100@standby1>",
		Time:      night.Add(100 * time.Minute),
		To:        []string{"a@example.org", "b@example.org"},
		Subject:   "[pingover] web: PROBLEM: 2 messages were dropped, of 2026-03-01 03:04:05 UTC to 2026-03-01 03:05:05 UTC",
		Cluster:   "web", Outcome: "mail-dropped", Kind: "mail-dropped", Dropped: 2, DroppedSince: night,
	}
	if diff := cmp.Diff(want, notice); diff != "" {
		t.Errorf("the notice (-want +got):\n%s", diff)
	}

	// Another: the same notice says three. It goes to those who have not had it,
	// and to the recipients of the message that was dropped now.
	full[98].To = []string{"c@example.org"}
	full[0].To = []string{"b@example.org"}
	before = fmt.Sprint(full)
	more := Enqueue(web(), full, numbered(101, "a@example.org"))
	if fmt.Sprint(full) != before {
		t.Error("the outbox handed in was changed")
	}
	if len(more) != state.MaxOutbox {
		t.Fatalf("%d messages, want %d", len(more), state.MaxOutbox)
	}
	notice = more[98]
	if !strings.Contains(notice.Body, "3 messages were dropped, of 2026-03-01") {
		t.Errorf("the count is not in the notice:\n%s", notice.Body)
	}
	notice.Body = ""
	want.MessageID, want.Subject, want.To = "<mail-dropped.3.event.101@standby1>", "[pingover] web: PROBLEM: 3 messages were dropped, of 2026-03-01 03:04:05 UTC to 2026-03-01 03:06:05 UTC", []string{"c@example.org", "b@example.org"}
	want.Dropped = 3
	if diff := cmp.Diff(want, notice); diff != "" {
		t.Errorf("the notice, grown (-want +got):\n%s", diff)
	}
}

// Whatever is delivered in between: the bound holds, there is one notice about
// dropped messages, its count is right, and the newest message is there.
func TestTheOutboxIsBoundedAndEveryLossIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var outbox []state.Message
		gone := map[string]bool{} // delivered, or counted in a notice that was delivered
		reported, n := 0, 0
		for range rapid.IntRange(1, 4).Draw(t, "outages") {
			for range rapid.IntRange(1, 180).Draw(t, "messages") {
				outbox = Enqueue(web(), outbox, numbered(n, "ops@example.org"))
				n++
			}
			notices, counted, kept := 0, reported, 0
			for _, l := range outbox {
				if l.Dropped > 0 {
					notices++
					counted += l.Dropped
				} else {
					kept++
				}
			}
			if len(outbox) > state.MaxOutbox || notices > 1 {
				t.Fatalf("%d messages, %d of them notices", len(outbox), notices)
			}
			if counted+kept+len(gone) != n {
				t.Fatalf("%d messages written: %d delivered, %d kept, %d reported as dropped", n, len(gone), kept, counted)
			}
			if got, want := outbox[len(outbox)-1].MessageID, fmt.Sprintf("<event.%d@standby1>", n-1); got != want {
				t.Fatalf("the newest is %s, want %s", got, want)
			}
			// The newest are delivered, as far as it goes.
			for range rapid.IntRange(0, len(outbox)).Draw(t, "delivered") {
				last := outbox[len(outbox)-1]
				outbox = outbox[:len(outbox)-1]
				if last.Dropped > 0 {
					reported += last.Dropped
				} else {
					gone[last.MessageID] = true
				}
			}
		}
	})
}
