package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of the history.
const (
	MaxRecent  = 100      // entries in the record: the newest stay
	maxLines   = 1000     // in NAME.history: then the older half goes
	maxHistory = 64 << 20 // bytes that are read of it
)

// EntryKind is what an entry of the history is about.
type EntryKind string

// The kinds of entries.
const (
	ChangeEntry EntryKind = "change" // of who holds what, or an attempt at it
	HookEntry   EntryKind = "hook"   // a hook was run
	AlertEntry  EntryKind = "alert"  // an alert began to fire, or was resolved
)

// Entry is one entry of the history, and one line of NAME.history. It is first
// written in the record, in the same write as its mail, and moved by the next
// run.
type Entry struct {
	ID   string    `json:"id"` // the same for the same entry, by which it is moved once
	Kind EntryKind `json:"kind"`
	Change
	What     string       `json:"what,omitempty"`        // the hook, or the kind of alert
	Code     *int         `json:"code,omitempty"`        // exit code of a hook, -1 when it was killed
	Duration Milliseconds `json:"duration_ms,omitempty"` // of a hook
	Resolved bool         `json:"resolved,omitempty"`    // of an alert: it no longer fires
	Rule     int          `json:"rule,omitempty"`        // of an alert: by which rule of the decision it fired
	Moved    bool         `json:"moved,omitempty"`       // only in the record: it is in NAME.history, too
}

// identify fills in what a change of the first edition lacks.
func (e *Entry) identify() {
	e.Kind = cmp.Or(e.Kind, ChangeEntry)
	if e.ID == "" {
		e.ID = e.Time.UTC().Format("20060102T150405Z") + "." + cmp.Or(e.What, string(e.Outcome)) + "." + e.Event
		if e.Resolved {
			e.ID += ".resolved"
		}
	}
}

// Add adds an entry to the history, and returns it as it is kept. Kind is
// ChangeEntry where it is not set.
func (h *Head) Add(e Entry) *Entry {
	e.identify()
	h.Recent = append(h.Recent, e)
	if over := len(h.Recent) - MaxRecent; over > 0 {
		h.Recent = slices.Clone(h.Recent[over:]) // a pointer to an earlier entry stays valid
	}
	return &h.Recent[len(h.Recent)-1]
}

// LastChange is the newest change, nil when there never was one.
func (h *Head) LastChange() *Change {
	for i := len(h.Recent) - 1; i >= 0; i-- {
		if h.Recent[i].Kind == ChangeEntry {
			return &h.Recent[i].Change
		}
	}
	return nil
}

// ParseHistory reads the lines of NAME.history, the oldest first. Lines that
// cannot be read are left out, and named by the error.
func ParseHistory(data []byte) ([]Entry, error) {
	return parseLines(data, func(e *Entry) error {
		e.identify()
		e.Moved, e.Evidence = false, e.Evidence.whole()
		return e.check()
	})
}

// parseLines reads one JSON object a line.
func parseLines[T any](data []byte, check func(*T) error) (all []T, err error) {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		var v T
		e := json.Unmarshal(line, &v)
		if e == nil {
			e = check(&v)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("line %d: %w; ignored", n, e))
			continue
		}
		all = append(all, v)
	}
	return all, err
}

// check says what makes no sense of an entry.
func (e *Entry) check() error {
	for _, t := range []time.Time{e.Time, e.Began} {
		if err := sensible(t); err != nil {
			return err
		}
	}
	if e.Kind == ChangeEntry && e.Outcome != "" && !e.Outcome.known() {
		return fmt.Errorf("outcome %q", e.Outcome)
	}
	return nil
}

// sensible refuses times that cannot be written as RFC 3339 in UTC.
func sensible(t time.Time) error {
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return fmt.Errorf("time %s is out of range", t)
	}
	return nil
}

// MergeHistory is the whole history: what NAME.history has, and the entries of
// the record that are not in it yet.
func MergeHistory(file, recent []Entry) []Entry {
	known := map[string]bool{}
	for _, e := range file {
		known[e.ID] = true
	}
	all := slices.Clone(file)
	for _, e := range recent {
		if !known[e.ID] {
			known[e.ID] = true
			e.Moved, e.Evidence = false, e.Evidence.whole()
			all = append(all, e)
		}
	}
	return all
}

// History reads the history of a cluster: NAME.history and the recent entries
// of its record. The error says what could not be read of the file; what could
// is returned all the same.
func (d Dir) History(name string, recent []Entry) ([]Entry, error) {
	path := d.path(name, ".history")
	data, err := read(path, maxHistory)
	if err != nil {
		return recent, err
	}
	file, err := ParseHistory(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return MergeHistory(file, recent), err
}

// MoveHistory moves the entries of a record to NAME.history, so that the record
// stays small: it keeps the newest change, which the next check compares with.
// It is called with the lock held, and has an effect on the record when that is
// saved: a run that is killed before has moved nothing, and the next one does
// not write an entry twice.
func (d Dir) MoveHistory(h *Head) error {
	if !slices.ContainsFunc(h.Recent, func(e Entry) bool { return !e.Moved }) {
		return nil
	}
	moved, err := rewrite(d.path(h.Name, ".history"), maxHistory, ParseHistory, func(file []Entry) []Entry {
		all := MergeHistory(file, h.Recent)
		if len(all) > maxLines {
			return all[len(all)/2:]
		}
		return all
	})
	if !moved {
		return err
	}
	last := h.LastChange()
	var keep []Entry
	for i := range h.Recent {
		h.Recent[i].Moved = true
		if &h.Recent[i].Change == last {
			keep = h.Recent[i : i+1]
		}
	}
	h.Recent = slices.Clone(keep)
	return err
}

// Over tells whether there is something that Move moves.
func (h *Head) Over() bool {
	return len(h.Days) > 1 || slices.ContainsFunc(h.Recent, func(e Entry) bool { return !e.Moved })
}

// Move moves what is over from a copy of a record's head into its own files, and
// returns the head without it. What could not be moved is still there.
func (d Dir) Move(h Head) (Head, error) {
	h.Recent, h.Days = slices.Clone(h.Recent), slices.Clone(h.Days)
	return h, errors.Join(d.MoveHistory(&h), d.MoveDays(&h))
}

// rewrite replaces a file of lines by what then makes of them. What cannot be
// read of it is kept aside, and is the error although the file was written.
func rewrite[T any](path string, limit int64, parse func([]byte) ([]T, error), then func([]T) []T) (written bool, err error) {
	data, err := read(path, limit)
	if err != nil && !errors.Is(err, errTooLarge) {
		return false, err
	}
	file, e := parse(data)
	if err != nil {
		e = errTooLarge
	}
	if err = e; err != nil {
		err = setAside(path, err)
	}
	text, e := inLines(then(file))
	if e == nil {
		e = replace(path, text, 0o644, true)
	}
	if e != nil {
		return false, e
	}
	return true, err
}

// inLines writes one JSON object a line.
func inLines[T any](all []T) ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	for _, v := range all {
		if err := out.Encode(v); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
