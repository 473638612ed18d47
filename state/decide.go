package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"pingover/check"
)

// Known is what was known before the check: the part of the record, and of
// the pause file, that the decision rests on.
type Known struct {
	Role           Role
	HandingOver    bool // an open release is one that ends here again when nobody takes what is given up
	PausedUntil    time.Time
	ManualRelease  bool // and the primary was not up since
	ManualTakeover bool // and the primary was not down since
	NobodyTook     bool // when it was tried to hand over, and the primary was not down since
	// Checks in a row before this one in which the primary answered, nobody
	// answered for a virtual IP, and no witness answered while holding.
	Up, Unserved, Silent int
}

// Observation is what this check saw, all of it before anything was decided. The
// zero value of each field is the one that holds a takeover back.
type Observation struct {
	Host            string        // the primary, as an operator calls it
	Primary         check.Verdict // of the last round of pings
	Fault           string        // what could not be asked, when Primary is Unknown
	OnLink          bool          // the primary is a neighbour, and was asked by ARP or ND
	AnswersARP      bool          // the primary answered ARP or ND
	HostIsVIP       bool          // the host is a virtual IP that is here: it is not pinged, and the guards alone speak
	VIPs            []VIPStatus
	Conflict        Holder // another machine that still holds what is held here; "" nobody
	WaitedForPeer   bool   // the rival ought to have given way, and was waited for
	CannotListen    bool   // nobody could be asked whether he has taken what is held
	CompetingProber string // a lower MAC that probes for a virtual IP, and was not waited for
	Witness         WitnessState
	Uptime          time.Duration // of this machine
}

// VIPStatus is what was seen of one virtual IP.
type VIPStatus struct {
	Address   netip.Addr
	Held      bool   // it is on this machine, by the kernel
	Asked     bool   // others could be asked for it by ARP or ND
	InUse     bool   // another machine answered for it, by ping, ARP or ND
	MAC       string // of who answered, where known
	AtPrimary bool   // and that MAC is the primary's
}

// WitnessState says what the witnesses prove of this machine's own network.
type WitnessState uint8

// The states of the witnesses, all of them together.
const (
	WitnessSilent   WitnessState = iota // none answered at the start and at the end of the round
	WitnessNone                         // none is set, and no gateway was ever found to serve as one
	WitnessGood                         // one of them answered both times
	WitnessOff                          // switched off
	WitnessNotAsked                     // for a fault of this machine none could be asked: as bad as silence for a takeover, and no sign of being cut off
)

// Settings are the cluster's settings that the decision rests on.
type Settings struct {
	Rise     int           // checks in a row
	BootWait time.Duration // no takeover before the machine has been up this long
	Failback bool          // hand over when the primary is back
	Isolated bool          // give up when no witness answers any more
}

// Decision is what Decide answers. Its zero value does nothing.
type Decision struct {
	Rule     int          // number of the rule that fitted; see the table in README.md
	Outcome  Outcome      // if everything that it asks for succeeds
	Reason   string       // in words; it does not change while nothing changes
	Raise    []netip.Addr // virtual IPs to raise here
	Release  bool         // lower all that are here
	HandOver bool         // and raise again what nobody takes
	Announce bool         // tell the clients that what is held is here
}

