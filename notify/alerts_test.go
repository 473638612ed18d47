package notify

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pingover/state"
)

var daily = Policy{Rise: 3, Remind: 24 * time.Hour}

func TestTrackAlerts(t *testing.T) {
	blocked := state.Alert{Kind: "blocked", Rule: 11, Since: night, Mailed: night, MessageID: "<1@standby1>"}
	unserved := state.Alert{Kind: "unserved", Rule: 7, Since: night, Mailed: night, MessageID: "<2@standby1>"}
	isolated := state.Alert{Kind: "isolated", Since: night, Mailed: night}
	notReady := state.Alert{Kind: "not-ready", Since: night, Mailed: night}
	hook := state.Alert{Kind: "hook-failed", Since: night, Mailed: night}
	mailed := func(t state.Alert, at time.Time) state.Alert {
		t.Mailed = at
		return t
	}
	const day = 24 * time.Hour

	type answer struct {
		After, Due, Ended []state.Alert
		Why               string
	}
	tests := []struct {
		name   string
		alerts []state.Alert
		check  Check
		policy Policy
		want   answer
	}{
		{name: "nothing known: nothing is mailed", want: answer{Why: `"" is no alert`}},
		{
			name:  "all is well",
			check: Check{Outcome: state.OK, Rule: 7, Streaks: state.Streaks{Good: 9}, Now: night},
			want:  answer{Why: "no alert"}, policy: daily,
		},
		{
			name:  "a new alert is mailed at once",
			check: Check{Outcome: state.Blocked, Rule: 11, Now: night}, policy: daily,
			want: answer{
				After: []state.Alert{{Kind: "blocked", Rule: 11, Since: night, Mailed: night}},
				Due:   []state.Alert{{Kind: "blocked", Rule: 11, Since: night, Mailed: night}},
				Why:   "new alert",
			},
		},
		{
			name:   "the same alert a minute later is not",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.Blocked, Rule: 11, Now: night.Add(time.Minute)}, policy: daily,
			want: answer{After: []state.Alert{blocked}, Why: "mailed 1m0s ago, again after 24h0m0s"},
		},
		{
			name:   "it is mailed again when it has lasted long",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.Blocked, Rule: 11, Now: night.Add(day)}, policy: daily,
			want: answer{
				After: []state.Alert{mailed(blocked, night.Add(day))},
				Due:   []state.Alert{mailed(blocked, night.Add(day))},
				Why:   "reminder: mailed 24h0m0s ago",
			},
		},
		{
			name:   "unless there are no reminders",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.Blocked, Rule: 11, Now: night.Add(1000 * day)}, policy: Policy{Rise: 3},
			want: answer{After: []state.Alert{blocked}, Why: "mailed before"},
		},
		{
			name:   "the same outcome for another reason is another alert",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.Blocked, Rule: 13, Now: night.Add(time.Minute)}, policy: daily,
			want: answer{
				After: []state.Alert{blocked, {Kind: "blocked", Rule: 13, Since: night.Add(time.Minute), Mailed: night.Add(time.Minute)}},
				Due:   []state.Alert{{Kind: "blocked", Rule: 13, Since: night.Add(time.Minute), Mailed: night.Add(time.Minute)}},
				Why:   "new alert",
			},
		},
		{
			name:   "one good check does not resolve it",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.OK, Rule: 7, Streaks: state.Streaks{Good: 1}, Now: night.Add(time.Minute)}, policy: daily,
			want: answer{After: []state.Alert{blocked}, Why: "still firing: good check 1 of 3"},
		},
		{
			name:   "three resolve all of them",
			alerts: []state.Alert{blocked, unserved},
			check:  Check{Outcome: state.Holding, Rule: 6, Streaks: state.Streaks{Good: 3}, Now: night.Add(time.Hour)}, policy: daily,
			want: answer{Ended: []state.Alert{blocked, unserved}, Why: "resolved: good check 3 of 3"},
		},
		{
			name:   "a takeover is no alert and resolves none",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.TookOver, Rule: 14, Streaks: state.Streaks{Good: 3}, Now: night}, policy: daily,
			want: answer{After: []state.Alert{blocked}, Why: `"took-over" is no alert`},
		},
		{
			name:  "another machine that serves is mailed when it begins",
			check: Check{Outcome: state.Elsewhere, Rule: 12, Reason: "serves", Now: night}, policy: daily,
			want: answer{
				After: []state.Alert{{Kind: "elsewhere", Rule: 12, Reason: "serves", Since: night, Mailed: night}},
				Due:   []state.Alert{{Kind: "elsewhere", Rule: 12, Reason: "serves", Since: night, Mailed: night}},
				Why:   "new alert",
			},
		},
		{
			name:   "a condition fires beside a good outcome",
			alerts: []state.Alert{blocked},
			check: Check{Outcome: state.Holding, Rule: 6, Streaks: state.Streaks{Good: 1}, Now: night, Conditions: []Condition{
				{Kind: Isolated, Firing: true, Reason: "no witness replies"},
			}}, policy: daily,
			want: answer{
				After: []state.Alert{blocked, {Kind: "isolated", Reason: "no witness replies", Since: night, Mailed: night}},
				Due:   []state.Alert{{Kind: "isolated", Reason: "no witness replies", Since: night, Mailed: night}},
				Why:   "still firing: good check 1 of 3",
			},
		},
		{
			name:   "and resolves by its own good checks, whatever the outcome",
			alerts: []state.Alert{isolated, notReady, hook},
			check: Check{Outcome: state.Holding, Rule: 6, Streaks: state.Streaks{Good: 9}, Now: night, Conditions: []Condition{
				{Kind: Isolated, Good: 2}, {Kind: NotReady, Good: 3},
			}}, policy: daily,
			want: answer{After: []state.Alert{isolated, hook}, Ended: []state.Alert{notReady}, Why: "no alert"},
		},
		{
			name:   "one that no longer matters resolves at once",
			alerts: []state.Alert{isolated, hook},
			check: Check{Outcome: state.OK, Rule: 7, Streaks: state.Streaks{Good: 1}, Now: night, Conditions: []Condition{
				{Kind: Isolated, Over: true}, {Kind: HookFailed, Over: true},
			}}, policy: daily,
			want: answer{Ended: []state.Alert{isolated, hook}, Why: "no alert"},
		},
		{
			name:  "two unknown checks are not mailed",
			check: Check{Outcome: state.Unknown, Rule: 8, Streaks: state.Streaks{Unknown: 2}, Now: night}, policy: daily,
			want: answer{Why: "unknown check 2 of 3"},
		},
		{
			name:  "the third is mailed",
			check: Check{Outcome: state.Unknown, Rule: 8, Streaks: state.Streaks{Unknown: 3}, Now: night}, policy: daily,
			want: answer{
				After: []state.Alert{{Kind: "unknown", Rule: 8, Since: night, Mailed: night}},
				Due:   []state.Alert{{Kind: "unknown", Rule: 8, Since: night, Mailed: night}},
				Why:   "new alert",
			},
		},
		{
			name:   "a clock that was set back mails nothing at once",
			alerts: []state.Alert{blocked},
			check:  Check{Outcome: state.Blocked, Rule: 11, Now: night.Add(-1000 * day)}, policy: daily,
			want: answer{
				After: []state.Alert{mailed(blocked, night.Add(-1000*day))},
				Why:   "mailed 0s ago, again after 24h0m0s",
			},
		},
		{
			name:   "and reminds after the usual time",
			alerts: []state.Alert{mailed(blocked, night.Add(-1000*day))},
			check:  Check{Outcome: state.Blocked, Rule: 11, Now: night.Add(-999 * day)}, policy: daily,
			want: answer{
				After: []state.Alert{mailed(blocked, night.Add(-999*day))},
				Due:   []state.Alert{mailed(blocked, night.Add(-999*day))},
				Why:   "reminder: mailed 24h0m0s ago",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := fmt.Sprint(tt.alerts)
			var got answer
			got.After, got.Due, got.Ended, got.Why = TrackAlerts(tt.alerts, tt.check, tt.policy)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if now := fmt.Sprint(tt.alerts); now != before {
				t.Errorf("the alerts handed in were changed from %s to %s", before, now)
			}
		})
	}
}

