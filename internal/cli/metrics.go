package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pingover/internal/balance"
	"pingover/internal/exit"
	"pingover/notify"
	"pingover/state"
)

// writeMetrics writes the metrics of the tasks into the files that their
// settings name, whether the checks could be made or not. Endings are those of
// this run. An error is reported when it begins, changes or ends, not by each run.
func (p Program) writeMetrics(out printer, of plan, endings []ending) {
	made := map[string]state.Check{}
	for _, e := range endings {
		if e.Check.Outcome != "" {
			made[e.Task] = e.Check
		}
	}
	inFile := map[string][]Task{}
	for _, t := range of.all {
		if t.MetricsFile != "" {
			inFile[t.MetricsFile] = append(inFile[t.MetricsFile], t)
		}
	}
	failed := map[string]string{} // by the first task of the file
	for file, tasks := range inFile {
		all := survey(tasks, time.Now(), made)
		for i := range all {
			all[i].configured(of.source)
		}
		if err := replaceFile(file, metricsText(p.Version, all)); err != nil {
			failed[tasks[0].Name] = fmt.Sprintf("metrics-file %s cannot be written: %v", file, err)
		}
	}
	for _, t := range of.all { // an error that was kept for another task, or file, is none now
		text, first := failed[t.Name], len(inFile[t.MetricsFile]) > 0 && inFile[t.MetricsFile][0].Name == t.Name
		switch changed := t.StateDir.KeepMetricsError(t.Name, text); {
		case text == "" && changed && first:
			text = fmt.Sprintf("metrics-file %s can be written again", t.MetricsFile)
			errorf(p.Stderr, "%s", text)
			out.of(t).logf(noticeLevel, "%s", text)
		case text != "" && changed:
			out.of(t).logf(warningLevel, "%s", text)
			fallthrough
		case text != "" && out.verbose:
			errorf(p.Stderr, "%s", text)
		}
	}
}

// replaceFile writes a file that all may read, under another name first: a reader
// finds the old or the new one, whole. The other name is a new one, because other
// users may write to the directory, and runs may overlap.
//
// A device or a pipe is not replaced. A link is; what it leads to is not touched.
func replaceFile(path, text string) error {
	dir, prefix := filepath.Dir(path), "."+filepath.Base(path)+"."
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return errors.New("not a regular file")
	}
	removeLeftovers(dir, prefix)
	f, err := os.CreateTemp(dir, prefix+"*")
	if err != nil {
		return fmt.Errorf("%s: %w", dir, causeOf(err))
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return causeOf(err)
}

// causeOf is the kernel's error, without the name of a file that is another one each time.
func causeOf(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

// removeLeftovers removes what killed runs left. A run that is not over has written
// its file a moment ago.
func removeLeftovers(dir, prefix string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), prefix) || !f.Type().IsRegular() {
			continue
		}
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
}

// metrics are the name, type and help of each metric, in their order.
func metrics() [][3]string {
	return [][3]string{
		{"pingover_up", "gauge", "Whether the primary replied at the last check; missing if it could not be asked."},
		{"pingover_held", "gauge", "Number of virtual IPs that the kernel has on this machine."},
		{"pingover_outcome", "gauge", "1 for the outcome of the last check, 0 for all others."},
		{"pingover_last_run_timestamp_seconds", "gauge", "Start of the last check."},
		{"pingover_last_change_timestamp_seconds", "gauge", "Last takeover or release, or failed attempt; missing if there was none."},
		{"pingover_changes_total", "counter", "Changes by outcome."},
		{"pingover_rtt_seconds", "gauge", "Round-trip time of the first reply at the last check; missing without a reply."},
		{"pingover_loss_ratio", "gauge", "Share of the pings of the last round without a reply; missing if none was sent."},
		{"pingover_mail_waiting", "gauge", "Pending emails."},
		{"pingover_ready", "gauge", "Whether the last rehearsals of a takeover succeeded; missing before the first."},
		{"pingover_paused", "gauge", "Whether a pause keeps checks from switching anything."},
		{"pingover_witness_up", "gauge", "Whether a witness replied at the last check; missing if none was asked, as in a healthy check."},
		{"pingover_alert", "gauge", "1 for each alert that fires, by kind."},
		{"pingover_suppressed", "gauge", "Notifications that flap damping holds back."},
		{"pingover_suppressed_until_timestamp_seconds", "gauge", "When these are mailed at the latest; missing if there are none."},
		{"pingover_check_duration_seconds", "gauge", "Duration of the last check."},
		{"pingover_arbiter", "gauge", "1 for the state of the arbiter's key at the last check, 0 for all others; missing without an arbiter."},
		{"pingover_arbiter_until_timestamp_seconds", "gauge", "When what is held here ends unless the arbiter's key is renewed; missing while nothing is held."},
		{"pingover_member_up", "gauge", "Whether the member was up at the last check; missing if it could not be asked."},
		{"pingover_member_published", "gauge", "Whether the member was in DNS after the last check."},
		{"pingover_member_drained", "gauge", "Whether the member is drained."},
		{"pingover_config_unusable_timestamp_seconds", "gauge", "Since when the configuration file cannot be used; missing while it can."},
		{"pingover_build_info", "gauge", "1, with the version that wrote this."},
	}
}

