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

// words are what the letter says about one kind of news.
type words struct {
	subject  string // what was done
	happened string // the same for somebody who was asleep a minute ago
	todo     string // what is asked of the reader, "" for nothing
	undo     string // over the commands; "": to undo the takeover
	first    string // the command before them, for it looks before it leaps; "" for none
}

// tell finds the words for the news.
func tell(c Cluster, n Notification) words {
	w := wordsFor(c, n)
	if w.undo == "" {
		w.undo, w.first = "To undo the takeover", c.command("release")
	}
	return w
}

// wordsFor are the words for the news. They claim nothing that is not known.
func wordsFor(c Cluster, n Notification) words {
	me, host := c.Hostname, c.Host
	them := func(vips []netip.Prefix) string { return pick(len(vips), "it", "them") }
	held, lost := orAll(n.Held, c), orAll(n.Missing, c)
	down := ""
	if alarm(c, n) != "" {
		down = host + " is down. "
	}

	switch n.Kind {
	case TookOver:
		w := words{
			subject:  fmt.Sprintf("took over %s on %s", list(held), me),
			happened: fmt.Sprintf("%s%s has taken over %s: clients reach %s under %s now.", down, me, list(held), me, them(held)),
			todo:     fmt.Sprintf("Make sure that the service itself runs on %s. ", me),
		}
		if down != "" {
			w.todo += fmt.Sprintf("Then see what happened to %s; while clients are served here there is no hurry. ", host)
		}
		w.todo += fmt.Sprintf("Do not bring %s up on %s before it is fit to serve: pingover gives way to it at the next check.",
			list(held), host)
		return w

	case TakeoverFailed:
		w := words{
			subject:  fmt.Sprintf("takeover failed on %s: %s not raised", me, list(lost)),
			happened: fmt.Sprintf("%s%s tried to take over and could not raise %s.", down, me, list(lost)),
			todo: fmt.Sprintf("Mend what the failed command complains of; every further check tries again. "+
				"Until then %s does not serve the clients of %s.", me, list(lost)),
		}
		if len(n.Held) > 0 {
			w.happened += fmt.Sprintf(" On this machine now: %s.", list(n.Held))
		} else {
			w.happened += " Nothing was taken over."
		}
		return w

	case Released:
		return words{
			subject:  fmt.Sprintf("released %s on %s", list(lost), me),
			happened: fmt.Sprintf("%s has released %s and no longer answers for %s.", me, list(lost), them(lost)),
			todo: fmt.Sprintf("Make sure that %s, or whoever is to serve now, has %s. To have %s on %s again: \"%s\".",
				host, list(lost), them(lost), me, c.command("takeover")),
		}

	case ReleaseFailed:
		return words{
			subject: fmt.Sprintf("release failed, %s may still be on %s", list(held), me),
			happened: fmt.Sprintf("%s tried to release %s and could not. Where another machine has %s too, "+
				"clients reach now the one and now the other.", me, list(held), them(held)),
			todo: fmt.Sprintf("Remove %s from %s by hand if another machine serves %s. "+
				"Every further check tries again.", list(held), me, them(held)),
			undo: "To remove " + them(held) + " by hand",
		}

	case Blocked:
		if n.Unverified {
			return words{
				subject: fmt.Sprintf("%s released %s, perhaps to nobody", me, list(lost)),
				happened: fmt.Sprintf("%s gave %s up to hand %s over, and could not ask whether anybody has taken %s: perhaps clients reach nobody under %s now.",
					me, list(lost), them(lost), them(lost), them(lost)),
				todo: fmt.Sprintf("See who has %s, and what keeps %s from asking. Every further check asks again, and raises %s here when nobody has %s.",
					list(lost), me, them(lost), them(lost)),
				undo:  "To have " + them(lost) + " here again",
				first: c.command("takeover"),
			}
		}
		w := words{
			subject:  "not taken over by " + me,
			happened: fmt.Sprintf("%s looks down from %s, but switching was refused: nothing was changed.", host, me),
			todo: fmt.Sprintf("Look at %s, and at what stood in the way. Every further check decides anew. "+
				"\"%s\" ends a pause. Take over by hand (\"%s\", with --force against the guards) "+
				"only when you are sure that no other machine has %s.", host, c.command("resume"), c.command("takeover"), list(c.VIPs)),
		}
		switched := func(c state.Command) bool { return c.Hook == "" }
		if slices.ContainsFunc(n.Evidence.Commands, switched) {
			w.happened = fmt.Sprintf("%s looks down from %s. %s took over, and gave up again what another machine has as well.", host, me, me)
		}
		if down == "" || len(n.Held) > 0 {
			w.subject = "switching was refused on " + me
			if !slices.ContainsFunc(n.Evidence.Commands, switched) {
				w.happened = fmt.Sprintf("Switching was refused on %s: nothing was changed.", me)
			}
		}
		if len(n.Held) > 0 {
			w.happened += fmt.Sprintf(" On this machine now: %s.", list(n.Held))
			w.todo = fmt.Sprintf("See who else answers for %s, and that only one machine does. "+
				"Every further check decides anew.", list(n.Held))
		}
		return w

	case Down:
		return words{
			subject: "there is no virtual IP to take over",
			happened: fmt.Sprintf("%s is down. No virtual IP is configured for %s, so there is nothing that %s could take over.",
				host, c.Name, me),
			todo: fmt.Sprintf("See what happened to %s.", host),
		}

	case Unserved:
		return words{
			subject: fmt.Sprintf("nobody answers for %s, while %s is up", list(lost), host),
			happened: fmt.Sprintf("%s is up, but nobody answers for %s on the network of %s: clients cannot reach %s.",
				host, list(lost), me, them(lost)),
			todo: fmt.Sprintf("Look on %s whether %s %s still configured there. pingover takes nothing from a primary that answers, "+
				"unless you say \"%s\".", host, list(lost), pick(len(lost), "is", "are"), c.command("takeover")),
		}

	case Unknown:
		return words{
			subject: fmt.Sprintf("%s cannot check %s", me, host),
			happened: fmt.Sprintf("%s could not check %s, several times in a row: whether %s is up is not known. "+
				"Nothing was changed, and while this lasts %s will not take over.", me, host, host, me),
			todo: fmt.Sprintf("Look at %s rather than at %s: its cable, its addresses and its routes.", me, host),
		}

	case StateFailed:
		return words{
			subject: me + " cannot write its state",
			happened: fmt.Sprintf("%s%s could not write down what it did. It goes on by what the kernel shows; but its history "+
				"and the mail that waits may be lost, and mail may come twice.", down, me),
			todo: fmt.Sprintf("Look at the disk of %s: full, read-only or broken.", me),
		}

	case AliasGone:
		return words{
			subject: fmt.Sprintf("%s has lost %s", me, list(lost)),
			happened: fmt.Sprintf("%s had raised %s and no longer has %s. It was not pingover that removed %s.",
				me, list(lost), them(lost), them(lost)),
			todo: fmt.Sprintf("Find out what removed %s: a restart of %s or of its network, a script, somebody by hand. "+
				"If %s is still down, a further check takes over again.", them(lost), me, host),
			undo:  "To raise " + them(lost) + " again yourself",
			first: c.command("takeover"),
		}

	case PrimaryBack:
		return words{
			subject:  fmt.Sprintf("%s is back, %s still holds %s", host, me, list(held)),
			happened: fmt.Sprintf("%s answers again. %s still holds %s and keeps %s until told otherwise.", host, me, list(held), them(held)),
			todo: fmt.Sprintf("When %s is fit to serve, bring %s up there: %s gives way at its next check. "+
				"Or release %s here, where %s takes what is free by itself: what nobody takes within 10 s is raised here again.",
				host, list(held), me, them(held), host),
			undo:  "To hand " + them(held) + " back",
			first: c.command("release"),
		}

	case NobodyTook:
		return words{
			subject: fmt.Sprintf("nobody took %s, %s holds %s again", list(held), me, them(held)),
			happened: fmt.Sprintf("%s gave %s up to hand %s over, but nobody answered for %s. "+
				"So it raised %s here again.", me, list(held), them(held), them(held), them(held)),
			todo: fmt.Sprintf("Bring %s up on %s yourself: %s gives way at its next check. "+
				"A failback that nobody took is not tried again before %s has been down once.", list(held), host, me, host),
			undo:  "To give " + them(held) + " up although nobody takes " + them(held),
			first: c.command("release", "--force"),
		}

	case HookFailed:
		hook := cmp.Or(n.Hook, "hook")
		return words{
			subject: fmt.Sprintf("%s failed on %s", hook, me),
			happened: fmt.Sprintf("The command for %s failed on %s. That stops nothing, but services may not run, "+
				"or may run where they should not.", hook, me),
			todo: fmt.Sprintf("See that the services of %s run where they should, and mend the command: pingover does not repeat it.",
				list(c.VIPs)),
		}

	case Recovered:
		return recovered(c, n)

	case Flapping:
		w := words{
			subject: fmt.Sprintf("to and fro on %s, which %s: %s", me, holds(n.Held), counts(n.Suppressed)),
			happened: fmt.Sprintf("It goes to and fro. What was not mailed one by one is told here in one letter: %s.",
				counts(n.Suppressed)),
			todo: fmt.Sprintf("See what does not stay as it is: %s, %s, or the network between them. While that lasts, "+
				"one letter an hour comes.", host, me),
		}
		if len(c.VIPs) > 0 {
			w.todo += fmt.Sprintf(" \"%s\" keeps %s from switching meanwhile.", c.command("pause"), me)
		}
		if len(n.Held) > 0 {
			w.happened += fmt.Sprintf(" On this machine now: %s.", list(n.Held))
		}
		return w

	case MailDropped:
		return words{
			subject: n.Reason,
			happened: fmt.Sprintf("%s. Mail could not be delivered for a while. %d letters are kept; to make room for newer ones "+
				"the oldest went before everybody had had them.", n.Reason, state.MaxOutbox),
			todo: fmt.Sprintf("The takeovers and releases that they told of are in the history of %s on %s.", c.Name, me),
		}
	}
	return words{subject: string(n.Kind), happened: fmt.Sprintf("%s: %s.", me, n.Kind)}
}

