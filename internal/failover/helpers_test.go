package failover

import (
	"net/netip"
	"os"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// byValue and addresses compare by value.
var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func writeFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

// emptyAddr is nobody: who asks from it probes.
var emptyAddr netip.Addr

// oneLine is a text without its line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
