package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/run"
	"pingover/state"
)

// watched is a program whose n-th check, from 0, is made by check; it notes when
// each began, by cluster.
type watched struct {
	Program
	mu    sync.Mutex
	start time.Time
	began map[string][]time.Duration
}

func watching(check func(ctx context.Context, n int, c config.Cluster, o failover.Options) (failover.Report, error)) *watched {
	w := &watched{Program: faked(nil), start: time.Now(), began: map[string][]time.Duration{}}
	w.Check = func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
		w.mu.Lock()
		n := len(w.began[c.Name])
		w.began[c.Name] = append(w.began[c.Name], time.Since(w.start))
		w.mu.Unlock()
		return check(ctx, n, c, o)
	}
	return w
}

// run runs a command line; what a watch says of its start and its end is left
// out.
func (w *watched) run(args ...string) printed {
	p := w.Program.run(args...)
	p.Stderr = betweenStartAndEnd(p.Stderr)
	return p
}

func betweenStartAndEnd(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "pingover: watching with version ") && !strings.Contains(line, "pingover: watch ended: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// wantTicks fails the test unless the checks of the cluster began then.
func (w *watched) wantTicks(t *testing.T, cluster string, want ...time.Duration) {
	t.Helper()
	if diff := cmp.Diff(want, w.began[cluster]); diff != "" {
		t.Errorf("checks of %s began (-want +got)\n%s", cluster, diff)
	}
}

// lasting is a check that finds all well, after so long.
func lasting(d time.Duration) func(context.Context, int, config.Cluster, failover.Options) (failover.Report, error) {
	return func(_ context.Context, _ int, c config.Cluster, _ failover.Options) (failover.Report, error) {
		time.Sleep(d)
		return failover.Report{Version: 1, Cluster: c.Name, Outcome: state.OK, Reason: c.Host + " replies"}, nil
	}
}

// watchWeb is the command line that watches one cluster.
func watchWeb(flags ...string) []string {
	return append([]string{"watch", "--name", "web", "--host", "172.16.0.2", "--vip", "172.16.0.1"}, flags...)
}

// bubble runs a test with a clock of its own.
func bubble(name string, t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestBeatsOfAWatch(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name  string
		takes time.Duration
		flags []string
		want  []time.Duration
		ends  time.Duration
	}{
		{"every 10s for a minute's crontab line", s, []string{"--for", "58s"}, []time.Duration{0, 10 * s, 20 * s, 30 * s, 40 * s, 50 * s}, 51 * s},
		{"none begins when the time is over", s, []string{"--for", "20s"}, []time.Duration{0, 10 * s}, 11 * s},
		{"the last one is finished", 9 * s, []string{"--for", "12s"}, []time.Duration{0, 10 * s}, 19 * s},
		{"what takes longer skips ticks", 25 * s, []string{"--for", "1m"}, []time.Duration{0, 30 * s}, 55 * s},
		{"what takes exactly as long skips none", 10 * s, []string{"--for", "25s"}, []time.Duration{0, 10 * s, 20 * s}, 30 * s},
		{"every second", 300 * time.Millisecond, []string{"--every", "1s", "--for", "2500ms"}, []time.Duration{0, s, 2 * s}, 2300 * time.Millisecond},
	} {
		bubble(test.name, t, func(t *testing.T) {
			w := watching(lasting(test.takes))
			want(t, w.run(watchWeb(test.flags...)...), printed{})
			w.wantTicks(t, "web", test.want...)
			if took := time.Since(w.start); took != test.ends {
				t.Errorf("it ended after %s, want %s", took, test.ends)
			}
		})
	}
}

// file is a configuration file of these clusters.
func file(t *testing.T, clusters ...string) string {
	t.Helper()
	text := fmt.Sprintf("defaults: {state-dir: %s}\nclusters:\n", t.TempDir())
	for _, c := range clusters {
		text += fmt.Sprintf("  %s: {host: %s.example}\n", c, c)
	}
	path := filepath.Join(t.TempDir(), "pingover.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestASlowClusterDelaysNoOther(t *testing.T) {
	path := file(t, "a", "slow", "z")
	synctest.Test(t, func(t *testing.T) {
		w := watching(func(_ context.Context, _ int, c config.Cluster, _ failover.Options) (failover.Report, error) {
			if c.Name == "slow" {
				time.Sleep(46 * time.Second)
			}
			return failover.Report{Cluster: c.Name, Outcome: state.OK}, nil
		})
		want(t, w.run("watch", "--file", path, "--every", "20s", "--for", "45s"), printed{})
		const s, ms = time.Second, time.Millisecond
		w.wantTicks(t, "a", 0, 20*s, 40*s)
		w.wantTicks(t, "slow", ms)
		w.wantTicks(t, "z", 2*ms, 20*s+2*ms, 40*s+2*ms)
	})
}

func TestTheEndOfAWatch(t *testing.T) {
	bubble("between two checks", t, func(t *testing.T) {
		w := watching(lasting(time.Second))
		want(t, w.signalled(5*time.Second, watchWeb("-v")...), printed{Stderr: "pingover: web: ok: 172.16.0.2 replies\n"})
		w.wantTicks(t, "web", 0)
	})
	bubble("before a check has acted", t, func(t *testing.T) {
		w := watching(func(ctx context.Context, _ int, _ config.Cluster, _ failover.Options) (failover.Report, error) {
			<-ctx.Done()
			return failover.Report{}, context.Cause(ctx)
		})
		want(t, w.signalled(5*time.Second, watchWeb("-v")...), printed{Stderr: "pingover: web: ended by SIGTERM before it had changed anything\n"})
	})
	bubble("before a check has acted, untold", t, func(t *testing.T) {
		w := watching(func(ctx context.Context, _ int, _ config.Cluster, _ failover.Options) (failover.Report, error) {
			<-ctx.Done()
			return failover.Report{}, context.Cause(ctx)
		})
		want(t, w.signalled(5*time.Second, watchWeb("--json")...), printed{})
	})
	bubble("while a check acts", t, func(t *testing.T) {
		w := watching(func(ctx context.Context, _ int, c config.Cluster, o failover.Options) (failover.Report, error) {
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			return takeover(c, o)
		})
		want(t, w.signalled(5*time.Second, watchWeb()...), printed{Stderr: "pingover: web: took-over: 172.16.0.2 did not answer 10 pings\n"})
		if took := time.Since(w.start); took != 8*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
	bubble("while a check acts, told", t, func(t *testing.T) {
		w := watching(func(ctx context.Context, _ int, c config.Cluster, o failover.Options) (failover.Report, error) {
			if !o.Finish {
				t.Error("a switch that has begun would not be finished with its hook and its mail")
			}
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			return failover.Report{Cluster: "web", Outcome: state.TookOver, Code: 11, Changed: true, Reason: "it did not answer"}, nil
		})
		want(t, w.signalled(5*time.Second, watchWeb("-v")...), printed{Stderr: "pingover: web: SIGTERM: finishing what has begun\npingover: web: took-over: it did not answer\n"})
	})
	bubble("at once", t, func(t *testing.T) {
		w := watching(lasting(0))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var out strings.Builder
		w.Stdout, w.Stderr = &out, &out
		if code := w.Run(ctx, watchWeb()); code != 0 || betweenStartAndEnd(out.String()) != "" || len(w.began) != 0 {
			t.Errorf("code %d, %q, checks %v", code, out.String(), w.began)
		}
	})
}

// signalled runs a command line that gets SIGTERM after so long.
func (w *watched) signalled(after time.Duration, args ...string) printed {
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(after, func() { cancel(errors.New("SIGTERM")) })
	var stdout, stderr strings.Builder
	w.Stdout, w.Stderr = &stdout, &stderr
	code := w.Run(ctx, args)
	return printed{code, stdout.String(), betweenStartAndEnd(stderr.String())}
}

// What each check of a row of them ends with.
type endings []struct {
	report failover.Report
	err    error
	tell   any
}

func (e endings) watched() *watched {
	return watching(func(_ context.Context, n int, c config.Cluster, o failover.Options) (failover.Report, error) {
		r := e[n]
		if r.tell != nil {
			o.OnEvent(r.tell)
		}
		r.report.Cluster = c.Name
		return r.report, r.err
	})
}

// run runs a watch that makes each of the checks.
func (e endings) run(flags ...string) printed {
	return e.watched().run(watchWeb(append(flags, "--every", "1s", "--for", fmt.Sprintf("%ds", len(e)))...)...)
}

func TestAWatchDoesNotRepeatItself(t *testing.T) {
	var (
		fine    = failover.Report{Outcome: state.OK, Reason: "172.16.0.2 replies"}
		holding = failover.Report{Outcome: state.Holding, Reason: "holding 172.16.0.1", Changed: true}
		blocked = failover.Report{Outcome: state.Blocked, Reason: "no witness replies", Changed: true}
		right   = &run.Error{Code: 77, Text: "no right to ping", Hint: "run it as root"}
		gone    = &run.Error{Code: 78, Text: "there is no interface \"eth1\""}
		taken   = &run.Error{Code: 75, Text: "another run is checking this cluster"}
	)
	for _, test := range []struct {
		name string
		endings
		code   int
		stderr string
	}{
		{"nothing is new", endings{{report: fine}, {report: fine}, {report: fine}}, 0, ""},
		{"each change", endings{{report: fine}, {report: blocked}, {report: holding}, {report: fine}, {report: blocked}}, 0, `pingover: web: blocked: no witness replies
pingover: web: holding: holding 172.16.0.1
pingover: web: blocked: no witness replies
`},
		{"a change that cannot be written down", endings{{report: blocked}, {report: blocked}, {report: blocked}}, 0, "pingover: web: blocked: no witness replies\n"},
		{"an error that lasts, and ends", endings{{err: right}, {err: right}, {err: taken}, {err: right}, {report: fine}, {report: fine}}, 0, `pingover: web: no right to ping
hint: run it as root
pingover: web: ok: 172.16.0.2 replies
`},
		{"an error that changes, and comes again", endings{{err: right}, {err: gone}, {err: gone}, {report: fine}, {err: gone}}, 0, `pingover: web: no right to ping
hint: run it as root
pingover: web: there is no interface "eth1"
pingover: web: ok: 172.16.0.2 replies
pingover: web: there is no interface "eth1"
`},
		{"a lock that is taken", endings{{err: taken}, {err: taken}}, 0, ""},
		{"a loud note", endings{{report: fine, tell: run.Note{Text: "mail waits", Warning: true}}, {report: fine, tell: run.Note{Text: "mail waits", Warning: true}}, {report: fine}}, 0, "pingover: web: mail waits\n"},
		{"a bug", endings{{err: errors.New("lost")}, {err: errors.New("lost")}, {report: fine}, {report: fine}}, 70, "pingover: web: lost\npingover: web: ok: 172.16.0.2 replies\n"},
	} {
		bubble(test.name, t, func(t *testing.T) {
			want(t, test.run(), printed{Code: test.code, Stderr: test.stderr})
		})
	}
	bubble("but when it is verbose", t, func(t *testing.T) {
		want(t, endings{{report: fine}, {err: right}, {err: right}, {err: taken}}.run("--verbose"), printed{Stderr: `pingover: web: ok: 172.16.0.2 replies
pingover: web: no right to ping
hint: run it as root
pingover: web: no right to ping
hint: run it as root
pingover: web: another run is checking this cluster
`})
	})
	bubble("on a terminal it says every note once, and does not talk", t, func(t *testing.T) {
		e := endings{{report: fine, tell: run.Note{Text: "no recipient"}}, {report: fine, tell: run.Note{Text: "no recipient"}}, {report: holding}}
		w := e.watched()
		w.Terminal = true
		want(t, w.run(watchWeb("--every", "1s", "--for", "3s")...), printed{Stderr: "pingover: web: no recipient\npingover: web: holding: holding 172.16.0.1\n"})
	})
}

func TestAPanicDoesNotEndAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watching(func(_ context.Context, n int, _ config.Cluster, _ failover.Options) (failover.Report, error) {
			if n == 0 {
				panic("lost")
			}
			return failover.Report{Outcome: state.OK, Reason: "fine"}, nil
		})
		got := w.run(watchWeb("--for", "25s")...)
		if !strings.HasPrefix(got.Stderr, "pingover: web: internal error: lost (") || !strings.HasSuffix(got.Stderr, ")\npingover: web: ok: fine\n") || got.Code != 70 {
			t.Errorf("%+v", got)
		}
		w.wantTicks(t, "web", 0, 10*time.Second, 20*time.Second)
	})
}

// A check that was abandoned still has its lock until the process ends. The other
// clusters end as by a signal.
func TestACheckThatHangsEndsTheWatch(t *testing.T) {
	path := file(t, "a", "b")
	synctest.Test(t, func(t *testing.T) {
		w := watching(func(ctx context.Context, n int, c config.Cluster, o failover.Options) (failover.Report, error) {
			if c.Name == "a" {
				time.Sleep(3 * time.Second)
				return failover.Report{}, &run.Error{Code: 20, Text: "given up", Hung: true}
			}
			if n == 0 {
				return failover.Report{Outcome: state.OK, Reason: "fine"}, nil
			}
			<-ctx.Done()
			return failover.Report{}, context.Cause(ctx)
		})
		want(t, w.run("watch", "--file", path, "--every", "2s", "--verbose"), printed{Code: 70, Stderr: `pingover: b: ok: fine
pingover: a: given up
pingover: b: ended by the end of this watch, because a check hangs before it had changed anything
`})
	})
}

func TestAWatchPrintsAnObjectForEachCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := endings{{report: failover.Report{Outcome: state.OK}}, {err: &run.Error{Code: 75, Text: "taken"}}, {report: failover.Report{Outcome: state.OK}}}
		got := w.run("--json")
		var said []string
		for line := range strings.Lines(got.Stdout) {
			for _, key := range strings.Split(line, ",") {
				if strings.HasPrefix(key, `"outcome"`) {
					said = append(said, key)
				}
			}
		}
		if diff := cmp.Diff([]string{`"outcome":"ok"`, `"outcome":"busy"`, `"outcome":"ok"`}, said); diff != "" || got.Code != 0 || got.Stderr != "" {
			t.Errorf("code %d, stderr %q, -want +got\n%s", got.Code, got.Stderr, diff)
		}
	})
}

