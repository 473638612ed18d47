package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/internal/run"
	"pingover/state"
)

// checked is a state directory in which clusters of these names were checked
// with a virtual IP.
func checked(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		remember(t, dir, &state.Record{
			Head:     state.Head{Name: name},
			Settings: map[string][]string{"name": {name}, "host": {"172.16.0.2"}, "vip": {"172.16.0.1"}, "mail-to": {"root", "ops"}},
		})
	}
	return dir
}

func remember(t *testing.T, dir string, rec *state.Record) {
	t.Helper()
	rec.Version, rec.Host, rec.Role = state.Version, "172.16.0.2", state.Standby
	if err := state.Dir(dir).Save(rec, false); err != nil {
		t.Fatal(err)
	}
}

// handed is a program whose manual operations do what act does.
func handed(act func(config.Cluster, failover.Options) (failover.Report, error)) Program {
	p := faked(nil)
	p.TakeOver = func(_ context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
		return act(c, o)
	}
	p.Release = p.TakeOver
	return p
}

// ends is an act that ends with this outcome.
func ends(outcome state.Outcome) func(config.Cluster, failover.Options) (failover.Report, error) {
	return func(config.Cluster, failover.Options) (failover.Report, error) {
		return failover.Report{Outcome: outcome, Code: outcome.Code(), Changed: true, Reason: "why"}, nil
	}
}

func TestWhichClusters(t *testing.T) {
	none, one, two := checked(t), checked(t, "web"), checked(t, "db", "web")
	holder, busy := checked(t, "web"), checked(t, "db", "web")
	for dir, names := range map[string][]string{holder: {"web"}, busy: {"db", "web"}} {
		for _, name := range names {
			rec, err := state.Dir(dir).Load(name, false)
			must(t, err)
			rec.Role, rec.VIPs = state.Active, []state.Alias{{Prefix: netip.MustParsePrefix("172.16.0.1/32"), Raised: true}}
			must(t, state.Dir(dir).Save(rec, true))
		}
	}
	const (
		firstCheck = "hint: run a check first, or give --host and the other flags of the check\n"
		which      = "pingover: a name or --all is missing; known: db, web\n"
		onlyNames  = "pingover: --all excludes names and --host\n"
	)
	tests := []struct {
		name, dir, args string
		want            string // the clusters that something is done to
		code            int
		stderr          string
	}{
		{name: "the only one", dir: one, want: "web"},
		{name: "the only one, by name", dir: one, args: "web", want: "web"},
		{name: "one of two", dir: two, args: "web", want: "web"},
		{name: "two", dir: two, args: "web db", want: "db web"},
		{name: "one, named twice", dir: two, args: "web web", want: "web"},
		{name: "all", dir: two, args: "--all", want: "db web"},
		{name: "one that flags define", dir: two, args: "--host 172.16.0.7", want: "172.16.0.7"},
		{name: "one that flags define, with a name", dir: none, args: "--host 172.16.0.7 --name new new", want: "new"},

		{name: "one of two, not named", dir: two, code: 64, stderr: which},
		{name: "an unknown one", dir: two, args: "web dbb", code: 64, stderr: "pingover: \"dbb\": no such cluster; known: db, web\nhint: did you mean db?\n"},
		{name: "an unknown one beside the only one", dir: one, args: "db", code: 64, stderr: "pingover: \"db\": no such cluster; known: web\n"},
		{name: "a path is no name", dir: one, args: "../web", code: 64, stderr: "pingover: \"../web\": no such cluster; known: web\n"},
		{name: "none is known", dir: none, code: 64, stderr: "pingover: no cluster is known in " + none + "\n" + firstCheck},
		{name: "none is known, by name", dir: none, args: "web", code: 64, stderr: "pingover: no cluster is known in " + none + "\n" + firstCheck},
		{name: "no such directory", dir: none + "/none", args: "--all", code: 64, stderr: "pingover: no cluster is known in " + none + "/none\n" + firstCheck},
		{name: "all, and a name", dir: two, args: "--all web", code: 64, stderr: onlyNames},
		{name: "all, and one that flags define", dir: two, args: "--all --host 172.16.0.7", code: 64, stderr: onlyNames},
		{name: "another than flags define", dir: two, args: "--host 172.16.0.7 --name new web", code: 64, stderr: "pingover: \"web\": no such cluster; known: new\n"},
		{name: "the name of a known one as flag", dir: two, args: "--name web", want: "web"},
		{name: "the host of known ones that hold nothing", dir: two, args: "--host 172.16.0.2", want: "172.16.0.2"},
		{name: "the host of two that hold something", dir: busy, args: "--host 172.16.0.2", code: 64, stderr: "pingover: several clusters have the host \"172.16.0.2\"; known: db, web\nhint: name one of them\n"},
		{name: "the host of one that holds something", dir: holder, args: "--host 172.16.0.2", want: "web"},
		{name: "the host and the name of a known one", dir: two, args: "--host 172.16.0.2 --name web", want: "web"},
	}
	for _, test := range tests {
		for _, command := range []string{"takeover", "release", "pause", "resume"} {
			t.Run(command+": "+test.name, func(t *testing.T) {
				test := test
				if command == "resume" && test.stderr == which {
					test.want, test.code, test.stderr = "db web", 0, "" // without a name resume is for all
				}
				var done roll
				got := handed(done.call).run(append([]string{command, "--state-dir", test.dir}, strings.Fields(test.args)...)...)
				if command == "pause" || command == "resume" {
					for line := range strings.Lines(got.Stderr) {
						if words := strings.Split(line, ": "); test.code == 0 {
							done.names = append(done.names, words[1])
						}
					}
				}
				if diff := cmp.Diff(test.want, done.sorted()); diff != "" {
					t.Errorf("the clusters, -want +got\n%s", diff)
				}
				if test.code != 0 {
					want(t, got, printed{Code: test.code, Stderr: strings.ReplaceAll(test.stderr, "COMMAND", command)})
				}
			})
		}
	}
}

