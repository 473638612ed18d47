package arbiter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pingover/state"
)

const (
	// The kernel removes an address up to 1.42 s after its lifetime; the rest of the
	// margin is for setting it, and for clocks whose rates differ by 2 %.
	marginFixed = 2 * time.Second
	marginShare = 50 // of the ttl: 2 %

	// least is the shortest lifetime that is set: with less left the address is removed.
	least = 2 * time.Second

	// setWithin is how long setting a lifetime may take, which the margin has left.
	setWithin = 500 * time.Millisecond

	// tries is how often a change is tried whose answer was lost, or that came too late
	// for the revision: each time the key is read first.
	tries = 2

	// placeholder is the stack in the value that takes the place of an absent key. An
	// absent key has no revision, so nobody could see that it was there for a moment.
	placeholder = "absent"

	// readEvery is the least time between two reads of a standby.
	readEvery = time.Second
)

// Limit is how long an address may stay after the key was renewed: the kernel has
// removed it when another machine may take the key, a ttl after the renewal.
func Limit(ttl time.Duration) time.Duration { return ttl - marginFixed - ttl/marginShare }

// Session is what one run has to do with the key of one cluster. The methods of a nil
// Session, without an arbiter, do nothing. It is for several goroutines.
type Session struct {
	env     Env
	cluster string
	host    string // of this machine
	ttl     time.Duration

	readOnly bool // of a dry run

	mu    sync.Mutex
	stack string
	key   state.Key
	asked bool // an answer came in this run
}

// NewSession is a session of this machine with that host name; nil without a store.
func NewSession(env Env, cluster, host string, ttl time.Duration) *Session {
	if env.Store == nil {
		return nil
	}
	return &Session{env: env, cluster: cluster, host: host, ttl: ttl}
}

// Begin goes on with what the record knows of the key; nil for nothing. A dry run
// changes nothing.
func (s *Session) Begin(known *state.Key, dryRun bool) {
	if s == nil {
		return
	}
	s.readOnly = dryRun
	stack, err := s.env.Stack()
	if err != nil {
		s.key.State, s.key.Fault = state.ArbiterSilent, fmt.Sprintf("this machine does not know itself: %v", err)
		return
	}
	s.stack = stack
	if known != nil && known.Stack == stack { // else its times are of other clocks
		s.key = *known
	} else if known != nil {
		s.key.TTL = known.TTL
	}
	s.key.Stack = stack
}

// Key is what the record keeps; nil without an arbiter.
func (s *Session) Key() *state.Key {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return new(s.key)
}

// Status is what the arbiter says, as it is now.
func (s *Session) Status() (a state.Arbiter) {
	if s == nil {
		return a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status()
}

func (s *Session) status() state.Arbiter {
	a := state.Arbiter{State: s.key.State, Fault: s.key.Fault, Holder: s.key.Holder, Until: s.key.Until}
	a.Changed = s.env.Monotonic() - s.key.Seen
	a.FreeIn = max(0, s.wait()-a.Changed)
	return a
}

// wait is for how long the key has to be seen unchanged before it may be taken.
func (s *Session) wait() time.Duration {
	return time.Duration(s.key.TTL) * time.Second
}

// Read asks for the key. What a run decides rests on it; Acquire asks again.
func (s *Session) Read(ctx context.Context) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ago := s.env.Monotonic() - s.key.Asked
	if s.key.State != state.ArbiterNotAsked && s.key.State != state.ArbiterSilent && ago >= 0 && ago < readEvery {
		return
	}
	_, _ = s.read(ctx)
}

