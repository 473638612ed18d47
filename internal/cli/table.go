package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/term"
	"pingover/notify"
	"pingover/state"
)

// statusText is the verdict, a line for each virtual IP and each member, and under
// each cluster and pool its remarks; first of all what needs attention.
func (p Program) statusText(all []status) string {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b status) int { return cmp.Compare(a.calm(), b.calm()) })
	text := p.verdict(all)
	for _, table := range []struct {
		kind     state.Kind
		header   []string
		optional []string // what is left out first where a terminal is narrow
	}{
		{state.OfCluster, []string{"CLUSTER", "PRIMARY", "VIP", "SERVED BY", "SINCE", "LAST CHECK"}, []string{"PRIMARY", "SINCE", "SERVED BY"}},
		{state.OfPool, []string{"POOL", "RECORD", "MEMBER", "IN DNS", "SINCE", "LAST CHECK"}, []string{"RECORD", "SINCE"}},
	} {
		some := slices.DeleteFunc(slices.Clone(all), func(s status) bool { return s.task.Kind != table.kind })
		if len(some) > 0 {
			text += "\n" + p.statusTable(table.header, table.optional, some)
		}
	}
	return text
}

// statusTable is the table of one kind.
func (p Program) statusTable(header, optional []string, all []status) string {
	rows, of := [][]string{header}, []int{-1} // the task of each row
	for i, s := range all {
		for _, row := range s.rows(p.Env.Hostname) {
			rows, of = append(rows, row), append(of, i)
		}
	}
	rows, left := term.Narrow(rows, p.Out.Columns, optional...)
	lines := term.Table(rows, p.Out.Columns, func(row, column int, cell string) string {
		if column < len(rows[0])-1 || row == 0 || all[of[row]].Last == nil || orZero(all[of[row]].Overdue) {
			return cell
		}
		o := all[of[row]].Last.Outcome
		return strings.Replace(cell, string(o), colored(p.Out.Colors, o), 1)
	})
	var b strings.Builder
	for i, line := range lines {
		b.WriteString(line + "\n")
		if last := i == len(lines)-1 || of[i+1] != of[i]; i > 0 && last {
			for _, remark := range all[of[i]].remarks() {
				term.Columns(&b, p.Out.page(), remarkIndent, "", term.Printable(remark))
			}
		}
	}
	if len(left) > 0 {
		term.Columns(&b, p.Out.page(), remarkIndent, "", "(a wider terminal also shows: "+strings.Join(left, ", ")+")")
	}
	return b.String()
}

const remarkIndent = 4

// calm is 0 for what needs attention, else 1.
func (s status) calm() int {
	if s.monitorCode() != monitorOK {
		return 0
	}
	return 1
}

// verdict says how many need attention.
func (p Program) verdict(all []status) string {
	const most = 5
	var names []string
	for _, s := range all {
		if s.calm() == 0 {
			names = append(names, term.Printable(s.Cluster))
		}
	}
	n, what, paint := len(names), tally(tasksOf(all)), p.Out.Colors.Yellow
	if n == 0 {
		return p.Out.Colors.Green("all is well") + ": " + what + "\n"
	}
	if slices.ContainsFunc(all, func(s status) bool { return s.monitorCode() == monitorCritical }) {
		paint = p.Out.Colors.Red
	}
	if n > most {
		names = append(names[:most], fmt.Sprintf("%d more", n-most))
	}
	needs := "need"
	if n == 1 {
		needs = "needs"
	}
	var b strings.Builder
	needs = fmt.Sprintf("%d of %s %s attention", n, what, needs)
	term.Columns(&b, p.Out.page(), remarkIndent, needs+":", strings.Join(names, ", "))
	return strings.Replace(b.String(), needs, paint(needs), 1)
}

// rows are the lines of the table: one for each virtual IP, or each member.
func (s status) rows(hostname string) [][]string {
	last := "never"
	switch {
	case s.head == nil:
		last = "?"
	case s.Last != nil:
		last = fmt.Sprintf("%s ago: %s", s.age(), s.Last.Outcome)
	}
	if s.task.Kind == state.OfPool {
		return s.memberRows(last)
	}
	first := []string{term.Printable(s.Cluster), cmp.Or(term.Printable(orZero(s.Host)), "-"), "-", "-", s.minute(s.Since), last}
	if len(s.VIPs) == 0 {
		return [][]string{first}
	}
	var rows [][]string
	for i, v := range s.VIPs {
		row := []string{"", "", "", "", "", ""}
		if i == 0 {
			row = first
		}
		row[2], row[3] = v.Addr().String(), s.servedBy(v, hostname)
		rows = append(rows, row)
	}
	return rows
}

// minute is a time in the table.
func (s status) minute(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.In(s.now.Location()).Format("2006-01-02 15:04")
}

