package state

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"pingover/check"
)

// Service is what is known of a service of the primary from the checks before.
type Service struct {
	Name string `json:"name"` // without what may be secret
	// Mark changes when the setting does. Every user can read the record: it has
	// too few bits to guess a password by.
	Mark string `json:"mark"`
	Bad  int    `json:"bad"` // checks in a row
	// Proven: it was good since the last switch, the last fencing and the last
	// change of its setting.
	Proven bool `json:"proven"`
}

// newService is a service of the settings, of which nothing is known yet.
func newService(s check.Service) Service {
	return Service{Name: s.Name(), Mark: fmt.Sprintf("%x", sha256.Sum256([]byte(s.String())))[:4]}
}

// ServiceStatus is what was observed of one service in this check. What was not
// asked is unknown.
type ServiceStatus struct {
	Name    string
	Serving Answer // where clients reach it: at the virtual IPs, or at a primary without any
	AtHost  Answer // at the primary's own address, while the virtual IPs are here
}

// Answer is the health of a service, and why it is not good.
type Answer struct {
	Health check.Health
	Reason string
}

// WorstAnswer is a bad one of the answers where there is one, else an unknown one,
// else a good one; unknown where there are none.
func WorstAnswer(all []Answer) (worst Answer) {
	for i, a := range all {
		if i == 0 || a.Health == check.Bad && worst.Health != check.Bad || a.Health == check.HealthUnknown && worst.Health == check.Good {
			worst = a
		}
	}
	return worst
}

// worst is bad when one is, else unknown when one is; good where there are none.
func worst(statuses []ServiceStatus, at func(ServiceStatus) Answer) check.Health {
	health := check.Good
	for _, s := range statuses {
		switch at(s).Health {
		case check.Bad:
			return check.Bad
		case check.HealthUnknown:
			health = check.HealthUnknown
		}
	}
	return health
}

func serving(s ServiceStatus) Answer { return s.Serving }
func atHost(s ServiceStatus) Answer  { return s.AtHost }

// SetServices makes these the services of the cluster. What is known of one stays
// while its setting does.
func (r *Record) SetServices(services []check.Service) {
	known, changed := r.Services, len(services) != len(r.Services)
	r.Services = nil
	for _, setting := range services {
		s := newService(setting)
		if at := slices.IndexFunc(known, func(k Service) bool { return k.Name == s.Name && k.Mark == s.Mark }); at >= 0 {
			s = known[at]
		} else {
			changed = true
		}
		r.Services = append(r.Services, s)
	}
	if changed {
		r.Streaks.Fit, r.Streaks.Served = 0, 0
	}
}

// Fenced notes that the primary is fenced for a service, before it is: that is
// not repeated until the service was good.
func (r *Record) Fenced() {
	r.Services = slices.Clone(r.Services)
	for i := range r.Services {
		r.Services[i].Proven = false
	}
}

// EndStreaks ends what was counted in a row.
func (r *Record) EndStreaks() {
	r.Streaks, r.Services = Streaks{}, slices.Clone(r.Services)
	for i := range r.Services {
		r.Services[i].Bad = 0
	}
}

// switchedServices forgets what was known of the services: another machine serves
// from now on.
func (r *Record) switchedServices() {
	r.Fenced()
	for i := range r.Services {
		r.Services[i].Bad = 0
	}
}

// ServicesBefore are the services with the streaks that a check which began then
// goes on from.
func (r *Record) ServicesBefore(began time.Time) []Service {
	services := slices.Clone(r.Services)
	for i := range services {
		if r.sameSecond(began) {
			services[i].Bad = max(0, services[i].Bad-1)
		}
	}
	return services
}

// countServices adds what was observed of the services to their streaks. An
// unknown answer changes none.
func (r *Record) countServices(s Signs, counts bool) {
	if len(r.Services) == 0 {
		return
	}
	r.Services = slices.Clone(r.Services)
	if len(s.Services) != len(r.Services) {
		s.Services = make([]ServiceStatus, len(r.Services)) // none was asked
	}
	for i, status := range s.Services {
		known := &r.Services[i]
		switch status.Serving.Health {
		case check.Good:
			known.Bad, known.Proven = 0, known.Proven || !s.Holding
		case check.Bad:
			if counts {
				known.Bad++
			}
		}
	}
	where := serving
	if s.Holding {
		where = atHost
	}
	r.Streaks.Fit = streakOf(r.Streaks.Fit, s.Primary == check.Up, worst(s.Services, where), counts)
	r.Streaks.Served = streakOf(r.Streaks.Served, s.Holding, worst(s.Services, serving), counts)
}

// streakOf is a streak after a check; not there: it ends.
func streakOf(n int, there bool, h check.Health, counts bool) int {
	switch {
	case !there || h == check.Bad:
		return 0
	case h == check.Good && counts:
		return n + 1
	}
	return n
}

// down are the services that have not worked in so many checks in a row, and do
// not now. An unknown answer ends no streak.
func (o Observation) down(known Known, fall int) []ServiceStatus {
	return o.services(known, func(s ServiceStatus, k Service) bool {
		bad := k.Bad
		if s.Serving.Health == check.Bad {
			bad++
		}
		return bad >= fall && s.Serving.Health != check.Good
	})
}

// WorthFencing are the services that are down and worked before, at the primary
// that is up: a typing error or a backend that never worked is none.
func (o Observation) WorthFencing(known Known, fall int) []ServiceStatus {
	if o.Primary != check.Up || len(o.held()) > 0 {
		return nil
	}
	return o.services(known, func(s ServiceStatus, k Service) bool {
		return s.Serving.Health == check.Bad && k.Bad+1 >= fall && k.Proven
	})
}

func (o Observation) services(known Known, which func(ServiceStatus, Service) bool) (some []ServiceStatus) {
	for i, s := range o.Services[:min(len(o.Services), len(known.Services))] {
		if which(s, known.Services[i]) {
			some = append(some, s)
		}
	}
	return some
}

// fit tells whether the primary could get the virtual IPs back.
func (o Observation) fit(known Known) bool {
	return o.Primary == check.Up && len(o.Services) == len(known.Services) && worst(o.Services, atHost) == check.Good
}

// unfit are the services that keep the primary from getting the virtual IPs back.
func (o Observation) unfit() []ServiceStatus {
	return slices.DeleteFunc(slices.Clone(o.Services), func(s ServiceStatus) bool { return s.AtHost.Health != check.Bad })
}

// notWorking is that some services do not work, and why; which of their answers
// says it.
func notWorking(some []ServiceStatus, where func(ServiceStatus) Answer) string {
	each := make([]string, len(some))
	for i, s := range some {
		each[i] = "service " + s.Name + " does not work"
		if reason := where(s).Reason; reason != "" {
			each[i] += ": " + reason
		}
	}
	return strings.Join(each, "; ")
}

func namesOf(some []ServiceStatus) string {
	names := make([]string, len(some))
	for i, s := range some {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}
