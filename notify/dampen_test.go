package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pingover/state"
)

func minute(n int) time.Time { return night.Add(time.Duration(n) * time.Minute) }

func TestDampen(t *testing.T) {
	event := func(kind Kind, event string, at int) Notification {
		return Notification{Kind: kind, Event: event, Time: minute(at), Reason: "because"}
	}
	again := func(n Notification) Notification { n.Repeated = true; return n }
	kept := func(kind Kind, event string, at int) state.Suppressed {
		return state.Suppressed{Time: minute(at), Kind: string(kind), Event: event, Reason: "because"}
	}
	sent := func(kind Kind, at int) state.MailedKind {
		return state.MailedKind{Kind: string(kind), Time: minute(at)}
	}
	alert := func(kind Kind, since, mailed int) Notification {
		n := event(kind, "", mailed)
		n.Alert = state.Alert{Kind: string(kind), Rule: 13, Since: minute(since), Mailed: minute(mailed)}
		return n
	}
	full := make([]state.Suppressed, maxSuppressed)
	for i := range full {
		full[i] = kept(TookOver, fmt.Sprint(i), 1)
	}

	type answer struct {
		After state.Damping
		Due   []Notification
	}
	tests := []struct {
		name    string
		damping state.Damping
		events  []Notification
		at      int
		want    answer
	}{
		{name: "nothing new: nothing is mailed or kept"},
		{
			name:   "the first is mailed at once",
			events: []Notification{event(TookOver, "a", 0)},
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 0)}},
				Due:   []Notification{event(TookOver, "a", 0)},
			},
		},
		{
			name:    "another kind is no repetition",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 0)}},
			events:  []Notification{event(Released, "b", 1)},
			at:      1,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 0), sent(Released, 1)}},
				Due:   []Notification{event(Released, "b", 1)},
			},
		},
		{
			name:    "the first repetition within the hour is mailed at once, and announces flap damping",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 0), sent(Released, 1)}},
			events:  []Notification{event(TookOver, "c", 59)},
			at:      59,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 59), sent(Released, 1)}, Since: minute(59)},
				Due:   []Notification{again(event(TookOver, "c", 59))},
			},
		},
		{
			name:    "after an hour it is none",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 0)}},
			events:  []Notification{event(TookOver, "c", 60)},
			at:      60,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 60)}},
				Due:   []Notification{event(TookOver, "c", 60)},
			},
		},
		{
			name:    "the second is suppressed, of whatever kind",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 1)}, Since: minute(2)},
			events:  []Notification{event(Released, "d", 3)},
			at:      3,
			want: answer{
				After: state.Damping{
					Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 1)}, Since: minute(2),
					Suppressed: []state.Suppressed{kept(Released, "d", 3)},
				},
			},
		},
		{
			name: "a new kind is mailed at once meanwhile, with the rest of its run and the suppressed ones",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(Released, "d", 3)},
			},
			events: []Notification{event(TakeoverFailed, "e", 4), event(Released, "f", 4)},
			at:     4,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 4), sent(TakeoverFailed, 4)}, Since: minute(4)},
				Due: []Notification{
					event(TakeoverFailed, "e", 4), event(Released, "f", 4),
					{Kind: Flapping, Time: minute(4), Suppressed: []state.Suppressed{kept(Released, "d", 3)}},
				},
			},
		},
		{
			name: "an hour later one message lists the suppressed ones",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(Released, "d", 3), kept(TookOver, "e", 40)},
			},
			at: 62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(Released, 3), sent(TookOver, 40)}, Since: minute(62)},
				Due: []Notification{{
					Kind: Flapping, Time: minute(62),
					Suppressed: []state.Suppressed{kept(Released, "d", 3), kept(TookOver, "e", 40)},
				}},
			},
		},
		{
			name: "a repetition is included",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(TookOver, 30)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(TookOver, "d", 50)},
			},
			events: []Notification{event(TookOver, "e", 62)},
			at:     62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 62)}, Since: minute(62)},
				Due: []Notification{
					event(TookOver, "e", 62),
					{Kind: Flapping, Time: minute(62), Suppressed: []state.Suppressed{kept(TookOver, "d", 50)}},
				},
			},
		},
		{
			name:    "an hour without a repetition ends flap damping: the next repetition begins anew",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 2), sent(Released, 61)}, Since: minute(2)},
			events:  []Notification{event(Released, "d", 62)},
			at:      62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(Released, 62)}, Since: minute(62)},
				Due:   []Notification{again(event(Released, "d", 62))},
			},
		},
		{
			name:    "a reminder is no repetition",
			damping: state.Damping{Mailed: []state.MailedKind{sent(Blocked, 0)}, Since: minute(1)},
			events:  []Notification{alert(Blocked, 0, 5)},
			at:      5,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(Blocked, 0)}, Since: minute(1)},
				Due:   []Notification{alert(Blocked, 0, 5)},
			},
		},
		{
			name:    "an alert that comes again is one",
			damping: state.Damping{Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0)}}, Since: minute(1)},
			events:  []Notification{alert(Blocked, 5, 5)},
			at:      5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0)}}, Since: minute(1), Suppressed: []state.Suppressed{kept(Blocked, "", 5)},
			}},
		},
		{
			name:    "a suppressed resolution names its alert, a failed hook its name",
			damping: state.Damping{Mailed: []state.MailedKind{sent(Recovered, 0), sent(HookFailed, 0)}, Since: minute(1)},
			events: []Notification{
				{Kind: Recovered, Time: minute(5), Reason: "because", Alert: state.Alert{Kind: "blocked", Since: minute(0), Mailed: minute(4)}},
				{Kind: HookFailed, Time: minute(5), Hook: "post-release", Reason: "exit code 3\n" + strings.Repeat("x", 200)},
			},
			at: 5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{sent(Recovered, 0), sent(HookFailed, 0)}, Since: minute(1),
				Suppressed: []state.Suppressed{
					{Time: minute(5), Kind: "recovered", Reason: "blocked resolved: because"},
					{Time: minute(5), Kind: "hook-failed", Reason: "post-release: exit code 3 " + strings.Repeat("x", 131) + "..."},
				},
			}},
		},
		{
			name:    "a full message does not wait for the hour",
			damping: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 1)}, Since: minute(1), Suppressed: full},
			events:  []Notification{event(TookOver, "d", 5)},
			at:      5,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(TookOver, 5)}, Since: minute(5)},
				Due:   []Notification{event(TookOver, "d", 5), {Kind: Flapping, Time: minute(5), Suppressed: full}},
			},
		},
		{
			name: "a clock that was set back starts the hour anew",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(TookOver, 900)}, Since: minute(901), Suppressed: []state.Suppressed{kept(TookOver, "d", 902)},
			},
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{sent(TookOver, 0)}, Since: minute(0), Suppressed: []state.Suppressed{kept(TookOver, "d", 902)},
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.damping, tt.events)
			var got answer
			got.After, got.Due = Dampen(tt.damping, tt.events, minute(tt.at))
			if len(got.After.Mailed) == 0 {
				got.After.Mailed = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if now := fmt.Sprint(tt.damping, tt.events); now != before {
				t.Errorf("what was handed in was changed from %s to %s", before, now)
			}
		})
	}
}

