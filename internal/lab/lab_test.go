package lab

import (
	"context"
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/icmp"
)

func TestMain(m *testing.M) {
	inside, code, err := Enter()
	if err == nil && !inside {
		os.Exit(code)
	}
	if part := os.Getenv("PINGOVER_LAB_TEST_PART"); part != "" {
		os.Exit(play(part))
	}
	flag.Set("test.parallel", "8") // these tests mostly wait; a flag of the command line overrides it
	os.Exit(m.Run())               // where Enter was refused, each test says why it cannot run
}

// needLab makes a lab with the usual hosts.
func needLab(t *testing.T) *Lab {
	t.Helper()
	t.Parallel()
	l := ForTest(t)
	ok(t, l.Usual())
	return l
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, h *Host, argv ...string) string {
	t.Helper()
	out, err := h.Run(argv...)
	ok(t, err)
	return strings.TrimSpace(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	ok(t, err)
	return string(text)
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// wantAnswer gives the address five seconds to answer a ping.
func wantAnswer(t *testing.T, from *Host, addr string) {
	t.Helper()
	if err := from.Ping(netip.MustParseAddr(addr), 5*time.Second); err != nil {
		t.Error(err)
	}
}

// wantSilence pings for a moment; an answer takes less than a millisecond otherwise.
func wantSilence(t *testing.T, from *Host, addr string) {
	t.Helper()
	if from.Ping(netip.MustParseAddr(addr), 200*time.Millisecond) == nil {
		t.Errorf("%s answers %s", addr, from.Name())
	}
}

func TestUsualHostsReachEachOther(t *testing.T) {
	l := needLab(t)
	for _, addr := range []string{
		"172.16.0.1", "172.16.0.2", "172.16.0.3", "172.16.0.4", "172.16.0.254",
		"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::254",
		"fe80::ff:fe00:3%eth0",
	} {
		wantAnswer(t, l.Client, addr)
	}
	got := []string{l.Standby.Name(), l.Standby.MAC().String(), l.Standby.Addr4().String(), l.Standby.Addr6().String()}
	want := []string{"standby", "02:00:00:00:00:03", "172.16.0.3", "2001:db8::3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("standby (-want +got):\n%s", diff)
	}
}

func TestDefaultRoutesUseTheGateway(t *testing.T) {
	l := needLab(t)
	for _, h := range []*Host{l.Client, l.Primary, l.Standby, l.Second} {
		got := run(t, h, "ip", "route", "get", "192.0.2.1") + run(t, h, "ip", "route", "get", "2001:db8:1::1")
		for _, via := range []string{"via 172.16.0.254 dev eth0", "via 2001:db8::254 dev eth0"} {
			if !strings.Contains(got, via) {
				t.Errorf("%s: route %q, want %q", h.Name(), got, via)
			}
		}
	}
}

func TestHostsHaveTheirOwnFiles(t *testing.T) {
	l := needLab(t)
	before := read(t, "/etc/hosts")
	for _, h := range []*Host{l.Primary, l.Standby} {
		run(t, h, "sh", "-c", `echo "192.0.2.1 pair.test # $(hostname)" >>/etc/hosts
			hostname >/etc/pingover.yaml; hostname >/run/file; hostname >/var/lib/pingover/file`)
	}
	for _, h := range []*Host{l.Primary, l.Standby} {
		got := run(t, h, "cat", "/etc/pingover.yaml", "/run/file", "/var/lib/pingover/file", "/etc/hostname")
		want := strings.TrimSuffix(strings.Repeat(h.Name()+"\n", 4), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("files of %s (-want +got):\n%s", h.Name(), diff)
		}
		wantHosts := "127.0.0.1 localhost\n127.0.1.1 " + h.Name() + "\n::1 localhost ip6-localhost\n192.0.2.1 pair.test # " + h.Name()
		if diff := cmp.Diff(wantHosts, run(t, h, "cat", "/etc/hosts")); diff != "" {
			t.Errorf("/etc/hosts of %s (-want +got):\n%s", h.Name(), diff)
		}
		if got := run(t, h, "cat", "/etc/resolv.conf"); got != "" {
			t.Errorf("/etc/resolv.conf of %s says %q", h.Name(), got)
		}
		if got := run(t, h, "getent", "hosts", "pair.test"); !strings.HasPrefix(got, "192.0.2.1") {
			t.Errorf("pair.test is %q on %s", got, h.Name())
		}
	}
	if got := read(t, "/etc/hosts"); got != before {
		t.Errorf("this machine's /etc/hosts became %q", got)
	}
	if _, err := os.Stat("/run/file"); err == nil {
		t.Error("/run/file is on this machine")
	}
}

func TestUptimeAndBootIDAreTheHosts(t *testing.T) {
	l := needLab(t)
	ours := read(t, "/proc/sys/kernel/random/boot_id") + read(t, "/proc/stat")
	if got := run(t, l.Primary, "cat", "/proc/uptime"); got != "86400.00 86400.00" {
		t.Errorf("a new host's uptime is %q", got)
	}
	first, second := run(t, l.Primary, "cat", "/proc/sys/kernel/random/boot_id"), run(t, l.Standby, "cat", "/proc/sys/kernel/random/boot_id")
	if len(first) != 36 || first == second || strings.Contains(ours, first) {
		t.Errorf("boot ids %q and %q", first, second)
	}
	for range 2 {
		ok(t, l.Primary.SetUptime(90*time.Second))
		ok(t, l.Primary.SetBootID("11111111-2222-3333-4444-555555555555"))
		got := run(t, l.Primary, "cat", "/proc/uptime", "/proc/sys/kernel/random/boot_id")
		if want := "90.00 90.00\n11111111-2222-3333-4444-555555555555"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestKernelSettingsAreTheKernelsDefaults(t *testing.T) {
	l := needLab(t)
	got := run(t, l.Primary, "sh", "-c", `cd /proc/sys/net; cat ipv4/conf/eth0/promote_secondaries ipv4/conf/eth0/rp_filter \
		ipv4/conf/eth0/arp_ignore ipv6/conf/eth0/accept_dad ipv6/conf/eth0/autoconf`)
	if want := "0\n0\n0\n0\n0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, allowed := range []bool{false, true} {
		ok(t, l.Primary.Do(func() error {
			conn, err := icmp.ListenPacket("udp4", "0.0.0.0")
			if err == nil {
				conn.Close()
			}
			if (err == nil) != allowed {
				t.Errorf("an unprivileged ICMP socket: %v, want allowed %t", err, allowed)
			}
			return nil
		}))
		ok(t, l.Primary.AllowPing())
	}
}

// Two labs have the same addresses at once, and a socket opened by Do is used outside of it.
func TestLabsDoNotMeet(t *testing.T) {
	first := needLab(t)
	second, err := New()
	ok(t, err)
	defer second.Close()
	ok(t, second.Usual())
	for word, l := range map[string]*Lab{"first": first, "second": second} {
		var listener net.Listener
		ok(t, l.Primary.Do(func() (err error) {
			listener, err = net.Listen("tcp", "172.16.0.1:25")
			return err
		}))
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, word)
				conn.Close()
			}
		}()
	}
	for word, l := range map[string]*Lab{"first": first, "second": second} {
		ok(t, l.Client.Do(func() error {
			conn, err := net.DialTimeout("tcp", "172.16.0.1:25", 5*time.Second)
			if err != nil {
				return err
			}
			defer conn.Close()
			got, err := io.ReadAll(conn)
			if string(got) != word {
				t.Errorf("the %s lab's primary printed %q", word, got)
			}
			return err
		}))
	}
}

