package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Conn asks, listens and announces on one link; Listener is the real one.
type Conn interface {
	Ask(target, from netip.Addr) error
	Announce(addr netip.Addr, mac net.HardwareAddr) error
	AnnounceAgain(addr netip.Addr, mac net.HardwareAddr) error
	Lost() uint64
	Replies(since time.Time) []Reply
	Changed() <-chan struct{}
	Err() error
	Close() error
}

// Target is an address, and the interface by which it is asked for.
type Target struct {
	Interface string
	Address   netip.Addr
}

// Asker asks for the targets of one check by ARP and ND, on all their links,
// and keeps what other machines say about them. It opens its listeners when it
// is asked to: the kernel takes about 10 ms to close a packet socket, which a
// healthy check does not spend.
type Asker struct {
	Listen  func(l Link, own func(Reply) bool, addrs ...netip.Addr) (Conn, error)
	Targets []Target
	VIPs    []netip.Addr // never asked from
	// Gateways are those of the targets that may do proxy ARP, and Primary is the
	// primary's MAC, which never does.
	Gateways []Target
	Primary  string

	links    map[string]Link
	conns    map[string]Conn // nil before Open
	err      error           // why a listener could not be opened
	snapshot atomic.Pointer[Snapshot]
}

// Open opens a listener on each link of the targets that is up, has carrier and
// does ARP, once; for a port of a bridge, bond or team on its master.
func (a *Asker) Open(s *Snapshot) {
	if a.conns != nil {
		return
	}
	a.links, a.conns = map[string]Link{}, map[string]Conn{}
	a.snapshot.Store(s)
	addrs := map[string][]netip.Addr{}
	for _, t := range a.Targets {
		if t.Interface != "" && !slices.Contains(addrs[t.Interface], t.Address) {
			addrs[t.Interface] = append(addrs[t.Interface], t.Address)
		}
	}
	own := func(r Reply) bool { return a.snapshot.Load().OwnReply(r) }
	for name, list := range addrs {
		link, ok := s.receiving(name)
		if !ok || !link.Up || !link.Carrier || !link.ARP {
			continue
		}
		if link.NoIPv6 { // a kernel without IPv6 has no sockets of it
			list = slices.DeleteFunc(list, netip.Addr.Is6)
		}
		if len(list) == 0 {
			continue
		}
		conn, err := a.Listen(link, own, list...)
		if err != nil {
			a.err = err
			continue
		}
		a.links[name], a.conns[name] = link, conn
	}
}

// Close closes the listeners.
func (a *Asker) Close() {
	for _, c := range a.conns {
		c.Close()
	}
}

// OpenErr is why a listener could not be opened, nil where all are open that
// can be.
func (a *Asker) OpenErr() error { return a.err }

// Listening tells whether there is a listener on the interface.
func (a *Asker) Listening(link string) bool { return a.conns[link] != nil }

// Err is why listening ended on the interface, nil while it goes on or where
// there is no listener.
func (a *Asker) Err(link string) error {
	if c := a.conns[link]; c != nil {
		return c.Err()
	}
	return nil
}

// Errs are the listeners that ended, by interface, and why.
func (a *Asker) Errs() map[string]error {
	errs := map[string]error{}
	for name := range a.conns {
		if err := a.Err(name); err != nil {
			errs[name] = fmt.Errorf("could not go on listening on %s: %w", name, err)
		}
	}
	return errs
}

// Ask asks once for a target, if there is a listener: by a probe, or by an
// ordinary request, which blocks no other standby. Where this machine has no
// address to send a request from, the question is an IPv4 probe, and for IPv6
// an error: a probe would take the address from a machine that is assigning it
// (RFC 4862 5.4.3).
func (a *Asker) Ask(s *Snapshot, t Target, probe bool) error {
	c := a.conns[t.Interface]
	if c == nil {
		return nil
	}
	a.snapshot.Store(s)
	from := netip.Addr{}
	if !probe {
		if from, _ = a.sender(s, t); !from.IsValid() && t.Address.Is6() {
			return fmt.Errorf("%s could not be asked for on %s: the interface has no IPv6 address to ask from, not even a link-local one", t.Address, t.Interface)
		}
	}
	if err := c.Ask(t.Address, from); err != nil {
		return fmt.Errorf("%s could not be asked for on %s: %w", t.Address, t.Interface, err)
	}
	return nil
}

