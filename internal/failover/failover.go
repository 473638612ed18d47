// Package failover is one check of a cluster, from top to bottom: survey this
// machine, probe the network, decide, write the intent, act, write the result,
// notify.
package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pingover/internal/config"
	"pingover/notify"
	"pingover/state"
)

// Options are what the command line adds to a cluster's settings.
type Options struct {
	DryRun bool
	Force  bool // of what is done by hand: see TakeOver and Release
	// Finish says that no other run may come soon, as when a service is stopped:
	// after a signal a switch that was begun is finished with its hook and its mail.
	Finish bool
	// Tell is handed what the check does as it does it (RoundBegan, Replied,
	// …, Noted); nil tells nobody. It is called by one goroutine at a time.
	OnEvent func(event any)
}

// Error is a check that was not made, with the exit code that says why: 20
// the kernel could not be asked, 75 another run holds the lock, 77 no
// permission, 78 the settings do not fit this machine. Nothing was changed.
type Error struct {
	Code int
	Text string
	Hint string // what to do about it, "" where there is nothing to say
	// Hung says that the check was given up and left behind: it has its lock
	// until the process ends, and that should be soon.
	Hung bool
}

func (e *Error) Error() string { return e.Text }

// Exit codes of checks that were not made, as in sysexits.h.
const (
	codeBusy       = 75 // EX_TEMPFAIL
	codePermission = 77 // EX_NOPERM
	codeSettings   = 78 // EX_CONFIG
)

// Rules of Decide.
const (
	rulePaused     = 2 // keeps what is held
	ruleUnfinished = 1 // a release that was interrupted
	ruleRival      = 3 // gives way to another machine
	ruleIsolated   = 4 // gives up when no witness answers
	ruleFailback   = 5 // hands over
	ruleHold       = 6 // holds, and raises what is missing
)

// CheckIn is Machine.Check in a world of the caller's making.
func CheckIn(ctx context.Context, w Env, c config.Cluster, o Options) (Report, error) {
	return within(Longest(c), newRun(w, c, o), func(r *run) (Report, error) { return r.check(ctx) })
}

func newRun(w Env, c config.Cluster, o Options) *run {
	r := &run{
		Env: w, set: c, opt: o, dir: state.Dir(c.StateDir), began: time.Now(), since: time.Now(),
		asked: map[netip.Addr]bool{}, pinged: map[netip.Addr]bool{}, seen: state.Observation{Host: c.Host},
	}
	r.judge = r.decide
	return r
}

// run is one check under way.
type run struct {
	Env
	set     config.Cluster
	opt     Options
	telling sync.Mutex

	dir    state.Dir
	rec    *state.Record
	unsaid error         // why the record could not be written
	last   time.Time     // of the last check that was written down
	gap    time.Duration // between that and the one before
	began  time.Time
	typed  string                // the command, where it is not a check but done by hand
	judge  func() state.Decision // of what was seen
	known  state.Known           // before anything was seen
	stage  atomic.Value          // what is being done, in words
	acting atomic.Bool           // an intent is written down
	// abandoned says that the run hung for too long and was given up: whatever
	// it hung on, nothing is switched by it any more.
	abandoned atomic.Bool
	looked    time.Time // when the guards had asked for the last time

	ground   ground
	ears     map[string]ear // by interface
	deaf     error          // why an ear could not be opened
	since    time.Time      // what was heard before does not count
	asked    map[netip.Addr]bool
	pinged   map[netip.Addr]bool // virtual IPs that answered a ping
	seen     state.Observation
	evidence state.Evidence

	moved       bool         // something was raised or lowered by this run, or it was tried
	lowered     []netip.Addr // by this run
	nobodyTook  bool         // what was handed over: it was raised again
	hooksFailed []hookFailure
	hooksTold   int // of them

	unwritten []notify.Notification // of this run
	letter    draft                 // of this run's change
}

func (r *run) check(ctx context.Context) (Report, error) {
	end, err := r.begin(ctx)
	if err != nil {
		return Report{}, err
	}
	defer end()
	r.sayHowLong()
	if err := r.look(ctx); err != nil {
		return Report{}, err
	}
	return r.carryOut(ctx, r.judge()), nil
}

