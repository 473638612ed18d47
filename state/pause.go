package state

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"time"
)

// defaultPause is how long a pause lasts whose file cannot be understood,
// counted from when it was written: the operator wanted one, and the default
// of the pause command bounds it.
const defaultPause = time.Hour

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