func TestAStateDirectoryThatWillNotDo(t *testing.T) {
	want(t, faked(nil).run("pause", "--state-dir", "relative"), printed{Code: 64, Stderr: "pingover: --state-dir \"relative\": not an absolute path\n"})
	long := "/" + strings.Repeat("x", 300)
	want(t, faked(nil).run("pause", "--state-dir", long), printed{Code: 78, Stderr: "pingover: open " + long + ": file name too long\n"})
	file := filed(t, "")
	for _, dir := range []string{file, file + "/below"} {
		for _, command := range []string{"pause", "release", "status", "history"} {
			want(t, faked(nil).run(command, "--state-dir", dir), printed{Code: 78, Stderr: "pingover: " + dir + ": not a directory\n"})
		}
	}
}

// A manual operation needs only a name; flags override single settings.
func TestTheSettingsOfTheLastCheck(t *testing.T) {
	dir := checked(t, "web")
	var got config.Cluster
	var options failover.Options
	p := handed(func(c config.Cluster, o failover.Options) (failover.Report, error) {
		got, options = c, o
		return failover.Report{}, nil
	})
	p.run("release", "--state-dir", dir)
	first, err := config.FromFlags(map[string][]string{
		"name": {"web"}, "host": {"172.16.0.2"}, "vip": {"172.16.0.1"}, "mail-to": {"root", "ops"}, "state-dir": {dir},
	}, p.Env)
	if err != nil {
		t.Fatal(err)
	}
	same := cmp.Comparer(func(a, b config.Cluster) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) })
	if diff := cmp.Diff(first, got, same); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if options.Force || options.DryRun {
		t.Errorf("%+v", options)
	}

	p.run("takeover", "web", "--state-dir", dir, "--mail-to", "joe", "--witness", "none", "-I", "eth1", "--force", "-n")
	line := fmt.Sprintln(got.VIPs, got.Mail.To, got.Witness, got.Interface, options.Force, options.DryRun)
	if diff := cmp.Diff("[{172.16.0.1/32 }] [joe] {false []} eth1 true true\n", line); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	want(t, p.run("release", "web", "--state-dir", dir, "--label", "eth0:toolongalabel", "--count", "0"), printed{Code: 64, Stderr: `pingover: --label "eth0:toolongalabel": too long (1 to 15 characters)
pingover: --count "0": out of range (1 to 100)
hint: settings without a flag are those of the last check of web
`})
}

