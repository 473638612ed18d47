package observe

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// Local is the state of this machine: by which paths the primary is reached,
// where each virtual IP is or would be assigned, and what makes it impossible to
// ask. Nothing of it was asked of other machines.
type Local struct {
	Snapshot  *vip.Snapshot
	BootID    string
	Paths     []Path // to the primary
	Aliases   []vip.Alias
	Witnesses []check.Witness
	Gateways  []state.Gateway // found as automatic witnesses
	NoWitness bool            // witness auto, and no gateway was ever found
	Faults    Faults          // that make the verdict unknown
	Notes     []Note

	vips  []netip.Addr            // of the settings; a link-local one with its interface as zone
	iface string                  // of the settings
	asks  bool                    // whether an address is in use must be known: duplicate-check
	added map[netip.Addr][]string // the interfaces where pingover has assigned a virtual IP
}

// Note is what every check tells an operator who watches, and the first one to
// cron.
type Note struct {
	Key, Text string
	Judged    bool // doctor has a finding of its own for it
}

func (l *Local) note(key, format string, args ...any) {
	l.Notes = append(l.Notes, Note{Key: key, Text: fmt.Sprintf(format, args...)})
}

// judged is a note for which doctor has a finding of its own.
func (l *Local) judged(key, format string, args ...any) {
	l.note(key, format, args...)
	l.Notes[len(l.Notes)-1].Judged = true
}

// Survey asks this machine, and nobody else but the name server, for what the
// check rests on. The errors are settings that do not fit this machine, or that
// the kernel cannot be asked; faults are part of the local state.
func Survey(ctx context.Context, j *Job, rec state.Record) (l Local, errs []error) {
	l.iface, l.asks = j.Set.Interface, j.Set.DuplicateCheck && !j.Forced
	for _, v := range j.Set.VIPs {
		l.vips = append(l.vips, v.Address())
	}
	j.Doing("finding the primary")
	refuse := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	refuse(canLease(j))
	var err error
	if l.Snapshot, err = j.known(); err != nil {
		refuse(&run.Error{Code: state.Unknown.Code(), Text: fmt.Sprintf("the kernel cannot be asked for its addresses: %v", err)})
		return l, errs
	}
	if l.BootID, err = j.BootID(); err != nil {
		j.Infof("the boot id cannot be read: %v", err)
		l.BootID = rec.BootID
	}
	for i, a := range l.vips {
		if a.Zone() != "" {
			l.vips[i] = a.WithZone(l.ownName(a.Zone()))
		}
	}
	l.added = map[netip.Addr][]string{}
	for _, a := range rec.VIPs {
		if rec.Ours(a) {
			l.added[a.Address()] = append(l.added[a.Address()], a.Interface)
		}
	}
	findPaths(ctx, j, &rec, &l)
	errs = append(errs, ownHosts(j, &rec, &l)...)
	refuse(l.hasOwnVIP(&rec))
	errs = append(errs, placeAliases(j, &rec, &l)...)
	l.Faults = l.noPath(j)
	findWitnesses(j, &rec, &l)
	if len(l.Faults) == 0 && !l.Holding() {
		errs = append(errs, l.RefusedByTool(j)...)
	}
	return l, errs
}

// Again is the local state with a new snapshot. A carrier lost in the middle of
// a round makes pings vanish without any error.
func (l Local) Again(j *Job) Local {
	snapshot, err := j.Snapshot()
	if err != nil {
		f := faultf(FaultKernel, "the kernel cannot be asked for its interfaces: %v", err)
		j.Infof("%s", f.Text) // after the decision nobody reads the fault
		l.Faults = l.Faults.And(f)
		return l
	}
	l.Snapshot = snapshot
	l.Paths = slices.Clone(l.Paths)
	for i, p := range l.Paths {
		l.Paths[i] = l.followLinks(p)
	}
	l.Faults = l.Faults.And(l.noPath(j)...)
	return l
}

// linkFaults are the interfaces that are needed and cannot be used.
func (l Local) linkFaults() (found []Fault) {
	for _, name := range l.NeededLinks() {
		if text := l.LinkFault(name); text != "" {
			found = append(found, Fault{Kind: FaultInterface, Text: text})
		}
	}
	return found
}

