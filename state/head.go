package state

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Version is the version of the record that this program writes and reads.
const Version = 1

// MaxOutbox is how many messages wait at most: the newest stay, and one of
// them says how many were dropped.
const MaxOutbox = 100

// Kind is what a record is about.
type Kind string

// The kinds of records.
const (
	OfCluster Kind = ""
	OfPool    Kind = "pool"
)

func (k Kind) String() string {
	if k == OfCluster {
		return "cluster"
	}
	return string(k)
}

// Head is the part of a record that every kind has, clusters and pools: which
// one it is, how its last check ended, and what is still to be reported to
// its operator. Zero times mean "not known".
type Head struct {
	Version int          `json:"version"`
	Kind    Kind         `json:"kind,omitempty"`
	Name    string       `json:"cluster"`
	Event   string       `json:"event"`   // id of the intent or change that led to the present state
	Pending *Change      `json:"pending"` // the change that an open intent stands for; nil when none is open
	Last    *Check       `json:"last"`    // the last check
	Gap     Milliseconds `json:"gap_ms"`  // between the last two checks
	Streaks Streaks      `json:"streaks"`

	Gateways        []Gateway `json:"gateways"`     // automatic witnesses last known
	WitnessReported bool      `json:"witness_told"` // that there is none

	Rehearsed time.Time `json:"rehearsed,omitzero"` // when it was last tried what a takeover needs
	Alerts    []Alert   `json:"troubles"`
	Damping   Damping   `json:"damping"`
	Outbox    []Message `json:"outbox"`
	MailError *string   `json:"mail_error"` // why mail waits; nil while it is delivered
	Thread    string    `json:"thread"`     // Message-ID of the last message about a takeover

	// Recent are the entries of the history that are not in NAME.history yet,
	// and the newest change. In the first edition all changes were here.
	Recent []Entry         `json:"changes"`
	Counts map[Outcome]int `json:"counts"` // of all changes there ever were, by outcome
	Days   []Day           `json:"days"`   // today, and days that are not in NAME.days yet
}

// Firing is the alert of that kind, nil where there is none.
func (h *Head) Firing(kind string) *Alert {
	for i := range h.Alerts {
		if h.Alerts[i].Kind == kind {
			return &h.Alerts[i]
		}
	}
	return nil
}

// Common is the head itself, by which records of both kinds have it.
func (h *Head) Common() *Head { return h }

// LastCheck is when the last check was, zero for none, and its distance to the
// one before.
func (h *Head) LastCheck() (last time.Time, gap time.Duration) {
	if h.Last == nil {
		return last, 0
	}
	return h.Last.Time, h.Gap.Duration()
}

// Gateway is the default gateway last known on an interface, zero for none.
func (h *Head) Gateway(link string, v6 bool) netip.Addr {
	for _, g := range h.Gateways {
		if g.Interface == link && g.Address.Is6() == v6 {
			return g.Address
		}
	}
	return netip.Addr{}
}

// SetGateway makes a the default gateway last known on an interface.
func (h *Head) SetGateway(link string, a netip.Addr) {
	h.Gateways = slices.DeleteFunc(slices.Clone(h.Gateways), func(g Gateway) bool {
		return g.Interface == link && g.Address.Is6() == a.Is6()
	})
	h.Gateways = append(h.Gateways, Gateway{link, a})
}

// Milliseconds is a length of time as the record and the output write it.
type Milliseconds int64

// Duration is m as a length of time.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// check says what makes no sense of the part of a record that all kinds share.
func (h *Head) check() error {
	if h.Version != Version {
		return fmt.Errorf("its version is %d, this program knows %d", h.Version, Version)
	}
	for _, m := range h.Outbox {
		if m.MessageID == "" || len(m.To) == 0 {
			return errors.New("a message in its outbox has no recipient or no Message-ID")
		}
	}
	s := h.Streaks
	counts := slices.Collect(maps.Values(h.Counts))
	if h.Gap < 0 || slices.Min(append(counts, s.Good, s.Up, s.Unknown, s.Unserved, s.Silent, s.Isolated, s.Connected, s.Fit, s.Served, s.NotReady, s.Ready)) < 0 {
		return errors.New("a count is below zero")
	}
	if h.Last != nil && !h.Last.Outcome.known() {
		return fmt.Errorf("its last check has the outcome %q", h.Last.Outcome)
	}
	for i := range h.Recent {
		if err := h.Recent[i].check(); err != nil {
			return fmt.Errorf("an entry of its history: %w", err)
		}
	}
	for i := range h.Days {
		if err := h.Days[i].check(); err != nil {
			return err
		}
	}
	return nil
}