// Settings name commands to run, as root for the most part.
func TestSettingsThatAreNotTrusted(t *testing.T) {
	const anew = "hint: give --host and the other flags of its check, or wait for the next check: it writes them\n"
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  string // with FILE for the settings
	}{
		{"others can write to it", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o646)) }, "FILE can be written to by others; settings name commands to run, ignored\n" +
			"hint: after reviewing it: chmod go-w FILE\n"},
		{"its group can write to it", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o664)) }, "FILE can be written to by others; settings name commands to run, ignored\n" +
			"hint: after reviewing it: chmod go-w FILE\n"},
		{"it belongs to another user", func(t *testing.T, path string) {
			if err := os.Chown(path, 7, -1); err != nil {
				lab.Skip(t, fmt.Sprintf("only root can give a file away: %v", err))
			}
		}, "FILE belongs to user 7; settings name commands to run, ignored\nhint: after reviewing it: chown root FILE\n"},
		{"a symbolic link", func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".other"))
			must(t, os.Symlink(path+".other", path))
		}, "FILE is a symbolic link, and pingover's own files never are\nhint: remove it, or choose another --state-dir\n"},
		{"it is broken", func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("{"), 0o644)) }, "FILE is corrupt (unexpected end of JSON input), ignored\n" + anew},
		{"it is empty", func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, "FILE is corrupt (unexpected end of JSON input), ignored\n" + anew},
		{"it has no settings", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			remember(t, filepath.Dir(path), &state.Record{Head: state.Head{Name: "web"}})
		}, "no settings of an earlier check are kept\n" + anew},
		{"it is a directory", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		}, "read FILE: is a directory\n" + anew},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := checked(t, "web")
			file := filepath.Join(dir, "web.settings")
			test.spoil(t, file)
			p := handed(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
				t.Errorf("something was done to %s", c.Name)
				return failover.Report{}, nil
			})
			text := strings.ReplaceAll("pingover: web: "+test.want, "FILE", file)
			want(t, p.run("takeover", "web", "--state-dir", dir), printed{Code: 78, Stderr: text})
			want(t, p.run("release", "--all", "--json", "--state-dir", dir), printed{Code: 78, Stderr: text})
			// A pause needs no more than the name.
			if got := p.run("pause", "web", "--state-dir", dir); got.Code != 0 && test.name != "a symbolic link" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestManualOperationsPrintTheirResult(t *testing.T) {
	dir := checked(t, "web")
	release := func(p Program, args ...string) printed {
		return p.run(append([]string{"release", "--state-dir", dir}, args...)...)
	}
	const line = "pingover: web: released: why\n"
	want(t, release(handed(ends(state.Released))), printed{Code: 12, Stderr: line})
	want(t, release(handed(ends(state.Released)).onTerminal()), printed{Code: 12, Stderr: line})
	want(t, release(handed(ends(state.Released)), "--quiet"), printed{Code: 12})
	want(t, release(handed(ends(state.Released)).onTerminal(), "-q"), printed{Code: 12})
	want(t, release(handed(ends(state.OK)), "-q"), printed{})
	// Quiet is not silent.
	want(t, release(handed(ends(state.Blocked)), "-q"), printed{Code: 21, Stderr: "pingover: web: blocked: why\n"})
	want(t, release(handed(ends(state.ReleaseFailed)), "-q"), printed{Code: 31, Stderr: "pingover: web: release-failed: why\n"})
	refused := func(code int, hint string) Program {
		return handed(func(config.Cluster, failover.Options) (failover.Report, error) {
			return failover.Report{}, &run.Error{Code: code, Text: "no", Hint: hint}
		})
	}
	want(t, release(refused(77, "do"), "-q"), printed{Code: 77, Stderr: "pingover: web: no\nhint: do\n"})
	want(t, release(refused(75, "")), printed{Code: 75, Stderr: "pingover: web: no\n"})
	want(t, release(refused(75, ""), "-q"), printed{Code: 75, Stderr: "pingover: web: no\n"})
	want(t, release(handed(ends(state.OK)), "-q", "-v"), printed{Code: 64, Stderr: "pingover: --quiet and --verbose exclude each other\n"})

	const object = `{"version":0,"cluster":"","time":"0001-01-01T00:00:00Z","outcome":"%s","code":%d,"changed":true,"dry_run":false,` +
		`"reason":"why","error":null,"role":"","held":[],"interface":"","paused":false,"host":"","paths":[],"address":"","rounds":[],` +
		`"witnesses":[],"holders":[],"mail_waiting":0,"duration_ms":0,"arbiter":null,"services":[],"suppressed":null,"alerts":[],"ready":null,"config_error":null,"commands":[]}` + "\n"
	want(t, release(handed(ends(state.Released)), "--json"), printed{Code: 12, Stdout: fmt.Sprintf(object, "released", 12)})
	want(t, release(handed(ends(state.Blocked)), "--json"), printed{
		Code: 21, Stdout: fmt.Sprintf(object, "blocked", 21), Stderr: "pingover: web: blocked: why\n",
	})
}

