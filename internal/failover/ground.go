package failover

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// ground is what a check stands on: where the primary is, by which interface
// it is reached, where each virtual IP is or would be raised, and what was on
// this machine when the check began.
type ground struct {
	kernel  *vip.Snapshot
	address netip.Addr // the primary's; zero when its name does not resolve
	route   vip.Route  // to it
	source  netip.Addr // of the pings; zero: the kernel chooses
	aliases []vip.Alias
	witness []witness
	never   bool // witness auto, and no gateway was ever found

	// fault says what makes it impossible to ask, "" when nothing does. The
	// verdict of such a check is unknown.
	fault string
	self  string // the fault when it is only that the host is a virtual IP that is here
}

// ground finds out what the check stands on. An error is a setting that does
// not fit this machine; a fault is left in the ground.
func (r *run) stand(ctx context.Context) error {
	g := &r.ground
	r.doing("finding the primary")
	if err := r.canLease(); err != nil {
		return err
	}
	if err := r.lookAround(); err != nil {
		return err
	}
	r.findPrimary(ctx)
	if g.address.IsValid() {
		r.evidence.Address = g.address.String()
	}
	if err := r.isNotThePrimary(); err != nil {
		return err
	}
	if err := r.hasNoOwnVIP(); err != nil {
		return err
	}
	if r.typed != "" {
		g.fault = "" // it may be dead and gone: what is done by hand pings nobody
	}
	if err := r.placeAliases(); err != nil {
		return err
	}
	r.checkLinks()
	r.findSource()
	r.findWitnesses()
	if g.fault == "" && !r.holding() {
		return r.rehearseRaise()
	}
	return nil
}

// canLease sees that the tool can give an alias the lifetime that is wanted.
func (r *run) canLease() error {
	if r.set.Lease == 0 || len(r.set.VIPs) == 0 {
		return nil
	}
	if err := r.Tool.CanLease(); err != nil {
		return &Error{Code: codeSettings, Text: fmt.Sprintf("lease %q: %v", config.DurationText(r.set.Lease), err)}
	}
	return nil
}

// lookAround asks the kernel. Without its view nothing is known of what is
// held here.
func (r *run) lookAround() (err error) {
	if r.ground.kernel, err = r.Snapshot(); err != nil {
		return &Error{Code: state.Unknown.Code(), Text: fmt.Sprintf("the kernel cannot be asked for its addresses: %v", err)}
	}
	return nil
}

// isNotThePrimary sees that the host is another machine. One that stands by
// for nothing may ping itself; and an address that was raised here, as another
// cluster's virtual IP is, cannot be asked for while it is here.
func (r *run) isNotThePrimary() error {
	a := r.ground.address
	if !a.IsValid() || !r.ground.kernel.Holds(a) || r.isVIP(a) || a.IsLoopback() && len(r.set.VIPs) == 0 {
		return nil
	}
	if !a.IsLoopback() && !slices.ContainsFunc(r.ground.kernel.Assignments(a), func(p vip.Assignment) bool { return !isAlias(p) && (!p.Address.Prefix.IsSingleIP() || r.isOwn(p)) }) {
		r.ground.blame("%s", hereNow(a))
		return nil
	}
	return &Error{
		Code: codeSettings, Text: fmt.Sprintf("this machine is the primary: %s is its own address", a),
		Hint: "pingover runs on the standby; --host is the other machine",
	}
}

// hasNoOwnVIP sees that no virtual IP is an address by which this machine is on
// its network: that would count as held, and be given up sooner or later.
func (r *run) hasNoOwnVIP() error {
	for _, v := range r.set.VIPs {
		for _, p := range r.ground.kernel.Assignments(v.Prefix.Addr()) {
			if r.isOwn(p) {
				return &Error{Code: codeSettings, Text: ownVIP(p), Hint: otherVIP}
			}
		}
	}
	return nil
}

func ownVIP(p vip.Assignment) string {
	return fmt.Sprintf("vip %s is this machine's own address, on %s", p.Address.Prefix.Addr(), p.Interface)
}

const otherVIP = "give another vip: one that only follows the primary"

