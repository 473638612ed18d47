package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/state"
)

// physician is a program whose examinations find this.
func physician(found func(c config.Cluster, sendMail bool) []doctor.Finding) Program {
	p := faked(nil)
	p.Examine = func(_ context.Context, c config.Cluster, sendMail bool) []doctor.Finding { return found(c, sendMail) }
	return p
}

var (
	sound    = doctor.Finding{Grade: doctor.Good, Text: "this process may ping"}
	doubtful = doctor.Finding{Grade: doctor.Warn, Text: "vip 172.16.0.1 is served by nobody", Fix: "raise it on the primary"}
	broken   = doctor.Finding{Grade: doctor.Fail, Text: "witness 172.16.0.254\x1b does not answer", Fix: "see why"}
)

func TestWhatADoctorSays(t *testing.T) {
	with := func(found ...doctor.Finding) Program {
		return physician(func(config.Cluster, bool) []doctor.Finding { return found })
	}
	args := []string{"doctor", "--name", "web", "--host", "172.16.0.2"}
	want(t, with(sound, doubtful).run(args...), printed{Stdout: `warn  vip 172.16.0.1 is served by nobody
      → raise it on the primary
ok    1 check passed (--verbose shows them)
ready: nothing must be fixed; 1 warning
`})
	want(t, with(sound).run(append(args, "--verbose")...), printed{Stdout: `ok    this process may ping
ready: nothing must be fixed
`})
	want(t, with(sound, broken, doubtful).run(append(args, "--json")...), printed{Code: 78, Stdout: `{"version":1,"cluster":"web","fail":1,"warn":1,"ok":1,"findings":[` +
		`{"grade":"fail","text":"witness 172.16.0.254  does not answer","fix":"see why"},` +
		`{"grade":"warn","text":"vip 172.16.0.1 is served by nobody","fix":"raise it on the primary"},` +
		`{"grade":"ok","text":"this process may ping","fix":""}]}
`})
	want(t, with(sound, broken, doubtful).run(args...), printed{Code: 78, Stdout: `fail  witness 172.16.0.254 does not answer
      → see why
warn  vip 172.16.0.1 is served by nobody
      → raise it on the primary
ok    1 check passed (--verbose shows them)
not ready: 1 problem must be fixed; 1 warning
`})
}

func TestADoctorOfSeveralClusters(t *testing.T) {
	dir := checked(t, "db", "web-one")
	p := physician(func(c config.Cluster, _ bool) []doctor.Finding {
		if c.Name == "db" {
			return []doctor.Finding{sound, broken}
		}
		return []doctor.Finding{doubtful}
	})
	want(t, p.run("doctor", "--state-dir", dir), printed{Code: 78, Stdout: `fail  db       witness 172.16.0.254 does not answer
               → see why
warn  web-one  vip 172.16.0.1 is served by nobody
               → raise it on the primary
ok    db       1 check passed (--verbose shows them)
not ready: 1 problem must be fixed; 1 warning
`})
	want(t, p.run("doctor", "--state-dir", dir, "web-one"), printed{Stdout: `warn  vip 172.16.0.1 is served by nobody
      → raise it on the primary
ready: nothing must be fixed; 1 warning
`})
}

func TestADoctorFitsTheTerminal(t *testing.T) {
	p := physician(func(config.Cluster, bool) []doctor.Finding {
		return []doctor.Finding{{
			Grade: doctor.Warn, Text: "172.16.0.9 is still on this machine, assigned by pingover, but no longer a setting of this cluster",
			Fix: "run ip addr del 172.16.0.9/16 dev eth0, unless something else needs it",
		}}
	})
	p.Out = Output{Columns: 60, Colors: true}
	want(t, p.run("doctor", "--name", "web", "--host", "172.16.0.2"), printed{Stdout: "\033[33mwarn\033[0m" + `  172.16.0.9 is still on this machine, assigned by
      pingover, but no longer a setting of this cluster
      → run ip addr del 172.16.0.9/16 dev eth0, unless
      something else needs it
` + "\033[33mready: nothing must be fixed; 1 warning\033[0m\n"})
}

func TestADoctorSendsMailOnlyWhenTold(t *testing.T) {
	var sent []bool
	p := physician(func(_ config.Cluster, sendMail bool) []doctor.Finding {
		sent = append(sent, sendMail)
		return nil
	})
	p.run("doctor", "--host", "172.16.0.2")
	p.run("doctor", "--host", "172.16.0.2", "--send-test")
	if diff := cmp.Diff([]bool{false, true}, sent); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestADoctorFindsWhatKeepsSettingsFromBeingUsed(t *testing.T) {
	p := physician(nil)
	want(t, p.run("doctor", "--host", "172.16.0.2", "--mail-ca", "/none"), printed{Code: 78, Stdout: `fail  --mail-ca "/none": cannot be read: no such file or directory
      → change that setting, or the file it names
not ready: 1 problem must be fixed
`})
	dir := checked(t, "web")
	path := filepath.Join(dir, "web.settings")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	want(t, p.run("doctor", "--state-dir", dir), printed{Code: 78, Stdout: "fail  web: " + path + " can be written to by others; settings name commands to run, ignored\n" +
		"      → after reviewing it: chmod go-w " + path + "\nnot ready: 1 problem must be fixed\n"})

	gone := t.TempDir()
	remember(t, gone, &state.Record{Head: state.Head{Name: "web"}, Settings: map[string][]string{"host": {"172.16.0.2"}, "pre-release": {"/none"}}})
	want(t, p.run("doctor", "--state-dir", gone), printed{Code: 78, Stdout: `fail  --pre-release "/none": "/none": no such file or directory
      → settings without a flag are those of the last check of web
not ready: 1 problem must be fixed
`})
	// The command line is the operator's own, and fixed there.
	want(t, p.run("doctor", "--host", "172.16.0.2", "--count", "0"), printed{Code: 64, Stderr: "pingover: --count \"0\": out of range (1 to 100)\n"})
}

func TestADoctorExaminesSideBySide(t *testing.T) {
	dir := checked(t, "a", "b", "c", "d")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p := physician(func(c config.Cluster, _ bool) []doctor.Finding {
			// The first is the slowest, and yet comes first.
			time.Sleep(time.Duration('e'-c.Name[0]) * time.Second)
			return []doctor.Finding{sound}
		})
		got := p.run("doctor", "--state-dir", dir)
		var order []string
		for line := range strings.Lines(strings.TrimSuffix(got.Stdout, "ready: nothing must be fixed\n")) {
			order = append(order, strings.Fields(line)[1])
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "d"}, order); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestADoctorIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	p := physician(func(config.Cluster, bool) []doctor.Finding {
		once.Do(cancel)
		return []doctor.Finding{sound}
	})
	var stdout strings.Builder
	p.Stdout, p.Stderr = &stdout, &stdout
	if code := p.Run(ctx, []string{"doctor", "--host", "172.16.0.2"}); code != exit.Interrupted || stdout.String() != "" {
		t.Errorf("code %d, printed %q", code, stdout.String())
	}
}

func TestABugOfADoctor(t *testing.T) {
	p := physician(func(config.Cluster, bool) []doctor.Finding { panic("oh") })
	got := p.run("doctor", "--host", "172.16.0.2")
	if got.Code != 70 || got.Stdout != "" || !strings.HasPrefix(got.Stderr, "pingover: internal error: oh (pingover/internal/cli.TestABugOfADoctor") {
		t.Errorf("%+v", got)
	}
}
