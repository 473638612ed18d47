package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// RefusedError is an ICMP error that quotes one of the pings: the network between,
// a firewall or the host itself refuses them, or they go round in a routing loop, so
// their loss proves nothing about the host. A router's message that the host does
// not reply to it (host or address unreachable) is none.
type RefusedError struct {
	Sender netip.Addr // of the ICMP message
	V6     bool
	Type   uint8 // 3 and 11 (RFC 792), for IPv6 1 and 3 (RFC 4443 3)
	Code   uint8 // of that type; those of 3 are also in RFC 1812 5.2.7.1
}

func (e *RefusedError) Error() string {
	kind, words := "ICMP", unreachable4()
	if e.V6 {
		kind, words = "ICMPv6", unreachable6()
	}
	text := words[e.Code]
	switch {
	case e.Type == timeExceeded(e.V6):
		text = "time exceeded, a routing loop"
	case text == "":
		text = "destination unreachable"
	}
	return fmt.Sprintf("refused by %s: %s (%s type %d code %d)", e.Sender, text, kind, e.Type, e.Code)
}

func unreachable4() map[uint8]string {
	return map[uint8]string{
		0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable", 6: "network unknown", 7: "host unknown",
		9: "network administratively prohibited", 10: "host administratively prohibited", 11: "network unreachable for this type of service",
		12: "host unreachable for this type of service", 13: "communication administratively prohibited",
	}
}

func unreachable6() map[uint8]string {
	return map[uint8]string{
		0: "no route to destination", 1: "communication administratively prohibited", 3: "address unreachable", 4: "port unreachable",
		5: "source address failed ingress/egress policy", 6: "reject route to destination",
	}
}

func unreachable(v6 bool) uint8 {
	if v6 {
		return byte(ipv6.ICMPTypeDestinationUnreachable)
	}
	return byte(ipv4.ICMPTypeDestinationUnreachable)
}

func timeExceeded(v6 bool) uint8 {
	if v6 {
		return byte(ipv6.ICMPTypeTimeExceeded)
	}
	return byte(ipv4.ICMPTypeTimeExceeded)
}

// refused returns the error for a message, nil where it only means silence: a
// router has no reply from the host. Only firewalls and the host itself send the
// other codes about a ping: a router sends none for a host that has no power.
func refused(to, sender netip.Addr, v6 bool, kind, code uint8) error {
	sender = sender.Unmap().WithZone("")
	silence := kind == unreachable(v6) && (v6 && code == 3 || !v6 && (code == 1 || code == 7 || code == 12))
	if silence && sender != to.WithZone("") {
		return nil
	}
	return &RefusedError{Sender: sender, V6: v6, Type: kind, Code: code}
}

// icmpErrors receives the ICMP errors about this process's pings: on one raw
// socket for each family, which all rounds share, because each would see the
// errors of all others. The zero value is ready.
type icmpErrors struct {
	mu    sync.Mutex
	socks [2]*errorSocket // IPv4 and IPv6, while there are rounds
}

// open begins to receive the errors about the pings with that ID. refusal reads
// all that has arrived, and returns the first *RefusedError; done ends it.
func (s *icmpErrors) open(ctx context.Context, raw bool, id int, p Pings) (refusal func() error, done func(), err error) {
	if !raw {
		return openErrorQueue(ctx, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	family := 0
	if p.Address.Is6() {
		family = 1
	}
	sock := s.socks[family]
	if sock == nil {
		if sock, err = openErrorSocket(p.Address.Is6()); err != nil {
			return nil, nil, err
		}
		s.socks[family] = sock
	}
	key := quote{p.Address.WithZone(""), uint16(id)}
	sock.mu.Lock()
	defer sock.mu.Unlock()
	sock.rounds[key]++
	refusal = func() error {
		sock.read()
		sock.mu.Lock()
		defer sock.mu.Unlock()
		return sock.refused[key]
	}
	done = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if sock.forget(key) {
			_ = sock.file.Close() // waits for drain
			s.socks[family] = nil
		}
	}
	return refusal, done, nil
}

// quote is what an ICMP error tells of the ping that it is about.
type quote struct {
	to netip.Addr
	id uint16
}

// errorSocket is a raw socket that receives "destination unreachable" and "time
// exceeded" only.
type errorSocket struct {
	v6   bool
	file *os.File
	conn syscall.RawConn

	mu      sync.Mutex
	rounds  map[quote]int
	refused map[quote]error
}

func openErrorSocket(v6 bool) (*errorSocket, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if v6 {
		var filter unix.ICMPv6Filter // a set bit blocks
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		filter.Data[0] &^= 1<<ipv6.ICMPTypeDestinationUnreachable | 1<<ipv6.ICMPTypeTimeExceeded
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, ^(1<<ipv4.ICMPTypeDestinationUnreachable | 1<<ipv4.ICMPTypeTimeExceeded)) // icmp(7)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	s := &errorSocket{v6: v6, file: os.NewFile(uintptr(fd), "ICMP errors"), rounds: map[quote]int{}, refused: map[quote]error{}}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		_ = s.file.Close()
		return nil, err
	}
	// So that the buffer does not overflow: it ends when the file is closed.
	go func() {
		_ = s.conn.Read(func(fd uintptr) bool { s.drain(int(fd)); return false })
	}()
	return s, nil
}

// forget ends a round; last: there is no other.
func (s *errorSocket) forget(key quote) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rounds[key]--; s.rounds[key] == 0 {
		delete(s.rounds, key)
		delete(s.refused, key)
	}
	return len(s.rounds) == 0
}

// read reads all that has arrived.
func (s *errorSocket) read() {
	_ = s.conn.Control(func(fd uintptr) { s.drain(int(fd)) })
}

