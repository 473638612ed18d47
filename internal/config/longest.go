package config

import (
	"time"

	"pingover/internal/arbiter"
)

// The waits that make up the longest check. Each has its one place here, because
// the lease, the deadline of a run and what an operator is told rest on them.
const (
	// YieldPatience is how long a competing prober that has precedence is waited
	// for.
	YieldPatience = 3 * time.Second
	// PeerPatience is how long the machine with the lower MAC stays silent in a
	// conflict before it takes the other for a static holder.
	PeerPatience = 10 * time.Second
	// PeerReleased is how long is listened for a peer after yielding to it: it may
	// have yielded in the same moment.
	PeerReleased = 2 * time.Second
	// HandOverPatience is how long another machine may take to assign what was
	// released here.
	HandOverPatience = 10 * time.Second
	// AnnounceEvery is the time between two announcements of an address. Linux
	// before about 4.11 ignores a second update within one second.
	AnnounceEvery = 1100 * time.Millisecond
	// RepeatPatience is how long after a single claim of an address a new holder must
	// have announced it again, with time for a late frame.
	RepeatPatience = AnnounceEvery + 200*time.Millisecond
	// announceSpread is the time between two later announcements on a link, as
	// package vip spreads them.
	announceSpread = 100 * time.Millisecond
	// SwitchPatience is how long another cluster on this machine may take to
	// switch before this one stops waiting for it.
	SwitchPatience = 15 * time.Second
	// Rechecks is how often a run that found its observations too old at its turn
	// to switch observes again, for RecheckLength; and how often each observation
	// listens for RepeatPatience where claims were single frames, or frames were lost.
	Rechecks      = 3
	RecheckLength = time.Second
	// MaxStalls is how often a round is repeated that proves nothing, because this
	// machine stalled.
	MaxStalls = 3
	// DiskPatience is how long the disk may take to write the intent, or to answer
	// anything else, before a run goes on as with a full one.
	DiskPatience = 10 * time.Second
)

const (
	// confirmLength is the most that an observation takes to listen once more.
	confirmLength = Rechecks * RepeatPatience
	// lastQuestions is the most that asking a conflicting host once more takes.
	lastQuestions = time.Second
	// toolPatience is for assigning or removing one address: a few calls of the
	// tool, and the kernel's duplicate address detection.
	toolPatience = 20 * time.Second
	// resolvePatience and diskPatience are for the lookup of the primary, and for
	// all reading and writing of a run, of which one may take DiskPatience.
	resolvePatience = 5 * time.Second
	diskPatience    = 3 * DiskPatience
	// dnsPatience is for the name server: one exchange of a few questions, and an
	// update with its reading back, as often as other writers are faster.
	dnsPatience = 5*time.Second + 3*(5+5+6)*time.Second
	// killPatience is how long a killed child may take to end.
	killPatience = 2 * time.Second
)

// Round is how long a round of pings takes that gets no reply.
func (c Cluster) Round() time.Duration {
	return time.Duration(c.Count-1)*c.Interval + c.Timeout
}

// LongestProbe is the longest that a check observes before it decides: two
// silent rounds, claims that are listened for once more, and a competing prober, or
// the services when the second has a reply; or a conflict while holding. Rounds in
// which this machine stalled, and which are repeated, are in Deadline.
func (c Cluster) LongestProbe() time.Duration {
	return max(2*c.Round()+c.RetryWait+confirmLength+max(YieldPatience, c.services()), c.Round()+max(PeerPatience, c.services())+2*lastQuestions)
}

// Lifetime is the lifetime of an alias that is assigned or renewed; 0: no end.
func (c Cluster) Lifetime() time.Duration {
	if c.Arbiter.Set() {
		return arbiter.Limit(c.Arbiter.TTL).Truncate(time.Second)
	}
	return c.Lease
}

// LongestCheck is the longest that a check takes while nothing hangs or stalls: rounds,
// waits, guards and announcements, and hooks as long as they may take. Mail is
// not in it.
func (c Cluster) LongestCheck() time.Duration {
	d := c.LongestProbe() + c.announcing()
	if c.Failback {
		d += HandOverPatience + confirmLength
	}
	if c.Hooks.PreTakeover != nil {
		d += RecheckLength + confirmLength
	}
	return d + max(c.hooks(c.Hooks.PreTakeover, c.Hooks.PostTakeover), c.hooks(c.Hooks.PreRelease, c.Hooks.PostRelease))
}

// Deadline is the time after which a check is abandoned whatever hangs: name
// server, tool, hook, mail server, disk, or this machine in each of its rounds. Each
// of these has a deadline of its own; this is their sum.
func (c Cluster) Deadline() time.Duration {
	d := c.LongestCheck() + 2*MaxStalls*c.Round() + resolvePatience + diskPatience
	if n := len(c.VIPs); n > 0 {
		// Assign and remove, each after the other clusters of this machine, and
		// observed again where assigning the address before took long; a
		// conflict while announcing, and its announcements.
		d += 4*SwitchPatience + time.Duration(Rechecks+n-1)*(SwitchPatience+RecheckLength+confirmLength) + 2*time.Duration(n)*toolPatience +
			PeerPatience + 2*PeerReleased + c.announcing() + HandOverPatience + confirmLength
		// A hand-over that fails has hooks of both kinds.
		d += c.hooks(c.Hooks.PreTakeover, c.Hooks.PostTakeover, c.Hooks.PreRelease, c.Hooks.PostRelease)
	}
	if len(c.Mail.To) > 0 {
		d += c.Mail.Timeout + killPatience
	}
	d += c.hooks(c.Mail.Notify)
	return d.Round(time.Second)
}

// Round is how long a round of pings takes that gets no reply.
func (p Pool) Round() time.Duration {
	return time.Duration(p.Count-1)*p.Interval + p.Timeout
}

// LongestCheck is the longest that a check takes while nothing hangs: two rounds,
// and an update. Mail is not in it.
func (p Pool) LongestCheck() time.Duration {
	round := p.Round()
	if longest := (Cluster{Services: p.Services, Timeout: p.Timeout, Hooks: Hooks{Timeout: p.CommandTimeout}}).services(); longest > 0 {
		round = time.Duration(p.Count)*longest + time.Duration(p.Count-1)*p.Interval
	}
	return 2*round + p.RetryWait + lastQuestions + dnsPatience
}

// Deadline is the time after which a check is abandoned whatever hangs.
func (p Pool) Deadline() time.Duration {
	d := p.LongestCheck() + diskPatience
	if p.Mail.Notify != nil {
		d += p.CommandTimeout + killPatience
	}
	if len(p.Mail.To) > 0 {
		d += p.Mail.Timeout + killPatience
	}
	return d.Round(time.Second)
}

// announcing is how long the announcements of all addresses take.
func (c Cluster) announcing() time.Duration {
	return time.Duration(c.Announce) * (AnnounceEvery + time.Duration(max(0, len(c.VIPs)-1))*announceSpread)
}

func (c Cluster) hooks(each ...[]string) (d time.Duration) {
	for _, argv := range each {
		if argv != nil {
			d += c.Hooks.Timeout + killPatience
		}
	}
	return d
}
