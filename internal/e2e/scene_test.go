package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"pingover/internal/lab"
	"pingover/state"
)

// When a standby takes over, and what the other machines see.

func TestHealthyPrimaryCostsOneRoundTripAndNoOutput(t *testing.T) {
	s := shortScene(t)
	untouched := s.untouched(s.Standby)
	// A whole round takes 13 s: one reply must end it.
	healthy := set(withVIP, "--count", "5", "--interval", "3s", "--timeout", "1s", "--retry-wait", "20s")

	for range 2 {
		e := s.say(s.Standby, healthy...)
		if e.code != 0 || e.stdout != "" || e.stderr != "" {
			t.Fatalf("exit code %d\nstdout: %s\nstderr: %s\nwant 0 and no output", e.code, e.stdout, e.stderr)
		}
	}
	e := s.check(s.Standby, healthy...).want(t, state.OK).because(t, "172.16.0.2 replies")
	if r := e.Rounds; len(r) != 1 || r[0].Verdict != "up" || r[0].Sent != 1 || r[0].Received != 1 || r[0].RTT == nil {
		t.Errorf("rounds %s, want one that one reply ended", e.stdout)
	}
	if len(e.Holders) != 1 || e.Holders[0].Address != "172.16.0.1" {
		t.Errorf("holders %+v, want that of 172.16.0.1", e.Holders)
	}
	if e.took > 10*time.Second {
		t.Errorf("it took %s", e.took)
	}
	if rec := s.record(s.Standby); rec.Role != state.Standby || rec.Last.Outcome != state.OK || len(rec.Recent) != 0 {
		t.Errorf("record: role %q, last %+v, changes %+v; want a standby without history", rec.Role, rec.Last, rec.Recent)
	}
	untouched()
	s.mail.want(t)
	s.wantOn(vip4, s.Primary)
	s.wantNothingLeft(s.Standby, "web.json", "web.lock")
}

func TestPowerCut(t *testing.T) {
	s := newScene(t)
	once := set(withVIP, "--announce", "1")
	s.check(s.Standby, once...).want(t, state.OK)
	view := s.watchFrom(vip4)
	s.must(s.Primary.PowerOff())
	since := time.Now()

	e := s.check(s.Standby, once...).want(t, state.TookOver).because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
	if !e.Changed || e.Role != state.Active || len(e.Rounds) != 2 || e.MailWaiting != 0 || len(e.Holders) != 0 {
		t.Errorf("report: %s", e.stdout)
	}
	s.wantCommands(e, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
	s.wantLabel(s.Standby, vip4, "eth0:1")
	view.follows(s.Standby, since)
	l := s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")[0]
	l.says(t, "standby has taken over 172.16.0.1")
	l.says(t, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1 exit code 0")
	l.says(t, "To undo the takeover pingover release web or without pingover ip addr del 172.16.0.1/32 dev eth0")
	if l.to != "ops@example.org" || l.header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("email to %q, header %v", l.to, l.header)
	}

	for n := range 11 {
		e := s.check(s.Standby, once...).want(t, state.Holding).because(t, "holding 172.16.0.1; 172.16.0.2 does not reply")
		if e.Changed || len(e.Commands) != 0 || len(e.Rounds) != 1 {
			t.Fatalf("run %d after the takeover: %s", n+1, e.stdout)
		}
	}
	s.wantOn(vip4, s.Standby)
	s.wantLabel(s.Standby, vip4, "eth0:1")
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")
	if rec := s.record(s.Standby); rec.Role != state.Active || len(rec.Recent) != 1 || rec.Recent[0].Outcome != state.TookOver {
		t.Errorf("record: role %q, changes %+v; want one takeover", rec.Role, rec.Recent)
	}
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
}

func TestTakeoverWithoutVerbosePrintsOneLine(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	e := s.say(s.Standby, withVIP...)
	if want := "pingover: web: took-over: 172.16.0.2 does not reply, and 172.16.0.1 is not in use" + neverUp + "\n"; e.code != 11 || e.stderr != want || e.stdout != "" {
		t.Errorf("exit code %d\nstdout: %s\nstderr: %s\nwant   11 and %s", e.code, e.stdout, e.stderr, want)
	}
	if e = s.say(s.Standby, withVIP...); e.code != 10 || e.stderr != "" || e.stdout != "" {
		t.Errorf("next run: exit code %d\nstdout: %s\nstderr: %s\nwant 10 and no output", e.code, e.stdout, e.stderr)
	}
}

func TestPrimaryThatFiltersPingsIsUp(t *testing.T) {
	s := shortScene(t)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.FilterICMP(true))
	for range 2 {
		e := s.check(s.Standby, withVIP...).want(t, state.Blocked).
			because(t, "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive")
		want := []state.Holder{
			{Address: "172.16.0.2", MAC: s.Primary.MAC().String()},
			{Address: "172.16.0.1", MAC: s.Primary.MAC().String()},
		}
		if diff := cmp.Diff(want, e.Holders); diff != "" {
			t.Errorf("holders (-want +got):\n%s", diff)
		}
	}
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping")
	s.must(s.Primary.FilterICMP(false))
	s.check(s.Standby, withVIP...).want(t, state.OK)
	untouched()
	s.wantOn(vip4, s.Primary)
}

