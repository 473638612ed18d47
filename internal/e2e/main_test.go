package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"pingover/internal/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run runs the tests where hosts and switches can be made: here as root, else
// in a user namespace. Where that fails, each test that needs a lab is skipped
// with the reason.
func run(m *testing.M) int {
	if filepath.Base(os.Args[0]) == restrictedAs {
		return restrict(os.Args[1:])
	}
	os.Setenv("LC_ALL", "C.UTF-8") // of the arrows and dots that are expected
	if inside, code, err := lab.Enter(); err == nil && !inside {
		return code
	}
	if err := os.Chdir("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv("GORACE", quickExit)
	syscall.Umask(0o022) // root refuses files that others could have written
	defer removeBinary()
	// Under nohup our children would ignore the hangup that a test sends them; a
	// signal that is caught here is not ignored there.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	flag.Set("test.parallel", "64") // the limit is that of scenes; a flag of the command line overrides it
	return m.Run()
}

// quickExit is the value of GORACE without which each of our processes sleeps
// a second at its end under -race.
const quickExit = "atexit_sleep_ms=0"
