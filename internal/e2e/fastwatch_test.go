package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The fast line: ten checks a second, which keep their sockets and what they know
// of the kernel.

// fastWatch begins a watch with the fast line.
func (s *scene) fastWatch(h *lab.Host, args ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: h.Command(s.t.Context(), slices.Concat([]string{s.path, "watch"}, fastLine, args)...), began: time.Now()}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	s.must(r.cmd.Start())
	return r
}

// fastCluster are the settings of the cluster of a fast watch.
var fastCluster = []string{"--host", "172.16.0.2", "--name", "web", "--vip", "172.16.0.1", "--boot-wait", "0", "--announce", "2"}

// takesOver waits for the standby to hold the address.
func (s *scene) takesOver() {
	s.t.Helper()
	s.within(5*time.Second, "the standby has the address", func() bool { return s.held(s.Standby, vip4) == 1 })
}

// last is the outcome of the last check that the record knows of.
func (s *scene) last(o state.Outcome) func() bool {
	return func() bool {
		return strings.Contains(s.run(s.Standby, "cat", "/var/lib/pingover/web.json"), fmt.Sprintf(`"outcome":%q`, o))
	}
}

func TestFastWatchFollowsTheKernel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		happens func(s *scene)
		during  string // the outcome then, "" for none of its own
		undo    func(s *scene)
	}{
		{
			"the cable is pulled and put back",
			func(s *scene) { s.must(s.Standby.Unplug(false)) }, "unknown",
			func(s *scene) { s.must(s.Standby.Plug()) },
		},
		{
			"the switch port is dead, and is there again",
			func(s *scene) { s.must(s.Standby.Unplug(true)) }, "blocked",
			func(s *scene) { s.must(s.Standby.Plug()) },
		},
		{
			"an address is added manually, and removed",
			func(s *scene) { s.run(s.Standby, "ip", "addr", "add", "172.16.0.2/32", "dev", "eth0") }, "unknown", // the primary's own
			func(s *scene) { s.run(s.Standby, "ip", "addr", "del", "172.16.0.2/32", "dev", "eth0") },
		},
		{
			"the interface is renamed",
			func(s *scene) {
				s.run(s.Standby, "sh", "-ec", "ip link set eth0 down; ip link set eth0 name lan0; ip link set lan0 up; ip route replace default via 172.16.0.254 dev lan0")
			}, "",
			func(*scene) {},
		},
		{
			"the interface is removed, and another one is in its place",
			func(s *scene) {
				s.run(s.Standby, "sh", "-ec", "ip link set eth0 down; ip link set eth0 name old; ip link add eth0 type bridge; ip link set old master eth0; ip link set old up; ip link set eth0 up;"+
					"ip addr flush dev old; ip addr add 172.16.0.3/16 dev eth0; ip route replace default via 172.16.0.254 dev eth0")
			}, "",
			func(*scene) {},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := shortScene(t)
			w := s.fastWatch(s.Standby, fastCluster...)
			s.within(5*time.Second, "a check was made", func() bool { _, err := s.Standby.Run("test", "-f", "/var/lib/pingover/web.json"); return err == nil })
			time.Sleep(time.Second)
			test.happens(s)
			if test.during != "" {
				s.within(5*time.Second, test.during, s.last(state.Outcome(test.during)))
			}
			test.undo(s)
			if test.during != "" {
				s.within(5*time.Second, "ok", s.last(state.OK))
			}
			time.Sleep(time.Second)
			s.wantOn(vip4, s.Primary)
			s.failsOver(w)
		})
	}
}

// failsOver cuts the primary's power, and ends the watch once it has taken over.
func (s *scene) failsOver(w *running) {
	s.t.Helper()
	s.must(s.Primary.PowerOff())
	s.takesOver()
	time.Sleep(3 * time.Second)
	s.wantOn(vip4, s.Standby)
	s.must(w.cmd.Process.Signal(syscall.SIGTERM))
	_ = w.cmd.Wait()
}

func TestFastWatchWhoseClusterGetsAnotherVirtualIP(t *testing.T) {
	s := shortScene(t)
	file := func(host, vip string) {
		s.run(s.Standby, "sh", "-c", fmt.Sprintf("printf 'clusters: {web: {host: %s, vip: %s, boot-wait: 0s, announce: 2}}\n' > /etc/pingover.yaml; chmod 600 /etc/pingover.yaml", host, vip))
	}
	file("172.16.0.2", "172.16.0.5")
	s.run(s.Primary, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
	w := s.fastWatch(s.Standby)
	time.Sleep(2 * time.Second)
	file("172.16.0.2", "172.16.0.1")
	s.must(w.cmd.Process.Signal(syscall.SIGHUP))
	w.until("reloaded: ")
	time.Sleep(time.Second)
	s.failsOver(w)
}

// TestFastWatchStaysAsSmallAsItWas: also where a fifth of the pings is lost, and
// sockets are opened for what is silent.
func TestFastWatchStaysAsSmallAsItWas(t *testing.T) {
	s := newScene(t)
	length := 20 * time.Second
	if lab.LongRun() {
		length = 110 * time.Second // 1,000 checks
	}
	s.must(s.Standby.Lose(20))
	w := s.fastWatch(s.Standby, fastCluster...)
	most, threads := 0, 0
	time.Sleep(5 * time.Second)
	before, threadsBefore := uses(t, w.cmd.Process.Pid)
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(time.Second) {
		f, th := uses(t, w.cmd.Process.Pid)
		most, threads = max(most, f), max(threads, th)
	}
	if most > before+25 || threads > threadsBefore+15 { // those of a round that is under way
		t.Errorf("up to %d open files and %d threads, %d and %d at the beginning", most, threads, before, threadsBefore)
	}
	time.Sleep(200 * time.Millisecond)
	s.wantOn(vip4, s.Primary)
	s.must(w.cmd.Process.Signal(syscall.SIGTERM))
	_ = w.cmd.Wait()
	if said := betweenStartAndEnd(w.said()); strings.Contains(said, "took-over") {
		t.Errorf("it said: %s", said)
	}
}
