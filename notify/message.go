// Package notify tells the operator: which notifications are due, the text of
// the message, the outbox, and its delivery by sendmail or SMTP.
package notify

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"pingover/internal/proc"
	"pingover/state"
)

// Kind is what a notification is about. Where it is a check's outcome, it has
// the outcome's word.
type Kind string

// The kinds of notifications.
const (
	TookOver       Kind = "took-over"
	TakeoverFailed Kind = "takeover-failed"
	Released       Kind = "released"
	ReleaseFailed  Kind = "release-failed"
	Blocked        Kind = "blocked"
	Elsewhere      Kind = "elsewhere"
	Down           Kind = "down"
	Unserved       Kind = "unserved"
	Unknown        Kind = "unknown"
	StateFailed    Kind = "state-failed"
	AliasGone      Kind = "alias-gone"    // an alias that pingover added was removed, not by pingover
	PrimaryBack    Kind = "primary-back"  // the primary replies again while this machine holds
	NobodyTook     Kind = "nobody-took"   // handed over, not taken, assigned here again
	HookFailed     Kind = "hook-failed"   // any hook but pre-takeover
	NotReady       Kind = "not-ready"     // the rehearsal of a takeover fails
	Isolated       Kind = "isolated"      // holding, but no witness replies and no conflict can be seen
	NoArbiter      Kind = "no-arbiter"    // holding, but the arbiter does not answer
	Unconfigured   Kind = "unconfigured"  // holding, but the cluster has left the file
	NotUsed        Kind = "not-used"      // a program or credentials file that the settings name, and that is left out
	LockHeld       Kind = "lock-held"     // another run holds the lock for longer than a run can take
	Recovered      Kind = "recovered"     // an alert has resolved
	Flapping       Kind = "flapping"      // the suppressed notifications together
	MailDropped    Kind = "mail-dropped"  // the outbox was full
	FileUnusable   Kind = "file-unusable" // the configuration file has errors, or is gone

	// Of pools, beside Blocked, Unknown, StateFailed and LockHeld.
	Removed      Kind = "removed"       // members taken out of DNS
	Restored     Kind = "restored"      // members put back into DNS
	UpdateFailed Kind = "update-failed" // the name server did not make the change
	LeftRecords  Kind = "left-records"  // published, but no longer members or no longer a pool
)

// Cluster is what the notification is about, and its recipients.
type Cluster struct {
	Name       string
	Host       string // the primary, as configured
	PrimaryMAC string // last seen while it replied; "" not known
	VIPs       []netip.Prefix
	Interface  string   // "" when there is not just one
	Hostname   string   // of this machine
	StateDir   string   // for the commands in the text; "" where it is the default
	To         []string // mail addresses
	Command    bool     // there is a notify command
	// Of a pool, whose Host is the name that clients use.
	Server string   // that takes the updates; "" of a cluster
	Now    []string // what is published now
}

// silent tells that there is no recipient.
func (c Cluster) silent() bool { return len(c.To) == 0 && !c.Command }

// Notification is one event to tell the operator.
type Notification struct {
	Kind        Kind
	Outcome     state.Outcome // of the run; "" where it had none
	Cause       state.Cause   // of the run's decision, where there is advice about it
	Manual      bool          // the change was made manually
	Event       string        // id of the change in the history; "" when nothing was switched
	Time        time.Time
	Reason      string // the decision's words
	Evidence    state.Evidence
	Held        []netip.Prefix     // on this machine now
	Missing     []netip.Prefix     // not where they should be: not added, unassigned, released, or gone
	Undo        []string           // command lines that remove what is held, or add again what is gone
	Hook        string             // name of the one that failed
	NeverUp     bool               // the primary has never replied to this machine
	Unreached   []netip.Prefix     // held, and no witness replies to them
	Unverified  bool               // removed here, and it could not be asked whether another machine has it
	Interrupted bool               // the run that began the takeover was killed
	Repeated    bool               // the first repetition: later ones are suppressed
	Suppressed  []state.Suppressed // of Flapping, oldest first
	File        string             // of FileUnusable, with its errors
	Errors      []string
	Valid       time.Time // when it was valid last; zero: never
	// Alert is the alert that fires, is repeated as a reminder, or has resolved;
	// zero for a change.
	Alert state.Alert
}

