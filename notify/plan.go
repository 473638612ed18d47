package notify

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/state"
)

// Facts are what a run has to tell its operator, as far as it has.
type Facts struct {
	Time    time.Time
	Check   *Check // nil for a manual command, whose refusal its user sees
	Outcome state.Outcome
	Reason  string
	Cause   state.Cause // of Reason, where there is advice about it
	// Change is the switch, or nil; Evidence is what was observed and run.
	Change   *state.Change
	Partial  bool // Change is the release of a part; the rest is still held
	Evidence state.Evidence
	// Drift is what the record did not expect of the kernel; Change is about that
	// then, and nothing else of the facts counts.
	Drift state.Drift
	// Finished is a change that a run has made which was killed before it could
	// report it; nil for none.
	Finished *state.Change

	NeverUp      bool          // the primary has never replied to this machine
	Unconfigured bool          // the file no longer has the cluster
	NobodyTook   bool          // what was handed over: it was assigned here again
	PrimaryBack  bool          // the primary replies while this machine goes on holding
	BackReported bool          // and that was reported before
	Unverified   bool          // all was released, and nobody could be asked whether another machine took it
	Failed       []HookFailure // hooks that stop nothing

	Held, Missing []netip.Prefix // the virtual IPs that are here, and those that are not
	Removed       []netip.Addr   // by this run
	Unserved      []netip.Addr   // replied for by nobody
	Unreached     []netip.Addr   // held, and no witness replies to them
	Undo          []string       // command lines that remove what is held, or after a drift assign what is gone
}

// HookFailure is a hook that failed, with its command.
type HookFailure struct {
	Hook    string
	Reason  string
	Command state.Command
}

// Draft is the message of a run, to which a hook that runs later may add.
type Draft struct {
	All          []Notification // of the run, suppressed ones too
	BackReported bool

	id      string // "" where there is no message
	told    []Notification
	replyTo string
}

// Plan decides what the operator is told of a run, and puts it into the outbox
// of the record's head, or suppresses it. It is a pure function of what was told
// before and of the facts.
func Plan(h state.Head, c Cluster, f Facts, p Policy) (state.Head, Draft) {
	before := h.Alerts
	h.Recent = slices.Clone(h.Recent)
	d := Draft{BackReported: f.BackReported}
	if f.Drift != state.NoDrift {
		kind := AliasGone
		if f.Drift == state.ReleaseFinished {
			kind, d.replyTo = Released, h.Thread
		}
		d.All = []Notification{f.notification(kind, *f.Change, state.Alert{})}
	} else {
		h.Alerts, d = due(h, f, p, d)
		h = inHistory(h, before, f.Time)
	}
	if c.silent() {
		d.All = nil
		return h, d
	}
	return d.post(h, c, f, d.All, f.Time)
}

