package pool

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Name is a `record` or `zone` setting as a fully qualified name in lower case,
// with the final dot. A wildcard is none: its records cannot be told from those
// that it stands for.
func Name(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if len(name) > 253 { // RFC 1035 3.1
		return "", errors.New("a name has at most 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		wrong := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if wrong || label == "" || len(label) > 63 {
			return "", errors.New("not a DNS name: labels of a-z, 0-9, - and _, at most 63 characters each, with dots between them")
		}
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", errors.New("an address, not a DNS name")
	}
	return name + ".", nil
}

// ServerAddress is a `server` setting as host:port: a host name or an address,
// with or without a port (53).
func ServerAddress(text string) (string, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return net.JoinHostPort(a.String(), dnsPort), nil
	}
	host, port := text, dnsPort
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", errors.New("the port is none of 1 to 65535")
		}
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(host, port), nil
	}
	if _, err := Name(host); err != nil {
		return "", errors.New("not HOST or HOST:PORT")
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}
