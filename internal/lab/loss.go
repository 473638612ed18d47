package lab

import (
	"fmt"

	"github.com/google/nftables"
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

// Mute loses every frame that the host sends, as a broken fibre does, or a switch that blocks its port one way. It
// still receives the others' frames. A power cut does not end that.
func (h *Host) Mute(on bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mute = on
	return h.rules()
}

// Part loses every frame between two hosts, both ways, as two ports of a switch do that are isolated from each other:
// all others receive frames of both. Rejoin ends it, a power cut does not.
func (l *Lab) Part(a, b *Host) error {
	return l.between(a, b, Drop(a.from(), b.to()), Drop(b.from(), a.to()))
}

// Rejoin undoes Part.
func (l *Lab) Rejoin(a, b *Host) error { return l.between(a, b) }

func (l *Lab) between(a, b *Host, rules ...Rule) error {
	table := fmt.Sprintf("hosts%dand%d", min(a.number, b.number), max(a.number, b.number))
	if err := l.bridge.filter(nftables.TableFamilyBridge, table, nftables.ChainHookForward, rules); err != nil {
		return fmt.Errorf("hosts %s and %s: %w", a.name, b.name, err)
	}
	return nil
}

// rules puts the losses into the switch, in place of those that were there for this host. Not on the host: what
// reads packets there sees even those that its own firewall drops.
func (h *Host) rules() error {
	var rules []Rule
	if h.filter {
		rules = append(rules, Drop(h.to(), EchoRequest4()), Drop(h.to(), EchoRequest6()))
	}
	if h.lose > 0 {
		rules = append(rules, Drop(h.to(), percent(h.lose)))
	}
	if h.mute {
		rules = append(rules, Drop(h.from()))
	}
	table := fmt.Sprintf("host%d", h.number)
	return h.err(h.lab.bridge.filter(nftables.TableFamilyBridge, table, nftables.ChainHookForward, rules))
}
