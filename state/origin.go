package state

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// FlagsOrigin is the origin of a cluster that flags define.
const FlagsOrigin = "flags"

// Primary is what was learned of a primary that the cluster had before.
type Primary struct {
	Host      string     `json:"host"`
	Address   netip.Addr `json:"address"`
	Neighbour string     `json:"neighbour"`
	SeenUp    time.Time  `json:"seen_up,omitzero"`
	Left      time.Time  `json:"left"` // when the host was changed
}

// Bounds of what is kept of earlier primaries.
const (
	mostPrimaries = 4
	// settled is how long a host stays before it may change back: two crontab
	// lines with one name change it in every run.
	settled = time.Hour
)

// TwoDefinitionsError is a host that changes back so soon that two definitions
// of the cluster are in use.
type TwoDefinitionsError struct {
	Name, Host, Other string
	Left              time.Time // when Host was replaced by Other
}

func (e *TwoDefinitionsError) Error() string {
	return fmt.Sprintf("two definitions share the name %s: its host was changed from %q to %q at %s, and is %q again",
		e.Name, e.Host, e.Other, e.Left.UTC().Format(time.RFC3339), e.Host)
}

// SetHost makes host the primary of the cluster, and returns the one before, ""
// where it is the same. What was learned is kept per host; what was in a row ends,
// for it was about another address, and a takeover is rehearsed anew. The error is a *TwoDefinitionsError.
func (r *Record) SetHost(host string, now time.Time) (before string, err error) {
	before = r.Host
	if before == "" || before == host {
		r.Host = host
		return "", nil
	}
	known := Primary{Host: host}
	if i := slices.IndexFunc(r.Earlier, func(p Primary) bool { return p.Host == host }); i >= 0 {
		known = r.Earlier[i]
		if now.Sub(known.Left).Abs() < settled {
			return "", &TwoDefinitionsError{r.Name, host, before, known.Left}
		}
	}
	left := Primary{Host: before, Address: r.Address, Neighbour: r.Neighbour, SeenUp: r.SeenUp, Left: now}
	r.Earlier = append(slices.DeleteFunc(slices.Clone(r.Earlier), func(p Primary) bool { return p.Host == host || p.Host == before }), left)
	r.Earlier = r.Earlier[max(0, len(r.Earlier)-mostPrimaries):]
	r.Host, r.Address, r.Neighbour, r.SeenUp = host, known.Address, known.Neighbour, known.SeenUp
	r.Streaks, r.Services, r.BackReported, r.Rehearsed = Streaks{}, nil, false, time.Time{}
	return before, nil
}

// inherit takes over what is known of a cluster that had this one's virtual IPs
// under another name. What this one knows itself counts before that.
func (r *Record) inherit(old Record) {
	if r.Host == "" { // it was never checked
		name, origin, recent := r.Name, r.Origin, r.Recent
		*r = old
		r.Name, r.Origin, r.Recent, r.Earlier, r.Days = name, origin, recent, nil, nil
		return
	}
	for _, m := range old.Outbox {
		if len(r.Outbox) < MaxOutbox && !slices.ContainsFunc(r.Outbox, func(o Message) bool { return o.MessageID == m.MessageID }) {
			r.Outbox = append(r.Outbox, m)
		}
	}
	if r.Counts == nil {
		r.Counts = map[Outcome]int{}
	} else {
		r.Counts = maps.Clone(r.Counts)
	}
	for outcome, n := range old.Counts {
		r.Counts[outcome] += n
	}
	for _, a := range old.VIPs {
		i := slices.IndexFunc(r.VIPs, func(b Alias) bool { return SameAddress(a.Address(), b.Address()) })
		switch {
		case i < 0:
			r.VIPs = append(r.VIPs, a)
		case !r.VIPs[i].Raised:
			r.VIPs[i] = a
		}
	}
	if r.Role == Standby && old.Role != Standby {
		r.Role, r.Since, r.Before, r.Event, r.Pending, r.Offered = old.Role, old.Since, old.Before, old.Event, old.Pending, old.Offered
		r.ManualTakeover, r.PendingHook, r.Thread, r.BootID = old.ManualTakeover, old.PendingHook, old.Thread, old.BootID
	}
	r.ManualRelease = r.ManualRelease || old.ManualRelease
	if r.Host == old.Host && r.Neighbour == "" {
		r.Neighbour = old.Neighbour
	}
}

// Inherit moves what is kept of a cluster that had this one's virtual IPs under
// another name: its history, pending mail, pause, and what was assigned; for the
// same host also what was learned. It is called with the locks of both held. A
// run that is killed in between repeats it, and nothing is there twice.
func (d Dir) Inherit(r *Record, name string) error {
	old, err := d.Load(name, false)
	if err != nil {
		return err
	}
	entries, err := d.History(name, old.Recent)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		if _, err := rewrite(d.path(r.Name, ".history"), maxHistory, ParseHistory, func(file []Entry) []Entry {
			all := MergeHistory(entries, file)
			return all[max(0, len(all)-maxLines):]
		}); err != nil {
			return err
		}
	}
	r.inherit(*old)
	for i := len(entries) - 1; i >= 0 && r.LastChange() == nil; i-- { // the next check compares with the newest change
		if entries[i].Kind == ChangeEntry {
			entries[i].Moved = true
			r.Recent = append(slices.Clone(r.Recent), entries[i])
		}
	}
	for _, suffix := range []string{".days", ".pause"} {
		if !d.has(r.Name, suffix) {
			if err := os.Rename(d.path(name, suffix), d.path(r.Name, suffix)); err != nil && !missing(err) {
				return err
			}
		}
	}
	if err := d.Save(r, true); err != nil {
		return err
	}
	return d.Forget(name)
}

// Forget removes all files of a cluster but its lock, which a run may be waiting
// for. It is called with the lock held. The record goes last: until then the
// cluster is known.
func (d Dir) Forget(name string) error {
	files := slices.DeleteFunc(d.Files(name), func(path string) bool { return strings.HasSuffix(path, ".lock") })
	record := d.path(name, ".json")
	for _, path := range append(slices.DeleteFunc(files, func(path string) bool { return path == record }), record+".bad", record) {
		if err := os.Remove(path); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// DecideUnconfigured is the policy for a cluster that is no longer configured
// and holds something: by rules 1 to 4 and 6, without adding anything, and
// nothing is handed over because the primary is back.
func DecideUnconfigured(known Known, o Observation, set Settings, now time.Time) Decision {
	set.Failback = false
	if len(o.held()) > 0 { // what is missing is not missed
		o.VIPs = slices.DeleteFunc(slices.Clone(o.VIPs), func(v VIPStatus) bool { return !v.Held })
	}
	d := Decide(known, o, set, now)
	if d.Rule > RuleHold && d.Rule != RuleArbiter {
		return Decision{Rule: RuleHold, Outcome: OK, Reason: "nothing is held here any more, and the cluster is no longer configured"}
	}
	return d
}
