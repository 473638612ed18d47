package notify

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/internal/proc"
	"pingover/state"
)

// words is the text about one notification.
type words struct {
	subject  string // what was done, or what the problem is
	happened string // the same for a reader who knows nothing yet
	todo     string // what the reader should do, "" for nothing
	undo     string // heading of the commands; "": To undo the takeover
	first    string // pingover's own command, which checks first; "" for none
}

// wordsFor finds the words for a notification. They claim nothing that is not
// known, and advise only on the cause at hand.
func wordsFor(c Cluster, n Notification) words {
	if c.isPool() {
		return poolWords(c, n)
	}
	w := wordsOf(c, n)
	if w.undo == "" {
		w.undo, w.first = "To undo the takeover", c.command("release")
	}
	return w
}

func wordsOf(c Cluster, n Notification) words {
	me, host := c.Hostname, c.Host
	held, missing := orAll(n.Held, c), orAll(n.Missing, c)
	down := ""
	if alarm(c, n) != "" {
		down = host + " is down. "
	}

	switch n.Kind {
	case TookOver:
		w := words{
			subject:  fmt.Sprintf("%s took over %s", me, list(held)),
			happened: fmt.Sprintf("%s%s has taken over %s: clients now reach %s at %s.", down, me, list(held), me, thisAddress(held)),
			todo:     fmt.Sprintf("Make sure that the service itself runs on %s. ", me),
		}
		if len(n.Unreached) > 0 {
			w.happened = fmt.Sprintf("%s%s has taken over %s, but clients may not reach %s there: no witness replies to %s.",
				down, me, list(held), me, list(n.Unreached))
			w.todo = fmt.Sprintf("Look for what keeps %s from using %s: ARP inspection or port security at the switch, a static entry at the gateway. ",
				me, list(n.Unreached)) + w.todo
		}
		if n.Cause == state.CauseService {
			w.happened = fmt.Sprintf("%s replied, but %s did not work. %s was fenced. ", host, notGood(n.Evidence), host) + w.happened
			w.todo += fmt.Sprintf("Then find out why it failed on %s: pre-takeover has cut %s off. ", host, host)
		}
		if down != "" {
			w.todo += fmt.Sprintf("Then find out what happened to %s; there is no hurry while %s serves the clients. ", host, me)
		}
		if n.NeverUp {
			w.happened += fmt.Sprintf(" %s had never seen %s up.", me, host)
			w.todo = fmt.Sprintf("Check at once that %s is not up all the same: %s has never had a reply from it. Is its address right, does the netmask fit, "+
				"and can %s reach it at all (a guest on macvlan or macvtap and its own host cannot)? ", host, me, me) + w.todo
		}
		w.todo += fmt.Sprintf("When %s is fit to serve again, ", host) + takeBack(c, held)
		return w

	case TakeoverFailed:
		return takeoverFailedWords(c, n, down, missing)

	case Released:
		return releasedWords(c, n, missing)

	case ReleaseFailed:
		return words{
			subject: fmt.Sprintf("release failed: %s may still be on %s", list(held), me),
			happened: fmt.Sprintf("%s tried to release %s and could not. If another machine has %s too, "+
				"clients reach sometimes the one, sometimes the other.", me, list(held), these(held)),
			todo: fmt.Sprintf("Remove %s from %s manually if another machine serves %s. "+
				"Each check tries again.", list(held), me, these(held)),
			undo: fmt.Sprintf("To remove %s manually", these(held)),
		}

	case Blocked:
		return blockedWords(c, n)

	case Elsewhere:
		at := ""
		if _, _, macs := inUse(c, n.Evidence); len(macs) > 0 {
			at = " (" + strings.Join(macs, ", ") + ")"
		}
		return words{
			subject:  fmt.Sprintf("another standby%s serves %s", at, list(c.VIPs)),
			happened: fmt.Sprintf("%s%s did not take over: another standby%s already serves %s.", down, me, at, list(c.VIPs)),
			todo: fmt.Sprintf("Find out what happened to %s. If the machine that has %s is no standby of yours, it should not have %s.",
				host, list(c.VIPs), these(c.VIPs)),
		}

	case Down:
		return words{
			subject: "no virtual IP is configured",
			happened: fmt.Sprintf("%s is down. No virtual IP is configured for %s, so there is nothing that %s could take over.",
				host, c.Name, me),
			todo: fmt.Sprintf("Find out what happened to %s.", host),
		}

	case Unserved:
		if len(n.Missing) == 0 || slices.ContainsFunc(n.Evidence.Answers, func(a state.ServiceAnswer) bool { return a.Health == "bad" }) {
			return serviceWords(c, n)
		}
		return words{
			subject: fmt.Sprintf("%s unassigned, while %s is up", list(missing), host),
			happened: fmt.Sprintf("%s is up, but no machine on the network of %s has %s: clients cannot reach %s.",
				host, me, list(missing), these(missing)),
			todo: fmt.Sprintf("Check on %s whether %s %s still assigned there. pingover does not take over from a primary that is up, "+
				"except manually: \"%s\".", host, list(missing), pick(len(missing), "is", "are"), c.command("takeover")),
		}

	case Unknown:
		return words{
			subject: fmt.Sprintf("%s cannot check %s", me, host),
			happened: fmt.Sprintf("%s could not check %s several times in a row: whether %s is up is not known. "+
				"Nothing was changed, and %s does not take over until it can check again.", me, host, host, me),
			todo: unknownAdvice(c, n.Cause),
		}

	case StateFailed:
		return words{
			subject: me + " cannot write its state",
			happened: fmt.Sprintf("%s%s could not write its state. It goes on with what the kernel shows, but its history "+
				"and pending mail may be lost, and mail may arrive twice.", down, me),
			todo: fmt.Sprintf("Check the disk of %s: full, read-only or broken.", me),
		}

	case AliasGone:
		return words{
			subject:  fmt.Sprintf("%s %s removed from %s, not by pingover", list(missing), pick(len(missing), "was", "were"), me),
			happened: fmt.Sprintf("%s had assigned %s and no longer has %s. pingover did not remove %s.", me, list(missing), these(missing), these(missing)),
			todo: fmt.Sprintf("Find out what removed %s: a restart of %s or of its network, a script, a person. "+
				"If %s is still down, the next check takes over again.", these(missing), me, host),
			undo:  fmt.Sprintf("To assign %s again now", these(missing)),
			first: c.command("takeover"),
		}

	case PrimaryBack:
		return words{
			subject:  fmt.Sprintf("%s is up again, %s still holds %s", host, me, list(held)),
			happened: fmt.Sprintf("%s replies again. %s still holds %s and keeps %s: failback is manual.", host, me, list(held), these(held)),
			todo:     fmt.Sprintf("When %s is fit to serve, ", host) + takeBack(c, held),
			undo:     fmt.Sprintf("To hand %s back", these(held)),
			first:    c.command("release"),
		}

	case NobodyTook:
		return words{
			subject: fmt.Sprintf("no machine took %s, %s holds %s again", list(held), me, these(held)),
			happened: fmt.Sprintf("%s released %s to hand %s over, but no machine took %s. "+
				"So %s has assigned %s again.", me, list(held), these(held), these(held), me, these(held)),
			todo: fmt.Sprintf("Log in to %s, and ", host) + takeBack(c, held) + fmt.Sprintf(" A failback that no machine took is not tried again until %s has been down once.", host),
			undo: fmt.Sprintf("To release %s although no machine takes %s", these(held), these(held)), first: c.command("release", "--force"),
		}

	case HookFailed:
		hook := cmp.Or(n.Hook, "a hook")
		w := words{
			subject: fmt.Sprintf("%s failed on %s", hook, me),
			happened: fmt.Sprintf("The command for %s failed on %s. This stops nothing, but services may not run, "+
				"or may run where they should not.", hook, me),
			todo: fmt.Sprintf("Make sure that the services of %s run where they should, and fix the command.", list(c.VIPs)),
		}
		if hook == state.PostTakeover {
			w.todo += fmt.Sprintf(" \"%s\" runs it again.", c.command("takeover"))
		}
		return w

	case NotReady:
		return words{
			subject:  fmt.Sprintf("%s is not ready to take over", me),
			happened: fmt.Sprintf("%s may be unable to take over from %s: the rehearsal of a takeover failed three times in a row. Nothing was changed.", me, host),
			todo:     fmt.Sprintf("Fix what the reason names; \"%s\" shows the rest. The next checks try again.", c.command("doctor")),
		}

	case Isolated:
		return words{
			subject: fmt.Sprintf("%s holds %s, but is isolated", me, list(held)),
			happened: fmt.Sprintf("%s holds %s, but no witness replies, or it cannot ask whether another machine has %s. Clients may not reach %s.",
				me, list(held), these(held), these(held)),
			todo: fmt.Sprintf("Check the network of %s: cable, switch port, addresses. If another machine serves %s, release %s from %s.",
				me, list(held), these(held), me),
			undo: fmt.Sprintf("To release %s from %s", these(held), me), first: c.command("release", "--force"),
		}

	case NoArbiter:
		return words{
			subject: fmt.Sprintf("%s holds %s, but the arbiter does not answer", me, list(held)),
			happened: fmt.Sprintf("%s holds %s, and etcd does not answer it. Without an answer the kernel removes %s when the time of the last renewal is over; "+
				"then another machine may take %s.", me, list(held), these(held), these(held)),
			todo: fmt.Sprintf("Check etcd, and the network between it and %s: \"%s\" asks each member. More than half of the members must run.", me, c.command("doctor")),
		}

	case ServiceDown, Certificate:
		return serviceWords(c, n)

	case Unconfigured:
		return words{
			subject:  fmt.Sprintf("no longer configured, still holding %s", list(held)),
			happened: fmt.Sprintf("The cluster %s is no longer configured, but %s still holds %s.", c.Name, me, list(held)),
			todo: fmt.Sprintf("Release %s, or put the cluster back into the file. Until then it is checked with its last settings: "+
				"a conflict makes %s release %s, and nothing else is switched.", these(held), me, these(held)),
			undo: fmt.Sprintf("To release %s", these(held)), first: c.command("release"),
		}

	case NotUsed:
		return words{
			subject: fmt.Sprintf("%s does not use all that the settings name", me),
			happened: fmt.Sprintf("A program or a credentials file that the settings name is not used on %s, because it is missing or others can change it. "+
				"Checks go on without it: mail stays pending, hooks do not run.", me),
			todo: fmt.Sprintf("Review what the reason names, and fix its owner, its mode or the setting; \"%s\" shows the command.", c.command("doctor")),
		}

	case LockHeld:
		return words{
			subject: fmt.Sprintf("not checked: a run on %s keeps the lock", me),
			happened: fmt.Sprintf("%s does not check %s: an earlier run still holds the lock and does not end. "+
				"Until it has ended nothing is switched, and no other mail about %s is sent.", me, host, c.Name),
			todo: fmt.Sprintf("Find out why that run does not end: a stopped or frozen process, or a disk or file server that does not answer. "+
				"The first check after it finishes what it has begun. \"%s\" shows the last check.", c.command("status")),
			undo: "To end that run",
		}

	case FileUnusable:
		return fileWords(c, n)

	case Recovered:
		return recovered(c, n)

	case Flapping:
		w := words{
			subject:  fmt.Sprintf("flapping: %s; %s %s now", counts(n.Suppressed), me, holds(n.Held)),
			happened: fmt.Sprintf("The cluster is flapping. This message lists what was not mailed one by one: %s.", counts(n.Suppressed)),
			todo: fmt.Sprintf("Find out what keeps changing: %s, %s, or the network between them. While it does, "+
				"one message an hour is sent.", host, me),
		}
		if len(c.VIPs) > 0 {
			w.todo += fmt.Sprintf(" \"%s\" stops %s from switching meanwhile.", c.command("pause"), me)
		}
		if len(n.Held) > 0 {
			w.happened += fmt.Sprintf(" %s holds %s.", me, list(n.Held))
		}
		return w

	case MailDropped:
		return words{
			subject: n.Reason,
			happened: fmt.Sprintf("On %s %s. Mail could not be delivered for a while, and the queue holds at most %d: "+
				"the oldest were dropped first.", me, n.Reason, state.MaxOutbox),
			todo: fmt.Sprintf("The takeovers and releases that they reported are in the history: \"%s\".", c.command("history")),
		}
	}
	return words{subject: string(n.Kind), happened: fmt.Sprintf("%s: %s.", me, n.Kind)}
}