// TestManualEvents: what is printed of each event that checks do not have, on a
// terminal and for cron.
func TestManualEvents(t *testing.T) {
	dir := checked(t, "web")
	failed := func(hook string) failover.HookRan {
		return failover.HookRan{
			Hook:    hook,
			Command: state.Command{Argv: []string{"fence", "web"}, Code: new(3), Output: "no answer\n\n  twice\x1b[m\r\n"},
			Error:   errors.New("fence web: exit code 3: no answer"),
		}
	}
	tests := []struct {
		name                  string
		event                 any
		verbose, plain, quiet string
	}{
		{
			"a lock that is held",
			run.LockWaited{PID: 1234, For: 90 * time.Second},
			"pingover: web: waiting for run 1234 of this cluster to end, at most 1m30s\n",
			"pingover: web: waiting for run 1234 of this cluster to end, at most 1m30s\n", "",
		},
		{
			"a lock of an unknown process",
			run.LockWaited{For: time.Minute},
			"pingover: web: waiting for another run of this cluster to end, at most 1m\n",
			"pingover: web: waiting for another run of this cluster to end, at most 1m\n", "",
		},
		{
			"a hook",
			failover.HookRan{Hook: "post-takeover", Command: state.Command{Argv: []string{"sh", "-c", "echo a"}, Code: new(0), Output: "a\n"}},
			"pingover: web: post-takeover: ran sh -c 'echo a'\npingover: web:   a\n", "", "",
		},
		{
			"a hook that fails", failed("post-release"),
			"pingover: web: post-release failed: fence web: exit code 3: no answer\npingover: web:   no answer\npingover: web:\npingover: web:   twice [m\n",
			"pingover: web: post-release failed: fence web: exit code 3: no answer\n",
			"pingover: web: post-release failed: fence web: exit code 3: no answer\n",
		},
		{
			"a hook that refuses is in the reason", failed("pre-takeover"),
			"pingover: web: pre-takeover failed: fence web: exit code 3: no answer\npingover: web:   no answer\npingover: web:\npingover: web:   twice [m\n", "", "",
		},
		{"a decision by no rule", failover.Decided{Decision: state.Decision{Outcome: state.Released}}, "pingover: web: decision: released\n", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := handed(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
				o.OnEvent(test.event)
				return failover.Report{Outcome: state.OK, Reason: "r"}, nil
			})
			const line = "pingover: web: ok: r\n"
			want(t, p.onTerminal().run("release", "--state-dir", dir), printed{Stderr: test.verbose + line})
			want(t, p.run("release", "--state-dir", dir), printed{Stderr: test.plain + line})
			want(t, p.run("release", "--state-dir", dir, "-q"), printed{Stderr: test.quiet})
		})
	}
}

func TestTheExitCodeOfSeveralClustersIsTheWorst(t *testing.T) {
	order := []int{70, 31, 30, 32, exit.Interrupted, 78, 77, 21, 20, 14, 15, 13, 12, 11, 10, 75, 0}
	for i, a := range order {
		for j, b := range order {
			if got, want := exit.Worse(a, b), order[min(i, j)]; got != want {
				t.Errorf("of %d and %d the worse is %d, not %d", a, b, want, got)
			}
		}
	}
	if exit.Worse(0, 99) != 99 || exit.Worse(99, 70) != 99 {
		t.Error("an unknown code is not the worst")
	}

	outcomes := map[string]state.Outcome{"a": state.Released, "b": state.ReleaseFailed, "c": state.OK}
	p := handed(func(c config.Cluster, o failover.Options) (failover.Report, error) {
		o.OnEvent(run.Note{Text: "of " + c.Name, Warning: true})
		return ends(outcomes[c.Name])(c, o)
	})
	synctest.Test(t, func(t *testing.T) { // one begins after the other
		want(t, p.run("release", "c", "b", "a", "--state-dir", checked(t, "a", "b", "c")), printed{Code: 31, Stderr: `pingover: a: of a
pingover: a: released: why
pingover: b: of b
pingover: b: release-failed: why
pingover: c: of c
pingover: c: ok: why
`})
	})
}

