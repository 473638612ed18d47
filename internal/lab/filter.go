package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule is one rule of a firewall: matches, and last the verdict, such as Drop.
type Rule []expr.Any

// Firewall replaces the rules of the host's own firewall at a hook, such as nftables.ChainHookInput. A power cut
// removes them. A packet socket on the host still receives what they drop.
func (h *Host) Firewall(hook *nftables.ChainHook, rules ...Rule) error {
	return h.err(h.keeper.filter(nftables.TableFamilyINet, fmt.Sprintf("hook%d", *hook), hook, rules))
}

// EchoRequest4 matches pings of IPv4.
func EchoRequest4() Rule { return echoRequest(unix.ETH_P_IP, unix.IPPROTO_ICMP, 8) }

// EchoRequest6 matches pings of IPv6.
func EchoRequest6() Rule { return echoRequest(unix.ETH_P_IPV6, unix.IPPROTO_ICMPV6, 128) }

func echoRequest(network uint16, transport, kind byte) Rule {
	return Rule{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(network)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{transport}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
	}
}

// NotFrom matches packets with another source than this. It follows a match of the address's family.
func NotFrom(a netip.Addr) Rule { return address(a, expr.CmpOpNeq, 12, 8) }

// To matches packets with this destination. It follows a match of the address's family.
func To(a netip.Addr) Rule { return address(a, expr.CmpOpEq, 16, 24) }

// address compares an address of the IP header, at its offset in IPv4 and in IPv6.
func address(a netip.Addr, op expr.CmpOp, offset4, offset6 uint32) Rule {
	offset := offset4
	if a.Is6() {
		offset = offset6
	}
	return Rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		&expr.Cmp{Op: op, Register: 1, Data: a.AsSlice()},
	}
}

// Drop drops what the rules before it match: Drop(EchoRequest4(), To(a)).
func Drop(matches ...Rule) Rule {
	return append(slices.Concat(matches...), &expr.Verdict{Kind: expr.VerdictDrop})
}

// percent matches so many of a hundred packets, at random.
func percent(n int) Rule {
	return Rule{
		&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4}, // compared as bytes
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(uint32(n))},
	}
}

// from and to match frames that enter or leave the switch at a port of the host.
func (h *Host) from() Rule { return h.ofPort(expr.MetaKeyIIFNAME) }
func (h *Host) to() Rule   { return h.ofPort(expr.MetaKeyOIFNAME) }

func (h *Host) ofPort(key expr.MetaKey) Rule {
	return Rule{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: fmt.Appendf(nil, "p%d-", h.number)}, // a prefix
	}
}

// filter replaces a table of rules in the keeper's network; without rules it is empty.
func (k *keeper) filter(family nftables.TableFamily, name string, hook *nftables.ChainHook, rules []Rule) error {
	return k.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Family: family, Name: name}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		c.AddTable(table)
		chain := c.AddChain(&nftables.Chain{
			Table: table, Name: "filter", Type: nftables.ChainTypeFilter,
			Hooknum: hook, Priority: nftables.ChainPriorityFilter,
		})
		for _, rule := range rules {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
		}
		return c.Flush()
	})
}

// flush removes all rules, where the kernel has a firewall.
func (k *keeper) flush() error {
	return k.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.FlushRuleset()
		err = c.Flush()
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) { // without CONFIG_NF_TABLES
			return nil
		}
		return err
	})
}
