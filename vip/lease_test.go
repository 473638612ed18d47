package vip

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"pingover/internal/lab"
)

// renew renews with the plan before, which must be what is run.
func renew(t *testing.T, tool Tool, a Alias) (ran []string, err error) {
	t.Helper()
	k, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	plan, planErr := tool.RenewPlan(k, a)
	results, err := tool.Renew(t.Context(), a)
	if errorText(planErr) == errorText(err) {
		var argvs [][]string
		for _, r := range results {
			argvs = append(argvs, r.Argv)
		}
		if d := diff(plan, argvs); d != "" {
			t.Errorf("the plan and what was run (-plan +run):\n%s", d)
		}
	} else if planErr != nil {
		t.Errorf("the plan: %v, Renew: %v", planErr, err)
	}
	return commands(results), err
}

// wantLease wants every copy of the address to have the lease, but for the seconds that the test took.
func wantLease(t *testing.T, when string, addr netip.Addr, want time.Duration) {
	t.Helper()
	k, err := TakeSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	assigned := k.Assignments(addr)
	if len(assigned) == 0 {
		t.Errorf("%s: %s is not assigned", when, addr)
	}
	for _, p := range assigned {
		got := p.Address.Lease
		if (got == 0) != (want == 0) || got > want || got < want-30*time.Second {
			t.Errorf("%s: %s on %s has %s, want %s", when, p.Address.Prefix, p.Interface, remainingWords(got), remainingWords(want))
		}
	}
}

// gone waits until the kernel has removed an address by itself.
func gone(t *testing.T, addr netip.Addr, lease time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(lease + 20*time.Second); ; time.Sleep(50 * time.Millisecond) {
		k, err := TakeSnapshot()
		switch {
		case err != nil:
			t.Fatal(err)
		case !k.Holds(addr):
			return
		case time.Now().After(deadline):
			t.Fatalf("%s is still assigned", addr)
		}
	}
}

type leaseCase struct {
	prefix     netip.Prefix
	add, renew string // with %s for the lifetime
	assigned   string
}

// leaseCases are an alias of each family, and a wide one, which is secondary to the host's own.
var leaseCases = map[string]leaseCase{
	"IPv4": {
		prefix:   virtual4,
		add:      "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft %[1]s preferred_lft %[1]s",
		renew:    "ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft %[1]s preferred_lft %[1]s",
		assigned: "eth0 172.16.0.1/32 eth0:1",
	},
	"IPv4 in the host's own network": {
		prefix:   netip.MustParsePrefix("172.16.0.1/24"),
		add:      "ip addr add 172.16.0.1/24 dev eth0 label eth0:1 valid_lft %[1]s preferred_lft %[1]s",
		renew:    "ip addr replace 172.16.0.1/24 dev eth0 label eth0:1 valid_lft %[1]s preferred_lft %[1]s",
		assigned: "eth0 172.16.0.1/24 eth0:1 secondary",
	},
	"IPv6": {
		prefix:   virtual6,
		add:      "ip -6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft %s preferred_lft 0",
		renew:    "ip -6 addr replace 2001:db8::1/128 dev eth0 nodad valid_lft %s preferred_lft 0",
		assigned: "eth0 2001:db8::1/128",
	},
}

func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	for name, c := range leaseCases {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(), func(t *testing.T) {
				tool := programs["iproute2 ip"].find(t)
				a := Alias{Prefix: c.prefix, Interface: "eth0", Lease: 1500 * time.Millisecond}
				_, ran, err := raise(t, tool, a)
				fine(t, err)
				wantCommands(t, "of Raise", ran, fmt.Sprintf(c.add, "2"))
				gone(t, c.prefix.Addr(), 2*time.Second)
				wantAddresses(t, "in the end", own4, own6)

				ran, err = renew(t, tool, a)
				fine(t, err)
				wantCommands(t, "where it is no longer assigned", ran)
				wantAddresses(t, "where it is no longer assigned", own4, own6)
			})
		})
	}
}

