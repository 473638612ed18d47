package state

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pingover/check"
)

const (
	thisBoot = "11111111-1111-1111-1111-111111111111"
	lastBoot = "00000000-0000-0000-0000-000000000000"
)

var (
	one, two = netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("2001:db8::1")
	before   = now.Add(-time.Hour)
	newEvent = regexp.MustCompile(`^20260301T030405Z-[A-Z2-7]{8}$`)
)

// recordOf is a record that was written an hour ago, in this boot.
func recordOf(role Role, vips ...Alias) *Record {
	r := smallRecord()
	r.Role, r.Since, r.Event, r.BootID, r.VIPs = role, before, "before", thisBoot, vips
	return r
}

// with is r with a change made to it.
func with(r *Record, change func(*Record)) *Record {
	change(r)
	return r
}

func raised(a netip.Addr) Alias {
	return Alias{Prefix: netip.PrefixFrom(a, a.BitLen()), Interface: "eth0", Label: "eth0:1", Raised: true}
}

func lowered(a netip.Addr) Alias {
	return Alias{Prefix: netip.PrefixFrom(a, a.BitLen()), Interface: "eth0"}
}

// intent is a change that was about to be made an hour ago.
func intent() Change {
	return Change{Event: "intent", Time: before, Reason: "172.16.0.2 does not reply", Evidence: Evidence{Address: "172.16.0.2"}}
}

// hookAfter is the hook that is pending after a change.
func hookAfter(hook string, c Change) *PendingHook {
	return &PendingHook{Hook: hook, Event: c.Event, Time: c.Time, Reason: c.Reason}
}

// entries are changes as the history has them.
func entries(changes ...Change) []Entry {
	h := Head{Recent: []Entry{}}
	for _, c := range changes {
		h.Add(Entry{Change: c})
	}
	return h.Recent
}

