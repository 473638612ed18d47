package balance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/pool"
	"pingover/state"
)

// finish writes down what came of the run, with the mail that is due, in one
// write; then it delivers the mail.
func finish(ctx context.Context, j *job, before, rec Record, s seen, r Result) Report {
	j.Doing("writing the record")
	rec.Recent = slices.Clone(rec.Recent)
	if r.known() {
		rec.Foreign = without(r.set.Addrs(), rec.Members)
	}
	finished := interrupted(before, r)
	if finished != nil {
		rec.AddChange(*finished)
		rec.Newest = finished.Evidence.Update
	}
	if r.Change != nil {
		update := r.Change.Evidence.Update
		r.Change.Evidence = s.evidence(func(a answer) bool {
			return slices.Contains(update.Leave, a.address) || slices.Contains(update.Return, a.address)
		})
		r.Change.Evidence.Update = update
		r.Change = rec.AddChange(*r.Change)
		if r.Effect == pool.Published {
			rec.Newest = update
		}
	}
	for _, g := range j.gatewaysOf(s) {
		rec.SetGateway(g.Interface, g.Address)
	}
	changed := r.Change != nil || finished != nil
	if !j.manual {
		changed = rec.Count(checkOf(j, s, r)) || changed
	}
	facts := factsOf(j, rec, s, r, finished)
	var draft notify.Draft
	rec.Head, draft = notify.Plan(rec.Head, About(j.set, rec), facts, notify.Policy{Rise: j.set.Rise, Remind: j.set.Mail.Remind})
	saveErr := j.Save(&rec, !rec.Quiet() || changed || j.manual)
	switch {
	case saveErr != nil:
		var compose func(state.Head) state.Head
		if !j.set.Mail.Silent() {
			compose = func(h state.Head) state.Head {
				h, _ = draft.Unwritten(h, About(j.set, rec), facts, saveErr.Error())
				return h
			}
		}
		rec.Head, _ = j.SendUnwritten(ctx, before.Head, rec.Head, saveErr, changed, r.Effect == pool.Published, compose, j.Deliver)
		if r.Effect == pool.Published || j.manual && r.Outcome != state.Blocked && r.Outcome != state.UpdateFailed {
			r.Outcome = state.StateFailed
		}
	default:
		if !j.manual {
			j.KeepSettings(j.set.Given)
		}
		if ctx.Err() == nil && len(rec.Outbox) > 0 { // after a signal the next run sends it
			rec.Outbox, rec.MailError = j.DeliverOutbox(rec.Outbox, rec.MailError, func(m []state.Message) ([]state.Message, error) { return j.Deliver(ctx, m) })
			saveErr = j.Save(&rec, true)
		}
	}
	if saveErr != nil {
		j.Remember(&rec)
	}
	for _, a := range notify.AlertChanges(before.Alerts, rec.Alerts) {
		j.Event(a)
	}
	return report(j, rec, s, r, changed, saveErr)
}

// interrupted is the change that a run has made which was killed before it could
// write that down; nil for none.
func interrupted(before Record, r Result) *state.Change {
	f := r.finished
	if len(f.Leave)+len(f.Return) == 0 {
		return nil
	}
	outcome := state.Restored
	if len(f.Leave) > 0 {
		outcome = state.Removed
	}
	return &state.Change{
		Event: cmp.Or(before.Event, state.NewEvent(now())), Time: now(), Outcome: outcome, Reason: f.Reason + "; the run that made this change was interrupted",
		Evidence: state.Evidence{Update: &state.Update{Leave: orEmpty(f.Leave), Return: orEmpty(f.Return)}},
	}
}

// gatewaysOf are those that replied when it counted.
func (j *job) gatewaysOf(s seen) (good []state.Gateway) {
	for _, g := range s.gateways {
		if slices.ContainsFunc(s.witnesses, func(w state.Witness) bool { return w.Answers && w.Address == g.Address.String() }) {
			good = append(good, g)
		}
	}
	return good
}

// checkOf is this check as the record keeps it. Up is the pool while one of its
// published members is.
func checkOf(j *job, s seen, r Result) state.Check {
	c := state.Check{
		Time: j.Began.UTC().Truncate(time.Second), Outcome: r.Outcome, Code: r.Outcome.Code(), Rule: r.Rule, Reason: r.Reason,
		Primary: "unknown", Witness: s.evidence(func(answer) bool { return false }).Witnessed(), Duration: state.Milliseconds(time.Since(j.Began).Milliseconds()),
	}
	down := 0
	for _, a := range s.members {
		for _, round := range a.rounds {
			c.Sent, c.Received = c.Sent+round.Sent, c.Received+round.Received
			if c.RTT == nil {
				c.RTT = round.RTT
			}
		}
		switch published := r.known() && r.set.Has(a.address); {
		case published && a.verdict.String() == "up":
			c.Primary = "up"
		case published && a.verdict.String() == "down":
			down++
		}
	}
	if c.Primary != "up" && down > 0 {
		c.Primary = "down"
	}
	return c
}

