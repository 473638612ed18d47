package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/state"
)

// An ordinary user with two capabilities does all that root does; without
// them, nothing.

func TestOrdinaryUserWithCapabilities(t *testing.T) {
	s := shortScene(t)
	s.asUser("net_admin", "net_raw")
	args := set(swift, "--lease", "30s")
	for _, name := range []string{"pre-takeover", "post-takeover", "pre-release", "post-release"} {
		hook := "/run/nobody/" + name
		s.run(s.Standby, "sh", "-ec", `printf '#!/bin/sh\necho %s by $(id -u) >>/run/nobody/log\n' $1 >$0; chmod 0755 $0`, hook, name)
		args = set(args, "--"+name, hook)
	}
	hooks := func(names ...string) {
		t.Helper()
		var want string
		for _, name := range names {
			want += name + " by " + user + "\n"
		}
		if got := s.run(s.Standby, "cat", "/run/nobody/log"); got != want {
			t.Errorf("hooks:\n%swant:\n%s", got, want)
		}
	}
	s.check(s.Standby, args...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, args...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	hooks("pre-takeover", "post-takeover")

	s.within(20*time.Second, "the lease grows shorter", func() bool { return s.leaseLeft() <= 27 })
	s.wantCommands(s.check(s.Standby, args...).want(t, state.Holding), "ip addr replace 172.16.0.1/32 dev eth0 label eth0:1 valid_lft 30 preferred_lft 30")
	if left := s.leaseLeft(); left < 28 {
		t.Errorf("%d s of the lease are left after it was renewed", left)
	}

	s.must(s.Primary.PowerOn())
	s.check(s.Standby, args...).want(t, state.Released)
	s.check(s.Standby, args...).want(t, state.OK)
	s.wantOn(vip4, s.Primary)
	hooks("pre-takeover", "post-takeover", "pre-release", "post-release")

	// Manually.
	s.giveUp()
	s.hand("takeover", "web").want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	s.plain(0, "paused until", "pause", "web")
	s.wantUsersFiles("-rw------- act.lock", "-rw-r--r-- web.history", "-rw-r--r-- web.json", "-rw------- web.lock", "-rw-r--r-- web.pause", "-rw------- web.settings")
	s.plain(0, "resumed: checks switch again", "resume", "web")
	s.hand("release", "web", "--force").want(t, state.Released)
	s.wantOn(vip4)
	s.wantUsersFiles("-rw------- act.lock", "-rw-r--r-- web.history", "-rw-r--r-- web.json", "-rw------- web.lock", "-rw------- web.settings")
	s.mail.want(t, tookOver, released, takenManually, released)
	s.wantNothingLeft(s.Standby)
}

// Removing the first address of a network without losing the others needs a
// kernel setting to be changed meanwhile.
func TestOrdinaryUserReleasesAnAliasBeforeTheOwnAddress(t *testing.T) {
	s := newScene(t)
	const promote = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"
	wide := set(swift, "--vip", "172.16.0.1/16")
	s.asUser("net_admin", "net_raw")
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, wide...).want(t, state.TookOver)
	s.run(s.Standby, "sh", "-c", "echo 1 >"+promote+"; ip addr del 172.16.0.3/16 dev eth0; ip addr add 172.16.0.3/16 dev eth0; echo 0 >"+promote+
		"; ip route replace default via 172.16.0.254")
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, wide...).want(t, state.Released)
	s.wantOn(vip4, s.Primary)
	s.wantOn(s.Standby.Addr4(), s.Standby)
	if got := strings.TrimSpace(s.run(s.Standby, "cat", promote)); got != "0" {
		t.Errorf("promote_secondaries was left at %s", got)
	}
}

func TestOrdinaryUserWithoutCapabilities(t *testing.T) {
	t.Parallel()
	for name, capabilities := range map[string][]string{"none": nil, "only net_admin": {"net_admin"}, "only net_raw": {"net_raw"}} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			untouched := s.untouched(s.Standby)
			s.asUser(capabilities...)
			e := s.say(s.Standby, patient...).atOnce(t)
			if e.code != 77 || e.stdout != "" || !strings.Contains(e.stderr, "no permission to ") {
				t.Errorf("exit code %d, stderr: %s", e.code, e.stderr)
			}
			s.plain(77, "no permission to ", append([]string{"takeover"}, patient...)...)
			untouched()
			s.wantNothingLeft(s.Standby)
			if got := s.run(s.Standby, "find", "/run/nobody", "-mindepth", "1"); got != "" {
				t.Errorf("left behind: %s", got)
			}
			s.mail.want(t)
		})
	}
}

// leaseLeft is how many seconds the kernel still grants the virtual IP on the
// standby.
func (s *scene) leaseLeft() int {
	s.t.Helper()
	var links []struct {
		Addresses []struct {
			Local string `json:"local"`
			Left  int    `json:"valid_life_time"`
		} `json:"addr_info"`
	}
	s.must(json.Unmarshal([]byte(s.run(s.Standby, "ip", "-json", "addr", "show", "to", vip4.String())), &links))
	for _, link := range links {
		for _, a := range link.Addresses {
			if a.Local == vip4.String() {
				return a.Left
			}
		}
	}
	s.t.Fatal("172.16.0.1 is not on the standby")
	return 0
}

// wantUsersFiles fails the test unless these, with their modes, are the files
// in the ordinary user's state directory, which all users may read.
func (s *scene) wantUsersFiles(files ...string) {
	s.t.Helper()
	got := strings.Split(strings.TrimSpace(s.run(s.Standby, "sh", "-c", "cd /run/nobody/.local/state/pingover; stat -c '%A %n (%u)' . *")), "\n")
	want := []string{fmt.Sprintf("drwxr-xr-x . (%s)", user)}
	for _, f := range files {
		want = append(want, fmt.Sprintf("%s (%s)", f, user))
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("files %q\nwant %q", got, want)
	}
}

// The lock of root's checks is root's.
func TestResumeOfRootsReleaseByAnOrdinaryUser(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.plain(12, "released manually", "release", "web", "--force")
	s.asUser()
	s.plain(77, "permission denied", "resume", "web", "--state-dir", "/var/lib/pingover")
}

// A file that may not be read is an error, not the same as none.
func TestStatusByAFileThatIsForbidden(t *testing.T) {
	s := newScene(t)
	s.configure("  web: {host: 172.16.0.2}\n")
	s.run(s.Standby, "chmod", "600", "/etc/pingover.yaml")
	s.asUser()
	s.plain(78, "/etc/pingover.yaml: cannot be read: permission denied", "status")
}