// NeededLinks are the interfaces that are needed.
func (l Local) NeededLinks() []string {
	var names []string
	for _, p := range l.Paths {
		names = append(names, p.Route.Interface)
	}
	if len(l.Aliases) == 0 {
		names = append(names, l.iface)
	}
	for _, a := range l.Aliases {
		names = append(names, a.Interface)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// LinkFault is what is wrong with an interface, "" for nothing.
func (l Local) LinkFault(name string) string { return l.Snapshot.LinkFault(name) }

// Addresses are the virtual IPs. A link-local one has the interface where it is, or
// is to be assigned, as its zone.
func (l Local) Addresses() []netip.Addr { return slices.Clone(l.vips) }

// IsVIP tells whether an address is a virtual IP.
func (l Local) IsVIP(a netip.Addr) bool {
	return slices.ContainsFunc(l.vips, func(v netip.Addr) bool { return state.SameAddress(v, a) })
}

// Held are the virtual IPs that are on this machine.
func (l Local) Held() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(l.vips), func(a netip.Addr) bool { return !l.Holds(a) })
}

// Assigned are the interfaces that hold a virtual IP on this machine. One without
// ARP holds none, unless pingover has assigned it there.
func (l Local) Assigned(a netip.Addr) []vip.Assignment {
	return l.Snapshot.Held(a, l.added[a]...)
}

// Holds tells whether a virtual IP is on this machine.
func (l Local) Holds(a netip.Addr) bool { return len(l.Assigned(a)) > 0 }

// Adding is the local state when an address has been assigned.
func (l Local) Adding(a netip.Addr, link string) Local {
	l.added = maps.Clone(l.added)
	l.added[a] = append(slices.Clone(l.added[a]), link)
	return l
}

// Holding tells whether any is.
func (l Local) Holding() bool { return len(l.Held()) > 0 }

// Target is a virtual IP with the interface where it is, or is to be assigned.
func (l Local) Target(a netip.Addr) vip.Target {
	t := vip.Target{Address: a}
	if assigned := l.Assigned(a); len(assigned) > 0 {
		t.Interface = assigned[0].Interface
		return t
	}
	for _, alias := range l.Aliases {
		if alias.Address() == a {
			t.Interface = alias.Interface
		}
	}
	return t
}

// targets are the virtual IPs by the interfaces of their aliases.
func (l Local) targets() (targets []vip.Target) {
	for _, a := range l.Aliases {
		targets = append(targets, vip.Target{Interface: a.Interface, Address: a.Address()})
	}
	return targets
}

// ShownInterface is the one that reports name.
func (l Local) ShownInterface() string {
	if len(l.Aliases) > 0 {
		return l.Aliases[0].Interface
	}
	return l.pathInterface()
}

// pathInterface is the one by which the primary is reached.
func (l Local) pathInterface() string {
	for _, p := range l.Paths {
		if p.Route.Interface != "" {
			return p.Route.Interface
		}
	}
	return ""
}

// leads tells whether the network of this machine leads to an address, as far as
// the kernel knows. A witness that cannot be asked all the same is no sign of
// isolation: the fault is in this machine.
func (l Local) leads(j *Job, a netip.Addr) bool {
	route, err := j.Route(a, netip.Addr{})
	return err == nil && l.LinkFault(route.Interface) == ""
}

// AddedOn are the interfaces where pingover has assigned a virtual IP.
func (l Local) AddedOn(a netip.Addr) []string { return l.added[a] }

// Leftovers are what pingover assigned and what is still here, but no longer a
// setting.
func (l Local) Leftovers(rec state.Record) (left []state.Alias) {
	for _, a := range rec.VIPs {
		if rec.Ours(a) && !l.IsVIP(a.Address()) && l.Holds(a.Address()) {
			a.Raised, a.LeftOver = true, true
			left = append(left, a)
		}
	}
	return left
}

// Zoned are addresses of a record. Earlier versions wrote link-local virtual IPs
// without their interface.
func (l Local) Zoned(addrs []netip.Addr) []netip.Addr {
	zoned := slices.Clone(addrs)
	for i, a := range zoned {
		if at := slices.IndexFunc(l.vips, func(v netip.Addr) bool { return state.SameAddress(v, a) }); at >= 0 {
			zoned[i] = l.vips[at]
		}
	}
	return zoned
}
