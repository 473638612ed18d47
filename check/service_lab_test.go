package check

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"pingover/internal/lab"
)

// Only what the host itself causes is bad.
func TestAServiceOnANetwork(t *testing.T) {
	t.Parallel()
	good := ServiceResult{Health: Good}
	bad := func(reason string) ServiceResult { return ServiceResult{Health: Bad, Reason: reason} }
	unknown := func(reason string) ServiceResult { return ServiceResult{Reason: reason} }
	serving := func(t *testing.T, _, primary *lab.Host) {
		for _, address := range []string{"172.16.0.2:80", "[2001:db8::2]:80"} {
			var l net.Listener
			err := primary.Do(func() (err error) {
				l, err = net.Listen("tcp", address)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}
	}
	unplugged := func(carrier bool) func(*testing.T, *lab.Host, *lab.Host) {
		return func(t *testing.T, standby, primary *lab.Host) {
			if err := standby.Unplug(carrier); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		before  func(t *testing.T, standby, primary *lab.Host)
		address string
		source  string
		want    ServiceResult
	}{
		{"it accepts", serving, "172.16.0.2", "", good},
		{"it accepts, IPv6", serving, "2001:db8::2", "", good},
		{"from a source", serving, "172.16.0.2", "172.16.0.3", good},
		{"a source of the other family does not matter", serving, "2001:db8::2", "172.16.0.3", good},
		{"nobody listens", nothing, "172.16.0.2", "", bad("connection refused")},
		{"link-local, nobody listens", nothing, "fe80::ff:fe00:2%eth0", "", bad("connection refused")},
		{"the host is gone", nothing, "172.16.0.9", "", bad("host unreachable")},
		{"the host is gone, IPv6", nothing, "2001:db8::9", "", bad("host unreachable")},
		{"the cable of the host is out", func(t *testing.T, _, primary *lab.Host) {
			if err := primary.Unplug(false); err != nil {
				t.Error(err)
			}
		}, "172.16.0.2", "", bad("host unreachable")},
		{"the host drops it", func(t *testing.T, _, primary *lab.Host) {
			if err := primary.Firewall(nftables.ChainHookInput, lab.Drop(lab.NotFrom(netip.MustParseAddr("192.0.2.1")))); err != nil {
				t.Error(err)
			}
		}, "172.16.0.2", "", bad("no reply within 4s")},

		{"no route", nothing, "192.0.2.1", "", unknown("cannot connect: network is unreachable")},
		{"no route, IPv6", nothing, "2001:db9::1", "", unknown("cannot connect: network is unreachable")},
		{"an unreachable route", shell("ip route add unreachable 192.0.2.0/24"), "192.0.2.1", "", unknown("this machine has no route to 192.0.2.1: no route to host")},
		{"a prohibit route", shell("ip route add prohibit 192.0.2.0/24"), "192.0.2.1", "", unknown("cannot connect: permission denied")},
		{"our own cable is out", unplugged(false), "172.16.0.2", "", unknown("eth0 of this machine has no carrier")},
		{"our interface is down", shell("ip link set eth0 down"), "172.16.0.2", "", unknown("cannot connect: network is unreachable")},
		{"a source that is not ours", nothing, "172.16.0.2", "172.16.0.77", unknown("cannot connect: cannot assign requested address")},
		{"link-local without a zone", nothing, "fe80::ff:fe00:2", "", unknown("cannot connect: invalid argument")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			standby, primary := pair(t)
			c.before(t, standby, primary)
			do := task{Port: 80, ServiceTimeout: 4 * time.Second, Address: netip.MustParseAddr(c.address)}
			if c.source != "" {
				do.Source = netip.MustParseAddr(c.source)
			}
			if diff := cmp.Diff(c.want, on(t, standby, do, nil).Service); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