func TestAWatchWritesMetricsOfAllClusters(t *testing.T) {
	dir := t.TempDir()
	metrics, path := filepath.Join(dir, "pingover.prom"), filepath.Join(dir, "pingover.yaml")
	must(t, os.WriteFile(path, fmt.Appendf(nil, "defaults: {state-dir: %s, metrics-file: %s}\nclusters: {db: {host: db.example}, web: {host: web.example}}\n", dir, metrics), 0o600))
	synctest.Test(t, func(t *testing.T) {
		outcomes := []state.Outcome{state.OK, state.OK, state.Holding}
		w := watching(func(_ context.Context, n int, c config.Cluster, _ failover.Options) (failover.Report, error) {
			time.Sleep(500 * time.Millisecond)
			r := failover.Report{Cluster: c.Name, Outcome: outcomes[n], Time: time.Now()}
			r.Check = state.Check{Time: r.Time, Outcome: r.Outcome, Primary: "up"}
			return r, nil
		})
		outcome := func() string {
			text, err := os.ReadFile(metrics)
			must(t, err)
			for line := range strings.Lines(string(text)) {
				if name, ok := strings.CutSuffix(line, "} 1\n"); ok && strings.HasPrefix(line, "pingover_outcome{") {
					return name
				}
			}
			return ""
		}
		time.AfterFunc(1100*time.Millisecond, func() {
			if got := outcome(); got != `pingover_outcome{cluster="web",outcome="ok"` {
				t.Errorf("after a tick: %s", got)
			}
		})
		want(t, w.run("watch", "--file", path, "web", "--every", "1s", "--for", "2500ms"), printed{})
		if got := outcome(); got != `pingover_outcome{cluster="web",outcome="holding"` {
			t.Errorf("at the end: %s", got)
		}
		if text, _ := os.ReadFile(metrics); !strings.Contains(string(text), `pingover_held{cluster="db"} 0`) {
			t.Errorf("without the other cluster:\n%s", text)
		}
	})
}

