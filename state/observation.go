package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"pingover/check"
)

// Observation is what this check observed, all of it before anything was decided.
// The zero value of each field is the one that blocks a takeover.
type Observation struct {
	Host            string        // the primary, as an operator calls it
	Primary         check.Verdict // of the last round of pings
	Fault           string        // what could not be asked, when Primary is Unknown
	FaultCause      Cause         // of Fault, where there is advice about it
	OnLink          bool          // the primary is a neighbour, and was asked by ARP or ND
	AnswersARP      bool          // the primary replied to ARP or ND
	HostIsVIP       bool          // the host is a virtual IP that is here: it is not pinged, and the guards alone decide
	VIPs            []VIPStatus
	Conflicts       []Conflict      // other machines that still have what is held here
	WaitedForPeer   bool            // the conflicting hosts should have yielded, and were waited for
	CannotAsk       bool            // nobody could be asked whether another machine has what is held
	CompetingProber string          // a lower MAC that probes for a virtual IP, and was not waited for
	NoTaker         bool            // manual release: the primary does not reply, and no other machine has what is held
	NeverUp         bool            // the primary has never replied to this machine
	Services        []ServiceStatus // in the order of the settings
	Witness         WitnessState
	Uptime          time.Duration // of this machine
	Arbiter         Arbiter
}

// Conflict is another machine that has a virtual IP which is held here.
type Conflict struct {
	Holder
	// Primary says that it is the primary, which runs nothing that would yield,
	// by its MAC; never where the host is a virtual IP.
	Primary bool
}

// VIPStatus is what was observed of one virtual IP.
type VIPStatus struct {
	Address   netip.Addr
	Held      bool   // it is on this machine, by the kernel
	Asked     bool   // others could be asked for it by ARP or ND
	InUse     bool   // another machine has it: it replied to ping, ARP or ND
	MAC       string // of that machine, where known
	AtPrimary bool   // and that MAC is the primary's
	// PrimaryAlone: the primary's MAC has claimed it by ARP or ND, and no other, and
	// all could be asked.
	PrimaryAlone bool
	// CannotAssign is why it cannot be assigned here, for a fault of its interface
	// or family; "" where it can, or is. It keeps no other one from being taken.
	CannotAssign string
}

// WitnessState says what the witnesses prove of this machine's own network.
type WitnessState uint8

// The states of the witnesses, all of them together.
const (
	WitnessSilent   WitnessState = iota // none replied at the start and at the end of the round
	WitnessNone                         // none is set, and no gateway was ever found to serve as one
	WitnessGood                         // one of them replied both times
	WitnessOff                          // switched off
	WitnessNotAsked                     // for a fault of this machine none could be asked: as bad as silence for a takeover, and no sign of isolation
)

// without are the held virtual IPs that are in none of the conflicts.
func (o Observation) without(conflicts []Conflict) []netip.Addr {
	return o.pick(func(v VIPStatus) bool {
		return v.Held && !slices.ContainsFunc(conflicts, func(c Conflict) bool { return c.Address == v.Address.String() })
	})
}

// witnessed tells whether nothing is against this machine's own network.
func (o Observation) witnessed() bool { return o.Witness == WitnessGood || o.Witness == WitnessOff }

// connected tells whether anybody can be asked from here, or has replied already.
// A machine that never had a witness is not worse off than before.
func (o Observation) connected() bool {
	taken := o.AnswersARP || len(o.inUse()) == len(o.VIPs)
	return o.Primary == check.Up || o.Fault == "" && (taken || o.witnessed() || o.Witness == WitnessNone)
}

// witnessLack is what no witness does: reply, in these words, or more than that.
func (o Observation) witnessLack(replies string) string {
	if o.Witness == WitnessNotAsked {
		return "could be asked"
	}
	return replies
}

func (o Observation) pick(which func(VIPStatus) bool) []netip.Addr {
	var a []netip.Addr
	for _, v := range o.VIPs {
		if which(v) {
			a = append(a, v.Address)
		}
	}
	return a
}

func (o Observation) addresses() []netip.Addr { return o.pick(func(VIPStatus) bool { return true }) }
func (o Observation) held() []netip.Addr      { return o.pick(func(v VIPStatus) bool { return v.Held }) }
func (o Observation) missing() []netip.Addr   { return o.pick(func(v VIPStatus) bool { return !v.Held }) }
func (o Observation) assignable() []netip.Addr {
	return o.pick(func(v VIPStatus) bool { return !v.Held && v.CannotAssign == "" })
}

// cannotAssign are the virtual IPs that are missing and cannot be assigned, and
// why; "" for none.
func (o Observation) cannotAssign() string {
	var each []string
	for _, v := range o.VIPs {
		if !v.Held && v.CannotAssign != "" {
			each = append(each, fmt.Sprintf("%s cannot be assigned: %s", v.Address, v.CannotAssign))
		}
	}
	return strings.Join(each, "; ")
}

func (o Observation) inUse() []netip.Addr {
	return o.pick(func(v VIPStatus) bool { return v.InUse })
}

// unserved are the virtual IPs that no machine has, where others could be asked.
func (o Observation) unserved() []netip.Addr {
	return o.pick(func(v VIPStatus) bool { return v.Asked && !v.InUse && !v.Held })
}

// canBeFenced tells whether the primary alone has every virtual IP, each could be
// assigned here, and nobody else is about to.
func (o Observation) canBeFenced() bool {
	return len(o.VIPs) > 0 && o.CompetingProber == "" &&
		len(o.pick(func(v VIPStatus) bool { return v.PrimaryAlone && !v.Held && v.CannotAssign == "" })) == len(o.VIPs)
}

// elsewhere tells whether a machine that is not the primary has every virtual IP
// that could be assigned here.
func (o Observation) elsewhere() bool {
	return len(o.assignable()) > 0 && len(o.pick(func(v VIPStatus) bool { return v.InUse && !v.AtPrimary || v.CannotAssign != "" })) == len(o.VIPs)
}

// being is a list with its verb: "A is", "A, B are".
func being(addrs []netip.Addr) string {
	if len(addrs) == 1 {
		return list(addrs) + " is"
	}
	return list(addrs) + " are"
}

func list(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// words is d as people write it: 3m, not 3m0s.
func words(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// protocol is how neighbours of host ask for it.
func protocol(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "neighbour solicitations"
	}
	return "ARP"
}
