package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/lab"
	"pingover/state"
)

// What packaging/ has, as an operator installs it.

// setUp installs the program and writes its configuration file.
func (s *scene) setUp() {
	s.t.Helper()
	s.install(s.Standby)
	s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1}\n")
}

// execStart is the command of the unit, as systemd starts it: by its name, in
// the directories that man 5 systemd.service names, and with hardly any
// environment.
func execStart(t *testing.T, unit string) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ExecStart=(.+)$`).FindAllStringSubmatch(unit, -1)
	if len(m) != 1 {
		t.Fatalf("%d ExecStart, want 1", len(m))
	}
	return append([]string{"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}, strings.Fields(m[0][1])...)
}

func TestServiceUnit(t *testing.T) {
	s := shortScene(t)
	s.setUp()
	s.must(s.Primary.PowerOff())
	argv := append(execStart(t, readFile(t, "packaging/pingover.service")), "--for=1s")
	if out := betweenStartAndEnd(s.run(s.Standby, argv...)); out != tookOverAtOnce {
		t.Errorf("it printed %q", out)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

// The lines that are commented out hold where they say they do.
func TestServiceUnitWithoutPrivileges(t *testing.T) {
	unit := readFile(t, "packaging/pingover.service")
	if want := "#CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n#NoNewPrivileges=yes\n"; !strings.Contains(unit, want) {
		t.Fatalf("the unit does not say %q", want)
	}
	s := newScene(t)
	s.setUp()
	s.must(s.Primary.PowerOff())
	argv := append([]string{"setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--no-new-privs"}, execStart(t, unit)...)
	if out := betweenStartAndEnd(s.run(s.Standby, append(argv, "--for=1s")...)); out != tookOverAtOnce {
		t.Errorf("it printed %q", out)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

func TestServiceUnitIsValid(t *testing.T) {
	lab.Need(t, "systemd-analyze", "systemd")
	unit := readFile(t, "packaging/pingover.service")
	s := newScene(t)
	s.install(s.Standby)
	for name, text := range map[string]string{
		"as it is":             unit,
		"with all uncommented": regexp.MustCompile(`(?m)^#([A-Z][A-Za-z]+=)`).ReplaceAllString(unit, "$1"),
	} {
		path := filepath.Join(t.TempDir(), "pingover.service")
		s.writeFile(path, text)
		// It warns of the units of this machine, too.
		out, err := s.Standby.Run("systemd-analyze", "verify", "--man=no", path)
		for line := range strings.Lines(out) {
			if strings.Contains(line, "pingover") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (s *scene) writeFile(path, text string) {
	s.t.Helper()
	s.run(s.Standby, "sh", "-c", `printf %s "$2" >"$1"`, "sh", path, text)
}

// A file in /etc/cron.d has a user column, and a final newline.
func TestCronFile(t *testing.T) {
	text := readFile(t, "packaging/pingover.cron")
	if !strings.HasSuffix(text, "\n") || strings.Contains(text, "\r") {
		t.Error("the last line has no newline, or there is a carriage return")
	}
	variable := regexp.MustCompile(`^[A-Z]+=[^$"' ]+$`)
	job := regexp.MustCompile(`^(# )?(?:[0-9*][0-9*/,-]* ){5}root (pingover .*)$`)
	path := ""
	var commands []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		m := job.FindStringSubmatch(line)
		switch {
		case m != nil:
			commands = append(commands, m[2])
		case strings.HasPrefix(line, "PATH="):
			path = line
		case line == "", strings.HasPrefix(line, "#"), variable.MatchString(line):
		default:
			t.Errorf("neither a comment, nor a plain variable, nor a job: %q", line)
		}
		if strings.Contains(line, "%") {
			t.Errorf("%% means a new line to cron: %q", line)
		}
	}
	if len(commands) != 2 || path == "" {
		t.Fatalf("commands %q, %s", commands, path)
	}
	s := newScene(t)
	s.setUp()
	cron := []string{"env", "-i", "HOME=/root", "LOGNAME=root", "SHELL=/bin/sh", path, "sh", "-c"}
	if out := s.run(s.Standby, append(cron, commands[0])...); out != "" {
		t.Errorf("%s: it printed %q", commands[0], out)
	}
	if got := s.record(s.Standby).Last.Outcome; got != state.OK {
		t.Errorf("outcome %q", got)
	}
	command := strings.Replace(commands[1], "--every 10s --for 58s", "--every 1s --for 1s", 1)
	if command == commands[1] {
		t.Errorf("another command than was thought: %s", command)
	}
	s.must(s.Primary.PowerOff())
	if out := betweenStartAndEnd(s.run(s.Standby, append(cron, command)...)); out != tookOverLine {
		t.Errorf("%s: it printed %q", command, out)
	}
}

// The cron of Debian takes the file as it is.
func TestCronTakesTheCronFile(t *testing.T) {
	lab.Long(t)
	needGroups(t)
	lab.Need(t, "/usr/sbin/cron", "cron")
	s := newScene(t)
	s.setUp()
	s.run(s.Standby, "sh", "-ec", `
		mount -t tmpfs lab /var/spool/cron
		mkdir -m 1730 /var/spool/cron/crontabs
		rm -rf /etc/crontab /etc/cron.d
		printf '%s required pam_permit.so\n' auth account session >/etc/pam.d/cron
		mkdir /etc/cron.d
		install -m 0644 "$1" /etc/cron.d/pingover
	`, "sh", "packaging/pingover.cron")
	cron := s.Standby.Command(t.Context(), "cron", "-f")
	s.must(cron.Start())
	s.within(90*time.Second, "a run has found the primary up", func() bool {
		_, err := s.Standby.Run("grep", "-q", `"outcome":"ok"`, "/var/lib/pingover/web.json")
		return err == nil
	})
	s.must(cron.Process.Kill())
	_ = cron.Wait()
}

// built are the packages of packaging/build, of version 0.1.2, for this
// machine.
func built(t *testing.T) (deb, rpm string) {
	t.Helper()
	dist := t.TempDir()
	build := exec.Command("packaging/build", "0.1.2", runtime.GOARCH)
	build.Env = append(os.Environ(), "DIST="+dist, "SOURCE_DATE_EPOCH=1767225600")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := func(pattern string) string {
		names, err := filepath.Glob(filepath.Join(dist, pattern))
		if err != nil || len(names) != 1 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		return names[0]
	}
	return found("pingover_0.1.2_*.deb"), found("pingover-0.1.2-1.*.rpm")
}

// The same source makes the same bytes. Installing a package
// adds these files and runs nothing; removing it removes all of them.
func TestPackages(t *testing.T) {
	t.Parallel()
	lab.Long(t)
	if os.Getuid() != 0 {
		lab.Skip(t, "installing a package needs root")
	}
	debian, redhat := built(t)
	again, more := built(t)
	if readFile(t, debian) != readFile(t, again) || readFile(t, redhat) != readFile(t, more) {
		t.Error("the same source made other bytes the second time")
	}
	files := map[string]string{ // and what of the source they are
		"-rw-r--r-- usr/lib/systemd/system/pingover.service":           "packaging/pingover.service",
		"-rwxr-xr-x usr/sbin/pingover":                                 "",
		"-rw-r--r-- usr/share/bash-completion/completions/pingover":    "",
		"-rw-r--r-- usr/share/doc/pingover/README.md":                  "README.md",
		"-rw-r--r-- usr/share/doc/pingover/copyright":                  "LICENSE",
		"-rw-r--r-- usr/share/doc/pingover/third-party-licenses":       "",
		"-rw-r--r-- usr/share/fish/vendor_completions.d/pingover.fish": "",
		"-rw-r--r-- usr/share/man/man8/pingover.8.gz":                  "",
		"-rw-r--r-- usr/share/pingover/fence-ipmi.example":             "packaging/fence-ipmi.example",
		"-rw-r--r-- usr/share/pingover/pingover.cron":                  "packaging/pingover.cron",
		"-rw-r--r-- usr/share/pingover/pingover.example.yaml":          "pingover.example.yaml",
	}
	for _, test := range []struct {
		kind, need, zsh          string
		install, verify, scripts []string
		remove                   []string
	}{
		{
			"deb", "dpkg", "usr/share/zsh/vendor-completions/_pingover",
			[]string{"dpkg", "--root=ROOT", "--force-depends", "--install", debian},
			[]string{"dpkg", "--root=ROOT", "--verify", "pingover"},
			[]string{"sh", "-c", "dpkg-deb --ctrl-tarfile " + debian + " | tar -t | grep -vx -e ./control -e ./md5sums -e ./ || :"},
			[]string{"dpkg", "--root=ROOT", "--purge", "pingover"},
		},
		{
			"rpm", "rpm", "usr/share/zsh/site-functions/_pingover",
			[]string{"rpm", "--root=ROOT", "--nodeps", "--ignorearch", "--install", redhat},
			[]string{"rpm", "--root=ROOT", "--verify", "--nodeps", "pingover"},
			[]string{"rpm", "--query", "--package", "--scripts", redhat},
			[]string{"rpm", "--root=ROOT", "--nodeps", "--erase", "pingover"},
		},
	} {
		t.Run(test.kind, func(t *testing.T) {
			lab.Need(t, test.need, test.need)
			root := t.TempDir()
			database := filepath.Join(root, "var/lib/dpkg")
			if err := errors.Join(os.MkdirAll(database+"/info", 0o755), os.MkdirAll(database+"/updates", 0o755), os.WriteFile(database+"/status", nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			run := func(argv []string) string {
				t.Helper()
				for i := range argv {
					argv[i] = strings.ReplaceAll(argv[i], "ROOT", root)
				}
				out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
				if err != nil {
					t.Fatalf("%q: %v: %s", argv, err, out)
				}
				return string(out)
			}
			run(test.install)
			want := slices.Sorted(maps.Keys(files))
			want = append(want, "-rw-r--r-- "+test.zsh)
			slices.Sort(want)
			if diff := cmp.Diff(want, installed(t, root)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			for file, source := range files {
				if source != "" && readFile(t, filepath.Join(root, strings.Fields(file)[1])) != readFile(t, source) {
					t.Errorf("%s is another than %s", file, source)
				}
			}
			if out := run(test.verify); out != "" {
				t.Errorf("verified: %s", out)
			}
			if out := run(test.scripts); out != "" {
				t.Errorf("it runs something when it is installed: %s", out)
			}
			if got, want := run([]string{"ROOT/usr/sbin/pingover", "--version"}), "pingover v0.1.2\n"; got != want {
				t.Errorf("the program says %q, want %q", got, want)
			}
			if got := run([]string{"gzip", "-dc", "ROOT/usr/share/man/man8/pingover.8.gz"}); got != readFile(t, manPage) {
				t.Error("the manual page is another")
			}
			for shell, file := range map[string]string{
				"bash": "usr/share/bash-completion/completions/pingover",
				"zsh":  test.zsh,
				"fish": "usr/share/fish/vendor_completions.d/pingover.fish",
			} {
				if got, want := readFile(t, filepath.Join(root, file)), run([]string{"ROOT/usr/sbin/pingover", "completion", shell}); got != want {
					t.Errorf("%s is not what completion %s prints", file, shell)
				}
			}
			// The licences are those of the modules that the program was linked with.
			notices := readFile(t, filepath.Join(root, "usr/share/doc/pingover/third-party-licenses"))
			linked, listed := []string{"standard library " + runtime.Version()}, []string(nil)
			for line := range strings.Lines(run([]string{"go", "version", "-m", "ROOT/usr/sbin/pingover"})) {
				if dep := strings.Fields(line); dep[0] == "dep" {
					linked = append(linked, dep[1]+" "+dep[2])
				}
			}
			for _, m := range regexp.MustCompile(`(?m)^== (.+): (?i:licen[cs]e)[.\w]*\n\s*[^\s=]`).FindAllStringSubmatch(notices, -1) {
				listed = append(listed, m[1])
			}
			if diff := cmp.Diff(linked, listed); diff != "" {
				t.Errorf("third-party licences (-linked +listed):\n%s", diff)
			}
			run(test.remove)
			if left := installed(t, root); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// installed are the files under /usr and /etc of a root, with their modes.
func installed(t *testing.T, root string) (files []string) {
	t.Helper()
	for _, top := range []string{"usr", "etc"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			name, _ := filepath.Rel(root, path)
			files = append(files, fmt.Sprint(info.Mode(), " ", name))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(files)
	return files
}

func TestPackagesOfWhat(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "usage: packaging/build VERSION [amd64|arm64|arm]..., with a VERSION such as 1.2.3\n"},
		{"latest", "usage: packaging/build VERSION [amd64|arm64|arm]..., with a VERSION such as 1.2.3\n"},
		{"1.2.3 amd64 mips", "packaging/build: \"mips\" is not among amd64, arm64 and arm\n"},
	} {
		build := exec.Command("packaging/build", strings.Fields(test.args)...)
		build.Env = append(os.Environ(), "DIST="+t.TempDir())
		out, err := build.CombinedOutput()
		if build.ProcessState.ExitCode() != 64 || string(out) != test.want {
			t.Errorf("%q: %v, %q; want 64, %q", test.args, err, out, test.want)
		}
	}
}