// Who waits for a lock keeps no other cluster waiting; what is printed for
// programs comes in the order in which the clusters are known.
func TestInManualOperationsNoClusterDelaysAnother(t *testing.T) {
	dir := checked(t, "web", "db")
	path := filed(t, "clusters:\n  web: {host: 10.1.0.1, vip: 10.2.0.1}\n  db: {host: 10.1.0.2, vip: 10.2.0.2}\n")
	for _, command := range []string{"takeover", "release"} {
		bubble(command, t, func(t *testing.T) {
			p := handed(func(c config.Cluster, o failover.Options) (failover.Report, error) {
				if c.Name == "web" {
					time.Sleep(90 * time.Second)
				}
				return failover.Report{Cluster: c.Name, Outcome: state.TookOver, Code: 11, Reason: "r"}, nil
			}).configuredBy(path)
			stdout, stderr := &stopwatch{began: time.Now()}, &stopwatch{began: time.Now()}
			p.Stdout, p.Stderr = stdout, stderr
			code := p.Run(t.Context(), []string{command, "db", "web", "--json", "-v", "--state-dir", dir})
			for i, line := range stdout.lines {
				stdout.lines[i], _, _ = strings.Cut(line, `","time"`)
			}
			if diff := cmp.Diff([]string{`1m30s {"version":0,"cluster":"web`, `1m30s {"version":0,"cluster":"db`}, stdout.lines); diff != "" {
				t.Errorf("stdout: -want +got\n%s", diff)
			}
			if diff := cmp.Diff([]string{"0s pingover: db: took-over: r", "1m30s pingover: web: took-over: r"}, stderr.lines); diff != "" || code != 11 {
				t.Errorf("code %d; stderr: -want +got\n%s", code, diff)
			}
		})
	}
	bubble("resume", t, func(t *testing.T) {
		for _, name := range []string{"web", "db"} {
			remember(t, dir, &state.Record{Head: state.Head{Name: name}, ManualRelease: true})
		}
		unlock, err := state.Dir(dir).Lock("db")
		must(t, err)
		defer unlock()
		time.AfterFunc(time.Second, func() {
			if rec, err := state.Dir(dir).Load("web", false); err != nil || rec.ManualRelease {
				t.Errorf("web waits for db, %v", err)
			}
		})
		want(t, faked(nil).run("resume", "--state-dir", dir), printed{
			Code: 75,
			Stderr: fmt.Sprintf("pingover: db: waiting for run %d of this cluster to end, at most 1m30s\n", os.Getpid()) +
				"pingover: db: another run of this cluster still holds the lock after 1m30s; nothing was changed\n" +
				"pingover: web: the manual release is lifted: checks take over again\n",
		})
	})
}

// A cluster without a virtual IP does not prevent the takeover of the others.
func TestAllPassesOverClustersWithoutAVirtualIP(t *testing.T) {
	some := filed(t, "clusters:\n  web: {host: 10.1.0.1, vip: 10.2.0.1}\n  report: {host: 10.1.0.2}\n  db: {host: 10.1.0.3, vip: 10.2.0.3}\n")
	none := filed(t, "clusters:\n  report: {host: 10.1.0.2}\n  more: {host: 10.1.0.3}\n")
	dir := t.TempDir()
	for _, command := range []string{"takeover", "release"} {
		for _, test := range []struct {
			file, args, want string
			code             int
			stderr           string
		}{
			{file: some, args: "--all", want: "db web"},
			{file: some, args: "report web", want: "report web"},
			{file: none, args: "--all", code: 78, stderr: "pingover: no cluster has a virtual IP\n"},
			{file: none, args: "report", want: "report"},
		} {
			var done roll
			got := handed(done.call).configuredBy(test.file).run(append([]string{command, "-q", "--state-dir", dir}, strings.Fields(test.args)...)...)
			want(t, got, printed{Code: test.code, Stderr: test.stderr})
			if diff := cmp.Diff(test.want, done.sorted()); diff != "" {
				t.Errorf("%s %s: -want +got\n%s", command, test.args, diff)
			}
		}
	}
}

