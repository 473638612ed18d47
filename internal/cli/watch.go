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
	"pingover/internal/failover"
	"pingover/state"
)

const aboutWatch = `The same as check, again and again, until SIGTERM: as a service in place of the
crontab line, or as one that fills its minute. Each cluster is checked in its
own time. A check that takes longer than --every skips beats.

  pingover watch
  pingover watch --every 10s --for 58s

What repeats is said once. The configuration file is read once, at the start:
restart it after a change. A signal ends it at once, but for a check that is
switching, which finishes that first.
`

func watchCodes() []ExitCode {
	return withCommon([]ExitCode{
		{0, "", "ended by a signal, or when --for was over"},
		{codeUsage, "", "something is wrong on the command line"},
		{codeBug, "", "a bug, or a check that hung for good"},
	}, 77, 78)
}

// Limits of --every and --for of watch.
const (
	usualBeat    = 10 * time.Second
	shortestBeat = time.Second
	longestBeat  = time.Hour

	endless       = time.Duration(math.MaxInt64)
	shortestWatch = time.Second
	longestWatch  = 24 * time.Hour
)

// watch is the command: each cluster is checked in a loop of its own, so that
// none delays another.
func (p Program) watch(c *cli.Context) (code int, err error) {
	v, err := p.voice(c)
	if err != nil {
		return 0, err
	}
	every, err := duration(c, "every", usualBeat, shortestBeat, longestBeat)
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
	v.talkative = c.Bool("verbose")
	v.notes = p.Terminal && !v.quiet
	s := v.onScreen()
	defer s.clear()
	p.Stderr, p.Stdout = s, &screen{out: p.Stdout}
	w := &watcher{
		Program: p, c: c, end: end, screen: s, every: every, until: until, clusters: len(clusters),
		made: map[string]failover.Report{}, ended: map[string]state.Outcome{},
	}
	stop := w.writeMetricsOften(v, all)
	for _, ended := range sideBySide(ctx, clusters, len(clusters), apart, func(cluster config.Cluster) int { return w.follow(v, cluster) }) {
		code = worse(code, ended)
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

// errHung ends all clusters because of one: a check that was given up still
// has its lock, and may come back to act on what it saw long ago. Only the end
// of the process is its end.
var errHung = errors.New("the end of this watch, in which a check hangs")

// follow checks one cluster at each beat. It returns the exit code: 0 unless
// there was a bug.
func (w *watcher) follow(v voice, cluster config.Cluster) (code int) {
	v.cluster = cluster.Name
	v.memory = new(memory)
	if w.clusters == 1 {
		v.screen = w.screen
	}
	ctx, start := w.c.Context, time.Now()
	for at := time.Duration(0); at < w.until; at = w.nextBeat(at, time.Since(start)) {
		if !sleepUntil(ctx, start.Add(at)) {
			return code
		}
		var hung atomic.Bool
		act := func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			o.Finish = true // no check may follow
			return w.Check(ctx, c, o)
		}
		report, ended := w.one(w.c, v, givenUp(act, &hung), cluster)
		if ended == Interrupted {
			return code
		}
		if ended == codeBug || hung.Load() {
			code = codeBug
		}
		v.memory.turn(report.Outcome)
		w.note(report, start.Add(w.nextBeat(at, time.Since(start))))
		if hung.Load() {
			w.end(errHung)
		}
	}
	return code
}

// nextBeat is the first beat that is not over, and behind the last one.
func (w *watcher) nextBeat(last, now time.Duration) time.Duration {
	beats := (now + w.every - 1) / w.every
	return max(last+w.every, beats*w.every)
}

// note shows how a check ended, and keeps it for the metrics.
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
		w.screen.show(still(w.summary()))
	}
}

// summary tells how the last checks of the clusters ended: "40 clusters: web
// holding; 39 ok". Where more than three are not ok, they are counted only.
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
			named = append(named, name+" "+colored(w.screen.color, o))
		}
	}
	for _, o := range slices.Sorted(maps.Keys(counts)) {
		counted = append(counted, fmt.Sprintf("%d %s", counts[o], colored(w.screen.color, o)))
	}
	switch {
	case len(named) == 0 || len(named) > 3:
		return text + ": " + strings.Join(counted, ", ")
	case counts[state.OK] == 0:
		return text + ": " + strings.Join(named, ", ")
	}
	return fmt.Sprintf("%s: %s; %d %s", text, strings.Join(named, ", "), counts[state.OK], colored(w.screen.color, state.OK))
}

// writeMetricsOften writes the metrics at each beat, and once more when it is
// stopped; that not while a check hangs, for then that might, too.
func (w *watcher) writeMetricsOften(v voice, clusters []config.Cluster) (stop func()) {
	write := func() {
		w.mu.Lock()
		made := slices.Collect(maps.Values(w.made))
		w.mu.Unlock()
		w.writeMetrics(v, clusters, made)
	}
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		beat := time.NewTicker(w.every)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
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

// sleepUntil waits for t, or less when ctx ends; then it returns false.
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

// memory is what has been said of a cluster: nothing of what was said in the
// check before is said again.
type memory struct {
	before, now []string
	failed      bool // the check before could not be made
}

// knows says whether a line was said in the check before, and notes it.
func (m *memory) knows(line string) bool {
	if m == nil {
		return false
	}
	m.now = append(m.now, line)
	return slices.Contains(m.before, line)
}

// turn is the end of a check. One that found the lock taken had nothing to say.
func (m *memory) turn(o state.Outcome) {
	if o != busy {
		m.before, m.failed = m.now, o == failed
	}
	m.now = nil
}

// recovers says whether the check before could not be made.
func (m *memory) recovers() bool { return m != nil && m.failed }
