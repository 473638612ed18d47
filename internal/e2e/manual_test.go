package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// The manual commands takeover, release, pause and resume, with no more than the
// cluster's name.

const (
	takenManually    = "[pingover] web: standby took over 172.16.0.1"
	manually         = "172.16.0.1 is taken over manually"
	releasedManually = "172.16.0.1 is released manually"
)

// enter begins a command of the program on a host.
func (s *scene) enter(h *lab.Host, argv ...string) *running {
	s.t.Helper()
	r := &running{s: s, cmd: s.command(h, argv...), began: time.Now()}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, r
	s.must(r.cmd.Start())
	return r
}

// hand runs a command on the standby to its end, with --json.
func (s *scene) hand(command string, args ...string) ended {
	s.t.Helper()
	return s.enter(s.Standby, append([]string{command, "--json"}, args...)...).wait()
}

// plain runs a command on the standby to its end, and wants that exit code and
// these words on stderr.
func (s *scene) plain(code int, says string, argv ...string) ended {
	s.t.Helper()
	e := s.enter(s.Standby, argv...).wait()
	if e.code != code || e.stdout != "" || !strings.Contains(e.stderr, says) {
		s.t.Errorf("pingover %s: exit code %d\nstdout: %s\nstderr: %s\nwant %d and %s", strings.Join(argv, " "), e.code, e.stdout, e.stderr, code, says)
	}
	return e
}

// giveUp takes the virtual IP away on the primary; takeUp brings it up.
func (s *scene) giveUp() {
	s.t.Helper()
	s.run(s.Primary, "ip", "addr", "del", "172.16.0.1/32", "dev", "eth0")
}

func (s *scene) takeUp() {
	s.t.Helper()
	s.run(s.Primary, "ip", "addr", "add", "172.16.0.1/32", "dev", "eth0")
}

func TestManualTakeoverFromAPrimaryThatIsUp(t *testing.T) {
	s := newScene(t)
	l := s.log()
	args := set(swift, "--pre-takeover", l.hook("pre-takeover", "echo before >>$log"), "--post-takeover", l.hook("post-takeover", "echo after >>$log"))
	s.check(s.Standby, args...).want(t, state.OK)
	s.giveUp()
	s.run(s.Client, "ip", "neigh", "flush", "all")
	e := s.hand("takeover", "web").want(t, state.TookOver).because(t, manually)
	if len(e.Rounds) != 0 || !e.Changed || e.stderr != "" {
		t.Errorf("report: %s\nstderr: %s", e.stdout, e.stderr)
	}
	l.want(t, "before", "after")
	s.wantOn(vip4, s.Standby)
	s.wantLabel(s.Standby, vip4, "eth0:1")
	s.watchFrom(vip4).follows(s.Standby, time.Now())
	s.mail.want(t, takenManually)[0].says(t, manually)
	s.hand("takeover").want(t, state.Holding).because(t, "172.16.0.1 is held here already")
	s.check(s.Standby, args...).want(t, state.Holding)
	s.takeUp() // and the primary gets it back
	s.check(s.Standby, args...).want(t, state.Released)
	s.check(s.Standby, args...).want(t, state.OK)
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, takenManually, released)
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

func TestManualTakeoverDuringAConflict(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	e := s.hand("takeover", "web").want(t, state.Blocked).because(t, "not taken over: 172.16.0.1 is in use")
	if len(e.Holders) == 0 {
		t.Errorf("it does not name the holder: %s", e.stdout)
	}
	s.plain(21, "pingover: web: blocked: not taken over: 172.16.0.1 is in use", "takeover", "web", "--quiet")
	untouched()
	s.wantOn(vip4, s.Primary)
	s.mail.want(t)

	s.hand("takeover", "web", "--force").want(t, state.TookOver).because(t, manually+", with --force")
	s.wantOn(vip4, s.Primary, s.Standby)
	s.mail.want(t, takenManually)
	s.check(s.Standby, swift...).want(t, state.Released)
	s.wantOn(vip4, s.Primary)
	untouched()
	s.mail.want(t, takenManually, released)
}

