package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/internal/hold"
	"pingover/internal/observe"
	"pingover/internal/proc"
	"pingover/internal/run"
	"pingover/notify"
	"pingover/state"
)

// freshFor is how old an observation may be when an address is assigned; after
// that, as when another cluster took long to switch, the disk was slow or this
// machine slept, it is made once more.
const freshFor = 3 * time.Second

// Result is what came of a decision: what was done, what is known now, and how
// the intent ended.
type Result struct {
	state.Effect
	Outcome  state.Outcome
	Rule     int // of the decision that nothing was switched by; 0 where that is the first
	Reason   string
	Cause    state.Cause         // of Reason, where there is advice about it
	Obs      observe.Observation // the latest
	Commands []state.Command
	Failed   []notify.HookFailure // those that stopped nothing by that
	Hooks    []state.Entry        // those that were run, for the history
	Removed  []netip.Addr
	Moved    bool // something was assigned or removed, or it was tried
	// Isolation is why a machine that holds may be isolated. Rehearsed says that what
	// a takeover needs was tried, NotReady what of it failed.
	Isolation string
	Rehearsed bool
	NotReady  []string
	// NobodyTook says that what was handed over was assigned here again.
	NobodyTook bool
	// Yield is the conflict that was met while announcing a takeover: another
	// intent has to be written before anything is removed.
	Yield *yielding
}

// yielding is what has to be released right after it was assigned.
type yielding struct {
	decision state.Decision // of the takeover
	change   state.Change
	addrs    []netip.Addr
	waited   bool // the other machine should have yielded, and was waited for
}

// recheck is the one way back from acting to observing: with ask it probes
// again, briefly; without, it reads what has been heard meanwhile. It decides
// anew, and reads the pause for that.
type recheck func(ctx context.Context, o observe.Observation, ask bool) (observe.Observation, state.Decision)

// actor carries out one decision. It is the only code that assigns an address.
// A signal no longer stops it: what is begun is finished, for half a switch is
// the worst of all states.
type actor struct {
	j       *job
	n       *observe.Network
	recheck recheck
	intent  *state.Change // that is open; nil for none
	opened  bool          // by this run
	resumes bool          // a hand-over was open before
	done    Result
}

// act does what was decided. The intent is written.
func act(ctx context.Context, j *job, n *observe.Network, i intent, o observe.Observation, d state.Decision, again recheck) Result {
	if j.opt.Finish {
		ctx = context.WithoutCancel(ctx)
	}
	a := &actor{
		j: j, n: n, recheck: again, intent: i.change, opened: i.opened, resumes: i.resumes,
		done: Result{Obs: o, Effect: state.Effect{Aliases: slices.Clone(i.aliases), Unreached: i.unreached}},
	}
	switch {
	case d.Release:
		a.release(ctx, d, i.given)
	case len(d.Raise) > 0:
		a.takeOver(ctx, d)
	default:
		a.keep(ctx, d)
	}
	return a.done
}

// keep changes nothing. What is held is announced once more, for switch tables
// and ARP caches age, and its lease is renewed.
func (a *actor) keep(ctx context.Context, d state.Decision) {
	held, began := a.held(), time.Now()
	a.renew(ctx, held)
	if d.Outcome == state.TookOver {
		// A takeover is finished that a killed run had begun: perhaps it had
		// announced nothing yet.
		a.announce(held)
		a.settle(ctx, d, held, nil)
		return
	}
	if d.Announce && a.j.Set.Announce > 0 {
		a.announceAgain(held)
	}
	if a.done.Obs.Witness == state.WitnessGood { // else nothing is shown
		a.done.Unreached = a.unreached(ctx, without(held, without(held, a.done.Unreached)), began)
	}
	a.done.Outcome, a.done.Reason, a.done.Cause, a.done.Rule = d.Outcome, d.Reason, d.Cause, d.Rule
	// A pause leaves an open intent to the run that finishes it, and a manual
	// command leaves it to the next check.
	if d.Rule != state.RulePaused && d.Rule != state.RuleUnfinished && d.Rule != 0 {
		a.done.Ending = state.Confirmed
	}
}

