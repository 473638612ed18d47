package check

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"pingover/internal/proc"
)

// Health is what one attempt says about a service.
type Health uint8

const (
	// HealthUnknown means that the service could not be asked, or that its answer
	// says nothing: see ServiceResult.Reason. It is the zero value.
	HealthUnknown Health = iota
	// Bad means that it does not work for clients either.
	Bad
	// Good means that it works.
	Good
)

// String returns "unknown", "bad" or "good".
func (h Health) String() string {
	switch h {
	case Bad:
		return "bad"
	case Good:
		return "good"
	default:
		return "unknown"
	}
}

// Service is what must work at a host besides ping: one of Port, URL and Argv.
type Service struct {
	Port uint16   // of tcp:PORT: whether it accepts a connection
	URL  *url.URL // http or https, with a host
	Argv []string // a command by the convention of monitoring-plugins; {} stands for the address
}

// Name is the service without what may be secret: the path and the query of a
// URL, and the arguments of a command. It is what other users may read.
func (s Service) Name() string {
	switch {
	case s.URL != nil:
		return s.URL.Scheme + "://" + s.URL.Host
	case s.Argv != nil:
		return filepath.Base(s.Argv[0])
	}
	return fmt.Sprintf("tcp:%d", s.Port)
}

// String is the service as it is configured, which may have a password in it.
func (s Service) String() string {
	switch {
	case s.URL != nil:
		return s.URL.String()
	case s.Argv != nil:
		return proc.Line(s.Argv)
	}
	return s.Name()
}

// Attempt is how services are asked.
type Attempt struct {
	Address        netip.Addr    // the host; a link-local address needs its zone
	Source         netip.Addr    // source address of connections to its family; zero: the kernel chooses
	Timeout        time.Duration // of a connection: at least 3s
	CommandTimeout time.Duration // of a command, above 0
	// Roots verify the certificate of https; nil: those of this machine.
	Roots func() (*x509.CertPool, error)
}

// Patience is how long one connection may take, with the answer.
func (a Attempt) Patience() time.Duration { return max(a.Timeout, leastTimeout) }

// ServiceResult is the result of one attempt.
type ServiceResult struct {
	Health Health
	Reason string // why it is not good, in words
	// Certificate says that the TLS handshake failed, mostly for a certificate that
	// does not verify: Unknown, and a fault that somebody has to fix.
	Certificate bool
}

// Check makes one attempt. It never resolves a name, and returns at once when ctx
// ends. A host that does not answer is Bad, and so is one whose server answers
// with an error; what this machine's own network, rights or certificates keep
// from being asked is Unknown. What this machine's own firewall drops looks like
// silence.
func (s Service) Check(ctx context.Context, a Attempt) ServiceResult {
	if s.Argv != nil {
		return s.run(ctx, a)
	}
	return s.connect(ctx, a)
}

// run runs the command. Its exit code is 0 for OK, 1 for a warning, 2 for
// critical; 3, and all others, are for "could not tell" (Monitoring Plugins
// Development Guidelines, "Plugin Return Codes").
func (s Service) run(ctx context.Context, a Attempt) ServiceResult {
	argv := make([]string, len(s.Argv))
	for i, word := range s.Argv {
		argv[i] = strings.ReplaceAll(word, "{}", a.Address.String())
	}
	r := proc.Run(ctx, proc.Command{Argv: argv, Timeout: a.CommandTimeout})
	switch r.Code {
	case 0, 1:
		return ServiceResult{Health: Good}
	}
	result := ServiceResult{Reason: strings.TrimPrefix(r.Err.Error(), proc.Line(argv)+": ")}
	if r.Code == 2 {
		result.Health = Bad
	}
	return result
}
