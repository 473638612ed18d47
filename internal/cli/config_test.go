package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pingover/internal/config"
)

const twoClusters = `defaults:
  retry-wait: 5s
  mail-to: [root, ops]
clusters:
  web:
    host: 172.16.0.2
    vip: 172.16.0.1
  db:
    host: 172.16.0.3
    retry-wait: 1s
`

func TestConfigShowsWhereEachSettingComesFrom(t *testing.T) {
	path := filed(t, twoClusters)
	p := faked(nil).configuredBy(path)
	got := p.run("config", "web", "--interval", "2s")
	for _, want := range []string{
		path + ": valid, 2 clusters\n\nweb\n",
		"\n  host                172.16.0.2  " + path + ":6\n",
		"\n  vip                 172.16.0.1  " + path + ":7\n",
		"\n  interval            2s          --interval\n",
		"\n  retry-wait          5s          " + path + ":2\n",
		"\n  mail-to             root, ops   " + path + ":3\n",
		"\n  defaults\n",
		"\n    count               5\n",
	} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, got.Stdout)
		}
	}
	if got.Code != 0 || got.Stderr != "" || strings.Contains(got.Stdout, "\ndb\n") {
		t.Errorf("%+v", got)
	}
	want(t, p.run("config", "-q"), printed{})
	want(t, p.run("config", "-q", "wbe"), printed{Code: 64, Stderr: "pingover: \"wbe\": no such cluster; known: web, db\nhint: did you mean web?\n"})
	want(t, p.run("config", "-q", "--json"), printed{Code: 64, Stderr: "pingover: --quiet and --json exclude each other\n"})
}

func TestConfigAsJSON(t *testing.T) {
	path := filed(t, twoClusters)
	got := faked(nil).configuredBy(path).run("config", "--json")
	lines := strings.Split(strings.TrimSuffix(got.Stdout, "\n"), "\n")
	if got.Code != 0 || got.Stderr != "" || len(lines) != 2 {
		t.Fatalf("%+v", got)
	}
	for i, name := range []string{"web", "db"} {
		var e effective
		if err := json.Unmarshal([]byte(lines[i]), &e); err != nil || e.Version != 1 || e.Cluster != name || len(e.Settings) != len(config.Settings()) {
			t.Errorf("%s: %v, %d settings, %+v", name, err, len(e.Settings), e)
		}
		if mail := e.Settings["mail-to"]; strings.Join(mail.Values, " ") != "root ops" || mail.Origin != path+":3" {
			t.Errorf("%s: %+v", name, mail)
		}
	}
}

// The whole file is validated, whatever names are given; nothing is written.
func TestConfigReportsAllErrors(t *testing.T) {
	dir := t.TempDir()
	path := filed(t, strings.Replace(twoClusters, "retry-wait: 1s", "retry-wiat: 1", 1)+"  mail:\n    host: 1.2.3\n")
	p := faked(nil).configuredBy(path)
	stderr := "pingover: " + path + ":10: cluster db: key \"retry-wiat\": unknown; did you mean retry-wait?\n" +
		"pingover: " + path + ":12: cluster mail: host \"1.2.3\": neither an address nor a host name\n"
	for _, flags := range [][]string{{}, {"--quiet"}, {"--json"}, {"web"}} {
		want(t, p.run(append([]string{"config", "--state-dir", filepath.Join(dir, "none")}, flags...)...), printed{Code: 78, Stderr: stderr})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