func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	for name, c := range leaseCases {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(), func(t *testing.T) {
				tool := programs["iproute2 ip"].find(t)
				a := Alias{Prefix: c.prefix, Interface: "eth0", Lease: 3 * time.Second}
				_, _, err := raise(t, tool, a)
				fine(t, err)
				wantLease(t, "when added", c.prefix.Addr(), 3*time.Second)
				raised := time.Now()

				a.Lease = 600 * time.Second
				for _, when := range []string{"when renewed", "when renewed twice"} {
					ran, err := renew(t, tool, a)
					fine(t, err)
					wantCommands(t, when, ran, fmt.Sprintf(c.renew, "600"))
					wantLease(t, when, c.prefix.Addr(), a.Lease)
					wantAddresses(t, when, own4, own6, c.assigned)
				}
				_, ran, err := raise(t, tool, a)
				fine(t, err)
				wantCommands(t, "of the second Raise", ran)
				time.Sleep(time.Until(raised.Add(4500 * time.Millisecond)))
				wantLease(t, "when the first lease is over", c.prefix.Addr(), a.Lease)

				a.Lease = 2 * time.Second
				_, err = renew(t, tool, a)
				fine(t, err)
				gone(t, c.prefix.Addr(), a.Lease)
				wantAddresses(t, "in the end", own4, own6)
			})
		})
	}
}

func TestLeaseBecomesPermanent(t *testing.T) {
	t.Parallel()
	for name, c := range leaseCases {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(), func(t *testing.T) {
				tool := programs["iproute2 ip"].find(t)
				a := Alias{Prefix: c.prefix, Interface: "eth0", Lease: 2 * time.Second}
				_, _, err := raise(t, tool, a)
				fine(t, err)
				a.Lease = 0
				ran, err := renew(t, tool, a)
				fine(t, err)
				wantCommands(t, "of the renewal", ran, fmt.Sprintf(c.renew, "forever"))
				wantLease(t, "when renewed", c.prefix.Addr(), 0)
				time.Sleep(3500 * time.Millisecond)
				ran, err = renew(t, tool, a)
				fine(t, err)
				wantCommands(t, "where it has no expiry already", ran)
				wantAddresses(t, "in the end", own4, own6, c.assigned)

				a.Lease = 600 * time.Second // and it can be had back
				_, err = renew(t, tool, a)
				fine(t, err)
				wantLease(t, "when renewed again", c.prefix.Addr(), a.Lease)
			})
		})
	}
}

// Though an IPv4 one is preferred as long as it is valid: what keeps it from being chosen is its /32.
func TestLeasedAddressIsNoSource(t *testing.T) {
	onHost(t, standby("route add default via 172.16.0.254", "-6 route add default via 2001:db8::254"), func(t *testing.T) {
		tool := programs["iproute2 ip"].find(t)
		for prefix, targets := range map[netip.Prefix]map[string]string{
			virtual4: {"172.16.0.2": "172.16.0.3", "192.0.2.1": "172.16.0.3"},
			virtual6: {"2001:db8::2": "2001:db8::3", "2001:db8:9::1": "2001:db8::3"},
		} {
			a := Alias{Prefix: prefix, Interface: "eth0", Lease: 600 * time.Second}
			_, _, err := raise(t, tool, a)
			fine(t, err)
			for _, when := range []string{"raised", "renewed"} {
				for target, want := range targets {
					route, err := RouteTo(netip.MustParseAddr(target), netip.Addr{})
					fine(t, err)
					if route.Source != netip.MustParseAddr(want) {
						t.Errorf("%s: source %v to %s, want %s", when, route.Source, target, want)
					}
				}
				_, err = renew(t, tool, a)
				fine(t, err)
			}
		}
	})
}