// Compose writes the message with the Message-ID <id@Hostname> about the
// notifications, at least one, the newest first. The first gives the subject.
func Compose(c Cluster, all []Notification, id, inReplyTo string) state.Message {
	var p page
	if len(all) > 1 {
		p.paragraph(fmt.Sprintf("This message reports %d events, the newest first.", len(all)))
	}
	for i, n := range all {
		if len(all) > 1 {
			p.paragraph(fmt.Sprintf("---- %d of %d ----", i+1, len(all)))
		}
		previous := Notification{}
		if i > 0 {
			previous = all[i-1]
		}
		p.notification(c, wordsFor(c, n), withoutRepetition(n, previous))
	}
	p.paragraph(signature(c))
	first := all[0]
	return state.Message{
		MessageID: messageID(id, c.Hostname),
		InReplyTo: inReplyTo,
		Time:      first.Time,
		To:        distinct(c.To),
		Subject:   subject(c, first),
		Body:      p.String(),
		Cluster:   c.Name,
		Outcome:   cmp.Or(string(first.Outcome), string(first.Kind)),
		Kind:      string(first.Kind),
	}
}

// subject is one line: tag, cluster, PROBLEM or RESOLVED, that the primary is
// down where this is so (the words of the classic ping-failover script), and
// what was done. The most important is in its first 60 characters.
func subject(c Cluster, n Notification) string {
	state := ""
	switch n.Kind {
	case TookOver, Released, PrimaryBack, Elsewhere, Removed, Restored:
	case Recovered:
		state = "RESOLVED: "
	default:
		state = "PROBLEM: "
	}
	return tagged(c, state+alarm(c, n)+wordsFor(c, n).subject)
}

// tagged is a subject with pingover and the cluster in front. A cluster
// defined by flags is named for its host: once is enough.
func tagged(c Cluster, text string) string {
	if c.Name != c.Host || !strings.HasPrefix(text, c.Host+" ") {
		text = c.Name + ": " + text
	}
	return oneLine("[pingover] "+text, maxSubject)
}

// alarm begins the subject when the primary is silent. Only evidence makes it
// say so: a manual takeover, or one that a later run finished, proves nothing
// about the primary. A blocked takeover leaves open whether the primary is
// down or this machine is isolated.
func alarm(c Cluster, n Notification) string {
	rounds := n.Evidence.Rounds
	if c.isPool() { // its own words name the member
		return ""
	}
	if n.Interrupted || len(rounds) == 0 || rounds[len(rounds)-1].Verdict != "down" {
		return ""
	}
	switch n.Kind {
	case TookOver, TakeoverFailed, Down, Elsewhere, StateFailed:
		return c.Host + " is down! "
	case Blocked:
		return c.Host + " looks down! "
	}
	return ""
}

// withoutRepetition is n without what the previous one has in the same words.
func withoutRepetition(n, previous Notification) Notification {
	if n.Reason == previous.Reason {
		n.Reason = ""
	}
	if reflect.DeepEqual(n.Evidence, previous.Evidence) {
		n.Evidence = state.Evidence{}
	}
	if slices.Equal(n.Undo, previous.Undo) {
		n.Undo = nil
	}
	return n
}

// notification writes what happened, when, the evidence, what to do now, and
// how to undo it.
func (p *page) notification(c Cluster, w words, n Notification) {
	p.paragraph(w.happened)
	if n.Repeated {
		p.paragraph("This has happened before within an hour. Further repetitions are suppressed and mailed together once an hour; " +
			"anything new is still mailed at once.")
	}
	if n.Reason != "" && n.Kind != MailDropped {
		p.paragraph("Reason: " + n.Reason)
	}

	p.heading("When")
	for _, when := range clocks(n.Time) {
		p.item(when)
	}
	if since := n.Alert.Since; !since.IsZero() && since.Before(n.Time) {
		p.item(fmt.Sprintf("It began %s earlier, at %s.", span(n.Time.Sub(since)), utc(since)))
	}
	if n.Event != "" {
		p.item("ID in the history: " + n.Event)
	}

	p.suppressed(n.Suppressed)
	if len(n.Errors) > 0 {
		p.heading("Errors")
		for _, text := range n.Errors {
			p.item(text)
		}
	}
	p.evidence(c, n.Evidence)
	p.commands(n.Evidence.Commands)
	p.update(n.Evidence.Update)

	if w.todo != "" {
		p.heading("What to do now")
		p.wrap(w.todo, "  ", "  ")
	}
	if len(n.Undo) > 0 {
		p.heading(w.undo)
		if w.first != "" {
			p.verbatim("  ", w.first)
			p.wrap("or without pingover", "", "")
		}
		for _, command := range n.Undo {
			p.verbatim("  ", command)
		}
	}
	p.gap()
}

