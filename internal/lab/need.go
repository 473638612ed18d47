package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"

	"pingover/internal/proc"
)

// T is a test or a benchmark of package testing, which this package does not import: it is part of the demo too.
type T interface {
	Name() string
	Helper()
	Cleanup(func())
	Error(args ...any)
	Fatal(args ...any)
	Skip(args ...any)
}

// Skip skips a test, with the reason, for something that this machine lacks. With PINGOVER_TEST_NO_SKIP in the
// environment the test fails instead.
func Skip(t T, reason any) {
	t.Helper()
	if os.Getenv("PINGOVER_TEST_NO_SKIP") != "" {
		t.Fatal(reason)
	} else {
		t.Skip(reason)
	}
}

// Need finds the program that a test is about. Without it the test is skipped, and the reason names the Debian package
// that has it.
func Need(t T, program, debian string) (path string) {
	t.Helper()
	path, err := proc.Find(program)
	if err == nil {
		path, err = exec.LookPath(path)
	}
	if err != nil {
		Skip(t, program+" is missing: install the Debian package "+debian)
	}
	return path
}

// LongRun tells whether this run includes what takes minutes: PINGOVER_TEST_LONG is in the environment.
func LongRun() bool { return os.Getenv("PINGOVER_TEST_LONG") != "" }

// Long skips a test that takes minutes, unless this is a LongRun.
func Long(t T) {
	t.Helper()
	if !LongRun() {
		t.Skip("it takes minutes: set PINGOVER_TEST_LONG=1")
	}
}

// Again are the arguments with which a test binary runs one test once more.
func Again(t T) []string {
	parts := strings.Split(t.Name(), "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return []string{"-test.v", "-test.run=" + strings.Join(parts, "/")}
}

// RunAgain runs a test once more, in another process, by a command that ends in the arguments of Again. A failure
// there is one of the test, and so is a skip. The error says that the command could not be started.
func RunAgain(t T, cmd *exec.Cmd) error {
	t.Helper()
	out, err := cmd.CombinedOutput()
	switch _, ended := errors.AsType[*exec.ExitError](err); {
	case err != nil && !ended:
		return err
	case err != nil:
		t.Fatal(fmt.Sprintf("in a process of its own: %v\n%s", err, out))
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" ")):
		t.Skip(fmt.Sprintf("in a process of its own: %s", out))
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
		t.Fatal(fmt.Sprintf("it did not run in a process of its own:\n%s", out))
	}
	return nil
}

var available = sync.OnceValue(Available)

// Needed skips a test where no lab can be made.
func Needed(t T) {
	t.Helper()
	if err := available(); err != nil {
		Skip(t, err)
	}
}

// ForTest makes a lab with an empty switch that is closed at the end of the test. Where no lab can be made, the test is
// skipped.
func ForTest(t T) *Lab {
	t.Helper()
	Needed(t)
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
