package observe

import (
	"net/netip"
	"slices"
	"time"

	"pingover/check"
	"pingover/state"
	"pingover/vip"
)

// findWitnesses lists who can prove that this machine's own network works.
func findWitnesses(j *Job, rec *state.Record, l *Local) {
	addresses := j.Set.Witness.Addresses
	if j.Set.Witness.Auto {
		addresses = gateways(j, rec, l)
		l.NoWitness = len(addresses) == 0
	}
	// Behind a router or a tunnel, an ARP reply of a neighbour proves nothing of the way.
	routed := slices.ContainsFunc(l.Pinged(), func(p Path) bool {
		link, _ := l.Snapshot.Link(p.Route.Interface)
		return !p.Route.Local && !(p.Route.OnLink && link.ARP)
	})
	for _, a := range addresses {
		w := check.Witness{Address: a, PingOnly: routed}
		if route, err := j.Route(a, netip.Addr{}); err == nil && route.OnLink {
			w.Link = route.Interface
		}
		l.Witnesses = append(l.Witnesses, w)
	}
}

// gateways are the automatic witnesses, one for each family of the primary and of
// the virtual IPs: the default gateway by the interface of a virtual IP, else by
// that of a path to the primary, unless it is the primary or a virtual IP itself.
// The last one known counts when the route is gone.
func gateways(j *Job, rec *state.Record, l *Local) (found []netip.Addr) {
	families := map[bool]bool{}
	var links []string
	for _, a := range l.Aliases {
		links, families[a.Prefix.Addr().Is6()] = append(links, a.Interface), true
	}
	for _, p := range l.Paths {
		if p.Address.IsValid() {
			links, families[p.Address.Is6()] = append(links, p.Route.Interface), true
		}
	}
	for _, v6 := range []bool{false, true} {
		if !families[v6] {
			continue
		}
		name, gateway := defaultGateway(j, rec, links, v6)
		if !gateway.IsValid() || l.isHost(gateway) || l.IsVIP(gateway) {
			continue
		}
		mac, err := j.Neighbour(name, gateway)
		if err != nil {
			j.Warnf("the gateway's MAC is unknown: %v", err)
		}
		// One that once served stays a witness, or one forged frame in the primary's
		// name would switch it off.
		if rec.Gateway(name, v6) != gateway && mac != nil && mac.String() == rec.Neighbour {
			continue // the primary by another address
		}
		l.Gateways = append(l.Gateways, state.Gateway{Interface: name, Address: gateway})
		found = append(found, gateway)
	}
	return found
}

// defaultGateway is the first default gateway by one of the interfaces, else the
// last one known.
func defaultGateway(j *Job, rec *state.Record, links []string, v6 bool) (name string, gateway netip.Addr) {
	links = slices.DeleteFunc(links, func(name string) bool { return name == "" })
	for i, name := range links {
		if slices.Contains(links[:i], name) {
			continue
		}
		if gateway, ok, err := j.Gateway(name, v6, j.Set.Source); err == nil && ok {
			return name, gateway
		}
	}
	for _, name := range links {
		if gateway := rec.Gateway(name, v6); gateway.IsValid() {
			return name, gateway
		}
	}
	return "", gateway
}

// witnessState is what the witnesses prove together.
func (g *guards) witnessState(l Local) (proof state.WitnessState, shown []state.Witness) {
	switch {
	case l.NoWitness && len(l.Witnesses) == 0:
		return state.WitnessNone, nil
	case len(l.Witnesses) == 0:
		return state.WitnessOff, nil
	}
	notAsked := true
	for _, w := range g.witnesses {
		by, good := w.Good(g.short)
		// One that is here, as another cluster's virtual IP may be, answers
		// itself.
		good = good && !g.n.local(w.Address)
		if good {
			proof = state.WitnessGood
		}
		notAsked = notAsked && w.NotAsked && l.leads(g.n.j, w.Address)
		shown = append(shown, state.WitnessOf(w.Address, by, good))
	}
	if notAsked {
		proof = state.WitnessNotAsked
	}
	return proof, shown
}

func (g *guards) witnessed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.take = g.take || g.plan.take
	if g.replied++; g.plan.brief && g.replied == len(g.witnesses) {
		g.cancel()
	}
}

// heardWitness says by what protocol a witness on the link replied to this
// machine.
func (g *guards) heardWitness(w check.Witness, since time.Time) (by string, cannot bool) {
	claims := g.n.Claims(vip.Target{Interface: w.Link, Address: w.Address}, since)
	if slices.ContainsFunc(claims, func(r vip.Reply) bool { return r.Direct }) {
		return protocol(w.Address), false
	}
	return "", !g.n.Listening(w.Link) || g.n.Err(w.Link) != nil
}

// protocol is the one that asks for neighbours.
func protocol(a netip.Addr) string {
	if a.Is4() {
		return "arp"
	}
	return "nd"
}
