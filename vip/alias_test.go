package vip

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/internal/proc"
)

var (
	virtual4 = netip.MustParsePrefix("172.16.0.1/32")
	virtual6 = netip.MustParsePrefix("2001:db8::1/128")
)

// The four programs, and what each is expected to run.
type program struct {
	tool    string // ip or ifconfig
	busybox bool
}

var programs = map[string]program{
	"iproute2 ip":        {tool: "ip"},
	"busybox ip":         {tool: "ip", busybox: true},
	"net-tools ifconfig": {tool: "ifconfig"},
	"busybox ifconfig":   {tool: "ifconfig", busybox: true},
}

// need skips a test without the program.
func (p program) need(t *testing.T) (path string) {
	t.Helper()
	if p.busybox {
		return lab.Need(t, "busybox", "busybox")
	}
	return lab.Need(t, p.tool, map[string]string{"ip": "iproute2", "ifconfig": "net-tools"}[p.tool])
}

// find gives the tool, as it would be found by a path of its own.
func (p program) find(t *testing.T) Tool {
	t.Helper()
	path := p.need(t)
	if p.busybox {
		link := filepath.Join(t.TempDir(), p.tool)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		path = link
	}
	return Tool{Name: p.tool, Path: path}
}

// is chooses what is expected of this program.
func (p program) is(ip, ifconfig string) string {
	if p.tool == "ip" {
		return ip
	}
	return ifconfig
}

// withPrograms runs the body once for each program, each on a host of its own.
func withPrograms(t *testing.T, build func(t *testing.T, l *lab.Lab) *lab.Host, body func(t *testing.T, p program, tool Tool)) {
	t.Parallel()
	for name, p := range programs {
		t.Run(name, func(t *testing.T) {
			p.need(t)
			onHost(t, build, func(t *testing.T) { body(t, p, p.find(t)) })
		})
	}
}

