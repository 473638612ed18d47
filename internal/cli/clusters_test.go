package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/internal/run"
	"pingover/state"
)

// filed is a configuration file with this in it.
func filed(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pingover.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// fileOf is one with clusters of these names.
func fileOf(t *testing.T, names ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("clusters:\n")
	for i, name := range names {
		fmt.Fprintf(&b, "  %s:\n    host: 10.1.%d.%d\n    vip: 10.2.%d.%d\n", name, i/250, i%250+1, i/250, i%250+1)
	}
	return filed(t, b.String())
}

// configuredBy is p with a configuration file where none is named.
func (p Program) configuredBy(path string) Program {
	p.File = path
	return p
}

// roll notes the clusters that something is done to.
type roll struct {
	mu    sync.Mutex
	names []string
}

func (r *roll) call(c config.Cluster, _ failover.Options) (failover.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, c.Name)
	return failover.Report{}, nil
}

// sorted are those of a check, which may come in any order.
func (r *roll) sorted() string {
	slices.Sort(r.names)
	return strings.Join(r.names, " ")
}

func TestWhereTheClustersComeFrom(t *testing.T) {
	usual, other, third, none := fileOf(t, "usual"), fileOf(t, "other", "more"), fileOf(t, "third"), t.TempDir()+"/none"
	const (
		missing = "pingover: --host: missing; every cluster needs one\nhint: such as pingover check --host 172.16.0.2 --vip 172.16.0.1, or write "
		both    = "pingover: --host and --file exclude each other: --host defines a cluster, --file names the file that does\n"
		notHere = "pingover: NONE: cannot be read: no such file or directory\nhint: no copy of it is in /var/lib/pingover; if the file named a state directory, name it: --state-dir DIR\n"
	)
	for _, test := range []struct {
		name, file, variable, args string
		want                       string
		code                       int
		stderr                     string
	}{
		{name: "the usual file", file: usual, want: "usual"},
		{name: "the variable, before the usual file", file: usual, variable: other, want: "more other"},
		{name: "the flag, before the variable", file: usual, variable: other, args: "--file " + third, want: "third"},
		{name: "the short flag", file: usual, args: "-f " + other, want: "more other"},
		{name: "the host, before the variable and the usual file", file: usual, variable: other, args: "--host h", want: "h"},
		{name: "the host, beside files that are not there", file: none, variable: none, args: "--host h", want: "h"},
		{name: "the variable alone", file: none, variable: other, want: "more other"},
		{name: "an empty variable", file: usual, variable: "", want: "usual"},
		{name: "the flag, beside others that are not there", file: none, variable: none, args: "--file " + third, want: "third"},

		{name: "no file at all", file: none, code: 64, stderr: missing + none + "\n"},
		{name: "the variable names what is not there", file: usual, variable: none, code: 78, stderr: notHere},
		{name: "the flag names what is not there", file: usual, variable: other, args: "--file " + none, code: 78, stderr: notHere},
		{name: "the host, and a file", args: "--host h --file " + third, code: 64, stderr: both},
		{name: "the host, and a file that is not there", args: "--host h --file " + none, code: 64, stderr: both},
		{name: "two files", args: "-f " + third + " --file /other", code: 64, stderr: "pingover: --file \"/other\": given 2 times, and takes one value\n"},
		{name: "a file without a name", file: usual, args: "--file=", code: 64, stderr: "pingover: --file: a value is missing\n"},
		{name: "a directory", args: "--file " + filepath.Dir(none), code: 78, stderr: "pingover: " + filepath.Dir(none) + ": not a regular file\n"},
		{name: "a setting of a cluster, over a file", file: other, args: "--name web", code: 64, stderr: "pingover: --name \"web\": defines a cluster by flags, but the clusters are in " + other + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen roll
			p := faked(seen.call).configuredBy(test.file)
			p.Env.Getenv = func(name string) string { return map[string]string{"PINGOVER_CONFIG": test.variable}[name] }
			got := p.run(append([]string{"check"}, strings.Fields(test.args)...)...)
			want(t, got, printed{Code: test.code, Stderr: strings.ReplaceAll(test.stderr, "NONE", none)})
			if diff := cmp.Diff(test.want, seen.sorted()); diff != "" {
				t.Errorf("the clusters, -want +got\n%s", diff)
			}
		})
	}
}

