package arbiter

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"pingover/state"
)

// etcd is a Store in memory, and the clock of one machine.
type etcd struct {
	value    Value
	revision int64 // of the key; 0: there is none
	changes  int64 // of all keys
	now      time.Duration
	slow     time.Duration // a swap takes so long
	lost     int           // so many answers of swaps are lost
	down     bool
	disagree bool
	few      bool   // half of the members or fewer answer
	unknown  string // of an entry
	id       string // of the cluster; "": 1
	writes   string // id of the cluster that the changes go to; "": the same
	swaps    int
	renewals int
	reads    int
}

func (e *etcd) Read(context.Context, string) (Entry, error) {
	e.reads++
	if e.down {
		return Entry{}, &Error{Kind: Silent, Text: "no answer within 1.5s"}
	}
	return Entry{Value: e.value, Unknown: e.unknown, Absent: e.revision == 0, Revision: e.revision, ClusterID: cmp.Or(e.id, "1")}, nil
}

func (e *etcd) Swap(_ context.Context, _ string, at int64, v Value) (bool, Entry, error) {
	e.swaps++
	return e.change(at == e.revision, v)
}

func (e *etcd) Renew(_ context.Context, _ string, at int64, v Value) (bool, Entry, error) {
	e.renewals++
	return e.change(at == e.revision && v == e.value, v)
}

func (e *etcd) change(fits bool, v Value) (bool, Entry, error) {
	e.now += e.slow
	if e.down {
		return false, Entry{}, &Error{Kind: Silent, Text: "no answer within 1.5s"}
	}
	if !fits {
		return false, Entry{}, nil
	}
	e.put(v)
	if e.lost > 0 {
		e.lost--
		return false, Entry{}, &Error{Kind: Silent, Text: "no answer within 1.5s"}
	}
	return true, Entry{Value: v, Revision: e.revision, ClusterID: cmp.Or(e.writes, e.id, "1")}, nil
}

func (e *etcd) put(v Value) {
	e.changes++
	e.value, e.revision = v, e.changes
}

func (e *etcd) delete() { e.value, e.revision = Value{}, 0 }

func (e *etcd) Agree(context.Context, string) error {
	if e.few {
		return &Error{Kind: TooFew, Text: "1 of 3 members answer"}
	}
	if e.disagree {
		return &Error{Kind: Different, Text: "belongs to another cluster of etcd than the other members"}
	}
	return nil
}

// run is the session of one run on a machine with that stack, after what it knew.
func (e *etcd) run(stack string, known *state.Key) *Session {
	clock := func() time.Duration { return e.now }
	s := NewSession(Env{Store: e, Stack: func() (string, error) { return stack, nil }, Boot: clock, Monotonic: clock}, "web", "host-"+stack, 3*time.Minute)
	s.Begin(known, false)
	return s
}

var other = Value{Holder: "two", Stack: "two", TTL: 3 * time.Minute}

func TestAStandbyWaitsUntilTheKeyWasUnchangedForItsTTL(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	e.put(other)
	var known *state.Key
	after := func(d time.Duration) (freeIn time.Duration) {
		e.now += d
		s := e.run("one", known)
		s.Read(t.Context())
		known = s.Key()
		return s.Status().FreeIn
	}
	steps := []struct {
		what   string
		do     func()
		after  time.Duration
		freeIn time.Duration
	}{
		{"it is seen for the first time", func() {}, 0, 3 * time.Minute},
		{"it is unchanged", func() {}, time.Minute, 2 * time.Minute},
		{"it was renewed", func() { e.put(other) }, time.Minute, 3 * time.Minute},
		{"its ttl is another", func() { e.put(Value{Holder: "two", Stack: "two", TTL: time.Minute}) }, time.Minute, time.Minute},
		{"a backup was restored: the revision is lower", func() { e.revision = 1 }, time.Minute, time.Minute},
		{"a moment is missing", func() {}, time.Minute - 1, 1},
		{"it is free", func() {}, 1, 0},
		{"this machine has booted", func() { known.Stack = "before" }, 0, time.Minute},
		{"its clock makes no sense", func() { known.Seen, known.Asked = e.now+time.Hour, 0 }, 0, time.Minute},
	}
	for _, step := range steps {
		step.do()
		if got := after(step.after); got != step.freeIn {
			t.Errorf("%s: free in %s, want %s", step.what, got, step.freeIn)
		}
	}
}

