package lab

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Sample is one ping of a Trace.
type Sample struct {
	At  time.Time     // when it was sent
	Seq int           // 0, 1, …
	OK  bool          // it was answered
	RTT time.Duration // until the answer; 0 without one
}

// Trace is how a client sees an address over time.
type Trace struct {
	conn *icmp.PacketConn
	dst  *net.IPAddr
	mark [8]byte // in each ping, so that traces do not take each other's replies
	stop func()

	mu      sync.Mutex
	samples []Sample
}

// Watch pings addr from the host, one ping each interval (10ms is typical), until the Trace is stopped or the lab
// is closed. A ping that cannot be sent counts as one without an answer.
func (h *Host) Watch(addr netip.Addr, every time.Duration) (*Trace, error) {
	if every <= 0 {
		return nil, fmt.Errorf("host %s: watch %s: interval %s: must be greater than 0", h.name, addr, every)
	}
	t := &Trace{dst: &net.IPAddr{IP: addr.AsSlice()}}
	rand.Read(t.mark[:])

	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return nil, h.off()
	}
	if err := h.keeper.do(func() error { return t.open(addr) }); err != nil {
		return nil, fmt.Errorf("host %s: watch %s: %w", h.name, addr, err)
	}
	halt, sent, heard := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); t.send(every, halt) }()
	go func() { defer close(heard); t.listen() }()
	t.stop = sync.OnceFunc(func() {
		close(halt)
		<-sent
		time.Sleep(20 * time.Millisecond) // for the replies that are still on the way
		t.conn.Close()
		<-heard
	})
	h.traces = append(h.traces, t)
	return t, nil
}

// Ping pings addr from the host, every 10ms, until the first reply. The error says that there was none in this time.
func (h *Host) Ping(addr netip.Addr, timeout time.Duration) error {
	t, err := h.Watch(addr, 10*time.Millisecond)
	if err != nil {
		return err
	}
	defer t.Stop()
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, ok := t.FirstReplyAfter(time.Time{}); ok {
			return nil
		}
	}
	return fmt.Errorf("host %s: ping %s: no reply in %s", h.name, addr, timeout)
}

// open opens the socket. A zone is a name that means nothing outside the host, so it becomes a number here.
func (t *Trace) open(addr netip.Addr) error {
	if addr.Zone() != "" {
		link, err := net.InterfaceByName(addr.Zone())
		if err != nil {
			return err
		}
		t.dst.Zone = strconv.Itoa(link.Index)
	}
	network := "ip4:icmp"
	if addr.Is6() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := icmp.ListenPacket(network, "")
	t.conn = conn
	return err
}

func (t *Trace) send(every time.Duration, halt <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for seq := 0; ; seq++ {
		message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
			Seq:  seq & 0xffff,
			Data: binary.BigEndian.AppendUint64(t.mark[:], uint64(seq)),
		}}
		if t.dst.IP.To4() == nil {
			message.Type = ipv6.ICMPTypeEchoRequest // the kernel computes the checksum of these
		}
		packet, err := message.Marshal(nil)
		t.mu.Lock()
		t.samples = append(t.samples, Sample{At: time.Now(), Seq: seq})
		t.mu.Unlock()
		if err == nil {
			t.conn.WriteTo(packet, t.dst)
		}
		select {
		case <-tick.C:
		case <-halt:
			return
		}
	}
}

// listen notes the replies until the socket is closed.
func (t *Trace) listen() {
	protocol := 1 // ICMP, and 58 is ICMPv6 (IANA protocol numbers)
	if t.dst.IP.To4() == nil {
		protocol = 58
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := t.conn.ReadFrom(buf)
		now := time.Now()
		if err != nil {
			return
		}
		message, err := icmp.ParseMessage(protocol, buf[:n])
		if err != nil || message.Type != ipv4.ICMPTypeEchoReply && message.Type != ipv6.ICMPTypeEchoReply {
			continue
		}
		echo, ok := message.Body.(*icmp.Echo)
		if !ok || len(echo.Data) != 16 || !bytes.Equal(echo.Data[:8], t.mark[:]) {
			continue
		}
		seq := binary.BigEndian.Uint64(echo.Data[8:])
		t.mu.Lock()
		if b := &t.samples[seq]; !b.OK {
			b.OK, b.RTT = true, now.Sub(b.At)
		}
		t.mu.Unlock()
	}
}

// Stop ends the trace and returns all its samples.
func (t *Trace) Stop() []Sample {
	t.stop()
	return t.Samples()
}

// Samples returns the samples so far.
func (t *Trace) Samples() []Sample {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.samples)
}

// Gap is the longest time without an answer so far: between the sending of one ping that was answered and of the
// next one, or since the first ping, or until the last one. Without any loss it is about the interval.
func (t *Trace) Gap() time.Duration {
	samples := t.Samples()
	var gap time.Duration
	var last time.Time
	for i, b := range samples {
		if i == 0 {
			last = b.At
		}
		if b.OK || i == len(samples)-1 {
			gap = max(gap, b.At.Sub(last))
			last = b.At
		}
	}
	return gap
}

// FirstReplyAfter finds the first ping sent after the given time that was answered; false if there was none yet.
func (t *Trace) FirstReplyAfter(since time.Time) (Sample, bool) {
	for _, b := range t.Samples() {
		if b.OK && b.At.After(since) {
			return b, true
		}
	}
	return Sample{}, false
}