// story runs one check after the other.
type story struct {
	alerts  []state.Alert
	streaks state.Streaks
	policy  Policy
	mailed  map[string]int // messages by kind and rule
	ended   int
}

func (s *story) check(o state.Outcome, rule int, now time.Time) (due, ended []state.Alert) {
	count := func(n *int, on bool) {
		if *n++; !on {
			*n = 0
		}
	}
	count(&s.streaks.Good, o.Good())
	count(&s.streaks.Unknown, o == state.Unknown)
	s.alerts, due, ended, _ = TrackAlerts(s.alerts, Check{Outcome: o, Rule: rule, Streaks: s.streaks, Now: now}, s.policy)
	for _, a := range due {
		if s.mailed == nil {
			s.mailed = map[string]int{}
		}
		s.mailed[fmt.Sprint(a.Kind, a.Rule)]++
	}
	s.ended += len(ended)
	return due, ended
}

func (s *story) messages() (n int) {
	for _, of := range s.mailed {
		n += of
	}
	return n
}

func TestAFlappingPrimaryIsMailedOnceForEachAlert(t *testing.T) {
	// The outcomes of such a primary, minute by minute.
	looks := []struct {
		outcome state.Outcome
		rule    int
	}{
		{state.OK, 7}, {state.Blocked, 11}, {state.Unserved, 7}, {state.Blocked, 13}, {state.Unknown, 8}, {state.Elsewhere, 12},
	}
	rapid.Check(t, func(t *rapid.T) {
		s := story{policy: daily}
		for minute := range 60 {
			look := looks[rapid.IntRange(0, len(looks)-1).Draw(t, "look")]
			if s.streaks.Good == daily.Rise-1 || s.streaks.Unknown == unknownInARow-1 {
				look = looks[1] // it comes and goes, and does not stay
			}
			s.check(look.outcome, look.rule, night.Add(time.Duration(minute)*time.Minute))
		}
		if s.messages() > 4 { // blocked by two rules, unserved, elsewhere
			t.Errorf("%d messages in an hour: %v", s.messages(), s.mailed)
		}
	})

	s := story{policy: daily}
	for minute := range 60 {
		now := night.Add(time.Duration(minute) * time.Minute)
		if minute%2 == 0 {
			s.check(state.Blocked, 13, now)
		} else {
			s.check(state.Unserved, 7, now)
		}
	}
	if want := (map[string]int{"blocked13": 1, "unserved7": 1}); !cmp.Equal(want, s.mailed) {
		t.Errorf("messages %v, want %v", s.mailed, want)
	}
}

