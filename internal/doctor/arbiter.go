package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/config"
	"pingover/internal/proc"
	"pingover/vip"
)

const (
	// doctorKey is written to instead of the cluster's own: no cluster has this name.
	doctorKey = ".doctor"
	// oldestEtcd has the gateway at the paths that are used.
	oldestMajor, oldestMinor = 3, 4
	// testAddress is one of 127/8, which is on lo as a whole.
	testAddress = "127.255.255.254/32"
	testLease   = 30 * time.Second
)

// member is what one member of etcd answered.
type member struct {
	url     string
	version string
	entry   arbiter.Entry // the cluster's key, by a linearizable read
	err     error
}

// arbiter is etcd: each member, what it lets this machine do, and who holds the key.
func (x *examination) arbiter(ctx context.Context) {
	if !x.set.Arbiter.Set() {
		return
	}
	client := arbiter.NewClient(x.set.Arbiter, config.ArbiterFiles)
	defer client.Close()
	x.arbiterPlaces(ctx)
	x.arbiterSecrets()
	if entry, ok := x.members(x.askMembers(ctx, client)); ok {
		x.mayWrite(ctx, client, entry)
		x.keyHolder(entry)
	}
	x.lifetime(ctx)
	x.pausedClock()
}

// askMembers asks all of them at once.
func (x *examination) askMembers(ctx context.Context, client *arbiter.Client) []member {
	asked := make([]member, len(x.set.Arbiter.Members))
	var all sync.WaitGroup
	for i, url := range x.set.Arbiter.Members {
		all.Go(func() {
			only := client.Only(url)
			defer only.Close()
			m := member{url: url}
			if m.version, m.err = only.Version(ctx, url); m.err == nil {
				m.entry, m.err = only.Read(ctx, x.set.Name)
			}
			asked[i] = m
		})
	}
	all.Wait()
	return asked
}

// members reports what they answered; ok: one of them has read the key.
func (x *examination) members(all []member) (entry arbiter.Entry, ok bool) {
	for _, m := range all {
		if m.err == nil && !ok {
			entry, ok = m.entry, true
		}
	}
	for _, m := range all {
		var major, minor int
		_, _ = fmt.Sscanf(m.version, "%d.%d", &major, &minor)
		switch {
		case m.err == nil && m.entry.ClusterID != entry.ClusterID:
			x.fail("set arbiter to the members of one cluster: etcdctl member list", "arbiter %s: belongs to another cluster of etcd than %s: two machines could hold by two keys", m.url, entry.Member)
		case m.version != "" && (major < oldestMajor || major == oldestMajor && minor < oldestMinor):
			x.fail("update etcd", "arbiter %s: etcd %s is too old; at least %d.%d is needed", m.url, m.version, oldestMajor, oldestMinor)
		case m.err == nil && strings.HasPrefix(m.url, "https:"):
			x.good("arbiter %s: etcd %s, with TLS", m.url, m.version)
		case m.err == nil:
			x.warn("give etcd certificates, and write https:// here", "arbiter %s: etcd %s, without TLS: any machine on the way can change the answers", m.url, m.version)
		case ok:
			x.warn(arbiterHint(m.err), "arbiter %v", m.err)
		default:
			x.fail(arbiterHint(m.err), "arbiter %v", m.err)
		}
	}
	if ok {
		x.good("etcd has a quorum: a linearizable read was answered")
	}
	return entry, ok
}

func arbiterHint(err error) string {
	if e, ok := errors.AsType[*arbiter.Error](err); ok {
		return e.Hint()
	}
	return "check that etcd runs there"
}

// arbiterSecrets are what keeps others from changing the key.
func (x *examination) arbiterSecrets() {
	if x.set.Arbiter.User == "" && x.set.Arbiter.Cert == "" {
		x.warn("enable etcd's users or client certificates, and set arbiter-user or arbiter-cert", "etcd knows this machine by nothing: any machine that reaches its client port can change the key")
	}
}

// arbiterPlaces compares the members with the machines of the pair: none of them may
// have half of the members.
func (x *examination) arbiterPlaces(ctx context.Context) {
	n := len(x.set.Arbiter.Members)
	on := map[string]int{}
	for _, text := range x.set.Arbiter.Members {
		u, _ := url.Parse(text)
		addrs := []netip.Addr{}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil {
			addrs = append(addrs, a)
		} else if found, err := x.env.Resolve(ctx, u.Hostname()); err == nil {
			addrs = found
		} else {
			x.warn("set arbiter to addresses: a name server may be down when the holder is", "arbiter %s: %v", text, err)
			continue
		}
		if slices.ContainsFunc(addrs, x.isVIP) {
			x.fail("set arbiter to the member's own address", "arbiter %s: is a virtual IP, which goes from one machine to the other", text)
			continue
		}
		on[x.machineOf(addrs)]++
	}
	if n == 1 {
		x.warn("use three members, on three machines", "etcd has one member: while it is down nobody takes over, and after arbiter-ttl nobody holds")
		return
	}
	if n%2 == 0 {
		x.warn("use an odd number, on as many machines", "arbiter has %d members: no more of them may be down than of %d", n, n-1)
	}
	for _, machine := range slices.Sorted(maps.Keys(on)) {
		if members := on[machine]; 2*members >= n && n > 2 {
			x.warn("move members to a third machine: none may have half of them", "%d of %d members of etcd are on %s: when that is down, nobody takes over", members, n, machine)
		}
	}
}

