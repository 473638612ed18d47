// Package config is the one table of settings: their names and ranges, and the
// validated types that flags and the file are parsed into.
package config

import (
	"cmp"
	"net/netip"
	"time"

	"pingover/internal/arbiter"
	"pingover/internal/proc"

	"pingover/check"
)

// Cluster is one cluster's settings, parsed and within their ranges.
type Cluster struct {
	Name       string
	Host       string   // the primary: an address or a name
	OtherHosts []string // further paths to the same machine
	VIPs       []VIP
	Interface  string // "": chosen for each virtual IP
	Label      string // "": INTERFACE:N, the first free
	Count      int
	Interval   time.Duration
	Timeout    time.Duration
	RetryWait  time.Duration
	Source     netip.Addr // zero: what the kernel chooses, unless that is a virtual IP
	// Services are what must work at the primary besides ping, and Fall is how many
	// bad checks of them in a row count.
	Services          []check.Service
	ServiceCA         string // file of the roots for https; "": this machine's
	Fall              int
	FailoverOnService bool // a service that is down is a reason to fail over
	Witness           Witness
	DuplicateCheck    bool
	Tool              string // auto, ip, ifconfig
	Announce          int
	ARPRate           int // frames per second and interface, of all clusters; 0: no limit
	Rise              int
	BootWait          time.Duration
	Lease             time.Duration // 0: the alias has none
	Arbiter           arbiter.Settings
	Failback          bool // auto: handed over when the primary is back
	Isolated          bool // release: released when no witness replies any more
	Hooks             Hooks
	Mail              Mail
	StateDir          string
	MetricsFile       string // "": none
	Syslog            bool   // changes and alerts go there, where nobody else reads stderr
	VIPName           string // DNS name of the virtual IPs; "": none
	// Reserved are the labels that other clusters of the file have; all share this
	// list. Empty if this one has a Label.
	Reserved []string
	// Given are the values as they were given, by setting: the cluster is made
	// from them again where only its name is known. Defaults of a file that do not
	// apply to it are not among them.
	Given map[string][]string
	// From is the origin of each of Given: --interval, or FILE:LINE.
	From map[string]string
}

// Hosts are all paths to the primary, Host first.
func (c Cluster) Hosts() []string { return append([]string{c.Host}, c.OtherHosts...) }

// Hooks are the operator's own commands, as argv; nil for none.
type Hooks struct {
	PreTakeover, PostTakeover, PreRelease, PostRelease []string
	Timeout                                            time.Duration // of each
}

// VIP is one virtual IP as configured.
type VIP struct {
	Prefix    netip.Prefix // not masked: Addr is the virtual IP
	Interface string       // "" unless named as ADDR@IFACE; of a link-local one also by the setting interface
}

// Address is the virtual IP. A link-local one is told apart by its interface,
// which is its zone where it is named.
func (v VIP) Address() netip.Addr {
	if a := v.Prefix.Addr(); a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(v.Interface)
	}
	return v.Prefix.Addr()
}

// Witness is the third machine that must reply before a takeover. Neither Auto
// nor an address: none.
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
	Notify       []string      // command that gets each notification, as argv; nil: none
	// Unusable is what is wrong with the credentials of a cluster that was checked
	// before: its mail waits. Of any other it is an error of the settings.
	Unusable Problems
}

// Programs are those that deliver notifications.
func (m Mail) Programs() (all []proc.Program) {
	if m.Notify != nil {
		all = append(all, proc.Program{Setting: "notify", Argv: m.Notify})
	}
	if len(m.To) > 0 && m.Via.Scheme == "sendmail" {
		all = append(all, proc.Program{Setting: "mail-via", Argv: []string{cmp.Or(m.Via.Path, "sendmail")}})
	}
	return all
}

// Silent tells that there is no recipient.
func (m Mail) Silent() bool { return len(m.To) == 0 && m.Notify == nil }

// Via is the way mail is sent.
type Via struct {
	Scheme string // sendmail, smtp, smtp+starttls, smtps
	Path   string // of sendmail; "": searched for
	Host   string
	Port   int
}
