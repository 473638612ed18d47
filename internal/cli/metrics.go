package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/state"
)

// writeMetrics writes the metrics of the clusters into the files that their
// settings name, whether the checks could be made or not. Reports are those of
// this run. An error is no reason for cron to mail each minute: the reader of the
// metrics sees that they grow old.
func (p Program) writeMetrics(out printer, clusters []config.Cluster, reports []failover.Report) {
	made := map[string]state.Check{}
	for _, r := range reports {
		if r.Check.Outcome != "" {
			made[r.Cluster] = r.Check
		}
	}
	inFile := map[string][]config.Cluster{}
	for _, c := range clusters {
		if c.MetricsFile != "" {
			inFile[c.MetricsFile] = append(inFile[c.MetricsFile], c)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(inFile)) {
		err := replaceFile(file, metricsText(survey(inFile[file], time.Now(), made)))
		if err != nil && out.verbose {
			errorf(p.Stderr, "metrics-file: %v", err)
		}
	}
}

// replaceFile writes a file that all may read, under another name first: a reader
// finds the old or the new one, whole. The other name is a new one, because other
// users may write to the directory, and runs may overlap.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
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
	return err
}

// metric is a metric and its values for a cluster: none if they are not known.
type metric struct {
	name, kind, help string
	of               func(s status, say func(value float64, labels ...string))
}

func metrics() []metric {
	return []metric{
		{
			"pingover_up", "gauge", "Whether the primary replied at the last check; missing if it could not be asked.",
			lastSays(func(c state.Check, say func(float64, ...string)) {
				if c.Primary == "up" || c.Primary == "down" {
					say(oneIf(c.Primary == "up"))
				}
			}),
		},
		{
			"pingover_held", "gauge", "Number of virtual IPs that the kernel has on this machine.",
			func(s status, say func(float64, ...string)) {
				if s.Held != nil {
					say(float64(len(s.Held)))
				}
			},
		},
		{
			"pingover_outcome", "gauge", "1 for the outcome of the last check, 0 for all others.",
			lastSays(func(c state.Check, say func(float64, ...string)) {
				for _, o := range outcomes() {
					say(oneIf(o == c.Outcome), "outcome", string(o))
				}
			}),
		},
		{
			"pingover_last_run_timestamp_seconds", "gauge", "Start of the last check.",
			lastSays(func(c state.Check, say func(float64, ...string)) { say(float64(c.Time.Unix())) }),
		},
		{
			"pingover_last_change_timestamp_seconds", "gauge", "Last takeover or release, or failed attempt; missing if there was none.",
			recordSays(func(r *state.Record, say func(float64, ...string)) {
				if c := r.LastChange(); c != nil {
					say(float64(c.Time.Unix()))
				}
			}),
		},
		{
			"pingover_changes_total", "counter", "Changes by outcome.",
			recordSays(func(r *state.Record, say func(float64, ...string)) {
				counts := map[state.Outcome]int{state.TookOver: 0, state.Released: 0, state.TakeoverFailed: 0, state.ReleaseFailed: 0}
				maps.Copy(counts, r.Counts)
				for _, kind := range slices.Sorted(maps.Keys(counts)) {
					say(float64(counts[kind]), "kind", string(kind))
				}
			}),
		},
		{
			"pingover_rtt_seconds", "gauge", "Round-trip time of the first reply at the last check; missing without a reply.",
			lastSays(func(c state.Check, say func(float64, ...string)) {
				if c.RTT != nil {
					say(*c.RTT / 1000)
				}
			}),
		},
		{
			"pingover_loss_ratio", "gauge", "Share of the pings of the last round without a reply; missing if none was sent.",
			lastSays(func(c state.Check, say func(float64, ...string)) {
				if c.Sent > 0 {
					say(float64(c.Sent-c.Received) / float64(c.Sent))
				}
			}),
		},
		{
			"pingover_mail_waiting", "gauge", "Pending emails.",
			recordSays(func(r *state.Record, say func(float64, ...string)) { say(float64(len(r.Outbox))) }),
		},
		{
			"pingover_check_duration_seconds", "gauge", "Duration of the last check.",
			lastSays(func(c state.Check, say func(float64, ...string)) { say(c.Duration.Duration().Seconds()) }),
		},
	}
}

// recordSays is a metric of a record.
func recordSays(of func(*state.Record, func(float64, ...string))) func(status, func(float64, ...string)) {
	return func(s status, say func(float64, ...string)) {
		if s.record != nil {
			of(s.record, say)
		}
	}
}

// lastSays is a metric of the last check.
func lastSays(of func(state.Check, func(float64, ...string))) func(status, func(float64, ...string)) {
	return recordSays(func(r *state.Record, say func(float64, ...string)) {
		if r.Last != nil {
			of(*r.Last, say)
		}
	})
}

// outcomes are those of the table of exit codes.
func outcomes() []state.Outcome {
	var all []state.Outcome
	for _, c := range exit.Codes() {
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

// metricsText is the metrics of the clusters in Prometheus' text format.
func metricsText(all []status) string {
	var b strings.Builder
	for _, m := range metrics() {
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for _, s := range all {
			m.of(s, func(value float64, labels ...string) {
				b.WriteString(head + m.name + labelText(append([]string{"cluster", s.Cluster}, labels...)) + " " + strconv.FormatFloat(value, 'f', -1, 64) + "\n")
				head = ""
			})
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
