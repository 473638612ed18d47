package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// units of durations: those of Go, and days.
var units = map[string]time.Duration{
	"ns": time.Nanosecond,
	"us": time.Microsecond,
	"µs": time.Microsecond,
	"ms": time.Millisecond,
	"s":  time.Second,
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  day,
}

var (
	errNoDuration = errors.New("not a duration")
	errNoUnit     = errors.New("a duration needs a unit")
)

// parseDuration reads a duration such as 1500ms, 1h30m or 1.5d. One that does
// not fit is as long as fits. 0 needs no unit.
func parseDuration(text string) (time.Duration, error) {
	if strings.Trim(text, "0123456789.") == "" {
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil && !errors.Is(err, strconv.ErrRange):
			return 0, errNoDuration
		case n != 0:
			return 0, errNoUnit
		}
		return 0, nil
	}
	total := 0.0
	for text != "" {
		rest := strings.TrimLeft(text, "0123456789.")
		n, err := strconv.ParseFloat(text[:len(text)-len(rest)], 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, errNoDuration
		}
		end := strings.IndexAny(rest, "0123456789.")
		if end < 0 {
			end = len(rest)
		}
		unit, ok := units[rest[:end]]
		if !ok {
			return 0, errNoDuration
		}
		total += n * float64(unit)
		text = rest[end:]
	}
	// As a float the largest duration is one too large.
	if total >= math.MaxInt64 {
		return math.MaxInt64, nil
	}
	return time.Duration(math.Round(total)), nil
}

// DurationText is d as one would type it: 1m30s, 1d, 0.
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

// DurationWithin reads a duration from low to high. The error says what it may
// be, and leaves it to the caller to quote the text.
func DurationWithin(text string, low, high time.Duration) (time.Duration, error) {
	limits, fits := within(low, high)
	return readDuration(text, limits, fits)
}

// duration is the form of a duration from low to high.
func duration(low, high time.Duration, field func(*Cluster) *time.Duration) form {
	limits, fits := within(low, high)
	return durationWhere(limits, fits, field)
}

// durationOrZero is the form of a duration from low to high, or 0.
func durationOrZero(low, high time.Duration, field func(*Cluster) *time.Duration) form {
	limits, fits := within(low, high)
	return durationWhere("0, or "+limits, func(d time.Duration) bool { return d == 0 || fits(d) }, field)
}

// within are the limits from low to high, in words and as a test.
func within(low, high time.Duration) (limits string, fits func(time.Duration) bool) {
	return DurationText(low) + " to " + DurationText(high), func(d time.Duration) bool { return low <= d && d <= high }
}

func durationWhere(limits string, fits func(time.Duration) bool, field func(*Cluster) *time.Duration) form {
	return form{Argument: "DURATION", Range: limits, set: func(d *draft, text string) (err error) {
		*field(&d.Cluster), err = readDuration(text, limits, fits)
		return err
	}}
}

func readDuration(text, limits string, fits func(time.Duration) bool) (time.Duration, error) {
	parsed, err := parseDuration(text)
	switch {
	case errors.Is(err, errNoUnit):
		return 0, fmt.Errorf("%s, such as %ss (%s)", err, text, limits)
	case err != nil:
		return 0, fmt.Errorf("%s such as 3s, 1500ms or 2h (%s)", err, limits)
	case !fits(parsed):
		return 0, fmt.Errorf("out of range (%s)", limits)
	}
	return parsed, nil
}
