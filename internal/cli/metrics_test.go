package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/internal/run"
	"pingover/state"
)

// scraped are the samples of a text, as Prometheus reads it, and the kind of
// each metric.
func scraped(t *testing.T, text string) (samples map[string]float64, kinds map[string]string) {
	t.Helper()
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	must(t, err)
	samples, kinds = map[string]float64{}, map[string]string{}
	for name, family := range families {
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		kinds[name] = family.GetType().String()
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetGauge().GetValue()
			if m.GetCounter() != nil {
				value = m.GetCounter().GetValue()
			}
			samples[strings.TrimPrefix(name, "pingover_")+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return samples, kinds
}

func TestMetrics(t *testing.T) {
	took := known(active("web"), here("172.16.0.1/16"), func(r *state.Record) {
		r.Recent = past(state.Change{Time: ago(4 * time.Hour)}, state.Change{Time: ago(3 * time.Hour)})
		r.Counts = map[state.Outcome]int{state.TookOver: 107, state.Released: 106, state.Blocked: 2}
		r.Outbox = make([]state.Message, 3)
		r.Damping.Suppressed, r.Damping.Next = make([]state.Suppressed, 5), ago(-time.Hour)
		r.Alerts = []state.Alert{{Kind: "hook-failed"}}
		r.Rehearsed = ago(time.Hour)
		r.Last.Witness = new(true)
	})
	took.Paused = new(true)
	took.Arbiter = &state.KeyStatus{State: state.ArbiterOurs, Until: new(ago(-time.Minute))}
	asked := known(standing("report"), here(), func(r *state.Record) {
		r.Last.Outcome, r.Last.Primary, r.Last.Sent, r.Last.Received, r.Last.RTT = state.Unknown, "unknown", 0, 0, nil
	})
	broken := known(standing("db"), here())
	broken.ConfigError, broken.unusable = new("/etc/pingover.yaml cannot be used"), ago(time.Hour)
	got, kinds := scraped(t, metricsText("v1.2.3", []status{broken, took, asked, neverChecked("new"), unreadable("old")}))
	if behind, _ := scraped(t, metricsText("", []status{left("moved")})); behind["held{cluster=moved}"] != 0 {
		t.Errorf("an address that was left is counted as held: %v", behind)
	}

	want := map[string]float64{
		"up{cluster=db}": 1, "up{cluster=web}": 0, // and nothing of report, which could not be asked
		"held{cluster=db}": 0, "held{cluster=web}": 1, "held{cluster=report}": 0, "held{cluster=new}": 0,
		"config_unusable_timestamp_seconds{cluster=db}": float64(ago(time.Hour).Unix()),
		"rtt_seconds{cluster=db}":                       0.412 / 1000,
		"loss_ratio{cluster=db}":                        0, "loss_ratio{cluster=web}": 1,
		"mail_waiting{cluster=db}": 0, "mail_waiting{cluster=web}": 3, "mail_waiting{cluster=report}": 0, "mail_waiting{cluster=new}": 0,
		"check_duration_seconds{cluster=db}": 0.015, "check_duration_seconds{cluster=web}": 13.004, "check_duration_seconds{cluster=report}": 0.015,
		"last_change_timestamp_seconds{cluster=web}": float64(ago(3 * time.Hour).Unix()),
		"changes_total{cluster=web,kind=blocked}":    2,
	}
	for cluster, outcome := range map[string]state.Outcome{"db": state.OK, "web": state.Holding, "report": state.Unknown} {
		want["last_run_timestamp_seconds{cluster="+cluster+"}"] = float64(ago(34 * time.Second).Unix())
		for _, o := range []state.Outcome{
			state.OK, state.Holding, state.TookOver, state.Released, state.Elsewhere, state.Down,
			state.Unserved, state.Unknown, state.Blocked, state.TakeoverFailed, state.ReleaseFailed, state.StateFailed,
		} {
			want[fmt.Sprintf("outcome{cluster=%s,outcome=%s}", cluster, o)] = oneIf(o == outcome)
		}
	}
	for _, cluster := range []string{"db", "web", "report", "new"} {
		for _, kind := range []string{"took-over", "released", "takeover-failed", "release-failed"} {
			want[fmt.Sprintf("changes_total{cluster=%s,kind=%s}", cluster, kind)] = 0
		}
	}
	want["changes_total{cluster=web,kind=took-over}"], want["changes_total{cluster=web,kind=released}"] = 107, 106
	for _, cluster := range []string{"db", "web", "report", "new"} {
		want["suppressed{cluster="+cluster+"}"] = 0
		for _, kind := range []string{
			"blocked", "elsewhere", "down", "unserved", "unknown", "takeover-failed", "release-failed", "state-failed",
			"hook-failed", "not-ready", "isolated", "no-arbiter", "service-down", "certificate", "unconfigured", "not-used",
		} {
			want[fmt.Sprintf("alert{cluster=%s,kind=%s}", cluster, kind)] = 0
		}
	}
	for _, a := range state.ArbiterStates() {
		want[fmt.Sprintf("arbiter{cluster=web,state=%s}", a)] = oneIf(a == state.ArbiterOurs)
	}
	want["arbiter_until_timestamp_seconds{cluster=web}"] = float64(ago(-time.Minute).Unix())
	want["paused{cluster=web}"], want["witness_up{cluster=web}"], want["build_info{version=v1.2.3}"] = 1, 1, 1
	want["suppressed{cluster=web}"], want["suppressed_until_timestamp_seconds{cluster=web}"] = 5, float64(ago(-time.Hour).Unix())
	want["alert{cluster=web,kind=hook-failed}"], want["ready{cluster=web}"] = 1, 1
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, m := range metrics() {
		if kinds[m[0]] != strings.ToUpper(m[1]) && !strings.HasPrefix(m[0], "pingover_member_") { // see TestMetricsOfAPool
			t.Errorf("%s is a %q", m[0], kinds[m[0]])
		}
	}
}

func TestMetricsAsText(t *testing.T) {
	const name = "a \"quoted\" \\ name\nof two lines"
	text := metricsText("", []status{known(standing(name), here())})
	head, _, _ := strings.Cut(text, "# HELP pingover_held")
	want := `# HELP pingover_up Whether the primary replied at the last check; missing if it could not be asked.
# TYPE pingover_up gauge
pingover_up{cluster="a \"quoted\" \\ name\nof two lines"} 1
`
	if diff := cmp.Diff(want, head); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got, _ := scraped(t, text); got["up{cluster="+name+"}"] != 1 {
		t.Errorf("%v", got)
	}
	if text := metricsText("", []status{unreadable("old")}); text != "" {
		t.Errorf("of what is not known: %s", text)
	}
}

// promtool finds nothing to criticise in what is written of clusters, pools and a
// file that cannot be used.
func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	promtool := lab.Need(t, "promtool", "prometheus")
	w := newWWW(t)
	file := filepath.Join(t.TempDir(), "pingover.prom")
	w.silent["10.2.2.11"] = true
	w.expect(11, "check --metrics-file "+file, "")
	w.write("clusters: {web: {hots: 172.16.0.2}}\n" + poolInFile)
	w.expect(10, "check --metrics-file "+file, "")
	text, err := os.ReadFile(file)
	must(t, err)
	for _, name := range []string{"pingover_build_info", "pingover_member_published", "pingover_config_unusable_timestamp_seconds"} {
		if !strings.Contains(string(text), "\n"+name+"{") {
			t.Errorf("%s is not there\n%s", name, text)
		}
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestMetricsFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pingover.prom")
	check := func(p Program, args ...string) printed {
		return p.run(append([]string{"check", "--host", "172.16.0.2", "--name", "web", "--state-dir", dir, "--metrics-file", file}, args...)...)
	}
	read := func() map[string]float64 {
		t.Helper()
		text, err := os.ReadFile(file)
		must(t, err)
		samples, _ := scraped(t, string(text))
		return samples
	}
	// ended is a check that ends so and writes it down, or cannot.
	ended := func(o state.Outcome, primary string, written bool) Program {
		return faked(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
			last := state.Check{Time: time.Now(), Outcome: o, Code: o.Code(), Primary: primary}
			if written {
				remember(t, dir, &state.Record{Head: state.Head{Name: c.Name, Last: &last}})
			}
			return failover.Report{Cluster: c.Name, Outcome: o, Code: o.Code(), Check: last}, nil
		})
	}

	check(ended(state.OK, "up", true), "--dry-run")
	if _, err := os.Stat(file); err == nil {
		t.Error("a dry run wrote it")
	}
	want(t, check(ended(state.OK, "up", true)), printed{})
	if got := read(); got["up{cluster=web}"] != 1 || got["outcome{cluster=web,outcome=ok}"] != 1 {
		t.Errorf("%v", got)
	}
	info, err := os.Stat(file)
	must(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("its mode is %v", info.Mode())
	}

	// What the disk cannot take is measured all the same.
	if got := check(ended(state.StateFailed, "down", false)); got.Code != 32 {
		t.Errorf("%+v", got)
	}
	if got := read(); got["up{cluster=web}"] != 0 || got["outcome{cluster=web,outcome=state-failed}"] != 1 {
		t.Errorf("%v", got)
	}

	// A check that could not be made leaves what is known.
	refused := faked(func(config.Cluster, failover.Options) (failover.Report, error) {
		return failover.Report{}, &run.Error{Code: 78, Text: "no"}
	})
	if got := check(refused); got.Code != 78 {
		t.Errorf("%+v", got)
	}
	if got := read(); got["up{cluster=web}"] != 1 || got["outcome{cluster=web,outcome=ok}"] != 1 {
		t.Errorf("%v", got)
	}
	files, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(t, err)
	if len(files) > 0 {
		t.Errorf("it left %v", files)
	}
}

// What a check hangs on, the metrics may hang on as well.
func TestNoMetricsWhileACheckHangs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pingover.prom")
	p := faked(func(config.Cluster, failover.Options) (failover.Report, error) {
		return failover.Report{}, &run.Error{Code: 20, Text: "given up", Hung: true}
	})
	want(t, p.run("check", "--host", "172.16.0.2", "--name", "web", "--state-dir", dir, "--metrics-file", file),
		printed{Code: 20, Stderr: "pingover: web: given up\n"})
	if _, err := os.Stat(file); err == nil {
		t.Error("they were written")
	}
}

