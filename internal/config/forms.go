package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"unicode"
)

// number is the form of a whole number from low to high.
func number(low, high int, field func(*Cluster) *int) form {
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
		*field(&d.Cluster) = n
		return nil
	}}
}

// yesNo is the form of a switch.
func yesNo(field func(*Cluster) *bool) form {
	return form{Kind: Bool, Range: "true or false", Values: []string{"true", "false"}, set: func(d *draft, text string) error {
		if text != "true" && text != "false" {
			return errors.New("must be true or false")
		}
		*field(&d.Cluster) = text == "true"
		return nil
	}}
}

// either is the form of a switch whose two positions have names.
func either(off, on string, field func(*Cluster) *bool) form {
	names := off + " or " + on
	return form{Argument: "WAY", Range: names, Values: []string{off, on}, set: func(d *draft, text string) error {
		if text != off && text != on {
			return errors.New("must be " + names)
		}
		*field(&d.Cluster) = text == on
		return nil
	}}
}

// absolutePath is the form of a path that means the same file in whichever
// directory pingover is started.
func absolutePath(argument string, field func(*Cluster) *string) form {
	return form{Argument: argument, Range: "an absolute path", set: func(d *draft, text string) error {
		switch {
		case !filepath.IsAbs(text):
			return errors.New("not an absolute path")
		case hasControl(text):
			return errors.New("a path must not contain a control character")
		}
		*field(&d.Cluster) = filepath.Clean(text)
		return nil
	}}
}

func setTool(d *draft, text string) error {
	switch text {
	case "auto", "ip", "ifconfig":
		d.Tool = text
		return nil
	}
	return errors.New("must be auto, ip or ifconfig")
}

// withoutZeros is a number without the zeros that it begins with: 010 is 8 to
// some and 10 to others.
func withoutZeros(text string) string {
	for len(text) > 1 && text[0] == '0' {
		text = text[1:]
	}
	return text
}

func allDigits(text string) bool {
	for _, r := range text {
		if r < '0' || r > '9' {
			return false
		}
	}
	return text != ""
}

// hasControl says whether text has a character that would not stay within its
// line or its field where it is shown.
func hasControl(text string) bool {
	for _, r := range text {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}
