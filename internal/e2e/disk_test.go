package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pingover/internal/lab"
	"pingover/state"
)

// Faults of the state directory. In spite of each a primary that is down is taken
// over, and the operator is notified.

const stateDir = "/var/lib/pingover"

func TestRecordIsLostWhileHolding(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lose, said string }{
		"removed":                   {"rm web.json", ""},
		"removed with all else":     {"rm -rf web.json web.lock act.lock", ""},
		"emptied":                   {": >web.json", "is corrupt (it is empty), ignored; kept as /var/lib/pingover/web.json.bad"},
		"truncated":                 {"truncate -s 300 web.json", "is corrupt (unexpected end of JSON input), ignored; kept as /var/lib/pingover/web.json.bad"},
		"overwritten with zeros":    {"dd if=/dev/zero of=web.json bs=300 count=1 conv=notrunc", ", ignored; kept as /var/lib/pingover/web.json.bad"},
		"with a torn one beside it": {"head -c 300 web.json >web.json.tmp", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, swift...).want(t, state.TookOver)
			s.inStateDir(c.lose)
			e := s.check(s.Standby, swift...).want(t, state.Holding).because(t, "holding 172.16.0.1; 172.16.0.2 does not reply")
			if c.said != "" && !strings.Contains(e.stderr, c.said) {
				t.Errorf("it does not say %q, but: %s", c.said, e.stderr)
			}
			e = s.check(s.Standby, swift...).want(t, state.Holding)
			if e.stderr != "" || e.Role != state.Active {
				t.Errorf("next run: role %q, stderr: %s", e.Role, e.stderr)
			}
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver)
		})
	}
}

// A power cut tears files at any byte.
func TestTruncatedRecord(t *testing.T) {
	s := newScene(t)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.must(s.Primary.PowerOn())
	s.check(s.Standby, swift...).want(t, state.Released)
	s.mail.want(t, tookOver, released)
	whole := s.run(s.Standby, "cat", stateDir+"/web.json")
	for size := 0; size < len(whole)-1; size += 50 {
		s.write("web.json", whole[:size])
		e := s.say(s.Standby, append(slices.Clone(swift), "--dry-run")...)
		if e.code != 0 || !strings.HasPrefix(e.stderr, "pingover: web: /var/lib/pingover/web.json is corrupt (") {
			t.Errorf("truncated after %d of %d bytes: exit code %d, stderr: %s", size, len(whole), e.code, e.stderr)
		}
		if left := s.run(s.Standby, "cat", stateDir+"/web.json"); left != whole[:size] {
			t.Fatalf("a dry run has changed the record to %q", left)
		}
	}
	s.check(s.Standby, swift...).want(t, state.OK)
	s.wantOn(vip4, s.Primary)
	s.mail.want(t, tookOver, released)
	s.wantNothingLeft(s.Standby, "act.lock", "web.json", "web.json.bad", "web.lock")
}

func TestSymbolicLinkInPlaceOfAFile(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched(s.Standby)
	s.run(s.Standby, "sh", "-c", "echo precious >/etc/precious")
	s.must(s.Primary.PowerOff())
	for _, file := range []string{"web.json", "web.lock", "web.pause", "act.lock"} {
		for _, target := range []string{"/etc/precious", "/etc/missing"} {
			s.inStateDir("ln -s " + target + " " + file)
			e := s.say(s.Standby, swift...)
			want := "pingover: web: " + stateDir + "/" + file + " is a symbolic link, and pingover's own files never are\n" +
				"hint: remove it, or choose another --state-dir\n"
			if e.code != 78 || e.stderr != want || e.stdout != "" {
				t.Errorf("%s: exit code %d\nstderr: %swant 78 and\n%s", file, e.code, e.stderr, want)
			}
			if e := s.say(s.Standby, append(slices.Clone(swift), "--dry-run")...); e.code != 78 || e.stderr != want {
				t.Errorf("%s, dry run: exit code %d, stderr: %s", file, e.code, e.stderr)
			}
			after := s.run(s.Standby, "sh", "-c", "cat /etc/precious; cat /etc/missing 2>/dev/null; readlink "+stateDir+"/"+file)
			if after != "precious\n"+target+"\n" {
				t.Errorf("%s: its target, and where it leads: %q", file, after)
			}
			s.inStateDir("rm " + file)
			s.wantNothingLeft(s.Standby)
		}
	}
	untouched()
	s.wantOn(vip4)
	s.mail.want(t)
	s.check(s.Standby, swift...).want(t, state.TookOver)
}