// begin is what comes before all looking: rights, lock, record, ground. End
// has to be called when the run is over.
func (r *run) begin(ctx context.Context) (end func(), err error) {
	if err := r.rights(); err != nil {
		return nil, err
	}
	if err := r.dir.Foreign(r.set.Name); err != nil {
		return nil, refused(err)
	}
	r.doing("taking the lock")
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	if err = r.recall(); err == nil {
		err = r.stand(ctx)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	r.compare()
	return func() {
		r.deafen()
		unlock()
	}, nil
}

// carryOut is what follows a decision: act, write down, tell.
func (r *run) carryOut(ctx context.Context, decision state.Decision) Report {
	r.tell(Decided{Decision: decision})
	if r.opt.DryRun {
		r.rehearse(decision)
		return r.report(result{Outcome: decision.Outcome, reason: decision.Reason}, r.wouldChange(decision))
	}
	done := r.act(ctx, decision)
	if r.opt.Finish && done.Switched() {
		ctx = context.WithoutCancel(ctx)
	}
	if r.typed == typedRelease && r.nobodyTook {
		done.Outcome = state.Blocked
	}
	changed := r.writeDown(decision, done)
	if r.unsaid == nil || r.moved { // what cannot be crossed off is not run again and again
		r.runOwedHook(ctx)
	}
	switch {
	case r.unsaid != nil:
		told := r.sendUnwritten(ctx, done)
		changed = changed && told
		switch {
		case done.Switched() && told:
			done.Outcome = state.StateFailed
		case done.Outcome == state.TookOver: // an earlier run did it, and told
			done.Outcome = state.Holding
		}
	case ctx.Err() == nil: // after a signal the next run sends it
		r.sendMail(ctx)
	}
	return r.report(done, changed)
}

// doing notes what the run is at, should it never come back.
func (r *run) doing(what string) { r.stage.Store(what) }

// rights finds out at once, while all may be well, whether a takeover would
// be permitted.
func (r *run) rights() error {
	if err := r.MayPing(); err != nil {
		return &Error{Code: codePermission, Text: err.Error()}
	}
	if len(r.set.VIPs) > 0 && !r.opt.DryRun {
		if err := r.MayRaise(); err != nil {
			return &Error{
				Code: codePermission, Text: err.Error(),
				Hint: "run it as root, or with the capabilities CAP_NET_ADMIN and CAP_NET_RAW; --dry-run needs CAP_NET_RAW at the most",
			}
		}
	}
	return nil
}

// lock takes the cluster's lock; a dry run takes none, for it changes nothing.
// A check gives way to another at once; what is done by hand waits.
func (r *run) lock(ctx context.Context) (unlock func(), err error) {
	switch {
	case r.opt.DryRun:
		return func() {}, nil
	case r.typed != "":
		unlock, err = r.Locks.LockWait(ctx, r.dir, r.set.Name, lockPatience, func(pid int) { r.tell(LockWaited{PID: pid, For: lockPatience}) })
	default:
		unlock, err = r.Locks.Lock(r.dir, r.set.Name)
	}
	switch {
	case err == nil:
		return unlock, nil
	case errors.Is(err, state.ErrBusy) && r.typed != "":
		return nil, &Error{Code: codeBusy, Text: fmt.Sprintf("another run of this cluster still holds the lock after %s; nothing was changed", lockPatience)}
	case errors.Is(err, state.ErrBusy):
		return nil, &Error{Code: codeBusy, Text: "another run is checking this cluster"}
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, &Error{Code: codeSettings, Text: fmt.Sprintf("lock: %v", err)}
}

// refused is what comes of something else in place of one of our files.
func refused(foreign error) error {
	return &Error{Code: codeSettings, Text: foreign.Error(), Hint: "remove it, or choose another --state-dir"}
}

// recall loads the record, and says what is wrong with it.
func (r *run) recall() error {
	r.doing("reading the record")
	rec, err := r.dir.Load(r.set.Name, !r.opt.DryRun)
	if errors.As(err, new(*state.ForeignError)) {
		return refused(err)
	}
	if err != nil {
		r.shout("%v; going on with what the kernel shows", err)
	}
	if rec.Host != "" && rec.Host != r.set.Host {
		return &Error{
			Code: codeSettings, Text: fmt.Sprintf("the record of cluster %q is of host %q, not of %q", r.set.Name, rec.Host, r.set.Host),
			Hint: r.nameOfItsOwn(),
		}
	}
	rec.Host = r.set.Host
	if r.typed == "" || rec.Settings == nil { // what is typed once is not for ever
		rec.Settings = r.set.Given
	}
	r.rec = rec
	if rec.Last != nil {
		r.last, r.gap = rec.Last.Time, rec.Gap.Duration()
	}
	return nil
}

// nameOfItsOwn says what to do where the record is another machine's.
func (r *run) nameOfItsOwn() string {
	place := r.set.From["host"]
	if place == "" || place == "--host" {
		return "give this cluster a name of its own with --name"
	}
	return fmt.Sprintf("rename this cluster (%s); or, when only its primary has a new address, remove %s/%s.json: "+
		"lost with it are its history, the mail that waits, and what was raised here or done by hand", place, r.dir, r.set.Name)
}

// compare brings the record in line with the kernel and with the settings.
func (r *run) compare() {
	boot, err := r.BootID()
	if err != nil {
		r.note("the boot id cannot be read: %v", err)
		boot = r.rec.BootID
	}
	// What is no longer a setting is not ours to judge, only to report.
	known := r.rec.VIPs
	here := r.held()
	left := r.leftovers()
	r.rec.VIPs = slices.DeleteFunc(slices.Clone(known), func(a state.Alias) bool { return !r.isVIP(a.Prefix.Addr()) })
	for _, a := range left {
		r.note("%s; to remove it: %s", LeftBehind(a), Removal(a))
		here = append(here, a.Prefix.Addr()) // it has not vanished
	}
	surprise, settled := r.rec.Settle(here, boot, time.Now().UTC().Truncate(time.Second))

	aliases := make([]state.Alias, 0, len(r.ground.aliases)+len(left))
	for _, a := range r.ground.aliases {
		alias := state.Alias{Prefix: a.Prefix, Interface: a.Interface}
		for _, k := range r.rec.VIPs {
			if k.Prefix.Addr() == a.Prefix.Addr() {
				alias.Label, alias.Raised, alias.Until = k.Label, k.Raised, k.Until
			}
		}
		aliases = append(aliases, alias)
	}
	r.rec.VIPs = append(aliases, left...)
	if r.ground.address.IsValid() {
		r.rec.Address = r.ground.address
	}
	r.rec.Interface = r.shownInterface()
	r.tellSurprise(surprise, settled)
	if !r.last.IsZero() && Overdue(r.began.Sub(r.last), r.gap) {
		r.rec.Streaks = state.Streaks{} // the runs had stopped: nothing was in a row
	}
	r.known = state.Known{
		Role: r.rec.Role, HandingOver: len(r.rec.Offered) > 0, ManualRelease: r.rec.ManualRelease,
		ManualTakeover: r.rec.ManualTakeover, NobodyTook: r.rec.NobodyTook,
		Up: r.rec.Streaks.Up, Unserved: r.rec.Streaks.Unserved, Silent: r.rec.Streaks.Silent,
	}
	if text := r.shortLease(); text != "" {
		r.note("%s", text)
	}
	if len(r.set.Mail.To) == 0 {
		r.note("%s", nobodyIsTold)
	}
	if r.ground.never && len(r.set.VIPs) > 0 {
		r.tell(Note{Text: noWitness + "; set --witness", Warning: !r.rec.WitnessReported})
		r.rec.WitnessReported = true
	}
}

// What a talkative check and an examination say in the same words.
const (
	nobodyIsTold = "nobody is told of a change by mail: no mail-to is set"
	noWitness    = "no witness: this machine has no default gateway, or it is the primary itself, so a takeover will be refused"
)

// shortLease says what is wrong with the lease, for a cron that runs as the
// record shows; "" for nothing.
func (r *run) shortLease() string {
	if r.set.Lease == 0 || r.set.Lease >= 2*r.gap {
		return ""
	}
	return fmt.Sprintf("the lease of %s is shorter than twice the time between the last two checks, %s: one that comes late loses the alias",
		config.DurationText(r.set.Lease), config.DurationText(r.gap.Round(time.Second)))
}

// leftovers are what pingover raised and what is still here, but no longer a
// setting.
func (r *run) leftovers() (left []state.Alias) {
	for _, a := range r.rec.VIPs {
		if r.rec.Ours(a) && !r.isVIP(a.Prefix.Addr()) && r.ground.kernel.Holds(a.Prefix.Addr()) {
			a.Raised = true
			left = append(left, a)
		}
	}
	return left
}

// LeftBehind says of an alias what it is: here, and no longer a setting.
func LeftBehind(a state.Alias) string {
	return fmt.Sprintf("%s is still on this machine, raised by pingover, but no longer a setting of this cluster", a.Prefix.Addr())
}

// Removal is the command that takes it away.
func Removal(a state.Alias) string {
	return fmt.Sprintf("ip addr del %s dev %s", a.Prefix, a.Interface)
}

// decide lets Decide speak about what was seen.
func (r *run) decide() state.Decision {
	r.see()
	r.known.PausedUntil = r.pausedUntil()
	return state.Decide(r.known, r.seen, state.Settings{
		Rise: r.set.Rise, BootWait: r.set.BootWait, Failback: r.set.Failback, Isolated: r.set.Isolated,
	}, time.Now())
}

// mayTake says whether this check could become a takeover, as far as that is
// known before the guards ask.
func (r *run) mayTake() bool {
	return !r.opt.DryRun && len(r.set.VIPs) > 0 && (r.typed != "" || !r.ground.never && !r.rec.ManualRelease &&
		r.seen.Uptime >= r.set.BootWait && !time.Now().Before(r.pausedUntil()))
}

// pausedUntil is read anew each time, so that a pause takes effect at once.
func (r *run) pausedUntil() time.Time {
	until, err := r.dir.PausedUntil(r.set.Name)
	if err != nil {
		r.note("%v; taken for a pause", err)
		return time.Now().Add(time.Hour)
	}
	return until
}

// report puts together what is shown of the check.
func (r *run) report(done result, changed bool) Report {
	held := []netip.Prefix{}
	for _, a := range r.held() {
		held = append(held, r.ground.kernel.Assignments(a)[0].Address.Prefix)
	}
	e := r.evidence
	e.Rounds, e.Witnesses = orEmpty(e.Rounds), orEmpty(e.Witnesses)
	e.Holders, e.Commands = orEmpty(e.Holders), orEmpty(e.Commands)
	report := Report{
		Version: 1, Cluster: r.set.Name, Time: r.began.UTC().Truncate(time.Second),
		Outcome: done.Outcome, Code: done.Code(), Changed: changed, DryRun: r.opt.DryRun, Reason: done.reason,
		Role: r.rec.Role, Held: held, Interface: r.shownInterface(), Paused: time.Now().Before(r.pausedUntil()),
		Host: r.set.Host, Evidence: e, MailWaiting: len(r.rec.Outbox),
		Duration: state.Milliseconds(time.Since(r.began).Milliseconds()),
	}
	if r.unsaid != nil {
		text := r.unsaid.Error()
		report.Error = &text
	}
	if r.typed == "" && !r.opt.DryRun {
		report.Check = *r.rec.Last
		report.Check.Outcome, report.Check.Code, report.Check.Duration = report.Outcome, report.Code, report.Duration
	}
	return report
}

func (r *run) shownInterface() string {
	if len(r.ground.aliases) > 0 {
		return r.ground.aliases[0].Interface
	}
	return r.ground.route.Interface
}

// note and shout tell what an operator should know although the check goes on.
func (r *run) note(format string, args ...any) {
	r.tell(Note{Text: fmt.Sprintf(format, args...)})
}

func (r *run) shout(format string, args ...any) {
	r.tell(Note{Text: fmt.Sprintf(format, args...), Warning: true})
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
