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
	ReleasedByHand bool // and the primary was not up since
	TakenByHand    bool // and the primary was not down since
	NobodyTook     bool // when it was tried to hand over, and the primary was not down since
	// Checks in a row before this one in which the primary answered, nobody
	// answered for a virtual IP, and no witness answered while holding.
	Up, Unserved, Silent int
}

// Seen is what this check saw, all of it before anything was decided. The
// zero value of each field is the one that holds a takeover back.
type Seen struct {
	Host      string        // the primary, as an operator calls it
	Primary   check.Verdict // of the last round of pings
	Why       string        // what could not be asked, when Primary is Unknown
	OnLink    bool          // the primary is a neighbour, and was asked by ARP or ND
	Answers   bool          // the primary answered ARP or ND
	Self      bool          // the host is a virtual IP that is here: it is not pinged, and the guards alone speak
	VIPs      []Sight
	Rival     Holder // another machine that still holds what is held here; "" nobody
	Outwaited bool   // the rival ought to have given way, and was waited for
	Deaf      bool   // nobody could be asked whether he has taken what is held
	Contender string // a lower MAC that probes for a virtual IP, and was not waited for
	Witness   WitnessState
	Uptime    time.Duration // of this machine
}

// Sight is what was seen of one virtual IP.
type Sight struct {
	Address   netip.Addr
	Held      bool   // it is on this machine, by the kernel
	Asked     bool   // others could be asked for it by ARP or ND
	Answered  bool   // another machine answered for it, by ping, ARP or ND
	MAC       string // of who answered, where known
	ByPrimary bool   // and that MAC is the primary's
}

// WitnessState says what the witnesses prove of this machine's own network.
type WitnessState uint8