// read reads the key, and notes what it says.
func (s *Session) read(ctx context.Context) (Entry, error) {
	if s.stack == "" {
		return Entry{}, errors.New(s.key.Fault)
	}
	e, err := s.env.Read(ctx, s.cluster)
	if err != nil {
		return e, s.silent(err)
	}
	if e.Absent && !s.readOnly {
		// Where this fails, the wait has not begun.
		v := Value{Holder: "nobody", Stack: placeholder, TTL: max(s.ttl, time.Duration(s.key.TTL)*time.Second)}
		if ok, revision, err := s.env.Swap(ctx, s.cluster, 0, v); ok && err == nil {
			e.Value, e.Revision = v, revision
		}
	}
	now := s.env.Monotonic() // after the answer: an earlier time would not be safe
	if k := &s.key; k.State == state.ArbiterNotAsked || e.Revision == 0 || k.Revision != e.Revision || k.ClusterID != e.ClusterID || now < k.Seen {
		k.Seen = now
	}
	s.asked, s.key.Asked = true, now
	s.key.Fault, s.key.Revision, s.key.ClusterID, s.key.Holder = "", e.Revision, e.ClusterID, e.Holder
	switch {
	case e.Revision == 0:
		s.key.State, s.key.TTL = state.ArbiterAbsent, int(max(s.ttl, time.Duration(s.key.TTL)*time.Second)/time.Second)
	case e.Stack == placeholder:
		s.key.State, s.key.TTL = state.ArbiterAbsent, int(e.TTL/time.Second)
	case e.Unknown != "":
		s.key.State, s.key.Holder = state.ArbiterOther, "an unknown machine ("+e.Unknown+")"
		s.key.TTL = int(max(e.TTL, s.ttl) / time.Second)
	case e.Holder == "":
		s.key.State = state.ArbiterFree
	default:
		s.key.State, s.key.TTL = state.ArbiterOther, int(e.TTL/time.Second)
		if e.Stack == s.stack {
			s.key.State = state.ArbiterOurs
		}
	}
	if s.key.State != state.ArbiterOurs {
		s.key.Renewed, s.key.End, s.key.RenewedAt = 0, 0, time.Time{}
	}
	return e, nil
}

// silent notes that there was no answer.
func (s *Session) silent(err error) error {
	s.key.State, s.key.Fault = state.ArbiterSilent, err.Error()
	return err
}

// swap makes this machine the holder, if the key is still as it was read. A hold is
// counted from before the request: others see the change after it.
func (s *Session) swap(ctx context.Context, e Entry) (ok bool, err error) {
	began, wall := s.env.Boot(), time.Now()
	ok, revision, err := s.env.Swap(ctx, s.cluster, e.Revision, Value{Holder: s.host, Stack: s.stack, TTL: s.ttl})
	if err != nil || !ok {
		return false, err
	}
	now := s.env.Monotonic()
	s.asked = true
	s.key = state.Key{
		Asked: now,
		State: state.ArbiterOurs, Holder: s.host, TTL: int(s.ttl / time.Second), Revision: revision, ClusterID: e.ClusterID, Stack: s.stack, Seen: now,
		Renewed: began, End: began + Limit(s.ttl), RenewedAt: wall, Until: wall.Add(Limit(s.ttl)),
	}
	return true, nil
}

// Ready asks whether a takeover could get the key, but for its holder: the arbiter
// answers, and all its members belong together.
func (s *Session) Ready(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.read(ctx)
	if err == nil {
		err = s.env.Agree(ctx, e.ClusterID)
	}
	return err
}

// Due tells whether the share (4: a quarter) of the ttl has passed since the last
// renewal.
func (s *Session) Due(share time.Duration) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.State != state.ArbiterOurs || s.key.Renewed == 0 || s.env.Boot()-s.key.Renewed >= s.ttl/share
}

// Renew renews the key for what is held here, or takes one that nobody holds. It ends
// as ours, and Lifetime is how long addresses may stay; as no-answer, where they live on
// to their end; or as other, where they have to be removed.
//
// An absent key is taken at once: as long as an address stays here by the key, no other
// machine may take one that was deleted since.
func (s *Session) Renew(ctx context.Context) state.ArbiterState {
	s.mu.Lock()
	defer s.mu.Unlock()
	refusal := s.take(ctx, true)
	if refusal != "" && s.key.State != state.ArbiterOther && s.key.State != state.ArbiterSilent {
		_ = s.silent(errors.New(refusal))
	}
	return s.key.State
}

