package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pingover/internal/lab"
	"pingover/internal/term"
)

// view is what the client sees of the virtual IP: a line of dots with a hole
// in it where nobody answers.
type view struct {
	*screen
	trace *lab.Trace
	stop  chan struct{}
	done  chan struct{}
}

const (
	pingEvery = 10 * time.Millisecond
	dot       = 10 // pings, of which all must be answered
	rowLength = 66 // dots
)

// watch begins to look, and on a terminal to draw what is seen as it happens.
func (s *story) watch() (*view, error) {
	trace, err := s.client.Watch(vip, pingEvery)
	if err != nil {
		return nil, err
	}
	v := &view{screen: s.screen, trace: trace, stop: make(chan struct{}), done: make(chan struct{})}
	go v.live()
	return v, nil
}

// live draws the row that grows, until stop.
func (v *view) live() {
	defer close(v.done)
	tick := time.NewTicker(dot * pingEvery)
	defer tick.Stop()
	for {
		if all := rows(v.trace.Samples()); len(all) > 0 {
			v.Draw(term.Still(indent + v.row(all[len(all)-1])))
		}
		select {
		case <-tick.C:
		case <-v.stop:
			v.Clear()
			return
		}
	}
}

// close ends the view without a word.
func (v *view) close() []lab.Sample {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	<-v.done
	return v.trace.Stop()
}

// end ends the view and shows it as a whole, with the length of its gap.
func (v *view) end() (gap time.Duration) {
	samples := v.close()
	gap = v.trace.Gap()
	for _, row := range rows(samples) {
		v.print(indent + v.row(row) + "\n")
	}
	v.print(fmt.Sprintf("%s%s %s\n\n", indent, "client: no answer for", v.Red(fmt.Sprintf("%d ms", gap.Milliseconds()))))
	return gap
}

func (v *view) row(dots string) string { return "client: " + v.Green(dots) }

// rows are a dot for every ten pings, a blank where one of them was lost.
func rows(samples []lab.Sample) (rows []string) {
	var dots strings.Builder
	for ten := range slices.Chunk(samples, dot) {
		switch {
		case len(ten) < dot:
		case slices.ContainsFunc(ten, func(b lab.Sample) bool { return !b.OK }):
			dots.WriteByte(' ')
		default:
			dots.WriteByte('.')
		}
	}
	for row := range slices.Chunk([]byte(dots.String()), rowLength) {
		rows = append(rows, string(row))
	}
	return rows
}

// servedSince tells whether the client has had an answer since then.
func (v *view) servedSince(t time.Time) func() bool {
	return func() bool {
		_, answered := v.trace.FirstReplyAfter(t)
		return answered
	}
}
