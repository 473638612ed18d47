package cli

import (
	"log/syslog"
	"sync"
	"time"
)

// systemLog hands lines to syslog, and never waits for it: a log daemon that hangs
// must not keep a takeover from being made. Nil logs nothing.
type systemLog struct {
	socket string
	lines  chan logLine
	closed chan struct{}
	mu     sync.Mutex
	over   bool  // a check that was abandoned may still speak
	err    error // the last one
	lost   int   // lines, since the queue was full
}

type logLine struct {
	level int
	text  string
}

const (
	logQueue    = 100         // lines that wait at most
	logPatience = time.Second // for the rest, at the end of a run
)

// openLog is the system log of a command for these tasks; nil where there is none, or
// a setting says so.
func (p Program) openLog(tasks []Task) *systemLog {
	if p.LogSocket == "" || len(tasks) == 0 || !tasks[0].Syslog {
		return nil
	}
	l := &systemLog{socket: p.LogSocket, lines: make(chan logLine, logQueue), closed: make(chan struct{})}
	go l.write()
	return l
}

// log queues a line.
func (l *systemLog) log(level int, text string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	select {
	case l.lines <- logLine{level, text}:
	default:
		l.lost++
	}
}

// write hands over what is queued. The daemon may be restarted in between: the
// writer then connects again by itself.
func (l *systemLog) write() {
	defer close(l.closed)
	var w *syslog.Writer
	for line := range l.lines {
		var err error
		if w == nil {
			w, err = syslog.Dial("unixgram", l.socket, syslog.LOG_DAEMON|syslog.LOG_INFO, programName)
		}
		if err == nil {
			err = put(w, line)
		}
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
		}
	}
	if w != nil {
		w.Close()
	}
}

func put(w *syslog.Writer, line logLine) error {
	switch line.level {
	case errorLevel:
		return w.Err(line.text)
	case warningLevel:
		return w.Warning(line.text)
	case noticeLevel:
		return w.Notice(line.text)
	}
	return w.Info(line.text)
}

// close waits a moment for what is queued, and reports what was not logged.
func (l *systemLog) close(p printer) {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.over = true
	close(l.lines)
	l.mu.Unlock()
	select {
	case <-l.closed:
	case <-time.After(logPatience):
		errorf(p.at(warningLevel), "syslog: %s does not take what it is sent", l.socket)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		errorf(p.at(warningLevel), "syslog: %v", l.err)
	case l.lost > 0:
		errorf(p.at(warningLevel), "syslog: %s lost", count(l.lost, "line"))
	}
}
