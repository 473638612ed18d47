package pool

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/state"
)

func set4(addrs ...string) Set { return Set{Name: www}.With(nil, ips(addrs...), time.Minute) }

func settings(rise int, addrs ...string) Settings {
	return Settings{Members: ips(addrs...), Rise: rise, MinMembers: 1, TTL: time.Minute}
}

func wantMembers(t *testing.T, got Record, want ...Member) {
	t.Helper()
	if diff := cmp.Diff(want, got.Members, equal...); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func addr(a string) netip.Addr { return netip.MustParseAddr(a) }

// With a new record nobody knows why a member is out: it must be up for longer,
// unless the family has no member in DNS at all.
func TestANewRecord(t *testing.T) {
	r, finished := Record{}.Settle(set4("10.2.2.10", "10.2.2.99"), settings(3, "10.2.2.10", "10.2.2.11", "2001:db8::10"), noon)
	wantMembers(
		t, r,
		Member{Address: addr("10.2.2.10"), Published: true, Since: noon},
		Member{Address: addr("10.2.2.11"), Since: noon},
		Member{Address: addr("2001:db8::10"), Since: noon, By: Added},
	)
	var required []int
	for _, m := range r.Members {
		required = append(required, m.Required(3))
	}
	if diff := cmp.Diff([]int{30, 30, 3}, required); diff != "" || len(finished.Leave) > 0 {
		t.Errorf("required (-want +got):\n%s", diff)
	}
}

func TestWhoTookAMemberOut(t *testing.T) {
	later := noon.Add(time.Minute)
	set := settings(3, "10.2.2.10", "10.2.2.11")
	start, _ := Record{}.Settle(set4("10.2.2.10", "10.2.2.11"), set, noon)
	start.Members[1].Up = 7
	first := Member{Address: addr("10.2.2.10"), Published: true, Since: noon}

	r, _ := start.Settle(set4("10.2.2.10"), set, later)
	wantMembers(t, r, first, Member{Address: addr("10.2.2.11"), Since: later, By: Another})

	r, _ = r.Settle(set4("10.2.2.10", "10.2.2.11"), set, later.Add(time.Minute))
	wantMembers(t, r, first, Member{Address: addr("10.2.2.11"), Published: true, Since: later.Add(time.Minute), By: Another})

	d := Decision{Outcome: state.Removed, Reason: "10.2.2.11 is down", Leave: ips("10.2.2.11")}
	o := Observation{Members: []MemberStatus{{Address: addr("10.2.2.10"), Verdict: check.Up}, {Address: addr("10.2.2.11"), Verdict: check.Down}}}
	open := start.Intend(d, later)
	for name, tt := range map[string]struct {
		effect Effect
		want   Member
		update *Update
	}{
		"published": {Published, Member{Address: addr("10.2.2.11"), Since: later, By: Us, Verdict: "down"}, nil},
		"refused":   {Untouched, Member{Address: addr("10.2.2.11"), Published: true, Since: noon, Verdict: "down"}, nil},
		"not known": {Open, Member{Address: addr("10.2.2.11"), Published: true, Since: noon, Verdict: "down"}, open.Update},
	} {
		r := open.Apply(d, o, tt.effect, later)
		up := first
		up.Verdict, up.Up = "up", 1
		wantMembers(t, r, up, tt.want)
		if diff := cmp.Diff(tt.update, r.Update, equal...); diff != "" {
			t.Errorf("%s: update (-want +got):\n%s", name, diff)
		}
	}
	wantMembers(t, start, first, Member{Address: addr("10.2.2.11"), Published: true, Since: noon, Up: 7}) // changed copies only

	// A run was killed between update and result, or its answer was lost.
	r, finished := open.Settle(set4("10.2.2.10"), set, later.Add(time.Minute))
	wantMembers(t, r, first, Member{Address: addr("10.2.2.11"), Since: later.Add(time.Minute), By: Us})
	if diff := cmp.Diff(Finished{Reason: "10.2.2.11 is down", Leave: ips("10.2.2.11")}, finished, equal...); diff != "" || r.Update != nil {
		t.Errorf("finished (-want +got):\n%s", diff)
	}
	r, finished = open.Settle(set4("10.2.2.10", "10.2.2.11"), set, later.Add(time.Minute))
	if len(finished.Leave) > 0 || finished.Reason != "" || r.Update != nil || r.Members[1].By != Unknown {
		t.Errorf("the update was not made: %+v, %+v", finished, r)
	}
	// Another writer took it out, so this update was refused.
	r, finished = open.Withdraw().Settle(set4("10.2.2.10"), set, later)
	if len(finished.Leave) > 0 || r.Members[1].By != Another {
		t.Errorf("another writer was faster: %+v, %+v", finished, r.Members)
	}
}

func TestMembersComeAndGo(t *testing.T) {
	later := noon.Add(time.Minute)
	r, _ := Record{}.Settle(set4("10.2.2.10", "10.2.2.11"), settings(3, "10.2.2.10", "10.2.2.11"), noon)
	r = r.Drain(ips("10.2.2.11"), time.Time{}, noon)

	r, _ = r.Settle(set4("10.2.2.10", "10.2.2.11"), settings(3, "10.2.2.12", "10.2.2.10"), later)
	wantMembers(
		t, r,
		Member{Address: addr("10.2.2.12"), Since: later, By: Added},
		Member{Address: addr("10.2.2.10"), Published: true, Since: noon},
		Member{Address: addr("10.2.2.11"), Published: true, Since: noon, Left: true},
	)
	again, _ := r.Settle(set4("10.2.2.10", "10.2.2.11"), settings(3, "10.2.2.10", "10.2.2.11"), later)
	wantMembers(
		t, again,
		Member{Address: addr("10.2.2.10"), Published: true, Since: noon},
		Member{Address: addr("10.2.2.11"), Published: true, Since: noon},
	)
	r, _ = r.Settle(set4("10.2.2.10"), settings(3, "10.2.2.12", "10.2.2.10"), later.Add(time.Minute))
	wantMembers(
		t, r,
		Member{Address: addr("10.2.2.12"), Since: later, By: Added},
		Member{Address: addr("10.2.2.10"), Published: true, Since: noon},
	)
}

func TestStreaksAdvanceOnceASecond(t *testing.T) {
	r, _ := Record{}.Settle(set4("10.2.2.10"), settings(3, "10.2.2.10"), noon)
	var got []int
	for _, step := range []struct {
		after   time.Duration
		verdict check.Verdict
	}{
		{0, check.Up},
		{300 * time.Millisecond, check.Up},
		{1100 * time.Millisecond, check.Up},
		{2 * time.Second, check.Up},
		{2100 * time.Millisecond, check.Unknown},
		{2200 * time.Millisecond, check.Up},
		{4 * time.Second, check.Down},
		{5 * time.Second, check.Up},
	} {
		r = r.Apply(Decision{}, Observation{Members: []MemberStatus{{Address: addr("10.2.2.10"), Verdict: step.verdict}}}, Untouched, noon.Add(step.after))
		got = append(got, r.Members[0].Up)
	}
	if diff := cmp.Diff([]int{1, 1, 2, 3, 0, 1, 0, 1}, got); diff != "" {
		t.Errorf("checks in a row (-want +got):\n%s", diff)
	}
}

// A drain ends with its time, also when no check ran then, and the member must be
// up in `rise` checks after it.
func TestDrainAndUndrain(t *testing.T) {
	up := Observation{Set: set4("10.2.2.10"), Witness: true, Members: []MemberStatus{{Address: addr("10.2.2.10"), Verdict: check.Up}, {Address: addr("10.2.2.11"), Verdict: check.Up}}}
	set := settings(3, "10.2.2.10", "10.2.2.11")
	r, _ := Record{}.Settle(set4("10.2.2.10", "10.2.2.11"), set, noon)
	d := DecideDrain(set4("10.2.2.10", "10.2.2.11"), set, ips("10.2.2.11"), false)
	until := noon.Add(2 * time.Hour)
	r = r.Drain(ips("10.2.2.11"), noon.Add(time.Hour), noon.Add(-time.Hour)).Drain(ips("10.2.2.11"), until, noon).Intend(d, noon).Moved(d, Published, noon)
	wantMembers(
		t, r,
		Member{Address: addr("10.2.2.10"), Published: true, Since: noon},
		Member{Address: addr("10.2.2.11"), Since: noon, By: Us, Drained: &Drain{Since: noon.Add(-time.Hour), Until: until}},
	)
	if r.Update != nil {
		t.Errorf("open: %+v", r.Update)
	}

	undrained, lifted := r.Undrain(ips("10.2.2.10", "10.2.2.11"), noon)
	if diff := cmp.Diff(ips("10.2.2.11"), lifted, equal...); diff != "" || undrained.Members[1].Drained != nil || r.Members[1].Drained == nil {
		t.Errorf("lifted (-want +got):\n%s", diff)
	}

	var outcomes []state.Outcome
	for now := until.Add(-2 * time.Minute); now.Before(until.Add(3 * time.Minute)); now = now.Add(time.Minute) {
		r, _ = r.Settle(up.Set, set, now)
		d := Decide(r, up, set, now)
		r = r.Apply(d, up, Untouched, now)
		outcomes = append(outcomes, d.Outcome)
	}
	if diff := cmp.Diff([]state.Outcome{"reduced", "reduced", "reduced", "reduced", "restored"}, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if r.Members[1].Drained != nil {
		t.Errorf("still drained: %+v", r.Members[1])
	}
}

func TestTheRecordAsItIsWritten(t *testing.T) {
	r := Record{Read: noon, Counted: noon, Members: []Member{
		{Address: addr("10.2.2.10"), Published: true, Since: noon, Verdict: "up", Up: 3},
		{Address: addr("10.2.2.11"), Since: noon, By: Us, Verdict: "down", Drained: &Drain{Since: noon}, Left: true},
	}}
	r = r.Intend(Decision{Reason: "why", Leave: ips("10.2.2.10")}, noon)
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"members":[` +
		`{"address":"10.2.2.10","published":true,"since":"2026-03-04T12:00:00Z","by":"","verdict":"up","up":3},` +
		`{"address":"10.2.2.11","published":false,"since":"2026-03-04T12:00:00Z","by":"pingover","verdict":"down","up":0,"drained":{"since":"2026-03-04T12:00:00Z"},"left":true}],` +
		`"read":"2026-03-04T12:00:00Z","counted":"2026-03-04T12:00:00Z",` +
		`"update":{"time":"2026-03-04T12:00:00Z","reason":"why","leave":["10.2.2.10"],"return":null}}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var back Record
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back, equal...); diff != "" || back.Check() != nil {
		t.Errorf("read back, %v (-want +got):\n%s", back.Check(), diff)
	}
}

