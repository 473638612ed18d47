package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pingover/internal/lab"
)

// settings are such as name a command and a secret.
func settings() map[string][]string {
	return map[string][]string{"host": {"172.16.0.2"}, "pre-takeover": {"fence --password secret"}}
}

func wantSettings(t *testing.T, d Dir, want map[string][]string) {
	t.Helper()
	got, err := d.Settings("web")
	ok(t, err)
	if diff := same(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSettingsAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	d := Dir(filepath.Join(t.TempDir(), "not", "yet"))
	_, err := d.Settings("web")
	wantError(t, err, "no settings of an earlier check are kept")
	ok(t, d.SaveSettings("web", settings()))
	wantSettings(t, d, settings())
	path := d.path("web", ".settings")
	wantText(t, path, `{"version":1,"settings":{"host":["172.16.0.2"],"pre-takeover":["fence --password secret"]}}`+"\n")
	before, err := os.Stat(path)
	ok(t, err)
	if before.Mode() != 0o600 {
		t.Errorf("mode %s, want 0600", before.Mode())
	}
	ok(t, d.SaveSettings("web", settings()))
	after, err := os.Stat(path)
	ok(t, err)
	if !os.SameFile(before, after) {
		t.Error("what had not changed was written again")
	}
	changed := settings()
	changed["host"] = []string{"172.16.0.3"}
	ok(t, d.SaveSettings("web", changed))
	wantSettings(t, d, changed)
}

// TestSettingsOfTheFirstEditionAreCarriedOver: they were in the record, which
// anybody can read.
func TestSettingsOfTheFirstEditionAreCarriedOver(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile("testdata/first-edition.json")
	ok(t, err)
	want := map[string][]string{"host": {"172.16.0.2"}, "vip": {"172.16.0.1"}}
	for name, newer := range map[string]map[string][]string{"they are the only ones": nil, "a check has saved newer ones": settings()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Dir(t.TempDir())
			write(t, d.path("web", ".json"), string(first))
			wantSettings(t, d, want)
			rec, err := d.Load("web", false)
			ok(t, err)
			want := want
			if newer != nil {
				ok(t, d.SaveSettings("web", newer))
				want = newer
			}
			ok(t, d.Save(rec, false))
			wantSettings(t, d, want)
			saved, err := os.ReadFile(d.path("web", ".json"))
			ok(t, err)
			if strings.Contains(string(saved), `"settings"`) {
				t.Errorf("the record still has them: %s", saved)
			}
		})
	}
}

// TestSettingsThatOthersCouldHaveWrittenAreIgnored: root would run what they
// name.
func TestSettingsThatOthersCouldHaveWrittenAreIgnored(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile("testdata/first-edition.json")
	ok(t, err)
	const ignored = "; settings name commands to run, ignored"
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, d Dir, path string)
		want  string
	}{
		{"its mode", func(t *testing.T, d Dir, path string) { ok(t, os.Chmod(path, 0o622)) }, "FILE can be written to by others" + ignored},
		{"its owner", func(t *testing.T, d Dir, path string) { chown(t, path) }, "FILE belongs to user 7" + ignored},
		{"the owner of the directory", func(t *testing.T, d Dir, path string) { chown(t, string(d)) }, "the directory DIR belongs to user 7" + ignored},
		{"the mode of the directory", func(t *testing.T, d Dir, path string) {
			if os.Geteuid() != 0 {
				lab.Skip(t, "only root's directories are looked at")
			}
			ok(t, os.Chmod(string(d), 0o775))
		}, "the directory DIR can be written to by others (drwxrwxr-x)" + ignored},
		{"a link to elsewhere", func(t *testing.T, d Dir, path string) {
			ok(t, os.Rename(path, path+".other"))
			ok(t, os.Symlink(path+".other", path))
		}, "FILE is a symbolic link, and pingover's own files never are"},
	} {
		for _, file := range []string{".settings", ".json"} {
			t.Run(test.name+" of "+file, func(t *testing.T) {
				t.Parallel()
				d := Dir(filepath.Join(t.TempDir(), "state"))
				ok(t, os.Mkdir(string(d), 0o755))
				ok(t, os.Chmod(filepath.Dir(string(d)), 0o755))
				path := d.path("web", file)
				if file == ".settings" {
					ok(t, d.SaveSettings("web", settings()))
				} else {
					write(t, path, string(first))
				}
				_, err := d.Settings("web")
				ok(t, err)
				test.spoil(t, d, path)
				want := strings.NewReplacer("FILE", path, "DIR", string(d)).Replace(test.want)
				_, err = d.Settings("web")
				wantError(t, err, want)
				if rec, err := d.Load("web", false); err == nil && rec.Settings != nil {
					t.Errorf("they are in the record: %v", rec.Settings)
				}
			})
		}
	}
}

func chown(t *testing.T, path string) {
	t.Helper()
	if err := os.Chown(path, 7, -1); err != nil {
		lab.Skip(t, err)
	}
}

func TestSettingsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "PATH is corrupt (unexpected end of JSON input), ignored",
		`{"version":2}`:                "PATH is corrupt (its version is 2, this program knows 1), ignored",
		`{"version":1,"settings":{}}`:  "no settings of an earlier check are kept",
		strings.Repeat(" ", 4<<20+100): "PATH: it is too large",
	} {
		d := Dir(t.TempDir())
		path := d.path("web", ".settings")
		write(t, path, text)
		_, err := d.Settings("web")
		wantError(t, err, strings.ReplaceAll(want, "PATH", path))
		ok(t, d.SaveSettings("web", settings()))
		wantSettings(t, d, settings())
	}
}
