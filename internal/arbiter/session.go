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
	// tries is how often a change is tried whose answer was lost, or that came too late
	// for the revision: each time the key is read first.
	tries = 2

	// placeholder is the stack in the value that takes the place of an absent key. An
	// absent key has no revision, so nobody could see that it was there for a moment.
	placeholder = "absent"

	// retryShare is the part of the ttl after which a run tries a renewal again.
	retryShare = 6

	// readEvery is the least time between two reads of a standby.
	readEvery = time.Second
)

// Session is what one run has to do with the key of one cluster. The methods of a nil
// Session, without an arbiter, do nothing. It is for several goroutines.
type Session struct {
	env     Env
	cluster string
	host    string // of this machine
	ttl     time.Duration

	readOnly bool // of a dry run
	stack    string

	turn  chan struct{} // of the one that asks
	asked bool          // an answer came in this run

	mu     sync.Mutex // never held while anybody is asked
	key    state.Key
	failed time.Duration // when there was no answer in this run, by CLOCK_BOOTTIME; 0: never
}

// NewSession is a session of this machine with that host name; nil without a store.
func NewSession(env Env, cluster, host string, ttl time.Duration) *Session {
	if env.Store == nil {
		return nil
	}
	return &Session{env: env, cluster: cluster, host: host, ttl: ttl, turn: make(chan struct{}, 1)}
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
		s.key.TTL, s.key.Agreed = known.TTL, known.Agreed
	}
	s.key.Stack = stack
	if s.key.Renewed > s.env.Boot() { // the machine is back at an earlier moment, and its disk is not
		s.key = released(s.key)
	}
}

// released is a key by which this machine may hold nothing, until it is renewed.
func released(k state.Key) state.Key {
	k.Renewed, k.End, k.RenewedAt, k.Until = 0, 0, time.Time{}, time.Time{}
	return k
}

// Key is what the record keeps; nil without an arbiter.
func (s *Session) Key() *state.Key {
	if s == nil {
		return nil
	}
	return new(s.known())
}

// known is the key as it is known now.
func (s *Session) known() state.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

// set changes what is known.
func (s *Session) set(k state.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = k
}

