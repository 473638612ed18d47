package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/observe"
	"pingover/internal/run"
	"pingover/state"
)

// printed is how a command line ended.
type printed struct {
	Code           int
	Stdout, Stderr string
}

// faked is a program whose checks are made by check.
func faked(check func(config.Cluster, failover.Options) (failover.Report, error)) Program {
	return Program{
		Version: "v1.2.3",
		Env:     config.Env{Hostname: "standby", Root: true, Getenv: func(string) string { return "" }},
		Check: func(_ context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			return check(c, o)
		},
	}
}

func (p Program) run(args ...string) printed {
	var stdout, stderr strings.Builder
	p.Stdout, p.Stderr = &stdout, &stderr
	code := p.Run(context.Background(), args)
	return printed{code, stdout.String(), stderr.String()}
}

// onTerminal is p with a terminal for stderr.
func (p Program) onTerminal() Program {
	p.Terminal = true
	return p
}

func want(t *testing.T, got, want printed) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// takeover is a check that takes over, with all that it tells.
func takeover(_ config.Cluster, o failover.Options) (failover.Report, error) {
	host := netip.MustParseAddr("172.16.0.2")
	add := state.Command{Argv: []string{"ip", "addr", "add", "172.16.0.1/32", "dev", "eth0", "label", "eth0:1"}, Code: new(0)}
	if o.DryRun {
		add.Code = nil
	}
	down := state.Round{Verdict: "down", Sent: 5}
	evidence := state.Evidence{
		Address:   "172.16.0.2",
		Rounds:    []state.Round{down, down},
		Witnesses: []state.Witness{{Address: "172.16.0.254", Answers: true, By: new("ping")}},
		Commands:  []state.Command{add},
	}
	for n := 1; n <= 2; n++ {
		o.OnEvent(run.RoundBegan{N: n, Host: "172.16.0.2", Address: host, Count: 5, Interval: 3 * time.Second, Timeout: time.Second})
		o.OnEvent(run.RoundEnded{N: n, Round: down})
		if n == 1 {
			o.OnEvent(run.Waiting{For: 20 * time.Second, Why: "before the second round"})
		}
	}
	o.OnEvent(observe.Guarded{Witnesses: evidence.Witnesses})
	o.OnEvent(failover.Decided{Decision: state.Decision{Rule: 14, Outcome: state.TookOver}})
	o.OnEvent(run.Ran{Command: add, DryRun: o.DryRun})
	if !o.DryRun {
		o.OnEvent(failover.Announced{Address: netip.MustParseAddr("172.16.0.1"), Interface: "eth0", MAC: "02:00:00:00:00:03"})
		o.OnEvent(run.Delivered{Sent: 1})
	}
	return failover.Report{
		Version: 1, Cluster: "web", Time: time.Date(2026, 3, 1, 4, 4, 5, 6, time.FixedZone("CET", 3600)),
		Outcome: state.TookOver, Code: 11, Changed: true, DryRun: o.DryRun,
		Reason: "172.16.0.2 did not answer 10 pings", Role: state.Active,
		Held: []netip.Prefix{netip.MustParsePrefix("172.16.0.1/32")}, Interface: "eth0", Host: "172.16.0.2",
		Evidence: evidence, Duration: 46120,
	}, nil
}

// fine is a check that finds all well, as the last one did.
func fine(_ config.Cluster, o failover.Options) (failover.Report, error) {
	o.OnEvent(run.RoundBegan{N: 1, Host: "db.example.com", Address: netip.MustParseAddr("172.16.0.2"), Count: 1, Interval: 1500 * time.Millisecond})
	o.OnEvent(run.Replied{N: 1, Seq: 1, RTT: 412 * time.Microsecond})
	o.OnEvent(run.RoundEnded{N: 1, Round: state.Round{Verdict: "up", Sent: 1, Received: 1, RTT: new(0.412)}})
	o.OnEvent(failover.Decided{Decision: state.Decision{Rule: 7, Outcome: state.OK}})
	return failover.Report{Version: 1, Cluster: "web", Outcome: state.OK, Reason: "172.16.0.2 replies"}, nil
}

