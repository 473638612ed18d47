package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/term"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// status is the command. It takes no lock and writes nothing.
func (p Program) status(c *cli.Context) (int, error) {
	if c.Bool("json") && c.Bool("monitoring") {
		return 0, usageError{"--json and --monitoring exclude each other", ""}
	}
	all, err := p.statuses(c)
	switch {
	case err != nil && c.Bool("monitoring"):
		p.print(monitoringLine(monitorUnknown, err.Error()))
		return monitorUnknown, nil
	case err != nil:
		return 0, err
	}
	switch {
	case c.Bool("monitoring"):
		text, code := monitoring(all)
		p.print(text)
		return code, nil
	case c.Bool("json"):
		for _, s := range all {
			p.printRaw(jsonLine(s))
		}
	default:
		p.print(statusTable(all))
	}
	if slices.ContainsFunc(all, func(s status) bool { return s.Error != nil }) {
		return state.Unknown.Code(), nil
	}
	return 0, nil
}

// statuses are those of the clusters that the command is for, and of those that
// are no longer configured while they still hold something.
func (p Program) statuses(c *cli.Context) ([]status, error) {
	clusters, unset, src, err := p.observed(c)
	if err != nil {
		return nil, err
	}
	named := c.Args().Present()
	if !named {
		clusters = slices.Concat(clusters, unset)
	}
	all, others := survey(clusters, time.Now(), nil), namesOf(unset)
	for i := range all {
		all[i].unset = slices.Contains(others, all[i].Cluster)
		all[i].configured(src)
	}
	if !named {
		all = unforgotten(all)
	}
	return all, nil
}

// unforgotten are all but the clusters that are no longer configured and hold
// nothing but what a configured cluster has now.
func unforgotten(all []status) []status {
	var set []netip.Prefix
	for _, s := range all {
		if !s.unset {
			set = append(set, s.VIPs...)
		}
	}
	return slices.DeleteFunc(all, func(s status) bool { return s.unset && len(without(s.assigned, set)) == 0 })
}

// status is what is known of a cluster without a check: the object that status
// --json prints. All keys are always there; a value that Error made unknown is
// null.
type status struct {
	Version     int            `json:"version"` // of this object: 1
	Cluster     string         `json:"cluster"`
	Host        *string        `json:"host"`
	VIPs        []netip.Prefix `json:"vips"`
	Interface   *string        `json:"interface"`
	Role        *state.Role    `json:"role"`
	Held        []netip.Prefix `json:"held"`        // virtual IPs that the kernel shows on this machine
	LeftBehind  []netip.Prefix `json:"left_behind"` // assigned here by pingover, and no longer a virtual IP
	Since       *time.Time     `json:"since"`
	Paused      *bool          `json:"paused"`
	PausedUntil *time.Time     `json:"paused_until"`
	Last        *lastCheck     `json:"last"` // null where there was none
	Overdue     *bool          `json:"overdue"`
	HookOwed    *string        `json:"hook_owed"`
	MailWaiting *int           `json:"mail_waiting"`
	MailError   *string        `json:"mail_error"`
	Error       *string        `json:"error"` // why something is not known
	notify.Attention

	record   *state.Record // nil where it cannot be read
	now      time.Time
	ahead    time.Duration  // how far the last check lies in the future
	assigned []netip.Prefix // here by pingover
	left     []state.Alias  // LeftBehind, as the record has them
	unset    bool           // no longer configured, and others are
	unusable time.Time      // since when the file cannot be used; zero: it can, or no check has found that
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
	kernel, err := vip.TakeSnapshot()
	all := make([]status, len(clusters))
	for i, c := range clusters {
		rec, broken := recordOf(c)
		if check, ok := made[c.Name]; ok && broken == nil && (rec.Last == nil || !rec.Last.Time.After(check.Time)) {
			rec.Last = &check
		}
		all[i] = statusOf(c, rec, now)
		all[i].fault(broken)
		all[i].pause(state.Dir(c.StateDir).PausedUntil(c.Name))
		all[i].hold(kernel, err)
	}
	return all
}

// statusOf is the status by a cluster's settings and its record. If only the name
// is set, the rest comes from the record; rec is nil if it cannot be read.
func statusOf(c config.Cluster, rec *state.Record, now time.Time) status {
	s := status{Version: 1, Cluster: c.Name, now: now}
	if c.Host != "" {
		s.Host, s.VIPs = &c.Host, []netip.Prefix{}
		for _, v := range c.VIPs {
			s.VIPs = append(s.VIPs, v.Prefix)
		}
	}
	if c.Interface != "" {
		s.Interface = &c.Interface
	}
	if rec == nil {
		return s
	}
	if c.Host == "" {
		s.Host, s.VIPs = &rec.Host, setIn(rec)
	}
	s.record, s.Attention = rec, notify.AttentionOf(rec.Head, rec.Answers)
	s.Role, s.Since, s.Interface = &rec.Role, utc(rec.Since), new(cmp.Or(rec.Interface, c.Interface))
	s.MailWaiting, s.MailError = new(len(rec.Outbox)), rec.MailError
	s.Overdue = new(false)
	if rec.PendingHook != nil {
		s.HookOwed = &rec.PendingHook.Hook
	}
	if last := rec.Last; last != nil {
		age := now.Sub(last.Time)
		s.ahead = -min(0, age)
		s.Overdue = new(state.Overdue(age, rec.Gap.Duration()))
		s.Last = &lastCheck{last.Time.UTC().Truncate(time.Second), last.Outcome, last.Code, last.Reason, int(max(0, age).Seconds())}
	}
	return s
}

