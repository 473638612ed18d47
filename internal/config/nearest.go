package config

import (
	"slices"
	"strings"
)

// otherNames are what settings are called elsewhere.
var otherNames = map[string]string{
	"email":      "mail-to",
	"gateway":    "witness",
	"mail":       "mail-to",
	"primary":    "host",
	"virtual-ip": "vip",
}

// Nearest is the word among known that was most likely meant by word, or ""
// where none is near: one with few letters wrong, or the only one that begins
// like it. Where some begin with the whole word and a hyphen, no other is near.
func Nearest(word string, known []string) string {
	if meant := otherNames[word]; slices.Contains(known, meant) {
		return meant
	}
	if begun := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return !strings.HasPrefix(k, word+"-") }); len(begun) > 0 {
		known = begun
	}
	nearest, least := "", max(1, len(word)/3)+1
	var longer []string
	for _, k := range known {
		// The lengths alone tell words apart that are too long to compare.
		if apart := max(len(word), len(k)) - min(len(word), len(k)); apart < least {
			if n := distance(word, k); n < least {
				nearest, least = k, n
			}
		}
		if len(word) > 1 && strings.HasPrefix(k, word) {
			longer = append(longer, k)
		}
	}
	if nearest == "" && len(longer) == 1 {
		return longer[0]
	}
	return nearest
}

// distance is how many letters must be put in, left out, changed or swapped
// with their neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			changed := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				changed++
			}
			rows[i][j] = min(changed, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
