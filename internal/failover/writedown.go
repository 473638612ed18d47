package failover

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
	"pingover/internal/proc"
	"pingover/notify"
	"pingover/state"
)

// writeDown puts what came of the check into the record, with the mail that
// it owes, and writes both in one write: a run that is killed later has lost
// neither. It says whether the check ended otherwise than the last one.
func (r *run) writeDown(d state.Decision, done result) (changed bool) {
	r.doing("writing the record")
	now := time.Now().UTC().Truncate(time.Second)
	if done.change != nil {
		done.change.Evidence.Commands = r.evidence.Commands // some were run after the change was begun
	}
	if r.seen.Primary == check.Down {
		r.rec.BackReported = false // should it come back once more, that is told again
	}
	if r.seen.Primary == check.Up && r.neighbour() && !r.isVIP(r.ground.address) {
		mac, err := r.Neighbour(r.ground.route.Interface, r.ground.address)
		switch {
		case err != nil:
			r.shout("the primary's MAC is unknown: %v", err)
		case mac != nil:
			r.rec.Neighbour = mac.String()
		}
	}
	rule := cmp.Or(done.rule, d.Rule)
	if done.Outcome == state.TakeoverFailed && r.holding() {
		rule = ruleHold // by which the next run goes on with it: one trouble
	}
	if r.typed != "" {
		changed = done.change != nil
	} else {
		changed = r.rec.Count(r.checked(done, rule), r.saw())
	}
	if owed := r.rec.PendingHook; owed != nil && r.hookOf(owed.Hook) == nil {
		r.rec.PendingHook = nil
	}
	news, replyTo := r.news(done, now)
	r.unwritten = append(news, r.unwritten...)
	r.post(news, replyTo, now)
	r.save(!r.rec.Quiet() || changed)
	return changed
}

// checked is this check as the record keeps it.
func (r *run) checked(done result, rule int) state.Check {
	c := state.Check{
		Time: r.began.UTC().Truncate(time.Second), Outcome: done.Outcome, Code: done.Code(), Rule: rule, Reason: done.reason,
		Primary: r.seen.Primary.String(), Duration: state.Milliseconds(time.Since(r.began).Milliseconds()),
	}
	if n := len(r.evidence.Rounds); n > 0 {
		last := r.evidence.Rounds[n-1]
		c.Sent, c.Received, c.RTT = last.Sent, last.Received, last.RTT
	}
	return c
}

// saw is what the streaks count.
func (r *run) saw() state.Signs {
	return state.Signs{
		Primary: r.seen.Primary, Unserved: r.unserved(),
		Silent: r.holding() && r.seen.Witness == state.WitnessSilent,
	}
}

// wouldChange is what writeDown would say, for a dry run.
func (r *run) wouldChange(d state.Decision) bool {
	last := r.rec.Last
	return last == nil && d.Outcome != state.OK || last != nil && last.Outcome != d.Outcome
}

// unserved says whether the primary answered, and nobody for a virtual IP
// that others could be asked for.
func (r *run) unserved() bool {
	return r.seen.Primary == check.Up && slices.ContainsFunc(r.seen.VIPs, func(s state.VIPStatus) bool {
		return s.Asked && !s.InUse && !s.Held
	})
}

// save writes the record. What cannot be written is remembered: it changes
// how the run ends, not what it does.
func (r *run) save(durable bool) {
	if err := r.dir.Save(r.rec, durable); err != nil {
		r.unsaid = fmt.Errorf("the state cannot be written: %w", err)
		return
	}
	r.unsaid = nil
}