func TestWhichClustersOfAFileAreChecked(t *testing.T) {
	path := fileOf(t, "web", "db", "mail")
	many := fileOf(t, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l")
	const known = "; known: web, db, mail\n"
	for _, test := range []struct {
		name, file, args string
		want             string
		stderr           string
	}{
		{name: "all", file: path, want: "db mail web"},
		{name: "two of three", file: path, args: "mail web", want: "mail web"},
		{name: "one twice", file: path, args: "db db", want: "db"},
		{name: "a mistyped one", file: path, args: "web mial", stderr: "pingover: \"mial\": no such cluster" + known + "hint: did you mean mail?\n"},
		{name: "an unknown one", file: path, args: "printing", stderr: "pingover: \"printing\": no such cluster" + known},
		{name: "in other case", file: path, args: "WEB", stderr: "pingover: \"WEB\": no such cluster" + strings.TrimSuffix(known, "\n") + "\nhint: did you mean web?\n"},
		{name: "an unknown one of many", file: many, args: "printing", stderr: "pingover: \"printing\": no such cluster; known: a, b, c, d, e, f, g, h, i, j and 2 more\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen roll
			code := 0
			if test.stderr != "" {
				code = 64
			}
			want(t, faked(seen.call).configuredBy(test.file).run(append([]string{"check"}, strings.Fields(test.args)...)...), printed{Code: code, Stderr: test.stderr})
			if diff := cmp.Diff(test.want, seen.sorted()); diff != "" {
				t.Errorf("the clusters, -want +got\n%s", diff)
			}
		})
	}
}

// brokenFile is a configuration file with errors, and those, one line each.
func brokenFile(t *testing.T) (path, problems string) {
	t.Helper()
	path = filed(t, "defaults:\n  intervall: 3s\nclusters:\n  web:\n    host: 172.16.0.2\n    count: 0\n  db:\n    vip: 172.16.0.1\n")
	return path, fmt.Sprintf(`pingover: %[1]s:2: defaults: key "intervall": unknown; did you mean interval?
pingover: %[1]s:6: cluster web: count "0": out of range (1 to 100)
pingover: %[1]s:7: cluster db: host: missing; every cluster needs one
`, path)
}

// A broken file stops everything: a partial configuration is never applied.
func TestABrokenFileWithoutACopyAndWithoutRecords(t *testing.T) {
	path, problems := brokenFile(t)
	for _, args := range []string{"check", "check web", "check --json", "watch", "takeover web", "release --all", "pause web", "resume", "status", "history"} {
		t.Run(args, func(t *testing.T) {
			var seen roll
			p := handed(seen.call).configuredBy(path)
			p.Check = p.TakeOver
			dir := filepath.Join(t.TempDir(), "state")
			want(t, p.run(append(strings.Fields(args), "--state-dir", dir)...), printed{Code: 78, Stderr: problems})
			if _, err := os.Stat(dir); len(seen.names) > 0 || err == nil {
				t.Errorf("something was done to %s; state directory: %v", seen.names, err)
			}
		})
	}
	want(t, physician(nil).configuredBy(path).run("doctor"), printed{Code: 78, Stdout: fmt.Sprintf(`fail  %[1]s:2: defaults: key "intervall": unknown; did you mean interval?
      → change that setting, or the file it names
fail  %[1]s:6: cluster web: count "0": out of range (1 to 100)
      → change that setting, or the file it names
fail  %[1]s:7: cluster db: host: missing; every cluster needs one
      → change that setting, or the file it names
not ready: 3 problems must be fixed
`, path)})
}

