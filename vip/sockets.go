package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// maxFrame is the most that is read of a frame: ARP and neighbour discovery are
// far shorter, and a longer frame is neither.
const maxFrame = 2048

// sockets are the packet sockets of one process: listeners on the same link
// share them. The kernel shows every socket each ARP packet of its link, and
// takes 10 ms to close one: with one for each of 300 clusters that asked for
// the same witness, 0.6 s of CPU went into reading the same replies.
type sockets struct {
	mu     sync.Mutex
	open   map[socketKey]*socket
	pacers map[int]*pacer // by interface
}

// socketKey is where a socket listens, and for what.
type socketKey struct {
	link     int
	protocol ethernet.EtherType
}

// socket is one packet socket with its listeners.
type socket struct {
	key   socketKey
	conn  *packet.Conn
	pacer *pacer
	ended chan struct{} // closed when the socket is no longer read

	mu        sync.Mutex
	err       error // why it ended; nil while it is read
	listeners map[netip.Addr][]*Listener
	filtered  map[netip.Addr]bool // the addresses that the kernel's filter passes; nil: all
	requests  map[string]request
	drops     uint64               // frames that the kernel dropped
	base      map[*Listener]uint64 // drops before it subscribed
}

// request is a question that was sent, or will be.
type request struct {
	by      *Listener
	at      time.Time
	pending bool // not sent yet: others may share it
	shared  bool
}

// requestWindow is the minimum time between two equal questions of different
// listeners: a thousand clusters that ask for one witness are answered by one
// reply.
const requestWindow = 20 * time.Millisecond

// subscribe adds w to the packet socket of one protocol, until unsubscribe.
func (t *sockets) subscribe(w *Listener, what string, protocol ethernet.EtherType, rate int) (*socket, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := socketKey{w.link.Index, protocol}
	s, ok := t.open[key]
	if !ok || s.hasEnded() {
		filter, err := filterFor(protocol, map[netip.Addr]bool{})
		if err != nil {
			return nil, err
		}
		conn, err := listen(key.link, filter)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%s: listening for %s needs CAP_NET_RAW: %w", w.link.Name, what, errno(err))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: listening for %s: %w", w.link.Name, what, errno(err))
		}
		if t.open == nil {
			t.open, t.pacers = map[socketKey]*socket{}, map[int]*pacer{}
		}
		if t.pacers[key.link] == nil {
			t.pacers[key.link] = &pacer{rate: rate}
		}
		s = &socket{
			key: key, conn: conn, pacer: t.pacers[key.link], ended: make(chan struct{}),
			listeners: map[netip.Addr][]*Listener{}, filtered: map[netip.Addr]bool{},
			requests: map[string]request{}, base: map[*Listener]uint64{},
		}
		t.open[key] = s
		go s.read()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range w.addresses {
		if a.Is6() == (protocol == ethernet.EtherTypeIPv6) {
			s.listeners[a] = append(s.listeners[a], w)
		}
	}
	s.countDrops()
	s.base[w] = s.drops
	err := s.widen()
	if s.err != nil {
		err = s.err // it ended before w was among the listeners
	}
	if err != nil {
		w.fail("listening ended", err)
	}
	return s, nil
}

// listen opens a packet socket for all protocols. One that is bound to a protocol
// comes after the rules of nft's netdev ingress hook, and hears nothing on the
// port of a bridge; this one sees each frame before either (netif_receive_skb).
func listen(link int, filter []bpf.RawInstruction) (*packet.Conn, error) {
	conn, err := packet.Listen(&net.Interface{Index: link}, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, err
	}
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) // else the filter drops them, one by one
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)         // else they arrive when they are read
		})
	}
	return conn, nil
}

// unsubscribe ends w's listening. The last listener closes the socket, and
// waits until it is no longer read.
func (t *sockets) unsubscribe(w *Listener, s *socket) error {
	t.mu.Lock()
	s.mu.Lock()
	for a := range w.addresses {
		others := slices.DeleteFunc(s.listeners[a], func(other *Listener) bool { return other == w })
		if s.listeners[a] = others; len(others) == 0 {
			delete(s.listeners, a)
		}
	}
	delete(s.base, w)
	last := len(s.listeners) == 0
	s.mu.Unlock()
	if last && t.open[s.key] == s {
		delete(t.open, s.key)
	}
	t.mu.Unlock()
	if !last {
		return nil
	}
	err := s.conn.Close()
	<-s.ended
	return err
}

// hasEnded reports whether the socket receives nothing more: its link went down.
func (s *socket) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// read passes frames to their listeners, until the socket is closed.
func (s *socket) read() {
	frames, err := newFrameReader(s.conn)
	for err == nil {
		var frame []byte
		var at time.Time
		if frame, at, err = frames.next(); err == nil {
			if r, ok := parse(frame); ok {
				r.At = at
				s.deliver(r)
			}
		}
	}
	s.fail(err)
}

func (s *socket) deliver(r Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.listeners[r.Address] {
		w.keep(r)
	}
}