func TestMemoryOfAWatchStaysFlat(t *testing.T) {
	const passes = 10_000
	synctest.Test(t, func(t *testing.T) {
		var early runtime.MemStats
		w := faked(nil)
		n := 0
		w.Check = func(_ context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			n++
			if n == passes/10 {
				runtime.GC()
				runtime.ReadMemStats(&early)
			}
			o.OnEvent(run.Note{Text: fmt.Sprint("something else ", n), Warning: true})
			switch n % 4 {
			case 0:
				return failover.Report{}, &run.Error{Code: 20, Text: "no route"}
			case 1:
				return failover.Report{}, &run.Error{Code: 75, Text: "taken"}
			}
			r, err := takeover(c, o)
			r.Check = state.Check{Outcome: r.Outcome}
			return r, err
		}
		w.Terminal, w.Live, w.Color = true, true, true
		w.Stdout, w.Stderr = io.Discard, io.Discard
		if code := w.Run(t.Context(), watchWeb("--for", fmt.Sprintf("%ds", passes), "--every", "1s", "--verbose")); code != 0 || n != passes {
			t.Fatalf("code %d after %d checks", code, n)
		}
		var late runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&late)
		if grown := int64(late.HeapAlloc) - int64(early.HeapAlloc); grown > 256<<10 {
			t.Errorf("%d bytes more than after %d checks", grown, passes/10)
		}
	})
}

