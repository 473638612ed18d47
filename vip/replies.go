package vip

import (
	"net/netip"
	"slices"
	"time"
)

// maxReplies limits the replies of each kind: more addresses and machines than
// any link has, and little enough for a flood.
const maxReplies = 512

// apart is the least time between two claims: the frames of one announcement, or
// of one reply, are closer together.
const apart = 500 * time.Millisecond

// replies keeps the newest frame of each kind, address and MAC. Kinds do not
// displace each other: a flood of probes evicts no reply.
type replies struct {
	kept    [replyKinds]map[replyKey]Reply
	evicted uint64 // oldest ones of a kind that was full
}

type kind uint8

const (
	claim      kind = iota // an announcement, a request, or a reply that is not to us
	direct                 // a reply to an ordinary request of ours
	probeReply             // an ARP reply to a probe
	probe
	replyKinds
)

type replyKey struct {
	address netip.Addr
	mac     string
}

func kindOf(r Reply) kind {
	switch {
	case r.Probe:
		return probe
	case r.answersProbe():
		return probeReply
	case r.Direct:
		return direct
	default:
		return claim
	}
}

func (s *replies) keep(r Reply) {
	kept := s.kept[kindOf(r)]
	if kept == nil {
		kept = map[replyKey]Reply{}
		s.kept[kindOf(r)] = kept
	}
	key := replyKey{r.Address, string(r.MAC)}
	before, known := kept[key]
	if r.Earlier = before.Earlier; known && r.At.Sub(before.At) >= apart {
		r.Earlier = before.At
	}
	if !known && len(kept) >= maxReplies {
		var oldest replyKey
		for k, other := range kept {
			if at := kept[oldest].At; at.IsZero() || other.At.Before(at) {
				oldest = k
			}
		}
		delete(kept, oldest)
		s.evicted++
	}
	kept[key] = r
}

// since returns the replies from then on, oldest first.
func (s *replies) since(then time.Time) []Reply {
	var all []Reply
	for _, kept := range s.kept {
		for _, r := range kept {
			if !r.At.Before(then) {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b Reply) int { return a.At.Compare(b.At) })
	return all
}