func TestPrimaryAndGatewayGoneMayBeOurOwnFault(t *testing.T) {
	s := newScene(t)
	auto := set(withVIP, "--name", "auto", "--witness", "auto", "--mail-via", "smtp://172.16.0.9")
	s.mail = s.serveMail(s.Client) // the gateway's goes down with it
	s.check(s.Standby, auto...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	s.must(s.Gateway.PowerOff())
	for _, args := range [][]string{auto, set(auto, "--name", "web", "--witness", "172.16.0.254")} {
		e := s.check(s.Standby, args...).want(t, state.Blocked).
			because(t, "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network")
		if diff := cmp.Diff([]state.Witness{{Address: "172.16.0.254"}}, e.Witnesses); diff != "" {
			t.Errorf("witnesses (-want +got):\n%s", diff)
		}
	}
	untouched()
	s.wantOn(vip4)
	s.mail.want(t, "[pingover] auto: PROBLEM: 172.16.0.2 looks down! not taken over: no witness replies", "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: no witness replies")

	// When it is back, the next check takes over.
	s.must(s.Gateway.PowerOn())
	s.check(s.Standby, auto...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
}

func TestAnotherMachineHasTheVirtualIP(t *testing.T) {
	t.Parallel()
	t.Run("and the primary is dead", func(t *testing.T) {
		s := newScene(t)
		untouched := s.untouched(s.Standby)
		s.must(s.Primary.PowerOff())
		s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		e := s.check(s.Standby, withVIP...).want(t, state.Elsewhere).
			because(t, "172.16.0.2 does not reply, and another standby serves 172.16.0.1")
		want := []state.Holder{{Address: "172.16.0.1", MAC: s.Second.MAC().String()}}
		if diff := cmp.Diff(want, e.Holders); diff != "" {
			t.Errorf("holders (-want +got):\n%s", diff)
		}
		untouched()
		s.wantOn(vip4, s.Second)
		s.mail.want(t, elsewhere(s.Second.MAC().String()))
	})
	t.Run("and the primary answers ARP", func(t *testing.T) {
		s := newScene(t)
		untouched := s.untouched(s.Standby)
		s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		s.run(s.Second, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
		s.must(s.Primary.FilterICMP(true))
		s.check(s.Standby, withVIP...).want(t, state.Blocked).
			because(t, "172.16.0.2 does not reply to pings, but it replies to ARP: it is alive")
		untouched()
		s.wantOn(vip4, s.Second)
		s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: 172.16.0.2 replies to ARP, but not to ping")
	})
}

func TestPrimaryBackDuringTheWait(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	run := s.follow(s.Standby, set(withVIP, "--retry-wait", "5s")...)
	run.until("waiting 5s")
	s.must(s.Primary.PowerOn())
	e := run.wait().want(t, state.OK).because(t, "172.16.0.2 replies")
	if r := e.Rounds; len(r) != 2 || r[0].Verdict != "down" || r[1].Verdict != "up" {
		t.Errorf("rounds: %s, want down and up", e.stdout)
	}
	untouched()
	s.wantOn(vip4, s.Primary)
	s.mail.want(t)
}

func TestOnlyTheThirdPingOfTheSecondRoundIsAnswered(t *testing.T) {
	s := shortScene(t)
	// Five of the first round and two of the second are lost.
	s.must(s.Primary.Firewall(nftables.ChainHookInput, lab.Drop(lab.EchoRequest4(), lab.To(s.Primary.Addr4()), lab.Rule{
		&expr.Numgen{Register: 1, Modulus: 8, Type: unix.NFT_NG_INCREMENTAL},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(7)},
	})))
	untouched := s.untouched(s.Standby)
	e := s.check(s.Standby, set(withVIP, "--count", "5")...).want(t, state.OK).because(t, "172.16.0.2 replies")
	if r := e.Rounds; len(r) != 2 || r[0].Verdict != "down" || r[0].Sent != 5 || r[1].Verdict != "up" || r[1].Sent != 3 || r[1].Received != 1 {
		t.Errorf("rounds: %s, want five lost pings, and three of which the last was answered", e.stdout)
	}
	untouched()
	s.mail.want(t)
}

func TestAliasRemovedManually(t *testing.T) {
	t.Parallel()
	takeover := "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1"
	removed := func(t *testing.T) *scene {
		s := newScene(t)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, withVIP...).want(t, state.TookOver)
		s.run(s.Standby, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		return s
	}
	const gone = "standby had assigned 172.16.0.1 and no longer has it. pingover did not remove it."

	t.Run("the primary is dead: taken over again", func(t *testing.T) {
		s := removed(t)
		s.check(s.Standby, withVIP...).want(t, state.TookOver)
		s.wantOn(vip4, s.Standby)
		s.wantLabel(s.Standby, vip4, "eth0:1")
		const lost = "[pingover] web: PROBLEM: 172.16.0.1 was removed from standby, not by pingover"
		emails := s.mail.want(t, takeover, takeover, lost)
		emails[slices.IndexFunc(emails, func(l email) bool { return l.subject == lost })].says(t, gone)
		s.check(s.Standby, withVIP...).want(t, state.Holding)
		s.mail.want(t, takeover, takeover, lost)
	})
	t.Run("the primary is back: standing by", func(t *testing.T) {
		s := removed(t)
		s.must(s.Primary.PowerOn())
		untouched := s.untouched(s.Standby)
		for range 2 {
			s.check(s.Standby, withVIP...).want(t, state.OK)
		}
		untouched()
		s.wantOn(vip4, s.Primary)
		s.mail.want(t, takeover, "[pingover] web: PROBLEM: 172.16.0.1 was removed from standby, not by pingover")[1].says(t, gone)
		if rec := s.record(s.Standby); rec.Role != state.Standby {
			t.Errorf("role %q, want standby", rec.Role)
		}
	})
}

func TestVirtualIPAddedManuallyWhileThePrimaryServes(t *testing.T) {
	s := newScene(t)
	two := append(slices.Clone(withVIP), "--vip", "172.16.0.5")
	s.run(s.Primary, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
	s.check(s.Standby, two...).want(t, state.OK)
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
	s.run(s.Standby, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	untouched := s.untouched(s.Standby)
	for range 2 {
		s.check(s.Standby, two...).want(t, state.Holding).
			because(t, "holding 172.16.0.1, which pingover did not assign; 172.16.0.2 replies")
	}
	untouched()
	s.wantOn(vip4, s.Standby)
	s.wantOn(netip.MustParseAddr("172.16.0.5"), s.Primary)
	s.mail.want(t)

	// The primary has it too: it has the lower MAC, and gets it.
	s.run(s.Primary, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	s.check(s.Standby, two...).want(t, state.Released).
		because(t, "the primary has 172.16.0.1 again (02:00:00:00:00:02): it is released here")
	s.check(s.Standby, two...).want(t, state.OK)
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, "[pingover] web: standby released 172.16.0.1") // it never had the other
}

func TestWithoutVirtualIPItIsOnlyReported(t *testing.T) {
	s := newScene(t)
	s.mail = s.serveMail(s.Client) // the gateway goes down
	args := set(hasty, "--mail-via", "smtp://172.16.0.9")
	untouched := s.untouched(s.Standby)
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	for range 2 {
		s.check(s.Standby, args...).want(t, state.Down).because(t, "172.16.0.2 does not reply, and there is no virtual IP to take over")
	}
	s.must(s.Gateway.PowerOff())
	s.check(s.Standby, args...).want(t, state.Unknown).
		because(t, "172.16.0.2 does not reply, but no witness replies either: it may be this machine's network")
	untouched()
	s.wantOn(vip4)
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 is down! no virtual IP is configured")
}

func TestPrimaryThatLostItsVirtualIP(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched(s.Standby)
	s.check(s.Standby, withVIP...).want(t, state.OK)
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
	for _, want := range []state.Outcome{state.OK, state.OK, state.Unserved, state.Unserved} {
		s.check(s.Standby, withVIP...).want(t, want)
	}
	unserved := "[pingover] web: PROBLEM: 172.16.0.1 unassigned, while 172.16.0.2 is up"
	first := s.mail.want(t, unserved)[0]

	s.run(s.Primary, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
	for range 4 {
		s.check(s.Standby, withVIP...).want(t, state.OK)
	}
	over := s.mail.want(t, unserved, "[pingover] web: RESOLVED: 172.16.0.1 is served again")[1]
	if got := over.header.Get("In-Reply-To"); got != first.id {
		t.Errorf("the email that it is over replies to %q, want %q", got, first.id)
	}
	untouched()
	s.wantOn(vip4, s.Primary)
}

func TestBootWait(t *testing.T) {
	s := newScene(t)
	args := set(withVIP, "--boot-wait", "3m")
	s.must(s.Standby.SetUptime(time.Minute))
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.Blocked)
	untouched()
	s.wantOn(vip4)
	s.must(s.Standby.SetUptime(4 * time.Minute))
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, "[pingover] web: PROBLEM: 172.16.0.2 looks down! not taken over: standby has just booted", "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")
}

// As in the classic ping-failover script: the address that is pinged is the one that moves.
func TestPrimaryThatIsItsOwnVirtualIP(t *testing.T) {
	s := newScene(t)
	args := set(withVIP, "--host", "172.16.0.1")
	s.check(s.Standby, args...).want(t, state.OK).because(t, "172.16.0.1 replies")
	view := s.watchFrom(vip4)
	s.must(s.Primary.PowerOff())
	since := time.Now()
	s.check(s.Standby, args...).want(t, state.TookOver)
	view.follows(s.Standby, since)
	s.wantOn(vip4, s.Standby)

	// Its own answer proves nothing, so it is not asked for one.
	for range 2 {
		e := s.check(s.Standby, args...).want(t, state.Holding).
			because(t, "holding 172.16.0.1; 172.16.0.1 could not be asked: 172.16.0.1 is on this machine now, so a ping would answer itself")
		if len(e.Rounds) != 0 {
			t.Errorf("it was pinged: %s", e.stdout)
		}
	}
	s.mail.want(t, "[pingover] web: 172.16.0.1 is down! standby took over 172.16.0.1")

	view = s.watchFrom(vip4)
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, args...).want(t, state.Released).
		because(t, "172.16.0.1 is also assigned at 02:00:00:00:00:02, another machine: it is released here")
	view.follows(s.Primary, time.Now())
	s.check(s.Standby, args...).want(t, state.OK)
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, "[pingover] web: 172.16.0.1 is down! standby took over 172.16.0.1", "[pingover] web: standby released 172.16.0.1")
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	both := append(slices.Clone(withVIP), "--vip", "2001:db8::1")
	for name, c := range map[string]struct {
		args     []string
		vips     []netip.Addr
		reason   string
		subject  string
		commands []string
	}{
		"alone": {
			args:     set(hasty, "--host", "2001:db8::2", "--vip", "2001:db8::1/128", "--witness", "2001:db8::254"),
			vips:     []netip.Addr{vip6},
			reason:   "2001:db8::2 does not reply, and 2001:db8::1 is not in use",
			subject:  "[pingover] web: 2001:db8::2 is down! standby took over 2001:db8::1",
			commands: []string{"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0"},
		},
		"with IPv4": {
			args:    both,
			vips:    []netip.Addr{vip4, vip6},
			reason:  "172.16.0.2 does not reply, and 172.16.0.1, 2001:db8::1 are not in use",
			subject: "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1 and 2001:db8::1",
			commands: []string{
				"ip addr add 172.16.0.1/32 dev eth0 label eth0:1",
				"ip -6 addr add 2001:db8::1/128 dev eth0 nodad preferred_lft 0",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.detectDuplicates(s.Standby)
			s.check(s.Standby, c.args...).want(t, state.OK)
			watch := func() (views []view) {
				for _, a := range c.vips {
					views = append(views, s.watchFrom(a))
				}
				return views
			}
			views := watch()
			s.must(s.Primary.PowerOff())
			since := time.Now()
			e := s.check(s.Standby, c.args...).want(t, state.TookOver).because(t, c.reason)
			s.wantCommands(e, c.commands...)
			for i, a := range c.vips {
				views[i].follows(s.Standby, since)
				s.wantOn(a, s.Standby)
			}
			// It is not the source of what this machine sends of its own.
			if out := s.run(s.Standby, "ip", "-6", "route", "get", "2001:db8::9"); !strings.Contains(out, "src 2001:db8::3 ") {
				t.Errorf("source of this machine's own traffic: %s", out)
			}
			s.check(s.Standby, c.args...).want(t, state.Holding)
			s.mail.want(t, c.subject)

			views = watch()
			s.must(s.Primary.PowerOn())
			s.check(s.Standby, c.args...).want(t, state.Released)
			since = time.Now()
			for i, a := range c.vips {
				views[i].follows(s.Primary, since)
				s.wantOn(a, s.Primary)
			}
			s.check(s.Standby, c.args...).want(t, state.OK)
		})
	}
}

// The kernel removes the other addresses of a network with its first one.
func TestAliasWithinTheNetworkLeavesTheOwnAddressAlone(t *testing.T) {
	s := newScene(t)
	wide := set(withVIP, "--vip", "172.16.0.1/16")
	own := s.Standby.Addr4()
	const promote = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"
	for _, order := range []string{"own address first", "alias first"} {
		s.must(s.Primary.PowerOff())
		e := s.check(s.Standby, wide...).want(t, state.TookOver)
		s.wantCommands(e, "ip addr add 172.16.0.1/16 dev eth0 label eth0:1")
		if order == "alias first" {
			s.run(s.Standby, "sh", "-c", "echo 1 >"+promote+"; ip addr del 172.16.0.3/16 dev eth0; ip addr add 172.16.0.3/16 dev eth0; echo 0 >"+promote+
				"; ip route replace default via 172.16.0.254")
			if out := s.run(s.Standby, "ip", "-o", "addr", "show", "to", own.String()); !strings.Contains(out, "secondary") {
				t.Fatalf("the own address is not behind the alias: %s", out)
			}
		}
		s.wantOn(own, s.Standby)
		s.check(s.Standby, wide...).want(t, state.Holding)

		s.must(s.Primary.PowerOn())
		s.check(s.Standby, wide...).want(t, state.Released)
		s.wantOn(vip4, s.Primary)
		s.wantOn(own, s.Standby)
		if got := strings.TrimSpace(s.run(s.Standby, "cat", promote)); got != "0" {
			t.Errorf("%s: promote_secondaries was left at %s", order, got)
		}
		s.check(s.Standby, wide...).want(t, state.OK)
	}
}

// needTool skips a test that changes addresses with a tool that is not there.
func needTool(t testing.TB, tool string) {
	t.Helper()
	lab.Need(t, tool, map[string]string{"ip": "iproute2", "ifconfig": "net-tools"}[tool])
}

// busybox has the program find busybox in place of the tool, in the directory
// that it returns.
func (s *scene) busybox(tool string) (dir string) {
	s.t.Helper()
	dir = s.t.TempDir()
	s.must(os.Symlink(lab.Need(s.t, "busybox", "busybox"), filepath.Join(dir, tool)))
	s.through("env", "PATH="+dir+":"+os.Getenv("PATH"))
	return dir
}

func TestTools(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tool    string
		busybox bool
		raise   []string
		lower   []string
	}{
		"ifconfig": {
			tool:  "ifconfig",
			raise: []string{"ifconfig eth0:1 172.16.0.1 netmask 255.255.255.255 up", "ifconfig eth0 add 2001:db8::1/128"},
			lower: []string{"ifconfig eth0:1 down", "ifconfig eth0 del 2001:db8::1/128"},
		},
		"busybox ip": {
			tool: "ip", busybox: true,
			raise: []string{"ip addr add 172.16.0.1/32 dev eth0 label eth0:1", "ip -6 addr add 2001:db8::1/128 dev eth0 preferred_lft 0"},
			lower: []string{"ip addr del 172.16.0.1/32 dev eth0", "ip -6 addr del 2001:db8::1/128 dev eth0"},
		},
		"busybox ifconfig": {
			tool: "ifconfig", busybox: true,
			raise: []string{"ifconfig eth0:1 172.16.0.1 netmask 255.255.255.255 up", "ifconfig eth0 add 2001:db8::1/128"},
			lower: []string{"ifconfig eth0:1 down", "ifconfig eth0 del 2001:db8::1/128"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.detectDuplicates(s.Standby)
			if c.busybox {
				s.busybox(c.tool)
			} else {
				needTool(t, c.tool)
			}
			args := append(set(withVIP, "--tool", c.tool), "--vip", "2001:db8::1")
			s.check(s.Standby, args...).want(t, state.OK)
			view := s.watchFrom(vip4)
			s.must(s.Primary.PowerOff())
			since := time.Now()
			e := s.check(s.Standby, args...).want(t, state.TookOver)
			s.wantCommands(e, c.raise...)
			view.follows(s.Standby, since)
			s.wantOn(vip4, s.Standby)
			s.wantOn(vip6, s.Standby)
			s.wantLabel(s.Standby, vip4, "eth0:1")
			s.check(s.Standby, args...).want(t, state.Holding)

			s.must(s.Primary.PowerOn())
			e = s.check(s.Standby, args...).want(t, state.Released)
			s.wantCommands(e, c.lower...)
			s.wantOn(vip4, s.Primary)
			s.wantOn(vip6, s.Primary)
			s.wantOn(s.Standby.Addr4(), s.Standby)
			s.check(s.Standby, args...).want(t, state.OK)
			s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1 and 2001:db8::1",
				"[pingover] web: standby released 172.16.0.1 and 2001:db8::1")
		})
	}
}

