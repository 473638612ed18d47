package failover

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// examineGround finds what a check stands on, as stand does, but goes on after
// what stops a check.
func (e *examination) examineGround(ctx context.Context) {
	e.examineTool()
	if err := e.lookAround(); err != nil {
		e.refuse(err)
		return
	}
	if err := e.examineHost(ctx); err != nil {
		e.refuse(err)
		return // all else would be about ourselves
	}
	if err := e.placeAliases(); err != nil {
		e.refuse(err)
	}
	linked := e.examineLinks()
	e.examineSource()
	e.examineAliases()
	e.examineVIPName(ctx)
	e.findWitnesses()
	if linked && e.MayPing() == nil && ctx.Err() == nil {
		e.examineAnswers(ctx) // else nobody could answer, which says nothing of them
	}
}

func (e *examination) examineTool() {
	switch {
	case len(e.set.VIPs) == 0:
		e.warn("set vip, where it is to take over", "no vip: checks only report, and never take over")
		return
	case e.Tool == nil:
		return
	}
	e.good("tool: %s", e.Tool)
	if e.set.Lease == 0 {
		return
	}
	if err := e.canLease(); err != nil {
		e.refuse(err)
		return
	}
	if text := e.shortLease(); text != "" {
		e.warn("make the lease longer, or check more often", "%s", text)
		return
	}
	e.good("lease %s: can be set", config.DurationText(e.set.Lease))
}

// examineHost finds the primary. The error is that it is this machine.
func (e *examination) examineHost(ctx context.Context) error {
	g := &e.ground
	fault := e.blamed(func() { e.findPrimary(ctx) })
	_, err := netip.ParseAddr(e.set.Host)
	named := err != nil
	const byAddress = "give its address: then no name server has to be alive when the primary is not"
	e.passOn(byAddress)
	switch {
	case fault == "":
	case g.route.Local: // a virtual IP that is pinged where it is not held
		e.warn("nothing, while it is held here", "host %s: %s", e.set.Host, fault)
		return nil
	case g.address.IsValid():
		e.fail("see the routes of this machine: ip route get "+g.address.String(), "host %s: %s", e.set.Host, fault)
		return nil
	default:
		e.fail("see that the name resolves, or give the address", "host %s: %s", e.set.Host, fault)
		return nil
	}
	if err := e.isNotThePrimary(); err != nil {
		return err
	}
	where := "by way of " + g.route.Gateway.String() + ", through " + g.route.Interface
	switch {
	case g.route.Local:
		where = "this machine"
	case g.route.OnLink:
		where = "on the link of " + g.route.Interface
	}
	if named {
		e.warn(byAddress, "host %s is a name, now of %s, %s", e.set.Host, g.address, where)
		return nil
	}
	e.good("host %s: %s", g.address, where)
	return nil
}

// examineLinks says whether all interfaces can be used.
func (e *examination) examineLinks() bool {
	usable := true
	for _, name := range e.links() {
		if fault := e.linkFault(name); fault != "" {
			mend := "put the cable in, or see what it leads to"
			link, there := e.ground.kernel.Link(name)
			switch {
			case !there:
				mend = "see what there is, and what interface and vip name: ip link"
			case !link.Up:
				mend = "ip link set " + name + " up"
			}
			e.fail(mend, "%s", fault)
			usable = false
			continue
		}
		link, _ := e.ground.kernel.Link(name)
		if !link.ARP && !link.Loopback && len(e.set.VIPs) > 0 {
			e.warn("choose another interface: nobody can be asked, or told of a takeover, by ARP there",
				"interface %q resolves no neighbours", name)
			continue
		}
		e.good("interface %q is up and has a carrier", name)
	}
	return usable
}

func (e *examination) examineSource() {
	e.findSource()
	g := &e.ground
	source := e.set.Source
	switch {
	case source.IsValid() && !g.kernel.Holds(source):
		e.fail("give one that ip addr shows, or leave it out", "source %s is no address of this machine", source)
	case g.fault != "" || g.route.Local:
	case !g.source.IsValid():
		e.warn("give this machine an address of its own there", "interface %q has no address to ping %s from", g.route.Interface, g.address)
	default:
		e.good("pings come from %s", g.source)
	}
}