func TestAnAbsentKeyIsNotFree(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	s := e.run("one", nil)
	if refusal := s.Acquire(t.Context()); refusal != "the arbiter has no key yet, or it was deleted: free in 3m" {
		t.Error(refusal)
	}
	if e.value != (Value{Holder: "nobody", Stack: "absent", TTL: 3 * time.Minute}) {
		t.Errorf("in its place is %+v", e.value)
	}
	// It is there for a moment and deleted again, and nobody could see that.
	e.now += 2 * time.Minute
	e.delete()
	s = e.run("one", s.Key())
	s.Read(t.Context())
	if got := s.Status(); got.State != state.ArbiterAbsent || got.FreeIn != 3*time.Minute {
		t.Errorf("%+v", got)
	}
	e.now += 3 * time.Minute
	if refusal := s.Acquire(t.Context()); refusal != "" || e.value.Stack != "one" {
		t.Errorf("%q, %+v", refusal, e.value)
	}
	// A machine that holds by it takes a key that was deleted at once.
	e.delete()
	if got := s.Renew(t.Context()); got != state.ArbiterOurs || e.value.Stack != "one" {
		t.Errorf("%s, %+v", got, e.value)
	}
}

func TestAnAbsentKeyThatCannotBeReplacedNeverBecomesFree(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	var known *state.Key
	for range 5 {
		s := e.run("one", known)
		s.readOnly = true
		s.Read(t.Context())
		if got := s.Status(); got.FreeIn != 3*time.Minute || e.swaps > 0 {
			t.Errorf("%+v after %d changes", got, e.swaps)
		}
		known, e.now = s.Key(), e.now+3*time.Minute
	}
}

func TestAHoldIsCountedFromBeforeTheRequest(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour, slow: 1400 * time.Millisecond}
	e.put(Value{})
	s := e.run("one", nil)
	if refusal := s.Acquire(t.Context()); refusal != "" {
		t.Fatal(refusal)
	}
	// 3m less 2s and 2 %, and what the request has taken, in whole seconds.
	if got := s.Lifetime(); got != 173*time.Second {
		t.Errorf("lifetime %s", got)
	}
	if s.Outlives(173*time.Second) || !s.Outlives(174*time.Second) {
		t.Error("the end is not that of the hold")
	}
	for _, step := range []struct {
		after time.Duration
		due   bool
		left  time.Duration
		owns  bool
	}{
		{43 * time.Second, false, 130 * time.Second, true},
		{time.Second, true, 129 * time.Second, true},
		{126500 * time.Millisecond, true, 2 * time.Second, true},
		{time.Second, true, 0, true}, // less than 2 s are not set
		{2 * time.Second, true, 0, false},
	} {
		e.now += step.after
		if s.Due(4) != step.due || s.Lifetime() != step.left || s.Owns() != step.owns {
			t.Errorf("after %s more: due %t, %s left, owns %t", step.after, s.Due(4), s.Lifetime(), s.Owns())
		}
	}
}

func TestALostAnswerIsSettledByReading(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour, lost: 1}
	e.put(Value{})
	s := e.run("one", nil)
	if refusal := s.Acquire(t.Context()); refusal != "" || e.value.Stack != "one" || e.swaps != 2 {
		t.Errorf("%q, %+v, %d changes", refusal, e.value, e.swaps)
	}
	e.lost = 3
	if got := s.Renew(t.Context()); got != state.ArbiterSilent || s.Status().Until.IsZero() {
		t.Errorf("%s, %+v", got, s.Status())
	}
	// The next run finds that the key is ours.
	if got := e.run("one", s.Key()).Renew(t.Context()); got != state.ArbiterOurs {
		t.Error(got)
	}
}

