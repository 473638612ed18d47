package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// Local is the state of this machine: where the primary is, by which interface
// it is reached, where each virtual IP is or would be assigned, and what makes
// it impossible to ask. Nothing of it was asked of other machines.
type Local struct {
	Snapshot  *vip.Snapshot
	BootID    string
	Address   netip.Addr // the primary's; zero when its name does not resolve
	Route     vip.Route  // to it
	Source    netip.Addr // of the pings; zero: the kernel chooses
	Aliases   []vip.Alias
	Witnesses []run.Witness
	Gateways  []state.Gateway // found as automatic witnesses
	NoWitness bool            // witness auto, and no gateway was ever found
	faults    faults
}

// survey asks this machine, and nobody else but the name server, for what the
// check rests on. The errors are settings that do not fit this machine, or that
// the kernel cannot be asked; faults are part of the local state.
func survey(ctx context.Context, j *job, rec *state.Record) (l Local, errs []error) {
	j.Doing("finding the primary")
	refuse := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	refuse(canLease(j))
	var err error
	if l.Snapshot, err = j.Snapshot(); err != nil {
		refuse(&run.Error{Code: state.Unknown.Code(), Text: fmt.Sprintf("the kernel cannot be asked for its addresses: %v", err)})
		return l, errs
	}
	if l.BootID, err = j.BootID(); err != nil {
		j.Infof("the boot id cannot be read: %v", err)
		l.BootID = rec.BootID
	}
	findPrimary(ctx, j, rec, &l)
	refuse(isThePrimary(j, rec, &l))
	refuse(hasOwnVIP(j, rec, &l))
	if j.mode != modeCheck {
		l.faults = nil // a manual command pings nobody: the primary may be gone for good
	}
	refuse(placeAliases(j, &l))
	l.faults = l.faults.and(linkFaults(j, l)...)
	findSource(j, &l)
	findWitnesses(j, rec, &l)
	if len(l.faults) == 0 && !l.holding(j) {
		errs = append(errs, canAssign(j, l)...)
	}
	return l, errs
}

// canAssign are the virtual IPs that the tool cannot assign where they belong.
func canAssign(j *job, l Local) (errs []error) {
	for _, a := range l.Aliases {
		if j.Tool == nil || l.LinkFault(a.Interface) != "" {
			continue
		}
		if _, err := j.Tool.RaisePlan(l.Snapshot, a); err != nil {
			errs = append(errs, &run.Error{Code: run.CodeSettings, Text: err.Error(), Hint: "change label, interface or tool"})
		}
	}
	return errs
}

// again is the local state with a new snapshot. A carrier lost in the middle of
// a round makes pings vanish without any error.
func (l Local) again(j *job) Local {
	snapshot, err := j.Snapshot()
	if err != nil {
		f := faultOf(FaultKernel, "the kernel cannot be asked for its interfaces: %v", err)
		j.Infof("%s", f.Text) // after the decision nobody reads the fault
		l.faults = l.faults.and(f)
		return l
	}
	l.Snapshot = snapshot
	if a := l.Address; snapshot.Holds(a) && !mayPingItself(j, a) {
		l.faults = l.faults.and(faultOf(FaultSelf, "%s", hereNow(a)))
	}
	l.faults = l.faults.and(linkFaults(j, l)...)
	return l
}

// canLease sees that the tool can give an alias a lifetime.
func canLease(j *job) error {
	if j.set.Lease == 0 || len(j.set.VIPs) == 0 || j.Tool == nil {
		return nil
	}
	if err := j.Tool.CanLease(); err != nil {
		return &run.Error{Code: run.CodeSettings, Text: fmt.Sprintf("lease %q: %v", config.DurationText(j.set.Lease), err)}
	}
	return nil
}

