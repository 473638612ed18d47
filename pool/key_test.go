package pool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pingover/internal/lab"
)

const hidden = "c2VjcmV0IG9mIHRoZSBrZXkgd3d3"

func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "www.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadKey(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"as tsig-keygen writes it": "key \"www\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + hidden + "\";\n};\n",
		"on one line":              "key WWW.{secret " + hidden + ";algorithm HMAC-SHA256;};",
		"with comments":            "# a\n// b\n/* c\n*/ key www { # d\n algorithm hmac-sha256; /* ; */ secret \"" + hidden + "\"; }; // e",
	} {
		got, err := ReadKey(keyFile(t, text))
		if err != nil || got != (Key{"www.", "hmac-sha256", hidden}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", got, got, got, got); strings.Contains(text, hidden) {
			t.Errorf("the secret is printed: %s", text)
		}
	}
}

func TestReadKeyOfTSIGKeygen(t *testing.T) {
	t.Parallel()
	lab.Need(t, "tsig-keygen", "bind9")
	file, _, err := lab.TSIGKey(t.TempDir(), "host1.zone.com")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKey(file); err != nil || got.String() != "host1.zone.com (hmac-sha256)" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAKeyFileThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	const hint = "make the file with tsig-keygen NAME, and nothing else in it"
	good := "key www { algorithm hmac-sha256; secret " + hidden + "; };\n"
	for text, want := range map[string]string{
		"":                                    `:1: the file ends too early`,
		"# empty\n\n":                         `:3: the file ends too early`,
		hidden:                                `:1: "key" expected`,
		"key":                                 `:1: the file ends too early`,
		"key \"w w\" {":                       `:1: the name of the key is no domain name`,
		"key www\n" + hidden:                  `:2: "{" expected`,
		"key www {\n\"" + hidden:              `:2: a quote is not closed`,
		"key www {\n\"" + hidden + "\n\";":    `:2: a quote is not closed`,
		"key www {\n" + hidden + ";":          `:2: one "algorithm" and one "secret" expected`,
		"key www {\nalgorithm " + hidden:      `:2: the algorithm is none of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512`,
		"key www {\nalgorithm hmac-md5;":      `:2: the algorithm is none of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512`,
		"key www {\nsecret \"" + hidden + "!": `:2: a quote is not closed`,
		"key www {\nsecret " + hidden + "!;":  `:2: the secret is not base64`,
		"key www {\nsecret \"\";":             `:2: the secret is not base64`,
		"key www {\nsecret " + hidden + "\n}": `:3: ";" expected`,
		"key www {\nsecret " + hidden + ";}":  `:2: "algorithm" and "secret" expected`,
		"key www { algorithm hmac-sha1; algorithm hmac-sha1;": `:1: one "algorithm" and one "secret" expected`,
		strings.TrimSuffix(good, ";\n"):                       `:1: the file ends too early`,
		good + "\n" + good:                                    `:3: the file has more than one key`,
	} {
		path := keyFile(t, text)
		_, err := ReadKey(path)
		wantError(t, err, Error{Problem: KeyFile, Text: path + want, Hint: hint})
		if err != nil && strings.Contains(err.Error()+err.(*Error).Hint, hidden) {
			t.Errorf("the secret is shown: %v", err)
		}
	}

	large := keyFile(t, good+strings.Repeat("#", 64<<10))
	_, err := ReadKey(large)
	wantError(t, err, Error{Problem: KeyFile, Text: large + ": larger than 64 KiB", Hint: "set key-file to a file that tsig-keygen has written"})
	dir := t.TempDir()
	_, err = ReadKey(dir)
	wantError(t, err, Error{Problem: KeyFile, Text: dir + ": not a file", Hint: "set key-file to a file that tsig-keygen has written"})
	_, err = ReadKey(dir + "/none")
	wantError(t, err, Error{Problem: KeyFile, Text: dir + "/none: no such file or directory"})
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = ReadKey(dir + "/pipe")
	wantError(t, err, Error{Problem: KeyFile, Text: dir + "/pipe: not a file", Hint: "set key-file to a file that tsig-keygen has written"})
}

func TestRootUsesNoKeyThatOthersCanRead(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	for mode, want := range map[os.FileMode]Error{
		0o600: {}, 0o400: {},
		0o640: {Problem: KeyFile, Text: "can be read by others, so root does not use this key", Hint: "chmod go-rwx "},
		0o604: {Problem: KeyFile, Text: "can be read by others, so root does not use this key", Hint: "chmod go-rwx "},
		0o602: {Problem: KeyFile, Text: "can be written to by others, so root does not use this key", Hint: "chmod go-w "},
	} {
		path := keyFile(t, "key www { algorithm hmac-sha256; secret "+hidden+"; };")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKey(path)
		if want.Problem == 0 {
			if err != nil {
				t.Errorf("%o: %v", mode, err)
			}
			continue
		}
		want.Text, want.Hint = path+": "+want.Text, want.Hint+path
		wantError(t, err, want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"host1.zone.com": "host1.zone.com.", "Host1.Zone.COM.": "host1.zone.com.", "_a.b": "_a.b.", "a": "a.", "1.2.in-addr.arpa": "1.2.in-addr.arpa.",
		"": "", ".": "", "a..b": "", "*.zone.com": "", "a b": "", "zürich.ch": "", "10.2.2.10": "", "2001:db8::1": "",
		strings.Repeat("a", 64) + ".de": "", strings.Repeat("a.", 127) + "de": "",
	} {
		if got, err := Name(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353", "2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]": "[2001:db8::53]:53",
		"[2001:db8::53]:5353": "[2001:db8::53]:5353", "NS.zone.com": "ns.zone.com:53", "ns.zone.com:54": "ns.zone.com:54",
		"": "", ":53": "", "ns:0": "", "ns:65536": "", "ns:domain": "", "192.0.2.300": "", "a b": "", "http://ns": "",
	} {
		if got, err := ServerAddress(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
