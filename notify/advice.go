package notify

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/state"
)

// takeBack says how the primary gets the addresses back. Duplicate address
// detection (always for IPv6, RFC 4862) refuses one that is still held here.
func takeBack(c Cluster, vips []netip.Prefix) string {
	release := fmt.Sprintf("\"%s\"", c.command("release"))
	again := fmt.Sprintf("What no machine takes within ten seconds is assigned on %s again.", c.Hostname)
	six := slices.DeleteFunc(slices.Clone(vips), func(p netip.Prefix) bool { return p.Addr().Is4() })
	if len(six) > 0 {
		return fmt.Sprintf("run %s on %s, and assign %s on %s at once: its duplicate address detection refuses %s while %s holds %s. %s",
			release, c.Hostname, list(vips), c.Host, list(six), c.Hostname, these(six), again)
	}
	return fmt.Sprintf("assign %s on it: %s then releases %s at its next check. If %s checks for duplicate addresses first, run %s on %s instead. %s",
		list(vips), c.Hostname, these(vips), c.Host, release, c.Hostname, again)
}

// releasedWords says who has now what was released here.
func releasedWords(c Cluster, n Notification, vips []netip.Prefix) words {
	me := c.Hostname
	w := words{
		subject:  fmt.Sprintf("%s released %s", me, list(vips)),
		happened: fmt.Sprintf("%s has released %s: clients no longer reach %s at %s.", me, list(vips), me, thisAddress(vips)),
	}
	if len(n.Held) > 0 {
		w.happened += fmt.Sprintf(" It still holds %s.", list(n.Held))
	}
	who, mac := otherHolder(c, n.Evidence, vips)
	again := fmt.Sprintf("To have %s on %s again: \"%s\".", these(vips), me, c.command("takeover"))
	switch {
	case n.Cause == state.CauseArbiter:
		w.todo = fmt.Sprintf("Nothing, if the other machine serves the clients. Find out how %s came to have %s too: it was suspended or stopped as a whole, or somebody added %s manually. "+
			"Fencing with pre-takeover on the other machine prevents that.", me, list(vips), these(vips))
	case mac != "" && mac == primaryMAC(c, n.Evidence):
		w.happened += fmt.Sprintf(" %s has %s now.", who, these(vips))
		w.todo = fmt.Sprintf("Nothing, if %s serves its clients. %s", c.Host, again)
	case mac != "":
		w.todo = fmt.Sprintf("Make sure that the machine at %s should have %s. %s", mac, list(vips), again)
	case n.Cause == state.CauseIsolated:
		w.todo = fmt.Sprintf("Check the network of %s: no witness replied. It takes over again when a witness replies and %s is still down.", me, c.Host)
	default:
		w.todo = fmt.Sprintf("Make sure that %s, or another machine that should serve now, has %s. %s", c.Host, list(vips), again)
	}
	return w
}

