package vip

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// labelMax is the longest label that the kernel keeps: IFNAMSIZ includes a zero byte.
const labelMax = unix.IFNAMSIZ - 1

// FreeLabel is the first unused alias label of the interface that is not in taken: "eth0:1", "eth0:2"
// and so on. False: 15 characters are not enough for one.
func FreeLabel(k *Snapshot, link string, taken ...string) (string, bool) {
	used := make(map[string]bool) // the thousandth may be the first unused
	for _, label := range taken {
		used[label] = true
	}
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			used[has.Label] = true
		}
	}
	for n := 1; ; n++ {
		label := link + ":" + strconv.Itoa(n)
		if len(label) > labelMax {
			return "", false
		}
		if !used[label] {
			return label, true
		}
	}
}

// withLabel are the addresses with a label.
func (k *Snapshot) withLabel(label string) []netip.Prefix {
	var under []netip.Prefix
	for _, l := range k.Links {
		for _, has := range l.Addresses {
			if has.Label == label {
				under = append(under, has.Prefix)
			}
		}
	}
	return under
}
