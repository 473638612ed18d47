// Package state is the memory between runs: the store with its locks, the
// record with its pure transitions, and Decide, which is pure too.
package state

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Role is what this machine is to the cluster, by its own record. What is
// held is never read from here but from the kernel.
type Role string

// The roles. Taking and Releasing are open intents: the run that wrote one
// was about to act, and the run that finds it finishes the work.
const (
	Standby   Role = "standby"
	Taking    Role = "taking"
	Active    Role = "active"
	Releasing Role = "releasing"
)

// Record is what is kept of one cluster between runs. Zero times and addresses
// mean "not known".
type Record struct {
	Head
	// Origin is the path of the file that defines the cluster, or FlagsOrigin; ""
	// in a record of an earlier version.
	Origin    string     `json:"origin,omitempty"`
	Host      string     `json:"host"`
	Earlier   []Primary  `json:"earlier,omitempty"` // primaries that it had before, the newest last
	Address   netip.Addr `json:"address"`           // the last address that Host resolved to, or of several the one that replied
	Paths     []Path     `json:"paths"`             // the addresses of the host
	Neighbour string     `json:"neighbour"`         // the primary's MAC when it was last heard on the link
	Interface string     `json:"interface"`
	VIPs      []Alias    `json:"vips"` // as configured at the last run, and what is left over from before
	Role      Role       `json:"role"`
	Since     time.Time  `json:"since"`  // since when it has this role
	Before    Role       `json:"before"` // the role before the open intent; "" when none is open
	// Services are those of the settings, in their order; Answers are what they said
	// in the last check.
	Services []Service       `json:"services,omitempty"`
	Answers  []ServiceAnswer `json:"service_answers,omitempty"`
	// Offered is what an open release hands over: added here again when nobody
	// takes it. Empty where another machine has it already.
	Offered []netip.Addr `json:"offered"`
	// NotAsked are the virtual IPs of which the last check could not know whether a
	// machine has them.
	NotAsked []netip.Addr `json:"not_asked,omitempty"`
	// Unreached are addresses that were taken over, and to which no witness replied.
	Unreached []netip.Addr `json:"unreached,omitempty"`
	// Releasing is what an open release is about; empty: all that is held.
	Releasing []netip.Addr `json:"releasing,omitempty"`
	BootID    string       `json:"boot_id"` // of the boot in which this was written
	// ManualRelease stops takeovers until the primary was up once,
	// ManualTakeover and NobodyTook stop automatic failback until it was down once.
	ManualRelease  bool         `json:"released_by_hand"`
	ManualTakeover bool         `json:"taken_by_hand"`
	NobodyTook     bool         `json:"nobody_took"`      // when a hand-over was tried
	PendingHook    *PendingHook `json:"hook_owed"`        // hook that has to run yet
	BackReported   bool         `json:"back_told"`        // that the primary replies again, since the takeover
	SeenUp         time.Time    `json:"seen_up,omitzero"` // when the primary last replied to pings
	Noted          []string     `json:"noted"`            // what every check notes, and was printed to cron already
	Arbiter        *Key         `json:"arbiter,omitempty"`
	// Settings are in a record of the first edition only: Save moves them into
	// NAME.settings, where others cannot read them.
	Settings map[string][]string `json:"settings,omitempty"`
}

// Begin makes it the record of a cluster that was never checked.
func (r *Record) Begin(name string) {
	*r = Record{Head: Head{Version: Version, Name: name}, Role: Standby}
}

// Copy is a copy for a writer that may be abandoned.
func (r *Record) Copy() Kept {
	c := *r
	return &c
}

// Become makes it a copy again.
func (r *Record) Become(written Kept) { *r = *written.(*Record) }

// Edition tells it from the records before and after it.
func (r *Record) Edition() any {
	last, _ := r.LastCheck()
	return [...]any{r.Event, r.Role, r.Since, last, r.ManualRelease}
}

// Sound says what makes no sense of it, besides its head.
func (r *Record) Sound() error {
	if r.Name == "" || r.Host == "" {
		return errors.New("it names no cluster or no host")
	}
	switch r.Role {
	case Standby, Taking, Active, Releasing:
	default:
		return fmt.Errorf("its role is %q", r.Role)
	}
	for _, a := range r.VIPs {
		if !a.Prefix.IsValid() {
			return errors.New("a virtual IP of it is not an address")
		}
	}
	if slices.ContainsFunc(r.Services, func(s Service) bool { return s.Bad < 0 }) {
		return errors.New("a count is below zero")
	}
	return r.Arbiter.sound()
}

// Path is an address of the primary.
type Path struct {
	Host      string     `json:"host"` // the entry of the setting
	Address   netip.Addr `json:"address"`
	Interface string     `json:"interface"` // where it was a neighbour when it was last asked; "": behind a router
	Replied   bool       `json:"replied"`   // since it is an address of the host
}

// AddressesOf are the addresses of a host that have replied, else the last one
// that it resolved to.
func (r *Record) AddressesOf(host string) (addrs []netip.Addr) {
	for _, p := range r.Paths {
		if p.Host == host && p.Replied {
			addrs = append(addrs, p.Address)
		}
	}
	if len(addrs) == 0 && r.Address.IsValid() && host == r.Host {
		addrs = []netip.Addr{r.Address}
	}
	return addrs
}

