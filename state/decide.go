package state

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pingover/check"
)

// Rules of Decide that other steps refer to; the numbers are those of the table
// in docs/decisions.md.
const (
	RuleUnfinished = 1 // an open intent to release
	RulePaused     = 2 // keeps what is held
	RuleConflict   = 3 // another machine has what is held
	RuleIsolated   = 4 // no witness replies
	RuleFailback   = 5 // hands over
	RuleHold       = 6 // holds, and assigns what is missing

	RuleService = 15 // fences for a service, and takes over
	RuleArbiter = 16 // another machine holds the arbiter's key
	RuleKey     = 17 // the arbiter does not let this machine take over
)

// Known is what was known before the check: the part of the record, and of
// the pause file, that the decision rests on.
type Known struct {
	Role           Role
	HandingOver    bool // an open release assigns again what nobody takes
	PausedUntil    time.Time
	ManualRelease  bool         // and the primary was not up since
	ManualTakeover bool         // and the primary was not down since
	NobodyTook     bool         // when it was tried to hand over, and the primary was not down since
	Releasing      []netip.Addr // what an open release is about; empty: all
	// Checks in a row before this one in which the primary replied and its services
	// were good, no machine had a virtual IP, and no witness replied while holding.
	Up, Unserved, Silent int
	Services             []Service // in the order of the settings
	Fenced               string    // the services for which this run has fenced the primary; "": it has not
}

// Settings are the cluster's settings that the decision rests on.
type Settings struct {
	Rise     int           // checks in a row
	BootWait time.Duration // no takeover before the machine has been up this long
	Failback bool          // hand over when the primary is back
	Isolated bool          // release when no witness replies any more
	Fall     int           // checks in a row with a bad service
	// FailoverOnService: a service that is down is a reason to fence the primary and
	// to take over.
	FailoverOnService bool
	Arbiter           bool // it must agree to each takeover
}

// Decision is what Decide answers. Its zero value does nothing.
type Decision struct {
	Rule     int          // number of the first matching rule; see the table in docs/decisions.md
	Outcome  Outcome      // if everything that it asks for succeeds
	Reason   string       // in words; it does not change while nothing changes
	Cause    Cause        // where there is advice about it
	Raise    []netip.Addr // virtual IPs to assign here
	Release  bool         // remove what is here
	Only     []netip.Addr // of it; empty: all
	HandOver bool         // and assign again what nobody takes
	Announce bool         // tell the clients that what is held is here
	Fences   string       // the services for which the primary, which replies, is fenced first; "": it is not
}

