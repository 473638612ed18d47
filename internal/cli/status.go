package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
	"pingover/vip"
)

// status is the command. It locks and writes nothing.
func (p Program) status(c *cli.Context) (int, error) {
	if c.Bool("json") && c.Bool("monitoring") {
		return 0, usageError{"--json and --monitoring exclude each other", ""}
	}
	clusters, err := p.observed(c)
	_, none := errors.AsType[noneKnown](err)
	_, wrong := errors.AsType[config.Problems](err)
	_, refused := errors.AsType[*failover.Error](err)
	switch {
	case (none || wrong || refused) && c.Bool("monitoring"):
		p.print(monitoringLine(monitorUnknown, err.Error()))
		return monitorUnknown, nil
	case err != nil:
		return 0, err
	}
	all := survey(clusters, time.Now(), nil)
	switch {
	case c.Bool("monitoring"):
		text, code := monitoring(all)
		p.print(text)
		return code, nil
	case c.Bool("json"):
		for _, s := range all {
			p.print(jsonLine(s))
		}
	default:
		p.print(statusTable(all))
	}
	if slices.ContainsFunc(all, func(s status) bool { return s.Error != nil }) {
		return state.Unknown.Code(), nil
	}
	return 0, nil
}

// status is what is known of a cluster without checking it: the object that
// status --json prints. All keys are always there; what cannot be known because
// of Error is null.
type status struct {
	Version     int            `json:"version"` // of this object: 1
	Cluster     string         `json:"cluster"`
	Host        string         `json:"host"`
	VIPs        []netip.Prefix `json:"vips"`
	Interface   string         `json:"interface"`
	Role        *state.Role    `json:"role"`
	Held        []netip.Prefix `json:"held"` // on this machine now, by the kernel
	Since       *time.Time     `json:"since"`
	Paused      bool           `json:"paused"`
	PausedUntil *time.Time     `json:"paused_until"`
	Last        *lastCheck     `json:"last"` // null where there was none
	Overdue     bool           `json:"overdue"`
	HookOwed    *string        `json:"hook_owed"`
	MailWaiting int            `json:"mail_waiting"`
	MailError   *string        `json:"mail_error"`
	Error       *string        `json:"error"` // why not all of this is known

	record *state.Record // nil where it cannot be read
	now    time.Time
}

// lastCheck is the newest check of a cluster.
type lastCheck struct {
	Time    time.Time     `json:"time"`
	Outcome state.Outcome `json:"outcome"`
	Code    int           `json:"code"`
	Reason  string        `json:"reason"`
	Age     int           `json:"age_s"`
}

// survey is the status of each cluster. Made are checks that were made just
// now, by cluster, which the record may have been unable to take.
func survey(clusters []config.Cluster, now time.Time, made map[string]state.Check) []status {
	kernel, err := vip.Look()
	all := make([]status, len(clusters))
	for i, c := range clusters {
		rec, broken := state.Dir(c.StateDir).Load(c.Name, false)
		if broken != nil {
			rec = nil
		} else if check, ok := made[c.Name]; ok && (rec.Last == nil || !rec.Last.Time.After(check.Time)) {
			rec.Last = &check
		}
		all[i] = statusOf(c, rec, now)
		all[i].fault(broken)
		all[i].pause(state.Dir(c.StateDir).PausedUntil(c.Name))
		all[i].hold(kernel, err)
	}
	return all
}

// statusOf is what a cluster's settings and its record say of it. Where only
// the name is set, the record says the rest; rec is nil where there is none to
// be had.
func statusOf(c config.Cluster, rec *state.Record, now time.Time) status {
	s := status{Version: 1, Cluster: c.Name, Host: c.Host, Interface: c.Interface, now: now}
	if c.Host != "" {
		s.VIPs = []netip.Prefix{}
		for _, v := range c.VIPs {
			s.VIPs = append(s.VIPs, v.Prefix)
		}
	}
	switch {
	case rec == nil:
		return s
	case c.Host == "":
		s.Host, s.VIPs = rec.Host, []netip.Prefix{}
		for _, a := range rec.VIPs {
			s.VIPs = append(s.VIPs, a.Prefix)
		}
	case rec.Host != "" && rec.Host != c.Host:
		s.fault(fmt.Errorf("the record is of host %q", rec.Host))
		return s
	}
	s.record = rec
	s.Role, s.Interface = &rec.Role, cmp.Or(rec.Interface, c.Interface)
	s.MailWaiting, s.MailError = len(rec.Outbox), rec.MailError
	s.Since = utc(rec.Since)
	if rec.Owed != nil {
		s.HookOwed = &rec.Owed.Hook
	}
	if last := rec.Last; last != nil {
		age := max(0, now.Sub(last.Time))
		s.Last = &lastCheck{*utc(last.Time), last.Outcome, last.Code, last.Reason, int(age.Seconds())}
		s.Overdue = age > max(soonestOverdue, 3*rec.Gap.Duration())
	}
	return s
}

