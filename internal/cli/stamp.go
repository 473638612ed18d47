package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Stamp is what a watch puts before each of its lines.
type Stamp uint8

// The stamps.
const (
	NoStamp       Stamp = iota
	TimeStamp           // for a file or a terminal
	PriorityStamp       // <3> and so on, for the journal (sd-daemon(3))
	ClockStamp          // of a verbose check: without the date
)

// Priorities of lines (syslog(3)).
const (
	errorLevel   = 3
	warningLevel = 4
	noticeLevel  = 5
	infoLevel    = 6
)

// stamper puts a stamp before each line. Its lines are of infoLevel unless it is
// made for another one.
type stamper struct {
	out   io.Writer
	stamp Stamp
	level int
}

func (s stamper) Write(lines []byte) (int, error) {
	stamp := ""
	switch s.stamp {
	case NoStamp:
		return s.out.Write(lines)
	case TimeStamp:
		stamp = time.Now().Format("2006-01-02 15:04:05 ")
	case ClockStamp:
		stamp = time.Now().Format("15:04:05.000 ")
	case PriorityStamp:
		level := s.level
		if level == 0 {
			level = infoLevel
		}
		stamp = fmt.Sprintf("<%d>", level)
	}
	var b strings.Builder
	for line := range strings.Lines(string(lines)) {
		b.WriteString(stamp + line)
	}
	if _, err := io.WriteString(s.out, b.String()); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// at is where lines of a level are written.
func (p printer) at(level int) io.Writer {
	if s, ok := p.out.(stamper); ok {
		s.level = level
		return s
	}
	return p.out
}