// The packages install a file that has only comments: clusters may be defined by
// flags beside it.
func TestAFileOfOnlyCommentsIsNone(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "comments": "# clusters:\n", "a document without content": "---\n...\n", "a byte order mark": "\ufeff# none\n"} {
		t.Run(name, func(t *testing.T) {
			path, dir := filed(t, text), checked(t, "web")
			var examined []string
			p := physician(func(c config.Cluster, _ bool) []doctor.Finding {
				examined = append(examined, c.Name)
				return []doctor.Finding{sound}
			}).configuredBy(path)
			want(t, p.run("pause", "web", "-q", "--state-dir", dir), printed{})
			want(t, p.run("resume", "-q", "--state-dir", dir), printed{})
			if got := p.run("doctor", "--state-dir", dir); got.Code != 0 || !slices.Equal(examined, []string{"web"}) {
				t.Errorf("doctor of %q: %+v", examined, got)
			}
			want(t, p.run("check", "--state-dir", dir), printed{Code: 64, Stderr: "pingover: --host: missing; every cluster needs one\n" +
				"hint: such as pingover check --host 172.16.0.2 --vip 172.16.0.1, or write " + path + "\n"})
			empty := "pingover: " + path + ":1: empty; at least one cluster or pool is required\n"
			want(t, p.run("config", "--file", path, "--state-dir", dir), printed{Code: 78, Stderr: empty})

			// It was valid once: now it is a mistake.
			must(t, state.Dir(dir).SaveValidConfig(state.ValidConfig{Path: path, Text: "clusters: {web: {host: 10.1.0.1}}\n", Valid: time.Now()}))
			want(t, p.run("config", "--state-dir", dir), printed{Code: 78, Stderr: empty})
			want(t, p.run("pause", "web", "-q", "--state-dir", dir), printed{Stderr: empty + "pingover: " + path + " cannot be used; going on with the settings of the last check\n"})
		})
	}
}

func TestManualOperationsWithABrokenFile(t *testing.T) {
	path, problems := brokenFile(t)
	goesOn := problems + "pingover: " + path + " cannot be used; going on with the settings of the last check\n"
	for _, args := range []string{"takeover web", "release --all", "release --name web", "release"} {
		t.Run(args, func(t *testing.T) {
			var seen roll
			got := handed(seen.call).configuredBy(path).run(append(strings.Fields(args), "-q", "--state-dir", checked(t, "web"))...)
			want(t, got, printed{Stderr: goesOn})
			if seen.sorted() != "web" {
				t.Errorf("done to %q", seen.names)
			}
		})
	}
	p := handed(nil).configuredBy(path)
	dir := checked(t, "web")
	want(t, p.run("pause", "web", "-q", "--state-dir", dir), printed{Stderr: goesOn})
	want(t, p.run("resume", "-q", "--state-dir", dir), printed{Stderr: goesOn})
	brief := path + " cannot be used: " + path + ":2: defaults: key \"intervall\": unknown; did you mean interval?, and 2 more errors"
	want(t, p.run("history", "--state-dir", dir), printed{Stdout: "nothing has changed yet\n", Stderr: "pingover: " + brief + "\n"})
	if got := p.run("status", "--monitoring", "--state-dir", dir); got.Code != 3 || !strings.Contains(got.Stdout, brief) {
		t.Errorf("%+v", got)
	}
	if got := p.run("status", "--json", "--state-dir", dir); got.Code != 0 || !strings.Contains(got.Stdout, `"config_error":"`+path+" cannot be used: ") {
		t.Errorf("%+v", got)
	}
}

func TestManualOperationsWithAFile(t *testing.T) {
	path, single := fileOf(t, "web", "mail"), fileOf(t, "web")
	dir := checked(t, "db", "web") // db is of another crontab line
	const which = "pingover: a name or --all is missing; known: web, mail\n"
	for _, test := range []struct {
		name, file, args string
		want             string
		stderr           string
	}{
		{name: "one", file: path, args: "mail", want: "mail"},
		{name: "two", file: path, args: "mail web", want: "mail web"},
		{name: "one, named twice", file: path, args: "web web", want: "web"},
		{name: "all are those of the file", file: path, args: "--all", want: "mail web"},
		{name: "the only one of the file", file: single, want: "web"},
		{name: "one that only a record knows", file: path, args: "db", want: "db"},
		{name: "one of the file, and one that only a record knows", file: path, args: "db mail", want: "db mail"},
		{name: "one that flags define", file: path, args: "--host h --name new", want: "new"},
		{name: "which?", file: path, stderr: which},
		{name: "an unknown one", file: path, args: "dbb", stderr: "pingover: \"dbb\": no such cluster; known: web, mail, db\nhint: did you mean db?\n"},
		{name: "the name of one as flag", file: path, args: "--name web", want: "web"},
		{name: "the name of one that only a record knows as flag", file: path, args: "--name db", want: "db"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var seen roll
			got := handed(seen.call).configuredBy(test.file).run(append([]string{"release", "-q", "--state-dir", dir}, strings.Fields(test.args)...)...)
			code := 0
			if test.stderr != "" {
				code = 64
			}
			want(t, got, printed{Code: code, Stderr: test.stderr})
			if diff := cmp.Diff(test.want, seen.sorted()); diff != "" {
				t.Errorf("the clusters, -want +got\n%s", diff)
			}
		})
	}
}

