// Package observe finds out what the decision of a check rests on: the state of
// this machine (Survey), and what the network shows (Network). It takes settings,
// an environment and facts of the record, and returns values. It assigns no
// address and saves nothing.
package observe

import (
	"net/netip"
	"strings"
	"time"

	"pingover/check"
	"pingover/internal/config"
	"pingover/internal/run"
	"pingover/state"
	"pingover/vip"
)

// Job is what one run observes with. No step changes any of it.
type Job struct {
	*run.Run
	Env
	Set  config.Cluster
	Tool Planner // nil: what needs one is left out
	// EveryPath: a reply by one path does not end the round of the others.
	EveryPath bool
	NoPings   bool // the primary is not asked once more by ping: a manual takeover
	Forced    bool // a manual takeover, whether or not the addresses are in use
}

// VIPs are the addresses of the virtual IPs, without a zone: what is never asked
// from. Local.Addresses tells link-local ones apart.
func (j *Job) VIPs() []netip.Addr {
	addrs := make([]netip.Addr, len(j.Set.VIPs))
	for i, v := range j.Set.VIPs {
		addrs[i] = v.Prefix.Addr()
	}
	return addrs
}

// MayTake tells whether this check could become a takeover, as far as that is
// known before the guards ask.
func (j *Job) MayTake(known state.Known, o Observation) bool {
	return !j.DryRun && len(j.Set.VIPs) > 0 && (j.Manual || !o.NoWitness && !known.ManualRelease &&
		o.Uptime >= j.Set.BootWait && !time.Now().Before(j.PausedUntil()))
}

// Network asks other machines. What was heard on the links since it was first
// used stays readable until Close.
type Network struct {
	*vip.Asker
	j *Job
	// Owns tells whether the arbiter's key is ours: in a conflict the other machine
	// has to yield then, whatever its MAC.
	Owns func() bool
}

// NewNetwork asks for the virtual IPs, the primary and the witnesses on the link.
// Without virtual IPs there is nothing to guard. Primary is its MAC, "" where it is
// unknown.
func NewNetwork(j *Job, l Local, primary string) *Network {
	n := &Network{Asker: &vip.Asker{Listen: j.Listen, VIPs: j.VIPs(), Primary: primary}, j: j, Owns: func() bool { return false }}
	if len(l.Aliases) == 0 {
		return n
	}
	n.Targets = append(l.targets(), l.Neighbours()...)
	for _, w := range l.Witnesses {
		t := vip.Target{Interface: w.Link, Address: w.Address}
		n.Targets = append(n.Targets, t)
		if w.Link != "" {
			n.Gateways = append(n.Gateways, t)
		}
	}
	return n
}

// PrimaryMAC is the primary's MAC as the kernel has it from the pings, else the
// one that was known before.
func (n *Network) PrimaryMAC(o Observation) string {
	near := o.Neighbours()
	if o.Primary != check.Up || len(near) == 0 || o.PrimaryIsVIP() {
		return o.Neighbour
	}
	mac, err := n.j.Neighbour(near[0].Interface, near[0].Address)
	switch {
	case err != nil:
		n.j.Warnf("the primary's MAC is unknown: %v", err)
	case mac != nil:
		return mac.String()
	}
	return o.Neighbour
}

// local tells whether this machine itself replies to pings of an address: it is on
// lo, or a local route leads to it, as AnyIP and IPVS have. Then only ARP and ND tell
// whether another machine has it.
func (n *Network) local(a netip.Addr) bool {
	route, err := n.j.Route(a, netip.Addr{})
	return err == nil && route.Local
}

// AddressList is addresses as a text.
func AddressList(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// Guarded is the event of what the guards observed: witnesses, and other machines
// that have the primary's address or a virtual IP.
type Guarded struct {
	Witnesses []state.Witness
	Holders   []state.Holder
	Primary   state.Holder // its address, and its MAC where that is known
	Fault     string       // what could not be asked, "" when everything was
}
