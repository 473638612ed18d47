package notify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	twice := func(kind Kind, at int) state.MailedKind {
		return state.MailedKind{Kind: string(kind), Time: minute(at), Again: true}
	}
	alert := func(kind Kind, since, mailed int) Notification {
		n := event(kind, "", mailed)
		n.Alert = state.Alert{Kind: string(kind), Rule: 13, Since: minute(since), Mailed: minute(mailed)}
		return n
	}
	full := make([]state.Suppressed, maxSuppressed)
	for i := range full {
		full[i] = kept(AliasGone, fmt.Sprint(i), 1)
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
			events: []Notification{event(AliasGone, "a", 0)},
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 0)}},
				Due:   []Notification{event(AliasGone, "a", 0)},
			},
		},
		{
			name:    "another kind is no repetition",
			damping: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 0)}},
			events:  []Notification{event(NobodyTook, "b", 1)},
			at:      1,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 0), sent(NobodyTook, 1)}},
				Due:   []Notification{event(NobodyTook, "b", 1)},
			},
		},
		{
			name:    "the first repetition within the hour is mailed at once, and announces flap damping",
			damping: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 0), sent(NobodyTook, 1)}},
			events:  []Notification{event(AliasGone, "c", 59)},
			at:      59,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 59), sent(NobodyTook, 1)}, Since: minute(59)},
				Due:   []Notification{again(event(AliasGone, "c", 59))},
			},
		},
		{
			name:    "after an hour it is none",
			damping: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 0)}},
			events:  []Notification{event(AliasGone, "c", 60)},
			at:      60,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 60)}},
				Due:   []Notification{event(AliasGone, "c", 60)},
			},
		},
		{
			name:    "the third is suppressed, until calm or the end of the hour",
			damping: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 2), sent(NobodyTook, 1)}, Since: minute(2)},
			events:  []Notification{event(AliasGone, "d", 3)},
			at:      3,
			want: answer{
				After: state.Damping{
					Mailed: []state.MailedKind{twice(AliasGone, 2), sent(NobodyTook, 1)}, Since: minute(2),
					Suppressed: []state.Suppressed{kept(AliasGone, "d", 3)}, Next: minute(18),
				},
			},
		},
		{
			name:    "the first repetition of another kind is mailed at once meanwhile",
			damping: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 2), sent(NobodyTook, 1)}, Since: minute(2)},
			events:  []Notification{event(NobodyTook, "d", 3)},
			at:      3,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 2), twice(NobodyTook, 3)}, Since: minute(2)},
				Due:   []Notification{again(event(NobodyTook, "d", 3))},
			},
		},
		{
			name: "changes of role are mailed at once, ten in an hour, and the tenth announces flap damping",
			damping: state.Damping{Changes: []time.Time{
				minute(0), minute(1), minute(2), minute(3), minute(4), minute(5), minute(6), minute(7), minute(8),
			}},
			events: []Notification{event(Released, "d", 9)},
			at:     9,
			want: answer{
				After: state.Damping{Changes: []time.Time{
					minute(0), minute(1), minute(2), minute(3), minute(4), minute(5), minute(6), minute(7), minute(8), minute(9),
				}, Since: minute(9)},
				Due: []Notification{again(event(Released, "d", 9))},
			},
		},
		{
			name: "the eleventh is suppressed, whichever it is",
			damping: state.Damping{Changes: []time.Time{
				minute(0), minute(1), minute(2), minute(3), minute(4), minute(5), minute(6), minute(7), minute(8), minute(9),
			}, Since: minute(9)},
			events: []Notification{event(TookOver, "d", 10)},
			at:     10,
			want: answer{
				After: state.Damping{Changes: []time.Time{
					minute(0), minute(1), minute(2), minute(3), minute(4), minute(5), minute(6), minute(7), minute(8), minute(9),
				}, Since: minute(9), Suppressed: []state.Suppressed{kept(TookOver, "d", 10)}, Next: minute(25)},
			},
		},
		{
			name: "a new kind is mailed at once meanwhile, with the rest of its run and the suppressed ones",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(AliasGone, 2), twice(NobodyTook, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(NobodyTook, "d", 3)},
			},
			events: []Notification{event(Unserved, "e", 4), event(NobodyTook, "f", 4)},
			at:     4,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 2), twice(NobodyTook, 4), sent(Unserved, 4)}, Since: minute(4)},
				Due: []Notification{
					event(Unserved, "e", 4), event(NobodyTook, "f", 4),
					{Kind: Flapping, Time: minute(4), Suppressed: []state.Suppressed{kept(NobodyTook, "d", 3)}},
				},
			},
		},
		{
			name: "an hour later one message lists the suppressed ones",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(AliasGone, 2), sent(NobodyTook, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(NobodyTook, "d", 3), kept(AliasGone, "e", 40)},
			},
			at: 62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{sent(NobodyTook, 3), sent(AliasGone, 40)}, Since: minute(62)},
				Due: []Notification{{
					Kind: Flapping, Time: minute(62),
					Suppressed: []state.Suppressed{kept(NobodyTook, "d", 3), kept(AliasGone, "e", 40)},
				}},
			},
		},
		{
			name: "a repetition is included",
			damping: state.Damping{
				Mailed: []state.MailedKind{twice(AliasGone, 30)}, Since: minute(2),
				Suppressed: []state.Suppressed{kept(AliasGone, "d", 50)},
			},
			events: []Notification{event(AliasGone, "e", 62)},
			at:     62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 62)}, Since: minute(62)},
				Due: []Notification{
					event(AliasGone, "e", 62),
					{Kind: Flapping, Time: minute(62), Suppressed: []state.Suppressed{kept(AliasGone, "d", 50)}},
				},
			},
		},
		{
			name:    "an hour without a repetition ends flap damping: the next repetition begins anew",
			damping: state.Damping{Mailed: []state.MailedKind{sent(AliasGone, 2), sent(NobodyTook, 61)}, Since: minute(2)},
			events:  []Notification{event(NobodyTook, "d", 62)},
			at:      62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{twice(NobodyTook, 62)}, Since: minute(62)},
				Due:   []Notification{again(event(NobodyTook, "d", 62))},
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
			damping: state.Damping{Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0), Again: true}}, Since: minute(1)},
			events:  []Notification{alert(Blocked, 5, 5)},
			at:      5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0), Again: true}}, Since: minute(1),
				Suppressed: []state.Suppressed{kept(Blocked, "", 5)}, Next: minute(20),
			}},
		},
		{
			name:    "a suppressed resolution names its alert, a failed hook its name",
			damping: state.Damping{Mailed: []state.MailedKind{twice(Recovered, 0), twice(HookFailed, 0)}, Since: minute(1)},
			events: []Notification{
				{Kind: Recovered, Time: minute(5), Reason: "because", Alert: state.Alert{Kind: "blocked", Since: minute(0), Mailed: minute(4)}},
				{Kind: HookFailed, Time: minute(5), Hook: "post-release", Reason: "exit code 3\n" + strings.Repeat("x", 200)},
			},
			at: 5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{twice(Recovered, 0), twice(HookFailed, 0)}, Since: minute(1),
				Suppressed: []state.Suppressed{
					{Time: minute(5), Kind: "recovered", Reason: "blocked resolved: because"},
					{Time: minute(5), Kind: "hook-failed", Reason: "post-release: exit code 3 " + strings.Repeat("x", 131) + "..."},
				}, Next: minute(20),
			}},
		},
		{
			name:    "a full message does not wait for the hour",
			damping: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 1)}, Since: minute(1), Suppressed: full},
			events:  []Notification{event(AliasGone, "d", 5)},
			at:      5,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{twice(AliasGone, 5)}, Since: minute(5)},
				Due:   []Notification{event(AliasGone, "d", 5), {Kind: Flapping, Time: minute(5), Suppressed: full}},
			},
		},
		{
			name: "a clock that was set back starts the hour anew",
			damping: state.Damping{
				Mailed: []state.MailedKind{sent(AliasGone, 900)}, Since: minute(901), Suppressed: []state.Suppressed{kept(AliasGone, "d", 902)},
			},
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{sent(AliasGone, 0)}, Since: minute(0), Next: minute(60), Suppressed: []state.Suppressed{kept(AliasGone, "d", 902)},
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

// roles is how many changes of role were mailed at once in the last hour.
func (p *queue) roles(now time.Time) int {
	return len(recent(p.damping, now).Changes)
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

// TestFlappingEveryMinuteForAnHour: ten changes of role at once, of others two of
// each kind, and one message with the rest.
func TestFlappingEveryMinuteForAnHour(t *testing.T) {
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
		want   int
		marked int
	}{
		{"takeovers and releases", [2]Kind{TookOver, Released}, [2]func(Notification) Notification{asItIs, asItIs}, 10, 1},
		{"an alert that comes and goes", [2]Kind{Blocked, Recovered}, [2]func(Notification) Notification{blocked, recovered}, 4, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p queue
			for i := range 60 {
				p.run(minute(i), tt.detail[i%2](Notification{Kind: tt.kinds[i%2], Event: fmt.Sprintf("event-%d", i), Time: minute(i)}))
			}
			if len(p.messages) != tt.want || p.marked != tt.marked {
				t.Errorf("%d messages in the hour, %d of them announce flap damping; want %d and %d", len(p.messages), p.marked, tt.want, tt.marked)
			}
			if n := len(p.damping.Suppressed); n != 60-tt.want {
				t.Errorf("%d are suppressed, want %d", n, 60-tt.want)
			}
			for i := 60; i < 200; i++ {
				p.run(minute(i))
			}
			if len(p.messages) != tt.want+1 {
				t.Errorf("%d messages after it, want 1", len(p.messages)-tt.want)
			}
			for i := range 60 {
				if n := p.mailed[fmt.Sprintf("event-%d", i)]; n != 1 {
					t.Errorf("change %d was mailed %d times", i, n)
				}
			}
			if diff := cmp.Diff(state.Damping{}, p.damping, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("what is kept long after (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATakeoverAfterAQuietHourIsMailedAtOnce(t *testing.T) {
	var p queue
	for i := range 15 {
		p.run(minute(i), Notification{Kind: TookOver, Time: minute(i)})
	}
	for i := 15; i < 75; i++ {
		p.run(minute(i))
	}
	if len(p.messages) != 11 {
		t.Fatalf("%d messages, want 11", len(p.messages))
	}
	if due := p.run(minute(75), Notification{Kind: TookOver, Time: minute(75)}); len(due) != 1 || due[0].Repeated {
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
				fresh = fresh || (!ok || now.Sub(before) >= time.Hour) && !ofRole(n.Kind) || ofRole(n.Kind) && p.roles(now) < maxChanges
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
		if most := maxChanges + 2*len(some) + 1 + len(came)/maxSuppressed + 4; p.most() > most {
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
			events = []Notification{{Kind: []Kind{AliasGone, NobodyTook}[minute%2], Event: fmt.Sprint(minute), Time: now}}
		}
		var due []Notification
		if d, due = Dampen(d, events, now); len(due) > 0 {
			messages = append(messages, time.Duration(minute)*time.Minute)
		}
	}
	want := []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 20 * time.Minute}
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