func TestSymbolicLinkInPlaceOfWhatIsBeingWritten(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "echo precious >/etc/precious")
	s.inStateDir("ln -s /etc/precious web.json.tmp")
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, swift...).want(t, state.StateFailed)
	if e.Error == nil || !strings.Contains(*e.Error, stateDir+"/web.json.tmp is a symbolic link") {
		t.Errorf("stdout: %s", e.stdout)
	}
	s.wantOn(vip4, s.Standby)
	if got := s.run(s.Standby, "cat", "/etc/precious"); got != "precious\n" {
		t.Errorf("the target: %q", got)
	}
}

func TestTwoCrontabLinesWithOneName(t *testing.T) {
	s := newScene(t)
	other := set(swift, "--host", "172.16.0.4")
	s.check(s.Standby, swift...).want(t, state.OK)
	s.check(s.Standby, other...).want(t, state.OK)
	before := s.run(s.Standby, "cat", stateDir+"/web.json")
	s.must(s.Primary.PowerOff())
	e := s.say(s.Standby, swift...)
	want := "pingover: web: two definitions share the name web: its host was changed from \"172.16.0.2\" to \"172.16.0.4\" at "
	if e.code != 78 || !strings.HasPrefix(e.stderr, want) || !strings.HasSuffix(e.stderr, "hint: give each cluster a name of its own with --name\n") {
		t.Errorf("exit code %d\nstderr: %swant 78 and\n%s", e.code, e.stderr, want)
	}
	if after := s.run(s.Standby, "cat", stateDir+"/web.json"); after != before {
		t.Errorf("the record was %q and is %q", before, after)
	}
	s.wantOn(vip4)
	s.check(s.Standby, set(other, "--name", "other")...).want(t, state.OK)
}

func TestPauseFileThatSaysNothing(t *testing.T) {
	s := newScene(t)
	for name, write := range map[string]string{
		"garbage":   "echo garbage >web.pause",
		"empty":     ": >web.pause",
		"no date":   "echo 2026-13-01 >web.pause",
		"binary":    "head -c 100000 /dev/urandom >web.pause",
		"no access": "echo later >web.pause; chmod 0 web.pause",
	} {
		// It is an hour, the default.
		for ago, paused := range map[string]bool{"0 minutes ago": true, "59 minutes ago": true, "61 minutes ago": false} {
			s.inStateDir(write + "; touch -d '" + ago + "' web.pause")
			if e := s.check(s.Standby, swift...).want(t, state.OK); e.Paused != paused || e.stderr != "" {
				t.Errorf("%s, %s: paused %t, want %t; stderr: %s", name, ago, e.Paused, paused, e.stderr)
			}
		}
	}
	s.must(s.Primary.PowerOff())
	s.inStateDir("touch web.pause")
	s.check(s.Standby, swift...).want(t, state.Blocked).because(t, "172.16.0.2 does not reply, but this cluster is paused")
	s.inStateDir("touch -d '61 minutes ago' web.pause")
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.wantOn(vip4, s.Standby)
}

// disk is a fault by which the state directory cannot be written.
type disk struct {
	ruin, fix string // shell commands in the directory
	// tweak and done are run around what a test writes although it is ruined.
	tweak, done string
	why         string
}

