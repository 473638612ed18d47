package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"pingover/state"
)

// maxBodies is of how many clusters a combined message has the whole text.
const maxBodies = 20

// Combine is one message instead of those of several clusters of one primary,
// which have the same recipients. Its Message-ID is that of the first by name, so
// that it is the same when the same messages are combined again.
func Combine(host string, all []state.Message) state.Message {
	all = slices.SortedFunc(slices.Values(all), func(a, b state.Message) int { return cmp.Compare(a.Cluster, b.Cluster) })
	combined := all[0]
	var names, outcomes []string
	by := map[string][]string{} // names by outcome
	for _, m := range all {
		names = append(names, m.Cluster)
		outcomes = append(outcomes, m.Outcome)
		by[m.Outcome] = append(by[m.Outcome], m.Cluster)
	}
	outcomes = distinct(outcomes)
	var counted, listed []string
	for _, o := range outcomes {
		counted = append(counted, fmt.Sprintf("%d %s", len(by[o]), o))
		listed = append(listed, o+": "+strings.Join(by[o], ", "))
	}
	has := func(text string) bool {
		return slices.ContainsFunc(all, func(m state.Message) bool { return strings.Contains(m.Subject, text) })
	}
	what := ""
	switch {
	case has(": PROBLEM: "):
		what = "PROBLEM: "
	case !slices.ContainsFunc(all, func(m state.Message) bool { return !strings.Contains(m.Subject, ": RESOLVED: ") }):
		what = "RESOLVED: "
	}
	clusters := fmt.Sprintf("%d clusters of %s", len(all), host)
	if down := host + " is down! "; has(down) {
		what, clusters = what+down, fmt.Sprintf("%d clusters", len(all))
	}
	combined.Subject = oneLine(fmt.Sprintf("[pingover] %s%s: %s", what, clusters, strings.Join(counted, ", ")), maxSubject)
	combined.Cluster = oneLine(strings.Join(names, ", "), maxSubject)
	combined.Outcome = strings.Join(outcomes, ", ")

	var p page
	p.paragraph(fmt.Sprintf("This message is about %d clusters of %s.", len(all), host))
	for _, line := range listed {
		p.item(line)
	}
	for i, m := range all {
		p.gap()
		p.paragraph(fmt.Sprintf("==== %s ====", m.Cluster))
		p.paragraph(m.Subject)
		if i < maxBodies {
			p.b.WriteString(m.Body)
		}
	}
	if len(all) > maxBodies {
		p.gap()
		p.paragraph("The details of the others are in the history: \"pingover history NAME\".")
	}
	combined.Body = p.String()
	return combined
}
