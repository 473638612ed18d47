package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/state"
)

// watchable is what is checked so often.
func (p Program) watchable(c *cli.Context, every time.Duration) (plan, error) {
	made, err := p.planned(c)
	for _, t := range made.checks {
		count := t.cluster.Count
		if t.Kind == state.OfPool {
			count = t.pool.Count
		}
		if every < briefTick && t.Given && count < leastCount && err == nil {
			err = usageError{
				fmt.Sprintf("--every %s: %s has count %d: must be at least %d, for six pings in two rounds", config.DurationText(every), t.Name, count, leastCount),
				fmt.Sprintf("set count to %d or more, or --every to %s or more", leastCount, config.DurationText(briefTick)),
			}
		}
	}
	return made, err
}

// keep keeps the text of the file, and mails what is due about it.
func (w *watcher) keep() {
	w.mu.Lock()
	made := w.now
	w.mu.Unlock()
	w.keepFile(w.c.Context, w.out, made.source, made.checks)
}

// writeOften writes the metrics, and what is kept of the file, at each tick or where
// these are brief at times, and once more when it is stopped, unless a check hangs: the disk might, too.
func (w *watcher) writeOften() (stop func()) {
	write := func() {
		w.mu.Lock()
		of, made := w.now, slices.Collect(maps.Values(w.made))
		w.mu.Unlock()
		w.writeMetrics(w.out, of, made)
	}
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		w.keep()
		every, changed := w.every, (<-chan struct{})(nil)
		if every < briefTick {
			every, changed = briefMetrics, w.changed
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for minute := time.Now(); ; {
			select {
			case <-tick.C:
				write()
				if now := time.Now(); now.Sub(minute) >= time.Minute {
					minute = now
					w.keep()
				}
			case <-changed:
				write()
			case <-w.toKeep: // here, because a hanging mail server must not delay a sign of life
				w.keep()
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