func TestManualTakeoverWithoutAWitness(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.giveUp()
	s.must(s.Gateway.Unplug(true))
	s.hand("takeover", "web").want(t, state.Blocked).because(t, "not taken over: no witness replies: it may be this machine's network")
	s.wantOn(vip4)
	s.hand("takeover", "web", "--force").want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
	s.must(s.Gateway.Plug())
	s.check(s.Standby, swift...).want(t, state.Holding)
	s.mail.want(t, takenManually)
}

func TestManualReleaseToAPrimaryThatTakesIt(t *testing.T) {
	s := newScene(t)
	l := s.log()
	// A manual command runs the tool and the hooks of the check.
	args := set(swift, "--pre-release", l.hook("pre-release", "echo stopped >>$log"), "--post-release", l.hook("post-release", "echo your turn >>$log"))
	s.returned(args...)
	v := s.watchFrom(vip4)
	began := time.Now()
	release := s.enter(s.Standby, "release", "--json", "web")
	s.waitFor("the hook", func() bool { return len(l.lines()) == 2 })
	s.takeUp()
	release.wait().want(t, state.Released).because(t, releasedManually)
	l.want(t, "stopped", "your turn")
	s.wantOn(vip4, s.Primary)
	v.follows(s.Primary, began)
	emails := s.mail.want(t, tookOver, released)
	emails[1].says(t, releasedManually)
	emails[1].says(t, "ip addr del 172.16.0.1/32 dev eth0")
	s.check(s.Standby, args...).want(t, state.OK)
	s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
}

func TestManualReleaseThatNobodyTakes(t *testing.T) {
	s := newScene(t)
	s.returned(swift...)
	e := s.plain(21, "blocked: "+releasedManually+"; nobody took 172.16.0.1 within 10s: assigned here again\n", "release", "web")
	if !strings.HasPrefix(e.stderr, "pingover: web: ") {
		t.Errorf("stderr: %s", e.stderr)
	}
	s.wantOn(vip4, s.Standby)
	s.wantLabel(s.Standby, vip4, "eth0:1")
	s.mail.want(t, tookOver, tookNothing)
	s.check(s.Standby, swift...).want(t, state.Holding)
	s.wantWrittenDown(state.Active, state.TookOver, state.Holding)
}

func TestManualReleaseOfNothing(t *testing.T) {
	s := shortScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	record := s.run(s.Standby, "sh", "-c", "sed 's/\"last\":{[^}]*}//' /var/lib/pingover/web.json")
	s.plain(0, "pingover: web: ok: nothing is held here\n", "release", "web")
	s.hand("release", "--force").want(t, state.OK)
	if after := s.run(s.Standby, "sh", "-c", "sed 's/\"last\":{[^}]*}//' /var/lib/pingover/web.json"); after != record {
		t.Errorf("the record was changed:\n%s%s", record, after)
	}
	untouched()
	s.mail.want(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver) // nothing is suspended
}

// After a manual release nothing is taken over until the operator allows it.
func TestAfterAManualRelease(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(s *scene){
		"the primary was up once": func(s *scene) {
			s.must(s.Primary.PowerOn())
			s.check(s.Standby, swift...).want(s.t, state.OK)
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, swift...).want(s.t, state.TookOver)
		},
		"resume": func(s *scene) {
			s.plain(0, "pingover: web: the manual release is lifted: checks take over again\n", "resume", "web")
			s.check(s.Standby, swift...).want(s.t, state.TookOver)
		},
		"takeover": func(s *scene) { s.hand("takeover", "web").want(s.t, state.TookOver) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, swift...).want(t, state.TookOver)
			s.hand("release", "web", "--force").want(t, state.Released).because(t, releasedManually+", with --force")
			s.wantOn(vip4)
			for range 2 {
				s.check(s.Standby, swift...).want(t, state.Blocked).
					because(t, "172.16.0.2 does not reply, but the virtual IPs were released manually and it has not been up since")
			}
			s.wantOn(vip4)
			s.mail.want(t, tookOver, released, looksDown+"it was released manually")
			then(s)
			s.wantOn(vip4, s.Standby)
			s.check(s.Standby, swift...).want(t, state.Holding)
		})
	}
}

