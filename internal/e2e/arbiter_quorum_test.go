package e2e

import (
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// What goes wrong on etcd's side.

// A leader that is frozen, and goes on, is what revokes etcd's leases too early.
func TestArbiterLeaderIsFrozenAndLetGo(t *testing.T) {
	a := newArbitration(t, 3, lab.EtcdOptions{})
	a.args = set(a.args, "--arbiter-ttl", "20s")
	first, second := a.hold()
	since := time.Now()
	for range 2 {
		frozen := a.freeze(1)
		time.Sleep(8 * time.Second) // the key is due after five
		a.thaw(frozen)
		time.Sleep(2 * time.Second)
	}
	first.until(state.Holding)
	first.only(since, state.Holding)
	second.only(since, state.OK)
	a.wantOn(vip4, a.Standby)
}

func TestArbiterWithoutQuorum(t *testing.T) {
	t.Parallel()
	const ends = "the arbiter does not answer: 172.16.0.1 ends at "
	t.Run("while it stands by", func(t *testing.T) {
		a := newArbitration(t, 3, lab.EtcdOptions{})
		first, second := a.hold()
		since := time.Now()
		frozen := a.freeze(2)
		second.until(state.OK) // the holder replies
		a.must(a.Standby.PowerOff())
		second.until(state.Blocked)
		time.Sleep(arbiterTTL) // nobody takes over
		second.only(since, state.OK, state.Blocked)
		a.thaw(frozen)
		second.until(state.TookOver)
		a.must(a.Standby.PowerOn())
		first.until(state.OK)
		a.wantOn(vip4, a.Second)
	})
	t.Run("while it holds, and back in time", func(t *testing.T) {
		a := newArbitration(t, 3, lab.EtcdOptions{})
		a.args = set(a.args, "--arbiter-ttl", "20s")
		first, second := a.hold()
		since := time.Now()
		frozen := a.freeze(2)
		first.untilSaid(state.Holding, ends)
		a.thaw(frozen)
		first.until(state.Holding)
		time.Sleep(15 * time.Second)
		first.only(since, state.Holding)
		second.only(since, state.OK)
		a.wantOn(vip4, a.Standby)
	})
	t.Run("while it holds, for longer than the ttl", func(t *testing.T) {
		const ttl = 20 * time.Second
		a := newArbitration(t, 3, lab.EtcdOptions{})
		a.args = set(a.args, "--arbiter-ttl", ttl.String())
		first, second := a.hold()
		since := time.Now()
		frozen := a.freeze(2)
		first.untilSaid(state.Holding, ends)
		a.within(ttl+5*time.Second, "the address has ended", func() bool { return a.held(a.Standby, vip4) == 0 })
		if d := time.Since(since); d < ttl/2 {
			t.Errorf("it ended after %s, the ttl is %s", d, ttl)
		}
		first.until(state.Blocked)
		second.until(state.Blocked)
		a.wantOn(vip4) // nobody holds
		a.thaw(frozen)
		a.within(ttl+20*time.Second, "one holds again", func() bool { return a.held(a.Standby, vip4)+a.held(a.Second, vip4) == 1 })
		time.Sleep(3 * time.Second)
		if n := a.held(a.Standby, vip4) + a.held(a.Second, vip4); n != 1 {
			t.Errorf("%d machines hold it", n)
		}
	})
}

func TestArbiterMemberIsFrozen(t *testing.T) {
	a := newArbitration(t, 3, lab.EtcdOptions{})
	first, second := a.hold()
	since := time.Now()
	leader, err := a.etcd.Leader()
	a.must(err)
	for _, m := range a.etcd.Members {
		if m != leader {
			a.must(m.Freeze())
			break
		}
	}
	time.Sleep(arbiterTTL)
	first.only(since, state.Holding)
	second.only(since, state.OK)

	// The holder goes down all the same.
	a.must(a.Standby.PowerOff())
	second.until(state.TookOver)
}

// The write that was made, and whose answer was lost, is found by the next read.
func TestArbiterAnswerIsLostAfterAWrite(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	proxy := a.proxyTo(a.etcd.Members[0])
	a.args = set(a.args, "--arbiter", proxy.url)

	// While taking over: refused, as if it had not been made; the key is ours then, and
	// is used or freed.
	proxy.drop("txn", true)
	first := a.cron(a.Standby)
	first.until(state.Blocked)
	a.wantOn(vip4)
	proxy.drop("txn", false)
	first.until(state.TookOver)
	second := a.cron(a.Second)
	second.until(state.OK)

	// While holding: the address lives on, to an end that no write has moved.
	since := time.Now()
	proxy.drop("txn", true)
	time.Sleep(arbiterTTL / 3)
	proxy.drop("txn", false)
	first.until(state.Holding)
	first.only(since, state.Holding)
	second.only(since, state.OK)
	proxy.drop("txn", true)
	a.within(arbiterTTL+5*time.Second, "the address has ended", func() bool { return a.held(a.Standby, vip4) == 0 })
	proxy.drop("txn", false)
	a.within(arbiterTTL+20*time.Second, "one holds again", func() bool { return a.held(a.Standby, vip4)+a.held(a.Second, vip4) == 1 })
}

// The holder writes it again. Where it cannot, the key keeps everybody out for the
// ttl: an absent one may be that of a holder that is still there.
func TestArbiterKeyIsDeleted(t *testing.T) {
	a := newArbitration(t, 1, lab.EtcdOptions{})
	first, second := a.hold()
	since := time.Now()
	a.must(a.etcd.Delete(arbiterKey))
	a.within(arbiterTTL, "the holder has written it again", func() bool {
		holder, _ := a.key()
		return holder == "standby"
	})
	first.only(since, state.Holding)
	second.only(since, state.OK)

	a.must(a.Standby.PowerOff())
	a.must(a.etcd.Delete(arbiterKey))
	since = time.Now()
	second.untilSaid(state.Blocked, "the arbiter has no key yet, or it was deleted: free in ")
	second.until(state.TookOver)
	if d := time.Since(since); d < arbiterTTL {
		t.Errorf("taken over after %s, the ttl is %s", d, arbiterTTL)
	}
}

// The backup is of the time when the other machine was the holder.
func TestArbiterRestoredFromABackup(t *testing.T) {
	lab.Need(t, "etcdctl", "etcd-client")
	a := newArbitration(t, 3, lab.EtcdOptions{})
	first, second := a.hold()
	a.must(a.etcd.Backup())
	a.must(a.Standby.PowerOff())
	second.until(state.TookOver)
	a.must(a.Standby.PowerOn())
	first.until(state.OK)
	a.must(a.etcd.Restore())
	a.within(3*arbiterTTL, "one holds again, and the key is its own", func() bool {
		holder, _ := a.key()
		return holder == "second" && a.held(a.Second, vip4) == 1 || holder == "standby" && a.held(a.Standby, vip4) == 1
	})
}