// Decide is the whole of pingover's judgement: what to do about what was
// seen, and why. It is a pure function; the first rule that fits speaks. The
// numbers are those of the table in README.md.
func Decide(known Known, seen Observation, set Settings, now time.Time) Decision {
	held := seen.held()
	paused := now.Before(known.PausedUntil)
	rival := seen.Conflict != Holder{}

	// While something is held here, or offered.
	switch {
	case known.Role == Releasing && known.HandingOver && len(held) == 0 && paused:
		return blocked(1, "paused, while a release that was interrupted has to be finished")

	case known.Role == Releasing && known.HandingOver && len(held) == 0 && !seen.connected():
		return blocked(1, "a release that was interrupted has to be finished, but whether somebody has taken over cannot be asked: %s", cmp.Or(seen.Fault, "no witness "+seen.witnessLack("answers")))

	case known.Role == Releasing && (len(held) > 0 || known.HandingOver):
		return Decision{
			Rule: 1, Outcome: Released, Release: true, HandOver: known.HandingOver,
			Reason: "a release that was interrupted is finished",
		}

	case len(held) == 0:

	case paused && rival:
		return Decision{
			Rule: 2, Outcome: Blocked,
			Reason: fmt.Sprintf("paused, holding %s although %s has it too", seen.Conflict.Address, seen.Conflict.MAC),
		}

	case paused:
		return Decision{
			Rule: 2, Outcome: Holding, Announce: true,
			Reason: fmt.Sprintf("paused, holding %s", list(held)),
		}

	case rival:
		return Decision{
			Rule: 3, Outcome: Released, Release: true, HandOver: seen.WaitedForPeer,
			Reason: fmt.Sprintf("%s is also at %s, another machine, and is given up here", seen.Conflict.Address, seen.Conflict.MAC),
		}

	case set.Isolated && seen.Witness == WitnessSilent && known.Silent > 0 && seen.Primary != check.Up:
		return Decision{
			Rule: 4, Outcome: Released, Release: true,
			Reason: fmt.Sprintf("no witness has answered in two checks in a row, nor does %s: this machine is cut off, and gives up %s", seen.Host, list(held)),
		}

	case set.Failback && !seen.CannotListen && !known.ManualTakeover && !known.NobodyTook && seen.Primary == check.Up && known.Up+1 >= set.Rise:
		return Decision{
			Rule: 5, Outcome: Released, Release: true, HandOver: true,
			Reason: fmt.Sprintf("%s has answered in %d checks in a row: %s is handed over", seen.Host, known.Up+1, list(held)),
		}

	default:
		return hold(known, seen)
	}

	// While this machine stands by.
	answered := seen.answered()
	switch {
	case seen.Primary == check.Up:
		if u := seen.unserved(); len(u) > 0 && known.Unserved+1 >= set.Rise {
			return Decision{
				Rule: 7, Outcome: Unserved,
				Reason: fmt.Sprintf("%s answers, but nobody answers for %s", seen.Host, list(u)),
			}
		}
		return Decision{Rule: 7, Outcome: OK, Reason: fmt.Sprintf("%s answers", seen.Host)}

	case seen.Primary != check.Down:
		return Decision{Rule: 8, Outcome: Unknown, Reason: seen.Fault}

	case len(seen.VIPs) == 0 && (seen.Witness == WitnessSilent || seen.Witness == WitnessNotAsked):
		return Decision{
			Rule: 9, Outcome: Unknown,
			Reason: fmt.Sprintf("%s does not answer, but no witness %s: it may be this machine's network", seen.Host, seen.witnessLack("does either")),
		}

	case len(seen.VIPs) == 0:
		return Decision{
			Rule: 9, Outcome: Down,
			Reason: fmt.Sprintf("%s does not answer, and there is no virtual IP to raise", seen.Host),
		}

	case paused:
		return blocked(10, "%s does not answer, but this cluster is paused", seen.Host)

	case seen.Uptime < set.BootWait:
		return blocked(10, "%s does not answer, but this machine has been up for less than %s (boot-wait)", seen.Host, words(set.BootWait))

	case known.ManualRelease:
		return blocked(10, "%s does not answer, but the virtual IPs were released by hand and it has not been up since", seen.Host)

	case seen.Witness == WitnessNone:
		return blocked(11, "%s does not answer, but there is no witness (no default gateway, or it is the primary itself): it may be this machine's network", seen.Host)

	case !seen.witnessed():
		return blocked(11, "%s does not answer, but no witness %s: it may be this machine's network", seen.Host, seen.witnessLack("does either"))

	case seen.OnLink && !seen.AnswersARP && seen.elsewhere():
		return Decision{
			Rule: 12, Outcome: Elsewhere,
			Reason: fmt.Sprintf("%s does not answer, and another standby serves %s", seen.Host, list(answered)),
		}

	case seen.AnswersARP:
		return blocked(13, "%s does not answer pings, but it answers %s: it is alive", seen.Host, protocol(seen.Host))

	case len(answered) > 0:
		return blocked(13, "%s does not answer, but somebody answers for %s", seen.Host, list(answered))

	case seen.CompetingProber != "":
		return blocked(13, "%s does not answer, but %s is about to take the virtual IPs over", seen.Host, seen.CompetingProber)
	}
	return Decision{
		Rule: 14, Outcome: TookOver, Raise: seen.addresses(), Announce: true,
		Reason: fmt.Sprintf("%s does not answer, nor does anybody for %s", seen.Host, list(seen.addresses())),
	}
}