// A crontab line beside the watch may have checked since.
func TestMetricsAreOfTheNewestCheck(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UTC().Truncate(time.Second)
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Last: &state.Check{Time: now, Outcome: state.Holding}}})
	for _, test := range []struct {
		made time.Time
		want state.Outcome
	}{{now.Add(-time.Second), state.Holding}, {now, state.OK}, {now.Add(time.Second), state.OK}} {
		all := survey(Program{}.tasks(config.File{Clusters: []config.Cluster{{Name: "web", Host: "172.16.0.2", StateDir: dir}}}), now, map[string]state.Check{"web": {Time: test.made, Outcome: state.OK}})
		if got := all[0].Last.Outcome; got != test.want {
			t.Errorf("made %s later: %s, want %s", test.made.Sub(now), got, test.want)
		}
	}
}

// A panic and a hung switch were once reported as "ended by SIGTERM before it had
// changed anything" when a signal had arrived, and watch then ended with 0.
func TestASignalDoesNotHideAFailure(t *testing.T) {
	for _, test := range []struct {
		name    string
		check   Act
		checked int // exit code of check
		watch   int
		text    string
	}{
		{"a panic", func(context.Context, config.Cluster, failover.Options) (failover.Report, error) { panic("lost") }, 70, 70, "pingover: web: internal error: lost ("},
		{"a hung switch", func(context.Context, config.Cluster, failover.Options) (failover.Report, error) {
			return failover.Report{}, &run.Error{Code: 32, Hung: true, Text: "given up"}
		}, 32, 70, "pingover: web: given up\n"},
		{"a check that hung", func(context.Context, config.Cluster, failover.Options) (failover.Report, error) {
			return failover.Report{}, &run.Error{Code: 20, Hung: true, Text: "given up"}
		}, 20, 70, "pingover: web: given up\n"},
		{"a check that was interrupted", func(ctx context.Context, _ config.Cluster, _ failover.Options) (failover.Report, error) {
			return failover.Report{}, context.Cause(ctx)
		}, exit.Interrupted, 0, "pingover: web: ended by SIGTERM before it had changed anything\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for command, code := range map[string]int{"check": test.checked, "watch": test.watch, "takeover": test.checked} {
				ctx, end := context.WithCancelCause(t.Context())
				var stderr strings.Builder
				p := faked(nil)
				p.Stderr = &stderr
				p.Check = func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
					end(errors.New("SIGTERM"))
					return test.check(ctx, c, o)
				}
				p.TakeOver = p.Check
				got := p.Run(ctx, []string{command, "--name", "web", "--host", "172.16.0.2", "--vip", "172.16.0.1", "--verbose"})
				if got != code || !strings.HasPrefix(betweenStartAndEnd(stderr.String()), test.text) {
					t.Errorf("%s: code %d, want %d; stderr %q", command, got, code, stderr.String())
				}
			}
		})
	}
}

