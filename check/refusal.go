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

// RefusedError is an ICMP "destination unreachable" message that quotes one of
// the pings: the network between, or a firewall, refuses them, so their loss
// proves nothing about the host. Messages that only say that the host does not
// reply (host, port or address unreachable) are not among them.
type RefusedError struct {
	Sender netip.Addr // of the ICMP message
	V6     bool
	Code   uint8 // of type 3 (RFC 792, RFC 1812 5.2.7.1), for IPv6 of type 1 (RFC 4443 3.1)
}

func (e *RefusedError) Error() string {
	words, kind := refusals4()[e.Code], "ICMP type 3"
	if e.V6 {
		words, kind = refusals6()[e.Code], "ICMPv6 type 1"
	}
	return fmt.Sprintf("refused by %s: %s (%s code %d)", e.Sender, words, kind, e.Code)
}

func refusals4() map[uint8]string {
	return map[uint8]string{
		0: "network unreachable", 6: "network unknown", 9: "network administratively prohibited",
		10: "host administratively prohibited", 11: "network unreachable for this type of service",
		13: "communication administratively prohibited",
	}
}

func refusals6() map[uint8]string {
	return map[uint8]string{
		0: "no route to destination", 1: "communication administratively prohibited",
		5: "source address failed ingress/egress policy", 6: "reject route to destination",
	}
}

// refused returns the error for a code, nil where it only means silence.
func refused(sender netip.Addr, v6 bool, code uint8) error {
	codes := refusals4()
	if v6 {
		codes = refusals6()
	}
	if codes[code] == "" {
		return nil
	}
	return &RefusedError{Sender: sender.Unmap().WithZone(""), V6: v6, Code: code}
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

// errorSocket is a raw socket that receives "destination unreachable" only.
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
		filter.Data[0] &^= 1 << ipv6.ICMPTypeDestinationUnreachable
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, ^(1 << ipv4.ICMPTypeDestinationUnreachable)) // icmp(7)
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
		about, code, ok := parseUnreachable(message, s.v6)
		if ok && s.rounds[about] > 0 && s.refused[about] == nil {
			if err := refused(sender, s.v6, code); err != nil {
				s.refused[about] = err
			}
		}
	}
}

// parseUnreachable reads which ping an ICMP "destination unreachable" message
// quotes; false: none.
func parseUnreachable(b []byte, v6 bool) (about quote, code uint8, ok bool) {
	if len(b) < 8 {
		return quote{}, 0, false
	}
	code, packet := b[1], b[8:]
	var echo []byte
	if v6 {
		if b[0] != byte(ipv6.ICMPTypeDestinationUnreachable) || len(packet) < ipv6.HeaderLen || packet[6] != unix.IPPROTO_ICMPV6 {
			return quote{}, 0, false
		}
		about.to, echo = netip.AddrFrom16([16]byte(packet[24:40])), packet[ipv6.HeaderLen:]
	} else {
		if b[0] != byte(ipv4.ICMPTypeDestinationUnreachable) || len(packet) < ipv4.HeaderLen || packet[9] != unix.IPPROTO_ICMP {
			return quote{}, 0, false
		}
		about.to, echo = netip.AddrFrom4([4]byte(packet[16:20])), packet[min(len(packet), int(packet[0]&0xf)*4):]
	}
	request := byte(ipv4.ICMPTypeEcho)
	if v6 {
		request = byte(ipv6.ICMPTypeEchoRequest)
	}
	if len(echo) < 8 || echo[0] != request {
		return quote{}, 0, false
	}
	about.id = binary.BigEndian.Uint16(echo[4:])
	return about, code, true
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
		return readErrorQueue(fd, p.Address.Is6())
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
func readErrorQueue(fd int, v6 bool) (first error) {
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
			if sender, code, ok := parseExtendedError(m.Data, v6); ok && first == nil {
				first = refused(sender, v6, code)
			}
		}
	}
}

// parseExtendedError reads a struct sock_extended_err and the address after it
// (ip(7)): true for a "destination unreachable".
func parseExtendedError(b []byte, v6 bool) (sender netip.Addr, code uint8, ok bool) {
	const size = 16 // errno 4, origin, type, code and padding 1 each, info 4, data 4
	if len(b) < size {
		return netip.Addr{}, 0, false
	}
	origin, kind, code := b[4], b[5], b[6]
	switch address := b[size:]; {
	case !v6 && origin == unix.SO_EE_ORIGIN_ICMP && kind == byte(ipv4.ICMPTypeDestinationUnreachable) && len(address) >= unix.SizeofSockaddrInet4:
		return netip.AddrFrom4([4]byte(address[4:8])), code, true
	case v6 && origin == unix.SO_EE_ORIGIN_ICMP6 && kind == byte(ipv6.ICMPTypeDestinationUnreachable) && len(address) >= unix.SizeofSockaddrInet6:
		return netip.AddrFrom16([16]byte(address[8:24])), code, true
	}
	return netip.Addr{}, 0, false
}
