package notify

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

// fqdnTimeout bounds the lookup of this machine's FQDN.
const fqdnTimeout = 3 * time.Second

// lookupName is net.Resolver.LookupCNAME.
type lookupName func(ctx context.Context, host string) (string, error)

// fqdn is this machine's fully qualified name: the host name with a dot, else
// the name that the resolver gives for it (as hostname -f), without a trailing
// dot and in ASCII; "" where it has none that SMTP allows (RFC 5321 2.3.5).
func fqdn(ctx context.Context, hostname string, lookup lookupName) string {
	name := strings.TrimSuffix(hostname, ".")
	if name != "" && !strings.Contains(name, ".") {
		found, err := lookup(ctx, name)
		if err != nil {
			return ""
		}
		name = strings.TrimSuffix(found, ".")
	}
	name, err := idna.Lookup.ToASCII(name)
	if _, isAddress := netip.ParseAddr(name); err != nil || isAddress == nil || !strings.Contains(name, ".") {
		return ""
	}
	return name
}

// sender is mail-from, else the login: many providers let a user send only as
// himself.
func (s Server) sender() string {
	switch {
	case s.From != "":
		return s.From
	case strings.Contains(s.User, "@"):
		return s.User
	}
	return "pingover"
}

// qualified is a bare local name at this machine's domain; any other address
// as it is.
func (s *smtpSession) qualified(ctx context.Context, address string) string {
	if !isLocal(address) {
		return address
	}
	short, err := idna.Lookup.ToASCII(s.Hostname)
	if err != nil || short == "" {
		short = "localhost"
	}
	return address + "@" + cmp.Or(s.fqdn(ctx), short)
}

// fqdn is this machine's FQDN, looked up at most once; "" where it has none.
func (s *smtpSession) fqdn(ctx context.Context) string {
	if s.name == nil {
		lookup := s.lookup
		if lookup == nil {
			lookup = net.DefaultResolver.LookupCNAME
		}
		// A name server that is down must not cost the mail its time.
		ctx, cancel := context.WithTimeout(ctx, min(fqdnTimeout, s.timeout()/4))
		defer cancel()
		s.name = new(fqdn(ctx, s.Hostname, lookup))
	}
	return *s.name
}

// addressLiteral is the socket's own address as a HELO name (RFC 5321 4.1.3).
func addressLiteral(local net.Addr) string {
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return "localhost"
	}
	a := at.Addr().Unmap().WithZone("")
	if a.Is6() {
		return fmt.Sprintf("[IPv6:%s]", a)
	}
	return fmt.Sprintf("[%s]", a)
}

// setAddress puts a mail address, or a bare local name for the MTA to qualify,
// into a header, and returns it without its display name.
func setAddress(m *mail.Msg, header mail.AddrHeader, text string) (address string, err error) {
	if isLocal(text) {
		m.SetGenHeader(mail.Header(header), text)
		return text, nil
	}
	if err := m.SetAddrHeader(header, text); err != nil {
		return "", fmt.Errorf("%q is no mail address", text)
	}
	return m.GetAddrHeader(header)[0].Address, nil
}

// isLocal says whether text is a bare local name, such as root.
func isLocal(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return !plainWord(r) && r != '+' })
}
