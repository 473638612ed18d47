package proc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentIsChosen(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	t.Setenv("HOME", "/root")
	t.Setenv("USER", "operator")
	t.Setenv("LOGNAME", "operator")
	t.Setenv("LANG", "de_DE.UTF-8")
	t.Setenv("PINGOVER_MAIL_PASSWORD", "secret")
	t.Setenv("PINGOVER_CONFIG", "/etc/other.yaml")
	t.Setenv("LD_PRELOAD", "")
	want := []string{
		"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C", "LC_ALL=C",
		"HOME=/root", "USER=operator", "LOGNAME=operator", "PINGOVER_EVENT=takeover",
	}
	if diff := cmp.Diff(want, Environment("PINGOVER_EVENT=takeover")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"by default": {nil, "HOME=/root\nLANG=C\nLC_ALL=C\nLOGNAME=operator\nPATH=/usr/bin:/bin:/usr/sbin:/sbin\nUSER=operator\n"},
		"as given":   {[]string{"A=1", "B=2", "A=3"}, "A=3\nB=2\n"},
		"none":       {[]string{}, ""},
	} {
		r := Run(t.Context(), Command{Argv: []string{"/bin/sh", "-c", "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort"}, Env: tt.env, Timeout: time.Minute})
		if r.Err != nil || r.Output != tt.want {
			t.Errorf("%s: error %v, output\n%s", name, r.Err, r.Output)
		}
	}
}

func TestEnvironmentWithoutAny(t *testing.T) {
	for _, key := range []string{"PATH", "HOME", "USER", "LOGNAME"} {
		t.Setenv(key, "") // so that it comes back
		os.Unsetenv(key)
	}
	want := []string{"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LANG=C", "LC_ALL=C"}
	if diff := cmp.Diff(want, Environment()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Cron's PATH has neither ifconfig nor sendmail.
func TestFindUnderCron(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	admins, err := filepath.Glob("/usr/sbin/*")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range admins {
		name := filepath.Base(path)
		if _, err := os.Stat("/usr/bin/" + name); err == nil {
			continue
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		found++
		if got, err := Find(name); err != nil || got != path {
			t.Errorf("%s: found %q, %v", name, got, err)
		}
	}
	t.Logf("%d programs are in /usr/sbin only", found)
}

func TestFind(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{first + "/tool": 0o644, second + "/tool": 0o755, second + "/other": 0o755} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(first+"/other", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(second)
	t.Setenv("PATH", ".:"+first+"::"+second)
	for _, tt := range []struct{ name, want, err string }{
		{"tool", second + "/tool", ""},
		{"other", second + "/other", ""},
		{"./relative", "./relative", ""},
		{"/no/such/file", "/no/such/file", ""},
		{"", "", `"" not found in ` + first + ":" + second + ":/usr/sbin:/sbin:/usr/bin:/bin"},
	} {
		got, err := Find(tt.name)
		if err == nil && (tt.err != "" || got != tt.want) || err != nil && err.Error() != tt.err {
			t.Errorf("%q: found %q, %v; want %q, %s", tt.name, got, err, tt.want, tt.err)
		}
	}
	t.Setenv("PATH", ".")
	if got, err := Find("tool"); err == nil {
		t.Errorf("found %q, where only the current folder has it", got)
	}
}

func TestLineCanBeTyped(t *testing.T) {
	argv := []string{"printf", `%s\n`, "plain-1.2/3_4:5,6@7%8+9=", "", "two words", "it's", "$HOME", "a\nb", "ß", "*"}
	line := Line(argv)
	if want := `printf '%s\n' plain-1.2/3_4:5,6@7%8+9= '' 'two words' 'it'\''s' '$HOME' 'a` + "\n" + `b' 'ß' '*'`; line != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	r := shell(t, line)
	if want := strings.Join(argv[2:], "\n") + "\n"; r.Err != nil || r.Output != want {
		t.Errorf("error %v, the shell understood %q", r.Err, r.Output)
	}
}