// findPrimary resolves the host and asks the kernel for the route to it.
func findPrimary(ctx context.Context, j *job, rec *state.Record, l *Local) {
	fault := func(kind FaultKind, format string, args ...any) {
		l.faults = l.faults.and(faultOf(kind, format, args...))
	}
	address, err := j.Resolve(ctx, j.set.Host)
	switch {
	case err == nil:
		l.Address = address
	case rec.Address.IsValid():
		l.Address = rec.Address
		j.Infof("%v; going on with its last good address, %s", err, l.Address)
	default:
		fault(FaultHost, "%v", err)
		return
	}
	if l.Snapshot.Holds(l.Address) {
		if j.isVIP(l.Address) {
			fault(FaultVIP, "%s", hereNow(l.Address))
		}
		l.Route.Local = true
		return
	}
	l.Route, err = j.Route(l.Address, j.set.Source)
	switch {
	case err != nil:
		fault(FaultRoute, "no %v", err)
	case l.Route.Broadcast:
		fault(FaultHost, "%s is a broadcast address: a reply proves nothing", l.Address)
	}
}

// mayPingItself tells whether the host may be this machine: by a loopback address,
// where nothing could be taken over.
func mayPingItself(j *job, a netip.Addr) bool { return a.IsLoopback() && len(j.set.VIPs) == 0 }

// isThePrimary is the error that the host is this machine. An address that was assigned here for another
// cluster cannot be asked for while it is here.
func isThePrimary(j *job, rec *state.Record, l *Local) error {
	a := l.Address
	if !a.IsValid() || !l.Snapshot.Holds(a) || j.isVIP(a) || mayPingItself(j, a) {
		return nil
	}
	if !a.IsLoopback() && !slices.ContainsFunc(l.Snapshot.Assignments(a), func(p vip.Assignment) bool {
		return !isAlias(p) && (!p.Address.Prefix.IsSingleIP() || l.isOwn(j, rec, p))
	}) {
		l.faults = l.faults.and(faultOf(FaultSelf, "%s", hereNow(a)))
		return nil
	}
	return &run.Error{
		Code: run.CodeSettings, Text: fmt.Sprintf("this machine is the primary: %s is its own address", a),
		Hint: "pingover runs on the standby; set host to the other machine",
	}
}

// hasOwnVIP is the error that a virtual IP is this machine's own address: that
// would count as held, and be released sooner or later.
func hasOwnVIP(j *job, rec *state.Record, l *Local) error {
	for _, v := range j.set.VIPs {
		for _, p := range l.Snapshot.Assignments(v.Prefix.Addr()) {
			if l.isOwn(j, rec, p) {
				return &run.Error{Code: run.CodeSettings, Text: ownVIP(p), Hint: otherVIP}
			}
		}
	}
	return nil
}

func ownVIP(p vip.Assignment) string {
	return fmt.Sprintf("vip %s is this machine's own address, on %s", p.Address.Prefix.Addr(), p.Interface)
}

const otherVIP = "set vip to an address that only follows the primary"

// isOwn tells whether an assignment is an address by which this machine is on
// its network: neither pingover nor anybody else has assigned it as an alias,
// and it is the first IPv4 address of its interface, or the only one in its
// network there. One without a network, as clouds give, is its own when there is
// no other. An address that is native to one machine of a pair comes in addition
// to that machine's own.
func (l Local) isOwn(j *job, rec *state.Record, p vip.Assignment) bool {
	has, addr := p.Address, p.Address.Prefix.Addr()
	if has.Secondary || isAlias(p) || l.BootID == rec.BootID && rec.Ours(recorded(rec.VIPs, addr)) {
		return false
	}
	link, _ := l.Snapshot.Link(p.Interface)
	if has.Prefix.IsSingleIP() {
		return !slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			other := a.Prefix.Addr()
			return other != addr && other.Is4() == addr.Is4() && !other.IsLinkLocalUnicast() && !j.isVIP(other)
		})
	}
	first := slices.IndexFunc(link.Addresses, func(a vip.Address) bool { return a.Prefix.Addr().Is4() })
	return addr.Is4() && link.Addresses[first].Prefix == has.Prefix ||
		!slices.ContainsFunc(link.Addresses, func(a vip.Address) bool {
			return a.Prefix.Masked().Contains(addr) && !a.Deprecated && !j.isVIP(a.Prefix.Addr())
		})
}

