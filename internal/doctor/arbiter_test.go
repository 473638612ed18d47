package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/observe"
	"pingover/vip"
)

// pairOf is the examination of a pair whose etcd has these members, on a machine with
// the address 172.16.0.3.
func pairOf(members ...string) *examination {
	x := &examination{set: config.Cluster{
		Name: "web", VIPs: []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/32")}},
		Arbiter: arbiter.Settings{Members: members, TTL: 3 * time.Minute},
	}}
	x.env.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name == "etcd3.example.com" {
			return []netip.Addr{netip.MustParseAddr("172.16.0.11")}, nil
		}
		return nil, errors.New("no such host")
	}
	x.env.Arbiter.Stack = func() (string, error) { return "boot/1", nil }
	x.Local.Snapshot = &vip.Snapshot{Links: []vip.Link{{Name: "eth0", Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("172.16.0.3/16")}}}}}
	x.Local.Paths = []observe.Path{{Address: netip.MustParseAddr("172.16.0.2")}}
	return x
}

// said are the findings, a line each.
func (x *subject) said() string {
	var b strings.Builder
	for _, f := range x.found {
		fmt.Fprintf(&b, "%s %s → %s\n", f.Grade, f.Text, f.Fix)
	}
	return b.String()
}

func TestWhereTheMembersOfEtcdAre(t *testing.T) {
	for name, test := range map[string]struct {
		members []string
		want    string
	}{
		"three machines":         {[]string{"https://172.16.0.3:2379", "https://172.16.0.2:2379", "https://etcd3.example.com:2379"}, ""},
		"one on loopback":        {[]string{"https://127.0.0.1:2379", "https://172.16.0.4:2379", "https://172.16.0.11:2379"}, ""},
		"two of three are here":  {[]string{"https://127.0.0.1:2379", "https://172.16.0.3:2479", "https://172.16.0.4:2379"}, "warn 2 of 3 members of etcd are on this machine: when that is down, nobody takes over → move members to a third machine: none may have half of them\n"},
		"two of three elsewhere": {[]string{"https://172.16.0.11:2379", "https://etcd3.example.com:2479", "https://172.16.0.4:2379"}, "warn 2 of 3 members of etcd are on 172.16.0.11: when that is down, nobody takes over → move members to a third machine: none may have half of them\n"},
		"two of three at the primary": {
			[]string{"https://172.16.0.2:2379", "https://172.16.0.2:2479", "https://172.16.0.4:2379"},
			"warn 2 of 3 members of etcd are on the primary: when that is down, nobody takes over → move members to a third machine: none may have half of them\n",
		},
		"one":        {[]string{"https://172.16.0.4:2379"}, "warn etcd has one member: while it is down nobody takes over, and after arbiter-ttl nobody holds → use three members, on three machines\n"},
		"two":        {[]string{"https://172.16.0.3:2379", "https://172.16.0.4:2379"}, "warn arbiter has 2 members: no more of them may be down than of 1 → use an odd number, on as many machines\n"},
		"at the vip": {[]string{"https://172.16.0.1:2379", "https://172.16.0.4:2379", "https://172.16.0.11:2379"}, "fail arbiter https://172.16.0.1:2379: is a virtual IP, which goes from one machine to the other → set arbiter to the member's own address\n"},
		"no name": {
			[]string{"https://etcd1.example.com:2379", "https://172.16.0.4:2379", "https://172.16.0.11:2379"},
			"warn arbiter https://etcd1.example.com:2379: no such host → set arbiter to addresses: a name server may be down when the holder is\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := pairOf(test.members...)
			x.arbiterPlaces(t.Context())
			if diff := cmp.Diff(test.want, x.said()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWhoHoldsTheKey(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		entry arbiter.Entry
		want  string
	}{
		{arbiter.Entry{Absent: true}, "ok the key pingover/web is absent: a takeover waits until it was so for 3m → \n"},
		{arbiter.Entry{}, "ok the key pingover/web is free → \n"},
		{arbiter.Entry{Unknown: "its value is no JSON object of pingover"}, "warn the key pingover/web: its value is no JSON object of pingover: it keeps all machines out for 3m → find out what has written it: etcdctl get pingover/web\n"},
		{arbiter.Entry{Value: arbiter.Value{Holder: hostname, Stack: "boot/1"}}, "ok the key pingover/web is held by this machine → \n"},
		{
			arbiter.Entry{Value: arbiter.Value{Holder: hostname, Stack: "boot/2"}},
			"warn the key pingover/web is held by " + hostname + ", which is this machine before its last boot, or another one of that name → nothing if this machine has just booted; else give each machine a name of its own\n",
		},
		{
			arbiter.Entry{Value: arbiter.Value{Holder: "web2.example", Stack: "boot/2", TTL: time.Minute}},
			"ok the key pingover/web is held by web2.example: a takeover waits until it was not renewed for 1m → \n",
		},
	} {
		x := pairOf("https://172.16.0.4:2379")
		x.keyHolder(test.entry)
		if diff := cmp.Diff(test.want, x.said()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", test.entry, diff)
		}
	}
}

func TestMembersOfTwoClusters(t *testing.T) {
	x := pairOf("https://172.16.0.4:2379", "http://172.16.0.5:2379", "https://172.16.0.6:2379")
	one := arbiter.Entry{ClusterID: "1", Member: "https://172.16.0.4:2379"}
	if _, ok := x.members([]member{
		{url: "https://172.16.0.4:2379", version: "3.4.23", entry: one},
		{url: "http://172.16.0.5:2379", version: "3.6.0", entry: arbiter.Entry{ClusterID: "2"}},
		{url: "https://172.16.0.6:2379", version: "3.3.9", err: &arbiter.Error{Kind: arbiter.NoGateway, Text: "etcd's JSON gateway is off (404)"}},
	}); !ok {
		t.Error("none has answered")
	}
	want := `ok arbiter https://172.16.0.4:2379: etcd 3.4.23, with TLS → 
fail arbiter http://172.16.0.5:2379: belongs to another cluster of etcd than https://172.16.0.4:2379: two machines could hold by two keys → set arbiter to the members of one cluster: etcdctl member list
fail arbiter https://172.16.0.6:2379: etcd 3.3.9 is too old; at least 3.4 is needed → update etcd
ok etcd has a quorum: a linearizable read was answered → 
`
	if diff := cmp.Diff(want, x.said()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
