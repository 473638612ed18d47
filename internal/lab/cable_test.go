package lab

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

func carrier(t *testing.T, h *Host, name string) bool {
	t.Helper()
	var up bool
	ok(t, h.Do(func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			up = link.Flags&net.FlagRunning != 0
		}
		return err
	}))
	return up
}

func TestUnpluggedHostIsSilent(t *testing.T) {
	t.Parallel()
	for name, keeps := range map[string]bool{"carrier stays": true, "carrier goes": false} {
		t.Run(name, func(t *testing.T) {
			l := needLab(t)
			for range 2 {
				ok(t, l.Primary.Unplug(keeps))
				if got := carrier(t, l.Primary, "eth0"); got != keeps {
					t.Errorf("carrier is %t", got)
				}
				wantSilence(t, l.Client, "172.16.0.1")
				wantSilence(t, l.Client, "2001:db8::1")
				ok(t, l.Primary.Plug())
				if !carrier(t, l.Primary, "eth0") {
					t.Error("no carrier though it is plugged in")
				}
				wantAnswer(t, l.Client, "172.16.0.1")
				wantAnswer(t, l.Client, "2001:db8::1")
			}
			ok(t, l.Primary.Unplug(false))
			ok(t, l.Primary.Unplug(true))
			if !carrier(t, l.Primary, "eth0") {
				t.Error("no carrier after the second kind of unplugging")
			}
		})
	}
}

func TestSwitchLearnsWhoIsWhere(t *testing.T) {
	l := needLab(t)
	behind := func(mac net.HardwareAddr) *Host {
		t.Helper()
		h, err := l.PortOf(mac)
		ok(t, err)
		return h
	}
	_, err := l.Primary.NIC()
	ok(t, err)
	wantAnswer(t, l.Client, "172.16.0.1")
	if h := behind(l.Primary.MAC()); h != l.Primary {
		t.Errorf("the primary is behind %v", h)
	}
	absent := net.HardwareAddr{2, 0, 0, 0, 0, 99}
	if h := behind(absent); h != nil {
		t.Errorf("a MAC that no host has is at the port of %s", h.Name())
	}
	// A frame is where its source is, whichever host sent it; the primary itself is silent.
	ok(t, l.Primary.Unplug(true))
	run(t, l.Second, "ip", "link", "set", "eth0", "address", l.Primary.MAC().String())
	wantAnswer(t, l.Second, "172.16.0.254")
	if h := behind(l.Primary.MAC()); h != l.Second {
		t.Errorf("the primary's address was used by the second standby, and is behind %v", h)
	}
}

// What a daemon of a daemon does to get away from its parents does not help it.
const daemon = "setsid sh -c 'setsid sleep 1000 & echo $! >/var/lib/pingover/pid; wait' >/dev/null 2>&1 & sleep 0.1"

func TestPowerCut(t *testing.T) {
	l := needLab(t)
	h := l.Primary
	boot := run(t, h, "cat", "/proc/sys/kernel/random/boot_id")
	fresh := run(t, h, "ip", "-br", "addr", "show", "eth0") + run(t, h, "ip", "route") + run(t, h, "ip", "-6", "route")
	run(t, h, "sh", "-c", daemon)
	pid := run(t, h, "cat", "/var/lib/pingover/pid")
	run(t, h, "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0", "label", "eth0:1")
	run(t, h, "ip", "route", "add", "198.51.100.0/24", "via", "172.16.0.254")
	run(t, h, "sh", "-c", "echo file >/run/file; echo file >/run/.file")
	cmd := h.Command(t.Context(), "sleep", "1000")
	ok(t, cmd.Start())

	for range 2 {
		ok(t, h.PowerOff())
	}
	if alive(pid) {
		t.Fatal("the daemon runs on")
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the command ended with %v", err)
	}
	wantSilence(t, l.Client, "172.16.0.1")
	_, err := h.Run("true")
	wantError(t, err, "host primary: true: host primary: its power is off: ")
	wantError(t, h.Unplug(true), "host primary: its power is off")
	_, err = h.NIC()
	wantError(t, err, "host primary: its power is off")

	for range 2 {
		ok(t, h.PowerOn())
	}
	for _, addr := range []string{"172.16.0.1", "172.16.0.2", "2001:db8::1", "2001:db8::2"} {
		wantAnswer(t, l.Client, addr)
	}
	again := run(t, h, "ip", "-br", "addr", "show", "eth0") + run(t, h, "ip", "route") + run(t, h, "ip", "-6", "route")
	trim := func(s string) string { _, rest, _ := strings.Cut(s, " "); return rest } // eth0@if7
	if trim(again) != trim(fresh) {
		t.Errorf("addresses and routes are\n%s\nand were\n%s", again, fresh)
	}
	if got := run(t, h, "cat", "/var/lib/pingover/pid"); got != pid {
		t.Errorf("the disk says %q, want %q", got, pid)
	}
	if got := run(t, h, "ls", "-A", "/run"); got != "" {
		t.Errorf("in /run there is %q", got)
	}
	if got := run(t, h, "cat", "/proc/sys/kernel/random/boot_id"); got == boot || len(got) != 36 {
		t.Errorf("boot id %q, was %q", got, boot)
	}
}

