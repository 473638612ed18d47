package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// restrictedAs is the name under which this test binary runs a command as the units
// do where systemd applies RestrictAddressFamilies= and MemoryDenyWriteExecute=.
const restrictedAs = "pingover-test-restricted"

// withoutIPv6 is the variable with which no socket of IPv6 is allowed there, as by a
// kernel that has none.
const withoutIPv6 = "PINGOVER_TEST_WITHOUT_IPV6"

// allowedFamilies are those that strict.conf allows.
var allowedFamilies = map[string]uint32{
	"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK, "AF_PACKET": unix.AF_PACKET,
}

// restrict runs the command in the arguments, which does not return.
func restrict(argv []string) int {
	runtime.LockOSThread()
	// socket(2) of another family is EAFNOSUPPORT (seccomp(2): the data are the
	// number of the call at 0, its first argument at 16).
	families := maps.Clone(allowedFamilies)
	if os.Getenv(withoutIPv6) != "" {
		delete(families, "AF_INET6")
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: uint8(len(families) + 2)},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16},
	}
	left := len(families)
	for _, family := range families {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: family, Jt: uint8(left)})
		left--
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fail := func(what string, err error) int {
		fmt.Fprintln(os.Stderr, what, err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fail("seccomp:", err)
	}
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil && err != unix.EINVAL { // Linux before 6.3
		return fail("memory:", err)
	}
	if _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); err != unix.EAFNOSUPPORT {
		return fail("a socket of a family that is not allowed:", err)
	}
	path, err := exec.LookPath(argv[0])
	if err == nil {
		err = syscall.Exec(path, argv, os.Environ())
	}
	return fail(argv[0]+":", err)
}
