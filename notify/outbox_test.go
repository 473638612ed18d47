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
		Subject:   fmt.Sprintf("letter %d", n),
	}
}

func TestALetterIsAddedAtTheEnd(t *testing.T) {
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

	// One more: two must go, for the letter about it needs room too.
	full := Enqueue(web(), outbox, numbered(100, "a@example.org"))
	if fmt.Sprint(outbox) != before {
		t.Error("the outbox handed in was changed")
	}
	if len(full) != state.MaxOutbox {
		t.Fatalf("%d letters, want %d", len(full), state.MaxOutbox)
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
		Subject:   "web: 2 mails from standby1 were dropped",
	}
	if diff := cmp.Diff(want, notice); diff != "" {
		t.Errorf("the letter about it (-want +got):\n%s", diff)
	}

	// Another: the same letter says three. It goes to those who are still owed
	// it; who has had it hears of it again only when it was theirs that went.
	full[98].To = []string{"c@example.org"}
	full[0].To = []string{"b@example.org"}
	before = fmt.Sprint(full)
	more := Enqueue(web(), full, numbered(101, "a@example.org"))
	if fmt.Sprint(full) != before {
		t.Error("the outbox handed in was changed")
	}
	if len(more) != state.MaxOutbox {
		t.Fatalf("%d letters, want %d", len(more), state.MaxOutbox)
	}
	notice = more[98]
	if !strings.Contains(notice.Body, "3 mails from standby1 were dropped. ") {
		t.Errorf("the count is not in the letter:\n%s", notice.Body)
	}
	notice.Body = ""
	want.MessageID, want.Subject, want.To = "<mail-dropped.3.event.101@standby1>", "web: 3 mails from standby1 were dropped", []string{"c@example.org", "b@example.org"}
	if diff := cmp.Diff(want, notice); diff != "" {
		t.Errorf("the letter about it, grown (-want +got):\n%s", diff)
	}
}

// Whatever is delivered in between: the bound holds, there is one letter about
// what was dropped, its count is true, and the newest letter is there.
func TestTheOutboxIsBoundedAndEveryLossIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var outbox []state.Message
		gone := map[string]bool{} // delivered, or told of as dropped in a letter that was delivered
		told, n := 0, 0
		for range rapid.IntRange(1, 4).Draw(t, "outages") {
			for range rapid.IntRange(1, 180).Draw(t, "letters") {
				outbox = Enqueue(web(), outbox, numbered(n, "ops@example.org"))
				n++
			}
			notices, counted, kept := 0, told, 0
			for _, l := range outbox {
				if count, ok := dropped(l); ok {
					notices++
					counted += count
				} else {
					kept++
				}
			}
			if len(outbox) > state.MaxOutbox || notices > 1 {
				t.Fatalf("%d letters, %d of them about dropped ones", len(outbox), notices)
			}
			if counted+kept+len(gone) != n {
				t.Fatalf("%d letters written: %d delivered, %d kept, %d said to be dropped", n, len(gone), kept, counted)
			}
			if got, want := outbox[len(outbox)-1].MessageID, fmt.Sprintf("<event.%d@standby1>", n-1); got != want {
				t.Fatalf("the newest is %s, want %s", got, want)
			}
			// The newest are delivered, as far as it goes.
			for range rapid.IntRange(0, len(outbox)).Draw(t, "delivered") {
				last := outbox[len(outbox)-1]
				outbox = outbox[:len(outbox)-1]
				if count, ok := dropped(last); ok {
					told += count
				} else {
					gone[last.MessageID] = true
				}
			}
		}
	})
}
