package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
)

// Kind is why the arbiter could not be asked, or refuses.
type Kind uint8

// The kinds, by what has to be done about them. Of several members' errors the one
// that comes last here is reported.
const (
	Unreachable   Kind = iota // no connection
	Silent                    // connected, and no answer in time: frozen, or no quorum
	NoQuorum                  // it says that it has no leader or no quorum
	NotEtcd                   // an answer, but not etcd's
	BadTLS                    // its certificate does not verify, or it refuses ours
	NoGateway                 // 404: the JSON gateway is off
	NeedsUser                 // RBAC is on, and arbiter-user is not set
	CertificateCN             // RBAC is on, and the certificate has a common name: the gateway refuses it
	WrongUser                 // unknown user, or wrong password
	Refused                   // the user has no right to the key
	TooFew                    // half of the members or fewer answer, and they may belong to different clusters of etcd
	Different                 // members belong to different clusters of etcd
	BadFile                   // a file of the settings cannot be read or used
)

// Error is why a request failed.
type Error struct {
	Kind   Kind
	Member string // URL; "" where none was asked
	Text   string

	code int // of gRPC, in the reply; 0 where there was none
}

func (e *Error) Error() string {
	if e.Member == "" {
		return e.Text
	}
	return fmt.Sprintf("%s: %s", e.Member, e.Text)
}

// Hint is what to do about it, as an instruction.
func (e *Error) Hint() string {
	switch e.Kind {
	case Unreachable:
		return "start etcd there, and let its client port through the firewall: etcdctl endpoint health"
	case Silent, NoQuorum:
		return "more than half of etcd's members must run and reach each other: etcdctl endpoint status --cluster"
	case NotEtcd:
		return "set arbiter to the client URLs of etcd 3.4 or later: https://HOST:2379, or http:// where it has no TLS"
	case BadTLS:
		return "set arbiter-ca to the CA of etcd's certificates, and arbiter-cert where etcd asks for one (client-cert-auth)"
	case NoGateway:
		return "set enable-grpc-gateway: true in etcd's configuration file"
	case CertificateCN:
		return "set arbiter-user and arbiter-password-file, and arbiter-cert to a certificate without a common name (CN): etcd's JSON gateway takes none as a user"
	case WrongUser, NeedsUser:
		return "set arbiter-user and arbiter-password-file to a user of etcd: etcdctl user list"
	case Refused:
		return "grant the role of arbiter-user the right: etcdctl role grant-permission ROLE readwrite --prefix=true " + keyPrefix
	case TooFew:
		return "let this machine reach more than half of the members once"
	case Different:
		return "set arbiter to the members of one cluster: etcdctl member list"
	case BadFile:
		return "make the file readable for pingover, and writable for nobody else"
	}
	return ""
}

func notEtcd(member string) error {
	return &Error{Kind: NotEtcd, Member: member, Text: "does not answer like etcd"}
}

// worst is the error that says most of several members', with how many failed.
func worst(all []*Error) error {
	e := *all[0]
	for _, other := range all {
		if other.Kind > e.Kind {
			e = *other
		}
	}
	if n := len(all); n > 1 {
		switch e.Kind {
		case Unreachable:
			e.Text += fmt.Sprintf("; none of %d members can be reached", n)
		case Silent, NoQuorum:
			e.Text += fmt.Sprintf("; none of %d members answers", n)
		}
	}
	return &e
}

// Codes of gRPC that the gateway puts into the body of an error.
const (
	codeInvalidArgument    = 3
	codePermissionDenied   = 7
	codeFailedPrecondition = 9
	codeUnauthenticated    = 16
)

// statusError is what an HTTP status and the gRPC code with it say. The words of a
// reply are shown to nobody and decide nothing.
func (c *Client) statusError(member string, status int, body []byte) *Error {
	var reply struct {
		Code int `json:"code"`
	}
	isJSON := json.Unmarshal(body, &reply) == nil
	e := &Error{Kind: NotEtcd, Member: member, code: reply.Code, Text: fmt.Sprintf("answers %d %s", status, http.StatusText(status))}
	switch {
	case status == http.StatusNotFound:
		e.Kind, e.Text = NoGateway, "etcd's JSON gateway is off (404)"
	case status >= 500:
		e.Kind, e.Text = NoQuorum, fmt.Sprintf("etcd has no quorum (%d)", status)
	case status == http.StatusBadRequest && !isJSON && c.Cert != "":
		e.Kind, e.Text = CertificateCN, "etcd's JSON gateway refuses a certificate with a common name where there are users (400)"
	case !isJSON || reply.Code == 0:
	case reply.Code == codePermissionDenied:
		e.Kind, e.Text = Refused, "etcd refuses the right to the key"
	case reply.Code == codeUnauthenticated:
		e.Kind, e.Text = WrongUser, "etcd does not accept the user"
	case reply.Code == codeInvalidArgument && c.User == "" && c.Cert != "":
		e.Kind, e.Text = CertificateCN, "etcd asks for a user, and does not take the certificate as one (400)"
	case reply.Code == codeInvalidArgument && c.User == "":
		e.Kind, e.Text = NeedsUser, "etcd asks for a user (400)"
	case reply.Code == codeInvalidArgument:
		e.Kind, e.Text = WrongUser, "etcd does not accept the user (400)"
	}
	return e
}

// plainHTTP is the error of net/http for a server without TLS; it has no type.
const plainHTTP = "http: server gave HTTP response to HTTPS client"

// connectionError tells why there was no reply.
func connectionError(member string, err error, connected bool) *Error {
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		err = wrong.Err
	}
	e := &Error{Kind: Unreachable, Member: member, Text: err.Error()}
	certificate, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	operation, ofNetwork := errors.AsType[*net.OpError](err)
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case unverified:
		e.Kind, e.Text = BadTLS, fmt.Sprintf("its certificate does not verify: %v", certificate.Err)
	case plain, err.Error() == plainHTTP:
		e.Kind, e.Text = NotEtcd, "does not speak TLS"
	case ofNetwork && operation.Op == "remote error": // an alert of TLS
		e.Kind, e.Text = BadTLS, fmt.Sprintf("it refuses the TLS connection: %v", operation.Err)
	case late && connected:
		e.Kind, e.Text = Silent, fmt.Sprintf("no answer within %s", RequestTimeout)
	case late:
		e.Text = fmt.Sprintf("no connection within %s", RequestTimeout)
	case ofNetwork:
		e.Text = operation.Err.Error()
	case connected:
		e.Kind, e.Text = Silent, "ends the connection without an answer"
	}
	return e
}