// CableTo is the interface where an address of the host was a neighbour, "" for
// none.
func (r *Record) CableTo(host string, a netip.Addr) string {
	for _, p := range r.Paths {
		if p.Host == host && p.Address == a {
			return p.Interface
		}
	}
	return ""
}

// PendingHook is a hook that belongs to a change that is written down already.
type PendingHook struct {
	Hook   string    `json:"hook"` // post-takeover or post-release
	Event  string    `json:"event"`
	Time   time.Time `json:"time"` // of the change
	Reason string    `json:"reason"`
}

// The hooks that follow a change.
const (
	PostTakeover = "post-takeover"
	PostRelease  = "post-release"
)

// Alias is a virtual IP and where it is assigned while this machine holds it.
type Alias struct {
	Prefix    netip.Prefix `json:"prefix"`
	Interface string       `json:"interface"`
	Label     string       `json:"label"`               // "" when added without one, or not by us
	Raised    bool         `json:"raised"`              // added by us, and not removed by us since
	Until     time.Time    `json:"until"`               // when its lease runs out; zero where it has none
	LeftOver  bool         `json:"left_over,omitempty"` // still here, and no longer a setting
}

// Address is the virtual IP. A link-local one is told apart by its interface, which
// is its zone.
func (a Alias) Address() netip.Addr {
	if addr := a.Prefix.Addr(); addr.Is6() && addr.IsLinkLocalUnicast() {
		return addr.WithZone(a.Interface)
	}
	return a.Prefix.Addr()
}

// SameAddress tells whether two addresses are one; a zone decides where both have
// one.
func SameAddress(a, b netip.Addr) bool {
	return a == b || (a.Zone() == "" || b.Zone() == "") && a.WithZone("") == b.WithZone("")
}

// Check is how a check ended.
type Check struct {
	Time     time.Time    `json:"time"` // when it began
	Outcome  Outcome      `json:"outcome"`
	Code     int          `json:"code"`
	Rule     int          `json:"rule"`
	Reason   string       `json:"reason"`
	Primary  string       `json:"primary"` // up, down, unknown
	Sent     int          `json:"sent"`    // pings of the last round
	Received int          `json:"received"`
	Witness  *bool        `json:"witness"`     // one replied; nil where none was asked
	RTT      *float64     `json:"rtt_ms"`      // milliseconds, of the first reply; nil without one
	Duration Milliseconds `json:"duration_ms"` // without hooks and mail, which follow the record
}

// Streaks count checks in a row, at most one a second.
type Streaks struct {
	Good     int `json:"good"`     // outcomes that need no attention
	Up       int `json:"up"`       // the primary replied
	Unknown  int `json:"unknown"`  // the check could not be made
	Unserved int `json:"unserved"` // the primary replied, and no machine had a virtual IP
	Silent   int `json:"silent"`   // no witness replied while something was held here
	// Something was held here: it could not be asked whether another machine has
	// it, or all witnesses were silent; or neither.
	Isolated  int `json:"isolated"`
	Connected int `json:"connected"`
	// With services: the primary replied, and they were good; something was held
	// here, and they were good at it.
	Fit    int `json:"fit,omitempty"`
	Served int `json:"served,omitempty"`
	// Rehearsals of a takeover in a row that failed, or did not.
	NotReady int `json:"not_ready"`
	Ready    int `json:"ready"`
}

// Gateway is a default gateway that served as witness on an interface.
type Gateway struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
}

// Alert is a bad state that lasts: it is mailed once, then after `remind`.
type Alert struct {
	Kind      string    `json:"kind"`
	Rule      int       `json:"rule"`
	Since     time.Time `json:"since"`
	Mailed    time.Time `json:"mailed"`
	MessageID string    `json:"message_id"`       // of the first message about it
	Reason    string    `json:"reason,omitempty"` // of the newest check that fired it
}

// Damping is flap damping: it keeps what repeats from becoming a storm of mail.
type Damping struct {
	Mailed     []MailedKind `json:"told"`              // the kinds of notifications that were mailed in the last hour
	Changes    []time.Time  `json:"changes,omitempty"` // when changes of role were mailed in the last hour
	Since      time.Time    `json:"since"`             // since when repeated ones are suppressed; zero: they are not
	Suppressed []Suppressed `json:"gathered"`          // and not mailed yet
	Next       time.Time    `json:"next,omitzero"`     // when these are mailed at the latest; zero where there are none
}

// MailedKind is a kind of notification and the time of the newest that was mailed.
type MailedKind struct {
	Kind  string    `json:"kind"`
	Time  time.Time `json:"time"`
	Again bool      `json:"again,omitempty"` // it was repeated within the hour: the next is suppressed
}

// Suppressed is a notification that waits for the message that has many.
type Suppressed struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Event  string    `json:"event"`
	Reason string    `json:"reason"`
}

// Change is one line of the history: who held what from then on, why, and
// what was seen.
type Change struct {
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	Began    time.Time `json:"began,omitzero"` // when the run began that observed what led to it
	Outcome  Outcome   `json:"outcome"`
	Manual   bool      `json:"by_hand"`
	Reason   string    `json:"reason"`
	Evidence Evidence  `json:"evidence"`
}

// Ours says whether pingover added an alias of the record. A run that was killed
// while it switched may not have written it down.
func (r *Record) Ours(a Alias) bool {
	return a.Raised || r.Role == Taking || r.Role == Releasing
}
