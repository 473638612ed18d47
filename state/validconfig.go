package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Limits of config.valid. A copy is text of at most 1 MiB, so as JSON all of
// them are smaller than maxCopies.
const (
	mostCopies = 8 // configuration files: those that were valid last stay
	maxCopies  = 64 << 20
)

// ValidConfig is what is kept of one configuration file: its text when it was
// valid last, and, while it cannot be used, what its operator was told of that.
type ValidConfig struct {
	Path  string    `json:"path"`
	Text  string    `json:"text"` // "": it was never valid
	Valid time.Time `json:"valid"`

	Unusable time.Time `json:"unusable"` // since when it cannot be used; zero while it can
	Errors   []string  `json:"errors"`   // of the file, as they were told
	Told     time.Time `json:"told"`     // when they were printed and mailed
	Thread   string    `json:"thread"`   // Message-ID of the first message about it
	Outbox   []Message `json:"outbox"`
}

// validConfigs is config.valid.
type validConfigs struct {
	Version int           `json:"version"`
	Files   []ValidConfig `json:"files"`
}

// ValidConfig is what is kept of the configuration file of that path: only that
// is empty where nothing is. It names commands to run, so a file that another
// user could have written is ignored; the error says so, or why it cannot be
// read.
func (d Dir) ValidConfig(path string) (ValidConfig, error) {
	none := ValidConfig{Path: path}
	kept, err := d.validConfigs()
	if err != nil {
		return none, err
	}
	if i := slices.IndexFunc(kept.Files, func(v ValidConfig) bool { return v.Path == path }); i >= 0 {
		return kept.Files[i], nil
	}
	return none, nil
}

func (d Dir) validConfigs() (validConfigs, error) {
	kept := validConfigs{Version: Version}
	path := d.path("config", ".valid")
	data, info, err := readFile(path, maxCopies)
	if err == nil && data != nil {
		err = trust(path, info)
	}
	if err != nil || data == nil {
		return kept, err
	}
	var file validConfigs
	err = json.Unmarshal(data, &file)
	if err == nil && file.Version != Version {
		err = fmt.Errorf("its version is %d, this program knows %d", file.Version, Version)
	}
	if err != nil {
		return kept, &CorruptError{Path: path, Err: err}
	}
	return file, nil
}

// SaveValidConfig keeps what is known of one configuration file, readable by its
// owner only, for a command line or a URL may have a password in it. Two runs may
// write at once: ErrBusy is the one that comes second. What cannot be read of
// the file is replaced.
func (d Dir) SaveValidConfig(v ValidConfig) error {
	if err := d.mkdir(); err != nil {
		return err
	}
	path := d.path("config", ".valid")
	if err := foreignAt(path); err != nil {
		return err
	}
	f, err := lock(path + ".tmp")
	if err != nil {
		return err
	}
	defer release(f)
	kept, err := d.validConfigs()
	if errors.As(err, new(*ForeignError)) {
		return err
	}
	kept.Files = slices.DeleteFunc(kept.Files, func(k ValidConfig) bool { return k.Path == v.Path })
	if len(kept.Files) >= mostCopies {
		oldest := slices.MinFunc(kept.Files, func(a, b ValidConfig) int { return a.Valid.Compare(b.Valid) })
		kept.Files = slices.DeleteFunc(kept.Files, func(k ValidConfig) bool { return k.Path == oldest.Path })
	}
	kept.Files = append(kept.Files, v)
	data, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return rewriteLocked(f, path, append(data, '\n'))
}

// rewriteLocked fills a locked temporary file, and renames it to path. A run
// that waits for its lock finds that the name has gone, and makes a new one.
func rewriteLocked(f *os.File, path string, data []byte) error {
	err := errors.Join(f.Truncate(0), f.Chmod(0o600))
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