// examineAliases looks at each virtual IP as it is, or would be raised.
func (e *examination) examineAliases() {
	k := e.ground.kernel
	for _, a := range e.leftovers() {
		e.warn(Removal(a), "%s", LeftBehind(a))
	}
	fits := map[netip.Addr]bool{}
	for _, a := range e.ground.aliases {
		addr := a.Prefix.Addr()
		if places := k.Assignments(addr); len(places) > 0 {
			e.examineHeld(places[0])
			continue
		}
		e.examinePrefix(a)
		if e.Tool == nil || e.linkFault(a.Interface) != "" {
			continue
		}
		if _, err := e.Tool.RaisePlan(k, a); err != nil {
			e.fail("change label, interface or tool", "%v", err)
			continue
		}
		fits[addr] = true
	}
	if e.Tool == nil {
		return
	}
	plans, _ := e.raisePlans(func(a netip.Addr) bool { return fits[a] })
	for _, argv := range plans {
		e.good("a takeover runs: %s", proc.Line(argv))
	}
}

// examineHeld looks at a virtual IP that stands here.
func (e *examination) examineHeld(p vip.Assignment) {
	addr := p.Address.Prefix.Addr()
	if e.isOwn(p) {
		e.fail(otherVIP, "%s", ownVIP(p))
		return
	}
	if e.isRaised(addr) {
		e.good("vip %s is on this machine, raised by pingover on %s", addr, p.Interface)
		return
	}
	if e.unknown {
		e.warn("see what is said of the record: it would tell",
			"vip %s is on this machine, on %s, and it is not known whether pingover has raised it", addr, p.Interface)
		return
	}
	e.warn("if it is this machine's own address, it cannot be a vip; if you raised it by hand, nothing",
		"vip %s is on this machine, on %s, and pingover has not raised it", addr, p.Interface)
}

// examinePrefix compares a virtual IP with the networks of its interface.
func (e *examination) examinePrefix(a vip.Alias) {
	link, ok := e.ground.kernel.Link(a.Interface)
	if !ok {
		return
	}
	addr := a.Prefix.Addr()
	var network netip.Prefix
	for _, has := range link.Addresses {
		p := has.Prefix.Masked()
		if !p.IsSingleIP() && p.Contains(addr) && !e.isVIP(has.Prefix.Addr()) && (!network.IsValid() || p.Bits() > network.Bits()) {
			network = p
		}
	}
	switch {
	case !network.IsValid():
		e.warn("see that vip and interface are right", "vip %s is in no network of interface %q", addr, a.Interface)
	case !a.Prefix.IsSingleIP() && a.Prefix.Bits() != network.Bits():
		e.warn(fmt.Sprintf("give it without a length: %s", addr), "vip %s: the network of interface %q is a /%d", a.Prefix, a.Interface, network.Bits())
	case a.Label == "" && addr.Is4():
		if _, fits := vip.FreeLabel(e.ground.kernel, a.Interface); !fits {
			e.good("vip %s: raised without a label, for the name of interface %q leaves no room for one", addr, a.Interface)
		}
	}
}

// examineVIPName sees where the clients' name leads to.
func (e *examination) examineVIPName(ctx context.Context) {
	name := e.set.VIPName
	if name == "" {
		return
	}
	found, err := e.Lookup(ctx, name)
	if err != nil {
		e.fail("mend the DNS, or this machine's way to it", "vip-name %s: %v", name, err)
		return
	}
	var wrong, missing []netip.Addr
	for _, a := range found {
		if !e.isVIP(a) {
			wrong = append(wrong, a)
		}
	}
	for _, a := range e.vips() {
		if !slices.Contains(found, a) {
			missing = append(missing, a)
		}
	}
	switch {
	case len(wrong) > 0:
		e.fail("let the name lead to the vip alone: other addresses do not follow the primary",
			"vip-name %s leads to %s, which is no vip", name, addressList(wrong))
	case len(missing) > 0:
		e.warn("add that to the DNS, or take the vip out", "vip-name %s does not lead to %s", name, addressList(missing))
	default:
		e.good("vip-name %s leads to %s", name, addressList(found))
	}
}

// examineAnswers asks everybody, as a check does that takes nothing over.
func (e *examination) examineAnswers(ctx context.Context) {
	if len(e.set.VIPs) > 0 && !e.set.DuplicateCheck {
		e.warn("leave duplicate-check on", "duplicate-check is off: a takeover does not ask on the link whether somebody has the addresses")
	}
	fault := e.blamed(func() { e.lookOnce(ctx) })
	if ctx.Err() != nil {
		return
	}
	if e.seen.Primary == check.Up {
		served, end := e.askWhoServes(ctx)
		served()
		end()
		e.see()
	}
	e.passOn("see what is said of that interface")
	if fault != "" {
		e.fail("mend that first", "not everybody could be asked: %s", fault)
	}
	e.examinePrimary()
	e.examineWitnesses()
	e.examineServers()
}

