package notify

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"
)

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
