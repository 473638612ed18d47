package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"

	"pingover/state"
)

// shownCommand is a command with all its keys, also those that the record leaves
// out.
type shownCommand struct {
	Argv   []string `json:"argv"`
	Hook   string   `json:"hook"`
	Code   *int     `json:"code"`
	Output string   `json:"output"`
}

func shown(commands []state.Command) []shownCommand {
	all := []shownCommand{}
	for _, c := range commands {
		all = append(all, shownCommand(c))
	}
	return all
}

// jsonLine is v as one line of JSON, with what a terminal would not print escaped.
func jsonLine(v any) string {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // all of our types can be encoded
	}
	return escaped(strings.TrimSuffix(line.String(), "\n")) + "\n"
}

// escaped is JSON in which all that cannot be printed is escaped (RFC 8259, 7).
// The encoder escapes no more than JSON asks for.
func escaped(text string) string {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !unprintable(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// list is l, in JSON [] and never null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
