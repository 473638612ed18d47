package cli

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/balance"
	"pingover/notify"
	"pingover/state"
	"pingover/vip"
)

// status is the command. It takes no lock and writes nothing.
func (p Program) status(c *cli.Context) (int, error) {
	if c.Bool("json") && c.Bool("monitoring") {
		return 0, usageError{"--json and --monitoring exclude each other", ""}
	}
	if c.Bool("watch") {
		return p.watchStatus(c)
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
			p.printRaw(jsonLine(s.object()))
		}
	default:
		p.print(p.statusText(all))
	}
	if slices.ContainsFunc(all, func(s status) bool { return s.Error != nil }) {
		return state.Unknown.Code(), nil
	}
	return 0, nil
}

// looksAgain is the time between two of status --watch.
const looksAgain = 2 * time.Second

// watchStatus shows the status again and again, until a signal; on a terminal in
// place of the one before.
func (p Program) watchStatus(c *cli.Context) (int, error) {
	if c.Bool("json") || c.Bool("monitoring") {
		return 0, usageError{"--watch excludes --json and --monitoring", ""}
	}
	for tick := time.NewTicker(looksAgain); ; {
		all, err := p.statuses(c)
		if err != nil {
			return 0, err
		}
		text := time.Now().Format(time.DateTime) + "\n" + p.statusText(all)
		if p.Out.Live { // home; each line to its end, and the rest of the screen, cleared
			text = "\x1b[H" + strings.ReplaceAll(p.Out.screenful(text), "\n", "\x1b[K\n") + "\x1b[J"
		} else {
			text += "\n"
		}
		p.print(text)
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return 0, nil
		}
		if *p.unprinted {
			return 0, nil
		}
	}
}

// statuses are those of the clusters that the command is for, and of those that
// are no longer configured while they still hold something.
func (p Program) statuses(c *cli.Context) ([]status, error) {
	tasks, unset, src, err := p.observed(c)
	if err != nil {
		return nil, err
	}
	named := c.Args().Present()
	if !named {
		tasks = slices.Concat(tasks, unset)
	}
	all, others := survey(tasks, time.Now(), nil), namesOf(unset)
	for i := range all {
		all[i].unset = slices.Contains(others, all[i].Cluster)
		all[i].configured(src)
		all[i].measurable()
	}
	if !named {
		all = unforgotten(all)
	}
	return all, nil
}

// unforgotten are all but the clusters that are no longer configured and hold
// nothing but what a configured cluster has now, and such pools without a record
// in DNS.
func unforgotten(all []status) []status {
	var set []netip.Prefix
	for _, s := range all {
		if !s.unset {
			set = append(set, s.VIPs...)
		}
	}
	return slices.DeleteFunc(all, func(s status) bool {
		return s.unset && len(without(s.assigned, set)) == 0 && (s.pool == nil || len(recordsOf(s.pool)) == 0)
	})
}

// status is what is known of a task without a check: of a cluster the object that
// status --json prints; a pool has its own. All keys are always there; a value that
// Error made unknown is null.
type status struct {
	Version     int              `json:"version"` // of this object: 1
	Cluster     string           `json:"cluster"`
	Host        *string          `json:"host"`
	VIPs        []netip.Prefix   `json:"vips"`
	Interface   *string          `json:"interface"`
	Role        *state.Role      `json:"role"`
	Held        []netip.Prefix   `json:"held"`        // virtual IPs that the kernel shows on this machine
	LeftBehind  []netip.Prefix   `json:"left_behind"` // assigned here by pingover, and no longer a virtual IP
	Since       *time.Time       `json:"since"`
	Paused      *bool            `json:"paused"`
	PausedUntil *time.Time       `json:"paused_until"`
	Last        *lastCheck       `json:"last"` // null where there was none
	Overdue     *bool            `json:"overdue"`
	HookOwed    *string          `json:"hook_owed"`
	MailWaiting *int             `json:"mail_waiting"`
	MailError   *string          `json:"mail_error"`
	Arbiter     *state.KeyStatus `json:"arbiter"` // as the last check knew it; null without one
	Error       *string          `json:"error"`   // why something is not known
	notify.Attention
	// MetricsError is why the last run could not write the metrics; null where it
	// could, or no file is set.
	MetricsError *string `json:"metrics_error"`

	task       Task
	head       *state.Head     // nil where the record cannot be read
	record     *state.Record   // of a cluster, likewise
	pool       *balance.Record // of a pool, likewise
	origin     string          // of the record
	now        time.Time
	ahead      time.Duration  // how far the last check lies in the future
	assigned   []netip.Prefix // here by pingover
	left       []state.Alias  // LeftBehind, as the record has them
	unset      bool           // no longer configured, and others are
	unmeasured time.Time      // since when there is a MetricsError
	unusable   time.Time      // since when the file cannot be used; zero: it can, or no check has found that
}

