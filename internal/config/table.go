package config

import (
	"slices"
	"sync"
	"time"

	"pingover/internal/arbiter"
)

// Kind is how often and in which form a setting is given.
type Kind uint8

// The kinds of settings.
const (
	Single  Kind = iota // one value
	List                // any number of values
	Bool                // true or false; the bare flag means true
	Command             // a command line, or in the file its words as a list
)

// Scope is where a setting applies.
type Scope uint8

// The scopes. A default that does not apply to a cluster or a pool is ignored for
// it; a key in one that does not apply is an error.
const (
	Everywhere Scope = iota
	Clusters
	Pools // in the file only: pools are not defined by flags
)

// String is the word for one of them.
func (s Scope) String() string {
	if s == Pools {
		return "pool"
	}
	return "cluster"
}

// appliesTo tells whether the setting applies to clusters, or to pools.
func (s Setting) appliesTo(scope Scope) bool { return s.Only == Everywhere || s.Only == scope }

// Setting is one row of the table that flags, help and documentation are made
// from.
type Setting struct {
	Name     string // as flag (--retry-wait) and as key (retry-wait)
	Short    string // short flag, "" for none
	Only     Scope  // where it applies
	Group    string // heading
	Required bool
	Shared   bool   // of all clusters and pools at once: in the file only in defaults
	Default  string // the value if none is given; "" for none
	Derived  string // the default in words, if it is not a fixed value
	Help     string // one line
	form
}

// form is the syntax of a setting's values and how they are stored.
type form struct {
	Kind     Kind
	Argument string   // placeholder for a value in help
	Range    string   // allowed values, in words
	Values   []string // the words that are allowed

	set  func(d *draft, text string) error
	hide func(text string) string // what errors show instead of the text; nil: the text
}

// list is f for a setting that may be repeated.
func list(f form) form {
	f.Kind = List
	return f
}

// The headings of the table.
const (
	groupCluster  = "Cluster"
	groupPool     = "Pool"
	groupPing     = "Ping"
	groupServices = "Services"
	groupGuards   = "Safety checks"
	groupTakeover = "Takeover"
	groupArbiter  = "Arbiter"
	groupBack     = "Failback"
	groupHooks    = "Hooks"
	groupMail     = "Mail"
	groupFiles    = "Files"
)

// Settings are those of the table that are flags, too, in the order of help. Nobody
// changes them.
var Settings = sync.OnceValue(func() []Setting { return of(Clusters) })

// of are the settings that apply to clusters, or to pools.
func of(scope Scope) []Setting {
	return slices.DeleteFunc(AllSettings(), func(s Setting) bool { return !s.appliesTo(scope) })
}

