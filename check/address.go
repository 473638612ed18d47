package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// oneHost refuses an address that is not one host's: a reply, or none, proves
// nothing about the primary. A broadcast address is another question: isBroadcast.
func oneHost(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return errors.New("is the unspecified address")
	case a.IsMulticast():
		return errors.New("is a multicast address")
	}
	return nil
}

// isBroadcast asks the kernel's routes, which alone have the broadcast address
// of a network: a datagram socket may connect to one only with SO_BROADCAST
// (ip(7)). An error there (no route) is reported by the first ping.
func isBroadcast(a netip.Addr) bool {
	if a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: a.As4(), Port: 9} // discard; nothing is sent
	if unix.Connect(fd, to) != unix.EACCES {
		return false
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	return unix.Connect(fd, to) == nil // else by a prohibit route
}

// scope finds the interface that a zone names, nil where the address needs
// none. A raw socket sends a link-local ping without a zone, or with an unknown
// one, out of any interface.
func scope(a netip.Addr) (*net.Interface, error) {
	zone := a.Zone()
	if zone == "" {
		if a.IsLinkLocalUnicast() && a.Is6() {
			return nil, fmt.Errorf("a link-local address needs its interface, such as %s%%eth0", a)
		}
		return nil, nil
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return ifi, nil
	}
	if index, err := strconv.Atoi(zone); err == nil {
		if ifi, err := net.InterfaceByIndex(index); err == nil {
			return ifi, nil
		}
	}
	return nil, fmt.Errorf("no interface %q", zone)
}
