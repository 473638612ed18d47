package failover

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

	"pingover/internal/proc"
	"pingover/state"
)

// examineHooks looks whether the operator's commands can be run, and who may
// change them.
func (e *examination) examineHooks() {
	for _, name := range []string{preTakeover, state.PostTakeover, preRelease, state.PostRelease} {
		argv := e.hookOf(name)
		if argv == nil {
			continue
		}
		path, err := proc.Find(argv[0])
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			e.fail("mend that, or give another command", "%s: %v", name, err)
			continue
		}
		if open := openToOthers(path); open != (exposure{}) {
			e.warn(open.mend, "%s: %s, and what is in it is run with this process's rights", name, open.what)
			continue
		}
		e.good("%s: %s", name, proc.Line(argv))
	}
}

// executable says what keeps a program, or the interpreter of a script, from
// being run.
func executable(path string) error {
	if err := runnable(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	interpreter, err := interpreterOf(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if interpreter == "" {
		return nil
	}
	if err := runnable(interpreter); err != nil {
		return fmt.Errorf("%s: its interpreter %q: %w", path, interpreter, err)
	}
	return nil
}

// runnable says what is wrong with a file that is to be run, whatever is in it.
func runnable(path string) error {
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
	if err := accessible(path, unix.X_OK); err != nil {
		return fmt.Errorf("not executable: %w", err)
	}
	return nil
}

// interpreterOf is what the kernel starts for a script, "" for a program. The
// error is that it is neither, which no shell makes up for here.
func interpreterOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", nil // a program that may be run, but not read
	}
	defer f.Close()
	head := make([]byte, 256) // the kernel looks no further
	n, _ := io.ReadFull(f, head)
	line, script := bytes.CutPrefix(head[:n], []byte("#!"))
	switch {
	case bytes.HasPrefix(head[:n], []byte(elf.ELFMAG)):
		return "", nil
	case !script:
		return "", errors.New("neither a program nor a script with #! in its first line")
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	// A carriage return belongs to the name, as it does to the kernel.
	words := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	switch {
	case len(words) == 0:
		return "", errors.New("its first line names no interpreter")
	case filepath.Base(words[0]) == "env" && len(words) == 2 && !strings.HasPrefix(words[1], "-"):
		interpreter, err := proc.Find(words[1])
		if err != nil {
			err = fmt.Errorf("its interpreter %w", err)
		}
		return interpreter, err
	}
	return words[0], nil
}
