package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/state"
)

// errHangs is a disk that did not answer in time. The run goes on as with one that
// is full, and tries it no more: each further time could take as long.
var errHangs error = hangs{}

type hangs struct{}

func (hangs) Error() string {
	return "the disk does not answer within " + config.DurationText(config.DiskPatience)
}

// timely does something with the state directory, for at most config.DiskPatience.
// One kind of access may hang without the other, as on a file system that is frozen.
func timely[T any](hung *bool, work func(context.Context) (T, error)) (T, error) {
	return proc.Timely(hung, config.DiskPatience, errHangs, work)
}

// foreign says whether something else is in place of one of the run's files.
func (r *Run) foreign() error {
	_, err := timely(&r.reading, func(context.Context) (struct{}, error) { return struct{}{}, r.Dir.Foreign(r.Name) })
	if err == nil || errors.Is(err, errHangs) {
		return nil
	}
	return Foreign(err)
}

// lock takes the lock on its file, or where that hangs, on what stands in for it.
func (r *Run) lock(locks *state.Locks) (unlock func(), err error) {
	unlock, err = timely(&r.writing, func(ctx context.Context) (func(), error) {
		unlock, err := locks.Lock(r.Dir, r.Name)
		if err == nil && ctx.Err() != nil {
			unlock()
		}
		return unlock, err
	})
	if errors.Is(err, errHangs) {
		return locks.StandIn(r.Dir)
	}
	return unlock, err
}

// Save writes the record; one that is not durable may wait (state.Memory). The error
// does not change what a run does, but how it ends.
func (r *Run) Save(rec state.Kept, durable bool) error {
	written := rec.Copy()
	if _, err := timely(&r.writing, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.Memory.Save(ctx, r.Dir, written, durable)
	}); err != nil {
		return fmt.Errorf("the state cannot be written: %w", err)
	}
	rec.Become(written)
	r.onDisk = r.Memory.OnDisk(r.Dir, rec)
	return nil
}

// KeepSettings keeps the settings for what is done by the name alone.
func (r *Run) KeepSettings(settings map[string][]string) {
	_, err := timely(&r.writing, func(context.Context) (struct{}, error) {
		return struct{}{}, r.Memory.SaveSettings(r.Dir, r.Name, settings)
	})
	if err != nil {
		r.Infof("the settings cannot be kept: %v", err)
	}
}

// move moves what is over from the record into its own files.
func (r *Run) move(h *state.Head) {
	if !h.Over() {
		return
	}
	before := *h
	moved, err := timely(&r.writing, func(context.Context) (state.Head, error) { return r.Dir.Move(before) })
	if err != nil {
		r.Infof("%v", err)
	}
	if moved.Name != "" {
		*h = moved
	}
}

// PausedUntil is when a pause ends. It is read anew each time, so that a pause
// takes effect at once. One that cannot be read counts as a pause. Where
// nothing of the state directory can be read, as on a dead disk, there may be none,
// and a takeover must not wait for that disk.
func (r *Run) PausedUntil() time.Time {
	until, err := timely(&r.reading, func(context.Context) (time.Time, error) { return r.Dir.PausedUntil(r.Name) })
	switch {
	case errors.As(err, new(*state.UnreadableError)):
		if !r.unread {
			r.Warnf("%v; a pause is ignored, for nothing of the state directory can be read", err)
		}
		r.unread = true
		return time.Time{}
	case errors.Is(err, errHangs):
		return r.paused // as it was read before
	case err != nil:
		r.Infof("%v; treated as a pause", err)
		until = time.Now().Add(time.Hour)
	}
	r.paused = until
	return until
}
