package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pingover/internal/lab"

	"golang.org/x/sys/unix"
)

const (
	partHold          = "hold the cluster's lock"
	partHoldWithChild = "hold the cluster's lock and start a child"
	partHoldActs      = "hold the lock of all clusters"
	partHoldFile      = "hold the lock of any file"
)

// keepLock says that it has the lock, and keeps it until its input ends.
func keepLock(unlock func(), err error) error {
	if err != nil {
		return err
	}
	defer unlock()
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// lockWithChild starts a child while it has the lock, and says its pid.
func lockWithChild(d Dir) error {
	unlock, err := d.Lock("web")
	if err != nil {
		return err
	}
	defer unlock()
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println(child.Process.Pid)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// holdFile locks a file or directory, as every user can who may open it.
func holdFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return keepLock(func() {}, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}

// TestStandInThatAnotherUserHolds: any local user can lock a directory, and
// must not keep pingover from running by that.
func TestStandInThatAnotherUserHolds(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lab.Skip(t, "only root can be another user")
	}
	for _, test := range []struct {
		name string
		user uint32
		want error
	}{
		{"another user's lock does not count", 65534, nil},
		{"root's does", 0, ErrBusy},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ok(t, os.Chmod(filepath.Dir(dir), 0o755))
			ok(t, os.Chmod(dir, 0o555))
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			cmd := again(t, partHoldFile, dir)
			cmd.Path = "/proc/self/exe" // the directory of the test binary is not for everybody
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: test.user, Gid: test.user}}
			wantSaid(t, "locked", firstLine(t, cmd))
			var err, again error
			ok(t, asOwnerOnly(func() {
				var unlock func()
				if unlock, err = Dir(dir).Lock("web"); err != nil {
					return
				}
				defer unlock()
				if !isLocked(t, filepath.Dir(dir)) {
					t.Error("the directory above is not locked instead")
				}
				_, again = Dir(dir).Lock("web")
			}))
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if test.want == nil {
				wantBusy(t, again)
			}
		})
	}
}

// TestSwitchLockThatAnotherUserHolds is not waited for.
func TestSwitchLockThatAnotherUserHolds(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		lab.Skip(t, "only root can be another user")
	}
	dir := t.TempDir()
	ok(t, os.Chmod(filepath.Dir(dir), 0o755))
	path := filepath.Join(dir, "act.lock")
	write(t, path, "")
	ok(t, os.Chmod(path, 0o444))
	cmd := again(t, partHoldFile, path)
	cmd.Path = "/proc/self/exe"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	wantSaid(t, "locked", firstLine(t, cmd))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	unlock, err := Dir(dir).LockSwitch(ctx)
	ok(t, err)
	unlock()
}

// TestLockFileThatCannotBeLookedAt: only one that was removed is a reason to
// try again, or the run would try without end.
func TestLockFileThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(path)
	ok(t, err)
	defer f.Close()
	for name, want := range map[string]string{
		path:               "true <nil>",
		path + ".removed":  "false <nil>",
		path + "/below":    "false <nil>",
		filepath.Dir(path): "false <nil>",
		path + strings.Repeat("x", unix.NAME_MAX): "false stat NAME: file name too long",
	} {
		named, err := isNamed(f, name)
		if got := strings.ReplaceAll(fmt.Sprint(named, " ", err), name, "NAME"); got != want {
			t.Errorf("%.80s: %s, want %s", name, got, want)
		}
	}
}

// TestLockFileIsClosedToOthers who could open it before.
func TestLockFileIsClosedToOthers(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	path := d.path("web", ".lock")
	write(t, path, "")
	ok(t, os.Chmod(path, 0o644))
	unlock, err := d.Lock("web")
	ok(t, err)
	defer unlock()
	info, err := os.Stat(path)
	ok(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %s, want 0600", info.Mode())
	}
	if pid, since := d.Holder("web"); pid != os.Getpid() || time.Since(since).Abs() > time.Minute {
		t.Errorf("held by %d since %s, want %d", pid, since, os.Getpid())
	}
}

// TestHourBegins: what lasts is said once an hour, however far the checks are
// apart and at whatever minute they run.
func TestHourBegins(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{0, time.Minute, 5 * time.Minute, 7 * time.Minute, 90 * time.Minute} {
		step := max(gap, time.Minute)
		said, hours := 0, 0
		for at := time.Date(2026, 3, 1, 0, 4, 59, 0, time.UTC); at.Day() == 1; at = at.Add(step) {
			hours = at.Hour()
			if HourBegins(at, gap) {
				said++
			}
		}
		if want := min(hours, int(24*time.Hour/step)); said < want-1 || said > want+1 {
			t.Errorf("checks %s apart: said %d times in %d hours", step, said, hours)
		}
	}
}

