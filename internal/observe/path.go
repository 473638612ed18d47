package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"pingover/check"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// Path is one way to the primary: one of its addresses, and how this machine
// gets there.
type Path struct {
	Host    string     // the entry of the setting
	Address netip.Addr // zero when the name does not resolve
	Route   vip.Route
	Source  netip.Addr // of the pings; zero: the kernel chooses
	Fault   Fault      // why it is not asked; zero: it is

	round  check.Round // the last one that was made
	missed bool        // it was not asked in an earlier round of this check
}

// Asked tells whether the path is pinged.
func (p Path) Asked() bool { return p.Fault.Text == "" }

// neighbour tells whether the primary is on the link there, where ARP or ND
// reaches it even when its pings are filtered.
func (p Path) neighbour() bool {
	return p.Address.IsValid() && p.Route.OnLink && !p.Route.Local && p.Asked()
}

// findPaths resolves the host, and asks the kernel for the route to each address.
func findPaths(ctx context.Context, j *Job, rec *state.Record, l *Local) {
	hosts := j.Set.Hosts()
	found, errs := make([][]netip.Addr, len(hosts)), make([]error, len(hosts))
	var lookups sync.WaitGroup
	for i, host := range hosts {
		lookups.Go(func() { found[i], errs[i] = j.Resolve(ctx, host) })
	}
	lookups.Wait()
	for i, host := range hosts {
		addrs := found[i]
		if errs[i] != nil {
			if addrs = rec.AddressesOf(host); len(addrs) == 0 {
				l.Paths = append(l.Paths, Path{Host: host, Fault: faultf(FaultName, "%v", errs[i])})
				continue
			}
			l.note("unresolved "+host, "%v; going on with what last replied, %s", errs[i], AddressList(addrs))
		}
		if len(addrs) > 1 {
			l.note("several "+host, "host %s has %d addresses, and each is a path to the primary: %s", host, len(addrs), AddressList(addrs))
		}
		for _, a := range addrs {
			if !l.isHost(a) {
				l.Paths = append(l.Paths, pathTo(j, rec, l, host, a))
			}
		}
	}
	l.unmix()
}

// pathTo is the path to one address.
func pathTo(j *Job, rec *state.Record, l *Local, host string, a netip.Addr) Path {
	p := Path{Host: host, Address: a}
	here := l.Snapshot.Holds(a)
	switch {
	case l.mayPingItself(a):
		p.Route.Local = here
		return p
	case here && l.IsVIP(a) && !l.Holds(a):
		p.Fault = faultf(FaultOwn, "%s is on %s, which does not do ARP: a ping would answer itself", named(host, a), l.Snapshot.WithoutARP(a)[0].Interface)
	case here && l.IsVIP(a):
		p.Fault = faultf(FaultVIP, "%s", hereNow(a))
	case here && l.isOtherAlias(rec, a):
		p.Fault = faultf(FaultSelf, "%s", hereNow(a))
	case here || a.IsLoopback():
		p.Fault = faultf(FaultOwn, "this machine is the primary: %s is its own address", named(host, a))
	}
	if !p.Asked() {
		p.Route.Local = true
		return p
	}
	from := j.Set.Source
	if from.IsValid() && from.Is4() != a.Is4() {
		from = netip.Addr{}
	}
	var err error
	if p.Route, err = j.Route(a, from); err != nil {
		p.Fault = faultf(FaultRoute, "no %v", err)
	} else if p.Route.Local {
		p.Fault = faultf(FaultOwn, "this machine is the primary: a local route leads to %s", named(host, a))
	} else if p.Route.Broadcast {
		p.Fault = faultf(FaultHost, "%s is a broadcast address: a reply proves nothing", a)
	} else if text := l.LinkFault(p.Route.Interface); text != "" {
		p.Fault = Fault{Kind: FaultInterface, Text: text}
	}
	// Where a cable loses its carrier, its addresses and routes may go with it, and
	// another route lead elsewhere.
	cable := rec.CableTo(host, a)
	if _, known := l.Snapshot.Link(cable); known && err == nil && !p.Route.OnLink && l.LinkFault(cable) != "" {
		p.Fault = Fault{Kind: FaultRoute, Text: l.LinkFault(cable)}
	}
	if p.Source = from; !p.Source.IsValid() {
		p.Source = l.Snapshot.PingSource(p.Route, a, j.VIPs())
	}
	return p
}

