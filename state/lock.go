package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"pingover/internal/proc"

	"golang.org/x/sys/unix"
)

// ErrBusy says that another run holds the lock.
var ErrBusy = errors.New("another run holds the lock")

// errStranger says that the lock is held by a process of a user who cannot run
// pingover for this state directory: see strangers.
var errStranger = errors.New("another user's process holds the lock")

// Lock takes the cluster's lock for as long as the process lives or until
// unlock is called; ErrBusy at once when another run has it. It is an flock:
// the kernel frees the lock of a killed run. The file is never removed, for a
// lock on a removed file excludes no other run.
//
// Where the file cannot be made or written, the lock is taken on what there is:
// the file read-only, the directory, or the nearest one above that exists.
// These stand-ins can be opened, and so locked, by any local user, so only a
// lock held by root or by our own user counts there. Where other users hold
// every one of them, the run goes on without a lock: a run that is kept from
// running is worse than two at once.
func (d Dir) Lock(cluster string) (unlock func(), err error) {
	return new(Locks).Lock(d, cluster)
}

// Locks are the locks of one process. Its clusters share the directory that
// stands in for their files: each has one run in the process, and only other
// processes are kept out. The zero Locks is ready.
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
		closeToOthers(f)
		// The pid is for people; on a full disk it may be missing. A file that was cut
		// to nothing is written to the disk when it is closed (ext4's auto_da_alloc).
		n, _ := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		_ = f.Truncate(int64(n))
		return func() { release(f) }, nil
	case errors.Is(err, ErrBusy), errors.As(err, new(*ForeignError)):
		return nil, err
	}
	return l.instead(d, err)
}

// StandIn is Lock where the lock's file cannot be used, as on a disk that hangs.
func (l *Locks) StandIn(d Dir) (unlock func(), err error) { return l.instead(d, nil) }

// instead locks the directory, or the nearest one above that exists. The error is
// err where there is nothing to lock.
func (l *Locks) instead(d Dir, err error) (unlock func(), _ error) {
	for dir := filepath.Clean(string(d)); ; dir = filepath.Dir(dir) {
		unlock, e := l.standIn(dir)
		if e == nil || errors.Is(e, ErrBusy) {
			return unlock, e
		}
		if err == nil || errors.Is(e, errStranger) {
			err = e
		}
		switch {
		case dir != filepath.Dir(dir):
		case errors.Is(err, errStranger):
			return func() {}, nil
		default:
			return nil, err
		}
	}
}