// The states of the witnesses, all of them together.
const (
	WitnessSilent  WitnessState = iota // none answered at the start and at the end of the round
	WitnessNever                       // none is set, and no gateway was ever found to serve as one
	WitnessGood                        // one of them answered both times
	WitnessOff                         // switched off
	WitnessUnasked                     // for a fault of this machine none could be asked: as bad as silence for a takeover, and no sign of being cut off
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
func Decide(known Known, seen Seen, set Settings, now time.Time) Decision {
	held := seen.held()
	paused := now.Before(known.PausedUntil)
	rival := seen.Rival != Holder{}

	// While something is held here, or offered.
	switch {
	case known.Role == Releasing && known.HandingOver && len(held) == 0 && paused:
		return blocked(1, "paused, while a release that was interrupted has to be finished")

	case known.Role == Releasing && known.HandingOver && len(held) == 0 && !seen.connected():
		return blocked(1, "a release that was interrupted has to be finished, but whether somebody has taken over cannot be asked: %s", cmp.Or(seen.Why, "no witness "+seen.witnessLack("answers")))

	case known.Role == Releasing && (len(held) > 0 || known.HandingOver):
		return Decision{
			Rule: 1, Outcome: Released, Release: true, HandOver: known.HandingOver,
			Reason: "a release that was interrupted is finished",
		}

	case len(held) == 0:

	case paused && rival:
		return Decision{
			Rule: 2, Outcome: Blocked,
			Reason: fmt.Sprintf("paused, holding %s although %s has it too", seen.Rival.Address, seen.Rival.MAC),
		}

	case paused:
		return Decision{
			Rule: 2, Outcome: Holding, Announce: true,
			Reason: fmt.Sprintf("paused, holding %s", list(held)),
		}

	case rival:
		return Decision{
			Rule: 3, Outcome: Released, Release: true, HandOver: seen.Outwaited,
			Reason: fmt.Sprintf("%s is also at %s, another machine, and is given up here", seen.Rival.Address, seen.Rival.MAC),
		}

	case set.Isolated && seen.Witness == WitnessSilent && known.Silent > 0 && seen.Primary != check.Up:
		return Decision{
			Rule: 4, Outcome: Released, Release: true,
			Reason: fmt.Sprintf("no witness has answered in two checks in a row, nor does %s: this machine is cut off, and gives up %s", seen.Host, list(held)),
		}

	case set.Failback && !seen.Deaf && !known.TakenByHand && !known.NobodyTook && seen.Primary == check.Up && known.Up+1 >= set.Rise:
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
		return Decision{Rule: 8, Outcome: Unknown, Reason: seen.Why}

	case len(seen.VIPs) == 0 && (seen.Witness == WitnessSilent || seen.Witness == WitnessUnasked):
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

	case known.ReleasedByHand:
		return blocked(10, "%s does not answer, but the virtual IPs were released by hand and it has not been up since", seen.Host)

	case seen.Witness == WitnessNever:
		return blocked(11, "%s does not answer, but there is no witness (no default gateway, or it is the primary itself): it may be this machine's network", seen.Host)

	case !seen.witnessed():
		return blocked(11, "%s does not answer, but no witness %s: it may be this machine's network", seen.Host, seen.witnessLack("does either"))

	case seen.OnLink && !seen.Answers && seen.elsewhere():
		return Decision{
			Rule: 12, Outcome: Elsewhere,
			Reason: fmt.Sprintf("%s does not answer, and another standby serves %s", seen.Host, list(answered)),
		}

	case seen.Answers:
		return blocked(13, "%s does not answer pings, but it answers %s: it is alive", seen.Host, protocol(seen.Host))

	case len(answered) > 0:
		return blocked(13, "%s does not answer, but somebody answers for %s", seen.Host, list(answered))

	case seen.Contender != "":
		return blocked(13, "%s does not answer, but %s is about to take the virtual IPs over", seen.Host, seen.Contender)
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
func DecideTakeOver(seen Seen, why string, open, force bool) Decision {
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
	case seen.Witness == WitnessNever:
		return refuse("not taken over: there is no witness (no default gateway, or it is the primary itself): it may be this machine's network")
	case !seen.witnessed():
		return refuse("not taken over: no witness %s: it may be this machine's network", seen.witnessLack("answers"))
	case len(answered) > 0:
		return refuse("not taken over: somebody answers for %s", list(answered))
	case seen.Contender != "":
		return refuse("not taken over: %s is about to take %s over", seen.Contender, list(missing))
	}
	return Decision{Outcome: TookOver, Raise: missing, Announce: true, Reason: fmt.Sprintf("%s is taken over by hand", list(missing))}
}

// DecideRelease is the judgement of a release by hand; force gives up without
// asking who takes it, deaf is why nobody can be asked, open that a hand-over
// was interrupted, whose end would be that it is raised here again.
func DecideRelease(seen Seen, deaf string, open, force bool) Decision {
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
func hold(known Known, seen Seen) Decision {
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
		d.Reason = fmt.Sprintf("holding %s; %s could not be asked: %s", held, seen.Host, seen.Why)
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
	case !ours || seen.Primary != check.Down && !seen.Self:
	case !seen.witnessed():
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s is missing, and no witness %s", list(missing), seen.witnessLack("answers"))
	case seen.Answers || seen.Contender != "" || len(seen.answered()) > 0:
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
func (s Seen) witnessed() bool { return s.Witness == WitnessGood || s.Witness == WitnessOff }

// connected says whether somebody can be asked from here, or has answered already.
// Who never had a witness is not worse off than before.
func (s Seen) connected() bool {
	taken := s.Answers || len(s.answered()) == len(s.VIPs)
	return s.Primary == check.Up || s.Why == "" && (taken || s.witnessed() || s.Witness == WitnessNever)
}

// witnessLack is what no witness does: answer, in these words, or more than that.
func (s Seen) witnessLack(answers string) string {
	if s.Witness == WitnessUnasked {
		return "could be asked"
	}
	return answers
}

func blocked(rule int, format string, args ...any) Decision {
	return Decision{Rule: rule, Outcome: Blocked, Reason: fmt.Sprintf(format, args...)}
}

func (s Seen) pick(which func(Sight) bool) []netip.Addr {
	var a []netip.Addr
	for _, v := range s.VIPs {
		if which(v) {
			a = append(a, v.Address)
		}
	}
	return a
}

func (s Seen) addresses() []netip.Addr { return s.pick(func(Sight) bool { return true }) }
func (s Seen) held() []netip.Addr      { return s.pick(func(v Sight) bool { return v.Held }) }
func (s Seen) missing() []netip.Addr   { return s.pick(func(v Sight) bool { return !v.Held }) }
func (s Seen) answered() []netip.Addr  { return s.pick(func(v Sight) bool { return v.Answered }) }

// unserved are the virtual IPs for which others were asked and nobody spoke.
func (s Seen) unserved() []netip.Addr {
	return s.pick(func(v Sight) bool { return v.Asked && !v.Answered && !v.Held })
}

// elsewhere says whether a machine that is not the primary answers for every
// virtual IP.
func (s Seen) elsewhere() bool {
	return len(s.pick(func(v Sight) bool { return v.Answered && !v.ByPrimary })) == len(s.VIPs)
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
