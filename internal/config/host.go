package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// nameRange is a cluster's name as a regular expression, for people: compiling the
// ones for names and hosts took as long as sending a ping.
const nameRange = "[a-z0-9][a-z0-9._-]{0,63}"

const (
	lowerAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789"
	alphanumeric   = lowerAndDigits + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// consistsOf reports whether text has no characters but these.
func consistsOf(text, characters string) bool { return strings.Trim(text, characters) == "" }

func setName(d *draft, text string) error {
	if err := checkName(d.scope, text); err != nil {
		return err
	}
	d.Name = text
	return nil
}

func checkName(scope Scope, name string) error {
	if len(name) < 1 || len(name) > 64 || strings.ContainsAny(name[:1], "._-") || !consistsOf(name, lowerAndDigits+"._-") {
		return fmt.Errorf("not a valid %s name (%s)", scope, nameRange)
	}
	// Its lock would be act.lock, which all share.
	if name == "act" {
		return errors.New("reserved: pingover itself uses act.lock")
	}
	return nil
}

// completeName names the cluster after its host if it has no name.
func (d *draft) completeName() {
	if len(d.given["name"]) > 0 || d.bad["host"] {
		return
	}
	name := strings.Trim(strings.Map(func(r rune) rune {
		if strings.ContainsRune(lowerAndDigits+"._-", r) {
			return r
		}
		return '-'
	}, strings.ToLower(d.Host)), "-._")
	d.Name = strings.TrimRight(name[:min(len(name), 64)], "-._")
	if err := checkName(d.scope, d.Name); err != nil {
		d.wrong("name", 0, "missing, and the host is no valid name: %s", err)
	}
}

func addHost(d *draft, text string) error {
	if err := checkHost(text); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(text)
	for _, given := range d.Cluster.Hosts() {
		known, unparsed := netip.ParseAddr(given)
		if given == text || err == nil && unparsed == nil && known == addr {
			return fmt.Errorf("%s is given twice", text)
		}
	}
	if d.Host == "" {
		d.Host = text
	} else {
		d.OtherHosts = append(d.OtherHosts, text)
	}
	return nil
}

// completeHost checks that the addresses of the host are all virtual IPs, or
// none: a virtual IP is not pinged while it is here.
func (d *draft) completeHost() {
	if d.bad["host"] || d.bad["vip"] {
		return
	}
	addrs := d.hostAddresses()
	for i := range d.Cluster.Hosts() {
		if a, ok := addrs[i]; ok && d.hasVIP(a) != d.hasVIP(addrs[0]) && addrs[0].IsValid() {
			d.wrong("host", i, "cannot be mixed with %s: one is a vip, the other is not", d.Host)
			return
		}
	}
}

// checkHost checks that host is an address or a name.
func checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return checkAddress(addr)
	}
	const neither = "neither an address nor a host name"
	prefix, err := netip.ParsePrefix(host)
	switch {
	case err == nil:
		return fmt.Errorf(neither+": leave /%d out", prefix.Bits())
	case strings.ContainsFunc(host, unicode.IsSpace):
		return errors.New(neither + ": it contains a blank")
	case strings.Contains(host, "_"):
		return errors.New(neither + ": it contains an underscore")
	case !isHostName(host):
		return errors.New(neither)
	}
	return nil
}

// checkAddress checks that a can be the address of one machine, and has a zone
// only if it is link-local.
func checkAddress(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return fmt.Errorf("write it as %s", a.Unmap())
	case a.Zone() != "" && !a.IsLinkLocalUnicast():
		return fmt.Errorf("only link-local addresses have a zone; write it as %s", a.WithZone(""))
	}
	return checkUnicast(a)
}

// isHostName reports whether host is a name by RFC 1123, section 2.1; a final dot is allowed. A
// last label of digits is that of a mistyped address (RFC 3696, section 2).
func isHostName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) < 1 || len(label) > 63 || strings.Trim(label, "-") != label || !consistsOf(label, alphanumeric+"-") {
			return false
		}
	}
	return len(host) <= 253 && !allDigits(labels[len(labels)-1])
}

func setSource(d *draft, text string) error {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return errors.New("not an address")
	}
	d.Source = addr
	return checkAddress(addr)
}

// completeSource checks that pings can be sent from the source. A virtual IP is
// assigned here only after a takeover.
func (d *draft) completeSource() {
	if !d.is("source") || d.bad["host"] || d.bad["vip"] {
		return
	}
	if d.hasVIP(d.Source) {
		d.wrong("source", 0, "is a vip; pings need an address that stays on this machine")
	}
	addrs := d.hostAddresses()
	for _, host := range addrs {
		if host.Is4() == d.Source.Is4() {
			return
		}
	}
	if hosts := d.Cluster.Hosts(); len(addrs) == len(hosts) {
		d.Source = netip.Addr{}
		d.unfit("source", "cannot be the source of pings to %s: one is IPv4, the other IPv6", strings.Join(hosts, " or "))
	}
}

func addWitness(d *draft, text string) error {
	switch text {
	case "auto":
		d.Witness.Auto = true
		return nil
	case "none":
		return nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return errors.New("must be auto, none or an address")
	}
	if addr.IsLoopback() {
		return errors.New("a loopback address always replies and proves nothing")
	}
	if err := checkAddress(addr); err != nil {
		return err
	}
	if slices.Contains(d.Witness.Addresses, addr) {
		return fmt.Errorf("%s is given twice", addr)
	}
	d.Witness.Addresses = append(d.Witness.Addresses, addr)
	return nil
}

// oneWitness checks that auto and none are the only value, and tells whether there
// are addresses to check.
func (d *draft) oneWitness() bool {
	given := d.given["witness"]
	for i, v := range given {
		if d.is("witness") && (v.text == "auto" || v.text == "none") && len(given) > 1 {
			d.wrong("witness", i, "excludes other values, and there are %d values", len(given))
		}
	}
	return d.is("witness")
}

// completeWitness checks that a witness is a third machine.
func (d *draft) completeWitness() {
	if !d.oneWitness() {
		return
	}
	for i, addr := range d.Witness.Addresses {
		for _, host := range d.hostAddresses() {
			if host == addr {
				d.wrong("witness", i, "is the host; set witness to a third machine")
			}
		}
		if !d.bad["vip"] && d.hasVIP(addr) {
			d.wrong("witness", i, "is a vip; set witness to a third machine")
		}
	}
}

// hostAddresses are the entries of host that are addresses and not names, by
// their position.
func (d *draft) hostAddresses() map[int]netip.Addr {
	addrs := map[int]netip.Addr{}
	for i, host := range d.Cluster.Hosts() {
		if addr, err := netip.ParseAddr(host); err == nil {
			addrs[i] = addr
		}
	}
	return addrs
}
