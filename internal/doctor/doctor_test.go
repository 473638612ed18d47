package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pingover/internal/config"

	"golang.org/x/sys/unix"
)

func TestADiskThatIsFull(t *testing.T) {
	plenty := unix.Statfs_t{Bsize: 4096, Bfree: 1000, Bavail: 1000, Files: 10, Ffree: 1}
	little, noInode, countless := plenty, plenty, plenty
	little.Bfree, little.Bavail = 16, 16
	noInode.Ffree = 0
	countless.Files, countless.Ffree = 0, 0 // as btrfs says
	for _, test := range []struct {
		disk unix.Statfs_t
		want string
	}{
		{plenty, ""},
		{countless, ""},
		{little, "only 64 KiB are free"},
		{noInode, "no file can be made: all inodes are in use"},
	} {
		if got := shortOf(test.disk); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestWithoutATool(t *testing.T) {
	found := Run(t.Context(), config.Cluster{
		Name: "web", Host: "127.0.0.1", VIPs: []config.VIP{{Prefix: netip.MustParsePrefix("172.16.0.1/32")}}, Tool: "hammer",
		StateDir: t.TempDir(), Count: 1, Interval: time.Second, Timeout: time.Second, Mail: config.Mail{To: []string{"root@standby"}},
	}, false)
	want := Finding{Grade: Fail, Text: `tool "hammer": must be auto, ip or ifconfig`, Fix: "install it, or set tool to the one that is there"}
	if found[0] != want {
		t.Errorf("found first %+v, want %+v", found[0], want)
	}
	if last := found[len(found)-1]; !strings.HasPrefix(last.Text, "mail ") {
		t.Errorf("found last %+v", last)
	}
}