// servedBy is who has a virtual IP: this machine by the kernel, any other by the
// last check.
func (s status) servedBy(v netip.Prefix, hostname string) string {
	const unknown = "unknown"
	switch {
	case s.Held == nil:
		return unknown
	case len(without([]netip.Prefix{v}, s.Held)) == 0:
		return cmp.Or(hostname, "this machine")
	case s.Last == nil || orZero(s.Overdue):
		return unknown
	}
	switch s.Last.Outcome {
	case state.OK:
		asked := !slices.ContainsFunc(s.record.NotAsked, func(a netip.Addr) bool { return state.SameAddress(a, v.Addr()) })
		if asked && s.record.Streaks.Unserved == 0 {
			return "primary"
		}
	case state.Elsewhere:
		return "another standby"
	case state.Unserved:
		return "nobody?"
	}
	return unknown
}

// remarks are what an operator should know about the cluster, the worst first;
// none when everything is fine.
func (s status) remarks() []string {
	var remarks []string
	add := func(format string, args ...any) { remarks = append(remarks, fmt.Sprintf(format, args...)) }
	if s.Error != nil {
		add("%s", *s.Error)
	}
	if s.ConfigError != nil {
		add("%s", *s.ConfigError)
	}
	switch {
	case s.head == nil:
	case s.Last == nil:
		add("never checked: is cron running?")
	case s.Last.Outcome != state.OK:
		add("%s", s.Last.Reason)
	}
	for _, a := range s.Alerts {
		since := clock(a.Since.In(s.now.Location()))
		switch notify.Kind(a.Kind) {
		case notify.NotReady:
			add("not ready to take over since %s: %s", since, a.Reason)
		case notify.Isolated:
			add("holding, but isolated since %s: %s", since, a.Reason)
		case notify.NoArbiter:
			add("holding, and the arbiter does not answer since %s: %s", since, orZero(orZero(s.Arbiter).Error))
		case notify.ServiceDown:
			add("%s (since %s)", a.Reason, since)
		case notify.Certificate:
			add("a certificate does not verify since %s: %s", since, a.Reason)
		case notify.LeftRecords:
			add("records without a member since %s: %s", since, a.Reason)
		case notify.NotUsed:
			add("not used since %s: %s", since, a.Reason)
		case notify.HookFailed:
			add("post-takeover failed at %s: %s; to run it again: pingover takeover %s", since, a.Reason, s.Cluster)
		}
	}
	unset := "no longer configured in the file"
	if s.origin == state.FlagsOrigin {
		unset = "defined by flags, not in the file"
	}
	switch {
	case s.unset && len(s.Held) > 0:
		add("%s; to release it: pingover release %s", unset, s.Cluster)
	case s.unset && s.pool != nil:
		add("no longer configured in the file; to end this: delete its records from DNS, or pingover forget %s", s.Cluster)
	case s.unset:
		add("%s", unset)
	case orZero(s.Overdue) && s.ahead > 0:
		add("the last check was at %s, in the future: the clock was set back; is cron running?", clock(s.Last.Time.In(s.now.Location())))
	case orZero(s.Overdue):
		add("the last check was %s ago: is cron running?", s.age())
	}
	remarks = append(remarks, s.memberRemarks()...)
	if len(s.Held) > 0 {
		add("held on this machine: %s%s", prefixes(s.Held), s.byArbiter())
	}
	if s.record != nil && len(s.record.Unreached) > 0 && len(s.Held) > 0 && (s.Last == nil || s.Last.Outcome != state.TookOver) { // whose reason says so
		add("no witness replies to %s: clients may not reach it", observe.AddressList(s.record.Unreached))
	}
	if missing := s.missing(); len(missing) > 0 {
		add("missing on this machine: %s", prefixes(missing))
	}
	for _, a := range s.left {
		add("%s; to remove it: %s", failover.LeftBehind(a), failover.Removal(a))
	}
	if orZero(s.Paused) {
		add("paused until %s", clock(s.PausedUntil.In(s.now.Location())))
	}
	switch n := orZero(s.MailWaiting); {
	case n > 0 && s.MailError != nil:
		add("%s pending: %s", count(n, "email"), *s.MailError)
	case n > 0:
		add("%s pending", count(n, "email"))
	}
	if s.MetricsError != nil {
		add("%s (since %s)", *s.MetricsError, clock(s.unmeasured.In(s.now.Location())))
	}
	if s.HookOwed != nil {
		add("%s is pending", *s.HookOwed)
	}
	if n := s.Suppressed; n != nil && n.Count > 0 {
		add("flapping: %s suppressed, mailed at %s at the latest", count(n.Count, "notification"), clock(n.Next.In(s.now.Location())))
	}
	return remarks
}

// byArbiter is how long the arbiter lets this machine hold what it has; "" without
// one.
func (s status) byArbiter() string {
	a := orZero(s.Arbiter)
	if a.Until == nil {
		return ""
	}
	at := func(t *time.Time) string { return t.In(s.now.Location()).Format(time.TimeOnly) }
	return fmt.Sprintf(" until %s (etcd, renewed %s)", at(a.Until), at(a.Renewed))
}

// missing are the virtual IPs that the record expects here, and that are not.
func (s status) missing() []netip.Prefix {
	if s.Role == nil || *s.Role != state.Active || s.Held == nil {
		return nil
	}
	return without(s.VIPs, s.Held)
}

// age is how long ago the last check was, in its largest useful unit.
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