// due are the notifications of a run, the most important first, and the alerts
// after it.
func due(h state.Head, f Facts, p Policy, d Draft) ([]state.Alert, Draft) {
	this := state.Change{Time: f.Time, Reason: f.Reason, Evidence: f.Evidence}
	if f.Change != nil {
		this = *f.Change
	}
	alerts := slices.Clone(h.Alerts)
	var alert *state.Alert
	var firing, resolved []state.Alert
	if f.Check != nil {
		c := *f.Check
		if c.Outcome == state.Blocked && f.Unverified { // the next check finds the release interrupted: the same alert
			c.Rule = state.RuleUnfinished
		}
		alerts, firing, resolved, _ = TrackAlerts(alerts, c, p)
		if len(firing) > 0 && firing[0].Kind == string(c.Outcome) {
			alert, firing = &firing[0], firing[1:]
		}
	}
	// The user of a command sees why it was refused; what was tried is reported,
	// and so is what was taken and released again, whatever was reported before.
	tried := f.Check == nil && (f.Outcome == state.TakeoverFailed || f.Outcome == state.ReleaseFailed || f.Outcome == state.UpdateFailed)
	if alert == nil && f.Change != nil && (tried || f.Outcome == state.Blocked) {
		alert = new(state.Alert)
	}
	add := func(kind Kind, change state.Change, a state.Alert, replyTo string) {
		d.All = append(d.All, f.notification(kind, change, a))
		d.replyTo = cmp.Or(d.replyTo, replyTo)
	}
	switch {
	case f.NobodyTook:
		add(NobodyTook, this, state.Alert{}, h.Thread)
		d.BackReported = d.BackReported || f.PrimaryBack
	case f.Outcome == state.TookOver:
		// What blocked it until now is over with it.
		alerts = slices.DeleteFunc(alerts, func(a state.Alert) bool {
			over := canFire(state.Outcome(a.Kind)) || Kind(a.Kind) == NotReady
			if over {
				d.replyTo = cmp.Or(d.replyTo, a.MessageID)
			}
			return over
		})
		resolved = nil
		add(TookOver, this, state.Alert{}, "")
		d.BackReported = false
	case f.Outcome == state.Released || f.Partial:
		add(Released, this, state.Alert{}, h.Thread)
	case f.Outcome == state.Removed || f.Outcome == state.Restored:
		if f.Change != nil { // else it is the finished one
			add(Kind(f.Outcome), this, state.Alert{}, "")
		}
		if alert != nil { // others had to stay
			add(Kind(alert.Kind), state.Change{Time: f.Time, Reason: alert.Reason}, *alert, alert.MessageID)
		}
	case alert != nil:
		add(Kind(f.Outcome), this, *alert, alert.MessageID)
	}
	if f.Finished != nil {
		add(Kind(f.Finished.Outcome), *f.Finished, state.Alert{}, "")
	}
	for _, a := range firing {
		of := state.Change{Time: f.Time, Reason: a.Reason, Evidence: f.Evidence}
		add(Kind(a.Kind), of, a, a.MessageID)
	}
	for _, a := range resolved {
		add(Recovered, this, a, a.MessageID)
	}
	for _, failed := range f.Failed {
		d.All = append(d.All, f.hookFailed(failed, this))
	}
	if len(d.All) == 0 && f.Outcome == state.Holding && f.Change != nil { // what was missing is held here now
		add(TookOver, this, state.Alert{}, h.Thread)
	}
	if f.PrimaryBack && !d.BackReported {
		add(PrimaryBack, this, state.Alert{}, h.Thread)
		d.BackReported = true
	}
	return alerts, d
}

// notification is one of a run, with what is here now, what is missing, and the
// commands that undo it.
func (f Facts) notification(kind Kind, change state.Change, alert state.Alert) Notification {
	n := Notification{
		Kind: kind, Event: change.Event, Time: change.Time, Reason: change.Reason, Evidence: change.Evidence, Alert: alert,
		Held: f.Held, Missing: f.Missing, Undo: f.Undo, Outcome: f.Outcome, Cause: f.Cause, Manual: change.Manual,
	}
	only := func(of []netip.Prefix, addrs []netip.Addr) []netip.Prefix {
		return slices.DeleteFunc(slices.Clone(of), func(p netip.Prefix) bool {
			return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return state.SameAddress(a, p.Addr()) })
		})
	}
	switch kind {
	case TookOver:
		n.NeverUp, n.Unreached = f.NeverUp, only(f.Held, f.Unreached)
	case Released:
		n.Missing, n.Undo = only(f.Missing, f.Removed), nil
	case TakeoverFailed:
		n.Interrupted = f.Finished != nil && f.Finished.Event == change.Event
	case Blocked:
		n.Unverified = f.Unverified
	case Unserved:
		n.Missing, n.Undo = only(f.Missing, f.Unserved), nil
	case HookFailed:
		n.Hook = state.PostTakeover // the one that is an alert
	}
	return n
}

func (f Facts) hookFailed(failed HookFailure, after state.Change) Notification {
	after.Reason = failed.Reason
	after.Evidence = state.Evidence{Commands: []state.Command{failed.Command}}
	n := f.notification(HookFailed, after, state.Alert{})
	n.Hook = failed.Hook
	return n
}

// post puts notifications into the outbox, or those of them that are told now.
func (d Draft) post(h state.Head, c Cluster, f Facts, all []Notification, now time.Time) (state.Head, Draft) {
	h.Damping, d.told = Dampen(h.Damping, all, now)
	for i := range d.told {
		if d.told[i].Kind == Flapping {
			d.told[i].Held, d.told[i].Undo = f.Held, f.Undo
		}
	}
	return d.enqueue(h, c, now)
}

