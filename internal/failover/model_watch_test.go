package failover

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/state"
	"pingover/vip"
)

// What the model watches for. P1 to P11 are the properties; each says exactly
// what would break it. All of these are called while the model is locked.

// pair is what P1 knows of two machines.
type pair struct {
	since time.Time // since when both hold what they ought not to; zero: they do not
	done  [2]bool   // a check of the one, and of the other, was completed that began later
}

// watched is what P3 knows of a standby.
type watched struct {
	since  time.Time // since when it ought to take over; zero: it ought not to
	checks int       // completed since
}

// reckoning is what P6 knows of an address on a machine.
type reckoning struct {
	raised bool // once
	lost   bool // and it went since then, through nothing that an outage explains
}

// changed looks anew at who holds what and who hears whom.
func (n *model) changed() {
	now := time.Now()
	if n.register != nil {
		n.register.held()
	}
	for i, a := range n.units {
		for j, b := range n.units[:i] {
			for _, v := range n.vips {
				switch _, known := n.pairs[i][j][v]; {
				case !n.doubled(a, b, v):
					delete(n.pairs[i][j], v)
				case !known:
					if n.pairs[i][j] == nil {
						n.pairs[i][j] = map[netip.Addr]pair{}
					}
					n.pairs[i][j][v] = pair{since: now, done: [2]bool{a.set == nil, b.set == nil}}
				}
			}
		}
	}
	for _, s := range n.units {
		switch {
		case s.set == nil:
		case !n.mustServe(s):
			s.watch = watched{}
		case s.watch.since.IsZero():
			s.watch = watched{since: now}
		}
	}
}

// doubled says whether two machines hold an address and hear each other for
// sure. What is paused may, and who cannot lower it must.
func (n *model) doubled(a, b *unit, v netip.Addr) bool {
	return a.holds(v) && b.holds(v) && n.reachable(a, b) && !a.isPaused() && !b.isPaused() && !a.noLower && !b.noLower
}

func (u *unit) isPaused() bool { return time.Now().Before(u.paused) }

// mustServe says whether a standby is well, the primary dead, and nobody whom it
// can hear serves any virtual IP.
func (n *model) mustServe(s *unit) bool {
	if !s.runs() || !s.carrier[0] || s.noRaise || s.refuses || s.broken || s.noCron || s.released || s.isPaused() || !n.reachable(s, n.witness) || n.witness.noPing {
		return false
	}
	if time.Now().Before(s.stalled) {
		return false
	}
	if p := n.primary; p != nil && p.runs() && (p.carrier[0] || p.second.IsValid() && p.carrier[1]) {
		return false
	}
	return !slices.ContainsFunc(n.units, func(o *unit) bool {
		return (o == s || !n.paths[o.i][s.i].cut) && slices.ContainsFunc(n.vips, o.serves)
	})
}

// died is told of each run that is killed.
func (n *model) died(r *modelRun) {
	u := r.u
	n.conflicts(r)
	if !u.watch.since.IsZero() {
		u.watch = watched{since: time.Now()}
	}
}

