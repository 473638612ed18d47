package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"pingover/internal/proc"
	"pingover/state"
)

// Event is what the notify command gets on its standard input: one notification,
// as one line of JSON. All keys are always there; keys may be added.
type Event struct {
	Version int       `json:"version"` // of this object: 1
	ID      string    `json:"id"`      // the same when it is delivered again
	Cluster string    `json:"cluster"`
	Kind    Kind      `json:"kind"`
	State   string    `json:"state"` // firing, resolved, change
	Time    time.Time `json:"time"`
	Host    string    `json:"host"`
	VIPs    []string  `json:"vips"`
	Outcome string    `json:"outcome"` // of the run, "" where it had none
	Reason  string    `json:"reason"`
	Subject string    `json:"subject"` // as the mail has it
	Text    string    `json:"text"`
	Standby string    `json:"standby"` // this machine
}

// byCommand stands for the notify command among the recipients of a message.
const byCommand = "notify"

// event is the entry of the outbox for the notify command. It is one of its own, so
// that neither delays the other.
func event(c Cluster, n Notification, id string) state.Message {
	e := Event{Kind: n.Kind, State: "change", Outcome: string(n.Outcome), Reason: n.Reason}
	switch {
	case n.Kind == Recovered:
		e.Kind, e.State = Kind(n.Alert.Kind), "resolved"
	case n.Alert.Kind != "":
		e.State = "firing"
	}
	return e.of(c, Compose(c, []Notification{n}, id, ""))
}

// TestEvent is what doctor hands to the notify command: that nothing has happened.
func TestEvent(c Cluster, id string, at time.Time) state.Message {
	return Event{Kind: "test", State: "change"}.of(c, TestMessage(c, id, at))
}

// of makes the event that of a message, and the message that of the event.
func (e Event) of(c Cluster, m state.Message) state.Message {
	e.Version, e.ID, e.Time, e.Subject, e.Text = 1, m.MessageID, m.Time.UTC(), m.Subject, m.Body
	e.Cluster, e.Host, e.Standby, e.VIPs = c.Name, c.Host, c.Hostname, []string{}
	for _, v := range c.VIPs {
		e.VIPs = append(e.VIPs, v.Addr().String())
	}
	var line bytes.Buffer
	out := json.NewEncoder(&line)
	out.SetEscapeHTML(false)
	if err := out.Encode(e); err != nil { // a time that JSON does not have
		e.Time = time.Time{}
		_ = out.Encode(e)
	}
	m.To, m.InReplyTo, m.Event, m.Body = []string{byCommand}, "", line.String(), ""
	return m
}

// Command is the notify command.
type Command struct {
	Argv    []string // nil: none
	Timeout time.Duration
}

// Deliver hands each event to the command, the newest first, and returns those
// that are left. The command has the subject in PINGOVER_SUBJECT too. It never takes longer than Timeout for all of them, and after the
// first that fails the others wait. Where no command is set they are dropped.
func (c Command) Deliver(ctx context.Context, events []state.Message) (left []state.Message, err error) {
	if c.Argv == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within %s", c.Timeout))
	defer cancel()
	for i, m := range slices.Backward(events) {
		result := proc.Run(ctx, proc.Command{Argv: c.Argv, Env: proc.Environment("PINGOVER_CLUSTER="+m.Cluster, "PINGOVER_SUBJECT="+m.Subject), Stdin: []byte(m.Event), Timeout: c.Timeout})
		if result.Err != nil {
			return slices.Clone(events[:i+1]), errors.New("notify: " + oneLine(result.Err.Error(), maxError))
		}
	}
	return nil, nil
}

// Dispatch hands the mail of an outbox to send, then its events to the command, and
// returns what is left of both, in the order of the outbox.
func Dispatch(ctx context.Context, outbox []state.Message, send func(context.Context, []state.Message) ([]state.Message, error), c Command) (left []state.Message, err error) {
	isEvent := func(m state.Message) bool { return m.Event != "" }
	events := slices.DeleteFunc(slices.Clone(outbox), func(m state.Message) bool { return !isEvent(m) })
	if mail := slices.DeleteFunc(slices.Clone(outbox), isEvent); len(mail) > 0 {
		left, err = send(ctx, mail)
	}
	if len(events) > 0 {
		rest, e := c.Deliver(ctx, events)
		left = append(left, rest...)
		err = errors.Join(err, e)
	}
	at := func(m state.Message) int {
		return slices.IndexFunc(outbox, func(o state.Message) bool { return o.MessageID == m.MessageID })
	}
	slices.SortStableFunc(left, func(a, b state.Message) int { return at(a) - at(b) })
	if err != nil {
		err = errors.New(oneLine(err.Error(), maxError))
	}
	return left, err
}