// wantFollowed compares records. An event that was made up in the test is
// called "new" in want, and each change of it has been counted.
func wantFollowed(t *testing.T, want, got *Record) {
	t.Helper()
	if n := len(want.Recent); n > 0 {
		want = with(new(*want), func(r *Record) { r.Counts = map[Outcome]int{r.Recent[0].Outcome: n} })
	}
	name := func(event *string) {
		if newEvent.MatchString(*event) {
			*event = "new"
		}
	}
	name(&got.Event)
	for i := range got.Recent {
		e := &got.Recent[i]
		name(&e.Event)
		e.ID = ""
		e.identify()
	}
	if diff := same(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestNewEvent(t *testing.T) {
	t.Parallel()
	at := now.In(time.FixedZone("", -5*60*60))
	a, b := NewEvent(at), NewEvent(at)
	if !newEvent.MatchString(a) || !newEvent.MatchString(b) || a == b {
		t.Errorf("events %q and %q, want two of %s", a, b, newEvent)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	released := func(event, reason string) Change {
		return Change{Event: event, Time: now, Outcome: Released, Reason: reason}
	}
	const notByUs = " is no longer on this machine, and pingover did not remove it"
	finished := intent()
	finished.Time, finished.Outcome = now, Released
	finished.Reason += "; an interrupted release is finished"
	open := intent()

	for _, test := range []struct {
		name string
		rec  *Record
		held []netip.Addr
		want Drift
		then *Record
	}{
		{
			name: "the first run of all", rec: freshRecord(),
			then: with(freshRecord(), func(r *Record) { r.BootID = thisBoot }),
		},
		{
			name: "standing by", rec: recordOf(Standby, lowered(one)),
			then: recordOf(Standby, lowered(one)),
		},
		{
			name: "standing by, and somebody else brought an address up here", rec: recordOf(Standby, lowered(one)), held: []netip.Addr{one},
			then: recordOf(Standby, lowered(one)),
		},
		{
			name: "active, and all is here", rec: recordOf(Active, raised(one), raised(two)), held: []netip.Addr{one, two},
			then: recordOf(Active, raised(one), raised(two)),
		},
		{
			name: "active, and not all was ever raised", rec: recordOf(Active, raised(one), lowered(two)), held: []netip.Addr{one},
			then: recordOf(Active, raised(one), lowered(two)),
		},

		{
			name: "rebooted while standing by",
			rec:  with(recordOf(Standby, lowered(one)), func(r *Record) { r.BootID = lastBoot }),
			then: with(recordOf(Standby, lowered(one)), func(r *Record) { r.Event = "" }),
		},
		{
			name: "rebooted while active: nothing is raised from memory",
			rec:  with(recordOf(Active, raised(one), raised(two)), func(r *Record) { r.BootID = lastBoot }),
			want: AliasGone,
			then: with(recordOf(Standby, lowered(one), lowered(two)), func(r *Record) {
				r.Since, r.Event = now, "new"
				r.Recent = entries(released("new", "this machine has rebooted: what was taken over is gone"))
			}),
		},
		{
			name: "rebooted while active, and the address is here again",
			rec:  with(recordOf(Active, raised(one)), func(r *Record) { r.BootID = lastBoot }), held: []netip.Addr{one},
			then: recordOf(Active, raised(one)),
		},
		{
			name: "rebooted while active, and one of the addresses is here again",
			rec:  with(recordOf(Active, raised(one), raised(two)), func(r *Record) { r.BootID = lastBoot }), held: []netip.Addr{two},
			then: recordOf(Active, lowered(one), raised(two)),
		},
		{
			name: "rebooted in the middle of a takeover",
			rec:  with(recordOf(Taking, lowered(one)), func(r *Record) { r.BootID, r.Pending = lastBoot, &open }),
			then: with(recordOf(Standby, lowered(one)), func(r *Record) { r.Since, r.Event = now, "" }),
		},
		{
			name: "rebooted in the middle of a release: that has finished it",
			rec:  with(recordOf(Releasing, raised(one)), func(r *Record) { r.BootID, r.Pending = lastBoot, &open }),
			want: ReleaseFinished,
			then: with(recordOf(Standby, lowered(one)), func(r *Record) {
				r.Since, r.Event, r.Recent, r.PendingHook = now, "intent", entries(finished), hookAfter(PostRelease, finished)
			}),
		},

		{
			name: "active, and the address is gone", rec: recordOf(Active, raised(one)),
			want: AliasGone,
			then: with(recordOf(Standby, lowered(one)), func(r *Record) {
				r.Since, r.Event, r.Recent = now, "new", entries(released("new", "172.16.0.1"+notByUs))
			}),
		},
		{
			name: "active, and all addresses are gone", rec: recordOf(Active, raised(one), raised(two)),
			want: AliasGone,
			then: with(recordOf(Standby, lowered(one), lowered(two)), func(r *Record) {
				r.Since, r.Event, r.Recent = now, "new", entries(released("new", "172.16.0.1, 2001:db8::1"+notByUs))
			}),
		},
		{
			name: "active, and one of the addresses is gone: the rest stays", rec: recordOf(Active, raised(one), raised(two)), held: []netip.Addr{one},
			want: AliasGone,
			then: with(recordOf(Active, raised(one), lowered(two)), func(r *Record) {
				r.Recent = entries(released("new", "2001:db8::1"+notByUs))
			}),
		},
		{
			name: "active, the settings changed, and nothing is here", rec: recordOf(Active, lowered(two)),
			want: AliasGone,
			then: with(recordOf(Standby, lowered(two)), func(r *Record) {
				r.Since, r.Event, r.Recent = now, "new", entries(released("new", "what was taken over"+notByUs))
			}),
		},
		{
			name: "standing by with an old mark", rec: recordOf(Standby, raised(one)),
			then: recordOf(Standby, lowered(one)),
		},

		{
			name: "killed after the last address was lowered",
			rec:  with(recordOf(Releasing, raised(one)), func(r *Record) { r.Pending = &open }),
			want: ReleaseFinished,
			then: with(recordOf(Standby, lowered(one)), func(r *Record) {
				r.Since, r.Event, r.Recent, r.PendingHook = now, "intent", entries(finished), hookAfter(PostRelease, finished)
			}),
		},
		{
			name: "the same, and what was pending is lost", rec: recordOf(Releasing, raised(one)),
			want: ReleaseFinished,
			then: with(recordOf(Standby, lowered(one)), func(r *Record) {
				r.Since, r.Recent = now, entries(released("before", "an interrupted release is finished"))
				r.PendingHook = hookAfter(PostRelease, r.Recent[0].Change)
			}),
		},
		{
			name: "killed before the last address was lowered: the release goes on",
			rec:  with(recordOf(Releasing, raised(one), raised(two)), func(r *Record) { r.Pending = &open }), held: []netip.Addr{two},
			then: with(recordOf(Releasing, lowered(one), raised(two)), func(r *Record) { r.Pending = &open }),
		},
		{
			name: "killed before anything was raised: it is decided anew, under the same intent",
			rec:  with(recordOf(Taking, lowered(one)), func(r *Record) { r.Pending = &open }),
			then: with(recordOf(Taking, lowered(one)), func(r *Record) { r.Pending = &open }),
		},
		{
			name: "killed after something was raised: the takeover goes on",
			rec:  with(recordOf(Taking, lowered(one), lowered(two)), func(r *Record) { r.Pending = &open }), held: []netip.Addr{one},
			then: with(recordOf(Taking, lowered(one), lowered(two)), func(r *Record) { r.Pending = &open }),
		},
		{
			name: "a second takeover, and what was raised before is gone",
			rec:  with(recordOf(Taking, raised(one), lowered(two)), func(r *Record) { r.Pending = &open }),
			then: with(recordOf(Taking, lowered(one), lowered(two)), func(r *Record) { r.Pending = &open }),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, change := test.rec.Settle(test.held, thisBoot, now)
			if got != test.want {
				t.Errorf("surprise %d, want %d", got, test.want)
			}
			wantFollowed(t, test.then, test.rec)
			var last *Change
			if n := len(test.then.Recent); n > 0 {
				last = &test.then.Recent[n-1].Change
			}
			if diff := same(last, change); diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}

			// What was settled is: the next run finds nothing to say.
			got, change = test.rec.Settle(test.held, thisBoot, now.Add(time.Minute))
			if got != NoDrift || change != nil {
				t.Errorf("the second time: surprise %d, change %v", got, change)
			}
			wantFollowed(t, test.then, test.rec)
		})
	}
}

func TestIntend(t *testing.T) {
	t.Parallel()
	was, is := intent(), intent()
	is.Event, is.Reason = "next", "172.16.0.2 still does not answer"
	for _, test := range []struct {
		name string
		rec  *Record
		role Role
		then *Record
	}{
		{
			name: "a takeover", rec: recordOf(Standby), role: Taking,
			then: with(recordOf(Taking), func(r *Record) { r.Before, r.Event, r.Pending = Standby, "next", &is }),
		},
		{
			name: "a release", rec: recordOf(Active), role: Releasing,
			then: with(recordOf(Releasing), func(r *Record) { r.Before, r.Event, r.Pending = Active, "next", &is }),
		},
		{
			name: "an intent that is open keeps its change",
			rec:  with(recordOf(Taking), func(r *Record) { r.Event, r.Pending = "intent", &was }), role: Taking,
			then: with(recordOf(Taking), func(r *Record) { r.Event, r.Pending = "intent", &was }),
		},
		{
			name: "an open intent whose change is lost gets a new one", rec: recordOf(Taking), role: Taking,
			then: with(recordOf(Taking), func(r *Record) { r.Event, r.Pending = "next", &is }),
		},
		{
			name: "the opposite of the one that is open",
			rec:  with(recordOf(Taking), func(r *Record) { r.Event, r.Pending = "intent", &was }), role: Releasing,
			then: with(recordOf(Releasing), func(r *Record) { r.Event, r.Pending = "next", &is }),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				test.rec.Intend(test.role, is)
				wantFollowed(t, test.then, test.rec)
			}
		})
	}
}

