package cli

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pingover/internal/config"
	"pingover/internal/exit"
	"pingover/internal/failover"
	"pingover/internal/lab"
	"pingover/state"
)

// mailing is p that notes what it mails: the cluster by whose server, and the
// subject.
func (p Program) mailing(sent *[]string) Program {
	p.Deliver = func(_ context.Context, c config.Cluster, m []state.Message) ([]state.Message, error) {
		for _, m := range m {
			*sent = append(*sent, fmt.Sprint(c.Name, " ", m.To, " ", m.Subject))
		}
		return nil, nil
	}
	return p
}

func TestTheLastValidFileStaysInEffectAsAWhole(t *testing.T) {
	dir := t.TempDir()
	const good = "defaults: {state-dir: DIR, mail-via: 'smtp://mail', remind: 2d}\nclusters:\n  web: {host: 10.1.0.1, mail-to: [ops, root]}\n  db: {host: 10.1.0.2, mail-to: ops}\n  far: {host: 10.1.0.3, mail-to: dba, mail-via: 'smtp://other'}\n"
	path := filed(t, strings.ReplaceAll(good, "DIR", dir))
	write := func(text string) { must(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600)) }
	var sent []string
	var seen roll
	code := 0
	p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
		if o.Origin != path || o.Unconfigured {
			t.Errorf("%s: %+v", c.Name, o)
		}
		if c.Name != "web" {
			return seen.call(c, o)
		}
		_, _ = seen.call(c, o)
		return failover.Report{Code: code}, nil
	}).configuredBy(path).mailing(&sent)
	check := func(want int, stderr string, args ...string) {
		t.Helper()
		seen.names = nil
		got := p.run(append([]string{"check"}, args...)...)
		if got.Code != want || !strings.HasPrefix(got.Stderr, strings.ReplaceAll(stderr, "FILE", path)) || stderr == "" && got.Stderr != "" {
			t.Errorf("code %d, want %d; stderr %q, want %q", got.Code, want, got.Stderr, stderr)
		}
	}
	check(0, "")
	const errs = "pingover: FILE:3: cluster web: key \"hots\": unknown; did you mean host?\npingover: FILE:3: cluster web: host: missing"
	broken := strings.Replace(good, "web: {host", "web: {hots", 1)
	write(broken)
	check(78, errs)
	if seen.sorted() != "db far web" {
		t.Errorf("checked %s", seen.names)
	}
	check(78, "")
	check(78, "", "db")
	if seen.sorted() != "db" {
		t.Errorf("checked %s", seen.names)
	}
	for own, want := range map[int]int{
		0: 78, 10: 10, 11: 11, 12: 12, 13: 13, 14: 14, 15: 15, 20: 20, 21: 21, 30: 30, 31: 31, 32: 32,
		exit.Busy: 78, exit.Permission: 78, exit.Internal: 70,
	} {
		code = own
		check(want, "")
	}
	code = 0
	write(strings.Replace(broken, "db: {host", "db: {hots", 1))
	check(78, errs)
	check(64, "pingover: --count \"0\": out of range", "--count", "0")
	check(64, "pingover: \"dbb\": no such cluster; known: web, db, far\nhint: did you mean db?", "dbb")
	write(good)
	check(0, "pingover: FILE can be used again\n")
	check(0, "")
	var want []string
	for _, what := range []string{"PROBLEM: FILE cannot be used: 2 errors", "PROBLEM: FILE cannot be used: 4 errors", "RESOLVED: FILE can be used again"} {
		what = strings.ReplaceAll(what, "FILE", path)
		want = append(want, "web [ops root] [pingover] web, db: "+what, "far [dba] [pingover] far: "+what)
	}
	if diff := cmp.Diff(want, sent, cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) })); diff != "" {
		t.Errorf("mail (-want +got)\n%s", diff)
	}
}

func TestMailAboutTheFileWaitsForItsServer(t *testing.T) {
	dir, path := t.TempDir(), filed(t, "clusters: {web: {host: 10.1.0.1, mail-to: ops}}\n")
	var sent []string
	p := faked(func(config.Cluster, failover.Options) (failover.Report, error) { return failover.Report{}, nil }).configuredBy(path).mailing(&sent)
	up := p.Deliver
	p.run("check", "--state-dir", dir)
	must(t, os.WriteFile(path, []byte("clusters: {web: {hots: 10.1.0.1}}\n"), 0o600))
	p.Deliver = func(_ context.Context, _ config.Cluster, m []state.Message) ([]state.Message, error) {
		return m, fmt.Errorf("connection refused")
	}
	if got := p.run("check", "--state-dir", dir); !strings.HasSuffix(got.Stderr, "pingover: mail is pending: connection refused\n") {
		t.Errorf("%+v", got)
	}
	p.Deliver = up
	for range 2 {
		p.run("check", "--state-dir", dir)
	}
	if len(sent) != 1 || !strings.Contains(sent[0], "cannot be used") {
		t.Errorf("mail %q", sent)
	}
}