// raises is told of an address that is about to be raised.
func (n *model) raises(r *modelRun, addr netip.Addr) {
	u, now := r.u, time.Now()

	// P2: an address is never raised by a run to which the primary answered:
	// neither a ping of its last round, nor a question for the primary's
	// address or the virtual IP since that round began. Nor did any other
	// machine claim the virtual IP then. What was given up in this run, or
	// in one that was killed since, may be raised again when nobody took it;
	// what is raised manually does not ask the primary.
	exempt := r.word != "check" || r.gave || u.gave
	if !exempt && r.verdict == check.Up {
		n.fail("P2: %s raises %s, and the primary answered its last ping", u.name, addr)
	}
	for _, e := range r.listeners {
		// One claim that is not repeated is none, when it was waited for. Frames of
		// one kind between two questions are one, as both of an announcement are.
		type claim struct {
			a    netip.Addr
			kind int
		}
		claims, last := map[netip.Addr]int{}, map[claim]time.Time{}
		for _, h := range e.heard {
			if h.Probe || h.At.Before(r.round) || !h.At.Before(now) {
				continue
			}
			if c := (claim{h.Address, kindOfFrame(h)}); h.At.Sub(last[c]) > askEvery {
				claims[h.Address]++
				last[c] = h.At
			}
		}
		for _, h := range e.heard {
			if exempt || h.Probe || h.At.Before(r.round) || !h.At.Before(now) || claims[h.Address] == 1 && now.Sub(h.At) >= config.RepeatPatience {
				continue
			}
			if h.Address == addr || n.primary != nil && string(h.MAC) == string(n.primary.mac) {
				n.fail("P2: %s raises %s, and was told at %v that %s is at %s", u.name, addr, h.At.Sub(n.t0), h.Address, h.MAC)
			}
		}
	}

	// P5: a takeover never happens in a run whose last verdict is unknown.
	ownHost := n.primary == nil && slices.ContainsFunc(n.vips, u.holds) // which is not pinged
	if !exempt && !ownHost && (r.verdict == check.Unknown || len(r.unknown) > 0) {
		n.fail("P5: %s raises %s on a verdict of unknown", u.name, addr)
	}

	// P6: with manual failback there is one takeover for an outage: what was
	// taken is not taken again, unless it was lost in between, by a reboot,
	// manually, in isolation, or to a conflicting host that was observed.
	if known := u.reckoned[addr]; known.raised && !known.lost && !u.set.Failback && !exempt && n.register == nil {
		n.fail("P6: %s raises %s again, and never lost it", u.name, addr)
	}
	u.reckoned[addr] = reckoning{raised: true}
	u.conflict = false

	// P7: what is raised was asked for a moment ago, however long the machine
	// stood still.
	if age := now.Sub(r.asked[addr]); age > freshFor && !r.force {
		n.fail("P7: %s raises %s, and asked for it %s ago", u.name, addr, age)
	}

	if n.raising != nil {
		n.raising(r)
	}
	n.took++
	if n.primary != nil && n.primary.serves(addr) {
		n.split++
	}
}

// lowers is told of an address that is about to be lowered. With manual
// failback that, too, is for a conflicting host that was heard, isolation or a hand.
func (n *model) lowers(r *modelRun, addr netip.Addr) {
	n.conflicts(r)
	r.gave, r.u.gave = true, true
	u := r.u
	explained := u.conflict || n.register != nil || u.set.Isolated || r.word != "check" || u.released
	if !explained && !u.set.Failback {
		n.fail("P6: %s gives up what it holds, and failback is manual", u.name)
	}
	if explained {
		known := u.reckoned[addr]
		known.lost = true
		u.reckoned[addr] = known
	}
}

// asks is told of each question of a run.
func (n *model) asks(r *modelRun, target, from netip.Addr) {
	if !slices.Contains(n.vips, target) {
		return
	}
	r.asked[target] = time.Now()

	// P8: a run to which the primary replied asks by ordinary requests alone: a
	// probe may make another machine give the address up that it is assigning. A
	// question that it had begun when it was stopped is sent all the same.
	if !time.Now().Equal(r.u.stalled) && !from.IsValid() && r.word == "check" && r.verdict == check.Up {
		n.fail("P8: %s asks for %s by a probe, and the primary replies", r.u.name, target)
	}
}

// expires is told of a lease that runs out.
func (n *model) expires(u *unit, a netip.Addr) {
	// P9: a lease runs out only when no check has come to its end since it was
	// renewed.
	renewed := u.leases[a].Add(-u.set.Lease)
	if u.checked.After(renewed) && n.register == nil {
		n.fail("P9: %s's lease of %s runs out, was renewed at %v, and a later check has ended", u.name, a, renewed.Sub(n.t0))
	}
	known := u.reckoned[a]
	known.lost = true
	u.reckoned[a] = known
}

