package check

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"pingover/internal/lab"
)

func TestPermission(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before, wrapper, want string
	}{
		{"raw", "", "", ""},
		{"unprivileged", openRange, noRaw, ""},
		{"neither", "", noRaw, noPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, err := lab.ForTest(t).Add("standby")
			if err != nil {
				t.Fatal(err)
			}
			must(t, h, "sh", "-ec", c.before)
			got := on(t, h, task{Permission: true}, nil, strings.Fields(c.wrapper)...)
			if got.Permission != c.want || got.Denied != (c.want != "") {
				t.Errorf("got %q, want %q; is fs.ErrPermission: %t", got.Permission, c.want, got.Denied)
			}
		})
	}
}

func TestPermissionOfTwoFamilies(t *testing.T) {
	t.Parallel()
	no, absent, full := fmt.Errorf("no permission: %w", fs.ErrPermission), syscall.EAFNOSUPPORT, syscall.EMFILE
	for _, c := range []struct {
		name             string
		err4, err6, want error
	}{
		{"both", nil, nil, nil},
		{"no IPv6 on this machine", nil, absent, nil},
		{"no IPv4 on this machine", absent, nil, nil},
		{"IPv4 alone", nil, no, nil},
		{"neither", no, no, no},
		{"no right, no IPv6", no, absent, no},
		{"no right, no IPv4", absent, no, no},
		{"out of file descriptors", full, full, nil},
	} {
		if got := permission(c.err4, c.err6); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
