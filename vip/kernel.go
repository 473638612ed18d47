package vip

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelTimeout is how long the kernel may take for an answer; it takes microseconds.
const kernelTimeout = time.Minute

// handle asks the kernel by netlink.
type handle struct{ *netlink.Handle }

// anew opens a socket for each question, in the network namespace of the calling thread.
func anew() handle { return handle{new(netlink.Handle)} }

// kernelSocket is one socket for questions one after the other: to open and close one takes longer than
// an answer. The zero kernelSocket is ready.
type kernelSocket struct {
	mu     sync.Mutex
	handle *netlink.Handle // nil until the first question
}

// askKernel asks by that socket. While it is in use, as with many clusters, another one is faster than
// to wait for it. After an error it is asked anew, too, for the cause may be the socket: one that was
// left in the middle of a listing refuses the next one.
func askKernel[T any](s *kernelSocket, question func(handle) (T, error)) (T, error) {
	if answer, err := askBy(s, question); err == nil {
		return answer, nil
	}
	return question(anew())
}

func askBy[T any](s *kernelSocket, question func(handle) (T, error)) (answer T, err error) {
	if !s.mu.TryLock() {
		return answer, unix.EBUSY
	}
	defer s.mu.Unlock()
	if s.handle == nil {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err == nil {
			err = h.SetSocketTimeout(kernelTimeout)
		}
		if err != nil {
			return answer, err
		}
		s.handle = h
	}
	return question(handle{s.handle})
}

// RouteTo is the function RouteTo.
func (p *Process) RouteTo(a, from netip.Addr) (Route, error) {
	return answerTo(p, routeKey{a, from}, netip.Addr{}, func() (Route, error) {
		return askKernel(&p.kernel, func(h handle) (Route, error) { return h.routeTo(a, from) })
	})
}

// Gateway is the function Gateway.
func (p *Process) Gateway(link string, v6 bool, from netip.Addr) (gateway netip.Addr, found bool, err error) {
	gateway, err = answerTo(p, gatewayKey{link, v6, from}, netip.Addr{}, func() (netip.Addr, error) {
		return askKernel(&p.kernel, func(h handle) (netip.Addr, error) {
			a, _, err := h.gateway(link, v6, from)
			return a, err
		})
	})
	return gateway, gateway.IsValid(), err
}

// Neighbour is the function Neighbour.
func (p *Process) Neighbour(link string, a netip.Addr) (net.HardwareAddr, error) {
	return answerTo(p, neighbourKey{link, a}, bare(a), func() (net.HardwareAddr, error) {
		return askKernel(&p.kernel, func(h handle) (net.HardwareAddr, error) { return h.neighbour(link, a) })
	})
}