// observe takes a new snapshot.
func (a *actor) observe() { a.done.Obs.Local = a.done.Obs.Again(a.j.Job) }

// decide reads what has been heard meanwhile, and decides anew.
func (a *actor) decide(ctx context.Context) (d state.Decision) {
	a.done.Obs, d = a.recheck(ctx, a.done.Obs, false)
	return d
}

// probe asks once more, and decides anew.
func (a *actor) probe(ctx context.Context) (d state.Decision) {
	a.done.Obs, d = a.recheck(ctx, a.done.Obs, true)
	return d
}

// stale tells whether what was observed is too old to act upon.
func (a *actor) stale() bool { return a.done.Obs.Age() > freshFor }

func (a *actor) held() []netip.Addr { return a.done.Obs.Held() }

// ended closes the intent: role is what this machine is now.
func (a *actor) ended(ending state.Ending, role state.Role, change state.Change) {
	a.done.Outcome, a.done.Reason = change.Outcome, change.Reason
	a.done.Ending, a.done.Role, a.done.Change = ending, role, &change
}

// roleByHolding is what this machine is by what it holds.
func (a *actor) roleByHolding() state.Role {
	if len(a.held()) > 0 {
		return state.Active
	}
	return state.Standby
}

// assign assigns addresses, and announces each at once. It returns those that
// are assigned, and why others are not. Which is asked last, when nothing is
// waited for any more: the observation is fresh then, and a pause is honoured. So it
// is again where assigning some took so long that it is too old for the others.
func (a *actor) assign(ctx context.Context, which func() []netip.Addr) (assigned []netip.Addr, failed []string) {
	if refusal := a.j.arb.Acquire(ctx); refusal != "" {
		return nil, []string{refusal}
	}
	a.j.Doing("waiting for its turn to switch")
	var late []netip.Addr
	for first := true; first || len(late) > 0; first = false {
		addrs, unlock, err := a.turn(ctx, which)
		if err != nil {
			return assigned, append(failed, err.Error())
		}
		if !first {
			if gone := without(late, addrs); len(gone) > 0 {
				failed = append(failed, observe.AddressList(gone)+" was not assigned: something else was observed while the others were")
			}
			addrs = without(late, without(late, addrs))
		}
		var some []netip.Addr
		var errs []string
		some, errs, late = a.assignNow(ctx, addrs)
		unlock()
		a.observe()
		assigned, failed = append(assigned, some...), append(failed, errs...)
	}
	return assigned, failed
}

// assignNow assigns addresses, but for the first only as long as the observation is
// not too old, and no claim of them has been heard meanwhile. Late are the others.
func (a *actor) assignNow(ctx context.Context, addrs []netip.Addr) (assigned []netip.Addr, failed []string, late []netip.Addr) {
	a.j.Doing("assigning " + observe.AddressList(addrs))
	begun := false
	for _, alias := range a.done.Obs.Aliases {
		addr := alias.Address()
		if !slices.Contains(addrs, addr) {
			continue
		}
		if begun && (a.stale() || len(a.n.Unclaimed(a.done.Obs, []netip.Addr{addr})) == 0) {
			late = append(late, addr)
			continue
		}
		begun = true
		if a.j.arb != nil {
			if alias.Lease = a.j.arb.Lifetime(); alias.Lease == 0 {
				failed = append(failed, fmt.Sprintf("%s was not assigned: the arbiter's key is too old by now", addr))
				continue
			}
		}
		label, ran, err := a.j.env.Tool.Raise(ctx, alias)
		a.ran(ran)
		a.done.Moved = a.done.Moved || len(ran) > 0
		if err != nil {
			failed = append(failed, err.Error())
			if s, e := a.j.Snapshot(); e != nil || len(s.Held(addr, alias.Interface)) == 0 {
				continue
			}
			label = "" // it is assigned all the same: another address has gone by it, or meanwhile
		}
		ran, err = a.j.hold.Limit(ctx, a.done.Obs.Local, alias)
		if a.ran(ran); err != nil {
			failed = append(failed, err.Error())
			continue
		}
		a.record(addr, func(k *state.Alias) {
			k.Interface, k.Label, k.Raised, k.Until = alias.Interface, label, true, a.j.hold.End()
		})
		a.done.Obs.Local = a.done.Obs.Adding(addr, alias.Interface)
		a.announce([]netip.Addr{addr})
		assigned = append(assigned, addr)
	}
	return assigned, failed, late
}

