package lab

import (
	"os"
	"os/exec"
	"sync"

	"pingover/internal/proc"
)

// T is a test or a benchmark of package testing, which this package does not import: it is part of the demo too.
type T interface {
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
	}
	t.Skip(reason)
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

// Long skips a test that takes minutes, unless PINGOVER_TEST_LONG is in the environment.
func Long(t T) {
	t.Helper()
	if os.Getenv("PINGOVER_TEST_LONG") == "" {
		t.Skip("it takes minutes: set PINGOVER_TEST_LONG=1")
	}
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