// factsOf is what the run has to tell its operator.
func factsOf(j *job, rec Record, s seen, r Result, finished *state.Change) notify.Facts {
	f := notify.Facts{Time: now(), Outcome: r.Outcome, Reason: r.Reason, Cause: r.Cause, Change: r.Change, Finished: finished}
	f.Evidence = s.evidence(func(a answer) bool { return slices.Contains(r.Kept, a.address) || a.verdict.String() == "unknown" })
	if j.manual {
		return f
	}
	c := notify.Check{Outcome: r.Outcome, Rule: r.Rule, Reason: r.Reason, Streaks: rec.Streaks, Now: f.Time}
	if len(r.Kept) > 0 && r.Effect == pool.Published { // an alert, also beside the change of others
		c.Outcome, c.Rule = state.Blocked, pool.RuleFewest
	}
	left := notify.Condition{Kind: notify.LeftRecords, Firing: len(r.Left) > 0, Over: r.known()}
	if left.Firing {
		left.Reason = fmt.Sprintf("%s %s published, and no longer %s of this pool", list(r.Left), isAre(r.Left), memberWord(r.Left))
	}
	var certificates []string
	for _, a := range s.members {
		certificates = append(certificates, a.certificates...)
	}
	c.Conditions = append(c.Conditions, left, notify.Condition{
		Kind: notify.Certificate, Firing: len(certificates) > 0, Over: true, Reason: strings.Join(certificates, "; "),
	})
	f.Check = &c
	return f
}

// About is what messages say of the pool.
func About(p config.Pool, rec Record) notify.Cluster {
	c := notify.Cluster{Name: p.Name, Host: shown(p.Record), Server: p.Server, Hostname: proc.Hostname(), To: p.Mail.To, Command: p.Mail.Notify != nil}
	if len(p.Given["state-dir"]) > 0 {
		c.StateDir = p.StateDir
	}
	for _, a := range PublishedIn(&rec) {
		c.Now = append(c.Now, a.String())
	}
	return c
}

// reportHeldLock reports, once an hour, a lock that another run has held for longer
// than a run can take.
func reportHeldLock(ctx context.Context, j *job, busy error) {
	if e, ok := errors.AsType[*run.Error](busy); !ok || e.Code != run.CodeBusy || j.manual {
		return
	}
	limit := j.set.Deadline() + run.LockPatience
	pid, since, due := j.Dir.HeldTooLong(ctx, j.Name, j.Began, limit, func() time.Duration {
		rec, err := state.LoadKept[Record](j.Dir, j.Name, false)
		if err != nil {
			return 0
		}
		_, gap := rec.LastCheck()
		return gap
	})
	if !due {
		return
	}
	reason := fmt.Sprintf("run %d has held the lock since %s, longer than a run can take (%s): it is stopped, frozen or hangs",
		pid, since.Local().Format("2006-01-02 15:04:05 -0700"), config.DurationText(limit))
	j.Warnf("%s, and this pool is not checked; to end it: kill -9 %d", reason, pid)
	if j.set.Mail.Silent() {
		return
	}
	message := notify.Compose(About(j.set, Record{}), []notify.Notification{{
		Kind: notify.LockHeld, Time: now(), Reason: reason, Undo: []string{fmt.Sprintf("kill -9 %d", pid)},
	}}, state.NewEvent(now())+"."+string(notify.LockHeld), "")
	left, err := j.Deliver(ctx, []state.Message{message})
	j.Event(run.Delivered{Sent: 1 - len(left), Waiting: len(left), Error: err})
	if err != nil {
		j.Warnf("mail is lost: %v", err)
	}
}

// reportUntrusted reports what root does not run because others can write to it or
// replace it: notifications wait. Of a pool that was never checked it is an error.
func reportUntrusted(j *job, rec Record) error {
	last, gap := rec.LastCheck()
	warning := j.manual || state.HourBegins(j.Began, gap)
	programs := j.set.Mail.Programs()
	for _, s := range j.set.Services {
		if s.Argv != nil {
			programs = append(programs, proc.Program{Setting: "service", Argv: s.Argv})
		}
	}
	for _, r := range proc.Refused(programs, j.Trusted) {
		if last.IsZero() {
			return &run.Error{Code: run.CodeSettings, Text: r.Text, Hint: r.Fix}
		}
		j.Event(run.Note{Text: r.Text + "; " + r.Fix, Warning: warning})
	}
	for _, p := range j.set.Mail.Unusable {
		j.Event(run.Note{Text: p.Error() + "; mail stays pending", Warning: warning})
	}
	return nil
}

// without are the addresses that are no members.
func without(addrs []netip.Addr, members []pool.Member) []netip.Addr {
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		return slices.ContainsFunc(members, func(m pool.Member) bool { return m.Address == a })
	})
}

func list(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func isAre(addrs []netip.Addr) string {
	if len(addrs) == 1 {
		return "is"
	}
	return "are"
}

func memberWord(addrs []netip.Addr) string {
	if len(addrs) == 1 {
		return "a member"
	}
	return "members"
}