// conflicts keeps in mind whether a run heard a claim to what its machine holds.
func (n *model) conflicts(r *modelRun) {
	for _, e := range r.listeners {
		if slices.ContainsFunc(e.heard, func(h vip.Reply) bool { return !h.Probe && slices.Contains(n.vips, h.Address) }) {
			r.u.conflict = true
		}
	}
}

// ended is told of each check that came to its end.
func (n *model) ended(r *modelRun, report Report, err error) {
	u := r.u
	if r.word != "check" {
		if err != nil || n.log != nil {
			n.trace("%s: %s manually: %s (%s) %v", u.name, r.word, report.Outcome, report.Reason, err)
		}
		return
	}
	u.open = report.Role == state.Releasing
	u.gave = u.gave && u.open
	u.released = u.released && r.verdict != check.Up
	if err != nil {
		n.fail("%s: a check could not be made: %v", u.name, err)
		return
	}
	again := r.began.Unix() == u.checked.Unix() // streaks advance once a second
	if r.quiet && !again {
		u.quiet++
	}
	soon := n.register != nil && r.began.Sub(u.checked) < modelEvery/2 // it lurks
	u.checked, u.outcome = r.began, report.Outcome
	if n.register == nil {
		n.rehearsed(r, report, again)
	}
	n.conflicts(r)
	if report.Outcome == state.Blocked && u.blocked {
		u.unmailed = "" // taken and given up again within one trouble
	}
	if n.log != nil {
		n.trace("%s: %s (%s)", u.name, report.Outcome, report.Reason)
	}

	// P1: two machines that can hear each other, both ways and without loss,
	// never both hold an address beyond one completed check of each that
	// began after they both held it and could hear each other. A check that removed
	// one address for a conflict leaves one where the other should yield to the next.
	for i, a := range n.units {
		for j, b := range n.units[:i] {
			for v, p := range n.pairs[i][j] {
				if r.began.Before(p.since) || a != u && b != u || r.gave {
					continue
				}
				p.done[0], p.done[1] = p.done[0] || a == u, p.done[1] || b == u
				if p.done[0] && p.done[1] {
					n.fail("P1: %s and %s both hold %s since %v, hear each other, and have made a check", a.name, b.name, v, p.since.Sub(n.t0))
					p.since = time.Now()
				}
				n.pairs[i][j][v] = p
			}
		}
	}

	// P3: while the primary is dead and a standby is well (on, not killed,
	// not paused, past its boot-wait, its witness answers without loss, its
	// tool works), it holds, or another that it can hear does, within three
	// checks that it begins and completes.
	if w := &u.watch; !w.since.IsZero() && !soon && !r.began.Before(w.since) && r.began.Sub(u.booted) >= u.set.BootWait {
		if w.checks++; w.checks == 3+n.patience && !n.lax {
			n.fail("P3: %s is well, nobody serves since %v, and it has made %d checks", u.name, w.since.Sub(n.t0), w.checks)
		}
	}
}

// rehearsed is P10: what a takeover needs and fails in three rehearsals in a row
// is an alert, with a message; and the alert resolves when it succeeds again.
func (n *model) rehearsed(r *modelRun, report Report, again bool) {
	u := r.u
	failing := report.Ready != nil && !*report.Ready
	if r.verdict != check.Up || len(report.Held) > 0 || r.gave || report.Outcome == state.Released {
		return // nothing was rehearsed, or it is not known
	}
	switch {
	case r.broken && again:
	case r.broken && u.notReady >= 0 && (u.notReady > 0 || u.rehearsals == 0):
		u.notReady++
		u.rehearsals++
	case !r.broken:
		u.notReady = 0
		u.rehearsals++
	}
	if u.notReady == inARow && !failing {
		n.fail("P10: %s's hooks could not be run in %d rehearsals, and no alert fires", u.name, inARow)
	}
	if failing && report.MailWaiting == 0 && !slices.ContainsFunc(u.mailbox, func(l state.Message) bool {
		return strings.Contains(l.MessageID, ".not-ready@") || strings.Contains(oneLine(l.Body), "the rehearsal of a takeover failed")
	}) {
		n.fail("P10: %s is not ready, and nobody was told", u.name)
	}
	switch {
	case !r.quiet || r.broken:
		u.ready = 0
	case !again:
		u.ready++
	}
	if u.ready > u.set.Rise && failing {
		n.fail("P10: %s was ready %d times, and its alert still fires", u.name, u.ready)
	}
}

