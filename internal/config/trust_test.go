package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
)

// A user who can write to the directory of the file, or change a link to it,
// can put another one in its place.
func TestTheWayToTheFileIsRootsToo(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Skip(t, "only root can give files away")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	mode := func(path string, mode fs.FileMode) error { return os.Chmod(path, mode) } // whatever the umask
	if err := errors.Join(mode(filepath.Dir(dir), 0o755), mode(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]fs.FileMode{
		"safe":       0o755,
		"group's":    0o775,
		"open":       0o777,
		"open/safe":  0o755,
		"sticky":     0o777 | fs.ModeSticky,
		"sticky/sub": 0o755,
		"user":       0o755,
		"user/open":  0o757,
	} {
		if err := errors.Join(os.MkdirAll(at(name), 0o755), mode(at(name), m), os.WriteFile(at(name+"/f"), nil, 0o644), mode(at(name+"/f"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"to-safe":        "safe",
		"to-file":        dir + "/safe/f",
		"through-open":   "safe/../open/../safe/f",
		"twice":          "open/link",
		"open/link":      "../safe/f",
		"sticky/root's":  "../safe/f",
		"sticky/user's":  "../safe/f",
		"sticky/to-user": "user's",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Lchown(at("user"), 1000, 0), os.Lchown(at("user/open"), 1001, 0), os.Lchown(at("sticky/user's"), 1000, 0)); err != nil {
		lab.Skip(t, err)
	}
	t.Chdir(at("safe"))

	const names = ", and the file names commands that root runs; after reviewing it, move it into /etc, or: "
	writable := func(name, mode, quoted string) string {
		return "the directory " + at(name) + " can be written to by others (" + mode + ")" + names + "chmod go-w " + quoted
	}
	open := writable("open", "drwxrwxrwx", at("open"))
	users := "the directory " + at("user") + " belongs to user 1000" + names + "chown root " + at("user")
	link := "the symbolic link " + at("sticky/user's") + " belongs to user 1000" + names + `chown -h root '` + dir + `/sticky/user'\''s'`
	for path, want := range map[string][]string{
		at("safe/f"):         nil,
		at("sticky/f"):       nil,
		at("sticky/sub/f"):   nil,
		at("sticky/root's"):  nil,
		at("to-safe/f"):      nil,
		at("to-file"):        nil,
		"f":                  nil,
		"./../sticky//f":     nil,
		at("group's/f"):      {writable("group's", "drwxrwxr-x", `'`+dir+`/group'\''s'`)},
		at("open/f"):         {open},
		at("open") + "//f":   {open},
		at("open/safe/f"):    {open},
		"../open/safe/../f":  {open},
		at("open/link"):      {open},
		at("twice"):          {open},
		at("through-open"):   {open},
		at("user/f"):         {users},
		at("sticky/user's"):  {link},
		at("sticky/to-user"): {link},
		at("user/open/f"): {
			users,
			"the directory " + at("user/open") + " belongs to user 1001" + names + "chown root " + at("user/open"),
			writable("user/open", "drwxr-xrwx", at("user/open")),
		},
	} {
		for i := range want {
			want[i] = path + ": " + want[i]
		}
		_, err := ReadFile(path, true)
		if diff := cmp.Diff(strings.Join(want, "\n"), text(err)); diff != "" {
			t.Errorf("%s: -want +got\n%s", path, diff)
		}
		if _, err := ReadFile(path, false); err != nil {
			t.Errorf("%s, not for root: %v", path, err)
		}
	}
}

// Who can replace the certificate reads the mail, and the password with it.
func TestCredentialsThatOthersCanWriteTo(t *testing.T) {
	if os.Geteuid() != 0 {
		lab.Skip(t, "only root can give files away")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode fs.FileMode, owner int) string {
		t.Helper()
		err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o755), os.WriteFile(at(name), []byte(text), 0o600), os.Chmod(at(name), mode))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(at(name), owner, -1); err != nil {
			lab.Skip(t, err)
		}
		return at(name)
	}
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	ca := certificate(t)
	open := write("open/ca.pem", ca, 0o644, 0)
	if err := os.Chmod(at("open"), 0o777); err != nil {
		t.Fatal(err)
	}
	for setting, c := range map[string]struct{ path, want string }{
		"mail-ca":            {write("ca.pem", ca, 0o664, 0), "PATH can be written to by others, so root does not use it; after reviewing it: chmod go-w PATH"},
		"mail-password-file": {write("password", "secret\n", 0o600, 1000), "PATH belongs to user 1000, so root does not use it; after reviewing it: chown root PATH"},
	} {
		values := map[string][]string{"host": {"h"}, "name": {"web"}, "mail-user": {"ops"}, setting: {c.path}}
		env := rootOn("standby", "PINGOVER_MAIL_PASSWORD=secret")
		_, err := FromFlags(values, env)
		want := strings.ReplaceAll(c.want, "PATH", c.path)
		if got := "--" + setting + ` "` + c.path + `": ` + want; text(err) != got {
			t.Errorf("a new cluster: %v\nwant %s", err, got)
		}
		env.Checked = func(string, string) bool { return true }
		cluster, err := FromFlags(values, env)
		if err != nil || len(cluster.Mail.Unusable) != 1 {
			t.Errorf("one that was checked before: %v, %v", cluster.Mail.Unusable, err)
		}
		if _, _, err := cluster.Mail.Credentials(); text(err) != setting+` "`+c.path+`": `+want {
			t.Errorf("its credentials: %v", err)
		}
	}
	want := "--mail-ca \"" + open + "\": the directory " + at("open") + " can be written to by others (drwxrwxrwx), so root does not use it; after reviewing it: chmod go-w " + at("open")
	if _, err := FromFlags(map[string][]string{"host": {"h"}, "mail-ca": {open}}, rootOn("standby")); text(err) != want {
		t.Errorf("in an open directory: %v\nwant %s", err, want)
	}
}