var disks = map[string]disk{
	"full": {
		ruin: "dd if=/dev/zero of=ballast bs=4k 2>/dev/null", fix: "rm ballast",
		why: "no space left on device",
	},
	"read-only": {
		ruin: "mount -o remount,ro " + stateDir, fix: "mount -o remount,rw " + stateDir,
		tweak: "mount -o remount,rw " + stateDir, done: "mount -o remount,ro " + stateDir,
		why: "read-only file system",
	},
}

// newDisk is a scene whose standby has made a check, and then its state
// directory is ruined.
func newDisk(t *testing.T, d disk) *scene {
	t.Helper()
	s := newScene(t)
	s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "state", stateDir)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.aMinuteLater(disk{})
	s.inStateDir(d.ruin + "; true")
	return s
}

func TestHealthyCheckOnADiskThatIsRuined(t *testing.T) {
	t.Parallel()
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			s := newDisk(t, d)
			untouched := s.untouched(s.Standby)
			e := s.say(s.Standby, swift...)
			if e.code != 0 || e.stdout != "" || strings.Count(e.stderr, "\n") != 1 ||
				!strings.HasPrefix(e.stderr, "pingover: web: the state cannot be written: ") || !strings.Contains(e.stderr, d.why) {
				t.Errorf("exit code %d, stderr: %s\nwant 0, and one line that says so", e.code, e.stderr)
			}
			s.mail.want(t, cannotWrite)[0].says(t, d.why)
			for range 3 {
				s.aMinuteLater(d)
				if e := s.say(s.Standby, swift...); e.code != 0 || e.stdout != "" || e.stderr != "" {
					t.Errorf("a minute later: exit code %d, stderr: %s", e.code, e.stderr)
				}
			}
			s.mail.want(t, cannotWrite)

			s.inStateDir(d.fix)
			before := s.record(s.Standby).Last.Time
			if e := s.say(s.Standby, swift...); e.code != 0 || e.stderr != "" {
				t.Errorf("fixed: exit code %d, stderr: %s", e.code, e.stderr)
			}
			if after := s.record(s.Standby).Last.Time; !after.After(before) {
				t.Errorf("the last check was at %s, and is not written down", after)
			}
			untouched()
			s.wantOn(vip4, s.Primary)
			s.mail.want(t, cannotWrite)
		})
	}
}

const cannotWrite = "[pingover] web: PROBLEM: standby cannot write its state"

func TestTakeoverOnADiskThatIsRuined(t *testing.T) {
	t.Parallel()
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			s := newDisk(t, d)
			s.must(s.Primary.PowerOff())
			e := s.check(s.Standby, swift...).want(t, state.StateFailed).
				because(t, "172.16.0.2 does not reply, and 172.16.0.1 is not in use")
			if e.Error == nil || !strings.HasPrefix(*e.Error, "the state cannot be written: ") || !strings.Contains(*e.Error, d.why) {
				t.Errorf("it does not say why: %s", e.stdout)
			}
			s.wantOn(vip4, s.Standby)
			l := s.mail.want(t, tookOver)[0]
			l.says(t, "standby has taken over 172.16.0.1")
			l.says(t, "could not write its state")
			l.says(t, d.why)

			for range 3 {
				s.aMinuteLater(d)
				if e := s.check(s.Standby, swift...).want(t, state.Holding); e.stderr != "" || e.Changed {
					t.Errorf("a minute later: changed %t, stderr: %s", e.Changed, e.stderr)
				}
			}
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver)

			s.inStateDir(d.fix)
			for range 2 {
				s.check(s.Standby, swift...).want(t, state.Holding)
			}
			s.wantOn(vip4, s.Standby)
			s.mail.want(t, tookOver)
			rec := s.record(s.Standby)
			if rec.Role != state.Active || rec.Pending != nil || len(rec.Outbox) != 0 || rec.Last.Outcome != state.Holding {
				t.Errorf("role %q, intent %v, outbox %v, last %v; want it written down that this machine is active", rec.Role, rec.Pending, rec.Outbox, rec.Last)
			}
			if e := s.check(s.Standby, swift...); e.stderr != "" {
				t.Errorf("stderr: %s", e.stderr)
			}
			if left := s.run(s.Standby, "ls", "-A", stateDir); strings.Contains(left, "tmp") {
				t.Errorf("files: %q", left)
			}
		})
	}
}