var web = []string{"check", "--name", "web", "--host", "172.16.0.2", "--vip", "172.16.0.1"}

func TestAVerboseTakeover(t *testing.T) {
	told := printed{Code: 11, Stderr: `pingover: web: round 1: pinging 172.16.0.2, at most 5 pings, 3s apart
pingover: web: round 1: down: no reply to 5 pings
pingover: web: waiting 20s: before the second round
pingover: web: round 2: pinging 172.16.0.2, at most 5 pings, 3s apart
pingover: web: round 2: down: no reply to 5 pings
pingover: web: witness 172.16.0.254 replies (ping)
pingover: web: no machine replies at the address of the primary or at a virtual IP
pingover: web: decision: took-over, by rule 14
pingover: web: ran: ip addr add 172.16.0.1/32 dev eth0 label eth0:1
pingover: web: announced on eth0: 172.16.0.1 is at 02:00:00:00:00:03
pingover: web: mail: 1 email sent
pingover: web: took-over: 172.16.0.2 did not answer 10 pings
`}
	want(t, faked(takeover).onTerminal().run(web...), told)
	want(t, faked(takeover).run(append(web, "--verbose")...), told)
	want(t, faked(takeover).run(append(web, "-v", "web")...), told)
}

func TestATakeoverIsOneLineForCron(t *testing.T) {
	line := printed{Code: 11, Stderr: "pingover: web: took-over: 172.16.0.2 did not answer 10 pings\n"}
	want(t, faked(takeover).run(web...), line)
	want(t, faked(takeover).onTerminal().run(append(web, "--quiet")...), line)
	want(t, faked(takeover).onTerminal().run(append(web, "-q")...), line)
}

func TestADryRunShowsItsCommands(t *testing.T) {
	want(t, faked(takeover).run(append(web, "--dry-run")...), printed{Code: 11, Stderr: `pingover: web: would run: ip addr add 172.16.0.1/32 dev eth0 label eth0:1
pingover: web: took-over (dry run): 172.16.0.2 did not answer 10 pings
`})
	want(t, faked(takeover).run(append(web, "-nq")...), printed{Code: 11, Stderr: "pingover: web: took-over (dry run): 172.16.0.2 did not answer 10 pings\n"})
}

func TestNothingNewIsNothingForCron(t *testing.T) {
	want(t, faked(fine).run(web...), printed{})
	want(t, faked(fine).onTerminal().run(web...), printed{Stderr: `pingover: web: round 1: pinging db.example.com (172.16.0.2), at most 1 ping, 1.5s apart
pingover: web: round 1: reply to ping 1 after 0.4 ms
pingover: web: round 1: up
pingover: web: decision: ok, by rule 7
pingover: web: ok: 172.16.0.2 replies
`})
}

func TestJSON(t *testing.T) {
	want(t, faked(takeover).onTerminal().run(append(web, "--json")...), printed{
		Code: 11,
		Stdout: `{"version":1,"cluster":"web","time":"2026-03-01T03:04:05Z","outcome":"took-over","code":11,"changed":true,"dry_run":false,` +
			`"reason":"172.16.0.2 did not answer 10 pings","error":null,"role":"active","held":["172.16.0.1/32"],"interface":"eth0","paused":false,"host":"172.16.0.2","paths":[],` +
			`"address":"172.16.0.2","rounds":[{"verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null},{"verdict":"down","sent":5,"received":0,"rtt_ms":null,"error":null}],` +
			`"witnesses":[{"address":"172.16.0.254","answers":true,"by":"ping"}],"holders":[],` +
			`"mail_waiting":0,"duration_ms":46120,"arbiter":null,"services":[],"suppressed":null,"alerts":[],"ready":null,"config_error":null,"commands":[{"argv":["ip","addr","add","172.16.0.1/32","dev","eth0","label","eth0:1"],"hook":"","code":0,"output":""}]}` + "\n",
		Stderr: "pingover: web: took-over: 172.16.0.2 did not answer 10 pings\n",
	})
}

