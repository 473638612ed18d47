package cli

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/config"
	"pingover/internal/failover"
	"pingover/state"
)

// full is a stdout that takes nothing.
type full struct{ error }

func (f full) Write([]byte) (int, error) { return 0, f.error }

// printedTo is run, with another stdout.
func (p Program) printedTo(stdout full, args ...string) printed {
	var stderr strings.Builder
	p.Stdout, p.Stderr = stdout, &stderr
	code := p.Run(context.Background(), args)
	return printed{Code: code, Stderr: stderr.String()}
}

// What is there to print has failed where it cannot; what acts tells by its code
// how that ended. It is said once, however much there is to print.
func TestWhatCannotBePrinted(t *testing.T) {
	dir := checked(t, "db", "web")
	remember(t, dir, &state.Record{
		Head:     state.Head{Name: "db", Changes: []state.Change{pastTakeover("1", ago(0)), pastTakeover("2", ago(0))}},
		Settings: map[string][]string{"host": {"172.16.0.3"}, "vip": {"172.16.0.5"}},
	})
	path := fileOf(t, "web", "db")
	p := handed(ends(state.TookOver))
	p.Check = p.TakeOver
	p.Examine = physician(func(config.Cluster, bool) []failover.Finding { return []failover.Finding{sound} }).Examine
	for _, test := range []struct {
		args       string
		code, pipe int // where the disk is full, and where nobody reads
	}{
		{"status", 74, 0},
		{"status --json", 74, 0},
		{"status --monitoring", 3, 3}, // never checked
		{"history", 74, 0},
		{"history --json", 74, 0},
		{"doctor -f " + path, 74, 0},
		{"completion bash", 74, 0},
		{"completion clusters", 74, 0},
		{"help", 74, 0},
		{"help check", 74, 0},
		{"--version", 74, 0},
		{"check --json -q -f " + path, 11, 11},
		{"watch --for 1s --json -f " + path, 0, 0},
		{"takeover --json --all", 11, 11},
		{"release --json --all", 11, 11},
	} {
		t.Run(test.args, func(t *testing.T) {
			args := strings.Fields(test.args)
			if args[0] != "help" && args[0] != "--version" {
				args = append(args, "--state-dir", dir)
			}
			told := func(got printed) string { // but for what acted
				return strings.Replace(strings.Replace(got.Stderr, "pingover: web: took-over: why\n", "", 1), "pingover: db: took-over: why\n", "", 1)
			}
			got := p.printedTo(full{syscall.ENOSPC}, args...)
			if got.Code != test.code || told(got) != "pingover: stdout: no space left on device\n" {
				t.Errorf("full: %+v", got)
			}
			got = p.printedTo(full{syscall.EPIPE}, args...)
			if got.Code != test.pipe || told(got) != "" {
				t.Errorf("closed: %+v", got)
			}
		})
	}
	well := checked(t)
	remember(t, well, &state.Record{Head: state.Head{Name: "web", Last: &state.Check{Time: time.Now(), Outcome: state.OK}}})
	want(t, p.printedTo(full{syscall.ENOSPC}, "status", "--monitoring", "--state-dir", well), printed{Code: 3, Stderr: "pingover: stdout: no space left on device\n"})
}