// isAlias tells whether an address is assigned as aliases are: under a label of
// its own, or never chosen as a source.
func isAlias(p vip.Assignment) bool {
	return p.Address.Deprecated || p.Address.Prefix.Addr().Is4() && p.Address.Label != p.Interface
}

// recorded is the alias of an address, zero for none.
func recorded(aliases []state.Alias, a netip.Addr) state.Alias {
	for _, known := range aliases {
		if known.Prefix.Addr() == a {
			return known
		}
	}
	return state.Alias{}
}

// placeAliases finds the interface of each virtual IP: where it is assigned now,
// else as configured, else the one whose network holds it, else the one that
// leads to the primary. An ambiguous choice is an error.
func placeAliases(j *job, l *Local) (err error) {
	for _, v := range j.set.VIPs {
		alias := vip.Alias{Prefix: v.Prefix, Interface: cmp.Or(v.Interface, j.set.Interface), Label: j.set.Label, Lease: j.set.Lease, Reserved: j.set.Reserved}
		networks := l.Snapshot.Networks(v.Prefix.Addr(), j.vips()...)
		assigned := l.Snapshot.Assignments(v.Prefix.Addr())
		switch {
		case len(assigned) > 0:
			alias.Interface = assigned[0].Interface
			if label := assigned[0].Address.Label; label != alias.Interface { // that is none of its own
				alias.Label = label
			}
		case alias.Interface != "":
		case len(networks) == 1:
			alias.Interface = networks[0]
		case len(networks) > 1:
			return &run.Error{
				Code: run.CodeSettings, Text: fmt.Sprintf("vip %q: the networks of %s all hold it", v.Prefix, strings.Join(networks, " and ")),
				Hint: fmt.Sprintf("set interface, or write %s@%s", v.Prefix.Addr(), networks[0]),
			}
		case l.Route.Interface != "":
			alias.Interface = l.Route.Interface
		default:
			l.faults = l.faults.and(faultOf(FaultInterface, "no interface for %s: no network of this machine holds it, and no route leads to %s", v.Prefix.Addr(), j.set.Host))
		}
		l.Aliases = append(l.Aliases, alias)
	}
	return nil
}

// linkFaults are the interfaces that are needed and cannot be used.
func linkFaults(j *job, l Local) (found []Fault) {
	for _, name := range l.links(j) {
		if text := l.LinkFault(name); text != "" {
			found = append(found, Fault{FaultInterface, text})
		}
	}
	return found
}

