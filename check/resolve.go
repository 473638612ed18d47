package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Resolve finds the addresses of host, of which there is at least one: IPv4
// addresses come first, and each comes once. An address is returned as it is, with
// its zone. A name is looked up in the hosts file and the DNS, for at most timeout.
func Resolve(ctx context.Context, host string, timeout time.Duration) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Go's own resolver honours the context and is the same in every build.
	resolver := net.Resolver{PreferGo: true}
	found, err := resolver.LookupIPAddr(limited, host) // LookupNetIP would lose the zones
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("resolve %q: %w", host, ctx.Err())
	case limited.Err() != nil:
		return nil, fmt.Errorf("resolve %q: no answer from the name servers within %s", host, timeout)
	default:
		return nil, fmt.Errorf("resolve %q: %s", host, lookupReason(err))
	}
	var addrs []netip.Addr
	for _, f := range found {
		a, ok := netip.AddrFromSlice(f.IP)
		if a = a.Unmap().WithZone(f.Zone); ok && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs, nil
}

// lookupReason leaves out the name, which the message has already, and our own
// port, which changes each time; it keeps the name server, the one to check.
func lookupReason(err error) string {
	var dns *net.DNSError
	switch {
	case !errors.As(err, &dns):
		return err.Error()
	case dns.Server == "":
		return dns.Err
	default:
		why := dns.Err[strings.LastIndex(dns.Err, ": ")+1:]
		return fmt.Sprintf("%s (name server %s)", strings.TrimSpace(why), dns.Server)
	}
}
