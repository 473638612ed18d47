package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Available says why no lab can be made here; nil when it can: as root, or where the kernel lets users make
// namespaces and the program has called, or will call, Enter.
func Available() error {
	privileged, err := privileged()
	if err != nil {
		return err
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "nsenter": "util-linux", "mount": "mount", "hostname": "hostname"} {
		cmd := exec.Command("sh", "-c", "command -v "+tool)
		cmd.Env = environment()
		if cmd.Run() != nil {
			return missing(tool, pkg)
		}
	}
	if !privileged {
		// Some kernels allow the namespaces and then refuse everything in them.
		trial := exec.Command("sh", "-c", "ip link set lo up")
		trial.Env = environment()
		trial.SysProcAttr = newUser()
		if out, err := trial.CombinedOutput(); err != nil {
			return refused(err, out, false)
		}
		return nil
	}
	l, err := New()
	if err == nil {
		_, err = l.Add("trial")
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		return refused(err, nil, true)
	}
	return nil
}

func missing(program, debian string) error {
	return fmt.Errorf("%s is missing: install the package %s", program, debian)
}

// Enter is called first thing in main or TestMain. With the rights to make a lab it does nothing: inside is true.
// Otherwise it runs this very program again, with the same arguments, as root of new user, network and mount
// namespaces, and returns its exit code (128 plus the number of the signal that killed it): the caller exits with
// that. The error says that the kernel does not allow it.
func Enter() (inside bool, code int, err error) {
	inside, err = privileged()
	if inside || err != nil {
		return inside, 0, err
	}
	program, err := os.Executable()
	if err != nil {
		return false, 0, err
	}
	again := exec.Command("sh", append([]string{"-c", `ip link set lo up; exec "$0" "$@"`, program}, os.Args[1:]...)...)
	again.Env = environment()
	again.SysProcAttr = newUser()
	again.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// Pdeathsig comes when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if code, err = instead(again); err != nil {
		return false, 0, refused(err, nil, false)
	}
	return false, code, nil
}

// EnterHost is Enter for tests that would read or write the state or the configuration of this machine: it runs the
// program again on a host with a disk of its own.
func EnterHost() (inside bool, code int, err error) {
	const variable = "PINGOVER_LAB_HOST"
	if os.Getenv(variable) != "" {
		return true, 0, nil
	}
	if inside, code, err = Enter(); !inside {
		return false, code, err
	}
	program, err := os.Executable()
	if err != nil {
		return false, 0, err
	}
	l, err := New()
	if err != nil {
		return false, 0, refused(err, nil, true)
	}
	defer l.Close()
	h, err := l.Add("machine")
	if err != nil {
		return false, 0, refused(err, nil, true)
	}
	again := h.Command(context.Background(), append([]string{program}, os.Args[1:]...)...)
	again.Env = append(again.Env, variable+"=1")
	code, err = instead(again)
	return false, code, err
}

// instead runs a command with our own input and output, and returns its exit code as a shell does.
func instead(cmd *exec.Cmd) (code int, err error) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0, err
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// refused says why no namespaces can be made, and what to do about it. A limit that is reached is an ENOSPC, which
// reads as a full disk, and a setting that forbids them is an EPERM.
func refused(err error, said []byte, root bool) error {
	const no = "no namespaces can be made"
	for _, s := range []struct {
		name, forbids, allows string
		usersOnly             bool // root is not bound by it
	}{
		{"kernel.unprivileged_userns_clone", "0", "1", true}, // of Debian's and Arch's kernels
		{"user.max_user_namespaces", "0", "1000", true},
		{"user.max_net_namespaces", "0", "1000", false},
		{"user.max_mnt_namespaces", "0", "1000", false},
		{"user.max_uts_namespaces", "0", "1000", false},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0", true}, // of Ubuntu's; profiles except programs
	} {
		is, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		switch {
		case err != nil || strings.TrimSpace(string(is)) != s.forbids || s.usersOnly && root:
		case s.usersOnly:
			return fmt.Errorf("%s: %s is %s: run it as root, or allow it: sysctl -w %s=%s", no, s.name, s.forbids, s.name, s.allows)
		default:
			return fmt.Errorf("%s: %s is %s: raise it: sysctl -w %s=%s", no, s.name, s.forbids, s.name, s.allows)
		}
	}
	why := err.Error()
	if start, ok := errors.AsType[*fs.PathError](err); ok && start.Op == "fork/exec" {
		if start.Err == syscall.ENOSPC {
			return fmt.Errorf("%s: a limit is reached, here or around this container: raise user.max_net_namespaces and those beside it: sysctl user", no)
		}
		why = start.Err.Error() // the program, whose path that names, is not what is refused
	}
	if said = bytes.TrimSpace(said); len(said) > 0 {
		why += ": " + string(said)
	}
	return fmt.Errorf("%s: %s: run it as root with all its capabilities, or where users may make user namespaces", no, why)
}

// privileged tells whether this process has CAP_SYS_ADMIN, be it of its own user namespace.
func privileged() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // 64 capabilities
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false, fmt.Errorf("capget: %v", err)
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0, nil
}

// newUser makes a child root of new namespaces, with no rights outside of them.
func newUser() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
}