// One request renews a key that is still as this machine wrote it; any other is read.
func TestAKnownKeyIsRenewedByOneRequest(t *testing.T) {
	t.Parallel()
	type requests struct{ renewals, reads, swaps int }
	for _, test := range []struct {
		name    string
		arrange func(*etcd)
		want    requests
		state   state.ArbiterState
		holder  string
	}{
		{"unchanged", func(*etcd) {}, requests{1, 0, 0}, state.ArbiterOurs, "one"},
		{"the answer of a renewal was lost", func(e *etcd) { e.put(e.value) }, requests{1, 1, 1}, state.ArbiterOurs, "one"},
		{"the answer is lost now", func(e *etcd) { e.lost = 1 }, requests{1, 1, 1}, state.ArbiterOurs, "one"},
		{"it is deleted", func(e *etcd) { e.delete() }, requests{1, 1, 2}, state.ArbiterOurs, "one"},
		{"it is free", func(e *etcd) { e.put(Value{}) }, requests{1, 1, 1}, state.ArbiterOurs, "one"},
		{"another's", func(e *etcd) { e.put(other) }, requests{1, 1, 0}, state.ArbiterOther, "two"},
		{"a backup was restored, and the revision is another's", func(e *etcd) { e.value = other }, requests{1, 1, 0}, state.ArbiterOther, "two"},
		{"no answer, at once", func(e *etcd) { e.down = true }, requests{1, 1, 0}, state.ArbiterSilent, "one"},
		{"no answer for long", func(e *etcd) { e.down, e.slow = true, RequestTimeout }, requests{1, 0, 0}, state.ArbiterSilent, "one"},
	} {
		e := &etcd{now: time.Hour}
		e.put(Value{})
		s := e.run("one", nil)
		s.Renew(t.Context())
		end := s.Key().End
		e.now += time.Minute
		s = e.run("one", s.Key())
		e.renewals, e.reads, e.swaps = 0, 0, 0
		test.arrange(e)
		got := s.Renew(t.Context())
		if asked := (requests{e.renewals, e.reads, e.swaps}); asked != test.want || got != test.state || e.value.Stack != test.holder {
			t.Errorf("%s: %+v, %s, %+v; want %+v, %s", test.name, asked, got, e.value, test.want, test.state)
		}
		want := map[state.ArbiterState]time.Duration{state.ArbiterOurs: end + time.Minute, state.ArbiterSilent: end}[test.state]
		if k := s.Key(); k.End != want || test.state == state.ArbiterOurs && k.Revision != e.revision {
			t.Errorf("%s: %+v, want the end %s", test.name, k, want)
		}
	}
}

// A renewal that came too late is made once more, and then holds nothing.
func TestARenewalThatComesTooLate(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	e.put(Value{})
	s := e.run("one", nil)
	s.Renew(t.Context())
	e.swaps, e.slow = 0, 3*time.Minute
	if got := s.Renew(t.Context()); got != state.ArbiterSilent || s.Key().Fault != "the arbiter took too long to answer" || e.renewals != 1 || e.swaps != 2 || s.Lifetime() != 0 {
		t.Errorf("%s, %+v after %d renewals and %d changes", got, s.Key(), e.renewals, e.swaps)
	}
}

// A holder whose members belong to two clusters would hold by one key, and another
// machine by the other.
func TestAKeyOfAnotherClusterOfEtcd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		arrange func(*etcd)
		want    string // the fault
	}{
		{"etcd was started anew, empty", func(e *etcd) { e.id = "2"; e.delete() }, ""},
		{"its members do not agree", func(e *etcd) { e.id, e.disagree = "2", true; e.delete() }, "belongs to another cluster of etcd than the other members"},
		{"the key of both is alike", func(e *etcd) { e.id, e.disagree = "2", true }, "belongs to another cluster of etcd than the other members"},
		{"another member answers the change than the read", func(e *etcd) { e.writes = "2" }, "belongs to another cluster of etcd than the one that was asked before"},
	} {
		e := &etcd{now: time.Hour}
		e.put(Value{})
		s := e.run("one", nil)
		s.Renew(t.Context())
		end := s.Key().End
		test.arrange(e)
		for range 2 {
			e.now += time.Minute
			s = e.run("one", s.Key())
			got := s.Renew(t.Context())
			if k := s.Key(); k.Fault != test.want || got == state.ArbiterOurs != (test.want == "") || k.End > end != (test.want == "") {
				t.Errorf("%s: %s, %+v", test.name, got, k)
			}
		}
	}
	e := &etcd{now: time.Hour, writes: "2"}
	e.put(Value{})
	if refusal := e.run("one", nil).Acquire(t.Context()); refusal != "the arbiter does not answer: belongs to another cluster of etcd than the one that was asked before" {
		t.Error(refusal)
	}
}