func TestSecondInterface(t *testing.T) {
	l := needLab(t)
	name, err := l.Standby.NIC()
	ok(t, err)
	if name != "eth1" || !carrier(t, l.Standby, "eth1") {
		t.Errorf("got %q, carrier %t", name, carrier(t, l.Standby, "eth1"))
	}
	if got := run(t, l.Standby, "ip", "link", "show", "eth1"); !strings.Contains(got, "02:00:00:00:01:03") {
		t.Errorf("eth1 is %s", got)
	}
	run(t, l.Standby, "ip", "addr", "add", "192.0.2.3/24", "dev", "eth1")
	run(t, l.Client, "ip", "addr", "add", "192.0.2.9/24", "dev", "eth0")
	wantAnswer(t, l.Client, "192.0.2.3")
	ok(t, l.Standby.Unplug(false))
	if carrier(t, l.Standby, "eth1") {
		t.Error("eth1 has carrier though all cables are pulled")
	}
	ok(t, l.Standby.PowerOff())
	ok(t, l.Standby.PowerOn())
	if !carrier(t, l.Standby, "eth1") {
		t.Error("eth1 has no carrier after a power cut")
	}
}

func TestFilteredHostAnswersOnlyARPAndND(t *testing.T) {
	l := needLab(t)
	ok(t, l.Primary.FilterICMP(true))
	for _, addr := range []string{"172.16.0.1", "2001:db8::1"} {
		wantSilence(t, l.Client, addr)
		if got := run(t, l.Client, "ip", "neigh", "show", addr); !strings.Contains(got, "lladdr 02:00:00:00:00:02") {
			t.Errorf("neighbour entry %q: it does not answer questions for its address", got)
		}
	}
	wantAnswer(t, l.Primary, "172.16.0.9")
	wantAnswer(t, l.Client, "172.16.0.3")
	ok(t, l.Primary.FilterICMP(false))
	wantAnswer(t, l.Client, "172.16.0.1")
	wantAnswer(t, l.Client, "2001:db8::1")
}

// arrive sends so many ARP requests from the client and returns how many a socket on the primary sees that hears
// everything, as tcpdump does.
func arrive(t *testing.T, l *Lab, count int) int {
	t.Helper()
	open := func(h *Host) (fd int, to *unix.SockaddrLinklayer) {
		ok(t, h.Do(func() (err error) {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			to = &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: 0x0300, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}} // ETH_P_ALL
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300); err != nil {
				return err
			}
			return unix.Bind(fd, to)
		}))
		return fd, to
	}
	in, _ := open(l.Primary)
	defer unix.Close(in)
	out, to := open(l.Client)
	defer unix.Close(out)
	frame := append(bytes.Repeat([]byte{255}, 6), l.Client.MAC()...)
	frame = append(frame, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1) // RFC 826: a request
	frame = append(frame, l.Client.MAC()...)
	frame = append(frame, 172, 16, 0, 9, 0, 0, 0, 0, 0, 0, 172, 16, 0, 99)
	for range count {
		ok(t, unix.Sendto(out, frame, 0, to))
	}
	time.Sleep(100 * time.Millisecond)
	seen := 0
	buf := make([]byte, 1500)
	for {
		n, _, err := unix.Recvfrom(in, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return seen
		}
		if bytes.Equal(buf[:n], frame) {
			seen++
		}
	}
}

func TestLossTakesPingsAndARP(t *testing.T) {
	l := needLab(t)
	for _, tt := range []struct{ percent, least, most int }{{0, 200, 200}, {50, 60, 140}, {100, 0, 0}, {0, 200, 200}} {
		ok(t, l.Primary.Lose(tt.percent))
		if got := arrive(t, l, 200); got < tt.least || got > tt.most {
			t.Errorf("at %d %% loss %d of 200 ARP requests arrived", tt.percent, got)
		}
	}
	// The client knows its neighbour, so that only pings count.
	run(t, l.Client, "ip", "neigh", "replace", "172.16.0.1", "lladdr", l.Primary.MAC().String(), "dev", "eth0", "nud", "permanent")
	run(t, l.Primary, "ip", "neigh", "replace", "172.16.0.9", "lladdr", l.Client.MAC().String(), "dev", "eth0", "nud", "permanent")
	ok(t, l.Primary.Lose(50))
	ok(t, l.Second.Lose(10)) // another host's loss is another table
	trace, err := l.Client.Watch(l.Primary.Addr4().Prev(), time.Millisecond)
	ok(t, err)
	for len(trace.Samples()) < 200 {
		time.Sleep(10 * time.Millisecond)
	}
	answered := 0
	samples := trace.Stop()
	for _, b := range samples {
		if b.OK {
			answered++
		}
	}
	if share := answered * 100 / len(samples); share < 30 || share > 70 {
		t.Errorf("%d %% of %d pings answered at 50 %% loss", share, len(samples))
	}
}

func TestPartedHostsHearAllButEachOther(t *testing.T) {
	l := needLab(t)
	ok(t, l.Part(l.Primary, l.Standby))
	wantSilence(t, l.Standby, "172.16.0.2")
	wantSilence(t, l.Primary, "172.16.0.3")
	for _, h := range []*Host{l.Primary, l.Standby} {
		wantAnswer(t, l.Client, h.Addr4().String())
		wantAnswer(t, h, "172.16.0.254")
	}
	ok(t, l.Rejoin(l.Standby, l.Primary))
	wantAnswer(t, l.Standby, "172.16.0.2")
}

func TestFirewallOfAHostEndsWithAPowerCut(t *testing.T) {
	l := needLab(t)
	for range 2 {
		ok(t, l.Primary.Firewall(nftables.ChainHookInput,
			Drop(EchoRequest4(), To(l.Primary.Addr4())), Drop(EchoRequest6(), NotFrom(l.Standby.Addr6()))))
	}
	wantSilence(t, l.Client, "172.16.0.2")
	wantAnswer(t, l.Client, "172.16.0.1")
	wantSilence(t, l.Client, "2001:db8::2")
	wantAnswer(t, l.Standby, "2001:db8::2")
	ok(t, l.Primary.PowerOff())
	ok(t, l.Primary.PowerOn())
	wantAnswer(t, l.Client, "172.16.0.2")
	wantAnswer(t, l.Client, "2001:db8::2")
}
