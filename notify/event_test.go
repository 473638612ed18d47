package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/lab"
	"pingover/state"
)

var eventTime = time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)

func eventCluster() Cluster {
	return Cluster{Name: "web", Host: "172.16.0.2", Hostname: "standby", Command: true, VIPs: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/16")}}
}

// planned is the outbox after a run with these facts.
func planned(h state.Head, c Cluster, f Facts) state.Head {
	f.Time = eventTime
	if f.Check != nil {
		f.Check.Now, f.Check.Outcome = eventTime, f.Outcome
	}
	h, _ = Plan(h, c, f, Policy{Rise: 3, Remind: 24 * time.Hour})
	return h
}

func parsed(t *testing.T, m state.Message) (e Event) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.Event), &e); err != nil || !strings.HasSuffix(m.Event, "}\n") || strings.Count(m.Event, "\n") != 1 {
		t.Fatalf("%q: %v", m.Event, err)
	}
	return e
}

func TestTheNotifyCommandGetsEachChangeAndAlert(t *testing.T) {
	c := eventCluster()
	change := state.Change{Event: "e1", Time: eventTime, Outcome: state.TookOver, Reason: "172.16.0.2 does not reply"}
	h := planned(state.Head{}, c, Facts{Outcome: state.TookOver, Reason: change.Reason, Change: &change, Failed: []HookFailure{{Hook: "post-takeover", Reason: "exit code 1"}}})
	if len(h.Outbox) != 2 {
		t.Fatalf("%d entries, want the takeover and the hook, and no mail", len(h.Outbox))
	}
	got := parsed(t, h.Outbox[1])
	if !strings.Contains(got.Text, "Reason: 172.16.0.2 does not reply") {
		t.Errorf("text %q", got.Text)
	}
	got.Text = ""
	want := Event{
		Version: 1, ID: "<e1.took-over.0.event@standby>", Cluster: "web", Kind: TookOver, State: "change", Time: eventTime, Host: "172.16.0.2", VIPs: []string{"172.16.0.1"},
		Outcome: "took-over", Reason: "172.16.0.2 does not reply", Subject: h.Outbox[1].Subject, Standby: "standby",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := parsed(t, h.Outbox[0]); got.Kind != HookFailed || got.State != "change" {
		t.Errorf("second event: %+v", got)
	}

	h = planned(state.Head{}, c, Facts{Outcome: state.Down, Reason: "no reply", Check: &Check{Rule: 9}})
	if got := parsed(t, h.Outbox[0]); got.Kind != Down || got.State != "firing" {
		t.Errorf("an alert: %+v", got)
	}
	h = planned(h, c, Facts{Outcome: state.OK, Check: &Check{Streaks: state.Streaks{Good: 3}}})
	if got := parsed(t, h.Outbox[1]); got.Kind != Down || got.State != "resolved" {
		t.Errorf("it resolves: %+v", got)
	}
}

func TestMailAndNotifyHaveEntriesOfTheirOwn(t *testing.T) {
	c := eventCluster()
	c.To = []string{"root"}
	h := planned(state.Head{}, c, Facts{Outcome: state.Down, Reason: "no reply", Check: &Check{Rule: 9}})
	if len(h.Outbox) != 2 || h.Outbox[0].Event == "" || h.Outbox[1].Event != "" || h.Outbox[1].To[0] != "root" {
		t.Fatalf("%+v", h.Outbox)
	}
	failing := func(_ context.Context, m []state.Message) ([]state.Message, error) {
		return m, fmt.Errorf("no mail server")
	}
	dir := t.TempDir()
	tee := Command{Argv: []string{"sh", "-c", "cat >>" + dir + "/out"}, Timeout: time.Minute}
	left, err := Dispatch(t.Context(), h.Outbox, failing, tee)
	if len(left) != 1 || left[0].Event != "" || err == nil || err.Error() != "no mail server" {
		t.Errorf("left %+v, %v", left, err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "out")); string(got) != h.Outbox[0].Event {
		t.Errorf("the command got %q", got)
	}
	sent := func(context.Context, []state.Message) ([]state.Message, error) { return nil, nil }
	left, err = Dispatch(t.Context(), h.Outbox, sent, Command{Argv: []string{"sh", "-c", "echo no route; exit 7"}, Timeout: time.Minute})
	if len(left) != 1 || left[0].Event == "" || err == nil || err.Error() != `notify: sh -c 'echo no route; exit 7': exit code 7: no route` {
		t.Errorf("left %+v, %v", left, err)
	}
	if left, err := Dispatch(t.Context(), h.Outbox, sent, Command{}); len(left) != 0 || err != nil {
		t.Errorf("the setting is gone: left %+v, %v", left, err)
	}
}

func TestANotifyCommandThatHangsIsKilledAndTheRestWaits(t *testing.T) {
	var events []state.Message
	for i := range 3 {
		events = append(events, event(eventCluster(), Notification{Kind: Down, Time: eventTime}, fmt.Sprint(i)))
	}
	began := time.Now()
	left, err := Command{Argv: []string{"sh", "-c", `read line; case $line in *'<2@'*) ;; *) sleep 60;; esac`}, Timeout: time.Second}.Deliver(t.Context(), events)
	if len(left) != 2 || err == nil || !strings.Contains(err.Error(), "killed: not done within 1s") {
		t.Errorf("%d left, %v", len(left), err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAWeekOfEventsThatCannotBeDeliveredIsCounted(t *testing.T) {
	c := eventCluster()
	var outbox []state.Message
	for i := range 2 * state.MaxOutbox {
		outbox = Enqueue(c, outbox, event(c, Notification{Kind: Down, Time: eventTime}, fmt.Sprint(i)))
	}
	if len(outbox) != state.MaxOutbox {
		t.Fatalf("%d entries", len(outbox))
	}
	if got := parsed(t, outbox[len(outbox)-2]); got.Kind != MailDropped || !strings.HasPrefix(got.Reason, "101 messages were dropped") {
		t.Errorf("%+v", got)
	}
}

func TestEventsThatWereDroppedAreToldByMail(t *testing.T) {
	c := eventCluster()
	c.To = []string{"root"}
	var outbox []state.Message
	for i := range state.MaxOutbox + 1 {
		outbox = Enqueue(c, outbox, event(c, Notification{Kind: Down, Time: eventTime}, fmt.Sprint(i)))
	}
	notice := outbox[len(outbox)-2]
	if notice.Event != "" || notice.Kind != string(MailDropped) || !cmp.Equal(notice.To, []string{"root"}) {
		t.Errorf("%+v", notice)
	}
}

// The examples of the manual, with curl and a server that fails at first.
func TestNotifyExamples(t *testing.T) {
	lab.Need(t, "curl", "curl")
	lab.Need(t, "jq", "jq")
	manual, err := os.ReadFile("../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	m := event(eventCluster(), Notification{Kind: TookOver, Outcome: state.TookOver, Time: eventTime, Reason: `"it" isn't there`}, "e1")
	for name, want := range map[string]string{
		"ntfy":  m.Subject,
		"slack": fmt.Sprintf(`{"text":%q}`, m.Subject),
		"pager": strings.TrimSpace(m.Event),
	} {
		t.Run(name, func(t *testing.T) {
			file := "clusters:\n  web:\n    host: 172.16.0.2\n"
			for line := range strings.Lines(string(manual)) {
				if strings.Contains(line, "/"+name) && strings.HasPrefix(line, "    notify: ") {
					file += line
				}
			}
			var fails atomic.Bool
			fails.Store(true)
			bodies := make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if fails.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				bodies <- string(body)
			}))
			defer server.Close()
			file = strings.ReplaceAll(file, "https://notify.example.com", server.URL)
			defined, err := config.FromFile("pingover.yaml", []byte(file), nil, config.Env{Getenv: func(name string) string { return map[string]string{"HOME": "/"}[name] }})
			if err != nil {
				t.Fatal(err)
			}
			clusters := defined.Clusters
			command := Command{Argv: clusters[0].Mail.Notify, Timeout: clusters[0].Hooks.Timeout}
			left, err := command.Deliver(t.Context(), []state.Message{m})
			if len(left) != 1 || err == nil || !strings.Contains(err.Error(), "503") {
				t.Fatalf("a server that fails: %d left, %v", len(left), err)
			}
			fails.Store(false)
			if left, err = command.Deliver(t.Context(), left); len(left) != 0 || err != nil {
				t.Fatalf("%d left, %v", len(left), err)
			}
			if got := strings.TrimSpace(<-bodies); got != want {
				t.Errorf("the server got %q, want %q", got, want)
			}
		})
	}
}

// The manual has each kind of notification.
func TestTheManualHasTheKinds(t *testing.T) {
	manual, err := os.ReadFile("../docs/notify.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(manual), "## Kinds")
	n := 0
	for _, file := range []string{"message.go", "service.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^\t\w+ +Kind += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
			n++
			if !strings.Contains(table, "`"+m[1]+"`") {
				t.Errorf("%s is missing", m[1])
			}
		}
	}
	if n < 28 {
		t.Errorf("only %d kinds were found", n)
	}
}
