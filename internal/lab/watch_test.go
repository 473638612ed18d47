package lab

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWatchSeesAnOutage(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"172.16.0.1", "2001:db8::1"} {
		t.Run(addr, func(t *testing.T) {
			l := needLab(t)
			trace, err := l.Client.Watch(netip.MustParseAddr(addr), 5*time.Millisecond)
			ok(t, err)
			other, err := l.Client.Watch(l.Standby.Addr4(), 5*time.Millisecond)
			ok(t, err)
			time.Sleep(100 * time.Millisecond)
			cut := time.Now()
			ok(t, l.Primary.Unplug(true))
			gone := time.Now()
			time.Sleep(300 * time.Millisecond)
			back := time.Now()
			ok(t, l.Primary.Plug())

			var first Sample
			for found := false; !found; first, found = trace.FirstReplyAfter(gone) {
				time.Sleep(10 * time.Millisecond)
			}
			samples := trace.Stop()
			if diff := cmp.Diff(samples, trace.Stop()); diff != "" {
				t.Errorf("stopped twice (-first +second):\n%s", diff)
			}
			if first.At.Before(back) || !first.OK || first.RTT <= 0 {
				t.Errorf("first reply %+v, plugged in at %s", first, back)
			}
			for i, b := range samples {
				if b.Seq != i {
					t.Fatalf("beat %d has seq %d", i, b.Seq)
				}
				if b.OK && b.At.After(gone) && b.At.Before(back) {
					t.Errorf("beat %d was answered though unplugged", i)
				}
			}
			if gap := trace.Gap(); gap < back.Sub(gone) || gap > first.At.Sub(cut)+50*time.Millisecond {
				t.Errorf("gap %s, cut for %s, first reply %s after the cut", gap, back.Sub(gone), first.At.Sub(cut))
			}
			if gap, outage := other.Gap(), back.Sub(gone); gap >= outage {
				t.Errorf("the standby was away for %s, as the primary for %s", gap, outage)
			}
		})
	}
}

func TestGap(t *testing.T) {
	start := time.Date(2026, 3, 1, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name    string
		answers string // one email for each ping, 10 ms apart
		want    time.Duration
	}{
		{"no pings", "", 0},
		{"one answered", "y", 0},
		{"all answered", "yyyy", 10 * time.Millisecond},
		{"none answered", "nnnn", 30 * time.Millisecond},
		{"lost in the middle", "yynnyyny", 30 * time.Millisecond},
		{"lost at the start", "nnnyy", 30 * time.Millisecond},
		{"lost at the end", "yynnn", 30 * time.Millisecond},
	} {
		trace := &Trace{}
		for i, answer := range tt.answers {
			trace.samples = append(trace.samples, Sample{At: start.Add(time.Duration(i) * 10 * time.Millisecond), Seq: i, OK: answer == 'y'})
		}
		if got := trace.Gap(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestWatchOfAnUnreachableAddressIsOneGap(t *testing.T) {
	l := needLab(t)
	run(t, l.Client, "ip", "route", "del", "default")
	trace, err := l.Client.Watch(netip.MustParseAddr("192.0.2.1"), time.Millisecond)
	ok(t, err)
	time.Sleep(20 * time.Millisecond)
	samples := trace.Stop()
	if len(samples) < 2 || trace.Gap() != samples[len(samples)-1].At.Sub(samples[0].At) {
		t.Errorf("%d beats, gap %s", len(samples), trace.Gap())
	}
}