// Acquire is the last guard of a takeover: it makes this machine the holder, or says
// why not. Then the key may be ours all the same: the next run reads it.
func (s *Session) Acquire(ctx context.Context) (refusal string) {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked && s.key.State == state.ArbiterOurs && s.env.Boot()-s.key.Renewed < s.ttl/4 && s.lifetime() > 0 {
		return ""
	}
	return s.take(ctx, false)
}

// take makes this machine the holder, where the key allows it. Each try reads the key
// first: a change whose answer was lost may have been made.
func (s *Session) take(ctx context.Context, holding bool) (refusal string) {
	for range tries {
		e, err := s.read(ctx)
		if err == nil && !holding && s.key.State != state.ArbiterOurs {
			if err = s.env.Agree(ctx, e.ClusterID); err != nil {
				_ = s.silent(err)
			}
		}
		now := s.status()
		if holding && s.key.State == state.ArbiterAbsent {
			now.FreeIn = 0
		}
		if refusal = now.Refusal(); refusal != "" {
			return refusal
		}
		ok, err := s.swap(ctx, e)
		switch {
		case ok && s.lifetime() > 0:
			return ""
		case ok:
			refusal = "the arbiter took too long to answer"
		case err != nil:
			refusal = "the arbiter does not answer: " + s.silent(err).Error()
		default:
			refusal = "another machine changed the arbiter's key at the same moment"
		}
	}
	return refusal
}

// Holds tells whether the key may be ours, as far as is known.
func (s *Session) Holds() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.State == state.ArbiterOurs || s.key.End > 0
}

// Free frees the key, if it is ours: nothing is held here any more.
func (s *Session) Free(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range tries {
		e, err := s.read(ctx)
		if err != nil || s.key.State != state.ArbiterOurs {
			return err
		}
		ok, revision, err := s.env.Swap(ctx, s.cluster, e.Revision, Value{TTL: s.ttl})
		if ok {
			s.key = state.Key{
				State: state.ArbiterFree, Revision: revision, ClusterID: e.ClusterID, Stack: s.stack, Seen: s.env.Monotonic(), TTL: s.key.TTL,
			}
			return nil
		}
		if err != nil {
			_ = s.silent(err)
			return err
		}
	}
	return errors.New("the key changes all the time")
}

// Lifetime is the lifetime of an address that is set now, in whole seconds; 0 where too
// little is left, or this machine does not hold the key.
func (s *Session) Lifetime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lifetime()
}

func (s *Session) lifetime() time.Duration {
	if left := (s.key.End - s.env.Boot()).Truncate(time.Second); s.key.End > 0 && left >= least {
		return left
	}
	return 0
}

// Allow is what an address that is here may have, which the kernel shows with so much
// left, 0 for no end: keep says that it stays as it is; else that lifetime is set, or
// for 0 it is removed. Without an answer it lives on to its end, and gets one where it
// has none.
func (s *Session) Allow(shown time.Duration) (lifetime time.Duration, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := Limit(s.ttl).Truncate(time.Second)
	switch {
	case s.key.State == state.ArbiterOther:
		return 0, false
	case s.key.State == state.ArbiterOurs:
		return s.lifetime(), false
	case shown > 0 && shown <= limit:
		return shown, true
	case s.key.End > 0:
		return s.lifetime(), false
	}
	return limit, false
}

// Outlives tells whether a lifetime that was set until now ends after the hold: this
// process, or the tool, was stopped for too long.
func (s *Session) Outlives(lifetime time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.End > 0 && s.env.Boot()+lifetime > s.key.End+setWithin
}

// Lost tells whether another machine holds the key.
func (s *Session) Lost() bool { return s != nil && s.Status().State == state.ArbiterOther }

// Owns tells whether this machine holds the key, and its time is not over: in a
// conflict it is then the other machine that has to yield.
func (s *Session) Owns() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key.State == state.ArbiterOurs && s.env.Boot() < s.key.End
}
