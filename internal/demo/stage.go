package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pingover/internal/lab"
	"pingover/internal/proc"
	"pingover/state"
)

// stage is where acts are played: the screen, and the commands typed on hosts.
type stage struct {
	*screen
	in   *os.File // on which Enter begins an act; nil: acts follow by themselves
	mail *mailbox
}

// act is a part of the demo that fits on one screen.
type act struct {
	title string
	play  func(context.Context) error
}

// limit is for one act, which takes about 3 s.
const limit = 30 * time.Second

// acts plays all, up to the first that fails.
func (s *stage) acts(ctx context.Context, acts ...act) error {
	for i, a := range acts {
		if err := s.await(ctx, fmt.Sprintf("Press Enter for act %d of %d, ctrl-C to end. ", i+1, len(acts))); err != nil {
			return err
		}
		title := fmt.Sprintf("%d. %s", i+1, a.title)
		s.heading(title)
		limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not at its end after %s", limit))
		err := a.play(limited)
		if limited.Err() != nil {
			err = context.Cause(limited)
		}
		cancel()
		if err == nil {
			err = s.failed()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", title, err)
		}
	}
	return nil
}

// Control sequences (ECMA-48): the line above, where the echo of Enter has left
// the prompt, and its end.
const eraseAbove = "\033[A\r\033[K"

// await waits for Enter, where acts do not follow by themselves. What was typed
// before the prompt does not count. The end of the input ends the demo.
func (s *stage) await(ctx context.Context, prompt string) error {
	if s.in == nil {
		return nil
	}
	_ = unix.IoctlSetInt(int(s.in.Fd()), unix.TCFLSH, unix.TCIFLUSH) // else an act begins early
	s.print(s.Yellow(prompt))
	read := make(chan error, 1)
	go func() { // until the process ends, if nothing is typed
		_, err := s.in.Read(make([]byte, 4096)) // a line
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			s.print("\n")
			return errEnough
		}
		if s.Draws {
			s.print(eraseAbove)
		}
		return nil
	case <-ctx.Done():
		s.print("\n")
		return context.Cause(ctx)
	}
}

// machine is a host of a demo.
type machine struct {
	host          **lab.Host
	name, address string
}

// add puts the machines on the switch.
func add(l *lab.Lab, machines ...machine) error {
	for _, m := range machines {
		h, err := l.Add(m.name, m.address)
		if err != nil {
			return err
		}
		*m.host = h
	}
	return nil
}

// programs is where a host has pingover.
const programs = "/var/lib/bin"

// install makes the program known to a host by its name, and writes its
// configuration file. By way of our own root, for a host has an /etc, a /run and
// a /var/lib of its own.
func install(h *lab.Host, program, file string) error {
	link := fmt.Sprintf("/proc/%d/root%s", os.Getpid(), program)
	_, err := h.Run("sh", "-ec", `mkdir "$1"; ln -s "$2" "$1/pingover"; printf %s "$3" >/etc/pingover.yaml`, "sh", programs, link, file)
	return err
}

// command is a command line that is typed on a host.
type command struct {
	name string
	cmd  *exec.Cmd
	out  *output
}

// typed shows a command line as an operator types it, and begins it.
func (s *stage) typed(ctx context.Context, h *lab.Host, line string) (*command, error) {
	s.print(indent + s.Bold(h.Name()+"# "+line) + "\n")
	c := &command{
		name: strings.Join(strings.Fields(line)[:2], " "),
		cmd:  h.Command(ctx, "sh", "-c", "PATH="+programs+":$PATH; exec "+line),
		out:  &output{screen: s.screen},
	}
	c.cmd.Dir = "/"
	c.cmd.Env = proc.Environment("HOME=/root")
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.WaitDelay = time.Second // when it is killed, and what it has started is not yet
	return c, c.cmd.Start()
}

// code waits for the end of the command.
func (c *command) code() (int, error) {
	err := c.cmd.Wait()
	c.out.end()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %v", c.name, err)
	}
	return 0, err
}

// verify says that a command has not ended as it should have.
func (c *command) verify(code, want int, meaning string) error {
	if code == want {
		return nil
	}
	return fmt.Errorf("%s ended with exit code %d, and should have with %d (%s)", c.name, code, want, meaning)
}

// run is a command that is typed, and has to succeed.
func (s *stage) run(ctx context.Context, h *lab.Host, line string) error {
	c, err := s.typed(ctx, h, line)
	if err != nil {
		return err
	}
	code, err := c.code()
	if err != nil {
		return err
	}
	return c.verify(code, 0, "success")
}

// pingover is the program, typed on a host to its end.
func (s *stage) pingover(ctx context.Context, h *lab.Host, line string, as state.Outcome) error {
	c, err := s.typed(ctx, h, "pingover "+line)
	if err != nil {
		return err
	}
	return s.ends(c, as)
}

// ends waits for the end of the program, and verifies its outcome.
func (s *stage) ends(c *command, as state.Outcome) error {
	code, err := c.code()
	if err != nil {
		return err
	}
	if err := c.verify(code, as.Code(), string(as)); err != nil {
		return err
	}
	s.say("\nExit code %d: %s.", code, as)
	return nil
}

// wantMail verifies that these messages have come, and no others.
func (s *stage) wantMail(ctx context.Context, subjects ...string) error {
	within(ctx, func() bool { return len(s.mail.all()) >= len(subjects) })
	if got := s.mail.subjects(); !slices.Equal(got, subjects) {
		return fmt.Errorf("the mail that came is %q, and should be %q", got, subjects)
	}
	return nil
}

// lastAct shows on a host that every change is kept, after a second message about
// the last one.
func (s *stage) lastAct(h *lab.Host, name, about string, subjects []string, want ...state.Outcome) act {
	return act{"The history", func(ctx context.Context) error {
		if err := s.wantMail(ctx, subjects...); err != nil {
			return err
		}
		s.say("A second message told the operator %s. Every change is kept:", about)
		if err := s.run(ctx, h, "pingover history "+name); err != nil {
			return err
		}
		s.print("\n")
		return wantHistory(h, name, want...)
	}}
}

// history are the changes of a cluster or pool that are kept on a host: those in
// the record, too, that are not yet in the other file.
func history(h *lab.Host, name string) (all []state.Entry, err error) {
	base := h.Path("/var/lib/pingover/" + name)
	record, err := os.ReadFile(base + ".json")
	if err != nil {
		return nil, err
	}
	var head state.Head
	if err := json.Unmarshal(record, &head); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(base + ".history")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	moved, err := state.ParseHistory(text)
	for _, e := range state.MergeHistory(moved, head.Recent) {
		if e.Kind == state.ChangeEntry {
			all = append(all, e)
		}
	}
	return all, err
}

// wantHistory verifies that these changes are kept, and no others.
func wantHistory(h *lab.Host, name string, want ...state.Outcome) error {
	all, err := history(h, name)
	if err != nil {
		return err
	}
	var got []state.Outcome
	for _, e := range all {
		got = append(got, e.Outcome)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("the changes in the history are %q, and should be %q", got, want)
	}
	return nil
}

// patience is how long what follows from a command may take.
const patience = 5 * time.Second

// within waits until something is so; false if it is not.
func within(ctx context.Context, so func() bool) bool {
	for deadline := time.Now().Add(patience); !so(); pause(ctx, 10*time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return false
		}
	}
	return true
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
