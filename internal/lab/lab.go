// Package lab makes hosts, a switch and their cables out of network namespaces, for the tests and the demo. Every
// host has its own network, host name, /etc, /run and /var/lib. Nothing has a name outside its namespace, so any
// number of labs with the same addresses run side by side. Each namespace is held by a child that ends with this
// process, so nothing is left even after a kill -9.
//
// It needs Linux and the program ip (iproute2), besides what every Debian system has: nsenter, mount, hostname. It needs
// root, or Enter where the kernel lets users make namespaces.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Lab is one switch and the hosts on it.
type Lab struct {
	// The hosts of Usual; nil without it.
	Client, Primary, Standby, Second, Gateway *Host

	bridge *keeper

	mu     sync.Mutex
	hosts  []*Host
	closed bool
}

// New makes a lab with an empty switch: it forwards at once (no spanning tree), floods multicast, and has no
// address itself. Close it when done.
func New() (*Lab, error) {
	bridge, err := keep(switchSetup)
	if err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	return &Lab{bridge: bridge}, nil
}

// A port is out of the bridge for a moment, or while its cable is pulled: without IPv6 the switch stays mute then.
const switchSetup = `
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link add br0 up type bridge stp_state 0 forward_delay 0 mcast_snooping 0
`

// Close ends every process that runs in the lab and every Trace, and frees the namespaces. Sockets that a caller
// opened with Host.Do are the caller's to close. Closing twice does no harm.
func (l *Lab) Close() error {
	l.mu.Lock()
	hosts, closed := l.hosts, l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(append(errs, l.bridge.close())...)
}

// Add puts a host on the switch. Its eth0 has the addresses given ("172.16.0.2/16", "2001:db8::2/64"), in that
// order, and the hardware address 02:00:00:00:00:NN, where NN counts the hosts in order of adding. It has carrier
// and can be used when Add returns. Its kernel settings are the kernel's defaults, whatever those of this machine
// are, but duplicate address detection and router advertisements are off.
func (l *Lab) Add(name string, addrs ...string) (*Host, error) { return l.add(name, nil, addrs) }

// add is Add with routes, as lines for ip.
func (l *Lab) add(name string, routes, addrs []string) (*Host, error) {
	h := &Host{lab: l, name: name, routes: routes}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a)
		if err != nil {
			return nil, fmt.Errorf("host %s: address %q: not of the form 172.16.0.2/16", name, a)
		}
		h.addrs = append(h.addrs, prefix)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("host %s: the lab is closed", name)
	}
	keeper, err := keep(hostSetup, name)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	h.keeper = keeper
	l.hosts = append(l.hosts, h)
	h.number = len(l.hosts)
	h.nics = 1
	if err := h.SetUptime(24 * time.Hour); err != nil {
		return nil, err
	}
	return h, h.PowerOn()
}

// Usual adds the hosts that most scenes need: Client 172.16.0.9/16, Primary 172.16.0.2 with the virtual IP
// 172.16.0.1/32, Standby .3, Second .4 and Gateway .254, each also at 2001:db8::N/64 (the virtual IP is
// 2001:db8::1/128). The gateway is the others' default route.
func (l *Lab) Usual() error {
	for _, u := range []struct {
		host  **Host
		name  string
		addrs string
	}{
		{&l.Client, "client", "172.16.0.9/16 2001:db8::9/64"},
		{&l.Primary, "primary", "172.16.0.2/16 2001:db8::2/64 172.16.0.1/32 2001:db8::1/128"},
		{&l.Standby, "standby", "172.16.0.3/16 2001:db8::3/64"},
		{&l.Second, "second", "172.16.0.4/16 2001:db8::4/64"},
		{&l.Gateway, "gateway", "172.16.0.254/16 2001:db8::254/64"},
	} {
		routes := []string{"route add default via 172.16.0.254", "route add default via 2001:db8::254"}
		if u.host == &l.Gateway {
			routes = nil
		}
		h, err := l.add(u.name, routes, strings.Fields(u.addrs))
		if err != nil {
			return err
		}
		*u.host = h
	}
	return nil
}
