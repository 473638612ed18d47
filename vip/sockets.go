package vip

import (
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
)

// sockets are the packet sockets of one process: wires that are opened on the same
// link share them. The kernel shows every socket each ARP packet of its link,
// and takes 10 ms to close one: with one for each of 300 clusters that asked
// for the same witness, 0.6 s of CPU went into reading the same answers.
type sockets struct {
	mu   sync.Mutex
	open map[socketKey]*socket
}

// socketKey is where a tap listens, and for what.
type socketKey struct {
	link     int
	protocol ethernet.EtherType
}

// socket is one packet socket, and who listens to it.
type socket struct {
	place socketKey
	conn  *packet.Conn
	ended chan struct{} // closed when nobody reads any more

	mu        sync.Mutex
	err       error // why it ended; nil while it listens
	listeners map[netip.Addr][]*Listener
	asked     map[string]question
}

// question is one that went out, or will.
type question struct {
	at time.Time
	by *Listener
}

// together is how long questions that are the same wait for each other: a
// thousand clusters that ask for one witness are answered by one reply.
const together = 20 * time.Millisecond

// listen lets w listen to the packet socket of one protocol, until leave.
func (t *sockets) listen(w *Listener, what string, protocol ethernet.EtherType, filter []bpf.Instruction) (*socket, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := socketKey{w.link.Index, protocol}
	shared, ok := t.open[at]
	if !ok || shared.dead() {
		program, err := bpf.Assemble(slices.Concat(addressedToUs, filter, []bpf.Instruction{bpf.RetConstant{Val: maxFrame}}))
		if err != nil {
			return nil, err
		}
		conn, err := packet.Listen(&net.Interface{Index: at.link}, packet.Raw, int(protocol), &packet.Config{Filter: program})
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%s: listening for %s needs CAP_NET_RAW: %w", w.link.Name, what, errno(err))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: listening for %s: %w", w.link.Name, what, errno(err))
		}
		shared = &socket{place: at, conn: conn, ended: make(chan struct{}), listeners: map[netip.Addr][]*Listener{}, asked: map[string]question{}}
		if t.open == nil {
			t.open = map[socketKey]*socket{}
		}
		t.open[at] = shared
		go shared.read()
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for a := range w.named {
		shared.listeners[a] = append(shared.listeners[a], w)
	}
	if shared.err != nil { // it ended before w was among them
		w.end("listening ended", shared.err)
	}
	return shared, nil
}

// leave ends w's listening. Who is the last closes the socket, and waits until
// nobody reads from it.
func (t *sockets) leave(w *Listener, shared *socket) error {
	t.mu.Lock()
	shared.mu.Lock()
	for a := range w.named {
		others := slices.DeleteFunc(shared.listeners[a], func(other *Listener) bool { return other == w })
		if shared.listeners[a] = others; len(others) == 0 {
			delete(shared.listeners, a)
		}
	}
	last := len(shared.listeners) == 0
	shared.mu.Unlock()
	if last && t.open[shared.place] == shared {
		delete(t.open, shared.place)
	}
	t.mu.Unlock()
	if !last {
		return nil
	}
	err := shared.conn.Close()
	<-shared.ended
	return err
}

// dead tells whether the socket has nothing more to say: its link went down.
func (t *socket) dead() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// read hands what is heard to who listens for it, until the socket is closed.
func (t *socket) read() {
	b := make([]byte, maxFrame)
	for {
		n, _, err := t.conn.ReadFrom(b)
		if err != nil {
			t.end(err)
			return
		}
		if h, source, ok := hear(b[:n]); ok {
			t.tell(h, source)
		}
	}
}

func (t *socket) tell(h Reply, source net.HardwareAddr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.listeners[h.Address] {
		if !w.ours(source) && !w.ours(h.MAC) {
			w.note(h)
		}
	}
}

// end tells all who listen that there is nothing more to hear, and why. Who
// comes later opens another socket, or is told as well.
func (t *socket) end(err error) {
	close(t.ended)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	for _, listeners := range t.listeners {
		for _, w := range listeners {
			w.end("listening ended", err)
		}
	}
}

func (t *socket) send(frame []byte) error {
	if _, err := t.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		return errno(err)
	}
	return nil
}

// ask sends a question. One that somebody else sent a moment ago is not sent at
// once but once more for all who ask it until then, so that no answer is older
// than the question.
func (t *socket) ask(w *Listener, target netip.Addr, frame []byte) error {
	t.mu.Lock()
	now, key := time.Now(), string(frame)
	last, known := t.asked[key]
	wait := last.at.Add(together).Sub(now)
	switch {
	case known && last.at.After(now): // it will be sent
		t.mu.Unlock()
		return nil
	case known && last.by != w && wait > 0:
		t.asked[key] = question{now.Add(wait), w}
		t.mu.Unlock()
		time.AfterFunc(wait, func() {
			if err := t.send(frame); err != nil {
				t.unasked(target, err)
			}
		})
		return nil
	}
	t.asked[key] = question{now, w}
	t.mu.Unlock()
	return t.send(frame)
}

// unasked tells all who wait for an answer about target that the question did
// not go out: they must not take the silence for an answer.
func (t *socket) unasked(target netip.Addr, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.listeners[target] {
		w.end(fmt.Sprintf("asking for %s", target), err)
	}
}