func TestJSONHasAllKeysAndNoNullLists(t *testing.T) {
	want(t, faked(fine).onTerminal().run(append(web, "--json")...), printed{
		Stdout: `{"version":1,"cluster":"web","time":"0001-01-01T00:00:00Z","outcome":"ok","code":0,"changed":false,"dry_run":false,` +
			`"reason":"172.16.0.2 replies","error":null,"role":"","held":[],"interface":"","paused":false,"host":"","paths":[],` +
			`"address":"","rounds":[],"witnesses":[],"holders":[],"mail_waiting":0,"duration_ms":0,"arbiter":null,"services":[],"suppressed":null,"alerts":[],"ready":null,"config_error":null,"commands":[]}` + "\n",
	})
}

func TestAVerboseCheckTalksBesideItsJSON(t *testing.T) {
	got := faked(fine).run(append(web, "--json", "--verbose")...)
	if !strings.HasPrefix(got.Stderr, "pingover: web: round 1: pinging") || !strings.HasPrefix(got.Stdout, "{") {
		t.Errorf("%+v", got)
	}
}

// errored is a check that is not made.
func errored(err error) Program {
	return faked(func(config.Cluster, failover.Options) (failover.Report, error) { return failover.Report{}, err })
}

func TestChecksThatAreNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the time is that of the bubble
		const begin, middle, end = `{"version":1,"cluster":"web","time":"2000-01-01T00:00:00Z",`,
			`,"changed":false,"dry_run":false,"reason":"",`,
			`"role":"","held":[],"interface":"","paused":false,"host":"172.16.0.2","paths":["172.16.0.2"],"address":"","rounds":[],"witnesses":[],"holders":[],"mail_waiting":0,"duration_ms":0,"arbiter":null,"services":[],"suppressed":null,"alerts":[],"ready":null,"config_error":null,"commands":[]}` + "\n"
		busy := errored(&run.Error{Code: 75, Text: "another run holds the lock"})
		want(t, busy.run(web...), printed{Code: 75})
		want(t, busy.run(append(web, "-v")...), printed{Code: 75, Stderr: "pingover: web: another run holds the lock\n"})
		want(t, busy.run(append(web, "--json")...), printed{
			Code:   75,
			Stdout: begin + `"outcome":"busy","code":75` + middle + `"error":"another run holds the lock",` + end,
		})

		wrapped := errored(fmt.Errorf("check: %w", &run.Error{Code: 77, Text: "no right to ping", Hint: "run it as root"}))
		want(t, wrapped.run(append(web, "--json")...), printed{
			Code:   77,
			Stdout: begin + `"outcome":"error","code":77` + middle + `"error":"check: no right to ping",` + end,
			Stderr: "pingover: web: check: no right to ping\nhint: run it as root\n",
		})
	})
}

func TestAnUnforeseenErrorIsAnInternalError(t *testing.T) {
	want(t, errored(errors.New("lost")).run(web...), printed{Code: 70, Stderr: "pingover: web: lost\n"})
	// urfave/cli would make the exit code of a child its own.
	want(t, errored(exec.Command("sh", "-c", "exit 3").Run()).run(web...), printed{Code: 70, Stderr: "pingover: web: exit status 3\n"})
}

func TestAPanicIsABugToo(t *testing.T) {
	panics := func() error {
		var r *failover.Report
		return errors.New(r.Reason)
	}
	for name, check := range map[string]Act{
		"here": func(context.Context, config.Cluster, failover.Options) (failover.Report, error) {
			return failover.Report{}, panics()
		},
		"in a goroutine of package failover": func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
			return failover.CheckIn(ctx, failover.Env{MayPing: panics}, c, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := faked(nil)
			p.Check = check
			got := p.run(web...)
			before, _, _ := strings.Cut(got.Stderr, " (pingover/internal/cli.TestAPanicIsABugToo.func1, line ")
			want(t, printed{got.Code, got.Stdout, before}, printed{Code: 70, Stderr: "pingover: web: internal error: runtime error: invalid memory address or nil pointer dereference"})
			if strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("not one line: %q", got.Stderr)
			}
		})
	}
}

