package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/exit"
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

// systemd gets what the service's type promises: ready, signs of life, a reload from
// its beginning to its end, a stop. And the codes of an end that a restart cannot
// fix are those that the unit names.
func TestServiceUnitTellsSystemd(t *testing.T) {
	unit := readFile(t, "packaging/pingover.service")
	set := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.+)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return m[1]
	}
	if set("Type") != "notify" || set("NotifyAccess") != "main" || set("WatchdogSec") != "1min" {
		t.Error("the unit expects other messages")
	}
	s := newScene(t)
	s.install(s.Standby)
	final := strings.Fields(set("RestartPreventExitStatus"))
	for _, text := range []string{"# nothing yet\n", "clusters: {web: {hots: 172.16.0.2}}\n"} {
		s.writeFile("/etc/pingover.yaml", text)
		out, err := s.Standby.Run(execStart(t, unit)...)
		if code := new(exec.ExitError); !errors.As(err, &code) || !slices.Contains(final, fmt.Sprint(code.ExitCode())) {
			t.Errorf("%q: %v, which is none of %q: %s", text, err, final, out)
		}
	}

	s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1}\n")
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	s.must(err)
	defer conn.Close()
	until := func(state string) {
		t.Helper()
		s.must(conn.SetReadDeadline(time.Now().Add(20 * time.Second)))
		for packet := make([]byte, 4096); ; {
			n, err := conn.Read(packet)
			if err != nil {
				t.Fatalf("no %s: %v", state, err)
			}
			if strings.HasPrefix(string(packet[:n]), state) {
				return
			}
		}
	}
	argv := slices.Insert(execStart(t, unit), 2, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=1000000")
	service := s.Standby.Command(t.Context(), argv...)
	s.must(service.Start())
	until("READY=1")
	until("WATCHDOG=1")
	reload := exec.Command("sh", "-c", set("ExecReload"))
	reload.Env = append(os.Environ(), fmt.Sprint("MAINPID=", service.Process.Pid))
	s.must(reload.Run())
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	s.must(service.Process.Signal(syscall.SIGTERM))
	until("STOPPING=1")
	if err := service.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// The unit that the timer starts makes one check, and no outcome of a check that
// worked is a failure of the unit.
func TestCheckUnit(t *testing.T) {
	unit := readFile(t, "packaging/pingover-check.service")
	if !strings.Contains(readFile(t, "packaging/pingover.timer"), "\nUnit=pingover-check.service\n") {
		t.Error("the timer starts another unit")
	}
	var good []string
	for _, c := range exit.Codes() {
		if (c.Outcome != "" && c.Code != 0 && c.Code < 30) || c.Outcome == "busy" {
			good = append(good, fmt.Sprint(c.Code))
		}
	}
	if want := "\nSuccessExitStatus=" + strings.Join(good, " ") + "\n"; !strings.Contains(unit, want) {
		t.Errorf("the unit does not say %q", want)
	}
	s := newScene(t)
	s.setUp()
	s.must(s.Primary.PowerOff())
	out, err := s.Standby.Run(execStart(t, unit)...)
	if code := new(exec.ExitError); !errors.As(err, &code) || code.ExitCode() != state.TookOver.Code() {
		t.Errorf("%v: %s", err, out)
	}
	s.wantOn(vip4, s.Standby)
}

// restricted is a command under the restrictions of a unit, made by setpriv, a mount
// namespace and restrict: capabilities, privileges, the file system, sockets, memory.
func restricted(t *testing.T, unit string, argv ...string) []string {
	t.Helper()
	has := func(line string) bool { return strings.Contains("\n"+unit, "\n"+line+"\n") }
	var privileges []string
	for _, m := range regexp.MustCompile(`(?m)^CapabilityBoundingSet=(~?)(.+)$`).FindAllStringSubmatch(unit, -1) {
		set, sign := "+all", ",-" // ~ is all but these
		if m[1] == "" {
			set, sign = "-all", ",+"
		}
		for name := range strings.FieldsSeq(m[2]) {
			set += sign + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
		}
		privileges = []string{"--bounding-set=" + set} // the last one counts
	}
	if has("NoNewPrivileges=yes") {
		privileges = append(privileges, "--no-new-privs")
	}
	// A root of its own, as systemd makes it.
	root := []string{"mkdir -p /run/root", "mount --rbind / /run/root"}
	if has("ProtectSystem=strict") {
		root = append(root, "mount -o remount,bind,ro /run/root",
			"for d in etc usr usr/sbin usr/local/sbin var/lib; do mount -o remount,bind,ro /run/root/$d 2>/dev/null || :; done",
			"mount --bind /var/lib/pingover /run/root/var/lib/pingover")
	}
	if has("ProtectHome=yes") {
		root = append(root, "for d in root home; do mount -t tmpfs -o ro,mode=0 lab /run/root/$d; done")
	}
	if has("PrivateTmp=yes") {
		root = append(root, "mount -t tmpfs lab /run/root/tmp", "mount -t tmpfs lab /run/root/var/tmp")
	}
	if has("PrivateDevices=yes") {
		root = append(root, "mount -t tmpfs lab /run/root/dev",
			"for d in null zero full random urandom tty; do : >/run/root/dev/$d; mount --bind /dev/$d /run/root/dev/$d; done")
	}
	if has("ProtectKernelModules=yes") {
		root = append(root, "mkdir -p /run/none; if test -d /usr/lib/modules; then mount --bind /run/none /run/root/usr/lib/modules; fi")
	}
	if has("ProtectControlGroups=yes") {
		root = append(root, "mount -o remount,bind,ro /run/root/sys/fs/cgroup || :")
	}
	script := strings.Join(append(root, `exec chroot /run/root "$@"`), "\n")
	var families []string
	if m := regexp.MustCompile(`(?m)^RestrictAddressFamilies=(.+)$`).FindStringSubmatch(unit); m != nil {
		families = strings.Fields(m[1])
	}
	command := slices.Concat([]string{"setpriv"}, privileges, argv)
	if len(families) > 0 && has("MemoryDenyWriteExecute=yes") {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(allowedFamilies)), slices.Sorted(slices.Values(families))); diff != "" {
			t.Fatalf("families (-tried +unit):\n%s", diff)
		}
		command = slices.Concat([]string{"setpriv"}, privileges, []string{"/run/" + restrictedAs}, argv)
	}
	return slices.Concat([]string{"unshare", "--mount", "sh", "-ec", script, "sh"}, command)
}