func TestRenewAllAssignmentsOfTheAddressOnly(t *testing.T) {
	build := standby(
		"link add eth1 type veth peer name far", "link set eth1 up",
		"addr add 172.16.0.1/32 dev eth0 label eth0:1",
		"addr add 172.16.0.1/24 dev eth0 label eth0:2",
		"addr add 172.16.0.1/16 dev eth0",
		"addr add 172.16.0.1 peer 10.9.0.2/30 dev eth0 label eth0:3",
		"addr add 172.16.0.11/32 dev eth0 label eth0:4",
		"addr add 172.16.0.1/28 dev eth1 label eth1web",
		"-6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0",
		"-6 addr add 2001:db8::1 peer 2001:db8:9::2/64 dev eth1 nodad",
		"-6 addr add 2001:db8::11/128 dev eth0 nodad",
	)
	onHost(t, build, func(t *testing.T) {
		tool := programs["iproute2 ip"].find(t)
		before := addresses(t)
		for lease, words := range map[time.Duration][2]string{600 * time.Second: {"valid_lft 600 preferred_lft 600", "nodad valid_lft 600 preferred_lft 0"}, 700 * time.Second: {"valid_lft 700 preferred_lft 700", "nodad valid_lft 700 preferred_lft 0"}} {
			ran, err := renew(t, tool, Alias{Prefix: virtual4, Interface: "eth0", Lease: lease})
			fine(t, err)
			wantCommands(t, "for IPv4", ran,
				"ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 "+words[0],
				"ip addr replace 172.16.0.1/16 dev eth0 "+words[0],
				"ip addr replace 172.16.0.1 peer 10.9.0.2/30 dev eth0 label eth0:3 "+words[0],
				"ip addr replace 172.16.0.1/24 dev eth0 label eth0:2 "+words[0],
				"ip addr replace 172.16.0.1/28 dev eth1 label eth1web "+words[0],
			)
			ran, err = renew(t, tool, Alias{Prefix: virtual6, Interface: "eth0", Lease: lease})
			fine(t, err)
			wantCommands(t, "for IPv6", ran,
				"ip -6 addr replace 2001:db8::1/128 dev eth0 "+words[1],
				"ip -6 addr replace 2001:db8::1 peer 2001:db8:9::2/64 dev eth1 "+words[1],
			)
			wantAddresses(t, "when renewed", before...)
			wantLease(t, "when renewed", virtual4.Addr(), lease)
			wantLease(t, "when renewed", virtual6.Addr(), lease)
			for _, other := range []string{"172.16.0.3", "172.16.0.11", "2001:db8::3", "2001:db8::11"} {
				wantLease(t, "when renewed", netip.MustParseAddr(other), 0)
			}
		}
	})
}

// When the lease of a network's first address runs out, the kernel removes the network's other
// addresses with it, the host's own among them, as it does when it is removed.
func TestLeaseWhoseEndWouldRemoveAnotherAddress(t *testing.T) {
	t.Parallel()
	a := Alias{Prefix: netip.MustParsePrefix("172.16.0.1/24"), Interface: "eth0", Lease: 2 * time.Second}
	first := func(lease string, promote string) func(t *testing.T, l *lab.Lab) *lab.Host {
		return func(t *testing.T, l *lab.Lab) *lab.Host {
			h := standby("addr del 172.16.0.3/24 dev eth0", "addr add 172.16.0.1/24 dev eth0 label eth0:1 valid_lft "+lease+" preferred_lft "+lease, "addr add 172.16.0.3/24 dev eth0")(t, l)
			must(t, h.Sysctl("ipv4/conf/eth0/promote_secondaries", promote))
			return h
		}
	}
	const want = "renew 172.16.0.1/24 on eth0: no lease: the kernel would remove 172.16.0.3/24 at its end; to prevent that: sysctl -w net.ipv4.conf.eth0.promote_secondaries=1"
	for name, lease := range map[string]string{"it has a lease": "30", "it has none": "forever"} {
		t.Run(name, func(t *testing.T) {
			onHost(t, first(lease, "0"), func(t *testing.T) {
				tool := programs["iproute2 ip"].find(t)
				ran, err := renew(t, tool, a)
				if errorText(err) != want {
					t.Errorf("error %q, want %q", errorText(err), want)
				}
				if lease == "forever" {
					wantCommands(t, "of the renewal", ran)
				} else {
					wantCommands(t, "of the renewal", ran, "ip addr replace 172.16.0.1/24 dev eth0 label eth0:1 valid_lft forever preferred_lft forever")
				}
				wantLease(t, "when renewed", a.Prefix.Addr(), 0)
				wantAddresses(t, "when renewed", own4+" secondary", own6, "eth0 172.16.0.1/24 eth0:1")
			})
		})
	}
	t.Run("promote_secondaries prevents it", func(t *testing.T) {
		onHost(t, first("30", "1"), func(t *testing.T) {
			_, err := renew(t, programs["iproute2 ip"].find(t), a)
			fine(t, err)
			gone(t, a.Prefix.Addr(), a.Lease)
			wantAddresses(t, "in the end", own4, own6)
		})
	})
}

