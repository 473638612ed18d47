package proc

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Runnable finds the program of a command line and says what would keep the kernel from running it: its mode, the first
// line of a script, or the interpreter or loader that is named there. The path is returned with an error, too, where there is one.
func Runnable(argv []string) (path string, err error) {
	path, err = Find(argv[0])
	if err != nil {
		return "", err
	}
	if err := Executable(path); err != nil {
		return path, fmt.Errorf("%s: %w", path, err)
	}
	interpreter, err := interpreterOf(path)
	if err != nil {
		return path, fmt.Errorf("%s: %w", path, err)
	}
	if interpreter == "" {
		return path, nil
	}
	if err := Executable(interpreter); err != nil {
		return path, fmt.Errorf("%s: its interpreter %q: %w", path, interpreter, err)
	}
	return path, nil
}

// Executable says why a file cannot be run by this process, whatever is in it.
func Executable(path string) error {
	info, err := os.Stat(path)
	if wrong, ok := errors.AsType[*fs.PathError](err); ok {
		err = wrong.Err
	}
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("not executable: %w", err)
	}
	return nil
}

// interpreterOf is what the kernel starts for a script, and the loader of a program, "" for one without. The error is that it is neither: a shell
// would run such a file itself, the kernel does not.
func interpreterOf(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", nil // a program that may be run, but not read
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // at a pipe it would wait
		return "", err
	}
	head := make([]byte, 256) // the kernel reads no further (BINPRM_BUF_SIZE)
	n, _ := io.ReadFull(f, head)
	line, script := bytes.CutPrefix(head[:n], []byte("#!"))
	switch {
	case bytes.HasPrefix(head[:n], []byte(elf.ELFMAG)):
		return loaderOf(f), nil
	case !script:
		return "", errors.New("neither a program nor a script with #! in its first line")
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	// A carriage return is part of the name, as it is to the kernel.
	words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	switch {
	case len(words) == 0:
		return "", errors.New("its first line names no interpreter")
	case filepath.Base(words[0]) == "env" && len(words) == 2 && !strings.HasPrefix(words[1], "-"):
		interpreter, err := Find(words[1])
		if err != nil {
			err = fmt.Errorf("its interpreter %w", err)
		}
		return interpreter, err
	}
	return words[0], nil
}

// loaderOf is the dynamic loader that a program names, "" where it names none. A program for another libc or
// architecture names one that is not on this machine, and the kernel then says that the program is not there.
func loaderOf(f io.ReaderAt) string {
	program, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz <= unix.PathMax {
			path, _ := io.ReadAll(p.Open())
			return strings.TrimRight(string(path), "\x00")
		}
	}
	return ""
}