// The units do their work under their restrictions: with a hook and sendmail as
// they are, and without both under those of strict.conf.
func TestUnitsWorkUnderTheirRestrictions(t *testing.T) {
	t.Parallel()
	unit := readFile(t, "packaging/pingover.service")
	for name, test := range map[string]struct{ unit, extra string }{
		"pingover.service": {unit, ", post-takeover: [sh, -c, 'id -u >/var/lib/lab/hook && touch /etc/hook && chown nobody /etc/hook'], mail-via: sendmail"},
		"strict.conf":      {unit + readFile(t, "packaging/strict.conf"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.install(s.Standby)
			s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1" + test.extra + "}\n")
			self, err := os.Executable()
			s.must(err)
			s.run(s.Standby, "cp", self, "/run/"+restrictedAs)
			s.must(s.Primary.PowerOff())
			argv := restricted(t, test.unit, append(execStart(t, unit), "--for=1s")...)
			if out := betweenStartAndEnd(s.run(s.Standby, argv...)); out != tookOverAtOnce {
				t.Errorf("it printed %q", out)
			}
			s.wantOn(vip4, s.Standby)
			if test.extra == "" {
				s.mail.want(t, tookOver)
				s.run(s.Standby, restricted(t, test.unit, "sh", "-c", "! touch /etc/no && ! touch /usr/sbin/no && ! touch /var/lib/no && ! ls /root/")...)
				return
			}
			if out := s.run(s.Standby, "cat", "/var/lib/lab/hook"); out != "0\n" {
				t.Errorf("the hook was user %q", out)
			}
			if mails := s.emails(s.Standby); len(mails) != 1 {
				t.Errorf("%d mails by sendmail", len(mails))
			}
		})
	}
}

