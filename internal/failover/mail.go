package failover

import (
	"context"
	"net/netip"
	"slices"

	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

// factsOf is what the run has to tell its operator.
func factsOf(j *job, rec state.Record, r Result) notify.Facts {
	o := r.Obs
	f := notify.Facts{
		Time: now(), Outcome: r.Outcome, Reason: r.Reason, Cause: r.Cause, Change: r.Change, Partial: r.Partial && r.Change != nil, Evidence: o.Evidence,
		Unconfigured: j.opt.Unconfigured, NeverUp: rec.NeverUp() && len(o.Evidence.Rounds) > 0, NobodyTook: r.NobodyTook, BackReported: rec.BackReported,
		Unverified: rec.Role == state.Releasing && !o.Holding(),
		Held:       prefixes(o.Local, true), Missing: prefixes(o.Local, false), Removed: r.Removed, Unserved: o.Unanswered(), Unreached: rec.Unreached, Failed: r.Failed,
		Undo: lines(lowerPlans(j, o.Local, o.Snapshot)),
	}
	f.Evidence.Commands = r.Commands
	if j.mode == modeCheck {
		f.Check = &notify.Check{
			Outcome: r.Outcome, Rule: rec.Last.Rule, Reason: r.Reason, Streaks: rec.Streaks, Now: f.Time, Conditions: conditions(j, rec, r),
		}
	}
	manual := !j.Set.Failback || rec.ManualTakeover || rec.NobodyTook // else it is handed over
	f.PrimaryBack = manual && rec.Role == state.Active && rec.Streaks.Up >= j.Set.Rise
	return f
}

// prefixes are the virtual IPs as configured: those that are here, or those that
// are not.
func prefixes(l observe.Local, here bool) (p []netip.Prefix) {
	for _, a := range l.Aliases {
		if l.Holds(a.Address()) == here {
			p = append(p, a.Prefix)
		}
	}
	return p
}

// About is what messages say of the cluster.
func About(c config.Cluster, l observe.Local, primary string) notify.Cluster {
	dir := ""
	if len(c.Given["state-dir"]) > 0 {
		dir = c.StateDir
	}
	var vips []netip.Prefix
	for _, a := range l.Aliases {
		vips = append(vips, a.Prefix)
	}
	return notify.Cluster{
		Name: c.Name, Host: c.Host, PrimaryMAC: primary, VIPs: vips,
		Interface: l.ShownInterface(), Hostname: proc.Hostname(), StateDir: dir, To: c.Mail.To, Command: c.Mail.Notify != nil,
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
	if (pending.Hook == state.PostTakeover) == r.Obs.Holding() {
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
		rec.Head, draft = draft.HookRan(rec.Head, About(j.Set, r.Obs.Local, rec.Neighbour), f, pending.Event, command, failed)
	}
	rec.PendingHook = nil
	return rec, draft, r, j.Save(&rec, true)
}

// sendMail delivers the outbox, and crosses off what was delivered. Mail never
// changes how the run ends.
func sendMail(ctx context.Context, j *job, rec state.Record, l observe.Local) (state.Record, error) {
	if len(rec.Outbox) == 0 {
		return rec, nil
	}
	rec.VIPs = j.hold.While(l, rec.VIPs, func() {
		rec.Outbox, rec.MailError = j.DeliverOutbox(rec.Outbox, rec.MailError, func(m []state.Message) ([]state.Message, error) { return j.env.Deliver(ctx, m) })
	}).Aliases
	return rec, j.Save(&rec, true)
}

// sendUnwritten sends the mail of a run whose record could not be written.
func sendUnwritten(ctx context.Context, j *job, before, rec state.Record, draft notify.Draft, r Result, f notify.Facts, changed bool, saveErr error) (_ state.Record, reported bool) {
	var compose func(state.Head) state.Head
	if !j.Set.Mail.Silent() {
		compose = func(h state.Head) state.Head {
			h, _ = draft.Unwritten(h, About(j.Set, r.Obs.Local, rec.Neighbour), f, saveErr.Error())
			return h
		}
	}
	rec.Head, reported = j.SendUnwritten(ctx, before.Head, rec.Head, saveErr, changed, r.Outcome.Switched() && r.Moved, compose, j.env.Deliver)
	return rec, reported
}
