package vip

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Where frames do not reach an ordinary packet socket.

// nft's netdev ingress hook drops frames before the protocols receive them.
func TestHolderRepliesThroughNftRules(t *testing.T) {
	t.Parallel()
	l := usual(t)
	must(t, l.Standby.Do(func() error {
		var c nftables.Conn
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "filter"})
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "ingress", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityFilter, Device: "eth0",
		})
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
		return c.Flush()
	}))
	w := listenOn(t, l.Standby, "eth0", vip4, vip6)
	must(t, w.Ask(vip4, ours4))
	must(t, w.Ask(vip6, ours6))
	for _, r := range await(t, w, 2) {
		if r.MAC.String() != l.Primary.MAC().String() {
			t.Errorf("%s replies for %s, want %s", r.MAC, r.Address, l.Primary.MAC())
		}
	}
}

// A bridge takes the frames of its ports. An address that was assigned before
// stays on the port, and another machine may have it as well.
func TestHolderRepliesWhereTheInterfaceHasBecomeAPort(t *testing.T) {
	t.Parallel()
	l := usual(t)
	for _, line := range []string{
		"ip link add br9 address " + l.Standby.MAC().String() + " type bridge forward_delay 0 mcast_snooping 0",
		"ip addr flush dev eth0", "ip link set eth0 master br9", "ip link set br9 up",
		"ip addr add " + ours4.String() + "/16 dev br9", "ip addr add " + ours6.String() + "/64 dev br9 nodad",
	} {
		run(t, l.Standby, line)
	}
	targets := []Target{{"eth0", vip4}, {"eth0", vip6}}
	a := Asker{
		Targets: targets, VIPs: []netip.Addr{vip4, vip6},
		Listen: func(l Link, own func(Reply) bool, addrs ...netip.Addr) (Conn, error) { return Open(l, own, addrs...) },
	}
	defer a.Close()
	must(t, l.Standby.Do(func() error {
		k, err := TakeSnapshot()
		if err != nil {
			return err
		}
		a.Open(k)
		if err := a.OpenErr(); err != nil {
			return err
		}
		for _, target := range targets {
			if a.NeedsProbe(k, target) {
				t.Errorf("%s: no request can be sent from this machine's own address", target.Address)
			}
			if err := a.Ask(k, target, false); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, target := range targets {
		claimed := func() bool { return len(a.Claims(target, time.Time{})) > 0 }
		if !a.Wait(context.Background(), patience, claimed) {
			t.Errorf("nobody replies for %s", target.Address)
			continue
		}
		if got := a.Claims(target, time.Time{})[0].MAC.String(); got != l.Primary.MAC().String() {
			t.Errorf("%s replies for %s, want %s", got, target.Address, l.Primary.MAC())
		}
	}
}
