package config

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

var errVIP = errors.New("not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1")

// parseVIP reads ADDRESS[/BITS][@INTERFACE]; bare: without /BITS, and so /32
// or /128.
func parseVIP(text string) (v VIP, bare bool, err error) {
	text, iface, named := strings.Cut(text, "@")
	if named {
		if err := checkInterface(iface); err != nil {
			return VIP{}, false, fmt.Errorf("interface %q: %w", iface, err)
		}
	}
	text, length, long := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return VIP{}, false, errVIP
	}
	switch {
	case addr.Zone() != "":
		return VIP{}, false, fmt.Errorf("name the interface as %s@%s", addr.WithZone(""), addr.Zone())
	case addr.Is4In6():
		return VIP{}, false, fmt.Errorf("write it as %s", addr.Unmap())
	case addr.IsLoopback():
		return VIP{}, false, errors.New("a loopback address cannot move")
	}
	if err := checkUnicast(addr); err != nil {
		return VIP{}, false, err
	}
	n := addr.BitLen()
	if long {
		if plain := withoutZeros(length); plain != length {
			return VIP{}, false, fmt.Errorf("prefix length %q begins with a zero; write it as %s", length, plain)
		}
		n, err = strconv.Atoi(length)
		if err != nil || !allDigits(length) || n < 1 || n > addr.BitLen() {
			return VIP{}, false, fmt.Errorf("prefix length %q is out of range (1 to %d)", length, addr.BitLen())
		}
	}
	v = VIP{Prefix: netip.PrefixFrom(addr, n), Interface: iface}
	return v, !long, checkHostPart(v.Prefix)
}

// checkUnicast checks that a machine can have this address.
func checkUnicast(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return errors.New("the unspecified address cannot be assigned")
	case a.IsMulticast():
		return errors.New("a multicast address cannot be assigned")
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("the broadcast address cannot be assigned")
	}
	return nil
}

// checkHostPart refuses the network and the broadcast address of an IPv4 network.
// A /31 has neither (RFC 3021).
func checkHostPart(p netip.Prefix) error {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return nil
	}
	if p.Addr() == p.Masked().Addr() {
		return fmt.Errorf("this is the address of the network %s itself", p)
	}
	if !p.Contains(p.Addr().Next()) {
		return fmt.Errorf("this is the broadcast address of the network %s", p.Masked())
	}
	return nil
}

func addVIP(d *draft, text string) error {
	v, bare, err := parseVIP(text)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(d.VIPs, func(other VIP) bool { return other.Address() == v.Address() }) {
		return fmt.Errorf("%s is given twice", v.Prefix.Addr())
	}
	d.VIPs = append(d.VIPs, v)
	d.bare = append(d.bare, bare)
	return nil
}

// hasVIP tells whether an address is a virtual IP. The zone of a link-local one
// decides where both have one.
func (d *draft) hasVIP(a netip.Addr) bool {
	return slices.ContainsFunc(d.VIPs, func(v VIP) bool {
		zone := v.Address().Zone()
		return v.Prefix.Addr() == a.WithZone("") && (zone == "" || a.Zone() == "" || zone == a.Zone())
	})
}

func setNetmask(d *draft, text string) error {
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return errors.New("not a netmask, such as 255.255.0.0")
	}
	four := mask.As4()
	word := binary.BigEndian.Uint32(four[:])
	ones := bits.LeadingZeros32(^word)
	if ones == 0 || word<<ones != 0 {
		return errors.New("not a netmask: its ones must be contiguous, as in 255.255.0.0")
	}
	d.netmask = ones
	return nil
}

// completeVIPs gives link-local virtual IPs their interface, and applies the
// netmask to the IPv4 ones without a length.
func (d *draft) completeVIPs() {
	for i, v := range d.VIPs {
		if a := v.Prefix.Addr(); a.Is6() && a.IsLinkLocalUnicast() && v.Interface == "" && !d.bad["interface"] {
			d.VIPs[i].Interface = d.Interface
		}
	}
	if !d.is("netmask") || d.bad["vip"] {
		return
	}
	fits, otherwise := false, netip.Prefix{}
	for i, v := range d.VIPs {
		switch addr := v.Prefix.Addr(); {
		case !addr.Is4():
		case !d.bare[i] && v.Prefix.Bits() != d.netmask:
			otherwise = v.Prefix
		default:
			fits = true
			d.VIPs[i].Prefix = netip.PrefixFrom(addr, d.netmask)
			if err := checkHostPart(d.VIPs[i].Prefix); err != nil {
				d.wrong("vip", i, "with the netmask, %s", err)
			}
		}
	}
	switch {
	case fits:
	case otherwise.IsValid():
		d.unfit("netmask", "is /%d, and vip %s differs", d.netmask, otherwise)
	default:
		d.unfit("netmask", "there is no IPv4 vip that it applies to")
	}
}

func setVIPName(d *draft, text string) error {
	if !isHostName(text) {
		return errors.New("not a DNS name, such as web.example.com")
	}
	d.VIPName = text
	return nil
}

// completeVIPName checks that there is a virtual IP for the name.
func (d *draft) completeVIPName() {
	if d.is("vip-name") && !d.bad["vip"] && len(d.VIPs) == 0 {
		d.VIPName = ""
		d.unfit("vip-name", "there is no vip that it could resolve to")
	}
}

// checkInterface checks the name of an interface as the kernel does
// (dev_valid_name; IFNAMSIZ is 16 with the final zero).
func checkInterface(name string) error {
	switch {
	case name == "":
		return errors.New("a name is missing")
	case len(name) > 15:
		return errors.New("too long (1 to 15 characters)")
	case name == "." || name == ".." || strings.ContainsAny(name, "/: ") || hasControl(name):
		return errors.New("not a valid interface name")
	}
	return nil
}

func setInterface(d *draft, text string) error {
	if err := checkInterface(text); err != nil {
		return err
	}
	d.Interface = text
	return nil
}

func setLabel(d *draft, text string) error {
	iface, rest, _ := strings.Cut(text, ":")
	switch {
	case len(text) > 15:
		return errors.New("too long (1 to 15 characters)")
	case checkInterface(iface) != nil || rest == "" || strings.ContainsAny(rest, "/ ") || hasControl(rest):
		return errors.New("not a label, such as eth0:1")
	}
	d.Label = text
	return nil
}

// completeLabel checks that the label fits the virtual IP.
func (d *draft) completeLabel() {
	if !d.is("label") || d.bad["vip"] || d.bad["interface"] {
		return
	}
	if err := d.checkLabel(); err != nil {
		d.Label = ""
		d.unfit("label", "%v", err)
	}
}

// checkLabel checks that the label is for one IPv4 virtual IP, and begins with its
// interface, which ip requires.
func (d *draft) checkLabel() error {
	if len(d.VIPs) != 1 {
		return fmt.Errorf("a label is for one vip, but there are %d", len(d.VIPs))
	}
	v := d.VIPs[0]
	if !v.Prefix.Addr().Is4() {
		return fmt.Errorf("a label is for an IPv4 vip, but %s is IPv6", v.Prefix.Addr())
	}
	if iface := cmp.Or(v.Interface, d.Interface); iface != "" && !strings.HasPrefix(d.Label, iface+":") {
		return errors.New("must begin with " + iface + ":")
	}
	return nil
}
