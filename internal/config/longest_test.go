package config

import (
	"testing"
	"time"
)

func TestLongestProbe(t *testing.T) {
	for line, want := range map[string]struct{ round, longest time.Duration }{
		"--host h": {13 * time.Second, 52900 * time.Millisecond},
		"--host h --count 1 --timeout 10ms --retry-wait 0":                           {10 * time.Millisecond, 12010 * time.Millisecond},
		"--host h --count 1 --timeout 8s --retry-wait 0":                             {8 * time.Second, 22900 * time.Millisecond},
		"--host h --count 7 --interval 250ms --timeout 2s --retry-wait 1m":           {3500 * time.Millisecond, 73900 * time.Millisecond},
		"--host h --count 100 --interval 1m --timeout 1m --retry-wait 10m --lease 0": {100 * time.Minute, 210*time.Minute + 6900*time.Millisecond},
	} {
		c, err := FromFlags(flags(line), rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		if c.Round() != want.round || c.LongestProbe() != want.longest {
			t.Errorf("%s: a round of %s and a look of %s, want %s and %s", line, c.Round(), c.LongestProbe(), want.round, want.longest)
		}
	}
}
