package failover

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// open is what comes before any observation: permission, lock, record.
func open(ctx context.Context, j *job) (rec state.Record, unlock func(), err error) {
	if j.mode == modeTakeOver && len(j.Set.VIPs) == 0 {
		return rec, nil, &run.Error{Code: run.CodeSettings, Text: "there is no virtual IP to take over: none is set"}
	}
	if err := permitted(j); err != nil {
		return rec, nil, err
	}
	if unlock, err = j.Lock(ctx, j.env.Locks); err != nil {
		reportHeldLock(ctx, j, err)
		return rec, nil, err
	}
	loaded, err := run.Load[state.Record](j.Run)
	if err == nil {
		inherit(j, loaded)
		rec, err = Adopt(j.Job, *loaded)
	}
	if err != nil {
		unlock()
	} else if j.mode == modeCheck {
		rec.Origin = cmp.Or(j.opt.Origin, state.FlagsOrigin)
	}
	return rec, unlock, err
}

// permitted finds out at once, while all may be well, whether a takeover would
// be permitted.
func permitted(j *job) error {
	if err := j.env.MayPing(); err != nil {
		return &run.Error{Code: run.CodePermission, Text: err.Error()}
	}
	if len(j.Set.VIPs) == 0 || j.DryRun {
		return nil
	}
	if err := j.env.MayRaise(); err != nil {
		return &run.Error{
			Code: run.CodePermission, Text: err.Error(),
			Hint: "run it as root, or with the capabilities CAP_NET_ADMIN and CAP_NET_RAW; --dry-run needs CAP_NET_RAW at the most",
		}
	}
	return nil
}

// inherit takes over what is kept of a cluster that had the virtual IPs under
// another name. What cannot be taken over now, the next check tries again.
func inherit(j *job, rec *state.Record) {
	if j.opt.Inherits == "" || j.DryRun {
		return
	}
	unlock, err := j.env.Locks.Lock(j.Dir, j.opt.Inherits)
	if err == nil {
		defer unlock()
		err = j.Dir.Inherit(rec, j.opt.Inherits)
	}
	if err != nil {
		j.Infof("history and pending mail of %s cannot be taken over: %v", j.opt.Inherits, err)
		return
	}
	j.Warnf("%s was renamed to %s: its history, pending mail and what it holds are taken over", j.opt.Inherits, j.Set.Name)
}

// Adopt makes the record that of this cluster with these settings.
func Adopt(j *observe.Job, rec state.Record) (state.Record, error) {
	before, err := rec.SetHost(j.Set.Host, now())
	if err != nil {
		return rec, &run.Error{Code: run.CodeSettings, Text: err.Error(), Hint: otherName(j)}
	}
	if before != "" {
		text := fmt.Sprintf("the primary is now %q, and was %q: what was counted in a row begins anew", j.Set.Host, before)
		j.Event(run.Note{Text: text, Warning: !j.DryRun})
	}
	return rec, nil
}

// otherName is what to do where two definitions have one name.
func otherName(j *observe.Job) string {
	place := j.Set.From["host"]
	if place == "" || place == "--host" {
		return "give each cluster a name of its own with --name"
	}
	return fmt.Sprintf("rename this cluster (%s), or the other one; a host that stays is accepted after an hour", place)
}

// settle brings the record in line with the local state and with the settings,
// and drafts what it did not expect.
func settle(j *job, rec state.Record, l observe.Local) (state.Record, notify.Draft) {
	last, gap := rec.LastCheck()
	// What is no longer a setting is only reported.
	known, here := rec.VIPs, l.Held()
	left := l.Leftovers(rec)
	rec.VIPs = slices.DeleteFunc(slices.Clone(known), func(a state.Alias) bool { return !l.IsVIP(a.Address()) })
	for _, a := range left {
		j.Infof("%s; to remove it: %s", LeftBehind(a), Removal(a))
		here = append(here, a.Address()) // it has not vanished
	}
	rec.Offered, rec.Releasing = l.Zoned(rec.Offered), l.Zoned(rec.Releasing)
	drift, change := rec.Settle(here, l.BootID, now())
	assigned := make([]state.Alias, 0, len(l.Aliases)+len(left))
	for _, a := range l.Aliases {
		alias := observe.Recorded(rec.VIPs, a.Address())
		alias.Prefix, alias.Interface = a.Prefix, a.Interface
		assigned = append(assigned, alias)
	}
	rec.VIPs = append(assigned, left...)
	if a := l.Shown(); a.IsValid() {
		rec.Address = a
	}
	rec.Interface = l.ShownInterface()
	var draft notify.Draft
	if drift != state.NoDrift {
		facts := notify.Facts{Time: change.Time, Drift: drift, Change: change, Held: prefixes(l, true), Missing: prefixes(l, false)}
		if plans := l.RaisePlans(j.Job, func(netip.Addr) bool { return true }); drift == state.AliasGone {
			facts.Undo = lines(plans)
		}
		rec.Head, draft = notify.Plan(rec.Head, About(j.Set, l, rec.Neighbour), facts, notify.Policy{})
	}
	if !last.IsZero() && state.Overdue(j.Began.Sub(last), gap) {
		rec.EndStreaks() // the runs had stopped: nothing was in a row
	}
	if text := ShortLease(j.Set, gap); text != "" {
		j.Infof("%s", text)
	}
	noted := rec.Noted
	rec.Noted = nil
	for _, n := range l.Notes {
		j.Event(run.Note{Text: n.Text, Warning: !slices.Contains(noted, n.Key)})
		rec.Noted = append(rec.Noted, n.Key)
	}
	if j.Set.Mail.Silent() {
		j.Infof("%s", run.NoRecipient)
	}
	if l.NoWitness && len(j.Set.VIPs) > 0 {
		j.Event(run.Note{Text: observe.NoWitness + "; set witness", Warning: !rec.WitnessReported})
		rec.WitnessReported = true
	}
	return rec, draft
}

// ShortLease is what is wrong with the lease, or with the arbiter's ttl, for a cron that
// runs as the record shows; "" for nothing.
func ShortLease(c config.Cluster, gap time.Duration) string {
	if ttl := c.Arbiter.TTL; c.Arbiter.Set() && ttl < 3*gap {
		return fmt.Sprintf("arbiter-ttl %s is shorter than three times the time between the last two checks, %s: a late check loses the alias",
			config.DurationText(ttl), config.DurationText(gap.Round(time.Second)))
	}
	if c.Lease == 0 || c.Lease >= 2*gap {
		return ""
	}
	return fmt.Sprintf("the lease of %s is shorter than twice the time between the last two checks, %s: a late check loses the alias",
		config.DurationText(c.Lease), config.DurationText(gap.Round(time.Second)))
}

// LeftBehind is the words for an alias that is here, and no longer a setting.
func LeftBehind(a state.Alias) string {
	return fmt.Sprintf("%s is still on this machine, assigned by pingover, but no longer a setting of this cluster", a.Address())
}

// Removal is the command that removes it.
func Removal(a state.Alias) string {
	return fmt.Sprintf("ip addr del %s dev %s", a.Prefix, a.Interface)
}
