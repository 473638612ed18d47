package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// A pair that asks etcd which of them may hold the address: what goes wrong on the
// pair's side.

// keptOut is the reason of a machine that has to wait for the holder's ttl.
const keptOut = `172\.16\.0\.1 does not reply, but .* holds the arbiter's key, unchanged for \d+s; free in \d+s`

func TestArbiterPowerCutOfTheHolder(t *testing.T) {
	a := newArbitration(t, 3, lab.EtcdOptions{})
	first, second := a.hold()
	cut := time.Now()
	a.must(a.Standby.PowerOff())
	second.until(state.Blocked).matches(t, keptOut)
	second.until(state.TookOver)
	if took := time.Since(cut); took < arbiterTTL-5*time.Second || took > arbiterTTL+20*time.Second {
		t.Errorf("taken over after %s, the ttl is %s", took, arbiterTTL)
	}
	if holder, _ := a.key(); holder != "second" {
		t.Errorf("the key is %q's", holder)
	}
	a.must(a.Standby.PowerOn())
	first.until(state.OK)
	second.until(state.Holding)
	a.wantOn(vip4, a.Second)
}

// The address ends by its lifetime, before the other machine may have it. Plugged
// in again, the first machine stands by.
func TestArbiterCableOfTheHolder(t *testing.T) {
	share(t, []bool{true, false}, func(carrier bool) string {
		return map[bool]string{true: "it has a carrier", false: "it has no carrier"}[carrier]
	}, func(t *testing.T, carrier bool) {
		a := newArbitration(hidden(t), 1, lab.EtcdOptions{})
		first, second := a.hold()
		a.must(a.Standby.Unplug(carrier))
		second.until(state.TookOver)
		a.wantHeld(a.Standby, vip4, 0)
		a.must(a.Standby.Plug())
		first.until(state.OK)
		a.wantOn(vip4, a.Second)
	})
}

// hidden hides that it could be t.Parallel, see side.
func hidden(t *testing.T) testing.TB { return struct{ testing.TB }{t} }

func TestArbiterRunsOfTheHolderStop(t *testing.T) {
	type stop struct {
		name string
		stop func(a *arbitration, first *runs) (again func())
	}
	share(t, []stop{
		{"cron is dead", func(a *arbitration, first *runs) func() {
			first.end()
			return func() { a.check(a.Standby, a.args...).want(a.t, state.OK) }
		}},
		{"a run is frozen", func(a *arbitration, first *runs) func() {
			first.end()
			run := a.follow(a.Standby, set(a.args, "--announce", "20", "--interval", "1s")...) // a long one
			run.until("holding")
			a.must(run.cmd.Process.Signal(syscall.SIGSTOP))
			return func() {
				a.must(run.cmd.Process.Signal(syscall.SIGCONT))
				run.wait()
				a.check(a.Standby, a.args...).want(a.t, state.OK)
			}
		}},
		{"a watch is frozen", func(a *arbitration, first *runs) func() {
			first.end()
			watch := a.keepWatch(a.Standby, a.args...)
			a.checks(2, state.Holding)
			a.must(watch.cmd.Process.Signal(syscall.SIGSTOP))
			return func() {
				a.must(watch.cmd.Process.Signal(syscall.SIGCONT))
				a.checks(2, state.OK)
				a.must(watch.cmd.Process.Signal(syscall.SIGTERM))
				_ = watch.cmd.Wait()
			}
		}},
	}, func(s stop) string { return s.name }, func(t *testing.T, s stop) {
		a := newArbitration(hidden(t), 1, lab.EtcdOptions{})
		first, second := a.hold()
		again := s.stop(a, first)
		second.until(state.Blocked).matches(t, `172\.16\.0\.1 .*`)
		second.until(state.TookOver)
		a.wantOn(vip4, a.Second)
		again()
		a.wantOn(vip4, a.Second)
		second.until(state.Holding)
	})
}

// A machine that was cloned with its state, name and boot id is another one.
func TestArbiterCloneOfTheHolder(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first := a.cron(a.Standby)
	first.until(state.TookOver)
	a.run(a.Second, "sh", "-ec", `cp -a "$1"/. /var/lib/pingover/; hostname standby`, "sh", a.Standby.Path("/var/lib/pingover"))
	a.must(a.Second.SetBootID(strings.TrimSpace(a.run(a.Standby, "cat", "/proc/sys/kernel/random/boot_id"))))
	clone := a.cron(a.Second)
	clone.until(state.OK)
	first.until(state.Holding)
	a.wantOn(vip4, a.Standby)
	a.must(a.Standby.PowerOff())
	clone.until(state.Blocked).matches(t, keptOut)
	clone.until(state.TookOver)
}

// A primary that asks nobody; the two standbys are protected from each other.
func TestArbiterOfTwoStandbysOfAPrimary(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	a.args = set(a.args, "--host", "172.16.0.2")
	a.must(a.Primary.PowerOn())
	first, second := a.cron(a.Standby), a.cron(a.Second)
	first.until(state.OK)
	second.until(state.OK)
	a.must(a.Primary.PowerOff())
	holder, other := first, second
	a.within(30*time.Second, "one has taken over", func() bool {
		return a.held(a.Standby, vip4)+a.held(a.Second, vip4) == 1
	})
	if a.held(a.Second, vip4) == 1 {
		holder, other = second, first
	}
	other.until(state.Elsewhere)
	holder.until(state.Holding)

	a.must(holder.h.PowerOff())
	other.until(state.Blocked).matches(t, strings.ReplaceAll(keptOut, `172\.16\.0\.1 does`, `172\.16\.0\.2 does`))
	other.until(state.TookOver)
	a.must(holder.h.PowerOn())
	holder.until(state.Elsewhere)
	a.wantOn(vip4, other.h)

	// The primary is back with its address: it asks nobody, so the standby yields.
	a.must(a.Primary.PowerOn())
	other.until(state.OK)
	a.wantOn(vip4, a.Primary)
	if holder, _ := a.key(); holder != "" {
		t.Errorf("the key is still %q's", holder)
	}
}

func TestArbiterReboots(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first, second := a.hold()
	second.end()

	// The key is the one of the boot before: it keeps its own machine out too.
	a.must(a.Standby.PowerOff())
	a.must(a.Standby.PowerOn())
	first.until(state.Blocked).matches(t, keptOut)
	first.until(state.TookOver)
	a.wantOn(vip4, a.Standby)

	// The record is lost while it holds: what the kernel and etcd show counts.
	a.run(a.Standby, "sh", "-c", "rm /var/lib/pingover/web.*")
	first.until(state.Holding)
	a.wantOn(vip4, a.Standby)

	// And while it stands by: it starts to wait anew.
	first.end()
	second = a.cron(a.Second)
	second.until(state.OK)
	second.end()
	a.within(arbiterTTL, "the address has ended", func() bool { return a.held(a.Standby, vip4) == 0 })
	a.run(a.Second, "sh", "-c", "rm /var/lib/pingover/web.*")
	lost := time.Now()
	a.cron(a.Second).until(state.TookOver)
	if d := time.Since(lost); d < arbiterTTL {
		t.Errorf("taken over %s after the record was lost, the ttl is %s", d, arbiterTTL)
	}
	a.wantOn(vip4, a.Second)
}
