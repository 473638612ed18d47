package config

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/arbiter"

	"github.com/google/go-cmp/cmp"

	"pingover/check"
)

// example is the reference file that the packages bring along.
func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../pingover.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shownSetting is a line of the reference file with a setting in it, which may
// be a comment: its indentation, name and value.
func shownSetting(line string) (indent, name, value string, ok bool) {
	m := regexp.MustCompile(`^( +)(?:# )?([a-z-]+): (.+)$`).FindStringSubmatch(line)
	if m == nil || !slices.ContainsFunc(AllSettings(), func(s Setting) bool { return s.Name == m[2] }) {
		return "", "", "", false
	}
	return m[1], m[2], m[3], true
}

func TestTheReferenceFileIsASmallCluster(t *testing.T) {
	got, err := clustersIn("example", []byte(example(t)), nil, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := FromFlags(flags("--name web --host 172.16.0.2 --vip 172.16.0.1 --mail-to root"), rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 1 {
		got[0].From = want.From
	}
	if diff := cmp.Diff([]Cluster{want}, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestTheReferenceFileWithEverySettingIsRight(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificateWithKey(t)
	for name, content := range map[string]string{"etcd-ca.pem": cert, "etcd-client.pem": cert, "etcd-client-key.pem": key, "etcd-password": "secret\n", "fence": "", "systemctl": "", "logger": "", "mail-password": "secret\n", "mail-ca.pem": certificate(t), "service-ca.pem": certificate(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	lines := strings.Split(example(t), "\n")
	for i, line := range lines {
		if heading := regexp.MustCompile(`^( *)# (pools:|www:)$`).FindStringSubmatch(line); heading != nil {
			lines[i] = heading[1] + heading[2]
		}
		if indent, name, value, ok := shownSetting(line); ok {
			lines[i] = indent + name + ": " + strings.ReplaceAll(value, "/etc/pingover/", dir+"/")
		}
	}
	file, err := FromFile("example", []byte(strings.Join(lines, "\n")), nil, rootOn("standby"))
	if err != nil {
		t.Fatal(err)
	}
	got := file.Clusters
	want := Cluster{
		Name: "web",
		Host: "172.16.0.2",
		Arbiter: arbiter.Settings{
			Members: []string{"https://10.0.0.11:2379", "https://10.0.0.12:2379", "https://10.0.0.13:2379"}, TTL: 3 * time.Minute,
			CA: filepath.Join(dir, "etcd-ca.pem"), Cert: filepath.Join(dir, "etcd-client.pem"), CertKey: filepath.Join(dir, "etcd-client-key.pem"),
			User: "pingover", PasswordFile: filepath.Join(dir, "etcd-password"),
		},
		VIPs:           []VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/16")}},
		Interface:      "eth0",
		Label:          "eth0:1",
		Count:          5,
		Interval:       3 * time.Second,
		Timeout:        time.Second,
		RetryWait:      20 * time.Second,
		Source:         netip.MustParseAddr("172.16.0.3"),
		Services:       []check.Service{{URL: &url.URL{Scheme: "https", Host: "www.example.com", Path: "/health"}}},
		ServiceCA:      dir + "/service-ca.pem",
		Fall:           3,
		Witness:        Witness{Auto: true},
		DuplicateCheck: true,
		Tool:           "auto",
		Announce:       3,
		Rise:           3,
		BootWait:       3 * time.Minute,
		Hooks: Hooks{
			PreTakeover:  []string{dir + "/fence", "172.16.0.2"},
			PostTakeover: []string{"sh", "-c", "systemctl start postgresql && logger it is up"},
			PreRelease:   []string{"systemctl", "stop", "postgresql"},
			PostRelease:  []string{"logger", "released"},
			Timeout:      30 * time.Second,
		},
		Mail: Mail{
			To:           []string{"root"},
			From:         "pingover@example.com",
			Via:          Via{Scheme: "sendmail"},
			HELO:         "standby.example.com",
			User:         "pingover",
			PasswordFile: dir + "/mail-password",
			Password:     "secret",
			CAFile:       dir + "/mail-ca.pem",
			Timeout:      15 * time.Second,
			Remind:       24 * time.Hour,
			Notify:       []string{"logger", "-t", "pingover"},
		},
		StateDir:    "/var/lib/pingover",
		MetricsFile: "/var/lib/prometheus/node-exporter/pingover.prom",
		Syslog:      true,
		VIPName:     "web.example.com",
	}
	for i := range got {
		got[i].Given, got[i].From = nil, nil
	}
	if diff := cmp.Diff([]Cluster{want}, got, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	pool := Pool{
		Name:           "www",
		Record:         "host1.zone.com.",
		Server:         "192.0.2.53:53",
		Zone:           "zone.com.",
		Members:        []netip.Addr{netip.MustParseAddr("10.2.2.10"), netip.MustParseAddr("10.2.2.11"), netip.MustParseAddr("2001:db8::10")},
		KeyFile:        dir + "/www.key",
		TTL:            time.Minute,
		MinMembers:     1,
		Count:          want.Count,
		Interval:       want.Interval,
		Timeout:        want.Timeout,
		RetryWait:      want.RetryWait,
		Source:         want.Source,
		Witness:        want.Witness,
		Services:       want.Services,
		ServiceCA:      want.ServiceCA,
		Rise:           want.Rise,
		CommandTimeout: 30 * time.Second,
		Mail:           want.Mail,
		StateDir:       want.StateDir,
		MetricsFile:    want.MetricsFile,
		Syslog:         true,
	}
	for i := range file.Pools {
		file.Pools[i].Given, file.Pools[i].From = nil, nil
	}
	if diff := cmp.Diff([]Pool{pool}, file.Pools, addresses); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Each setting is in the reference file once, with its default, below its words
// of help, and in help's order and groups.
func TestTheReferenceFileSaysWhatHelpSays(t *testing.T) {
	var got, want, comment []string
	for line := range strings.Lines(example(t)) {
		_, name, value, isSetting := shownSetting(strings.TrimSuffix(line, "\n"))
		text, isComment := strings.CutPrefix(strings.TrimSpace(line), "# ")
		switch {
		case isSetting:
			i := slices.IndexFunc(AllSettings(), func(s Setting) bool { return s.Name == name })
			if AllSettings()[i].Default == "" { // an example of a value
				value = ""
			}
			got = append(got, strings.Join(comment, " ")+"\n"+name+": "+value)
			comment = nil
		case isComment:
			comment = append(comment, text)
		default:
			group, _, _ := strings.Cut(strings.Join(comment, " "), ":")
			if slices.ContainsFunc(AllSettings(), func(s Setting) bool { return s.Group == group }) {
				got = append(got, group)
			}
			comment = nil
		}
	}
	group := ""
	for _, s := range AllSettings() {
		if s.Name == "name" { // the key of a cluster
			continue
		}
		if s.Group != group {
			group = s.Group
			want = append(want, group)
		}
		otherwise := ""
		if s.Derived != "" {
			otherwise = "; default: " + s.Derived
		}
		want = append(want, s.Help+" ("+s.Range+otherwise+")\n"+s.Name+": "+s.Default)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("../../pingover.example.yaml", []byte(withHelp(example(t))), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("UPDATE=1 fixes this (-table +pingover.example.yaml)\n%s", diff)
	}
}

// withHelp is the reference file with the words of help above each setting,
// broken at 80 columns.
func withHelp(text string) string {
	for _, s := range AllSettings() {
		above := regexp.MustCompile(`(?m)(^ +# .+\n)+( +)((# )?` + s.Name + `: .+\n)`)
		text = above.ReplaceAllStringFunc(text, func(old string) string {
			m := above.FindStringSubmatch(old)
			otherwise := ""
			if s.Derived != "" {
				otherwise = "; default: " + s.Derived
			}
			comment, line := "", m[2]+"#"
			for _, word := range strings.Fields(s.Help + " (" + s.Range + otherwise + ")") {
				if len(line)+1+len(word) > 80 {
					comment, line = comment+line+"\n", m[2]+"#"
				}
				line += " " + word
			}
			return comment + line + "\n" + m[2] + m[3]
		})
	}
	return text
}
