package failover

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/state"
)

// Two messages of one cluster are not "2 clusters": each is sent as it is, and
// what was delivered does not stay with what was not.
func TestMessagesOfOneClusterAreNotCombined(t *testing.T) {
	var r mailroom
	refused := errors.New("refused")
	var sent []string
	deliver, leave := r.join(config.Cluster{Host: "172.16.0.2"}, func(_ context.Context, messages []state.Message) ([]state.Message, error) {
		for _, m := range messages {
			sent = append(sent, m.Subject)
		}
		return messages[1:], refused
	})
	defer leave()
	to := []string{"ops@example.org"}
	messages := []state.Message{{MessageID: "1", Cluster: "web", To: to, Subject: "one"}, {MessageID: "2", Cluster: "web", To: to, Subject: "two"}}
	for i := range messages {
		messages[i].Time = time.Now().Add(time.Minute) // of this run
	}
	left, err := deliver(t.Context(), slices.Clone(messages))
	if !errors.Is(err, refused) {
		t.Errorf("error %v, want %v", err, refused)
	}
	if diff := cmp.Diff([]string{"one", "two"}, sent); diff != "" {
		t.Errorf("sent (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(messages[1:], left); diff != "" {
		t.Errorf("left (-want +got)\n%s", diff)
	}
}
