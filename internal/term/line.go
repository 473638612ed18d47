package term

import (
	"io"
	"sync"
	"time"
)

// Line is a writer of whole lines for several goroutines. On a terminal it has
// one more line below all others, which shows what is being done now.
type Line struct {
	Out   io.Writer
	Draws bool // false: nothing is ever drawn

	mu    sync.Mutex
	frame Frame       // nil: no line is drawn
	drawn string      // the line as it was drawn
	timer *time.Timer // draws it again
}

// Frame is the text of the drawn line at a moment, and after how long it
// changes: 0 for never.
type Frame func(now time.Time) (text string, stays time.Duration)

// Still is a line that does not change.
func Still(text string) Frame { return func(time.Time) (string, time.Duration) { return text, 0 } }

// Control sequences (ECMA-48, and DECAWM of the VT100): a line that is too long
// is cut at the margin, because only a line of one row can be erased. The
// carriage return after it puts an echoed ^C into the line and not after it.
const (
	erase  = "\r\033[K"
	noWrap = "\033[?7l"
	wrap   = "\033[?7h\r"
)

// Write prints lines that stay.
func (l *Line) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drawn == "" {
		return l.Out.Write(lines)
	}
	if _, err := io.WriteString(l.Out, erase+string(lines)+l.drawn); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// Draw draws a line in place of the one before it.
func (l *Line) Draw(f Frame) {
	if !l.Draws {
		return
	}
	l.mu.Lock()
	l.frame = f
	l.mu.Unlock()
	l.redraw()
}

// redraw brings the line up to date, now and when it will have changed.
func (l *Line) redraw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frame == nil {
		return
	}
	text, stays := l.frame(time.Now())
	if line := noWrap + text + wrap; line != l.drawn {
		before := ""
		if l.drawn != "" {
			before = erase
		}
		l.drawn = line
		_, _ = io.WriteString(l.Out, before+line) // a closed terminal shows nothing
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	if stays > 0 {
		l.timer = time.AfterFunc(stays, l.redraw)
	}
}

// Clear removes the line.
func (l *Line) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frame = nil
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.drawn != "" {
		l.drawn = ""
		_, _ = io.WriteString(l.Out, erase)
	}
}
