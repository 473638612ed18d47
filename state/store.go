package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the directory in which the clusters' files stand.
type Dir string

// maxRecord is more than a full record of MaxChanges and MaxOutbox needs. A
// larger file is not one of ours.
const maxRecord = 16 << 20

// defaultPause is how long a pause lasts whose file cannot be understood,
// counted from when it was written: the operator wanted one, and the default
// of the pause command bounds it.
const defaultPause = time.Hour

// CorruptError is a record that cannot be believed. It was kept aside as Kept
// when that was possible.
type CorruptError struct {
	Path, Kept string
	Err        error
}

func (e *CorruptError) Error() string {
	if e.Kept == "" {
		return fmt.Sprintf("%s is broken (%v) and is not believed", e.Path, e.Err)
	}
	return fmt.Sprintf("%s is broken (%v) and is not believed; kept as %s", e.Path, e.Err, e.Kept)
}

// ForeignError is something in place of one of our files that is none: a
// symbolic link, by which somebody may want us to write elsewhere, or a pipe,
// at which we would wait for ever. Nothing is touched.
type ForeignError struct{ Path, What string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is %s, and pingover's own files never are", e.Path, e.What)
}

// foreign is the *ForeignError for a file of that mode, nil for none.
func foreign(path string, mode fs.FileMode) error {
	for bit, what := range map[fs.FileMode]string{
		fs.ModeSymlink: "a symbolic link", fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket", fs.ModeDevice: "a device",
	} {
		if mode&bit != 0 {
			return &ForeignError{path, what}
		}
	}
	return nil
}

// Foreign says whether something else stands in place of one of the cluster's
// files, or of the machine's: a *ForeignError for the first of them.
func (d Dir) Foreign(cluster string) error {
	for _, path := range []string{d.path(cluster, ".lock"), d.path(cluster, ".json"), d.path(cluster, ".pause"), d.path("act", ".lock")} {
		if err := foreignAt(path); err != nil {
			return err
		}
	}
	return nil
}

func foreignAt(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return foreign(path, info.Mode())
}

// Load reads the record of a cluster; keep says whether a broken one may be
// moved aside. A record that was never written is a new one for a machine
// that stands by. The error, when there is one, is a *BrokenError (with a new
// record), a *ForeignError, or that the file cannot be read (with a new
// record: what the kernel shows counts, and the guards run in full).
func (d Dir) Load(cluster string, keep bool) (*Record, error) {
	fresh := &Record{Head: Head{Version: Version, Name: cluster}, Role: Standby}
	path := d.path(cluster, ".json")
	f, err := open(path, os.O_RDONLY, 0)
	if missing(err) {
		return fresh, nil
	}
	if errors.As(err, new(*ForeignError)) {
		return nil, err
	}
	if err != nil {
		return fresh, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return fresh, err
	}
	rec, err := Parse(data)
	if err == nil && rec.Name != cluster {
		err = fmt.Errorf("it is the record of %q", rec.Name)
	}
	if err == nil {
		return rec, nil
	}
	broken := &CorruptError{Path: path, Err: err}
	if kept := path + ".bad"; keep && os.Rename(path, kept) == nil {
		broken.Kept = kept
	}
	return fresh, broken
}

// Parse reads a record. What it returns without an error is whole: version,
// role, sizes and times are such as this program writes.
func Parse(data []byte) (*Record, error) {
	if len(data) == 0 {
		return nil, errors.New("it is empty")
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("it is larger than %d MiB", maxRecord>>20)
	}
	rec := new(Record)
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, err
	}
	switch {
	case rec.Version != Version:
		return nil, fmt.Errorf("its version is %d, this program knows %d", rec.Version, Version)
	case rec.Name == "" || rec.Host == "":
		return nil, errors.New("it names no cluster or no host")
	}
	switch rec.Role {
	case Standby, Taking, Active, Releasing:
	default:
		return nil, fmt.Errorf("its role is %q", rec.Role)
	}
	for _, a := range rec.VIPs {
		if !a.Prefix.IsValid() {
			return nil, errors.New("a virtual IP of it is not an address")
		}
	}
	for _, l := range rec.Outbox {
		if l.MessageID == "" || len(l.To) == 0 {
			return nil, errors.New("a letter of its outbox has no address or no Message-ID")
		}
	}
	s := rec.Streaks
	counts := slices.Collect(maps.Values(rec.Counts))
	if rec.Gap < 0 || slices.Min(append(counts, s.Good, s.Up, s.Unknown, s.Unserved, s.Silent)) < 0 {
		return nil, errors.New("it counts below zero")
	}
	return rec, nil
}