// A pause counts from now on, also for a check that has begun.
func TestPauseInTheMiddleOfACheck(t *testing.T) {
	t.Parallel()
	const paused = "172.16.0.2 does not reply, but this cluster is paused"
	t.Run("between the rounds", func(t *testing.T) {
		s := newScene(t)
		s.check(s.Standby, swift...).want(t, state.OK)
		untouched := s.untouched(s.Standby)
		s.must(s.Primary.PowerOff())
		check := s.follow(s.Standby, set(swift, "--retry-wait", "3s")...)
		check.until("waiting 3s")
		e := s.plain(0, "; checks go on, nothing is switched", "pause", "web")
		if !regexp.MustCompile(`^pingover: web: paused until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \(1h\); checks go on, nothing is switched\n$`).MatchString(e.stderr) {
			t.Errorf("stderr: %s", e.stderr)
		}
		check.wait().want(t, state.Blocked).because(t, paused)
		untouched()
		s.plain(0, "pingover: web: resumed: checks switch again\n", "resume", "web")
		s.plain(0, "pingover: web: nothing to resume: neither paused nor released manually\n", "resume")
		s.check(s.Standby, swift...).want(t, state.TookOver)
		s.mail.want(t, looksDown+"the cluster is paused", tookOver)
		s.wantWrittenDown(state.Active, state.TookOver)
	})
	t.Run("while pre-takeover runs", func(t *testing.T) {
		s := newScene(t)
		l := s.log()
		s.check(s.Standby, swift...).want(t, state.OK)
		untouched := s.untouched(s.Standby)
		s.must(s.Primary.PowerOff())
		check := s.follow(s.Standby, set(swift, "--pre-takeover", l.hook("pre-takeover", "echo asked >$log; until test -e /run/go; do sleep 0.1; done"))...)
		s.waitFor("the hook", func() bool { return l.lines()[0] == "asked" })
		s.plain(0, "", "pause", "web", "--for", "3s")
		s.run(s.Standby, "touch", "/run/go")
		check.wait().want(t, state.Blocked).because(t, paused)
		untouched()
		s.wantOn(vip4)
		time.Sleep(3 * time.Second) // it ends by itself
		s.check(s.Standby, swift...).want(t, state.TookOver)
		s.mail.want(t, looksDown+"the cluster is paused", tookOver)
	})
	t.Run("it ends while a check runs", func(t *testing.T) {
		s := newScene(t)
		s.check(s.Standby, swift...).want(t, state.OK)
		s.must(s.Primary.PowerOff())
		s.plain(0, "", "pause", "--for", "2s", "web")
		s.check(s.Standby, set(swift, "--retry-wait", "5s")...).want(t, state.TookOver)
		s.wantOn(vip4, s.Standby)
	})
	t.Run("a paused standby that holds", func(t *testing.T) {
		s := newScene(t)
		s.must(s.Primary.PowerOff())
		s.check(s.Standby, swift...).want(t, state.TookOver)
		s.plain(0, "", "pause", "web", "--quiet")
		if mode := s.run(s.Standby, "stat", "-c", "%a", "/var/lib/pingover/web.pause"); mode != "644\n" {
			t.Errorf("mode of web.pause: %s", mode)
		}
		s.must(s.Primary.PowerOn())
		s.check(s.Standby, swift...).want(t, state.Blocked)
		s.wantOn(vip4, s.Primary, s.Standby)
		s.plain(0, "", "resume", "web")
		s.check(s.Standby, swift...).want(t, state.Released)
		s.wantOn(vip4, s.Primary)
	})
}

