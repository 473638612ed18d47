package failover

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// Examination is what the survey and the probe of a check find, where they go on
// after what stops a check.
type Examination struct {
	Record state.Record
	// RecordErr is why Record is a new one, nil where it is not. A *run.Error ends
	// a check; after any other it goes on with what the kernel shows.
	RecordErr error
	Local     Local         // without a Snapshot nothing below is known
	Refused   []error       // each of them ends a check
	Faults    []Fault       // of this machine: the primary cannot be asked
	IsPrimary bool          // the host is this machine, which is among the errors
	Links     []string      // the interfaces that are needed
	Own       []netip.Addr  // virtual IPs that are this machine's own addresses
	Leftovers []state.Alias // assigned by pingover, but no longer a setting
	Plans     [][]string    // the commands of a takeover
	About     notify.Cluster
	// Probed tells whether the network was asked. It is not where this machine
	// cannot be answered, which would show nothing of others.
	Probed      bool
	Observation Observation
	NotAsked    []Fault // what kept some from being asked
}

// Examine makes the survey and the probe of a check as far as they can be made. It
// takes no lock, changes nothing, and sends only what a dry run sends: one round
// of pings, and ordinary requests on the link. Without a tool what needs one is
// left out.
func Examine(ctx context.Context, env Env, c config.Cluster, onEvent func(any)) (x Examination) {
	j := newJob(env, c, Options{DryRun: true, OnEvent: onEvent}, modeCheck)
	j.everyPath = true
	x.Record, x.RecordErr = readRecord(j)
	x.Local, x.Refused = survey(ctx, j, &x.Record)
	l := x.Local
	x.About = aboutCluster(j, l, x.Record.Neighbour)
	if l.Snapshot == nil {
		return x
	}
	for _, n := range l.notes {
		if !n.judged {
			j.Infof("%s", n.text)
		}
	}
	x.Faults, x.Links, x.Leftovers = l.faults, l.links(j), leftovers(j, x.Record, l)
	for _, a := range l.held(j) {
		if slices.ContainsFunc(l.assigned(a), func(p vip.Assignment) bool { return l.isOwn(j, &x.Record, p) }) {
			x.Own = append(x.Own, a)
		}
	}
	if j.Tool != nil {
		if len(l.faults) > 0 || l.holding(j) { // else the survey has tried
			x.Refused = append(x.Refused, canAssign(j, l)...)
		}
		x.Plans, _ = raisePlans(j, l, func(netip.Addr) bool { return true })
	}
	x.IsPrimary = slices.ContainsFunc(l.Paths, func(p Path) bool { return p.Fault.Kind == FaultOwn && !p.Asked() })
	noLink := len(x.Links) > 0 && !slices.ContainsFunc(x.Links, func(name string) bool { return l.LinkFault(name) == "" })
	if noLink || x.IsPrimary && len(l.asked()) == 0 || j.MayPing() != nil || ctx.Err() != nil {
		return x
	}
	asker := newAsker(j, l, x.Record.Neighbour)
	defer asker.Close()
	o := probeOnce(ctx, j, asker, start(j, x.Record, l))
	if o.Primary == check.Up {
		serving := askWhoServes(ctx, j, asker, o)
		o = serving.wait(o)
		serving.end()
	}
	x.Observation, x.Probed, x.NotAsked = o.read(j, asker), ctx.Err() == nil, o.faults[len(l.faults):]
	return x
}

// readRecord is the record of the cluster; with an error a new one.
func readRecord(j *job) (state.Record, error) {
	loaded, err := j.Dir.Load(j.Name, false)
	if errors.As(err, new(*state.ForeignError)) {
		err = run.Foreign(err)
	}
	if err == nil {
		var rec state.Record
		if rec, err = adopt(j, *loaded); err == nil {
			return rec, nil
		}
	}
	return state.Record{Head: state.Head{Version: state.Version, Name: j.Name}, Host: j.set.Host, Role: state.Standby}, err
}