// Save writes the record: to a temporary file that is renamed, so that a
// reader, and a run after a kill, finds the old or the new one, whole. When
// durable, it also survives a power cut: the file is synced before the rename
// (or an empty one could come back) and the directory after it (or the old
// one could). The temporary file has a fixed name, for the caller holds the
// lock: what a killed run left is used again, not collected.
func (d Dir) Save(rec *Record, durable bool) error {
	data, err := json.Marshal(rec.whole())
	if err != nil {
		return err
	}
	path := d.path(rec.Name, ".json")
	if err := foreignAt(path); err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	return replace(path, append(data, '\n'), 0o644, durable)
}

// replace writes a file anew, under another name first. Its mode is this one
// whatever the umask is.
func replace(path string, data []byte, mode fs.FileMode, durable bool) error {
	temp := path + ".tmp"
	f, err := open(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // on a full disk its space is wanted
		return err
	}
	if !durable {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Clusters are the names of the clusters that have a record here.
func (d Dir) Clusters() ([]string, error) {
	files, err := os.ReadDir(string(d))
	if missing(err) {
		return nil, nil
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// Pause pauses the cluster until then. It waits for nobody: a check that is
// under way reads it again before it switches.
func (d Dir) Pause(cluster string, until time.Time) error {
	path := d.path(cluster, ".pause")
	if err := foreignAt(path); err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	if err := replace(path, []byte(until.UTC().Format(time.RFC3339)+"\n"), 0o600, true); err != nil {
		return err
	}
	_ = os.Chtimes(path, time.Time{}, until) // for those who may not read it
	return nil
}

// Resume ends the cluster's pause. It says whether there was one.
func (d Dir) Resume(cluster string) (paused bool, err error) {
	until, err := d.PausedUntil(cluster)
	if err != nil {
		return false, err
	}
	if err := os.Remove(d.path(cluster, ".pause")); err != nil && !missing(err) {
		return false, err
	}
	return time.Now().Before(until), nil
}

// PausedUntil is when the cluster's pause ends; zero when it is not paused.
// When the error is that the file may not be read, the time is what the
// directory shows of it: enough for who only reports.
func (d Dir) PausedUntil(cluster string) (time.Time, error) {
	path := d.path(cluster, ".pause")
	f, err := open(path, os.O_RDONLY, 0)
	if missing(err) {
		return time.Time{}, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		if info, e := os.Lstat(path); e == nil {
			return info.ModTime(), err
		}
	}
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	var until time.Time
	data, err := io.ReadAll(io.LimitReader(f, 100))
	if err == nil {
		err = until.UnmarshalText([]byte(strings.TrimSpace(string(data))))
	}
	if err != nil {
		return info.ModTime().Add(defaultPause), nil
	}
	return until, nil
}

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

// mkdir makes the directory where there is none, for anybody to read,
// whatever the umask is. The mode of one that is there is its owner's choice.
func (d Dir) mkdir() error {
	if _, err := os.Stat(string(d)); err == nil {
		return nil
	}
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return err
	}
	return os.Chmod(string(d), 0o755)
}

func (d Dir) path(cluster, suffix string) string {
	return filepath.Join(string(d), cluster+suffix)
}

// open opens one of our files, never through a symbolic link in its place, and
// never waits for the other end of a pipe. Go opens everything close-on-exec,
// so no child keeps a lock alive.
func open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	if err != nil {
		if foreign := foreignAt(path); foreign != nil {
			err = foreign
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = foreign(path, info.Mode())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// missing says that there is no such file, be it for want of the directory.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
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
