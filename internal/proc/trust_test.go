package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatTheKernelWouldNotRun(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	dynamic, err := os.ReadFile("/bin/sh")
	must(t, err)
	shell, loader := string(dynamic), regexp.MustCompile(`/lib[^\x00]*/ld-[^\x00]+`).FindString(string(dynamic))
	const neither = "FILE: neither a program nor a script with #! in its first line"
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"a program", string(program[:64]), 0o700, ""},
		{"a program and its loader", shell, 0o700, ""},
		{"a program for another libc", strings.Replace(shell, "/ld-", "/no-", 1), 0o700, "FILE: its interpreter " + strconv.Quote(strings.Replace(loader, "/ld-", "/no-", 1)) + ": no such file or directory"},
		{"a script", "#!/bin/sh -e\nexit\n", 0o700, ""},
		{"a script, with a blank", "#! /bin/sh\n", 0o700, ""},
		{"a script for what is found in PATH", "#!/usr/bin/env sh\n", 0o700, ""},
		{"a script without execute permission", "#!/bin/sh\n", 0o600, "FILE: not executable: permission denied"},
		{"an interpreter that is missing", "#!/nonexistent/sh\n", 0o700, `FILE: its interpreter "/nonexistent/sh": no such file or directory`},
		{"lines that end as in DOS", "#!/bin/sh\r\n", 0o700, `FILE: its interpreter "/bin/sh\r": no such file or directory`},
		{"an interpreter that is a directory", "#!/bin\n", 0o700, `FILE: its interpreter "/bin": not a regular file`},
		{"an interpreter that is not in PATH", "#!/usr/bin/env nosuchshell\n", 0o700, `FILE: its interpreter "nosuchshell" not found in ` + strings.Join(folders(), ":")},
		{"no interpreter", "#!\n/bin/sh\n", 0o700, "FILE: its first line names no interpreter"},
		{"a script without its first line", "echo hello\n", 0o700, neither},
		{"garbage", "\x00\x01\x02", 0o700, neither},
		{"nothing", "", 0o700, neither},
	} {
		file := filepath.Join(t.TempDir(), "hook")
		must(t, os.WriteFile(file, []byte(test.text), test.mode))
		got := ""
		path, err := Runnable([]string{file, "-x"})
		if err != nil {
			got = strings.ReplaceAll(err.Error(), file, "FILE")
		}
		if got != test.want || path != file {
			t.Errorf("%s: %q, %q, want %q, %q", test.name, path, got, file, test.want)
		}
	}
	if path, err := Runnable([]string{"sh"}); err != nil || !filepath.IsAbs(path) {
		t.Errorf("sh in PATH: %q, %v", path, err)
	}
	if _, err := Runnable([]string{"/none"}); err == nil || err.Error() != "/none: no such file or directory" {
		t.Errorf("a file that is missing: %v", err)
	}
}

// TestFileInADirectoryThatOthersCanWriteTo can be replaced, unless the
// directory is sticky.
func TestFileInADirectoryThatOthersCanWriteTo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hook")
	must(t, os.WriteFile(path, nil, 0o700))
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	for _, test := range []struct {
		mode os.FileMode
		want []Exposure
	}{
		{0o755, nil},
		{0o777 | os.ModeSticky, nil},
		{0o777, []Exposure{{dir, "directory", "can be written to by others (drwxrwxrwx)", "chmod go-w " + dir}}},
	} {
		must(t, os.Chmod(dir, test.mode))
		got, err := WritableByOthers(path, nil)
		must(t, err)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.mode, diff)
		}
		for _, e := range got {
			if want := "the directory " + dir + " can be written to by others (drwxrwxrwx)"; e.String() != want {
				t.Errorf("%q, want %q", e, want)
			}
		}
	}
	if _, err := WritableByOthers(dir+"/none", nil); err == nil {
		t.Error("a file that is missing: no error")
	}
}

// Root runs nothing that another user can write to or replace, whatever it is: a hook, sendmail, or the tool.
func TestRootRunsOnlyWhatOthersCannotChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	const nobody = 65534
	script := func(name, interpreter string, mode os.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("#!"+interpreter+"\necho ran\n"), 0o700))
		must(t, os.Chown(path, uid, 0))
		must(t, os.Chmod(path, mode))
		return path
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(script("target", "/bin/sh", 0o755, nobody), link))
	shell := filepath.Join(dir, "shell")
	data, err := os.ReadFile("/bin/sh")
	must(t, err)
	must(t, os.WriteFile(shell, data, 0o700))
	must(t, os.Chown(shell, nobody, 0))
	pipe := filepath.Join(dir, "pipe")
	must(t, syscall.Mkfifo(pipe, 0o700))
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	must(t, err)
	defer w.Close()
	for _, test := range []struct{ name, path, want string }{
		{"root's own", script("own", "/bin/sh", 0o755, 0), ""},
		{"writable by all", script("all", "/bin/sh", 0o777, 0), dir + "/all can be written to by others"},
		{"of another user", script("other", "/bin/sh", 0o755, nobody), dir + "/other belongs to user 65534"},
		{"a link to one", link, link + " belongs to user 65534"},
		{"its interpreter is another user's", script("odd", shell, 0o755, 0), shell + " belongs to user 65534"},
		{"a pipe that says nothing", pipe, "permission denied"},
	} {
		r := Run(t.Context(), Command{Argv: []string{test.path}, Timeout: 5 * time.Second})
		if test.want == "" {
			if r.Err != nil || r.Output != "ran\n" {
				t.Errorf("%s: %v, %q", test.name, r.Err, r.Output)
			}
			continue
		}
		if test.want != "permission denied" {
			test.want += ", so root does not run it"
		}
		if want := test.path + ": not started: " + test.want; r.Err == nil || r.Err.Error() != want || r.Output != "" || r.Code != -1 {
			t.Errorf("%s: %v, output %q, want %s", test.name, r.Err, r.Output, want)
		}
	}
}

// owned is a file's information with another owner.
type owned struct {
	os.FileInfo
	uid uint32
}

func (o owned) Sys() any { return &syscall.Stat_t{Uid: o.uid} }

func TestWhoCanWriteToAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook")
	me, somebody := uint32(os.Geteuid()), uint32(os.Geteuid()+7)
	for _, test := range []struct {
		mode os.FileMode
		uid  uint32
		want string
	}{
		{0o755, me, ""},
		{0o755, 0, ""},
		{0o755, somebody, fmt.Sprintf("%s belongs to user %d", path, somebody)},
		{0o775, me, path + " can be written to by others"},
		{0o757, me, path + " can be written to by others"},
	} {
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chmod(path, test.mode))
		info, err := os.Stat(path)
		must(t, err)
		got := ""
		for _, e := range FileWritableByOthers(path, owned{info, test.uid}) {
			got = e.String()
		}
		if got != test.want {
			t.Errorf("%s of %d: %q, want %q", test.mode, test.uid, got, test.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
