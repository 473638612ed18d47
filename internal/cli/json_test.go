package cli

import (
	"encoding/json"
	"testing"
)

// What a program reads is as it was, but for what a terminal would not print.
func TestJSONOfWhatCannotBePrinted(t *testing.T) {
	for text, want := range map[string]string{
		"\x1b[2J":                        " [2J",
		"\x00\x07\b\f\r\x1f\x7f":         "       ",
		"two\nlines\tand a tab":          "two\nlines\tand a tab",
		"\u0085\u009b\u00a0\u200b\u202e": "     ",
		"\u2028\u2029":                   "  ",
		`\u001b \\u001b \x1b \b \`:       `\u001b \\u001b \x1b \b \`, // as somebody has typed it
		"\\\x1b\\\\\x1b\"\x1b":           `\ \\ " `,
		"ö 😀 <&>":                        "ö 😀 <&>",
		"\xff\xc3":                       "\ufffd\ufffd",
	} {
		var got map[string]string
		line := jsonLine(map[string]string{text: text})
		if err := json.Unmarshal([]byte(line), &got); err != nil || got[want] != want {
			t.Errorf("%q: %s has %q, %v, want %q", text, line, got, err, want)
		}
	}
}