// A second interface on the same switch answers ARP for the addresses of the
// first (arp_ignore 0).
func TestSecondInterfaceIsNoConflict(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		address string // of the second interface
		args    []string
		label   string
	}{
		"virtual IP on the first": {
			args: withVIP, label: "eth0:1",
		},
		// With no address to ask from, it asks by probes: those are answered
		// on the first interface.
		"virtual IP on the second": {
			args: set(withVIP, "--vip", "172.16.0.1@eth1"), label: "eth1:1",
		},
		"both in the network of the virtual IP": {
			address: "172.16.0.33/16",
			args:    set(withVIP, "--interface", "eth0"), label: "eth0:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			nic, err := s.Standby.NIC()
			s.must(err)
			if c.address != "" {
				s.run(s.Standby, "ip", "addr", "add", c.address, "dev", nic)
				e := s.check(s.Standby, withVIP...)
				if e.code != 78 || e.Error == nil || !strings.Contains(*e.Error, "the networks of eth0 and eth1 all hold it") {
					t.Fatalf("exit code %d, want 78, for two interfaces can be meant\nstdout: %s", e.code, e.stdout)
				}
			}
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, c.args...).want(t, state.TookOver)
			for range 2 {
				e := s.check(s.Standby, c.args...).want(t, state.Holding)
				if len(e.Holders) != 0 {
					t.Errorf("another machine was seen: %s", e.stdout)
				}
			}
			s.wantOn(vip4, s.Standby)
			s.wantLabel(s.Standby, vip4, c.label)
		})
	}
}

