package e2e

import (
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// BenchmarkArbiter is what an arbiter adds to a healthy check: of a standby, which
// reads the key, and of a holder, which reads and renews it. Each is a whole process,
// with TLS and a user, in turn with the same check without an arbiter. At most 4 ms and
// 8 ms are promised.
//
//	go test -run '^$' -bench BenchmarkArbiter -benchtime 30x ./internal/e2e
func BenchmarkArbiter(b *testing.B) {
	for _, role := range []string{"standby", "holder"} {
		b.Run(role, func(b *testing.B) {
			a := secured(b, 3, lab.EtcdOptions{})
			a.args = set(a.args, "--arbiter-ttl", "12s", "--host", "172.16.0.2")
			without := set(withVIP, "--name", "plain", "--vip", "172.16.0.5")
			a.must(a.Primary.PowerOn())
			a.run(a.Primary, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
			h, outcome := a.Standby, state.OK
			if role == "holder" {
				a.must(a.Primary.PowerOff())
				a.check(h, without...).want(b, state.TookOver)
				a.check(h, a.args...).want(b, state.TookOver)
				a.backWithout(vip4, vip6)
				outcome = state.Holding
			}
			var added, plain []float64
			for b.Loop() {
				time.Sleep(3100 * time.Millisecond) // a quarter of the ttl: it is renewed
				before := a.start(h, without...)().want(b, outcome)
				after := a.start(h, a.args...)().want(b, outcome)
				plain = append(plain, float64(before.took.Microseconds())/1000)
				added = append(added, float64((after.took-before.took).Microseconds())/1000)
			}
			b.ReportMetric(median(plain), "ms-without")
			b.ReportMetric(median(added), "ms-added")
		})
	}
}