// AllSettings is the table of all settings, in the order of help.
func AllSettings() []Setting {
	return []Setting{
		{
			Name: "name", Group: groupCluster, Derived: `the host, other characters as "-"`,
			Help: "name of the cluster",
			form: form{Argument: "NAME", Range: nameRange, set: setName},
		},
		{
			Name: "host", Only: Clusters, Group: groupCluster, Required: true,
			Help: "the primary that is pinged; may be repeated for several paths to it; an address is better than a name",
			form: list(form{Argument: "HOST", Range: "an IPv4 or IPv6 address, or a name", set: addHost}),
		},
		{
			Name: "vip", Only: Clusters, Group: groupCluster, Derived: "none, so that checks only report",
			Help: "virtual IP that follows the primary; may be repeated",
			form: list(form{Argument: "VIP", Range: "ADDRESS or ADDRESS/BITS, and @INTERFACE after it to name the interface", set: addVIP}),
		},
		{
			Name: "netmask", Only: Clusters, Group: groupCluster, Derived: "255.255.255.255",
			Help: "netmask of the IPv4 virtual IPs that are given without /BITS",
			form: form{Argument: "MASK", Range: "dotted, such as 255.255.0.0", set: setNetmask},
		},
		{
			Name: "interface", Short: "I", Only: Clusters, Group: groupCluster,
			Derived: "for each virtual IP the one where it was last, else the one whose network contains it, else the one of the route to the host",
			Help:    "interface to which the virtual IPs are added",
			form:    form{Argument: "INTERFACE", Range: "1 to 15 characters", set: setInterface},
		},
		{
			Name: "label", Only: Clusters, Group: groupCluster, Derived: "INTERFACE:N, the first free",
			Help: "label of the alias, for one IPv4 virtual IP only",
			form: form{Argument: "LABEL", Range: "INTERFACE:TEXT, 15 characters at most", set: setLabel},
		},
		{
			Name: "vip-name", Only: Clusters, Group: groupCluster, Derived: "none",
			Help: "DNS name of the virtual IPs; doctor checks that it resolves to them",
			form: form{Argument: "NAME", Range: "a DNS name", set: setVIPName},
		},
		{
			Name: "record", Only: Pools, Group: groupPool, Required: true,
			Help: "the name that clients use; its A and AAAA records are kept",
			form: form{Argument: "NAME", Range: "a DNS name", set: setRecord},
		},
		{
			Name: "server", Only: Pools, Group: groupPool, Required: true,
			Help: "the zone's primary name server, asked by TCP: it takes the updates and answers what is published",
			form: form{Argument: "SERVER", Range: "HOST or HOST:PORT", set: setServer},
		},
		{
			Name: "zone", Only: Pools, Group: groupPool, Derived: "found by asking the server",
			Help: "the zone that the record is in",
			form: form{Argument: "ZONE", Range: "a DNS name", set: setZone},
		},
		{
			Name: "members", Only: Pools, Group: groupPool, Required: true,
			Help: "addresses of the hosts that share the name; IPv4 and IPv6 are two record sets of it",
			form: list(form{Argument: "ADDRESS", Range: "1 to 1000 IPv4 or IPv6 addresses", set: addMember}),
		},
		{
			Name: "key-file", Only: Pools, Group: groupPool, Derived: "unsigned",
			Help: "key that signs questions and updates, as tsig-keygen writes it; read at each check",
			form: absolutePath("FILE", func(p *Pool) *string { return &p.KeyFile }),
		},
		{
			Name: "ttl", Only: Pools, Group: groupPool, Default: "60s",
			Help: "time to live of the records, set whenever one is added",
			form: duration(time.Second, day, func(p *Pool) *time.Duration { return &p.TTL }),
		},
		{
			Name: "min-members", Only: Pools, Group: groupPool, Default: "1",
			Help: "never fewer members in DNS, of IPv4 and of IPv6 each",
			form: number(1, maxMembers, func(p *Pool) *int { return &p.MinMembers }),
		},
		{
			Name: "count", Short: "c", Group: groupPing, Default: "5",
			Help: "pings in a round",
			form: number(1, 100, func(c *Cluster) *int { return &c.Count }),
		},
		{
			Name: "interval", Short: "i", Group: groupPing, Default: "3s",
			Help: "time between two pings",
			form: duration(10*time.Millisecond, time.Minute, func(c *Cluster) *time.Duration { return &c.Interval }),
		},
		{
			Name: "timeout", Short: "W", Group: groupPing, Default: "1s",
			Help: "wait for a reply after the last ping",
			form: duration(10*time.Millisecond, time.Minute, func(c *Cluster) *time.Duration { return &c.Timeout }),
		},
		{
			Name: "retry-wait", Group: groupPing, Default: "20s",
			Help: "time between the first and the second round",
			form: duration(0, 10*time.Minute, func(c *Cluster) *time.Duration { return &c.RetryWait }),
		},
		{
			Name: "source", Group: groupPing, Derived: "what the kernel chooses, unless that is a virtual IP",
			Help: "source address of the pings",
			form: form{Argument: "ADDRESS", Range: "an address of this machine that is no virtual IP", set: setSource},
		},
		{
			Name: "service", Group: groupServices, Derived: "none: ping is enough",
			Help: "what must work at the primary besides ping; may be repeated; exit codes of a command as those of monitoring-plugins, and {} in it stands for the address",
			form: list(form{Argument: "SERVICE", Range: serviceForms, set: addService, hide: hideService}),
		},
		{
			Name: "service-ca", Group: groupServices, Derived: "the certificates of this machine",
			Help: "CA certificates that https services are verified with",
			form: form{Argument: "FILE", Range: "PEM, 1 MiB at most", set: setServiceCA},
		},
		{
			Name: "fall", Only: Clusters, Group: groupServices, Default: "3",
			Help: "checks in a row with a bad service until it counts",
			form: number(1, 1000, func(c *Cluster) *int { return &c.Fall }),
		},
		{
			Name: "failover-on", Only: Clusters, Group: groupServices, Default: "host",
			Help: "service takes over from a primary that replies, too, when a service is bad; needs pre-takeover, which must cut the primary off (fencing)",
			form: choice("WHAT", []string{"host", "service"}, func(c *Cluster, text string) { c.FailoverOnService = text == "service" }),
		},
		{
			Name: "witness", Group: groupGuards, Default: "auto",
			Help: "address that must reply before a takeover; may be repeated, one reply is enough; auto is the default gateway",
			form: list(form{Argument: "WITNESS", Range: "auto, none or an address", Values: []string{"auto", "none"}, set: addWitness}),
		},
		{
			Name: "duplicate-check", Only: Clusters, Group: groupGuards, Default: "true",
			Help: "ask by ARP and ND whether the addresses are still in use",
			form: yesNo(func(c *Cluster) *bool { return &c.DuplicateCheck }),
		},
		{
			Name: "rise", Group: groupGuards, Default: "3",
			Help: "good checks in a row until an alert is resolved, and until failback auto hands over",
			form: number(1, 1000, func(c *Cluster) *int { return &c.Rise }),
		},
		{
			Name: "boot-wait", Only: Clusters, Group: groupGuards, Default: "3m",
			Help: "no takeover before this machine has been up this long",
			form: duration(0, day, func(c *Cluster) *time.Duration { return &c.BootWait }),
		},
		{
			Name: "tool", Only: Clusters, Group: groupTakeover, Default: "auto",
			Help: "program that adds and removes addresses; auto is ip if installed",
			form: choice("TOOL", []string{"auto", "ip", "ifconfig"}, func(c *Cluster, text string) { c.Tool = text }),
		},
		{
			Name: "announce", Only: Clusters, Group: groupTakeover, Default: "3",
			Help: "announcements to the clients at a takeover, 1.1s apart",
			form: number(0, 20, func(c *Cluster) *int { return &c.Announce }),
		},
		{
			Name: "arp-rate", Only: Clusters, Shared: true, Group: groupTakeover, Default: "0",
			Help: "most ARP and ND frames per second and interface, for switches that shut a port down above a rate; 0 is no limit",
			form: orZero(number(5, 1000, func(c *Cluster) *int { return &c.ARPRate })),
		},
		{
			Name: "lease", Only: Clusters, Group: groupTakeover, Default: "0",
			Help: "lifetime of an alias that no run renews, iproute2 only; 0 is unlimited",
			form: durationOrZero(time.Second, day, func(c *Cluster) *time.Duration { return &c.Lease }),
		},
		{
			Name: "arbiter", Only: Clusters, Group: groupArbiter, Derived: "none",
			Help: "URL of a member of etcd, which decides which machine may hold the virtual IPs; may be repeated for all members",
			form: list(form{Argument: "URL", Range: arbiterForms, set: addArbiter, hide: hideCredentials}),
		},
		{
			Name: "arbiter-ttl", Only: Clusters, Group: groupArbiter, Default: "3m",
			Help: "how long a dead holder keeps others out, and how long a holder lives while the arbiter does not answer",
			form: duration(arbiter.MinTTL, arbiter.MaxTTL, func(c *Cluster) *time.Duration { return &c.Arbiter.TTL }),
		},
		{
			Name: "arbiter-ca", Only: Clusters, Group: groupArbiter, Derived: "the certificates of this machine",
			Help: "CA certificates that etcd is verified with",
			form: form{Argument: "FILE", Range: "PEM, 1 MiB at most", set: setArbiterCA},
		},
		{
			Name: "arbiter-cert", Only: Clusters, Group: groupArbiter, Derived: "none",
			Help: "certificate that this machine shows to etcd",
			form: absolutePath("FILE", func(c *Cluster) *string { return &c.Arbiter.Cert }),
		},
		{
			Name: "arbiter-cert-key", Only: Clusters, Group: groupArbiter, Derived: "none",
			Help: "private key of arbiter-cert",
			form: absolutePath("FILE", func(c *Cluster) *string { return &c.Arbiter.CertKey }),
		},
		{
			Name: "arbiter-user", Only: Clusters, Group: groupArbiter, Derived: "no login",
			Help: "user of etcd that may read and write the key",
			form: form{Argument: "USER", Range: "needs arbiter-password-file", set: setArbiterUser},
		},
		{
			Name: "arbiter-password-file", Only: Clusters, Group: groupArbiter, Derived: "none",
			Help: "file whose first line is the password of arbiter-user",
			form: form{Argument: "FILE", Range: "4 KiB at most", set: setArbiterPasswordFile},
		},
		{
			Name: "failback", Only: Clusters, Group: groupBack, Default: "manual",
			Help: "auto hands over to a primary that is up again, after rise good checks; manual waits until it assigns the virtual IPs itself",
			form: choice("WAY", []string{"manual", "auto"}, func(c *Cluster, text string) { c.Failback = text == "auto" }),
		},
		{
			Name: "isolated", Only: Clusters, Group: groupBack, Default: "hold",
			Help: "release removes the virtual IPs after two checks in a row without a reply from a witness or the primary; hold keeps them",
			form: choice("WAY", []string{"hold", "release"}, func(c *Cluster, text string) { c.Isolated = text == "release" }),
		},
		{
			Name: "pre-takeover", Only: Clusters, Group: groupHooks, Derived: "none",
			Help: "runs before a takeover, and blocks it by failing: the place for fencing",
			form: command(func(c *Cluster) *[]string { return &c.Hooks.PreTakeover }),
		},
		{
			Name: "post-takeover", Only: Clusters, Group: groupHooks, Derived: "none",
			Help: "runs after a takeover, for example to start services",
			form: command(func(c *Cluster) *[]string { return &c.Hooks.PostTakeover }),
		},
		{
			Name: "pre-release", Only: Clusters, Group: groupHooks, Derived: "none",
			Help: "runs before the virtual IPs are released, for example to stop services",
			form: command(func(c *Cluster) *[]string { return &c.Hooks.PreRelease }),
		},
		{
			Name: "post-release", Only: Clusters, Group: groupHooks, Derived: "none",
			Help: "runs after the virtual IPs were released",
			form: command(func(c *Cluster) *[]string { return &c.Hooks.PostRelease }),
		},
		{
			Name: "hook-timeout", Group: groupHooks, Default: "30s",
			Help: "time after which a hook, the notify command or that of a service is killed",
			form: duration(time.Second, 10*time.Minute, func(c *Cluster) *time.Duration { return &c.Hooks.Timeout }),
		},
		{
			Name: "mail-to", Group: groupMail, Derived: "no recipient",
			Help: "recipient; may be repeated",
			form: list(form{Argument: "ADDRESS", Range: "a mail address, or a local name such as root", set: addMailTo}),
		},
		{
			Name: "mail-from", Group: groupMail, Derived: "the MTA's own sender; by SMTP mail-user where it is an address, else pingover@FQDN",
			Help: "sender of the mail",
			form: form{Argument: "ADDRESS", Range: "a mail address, or a local name", set: setMailFrom},
		},
		{
			Name: "mail-via", Group: groupMail, Default: "sendmail",
			Help: "how mail is sent",
			form: form{Argument: "VIA", Range: viaForms, Values: []string{"sendmail"}, set: setMailVia, hide: hideCredentials},
		},
		{
			Name: "mail-helo", Group: groupMail, Derived: "the full host name, else the address literal",
			Help: "name of this machine in SMTP's HELO",
			form: form{Argument: "NAME", Range: "a full host name, or [ADDRESS]", set: setMailHELO},
		},
		{
			Name: "mail-user", Group: groupMail, Derived: "no login",
			Help: "user name for the mail server",
			form: form{Argument: "USER", Range: "needs a password", set: setMailUser},
		},
		{
			Name: "mail-password-file", Group: groupMail, Derived: "the variable PINGOVER_MAIL_PASSWORD",
			Help: "file whose first line is the password for the mail server",
			form: form{Argument: "FILE", Range: "4 KiB at most", set: setMailPasswordFile},
		},
		{
			Name: "mail-ca", Group: groupMail, Derived: "the certificates of this machine",
			Help: "CA certificates that the mail server is verified with",
			form: form{Argument: "FILE", Range: "PEM, 1 MiB at most", set: setMailCA},
		},
		{
			Name: "mail-timeout", Group: groupMail, Default: "15s",
			Help: "for all mail of one run",
			form: duration(time.Second, 5*time.Minute, func(c *Cluster) *time.Duration { return &c.Mail.Timeout }),
		},
		{
			Name: "remind", Group: groupMail, Default: "24h",
			Help: "mail again after this long while an alert is firing; 0 is never",
			form: durationOrZero(time.Minute, 365*day, func(c *Cluster) *time.Duration { return &c.Mail.Remind }),
		},
		{
			Name: "notify", Group: groupMail, Derived: "none",
			Help: "command that gets each notification as JSON on its standard input, for chat or paging",
			form: command(func(c *Cluster) *[]string { return &c.Mail.Notify }),
		},
		{
			Name: "state-dir", Shared: true, Group: groupFiles, Derived: "/var/lib/pingover; $XDG_STATE_HOME/pingover for others than root",
			Help: "directory of the records and locks",
			form: absolutePath("DIRECTORY", func(c *Cluster) *string { return &c.StateDir }),
		},
		{
			Name: "metrics-file", Shared: true, Group: groupFiles, Derived: "none",
			Help: "Prometheus metrics of all clusters, replaced by each run; node_exporter reads files whose names end in .prom",
			form: absolutePath("FILE", func(c *Cluster) *string { return &c.MetricsFile }),
		},
		{
			Name: "syslog", Shared: true, Group: groupFiles, Default: "auto",
			Help: "auto sends changes and alerts to syslog where stderr is neither a terminal nor the journal",
			form: choice("WAY", []string{"auto", "off"}, func(c *Cluster, text string) { c.Syslog = text == "auto" }),
		},
	}
}