func TestEverySequenceOfFiveChecks(t *testing.T) {
	alphabet := []struct {
		outcome state.Outcome
		rule    int
	}{
		{state.OK, 7},
		{state.Holding, 6},
		{state.TookOver, 14},
		{state.Elsewhere, 12},
		{state.Blocked, 11},
		{state.Blocked, 13},
		{state.Unserved, 7},
		{state.Unknown, 8},
		{state.TakeoverFailed, 6},
	}
	const length = 5
	total := 1
	for range length {
		total *= len(alphabet)
	}
	for n := range total {
		s := story{policy: Policy{Rise: 2, Remind: time.Hour}}
		open := map[string]bool{} // alerts that were mailed and have not resolved
		var path []state.Outcome
		for i, left := 0, n; i < length; i, left = i+1, left/len(alphabet) {
			look := alphabet[left%len(alphabet)]
			path = append(path, look.outcome)
			due, ended := s.check(look.outcome, look.rule, night.Add(time.Duration(i)*time.Minute))

			key := fmt.Sprint(look.outcome, look.rule)
			bad := canFire(look.outcome) && (look.outcome != state.Unknown || s.streaks.Unknown >= 3)
			if want := bad && !open[key]; (due != nil) != want {
				t.Fatalf("%v: the last was mailed: %v, want %v", path, due != nil, want)
			}
			if due != nil {
				open[key] = true
			}
			if want := s.streaks.Good >= 2; (len(ended) > 0) != (want && len(open) > 0) || want && len(ended) != len(open) {
				t.Fatalf("%v: %d alerts resolved, %d were firing", path, len(ended), len(open))
			}
			if len(ended) > 0 {
				clear(open)
			}
			if len(s.alerts) != len(open) {
				t.Fatalf("%v: %d alerts, want %d", path, len(s.alerts), len(open))
			}
		}
	}
}

func TestAClockThatIsSetCausesNoStormAndNoSilence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := story{policy: Policy{Rise: 3, Remind: time.Hour}}
		now, forward := night, time.Duration(0)
		checks := rapid.IntRange(1, 300).Draw(t, "checks")
		for range checks {
			step := time.Minute
			if rapid.IntRange(0, 9).Draw(t, "set") == 0 {
				step = time.Duration(rapid.IntRange(-100, 30).Draw(t, "by")) * time.Minute
			}
			now = now.Add(step)
			forward += max(step, 0)
			s.check(state.Down, 9, now)
		}
		if most := 1 + int(forward/time.Hour); s.messages() > most {
			t.Fatalf("%d messages while the clock went forward by %v", s.messages(), forward)
		}

		// From now on the clock is right: within one Remind a message is sent.
		before := s.messages()
		for range 61 {
			now = now.Add(time.Minute)
			s.check(state.Down, 9, now)
		}
		if s.messages() == before {
			t.Fatal("silence after the clock was set")
		}
	})
}
