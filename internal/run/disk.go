package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/config"
	"pingover/state"
)

// errHangs is a disk that did not answer in time. The run goes on as with one that
// is full, and asks it no more: each further question could take as long.
var errHangs = fmt.Errorf("the disk does not answer within %s", config.DurationText(config.DiskPatience))

// timely does something with the state directory, and stops waiting for it after
// config.DiskPatience. Work gets a context that has ended by then, and must not
// touch what the run goes on with.
func timely[T any](r *Run, work func(context.Context) (T, error)) (T, error) {
	var none T
	if r.diskHangs.Load() {
		return none, errHangs
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), config.DiskPatience, errHangs)
	defer cancel()
	result, err, ended := within(config.DiskPatience, func() (T, error) { return work(ctx) })
	if !ended {
		r.diskHangs.Store(true)
		return none, errHangs
	}
	return result, err
}

// Save writes the record. The error does not change what a run does, but how it
// ends.
func (r *Run) Save(rec *state.Record, durable bool) error {
	saved, err := timely(r, func(ctx context.Context) (state.Record, error) {
		written := *rec
		return written, r.Dir.SaveUntil(ctx, &written, durable)
	})
	if err != nil {
		return fmt.Errorf("the state cannot be written: %w", err)
	}
	*rec = saved
	return nil
}

// KeepSettings keeps the settings for what is done by the cluster's name alone.
func (r *Run) KeepSettings(settings map[string][]string) {
	_, err := timely(r, func(context.Context) (struct{}, error) {
		return struct{}{}, r.Dir.SaveSettings(r.Name, settings)
	})
	if err != nil {
		r.Infof("the settings cannot be kept: %v", err)
	}
}

// move moves what is over from the record into its own files. What could not be
// moved stays in the record.
func (r *Run) move(rec *state.Record) {
	head, err := timely(r, func(context.Context) (state.Head, error) {
		h := rec.Head
		h.Recent, h.Days = slices.Clone(h.Recent), slices.Clone(h.Days)
		return h, errors.Join(r.Dir.MoveHistory(&h), r.Dir.MoveDays(&h))
	})
	if err != nil {
		r.Infof("%v", err)
	}
	if head.Name != "" {
		rec.Head = head
	}
}

// PausedUntil is when a pause ends. It is read anew each time, so that a pause
// takes effect at once. One that cannot be read counts as a pause; but where
// nothing of the state directory can be read, as on a dead disk, there may be none,
// and a takeover must not wait for that disk.
func (r *Run) PausedUntil() time.Time {
	until, err := timely(r, func(context.Context) (time.Time, error) {
		until, err := r.Dir.PausedUntil(r.Name)
		if err != nil && unreadable(r.Dir) {
			err = &unreadableError{err}
		}
		return until, err
	})
	if dead := new(unreadableError); errors.As(err, &dead) {
		r.once("%v; a pause is ignored, for nothing of the state directory can be read", dead.error)
		return time.Time{}
	}
	switch {
	case errors.Is(err, errHangs):
		return r.paused // as it was read before
	case err != nil:
		r.Infof("%v; taken for a pause", err)
		until = time.Now().Add(time.Hour)
	}
	r.paused = until
	return until
}

// unreadableError is the error of a file where nothing of the state directory can
// be read.
type unreadableError struct{ error }

// unreadable tells whether nothing of a directory can be read. Where this process
// lacks descriptors or memory, that says nothing of the directory.
func unreadable(d state.Dir) bool {
	_, err := os.ReadDir(string(d))
	for _, own := range []error{nil, os.ErrNotExist, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, own) {
			return false
		}
	}
	return true
}