func TestIntentIsACopy(t *testing.T) {
	t.Parallel()
	r, change := recordOf(Standby), intent()
	r.Intend(Taking, change)
	change.Reason = "what came of it"
	if got := r.Pending.Reason; got != intent().Reason {
		t.Errorf("the intent has become %q", got)
	}
}

func TestSwitched(t *testing.T) {
	t.Parallel()
	came := intent()
	came.Time, came.Outcome = now, TookOver
	for _, test := range []struct {
		name  string
		from  Role
		to    Role
		since time.Time
	}{
		{"taken over", Taking, Active, now},
		{"a takeover that failed", Taking, Standby, now},
		{"given up", Releasing, Standby, now},
		{"more was raised", Active, Active, before},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			was := intent()
			r := with(recordOf(test.from, raised(one)), func(r *Record) { r.Pending = &was })
			got := r.Switched(test.to, came)
			wantFollowed(t, with(recordOf(test.to, raised(one)), func(r *Record) {
				r.Since, r.Event, r.Recent = test.since, "intent", entries(came)
				if test.to == Active {
					r.PendingHook = hookAfter(PostTakeover, came)
				}
			}), r)
			if diff := same(&came, got); diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhatAChangeLeavesBehind: marks for what was done manually, and the hook
// that follows.
func TestWhatAChangeLeavesBehind(t *testing.T) {
	t.Parallel()
	type marks struct {
		ReleasedByHand, TakenByHand, NobodyTook bool
		Hook                                    string
	}
	for _, test := range []struct {
		name    string
		before  marks
		from    Role
		to      Role
		outcome Outcome
		byHand  bool
		want    marks
	}{
		{"taken over", marks{ReleasedByHand: true}, Standby, Active, TookOver, false, marks{Hook: PostTakeover}},
		{"taken over manually", marks{}, Standby, Active, TookOver, true, marks{TakenByHand: true, Hook: PostTakeover}},
		{"more was raised of what was taken manually", marks{TakenByHand: true}, Active, Active, Holding, false, marks{TakenByHand: true, Hook: PostTakeover}},
		{"released", marks{TakenByHand: true, NobodyTook: true}, Active, Standby, Released, false, marks{Hook: PostRelease}},
		{"released manually", marks{NobodyTook: true}, Active, Standby, Released, true, marks{ReleasedByHand: true, Hook: PostRelease}},
		{"nothing could be raised", marks{ReleasedByHand: true}, Standby, Standby, TakeoverFailed, false, marks{ReleasedByHand: true}},
		{"something could be raised", marks{}, Standby, Active, TakeoverFailed, false, marks{Hook: PostTakeover}},
		{"the rest can still not be raised: its hook has run", marks{}, Active, Active, TakeoverFailed, false, marks{}},
		{"taken, and given up again", marks{}, Standby, Standby, Blocked, false, marks{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := recordOf(test.from)
			r.ManualRelease, r.ManualTakeover, r.NobodyTook = test.before.ReleasedByHand, test.before.TakenByHand, test.before.NobodyTook
			r.Intend(Taking, intent())
			r.Switched(test.to, Change{Event: "e", Time: now, Outcome: test.outcome, Manual: test.byHand})
			got := marks{r.ManualRelease, r.ManualTakeover, r.NobodyTook, ""}
			if r.PendingHook != nil {
				got.Hook = r.PendingHook.Hook
			}
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestWithdrawLeavesNothingOfAnIntent(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{Standby, Active} {
		want := recordOf(role, raised(one))
		got := recordOf(role, raised(one))
		got.Intend(Taking, intent())
		got.Withdraw(now)
		want.Event = got.Event
		wantFollowed(t, want, got)
	}
}

func TestALeaseThatRanOutIsCalledThat(t *testing.T) {
	t.Parallel()
	leased := raised(one)
	leased.Until = now.Add(-time.Minute)
	r := recordOf(Active, leased)
	surprise, change := r.Settle(nil, thisBoot, now)
	const want = "the lease of 172.16.0.1 ran out at 2026-03-01T03:03:05Z, because no check had renewed it"
	if surprise != AliasGone || change.Reason != want {
		t.Errorf("surprise %d, %q; want %d, %q", surprise, change.Reason, AliasGone, want)
	}
	if r.VIPs[0] != lowered(one) {
		t.Errorf("the alias is %+v", r.VIPs[0])
	}
}

func TestAHandOverIsNotFinishedByThatNothingIsHere(t *testing.T) {
	t.Parallel()
	open := intent()
	r := with(recordOf(Releasing, raised(one)), func(r *Record) { r.Pending, r.Offered = &open, []netip.Addr{one} })
	if surprise, change := r.Settle(nil, thisBoot, now); surprise != NoDrift || change != nil || r.Role != Releasing || len(r.Offered) == 0 {
		t.Errorf("surprise %d, change %v, record %+v", surprise, change, r)
	}
	if surprise, _ := r.Settle(nil, lastBoot, now); surprise != ReleaseFinished || r.Role != Standby || len(r.Offered) > 0 {
		t.Errorf("after a reboot: surprise %d, role %s, offered %v", surprise, r.Role, r.Offered)
	}
}

func TestStay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		role    Role
		holding bool
		primary []check.Verdict
		want    Role
	}{
		{"standing by", Standby, false, []check.Verdict{check.Up, check.Down, check.Unknown}, Standby},
		{"the record was lost: who holds while the primary is down is active", Standby, true, []check.Verdict{check.Down}, Active},
		{"an address strayed here, or nobody knows", Standby, true, []check.Verdict{check.Up, check.Unknown}, Standby},
		{"a takeover came to nothing", Taking, false, []check.Verdict{check.Up, check.Down, check.Unknown}, Standby},
		{"a takeover was half made", Taking, true, []check.Verdict{check.Up, check.Down, check.Unknown}, Active},
		{"active", Active, true, []check.Verdict{check.Up, check.Down, check.Unknown}, Active},
		{"active, and nothing is here", Active, false, []check.Verdict{check.Up, check.Down, check.Unknown}, Standby},
		{"a release has left nothing", Releasing, false, []check.Verdict{check.Up, check.Down, check.Unknown}, Standby},
	} {
		for _, primary := range test.primary {
			t.Run(fmt.Sprintf("%s, primary %s", test.name, primary), func(t *testing.T) {
				t.Parallel()
				r, open := recordOf(test.role, raised(one)), intent()
				if test.role == Taking || test.role == Releasing {
					r.Pending = &open
				}
				since := before
				if test.want != test.role {
					since = now
				}
				for _, at := range []time.Time{now, now.Add(time.Minute)} {
					r.KeepRole(test.holding, primary, at)
					wantFollowed(t, with(recordOf(test.want, raised(one)), func(r *Record) { r.Since = since }), r)
				}
			})
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	type step struct {
		name     string
		after    time.Duration // since the first check
		outcome  Outcome
		rule     int
		primary  check.Verdict
		unserved bool

		changed bool
		streaks Streaks
		gap     Milliseconds
	}
	for name, steps := range map[string][]step{
		"a healthy pair": {
			{"the first check that is ok changes nothing", 0, OK, 7, check.Up, false, false, Streaks{Good: 1, Up: 1}, 0},
			{"again", time.Minute, OK, 7, check.Up, false, false, Streaks{Good: 2, Up: 2}, 60000},
			{"late", 150 * time.Second, OK, 7, check.Up, false, false, Streaks{Good: 3, Up: 3}, 90000},
		},
		"nobody serves": {
			{"the first time", 0, OK, 7, check.Up, true, false, Streaks{Good: 1, Up: 1, Unserved: 1}, 0},
			{"again", time.Second, OK, 7, check.Up, true, false, Streaks{Good: 2, Up: 2, Unserved: 2}, 1000},
			{"it is said", 2 * time.Second, Unserved, 7, check.Up, true, true, Streaks{Up: 3, Unserved: 3}, 1000},
			{"it is not said twice", 3 * time.Second, Unserved, 7, check.Up, true, false, Streaks{Up: 4, Unserved: 4}, 1000},
			{"somebody does", 4 * time.Second, OK, 7, check.Up, false, true, Streaks{Good: 1, Up: 5}, 1000},
		},
		"a failover": {
			{"the first check that is not ok is a change", 0, Unknown, 8, check.Unknown, false, true, Streaks{Unknown: 1}, 0},
			{"still unknown", time.Second, Unknown, 8, check.Unknown, false, false, Streaks{Unknown: 2}, 1000},
			{"blocked", 2 * time.Second, Blocked, 11, check.Down, false, true, Streaks{}, 1000},
			{"blocked for another reason", 3 * time.Second, Blocked, 13, check.Down, false, true, Streaks{}, 1000},
			{"blocked for the same", 4 * time.Second, Blocked, 13, check.Down, false, false, Streaks{}, 1000},
			{"it fails", 5 * time.Second, TakeoverFailed, 14, check.Down, false, true, Streaks{}, 1000},
			{"it is not said twice that it fails", 6 * time.Second, TakeoverFailed, 14, check.Down, false, false, Streaks{}, 1000},
			{"taken over", 7 * time.Second, TookOver, 14, check.Down, false, true, Streaks{}, 1000},
			{"holding is what follows", 8 * time.Second, Holding, 6, check.Down, false, false, Streaks{Good: 1}, 1000},
			{"paused meanwhile", 9 * time.Second, Holding, 2, check.Down, false, false, Streaks{Good: 2}, 1000},
			{"holding while the primary is back", 10 * time.Second, Holding, 6, check.Up, false, false, Streaks{Good: 3, Up: 1}, 1000},
			{"released", 11 * time.Second, Released, 3, check.Up, false, true, Streaks{Up: 2}, 1000},
			{"ok is what follows", 12 * time.Second, OK, 7, check.Up, false, false, Streaks{Good: 1, Up: 3}, 1000},
		},
		"a failover that does not last": {
			{"taken over before anything was known", 0, TookOver, 14, check.Down, false, true, Streaks{}, 0},
			{"given up by a killed run", time.Second, OK, 7, check.Up, false, true, Streaks{Good: 1, Up: 1}, 1000},
			{"released", 2 * time.Second, Released, 1, check.Up, false, true, Streaks{Up: 2}, 1000},
			{"held again, by somebody else's hand", 3 * time.Second, Holding, 6, check.Up, false, true, Streaks{Good: 1, Up: 3}, 1000},
		},
		"the clock steps back": {
			{"the first check", time.Hour, OK, 7, check.Up, false, false, Streaks{Good: 1, Up: 1}, 0},
			{"an hour before it", 0, OK, 7, check.Up, false, false, Streaks{Good: 2, Up: 2}, 0},
			{"a minute later", time.Minute, OK, 7, check.Up, false, false, Streaks{Good: 3, Up: 3}, 60000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := smallRecord()
			var seen time.Time
			for _, s := range steps {
				c := Check{Time: now.Add(s.after), Outcome: s.outcome, Code: s.outcome.Code(), Rule: s.rule, Reason: s.name}
				if got := r.Count(c, Signs{Primary: s.primary, Unserved: s.unserved}); got != s.changed {
					t.Errorf("%s: changed %t, want %t", s.name, got, s.changed)
				}
				want := with(smallRecord(), func(r *Record) { r.Last, r.Gap, r.Streaks = &c, s.gap, s.streaks })
				want.Days = r.Days // has a test of its own
				if s.primary == check.Up {
					seen = c.Time
				}
				want.SeenUp = seen
				if diff := same(want, r); diff != "" {
					t.Errorf("%s: record (-want +got):\n%s", s.name, diff)
				}
			}
		})
	}
}

func TestStreaksAdvanceAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	r := smallRecord()
	count := func(after time.Duration, primary check.Verdict) {
		c := Check{Time: now.Add(after).Truncate(time.Second), Outcome: Holding, Rule: 6, Primary: primary.String()}
		r.Count(c, Signs{Primary: primary, Holding: true, Isolated: true, Silent: true, Rehearsed: true, NotReady: true})
	}
	for range 5 {
		count(0, check.Up)
	}
	want := Streaks{Good: 1, Up: 1, Silent: 1, Isolated: 1, NotReady: 1}
	if diff := cmp.Diff(want, r.Streaks); diff != "" {
		t.Errorf("five checks in one second (-want +got):\n%s", diff)
	}
	if got := r.StreaksBefore(now.Add(500 * time.Millisecond)); got.Up != 0 || got.Silent != 0 {
		t.Errorf("a further check in that second goes on from %+v", got)
	}
	if got := r.StreaksBefore(now.Add(time.Second)); got.Up != 1 || got.Silent != 1 {
		t.Errorf("a check in the next second goes on from %+v", got)
	}
	count(time.Second, check.Up)
	count(time.Second, check.Down) // what ends a streak counts at once
	if r.Streaks.Up != 0 || r.Streaks.Silent != 2 {
		t.Errorf("after a check in the next second, and one that ends a streak: %+v", r.Streaks)
	}
}

func TestNeverUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Record)
		want   bool
	}{
		"a new record": {func(*Record) {}, true},
		"checked, and down each time": {func(r *Record) {
			r.Count(Check{Time: now, Outcome: Blocked, Primary: "down"}, Signs{Primary: check.Down})
		}, true},
		"replied once":                            {func(r *Record) { r.Count(Check{Time: now, Outcome: OK, Primary: "up"}, Signs{Primary: check.Up}) }, false},
		"first edition: its MAC was learned":      {func(r *Record) { r.Neighbour = "02:00:00:00:00:02" }, false},
		"first edition: it replied at the last":   {func(r *Record) { r.Last = &Check{Time: now, Outcome: OK, Primary: "up"} }, false},
		"first edition: it replied earlier today": {func(r *Record) { r.Days = []Day{{Date: "2026-03-01", Checks: 2, Up: 1}} }, false},
		"first edition: it did not reply all day": {func(r *Record) { r.Days = []Day{{Date: "2026-03-01", Checks: 2, Down: 2}} }, true},
	} {
		r := smallRecord()
		c.change(r)
		if got := r.NeverUp(); got != c.want {
			t.Errorf("%s: never up %t, want %t", name, got, c.want)
		}
	}
}

func TestReleaseByHandRestsUntilThePrimaryWasUp(t *testing.T) {
	t.Parallel()
	r := with(smallRecord(), func(r *Record) { r.ManualRelease = true })
	for _, test := range []struct {
		primary check.Verdict
		want    bool
	}{{check.Down, true}, {check.Unknown, true}, {check.Up, false}, {check.Down, false}} {
		r.Count(Check{Time: now, Outcome: Blocked}, Signs{Primary: test.primary})
		if r.ManualRelease != test.want {
			t.Errorf("primary %s: released manually %t, want %t", test.primary, r.ManualRelease, test.want)
		}
	}
}

func TestMarksThatRestUntilThePrimaryWasDown(t *testing.T) {
	t.Parallel()
	r := with(smallRecord(), func(r *Record) { r.ManualTakeover, r.NobodyTook = true, true })
	for _, test := range []struct {
		primary check.Verdict
		want    bool
	}{{check.Up, true}, {check.Unknown, true}, {check.Down, false}, {check.Up, false}} {
		r.Count(Check{Time: now, Outcome: Holding}, Signs{Primary: test.primary})
		if r.ManualTakeover != test.want || r.NobodyTook != test.want {
			t.Errorf("primary %s: taken manually %t, nobody took %t, want %t", test.primary, r.ManualTakeover, r.NobodyTook, test.want)
		}
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	change := func(event string, o Outcome, reason string) Change {
		return Change{Event: event, Time: now, Outcome: o, Reason: reason}
	}
	for _, test := range []struct {
		name    string
		changes []Change
		want    []string // their events
	}{
		{"changes", []Change{change("1", TookOver, "a"), change("2", Released, "b")}, []string{"1", "2"}},
		{"the same switch twice is two changes", []Change{change("1", TookOver, "a"), change("2", TookOver, "a")}, []string{"1", "2"}},
		{"a takeover that fails again as before", []Change{change("1", TakeoverFailed, "a"), change("2", TakeoverFailed, "a")}, []string{"1"}},
		{"a release that fails again as before", []Change{change("1", ReleaseFailed, "a"), change("2", ReleaseFailed, "a")}, []string{"1"}},
		{"one that fails for another reason", []Change{change("1", TakeoverFailed, "a"), change("2", TakeoverFailed, "b")}, []string{"1", "2"}},
		{"another failure", []Change{change("1", TakeoverFailed, "a"), change("2", ReleaseFailed, "a")}, []string{"1", "2"}},
		{
			"one that fails as before, after something else",
			[]Change{change("1", TakeoverFailed, "a"), change("2", TookOver, "b"), change("3", TakeoverFailed, "a")},
			[]string{"1", "2", "3"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := smallRecord()
			var last *Change
			for _, c := range test.changes {
				last = r.AddChange(c)
			}
			if diff := cmp.Diff(test.want, events(r.Recent)); diff != "" {
				t.Errorf("history (-want +got):\n%s", diff)
			}
			if want := test.want[len(test.want)-1]; last.Event != want {
				t.Errorf("it is remembered as %q, want %q", last.Event, want)
			}
			counted := 0
			for _, n := range r.Counts {
				counted += n
			}
			if counted != len(test.want) {
				t.Errorf("%d changes are counted: %v", counted, r.Counts)
			}
		})
	}
}

func events(changes []Entry) []string {
	var e []string
	for _, c := range changes {
		e = append(e, c.Event)
	}
	return e
}

func TestHistoryKeepsTheNewest(t *testing.T) {
	t.Parallel()
	// A list that was read from a file has room behind it.
	r := with(smallRecord(), func(r *Record) { r.Recent = make([]Entry, 0, 4*MaxRecent) })
	var want []string
	var returned []*Change
	for i := range 3 * MaxRecent {
		returned = append(returned, r.AddChange(Change{Event: fmt.Sprint(i), Outcome: TookOver}))
		want = append(want, fmt.Sprint(i))
		if diff := cmp.Diff(want[max(0, len(want)-MaxRecent):], events(r.Recent)); diff != "" {
			t.Fatalf("history after %d changes (-want +got):\n%s", i+1, diff)
		}
	}
	if diff := cmp.Diff(map[Outcome]int{TookOver: 3 * MaxRecent}, r.Counts); diff != "" {
		t.Errorf("counts of what the history has no room for (-want +got):\n%s", diff)
	}
	// A run may remember two: what it has in hand of the first must not
	// become the second.
	for i, c := range returned {
		if c.Event != want[i] {
			t.Fatalf("change %s has become %s", want[i], c.Event)
		}
	}

	r.Recent = slices.Repeat(entries(Change{Event: "old"}), 5*MaxRecent)
	r.AddChange(Change{Event: "new"})
	if n := len(r.Recent); n != MaxRecent || r.Recent[n-1].Event != "new" {
		t.Errorf("of a history that is too long %d are kept, the last %q", n, r.Recent[n-1].Event)
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		rec  *Record
		want bool
	}{
		{"standing by", recordOf(Standby), true},
		{"standing by with a history", with(recordOf(Standby), func(r *Record) { r.Recent = entries(intent()) }), true},
		{"taking over", recordOf(Taking), false},
		{"active", recordOf(Active), false},
		{"releasing", recordOf(Releasing), false},
		{"mail waits", with(recordOf(Standby), func(r *Record) { r.Outbox = make([]Message, 1) }), false},
		{"released manually", with(recordOf(Standby), func(r *Record) { r.ManualRelease = true }), false},
	} {
		if got := test.rec.Quiet(); got != test.want {
			t.Errorf("%s: quiet %t, want %t", test.name, got, test.want)
		}
	}
}

func TestGateways(t *testing.T) {
	t.Parallel()
	r := smallRecord()
	v4, next, v6 := netip.MustParseAddr("172.16.0.254"), netip.MustParseAddr("172.16.0.253"), netip.MustParseAddr("fe80::1%eth0")
	want := func(when, link string, is6 bool, want netip.Addr) {
		t.Helper()
		if got := r.Gateway(link, is6); got != want {
			t.Errorf("%s: the gateway of %s (IPv6 %t) is %s, want %s", when, link, is6, got, want)
		}
	}
	want("none known", "eth0", false, netip.Addr{})
	r.SetGateway("eth0", v4)
	r.SetGateway("eth0", v4)
	want("one known", "eth0", false, v4)
	want("one known", "eth0", true, netip.Addr{})
	want("one known", "eth1", false, netip.Addr{})
	r.SetGateway("eth0", v6)
	r.SetGateway("eth1", v4)
	r.SetGateway("eth0", next)
	want("several known", "eth0", false, next)
	want("several known", "eth0", true, v6)
	want("several known", "eth1", false, v4)
	if diff := same([]Gateway{{"eth0", v6}, {"eth1", v4}, {"eth0", next}}, r.Gateways); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
}

// TestWhateverHappens follows a record through runs that see anything, are
// killed anywhere and boot at any time.
func TestWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		vips := []netip.Addr{one, two}
		r, at, boot := smallRecord(), now, thisBoot
		r.VIPs = []Alias{lowered(one), lowered(two)}

		outcomes := rapid.SampledFrom([]Outcome{
			OK, Holding, TookOver, Released, Elsewhere, Down, Unserved, Unknown, Blocked, TakeoverFailed, ReleaseFailed,
		})
		verdicts := rapid.SampledFrom([]check.Verdict{check.Unknown, check.Down, check.Up})
		held := func(t *rapid.T) []netip.Addr {
			return slices.DeleteFunc(slices.Clone(vips), func(netip.Addr) bool { return rapid.Bool().Draw(t, "not held") })
		}
		change := func(t *rapid.T) Change {
			return Change{
				Event: NewEvent(at), Time: at, Outcome: outcomes.Draw(t, "outcome"),
				Reason: rapid.OneOf(rapid.Just("as before"), rapid.String()).Draw(t, "reason"),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes, or steps back": func(t *rapid.T) {
				at = at.Add(time.Duration(rapid.IntRange(-3600, 7200).Draw(t, "seconds")) * time.Second)
			},
			"boot":   func(t *rapid.T) { boot = rapid.SampledFrom([]string{thisBoot, lastBoot}).Draw(t, "boot") },
			"reload": func(t *rapid.T) { r = reread(t, r) },
			"settle": func(t *rapid.T) {
				h, known := held(t), len(r.Recent)
				surprise, change := r.Settle(h, boot, at)
				if (surprise == NoDrift) != (change == nil) {
					t.Fatalf("surprise %d with change %v", surprise, change)
				}
				if surprise == NoDrift && len(r.Recent) != known {
					t.Fatal("the history grew for no surprise")
				}
				if len(h) == 0 && (r.Role == Active || r.Role == Releasing) {
					t.Fatalf("nothing is here, and the role is %s", r.Role)
				}
				for _, a := range r.VIPs {
					if a.Raised && !slices.Contains(h, a.Prefix.Addr()) {
						t.Fatalf("%s is not here, and is called raised", a.Prefix)
					}
				}
				if surprise, _ := r.Settle(h, boot, at); surprise != NoDrift {
					t.Fatalf("surprise %d a second time", surprise)
				}
			},
			"intend":   func(t *rapid.T) { r.Intend(rapid.SampledFrom([]Role{Taking, Releasing}).Draw(t, "role"), change(t)) },
			"remember": func(t *rapid.T) { r.AddChange(change(t)) },
			"switched": func(t *rapid.T) {
				r.Switched(rapid.SampledFrom([]Role{Standby, Active}).Draw(t, "role"), change(t))
				for i := range r.VIPs {
					r.VIPs[i].Raised = rapid.Bool().Draw(t, "raised")
				}
			},
			"stay": func(t *rapid.T) {
				r.KeepRole(rapid.Bool().Draw(t, "holding"), verdicts.Draw(t, "primary"), at)
				if r.Pending != nil {
					t.Fatal("the intent is still open")
				}
			},
			"count": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "a second later") {
					at = at.Add(time.Second)
				}
				counts := 1
				if r.Last != nil && r.Last.Time.Equal(at) {
					counts = 0
				}
				was, primary, unserved := r.Streaks, verdicts.Draw(t, "primary"), rapid.Bool().Draw(t, "unserved")
				c := Check{Time: at, Outcome: outcomes.Draw(t, "outcome"), Rule: rapid.IntRange(1, 14).Draw(t, "rule")}
				r.Count(c, Signs{Primary: primary, Unserved: unserved})
				for _, s := range []struct {
					goesOn  bool
					was, is int
				}{
					{c.Outcome == OK || c.Outcome == Holding, was.Good, r.Streaks.Good},
					{primary == check.Up, was.Up, r.Streaks.Up},
					{c.Outcome == Unknown, was.Unknown, r.Streaks.Unknown},
					{unserved, was.Unserved, r.Streaks.Unserved},
				} {
					if s.goesOn && s.is != s.was+counts || !s.goesOn && s.is != 0 {
						t.Fatalf("a streak of %d became %d, goes on: %t", s.was, s.is, s.goesOn)
					}
				}
			},
			"gateway": func(t *rapid.T) {
				link := rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, "link")
				a := netip.MustParseAddr(rapid.SampledFrom([]string{"172.16.0.254", "172.16.0.253", "fe80::1%eth0"}).Draw(t, "address"))
				r.SetGateway(link, a)
				if got := r.Gateway(link, a.Is6()); got != a {
					t.Fatalf("the gateway of %s is %s, want %s", link, got, a)
				}
			},
			"": func(t *rapid.T) {
				if diff := same(r, reread(t, r)); diff != "" {
					t.Fatalf("it is not read as it was written (-written +read):\n%s", diff)
				}
				if len(r.Recent) > MaxRecent {
					t.Fatalf("the history has %d changes", len(r.Recent))
				}
				if r.Pending != nil && r.Role != Taking && r.Role != Releasing {
					t.Fatalf("an intent is open, and the role is %s", r.Role)
				}
				if len(r.Gateways) > 4 {
					t.Fatalf("two interfaces have %d gateways", len(r.Gateways))
				}
			},
		})
	})
}

func reread(t interface{ Fatal(args ...any) }, r *Record) *Record {
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// TestACheckGoesOnFromWhatWasDoneByHand since the last one: that is no news.
func TestACheckGoesOnFromWhatWasDoneByHand(t *testing.T) {
	now := time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name    string
		done    Change
		next    Outcome
		changed bool
	}{
		{"taken over", Change{Time: now.Add(20 * time.Second), Manual: true, Outcome: TookOver}, Holding, false},
		{"released", Change{Time: now.Add(20 * time.Second), Manual: true, Outcome: Released}, OK, false},
		{"by a check", Change{Time: now.Add(20 * time.Second), Outcome: TookOver}, Holding, true},
		{"before that check", Change{Time: now.Add(-time.Minute), Manual: true, Outcome: TookOver}, Holding, true},
	} {
		r := &Record{Head: Head{Last: &Check{Time: now, Outcome: Elsewhere}, Recent: entries(test.done)}}
		if got := r.Count(Check{Time: now.Add(time.Minute), Outcome: test.next}, Signs{}); got != test.changed {
			t.Errorf("%s: changed %t", test.name, got)
		}
	}
}
