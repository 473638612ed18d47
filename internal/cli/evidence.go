package cli

import (
	"fmt"
	"strings"

	"pingover/internal/balance"
	"pingover/internal/exit"
	"pingover/internal/observe"
	"pingover/notify"
	"pingover/state"
)

// decided shows a decision; rule 0 is that of a manual operation.
func (p printer) decided(o state.Outcome, rule int) {
	by := ""
	if rule != 0 {
		by = fmt.Sprintf(", by rule %d", rule)
	}
	p.infof("decision: %s%s", o, by)
}

// updated shows an update that was made, or tried.
func (p printer) updated(e balance.Updated) {
	switch {
	case e.DryRun: // printed at the end
		return
	case e.Error != nil:
		p.infof("the update failed: %v", e.Error)
	default:
		p.infof("updated, as input of nsupdate:")
	}
	p.script(e.Update.Script)
}

// alert shows in a watch, and in syslog, that an alert fires or has resolved. One
// about an outcome is in the line that the check ends with.
func (p printer) alert(a notify.AlertChange) {
	if exit.IsOutcome(a.Kind) {
		return
	}
	level, text := warningLevel, fmt.Sprintf("alert %s: %s", a.Kind, a.Reason)
	if a.Resolved {
		level, text = noticeLevel, fmt.Sprintf("alert %s resolved: %s", a.Kind, a.Reason)
	}
	p.logf(level, "%s", text)
	if p.memory != nil && p.fresh(text) {
		errorf(p.at(level), "%s: %s", p.cluster, text)
	} else {
		p.infof("%s", text)
	}
}

// script shows the input of nsupdate.
func (p printer) script(text string) {
	if !p.verbose {
		return
	}
	for line := range strings.Lines(text) {
		errorf(p.out, "%s:   %s", p.cluster, strings.TrimSpace(line))
	}
}

// roundOf is what a round found, with the address where the host has several.
func roundOf(r state.Round, several bool) string {
	if several {
		return r.Address + " " + roundText(r)
	}
	return roundText(r)
}

func roundText(r state.Round) string {
	switch {
	case r.Error != nil:
		return r.Verdict + ": " + *r.Error
	case r.Received == 0:
		return fmt.Sprintf("%s: no reply to %s", r.Verdict, count(r.Sent, "ping"))
	}
	return r.Verdict
}

// answerText is what a service said.
func answerText(a state.ServiceAnswer) string {
	if a.Reason == "" {
		return fmt.Sprintf("service %s at %s: %s", a.Service, a.Address, a.Health)
	}
	return fmt.Sprintf("service %s at %s: %s: %s", a.Service, a.Address, a.Health, a.Reason)
}

func (p printer) guarded(e observe.Guarded) {
	for _, w := range e.Witnesses {
		p.infof("%s", witnessText(w))
	}
	for _, h := range e.Holders {
		p.infof("%s", holderText(h, e.Primary))
	}
	switch {
	case e.Fault != "":
		p.infof("incomplete: %s", e.Fault)
	case len(e.Holders) == 0:
		p.infof("no machine replies at the address of the primary or at a virtual IP")
	}
}

func witnessText(w state.Witness) string {
	switch {
	case !w.Answers:
		return fmt.Sprintf("witness %s does not reply", w.Address)
	case w.By != nil:
		return fmt.Sprintf("witness %s replies (%s)", w.Address, *w.By)
	}
	return fmt.Sprintf("witness %s replies", w.Address)
}

// holderText names an address that is in use, by the primary or another
// machine.
func holderText(h, primary state.Holder) string {
	switch {
	case h.MAC == "":
		return h.Address + " is in use"
	case h.Address == primary.Address:
		return fmt.Sprintf("primary %s is at %s", h.Address, h.MAC)
	case h.MAC == primary.MAC:
		return fmt.Sprintf("%s is in use by the primary, %s", h.Address, h.MAC)
	}
	return fmt.Sprintf("%s is in use by %s", h.Address, h.MAC)
}
