package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"pingover/internal/exit"
	"pingover/internal/proc"
)

// mostLinks is how many symbolic links the kernel follows in one path
// (path_resolution(7)).
const mostLinks = 40

// whoElseWrites checks that nobody but root can write to a file or replace it.
func whoElseWrites(path string, file fs.FileInfo) Problems {
	t := trust{path: path}
	if id := owner(file); id != 0 {
		t.refuse("", fmt.Sprintf("belongs to user %d", id), "chown root", path)
	}
	if othersWrite(file) {
		t.refuse("", "can be written to by others", "chmod go-w", path)
	}
	if err := t.walk(); err != nil {
		t.problems = append(t.problems, Problem{Place: path, Text: unreadable(err).Error(), Code: exit.Config})
	}
	return t.problems
}

// trust collects what makes a file untrusted.
type trust struct {
	path     string
	problems Problems
}

// refuse notes a problem with the file, or with a directory or link that leads to
// it, and the command that fixes it.
func (t *trust) refuse(what, why, fix, path string) {
	text := why + ", and it names commands that root runs; after reviewing it: "
	if what != "" {
		text = what + " " + path + " " + why + ", and the file names commands that root runs; after reviewing it, move it into /etc, or: "
	}
	p := Problem{Place: t.path, Text: text + fix + " " + proc.Line([]string{path}), Code: exit.Config}
	if !slices.Contains(t.problems, p) {
		t.problems = append(t.problems, p)
	}
}

// walk checks each directory and each symbolic link on the way to the file.
func (t *trust) walk() error {
	rest := t.path
	if !filepath.IsAbs(rest) {
		dir, err := unix.Getwd()
		if err != nil {
			return err
		}
		rest = dir + "/" + rest
	}
	top, err := os.Stat("/")
	if err != nil {
		return err
	}
	here, name := "/", ""
	for links := 0; rest != "" && links <= mostLinks; {
		name, rest, _ = strings.Cut(rest, "/")
		if name == ".." {
			here = filepath.Dir(here)
			continue
		}
		next := filepath.Join(here, name)
		info, err := os.Lstat(next)
		if err != nil {
			return err
		}
		t.check(next, info, top)
		if info.Mode()&fs.ModeSymlink == 0 {
			here = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			here = "/"
		}
		rest = target + "/" + rest
		links++
	}
	return nil
}

// check checks a directory or a symbolic link. In a sticky directory others cannot
// replace what is not theirs. The owner of / is root, which may have another
// number in a user namespace.
func (t *trust) check(path string, info, top fs.FileInfo) {
	what, fix := "the directory", "chown root"
	mode := info.Mode()
	link := mode&fs.ModeSymlink != 0
	if link {
		what, fix = "the symbolic link", "chown -h root"
	}
	if !link && !mode.IsDir() { // the file itself
		return
	}
	if id := owner(info); id != 0 && id != owner(top) {
		t.refuse(what, fmt.Sprintf("belongs to user %d", id), fix, path)
	}
	if !link && othersWrite(info) && mode&fs.ModeSticky == 0 {
		t.refuse(what, fmt.Sprintf("can be written to by others (%s)", mode), "chmod go-w", path)
	}
}

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// othersWrite reports whether users other than its owner may write to a file.
func othersWrite(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