// recovered is the text about an alert that has resolved.
func recovered(c Cluster, n Notification) words {
	var now string
	switch Kind(n.Alert.Kind) {
	case TakeoverFailed:
		now = "takeovers no longer fail on " + c.Hostname
	case ReleaseFailed:
		now = "releases no longer fail on " + c.Hostname
	case Blocked:
		now = c.Hostname + " is no longer blocked"
		if len(n.Evidence.Rounds) > 0 && n.Evidence.Rounds[len(n.Evidence.Rounds)-1].Verdict == "up" {
			now = c.Host + " replies again"
		}
	case Elsewhere, Down:
		now = c.Host + " is up again"
	case Unserved:
		now = list(c.VIPs) + pick(len(c.VIPs), " is", " are") + " served again"
	case Unknown:
		now = fmt.Sprintf("%s can check %s again", c.Hostname, c.Host)
	case StateFailed:
		now = c.Hostname + " can write its state again"
	case NotReady:
		now = c.Hostname + " is ready to take over again"
	case ServiceDown:
		now = "the services work on " + c.Hostname
		if len(n.Held) == 0 {
			now = fmt.Sprintf("%s has released %s, where a service did not work", c.Hostname, list(c.VIPs))
		}
	case Certificate:
		now = "the certificates of the services verify again"
	case Isolated:
		now = c.Hostname + " is no longer isolated"
		if len(n.Held) == 0 {
			now = fmt.Sprintf("%s no longer holds %s", c.Hostname, list(c.VIPs))
		}
	case NoArbiter:
		now = "the arbiter answers " + c.Hostname + " again"
		if len(n.Held) == 0 {
			now = fmt.Sprintf("%s no longer holds %s, for which the arbiter did not answer", c.Hostname, list(c.VIPs))
		}
	case HookFailed:
		now = "post-takeover has succeeded on " + c.Hostname
		if len(n.Held) == 0 {
			now = fmt.Sprintf("%s has released %s, for which post-takeover had failed", c.Hostname, list(c.VIPs))
		}
	case NotUsed:
		now = c.Hostname + " uses all that the settings name again"
	case FileUnusable:
		now = n.File + " can be used again"
	case Unconfigured:
		now = fmt.Sprintf("%s no longer holds anything without being configured", c.Hostname)
		if len(n.Held) > 0 {
			now = c.Name + " is configured again"
		}
	default:
		now = fmt.Sprintf("%s is over on %s", n.Alert.Kind, c.Hostname)
	}
	w := words{subject: now, happened: fmt.Sprintf("Resolved: %s.", now)}
	if len(n.Held) > 0 {
		w.happened += fmt.Sprintf(" %s holds %s.", c.Hostname, list(n.Held))
	}
	return w
}

