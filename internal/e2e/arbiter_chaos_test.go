package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
)

var arbiterChaosFor = flag.Duration("chaos.arbiter", 0, "how long chaos reigns over a pair with an arbiter; 0: 1m, but with -short or without PINGOVER_TEST_LONG not at all")

// A pair and three members of etcd, and whatever can happen to them, several at a
// time: power, cables, loss, frozen members, frozen and killed runs, a dead cron, a key
// that is deleted. Nothing may ever make two machines hold the address. When all is
// well again, one holds it.
func TestChaosWithAnArbiter(t *testing.T) {
	length := *arbiterChaosFor
	if length == 0 {
		lab.Long(t)
		length = time.Minute
	}
	seed := *chaosSeed
	if seed == 0 {
		var err error
		if seed, err = strconv.ParseUint(os.Getenv("PINGOVER_TEST_SEED"), 10, 64); err != nil {
			seed = uint64(rand.Uint32())
		}
	}
	t.Logf("to repeat it: go test ./internal/e2e -run %s -chaos.seed %d -chaos.arbiter %s", t.Name(), seed, length)
	c := &arbiterChaos{arbitration: newArbitration(t, 3, lab.EtcdOptions{}), began: time.Now()}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("what happened:\n%s", strings.Join(c.lines, "\n"))
		}
	})
	c.args = set(c.args, "--arbiter-ttl", "8s")
	for i, h := range []*lab.Host{c.Standby, c.Second} {
		r := &runs{s: c.scene, h: h, args: c.args, disturb: c.disturb(rand.New(rand.NewPCG(seed, uint64(i))))}
		c.pair = append(c.pair, r.begin())
	}
	steps, late := 0, time.Duration(0)
	for r := rand.New(rand.NewPCG(seed, 2)); time.Since(c.began) < length; steps++ {
		c.step(r)
		if r.IntN(3) == 0 || time.Since(c.began) >= length {
			c.calm.Lock()
			since := time.Now()
			c.within(60*time.Second, "one machine holds the address when all is well", func() bool {
				return c.held(c.Standby, vip4)+c.held(c.Second, vip4) == 1
			})
			late = max(late, time.Since(since))
			c.calm.Unlock()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d steps in %s; the longest wait for a holder when all was well %s; %s",
		steps, time.Since(c.began).Round(time.Second), late.Round(100*time.Millisecond), c.view)
}

type arbiterChaos struct {
	*arbitration
	began time.Time
	pair  []*runs
	calm  sync.RWMutex // locked while no run is disturbed

	mu    sync.Mutex
	lines []string
}

func (c *arbiterChaos) log(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// disturb freezes one run of ten for a while, and kills one of ten.
func (c *arbiterChaos) disturb(r *rand.Rand) func(*os.Process) {
	return func(p *os.Process) {
		if !c.calm.TryRLock() {
			return
		}
		defer c.calm.RUnlock()
		after, what := time.Duration(r.IntN(2000))*time.Millisecond, r.IntN(10)
		length := time.Duration(r.IntN(15000)) * time.Millisecond
		switch what {
		case 0:
			time.AfterFunc(after, func() {
				if p.Signal(syscall.SIGSTOP) == nil {
					c.log("run %d is frozen for %s", p.Pid, length)
					time.AfterFunc(length, func() { _ = p.Signal(syscall.SIGCONT) })
				}
			})
		case 1:
			time.AfterFunc(after, func() {
				if p.Kill() == nil {
					c.log("run %d is killed", p.Pid)
				}
			})
		}
	}
}

// step is up to three faults that overlap, and their end.
func (c *arbiterChaos) step(r *rand.Rand) {
	var faults sync.WaitGroup
	for range 1 + r.IntN(3) {
		name, begin, end := c.fault(r)
		at, length := time.Duration(r.IntN(3000))*time.Millisecond, time.Duration(500+r.IntN(16000))*time.Millisecond
		faults.Go(func() {
			time.Sleep(at)
			c.log("%s, for %s", name, length)
			begin()
			time.Sleep(length)
			c.log("no more: %s", name)
			end()
		})
	}
	faults.Wait()
	// Two faults of one machine may have ended in the wrong order.
	for _, h := range []*lab.Host{c.Standby, c.Second} {
		c.must(h.PowerOn())
		c.must(h.Plug())
		c.must(h.Lose(0))
	}
	c.must(c.Rejoin(c.Standby, c.Second))
	for _, m := range c.etcd.Members {
		c.must(m.Host.PowerOn())
		c.must(m.Host.Plug())
		_ = m.Thaw() // it may have been killed
		c.revive(m)
	}
}

// revive starts a member that ended with its machine.
func (c *arbiterChaos) revive(m *lab.EtcdMember) {
	if m.Ended() {
		c.must(m.Start())
	}
}

func (c *arbiterChaos) fault(r *rand.Rand) (name string, begin, end func()) {
	one, member := []*lab.Host{c.Standby, c.Second}[r.IntN(2)], c.etcd.Members[r.IntN(3)]
	carrier := r.IntN(2) == 0
	try := func(err error) { // the machine may be off by another fault
		if err != nil {
			c.log("%v", err)
		}
	}
	switch r.IntN(11) {
	case 0, 1:
		return one.Name() + " is off", func() { try(one.PowerOff()) }, func() { try(one.PowerOn()) }
	case 2:
		return fmt.Sprintf("the cable of %s is pulled, carrier %v", one.Name(), carrier), func() { try(one.Unplug(carrier)) }, func() { try(one.Plug()) }
	case 3:
		return one.Name() + " loses a third of what it receives", func() { try(one.Lose(33)) }, func() { try(one.Lose(0)) }
	case 4:
		return "the pair is parted", func() { try(c.Part(c.Standby, c.Second)) }, func() { try(c.Rejoin(c.Standby, c.Second)) }
	case 5:
		run := c.pair[r.IntN(2)]
		return "cron of " + run.h.Name() + " is dead", func() { run.stop(10 * time.Second) }, func() { run.stop(0) }
	case 6:
		return member.Host.Name() + " is frozen", func() { try(member.Freeze()) }, func() { try(member.Thaw()) }
	case 7:
		return "the leader is frozen", func() {
				if leader, err := c.etcd.Leader(); err == nil {
					member = leader
				}
				try(member.Freeze())
			}, func() {
				try(member.Thaw())
			}
	case 8:
		return member.Host.Name() + " is off", func() { try(member.Host.PowerOff()) }, func() { try(member.Host.PowerOn()); c.revive(member) }
	case 9:
		return "the cable of " + member.Host.Name() + " is pulled", func() { try(member.Host.Unplug(true)) }, func() { try(member.Host.Plug()) }
	default:
		return "the key is deleted", func() { try(c.etcd.Delete(arbiterKey)) }, func() {}
	}
}
