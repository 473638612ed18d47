package vip

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Permission returns nil when this process may change addresses, by a tool that
// it runs, and send and receive ARP; otherwise an error that wraps
// fs.ErrPermission.
func Permission() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read this process's capabilities: %w", err)
	}
	for _, c := range []struct {
		name string
		bit  int
	}{{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN}, {"CAP_NET_RAW", unix.CAP_NET_RAW}} {
		if data[0].Effective&(1<<c.bit) == 0 {
			return fmt.Errorf("no permission to change addresses: this process has no %s (%w)", c.name, fs.ErrPermission)
		}
	}
	// A child of root has root's capabilities; a child of another user only the
	// ambient ones (capabilities(7)).
	if os.Geteuid() == 0 {
		return nil
	}
	ambient, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, unix.CAP_NET_ADMIN, 0, 0)
	if err != nil || ambient != 1 {
		return fmt.Errorf("no permission to change addresses: CAP_NET_ADMIN is not ambient, so the tool does not get it (%w)", fs.ErrPermission)
	}
	return nil
}
