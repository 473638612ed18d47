// Package config is the one table of settings. It turns flags and the
// configuration file into validated types, and reports all errors together.
package config

import (
	"net/netip"
	"time"
)

// Cluster is one cluster's settings, parsed and within their ranges.
type Cluster struct {
	Name           string
	Host           string // the primary: an address or a name
	VIPs           []VIP
	Interface      string // "": found out per virtual IP
	Label          string // "": INTERFACE:N, the first free
	Count          int
	Interval       time.Duration
	Timeout        time.Duration
	RetryWait      time.Duration
	Source         netip.Addr // zero: an address of the interface that is no virtual IP
	Witness        Witness
	DuplicateCheck bool
	Tool           string // auto, ip, ifconfig
	Announce       int
	Rise           int
	BootWait       time.Duration
	Lease          time.Duration // 0: the alias has none
	Failback       bool          // auto: handed over when the primary is back
	Isolated       bool          // release: given up when no witness replies any more
	Hooks          Hooks
	Mail           Mail
	StateDir       string
	MetricsFile    string // "": none
	VIPName        string // DNS name of the virtual IPs; "": none
	// Reserved are the labels that other clusters of the file are to have, all
	// of which share this list. It is empty where this one has a Label.
	Reserved []string
	// Given are the values as they were given, by setting: what the cluster
	// is made of again where only its name is known. Defaults of a file that
	// do not apply to it are not among them.
	Given map[string][]string
	// From says where each of Given stands: --interval, or FILE:LINE.
	From map[string]string
}

// Hooks are the operator's own commands, as argv; nil where there is none.
type Hooks struct {
	PreTakeover, PostTakeover, PreRelease, PostRelease []string
	Timeout                                            time.Duration // of each
}

// VIP is one virtual IP as configured.
type VIP struct {
	Prefix    netip.Prefix // not masked: Addr is the virtual IP
	Interface string       // "" unless named as ADDR@IFACE
}

// Witness says who must answer before a takeover. Neither Auto nor an
// address: nobody.
type Witness struct {
	Auto      bool
	Addresses []netip.Addr
}

// Mail is the recipients and the way to them.
type Mail struct {
	To           []string // none: no mail; a bare local name is left to the MTA, or gets @FQDN for SMTP
	From         string   // "": the MTA's default; for SMTP User where it is an address, else pingover@FQDN
	Via          Via
	HELO         string // "": the FQDN, else the address literal of the socket
	User         string
	PasswordFile string
	Password     string // from the variable PINGOVER_MAIL_PASSWORD or the file
	CAFile       string
	Timeout      time.Duration // for all mail of one run
	Remind       time.Duration // 0: never
}

// Via is the way mail leaves this machine.
type Via struct {
	Scheme string // sendmail, smtp, smtp+starttls, smtps
	Path   string // of sendmail; "": found
	Host   string
	Port   int
}
