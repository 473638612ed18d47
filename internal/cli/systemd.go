package cli

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// serviceManager is systemd's notification socket (sd_notify(3)). Nil tells nobody.
type serviceManager struct {
	conn     net.Conn
	watchdog time.Duration // between two signs of life; 0: none is expected
}

// serviceManager connects to the one that NOTIFY_SOCKET names, a path or with @ the
// name of an abstract socket; nil without one. Pid is that of this process.
func (p Program) serviceManager(pid int) (*serviceManager, error) {
	socket := p.Env.Getenv("NOTIFY_SOCKET")
	switch {
	case socket == "":
		return nil, nil
	case !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@"):
		return nil, fmt.Errorf("NOTIFY_SOCKET %q: must be a path, or @ and the name of an abstract socket", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	m := &serviceManager{conn: conn}
	// Half of the time, as sd_watchdog_enabled(3) advises.
	if whose := p.Env.Getenv("WATCHDOG_PID"); whose == "" || whose == strconv.Itoa(pid) {
		if us, err := strconv.ParseInt(p.Env.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			m.watchdog = time.Duration(us) * time.Microsecond / 2
		}
	}
	return m, nil
}

// tell sends a state. What the manager does not take in a second is given up: it
// must not keep a takeover from being made, and it restarts what is silent.
func (m *serviceManager) tell(state string) {
	if m == nil {
		return
	}
	_ = m.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = m.conn.Write([]byte(state))
}

// reloading says that the file is being read; READY=1 ends it. The manager wants to
// know when that began (systemd.service(5), Type=notify-reload).
func (m *serviceManager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		m.tell(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	}
}

// beats receives when a sign of life is due.
func (m *serviceManager) beats() (due <-chan time.Time, stop func()) {
	if m == nil || m.watchdog == 0 {
		return nil, func() {}
	}
	tick := time.NewTicker(m.watchdog)
	return tick.C, tick.Stop
}

// close ends the connection.
func (m *serviceManager) close() {
	if m != nil {
		_ = m.conn.Close()
	}
}