func TestLossyLinkIsNotDown(t *testing.T) {
	s := newScene(t)
	args := set(withVIP, "--count", "5", "--interval", "50ms")
	s.check(s.Standby, args...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.Lose(50))
	for range 10 {
		switch e := s.check(s.Standby, args...); e.Outcome {
		case state.OK, state.Blocked, state.Unknown: // the kernel may have lost its neighbour
		default:
			t.Fatalf("outcome %q: %s", e.Outcome, e.stdout)
		}
	}
	untouched()
	s.wantOn(vip4, s.Primary)
}

func TestMailServerThatFailsDelaysNothing(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"dead":   nil,
		"silent": func(c net.Conn) { io.Copy(io.Discard, c) },
		"slow": func(c net.Conn) {
			for _, b := range []byte("220 a greeting that takes its time\r\n") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(500 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			called := make(chan time.Time, 10)
			server := serve
			if serve != nil {
				server = func(c net.Conn) {
					called <- time.Now()
					serve(c)
				}
			}
			args := set(withVIP, "--mail-timeout", "3s", "--mail-via", fmt.Sprintf("smtp://172.16.0.254:%d", s.listen(s.Gateway, server)))
			s.check(s.Standby, args...).want(t, state.OK)
			view := s.watchFrom(vip4)
			s.must(s.Primary.PowerOff())
			since := time.Now()
			e := s.check(s.Standby, args...).want(t, state.TookOver)
			if e.MailWaiting != 1 || !strings.Contains(e.stderr, "mail is pending: ") {
				t.Errorf("%d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			first := view.follows(s.Standby, since)
			if serve != nil && (<-called).Before(first) {
				t.Error("the mail server was called before the client was served")
			}
			s.wantOn(vip4, s.Standby)
			rec := s.record(s.Standby)
			if rec.Role != state.Active || len(rec.Outbox) != 1 {
				t.Fatalf("role %q, outbox %+v; want active, and one email", rec.Role, rec.Outbox)
			}
			s.mail.want(t)

			// Reported when it begins and when it ends, not in every run.
			if e = s.check(s.Standby, args...).want(t, state.Holding); e.MailWaiting != 1 || e.stderr != "" {
				t.Errorf("next run: %d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			e = s.check(s.Standby, withVIP...).want(t, state.Holding)
			if e.MailWaiting != 0 || !strings.Contains(e.stderr, "mail is delivered again") {
				t.Errorf("server is back: %d emails pending, stderr: %s", e.MailWaiting, e.stderr)
			}
			l := s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")[0]
			if l.id != rec.Outbox[0].MessageID {
				t.Errorf("Message-ID %s, want %s, that of the first try", l.id, rec.Outbox[0].MessageID)
			}
			s.check(s.Standby, withVIP...).want(t, state.Holding)
			s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")
			s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
		})
	}
}

func TestSignalDuringTheWait(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched(s.Standby)
	s.must(s.Primary.PowerOff())
	run := s.follow(s.Standby, set(withVIP, "--retry-wait", "1m")...)
	run.until("waiting 1m")
	s.must(run.cmd.Process.Signal(syscall.SIGTERM))
	e := run.wait()
	if died := run.cmd.ProcessState.String(); died != "signal: terminated" || e.stdout != "" {
		t.Errorf("it ended by %q, want the signal; stdout: %s", died, e.stdout)
	}
	untouched()
	s.wantOn(vip4)
	s.mail.want(t)
	s.wantNothingLeft(s.Standby, "web.lock")
	s.check(s.Standby, withVIP...).want(t, state.TookOver)
}

func TestSignalDuringTheAnnouncing(t *testing.T) {
	s := newScene(t)
	s.through("env", "--default-signal=INT") // a test in the background of a script has it ignored
	s.must(s.Primary.PowerOff())
	run := s.follow(s.Standby, set(withVIP, "--announce", "20")...)
	run.until("announced on eth0: 172.16.0.1 is at " + s.Standby.MAC().String())
	s.must(run.cmd.Process.Signal(syscall.SIGINT))
	signalled := time.Now()
	e := run.wait().want(t, state.TookOver)
	if took := time.Since(signalled); took > 10*time.Second {
		t.Errorf("it took %s to end", took)
	}
	if e.MailWaiting != 1 {
		t.Errorf("%d emails pending, want 1", e.MailWaiting)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t)
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.lock")
	s.check(s.Standby, withVIP...).want(t, state.Holding)
	s.mail.want(t, "[pingover] web: 172.16.0.2 is down! standby took over 172.16.0.1")
	s.wantOn(vip4, s.Standby)
}

func TestTwoClustersTakeOverInTheSameMoment(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"ip", "ifconfig"} {
		t.Run(tool, func(t *testing.T) {
			needTool(t, tool)
			s := newScene(t)
			s.run(s.Primary, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
			a := set(withVIP, "--tool", tool, "--name", "a")
			b := set(a, "--name", "b", "--vip", "172.16.0.5")
			s.must(s.Primary.PowerOff())
			waitA, waitB := s.start(s.Standby, a...), s.start(s.Standby, b...)
			waitA().want(t, state.TookOver)
			waitB().want(t, state.TookOver)
			vip5 := netip.MustParseAddr("172.16.0.5")
			s.wantOn(vip4, s.Standby)
			s.wantOn(vip5, s.Standby)
			labels := []string{s.label(s.Standby, vip4), s.label(s.Standby, vip5)}
			slices.Sort(labels)
			if !slices.Equal(labels, []string{"eth0:1", "eth0:2"}) {
				t.Errorf("labels %q, want eth0:1 and eth0:2", labels)
			}
			for _, args := range [][]string{a, b} {
				s.check(s.Standby, args...).want(t, state.Holding)
			}
			s.mail.want(t, "[pingover] a: 172.16.0.2 is down! standby took over 172.16.0.1", "[pingover] b: 172.16.0.2 is down! standby took over 172.16.0.5")
			s.wantNothingLeft(s.Standby, "a.json", "a.lock", "act.lock", "b.json", "b.lock")
		})
	}
}

// What scenes have in common beside the lab itself.

// set are the settings with other values: flag, value, flag, value.
func set(args []string, pairs ...string) []string {
	args = slices.Clone(args)
	for pair := range slices.Chunk(pairs, 2) {
		if i := slices.Index(args, pair[0]); i >= 0 {
			args[i+1] = pair[1]
		} else {
			args = append(args, pair...)
		}
	}
	return args
}

// through makes the program run by the words of another command, such as
// "env PATH=/x".
func (s *scene) through(words ...string) {
	s.t.Helper()
	wrapper := filepath.Join(s.t.TempDir(), "pingover")
	s.script(wrapper, fmt.Sprintf("exec %s %s \"$@\"\n", strings.Join(words, " "), s.path))
	s.path = wrapper
}

// say runs one check as cron does: without --json, and with no terminal.
func (s *scene) say(h *lab.Host, args ...string) ended {
	s.t.Helper()
	cmd := s.command(h, append([]string{"check"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return ended{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(began), code: cmd.ProcessState.ExitCode()}
}

// running is a verbose check that has begun.
type running struct {
	s      *scene
	cmd    *exec.Cmd
	began  time.Time
	stdout bytes.Buffer
	mu     sync.Mutex
	stderr bytes.Buffer
}

// follow begins one verbose check, with --json.
func (s *scene) follow(h *lab.Host, args ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: s.command(h, append([]string{"check", "--json", "--verbose"}, args...)...), began: time.Now()}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	s.must(r.cmd.Start())
	return r
}

// Write takes what the check prints.
func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.Write(p)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.String()
}

// until waits until the check has printed the words.
func (r *running) until(words string) {
	r.s.t.Helper()
	for range 6000 {
		if strings.Contains(r.said(), words) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.s.t.Fatalf("it has not printed %q in 30s, but:\n%s", words, r.said())
}

// wait waits for the check's end.
func (r *running) wait() ended {
	r.s.t.Helper()
	if err := r.cmd.Wait(); r.cmd.ProcessState == nil {
		r.s.t.Fatal(err)
	}
	e := ended{stdout: r.stdout.String(), stderr: r.said(), took: time.Since(r.began), code: r.cmd.ProcessState.ExitCode()}
	if e.stdout == "" {
		return e
	}
	if err := json.Unmarshal([]byte(e.stdout), &e.Report); err != nil {
		r.s.t.Fatalf("stdout is no JSON: %v\n%s", err, e.stdout)
	}
	return e
}

// untouched remembers a host's addresses and routes, to be compared later.
func (s *scene) untouched(h *lab.Host) (compare func()) {
	s.t.Helper()
	kernel := func() string { return s.run(h, "sh", "-c", "ip -o addr; ip route; ip -6 route") }
	before := kernel()
	return func() {
		s.t.Helper()
		if diff := cmp.Diff(before, kernel()); diff != "" {
			s.t.Fatalf("addresses and routes of %s (-before +after):\n%s", h.Name(), diff)
		}
	}
}

// wantOn fails the test unless the address is assigned once on each of the hosts,
// and nowhere else.
func (s *scene) wantOn(a netip.Addr, hosts ...*lab.Host) {
	s.t.Helper()
	for _, h := range []*lab.Host{s.Client, s.Primary, s.Standby, s.Second, s.Gateway} {
		switch _, err := h.Run("true"); {
		case slices.Contains(hosts, h):
			s.wantHeld(h, a, 1)
		case err == nil: // its power is on
			s.wantHeld(h, a, 0)
		}
	}
}

// label is the label of an address on a host.
func (s *scene) label(h *lab.Host, a netip.Addr) string {
	s.t.Helper()
	var links []struct {
		Addresses []struct{ Label string } `json:"addr_info"`
	}
	s.must(json.Unmarshal([]byte(s.run(h, "ip", "-json", "addr", "show", "to", a.String())), &links))
	for _, link := range links {
		for _, address := range link.Addresses {
			if address.Label != "" { // ip shows the others as empty
				return address.Label
			}
		}
	}
	return ""
}

func (s *scene) wantLabel(h *lab.Host, a netip.Addr, want string) {
	s.t.Helper()
	s.wantHeld(h, a, 1)
	if got := s.label(h, a); got != want {
		s.t.Errorf("label of %s on %s: %q, want %q", a, h.Name(), got, want)
	}
}

// wantCommands fails the test unless exactly these were run, with success.
func (s *scene) wantCommands(e ended, want ...string) {
	s.t.Helper()
	var got []string
	for _, c := range e.Commands {
		line := strings.Join(c.Argv, " ")
		if c.Code == nil || *c.Code != 0 {
			line += " (failed)"
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// wantNothingLeft fails the test unless no process runs on the host but its
// keeper, and there are exactly these files, apart from the settings and the
// history of the clusters.
func (s *scene) wantNothingLeft(h *lab.Host, files ...string) {
	s.t.Helper()
	got := slices.DeleteFunc(strings.Fields(s.run(h, "ls", "-A", "/var/lib/pingover")), func(name string) bool {
		return strings.HasSuffix(name, ".settings") || strings.HasSuffix(name, ".history")
	})
	if !slices.Equal(got, files) {
		s.t.Errorf("files %q, want %q", got, files)
	}
	s.wantNoProcess(h)
}

// wantNoProcess fails the test where a process runs on the host besides its keeper.
func (s *scene) wantNoProcess(h *lab.Host) {
	s.t.Helper()
	network := strings.TrimSpace(s.run(h, "readlink", "/proc/self/ns/net"))
	all, err := filepath.Glob("/proc/[0-9]*")
	s.must(err)
	for _, dir := range all {
		if there, err := os.Readlink(dir + "/ns/net"); err != nil || there != network || filepath.Base(dir) == strconv.Itoa(os.Getpid()) {
			continue
		}
		if name, err := os.ReadFile(dir + "/comm"); err == nil && string(name) != "sh\n" {
			s.t.Errorf("%s still runs on %s", strings.TrimSpace(string(name)), h.Name())
		}
	}
}

// detectDuplicates switches the kernel's duplicate address detection on,
// which is off in the lab.
func (s *scene) detectDuplicates(h *lab.Host) {
	s.t.Helper()
	s.run(h, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
}

// view is how the client sees an address.
type view struct {
	*lab.Trace
	s    *scene
	addr netip.Addr
}

// watchFrom has the client ping an address, and returns when it is answered.
func (s *scene) watchFrom(a netip.Addr) view {
	s.t.Helper()
	v := view{s.watch(a), s, a}
	v.firstAfter(time.Time{})
	return v
}

// firstAfter waits for the first reply to a ping that was sent later.
func (v view) firstAfter(since time.Time) time.Time {
	v.s.t.Helper()
	for range 1000 {
		if sample, ok := v.FirstReplyAfter(since); ok {
			return sample.At
		}
		time.Sleep(10 * time.Millisecond)
	}
	v.s.t.Fatalf("the client gets no answer from %s", v.addr)
	return time.Time{}
}

// follows fails the test unless the client has found the address on another
// host since then, and says when. Without an announcement that takes it 23 s
// and more; with one, what is left is the takeover itself.
func (v view) follows(h *lab.Host, since time.Time) time.Time {
	v.s.t.Helper()
	first := v.firstAfter(since)
	v.Stop()
	if outage := first.Sub(since); outage > 15*time.Second {
		v.s.t.Errorf("the client could not reach %s for %s", v.addr, outage)
	}
	if out := v.s.run(v.s.Client, "ip", "neigh", "show", v.addr.String()); !strings.Contains(out, h.MAC().String()) {
		v.s.t.Errorf("the client takes %s for %swant %s", v.addr, out, h.MAC())
	}
	return first
}

// says fails the test unless the email has the words, wherever its lines end.
func (l email) says(t testing.TB, words string) {
	t.Helper()
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(l.body)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), words) {
		t.Errorf("the email does not say %q:\n%s", words, text)
	}
}

// listen has serve answer on a port of the host; with nil the port is closed.
func (s *scene) listen(h *lab.Host, serve func(net.Conn)) (port int) {
	s.t.Helper()
	var l net.Listener
	s.must(h.Do(func() (err error) {
		l, err = net.Listen("tcp", ":0")
		return err
	}))
	if serve == nil {
		s.must(l.Close())
		return l.Addr().(*net.TCPAddr).Port
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	s.t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}
