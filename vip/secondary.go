package vip

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pingover/internal/proc"
)

// The first IPv4 address of a network on an interface is its primary one, the others are secondary.
// When the primary one is removed, the kernel removes the secondary ones too, the host's own address
// among them, unless promote_secondaries is on for the interface or for all; by default it is off.

// dependents are the addresses that the kernel would remove with p.
func (k *Snapshot) dependents(p Assignment) []netip.Prefix {
	l, _ := k.Link(p.Interface)
	var with []netip.Prefix
	for _, a := range l.Addresses {
		if a.Secondary && !p.Address.Secondary && a.network() == p.Address.network() {
			with = append(with, a.Prefix)
		}
	}
	return with
}

// promotes reports whether the kernel makes a secondary address primary instead of removing it.
func promotes(link string) bool {
	return sysctlOn("ipv4", "all", "promote_secondaries") || sysctlOn("ipv4", link, "promote_secondaries")
}

// promote switches that, and reports it as the command that an operator would run.
func promote(link, value string) proc.Result {
	begin := time.Now()
	r := proc.Result{Argv: promoteCommand(link, value)}
	if r.Err = os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", link, "promote_secondaries"), []byte(value+"\n"), 0); r.Err != nil {
		r.Code = -1
	}
	r.Duration = time.Since(begin)
	return r
}

// promoteCommand writes the dots of a name like eth0.100 as slashes, as sysctl(8) wants them.
func promoteCommand(link, value string) []string {
	return []string{"sysctl", "-w", "net.ipv4.conf." + strings.ReplaceAll(link, ".", "/") + ".promote_secondaries=" + value}
}
