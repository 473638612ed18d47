package arbiter

import (
	"fmt"
)

// Kind is why the arbiter could not be asked, or refuses.
type Kind uint8

// The kinds, by what has to be done about them.
const (
	Unreachable   Kind = iota // no connection
	Silent                    // connected, and no answer in time: frozen, or no quorum
	NoQuorum                  // it says that it has no leader or no quorum
	Refused                   // the user has no right to the key
	WrongUser                 // unknown user, or wrong password
	NeedsUser                 // RBAC is on, and arbiter-user is not set
	NoGateway                 // 404: the JSON gateway is off
	CertificateCN             // RBAC is on, and the certificate has a common name: the gateway refuses it
	BadTLS                    // its certificate does not verify, or it refuses ours
	NotEtcd                   // an answer, but not etcd's
	Different                 // members belong to different clusters of etcd
	BadFile                   // a file of the settings cannot be read or used
)

// Error is why a request failed. With several members it is that of the first one
// that answered anything, else that of the first.
type Error struct {
	Kind   Kind
	Member string // URL; "" where none was asked
	Text   string
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
		return "start etcd there, and let port 2379 through the firewall; test it: etcdctl endpoint health"
	case Silent, NoQuorum:
		return "more than half of the members must run and reach each other: etcdctl endpoint status --cluster"
	case Refused:
		return "grant the role of arbiter-user the right: etcdctl role grant-permission ROLE readwrite --prefix=true " + keyPrefix
	case WrongUser:
		return "set arbiter-user and arbiter-password-file to a user of etcd: etcdctl user list"
	case NeedsUser:
		return "etcd asks for a user: set arbiter-user and arbiter-password-file"
	case NoGateway:
		return "set enable-grpc-gateway: true in etcd's configuration file"
	case CertificateCN:
		return "etcd's JSON gateway refuses certificates with a common name when users are on: issue arbiter-cert without a CN"
	case BadTLS:
		return "set arbiter-ca to the CA of etcd's certificates, and arbiter-cert where etcd asks for one (client-cert-auth)"
	case NotEtcd:
		return "set arbiter to the client URLs of etcd (port 2379), version 3.4 or later"
	case Different:
		return "set arbiter to the members of one cluster: etcdctl member list"
	case BadFile:
		return "make the file readable for pingover, and for nobody else"
	}
	return ""
}
