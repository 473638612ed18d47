package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/exit"
	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestTheFileSaysTheSameAsFlags(t *testing.T) {
	values, want := everySetting(t)
	settings, shared := map[string]any{}, map[string]any{}
	for _, s := range Settings() {
		switch {
		case s.Name == "name":
		case s.Shared:
			shared[s.Name] = values[s.Name][0]
		case s.Kind == List:
			settings[s.Name] = values[s.Name]
		default:
			settings[s.Name] = values[s.Name][0]
		}
	}
	together := maps.Clone(settings)
	maps.Copy(together, shared)
	for _, place := range []map[string]any{
		{"defaults": shared, "clusters": map[string]any{"web": settings}},
		{"defaults": together, "clusters": map[string]any{"web": nil}},
	} {
		data, err := yaml.Marshal(place)
		if err != nil {
			t.Fatal(err)
		}
		got, err := clustersIn("f", data, nil, rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		want.From = got[0].From
		if diff := cmp.Diff([]Cluster{want}, got, addresses); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

// What is given in the nearest place counts alone, lists too, and the clusters
// come in the order of the file.
func TestFlagsBeforeTheClusterBeforeDefaults(t *testing.T) {
	const text = `
clusters:
  web:
    host: 172.16.0.2
    vip: 172.16.0.1
    rise: 9
    post-takeover:
      - sh
      - -c
      - |
        echo "$PINGOVER_VIPS"
        exit 0
  db:
    host: 172.16.0.3
    vip: [172.16.0.5, 2001:db8::5]
    count: 7
    mail-to:
      - dba
      - "Ops, Team <ops@example.com>"
    post-takeover: >-
      sh -c
      'exit 0'
  another: {host: 'h', retry-wait: 0}
defaults:
  count: 9
  interval: 1s
  retry-wait: 10s
  mail-to: [root, ops]
`
	got, err := clustersIn("/etc/pingover.yaml", []byte(text), flags("--interval 2s --rise 4"), rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	of := func(line string, hook []string) Cluster {
		values := flags(line)
		if hook != nil {
			values["post-takeover"] = hook
		}
		c, err := FromFlags(values, rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := []Cluster{
		of("--name web --host 172.16.0.2 --vip 172.16.0.1 --count 9 --interval 2s --rise 4 --retry-wait 10s --mail-to root --mail-to ops",
			[]string{"sh -c 'echo \"$PINGOVER_VIPS\"\nexit 0'"}),
		of("--name db --host 172.16.0.3 --vip 172.16.0.5 --vip 2001:db8::5 --count 7 --interval 2s --rise 4 --retry-wait 10s --mail-to dba",
			[]string{"sh -c 'exit 0'"}),
		of("--name another --host h --count 9 --interval 2s --rise 4 --retry-wait 0 --mail-to root --mail-to ops", nil),
	}
	const ops = "Ops, Team <ops@example.com>"
	want[1].Mail.To = append(want[1].Mail.To, `"Ops, Team" <ops@example.com>`)
	want[1].Given["mail-to"] = append(want[1].Given["mail-to"], ops)
	at := func(line int) string { return "/etc/pingover.yaml:" + strconv.Itoa(line) }
	want[0].From = map[string]string{
		"name": at(3), "host": at(4), "vip": at(5), "post-takeover": at(8),
		"count": at(25), "interval": "--interval", "rise": "--rise", "retry-wait": at(27), "mail-to": at(28),
	}
	want[1].From = map[string]string{
		"name": at(13), "host": at(14), "vip": at(15), "count": at(16), "mail-to": at(18), "post-takeover": at(20),
		"interval": "--interval", "rise": "--rise", "retry-wait": at(27),
	}
	want[2].From = map[string]string{
		"name": at(23), "host": at(23), "retry-wait": at(23), "count": at(25), "interval": "--interval", "rise": "--rise", "mail-to": at(28),
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestOriginsAreAllSettingsWithWhatCounts(t *testing.T) {
	password := file(t, "password", "secret\n")
	got, err := clustersIn("/etc/pingover.yaml", []byte(`
defaults: {mail-to: [root, ops], mail-user: joe, mail-password-file: `+password+`}
clusters:
  web: {host: 172.16.0.2, vip: 172.16.0.1, retry-wait: 5s, post-takeover: [sh, -c, exit 0]}
`), flags("--interval 1s"), rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	want := `name web (/etc/pingover.yaml:4)
host 172.16.0.2 (/etc/pingover.yaml:4)
vip 172.16.0.1 (/etc/pingover.yaml:4)
netmask 255.255.255.255 (default)
interface for each virtual IP the one where it was last, else the one whose network contains it, else the one of the route to the host (default)
label INTERFACE:N, the first free (default)
vip-name none (default)
count 5 (default)
interval 1s (--interval)
timeout 1s (default)
retry-wait 5s (/etc/pingover.yaml:4)
source what the kernel chooses, unless that is a virtual IP (default)
service none: ping is enough (default)
service-ca the certificates of this machine (default)
fall 3 (default)
failover-on host (default)
witness auto (default)
duplicate-check true (default)
rise 3 (default)
boot-wait 3m (default)
tool auto (default)
announce 3 (default)
arp-rate 0 (default)
lease 0 (default)
arbiter none (default)
arbiter-ttl 3m (default)
arbiter-ca the certificates of this machine (default)
arbiter-cert none (default)
arbiter-cert-key none (default)
arbiter-user no login (default)
arbiter-password-file none (default)
failback manual (default)
isolated hold (default)
pre-takeover none (default)
post-takeover sh -c 'exit 0' (/etc/pingover.yaml:4)
pre-release none (default)
post-release none (default)
hook-timeout 30s (default)
mail-to root, ops (/etc/pingover.yaml:2)
mail-from the MTA's own sender; by SMTP mail-user where it is an address, else pingover@FQDN (default)
mail-via sendmail (default)
mail-helo the full host name, else the address literal (default)
mail-user joe (/etc/pingover.yaml:2)
mail-password-file ` + password + ` (/etc/pingover.yaml:2)
mail-ca the certificates of this machine (default)
mail-timeout 15s (default)
remind 24h (default)
notify none (default)
state-dir /var/lib/pingover (default)
metrics-file none (default)
syslog auto (default)
`
	var lines strings.Builder
	for _, o := range got[0].Origins() {
		fmt.Fprintf(&lines, "%s %s (%s)\n", o.Setting, strings.Join(o.Values, ", "), o.From)
	}
	if diff := cmp.Diff(want, lines.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFilesThatAreRight(t *testing.T) {
	for name, text := range map[string]string{
		"as editors begin a text":         "\ufeffclusters: {web: {host: h}}",
		"with the line ends of Windows":   "clusters:\r\n  web:\r\n    host: h\r\n",
		"with tabs where they may be":     "clusters:\n  web:\n    host:\th\t# primary\n",
		"as one marked document":          "%YAML 1.1\n---\nclusters: {web: {host: h}}\n...\n",
		"with all defaults commented out": "defaults:\n# count: 5\nclusters:\n  web:\n    host: h",
		"as JSON":                         `{"clusters": {"web": {"host": "h"}}}`,
		"with quoted keys":                "'clusters':\n  \"web\":\n    'host': 'h'",
		"with a value on its own line":    "clusters:\n  web:\n    host:\n      h",
		"with a value as a block":         "clusters:\n  web:\n    host: |\n      h\n",
		"with the host as a default":      "defaults: {host: h}\nclusters:\n  web:\n",
	} {
		got, err := clustersIn("f", []byte(text), nil, rootOn("standby"))
		if err != nil || len(got) != 1 || got[0].Name != "web" || got[0].Host != "h" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestFilesThatAreWrong(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	tests := []struct{ name, text, want string }{
		// No file of ours.
		{"empty", "", `f:1: empty; at least one cluster or pool is required`},
		{"blank", "\n \n", `f:1: empty; at least one cluster or pool is required`},
		{"comments", "# clusters:\n", `f:1: empty; at least one cluster or pool is required`},
		{"nothing", "---\n...\n", `f:1: empty; at least one cluster or pool is required`},
		{"a binary", "clusters:\n\x7fELF\x02\x01", `f:2: not text: it contains the character U+007F`},
		{"zeros", "\x00\x00", `f:1: not text: it contains the character U+0000`},
		{"Latin-1", "clusters:\n  web: {host: h, mail-to: J\xf6rg <j@example.com>}", `f:2: not text: the byte 0xf6 is not UTF-8`},
		{"UTF-16", "\xff\xfec\x00", `f:1: not text: the byte 0xff is not UTF-8`},
		{"the line ends of old Macs", "clusters:\r  web: {host: h}", `f:1: not text: it contains the character U+000D`},
		{"a line end that only YAML knows", "clusters:\n  web: {host: h} #\u2028", `f:2: not text: it contains the character U+2028`},
		{"another one", "clusters:\n  web: {host: h} #\u2029", `f:2: not text: it contains the character U+2029`},
		{"a word", "clusters", `f:1: must be defaults, clusters and pools, not the value "clusters"`},
		{"a list", "\n- web\n- db", `f:2: must be defaults, clusters and pools, not a list`},
		{"a crontab", "MAILTO=root\n* * * * * root pingover check\n", `f:1: must be defaults, clusters and pools, not the value "MAILTO=root * * * * * root pingover check"`},

		// No YAML.
		{"a tab before a key", "clusters:\n\tweb: {host: h}\n", `f:2: not YAML: a tab at the beginning of the line; YAML wants spaces`},
		{"a tab after blanks", "clusters:\n  web:\n    host: h\n  \tcount: 0\n", `f:4: not YAML: a tab at the beginning of the line; YAML wants spaces`},
		{"an address that begins with a colon", "clusters:\n  web:\n    vip: [::1]\n    host: h\n", `f:3: not YAML: did not find expected node content`},
		{"an open bracket", "clusters:\n  web:\n    vip: [172.16.0.1\n    host: h\n", `f:3: not YAML: did not find expected ',' or ']'`},
		{"an open brace", "clusters:\n  web: {host: h\n", `f:2: not YAML: did not find expected ',' or '}'`},
		{"an open quote", "clusters:\n  web:\n    host: \"h\n    count: 5\n\n", `f:3: not YAML: found unexpected end of stream`},
		{"text after a quote", "clusters:\n  web:\n    host: h\n    mail-to: \"Ops\" <ops@example.com>\n    count: 5\n", `f:4: not YAML: did not find expected key`},
		{"indented too far", "clusters:\n  web:\n    host: h\n      count: 5\n", `f:4: not YAML: mapping values are not allowed in this context`},
		{"indented in between", "clusters:\n  web:\n    host: h\n\n   # that:\n   count: 5\n    rise: 3\n", `f:6: not YAML: did not find expected key`},
		{"a colon in a value", "clusters:\n  web:\n    post-takeover: sh -c 'echo a: b'\n", `f:3: not YAML: mapping values are not allowed in this context`},
		{"no blank after the first colon", "clusters:\n  web:\n    host:172.16.0.2\n    count: 5\n", `f:4: not YAML: mapping values are not allowed in this context`},
		{"no blank after a colon", "clusters:\n  web:\n    host: h\n    rise:4\n", `f:4: not YAML: could not find expected ':'`},
		{"a list below a value", "clusters:\n  web:\n    mail-to: root\n    - ops\n", `f:4: not YAML: did not find expected key`},
		{"a list in the line of its key", "clusters:\n  web:\n    mail-to: - ops\n", `f:3: not YAML: block sequence entries are not allowed in this context`},
		{"a value with a special beginning", "clusters:\n  web:\n    mail-to: @example.com\n", "f:3: not YAML: found character that cannot start any token"},
		{"an alias of nothing", "clusters:\n  web:\n    host: *h\n", `f:3: not YAML: unknown anchor 'h' referenced`},
		{"an escape that there is not", "clusters:\n  web:\n    host: \"\\h\"\n", `f:3: not YAML: found unknown escape character`},
		{"more after the end", "clusters: {web: {host: h}}\n...\nx: y\n", `f:3: not YAML: did not find expected <document start>`},
		{"a tab after a list of many lines", "clusters:\n  web:\n    vip: [\n" + strings.Repeat("      172.16.0.1,\n", 50) + "    ]\n\thost: h\n", `f:55: not YAML: a tab at the beginning of the line; YAML wants spaces`},
		{"many brackets", strings.Repeat("[", 20000), `f:1: not YAML: exceeded max depth of 10000`},

		// More than YAML must be able to say.
		{
			"a second document", "clusters: {web: {host: h, count: 0}}\n---\nclusters: {}\n",
			`f:1: cluster web: count "0": out of range (1 to 100)
f:2: a second document begins here; remove the line ---`,
		},
		{
			"anchors, aliases, merging and tags", `
defaults: &all
  count: 5
clusters:
  web: &web
    host: &h h
    <<: *all
    vip: &v [172.16.0.1]
    rise: !!int 3
    mail-to: [!!str root, *h]
    ? &k tool
    : ip
  db: *web
`,
			`f:2: defaults: anchors such as &all are not supported; put shared settings into defaults
f:5: cluster web: anchors such as &web are not supported; put shared settings into defaults
f:13: cluster db: aliases such as *web are not supported; put shared settings into defaults`,
		},
		{
			"anchors, aliases, merging and tags in a cluster", `
clusters:
  web:
    host: &h h
    <<: {count: 5}
    vip: &v [172.16.0.1]
    rise: !!int 3
    mail-to: [!!str root, *h]
    ? &k tool
    : ip
`,
			`f:4: cluster web: host: anchors such as &h are not supported; put shared settings into defaults
f:5: cluster web: key "<<": merge keys are not supported; put shared settings into defaults
f:6: cluster web: vip: anchors such as &v are not supported; put shared settings into defaults
f:7: cluster web: rise: tags such as "!!int" are not supported; text that begins with ! needs quotes
f:8: cluster web: mail-to: tags such as "!!str" are not supported; text that begins with ! needs quotes
f:8: cluster web: mail-to: aliases such as *h are not supported; put shared settings into defaults
f:9: cluster web: anchors such as &k are not supported; put shared settings into defaults`,
		},
		{"an anchor or a tag of nothing", "clusters:\n  web: &a\n  db: !!null\n", `f:2: cluster web: anchors such as &a are not supported; put shared settings into defaults
f:3: cluster db: tags such as "!!null" are not supported; text that begins with ! needs quotes`},
		{
			"keys that are no words", "clusters:\n  web:\n    host: h\n    ? [count]\n    : 5\n    '': x\n    ? {a: b}\n",
			`f:4: cluster web: a key must be a word, not a list
f:6: cluster web: a key is missing
f:7: cluster web: a key must be a word, not keys with values`,
		},

		// Where each setting comes from.
		{"no clusters", "defaults: {count: 5}\n", `f:1: clusters: missing; at least one cluster or pool is required`},
		{"clusters without one", "clusters:\n", `f:1: clusters: empty; each cluster has a name, with its settings indented below it`},
		{"clusters with none", "clusters: {}\n", `f:1: clusters: empty; each cluster has a name, with its settings indented below it`},
		{"clusters as a list", "clusters:\n  - web: {host: h}\n", `f:2: clusters: must be names, each with its settings below it, not a list`},
		{"clusters as a word", "clusters: web\n", `f:1: clusters: must be names, each with its settings below it, not the value "web"`},
		{"clusters that are no settings", "clusters:\n  web: 172.16.0.2\n  db: [h]\n", `f:2: cluster web: must be settings with their values, not the value "172.16.0.2"
f:3: cluster db: must be settings with their values, not a list`},
		{"defaults that are none", "defaults: [count]\nclusters: {web: {host: h}}\n", `f:1: defaults: must be settings with their values, not a list`},
		{"a cluster without a name", "clusters:\n  host: h\n  vip: [172.16.0.1]\n", `f:2: clusters: key "host": is a setting; the name of its cluster is missing above it
f:3: clusters: key "vip": is a setting; the name of its cluster is missing above it`},
		{"a cluster that is called like a setting", "clusters:\n  host:\n    vip: 172.16.0.1\n  tool:\n", `f:2: cluster host: host: missing; every cluster needs one
f:4: cluster tool: host: missing; every cluster needs one`},
		{
			"unknown keys", `
cluster: {}
clusters:
  web:
    host: h
    intervall: 3s
    colour: red
    name: web
    Count: 0
defaults:
  retry_wait: 0
  clusters: {}
witness: auto
colour: [red]
`,
			`f:2: key "cluster": unknown; did you mean clusters?
f:6: cluster web: key "intervall": unknown; did you mean interval?
f:7: cluster web: key "colour": unknown; pingover help settings lists them
f:8: cluster web: key "name": the name of a cluster is the key above its settings
f:9: cluster web: key "Count": unknown; did you mean count?
f:11: defaults: key "retry_wait": unknown; did you mean retry-wait?
f:12: defaults: key "clusters": unknown; pingover help settings lists them
f:13: key "witness": is a setting; move it into defaults, or into a cluster
f:14: key "colour": unknown; must be defaults, clusters or pools`,
		},
		{"clusters of a mistyped name", "cluster:\n  web: {host: h}\n", `f:1: key "cluster": unknown; did you mean clusters?`},
		{"defaults of a mistyped name", "default: {count: 5}\nclusters:\n  web: {host: h}\n", `f:1: key "default": unknown; did you mean defaults?`},
		{
			"keys that are something else", `
json: true
clusters:
  web:
    host: h
    verbose: true
    every: 10s
    mail: root
    post: true
`,
			`f:2: key "json": is only a flag, --json
f:6: cluster web: key "verbose": is only a flag, --verbose
f:7: cluster web: key "every": is only a flag, --every
f:8: cluster web: key "mail": unknown; did you mean mail-to?
f:9: cluster web: key "post": unknown; pingover help settings lists them`,
		},
		{
			"the same key twice, which hides nothing", `
clusters:
  web:
    host: h
    vip: 172.16.0.1
    count: 5
    count: [5]
  web:
    count: 0
    vip: 172.16.0.1
defaults:
  rise: 0
defaults:
  foo: bar
clusters:
  db:
`,
			`f:7: cluster web: key "count": duplicate of line 6
f:7: cluster web: count: takes one value, not a list
f:8: clusters: key "web": duplicate of line 3
f:8: cluster web: host: missing; every cluster needs one
f:9: cluster web: count "0": out of range (1 to 100)
f:12: defaults: rise "0": out of range (1 to 1000)
f:13: key "defaults": duplicate of line 11
f:14: defaults: key "foo": unknown; pingover help settings lists them
f:15: key "clusters": duplicate of line 2
f:16: cluster db: host: missing; every cluster needs one`,
		},
		{
			"names", "clusters:\n  Web: {host: h}\n  act: {host: h}\n  'a b': {count: 0}\n  1: {host: h}\n  null: {host: h}\n",
			`f:2: clusters: key "Web": not a valid cluster name ([a-z0-9][a-z0-9._-]{0,63})
f:3: clusters: key "act": reserved: pingover itself uses act.lock
f:4: clusters: key "a b": not a valid cluster name ([a-z0-9][a-z0-9._-]{0,63})
f:4: cluster "a b": host: missing; every cluster needs one
f:4: cluster "a b": count "0": out of range (1 to 100)`,
		},

		// Values.
		{
			"wrong forms", `
clusters:
  web:
    host: [[h]]
    vip: {a: b}
    count: {}
    pre-takeover: {sh: -c}
    post-takeover: [sh, [-c]]
    mail-to: [{a: b}, root, ~]
    mail-from: ~
    rise:
    tool: null
    label: |
      /a
      /b
    witness: []
    source: ""
    interface: [e]
    netmask: [[e]]
    vip-name: {}
  db:
    host:
    vip: [10.0.0.1, [10.0.0.2]]
`,
			`f:4: cluster web: host: takes one value or a list of values, not a list within the list
f:5: cluster web: vip: takes one value or a list of values, not keys with values
f:6: cluster web: count: takes one value, not keys with values
f:7: cluster web: pre-takeover: takes a command line or a list of its words, not keys with values
f:8: cluster web: post-takeover: takes a command line or a list of its words, not a list within the list
f:9: cluster web: mail-to: takes one value or a list of values, not keys with values
f:9: cluster web: mail-to: a value is missing; remove the key, or set it
f:10: cluster web: mail-from: a value is missing; remove the key, or set it
f:11: cluster web: rise: a value is missing; remove the key, or set it
f:12: cluster web: tool: a value is missing; remove the key, or set it
f:13: cluster web: label: must be on one line
f:16: cluster web: witness: an empty list; remove the key
f:17: cluster web: source "": a value is missing
f:18: cluster web: interface: takes one value, not a list
f:19: cluster web: netmask: takes one value, not a list
f:20: cluster web: vip-name: takes one value, not keys with values
f:22: cluster db: host: a value is missing; every cluster needs one
f:23: cluster db: vip: takes one value or a list of values, not a list within the list`,
		},
		{
			"wrong values, each in its line", `
defaults:
  count: 0
  duplicate-check: yes
  mail-to:
    - root
    - a b
  remind: 24
  post-release: sh x | y
clusters:
  web:
    host: 172.16.0.300
    interval: 3
    mail-via: smtp://joe:secret@mail.example.com
    pre-takeover: [fence, "a b"]
    post-takeover: ./fence
    mail-ca: /nonexistent
  db:
    host: 172.16.0.3
    count: 101
    duplicate-check: True
    mail-to: root
`,
			`f:3: defaults: count "0": out of range (1 to 100)
f:4: defaults: duplicate-check "yes": must be true or false
f:7: defaults: mail-to "a b": not a mail address, such as root or ops@example.com
f:8: defaults: remind "24": a duration needs a unit, such as 24s (0, or 1m to 365d)
f:9: defaults: post-release "sh x | y": "|" needs a shell, such as sh -c '...'; in single quotes it is an ordinary character
f:12: cluster web: host "172.16.0.300": neither an address nor a host name
f:13: cluster web: interval "3": a duration needs a unit, such as 3s (10ms to 1m)
f:14: cluster web: mail-via "smtp://…@mail.example.com": must not contain user and password; use mail-user, and mail-password-file or the variable PINGOVER_MAIL_PASSWORD
f:15: cluster web: pre-takeover "fence 'a b'": "fence" not found in PATH:/usr/sbin:/sbin:/usr/bin:/bin
f:16: cluster web: post-takeover "./fence": "./fence": must be an absolute path, because cron starts in another directory, or a name without a slash
f:17: cluster web: mail-ca "/nonexistent": cannot be read: no such file or directory
f:20: cluster db: count "101": out of range (1 to 100)
f:21: cluster db: duplicate-check "True": must be true or false`,
		},
		{"a default of a wrong form is wrong once", "defaults: {host: [[h]], tool: {}}\nclusters:\n  web:\n  db:\n", `f:1: defaults: host: takes one value or a list of values, not a list within the list
f:1: defaults: tool: takes one value, not keys with values`},
		{"one wrong value twice", "clusters: {web: {host: h, vip: [x, x]}}", `f:1: cluster web: vip "x": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1`},
		{"a long value", "clusters: {web: {host: " + strings.Repeat("x", 1000) + "}}", `f:1: cluster web: host "` + strings.Repeat("x", 500) + `…": neither an address nor a host name`},

		// What settings and clusters say together.
		{
			"settings together", `
defaults:
  lease: 30s
clusters:
  web:
    host: h
    label: eth0:1
  db:
    host: h
    count: 1
    failback: auto
    duplicate-check: false
  quick:
    host: h
    count: 1
    retry-wait: 0
  other:
    host: h
`,
			`f:3: cluster web and 1 more: lease "30s": shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait
f:3: cluster db: lease "30s": shorter than twice the longest check, 57.8s (count 1 of f:10); increase it, or decrease count, interval, timeout or retry-wait
f:7: cluster web: label "eth0:1": a label is for one vip, but there are 0
f:11: cluster db: failback "auto": needs duplicate-check, to see that the address is taken after a hand-over`,
		},
		{
			"clusters together", `
clusters:
  web:
    host: h
    vip: 172.16.0.1
    label: eth0:1
  db:
    host: h
    vip:
      - 172.16.0.5
      - 2001:DB8:0::1
  other:
    host: h
    vip:
      - 2001:db8::1
      - 172.16.0.1/16@eth1
  third:
    host: h
    vip: 172.16.0.9
    label: eth0:1
  wrong:
    host: h
    vip: [172.16.0.5, x]
`,
			`f:15: cluster other: vip "2001:db8::1": cluster db already has it
f:16: cluster other: vip "172.16.0.1/16@eth1": cluster web already has it
f:20: cluster third: label "eth0:1": cluster web already has it
f:23: cluster wrong: vip "x": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1`,
		},
		{
			"a vip as witness of another cluster", `
defaults:
  witness: [172.16.0.254, 172.16.0.1]
clusters:
  web:
    host: h
    vip: 172.16.0.1
  db:
    host: h
    vip: [172.16.0.5, "fe80::5"]
  other:
    host: h
    witness: [172.16.0.254, 172.16.0.5, "fe80::5%eth0"]
  third: {host: h}
`,
			`f:3: cluster web: witness "172.16.0.1": is a vip; set witness to a third machine
f:3: cluster db and 1 more: witness "172.16.0.1": is a vip of cluster web, which may be assigned here; set witness to a third machine
f:13: cluster other: witness "172.16.0.5": is a vip of cluster db, which may be assigned here; set witness to a third machine
f:13: cluster other: witness "fe80::5%eth0": is a vip of cluster db, which may be assigned here; set witness to a third machine`,
		},
		{
			"a vip as host of another cluster", `
clusters:
  box: {host: 172.16.0.2, vip: 172.16.0.2}
  mail:
    host: 172.16.0.2
    vip: 172.16.0.55
  db: {host: 172.16.0.3, vip: 172.16.0.5}
`,
			`f:5: cluster mail: host "172.16.0.2": is a vip of cluster box, which may be assigned here; put the vips of both into one cluster, or give an address that stays on the primary`,
		},
		{
			"settings of a cluster that do not apply to it", `
defaults: {netmask: 255.0.0.0, label: "eth1:1", vip-name: w, source: 172.16.0.4}
clusters:
  web: {host: h, netmask: 255.255.0.0, vip-name: web, label: eth0:1}
  db: {host: h, vip: 172.16.0.1/24, netmask: 255.255.0.0}
  other: {host: "2001:db8::2", source: 172.16.0.3}
`,
			`f:4: cluster web: netmask "255.255.0.0": there is no IPv4 vip that it applies to
f:4: cluster web: label "eth0:1": a label is for one vip, but there are 0
f:4: cluster web: vip-name "web": there is no vip that it could resolve to
f:5: cluster db: netmask "255.255.0.0": is /16, and vip 172.16.0.1/24 differs
f:6: cluster other: source "172.16.0.3": cannot be the source of pings to 2001:db8::2: one is IPv4, the other IPv6`,
		},
		{"a vip as a default", "defaults: {vip: 172.16.0.1}\nclusters:\n  a: {host: h}\n  b: {host: h}\n  c: {host: h}\n", `f:1: cluster b and 1 more: vip "172.16.0.1": cluster a already has it`},
		{"what is for all, in a cluster", "clusters:\n  a:\n    host: h\n    state-dir: /a\n    metrics-file: /a/m.prom\n    syslog: off\n    arp-rate: 15\n", `f:4: cluster a: key "state-dir": is for all clusters and pools at once; move it into defaults
f:5: cluster a: key "metrics-file": is for all clusters and pools at once; move it into defaults
f:6: cluster a: key "syslog": is for all clusters and pools at once; move it into defaults
f:7: cluster a: key "arp-rate": is for all clusters and pools at once; move it into defaults`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := clustersIn("f", []byte(test.text), nil, rootOn("standby"))
			said := strings.ReplaceAll(text(err), os.Getenv("PATH")+":", "PATH:")
			if diff := cmp.Diff(test.want, said); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if problems, ok := err.(Problems); got != nil || ok && problems.Code() != exit.Config {
				t.Errorf("%d clusters, code %d", len(got), problems.Code())
			}
		})
	}
}

func TestFlagsOverAFile(t *testing.T) {
	for name, test := range map[string]struct {
		flags, text, want string
		code              int
	}{
		"one that is wrong": {
			"--count 0 --host h --name n", "clusters: {a: {host: h, rise: 0}, b: {host: h}}",
			`--count "0": out of range (1 to 100)
--name "n": defines a cluster by flags, but the clusters are in f
--host "h": defines a cluster by flags, but the clusters are in f
f:1: cluster a: rise "0": out of range (1 to 1000)`, 64,
		},
		"one that names a wrong file": {
			"--mail-ca /nonexistent", "clusters: {a: {host: h}, b: {host: h}}",
			`--mail-ca "/nonexistent": cluster a and 1 more: cannot be read: no such file or directory`, 78,
		},
		"one that does not fit the file": {
			"--lease 30s", "clusters: {a: {host: h}, b: {host: h}}",
			`--lease "30s": cluster a and 1 more: shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait`, 64,
		},
		"one that the file does not fit": {
			"--count 100", "clusters:\n  a:\n    host: h\n    lease: 2m\n",
			"f:4: cluster a: lease \"2m\": shorter than twice the longest check, 20m45.8s (count 100 of --count); increase it, or decrease count, interval, timeout or retry-wait", 78,
		},
		"one vip for two clusters": {
			"--vip 172.16.0.1", "clusters: {a: {host: h}, b: {host: h}}",
			`--vip "172.16.0.1": cluster b: cluster a already has it`, 64,
		},
		"one that hides a wrong form does not make the file right": {
			"--count 5", "clusters: {a: {host: h, count: [0]}}",
			`f:1: cluster a: count: takes one value, not a list`, 78,
		},
		"those that hide wrong values do not make the file right": {
			"--count 5 --vip 172.16.0.1 --rise 0", "defaults: {rise: 0}\nclusters: {a: {host: h, count: 500, vip: x, rise: x}}",
			`--rise "0": out of range (1 to 1000)
f:1: defaults: rise "0": out of range (1 to 1000)
f:2: cluster a: vip "x": not an address, such as 172.16.0.1, 172.16.0.1/16 or 172.16.0.1@eth1
f:2: cluster a: count "500": out of range (1 to 100)
f:2: cluster a: rise "x": not a whole number (1 to 1000)`, 64,
		},
		"one that does not apply": {
			"--vip-name web", "clusters: {a: {host: h}}",
			`--vip-name "web": cluster a: there is no vip that it could resolve to`, 64,
		},
		"one that takes another cluster's vip as witness": {
			"--witness 172.16.0.1", "clusters: {a: {host: h}, b: {host: h, vip: 172.16.0.1}}",
			`--witness "172.16.0.1": cluster a: is a vip of cluster b, which may be assigned here; set witness to a third machine
--witness "172.16.0.1": cluster b: is a vip; set witness to a third machine`, 64,
		},
	} {
		_, err := clustersIn("f", []byte(test.text), flags(test.flags), rootOn("standby"))
		if diff := cmp.Diff(test.want, text(err)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		if code := err.(Problems).Code(); code != test.code {
			t.Errorf("%s: code %d, want %d", name, code, test.code)
		}
	}
}

// Flags are for the clusters that are named, but for those that say where this
// run has its files.
func TestFlagsOverSomeClustersOfAFile(t *testing.T) {
	const file = "clusters:\n  web: {host: h, count: 7}\n  db: {host: h}\n  third: {host: h}\n"
	over := flags("--vip 172.16.0.1 --label eth0:1 --count 9 --state-dir /srv --metrics-file /m")
	got, err := clustersIn("f", []byte(file), over, rootOn("standby"), "web")
	if err != nil {
		t.Fatal(err)
	}
	of := func(line, labels string) Cluster {
		c, err := FromFlags(flags(line+" --host h --state-dir /srv --metrics-file /m"), rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		c.Reserved = strings.Fields(labels)
		return c
	}
	want := []Cluster{of("--name web --vip 172.16.0.1 --label eth0:1 --count 9", ""), of("--name db", "eth0:1"), of("--name third", "eth0:1")}
	want[0].Reserved = nil
	for i := range got {
		want[i].From = got[i].From
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"db", "third"}, `--vip "172.16.0.1": cluster third: cluster db already has it
--label "eth0:1": cluster third: cluster db already has it`},
		{nil, `--vip "172.16.0.1": cluster db and 1 more: cluster web already has it
--label "eth0:1": cluster db and 1 more: cluster web already has it`},
		{[]string{"nobody"}, ""},
	} {
		_, err := clustersIn("f", []byte(file), over, rootOn("standby"), test.names...)
		if diff := cmp.Diff(test.want, text(err)); diff != "" {
			t.Errorf("%q: -want +got\n%s", test.names, diff)
		}
	}
}

// A default applies to the clusters that it fits, and is ignored
// for the others: it neither counts nor is it remembered.
func TestDefaultsThatDoNotApplyArePassedOver(t *testing.T) {
	got, err := clustersIn("f", []byte(`
defaults: {netmask: 255.255.0.0, vip-name: web, label: "eth0:1", source: 172.16.0.3, interface: eth0}
clusters:
  web: {host: 172.16.0.2, vip: 172.16.0.1}
  report: {host: 172.16.0.2}
  six: {host: "2001:db8::2", vip: "2001:db8::1"}
  long: {host: 172.16.0.2, vip: [172.16.0.5/24, 172.16.0.6/24]}
  mixed: {host: 172.16.0.2, vip: [172.16.0.7/24, 172.16.0.8]}
  other: {host: 172.16.0.2, vip: 172.16.0.9@eth1}
`), nil, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	const host, web = "--interface eth0 --host 172.16.0.2 --source 172.16.0.3", " --vip-name web"
	for i, line := range []string{
		host + web + " --name web --vip 172.16.0.1 --netmask 255.255.0.0 --label eth0:1",
		host + " --name report",
		"--interface eth0 --name six --host 2001:db8::2 --vip 2001:db8::1" + web,
		host + web + " --name long --vip 172.16.0.5/24 --vip 172.16.0.6/24",
		host + web + " --name mixed --vip 172.16.0.7/24 --vip 172.16.0.8 --netmask 255.255.0.0",
		host + web + " --name other --vip 172.16.0.9@eth1 --netmask 255.255.0.0",
	} {
		want, err := FromFlags(flags(line), rootOn("standby"))
		if err != nil {
			t.Fatal(err)
		}
		want.From, want.Reserved = got[i].From, got[i].Reserved
		if diff := cmp.Diff(want, got[i], addresses); diff != "" {
			t.Errorf("%s: -want +got\n%s", got[i].Name, diff)
		}
	}
}

func TestLabelsOfOtherClustersAreReserved(t *testing.T) {
	got, err := clustersIn("f", []byte(`
clusters:
  web: {host: h, vip: 172.16.0.1}
  db: {host: h, vip: 172.16.0.2, label: "eth0:2"}
  other: {host: h, vip: 172.16.0.3, label: "eth0:1"}
  third: {host: h}
`), nil, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	reserved := [][]string{}
	for _, c := range got {
		reserved = append(reserved, c.Reserved)
	}
	all := []string{"eth0:2", "eth0:1"}
	if diff := cmp.Diff([][]string{all, nil, nil, all}, reserved); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestMetricsDoNotReplaceTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "pingover.yaml"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.WriteFile(path+".prom", nil, 0o600), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path, metrics string
		wrong         bool
	}{
		{path, path, true},
		{path, dir + "/./pingover.yaml", true},
		{path, link, true},
		{link, path, true},
		{path, path + ".prom", false},
		{path, path + ".none", false},
	} {
		_, err := clustersIn(test.path, []byte("clusters:\n  a: {host: h}\n  b: {host: h}\ndefaults: {metrics-file: "+test.metrics+"}"), nil, rootOn("standby"))
		want := ""
		if test.wrong {
			want = test.path + `:4: cluster a: metrics-file "` + test.metrics + `": is the configuration file, which the metrics would overwrite`
		}
		if diff := cmp.Diff(want, text(err)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

func TestManyErrorsAreNotAllSaid(t *testing.T) {
	for _, test := range []struct{ wrong, lines int }{{50, 50}, {51, 51}, {52, 51}, {10_000, 51}} {
		var b bytes.Buffer
		b.WriteString("clusters: {a: {host: h}}\n")
		for i := range test.wrong {
			fmt.Fprintf(&b, "no%d: x\n", i)
		}
		_, err := clustersIn("f", b.Bytes(), nil, rootOn("standby"))
		problems := err.(Problems)
		if len(problems) != test.lines || problems.Code() != exit.Config {
			t.Fatalf("%d errors in %d lines, code %d", test.wrong, len(problems), problems.Code())
		}
		last := fmt.Sprintf(`f:%d: key "no%d": unknown; must be defaults, clusters or pools`, test.lines+1, test.lines-1)
		if test.wrong > test.lines {
			last = fmt.Sprintf("f: %d more errors", test.wrong-50)
		}
		if diff := cmp.Diff(last, problems[len(problems)-1].Error()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, size int, mode fs.FileMode) {
		if err := os.WriteFile(at(name), bytes.Repeat([]byte("#"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("right", 5, 0o644)
	write("largest", 1<<20, 0o600)
	write("larger", 1<<20+1, 0o600)
	write("group", 1, 0o664)
	write("others", 1, 0o602)
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("right", at("link")); err != nil {
		t.Fatal(err)
	}
	others := func(name string) string {
		return at(name) + ": can be written to by others, and it names commands that root runs; after reviewing it: chmod go-w " + at(name)
	}
	for _, test := range []struct {
		name string
		root bool // such tests need our files to be root's
		size int
		want string
	}{
		{"right", true, 5, ""},
		{"right", false, 5, ""},
		{"link", false, 5, ""},
		{"largest", false, 1 << 20, ""},
		{"larger", false, 0, at("larger") + ": larger than 1024 KiB"},
		{"group", true, 0, others("group")},
		{"others", true, 0, others("others")},
		{"others", false, 1, ""},
		{"none", false, 0, at("none") + ": cannot be read: no such file or directory"},
		{"right/none", false, 0, at("right/none") + ": cannot be read: not a directory"},
		{".", false, 0, at(".") + ": not a regular file"},
		{"pipe", false, 0, at("pipe") + ": not a regular file"},
	} {
		if test.root && os.Geteuid() != 0 {
			continue
		}
		data, err := ReadFile(at(test.name), test.root)
		if len(data) != test.size || text(err) != test.want {
			t.Errorf("%s: %d bytes and %q, want %d and %q", test.name, len(data), text(err), test.size, test.want)
		}
		if problems, ok := errors.AsType[Problems](err); err != nil && (!ok || problems.Code() != exit.Config) {
			t.Errorf("%s: %#v", test.name, err)
		}
		if errors.Is(err, fs.ErrNotExist) != (test.name == "none") {
			t.Errorf("%s: taken for a file that is not there, or not taken for one", test.name)
		}
	}
}

func TestAFileOfAnotherUserIsNotForRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Skip(t, "only root can give files away")
	}
	path := file(t, "pingover.yaml", "clusters: {web: {host: h}}")
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1000, 0); err != nil {
		lab.Skip(t, err)
	}
	_, err := ReadFile(path, true)
	want := path + ": belongs to user 1000, and it names commands that root runs; after reviewing it: chown root " + path + "\n" +
		path + ": can be written to by others, and it names commands that root runs; after reviewing it: chmod go-w " + path
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// manyClusters is a file of n clusters.
func manyClusters(n int, defaults string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "defaults:\n  %s\nclusters:\n", defaults)
	for i := range n {
		fmt.Fprintf(&b, "  c%d:\n    host: 10.0.%d.%d\n    vip: 10.1.%d.%d\n", i, i/250, i%250, i/250, i%250+1)
	}
	return b.Bytes()
}

func TestTenThousandClusters(t *testing.T) {
	t.Parallel()
	began := time.Now()
	got, err := clustersIn("f", manyClusters(10_000, "mail-ca: "+file(t, "ca", strings.Repeat(certificate(t), 1000))), nil, rootOn("standby"))
	if len(got) != 10_000 || err != nil {
		t.Fatalf("%d clusters, %v", len(got), err)
	}
	for i, c := range got {
		if c.Name != "c"+strconv.Itoa(i) || c.VIPs[0].Prefix.Addr() != netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i%250 + 1)}) {
			t.Fatalf("cluster %d is %s with %v", i, c.Name, c.VIPs)
		}
	}
	_, err = clustersIn("f", manyClusters(10_000, "lease: 1s"), nil, rootOn("standby"))
	want := `f:2: cluster c0 and 9999 more: lease "1s": shorter than twice the longest check, 1m45.8s; increase it, or decrease count, interval, timeout or retry-wait`
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	_, err = clustersIn("f", append(manyClusters(1000, "count: 5"), "   rise: 3\n"...), nil, rootOn("standby"))
	want = "f:3004: not YAML: did not find expected key"
	if diff := cmp.Diff(want, text(err)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("that took %s", took)
	}
}

func BenchmarkTenThousandClusters(b *testing.B) {
	data := manyClusters(10_000, "mail-to: root")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := clustersIn("f", data, nil, rootOn("standby")); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzFromFile(f *testing.F) {
	for _, text := range []string{
		"", "clusters:\n  web:\n    host: 172.16.0.2\n    vip: [172.16.0.1, \"2001:db8::5\"]\n    post-takeover: [sh, -c, 'a: b']\ndefaults:\n  mail-to: root\n",
		"a: &a {<<: *a}\n---\n!!x", "clusters: {a: {host: h, vip: 1.2.3.4}, b: {host: h, vip: 1.2.3.4}}", "clusters:\n\tx", "? [::1]", "clusters:\n  a:\n    host: \"\\n\"\n    state-dir: \"/\\0\"",
		"clusters:\n  web:\n    post-takeover: |\n      true\n    mail-to: >\n      a\n      b\n", "defaults: {lease: 30s, name: x, metrics-file: /x}\nclusters: {x: ~, Y: [], z: {hots: !<a%0Ab> x}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		clusters, err := clustersIn("f", data, nil, rootOn("standby"))
		if err != nil {
			problems, ok := err.(Problems)
			if !ok || len(problems) == 0 || clusters != nil || problems.Code() != exit.Config {
				t.Fatalf("%v, %#v", clusters, err)
			}
			for _, p := range problems {
				if !strings.HasPrefix(p.Place, "f:") || strings.ContainsAny(p.Error(), "\n\r\t\x00") {
					t.Fatalf("%q", p.Error())
				}
			}
			return
		}
		if len(clusters) == 0 {
			t.Fatal("neither clusters nor an error")
		}
		for _, c := range clusters {
			again, err := FromFlags(c.Given, rootOn("standby"))
			again.From, again.Reserved = c.From, c.Reserved
			if diff := cmp.Diff(c, again, addresses); diff != "" || err != nil {
				t.Fatalf("%v, -file +flags\n%s", err, diff)
			}
		}
	})
}
