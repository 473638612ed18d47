package cli

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/failover"
	"pingover/internal/run"
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
// how that ended. The error is reported once.
func TestWhatCannotBePrinted(t *testing.T) {
	dir := checked(t, "db", "web")
	remember(t, dir, &state.Record{
		Head:     state.Head{Name: "db", Recent: past(pastTakeover("1", ago(0)), pastTakeover("2", ago(0)))},
		Settings: map[string][]string{"host": {"172.16.0.3"}, "vip": {"172.16.0.5"}},
	})
	path := fileOf(t, "web", "db")
	p := handed(ends(state.TookOver))
	p.Check = p.TakeOver
	p.Examine = physician(func(config.Cluster, bool) []doctor.Finding { return []doctor.Finding{sound} }).Examine
	for _, test := range []struct {
		args       string
		code, pipe int // on a full disk, and into a closed pipe
	}{
		{"status", 74, 0},
		{"status --json", 74, 0},
		{"status --monitoring", 3, 3}, // never checked
		{"history", 74, 0},
		{"history --json", 74, 0},
		{"doctor -f " + path, 74, 0},
		{"completion bash", 74, 0},
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
			if !slices.Contains([]string{"help", "--version", "completion"}, args[0]) {
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

// Arrows and dots were once printed where the locale cannot show them.
func TestOnlyASCIIWithoutAUTF8Locale(t *testing.T) {
	p := faked(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
		o.OnEvent(run.RoundBegan{N: 1, Host: "172.16.0.2", Address: netip.MustParseAddr("172.16.0.2"), Count: 3, Interval: time.Second})
		o.OnEvent(run.Note{Text: "caf\u00e9 \u2026", Warning: true})
		return failover.Report{Outcome: state.OK, Reason: "\u2192 r"}, nil
	})
	p.Examine = func(context.Context, config.Cluster, bool) []doctor.Finding {
		return []doctor.Finding{{Grade: doctor.Warn, Text: "old", Fix: "renew it"}}
	}
	dir := checked(t, "web")
	doctor := []string{"doctor", "--host", "172.16.0.2"}
	want(t, p.run(doctor...), printed{Stdout: "warn  old\n      \u2192 renew it\nready: nothing must be fixed; 1 warning\n"})
	p.ASCII = true
	want(t, p.run(doctor...), printed{Stdout: "warn  old\n      -> renew it\nready: nothing must be fixed; 1 warning\n"})
	want(t, p.run(append(web, "-v")...), printed{Stderr: "pingover: web: round 1: pinging 172.16.0.2, at most 3 pings, 1s apart\npingover: web: caf? ...\npingover: web: ok: -> r\n"})
	want(t, p.run("check", "--host", "\u2192", "-q"), printed{Code: 64, Stderr: "pingover: --host \"->\": neither an address nor a host name\n"})
	terminal, _ := p.live(t.Context(), false, web...)
	if raw := terminal.raw.String(); !strings.Contains(raw, "round 1: 172.16.0.2 o..") || strings.ContainsFunc(raw, func(r rune) bool { return r > unicode.MaxASCII }) {
		t.Errorf("on a terminal: %q", raw)
	}
	remember(t, dir, &state.Record{Head: state.Head{Name: "web", Recent: []state.Entry{{Change: state.Change{Time: time.Unix(0, 0), Outcome: state.TookOver, Reason: "caf\u00e9"}}}}})
	if got := p.run("history", "--details", "--state-dir", dir); !strings.Contains(got.Stdout, "\n    caf?\n") {
		t.Errorf("history: %+v", got)
	}
	if got := p.run("history", "--details", "--state-dir", dir, "--json"); !strings.Contains(got.Stdout, `"reason":"caf`+"\u00e9"+`"`) {
		t.Errorf("history as JSON: %+v", got)
	}
}
