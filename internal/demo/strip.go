package demo

import (
	"slices"
	"strings"
	"time"

	"pingover/internal/lab"
	"pingover/internal/term"
)

// strip is what a client sees over time, one character for each moment. On a
// terminal it grows as it happens.
type strip struct {
	*screen
	seen func() string // until now
	stop chan struct{}
	done chan struct{}
}

const (
	moment    = 100 * time.Millisecond // one character
	rowLength = 66                     // characters
)

func (s *screen) newStrip(seen func() string) *strip {
	v := &strip{screen: s, seen: seen, stop: make(chan struct{}), done: make(chan struct{})}
	go v.live()
	return v
}

// live draws the row that grows, until close.
func (v *strip) live() {
	defer close(v.done)
	tick := time.NewTicker(moment)
	defer tick.Stop()
	for {
		if all := rows(v.seen()); len(all) > 0 {
			v.Draw(term.Still(v.row(all[len(all)-1])))
		}
		select {
		case <-tick.C:
		case <-v.stop:
			v.Clear()
			return
		}
	}
}

// close ends the drawing.
func (v *strip) close() {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	<-v.done
}

// end shows the strip as a whole, and a line about it.
func (v *strip) end(summary string) {
	v.close()
	for _, row := range rows(v.seen()) {
		v.print(v.row(row) + "\n")
	}
	v.print(indent + "client: " + summary + "\n\n")
}

func (v *strip) row(text string) string { return indent + "client: " + v.Green(text) }

// rows break a strip.
func rows(seen string) (rows []string) {
	for row := range slices.Chunk([]byte(seen), rowLength) {
		rows = append(rows, string(row))
	}
	return rows
}

const (
	pingEvery = 10 * time.Millisecond
	dot       = int(moment / pingEvery) // pings, of which all must be answered
)

// dots are one for every ten pings, a blank where one of them was lost.
func dots(samples []lab.Sample) string {
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
	return dots.String()
}