// Under cron it is said once, not in each minute; status and monitoring say it meanwhile.
func TestAMetricsFileThatCannotBeWritten(t *testing.T) {
	dir, kept := t.TempDir(), checked(t, "web")
	file := filepath.Join(dir, "none", "pingover.prom")
	args := []string{"check", "--host", "172.16.0.2", "--name", "web", "--state-dir", kept, "--metrics-file", file}
	says := "metrics-file " + file + " cannot be written: " + filepath.Dir(file) + ": no such file or directory"
	want(t, faked(fine).run(args...), printed{Stderr: "pingover: " + says + "\n"})
	want(t, faked(fine).run(args...), printed{})
	if got := faked(fine).onTerminal().run(args...); got.Code != 0 || !strings.Contains(got.Stderr, "\npingover: "+says+"\n") {
		t.Errorf("%+v", got)
	}
	if files, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(files) > 0 {
		t.Errorf("it left %v, %v", files, err)
	}
	status := func(args ...string) printed {
		return faked(fine).run(append([]string{"status", "--state-dir", kept}, args...)...)
	}
	if got := status(); !strings.Contains(strings.Join(strings.Fields(got.Stdout), " "), says+" (since ") {
		t.Errorf("%+v", got)
	}
	if got := status("--json"); !strings.Contains(got.Stdout, `"metrics_error":"`+says+`"`) {
		t.Errorf("%+v", got)
	}
	if got := status("--monitoring"); got.Code == 0 || !strings.Contains(got.Stdout, says) {
		t.Errorf("%+v", got)
	}

	must(t, os.Mkdir(filepath.Dir(file), 0o755))
	must(t, os.Mkdir(file, 0o755))
	other := "pingover: metrics-file " + file + " cannot be written: not a regular file\n"
	want(t, faked(fine).run(args...), printed{Stderr: other})
	want(t, faked(fine).run(args...), printed{})
	must(t, os.Remove(file))
	want(t, faked(fine).run(args...), printed{Stderr: "pingover: metrics-file " + file + " can be written again\n"})
	want(t, faked(fine).run(args...), printed{})
	if got := status("--json"); !strings.Contains(got.Stdout, `"metrics_error":null`) {
		t.Errorf("%+v", got)
	}
}