func TestRaiseWithALeaseByEachProgram(t *testing.T) {
	withPrograms(t, standby(), func(t *testing.T, p program, tool Tool) {
		for prefix, want := range map[netip.Prefix]string{
			virtual4: p.is("ip addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600", "ifconfig eth0:1 172.16.0.1 netmask 255.255.255.255 up"),
			virtual6: p.is("ip -6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft 600 preferred_lft 0", "ifconfig eth0 add 2001:db8::1/128"),
		} {
			if p.busybox {
				want = strings.Replace(want, "nodad ", "", 1)
			}
			a := Alias{Prefix: prefix, Interface: "eth0", Lease: 600 * time.Second}
			_, ran, err := raise(t, tool, a)
			fine(t, err)
			wantCommands(t, "of Raise", ran, want)
			if p.tool == "ip" && !p.busybox { // busybox's versions differ
				wantLease(t, "when added", prefix.Addr(), a.Lease)
			}
			if p.tool == "ip" {
				continue
			}
			ran, err = renew(t, tool, a)
			wantErr := fmt.Sprintf("renew %s on eth0: ifconfig cannot set an address's lifetime: use ip (Debian package iproute2)", prefix)
			if errorText(err) != wantErr {
				t.Errorf("error %q, want %q", errorText(err), wantErr)
			}
			wantCommands(t, "of the renewal", ran)
			a.Lease = 0
			ran, err = renew(t, tool, a)
			fine(t, err)
			wantCommands(t, "of what needs no renewal", ran)
		}
	})
}