func TestReleaseOnADiskThatIsRuined(t *testing.T) {
	t.Parallel()
	for name, d := range disks {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "state", stateDir)
			s.must(s.Primary.PowerOff())
			s.check(s.Standby, swift...).want(t, state.TookOver)
			s.check(s.Standby, swift...).want(t, state.Holding)
			s.aMinuteLater(disk{})
			s.inStateDir(d.ruin + "; true")
			s.must(s.Primary.PowerOn())

			e := s.check(s.Standby, swift...).want(t, state.StateFailed)
			if e.Error == nil || !strings.Contains(*e.Error, d.why) {
				t.Errorf("it does not say why: %s", e.stdout)
			}
			s.wantOn(vip4, s.Primary)
			s.mail.want(t, tookOver, released)[1].says(t, d.why)
			for range 2 {
				s.aMinuteLater(d)
				if e := s.check(s.Standby, swift...).want(t, state.OK); e.stderr != "" || e.Changed {
					t.Errorf("a minute later: changed %t, stderr: %s", e.Changed, e.stderr)
				}
			}
			s.mail.want(t, tookOver, released)

			s.inStateDir(d.fix)
			for range 2 {
				s.check(s.Standby, swift...).want(t, state.OK)
			}
			s.wantOn(vip4, s.Primary)
			if rec := s.record(s.Standby); rec.Role != state.Standby || rec.Pending != nil || len(rec.Outbox) != 0 {
				t.Errorf("role %q, intent %v, outbox %v; want a standby", rec.Role, rec.Pending, rec.Outbox)
			}
		})
	}
}

// There is room for the intent, and none for the result with its email.
func TestDiskFillsUpDuringATakeover(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "state", stateDir)
	s.check(s.Standby, swift...).want(t, state.OK)
	s.aMinuteLater(disk{})
	s.must(s.Primary.PowerOff())
	s.fake("ip", "dd if=/dev/zero of="+stateDir+"/ballast bs=4k 2>/dev/null")
	s.check(s.Standby, swift...).want(t, state.StateFailed)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
	if !intends(s) {
		t.Error("the intent is not there")
	}
	for range 3 {
		s.aMinuteLater(disks["full"])
		if e := s.check(s.Standby, swift...).want(t, state.Holding); e.stderr != "" || e.Changed {
			t.Errorf("a minute later: changed %t, stderr: %s", e.Changed, e.stderr)
		}
	}
	s.mail.want(t, tookOver)
	s.inStateDir("rm ballast")
	// No record says that it was sent: the same email is sent once more.
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.check(s.Standby, swift...).want(t, state.Holding)
	s.wantTakenOver(swift, 2)
}

