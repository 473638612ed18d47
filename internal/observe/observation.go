package observe

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
	"pingover/state"
	"pingover/vip"
)

// Observation is what the network showed, with the local state as it was then.
// The embedded state.Observation is what the decision needs of it.
type Observation struct {
	state.Observation
	Local
	Evidence  state.Evidence // rounds, witnesses, holders
	Neighbour string         // the primary's MAC, "" while it is not known
	// Certificates are the services whose TLS handshake failed, and why.
	Certificates []string
	NoReply      string    // release: why the silence of others would be no answer
	Asked        time.Time // the last question

	replies claims
}

// claims are what the decision rests on of what other machines say. They are
// read from the listeners again and again, for replies arrive at any time.
type claims struct {
	since  time.Time                // what was heard before does not count
	began  time.Time                // but for competing probers
	ignore map[netip.Addr]time.Time // a claim until then was one frame, and was not repeated
	asked  map[netip.Addr]bool      // the virtual IPs that others could be asked for
	pinged map[netip.Addr]bool      // those that replied to a ping
	// unfit are those that could not be assigned when they were to be asked for, and
	// why: nobody was asked, so they cannot be in this run, even if the cable is in by now.
	unfit map[netip.Addr]string
}

// of is since when claims of an address count.
func (c claims) of(a netip.Addr) time.Time {
	if until := c.ignore[a]; until.After(c.since) {
		return until
	}
	return c.since
}

// Start is the observation before anything was asked.
func Start(j *Job, rec state.Record, l Local) Observation {
	o := Observation{Local: l, Neighbour: rec.Neighbour, Observation: state.Observation{Host: j.Set.Host, NeverUp: rec.NeverUp()}}
	o.replies = claims{since: time.Now(), began: time.Now(), asked: map[netip.Addr]bool{}, pinged: map[netip.Addr]bool{}}
	if a := l.Shown(); a.IsValid() {
		o.Evidence.Address = a.String()
	}
	for _, s := range j.Set.Services {
		o.Services = append(o.Services, state.ServiceStatus{Name: s.Name()})
	}
	if uptime, err := j.Uptime(); err == nil {
		o.Uptime = uptime // else zero, which blocks a takeover
	}
	return o
}

// Anew is the observation where only what is heard from now on counts, but for
// pings that were answered.
func (o Observation) Anew() Observation {
	o.replies.since = time.Now()
	return o
}

// WithoutPings is the observation without the pings that were answered.
func (o Observation) WithoutPings() Observation {
	o = o.withClaims()
	clear(o.replies.pinged)
	return o
}

// withClaims is the observation with maps of its own.
func (o Observation) withClaims() Observation {
	o.replies.asked, o.replies.pinged = maps.Clone(o.replies.asked), maps.Clone(o.replies.pinged)
	return o
}

// Age is the time since the last question, also by the wall clock: the monotonic
// one stops while the machine sleeps.
func (o Observation) Age() time.Duration {
	return max(time.Since(o.Asked), time.Now().Round(0).Sub(o.Asked.Round(0)))
}

// judged is the observation with what the last round says of the primary, by the
// local state after it: a cable may have lost its carrier in the middle.
func (o Observation) judged() Observation {
	verdict, why := o.verdict()
	o.Primary, o.Faults = verdict, o.Faults.And(why...)
	return o
}

// Read is the observation with what has been heard until now.
func (n *Network) Read(o Observation) Observation {
	if o.Primary != check.Up && len(o.Faults) > 0 {
		// Something could not be asked, in the middle of a round or beside it.
		// That is no answer.
		o.Primary, o.Fault, o.FaultCause = check.Unknown, o.Faults.String(), o.Faults.cause()
	}
	o.HostIsVIP = o.Faults.onlyVIP()
	o.CannotAsk = n.j.Set.DuplicateCheck && (n.CannotListen(o.Local) != "" || o.Faults.has(FaultAsk))
	o.VIPs, o.AnswersARP, o.Evidence.Holders = nil, false, nil
	known := o.Neighbour
	for i, t := range o.Neighbours() {
		holder, ok := n.holder(o, t.Address)
		if !ok || !o.OnLink || o.IsVIP(t.Address) {
			continue
		}
		o.AnswersARP = true
		if i == 0 && o.Primary == check.Up { // it is learned only then, and by another cable it has another one
			o.Neighbour = holder.MAC
		}
		if i == 0 {
			known = cmp.Or(o.Neighbour, holder.MAC)
		}
		o.Evidence.Holders = append(o.Evidence.Holders, holder)
	}
	for _, a := range o.vips {
		status := state.VIPStatus{Address: a, Held: o.Holds(a), Asked: o.replies.asked[a], CannotAssign: cmp.Or(o.CannotTake(a), o.replies.unfit[a])}
		holder, ok := n.holder(o, a)
		if ok && !status.Held {
			status.InUse, status.MAC = true, holder.MAC
			status.AtPrimary = holder.MAC != "" && holder.MAC == known
			status.PrimaryAlone = status.AtPrimary && len(n.Holders(a, o.replies.of(a))) == 1 && len(o.Faults) == 0
		}
		if ok {
			o.Evidence.Holders = append(o.Evidence.Holders, holder)
		}
		o.VIPs = append(o.VIPs, status)
	}
	return o
}

// holder is another machine that has an address, if one was heard.
func (n *Network) holder(o Observation, a netip.Addr) (state.Holder, bool) {
	if claim, ok := n.Holder(a, o.replies.of(a)); ok {
		return state.Holder{Address: a.String(), MAC: claim.MAC.String()}, true
	}
	return state.Holder{Address: a.String()}, o.replies.pinged[a]
}

// Claim is the frame by which another machine has claimed an address.
func (n *Network) Claim(o Observation, a netip.Addr) (vip.Reply, bool) {
	return n.Holder(a, o.replies.since)
}

// Unclaimed are those that nobody has claimed.
func (n *Network) Unclaimed(o Observation, addrs []netip.Addr) (free []netip.Addr) {
	for _, a := range addrs {
		if _, ok := n.Holder(a, o.replies.of(a)); !ok {
			free = append(free, a)
		}
	}
	return free
}

// allInUse tells whether every virtual IP that is not here is in use elsewhere.
func (n *Network) allInUse(o Observation) bool {
	for _, a := range o.vips {
		if _, ok := n.holder(o, a); !ok && !o.Holds(a) {
			return false
		}
	}
	return true
}

// Unserved are the virtual IPs that nobody has while the primary replies, where
// others could be asked.
func (o Observation) Unserved() (addrs []netip.Addr) {
	for _, v := range o.VIPs {
		if o.Primary == check.Up && v.Asked && !v.InUse && !v.Held {
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}

// NotAsked are the virtual IPs of which it is unknown whether a machine has them.
func (o Observation) NotAsked() (addrs []netip.Addr) {
	for _, v := range o.VIPs {
		if !v.Asked && !v.InUse && !v.Held {
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}

// Unanswered are the virtual IPs for which no reply was heard.
func (o Observation) Unanswered() (addrs []netip.Addr) {
	for _, v := range o.VIPs {
		if !slices.ContainsFunc(o.Evidence.Holders, func(h state.Holder) bool { return h.Address == v.Address.String() }) {
			addrs = append(addrs, v.Address)
		}
	}
	return addrs
}