func TestCommandRunsInItsFolderUnderItsOwnPID(t *testing.T) {
	l := needLab(t)
	cmd := l.Primary.Command(t.Context(), "sh", "-c", "echo $$; pwd; hostname; cat")
	cmd.Dir = t.TempDir()
	cmd.Stdin = strings.NewReader("input")
	out, err := cmd.Output()
	ok(t, err)
	dir, err := filepath.EvalSymlinks(cmd.Dir)
	ok(t, err)
	want := []string{strconv.Itoa(cmd.ProcessState.Pid()), dir, "primary", "input"}
	if diff := cmp.Diff(want, strings.Split(string(out), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommandFindsItsProgramInItsOwnPath(t *testing.T) {
	l := needLab(t)
	dir := t.TempDir()
	run(t, l.Primary, "sh", "-c", `cd "$1"; printf '#!/bin/sh\necho hello $1\n' >greet; chmod +x greet`, "sh", dir)
	cmd := l.Primary.Command(t.Context(), "greet", "two words")
	cmd.Env = []string{"PATH=" + dir}
	out, err := cmd.CombinedOutput()
	ok(t, err)
	if string(out) != "hello two words\n" {
		t.Errorf("got %q", out)
	}
}

func TestRunSaysWhatFailedWhere(t *testing.T) {
	l := needLab(t)
	out, err := l.Primary.Run("sh", "-c", "echo broken; exit 3")
	wantError(t, err, "host primary: sh -c echo broken; exit 3: exit status 3: broken")
	if out != "broken\n" {
		t.Errorf("output %q", out)
	}
}

func TestRunEndsThoughADaemonKeepsTheOutput(t *testing.T) {
	l := needLab(t)
	if got := run(t, l.Primary, "sh", "-c", "echo started; sleep 1000 &"); got != "started" {
		t.Errorf("got %q", got)
	}
}

func TestDoLeavesTheThreadWhereItWas(t *testing.T) {
	l := needLab(t)
	interfaces := func() (names []string) {
		links, err := net.Interfaces()
		ok(t, err)
		for _, link := range links {
			names = append(names, link.Name)
		}
		return names
	}
	before := interfaces()
	var within []string
	func() {
		defer func() { recover() }()
		l.Primary.Do(func() error {
			within = interfaces()
			panic("f may panic")
		})
	}()
	if diff := cmp.Diff([]string{"lo", "eth0"}, within); diff != "" {
		t.Errorf("interfaces in the host (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, interfaces()); diff != "" {
		t.Errorf("interfaces afterwards (-want +got):\n%s", diff)
	}
}

func TestBadCallsSayWhatIsWrong(t *testing.T) {
	l := needLab(t)
	_, err := l.Add("third", "172.16.0.5")
	wantError(t, err, `host third: address "172.16.0.5": not of the form 172.16.0.2/16`)
	_, err = l.Client.Watch(l.Primary.Addr4(), 0)
	wantError(t, err, "host client: watch 172.16.0.2: interval 0s: must be greater than 0")
	wantError(t, l.Client.Lose(101), "host client: lose 101: must be 0 to 100")
	_, err = l.Client.Run("pingover-no-such-tool")
	if err == nil || !strings.HasPrefix(err.Error(), "host client: pingover-no-such-tool: exit status 127: ") {
		t.Errorf("missing tool: %v", err)
	}
}

func TestClosedLabDoesNothingMore(t *testing.T) {
	l := needLab(t)
	ok(t, l.Close())
	ok(t, l.Close())
	_, err := l.Add("late")
	wantError(t, err, "host late: the lab is closed")
	wantError(t, l.Primary.Command(context.Background(), "true").Run(), "host primary: its power is off")
	wantError(t, l.Primary.Do(func() error { return nil }), "host primary: its power is off")
	wantError(t, l.Primary.Plug(), "host primary: its power is off")
}