func TestStateDirThatCannotBeMade(t *testing.T) {
	s := newScene(t)
	s.run(s.Standby, "sh", "-c", "mkdir /run/stone; mount -t tmpfs -o ro stone /run/stone")
	args := set(swift, "--state-dir", "/run/stone/pingover")
	for range 2 {
		if e := s.say(s.Standby, args...); e.code != 0 {
			t.Errorf("exit code %d, stderr: %s", e.code, e.stderr)
		}
	}
	s.must(s.Primary.PowerOff())
	e := s.check(s.Standby, args...).want(t, state.StateFailed)
	if e.Error == nil || !strings.Contains(*e.Error, "/run/stone/pingover: read-only file system") {
		t.Errorf("it does not say why: %s", e.stdout)
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
	for range 3 {
		if e := s.check(s.Standby, args...).want(t, state.Holding); e.stderr != "" || e.Changed {
			t.Errorf("a minute later: changed %t, stderr: %s", e.Changed, e.stderr)
		}
	}
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
}

// A lock without a file of its own still keeps a second run out.
func TestRuinedDiskIsLockedAllTheSame(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]string{
		"full":                "dd if=/dev/zero of=ballast bs=4k 2>/dev/null; true",
		"read-only":           "mount -o remount,ro " + stateDir,
		"read-only, no lock":  "rm -f web.lock; mount -o remount,ro " + stateDir,
		"full of other files": "for n in $(seq 100); do touch $n || break; done 2>/dev/null; true",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.run(s.Standby, "mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20,mode=0755", "state", stateDir)
			s.must(s.Primary.PowerOff())
			s.inStateDir(prepare)
			first := s.follow(s.Standby, set(swift, "--retry-wait", "1m")...)
			first.until("waiting 1m")
			if e := s.say(s.Standby, swift...); e.code != 75 || e.stderr != "" {
				t.Errorf("exit code %d, stderr: %s, want 75 and no output", e.code, e.stderr)
			}
			s.must(first.cmd.Process.Kill())
			first.wait()
			s.check(s.Standby, swift...).want(t, state.StateFailed)
			s.wantOn(vip4, s.Standby)
		})
	}
}

func TestStateDirOfAnUnprivilegedUser(t *testing.T) {
	s := newScene(t)
	const user = "65534"
	if _, err := s.Standby.Run("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "true"); err != nil {
		lab.Skip(t, err)
	}
	s.run(s.Standby, "sh", "-c", "mkdir /run/nobody; chown "+user+":"+user+" /run/nobody")
	s.must(os.Chmod(filepath.Dir(s.path), 0o755))
	s.through("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw",
		"env", "HOME=/run/nobody", "XDG_STATE_HOME=")
	s.check(s.Standby, swift...).want(t, state.OK)
	s.must(s.Primary.PowerOff())
	s.check(s.Standby, swift...).want(t, state.TookOver)
	s.check(s.Standby, swift...).want(t, state.Holding)
	s.wantOn(vip4, s.Standby)
	s.mail.want(t, tookOver)
	got := s.run(s.Standby, "sh", "-c", "cd /run/nobody/.local/state/pingover; stat -c '%A %u %n' . *")
	want := fmt.Sprintf("drwxr-xr-x %[1]s .\n-rw------- %[1]s act.lock\n-rw-r--r-- %[1]s web.history\n-rw-r--r-- %[1]s web.json\n-rw------- %[1]s web.lock\n-rw------- %[1]s web.settings\n", user)
	if got != want {
		t.Errorf("files:\n%swant:\n%s", got, want)
	}
	s.wantNothingLeft(s.Standby)
}

// inStateDir runs a shell script in the standby's state directory.
func (s *scene) inStateDir(script string) {
	s.t.Helper()
	s.run(s.Standby, "sh", "-c", "cd "+stateDir+"\n"+script)
}

// write overwrites a file of the standby's state directory, in place: on a
// full disk there is room for nothing more.
func (s *scene) write(file, text string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := s.Standby.Command(ctx, "sh", "-c", "cat 1<>"+stateDir+"/"+file+"; truncate -s $0 "+stateDir+"/"+file, fmt.Sprint(len(text)))
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// aMinuteLater makes the standby's last record a minute older: as old as the
// next run of cron finds it.
func (s *scene) aMinuteLater(d disk) {
	s.t.Helper()
	rec := s.record(s.Standby)
	rec.Last.Time = rec.Last.Time.Add(-time.Minute)
	if d.ruin == "" {
		rec.Gap = 60_000
	}
	text, err := json.Marshal(rec)
	s.must(err)
	s.inStateDir(d.tweak)
	s.write("web.json", string(text)+"\n")
	s.inStateDir(d.done)
}