// measure gives the values of the metrics of a task, as far as they are known.
func (s status) measure(say func(name string, value float64, labels ...string)) {
	if s.Held != nil {
		say("pingover_held", float64(len(s.Held)))
	}
	if s.ConfigError != nil {
		since := s.unusable
		if since.IsZero() {
			since = s.now
		}
		say("pingover_config_unusable_timestamp_seconds", float64(since.Unix()))
	}
	if s.Paused != nil {
		say("pingover_paused", oneIf(*s.Paused))
	}
	if s.head == nil {
		return
	}
	if c := s.head.LastChange(); c != nil {
		say("pingover_last_change_timestamp_seconds", float64(c.Time.Unix()))
	}
	kinds, changes := notify.AlertKinds(), []state.Outcome{state.TookOver, state.Released, state.TakeoverFailed, state.ReleaseFailed}
	if s.pool != nil {
		kinds, changes = notify.PoolAlertKinds(), []state.Outcome{state.Removed, state.Restored, state.UpdateFailed}
	}
	counts := map[state.Outcome]int{}
	for _, o := range changes {
		counts[o] = 0
	}
	maps.Copy(counts, s.head.Counts)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		say("pingover_changes_total", float64(counts[kind]), "kind", string(kind))
	}
	say("pingover_mail_waiting", float64(len(s.head.Outbox)))
	if s.Ready != nil {
		say("pingover_ready", oneIf(*s.Ready))
	}
	for _, kind := range kinds {
		say("pingover_alert", oneIf(s.head.Firing(string(kind)) != nil), "kind", string(kind))
	}
	say("pingover_suppressed", float64(s.Suppressed.Count))
	if s.Suppressed.Next != nil {
		say("pingover_suppressed_until_timestamp_seconds", float64(s.Suppressed.Next.Unix()))
	}
	if a := s.Arbiter; a != nil {
		for _, known := range state.ArbiterStates() {
			say("pingover_arbiter", oneIf(a.State == known), "state", string(known))
		}
		if a.Until != nil && len(s.Held) > 0 {
			say("pingover_arbiter_until_timestamp_seconds", float64(a.Until.Unix()))
		}
	}
	last := s.head.Last
	if last == nil {
		return
	}
	for _, o := range outcomes(s.task.Kind) {
		say("pingover_outcome", oneIf(o == last.Outcome), "outcome", string(o))
	}
	say("pingover_last_run_timestamp_seconds", float64(last.Time.Unix()))
	say("pingover_check_duration_seconds", last.Duration.Duration().Seconds())
	if last.Witness != nil {
		say("pingover_witness_up", oneIf(*last.Witness))
	}
	if s.pool != nil {
		return
	}
	if last.Primary == "up" || last.Primary == "down" {
		say("pingover_up", oneIf(last.Primary == "up"))
	}
	if last.RTT != nil {
		say("pingover_rtt_seconds", *last.RTT/1000)
	}
	if last.Sent > 0 {
		say("pingover_loss_ratio", float64(last.Sent-last.Received)/float64(last.Sent))
	}
}

// measureMembers gives those of the members of a pool.
func (s status) measureMembers(say func(name string, value float64, labels ...string)) {
	if s.pool == nil {
		return
	}
	for _, m := range balance.MembersOf(s.pool, s.now) {
		if m.Verdict == "up" || m.Verdict == "down" {
			say("pingover_member_up", oneIf(m.Verdict == "up"), "member", m.Address.String())
		}
		say("pingover_member_published", oneIf(m.Published), "member", m.Address.String())
		say("pingover_member_drained", oneIf(m.Drained), "member", m.Address.String())
	}
}

// outcomes are those of the table of exit codes.
func outcomes(kind state.Kind) []state.Outcome {
	codes := exit.Codes()
	if kind == state.OfPool {
		codes = exit.PoolCheckCodes()
	}
	var all []state.Outcome
	for _, c := range codes {
		if o := state.Outcome(c.Outcome); o != "" && o != exit.BusyOutcome {
			all = append(all, o)
		}
	}
	return all
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// metricsText is the metrics of the tasks, a pool under its name as a cluster, in Prometheus' text format. Version is that
// of this program.
func metricsText(version string, all []status) string {
	lines := map[string]*strings.Builder{}
	for _, m := range metrics() {
		lines[m[0]] = new(strings.Builder)
	}
	for _, s := range all {
		sayOf := func(label string) func(name string, value float64, labels ...string) {
			return func(name string, value float64, labels ...string) {
				text := labelText(append([]string{label, s.Cluster}, labels...))
				fmt.Fprintf(lines[name], "%s%s %s\n", name, text, strconv.FormatFloat(value, 'f', -1, 64))
			}
		}
		s.measure(sayOf("cluster"))
		s.measureMembers(sayOf("pool"))
	}
	if version != "" {
		fmt.Fprintf(lines["pingover_build_info"], "pingover_build_info%s 1\n", labelText([]string{"version", version}))
	}
	var b strings.Builder
	for _, m := range metrics() {
		if lines[m[0]].Len() > 0 {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s", m[0], m[2], m[0], m[1], lines[m[0]])
		}
	}
	return b.String()
}

// labelText are labels, given as name and value in turn, quoted for Prometheus.
func labelText(labels []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var pairs []string
	for pair := range slices.Chunk(labels, 2) {
		pairs = append(pairs, pair[0]+`="`+quote.Replace(pair[1])+`"`)
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
