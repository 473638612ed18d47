package state

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ArbiterState is how the arbiter's key stands to this machine.
type ArbiterState string

// The states of the key.
const (
	ArbiterNotAsked ArbiterState = ""          // or there is none
	ArbiterSilent   ArbiterState = "no-answer" // no member answers, or it refuses
	ArbiterFree     ArbiterState = "free"
	ArbiterAbsent   ArbiterState = "absent" // there is no key: somebody may have deleted it
	ArbiterOther    ArbiterState = "other"  // another machine holds it
	ArbiterOurs     ArbiterState = "ours"
)

// Arbiter is what the arbiter says in this check.
type Arbiter struct {
	State   ArbiterState
	Fault   string        // why it does not answer
	Holder  string        // the machine that holds the key
	Changed time.Duration // for so long the key has been seen unchanged
	FreeIn  time.Duration // the key of another, or an absent one, may be taken after so long; 0: now
	Until   time.Time     // when what is held here ends, unless it is renewed; zero: not known
	// Lost is what was held here, and removed at once: the key is another machine's.
	Lost []netip.Addr
}

// Key is the arbiter's key as this machine last knew it. Seen, Asked, Renewed and End are
// times of clocks that mean something within one boot, and in the network stack Stack,
// only; the times of the wall clock are for people.
type Key struct {
	State     ArbiterState `json:"state"` // when it was last asked
	Fault     string       `json:"fault,omitempty"`
	Holder    string       `json:"holder"`
	TTL       int          `json:"ttl_s"` // seconds
	Revision  int64        `json:"revision"`
	ClusterID string       `json:"cluster_id"`
	Agreed    string       `json:"agreed,omitempty"` // the cluster that more than half of the members had, when they were asked last
	Stack     string       `json:"stack"`
	// Seen is when Revision was first seen, by CLOCK_MONOTONIC, after the answer.
	Seen  time.Duration `json:"seen_ns"`
	Asked time.Duration `json:"asked_ns"` // when it last answered, by CLOCK_MONOTONIC
	// Renewed is when this machine last renewed the key, and End how long its addresses
	// may stay for that, by CLOCK_BOOTTIME; 0: it does not hold it.
	Renewed   time.Duration `json:"renewed_ns,omitempty"`
	End       time.Duration `json:"end_ns,omitempty"`
	RenewedAt time.Time     `json:"renewed,omitzero"`
	Until     time.Time     `json:"until,omitzero"`
}

// KeyStatus is the key as reports and status show it.
type KeyStatus struct {
	State   ArbiterState `json:"state"`
	Holder  string       `json:"holder"`  // "": nobody
	Renewed *time.Time   `json:"renewed"` // by this machine, while it holds; else null
	Until   *time.Time   `json:"until"`   // when what it holds ends, unless it is renewed
	Error   *string      `json:"error"`   // why the arbiter does not answer; null when it does
}

// Status is that; nil without an arbiter.
func (k *Key) Status() *KeyStatus {
	if k == nil {
		return nil
	}
	s := KeyStatus{State: k.State, Holder: k.Holder}
	if k.Fault != "" {
		s.Error = &k.Fault
	}
	if k.End > 0 {
		s.Renewed, s.Until = new(k.RenewedAt.UTC().Truncate(time.Second)), new(k.Until.UTC().Truncate(time.Second))
	}
	return &s
}

// ArbiterStates are all that the metrics name.
func ArbiterStates() []ArbiterState {
	return []ArbiterState{ArbiterSilent, ArbiterFree, ArbiterAbsent, ArbiterOther, ArbiterOurs}
}

// sound says what makes no sense of it; nil is no key.
func (k *Key) sound() error {
	if k != nil && (k.Revision < 0 || k.TTL < 0 || k.Seen < 0 || k.Asked < 0 || k.Renewed < 0 || k.End < 0) {
		return errors.New("a number of the arbiter's key is below zero")
	}
	return nil
}

// answers tells whether it was asked, and answered.
func (a Arbiter) answers() bool { return a.State != ArbiterNotAsked && a.State != ArbiterSilent }

// mayTake tells whether the arbiter would let this machine take over.
func (a Arbiter) mayTake() bool {
	switch a.State {
	case ArbiterFree, ArbiterOurs:
		return true
	case ArbiterOther, ArbiterAbsent:
		return a.FreeIn <= 0
	}
	return false
}

// Refusal is why the arbiter does not let this machine take over, in words; "" where
// it does.
func (a Arbiter) Refusal() string {
	switch {
	case a.mayTake():
		return ""
	case a.State == ArbiterOther:
		return fmt.Sprintf("%s holds the arbiter's key, unchanged for %s; free in %s", a.Holder, seconds(a.Changed), seconds(a.FreeIn+time.Second-1))
	case a.State == ArbiterAbsent:
		return fmt.Sprintf("the arbiter has no key yet, or it was deleted: free in %s", seconds(a.FreeIn+time.Second-1))
	case a.State == ArbiterSilent:
		return "the arbiter does not answer: " + a.Fault
	}
	return "the arbiter was not asked"
}

func seconds(d time.Duration) string { return words(d.Truncate(time.Second)) }

// lost is rule 16: another machine holds the key of what was held here, and has been
// removed. A machine that was stopped as a whole, or whose address was added manually,
// comes here.
func (o Observation) lost() Decision {
	return Decision{
		Rule: RuleArbiter, Outcome: Released, Release: true, Only: o.Arbiter.Lost, Cause: CauseArbiter,
		Reason: fmt.Sprintf("%s holds the arbiter's key: %s is removed here", o.Arbiter.Holder, list(o.Arbiter.Lost)),
	}
}

// ends is what becomes of what is held while the arbiter does not answer.
func (o Observation) ends() string {
	if o.Arbiter.State != ArbiterSilent {
		return ""
	}
	if o.Arbiter.Until.IsZero() {
		return "; the arbiter does not answer"
	}
	return fmt.Sprintf("; the arbiter does not answer: %s ends at %s unless it does", list(o.held()), o.Arbiter.Until.Local().Format(time.TimeOnly))
}