// fault adds an error.
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

// configured notes that the file of the cluster cannot be used.
func (s *status) configured(src source) {
	if !src.usable() && !(s.record != nil && s.record.Origin != "" && s.record.Origin != src.path) {
		s.ConfigError, s.unusable = new(src.brief()), src.kept.Unusable
	}
}

// pause notes the cluster's pause. One that may not be read still has its end.
func (s *status) pause(until time.Time, err error) {
	if err != nil && until.IsZero() {
		s.fault(err)
		return
	}
	s.Paused = new(s.now.Before(until))
	if *s.Paused {
		s.PausedUntil = utc(until)
	}
}

// hold notes which virtual IPs are on this machine, and which other addresses
// were assigned for this cluster.
func (s *status) hold(kernel *vip.Snapshot, err error) {
	s.fault(err)
	if err != nil || s.VIPs == nil {
		return
	}
	s.Held = []netip.Prefix{}
	for _, a := range s.VIPs {
		var added []string
		if s.record != nil {
			for _, known := range s.record.VIPs {
				if known.Prefix.Addr() == a.Addr() && s.record.Ours(known) {
					added = append(added, known.Interface)
				}
			}
		}
		// A link-local one on two links is two of them, and held once for each.
		places := kernel.Held(a.Addr(), added...)
		if n := len(slices.DeleteFunc(slices.Clone(s.Held), func(h netip.Prefix) bool { return h.Addr() != a.Addr() })); n < len(places) {
			s.Held = append(s.Held, places[n].Address.Prefix)
		}
	}
	if s.record == nil {
		return
	}
	s.LeftBehind = []netip.Prefix{}
	for _, a := range s.record.VIPs {
		if !s.record.Ours(a) || !kernel.Holds(a.Address()) {
			continue
		}
		s.assigned = append(s.assigned, a.Prefix)
		if len(without([]netip.Prefix{a.Prefix}, s.VIPs)) > 0 {
			s.LeftBehind = append(s.LeftBehind, a.Prefix)
			s.left = append(s.left, a)
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
	case s.record == nil:
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
		case notify.ServiceDown:
			add("%s (since %s)", a.Reason, since)
		case notify.Certificate:
			add("a certificate does not verify since %s: %s", since, a.Reason)
		case notify.NotUsed:
			add("not used since %s: %s", since, a.Reason)
		case notify.HookFailed:
			add("post-takeover failed at %s: %s; to run it again: pingover takeover %s", since, a.Reason, s.Cluster)
		}
	}
	switch {
	case s.unset && len(s.Held) > 0:
		add("no longer configured in the file; to release what is held here: pingover release %s", s.Cluster)
	case s.unset:
		add("no longer configured in the file")
	case orZero(s.Overdue) && s.ahead > 0:
		add("the last check was at %s, in the future: the clock was set back; is cron running?", clock(s.Last.Time.In(s.now.Location())))
	case orZero(s.Overdue):
		add("the last check was %s ago: is cron running?", s.age())
	}
	if len(s.Held) > 0 {
		add("held here: %s", prefixes(s.Held))
	}
	if missing := s.missing(); len(missing) > 0 {
		add("not here: %s", prefixes(missing))
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
	if s.HookOwed != nil {
		add("%s is pending", *s.HookOwed)
	}
	if n := s.Suppressed; n != nil && n.Count > 0 {
		add("flapping: %s suppressed, mailed at %s at the latest", count(n.Count, "notification"), clock(n.Next.In(s.now.Location())))
	}
	return remarks
}

// missing are the virtual IPs that the record expects here, and that are not.
func (s status) missing() []netip.Prefix {
	if s.Role == nil || *s.Role != state.Active || s.Held == nil {
		return nil
	}
	return without(s.VIPs, s.Held)
}

// without are those of list whose addresses are not among others.
func without(list, others []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool {
		return slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Addr() == p.Addr() })
	})
}

// orZero is the value of p, zero if it is not known.
func orZero[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func prefixes(list []netip.Prefix) string {
	var texts []string
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
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

// statusTable shows one line for each cluster, and its remarks below it.
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
				term.Columns(&b, remarkIndent, "", term.Printable(remark))
			}
		}
	}
	return b.String()
}

const remarkIndent = 4

// row is the cluster's line of the table.
func (s status) row() []string {
	row := []string{term.Printable(s.Cluster), cmp.Or(term.Printable(orZero(s.Host)), "-"), "-", "-", "-", "never"}
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
