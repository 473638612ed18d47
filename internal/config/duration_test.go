package config

import (
	"strings"
	"testing"
	"time"
)

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0",
		1500 * time.Millisecond:        "1.5s",
		90 * time.Second:               "1m30s",
		20 * time.Minute:               "20m",
		time.Hour:                      "1h",
		time.Hour + 30*time.Second:     "1h0m30s",
		36 * time.Hour:                 "36h",
		48 * time.Hour:                 "2d",
		10 * time.Second:               "10s",
		time.Duration(1<<63 - 1):       "2562047h47m16.854775807s",
		100*time.Hour + 10*time.Minute: "100h10m",
	} {
		if got := DurationText(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestDurationWithin(t *testing.T) {
	for _, test := range []struct {
		given string
		want  time.Duration
		err   string
	}{
		{"1s", time.Second, ""},
		{"2d", 48 * time.Hour, ""},
		{"999ms", 0, "out of range (1s to 2d)"},
		{"49h", 0, "out of range (1s to 2d)"},
		{"0", 0, "out of range (1s to 2d)"},
		{"5", 0, "a duration needs a unit, such as 5s (1s to 2d)"},
		{"-1h", 0, "not a duration such as 3s, 1500ms or 2h (1s to 2d)"},
		{"", 0, "not a duration such as 3s, 1500ms or 2h (1s to 2d)"},
	} {
		got, err := DurationWithin(test.given, time.Second, 48*time.Hour)
		if got != test.want || text(err) != test.err {
			t.Errorf("%q: %v and %q, want %v and %q", test.given, got, text(err), test.want, test.err)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"0", "3", "3s", "1h30m", "1.5d", ".5s", "1d12h", "-1s", "9999999999999d", "1µs", "s", ".", "1.2.3s", "20 s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text)
		if d < 0 || err != nil && d != 0 {
			t.Fatalf("%q: %v, %v", text, d, err)
		}
		// What Go reads as a duration is that duration, but for what a float
		// cannot tell apart.
		if own, goErr := time.ParseDuration(text); goErr == nil && own >= 0 && !strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "+") {
			if err != nil || (own-d).Abs() > 1+own>>50 {
				t.Fatalf("%q: %v, %v; want %v", text, d, err, own)
			}
		}
		if err == nil {
			again, err := parseDuration(DurationText(d))
			if err != nil || (again-d).Abs() > 1+d>>50 {
				t.Fatalf("%q is %v, and as text %q is %v, %v", text, d, DurationText(d), again, err)
			}
		}
	})
}
