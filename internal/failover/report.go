package failover

import (
	"net/netip"
	"time"

	"pingover/state"
)

// Report is how one check of one cluster ended: the object that --json
// prints, one a line. Keys may be added and are never renamed; all are always
// there, and the lists are never null.
type Report struct {
	Version   int            `json:"version"` // of this object: 1
	Cluster   string         `json:"cluster"`
	Time      time.Time      `json:"time"`    // when the check began, UTC
	Outcome   state.Outcome  `json:"outcome"` // or "busy", "error" where no check was made
	Code      int            `json:"code"`
	Changed   bool           `json:"changed"` // the outcome is another than at the last check
	DryRun    bool           `json:"dry_run"`
	Reason    string         `json:"reason"`
	Error     *string        `json:"error"`
	Role      state.Role     `json:"role"`
	Held      []netip.Prefix `json:"held"` // virtual IPs on this machine now, by the kernel
	Interface string         `json:"interface"`
	Paused    bool           `json:"paused"`
	Host      string         `json:"host"`
	state.Evidence
	MailWaiting int                `json:"mail_waiting"`
	Duration    state.Milliseconds `json:"duration_ms"`
	// Check is what the record keeps of it, or would, could it be written.
	Check state.Check `json:"-"`
}

// A check tells what it does as it does it by handing one of the types below
// to Options.Tell. They are facts; the words for them belong to whoever
// prints.
type (
	// RoundBegan says that the first ping of round N (1 or 2) is about to leave.
	RoundBegan struct {
		N        int
		Host     string
		Address  netip.Addr
		Count    int
		Interval time.Duration
		Timeout  time.Duration
	}
	// Replied says that the primary answered ping Seq (from 1) of round N.
	Replied struct {
		N, Seq int
		RTT    time.Duration
	}
	// RoundEnded carries what round N found.
	RoundEnded struct {
		N     int
		Round state.Round
	}
	// Waiting says that nothing happens for so long, and why.
	Waiting struct {
		For time.Duration
		Why string
	}
	// Guarded carries what the guards saw: witnesses, and other machines
	// that answered for the primary or a virtual IP.
	Guarded struct {
		Witnesses []state.Witness
		Holders   []state.Holder
		Fault     string // what could not be asked, "" when everything was
	}
	// Decided carries the decision, before anything is done about it.
	Decided struct {
		Decision state.Decision
	}
	// Ran carries a command that was run, or in a dry run would be.
	Ran struct {
		Command state.Command
		DryRun  bool
	}
	// LockWaited says that another run, by its pid where that is known, holds
	// the lock, and how long it is waited for.
	LockWaited struct {
		PID int
		For time.Duration
	}
	// HookRan carries a hook that was run.
	HookRan struct {
		Hook    string // pre-takeover, …
		Command state.Command
		Error   error // nil for exit code 0
	}
	// Announced says that the clients on Interface were told that Address is at MAC.
	Announced struct {
		Address   netip.Addr
		Interface string
		MAC       string
	}
	// Delivered counts letters that were handed over, and says why others were
	// not.
	Delivered struct {
		Sent, Waiting int
		Error         error
	}
	// Note is something an operator should know although the check goes on:
	// a name that no longer resolves, a broken record kept aside, no witness
	// to be found. Loud notes are printed even when the check is not
	// talkative: they come once, not in every run.
	Note struct {
		Text    string
		Warning bool
	}
)
