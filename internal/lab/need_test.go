package lab

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorder is a test that notes how it ends, and goes on.
type recorder struct {
	T
	ended string
}

func (r *recorder) Name() string      { return "TestOther" }
func (r *recorder) Helper()           {}
func (r *recorder) Skip(args ...any)  { r.ended = "skipped: " + fmt.Sprint(args...) }
func (r *recorder) Fatal(args ...any) { r.ended = "failed: " + fmt.Sprint(args...) }

func TestMissingProgramIsASkipThatNamesItsPackage(t *testing.T) {
	const missing = "pingover-no-such-tool is missing: install the Debian package such-tools"
	for noSkip, want := range map[string]string{"": "skipped: " + missing, "1": "failed: " + missing} {
		t.Setenv("PINGOVER_TEST_NO_SKIP", noSkip)
		var r recorder
		if path := Need(&r, "pingover-no-such-tool", "such-tools"); path != "" || r.ended != want {
			t.Errorf("found at %q, %s; want %s", path, r.ended, want)
		}
	}
	if path := Need(t, "sh", "dash"); path == "" {
		t.Error("sh has no path")
	}
}

func TestSkipInAChildProcessIsASkip(t *testing.T) {
	for script, want := range map[string]string{
		"echo '--- PASS: TestOther (0.00s)'":         "",
		"echo '--- SKIP: TestOther (0.00s)'":         "skipped: in a process of its own: --- SKIP: TestOther (0.00s)\n",
		"echo '--- PASS: TestOther/part (0.00s)'":    "failed: it did not run in a process of its own:\n--- PASS: TestOther/part (0.00s)\n",
		"echo '--- FAIL: TestOther (0.00s)'; exit 1": "failed: in a process of its own: exit status 1\n--- FAIL: TestOther (0.00s)\n",
	} {
		var r recorder
		ok(t, RunAgain(&r, exec.Command("sh", "-c", script)))
		if diff := cmp.Diff(want, r.ended); diff != "" {
			t.Errorf("%s (-want +got):\n%s", script, diff)
		}
	}
	if err := RunAgain(new(recorder), exec.Command("/pingover-no-such-tool")); err == nil {
		t.Error("no error for a program that is missing")
	}
}