// ask waits for its turn to ask, until done is called.
func (s *Session) ask() (done func()) {
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

// Status is what the arbiter says, as it is now.
func (s *Session) Status() (a state.Arbiter) {
	if s == nil {
		return a
	}
	k := s.known()
	a = state.Arbiter{State: k.State, Fault: k.Fault, Holder: k.Holder, Until: k.Until}
	a.Changed = s.env.Monotonic() - k.Seen
	a.FreeIn = max(0, time.Duration(k.TTL)*time.Second-a.Changed)
	return a
}

// Read asks for the key. What a run decides rests on it; Acquire asks again.
func (s *Session) Read(ctx context.Context) {
	if s == nil {
		return
	}
	defer s.ask()()
	k := s.known()
	ago := s.env.Monotonic() - k.Asked
	if k.State != state.ArbiterNotAsked && k.State != state.ArbiterSilent && ago >= 0 && ago < readEvery {
		return
	}
	_, _ = s.read(ctx)
}

// read reads the key, and notes what it says.
func (s *Session) read(ctx context.Context) (Entry, error) {
	k := s.known()
	if s.stack == "" {
		return Entry{}, errors.New(k.Fault)
	}
	e, err := s.env.Read(ctx, s.cluster)
	if err != nil {
		return e, s.silent(err)
	}
	ttl := max(s.ttl, time.Duration(k.TTL)*time.Second)
	if e.Absent && !s.readOnly {
		// Where this fails, the wait has not begun.
		v := Value{Holder: "nobody", Stack: placeholder, TTL: ttl}
		if ok, now, err := s.env.Swap(ctx, s.cluster, 0, v); ok && err == nil {
			e.Value, e.Revision = v, now.Revision
		}
	}
	now := s.env.Monotonic() // after the answer: an earlier time would not be safe
	if k.State == state.ArbiterNotAsked || e.Revision == 0 || k.Revision != e.Revision || k.ClusterID != e.ClusterID || now < k.Seen {
		k.Seen = now
	}
	k.Asked, k.Fault, k.Revision, k.ClusterID, k.Holder = now, "", e.Revision, e.ClusterID, e.Holder
	switch {
	case e.Revision == 0:
		k.State, k.TTL = state.ArbiterAbsent, int(ttl/time.Second)
	case e.Unknown != "":
		k.State, k.Holder = state.ArbiterOther, "an unknown machine ("+e.Unknown+")"
		k.TTL = int(max(e.TTL, ttl) / time.Second)
	case e.Stack == placeholder: // of a machine whose ttl may be shorter than that of the last holder
		k.State, k.TTL = state.ArbiterAbsent, int(max(e.TTL, ttl)/time.Second)
	case e.Holder == "":
		k.State = state.ArbiterFree
	default:
		k.State, k.TTL = state.ArbiterOther, int(e.TTL/time.Second)
		if e.Stack == s.stack {
			k.State = state.ArbiterOurs
		}
	}
	if k.State != state.ArbiterOurs {
		k = released(k)
	}
	s.asked = true
	s.set(k)
	return e, nil
}

// silent notes that there was no answer.
func (s *Session) silent(err error) error {
	k := s.known()
	k.State, k.Fault = state.ArbiterSilent, err.Error()
	s.set(k)
	now := s.env.Boot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = now
	return err
}

// write makes this machine the holder by a change of the store. A hold is counted from
// before the request: others see the change after it.
func (s *Session) write(ctx context.Context, change func(context.Context, string, int64, Value) (bool, Entry, error), e Entry) (ok bool, err error) {
	began, wall, ttl := s.env.Boot(), time.Now(), s.ttl
	if k := s.known(); k.End-began > Limit(ttl) { // the ttl was decreased: until it is set anew, a lifetime is that of the former one
		ttl = time.Duration(k.TTL) * time.Second
	}
	ok, now, err := change(ctx, s.cluster, e.Revision, Value{Holder: s.host, Stack: s.stack, TTL: ttl})
	if err != nil || !ok {
		return false, err
	}
	if now.ClusterID != e.ClusterID {
		return false, &Error{Kind: Different, Member: now.Member, Text: "belongs to another cluster of etcd than the one that was asked before"}
	}
	seen := s.env.Monotonic()
	s.asked = true
	s.set(state.Key{
		Asked: seen,
		State: state.ArbiterOurs, Holder: s.host, TTL: int(ttl / time.Second), Revision: now.Revision, ClusterID: now.ClusterID, Stack: s.stack, Seen: seen,
		Renewed: began, End: began + Limit(s.ttl), RenewedAt: wall, Until: wall.Add(Limit(s.ttl)), Agreed: s.known().Agreed,
	})
	return true, nil
}

// Ready asks whether a takeover could get the key, but for its holder: the arbiter
// answers, and all its members belong together.
func (s *Session) Ready(ctx context.Context) error {
	if s == nil {
		return nil
	}
	defer s.ask()()
	e, err := s.read(ctx)
	if err == nil {
		err = s.agree(ctx, e.ClusterID)
	}
	return err
}

// agree asks whether the members belong to this cluster of etcd. More than half of them
// have to answer, once: of two machines that each reach a member of another cluster,
// both would hold.
func (s *Session) agree(ctx context.Context, id string) error {
	err, k := s.env.Agree(ctx, id), s.known()
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == TooFew && k.Agreed == id {
		return nil
	}
	if err == nil {
		k.Agreed = id
		s.set(k)
	}
	return err
}

// Due tells whether the share (4: a quarter) of the ttl has passed since the last
// renewal. After one that failed a run waits too, for the silence of several members
// takes seconds.
func (s *Session) Due(share time.Duration) bool {
	if s == nil {
		return false
	}
	k := s.known()
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if k.State == state.ArbiterSilent && failed > 0 && s.env.Boot()-failed < s.ttl/retryShare {
		return false
	}
	return k.State != state.ArbiterOurs || k.Renewed == 0 || s.env.Boot()-k.Renewed >= s.ttl/share
}

// Renew renews the key for what is held here, or takes one that nobody holds. It ends
// as ours, and Lifetime is how long addresses may stay; as no-answer, where they live on
// to their end; or as other, where they have to be removed.
//
// An absent key is taken at once: as long as an address stays here by the key, no other
// machine may take one that was deleted since.
func (s *Session) Renew(ctx context.Context) state.ArbiterState {
	defer s.ask()()
	refusal := s.take(ctx, true)
	if now := s.known().State; refusal != "" && now != state.ArbiterOther && now != state.ArbiterSilent {
		_ = s.silent(errors.New(refusal))
	}
	return s.known().State
}

// Acquire is the last guard of a takeover: it makes this machine the holder, or says
// why not. Then the key may be ours all the same: the next run reads it.
func (s *Session) Acquire(ctx context.Context) (refusal string) {
	if s == nil {
		return ""
	}
	defer s.ask()()
	if s.asked && !s.Due(4) && s.Lifetime() > 0 {
		return ""
	}
	return s.take(ctx, false)
}

// take makes this machine the holder, where the key allows it. Each try reads the key
// first: a change whose answer was lost may have been made. Only the renewal of a key
// that is still as this machine wrote it needs no read.
func (s *Session) take(ctx context.Context, holding bool) (refusal string) {
	if holding {
		if done, refusal := s.extend(ctx); done {
			return refusal
		}
	}
	before := s.known()
	for range tries {
		e, err := s.read(ctx)
		if err == nil && (e.ClusterID != before.ClusterID || !holding && s.known().State != state.ArbiterOurs) {
			if err = s.agree(ctx, e.ClusterID); err != nil {
				s.set(before) // the next run must ask again whether they agree
				_ = s.silent(err)
			}
		}
		now := s.Status()
		if holding && now.State == state.ArbiterAbsent {
			now.FreeIn = 0
		}
		if refusal = now.Refusal(); refusal != "" {
			return refusal
		}
		ok, err := s.write(ctx, s.env.Swap, e)
		switch {
		case ok && s.Lifetime() > 0:
			return ""
		case ok:
			refusal = "the arbiter took too long to answer"
		case err != nil:
			_ = s.silent(err)
			refusal = s.Status().Refusal()
		default:
			refusal = "another machine changed the arbiter's key at the same moment"
		}
	}
	return refusal
}

// extend renews the key in one request, where it is still as this machine wrote it. If
// that is not done, the key has to be read: another machine has changed it, or an answer
// was lost. Where the members were silent for long, they would be again.
func (s *Session) extend(ctx context.Context) (done bool, refusal string) {
	k := s.known()
	if k.End == 0 || s.stack == "" {
		return false, ""
	}
	began := s.env.Boot()
	ok, err := s.write(ctx, s.env.Renew, Entry{Revision: k.Revision, ClusterID: k.ClusterID})
	switch {
	case ok && s.Lifetime() > 0:
		return true, ""
	case err != nil && s.env.Boot()-began >= RequestTimeout:
		_ = s.silent(err)
		return true, s.Status().Refusal()
	}
	return false, ""
}

// Holds tells whether the key may be ours, as far as is known.
func (s *Session) Holds() bool {
	if s == nil {
		return false
	}
	k := s.known()
	return k.State == state.ArbiterOurs || k.End > 0
}

// Free frees the key, if it is ours: nothing is held here any more.
func (s *Session) Free(ctx context.Context) error {
	defer s.ask()()
	for range tries {
		e, err := s.read(ctx)
		if err != nil || s.known().State != state.ArbiterOurs {
			return err
		}
		ok, free, err := s.env.Swap(ctx, s.cluster, e.Revision, Value{TTL: s.ttl})
		if ok {
			now := s.env.Monotonic()
			s.set(state.Key{
				State: state.ArbiterFree, Revision: free.Revision, ClusterID: free.ClusterID, Stack: s.stack, Seen: now, Asked: now, TTL: s.known().TTL, Agreed: s.known().Agreed,
			})
			return nil
		}
		if err != nil {
			_ = s.silent(err)
			return err
		}
	}
	return errors.New("the key changes all the time")
}