func TestASignalBeforeTheCheckActed(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	p := errored(nil)
	p.Check = func(ctx context.Context, _ config.Cluster, _ failover.Options) (failover.Report, error) {
		cancel(errors.New("SIGTERM"))
		return failover.Report{}, context.Cause(ctx)
	}
	for _, test := range []struct{ flag, stderr string }{
		{"--verbose", "pingover: web: ended by SIGTERM before it had changed anything\n"},
		{"--json", ""},
	} {
		var stdout, stderr strings.Builder
		p.Stdout, p.Stderr = &stdout, &stderr
		code := p.Run(ctx, append(web, test.flag))
		want(t, printed{code, stdout.String(), stderr.String()}, printed{Code: exit.Interrupted, Stderr: test.stderr})
	}
}

func TestASignalAfterTheCheckActed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := faked(takeover)
	check := p.Check
	p.Check = func(ctx context.Context, c config.Cluster, o failover.Options) (failover.Report, error) {
		cancel()
		return check(ctx, c, o)
	}
	var stderr strings.Builder
	p.Stderr = &stderr
	code := p.Run(ctx, web)
	want(t, printed{code, "", stderr.String()}, printed{Code: 11, Stderr: "pingover: web: took-over: 172.16.0.2 did not answer 10 pings\n"})
}

// TestWords: what a verbose check prints of each event that the
// takeover above does not have.
func TestWords(t *testing.T) {
	tests := []struct {
		name  string
		event any
		want  string
	}{
		{"a round that could not be made", run.RoundEnded{N: 2, Round: state.Round{Verdict: "unknown", Sent: 3, Error: new("network is unreachable")}}, "pingover: web: round 2: unknown: network is unreachable"},
		{"witnesses and holders", observe.Guarded{
			Witnesses: []state.Witness{{Address: "172.16.0.254"}, {Address: "172.16.0.253", Answers: true}},
			Holders:   []state.Holder{{Address: "172.16.0.1", MAC: "52:54:00:aa:bb:cc"}, {Address: "2001:db8::1"}},
		}, `pingover: web: witness 172.16.0.254 does not reply
pingover: web: witness 172.16.0.253 replies
pingover: web: 172.16.0.1 is in use by 52:54:00:aa:bb:cc
pingover: web: 2001:db8::1 is in use`},
		{"what the primary has is not another machine's", observe.Guarded{
			Holders: []state.Holder{{Address: "172.16.0.2", MAC: "02:00:00:00:00:02"}, {Address: "172.16.0.1", MAC: "02:00:00:00:00:02"}},
			Primary: state.Holder{Address: "172.16.0.2", MAC: "02:00:00:00:00:02"},
		}, `pingover: web: primary 172.16.0.2 is at 02:00:00:00:00:02
pingover: web: 172.16.0.1 is in use by the primary, 02:00:00:00:00:02`},
		{"services", observe.ServicesAsked{Answers: []state.ServiceAnswer{
			{Service: "tcp:80", Address: "172.16.0.1", Health: "good"},
			{Service: "check_http", Address: "172.16.0.1", Health: "bad", Reason: "exit code 2: HTTP CRITICAL"},
		}}, "pingover: web: service tcp:80 at 172.16.0.1: good\npingover: web: service check_http at 172.16.0.1: bad: exit code 2: HTTP CRITICAL"},
		{"a command that fails", run.Ran{Command: state.Command{Argv: []string{"ip", "addr", "add"}, Code: new(2), Output: "RTNETLINK answers:\n  File exists\n"}}, "pingover: web: ran: ip addr add: exit code 2: RTNETLINK answers:   File exists"},
		{"a command that fails silently", run.Ran{Command: state.Command{Argv: []string{"false"}, Code: new(1)}}, "pingover: web: ran: false: exit code 1"},
		{"a command that needs quotes", run.Ran{Command: state.Command{Argv: []string{"sh", "-c", "echo 'a b'; $x", ""}, Code: new(0)}}, `pingover: web: ran: sh -c 'echo '\''a b'\''; $x' ''`},
		{"mail that waits", run.Delivered{Sent: 2, Waiting: 1, Error: errors.New("connection refused")}, "pingover: web: mail: 2 emails sent\npingover: web: mail: 1 email pending: connection refused"},
		{"a note", run.Note{Text: "no witness was found"}, "pingover: web: no witness was found"},
		{"a loud note", run.Note{Text: "the record is broken", Warning: true}, "pingover: web: the record is broken"},
		{"what came from outside stays in its line", run.Note{Text: "a\x1b[31m\r\nb"}, "pingover: web: a [31m  b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := faked(func(_ config.Cluster, o failover.Options) (failover.Report, error) {
				o.OnEvent(test.event)
				return failover.Report{Outcome: state.Holding, Code: 10, Reason: "r"}, nil
			})
			want(t, p.onTerminal().run(web...), printed{Code: 10, Stderr: test.want + "\npingover: web: holding: r\n"})
			quiet := ""
			if e, ok := test.event.(run.Note); ok && e.Warning {
				quiet = test.want + "\n"
			}
			want(t, p.run(web...), printed{Code: 10, Stderr: quiet})
		})
	}
}