func TestUnitsAreValid(t *testing.T) {
	lab.Need(t, "systemd-analyze", "systemd")
	s := newScene(t)
	s.install(s.Standby)
	dir := t.TempDir()
	s.run(s.Standby, "cp", "packaging/pingover.service", "packaging/pingover-check.service", "packaging/pingover.timer", dir)
	verify := func() {
		t.Helper()
		// It warns of the units of this machine, too.
		out, err := s.Standby.Run("sh", "-c", "systemd-analyze verify --man=no "+dir+"/*.service "+dir+"/*.timer 2>&1")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "pingover") {
				t.Errorf("%s", line)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	verify()
	for _, unit := range []string{"pingover.service", "pingover-check.service"} {
		s.run(s.Standby, "install", "-D", "-m", "0644", "packaging/strict.conf", dir+"/"+unit+".d/strict.conf")
	}
	verify()
	// The primary's unit is in its chapter.
	for _, b := range blocks(t, "docs/primary.md") {
		if b.language == "ini" && strings.Contains(b.text, "[Service]") {
			s.run(s.Standby, "install", "-m", "0755", whenFree, "/usr/local/sbin/vip-when-free")
			s.writeFile(dir+"/vip-when-free.service", b.text)
			verify()
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
	job := regexp.MustCompile(`^(# )?(?:[0-9*][0-9*/,-]* ){5}root (command -v pingover >/dev/null && pingover .*)$`)
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
	s.run(s.Standby, "rm", "/usr/local/sbin/pingover")
	if out, _ := s.Standby.Run(append(cron, commands[0])...); out != "" {
		t.Errorf("without the program: it printed %q", out)
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

// release is what packaging/build makes of a version for this machine.
type release struct{ dir, deb, rpm, archive string }

func built(t *testing.T, version string) release {
	t.Helper()
	r, err := build(t.TempDir(), version)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// builtOnce is version 0.1.2, which most tests share.
func builtOnce(t *testing.T) release {
	t.Helper()
	r, err := sharedRelease()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var sharedRelease = sync.OnceValues(func() (release, error) { return build(filepath.Join(binaryDir(), "dist"), "0.1.2") })

func build(dir, version string) (r release, err error) {
	r.dir = dir
	build := exec.Command("packaging/build", version, runtime.GOARCH)
	build.Env = append(os.Environ(), "DIST="+dir, "SOURCE_DATE_EPOCH=1767225600")
	if out, err := build.CombinedOutput(); err != nil {
		return r, fmt.Errorf("%w: %s", err, out)
	}
	for pattern, file := range map[string]*string{"pingover_%s_*.deb": &r.deb, "pingover-%s-1.*.rpm": &r.rpm, "pingover-%s-linux-*.tar.gz": &r.archive} {
		names, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf(pattern, version)))
		if err != nil || len(names) != 1 {
			return r, fmt.Errorf("%s: %q, %v", pattern, names, err)
		}
		*file = names[0]
	}
	return r, nil
}

// The same source makes the same bytes. Installing a package adds these files;
// removing it removes all of them.
func TestPackages(t *testing.T) {
	t.Parallel()
	lab.Long(t)
	if os.Getuid() != 0 {
		lab.Skip(t, "installing a package needs root")
	}
	first, again := builtOnce(t), built(t, "0.1.2")
	debian, redhat := first.deb, first.rpm
	if readFile(t, first.dir+"/SHA256SUMS") != readFile(t, again.dir+"/SHA256SUMS") {
		t.Error("the same source made other bytes the second time")
	}
	verify := exec.Command("sha256sum", "-c", "--quiet", "SHA256SUMS")
	verify.Dir = again.dir
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	files := map[string]string{ // and what of the source they are
		"-rw-r--r-- etc/pingover.yaml":                                 "packaging/pingover.yaml",
		"-rw-r--r-- usr/lib/systemd/system/pingover-check.service":     "packaging/pingover-check.service",
		"-rw-r--r-- usr/lib/systemd/system/pingover.service":           "packaging/pingover.service",
		"-rw-r--r-- usr/lib/systemd/system/pingover.timer":             "packaging/pingover.timer",
		"-rwxr-xr-x usr/sbin/pingover":                                 "",
		"-rw-r--r-- usr/share/bash-completion/completions/pingover":    "",
		"-rw-r--r-- usr/share/doc/pingover/CHANGELOG.md":               "CHANGELOG.md",
		"-rw-r--r-- usr/share/doc/pingover/README.md":                  "README.md",
		"-rw-r--r-- usr/share/doc/pingover/SECURITY.md":                "SECURITY.md",
		"-rw-r--r-- usr/share/doc/pingover/docs/architecture.md":       "docs/architecture.md",
		"-rw-r--r-- usr/share/doc/pingover/sbom.cdx.json":              "",
		"-rw-r--r-- usr/share/doc/pingover/third-party-licenses":       "",
		"-rw-r--r-- usr/share/fish/vendor_completions.d/pingover.fish": "",
		"-rw-r--r-- usr/share/man/man8/pingover.8.gz":                  "",
		"-rw-r--r-- usr/share/pingover/crontab.example":                "crontab.example",
		"-rwxr-xr-x usr/share/pingover/fence-ipmi.example":             "packaging/fence-ipmi.example",
		"-rw-r--r-- usr/share/pingover/pingover.cron":                  "packaging/pingover.cron",
		"-rw-r--r-- usr/share/pingover/pingover.example.yaml":          "pingover.example.yaml",
		"-rw-r--r-- usr/share/pingover/strict.conf":                    "packaging/strict.conf",
		"-rwxr-xr-x usr/share/pingover/vip-when-free.example":          whenFree,
	}
	for _, chapter := range documents(t)[1:] {
		files["-rw-r--r-- usr/share/doc/pingover/"+chapter] = chapter
	}
	for _, test := range []struct {
		kind, need, zsh         string
		more                    []string // files of this kind alone
		install, verify, remove []string
	}{
		{
			"deb", "dpkg", "usr/share/zsh/vendor-completions/_pingover",
			[]string{"copyright", "changelog.gz", "lintian"},
			[]string{"dpkg-deb", "--extract", debian, "ROOT"},
			[]string{"true"},
			[]string{"sh", "-c", "rm -rf ROOT/*"},
		},
		{
			"rpm", "rpm", "usr/share/zsh/site-functions/_pingover",
			[]string{"LICENSE"},
			[]string{"rpm", "--root=ROOT", "--nodeps", "--ignorearch", "--noscripts", "--install", redhat},
			[]string{"rpm", "--root=ROOT", "--verify", "--nodeps", "pingover"},
			[]string{"rpm", "--root=ROOT", "--nodeps", "--noscripts", "--erase", "pingover"},
		},
	} {
		t.Run(test.kind, func(t *testing.T) {
			lab.Need(t, test.need, test.need)
			root := t.TempDir()
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
			for _, name := range test.more {
				want = append(want, "-rw-r--r-- usr/share/"+map[bool]string{true: "lintian/overrides/pingover", false: "doc/pingover/" + name}[name == "lintian"])
			}
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
			bill := readFile(t, filepath.Join(root, "usr/share/doc/pingover/sbom.cdx.json"))
			linked, listed := []string{"standard library " + runtime.Version()}, []string(nil)
			for line := range strings.Lines(run([]string{"go", "version", "-m", "ROOT/usr/sbin/pingover"})) {
				if dep := strings.Fields(line); dep[0] == "dep" {
					linked = append(linked, dep[1]+" "+dep[2])
					if want := fmt.Sprintf(`{"type":"library","name":"%s","version":"%s","purl":"pkg:golang/%[1]s@%[2]s"}`, dep[1], dep[2]); !strings.Contains(bill, want) {
						t.Errorf("the SBOM lacks %s", want)
					}
				}
			}
			for _, m := range regexp.MustCompile(`(?m)^== (.+): (?i:licen[cs]e)[.\w]*\n\s*[^\s=]`).FindAllStringSubmatch(notices, -1) {
				listed = append(listed, m[1])
			}
			if diff := cmp.Diff(linked, listed); diff != "" {
				t.Errorf("third-party licences (-linked +listed):\n%s", diff)
			}
			if !json.Valid([]byte(bill)) || strings.Count(bill, `"type":"library"`) != len(linked) {
				t.Errorf("the SBOM has other modules than the program:\n%s", bill)
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

// The archive has the program and what belongs to it.
func TestArchive(t *testing.T) {
	t.Parallel()
	lab.Long(t)
	r := builtOnce(t)
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-C", dir, "--strip-components=1", "-xzf", r.archive).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(dir+"/pingover", "--version").Output(); err != nil || string(out) != "pingover v0.1.2\n" {
		t.Errorf("%s, %v", out, err)
	}
	for name, source := range map[string]string{
		"README.md": "README.md", "LICENSE": "LICENSE", "docs/primary.md": "docs/primary.md", "pingover.8": manPage,
		"system/pingover.service": "packaging/pingover.service", "pingover.cron": "packaging/pingover.cron",
	} {
		if readFile(t, filepath.Join(dir, name)) != readFile(t, source) {
			t.Errorf("%s is another than %s", name, source)
		}
	}
	for _, name := range []string{"third-party-licenses", "sbom.cdx.json"} {
		if readFile(t, filepath.Join(dir, name)) == "" {
			t.Errorf("%s is empty", name)
		}
	}
}

// A package in its whole life on one machine: nothing is enabled or started by
// installing it, an upgrade keeps the configuration and gives a running service the
// new program, a removal says what stays, a purge leaves nothing.
func TestPackageThroughItsLife(t *testing.T) {
	lab.Long(t)
	older, newer := builtOnce(t), built(t, "0.1.3")
	for _, test := range []struct {
		kind                           string
		needs                          [][2]string
		install, upgrade, remove       []string
		restarts, stops, leftBySystemd string
	}{
		{
			kind: "deb", needs: [][2]string{{"dpkg", "dpkg"}, {"deb-systemd-invoke", "init-system-helpers"}},
			install:  []string{"dpkg", "--force-depends", "--install", older.deb},
			upgrade:  []string{"dpkg", "--force-depends", "--install", newer.deb},
			remove:   []string{"dpkg", "--remove", "pingover"},
			restarts: "--system daemon-reload\ntry-restart pingover.service\n",
			stops:    "stop pingover.timer pingover.service\n--system daemon-reload\n",
		},
		{
			kind: "rpm", needs: [][2]string{{"rpm", "rpm"}},
			install:  []string{"rpm", "--nodeps", "--ignorearch", "--install", older.rpm},
			upgrade:  []string{"rpm", "--nodeps", "--ignorearch", "--upgrade", newer.rpm},
			remove:   []string{"rpm", "--nodeps", "--erase", "pingover"},
			restarts: "daemon-reload\ndaemon-reload\ntry-restart pingover.service\n",
			stops:    "--no-reload disable --now pingover.timer pingover.service\ndaemon-reload\n",
		},
	} {
		t.Run(test.kind, func(t *testing.T) {
			for _, need := range test.needs {
				lab.Need(t, need[0], need[1])
			}
			s := newScene(t)
			s.ownSystem()
			// asked is what the scripts have asked of systemd since the last time.
			asked := func() string {
				t.Helper()
				return s.run(s.Standby, "sh", "-c", "cat /run/asked; : >/run/asked")
			}
			missing := func(names ...string) {
				t.Helper()
				for _, name := range names {
					if _, err := s.Standby.Run("test", "-e", name); err == nil {
						t.Errorf("%s is left", name)
					}
				}
			}

			s.run(s.Standby, test.install...)
			if got := asked(); strings.Contains(got, "start") || strings.Contains(got, "enable") {
				t.Errorf("installing asked systemd for %q", got)
			}
			out, err := s.Standby.Run("sh", "-c", "pingover doctor 2>&1")
			if err == nil || !strings.Contains(out, "no cluster is known in /var/lib/pingover") {
				t.Errorf("a fresh installation: %v, %s", err, out)
			}

			s.configure("  web: {host: 172.16.0.2, vip: 172.16.0.1}\n")
			mine := s.run(s.Standby, "cat", "/etc/pingover.yaml")
			s.run(s.Standby, "cp", "/usr/share/pingover/pingover.cron", "/etc/cron.d/pingover")
			s.must(s.Primary.PowerOff())
			s.Standby.Run("pingover", "check") // 11
			s.wantOn(vip4, s.Standby)

			s.run(s.Standby, test.upgrade...)
			if got := asked(); got != test.restarts {
				t.Errorf("the upgrade asked systemd for %q, want %q", got, test.restarts)
			}
			if got := s.run(s.Standby, "pingover", "--version"); got != "pingover v0.1.3\n" {
				t.Errorf("after the upgrade: %s", got)
			}
			if got := s.run(s.Standby, "cat", "/etc/pingover.yaml"); got != mine {
				t.Errorf("the upgrade changed the configuration:\n%s", got)
			}
			s.wantOn(vip4, s.Standby)

			out = s.run(s.Standby, append([]string{"sh", "-c", `exec "$@" 2>&1`, "sh"}, test.remove...)...)
			for _, want := range []string{"pingover: these addresses stay on this machine", "172.16.0.1/32", `remove them with "ip addr del"`} {
				if !strings.Contains(out, want) {
					t.Errorf("the removal does not say %q:\n%s", want, out)
				}
			}
			if got := asked(); got != test.stops {
				t.Errorf("the removal asked systemd for %q, want %q", got, test.stops)
			}
			s.wantOn(vip4, s.Standby)
			missing("/usr/sbin/pingover", "/usr/lib/systemd/system/pingover.service", "/usr/share/pingover")
			s.run(s.Standby, "test", "-e", "/var/lib/pingover/web.json")

			if test.kind != "deb" {
				return
			}
			if got := s.run(s.Standby, "cat", "/etc/pingover.yaml"); got != mine {
				t.Errorf("the removal changed the configuration:\n%s", got)
			}
			s.run(s.Standby, "dpkg", "--purge", "pingover")
			missing("/etc/pingover.yaml", "/var/lib/pingover", "/etc/cron.d/pingover")
			if out := s.run(s.Standby, "dpkg-query", "--list"); strings.Contains(out, "pingover") {
				t.Errorf("dpkg still knows it: %s", out)
			}
		})
	}
}

// The quick start of README.md, word for word, on a standby with the package: cron
// takes over with the default settings, in the time that README.md promises.
func TestReadmeQuickStart(t *testing.T) {
	lab.Long(t)
	needGroups(t)
	lab.Need(t, "dpkg", "dpkg")
	lab.Need(t, "/usr/sbin/cron", "cron")
	pkg := builtOnce(t).deb
	_, section, _ := strings.Cut(readFile(t, "README.md"), "\n## Quick start\n")
	section, _, _ = strings.Cut(section, "\n## ")
	steps := fenced(section)
	if len(steps) != 5 {
		t.Fatalf("%d blocks, want one for each step", len(steps))
	}

	s := newScene(t)
	s.ownSystem()
	s.run(s.Standby, "sh", "-ec", `
		mkdir /var/lib/mail
		rm -f /usr/sbin/sendmail
		cat >/usr/sbin/sendmail <<-"END"
			#!/bin/sh
			email=/var/lib/mail/$$
			cat >$email.part && mv $email.part $email
		END
		printf '#!/bin/sh\nexec "$@"\n' >/usr/bin/sudo
		chmod 0755 /usr/sbin/sendmail /usr/bin/sudo
		rm -rf /etc/crontab /etc/cron.d/*
		printf '%s required pam_permit.so\n' auth account session >/etc/pam.d/cron
		mount -t tmpfs lab /var/spool/cron
		mkdir -m 1730 /var/spool/cron/crontabs
		dpkg --force-depends --install "$1"
	`, "sh", pkg)
	s.run(s.Primary, "sh", "-ec", "ip addr del 172.16.0.1/32 dev eth0; mkdir /var/lib/bin; printf '#!/bin/sh\nexec \"$@\"\n' >/var/lib/bin/sudo; chmod 0755 /var/lib/bin/sudo; PATH=/var/lib/bin:$PATH; "+steps[0].text)
	s.writeFile("/etc/pingover.yaml", steps[1].text)
	s.run(s.Standby, "sh", "-ec", steps[2].text)
	if mails := s.emails(s.Standby); len(mails) != 1 || !strings.Contains(mails[0].subject, "test") {
		t.Errorf("the test mail: %+v", mails)
	}
	s.run(s.Standby, "sh", "-ec", steps[3].text)
	cron := s.Standby.Command(t.Context(), "cron", "-f")
	s.must(cron.Start())
	defer func() { cron.Process.Kill(); cron.Wait() }()
	s.within(70*time.Second, "a run has found the primary up", func() bool { return s.lastUnderCron() == state.OK })
	s.must(s.Primary.PowerOff())
	since := time.Now()
	s.within(125*time.Second, "the standby has taken over", func() bool { return s.lastUnderCron() == state.TookOver })
	t.Logf("taken over after %s", time.Since(since).Round(time.Second))
	s.wantOn(vip4, s.Standby)
	if out := s.run(s.Standby, "sh", "-ec", steps[4].text); !strings.Contains(out, "172.16.0.1") || !strings.Contains(out, "web") {
		t.Errorf("status: %s", out)
	}
	s.within(20*time.Second, "the test mail, ours and cron's have come", func() bool { return len(s.emails(s.Standby)) == 3 })
}

// ownSystem gives the standby a system of its own to install packages on, whose
// systemd only keeps what it was asked.
func (s *scene) ownSystem() {
	s.t.Helper()
	s.run(s.Standby, "sh", "-ec", `
		mkdir /var/lib/lab/usr /var/lib/lab/usr-work
		mount -t overlay -o lowerdir=/usr,upperdir=/var/lib/lab/usr,workdir=/var/lib/lab/usr-work lab /usr
		rm -f /usr/sbin/policy-rc.d # of a container, that forbids all services
		mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/rpm /etc/cron.d /run/systemd/system
		: >/var/lib/dpkg/status
		: >/run/asked
		cat >/usr/bin/systemctl <<-"END"
			#!/bin/sh
			echo "$*" >>/run/asked
		END
		chmod 0755 /usr/bin/systemctl
	`)
}

// Debian's checker finds nothing, and what is overridden says why.
func TestLintian(t *testing.T) {
	t.Parallel()
	lab.Long(t)
	lab.Need(t, "lintian", "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", builtOnce(t).deb).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	comment := false
	for line := range strings.Lines(readFile(t, "packaging/lintian-overrides")) {
		if !strings.HasPrefix(line, "#") && !comment {
			t.Errorf("no reason for %s", line)
		}
		comment = strings.HasPrefix(line, "#")
	}
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
