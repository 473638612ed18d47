package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

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
	for _, suffix := range []string{".lock", ".json", ".pause", ".settings", ".history", ".days", ".busy"} {
		paths = append(paths, d.path(cluster, suffix))
	}
	return append(paths, d.path("act", ".lock"))
}

// Load reads the record of a cluster; keep says whether a corrupt one may be
// moved aside. A record that was never written is a new one for a machine
// that stands by. The error, when there is one, is a *CorruptError (with a new
// record), a *ForeignError, or that the file cannot be read (with a new
// record: what the kernel shows counts, and the guards run in full).
func (d Dir) Load(cluster string, keep bool) (*Record, error) {
	fresh := &Record{Head: Head{Version: Version, Name: cluster}, Role: Standby}
	path := d.path(cluster, ".json")
	data, info, err := readFile(path, maxRecord)
	switch {
	case errors.As(err, new(*ForeignError)):
		return nil, err
	case errors.Is(err, errTooLarge), err == nil && data != nil:
	default:
		return fresh, err
	}
	rec, err := Parse(data)
	if err == nil && rec.Name != cluster {
		err = fmt.Errorf("it is the record of %q", rec.Name)
	}
	if err == nil && rec.Settings != nil && trust(path, info) != nil {
		rec.Settings = nil
	}
	switch {
	case err == nil:
		return rec, nil
	case keep:
		return fresh, setAside(path, err)
	}
	return fresh, &CorruptError{Path: path, Err: err}
}

// setAside keeps a corrupt file under another name.
func setAside(path string, why error) error {
	corrupt := &CorruptError{Path: path, Err: why}
	if kept := path + ".bad"; os.Rename(path, kept) == nil {
		corrupt.Kept = kept
	}
	return corrupt
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
	if err := rec.check(); err != nil {
		return nil, err
	}
	if rec.Name == "" || rec.Host == "" {
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
	var wrong error
	eachTime(reflect.ValueOf(rec).Elem(), func(t *time.Time) { wrong = cmp.Or(wrong, sensible(*t)) })
	if wrong != nil {
		return nil, wrong
	}
	for i := range rec.Recent {
		rec.Recent[i].identify()
	}
	return rec, nil
}

// Save writes the record: to a temporary file that is renamed, so that a
// reader, and a run after a kill, finds the old or the new one, whole. When
// durable, it also survives a power cut: the file is synced before the rename
// (or an empty one could come back) and the directory after it (or the old
// one could). The temporary file has a fixed name, for the caller holds the
// lock: what a killed run left is not collected. Times of the record become UTC and whole seconds, in rec, too.
func (d Dir) Save(rec *Record, durable bool) error {
	return d.SaveUntil(context.Background(), rec, durable)
}

// SaveUntil is Save for a caller that does not wait for a disk that hangs: once
// ctx has ended, the record that is there is not replaced, however late the disk
// answers, and rec is not changed.
func (d Dir) SaveUntil(ctx context.Context, rec *Record, durable bool) error {
	path := d.path(rec.Name, ".json")
	settings := rec.Settings
	rec.Settings = nil
	data, err := rec.encode()
	if err != nil {
		return err
	}
	if err := foreignAt(path); err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	if err := d.moveSettings(rec.Name, settings); err != nil {
		return err
	}
	return replaceUntil(ctx, path, data, 0o644, durable)
}

// Checked tells whether the cluster was checked before: it has a record or
// settings, whatever is in them.
func (d Dir) Checked(cluster string) bool {
	return d.has(cluster, ".json") || d.has(cluster, ".settings")
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
