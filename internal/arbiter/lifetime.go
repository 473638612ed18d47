package arbiter

import (
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
)

// Limit is how long an address may stay after the key was renewed: the kernel has
// removed it when another machine may take the key, a ttl after the renewal.
func Limit(ttl time.Duration) time.Duration { return ttl - marginFixed - ttl/marginShare }

// Lifetime is the lifetime of an address that is set now, in whole seconds; 0 where too
// little is left, or this machine does not hold the key.
func (s *Session) Lifetime() time.Duration {
	k := s.known()
	if left := (k.End - s.env.Boot()).Truncate(time.Second); k.End > 0 && left >= least {
		return left
	}
	return 0
}

// Allow is what an address that is here may have, which the kernel shows with so much
// left, 0 for no end: keep says that it stays as it is; else that lifetime is set, or
// for 0 it is removed. Without an answer it lives on to its end, and gets one where it
// has none.
func (s *Session) Allow(shown time.Duration) (lifetime time.Duration, keep bool) {
	k, limit := s.known(), Limit(s.ttl).Truncate(time.Second)
	switch {
	case k.State == state.ArbiterOther:
		return 0, false
	case k.State == state.ArbiterOurs:
		return s.Lifetime(), false
	case shown > 0 && shown <= limit:
		return shown, true
	case k.End > 0:
		return s.Lifetime(), false
	}
	return limit, false
}

// Outlives tells whether a lifetime that was set until now ends after the hold: this
// process, or the tool, was stopped for too long.
func (s *Session) Outlives(lifetime time.Duration) bool {
	k := s.known()
	return k.End > 0 && s.env.Boot()+lifetime > k.End+setWithin
}

// Lost tells whether another machine holds the key.
func (s *Session) Lost() bool { return s != nil && s.Status().State == state.ArbiterOther }

// Owns tells whether this machine holds the key, and its time is not over: in a
// conflict it is then the other machine that has to yield.
func (s *Session) Owns() bool {
	if s == nil {
		return false
	}
	k := s.known()
	return k.State == state.ArbiterOurs && s.env.Boot() < k.End
}