// isOwn says whether this machine is on its network by the address at p: one
// that neither pingover nor anybody else has raised as an alias, and that is the
// first IPv4 address of its interface, or without which the machine would have
// left its network there. One without a network, as clouds give, is its own when
// there is no other. An address that is native to one machine of a pair stands
// beside that machine's own.
func (r *run) isOwn(p vip.Assignment) bool {
	has, addr := p.Address, p.Address.Prefix.Addr()
	if has.Secondary || isAlias(p) || r.isOurs(addr) {
		return false
	}
	link, _ := r.ground.kernel.Link(p.Interface)
	if has.Prefix.IsSingleIP() {
		return !slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			other := a.Prefix.Addr()
			return other != addr && other.Is4() == addr.Is4() && !other.IsLinkLocalUnicast() && !r.isVIP(other)
		})
	}
	first := slices.IndexFunc(link.Addresses, func(a vip.Address) bool { return a.Prefix.Addr().Is4() })
	return addr.Is4() && link.Addresses[first].Prefix == has.Prefix ||
		!slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			return a.Prefix.Masked().Contains(addr) && !a.Deprecated && !r.isVIP(a.Prefix.Addr())
		})
}

// isAlias says whether an address stands as aliases are raised: under a label of
// its own, or never chosen as a source.
func isAlias(p vip.Assignment) bool {
	return p.Address.Deprecated || p.Address.Prefix.Addr().Is4() && p.Address.Label != p.Interface
}

// isOurs says whether a was raised by pingover since this machine booted, or may
// have been by a run that was killed before it could write that down.
func (r *run) isOurs(a netip.Addr) bool {
	if boot, err := r.BootID(); err == nil && boot != r.rec.BootID {
		return false
	}
	return r.isRaised(a) || r.rec.Role == state.Taking || r.rec.Role == state.Releasing
}

// findSource chooses the address that the pings come from.
func (r *run) findSource() {
	g := &r.ground
	if g.fault != "" || !g.address.IsValid() {
		return
	}
	g.source = r.set.Source
	if !g.source.IsValid() && !g.route.Local {
		g.source = g.kernel.Source(g.route.Interface, g.address, r.vips())
	}
}

// findPrimary resolves the host and asks the kernel for the route to it.
func (r *run) findPrimary(ctx context.Context) {
	g := &r.ground
	address, err := r.Resolve(ctx, r.set.Host)
	switch {
	case err == nil:
		g.address = address
	case r.rec.Address.IsValid():
		g.address = r.rec.Address
		r.note("%v; going on with its last good address, %s", err, g.address)
	default:
		g.blame("%v", err)
		return
	}
	if g.kernel.Holds(g.address) {
		if r.isVIP(g.address) {
			g.blame("%s", hereNow(g.address))
			g.self = g.fault
		}
		g.route.Local = true
		return
	}
	g.route, err = r.Route(g.address)
	switch {
	case err != nil:
		g.blame("no %v", err)
	case g.route.Broadcast:
		g.blame("%s is a broadcast address: whoever answers, it proves nothing", g.address)
	}
}

// placeAliases finds the interface of each virtual IP: where it stands now,
// else as configured, else the one whose network holds it, else the one that
// leads to the primary. Doubt is an error.
func (r *run) placeAliases() error {
	g := &r.ground
	for _, v := range r.set.VIPs {
		alias := vip.Alias{Prefix: v.Prefix, Interface: cmp.Or(v.Interface, r.set.Interface), Label: r.set.Label, Lease: r.set.Lease, Reserved: r.set.Reserved}
		networks := g.kernel.Networks(v.Prefix.Addr(), r.vips()...)
		places := g.kernel.Assignments(v.Prefix.Addr())
		switch {
		case len(places) > 0:
			alias.Interface = places[0].Interface
			if label := places[0].Address.Label; label != alias.Interface { // that is none of its own
				alias.Label = label
			}
		case alias.Interface != "":
		case len(networks) == 1:
			alias.Interface = networks[0]
		case len(networks) > 1:
			return &Error{
				Code: codeSettings, Text: fmt.Sprintf("vip %q: the networks of %s all hold it", v.Prefix, strings.Join(networks, " and ")),
				Hint: fmt.Sprintf("say which with --interface, or write %s@%s", v.Prefix.Addr(), networks[0]),
			}
		case g.route.Interface != "":
			alias.Interface = g.route.Interface
		default:
			g.blame("no interface for %s: no network of this machine holds it, and no route leads to %s", v.Prefix.Addr(), r.set.Host)
		}
		g.aliases = append(g.aliases, alias)
	}
	return nil
}

// checkLinks looks whether every interface that is needed is there, up, and
// has a carrier. It is asked again after each round.
func (r *run) checkLinks() {
	for _, name := range r.links() {
		if fault := r.linkFault(name); fault != "" {
			r.ground.blame("%s", fault)
		}
	}
}

