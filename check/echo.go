package check

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
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

// echoes send pings as goPing does, by one raw socket for each family that stays
// open: a Pinger of the library opens its own for each round, with goroutines that
// poll it, which takes 0.6 ms of a processor, and a watch with ten checks a second
// may take 1 ms for all of a check. The zero value is ready.
type echoes struct {
	mu    sync.Mutex
	socks [2]*echoSocket // IPv4 and IPv6; nil until the first round
}

// echoSocket is a raw socket that receives echo replies only.
type echoSocket struct {
	v6   bool
	file *os.File
	conn syscall.RawConn

	mu     sync.Mutex
	rounds map[uint16]*echoRound // by the ID of their pings
}

// echoRound is a round that waits for replies.
type echoRound struct {
	Pings
	to    unix.Sockaddr // the scope of its zone is looked up once
	id    uint16
	nonce [16]byte // that a reply has to bring back: nobody else knows it
	emit  func(event)

	mu       sync.Mutex
	accepted map[uint16]int // by the kernel: which of them a ping was, by its number; 0 is the first
}

// library sends rounds by these sockets. What cannot be sent so, as to a broadcast
// address (raw(7)), is left to other, which knows the words for it.
func (s *echoes) library(errs *icmpErrors, other library) library {
	return func(ctx context.Context, p Pings, emit func(event)) error {
		sock, err := s.socket(p.Address.Is6())
		to, unknown := sockaddr(p.Address)
		if err != nil || unknown != nil {
			return other(ctx, p, emit)
		}
		r := &echoRound{Pings: p, to: to, emit: emit, accepted: map[uint16]int{}}
		_, _ = rand.Read(r.nonce[:]) // never fails
		sock.join(r)
		defer sock.leave(r)
		refusal, done, err := errs.open(ctx, true, int(r.id), p)
		if err != nil {
			return plain(err, p)
		}
		defer done()
		if err := sock.send(r, 0, func() { emit(event{kind: opened, refusal: refusal}) }); err != nil {
			return other(ctx, p, emit)
		}
		next := time.NewTicker(p.Interval)
		defer next.Stop()
		for seq := 1; seq < p.Count; seq++ {
			select {
			case <-ctx.Done():
				return nil
			case <-next.C:
			}
			if err := sock.send(r, uint16(seq), func() {}); err != nil {
				emit(event{kind: rejected, err: plain(err, p)})
			}
		}
		<-ctx.Done()
		return nil
	}
}

// socket is the one of a family.
func (s *echoes) socket(v6 bool) (*echoSocket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	family := 0
	if v6 {
		family = 1
	}
	if s.socks[family] == nil {
		sock, err := openEchoSocket(v6)
		if err != nil {
			return nil, err
		}
		s.socks[family] = sock
	}
	return s.socks[family], nil
}

func openEchoSocket(v6 bool) (*echoSocket, error) {
	s := &echoSocket{v6: v6, rounds: map[uint16]*echoRound{}}
	var err error
	if v6 {
		s.file, s.conn, err = openICMP(v6, "ICMPv6 echo replies", int(ipv6.ICMPTypeEchoReply))
	} else {
		s.file, s.conn, err = openICMP(v6, "ICMP echo replies", int(ipv4.ICMPTypeEchoReply))
	}
	if err != nil {
		return nil, err
	}
	go func() { // it ends with the process
		_ = s.conn.Read(func(fd uintptr) bool { s.drain(int(fd)); return false })
	}()
	return s, nil
}

// join adds a round under an ID that no other has.
func (s *echoSocket) join(r *echoRound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r.id = binary.BigEndian.Uint16(r.nonce[:]); s.rounds[r.id] != nil; r.id++ {
	}
	s.rounds[r.id] = r
}

func (s *echoSocket) leave(r *echoRound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rounds, r.id)
}

// send sends one ping, calls accepted, and emits that it was sent: its reply may be
// read in the same moment, and comes after that.
func (s *echoSocket) send(r *echoRound, seq uint16, accepted func()) error {
	kind := icmp.Type(ipv4.ICMPTypeEcho)
	if s.v6 {
		kind = ipv6.ICMPTypeEchoRequest
	}
	m := icmp.Message{Type: kind, Body: &icmp.Echo{ID: int(r.id), Seq: int(seq), Data: append(r.nonce[:], make([]byte, 8)...)}}
	packet, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed error
	err = s.conn.Control(func(fd uintptr) {
		_, failed = unix.SendmsgN(int(fd), packet, r.source(), r.to, unix.MSG_DONTWAIT)
	})
	if err := errors.Join(err, os.NewSyscallError("sendmsg", failed)); err != nil {
		return err
	}
	accepted()
	n := len(r.accepted)
	r.accepted[seq] = n
	r.emit(event{kind: sent, seq: n})
	return nil
}

// source is the control message that names the source address (ip(7) IP_PKTINFO,
// ipv6(7)); nil where the kernel chooses it.
func (r *echoRound) source() []byte {
	switch a := r.Source; {
	case !a.IsValid():
		return nil
	case a.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	default:
		info := unix.Inet6Pktinfo{Addr: a.As16()}
		if to, ok := r.to.(*unix.SockaddrInet6); ok {
			info.Ifindex = to.ZoneId
		}
		return unix.PktInfo6(&info)
	}
}

// drain reads all replies that have arrived.
func (s *echoSocket) drain(fd int) {
	b := make([]byte, 1500)
	for {
		n, from, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err == unix.EAGAIN {
			return
		}
		sender, message := icmpMessage(b[:max(n, 0)], from)
		if err != nil || len(message) < 8+16 {
			continue // an error of the socket is about one packet
		}
		s.mu.Lock()
		r := s.rounds[binary.BigEndian.Uint16(message[4:])]
		s.mu.Unlock()
		if r != nil && r.Address.WithZone("") == sender && [16]byte(message[8:]) == r.nonce {
			r.replied(binary.BigEndian.Uint16(message[6:]))
		}
	}
}

// replied emits a reply, once for each ping.
func (r *echoRound) replied(seq uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.accepted[seq]; ok && n >= 0 {
		r.accepted[seq] = -1
		r.emit(event{kind: replied, seq: n})
	}
}

// icmpMessage is what a raw socket received, and from whom.
func icmpMessage(b []byte, from unix.Sockaddr) (sender netip.Addr, message []byte) {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		if len(b) < ipv4.HeaderLen { // IPv4 raw sockets receive the IP header too
			return netip.Addr{}, nil
		}
		return netip.AddrFrom4(from.Addr), b[min(len(b), int(b[0]&0xf)*4):]
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(from.Addr), b
	}
	return netip.Addr{}, nil
}

// openICMP opens a raw socket that receives ICMP messages of these types only.
func openICMP(v6 bool, name string, kinds ...int) (*os.File, syscall.RawConn, error) {
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, nil, os.NewSyscallError("socket", err)
	}
	if v6 {
		var filter unix.ICMPv6Filter // a set bit blocks
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		for _, kind := range kinds {
			filter.Data[kind/32] &^= 1 << (kind % 32)
		}
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	} else {
		var pass int // icmp(7): a set bit blocks here, too
		for _, kind := range kinds {
			pass |= 1 << kind
		}
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, unix.ICMP_FILTER, ^pass)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, nil, os.NewSyscallError("setsockopt", err)
	}
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, conn, nil
}
