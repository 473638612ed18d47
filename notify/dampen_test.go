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

func TestDamp(t *testing.T) {
	news := func(kind Kind, event string, at int) Notification {
		return Notification{Kind: kind, Event: event, Time: minute(at), Reason: "because"}
	}
	again := func(n Notification) Notification { n.Repeated = true; return n }
	noted := func(kind Kind, event string, at int) state.Suppressed {
		return state.Suppressed{Time: minute(at), Kind: string(kind), Event: event, Reason: "because"}
	}
	told := func(kind Kind, at int) state.MailedKind {
		return state.MailedKind{Kind: string(kind), Time: minute(at)}
	}
	trouble := func(kind Kind, since, mailed int) Notification {
		n := news(kind, "", mailed)
		n.Alert = state.Alert{Kind: string(kind), Rule: 13, Since: minute(since), Mailed: minute(mailed)}
		return n
	}
	full := make([]state.Suppressed, maxGathered)
	for i := range full {
		full[i] = noted(TookOver, fmt.Sprint(i), 1)
	}

	type answer struct {
		After state.Damping
		Tell  []Notification
	}
	tests := []struct {
		name    string
		damping state.Damping
		news    []Notification
		at      int
		want    answer
	}{
		{name: "nothing new: nothing is mailed, nothing is remembered"},
		{
			name: "the first goes at once",
			news: []Notification{news(TookOver, "a", 0)},
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 0)}},
				Tell:  []Notification{news(TookOver, "a", 0)},
			},
		},
		{
			name:    "another kind is no repetition",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 0)}},
			news:    []Notification{news(Released, "b", 1)},
			at:      1,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 0), told(Released, 1)}},
				Tell:  []Notification{news(Released, "b", 1)},
			},
		},
		{
			name:    "the first repetition within the hour goes at once, and says that the next will not",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 0), told(Released, 1)}},
			news:    []Notification{news(TookOver, "c", 59)},
			at:      59,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 59), told(Released, 1)}, Since: minute(59)},
				Tell:  []Notification{again(news(TookOver, "c", 59))},
			},
		},
		{
			name:    "after an hour it is none",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 0)}},
			news:    []Notification{news(TookOver, "c", 60)},
			at:      60,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 60)}},
				Tell:  []Notification{news(TookOver, "c", 60)},
			},
		},
		{
			name:    "the second is gathered, of whatever kind",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 1)}, Since: minute(2)},
			news:    []Notification{news(Released, "d", 3)},
			at:      3,
			want: answer{
				After: state.Damping{
					Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 1)}, Since: minute(2),
					Suppressed: []state.Suppressed{noted(Released, "d", 3)},
				},
			},
		},
		{
			name: "what is new goes at once meanwhile, and takes along the rest of its run and what was gathered",
			damping: state.Damping{
				Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{noted(Released, "d", 3)},
			},
			news: []Notification{news(TakeoverFailed, "e", 4), news(Released, "f", 4)},
			at:   4,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 4), told(TakeoverFailed, 4)}, Since: minute(4)},
				Tell: []Notification{
					news(TakeoverFailed, "e", 4), news(Released, "f", 4),
					{Kind: Flapping, Time: minute(4), Suppressed: []state.Suppressed{noted(Released, "d", 3)}},
				},
			},
		},
		{
			name: "an hour later one letter tells what was gathered",
			damping: state.Damping{
				Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 1)}, Since: minute(2),
				Suppressed: []state.Suppressed{noted(Released, "d", 3), noted(TookOver, "e", 40)},
			},
			at: 62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(Released, 3), told(TookOver, 40)}, Since: minute(62)},
				Tell: []Notification{{
					Kind: Flapping, Time: minute(62),
					Suppressed: []state.Suppressed{noted(Released, "d", 3), noted(TookOver, "e", 40)},
				}},
			},
		},
		{
			name: "a repetition goes with it",
			damping: state.Damping{
				Mailed: []state.MailedKind{told(TookOver, 30)}, Since: minute(2),
				Suppressed: []state.Suppressed{noted(TookOver, "d", 50)},
			},
			news: []Notification{news(TookOver, "e", 62)},
			at:   62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 62)}, Since: minute(62)},
				Tell: []Notification{
					news(TookOver, "e", 62),
					{Kind: Flapping, Time: minute(62), Suppressed: []state.Suppressed{noted(TookOver, "d", 50)}},
				},
			},
		},
		{
			name:    "an hour that gathered nothing ends it: the next repetition begins anew",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 2), told(Released, 61)}, Since: minute(2)},
			news:    []Notification{news(Released, "d", 62)},
			at:      62,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(Released, 62)}, Since: minute(62)},
				Tell:  []Notification{again(news(Released, "d", 62))},
			},
		},
		{
			name:    "a reminder is no repetition",
			damping: state.Damping{Mailed: []state.MailedKind{told(Blocked, 0)}, Since: minute(1)},
			news:    []Notification{trouble(Blocked, 0, 5)},
			at:      5,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(Blocked, 0)}, Since: minute(1)},
				Tell:  []Notification{trouble(Blocked, 0, 5)},
			},
		},
		{
			name:    "a trouble that comes again is one",
			damping: state.Damping{Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0)}}, Since: minute(1)},
			news:    []Notification{trouble(Blocked, 5, 5)},
			at:      5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{{Kind: "blocked by rule 13", Time: minute(0)}}, Since: minute(1), Suppressed: []state.Suppressed{noted(Blocked, "", 5)},
			}},
		},
		{
			name:    "so is its end, which says what has ended, and a hook, which says which",
			damping: state.Damping{Mailed: []state.MailedKind{told(Recovered, 0), told(HookFailed, 0)}, Since: minute(1)},
			news: []Notification{
				{Kind: Recovered, Time: minute(5), Reason: "because", Alert: state.Alert{Kind: "blocked", Since: minute(0), Mailed: minute(4)}},
				{Kind: HookFailed, Time: minute(5), Hook: "post-release", Reason: "exit code 3\n" + strings.Repeat("x", 200)},
			},
			at: 5,
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{told(Recovered, 0), told(HookFailed, 0)}, Since: minute(1),
				Suppressed: []state.Suppressed{
					{Time: minute(5), Kind: "recovered", Reason: "blocked is over: because"},
					{Time: minute(5), Kind: "hook-failed", Reason: "post-release: exit code 3 " + strings.Repeat("x", 131) + "..."},
				},
			}},
		},
		{
			name:    "a full letter does not wait for the hour",
			damping: state.Damping{Mailed: []state.MailedKind{told(TookOver, 1)}, Since: minute(1), Suppressed: full},
			news:    []Notification{news(TookOver, "d", 5)},
			at:      5,
			want: answer{
				After: state.Damping{Mailed: []state.MailedKind{told(TookOver, 5)}, Since: minute(5)},
				Tell:  []Notification{news(TookOver, "d", 5), {Kind: Flapping, Time: minute(5), Suppressed: full}},
			},
		},
		{
			name: "a clock that was set back starts the hour anew",
			damping: state.Damping{
				Mailed: []state.MailedKind{told(TookOver, 900)}, Since: minute(901), Suppressed: []state.Suppressed{noted(TookOver, "d", 902)},
			},
			want: answer{After: state.Damping{
				Mailed: []state.MailedKind{told(TookOver, 0)}, Since: minute(0), Suppressed: []state.Suppressed{noted(TookOver, "d", 902)},
			}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.damping, tt.news)
			var got answer
			got.After, got.Tell = Dampen(tt.damping, tt.news, minute(tt.at))
			if len(got.After.Mailed) == 0 {
				got.After.Mailed = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if now := fmt.Sprint(tt.damping, tt.news); now != before {
				t.Errorf("what was handed in was changed from %s to %s", before, now)
			}
		})
	}
}

