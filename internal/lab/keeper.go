package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeper is a shell whose namespaces are a host or the switch. It lives as long as our end of its standard input
// is open: the kernel closes that whichever way this process ends, and then the keeper kills all that still runs
// in its network, daemons of daemons included, and goes itself.
type keeper struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// Our own process is spared: one of its threads may be in there, in Host.Do.
const keeping = `
exec 2>/dev/null
sweep() {
	found=yes
	while [ "$found" ]; do
		found=
		for p in /proc/[0-9]*; do
			[ "$p/ns/net" -ef /proc/self/ns/net ] || continue
			case "${p#/proc/}" in $$|$PPID) continue;; esac
			kill -9 "${p#/proc/}" && found=yes
		done
	done
}
echo ready
while read -r _; do sweep; echo swept; done
sweep
sleep 0.1 # a child that was about to enter when we were killed
sweep
`

// keep starts a keeper in new namespaces and returns when it has run the setup, a shell script with its args.
func keep(setup string, args ...string) (*keeper, error) {
	k := &keeper{}
	k.cmd = exec.Command("sh", append([]string{"-c", "set -e\n" + setup + "set +e\n" + keeping, "keeper"}, args...)...)
	k.cmd.Dir = "/"
	k.cmd.Env = environment()
	// Unsharing the mounts in the child, as opposed to cloning them, makes Go cut their propagation to ours.
	k.cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Setpgid:      true, // an interrupt from the terminal is for us
	}
	k.cmd.Stderr = &k.stderr
	in, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	k.in, k.out = in, bufio.NewReader(out)
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("no new namespaces: %w", err)
	}
	if err := k.expect("ready\n"); err != nil {
		return nil, err
	}
	return k, nil
}

// expect reads the keeper's next line. Where it is another than it should be, the keeper is ended.
func (k *keeper) expect(line string) error {
	got, err := k.out.ReadString('\n')
	if err == nil && got == line {
		return nil
	}
	k.in.Close()
	err = k.cmd.Wait()
	return fmt.Errorf("keeper: %v: %s", err, strings.TrimSpace(got+k.stderr.String()))
}

// sweep kills every process in the keeper's network.
func (k *keeper) sweep() error {
	if _, err := io.WriteString(k.in, "sweep\n"); err != nil {
		return fmt.Errorf("keeper: %v", err)
	}
	return k.expect("swept\n")
}

// close sweeps and frees the namespaces.
func (k *keeper) close() error {
	if err := k.sweep(); err != nil {
		return err
	}
	// Nothing is left in there, so there is nothing to wait for.
	k.cmd.Process.Kill()
	k.cmd.Wait()
	return nil
}

// path is where a file of the keeper's mounts is seen from here.
func (k *keeper) path(name string) string {
	return "/proc/" + strconv.Itoa(k.cmd.Process.Pid) + "/root" + name
}

// command makes a command that will run in the keeper's namespaces. The first shell keeps the working directory,
// which nsenter loses, for the second; all make way by exec, so the process's id is that of argv.
func (k *keeper) command(ctx context.Context, argv ...string) *exec.Cmd {
	const (
		enter = `exec "$1" --target "$2" --net --mount --uts -- "$0" -c "$3" "$PWD" "$@"`
		start = `shift 3; cd "$0" && exec "$@"`
	)
	// By their paths, because the caller may set a PATH where they are not found.
	sh, err := exec.LookPath("sh")
	nsenter, err2 := exec.LookPath("nsenter")
	pid := strconv.Itoa(k.cmd.Process.Pid)
	cmd := exec.CommandContext(ctx, sh, append([]string{"-c", enter, sh, nsenter, pid, start}, argv...)...)
	cmd.Env = environment()
	cmd.Err = errors.Join(err, err2)
	return cmd
}

// run runs a command in the keeper's namespaces, in the root folder, with the lines as its input.
func (k *keeper) run(lines []string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pid := strconv.Itoa(k.cmd.Process.Pid)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", pid, "--net", "--mount", "--uts", "--"}, argv...)...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	return output(cmd, argv)
}

// output runs a command to its end. What it leaves running may keep the output open: that is no failure.
func output(cmd *exec.Cmd, argv []string) (string, error) {
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	} else {
		err = nil
	}
	return string(out), err
}

// environment is ours, with the folders where ip is: a user's PATH may lack them.
func environment() []string {
	return append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:/usr/bin:/bin")
}

// ip runs the lines as commands of ip(8).
func (k *keeper) ip(lines ...string) error {
	_, err := k.run(lines, "ip", "-batch", "-")
	return err
}

// do calls f on a thread in the keeper's network.
func (k *keeper) do(f func() error) error {
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", k.cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer there.Close()

	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer here.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns: %v", err)
	}
	// The thread goes back instead of ending: its end would kill the children that were started from it with
	// Pdeathsig. If it cannot, it stays locked and does end.
	defer func() {
		if unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}
