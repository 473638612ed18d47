package state

import "time"

// Version is the version of the record that this program writes and reads.
const Version = 1

// MaxOutbox is how many messages wait at most: the newest stay, and one of
// them says how many were dropped.
const MaxOutbox = 100

// Head is the part of a record that every kind has, clusters and pools: which
// one it is, how its last check ended, and what its operator has not been told
// yet. Zero times mean "not known".
type Head struct {
	Version int          `json:"version"`
	Name    string       `json:"cluster"`
	Event   string       `json:"event"`   // id of the intent or change that led to the present state
	Pending *Change      `json:"pending"` // the change that an open intent stands for; nil when none is open
	Last    *Check       `json:"last"`    // the last check
	Gap     Milliseconds `json:"gap_ms"`  // between the last two checks
	Streaks Streaks      `json:"streaks"`

	Gateways        []Gateway `json:"gateways"`     // automatic witnesses last known
	WitnessReported bool      `json:"witness_told"` // that there is none

	Alerts    []Alert   `json:"troubles"`
	Damping   Damping   `json:"damping"`
	Outbox    []Message `json:"outbox"`
	MailError *string   `json:"mail_error"` // why mail waits; nil while it is delivered
	Thread    string    `json:"thread"`     // Message-ID of the last message about a takeover

	Changes []Change `json:"changes"`
	// Counts are all changes there ever were, by outcome, with those that
	// Changes has no room for.
	Counts map[Outcome]int `json:"counts"`
}

// Milliseconds is a length of time as the record and the output write it.
type Milliseconds int64

// Duration is m as a length of time.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }
