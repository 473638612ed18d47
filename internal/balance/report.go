package balance

import (
	"net/netip"
	"slices"
	"time"

	"pingover/notify"
	"pingover/pool"
	"pingover/state"
)

// Report is how one check of one pool ended: the object that --json prints, one a
// line. Keys may be added and are never renamed; all are always there, and the
// lists are never null.
type Report struct {
	Version     int                `json:"version"` // of this object: 1
	Kind        state.Kind         `json:"kind"`    // pool
	Cluster     string             `json:"cluster"` // the pool's name, by the key that clusters have
	Time        time.Time          `json:"time"`    // when the check began, UTC
	Outcome     state.Outcome      `json:"outcome"` // or "busy", "error" where no check was made
	Code        int                `json:"code"`
	Changed     bool               `json:"changed"` // the outcome is another than at the last check
	DryRun      bool               `json:"dry_run"`
	Reason      string             `json:"reason"`
	Error       *string            `json:"error"`
	Record      string             `json:"record"` // the name that clients use, without the final dot
	Server      string             `json:"server"`
	Zone        string             `json:"zone"`
	Published   []netip.Addr       `json:"published"` // all addresses in DNS now, as last read
	Members     []Member           `json:"members"`
	Foreign     []netip.Addr       `json:"foreign"` // published, and never members
	Update      *state.Update      `json:"update"`  // that this run has made, tried, or in a dry run would make; null for none
	Paused      bool               `json:"paused"`
	Rounds      []state.Round      `json:"rounds"`
	Witnesses   []state.Witness    `json:"witnesses"`
	MailWaiting int                `json:"mail_waiting"`
	Duration    state.Milliseconds `json:"duration_ms"`
	notify.Attention
	// Hint is what to do about what was refused; "" for nothing.
	Hint string `json:"-"`
	// Check is what the record keeps of it, or would, could it be written.
	Check state.Check `json:"-"`
}

// Member is one address of the pool. A check and status print the same.
type Member struct {
	Address      netip.Addr `json:"address"`
	Verdict      string     `json:"verdict"` // up, down, unknown; "" before the first check
	Reason       string     `json:"reason"`  // why it is unknown, "" where it is not, or is not known any more
	Published    bool       `json:"published"`
	Since        *time.Time `json:"since"` // since when it is published, or out
	By           pool.By    `json:"by"`    // who published it or took it out: pingover, another, added; "" where that is not known
	Up           int        `json:"up"`    // checks in a row
	Drained      bool       `json:"drained"`
	DrainedUntil *time.Time `json:"drained_until"` // null: until undrain, or not drained
	Left         bool       `json:"left"`          // no longer a member, and still published
}

// MembersOf are the members as the record has them.
func MembersOf(rec *Record, now time.Time) []Member {
	all := []Member{}
	for _, m := range rec.Members {
		member := Member{
			Address: m.Address, Verdict: m.Verdict, Published: m.Published, By: m.By, Up: m.Up, Drained: m.DrainedAt(now), Left: m.Left,
		}
		if !m.Since.IsZero() {
			member.Since = new(m.Since.UTC())
		}
		if member.Drained && !m.Drained.Until.IsZero() {
			member.DrainedUntil = new(m.Drained.Until.UTC())
		}
		all = append(all, member)
	}
	return all
}

// PublishedIn are the addresses in DNS as the record has them.
func PublishedIn(rec *Record) []netip.Addr {
	all := []netip.Addr{}
	for _, m := range rec.Members {
		if m.Published {
			all = append(all, m.Address)
		}
	}
	return append(all, rec.Foreign...)
}

// What a check of a pool reports besides the events of package run.
type (
	// Decided carries the decision, before anything is done about it.
	Decided struct {
		Decision pool.Decision
	}
	// Updated carries an update that was made, or tried, and in a dry run would be.
	Updated struct {
		Update state.Update
		Error  error
		DryRun bool
	}
	// Witnessed carries the witnesses beside round two.
	Witnessed struct {
		Witnesses []state.Witness
	}
)

// report puts together what is shown of the run.
func report(j *job, rec Record, s seen, r Result, changed bool, saveErr error) Report {
	members := MembersOf(&rec, now())
	for i := range members {
		for _, a := range s.members {
			if a.address == members[i].Address {
				members[i].Reason = a.fault
			}
		}
	}
	e := s.evidence(func(answer) bool { return true })
	report := Report{
		Version: 1, Kind: state.OfPool, Cluster: j.set.Name, Time: j.Began.UTC().Truncate(time.Second),
		Outcome: r.Outcome, Code: r.Outcome.Code(), Changed: changed, DryRun: j.DryRun, Reason: r.Reason,
		Record: shown(j.set.Record), Server: j.set.Server, Zone: shown(rec.Zone), Published: PublishedIn(&rec), Members: members, Foreign: orEmpty(rec.Foreign),
		Paused: time.Now().Before(j.PausedUntil()), Rounds: orEmpty(e.Rounds), Witnesses: orEmpty(e.Witnesses), MailWaiting: len(rec.Outbox),
		Duration: state.Milliseconds(time.Since(j.Began).Milliseconds()), Attention: notify.AttentionOf(rec.Head, orEmpty(e.Answers)), Hint: r.Hint,
	}
	if r.Change != nil {
		report.Update = r.Change.Evidence.Update
	}
	if saveErr != nil {
		text := saveErr.Error()
		report.Error = &text
	}
	if !j.manual && !j.DryRun {
		report.Check = *rec.Last
		report.Check.Outcome, report.Check.Code, report.Check.Duration = report.Outcome, report.Code, report.Duration
	}
	return report
}

// planned is the report of a dry run, with the update that it would make.
func planned(j *job, rec Record, read reading, s seen, d pool.Decision) Report {
	r := Result{Decision: d, reading: read, Outcome: d.Outcome, Reason: d.Reason}
	if len(d.Leave)+len(d.Return) > 0 {
		change := pool.Change{Zone: read.zone, Before: read.set, After: read.set.With(d.Leave, d.Return, j.set.TTL)}
		r.Change = &state.Change{Evidence: state.Evidence{Update: updateOf(change, d.Leave, d.Return, j.set.Server)}}
		j.Event(Updated{Update: *r.Change.Evidence.Update, DryRun: true})
	}
	if read.known() {
		rec.Foreign = without(read.set.Addrs(), rec.Members)
	}
	changed := r.Change != nil
	if !j.manual {
		changed = rec.Count(checkOf(j, s, r)) || changed
	}
	return report(j, rec, s, r, changed, nil)
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return slices.Clip(s)
}
