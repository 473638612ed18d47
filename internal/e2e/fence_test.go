package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/state"
)

// Primary and standby cannot hear each other, and the clients hear both: no
// machine can find that out for itself. Fencing helps.

const (
	fenceScript = "packaging/fence-ipmi.example"
	whenFree    = "packaging/vip-when-free.example"
)

// Without fencing there are two holders, until they hear each other again.
func TestPartitionThatNobodyCanDetect(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.must(s.Part(s.Primary, s.Standby))
	s.wantSeen(s.Primary.MAC().String())
	s.check(s.Standby, swift...).want(t, state.TookOver).because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
	s.wantOn(vip4, s.Primary, s.Standby)
	s.wantSeen(s.Primary.MAC().String(), s.Standby.MAC().String())
	s.check(s.Standby, swift...).want(t, state.Holding)

	s.must(s.Rejoin(s.Primary, s.Standby))
	s.check(s.Standby, swift...).want(t, state.Released)
	s.wantOn(vip4, s.Primary)
	s.wantSeen(s.Primary.MAC().String())
	s.mail.want(t, tookOver, released)
}

// With it the primary's power is off before its address is taken.
func TestFencing(t *testing.T) {
	s := newScene(t)
	board := s.fence(t, "")
	args := set(swift, "--pre-takeover", board.script)
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Part(s.Primary, s.Standby))
	s.wantSeen(s.Primary.MAC().String())

	e := s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantCommands(e, board.script, "ip addr add 172.16.0.1/32 dev eth0 label eth0:1")
	s.wantOn(vip4, s.Standby)
	if _, err := s.Primary.Run("true"); err == nil {
		t.Error("the primary has power")
	}
	s.wantSeen(s.Standby.MAC().String())
	s.mail.want(t, tookOver)[0].says(t, "the power of 172.16.0.2 is off")
	board.wantAsked(t, "off", "status")

	s.must(s.Rejoin(s.Primary, s.Standby))
	s.check(s.Standby, args...).want(t, state.Holding)
	board.wantAsked(t, "off", "status")
	s.wantWrittenDown(state.Active, state.TookOver)
}

// No proof that the power is off, no takeover.
func TestFencingThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ipmitool string
		asked    []string
	}{
		"the board does not answer":  {"echo Error: Unable to establish IPMI v2 session >&2; exit 1", []string{"off", "status", "status", "status", "status"}},
		"it says that all went well": {"echo Chassis Power Control: Down/Off; exit 0", []string{"off", "status", "status", "status", "status"}},
		"the power stays on":         {"echo Chassis Power is on; exit 0", []string{"off", "status", "status", "status", "status"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			board := s.fence(t, c.ipmitool)
			args := set(swift, "--pre-takeover", board.script)
			s.check(s.Standby, args...).want(t, state.OK)
			untouched := s.untouched(s.Standby)
			s.must(s.Part(s.Primary, s.Standby))
			e := s.check(s.Standby, args...).want(t, state.Blocked)
			if want := "; pre-takeover blocked it: " + board.script + ": exit code 1: "; !strings.Contains(e.Reason, want) {
				t.Errorf("reason %q, want %q", e.Reason, want)
			}
			board.wantAsked(t, c.asked...)
			untouched()
			s.wantOn(vip4, s.Primary)
			s.wantSeen(s.Primary.MAC().String())
			s.mail.want(t, looksDown+"pre-takeover failed")[0].says(t, "the power of 172.16.0.2 could not be shown to be off")

			// Who has seen that it is off takes over without it.
			s.must(s.Primary.PowerOff())
			s.hand("takeover", "web", "--pre-takeover", "true").want(t, state.TookOver)
			s.wantOn(vip4, s.Standby)
			if got := s.run(s.Standby, "cat", "/var/lib/pingover/web.settings"); !strings.Contains(got, `"pre-takeover":["`+board.script+`"]`) {
				t.Errorf("the manual confirmation is kept: %s", got)
			}
		})
	}
}

// board manages the primary's power, by an ipmitool on the standby's PATH.
type board struct {
	s           *scene
	script, dir string
}

// fence installs the script of docs/hooks.md on the standby, with an ipmitool
// that is another shell script, or by default switches the primary's power.
func (s *scene) fence(t *testing.T, ipmitool string) board {
	s.t.Helper()
	b := board{s: s, dir: s.t.TempDir()}
	b.script = filepath.Join(b.dir, "pingover-fence")
	s.script(b.script, strings.TrimPrefix(readFile(t, fenceScript), "#!/bin/sh\n"))
	if ipmitool == "" {
		ipmitool = `case $9 in
			off) touch $dir/off; until test -e $dir/dark; do sleep 0.05; done; echo Chassis Power Control: Down/Off;;
			status) test -e $dir/dark && echo Chassis Power is off || echo Chassis Power is on;;
			esac`
	}
	s.script(filepath.Join(b.dir, "ipmitool"), "dir="+b.dir+"\n"+`shift 2
test "$*" = "-H 192.0.2.10 -U fence -f /etc/pingover-fence.password chassis power $9" || echo "$*" >>$dir/asked
echo $9 >>$dir/asked`+"\n"+ipmitool+"\n")
	s.through("env", "PATH="+b.dir+":"+os.Getenv("PATH"))
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if _, err := os.Stat(filepath.Join(b.dir, "off")); err == nil {
				break
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		if err := s.Primary.PowerOff(); err != nil {
			s.t.Error(err)
			return
		}
		if err := os.WriteFile(filepath.Join(b.dir, "dark"), nil, 0o600); err != nil {
			s.t.Error(err)
		}
	}()
	s.t.Cleanup(func() {
		close(done)
		<-over
	})
	return b
}

func (b board) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "asked"))
	b.s.must(err)
	if diff := cmp.Diff(want, strings.Fields(string(text))); diff != "" {
		t.Errorf("what ipmitool was asked (-want +got):\n%s", diff)
	}
}

// wantSeen fails the test unless exactly these MACs reply to the client when it
// asks for the virtual IP.
func (s *scene) wantSeen(macs ...string) {
	s.t.Helper()
	w := s.wire(s.Client, vip4)
	began := time.Now()
	for range 5 {
		s.must(w.Ask(vip4, s.Client.Addr4()))
		time.Sleep(100 * time.Millisecond)
	}
	var got []string
	for _, heard := range w.Replies(began) {
		if mac := heard.MAC.String(); heard.Address == vip4 && !slices.Contains(got, mac) {
			got = append(got, mac)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(macs, got); diff != "" {
		s.t.Fatalf("who answers the client for 172.16.0.1 (-want +got):\n%s", diff)
	}
}
