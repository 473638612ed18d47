// Package run is the frame of one check, whatever is checked: its lock and
// record, rounds of pings, what it reports while it goes on, its deadline, and
// the delivery of its mail. It knows neither virtual IPs nor DNS.
package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pingover/state"
)

// Exit codes of runs that made no check, as in sysexits.h.
const (
	CodeBusy       = 75 // EX_TEMPFAIL
	CodePermission = 77 // EX_NOPERM
	CodeSettings   = 78 // EX_CONFIG
)

// LockPatience is how long a manual command waits for a check's lock.
const LockPatience = 90 * time.Second

// Error is a run that made no check, with the exit code that says why: 20 the
// kernel could not be asked, 75 another run holds the lock, 77 no permission, 78
// the settings do not fit this machine. Nothing was changed.
type Error struct {
	Code int
	Text string
	Hint string // what to do about it, "" for nothing
	// Hung says that the run was abandoned: it has its lock until the process
	// ends, and that should be soon.
	Hung bool
}

func (e *Error) Error() string { return e.Text }

// Run is one run of a check or a manual command. Its steps hand values to each
// other; what is in here is for the people and the deadline that watch it.
type Run struct {
	Name    string
	Kind    state.Kind
	Dir     state.Dir
	Began   time.Time
	DryRun  bool
	Manual  bool // a command that waits for the lock
	OnEvent func(event any)
	Memory  *state.Memory // of the process; nil: there is none

	events sync.Mutex
	stage  atomic.Value // what is being done, in words
	// switching says that an intent is written, abandoned that the run was given
	// up for hanging: it changes no address any more.
	switching, abandoned atomic.Bool

	reading, writing bool      // of the state directory hangs
	paused           time.Time // until when, as last read
	unread           bool      // it was said that a pause cannot be read

	onDisk   any             // the edition of the record that is on disk
	pending  []state.Message // in the outbox of the one that was loaded
	recalled bool
}

// Event hands an event to the package that prints, one at a time.
func (r *Run) Event(event any) {
	if r.OnEvent == nil {
		return
	}
	r.events.Lock()
	defer r.events.Unlock()
	r.OnEvent(event)
}

// Infof reports what an operator who watches should know.
func (r *Run) Infof(format string, args ...any) {
	r.Event(Note{Text: fmt.Sprintf(format, args...)})
}

// Warnf reports what is printed even when the check is not verbose.
func (r *Run) Warnf(format string, args ...any) {
	r.Event(Note{Text: fmt.Sprintf(format, args...), Warning: true})
}

// Doing records the present stage, for the error of a run that hangs.
func (r *Run) Doing(what string) { r.stage.Store(what) }

// Switching records that an intent is written: the next run finishes it.
func (r *Run) Switching() { r.switching.Store(true) }

// Abandoned tells whether the run was given up, after which it must not switch.
func (r *Run) Abandoned() bool { return r.abandoned.Load() }

// Lock takes the lock, unless something else is in place of one of the files. A
// dry run takes none, for it changes nothing. A check yields to another run at
// once; a manual command waits.
func (r *Run) Lock(ctx context.Context, locks *state.Locks) (unlock func(), err error) {
	r.Doing("taking the lock")
	if err := r.foreign(); err != nil {
		return nil, err
	}
	if r.DryRun {
		return func() {}, nil
	}
	if r.Manual {
		unlock, err = locks.LockWait(ctx, r.Dir, r.Name, LockPatience, func(pid int) { r.Event(LockWaited{PID: pid, For: LockPatience}) })
	} else {
		unlock, err = r.lock(locks)
	}
	switch {
	case err == nil:
		return unlock, nil
	case errors.Is(err, state.ErrBusy) && r.Manual:
		return nil, &Error{Code: CodeBusy, Text: fmt.Sprintf("another run of this %s still holds the lock after %s; nothing was changed", r.Kind, LockPatience)}
	case errors.Is(err, state.ErrBusy):
		return nil, &Error{Code: CodeBusy, Text: fmt.Sprintf("another run is checking this %s", r.Kind)}
	case ctx.Err() != nil:
		return nil, err
	}
	return nil, &Error{Code: CodeSettings, Text: fmt.Sprintf("lock: %v", err)}
}

// Load reads the record. One that is corrupt or cannot be read is reported, and
// a new one takes its place; a newer one counts that this process could not write.
func Load[T any, R interface {
	*T
	state.Kept
}](r *Run) (R, error) {
	r.Doing("reading the record")
	rec, err := timely(&r.reading, func(context.Context) (R, error) { return state.LoadKnown[T, R](r.Memory, r.Dir, r.Name, !r.DryRun) })
	if errors.Is(err, errHangs) {
		rec = R(new(T))
		rec.Begin(r.Name)
	}
	if rec == nil {
		return nil, Foreign(err)
	}
	if err != nil {
		shown := "the kernel"
		if rec.Common().Kind == state.OfPool {
			shown = "the name server"
		}
		r.Warnf("%v; going on with what %s shows", err, shown)
	}
	r.onDisk, r.pending = r.Memory.OnDisk(r.Dir, rec), slices.Clone(rec.Common().Outbox)
	if !r.DryRun {
		if known, ok := r.Memory.Recall(r.Dir, r.Name, r.onDisk).(R); ok {
			rec, r.recalled = known, true
		}
		r.move(rec.Common())
	}
	return rec, nil
}

// Remember keeps a record that could not be written for the next run of this
// process.
func (r *Run) Remember(rec state.Kept) { r.Memory.Remember(r.Dir, rec, r.onDisk) }

// Foreign is the error for something else in place of one of the run's files, or
// for a record of the other kind.
func Foreign(err error) error {
	if errors.As(err, new(*state.KindError)) {
		return &Error{Code: CodeSettings, Text: err.Error(), Hint: "choose another name, or delete what is kept of the old one: pingover forget"}
	}
	return &Error{Code: CodeSettings, Text: err.Error(), Hint: "remove it, or choose another --state-dir"}
}
