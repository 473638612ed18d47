package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another run holds the lock.
var ErrBusy = errors.New("another run holds the lock")

// Lock takes the cluster's lock for as long as the process lives or until
// unlock is called; ErrBusy at once when another run has it. It is an flock:
// a killed run frees it, and the file is never removed, for a lock on a
// removed file locks nobody out. Where the file cannot be made or written,
// the lock is taken on what there is: the file read-only, the directory, or
// the nearest one above that exists.
func (d Dir) Lock(cluster string) (unlock func(), err error) {
	return new(Locks).Lock(d, cluster)
}

// Locks are the locks of one process. Its clusters share what stands in for
// their files where there can be none: each has a run of its own in the process,
// and only other processes are kept out. The zero Locks is ready.
type Locks struct {
	mu       sync.Mutex
	standIns map[string]*standIn // by directory
}

type standIn struct {
	file  *os.File
	users int
}

// Lock is Dir.Lock. A cluster must not be locked twice at once.
func (l *Locks) Lock(d Dir, cluster string) (unlock func(), err error) {
	_ = d.mkdir() // what cannot be made is seen when it is used
	path := d.path(cluster, ".lock")
	f, err := lock(path)
	switch {
	case err == nil:
		_ = f.Truncate(0) // the pid is for people; on a full disk it may be missing
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		return func() { release(f) }, nil
	case errors.Is(err, ErrBusy), errors.As(err, new(*ForeignError)):
		return nil, err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		unlock, standErr := l.standIn(dir)
		if standErr == nil || errors.Is(standErr, ErrBusy) {
			return unlock, standErr
		}
		if dir == filepath.Dir(dir) {
			return nil, err
		}
	}
}

// standIn locks a directory for this process.
func (l *Locks) standIn(dir string) (unlock func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.standIns[dir]
	if !ok {
		f, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, err
		}
		s = &standIn{file: f}
		if l.standIns == nil {
			l.standIns = map[string]*standIn{}
		}
		l.standIns[dir] = s
	}
	s.users++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(l.standIns, dir)
			release(s.file)
		}
	}, nil
}

// LockWait is Lock, but waits while another run holds the lock: told is
// called once, with the pid of that run, 0 where it is not known. The error is
// ErrBusy when that takes longer than patience, or ctx's.
func (l *Locks) LockWait(ctx context.Context, d Dir, cluster string, patience time.Duration, told func(pid int)) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	for first := true; ; first = false {
		unlock, err := l.Lock(d, cluster)
		if !errors.Is(err, ErrBusy) {
			return unlock, err
		}
		if first {
			told(d.holder(cluster))
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// holder is the pid that the run which holds the lock has left in it.
func (d Dir) holder(cluster string) int {
	f, err := open(d.path(cluster, ".lock"), os.O_RDONLY, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 20))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// LockSwitch takes the machine-wide lock under which labels are chosen and
// aliases raised and verified: two clusters that choose "eth0:1" in the same
// moment would silently lose one alias. It waits until ctx ends. Where the
// file cannot be made or written, it is locked read-only, and where there is
// none, this program's own file is. That is never what Lock falls back to:
// the run that waits here would be waiting for itself.
func (d Dir) LockSwitch(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(string(d), "act.lock")
	for {
		f, err := lock(path, "/proc/self/exe")
		if err == nil {
			return func() { release(f) }, nil
		}
		if !errors.Is(err, ErrBusy) {
			return nil, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: another cluster on this machine is still switching", path)
		}
	}
}

// lock locks the file, made where it is missing, or else what there is: the
// file read-only, or the first of the others that can be opened.
func lock(path string, others ...string) (*os.File, error) {
	for {
		f, err := lockable(path, others)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, err
		}
		// Somebody may have removed the file against all advice between
		// our opening and our locking it.
		if named, err := os.Stat(f.Name()); err == nil && sameFile(f, named) {
			return f, nil
		}
		f.Close()
	}
}

func lockable(path string, others []string) (*os.File, error) {
	f, err := open(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil || errors.As(err, new(*ForeignError)) {
		return f, err
	}
	if f, err := open(path, os.O_RDONLY, 0); err == nil {
		return f, nil
	}
	for _, other := range others {
		if f, err := os.Open(other); err == nil {
			return f, nil
		}
	}
	return nil, err
}

// release frees the lock itself before it closes the file: a child that is
// being started in this moment has a copy of the descriptor until it is
// executed, and would keep the lock.
func release(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	f.Close()
}

func flock(f *os.File) error {
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrBusy
		case nil:
			return nil
		default:
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

func sameFile(f *os.File, named fs.FileInfo) bool {
	info, err := f.Stat()
	return err == nil && os.SameFile(info, named)
}
