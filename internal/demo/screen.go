package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
)

// screen is where the demo is told. Narration begins at the margin; commands
// and what they print are indented. Without a terminal there is no control
// character in it but the end of a line.
type screen struct {
	terminal, color bool

	mu     sync.Mutex
	out    io.Writer
	bottom string // the line below all others that is drawn again and again
	err    error  // of the first write that failed
}

const indent = "    "

// print writes lines that stay.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(s.erased() + text + s.bottom)
}

// draw puts a line below all others, in place of the one before it; "" takes
// it away. Only a terminal can do that.
func (s *screen) draw(line string) {
	if !s.terminal {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	erase := s.erased()
	s.bottom = line
	if line != "" {
		s.bottom = cut + line + wrapped + "\r" // so that a ^C that is echoed stands in it, and not behind the margin
	}
	s.write(erase + s.bottom)
}

// Of the VT100 (DECAWM): what is too long for the terminal is cut at the margin,
// for only a line that takes up one row can be erased.
const (
	cut     = "\033[?7l"
	wrapped = "\033[?7h"
)

// erased clears the line at the bottom (ECMA-48: EL).
func (s *screen) erased() string {
	if s.bottom == "" {
		return ""
	}
	return "\r\033[K"
}

func (s *screen) write(text string) {
	if s.err == nil && text != "" {
		_, s.err = io.WriteString(s.out, text)
	}
}

// failed is whether something could not be shown.
func (s *screen) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return fmt.Errorf("cannot be shown: %w", s.err)
	}
	return nil
}

// say tells a paragraph.
func (s *screen) say(format string, args ...any) { s.print(fmt.Sprintf(format, args...) + "\n\n") }

// heading is above a part of the story.
func (s *screen) heading(title string) { s.print(s.bold(title) + "\n\n") }

// shown is a line that an operator could see on a machine.
func (s *screen) shown(line string) {
	s.print(strings.TrimRight(indent+plain(line), " ") + "\n")
}

// bold, green and red are ECMA-48's SGR.
func (s *screen) bold(text string) string  { return s.colored("1", text) }
func (s *screen) green(text string) string { return s.colored("32", text) }
func (s *screen) red(text string) string   { return s.colored("31", text) }

func (s *screen) colored(with, text string) string {
	if !s.color {
		return text
	}
	return "\033[" + with + "m" + text + "\033[0m"
}

// plain is a line without control characters.
func plain(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, line)
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