// What a dry run shows is what would be run, or what is kept from it.
func TestAManualDryRun(t *testing.T) {
	dir := checked(t, "web")
	for _, test := range []struct {
		outcome state.Outcome
		want    string
	}{
		{state.TookOver, "pingover: web: would run: ip addr del a\npingover: web: took-over (dry run): why\n"},
		{state.Released, "pingover: web: would run: ip addr del a\npingover: web: released (dry run): why\n"},
		{state.Holding, "pingover: web: would run: ip addr del a\npingover: web: holding (dry run): why\n"},
		{state.OK, "pingover: web: ok (dry run): why\npingover: web: would otherwise run: ip addr del a\n"},
		{state.Blocked, "pingover: web: blocked (dry run): why\npingover: web: would otherwise run: ip addr del a\n"},
		{state.Unknown, "pingover: web: unknown (dry run): why\npingover: web: would otherwise run: ip addr del a\n"},
	} {
		p := handed(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
			del := state.Command{Argv: []string{"ip", "addr", "del", "a"}}
			o.OnEvent(run.Ran{Command: del, DryRun: o.DryRun})
			return failover.Report{
				Outcome: test.outcome, Code: test.outcome.Code(), DryRun: o.DryRun, Reason: "why",
				Evidence: state.Evidence{Commands: []state.Command{del}},
			}, nil
		})
		want(t, p.run("release", "-n", "--state-dir", dir), printed{Code: test.outcome.Code(), Stderr: test.want})
		want(t, p.onTerminal().run("release", "-n", "--state-dir", dir), printed{Code: test.outcome.Code(), Stderr: test.want})
		if got := p.run("release", "-nq", "--state-dir", dir).Stderr; strings.Contains(got, "would") {
			t.Errorf("quiet: %q", got)
		}
	}
}

func TestASignalWhileSeveralClusters(t *testing.T) {
	dir := checked(t, "a", "b", "c")
	for _, test := range []struct {
		name, args, stderr string
		code               int
		err                error // of what is done to b when the signal comes
	}{
		{"while b acts", "a b c", "pingover: a: ok: why\npingover: b: ok: why\n", exit.Interrupted, nil},
		{"before b acts", "a b c", "pingover: a: ok: why\n", exit.Interrupted, context.Canceled},
		{"while the last one acts", "a b", "pingover: a: ok: why\npingover: b: ok: why\n", 0, nil},
	} {
		bubble(test.name, t, func(t *testing.T) { // one begins after the other
			ctx, cancel := context.WithCancel(t.Context())
			p := faked(nil)
			p.TakeOver = func(_ context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
				r, _ := ends(state.OK)(c, o)
				if c.Name == "b" {
					cancel()
					return r, test.err
				}
				return r, nil
			}
			var stderr strings.Builder
			p.Stderr = &stderr
			code := p.Run(ctx, append([]string{"takeover", "--state-dir", dir}, strings.Fields(test.args)...))
			want(t, printed{code, "", stderr.String()}, printed{Code: test.code, Stderr: test.stderr})
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the time is that of the bubble, and flies
		dir := checked(t, "db", "web")
		run := func(args ...string) printed { return faked(nil).run(append(args, "--state-dir", dir)...) }
		until := func(cluster string) string {
			u, err := state.Dir(dir).PausedUntil(cluster)
			must(t, err)
			return u.UTC().Format(time.RFC3339)
		}
		released := func(cluster string) bool {
			rec, err := state.Dir(dir).Load(cluster, false)
			must(t, err)
			return rec.ManualRelease
		}
		const nothing = "nothing to resume: neither paused nor released manually\n"

		want(t, run("resume"), printed{Stderr: "pingover: db: " + nothing + "pingover: web: " + nothing})
		want(t, run("pause", "web"), printed{Stderr: "pingover: web: paused until " + clock(time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC).Local()) + " (1h); checks go on, nothing is switched\n"})
		want(t, run("pause", "web", "--for", "36h"), printed{Stderr: "pingover: web: paused until " + clock(time.Date(2000, 1, 2, 12, 0, 0, 0, time.UTC).Local()) + " (36h); checks go on, nothing is switched\n"})
		if got := until("web"); got != "2000-01-02T12:00:00Z" {
			t.Errorf("paused until %s", got)
		}
		if got := until("db"); got != "0001-01-01T00:00:00Z" {
			t.Errorf("db is paused, too: until %s", got)
		}
		want(t, run("pause", "--all", "-q", "--for", "1s"), printed{})
		if got := until("db") + " " + until("web"); got != "2000-01-01T00:00:01Z 2000-01-01T00:00:01Z" {
			t.Errorf("paused until %s", got)
		}
		want(t, run("resume", "web"), printed{Stderr: "pingover: web: resumed: checks switch again\n"})
		want(t, run("resume", "web"), printed{Stderr: "pingover: web: " + nothing})
		time.Sleep(time.Second)
		want(t, run("resume", "-q"), printed{}) // db's has ended by itself

		const takeAgain = "the manual release is lifted: checks take over again\n"
		remember(t, dir, &state.Record{Head: state.Head{Name: "web"}, ManualRelease: true})
		want(t, run("pause", "web", "-q"), printed{})
		want(t, run("resume", "--all"), printed{Stderr: "pingover: db: " + nothing + "pingover: web: resumed: checks switch again\npingover: web: " + takeAgain})
		if released("web") {
			t.Error("web is still released manually")
		}

		// A check that does not end keeps the record, but not the pause.
		remember(t, dir, &state.Record{Head: state.Head{Name: "web"}, ManualRelease: true})
		want(t, run("pause", "web", "-q"), printed{})
		unlock, err := state.Dir(dir).Lock("web")
		must(t, err)
		waiting := fmt.Sprintf("pingover: web: waiting for run %d of this cluster to end, at most 1m30s\n", os.Getpid())
		want(t, run("resume", "web"), printed{
			Code: 75,
			Stderr: waiting + "pingover: web: resumed: checks switch again\n" +
				"pingover: web: another run of this cluster still holds the lock after 1m30s; nothing was changed\n",
		})
		time.AfterFunc(time.Minute, unlock)
		want(t, run("resume", "web"), printed{Stderr: waiting + "pingover: web: " + takeAgain})
	})
}

