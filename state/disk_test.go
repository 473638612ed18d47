package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pingover/internal/lab"

	"golang.org/x/sys/unix"
)

const partMounts = "the same test with mounts of its own"

// ownMounts runs the test again in a process that has its own mounts, with a
// file system made for it; there it returns the directory of that.
// In the process that was asked first it returns "": all is done.
func ownMounts(t *testing.T, options string) (dir string) {
	t.Helper()
	if os.Getenv(partVar) == partMounts {
		dir = os.Getenv(dirVar)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			lab.Skip(t, fmt.Errorf("no file system can be mounted here: %w", err))
		}
		return dir
	}
	t.Parallel()
	cmd := again(t, partMounts, t.TempDir(), lab.Again(t)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := lab.RunAgain(t, cmd); err != nil {
		lab.Skip(t, fmt.Errorf("no mounts of our own: %w", err))
	}
	return ""
}

// fill writes until there is no space left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	ok(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func free(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	ok(t, unix.Statfs(dir, &fs))
	return fs.Bfree
}

func TestFullDisk(t *testing.T) {
	dir := ownMounts(t, "size=64k")
	if dir == "" {
		return
	}
	d := Dir(dir)
	ok(t, d.Save(smallRecord(), true))
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)

	t.Run("what cannot be saved leaves the old record whole, and takes no space", func(t *testing.T) {
		for _, durable := range []bool{false, true} {
			wantError(t, d.Save(fullRecord(), durable), "write "+dir+"/web.json.tmp: no space left on device")
			wantRecord(t, d, smallRecord())
			wantFiles(t, dir, "ballast", "web.json")
		}
	})

	t.Run("also when there is some space, but not enough", func(t *testing.T) {
		ok(t, os.Truncate(ballast, 4096*10))
		before := free(t, dir)
		wantError(t, d.Save(alternating(0), true), "write "+dir+"/web.json.tmp: no space left on device")
		if after := free(t, dir); after != before || before == 0 {
			t.Errorf("%d blocks are free, before it were %d", after, before)
		}
		wantRecord(t, d, smallRecord())
		fill(t, filepath.Join(dir, "more"))
	})

	t.Run("it can be locked all the same", func(t *testing.T) {
		unlock, err := d.Lock("web")
		ok(t, err)
		defer unlock()
		_, said := start(t, partHold, dir)
		wantSaid(t, "another run holds the lock", said)
		wantText(t, filepath.Join(dir, "web.lock"), "") // no room for the pid
		unlockActs, err := d.LockSwitch(t.Context())
		ok(t, err)
		unlockActs()
	})

	t.Run("the space of what a killed run left is used again", func(t *testing.T) {
		ok(t, os.Remove(filepath.Join(dir, "more")))
		fill(t, d.path("web", ".json.tmp"))
		ok(t, d.Save(fullRecord(), true))
		wantRecord(t, d, fullRecord())
	})

	t.Run("a full disk that has room again", func(t *testing.T) {
		ok(t, os.Remove(ballast))
		ok(t, d.Save(smallRecord(), true))
		wantRecord(t, d, smallRecord())
		wantFiles(t, dir, "act.lock", "web.json", "web.lock")
	})
}

// TestDiskWithoutInodes: there is room, but not for one more file.
func TestDiskWithoutInodes(t *testing.T) {
	dir := ownMounts(t, "size=64k,nr_inodes=8")
	if dir == "" {
		return
	}
	d := Dir(dir)
	ok(t, d.Save(smallRecord(), true))
	for i := 0; ; i++ {
		err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		ok(t, err)
	}
	wantError(t, d.Save(fullRecord(), true), "open "+dir+"/web.json.tmp: no space left on device")
	wantRecord(t, d, smallRecord())
	ok(t, lockTwice(t, d, dir))
}

func TestReadOnlyDisk(t *testing.T) {
	dir := ownMounts(t, "size=1m")
	if dir == "" {
		return
	}
	bare, used := Dir(filepath.Join(dir, "bare")), Dir(filepath.Join(dir, "used"))
	for _, d := range []Dir{bare, used} {
		ok(t, d.Save(smallRecord(), true))
	}
	unlock, err := used.Lock("web")
	ok(t, err)
	unlock()
	pid := fmt.Sprintln(os.Getpid())
	wantText(t, used.path("web", ".lock"), pid)
	unlock, err = used.LockSwitch(t.Context())
	ok(t, err)
	unlock()
	corrupt := used.path("db", ".json")
	write(t, corrupt, "{}")
	ok(t, os.Mkdir(dir+"/proc", 0o755))
	ok(t, unix.Mount("/proc", dir+"/proc", "", unix.MS_BIND|unix.MS_REC, ""))
	ok(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))

	t.Run("the record is read, and cannot be written", func(t *testing.T) {
		wantRecord(t, used, smallRecord())
		wantError(t, used.Save(fullRecord(), true), "open "+string(used)+"/web.json.tmp: read-only file system")
		wantRecord(t, used, smallRecord())
		missing := Dir(filepath.Join(dir, "not", "yet"))
		wantError(t, missing.Save(fullRecord(), true), "mkdir "+dir+"/not: read-only file system")
	})

	t.Run("a corrupt record is ignored, and stays where it is", func(t *testing.T) {
		_, err := used.Load("db", true)
		wantCorrupt(t, err, corrupt, "", "its version is 0, this program knows 1")
		wantText(t, corrupt, "{}")
	})

	for _, test := range []struct {
		name  string
		d     Dir
		where string
	}{
		{"the lock is taken on the file", used, used.path("web", ".lock")},
		{"on the directory, where there is no file", bare, string(bare)},
		{"on what is above, where there is no directory", Dir(filepath.Join(dir, "not", "yet")), dir},
	} {
		t.Run(test.name, func(t *testing.T) {
			ok(t, lockTwice(t, test.d, test.where))
			unlock, err := test.d.Lock("web")
			ok(t, err)
			defer unlock()
			_, said := start(t, partHold, string(test.d))
			wantSaid(t, "another run holds the lock", said)
		})
	}
	wantText(t, used.path("web", ".lock"), pid)

	t.Run("all clusters' lock", func(t *testing.T) {
		for _, d := range []Dir{used, bare} {
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
	})

	// The last, for there is no way out: a user whose home directory does not
	// exist, as services have it, is left with the root directory.
	t.Run("nothing but the root directory is there", func(t *testing.T) {
		ok(t, unix.Chroot(dir))
		ok(t, os.Chdir("/"))
		ok(t, lockTwice(t, "/nonexistent/.local/state/pingover", "/"))
		ok(t, lockTwice(t, "state", "."))
	})
}
