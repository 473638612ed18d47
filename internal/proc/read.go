package proc

import (
	"bytes"
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxSmall is more bytes than a number or an id of the kernel has.
const maxSmall = 256

// ReadSmall reads a file of one line in procfs (proc(5)), at most 256 bytes of it, without blanks around them.
// os.ReadFile would register it with the poller, and makes three times as many system calls.
func ReadSmall(path string) (string, error) {
	var fd int
	err := retry(func() (err error) { fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); return err })
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var b [maxSmall]byte
	n := 0
	if err := retry(func() (err error) { n, err = unix.Read(fd, b[:]); return err }); err != nil {
		return "", &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return string(bytes.TrimSpace(b[:n])), nil
}

// retry makes a call again that a signal has interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
