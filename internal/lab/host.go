package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Host is one machine of the lab.
type Host struct {
	lab    *Lab
	name   string
	number int // 1, 2, … in order of adding
	keeper *keeper
	addrs  []netip.Prefix

	mu     sync.Mutex
	on     bool
	nics   int
	routes []string // lines for ip
	lose   int
	mute   bool
	filter bool
	traces []*Trace
}

// What is writable in a host is writable for that host alone. Its disk is in memory, in /var/lib/lab.
const hostSetup = `
mount -t tmpfs -o mode=0755 lab /run
mount -t tmpfs -o mode=0755 lab /var/lib
mkdir /var/lib/pingover /var/lib/lab /var/lib/lab/etc /var/lib/lab/work
mount -t overlay -o lowerdir=/etc,upperdir=/var/lib/lab/etc,workdir=/var/lib/lab/work lab /etc
: >/var/lib/lab/uptime
mount --bind /var/lib/lab/uptime /proc/uptime
: >/var/lib/lab/boot_id
mount --bind /var/lib/lab/boot_id /proc/sys/kernel/random/boot_id

# What runs here does not write to the machine's log.
[ ! -S /dev/log ] || mount --bind /dev/null /dev/log

rm -f /etc/hosts /etc/resolv.conf /etc/hostname /etc/pingover.yaml
printf '%s\n' '127.0.0.1 localhost' "127.0.1.1 $1" '::1 localhost ip6-localhost' >/etc/hosts
: >/etc/resolv.conf
echo "$1" >/etc/hostname
hostname "$1"

cd /proc/sys/net
echo 0 >ipv6/conf/default/accept_dad
echo 0 >ipv6/conf/default/accept_ra
echo 0 >ipv6/conf/default/autoconf
for c in all default; do
	for s in rp_filter promote_secondaries arp_ignore arp_announce arp_notify arp_filter; do
		echo 0 >ipv4/conf/$c/$s
	done
done
cd /
`

// Name is the host's name, as given to Add.
func (h *Host) Name() string { return h.name }

// MAC is the hardware address of eth0.
func (h *Host) MAC() net.HardwareAddr { return h.mac(0) }

// mac numbers the hosts in the last byte and their interfaces in the one before.
func (h *Host) mac(nic int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, byte(nic), byte(h.number)}
}

// Addr4 is the first IPv4 address given to Add, the zero Addr if there was none.
func (h *Host) Addr4() netip.Addr { return h.first(netip.Addr.Is4) }

// Addr6 is the first IPv6 address given to Add, the zero Addr if there was none.
func (h *Host) Addr6() netip.Addr { return h.first(netip.Addr.Is6) }

func (h *Host) first(family func(netip.Addr) bool) netip.Addr {
	for _, p := range h.addrs {
		if family(p.Addr()) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// Command is a command that will run on the host: with its network, mounts and host name, in this process's own
// working directory or cmd.Dir, and with PATH extended by the sbin folders. The process started is argv itself.
// It is killed when the host's power goes off, when the lab is closed, and when this process ends, whatever it
// may have forked. argv[0] is looked for in the PATH of cmd.Env.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := h.keeper.command(ctx, argv...)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.on {
		cmd.Err = h.off()
	}
	return cmd
}

// Run runs a command on the host and returns what it printed on stdout and stderr. The error says the argv, how
// it ended and that output. It has a minute.
func (h *Host) Run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := output(h.Command(ctx, argv...), argv)
	return out, h.err(err)
}

// err says on which host it was.
func (h *Host) err(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("host %s: %w", h.name, err)
}

func (h *Host) off() error { return h.err(errors.New("its power is off")) }

// Do calls f on a thread that is in the host's network namespace. Sockets that f opens stay in there and
// may be used by any goroutine. Goroutines that f starts are not in there, and files and the host name are those of
// this process.
func (h *Host) Do(f func() error) error {
	h.mu.Lock()
	on := h.on
	h.mu.Unlock()
	if !on {
		return h.off()
	}
	return h.keeper.do(f)
}

// SetUptime writes /proc/uptime as the host sees it: it has been up this long, and the number does not grow.
// A host starts with a day. A power cut does not change it.
func (h *Host) SetUptime(d time.Duration) error {
	return h.write("/proc/uptime", fmt.Sprintf("%.2f %.2f\n", d.Seconds(), d.Seconds()))
}

// SetBootID writes /proc/sys/kernel/random/boot_id as the host sees it. Every host has its own, and another one
// after each PowerOn.
func (h *Host) SetBootID(id string) error {
	return h.write("/proc/sys/kernel/random/boot_id", id+"\n")
}

// Path is where a file of the host is found from outside, by this process and on every other host; on the host itself
// too. It ends with the lab.
func (h *Host) Path(name string) string { return h.keeper.path(name) }

// write replaces the content of a file that is mounted over one of the kernel's. Truncated last, so that a reader
// never finds it empty.
func (h *Host) write(name, text string) error {
	f, err := os.OpenFile(h.keeper.path(name), os.O_WRONLY, 0)
	if err != nil {
		return h.err(err)
	}
	_, err = f.WriteString(text)
	return h.err(errors.Join(err, f.Truncate(int64(len(text))), f.Close()))
}

func newBootID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// AllowPing sets net.ipv4.ping_group_range so that every user of the host may open unprivileged ICMP sockets. The
// kernel's default, which a host has, allows it to no user, root included.
func (h *Host) AllowPing() error {
	if h.Sysctl("ipv4/ping_group_range", "0 2147483647") == nil {
		return nil
	}
	return h.Sysctl("ipv4/ping_group_range", "0 0") // without root there is one group only
}

// Sysctl sets a kernel parameter of the host's network, by its path: ipv4/conf/eth0/promote_secondaries.
func (h *Host) Sysctl(path, value string) error {
	return h.Do(func() error { return h.err(os.WriteFile("/proc/sys/net/"+path, []byte(value), 0)) })
}

func (h *Host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on = false
	for _, t := range h.traces {
		t.Stop()
	}
	return h.err(h.keeper.close())
}
