package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"
	"golang.org/x/sys/unix"
)

func addMailTo(d *draft, text string) error {
	address, err := parseMailbox(text)
	if err != nil {
		return err
	}
	if slices.Contains(d.Mail.To, address) {
		return errors.New("is given twice")
	}
	d.Mail.To = append(d.Mail.To, address)
	return nil
}

func setMailFrom(d *draft, text string) error {
	address, err := parseMailbox(text)
	d.Mail.From = address
	return err
}

// parseMailbox reads one address of RFC 5322, with or without a display name, which
// may lack its quotes, or a bare local name.
func parseMailbox(text string) (string, error) {
	switch {
	case strings.ContainsAny(text, "\r\n"):
		return "", errors.New("a mail address must not contain a line break")
	case hasControl(text):
		return "", errors.New("a mail address must not contain a control character")
	case localName().MatchString(text):
		return text, nil
	}
	address, err := mail.ParseAddress(text)
	if name, rest, ok := cutName(text); err != nil && ok {
		if strings.Contains(name, "@") {
			return "", errors.New("more than one mail address; give each separately")
		}
		if address, err = mail.ParseAddress(rest); err == nil {
			address.Name = name
		}
	}
	if err != nil && !strings.Contains(text, "<") && strings.ContainsAny(text, ",;") {
		return "", errors.New("more than one mail address; give each separately")
	}
	if err != nil {
		return "", errors.New("not a mail address, such as root or ops@example.com")
	}
	at := strings.LastIndexByte(address.Address, '@')
	domain, err := asciiDomain(address.Address[at+1:])
	if err != nil {
		return "", err
	}
	address.Address = address.Address[:at+1] + domain
	if address.Name == "" {
		return strings.Trim((&mail.Address{Address: address.Address}).String(), "<>"), nil
	}
	return address.String(), nil
}

// localName is a bare local name, which the MTA or notify completes: the
// characters of RFC 5321 that mean nothing to a shell or in a header.
var localName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_+-]*(\.[A-Za-z0-9_+-]+)*$`)
})

// asciiDomain is a domain in the form that every mail server takes. Address
// literals stay.
func asciiDomain(domain string) (string, error) {
	if strings.HasPrefix(domain, "[") {
		return domain, nil
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || ascii == "" {
		return "", fmt.Errorf("%q is no domain", domain)
	}
	return ascii, nil
}

func setMailHELO(d *draft, text string) error {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner, _ = strings.CutSuffix(inner, "]")
		v6, isV6 := strings.CutPrefix(inner, "IPv6:")
		if a, err := netip.ParseAddr(v6); err != nil || a.Zone() != "" || isV6 != a.Is6() || !strings.HasSuffix(text, "]") {
			return errors.New("not an address literal, such as [192.0.2.1] or [IPv6:2001:db8::1]")
		}
		d.Mail.HELO = text
		return nil
	}
	name, err := asciiDomain(text)
	if err != nil || !strings.Contains(name, ".") || !isHostName(name) {
		return errors.New("not a full host name, such as standby.example.com; mail servers refuse a short one")
	}
	d.Mail.HELO = name
	return nil
}

// cutName splits `Ops, Team <a@b>` before its address.
func cutName(text string) (name, rest string, ok bool) {
	i := strings.LastIndexByte(text, '<')
	if i < 0 {
		return "", "", false
	}
	return strings.Trim(text[:i], ` "`), text[i:], true
}

const viaForms = "sendmail, sendmail:///PATH, smtp://HOST[:25], smtp+starttls://HOST[:587], smtps://HOST[:465]"

func setMailVia(d *draft, text string) error {
	via, err := parseVia(text)
	d.Mail.Via = via
	return err
}

func parseVia(text string) (Via, error) {
	if text == "sendmail" {
		return Via{Scheme: "sendmail"}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		u = &url.URL{}
	}
	ports := map[string]int{"sendmail": 0, "smtp": 25, "smtp+starttls": 587, "smtps": 465}
	port, known := ports[u.Scheme]
	switch {
	case known && u.Opaque == "" && u.User != nil:
		return Via{}, errors.New("must not contain user and password; use mail-user, and mail-password-file or the variable PINGOVER_MAIL_PASSWORD")
	case u.Scheme == "sendmail" && u.Opaque == "" && (u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/")):
		return Via{}, errors.New("needs a path, such as in sendmail:///usr/sbin/sendmail")
	case !known || u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Scheme != "sendmail" && strings.Trim(u.Path, "/") != "":
		return Via{}, fmt.Errorf("must be one of %s", viaForms)
	case u.Scheme == "sendmail":
		return Via{Scheme: u.Scheme, Path: u.Path}, nil
	}
	if err := checkHost(u.Hostname()); err != nil {
		return Via{}, fmt.Errorf("server %q: %w", u.Hostname(), err)
	}
	if u.Port() != "" {
		port, err = strconv.Atoi(u.Port())
		if err != nil || port < 1 || port > 65535 {
			return Via{}, fmt.Errorf("port %q is out of range (1 to 65535)", u.Port())
		}
	}
	return Via{Scheme: u.Scheme, Host: u.Hostname(), Port: port}, nil
}

// hideCredentials keeps a password out of errors, which cron would mail.
func hideCredentials(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, _, _ := strings.Cut(text[:at], "://")
	if scheme == text[:at] {
		return "…" + text[at:]
	}
	return scheme + "://…" + text[at:]
}

func setMailUser(d *draft, text string) error {
	if hasControl(text) {
		return errors.New("a user name must not contain a control character")
	}
	d.Mail.User = text
	return nil
}

func setMailPasswordFile(d *draft, text string) (err error) {
	d.Mail.PasswordFile = text
	d.Mail.Password, err = readPassword(text)
	return credentials(err)
}

// readPassword reads the first line of a file.
func readPassword(path string) (string, error) {
	data, err := readFile(path, 4<<10, onlyOurs(path))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fileError{errors.New("its first line has no password")}
	}
	return line, nil
}

