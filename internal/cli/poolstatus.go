package cli

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"pingover/internal/balance"
	"pingover/internal/term"
	"pingover/notify"
	"pingover/pool"
	"pingover/state"
)

// poolObject is what status --json prints of a pool. All keys are always there; a
// value that Error made unknown is null.
type poolObject struct {
	Version     int              `json:"version"` // of this object: 1
	Kind        state.Kind       `json:"kind"`    // pool
	Cluster     string           `json:"cluster"` // the pool's name, by the key that clusters have
	Record      *string          `json:"record"`
	Server      *string          `json:"server"`
	Zone        *string          `json:"zone"`      // null while it is not known
	Published   []netip.Addr     `json:"published"` // all addresses in DNS at the last check
	Members     []balance.Member `json:"members"`
	Foreign     []netip.Addr     `json:"foreign"` // published, and never members
	Update      *state.Update    `json:"update"`  // that was made last
	Paused      *bool            `json:"paused"`
	PausedUntil *time.Time       `json:"paused_until"`
	Last        *lastCheck       `json:"last"` // null where there was none
	Overdue     *bool            `json:"overdue"`
	MailWaiting *int             `json:"mail_waiting"`
	MailError   *string          `json:"mail_error"`
	Error       *string          `json:"error"` // why something is not known
	notify.Attention
	MetricsError *string `json:"metrics_error"`
}

// object is what status --json prints.
func (s status) object() any {
	if s.task.Kind != state.OfPool {
		return s
	}
	o := poolObject{
		Version: s.Version, Kind: state.OfPool, Cluster: s.Cluster, Paused: s.Paused, PausedUntil: s.PausedUntil, Last: s.Last,
		Overdue: s.Overdue, MailWaiting: s.MailWaiting, MailError: s.MailError, MetricsError: s.MetricsError, Error: s.Error, Attention: s.Attention,
	}
	if name, server := s.recordName(); name != "" {
		o.Record, o.Server = &name, &server
	}
	if s.pool != nil {
		o.Published, o.Members, o.Foreign = balance.PublishedIn(s.pool), balance.MembersOf(s.pool, s.now), list(s.pool.Foreign)
		o.Update = s.pool.Newest
		if zone := withoutDot(s.pool.Zone); zone != "" {
			o.Zone = &zone
		}
	}
	return o
}

// recordName is the name that clients use, and the server, of the settings or else
// of the last check; "" where neither is known.
func (s status) recordName() (name, server string) {
	if s.task.pool.Record == "" && s.pool != nil {
		return withoutDot(s.pool.DNSName), s.pool.Server
	}
	return withoutDot(s.task.pool.Record), s.task.pool.Server
}

// withoutDot is a DNS name as people write it.
func withoutDot(name string) string { return strings.TrimSuffix(name, ".") }

// memberRows are the lines of a pool in the table: members, then records of others.
func (s status) memberRows(last string) (rows [][]string) {
	name, _ := s.recordName()
	add := func(member, inDNS, since string) {
		row := []string{"", "", member, inDNS, since, ""}
		if len(rows) == 0 {
			row[0], row[1], row[5] = term.Printable(s.Cluster), term.Printable(name), last
		}
		rows = append(rows, row)
	}
	if s.pool != nil {
		for _, m := range balance.MembersOf(s.pool, s.now) {
			add(m.Address.String(), memberText(m), s.minute(m.Since))
		}
		for _, a := range s.pool.Foreign {
			add(a.String(), "published, no member", "-")
		}
	}
	if s.pool == nil || len(s.pool.Members) == 0 { // nothing is known of them yet
		for _, a := range s.task.pool.Members {
			add(a.String(), "?", "-")
		}
	}
	if len(rows) == 0 {
		add("-", "-", "-")
	}
	return rows
}

// memberText is where a member is, and how it was at the last check.
func memberText(m balance.Member) string {
	text := "out"
	if m.Published {
		text = "published"
	}
	if m.Left {
		return text + ", no member"
	}
	if m.Verdict != "" {
		text += ", " + m.Verdict
	}
	if m.Drained {
		text += ", drained"
	}
	return text
}

// memberRemarks say who took members out, and until when they are drained.
func (s status) memberRemarks() (remarks []string) {
	if s.pool == nil {
		return nil
	}
	for _, m := range balance.MembersOf(s.pool, s.now) {
		by := map[pool.By]string{pool.Us: "pingover", pool.Another: "another checker or an administrator"}[m.By]
		var facts []string
		if !m.Published && by != "" {
			facts = append(facts, "taken out by "+by)
		}
		switch {
		case m.DrainedUntil != nil:
			facts = append(facts, "drained until "+clock(m.DrainedUntil.In(s.now.Location())))
		case m.Drained:
			facts = append(facts, "drained; to end this: pingover undrain "+s.Cluster+" "+m.Address.String())
		}
		if len(facts) > 0 {
			remarks = append(remarks, m.Address.String()+": "+strings.Join(facts, ", "))
		}
	}
	return remarks
}

// tasksOf are what the statuses are of.
func tasksOf(all []status) []Task {
	tasks := make([]Task, len(all))
	for i, s := range all {
		tasks[i] = s.task
	}
	return tasks
}

// tally is "2 clusters", "1 pool", or "3 clusters and pools".
func tally(tasks []Task) string {
	pools := 0
	for _, t := range tasks {
		if t.Kind == state.OfPool {
			pools++
		}
	}
	switch pools {
	case 0:
		return count(len(tasks), "cluster")
	case len(tasks):
		return count(pools, "pool")
	}
	return fmt.Sprintf("%d clusters and pools", len(tasks))
}

// memberCounts counts members.
type memberCounts struct{ all, published, drained int }

func (s status) members() (n memberCounts) {
	if s.pool == nil {
		return n
	}
	for _, m := range s.pool.Members {
		if m.Left {
			continue
		}
		n.all++
		if m.Published {
			n.published++
		}
		if m.DrainedAt(s.now) {
			n.drained++
		}
	}
	return n
}
