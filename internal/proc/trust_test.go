package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatTheKernelWouldNotRun(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	program, err := os.ReadFile(self)
	must(t, err)
	const neither = "FILE: neither a program nor a script with #! in its first line"
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"a program", string(program[:64]), 0o700, ""},
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