// fail ends all listeners, with the cause. Later ones open another socket, or
// fail as well.
func (s *socket) fail(err error) {
	close(s.ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	for _, listeners := range s.listeners {
		for _, w := range listeners {
			w.fail("listening ended", err)
		}
	}
}

// countDrops adds what the kernel dropped since it was last asked, which
// resets its count (packet(7), PACKET_STATISTICS).
func (s *socket) countDrops() {
	if stats, err := s.conn.Stats(); err == nil {
		s.drops += uint64(stats.Drops)
	}
}

// dropped is how many frames the kernel dropped since w subscribed.
func (s *socket) dropped(w *Listener) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countDrops()
	return s.drops - s.base[w]
}

// send sends frames when it is their turn, just after ready was called. It
// returns net.ErrClosed when done is closed before.
func (s *socket) send(done <-chan struct{}, p priority, ready func(), frames ...[]byte) error {
	err := s.pacer.wait(done, p, len(frames))
	ready()
	for i := 0; err == nil && i < len(frames); i++ {
		if _, err = s.conn.WriteTo(frames[i], &packet.Addr{HardwareAddr: frames[i][:6]}); err != nil {
			err = errno(err)
		}
	}
	return err
}

// ask sends a question. One that another listener sent a moment ago is not sent
// at once, but once more for all that ask it until then, so that no reply is
// older than the question.
func (s *socket) ask(w *Listener, target netip.Addr, frame []byte) error {
	s.mu.Lock()
	now, key := time.Now(), string(frame)
	last, known := s.requests[key]
	wait := last.at.Add(requestWindow).Sub(now)
	if known && last.pending {
		last.shared = true
		s.requests[key] = last
		s.mu.Unlock()
		return nil
	}
	s.requests[key] = request{by: w, at: now, pending: true}
	s.mu.Unlock()
	later := func() {
		if _, err := s.sendRequest(w, s.ended, frame); err != nil {
			s.sendFailed(target, err)
		}
	}
	if known && last.by != w && wait > 0 {
		time.AfterFunc(wait, later)
		return nil
	}
	shared, err := s.sendRequest(w, w.done, frame)
	if err != nil && shared {
		go later() // the others still wait for it
	}
	return err
}

// sendRequest sends a pending question; shared: others rely on it.
func (s *socket) sendRequest(w *Listener, done <-chan struct{}, frame []byte) (shared bool, err error) {
	err = s.send(done, question, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		shared = s.requests[string(frame)].shared
		s.requests[string(frame)] = request{by: w, at: time.Now()}
	}, frame)
	return shared, err
}

// sendFailed tells all that wait for a reply about target that the question was
// not sent: the silence proves nothing.
func (s *socket) sendFailed(target netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.listeners[target] {
		w.fail(fmt.Sprintf("asking for %s", target), err)
	}
}

// maxFiltered is the most addresses that the kernel's filter distinguishes:
// jumps of classic BPF reach 255 instructions.
const maxFiltered = 64

// widen makes the kernel's filter pass all listeners' addresses. It never gets
// narrower again: deliver drops the rest.
func (s *socket) widen() error {
	if s.filtered == nil {
		return nil
	}
	before := len(s.filtered)
	for a := range s.listeners {
		s.filtered[a] = true
	}
	if len(s.filtered) == before {
		return nil
	}
	if len(s.filtered) > maxFiltered {
		s.filtered = nil
	}
	filter, err := filterFor(s.key.protocol, s.filtered)
	if err != nil {
		return err
	}
	return s.conn.SetBPF(filter)
}

// addressedToUs drops what did not come to this machine over this very link:
// copies of our own frames (PACKET_OUTGOING, PACKET_LOOPBACK), PACKET_OTHERHOST,
// which a promiscuous link is full of, and the frames of another VLAN, whose tag
// the kernel has already taken off. A priority tag (VLAN 0) is taken off too, and
// the frame stays ours.
var addressedToUs = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 2},
	bpf.LoadExtension{Num: bpf.ExtVLANTag},
	bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: vlanID, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
}

// vlanID are the bits of a VLAN tag that are not its priority (IEEE 802.1Q).
const vlanID = 0x0fff

// filterFor passes the protocol's frames about the addresses, by the last four
// bytes of each; nil: about all. Other traffic does not wake this process.
func filterFor(protocol ethernet.EtherType, addresses map[netip.Addr]bool) ([]bpf.RawInstruction, error) {
	program := append(slices.Clone(addressedToUs),
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(protocol), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	)
	sender, target := uint32(14+14), uint32(14+24) // of an ARP packet, RFC 826
	if protocol == ethernet.EtherTypeIPv6 {
		program = append(program, ndFilter...)
		sender, target = 14+8+12, 14+ipv6.HeaderLen+ndTarget+12
	}
	if addresses != nil {
		var equal []bpf.Instruction // to one of the addresses: to be followed by 2 or more instructions
		n := len(addresses)
		add := func(offset uint32, behind int) {
			equal = append(equal, bpf.LoadAbsolute{Off: offset, Size: 4})
			for a := range addresses {
				b := a.AsSlice()
				last := len(equal)
				equal = append(equal, bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[len(b)-4:]), SkipTrue: uint8(behind - last - 1)})
			}
		}
		end := 2*(n+1) + 1 // the loads, the comparisons, and the return that drops
		add(sender, end)
		add(target, end)
		program = append(append(program, equal...), bpf.RetConstant{Val: 0})
	}
	return bpf.Assemble(append(program, bpf.RetConstant{Val: maxFrame}))
}
