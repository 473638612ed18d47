package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kept is a record of either kind, which embeds a Head: *Record, or that of a
// pool. Both are NAME.json, in one name space.
type Kept interface {
	Common() *Head     // of the embedded Head
	Begin(name string) // makes it the record of what was never checked
	Sound() error      // what makes no sense of it, besides its head
	Edition() any      // comparable: another one after each check
	Copy() Kept        // for a writer that may be abandoned
	Become(Kept)       // the other way round
}

// KindError is a name that belongs to a record of the other kind. Nothing is
// touched.
type KindError struct {
	Path     string
	Is, Want Kind
}

func (e *KindError) Error() string {
	return fmt.Sprintf("%s is the record of a %s, not of a %s: clusters and pools share one name space", e.Path, e.Is, e.Want)
}

// Load reads the record of a cluster: see LoadKept.
func (d Dir) Load(cluster string, keep bool) (*Record, error) {
	return LoadKept[Record](d, cluster, keep)
}

// LoadKept reads a record; keep says whether a corrupt one may be moved aside. A
// record that was never written is a new one. The error, when there is one, is a
// *CorruptError (with a new record), a *ForeignError, a *KindError, or that the
// file cannot be read (with a new record: what can be observed counts, and the
// guards run in full).
func LoadKept[T any, R interface {
	*T
	Kept
}](d Dir, name string, keep bool) (R, error) {
	rec, fresh := R(new(T)), R(new(T))
	fresh.Begin(name)
	path := d.path(name, ".json")
	data, info, err := readFile(path, maxRecord)
	switch {
	case errors.As(err, new(*ForeignError)):
		return nil, err
	case errors.Is(err, errTooLarge), err == nil && data != nil:
	default:
		return fresh, err
	}
	err = parse(data, rec)
	if want := fresh.Common().Kind; err != nil || rec.Common().Kind != want {
		if is, unreadable := kindOf(data); unreadable == nil && is != want {
			return nil, &KindError{path, is, want}
		}
	}
	if err == nil && rec.Common().Name != name {
		err = fmt.Errorf("it is the record of %q", rec.Common().Name)
	}
	if r, ok := any(rec).(*Record); err == nil && ok && r.Settings != nil && trust(path, info) != nil {
		r.Settings = nil
	}
	switch {
	case err == nil:
		return rec, nil
	case keep:
		return fresh, setAside(path, err)
	}
	return fresh, &CorruptError{Path: path, Err: err}
}

// kindOf is what the text of a record says of its kind.
func kindOf(data []byte) (Kind, error) {
	var head struct{ Kind Kind }
	err := json.Unmarshal(data, &head)
	return head.Kind, err
}

// Parse reads the record of a cluster. What it returns without an error is whole:
// version, role, sizes and times are such as this program writes.
func Parse(data []byte) (*Record, error) {
	rec := new(Record)
	if err := parse(data, rec); err != nil {
		return nil, err
	}
	return rec, nil
}

// parse reads a record into rec.
func parse(data []byte, rec Kept) error {
	if len(data) == 0 {
		return errors.New("it is empty")
	}
	if len(data) > maxRecord {
		return fmt.Errorf("it is larger than %d MiB", maxRecord>>20)
	}
	if err := unmarshal(data, rec); err != nil {
		return err
	}
	if err := cmp.Or(rec.Common().check(), rec.Sound()); err != nil {
		return err
	}
	var wrong error
	eachTime(reflect.ValueOf(rec).Elem(), func(t *time.Time) { wrong = cmp.Or(wrong, sensible(*t)) })
	if wrong != nil {
		return wrong
	}
	for i := range rec.Common().Recent {
		rec.Common().Recent[i].identify()
	}
	return nil
}

// Save writes the record: to a temporary file that is renamed, so that a
// reader, and a run after a kill, finds the old or the new one, whole. When
// durable, it also survives a power cut: the file is synced before the rename
// (or an empty one could come back) and the directory after it (or the old
// one could). The temporary file has a fixed name, for the caller holds the
// lock: what a killed run left is not collected. Times of the record become UTC and whole seconds, in rec, too.
func (d Dir) Save(rec Kept, durable bool) error {
	return d.SaveUntil(context.Background(), rec, durable)
}

// SaveUntil is Save for a caller that does not wait for a disk that hangs: once
// ctx has ended, the record that is there is not replaced, however late the disk
// answers.
func (d Dir) SaveUntil(ctx context.Context, rec Kept, durable bool) error {
	name := rec.Common().Name
	path := d.path(name, ".json")
	var settings map[string][]string
	if r, ok := rec.(*Record); ok {
		settings, r.Settings = r.Settings, nil
	}
	data, err := encode(rec)
	if err != nil {
		return err
	}
	if err := foreignAt(path); err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	if err := d.moveSettings(name, settings); err != nil {
		return err
	}
	return replaceUntil(ctx, path, data, 0o644, durable)
}

// Recorded is what has a record here.
type Recorded struct {
	Name string
	Kind Kind
}

// Clusters are the names of the clusters that have a record here.
func (d Dir) Clusters() (names []string, err error) {
	all, err := d.Recorded()
	for _, r := range all {
		if r.Kind == OfCluster {
			names = append(names, r.Name)
		}
	}
	return names, err
}

// unreadable tells whether nothing of the directory can be read. Where this
// process lacks descriptors or memory, that says nothing of the directory.
func (d Dir) unreadable() bool {
	_, err := os.ReadDir(string(d))
	for _, own := range []error{nil, os.ErrNotExist, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, own) {
			return false
		}
	}
	return true
}

// Recorded are all that have a record; one that cannot be read is a cluster's.
func (d Dir) Recorded() (all []Recorded, err error) {
	files, err := os.ReadDir(string(d))
	if missing(err) {
		return nil, nil
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			continue
		}
		data, _ := read(d.path(name, ".json"), maxRecord)
		kind, _ := kindOf(data)
		all = append(all, Recorded{name, kind})
	}
	return all, err
}
