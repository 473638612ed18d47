package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const day = 24 * time.Hour

// days is a part of a duration that the standard library does not know.
var days = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`([0-9.]+)d`) })

var (
	errNoDuration = errors.New("not a duration such as 3s, 1500ms or 2h")
	errNoUnit     = errors.New("a duration needs a unit, such as")
)

// parseDuration reads a duration such as 1500ms, 1h30m or 1.5d. 0 needs no unit.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n > 0 && strings.Trim(text, "0123456789.") == "" {
		return 0, fmt.Errorf("%w %ss", errNoUnit, text)
	}
	standard := text
	if strings.Contains(text, "d") {
		standard = days().ReplaceAllStringFunc(text, func(part string) string {
			n, err := strconv.ParseFloat(strings.TrimSuffix(part, "d"), 64)
			if err != nil {
				return "invalid"
			}
			return strconv.FormatFloat(24*n, 'f', -1, 64) + "h"
		})
	}
	d, err := time.ParseDuration(standard)
	if err != nil || strings.ContainsAny(text, "+-") {
		return 0, errNoDuration
	}
	return d, nil
}

// DurationText is d as it can be given: 1m30s, 1d, 0.
func DurationText(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// DurationWithin reads a duration from low to high. The error gives the range;
// the caller quotes the text.
func DurationWithin(text string, low, high time.Duration) (time.Duration, error) {
	limits := DurationText(low) + " to " + DurationText(high)
	d, err := parseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%w (%s)", err, limits)
	}
	if d < low || d > high {
		return 0, fmt.Errorf("out of range (%s)", limits)
	}
	return d, nil
}

// duration is the form of a duration from low to high.
func duration[S Cluster | Pool](low, high time.Duration, field func(*S) *time.Duration) form {
	return form{Argument: "DURATION", Range: DurationText(low) + " to " + DurationText(high), set: func(d *draft, text string) (err error) {
		*field(part[S](d)), err = DurationWithin(text, low, high)
		return err
	}}
}

// durationOrZero is the form of a duration from low to high, or 0.
func durationOrZero(low, high time.Duration, field func(*Cluster) *time.Duration) form {
	f := duration(low, high, field)
	limits := f.Range
	f.Range = "0, or " + limits
	set := f.set
	f.set = func(d *draft, text string) error {
		if n, err := parseDuration(text); n == 0 && err == nil {
			return nil
		}
		err := set(d, text)
		if err != nil {
			err = errors.New(strings.Replace(err.Error(), "("+limits, "("+f.Range, 1))
		}
		return err
	}
	return f
}
