// Package notify informs the operator: which notifications are due, the
// messages, the outbox, and delivery.
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

// Kind is what a piece of news is about. Where a check's outcome is news, it
// has the outcome's word.
type Kind string

// The kinds of news.
const (
	TookOver       Kind = "took-over"
	TakeoverFailed Kind = "takeover-failed"
	Released       Kind = "released"
	ReleaseFailed  Kind = "release-failed"
	Blocked        Kind = "blocked"
	Down           Kind = "down"
	Unserved       Kind = "unserved"
	Unknown        Kind = "unknown"
	StateFailed    Kind = "state-failed"
	AliasGone      Kind = "alias-gone"   // what was raised here has gone, and not by us
	PrimaryBack    Kind = "primary-back" // the primary answers again while this machine holds
	NobodyTook     Kind = "nobody-took"  // a hand-over that nobody answered: raised here again
	HookFailed     Kind = "hook-failed"  // one that stops nothing: any but pre-takeover
	Recovered      Kind = "recovered"    // a trouble is over
	Flapping       Kind = "flapping"     // what went to and fro, many pieces of news in one
	MailDropped    Kind = "mail-dropped" // the outbox was full
)

// Cluster is whom the news is about and who is told.
type Cluster struct {
	Name      string
	Host      string // the primary, as configured
	VIPs      []netip.Prefix
	Interface string   // "" when there is not just one
	Hostname  string   // of this machine
	StateDir  string   // where commands by hand find the record; "" for where they look by themselves
	To        []string // mail addresses
}

// Notification is one thing to tell the operator.
type Notification struct {
	Kind       Kind
	Event      string // id of the change that it tells of; "" when nothing was switched
	Time       time.Time
	Reason     string // the decision's words
	Evidence   state.Evidence
	Held       []netip.Prefix     // on this machine now
	Missing    []netip.Prefix     // configured, and not where they should be: not raised, not answered for, released, or gone
	Undo       []string           // command lines that take off this machine what is held, or raise again what is gone
	Hook       string             // the name of the one that failed
	Unverified bool               // given up here, and whether anybody has taken it could not be asked
	Repeated   bool               // it repeats, for the first time: further repetitions are gathered
	Suppressed []state.Suppressed // what Flapping tells, oldest first
	// Trouble is what a letter about a trouble, its reminder or its end is
	// about; zero for a change.
	Alert state.Alert
}

// Compose writes the letter with the Message-ID <id@Hostname> that tells the
// news, of which there is at least one, the newest first. The first gives the
// subject.
func Compose(c Cluster, news []Notification, id, inReplyTo string) state.Message {
	var p page
	if len(news) > 1 {
		p.paragraph(fmt.Sprintf("This letter tells %d things, the newest first.", len(news)))
	}
	for i, n := range news {
		if len(news) > 1 {
			p.paragraph(fmt.Sprintf("---- %d of %d ----", i+1, len(news)))
		}
		said := Notification{}
		if i > 0 {
			said = news[i-1]
		}
		p.news(c.Host, tell(c, n), unsaid(n, said))
	}
	p.paragraph(signature(c))
	return state.Message{
		MessageID: messageID(id, c.Hostname),
		InReplyTo: inReplyTo,
		Time:      news[0].Time,
		To:        distinct(c.To),
		Subject:   subject(c, news[0]),
		Body:      p.String(),
	}
}

// subject is one line: first that the primary is down, where that is so, as
// the ping-failover script of old had it, then what was done.
func subject(c Cluster, n Notification) string {
	lead, what := alarm(c, n), tell(c, n).subject
	// A cluster defined by flags is named for its host: once is enough.
	if lead == "" || c.Name != c.Host {
		what = c.Name + ": " + what
	}
	return oneLine(lead+what, maxSubject)
}

// alarm is the first words of the subject of news that come from the primary
// being silent. Only evidence makes it say so: a takeover by hand, or one that
// a later run finished, proves nothing about the primary. A refused switch
// leaves open whether the primary or this machine is cut off.
func alarm(c Cluster, n Notification) string {
	rounds := n.Evidence.Rounds
	if len(rounds) == 0 || rounds[len(rounds)-1].Verdict != "down" {
		return ""
	}
	switch n.Kind {
	case TookOver, TakeoverFailed, Down, StateFailed:
		return c.Host + " is down! "
	case Blocked:
		return c.Host + " looks down! "
	}
	return ""
}

// unsaid is n without what the piece before it has said in the same words.
func unsaid(n, before Notification) Notification {
	if n.Reason == before.Reason {
		n.Reason = ""
	}
	if reflect.DeepEqual(n.Evidence, before.Evidence) {
		n.Evidence = state.Evidence{}
	}
	if slices.Equal(n.Undo, before.Undo) {
		n.Undo = nil
	}
	return n
}

