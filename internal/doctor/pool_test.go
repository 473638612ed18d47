package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/balance"
	"pingover/internal/config"
	"pingover/pool"
	"pingover/state"
	"pingover/vip"
)

// nameServer has these addresses of host1.zone.com.
type nameServer struct {
	published   []netip.Addr
	ttl         time.Duration
	read, right error
}

func (n nameServer) Read(_ context.Context, name string) (pool.Set, error) {
	return pool.Set{Name: name}.With(nil, n.published, n.ttl), n.read
}

func (n nameServer) FindZone(context.Context, string) (pool.Zone, error) {
	return pool.Zone{Name: "zone.com.", Primary: "ns.zone.com.", Negative: time.Hour}, nil
}

func (n nameServer) Publish(context.Context, pool.Change) (pool.Set, error) {
	return pool.Set{}, errors.New("doctor changes nothing")
}

func (n nameServer) TestUpdate(context.Context, string, pool.Set, ...netip.Addr) error {
	return n.right
}

func addrs(last ...byte) (all []netip.Addr) {
	for _, b := range last {
		all = append(all, netip.AddrFrom4([4]byte{10, 2, 2, b}))
	}
	return all
}

// poolFindings are those about the name server, the records and the members.
func poolFindings(t *testing.T, n nameServer, change func(*config.Pool, *balance.Env)) string {
	t.Helper()
	silent := addrs(11)[0]
	p := config.Pool{
		Name: "www", Record: "host1.zone.com.", Server: "192.0.2.53:53", Members: addrs(10, 11), TTL: time.Minute, MinMembers: 1, Rise: 3,
		Count: 1, Interval: time.Second, Timeout: 30 * time.Millisecond, Witness: config.Witness{Addresses: addrs(1)}, StateDir: t.TempDir(),
		Mail: config.Mail{Notify: []string{"true"}},
	}
	env := balance.Env{
		Snapshot: func() (*vip.Snapshot, error) {
			return &vip.Snapshot{Links: []vip.Link{{Name: "eth0", Up: true, Carrier: true, Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("10.2.2.5/24")}}}}}, nil
		},
		Route: func(netip.Addr, netip.Addr) (vip.Route, error) { return vip.Route{Interface: "eth0"}, nil },
		Ping: func(_ context.Context, p check.Pings) check.Round {
			if p.Address == silent {
				return check.Round{Verdict: check.Down, Sent: 1}
			}
			return check.Round{Verdict: check.Up, Sent: 1, Received: 1}
		},
		MayPing:    func() error { return nil },
		NameServer: func(config.Pool) (balance.NameServer, error) { return n, nil },
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.53")}, nil
		},
		Locks: new(state.Locks),
	}
	change(&p, &env)
	var b strings.Builder
	for _, f := range RunPoolIn(t.Context(), env, p, false) {
		if strings.Contains(f.Text, "state directory") || strings.Contains(f.Text, "check of this pool") || strings.Contains(f.Text, "this process") || strings.Contains(f.Text, "notifications go") {
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", f.Grade, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "  %s\n", f.Fix)
		}
	}
	return b.String()
}