func TestPauseThatMeansNothing(t *testing.T) {
	s := shortScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	for length, says := range map[string]string{"-1h": "(1s to 365d)", "0": "(1s to 365d)", "5": "a duration needs a unit", "soon": "not a duration", "1000d": "out of range (1s to 365d)"} {
		e := s.plain(64, fmt.Sprintf("--for %q: ", length), "pause", "web", "--for="+length)
		if !strings.Contains(e.stderr, says) {
			t.Errorf("stderr: %s\nwant: %s", e.stderr, says)
		}
	}
	s.plain(64, `"db": no such cluster`, "pause", "db")
	s.wantNothingLeft(s.Standby, "web.json", "web.lock")
}

// A manual command waits for a running check, and says so.
func TestManualCommandWaitsForACheck(t *testing.T) {
	t.Parallel()
	waits := regexp.MustCompile(`^pingover: web: waiting for run (\d+) of this cluster to end, at most 1m30s\n`)
	for command, c := range map[string]struct {
		code int
		says string
		on   func(s *scene) []*lab.Host
	}{
		"takeover": {10, "pingover: web: holding: 172.16.0.1 is held here already\n", func(s *scene) []*lab.Host { return []*lab.Host{s.Standby} }},
		"release":  {12, "pingover: web: released: " + releasedManually + ", with --force\n", func(s *scene) []*lab.Host { return nil }},
	} {
		t.Run(command, func(t *testing.T) {
			s := newScene(t)
			s.check(s.Standby, swift...).want(t, state.OK)
			s.must(s.Primary.PowerOff())
			check := s.follow(s.Standby, set(swift, "--retry-wait", "3s")...)
			check.until("waiting 3s")
			e := s.enter(s.Standby, command, "web", "--force").wait()
			check.wait().want(t, state.TookOver)
			m := waits.FindStringSubmatch(e.stderr)
			if e.code != c.code || m == nil || e.stderr != m[0]+c.says {
				t.Fatalf("exit code %d, stderr: %s", e.code, e.stderr)
			}
			if pid := fmt.Sprint(check.cmd.Process.Pid); m[1] != pid {
				t.Errorf("it waits for %s, not for %s", m[1], pid)
			}
			s.wantOn(vip4, c.on(s)...)
		})
	}
}

func TestSignalWhileWaitingForACheck(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.giveUp()
	unlock := s.lock(s.Standby, "web.lock")
	takeover := s.enter(s.Standby, "takeover", "web")
	takeover.until("waiting for")
	s.must(takeover.cmd.Process.Signal(syscall.SIGTERM))
	takeover.wait()
	if status := takeover.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %s", takeover.cmd.ProcessState)
	}
	unlock()
	s.wantOn(vip4)
}

func TestTwoManualCommandsAtOnce(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.giveUp()
	first, second := s.enter(s.Standby, "takeover", "--json", "web"), s.enter(s.Standby, "takeover", "--json", "web")
	outcomes := []string{string(first.wait().Outcome), string(second.wait().Outcome)}
	slices.Sort(outcomes)
	if !slices.Equal(outcomes, []string{"holding", "took-over"}) {
		t.Errorf("they ended %q", outcomes)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, takenManually)
	s.wantWrittenDown(state.Active, state.TookOver)

	taking, giving := s.enter(s.Standby, "takeover", "--json", "web"), s.enter(s.Standby, "release", "--json", "--force", "web")
	taken := taking.wait()
	giving.wait().want(t, state.Released)
	switch taken.Outcome {
	case state.Holding:
		s.wantOn(vip4)
	case state.TookOver: // it came second
		s.wantOn(vip4, s.Standby)
	default:
		t.Errorf("takeover beside release ended %s: %s", taken.Outcome, taken.stdout)
	}
}

