package notify

import (
	"fmt"
	"slices"
	"strings"

	"pingover/state"
)

// Enqueue puts the letter at the end of the cluster's outbox. At most
// state.MaxOutbox are kept: then the oldest go, and one letter, to those who
// have missed something, says how many. It grows while further ones go, and
// never goes itself.
func Enqueue(c Cluster, outbox []state.Message, l state.Message) []state.Message {
	if len(outbox) < state.MaxOutbox {
		return append(slices.Clone(outbox), l)
	}

	notice := state.Message{Time: l.Time}
	count := 0
	kept := slices.DeleteFunc(slices.Clone(outbox), func(o state.Message) bool {
		n, ok := dropped(o)
		if ok {
			notice, count = o, n
		}
		return ok
	})
	excess := len(kept) + 2 - state.MaxOutbox // the notice and l need room
	to := slices.Clone(notice.To)
	for _, o := range kept[:excess] {
		to = append(to, o.To...)
	}
	count += excess

	c.To = to
	notice = Compose(c, []Notification{{
		Kind:   MailDropped,
		Time:   notice.Time,
		Reason: fmt.Sprintf("%d mails from %s were dropped", count, c.Hostname),
	}}, droppedID(count, l), "")
	return append(kept[excess:], notice, l)
}

// droppedID is the id of the letter that says how many were dropped. The count
// stands in it, where a later run finds it. It is a new one each time that the
// letter grows, else a mailbox that has the shorter one would hide the longer
// as a repetition.
func droppedID(count int, newest state.Message) string {
	local, _, _ := strings.Cut(strings.TrimPrefix(newest.MessageID, "<"), "@")
	return fmt.Sprintf("%s.%d.%s", MailDropped, count, local)
}

// dropped is the count of a letter with such an id; false for any other.
func dropped(l state.Message) (count int, ok bool) {
	_, err := fmt.Sscanf(l.MessageID, "<"+string(MailDropped)+".%d.", &count)
	return count, err == nil
}
