package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"pingover/internal/arbiter"
)

const (
	arbiterForms = "https://HOST:2379 or http://HOST:2379"
	arbiterPort  = "2379" // of etcd's clients (IANA)
	maxArbiters  = 9
)

// arbiterSettings are those that need the setting arbiter.
var arbiterSettings = [...]string{"arbiter-ttl", "arbiter-ca", "arbiter-cert", "arbiter-cert-key", "arbiter-user", "arbiter-password-file"}

func addArbiter(d *draft, text string) error {
	member, err := parseMember(text)
	switch {
	case err != nil:
		return err
	case slices.Contains(d.Arbiter.Members, member):
		return fmt.Errorf("%s is given twice", member)
	case len(d.Arbiter.Members) == maxArbiters:
		return fmt.Errorf("more than %d members; three or five are enough", maxArbiters)
	}
	d.Arbiter.Members = append(d.Arbiter.Members, member)
	return nil
}

// parseMember is the URL of a member of etcd, with its port.
func parseMember(text string) (string, error) {
	if !strings.Contains(text, "://") {
		return "", fmt.Errorf("a scheme is missing; write it as https://%s", text)
	}
	u, err := parseURL(text)
	switch {
	case err != nil:
		return "", err
	case u.User != nil:
		return "", errors.New("must not contain user and password; use arbiter-user and arbiter-password-file")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery:
		return "", fmt.Errorf("must be %s, without a path", arbiterForms)
	}
	port := u.Port()
	if port == "" {
		port = arbiterPort
	}
	return (&url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(u.Hostname(), port)}).String(), nil
}

func setArbiterCA(d *draft, text string) error {
	d.Arbiter.CA = text
	return d.certificatesIn(text)
}

func setArbiterUser(d *draft, text string) error {
	if hasControl(text) {
		return errors.New("a user name must not contain a control character")
	}
	d.Arbiter.User = text
	return nil
}

func setArbiterPasswordFile(d *draft, text string) error {
	d.Arbiter.PasswordFile = text
	_, err := readPassword(text)
	return err
}

// ArbiterFiles reads the files of the arbiter's settings, by the rule for credentials.
func ArbiterFiles(path string) ([]byte, error) { return readFile(path, 1<<20, onlyOurs(path)) }

// LongestLook is the longest that a check of the primary takes: two silent rounds, and
// the wait between them.
func (c Cluster) LongestLook() time.Duration { return 2*c.Round() + c.RetryWait }

// completeArbiter checks that the arbiter's settings fit together, and that a lifetime
// outlasts the check that renews it.
func (d *draft) completeArbiter() {
	missing := func(name string) bool { return len(d.given[name]) == 0 && !d.bad[name] }
	if missing("arbiter") || missing("vip") && !d.bad["arbiter"] {
		if len(d.given["arbiter"]) > 0 {
			d.unfit("arbiter", "needs a vip")
		}
		for _, name := range arbiterSettings {
			if d.is(name) {
				d.unfit(name, "needs arbiter")
			}
		}
		d.Arbiter = arbiter.Settings{}
		return
	}
	if d.is("lease") && d.Lease > 0 {
		d.unfit("lease", "excludes arbiter, which sets the lifetime itself (arbiter-ttl)")
		d.Lease = 0
	}
	if d.Tool == "ifconfig" {
		d.wrong("arbiter", 0, "needs ip of iproute2, but the tool is ifconfig")
	}
	d.completeArbiterFiles()
	lengths := []string{"count", "interval", "timeout", "retry-wait"}
	if slices.ContainsFunc(lengths, func(name string) bool { return d.bad[name] }) || d.bad["arbiter-ttl"] {
		return
	}
	if least := 2 * d.LongestLook(); d.Arbiter.TTL < least {
		d.wrong("arbiter-ttl", 0, "shorter than twice the longest look, %s%s; increase it, or decrease %s",
			DurationText(least), d.because(lengths), oneOf(lengths))
	}
}

// completeArbiterFiles checks what identifies this machine to etcd.
func (d *draft) completeArbiterFiles() {
	cert, key := "arbiter-cert", "arbiter-cert-key"
	switch {
	case d.is(cert) && !d.is(key):
		d.wrong(cert, 0, "needs arbiter-cert-key")
	case d.is(key) && !d.is(cert):
		d.wrong(key, 0, "needs arbiter-cert")
	case d.is(cert):
		if err := keyPair(d.Arbiter.Cert, d.Arbiter.CertKey); err != nil {
			d.refuse(cert, 0, err)
		}
	}
	user, password := "arbiter-user", "arbiter-password-file"
	switch {
	case d.is(user) && !d.is(password) && !d.bad[password]:
		d.wrong(user, 0, "needs arbiter-password-file")
	case d.is(password) && !d.is(user) && !d.bad[user]:
		d.wrong(password, 0, "needs arbiter-user")
	}
	for i, member := range d.Arbiter.Members {
		u, _ := url.Parse(member)
		if d.bad["arbiter"] || u.Scheme == "https" {
			continue
		}
		if d.is(user) && !isLoopback(u.Hostname()) {
			d.wrong("arbiter", i, "would send the password of arbiter-user without TLS; write it as https://%s", u.Host)
		} else if i == 0 && !slices.ContainsFunc(d.Arbiter.Members, func(m string) bool { return strings.HasPrefix(m, "https:") }) {
			for _, name := range []string{"arbiter-ca", cert} {
				if d.is(name) {
					d.unfit(name, "needs a member of arbiter with https")
				}
			}
		}
	}
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// keyPair checks that a certificate and its key belong together.
func keyPair(certFile, keyFile string) error {
	cert, err := ArbiterFiles(certFile)
	if err != nil {
		return err
	}
	key, err := ArbiterFiles(keyFile)
	if err == nil {
		_, err = tls.X509KeyPair(cert, key)
	}
	if err != nil {
		return fileError{fmt.Errorf("arbiter-cert and arbiter-cert-key cannot be used: %w", err)}
	}
	return nil
}
