package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMailAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"root":                          "root",
		"www-data+pingover":             "www-data+pingover",
		"ops@example.com":               "ops@example.com",
		"ops@müller.example":            "ops@xn--mller-kva.example",
		"Ops <ops@MÜLLER.example>":      `"Ops" <ops@xn--mller-kva.example>`,
		"jürgen@example.com":            "jürgen@example.com",
		`"on call"@example.com`:         `"on call"@example.com`,
		"<ops@example.com>":             "ops@example.com",
		"Ops <ops@example.com>":         `"Ops" <ops@example.com>`,
		"Ops, Team <ops@example.com>":   `"Ops, Team" <ops@example.com>`,
		`"Ops, Team" <ops@example.com>`: `"Ops, Team" <ops@example.com>`,
		`Ops "24/7" <ops@example.com>`:  `"Ops 24/7" <ops@example.com>`,
		"a.b. Smith <a@example.com>":    `"a.b. Smith" <a@example.com>`,
		"Jörg <j@example.com>":          "=?utf-8?q?J=C3=B6rg?= <j@example.com>",
	} {
		got, err := parseMailbox(given)
		if err != nil || got != want {
			t.Errorf("%s: got %s (%v), want %s", given, got, err, want)
		}
	}
}

func TestVia(t *testing.T) {
	for given, want := range map[string]Via{
		"sendmail":                   {Scheme: "sendmail"},
		"sendmail:///usr/lib/mta":    {Scheme: "sendmail", Path: "/usr/lib/mta"},
		"smtp://localhost":           {Scheme: "smtp", Host: "localhost", Port: 25},
		"SMTP://[::1]:2525":          {Scheme: "smtp", Host: "::1", Port: 2525},
		"smtp+starttls://172.16.0.5": {Scheme: "smtp+starttls", Host: "172.16.0.5", Port: 587},
		"smtps://mail.example.com":   {Scheme: "smtps", Host: "mail.example.com", Port: 465},
	} {
		got, err := parseVia(given)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, -want +got\n%s", given, err, diff)
		}
	}
}

func TestAPasswordOnTheCommandLineIsRefusedAndNotRepeated(t *testing.T) {
	const use = ": must not contain user and password; use mail-user, and mail-password-file or the variable PINGOVER_MAIL_PASSWORD"
	const oneOf = "must be one of sendmail, sendmail:///PATH, smtp://HOST[:25], smtp+starttls://HOST[:587], smtps://HOST[:465]"
	for given, want := range map[string]string{
		"smtp://joe:secret@mail.example.com":   `--mail-via "smtp://…@mail.example.com"` + use,
		"smtp://joe@mail.example.com":          `--mail-via "smtp://…@mail.example.com"` + use,
		"smtp://joe:sec%zzret@x":               `--mail-via "smtp://…@x": ` + oneOf,
		"joe:secret@mail.example.com":          `--mail-via "…@mail.example.com": ` + oneOf,
		"smpt://joe:sec@ret@mail.example.com/": `--mail-via "smpt://…@mail.example.com/": ` + oneOf,
	} {
		_, err := FromFlags(map[string][]string{"host": {"h"}, "mail-via": {given}}, rootOn("standby"))
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("%s: -want +got\n%s", given, diff)
		}
	}
}

func TestPassword(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name, user, file, variable string
		password, want             string
		code                       int
	}{
		{name: "neither user nor password"},
		{name: "from the file", user: "joe", file: write("a", "secret\n"), password: "secret"},
		{name: "the first line counts", user: "joe", file: write("b", " se cret \r\nother\n"), password: " se cret "},
		{name: "a line without an end", user: "joe", file: write("c", "secret"), password: "secret"},
		{name: "from the variable", user: "joe", variable: "secret", password: "secret"},
		{name: "the file comes first", user: "joe", file: write("d", "one"), variable: "two", password: "one"},
		{name: "the variable alone, which may be another cluster's", variable: "secret"},
		{name: "a file without a user", file: write("e", "x"), want: "a password without a user; set mail-user", code: 64},
		{name: "an empty file", user: "joe", file: write("f", ""), want: "its first line has no password", code: 78},
		{name: "an empty first line", user: "joe", file: write("g", "\nsecret\n"), want: "its first line has no password", code: 78},
		{name: "the largest file", user: "joe", file: write("h", "x\n"+strings.Repeat("y", 4094)), password: "x"},
		{name: "a file that is too large", user: "joe", file: write("i", "x\n"+strings.Repeat("y", 4095)), want: "larger than 4 KiB", code: 78},
		{name: "no such file", user: "joe", file: filepath.Join(dir, "none"), want: "cannot be read: no such file or directory", code: 78},
		{name: "a directory", user: "joe", file: dir, want: "not a regular file", code: 78},
		{name: "a device", user: "joe", file: "/dev/zero", want: "not a regular file", code: 78},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values := flags("--host h")
			if test.user != "" {
				values["mail-user"] = []string{test.user}
			}
			if test.file != "" {
				values["mail-password-file"] = []string{test.file}
			}
			got, err := FromFlags(values, rootOn("standby", "PINGOVER_MAIL_PASSWORD="+test.variable))
			want := ""
			if test.want != "" {
				want = "--mail-password-file " + strconv.Quote(test.file) + ": " + test.want
			}
			if diff := cmp.Diff(want, text(err)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if got.Mail.Password != test.password {
				t.Errorf("password %q, want %q", got.Mail.Password, test.password)
			}
			if problems, ok := err.(Problems); ok && problems.Code() != test.code {
				t.Errorf("code %d, want %d", problems.Code(), test.code)
			}
		})
	}
}

