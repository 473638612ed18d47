package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/state"
	"pingover/vip"
)

// network is the primary, the interfaces, the virtual IPs, and what other machines
// reply.
func (x *examination) network(ctx context.Context) {
	x.host()
	x.links()
	x.source()
	x.aliases()
	x.vipName(ctx)
	if x.Probed {
		x.replies()
	}
}

func (x *examination) host() {
	for _, p := range x.Local.Paths {
		x.path(p)
	}
}

// path is one way to the primary.
func (x *examination) path(p observe.Path) {
	const byAddress = "set host to its address: a name server may be down when the primary is"
	where := "by way of " + p.Route.Gateway.String() + ", through " + p.Route.Interface
	switch {
	case p.Route.Local:
		where = "this machine"
	case p.Route.OnLink:
		where = "on the link of " + p.Route.Interface
	}
	fix := "set host to the address of the primary"
	switch f := p.Fault; {
	case p.Asked() && p.Host != p.Address.String():
		x.warn(byAddress, "host %s is a name, now of %s, %s", p.Host, p.Address, where)
		return
	case p.Asked():
		x.good("host %s: %s", p.Address, where)
		return
	case f.Kind == observe.FaultVIP, f.Kind == observe.FaultSelf: // pinged only while it is elsewhere
		x.warn("nothing, while it is assigned here", "host %s: %s", p.Host, f.Text)
		return
	case f.Kind == observe.FaultInterface: // see links
		return
	case f.Kind == observe.FaultOwn:
		if !slices.ContainsFunc(x.Refused, func(err error) bool { return err.Error() == f.Text }) {
			x.fail(p.OwnHint(), "%s", f.Text)
		}
		return
	case f.Kind == observe.FaultRoute:
		fix = "check the routes of this machine: ip route get " + p.Address.String()
	case !p.Address.IsValid():
		fix = "check that the name resolves, or set host to the address"
	}
	x.fail(fix, "host %s: %s", p.Host, p.Fault.Text)
}

// links are the interfaces that are needed: can they be used?
func (x *examination) links() {
	for _, name := range x.Local.NeededLinks() {
		link, ok := x.Local.Snapshot.Link(name)
		fault := x.Local.LinkFault(name)
		switch {
		case !ok:
			x.fail("compare interface and vip with the interfaces there are: ip link", "%s", fault)
		case !link.Up:
			x.fail("ip link set "+name+" up", "%s", fault)
		case fault != "":
			x.fail("connect the cable, or check what it leads to", "%s", fault)
		case !link.ARP && !link.Loopback && len(x.set.VIPs) > 0:
			x.warn("choose another interface: there is no ARP there, to ask others or to announce a takeover",
				"interface %q resolves no neighbours", name)
		default:
			x.good("interface %q is up and has a carrier", name)
		}
	}
}

func (x *examination) source() {
	source, l := x.set.Source, x.Local
	if source.IsValid() && !l.Snapshot.Holds(source) {
		x.fail("set source to an address that ip addr shows, or leave it out", "source %s is no address of this machine", source)
		return
	}
	var from []netip.Addr
	for _, p := range l.Paths {
		switch {
		case !p.Asked() || p.Route.Local:
		case !p.Source.IsValid():
			x.warn("assign an address to it", "interface %q has no address to ping %s from", p.Route.Interface, p.Address)
		case !slices.Contains(from, p.Source):
			from = append(from, p.Source)
			x.good("pings come from %s", p.Source)
		}
	}
}

