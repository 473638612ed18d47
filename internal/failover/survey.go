package failover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"pingover/internal/config"
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
	Witnesses []run.Witness
	Gateways  []state.Gateway // found as automatic witnesses
	NoWitness bool            // witness auto, and no gateway was ever found
	faults    faults          // that make the verdict unknown
	notes     []note
	added     map[netip.Addr][]string // the interfaces where pingover has assigned a virtual IP
}

// note is what every check tells an operator who watches, and the first one to
// cron.
type note struct {
	key, text string
	judged    bool // doctor has a finding of its own for it
}

func (l *Local) note(key, format string, args ...any) {
	l.notes = append(l.notes, note{key: key, text: fmt.Sprintf(format, args...)})
}

// judged is a note for which doctor has a finding of its own.
func (l *Local) judged(key, format string, args ...any) {
	l.note(key, format, args...)
	l.notes[len(l.notes)-1].judged = true
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
	l.added = map[netip.Addr][]string{}
	for _, a := range rec.VIPs {
		if rec.Ours(a) {
			l.added[a.Prefix.Addr()] = append(l.added[a.Prefix.Addr()], a.Interface)
		}
	}
	findPaths(ctx, j, rec, &l)
	errs = append(errs, ownHosts(j, rec, &l)...)
	refuse(hasOwnVIP(j, rec, &l))
	errs = append(errs, placeAliases(j, rec, &l)...)
	l.faults = l.noPath(j)
	findWitnesses(j, rec, &l)
	if len(l.faults) == 0 && !l.holding(j) {
		errs = append(errs, canAssign(j, l)...)
	}
	return l, errs
}

// canAssign are the virtual IPs that the tool cannot assign where they belong.
func canAssign(j *job, l Local) (errs []error) {
	for _, a := range l.Aliases {
		if j.Tool == nil || l.CannotAssign(a) != "" {
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
	l.Paths = slices.Clone(l.Paths)
	for i, p := range l.Paths {
		l.Paths[i] = l.followLinks(j, p)
	}
	l.faults = l.faults.and(l.noPath(j)...)
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

// linkFaults are the interfaces that are needed and cannot be used.
func linkFaults(j *job, l Local) (found []Fault) {
	for _, name := range l.links(j) {
		if text := l.LinkFault(name); text != "" {
			found = append(found, Fault{Kind: FaultInterface, Text: text})
		}
	}
	return found
}

// links are the interfaces that are needed.
func (l Local) links(j *job) []string {
	var names []string
	for _, p := range l.Paths {
		names = append(names, p.Route.Interface)
	}
	if len(l.Aliases) == 0 {
		names = append(names, j.set.Interface)
	}
	for _, a := range l.Aliases {
		names = append(names, a.Interface)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// LinkFault is what is wrong with an interface, "" for nothing.
func (l Local) LinkFault(name string) string { return l.Snapshot.LinkFault(name) }

// held are the virtual IPs that are on this machine.
func (l Local) held(j *job) []netip.Addr {
	return slices.DeleteFunc(j.vips(), func(a netip.Addr) bool { return !l.holds(a) })
}

// assigned are the interfaces that hold a virtual IP on this machine. One without
// ARP holds none, unless pingover has assigned it there.
func (l Local) assigned(a netip.Addr) []vip.Assignment {
	return l.Snapshot.Held(a, l.added[a]...)
}

func (l Local) holds(a netip.Addr) bool { return len(l.assigned(a)) > 0 }

// adding is the local state when an address has been assigned.
func (l Local) adding(a netip.Addr, link string) Local {
	l.added = maps.Clone(l.added)
	l.added[a] = append(slices.Clone(l.added[a]), link)
	return l
}

func (l Local) holding(j *job) bool { return len(l.held(j)) > 0 }

// target is a virtual IP with the interface where it is, or is to be assigned.
func (l Local) target(a netip.Addr) vip.Target {
	t := vip.Target{Address: a}
	if assigned := l.assigned(a); len(assigned) > 0 {
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
func (l Local) leads(j *job, a netip.Addr) bool {
	route, err := j.Route(a, netip.Addr{})
	return err == nil && l.LinkFault(route.Interface) == ""
}

// unheard is why the silence of addresses is no answer: the cable went out
// meanwhile, or listening ended. Nil: an answer would have been heard.
func (l Local) unheard(asker *vip.Asker, silent []netip.Addr) error {
	for _, a := range silent {
		if l.cannotTake(a) != "" {
			continue
		}
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
