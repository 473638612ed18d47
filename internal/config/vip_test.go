package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVIPs(t *testing.T) {
	got, err := FromFlags(flags("--host h --vip 172.16.0.1/16 --vip 172.16.0.5@eth1 --vip 172.16.0.6/24 --vip 2001:db8::1@eth2"), rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	want := []VIP{
		{Prefix: netip.MustParsePrefix("172.16.0.1/16")},
		{Prefix: netip.MustParsePrefix("172.16.0.5/32"), Interface: "eth1"},
		{Prefix: netip.MustParsePrefix("172.16.0.6/24")},
		{Prefix: netip.MustParsePrefix("2001:db8::1/128"), Interface: "eth2"},
	}
	if diff := cmp.Diff(want, got.VIPs, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func FuzzParseVIP(f *testing.F) {
	for _, text := range []string{"172.16.0.1", "172.16.0.1/16", "172.16.0.1@eth1", "172.16.0.1/16@eth1", "2001:db8::1/64@eth0.1", "::ffff:1.2.3.4", "fe80::1%eth0", "/@", "1.2.3.4/032"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, bare, err := parseVIP(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q: an error of two lines: %q", text, err)
			}
			return
		}
		a := v.Prefix.Addr()
		if !v.Prefix.IsValid() || v.Prefix.Bits() == 0 || a.Is4In6() || a.Zone() != "" || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() {
			t.Fatalf("%q gives %v", text, v)
		}
		if bare && v.Prefix.Bits() != a.BitLen() {
			t.Fatalf("%q is bare and gives %v", text, v)
		}
		again := v.Prefix.String()
		if v.Interface != "" {
			again += "@" + v.Interface
		}
		if w, _, err := parseVIP(again); err != nil || w != v {
			t.Fatalf("%q gives %v, and %q gives %v, %v", text, v, again, w, err)
		}
	})
}
