package state

import "sync"

// Memory is what the runs of one process know of clusters and pools whose record
// could not be written. They go on from it, so a watch without a writable disk
// mails once what it has to report. The zero Memory is ready, and nil remembers
// nothing.
type Memory struct {
	mu      sync.Mutex
	records map[memoryKey]remembered
}

type memoryKey struct {
	dir  Dir
	name string
}

// remembered is a record that could not be written, and which one is on disk.
type remembered struct {
	record Kept
	onDisk any // the Edition of that
}

// Recall is a newer record than the one of that edition on disk, which could not be written; nil
// for none.
func (m *Memory) Recall(d Dir, name string, onDisk any) Kept {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, ok := m.records[memoryKey{d, name}]; ok && known.onDisk == onDisk {
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = map[memoryKey]remembered{}
	}
	m.records[memoryKey{d, rec.Common().Name}] = remembered{rec.Copy(), onDisk}
}

// Forget notes that the record of that name was written.
func (m *Memory) Forget(d Dir, name string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, memoryKey{d, name})
}
