package doctor

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
)

// examine makes the survey and the probe of a check as far as they can be made,
// and goes on after what stops a check. It takes no lock, changes nothing, and
// sends only what a dry run sends: one round of pings, and ordinary requests on the
// link. Without a tool what needs one is left out.
func (x *examination) examine(ctx context.Context) {
	j := &observe.Job{
		Run: &run.Run{Name: x.set.Name, Dir: x.dir, Began: x.began, DryRun: true, OnEvent: x.noted},
		Env: x.env.Env, Set: x.set, Tool: x.env.Tool, EveryPath: true,
	}
	x.Record, x.RecordErr = readRecord(j)
	l, refused := observe.Survey(ctx, j, x.Record)
	x.Local, x.Refused = l, refused
	if l.Snapshot == nil {
		return
	}
	for _, n := range l.Notes {
		if !n.Judged {
			x.notes = append(x.notes, n.Text)
		}
	}
	if j.Tool != nil {
		if len(l.Faults) > 0 || l.Holding() { // else the survey has tried
			x.Refused = append(x.Refused, l.RefusedByTool(j)...)
		}
		x.Plans = l.RaisePlans(j, func(netip.Addr) bool { return true })
	}
	isPrimary := slices.ContainsFunc(l.Paths, func(p observe.Path) bool { return p.Fault.Kind == observe.FaultOwn && !p.Asked() })
	links := l.NeededLinks()
	noLink := len(links) > 0 && !slices.ContainsFunc(links, func(name string) bool { return l.LinkFault(name) == "" })
	if noLink || isPrimary && len(l.Pinged()) == 0 || x.env.MayPing() != nil || ctx.Err() != nil {
		return // this machine could not be answered, which would show nothing of others
	}
	x.Observation, x.NotAsked = observe.Examine(ctx, j, x.Record, l)
	x.Probed = ctx.Err() == nil
}

// noted keeps the notes of the survey and the probe.
func (x *examination) noted(event any) {
	if note, ok := event.(run.Note); ok {
		x.notes = append(x.notes, note.Text)
	}
}

// readRecord is the record of the cluster; with an error a new one.
func readRecord(j *observe.Job) (state.Record, error) {
	loaded, err := j.Dir.Load(j.Name, false)
	if errors.As(err, new(*state.ForeignError)) {
		err = run.Foreign(err)
	}
	if err == nil {
		var rec state.Record
		if rec, err = failover.Adopt(j, *loaded); err == nil {
			return rec, nil
		}
	}
	return state.Record{Head: state.Head{Version: state.Version, Name: j.Name}, Host: j.Set.Host, Role: state.Standby}, err
}
