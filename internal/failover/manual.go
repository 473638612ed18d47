package failover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
)

// TakeOverIn is Machine.TakeOver in an environment of the caller's making.
func TakeOverIn(ctx context.Context, env Env, c config.Cluster, o Options) (Report, error) {
	return newJob(env, c, o, modeTakeOver).do(ctx, c.Deadline()+run.LockPatience)
}

// ReleaseIn is Machine.Release in an environment of the caller's making.
func ReleaseIn(ctx context.Context, env Env, c config.Cluster, o Options) (Report, error) {
	return newJob(env, c, o, modeRelease).do(ctx, c.Deadline()+run.LockPatience)
}

// Pause keeps checks from switching anything until then; they go on and report.
// It waits for no lock, and takes effect in the middle of a check.
func Pause(c config.Cluster, until time.Time) error {
	return unwritable("the pause cannot be written", state.Dir(c.StateDir).Pause(c.Name, until))
}

// Resumed is what there was to resume.
type Resumed struct {
	Paused   bool // a pause was ended
	Released bool // a manual release no longer blocks takeovers
}

// Resume ends a pause at once, and lets checks take over again after a manual
// release: for that it waits for a check that is running.
func Resume(ctx context.Context, c config.Cluster, o Options) (Resumed, error) {
	r := &run.Run{Name: c.Name, Dir: state.Dir(c.StateDir), Began: time.Now(), Manual: true, OnEvent: o.OnEvent}
	return run.Within(run.LockPatience+resumePatience, r, func() (done Resumed, err error) {
		if done.Paused, err = r.Dir.Resume(r.Name); err != nil {
			return done, unwritable("the pause cannot be ended", err)
		}
		if rec, err := r.Dir.Load(r.Name, false); err != nil || !rec.ManualRelease {
			return done, nil
		}
		unlock, err := r.Lock(ctx, new(state.Locks))
		if err != nil {
			return done, err
		}
		defer unlock()
		rec, err := r.Dir.Load(r.Name, false) // again, for the check may have changed it
		if err != nil {
			return done, unwritable("the record cannot be read", err)
		}
		done.Released, rec.ManualRelease = rec.ManualRelease, false
		return done, unwritable("the record cannot be written", r.Dir.Save(rec, true))
	})
}

// resumePatience is for the reading and writing of Resume.
const resumePatience = 30 * time.Second

// unwritable puts an error of the state directory into words, nil for none.
func unwritable(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*state.ForeignError](err); ok {
		return run.Foreign(err)
	}
	e := &run.Error{Code: state.StateFailed.Code(), Text: fmt.Sprintf("%s: %v", what, err)}
	if errors.Is(err, fs.ErrPermission) {
		e.Code = run.CodePermission
	}
	return e
}

// Forget deletes all that is kept of a cluster. For that it waits for a check that
// is running; refuse is asked with the lock held.
func Forget(ctx context.Context, c config.Cluster, o Options, refuse func() error) error {
	r := &run.Run{Name: c.Name, Dir: state.Dir(c.StateDir), Began: time.Now(), Manual: true, OnEvent: o.OnEvent}
	_, err := run.Within(run.LockPatience+resumePatience, r, func() (struct{}, error) {
		unlock, err := r.Lock(ctx, new(state.Locks))
		if err != nil {
			return struct{}{}, err
		}
		defer unlock()
		if err := refuse(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, unwritable("the state cannot be deleted", r.Dir.Forget(r.Name))
	})
	return err
}
