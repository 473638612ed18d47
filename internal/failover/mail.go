package failover

import (
	"context"
	"net/netip"
	"slices"

	"pingover/check"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// factsOf is what the run has to tell its operator.
func factsOf(j *job, rec state.Record, r Result) notify.Facts {
	o := r.Obs
	f := notify.Facts{
		Time: now(), Outcome: r.Outcome, Reason: r.Reason, Change: r.Change, Partial: r.Partial && r.Change != nil, Evidence: o.Evidence,
		Unconfigured: j.opt.Unconfigured, NeverUp: rec.NeverUp() && len(o.Evidence.Rounds) > 0, NobodyTook: r.NobodyTook, BackReported: rec.BackReported,
		Unverified: rec.Role == state.Releasing && !o.holding(j),
		Held:       prefixes(o.Local, true), Missing: prefixes(o.Local, false), Removed: r.Removed, Unserved: o.unclaimedVIPs(),
		Undo: lines(lowerPlans(j, o.Local, o.Snapshot)),
	}
	f.Evidence.Commands = r.Commands
	if j.mode == modeCheck {
		f.Check = &notify.Check{
			Outcome: r.Outcome, Rule: rec.Last.Rule, Reason: r.Reason, Streaks: rec.Streaks, Now: f.Time, Conditions: conditions(j, rec, r),
		}
	}
	manual := !j.set.Failback || rec.ManualTakeover || rec.NobodyTook // else it is handed over
	f.PrimaryBack = manual && rec.Role == state.Active && rec.Streaks.Up >= j.set.Rise
	for _, failed := range r.Failed {
		f.Failed = append(f.Failed, failed.shown())
	}
	return f
}

func (f hookFailure) shown() notify.HookFailure {
	return notify.HookFailure{Hook: f.hook, Reason: f.err.Error(), Command: f.command}
}

// unserved are the virtual IPs that nobody has while the primary replies, where
// others could be asked.
func (o Observation) unserved() (addrs []netip.Addr) {
	for _, v := range o.VIPs {
		if o.Primary == check.Up && v.Asked && !v.InUse && !v.Held {
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}

// unclaimedVIPs are the virtual IPs for which no reply was heard.
func (o Observation) unclaimedVIPs() (addrs []netip.Addr) {
	for _, v := range o.VIPs {
		if !slices.ContainsFunc(o.Evidence.Holders, func(h state.Holder) bool { return h.Address == v.Address.String() }) {
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}

// prefixes are the virtual IPs as configured: those that are here, or those that
// are not.
func prefixes(l Local, here bool) (p []netip.Prefix) {
	for _, a := range l.Aliases {
		if l.holds(a.Prefix.Addr()) == here {
			p = append(p, a.Prefix)
		}
	}
	return p
}

// aboutCluster is what messages say of the cluster.
func aboutCluster(j *job, l Local, primary string) notify.Cluster {
	dir := ""
	if len(j.set.Given["state-dir"]) > 0 {
		dir = j.set.StateDir
	}
	var vips []netip.Prefix
	for _, a := range l.Aliases {
		vips = append(vips, a.Prefix)
	}
	return notify.Cluster{
		Name: j.set.Name, Host: j.set.Host, PrimaryMAC: primary, VIPs: vips,
		Interface: l.shownInterface(), Hostname: run.Hostname(), StateDir: dir, To: j.set.Mail.To, Command: j.set.Mail.Notify != nil,
	}
}

// runPendingHook runs the hook of the last change, of this run or of one that was
// killed, and crosses it off. One that is out of date is dropped: services are not
// started where nothing is held any more. After a signal it stays pending, for it
// may take long.
func runPendingHook(ctx context.Context, j *job, rec state.Record, draft notify.Draft, r Result, f notify.Facts, saveErr error) (state.Record, notify.Draft, Result, error) {
	pending := rec.PendingHook
	if pending == nil || ctx.Err() != nil {
		return rec, draft, r, saveErr
	}
	if (pending.Hook == state.PostTakeover) == r.Obs.holding(j) {
		result, command, aliases := runHook(ctx, j, r.Obs.Local, rec.VIPs, pending.Hook, pending.Reason)
		rec.VIPs, r.Commands = aliases, append(r.Commands, command)
		if result.Err != nil && ctx.Err() != nil {
			return rec, draft, r, saveErr
		}
		rec.Recent = slices.Clone(rec.Recent)
		rec.Add(ranHook(pending.Hook, pending.Event, pending.Reason, result))
		var failed *notify.HookFailure
		if result.Err != nil {
			failed = &notify.HookFailure{Hook: pending.Hook, Reason: result.Err.Error(), Command: command}
		}
		f.Time = now()
		rec.Head, draft = draft.HookRan(rec.Head, aboutCluster(j, r.Obs.Local, rec.Neighbour), f, pending.Event, command, failed)
	}
	rec.PendingHook = nil
	return rec, draft, r, j.Save(&rec, true)
}

// sendMail delivers the outbox, and crosses off what was delivered. Mail never
// changes how the run ends.
func sendMail(ctx context.Context, j *job, rec state.Record, l Local) (state.Record, error) {
	if len(rec.Outbox) == 0 {
		return rec, nil
	}
	rec.VIPs = keepingLeases(j, l, rec.VIPs, func() {
		rec.Outbox, rec.MailError = j.DeliverOutbox(rec.Outbox, rec.MailError, func(m []state.Message) ([]state.Message, error) { return j.Deliver(ctx, m) })
	})
	return rec, j.Save(&rec, true)
}

// sendUnwritten sends the mail of a run whose record could not be written.
func sendUnwritten(ctx context.Context, j *job, before, rec state.Record, draft notify.Draft, r Result, f notify.Facts, saveErr error) (_ state.Record, reported bool) {
	var compose func(state.Head) state.Head
	if !j.set.Mail.Silent() {
		compose = func(h state.Head) state.Head {
			h, _ = draft.Unwritten(h, aboutCluster(j, r.Obs.Local, rec.Neighbour), f, saveErr.Error())
			return h
		}
	}
	rec.Head, reported = j.SendUnwritten(ctx, before.Head, rec.Head, saveErr, r.Outcome.Switched() && r.Moved, compose, j.Deliver)
	return rec, reported
}
