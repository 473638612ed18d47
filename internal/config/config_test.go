package config

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
	"pingover/internal/arbiter"
)

// addresses compares netip's types, whose fields are not exported.
var addresses = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// rootOn is the environment of root on a machine of that name.
func rootOn(hostname string, variables ...string) Env {
	return Env{Hostname: hostname, Root: true, Getenv: func(name string) string {
		for _, v := range variables {
			if text, ok := strings.CutPrefix(v, name+"="); ok {
				return text
			}
		}
		return ""
	}}
}

// flags is a command line of settings, taken apart at blanks: --name value.
func flags(line string) map[string][]string {
	words := strings.Fields(line)
	values := map[string][]string{}
	for i := 0; i < len(words); i += 2 {
		name := strings.TrimPrefix(words[i], "--")
		values[name] = append(values[name], words[i+1])
	}
	return values
}

func TestDefaultsAreThoseOfTheTable(t *testing.T) {
	got, err := FromFlags(flags("--host 172.16.0.2"), rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	want := Cluster{
		Name:           "172.16.0.2",
		Host:           "172.16.0.2",
		Count:          5,
		Interval:       3 * time.Second,
		Timeout:        time.Second,
		RetryWait:      20 * time.Second,
		Witness:        Witness{Auto: true},
		DuplicateCheck: true,
		Tool:           "auto",
		Announce:       3,
		Fall:           3,
		Rise:           3,
		BootWait:       3 * time.Minute,
		Hooks:          Hooks{Timeout: 30 * time.Second},
		Mail: Mail{
			Via:     Via{Scheme: "sendmail"},
			Timeout: 15 * time.Second,
			Remind:  24 * time.Hour,
		},
		StateDir: "/var/lib/pingover",
		Syslog:   true,
		Given:    map[string][]string{"host": {"172.16.0.2"}},
		From:     map[string]string{"host": "--host"},
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// everySetting is a value for each setting, and the cluster that they make.
func everySetting(t *testing.T) (map[string][]string, Cluster) {
	t.Helper()
	password := file(t, "password", "secret\n")
	ca := file(t, "ca.pem", certificate(t))
	values := flags("--name web --host fe80::2%eth0 --vip 172.16.0.1 --netmask 255.255.0.0 --interface eth1 --label eth1:web" +
		" --count 7 --interval 250ms --timeout 2s --retry-wait 0 --source fe80::3%eth0 --witness 172.16.0.254 --witness 2001:db8::fe" +
		" --service tcp:5432 --service https://www.example.com/health --fall 2 --failover-on host --duplicate-check false --rise 9 --boot-wait 0s --tool ip --announce 0 --arp-rate 15 --lease 0" +
		" --arbiter https://10.0.0.11:2379 --arbiter https://etcd2.example.com --arbiter-ttl 4m --arbiter-user pingover" +
		" --failback manual --isolated release --pre-takeover sh --post-takeover true --pre-release false --hook-timeout 1m --mail-to root --mail-from ops@example.com" +
		" --mail-via smtps://mail.example.com --mail-helo standby.example.com --mail-user joe --mail-timeout 1m --remind 0 --notify cat" +
		" --state-dir /srv/state/ --metrics-file /srv/metrics/pingover.prom --syslog off --vip-name web.example.com")
	values["post-release"] = []string{`sh -c 'echo "$PINGOVER_VIPS"'`}
	values["mail-to"] = append(values["mail-to"], `Ops, Team <ops@example.com>`)
	values["mail-password-file"] = []string{password}
	values["mail-ca"], values["service-ca"], values["arbiter-ca"] = []string{ca}, []string{ca}, []string{ca}
	cert, key := certificateWithKey(t)
	values["arbiter-cert"], values["arbiter-cert-key"] = []string{file(t, "cert.pem", cert)}, []string{file(t, "key.pem", key)}
	values["arbiter-password-file"] = []string{password}
	from := map[string]string{}
	for _, s := range Settings() {
		if len(values[s.Name]) == 0 {
			t.Errorf("no value for %s", s.Name)
		}
		from[s.Name] = "--" + s.Name
	}
	return values, Cluster{
		Name:      "web",
		Host:      "fe80::2%eth0",
		VIPs:      []VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/16")}},
		Interface: "eth1",
		Label:     "eth1:web",
		Count:     7,
		Interval:  250 * time.Millisecond,
		Timeout:   2 * time.Second,
		Source:    netip.MustParseAddr("fe80::3%eth0"),
		Witness:   Witness{Addresses: []netip.Addr{netip.MustParseAddr("172.16.0.254"), netip.MustParseAddr("2001:db8::fe")}},
		Services:  []check.Service{{Port: 5432}, {URL: &url.URL{Scheme: "https", Host: "www.example.com", Path: "/health"}}},
		ServiceCA: ca,
		Fall:      2,
		Tool:      "ip",
		ARPRate:   15,
		Rise:      9,
		Arbiter: arbiter.Settings{
			Members: []string{"https://10.0.0.11:2379", "https://etcd2.example.com:2379"}, TTL: 4 * time.Minute,
			CA: ca, Cert: values["arbiter-cert"][0], CertKey: values["arbiter-cert-key"][0], User: "pingover", PasswordFile: password,
		},
		Isolated: true,
		Hooks: Hooks{
			PreTakeover:  []string{"sh"},
			PostTakeover: []string{"true"},
			PreRelease:   []string{"false"},
			PostRelease:  []string{"sh", "-c", `echo "$PINGOVER_VIPS"`},
			Timeout:      time.Minute,
		},
		Mail: Mail{
			To:           []string{"root", `"Ops, Team" <ops@example.com>`},
			From:         "ops@example.com",
			Via:          Via{Scheme: "smtps", Host: "mail.example.com", Port: 465},
			HELO:         "standby.example.com",
			User:         "joe",
			PasswordFile: password,
			Password:     "secret",
			CAFile:       ca,
			Timeout:      time.Minute,
			Notify:       []string{"cat"},
		},
		StateDir:    "/srv/state",
		MetricsFile: "/srv/metrics/pingover.prom",
		VIPName:     "web.example.com",
		Given:       values,
		From:        from,
	}
}

func TestEverySettingArrives(t *testing.T) {
	values, want := everySetting(t)
	got, err := FromFlags(values, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A cluster is made again of what was given, as it was given, and what becomes
// of the flags afterwards is nothing to it.
func TestAClusterIsMadeAgainOfWhatWasGiven(t *testing.T) {
	values := flags("--host Primary. --vip 172.16.0.1 --vip 2001:DB8:0::1 --netmask 255.255.0.0 --lease 120m --failback auto --mail-to root --unknown x")
	values["post-takeover"] = []string{" sh  -c 'true' "}
	first, err := FromFlags(values, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"host": {"Primary."}, "vip": {"172.16.0.1", "2001:DB8:0::1"}, "netmask": {"255.255.0.0"}, "lease": {"120m"},
		"failback": {"auto"}, "mail-to": {"root"}, "post-takeover": {" sh  -c 'true' "},
	}
	values["vip"][0] = "172.16.0.99"
	if diff := cmp.Diff(want, first.Given); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !first.Failback {
		t.Error("failback auto did not arrive")
	}
	again, err := FromFlags(first.Given, rootOn("standby"))
	if diff := cmp.Diff(first, again, addresses); diff != "" || err != nil {
		t.Errorf("%v, -first +again\n%s", err, diff)
	}
}

// TestValues: what one setting makes of one value, beside a host that is
// right. want is the error, or "" where the value is taken.
func TestValues(t *testing.T) {
	long := strings.Repeat("a", 64)
	const (
		fromTo     = "out of range (10ms to 1m)"
		noForm     = "must be one of sendmail, sendmail:///PATH, smtp://HOST[:25], smtp+starttls://HOST[:587], smtps://HOST[:465]"
		noAddr     = "not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1"
		noName     = "not a valid cluster name ([a-z0-9][a-z0-9._-]{0,63})"
		noHost     = "neither an address nor a host name"
		blank      = noHost + ": it contains a blank"
		noLabel    = "not a label, such as eth0:1"
		noMail     = "not a mail address, such as root or ops@example.com"
		noFullName = "not a full host name, such as standby.example.com; mail servers refuse a short one"
		noLiteral  = "not an address literal, such as [192.0.2.1] or [IPv6:2001:db8::1]"
		one        = "more than one mail address; give each separately"
	)
	tests := []struct{ setting, value, want string }{
		{"name", "a", ""},
		{"name", long, ""},
		{"name", "0.web_-", ""},
		{"name", long + "a", noName},
		{"name", "Web", noName},
		{"name", "-web", noName},
		{"name", "../web", noName},
		{"name", "web\n", noName},
		{"name", "act", "reserved: pingover itself uses act.lock"},

		{"host", "2001:db8::2", ""},
		{"host", "fe80::2%eth0", ""},
		{"host", "127.0.0.1", ""},
		{"host", "Primary.example.com.", ""},
		{"host", "db-1", ""},
		{"host", "2001:db8::2%eth0", "only link-local addresses have a zone; write it as 2001:db8::2"},
		{"host", "::ffff:172.16.0.2", "write it as 172.16.0.2"},
		{"host", "172.16.0.300", noHost},
		{"host", "172.16.0", noHost},
		{"host", "172.16.0.2:22", noHost},
		{"host", "-web", noHost},
		{"host", "web-.example.com", noHost},
		{"host", "web..example.com", noHost},
		{"host", "my_host", noHost + ": it contains an underscore"},
		{"host", " 172.16.0.2", blank},
		{"host", "172.16.0.2 ", blank},
		{"host", "web\t", blank},
		{"host", "172.16.0.2/24", noHost + ": leave /24 out"},
		{"host", "2001:db8::2/64", noHost + ": leave /64 out"},
		{"host", "172.16.0.300/24", noHost},
		{"host", strings.Repeat("a", 63), ""},
		{"host", long, noHost},
		{"host", strings.Repeat("a.", 127) + "b", noHost},
		{"host", "0.0.0.0", "the unspecified address cannot be assigned"},
		{"host", "224.0.0.1", "a multicast address cannot be assigned"},
		{"host", "ff02::1%eth0", "only link-local addresses have a zone; write it as ff02::1"},
		{"host", "255.255.255.255", "the broadcast address cannot be assigned"},

		{"vip", "172.16.0.1", ""},
		{"vip", "172.16.0.1/1", ""},
		{"vip", "172.16.0.1/32", ""},
		{"vip", "172.16.0.0/31", ""},
		{"vip", "172.16.0.1@eth1", ""},
		{"vip", "172.16.0.1/16@eth1", ""},
		{"vip", "2001:db8::1/128@eth0.100", ""},
		{"vip", "172.16.0.1/0", `prefix length "0" is out of range (1 to 32)`},
		{"vip", "172.16.0.1/33", `prefix length "33" is out of range (1 to 32)`},
		{"vip", "2001:db8::1/129", `prefix length "129" is out of range (1 to 128)`},
		{"vip", "172.16.0.1/", `prefix length "" is out of range (1 to 32)`},
		{"vip", "172.16.0.1/016", `prefix length "016" begins with a zero; write it as 16`},
		{"vip", "172.16.0.1/+16", `prefix length "+16" is out of range (1 to 32)`},
		{"vip", "172.16.0.300", noAddr},
		{"vip", "web.example.com", noAddr},
		{"vip", "172.16.0.1 ", noAddr},
		{"vip", "172.16.0.1@", `interface "": a name is missing`},
		{"vip", "172.16.0.1@abcdefghijklmnop", `interface "abcdefghijklmnop": too long (1 to 15 characters)`},
		{"vip", "172.16.0.1@eth0:1", `interface "eth0:1": not a valid interface name`},
		{"vip", "fe80::1%eth0", "name the interface as fe80::1@eth0"},
		{"vip", "::ffff:172.16.0.1", "write it as 172.16.0.1"},
		{"vip", "127.0.0.2", "a loopback address cannot move"},
		{"vip", "::1", "a loopback address cannot move"},
		{"vip", "::", "the unspecified address cannot be assigned"},
		{"vip", "ff02::1", "a multicast address cannot be assigned"},
		{"vip", "255.255.255.255", "the broadcast address cannot be assigned"},
		{"vip", "172.16.0.0/16", "this is the address of the network 172.16.0.0/16 itself"},
		{"vip", "172.16.255.255/16", "this is the broadcast address of the network 172.16.0.0/16"},

		{"netmask", "255.255.0.0", "there is no IPv4 vip that it applies to"},
		{"netmask", "0.0.0.0", "not a netmask: its ones must be contiguous, as in 255.255.0.0"},
		{"netmask", "255.0.255.0", "not a netmask: its ones must be contiguous, as in 255.255.0.0"},
		{"netmask", "16", "not a netmask, such as 255.255.0.0"},
		{"netmask", "ffff::", "not a netmask, such as 255.255.0.0"},

		{"interface", "e", ""},
		{"interface", "abcdefghijklmno", ""},
		{"interface", "abcdefghijklmnop", "too long (1 to 15 characters)"},
		{"interface", "eth0:1", "not a valid interface name"},
		{"interface", "..", "not a valid interface name"},
		{"interface", "a/b", "not a valid interface name"},
		{"interface", "a b", "not a valid interface name"},
		{"interface", "a\tb", "not a valid interface name"},

		{"label", "eth0:1", "a label is for one vip, but there are 0"},
		{"label", "eth0:abcdefghijk", "too long (1 to 15 characters)"},
		{"label", "eth0", noLabel},
		{"label", "eth0:", noLabel},
		{"label", "eth0: ", noLabel},
		{"label", "eth0:a/b", noLabel},
		{"label", "eth0:a\x01", noLabel},
		{"label", ":1", noLabel},

		{"count", "1", ""},
		{"count", "100", ""},
		{"count", "010", "begins with a zero; write it as 10 (1 to 100)"},
		{"count", "00", "begins with a zero; write it as 0 (1 to 100)"},
		{"count", "0", "out of range (1 to 100)"},
		{"count", "101", "out of range (1 to 100)"},
		{"count", "99999999999999999999", "out of range (1 to 100)"},
		{"count", "-1", "not a whole number (1 to 100)"},
		{"count", "five", "not a whole number (1 to 100)"},
		{"count", "5.0", "not a whole number (1 to 100)"},

		{"interval", "10ms", ""},
		{"interval", "1m", ""},
		{"interval", "9ms", fromTo},
		{"interval", "1m1ms", fromTo},
		{"interval", "0", fromTo},
		{"interval", "3", "a duration needs a unit, such as 3s (10ms to 1m)"},
		{"interval", "0.5", "a duration needs a unit, such as 0.5s (10ms to 1m)"},
		{"interval", "-3s", "not a duration such as 3s, 1500ms or 2h (10ms to 1m)"},
		{"interval", "soon", "not a duration such as 3s, 1500ms or 2h (10ms to 1m)"},
		{"interval", "3 s", "not a duration such as 3s, 1500ms or 2h (10ms to 1m)"},

		{"timeout", "10ms", ""},
		{"timeout", "1m", ""},
		{"timeout", "9.99ms", fromTo},
		{"timeout", "61s", fromTo},
		{"timeout", "1", "a duration needs a unit, such as 1s (10ms to 1m)"},

		{"retry-wait", "0", ""},
		{"retry-wait", "10m", ""},
		{"retry-wait", "601s", "out of range (0 to 10m)"},
		{"retry-wait", "20", "a duration needs a unit, such as 20s (0 to 10m)"},

		{"source", "172.16.0.3", ""},
		{"source", "eth0", "not an address"},
		{"source", "0.0.0.0", "the unspecified address cannot be assigned"},
		{"source", "2001:db8::3", "cannot be the source of pings to 172.16.0.2: one is IPv4, the other IPv6"},

		{"witness", "auto", ""},
		{"witness", "none", ""},
		{"witness", "172.16.0.254", ""},
		{"witness", "fe80::1%eth0", ""},
		{"witness", "gateway", "must be auto, none or an address"},
		{"witness", "127.0.0.1", "a loopback address always replies and proves nothing"},
		{"witness", "224.0.0.1", "a multicast address cannot be assigned"},
		{"witness", "172.16.0.2", "is the host; set witness to a third machine"},

		{"duplicate-check", "true", ""},
		{"duplicate-check", "false", ""},
		{"duplicate-check", "no", "must be true or false"},
		{"duplicate-check", "yes", "must be true or false"},

		{"rise", "1", ""},
		{"rise", "1000", ""},
		{"rise", "0", "out of range (1 to 1000)"},
		{"rise", "1001", "out of range (1 to 1000)"},
		{"rise", "x", "not a whole number (1 to 1000)"},

		{"boot-wait", "0", ""},
		{"boot-wait", "1d", ""},
		{"boot-wait", "25h", "out of range (0 to 1d)"},
		{"boot-wait", "3", "a duration needs a unit, such as 3s (0 to 1d)"},

		{"tool", "auto", ""},
		{"tool", "ip", ""},
		{"tool", "ifconfig", ""},
		{"tool", "busybox", "must be auto, ip or ifconfig"},

		{"arp-rate", "0", ""},
		{"arp-rate", "5", ""},
		{"arp-rate", "1000", ""},
		{"arp-rate", "4", "out of range (5 to 1000)"},
		{"arp-rate", "1001", "out of range (5 to 1000)"},
		{"announce", "0", ""},
		{"announce", "20", ""},
		{"announce", "21", "out of range (0 to 20)"},
		{"announce", "often", "not a whole number (0 to 20)"},

		{"lease", "0", ""},
		{"lease", "1m46s", ""},
		{"lease", "1d", ""},
		{"lease", "1m45s", "shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait"},
		{"lease", "1s", "shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait"},
		{"lease", "999ms", "out of range (0, or 1s to 1d)"},
		{"lease", "25h", "out of range (0, or 1s to 1d)"},
		{"lease", "180", "a duration needs a unit, such as 180s (0, or 1s to 1d)"},

		{"fall", "1", ""},
		{"fall", "1000", ""},
		{"fall", "0", "out of range (1 to 1000)"},
		{"fall", "1001", "out of range (1 to 1000)"},

		{"failover-on", "host", ""},
		{"failover-on", "service", "needs a service and a vip"},
		{"failover-on", "always", "must be host or service"},

		{"syslog", "auto", ""},
		{"syslog", "off", ""},
		{"syslog", "local0", "must be auto or off"},
		{"failback", "manual", ""},
		{"failback", "auto", ""},
		{"failback", "true", "must be manual or auto"},
		{"failback", "Auto", "must be manual or auto"},

		{"isolated", "hold", ""},
		{"isolated", "release", ""},
		{"isolated", "manual", "must be hold or release"},

		{"hook-timeout", "1s", ""},
		{"hook-timeout", "10m", ""},
		{"hook-timeout", "999ms", "out of range (1s to 10m)"},
		{"hook-timeout", "601s", "out of range (1s to 10m)"},
		{"hook-timeout", "0", "out of range (1s to 10m)"},
		{"hook-timeout", "30", "a duration needs a unit, such as 30s (1s to 10m)"},

		{"mail-to", "root", ""},
		{"mail-to", "ops@example.com", ""},
		{"mail-to", `"Ops, Team" <ops@example.com>`, ""},
		{"mail-to", "Ops, Team <ops@example.com>", ""},
		{"mail-to", "Jörg <ops@example.com>", ""},
		{"mail-to", "root\r\nBcc: x@y", "a mail address must not contain a line break"},
		{"mail-to", "ro\x00ot", "a mail address must not contain a control character"},
		{"mail-to", "a@example.com, b@example.com", one},
		{"mail-to", "a@example.com, Ops <b@example.com>", one},
		{"mail-to", "a@example.com,root", one},
		{"mail-to", "root, ops@example.com", one},
		{"mail-to", "root,ops", one},
		{"mail-to", "root; ops", one},
		{"mail-to", "Ops, Team <ops>", noMail},
		{"mail-to", "@example.com", noMail},
		{"mail-to", "a b", noMail},
		{"mail-to", "Ops <a b@c>", noMail},

		{"mail-from", "cluster", ""},
		{"mail-from", "Cluster <cluster@example.com>", ""},
		{"mail-from", "a@", noMail},

		{"mail-to", "ops@müller.example", ""},
		{"mail-to", "ops@mx_1.example", `"mx_1.example" is no domain`},
		{"mail-to", "ops@[192.0.2.1]", ""},
		{"mail-to", "root.", noMail},
		{"mail-to", "-v", noMail},

		{"mail-helo", "standby.example.com", ""},
		{"mail-helo", "müller.example", ""},
		{"mail-helo", "[192.0.2.1]", ""},
		{"mail-helo", "[IPv6:2001:db8::1]", ""},
		{"mail-helo", "standby", noFullName},
		{"mail-helo", "a b.example", noFullName},
		{"mail-helo", "[2001:db8::1]", noLiteral},
		{"mail-helo", "[IPv6:192.0.2.1]", noLiteral},
		{"mail-helo", "[192.0.2.1", noLiteral},
		{"mail-helo", "[IPv6:fe80::1%eth0]", noLiteral},

		{"mail-via", "sendmail", ""},
		{"mail-via", "sendmail:///usr/sbin/sendmail", ""},
		{"mail-via", "smtp://localhost", ""},
		{"mail-via", "smtp://[2001:db8::25]:1", ""},
		{"mail-via", "smtp+starttls://mail.example.com:65535", ""},
		{"mail-via", "smtps://172.16.0.25/", ""},
		{"mail-via", "postfix", noForm},
		{"mail-via", "http://mail.example.com", noForm},
		{"mail-via", "smtp:mail.example.com", noForm},
		{"mail-via", "smtp://host:port", noForm},
		{"mail-via", "smtp://host:0", `port "0" is out of range (1 to 65535)`},
		{"mail-via", "smtp://host:65536", `port "65536" is out of range (1 to 65535)`},
		{"mail-via", "smtp://", `server "": neither an address nor a host name`},
		{"mail-via", "smtp://0.0.0.0", `server "0.0.0.0": the unspecified address cannot be assigned`},
		{"mail-via", "smtp://host/path", noForm},
		{"mail-via", "smtp://host?x", noForm},
		{"mail-via", "sendmail://host/path", "needs a path, such as in sendmail:///usr/sbin/sendmail"},
		{"mail-via", "sendmail://", "needs a path, such as in sendmail:///usr/sbin/sendmail"},

		{"mail-user", "joe", "a user without a password; set mail-password-file or the variable PINGOVER_MAIL_PASSWORD"},
		{"mail-user", "joe\n", "a user name must not contain a control character"},

		{"mail-timeout", "1s", ""},
		{"mail-timeout", "5m", ""},
		{"mail-timeout", "999ms", "out of range (1s to 5m)"},
		{"mail-timeout", "301s", "out of range (1s to 5m)"},
		{"mail-timeout", "15", "a duration needs a unit, such as 15s (1s to 5m)"},

		{"remind", "0", ""},
		{"remind", "1m", ""},
		{"remind", "365d", ""},
		{"remind", "59s", "out of range (0, or 1m to 365d)"},
		{"remind", "366d", "out of range (0, or 1m to 365d)"},
		{"remind", "99999999999999999999d", "not a duration such as 3s, 1500ms or 2h (0, or 1m to 365d)"},
		{"remind", "24", "a duration needs a unit, such as 24s (0, or 1m to 365d)"},

		{"arbiter", "https://10.0.0.11:2379", "needs a vip"},
		{"arbiter", "10.0.0.11:2379", "a scheme is missing; write it as https://10.0.0.11:2379"},
		{"arbiter", "ftp://10.0.0.11", `scheme "ftp": must be http or https`},
		{"arbiter", "https://", "a host is missing, such as https://www.example.com/"},
		{"arbiter", "https://10.0.0.11:0", `port "0": out of range (1 to 65535)`},
		{"arbiter", "https://10.0.0.11/v3", "must be https://HOST:2379 or http://HOST:2379, without a path"},
		{"arbiter-ttl", "6s", "needs arbiter"},
		{"arbiter-ttl", "1h", "needs arbiter"},
		{"arbiter-ttl", "5s", "out of range (6s to 1h)"},
		{"arbiter-ttl", "61m", "out of range (6s to 1h)"},
		{"arbiter-ttl", "180", "a duration needs a unit, such as 180s (6s to 1h)"},
		{"arbiter-cert", "cert.pem", "not an absolute path"},
		{"arbiter-cert-key", "key.pem", "not an absolute path"},
		{"arbiter-user", "pingover", "needs arbiter"},
		{"arbiter-user", "ping\nover", "a user name must not contain a control character"},
		{"state-dir", "/var/lib/other", ""},
		{"state-dir", "state", "not an absolute path"},
		{"state-dir", "/var/lib/\xff", "not UTF-8"},
		{"state-dir", "/var/lib/a\nb", "a path must not contain a control character"},

		{"metrics-file", "/var/lib/node_exporter/pingover.prom", ""},
		{"metrics-file", "pingover.prom", "not an absolute path"},

		{"vip-name", "web.example.com", "there is no vip that it could resolve to"},
		{"vip-name", "172.16.0.1", "not a DNS name, such as web.example.com"},
		{"vip-name", "2001:db8::1", "not a DNS name, such as web.example.com"},
	}
	tested := map[string]bool{ // in tests of their own: they need files
		"mail-password-file": true, "mail-ca": true, "arbiter-ca": true, "arbiter-password-file": true, "service": true, "service-ca": true,
		"pre-takeover": true, "post-takeover": true, "pre-release": true, "post-release": true, "notify": true,
	}
	for _, test := range tests {
		tested[test.setting] = true
		t.Run(test.setting+"="+test.value, func(t *testing.T) {
			values := flags("--host 172.16.0.2")
			values[test.setting] = []string{test.value}
			_, err := FromFlags(values, rootOn("standby"))
			want := ""
			if test.want != "" {
				want = "--" + test.setting + " " + strconv.Quote(test.value) + ": " + test.want
			}
			if diff := cmp.Diff(want, text(err)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	for _, s := range Settings() {
		if !tested[s.Name] {
			t.Errorf("no value of %s is tested", s.Name)
		}
		for what, wrong := range map[string]struct {
			values []string
			want   string
		}{
			"empty":    {[]string{""}, `--` + s.Name + ` "": a value is missing`},
			"repeated": {[]string{"1", "2"}, `--` + s.Name + ` "2": given 2 times, and takes one value`},
		} {
			if what == "repeated" && s.Kind == List {
				continue
			}
			values := flags("--host 172.16.0.2")
			values[s.Name] = wrong.values
			_, err := FromFlags(values, rootOn("standby"))
			if diff := cmp.Diff(wrong.want, text(err)); diff != "" {
				t.Errorf("%s %s: -want +got\n%s", what, s.Name, diff)
			}
		}
	}
}

// TestSettingsTogether: what settings that are right each on its own say
// together.
func TestSettingsTogether(t *testing.T) {
	tests := []struct{ name, flags, want string }{
		{"nothing at all", "", "--host: missing; every cluster needs one"},
		{"all errors at once, in the order of the table", "--interval 3 --count 0 --tool x --vip y", `--host: missing; every cluster needs one
--vip "y": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1
--count "0": out of range (1 to 100)
--interval "3": a duration needs a unit, such as 3s (10ms to 1m)
--tool "x": must be auto, ip or ifconfig`},
		{"a host that is called like our lock", "--host act", "--name: missing, and the host is no valid name: reserved: pingover itself uses act.lock"},
		{"one vip twice", "--host h --vip 172.16.0.1 --vip 172.16.0.1/16@eth0", `--vip "172.16.0.1/16@eth0": 172.16.0.1 is given twice`},
		{"one vip twice, with two lengths", "--host h --vip 172.16.0.1 --vip 172.16.0.1/16", `--vip "172.16.0.1/16": 172.16.0.1 is given twice`},
		{"one vip twice, written in two ways", "--host h --vip 2001:db8::1 --vip 2001:DB8:0::1", `--vip "2001:DB8:0::1": 2001:db8::1 is given twice`},
		{"a host that is the vip", "--host 172.16.0.1 --vip 172.16.0.1", ""},
		{"two paths to the host", "--host 172.16.0.2 --host 10.9.9.2 --vip 172.16.0.1", ""},
		{"one path twice", "--host 2001:db8::2 --host 2001:DB8::2", `--host "2001:DB8::2": 2001:DB8::2 is given twice`},
		{"one name twice", "--host primary --host primary", `--host "primary": primary is given twice`},
		{"hosts that are vips", "--host 172.16.0.1 --host 2001:db8::1 --vip 172.16.0.1 --vip 2001:db8::1", ""},
		{"a vip beside another address of the host", "--host 172.16.0.1 --host 172.16.0.2 --vip 172.16.0.1", `--host "172.16.0.2": cannot be mixed with 172.16.0.1: one is a vip, the other is not`},
		{"an address of the host beside a vip", "--host 172.16.0.2 --host 172.16.0.1 --vip 172.16.0.1", `--host "172.16.0.1": cannot be mixed with 172.16.0.2: one is a vip, the other is not`},
		{"a second path as witness", "--host 172.16.0.2 --host 10.9.9.2 --witness 10.9.9.2", `--witness "10.9.9.2": is the host; set witness to a third machine`},
		{"a source for one of two families", "--host 172.16.0.2 --host 2001:db8::2 --source 2001:db8::3", ""},
		{"a source for none of two hosts", "--host 172.16.0.2 --host 10.9.9.2 --source 2001:db8::3", `--source "2001:db8::3": cannot be the source of pings to 172.16.0.2 or 10.9.9.2: one is IPv4, the other IPv6`},
		{"one link-local vip on two links", "--host h --vip fe80::1@eth0 --vip fe80::1@eth1", ""},
		{"one link-local vip twice on a link", "--host h --vip fe80::1@eth0 --vip fe80::1@eth0", `--vip "fe80::1@eth0": fe80::1 is given twice`},
		{"a link-local vip as witness on another link", "--host h --vip fe80::1@eth0 --witness fe80::1%eth1", ""},
		{"a link-local vip as witness", "--host h --vip fe80::1 --interface eth0 --witness fe80::1%eth0", `--witness "fe80::1%eth0": is a vip; set witness to a third machine`},
		{"a netmask for bare vips only", "--host h --vip 172.16.0.1 --vip 2001:db8::1 --netmask 255.255.0.0", ""},
		{"a netmask that a vip agrees with", "--host h --vip 172.16.0.1/16 --netmask 255.255.0.0", ""},
		{"a netmask for one of two vips", "--host h --vip 172.16.0.1/24 --vip 172.16.0.5 --netmask 255.255.0.0", ""},
		{"a netmask that a vip contradicts", "--host h --vip 172.16.0.1/24 --netmask 255.255.0.0", `--netmask "255.255.0.0": is /16, and vip 172.16.0.1/24 differs`},
		{"a netmask for IPv6", "--host h --vip 2001:db8::1 --netmask 255.255.0.0", `--netmask "255.255.0.0": there is no IPv4 vip that it applies to`},
		{"a netmask that makes a vip the broadcast address", "--host h --vip 172.16.255.255 --netmask 255.255.0.0", `--vip "172.16.255.255": with the netmask, this is the broadcast address of the network 172.16.0.0/16`},
		{"a label", "--host h --vip 172.16.0.1 --label eth0:1", ""},
		{"a label on its interface", "--host h --vip 172.16.0.1 --label eth0:1 --interface eth0", ""},
		{"a label on another interface", "--host h --vip 172.16.0.1 --label eth0:1 --interface eth", `--label "eth0:1": must begin with eth:`},
		{"a label on another interface than the vip's", "--host h --vip 172.16.0.1@eth1 --label eth0:1 --interface eth0", `--label "eth0:1": must begin with eth1:`},
		{"a label for two vips", "--host h --vip 172.16.0.1 --vip 172.16.0.5 --label eth0:1", `--label "eth0:1": a label is for one vip, but there are 2`},
		{"a label for IPv6", "--host h --vip 2001:db8::1 --label eth0:1", `--label "eth0:1": a label is for an IPv4 vip, but 2001:db8::1 is IPv6`},
		{"the name of a vip", "--host h --vip 172.16.0.1 --vip-name web", ""},
		{"pings from a vip", "--host h --vip 172.16.0.1 --source 172.16.0.1", `--source "172.16.0.1": is a vip; pings need an address that stays on this machine`},
		{"auto beside a witness", "--host h --witness auto --witness 172.16.0.254", `--witness "auto": excludes other values, and there are 2 values`},
		{"none beside a witness", "--host h --witness 172.16.0.254 --witness none", `--witness "none": excludes other values, and there are 2 values`},
		{"a witness twice", "--host h --witness 172.16.0.254 --witness 172.16.0.254", `--witness "172.16.0.254": 172.16.0.254 is given twice`},
		{"a vip as witness", "--host h --vip 172.16.0.1 --witness 172.16.0.254 --witness 172.16.0.1", `--witness "172.16.0.1": is a vip; set witness to a third machine`},
		{"the host's link-local address as witness", "--host fe80::2%eth0 --witness fe80::2%eth0", `--witness "fe80::2%eth0": is the host; set witness to a third machine`},
		{"the same link-local address on another link as witness", "--host fe80::2%eth0 --witness fe80::2%eth1", ""},
		{"one recipient twice", "--host h --mail-to root --mail-to root", `--mail-to "root": is given twice`},
		{"a lease of two quick looks", "--host h --lease 36s --count 1 --timeout 1s --retry-wait 9s", ""},
		{"a lease shorter than a conflicting host can be outwaited", "--host h --lease 25s --count 1 --timeout 1s --retry-wait 0", `--lease "25s": shorter than twice the longest check, 26s; increase it, or decrease count, interval, timeout or retry-wait`},
		{"the longest look of all fits a lease", "--host h --lease 1d --count 100 --interval 1m --timeout 1m --retry-wait 10m", ""},
		{"a lease by ifconfig", "--host h --lease 3m --tool ifconfig", `--lease "3m": needs ip of iproute2, but the tool is ifconfig`},
		{"no lease by ifconfig", "--host h --lease 0 --tool ifconfig", ""},
		{"all that is wrong with a lease", "--host h --lease 30s --tool ifconfig", `--lease "30s": needs ip of iproute2, but the tool is ifconfig
--lease "30s": shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait`},
		{"a lease is not measured by a wrong interval", "--host h --lease 30s --interval 3", `--interval "3": a duration needs a unit, such as 3s (10ms to 1m)`},
		{"an arbiter", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11", ""},
		{"one member twice", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter https://10.0.0.11:2379/", `--arbiter "https://10.0.0.11:2379/": https://10.0.0.11:2379 is given twice`},
		{"an arbiter beside a lease", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --lease 3m", `--lease "3m": excludes arbiter, which sets the lifetime itself (arbiter-ttl)`},
		{"an arbiter by ifconfig", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --tool ifconfig", `--arbiter "https://10.0.0.11": needs ip of iproute2, but the tool is ifconfig`},
		{"a ttl of two quick looks", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-ttl 20s --count 2 --interval 500ms --retry-wait 2s", ""},
		{"a ttl shorter than a check", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-ttl 91s", `--arbiter-ttl "91s": shorter than twice the longest look, 1m32s; increase it, or decrease count, interval, timeout or retry-wait`},
		{"a user without a password", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-user u", `--arbiter-user "u": needs arbiter-password-file`},
		{"a certificate without its key", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-cert /a.pem", `--arbiter-cert "/a.pem": needs arbiter-cert-key`},
		{"a key without its certificate", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-cert-key /a.pem", `--arbiter-cert-key "/a.pem": needs arbiter-cert`},
		{"a certificate that is missing", "--host h --vip 172.16.0.1 --arbiter https://10.0.0.11 --arbiter-cert /missing --arbiter-cert-key /missing", `--arbiter-cert "/missing": cannot be read: no such file or directory`},
		{"a user in the URL", "--host h --vip 172.16.0.1 --arbiter https://u:secret@10.0.0.11", `--arbiter "https://…@10.0.0.11": must not contain user and password; use arbiter-user and arbiter-password-file`},
		{"isolation that nothing tells", "--host h --isolated release --witness none", `--isolated "release": needs a witness, but witness is none: nothing else tells that this machine is isolated`},
		{"a failback that cannot be verified", "--host h --failback auto --duplicate-check false", `--failback "auto": needs duplicate-check, to see that the address is taken after a hand-over`},
		{"no failback needs no watching", "--host h --failback manual --duplicate-check false", ""},
		{"failback is not blamed for a wrong duplicate-check", "--host h --failback auto --duplicate-check no", `--duplicate-check "no": must be true or false`},
		{"a wrong vip is not blamed on the label", "--host h --vip x --label eth0:1 --netmask 255.255.0.0", `--vip "x": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := FromFlags(flags(test.flags), rootOn("standby"))
			if diff := cmp.Diff(test.want, text(err)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestTheClusterIsCalledLikeItsHost(t *testing.T) {
	for host, want := range map[string]string{
		"172.16.0.2":                          "172.16.0.2",
		"Primary.Example.com.":                "primary.example.com",
		"fe80::2%eth0":                        "fe80--2-eth0",
		"::1":                                 "1",
		"2001:db8::":                          "2001-db8",
		"a." + strings.Repeat("b", 61) + ".c": "a." + strings.Repeat("b", 61),
	} {
		got, err := FromFlags(map[string][]string{"host": {host}}, rootOn("standby"))
		if err != nil {
			t.Error(err)
		}
		if got.Name != want {
			t.Errorf("%s is called %q, not %q", host, got.Name, want)
		}
	}
}

func TestStateDirectoryOfFlags(t *testing.T) {
	for _, test := range []struct{ line, want, err string }{
		{"--state-dir /srv/state/", "/srv/state", ""},
		{"--state-dir /srv/state --count 0", "/srv/state", ""}, // of which others will speak
		{"--state-dir state", "", `--state-dir "state": not an absolute path`},
		{"--state-dir /a --state-dir /b", "", `--state-dir "/b": given 2 times, and takes one value`},
	} {
		if got, err := StateDir(flags(test.line), rootOn("standby")); got != test.want || text(err) != test.err {
			t.Errorf("%s: %q and %q, want %q and %q", test.line, got, text(err), test.want, test.err)
		}
	}
}

func TestStateDirectory(t *testing.T) {
	for name, test := range map[string]struct {
		root      bool
		variables []string
		want, err string
	}{
		"root":                          {root: true, variables: []string{"HOME=/root", "XDG_STATE_HOME=/x"}, want: "/var/lib/pingover"},
		"XDG":                           {variables: []string{"HOME=/home/joe", "XDG_STATE_HOME=/x"}, want: "/x/pingover"},
		"home":                          {variables: []string{"HOME=/home/joe"}, want: "/home/joe/.local/state/pingover"},
		"a relative XDG does not count": {variables: []string{"HOME=/home/joe", "XDG_STATE_HOME=x"}, want: "/home/joe/.local/state/pingover"},
		"nothing to go by":              {err: "--state-dir: missing, and HOME is not set"},
	} {
		env := rootOn("standby", test.variables...)
		env.Root = test.root
		got, err := FromFlags(flags("--host h"), env)
		if got.StateDir != test.want || text(err) != test.err {
			t.Errorf("%s: %q and %q, want %q and %q", name, got.StateDir, text(err), test.want, test.err)
		}
		if got, err := StateDir(nil, env); got != test.want || text(err) != test.err {
			t.Errorf("%s, without a cluster: %q and %q, want %q and %q", name, got, text(err), test.want, test.err)
		}
	}
}

// text is err as text, "" for nil.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