// machineOf is which machine has the addresses, in words.
func (x *examination) machineOf(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return ""
	}
	for _, a := range addrs {
		if a.IsLoopback() || x.Local.Snapshot != nil && x.Local.Snapshot.Holds(a) {
			return "this machine"
		}
		for _, p := range x.Local.Paths {
			if p.Address == a {
				return "the primary"
			}
		}
	}
	return addrs[0].String()
}

// mayWrite tries two compare-and-swaps: one on the cluster's key that must fail, at a
// revision that no key has, and one on a key of doctor's own.
func (x *examination) mayWrite(ctx context.Context, client *arbiter.Client, now arbiter.Entry) {
	const fix = "put nothing between etcd and this machine that changes requests"
	switch ok, _, err := client.Swap(ctx, x.set.Name, math.MaxInt64, now.Value); {
	case err != nil:
		x.fail(arbiterHint(err), "the key %s cannot be written: %v", arbiter.Key(x.set.Name), err)
		return
	case ok:
		x.fail(fix, "a write that etcd had to refuse was made: the revision of the key is not compared")
		return
	}
	for range 3 { // doctor of another machine may be at it
		e, err := client.Read(ctx, doctorKey)
		ok := false
		if err == nil {
			ok, _, err = client.Swap(ctx, doctorKey, e.Revision, arbiter.Value{})
		}
		if err != nil {
			x.fail(arbiterHint(err), "the key %s cannot be written: %v", arbiter.Key(doctorKey), err)
			return
		}
		if ok {
			x.good("this machine may write to etcd: a compare-and-swap was made, and one that had to be refused was")
			return
		}
	}
	x.fail(fix, "a write that etcd had to make was refused: %s", arbiter.Key(doctorKey))
}

// keyHolder is who holds the key.
func (x *examination) keyHolder(e arbiter.Entry) {
	key := arbiter.Key(x.set.Name)
	stack, err := x.env.Arbiter.Stack()
	ttl := config.DurationText(x.set.Arbiter.TTL)
	hostname, _ := os.Hostname()
	switch {
	case e.Absent:
		x.good("the key %s is absent: a takeover waits until it was so for %s", key, ttl)
	case e.Unknown != "":
		x.warn("find out what has written it: etcdctl get "+key, "the key %s: %s: it keeps all machines out for %s", key, e.Unknown, ttl)
	case e.Holder == "":
		x.good("the key %s is free", key)
	case err == nil && e.Stack == stack:
		x.good("the key %s is held by this machine", key)
	case e.Holder == hostname:
		x.warn("nothing if this machine has just booted; else give each machine a name of its own", "the key %s is held by %s, which is this machine before its last boot, or another one of that name", key, e.Holder)
	default:
		x.good("the key %s is held by %s: a takeover waits until it was not renewed for %s", key, e.Holder, config.DurationText(e.TTL))
	}
}

// lifetime gives an address on lo an end, and looks whether the kernel has it.
func (x *examination) lifetime(ctx context.Context) {
	tool, ok := x.env.Tool.(vip.Tool)
	if !ok || x.env.MayRaise() != nil || len(x.Refused) > 0 {
		return // which is reported
	}
	if err := tool.CanLease(); err != nil {
		x.fail("install iproute2, and set tool to ip", "the lifetime of an address cannot be set: %v", err)
		return
	}
	run := func(verb string, more ...string) error {
		argv := append([]string{tool.Path, "addr", verb, testAddress, "dev", "lo"}, more...)
		return proc.Run(ctx, proc.Command{Argv: argv, Timeout: 5 * time.Second}).Err
	}
	seconds := fmt.Sprint(int(testLease.Seconds()))
	err := run("add", "valid_lft", seconds, "preferred_lft", seconds)
	defer run("del")
	k, snapshotErr := vip.TakeSnapshot()
	if err = errors.Join(err, snapshotErr); err != nil {
		x.fail("find out why: holders need addresses that end", "no address with a lifetime can be added to lo: %v", err)
		return
	}
	link, _ := k.Link("lo")
	for _, a := range link.Addresses {
		if a.Prefix.String() == testAddress && a.Lease > 0 && a.Lease <= testLease {
			x.good("the kernel ends an address by itself: tried on lo with %s", testAddress)
			return
		}
	}
	x.fail("use the ip of iproute2", "the kernel does not show the lifetime of %s on lo that %s has set", testAddress, tool)
}

// pausedClock reports a clock that stands still while a virtual machine is paused:
// the kernel's lifetimes do too.
func (x *examination) pausedClock() {
	source, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	name := strings.TrimSpace(string(source))
	if err != nil || len(x.set.Hooks.PreTakeover) > 0 || !slices.ContainsFunc([]string{"kvm", "xen", "hyperv"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		return
	}
	x.warn("set pre-takeover to a command that cuts the other machine's power, or never pause one that holds",
		"clock source %s: this machine is virtual, and while one is paused its addresses do not end", name)
}