// named is an address, with the name that led to it.
func named(host string, a netip.Addr) string {
	if host == a.String() {
		return host
	}
	return fmt.Sprintf("%s (%s)", host, a)
}

// unmix leaves out virtual IPs beside other addresses, as names may have them.
func (l *Local) unmix() {
	other := slices.IndexFunc(l.Paths, func(p Path) bool { return p.Address.IsValid() && !l.IsVIP(p.Address) })
	for i, p := range l.Paths {
		if other >= 0 && l.IsVIP(p.Address) {
			l.Paths[i].Fault = faultf(FaultOwn, "%s is a vip, and cannot be mixed with %s", named(p.Host, p.Address), l.Paths[other].Address)
		}
	}
}

// mayPingItself tells whether the host may be this machine: by a loopback address,
// where nothing could be taken over.
func (l Local) mayPingItself(a netip.Addr) bool { return a.IsLoopback() && len(l.vips) == 0 }

// isOtherAlias tells whether an address that is here was assigned for another
// cluster. It cannot be asked for while it is here.
func (l Local) isOtherAlias(rec *state.Record, a netip.Addr) bool {
	return !a.IsLoopback() && !slices.ContainsFunc(l.Snapshot.Assignments(a), func(p vip.Assignment) bool {
		return !isAlias(p) && (!p.Address.Prefix.IsSingleIP() || l.isOwn(rec, p))
	})
}

// ownHosts are the errors that the host is this machine. A cluster that was
// checked before goes on without such a path: a mistake in /etc/hosts must not end
// its protection.
func ownHosts(j *Job, rec *state.Record, l *Local) (errs []error) {
	for _, p := range l.Paths {
		switch {
		case p.Fault.Kind != FaultOwn || p.Asked():
		case rec.Last != nil || slices.ContainsFunc(l.Held(), func(a netip.Addr) bool { return len(l.added[a]) > 0 }):
			l.judged("own "+p.Host, "host %s is left out: %s", p.Host, p.Fault.Text)
		default:
			errs = append(errs, &run.Error{Code: run.CodeSettings, Text: p.Fault.Text, Hint: p.OwnHint()})
		}
	}
	return errs
}

// OwnHint is what to do where the path leads to this machine itself.
func (p Path) OwnHint() string {
	if p.Host != p.Address.String() {
		return "set host to the primary's address; the name may be in a copy of the primary's /etc/hosts"
	}
	return "pingover runs on the standby; set host to the other machine"
}

// isHost tells whether an address is one of the primary's.
func (l Local) isHost(a netip.Addr) bool {
	return slices.ContainsFunc(l.Paths, func(p Path) bool { return p.Address == a })
}

// hosts are the primary's addresses.
func (l Local) hosts() (addrs []netip.Addr) {
	for _, p := range l.Paths {
		if p.Address.IsValid() {
			addrs = append(addrs, p.Address)
		}
	}
	return addrs
}

// PrimaryIsVIP tells whether the host is a virtual IP.
func (l Local) PrimaryIsVIP() bool {
	return slices.ContainsFunc(l.Paths, func(p Path) bool { return l.IsVIP(p.Address) })
}

// Pinged are the paths that are pinged.
func (l Local) Pinged() []Path {
	return slices.DeleteFunc(slices.Clone(l.Paths), func(p Path) bool { return !p.Asked() })
}

