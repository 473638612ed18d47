package config

import (
	"testing"
)

func TestNearest(t *testing.T) {
	var known []string
	for _, s := range Settings() {
		known = append(known, s.Name)
	}
	for word, want := range map[string]string{
		"intervall":   "interval",
		"retrywait":   "retry-wait",
		"cuont":       "count",
		"pvi":         "vip",
		"Count":       "count",
		"tiemout":     "timeout",
		"hook-timout": "hook-timeout",
		"mailto":      "mail-to",
		"witnes":      "witness",
		"failover":    "failover-on",
		"colour":      "",
		"arbiter":     "",
		"hots":        "host",
		"vips":        "vip",
		"mail_to":     "mail-to",
		"duplicate":   "duplicate-check",
		"post":        "", // takeover or release
		"pre":         "",
		"hook":        "hook-timeout",
		"vi":          "vip",
		"mail":        "mail-to",
		"email":       "mail-to",
		"virtual-ip":  "vip",
		"gateway":     "witness",
		"primary":     "host",
		"x":           "",
		"":            "",
		"completely":  "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := Nearest("email", []string{"defaults", "clusters"}); got != "" {
		t.Errorf("what is not known is %q", got)
	}
}