// The commands that a dry run shows are those that the real one runs.
func TestDryRunOfAManualCommand(t *testing.T) {
	s := newScene(t)
	l := s.log()
	hooks := map[string]string{}
	args := swift
	for _, name := range []string{"pre-takeover", "post-takeover", "pre-release", "post-release"} {
		hooks[name] = l.hook(name, "echo "+name+" >>$log")
		args = set(args, "--"+name, hooks[name])
	}
	s.check(s.Standby, args...).want(t, state.OK)
	untouched := s.untouched(s.Standby)
	record := s.run(s.Standby, "cat", "/var/lib/pingover/web.json")
	would := func(commands ...string) (shown string) {
		for _, c := range commands {
			shown += "pingover: web: would run: " + c + "\n"
		}
		return shown
	}
	takes := []string{hooks["pre-takeover"], "ip addr add 172.16.0.1/32 dev eth0 label eth0:1", hooks["post-takeover"]}
	gives := []string{hooks["pre-release"], "ip addr del 172.16.0.1/32 dev eth0", hooks["post-release"]}

	// While all is well.
	otherwise := func(commands ...string) string {
		return strings.ReplaceAll(would(commands...), "would run: ", "would otherwise run: ")
	}
	s.plain(21, "pingover: web: blocked (dry run): not taken over: 172.16.0.1 is in use\n"+
		"hint: remove it from the machine that has it, then run this again; pingover takeover --force web does not ask\n"+otherwise(takes...), "takeover", "web", "-n")
	s.plain(0, "pingover: web: ok (dry run): nothing is held here\n", "release", "web", "-n")
	if after := s.run(s.Standby, "cat", "/var/lib/pingover/web.json"); after != record {
		t.Errorf("the record was changed:\n%s%s", record, after)
	}
	l.want(t, "")
	untouched()
	s.mail.want(t)
	s.wantNothingLeft(s.Standby, "web.json", "web.lock")

	// They hold what they promise.
	s.giveUp()
	s.wantCommands(s.hand("takeover", "web").want(t, state.TookOver), takes...)
	s.plain(12, would(gives...)+"pingover: web: released (dry run): "+releasedManually+"\n", "release", "web", "-n")
	s.wantOn(vip4, s.Standby)
	s.wantCommands(s.hand("release", "web", "--force").want(t, state.Released), gives...)
	l.want(t, "pre-takeover", "post-takeover", "pre-release", "post-release")
	s.wantOn(vip4)
}

// Symbolic links in place of its files lead it nowhere.
func TestManualCommandRefusesSymlinks(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.inStateDir("cp -a . /run/saved; echo precious >/run/elsewhere")
	for _, file := range []string{"web.pause", "web.lock", "web.json", "act.lock"} {
		s.inStateDir("ln -sf /run/elsewhere " + file)
		says := stateDir + "/" + file + " is a symbolic link, and pingover's own files never are"
		for _, argv := range [][]string{{"takeover", "web"}, {"release", "web", "--force"}, {"pause", "web"}, {"resume", "web"}} {
			concerned := map[string][]string{"pause": {"web.pause"}, "resume": {"web.pause"}}[argv[0]]
			if concerned != nil && !slices.Contains(concerned, file) {
				continue
			}
			s.plain(78, says, argv...)
		}
		if got := s.run(s.Standby, "cat", "/run/elsewhere"); got != "precious\n" {
			t.Errorf("%s: written through the link: %s", file, got)
		}
		s.inStateDir("rm -f *; cp -a /run/saved/. .")
	}
	s.wantOn(vip4, s.Standby)
	s.hand("release", "web", "--force").want(t, state.Released)
}

