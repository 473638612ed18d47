package e2e

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestStartPreparesNothing: what a package prepares before main is prepared in each
// healthy check, though it needs none of it: a regular expression takes 50 µs. Tables
// and expressions are made by functions; a constant error is made by the compiler.
func TestStartPreparesNothing(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1") // runtime: a line for each package that prepares something
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "init net/http @") {
		t.Fatalf("%v\n%s", err, out)
	}
	few := []string{"pingover/internal/config", "pingover/internal/lab"} // a sync.OnceValue or three
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "init" && strings.HasPrefix(f[1], "pingover/") && !slices.Contains(few, f[1]) {
			t.Errorf("prepared at each start: %s", line)
		}
	}
}
