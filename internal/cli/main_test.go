package cli

import (
	"os"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // root refuses what others could have written
	os.Exit(m.Run())
}
