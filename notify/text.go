package notify

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lengths in characters.
const (
	maxLine    = 75 // of a line of prose: quoted-printable breaks longer ones (RFC 2045), and mail(1) shows them so
	maxSubject = 200
	maxError   = 400 // of a mail server's reply
)

// page is the body of a message as it is being written. It never contains
// control characters.
type page struct{ b strings.Builder }

func (p *page) String() string { return strings.TrimRight(p.b.String(), "\n") + "\n" }

// paragraph writes prose and an empty line.
func (p *page) paragraph(text string) {
	p.wrap(text, "", "")
	p.gap()
}

// heading writes the line over a list of items.
func (p *page) heading(text string) {
	p.gap()
	p.wrap(text, "", "")
}

// item writes prose under a heading.
func (p *page) item(text string) { p.wrap(text, "  ", "    ") }

// verbatim writes one line unchanged: it may be pasted into a shell.
func (p *page) verbatim(indent, line string) {
	p.b.WriteString(strings.TrimRight(indent+printable(line), " ") + "\n")
}

// gap makes the next line follow an empty one.
func (p *page) gap() {
	if s := p.b.String(); s != "" && !strings.HasSuffix(s, "\n\n") {
		p.b.WriteByte('\n')
	}
}

// wrap writes text in lines of at most maxLine characters, where its words
// allow that. The first line is indented by first, the others by next.
func (p *page) wrap(text, first, next string) {
	line := first
	empty := true
	for _, word := range strings.Fields(printable(text)) {
		switch {
		case empty:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= maxLine:
			line += " " + word
		default:
			p.b.WriteString(line + "\n")
			line = next + word
		}
		empty = false
	}
	p.b.WriteString(line + "\n")
}

// printable is s with a blank instead of each character that is not visible,
// such as line ends and terminal controls.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "?"))
}

// oneLine is s as one line of at most most characters.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(printable(s)), " ")
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-3]) + "..."
}

// plainWord says whether r has no special meaning in shells and mail headers.
func plainWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
}

// list names up to four addresses, else the first three and the number of the
// others.
func list(prefixes []netip.Prefix) string {
	var names []string
	for _, p := range prefixes {
		names = append(names, p.Addr().String())
	}
	if len(names) > 4 {
		names = append(names[:3], strconv.Itoa(len(prefixes)-3)+" more")
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// pick is the singular or the plural.
func pick(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