func TestBusyIsDueOnceAnHour(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	d := Dir(t.TempDir())
	for _, test := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Minute, false}, {59 * time.Minute, false}, {time.Hour, true}, {time.Hour + time.Minute, false}, {-2 * time.Hour, true}} {
		if got := d.BusyDue("web", time.Minute, now.Add(test.after)); got != test.want {
			t.Errorf("after %s: %t, want %t", test.after, got, test.want)
		}
	}
	info, err := os.Stat(d.path("web", ".busy"))
	ok(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %s, want 0600", info.Mode())
	}
	hour := time.Date(2026, 3, 1, 4, 0, 30, 0, time.UTC)
	missing := Dir(filepath.Join(t.TempDir(), "none"))
	if !missing.BusyDue("web", time.Minute, hour) || missing.BusyDue("web", time.Minute, hour.Add(time.Minute)) {
		t.Error("without a file: not due when an hour begins, or when none does")
	}
}

func wantBusy(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want %v", err, ErrBusy)
	}
}

func wantSaid(t *testing.T, want, got string) {
	t.Helper()
	if got != want {
		t.Fatalf("the other process says %q, want %q", got, want)
	}
}

// isLocked asks the kernel whether a lock is held on what is there.
func isLocked(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	ok(t, err)
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatal(err)
	}
	release(f)
	return err != nil
}

func TestLockIsForOneRun(t *testing.T) {
	t.Parallel()
	d := Dir(filepath.Join(t.TempDir(), "not", "yet"))
	for range 2 {
		unlock, err := d.Lock("web")
		ok(t, err)
		_, err = d.Lock("web")
		wantBusy(t, err)
		wantError(t, err, "another run holds the lock")
		other, err := d.Lock("db")
		ok(t, err)
		other()
		unlock()
	}
	wantFiles(t, string(d), "db.lock", "web.lock")
}

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	write(t, d.path("web", ".lock"), "the pid of an older run, and more\n")
	cmd, said := start(t, partHold, string(d))
	wantSaid(t, "locked", said)
	wantText(t, d.path("web", ".lock"), fmt.Sprintln(cmd.Process.Pid))
	_, err := d.Lock("web")
	wantBusy(t, err)
	wantText(t, d.path("web", ".lock"), fmt.Sprintln(cmd.Process.Pid))
	_, said = start(t, partHold, string(d))
	wantSaid(t, "another run holds the lock", said)

	kill(cmd)
	unlock, err := d.Lock("web")
	ok(t, err)
	defer unlock()
	wantText(t, d.path("web", ".lock"), fmt.Sprintln(os.Getpid()))
	_, said = start(t, partHold, string(d))
	wantSaid(t, "another run holds the lock", said)
}

// TestChildDoesNotKeepTheLock: a hook may start a daemon that lives for years.
func TestChildDoesNotKeepTheLock(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	cmd, said := start(t, partHoldWithChild, string(d))
	child, err := strconv.Atoi(said)
	if err != nil {
		t.Fatalf("the other process says %q, want a pid", said)
	}
	t.Cleanup(func() { _ = unix.Kill(child, unix.SIGKILL) })
	_, err = d.Lock("web")
	wantBusy(t, err)

	kill(cmd)
	unlock, err := d.Lock("web")
	ok(t, err)
	unlock()
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) != "sleep\n" {
		t.Fatalf("the child did not survive: it is %q, error %v", name, err)
	}
}

// TestUnlockedWhileAChildStarts: what unlock has returned from is free, though
// another goroutine is between fork and exec.
func TestUnlockedWhileAChildStarts(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	var all sync.WaitGroup
	var done atomic.Bool
	all.Go(func() {
		for !done.Load() {
			if err := exec.Command("true").Run(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2000 {
		unlock, err := d.Lock("web")
		if err != nil {
			t.Error(err)
			break
		}
		unlock()
	}
	done.Store(true)
	all.Wait()
}

func TestLockFileRemovedBetweenRuns(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	unlock, err := d.Lock("web")
	ok(t, err)
	unlock()
	ok(t, os.Remove(d.path("web", ".lock")))
	unlock, err = d.Lock("web")
	ok(t, err)
	defer unlock()
	_, said := start(t, partHold, string(d))
	wantSaid(t, "another run holds the lock", said)
}

// TestLockFileRemovedByItsHolders: who opened the file before it was removed
// must not hold it beside those who opened the next one.
func TestLockFileRemovedByItsHolders(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(Dir) (func(), error){
		"web.lock": func(d Dir) (func(), error) { return d.Lock("web") },
		"act.lock": func(d Dir) (func(), error) { return d.LockSwitch(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := Dir(t.TempDir())
			var inside, taken atomic.Int32
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for taken.Load() < 300 {
						unlock, err := take(d)
						if errors.Is(err, ErrBusy) {
							continue
						}
						if err != nil {
							t.Error(err)
							return
						}
						if n := inside.Add(1); n > 1 {
							t.Errorf("%d hold the lock at once", n)
						}
						taken.Add(1)
						time.Sleep(time.Microsecond)
						inside.Add(-1)
						if err := os.Remove(filepath.Join(string(d), name)); err != nil {
							t.Error(err)
						}
						unlock()
					}
				})
			}
			all.Wait()
		})
	}
}

// TestLockWhereNothingCanBeWritten: a takeover must not fail for a lock.
func TestLockWhereNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, state, made, locked string }{
		{"the file is read-only", ".", "web.lock", "web.lock"},
		{"there is no file", ".", "", "."},
		{"there is no directory", "not/yet", "", "."},
		{"there is another cluster's file", ".", "db.lock", "."},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if test.made != "" {
				write(t, filepath.Join(dir, test.made), "before\n")
				ok(t, os.Chmod(filepath.Join(dir, test.made), 0o400))
			}
			ok(t, os.Chmod(dir, 0o555))
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			d := Dir(filepath.Join(dir, test.state))
			err := error(nil)
			ok(t, asOwnerOnly(func() { err = lockTwice(t, d, filepath.Join(dir, test.locked)) }))
			ok(t, err)
			if test.made != "" {
				wantText(t, filepath.Join(dir, test.made), "before\n")
			}
		})
	}
}