// What the file says counts before what the last check had.
func TestAFileBeforeTheRecord(t *testing.T) {
	var got config.Cluster
	p := handed(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
		got = c
		return failover.Report{}, nil
	}).configuredBy(fileOf(t, "web"))
	dir := checked(t, "db", "web")
	for _, test := range []struct{ args, want string }{
		{"web", "10.1.0.1 [{10.2.0.1/32 }] " + dir},
		{"web --vip 172.16.0.9", "10.1.0.1 [{172.16.0.9/32 }] " + dir},
		{"db", "172.16.0.2 [{172.16.0.1/32 }] " + dir},
	} {
		p.run(append([]string{"release", "--state-dir", dir}, strings.Fields(test.args)...)...)
		if diff := cmp.Diff(test.want, fmt.Sprint(got.Host, " ", got.VIPs, " ", got.StateDir)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.args, diff)
		}
	}
}

func TestAPauseOfTheClustersOfAFile(t *testing.T) {
	dir := t.TempDir()
	p := faked(nil).configuredBy(fileOf(t, "web", "db")) // neither was ever checked
	want(t, p.run("pause", "--all", "-q", "--state-dir", dir), printed{})
	for _, name := range []string{"web", "db"} {
		if until, err := state.Dir(dir).PausedUntil(name); until.IsZero() || err != nil {
			t.Errorf("%s is paused until %v, %v", name, until, err)
		}
	}
	want(t, p.run("resume", "--state-dir", dir), printed{Stderr: "pingover: web: resumed: checks switch again\npingover: db: resumed: checks switch again\n"})
}

func TestWhatIsShownOfAFile(t *testing.T) {
	dir := checked(t, "db", "old")
	p := faked(nil).configuredBy(fileOf(t, "web", "db"))
	names := func(args ...string) string {
		var shown []string
		for line := range strings.Lines(p.run(append(args, "--state-dir", dir)...).Stdout) {
			if name, _, ok := strings.Cut(strings.TrimPrefix(line, `{"version":1,"cluster":"`), `"`); ok {
				shown = append(shown, name)
			}
		}
		return strings.Join(shown, " ")
	}
	for _, test := range []struct{ args, want string }{
		{"status --json", "web db"},
		{"status --json db", "db"},
		{"status --json old web", "web old"},
	} {
		if diff := cmp.Diff(test.want, names(strings.Fields(test.args)...)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.args, diff)
		}
	}
	want(t, p.run("__complete", "--", "status", ""), printed{Stdout: "web\ndb\n"})
	want(t, p.run("history", "dbb", "--state-dir", dir), printed{Code: 64, Stderr: "pingover: \"dbb\": no such cluster; known: web, db, old\nhint: did you mean db?\n"})
}