// examinePrimary says how the primary answers now.
func (e *examination) examinePrimary() {
	a := e.ground.address
	if len(e.evidence.Rounds) == 0 {
		return // said above: it cannot be pinged
	}
	round := e.evidence.Rounds[0]
	switch {
	case e.seen.Primary == check.Up:
		e.good("primary %s answers a ping (%.1f ms)", a, *round.RTT)
	case e.seen.Primary == check.Down && e.seen.AnswersARP:
		e.fail("let its firewall answer pings: it will count as down, and never be taken over from",
			"primary %s answers no ping, but does by %s: %s", a, by(a), e.rec.Neighbour)
	case e.seen.Primary == check.Down && e.holding():
		e.warn("mend the primary: its virtual IP is here meanwhile", "primary %s did not answer %d pings", a, round.Sent)
	case e.seen.Primary == check.Down:
		e.fail("see whether it is down, and whether host is right", "primary %s did not answer %d pings", a, round.Sent)
	}
	if e.seen.Primary != check.Up || len(e.set.VIPs) == 0 || !e.set.DuplicateCheck {
		return
	}
	switch {
	case !e.neighbour():
		e.good("primary %s is not on the link: only pings tell whether it is alive", a)
	case e.seen.AnswersARP:
		e.good("primary %s answers by %s: %s", a, by(a), e.rec.Neighbour)
	case e.seen.OnLink:
		e.warn("see what answers for it: a router in between may do so", "primary %s answers pings, but nobody by %s", a, by(a))
	}
}

// examineWitnesses says who would prove that this machine's network works.
func (e *examination) examineWitnesses() {
	switch {
	case len(e.set.VIPs) == 0 && e.ground.never:
		return
	case e.ground.never:
		e.fail("set witness to a third machine that always answers, or to none", "%s", noWitness)
		return
	case len(e.ground.witness) == 0:
		e.warn("set witness to a third machine that always answers", "witness none: with its own cable out, this machine believes that the primary is down")
		return
	}
	for i, w := range e.ground.witness {
		shown := e.evidence.Witnesses[i]
		switch mac := e.macOf(w); {
		case e.ground.kernel.Holds(w.address):
			e.fail("give a third machine", "witness %s is this machine", w.address)
		case mac != "" && mac == e.rec.Neighbour:
			e.fail("give a third machine", "witness %s is the primary: both are %s", w.address, mac)
		case shown.Answers:
			e.good("witness %s answers (%s)", w.address, *shown.By)
		case e.seen.Witness == state.WitnessGood:
			e.warn("see why; while another one answers, that is enough", "witness %s does not answer", w.address)
		default:
			e.fail("see why, or give one that answers: without one a takeover is refused", "witness %s does not answer", w.address)
		}
	}
}

// macOf is who answered for a witness on the link, "" where nobody did.
func (e *examination) macOf(w witness) string {
	if ear, ok := e.ears[w.link]; ok {
		if heard := claims(ear, w.address, e.since); len(heard) > 0 {
			return heard[len(heard)-1].MAC.String()
		}
	}
	mac, err := e.Neighbour(w.link, w.address)
	if err != nil {
		e.warn("see why the neighbour table cannot be read", "the witness's MAC is unknown: %v", err)
	}
	return mac.String()
}

// examineServers says who serves each virtual IP.
func (e *examination) examineServers() {
	rival, _ := e.rival(e.since)
	for _, sight := range e.seen.VIPs {
		a := sight.Address
		switch {
		case sight.Held && rival.Address == a.String():
			e.fail("take it off one of the two; the next check gives way, if nobody does", "vip %s is here, and at %s too", a, rival.MAC)
		case sight.Held:
			e.good("vip %s is served by this machine", a)
		case sight.AtPrimary:
			e.good("vip %s is served by the primary (%s)", a, sight.MAC)
		case sight.InUse && sight.MAC != "":
			e.good("vip %s is served by %s%s", a, sight.MAC, e.notThePrimarys(sight.MAC))
		case sight.InUse:
			e.good("vip %s is served: it answers a ping", a)
		case sight.Asked:
			e.warn("raise it on the primary; a takeover follows only when that is down", "vip %s is served by nobody", a)
		default:
			e.warn("see what is said of the interface and of duplicate-check", "vip %s: nobody could be asked who serves it", a)
		}
	}
}

// notThePrimarys is a remark on the MAC of who serves, where it is known that
// the primary has another.
func (e *examination) notThePrimarys(mac string) string {
	known, err := net.ParseMAC(e.rec.Neighbour)
	other, _ := net.ParseMAC(mac)
	if err != nil || bytes.Equal(known, other) {
		return ""
	}
	return ", which is another interface of the primary, or another machine"
}

func by(a netip.Addr) string { return strings.ToUpper(protocol(a)) }
