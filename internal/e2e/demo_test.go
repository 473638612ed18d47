package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"pingover/internal/lab"
)

// The demo by its command; internal/demo tests its text.
func TestDemo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a whole demo takes 10 seconds: it does not run with -short")
	}
	lab.Needed(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), path, "demo")
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil || stderr.Len() > 0 || !strings.Contains(string(stdout), "\nEvery step was verified, in ") {
		t.Errorf("%v\nstdout: %s\nstderr: %s", err, stdout, &stderr)
	}
}
