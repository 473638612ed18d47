package config

import (
	"net/mail"
	"strings"
	"testing"
	"unicode"
)

// Whatever is given as a mail address: what is taken is one address without
// control characters, and given again it stays as it is.
func FuzzMailAddress(f *testing.F) {
	for _, text := range []string{
		"root", "ops@example.com", "Ops, Team <ops@example.com>", `"Ops, Team" <ops@example.com>`, "Jörg <j@müller.example>",
		`"on call"@example.com`, "ops@[192.0.2.1]", "a@b, c@d", "root\r\nBcc: x@y", "-oQ", "x@xn--", "a@b (comment)", "<@a:b@c>", "=?utf-8?q?x?= <a@b>",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseMailbox(text)
		if err != nil {
			if got != "" {
				t.Errorf("%q: %q and %v", text, got, err)
			}
			return
		}
		if strings.ContainsFunc(got, unicode.IsControl) || strings.HasPrefix(got, "-") && !strings.Contains(got, "@") {
			t.Errorf("%q: %q", text, got)
		}
		if _, err := mail.ParseAddress(got); err != nil && strings.Contains(got, "@") {
			t.Errorf("%q: %q: %v", text, got, err)
		}
		if again, err := parseMailbox(got); again != got || err != nil {
			t.Errorf("%q: %q, then %q (%v)", text, got, again, err)
		}
	})
}
