package cli

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/proc"
	"pingover/internal/run"
)

// examinedAtOnce is how many clusters are examined in parallel: each has sockets
// of its own, which receive the replies to the pings of all.
const examinedAtOnce = 32

// doctor is the command.
func (p Program) doctor(c *cli.Context) (int, error) {
	_, _, err := p.configured(c, p.Env)
	var tasks []Task
	if err == nil {
		tasks, err = p.chosen(c, true, p.recalledAnew)
	}
	if refused := refusals(err); len(refused) > 0 {
		return p.judged(c, []diagnosis{{found: refused}}), nil
	}
	if err != nil {
		return 0, err
	}
	var all []diagnosis
	for t, found := range parallel(c.Context, tasks, examinedAtOnce, 0, func(t Task) []doctor.Finding {
		return t.Doctor(c.Context, c.Bool("send-test") || c.Bool("send-mail"))
	}) {
		if c.Context.Err() != nil {
			return exit.Interrupted, nil
		}
		all = append(all, diagnosis{t, found})
	}
	return p.judged(c, all), nil
}

// parallel does the same to all tasks, atOnce of them at a time, with starts
// apart until ctx ends. It yields the results in the order of the tasks.
func parallel[T any](ctx context.Context, tasks []Task, atOnce int, apart time.Duration, do func(Task) T) func(yield func(Task, T) bool) {
	if len(tasks) == 1 { // a goroutine more costs a check a fiftieth of its time
		return func(yield func(Task, T) bool) { yield(tasks[0], do(tasks[0])) }
	}
	type done struct {
		result T
		panic  *proc.InternalError
	}
	slots := make(chan struct{}, atOnce)
	ends := make([]chan done, len(tasks))
	for i, t := range tasks {
		ends[i] = make(chan done, 1)
		go func() {
			select {
			case <-time.After(time.Duration(i) * apart):
			case <-ctx.Done():
			}
			slots <- struct{}{}
			var e done
			defer func() {
				e.panic = proc.RecoveredError(recover())
				<-slots
				ends[i] <- e
			}()
			e.result = do(t)
		}()
	}
	return func(yield func(Task, T) bool) {
		for i, t := range tasks {
			e := <-ends[i]
			if e.panic != nil {
				panic(e.panic)
			}
			if !yield(t, e.result) {
				return
			}
		}
	}
}

// refusals are the errors of settings that are not on the command line.
func refusals(err error) (found []doctor.Finding) {
	fix := "change that setting, or the file it names"
	if problems, ok := errors.AsType[config.Problems](err); ok && problems.Code() == exit.Config {
		if h, ok := errors.AsType[hinted](err); ok {
			fix = h.hint
		}
		for _, problem := range problems {
			found = append(found, doctor.Finding{Grade: doctor.Fail, Text: problem.Error(), Fix: fix})
		}
	}
	if refused, ok := errors.AsType[*run.Error](err); ok && refused.Code == exit.Config {
		if refused.Hint != "" {
			fix = refused.Hint
		}
		found = append(found, doctor.Finding{Grade: doctor.Fail, Text: refused.Text, Fix: fix})
	}
	return found
}
