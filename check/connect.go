package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// leastTimeout is enough to send the first packet of a connection twice, as
	// Linux does after 1 s (RFC 6298), and for an answer that takes a while.
	leastTimeout = 3 * time.Second

	// maxReply is how much of a reply is read: its body is not.
	maxReply = 256 << 10

	// maxInterim is how many interim replies (1xx, RFC 9110 15.2) may come before
	// the final one.
	maxInterim = 10
)

// connect opens one connection, gets the URL on it, and judges how that ended.
func (s Service) connect(ctx context.Context, a Attempt) ServiceResult {
	timeout := a.Patience()
	deadline := time.Now().Add(timeout)
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := s.converse(limited, a)
	switch {
	case err == nil:
		return ServiceResult{Health: Good}
	case ctx.Err() != nil:
		return ServiceResult{Reason: context.Cause(ctx).Error()}
	case time.Since(deadline) > timeout/2:
		return ServiceResult{Reason: ErrStalled.Error()}
	}
	return a.judge(err, timeout)
}

// converse returns nil when the service works. An HTTP server is not followed to
// where it redirects: that it does is an answer.
func (s Service) converse(ctx context.Context, a Attempt) error {
	dialer := net.Dialer{KeepAlive: -1}
	if a.Source.IsValid() && a.Source.Is4() == a.Address.Is4() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Source, 0))
	}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a.Address, s.port()).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if s.URL == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if s.URL.Scheme == "https" {
		config := tls.Config{ServerName: s.URL.Hostname()}
		if a.Roots != nil {
			if config.RootCAs, err = a.Roots(); err != nil {
				return err
			}
		}
		secure := tls.Client(conn, &config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return handshakeError{err}
		}
		conn = secure
	}
	status, err := get(conn, s.URL)
	if err != nil {
		return replyError{err}
	}
	if status < 200 || status > 399 {
		return statusError(status)
	}
	return nil
}

// port is where the service listens.
func (s Service) port() uint16 {
	switch {
	case s.URL == nil:
		return s.Port
	case s.URL.Port() != "":
		port, _ := strconv.ParseUint(s.URL.Port(), 10, 16) // its range is the parser's
		return uint16(port)
	case s.URL.Scheme == "https":
		return 443
	}
	return 80
}

// get asks for the URL on a connection, and reads the status of the reply. The body
// is left: closing it would read it, for as long as the server sends it.
func get(conn net.Conn, u *url.URL) (status int, err error) {
	request := &http.Request{
		Method: http.MethodGet, URL: u, Host: u.Host,
		Header: http.Header{"User-Agent": {"pingover"}}, Close: true,
	}
	if u.User != nil {
		password, _ := u.User.Password()
		request.SetBasicAuth(u.User.Username(), password)
	}
	if err := request.Write(conn); err != nil {
		return 0, err
	}
	reply := bufio.NewReader(io.LimitReader(conn, maxReply))
	for range maxInterim {
		response, err := http.ReadResponse(reply, request)
		if err != nil {
			return 0, err
		}
		if response.StatusCode >= 200 {
			return response.StatusCode, nil
		}
	}
	return 0, errors.New("only interim replies")
}

// How a conversation failed, besides the errors of the kernel.
type (
	statusError    int             // of HTTP
	replyError     struct{ error } // no reply of HTTP
	handshakeError struct{ error } // of TLS
)

func (e statusError) Error() string {
	return fmt.Sprintf("answers %d %s", int(e), http.StatusText(int(e)))
}
func (e replyError) Unwrap() error     { return e.error }
func (e handshakeError) Unwrap() error { return e.error }

// judge tells a fault of the service from one of this machine, or of the
// certificate. What it does not know is Unknown.
func (a Attempt) judge(err error, timeout time.Duration) ServiceResult {
	bad := func(format string, args ...any) ServiceResult {
		return ServiceResult{Health: Bad, Reason: fmt.Sprintf(format, args...)}
	}
	is := func(any ...error) bool {
		for _, one := range any {
			if errors.Is(err, one) {
				return true
			}
		}
		return false
	}
	status, answered := errors.AsType[statusError](err)
	certificate, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	handshake, inHandshake := errors.AsType[handshakeError](err)
	reply, inReply := errors.AsType[replyError](err)
	failure, ofNetwork := errors.AsType[*net.OpError](err)
	errno, ofKernel := errors.AsType[syscall.Errno](err)
	switch {
	case answered:
		return bad("%v", status)
	case unverified:
		return ServiceResult{Certificate: true, Reason: fmt.Sprintf("its certificate does not verify: %v", certificate.Err)}
	case plain:
		return bad("does not speak TLS")
	case is(syscall.ECONNREFUSED):
		return bad("connection refused")
	case is(syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF):
		return bad("ends the connection without a reply")
	case is(syscall.EHOSTUNREACH, syscall.ETIMEDOUT, os.ErrDeadlineExceeded, context.DeadlineExceeded):
		if own := a.ownFault(); own != nil {
			return ServiceResult{Reason: own.Error()}
		}
		if is(syscall.EHOSTUNREACH) {
			return bad("host unreachable")
		}
		return bad("no reply within %s", timeout)
	case inHandshake:
		return ServiceResult{Certificate: true, Reason: fmt.Sprintf("the TLS handshake failed: %v", handshake.error)}
	case ofNetwork && failure.Op == "remote error": // the server's alert, with TLS 1.3 after our part of the handshake
		return ServiceResult{Certificate: true, Reason: fmt.Sprintf("the TLS handshake failed: %v", failure)}
	case ofKernel:
		return ServiceResult{Reason: fmt.Sprintf("cannot connect: %v", errno)}
	case inReply:
		return bad("does not speak HTTP: %v", reply.error)
	}
	return ServiceResult{Reason: err.Error()}
}

// ownFault is what keeps this machine from reaching the address at all. The
// kernel reports none of it as such to a connection: it waits, or calls the host
// unreachable.
func (a Attempt) ownFault() error {
	var options netlink.RouteGetOptions
	if a.Source.IsValid() && a.Source.Is4() == a.Address.Is4() {
		options.SrcAddr = a.Source.AsSlice()
	}
	if ifi, err := scope(a.Address); err != nil {
		return err
	} else if ifi != nil {
		options.OifIndex = ifi.Index
	}
	routes, err := netlink.RouteGetWithOptions(a.Address.AsSlice(), &options)
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("this machine has no route to %s: %v", a.Address, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return fmt.Errorf("the interface of the route to %s: %w", a.Address, err)
	}
	if attrs := link.Attrs(); attrs.RawFlags&unix.IFF_LOWER_UP == 0 {
		return fmt.Errorf("%s of this machine has no carrier", attrs.Name)
	}
	return nil
}
