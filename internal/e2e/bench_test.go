package e2e

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

// The figures that are promised, to be read with
//
//	go test -run '^$' -bench . -benchtime 30x ./internal/e2e

// BenchmarkHealthyCheck is the whole process of a check against a primary that
// replies, over a veth, with one virtual IP and a witness; beside it the
// nearest that other tools do. At most 25 ms and 20 MB are promised.
func BenchmarkHealthyCheck(b *testing.B) {
	s := newScene(b)
	lab.Need(b, "/usr/bin/time", "time") // measures the peak memory
	check := append([]string{s.path, "check"}, withVIP...)
	for name, argv := range map[string][]string{
		"pingover": check,
		"ping-c1":  {"ping", "-c", "1", "172.16.0.2"},
		"fping-c1": {"fping", "-c", "1", "172.16.0.2"},
	} {
		b.Run(name, func(b *testing.B) {
			var wall, peak []float64
			for b.Loop() {
				cmd := s.Standby.Command(b.Context(), append([]string{"/usr/bin/time", "-q", "-f", "peak %M"}, argv...)...)
				began := time.Now()
				out, err := cmd.CombinedOutput()
				took := time.Since(began)
				if err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				var kib float64
				_, last, _ := strings.Cut("\n"+string(out), "\npeak ")
				if _, err := fmt.Sscan(last, &kib); err != nil {
					b.Fatalf("%v in %q", err, out)
				}
				wall = append(wall, float64(took.Microseconds())/1000)
				peak = append(peak, kib/1024)
			}
			b.ReportMetric(median(wall), "ms-median")
			b.ReportMetric(median(peak), "MiB-peak")
		})
	}
}

// BenchmarkTakeover is the time from the end of round two to the first reply
// that the client, which pings every 5 ms, gets from the new holder. At most
// 100 ms is promised.
func BenchmarkTakeover(b *testing.B) {
	s := newScene(b)
	var gaps []float64
	for b.Loop() {
		s.must(s.Primary.PowerOn())
		s.run(s.Client, "ip", "neigh", "flush", "dev", "eth0")
		s.must(s.Client.Ping(vip4, 2*time.Second)) // its neighbour entry points to the primary now
		trace, err := s.Client.Watch(vip4, 5*time.Millisecond)
		s.must(err)
		s.must(s.Primary.PowerOff())

		cmd := s.command(s.Standby, append([]string{"check", "--verbose"}, withVIP...)...)
		stderr, err := cmd.StderrPipe()
		s.must(err)
		s.must(cmd.Start())
		var ended time.Time
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "round 2: down") {
				ended = time.Now()
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 11 {
			b.Fatalf("no takeover: %v", err)
		}
		trace.Stop()
		first, ok := trace.FirstReplyAfter(ended)
		if !ok {
			b.Fatal("the client never had a reply")
		}
		gaps = append(gaps, float64(first.At.Add(first.RTT).Sub(ended).Microseconds())/1000)
		s.run(s.Standby, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
		s.run(s.Standby, "rm", "-f", "/var/lib/pingover/web.json")
	}
	b.ReportMetric(median(gaps), "ms-median")
	b.ReportMetric(slices.Max(gaps), "ms-max")
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
