package cli

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/expfmt"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/state"
)

// unprintable is the first character of a text that could do something to a
// terminal, besides ending a line.
func unprintable(text string) (string, bool) {
	if !utf8.ValidString(text) {
		return "not UTF-8", true
	}
	at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	if at < 0 {
		return "", false
	}
	return text[max(0, at-10):min(len(text), at+10)], true
}

// Whatever the parser accepts of a record can be shown, in each form, and does
// nothing to the terminal on which it is.
func FuzzRecordShown(f *testing.F) {
	golden, err := os.ReadFile("../../state/testdata/record.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(golden),
		`{"version":1,"cluster":"web","host":"172.16.0.2","role":"standby"}`,
		`{"version":1,"cluster":"web","host":"h","role":"active","last":{"outcome":"ok"},"changes":[{"kind":"change"},{"outcome":"took-over"}]}`,
		`{"version":1,"cluster":"web","host":"\u001b]0;x\u0007\u202e\u009b","role":"taking","last":{"outcome":"blocked","reason":"\u2028\u001b[2J"},"mail_error":"\u200f","hook_owed":{"hook":"\u001b"},"outbox":[{"message_id":"<a@b>","to":["\u001b"]}]}`,
		`{"version":1,"cluster":"web","host":"h","role":"active","vips":[{"prefix":"fe80::1%\u001b/64","interface":"\u001b","raised":true,"left_over":true},{"prefix":"127.0.0.1/8","raised":true}]}`,
		`{"version":1,"cluster":"web","host":"h","role":"active","last":{"outcome":"down","time":"9999-12-31T23:59:59Z","duration_ms":-9223372036854775808,"sent":-1,"received":9,"rtt_ms":1e308},"gap_ms":9223372036854775807}`,
		`{"version":1,"cluster":"web","host":"h","role":"releasing","changes":[{"kind":"change","outcome":"released","time":"0001-01-01T00:00:00Z","reason":"\u009b","evidence":{"rounds":[{"verdict":"\u001b","error":"\u202e"}],"witnesses":[{"by":"\u001b"}],"holders":[{"address":"\u001b","mac":"\u001b"}],"commands":[{"argv":null},{"argv":["\u001b"],"output":"\u001b\n"}]}}]}`,
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := state.Parse(data)
		if err != nil {
			return
		}
		rec.Name = "web"
		if err := state.Dir(dir).Save(rec, false); err != nil {
			return
		}
		p := faked(nil)
		for _, args := range [][]string{
			{"status"},
			{"status", "--json"},
			{"status", "--monitoring"},
			{"history"},
			{"history", "--json"},
			{"resume", "web", "--dry-run"},
		} {
			got := p.run(append(args, "--state-dir", dir)...)
			if got.Code == exit.Internal {
				t.Errorf("%q: %s", args, got.Stderr)
			}
			if text, bad := unprintable(got.Stdout + got.Stderr); bad {
				t.Errorf("%q prints %q", args, text)
			}
			if args[len(args)-1] != "--json" {
				continue
			}
			for line := range strings.Lines(got.Stdout) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%q prints no JSON: %s", args, line)
				}
			}
		}
		text := metricsText("", survey(Program{}.tasks(config.File{Clusters: []config.Cluster{{Name: "web", Host: "h", StateDir: dir}}}), time.Now(), nil))
		parser := new(expfmt.TextParser)
		if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
			t.Errorf("metrics: %v\n%s", err, text)
		}
	})
}

// Whatever is on the command line: it ends with a code of its own, and prints
// nothing that does something to a terminal.
func FuzzCommandLine(f *testing.F) {
	for _, seed := range []string{
		"check --host 172.16.0.2", "--version", "", "help check", "check\x00--host\x00h\x00--\x00--x", "-nv check", "check -c5 --count 6",
		"watch --every 1s --for 1s", "status --json --monitoring", "takeover web db --all --force", "release --host=h --vip=172.16.0.1 -n",
		"pause web --for 999999h", "resume", "history --last -1", "completion bash", "config \x1b]0;x", "forget .. -- -x", "check --host=\xff --quiet=false",
		"doctor --send-mail=maybe", "check --mail-ca /dev/zero", "check --dry-run false web", "demo --step", "-", "--", "--=", "-=",
	} {
		f.Add(strings.ReplaceAll(seed, " ", "\x00"))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		for _, word := range args {
			// What leads out of the test, and takes time.
			if strings.Contains(word, "demo") || strings.Contains(word, "state-dir") || strings.Contains(word, "watch") ||
				strings.Contains(word, "metrics-file") || strings.Contains(word, "every") || strings.Contains(word, "/") {
				return
			}
		}
		p := faked(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
			return failover.Report{Outcome: state.OK, Reason: c.Host, Held: []netip.Prefix{}}, nil
		})
		p.TakeOver, p.Release = p.Check, p.Check
		p.Env.Root = false
		p.Env.Getenv = func(name string) string { return map[string]string{"XDG_STATE_HOME": dir}[name] }
		p.Examine = func(context.Context, config.Cluster, bool) []doctor.Finding { return nil }
		got := p.run(args...)
		if got.Code == exit.Internal || got.Code < 0 {
			t.Errorf("%q: code %d, %s", args, got.Code, got.Stderr)
		}
		if text, bad := unprintable(got.Stderr); bad {
			t.Errorf("%q prints %q", args, text)
		}
	})
}
