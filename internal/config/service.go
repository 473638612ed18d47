package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pingover/check"
)

const serviceForms = "tcp:PORT, an http or https URL, or a command"

func addService(d *draft, text string) error {
	s, err := parseService(text)
	if err == nil && slices.ContainsFunc(d.Services, func(known check.Service) bool { return reflect.DeepEqual(known, s) }) {
		return errors.New("is given twice")
	}
	d.Services = append(d.Services, s)
	return err
}

// parseService makes a service of a setting. Only a command is split into words.
func parseService(text string) (s check.Service, err error) {
	scheme, rest := cutScheme(text)
	switch {
	case scheme == "tcp":
		s.Port, err = parsePort(rest)
	case scheme != "" && strings.HasPrefix(rest, "//"):
		s.URL, err = parseURL(text)
	case scheme != "":
		return s, fmt.Errorf("begins with %q; must be %s", scheme+":", serviceForms)
	default:
		if s.Argv, err = splitCommand(text); err == nil {
			err = checkCommand(s.Argv)
		}
	}
	return s, err
}

// cutScheme cuts off what a service begins with that is no command; scheme is ""
// for a command.
func cutScheme(text string) (scheme, rest string) {
	if scheme, rest, found := strings.Cut(text, ":"); found && scheme != "" && !strings.ContainsAny(scheme, " \t/'\"\\") {
		return scheme, rest
	}
	return "", text
}

func parsePort(text string) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	switch {
	case !allDigits(text):
		return 0, fmt.Errorf("port %q: not a number (1 to 65535)", text)
	case err != nil || n == 0:
		return 0, fmt.Errorf("port %q: out of range (1 to 65535)", text)
	}
	return uint16(n), nil
}

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		err = wrong.Err // without the URL, which may have a password in it
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("not a URL: %v", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("scheme %q: must be http or https", u.Scheme)
	case strings.ContainsAny(text, " \t"):
		return nil, errors.New("not a URL: it contains a blank")
	case u.Hostname() == "":
		return nil, fmt.Errorf("a host is missing, such as %s://www.example.com/", u.Scheme)
	case u.Fragment != "":
		return nil, fmt.Errorf("a fragment is never sent; leave #%s out", u.Fragment)
	}
	if err := checkHost(u.Hostname()); err != nil {
		return nil, fmt.Errorf("host %q: %w", u.Hostname(), err)
	}
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" {
		_, err = parsePort(u.Port())
	}
	return u, err
}

// hideService keeps the password of a URL out of errors.
func hideService(text string) string {
	if scheme, _ := cutScheme(text); scheme != "" {
		return hideCredentials(text)
	}
	return text
}

func setServiceCA(d *draft, text string) error {
	d.ServiceCA = text
	return d.certificatesIn(text)
}

// ServiceRoots reads service-ca, once and when it is needed; nil where there is
// none. The error says which file and why.
func ServiceRoots(file string) func() (*x509.CertPool, error) {
	if file == "" {
		return nil
	}
	return sync.OnceValues(func() (*x509.CertPool, error) {
		roots, err := readCertificates(file)
		if err != nil {
			return nil, fmt.Errorf("service-ca %q: %w", file, err)
		}
		return roots, nil
	})
}

// needsFencing is an error of how settings fit together that is one of the
// configuration even where flags make the cluster.
type needsFencing struct{ error }

// completeFailoverOn checks that a takeover from a primary that is up can be made
// safe: the primary is fenced, and all is asked for afterwards.
func (d *draft) completeFailoverOn() {
	if !d.FailoverOnService || d.bad["failover-on"] {
		return
	}
	missing := func(name string) bool { return len(d.given[name]) == 0 && !d.bad[name] }
	switch {
	case missing("service") || missing("vip"):
		d.FailoverOnService = false
		d.unfit("failover-on", "needs a service and a vip")
	case missing("pre-takeover"):
		d.refuse("failover-on", 0, needsFencing{errors.New("needs pre-takeover, a command that cuts the primary off (fencing): without it both machines would have the vip")})
	case !d.DuplicateCheck && !d.bad["duplicate-check"]:
		d.wrong("failover-on", 0, "needs duplicate-check, to verify that the primary is isolated")
	}
}

// services is the longest that one check of the services takes, which are asked
// side by side, with the guards that are asked before one is a reason to fence.
func (c Cluster) services() (longest time.Duration) {
	for _, s := range c.Services {
		if s.Argv != nil {
			longest = max(longest, c.Hooks.Timeout+killPatience)
		} else {
			longest = max(longest, check.Attempt{Timeout: c.Timeout}.Patience())
		}
	}
	if c.FailoverOnService {
		longest += c.Round()
	}
	return longest
}
