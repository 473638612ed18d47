package state

import (
	"net/netip"
	"slices"
	"time"

	"pingover/check"
)

// Evidence is what a run saw and did. The lists are never nil in JSON.
type Evidence struct {
	Address   string    `json:"address"` // the primary's address, "" when its name did not resolve
	Rounds    []Round   `json:"rounds"`
	Witnesses []Witness `json:"witnesses"`
	Holders   []Holder  `json:"holders"`
	Commands  []Command `json:"commands"`
	Update    *Update   `json:"update,omitempty"` // of a pool
	// Answers are what services said.
	Answers []ServiceAnswer `json:"service_answers,omitempty"`
}

// Update is a change of a pool's records in DNS.
type Update struct {
	Leave   []netip.Addr `json:"leave"`
	Return  []netip.Addr `json:"return"`
	Script  string       `json:"script"`  // input of nsupdate(1) that makes it
	Inverse string       `json:"inverse"` // input that undoes it
}

// ServiceAnswer is what a service said at one address.
type ServiceAnswer struct {
	Service string `json:"service"` // its name, without what may be secret
	Address string `json:"address"`
	Health  string `json:"health"` // good, bad, unknown
	Reason  string `json:"reason"` // why it is not good
}

// Round is one series of pings.
type Round struct {
	Number   int      `json:"round,omitzero"`   // 1 or 2; 0 in records of the first edition
	Address  string   `json:"address,omitzero"` // that was pinged
	Verdict  string   `json:"verdict"`          // up, down, unknown
	Sent     int      `json:"sent"`
	Received int      `json:"received"`
	RTT      *float64 `json:"rtt_ms"` // milliseconds, of the first reply
	Error    *string  `json:"error"`
}

// RoundOf is round n to an address as the record keeps it.
func RoundOf(n int, a netip.Addr, round check.Round) Round {
	shown := Round{Number: n, Address: a.String(), Verdict: round.Verdict.String(), Sent: round.Sent, Received: round.Received}
	if round.Received > 0 {
		ms := float64(round.RTT.Microseconds()) / 1000
		shown.RTT = &ms
	}
	if round.Err != nil {
		text := round.Err.Error()
		shown.Error = &text
	}
	return shown
}

// WitnessOf is a witness as the record keeps it: by what it replied when it counted.
func WitnessOf(a netip.Addr, by string, good bool) Witness {
	shown := Witness{Address: a.String(), Answers: good}
	if good {
		shown.By = &by
	}
	return shown
}

// Witnessed tells whether a witness replied when it counted, nil where none was asked.
func (e Evidence) Witnessed() *bool {
	if len(e.Witnesses) == 0 {
		return nil
	}
	return new(slices.ContainsFunc(e.Witnesses, func(w Witness) bool { return w.Answers }))
}

// Witness is a third address and whether it replied when it counted.
type Witness struct {
	Address string  `json:"address"`
	Answers bool    `json:"answers"`
	By      *string `json:"by"` // ping, arp, nd, or nil
}

// Holder is another machine that has the address of the primary or a virtual IP.
// MAC is "" when only its ping replies were seen.
type Holder struct {
	Address string `json:"address"`
	MAC     string `json:"mac"`
}

// Several tells whether the rounds are of several addresses.
func (e Evidence) Several() bool {
	return slices.ContainsFunc(e.Rounds, func(r Round) bool { return r.Address != e.Rounds[0].Address })
}

// whole is the evidence with no list nil, as JSON's readers expect.
func (e Evidence) whole() Evidence {
	e.Rounds = append([]Round{}, e.Rounds...)
	e.Witnesses = append([]Witness{}, e.Witnesses...)
	e.Holders = append([]Holder{}, e.Holders...)
	e.Commands = append([]Command{}, e.Commands...)
	return e
}

// Command is a command that was run, or in a dry run would be.
type Command struct {
	Argv   []string `json:"argv"`
	Hook   string   `json:"hook,omitempty"`   // its name, where it is the operator's own command
	Code   *int     `json:"code"`             // nil in a dry run
	Output string   `json:"output,omitempty"` // the end of what it printed, of a hook and of what failed
}

// Message is one email that its recipients have not had yet. It stays in the
// outbox, under the same Message-ID, until each of them has had it.
type Message struct {
	MessageID string    `json:"message_id"`
	InReplyTo string    `json:"in_reply_to,omitempty"`
	Time      time.Time `json:"time"`
	To        []string  `json:"to"` // who has not had it yet
	Subject   string    `json:"subject"`
	Body      string    `json:"body"`
	Cluster   string    `json:"cluster,omitempty"`
	Outcome   string    `json:"outcome,omitempty"` // of the run, or the kind of alert
	Kind      string    `json:"kind,omitempty"`    // of the first notification in it
	// Event is the line of JSON for the notify command; "" of mail. To stands for it.
	Event string `json:"event,omitempty"`
	// Of a message about dropped ones: how many, and the time of the oldest.
	Dropped      int       `json:"dropped,omitempty"`
	DroppedSince time.Time `json:"dropped_since,omitzero"`
}
