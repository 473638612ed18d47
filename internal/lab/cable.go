package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// PowerOff is a power cut: the host is off the network at once, all its processes are killed,
// and addresses, routes and firewall rules are gone, as are the files in /run. Those in /etc and /var/lib stay.
func (h *Host) PowerOff() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return nil
	}
	h.on = false
	var lines []string
	for nic := range h.nics {
		lines = append(lines, "link del "+h.port(nic)) // with it goes the other end, and all that hangs on it
	}
	if err := h.lab.bridge.ip(lines...); err != nil {
		return h.err(err)
	}
	if err := h.keeper.sweep(); err != nil {
		return h.err(err)
	}
	if err := h.keeper.flush(); err != nil {
		return h.err(err)
	}
	_, err := h.keeper.run(nil, "find", "/run", "-mindepth", "1", "-delete")
	return h.err(err)
}

// PowerOn brings a host up as Add did: plugged in, with those addresses and the routes of Usual, and with a new
// boot id.
func (h *Host) PowerOn() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on {
		return nil
	}
	if err := h.SetBootID(newBootID()); err != nil {
		return err
	}
	var cables []string
	lines := []string{"link set lo up"}
	for nic := range h.nics {
		cables = append(cables, h.cable(nic)...)
		lines = append(lines, fmt.Sprintf("link set eth%d up", nic))
	}
	for _, a := range h.addrs {
		lines = append(lines, fmt.Sprintf("addr add %s dev eth0", a))
	}
	if err := h.lab.bridge.ip(cables...); err != nil {
		return h.err(err)
	}
	if err := h.keeper.ip(append(lines, h.routes...)...); err != nil {
		return h.err(err)
	}
	h.on = true
	for nic := range h.nics {
		if err := h.await(nic, true); err != nil {
			return err
		}
	}
	return h.settle()
}

// settle waits until no IPv6 address is tentative: without duplicate address detection too they are so for some ms,
// and solicitations for them are ignored. Those that another machine has stay so.
func (h *Host) settle() error {
	tentative := func(a netlink.Addr) bool {
		return a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == unix.IFA_F_TENTATIVE
	}
	for range 500 {
		var addrs []netlink.Addr
		err := h.keeper.do(func() (err error) {
			addrs, err = netlink.AddrList(nil, unix.AF_INET6)
			return err
		})
		if err == nil && !slices.ContainsFunc(addrs, tentative) || err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return h.err(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return h.err(errors.New("an IPv6 address stays tentative"))
}

// PortOf is the host at whose port the switch has learned a hardware address: there it sends what is for it. While
// the switch has not learned it, PortOf is nil, and frames to it go to every port.
func (l *Lab) PortOf(mac net.HardwareAddr) (h *Host, err error) {
	err = l.bridge.do(func() error {
		learned, err := netlink.NeighList(0, unix.AF_BRIDGE)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(learned, func(n netlink.Neigh) bool {
			return n.State&netlink.NUD_PERMANENT == 0 && bytes.Equal(n.HardwareAddr, mac) // the ports' own are permanent
		})
		if i < 0 {
			return nil
		}
		port, err := net.InterfaceByIndex(learned[i].LinkIndex)
		if err != nil {
			return err
		}
		h = l.at(port.Name)
		return nil
	})
	return h, err
}

// at is the host whose cable is in a port.
func (l *Lab) at(port string) *Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.hosts {
		for nic := range h.nics {
			if h.port(nic) == port {
				return h
			}
		}
	}
	return nil
}

// cable is what the switch runs to lay a cable from a new port to a new interface of the host.
func (h *Host) cable(nic int) []string {
	port := h.port(nic)
	return []string{
		fmt.Sprintf("link add %s type veth peer name eth%d address %s netns %d", port, nic, h.mac(nic), h.keeper.cmd.Process.Pid),
		fmt.Sprintf("link set %s up master br0", port),
	}
}

// port is the name of the switch's end of the cable.
func (h *Host) port(nic int) string { return fmt.Sprintf("p%d-%d", h.number, nic) }

// NIC adds a further interface on the same switch, up, with no address of its own but a link-local one.
func (h *Host) NIC() (name string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return "", h.off()
	}
	nic := h.nics
	h.nics++
	name = fmt.Sprintf("eth%d", nic)
	if err := h.lab.bridge.ip(h.cable(nic)...); err != nil {
		return "", h.err(err)
	}
	if err := h.keeper.ip("link set " + name + " up"); err != nil {
		return "", h.err(err)
	}
	return name, h.await(nic, true)
}

// Unplug takes the host off the switch. With carrier true its interfaces do not notice (a fault beyond the port);
// else they lose the carrier (a pulled cable).
func (h *Host) Unplug(carrier bool) error {
	if carrier {
		return h.ports("up nomaster", true)
	}
	return h.ports("down", false)
}

// SuppressARP makes the switch pass no ARP probes and announcements on to the host, as the ports of an EVPN fabric do
// (neigh_suppress in bridge(8)).
func (h *Host) SuppressARP() error { return h.ports("type bridge_slave neigh_suppress on", true) }

// Plug undoes Unplug.
func (h *Host) Plug() error { return h.ports("up master br0", true) }

// ports changes the state of the host's ports and waits until the host has noticed.
func (h *Host) ports(state string, carrier bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		return h.off()
	}
	var lines []string
	for nic := range h.nics {
		lines = append(lines, fmt.Sprintf("link set %s %s", h.port(nic), state))
	}
	if err := h.lab.bridge.ip(lines...); err != nil {
		return h.err(err)
	}
	for nic := range h.nics {
		if err := h.await(nic, carrier); err != nil {
			return err
		}
	}
	return nil
}

// await waits until both ends of a cable have the carrier that is wanted: the kernel may take a second over it.
func (h *Host) await(nic int, carrier bool) error {
	eth := fmt.Sprintf("eth%d", nic)
	return h.err(errors.Join(h.keeper.await(eth, carrier), h.lab.bridge.await(h.port(nic), carrier)))
}

func (k *keeper) await(name string, carrier bool) error {
	return k.do(func() error {
		for range 1000 {
			link, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			if link.Flags&net.FlagRunning != 0 == carrier {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
		return fmt.Errorf("%s: the carrier did not change in 5s", name)
	})
}
