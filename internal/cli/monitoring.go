package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pingover/internal/exit"
	"pingover/internal/term"
	"pingover/notify"
	"pingover/state"
)

// Exit codes of status --monitoring: those of Nagios plugins.
const (
	monitorOK = iota
	monitorWarning
	monitorCritical
	monitorUnknown
)

// monitoring is a line with the count, the worst and performance data, a further
// line for each cluster that is not ok, and the exit code.
func monitoring(all []status) (text string, code int) {
	var said, data []string
	well, first := 0, ""
	for _, s := range all {
		code = worseToMonitor(code, s.monitorCode())
		if s.monitorCode() == monitorOK {
			well++
		}
		prefix := ""
		if len(all) > 1 {
			prefix = s.Cluster + "_"
		}
		data = append(data, s.perfdata(prefix)...)
	}
	switch {
	case well == len(all) && well > 1:
		said = append(said, tally(tasksOf(all))+" ok")
	case well == len(all):
		said = append(said, all[0].monitorText())
	default:
		for _, c := range []int{monitorCritical, monitorUnknown, monitorWarning} {
			for _, s := range all {
				if s.monitorCode() == c {
					said = append(said, s.monitorText())
				}
			}
		}
		first = said[0]
		if len(all) > 1 {
			first = fmt.Sprintf("%d of %s not ok, the worst: %s", len(said), tally(tasksOf(all)), said[0])
		}
	}
	if first == "" {
		first, said = said[0], nil
	}
	text = monitoringLine(code, first, data...)
	if len(all) > 1 {
		for _, line := range said {
			text += withoutBar(line) + "\n"
		}
	}
	return text, code
}

// withoutBar is text in which no bar is taken for the beginning of data.
func withoutBar(text string) string { return strings.ReplaceAll(term.Printable(text), "|", "/") }

// monitoringLine is the line for a code. The bar separates the data.
func monitoringLine(code int, text string, data ...string) string {
	line := "PINGOVER " + []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code] + " - " + withoutBar(text)
	if len(data) > 0 {
		line += " | " + strings.Join(data, " ")
	}
	return line + "\n"
}

func worseToMonitor(a, b int) int {
	return exit.First(a, b, monitorCritical, monitorUnknown, monitorWarning, monitorOK)
}

// monitorCode is the worst code that applies to the cluster.
func (s status) monitorCode() int {
	code := monitorUnknown
	if s.head != nil && s.Last != nil {
		code = monitorCodeOf(s.Last.Outcome)
	}
	if s.Error != nil || s.ConfigError != nil || orZero(s.Overdue) {
		code = worseToMonitor(code, monitorUnknown)
	}
	if s.unset || len(s.LeftBehind) > 0 || s.MetricsError != nil || orZero(s.Paused) || orZero(s.MailWaiting) > 0 || s.members().drained > 0 || s.members().published < s.members().all {
		code = worseToMonitor(code, monitorWarning)
	}
	if slices.ContainsFunc(s.Alerts, func(a notify.FiringAlert) bool {
		return slices.Contains([]notify.Kind{notify.Certificate, notify.NotUsed, notify.LeftRecords}, notify.Kind(a.Kind))
	}) {
		code = worseToMonitor(code, monitorWarning)
	}
	if slices.ContainsFunc(s.Alerts, func(a notify.FiringAlert) bool {
		return slices.Contains([]notify.Kind{notify.NotReady, notify.Isolated, notify.NoArbiter, notify.ServiceDown, notify.HookFailed}, notify.Kind(a.Kind))
	}) {
		code = worseToMonitor(code, monitorCritical)
	}
	return code
}

func monitorCodeOf(o state.Outcome) int {
	switch o {
	case state.OK:
		return monitorOK
	case state.Holding, state.TookOver, state.Released, state.Elsewhere, state.Reduced, state.Removed, state.Restored:
		return monitorWarning
	case state.Unknown:
		return monitorUnknown
	}
	return monitorCritical
}

func (s status) monitorText() string {
	said := strings.Join(s.remarks(), ", ")
	if s.Last != nil {
		said = string(s.Last.Outcome) + after(s.Last.Outcome, said)
	}
	return s.Cluster + ": " + said
}

// perfdata is the performance data; U stands for an unknown value.
func (s status) perfdata(prefix string) []string {
	values := []struct{ name, value, unit string }{
		{"rtt", "U", "ms"}, {"loss", "U", "%"}, {"held", "U", ""}, {"age", "U", "s"}, {"mail", "U", ""},
	}
	set := func(i int, value float64) { values[i].value = strconv.FormatFloat(value, 'f', -1, 64) }
	if s.task.Kind == state.OfPool {
		values[0].name, values[1].name, values[2].name = "members", "published", "drained"
		values[0].unit, values[1].unit = "", ""
	}
	switch {
	case s.pool != nil:
		n := s.members()
		set(0, float64(n.all))
		set(1, float64(n.published))
		set(2, float64(n.drained))
	case s.record != nil && s.record.Last != nil:
		last := s.record.Last
		if last.RTT != nil {
			set(0, *last.RTT)
		}
		if last.Sent > 0 {
			set(1, float64(100*(last.Sent-last.Received)/last.Sent))
		}
	}
	if s.head != nil {
		set(4, float64(*s.MailWaiting))
		if s.Last != nil {
			set(3, float64(s.Last.Age))
		}
	}
	if s.Held != nil {
		set(2, float64(len(s.Held)))
	}
	var data []string
	for _, v := range values {
		if v.value == "U" {
			v.unit = ""
		}
		data = append(data, prefix+v.name+"="+v.value+v.unit)
	}
	return data
}
