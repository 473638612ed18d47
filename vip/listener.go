package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxFrame is the most we read of a frame: ARP and neighbour discovery stay
// far below it, and what does not fit is no message of theirs.
const maxFrame = 2048

// maxHeard bounds what a flood of answers can make us remember.
const maxHeard = 4096

// Listener asks, listens and announces on one link, by ARP for IPv4 and by
// neighbour discovery for IPv6, on packet sockets of its own: the kernel's
// neighbour table answers from memory, and the tools' exit codes say "free"
// when the cable is out.
//
// All methods may be called from several goroutines at once.
type Listener struct {
	link  Link
	own   func(net.HardwareAddr) bool
	named map[netip.Addr]netip.Addr // as it stands in a packet -> as Open was given it

	taps    *sockets
	arp, nd *socket  // nil where no address of the family was named
	groups  *os.File // the socket that has joined the groups of IPv6; else nil

	mu     sync.Mutex
	heard  []Reply
	news   chan struct{}
	err    error
	closed bool
}

// Reply is one thing another machine let us know about an address.
type Reply struct {
	Address netip.Addr       // as Open was given it
	MAC     net.HardwareAddr // who claims to have it, or probes for it
	Probe   bool             // a probe (RFC 5227, RFC 4862): MAC wants the address and asks whether anybody has it
	Direct  bool             // a reply to this machine alone: something that it has asked has arrived over there
	At      time.Time        // with a monotonic clock reading
}

// Open begins to listen on l for whatever other machines say about addrs:
// replies, announcements, probes, and the ordinary requests that a holder
// sends from the address. It opens sockets only for the families that addrs
// has, and joins the solicited-node groups of the IPv6 ones, so that probes
// for them reach us through snooping switches and the network card's filter.
//
// What comes from the link's own MAC, or from one for which own is true, is
// never heard; own is called from another goroutine. The error is about the
// link, or wraps fs.ErrPermission where CAP_NET_RAW is missing.
func Open(l Link, own func(net.HardwareAddr) bool, addrs ...netip.Addr) (*Listener, error) {
	return new(Process).Open(l, own, addrs...)
}

// Open is the function Open, with sockets that all who listen in the process
// share.
func (p *Process) Open(l Link, own func(net.HardwareAddr) bool, addrs ...netip.Addr) (*Listener, error) {
	switch {
	case l.Loopback:
		return nil, fmt.Errorf("%s: a loopback interface has no neighbours to ask", l.Name)
	case !l.ARP:
		return nil, fmt.Errorf("%s: does not resolve neighbours (NOARP), so nobody can be asked there", l.Name)
	case len(l.MAC) != 6:
		return nil, fmt.Errorf("%s: MAC %q has %d bytes: only Ethernet (6) is understood", l.Name, l.MAC, len(l.MAC))
	}
	w := &Listener{taps: &p.taps, link: l, own: own, named: make(map[netip.Addr]netip.Addr), news: make(chan struct{})}
	for _, a := range addrs {
		w.named[bare(a)] = a
	}
	if err := w.open(); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Listener) open() (err error) {
	var v4 bool
	var v6 []netip.Addr
	for a := range w.named {
		if a.Is4() {
			v4 = true
		} else {
			v6 = append(v6, a)
		}
	}
	if v4 {
		if w.arp, err = w.taps.listen(w, "ARP", ethernet.EtherTypeARP, nil); err != nil {
			return err
		}
	}
	if len(v6) > 0 {
		// The groups first: a probe sent just after Open returns must find them joined.
		if w.groups, err = joinSolicitedNodes(w.link, v6); err != nil {
			return err
		}
		if w.nd, err = w.taps.listen(w, "neighbour discovery", ethernet.EtherTypeIPv6, ndFilter); err != nil {
			return err
		}
	}
	return nil
}

// addressedToUs drops what did not come to this machine over this very link:
// copies of our own frames (PACKET_OUTGOING, PACKET_LOOPBACK), and
// PACKET_OTHERHOST, which a promiscuous link is full of and which also marks
// the frames of another VLAN, whose tag the kernel has already taken off. A
// priority tag (VLAN 0) is taken off too, and the frame stays ours.
var addressedToUs = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
}

// hear understands one frame as it came from the wire; source is the MAC that
// sent it, which need not be the one it speaks of.
func hear(frame []byte) (h Reply, source net.HardwareAddr, ok bool) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame); err != nil || f.VLAN != nil {
		return Reply{}, nil, false
	}
	switch f.EtherType {
	case ethernet.EtherTypeARP:
		h, ok = hearARP(f.Payload)
	case ethernet.EtherTypeIPv6:
		h, ok = hearND(f.Payload, f.Source)
	}
	h.Direct = h.Direct && f.Destination[0]&1 == 0 // no group, and no broadcast
	return h, f.Source, ok
}

func (w *Listener) ours(mac net.HardwareAddr) bool {
	return slices.Equal(mac, w.link.MAC) || w.own(mac)
}

func (w *Listener) note(h Reply) {
	name, ok := w.named[h.Address]
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h.Address, h.At = name, time.Now()
	if len(w.heard) == maxHeard {
		w.heard = slices.Delete(w.heard, 0, maxHeard/2)
	}
	w.heard = append(w.heard, h)
	w.wake()
}