// A virtual machine that is set back to an earlier moment has the clock of then; its
// disk may be of now.
func TestAHoldOfTheFutureIsNone(t *testing.T) {
	t.Parallel()
	e := &etcd{now: 2 * time.Hour}
	e.put(Value{})
	s := e.run("one", nil)
	s.Renew(t.Context())
	e.now = time.Hour
	s = e.run("one", s.Key())
	if s.Read(t.Context()); s.Lifetime() != 0 || !s.Due(4) {
		t.Errorf("lifetime %s, due %t", s.Lifetime(), s.Due(4))
	}
	if refusal := s.Acquire(t.Context()); refusal != "" || s.Lifetime() != 174*time.Second {
		t.Errorf("%q, lifetime %s", refusal, s.Lifetime())
	}
}

// In place of an absent key another machine may have written a shorter ttl than that
// of the last holder, or none.
func TestAPlaceholderKeepsOutForTheLongestTTL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ttl     time.Duration
		unknown string
		want    time.Duration
	}{{6 * time.Second, "", 3 * time.Minute}, {time.Hour, "", time.Hour}, {0, "its value lacks the stack or the ttl of its holder", 3 * time.Minute}} {
		e := &etcd{now: time.Hour, unknown: test.unknown}
		e.put(Value{Holder: "nobody", Stack: placeholder, TTL: test.ttl})
		s := e.run("one", nil)
		if s.Read(t.Context()); s.Status().FreeIn != test.want {
			t.Errorf("%s: %+v", test.ttl, s.Status())
		}
	}
}

// Until an address has the lifetime of the new ttl, the key keeps others out for the
// former one.
func TestATTLThatWasDecreased(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	e.put(Value{})
	s := e.run("one", nil)
	s.Renew(t.Context())
	for _, want := range []time.Duration{3 * time.Minute, time.Minute} {
		e.now += 30 * time.Second
		s = e.run("one", s.Key())
		s.ttl = time.Minute
		if got := s.Renew(t.Context()); got != state.ArbiterOurs || e.value.TTL != want || s.Lifetime() != 56*time.Second {
			t.Errorf("%s, %+v, lifetime %s; want %s", got, e.value, s.Lifetime(), want)
		}
	}
}

func TestWhatAnAddressMayHave(t *testing.T) {
	t.Parallel()
	const limit = 174 * time.Second
	for _, test := range []struct {
		name     string
		arrange  func(*etcd, *Session)
		shown    time.Duration
		lifetime time.Duration
		keep     bool
	}{
		{"ours", func(_ *etcd, s *Session) { s.Renew(t.Context()) }, time.Second, limit, false},
		{"ours, and too late: it lives on", func(e *etcd, s *Session) { e.slow = 3 * time.Minute; s.Renew(t.Context()) }, time.Second, time.Second, true},
		{"ours, too late, and no end", func(e *etcd, s *Session) { e.slow = 3 * time.Minute; s.Renew(t.Context()) }, 0, 0, false},
		{"no answer: it lives on", func(e *etcd, s *Session) { e.down = true; s.Renew(t.Context()) }, 99 * time.Second, 99 * time.Second, true},
		{"no answer, and no end", func(e *etcd, s *Session) { e.down = true; s.Renew(t.Context()) }, 0, limit, false},
		{"no answer, and a lease of a day", func(e *etcd, s *Session) { e.down = true; s.Renew(t.Context()) }, 24 * time.Hour, limit, false},
		{"no answer, no end, and the hold has one", func(e *etcd, s *Session) {
			s.Renew(t.Context())
			e.now, e.down = e.now+time.Minute, true
			s.Renew(t.Context())
		}, 0, limit - time.Minute, false},
		{"another's", func(e *etcd, s *Session) { e.put(other); s.Renew(t.Context()) }, 99 * time.Second, 0, false},
	} {
		e := &etcd{now: time.Hour}
		e.put(Value{})
		s := e.run("one", nil)
		test.arrange(e, s)
		if lifetime, keep := s.Allow(test.shown); lifetime != test.lifetime || keep != test.keep {
			t.Errorf("%s: %s, keep %t, want %s, %t", test.name, lifetime, keep, test.lifetime, test.keep)
		}
	}
}