func TestASignalDoesNotHideTheFailureOfAnotherCluster(t *testing.T) {
	ctx, end := context.WithCancelCause(t.Context())
	p := faked(nil)
	p.Stderr = io.Discard
	p.Check = func(ctx context.Context, c config.Cluster, _ failover.Options) (failover.Report, error) {
		if c.Name == "a" {
			<-ctx.Done()
			return failover.Report{}, context.Cause(ctx)
		}
		end(errors.New("SIGTERM"))
		return failover.Report{Outcome: state.ReleaseFailed, Code: 31}, nil
	}
	if code := p.configuredBy(fileOf(t, "a", "b")).Run(ctx, []string{"check"}); code != 31 {
		t.Errorf("code %d, want 31", code)
	}
}

// A watch has a line for each alert that fires or resolves beside the outcomes.
func TestWatchShowsAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := faked(story).run("watch", "--host", "172.16.0.2", "--name", "web", "--every", "1s", "--for", "2s", "--state-dir", t.TempDir())
		for _, line := range []string{
			"pingover: web: alert not-ready: witness 172.16.0.254 does not reply\n",
			"pingover: web: alert isolated resolved: no witness replies\n",
		} {
			if strings.Count(got.Stderr, line) != 1 {
				t.Errorf("not once: %q\n%s", line, got.Stderr)
			}
		}
		if strings.Contains(got.Stderr, "alert blocked") {
			t.Errorf("the outcome is shown twice\n%s", got.Stderr)
		}
	})
}

func TestAWatchKeepsToOneProcessorWhileItsOnlyClusterIsHealthy(t *testing.T) {
	const ms = time.Millisecond
	path := file(t, "a", "b")
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"one cluster: the second check is slow", watchWeb("--every", "1s", "--for", "3s"), []string{"2ms one", "1.05s all", "1.06s one", "2.002s one"}},
		{"two clusters", []string{"watch", "--file", path, "--every", "1s", "--for", "3s"}, []string{"0s all"}},
	} {
		bubble(test.name, t, func(t *testing.T) {
			w := watching(func(ctx context.Context, n int, c config.Cluster, o failover.Options) (failover.Report, error) {
				return lasting([]time.Duration{2 * ms, 60 * ms, 2 * ms}[n])(ctx, n, c, o)
			})
			var mu sync.Mutex
			var got []string
			w.Alone = func(alone bool) {
				mu.Lock()
				defer mu.Unlock()
				which := "all"
				if alone {
					which = "one"
				}
				got = append(got, fmt.Sprintf("%s %s", time.Since(w.start), which))
			}
			want(t, w.run(test.args...), printed{})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("processors (-want +got)\n%s", diff)
			}
		})
	}
}