// news is what the operator has to be told after this run, the newest first:
// the switch, the trouble that is due or over, and what the record did not
// expect of the kernel.
func (r *run) news(done result, now time.Time) (news []notify.Notification, replyTo string) {
	this := state.Change{Time: now, Reason: done.reason, Evidence: r.evidence}
	if done.change != nil {
		this = *done.change
	}
	add := func(kind notify.Kind, change state.Change, trouble state.Alert) {
		news = append(news, r.tidings(kind, change, trouble))
	}

	var due *state.Alert
	var ended []state.Alert
	if r.typed == "" {
		rule := r.rec.Last.Rule
		if done.Outcome == state.Blocked && r.isAdrift() { // the check after a hand-over finds it interrupted: the same trouble
			rule = ruleUnfinished
		}
		r.rec.Alerts, due, ended, _ = notify.TrackAlerts(r.rec.Alerts,
			notify.Check{Outcome: done.Outcome, Rule: rule, Streaks: r.rec.Streaks, Now: now},
			notify.Policy{Rise: r.set.Rise, Remind: r.set.Mail.Remind})
	}
	// Who typed a command sees why it was refused; what was tried is news, and
	// so is what was taken and given up again, whatever was told before.
	tried := r.typed != "" && (done.Outcome == state.TakeoverFailed || done.Outcome == state.ReleaseFailed)
	if due == nil && done.change != nil && (tried || done.Outcome == state.Blocked) {
		due = new(state.Alert)
	}
	switch {
	case r.nobodyTook:
		add(notify.NobodyTook, this, state.Alert{})
		replyTo = r.rec.Thread
		r.rec.BackReported = r.rec.BackReported || r.rec.Streaks.Up >= r.set.Rise
	case done.Outcome == state.TookOver:
		// What stood in its way until now is over with it.
		for _, t := range r.rec.Alerts {
			replyTo = cmp.Or(replyTo, t.MessageID)
		}
		r.rec.Alerts, ended = nil, nil
		add(notify.TookOver, this, state.Alert{})
		r.rec.BackReported = false
	case done.Outcome == state.Released:
		add(notify.Released, this, state.Alert{})
		replyTo = r.rec.Thread
	case due != nil:
		add(notify.Kind(done.Outcome), this, *due)
		replyTo = due.MessageID
	}
	for _, t := range ended {
		add(notify.Recovered, this, t)
		replyTo = cmp.Or(replyTo, t.MessageID)
	}
	for _, f := range r.hooksFailed {
		add(notify.HookFailed, r.failureOf(f, this), state.Alert{})
		news[len(news)-1].Hook = f.hook
	}
	manual := !r.set.Failback || r.rec.ManualTakeover || r.rec.NobodyTook // else it is handed over
	if manual && r.rec.Role == state.Active && r.rec.Streaks.Up >= r.set.Rise && !r.rec.BackReported {
		add(notify.PrimaryBack, this, state.Alert{})
		replyTo = cmp.Or(replyTo, r.rec.Thread)
		r.rec.BackReported = true
	}
	r.hooksTold = len(r.hooksFailed)
	if len(news) == 0 || len(r.set.Mail.To) == 0 {
		return nil, ""
	}
	return news, replyTo
}

// tellSurprise owes the operator what the record did not expect of the kernel.
// It goes into the outbox at once: the next write, be it that of an intent,
// has the change in the history, and must have its letter.
func (r *run) tellSurprise(surprise state.Drift, settled *state.Change) {
	kind, replyTo := notify.AliasGone, ""
	switch surprise {
	case state.NoDrift:
		return
	case state.ReleaseFinished:
		kind, replyTo = notify.Released, r.rec.Thread
	}
	r.unwritten = []notify.Notification{r.tidings(kind, *settled, state.Alert{})}
	r.post(r.unwritten, replyTo, settled.Time)
}

// tidings is one piece of news, with what is here now, what is missing, and
// the commands that undo it.
func (r *run) tidings(kind notify.Kind, change state.Change, trouble state.Alert) notify.Notification {
	n := notify.Notification{
		Kind: kind, Event: change.Event, Time: change.Time, Reason: change.Reason, Evidence: change.Evidence, Alert: trouble,
		Held: r.prefixes(true), Missing: r.prefixes(false),
	}
	switch kind {
	case notify.AliasGone:
		n.Undo = lines(r.plansToRaise())
	case notify.Released:
		n.Missing = slices.DeleteFunc(n.Missing, func(p netip.Prefix) bool { return !slices.Contains(r.lowered, p.Addr()) })
	case notify.Blocked:
		n.Unverified = r.isAdrift()
		n.Undo = lines(r.lowerPlans(r.ground.kernel))
	case notify.Unserved:
		n.Missing = slices.DeleteFunc(n.Missing, func(p netip.Prefix) bool {
			_, answered := r.holder(p.Addr())
			return answered
		})
	default:
		n.Undo = lines(r.lowerPlans(r.ground.kernel))
	}
	return n
}

// isAdrift says that all was given up here, and that nobody could be asked
// whether he has taken it.
func (r *run) isAdrift() bool { return r.rec.Role == state.Releasing && !r.holding() }

// draft is what a letter was made of.
type draft struct {
	id      string // "" where there is none
	news    []notify.Notification
	replyTo string
}

// failureOf is a hook's failure as a change of its own.
func (r *run) failureOf(f hookFailure, after state.Change) state.Change {
	after.Reason = f.err.Error()
	after.Evidence = state.Evidence{Commands: []state.Command{f.command}}
	return after
}

// post puts the news into the outbox, or what of them is to be told now: what
// comes again and again is gathered.
func (r *run) post(news []notify.Notification, replyTo string, now time.Time) {
	if len(r.set.Mail.To) == 0 {
		return
	}
	r.rec.Damping, news = notify.Dampen(r.rec.Damping, news, now)
	for i := range news {
		if news[i].Kind == notify.Flapping {
			news[i].Held, news[i].Undo = r.prefixes(true), lines(r.lowerPlans(r.ground.kernel))
		}
	}
	r.enqueue(news, replyTo)
}