// queue is the operator's mailbox.
type queue struct {
	damping  state.Damping
	messages []time.Time
	mailed   map[string]int // how often, by event
	marked   int            // messages that announce flap damping
}

// run is one run of the program.
func (p *queue) run(now time.Time, events ...Notification) (due []Notification) {
	p.damping, due = Dampen(p.damping, events, now)
	if len(due) == 0 {
		return nil
	}
	if p.mailed == nil {
		p.mailed = map[string]int{}
	}
	p.messages = append(p.messages, now)
	body := Compose(web(), due, "id", "").Body
	for word := range strings.FieldsSeq(body) {
		if strings.HasPrefix(word, "event-") {
			p.mailed[word]++
		}
	}
	if slices.ContainsFunc(due, func(n Notification) bool { return n.Repeated }) {
		p.marked++
	}
	return due
}

// most is the largest number of messages in any hour.
func (p *queue) most() (most int) {
	for i, begin := range p.messages {
		n := 0
		for _, l := range p.messages[i:] {
			if l.Sub(begin) < time.Hour {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func TestFlappingEveryMinuteForAnHourMakesThreeMessages(t *testing.T) {
	recovered := func(n Notification) Notification {
		n.Alert = state.Alert{Kind: "blocked", Since: n.Time.Add(-time.Minute), Mailed: n.Time.Add(-time.Minute)}
		return n
	}
	blocked := func(n Notification) Notification {
		n.Alert = state.Alert{Kind: "blocked", Rule: 13, Since: n.Time, Mailed: n.Time}
		return n
	}
	asItIs := func(n Notification) Notification { return n }
	tests := []struct {
		name   string
		kinds  [2]Kind
		detail [2]func(Notification) Notification
	}{
		{"takeovers and releases", [2]Kind{TookOver, Released}, [2]func(Notification) Notification{asItIs, asItIs}},
		{"an alert that comes and goes", [2]Kind{Blocked, Recovered}, [2]func(Notification) Notification{blocked, recovered}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p queue
			for i := range 60 {
				p.run(minute(i), tt.detail[i%2](Notification{Kind: tt.kinds[i%2], Event: fmt.Sprintf("event-%d", i), Time: minute(i)}))
			}
			if len(p.messages) != 3 || p.marked != 1 {
				t.Errorf("%d messages in the hour, %d of them announce flap damping; want 3 and 1", len(p.messages), p.marked)
			}
			for i := 60; i < 200; i++ {
				p.run(minute(i))
			}
			if len(p.messages) != 4 {
				t.Errorf("%d messages after it, want 1", len(p.messages)-3)
			}
			for i := range 60 {
				if n := p.mailed[fmt.Sprintf("event-%d", i)]; n != 1 {
					t.Errorf("change %d was mailed %d times", i, n)
				}
			}
			if diff := cmp.Diff(state.Damping{Mailed: []state.MailedKind{}}, p.damping); diff != "" {
				t.Errorf("what is kept long after (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATakeoverAfterAQuietHourIsMailedAtOnce(t *testing.T) {
	var p queue
	for i := range 10 {
		p.run(minute(i), Notification{Kind: TookOver, Time: minute(i)})
	}
	for i := 10; i < 70; i++ {
		p.run(minute(i))
	}
	if len(p.messages) != 3 {
		t.Fatalf("%d messages, want 3", len(p.messages))
	}
	if due := p.run(minute(70), Notification{Kind: TookOver, Time: minute(70)}); len(due) != 1 || due[0].Repeated {
		t.Errorf("it mailed %v", due)
	}
}

func TestDampenMailsEverythingOnceAndSeldom(t *testing.T) {
	kinds := []Kind{TookOver, Released, TakeoverFailed, Blocked, Recovered, AliasGone}
	rapid.Check(t, func(t *rapid.T) {
		var p queue
		some := kinds[:rapid.IntRange(1, len(kinds)).Draw(t, "kinds")]
		last := map[Kind]time.Time{} // when it was last in a message
		came := map[string]bool{}
		now := night
		runs := rapid.IntRange(1, 250).Draw(t, "runs")
		for run := range runs {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 60, 60, 60, 600}).Draw(t, "seconds")) * time.Second)
			var events []Notification
			fresh := false
			for i := range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "events") {
				n := Notification{Kind: rapid.SampledFrom(some).Draw(t, "kind"), Event: fmt.Sprintf("event-%d-%d", run, i), Time: now}
				events = append(events, n)
				came[n.Event] = true
				before, ok := last[n.Kind]
				fresh = fresh || !ok || now.Sub(before) >= time.Hour
			}
			due := p.run(now, events...)
			if fresh && len(due) == 0 {
				t.Fatalf("run %d: something new was held back: %v", run, events)
			}
			for _, n := range due {
				last[n.Kind] = now
				for _, g := range n.Suppressed {
					last[Kind(g.Kind)] = now
				}
			}
			if len(p.damping.Suppressed) > maxSuppressed || len(p.damping.Mailed) > len(kinds) {
				t.Fatalf("run %d: %d suppressed, %d mailed", run, len(p.damping.Suppressed), len(p.damping.Mailed))
			}
			for _, g := range p.damping.Suppressed {
				if now.Sub(g.Time) >= time.Hour {
					t.Fatalf("run %d: event %s still waits after %s", run, g.Event, now.Sub(g.Time))
				}
			}
		}
		waiting := map[string]int{}
		for _, g := range p.damping.Suppressed {
			waiting[g.Event]++
		}
		for _, event := range slices.Sorted(maps.Keys(came)) {
			if n := p.mailed[event] + waiting[event]; n != 1 {
				t.Errorf("%s was mailed %d times and waits %d times", event, p.mailed[event], waiting[event])
			}
		}
		// A burst of more than a message holds makes one more, and so does each
		// quarter of an hour of calm.
		if most := len(some) + 1 + len(came)/maxSuppressed + 4; p.most() > most {
			t.Errorf("%d messages in an hour for %d kinds of events, want at most %d: %v", p.most(), len(some), most, p.messages)
		}
	})
}

// TestCalmEndsFlapDamping: the final state is mailed soon.
func TestCalmEndsFlapDamping(t *testing.T) {
	t.Parallel()
	var d state.Damping
	var messages []time.Duration
	for minute := range 60 {
		now := night.Add(time.Duration(minute) * time.Minute)
		var events []Notification
		if minute < 6 {
			events = []Notification{{Kind: []Kind{TookOver, Released}[minute%2], Event: fmt.Sprint(minute), Time: now}}
		}
		var due []Notification
		if d, due = Dampen(d, events, now); len(due) > 0 {
			messages = append(messages, time.Duration(minute)*time.Minute)
		}
	}
	want := []time.Duration{0, time.Minute, 2 * time.Minute, 20 * time.Minute}
	if diff := cmp.Diff(want, messages); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

// TestEachRuleThatBlocksIsMailed: a failed fence is no repetition of a missing
// witness.
func TestEachRuleThatBlocksIsMailed(t *testing.T) {
	t.Parallel()
	var d state.Damping
	for i, rule := range []int{10, 11, 13, 14} {
		now := night.Add(time.Duration(i) * time.Minute)
		var due []Notification
		alert := state.Alert{Kind: string(Blocked), Rule: rule, Since: now, Mailed: now}
		if d, due = Dampen(d, []Notification{{Kind: Blocked, Time: now, Alert: alert}}, now); len(due) != 1 || due[0].Repeated {
			t.Errorf("rule %d: mailed %v", rule, due)
		}
	}
}

func TestDampingSurvivesAClockThatIsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p queue
		now := night
		runs := rapid.IntRange(1, 150).Draw(t, "runs")
		for run := range runs {
			step := time.Minute
			if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
				step = time.Duration(rapid.IntRange(-100_000, 200).Draw(t, "by")) * time.Minute
			}
			now = now.Add(step)
			p.run(now, Notification{Kind: []Kind{TookOver, Released}[run%2], Event: fmt.Sprintf("event-%d", run), Time: now})
		}
		// From now on the clock is right: within the hour everything is mailed.
		for range 60 {
			now = now.Add(time.Minute)
			p.run(now)
		}
		if len(p.damping.Suppressed) > 0 {
			t.Fatalf("silence after the clock was set: %v", p.damping)
		}
		for run := range runs {
			if n := p.mailed[fmt.Sprintf("event-%d", run)]; n != 1 {
				t.Fatalf("change %d was mailed %d times", run, n)
			}
		}
		if due := p.run(now.Add(time.Hour), Notification{Kind: TookOver, Time: now}); len(due) == 0 {
			t.Fatal("a takeover after a quiet hour was held back")
		}
	})
}
