package e2e

import (
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// BenchmarkArbiter is what an arbiter adds to a healthy check: of a standby, which
// reads the key, and of a holder, which reads and renews it. Each is a whole process,
// in turn with the same check without an arbiter. At most 4 ms and 8 ms are promised
// on an idle machine, without TLS; TLS is one handshake more, and a user one request,
// for which etcd computes the hash of the password (its bcrypt-cost; 4 here and in
// docs/arbiter.md, 10 by default, which takes 70 ms).
//
//	go test -run '^$' -bench BenchmarkArbiter -benchtime 15x ./internal/e2e
func BenchmarkArbiter(b *testing.B) {
	for _, c := range []struct {
		name  string
		begin func(testing.TB, int, lab.EtcdOptions) *arbitration
	}{{"plain", newArbitration}, {"TLS and user", secured}} {
		b.Run("standby, "+c.name, func(b *testing.B) {
			a := c.begin(b, 3, lab.EtcdOptions{})
			a.must(a.Primary.PowerOn())
			a.run(a.Primary, "ip", "addr", "add", "172.16.0.5/32", "dev", "eth0")
			a.compare(b, state.OK, 1100*time.Millisecond) // the key is read once a second
		})
		b.Run("holder, "+c.name, func(b *testing.B) {
			a := c.begin(b, 3, lab.EtcdOptions{})
			a.check(a.Standby, unarbitrated...).want(b, state.TookOver)
			a.check(a.Standby, a.besideAPrimary()...).want(b, state.TookOver)
			a.backWithout(vip4, vip6)
			a.compare(b, state.Holding, 3100*time.Millisecond) // a quarter of the ttl: the key is renewed
		})
	}
}

// unarbitrated are the same settings for another address, without an arbiter.
var unarbitrated = set(withVIP, "--name", "plain", "--vip", "172.16.0.5")

// besideAPrimary are the settings with a primary that has an address of its own.
func (a *arbitration) besideAPrimary() []string {
	return set(a.args, "--arbiter-ttl", "12s", "--host", "172.16.0.2")
}

// compare checks in turn without an arbiter and with it, so long after the other.
func (a *arbitration) compare(b *testing.B, outcome state.Outcome, pause time.Duration) {
	var added, plain []float64
	for b.Loop() {
		time.Sleep(pause)
		before := a.start(a.Standby, unarbitrated...)().want(b, outcome)
		after := a.start(a.Standby, a.besideAPrimary()...)().want(b, outcome)
		plain = append(plain, float64(before.took.Microseconds())/1000)
		added = append(added, float64((after.took-before.took).Microseconds())/1000)
	}
	b.ReportMetric(median(plain), "ms-without")
	b.ReportMetric(median(added), "ms-added")
}