// Mail never decides over an address: what is wrong with the credentials of a
// cluster that was checked before is left to its mail.
func TestCredentialsOfAClusterThatWasCheckedBefore(t *testing.T) {
	env := rootOn("standby")
	env.Checked = func(dir, name string) bool { return dir == "/var/lib/pingover" && name == "old" }
	const text = `clusters:
  old: {host: a, mail-user: joe, mail-password-file: /none/password, mail-ca: /none/ca}
  other: {host: b}
`
	got, err := clustersIn("f", []byte(text), nil, env)
	if err != nil {
		t.Fatal(err)
	}
	want := `f:2: cluster old: mail-password-file "/none/password": cannot be read: no such file or directory
f:2: cluster old: mail-ca "/none/ca": cannot be read: no such file or directory`
	if diff := cmp.Diff(want, got[0].Mail.Unusable.Error()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got[1].Mail.Unusable != nil {
		t.Errorf("the other: %v", got[1].Mail.Unusable)
	}
	if _, _, err := got[0].Mail.Credentials(); err == nil || err.Error() != `mail-password-file "/none/password": cannot be read: no such file or directory` {
		t.Errorf("its credentials: %v", err)
	}

	_, err = clustersIn("f", []byte("clusters:\n  new: {host: a, mail-ca: /none/ca}\n"), nil, env)
	if want := `f:2: cluster new: mail-ca "/none/ca": cannot be read: no such file or directory`; err == nil || err.Error() != want {
		t.Errorf("a new one: %v, want %s", err, want)
	}
	cluster, err := FromFlags(flags("--host h --name old --mail-user joe"), env) // the variable is cron's
	if err != nil || cluster.Mail.Unusable.Error() != `--mail-user "joe": `+noPassword {
		t.Errorf("without the variable: %v, %v", cluster.Mail.Unusable, err)
	}
	if _, err = FromFlags(flags("--host h --name old --mail-ca /none --rise x"), env); err == nil || !strings.Contains(err.Error(), "mail-ca") {
		t.Errorf("beside another error: %v", err)
	}
}

func TestAWrongValueComesBeforeAFileThatCannotBeRead(t *testing.T) {
	_, err := FromFlags(flags("--host h --mail-ca /nonexistent --remind x"), rootOn("standby"))
	if code := err.(Problems).Code(); code != 64 {
		t.Errorf("code %d, want 64", code)
	}
}

func TestCertificates(t *testing.T) {
	for name, test := range map[string]struct{ path, want string }{
		"one certificate":  {file(t, "ca", certificate(t)), ""},
		"something else":   {file(t, "ca", "no certificate"), "it has no certificate in PEM format"},
		"larger than 1MiB": {file(t, "ca", strings.Repeat("x", 1<<20+1)), "larger than 1024 KiB"},
		"no such file":     {"/nonexistent/ca", "cannot be read: no such file or directory"},
	} {
		_, err := FromFlags(map[string][]string{"host": {"h"}, "mail-ca": {test.path}}, rootOn("standby"))
		want := ""
		if test.want != "" {
			want = "--mail-ca " + strconv.Quote(test.path) + ": " + test.want
			if code := err.(Problems).Code(); code != 78 {
				t.Errorf("%s: code %d, want 78", name, code)
			}
		}
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// certificate is one of our own, in PEM form.
func certificate(t *testing.T) string {
	t.Helper()
	cert, _ := certificateWithKey(t)
	return cert
}

func certificateWithKey(t *testing.T) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}
