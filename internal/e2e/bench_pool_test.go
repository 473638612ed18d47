package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

// memberOf is a member of a large pool. All are addresses of one host, behind a route:
// see networks.
func memberOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 64, 0, byte(1 + i)}) }

// BenchmarkPoolCheck is the whole process of a check of n members that reply, with the
// reading of their records from BIND. At most 0.5 s is promised for 200.
//
//	go test -run '^$' -bench PoolCheck -benchtime 20x ./internal/e2e
func BenchmarkPoolCheck(b *testing.B) {
	lab.Need(b, "/usr/bin/time", "time") // measures the peak memory
	for _, n := range []int{1, 10, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var records, members []string
			var add strings.Builder
			for i := range n {
				records = append(records, "many 60 A "+memberOf(i).String())
				members = append(members, memberOf(i).String())
				fmt.Fprintf(&add, "addr add %s/32 dev eth0\n", memberOf(i))
			}
			s := newPool(b, records...)
			f := &fleet{scene: s.scene}
			f.batch(s.members[0], add.String())
			s.run(s.Standby, "ip", "route", "add", networks[0], "via", "10.2.2.10")
			s.configurePool(poolSettings, "record", "many.zone.com", "members", "["+strings.Join(members, ", ")+"]",
				"count", "5", "interval", "3s", "timeout", "1s") // the defaults: a reply that is late on a busy machine counts
			if _, code, _ := f.measured(s.path, "check"); code != 0 { // neighbours and the zone are known from now on
				b.Fatalf("exit code %d", code)
			}
			var spent bill
			for b.Loop() {
				used, code, _ := f.measured(s.path, "check")
				if code != 0 {
					b.Fatalf("exit code %d", code)
				}
				spent.add(used)
			}
			spent.report(b)
		})
	}
}

// BenchmarkPoolPublished is the time from the end of round two to the first answer of
// BIND, which a client asks every 2 ms, without the member. At most 100 ms is promised.
//
//	go test -run '^$' -bench PoolPublished -benchtime 10x ./internal/e2e
func BenchmarkPoolPublished(b *testing.B) {
	s := newPool(b)
	dead := netip.MustParseAddr("10.2.2.11")
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		err = s.Client.Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, "192.0.2.53:53")
			return err
		})
		return conn, err
	}}
	has := func() bool {
		addrs, err := resolver.LookupNetIP(b.Context(), "ip4", "host1.zone.com.")
		s.must(err)
		return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Unmap() == dead })
	}
	var gaps []float64
	for b.Loop() {
		s.must(s.members[1].PowerOff())
		cmd := s.command(s.Standby, "check", "--verbose")
		stderr, err := cmd.StderrPipe()
		s.must(err)
		s.must(cmd.Start())
		gone := make(chan time.Time, 1)
		go func() {
			for has() {
				time.Sleep(2 * time.Millisecond)
			}
			gone <- time.Now()
		}()
		var ended time.Time
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "round 2: ") && strings.Contains(lines.Text(), "down") {
				ended = time.Now()
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 11 || ended.IsZero() {
			b.Fatalf("not removed: %v", err)
		}
		gaps = append(gaps, float64((<-gone).Sub(ended).Microseconds())/1000)
		s.must(s.members[1].PowerOn())
		s.nsupdate("update add host1.zone.com 60 A 10.2.2.11")
		s.run(s.Standby, "rm", "-f", "/var/lib/pingover/www.json")
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(gaps), "ms-median")
	b.ReportMetric(slices.Max(gaps), "ms-max")
}