// blockedWords says what blocked a switch, and advises on that alone.
func blockedWords(c Cluster, n Notification) words {
	me, host, vips := c.Hostname, c.Host, list(c.VIPs)
	missing := orAll(n.Missing, c)
	resume, takeover := c.command("resume"), c.command("takeover")
	if n.Unverified {
		return words{
			subject: fmt.Sprintf("%s released %s, hand-over not verified", me, list(missing)),
			happened: fmt.Sprintf("%s released %s to hand %s over, and could not ask whether another machine has taken %s: clients may reach no machine at %s.",
				me, list(missing), these(missing), these(missing), thisAddress(missing)),
			todo: fmt.Sprintf("Find out which machine has %s, and what keeps %s from asking. Each check asks again, and assigns %s on %s again when no machine has %s.",
				list(missing), me, these(missing), me, these(missing)),
			undo:  fmt.Sprintf("To have %s on %s again", these(missing), me),
			first: takeover,
		}
	}
	if len(n.Held) > 0 {
		held := list(n.Held)
		who, mac := otherHolder(c, n.Evidence, n.Held)
		w := words{
			subject:  fmt.Sprintf("address conflict: %s and %s have %s", me, who, held),
			happened: fmt.Sprintf("%s holds %s, and %s has %s too. Nothing was changed.", me, held, who, these(n.Held)),
			todo:     fmt.Sprintf("Only one machine may have %s: remove %s from the other one, or from %s.", held, these(n.Held), me),
			undo:     fmt.Sprintf("To release %s from %s", these(n.Held), me), first: c.command("release"),
		}
		if mac == "" {
			w.subject = fmt.Sprintf("%s holds %s, and a switch was blocked", me, held)
			w.happened = fmt.Sprintf("%s holds %s. A switch was blocked, nothing was changed.", me, held)
			w.todo = "Fix what the reason names; each check decides again."
		} else if n.Cause == state.CausePaused {
			w.todo += fmt.Sprintf(" The cluster is paused; \"%s\" ends the pause, and the next check settles the conflict.", resume)
		}
		return w
	}
	if len(commandsOf(n)) > 0 {
		who, _ := otherHolder(c, n.Evidence, c.VIPs)
		return words{
			subject:  fmt.Sprintf("%s took over and released %s again: address conflict", me, vips),
			happened: fmt.Sprintf("%s did not reply. %s took over %s, found that %s has %s too, and released %s again.", host, me, vips, who, these(c.VIPs), these(c.VIPs)),
			todo:     fmt.Sprintf("Find out which of the two should have %s. Each check decides again.", vips),
		}
	}

	why, todo := blockedBy(c, n)
	happened := fmt.Sprintf("%s does not reply to %s. The takeover was blocked, nothing was changed: %s.", host, me, why)
	switch {
	case n.Cause == state.CauseService:
		happened = fmt.Sprintf("%s is up, but %s does not work. %s has fenced it with pre-takeover and did not take over: it could not be shown that %s is silent.",
			host, notGood(n.Evidence), me, host)
	case alarm(c, n) == "":
		happened = fmt.Sprintf("A switch was blocked on %s, nothing was changed: %s.", me, why)
	}
	return words{
		subject:  "not taken over: " + why,
		happened: happened,
		todo:     todo + fmt.Sprintf(" A manual takeover is \"%s\".", takeover),
	}
}

// blockedBy is what blocked a takeover, and what to do about it.
func blockedBy(c Cluster, n Notification) (why, todo string) {
	me, host, vips := c.Hostname, c.Host, list(c.VIPs)
	find := fmt.Sprintf("Find out what happened to %s.", host)
	inUse, are, macs := inUse(c, n.Evidence)
	switch n.Cause {
	case state.CauseService:
		return host + " is up without its service, and fencing it failed", fmt.Sprintf("Find out why %s does not work on %s, and what pre-takeover did. "+
			"Fencing for a service is not repeated until the service was good.", notGood(n.Evidence), host)
	case state.CausePreTakeover:
		return "pre-takeover failed", fmt.Sprintf("Fix what pre-takeover reports, or fence %s manually. Each check runs it again.", host)
	case state.CauseArbiter:
		return "the arbiter does not allow it", fmt.Sprintf("Nothing, if the reason says when the key is free: a later check then takes over. "+
			"If the arbiter does not answer, check etcd: more than half of its members must run and be reached from %s (\"%s\" asks each). Find out what happened to %s.", me, c.command("doctor"), host)
	case state.CausePaused:
		return "the cluster is paused", find + fmt.Sprintf(" \"%s\" ends the pause; the next check then takes over.", c.command("resume"))
	case state.CauseBootWait:
		return me + " has just booted", find + " The first check after boot-wait takes over."
	case state.CauseManualRelease:
		return "it was released manually", find + fmt.Sprintf(" \"%s\" allows takeovers again; otherwise they stay off until %s has been up once.",
			c.command("resume"), host)
	case state.CauseNoWitness:
		return "no witness is known", fmt.Sprintf("Set witness to a third host that replies to ping, so that %s can tell a primary that is down from a broken network of its own. "+
			"Until then find out what happened to %s.", me, host)
	case state.CauseWitnessSilent:
		return "no witness replies", fmt.Sprintf("Check the network of %s first: cable, switch, gateway. %s may be up, and only %s isolated.", me, host, me)
	case state.CauseWitnessNotAsked:
		return "no witness could be asked", fmt.Sprintf("Check %s first: its cable, its addresses and its routes. %s may be up, and only %s isolated.", me, host, me)
	case state.CauseAlive:
		return host + " replies to ARP, but not to ping", fmt.Sprintf("Log in to %s: it is running, but overloaded, hung, or its firewall drops ping. "+
			"If it must be replaced, power it off first: the next check then takes over.", host)
	case state.CauseCompeting:
		return "another standby is taking over", fmt.Sprintf("Nothing, if the other standby has %s at the next check.", vips)
	case state.CauseInUse:
		if len(macs) == 0 {
			return inUse + are + " in use", fmt.Sprintf("Find the machine that replies at %s. If it should not serve, remove %s there: the next check then takes over.", inUse, inUse)
		}
		return inUse + are + " in use (by " + strings.Join(macs, ", ") + ")", fmt.Sprintf("Find the machine with that MAC address. If it should not serve %s, "+
			"remove %s there: the next check then takes over.", inUse, inUse)
	}
	why, _, _ = strings.Cut(n.Reason, ";") // a subject has room for one clause
	return why, fmt.Sprintf("Fix what the reason names, and find out what happened to %s. Each check decides again.", host)
}