// Decide is pingover's policy: what to do about an observation, and why. It is a
// pure function; the first matching rule decides. The numbers are those of the
// table in docs/decisions.md.
func Decide(known Known, o Observation, set Settings, now time.Time) Decision {
	held := o.held()
	paused := now.Before(known.PausedUntil)
	conflict := len(o.Conflicts) > 0

	// While something is held here, or offered.
	switch {
	case len(o.Arbiter.Lost) > 0:
		return o.lost()

	case known.Role == Releasing && known.HandingOver && len(held) == 0 && paused:
		return blocked(1, "", "paused, while an interrupted release has to be finished")

	case known.Role == Releasing && known.HandingOver && len(held) == 0 && !o.connected():
		return blocked(1, "", "an interrupted release is not finished, because it cannot be verified whether another machine has taken over: %s", cmp.Or(o.Fault, "no witness "+o.witnessLack("replies")))

	case known.Role == Releasing && (len(held) > 0 || known.HandingOver):
		return Decision{
			Rule: 1, Outcome: Released, Release: true, Only: o.finishing(known.Releasing, paused), HandOver: known.HandingOver,
			Reason: "an interrupted release is finished",
		}

	case len(held) == 0:

	case paused && conflict:
		return Decision{
			Rule: 2, Outcome: Blocked, Cause: CausePaused,
			Reason: fmt.Sprintf("paused, holding %s although %s has it as well", o.Conflicts[0].Address, o.Conflicts[0].MAC),
		}

	case paused:
		return Decision{
			Rule: 2, Outcome: Holding, Announce: true,
			Reason: fmt.Sprintf("paused, holding %s%s", list(held), o.ends()),
		}

	case conflict:
		return yieldTo(o)

	case set.Isolated && o.Witness == WitnessSilent && known.Silent > 0 && o.Primary != check.Up:
		return Decision{
			Rule: 4, Outcome: Released, Release: true, Cause: CauseIsolated,
			Reason: fmt.Sprintf("no witness has replied in two checks in a row, and %s does not reply: this machine is isolated, and releases %s", o.Host, list(held)),
		}

	case set.Failback && !o.CannotAsk && !known.ManualTakeover && !known.NobodyTook && o.fit(known) && known.Up+1 >= set.Rise:
		what := "has replied"
		if len(o.Services) > 0 {
			what = "has replied with its services good"
		}
		return Decision{
			Rule: 5, Outcome: Released, Release: true, HandOver: true,
			Reason: fmt.Sprintf("%s %s in %d checks in a row: %s handed over", o.Host, what, known.Up+1, being(held)),
		}

	default:
		return hold(known, o)
	}

	// While this machine stands by.
	inUse := o.inUse()
	switch {
	case known.Fenced != "" && o.Primary == check.Up:
		return blocked(15, CauseService, "%s was fenced for %s, but it still replies", o.Host, known.Fenced)

	case known.Fenced != "" && o.Primary == check.Unknown:
		return blocked(15, CauseService, "%s was fenced for %s, but it cannot be verified that it is silent: %s", o.Host, known.Fenced, o.Fault)

	// The key may be the primary's: it is free some time after the fencing.
	case set.FailoverOnService && !paused && (!set.Arbiter || o.Arbiter.answers()) && o.Uptime >= set.BootWait && !known.ManualRelease && o.witnessed() && o.canBeFenced() && len(o.WorthFencing(known, set.Fall)) > 0:
		return Decision{
			Rule: 15, Outcome: TookOver, Cause: CauseService, Raise: o.assignable(), Announce: true, Fences: namesOf(o.WorthFencing(known, set.Fall)),
			Reason: fmt.Sprintf("%s replies, but %s (%d checks in a row); it is fenced, and %s taken over", o.Host,
				notWorking(o.WorthFencing(known, set.Fall), serving), set.Fall, list(o.addresses())),
		}

	case o.Primary == check.Up:
		if u := o.unserved(); len(u) > 0 && known.Unserved+1 >= set.Rise {
			return Decision{
				Rule: 7, Outcome: Unserved,
				Reason: fmt.Sprintf("%s replies, but no machine has %s", o.Host, list(u)),
			}
		}
		if down := o.down(known, set.Fall); len(down) > 0 {
			return Decision{Rule: 7, Outcome: Unserved, Reason: fmt.Sprintf("%s replies, but %s", o.Host, notWorking(down, serving))}
		}
		return Decision{Rule: 7, Outcome: OK, Reason: fmt.Sprintf("%s replies", o.Host)}

	case o.Primary != check.Down:
		return Decision{Rule: 8, Outcome: Unknown, Cause: o.FaultCause, Reason: o.Fault}

	case len(o.VIPs) == 0 && (o.Witness == WitnessSilent || o.Witness == WitnessNotAsked):
		return Decision{
			Rule: 9, Outcome: Unknown, Cause: o.Witness.cause(),
			Reason: fmt.Sprintf("%s does not reply, but no witness %s: it may be this machine's network", o.Host, o.witnessLack("replies either")),
		}

	case len(o.VIPs) == 0:
		return Decision{
			Rule: 9, Outcome: Down,
			Reason: fmt.Sprintf("%s does not reply, and there is no virtual IP to take over", o.Host),
		}

	case paused:
		return blocked(10, CausePaused, "%s does not reply, but this cluster is paused", o.Host)

	case o.Uptime < set.BootWait:
		return blocked(10, CauseBootWait, "%s does not reply, but this machine has been up for less than %s (boot-wait)", o.Host, words(set.BootWait))

	case known.ManualRelease:
		return blocked(10, CauseManualRelease, "%s does not reply, but the virtual IPs were released manually and it has not been up since", o.Host)

	case o.Witness == WitnessNone:
		return blocked(11, o.Witness.cause(), "%s does not reply, but there is no witness (no default gateway, or it is the primary itself): it may be this machine's network", o.Host)

	case !o.witnessed():
		return blocked(11, o.Witness.cause(), "%s does not reply, but no witness %s: it may be this machine's network", o.Host, o.witnessLack("replies either"))

	case o.OnLink && !o.AnswersARP && o.elsewhere():
		return Decision{
			Rule: 12, Outcome: Elsewhere,
			Reason: fmt.Sprintf("%s does not reply, and another standby serves %s", o.Host, list(inUse)),
		}

	case o.AnswersARP:
		return blocked(13, CauseAlive, "%s does not reply to pings, but it replies to %s: it is alive", o.Host, protocol(o.Host))

	case len(inUse) > 0:
		return blocked(13, CauseInUse, "%s does not reply, but %s in use", o.Host, being(inUse))

	case o.CompetingProber != "":
		return blocked(13, CauseCompeting, "%s does not reply, but %s is about to take the virtual IPs over", o.Host, o.CompetingProber)

	case set.Arbiter && !o.Arbiter.mayTake():
		return blocked(17, CauseArbiter, "%s does not reply, but %s", o.Host, o.Arbiter.Refusal())
	}
	can := o.assignable()
	if len(can) == 0 {
		return blocked(14, "", "%s does not reply, but %s", o.Host, o.cannotAssign())
	}
	never := ""
	if o.NeverUp {
		never = fmt.Sprintf("; %s was never seen up from here", o.Host)
	}
	return o.partly(Decision{
		Rule: 14, Outcome: TookOver, Raise: can, Announce: true,
		Reason: fmt.Sprintf("%s does not reply, and %s not in use%s", o.Host, being(can), never),
	})
}

