package balance

import (
	"fmt"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// local is what of this machine matters to the members.
type local struct {
	members   []member
	witnesses []check.Witness
	gateways  []state.Gateway // found as automatic witnesses
}

// member is one address of the pool, and the way to it.
type member struct {
	address, source netip.Addr
	link            string // the interface of the route
	own             bool   // it is this machine's own address
	fault           string // why it cannot be asked, "" where it can
}

// survey finds out how each member would be asked.
func survey(j *job, rec Record) local {
	j.Doing("reading interfaces and routes")
	var l local
	snapshot, err := j.Snapshot()
	for _, a := range j.set.Members {
		l.members = append(l.members, j.wayTo(snapshot, err, a))
	}
	return findWitnesses(j, rec, l)
}

// wayTo is the way to a member: an address of this machine, or a route. The error is
// that of the snapshot.
func (j *job) wayTo(snapshot *vip.Snapshot, err error, a netip.Addr) member {
	m := member{address: a}
	if err != nil {
		m.fault = fmt.Sprintf("the kernel cannot be asked for its interfaces: %v", err)
		return m
	}
	if j.set.Source.IsValid() && j.set.Source.Is4() == a.Is4() {
		m.source = j.set.Source
	}
	if snapshot.Holds(a) {
		m.own = true
		return m
	}
	route, err := j.Route(a, m.source)
	switch {
	case err != nil:
		m.fault = fmt.Sprintf("no %v", err)
	case route.Local:
		m.own = true
	case route.Broadcast:
		m.fault = fmt.Sprintf("%s is a broadcast address: a reply proves nothing", a)
	default:
		m.link = route.Interface
		m.fault = snapshot.LinkFault(route.Interface)
	}
	return m
}

// findWitnesses lists who can prove that this machine's own network works: the
// gateways of the ways to the members, unless they are members. They are asked by
// ping: a pool needs no right to listen on the link.
func findWitnesses(j *job, rec Record, l local) local {
	addresses := j.set.Witness.Addresses
	if j.set.Witness.Auto {
		for _, v6 := range []bool{false, true} {
			if name, gateway := j.defaultGateway(rec, l, v6); gateway.IsValid() && !slices.Contains(j.set.Members, gateway) {
				l.gateways = append(l.gateways, state.Gateway{Interface: name, Address: gateway})
				addresses = append(slices.Clone(addresses), gateway)
			}
		}
	}
	for _, a := range addresses {
		l.witnesses = append(l.witnesses, check.Witness{Address: a, PingOnly: true})
	}
	return l
}

// defaultGateway is the default gateway of a family by an interface that leads to
// a member of it, else the last one known.
func (j *job) defaultGateway(rec Record, l local, v6 bool) (name string, gateway netip.Addr) {
	var links []string
	for _, m := range l.members {
		if m.address.Is6() == v6 && m.link != "" && !slices.Contains(links, m.link) {
			links = append(links, m.link)
		}
	}
	for _, link := range links {
		if gateway, ok, err := j.Gateway(link, v6, j.set.Source); err == nil && ok {
			return link, gateway
		}
	}
	for _, link := range links {
		if gateway := rec.Gateway(link, v6); gateway.IsValid() {
			return link, gateway
		}
	}
	return "", gateway
}

// noted reports what every check notes: verbose ones always, others once.
func noted(j *job, rec Record, l local) Record {
	before := rec.Noted
	rec.Noted = nil
	note := func(key, format string, args ...any) {
		j.Event(run.Note{Text: fmt.Sprintf(format, args...), Warning: !slices.Contains(before, key)})
		rec.Noted = append(rec.Noted, key)
	}
	for _, m := range l.members {
		if m.own {
			note("own "+m.address.String(), "member %s is an address of this machine: its replies prove nothing of the network", m.address)
		}
	}
	if j.set.Witness.Auto && len(l.witnesses) == 0 {
		note("witness", "no witness: there is no default gateway by the interfaces of the members, or it is a member itself; only another member that replies allows a removal; set witness")
	}
	if j.set.Mail.Silent() {
		j.Infof("%s", run.NoRecipient)
	}
	if j.DryRun {
		j.Infof("a check with these settings ends after %s at the latest, whatever hangs", j.set.Deadline())
	}
	return rec
}
