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
	"golang.org/x/sys/unix"
)

// Listener asks, listens and announces on one link, by ARP for IPv4 and by
// neighbour discovery for IPv6, on packet sockets: the kernel's neighbour table
// answers from its cache, and the tools' exit codes say "free" without a
// carrier.
//
// All methods may be called from several goroutines at once.
type Listener struct {
	link      Link
	own       func(Reply) bool
	addresses map[netip.Addr]netip.Addr // as in a packet -> as given to Open

	sockets *sockets
	arp, nd *socket  // nil without an address of the family
	groups  *os.File // the socket that has joined the groups of IPv6; else nil
	done    chan struct{}

	mu      sync.Mutex
	replies replies
	changed chan struct{}
	err     error
	closed  bool
}

// Reply is a frame by which another machine uses, or probes for, an address.
type Reply struct {
	Address netip.Addr       // as given to Open
	MAC     net.HardwareAddr // of the machine that uses the address, or probes for it
	Source  net.HardwareAddr // that the frame came from; not MAC in a proxy announcement
	Probe   bool             // a probe (RFC 5227, RFC 4862): MAC wants the address and asks whether it is in use
	Direct  bool             // an ARP reply or solicited advertisement to this machine alone: our question has arrived there

	// To is the address that an ARP reply or a solicited advertisement answers:
	// the sender address of an ordinary request, 0.0.0.0 for an ARP probe. Zero
	// in all other frames, also in the answer to an IPv6 probe, which goes to
	// all nodes. A machine that replies to requests and never to probes, from
	// one MAC for many addresses, does proxy ARP.
	To netip.Addr

	Router bool // IPv6: the advertisement's Router flag

	// At is when the kernel received the frame, with a monotonic clock reading. A
	// process that stood still reads late what had come meanwhile.
	At time.Time
	// Earlier is when the frame of the same kind before it was received, of those
	// at least half a second older; zero: there was none. The other machine has
	// then said it twice, not once.
	Earlier time.Time
}

// answersProbe reports whether the frame is an ARP reply to a probe.
func (r Reply) answersProbe() bool { return r.To.IsValid() && r.To.IsUnspecified() }

// OwnReply reports whether r is no other machine's: an announcement of this
// machine for another one that came back; a probe of its own; or a frame with
// one of its MACs, if the address is here, or the MAC's interface does proxy
// ARP. Otherwise one of its MACs is in use on the link by a machine that has
// the address, and that is a conflict like any other.
//
// An address that was removed just now may still be answered for by another
// interface of this machine.
func (k *Snapshot) OwnReply(r Reply) bool {
	i := slices.IndexFunc(k.Links, func(l Link) bool { return len(r.MAC) > 0 && slices.Equal(l.MAC, r.MAC) })
	if i < 0 {
		return k.OwnMAC(r.Source)
	}
	return r.Probe || k.Holds(r.Address) || k.Links[i].ProxyARP
}

// Open begins to listen on l for what other machines say about addrs: replies,
// announcements, probes, and the ordinary requests that a holder sends from the
// address. It opens sockets only for the families that addrs has, and joins the
// solicited-node groups of the IPv6 ones, so that probes for them pass snooping
// switches and the network card's filter.
//
// Frames for which own is true are ignored: see Snapshot.OwnReply. It is called
// from another goroutine, and must not call the Listener. The error is about
// the link, or wraps fs.ErrPermission where CAP_NET_RAW is missing.
func Open(l Link, own func(Reply) bool, addrs ...netip.Addr) (*Listener, error) {
	return new(Process).Open(l, own, addrs...)
}