// unknownAdvice is what to do when the primary could not be checked.
func unknownAdvice(c Cluster, cause state.Cause) string {
	switch cause {
	case state.CauseName:
		return fmt.Sprintf("Check the name servers of %s, or give host as an address.", c.Hostname)
	case state.CauseRefused:
		return fmt.Sprintf("A router or firewall refuses the pings: allow ICMP echo from %s to %s.", c.Hostname, c.Host)
	}
	return fmt.Sprintf("Check %s first, not %s: its cable, its addresses and its routes.", c.Hostname, c.Host)
}

// inUse names the virtual IPs that another machine was seen to have, and the
// MACs.
func inUse(c Cluster, e state.Evidence) (vips, are string, macs []string) {
	var used []netip.Prefix
	for _, p := range c.VIPs {
		for _, h := range e.Holders {
			if !isOf(p, h) {
				continue
			}
			if !slices.Contains(used, p) {
				used = append(used, p)
			}
			if h.MAC != "" {
				macs = append(macs, h.MAC+whose(c, e, h))
			}
		}
	}
	used = orAll(used, c)
	return list(used), pick(len(used), " is", " are"), distinct(macs)
}

// isOf tells whether a holder is that of a virtual IP, whatever its interface.
func isOf(p netip.Prefix, h state.Holder) bool {
	address, _, _ := strings.Cut(h.Address, "%")
	return address == p.Addr().String()
}

// otherHolder is the other machine that was seen to have one of the addresses,
// in words, and its MAC; "" where none was seen.
func otherHolder(c Cluster, e state.Evidence, vips []netip.Prefix) (who, mac string) {
	for _, h := range e.Holders {
		if slices.ContainsFunc(vips, func(p netip.Prefix) bool { return isOf(p, h) }) {
			mac = cmp.Or(mac, h.MAC)
		}
	}
	if mac != "" && mac == primaryMAC(c, e) {
		return "the primary " + c.Host, mac
	}
	return "another machine", mac
}

// takeoverFailedWords is the text about addresses that could not be assigned; down says
// that the primary is, or nothing.
func takeoverFailedWords(c Cluster, n Notification, down string, missing []netip.Prefix) words {
	me := c.Hostname
	if n.Interrupted {
		return words{
			subject: fmt.Sprintf("takeover interrupted: %s not assigned on %s", list(missing), me),
			happened: fmt.Sprintf("A check of %s began to take over %s and was killed. Whether it assigned %s for a while is not recorded; "+
				"%s does not hold %s now.", me, list(missing), these(missing), me, these(missing)),
			todo: "Find out what killed that check: a person, a script, or the kernel for lack of memory. " +
				"Each check decides anew whether to take over.",
		}
	}
	w := words{
		subject:  fmt.Sprintf("takeover failed: %s not assigned on %s", list(missing), me),
		happened: fmt.Sprintf("%s%s tried to take over and could not assign %s.", down, me, list(missing)),
		todo: fmt.Sprintf("Fix what the failed command reports; each check tries again. "+
			"Until then %s does not serve the clients of %s.", me, list(missing)),
	}
	if len(commandsOf(n)) == 0 {
		w.todo = fmt.Sprintf("Fix what the reason names; each check tries again. Until then %s does not serve the clients of %s.", me, list(missing))
	}
	if len(n.Held) > 0 {
		w.happened += fmt.Sprintf(" %s holds %s.", me, list(n.Held))
	} else {
		w.happened += " Nothing was taken over."
	}
	return w
}
