package vip

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// notified are the groups of rtnetlink(7) whose notifications say that an answer of
// the kernel may be another one now: links, addresses, routes, rules, neighbours, and
// the switches that readSysctls reads.
func notified() []int {
	return []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_IFINFO,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEXTHOP, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	}
}

// answers are those of the kernel, each known until a notification says that
// something has changed since. They hold nothing that the kernel would not answer
// again, but for a carrier, of which it may notify up to a second late, and switches
// of which it notifies nobody. The zero answers are ready.
type answers struct {
	mu         sync.Mutex
	socket     int // for notifications; 0: none yet
	buffer     []byte
	changes    uint64                // that were notified, but for neighbours
	neighbours map[netip.Addr]uint64 // the same for each
	known      map[any]answer
}

// mostKnown limits what is known: more than the clusters of a process ask.
const mostKnown = 1 << 14

// answerAge is how long an answer is known at the most: of some switches, such as
// arp_ignore, the kernel notifies nobody.
const answerAge = time.Minute

type answer struct {
	changes uint64
	at      time.Time
	value   any
}

// Keys of answers.
type (
	snapshotKey  struct{}
	routeKey     struct{ to, from netip.Addr }
	neighbourKey struct {
		link    string
		address netip.Addr
	}
	gatewayKey struct {
		link string
		v6   bool
		from netip.Addr
	}
)

// answerTo is the known answer to a question, or a new one. About is the neighbour
// that it is about, zero for none. Nothing is known unless the process keeps it.
func answerTo[T any](p *Process, key any, about netip.Addr, ask func() (T, error)) (T, error) {
	if !p.keeps {
		return ask()
	}
	a := &p.answers
	changes, ok := a.count(about) // before it is asked: what changes meanwhile counts
	if !ok {
		return ask()
	}
	if value, ok := a.recall(key, changes); ok {
		return value.(T), nil
	}
	began := time.Now()
	value, err := ask()
	if err == nil {
		a.keep(key, answer{changes, began, value})
	}
	return value, err
}

func (a *answers) recall(key any, changes uint64) (any, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, ok := a.known[key]
	return known.value, ok && known.changes == changes && time.Since(known.at) < answerAge
}

func (a *answers) keep(key any, new answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) > mostKnown {
		a.known = map[any]answer{}
	}
	a.known[key] = new
}

// count reads the notifications that have arrived, and is how many that makes. The
// kernel sends them within the call that changes something, so none is missed that
// came before. Not ok: it is not told of changes.
func (a *answers) count(about netip.Addr) (changes uint64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.socket == 0 {
		var err error
		if a.socket, err = subscribe(); err != nil {
			return 0, false
		}
		a.changes++ // nobody knows what changed before
		a.buffer = make([]byte, 1<<16)
	}
	for {
		n, _, err := unix.Recvfrom(a.socket, a.buffer, unix.MSG_DONTWAIT)
		switch err {
		case nil:
			a.note(a.buffer[:n])
		case unix.EINTR:
		case unix.EAGAIN:
			return a.changes + a.neighbours[about], true
		case unix.ENOBUFS: // some did not fit
			a.changes++
		default:
			_ = unix.Close(a.socket)
			a.socket = 0
			return 0, false
		}
	}
}

// subscribe opens a socket that receives the notifications.
func subscribe() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range notified() {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// note counts what a packet notifies. Neighbours change all the time, and are
// counted one by one; what a bridge learns is none of them.
func (a *answers) note(packet []byte) {
	const ndmsg = 12 // bytes before the attributes, and the family first (rtnetlink(7))
	messages, err := syscall.ParseNetlinkMessage(packet)
	if err != nil {
		a.changes++
		return
	}
	for _, m := range messages {
		if kind := m.Header.Type; kind != unix.RTM_NEWNEIGH && kind != unix.RTM_DELNEIGH || len(m.Data) < ndmsg {
			a.changes++
			continue
		}
		if m.Data[0] == unix.AF_BRIDGE {
			continue
		}
		if address, ok := destination(m.Data[ndmsg:]); ok {
			a.noteNeighbour(address)
		}
	}
}

func (a *answers) noteNeighbour(address netip.Addr) {
	if len(a.neighbours) > mostKnown { // as when somebody scans the link
		a.changes++
		for _, n := range a.neighbours {
			a.changes += n // or a count could come again
		}
		a.neighbours = nil
	}
	if a.neighbours == nil {
		a.neighbours = map[netip.Addr]uint64{}
	}
	a.neighbours[address]++
}

// destination is the address of a neighbour, from its attributes.
func destination(attributes []byte) (netip.Addr, bool) {
	for len(attributes) >= unix.SizeofRtAttr {
		length, kind := int(binary.NativeEndian.Uint16(attributes)), binary.NativeEndian.Uint16(attributes[2:])
		if length < unix.SizeofRtAttr || length > len(attributes) {
			break
		}
		if kind == unix.NDA_DST {
			a, ok := netip.AddrFromSlice(attributes[unix.SizeofRtAttr:length])
			return a, ok
		}
		attributes = attributes[min(len(attributes), (length+3)&^3):]
	}
	return netip.Addr{}, false
}
