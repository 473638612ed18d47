package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
)

// What may be typed.
const (
	typedTakeover = "takeover"
	typedRelease  = "release"
)

// guardByHand is how long a takeover by hand asks who answers.
const guardByHand = 3 * time.Second

// TakeOverIn is Machine.TakeOver in a world of the caller's making.
func TakeOverIn(ctx context.Context, w Env, c config.Cluster, o Options) (Report, error) {
	return byHand(w, c, o, typedTakeover, func(r *run) (Report, error) {
		if len(c.VIPs) == 0 {
			return Report{}, &Error{Code: codeSettings, Text: "there is no virtual IP to take over: none is set"}
		}
		end, err := r.begin(ctx)
		if err != nil {
			return Report{}, err
		}
		defer end()
		// Refused or not: whoever types this wants it here.
		r.rec.ManualRelease = false
		open := r.holding() && r.rec.Role == state.Releasing
		if open && !o.DryRun {
			r.rec.Withdraw(time.Now())
		}
		r.rec.ManualTakeover = r.rec.ManualTakeover || r.holding()
		r.judge = func() state.Decision {
			r.see()
			return state.DecideTakeOver(r.seen, r.ground.fault, open, r.opt.Force)
		}
		if err := r.lookByHand(ctx); err != nil {
			return Report{}, err
		}
		return r.carryOut(ctx, r.judge()), nil
	})
}

// ReleaseIn is Machine.Release in a world of the caller's making.
func ReleaseIn(ctx context.Context, w Env, c config.Cluster, o Options) (Report, error) {
	return byHand(w, c, o, typedRelease, func(r *run) (Report, error) {
		end, err := r.begin(ctx)
		if err != nil {
			return Report{}, err
		}
		defer end()
		r.since = time.Now()
		r.listen()
		deaf := ""
		if r.holding() && !o.Force {
			deaf = r.cutOff(ctx)
		}
		r.judge = func() state.Decision {
			r.see()
			return state.DecideRelease(r.seen, cmp.Or(r.deafness(), deaf), len(r.rec.Offered) > 0, r.opt.Force)
		}
		return r.carryOut(ctx, r.judge()), nil
	})
}

func byHand(w Env, c config.Cluster, o Options, typed string, work func(*run) (Report, error)) (Report, error) {
	r := newRun(w, c, o)
	r.typed = typed
	return within(Longest(c)+lockPatience, r, work)
}

// lookByHand asks who answers for the virtual IPs, and whether a witness does.
func (r *run) lookByHand(ctx context.Context) error {
	r.doing("looking")
	r.since = time.Now()
	if len(r.held()) < len(r.set.VIPs) && r.ground.fault == "" {
		guards := r.guard(ctx, guardByHand, r.mayTake())
		guards.wait()
		r.again()
		r.weigh(guards)
		r.yield(ctx)
	}
	return context.Cause(ctx)
}

// cutOff is what speaks against that anybody can be asked from here, "" for
// nothing.
func (r *run) cutOff(ctx context.Context) string {
	switch primary := r.askAgain(ctx, false); {
	case primary == check.Up:
		return ""
	case r.seen.Witness == state.WitnessSilent:
		return "no witness answers"
	case r.seen.Witness == state.WitnessNotAsked:
		return "no witness could be asked"
	}
	return ""
}

// deafness is why nobody can be asked whether he has taken what is held here,
// "" when everybody can.
func (r *run) deafness() string {
	for _, a := range r.held() {
		link := r.linkOf(a)
		if !r.sender(link, a).IsValid() {
			return fmt.Sprintf("this machine has no address to ask from on %s", link)
		}
		if _, ok := r.ears[link]; ok {
			continue
		}
		if r.deaf != nil {
			return r.deaf.Error()
		}
		return fmt.Sprintf("interface %q is down, or has no carrier", link)
	}
	return ""
}

// Pause keeps checks from switching anything until then; they go on and
// report. It waits for nobody, and takes effect in the middle of a check.
func Pause(c config.Cluster, until time.Time) error {
	return unwritable("the pause cannot be written", state.Dir(c.StateDir).Pause(c.Name, until))
}

// Resumed is what there was to resume.
type Resumed struct {
	Paused   bool // a pause was ended
	Released bool // a release by hand no longer keeps checks from taking over
}

// Resume ends a pause at once, and lets checks take over again after a release
// by hand: for that it waits for a check that is under way.
func Resume(ctx context.Context, c config.Cluster, o Options) (Resumed, error) {
	r := newRun(Env{Locks: new(state.Locks)}, c, o)
	r.typed = "resume"
	return within(lockPatience+diskPatience, r, func(*run) (done Resumed, err error) {
		if done.Paused, err = r.dir.Resume(r.set.Name); err != nil {
			return done, unwritable("the pause cannot be ended", err)
		}
		if rec, err := r.dir.Load(r.set.Name, false); err != nil || !rec.ManualRelease {
			return done, nil
		}
		unlock, err := r.lock(ctx)
		if err != nil {
			return done, err
		}
		defer unlock()
		rec, err := r.dir.Load(r.set.Name, false) // again, for the check may have changed it
		if err != nil {
			return done, unwritable("the record cannot be read", err)
		}
		done.Released, rec.ManualRelease = rec.ManualRelease, false
		return done, unwritable("the record cannot be written", r.dir.Save(rec, true))
	})
}

// unwritable puts an error of the state directory into words, nil for none.
func unwritable(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*state.ForeignError](err); ok {
		return refused(err)
	}
	e := &Error{Code: state.StateFailed.Code(), Text: fmt.Sprintf("%s: %v", what, err)}
	if errors.Is(err, fs.ErrPermission) {
		e.Code = codePermission
	}
	return e
}
