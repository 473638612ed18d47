package run

import (
	"slices"
	"sync"
	"time"

	"pingover/state"
)

// Memory is what the runs of one process know of clusters whose record could not
// be written. They go on from it, so a watch without a writable disk mails once
// what it has to report. The zero Memory is ready.
type Memory struct {
	mu      sync.Mutex
	records map[memoryKey]remembered
}

type memoryKey struct {
	dir  state.Dir
	name string
}

// remembered is a record that could not be written, and which one is on disk.
type remembered struct {
	record state.Record
	onDisk edition
}

// edition tells the records of a cluster apart that were written one after the
// other, by this process or another one.
type edition struct {
	event         string
	role          state.Role
	since, last   time.Time
	manualRelease bool
}

func editionOf(rec *state.Record) edition {
	e := edition{event: rec.Event, role: rec.Role, since: rec.Since, manualRelease: rec.ManualRelease}
	if rec.Last != nil {
		e.last = rec.Last.Time
	}
	return e
}

// recall is the record to go on from: the one on disk, or a newer one that could
// not be written.
func (r *Run) recall(onDisk *state.Record) *state.Record {
	r.onDisk, r.pending = editionOf(onDisk), slices.Clone(onDisk.Outbox)
	if r.Memory == nil || r.DryRun {
		return onDisk
	}
	r.Memory.mu.Lock()
	defer r.Memory.mu.Unlock()
	known, ok := r.Memory.records[memoryKey{r.Dir, r.Name}]
	if !ok || known.onDisk != r.onDisk {
		return onDisk
	}
	r.recalled = true
	return &known.record
}

// Recalled tells whether the run goes on from what this process remembers.
func (r *Run) Recalled() bool { return r.recalled }

// Remember keeps a record that could not be written for the next run of this
// process.
func (r *Run) Remember(rec state.Record) {
	if r.Memory == nil {
		return
	}
	r.Memory.mu.Lock()
	defer r.Memory.mu.Unlock()
	if r.Memory.records == nil {
		r.Memory.records = map[memoryKey]remembered{}
	}
	r.Memory.records[memoryKey{r.Dir, r.Name}] = remembered{rec, r.onDisk}
}

// Pending is the outbox of the record on disk.
func (r *Run) Pending() []state.Message { return r.pending }

// forget notes that a record was written.
func (r *Run) forget(written *state.Record) {
	r.onDisk = editionOf(written)
	if r.Memory == nil {
		return
	}
	r.Memory.mu.Lock()
	defer r.Memory.mu.Unlock()
	delete(r.Memory.records, memoryKey{r.Dir, r.Name})
}