// news writes one piece of news: what happened, when, the evidence, what to
// do now, and how to undo it.
func (p *page) news(host string, t words, n Notification) {
	p.paragraph(t.happened)
	if n.Repeated {
		p.paragraph("This is not the first time within an hour. What repeats from now on is gathered into one letter an hour; " +
			"what is new still comes at once.")
	}
	if n.Reason != "" && n.Kind != MailDropped {
		p.paragraph("Reason: " + n.Reason)
	}

	p.heading("When")
	for _, when := range clocks(n.Time) {
		p.item(when)
	}
	if since := n.Alert.Since; !since.IsZero() && since.Before(n.Time) {
		p.item(fmt.Sprintf("It began %s before, on %s.", span(n.Time.Sub(since)), utc(since)))
	}
	if n.Event != "" {
		p.item("In the history: " + n.Event)
	}

	p.gathered(n.Suppressed)
	p.seen(host, n.Evidence)
	p.done(n.Evidence.Commands)

	if t.todo != "" {
		p.heading("What to do now")
		p.wrap(t.todo, "  ", "  ")
	}
	if len(n.Undo) > 0 {
		p.heading(t.undo)
		if t.first != "" {
			p.verbatim("  ", t.first)
			p.wrap("or by hand", "", "")
		}
		for _, command := range n.Undo {
			p.verbatim("  ", command)
		}
	}
	p.gap()
}

// gathered writes the news that came while it went to and fro, the newest
// first.
func (p *page) gathered(notes []state.Suppressed) {
	if len(notes) == 0 {
		return
	}
	p.heading("What came, the newest first")
	for _, n := range slices.Backward(notes) {
		p.item(fmt.Sprintf("%s %s %s", utc(n.Time), n.Kind, n.Event))
		if n.Reason != "" {
			p.wrap(n.Reason, "    ", "    ")
		}
	}
}

// seen writes what the rounds, the witnesses and the link showed.
func (p *page) seen(host string, e state.Evidence) {
	if len(e.Rounds)+len(e.Witnesses)+len(e.Holders) == 0 {
		return
	}
	p.heading("What was seen")
	pinged := host
	if e.Address != "" && e.Address != host {
		pinged = fmt.Sprintf("%s (%s)", host, e.Address)
	}
	for i, r := range e.Rounds {
		p.item(fmt.Sprintf("ping %s, round %d: %s", pinged, i+1, round(r)))
	}
	for _, w := range e.Witnesses {
		p.item(fmt.Sprintf("witness %s: %s", w.Address, witness(w)))
	}
	for _, h := range e.Holders {
		if h.MAC == "" {
			p.item(h.Address + " answers ping (no MAC seen)")
		} else {
			p.item(fmt.Sprintf("%s is answered for by %s", h.Address, h.MAC))
		}
	}
}

// round says what came of one series of pings.
func round(r state.Round) string {
	s := fmt.Sprintf("%s, %d sent, %d answered", r.Verdict, r.Sent, r.Received)
	if r.RTT != nil {
		s += fmt.Sprintf(" after %.1f ms", *r.RTT)
	}
	if r.Error != nil {
		s += ": " + *r.Error
	}
	return s
}

func witness(w state.Witness) string {
	if !w.Answers {
		return "silent"
	}
	if w.By == nil {
		return "answers"
	}
	return fmt.Sprintf("answers (%s)", *w.By)
}

// done writes the commands that were run, as they can be run again by hand.
func (p *page) done(commands []state.Command) {
	if len(commands) == 0 {
		return
	}
	p.heading("What was done")
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

// clocks are t as the clock on the wall and as UTC say it.
func clocks(t time.Time) []string {
	local := t.Local()
	if _, offset := local.Zone(); offset == 0 {
		return []string{utc(t)}
	}
	return []string{local.Format("2006-01-02 15:04:05 -0700 MST"), utc(t)}
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span is a length of time as people say it: no seconds from a minute on.
func span(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	s := strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	if strings.HasSuffix(s, "h0m") {
		return strings.TrimSuffix(s, "0m")
	}
	return s
}

// signature says who wrote, for a reader with many clusters.
func signature(c Cluster) string {
	s := fmt.Sprintf("pingover on %s, cluster %s: primary %s", c.Hostname, c.Name, c.Host)
	if len(c.VIPs) > 0 {
		var vips []string
		for _, v := range c.VIPs {
			vips = append(vips, v.String())
		}
		s += ", virtual " + pick(len(vips), "IP ", "IPs ") + strings.Join(vips, " ")
	}
	if c.Interface != "" {
		s += ", interface " + c.Interface
	}
	return s
}

// messageID is <id@host> with only such characters as need no quoting
// (RFC 5322, dot-atom).
func messageID(id, host string) string {
	clean := func(s, otherwise string) string {
		return cmp.Or(strings.Trim(strings.Map(func(r rune) rune {
			if plainWord(r) {
				return r
			}
			return '-'
		}, s), ".-"), otherwise)
	}
	return fmt.Sprintf("<%s@%s>", clean(id, "letter"), clean(host, "localhost"))
}

// distinct is the list without repetitions: nobody gets a letter twice.
func distinct(list []string) []string {
	var once []string
	for _, s := range list {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}