func TestDoctorOfAPool(t *testing.T) {
	unsigned := "warn no key-file: questions and updates are unsigned\n  set key-file, and let the server demand the key\n"
	answers := unsigned + "ok name server 192.0.2.53:53: answers by TCP for host1.zone.com\nok zone zone.com: a record that is missing is remembered by clients for 1h\n"
	right := "ok this machine may change host1.zone.com: an update that changes nothing was accepted\n"
	records := "ok host1.zone.com A: 2 records, TTL 1m\n"
	members := "ok member 10.2.2.10: replies, in DNS\nwarn member 10.2.2.11: no reply, in DNS\n  check that host, and that it replies to ping\nok witness 10.2.2.1 replies\n"
	out := strings.ReplaceAll(members, "in DNS", "out of DNS")
	both := nameServer{published: addrs(10, 11), ttl: time.Minute}
	for _, test := range []struct {
		name   string
		server nameServer
		change func(*config.Pool, *balance.Env)
		want   string
	}{
		{"all is well but one member", both, nil, answers + right + records + members},
		{"another ttl", nameServer{published: addrs(10, 11), ttl: time.Hour}, nil, answers + right +
			"warn host1.zone.com A has the TTL 1h, and ttl is 1m\n  nothing: the next record that is added sets the ttl\n" + members},
		{"somebody else's record", nameServer{published: addrs(10, 11, 99), ttl: time.Minute}, nil, answers + right + "ok host1.zone.com A: 3 records, TTL 1m\n" +
			"warn published and no members: 10.2.2.99\n  nothing, if they belong there: pingover neither checks nor removes them\n" + members},
		{
			"no right",
			nameServer{published: addrs(10, 11), ttl: time.Minute, right: &pool.Error{Problem: pool.Refused, Text: "refused: no right", Hint: "grant it"}},
			nil,
			answers + "fail refused: no right\n  grant it\n" + records + members,
		},
		{
			"no answer",
			nameServer{read: &pool.Error{Problem: pool.Alias, Text: "host1.zone.com is a CNAME"}},
			nil,
			unsigned + "fail host1.zone.com is a CNAME\n  check that the name server runs, and that server is its address\n" + out,
		},
		{
			"a key that others can read", both,
			func(_ *config.Pool, e *balance.Env) {
				e.NameServer = func(config.Pool) (balance.NameServer, error) {
					return nil, &pool.Error{Problem: pool.KeyFile, Text: "/etc/www.key: others can read it", Hint: "chmod 600 /etc/www.key"}
				}
			},
			"fail key-file: /etc/www.key: others can read it\n  chmod 600 /etc/www.key\n" + out,
		},
		{
			"not the primary", both,
			func(_ *config.Pool, e *balance.Env) {
				e.Resolve = func(context.Context, string) ([]netip.Addr, error) { return addrs(53), nil }
			},
			answers + "warn the primary name server of zone.com is ns.zone.com, and server is 192.0.2.53:53\n" +
				"  set server to the primary, unless it is a hidden one: a secondary refuses updates, or shows them late\n" + right + records + members,
		},
		{
			"this machine among the members", both,
			func(_ *config.Pool, e *balance.Env) {
				e.Snapshot = func() (*vip.Snapshot, error) {
					return &vip.Snapshot{Links: []vip.Link{{Name: "eth0", Up: true, Carrier: true, Addresses: []vip.Address{{Prefix: netip.MustParsePrefix("10.2.2.10/24")}}}}}, nil
				}
			},
			answers + right + records + strings.Replace(members, "ok member 10.2.2.10: replies, in DNS\n",
				"warn member 10.2.2.10 is an address of this machine\n  check the pool from another machine too: this one always reaches itself\n", 1),
		},
		{
			"no carrier", both,
			func(_ *config.Pool, e *balance.Env) {
				e.Snapshot = func() (*vip.Snapshot, error) {
					return &vip.Snapshot{Links: []vip.Link{{Name: "eth0", Up: true}}}, nil
				}
			},
			answers + right + records + "fail member 10.2.2.10 could not be asked: interface \"eth0\" has no carrier: is the cable in?\n  check the network of this machine\n" +
				"fail member 10.2.2.11 could not be asked: interface \"eth0\" has no carrier: is the cable in?\n  check the network of this machine\nok witness 10.2.2.1 replies\n",
		},
		{
			"a service that cannot be asked", both,
			func(p *config.Pool, e *balance.Env) {
				p.Services = []check.Service{{Argv: []string{"check_www"}}}
				e.Service = func(context.Context, check.Service, check.Attempt) check.ServiceResult {
					return check.ServiceResult{Reason: "killed: took longer than 30s"}
				}
			},
			answers + right + records + "fail member 10.2.2.10 could not be asked: check_www: killed: took longer than 30s\n  fix what is named; until then the member stays as it is\n" +
				"fail member 10.2.2.11 could not be asked: check_www: killed: took longer than 30s\n  fix what is named; until then the member stays as it is\nok witness 10.2.2.1 replies\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			change := test.change
			if change == nil {
				change = func(*config.Pool, *balance.Env) {}
			}
			if diff := cmp.Diff(test.want, poolFindings(t, test.server, change)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestDoctorWarnsOfLargeRecordSets(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		members int
		want    string
	}{
		{70, ""},
		{71, "warn with all members host1.zone.com has 71 A records: above 70 every client needs TCP\n"},
		{101, "fail with all members host1.zone.com has 101 A records: BIND holds 100\n"},
	} {
		got := poolFindings(t, nameServer{published: addrs(10), ttl: time.Minute}, func(p *config.Pool, _ *balance.Env) {
			p.Members = nil
			for i := range test.members {
				p.Members = append(p.Members, addrs(byte(10+i))...)
			}
		})
		if test.want == "" && strings.Contains(got, "with all members") || !strings.Contains(got, test.want) {
			t.Errorf("%d members:\n%s", test.members, got)
		}
	}
}