// turn waits until this run may assign, with an observation made a moment ago.
func (a *actor) turn(ctx context.Context, which func() []netip.Addr) (addrs []netip.Addr, unlock func(), err error) {
	for range config.Rechecks {
		if unlock, err = a.j.lockSwitch(ctx, a.j.env.Tool.Exclusive()); err != nil {
			return nil, nil, err
		}
		if !a.stale() {
			addrs = which()
		}
		switch { // it may have hung at either
		case a.j.Abandoned():
			unlock()
			return nil, nil, errAbandoned
		case !a.stale():
			return addrs, unlock, nil
		}
		unlock()
		a.probe(ctx)
	}
	return nil, nil, fmt.Errorf("other clusters on this machine are switching: what was observed was older than %s each time it was this one's turn", freshFor)
}

// remove removes addresses.
func (a *actor) remove(ctx context.Context, addrs []netip.Addr) error {
	a.j.Doing("removing " + observe.AddressList(addrs))
	unlock, err := a.j.lockSwitch(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	if a.j.Abandoned() {
		return errAbandoned
	}
	var failed []string
	for _, addr := range addrs {
		ran, err := a.j.env.Tool.Lower(ctx, addr, a.done.Obs.AddedOn(addr)...)
		a.ran(ran)
		a.done.Moved = a.done.Moved || len(ran) > 0
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		a.done.Removed = append(a.done.Removed, addr)
		a.record(addr, func(k *state.Alias) { k.Raised, k.Label, k.Until = false, "", time.Time{} })
	}
	a.observe()
	if len(failed) > 0 {
		return fmt.Errorf("%s", strings.Join(failed, "; "))
	}
	a.j.hold.Free(ctx, a.done.Obs.Local)
	return nil
}

var errAbandoned = errors.New("this run was abandoned meanwhile")

func (j *job) lockSwitch(ctx context.Context, exclusive bool) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, config.SwitchPatience)
	defer cancel()
	return j.env.LockSwitch(ctx, j.Dir, exclusive)
}

// renew renews the lifetimes of addresses.
func (a *actor) renew(ctx context.Context, addrs []netip.Addr) {
	r := a.j.hold.Renew(ctx, a.done.Obs.Local, a.done.Aliases, addrs, hold.Third)
	a.ran(r.Ran)
	a.done.Aliases = r.Aliases
}

// record changes what the record will say of an address.
func (a *actor) record(addr netip.Addr, change func(*state.Alias)) {
	for i := range a.done.Aliases {
		if a.done.Aliases[i].Address() == addr {
			change(&a.done.Aliases[i])
		}
	}
}

// recordHeld records what is here as assigned by pingover.
func (a *actor) recordHeld() {
	for _, addr := range a.held() {
		assigned := a.done.Obs.Assigned(addr)[0]
		a.record(addr, func(k *state.Alias) {
			k.Interface, k.Label, k.Raised = assigned.Interface, assigned.Address.Label, true
		})
	}
}

// ran puts commands into the evidence, and shows them.
func (a *actor) ran(results []proc.Result) {
	a.done.Commands = append(a.done.Commands, a.j.ran(results)...)
}

// ran is commands as evidence, which it shows.
func (j *job) ran(results []proc.Result) (commands []state.Command) {
	for _, p := range results {
		c := state.Command{Argv: p.Argv, Code: &p.Code}
		if p.Err != nil {
			c.Output = p.Output
		}
		commands = append(commands, c)
		j.Event(run.Ran{Command: c})
	}
	return commands
}

// change is what the history will say of a decision.
func changeOf(j *job, o observe.Observation, d state.Decision) state.Change {
	return state.Change{
		Event: state.NewEvent(j.Began), Time: now(), Began: j.Began.UTC().Truncate(time.Second), Outcome: d.Outcome,
		Manual: j.mode != modeCheck, Reason: d.Reason, Evidence: o.Evidence,
	}
}

// now is the time as records keep it.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