// partly is a decision to assign what can be, with what cannot.
func (o Observation) partly(d Decision) Decision {
	if cannot := o.cannotAssign(); cannot != "" {
		d.Outcome = TakeoverFailed
		d.Reason += "; " + cannot
	}
	return d
}

// DecideTakeOver is the policy of a manual takeover. The primary was not pinged:
// it may be up. This machine's own network must agree, and the addresses must not
// be in use; with force only a fault of the local state, why, blocks it. Open says
// that a release of what is here was interrupted. Rules have numbers for checks:
// it has none.
func DecideTakeOver(o Observation, why string, open, force bool) Decision {
	held, missing := o.held(), o.assignable()
	refuse := func(format string, args ...any) Decision {
		return Decision{Outcome: Blocked, Reason: fmt.Sprintf(format, args...)}
	}
	inUse := o.inUse()
	switch {
	case len(o.Arbiter.Lost) > 0:
		return o.lost()
	case len(o.missing()) == 0 && open:
		return Decision{Outcome: TookOver, Announce: true, Reason: fmt.Sprintf("%s is kept manually: an interrupted release is undone", list(held))}
	case len(o.missing()) == 0:
		return Decision{Outcome: Holding, Announce: true, Reason: fmt.Sprintf("%s held here already", being(held))}
	case why != "":
		return refuse("not taken over: %s", why)
	case len(missing) == 0:
		return refuse("not taken over: %s", o.cannotAssign())
	case force:
		return o.partly(Decision{Outcome: TookOver, Raise: missing, Announce: true, Reason: fmt.Sprintf("%s taken over manually, with --force", being(missing))})
	case o.Witness == WitnessNone:
		return refuse("not taken over: there is no witness (no default gateway, or it is the primary itself): it may be this machine's network")
	case !o.witnessed():
		return refuse("not taken over: no witness %s: it may be this machine's network", o.witnessLack("replies"))
	case len(inUse) > 0:
		return Decision{Outcome: Blocked, Cause: CauseInUse, Reason: fmt.Sprintf("not taken over: %s in use", being(inUse))}
	case o.CompetingProber != "":
		return refuse("not taken over: %s is about to take %s over", o.CompetingProber, list(missing))
	}
	return o.partly(Decision{Outcome: TookOver, Raise: missing, Announce: true, Reason: fmt.Sprintf("%s taken over manually", being(missing))})
}

// DecideRelease is the policy of a manual release; force releases without asking
// who takes it, fault is why nobody can be asked, open says that a hand-over was
// interrupted, which would end by assigning it here again.
func DecideRelease(o Observation, fault string, open, force bool) Decision {
	held := o.held()
	if len(held) == 0 && open {
		held = o.addresses()
	}
	switch {
	case len(o.Arbiter.Lost) > 0:
		return o.lost()
	case len(held) == 0:
		return Decision{Outcome: OK, Reason: "nothing is held here"}
	case force:
		return Decision{Outcome: Released, Release: true, Reason: fmt.Sprintf("%s released manually, with --force", being(held))}
	case fault != "":
		return Decision{Outcome: Blocked, Reason: fmt.Sprintf("not released: it cannot be verified whether another machine takes %s: %s", list(held), fault)}
	case o.NoTaker && !open:
		return Decision{Outcome: Blocked, Reason: fmt.Sprintf("not released: %s does not reply, and no other machine has %s: nobody could take it", o.Host, list(held))}
	}
	return Decision{Outcome: Released, Release: true, HandOver: true, Reason: fmt.Sprintf("%s released manually", being(held))}
}

