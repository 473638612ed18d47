package vip

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Numbers and offsets of RFC 4861 §4.3, §4.4 and §4.6.1.
const (
	icmpv6            = 58
	ndHopLimit        = 255 // not forwarded by a router: it is from this link
	ndSolicitation    = 135
	ndAdvertisement   = 136
	ndFlags           = 4 // after type, code and checksum
	ndTarget          = 8
	ndOptions         = 24
	ndRouter          = 0x80
	ndSolicited       = 0x40
	ndSourceLinkLayer = 1
	ndTargetLinkLayer = 2
)

// solicitedNodes are the groups of RFC 4291 §2.7.1.
func solicitedNodes() netip.Prefix { return netip.MustParsePrefix("ff02::1:ff00:0/104") }

// linkLayerOption is the option with the MAC in a message of that type.
func linkLayerOption(kind byte) byte {
	switch kind {
	case ndSolicitation:
		return ndSourceLinkLayer
	case ndAdvertisement:
		return ndTargetLinkLayer
	}
	return 0
}

// ndFilter keeps the other IPv6 traffic of the machine from waking this process.
var ndFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 14 + 6, Size: 2}, // next header and hop limit
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpv6<<8 | ndHopLimit, SkipFalse: 3},
	bpf.LoadAbsolute{Off: 14 + ipv6.HeaderLen, Size: 1}, // ICMPv6 type
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: ndSolicitation, SkipTrue: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: ndAdvertisement, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
}

// joinSolicitedNodes joins the groups to which questions about addrs are sent
// until the socket is closed. The socket is bound to nothing, so it opens no
// port.
func joinSolicitedNodes(l Link, addrs []netip.Addr) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: listening for neighbour discovery: IPv6 socket: %w", l.Name, err)
	}
	socket := os.NewFile(uintptr(fd), "solicited-node groups")
	var joined []netip.Addr
	for _, a := range addrs {
		group, err := ndp.SolicitedNodeMulticast(a)
		if err == nil && !slices.Contains(joined, group) {
			err = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
				&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(l.Index)})
		}
		if err != nil {
			_ = socket.Close()
			return nil, fmt.Errorf("%s: joining the solicited-node group of %s (is IPv6 on there?): %w", l.Name, a, err)
		}
		joined = append(joined, group)
	}
	return socket, nil
}

// ndSolicit asks the solicited-node group of target. From an address of ours
// it carries our MAC; the zero from makes it the solicitation
// of duplicate address detection, from :: and without that option (RFC 4862
// §5.4.2).
func ndSolicit(us net.HardwareAddr, target, from netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(target)
	if err != nil {
		return nil, err
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: target}
	if from.IsValid() {
		ns.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: us}}
	} else {
		from = netip.IPv6Unspecified()
	}
	return ndMulticast(us, from, group, ns)
}

// ndAnnouncement tells all nodes, unsolicited and with override, that addr is
// at mac (RFC 4861 §7.2.6).
func ndAnnouncement(us, mac net.HardwareAddr, addr, from netip.Addr, router bool) ([]byte, error) {
	return ndMulticast(us, from, netip.IPv6LinkLocalAllNodes(), &ndp.NeighborAdvertisement{
		Router:        router,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	})
}

// proxySource chooses the IPv6 source of an announcement of addr for another
// machine: an address that is ours, link-local if there is one. From addr
// itself it would look like a duplicate to its holder, and bind addr to our
// port in switches that snoop neighbour discovery. Where l has no other
// address, addr must do: neighbours use the target, not the source.
func proxySource(l Link, addr netip.Addr) netip.Addr {
	source := addr
	for _, a := range l.Addresses {
		ip := a.Prefix.Addr()
		switch {
		case !ip.Is6() || ip == addr || a.Tentative || a.DADFailed:
		case ip.IsLinkLocalUnicast():
			return ip
		case source == addr:
			source = ip
		}
	}
	return source
}

// ndMulticast wraps a message for a multicast address into IPv6 and Ethernet
// (RFC 2464 §7: 33:33 and the last four bytes of the address).
func ndMulticast(us net.HardwareAddr, from, to netip.Addr, m ndp.Message) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(m, from, to)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, 0, ipv6.HeaderLen+len(message))
	payload = append(payload, ipv6.Version<<4, 0, 0, 0)
	payload = binary.BigEndian.AppendUint16(payload, uint16(len(message)))
	payload = append(payload, icmpv6, ndHopLimit)
	payload = append(payload, from.AsSlice()...)
	payload = append(payload, to.AsSlice()...)
	payload = append(payload, message...)

	group := to.As16()
	f := ethernet.Frame{
		Destination: append(net.HardwareAddr{0x33, 0x33}, group[12:]...),
		Source:      us,
		EtherType:   ethernet.EtherTypeIPv6,
		Payload:     payload,
	}
	return f.MarshalBinary()
}

// parseND finds out which address an IPv6 packet in a frame from source says
// is in use: the target of an advertisement, the sender of a solicitation; a
// solicitation from :: is a probe for its target. What fails the checks of RFC
// 4861 §7.1 is ignored.
//
// The options are walked here rather than by ndp.ParseMessage, which refuses a
// message for any option it knows and finds wrong, while §7.1 says to ignore
// what is not meant for it: a holder must not be missed for that.
func parseND(b []byte, source net.HardwareAddr) (Reply, bool) {
	if len(b) < ipv6.HeaderLen || b[0]>>4 != ipv6.Version || b[6] != icmpv6 || b[7] != ndHopLimit {
		return Reply{}, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	from, to := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	message := b[ipv6.HeaderLen:]
	if length < ndOptions || length > len(message) {
		return Reply{}, false
	}
	message = message[:length] // the rest is padding
	if message[1] != 0 || checksum(from, to, message) != 0 {
		return Reply{}, false
	}
	target := netip.AddrFrom16([16]byte(message[ndTarget:]))
	mac, ok := linkLayer(message[ndOptions:], linkLayerOption(message[0]))
	if !ok || target.IsMulticast() {
		return Reply{}, false
	}
	given := mac != nil
	if !given {
		mac = source
	}
	switch {
	case message[0] == ndAdvertisement:
		r := Reply{Address: target, MAC: mac, Router: message[ndFlags]&ndRouter != 0}
		if message[ndFlags]&ndSolicited != 0 {
			r.Direct, r.To = true, to
		}
		return r, !to.IsMulticast() || !r.Direct
	case message[0] == ndSolicitation && from.IsUnspecified():
		valid := solicitedNodes().Contains(to) && !given
		return Reply{Address: target, MAC: mac, Probe: true}, valid
	case message[0] == ndSolicitation:
		return Reply{Address: from, MAC: mac}, true
	}
	return Reply{}, false
}

// linkLayer returns the MAC in the first link-layer address option of that
// kind, nil if there is none. It is false for options of length zero or beyond
// the end: the whole message is then discarded.
func linkLayer(options []byte, kind byte) (mac net.HardwareAddr, ok bool) {
	for len(options) > 0 {
		if len(options) < 8 {
			return nil, false
		}
		length := int(options[1]) * 8
		if length == 0 || length > len(options) {
			return nil, false
		}
		if options[0] == kind && length == 8 && mac == nil {
			mac = slices.Clone(options[2:8])
		}
		options = options[length:]
	}
	return mac, true
}

// checksum is the one of RFC 4443 §2.3 for a message whose checksum field is
// zero; it is zero for a message with the right one.
func checksum(from, to netip.Addr, message []byte) uint16 {
	sum := uint32(len(message) + icmpv6)
	for _, b := range [][]byte{from.AsSlice(), to.AsSlice(), message} {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
