package demo

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pingover/internal/exit"
)

// typing is a demo on a terminal, whose keys are ours.
type typing struct {
	*showing
	keys *os.File
	seen strings.Builder
}

// onTerminal starts a demo that waits for Enter before each act.
func onTerminal(t *testing.T) *typing {
	t.Helper()
	s := prepare(t, "")
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	s.cmd.Env = append(s.cmd.Env, screens+"=step terminal")
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = terminal, terminal, terminal
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &typing{showing: s, keys: keys}
}

// until reads until the demo shows the text; false if it ends before.
func (s *typing) until(text string) bool {
	buf := make([]byte, 4096)
	for {
		n, err := s.keys.Read(buf)
		s.seen.Write(buf[:n])
		if strings.Contains(string(buf[:n]), text) { // a prompt is written at once
			return true
		}
		if err != nil { // EIO: nobody has the terminal open any more
			return false
		}
	}
}

// press types keys at the prompt of an act.
func (s *typing) press(act int, keys string) {
	s.t.Helper()
	if prompt := fmt.Sprintf("Press Enter for act %d of 6, ctrl-C to end. ", act); !s.until(prompt) {
		s.t.Fatalf("no prompt for act %d:\n%s", act, &s.seen)
	}
	if _, err := io.WriteString(s.keys, keys); err != nil {
		s.t.Fatal(err)
	}
}

// ended fails the test unless the demo ends so, and leaves nothing.
func (s *typing) ended(code int) {
	s.t.Helper()
	s.until("(the end)")
	s.cmd.Wait() // its error is the code
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%s, want exit code %d\n%s", s.cmd.ProcessState, code, &s.seen)
	}
	s.leftNothing()
}

func TestStepWaitsForEnter(t *testing.T) {
	notShort(t)
	s := onTerminal(t)
	for act := range 6 {
		s.press(act+1, "\n")
	}
	s.ended(0)
	seen := strings.ReplaceAll(s.seen.String(), "\r\n", "\n")
	// An answered prompt is erased.
	seen = regexp.MustCompile(`\x1b\[33mPress Enter .*\x1b\[0m\n\x1b\[A\r\x1b\[K`).ReplaceAllString(seen, "")
	seen = regexp.MustCompile(`(?m)^.*\r\x1b\[K`).ReplaceAllString(seen, "")
	seen = regexp.MustCompile(`\x1b\[\d+m`).ReplaceAllString(seen, "")
	want := slices.Clone(wantStory)
	want[len(want)-2] = `^Every step was verified, and the machines are gone\.$` // the time was the reader's
	tells(t, seen, want...)
	if strings.ContainsAny(seen, "\r\033") || strings.Contains(seen, "Press") {
		t.Errorf("what stays on the screen: %q", seen)
	}
}

func TestStepEndsByCtrlC(t *testing.T) {
	s := onTerminal(t)
	s.press(1, "\n")
	s.press(2, "\x03")
	s.ended(130)
}

func TestStepEndsByCtrlD(t *testing.T) {
	s := onTerminal(t)
	s.press(1, "\x04")
	s.ended(0)
	if strings.Contains(s.seen.String(), "--- 1.") {
		t.Errorf("it goes on:\n%s", &s.seen)
	}
}

func TestStepNeedsATerminal(t *testing.T) {
	s := prepare(t, "")
	s.cmd.Env = append(s.cmd.Env, screens+"=step")
	s.ends(exit.Usage, "--step: input and output must be a terminal\nomit --step to show all acts at once\n")
	if s.stdout.Len() > 0 {
		t.Errorf("stdout: %s", &s.stdout)
	}
}
