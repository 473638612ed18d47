package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/config"
	"pingover/state"
)

// A run ends, whatever hangs, and not later than a dry run predicts.

var latest = regexp.MustCompile(`a check with these settings ends after (\S+) at the latest, whatever hangs\n`)

func TestRunEndsWhateverHangs(t *testing.T) {
	t.Parallel()
	const sleep = "sleep 1000"
	always := "rmdir $once\n" + sleep
	hang := map[string]func(s *scene, args []string) []string{
		"name server": func(s *scene, args []string) []string {
			s.run(s.Standby, "sh", "-c", "sed -i /primary.example/d /etc/hosts; echo nameserver 172.16.0.77 >/etc/resolv.conf")
			return args
		},
		"tool": func(s *scene, args []string) []string { s.fake("ip", always); return args },
		"sendmail": func(s *scene, args []string) []string {
			return set(args, "--mail-via", "sendmail://"+s.fakeSendmail(always))
		},
		"mail server": func(s *scene, args []string) []string {
			over := make(chan struct{})
			s.t.Cleanup(func() { close(over) })
			return set(args, "--mail-via", s.serveUnruly(func(string) { <-over }))
		},
		"pre-takeover": func(s *scene, args []string) []string { return set(args, "--pre-takeover", s.log().hook("pre", sleep)) },
		"post-takeover": func(s *scene, args []string) []string {
			return set(args, "--post-takeover", s.log().hook("post", sleep))
		},
		"another cluster": func(s *scene, args []string) []string {
			s.lock(s.Standby, "act.lock") // until the test ends
			return args
		},
	}
	for name, c := range map[string]struct {
		hangs []string
		want  state.Outcome
	}{
		"name server":     {[]string{"name server"}, state.TookOver}, // by the last good address
		"tool":            {[]string{"tool"}, state.TakeoverFailed},
		"sendmail":        {[]string{"sendmail"}, state.TookOver},
		"pre-takeover":    {[]string{"pre-takeover"}, state.Blocked},
		"post-takeover":   {[]string{"post-takeover"}, state.TookOver},
		"another cluster": {[]string{"another cluster"}, state.TakeoverFailed},
		"most of them":    {[]string{"name server", "post-takeover", "mail server"}, state.TookOver},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.run(s.Standby, "sh", "-c", "echo 172.16.0.2 primary.example >>/etc/hosts")
			args := set(swift, "--host", "primary.example", "--hook-timeout", "2s")
			s.check(s.Standby, args...).want(t, state.OK)
			s.must(s.Primary.PowerOff())
			for _, h := range c.hangs {
				args = hang[h](s, args)
			}
			plan := s.follow(s.Standby, append(slices.Clone(args), "--dry-run")...).wait().stderr
			m := latest.FindStringSubmatch(plan)
			if m == nil {
				t.Fatalf("the dry run does not say how long it may take:\n%s", plan)
			}
			limit, err := config.DurationWithin(m[1], 0, 24*time.Hour)
			s.must(err)

			e := s.check(s.Standby, args...).want(t, c.want)
			t.Logf("it took %s of %s", e.took.Round(100*time.Millisecond), m[1])
			if e.took > limit {
				t.Errorf("it took %s, the dry run allowed %s", e.took, m[1])
			}
			s.wantHeld(s.Standby, vip4, count(c.want == state.TookOver))
		})
	}
}

// A name that was never resolved, and no name server that answers: unknown.
func TestNameServerThatNeverAnswers(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "echo nameserver 172.16.0.77 >/etc/resolv.conf")
	untouched := s.untouched(s.Standby)
	s.check(s.Standby, set(patient, "--host", "primary.example")...).want(t, state.Unknown).atOnce(t).
		because(t, `resolve "primary.example": no answer from the name servers within 5s`)
	untouched()
}

// At a pipe in place of one of its files it would block forever.
func TestPipesInPlaceOfFilesAreRefused(t *testing.T) {
	s := newScene(t)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	untouched := s.untouched(s.Standby)
	s.inStateDir("cp -a . /run/saved")
	for _, file := range []string{"web.lock", "web.json", "web.pause", "act.lock"} {
		s.inStateDir("rm -f " + file + "; mkfifo " + file)
		says := stateDir + "/" + file + " is a named pipe, and pingover's own files never are\n"
		s.plain(78, says, append([]string{"check"}, patient...)...).atOnce(t)
		s.plain(78, says, "takeover", "web").atOnce(t)
		s.plain(78, says, "release", "web").atOnce(t)
		if file == "web.pause" {
			s.plain(78, says, "pause", "web").atOnce(t)
			s.plain(78, says, "resume", "web").atOnce(t)
		}
		s.inStateDir("rm -f " + file + "; cp -a /run/saved/. .")
	}
	untouched()
	// Its temporary file is not looked at before it is written.
	s.inStateDir("mkfifo web.json.tmp")
	e := s.check(s.Standby, swift...).want(t, state.StateFailed)
	if e.Error == nil || !strings.Contains(*e.Error, "web.json.tmp is a named pipe") {
		t.Errorf("report: %s", e.stdout)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}