func TestTheErrorOfACheckIsInItsLine(t *testing.T) {
	p := faked(func(config.Cluster, failover.Options) (failover.Report, error) {
		return failover.Report{Outcome: state.TakeoverFailed, Code: 30, Changed: true, Reason: "172.16.0.2 is down", Error: new("ip addr add: exit code 1")}, nil
	})
	want(t, p.run(web...), printed{Code: 30, Stderr: "pingover: web: takeover-failed: 172.16.0.2 is down: ip addr add: exit code 1\n"})
}

func TestTheSettingsReachTheCheck(t *testing.T) {
	var got config.Cluster
	var dry bool
	p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
		got, dry = c, o.DryRun
		return failover.Report{}, nil
	})
	tests := []struct {
		name string
		args []string
		seen func() string
		want string
	}{
		{"a name with a comma is one recipient", []string{"--mail-to", "Ops, Team <a@b>", "--mail-to", "root"}, func() string { return strings.Join(got.Mail.To, "|") }, `"Ops, Team" <a@b>|root`},
		{"repeated vips, around a name", []string{"--vip", "172.16.0.1", "web", "--vip", "172.16.0.5"}, func() string { return fmt.Sprint(got.VIPs) }, "[{172.16.0.1/32 } {172.16.0.5/32 }]"},
		{"--duplicate-check false", []string{"--duplicate-check", "false", "web"}, func() string { return fmt.Sprint(got.DuplicateCheck) }, "false"},
		{"--duplicate-check=false", []string{"--duplicate-check=false", "web"}, func() string { return fmt.Sprint(got.DuplicateCheck) }, "false"},
		{"--duplicate-check", []string{"--duplicate-check", "web"}, func() string { return fmt.Sprint(got.DuplicateCheck) }, "true"},
		{"-n", []string{"-n"}, func() string { return fmt.Sprint(dry) }, "true"},
		{"--dry-run false", []string{"--dry-run", "false", "web"}, func() string { return fmt.Sprint(dry) }, "false"},
		{"short flags as in ping", []string{"-c", "7", "-i", "2s", "-W2s", "-I", "eth0"}, func() string { return fmt.Sprint(got.Count, got.Interval, got.Timeout, " ", got.Interface) }, "7 2s 2s eth0"},
		{"a cluster called help", []string{"--name", "help", "help"}, func() string { return got.Name }, "help"},
		{"a cluster called like a flag", []string{"--name", "json", "--json", "json"}, func() string { return got.Name }, "json"},
		{"a cluster called like a word of a flag", []string{"--name", "false", "--", "false"}, func() string { return got.Name }, "false"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, dry = config.Cluster{}, false
			args := []string{"check", "--host", "172.16.0.2"}
			if !strings.Contains(strings.Join(test.args, " "), "--name") {
				args = append(args, "--name", "web")
			}
			if ended := p.run(append(args, test.args...)...); ended.Code != 0 || ended.Stderr != "" {
				t.Fatalf("%+v", ended)
			}
			if test.seen() != test.want {
				t.Errorf("got %s, want %s", test.seen(), test.want)
			}
		})
	}
}