func setMailCA(d *draft, text string) error {
	d.Mail.CAFile = text
	return credentials(d.certificatesIn(text))
}

// certificatesIn is what is wrong with a file of certificates.
func (d *draft) certificatesIn(path string) error {
	err, known := d.certificates[path]
	if !known {
		_, err = readCertificates(path)
		d.certificates[path] = err
	}
	return err
}

func readCertificates(path string) (*x509.CertPool, error) {
	data, err := readFile(path, 1<<20, onlyOurs(path))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fileError{errors.New("it has no certificate in PEM format")}
	}
	return pool, nil
}

// Credentials are the password and the certificates as their files have them now;
// roots is nil where no file is named. The error is what is wrong with them.
func (m Mail) Credentials() (password string, roots *x509.CertPool, err error) {
	password = m.Password
	if m.PasswordFile != "" {
		if password, err = readPassword(m.PasswordFile); err != nil {
			return "", nil, fmt.Errorf("mail-password-file %q: %w", m.PasswordFile, err)
		}
	}
	if m.User != "" && password == "" {
		return "", nil, fmt.Errorf("mail-user %q: %s", m.User, noPassword)
	}
	if m.CAFile != "" {
		if roots, err = readCertificates(m.CAFile); err != nil {
			return "", nil, fmt.Errorf("mail-ca %q: %w", m.CAFile, err)
		}
	}
	return password, roots, nil
}

const noPassword = "a user without a password; set mail-password-file or the variable PINGOVER_MAIL_PASSWORD"

// completeMail finds the password, and checks that a password has a user and a
// user a password.
func (d *draft) completeMail() {
	file := len(d.given["mail-password-file"]) > 0
	switch {
	case d.bad["mail-user"] || d.bad["mail-password-file"]:
	case d.Mail.User == "" && file:
		d.wrong("mail-password-file", 0, "a password without a user; set mail-user")
	case d.Mail.User != "" && !file:
		// The variable may be set for another cluster: without a user it is ignored.
		d.Mail.Password = d.env.Getenv("PINGOVER_MAIL_PASSWORD")
		if d.Mail.Password == "" {
			d.refuse("mail-user", 0, credentials(errors.New(noPassword)))
		}
	}
}

// credentialsError is an error of mail's credentials. It does not keep a cluster
// that was checked before from being checked: its mail waits.
type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

func credentials(err error) error {
	if err == nil {
		return nil
	}
	return credentialsError{err}
}

// completeCredentials makes the errors of the credentials those of the settings,
// or leaves them to the mail of a cluster that was checked before.
func (d *draft) completeCredentials() {
	if len(d.credentials) == 0 {
		return
	}
	checked := d.env.Kept || d.env.Checked != nil && d.env.Checked(d.StateDir, d.Name)
	if len(d.bad) == 0 && checked {
		whose := ""
		if d.file != "" {
			whose = d.scope.String() + " " + d.Name
		}
		for _, f := range d.credentials {
			d.Mail.Unusable = append(d.Mail.Unusable, f.problem(d.file, whose))
		}
		return
	}
	for _, f := range d.credentials {
		d.faults = append(d.faults, f.fault)
		d.bad[f.setting] = true
	}
}

// readPatience is how long a file may take to be read. One such as /proc/kmsg looks
// like any other, and never ends.
const readPatience = 10 * time.Second

// readFile reads a regular file of at most limit bytes, if accept returns nil. Any
// other kind of file could block a run.
func readFile(path string, limit int64, accept func(fs.FileInfo) error) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // opening a device may do something
		return nil, fileError{errors.New("not a regular file")}
	}
	// One descriptor: the file that is checked is the one that is read.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, unreadable(err)
	case !info.Mode().IsRegular():
		return nil, fileError{errors.New("not a regular file")}
	}
	if err := accept(info); err != nil {
		return nil, err
	}
	_ = f.SetReadDeadline(time.Now().Add(readPatience)) // of a file on a disk there is none
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case int64(len(data)) > limit:
		return nil, fileError{fmt.Errorf("larger than %d KiB", limit>>10)}
	}
	return data, nil
}

// unreadable is err without the path, which its place already has.
func unreadable(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return fileError{fmt.Errorf("cannot be read: %w", err)}
}
