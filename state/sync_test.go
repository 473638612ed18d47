package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"pingover/internal/lab"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestDurableRecordSurvivesAPowerCut reads from the kernel that the file is
// synced before it is renamed, and the directory after it: without the first
// an empty record could come back, without the second the old one.
func TestDurableRecordSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		durable bool
		want    []string
	}{
		{"durable", true, []string{"sync web.json.tmp: the new one", "rename", "sync state: the new one"}},
		{"not durable", false, []string{"rename"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(filepath.Join(t.TempDir(), "state"))
			ok(t, d.Save(smallRecord(), false))
			var got []string
			err := supervised(t, func() error { return d.Save(fullRecord(), test.durable) }, func(call, path string) unix.Errno {
				if call == "sync" {
					call += " " + filepath.Base(path) + ": " + newOrOld(path)
				}
				got = append(got, call)
				return 0
			})
			ok(t, err)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			wantRecord(t, d, fullRecord())
		})
	}
}

// newOrOld says which record stands in the file, or in the directory under
// the name by which it is read.
func newOrOld(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "web.json")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	rec, err := Parse(data)
	switch {
	case err != nil:
		return err.Error()
	case same(fullRecord(), rec) == "":
		return "the new one"
	}
	return "the old one"
}

func TestFailedSyncIsReported(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, fails, want string
		after             *Record
	}{
		{"of the file", "web.json.tmp", "sync %s/web.json.tmp: input/output error", smallRecord()},
		{"of the directory", "state", "sync %s: input/output error", fullRecord()},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := Dir(filepath.Join(t.TempDir(), "state"))
			ok(t, d.Save(smallRecord(), false))
			err := supervised(t, func() error { return d.Save(fullRecord(), true) }, func(_, path string) unix.Errno {
				if filepath.Base(path) == test.fails {
					return unix.EIO
				}
				return 0
			})
			wantError(t, err, fmt.Sprintf(test.want, d))
			wantRecord(t, d, test.after)
			wantFiles(t, string(d), "web.json")
		})
	}
}

// notification is struct seccomp_notif of linux/seccomp.h, and answer struct
// seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	call       int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// supervised runs f on a thread whose syncs and renames the kernel holds up,
// until seen has been told of them. For a sync path is what is synced. What
// seen returns is the call's error; 0 lets it go on. See seccomp(2).
func supervised(t *testing.T, f func() error, seen func(call, path string) unix.Errno) error {
	t.Helper()
	type started struct {
		listener int
		err      error
	}
	start, end := make(chan started), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the filter ends with the thread
		listener, err := filter()
		// Preempting it by a signal would end the call that is held up.
		var preemption unix.Sigset_t
		preemption.Val[0] = 1 << (unix.SIGURG - 1)
		if err == nil {
			err = unix.PthreadSigmask(unix.SIG_BLOCK, &preemption, nil)
		}
		start <- started{listener, err}
		if err == nil {
			end <- f()
		}
	}()
	s := <-start
	if s.err != nil {
		lab.Skip(t, fmt.Errorf("system calls cannot be watched here: %w", s.err))
	}
	defer unix.Close(s.listener)
	for {
		poll := []unix.PollFd{{Fd: int32(s.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 10); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			select {
			case err := <-end:
				return err
			default:
				continue
			}
		}
		var n notification
		ok(t, ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)))
		call, path := "rename", ""
		if n.call == unix.SYS_FSYNC || n.call == unix.SYS_FDATASYNC {
			call = "sync"
			var err error
			path, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n.args[0]))
			ok(t, err)
		}
		a := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if errno := seen(call, path); errno != 0 {
			a = answer{id: n.id, err: -int32(errno)}
		}
		ok(t, ioctl(s.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)))
	}
}

// filter has the kernel ask the descriptor that it returns about each sync
// and rename of this thread.
func filter() (listener int, err error) {
	calls := []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number of the call
	for i, call := range calls {
		program = append(program, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: uint8(len(calls) - i),
		})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_USER_NOTIF})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})))
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