func TestARecordThatMakesNoSense(t *testing.T) {
	for want, m := range map[string]Member{
		"a member has no address":                              {},
		"member 10.2.2.10: a count is below zero":              {Address: addr("10.2.2.10"), Up: -1},
		`member 10.2.2.10: published or taken out by "nobody"`: {Address: addr("10.2.2.10"), By: "nobody"},
		`member 10.2.2.10: the verdict is "good"`:              {Address: addr("10.2.2.10"), Verdict: "good"},
	} {
		if err := (Record{Members: []Member{m}}).Check(); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

func TestScriptAndItsInverse(t *testing.T) {
	before := Set{Name: www, A: records(5*time.Minute, "10.2.2.10", "10.2.2.11")}
	c := Change{"zone.com.", before, before.With(ips("10.2.2.11"), ips("10.2.2.12", "2001:db8::1"), time.Minute)}
	const do = `server 192.0.2.53 53
zone zone.com.
prereq yxrrset host1.zone.com. A 10.2.2.10
prereq yxrrset host1.zone.com. A 10.2.2.11
prereq nxrrset host1.zone.com. AAAA
update delete host1.zone.com. A 10.2.2.11
update add host1.zone.com. 60 A 10.2.2.12
update add host1.zone.com. 60 AAAA 2001:db8::1
send
`
	const undo = `server 2001:db8::53 5353
zone zone.com.
prereq yxrrset host1.zone.com. A 10.2.2.10
prereq yxrrset host1.zone.com. A 10.2.2.12
prereq yxrrset host1.zone.com. AAAA 2001:db8::1
update delete host1.zone.com. A 10.2.2.12
update delete host1.zone.com. AAAA 2001:db8::1
update add host1.zone.com. 300 A 10.2.2.11
send
`
	if diff := cmp.Diff(do, c.Script("192.0.2.53:53")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(undo, c.Inverse().Script("[2001:db8::53]:5353")); diff != "" {
		t.Errorf("inverse (-want +got):\n%s", diff)
	}
	// The inverse of a record that was added alone gives the others their TTL back.
	c.After = before.With(nil, ips("10.2.2.12"), time.Minute)
	const ttl = `update delete host1.zone.com. A 10.2.2.12
update delete host1.zone.com. A 10.2.2.10
update add host1.zone.com. 300 A 10.2.2.10
send
`
	if _, got, _ := strings.Cut(c.Inverse().Script("192.0.2.53:53"), "AAAA\n"); got != ttl {
		t.Errorf("inverse of an addition:\n%s", got)
	}
	if c.Empty() || !(Change{"zone.com.", before, before.With(ips("10.2.2.99"), ips("10.2.2.10"), 0)}).Empty() {
		t.Error("which change is empty")
	}
}
