package pool

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"pingover/internal/proc"
)

// Key signs what is sent (TSIG, RFC 8945). Its zero value signs nothing.
type Key struct {
	Name      string // fully qualified, lower case, with the final dot
	Algorithm string // as in the file, such as hmac-sha256
	secret    string // base64
}

// algorithms are those of tsig-keygen(8) but hmac-md5, which is broken.
func algorithms() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{
		"hmac-sha1": sha1.New, "hmac-sha224": sha256.New224, "hmac-sha256": sha256.New,
		"hmac-sha384": sha512.New384, "hmac-sha512": sha512.New,
	}
}

// sign is the signature of a message.
func (k Key) sign(msg []byte) []byte {
	raw, _ := base64.StdEncoding.DecodeString(k.secret) // the parser has tried it
	mac := hmac.New(algorithms()[k.Algorithm], raw)
	mac.Write(msg)
	return mac.Sum(nil)
}

// maxKeyFile is how large a key file may be: tsig-keygen's have 100 bytes.
const maxKeyFile = 64 << 10

// ReadKey reads a key file in the format of tsig-keygen(8): one key statement
// with an algorithm and a secret, at most 64 KiB. As root, a file that others can
// read, write or replace is refused. The error is an *Error with the Problem
// KeyFile; it leads with FILE or FILE:LINE and never shows the secret.
func ReadKey(path string) (Key, error) {
	fail := func(hint, format string, args ...any) (Key, error) {
		return Key{}, &Error{Problem: KeyFile, Text: path + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hang the run
	if err != nil {
		if p, ok := errors.AsType[*os.PathError](err); ok {
			err = p.Err
		}
		return fail("", "%v", err)
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return fail("", "%v", err)
	case !info.Mode().IsRegular():
		return fail("set key-file to a file that tsig-keygen has written", "not a file")
	}
	if os.Geteuid() == 0 {
		exposed, err := proc.WritableByOthers(path, info)
		switch {
		case err != nil:
			return fail("", "%v", err)
		case len(exposed) > 0:
			why := exposed[0].Why
			if exposed[0].Kind != "" {
				why = exposed[0].String()
			}
			return fail(exposed[0].Fix, "%s, so root does not use this key", why)
		case info.Mode().Perm()&0o044 != 0:
			return fail("chmod go-rwx "+proc.Line([]string{path}), "can be read by others, so root does not use this key")
		}
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	switch {
	case err != nil:
		return fail("", "%v", err)
	case len(text) > maxKeyFile:
		return fail("set key-file to a file that tsig-keygen has written", "larger than 64 KiB")
	}
	p := keyParser{path: path, line: 1, rest: string(text)}
	key, err := p.key()
	if err != nil {
		return Key{}, err
	}
	return key, nil
}

// String is the name and the algorithm, never the secret.
func (k Key) String() string { return fmt.Sprintf("%s (%s)", shown(k.Name), k.Algorithm) }

// GoString is String, for %#v.
func (k Key) GoString() string { return k.String() }

// keyParser reads the syntax of named.conf(5), as far as one key needs it:
//
//	key "NAME" { algorithm hmac-sha256; secret "BASE64"; };
type keyParser struct {
	path string
	line int // of rest
	at   int // line of the last token
	rest string
}

// fail quotes nothing: what is in a wrong place may be the secret.
func (p *keyParser) fail(format string, args ...any) error {
	return &Error{
		Problem: KeyFile, Text: fmt.Sprintf("%s:%d: %s", p.path, max(1, p.at), fmt.Sprintf(format, args...)),
		Hint: "make the file with tsig-keygen NAME, and nothing else in it",
	}
}

func (p *keyParser) key() (Key, error) {
	var k Key
	if word, err := p.token(); err != nil || word != "key" {
		return k, cmp.Or(err, p.fail(`"key" expected`))
	}
	name, err := p.token()
	if err != nil {
		return k, err
	}
	if k.Name, err = Name(name); err != nil {
		return k, p.fail("the name of the key is no domain name")
	}
	if err := p.expect("{"); err != nil {
		return k, err
	}
	for {
		word, err := p.token()
		switch {
		case err != nil:
			return k, err
		case word == "}":
			return p.end(k)
		case word == "algorithm" && k.Algorithm == "":
			err = p.algorithm(&k)
		case word == "secret" && k.secret == "":
			err = p.secret(&k)
		default:
			err = p.fail(`one "algorithm" and one "secret" expected`)
		}
		if err != nil {
			return k, err
		}
		if err := p.expect(";"); err != nil {
			return k, err
		}
	}
}

func (p *keyParser) algorithm(k *Key) error {
	word, err := p.token()
	if err != nil {
		return err
	}
	k.Algorithm = strings.ToLower(word)
	if algorithms()[k.Algorithm] == nil {
		return p.fail("the algorithm is none of %s", strings.Join(slices.Sorted(maps.Keys(algorithms())), ", "))
	}
	return nil
}

func (p *keyParser) secret(k *Key) error {
	word, err := p.token()
	if err != nil {
		return err
	}
	if raw, err := base64.StdEncoding.DecodeString(word); err != nil || len(raw) == 0 {
		return p.fail("the secret is not base64")
	}
	k.secret = word
	return nil
}

// end reads what follows the closing brace.
func (p *keyParser) end(k Key) (Key, error) {
	if k.Algorithm == "" || k.secret == "" {
		return k, p.fail(`"algorithm" and "secret" expected`)
	}
	if err := p.expect(";"); err != nil {
		return k, err
	}
	if p.skip(); p.rest != "" {
		p.at = p.line
		return k, p.fail("the file has more than one key")
	}
	return k, nil
}

func (p *keyParser) expect(token string) error {
	if word, err := p.token(); err != nil || word != token {
		return cmp.Or(err, p.fail("%q expected", token))
	}
	return nil
}

// token is the next word, string without its quotes, or one of { } ;
func (p *keyParser) token() (string, error) {
	p.skip()
	p.at = p.line
	if p.rest == "" {
		return "", p.fail("the file ends too early")
	}
	n := 1
	switch first := p.rest[0]; {
	case first == '"':
		n = strings.IndexAny(p.rest[1:], "\"\n")
		if n < 0 || p.rest[1+n] == '\n' {
			return "", p.fail("a quote is not closed")
		}
		word := p.rest[1 : 1+n]
		p.rest = p.rest[n+2:]
		return word, nil
	case !strings.ContainsRune("{};", rune(first)):
		if n = strings.IndexAny(p.rest, " \t\r\n\"{};"); n < 0 {
			n = len(p.rest)
		}
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word, nil
}

// skip goes past blanks and comments, of all three kinds.
func (p *keyParser) skip() {
	for {
		trimmed := strings.TrimLeft(p.rest, " \t\r\n")
		end := 0
		switch {
		case strings.HasPrefix(trimmed, "#"), strings.HasPrefix(trimmed, "//"):
			if end = strings.IndexByte(trimmed, '\n'); end < 0 {
				end = len(trimmed)
			}
		case strings.HasPrefix(trimmed, "/*"):
			if end = strings.Index(trimmed[2:], "*/") + 4; end < 4 {
				end = len(trimmed)
			}
		}
		past := p.rest[:len(p.rest)-len(trimmed)+end]
		p.line += strings.Count(past, "\n")
		p.rest = p.rest[len(past):]
		if end == 0 {
			return
		}
	}
}