// soonestOverdue is how old the last check may be, however often there was one
// before.
const soonestOverdue = 3 * time.Minute

// fault adds to what could not be found out.
func (s *status) fault(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if s.Error != nil {
		text = *s.Error + "; " + text
	}
	s.Error = &text
}

// pause notes the cluster's pause. One that may not be read shows its end.
func (s *status) pause(until time.Time, err error) {
	if err != nil && until.IsZero() {
		s.fault(err)
		return
	}
	if s.Paused = s.now.Before(until); s.Paused {
		s.PausedUntil = utc(until)
	}
}

// hold notes which virtual IPs are on this machine, those too that were raised
// by us and are no longer a setting.
func (s *status) hold(kernel *vip.Kernel, err error) {
	s.fault(err)
	if err != nil || s.VIPs == nil {
		return
	}
	addresses := slices.Clone(s.VIPs)
	if s.record != nil {
		for _, a := range s.record.VIPs {
			if a.Raised && !slices.Contains(addresses, a.Prefix) {
				addresses = append(addresses, a.Prefix)
			}
		}
	}
	s.Held = []netip.Prefix{}
	for _, a := range addresses {
		if places := kernel.Places(a.Addr()); len(places) > 0 {
			s.Held = append(s.Held, places[0].Address.Prefix)
		}
	}
}

// utc is t as JSON shows it, nil for no time.
func utc(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// remarks are what an operator should know of the cluster, in sentences, the
// worst first; none when all is well.
func (s status) remarks() []string {
	var remarks []string
	add := func(format string, args ...any) { remarks = append(remarks, fmt.Sprintf(format, args...)) }
	if s.Error != nil {
		add("%s", *s.Error)
	}
	switch {
	case s.record == nil:
	case s.Last == nil:
		add("never checked: is cron running?")
	case s.Last.Outcome != state.OK:
		add("%s", s.Last.Reason)
	}
	if s.Overdue {
		add("the last check was %s ago: is cron running?", s.age())
	}
	if len(s.Held) > 0 {
		add("held here: %s", prefixes(s.Held))
	}
	if missing := s.missing(); len(missing) > 0 {
		add("not here: %s", prefixes(missing))
	}
	if s.Paused {
		add("paused until %s", clock(s.PausedUntil.In(s.now.Location())))
	}
	switch {
	case s.MailWaiting > 0 && s.MailError != nil:
		add("%s waiting: %s", count(s.MailWaiting, "letter"), *s.MailError)
	case s.MailWaiting > 0:
		add("%s waiting", count(s.MailWaiting, "letter"))
	}
	if s.HookOwed != nil {
		add("%s has yet to run", *s.HookOwed)
	}
	return remarks
}

// missing are the virtual IPs that should be here by the record, and are not.
func (s status) missing() []netip.Prefix {
	if s.Role == nil || *s.Role != state.Active || s.Held == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.VIPs), func(set netip.Prefix) bool {
		return slices.ContainsFunc(s.Held, func(held netip.Prefix) bool { return held.Addr() == set.Addr() })
	})
}

func prefixes(list []netip.Prefix) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

// age is how long ago the last check was, in the unit that says enough.
func (s status) age() string {
	switch n := s.Last.Age; {
	case n < 120:
		return fmt.Sprintf("%ds", n)
	case n < 2*60*60:
		return fmt.Sprintf("%dm", n/60)
	case n < 2*24*60*60:
		return fmt.Sprintf("%dh", n/(60*60))
	default:
		return fmt.Sprintf("%dd", n/(24*60*60))
	}
}

