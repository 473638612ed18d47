package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

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
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		return &ForeignError{path, "a symbolic link"}
	case mode&fs.ModeNamedPipe != 0:
		return &ForeignError{path, "a named pipe"}
	case mode&fs.ModeSocket != 0:
		return &ForeignError{path, "a socket"}
	case mode&fs.ModeDevice != 0:
		return &ForeignError{path, "a device"}
	}
	return nil
}

func foreignAt(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	return foreign(path, info)
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

// open opens one of our files, never through a symbolic link in its place, and
// never waits for the other end of a pipe. Go opens everything close-on-exec,
// so no child keeps a lock alive.
func open(path string, flags int, mode fs.FileMode) (*os.File, error) {
	there, err := os.Lstat(path)
	switch {
	case err == nil:
		if err := foreign(path, there); err != nil { // opening a device may do something
			return nil, err
		}
	case missing(err) && flags&os.O_CREATE == 0:
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
