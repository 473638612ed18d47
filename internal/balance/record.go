package balance

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"pingover/pool"
	"pingover/state"
)

// Record is what is kept of one pool between runs.
type Record struct {
	state.Head
	pool.Record
	Origin  string        `json:"origin"` // path of the file that defines the pool
	DNSName string        `json:"record"` // as config.Pool.Record
	Server  string        `json:"server"`
	Zone    string        `json:"zone"`    // "" while it is not known
	Foreign []netip.Addr  `json:"foreign"` // published, and never members
	Newest  *state.Update `json:"newest"`  // the update that was made last
	Noted   []string      `json:"noted"`   // what every check notes, and was printed to cron already
}

// Begin makes it the record of a pool that was never checked.
func (r *Record) Begin(name string) {
	*r = Record{Head: state.Head{Version: state.Version, Kind: state.OfPool, Name: name}}
}

// Sound says what makes no sense of it, besides its head.
func (r *Record) Sound() error {
	if r.Name == "" || r.DNSName == "" {
		return errors.New("it names no pool or no record")
	}
	return r.Record.Check()
}

// Edition tells it from the records before and after it.
func (r *Record) Edition() any {
	last, _ := r.LastCheck()
	drained := 0
	for _, m := range r.Members {
		if m.Drained != nil {
			drained++
		}
	}
	return [...]any{r.Event, r.Update != nil, last, drained}
}

// Copy is a copy for a writer that may be abandoned.
func (r *Record) Copy() state.Kept {
	c := *r
	return &c
}

// Become makes it a copy again.
func (r *Record) Become(written state.Kept) { *r = *written.(*Record) }

// Quiet tells whether losing the newest record to a power cut would lose
// nothing that another check does not find again: no syncs are spent on it.
func (r *Record) Quiet() bool {
	return len(r.Outbox) == 0 && r.Update == nil && len(r.Damping.Suppressed) == 0
}

// adopt makes the record that of this pool with these settings. Of another name
// nothing is known but what was drained.
func (r *Record) adopt(j *job) Record {
	rec := *r
	if rec.DNSName != "" && rec.DNSName != j.set.Record {
		j.Warnf("the record is now %s, and was %s: what is published under the old name stays there", shown(j.set.Record), shown(rec.DNSName))
		var members []pool.Member
		for _, m := range rec.Members {
			if m.Drained != nil {
				members = append(members, pool.Member{Address: m.Address, Drained: m.Drained})
			}
		}
		rec.Record, rec.Foreign, rec.Zone = pool.Record{Members: members}, nil, ""
	}
	if rec.Server != j.set.Server {
		rec.Zone = ""
	}
	rec.DNSName, rec.Server, rec.Zone = j.set.Record, j.set.Server, cmp.Or(j.set.Zone, rec.Zone)
	if !j.manual {
		rec.Origin = cmp.Or(j.opt.Origin, rec.Origin)
	}
	if last, gap := rec.LastCheck(); !last.IsZero() && state.Overdue(j.Began.Sub(last), gap) {
		rec.Streaks = state.Streaks{} // the runs had stopped: nothing was in a row
		rec.Members = slices.Clone(rec.Members)
		for i := range rec.Members {
			rec.Members[i].Up = 0
		}
	}
	return rec
}

// settle brings the record in line with the set that was read.
func (r Record) settle(j *job, read reading) (Record, reading) {
	r.Zone = read.zone
	if read.known() {
		r.Record, read.finished = r.Record.Settle(read.set, j.settings(), now())
	} else {
		r.Zone = j.set.Zone // else it is found anew
	}
	return r, read
}

// shown is a DNS name as people write it: without the final dot.
func shown(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}