// enqueue puts one message with all that is told into the outbox.
func (d Draft) enqueue(h state.Head, c Cluster, now time.Time) (state.Head, Draft) {
	if len(d.told) == 0 {
		return h, d
	}
	change := state.NewEvent(now)
	switch d.told[0].Kind {
	case TookOver, Released, NobodyTook, AliasGone, Removed, Restored:
		change = d.told[0].Event // told again by the run that finishes it, it is the same message
	}
	d.id = change + "." + string(d.told[0].Kind)
	h.Outbox = d.events(h.Outbox, c, 0)
	if len(c.To) == 0 {
		return h, d
	}
	m := Compose(c, d.told, d.id, d.replyTo)
	h.Outbox = Enqueue(c, h.Outbox, m)
	if d.told[0].Kind == TookOver {
		h.Thread = m.MessageID
	}
	for i, a := range h.Alerts {
		if a.MessageID == "" {
			h.Alerts[i].MessageID = m.MessageID
		}
	}
	return h, d
}

// events puts those that are told, from the one with this number on, into the
// outbox for the notify command, the most important as the newest.
func (d Draft) events(outbox []state.Message, c Cluster, from int) []state.Message {
	for i := len(d.told) - 1; i >= from && c.Command; i-- {
		outbox = Enqueue(c, outbox, event(c, d.told[i], fmt.Sprintf("%s.%d.event", d.id, i)))
	}
	return outbox
}

// HookRan adds what a hook came to that ran when the message of its change was
// in the outbox, but not sent. Without one, a failure has its own.
func (d Draft) HookRan(h state.Head, c Cluster, f Facts, event string, command state.Command, failed *HookFailure) (state.Head, Draft) {
	before := h.Alerts
	h.Alerts, h.Recent = slices.Clone(h.Alerts), slices.Clone(h.Recent)
	var more []Notification
	if failed != nil {
		more = []Notification{f.hookFailed(*failed, state.Change{Time: f.Time, Event: event})}
	}
	if command.Hook == state.PostTakeover {
		h.Alerts, more = f.postTakeover(h.Alerts, failed, more, &d)
		h = inHistory(h, before, f.Time)
	}
	if c.silent() {
		return h, d
	}
	d.All = append(d.All, more...)
	if d.id == "" {
		d.replyTo = cmp.Or(d.replyTo, h.Thread)
		return d.post(h, c, f, more, f.Time)
	}
	told := len(d.told)
	d.told = slices.Concat(d.told, more)
	h.Outbox = d.events(h.Outbox, c, told)
	first := &d.told[0]
	first.Evidence.Commands = append(slices.Clone(first.Evidence.Commands), command)
	m := Compose(c, d.told, d.id, d.replyTo)
	h.Outbox = slices.Clone(h.Outbox)
	for i := range h.Outbox {
		if h.Outbox[i].MessageID == m.MessageID {
			h.Outbox[i] = m
		}
	}
	return h, d
}

// postTakeover is the alert of post-takeover: firing since its first failure,
// resolved when it succeeds.
func (f Facts) postTakeover(alerts []state.Alert, failed *HookFailure, more []Notification, d *Draft) ([]state.Alert, []Notification) {
	i := slices.IndexFunc(alerts, func(a state.Alert) bool { return Kind(a.Kind) == HookFailed })
	switch {
	case failed != nil:
		alerts, _, _ = fire(alerts, state.Alert{Kind: string(HookFailed), Reason: failed.Reason}, f.Time, Policy{})
	case i >= 0:
		more = append(more, f.notification(Recovered, state.Change{Time: f.Time}, alerts[i]))
		d.replyTo = cmp.Or(d.replyTo, alerts[i].MessageID)
		alerts = slices.Delete(alerts, i, i+1)
	}
	return alerts, more
}

// Unwritten is the outbox of a run whose record could not be written: one
// message with all that it had to tell, and why.
func (d Draft) Unwritten(h state.Head, c Cluster, f Facts, reason string) (state.Head, Draft) {
	why := state.Change{Time: f.Time, Reason: reason}
	d.told, d.replyTo, h.Outbox = append(slices.Clone(d.All), f.notification(StateFailed, why, state.Alert{})), "", nil
	return d.enqueue(h, c, f.Time)
}