// DecideTakeOver is the judgement of a takeover by hand. Nobody has pinged the
// primary: it may be alive. What must agree is this machine's own network and
// that nobody answers for what is to be raised; force leaves only a fault of
// the ground, why, to speak against it. Open says that a release of what is here
// was interrupted. The numbers of rules are for checks: it has none.
func DecideTakeOver(seen Observation, why string, open, force bool) Decision {
	held, missing := seen.held(), seen.missing()
	refuse := func(format string, args ...any) Decision {
		return Decision{Outcome: Blocked, Reason: fmt.Sprintf(format, args...)}
	}
	answered := seen.answered()
	switch {
	case len(missing) == 0 && open:
		return Decision{Outcome: TookOver, Announce: true, Reason: fmt.Sprintf("%s is kept by hand: a release that was interrupted is undone", list(held))}
	case len(missing) == 0:
		return Decision{Outcome: Holding, Announce: true, Reason: fmt.Sprintf("%s is here already", list(held))}
	case why != "":
		return refuse("not taken over: %s", why)
	case force:
		return Decision{Outcome: TookOver, Raise: missing, Announce: true, Reason: fmt.Sprintf("%s is taken over by hand, by force", list(missing))}
	case seen.Witness == WitnessNone:
		return refuse("not taken over: there is no witness (no default gateway, or it is the primary itself): it may be this machine's network")
	case !seen.witnessed():
		return refuse("not taken over: no witness %s: it may be this machine's network", seen.witnessLack("answers"))
	case len(answered) > 0:
		return refuse("not taken over: somebody answers for %s", list(answered))
	case seen.CompetingProber != "":
		return refuse("not taken over: %s is about to take %s over", seen.CompetingProber, list(missing))
	}
	return Decision{Outcome: TookOver, Raise: missing, Announce: true, Reason: fmt.Sprintf("%s is taken over by hand", list(missing))}
}

// DecideRelease is the judgement of a release by hand; force gives up without
// asking who takes it, deaf is why nobody can be asked, open that a hand-over
// was interrupted, whose end would be that it is raised here again.
func DecideRelease(seen Observation, deaf string, open, force bool) Decision {
	held := seen.held()
	if len(held) == 0 && open {
		held = seen.addresses()
	}
	switch {
	case len(held) == 0:
		return Decision{Outcome: OK, Reason: "nothing is held here"}
	case force:
		return Decision{Outcome: Released, Release: true, Reason: fmt.Sprintf("%s is released by hand, by force", list(held))}
	case deaf != "":
		return Decision{Outcome: Blocked, Reason: fmt.Sprintf("not released: whether somebody takes %s over cannot be asked: %s", list(held), deaf)}
	}
	return Decision{Outcome: Released, Release: true, HandOver: true, Reason: fmt.Sprintf("%s is released by hand", list(held))}
}

