package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"pingover/check"
	"pingover/state"
	"pingover/vip"
)

// NoWitness is what a verbose check and doctor say where no witness was found.
const NoWitness = "no witness: this machine has no default gateway, or it is the primary itself, so takeovers are blocked"

// Rehearse asks once more, with ordinary requests, for what a takeover needs of
// others: each witness replies in the way that would count, each virtual IP can be
// asked for. It returns what failed; asked is false where ctx has ended.
func (n *Network) Rehearse(ctx context.Context, o Observation) (failed []string, asked bool) {
	seen := n.guard(ctx, o, guardPlan{length: LastGuard, once: true, brief: true}).finish(o)
	if ctx.Err() != nil {
		return nil, false
	}
	for _, f := range seen.Faults[len(o.Faults):] {
		failed = append(failed, f.Text)
	}
	if seen.Witness == state.WitnessNone {
		failed = append(failed, NoWitness)
	}
	for _, w := range seen.Evidence.Witnesses {
		if !w.Answers {
			failed = append(failed, fmt.Sprintf("witness %s does not reply", w.Address))
		}
	}
	for _, t := range seen.targets() {
		if why := seen.CannotTake(t.Address); why != "" {
			failed = append(failed, fmt.Sprintf("%s cannot be assigned: %s", t.Address, why))
		} else if n.j.Set.DuplicateCheck && !seen.replies.asked[t.Address] && len(failed) == 0 {
			failed = append(failed, fmt.Sprintf("%s cannot be asked for on %s: no request could be sent", t.Address, t.Interface))
		}
		if why := seen.noARPReply(t.Address); why != "" {
			failed = append(failed, fmt.Sprintf("clients would not find %s here: %s", t.Address, why))
		}
	}
	for _, p := range seen.Paths {
		t := vip.Target{Interface: p.Route.Interface, Address: p.Address}
		if n.j.Set.DuplicateCheck && p.neighbour() && p.round.Verdict == check.Up && seen.rank(t) == 0 && !n.hears(ctx, seen.Local, t) {
			failed = append(failed, fmt.Sprintf("%s replies to pings on %s, but its replies to %s are not heard: a machine with the virtual IP would not be heard either",
				t.Address, t.Interface, strings.ToUpper(protocol(t.Address))))
		}
	}
	return failed, ctx.Err() == nil
}

// hears tells whether an ordinary request for a machine on the link is heard to be
// answered, by proxy ARP too: the kernel has found it by one. Where arp-rate is set, a
// question may have to wait for longer than is listened here.
func (n *Network) hears(ctx context.Context, l Local, t vip.Target) bool {
	since := time.Now()
	for range LeastAsks {
		if n.j.Set.ARPRate > 0 || !n.Listening(t.Interface) || n.NeedsProbe(l.Snapshot, t) || n.Ask(l.Snapshot, t, false) != nil {
			return true // not to be told in this way
		}
		if n.Wait(ctx, holdGuard/LeastAsks, func() bool {
			_, proxied := n.Proxied(t, since)
			return proxied || len(n.Claims(t, since)) > 0
		}) {
			return true
		}
	}
	return false
}

// Isolation is why a machine that holds cannot know whether another one has the
// addresses, or may not be reached itself; "" for none.
func (n *Network) Isolation(o Observation) string {
	why := ""
	switch {
	case !o.Holding():
		return ""
	case n.j.Set.DuplicateCheck:
		why = n.CannotListen(o.Local)
	}
	if o.Witness == state.WitnessSilent {
		silent := "no witness replies"
		if why == "" {
			return silent
		}
		return why + "; " + silent
	}
	return why
}
