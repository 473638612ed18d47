package vip

import (
	"os"
	"sync"
	"testing"

	"pingover/internal/lab"
)

// TestMain goes into namespaces of its own where the tests do not run as root.
func TestMain(m *testing.M) {
	inside, code, err := lab.Enter()
	if err == nil && !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

var labAvailable = sync.OnceValue(lab.Available)

// needLab is an empty lab. The test is skipped where there can be none, or
// fails if PINGOVER_TEST_NO_SKIP is set.
func needLab(t testing.TB) *lab.Lab {
	t.Helper()
	if err := labAvailable(); err != nil {
		if os.Getenv("PINGOVER_TEST_NO_SKIP") != "" {
			t.Fatalf("no lab here: %v", err)
		}
		t.Skipf("no lab here: %v", err)
	}
	l, err := lab.New()
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