// post is the operator's mailbox.
type post struct {
	damping state.Damping
	letters []time.Time
	told    map[string]int // how often each event was
	marked  int            // letters that say that it goes to and fro
}

// run is one run of the program.
func (p *post) run(now time.Time, news ...Notification) (tell []Notification) {
	p.damping, tell = Dampen(p.damping, news, now)
	if len(tell) == 0 {
		return nil
	}
	if p.told == nil {
		p.told = map[string]int{}
	}
	p.letters = append(p.letters, now)
	body := Compose(web(), tell, "id", "").Body
	for word := range strings.FieldsSeq(body) {
		if strings.HasPrefix(word, "event-") {
			p.told[word]++
		}
	}
	if slices.ContainsFunc(tell, func(n Notification) bool { return n.Repeated }) {
		p.marked++
	}
	return tell
}

// most is the largest number of letters in any hour.
func (p *post) most() (most int) {
	for i, begin := range p.letters {
		n := 0
		for _, l := range p.letters[i:] {
			if l.Sub(begin) < time.Hour {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

func TestWhatTogglesEveryMinuteForAnHourMakesThreeLetters(t *testing.T) {
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
		{"a trouble that comes and goes", [2]Kind{Blocked, Recovered}, [2]func(Notification) Notification{blocked, recovered}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p post
			for i := range 60 {
				p.run(minute(i), tt.detail[i%2](Notification{Kind: tt.kinds[i%2], Event: fmt.Sprintf("event-%d", i), Time: minute(i)}))
			}
			if len(p.letters) != 3 || p.marked != 1 {
				t.Errorf("%d letters in the hour, %d of them say that it goes to and fro; want 3 and 1", len(p.letters), p.marked)
			}
			for i := 60; i < 200; i++ {
				p.run(minute(i))
			}
			if len(p.letters) != 4 {
				t.Errorf("%d letters after it, want 1", len(p.letters)-3)
			}
			for i := range 60 {
				if n := p.told[fmt.Sprintf("event-%d", i)]; n != 1 {
					t.Errorf("change %d was told %d times", i, n)
				}
			}
			if diff := cmp.Diff(state.Damping{Mailed: []state.MailedKind{}}, p.damping); diff != "" {
				t.Errorf("what is remembered long after (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATakeoverAfterAQuietHourIsMailedAtOnce(t *testing.T) {
	var p post
	for i := range 10 {
		p.run(minute(i), Notification{Kind: TookOver, Time: minute(i)})
	}
	for i := 10; i < 70; i++ {
		p.run(minute(i))
	}
	if len(p.letters) != 3 {
		t.Fatalf("%d letters, want 3", len(p.letters))
	}
	if tell := p.run(minute(70), Notification{Kind: TookOver, Time: minute(70)}); len(tell) != 1 || tell[0].Repeated {
		t.Errorf("it told %v", tell)
	}
}

func TestDampTellsEverythingOnceAndSeldom(t *testing.T) {
	kinds := []Kind{TookOver, Released, TakeoverFailed, Blocked, Recovered, AliasGone}
	rapid.Check(t, func(t *rapid.T) {
		var p post
		some := kinds[:rapid.IntRange(1, len(kinds)).Draw(t, "kinds")]
		last := map[Kind]time.Time{} // when it was last in a letter
		came := map[string]bool{}
		now := night
		runs := rapid.IntRange(1, 250).Draw(t, "runs")
		for run := range runs {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{1, 30, 60, 60, 60, 600}).Draw(t, "seconds")) * time.Second)
			var news []Notification
			fresh := false
			for i := range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "news") {
				n := Notification{Kind: rapid.SampledFrom(some).Draw(t, "kind"), Event: fmt.Sprintf("event-%d-%d", run, i), Time: now}
				news = append(news, n)
				came[n.Event] = true
				before, ok := last[n.Kind]
				fresh = fresh || !ok || now.Sub(before) >= time.Hour
			}
			tell := p.run(now, news...)
			if fresh && len(tell) == 0 {
				t.Fatalf("run %d: something new was held back: %v", run, news)
			}
			for _, n := range tell {
				last[n.Kind] = now
				for _, g := range n.Suppressed {
					last[Kind(g.Kind)] = now
				}
			}
			if len(p.damping.Suppressed) > maxGathered || len(p.damping.Mailed) > len(kinds) {
				t.Fatalf("run %d: %d gathered, %d told", run, len(p.damping.Suppressed), len(p.damping.Mailed))
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
			if n := p.told[event] + waiting[event]; n != 1 {
				t.Errorf("%s was told %d times and waits %d times", event, p.told[event], waiting[event])
			}
		}
		// A burst of more than a letter holds makes one more, and so does each
		// quarter of an hour of calm.
		if most := len(some) + 1 + len(came)/maxGathered + 4; p.most() > most {
			t.Errorf("%d letters in an hour for %d kinds of news, want at most %d: %v", p.most(), len(some), most, p.letters)
		}
	})
}

// TestCalmEndsTheGathering: who serves in the end is told soon.
func TestCalmEndsTheGathering(t *testing.T) {
	t.Parallel()
	var d state.Damping
	var letters []time.Duration
	for minute := range 60 {
		now := night.Add(time.Duration(minute) * time.Minute)
		var news []Notification
		if minute < 6 {
			news = []Notification{{Kind: []Kind{TookOver, Released}[minute%2], Event: fmt.Sprint(minute), Time: now}}
		}
		var tell []Notification
		if d, tell = Dampen(d, news, now); len(tell) > 0 {
			letters = append(letters, time.Duration(minute)*time.Minute)
		}
	}
	want := []time.Duration{0, time.Minute, 2 * time.Minute, 20 * time.Minute}
	if diff := cmp.Diff(want, letters); diff != "" {
		t.Errorf("letters (-want +got):\n%s", diff)
	}
}

// TestEachRuleThatRefusesIsTold: that fencing failed is another thing than that
// there was no witness.
func TestEachRuleThatRefusesIsTold(t *testing.T) {
	t.Parallel()
	var d state.Damping
	for i, rule := range []int{10, 11, 13, 14} {
		now := night.Add(time.Duration(i) * time.Minute)
		var tell []Notification
		trouble := state.Alert{Kind: string(Blocked), Rule: rule, Since: now, Mailed: now}
		if d, tell = Dampen(d, []Notification{{Kind: Blocked, Time: now, Alert: trouble}}, now); len(tell) != 1 || tell[0].Repeated {
			t.Errorf("rule %d: told %v", rule, tell)
		}
	}
}

func TestDampingSurvivesAClockThatIsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p post
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
		// From now on it runs as it should: within the hour all is told.
		for range 60 {
			now = now.Add(time.Minute)
			p.run(now)
		}
		if len(p.damping.Suppressed) > 0 {
			t.Fatalf("silence after the clock was set: %v", p.damping)
		}
		for run := range runs {
			if n := p.told[fmt.Sprintf("event-%d", run)]; n != 1 {
				t.Fatalf("change %d was told %d times", run, n)
			}
		}
		if tell := p.run(now.Add(time.Hour), Notification{Kind: TookOver, Time: now}); len(tell) == 0 {
			t.Fatal("a takeover after a quiet hour was held back")
		}
	})
}
