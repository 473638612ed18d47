package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/internal/term"
	"pingover/state"
)

// Limits of --every and --for of watch.
const (
	usualTick    = 10 * time.Second
	shortestTick = 100 * time.Millisecond
	longestTick  = time.Hour

	// Below briefTick clusters and pools need leastCount pings in a round, so that
	// nothing is decided on fewer than six in the two; metrics are written only so
	// often, and when an outcome changes.
	briefTick    = time.Second
	leastCount   = 3
	briefMetrics = 10 * time.Second

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
	made, err := p.watchable(c, every)
	if err != nil {
		return 0, err
	}
	if p.Keep != nil {
		defer p.Keep()()
	}
	ctx, end := context.WithCancelCause(c.Context)
	defer end(nil)
	c.Context = ctx
	out.verbose = c.Bool("verbose")
	out.watched = p.Terminal && !out.quiet
	s := out.onScreen()
	defer s.Clear()
	out.out = stamper{out: s, stamp: p.Stamp}
	out.log = p.openLog(made.checks)
	defer out.log.close(out)
	p.Stderr, p.Stdout = out.out, &term.Line{Out: p.Stdout}
	w := &watcher{
		Program: p, c: c, out: out, end: end, screen: s, every: every, until: until, start: time.Now(),
		made: map[string]ending{}, ended: map[string]state.Outcome{},
		memories: map[string]*memory{}, turns: map[string]chan struct{}{}, stopped: make(chan struct{}, 1),
		changed: make(chan struct{}, 1), toKeep: make(chan struct{}, 1),
	}
	hangup := make(<-chan os.Signal)
	if p.Hangup != nil {
		hangup = p.Hangup()
	}
	w.reportUnusable(made.source, made.checks, true)
	w.say("watching with version %s, every %s: %s", p.Version, config.DurationText(every), w.states(made))
	w.follow(made)
	manager, err := p.serviceManager(os.Getpid())
	if err != nil {
		errorf(out.at(warningLevel), "%v", err)
	}
	defer manager.close()
	beats, quiet := manager.beats()
	defer quiet()
	manager.tell("READY=1")
	stop := w.writeOften()
	done := ctx.Done()
	for w.running() > 0 {
		select {
		case <-hangup:
			manager.reloading()
			w.reload()
			manager.tell("READY=1")
		case <-beats:
			manager.tell("WATCHDOG=1")
		case <-w.stopped:
		case <-done:
			done = nil
			manager.tell("STOPPING=1")
		}
	}
	if done != nil { // --for is over
		manager.tell("STOPPING=1")
	}
	stop()
	if w.panicked != nil {
		panic(w.panicked)
	}
	w.say("%s", w.ending())
	return w.code, nil
}

// watcher checks clusters again and again.
type watcher struct {
	Program
	c            *cli.Context
	out          printer
	end          context.CancelCauseFunc
	screen       *screen
	every, until time.Duration
	start        time.Time
	stopped      chan struct{} // receives when a loop has ended
	changed      chan struct{} // receives when an outcome is another one
	toKeep       chan struct{} // receives when there is news of the file

	mu       sync.Mutex
	now      plan                     // until the next reload
	replaced chan struct{}            // closed by it
	made     map[string]ending        // the newest check of each cluster that was made
	ended    map[string]state.Outcome // of each cluster's newest check, made or not
	memories map[string]*memory
	turns    map[string]chan struct{} // of each cluster: after a reload its check that is under way ends first
	loops    int                      // that run, of all plans
	code     int
	panicked *proc.InternalError
}

// running counts the loops.
func (w *watcher) running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loops
}

// loop runs the loop of a cluster. A panic in it ends the watch.
func (w *watcher) loop(work func()) {
	w.loops++
	go func() {
		defer func() {
			panicked := proc.RecoveredError(recover())
			w.mu.Lock()
			defer w.mu.Unlock()
			w.loops--
			if panicked != nil {
				w.panicked = panicked
				w.end(panicked)
			}
			select {
			case w.stopped <- struct{}{}:
			default:
			}
		}()
		work()
	}()
}

// errHung ends all clusters because of one: a check that was abandoned still has
// its lock, and might go on later with old observations. Only the end of the
// process ends it.
var errHung = errors.New("the end of this watch, because a check hangs")