// lastCheck is the newest check of a cluster.
type lastCheck struct {
	Time    time.Time     `json:"time"`
	Outcome state.Outcome `json:"outcome"`
	Code    int           `json:"code"`
	Reason  string        `json:"reason"`
	Age     int           `json:"age_s"`
}

// survey is the status of each task. Made are checks that were made just now, by
// name, which the record may have been unable to take.
func survey(tasks []Task, now time.Time, made map[string]state.Check) []status {
	kernel, err := vip.TakeSnapshot()
	all := make([]status, len(tasks))
	for i, t := range tasks {
		rec, broken := t.kept()
		if check, ok := made[t.Name]; ok && broken == nil {
			if h := rec.Common(); h.Last == nil || !h.Last.Time.After(check.Time) {
				h.Last = &check
			}
		}
		all[i] = statusOf(t, rec, now)
		all[i].fault(broken)
		all[i].pause(t.StateDir.PausedUntil(t.Name))
		if t.Kind == state.OfCluster {
			all[i].hold(kernel, err)
		}
	}
	return all
}

// statusOf is the status by a task's settings and its record. If only the name is
// set, the rest comes from the record; rec is nil if it cannot be read.
func statusOf(t Task, rec state.Kept, now time.Time) status {
	c := t.cluster
	s := status{Version: 1, Cluster: t.Name, now: now, task: t}
	if c.Host != "" {
		s.Host, s.VIPs = &c.Host, []netip.Prefix{}
		for _, v := range c.VIPs {
			s.VIPs = append(s.VIPs, v.Prefix)
		}
	}
	if c.Interface != "" {
		s.Interface = &c.Interface
	}
	var answers []state.ServiceAnswer
	switch rec := rec.(type) {
	case nil:
		return s
	case *balance.Record:
		s.pool, s.origin = rec, rec.Origin
	case *state.Record:
		s.record, s.origin, answers = rec, rec.Origin, rec.Answers
		if c.Host == "" {
			s.Host, s.VIPs = &rec.Host, setIn(rec)
		}
		s.Arbiter = rec.Arbiter.Status()
		s.Role, s.Since, s.Interface = &rec.Role, utc(rec.Since), new(cmp.Or(rec.Interface, c.Interface))
		if rec.PendingHook != nil {
			s.HookOwed = &rec.PendingHook.Hook
		}
	}
	s.head = rec.Common()
	s.Attention = notify.AttentionOf(*s.head, answers)
	s.MailWaiting, s.MailError = new(len(s.head.Outbox)), s.head.MailError
	s.Overdue = new(false)
	if last := s.head.Last; last != nil {
		age := now.Sub(last.Time)
		s.ahead = -min(0, age)
		s.Overdue = new(state.Overdue(age, s.head.Gap.Duration()))
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

// configured notes that the file of the task cannot be used.
func (s *status) configured(src source) {
	if !src.usable() && !(s.origin != "" && s.origin != src.path) {
		s.ConfigError, s.unusable = new(src.brief()), src.kept.Unusable
	}
}

// measurable notes why the last run could not write the metrics.
func (s *status) measurable() {
	text, since := s.task.StateDir.MetricsError(s.Cluster)
	if text != "" && (s.task.MetricsFile != "" || !s.task.Given) {
		s.MetricsError, s.unmeasured = &text, since
	}
}

// pause notes the task's pause. One that may not be read still has its end.
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