// AskFrom asks for a target from an address that is here: routers that ignore
// gratuitous ARP learn from that where it is.
func (a *Asker) AskFrom(t Target, from netip.Addr) error {
	if c := a.conns[t.Interface]; c != nil {
		return c.Ask(t.Address, from)
	}
	return nil
}

// Mute tells whether only a probe can be sent for an IPv6 target: this machine has
// no address there to send a request from.
func (a *Asker) Mute(s *Snapshot, t Target) bool {
	from, _ := a.sender(s, t)
	return t.Address.Is6() && !from.IsValid()
}

// AskAgain asks once for a target that this machine has or had: by an ordinary
// request, and in the last question of several also by a probe, where a request
// may stay without a reply.
func (a *Asker) AskAgain(s *Snapshot, t Target, last bool) error {
	if !a.Mute(s, t) {
		if err := a.Ask(s, t, false); err != nil {
			return err
		}
	}
	if last && a.NeedsProbe(s, t) {
		return a.Ask(s, t, true)
	}
	return nil
}

// NeedsProbe tells whether an ordinary request for the target may stay without a
// reply from its holder: this machine has no address of the target's network
// there, and hosts with strict rp_filter do not reply to another.
func (a *Asker) NeedsProbe(s *Snapshot, t Target) bool {
	from, outside := a.sender(s, t)
	return outside || !from.IsValid()
}

// sender is the address that an ordinary request for the target comes from: one
// of its interface, else any that this machine has.
func (a *Asker) sender(s *Snapshot, t Target) (from netip.Addr, outside bool) {
	link, _ := s.receiving(t.Interface)
	from, outside = s.RequestSource(link.Name, t.Address, a.VIPs)
	for i := 0; !from.IsValid() && i < len(s.Links); i++ {
		if !s.Links[i].Loopback && t.Address.Is4() {
			from, outside = s.Source(s.Links[i].Name, t.Address, a.VIPs), true
		}
	}
	return from, outside
}

// Lost is how many frames are missing from the claims, on all links.
func (a *Asker) Lost() (n uint64) {
	for _, c := range a.conns {
		n += c.Lost()
	}
	return n
}

// Claims are the replies and announcements, by machines that have the target,
// since then; probes are not among them, and proxy ARP is not: replies of the
// gateway to requests for others, which prove nothing while no probe is answered
// by it too.
func (a *Asker) Claims(t Target, since time.Time) []Reply {
	return slices.DeleteFunc(a.replies(t, since), a.proxied(t, since))
}

// replies are Claims with those that may be proxy ARP.
func (a *Asker) replies(t Target, since time.Time) []Reply {
	c := a.conns[t.Interface]
	if c == nil {
		return nil
	}
	return slices.DeleteFunc(c.Replies(since), func(r Reply) bool { return r.Probe || r.Address != t.Address })
}

// proxied tells which replies for a target are proxy ARP.
func (a *Asker) proxied(t Target, since time.Time) func(Reply) bool {
	gateways := a.gatewayMACs(t)
	if len(gateways) == 0 || t.Address.Is6() { // proxies of neighbour discovery are rare, and cannot be told apart
		return func(Reply) bool { return false }
	}
	all := a.replies(t, since)
	return func(r Reply) bool {
		mac := r.MAC.String()
		return slices.Contains(gateways, mac) && r.To.IsValid() && !r.To.IsUnspecified() &&
			!slices.ContainsFunc(all, func(o Reply) bool { return o.MAC.String() == mac && o.answersProbe() })
	}
}

// Proxied is the gateway's MAC where only that replied for the target since then.
func (a *Asker) Proxied(t Target, since time.Time) (net.HardwareAddr, bool) {
	proxied := a.proxied(t, since)
	all := a.replies(t, since)
	if len(all) == 0 || slices.ContainsFunc(all, func(r Reply) bool { return !proxied(r) }) {
		return nil, false
	}
	return all[0].MAC, true
}

