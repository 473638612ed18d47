package config

import "time"

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
	// SwitchPatience is how long another cluster on this machine may take to
	// switch before this one stops waiting for it.
	SwitchPatience = 15 * time.Second
	// Rechecks is how often a run that found its observations too old at its turn
	// to switch observes again, for RecheckLength.
	Rechecks      = 3
	RecheckLength = time.Second
	// DiskPatience is how long the disk may take to write the intent, or to answer
	// anything else, before a run goes on as with a full one.
	DiskPatience = 10 * time.Second
)

const (
	// lastQuestions is the most that the guards take beyond the round beside
	// them: the last question, and asking a conflicting host once more.
	lastQuestions = time.Second
	// toolPatience is for assigning or removing one address: a few calls of the
	// tool, and the kernel's duplicate address detection.
	toolPatience = 20 * time.Second
	// resolvePatience and diskPatience are for the lookup of the primary, and for
	// all reading and writing of a run, of which one may take DiskPatience.
	resolvePatience = 5 * time.Second
	diskPatience    = 3 * DiskPatience
	// killPatience is how long a killed child may take to end.
	killPatience = 2 * time.Second
)

// Round is how long a round of pings takes that gets no reply.
func (c Cluster) Round() time.Duration {
	return time.Duration(c.Count-1)*c.Interval + c.Timeout
}

// LongestProbe is the longest that a check observes before it decides: two
// silent rounds and a competing prober, or a conflict while holding.
func (c Cluster) LongestProbe() time.Duration {
	return max(2*c.Round()+c.RetryWait+YieldPatience+lastQuestions, c.Round()+PeerPatience+2*lastQuestions)
}

// LongestCheck is the longest that a check takes while nothing hangs: rounds,
// waits, guards and announcements, and hooks as long as they may take. Mail is
// not in it.
func (c Cluster) LongestCheck() time.Duration {
	d := c.LongestProbe() + time.Duration(c.Announce)*AnnounceEvery
	if c.Failback {
		d += HandOverPatience
	}
	return d + max(c.hooks(c.Hooks.PreTakeover, c.Hooks.PostTakeover), c.hooks(c.Hooks.PreRelease, c.Hooks.PostRelease))
}

// Deadline is the time after which a check is abandoned whatever hangs: name
// server, tool, hook, mail server or disk. Each of these has a deadline of its
// own; this is their sum.
func (c Cluster) Deadline() time.Duration {
	d := c.LongestCheck() + resolvePatience + diskPatience
	if n := len(c.VIPs); n > 0 {
		// Assign and remove, each after the other clusters of this machine; a
		// conflict while announcing, and its announcements.
		d += 4*SwitchPatience + Rechecks*(SwitchPatience+RecheckLength) + 2*time.Duration(n)*toolPatience +
			PeerPatience + 2*PeerReleased + time.Duration(c.Announce)*AnnounceEvery + HandOverPatience
		// A hand-over that fails has hooks of both kinds.
		d += c.hooks(c.Hooks.PreTakeover, c.Hooks.PostTakeover, c.Hooks.PreRelease, c.Hooks.PostRelease)
	}
	if len(c.Mail.To) > 0 {
		d += c.Mail.Timeout + killPatience
	}
	d += c.hooks(c.Mail.Notify)
	return d.Round(time.Second)
}

func (c Cluster) hooks(each ...[]string) (d time.Duration) {
	for _, argv := range each {
		if argv != nil {
			d += c.Hooks.Timeout + killPatience
		}
	}
	return d
}