// lockTwice takes the cluster's lock, one after the other, and finds it
// exclusive and where it should be. All clusters' lock can be had meanwhile:
// a run must never wait for itself.
func lockTwice(t *testing.T, d Dir, where string) error {
	for range 2 {
		unlock, err := d.Lock("web")
		if err != nil {
			return err
		}
		if _, err := d.Lock("web"); !errors.Is(err, ErrBusy) {
			return fmt.Errorf("locked a second time: %v", err)
		}
		if !isLocked(t, where) {
			return fmt.Errorf("%s is not locked", where)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		unlockActs, err := d.LockSwitch(ctx)
		if err != nil {
			return err
		}
		unlockActs()
		unlock()
		if isLocked(t, where) {
			return fmt.Errorf("%s is still locked", where)
		}
	}
	return nil
}

func TestAllClustersLockIsWaitedFor(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	unlock, err := d.LockSwitch(t.Context())
	ok(t, err)
	var freed atomic.Bool
	go func() {
		time.Sleep(50 * time.Millisecond)
		freed.Store(true)
		unlock()
	}()
	unlockNext, err := d.LockSwitch(t.Context())
	ok(t, err)
	defer unlockNext()
	if !freed.Load() {
		t.Error("it was not waited for")
	}
	info, err := os.Stat(filepath.Join(string(d), "act.lock"))
	ok(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %s, want 0600", info.Mode())
	}
}

func TestAllClustersLockIsNotWaitedForLongerThanTheContext(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		unlock, err := d.LockSwitch(t.Context())
		ok(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began := time.Now()
		_, err = d.LockSwitch(ctx)
		wantError(t, err, string(d)+"/act.lock: another cluster on this machine is still switching")
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("waited %s, want 15s", took)
		}
		// A lock that is free is had however late it is.
		unlock()
		unlock, err = d.LockSwitch(ctx)
		ok(t, err)
		unlock()
	})
}

func TestAllClustersLockOfAKilledRun(t *testing.T) {
	t.Parallel()
	d := Dir(t.TempDir())
	cmd, said := start(t, partHoldActs, string(d))
	wantSaid(t, "locked", said)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.LockSwitch(ended)
	wantError(t, err, string(d)+"/act.lock: another cluster on this machine is still switching")
	kill(cmd)
	unlock, err := d.LockSwitch(ended)
	ok(t, err)
	unlock()
}

// TestAllClustersLockWhereNothingCanBeWritten, and that it excludes all the
// same.
func TestAllClustersLockWhereNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, state, made, locked string }{
		{"the file is read-only", ".", "act.lock", "act.lock"},
		{"there is no file", ".", "", "/proc/self/exe"},
		{"there is no directory", "not/yet", "", "/proc/self/exe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			where := test.locked
			if test.made != "" {
				where = filepath.Join(dir, test.made)
				write(t, where, "")
				ok(t, os.Chmod(where, 0o400))
			}
			ok(t, os.Chmod(dir, 0o555))
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			d := Dir(filepath.Join(dir, test.state))
			err := error(nil)
			ok(t, asOwnerOnly(func() {
				var unlock func()
				if unlock, err = d.LockSwitch(context.Background()); err != nil {
					return
				}
				defer unlock()
				if !isLocked(t, where) {
					err = fmt.Errorf("%s is not locked", where)
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
				defer cancel()
				if _, again := d.LockSwitch(ctx); again == nil || !strings.Contains(again.Error(), "still switching") {
					err = fmt.Errorf("locked a second time: %v", again)
				}
			}))
			ok(t, err)
		})
	}
}
