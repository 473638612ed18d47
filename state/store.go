package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the state directory: it has the files of all clusters.
type Dir string

// maxRecord is more bytes than a full record needs, also one of the first
// edition, which had 100 changes in it. A larger file is not one of ours.
const maxRecord = 16 << 20

// defaultPause is how long a pause lasts whose file cannot be understood,
// counted from when it was written: the operator wanted one, and the default
// of the pause command bounds it.
const defaultPause = time.Hour

// CorruptError is a file of ours that is corrupt, and ignored. It was kept as
// Kept when that was possible.
type CorruptError struct {
	Path, Kept string
	Err        error
}

func (e *CorruptError) Error() string {
	if e.Kept == "" {
		return fmt.Sprintf("%s is corrupt (%v), ignored", e.Path, e.Err)
	}
	return fmt.Sprintf("%s is corrupt (%v), ignored; kept as %s", e.Path, e.Err, e.Kept)
}

// ForeignError is something in place of one of our files that we did not put
// there: a link, by which somebody may want us to write elsewhere, or a pipe, at
// which we would wait without end. Nothing is touched.
type ForeignError struct{ Path, What string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is %s, and pingover's own files never are", e.Path, e.What)
}

// foreign is the *ForeignError for such a file, nil for one of ours.
func foreign(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink > 1 {
		return &ForeignError{path, "a hard link"}
	}
	for bit, what := range map[fs.FileMode]string{
		fs.ModeSymlink: "a symbolic link", fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket", fs.ModeDevice: "a device",
	} {
		if info.Mode()&bit != 0 {
			return &ForeignError{path, what}
		}
	}
	return nil
}

// Foreign says whether something else is in place of one of the cluster's
// files, or of the machine's: a *ForeignError for the first of them.
func (d Dir) Foreign(cluster string) error {
	for _, path := range d.Files(cluster) {
		if err := foreignAt(path); err != nil {
			return err
		}
	}
	return nil
}

// Files are the paths of the cluster's files, and of the machine's, whether
// they exist or not.
func (d Dir) Files(cluster string) []string {
	var paths []string
	for _, suffix := range []string{".lock", ".json", ".pause", ".settings", ".history", ".days", ".busy"} {
		paths = append(paths, d.path(cluster, suffix))
	}
	return append(paths, d.path("act", ".lock"))
}

func foreignAt(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return foreign(path, info)
}

// setAside keeps a corrupt file under another name.
func setAside(path string, why error) error {
	corrupt := &CorruptError{Path: path, Err: why}
	if kept := path + ".bad"; os.Rename(path, kept) == nil {
		corrupt.Kept = kept
	}
	return corrupt
}

// replace writes a file anew, under another name first. Its mode is this one
// whatever the umask is.
func replace(path string, data []byte, mode fs.FileMode, durable bool) error {
	return replaceUntil(context.Background(), path, data, mode, durable)
}

// replaceUntil is replace, but for a file that is kept when ctx has ended.
func replaceUntil(ctx context.Context, path string, data []byte, mode fs.FileMode, durable bool) error {
	temp := path + ".tmp"
	if err := foreignAt(temp); err != nil {
		return err
	}
	// What a killed run left is removed, not written to: another name of it, or
	// a process that has it open, would get what is written now.
	_ = unix.Unlink(temp)
	f, err := open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = f.Chmod(mode) // before there is a secret in it
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if ctx.Err() != nil { // a later run has its own file by that name
		return context.Cause(ctx)
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

// Checked tells whether the cluster was checked before: it has a record or
// settings, whatever is in them.
func (d Dir) Checked(cluster string) bool {
	return d.has(cluster, ".json") || d.has(cluster, ".settings")
}

// Pause pauses the cluster until then. It needs no lock: a check that is under
// way reads it again before it switches.
func (d Dir) Pause(cluster string, until time.Time) error {
	path := d.path(cluster, ".pause")
	if err := foreignAt(path); err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	return replace(path, pauseText(until), 0o644, true)
}

func pauseText(until time.Time) []byte { return []byte(until.UTC().Format(time.RFC3339) + "\n") }

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

// UnreadableError is the error of a file where nothing of the directory can be
// read.
type UnreadableError struct{ error }

func (e *UnreadableError) Unwrap() error { return e.error }

// PausedUntil is when the cluster's pause ends; zero when it is not paused.
func (d Dir) PausedUntil(cluster string) (time.Time, error) {
	data, info, err := readFile(d.path(cluster, ".pause"), 100)
	if err != nil && !errors.Is(err, errTooLarge) || data == nil {
		if err != nil && d.unreadable() {
			err = &UnreadableError{err}
		}
		return time.Time{}, err
	}
	until, err := parsePause(data)
	if err != nil {
		return info.ModTime().Add(defaultPause), nil
	}
	return until, nil
}

// parsePause reads the time in a pause file.
func parsePause(data []byte) (time.Time, error) {
	var until time.Time
	err := until.UnmarshalText([]byte(strings.TrimSpace(string(data))))
	return until, cmp.Or(err, sensible(until))
}

// mkdir makes the directory where there is none, readable by all users whatever
// the umask is. The mode of one that is there is its owner's choice. The mode is
// set on what was made, not by its name: another user may own what leads to it.
func (d Dir) mkdir() error {
	if _, err := os.Stat(string(d)); err == nil {
		return nil
	}
	above, name := filepath.Dir(string(d)), filepath.Base(string(d))
	if err := os.MkdirAll(above, 0o755); err != nil {
		return err
	}
	parent, err := os.Open(above)
	if err != nil {
		return err
	}
	defer parent.Close()
	wrap := func(err error) error {
		if err != nil {
			err = &fs.PathError{Op: "mkdir", Path: string(d), Err: err}
		}
		return err
	}
	err = unix.Mkdirat(int(parent.Fd()), name, 0o755)
	if errors.Is(err, fs.ErrExist) { // by another run, in this moment
		return nil
	}
	if err != nil {
		return wrap(err)
	}
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap(err)
	}
	defer unix.Close(fd)
	return wrap(unix.Fchmod(fd, 0o755))
}

func (d Dir) path(cluster, suffix string) string {
	return filepath.Join(string(d), cluster+suffix)
}

// open opens one of our files, never through a symbolic link in its place, and
// never waits for the other end of a pipe. Go opens everything close-on-exec,
// so no child keeps a lock alive.
func open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	if err := foreignAt(path); err != nil { // opening a device may do something
		return nil, err
	}
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, mode)
	if err != nil {
		if foreign := foreignAt(path); foreign != nil {
			err = foreign
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = foreign(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// errTooLarge is a file that is larger than we ever write it.
var errTooLarge = errors.New("it is too large")

// read is readFile without what the file was opened as.
func read(path string, limit int64) ([]byte, error) {
	data, _, err := readFile(path, limit)
	return data, err
}

// readFile reads one of our files, at most one byte more than limit; nil when it
// is missing. It never waits: see open.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := open(path, os.O_RDONLY, 0)
	if missing(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, nil, err
	case int64(len(data)) > limit:
		err = fmt.Errorf("%s: %w", path, errTooLarge)
	}
	return data, info, err
}

// missing says that there is no such file, be it for want of the directory.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