// audit looks at what is left when all is quiet.
func (n *model) audit() {
	for _, u := range n.units {
		if u.set == nil {
			continue
		}
		dir := state.Dir(u.dir)
		unlock, err := dir.Lock("web")
		if err != nil {
			n.fail("%s: somebody left the lock: %v", u.name, err)
		} else {
			unlock()
		}
		rec, err := dir.Load("web", false)
		if err != nil {
			n.fail("%s: the record: %v", u.name, err)
			continue
		}
		n.told(u, rec)

		// P11: an address that nobody has in the end is not passed over: a check
		// that is well does not end with ok, or only until `rise` have been made.
		for _, v := range n.vips {
			if !n.lax && u.outcome == state.OK && u.quiet > u.set.Rise && !slices.ContainsFunc(n.units, func(o *unit) bool { return o.serves(v) }) {
				n.fail("P11: nobody has %s, and %s ends with ok", v, u.name)
			}
		}

		// After a quiet run the record says what the kernel shows.
		holds := slices.ContainsFunc(n.vips, u.holds)
		static := slices.ContainsFunc(n.vips, u.native)
		if !n.lax && !static && holds != (rec.Role == state.Active) || rec.Role == state.Taking || rec.Role == state.Releasing {
			n.fail("%s: holds %t, the record says %s", u.name, holds, rec.Role)
		}
		if len(rec.Outbox) > 0 {
			n.fail("%s: %d messages are left, and mail is delivered", u.name, len(rec.Outbox))
		}
	}
}

// told is P4: each change in the history has had its mail, at least once,
// when the mail server has been there for two further runs: a message with
// the change's event in its Message-ID or in the text, or it is gathered for
// the message that tells of many. And
// so has each switch that was made, whatever the history says, unless the
// machine lost power, or somebody undid it manually, before a message left. Of
// what is taken and given up again and again, only the first is told.
func (n *model) told(u *unit, rec *state.Record) {
	for _, c := range rec.Recent {
		if c.Kind == state.ChangeEntry && !slices.ContainsFunc(u.mailbox, func(l state.Message) bool {
			return strings.Contains(l.MessageID, c.Event) || strings.Contains(l.Body, c.Event) ||
				c.Outcome == state.Blocked && strings.Contains(oneLine(l.Body), oneLine(c.Reason)) ||
				c.Outcome == state.TakeoverFailed && strings.Contains(l.MessageID, ".takeover-failed@") // the alert still fires
		}) && !slices.ContainsFunc(rec.Damping.Suppressed, func(g state.Suppressed) bool { return g.Event == c.Event }) {
			n.fail("P4: nobody was told of %s's change %s (%s: %s)", u.name, c.Event, c.Outcome, c.Reason)
		}
	}
	if u.unmailed != "" && len(rec.Damping.Suppressed) == 0 {
		n.fail("P4: nobody was told of %s's switch: %s", u.name, u.unmailed)
	}
}

// switched and mailed keep count of the switches that messages have to tell of.
func (u *unit) switched(how string) { u.unmailed = how + " " + time.Since(u.n.t0).String() }

// eventID is in each message that tells of a change, be it among many.
var eventID = regexp.MustCompile(`\d{8}T\d{6}Z-[A-Z2-7]{8}`)

func (u *unit) mailed(l state.Message) {
	u.mailbox = append(u.mailbox, l)
	for _, kind := range []string{"took-over", "takeover-failed", "released", "release-failed", "blocked", "primary-back"} {
		if strings.Contains(l.MessageID, "."+kind+"@") || eventID.MatchString(l.Body) {
			u.unmailed = ""
			u.blocked = kind == "blocked"
		}
	}
}