// Neighbours are the primary's addresses on links of this machine. That on the
// link of a virtual IP comes first: its MAC is the one that clients know.
func (l Local) Neighbours() (all []vip.Target) {
	for _, p := range l.Paths {
		if p.neighbour() {
			all = append(all, vip.Target{Interface: p.Route.Interface, Address: p.Address})
		}
	}
	slices.SortStableFunc(all, func(a, b vip.Target) int { return l.rank(a) - l.rank(b) })
	return all
}

func (l Local) rank(t vip.Target) int {
	if slices.ContainsFunc(l.Aliases, func(a vip.Alias) bool { return a.Interface == t.Interface }) {
		return 0
	}
	return 1
}

// noPath are the faults of the paths where none of them can be asked, with those
// of the interfaces: the last cause is often the plainest.
func (l Local) noPath(j *Job) (found Faults) {
	if len(l.Pinged()) > 0 || j.Manual { // the primary may be gone for good
		return nil
	}
	for _, p := range l.Paths {
		found = found.And(p.Fault)
	}
	return found.And(l.linkFaults()...)
}

// followLinks is the path after a new snapshot. One whose interface is back is
// asked again, but what it has missed proves nothing.
func (l Local) followLinks(p Path) Path {
	text := l.LinkFault(p.Route.Interface)
	switch {
	case p.Asked() && l.Snapshot.Holds(p.Address) && !l.mayPingItself(p.Address):
		p.Fault = faultf(FaultSelf, "%s", hereNow(p.Address))
	case p.Asked() && !p.Route.Local && text != "":
		p.Fault = Fault{Kind: FaultInterface, Text: text}
	case p.Fault.Kind == FaultInterface && !p.Asked() && text == "":
		p.Fault, p.missed, p.round = Fault{}, true, check.Round{}
	}
	return p
}

// verdict is what the last round says of the primary, and why it is unknown. It
// is up when any path replied. A path is left out for a fault of this machine, as
// when the cable to the primary loses its carrier with the primary's power; down
// needs the silence of every other one.
func (l Local) verdict() (check.Verdict, Faults) {
	var leftOut, unknown Faults
	silent := false
	for _, p := range l.Paths {
		switch {
		case p.round.Verdict == check.Up:
			return check.Up, nil
		case !p.Asked() && p.Fault.isOurs():
			leftOut = leftOut.And(p.Fault)
		case !p.Asked():
			unknown = unknown.And(p.Fault)
		case p.round.Err != nil:
			unknown = unknown.And(pingFault(p.round.Err))
		case p.missed:
			leftOut = leftOut.And(faultf(FaultInterface, "%s was asked in one round only", p.Address))
		default:
			silent = silent || p.round.Verdict == check.Down
		}
	}
	switch {
	case len(unknown) > 0:
		return check.Unknown, unknown
	case silent:
		return check.Down, nil
	}
	return check.Unknown, leftOut
}

// ForRecord are the paths as the record keeps them.
func (l Local) ForRecord(known []state.Path) (paths []state.Path) {
	for _, p := range l.Paths {
		if !p.Address.IsValid() {
			continue
		}
		path := state.Path{Host: p.Host, Address: p.Address}
		if i := slices.IndexFunc(known, func(k state.Path) bool { return k.Host == p.Host && k.Address == p.Address }); i >= 0 {
			path = known[i]
		}
		if p.Asked() {
			path.Interface = ""
			if p.Route.OnLink {
				path.Interface = p.Route.Interface
			}
		}
		path.Replied = path.Replied || p.round.Verdict == check.Up
		paths = append(paths, path)
	}
	return paths
}

// Shown is the address that reports name: the one that replied, else the first.
func (l Local) Shown() (a netip.Addr) {
	for _, p := range l.Paths {
		if p.round.Verdict == check.Up {
			return p.Address
		}
		if !a.IsValid() {
			a = p.Address
		}
	}
	return a
}
