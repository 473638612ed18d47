package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"pingover/internal/lab"
	"pingover/internal/proc"
	"pingover/state"
)

var (
	vip     = netip.MustParseAddr("172.16.0.1")
	witness = netip.MustParseAddr("172.16.0.254")
)

// story is the demo while it is told.
type story struct {
	*screen
	client, primary, standby, gateway *lab.Host
	mail                              *mailbox
}

// machines puts the hosts on the switch.
func (s *story) machines(l *lab.Lab, program string) error {
	for _, m := range []struct {
		host          **lab.Host
		name, address string
	}{
		{&s.client, "client", "172.16.0.9/16"},
		{&s.primary, "primary", "172.16.0.2/16"},
		{&s.standby, "standby", "172.16.0.3/16"},
		{&s.gateway, "gateway", witness.String() + "/16"},
	} {
		h, err := l.Add(m.name, m.address)
		if err != nil {
			return err
		}
		*m.host = h
	}
	return install(s.standby, program)
}

// programs is where a host has pingover.
const programs = "/var/lib/bin"

// install makes the program known to a host by its name. By way of our own
// root, for a host has an /etc, a /run and a /var/lib of its own; and it goes
// by what the demo shows, not by what this machine is configured to do.
func install(h *lab.Host, program string) error {
	link := fmt.Sprintf("/proc/%d/root%s", os.Getpid(), program)
	_, err := h.Run("sh", "-ec", `mkdir "$1"; ln -s "$2" "$1/pingover"; rm -f /etc/pingover.yaml`, "sh", programs, link)
	return err
}

// command is a command line that is typed on a host.
type command struct {
	name string
	cmd  *exec.Cmd
	out  *output
}

// typed shows a command line as an operator types it, and begins it.
func (s *story) typed(ctx context.Context, h *lab.Host, line string) (*command, error) {
	for part := range strings.Lines(h.Name() + "# " + line + "\n") {
		s.print(indent + s.Bold(strings.TrimSuffix(part, "\n")) + "\n")
	}
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

// pingover is the program, typed on the standby to its end.
func (s *story) pingover(ctx context.Context, line string, as state.Outcome) error {
	c, err := s.typed(ctx, s.standby, line)
	if err != nil {
		return err
	}
	return s.ends(c, as)
}

// ends waits for the end of the program, and verifies what it was.
func (s *story) ends(c *command, as state.Outcome) error {
	code, err := c.code()
	if err != nil {
		return err
	}
	s.print(fmt.Sprintf("%s%s\n%s%d\n\n", indent, s.Bold("standby# echo $?"), indent, code))
	return c.verify(code, as.Code(), string(as))
}

// raise is what the primary does to get the virtual IP.
func (s *story) raise(ctx context.Context) error {
	c, err := s.typed(ctx, s.primary, fmt.Sprintf("ip addr add %s/32 dev eth0", vip))
	if err != nil {
		return err
	}
	code, err := c.code()
	if err != nil {
		return err
	}
	return c.verify(code, 0, "raised")
}

// servedBy verifies, by the kernels, that one of the hosts has the virtual IP
// and no other, of those whose power is on.
func (s *story) servedBy(want *lab.Host, on ...*lab.Host) error {
	for _, h := range on {
		switch has, err := holds(h); {
		case err != nil:
			return err
		case has && h != want:
			return fmt.Errorf("%s is on %s, and should be on %s", vip, h.Name(), want.Name())
		case !has && h == want:
			return fmt.Errorf("%s is not on %s, and should be", vip, h.Name())
		}
	}
	return nil
}

// holds tells whether a host has the virtual IP.
func holds(h *lab.Host) (has bool, err error) {
	err = h.Do(func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.Equal(vip.AsSlice()) {
				has = true
			}
		}
		return err
	})
	return has, err
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
