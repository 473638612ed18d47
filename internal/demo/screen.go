package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"pingover/internal/term"
)

// screen is the output of the demo. Narration begins at the margin; commands and
// their output are indented. Without a terminal there is no control character in
// it but the end of a line.
type screen struct {
	term.Line
	term.Colors
	out *firstError
}

const indent = "    "

func newScreen(out io.Writer, terminal, color bool) *screen {
	first := &firstError{Writer: out}
	return &screen{Line: term.Line{Out: first, Draws: terminal}, Colors: term.Colors(color), out: first}
}

// firstError is a writer that stops at its first error, and keeps it.
type firstError struct {
	io.Writer
	mu  sync.Mutex
	err error
}

func (w *firstError) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		_, w.err = w.Writer.Write(text)
	}
	return len(text), w.err
}

// print writes lines that stay.
func (s *screen) print(text string) { _, _ = s.Write([]byte(text)) } // see failed

// failed is the error of an output that could not be written.
func (s *screen) failed() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.err != nil {
		return fmt.Errorf("cannot be shown: %w", s.out.err)
	}
	return nil
}

// say tells a paragraph.
func (s *screen) say(format string, args ...any) { s.print(fmt.Sprintf(format, args...) + "\n\n") }

// heading is above an act, across the screen.
func (s *screen) heading(title string) {
	s.print(s.Bold(fmt.Sprintf("--- %s %s", title, strings.Repeat("-", 75-len(title)))) + "\n\n")
}

// width is the number of columns that lines are folded at.
const width = 80

// shown is a line that an operator could see on a machine, folded between words.
func (s *screen) shown(line string) {
	line = indent + strings.TrimRight(term.Plain(line), " ")
	for len(line) > width {
		text := strings.TrimLeft(line, " ")
		margin := len(line) - len(text)
		at := strings.LastIndexByte(line[:width+1], ' ')
		if at <= margin {
			break // one long word
		}
		s.print(line[:at] + "\n")
		line = strings.Repeat(" ", max(margin, len(indent)+2)) + line[at+1:]
	}
	s.print(strings.TrimRight(line, " ") + "\n")
}

// output shows what a command prints, line by line.
type output struct {
	*screen
	rest []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.rest = append(o.rest, p...)
	for {
		line, rest, found := bytes.Cut(o.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		o.shown(string(line))
		o.rest = rest
	}
}

// end shows a last line that was not ended.
func (o *output) end() {
	if len(o.rest) > 0 {
		o.shown(string(o.rest))
		o.rest = nil
	}
}