func TestAPauseThatCannotBeWritten(t *testing.T) {
	dir := checked(t, "db", "web")
	must(t, os.Symlink("elsewhere", filepath.Join(dir, "db.pause")))
	link := "pingover: db: " + dir + "/db.pause is a symbolic link, and pingover's own files never are\nhint: remove it, or choose another --state-dir\n"
	got := faked(nil).run("pause", "--all", "--state-dir", dir)
	if !strings.HasPrefix(got.Stderr, link+"pingover: web: paused until ") || got.Code != 78 {
		t.Errorf("%+v", got)
	}
	want(t, faked(nil).run("resume", "db", "-q", "--state-dir", dir), printed{Code: 78, Stderr: link})
}

func TestHowLongAPauseLasts(t *testing.T) {
	dir := checked(t, "web")
	const limits = " (1s to 365d)\n"
	for _, test := range []struct{ given, want string }{
		{"-1h", "not a duration such as 3s, 1500ms or 2h"},
		{"0", "out of range"},
		{"5", "a duration needs a unit, such as 5s"},
		{"999ms", "out of range"},
		{"366d", "out of range"},
		{"", "not a duration such as 3s, 1500ms or 2h"},
		{"tomorrow", "not a duration such as 3s, 1500ms or 2h"},
	} {
		want(t, faked(nil).run("pause", "web", "--state-dir", dir, "--for", test.given),
			printed{Code: 64, Stderr: fmt.Sprintf("pingover: --for %q: %s", test.given, test.want) + limits})
	}
	want(t, faked(nil).run("pause", "--for", "1h", "--for", "2h", "--state-dir", dir), printed{Code: 64, Stderr: "pingover: --for \"2h\": given 2 times, and takes one value\n"})
	if until, err := state.Dir(dir).PausedUntil("web"); !until.IsZero() || err != nil {
		t.Errorf("paused until %v, %v", until, err)
	}
	for _, given := range []string{"1s", "365d"} {
		if got := faked(nil).run("pause", "--for="+given, "--state-dir", dir); got.Code != 0 {
			t.Errorf("%+v", got)
		}
	}
}
