package pool

import (
	"fmt"
	"net/netip"
	"strings"
)

// listed is how many addresses a sentence names.
const listed = 8

// list names addresses: "A, B", and of very many the first.
func list(addrs []netip.Addr) string {
	words := make([]string, 0, listed+1)
	for i, a := range addrs {
		if i == listed {
			return fmt.Sprintf("%s and %d more", strings.Join(words, ", "), len(addrs)-listed)
		}
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// verb is the verb for so many addresses.
func verb(addrs []netip.Addr, one, several string) string {
	if len(addrs) == 1 {
		return one
	}
	return several
}

// being is a list with its verb: "A is", "A, B are".
func being(addrs []netip.Addr) string { return list(addrs) + " " + verb(addrs, "is", "are") }

// moves says what an update does: "A leaves NAME, B returns to it".
func moves(name string, leave, back []netip.Addr) string {
	in := "to " + name
	var each []string
	if len(leave) > 0 {
		each = append(each, fmt.Sprintf("%s %s %s", list(leave), verb(leave, "leaves", "leave"), name))
		in = "to it"
	}
	if len(back) > 0 {
		each = append(each, fmt.Sprintf("%s %s %s", list(back), verb(back, "returns", "return"), in))
	}
	return strings.Join(each, ", ")
}

// shown is a name as people write it: without the final dot.
func shown(name string) string {
	if len(name) > 1 {
		return strings.TrimSuffix(name, ".")
	}
	return name
}