// end records why silence says nothing from here on, and at what. The kernel
// reports an interface that goes down once and would deliver again when it is
// back up; we stay deaf all the same, for what was missed in between cannot be
// known.
func (w *Listener) end(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return
	}
	w.err = fmt.Errorf("%s: %s: %w", w.link.Name, what, errno(err))
	w.wake()
}

func (w *Listener) wake() {
	close(w.news)
	w.news = make(chan struct{})
}

// Ask sends one question: who has target? From an address of ours it is an
// ordinary ARP request or neighbour solicitation. With the zero from it is a
// probe, which enters nobody's neighbour table but tells others that we want
// the address (RFC 5227 §2.1.1, sender 0.0.0.0; RFC 4862 §5.4.2, from ::).
// Target must have been given to Open.
//
// An IPv6 probe is not harmless: a machine that is just checking target for
// itself, as in its first second or two after booting, gives it up for good
// (RFC 4862 §5.4.3) and without a word. An ordinary solicitation it ignores,
// and its own probe is heard.
func (w *Listener) Ask(target, from netip.Addr) error {
	frame, err := w.question(bare(target), bare(from))
	if err == nil {
		err = w.ask(bare(target), frame)
	}
	if err != nil {
		return fmt.Errorf("%s: asking for %s: %w", w.link.Name, target, err)
	}
	return nil
}

func (w *Listener) question(target, from netip.Addr) ([]byte, error) {
	if from.IsValid() && from.Is4() != target.Is4() {
		return nil, fmt.Errorf("sender %s is of the other family", from)
	}
	if target.Is4() {
		return arpQuestion(w.link.MAC, target, from)
	}
	return ndQuestion(w.link.MAC, target, from)
}

// Announce tells everybody on the link that addr is to be found at mac, or
// here when mac is nil: by a gratuitous ARP request and a reply, since some
// gear honours only one of them, or by an unsolicited neighbour advertisement.
// The frame itself always comes from our own MAC, because switches learn from
// it behind which port a MAC lives. Addr must have been given to Open.
func (w *Listener) Announce(addr netip.Addr, mac net.HardwareAddr) error {
	frames, err := w.announcement(bare(addr), mac)
	if err == nil {
		err = w.send(bare(addr), frames...)
	}
	if err != nil {
		return fmt.Errorf("%s: announcing %s: %w", w.link.Name, addr, err)
	}
	return nil
}

func (w *Listener) announcement(addr netip.Addr, mac net.HardwareAddr) ([][]byte, error) {
	if mac == nil {
		mac = w.link.MAC
	}
	if len(mac) != 6 {
		return nil, fmt.Errorf("MAC %q has %d bytes, not 6", mac, len(mac))
	}
	if addr.Is4() {
		return arpAnnouncement(w.link.MAC, mac, addr)
	}
	from := addr
	if !slices.Equal(mac, w.link.MAC) {
		from = spokesman(w.link, addr)
	}
	frame, err := ndAnnouncement(w.link.MAC, mac, addr, from)
	return [][]byte{frame}, err
}

func (w *Listener) ask(target netip.Addr, frame []byte) error {
	tap, err := w.tap(target)
	if err != nil {
		return err
	}
	return tap.ask(w, target, frame)
}

func (w *Listener) send(about netip.Addr, frames ...[]byte) error {
	tap, err := w.tap(about)
	for i := 0; err == nil && i < len(frames); i++ {
		err = tap.send(frames[i])
	}
	return err
}

// tap is where something about an address is sent.
func (w *Listener) tap(about netip.Addr) (*socket, error) {
	if _, ok := w.named[about]; !ok {
		return nil, errors.New("not among the addresses listened for")
	}
	if about.Is6() {
		return w.nd, nil
	}
	return w.arp, nil
}

// Replies returns all that was heard at or after since, oldest first.
func (w *Listener) Replies(since time.Time) []Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.heard, func(h Reply) bool { return !h.At.Before(since) })
	if i < 0 {
		return nil
	}
	return slices.Clone(w.heard[i:])
}

// Changed returns a channel that is closed when the next thing is heard, or when
// listening ends by a fault. Fetch it before looking at Heard and Err: then
// nothing that comes in between is slept through.
func (w *Listener) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

// Err returns why listening ended before Close, nil while it goes on. It ends
// for good when the interface goes down, even if only for a moment, and when a
// question could not be sent after Ask had returned: silence with an Err means
// that nobody could be asked or heard, not that nobody answered.
func (w *Listener) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Close ends listening and waits until it has ended. The kernel takes about
// 10 ms to close a packet socket, an RCU grace period, which several wait for
// together.
func (w *Listener) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	var errs [3]error
	var closing sync.WaitGroup
	for i, tap := range []*socket{w.arp, w.nd} {
		if tap != nil {
			closing.Go(func() { errs[i] = w.taps.leave(w, tap) })
		}
	}
	if w.groups != nil {
		closing.Go(func() { errs[2] = w.groups.Close() })
	}
	closing.Wait()
	return errors.Join(errs[:]...)
}

// bare is an address as packets and the kernel have it: no zone, IPv4 in 4
// bytes.
func bare(a netip.Addr) netip.Addr {
	return a.Unmap().WithZone("")
}

// errno unpacks the kernel's own word from what the libraries wrapped it in.
func errno(err error) error {
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return e
	}
	return err
}