// clock is a time as history and status name it.
func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05 -0700") }

// statusTable shows people one line for each cluster, and below it what is not
// as it should be.
func statusTable(all []status) string {
	rows := [][]string{{"CLUSTER", "HOST", "ROLE", "HELD", "SINCE", "LAST CHECK"}}
	for _, s := range all {
		rows = append(rows, s.row())
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for i, row := range rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if i > 0 {
			for _, remark := range all[i-1].remarks() {
				twoColumns(&b, remarkIndent, "", oneLine(remark))
			}
		}
	}
	return b.String()
}

const remarkIndent = 4

// row is the cluster's line of the table.
func (s status) row() []string {
	row := []string{s.Cluster, cmp.Or(oneLine(s.Host), "-"), "-", "-", "-", "never"}
	if s.Role != nil {
		row[2] = string(*s.Role)
	}
	switch {
	case s.Held == nil:
		row[3] = "?"
	case len(s.VIPs) > 0:
		row[3] = fmt.Sprintf("%d of %d", len(s.Held), len(s.VIPs))
	}
	if s.Since != nil {
		row[4] = s.Since.In(s.now.Location()).Format("2006-01-02 15:04")
	}
	switch {
	case s.record == nil:
		row[5] = "?"
	case s.Last != nil:
		row[5] = fmt.Sprintf("%s ago: %s", s.age(), s.Last.Outcome)
	}
	return row
}

// Exit codes of status --monitoring, as Nagios and its kin have them.
const (
	monitorOK = iota
	monitorWarning
	monitorCritical
	monitorUnknown
)

// monitoring is one line of text with performance data, and the exit code. What
// is well is only counted, where something is not.
func monitoring(all []status) (text string, code int) {
	var said, data []string
	well := 0
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
		said = append(said, fmt.Sprintf("%d clusters ok", well))
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
		if well > 0 {
			said = append(said, fmt.Sprintf("%d more ok", well))
		}
	}
	return monitoringLine(code, strings.Join(said, "; "), data...), code
}

// monitoringLine is the line for a code. The bar belongs to the data.
func monitoringLine(code int, text string, data ...string) string {
	line := "PINGOVER " + []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code] + " - " + strings.ReplaceAll(oneLine(text), "|", "/")
	if len(data) > 0 {
		line += " | " + strings.Join(data, " ")
	}
	return line + "\n"
}

func worseToMonitor(a, b int) int {
	return earlier(a, b, monitorCritical, monitorUnknown, monitorWarning, monitorOK)
}

// monitorCode is the worst of what there is to say of the cluster.
func (s status) monitorCode() int {
	code := monitorUnknown
	if s.record != nil && s.Last != nil {
		code = monitorCodeOf(s.Last.Outcome)
	}
	if s.Error != nil || s.Overdue {
		code = worseToMonitor(code, monitorUnknown)
	}
	if s.Paused || s.MailWaiting > 0 {
		code = worseToMonitor(code, monitorWarning)
	}
	return code
}

func monitorCodeOf(o state.Outcome) int {
	switch o {
	case state.OK:
		return monitorOK
	case state.Holding, state.TookOver, state.Released, state.Elsewhere:
		return monitorWarning
	case state.Unknown:
		return monitorUnknown
	}
	return monitorCritical
}

func (s status) monitorText() string {
	said := s.remarks()
	if s.Last != nil {
		said = append([]string{string(s.Last.Outcome)}, said...)
	}
	return s.Cluster + ": " + strings.Join(said, ", ")
}

// perfdata is what a monitor draws; U is what is not known.
func (s status) perfdata(prefix string) []string {
	values := []struct{ name, value, unit string }{
		{"rtt", "U", "ms"}, {"loss", "U", "%"}, {"held", "U", ""}, {"age", "U", "s"}, {"mail", "U", ""},
	}
	set := func(i int, value float64) { values[i].value = strconv.FormatFloat(value, 'f', -1, 64) }
	if s.record != nil {
		set(4, float64(s.MailWaiting))
		if last := s.record.Last; last != nil {
			set(3, float64(s.Last.Age))
			if last.RTT != nil {
				set(0, *last.RTT)
			}
			if last.Sent > 0 {
				set(1, float64(100*(last.Sent-last.Received)/last.Sent))
			}
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
