package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir is the state directory: it has the files of all clusters.
type Dir string

// maxRecord is more bytes than a full record needs, also one of the first
// edition, which had 100 changes in it. A larger file is not one of ours.
const maxRecord = 16 << 20

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
	for _, suffix := range []string{".lock", ".json", ".pause", ".settings", ".history", ".days", ".busy", ".metrics"} {
		paths = append(paths, d.path(cluster, suffix))
	}
	return append(paths, d.path("act", ".lock"))
}

// setAside keeps a corrupt file under another name.
func setAside(path string, why error) error {
	corrupt := &CorruptError{Path: path, Err: why}
	if kept := path + ".bad"; os.Rename(path, kept) == nil {
		corrupt.Kept = kept
	}
	return corrupt
}

// Checked tells whether the cluster was checked before: it has a record or
// settings, whatever is in them.
func (d Dir) Checked(cluster string) bool {
	return d.has(cluster, ".json") || d.has(cluster, ".settings")
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