// suppressed writes what flap damping has suppressed, the newest first.
func (p *page) suppressed(all []state.Suppressed) {
	if len(all) == 0 {
		return
	}
	p.heading("Suppressed until now, the newest first")
	for _, n := range slices.Backward(all) {
		p.item(fmt.Sprintf("%s %s %s", utc(n.Time), n.Kind, n.Event))
		if n.Reason != "" {
			p.wrap(n.Reason, "    ", "    ")
		}
	}
}

// evidence writes what the rounds, the witnesses and ARP or ND showed.
func (p *page) evidence(c Cluster, e state.Evidence) {
	if len(e.Rounds)+len(e.Witnesses)+len(e.Answers)+len(e.Holders) == 0 {
		return
	}
	p.heading("Evidence")
	pinged := c.Host
	if e.Address != "" && e.Address != c.Host {
		pinged = fmt.Sprintf("%s (%s)", c.Host, e.Address)
	}
	for i, r := range e.Rounds {
		if e.Several() || c.isPool() {
			pinged = r.Address
		}
		p.item(fmt.Sprintf("ping %s, round %d: %s", pinged, cmp.Or(r.Number, i+1), round(r)))
	}
	for _, w := range e.Witnesses {
		p.item(fmt.Sprintf("witness %s: %s", w.Address, witness(w)))
	}
	p.answers(e.Answers)
	for _, h := range e.Holders {
		if h.MAC == "" {
			p.item(h.Address + " replies to ping (MAC not known)")
		} else {
			p.item(fmt.Sprintf("%s is at %s%s", h.Address, h.MAC, whose(c, e, h)))
		}
	}
}

// whose says whether a MAC is the primary's.
func whose(c Cluster, e state.Evidence, h state.Holder) string {
	switch {
	case h.MAC == "" || h.Address == c.Host || h.Address == e.Address:
		return ""
	case h.MAC == primaryMAC(c, e):
		return ", the primary"
	}
	return ""
}

// primaryMAC is the MAC at which the primary itself was seen; "" not known.
func primaryMAC(c Cluster, e state.Evidence) string {
	for _, h := range e.Holders {
		if h.MAC != "" && (h.Address == c.Host || h.Address == e.Address) {
			return h.MAC
		}
	}
	return c.PrimaryMAC
}

// round is the result of one series of pings.
func round(r state.Round) string {
	s := fmt.Sprintf("%s, %d sent, %d received", r.Verdict, r.Sent, r.Received)
	if r.RTT != nil {
		s += fmt.Sprintf(", %.1f ms", *r.RTT)
	}
	if r.Error != nil {
		s += ": " + *r.Error
	}
	return s
}

func witness(w state.Witness) string {
	if !w.Answers {
		return "no reply"
	}
	if w.By == nil {
		return "replies"
	}
	return fmt.Sprintf("replies (%s)", *w.By)
}

// commands writes the commands that were run, ready to be pasted.
func (p *page) commands(commands []state.Command) {
	if len(commands) == 0 {
		return
	}
	p.heading("Commands")
	for _, command := range commands {
		p.verbatim("  ", proc.Line(command.Argv))
		switch {
		case command.Code == nil:
			p.verbatim("    ", "not run")
		case *command.Code < 0:
			p.verbatim("    ", "did not end by itself")
		default:
			p.verbatim("    ", fmt.Sprintf("exit code %d", *command.Code))
		}
		if command.Output != "" {
			for line := range strings.Lines(command.Output) {
				p.verbatim("    | ", line)
			}
		}
	}
}
