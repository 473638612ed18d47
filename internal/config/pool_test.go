package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clustersIn are the clusters of a file.
func clustersIn(path string, data []byte, flags map[string][]string, env Env, names ...string) ([]Cluster, error) {
	file, err := FromFile(path, data, flags, env, names...)
	return file.Clusters, err
}

const onePool = `pools:
  www:
    record: Host1.zone.com
    server: 192.0.2.53
    members: [10.2.2.10, 10.2.2.11, "2001:db8::10"]
`

func TestPoolOfAFile(t *testing.T) {
	text := onePool + `    rise: 5
defaults: {lease: 30m, pre-takeover: true, witness: none, count: 2, state-dir: /srv/state}
`
	file, err := FromFile("f", []byte(text), flags("--timeout 2s --boot-wait 0"), rootOn("standby"))
	if err != nil || len(file.Clusters) != 0 || len(file.Pools) != 1 {
		t.Fatalf("%+v, %v", file, err)
	}
	p := file.Pools[0]
	want := Pool{
		Name: "www", Record: "host1.zone.com.", Server: "192.0.2.53:53",
		Members: []netip.Addr{netip.MustParseAddr("10.2.2.10"), netip.MustParseAddr("10.2.2.11"), netip.MustParseAddr("2001:db8::10")},
		TTL:     time.Minute, MinMembers: 1, Count: 2, Interval: 3 * time.Second, Timeout: 2 * time.Second, RetryWait: 20 * time.Second,
		Rise: 5, CommandTimeout: 30 * time.Second, Mail: p.Mail, StateDir: "/srv/state", Syslog: true,
		Given: map[string][]string{
			"name": {"www"}, "record": {"Host1.zone.com"}, "server": {"192.0.2.53"}, "members": {"10.2.2.10", "10.2.2.11", "2001:db8::10"},
			"rise": {"5"}, "witness": {"none"}, "count": {"2"}, "timeout": {"2s"}, "state-dir": {"/srv/state"},
		},
		From: map[string]string{
			"name": "f:2", "record": "f:3", "server": "f:4", "members": "f:5",
			"rise": "f:6", "witness": "f:7", "count": "f:7", "timeout": "--timeout", "state-dir": "f:7",
		},
	}
	if diff := cmp.Diff(want, p, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	again, err := PoolFrom(p.Given, rootOn("standby"))
	again.From = p.From
	if diff := cmp.Diff(p, again, addresses); diff != "" || err != nil {
		t.Errorf("of the settings that are kept: %v -want +got\n%s", err, diff)
	}
	shown := ""
	for _, o := range p.Origins() {
		shown += o.Setting + " " + strings.Join(o.Values, ", ") + " (" + o.From + ")\n"
	}
	for _, line := range []string{"record Host1.zone.com (f:3)\n", "ttl 60s (default)\n", "key-file unsigned (default)\n", "timeout 2s (--timeout)\n"} {
		if !strings.Contains(shown, line) {
			t.Errorf("the origins lack %q:\n%s", line, shown)
		}
	}
	if strings.Contains(shown, "lease") || strings.Contains(shown, "vip") {
		t.Errorf("the origins have settings of clusters:\n%s", shown)
	}
}

func TestPoolsThatAreWrong(t *testing.T) {
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "pools:\n", `f:1: pools: empty; each pool has a name, with its settings indented below it`},
		{"nothing in it", "pools:\n  www:\n", `f:2: pool www: record: missing; every pool needs one
f:2: pool www: server: missing; every pool needs one
f:2: pool www: members: missing; every pool needs one`},
		{"no name", "pools:\n  record: a.b\n", `f:2: pools: key "record": is a setting; the name of its pool is missing above it`},
		{"bad name", "pools:\n  WWW: {record: a.b, server: s, members: 10.0.0.1}\n", `f:2: pools: key "WWW": not a valid pool name ([a-z0-9][a-z0-9._-]{0,63})`},
		{"a cluster's setting", onePool + "    vip: 172.16.0.1\n    lease: 1h\n", `f:6: pool www: key "vip": is a setting of a cluster, and does not apply to a pool
f:7: pool www: key "lease": is a setting of a cluster, and does not apply to a pool`},
		{"a pool's setting", "clusters:\n  web:\n    host: 172.16.0.2\n    members: 10.0.0.1\n    min-member: 1\n", `f:4: cluster web: key "members": is a setting of a pool, and does not apply to a cluster
f:5: cluster web: key "min-member": unknown; pingover help settings lists them`},
		{"a typing error", onePool + "    min-member: 1\n", `f:6: pool www: key "min-member": unknown; did you mean min-members?`},
		{"outside the zone", onePool + "    zone: example.com\n", `f:3: pool www: record "Host1.zone.com": is outside the zone example.com`},
		{"a zone that only ends alike", onePool + "    zone: one.com\n", `f:3: pool www: record "Host1.zone.com": is outside the zone one.com`},
		{"the zone", onePool + "    zone: zone.com.\n", ``},
		{"no unit", onePool + "    ttl: 60\n", `f:6: pool www: ttl "60": a duration needs a unit, such as 60s (1s to 1d)`},
		{"too few", onePool + "    min-members: 0\n", `f:6: pool www: min-members "0": out of range (1 to 1000)`},
		{"more than a family has", onePool + "    min-members: 2\n", `f:6: pool www: min-members "2": more than the pool has IPv6 members, 1`},
		{"more than a family has, of defaults", onePool + "defaults: {min-members: 3}\n", `f:6: pool www: min-members "3": more than the pool has IPv4 members, 2`},
		{"twice", strings.Replace(onePool, "10.2.2.11", "10.2.2.10", 1), `f:5: pool www: members "10.2.2.10": 10.2.2.10 is given twice`},
		{"a host name", strings.Replace(onePool, "10.2.2.11", "host2.zone.com", 1), `f:5: pool www: members "host2.zone.com": not an address; give each member by its address, for a name may be that of several hosts`},
		{"loopback", strings.Replace(onePool, "10.2.2.11", "127.0.0.1", 1), `f:5: pool www: members "127.0.0.1": clients cannot reach it: it means another host, or none, on each machine`},
		{"too many", strings.Replace(onePool, "10.2.2.10, 10.2.2.11", strings.Join(many, ", "), 1), `f:5: pool www: members "10.0.4.1": more than 1000 members
f:5: pool www: members "2001:db8::10": more than 1000 members`},
		{"a bad record", strings.Replace(onePool, "Host1.zone.com", "10.2.2.1", 1), `f:3: pool www: record "10.2.2.1": an address, not a DNS name`},
		{"a bad server", strings.Replace(onePool, "192.0.2.53", "192.0.2.53:0", 1), `f:4: pool www: server "192.0.2.53:0": the port is none of 1 to 65535`},
		{"a witness that is a member", onePool + "    witness: 10.2.2.10\n", `f:6: pool www: witness "10.2.2.10": is a member; set witness to another machine`},
		{"auto with others", onePool + "    witness: [auto, 10.2.2.1]\n", `f:6: pool www: witness "auto": excludes other values, and there are 2 values`},
		{"one record for two", onePool + "  ftp: {record: host1.zone.com., server: s, members: 10.0.0.1}\n", `f:6: pool ftp: record "host1.zone.com.": pool www already has it`},
		{"one name for two", onePool + "clusters: {www: {host: h}}\n", `f:6: cluster www: name "www": a pool has this name: clusters and pools share one name space`},
		{"syslog of one", onePool + "    syslog: off\n", `f:6: pool www: key "syslog": is for all clusters and pools at once; move it into defaults`},
		{"a metrics file of one", onePool + "    metrics-file: /a\nclusters: {web: {host: h}}\n", `f:7: cluster web: metrics-file: must be the same for all clusters and pools, but pool www has /a; put it into defaults`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := FromFile("f", []byte(test.text), nil, rootOn("standby"))
			if diff := cmp.Diff(test.want, text(err)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSourceOfAPoolIsOfOneOfItsFamilies(t *testing.T) {
	only4 := strings.Replace(onePool, `, "2001:db8::10"`, "", 1)
	_, err := FromFile("f", []byte(only4+"    source: 2001:db8::1\n"), nil, rootOn("standby"))
	want := `f:6: pool www: source "2001:db8::1": cannot be the source of pings to the members: one is IPv4, the others IPv6`
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	file, err := FromFile("f", []byte(only4+"defaults: {source: \"2001:db8::1\"}\n"), nil, rootOn("standby"))
	if err != nil || file.Pools[0].Source.IsValid() {
		t.Errorf("of defaults it is ignored: %+v, %v", file.Pools, err)
	}
}