// unprivileged runs the test once more as a user without privileges, and says
// whether this is root's process, where nothing more is to be done.
func unprivileged(t *testing.T) (root bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	cmd := exec.Command("/proc/self/exe", lab.Again(t)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	must(t, lab.RunAgain(t, cmd))
	return true
}

// The file has passwords' places and commands in it, so root may keep it to
// himself; what root's checks found is for all to see.
func TestAFileThatTheUserMayNotRead(t *testing.T) {
	if unprivileged(t) {
		return
	}
	path, home := fileOf(t, "web"), t.TempDir()
	must(t, os.Chmod(path, 0))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755))
	mine := filepath.Join(home, "pingover")
	must(t, os.Mkdir(mine, 0o755))
	remember(t, mine, &state.Record{Head: state.Head{Name: "mine"}, Settings: map[string][]string{"host": {"h"}}})
	must(t, os.Chmod(filepath.Join(mine, "mine.settings"), 0)) // as root's are to others
	p := handed(ends(state.OK)).configuredBy(path)
	p.Check = p.TakeOver
	p.Env = config.Env{Getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": home}[name] }}
	refused := "pingover: " + path + ": cannot be read: permission denied\n"
	if _, err := os.ReadFile(path); err == nil {
		lab.Skip(t, "this user may read everything")
	}
	if got := p.run("status"); got.Code != 0 || !strings.Contains(got.Stdout, "\nmine ") || got.Stderr != "" {
		t.Errorf("status: %+v", got)
	}
	want(t, p.run("history"), printed{Stdout: "nothing has changed yet\n"})
	want(t, p.run("__complete", "--", "status", ""), printed{Stdout: "mine\n"})
	want(t, p.run("check"), printed{Code: 78, Stderr: refused})
	if got := p.run("release", "mine"); got.Code != 77 || !strings.HasPrefix(got.Stderr, refused) || !strings.HasSuffix(got.Stderr, "hint: run it as root: sudo pingover release mine\n") {
		t.Errorf("release: %+v", got)
	}
}

// fated is how a cluster's check ends, and after how long.
type fated struct {
	after time.Duration
	code  int
	err   error
	panic any
}

// several is a program that checks the clusters of a file, in its order, which
// end so.
func several(t *testing.T, order string, ends map[string]fated) Program {
	t.Helper()
	return faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
		e := ends[c.Name]
		time.Sleep(e.after)
		if e.panic != nil {
			panic(e.panic)
		}
		r := failover.Report{Version: 1, Cluster: c.Name, Outcome: "holding", Code: e.code, Changed: e.code != 0, Reason: "r"}
		return r, e.err
	}).configuredBy(fileOf(t, strings.Fields(order)...))
}

// stopwatch notes when each line was written.
type stopwatch struct {
	began time.Time
	lines []string
}

func (c *stopwatch) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		c.lines = append(c.lines, fmt.Sprint(time.Since(c.began).Truncate(time.Second), " ", strings.TrimSuffix(line, "\n")))
	}
	return len(text), nil
}

func TestNoClusterDelaysAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := several(t, "slow web db", map[string]fated{
			"slow": {after: 46 * time.Second, code: 11}, "web": {after: 2 * time.Second, code: 11}, "db": {after: time.Second, code: 12},
		})
		stdout, stderr := &stopwatch{began: time.Now()}, &stopwatch{began: time.Now()}
		p.Stdout, p.Stderr = stdout, stderr
		code := p.Run(t.Context(), []string{"check", "--json"})
		for i, line := range stdout.lines {
			stdout.lines[i], _, _ = strings.Cut(line, `","time"`)
		}
		got := map[string]any{"code": code, "stdout": stdout.lines, "stderr": stderr.lines}
		if diff := cmp.Diff(map[string]any{
			"code":   12,
			"stdout": []string{`46s {"version":1,"cluster":"slow`, `46s {"version":1,"cluster":"web`, `46s {"version":1,"cluster":"db`},
			"stderr": []string{"1s pingover: db: holding: r", "2s pingover: web: holding: r", "46s pingover: slow: holding: r"},
		}, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func TestTheWorstOfAllChecksIsTheExitCode(t *testing.T) {
	order := []int{70, 31, 30, 32, 78, 77, 21, 20, 14, 15, 13, 12, 11, 10, 75, 0}
	for i, worst := range order {
		ends := map[string]fated{}
		for n, code := range order[i:] {
			// Names and times so that neither the first nor the last is the worst.
			e := fated{after: time.Duration((n*7)%5) * time.Second, code: code}
			if code >= 64 {
				e = fated{after: e.after, err: &run.Error{Code: code, Text: "no"}}
			}
			ends[fmt.Sprintf("c%d", (n*5)%16)] = e
		}
		var names []string
		for name := range ends {
			names = append(names, name)
		}
		slices.Sort(names)
		synctest.Test(t, func(t *testing.T) {
			if got := several(t, strings.Join(names, " "), ends).run("check"); got.Code != worst {
				t.Errorf("of %v the exit code is %d", order[i:], got.Code)
			}
		})
	}
}

func TestABugInOneClusterEndsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := several(t, "a b c", map[string]fated{"a": {after: time.Second, code: 11}, "b": {panic: "oh"}, "c": {after: 2 * time.Second, code: 31}})
		got := p.run("check", "--json")
		var outcomes []string
		for line := range strings.Lines(got.Stdout) {
			_, rest, _ := strings.Cut(line, `"cluster":"`)
			name, rest, _ := strings.Cut(rest, `"`)
			_, rest, _ = strings.Cut(rest, `"code":`)
			code, _, _ := strings.Cut(rest, ",")
			outcomes = append(outcomes, name+" "+code)
		}
		if diff := cmp.Diff([]string{"a 11", "b 70", "c 31"}, outcomes); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		before, after, _ := strings.Cut(got.Stderr, " (pingover/internal/cli.")
		_, after, _ = strings.Cut(after, "\n")
		want(t, printed{got.Code, "", before + after}, printed{Code: 70, Stderr: "pingover: b: internal error: oh" + "pingover: a: holding: r\npingover: c: holding: r\n"})
	})
}

func TestASignalWhileSeveralAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		p := faked(nil).configuredBy(fileOf(t, "acts", "waits", "done"))
		p.Check = func(ctx context.Context, c config.Cluster, _ failover.Options) (failover.Report, error) {
			r := failover.Report{Version: 1, Cluster: c.Name, Outcome: state.TookOver, Code: 11, Changed: true, Reason: "r"}
			switch c.Name {
			case "acts": // and finishes that first
				<-ctx.Done()
				time.Sleep(3 * time.Second)
			case "waits":
				<-ctx.Done()
				return failover.Report{}, context.Cause(ctx)
			}
			return r, nil
		}
		time.AfterFunc(time.Second, func() { cancel(errors.New("SIGTERM")) })
		stdout, stderr := &stopwatch{began: time.Now()}, &stopwatch{began: time.Now()}
		p.Stdout, p.Stderr = stdout, stderr
		code := p.Run(ctx, []string{"check", "--json", "--metrics-file", filepath.Join(t.TempDir(), "prom")})
		for i, line := range stdout.lines {
			stdout.lines[i], _, _ = strings.Cut(line, `","time"`)
		}
		if diff := cmp.Diff(map[string]any{
			"code":   exit.Interrupted,
			"stdout": []string{`4s {"version":1,"cluster":"acts`, `4s {"version":1,"cluster":"done`},
			"stderr": []string{"0s pingover: done: took-over: r", "4s pingover: acts: took-over: r"},
		}, map[string]any{"code": code, "stdout": stdout.lines, "stderr": stderr.lines}); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// Those that have not begun, for the first pings are apart, do not keep the
// process from dying of its signal.
func TestASignalBeforeTheLastHasBegun(t *testing.T) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	path := fileOf(t, names...)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began, checks := time.Now(), 0
		p := faked(nil).configuredBy(path)
		var mu sync.Mutex
		p.Check = func(ctx context.Context, _ config.Cluster, _ failover.Options) (failover.Report, error) {
			mu.Lock()
			checks++
			mu.Unlock()
			<-ctx.Done()
			return failover.Report{}, ctx.Err()
		}
		time.AfterFunc(100*time.Millisecond, cancel)
		var out strings.Builder
		p.Stdout, p.Stderr = &out, &out
		got := p.Run(ctx, []string{"check"})
		if took := time.Since(began); got != exit.Interrupted || took > time.Second || checks > 200 {
			t.Errorf("code %d after %s and %d checks", got, took, checks)
		}
	})
}

func TestTenThousandClustersAreChecked(t *testing.T) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	path := fileOf(t, names...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := cpuTime(t)
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := faked(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
			time.Sleep(26 * time.Second)
			return failover.Report{Version: 1, Cluster: c.Name, Outcome: state.OK}, nil
		}).configuredBy(path)
		got := p.run("check", "--json")
		if n := strings.Count(got.Stdout, "\n"); got.Code != 0 || got.Stderr != "" || n != len(names) {
			t.Errorf("code %d, %d lines, stderr %.200q", got.Code, n, got.Stderr)
		}
		if took := time.Since(start); took > 37*time.Second {
			t.Errorf("they take %s", took)
		}
	})
	runtime.ReadMemStats(&after)
	took, allocated := cpuTime(t)-began, (after.TotalAlloc-before.TotalAlloc)>>20
	t.Logf("%s of CPU time, %d MiB allocated", took.Round(time.Millisecond), allocated)
	if took > time.Minute || allocated > 1000 {
		t.Errorf("that takes %s of CPU time, and %d MiB", took, allocated)
	}
}