// yieldTo is rule 3: what other machines have too is released, and assigned again
// if they released it in the same moment. Where one of them is the primary, the
// rest is handed over to it.
func yieldTo(o Observation) Decision {
	c := o.Conflicts[0]
	d := Decision{
		Rule: 3, Outcome: Released, Release: true, HandOver: true,
		Reason: fmt.Sprintf("%s is also assigned at %s, another machine: it is released here", c.Address, c.MAC),
	}
	if i := slices.IndexFunc(o.Conflicts, func(c Conflict) bool { return c.Primary }); i >= 0 {
		c = o.Conflicts[i]
		d.Reason = fmt.Sprintf("the primary has %s again (%s): it is released here", c.Address, c.MAC)
		if rest := o.without(o.Conflicts); len(rest) > 0 {
			d.Reason += fmt.Sprintf(", and %s handed over", being(rest))
		}
		return d
	}
	if kept := o.without(o.Conflicts); len(kept) > 0 {
		d.Outcome, d.Only = Holding, o.pick(func(v VIPStatus) bool { return v.Held && !slices.Contains(kept, v.Address) })
		d.Reason += fmt.Sprintf("; holding %s", list(kept))
	}
	return d
}

// finishing is what a run removes that finishes a release, empty for all: what that was
// about, and what is in conflict now, which would last until the next check.
func (o Observation) finishing(releasing []netip.Addr, paused bool) []netip.Addr {
	if len(releasing) == 0 || paused {
		return releasing
	}
	kept := o.without(o.Conflicts)
	return append(slices.Clone(releasing), o.pick(func(v VIPStatus) bool {
		return v.Held && !slices.Contains(kept, v.Address) && !slices.Contains(releasing, v.Address)
	})...)
}

// hold is rule 6: something is here, and nothing is against that. What could not
// be asked for is not announced: another machine may have it.
func hold(known Known, o Observation) Decision {
	held, missing := list(o.held()), o.missing()
	d := Decision{Rule: 6, Outcome: Holding, Announce: !o.CannotAsk}
	ours := known.Role == Active || known.Role == Taking

	switch o.Primary {
	case check.Up:
		d.Reason = fmt.Sprintf("holding %s; %s replies again", held, o.Host)
		if !ours {
			d.Reason = fmt.Sprintf("holding %s, which pingover did not assign; %s replies", held, o.Host)
		}
		if unfit := o.unfit(); len(unfit) > 0 {
			d.Reason += ", but there " + notWorking(unfit, atHost)
		}
	case check.Down:
		d.Reason = fmt.Sprintf("holding %s; %s does not reply", held, o.Host)
	default:
		d.Reason = fmt.Sprintf("holding %s; %s could not be asked: %s", held, o.Host, o.Fault)
	}
	d.Reason += o.ends()

	if len(missing) == 0 {
		if known.Role == Taking {
			d.Outcome, d.Announce = TookOver, true
			d.Reason += "; an interrupted takeover is finished"
		}
		return d
	}

	// Something is missing. What is here stays; the rest is assigned only on
	// the grounds on which all of it would be taken over.
	switch {
	case known.Role == Taking && o.Primary != check.Down && !o.HostIsVIP:
		d.Outcome, d.Announce = TookOver, true
		d.Reason += fmt.Sprintf("; an interrupted takeover is finished, without %s", list(missing))
	case !ours || o.Primary != check.Down && !o.HostIsVIP:
	case len(o.assignable()) == 0:
		d = o.partly(d)
	case o.Arbiter.State == ArbiterSilent:
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s is missing", list(missing))
	case !o.witnessed():
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s missing, and no witness %s", being(missing), o.witnessLack("replies"))
	case o.AnswersARP || o.CompetingProber != "" || len(o.inUse()) > 0:
		d.Outcome = TakeoverFailed
		d.Reason += fmt.Sprintf("; %s missing, and another machine replies", being(missing))
	default:
		d.Raise, d.Announce = o.assignable(), true
		d.Reason += fmt.Sprintf("; assigning %s as well", list(d.Raise))
		if known.Role == Taking {
			d.Outcome = TookOver
		}
		d = o.partly(d)
	}
	return d
}

func blocked(rule int, cause Cause, format string, args ...any) Decision {
	return Decision{Rule: rule, Outcome: Blocked, Cause: cause, Reason: fmt.Sprintf(format, args...)}
}