// ProxyFor is the gateway's MAC where that replied for the target by proxy ARP
// since then, beside its holder or alone.
func (a *Asker) ProxyFor(t Target, since time.Time) (net.HardwareAddr, bool) {
	all := a.replies(t, since)
	i := slices.IndexFunc(all, a.proxied(t, since))
	if i < 0 {
		return nil, false
	}
	return all[i].MAC, true
}

// gatewayMACs are those of the gateways, for a target that is none of them.
func (a *Asker) gatewayMACs(t Target) (macs []string) {
	for _, g := range a.Gateways {
		if g.Address == t.Address {
			return nil
		}
		for _, r := range a.replies(g, time.Time{}) {
			if mac := r.MAC.String(); mac != a.Primary {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// ClaimsOf are the claims of the address on all links since then, oldest first: of
// each kind of frame the newest one.
func (a *Asker) ClaimsOf(addr netip.Addr, since time.Time) (all []Reply) {
	for name := range a.conns {
		all = append(all, a.Claims(Target{name, addr}, since)...)
	}
	slices.SortFunc(all, func(a, b Reply) int { return a.At.Compare(b.At) })
	return all
}

// Holder is the newest claim of the address on any link.
func (a *Asker) Holder(addr netip.Addr, since time.Time) (Reply, bool) {
	if claims := a.ClaimsOf(addr, since); len(claims) > 0 {
		return claims[len(claims)-1], true
	}
	return Reply{}, false
}

// Holders are the MACs that have claimed the address on any link since then.
func (a *Asker) Holders(addr netip.Addr, since time.Time) (macs []string) {
	for name := range a.conns {
		for _, claim := range a.Claims(Target{name, addr}, since) {
			if mac := claim.MAC.String(); !slices.Contains(macs, mac) {
				macs = append(macs, mac)
			}
		}
	}
	return macs
}

// Probers are the machines that probed for the target since then and have
// precedence: a lower MAC than this one's, or the owner's (RFC 5227 2.1.1).
func (a *Asker) Probers(t Target, since time.Time, owner string) (macs []string) {
	c := a.conns[t.Interface]
	if c == nil {
		return nil
	}
	for _, r := range c.Replies(since) {
		mac := r.MAC.String()
		if r.Probe && r.Address == t.Address && (a.higher(t.Interface, r.MAC) || mac == owner) && !slices.Contains(macs, mac) {
			macs = append(macs, mac)
		}
	}
	return macs
}

// Conflict is the claim of a target that is assigned here, by another machine,
// and whether its MAC is lower than this one's; of several the lowest.
func (a *Asker) Conflict(t Target, since time.Time) (conflict Reply, lower, ok bool) {
	for _, r := range a.Claims(t, since) {
		if l := a.higher(t.Interface, r.MAC); !ok || l && !lower {
			conflict, lower, ok = r, l, true
		}
	}
	return conflict, lower, ok
}

// higher tells whether this machine's MAC on the interface is above the other.
func (a *Asker) higher(link string, other net.HardwareAddr) bool {
	return bytes.Compare(other, a.links[link].MAC) < 0
}

// Announce announces once on the interface that the address is at that MAC, or
// here where it is nil; again: it waits until it may be sent, ten a second on the
// link. False: there is no listener.
func (a *Asker) Announce(t Target, mac net.HardwareAddr, again bool) (at net.HardwareAddr, sent bool, err error) {
	c := a.conns[t.Interface]
	if c == nil {
		return nil, false, nil
	}
	if mac == nil {
		mac = a.links[t.Interface].MAC
	}
	if again {
		return mac, true, c.AnnounceAgain(t.Address, mac)
	}
	return mac, true, c.Announce(t.Address, mac)
}

// Wait waits until enough is true, or d is over; it asks enough again at each
// reply.
func (a *Asker) Wait(ctx context.Context, d time.Duration, enough func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	changed := make(chan struct{}, 1)
	for _, c := range a.conns {
		next := c.Changed() // before enough is asked, so that nothing is missed
		go func() {
			for {
				select {
				case <-next:
				case <-ctx.Done():
					return
				}
				next = c.Changed()
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}()
	}
	for {
		if enough() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return enough()
		}
	}
}
