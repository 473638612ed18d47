package observe

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// ServicesAsked is the event of what the services said.
type ServicesAsked struct{ Answers []state.ServiceAnswer }

// place is an address at which the services are asked.
type place struct {
	address, source netip.Addr
	atHost          bool   // the primary's own, while the virtual IPs are here
	unknown         string // why they are not asked there; "": they are
}

// probeServices asks the services, side by side: standing by at every virtual IP,
// as clients see it, while the primary replies; while holding at those that are
// here, and at the primary's own address.
func (n *Network) probeServices(ctx context.Context, o Observation) Observation {
	if len(n.j.Set.Services) == 0 {
		return o
	}
	places := n.places(o)
	if len(places) == 0 {
		return o
	}
	n.j.Doing("checking the services")
	roots := config.ServiceRoots(n.j.Set.ServiceCA)
	results := make([][]check.ServiceResult, len(places))
	var attempts sync.WaitGroup
	for i, p := range places {
		results[i] = make([]check.ServiceResult, len(n.j.Set.Services))
		for k, s := range n.j.Set.Services {
			attempts.Go(func() { results[i][k] = n.askService(ctx, s, p, roots) })
		}
	}
	attempts.Wait()
	return n.answered(o, places, results)
}

func (n *Network) askService(ctx context.Context, s check.Service, p place, roots func() (*x509.CertPool, error)) check.ServiceResult {
	if p.unknown != "" {
		return check.ServiceResult{Reason: p.unknown}
	}
	return n.j.Service(ctx, s, check.Attempt{
		Address: p.address, Source: p.source, Timeout: n.j.Set.Timeout, CommandTimeout: n.j.Set.Hooks.Timeout, Roots: roots,
	})
}

// answered is the observation with what the services said. One is bad where
// clients reach it when it is bad at one virtual IP.
func (n *Network) answered(o Observation, places []place, results [][]check.ServiceResult) Observation {
	o.Services, o.Evidence.Answers, o.Certificates = slices.Clone(o.Services), nil, nil
	for k := range o.Services {
		s := &o.Services[k]
		var serving []state.Answer
		for i, p := range places {
			r := results[i][k]
			answer := state.Answer{Health: r.Health, Reason: r.Reason}
			if p.atHost {
				s.AtHost = answer
			} else {
				if len(places) > 1 && answer.Reason != "" {
					answer.Reason = fmt.Sprintf("%s at %s", answer.Reason, p.address)
				}
				serving = append(serving, answer)
			}
			o.Evidence.Answers = append(o.Evidence.Answers, state.ServiceAnswer{
				Service: s.Name, Address: p.address.String(), Health: r.Health.String(), Reason: r.Reason,
			})
			if r.Certificate {
				o.Certificates = append(o.Certificates, fmt.Sprintf("%s at %s: %s", s.Name, p.address, r.Reason))
			}
		}
		s.Serving = state.WorstAnswer(serving)
	}
	n.j.Event(ServicesAsked{Answers: o.Evidence.Answers})
	return o
}

// places are where the services are asked.
func (n *Network) places(o Observation) (places []place) {
	up := o.Primary == check.Up
	for _, a := range o.Aliases {
		p := place{address: a.Address(), source: n.j.Set.Source}
		switch {
		case o.Holds(a.Prefix.Addr()):
			places = append(places, p)
		case up && !o.Holding():
			p.unknown = n.notAtPrimary(o, a)
			places = append(places, p)
		}
	}
	if !up || o.PrimaryIsVIP() || len(o.Aliases) > 0 && !o.Holding() {
		return places
	}
	for _, path := range o.Paths {
		if path.Address == o.Shown() {
			return append(places, place{address: path.Address, source: path.Source, atHost: o.Holding()})
		}
	}
	return places
}

// notAtPrimary is why a service at a virtual IP says nothing of the primary; ""
// where the primary has it, as far as that can be told by the MACs on one link.
func (n *Network) notAtPrimary(o Observation, a vip.Alias) string {
	addr := a.Prefix.Addr()
	if n.local(addr) {
		return "it is on this machine, without ARP"
	}
	holder, inUse := n.holder(o, addr)
	if !n.j.Set.DuplicateCheck {
		return ""
	} else if !inUse {
		return "no machine has the virtual IP"
	}
	mac := holder.MAC
	if mac == "" {
		mac = n.neighbour(a.Interface, addr)
	}
	for _, t := range o.Neighbours() {
		if primary := n.neighbour(t.Interface, t.Address); t.Interface == a.Interface && !o.IsVIP(t.Address) && primary != "" && mac != "" && primary != mac {
			return "another machine has the virtual IP: " + mac
		}
	}
	return ""
}

// neighbour is the MAC that the kernel knows, "" for none.
func (n *Network) neighbour(link string, a netip.Addr) string {
	mac, err := n.j.Neighbour(link, a)
	if err != nil || mac == nil {
		return ""
	}
	return mac.String()
}

// ProbeFenced asks, after the primary was fenced, whether it and all virtual IPs are
// silent: nothing counts that was heard before.
func (n *Network) ProbeFenced(ctx context.Context, o Observation) Observation {
	o.replies.ignore = nil
	o, verdict := n.ProbeAgain(ctx, o.Anew(), true)
	o.Primary = verdict
	return n.Read(o)
}