// The kernel is asked, and the tool is not believed.
func TestLeaseByAnUnusualIp(t *testing.T) {
	t.Parallel()
	const (
		add4, add6     = "ip addr add 172.16.0.1/32 dev eth0 label eth0:1", "ip -6 addr add 2001:db8::1/128 dev eth0"
		renew4, renew6 = "ip addr replace 172.16.0.1/32 dev eth0 label eth0:1", "ip -6 addr replace 2001:db8::1/128 dev eth0"
		lasts4, lasts6 = " valid_lft 600 preferred_lft 600", " valid_lft 600 preferred_lft 0"
		short4, short6 = " valid_lft 400 preferred_lft 400", " valid_lft 400 preferred_lft 0"
	)
	for name, c := range map[string]struct {
		setup      []string // what is assigned already
		script     string
		raise      []string
		renew      []string
		err4, err6 string // patterns
		lease      time.Duration
	}{
		"takes the words and sets none": {
			script: `exec ip $(echo "$*" | sed "s/valid_lft.*//")`,
			raise:  []string{add4 + short4, add6 + " nodad" + short6},
			renew:  []string{renew4 + lasts4, renew6 + " nodad" + lasts6},
			err4:   "renew 172.16.0.1/32 on eth0: ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600: exit code 0, but the kernel shows it with no expiry",
			err6:   "renew 2001:db8::1/128 on eth0: ip -6 addr replace 2001:db8::1/128 dev eth0 nodad valid_lft 600 preferred_lft 0: exit code 0, but the kernel shows it with no expiry",
		},
		"does not know nodad": {
			script: `case "$*" in *nodad*) exit 1;; esac; exec ip "$@"`,
			raise:  []string{add4 + short4, add6 + " nodad" + short6 + " → 1", add6 + short6},
			renew:  []string{renew4 + lasts4, renew6 + " nodad" + lasts6 + " → 1", renew6 + lasts6},
			lease:  600 * time.Second,
		},
		"does not know lifetimes": {
			script: `case "$*" in *_lft*) echo what >&2; exit 255;; esac; exec ip "$@"`,
			raise:  []string{add4 + short4 + " → 255", add4, add6 + " nodad" + short6 + " → 255", add6 + short6 + " → 255", add6},
			renew:  []string{renew4 + lasts4 + " → 255", renew6 + " nodad" + lasts6 + " → 255", renew6 + lasts6 + " → 255"},
			err4:   "renew 172.16.0.1/32 on eth0: ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600: exit code 255: what",
			err6:   "renew 2001:db8::1/128 on eth0: ip -6 addr replace 2001:db8::1/128 dev eth0 valid_lft 600 preferred_lft 0: exit code 255: what",
		},
		"does nothing where the lease is shorter": {
			setup:  []string{"addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 500 preferred_lft 500", "-6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft 500 preferred_lft 0"},
			script: "exit 0",
			renew:  []string{renew4 + lasts4, renew6 + " nodad" + lasts6},
			err4:   "renew .* exit code 0, but the kernel shows it with (8m20|8m1.|8m.)s left",
			err6:   "renew .* exit code 0, but the kernel shows it with (8m20|8m1.|8m.)s left",
			lease:  500 * time.Second,
		},
		"does nothing where the lease is longer": {
			setup:  []string{"addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 3600 preferred_lft 3600", "-6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft 3600 preferred_lft 0"},
			script: "exit 0",
			renew:  []string{renew4 + lasts4, renew6 + " nodad" + lasts6},
			err4:   "renew .* exit code 0, but the kernel shows it with (1h0m0|59m..)s left",
			err6:   "renew .* exit code 0, but the kernel shows it with (1h0m0|59m..)s left",
			lease:  3600 * time.Second,
		},
		"is refused by the kernel": {
			setup:  []string{"addr add 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 500 preferred_lft 500", "-6 addr add 2001:db8::1/128 dev eth0 nodad valid_lft 500 preferred_lft 0"},
			script: "echo no >&2; exit 2",
			renew:  []string{renew4 + lasts4 + " → 2", renew6 + " nodad" + lasts6 + " → 2"},
			err4:   "renew 172.16.0.1/32 on eth0: ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 600 preferred_lft 600: exit code 2: no",
			err6:   "renew 2001:db8::1/128 on eth0: ip -6 addr replace 2001:db8::1/128 dev eth0 nodad valid_lft 600 preferred_lft 0: exit code 2: no",
			lease:  500 * time.Second,
		},
		"fails though it has done its work": {
			script: `ip "$@"; exit 2`,
			raise:  []string{add4 + short4 + " → 2", add6 + " nodad" + short6 + " → 2"},
			renew:  []string{renew4 + lasts4 + " → 2", renew6 + " nodad" + lasts6 + " → 2"},
			lease:  600 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, standby(c.setup...), func(t *testing.T) {
				tool := fakeTool(t, "ip", c.script)
				var raised, renewed []string
				for _, is := range []struct {
					prefix netip.Prefix
					err    string
				}{{virtual4, c.err4}, {virtual6, c.err6}} {
					a := Alias{Prefix: is.prefix, Interface: "eth0", Lease: 400 * time.Second}
					_, ran, err := tool.Raise(t.Context(), a)
					fine(t, err)
					raised = append(raised, commands(ran)...)
					if c.setup == nil {
						wantLease(t, "when added", is.prefix.Addr(), min(c.lease, a.Lease))
					}
					a.Lease = 600 * time.Second
					ran, err = tool.Renew(t.Context(), a)
					renewed = append(renewed, commands(ran)...)
					if !regexp.MustCompile("^(" + is.err + ")$").MatchString(errorText(err)) {
						t.Errorf("error %q, want %q", errorText(err), is.err)
					}
					wantLease(t, "when renewed", is.prefix.Addr(), c.lease)
				}
				wantCommands(t, "of Raise", raised, c.raise...)
				wantCommands(t, "of the renewals", renewed, c.renew...)
				wantAddresses(t, "in the end", own4, own6, "eth0 172.16.0.1/32 eth0:1", "eth0 2001:db8::1/128")
			})
		})
	}
	t.Run("takes other addresses along", func(t *testing.T) {
		onHost(t, standby("addr add 172.16.0.1/32 dev eth0 label eth0:1"), func(t *testing.T) {
			_, err := fakeTool(t, "ip", `ip "$@"; ip addr del 172.16.0.3/24 dev eth0`).Renew(t.Context(), Alias{Prefix: virtual4, Interface: "eth0", Lease: time.Minute})
			if want := "renew 172.16.0.1/32 on eth0: the address 172.16.0.3/24 was removed from eth0 with it"; errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
		})
	})
	t.Run("removes it, and leaves the other copy", func(t *testing.T) {
		onHost(t, standby("addr add 172.16.0.1/32 dev eth0 label eth0:1", "addr add 172.16.0.1/16 dev eth0 label eth0:2"), func(t *testing.T) {
			_, err := fakeTool(t, "ip", `case "$*" in */32*) exec ip addr del 172.16.0.1/32 dev eth0;; esac; exec ip "$@"`).Renew(t.Context(), Alias{Prefix: virtual4, Interface: "eth0", Lease: time.Minute})
			if want := "renew 172.16.0.1/32 on eth0: ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 60 preferred_lft 60: exit code 0, but the kernel no longer shows the address"; errorText(err) != want {
				t.Errorf("error %q, want %q", errorText(err), want)
			}
			wantLease(t, "the other copy", virtual4.Addr(), time.Minute)
		})
	})
}

