package observe

import (
	"net/netip"
	"slices"

	"pingover/internal/run"
	"pingover/state"
)

// findWitnesses lists who can prove that this machine's own network works.
func findWitnesses(j *Job, rec *state.Record, l *Local) {
	addresses := j.Set.Witness.Addresses
	if j.Set.Witness.Auto {
		addresses = gateways(j, rec, l)
		l.NoWitness = len(addresses) == 0
	}
	// Behind a router, an ARP reply of the router proves nothing of the way.
	routed := slices.ContainsFunc(l.Pinged(), func(p Path) bool { return !p.Route.OnLink && !p.Route.Local })
	for _, a := range addresses {
		w := run.Witness{Address: a, PingOnly: routed}
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