// closeToOthers keeps others from opening a lock file, and so from holding it.
func closeToOthers(f *os.File) {
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		_ = f.Chmod(info.Mode().Perm() &^ 0o077)
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

// LockWait is Lock, but waits while another run holds the lock: waiting is
// called once, with the pid of that run, 0 where it is not known. The error is
// ErrBusy when that takes longer than patience, or ctx's.
func (l *Locks) LockWait(ctx context.Context, d Dir, cluster string, patience time.Duration, waiting func(pid int)) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, ErrBusy)
	defer cancel()
	for first := true; ; first = false {
		unlock, err := l.Lock(d, cluster)
		if !errors.Is(err, ErrBusy) {
			return unlock, err
		}
		if first {
			pid, _ := d.Holder(cluster)
			waiting(pid)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Holder is the run that holds the cluster's lock, as it has written there: its
// pid, and when it took the lock. Both are zero where that is not known: a run
// that could not write there has left what an earlier one wrote.
func (d Dir) Holder(cluster string) (pid int, since time.Time) {
	text, info, err := readFile(d.path(cluster, ".lock"), 20)
	if err != nil || text == nil {
		return 0, time.Time{}
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 || realUser(strconv.Itoa(pid)) == "" {
		return 0, time.Time{}
	}
	return pid, info.ModTime()
}

// BusyDue says whether it is due, once in an hour, to mail that the cluster's
// lock is held for too long, and notes that it is done now: by the modification
// time of NAME.busy, for the record belongs to the run that holds the lock.
// Where the file cannot be written it is due in the run at which an hour of the
// clock begins, with checks gap apart.
func (d Dir) BusyDue(cluster string, gap time.Duration, now time.Time) bool {
	path := d.path(cluster, ".busy")
	info, err := os.Lstat(path)
	if err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()).Abs() < time.Hour {
		return false
	}
	f, err := open(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return HourBegins(now, gap)
	}
	defer f.Close()
	if err := os.Chtimes(path, now, now); err != nil {
		return HourBegins(now, gap)
	}
	return true
}

// HeldTooLong tells whether a run that began then and found the lock held should
// report that the run which holds it has had it for longer than limit, the
// longest that a run can take: once an hour, see BusyDue.
func (d Dir) HeldTooLong(ctx context.Context, name string, began time.Time, limit time.Duration, gap func() time.Duration) (pid int, since time.Time, due bool) {
	pid, since = d.Holder(name)
	// Right after another run has taken the lock, the file still tells of the one
	// before.
	if since.IsZero() || began.Sub(since) <= limit || !proc.Sleep(ctx, time.Second) {
		return 0, since, false
	}
	again, unchanged := d.Holder(name)
	return pid, since, again == pid && unchanged.Equal(since) && d.BusyDue(name, gap(), began)
}

// HourBegins says whether an hour of the clock began since the check before, a
// gap ago: by that, what lasts is said once an hour by runs that can remember
// nothing. A gap that is not known is a minute, as in crontab.example.
func HourBegins(now time.Time, gap time.Duration) bool {
	if gap <= 0 {
		gap = time.Minute
	}
	return !now.Truncate(time.Hour).Equal(now.Add(-gap).Truncate(time.Hour))
}

// LockSwitch takes the machine-wide lock under which labels are chosen and
// aliases added and verified: two clusters that choose "eth0:1" in the same
// moment would silently lose one alias. It waits until ctx ends. Where the
// file cannot be made or written, it is locked read-only, and where there is
// none, this program's own file is, with what Lock says of stand-ins. That file
// is never what Lock falls back to: a run would be waiting for itself.
func (d Dir) LockSwitch(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(string(d), "act.lock")
	for {
		f, err := lock(path, "/proc/self/exe")
		switch {
		case err == nil:
			return func() { release(f) }, nil
		case errors.Is(err, errStranger):
			return func() {}, nil
		case !errors.Is(err, ErrBusy):
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
		named, err := isNamed(f, f.Name())
		if named {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		// The file was removed between open and flock. The pause keeps two that
		// remove it in turn from using up the processor.
		time.Sleep(time.Millisecond)
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
			if strangers(f) {
				return errStranger
			}
			return ErrBusy
		case nil:
			return nil
		default:
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

// strangers says whether a lock is held by other users only, not by root
// or our own: flock(2) needs no more than a descriptor, so each user who can open
// a file can hold its lock without end. /proc/locks names the processes (proc(5));
// their real user counts, which a program with a set-user-ID bit keeps. Where
// it names no process, as across PID namespaces, nothing is known, and the lock
// counts.
func strangers(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode().Perm()&0o077 == 0 { // only its owner can open it
		return false
	}
	inode := fmt.Sprintf(":%d", info.Sys().(*syscall.Stat_t).Ino)
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	found := false
	for line := range bytes.Lines(locks) {
		// 1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF
		words := strings.Fields(string(line))
		if len(words) < 6 || words[1] != "FLOCK" || !strings.HasSuffix(words[5], inode) {
			continue
		}
		if slices.Contains([]string{"0", strconv.Itoa(os.Getuid())}, realUser(words[4])) {
			return false
		}
		found = true
	}
	return found
}

// realUser is the id of a process's real user, "" when the process has ended:
// none of ours ends and leaves its lock to another one.
func realUser(pid string) string {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			return strings.Fields(string(ids))[0]
		}
	}
	return ""
}

// isNamed says whether f is still the file at path. The error is that this
// cannot be found out, which trying again does not change.
func isNamed(f *os.File, path string) (bool, error) {
	named, err := os.Stat(path)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(info, named), err
}