// aliases are the virtual IPs as they are, or would be assigned.
func (x *examination) aliases() {
	for _, a := range x.Local.Leftovers(x.Record) {
		x.warn(failover.Removal(a), "%s", failover.LeftBehind(a))
	}
	own := x.Local.OwnVIPs(&x.Record)
	for _, a := range x.Local.Aliases {
		addr := a.Address()
		switch assigned := x.Local.Assigned(addr); {
		case slices.ContainsFunc(own, func(p vip.Assignment) bool {
			return p.Interface == a.Interface && p.Address.Prefix.Addr() == a.Prefix.Addr()
		}): // which is among the errors
		case len(assigned) > 0:
			x.assigned(addr, assigned[0].Interface)
		case a.Interface != "" && x.Local.LinkFault(a.Interface) == "" && x.Local.CannotAssign(a) != "": // of faults of the link see links
			x.fail("fix that, or remove the vip: the others are taken over without it", "vip %s cannot be taken over: %s", addr, x.Local.CannotAssign(a))
		case a.Interface == "":
			x.fail("set interface", "no interface for %s: no network of this machine holds it, and no route leads to the primary", addr)
		default:
			x.prefix(a)
		}
	}
	for _, argv := range x.Plans {
		x.good("a takeover runs: %s", proc.Line(argv))
	}
}

// assigned is a virtual IP that is on this machine.
func (x *examination) assigned(addr netip.Addr, name string) {
	ours := slices.ContainsFunc(x.Record.VIPs, func(a state.Alias) bool { return a.Address() == addr && x.Record.Ours(a) })
	switch {
	case ours && x.Record.BootID == x.Local.BootID:
		x.good("vip %s is on this machine, assigned by pingover on %s", addr, name)
	case x.RecordErr != nil:
		x.warn("fix the record: it would tell",
			"vip %s is on this machine, on %s, and it is unknown whether pingover has assigned it", addr, name)
	default:
		x.warn("if it is this machine's own address, it cannot be a vip; if you assigned it manually, nothing",
			"vip %s is on this machine, on %s, and pingover has not assigned it", addr, name)
	}
}

// prefix compares a virtual IP with the networks of its interface.
func (x *examination) prefix(a vip.Alias) {
	link, ok := x.Local.Snapshot.Link(a.Interface)
	if !ok {
		return
	}
	addr := a.Prefix.Addr()
	var vips []netip.Addr
	for _, v := range x.set.VIPs {
		vips = append(vips, v.Prefix.Addr())
	}
	network := observe.NetworkOf(link, addr, vips)
	switch {
	case !network.IsValid():
		x.warn("check vip and interface", "vip %s is in no network of interface %q", addr, a.Interface)
	case !a.Prefix.IsSingleIP() && a.Prefix.Bits() != network.Bits():
		x.warn(fmt.Sprintf("write it without a length: %s", addr), "vip %s: the network of interface %q is a /%d", a.Prefix, a.Interface, network.Bits())
	case a.Label == "" && addr.Is4():
		if _, fits := vip.FreeLabel(x.Local.Snapshot, a.Interface); !fits {
			x.good("vip %s: assigned without a label, for the name of interface %q leaves no room for one", addr, a.Interface)
		}
	}
}

// vipName is where the clients' name leads.
func (x *examination) vipName(ctx context.Context) {
	name := x.set.VIPName
	if name == "" {
		return
	}
	found, err := x.env.Resolve(ctx, name)
	if err != nil {
		x.fail("fix the DNS, or this machine's way to it", "vip-name %s: %v", name, err)
		return
	}
	var wrong, missing []netip.Addr
	for _, a := range found {
		if !x.isVIP(a) {
			wrong = append(wrong, a)
		}
	}
	for _, v := range x.set.VIPs {
		if !slices.Contains(found, v.Prefix.Addr()) {
			missing = append(missing, v.Prefix.Addr())
		}
	}
	switch {
	case len(wrong) > 0:
		x.fail("let the name lead to the vip alone: other addresses do not follow the primary",
			"vip-name %s leads to %s, which is no vip", name, observe.AddressList(wrong))
	case len(missing) > 0:
		x.warn("add that to the DNS, or remove the vip", "vip-name %s does not lead to %s", name, observe.AddressList(missing))
	default:
		x.good("vip-name %s leads to %s", name, observe.AddressList(found))
	}
}