// hold is rule 6: something is here, and nothing speaks against that.
func hold(known Known, seen Observation) Decision {
	held, missing := list(seen.held()), seen.missing()
	d := Decision{Rule: 6, Outcome: Holding, Announce: true}
	ours := known.Role == Active || known.Role == Taking

	switch seen.Primary {
	case check.Up:
		d.Reason = fmt.Sprintf("holding %s; %s answers again", held, seen.Host)
		if !ours {
			d.Reason = fmt.Sprintf("holding %s, which pingover did not raise; %s answers", held, seen.Host)
		}
	case check.Down:
		d.Reason = fmt.Sprintf("holding %s; %s does not answer", held, seen.Host)
	default:
		d.Reason = fmt.Sprintf("holding %s; %s could not be asked: %s", held, seen.Host, seen.Fault)
	}

	if len(missing) == 0 {
		if known.Role == Taking {
			d.Outcome = TookOver
			d.Reason += "; a takeover that was interrupted is finished"
		}
		return d
	}

	// Something is missing. What is here stays; the rest is raised only on
	// the grounds on which all of it would be taken over.
	switch {
	case !ours || seen.Primary != check.Down && !seen.HostIsVIP:
	case !seen.witnessed():
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s is missing, and no witness %s", list(missing), seen.witnessLack("answers"))
	case seen.AnswersARP || seen.CompetingProber != "" || len(seen.answered()) > 0:
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s is missing, and somebody else answers", list(missing))
	default:
		d.Raise = missing
		d.Reason += fmt.Sprintf("; raising %s as well", list(missing))
		if known.Role == Taking {
			d.Outcome = TookOver
		}
	}
	return d
}

// witnessed says whether nothing speaks against this machine's own network.
func (s Observation) witnessed() bool { return s.Witness == WitnessGood || s.Witness == WitnessOff }

// connected says whether somebody can be asked from here, or has answered already.
// Who never had a witness is not worse off than before.
func (s Observation) connected() bool {
	taken := s.AnswersARP || len(s.answered()) == len(s.VIPs)
	return s.Primary == check.Up || s.Fault == "" && (taken || s.witnessed() || s.Witness == WitnessNone)
}

// witnessLack is what no witness does: answer, in these words, or more than that.
func (s Observation) witnessLack(answers string) string {
	if s.Witness == WitnessNotAsked {
		return "could be asked"
	}
	return answers
}

func blocked(rule int, format string, args ...any) Decision {
	return Decision{Rule: rule, Outcome: Blocked, Reason: fmt.Sprintf(format, args...)}
}

func (s Observation) pick(which func(VIPStatus) bool) []netip.Addr {
	var a []netip.Addr
	for _, v := range s.VIPs {
		if which(v) {
			a = append(a, v.Address)
		}
	}
	return a
}

func (s Observation) addresses() []netip.Addr { return s.pick(func(VIPStatus) bool { return true }) }
func (s Observation) held() []netip.Addr      { return s.pick(func(v VIPStatus) bool { return v.Held }) }
func (s Observation) missing() []netip.Addr   { return s.pick(func(v VIPStatus) bool { return !v.Held }) }
func (s Observation) answered() []netip.Addr {
	return s.pick(func(v VIPStatus) bool { return v.InUse })
}

// unserved are the virtual IPs for which others were asked and nobody spoke.
func (s Observation) unserved() []netip.Addr {
	return s.pick(func(v VIPStatus) bool { return v.Asked && !v.InUse && !v.Held })
}

// elsewhere says whether a machine that is not the primary answers for every
// virtual IP.
func (s Observation) elsewhere() bool {
	return len(s.pick(func(v VIPStatus) bool { return v.InUse && !v.AtPrimary })) == len(s.VIPs)
}

func list(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// words is d as people write it: 3m, not 3m0s.
func words(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// protocol is how neighbours of host ask for it.
func protocol(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "neighbour solicitations"
	}
	return "ARP"
}
