package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

// BenchmarkOutage is how long a client, which pings every 5 ms, has no reply
// after a power cut of the primary: with pingover, with keepalived, and with
// the shell script that pingover replaces, which needs one or two minutes.
//
//	go test -run '^$' -bench 'Outage/^[pk]' -benchtime 5x ./internal/e2e
//	go test -run '^$' -bench 'Outage/script' -benchtime 1x ./internal/e2e
func BenchmarkOutage(b *testing.B) {
	for _, way := range outageWays {
		b.Run(way.name, func(b *testing.B) {
			gaps := way.outages(b, b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(gaps), "s-median")
			b.ReportMetric(slices.Min(gaps), "s-min")
			b.ReportMetric(slices.Max(gaps), "s-max")
		})
	}
}

// outageWay is one way to keep an address served.
type outageWay struct {
	name  string
	label string   // in docs/speed.md
	short string   // in the picture
	cuts  int      // of the power, for docs/speed.md
	needs []string // a program and its Debian package; nil: none
	start func(*scene)
}

var outageWays = []outageWay{
	{
		name: "pingover-watch", short: "pingover watch, every 1 s", label: "`pingover watch --every 1s --count 3 --interval 100ms --timeout 300ms --retry-wait 300ms`", cuts: 9,
		start: func(s *scene) { s.background(s.Standby, append([]string{s.path, "watch"}, brisk...)...) },
	},
	{
		name: "pingover-fast", short: "pingover, the fast line", label: "`pingover watch " + strings.Join(fastLine, " ") + "`", cuts: 9,
		start: func(s *scene) {
			s.background(s.Standby, slices.Concat([]string{s.path, "watch"}, fastLine, cluster)...)
		},
	},
	{
		name: "keepalived-1s", short: "keepalived, defaults", label: "keepalived, defaults (`advert_int 1`)", cuts: 9, needs: []string{"keepalived", "keepalived"},
		start: func(s *scene) { s.keepalivedPair("1", "2") },
	},
	{
		name: "keepalived-0.1s", short: "keepalived, advert_int 0.1", label: "keepalived, `advert_int 0.1`, `version 3`", cuts: 9, needs: []string{"keepalived", "keepalived"},
		start: func(s *scene) { s.keepalivedPair("0.1", "3") }, // less than a second takes VRRP 3
	},
	{
		name: "script", short: "the classic script", label: "the classic loop of `ping -c 5 -i 3`, `sleep 20`, `ifconfig`", cuts: 1, needs: []string{"ifconfig", "net-tools"},
		start: func(s *scene) { s.background(s.Standby, "sh", "-c", script) },
	},
}

// brisk are settings of a watch that ticks as often as keepalived by default, and
// allows as many misses.
var brisk = slices.Concat([]string{"--every", "1s", "--count", "3", "--interval", "100ms", "--timeout", "300ms", "--retry-wait", "300ms"}, cluster)

// cluster is what both have in common.
var cluster = []string{"--host", "172.16.0.2", "--name", "web", "--vip", "172.16.0.1", "--boot-wait", "0"}

// fastLine is the fast line of docs/speed.md: the safest settings that are as fast
// as keepalived at advert_int 0.1.
var fastLine = strings.Fields("--every 100ms --count 3 --interval 20ms --timeout 50ms --retry-wait 0")

// script is the classic loop of ping and ifconfig, until it has taken over.
const script = `
while ping -c 5 -i 3 172.16.0.2 >/dev/null || { sleep 20; ping -c 5 -i 3 172.16.0.2 >/dev/null; }; do
	sleep 1
done
ifconfig eth0:1 172.16.0.1 netmask 255.255.255.255 up
`

// outages cuts the power n times, each time in a lab of its own and at another
// moment of the tick, and returns the outages in seconds.
func (w outageWay) outages(b *testing.B, n int) (gaps []float64) {
	b.Helper()
	if w.needs != nil {
		lab.Need(b, w.needs[0], w.needs[1])
	}
	for i := range n {
		s := newScene(b)
		w.start(s)
		time.Sleep(5*time.Second + time.Duration(i%5)*200*time.Millisecond + time.Duration(i%9)*11*time.Millisecond) // spread over 1 s, and over 100 ms
		gaps = append(gaps, s.outage(5*time.Minute).Seconds())
		s.must(s.Close())
	}
	return gaps
}

// outage cuts the primary's power and measures how long the client misses the
// virtual IP, at most patience.
func (s *scene) outage(patience time.Duration) time.Duration {
	s.t.Helper()
	s.must(s.Client.Ping(vip4, 2*time.Second)) // its neighbour entry points to the primary now
	trace, err := s.Client.Watch(vip4, 5*time.Millisecond)
	s.must(err)
	time.Sleep(200 * time.Millisecond)
	s.must(s.Primary.PowerOff())
	for cut := time.Now(); time.Since(cut) < patience; time.Sleep(50 * time.Millisecond) {
		if _, back := trace.FirstReplyAfter(cut); back {
			trace.Stop()
			return trace.Gap()
		}
	}
	s.t.Fatalf("the client has no reply %s after the power cut", patience)
	return 0
}

// background starts something on a host that runs until the lab is closed.
func (s *scene) background(h *lab.Host, argv ...string) {
	s.t.Helper()
	cmd := h.Command(s.t.Context(), argv...)
	s.must(cmd.Start())
	go cmd.Wait()
}

// keepalivedPair lets keepalived assign the virtual IP, on the primary first.
func (s *scene) keepalivedPair(interval, version string) {
	s.t.Helper()
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
	s.keepalived(s.Primary, "MASTER", 150, interval, version)
	s.keepalived(s.Standby, "BACKUP", 100, interval, version)
}

// keepalived starts one of two that share the virtual IP by VRRP, with all
// defaults but for the seconds between its advertisements.
func (s *scene) keepalived(h *lab.Host, role string, priority int, interval, version string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "keepalived.conf")
	s.must(os.WriteFile(file, fmt.Appendf(nil, `vrrp_instance web {
	state %s
	interface eth0
	virtual_router_id 51
	priority %d
	advert_int %s
	version %s
	virtual_ipaddress {
		172.16.0.1/32
	}
}
`, role, priority, interval, version), 0o600))
	s.background(h, "keepalived", "--dont-fork", "--vrrp", "--use-file", file)
}
