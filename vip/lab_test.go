package vip

import (
	"flag"
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
	flag.Set("test.parallel", "32") // these tests mostly wait; a flag of the command line overrides it
	os.Exit(m.Run())
}