// It is kept for the first cluster of the file, and for no other once that is another
// one, or writes no metrics.
func TestAMetricsErrorOfAClusterThatIsNoLongerTheFirst(t *testing.T) {
	kept, path := checked(t, "db", "web"), filepath.Join(t.TempDir(), "pingover.yaml")
	text := "metrics-file " + kept + "/none/x.prom cannot be written: " + kept + "/none: no such file or directory"
	for _, test := range []struct{ defaults, clusters, stderr, ofDB, ofWeb string }{
		{", metrics-file: " + kept + "/none/x.prom", "web: {host: b}", "pingover: " + text + "\n", "null", `"` + text + `"`},
		{", metrics-file: " + kept + "/none/x.prom", "db: {host: a}\n  web: {host: b}", "pingover: " + text + "\n", `"` + text + `"`, "null"},
		{"", "db: {host: a}\n  web: {host: b}", "", "null", "null"},
		{", metrics-file: " + kept + "/x.prom", "db: {host: a}\n  web: {host: b}", "", "null", "null"},
	} {
		must(t, os.WriteFile(path, fmt.Appendf(nil, "defaults: {state-dir: %s%s}\nclusters:\n  %s\n", kept, test.defaults, test.clusters), 0o600))
		want(t, faked(fine).run("check", "-f", path), printed{Stderr: test.stderr})
		got := faked(fine).run("status", "--json", "--state-dir", kept)
		db, web, _ := strings.Cut(got.Stdout, "\n")
		if !strings.Contains(db, `"metrics_error":`+test.ofDB) || !strings.Contains(web, `"metrics_error":`+test.ofWeb) {
			t.Errorf("after %s: %+v", test.clusters, got)
		}
	}
}

