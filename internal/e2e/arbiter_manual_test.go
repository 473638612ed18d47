package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The manual commands, hooks, services and further addresses, with an arbiter.

func TestArbiterManualTakeoverAndRelease(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first, second := a.hold()
	second.end()

	// Nobody takes the key of another, by force neither.
	on := func(h *lab.Host, argv ...string) ended {
		t.Helper()
		return a.enter(h, append([]string{argv[0], "--json"}, argv[1:]...)...).wait()
	}
	for _, argv := range [][]string{{"takeover", "web"}, {"takeover", "--force", "web"}} {
		e := on(a.Second, argv...).want(t, state.Blocked)
		if forced := len(argv) == 3; forced && !strings.Contains(e.Reason, "standby holds the arbiter's key") {
			t.Errorf("%q: reason %q", argv, e.Reason)
		}
		a.wantOn(vip4, a.Standby)
	}

	// Released, the key is free at once.
	first.end()
	on(a.Standby, "release", "--force", "web").want(t, state.Released)
	if holder, _ := a.key(); holder != "" {
		t.Errorf("the key is still %q's", holder)
	}
	on(a.Second, "takeover", "web").want(t, state.TookOver)
	a.wantOn(vip4, a.Second)
	second = a.cron(a.Second)
	second.until(state.Holding)
	a.check(a.Standby, a.args...).want(t, state.OK)

	// And without etcd there is no takeover, by force neither.
	second.end()
	on(a.Second, "release", "--force", "web").want(t, state.Released)
	a.must(a.etcd.Members[0].Freeze())
	on(a.Second, "takeover", "--force", "web").want(t, state.Blocked)
	a.wantOn(vip4)
}

// The other machine takes over with its next check, not after the ttl.
func TestArbiterRelease(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first, second := a.hold()
	first.end()
	since := time.Now()
	a.run(a.Standby, "sh", "-c", a.path+" release --force web; test $? = 12")
	second.until(state.TookOver)
	if d := time.Since(since); d > arbiterTTL-2*time.Second {
		t.Errorf("taken over after %s", d)
	}
	a.check(a.Standby, a.args...).want(t, state.OK)
}

func TestArbiterPauseOfTheHolder(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first, second := a.hold()
	a.run(a.Standby, a.path, "pause", "web")
	since := time.Now()
	first.untilSaid(state.Holding, "paused, holding 172.16.0.1")
	time.Sleep(arbiterTTL + 3*time.Second)
	first.only(since, state.Holding)
	second.only(since, state.OK)

	// A paused machine does not keep an address that another holds by the arbiter.
	first.end()
	second.until(state.TookOver)
	a.check(a.Standby, a.args...)
	a.wantOn(vip4, a.Second)
}

func TestArbiterSeveralAddresses(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	vip5 := netip.MustParseAddr("172.16.0.5")
	a.args = append(a.args, "--vip", "172.16.0.5", "--vip", "2001:db8::1")
	a.watchHolders(vip6)
	a.watchHolders(vip5)
	first, second := a.hold()
	time.Sleep(arbiterTTL)
	for _, v := range []netip.Addr{vip4, vip5, vip6} {
		a.wantOn(v, a.Standby)
		if left := a.lease(a.Standby, v); left > arbiterTTL {
			t.Errorf("%s is assigned for another %s", v, left)
		}
	}
	first.end()
	second.until(state.TookOver)
	for _, v := range []netip.Addr{vip4, vip5, vip6} {
		a.wantOn(v, a.Second)
	}
}

// Hooks that take longer than the ttl: the key is taken after pre-takeover, and renewed
// during post-takeover.
func TestArbiterHooksThatTakeLongerThanTheTTL(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	l := a.log()
	sleep := "sleep 12"
	a.args = append(a.args, "--pre-takeover", l.hook("pre-takeover", sleep), "--post-takeover", l.hook("post-takeover", "echo assigned >>$log; "+sleep+"; echo done >>$log"))
	first := a.cron(a.Standby)
	a.within(40*time.Second, "post-takeover runs", func() bool { return l.lines()[0] == "assigned" })
	second := a.repeat(a.Second, a.args...)
	since := time.Now()
	a.within(20*time.Second, "post-takeover has ended", func() bool { return len(l.lines()) == 2 })
	first.until(state.Holding)
	second.only(since, state.OK)
	a.wantOn(vip4, a.Standby)
}

// A primary with services that is fenced, and asks nobody.
func TestArbiterFailoverForAService(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	a.must(a.Primary.PowerOn())
	web := a.serve(a.Primary)
	fence := a.cutCable(false)
	a.args = append(set(a.args, "--host", "172.16.0.2"), "--service", health, "--failover-on", "service", "--pre-takeover", fence.script)
	a.check(a.Standby, a.args...).want(t, state.OK)
	web.stop()
	for range 2 {
		a.check(a.Standby, a.args...).want(t, state.OK)
	}
	a.check(a.Standby, a.args...).want(t, state.TookOver)
	fence.want(t, 1)
	if holder, _ := a.key(); holder != "standby" {
		t.Errorf("the key is %q's", holder)
	}
	a.wantHeld(a.Standby, vip4, 1)
}

// With failback the primary, which asks nobody, gets the address back, and the key is
// free.
func TestArbiterHandOverToThePrimary(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	a.args = append(set(a.args, "--host", "172.16.0.2"), "--failback", "auto", "--rise", "2")
	first := a.cron(a.Standby)
	first.until(state.TookOver)
	a.backWithout(vip4, vip6)
	a.takesWhenFree(a.Primary, vip4)
	first.until(state.Released)
	a.wantOn(vip4, a.Primary)
	if holder, _ := a.key(); holder != "" {
		t.Errorf("the key is still %q's", holder)
	}
}

// The profile for fast takeovers.
func TestArbiterWatchEveryFiveSeconds(t *testing.T) {
	lab.Long(t)
	a := newArbitration(t, 3, lab.EtcdOptions{})
	args := set(a.args, "--arbiter-ttl", "20s")
	watch := func(h *lab.Host) *running {
		w := &running{s: a.scene, cmd: a.command(h, append([]string{"watch", "--every", "5s"}, args...)...), began: time.Now()}
		w.cmd.Stdout, w.cmd.Stderr = &w.stdout, w
		a.must(w.cmd.Start())
		return w
	}
	first := watch(a.Standby)
	first.until("took-over")
	second := watch(a.Second)
	time.Sleep(40 * time.Second)
	a.wantOn(vip4, a.Standby)
	cut := time.Now()
	a.must(a.Standby.PowerOff())
	a.within(40*time.Second, "the second takes over", func() bool { return a.held(a.Second, vip4) == 1 })
	t.Logf("taken over after %s", time.Since(cut).Round(time.Millisecond))
	a.must(second.cmd.Process.Signal(syscall.SIGTERM))
	_ = second.cmd.Wait()
	if said := betweenStartAndEnd(second.said()); !strings.Contains(said, "took-over") || slices.Contains(strings.Fields(said), "error") {
		t.Errorf("it said: %s", said)
	}
}
