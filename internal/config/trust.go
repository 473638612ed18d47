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

// whoElseWrites says who but root could write to a file, or put another one in
// its place.
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

// trust is what speaks against a file.
type trust struct {
	path     string
	problems Problems
}

// refuse notes a problem with the file, or with what else leads to it, and
// what mends that.
func (t *trust) refuse(what, why, mend, path string) {
	text := why + ", and it names commands that root runs; after reviewing it: "
	if what != "" {
		text = what + " " + path + " " + why + ", and the file names commands that root runs; after reviewing it, move it into /etc, or: "
	}
	p := Problem{Place: t.path, Text: text + mend + " " + proc.Line([]string{path}), Code: exit.Config}
	if !slices.Contains(t.problems, p) {
		t.problems = append(t.problems, p)
	}
}

// walk looks at each directory and each symbolic link on the way to the file.
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
		t.look(next, info, top)
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

// look looks at a directory or a symbolic link. In a sticky directory others
// cannot replace what is not theirs. Who owns / is root, whom a user namespace
// may know by another number.
func (t *trust) look(path string, info, top fs.FileInfo) {
	what, mend := "the directory", "chown root"
	mode := info.Mode()
	link := mode&fs.ModeSymlink != 0
	if link {
		what, mend = "the symbolic link", "chown -h root"
	}
	if !link && !mode.IsDir() { // the file itself
		return
	}
	if id := owner(info); id != 0 && id != owner(top) {
		t.refuse(what, fmt.Sprintf("belongs to user %d", id), mend, path)
	}
	if !link && othersWrite(info) && mode&fs.ModeSticky == 0 {
		t.refuse(what, fmt.Sprintf("can be written to by others (%s)", mode), "chmod go-w", path)
	}
}

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// othersWrite says whether others than its owner may write to a file.
func othersWrite(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
