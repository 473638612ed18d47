package observe

import (
	"net/netip"
	"slices"
	"testing"
)

// A record of an earlier version names link-local virtual IPs without their
// interface: each is the virtual IP that it can only be.
func TestLinkLocalAddressesOfAnEarlierRecord(t *testing.T) {
	parse := func(texts ...string) (addrs []netip.Addr) {
		for _, text := range texts {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs
	}
	l := Local{vips: parse("172.16.0.1", "fe80::1%eth0", "fe80::5%eth1")}
	for _, test := range []struct{ recorded, want []netip.Addr }{
		{nil, nil},
		{parse("172.16.0.1", "fe80::5"), parse("172.16.0.1", "fe80::5%eth1")},
		{parse("fe80::1%eth0"), parse("fe80::1%eth0")},
		{parse("fe80::1%eth1", "172.16.0.9"), parse("fe80::1%eth1", "172.16.0.9")}, // no settings any more
	} {
		if got := l.Zoned(test.recorded); !slices.Equal(got, test.want) {
			t.Errorf("recorded %v: %v, want %v", test.recorded, got, test.want)
		}
	}
	for a, want := range map[string]bool{"172.16.0.1": true, "fe80::1": true, "fe80::1%eth0": true, "fe80::1%eth1": false, "fe80::5%eth1": true} {
		if got := l.IsVIP(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is a virtual IP: %t, want %t", a, got, want)
		}
	}
}
