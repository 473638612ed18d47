package check

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pingover/internal/lab"
)

// The library opens its sockets in a goroutine, and so on any thread: a test
// cannot enter a namespace for it. So the test program is started again on a
// host of the lab, where this variable is the task.
const labTask = "PINGOVER_TEST_CHECK"

func TestMain(m *testing.M) {
	if task := os.Getenv(labTask); task != "" {
		if err := perform(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if inside, code, err := lab.Enter(); err == nil && !inside {
		os.Exit(code)
	}
	// No service may be asked by a proxy.
	os.Setenv("http_proxy", "http://127.0.0.1:1")
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	flag.Set("test.parallel", "24") // these tests mostly wait; a flag of the command line overrides it
	os.Exit(m.Run())
}

// task is what to do on a host: rounds at the same time, a permission or a name.
type task struct {
	Rounds         []pings
	Keep           bool          // by sockets that stay open
	Cancel         time.Duration // end the context so long after the first ping was sent
	Load           int           // goroutines that keep the processors busy
	Permission     bool
	Resolve        string
	ResolveTimeout time.Duration
	ServiceTimeout time.Duration
	Port           uint16 // of a service at Address, asked from Source
	Address        netip.Addr
	Source         netip.Addr
}

// pings is what JSON can say of Pings.
type pings struct {
	Address, Source   netip.Addr
	Count             int
	Interval, Timeout time.Duration
}

// answer is the result.
type answer struct {
	Rounds     []outcome
	Canceled   bool
	Permission string
	Denied     bool
	Address    string
	Err        string
	Service    ServiceResult
	Took       time.Duration
}

// perform is the part of the test that runs on a host. It prints a line for
// each ping sent, and its result last.
func perform(text string) error {
	var do task
	if err := json.Unmarshal([]byte(text), &do); err != nil {
		return err
	}
	for range do.Load {
		go func() {
			for n := 0; ; n++ {
			}
		}()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := answer{Rounds: make([]outcome, len(do.Rounds))}
	var rounds sync.WaitGroup
	var canceled sync.Once
	process := Process{Keep: do.Keep}
	start := time.Now()
	for i, r := range do.Rounds {
		rounds.Go(func() {
			var made calls
			p := Pings{Address: r.Address, Source: r.Source, Count: r.Count, Interval: r.Interval, Timeout: r.Timeout}
			p.OnSend = func(seq int) {
				made.Sent = append(made.Sent, seq)
				fmt.Println("sent", seq)
				if do.Cancel > 0 {
					canceled.Do(func() { time.AfterFunc(do.Cancel, cancel) })
				}
			}
			p.OnReply = func(seq int, _ time.Duration) { made.Replies = append(made.Replies, seq) }
			start := time.Now()
			r := process.Ping(ctx, p)
			got.Rounds[i] = report(r, made, time.Since(start))
			if do.Cancel > 0 {
				got.Canceled = errors.Is(r.Err, context.Canceled)
			}
		})
	}
	rounds.Wait()
	if do.Permission {
		if err := Permission(); err != nil {
			got.Permission, got.Denied = err.Error(), errors.Is(err, fs.ErrPermission)
		}
	}
	if do.Resolve != "" {
		addrs, err := Resolve(ctx, do.Resolve, do.ResolveTimeout)
		if got.Address = strings.Trim(fmt.Sprint(addrs), "[]"); err != nil {
			got.Err = err.Error()
		}
	}
	if do.Port > 0 {
		got.Service = Service{Port: do.Port}.Check(ctx, Attempt{Address: do.Address, Source: do.Source, Timeout: do.ServiceTimeout})
	}
	got.Took = time.Since(start)
	return json.NewEncoder(os.Stdout).Encode(got)
}

// on runs a task on a host. The rights of the process are
// those that the wrapper, such as setpriv, leaves. sent is called for each ping.
func on(t *testing.T, h *lab.Host, do task, sent func(seq int), wrapper ...string) answer {
	t.Helper()
	text, err := json.Marshal(do)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(t.Context(), append(wrapper, self)...)
	cmd.Env = append(cmd.Env, labTask+"="+string(text), "GORACE=atexit_sleep_ms=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got answer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var seq int
		if _, err := fmt.Sscanf(lines.Text(), "sent %d", &seq); err == nil {
			if sent != nil {
				sent(seq)
			}
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Errorf("%s: %s", lines.Text(), err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %s", err, stderr.String())
	}
	if stderr.Len() > 0 { // the library's log is cron's mail
		t.Errorf("on stderr: %s", stderr.String())
	}
	return got
}

// pair makes a lab with a standby at .3 and a primary at .2.
func pair(t *testing.T) (standby, primary *lab.Host) {
	t.Helper()
	l := lab.ForTest(t)
	standby, err := l.Add("standby", "172.16.0.3/16", "2001:db8::3/64")
	if err != nil {
		t.Fatal(err)
	}
	primary, err = l.Add("primary", "172.16.0.2/16", "2001:db8::2/64")
	if err != nil {
		t.Fatal(err)
	}
	settle(t, standby)
	settle(t, primary)
	return standby, primary
}

// settle waits until a host replies for its IPv6 addresses: also without
// duplicate address detection they are tentative for a moment.
func settle(t *testing.T, h *lab.Host) {
	t.Helper()
	for range 500 {
		tentative, err := h.Run("ip", "-6", "addr", "show", "tentative")
		if err != nil {
			t.Fatal(err)
		}
		if tentative == "" {
			return
		}
		time.Sleep(10 * ms)
	}
	t.Fatal("an IPv6 address stays tentative")
}

func must(t *testing.T, h *lab.Host, argv ...string) {
	t.Helper()
	if _, err := h.Run(argv...); err != nil {
		t.Error(err)
	}
}

// shell runs lines of a shell on a host before a round.
func shell(lines string) func(*testing.T, *lab.Host, *lab.Host) {
	return func(t *testing.T, standby, _ *lab.Host) { must(t, standby, "sh", "-ec", lines) }
}

func nothing(*testing.T, *lab.Host, *lab.Host) {}

func pingsFiltered(t *testing.T, _, primary *lab.Host) {
	if err := primary.FilterICMP(true); err != nil {
		t.Error(err)
	}
}

const (
	// Root without the right to raw sockets, and its group allowed to ping.
	noRaw     = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw"
	openRange = "echo 0 0 >/proc/sys/net/ipv4/ping_group_range\n"
)

// rejecting has the primary's firewall reject pings with that ICMP code.
func rejecting(pings lab.Rule, kind uint32, code uint8) func(*testing.T, *lab.Host, *lab.Host) {
	return func(t *testing.T, _, primary *lab.Host) {
		if err := primary.Firewall(nftables.ChainHookInput, append(pings, &expr.Reject{Type: kind, Code: code})); err != nil {
			t.Error(err)
		}
	}
}

// forbidden has the standby's own firewall drop its pings, and count those of IPv4.
func forbidden(t *testing.T, standby, _ *lab.Host) {
	err := standby.Firewall(nftables.ChainHookOutput,
		lab.Drop(lab.EchoRequest4(), lab.Rule{new(expr.Counter)}), lab.Drop(lab.EchoRequest6()))
	if err != nil {
		t.Error(err)
	}
}

// looping routes 10.0.0.0/8 to the primary, which sends to itself what is for there.
func looping(t *testing.T, standby, primary *lab.Host) {
	must(t, standby, "ip", "route", "add", "10.0.0.0/8", "via", "172.16.0.2")
	must(t, primary, "sh", "-ec", `echo 1 >/proc/sys/net/ipv4/ip_forward
		ip link add out up type veth peer name in address 02:00:00:00:09:09
		ip link set in up
		ip route add 10.0.0.0/8 dev out
		ip neigh add 10.0.0.1 lladdr 02:00:00:00:09:09 dev out nud permanent`)
}

// forbiddenPings is how many that were of IPv4.
func forbiddenPings(t *testing.T, standby *lab.Host) (count uint64) {
	t.Helper()
	err := standby.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChains()
		if err != nil {
			return err
		}
		for _, chain := range chains {
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return err
			}
			for _, rule := range rules {
				for _, e := range rule.Exprs {
					if counter, ok := e.(*expr.Counter); ok {
						count += counter.Packets
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return count
}

// up, down and unknown are the outcomes of a round of three pings.
var (
	up   = outcome{Verdict: "up", Sent: 1, Received: 1, Calls: calls{[]int{1}, []int{1}}}
	down = outcome{Verdict: "down", Sent: 3, Calls: calls{Sent: []int{1, 2, 3}}}
)

func unknown(sent int, err string) outcome {
	o := outcome{Verdict: "unknown", Sent: sent, Err: err}
	for seq := range sent {
		o.Calls.Sent = append(o.Calls.Sent, seq+1)
	}
	return o
}

// each runs a test as a check pings and as a watch does, by sockets that stay open.
func each(t *testing.T, name string, test func(t *testing.T, keep bool)) {
	t.Run(name, func(t *testing.T) { test(t, false) })
	t.Run(name+", by a socket that stays open", func(t *testing.T) { test(t, true) })
}

func TestPingOnANetwork(t *testing.T) {
	t.Parallel()
	type hosts = func(t *testing.T, standby, primary *lab.Host)
	for _, c := range []struct {
		name    string
		before  hosts
		address string
		source  string
		after1  hosts  // when the first ping has been sent
		wrapper string // takes rights away
		want    outcome
	}{
		{"up", nothing, "172.16.0.2", "", nil, "", up},
		{"up, IPv6", nothing, "2001:db8::2", "", nil, "", up},
		{"up, link-local with its zone", nothing, "fe80::ff:fe00:2%eth0", "", nil, "", up},
		{"up, link-local with the interface's number", nothing, "fe80::ff:fe00:2%INDEX", "", nil, "", up},
		{"up, link-local to link-local, whose zone is implied", nothing, "fe80::ff:fe00:2%eth0", "fe80::ff:fe00:1", nil, "", up},
		{"up, unprivileged", shell(openRange), "172.16.0.2", "", nil, noRaw, up},
		{"up, unprivileged, IPv6", shell(openRange), "2001:db8::2", "", nil, noRaw, up},
		{"up, unprivileged, link-local to link-local", shell(openRange), "fe80::ff:fe00:2%eth0", "fe80::ff:fe00:1", nil, noRaw, up},

		{"down: it replies to ARP, not to pings", pingsFiltered, "172.16.0.2", "", nil, "", down},
		{"down: it replies to ND, not to pings", pingsFiltered, "2001:db8::2", "", nil, "", down},
		{"down: it replies to ND, not to pings, link-local", pingsFiltered, "fe80::ff:fe00:2%eth0", "", nil, "", down},
		{"down: it replies to ARP, not to pings, unprivileged", func(t *testing.T, standby, primary *lab.Host) {
			shell(openRange)(t, standby, primary)
			pingsFiltered(t, standby, primary)
		}, "172.16.0.2", "", nil, noRaw, down},
		{
			"down: the neighbour is known and gone",
			shell("ip neigh replace 172.16.0.99 lladdr 02:00:00:00:00:99 dev eth0"),
			"172.16.0.99", "", nil, "", down,
		},
		{"down: power cut", pingsFiltered, "172.16.0.2", "", func(t *testing.T, _, primary *lab.Host) {
			if err := primary.PowerOff(); err != nil {
				t.Error(err)
			}
		}, "", down},
		{
			"unknown: a firewall prohibits it",
			rejecting(lab.EchoRequest4(), unix.NFT_REJECT_ICMP_UNREACH, 13),
			"172.16.0.2", "", nil, "", unknown(3, "ping 172.16.0.2: refused by 172.16.0.2: communication administratively prohibited (ICMP type 3 code 13)"),
		},
		{
			"unknown: a firewall prohibits it, unprivileged",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				rejecting(lab.EchoRequest4(), unix.NFT_REJECT_ICMP_UNREACH, 13)(t, standby, primary)
			},
			"172.16.0.2", "", nil, noRaw, unknown(3, "ping 172.16.0.2: refused by 172.16.0.2: communication administratively prohibited (ICMP type 3 code 13)"),
		},
		{
			"unknown: a firewall prohibits it, IPv6",
			rejecting(lab.EchoRequest6(), unix.NFT_REJECT_ICMP_UNREACH, 1),
			"2001:db8::2", "", nil, "", unknown(3, "ping 2001:db8::2: refused by 2001:db8::2: communication administratively prohibited (ICMPv6 type 1 code 1)"),
		},
		{
			"unknown: a firewall prohibits it, IPv6, unprivileged",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				rejecting(lab.EchoRequest6(), unix.NFT_REJECT_ICMP_UNREACH, 1)(t, standby, primary)
			},
			"2001:db8::2", "", nil, noRaw, unknown(3, "ping 2001:db8::2: refused by 2001:db8::2: communication administratively prohibited (ICMPv6 type 1 code 1)"),
		},
		{
			"unknown: a router has no route",
			func(t *testing.T, standby, primary *lab.Host) {
				must(t, standby, "ip", "route", "add", "10.0.0.0/8", "via", "172.16.0.2")
				must(t, primary, "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/ip_forward")
			},
			"10.0.0.1", "", nil, "", unknown(3, "ping 10.0.0.1: refused by 172.16.0.2: network unreachable (ICMP type 3 code 0)"),
		},
		{
			"unknown: a firewall rejects it as an unreachable port",
			rejecting(lab.EchoRequest4(), unix.NFT_REJECT_ICMP_UNREACH, 3),
			"172.16.0.2", "", nil, "", unknown(3, "ping 172.16.0.2: refused by 172.16.0.2: port unreachable (ICMP type 3 code 3)"),
		},
		{
			"unknown: the host says itself that it is unreachable",
			rejecting(lab.EchoRequest4(), unix.NFT_REJECT_ICMP_UNREACH, 1),
			"172.16.0.2", "", nil, "", unknown(3, "ping 172.16.0.2: refused by 172.16.0.2: host unreachable (ICMP type 3 code 1)"),
		},
		{
			"unknown: a firewall rejects it as an unreachable port, IPv6, unprivileged",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				rejecting(lab.EchoRequest6(), unix.NFT_REJECT_ICMP_UNREACH, 4)(t, standby, primary)
			},
			"2001:db8::2", "", nil, noRaw, unknown(3, "ping 2001:db8::2: refused by 2001:db8::2: port unreachable (ICMPv6 type 1 code 4)"),
		},
		{
			"unknown: a routing loop",
			looping, "10.0.0.1", "", nil, "", unknown(3, "ping 10.0.0.1: refused by 172.16.0.2: time exceeded, a routing loop (ICMP type 11 code 0)"),
		},
		{
			"unknown: a routing loop, unprivileged",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				looping(t, standby, primary)
			},
			"10.0.0.1", "", nil, noRaw, unknown(3, "ping 10.0.0.1: refused by 172.16.0.2: time exceeded, a routing loop (ICMP type 11 code 0)"),
		},
		{
			"up: refused at first, then there is a reply",
			rejecting(lab.EchoRequest4(), unix.NFT_REJECT_ICMP_UNREACH, 13),
			"172.16.0.2", "", func(t *testing.T, _, primary *lab.Host) {
				if err := primary.Firewall(nftables.ChainHookInput); err != nil {
					t.Error(err)
				}
			}, "",
			outcome{Verdict: "up", Sent: 2, Received: 1, Calls: calls{[]int{1, 2}, []int{2}}},
		},
		{
			"down: a router reports an unreachable host",
			func(t *testing.T, standby, primary *lab.Host) {
				must(t, standby, "ip", "route", "add", "10.0.0.0/8", "via", "172.16.0.2")
				must(t, primary, "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/ip_forward; ip route add unreachable 10.0.0.0/8")
			},
			"10.0.0.1", "", nil, "", down,
		},
		{
			"down, not unknown: the carrier is lost, so read it afterwards",
			pingsFiltered, "172.16.0.2", "",
			func(t *testing.T, standby, _ *lab.Host) {
				if err := standby.Unplug(false); err != nil {
					t.Error(err)
				}
			}, "", down,
		},
		{
			"down, not unknown: the interface's queue drops it and the kernel does not report it",
			shell("tc qdisc add dev eth0 root tbf rate 8bit burst 10b limit 1"), "172.16.0.2", "", nil, "", down,
		},

		{"unknown: no route", nothing, "198.51.100.1", "", nil, "", unknown(0, "ping 198.51.100.1: network is unreachable")},
		{"unknown: no route, IPv6", nothing, "2001:db8:ffff::1", "", nil, "", unknown(0, "ping 2001:db8:ffff::1: network is unreachable")},
		{
			"unknown: unreachable route",
			shell("ip route add unreachable 172.16.0.2"), "172.16.0.2", "", nil, "",
			unknown(0, "ping 172.16.0.2: no route to host"),
		},
		{
			"unknown: prohibit route",
			shell("ip route add prohibit 172.16.0.2"), "172.16.0.2", "", nil, "",
			unknown(0, "ping 172.16.0.2: permission denied (by a prohibit route?)"),
		},
		{
			"unknown: blackhole route",
			shell("ip route add blackhole 172.16.0.2"), "172.16.0.2", "", nil, "",
			unknown(0, "ping 172.16.0.2: invalid argument (a blackhole route?)"),
		},
		{
			"unknown: blackhole route, IPv6",
			shell("ip route add blackhole 2001:db8::2"), "2001:db8::2", "", nil, "",
			unknown(0, "ping 2001:db8::2: invalid argument (a blackhole route?)"),
		},
		{
			"unknown: our own firewall drops it",
			forbidden, "172.16.0.2", "", nil, "",
			unknown(0, "ping 172.16.0.2: operation not permitted (by a firewall rule of this machine?)"),
		},
		{
			"unknown: our own firewall drops it, IPv6",
			forbidden, "2001:db8::2", "", nil, "",
			unknown(0, "ping 2001:db8::2: operation not permitted (by a firewall rule of this machine?)"),
		},
		{
			"unknown: our own firewall drops it from the second ping on",
			pingsFiltered, "172.16.0.2", "", forbidden, "",
			unknown(1, "ping 172.16.0.2: 2 of 3 pings could not be sent: operation not permitted (by a firewall rule of this machine?)"),
		},
		{
			"unknown: our own firewall drops it from the second ping on, unprivileged",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				pingsFiltered(t, standby, primary)
			}, "172.16.0.2", "", forbidden, noRaw,
			unknown(1, "ping 172.16.0.2: 2 of 3 pings could not be sent: operation not permitted (by a firewall rule of this machine?)"),
		},
		{
			"down, not unknown: our own firewall drops it, IPv6, unprivileged, and the kernel does not report it",
			func(t *testing.T, standby, primary *lab.Host) {
				shell(openRange)(t, standby, primary)
				forbidden(t, standby, primary)
			}, "2001:db8::2", "", nil, noRaw, down,
		},
		{
			"unknown: the interface goes down in the middle",
			pingsFiltered, "172.16.0.2", "", shell("ip link set eth0 down"), "",
			unknown(1, "ping 172.16.0.2: 2 of 3 pings could not be sent: network is unreachable"),
		},
		{
			"unknown: the interface goes down in the middle, link-local",
			pingsFiltered, "fe80::ff:fe00:2%eth0", "", shell("ip link set eth0 down"), "",
			unknown(1, "ping fe80::ff:fe00:2%eth0: 2 of 3 pings could not be sent: network is unreachable"),
		},
		{
			"unknown: the interface vanishes in the middle, and another one is there",
			func(t *testing.T, standby, primary *lab.Host) {
				if _, err := standby.NIC(); err != nil {
					t.Error(err)
				}
				pingsFiltered(t, standby, primary)
			}, "fe80::ff:fe00:2%eth0", "", shell("ip link delete eth0"), "",
			unknown(1, "ping fe80::ff:fe00:2%eth0: 2 of 3 pings could not be sent: network is unreachable"),
		},
		{
			"unknown: the source is not here",
			nothing, "172.16.0.2", "172.16.0.77", nil, "",
			unknown(0, "ping 172.16.0.2: source 172.16.0.77: cannot assign requested address"),
		},
		{
			"unknown: the source is not here, unprivileged",
			shell(openRange), "2001:db8::2", "2001:db8::77", nil, noRaw,
			unknown(0, "ping 2001:db8::2: source 2001:db8::77: cannot assign requested address"),
		},
		{
			"unknown: no right to ping, and a group range that forbids it even to root",
			nothing, "172.16.0.2", "", nil, noRaw,
			unknown(0, "ping 172.16.0.2: "+noPermission),
		},
		{
			"unknown: broadcast address of the network",
			nothing, "172.16.255.255", "", nil, "",
			unknown(0, "ping 172.16.255.255: is a broadcast address"),
		},

		{
			"a reply to the second ping after the first was lost",
			pingsFiltered, "172.16.0.2", "", func(t *testing.T, _, primary *lab.Host) {
				if err := primary.FilterICMP(false); err != nil {
					t.Error(err)
				}
			}, "",
			outcome{Verdict: "up", Sent: 2, Received: 1, Calls: calls{[]int{1, 2}, []int{2}}},
		},
	} {
		each(t, c.name, func(t *testing.T, keep bool) {
			t.Parallel()
			standby, primary := pair(t)
			c.before(t, standby, primary)
			address := c.address
			if strings.Contains(address, "INDEX") {
				if err := standby.Do(func() error {
					eth0, err := net.InterfaceByName("eth0")
					if err == nil {
						address = strings.Replace(address, "INDEX", strconv.Itoa(eth0.Index), 1)
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			p := pings{Address: addr(address), Count: 3, Interval: 100 * ms, Timeout: time.Second}
			if c.after1 != nil || c.want.Verdict == "up" {
				p.Interval = time.Second // for after1 or the reply to come before the next ping
			}
			if c.source != "" {
				p.Source = addr(c.source)
			}
			got := on(t, standby, task{Rounds: []pings{p}, Keep: keep}, func(seq int) {
				if seq == 1 && c.after1 != nil {
					c.after1(t, standby, primary)
				}
			}, strings.Fields(c.wrapper)...).Rounds[0]
			checkTime(t, p, got)
			got.RTT, got.Took = 0, 0
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// checkTime compares the time a round took with the contract, generously.
func checkTime(t *testing.T, p pings, got outcome) {
	t.Helper()
	const late = 5 * time.Second
	full := time.Duration(p.Count-1)*p.Interval + p.Timeout
	if got.Verdict == "down" && got.Took < full {
		t.Errorf("a silent round took %s, want at least %s", got.Took, full)
	}
	if got.Took > full+late {
		t.Errorf("a round took %s, want no more than %s", got.Took, full)
	}
	if (got.RTT > 0) != (got.Verdict == "up") {
		t.Errorf("a round trip of %s, and the host is %s", got.RTT, got.Verdict)
	}
}

const noPermission = "no permission to ping: be root, or have the capability cap_net_raw, " +
	"or a group within net.ipv4.ping_group_range: permission denied"

// No reply to ARP or ND: the kernel gives up after 3 s and drops what waits,
// but it goes on accepting pings, before and after, and also in the next round,
// when it knows that the neighbour has failed. So such a host is down.
func TestSilentHostOnTheLinkIsDown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, wrapper string }{{"raw", ""}, {"unprivileged", noRaw}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			standby, _ := pair(t)
			must(t, standby, "sh", "-ec", openRange)
			for _, p := range []pings{
				{Count: 5, Interval: time.Second, Timeout: time.Second},
				{Count: 3, Interval: 50 * ms, Timeout: time.Second},
			} {
				p4, p6 := p, p
				p4.Address, p6.Address = addr("172.16.0.99"), addr("2001:db8::99")
				for _, got := range on(t, standby, task{Rounds: []pings{p4, p6}}, nil, strings.Fields(c.wrapper)...).Rounds {
					checkTime(t, p, got)
					if got.Verdict != "down" || got.Sent != p.Count || got.Err != "" {
						t.Errorf("%+v", got)
					}
				}
			}
		})
	}
}

// The primary replies to one of the standby's addresses only.
func TestSourceIsUsed(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	must(t, standby, "sh", "-ec", "ip addr add 172.16.0.33/16 dev eth0; ip addr add 2001:db8::33/64 dev eth0")
	err := primary.Firewall(nftables.ChainHookInput,
		lab.Drop(lab.EchoRequest4(), lab.NotFrom(addr("172.16.0.33"))), lab.Drop(lab.EchoRequest6(), lab.NotFrom(addr("2001:db8::33"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ address, source, want string }{
		{"172.16.0.2", "172.16.0.3", "down"},
		{"172.16.0.2", "172.16.0.33", "up"},
		{"2001:db8::2", "2001:db8::3", "down"},
		{"2001:db8::2", "2001:db8::33", "up"},
	} {
		p := pings{Address: addr(c.address), Source: addr(c.source), Count: 2, Interval: 200 * ms, Timeout: 500 * ms}
		for _, keep := range []bool{false, true} {
			if got := on(t, standby, task{Rounds: []pings{p}, Keep: keep}, nil).Rounds[0]; got.Verdict != c.want || got.Err != "" {
				t.Errorf("%s from %s: %+v", c.address, c.source, got)
			}
		}
	}
}

// 25 addresses that are up and 25 that are down at once: none is taken for another, though
// each raw socket hears the replies of all.
func TestFiftyPingsAtOnce(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	must(t, primary, "sh", "-ec", "for n in $(seq 25); do ip addr add 172.16.1.$n/32 dev eth0; done")
	var do task
	var want []string
	for n := 1; n <= 50; n++ {
		do.Rounds = append(do.Rounds, pings{
			Address: netip.AddrFrom4([4]byte{172, 16, 1, byte(n)}), Count: 3, Interval: 500 * ms, Timeout: time.Second,
		})
		if n <= 25 {
			want = append(want, "up")
		} else {
			want = append(want, "down")
		}
	}
	for _, do.Keep = range []bool{false, true} {
		var got []string
		for _, r := range on(t, standby, do, nil).Rounds {
			got = append(got, r.Verdict)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("open sockets: %t (-want +got)\n%s", do.Keep, diff)
		}
	}
}

// On an overloaded machine a round is down, or known to prove nothing.
func TestTinyTimeoutsOnALoadedMachine(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	pingsFiltered(t, standby, primary)
	do := task{Load: 8, Keep: true}
	for range 5 {
		do.Rounds = append(do.Rounds, pings{Address: addr("172.16.0.2"), Count: 5, Interval: 10 * ms, Timeout: 10 * ms})
	}
	for _, r := range on(t, standby, do, nil).Rounds {
		stalled := r.Verdict == "unknown" && strings.HasPrefix(r.Err, "ping 172.16.0.2: this machine stalled: the round ended ")
		if r.Sent != 5 || !stalled && (r.Verdict != "down" || r.Err != "") {
			t.Errorf("%+v", r)
		}
	}
}

func TestOnePing(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	one := task{Rounds: []pings{{Address: addr("172.16.0.2"), Count: 1, Interval: time.Second, Timeout: time.Second}}}
	for _, c := range []struct {
		mute bool
		want outcome
	}{
		{false, up},
		{true, outcome{Verdict: "down", Sent: 1, Calls: calls{Sent: []int{1}}}},
	} {
		if err := primary.FilterICMP(c.mute); err != nil {
			t.Fatal(err)
		}
		got := on(t, standby, one, nil).Rounds[0]
		checkTime(t, one.Rounds[0], got)
		got.RTT, got.Took = 0, 0
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestContextEndsPingOnANetwork(t *testing.T) {
	t.Parallel()
	standby, primary := pair(t)
	pingsFiltered(t, standby, primary)
	got := on(t, standby, task{
		Rounds: []pings{{Address: addr("172.16.0.2"), Count: 2, Interval: time.Minute, Timeout: time.Minute}},
		Cancel: 100 * ms,
	}, nil)
	r := got.Rounds[0]
	if !got.Canceled || r.Took > 10*time.Second {
		t.Errorf("%+v", got)
	}
	r.Took = 0
	if diff := cmp.Diff(unknown(1, "ping 172.16.0.2: context canceled"), r); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
