package balance

import (
	"context"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/config"
	"pingover/pool"
	"pingover/state"
)

// Examination is what a check of a pool finds, where it goes on after what stops a
// check.
type Examination struct {
	Record Record
	// RecordErr is why Record is a new one, nil where it is not.
	RecordErr error
	MayPing   error    // why members cannot be pinged, where they are
	Key       pool.Key // zero: unsigned
	KeyErr    error    // why it cannot be used; nothing was asked of the server then
	Zone      pool.Zone
	Set       pool.Set
	ReadErr   error // why the zone or the set is not known
	RightErr  error // why the server would not change the set
	Members   []ExaminedMember
	Witnesses []state.Witness
	Foreign   []netip.Addr // published, and never members
	Left      []netip.Addr // published, and no longer members
}

// ExaminedMember is one member, asked once.
type ExaminedMember struct {
	Address   netip.Addr
	Verdict   check.Verdict
	Fault     string // why it is unknown, or which of its services is bad
	Own       bool   // an address of this machine
	Published bool
}

// Examine makes the observation of a check as far as it can be made. It takes no
// lock and changes nothing: one round to each member and witness, and of the name
// server the set and the right to change it.
func Examine(ctx context.Context, env Env, p config.Pool, onEvent func(any)) (x Examination) {
	j := newJob(env, p, Options{DryRun: true, OnEvent: onEvent}, false)
	loaded, err := state.LoadKept[Record](j.Dir, j.Name, false)
	if loaded == nil {
		loaded = new(Record)
		loaded.Begin(j.Name)
	}
	x.RecordErr = err
	rec := loaded.adopt(j)
	server, err := j.NameServer(p)
	if x.KeyErr = err; err == nil {
		x = x.ask(ctx, j, server)
		if real, ok := server.(pool.Server); ok {
			x.Key = real.Key
		}
	}
	read := reading{zone: x.Zone.Name, set: x.Set, err: x.ReadErr}
	if x.KeyErr == nil && read.known() {
		rec, _ = rec.settle(j, read)
		x.Foreign = without(x.Set.Addrs(), rec.Members)
		for _, m := range rec.Members {
			if m.Left {
				x.Left = append(x.Left, m.Address)
			}
		}
	}
	x.Record = rec
	if x.MayPing = j.permitted(); x.MayPing != nil || ctx.Err() != nil {
		return x
	}
	l := survey(j, rec)
	s := seen{}
	for _, m := range l.members {
		s.members = append(s.members, answer{member: m})
	}
	replies := make(chan []state.Witness, 1)
	go func() { replies <- askWitnesses(ctx, j, l) }()
	s = s.round(ctx, j, 1, func(answer) bool { return true }).judged(j)
	x.Witnesses = <-replies
	for _, a := range s.members {
		x.Members = append(x.Members, ExaminedMember{a.address, a.verdict, a.fault, a.own, x.Set.Has(a.address)})
	}
	return x
}

// ask asks the name server for all that a check needs of it.
func (x Examination) ask(ctx context.Context, j *job, server NameServer) Examination {
	if x.Zone, x.ReadErr = server.FindZone(ctx, j.set.Record); x.ReadErr != nil {
		return x
	}
	if j.set.Zone != "" {
		x.Zone.Name = j.set.Zone
	}
	if x.Set, x.ReadErr = server.Read(ctx, j.set.Record); x.ReadErr != nil {
		return x
	}
	var families []netip.Addr
	for _, m := range j.set.Members {
		if !slices.ContainsFunc(families, func(a netip.Addr) bool { return a.Is4() == m.Is4() }) {
			families = append(families, m)
		}
	}
	x.RightErr = server.TestUpdate(ctx, x.Zone.Name, x.Set, families...)
	return x
}