func (s *errorSocket) drain(fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := make([]byte, 1500)
	for {
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		var sender netip.Addr
		message := b[:n]
		switch from := from.(type) {
		case *unix.SockaddrInet4:
			sender = netip.AddrFrom4(from.Addr)
			if n < ipv4.HeaderLen { // IPv4 raw sockets receive the IP header too
				continue
			}
			message = b[min(n, int(b[0]&0xf)*4):n]
		case *unix.SockaddrInet6:
			sender = netip.AddrFrom16(from.Addr)
		}
		about, ok := parseError(message, s.v6)
		if ok && s.rounds[about] > 0 && s.refused[about] == nil {
			if err := refused(about.to, sender, s.v6, message[0], message[1]); err != nil {
				s.refused[about] = err
			}
		}
	}
}

// parseError reads which ping an ICMP "destination unreachable" or "time exceeded"
// message quotes; false: none.
func parseError(b []byte, v6 bool) (about quote, ok bool) {
	if len(b) < 8 || b[0] != unreachable(v6) && b[0] != timeExceeded(v6) {
		return quote{}, false
	}
	packet := b[8:]
	var echo []byte
	if v6 {
		if len(packet) < ipv6.HeaderLen || packet[6] != unix.IPPROTO_ICMPV6 {
			return quote{}, false
		}
		about.to, echo = netip.AddrFrom16([16]byte(packet[24:40])), packet[ipv6.HeaderLen:]
	} else {
		if len(packet) < ipv4.HeaderLen || packet[9] != unix.IPPROTO_ICMP {
			return quote{}, false
		}
		about.to, echo = netip.AddrFrom4([4]byte(packet[16:20])), packet[min(len(packet), int(packet[0]&0xf)*4):]
	}
	request := byte(ipv4.ICMPTypeEcho)
	if v6 {
		request = byte(ipv6.ICMPTypeEchoRequest)
	}
	if len(echo) < 8 || echo[0] != request {
		return quote{}, false
	}
	about.id = binary.BigEndian.Uint16(echo[4:])
	return about, true
}

// errorQueueDelay is how long the first ping stays without a reply until an
// unprivileged round sends one more for its errors.
const errorQueueDelay = 200 * time.Millisecond

// openErrorQueue is for unprivileged sockets, which receive only the errors
// about their own pings, and the library's is not accessible: when the first
// ping has had no reply for a while, one more is sent from a socket of our own
// (ip(7), IP_RECVERR). A reply to it does not count.
func openErrorQueue(ctx context.Context, p Pings) (refusal func() error, done func(), err error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if p.Address.Is6() {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, nil, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, 1))
	if err == nil && p.Source.IsValid() {
		var from unix.Sockaddr
		if from, err = sockaddr(p.Source.WithZone(p.Address.Zone())); err == nil {
			err = os.NewSyscallError("bind", unix.Bind(fd, from))
		}
	}
	to, errTo := sockaddr(p.Address)
	if err := errors.Join(err, errTo); err != nil {
		_ = unix.Close(fd)
		return nil, nil, err
	}
	var mu sync.Mutex
	closed := false
	timer := time.AfterFunc(min(errorQueueDelay, p.Timeout/2), func() {
		mu.Lock()
		defer mu.Unlock()
		if !closed && ctx.Err() == nil {
			_ = unix.Sendto(fd, echoRequest(p.Address.Is6()), unix.MSG_DONTWAIT, to)
		}
	})
	refusal = func() error {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return nil
		}
		return readErrorQueue(fd, p.Address)
	}
	done = func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		closed = true
		_ = unix.Close(fd)
	}
	return refusal, done, nil
}

// echoRequest is a ping; the kernel fills in its ID and checksum.
func echoRequest(v6 bool) []byte {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Data: make([]byte, 24)}}
	if v6 {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	b, _ := m.Marshal(nil) // cannot fail
	return b
}

func sockaddr(a netip.Addr) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}, nil
	}
	s := &unix.SockaddrInet6{Addr: a.As16()}
	if a.IsLinkLocalUnicast() {
		ifi, err := scope(a)
		if err != nil {
			return nil, err
		}
		s.ZoneId = uint32(ifi.Index)
	}
	return s, nil
}

// readErrorQueue reads the queue to its end, and returns the first refusal.
func readErrorQueue(fd int, to netip.Addr) (first error) {
	b, control := make([]byte, 1500), make([]byte, 512)
	for {
		_, n, _, _, err := unix.Recvmsg(fd, b, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return first
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if sender, kind, code, ok := parseExtendedError(m.Data, to.Is6()); ok && first == nil {
				first = refused(to, sender, to.Is6(), kind, code)
			}
		}
	}
}

// parseExtendedError reads a struct sock_extended_err and the address after it
// (ip(7)): true for a "destination unreachable" and a "time exceeded".
func parseExtendedError(b []byte, v6 bool) (sender netip.Addr, kind, code uint8, ok bool) {
	const size = 16 // errno 4, origin, type, code and padding 1 each, info 4, data 4
	if len(b) < size || b[5] != unreachable(v6) && b[5] != timeExceeded(v6) {
		return netip.Addr{}, 0, 0, false
	}
	switch origin, address := b[4], b[size:]; {
	case !v6 && origin == unix.SO_EE_ORIGIN_ICMP && len(address) >= unix.SizeofSockaddrInet4:
		return netip.AddrFrom4([4]byte(address[4:8])), b[5], b[6], true
	case v6 && origin == unix.SO_EE_ORIGIN_ICMP6 && len(address) >= unix.SizeofSockaddrInet6:
		return netip.AddrFrom16([16]byte(address[8:24])), b[5], b[6], true
	}
	return netip.Addr{}, 0, 0, false
}