// A link in place of the error is left as it is.
func TestAMetricsErrorThatIsALink(t *testing.T) {
	kept := checked(t, "web")
	link := filepath.Join(kept, "web.metrics")
	must(t, os.Symlink("/etc/hostname", link))
	got := faked(fine).run("check", "--host", "172.16.0.2", "--name", "web", "--state-dir", kept, "--metrics-file", kept+"/none/x.prom")
	if to, err := os.Readlink(link); to != "/etc/hostname" || err != nil || got.Code != 0 {
		t.Errorf("%q, %v, %+v", to, err, got)
	}
}

func TestMetricsFileThatIsSomethingElse(t *testing.T) {
	dir := t.TempDir()
	precious, link, pipe := filepath.Join(dir, "precious"), filepath.Join(dir, "link.prom"), filepath.Join(dir, "pipe.prom")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(precious, []byte("precious"), 0o600))
	must(os.Symlink(precious, link))
	must(syscall.Mkfifo(pipe, 0o600))
	must(replaceFile(link, "metrics"))
	if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
		t.Errorf("where the link led to: %q, %v", text, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode() != 0o644 {
		t.Errorf("the link has become %v, %v", info.Mode(), err)
	}
	if err := replaceFile(pipe, "metrics"); err == nil || err.Error() != "not a regular file" {
		t.Errorf("a pipe: %v", err)
	}
}

func TestMetricsThatAKilledRunLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pingover.prom")
	for name, age := range map[string]time.Duration{".pingover.prom.1": 2 * time.Hour, ".pingover.prom.2": time.Minute, ".other.prom.3": 2 * time.Hour} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if err := replaceFile(path, "metrics"); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	if want := []string{".other.prom.3", ".pingover.prom.2", "pingover.prom"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("files %q, %v, want %q", names, err, want)
	}
}

// The manual has each metric with its kind, and no other.
func TestTheManualHasTheMetrics(t *testing.T) {
	manual, err := os.ReadFile("../../docs/monitoring.md")
	must(t, err)
	var want, got []string
	for _, m := range metrics() {
		want = append(want, m[0]+" "+m[1])
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(pingover_[a-z_]+)(?:\\{[a-z]+=…\\})?` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(manual), -1) {
		got = append(got, m[1]+" "+m[2])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
