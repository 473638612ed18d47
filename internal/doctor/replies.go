package doctor

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/observe"
	"pingover/state"
)

// replies are what other machines have replied, as to a check that takes nothing
// over.
func (x *examination) replies() {
	if len(x.set.VIPs) > 0 && !x.set.DuplicateCheck {
		x.warn("leave duplicate-check on", "duplicate-check is off: a takeover does not ask on the link whether the addresses are in use")
	}
	for _, f := range x.NotAsked {
		x.fail("fix that first", "not all could be asked: %s", f.Text)
	}
	x.primary()
	x.witnesses()
	x.holders()
	x.services()
}

// services are what the services have said, at the virtual IPs or at the primary.
func (x *examination) services() {
	for _, a := range x.Observation.Evidence.Answers {
		switch a.Health {
		case check.Good.String():
			x.good("service %s at %s is good", a.Service, a.Address)
		case check.Bad.String():
			x.fail("find out why it does not work there", "service %s at %s is bad: %s", a.Service, a.Address, a.Reason)
		default:
			x.warn("fix that; until then it counts neither as good nor as bad", "service %s at %s is unknown: %s", a.Service, a.Address, a.Reason)
		}
	}
	near := slices.ContainsFunc(x.Local.Paths, func(p observe.Path) bool { return p.Route.OnLink })
	if x.set.FailoverOnService && !near {
		x.warn("set failover-on to host, or run pingover on the primary's link",
			"failover-on is service, but the primary is behind a router: who has the virtual IPs cannot be told, and it is never fenced")
	}
}

func (x *examination) primary() {
	for _, p := range x.Local.Paths {
		rounds := x.Observation.Evidence.Rounds
		i := slices.IndexFunc(rounds, func(r state.Round) bool { return r.Address == p.Address.String() })
		if i >= 0 { // else it cannot be pinged, which is a fault
			x.reply(p, rounds[i])
		}
	}
}

// reply is what the primary replied at one of its addresses.
func (x *examination) reply(p observe.Path, round state.Round) {
	o, a := x.Observation, p.Address
	heard := slices.IndexFunc(o.Evidence.Holders, func(h state.Holder) bool { return h.Address == a.String() && h.MAC != "" })
	switch {
	case round.Verdict == check.Up.String():
		x.good("primary %s replies to pings (%.1f ms)", a, *round.RTT)
	case o.Primary == check.Up:
		x.warn("find out why; one path that replies is enough", "primary %s did not reply to %d pings, and replies by another path", a, round.Sent)
	case round.Verdict != check.Down.String():
	case heard >= 0 && o.AnswersARP:
		x.fail("let its firewall answer pings: without a reply it counts as down, and is never taken over from",
			"primary %s does not reply to pings, but is at %s (%s)", a, o.Evidence.Holders[heard].MAC, protocol(a))
	case slices.ContainsFunc(o.VIPs, func(v state.VIPStatus) bool { return v.Held }):
		x.warn("fix the primary: its virtual IP is here meanwhile", "primary %s did not reply to %d pings", a, round.Sent)
	default:
		x.fail("check whether it is down, and whether host is right", "primary %s did not reply to %d pings", a, round.Sent)
	}
	if round.Verdict != check.Up.String() || len(x.set.VIPs) == 0 || !x.set.DuplicateCheck {
		return
	}
	switch {
	case !p.Route.OnLink:
		x.good("primary %s is not on the link: only pings tell whether it is up", a)
	case heard >= 0:
		x.good("primary %s is at %s (%s)", a, o.Evidence.Holders[heard].MAC, protocol(a))
	case o.OnLink:
		x.warn("find out what replies for it: a router in between may do so", "primary %s replies to pings, but not to %s", a, protocol(a))
	}
}

// witnesses are who would show that this machine's network works.
func (x *examination) witnesses() {
	const another = "set witness to a third machine that always replies"
	o := x.Observation
	switch {
	case o.NoWitness && len(x.set.VIPs) > 0:
		x.fail(another+", or to none", "%s", observe.NoWitness)
		return
	case o.NoWitness:
		return
	case len(o.Witnesses) == 0:
		x.warn(another, "witness none: when this machine itself is isolated, the primary counts as down")
		return
	}
	for i, w := range o.Witnesses {
		shown := o.Evidence.Witnesses[i]
		switch mac := x.macOf(w); {
		case o.Snapshot.Holds(w.Address):
			x.fail(another, "witness %s is this machine", w.Address)
		case mac != "" && mac == o.Neighbour:
			x.fail(another, "witness %s is the primary: both are at %s", w.Address, mac)
		case shown.Answers:
			x.good("witness %s replies (%s)", w.Address, *shown.By)
		case o.Witness == state.WitnessGood:
			x.warn("find out why; one witness that replies is enough", "witness %s does not reply", w.Address)
		default:
			x.fail("find out why, or set one that replies: without one takeovers are blocked", "witness %s does not reply", w.Address)
		}
	}
}

// macOf is where a witness on the link is, by the kernel's neighbour table, "" for
// unknown.
func (x *examination) macOf(w check.Witness) string {
	if w.Link == "" {
		return ""
	}
	mac, err := x.env.Neighbour(w.Link, w.Address)
	if err != nil {
		x.warn("find out why the neighbour table cannot be read", "the witness's MAC is unknown: %v", err)
	}
	return mac.String()
}

// holders are by whom each virtual IP is in use.
func (x *examination) holders() {
	for _, v := range x.Observation.VIPs {
		conflict := slices.IndexFunc(x.Observation.Evidence.Holders, func(h state.Holder) bool { return h.Address == v.Address.String() && h.MAC != "" })
		switch a := v.Address; {
		case v.Held && conflict >= 0:
			x.fail("remove it from one of the two; else the next check yields, if the other one does not",
				"address conflict: vip %s is on this machine, and in use by %s", a, x.Observation.Evidence.Holders[conflict].MAC)
		case v.Held:
			x.good("vip %s is in use by this machine", a)
		case v.AtPrimary:
			x.good("vip %s is in use by the primary (%s)", a, v.MAC)
		case v.InUse && v.MAC != "":
			x.good("vip %s is in use by %s%s", a, v.MAC, x.otherThanPrimary(v.MAC))
		case v.InUse:
			x.good("vip %s is in use: it replies to a ping", a)
		case v.Asked:
			x.warn("assign it on the primary; a takeover follows only when that is down", "vip %s is unassigned: there is no reply from it", a)
		default:
			x.warn("fix what was found about the interface and duplicate-check", "vip %s: it could not be asked whether it is in use", a)
		}
	}
}

// otherThanPrimary is a remark on the MAC of a holder, where the primary's is
// known to be another.
func (x *examination) otherThanPrimary(mac string) string {
	known, err := net.ParseMAC(x.Observation.Neighbour)
	other, _ := net.ParseMAC(mac)
	if err != nil || bytes.Equal(known, other) {
		return ""
	}
	return ", which is another interface of the primary, or another machine"
}

func protocol(a netip.Addr) string {
	if a.Is4() {
		return "ARP"
	}
	return "ND"
}
