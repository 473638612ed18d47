package e2e

import (
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The primary's side, as docs/primary.md says it.

// The script waits as long as the standby holds the address, and takes it when it
// is handed over.
func TestPrimaryThatTakesTheAddressWhenItIsFree(t *testing.T) {
	lab.Need(t, "arping", "iputils-arping")
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.backWithout(vip4)
	s.background(s.Primary, "sh", whenFree, vip4.String()+"/32", "eth0")
	for range 3 {
		s.check(s.Standby, swift...).want(t, state.Holding).because(t, "holding 172.16.0.1; 172.16.0.2 replies again")
		time.Sleep(time.Second)
	}
	s.wantOn(vip4, s.Standby)

	s.hand("release", "web").want(t, state.Released)
	s.wantOn(vip4, s.Primary)
	s.wantSeen(s.Primary.MAC().String())
	s.check(s.Standby, swift...).want(t, state.OK)
}

// A primary that boots alone takes it at once, and announces it.
func TestPrimaryThatBootsAloneTakesTheAddress(t *testing.T) {
	lab.Need(t, "arping", "iputils-arping")
	s := newScene(t)
	s.run(s.Primary, "ip", "addr", "del", vip4.String()+"/32", "dev", "eth0")
	s.run(s.Primary, "sh", whenFree, vip4.String()+"/32", "eth0")
	s.wantOn(vip4, s.Primary)
	s.check(s.Standby, swift...).want(t, state.OK)
}
