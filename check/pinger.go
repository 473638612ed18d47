package check

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	//lint:ignore SA1019 no longer maintained, and pinned; its faults are corrected in this file
	"github.com/go-ping/ping"
)

// goPing is the library. This file alone knows github.com/go-ping/ping v1.2.0,
// which is no longer maintained; its faults are corrected here and in track:
//
//   - Timeout and Interval of 0 or less panic in a goroutine of its own: Pings
//     are validated before.
//   - Its Timeout runs from the start, not from the last ping, and Count alone
//     never ends a silent run: Timeout is never, and track ends the run.
//   - It knows no context, and Stop before Run still sends one ping: track does
//     not start it for a context that has ended.
//   - Run returns up to 100 ms after Stop, and never if a send hangs: track does
//     not wait for it.
//   - Its Statistics race with Run: events are counted here.
//   - Only the first send that fails ends Run. A later one is logged and not
//     counted: one more is sent at the end. See sendErrors.
//   - It takes round trip times from the wall clock: track has its own.
//   - It resolves names without a timeout: it gets an address.
//   - It looks up a zone by name and goes on without one where there is none:
//     it gets the number of the interface.
//   - It sends to any address and takes a reply from any: see oneHost.
//   - It ignores ICMP errors: they are received on a socket of our own.
func goPing(errs *icmpErrors) library {
	return func(ctx context.Context, p Pings, emit func(event)) error {
		if p.Address.Is4() && isBroadcast(p.Address) {
			return errors.New("is a broadcast address")
		}
		raw, err := socketKind(p.Address.Is6())
		if err != nil {
			return err
		}
		lib := ping.New("")
		if err := address(lib, p); err != nil {
			return err
		}
		refusal, done, err := errs.open(ctx, raw, lib.ID(), p)
		if err != nil {
			return plain(err, p)
		}
		defer done()
		emit(event{kind: opened, refusal: refusal})
		lib.SetPrivileged(raw)
		lib.Count = p.Count
		lib.Interval = p.Interval
		lib.Timeout = math.MaxInt64
		lib.OnSend = func(sending *ping.Packet) { emit(event{kind: sent, seq: sending.Seq}) }
		lib.OnRecv = func(reply *ping.Packet) { emit(event{kind: replied, seq: reply.Seq}) }
		lib.SetLogger(sendErrors(func(err error) {
			// No later ping may replace it. The library logs and reads Count in
			// one goroutine; the first ping was accepted, so Count stays above 0,
			// which would mean no limit.
			lib.Count--
			emit(event{kind: rejected, err: plain(err, p)})
		}))
		defer context.AfterFunc(ctx, lib.Stop)()
		if err := lib.Run(); err != nil {
			return plain(err, p)
		}
		return nil
	}
}

// address sets where the library sends to and from.
func address(lib *ping.Pinger, p Pings) error {
	ifi, err := scope(p.Address)
	if err != nil {
		return err
	}
	to := &net.IPAddr{IP: p.Address.AsSlice()}
	if ifi != nil {
		to.Zone = strconv.Itoa(ifi.Index)
	}
	lib.SetIPAddr(to)
	if p.Source.IsValid() {
		from := p.Source
		if from.Is6() && from.IsLinkLocalUnicast() && ifi != nil {
			from = from.WithZone(ifi.Name)
		}
		lib.Source = from.String()
	}
	return nil
}

// sendErrors is a logger that prints nothing and passes on why a ping was not
// sent: the library reports it nowhere else.
type sendErrors func(error)

// Fatalf is called, despite its name, for a ping that could not be sent, and
// for a packet that could not be parsed, which is not for us.
func (report sendErrors) Fatalf(format string, v ...any) {
	if !strings.HasPrefix(format, "sending packet") {
		return
	}
	for _, arg := range v {
		if err, ok := arg.(error); ok {
			report(err)
		}
	}
}

// Errorf prints nothing.
func (sendErrors) Errorf(string, ...any) {}

// Warnf prints nothing.
func (sendErrors) Warnf(string, ...any) {}

// Infof prints nothing.
func (sendErrors) Infof(string, ...any) {}

// Debugf prints nothing.
func (sendErrors) Debugf(string, ...any) {}

// plain reduces an error of the library to the kernel's, with a hint. It wraps
// nothing: a prohibit route has the same errno as a missing permission.
func plain(err error, p Pings) error {
	var call *os.SyscallError
	var errno syscall.Errno
	if !errors.As(err, &call) || !errors.As(err, &errno) {
		return err
	}
	if call.Syscall == "bind" {
		return fmt.Errorf("source %s: %s", p.Source, errno.Error())
	}
	return errors.New(errno.Error() + hint(errno))
}

// hint explains errors of a send whose names do not.
func hint(errno syscall.Errno) string {
	switch errno {
	case syscall.EPERM:
		return " (by a firewall rule of this machine?)"
	case syscall.EACCES:
		return " (by a prohibit route?)"
	case syscall.EINVAL:
		return " (a blackhole route?)"
	default:
		return ""
	}
}