// addresses is what the kernel shows, but for lo and link-local ones.
func addresses(t *testing.T) []string {
	t.Helper()
	k, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range k.Links {
		for _, a := range l.Addresses {
			if l.Loopback || a.Prefix.Addr().IsLinkLocalUnicast() {
				continue
			}
			text := l.Name + " " + a.Prefix.String()
			if a.Label != l.Name && a.Label != "" {
				text += " " + a.Label
			}
			for flag, on := range map[string]bool{" secondary": a.Secondary, " tentative": a.Tentative, " dadfailed": a.DADFailed} {
				if on {
					text += flag
				}
			}
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return all
}

func wantAddresses(t *testing.T, when string, want ...string) {
	t.Helper()
	if d := diff(slices.Sorted(slices.Values(want)), addresses(t)); d != "" {
		t.Errorf("addresses %s (-want +got):\n%s", when, d)
	}
}

// commands are what was run, without what went well.
func commands(ran []proc.Result) []string {
	var all []string
	for _, r := range ran {
		text := strings.Join(r.Argv, " ")
		if r.Code != 0 {
			text += fmt.Sprint(" → ", r.Code)
		}
		all = append(all, text)
	}
	return all
}

func wantCommands(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if d := diff(want, got); d != "" {
		t.Errorf("commands %s (-want +got):\n%s", when, d)
	}
}

// raise raises with the plan before, which must be what is run.
func raise(t *testing.T, tool Tool, a Alias) (label string, ran []string, err error) {
	t.Helper()
	k, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	plan, planErr := tool.RaisePlan(k, a)
	label, results, err := tool.Raise(t.Context(), a)
	ran = commands(results)
	if err == nil && len(results) > 0 {
		if d := diff(plan, results[len(results)-1].Argv); d != "" {
			t.Errorf("the plan and what was run (-plan +run):\n%s", d)
		}
	}
	if planErr != nil && errorText(err) != planErr.Error() {
		t.Errorf("the plan: %v, Raise: %v", planErr, err)
	}
	return label, ran, err
}

// lower lowers with the plan before, which must be what is run.
func lower(t *testing.T, tool Tool, addr netip.Addr) (ran []string, err error) {
	t.Helper()
	k, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	plan, planErr := tool.LowerPlan(k, addr)
	results, err := tool.Lower(t.Context(), addr)
	if err == nil {
		var argvs [][]string
		for _, r := range results {
			argvs = append(argvs, r.Argv)
		}
		if d := diff(plan, argvs); d != "" {
			t.Errorf("the plan and what was run (-plan +run):\n%s", d)
		}
	}
	if planErr != nil && errorText(err) != planErr.Error() {
		t.Errorf("the plan: %v, Lower: %v", planErr, err)
	}
	return commands(results), err
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// here runs ip(8) and the like on the host, in the middle of a test.
func here(t *testing.T, line string) {
	t.Helper()
	argv := strings.Fields(line)
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

const own4, own6 = "eth0 172.16.0.3/24", "eth0 2001:db8::3/64"

func TestRaiseAndLowerTwice(t *testing.T) {
	withPrograms(t, standby(), func(t *testing.T, p program, tool Tool) {
		a := Alias{Prefix: virtual4, Interface: "eth0"}
		label, ran, err := raise(t, tool, a)
		fine(t, err)
		wantCommands(t, "of the first Raise", ran, p.is("ip addr add 172.16.0.1/32 dev eth0 label eth0:1", "ifconfig eth0:1 172.16.0.1 netmask 255.255.255.255 up"))
		wantAddresses(t, "when added", own4, own6, "eth0 172.16.0.1/32 eth0:1")

		again, ran, err := raise(t, tool, a)
		fine(t, err)
		wantCommands(t, "of the second Raise", ran)
		wantAddresses(t, "when added twice", own4, own6, "eth0 172.16.0.1/32 eth0:1")
		if label != "eth0:1" || again != label {
			t.Errorf("labels %q and %q, want eth0:1", label, again)
		}

		ran, err = lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantCommands(t, "of the first lower", ran, p.is("ip addr del 172.16.0.1/32 dev eth0", "ifconfig eth0:1 down"))
		wantAddresses(t, "when lowered", own4, own6)

		ran, err = lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantCommands(t, "of the second lower", ran)
	})
}

func TestRaiseAndLowerIPv6Twice(t *testing.T) {
	build := func(t *testing.T, l *lab.Lab) *lab.Host {
		h := standby()(t, l)
		must(t, h.Sysctl("ipv6/conf/eth0/accept_dad", "1")) // the kernel's default, which the lab is without
		return h
	}
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		a := Alias{Prefix: virtual6, Interface: "eth0"}
		_, ran, err := raise(t, tool, a)
		fine(t, err)
		add := p.is("ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0", "ifconfig eth0 add 2001:db8::1/128")
		if tool.busybox() && p.tool == "ip" {
			add = "ip -6 addr add 2001:db8::1/128 dev eth0 preferred_lft 0"
		}
		wantCommands(t, "of the first Raise", ran, add)
		wantAddresses(t, "when added", own4, own6, "eth0 2001:db8::1/128")
		k, _ := TakeSnapshot()
		if deprecated := k.Assignments(virtual6.Addr())[0].Address.Deprecated; deprecated != (p.tool == "ip") {
			t.Errorf("never chosen as source: %v", deprecated)
		}

		_, ran, err = raise(t, tool, a)
		fine(t, err)
		wantCommands(t, "of the second Raise", ran)

		ran, err = lower(t, tool, virtual6.Addr())
		fine(t, err)
		wantCommands(t, "of the first lower", ran, p.is("ip -6 addr del 2001:db8::1/128 dev eth0", "ifconfig eth0 del 2001:db8::1/128"))
		wantAddresses(t, "when lowered", own4, own6)

		ran, err = lower(t, tool, virtual6.Addr())
		fine(t, err)
		wantCommands(t, "of the second lower", ran)
	})
}

func TestLinkLocalAliasIsOfItsInterface(t *testing.T) {
	build := standby("link add eth1 type veth peer name far", "link set eth1 addrgenmode none up", "link set far up", "-6 addr add fe80::5/64 dev eth1 nodad")
	onHost(t, build, func(t *testing.T) {
		tool := programs["iproute2 ip"].find(t)
		_, ran, err := raise(t, tool, Alias{Prefix: netip.MustParsePrefix("fe80::5/64"), Interface: "eth0"})
		fine(t, err)
		wantCommands(t, "of Raise", ran, "ip -6 addr add fe80::5/64 dev eth0 nodad preferred_lft 0")
		ran, err = lower(t, tool, netip.MustParseAddr("fe80::5%eth0"))
		fine(t, err)
		wantCommands(t, "of the lower", ran, "ip -6 addr del fe80::5/64 dev eth0")
		k, _ := TakeSnapshot()
		if !k.Holds(netip.MustParseAddr("fe80::5%eth1")) {
			t.Error("the one on eth1 has gone")
		}
	})
}

// A hard link to busybox, or a script, does not show what it is until it is asked for nodad.
func TestRaiseIPv6ByAnIpWithoutNodad(t *testing.T) {
	lab.Need(t, "busybox", "busybox")
	onHost(t, standby(), func(t *testing.T) {
		tool := fakeTool(t, "ip", `exec busybox ip "$@"`)
		_, results, err := tool.Raise(t.Context(), Alias{Prefix: virtual6, Interface: "eth0"})
		fine(t, err)
		wantCommands(t, "of Raise", commands(results), "ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0 → 1", "ip -6 addr add 2001:db8::1/128 dev eth0 preferred_lft 0")
		wantAddresses(t, "when added", own4, own6, "eth0 2001:db8::1/128")
	})
}

func TestRaiseWhereAssignedAlready(t *testing.T) {
	build := standby("link add eth1 type veth peer name far", "link set eth1 up", "addr add 172.16.0.1/16 dev eth1", "-6 addr add 2001:db8::1/64 dev eth1 nodad")
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		before := addresses(t)
		for prefix, want := range map[netip.Prefix]string{virtual4: "eth1", virtual6: ""} {
			label, ran, err := raise(t, tool, Alias{Prefix: prefix, Interface: "eth0"})
			fine(t, err)
			if label != want {
				t.Errorf("label %q, want %q", label, want)
			}
			wantCommands(t, "of Raise", ran)
		}
		wantAddresses(t, "afterwards", before...)
	})
}

