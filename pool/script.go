package pool

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Script is the change as input of nsupdate(1): server, zone, prerequisites,
// updates, send. server is as in Server.Address.
func (c Change) Script(server string) string {
	var b strings.Builder
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = server, dnsPort
	}
	fmt.Fprintf(&b, "server %s %s\nzone %s\n", host, port, c.Zone)
	for _, family := range []struct {
		kind string
		set  Records
	}{{"A", c.Before.A}, {"AAAA", c.Before.AAAA}} {
		if len(family.set.Addrs) == 0 {
			fmt.Fprintf(&b, "prereq nxrrset %s %s\n", c.Before.Name, family.kind)
		}
		for _, a := range family.set.Addrs {
			fmt.Fprintf(&b, "prereq yxrrset %s %s %s\n", c.Before.Name, family.kind, a)
		}
	}
	for _, s := range c.steps() {
		if s.add {
			fmt.Fprintf(&b, "update add %s %d %s %s\n", c.Before.Name, seconds(s.ttl), kind(s.addr), s.addr)
		} else {
			fmt.Fprintf(&b, "update delete %s %s %s\n", c.Before.Name, kind(s.addr), s.addr)
		}
	}
	b.WriteString("send\n")
	return b.String()
}

// kind is the record type of an address.
func kind(a netip.Addr) string {
	if a.Is4() {
		return "A"
	}
	return "AAAA"
}

// seconds is a TTL as DNS counts it.
func seconds(ttl time.Duration) uint32 { return uint32(ttl / time.Second) }
