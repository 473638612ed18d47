package config

import (
	"slices"
	"strings"

	"github.com/xrash/smetrics"
)

// otherNames are the names of settings elsewhere.
func otherNames() map[string]string {
	return map[string]string{
		"email":      "mail-to",
		"gateway":    "witness",
		"mail":       "mail-to",
		"primary":    "host",
		"virtual-ip": "vip",
	}
}

// Nearest is the known word that was most likely meant by word, or "" if none
// is similar. If several begin with the whole word and a hyphen, it is not known
// which.
func Nearest(word string, known []string) string {
	if meant := otherNames()[word]; slices.Contains(known, meant) {
		return meant
	}
	longer := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return !strings.HasPrefix(k, word+"-") })
	switch {
	case len(longer) == 1:
		return longer[0]
	case len(longer) > 1 || len(word) > 64:
		return ""
	}
	sorted := func(text string) string { return string(slices.Sorted(slices.Values([]byte(text)))) }
	word = strings.ToLower(word)
	nearest, best := "", 0.88 // found by trying: above it are typing errors
	for _, k := range known {
		similar := smetrics.JaroWinkler(word, k, 0.7, 4)
		if sorted(word) == sorted(k) { // swapped characters, which it misses in short words
			similar = max(similar, 0.9)
		}
		if similar > best {
			nearest, best = k, similar
		}
	}
	return nearest
}