// links are the interfaces that are needed.
func (l Local) links(j *job) []string {
	names := []string{j.set.Interface, l.Route.Interface}
	for _, a := range l.Aliases {
		names = append(names, a.Interface)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// LinkFault is what is wrong with an interface, "" for nothing.
func (l Local) LinkFault(name string) string {
	link, ok := l.Snapshot.Link(name)
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

// findSource chooses the address that the pings come from.
func findSource(j *job, l *Local) {
	if len(l.faults) > 0 || !l.Address.IsValid() {
		return
	}
	l.Source = j.set.Source
	if !l.Source.IsValid() && !l.Route.Local {
		l.Source = l.Snapshot.Source(l.Route.Interface, l.Address, j.vips())
	}
}

// findWitnesses lists who can prove that this machine's own network works. The
// automatic one is the default gateway of the interface of the first virtual IP
// (else of the route to the primary), unless that is the primary or a virtual IP
// itself; the last one known counts when the route is gone.
func findWitnesses(j *job, rec *state.Record, l *Local) {
	addresses := j.set.Witness.Addresses
	if j.set.Witness.Auto {
		l.Gateways = gateways(j, rec, l)
		l.NoWitness = len(l.Gateways) == 0
		for _, g := range l.Gateways {
			addresses = append(addresses, g.Address)
		}
	}
	for _, a := range addresses {
		w := run.Witness{Address: a}
		if route, err := j.Route(a, netip.Addr{}); err == nil && route.OnLink {
			w.Link = route.Interface
		}
		l.Witnesses = append(l.Witnesses, w)
	}
}

func gateways(j *job, rec *state.Record, l *Local) (found []state.Gateway) {
	name := l.Route.Interface
	if len(l.Aliases) > 0 {
		name = l.Aliases[0].Interface
	}
	families := map[bool]bool{}
	if l.Address.IsValid() {
		families[l.Address.Is6()] = true
	}
	for _, a := range j.vips() {
		families[a.Is6()] = true
	}
	for _, v6 := range []bool{false, true} {
		if !families[v6] {
			continue
		}
		gateway, ok, err := j.Gateway(name, v6, j.set.Source)
		if err != nil || !ok {
			gateway = rec.Gateway(name, v6)
		}
		if !gateway.IsValid() || gateway == l.Address || j.isVIP(gateway.WithZone("")) {
			continue
		}
		mac, err := j.Neighbour(name, gateway)
		if err != nil {
			j.Warnf("the gateway's MAC is unknown: %v", err)
		}
		if mac != nil && mac.String() == rec.Neighbour {
			continue // the primary by another address
		}
		found = append(found, state.Gateway{Interface: name, Address: gateway})
	}
	return found
}

// held are the virtual IPs that are on this machine.
func (l Local) held(j *job) []netip.Addr {
	return slices.DeleteFunc(j.vips(), func(a netip.Addr) bool { return !l.Snapshot.Holds(a) })
}

func (l Local) holding(j *job) bool { return len(l.held(j)) > 0 }

// neighbour tells whether the primary is on the link, where ARP or ND reaches it
// even when its pings are filtered.
func (l Local) neighbour() bool {
	return l.Address.IsValid() && l.Route.OnLink && !l.Route.Local
}

// target is a virtual IP with the interface where it is, or is to be assigned.
func (l Local) target(a netip.Addr) vip.Target {
	t := vip.Target{Address: a}
	if assigned := l.Snapshot.Assignments(a); len(assigned) > 0 {
		t.Interface = assigned[0].Interface
		return t
	}
	for _, alias := range l.Aliases {
		if alias.Prefix.Addr() == a {
			t.Interface = alias.Interface
		}
	}
	return t
}

// targets are the virtual IPs by the interfaces of their aliases.
func (l Local) targets() (targets []vip.Target) {
	for _, a := range l.Aliases {
		targets = append(targets, vip.Target{Interface: a.Interface, Address: a.Prefix.Addr()})
	}
	return targets
}

// shownInterface is the one that reports name.
func (l Local) shownInterface() string {
	if len(l.Aliases) > 0 {
		return l.Aliases[0].Interface
	}
	return l.Route.Interface
}

// leads tells whether the network of this machine leads to an address, as far as
// the kernel knows. A witness that cannot be asked all the same is no sign of
// isolation: the fault is in this machine.
func (l Local) leads(j *job, a netip.Addr) bool {
	route, err := j.Route(a, netip.Addr{})
	return err == nil && l.LinkFault(route.Interface) == ""
}

// unheard is why the silence of addresses is no answer: the cable went out
// meanwhile, or listening ended. Nil: an answer would have been heard.
func (l Local) unheard(asker *vip.Asker, silent []netip.Addr) error {
	for _, a := range silent {
		t := l.target(a)
		if err := asker.Err(t.Interface); err != nil {
			return err
		}
		if fault := l.LinkFault(t.Interface); fault != "" {
			return errors.New(fault)
		}
	}
	return nil
}
