package vip

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// noMAC is the hardware address of an ARP packet that has none.
var noMAC = net.HardwareAddr{0, 0, 0, 0, 0, 0}

// arpRequest asks all machines for target; the zero from makes it an RFC 5227
// §2.1.1 probe, whose sender is 0.0.0.0.
func arpRequest(us net.HardwareAddr, target, from netip.Addr) ([]byte, error) {
	if !from.IsValid() {
		from = netip.IPv4Unspecified()
	}
	return arpBroadcast(us, arp.OperationRequest, us, from, noMAC, target)
}

// arpAnnouncement announces, as request and as reply, that addr is at mac
// (sender address = target address, RFC 5227 §3). The target MAC means nothing
// in a request and is zero. In the reply it is mac again, as in RFC 5944 §4.6:
// Linux takes a reply for gratuitous, and applies it at once, only if both are
// the same (arp_is_garp).
func arpAnnouncement(us, mac net.HardwareAddr, addr netip.Addr) ([][]byte, error) {
	request, err := arpBroadcast(us, arp.OperationRequest, mac, addr, noMAC, addr)
	if err != nil {
		return nil, err
	}
	reply, err := arpBroadcast(us, arp.OperationReply, mac, addr, mac, addr)
	if err != nil {
		return nil, err
	}
	return [][]byte{request, reply}, nil
}

func arpBroadcast(us net.HardwareAddr, op arp.Operation, sender net.HardwareAddr, senderIP netip.Addr, target net.HardwareAddr, targetIP netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, sender, senderIP, target, targetIP)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	f := ethernet.Frame{Destination: ethernet.Broadcast, Source: us, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return f.MarshalBinary()
}

// parseARP finds out which address an ARP packet says is in use: the sender
// address of a reply, an announcement or a question about another address; a
// request from 0.0.0.0 is a probe for its target.
func parseARP(b []byte) (Reply, bool) {
	const (
		hardwareEthernet = 1
		protocolIPv4     = uint16(ethernet.EtherTypeIPv4)
	)
	var p arp.Packet
	if err := p.UnmarshalBinary(b); err != nil {
		return Reply{}, false
	}
	if p.HardwareType != hardwareEthernet || p.HardwareAddrLength != 6 || p.ProtocolType != protocolIPv4 || p.IPLength != 4 {
		return Reply{}, false
	}
	switch {
	case p.Operation == arp.OperationReply && !p.SenderIP.IsUnspecified():
		return Reply{Address: p.SenderIP, MAC: p.SenderHardwareAddr, Direct: true, To: p.TargetIP}, true
	case p.Operation != arp.OperationRequest:
		return Reply{}, false
	case !p.SenderIP.IsUnspecified():
		return Reply{Address: p.SenderIP, MAC: p.SenderHardwareAddr}, true
	}
	return Reply{Address: p.TargetIP, MAC: p.SenderHardwareAddr, Probe: true}, true
}
