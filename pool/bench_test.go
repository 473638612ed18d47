package pool

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
)

// BenchmarkBIND is what one check asks of BIND on the same switch: reading the
// sets, and an update with its reading back.
func BenchmarkBIND(b *testing.B) {
	for name, n := range map[string]int{"3": 3, "100": 100, "200": 200} {
		b.Run(name, func(b *testing.B) {
			lab.Need(b, "named", "bind9")
			l := lab.ForTest(b)
			ns, err := l.Add("ns", "10.2.0.53/16")
			must(b, err)
			standby, err := l.Add("standby", "10.2.0.3/16")
			must(b, err)
			dir := b.TempDir()
			file, key, err := lab.TSIGKey(dir, "www")
			must(b, err)
			var lines []string
			var all []netip.Addr
			for i := range n {
				a := netip.AddrFrom4([4]byte{10, 2, 3, byte(i)})
				all = append(all, a)
				lines = append(lines, "host1 60 A "+a.String())
			}
			zone, err := lab.DynamicZone(dir, "zone.com", "www", lines...)
			must(b, err)
			_, err = ns.NameServer(dir, key, strings.Replace(zone, "update-policy", "max-records-per-type 0; update-policy", 1))
			must(b, err)
			s := Server{Address: "10.2.0.53:53", Dial: (&scene{standby: standby}).dial}
			s.Key, err = ReadKey(file)
			must(b, err)
			b.Run("read", func(b *testing.B) {
				for b.Loop() {
					if set, err := s.Read(b.Context(), www); err != nil || len(set.A.Addrs) != n {
						b.Fatal(set, err)
					}
				}
			})
			b.Run("publish", func(b *testing.B) {
				set, err := s.Read(b.Context(), www)
				must(b, err)
				do := Change{"zone.com.", set, set.With(all[:1], nil, time.Minute)}
				for b.Loop() {
					_, err := s.Publish(b.Context(), do)
					must(b, err)
					do = do.Inverse()
				}
			})
		})
	}
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