// Open is the function Open, with sockets that all listeners of the process
// share.
func (p *Process) Open(l Link, own func(Reply) bool, addrs ...netip.Addr) (*Listener, error) {
	switch {
	case l.Loopback:
		return nil, fmt.Errorf("%s: a loopback interface has no neighbours to ask", l.Name)
	case !l.ARP:
		return nil, fmt.Errorf("%s: does not do ARP (NOARP), so no neighbour can be asked there", l.Name)
	case l.Master != "":
		return nil, fmt.Errorf("%s: is a port of %s, which receives its ARP frames: use %[2]s", l.Name, l.Master)
	case len(l.MAC) != 6:
		return nil, fmt.Errorf("%s: MAC %q has %d bytes: only Ethernet (6) is supported", l.Name, l.MAC, len(l.MAC))
	}
	w := &Listener{
		sockets: &p.sockets, link: l, own: own, addresses: make(map[netip.Addr]netip.Addr),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	for _, a := range addrs {
		w.addresses[bare(a)] = a
	}
	if err := w.open(p.ARPRate); err != nil {
		_ = w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Listener) open(rate int) (err error) {
	var v4 bool
	var v6 []netip.Addr
	for a := range w.addresses {
		if a.Is4() {
			v4 = true
		} else {
			v6 = append(v6, a)
		}
	}
	if v4 {
		if w.arp, err = w.sockets.subscribe(w, "ARP", ethernet.EtherTypeARP, rate); err != nil {
			return err
		}
	}
	if len(v6) > 0 {
		// The groups first: a probe sent just after Open returns must find them joined.
		if w.groups, err = joinSolicitedNodes(w.link, v6); err != nil {
			return err
		}
		if w.nd, err = w.sockets.subscribe(w, "neighbour discovery", ethernet.EtherTypeIPv6, rate); err != nil {
			return err
		}
	}
	return nil
}

// keep adds a reply about one of the listener's addresses, unless it is our own.
func (w *Listener) keep(r Reply) {
	name, ok := w.addresses[r.Address]
	if !ok {
		return
	}
	r.Address = name
	if w.own(r) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replies.keep(r)
	w.notify()
}

// fail records why silence proves nothing from now on, and what failed. The
// kernel reports an interface that goes down once, and would deliver again
// when it is back up; the listener has ended all the same, because what was
// missed in between is unknown.
func (w *Listener) fail(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.err != nil {
		return
	}
	w.err = fmt.Errorf("%s: %s: %w", w.link.Name, what, errno(err))
	w.notify()
}

func (w *Listener) notify() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// Ask sends one question: is target in use? From an address of ours, which may
// be a virtual IP, it is an ordinary ARP request or neighbour solicitation; one
// from the virtual IP also teaches routers that ignore gratuitous ARP where it
// is. With the zero from it is a probe, which enters no neighbour table but
// tells others that we want the address (RFC 5227 §2.1.1, sender 0.0.0.0; RFC
// 4862 §5.4.2, from ::). Target must have been given to Open. Where a rate is
// set, Ask returns when the question has been sent.
//
// An IPv6 probe is not harmless: a machine that is just checking target for
// itself, as in its first second or two after booting, gives it up permanently
// (RFC 4862 §5.4.3) and without a message. An ordinary solicitation it ignores,
// and its own probe is received.
func (w *Listener) Ask(target, from netip.Addr) error {
	frame, err := w.request(bare(target), bare(from))
	if err == nil {
		err = w.ask(bare(target), frame)
	}
	if err != nil {
		return fmt.Errorf("%s: asking for %s: %w", w.link.Name, target, err)
	}
	return nil
}

func (w *Listener) request(target, from netip.Addr) ([]byte, error) {
	if from.IsValid() && from.Is4() != target.Is4() {
		return nil, fmt.Errorf("sender %s is of the other family", from)
	}
	if target.Is4() {
		return arpRequest(w.link.MAC, target, from)
	}
	return ndSolicit(w.link.MAC, target, from)
}

// Announce tells all machines on the link that addr is at mac, or here when mac
// is nil: by a gratuitous ARP request and a reply, since some gear honours only
// one of them, or by an unsolicited neighbour advertisement. The frame itself
// always comes from our own MAC, because switches learn from it at which port a
// MAC is. Addr must have been given to Open. Where a rate is set, announcements
// go before everything else that waits.
func (w *Listener) Announce(addr netip.Addr, mac net.HardwareAddr) error {
	return w.announce(addr, mac, urgent)
}

// AnnounceAgain is Announce for the second and later announcements of an
// address: after everything else that waits, and at most ten a second on the
// link, for all listeners of the process together. It returns when it is sent.
func (w *Listener) AnnounceAgain(addr netip.Addr, mac net.HardwareAddr) error {
	return w.announce(addr, mac, repeated)
}

func (w *Listener) announce(addr netip.Addr, mac net.HardwareAddr, p priority) error {
	frames, err := w.announcement(bare(addr), mac)
	if err == nil {
		err = w.send(bare(addr), p, frames...)
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
	from, router := addr, w.link.Router
	if !slices.Equal(mac, w.link.MAC) {
		from, router = proxySource(w.link, addr), w.isRouter(addr, mac)
	}
	frame, err := ndAnnouncement(w.link.MAC, mac, addr, from, router)
	return [][]byte{frame}, err
}

// isRouter reports whether the Router flag belongs into an advertisement for
// another machine: as in its own newest solicited one. Without one it
// does: a missing flag deletes clients' default routes (RFC 4861 §7.2.5), one
// too many changes nothing.
func (w *Listener) isRouter(addr netip.Addr, mac net.HardwareAddr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	router := true
	for _, r := range w.replies.since(time.Time{}) {
		if bare(r.Address) == addr && slices.Equal(r.MAC, mac) && (r.To.IsValid() || r.Router) {
			router = r.Router
		}
	}
	return router
}

func (w *Listener) ask(target netip.Addr, frame []byte) error {
	socket, err := w.socket(target)
	if err != nil {
		return err
	}
	return socket.ask(w, target, frame)
}

func (w *Listener) send(about netip.Addr, p priority, frames ...[]byte) error {
	socket, err := w.socket(about)
	if err != nil {
		return err
	}
	return socket.send(w.done, p, func() {}, frames...)
}

// socket is where frames about an address are sent.
func (w *Listener) socket(about netip.Addr) (*socket, error) {
	if _, ok := w.addresses[about]; !ok {
		return nil, errors.New("not among the addresses listened for")
	}
	if about.Is6() {
		return w.nd, nil
	}
	return w.arp, nil
}

// Replies returns what was received at or after since, oldest first: of the
// frames of one kind about one address from one MAC only the newest.
func (w *Listener) Replies(since time.Time) []Reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.replies.since(since)
}

// Lost is a count, from Open on, of frames that are missing from Replies:
// dropped by the kernel because they came faster than they were read (by any
// listener on the link), or one of more than 512 of a kind. When it grows while
// replies are awaited, silence proves nothing: ask again.
func (w *Listener) Lost() uint64 {
	var dropped uint64
	for _, s := range []*socket{w.arp, w.nd} {
		if s != nil {
			dropped += s.dropped(w)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return dropped + w.replies.evicted
}

// Changed returns a channel that is closed when the next frame is kept, or when
// listening fails. Fetch it before calling Replies and Err: then nothing that
// arrives in between is missed.
func (w *Listener) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// Err returns why listening ended before Close, nil while it goes on. It ends
// permanently when the interface goes down, even if only for a moment, and when
// a question could not be sent after Ask had returned: silence with an Err
// means that nobody could be asked, not that nobody replied.
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
	if !w.closed {
		close(w.done)
	}
	w.closed = true
	w.mu.Unlock()
	var errs [3]error
	var closing sync.WaitGroup
	for i, s := range []*socket{w.arp, w.nd} {
		if s != nil {
			closing.Go(func() { errs[i] = w.sockets.unsubscribe(w, s) })
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

// errno unpacks the kernel's own error from what the libraries wrapped it in.
func errno(err error) error {
	if e, ok := errors.AsType[unix.Errno](err); ok {
		return e
	}
	return err
}