// recovered are the words for a trouble's end.
func recovered(c Cluster, n Notification) words {
	var over string
	switch Kind(n.Alert.Kind) {
	case TakeoverFailed:
		over = "no takeover is failing any more on " + c.Hostname
	case ReleaseFailed:
		over = "no release is failing any more on " + c.Hostname
	case Blocked:
		over = "switching is no longer refused on " + c.Hostname
	case Down:
		over = c.Host + " is up again"
	case Unserved:
		over = list(c.VIPs) + pick(len(c.VIPs), " is", " are") + " answered for again"
	case Unknown:
		over = fmt.Sprintf("%s can check %s again", c.Hostname, c.Host)
	case StateFailed:
		over = c.Hostname + " can write its state again"
	default:
		over = fmt.Sprintf("%s is over on %s", n.Alert.Kind, c.Hostname)
	}
	w := words{subject: over, happened: fmt.Sprintf("The trouble is over: %s.", over)}
	if len(n.Held) > 0 {
		w.happened += fmt.Sprintf(" %s holds %s.", c.Hostname, list(n.Held))
	}
	return w
}

// counts says how many there are of each kind, in the order in which they
// came first.
func counts(notes []state.Suppressed) string {
	var kinds []string
	times := map[string]int{}
	for _, n := range notes {
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

// holds is what a machine has now.
func holds(held []netip.Prefix) string {
	if len(held) == 0 {
		return "holds nothing now"
	}
	return "holds " + list(held) + " now"
}

// orAll is vips, or all of the cluster's where none are named.
func orAll(vips []netip.Prefix, c Cluster) []netip.Prefix {
	if len(vips) > 0 {
		return vips
	}
	return c.VIPs
}

// command is a command line by hand for the cluster.
func (c Cluster) command(name string, more ...string) string {
	argv := append([]string{"pingover", name, c.Name}, more...)
	if c.StateDir != "" {
		argv = append(argv, "--state-dir", c.StateDir)
	}
	return proc.Line(argv)
}