// follow checks the clusters of a plan, in place of those of the one before.
func (w *watcher) follow(made plan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.replaced != nil {
		close(w.replaced)
	}
	w.now, w.replaced = made, make(chan struct{})
	if len(made.checks) > 1 && w.Alone != nil {
		w.Alone(false)
	}
	kept := map[string]bool{}
	for i, t := range made.checks {
		name := t.Name
		kept[name] = true
		if w.turns[name] == nil {
			w.turns[name], w.memories[name] = make(chan struct{}, 1), new(memory)
		}
		l := loop{watcher: w, plan: made, task: t, replaced: w.replaced, out: w.out, turn: w.turns[name], single: len(made.checks) == 1}
		l.out.cluster, l.out.memory = name, w.memories[name]
		if l.single {
			l.out.screen = w.screen
		}
		first := time.Now().Add(time.Duration(i) * apart)
		w.loop(func() { l.run(first) })
	}
	for name := range w.ended {
		if !kept[name] {
			delete(w.ended, name)
			delete(w.made, name)
		}
	}
}

// reload reads the configuration file again. One that cannot be used changes
// nothing: the last valid one stays in effect.
func (w *watcher) reload() {
	defer func() {
		select {
		case w.toKeep <- struct{}{}:
		default:
		}
	}()
	made, err := w.watchable(w.c, w.every)
	if err != nil { // no copy is known by the file, only by what is watched
		w.explain(err)
		w.say("not reloaded; still watching: %s", w.states(w.refused(err)))
		return
	}
	w.reportUnusable(made.source, made.checks, true)
	w.follow(made)
	if made.usable() {
		w.say("reloaded: %s", w.states(made))
	} else {
		w.say("not reloaded; still watching: %s", w.states(made))
	}
}

// refused notes that the file cannot be used, for the alert about that, and returns
// what is watched all the same.
func (w *watcher) refused(err error) plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	if problems, ok := errors.AsType[config.Problems](err); ok && w.now.path != "" {
		w.now.problems, w.now.dir = problems, w.now.checks[0].StateDir
		w.now.kept, _ = w.now.dir.ValidConfig(w.now.path)
	}
	return w.now
}

// say prints a line about the watch itself.
func (w *watcher) say(format string, args ...any) {
	if !w.out.quiet {
		errorf(w.out.at(noticeLevel), format, args...)
	}
}

// states are the clusters and what each is, by its record.
func (w *watcher) states(made plan) string {
	const most = 10
	var texts []string
	for _, s := range survey(made.checks, time.Now(), nil) {
		text := s.Cluster + " never checked"
		switch {
		case s.pool != nil && s.Last != nil:
			text = fmt.Sprintf("%s %s", s.Cluster, s.Last.Outcome)
		case made.left[s.Cluster]:
			text = fmt.Sprintf("%s no longer configured, holding %s", s.Cluster, prefixes(s.Held))
		case len(s.Held) > 0:
			text = fmt.Sprintf("%s holding %s", s.Cluster, prefixes(s.Held))
		case s.Last != nil && s.Role != nil:
			text = fmt.Sprintf("%s %s", s.Cluster, *s.Role)
		}
		texts = append(texts, text)
	}
	if len(texts) > most {
		texts = append(texts[:most], fmt.Sprintf("and %d more", len(texts)-most))
	}
	return strings.Join(texts, ", ")
}

// ending says why the watch ends, and what stays on this machine.
func (w *watcher) ending() string {
	why := "--for is over"
	if cause := context.Cause(w.c.Context); cause != nil {
		why = cause.Error()
	}
	w.mu.Lock()
	checks := w.now.checks
	w.mu.Unlock()
	var held []string
	for _, s := range survey(checks, time.Now(), nil) {
		if len(s.Held) > 0 {
			held = append(held, fmt.Sprintf("%s stays on this machine, unwatched; to release it: pingover release %s", prefixes(s.Held), s.Cluster))
		}
	}
	return strings.Join(append([]string{"watch ended: " + why}, held...), "; ")
}

// note shows the outcome of a check, and keeps it for the metrics.
func (w *watcher) note(e ending, next time.Time, single bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.now.checks, func(t Task) bool { return t.Name == e.Task }) {
		return // it has left the file meanwhile
	}
	if w.ended[e.Task] != e.Outcome {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	w.ended[e.Task] = e.Outcome
	if e.Check.Outcome != "" {
		w.made[e.Task] = e
	}
	switch {
	case w.c.Bool("json"):
		w.printRaw(jsonLine(e.object(e)))
	case single:
		w.screen.between(e, next)
	default:
		w.screen.Draw(term.Still(w.summary()))
	}
}

// summary is the outcomes of the last checks: "40 clusters: web holding; 39 ok".
// If more than three are not ok, they are only counted.
func (w *watcher) summary() string {
	watched := len(w.now.checks)
	text := tally(w.now.checks)
	if n := len(w.ended); n < watched {
		text = fmt.Sprintf("%d of %d checked", n, watched)
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