// loopback is what every machine holds.
var loopback = state.Alias{Prefix: netip.MustParsePrefix("127.0.0.1/8"), Interface: "lo", Raised: true}

func TestWhoseClustersAreGuardedWhenTheyLeaveTheFile(t *testing.T) {
	const held = "10.254.254.1/32"
	if os.Getenv("PINGOVER_TEST_HOLDS") == "" { // in a network of its own
		lab.Needed(t)
		cmd := exec.Command("/proc/self/exe", lab.Again(t)...)
		cmd.Env = append(os.Environ(), "PINGOVER_TEST_HOLDS="+held)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		must(t, lab.RunAgain(t, cmd))
		return
	}
	if out, err := exec.Command("sh", "-ec", "ip link add held0 type veth peer name held1; ip link set held0 up; ip addr add "+held+" dev held0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	now := time.Now()
	old := &state.Check{Time: now.Add(-time.Hour), Outcome: state.Holding}
	for _, test := range []struct {
		name    string
		rec     state.Record // of the cluster "left"
		vip     string       // of the cluster that is configured
		want    string       // what is checked
		inherit string
	}{
		{name: "of this file", rec: state.Record{Origin: "FILE"}, want: "left- web"},
		{name: "of another file", rec: state.Record{Origin: "/etc/other.yaml", Head: state.Head{Last: old}}, want: "web"},
		{name: "of flags that cron checks", rec: state.Record{Origin: state.FlagsOrigin, Head: state.Head{Last: &state.Check{Time: now, Outcome: state.Holding}}}, want: "web"},
		{name: "of flags that are overdue", rec: state.Record{Origin: state.FlagsOrigin, Head: state.Head{Last: old}}, want: "left- web"},
		{name: "of an earlier version and overdue", rec: state.Record{Head: state.Head{Last: old}}, want: "left- web"},
		{name: "that holds nothing", rec: state.Record{Origin: "FILE", VIPs: []state.Alias{{Prefix: netip.MustParsePrefix("10.255.255.1/32"), Raised: true}}}, want: "web"},
		{name: "that only has another name now", rec: state.Record{Origin: "FILE", VIPs: []state.Alias{{Prefix: netip.MustParsePrefix("10.255.255.1/32"), Raised: true}}}, vip: "10.255.255.1", want: "web", inherit: "left"},
		{name: "that is still released", rec: state.Record{Origin: "FILE", Role: state.Releasing, Offered: []netip.Addr{netip.MustParseAddr("10.255.255.1")}, VIPs: []state.Alias{{Prefix: netip.MustParsePrefix("10.255.255.1/32")}}}, want: "left- web"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			vip := ""
			if test.vip != "" {
				vip = ", vip: " + test.vip
			}
			path := filed(t, "defaults: {state-dir: "+dir+"}\nclusters:\n  web: {host: 10.1.0.1"+vip+"}\n")
			rec := test.rec
			rec.Name = "left"
			rec.Origin = strings.ReplaceAll(rec.Origin, "FILE", path)
			if rec.VIPs == nil {
				rec.VIPs = []state.Alias{{Prefix: netip.MustParsePrefix(held), Interface: "held0", Raised: true}}
			}
			remember(t, dir, &rec)
			var seen roll
			inherits := ""
			p := faked(func(c config.Cluster, o failover.Options) (failover.Report, error) {
				if c.Name == "web" {
					inherits = o.Inherits
				}
				if o.Unconfigured {
					c.Name += "-"
				}
				return seen.call(c, o)
			}).configuredBy(path)
			want(t, p.run("check"), printed{})
			if got := seen.sorted(); got != test.want || inherits != test.inherit {
				t.Errorf("checked %q, inherits %q; want %q, %q", got, inherits, test.want, test.inherit)
			}
			seen.names = nil
			if p.run("check", "web"); seen.sorted() != "web" {
				t.Errorf("by name: checked %q", seen.names)
			}
		})
	}
}

func TestAWatchReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		header := "defaults: {state-dir: " + dir + "}\nclusters:\n"
		path := filed(t, header+"  web: {host: 10.1.0.1}\n  db: {host: 10.1.0.2}\n")
		hangup := make(chan os.Signal)
		slow := func(_ context.Context, _ int, c config.Cluster, _ failover.Options) (failover.Report, error) {
			if c.Name == "web" {
				time.Sleep(8 * time.Second)
			}
			return failover.Report{Cluster: c.Name, Outcome: state.OK}, nil
		}
		w := watching(slow)
		w.Program = w.Program.configuredBy(path)
		w.Hangup = func() <-chan os.Signal { return hangup }
		write := func(after time.Duration, clusters string) {
			time.AfterFunc(after, func() {
				_ = os.WriteFile(path, []byte(clusters), 0o600)
				hangup <- os.Interrupt
			})
		}
		write(13*time.Second, header+"  web: {host: 10.1.0.1}\n  www: {host: 10.1.0.3}\n")
		write(34*time.Second, header+"  web: {hots: 10.1.0.1}\n")
		got := w.Program.run("watch", "--every", "10s", "--for", "45s")
		want(t, got, printed{Stderr: strings.ReplaceAll(`pingover: watching with version v1.2.3, every 10s: web never checked, db never checked
pingover: reloaded: web never checked, www never checked
pingover: FILE:3: cluster web: key "hots": unknown; did you mean host?
pingover: FILE:3: cluster web: host: missing; every cluster needs one
pingover: FILE cannot be used; going on with the last valid file, of `+clock(w.start.Add(13*time.Second).Local())+`
pingover: not reloaded; still watching: web never checked, www never checked
pingover: watch ended: --for is over
`, "FILE", path)})
		const s, ms = time.Second, time.Millisecond
		w.wantTicks(t, "web", 0, 10*s, 18*s, 33*s, 41*s) // a check that is under way ends first
		w.wantTicks(t, "db", ms, 10*s+ms)
		w.wantTicks(t, "www", 13*s+ms, 23*s+ms, 33*s+ms, 34*s+ms, 44*s+ms)
	})
}

// Nobody but the missing file knew where its copy is.
func TestAMissingFileThatNamedAStateDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filed(t, "defaults: {state-dir: "+dir+"}\nclusters: {web: {host: 10.1.0.1}}\n")
	p := faked(func(config.Cluster, failover.Options) (failover.Report, error) { return failover.Report{}, nil }).configuredBy(path)
	want(t, p.run("check"), printed{})
	must(t, os.Remove(path))
	home := t.TempDir()
	p.Env.Root, p.Env.Getenv = false, func(name string) string { return map[string]string{"XDG_STATE_HOME": home}[name] }
	want(t, p.run("check", "-f", path), printed{Code: 78, Stderr: "pingover: " + path + ": cannot be read: no such file or directory\n" +
		"hint: no copy of it is in " + home + "/pingover; if the file named a state directory, name it: --state-dir DIR\n"})
	got := p.run("check", "-f", path, "--state-dir", dir)
	if got.Code != 78 || !strings.Contains(got.Stderr, path+" cannot be used; going on with the last valid file, of ") {
		t.Errorf("%+v", got)
	}
}

// The alert about a file that is missing after a reload is mailed, while nothing but
// the watch knows where its copy is; a mail server that hangs delays no check.
func TestAWatchReloadsAMissingFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		text := "defaults: {state-dir: " + dir + "}\nclusters: {web: {host: 10.1.0.1, mail-to: ops}}\n"
		path := filed(t, text)
		hangup := make(chan os.Signal)
		var sent []string
		w := watching(func(_ context.Context, _ int, c config.Cluster, _ failover.Options) (failover.Report, error) {
			return failover.Report{Cluster: c.Name, Outcome: state.OK}, nil
		})
		w.Program = w.Program.configuredBy(path).mailing(&sent)
		deliver := w.Deliver
		w.Deliver = func(ctx context.Context, c config.Cluster, m []state.Message) ([]state.Message, error) {
			time.Sleep(25 * time.Second)
			return deliver(ctx, c, m)
		}
		home := t.TempDir()
		w.Env.Root, w.Env.Getenv = false, func(name string) string { return map[string]string{"XDG_STATE_HOME": home}[name] }
		w.Hangup = func() <-chan os.Signal { return hangup }
		time.AfterFunc(15*time.Second, func() { _ = os.Remove(path); hangup <- os.Interrupt })
		time.AfterFunc(95*time.Second, func() { _ = os.WriteFile(path, []byte(text), 0o600); hangup <- os.Interrupt })
		got := w.Program.run("watch", "-f", path, "--every", "10s", "--for", "135s")
		want(t, got, printed{Stderr: strings.ReplaceAll(strings.ReplaceAll(`pingover: watching with version v1.2.3, every 10s: web never checked
pingover: FILE: cannot be read: no such file or directory
hint: no copy of it is in HOME/pingover; if the file named a state directory, name it: --state-dir DIR
pingover: not reloaded; still watching: web never checked
pingover: reloaded: web never checked
pingover: FILE can be used again
pingover: watch ended: --for is over
`, "FILE", path), "HOME", home)})
		mails := []string{
			"web [ops] [pingover] web: PROBLEM: " + path + " cannot be used: 1 error",
			"web [ops] [pingover] web: RESOLVED: " + path + " can be used again",
		}
		if diff := cmp.Diff(mails, sent); diff != "" {
			t.Errorf("mail (-want +got)\n%s", diff)
		}
		for n, at := range w.began["web"] {
			if want := time.Duration(n) * 10 * time.Second; at%(10*time.Second) != 0 && at < 95*time.Second {
				t.Errorf("check %d at %s, want %s", n, at, want)
			}
		}
	})
}

