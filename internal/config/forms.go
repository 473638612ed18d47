package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// part is what of a draft has the settings of clusters, or only those of pools.
func part[S Cluster | Pool](d *draft) *S {
	if c, ok := any(&d.Cluster).(*S); ok {
		return c
	}
	return any(&d.pool).(*S)
}

// number is the form of a whole number from low to high.
func number[S Cluster | Pool](low, high int, field func(*S) *int) form {
	limits := fmt.Sprintf("%d to %d", low, high)
	return form{Argument: "N", Range: limits, set: func(d *draft, text string) error {
		if !allDigits(text) {
			return fmt.Errorf("not a whole number (%s)", limits)
		}
		if plain := withoutZeros(text); plain != text {
			return fmt.Errorf("begins with a zero; write it as %s (%s)", plain, limits)
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return fmt.Errorf("out of range (%s)", limits)
		}
		*field(part[S](d)) = n
		return nil
	}}
}

// orZero is a form that takes 0 as well, for none.
func orZero(f form) form {
	set := f.set
	f.Range = "0, or " + f.Range
	f.set = func(d *draft, text string) error {
		if text == "0" {
			return nil
		}
		return set(d, text)
	}
	return f
}

// choice is the form of a value that is one of some words.
func choice(argument string, words []string, set func(*Cluster, string)) form {
	names := oneOf(words)
	return form{Argument: argument, Range: names, Values: words, set: func(d *draft, text string) error {
		if !slices.Contains(words, text) {
			return errors.New("must be " + names)
		}
		set(&d.Cluster, text)
		return nil
	}}
}

// oneOf is "a, b or c".
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// yesNo is the form of a switch.
func yesNo(field func(*Cluster) *bool) form {
	f := choice("", []string{"true", "false"}, func(c *Cluster, text string) { *field(c) = text == "true" })
	f.Kind = Bool
	return f
}

// absolutePath is the form of a path that does not depend on the directory in
// which pingover is started.
func absolutePath[S Cluster | Pool](argument string, field func(*S) *string) form {
	return form{Argument: argument, Range: "an absolute path", set: func(d *draft, text string) error {
		switch {
		case !filepath.IsAbs(text):
			return errors.New("not an absolute path")
		case hasControl(text):
			return errors.New("a path must not contain a control character")
		}
		*field(part[S](d)) = filepath.Clean(text)
		return nil
	}}
}

// withoutZeros is a number without leading zeros: 010 can be read as 8 or 10.
func withoutZeros(text string) string {
	if plain := strings.TrimLeft(text, "0"); plain != "" || text == "" {
		return plain
	}
	return "0"
}

func allDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// hasControl reports whether text contains a character that would break its line
// or field.
func hasControl(text string) bool {
	return strings.ContainsFunc(text, unicode.IsControl)
}