// cpuTime is that of this process until now: unlike the clock's it does not depend on
// what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// A cluster that is no longer in the file is forgotten only when nothing of it is
// here any more; it is found by its name in any state directory.
func TestAClusterThatIsNoLongerConfigured(t *testing.T) {
	dir := t.TempDir()
	here := state.Alias{Prefix: netip.MustParsePrefix("127.0.0.1/8"), Interface: "lo", Raised: true, LeftOver: true}
	gone := state.Alias{Prefix: netip.MustParsePrefix("10.255.255.1/32"), Interface: "lo", Raised: true, LeftOver: true}
	settings := map[string][]string{"host": {"172.16.0.2"}, "vip": {"172.16.0.1"}}
	last := &state.Check{Time: time.Now(), Outcome: state.OK}
	for _, rec := range []*state.Record{
		{Head: state.Head{Name: "web", Last: last}},
		{Head: state.Head{Name: "here", Last: last}, VIPs: []state.Alias{here}, Settings: settings},
		{Head: state.Head{Name: "gone", Last: last}, VIPs: []state.Alias{gone}, Settings: settings},
		{Head: state.Head{Name: "strange", Last: last}, VIPs: []state.Alias{{Prefix: here.Prefix, Interface: "lo", LeftOver: true}}, Settings: settings},
	} {
		remember(t, dir, rec)
	}
	var done roll
	p := handed(done.call).configuredBy(filed(t, "defaults: {state-dir: "+dir+"}\nclusters:\n  web: {host: 172.16.0.2}\n"))

	got := p.run("status")
	if !strings.Contains(got.Stdout, "\nhere ") || strings.Contains(got.Stdout, "\ngone ") || strings.Contains(got.Stdout, "\nstrange ") || got.Code != 0 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.Stdout, "no longer configured in the file\n    127.0.0.1 is still") {
		t.Errorf("%+v", got)
	}
	if got := p.run("status", "--monitoring"); got.Code != 1 || !strings.Contains(got.Stdout, "here: ok, no longer configured in the file, 127.0.0.1 is still") {
		t.Errorf("%+v", got)
	}
	if got := p.run("status", "gone", "web", "--json"); strings.Count(got.Stdout, "\n") != 2 || !strings.HasPrefix(got.Stdout, `{"version":1,"cluster":"web",`) || got.Code != 0 {
		t.Errorf("%+v", got)
	}
	want(t, p.run("history", "gone"), printed{Stdout: "nothing has changed yet\n"})
	for _, command := range []string{"takeover", "release", "pause", "resume"} {
		if got := p.run(command, "here", "-q"); got.Code != 0 {
			t.Errorf("%s: %+v", command, got)
		}
		want(t, p.run(command, "hree", "-q"), printed{Code: 64, Stderr: "pingover: \"hree\": no such cluster; known: web, gone, here, strange\nhint: did you mean here?\n"})
	}
	here.LeftOver = false
	remember(t, dir, &state.Record{Head: state.Head{Name: "here", Last: last}, VIPs: []state.Alias{here}})
	if got := p.run("status"); !strings.Contains(got.Stdout, "\n    no longer configured in the file; to release it: pingover release here\n") {
		t.Errorf("%+v", got)
	}
	remember(t, dir, &state.Record{Head: state.Head{Name: "here", Last: last}, Origin: state.FlagsOrigin, VIPs: []state.Alias{here}})
	if got := p.run("status"); !strings.Contains(got.Stdout, "\n    defined by flags, not in the file; to release it: pingover release here\n") {
		t.Errorf("%+v", got)
	}
	if got := p.run("status", "--monitoring"); got.Code != 1 || !strings.Contains(got.Stdout, "pingover release here, held on this machine: 127.0.0.1/8") {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff("here here", done.sorted()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