// links are the interfaces that are needed.
func (r *run) links() []string {
	names := []string{r.set.Interface, r.ground.route.Interface}
	for _, a := range r.ground.aliases {
		names = append(names, a.Interface)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// linkFault says what is wrong with an interface, "" for nothing.
func (r *run) linkFault(name string) string {
	link, ok := r.ground.kernel.Link(name)
	switch {
	case !ok:
		return fmt.Sprintf("there is no interface %q", name)
	case !link.Up:
		return fmt.Sprintf("interface %q is down", name)
	case !link.Carrier:
		return fmt.Sprintf("interface %q has no carrier: is the cable in?", name)
	}
	return ""
}

// again takes a new look at the kernel after a round: a carrier lost in the
// middle of it makes pings vanish without any error.
func (r *run) again() {
	kernel, err := r.Snapshot()
	if err != nil {
		// After the decision nobody reads the blame.
		r.note("the kernel cannot be asked for its interfaces: %v", err)
		r.ground.blame("the kernel cannot be asked for its interfaces: %v", err)
		return
	}
	r.ground.kernel = kernel
	if a := r.ground.address; kernel.Holds(a) {
		r.ground.blame("%s", hereNow(a))
	}
	r.checkLinks()
}

// rehearseRaise makes sure, while all is well, that the command of a takeover
// could be put together.
func (r *run) rehearseRaise() error {
	for _, a := range r.ground.aliases {
		if _, err := r.Tool.RaisePlan(r.ground.kernel, a); err != nil {
			return &Error{Code: codeSettings, Text: err.Error()}
		}
	}
	return nil
}

// witness is a third address, and how it can be asked.
type witness struct {
	address    netip.Addr
	link       string // where it is a neighbour; "" where it is not
	start, end string // by what it answered at the start and at the end of the round; "" silence
	unasked    bool   // it could not be asked, be it at the start or at the end
}

// findWitnesses lists who can prove that this machine's own network works.
// The automatic one is the default gateway of the interface of the first
// virtual IP (else of the route to the primary), unless that is the primary
// or a virtual IP itself; the last one known counts when the route is gone.
func (r *run) findWitnesses() {
	g := &r.ground
	addresses := r.set.Witness.Addresses
	if r.set.Witness.Auto {
		addresses = r.gateways()
		g.never = len(addresses) == 0
	}
	for _, a := range addresses {
		w := witness{address: a}
		if route, err := r.Route(a); err == nil && route.OnLink {
			w.link = route.Interface
		}
		g.witness = append(g.witness, w)
	}
}

func (r *run) gateways() []netip.Addr {
	g := &r.ground
	name := g.route.Interface
	if len(g.aliases) > 0 {
		name = g.aliases[0].Interface
	}
	families := map[bool]bool{}
	if g.address.IsValid() {
		families[g.address.Is6()] = true
	}
	for _, a := range r.vips() {
		families[a.Is6()] = true
	}
	var found []netip.Addr
	for _, v6 := range []bool{false, true} {
		if !families[v6] {
			continue
		}
		gateway, ok, err := r.Gateway(name, v6)
		if err != nil || !ok {
			gateway = r.rec.Gateway(name, v6)
		}
		if !gateway.IsValid() || gateway == g.address || r.isVIP(gateway.WithZone("")) {
			continue
		}
		mac, err := r.Neighbour(name, gateway)
		if err != nil {
			r.shout("the gateway's MAC is unknown: %v", err)
		}
		if mac != nil && mac.String() == r.rec.Neighbour {
			continue // the primary by another address
		}
		r.rec.SetGateway(name, gateway)
		found = append(found, gateway)
	}
	return found
}

func hereNow(a netip.Addr) string {
	return fmt.Sprintf("%s is on this machine now, so a ping would answer itself", a)
}

// blame adds to what makes it impossible to ask: the last cause found is
// often the plainest ("interface is down" after "no route").
func (g *ground) blame(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	switch {
	case g.fault == "":
		g.fault = why
	case !strings.Contains(g.fault, why):
		g.fault += "; " + why
	}
}

func (r *run) vips() []netip.Addr {
	addrs := make([]netip.Addr, len(r.set.VIPs))
	for i, v := range r.set.VIPs {
		addrs[i] = v.Prefix.Addr()
	}
	return addrs
}

func (r *run) isVIP(a netip.Addr) bool { return slices.Contains(r.vips(), a) }

// held are the virtual IPs that are here, by the latest look at the kernel.
func (r *run) held() []netip.Addr {
	return slices.DeleteFunc(r.vips(), func(a netip.Addr) bool { return !r.ground.kernel.Holds(a) })
}

func (r *run) holding() bool { return len(r.held()) > 0 }