func TestStampsOfAWatch(t *testing.T) {
	p := faked(func(c config.Cluster, _ failover.Options) (failover.Report, error) {
		return failover.Report{Cluster: c.Name, Outcome: state.TakeoverFailed, Code: 30, Changed: true, Reason: "why"}, nil
	})
	p.Stamp = PriorityStamp
	want(t, p.run(watchWeb("--for", "1s", "--state-dir", t.TempDir())...), printed{Stderr: `<5>pingover: watching with version v1.2.3, every 10s: web never checked
<3>pingover: web: takeover-failed: why
<5>pingover: watch ended: --for is over
`})
	p.Stamp = TimeStamp
	got := p.run(watchWeb("--for", "1s", "--state-dir", t.TempDir())...)
	for line := range strings.Lines(got.Stderr) {
		if _, err := time.Parse("2006-01-02 15:04:05 pingover:", strings.Join(strings.Fields(line)[:3], " ")); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestForgettingWhatIsStillHeld(t *testing.T) {
	dir := checked(t, "web")
	remember(t, dir, &state.Record{Head: state.Head{Name: "held", Outbox: []state.Message{{MessageID: "<1>", To: []string{"root"}}}}, VIPs: []state.Alias{loopback}})
	remember(t, dir, &state.Record{Head: state.Head{Name: "gone", Outbox: []state.Message{{MessageID: "<1>", To: []string{"root"}}}}})
	p := faked(nil).configuredBy(fileOf(t, "other"))
	want(t, p.run("forget", "held", "--state-dir", dir), printed{Code: 21, Stderr: "pingover: held: not deleted: it holds 127.0.0.1/8\nhint: pingover release held first\n"})
	want(t, p.run("forget", "web", "gone", "--state-dir", dir), printed{Stderr: "pingover: gone: deleted, with 1 email that had not been sent\npingover: web: deleted\n"})
	want(t, p.run("forget", "hled", "--state-dir", dir), printed{Code: 64, Stderr: "pingover: \"hled\": no such cluster; known: other, held\nhint: did you mean held?\n"})
	if names, _ := state.Dir(dir).Clusters(); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// A default file that is missing, whose copy is lost too, does not leave what it
// holds without checks.
func TestTheDefaultFileAndItsCopyAreMissing(t *testing.T) {
	dir, path := checked(t, "db"), filepath.Join(t.TempDir(), "pingover.yaml")
	var seen roll
	p := handed(seen.call).configuredBy(path)
	p.Check = p.TakeOver
	got := p.run("check", "--state-dir", dir)
	if got.Code != 64 || len(seen.names) > 0 { // db was defined by flags
		t.Errorf("%+v, checked %s", got, seen.names)
	}
	held := loopback
	held.Raised = true
	remember(t, dir, &state.Record{Head: state.Head{Name: "web"}, Origin: path, VIPs: []state.Alias{held}})
	rec, err := state.Dir(dir).Load("web", false)
	must(t, err)
	rec.Role = state.Active
	must(t, state.Dir(dir).Save(rec, false))
	got = p.run("check", "--state-dir", dir)
	if got.Code != 78 || !strings.Contains(got.Stderr, "web: no longer configured, still holding 127.0.0.1/8") { // which no check takes for a virtual IP
		t.Errorf("%+v", got)
	}
	for _, args := range []string{"status", "status web", "history", "pause web", "resume web"} {
		if got := p.run(append(strings.Fields(args), "--state-dir", dir)...); got.Code != 0 {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// Without a copy, a file with errors may still have the cluster; a missing one has
// none.
func TestForgettingWithoutAValidFile(t *testing.T) {
	path, problems := brokenFile(t)
	dir := checked(t, "web")
	want(t, faked(nil).run("forget", "web", "-f", path, "--state-dir", dir), printed{
		Code: 78, Stderr: problems + "hint: fix the file first: without a valid copy it is unknown which clusters it has\n",
	})
	none := filepath.Join(t.TempDir(), "none")
	want(t, faked(nil).run("forget", "web", "-f", none, "--state-dir", dir), printed{
		Stderr: "pingover: " + none + ": cannot be read: no such file or directory\n" +
			"pingover: " + none + " cannot be used; going on with the settings of the last check\npingover: web: deleted\n",
	})
}
