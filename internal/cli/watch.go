package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/term"
	"pingover/state"
)

// Limits of --every and --for of watch.
const (
	usualTick    = 10 * time.Second
	shortestTick = time.Second
	longestTick  = time.Hour

	endless       = time.Duration(math.MaxInt64)
	shortestWatch = time.Second
	longestWatch  = 24 * time.Hour
)

// watch is the command: each cluster is checked in a loop of its own, so that
// none delays another.
func (p Program) watch(c *cli.Context) (code int, err error) {
	out, err := p.printer(c)
	if err != nil {
		return 0, err
	}
	every, err := duration(c, "every", usualTick, shortestTick, longestTick)
	if err != nil {
		return 0, err
	}
	until, err := duration(c, "for", endless, shortestWatch, longestWatch)
	if err != nil {
		return 0, err
	}
	clusters, all, err := p.checked(c)
	if err != nil {
		return 0, err
	}
	ctx, end := context.WithCancelCause(c.Context)
	defer end(nil)
	c.Context = ctx
	out.verbose = c.Bool("verbose")
	out.watched = p.Terminal && !out.quiet
	s := out.onScreen()
	defer s.Clear()
	p.Stderr, p.Stdout = s, &term.Line{Out: p.Stdout}
	w := &watcher{
		Program: p, c: c, end: end, screen: s, every: every, until: until, clusters: len(clusters),
		made: map[string]failover.Report{}, ended: map[string]state.Outcome{},
	}
	stop := w.writeMetricsOften(out, all)
	for _, ended := range parallel(ctx, clusters, len(clusters), apart, func(cluster config.Cluster) int { return w.follow(out, cluster) }) {
		code = exit.Worse(code, ended)
	}
	stop()
	return code, nil
}

// watcher checks clusters again and again.
type watcher struct {
	Program
	c            *cli.Context
	end          context.CancelCauseFunc
	screen       *screen
	every, until time.Duration
	clusters     int // that are watched

	mu    sync.Mutex
	made  map[string]failover.Report // the newest check of each cluster that was made
	ended map[string]state.Outcome   // of each cluster's newest check, made or not
}

// errHung ends all clusters because of one: a check that was abandoned still has
// its lock, and might go on later with old observations. Only the end of the
// process ends it.
var errHung = errors.New("the end of this watch, because a check hangs")

// follow checks one cluster at each tick. It returns the exit code: 0 unless a
// check panicked or hung.
func (w *watcher) follow(out printer, cluster config.Cluster) (code int) {
	out.cluster = cluster.Name
	out.memory = new(memory)
	if w.clusters == 1 {
		out.screen = w.screen
	}
	ctx, start := w.c.Context, time.Now()
	for at := time.Duration(0); at < w.until; at = w.nextTick(at, time.Since(start)) {
		if !sleepUntil(ctx, start.Add(at)) {
			return code
		}
		var hung atomic.Bool
		act := func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			o.Finish = true // no check may follow
			return w.Check(ctx, c, o)
		}
		report, ended := w.one(w.c, out, noteHung(act, &hung), cluster)
		if ended == exit.Interrupted {
			return code
		}
		if ended == exit.Internal || hung.Load() {
			code = exit.Internal
		}
		out.memory.turn(report.Outcome)
		w.note(report, start.Add(w.nextTick(at, time.Since(start))))
		if hung.Load() {
			w.end(errHung)
		}
	}
	return code
}

// nextTick is the first tick after the last one that is not in the past.
func (w *watcher) nextTick(last, now time.Duration) time.Duration {
	ticks := (now + w.every - 1) / w.every
	return max(last+w.every, ticks*w.every)
}

// note shows the outcome of a check, and keeps the report for the metrics.
func (w *watcher) note(r failover.Report, next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[r.Cluster] = r.Outcome
	if r.Check.Outcome != "" {
		w.made[r.Cluster] = r
	}
	switch {
	case w.c.Bool("json"):
		w.printJSON(r)
	case w.clusters == 1:
		w.screen.between(r, next)
	default:
		w.screen.Draw(term.Still(w.summary()))
	}
}

// summary is the outcomes of the last checks: "40 clusters: web holding; 39 ok".
// If more than three are not ok, they are only counted.
func (w *watcher) summary() string {
	text := count(w.clusters, "cluster")
	if n := len(w.ended); n < w.clusters {
		text = fmt.Sprintf("%d of %d checked", n, w.clusters)
	}
	counts := map[state.Outcome]int{}
	var named, counted []string
	for _, name := range slices.Sorted(maps.Keys(w.ended)) {
		o := w.ended[name]
		counts[o]++
		if o != state.OK {
			named = append(named, name+" "+colored(w.screen.colors, o))
		}
	}
	for _, o := range slices.Sorted(maps.Keys(counts)) {
		counted = append(counted, fmt.Sprintf("%d %s", counts[o], colored(w.screen.colors, o)))
	}
	switch {
	case len(named) == 0 || len(named) > 3:
		return text + ": " + strings.Join(counted, ", ")
	case counts[state.OK] == 0:
		return text + ": " + strings.Join(named, ", ")
	}
	return fmt.Sprintf("%s: %s; %d %s", text, strings.Join(named, ", "), counts[state.OK], colored(w.screen.colors, state.OK))
}

// writeMetricsOften writes the metrics at each tick, and once more when it is
// stopped, unless a check hangs: the metrics might, too.
func (w *watcher) writeMetricsOften(out printer, clusters []config.Cluster) (stop func()) {
	write := func() {
		w.mu.Lock()
		made := slices.Collect(maps.Values(w.made))
		w.mu.Unlock()
		w.writeMetrics(out, clusters, made)
	}
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(w.every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				write()
			case <-over:
				return
			}
		}
	})
	return func() {
		close(over)
		if context.Cause(w.c.Context) != errHung {
			writing.Wait()
			write()
		}
	}
}

// sleepUntil waits for t, and returns false if ctx ends before.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// memory is what was printed about a cluster, so that nothing of the check before
// is repeated.
type memory struct {
	before, now []string
	failed      bool // the check before was not made
}

// knows reports whether a line was printed in the check before, and notes it.
func (m *memory) knows(line string) bool {
	if m == nil {
		return false
	}
	m.now = append(m.now, line)
	return slices.Contains(m.before, line)
}

// turn ends a check. One that found the lock taken printed nothing.
func (m *memory) turn(o state.Outcome) {
	if o != exit.BusyOutcome {
		m.before, m.failed = m.now, o == exit.ErrorOutcome
	}
	m.now = nil
}

// recovers reports whether the check before was not made.
func (m *memory) recovers() bool { return m != nil && m.failed }
