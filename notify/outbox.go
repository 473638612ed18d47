package notify

import (
	"fmt"
	"slices"
	"strings"

	"pingover/state"
)

// Enqueue appends the message to the cluster's outbox. At most state.MaxOutbox
// are kept: then the oldest are dropped, and one message to their recipients
// says how many. It grows while more are dropped, and is never dropped itself.
func Enqueue(c Cluster, outbox []state.Message, m state.Message) []state.Message {
	if len(outbox) < state.MaxOutbox {
		return append(slices.Clone(outbox), m)
	}

	earlier := state.Message{Time: m.Time}
	kept := slices.DeleteFunc(slices.Clone(outbox), func(o state.Message) bool {
		if o.Dropped > 0 {
			earlier = o
		}
		return o.Dropped > 0
	})
	excess := len(kept) + 2 - state.MaxOutbox // the notice and m need room
	since, until := earlier.DroppedSince, kept[excess-1].Time
	if since.IsZero() {
		since = kept[0].Time
	}
	count := earlier.Dropped + excess
	recipients := c.To
	c.To = nil
	for _, o := range append([]state.Message{earlier}, kept[:excess]...) {
		if o.Event == "" {
			c.To = append(c.To, o.To...)
		}
	}

	// A new Message-ID each time that it grows: a mailbox that has the shorter
	// one would hide the longer as a duplicate.
	local, _, _ := strings.Cut(strings.TrimPrefix(m.MessageID, "<"), "@")
	n := Notification{
		Kind:   MailDropped,
		Time:   earlier.Time,
		Reason: fmt.Sprintf("%d messages were dropped, of %s to %s", count, utc(since), utc(until)),
	}
	id := fmt.Sprintf("%s.%d.%s", MailDropped, count, local)
	if len(c.To) == 0 { // all that was dropped was for the notify command, which fails: mail says so
		c.To = recipients
	}
	notice := Compose(c, []Notification{n}, id, "")
	if len(c.To) == 0 {
		notice = event(c, n, id)
	}
	notice.Dropped, notice.DroppedSince = count, since
	return append(kept[excess:], notice, m)
}
