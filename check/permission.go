package check

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// Permission reports whether this process may ping: nil when raw or
// unprivileged ICMP sockets can be opened for IPv4 or IPv6. Otherwise the error
// wraps fs.ErrPermission and says how to get it. A machine without one of the
// address families, or short of file descriptors, is not about permission.
func Permission() error {
	_, err4 := socketKind(false)
	if err4 == nil {
		return nil
	}
	_, err6 := socketKind(true)
	return permission(err4, err6)
}

// Permission is the function Permission; with Keep what was permitted stays so.
func (p *Process) Permission() error {
	if p.Keep && p.permitted.Load() {
		return nil
	}
	err := Permission()
	p.permitted.Store(err == nil)
	return err
}

func permission(err4, err6 error) error {
	switch {
	case err4 == nil || err6 == nil:
		return nil
	case denied(err4):
		return err4
	case denied(err6):
		return err6
	default:
		return nil
	}
}

// socketKind is which sockets this process may ping with: raw ones, else
// unprivileged ones. A new network namespace forbids the latter even to root.
func socketKind(v6 bool) (raw bool, err error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	rawErr := tryOpen(family, unix.SOCK_RAW, protocol)
	if rawErr == nil {
		return true, nil
	}
	err = tryOpen(family, unix.SOCK_DGRAM, protocol)
	if denied(rawErr) && denied(err) {
		return false, fmt.Errorf("no permission to ping: be root, or have the capability cap_net_raw, "+
			"or a group within net.ipv4.ping_group_range: %w", fs.ErrPermission)
	}
	return false, err
}

func tryOpen(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// denied is true for EPERM and EACCES only.
func denied(err error) bool { return errors.Is(err, fs.ErrPermission) }