func TestEverySettingIsInHelpWithItsRangeAndDefault(t *testing.T) {
	help := strings.Join(strings.Fields(faked(nil).run("help", "settings").Stdout), " ")
	for _, s := range config.Settings() {
		words := []string{"--" + s.Name + " ", s.Help, s.Range, s.Default + s.Derived}
		if s.Short != "" {
			words = append(words, "-"+s.Short+", --"+s.Name)
		}
		for _, word := range words {
			if !strings.Contains(help, word) {
				t.Errorf("%s: help does not say %q", s.Name, word)
			}
		}
	}
}

// A command's help has the settings that matter first, and says where all are.
func TestHelpOfACommandHasTenSettings(t *testing.T) {
	for _, command := range []string{"check", "watch", "takeover", "release", "config", "doctor"} {
		help := faked(nil).run("help", command).Stdout
		_, settings, ok := strings.Cut(help, "\nSettings:\n")
		settings, _, rest := strings.Cut(settings, "\nAll settings: pingover help settings\n")
		if n := strings.Count("\n"+settings, "--"); !ok || !rest || n != 10 {
			t.Errorf("%s: %d settings:\n%s", command, n, help)
		}
	}
	if help := faked(nil).run("help", "pause").Stdout; strings.Contains(help, "All settings") {
		t.Errorf("pause has them all already:\n%s", help)
	}
}

func TestWithoutACommandTheUsageIsPrinted(t *testing.T) {
	usage := faked(nil).run("help").Stdout
	want(t, faked(nil).run(), printed{Code: 64, Stderr: usage})
	for _, heading := range []string{"\nRun:\n", "\nShow:\n", "\nOperate:\n", "\nSet up:\n"} {
		if strings.Count(usage, heading) != 1 {
			t.Errorf("%q:\n%s", heading, usage)
		}
	}
}

func TestEveryExitCodeIsInHelp(t *testing.T) {
	for _, o := range []state.Outcome{
		state.OK, state.Holding, state.TookOver, state.Released, state.Elsewhere, state.Down, state.Unserved,
		state.Unknown, state.Blocked, state.TakeoverFailed, state.ReleaseFailed, state.StateFailed,
	} {
		if line := fmt.Sprintf("\n  %2d  %-16s ", o.Code(), o); !strings.Contains(faked(nil).run("help", "check").Stdout, line) {
			t.Errorf("help does not have %q", line)
		}
	}
}

// On a terminal, or with stderr in a file, each line of a verbose check begins with
// the time; among several clusters each has one block.
func TestAVerboseCheckHasTimesAndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
			o.OnEvent(run.Note{Text: "first"})
			time.Sleep(time.Second)
			o.OnEvent(run.Note{Text: "second"})
			return failover.Report{Outcome: state.OK, Reason: "fine"}, nil
		})
		path := filepath.Join(t.TempDir(), "pingover.yaml")
		if err := os.WriteFile(path, []byte("defaults: {state-dir: "+t.TempDir()+"}\nclusters: {a: {host: 10.0.0.1}, b: {host: 10.0.0.2}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Stamp, p.File = TimeStamp, path
		got := p.run("check", "--verbose")
		at := func(d time.Duration) string { return time.Now().Add(d - time.Second).Format("15:04:05") }
		var lines []string
		for line := range strings.Lines(got.Stderr) {
			clock, text, _ := strings.Cut(line, " ")
			lines = append(lines, clock[:8]+" "+text)
		}
		want := ""
		for _, name := range []string{"a", "b"} {
			want += at(0) + " pingover: " + name + ": first\n" + at(time.Second) + " pingover: " + name + ": second\n" +
				at(time.Second) + " pingover: " + name + ": ok: fine\n"
		}
		if diff := cmp.Diff(want, strings.Join(lines, "")); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}
