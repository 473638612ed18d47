package state

import (
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
)

// aCheck is a check that observed this of the services, a minute after the last.
func aCheck(r *Record, s Signs) {
	at := now
	if r.Last != nil {
		at = r.Last.Time.Add(time.Minute)
	}
	r.Count(Check{Time: at, Outcome: OK}, s)
}

func seen(health ...check.Health) (all []ServiceStatus) {
	for _, h := range health {
		all = append(all, ServiceStatus{Serving: Answer{Health: h}, AtHost: Answer{Health: h}})
	}
	return all
}

func TestServicesAreCountedInARow(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		checks []check.Health
		want   Service
	}{
		"good":                   {[]check.Health{check.Good}, Service{Proven: true}},
		"bad from the beginning": {[]check.Health{check.Bad, check.Bad}, Service{Bad: 2}},
		"good, then bad":         {[]check.Health{check.Good, check.Bad, check.Bad}, Service{Bad: 2, Proven: true}},
		"unknown ends no streak": {[]check.Health{check.Good, check.Bad, check.HealthUnknown, check.Bad}, Service{Bad: 2, Proven: true}},
		"unknown is neither":     {[]check.Health{check.HealthUnknown, check.HealthUnknown}, Service{}},
		"good ends the streak":   {[]check.Health{check.Bad, check.Good, check.Bad}, Service{Bad: 1, Proven: true}},
	} {
		r := Record{Role: Standby, Services: []Service{{}}}
		for _, h := range tt.checks {
			aCheck(&r, Signs{Primary: check.Up, Services: seen(h)})
		}
		if diff := cmp.Diff([]Service{tt.want}, r.Services); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// However often is checked: streaks advance at most once a second.
func TestServicesAreCountedOnceASecond(t *testing.T) {
	t.Parallel()
	r := Record{Role: Standby, Services: []Service{{Bad: 1}}}
	for _, ms := range []int{0, 300, 600, 1000} {
		began := now.Add(time.Duration(ms) * time.Millisecond)
		before := r.ServicesBefore(began)[0].Bad
		r.Count(Check{Time: began, Outcome: OK}, Signs{Primary: check.Up, Services: seen(check.Bad)})
		want := 2
		if ms == 1000 {
			want = 3
		}
		if r.Services[0].Bad != want || before+1 != want {
			t.Errorf("after %d ms: %d, and decided on %d more, want %d", ms, r.Services[0].Bad, before, want)
		}
	}
}

// What worked here says nothing of the primary, and a switch begins anew.
func TestASwitchForgetsTheServices(t *testing.T) {
	t.Parallel()
	r := Record{Role: Standby, Services: []Service{{Bad: 3, Proven: true}, {Proven: true}}}
	before := r
	r.Intend(Taking, Change{Time: now})
	r.Switched(Active, Change{Time: now, Outcome: TookOver})
	if diff := cmp.Diff([]Service{{}, {}}, r.Services); diff != "" {
		t.Errorf("after a takeover (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Service{{Bad: 3, Proven: true}, {Proven: true}}, before.Services); diff != "" {
		t.Errorf("the record before it has changed (-want +got):\n%s", diff)
	}
	aCheck(&r, Signs{Primary: check.Down, Holding: true, Services: seen(check.Good, check.Bad)})
	if diff := cmp.Diff([]Service{{}, {Bad: 1}}, r.Services); diff != "" {
		t.Errorf("while holding (-want +got):\n%s", diff)
	}
	r.KeepRole(false, check.Up, now)
	if diff := cmp.Diff([]Service{{}, {}}, r.Services); diff != "" {
		t.Errorf("when nothing is held any more (-want +got):\n%s", diff)
	}
}

func TestAnIntentThatCameToNothingKeepsTheServices(t *testing.T) {
	t.Parallel()
	r := Record{Role: Standby, Services: []Service{{Bad: 3, Proven: true}}}
	r.Intend(Taking, Change{Time: now})
	r.KeepRole(false, check.Up, now)
	if diff := cmp.Diff([]Service{{Bad: 3, Proven: true}}, r.Services); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Fenced()
	if diff := cmp.Diff([]Service{{Bad: 3}}, r.Services); diff != "" {
		t.Errorf("fenced (-want +got):\n%s", diff)
	}
}

// A typing error in the settings never fences: the changed service has to work
// first.
func TestAChangedServiceBeginsAnew(t *testing.T) {
	t.Parallel()
	page := func(path string) check.Service {
		return check.Service{URL: &url.URL{Scheme: "http", Host: "web", Path: path}}
	}
	port := check.Service{Port: 80}
	r := Record{}
	r.SetServices([]check.Service{port, page("/health")})
	for range 2 {
		aCheck(&r, Signs{Primary: check.Up, Services: seen(check.Good, check.Good)})
	}
	r.SetServices([]check.Service{page("/health"), port})
	if !r.Services[0].Proven || !r.Services[1].Proven || r.Streaks.Fit != 2 {
		t.Errorf("the order matters: %+v", r)
	}
	r.SetServices([]check.Service{port, page("/helth")})
	if !r.Services[0].Proven || r.Services[1].Proven || r.Streaks.Fit != 0 {
		t.Errorf("%+v", r)
	}
	if r.Services[1].Name != "http://web" || len(r.Services[1].Mark) != 4 {
		t.Errorf("every user can read %+v", r.Services[1])
	}
	if _, err := r.SetHost("172.16.0.9", now); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetHost("172.16.0.10", now); err != nil || r.Services != nil {
		t.Errorf("another primary: %v, %+v", err, r.Services)
	}
}

func TestFitAndServed(t *testing.T) {
	t.Parallel()
	at := func(serving, host check.Health) []ServiceStatus {
		return []ServiceStatus{{Serving: Answer{Health: serving}, AtHost: Answer{Health: host}}}
	}
	standby, holding := Signs{Primary: check.Up}, Signs{Primary: check.Up, Holding: true}
	with := func(s Signs, services []ServiceStatus) Signs { s.Services = services; return s }
	type counts struct{ Fit, Served int }
	for name, tt := range map[string]struct {
		signs Signs
		want  counts
	}{
		"holding, good at the primary":       {with(holding, at(check.Bad, check.Good)), counts{3, 0}},
		"holding, bad at the primary":        {with(holding, at(check.Good, check.Bad)), counts{0, 3}},
		"holding, unknown":                   {with(holding, at(check.HealthUnknown, check.HealthUnknown)), counts{2, 2}},
		"holding, the primary is down":       {Signs{Primary: check.Down, Holding: true, Services: at(check.Good, check.Good)}, counts{0, 3}},
		"standing by, bad where clients are": {with(standby, at(check.Bad, check.Good)), counts{0, 0}},
	} {
		r := Record{Services: make([]Service, len(tt.signs.Services)), Head: Head{Streaks: Streaks{Fit: 2, Served: 2}}}
		aCheck(&r, tt.signs)
		if diff := cmp.Diff(tt.want, counts{r.Streaks.Fit, r.Streaks.Served}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