func TestTheKeyIsFreedByItsHolderOnly(t *testing.T) {
	t.Parallel()
	e := &etcd{now: time.Hour}
	e.put(Value{})
	s := e.run("one", nil)
	if s.Holds() {
		t.Error("holds before it has asked")
	}
	s.Renew(t.Context())
	if err := s.Free(t.Context()); err != nil || e.value.Holder != "" || s.Holds() || s.Status().State != state.ArbiterFree {
		t.Errorf("%v, %+v, %+v", err, e.value, s.Status())
	}
	s.Renew(t.Context())
	e.put(other)
	if err := s.Free(t.Context()); err != nil || e.value != other || s.Holds() {
		t.Errorf("%v, %+v", err, e.value)
	}
}

func TestWhyATakeoverIsRefused(t *testing.T) {
	t.Parallel()
	for want, arrange := range map[string]func(*etcd){
		"two holds the arbiter's key, unchanged for 0s; free in 3m":                              func(e *etcd) { e.put(other) },
		"the arbiter does not answer: no answer within 1.5s":                                     func(e *etcd) { e.down = true },
		"the arbiter does not answer: belongs to another cluster of etcd than the other members": func(e *etcd) { e.disagree = true },
		"the arbiter took too long to answer":                                                    func(e *etcd) { e.slow = time.Hour },
	} {
		e := &etcd{now: time.Hour}
		e.put(Value{})
		arrange(e)
		if got := e.run("one", nil).Acquire(t.Context()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	e := &etcd{now: time.Hour}
	clock := func() time.Duration { return e.now }
	s := NewSession(Env{Store: e, Boot: clock, Monotonic: clock, Stack: func() (string, error) { return "", errors.New("no /proc") }}, "web", "one", 3*time.Minute)
	s.Begin(nil, false)
	if got := s.Acquire(t.Context()); got != "the arbiter does not answer: this machine does not know itself: no /proc" {
		t.Error(got)
	}
}

func TestWithoutAnArbiterASessionDoesNothing(t *testing.T) {
	t.Parallel()
	s := NewSession(Env{}, "web", "one", 0)
	s.Begin(nil, false)
	s.Read(t.Context())
	if s != nil || s.Key() != nil || s.Status().State != state.ArbiterNotAsked || s.Acquire(t.Context()) != "" || s.Due(4) || s.Owns() || s.Holds() || s.Lost() || s.Ready(t.Context()) != nil {
		t.Errorf("%+v", s)
	}
}

// Two machines that each reach one member, of two clusters of etcd, would both hold.
func TestAFewMembersAreTrustedWhoseClusterIsKnown(t *testing.T) {
	t.Parallel()
	const few = "the arbiter does not answer: 1 of 3 members answer"
	e := &etcd{now: time.Hour, few: true}
	e.put(Value{TTL: 3 * time.Minute})
	s := e.run("one", nil)
	if got := s.Acquire(t.Context()); got != few {
		t.Errorf("never seen together: %q", got)
	}
	if err := s.Ready(t.Context()); err == nil || err.Error() != "1 of 3 members answer" {
		t.Errorf("a rehearsal: %v", err)
	}
	e.few = false
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	e.few = true
	e.id = "2"
	s = e.run("rebooted", s.Key())
	if got := s.Acquire(t.Context()); got != few {
		t.Errorf("another cluster of etcd than the one that was known: %q", got)
	}
	e.id = "1"
	if got := s.Acquire(t.Context()); got != "" {
		t.Errorf("the one that is known: %q", got)
	}
	for _, after := range []string{"taken", "freed"} {
		if got := s.Key().Agreed; got != "1" {
			t.Errorf("%s: the cluster is forgotten: %q", after, got)
		}
		if err := s.Free(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
