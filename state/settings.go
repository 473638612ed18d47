package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"pingover/internal/proc"
)

// maxSettings is more bytes than the settings of a cluster need: they come from
// a file of at most 1 MiB.
const maxSettings = 4 << 20

// ErrNoSettings says that no settings are known of a cluster.
var ErrNoSettings = errors.New("no settings of an earlier check are kept")

// UntrustedError is a file that another user could have written. Settings name
// commands to run, so they are ignored.
type UntrustedError struct{ proc.Exposure }

func (e *UntrustedError) Error() string {
	return e.String() + "; settings name commands to run, ignored"
}

// settingsFile is NAME.settings.
type settingsFile struct {
	Version  int                 `json:"version"`
	Settings map[string][]string `json:"settings"`
}

// Settings reads the settings of the last check, by which a manual command
// needs no more than the name of the cluster. The error is ErrNoSettings, an
// *UntrustedError, a *ForeignError, a *CorruptError, or that the file cannot be
// read.
func (d Dir) Settings(name string) (map[string][]string, error) {
	path := d.path(name, ".settings")
	data, info, err := readFile(path, maxSettings)
	if data == nil && err == nil {
		return d.settingsOfRecord(name)
	}
	if err == nil {
		err = trust(path, info)
	}
	if err != nil {
		return nil, err
	}
	var file settingsFile
	err = json.Unmarshal(data, &file)
	if err == nil && file.Version != Version {
		err = fmt.Errorf("its version is %d, this program knows %d", file.Version, Version)
	}
	switch {
	case err != nil:
		return nil, &CorruptError{Path: path, Err: err}
	case len(file.Settings) == 0:
		return nil, ErrNoSettings
	}
	return file.Settings, nil
}

// settingsOfRecord are the settings in a record of the first edition.
func (d Dir) settingsOfRecord(name string) (map[string][]string, error) {
	path := d.path(name, ".json")
	data, info, err := readFile(path, maxRecord)
	if err == nil && data != nil {
		err = trust(path, info)
	}
	switch {
	case err != nil:
		return nil, err
	case data == nil:
		return nil, ErrNoSettings
	}
	rec, err := Parse(data)
	switch {
	case err != nil:
		return nil, &CorruptError{Path: path, Err: err}
	case rec.Name != name:
		return nil, &CorruptError{Path: path, Err: fmt.Errorf("it is the record of %q", rec.Name)}
	case len(rec.Settings) == 0:
		return nil, ErrNoSettings
	}
	return rec.Settings, nil
}

// SaveSettings keeps the settings of a check, readable by their owner only: a
// command line or a URL may have a password in it. Nothing is written when
// nothing has changed. It is called with the lock held.
func (d Dir) SaveSettings(name string, settings map[string][]string) error {
	if known, err := d.Settings(name); err == nil && maps.EqualFunc(known, settings, slices.Equal) && d.has(name, ".settings") {
		return nil
	}
	data, err := json.Marshal(settingsFile{Version, settings})
	if err != nil {
		return err
	}
	if err := d.mkdir(); err != nil {
		return err
	}
	return replace(d.path(name, ".settings"), append(data, '\n'), 0o600, true)
}

// moveSettings moves the settings of a record of the first edition, which
// every user can read, into their own file. What is there already is newer.
func (d Dir) moveSettings(name string, settings map[string][]string) error {
	if settings == nil || d.has(name, ".settings") {
		return nil
	}
	return d.SaveSettings(name, settings)
}

// trust says why another user could have written a file, for what names commands
// to run: an *UntrustedError. To others than root only the file itself matters,
// for a home directory is often the group's, too.
func trust(path string, info fs.FileInfo) error {
	found, err := proc.FileWritableByOthers(path, info), error(nil)
	if os.Geteuid() == 0 {
		found, err = proc.WritableByOthers(path, info)
	}
	if len(found) > 0 {
		return &UntrustedError{found[0]}
	}
	return err
}

func (d Dir) has(name, suffix string) bool {
	_, err := os.Lstat(d.path(name, suffix))
	return err == nil
}
