package state

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Memory is what the runs of one process know of clusters and pools whose record
// could not be written. They go on from it, so a watch without a writable disk
// mails once what it has to report. The zero Memory is ready, and nil remembers
// nothing.
//
// With Every it also knows the records that are as this process has left them, and
// a record in which nothing changed but counts and times is not written each time.
type Memory struct {
	// Every is how old the record on disk may become while nothing changes; 0: each
	// is written. It is set before the first run.
	Every time.Duration

	mu      sync.Mutex
	records map[memoryKey]remembered
}

type memoryKey struct {
	dir  Dir
	name string
}

// remembered is a record, and which one is on disk.
type remembered struct {
	record Kept
	onDisk any  // the Edition of that
	failed bool // the record could not be written

	file     fileID    // NAME.json, as this process wrote it; zero: it did not
	written  time.Time // when it did
	waits    bool      // the record is newer
	settings map[string][]string
}

// fileID tells a file from what another process puts in its place: each writes a
// new one and renames it.
type fileID struct {
	device, inode  uint64
	size           int64
	changed, wrote syscall.Timespec
}

func identify(path string) (id fileID) {
	info, err := os.Lstat(path)
	if err != nil {
		return fileID{}
	}
	s := info.Sys().(*syscall.Stat_t)
	return fileID{uint64(s.Dev), s.Ino, s.Size, s.Ctim, s.Mtim}
}

// LoadKnown is LoadKept, but for a record that is on disk as this process has left
// it: that is known.
func LoadKnown[T any, R interface {
	*T
	Kept
}](m *Memory, d Dir, name string, keep bool) (R, error) {
	if known, ok := m.unchanged(d, name); ok {
		if rec, ok := known.record.Copy().(R); ok {
			return rec, nil
		}
	}
	return LoadKept[T, R](d, name, keep)
}

// OnDisk is the Edition of the record on disk, where this one was loaded.
func (m *Memory) OnDisk(d Dir, loaded Kept) any {
	if m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if known, ok := m.records[memoryKey{d, loaded.Common().Name}]; ok && known.waits && known.record.Edition() == loaded.Edition() {
			return known.onDisk
		}
	}
	return loaded.Edition()
}

// unchanged is the newest record, where the one on disk is as this process wrote
// it.
func (m *Memory) unchanged(d Dir, name string) (remembered, bool) {
	if m == nil || m.Every == 0 {
		return remembered{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.records[memoryKey{d, name}]
	ok = ok && !known.failed && known.file != fileID{} && known.file == identify(d.path(name, ".json"))
	return known, ok
}

// Save is Dir.SaveUntil, but a record that need not be durable, because nothing
// changed in it but counts and times, may wait: where the next run, one gap later,
// writes it before the one on disk is older than Every. What was open in the one
// before is crossed off at once.
func (m *Memory) Save(ctx context.Context, d Dir, rec Kept, durable bool) error {
	name := rec.Common().Name
	known, ok := m.unchanged(d, name)
	if _, gap := rec.Common().LastCheck(); ok && !durable && known.record.Quiet() && time.Since(known.written)+max(gap, time.Second) < m.Every {
		known.record, known.waits = rec.Copy(), true
		m.set(d, known)
		return nil
	}
	if err := d.SaveUntil(ctx, rec, durable); err != nil {
		return err
	}
	if m != nil && m.Every > 0 {
		m.set(d, remembered{record: rec.Copy(), onDisk: rec.Edition(), file: identify(d.path(name, ".json")), written: time.Now()})
	} else {
		m.forget(d, name)
	}
	return nil
}

// Write writes the records that wait: the process ends. One that another run has
// locked, or has written since, is left alone.
func (m *Memory) Write(lock func(d Dir, name string) (unlock func(), err error)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	keys := slices.Collect(maps.Keys(m.records))
	m.mu.Unlock()
	for _, key := range keys {
		unlock, err := lock(key.dir, key.name)
		if err != nil {
			continue
		}
		if known, ok := m.unchanged(key.dir, key.name); ok && known.waits {
			_ = key.dir.Save(known.record, false)
		}
		unlock()
	}
}

// HasSettings tells whether these settings were kept since the record was written.
func (m *Memory) HasSettings(d Dir, name string, settings map[string][]string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.records[memoryKey{d, name}]
	return known.settings != nil && maps.EqualFunc(known.settings, settings, slices.Equal)
}

// SaveSettings is Dir.SaveSettings.
func (m *Memory) SaveSettings(d Dir, name string, settings map[string][]string) error {
	err := d.SaveSettings(name, settings)
	if known, ok := m.unchanged(d, name); ok && err == nil {
		known.settings = settings
		m.set(d, known)
	}
	return err
}

func (m *Memory) set(d Dir, known remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = map[memoryKey]remembered{}
	}
	m.records[memoryKey{d, known.record.Common().Name}] = known
}

// Recall is a newer record than the one of that edition on disk, which could not be written; nil
// for none.
func (m *Memory) Recall(d Dir, name string, onDisk any) Kept {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.records[memoryKey{d, name}]; ok && known.failed && known.onDisk == onDisk {
		return known.record.Copy()
	}
	return nil
}

// Remember keeps a record that could not be written for the next run of this
// process.
func (m *Memory) Remember(d Dir, rec Kept, onDisk any) {
	if m == nil {
		return
	}
	m.set(d, remembered{record: rec.Copy(), onDisk: onDisk, failed: true})
}

func (m *Memory) forget(d Dir, name string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, memoryKey{d, name})
}