func TestLabels(t *testing.T) {
	t.Parallel()
	const (
		used  = "addr add 172.16.0.7/32 dev eth0 label eth0:1"
		alias = "eth0 172.16.0.7/32 eth0:1"
	)
	for name, c := range map[string]struct {
		setup     []string
		label     string
		reserved  []string
		want      string // the label, where it goes well
		addresses []string
		err       map[string]string // by tool
	}{
		"the first is in use": {setup: []string{used}, want: "eth0:2", addresses: []string{own4, own6, alias, "eth0 172.16.0.1/32 eth0:2"}},
		"the first is in use, and the second another's": {
			setup: []string{used}, reserved: []string{"eth0:2", "eth1:3"}, want: "eth0:3", addresses: []string{own4, own6, alias, "eth0 172.16.0.1/32 eth0:3"},
		},
		"given and free": {label: "eth0:web", want: "eth0:web", addresses: []string{own4, own6, "eth0 172.16.0.1/32 eth0:web"}},
		"given and in use": {
			setup: []string{used}, label: "eth0:1", addresses: []string{own4, own6, alias},
			err: map[string]string{
				"ip":       `add 172.16.0.1/32 to eth0: label "eth0:1" is in use by 172.16.0.7/32`,
				"ifconfig": `add 172.16.0.1/32 to eth0: label "eth0:1" is in use by 172.16.0.7/32`,
			},
		},
		"given, the interface's own": {
			label: "eth0", addresses: []string{own4, own6},
			err: map[string]string{
				"ip":       `add 172.16.0.1/32 to eth0: label "eth0" is in use by 172.16.0.3/24`,
				"ifconfig": `add 172.16.0.1/32 to eth0: label "eth0" is in use by 172.16.0.3/24`,
			},
		},
		"given and too long": {
			label: "eth0:webcluster1", addresses: []string{own4, own6},
			err: map[string]string{
				"ip":       `add 172.16.0.1/32 to eth0: label "eth0:webcluster1": 16 characters, at most 15`,
				"ifconfig": `add 172.16.0.1/32 to eth0: label "eth0:webcluster1": 16 characters, at most 15`,
			},
		},
		"given without a colon": {
			label: "eth0web", want: "eth0web", addresses: []string{own4, own6},
			err: map[string]string{"ifconfig": `add 172.16.0.1/32 to eth0: label "eth0web": ifconfig needs one like "eth0:1"`},
		},
		"given with nothing after the colon": {
			label: "eth0:", want: "eth0:", addresses: []string{own4, own6},
			err: map[string]string{"ifconfig": `add 172.16.0.1/32 to eth0: label "eth0:": ifconfig needs one like "eth0:1"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			withPrograms(t, standby(c.setup...), func(t *testing.T, p program, tool Tool) {
				label, ran, err := raise(t, tool, Alias{Prefix: virtual4, Interface: "eth0", Label: c.label, Reserved: c.reserved})
				if errorText(err) != c.err[p.tool] {
					t.Errorf("error %q, want %q", errorText(err), c.err[p.tool])
				}
				if err != nil {
					wantCommands(t, "of what was refused", ran)
					wantAddresses(t, "when refused", c.addresses...)
					return
				}
				if label != c.want {
					t.Errorf("label %q, want %q", label, c.want)
				}
				if c.err == nil {
					wantAddresses(t, "when added", c.addresses...)
				}
				_, err = lower(t, tool, virtual4.Addr())
				fine(t, err)
			})
		})
	}
}

func TestInterfaceNameTooLongForALabel(t *testing.T) {
	build := standby("link set eth0 down", "link set eth0 name enx525400123456", "link set enx525400123456 up", "-6 addr flush dev enx525400123456 scope global")
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		label, ran, err := raise(t, tool, Alias{Prefix: virtual4, Interface: "enx525400123456"})
		if p.tool == "ifconfig" {
			want := `add 172.16.0.1/32 to enx525400123456: ifconfig needs a label such as "enx525400123456:1", and that is longer than 15 characters: use ip (Debian package iproute2)`
			if errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
			wantCommands(t, "of what was refused", ran)
			wantAddresses(t, "when refused", "enx525400123456 172.16.0.3/24")
			here(t, "ip addr add 172.16.0.1/32 dev enx525400123456")
		} else {
			fine(t, err)
			if label != "enx525400123456" {
				t.Errorf("label %q", label)
			}
			wantCommands(t, "of Raise", ran, "ip addr add 172.16.0.1/32 dev enx525400123456")
		}
		wantAddresses(t, "when added", "enx525400123456 172.16.0.3/24", "enx525400123456 172.16.0.1/32")
		ran, err = lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantCommands(t, "of the lower", ran, "ip addr del 172.16.0.1/32 dev enx525400123456")
		wantAddresses(t, "when lowered", "enx525400123456 172.16.0.3/24")
	})
}

// An alias in the host's own network is either the first address of that network or not, and the
// kernel removes the others of the network together with the first.
func TestAliasInTheHostsOwnNetwork(t *testing.T) {
	t.Parallel()
	wide := netip.MustParsePrefix("172.16.0.1/24")
	const raised = "eth0 172.16.0.1/24 eth0:1"
	first := []string{"addr del 172.16.0.3/24 dev eth0", "addr add 172.16.0.1/24 dev eth0 label eth0:1", "addr add 172.16.0.3/24 dev eth0", "route add default via 172.16.0.254"}

	t.Run("own address first", func(t *testing.T) {
		withPrograms(t, standby("route add default via 172.16.0.254"), func(t *testing.T, p program, tool Tool) {
			_, _, err := raise(t, tool, Alias{Prefix: wide, Interface: "eth0"})
			fine(t, err)
			wantAddresses(t, "when added", own4, own6, raised+" secondary")
			ran, err := lower(t, tool, wide.Addr())
			fine(t, err)
			wantCommands(t, "of the lower", ran, p.is("ip addr del 172.16.0.1/24 dev eth0", "ifconfig eth0:1 down"))
			wantAddresses(t, "when lowered", own4, own6)
			wantDefaultRoute(t)
		})
	})
	t.Run("alias first", func(t *testing.T) {
		withPrograms(t, standby(first...), func(t *testing.T, p program, tool Tool) {
			wantAddresses(t, "when added", own4+" secondary", own6, raised)
			ran, err := lower(t, tool, wide.Addr())
			fine(t, err)
			wantCommands(t, "of the lower", ran,
				"sysctl -w net.ipv4.conf.eth0.promote_secondaries=1",
				p.is("ip addr del 172.16.0.1/24 dev eth0", "ifconfig eth0:1 down"),
				"sysctl -w net.ipv4.conf.eth0.promote_secondaries=0")
			wantAddresses(t, "when lowered", own4, own6)
			wantDefaultRoute(t)
			if promotes("eth0") {
				t.Error("promote_secondaries stays on")
			}
		})
	})
	t.Run("alias first, and only another network has a second address", func(t *testing.T) {
		build := standby("addr add 10.0.0.1/24 dev eth0 label eth0:1", "addr add 172.16.0.4/24 dev eth0", "addr add 10.0.0.2/16 dev eth0", "addr add 10.0.0.3/16 dev eth0")
		withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
			ran, err := lower(t, tool, netip.MustParseAddr("10.0.0.1"))
			fine(t, err)
			wantCommands(t, "of the lower", ran, p.is("ip addr del 10.0.0.1/24 dev eth0", "ifconfig eth0:1 down"))
			wantAddresses(t, "when lowered", own4, own6, "eth0 172.16.0.4/24 secondary", "eth0 10.0.0.2/16", "eth0 10.0.0.3/16 secondary")
		})
	})
	t.Run("alias first, another alias of the same network after it", func(t *testing.T) {
		withPrograms(t, standby(append(first, "addr add 172.16.0.5/24 dev eth0 label eth0:2")...), func(t *testing.T, p program, tool Tool) {
			_, err := lower(t, tool, wide.Addr())
			fine(t, err)
			wantAddresses(t, "when lowered", own4, own6, "eth0 172.16.0.5/24 eth0:2 secondary")
		})
	})
	for _, conf := range []string{"all", "eth0"} {
		t.Run("alias first, promote_secondaries is on for "+conf, func(t *testing.T) {
			build := func(t *testing.T, l *lab.Lab) *lab.Host {
				h := standby(first...)(t, l)
				must(t, h.Sysctl("ipv4/conf/"+conf+"/promote_secondaries", "1"))
				return h
			}
			withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
				ran, err := lower(t, tool, wide.Addr())
				fine(t, err)
				wantCommands(t, "of the lower", ran, p.is("ip addr del 172.16.0.1/24 dev eth0", "ifconfig eth0:1 down"))
				wantAddresses(t, "when lowered", own4, own6)
				if !promotes("eth0") {
					t.Error("promote_secondaries has been switched off")
				}
			})
		})
	}
	t.Run("alias first, and sysctls are read-only as in a container", func(t *testing.T) {
		build := func(t *testing.T, l *lab.Lab) *lab.Host {
			h := standby(first...)(t, l)
			onTheHost(t, h, "mount --bind /proc/sys /proc/sys", "mount -o remount,bind,ro /proc/sys")
			return h
		}
		withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
			before := addresses(t)
			ran, err := lower(t, tool, wide.Addr())
			want := "remove 172.16.0.1/24 from eth0: the kernel would remove 172.16.0.3/24 with it, and that cannot be prevented: open /proc/sys/net/ipv4/conf/eth0/promote_secondaries: read-only file system"
			if errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
			wantCommands(t, "of what was refused", ran, "sysctl -w net.ipv4.conf.eth0.promote_secondaries=1 → -1")
			wantAddresses(t, "when refused", before...)
		})
	})
	t.Run("on an interface with a dot in its name", func(t *testing.T) {
		build := standby("link add eth0.100 type veth peer name far", "link set eth0.100 up", "link set far up",
			"addr add 10.0.0.1/24 dev eth0.100 label eth0.100:1", "addr add 10.0.0.3/24 dev eth0.100")
		withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
			ran, err := lower(t, tool, netip.MustParseAddr("10.0.0.1"))
			fine(t, err)
			wantCommands(t, "of the lower", ran,
				"sysctl -w net.ipv4.conf.eth0/100.promote_secondaries=1",
				p.is("ip addr del 10.0.0.1/24 dev eth0.100", "ifconfig eth0.100:1 down"),
				"sysctl -w net.ipv4.conf.eth0/100.promote_secondaries=0")
			wantAddresses(t, "when lowered", own4, own6, "eth0.100 10.0.0.3/24")
		})
	})
}

func wantDefaultRoute(t *testing.T) {
	t.Helper()
	if gateway, ok, err := Gateway("eth0", false, netip.Addr{}); !ok || err != nil {
		t.Errorf("the default route has gone: %v, %v, %v", gateway, ok, err)
	}
}

func TestLowerAnAddressAddedManuallyWithoutALabel(t *testing.T) {
	withPrograms(t, standby("addr add 172.16.0.1/32 dev eth0"), func(t *testing.T, p program, tool Tool) {
		ran, err := lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantCommands(t, "of the lower", ran, "ip addr del 172.16.0.1/32 dev eth0")
		wantAddresses(t, "when lowered", own4, own6)
	})
}

// hideIP makes a build whose host has no ip.
func hideIP(build func(t *testing.T, l *lab.Lab) *lab.Host) func(t *testing.T, l *lab.Lab) *lab.Host {
	return func(t *testing.T, l *lab.Lab) *lab.Host {
		h := build(t, l)
		onTheHost(t, h, `for d in /usr/sbin /sbin /usr/bin /bin; do [ ! -x $d/ip ] || mount --bind /dev/null $d/ip; done`)
		return h
	}
}

func TestLowerByIfconfigAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setup []string
		err   string
	}{
		"under its own label": {setup: []string{"addr add 172.16.0.1/32 dev eth0 label eth0:1"}},
		"without a label": {
			setup: []string{"addr add 172.16.0.1/32 dev eth0"},
			err:   `remove 172.16.0.1/32 from eth0: it has no alias label of its own (its label is "eth0"), so ifconfig cannot remove it, and tool "ip": `,
		},
		"under a label without a colon": {
			setup: []string{"addr add 172.16.0.1/32 dev eth0 label eth0web"},
			err:   `remove 172.16.0.1/32 from eth0: it has no alias label of its own (its label is "eth0web"), so ifconfig cannot remove it, and tool "ip": `,
		},
		"under a label that another address shares": {
			setup: []string{"addr add 172.16.0.7/32 dev eth0 label eth0:1", "addr add 172.16.0.1/32 dev eth0 label eth0:1"},
			err:   `remove 172.16.0.1/32 from eth0: it has no alias label of its own (its label is "eth0:1"), so ifconfig cannot remove it, and tool "ip": `,
		},
		"twice under the same label": {
			setup: []string{"addr add 172.16.0.1/32 dev eth0 label eth0:1", "addr add 172.16.0.1/16 dev eth0 label eth0:1"},
		},
	} {
		for _, of := range []string{"net-tools ifconfig", "busybox ifconfig"} {
			t.Run(name+", "+of, func(t *testing.T) {
				onHost(t, hideIP(standby(c.setup...)), func(t *testing.T) {
					before := addresses(t)
					ran, err := lower(t, programs[of].find(t), virtual4.Addr())
					if c.err == "" {
						fine(t, err)
						wantAddresses(t, "when lowered", own4, own6)
						return
					}
					if !strings.HasPrefix(errorText(err), c.err) {
						t.Errorf("error %q, want %q…", errorText(err), c.err)
					}
					wantCommands(t, "of what was refused", ran)
					wantAddresses(t, "when refused", before...)
				})
			})
		}
	}
}

func TestLowerAddressThatSharesItsLabel(t *testing.T) {
	withPrograms(t, standby("addr add 172.16.0.7/32 dev eth0 label eth0:1", "addr add 172.16.0.1/32 dev eth0 label eth0:1"), func(t *testing.T, p program, tool Tool) {
		_, err := lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantAddresses(t, "when lowered", own4, own6, "eth0 172.16.0.7/32 eth0:1")
	})
}

func TestLowerAllAssignmentsOfTheAddressOnly(t *testing.T) {
	build := standby(
		"link add eth1 type veth peer name far", "link set eth1 up",
		"addr del 172.16.0.3/24 dev eth0",
		"addr add 172.16.0.1/24 dev eth0 label eth0:1",
		"addr add 172.16.0.3/24 dev eth0",
		"addr add 172.16.0.1/32 dev eth0 label eth0:2",
		"addr add 172.16.0.1/16 dev eth0",
		"addr add 172.16.0.1 peer 10.9.0.2/30 dev eth0 label eth0:3",
		"addr add 172.16.0.11/32 dev eth0 label eth0:4",
		"addr add 172.16.0.1/24 dev eth1 label eth1:1",
		"addr add 172.16.0.4/24 dev eth1",
	)
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		_, err := tool.Lower(t.Context(), virtual4.Addr())
		fine(t, err)
		wantAddresses(t, "when lowered", own4, own6, "eth0 172.16.0.11/32 eth0:4", "eth1 172.16.0.4/24")
	})
}

func TestLowerPointToPoint(t *testing.T) {
	build := standby("addr add 172.16.0.1 peer 10.9.0.2/30 dev eth0 label eth0:1", "-6 addr add 2001:db8::1 peer 2001:db8:9::2/64 dev eth0 nodad")
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		ran, err := lower(t, tool, virtual4.Addr())
		fine(t, err)
		wantCommands(t, "of the lower", ran, p.is("ip addr del 172.16.0.1 peer 10.9.0.2/30 dev eth0", "ifconfig eth0:1 down"))
		ran, err = lower(t, tool, virtual6.Addr())
		fine(t, err)
		wantCommands(t, "of the lower", ran, p.is("ip -6 addr del 2001:db8::1 peer 2001:db8:9::2/64 dev eth0", "ifconfig eth0 del 2001:db8::1/64"))
		wantAddresses(t, "when lowered", own4, own6)
	})
}

func TestSecondInterface(t *testing.T) {
	build := func(t *testing.T, l *lab.Lab) *lab.Host {
		h := standby()(t, l)
		if _, err := h.NIC(); err != nil {
			t.Fatal(err)
		}
		return h
	}
	withPrograms(t, build, func(t *testing.T, p program, tool Tool) {
		for prefix, up := range map[netip.Prefix]string{virtual4: "eth1 172.16.0.1/32 eth1:1", virtual6: "eth1 2001:db8::1/128"} {
			_, _, err := raise(t, tool, Alias{Prefix: prefix, Interface: "eth1"})
			fine(t, err)
			wantAddresses(t, "when added", own4, own6, up)
			_, err = lower(t, tool, prefix.Addr())
			fine(t, err)
			wantAddresses(t, "when lowered", own4, own6)
		}
	})
}

func TestInterfaceWithoutCarrierOrDown(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string][]string{
		"without carrier": {"link add eth1 type veth peer name far", "link set eth1 up"},
		"switched off":    {"link add eth1 type veth peer name far"},
	} {
		t.Run(name, func(t *testing.T) {
			withPrograms(t, standby(setup...), func(t *testing.T, p program, tool Tool) {
				_, _, err := raise(t, tool, Alias{Prefix: virtual4, Interface: "eth1"})
				fine(t, err)
				wantAddresses(t, "when added", own4, own6, "eth1 172.16.0.1/32 eth1:1")
				_, err = lower(t, tool, virtual4.Addr())
				fine(t, err)
				wantAddresses(t, "when lowered", own4, own6)
			})
		})
	}
}

func TestMissingInterface(t *testing.T) {
	withPrograms(t, standby(), func(t *testing.T, p program, tool Tool) {
		for prefix, want := range map[netip.Prefix]string{
			virtual4: `add 172.16.0.1/32 to eth9: there is no interface "eth9"`,
			virtual6: `add 2001:db8::1/128 to eth9: there is no interface "eth9"`,
		} {
			_, ran, err := raise(t, tool, Alias{Prefix: prefix, Interface: "eth9"})
			if errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
			wantCommands(t, "of what was refused", ran)
		}
	})
}

func TestNoPermission(t *testing.T) {
	t.Parallel()
	for name, p := range programs {
		t.Run(name, func(t *testing.T) {
			build := standby("addr add 172.16.0.5/32 dev eth0 label eth0:1")
			onHost(t, build, func(t *testing.T) {
				tool := p.find(t)
				before := addresses(t)
				_, ran, err := raise(t, tool, Alias{Prefix: virtual4, Interface: "eth0"})
				want := p.is("ip addr add 172.16.0.1/32 dev eth0 label eth0:2: exit code 2: ", "ifconfig eth0:2 172.16.0.1 netmask 255.255.255.255 up: exit code ")
				wantFailure(t, err, "add 172.16.0.1/32 to eth0: ", want, "Operation not permitted", "ermission denied")
				if len(ran) != 1 {
					t.Errorf("ran %q", ran)
				}
				_, ran, err = raise(t, tool, Alias{Prefix: virtual6, Interface: "eth0"})
				want = p.is("ip -6 addr add 2001:db8::1/128 dev eth0 ", "ifconfig eth0 add 2001:db8::1/128: exit code 1: ")
				wantFailure(t, err, "add 2001:db8::1/128 to eth0: ", want, "Operation not permitted", "ermission denied")
				if len(ran) != 1 {
					t.Errorf("ran %q", ran)
				}
				_, err = lower(t, tool, netip.MustParseAddr("172.16.0.5"))
				wantFailure(t, err, "remove 172.16.0.5/32 from eth0: ", p.is("ip addr del 172.16.0.5/32 dev eth0: exit code 2: ", "ifconfig eth0:1 down: exit code "), "Operation not permitted", "ermission denied")
				wantAddresses(t, "when refused", before...)
			}, "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
		})
	}
}

// wantFailure wants the error to begin with place and command and to have one of the words, which
// are the tool's.
func wantFailure(t *testing.T, err error, place, command string, words ...string) {
	t.Helper()
	text := errorText(err)
	if !strings.HasPrefix(text, place+command) || !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) }) {
		t.Errorf("error %q, want %q… with one of %q", text, place+command, words)
	}
}

// fakeTool is a shell script instead of ip or ifconfig.
func fakeTool(t *testing.T, name, script string) Tool {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Tool{Name: name, Path: path}
}

// The kernel is asked, and the tool is not believed.
func TestToolsWithAWrongExitCode(t *testing.T) {
	t.Parallel()
	setup := []string{"addr add 172.16.0.5/32 dev eth0 label eth0:5", "addr add 172.16.0.6/32 dev eth0"}
	const bystander = "eth0 172.16.0.6/32"
	for name, c := range map[string]struct {
		script     string
		raise      string
		lower      string
		addresses  []string
		raise6Runs int
	}{
		"ends well and does nothing": {
			script:     "exit 0",
			raise:      "add 172.16.0.1/32 to eth0: ip addr add 172.16.0.1/32 dev eth0 label eth0:1: exit code 0, but the kernel does not show the address",
			lower:      "remove 172.16.0.5/32 from eth0: ip addr del 172.16.0.5/32 dev eth0: exit code 0, but the kernel still shows the address",
			addresses:  []string{own4, own6, bystander, "eth0 172.16.0.5/32 eth0:5"},
			raise6Runs: 1,
		},
		"another program was faster": {
			script:     `ip "$@"; echo RTNETLINK answers: File exists >&2; exit 2`,
			addresses:  []string{own4, own6, bystander, "eth0 172.16.0.1/32 eth0:1", "eth0 2001:db8::1/128"},
			raise6Runs: 1,
		},
		"refuses all words": {
			script:     "echo garbage >&2; exit 255",
			raise:      "add 172.16.0.1/32 to eth0: ip addr add 172.16.0.1/32 dev eth0 label eth0:1: exit code 255: garbage",
			lower:      "remove 172.16.0.5/32 from eth0: ip addr del 172.16.0.5/32 dev eth0: exit code 255: garbage",
			addresses:  []string{own4, own6, bystander, "eth0 172.16.0.5/32 eth0:5"},
			raise6Runs: 3,
		},
		"takes another address along": {
			script:     `ip "$@" || exit; case "$2" in add) ip addr del 172.16.0.3/24 dev eth0;; del) ip addr del 172.16.0.6/32 dev eth0;; esac`,
			raise:      "add 172.16.0.1/32 to eth0: the address 172.16.0.3/24 was removed from eth0 with it",
			lower:      "remove 172.16.0.5/32 from eth0: the address 172.16.0.6/32 was removed from eth0 with it",
			addresses:  []string{own6, "eth0 172.16.0.1/32 eth0:1", "eth0 2001:db8::1/128"},
			raise6Runs: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(setup...), func(t *testing.T) {
				tool := fakeTool(t, "ip", c.script)
				_, _, err := tool.Raise(t.Context(), Alias{Prefix: virtual4, Interface: "eth0"})
				if errorText(err) != c.raise {
					t.Errorf("error %q, want %q", errorText(err), c.raise)
				}
				_, ran, _ := tool.Raise(t.Context(), Alias{Prefix: virtual6, Interface: "eth0"})
				if len(ran) != c.raise6Runs {
					t.Errorf("for IPv6 it ran %q, want %d commands", commands(ran), c.raise6Runs)
				}
				_, err = tool.Lower(t.Context(), netip.MustParseAddr("172.16.0.5"))
				if errorText(err) != c.lower {
					t.Errorf("error %q, want %q", errorText(err), c.lower)
				}
				wantAddresses(t, "in the end", c.addresses...)
			})
		})
	}
}

func TestToolThatHangs(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		begin := time.Now()
		_, ran, err := fakeTool(t, "ip", "sleep 60").Raise(t.Context(), Alias{Prefix: virtual6, Interface: "eth0"})
		wantFailure(t, err, "add 2001:db8::1/128 to eth0: ", "ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0: ", "killed")
		if took := time.Since(begin); len(ran) != 1 || took < toolTimeout || took > 10*toolTimeout {
			t.Errorf("ran %q in %v", commands(ran), took)
		}
	})
}

func TestToolThatHangsAfterItsWork(t *testing.T) {
	onHost(t, standby(), func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, _, err := fakeTool(t, "ip", `ip "$@"; sleep 60`).Raise(ctx, Alias{Prefix: virtual4, Interface: "eth0"})
		fine(t, err) // it had done its work
		wantAddresses(t, "in the end", own4, own6, "eth0 172.16.0.1/32 eth0:1")
	})
}

// holder puts another machine on the switch that has the IPv6 address, and on the standby what
// duplicate address detection left of it.
func holder(stays bool) func(t *testing.T, l *lab.Lab) *lab.Host {
	return func(t *testing.T, l *lab.Lab) *lab.Host {
		other, err := l.Add("primary", "2001:db8::2/64", virtual6.String())
		if err != nil {
			t.Fatal(err)
		}
		h := standby()(t, l)
		must(t, h.Sysctl("ipv6/conf/eth0/accept_dad", "1"))
		must(t, h.Sysctl("ipv6/conf/eth0/router_solicitation_delay", "0")) // up to which it waits before it asks
		must(t, h.Sysctl("ipv6/neigh/eth0/retrans_time_ms", "200"))        // how long it waits for the reply
		onTheHost(t, h, "ip -6 addr add 2001:db8::1/128 dev eth0", `until ip -6 addr show dev eth0 dadfailed | grep -q 2001:db8::1; do sleep 0.05; done`)
		if !stays {
			onTheHost(t, other, "ip -6 addr del 2001:db8::1/128 dev eth0")
		}
		return h
	}
}

func TestLeftoverOfDuplicateAddressDetection(t *testing.T) {
	t.Parallel()
	del := func(p program) string {
		return p.is("ip -6 addr del 2001:db8::1/128 dev eth0", "ifconfig eth0 del 2001:db8::1/128")
	}
	t.Run("is not held", func(t *testing.T) {
		onHost(t, holder(true), func(t *testing.T) {
			k, err := TakeSnapshot()
			fine(t, err)
			if k.Holds(virtual6.Addr()) || len(k.allAssignments(virtual6.Addr())) != 1 {
				t.Errorf("held: %v", k.Assignments(virtual6.Addr()))
			}
		})
	})
	t.Run("is lowered", func(t *testing.T) {
		withPrograms(t, holder(true), func(t *testing.T, p program, tool Tool) {
			ran, err := lower(t, tool, virtual6.Addr())
			fine(t, err)
			wantCommands(t, "of the lower", ran, del(p))
			wantAddresses(t, "when lowered", own4, own6)
		})
	})
	t.Run("makes way when the other machine has gone", func(t *testing.T) {
		withPrograms(t, holder(false), func(t *testing.T, p program, tool Tool) {
			_, ran, err := raise(t, tool, Alias{Prefix: virtual6, Interface: "eth0"})
			fine(t, err)
			if len(ran) != 2 || ran[0] != del(p) {
				t.Errorf("ran %q", ran)
			}
			wantAddresses(t, "when added", own4, own6, "eth0 2001:db8::1/128")
		})
	})
	t.Run("and the other machine is there", func(t *testing.T) {
		withPrograms(t, holder(true), func(t *testing.T, p program, tool Tool) {
			_, ran, err := raise(t, tool, Alias{Prefix: virtual6, Interface: "eth0"})
			if !p.busybox && p.tool == "ip" { // nodad: the caller has asked already
				fine(t, err)
				wantAddresses(t, "when added", own4, own6, "eth0 2001:db8::1/128")
				return
			}
			want := "add 2001:db8::1/128 to eth0: the address is in use by another machine (duplicate address detection)"
			if errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
			if len(ran) != 3 || ran[0] != del(p) || ran[2] != del(p) {
				t.Errorf("ran %q", ran)
			}
			wantAddresses(t, "when refused", own4, own6)
		})
	})
}

func TestFindTool(t *testing.T) {
	for name, c := range map[string]struct {
		setting   string
		path      []string // fake programs on PATH
		hidden    bool     // and no ip in the usual assigned
		want, err string
	}{
		"ip comes first":                 {setting: "auto", path: []string{"ifconfig", "ip"}, want: "ip"},
		"ifconfig where there is no ip":  {setting: "auto", path: []string{"ifconfig"}, hidden: true, want: "ifconfig"},
		"ip in sbin, which cron has not": {setting: "auto", path: []string{"ifconfig"}, want: "ip"},
		"ifconfig is asked for":          {setting: "ifconfig", path: []string{"ifconfig", "ip"}, want: "ifconfig"},
		"ip is asked for and not there":  {setting: "ip", path: []string{"ifconfig"}, hidden: true, err: `tool "ip": `},
		"another name":                   {setting: "iproute", path: []string{"ip"}, err: `tool "iproute": must be auto, ip or ifconfig`},
		"empty, as without the setting":  {setting: "", path: []string{"ip"}, err: `tool "": must be auto, ip or ifconfig`},
	} {
		t.Run(name, func(t *testing.T) {
			build := standby()
			if c.hidden {
				build = hideIP(build)
			}
			onHost(t, build, func(t *testing.T) {
				dir := t.TempDir()
				for _, name := range c.path {
					if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				t.Setenv("PATH", dir)
				got, err := FindTool(c.setting)
				if got.Name != c.want || !strings.HasPrefix(errorText(err), c.err) || (err == nil) != (c.err == "") {
					t.Errorf("got %+v, %v, want %q, error %q…", got, err, c.want, c.err)
				}
				if c.hidden && c.want == "" && !strings.HasSuffix(errorText(err), "(Debian package iproute2)") {
					t.Errorf("error %q does not name the package", err)
				}
			})
		})
	}
}

// onTheHost runs lines of shell on the host, from outside.
func onTheHost(t *testing.T, h *lab.Host, lines ...string) {
	t.Helper()
	if _, err := h.Run("sh", "-ec", strings.Join(lines, "\n")); err != nil {
		t.Fatal(err)
	}
}