// counts says how many there are of each kind, in the order of their first.
func counts(all []state.Suppressed) string {
	var kinds []string
	times := map[string]int{}
	for _, n := range all {
		if times[n.Kind]++; times[n.Kind] == 1 {
			kinds = append(kinds, n.Kind)
		}
	}
	for i, kind := range kinds {
		if times[kind] == 1 {
			kinds[i] = kind + " once"
		} else {
			kinds[i] = fmt.Sprintf("%s %d times", kind, times[kind])
		}
	}
	return cmp.Or(strings.Join(kinds, ", "), "nothing")
}

func holds(held []netip.Prefix) string {
	if len(held) == 0 {
		return "holds nothing"
	}
	return "holds " + list(held)
}

// commandsOf are the commands of the run that are not hooks.
func commandsOf(n Notification) []state.Command {
	return slices.DeleteFunc(slices.Clone(n.Evidence.Commands), func(c state.Command) bool { return c.Hook != "" })
}

func thisAddress(vips []netip.Prefix) string {
	return pick(len(vips), "this address", "these addresses")
}

func these(vips []netip.Prefix) string { return pick(len(vips), "it", "them") }

// orAll is vips, or all of the cluster's where none are named.
func orAll(vips []netip.Prefix, c Cluster) []netip.Prefix {
	if len(vips) > 0 {
		return vips
	}
	return c.VIPs
}

// command is a pingover command line for the cluster.
func (c Cluster) command(name string, more ...string) string {
	argv := append([]string{"pingover", name, c.Name}, more...)
	if c.StateDir != "" {
		argv = append(argv, "--state-dir", c.StateDir)
	}
	return proc.Line(argv)
}
