package cli

import (
	"os"
	"syscall"
	"testing"

	"pingover/internal/lab"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022)   // root refuses what others could have written
	if os.Geteuid() == 0 { // with a /var/lib/pingover of its own
		if inside, code, err := lab.EnterHost(); err == nil && !inside {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}
