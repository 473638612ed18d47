package lab

import (
	"fmt"
	"strings"
)

// FilterICMP makes the host drop every ICMP and ICMPv6 echo request that arrives. It still answers ARP and
// neighbour solicitations. A power cut does not end that.
func (h *Host) FilterICMP(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.filter = on
	return h.rules()
}

// Lose loses so many percent of the frames that arrive at the host, ARP included, before anything on the host can
// see them. 0 ends it, a power cut does not.
func (h *Host) Lose(percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("host %s: lose %d: must be 0 to 100", h.name, percent)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose = percent
	return h.rules()
}

// Mute loses every frame that the host sends, as a broken fibre does, or a switch that takes it for a stranger. It
// still hears all others. A power cut does not end that.
func (h *Host) Mute(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mute = on
	return h.rules()
}

// Part loses every frame between two hosts, both ways, as two ports of a switch do that are isolated from each other:
// all others hear both. Rejoin ends it, a power cut does not.
func (l *Lab) Part(a, b *Host) error {
	table := parted(a, b)
	return l.nft("parting "+a.name+" and "+b.name, table+" {", "chain between {", "type filter hook forward priority 0",
		fmt.Sprintf(`iifname "p%d-*" oifname "p%d-*" drop`, a.number, b.number),
		fmt.Sprintf(`iifname "p%d-*" oifname "p%d-*" drop`, b.number, a.number), "}", "}")
}

// Rejoin undoes Part.
func (l *Lab) Rejoin(a, b *Host) error {
	table := parted(a, b)
	return l.nft("rejoining "+a.name+" and "+b.name, table, "delete "+table)
}

func parted(a, b *Host) string {
	return fmt.Sprintf("table bridge parted%dand%d", min(a.number, b.number), max(a.number, b.number))
}

// rules puts the losses into the switch, in place of those that were there for this host. Not on the host: what
// reads packets there sees even those that its own firewall drops.
func (h *Host) rules() error {
	table := fmt.Sprintf("table bridge host%d", h.number)
	lines := []string{table, "delete " + table, table + " {", "chain leaving {", "type filter hook forward priority 0"}
	port := fmt.Sprintf(`oifname "p%d-*" `, h.number)
	if h.filter {
		lines = append(lines, port+"icmp type echo-request drop", port+"icmpv6 type echo-request drop")
	}
	if h.lose > 0 {
		lines = append(lines, fmt.Sprintf("%snumgen random mod 100 <= %d drop", port, h.lose-1))
	}
	if h.mute {
		lines = append(lines, fmt.Sprintf(`iifname "p%d-*" drop`, h.number))
	}
	return h.lab.nft("host "+h.name, append(lines, "}", "}")...)
}

// nft has the switch run lines of nft(8).
func (l *Lab) nft(what string, lines ...string) error {
	_, err := l.bridge.run(lines, "nft", "-f", "-")
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "exit status 127"):
		return fmt.Errorf("%s: nft is missing: install the package nftables", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}
