package balance

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/state"
)

// ServicesAsked carries what the services of a member said in round N.
type ServicesAsked struct {
	N       int
	Address netip.Addr
	Answers []state.ServiceAnswer
}

// attempts makes round n to the services of a member: the first attempt in which
// all are good ends it. The member is down when one was bad in every attempt, and
// unknown when in one of them none was bad, but one could not be asked.
func (a answer) attempts(ctx context.Context, j *job, n int, roots func() (*x509.CertPool, error)) answer {
	verdict := check.Down
	for i := range j.set.Count {
		if i > 0 && !proc.Sleep(ctx, j.set.Interval) {
			break
		}
		var health check.Health
		a, health = a.attempt(ctx, j, roots)
		if health == check.Good {
			verdict = check.Up
			break
		}
		if health == check.HealthUnknown {
			verdict = check.Unknown
		}
	}
	if ctx.Err() != nil && verdict != check.Up {
		verdict = check.Unknown
	}
	j.Event(ServicesAsked{N: n, Address: a.address, Answers: a.answers})
	a.replied = slices.ContainsFunc(a.answers, func(s state.ServiceAnswer) bool { return s.Health == check.Good.String() })
	if a.verdict == check.Up { // it was asked for a proof
		return a
	}
	a.verdict, a.fault = verdict, ""
	if verdict == check.Up {
		return a
	}
	var faults []string
	for _, s := range a.answers {
		if s.Health != check.Good.String() {
			faults = append(faults, fmt.Sprintf("%s: %s", s.Service, s.Reason))
		}
	}
	a.fault = strings.Join(faults, "; ")
	return a
}

// attempt asks all services of the member, side by side. The health is the worst:
// one that is bad, else one that is unknown.
func (a answer) attempt(ctx context.Context, j *job, roots func() (*x509.CertPool, error)) (answer, check.Health) {
	results := make([]check.ServiceResult, len(j.set.Services))
	var all sync.WaitGroup
	for i, s := range j.set.Services {
		all.Go(func() {
			results[i] = j.Service(ctx, s, check.Attempt{
				Address: a.address, Source: a.source, Timeout: j.set.Timeout, CommandTimeout: j.set.CommandTimeout, Roots: roots,
			})
		})
	}
	all.Wait()
	health := check.Good
	a.answers, a.certificates = nil, nil
	for i, r := range results {
		name := j.set.Services[i].Name()
		a.answers = append(a.answers, state.ServiceAnswer{Service: name, Address: a.address.String(), Health: r.Health.String(), Reason: r.Reason})
		if r.Certificate {
			a.certificates = append(a.certificates, fmt.Sprintf("%s at %s: %s", name, a.address, r.Reason))
		}
		if health != check.Bad && r.Health != check.Good {
			health = r.Health
		}
	}
	return a, health
}