// addToLetter adds what a hook came to, that ran when the letter of its change
// was written already, but not sent. Where there is none a failure has its own.
func (r *run) addToLetter(ran []state.Command) {
	var failed []notify.Notification
	for _, f := range r.hooksFailed[r.hooksTold:] {
		n := r.tidings(notify.HookFailed, r.failureOf(f, state.Change{Time: time.Now().UTC().Truncate(time.Second), Event: r.rec.PendingHook.Event}), state.Alert{})
		n.Hook = f.hook
		failed = append(failed, n)
	}
	r.hooksTold = len(r.hooksFailed)
	if r.letter.id == "" {
		r.post(failed, r.rec.Thread, time.Now().UTC().Truncate(time.Second))
		return
	}
	first := &r.letter.news[0]
	first.Evidence.Commands = slices.Concat(first.Evidence.Commands, ran)
	letter := notify.Compose(r.about(), append(r.letter.news, failed...), r.letter.id, r.letter.replyTo)
	for i, l := range r.rec.Outbox {
		if l.MessageID == letter.MessageID {
			r.rec.Outbox[i] = letter
		}
	}
}

func (r *run) about() notify.Cluster {
	dir := ""
	if len(r.set.Given["state-dir"]) > 0 {
		dir = r.set.StateDir
	}
	return notify.Cluster{
		Name: r.set.Name, Host: r.set.Host, VIPs: r.prefixes(true, false),
		Interface: r.shownInterface(), Hostname: hostname(), StateDir: dir, To: r.set.Mail.To,
	}
}

func (r *run) plansToRaise() [][]string {
	plans, _ := r.raisePlans(func(netip.Addr) bool { return true })
	return plans
}

// enqueue puts one letter with all the news into the outbox.
func (r *run) enqueue(news []notify.Notification, replyTo string) {
	if len(news) == 0 {
		return
	}
	about := r.about()
	event := state.NewEvent(r.began)
	switch news[0].Kind {
	case notify.TookOver, notify.Released, notify.NobodyTook, notify.AliasGone:
		event = news[0].Event // told again by who finishes it, it is the same letter
	}
	r.letter = draft{event + "." + string(news[0].Kind), news, replyTo}
	letter := notify.Compose(about, news, r.letter.id, replyTo)
	r.rec.Outbox = notify.Enqueue(about, r.rec.Outbox, letter)
	if news[0].Kind == notify.TookOver {
		r.rec.Thread = letter.MessageID
	}
	for i, t := range r.rec.Alerts {
		if t.MessageID == "" {
			r.rec.Alerts[i].MessageID = letter.MessageID
		}
	}
}

// prefixes are the virtual IPs as they stand in the settings: those that are
// here, those that are not, or both.
func (r *run) prefixes(which ...bool) []netip.Prefix {
	var p []netip.Prefix
	for _, a := range r.ground.aliases {
		if slices.Contains(which, r.ground.kernel.Holds(a.Prefix.Addr())) {
			p = append(p, a.Prefix)
		}
	}
	return p
}

// lines are commands as one would type them.
func lines(plans [][]string) (lines []string) {
	for _, argv := range plans {
		lines = append(lines, proc.Line(argv))
	}
	return lines
}

// sendMail delivers what the outbox holds, and crosses off what was taken.
// Mail never changes how the run ends; that it waits is said when that
// begins, and when it ends.
func (r *run) sendMail(ctx context.Context) {
	if len(r.rec.Outbox) == 0 {
		return
	}
	r.doing("sending mail")
	waiting := len(r.rec.Outbox)
	var left []state.Message
	var err error
	r.keeping(func() { left, err = r.Deliver(ctx, r.rec.Outbox) })
	r.rec.Outbox = left
	r.tell(Delivered{Sent: waiting - len(left), Waiting: len(left), Error: err})
	switch before := r.rec.MailError; {
	case err != nil:
		text := err.Error()
		r.rec.MailError = &text
		if before == nil {
			r.shout("mail waits: %v", err)
		}
	case before != nil:
		r.rec.MailError = nil
		r.shout("mail is delivered again")
	}
	r.save(true)
}

// sendUnwritten sends the mail of a run whose record could not be written:
// at once, for no later run will know of it. What was owed before is left
// alone, or it would be sent in every run. What lasts, such as a trouble or
// the intent of an earlier run, is told only in the first such run, for no run
// remembers that it was; it is the one that comes when the last record is
// about one gap old. Where there never was a record, a line an hour says so: that
// needs no memory. It says whether this run has told.
func (r *run) sendUnwritten(ctx context.Context, done result) (told bool) {
	first := !r.last.IsZero() && r.began.Sub(r.last) < max(r.gap, time.Minute)*3/2
	switched := done.Switched() && r.moved
	if !switched && !first {
		r.tell(Note{Text: r.unsaid.Error(), Warning: r.began.Minute() == 0})
		return false
	}
	r.shout("%v", r.unsaid)
	if len(r.set.Mail.To) == 0 {
		return true
	}
	trouble := state.Change{Time: r.began.UTC().Truncate(time.Second), Reason: r.unsaid.Error()}
	r.rec.Outbox = nil
	r.enqueue(append(r.unwritten, r.tidings(notify.StateFailed, trouble, state.Alert{})), "")
	left, err := r.Deliver(context.WithoutCancel(ctx), r.rec.Outbox) // or a signal would lose it
	r.rec.Outbox = left
	r.tell(Delivered{Sent: 1 - len(left), Waiting: len(left), Error: err})
	if err != nil {
		r.shout("mail is lost: %v", err)
	}
	return true
}
