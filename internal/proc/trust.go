package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links the kernel follows in one path (path_resolution(7)).
const maxLinks = 40

// Exposure is one way by which a user other than root and our own can decide what is in a file.
type Exposure struct {
	Path string // the file itself, or a directory or symbolic link on the way to it
	Kind string // "" for the file, "directory", "symbolic link"
	Why  string // such as "belongs to user 1000"
	Fix  string // the command that ends it
}

func (e Exposure) String() string {
	if e.Kind == "" {
		return e.Path + " " + e.Why
	}
	return "the " + e.Kind + " " + e.Path + " " + e.Why
}

// WritableByOthers finds by whom else a file can be written, or replaced by another one: it must be ours or root's, and
// writable by its owner only, as must each directory and symbolic link on the way. In a sticky directory others cannot
// replace what is not theirs. file is what the file was opened as, nil for what path leads to now. The error is that
// something on the way cannot be looked at.
func WritableByOthers(path string, file fs.FileInfo) ([]Exposure, error) {
	if file == nil {
		var err error
		if file, err = os.Stat(path); err != nil {
			return nil, err
		}
	}
	top, err := os.Stat("/")
	if err != nil {
		return nil, err
	}
	root := top.Sys().(*syscall.Stat_t).Uid // in a user namespace it may be another number than 0
	found := exposed(path, "", file, 0, root, uint32(os.Geteuid()))
	err = eachOnTheWay(path, func(path string, info fs.FileInfo) {
		kind := "directory"
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			kind = "symbolic link"
		case !info.IsDir():
			return // the file itself
		}
		for _, e := range exposed(path, kind, info, 0, root, uint32(os.Geteuid())) {
			if !slices.Contains(found, e) {
				found = append(found, e)
			}
		}
	})
	return found, err
}

// UntrustedError is a program that root does not run, because another user can decide what it does.
type UntrustedError struct{ Exposure }

func (e *UntrustedError) Error() string { return e.String() + ", so root does not run it" }

// Program is a command line that may be run, and the setting it comes from.
type Program struct {
	Setting string
	Argv    []string
}

// Refusal is a program that root does not run, why, and how to fix that.
type Refusal struct{ Text, Fix string }

// Refused are those of the programs that trusted, which is Trusted, refuses.
func Refused(programs []Program, trusted func(argv []string) error) (all []Refusal) {
	for _, p := range programs {
		if err := trusted(p.Argv); err != nil {
			r := Refusal{Text: p.Setting + ": " + err.Error()}
			if e, ok := errors.AsType[*UntrustedError](err); ok {
				r.Fix = "after reviewing it: " + e.Fix
			}
			all = append(all, r)
		}
	}
	return all
}

// Trusted says why root must not run a command line: an *UntrustedError when others can write to or replace its program,
// or the interpreter of its first line. Other users run what they like, with their own rights. What cannot be found or
// read is no matter of trust.
func Trusted(argv []string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := Find(argv[0])
	if err != nil {
		return nil
	}
	interpreter, _ := interpreterOf(path)
	for _, file := range []string{path, interpreter} {
		if file == "" {
			continue
		}
		if exposed, err := WritableByOthers(file, nil); err == nil && len(exposed) > 0 {
			return &UntrustedError{exposed[0]}
		}
	}
	return nil
}

// FileWritableByOthers is WritableByOthers for the file or directory alone, whatever leads to it.
func FileWritableByOthers(path string, info fs.FileInfo) []Exposure {
	return exposed(path, "", info, 0, uint32(os.Geteuid()))
}

// exposed looks at one file, directory or link, which must belong to one of the owners.
func exposed(path, kind string, info fs.FileInfo, owners ...uint32) (found []Exposure) {
	add := func(fix, format string, args ...any) {
		found = append(found, Exposure{path, kind, fmt.Sprintf(format, args...), fix + " " + Line([]string{path})})
	}
	link := kind == "symbolic link"
	if id := info.Sys().(*syscall.Stat_t).Uid; !slices.Contains(owners, id) {
		chown := "chown"
		if link {
			chown = "chown -h"
		}
		owner := "root"
		if ours := os.Geteuid(); ours != 0 {
			owner = fmt.Sprint(ours)
		}
		add(chown+" "+owner, "belongs to user %d", id)
	}
	mode := info.Mode()
	switch {
	case link || mode.Perm()&0o022 == 0 || mode.IsDir() && mode&fs.ModeSticky != 0:
	case kind == "":
		add("chmod go-w", "can be written to by others")
	default:
		add("chmod go-w", "can be written to by others (%s)", mode)
	}
	return found
}

// eachOnTheWay visits each directory and symbolic link on the way to a file, and the file.
func eachOnTheWay(path string, visit func(path string, info fs.FileInfo)) error {
	rest := path
	if !filepath.IsAbs(rest) {
		dir, err := unix.Getwd()
		if err != nil {
			return err
		}
		rest = dir + "/" + rest
	}
	here, name := "/", ""
	for links := 0; rest != "" && links <= maxLinks; {
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
		visit(next, info)
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