func TestManualCommandWithoutRights(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	untouched := s.untouched(s.Standby)
	files := func() string {
		return s.run(s.Standby, "sh", "-c", "cd /var/lib/pingover; ls -l --full-time; cat web.json")
	}
	before := files()
	s.asUser()
	for _, argv := range [][]string{{"release", "web"}, {"takeover", "web"}, {"pause", "web"}} {
		e := s.plain(77, "permission", append(argv, "--state-dir", stateDir)...)
		if e.took > 20*time.Second {
			t.Errorf("%s took %s", argv[0], e.took)
		}
	}
	s.plain(64, "no cluster is known in ", "release", "web")
	untouched()
	if after := files(); after != before {
		t.Errorf("files, before:\n%safter:\n%s", before, after)
	}
}

// user has no rights.
const user = "65534"

// asUser runs the program as an ordinary user from now on, with these
// capabilities (such as net_raw) inheritable and ambient.
func (s *scene) asUser(capabilities ...string) {
	s.t.Helper()
	if _, err := s.Standby.Run("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "true"); err != nil {
		lab.Skip(s.t, err)
	}
	s.run(s.Standby, "sh", "-c", "mkdir -p /run/nobody; chown "+user+":"+user+" /run/nobody")
	path, err := binary()
	s.must(err)
	s.must(os.Chmod(binaryDir(), 0o755))
	s.path = path
	words := []string{"setpriv", "--reuid", user, "--regid", user, "--clear-groups"}
	if len(capabilities) > 0 {
		list := "+" + strings.Join(capabilities, ",+")
		words = append(words, "--inh-caps="+list, "--ambient-caps="+list)
	} else {
		words = append(words, "--inh-caps=-all")
	}
	s.through(append(words, "env", "HOME=/run/nobody", "XDG_STATE_HOME=")...)
}

// A hand-over that is killed while the address is unassigned is finished by the
// next check, whichever host has it by then.
func TestKilledDuringAHandOver(t *testing.T) {
	t.Parallel()
	const handing = "for another machine to take 172.16.0.1"
	t.Run("no host takes it", func(t *testing.T) {
		s := newScene(t)
		swift := set(swift, "--rise", "9") // no email that the primary is back
		s.returned(swift...)
		s.check(s.Standby, swift...).want(t, state.Holding)
		release := s.enter(s.Standby, "release", "web", "--verbose")
		release.until(handing)
		s.wantOn(vip4)
		s.must(release.cmd.Process.Kill())
		release.wait()
		s.wantOn(vip4)
		s.check(s.Standby, swift...).want(t, state.Holding)
		s.wantOn(vip4, s.Standby)
		s.check(s.Standby, swift...).want(t, state.Holding)
		s.mail.want(t, tookOver, tookNothing)
		s.wantWrittenDown(state.Active, state.TookOver, state.Holding)
	})
	t.Run("the primary has taken it", func(t *testing.T) {
		s := newScene(t)
		s.returned(swift...)
		s.check(s.Standby, swift...).want(t, state.Holding)
		release := s.enter(s.Standby, "release", "web", "--verbose")
		release.until(handing)
		s.must(release.cmd.Process.Kill())
		release.wait()
		s.takeUp()
		s.check(s.Standby, swift...).want(t, state.Released)
		s.check(s.Standby, swift...).want(t, state.OK)
		s.wantOn(vip4, s.Primary)
		s.mail.want(t, tookOver, released)
		s.wantWrittenDown(state.Standby, state.TookOver, state.Released)
	})
	t.Run("a signal: it is finished first", func(t *testing.T) {
		s := newScene(t)
		s.returned(swift...)
		s.check(s.Standby, swift...).want(t, state.Holding)
		release := s.enter(s.Standby, "release", "web", "--verbose")
		release.until(handing)
		s.must(release.cmd.Process.Signal(syscall.SIGTERM))
		if e := release.wait(); e.code != 21 || e.took > 40*time.Second {
			t.Errorf("exit code %d after %s, stderr: %s", e.code, e.took, e.stderr)
		}
		s.wantOn(vip4, s.Standby)
		s.check(s.Standby, swift...).want(t, state.Holding)
		s.mail.want(t, tookOver, tookNothing)
	})
}
