package vip

import (
	"os"
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
