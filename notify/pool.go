package notify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"pingover/state"
)

// isPool tells whether it is a pool, and no cluster.
func (c Cluster) isPool() bool { return c.Server != "" }

// PoolAlertKinds are the kinds that an alert of a pool may have.
func PoolAlertKinds() []Kind {
	return []Kind{Blocked, Unknown, UpdateFailed, StateFailed, LeftRecords, Certificate}
}

// update writes a change of DNS records, and how to undo it.
func (p *page) update(u *state.Update) {
	if u == nil {
		return
	}
	for _, script := range []struct{ heading, text string }{
		{"The update, as input of nsupdate", u.Script},
		{"To undo it, as input of nsupdate (pause the pool first)", u.Inverse},
	} {
		if script.text == "" {
			continue
		}
		p.heading(script.heading)
		for line := range strings.Lines(script.text) {
			p.verbatim("  ", strings.TrimSuffix(line, "\n"))
		}
	}
}

// poolWords finds the words for a notification about a pool.
func poolWords(c Cluster, n Notification) words {
	me, name := c.Hostname, c.Host
	now := fmt.Sprintf(" %s has %s now.", name, orNothing(c.Now))
	switch n.Kind {
	case Removed:
		out := moved(n, true)
		w := words{
			subject:  fmt.Sprintf("%s removed from %s", out, name),
			happened: fmt.Sprintf("%s has taken %s out of %s: new clients no longer reach %s.", me, out, name, itOrThem(out)) + now,
			todo:     fmt.Sprintf("Find out what happened to %s; clients that have resolved %s before go on for the time to live of the records. ", out, name) + backAgain(out),
		}
		if n.byHand() {
			w.todo = fmt.Sprintf("\"%s\" ends the drain.", c.command("undrain", strings.Split(out, ", ")...))
			return w
		}
		if n.seenDown() {
			w.subject = fmt.Sprintf("%s %s down! removed from %s", out, isOrAre(out), name)
		}
		if back := moved(n, false); back != "" {
			w.happened += fmt.Sprintf(" %s %s back.", back, isOrAre(back))
		}
		return w
	case Restored:
		back := moved(n, false)
		return words{
			subject:  fmt.Sprintf("%s %s back in %s", back, isOrAre(back), name),
			happened: fmt.Sprintf("%s has put %s back into %s.", me, back, name) + now,
		}
	case UpdateFailed:
		return words{
			subject:  "DNS update failed: " + name + " is as it was",
			happened: fmt.Sprintf("%s tried to change %s at %s and could not.", me, name, c.Server) + now,
			todo:     fmt.Sprintf("Fix what the reason names; \"%s\" tests it. Each check tries again.", c.command("doctor")),
		}
	case Blocked:
		return words{
			subject:  name + " not changed: " + blockedPool(n),
			happened: fmt.Sprintf("%s has found members of %s down and left them in DNS.", me, name) + now,
			todo:     poolAdvice(c, n),
		}
	case Unknown:
		return words{
			subject:  fmt.Sprintf("%s cannot check %s", me, name),
			happened: fmt.Sprintf("%s could not check %s several times in a row. Nothing was changed.", me, name),
			todo:     fmt.Sprintf("Fix what the reason names: the name server %s, or the network of %s. \"%s\" tests both.", c.Server, me, c.command("doctor")),
		}
	case LeftRecords:
		return words{
			subject:  "records without a member in " + name,
			happened: fmt.Sprintf("%s has addresses that are no longer members: pingover neither checks nor removes them.", name) + now,
			todo:     fmt.Sprintf("Delete the records that the reason names from %s, or make them members again.", name),
		}
	case Certificate:
		return serviceWords(c, n)
	case StateFailed:
		return words{
			subject:  me + " cannot write its state",
			happened: fmt.Sprintf("%s could not write its state. It goes on with what the name server shows, but history and pending mail may be lost, and mail may arrive twice.", me),
			todo:     fmt.Sprintf("Check the disk of %s: full, read-only or broken.", me),
		}
	case Recovered:
		return poolRecovered(c, n, now)
	}
	return wordsOf(c, n)
}

// poolRecovered is the text about an alert of a pool that has resolved.
func poolRecovered(c Cluster, n Notification, now string) words {
	text := fmt.Sprintf("%s is over", n.Alert.Kind)
	switch Kind(n.Alert.Kind) {
	case Blocked:
		text = fmt.Sprintf("changes of %s are no longer blocked", c.Host)
	case UpdateFailed:
		text = fmt.Sprintf("%s can be updated again", c.Host)
	case Unknown:
		text = fmt.Sprintf("%s can check %s again", c.Hostname, c.Host)
	case LeftRecords:
		text = fmt.Sprintf("%s has only records of members, or of others", c.Host)
	case Certificate:
		text = "the certificates of the services verify again"
	case StateFailed:
		text = c.Hostname + " can write its state again"
	}
	return words{subject: text, happened: fmt.Sprintf("Resolved: %s.", text) + now}
}

// byHand tells whether the change was made manually.
func (n Notification) byHand() bool { return n.Rule == 0 }

// seenDown tells whether all members that left were found down: by the last round,
// or by a service that does not work. One that was drained may be up.
func (n Notification) seenDown() bool {
	down := map[string]bool{}
	for _, r := range n.Evidence.Rounds {
		down[r.Address] = r.Verdict == "down"
	}
	for _, a := range n.Evidence.Answers {
		down[a.Address] = down[a.Address] || a.Health == "bad"
	}
	u := n.Evidence.Update
	return u != nil && !slices.ContainsFunc(u.Leave, func(a netip.Addr) bool { return !down[a.String()] })
}

// moved are the members that left, or those that returned.
func moved(n Notification, left bool) string {
	u := n.Evidence.Update
	if u == nil {
		return "members"
	}
	if left {
		return addresses(u.Leave)
	}
	return addresses(u.Return)
}

func addresses(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "no address"
	}
	const most = 20
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("%d more", len(list)-most))
	}
	return strings.Join(list, ", ")
}

// backAgain says how members return.
func backAgain(members string) string {
	if strings.Contains(members, ",") {
		return "They return by themselves, when they were up in enough checks in a row (rise)."
	}
	return "It returns by itself, when it was up in enough checks in a row (rise)."
}

func itOrThem(members string) string {
	if strings.Contains(members, ",") {
		return "them"
	}
	return "it"
}

func isOrAre(members string) string {
	if strings.Contains(members, ",") {
		return "are"
	}
	return "is"
}

// blockedPool is what blocked a change, in few words.
func blockedPool(n Notification) string {
	switch n.rule() {
	case 2:
		return "the pool is paused"
	case 3:
		return "no witness and no other member replies"
	case 4:
		return "too few members would be left"
	}
	return "blocked"
}

// poolAdvice is what to do about that.
func poolAdvice(c Cluster, n Notification) string {
	switch n.rule() {
	case 2:
		return fmt.Sprintf("\"%s\" ends the pause; the next check decides again.", c.command("resume"))
	case 3:
		return fmt.Sprintf("Check the network of %s first: cable, switch, gateway. The members may be up, and only %s isolated.", c.Hostname, c.Hostname)
	case 4:
		return "Find out what happened to the members that the reason names: clients are still sent to them. Each check decides again."
	}
	return "Fix what the reason names; each check decides again."
}
