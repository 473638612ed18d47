package proc

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

const (
	limit = 4096    // bytes of a Result's Output
	late  = 1 << 20 // bytes read after the child's end: the largest size of a pipe for users, see pipe(7)
)

// output reads what a child prints and keeps the end.
type output struct {
	r, w *os.File
	kept []byte
	cut  bool
	done chan struct{}
}

// capture makes the pipe, whose end w is for the child.
func capture() (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("no pipe: %v", err)
	}
	o := &output{r: r, w: w, done: make(chan struct{})}
	go o.read()
	return o, nil
}

// read reads until end sets the deadline.
func (o *output) read() {
	defer close(o.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := o.r.Read(buf)
		o.keep(buf[:n])
		if err != nil {
			return
		}
	}
}

func (o *output) keep(p []byte) {
	o.kept = append(o.kept, p...)
	if over := len(o.kept) - limit; over > 0 {
		o.kept = append(o.kept[:0], o.kept[over:]...)
		o.cut = true
	}
}

// end returns the output after the child's end: all that is in the pipe, without waiting for those who may still
// hold it open, or even go on writing.
func (o *output) end() string {
	o.r.SetReadDeadline(time.Now())
	<-o.done
	o.r.SetReadDeadline(time.Time{})
	if pipe, err := o.r.SyscallConn(); err == nil {
		buf := make([]byte, 32<<10)
		pipe.Read(func(fd uintptr) bool {
			for got := 0; got < late; {
				n, err := unix.Read(int(fd), buf)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if err != nil || n == 0 {
					break
				}
				o.keep(buf[:n])
				got += n
			}
			return true
		})
	}
	return tail(o.kept, o.cut)
}

func (o *output) close() {
	o.w.Close()
	o.r.Close()
}

// tail makes valid UTF-8 of bytes that may begin in the middle of a character, and of at most limit bytes.
func tail(kept []byte, cut bool) string {
	const mark = "…"
	s := strings.ToValidUTF8(string(kept), string(utf8.RuneError))
	if !cut && len(s) <= limit {
		return s
	}
	s = s[max(0, len(s)-(limit-len(mark))):]
	for !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return mark + s
}