func TestCanLease(t *testing.T) {
	dir := t.TempDir()
	busybox := filepath.Join(dir, "busybox")
	link := filepath.Join(dir, "ip")
	plain := filepath.Join(dir, "iproute2-ip")
	for _, path := range []string{busybox, plain} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(busybox, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tool Tool
		err  string
	}{
		"iproute2": {Tool{Name: "ip", Path: plain}, ""},
		"busybox":  {Tool{Name: "ip", Path: link}, link + " is part of busybox, and a lease needs the ip of iproute2 (Debian package iproute2)"},
		"ifconfig": {Tool{Name: "ifconfig", Path: plain}, "ifconfig cannot set an address's lifetime: use ip (Debian package iproute2)"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.tool.CanLease(); errorText(err) != c.err {
				t.Errorf("error %q, want %q", errorText(err), c.err)
			}
		})
	}
}

func TestLifetimeArguments(t *testing.T) {
	for lease, want := range map[time.Duration][2]string{
		0:                       {"valid_lft forever preferred_lft forever", "valid_lft forever preferred_lft 0"},
		1:                       {"valid_lft 1 preferred_lft 1", "valid_lft 1 preferred_lft 0"},
		time.Second:             {"valid_lft 1 preferred_lft 1", "valid_lft 1 preferred_lft 0"},
		1001 * time.Millisecond: {"valid_lft 2 preferred_lft 2", "valid_lft 2 preferred_lft 0"},
		24 * time.Hour:          {"valid_lft 86400 preferred_lft 86400", "valid_lft 86400 preferred_lft 0"},
	} {
		got := [2]string{strings.Join(lifetime(lease, false), " "), strings.Join(lifetime(lease, true), " ")}
		if got != want {
			t.Errorf("%v: %q, want %q", lease, got, want)
		}
	}
}

func TestLeaseOf(t *testing.T) {
	allBits := uint32(math.MaxUint32)
	for name, c := range map[string]struct {
		valid int
		want  time.Duration
	}{
		"no expiry":                   {int(allBits), 0},
		"no expiry, where int is 32":  {-1, 0},
		"due to go any moment":        {0, time.Second},
		"the last second":             {1, time.Second},
		"three minutes":               {180, 3 * time.Minute},
		"nearly no expiry, in 32 bit": {-2, (math.MaxUint32 - 1) * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := leaseOf(netlink.Addr{ValidLft: c.valid}); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestHasLease(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		shown, lease, ago time.Duration
		want              bool
	}{
		"as asked for":              {180 * s, 180 * s, 3 * time.Millisecond, true},
		"rounded up":                {2 * s, 1500 * time.Millisecond, 3 * time.Millisecond, true},
		"a second has begun":        {179 * s, 180 * s, 3 * time.Millisecond, true},
		"more than the time passed": {178 * s, 180 * s, 3 * time.Millisecond, false},
		"it took long":              {177 * s, 180 * s, 2500 * time.Millisecond, true},
		"longer than asked for":     {181 * s, 180 * s, 3 * time.Millisecond, false},
		"no expiry instead":         {0, 180 * s, 3 * time.Millisecond, false},
		"no expiry as wanted":       {0, 0, 3 * time.Millisecond, true},
		"a lease instead":           {180 * s, 0, 3 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hasLease(c.shown, c.lease, c.ago); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
